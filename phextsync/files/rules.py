"""Rules: how changes of the ignore file are merged, by whole lines. Pure functions.

A merge by words can make a rule of two that nobody wrote, and then files are left alone, or sent,
which nobody meant. Of a rule that two change apart both stay, each as it was written.
"""

from collections.abc import Sequence

from phextsync.alignment import Block, Work, changed_blocks
from phextsync.edits import lines_of


def whole_lines(text: str) -> str:
    """Return a text whose last line has an end, too: nothing can be written behind it."""
    return text if text.endswith("\n") or not text else f"{text}\n"


def merged_rules(base: str, current: str, new: str) -> str:
    """Return `current` with the changes of lines that made `new` of `base`. Lines that both put in
    at one place are there once."""
    return "".join(merged_pieces(*(lines_of(whole_lines(text)) for text in (base, current, new))))


def merged_pieces(olds: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return `ours` with what made `theirs` of `olds`, piece by piece. Pieces that both put in at
    one place are there once."""
    sides = [_Side(olds, pieces) for pieces in (ours, theirs)]
    merged: list[str] = []
    for place in range(len(olds) + 1):
        mine, others = (side.put_in.get(place, []) for side in sides)
        merged += mine
        merged += (line for line in others if line not in mine)
        if place < len(olds) and not any(place in side.deleted for side in sides):
            merged.append(olds[place])
    return merged


def rules_of_others(base: str, mine: str, merged: str) -> str:
    """Return `base` with what others made of it in `merged`. Who put rules beside one that `mine`
    changed is taken to have changed it too: that cannot be told from what the merge made."""
    olds, ours, both = (lines_of(whole_lines(text)) for text in (base, mine, merged))
    here, there = _blocks(olds, ours), _blocks(ours, both)
    met = {
        place
        for a, b, c, d in here
        for first, last, e, f in there
        if e < f and first <= d and c <= last
        for place in range(a, b)
    }
    rest = "".join(line for place, line in enumerate(olds) if place not in met)
    return merged_rules(mine, rest, merged)


class _Side:
    """What one side did to lines: which places it deleted, and what it put in before which."""

    def __init__(self, olds: Sequence[str], lines: Sequence[str]) -> None:
        blocks = _blocks(olds, lines)
        self.deleted = {place for a, b, _, _ in blocks for place in range(a, b)}
        self.put_in = {b: lines[c:d] for _, b, c, d in blocks}


def _blocks(lines: Sequence[str], others: Sequence[str]) -> list[Block]:
    return changed_blocks(lines, others, Work(sum(map(len, lines)) + sum(map(len, others))))
