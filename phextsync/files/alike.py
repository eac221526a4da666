"""Alike: what two made alike of one text, apart. Pure functions with bounded work.

A merge by words has little to go by where both sides replaced the same lines by others. When what
they put there is much the same, as when both let two files change places and one wrote a line more,
the merge is made as if the lines that they share had been there before.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from phextsync.alignment import Block, Work, changed_blocks
from phextsync.edits import Edit, content_of, line_changes, lines_of, without_end

_COMPARED_MAX: Final = 1 << 14  # old lines, times the pieces in which the sides differ
_PARTS: Final = re.compile(r"\s+|\S+")
_SHARED: Final = 0.8  # how much of what either side put there the other side put there too


def shared_base(base: str, scroll: str, text: str) -> str:
    """Return `base` with the lines that made `scroll` and `text` alike of a piece of it in the
    place of that piece. Where they made other things of it, it is as it was."""
    if scroll == text:
        return text
    whole = [lines_of(each) for each in (base, scroll, text)]
    olds, ours, theirs = ([without_end(line) for line in lines] for lines in whole)
    ends = {without_end(line): line for lines in reversed(whole) for line in lines}
    work = Work(len(base) + len(scroll) + len(text))
    changes = [changed_blocks(olds, lines, work) for lines in (ours, theirs)]
    pieces: list[str] = []
    at = 0
    for start, stop, mine, other in _met(*changes):
        runs = [*_runs(mine.of(ours), other.of(theirs), work)]
        if _are_alike(runs):
            pieces += whole[0][at:start]
            pieces += (ends[line] for line in _shared(olds[start:stop], runs))
            at = stop
    pieces += whole[0][at:]
    # The last line of a text may have no end, and not be the last here.
    pieces[:-1] = [line if line.endswith("\n") else f"{line}\n" for line in pieces[:-1]]
    return "".join(pieces)


def lines_twice(base: str, mine: str, merged: str) -> list[Edit]:
    """Return the edits of `merged` that delete lines which stand there twice, since others, who did
    not know `mine`, made of a piece of `base`, or of one that is empty, much the same. Of such
    lines the first stay, so that two that both delete them delete no more than one of them does.
    Where both made such a line of one that has words in common with it, those that are not stand
    twice in one line."""
    lines = lines_of(merged)
    olds, ours, whole = (
        [content_of(line) for line in lines_of(text)] for text in (base, mine, merged)
    )
    work = Work(len(base) + len(mine) + len(merged))
    pieces = {(a, b): ours[c:d] for a, b, c, d in changed_blocks(olds, ours, work)}
    offsets = [0, *accumulate(map(len, lines))]
    spare = Counter(whole) - Counter(ours)
    edits: list[Edit] = []
    for a, b, c, d in changed_blocks(olds, whole, work):
        here, there = Counter(pieces.get((a, b), ())), Counter(whole[c:d])
        if a == b and base:
            continue
        in_one = _in_one(here - there, whole[c:d], work)
        for line, _ in in_one.values():
            there[line] += 2
        if not here <= there:
            continue
        twice = here & (there - here)
        least = min(_size(here), _size(there - here))
        if not _size(twice) >= _SHARED * least > 0:
            continue
        for place in reversed(range(c, d)):
            if place - c in in_one:
                start = offsets[place] + lines[place].index(whole[place])
                cuts = in_one[place - c][1]
                edits += [(start + i, start + k, "") for i, k in reversed(cuts)]
            elif twice[whole[place]] > 0 and spare[whole[place]] > 0:
                twice[whole[place]] -= 1
                spare[whole[place]] -= 1
                edits.append((offsets[place], offsets[place + 1], ""))
    return sorted(edits)


def _in_one(
    wanted: "Counter[str]", lines: Sequence[str], work: Work
) -> dict[int, tuple[str, list[tuple[int, int]]]]:
    """Return which of these lines are one that is wanted with words that stand twice, by place,
    and the ranges in which they stand for the second time."""
    found: dict[int, tuple[str, list[tuple[int, int]]]] = {}
    left = list(wanted.elements())
    for place, line in enumerate(lines):
        for other in left if len(left) * len(lines) <= _COMPARED_MAX else ():
            if len(other) < len(line) <= 2 * len(other) and (cuts := _repeats(other, line, work)):
                found[place] = other, cuts
                left.remove(other)
                break
    return found


def _repeats(line: str, longer: str, work: Work) -> list[tuple[int, int]]:
    """Return the ranges by which one line is longer than another, if each stands there beside its
    like, whatever blanks part them; none otherwise."""
    words, parts = (_PARTS.findall(text) for text in (line, longer))
    offsets = [0, *accumulate(map(len, parts))]
    words, others = ([part.strip() for part in of] for of in (words, parts))
    cuts: list[tuple[int, int]] = []
    for a, b, c, d in changed_blocks(words, others, work):
        beside = others[max(0, c - (d - c)) : c], others[d : d + d - c]
        if a < b or others[c:d] not in beside:
            return []
        cuts.append((offsets[c], offsets[d]))
    return cuts


def _size(lines: "Counter[str]") -> int:
    return sum(len(line) * count for line, count in lines.items())


class _Line(NamedTuple):
    text: str
    is_new: bool  # the base does not have it


class _Piece(NamedTuple):
    """Which lines of one side stand for a piece of the base, and which of them are new."""

    start: int
    stop: int
    new: frozenset[int]

    def of(self, lines: Sequence[str]) -> list[_Line]:
        return [_Line(lines[i], i in self.new) for i in range(self.start, self.stop)]


class _Run(NamedTuple):
    """Lines that two sides share in one order, and what each has after them."""

    shared: Sequence[tuple[_Line, _Line]]
    ours: Sequence[_Line]
    theirs: Sequence[_Line]

    def of(self, side: int) -> Iterator[_Line]:
        yield from (pair[side] for pair in self.shared)
        yield from (self.ours, self.theirs)[side]


def _met(
    mine: Sequence[Block], others: Sequence[Block]
) -> Iterator[tuple[int, int, _Piece, _Piece]]:
    """Give the pieces of the base in which both sides changed something."""
    changes = sorted([*((block, 0) for block in mine), *((block, 1) for block in others)])
    i = 0
    while i < len(changes):
        first, start, stop = i, *changes[i][0][:2]
        while i < len(changes) and changes[i][0][0] <= stop:
            stop = max(stop, changes[i][0][1])
            i += 1
        sides = [[block for block, side in changes[first:i] if side == n] for n in (0, 1)]
        if all(sides):
            one, other = (_piece(blocks, start, stop) for blocks in sides)
            yield start, stop, one, other


def _piece(blocks: Sequence[Block], start: int, stop: int) -> _Piece:
    (a, _, c, _), (_, b, _, d) = blocks[0], blocks[-1]
    new = frozenset(i for _, _, first, last in blocks for i in range(first, last))
    return _Piece(c - (a - start), d + (stop - b), new)


def _runs(ours: Sequence[_Line], theirs: Sequence[_Line], work: Work) -> Iterator[_Run]:
    """Part two sides."""
    lines, others = ([line.text for line in side] for side in (ours, theirs))
    i = k = 0
    end = (len(ours), len(ours), len(theirs), len(theirs))
    for a, b, c, d in [*changed_blocks(lines, others, work), end]:
        yield _Run([*zip(ours[i:a], theirs[k:c], strict=True)], ours[a:b], theirs[c:d])
        i, k = b, d


def _are_alike(runs: Sequence[_Run]) -> bool:
    """Whether most of what one side put there the other side put there too."""
    shared = sum(len(a.text) for run in runs for a, b in run.shared if a.is_new and b.is_new)
    sides = ([line for run in runs for line in run.of(n) if line.is_new] for n in (0, 1))
    least = min(sum(len(line.text) for line in side) for side in sides)
    return shared >= _SHARED * least > 0


def _shared(olds: Sequence[str], runs: Sequence[_Run]) -> Iterator[str]:
    """Give the lines of both sides, those that one has kept and the other has not, and those that
    each changed in its own way, as they were."""
    lines = (line for run in runs for side in (0, 1) for line in run.of(side))
    kept = {line.text for line in lines if not line.is_new}
    for run in runs:
        yield from (line.text for line, _ in run.shared)
        yield from (line.text for line in (*run.ours, *run.theirs) if not line.is_new)
        if len(olds) * len(runs) <= _COMPARED_MAX:
            changed = _changed(olds, run.ours) & _changed(olds, run.theirs)
            yield from (olds[i] for i in sorted(changed) if olds[i] not in kept)


def _changed(olds: Sequence[str], lines: Sequence[_Line]) -> set[int]:
    """Return which old lines became one new line."""
    news = [line.text for line in lines if line.is_new]
    return {a for a, b, c, d in line_changes(olds, news) if b == a + 1 and d == c + 1}
