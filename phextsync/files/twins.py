"""Twins: scrolls that two machines began apart, from files that differ. Both texts stand there, one
behind the other: each line that both had stands twice.

What is done about it is done once, when a beginning arrives that was not known. One of two lines is
as a beginning brought it, and the other such a line too, or in the text that was known before: what
anybody wrote later may be the same as another line. Every machine does the same, and none does it
again where another has.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from phextsync.crdt import Scroll
from phextsync.edits import Edit, content_of, lines_of
from phextsync.index import Coordinate, clock_of

_CLIENT: Final = 1  # nothing is written under it


class _Line(NamedTuple):
    """A line: its range of characters, what stands in it, and who wrote how much of that."""

    start: int
    stop: int
    text: str
    units: Mapping[int, int]

    @property
    def content(self) -> str:
        """What is compared."""
        return content_of(self.text)

    def is_of(self, roots: Collection[int]) -> bool:
        """Whether it is as one of these beginnings brought it."""
        return len(self.units) == 1 and all(client in roots for client in self.units)


class Twins:
    """The lines of a scroll with beginnings that were `known`, whose text was `mine`, and others
    that are `new`."""

    def __init__(
        self,
        coordinate: Coordinate,
        state: bytes,
        known: Collection[int],
        new: Collection[int],
        mine: str,
    ) -> None:
        scroll = Scroll(coordinate, _CLIENT, [state])
        self._version = scroll.version()
        self._known, self._new, self._mine = known, new, mine
        self._text = scroll.text
        self._lines: list[_Line] = []
        at = 0
        for line, (text, runs) in zip(lines_of(self._text), scroll.lines(), strict=True):
            units: Counter[int] = Counter()
            for client, _, count in runs:
                units[client] += count
            self._lines.append(_Line(at, at + len(line), text, dict(units)))
            at += len(line)

    def glued(self) -> list[Edit]:
        """Return the edits that part two lines of which the first had no end, where one beginning
        stands behind another."""
        mine = [line.rstrip("\r\n") for line in lines_of(self._mine)]
        end = "\r\n" if "\r\n" in self._text else "\n"
        for line in self._lines:
            new = sum(units for client, units in line.units.items() if client in self._new)
            rest = sum(line.units.values()) - new
            for part, is_first in (
                ((mine[-1], True), (mine[0], False)) if mine and new and rest else ()
            ):
                is_there = line.text.startswith(part) if is_first else line.text.endswith(part)
                if is_there and _units(part) == rest:
                    at = line.start + (len(part) if is_first else len(line.text) - len(part))
                    return [(at, at, end)]
        return []

    def doubled(self) -> list[Edit]:
        """Return the edits that delete the later one of each pair of lines."""
        known = [line for line in self._lines if line.is_of(self._known)]
        added = self._added()
        doubled: list[_Line] = []
        for root in dict.fromkeys(c for line in self._lines for c in line.units if c in self._new):
            piece = [line for line in self._lines if line.is_of([root])]
            if not piece:
                continue
            before = [line for line in known if line < piece[0]]
            behind = [line for line in known if line > piece[0]]
            twice = _repeated(before, piece)
            later = [] if self._is_done(twice, self._lacking(root, piece)) else twice
            rest = [line for line in piece if line not in twice]
            again = _repeated(rest, behind)
            later += [] if self._is_done(again, self._gone()) else again
            # Lines that a beginning brought were written apart from those that were put in here.
            left = Counter(line.content for line in again)
            rest = [line for line in rest if not _takes(left, line.content)]
            spare = self._spare([*doubled, *later], piece)
            before = [line for line in added if line < piece[0]]
            more = [line for line in _repeated(before, rest) if _takes(spare, line.content)]
            later += [] if self._is_done([*twice, *more], self._lacking(root, piece)) else more
            rest = [line for line in rest if line not in more]
            behind = [line for line in added if line > piece[0]]
            more = [line for line in _repeated(rest, behind) if _takes(spare, line.content)]
            later += [] if self._is_done([*again, *more], self._gone()) else more
            added = [line for line in added if line not in later]
            doubled += later
            known = sorted(line for line in (*known, *piece) if line not in later)
        return [(line.start, line.stop, "") for line in sorted(doubled)]

    def _added(self) -> list[_Line]:
        """Return the lines that were put in after the beginnings that were known, as often as the
        text that was known had them."""
        left = Counter(content_of(line) for line in lines_of(self._mine))
        roots = {*self._known, *self._new}
        left.subtract(line.content for line in self._lines if line.is_of(self._known))
        rest = [line for line in self._lines if not roots.intersection(line.units)]
        return [line for line in rest if _takes(left, line.content)]

    def _spare(self, doubled: Collection[_Line], piece: Iterable[_Line]) -> "Counter[str]":
        """Return how often lines stand there beyond what the text that was known or the new
        beginning has of them."""
        had = Counter(content_of(line) for line in lines_of(self._mine))
        had |= Counter(line.content for line in piece)
        return Counter(line.content for line in self._lines if line not in doubled) - had

    def _is_done(self, doubled: Sequence[_Line], deleted: int) -> bool:
        """Whether another may have done it: so many characters are deleted. What is left then only
        looks as if it stood twice."""
        return 0 < sum(len(line.text) for line in doubled) <= deleted

    def _lacking(self, root: int, piece: Iterable[_Line]) -> int:
        """Return how much of what a new beginning brought is not there any more."""
        there = sum(_units(self._text[line.start : line.stop]) for line in piece)
        return clock_of(self._version, root) - there

    def _gone(self) -> int:
        """Return how much of the text that was known is not there any more."""
        gone = _counted(lines_of(self._mine)) - _counted(line.text for line in self._lines)
        return sum(len(text) * count for text, count in gone.items())


def _counted(lines: Iterable[str]) -> "Counter[str]":
    return Counter(line.rstrip("\r\n") for line in lines)


def _units(text: str) -> int:
    """Return the size of a text as clocks count it, in units of UTF-16."""
    return len(text.encode("utf-16-le")) // 2


def _repeated(first: Iterable[_Line], later: Iterable[_Line]) -> list[_Line]:
    """Return the lines of `later` that stand in `first` too, each as often as there."""
    left = Counter(line.content for line in first)
    return [line for line in later if _takes(left, line.content)]


def _takes(left: "Counter[str]", content: str) -> bool:
    """Take one of what is left; say whether there was one."""
    if left[content] > 0:
        left[content] -= 1
        return True
    return False
