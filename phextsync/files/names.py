"""Names: which scroll of a range is which file of a bound directory. A scroll says it, as text.

The range is a prefix with at least four free parts. Counted in the last four, its first scroll,
1.1.1.1, is the map: a line `COORDINATE NAME` for each name that ever was, sorted by name, with a
tab and marks behind the name where it has any. A daily log `YYYY-MM-DD.md` lies at
3.YEAR.MONTH.DAY, years counted from 2000; every other name at 2.CHAPTER.SECTION.SCROLL from its
digest, or from the next digest when that place is taken. So two machines that meet a name apart
give it one place, and their lines are one line.

A mark has a number where it was changed more than once, and is set if that is odd. Of several lines
of one scroll the highest number of each mark counts, and of several names that of the line whose
marks were changed least, since another machine may have changed these alone; of those the least.

Others write the map: a line that names no scroll of the range, or no possible file, is passed
over and reported.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from phextsync.alignment import common_ends
from phextsync.edits import Edit
from phextsync.errors import CoordinateError, PhextsyncError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.prefixes import numbers_of

NAME_BYTES_MAX: Final = 3072
"""Bytes of a name with all its folders, in UTF-8; a path has 4,096 on most systems."""
PART_BYTES_MAX: Final = 255
"""Bytes of a file's or a folder's own name: what file systems allow."""

SECRETS: Final = ("identity.pem", "authority.pem", "data.mdb")
"""Where one of these lies, the keys or the data of a node do: all beside it is left alone."""

EXECUTABLE: Final = "x"
PRIVATE: Final = "p"

_DAILY_LOG: Final = re.compile(r"20(\d\d)-(\d\d)-(\d\d)\.md")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ROWS: Final = re.compile(r"[^\n]*\n|[^\n]+")
_COUNTS: Final = re.compile(r"([px])(\d{0,6})", re.ASCII)
_COUNT_MAX: Final = 999_999
_SHOWN: Final = 60
_FREE_MIN: Final = 4


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a map: a scroll, the name of its file, and the marks `x` (executable by its owner)
    and `p` (private to its owner)."""

    coordinate: Coordinate
    name: str
    marks: str = ""

    def __str__(self) -> str:
        """Return the line of a new file."""
        return str(_Row(self.coordinate, self.name).changed(self))


class _Row(NamedTuple):
    """A line as it stands in the map, with how often each mark was changed."""

    coordinate: Coordinate
    name: str
    private: int = 0
    executable: int = 0

    def __str__(self) -> str:
        counts = ((PRIVATE, self.private), (EXECUTABLE, self.executable))
        ends = [f"{mark}{count if count > 1 else ''}" for mark, count in counts if count]
        end = "\t" + "".join(ends) if ends else ""
        return f"{self.coordinate} {_escaped(self.name)}{end}\n"

    @property
    def line(self) -> Line:
        private, executable = PRIVATE * (self.private % 2), EXECUTABLE * (self.executable % 2)
        return Line(self.coordinate, self.name, private + executable)

    def changed(self, line: Line) -> "_Row":
        """Return what stands in the map once it is to say `line`."""
        private = self.private + ((PRIVATE in line.marks) != self.private % 2)
        executable = self.executable + ((EXECUTABLE in line.marks) != self.executable % 2)
        counts = (min(count, _COUNT_MAX) for count in (private, executable))
        return _Row(self.coordinate, line.name, *counts)


