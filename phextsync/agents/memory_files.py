"""Memory files: the scrolls of a range as files in folders, by the map of names that a bound
directory of that range has too, so that both show the same. No IO.

A file is a scroll that has text; a folder is there as long as files lie below it. A file keeps its
scroll when it is renamed, so that what others write into it meanwhile comes along.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote

from phextsync.edits import apply_edits
from phextsync.errors import PhextsyncError
from phextsync.files.ignoring import IGNORE_FILE, Ignoring
from phextsync.files.names import Line, NameMap, check_name, marks_of
from phextsync.files.naming import recovered
from phextsync.files.paths import Abilities, Layout
from phextsync.index import Coordinate, CoordinateRange

ROOT: Final = "/memories"

_BACK: Final = f"..{ROOT}"
_UP: Final = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)")
_DECODED_MAX: Final = 8  # times that a path is taken to have been encoded


def name_of(path: object) -> str:
    """Return the name of the file or folder at a path below `/memories`, nothing for that itself.
    PhextsyncError when the path leads out."""
    if not isinstance(path, str):
        raise PhextsyncError(f"expected a path as text, found {type(path).__name__}")
    if path != ROOT and not path.startswith(f"{ROOT}/"):
        raise PhextsyncError(f"Path must start with {ROOT}, got: {path:.200}")
    name = posixpath.normpath(path[len(ROOT) :].lstrip("/"))
    # Out of the root and back into it is no way out of it.
    name = "." if name == _BACK else name.removeprefix(f"{_BACK}/")
    name = "" if name == "." else name
    if _UP.search(_decoded(name)):
        raise _escape(path)
    return name


class MemoryFiles:
    """The files of one range as they are at one moment: made from the text of the map, and the
    coordinates in the range that have text. Costs in proportion to both."""

    def __init__(
        self, range_: CoordinateRange, map_text: str, present: Iterable[Coordinate]
    ) -> None:
        """CoordinateError when the range is not a prefix with four free parts."""
        self.names = NameMap(range_, map_text)
        self._present = [*present]
        self._layout = Layout(Abilities())
        named = {c: self._name_at(c) for c in self._present if c != self.names.map_coordinate}
        self._layout.update(named)
        self.paths: dict[str, Coordinate] = {}
        for coordinate in named:
            path = self._layout.path_of(coordinate)
            assert path is not None  # every one has a name
            self.paths[path] = coordinate

    def now(
        self, range_: CoordinateRange, map_text: str, present: Iterable[Coordinate]
    ) -> "MemoryFiles":
        """Return the files of another moment: these, where nothing of them is another."""
        places = [*present]
        names = self.names
        if (names.range, names.text, self._present) == (range_, map_text, places):
            return self
        return MemoryFiles(range_, map_text, places)

    @property
    def ignore_file(self) -> Coordinate | None:
        """The scroll that says which names are left alone."""
        return self.paths.get(IGNORE_FILE)

    def at(self, name: str) -> Coordinate | None:
        """Return the scroll of a file."""
        return self.paths.get(name)

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder; that of all files always is."""
        return not name or self._layout.has_folder(name)

    def below(self, name: str) -> dict[str, Coordinate]:
        """Return the files in a folder and in those below it, by what follows its name."""
        start = f"{name}/" if name else ""
        files = {path[len(start) :]: c for path, c in self.paths.items() if path.startswith(start)}
        return dict(sorted(files.items()))

    def check_new(self, name: str, ignoring: Ignoring, root: str = ROOT) -> None:
        """PhextsyncError when there can be no file of that name, or a bound directory would leave
        it alone. `root` is what its writer has before names."""
        check_name(name)
        above = name.rpartition("/")[0]
        while above:
            if above in self.paths:
                raise PhextsyncError(
                    f"expected a folder at {root}/{above}, found a file; take another name"
                )
            above = above.rpartition("/")[0]
        if ignoring.covers(name):
            raise PhextsyncError(
                f"{root}/{name} is left alone: hidden files, what programs leave behind, and what "
                f"{IGNORE_FILE} lists are not kept; take another name"
            )

    def place_for(self, name: str) -> Coordinate:
        """Return the scroll that a new file gets: one that had the name before, if there is one."""
        taken = {*self.paths.values()}
        had = (c for c in self.names.places_of(name) if c not in taken)
        return next(had, None) or self.names.free_place(name, lambda c: c not in taken)

    def map_with(self, names: Mapping[Coordinate, str]) -> str:
        """Return the text of the map when these scrolls have these names."""
        lines = {c: self.names.line_at(c) for c in names}
        news = [
            Line(c, name, marks_of(lines[c]))
            for c, name in names.items()
            if (line := lines[c]) is None or line.name != name
        ]
        if not news:
            return self.names.text
        return apply_edits(self.names.text, self.names.edits([n.coordinate for n in news], news))

    def _name_at(self, coordinate: Coordinate) -> str:
        line = self.names.line_at(coordinate)
        return recovered(coordinate) if line is None else line.name


def _decoded(name: str) -> str:
    """Return a name without percent signs that stand for other characters, however often."""
    for _ in range(_DECODED_MAX):
        name, before = unquote(name), name
        if name == before:
            break
    return name


def _escape(path: str) -> PhextsyncError:
    return PhextsyncError(f"Path {path:.200} would escape {ROOT} directory")
