"""Conflicts: where two changes of one text met in one line; pure functions with bounded work.

A merge keeps what both sides wrote. Where both changed the same line, or one deleted a line that
the other changed, somebody should look at what it made. Lines that both inserted in one place are
no conflict, for both stay, and neither is a change of line ends alone, nor of blanks that stood
twice: who merges leaves one of them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from phextsync.alignment import Block, Work, changed_blocks
from phextsync.edits import likeness, line_changes, lines_of, minimal_edits, without_end
from phextsync.merges import merged_text

_BLANKS: Final = re.compile("  +")
# How like what the merge made of a conflict the text must still be.
_LIKE: Final = 0.5
# Looking for it compares at most this many lines.
_LINES_COMPARED_MAX: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Left:
    """Lines that a merge made of a conflict: and of lines `before` and `behind` it that were no
    part of it, where what is left of it was glued to them. `above` and `below` are the lines
    beside, empty where there is none."""

    lines: str
    before: str
    behind: str
    above: str
    below: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Lines of which both sides made something else; a text is empty where they were deleted."""

    line: int
    """The number of the first of them in the base, from 1."""
    base: str
    mine: str
    theirs: str
    left: Left | None = None
    """What the merge made of it; None where that cannot be told."""


def conflicts(base: str, mine: str, theirs: str, merged: str | None = None) -> list[Conflict]:
    """Return where the changes that made `mine` and `theirs` of `base` met, in order, and what is
    `left` of each in `merged`.

    The same change on both sides is no conflict. With the sides exchanged the result is the same
    but for their names.
    """
    if mine in (base, theirs) or theirs == base:
        return []
    texts = [lines_of(text) for text in (base, mine, theirs)]
    plain = [[without_end(line) for line in lines] for lines in texts]
    sides = [line_changes(plain[0], side) for side in plain[1:]]
    found = []
    places = list(_overlaps(*sides))
    left = _left(places, texts, sides, [] if merged is None else lines_of(merged))
    for (start, stop), rest in zip(places, left, strict=True):
        pieces = [texts[0][start:stop]]
        for lines, changes in zip(texts[1:], sides, strict=True):
            first, last = _of_side(changes, start, stop)
            pieces.append(lines[first:last])
        contents = [[without_end(line) for line in piece] for piece in pieces]
        if contents[1] != contents[2] and _tidied(contents[0]) not in contents[1:]:
            was, ours, others = map("".join, pieces)
            found.append(Conflict(start + 1, was, ours, others, rest))
    return found


def _tidied(lines: Iterable[str]) -> list[str]:
    return [_BLANKS.sub(" ", line) for line in lines]


def may_meet(base: str, mine: str, merged: str) -> bool:
    """Whether what made `merged` of `mine` may have met lines of `base` that `mine` changed: it is
    beside them, or left no trace."""
    olds, ours, both = ([without_end(line) for line in lines_of(t)] for t in (base, mine, merged))
    here = [(c, d) for a, b, c, d in line_changes(olds, ours) if a < b]
    there = [(a, b) for a, b, _, _ in line_changes(ours, both)]
    if not there:
        return bool(here)
    return any(a <= d and c <= b for c, d in here for a, b in there)


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
    parts, left = [chosen], conflict.left
    found = _left_place(lines, conflict, near)
    if found is not None and left is not None:
        parts = [left.before, chosen, left.behind]
    found = found or _equal_place(lines, conflict, near) or _alike_place(lines, conflict, near)
    if found is None:
        return None
    start, stop = found
    pieces = ["".join(lines[:start]), *parts, "".join(lines[stop:])]
    *firsts, last = [piece for piece in pieces if piece] or [""]
    return "".join((*(piece if piece.endswith("\n") else f"{piece}\n" for piece in firsts), last))


def is_settled(text: str, conflict: Conflict) -> bool:
    """Whether one side's lines stand in `text` where the merge had left something else."""
    left = conflict.left
    lines = lines_of(text)
    if left is None or _left_place(lines, conflict, conflict.line - 1) is not None:
        return False
    sides = (f"{left.before}{side}{left.behind}" for side in (conflict.mine, conflict.theirs))
    return any(_places(lines, left, side)[0] for side in sides)


def replaced(text: str, conflict: Conflict) -> range | None:
    """Return the lines of `text` that stand where the merge had left something else of a conflict,
    between the same lines. None where what it left stands, or nothing, or that is not found."""
    left, lines, near = conflict.left, lines_of(text), conflict.line - 1
    if left is None or _left_place(lines, conflict, near) is not None:
        return None
    plain = [_squeezed(line) for line in lines]
    places = []
    for start in range(len(lines)) if left.above else range(1):
        if left.above and (not start or plain[start - 1] != _squeezed(left.above)):
            continue
        stop = len(lines)
        if left.below:
            below = (i for i in range(start, stop) if plain[i] == _squeezed(left.below))
            stop = next(below, start)
        places += [range(start, stop)] if start < stop else []
    return min(places, key=lambda place: abs(place.start - near), default=None)


