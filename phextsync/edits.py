"""Edits: what changes one text into another, by lines and words; merging two changes of a text.

An edit is (start, stop, replacement) in characters of the text that it changes. Lists of edits
ascend and do not overlap. Pure functions with bounded work that know of no document.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Final, TypeAlias

Edit: TypeAlias = tuple[int, int, str]

_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]+")
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
# Comparing two pieces costs at most about this many steps; beyond, one replaces the other.
_COMPARE_MAX: Final = 1 << 14
_PAIRS_MAX: Final = 1 << 10
_WORD_MAX: Final = 64


def minimal_edits(old: str, new: str) -> list[Edit]:
    """Return ascending edits (start, stop, replacement) in offsets of `old` that make `new`.

    Whole words are replaced in lines that changed, so that two people's edits do not interleave
    letters, and no edit spans the words of two lines, so that a line that somebody else puts
    between them stays a line. Costs O(n log n) and a bounded number of comparisons; pieces too
    large for that are replaced whole.
    """
    start, stop = common_ends(old, new)
    if start + stop == min(len(old), len(new)):
        return _lone_edit(old, new, start, stop)
    start, stop = _to_lines(old, new, start, stop)
    edits: list[Edit] = []
    ours = _LINES.findall(old, start, len(old) - stop)
    theirs = _LINES.findall(new, start, len(new) - stop)
    offsets = _offsets(ours)
    for i, j, k, n in _changed_blocks(ours, theirs):
        at = start + offsets[i]
        for first, last, words in _block_edits(ours[i:j], theirs[k:n]):
            if edits and edits[-1][:2] == (at + first, at + first):
                words = edits.pop()[2] + words
            edits.append((at + first, at + last, words))
    return edits


def merged_edits(base: str, current: str, new: str) -> list[Edit]:
    """Return the edits of `current` that do there what made `new` of `base`.

    What either side inserted stays, and what either deleted goes. Lines that both inserted in one
    place are there once, so that to do the same again changes nothing.
    """
    theirs = minimal_edits(base, current)
    starts = [start for start, _, _ in theirs]
    shifts = [0]  # what an offset behind so many of their edits gains
    for start, stop, inserted in theirs:
        shifts.append(shifts[-1] + len(inserted) - (stop - start))
    merged: list[Edit] = []
    for start, stop, replacement in minimal_edits(base, new):
        i = bisect_left(starts, start)
        end = theirs[i - 1][1] if i else 0
        if i < len(theirs) and starts[i] == start:
            if theirs[i][1] == stop:
                replacement = _without_common_lines(theirs[i][2], replacement)
            if theirs[i][1] == start:  # what they inserted here comes first
                i, end = i + 1, start
        kept: list[Edit] = []  # what is still there of what is to be deleted
        for j in range(i, len(theirs) + 1):
            low = max(start, end)
            high = min(stop, starts[j]) if j < len(theirs) else stop
            if low < high:
                kept.append((low + shifts[j], high + shifts[j], ""))
            if high == stop:
                break
            end = theirs[j][1]
        place = max(stop, end) + shifts[j]
        if kept and kept[-1][1] == place:
            kept[-1] = (kept[-1][0], place, replacement)
        elif replacement:
            kept.append((place, place, replacement))
        merged += kept
    return merged


def merged_text(base: str, current: str, new: str) -> str:
    """Return `current` with the changes that made `new` of `base`; see `merged_edits`."""
    return apply_edits(current, merged_edits(base, current, new))


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return `text` after `edits`."""
    pieces: list[str] = []
    at = 0
    for start, stop, replacement in edits:
        pieces += (text[at:start], replacement)
        at = stop
    return "".join((*pieces, text[at:]))


def missing_lines(text: str, other: str) -> list[Edit]:
    """Return the edits of `text` that insert the lines of `other` that it lacks."""
    edits: list[Edit] = []
    ours, theirs = _LINES.findall(text), _LINES.findall(other)
    offsets = _offsets(ours)
    for a, b, c, d in _changed_blocks(ours, theirs):
        present = set(ours[a:b])
        missing = "".join(line for line in theirs[c:d] if line not in present)
        if missing:
            edits.append((offsets[b], offsets[b], missing))
    return edits


def _without_common_lines(inserted: str, replacement: str) -> str:
    """Return the lines of `replacement` that remain to be inserted where `inserted` is."""
    if f"\n{replacement}" in f"\n{inserted}":
        return ""
    pairs = zip(_LINES.findall(inserted), _LINES.findall(replacement), strict=False)
    return replacement[sum(len(a) for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) :]