class NameMap:
    """The names of one directory, read from the text of their scroll. One name may stand at
    several coordinates."""

    def __init__(self, range_: CoordinateRange, text: str = "") -> None:
        """CoordinateError when the range is not a prefix with four free parts."""
        self._prefix = prefix_of(range_)
        self.range = range_
        self.map_coordinate = Coordinate(*[*self._prefix, *[1] * (9 - len(self._prefix))])
        self.text = ""
        self.rejected: dict[str, str] = {}  # lines that do not count, and why
        self._rows: dict[Coordinate, list[_Row]] = {}
        self._by_name: dict[str, dict[Coordinate, None]] = {}
        self._spare = 0  # how many lines there are besides the first of each scroll
        self.read(text)

    def read(self, text: str) -> set[Coordinate]:
        """Take `text` as the map from now on; return the coordinates whose line changed. Costs in
        proportion to the lines that changed."""
        before, self.text = self.text, text
        start, stop = common_ends(before, text)
        start = text.rfind("\n", 0, start) + 1
        if stop:  # whole lines only
            end = text.find("\n", len(text) - stop)
            stop = 0 if end < 0 else len(text) - end - 1
        changed: set[Coordinate] = set()
        for line in _split(before[start : len(before) - stop]):
            self._drop(line, changed)
        for line in _split(text[start : len(text) - stop]):
            self._take(line, changed)
        return changed

    def line_at(self, coordinate: Coordinate) -> Line | None:
        """Return what the map says of a scroll."""
        return None if coordinate not in self._rows else self._row_at(coordinate).line

    def _row_at(self, coordinate: Coordinate) -> _Row:
        rows = self._rows[coordinate]
        if len(rows) == 1:
            return rows[0]
        private = max(row.private for row in rows)
        executable = max(row.executable for row in rows)
        first = min(rows, key=lambda row: (row.private + row.executable, row.name))
        return first._replace(private=private, executable=executable)

    def places_of(self, name: str) -> list[Coordinate]:
        """Return the coordinates that have a name, in order."""
        return sorted(
            c
            for c in self._by_name.get(name, ())
            if (line := self.line_at(c)) and line.name == name
        )

    def lines(self) -> Iterator[Line]:
        """Iterate over the line of each scroll, in no special order."""
        for coordinate in self._rows:
            yield self._row_at(coordinate).line

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, coordinate: object) -> bool:
        return coordinate in self._rows

    def free_place(self, name: str, is_free: Callable[[Coordinate], bool]) -> Coordinate:
        """Return the coordinate for a name that has none."""
        places = (c for c in self._candidates(name) if c not in self._rows)
        return next(c for c in places if is_free(c))

    def tidy(self) -> list[Edit]:
        """Return the edits that leave each scroll one line, which says what all of them say."""
        edits: list[Edit] = []
        seen: set[Coordinate] = set()
        at = 0
        for text in _ROWS.findall(self.text):
            row = self._parsed(text.removesuffix("\n"))
            if isinstance(row, _Row):
                kept = self._row_at(row.coordinate)
                if row.coordinate in seen or row.name != kept.name:
                    edits.append((at, at + len(text), ""))
                elif row != kept:
                    edits.append((at, at + len(text), str(kept)))
                seen.update([row.coordinate] if row.name == kept.name else [])
            at += len(text)
        return _joined(edits)

    @property
    def is_tidy(self) -> bool:
        """Whether each scroll has one line."""
        return self._spare == 0

    def edits(self, gone: Iterable[Coordinate], new: Iterable[Line]) -> list[Edit]:
        """Return the edits of the map's text that delete all lines of the scrolls `gone` and put
        each line of `new` in its place in the order of names: whole lines, so that what others
        change meanwhile stays whole too."""
        rows = _ROWS.findall(self.text)
        offsets, keys, at = [0], [], 0
        highest = ""
        dropped = {str(c) for c in gone}
        edits: list[Edit] = []
        for row in rows:
            place, _, rest = row.partition(" ")
            # Others may have written it in any order: what is out of order counts as higher.
            highest = max(highest, rest)
            keys.append(highest)
            if place in dropped:
                edits.append((at, at + len(row), ""))
            at += len(row)
            offsets.append(at)
        unended = bool(rows) and not rows[-1].endswith("\n")
        inserted: dict[int, list[str]] = {}
        for line in new:
            rows_of = self._rows.get(line.coordinate)
            row = str(self._row_at(line.coordinate).changed(line) if rows_of else line)
            offset = offsets[bisect_left(keys, row.partition(" ")[2])]
            inserted.setdefault(offset, []).append(row)
        for offset, lines in inserted.items():
            text = "".join(sorted(lines, key=lambda row: row.partition(" ")[2]))
            edits.append((offset, offset, "\n" + text if unended and offset == at else text))
        return _joined(sorted(edits, key=lambda edit: edit[:2]))

    def _take(self, text: str, changed: set[Coordinate]) -> None:
        row = self._parsed(text)
        if isinstance(row, str):
            self.rejected[text] = row
            return
        self._spare += row.coordinate in self._rows
        self._rows.setdefault(row.coordinate, []).append(row)
        self._by_name.setdefault(row.name, {})[row.coordinate] = None
        changed.add(row.coordinate)

    def _drop(self, text: str, changed: set[Coordinate]) -> None:
        row = self._parsed(text)
        if isinstance(row, str):
            self.rejected.pop(text, None)
            return
        rows = self._rows[row.coordinate]
        rows.remove(row)
        self._spare -= bool(rows)
        if not rows:
            del self._rows[row.coordinate]
        if all(other.name != row.name for other in rows):
            places = self._by_name[row.name]
            del places[row.coordinate]
            if not places:
                del self._by_name[row.name]
        changed.add(row.coordinate)

    def _parsed(self, text: str) -> _Row | str:
        """Return a line, or why it does not count."""
        place, _, rest = text.removesuffix("\r").partition(" ")
        name, _, end = rest.partition("\t")
        try:
            coordinate = Coordinate.parse(place)
            name = _unescaped(name)
            check_name(name)
        except PhextsyncError as error:
            return str(error)
        if coordinate == self.map_coordinate:
            return "expected the coordinate of a file, found that of the map itself"
        if coordinate not in self.range:
            return f"expected a coordinate in {self.range}, found {coordinate}"
        counts = {mark: int(count or 1) for mark, count in _COUNTS.findall(end)}
        return _Row(coordinate, name, counts.get(PRIVATE, 0), counts.get(EXECUTABLE, 0))

    def _candidates(self, name: str) -> Iterator[Coordinate]:
        free = 9 - len(self._prefix)
        lead = self._prefix + (1,) * (free - _FREE_MIN)
        daily = _DAILY_LOG.fullmatch(name)
        if daily is not None and all(int(part) for part in daily.groups()):
            yield Coordinate(*[*lead, 3, *map(int, daily.groups())])
        for attempt in range(1 << 16):
            digest = blake2b(f"{attempt} {name}".encode(), digest_size=6).digest()
            yield Coordinate(*[*lead, 2, *numbers_of(digest)])


