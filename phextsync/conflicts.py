"""Conflicts: where two changes of one text met in one line; pure functions with bounded work.

A merge keeps what both sides wrote. Where both changed the same line, or one deleted a line that
the other changed, somebody should look at what it made. Lines that both inserted in one place are
no conflict, for both stay, and neither is a change of line ends alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from phextsync.alignment import Block
from phextsync.edits import likeness, line_changes, lines_of, minimal_edits, without_end
from phextsync.merges import merged_text

# How like what the merge made of a conflict the text must still be.
_LIKE: Final = 0.5
# Looking for it compares at most this many lines.
_LINES_COMPARED_MAX: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Conflict:
    """Lines of which both sides made something else; a text is empty where they were deleted."""

    line: int
    """The number of the first of them in the base, from 1."""
    base: str
    mine: str
    theirs: str


def conflicts(base: str, mine: str, theirs: str) -> list[Conflict]:
    """Return where the changes that made `mine` and `theirs` of `base` met, in order.

    The same change on both sides is no conflict. With the sides exchanged the result is the same
    but for their names.
    """
    if mine in (base, theirs) or theirs == base:
        return []
    texts = [lines_of(text) for text in (base, mine, theirs)]
    plain = [[without_end(line) for line in lines] for lines in texts]
    sides = [line_changes(plain[0], side) for side in plain[1:]]
    found = []
    for start, stop in _overlaps(*sides):
        pieces = [texts[0][start:stop]]
        for lines, changes in zip(texts[1:], sides, strict=True):
            first, last = _of_side(changes, start, stop)
            pieces.append(lines[first:last])
        contents = [[without_end(line) for line in piece] for piece in pieces]
        if contents[1] != contents[2]:
            found.append(Conflict(start + 1, *map("".join, pieces)))
    return found


def theirs_of(base: str, mine: str, merged: str) -> str:
    """Return the other side's text: `base` with the changes that made `merged` of `mine`."""
    return merged_text(mine, base, merged)


def is_answer(base: str, mine: str, merged: str) -> bool:
    """Whether who made `merged` of `mine` had seen it: something is gone that `mine` has and `base`
    had not. What nobody else has seen stays in a merge."""
    put_in: list[range] = []
    gained = 0
    for start, stop, words in minimal_edits(base, mine):
        put_in.append(range(start + gained, start + gained + len(words)))
        gained += len(words) - (stop - start)
    for start, stop, words in minimal_edits(mine, merged):
        left = iter(words)
        for piece in put_in:
            gone = mine[max(start, piece.start) : min(stop, piece.stop)]
            if not all(character in left for character in "".join(gone.split())):
                return True
    return False


def settled(text: str, conflict: Conflict, chosen: str) -> str | None:
    """Return `text` with `chosen` instead of what the merge left of a conflict. None when that can
    no longer be found. Of several such places it is the one nearest to the conflict's line."""
    lines, near = lines_of(text), conflict.line - 1
    found = _equal_place(lines, conflict, near) or _alike_place(lines, conflict, near)
    if found is None:
        return None
    start, stop = found
    if chosen and stop < len(lines) and not chosen.endswith("\n"):
        chosen += "\n"
    return "".join((*lines[:start], chosen, *lines[stop:]))


def _overlaps(mine: Sequence[Block], theirs: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """Give the ranges of the base's lines that are made of overlapping changes of both sides."""
    changes = sorted(
        (a, b, side)
        for side, of_side in enumerate((mine, theirs))
        for a, b, _, _ in of_side
        if a < b
    )
    start = stop = 0
    sides: set[int] = set()
    for a, b, side in [*changes, (1 << 62, 1 << 62, 0)]:
        if a >= stop:
            if len(sides) == 2:
                yield start, stop
            start, stop, sides = a, b, set()
        stop = max(stop, b)
        sides.add(side)


def _of_side(changes: Sequence[Block], start: int, stop: int) -> tuple[int, int]:
    """Return the range of a side's lines for lines of the base, of which no change is a part only.
    What was inserted beside them is not in it."""
    inside = [change for change in changes if start <= change[0] and change[1] <= stop]
    inside = [change for change in inside if change[0] < change[1] or start < change[0] < stop]
    (a, _, c, _), (_, b, _, d) = inside[0], inside[-1]
    return c - (a - start), d + (stop - b)


def _leftovers(conflict: Conflict) -> list[list[str]]:
    """Return what a merge may have made of a conflict, the likeliest first."""
    base, mine, theirs = conflict.base, conflict.mine, conflict.theirs
    texts = (
        merged_text(base, mine, theirs),
        merged_text(base, theirs, mine),
        mine + theirs,
        theirs + mine,
        mine,
        theirs,
    )
    return [lines_of(text) for text in dict.fromkeys(texts) if text]


def _equal_place(lines: Sequence[str], conflict: Conflict, near: int) -> tuple[int, int] | None:
    """Return the lines, nearest to line `near`, that are just what a merge may have made."""
    text = _joined(lines)
    for left in _leftovers(conflict):
        piece = _joined(left)
        found = None
        line, at, place = 0, 0, text.find(piece)
        while place >= 0:
            line, at = line + text.count("\n", at, place), place
            if found is None or abs(line - near) < abs(found - near):
                found = line
            place = text.find(piece, place + 1)
        if found is not None:
            return found, found + len(left)
    return None


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(("", *map(without_end, lines), ""))


def _alike_place(lines: Sequence[str], conflict: Conflict, near: int) -> tuple[int, int] | None:
    """Return the lines, about line `near`, that are most like what a merge may have made."""
    found, best = None, _LIKE
    for left in _leftovers(conflict):
        count, piece = len(left), "".join(left)
        reach = _LINES_COMPARED_MAX // count // 2
        for line in range(max(0, near - reach), min(len(lines) - count, near + reach) + 1):
            alike = likeness("".join(lines[line : line + count]), piece)
            is_nearer = found is None or abs(line - near) < abs(found[0] - near)
            if alike > best or (alike == best and is_nearer):
                found, best = (line, line + count), alike
    return found