def _overlaps(mine: Sequence[Block], theirs: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """Give the ranges of the base's lines that are made of overlapping changes of both sides. Of
    two that touch, it could not be told what the merge made of which: they are one."""
    changes = sorted(
        (a, b, side)
        for side, of_side in enumerate((mine, theirs))
        for a, b, _, _ in of_side
        if a < b
    )
    start = stop = 0
    sides: set[int] = set()
    found: tuple[int, int] | None = None
    for a, b, side in [*changes, (1 << 62, 1 << 62, 0)]:
        if a >= stop:
            if len(sides) == 2:
                if found is not None and found[1] < start:
                    yield found
                    found = None
                found = (start if found is None else found[0]), stop
            start, stop, sides = a, b, set()
        stop = max(stop, b)
        sides.add(side)
    if found is not None:
        yield found


def _of_side(changes: Sequence[Block], start: int, stop: int) -> tuple[int, int]:
    """Return the range of a side's lines for lines of the base, of which no change is a part only.
    What was inserted beside them is not in it."""
    inside = [change for change in changes if start <= change[0] and change[1] <= stop]
    inside = [change for change in inside if change[0] < change[1] or start < change[0] < stop]
    (a, _, c, _), (_, b, _, d) = inside[0], inside[-1]
    return c - (a - start), d + (stop - b)


def _left(
    places: Sequence[tuple[int, int]],
    texts: Sequence[Sequence[str]],
    sides: Sequence[Sequence[Block]],
    merged: Sequence[str],
) -> list[Left | None]:
    """Return what is left of each conflict in `merged`: what stands between lines of which it is
    known what became of them. None where that is not one conflict's alone."""
    known: list[str] = []  # what becomes of all other lines of the base
    at: list[int] = []  # where in that the conflicts are
    edges = [0, *(edge for place in places for edge in place), len(texts[0])]
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        known += _of_one_side(start, stop, texts, sides)
        at.append(len(known))
    work = Work(sum(map(len, known)) + sum(map(len, merged)))
    ours, both = ([without_end(line) for line in lines] for lines in (known, merged))
    blocks = changed_blocks(ours, both, work)
    left: list[Left | None] = []
    for place in at[:-1]:
        a, b, c, d = _around(blocks, place)
        if sum(a <= other <= b for other in at[:-1]) > 1:
            left.append(None)
            continue
        above, below = merged[c - 1 : c] if c else [], merged[d : d + 1]
        parts = merged[c:d], known[a:place], known[place:b], above, below
        left.append(Left(*map("".join, parts)))
    return left


def _around(blocks: Iterable[Block], place: int) -> Block:
    """Return the change in which a place between lines is, an empty one where nothing changed."""
    gained = 0
    for a, b, c, d in blocks:
        if a <= place <= b:
            return a, b, c, d
        if b < place:
            gained += (d - c) - (b - a)
    return place, place, place + gained, place + gained


def _of_one_side(
    start: int, stop: int, texts: Sequence[Sequence[str]], sides: Sequence[Sequence[Block]]
) -> list[str]:
    """Return what becomes of lines of the base that at most one side changed, and of what was put
    in at their edges."""
    changes = {
        (a, b, tuple(lines[c:d]))
        for lines, of_side in zip(texts[1:], sides, strict=True)
        for a, b, c, d in of_side
        if start <= a and b <= stop
    }
    known: list[str] = []
    at = start
    for a, b, words in sorted(changes):
        known += [*texts[0][at:a], *words]
        at = max(at, b)
    return [*known, *texts[0][at:stop]]


def _left_place(lines: Sequence[str], conflict: Conflict, near: int) -> tuple[int, int] | None:
    """Return the lines, nearest to line `near`, that the merge made of a conflict, if they still
    stand between the same ones, or stand at all. Blanks do not count: they were put in order."""
    left = conflict.left
    if left is None:
        return None
    exact, places = _places(lines, left, left.lines)
    found = exact or (places if left.lines.strip() else [])
    return min(found, key=lambda place: abs(place[0] - near), default=None)


def _places(
    lines: Sequence[str], left: Left, text: str
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return where the lines of `text` stand between the lines that stood beside a conflict, and
    where they stand at all, but for blanks."""
    plain, words = [_squeezed(line) for line in lines], _squeezed(text)
    places = [(i, j) for i in range(len(lines) + 1) if (j := _end_of(plain, i, words)) is not None]
    beside = [
        (i, j)
        for i, j in places
        if "".join(plain[max(0, i - 1) : i]) == _squeezed(left.above)
        and "".join(plain[j : j + 1]) == _squeezed(left.below)
    ]
    return beside, places


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _end_of(plain: Sequence[str], start: int, words: str) -> int | None:
    """Return behind which line `words` end that begin with a line, None when they do not."""
    at, stop = 0, start
    while at < len(words) and stop < len(plain) and words.startswith(plain[stop], at):
        at += len(plain[stop])
        stop += 1
        if not at:
            return None  # a line without words is none of them
    return stop if at == len(words) else None


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
