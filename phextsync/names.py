"""Names: which scroll of a range is which file of a bound directory. A scroll says it, as text.

The range is a prefix with at least four free parts. Counted in the last four, its first scroll,
1.1.1.1, is the map: a line `COORDINATE NAME` for each name that ever was. A daily log
`YYYY-MM-DD.md` lies at 3.YEAR.MONTH.DAY, years counted from 2000; every other name at
2.CHAPTER.SECTION.SCROLL from its digest, the next digest when that place is taken. So two
machines that meet a name apart give it one place, and their lines are one line.
"""

import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Final

from phextsync.errors import CoordinateError, PhextsyncError
from phextsync.index import Coordinate, CoordinateRange

NAME_BYTES_MAX: Final = 1024

_DAILY_LOG: Final = re.compile(r"20(\d\d)-(\d\d)-(\d\d)\.md")
_LINE: Final = re.compile(r"(\S+) (.+)")
_FREE_MIN: Final = 4


class NameMap:
    """The names of one directory, read from the text of their scroll.

    Of two places of one name the lower counts; the other is its *alias*, whose text belongs to
    the name as well. Of two names of one place the lesser counts.
    """

    def __init__(self, prefix: tuple[int, ...], text: str) -> None:
        self._prefix = prefix
        self.map_place = Coordinate(*[*prefix, *[1] * (9 - len(prefix))])
        self._places: dict[str, Coordinate] = {}
        self._names: dict[Coordinate, str] = {}
        self.aliases: dict[Coordinate, str] = {}
        for place, name in sorted(_lines(text)):
            if place in self._names:
                continue
            if name in self._places:
                self.aliases[place] = name
            else:
                self._places[name] = place
            self._names[place] = name

    @classmethod
    def of(cls, range_: CoordinateRange, text: str) -> "NameMap":
        """Read the map of a directory bound to `range_`. CoordinateError when it is no prefix
        with four free parts."""
        return cls(prefix_of(range_), text)

    @property
    def places(self) -> Mapping[str, Coordinate]:
        """The place of each name."""
        return self._places

    def name_at(self, place: Coordinate) -> str | None:
        """Return the name whose text is at a place, an alias included."""
        return self._names.get(place)

    def text(self) -> str:
        """Return the map as a text, in the order of names."""
        rows = sorted((name, place) for place, name in self._names.items())
        return "".join(f"{place} {name}\n" for name, place in rows)

    def add(self, name: str) -> Coordinate:
        """Return the place of a name, which it gets if it has none."""
        place = self._places.get(name)
        if place is None:
            place = next(p for p in self._candidates(name) if p not in self._names)
            self._places[name] = place
            self._names[place] = name
        return place

    def adopt(self, place: Coordinate, name: str) -> None:
        """Give a place that has no name a name that has no place."""
        self._places[name] = place
        self._names[place] = name

    def rename(self, old: str, new: str) -> None:
        """Give the place of `old` to `new`, which must have none, with its text and history."""
        place = self._places.pop(old)
        for alias in [p for p, name in self.aliases.items() if name == old]:
            self.aliases[alias] = self._names[alias] = new
        self._places[new] = place
        self._names[place] = new

    def _candidates(self, name: str) -> Iterator[Coordinate]:
        free = 9 - len(self._prefix)
        lead = self._prefix + (1,) * (free - _FREE_MIN)
        daily = _DAILY_LOG.fullmatch(name)
        if daily is not None and all(int(part) for part in daily.groups()):
            yield Coordinate(*[*lead, 3, *map(int, daily.groups())])
        for attempt in range(1 << 16):
            digest = blake2b(f"{attempt} {name}".encode(), digest_size=6).digest()
            parts = (1 + int.from_bytes(digest[i : i + 2], "big") % 999 for i in (0, 2, 4))
            yield Coordinate(*[*lead, 2, *parts])


def prefix_of(range_: CoordinateRange) -> tuple[int, ...]:
    """Return the parts that all coordinates of a prefix share. CoordinateError when the range is
    no prefix, or fewer than four parts of it are free."""
    for count in range(10 - _FREE_MIN):
        fixed = (*range_.lower.parts[:count],)
        pattern = ".".join([*map(str, fixed), "*"])
        if CoordinateRange.parse(pattern) == range_:
            return fixed
    raise CoordinateError(
        f"expected a prefix with four free parts, such as 7.* or 7.1.1/2.*, found {range_}"
    )


def check_name(name: str) -> None:
    """PhextsyncError when a file's name cannot be a line of a map."""
    if not name.isprintable() or name != name.strip():
        raise PhextsyncError(f"expected a name that is printable, found {name!r:.80}")
    if len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
        raise PhextsyncError(f"expected a name of at most {NAME_BYTES_MAX} bytes, found more")


def _lines(text: str) -> Iterator[tuple[Coordinate, str]]:
    """Give places and names; a line that is none, or a name that is a way out, is passed over."""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or _leads_out(found[2]):
            continue
        try:
            yield Coordinate.parse(found[1]), found[2]
        except CoordinateError:
            continue


def _leads_out(name: str) -> bool:
    """Whether a name that a peer wrote would not be a file below the directory."""
    return any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name
