"""Edits: what changes one text into another, by lines and words; merging two changes of a text.

An edit is (start, stop, replacement) in characters of the text that it changes. Lists of edits
ascend and do not overlap. Pure functions with bounded work that know of no document.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Final, TypeAlias

Edit: TypeAlias = tuple[int, int, str]
LineChange: TypeAlias = tuple[int, int, int, int]

_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]+")
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
_TOKENS: Final = re.compile(r"\w+|[^\w\s]")
# Comparing two pieces costs at most about this many steps; beyond, one replaces the other.
_COMPARE_MAX: Final = 1 << 14
_PAIRS_MAX: Final = 1 << 8
_WORD_MAX: Final = 64
# Two lines are one that was changed if they have so much in common.
_LINE_LIKE: Final = 0.3
# Of what two texts have not in common by lines, so many characters are compared by words.
_LIKE_MAX: Final = 1 << 16


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


def likeness(a: str, b: str) -> float:
    """Return what two texts have in common, from 0 (nothing) to 1 (equal): of their characters but
    blanks the share in lines of both and, in the lines that remain, in words of both, or at both
    ends. Costs O(n)."""
    if a == b:
        return 1.0
    lines = [Counter(line for line in map(str.strip, text.split("\n")) if line) for text in (a, b)]
    size = sum(_size(of_text) for of_text in lines)
    if not size:
        return 0.0
    common = _size(lines[0] & lines[1])
    rest = [
        " ".join((ours - theirs).elements())[:_LIKE_MAX]
        for ours, theirs in zip(lines, lines[::-1], strict=True)
    ]
    words = [Counter(_TOKENS.findall(text)) for text in rest]
    alike = max(_size(words[0] & words[1]), sum(common_ends(*rest)))
    return min(1.0, 2 * (common + alike) / size)


def line_changes(ours: Sequence[str], theirs: Sequence[str]) -> list[LineChange]:
    """Return ascending changes (a, b, c, d): lines ours[a:b] became theirs[c:d]. A line that became
    one that is like it is a change of its own."""
    changes: list[LineChange] = []
    for a, b, c, d in _changed_blocks(ours, theirs):
        i, k = a, c
        for j, n in [*_pairs(ours[a:b], theirs[c:d]), (b - a, d - c)]:
            is_end = j == b - a
            if not is_end and likeness(ours[a + j], theirs[c + n]) < _LINE_LIKE:
                continue
            if i < a + j or k < c + n:
                changes.append((i, a + j, k, c + n))
            if not is_end and ours[a + j] != theirs[c + n]:
                changes.append((a + j, a + j + 1, c + n, c + n + 1))
            i, k = a + j + 1, c + n + 1
    return changes


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, with their ends."""
    return _LINES.findall(text)


def without_end(line: str) -> str:
    """Return a line without its end, LF or CR LF."""
    return line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def _size(pieces: "Counter[str]") -> int:
    return sum(len(piece.replace(" ", "")) * count for piece, count in pieces.items())


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
    """Return ascending pairs of lines that together have most in common at their ends. Of many
    lines the first are paired, the second, and so on."""
    if len(ours) * len(theirs) > _PAIRS_MAX:
        return [(i, i) for i in range(min(len(ours), len(theirs)))]
    # best[i][k]: how much the pairs of the lines from `i` and from `k` on share at most.
    best = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    shared = [[_shared(line, other) for other in theirs] for line in ours]
    for i in reversed(range(len(ours))):
        for k in reversed(range(len(theirs))):
            pair = shared[i][k] + best[i + 1][k + 1]
            best[i][k] = max(pair, best[i + 1][k], best[i][k + 1])
    pairs = []
    i = k = 0
    while i < len(ours) and k < len(theirs):
        if best[i][k] == shared[i][k] + best[i + 1][k + 1]:
            pairs.append((i, k))
            i, k = i + 1, k + 1
        elif best[i][k] == best[i + 1][k]:
            i += 1
        else:
            k += 1
    return pairs


def _shared(line: str, other: str) -> int:
    """Return how many characters two lines share at their ends."""
    line, other = without_end(line), without_end(other)
    if line[:1] != other[:1] and line[-1:] != other[-1:]:
        return 0
    return sum(common_ends(line, other))


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


def _changed_blocks(ours: Sequence[str], theirs: Sequence[str]) -> list[LineChange]:
    """Return blocks (a, b, c, d): ours[a:b] became theirs[c:d]; what lies between is equal.

    Lines that are unique on both sides, in the longest run that has one order, hold the two
    together (B. Cohen, patience diff); what lies between them is compared when it is small.
    """
    blocks: list[LineChange] = []
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