def prefix_of(range_: CoordinateRange) -> tuple[int, ...]:
    """Return the parts that all coordinates of a prefix share. CoordinateError when the range is
    not a prefix, or fewer than four parts of it are free."""
    for count in range(10 - _FREE_MIN):
        fixed = (*range_.lower.parts[:count],)
        pattern = ".".join([*map(str, fixed), "*"])
        if CoordinateRange.parse(pattern) == range_:
            return fixed
    raise _no_prefix(str(range_))


def range_of(text: str) -> CoordinateRange:
    """Return the range of a prefix with four free parts; CoordinateError for another text."""
    try:
        range_ = CoordinateRange.parse(text)
    except CoordinateError as error:
        raise _no_prefix(repr(text[:_SHOWN])) from error
    prefix_of(range_)
    return range_


def _no_prefix(found: str) -> CoordinateError:
    return CoordinateError(
        f"expected a prefix with four free parts, such as 7.* or 7.1.1/2.*, found {found}"
    )


def check_name(name: str) -> None:
    """PhextsyncError when a name, folders and `/` included, could not be that of a file below a
    directory on any system, or not be a line of a map."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise PhextsyncError(f"expected a name in UTF-8, found {name!r:.80}") from None
    found = _CONTROL.search(name)
    if found is not None:
        raise PhextsyncError(
            f"expected a name without control characters and line ends, found {name!r:.80}"
        )
    if size > NAME_BYTES_MAX:
        raise PhextsyncError(f"expected a name of at most {NAME_BYTES_MAX} bytes, found {size}")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise PhextsyncError(f"expected the name of a file below the directory, found {name!r:.80}")
    secret = next((part for part in parts if part.casefold() in SECRETS), None)
    if secret is not None:
        raise PhextsyncError(
            f"expected a name that the keys or the data of a node do not have, found {secret}"
        )
    longest = max(len(part.encode()) for part in parts)
    if longest > PART_BYTES_MAX:
        raise PhextsyncError(
            f"expected at most {PART_BYTES_MAX} bytes between two /, found {longest}"
        )


def _escaped(name: str) -> str:
    """Return a name as the map has it: what an editor would take away at the end is escaped."""
    name = name.replace("\\", "\\\\")
    return f"{name[:-1]}\\s" if name.endswith(" ") else name


def _unescaped(name: str) -> str:
    return re.sub(r"\\([\\s])", lambda found: "\\" if found[1] == "\\" else " ", name)


def _split(text: str) -> list[str]:
    """Return the lines of a text that hold something; only a line feed ends a line."""
    return [row for row in text.split("\n") if row]


def _joined(edits: list[Edit]) -> list[Edit]:
    """Join edits that touch, so that they ascend without touching."""
    joined: list[Edit] = []
    for start, stop, text in edits:
        if joined and joined[-1][1] == start:
            first, _, before = joined.pop()
            joined.append((first, stop, before + text))
        else:
            joined.append((start, stop, text))
    return joined


def marks_of(line: Line | None) -> str:
    """Return the marks of a line, none where there is no line."""
    return "" if line is None else line.marks