def _block_edits(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[Edit]:
    """Give the edits of lines of which each differs: those that became one another by words."""
    at = i = k = 0
    for j, n in [*_pairs(ours, theirs), (len(ours), len(theirs))]:
        gone, new = sum(map(len, ours[i:j])), "".join(theirs[k:n])
        if gone or new:
            yield at, at + gone, new
        at += gone
        i, k = j + 1, n + 1
        if j < len(ours):
            for start, stop, words in _word_edits(ours[j], theirs[n]):
                yield at + start, at + stop, words
            at += len(ours[j])


def _pairs(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Return ascending pairs of lines, as many as there can be, that have most in common."""
    few, many = sorted((ours, theirs), key=len)
    spare = len(many) - len(few)
    if len(few) * (spare + 1) > _PAIRS_MAX:
        spare = 0
    # best[s]: how much the lines of `few` up to one share when s of `many` were passed over.
    best = [0] * (spare + 1)
    passed: list[list[int]] = []
    for i, line in enumerate(few):
        tops = [0]
        for s in range(1, spare + 1):
            tops.append(s if best[s] > best[tops[-1]] else tops[-1])
        passed.append(tops)
        best = [best[top] + sum(common_ends(line, many[i + s])) for s, top in enumerate(tops)]
    s = max(range(spare + 1), key=lambda s: best[s])
    places: list[int] = []
    for i in reversed(range(len(few))):
        places.append(i + s)
        s = passed[i][s]
    pairs = [*enumerate(reversed(places))]
    return pairs if few is ours else [(place, i) for i, place in pairs]


def _word_edits(old: str, new: str) -> list[Edit]:
    start, stop = common_ends(old, new)
    if start + stop == min(len(old), len(new)):
        return _lone_edit(old, new, start, stop)
    start, stop = _to_words(old, new, start, stop)
    ours = _WORDS.findall(old, start, len(old) - stop)
    theirs = _WORDS.findall(new, start, len(new) - stop)
    if len(ours) * len(theirs) > _COMPARE_MAX:
        return [(start, len(old) - stop, new[start : len(new) - stop])]
    offsets = _offsets(ours)
    return [
        (start + offsets[i], start + offsets[j], "".join(theirs[k:n]))
        for tag, i, j, k, n in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
        if tag != "equal"
    ]


def _lone_edit(old: str, new: str, start: int, stop: int) -> list[Edit]:
    """Return the edit of two texts of which one is the other with a piece put in.

    Where the piece repeats what is around it, it could be put in at several places: it begins
    with a line if it can, else with a word, so that it parts no line in which others write.
    """
    if len(old) == len(new):
        return []
    longer = max(old, new, key=len)
    size = abs(len(old) - len(new))
    for place in (longer.rfind("\n", 0, start) + 1, _word_start(longer, start)):
        if longer[place:start] == longer[place + size : start + size]:
            start = place
            break
    if len(old) > len(new):
        return [(start, start + size, "")]
    return [(start, start, new[start : start + size])]


def _word_start(text: str, offset: int) -> int:
    for place in range(offset, max(0, offset - _WORD_MAX), -1):
        if _is_edge(text, place):
            return place
    return offset


def _changed_blocks(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Return blocks (a, b, c, d): ours[a:b] became theirs[c:d]; what lies between is equal.

    Lines that are unique on both sides, in the longest run that has one order, hold the two
    together (B. Cohen, patience diff); what lies between them is compared when it is small.
    """
    blocks: list[tuple[int, int, int, int]] = []
    a = c = 0
    for i, k in [*_anchors(ours, theirs), (len(ours), len(theirs))]:
        b, d = i, k
        while a < b and c < d and ours[a] == theirs[c]:
            a, c = a + 1, c + 1
        while a < b and c < d and ours[b - 1] == theirs[d - 1]:
            b, d = b - 1, d - 1
        if (b - a) * (d - c) > _COMPARE_MAX:
            blocks.append((a, b, c, d))
        elif a < b or c < d:
            matcher = SequenceMatcher(None, ours[a:b], theirs[c:d], autojunk=False)
            for tag, w, x, y, z in matcher.get_opcodes():
                if tag != "equal":
                    blocks.append((a + w, a + x, c + y, c + z))
        a, c = i + 1, k + 1
    return blocks


def _anchors(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Return the longest ascending sequence of lines that occur once on each side."""
    places = _unique(theirs)
    pairs = [(i, places[line]) for line, i in _unique(ours).items() if line in places]
    piles: list[int] = []  # the pair on top of each pile, by its second number
    before: list[int] = []
    for number, (_, k) in enumerate(pairs):
        low, high = 0, len(piles)
        while low < high:
            middle = (low + high) // 2
            if pairs[piles[middle]][1] < k:
                low = middle + 1
            else:
                high = middle
        before.append(piles[low - 1] if low else -1)
        piles[low : low + 1] = [number]
    chain: list[tuple[int, int]] = []
    number = piles[-1] if piles else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _unique(lines: Sequence[str]) -> dict[str, int]:
    """Return the lines that occur once, in order, with their places."""
    places: dict[str, int] = {}
    for i, line in enumerate(lines):
        places[line] = -1 if line in places else i
    return {line: i for line, i in places.items() if i >= 0}


def common_ends(old: str, new: str) -> tuple[int, int]:
    """Return how many characters are equal at the start, and behind that at the end."""
    limit = min(len(old), len(new))
    start = _longest(limit, lambda n: old[:n] == new[:n])
    limit -= start
    stop = _longest(limit, lambda n: old[len(old) - n :] == new[len(new) - n :])
    return start, stop


def _longest(limit: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number up to `limit` for which `holds`, true up to some number."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _to_lines(old: str, new: str, start: int, stop: int) -> tuple[int, int]:
    """Shorten equal ends to the edges of lines."""
    start = old.rfind("\n", 0, start) + 1
    if any(text[: len(text) - stop][-1:] not in ("", "\n") for text in (old, new)):
        end = old.find("\n", len(old) - stop)
        stop = 0 if end < 0 else len(old) - end - 1
    return start, stop


def _to_words(old: str, new: str, start: int, stop: int) -> tuple[int, int]:
    """Shorten equal ends to the edges of words, so that words are replaced whole."""
    while start and not _is_edge(old, start) and not _is_edge(new, start):
        start -= 1
    while stop and not _is_edge(old, len(old) - stop) and not _is_edge(new, len(new) - stop):
        stop -= 1
    return start, stop


def _is_edge(text: str, offset: int) -> bool:
    return offset >= len(text) or text[offset - 1].isspace() or text[offset].isspace()


def _offsets(pieces: Sequence[str]) -> list[int]:
    """Return where each piece begins, and the end."""
    offsets = [0]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece))
    return offsets
