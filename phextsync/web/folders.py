"""Folders: the files of a bound directory by their paths, folder for folder and page for page.

All names are asked for once. From then on what changes in the range is followed, and a page costs
what it shows.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import trio

from phextsync.control.performing import rest_of
from phextsync.control.status import DirectoryRow
from phextsync.index import Coordinate
from phextsync.web.shell import Shell

FILES_MAX: Final = 50_000
"""Files of one directory that are looked at."""

_STEP: Final = 1000  # files that are named before others have their turn
_BEHIND_SLASH: Final = chr(ord("/") + 1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a folder, or a folder in it with so many files."""

    name: str
    coordinate: Coordinate | None
    files: int

    @property
    def start(self) -> str:
        """What a page begins with that begins here."""
        return f"{self.name}/" if self.coordinate is None else self.name


class Folders:
    """The files of one directory. `is_whole` says whether all were looked at."""

    def __init__(self, shell: Shell, row: DirectoryRow) -> None:
        self.is_whole = True
        self._shell = shell
        self._row = row
        self._replica = shell.replica(row.phext)
        self._feed = self._replica.feed(row.range)
        self._updating = trio.Lock()
        self._is_known = False
        self._paths: dict[Coordinate, str] = {}
        self._sorted: list[str] = []
        self._at: dict[str, Coordinate] = {}

    def close(self) -> None:
        """Follow no changes any more."""
        self._feed.close()

    async def update(self) -> None:
        """Look at what has changed."""
        async with self._updating:
            changed: dict[Coordinate, None] = {}
            while (change := self._feed.take()) is not None:
                changed.update(dict.fromkeys(change.coordinates))
                self._is_known &= change.missed is None
            if not self._is_known or not self._follow(changed):
                await self._look_at_all()

    def page(self, under: str, start: str, count: int) -> list[Entry]:
        """Return up to so many entries of a folder, from `start` on, in the order of paths."""
        prefix = f"{under}/" if under else ""
        entries: list[Entry] = []
        at = bisect_left(self._sorted, prefix + start)
        while at < len(self._sorted) and len(entries) < count:
            path = self._sorted[at]
            if not path.startswith(prefix):
                break
            name, slash, _ = path[len(prefix) :].partition("/")
            if slash:
                end = bisect_left(self._sorted, prefix + name + _BEHIND_SLASH, at)
                entries.append(Entry(name, None, end - at))
                at = end
            else:
                entries.append(Entry(name, self._at[path], 0))
                at += 1
        return entries

    def _follow(self, changed: Iterable[Coordinate]) -> bool:
        """Whether all changes are of texts of files that stay what they are."""
        places = [*changed]
        return all(
            path is not None and path == self._paths.get(place) and self._replica.size(place)
            for place, path in zip(places, self._named(places), strict=True)
        )

    async def _look_at_all(self) -> None:
        paths: dict[Coordinate, str] = {}
        left, looked_at = rest_of(self._row.range, ""), 0
        while left and (some := [*islice(self._replica.coordinates(left), _STEP)]):
            looked_at += len(some)
            if looked_at > FILES_MAX:
                break
            named = zip(some, self._named(some), strict=True)
            paths.update((place, path) for place, path in named if path is not None)
            await trio.lowlevel.checkpoint()
            left = rest_of(self._row.range, str(some[-1]))
        self.is_whole = looked_at <= FILES_MAX
        self._paths = paths
        self._at = {path: place for place, path in paths.items()}
        self._sorted = sorted(self._at)
        self._is_known = True

    def _named(self, places: list[Coordinate]) -> list[str | None]:
        """Return the paths of scrolls below the directory, None for those that are no files."""
        asked = self._shell.ask("names", self._row.phext, [str(place) for place in places])
        start = f"{self._row.directory.rstrip('/')}/"
        assert isinstance(asked, list)
        return [
            path.removeprefix(start) if isinstance(path, str) and path.startswith(start) else None
            for path in asked
        ]
