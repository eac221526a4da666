"""Edits: what changes one text into another, by lines and words.

An edit is (start, stop, replacement) in characters of the text that it changes. Lists of edits
ascend and do not overlap. Pure functions with bounded work that know of no document.

A line ends with LF or CR LF, which no edit parts: lines are compared without their ends, and an
end that became another is an edit of its own.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, TypeAlias

from phextsync.alignment import (
    Block,
    Work,
    changed_blocks,
    common_ends,
    pairs,
    shared_ends,
    shortest_script,
)

Edit: TypeAlias = tuple[int, int, str]

_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]+")
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
_TOKENS: Final = re.compile(r"\w+|[^\w\s]")
_BYTE_ORDER_MARK: Final = "\ufeff"
_SIGNS_OF_SYSTEMS: Final = ("\r\n", _BYTE_ORDER_MARK)
_ANY_END: Final = re.compile(r"\r?\n")
_ENDS: Final = ("\n", "\r\n")
# The edge of a word is looked for among this many characters.
_WORD_MAX: Final = 64
# Up to this many lines of one word each are replaced one by one.
_SINGLES_MAX: Final = 64
# Of more changed lines than these, some are like others by chance.
_FEW_LINES: Final = 32
# At most this many edits: what is between more of them is replaced with them.
_EDITS_MAX: Final = 1 << 14
# Two lines are one that was changed if they have this much in common.
_LINE_LIKE: Final = 0.3
# Of the lines that two texts do not share, this many characters are compared by words.
_LIKE_MAX: Final = 1 << 16


# -- what changed ----------------------------------------------------------------------------


def minimal_edits(old: str, new: str) -> list[Edit]:
    """Return ascending edits (start, stop, replacement) in offsets of `old` that make `new`.

    Whole words are replaced in lines that changed, so that two people's edits do not interleave
    letters, and no edit spans the words of two lines that are like those that they became, so that
    a line that somebody else puts between them stays a line. Unlike lines are replaced as blocks.
    Costs O(n log n).
    """
    start, stop = common_ends(old, new)
    if start + stop == min(len(old), len(new)):
        edits = _lone_edit(old, new, start, stop)
        if not any((edit[0] < edit[1] and edit[2]) or _parts(old, edit) for edit in edits):
            return edits
    start, stop = _to_lines(old, new, start, stop)
    ours = lines_of(old[start : len(old) - stop])
    theirs = lines_of(new[start : len(new) - stop])
    work = Work(len(old) + len(new))
    edits = []
    for edit in _line_edits(ours, theirs, work):
        first, last, text = start + edit[0], start + edit[1], edit[2]
        if edits and _are_one(edits[-1], (first, last, text)):
            first, _, before = edits.pop()
            text = before + text
        edits.append((first, last, text))
    return _coarser(old, edits)


def line_changes(ours: Sequence[str], theirs: Sequence[str]) -> list[Block]:
    """Return ascending changes (a, b, c, d): lines ours[a:b] became theirs[c:d]. A line that became
    one that is like it is a change of its own."""
    work = Work(sum(map(len, ours)) + sum(map(len, theirs)))
    return [block for block, _ in _line_changes(ours, theirs, work)]


def whole_line_edits(old: str, new: str) -> list[Edit]:
    """Return ascending edits that make `new` of `old`, each of whole lines with their ends."""
    ours, theirs = lines_of(old), lines_of(new)
    offsets = offsets_of(ours)
    blocks = changed_blocks(ours, theirs, Work(len(old) + len(new)))
    return [(offsets[a], offsets[b], "".join(theirs[c:d])) for a, b, c, d in blocks]


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, with their ends."""
    return _LINES.findall(text)


def offsets_of(pieces: Sequence[str]) -> list[int]:
    """Return where each piece begins, and the end."""
    offsets = [0]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece))
    return offsets


def without_end(line: str) -> str:
    """Return a line without its end, LF or CR LF."""
    return line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def content_of(line: str) -> str:
    """Return what tells a line from others: not its end, and not the byte order mark with which
    some programs begin a file."""
    return without_end(line).removeprefix(_BYTE_ORDER_MARK)


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return `text` after `edits`."""
    pieces: list[str] = []
    at = 0
    for start, stop, replacement in edits:
        pieces += (text[at:start], replacement)
        at = stop
    return "".join((*pieces, text[at:]))


def in_steps(old: str, new: str) -> list[str]:
    """Return the texts of which each is made of the one before, from `old` to `new`: first one that
    somebody else may make as well who has other line ends or no byte order mark, or does nothing
    but that. It has new ends of the lines that stay, if there are any; else everything else, with
    the ends that `old` has (LF if it has none)."""
    if not any(sign in text for sign in _SIGNS_OF_SYSTEMS for text in (old, new)):
        return [new]
    edits = minimal_edits(old, new)
    ends = [edit for edit in edits if is_line_end(old, edit)]
    lines, others = ({*map(without_end, lines_of(text))} for text in (old, new))
    if ends and not lines.isdisjoint(others):
        return [apply_edits(old, ends), new]
    end = "\r\n" if old.startswith("\r\n", max(0, old.find("\n") - 1)) else "\n"
    rest = [
        (start, stop, _ANY_END.sub(end, words).removeprefix("" if start else _BYTE_ORDER_MARK))
        for start, stop, words in edits
        if not is_line_end(old, (start, stop, words))
    ]
    return [apply_edits(old, rest), new]


def in_hunks(text: str, edits: Sequence[Edit]) -> list[list[Edit]]:
    """Return edits in groups, between which at least one whole line of `text` stays."""
    hunks: list[list[Edit]] = []
    for edit in edits:
        stop = hunks[-1][-1][1] if hunks else 0
        line = stop if text[stop - 1 : stop] == "\n" else text.find("\n", stop, edit[0]) + 1
        if hunks and not (line and text.find("\n", line, edit[0]) >= 0):
            hunks[-1].append(edit)
        else:
            hunks.append([edit])
    return hunks


def is_line_end(text: str, edit: Edit) -> bool:
    """Whether an edit of `text` makes one kind of line end the other."""
    start, stop, replacement = edit
    return replacement in _ENDS and stop - start < 3 and text[start:stop] in _ENDS


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


def _size(pieces: "Counter[str]") -> int:
    return sum(len(piece.replace(" ", "")) * count for piece, count in pieces.items())


# -- lines -----------------------------------------------------------------------------------


def _line_edits(ours: Sequence[str], theirs: Sequence[str], work: Work) -> Iterator[Edit]:
    """Give the edits that make lines of others: some of them touch."""
    plain, wanted = [without_end(line) for line in ours], [without_end(line) for line in theirs]
    offsets = offsets_of(ours)
    i = k = 0

    def end_edit(i: int, k: int) -> Iterator[Edit]:
        end, new = ours[i][len(plain[i]) :], theirs[k][len(wanted[k]) :]
        if end != new:
            yield offsets[i + 1] - len(end), offsets[i + 1], new

    end = len(ours), len(ours), len(theirs), len(theirs)
    for (a, b, c, d), are_alike in chain(_line_changes(plain, wanted, work), [(end, False)]):
        for j in range(a - i):
            yield from end_edit(i + j, k + j)
        if a == b or c == d:
            if a < b or c < d:
                yield offsets[a], offsets[b], "".join(theirs[c:d])
        elif are_alike or _are_singles(plain[a:b], wanted[c:d]):
            for j in range(b - a):
                old, new = plain[a + j], wanted[c + j]
                words = _word_edits(old, new, work) if are_alike else [(0, len(old), new)]
                yield from ((offsets[a + j] + x, offsets[a + j] + y, text) for x, y, text in words)
                yield from end_edit(a + j, c + j)
        else:
            stop = offsets[b - 1] + len(plain[b - 1])
            yield offsets[a], stop, "".join((*theirs[c : d - 1], wanted[d - 1]))
            yield from end_edit(b - 1, d - 1)
        i, k = b, d


def _line_changes(
    ours: Sequence[str], theirs: Sequence[str], work: Work
) -> Iterator[tuple[Block, bool]]:
    """Give what changed, and whether it is one line that became one that is like it."""
    for a, b, c, d in changed_blocks(ours, theirs, work):
        i, k = a, c
        for j, n in [*_alike_pairs(ours[a:b], theirs[c:d], work), (b - a, d - c)]:
            j, n = a + j, c + n
            if i < j or k < n:
                yield (i, j, k, n), False
            if j < b and ours[j] != theirs[n]:
                yield (j, j + 1, n, n + 1), True
            i, k = j + 1, n + 1


def _alike_pairs(ours: Sequence[str], theirs: Sequence[str], work: Work) -> list[tuple[int, int]]:
    """Return ascending pairs of lines that are alike: of many lines all that are, or, when fewer
    than half of them are, which may be by chance, none."""
    size = max(len(ours), len(theirs))
    candidates = pairs(ours, theirs, work)
    if size > _FEW_LINES:
        some = candidates[:: max(1, len(candidates) // _FEW_LINES)]
        if 4 * sum(_are_alike(ours[i], theirs[k], work) for i, k in some) < len(some):
            return []
    found = [(i, k) for i, k in candidates if _are_alike(ours[i], theirs[k], work)]
    return [] if size > _FEW_LINES and 2 * len(found) < size else found


def _are_alike(line: str, other: str, work: Work) -> bool:
    short, long = sorted((line, other), key=len)
    if short and (long.startswith(f"{short} ") or long.endswith(f" {short}")):
        return True
    if 2 * shared_ends(line, other) >= max(len(line), len(other)):
        return True
    return work.take(16 + (len(line) + len(other)) // 4) and likeness(line, other) >= _LINE_LIKE


def _are_singles(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether as many lines of one word each, or one line, became as many others."""
    if len(ours) != len(theirs) or len(ours) > _SINGLES_MAX:
        return False
    return len(ours) == 1 or not any(len(line.split()) > 1 for line in (*ours, *theirs))


def _are_one(before: Edit, edit: Edit) -> bool:
    """Whether two edits that touch are one insertion, or one deletion."""
    if before[1] != edit[0]:
        return False
    are_insertions = before[0] == before[1] and edit[0] == edit[1]
    return are_insertions or not (before[2] or edit[2])


def _coarser(old: str, edits: list[Edit]) -> list[Edit]:
    """Return at most `_EDITS_MAX` edits that do the same: those that are nearest become one."""
    near = 1
    while len(edits) > _EDITS_MAX:
        joined: list[Edit] = []
        for start, stop, text in edits:
            if joined and start - joined[-1][1] <= near:
                first, last, before = joined.pop()
                start, text = first, before + old[last:start] + text
            joined.append((start, stop, text))
        edits, near = joined, 4 * near
    return edits


def _to_lines(old: str, new: str, start: int, stop: int) -> tuple[int, int]:
    """Shorten equal ends to the edges of lines."""
    start = old.rfind("\n", 0, start) + 1
    if any(text[: len(text) - stop][-1:] not in ("", "\n") for text in (old, new)):
        end = old.find("\n", len(old) - stop)
        stop = 0 if end < 0 else len(old) - end - 1
    return start, stop


# -- words -----------------------------------------------------------------------------------


def _word_edits(old: str, new: str, work: Work) -> list[Edit]:
    start, stop = common_ends(old, new)
    if start + stop == min(len(old), len(new)):
        return _lone_edit(old, new, start, stop)
    start, stop = _to_words(old, new, start, stop)
    ours = _WORDS.findall(old, start, len(old) - stop)
    theirs = _WORDS.findall(new, start, len(new) - stop)
    offsets = offsets_of(ours)
    edits: list[Edit] = []
    for a, b, c, d in shortest_script(ours, theirs, work):
        first, last, words = start + offsets[a], start + offsets[b], "".join(theirs[c:d])
        if first == last or not words:
            shift = _blanks_before(old[max(0, first - 1) : first], words or old[first:last])
            if shift:
                first, last = first - 1, last - 1
                words = words and old[first] + words[:-1]
        edits.append((first, last, words))
    return edits


def _lone_edit(old: str, new: str, start: int, stop: int) -> list[Edit]:
    """Return the edit of two texts of which one is the other with a piece put in.

    Where the piece repeats what is around it, it could be put in at several places: it begins
    with a line if it can, else with the blank before a word, so that it parts no line in which
    others write, and what is deleted leaves the blanks that others count on.
    """
    if len(old) == len(new):
        return []
    shorter, longer = sorted((old, new), key=len)
    size = len(longer) - len(shorter)
    line = longer.rfind("\n", 0, start) + 1
    if longer[line:start] == longer[line + size : start + size]:
        start = line
    else:
        start = _word_start(shorter, longer, start)
    start -= _blanks_before(longer[max(0, start - 1) : start], longer[start : start + size])
    first, last = start, start + max(0, len(old) - len(new))
    end = start + max(0, len(new) - len(old))
    while any(text[first - 1 : first + 1] == "\r\n" for text in (old, new)):
        first -= 1
    while old[last - 1 : last + 1] == "\r\n" or new[end - 1 : end + 1] == "\r\n":
        last, end = last + 1, end + 1
    return [(first, last, new[first:end])]


def _parts(text: str, edit: Edit) -> bool:
    """Whether lines that an edit of `text` puts in or takes out begin or end within a word."""
    start, stop, words = edit
    piece = words or text[start:stop]
    before, behind = text[max(0, start - 1) : start], text[stop : stop + 1]
    ends = (before, piece[:1]), (piece[-1:], behind)
    return "\n" in piece and any(a and not _is_edge(a + b, len(a)) for a, b in ends)


def _blanks_before(before: str, piece: str) -> int:
    """Return how many characters earlier a piece of words begins, behind `before`, if it takes the
    blank before it for the one at its end."""
    is_shifted = _is_blank(before) and before == piece[-1] and piece.strip() and "\n" not in piece
    return 1 if is_shifted else 0


def _to_words(old: str, new: str, start: int, stop: int) -> tuple[int, int]:
    """Shorten equal ends to the edges of words near by, so that words are replaced whole."""
    for first in range(start, max(0, start - _WORD_MAX) - 1, -1):
        if not first or _is_edge(old, first) or _is_edge(new, first):
            start = first
            break
    for last in range(stop, max(0, stop - _WORD_MAX) - 1, -1):
        if not last or _is_edge(old, len(old) - last) or _is_edge(new, len(new) - last):
            stop = last
            break
    return start, stop


def _word_start(shorter: str, longer: str, start: int) -> int:
    """Return the nearest place up to `start` where the piece that `longer` has more can begin as
    well, and parts no word."""
    size = len(longer) - len(shorter)
    for place in range(start, max(0, start - _WORD_MAX), -1):
        if _is_edge(shorter, place):
            return place
        if longer[place - 1] != longer[place - 1 + size]:
            break
    return start


def _is_edge(text: str, offset: int) -> bool:
    return offset >= len(text) or text[offset - 1].isspace() or text[offset].isspace()


def _is_blank(text: str) -> bool:
    """Whether a text is white space within a line."""
    return text.isspace() and "\n" not in text and "\r" not in text


# -- merging ---------------------------------------------------------------------------------


def with_blanks(text: str, edits: Sequence[Edit]) -> list[Edit]:
    """Return edits that do the same to `text`, and whose words stay apart from those that others
    write meanwhile: what is inserted brings the blanks on both its sides.

    One of two sides may delete what the other needs: so only blanks of its own keep a word from
    its neighbours, whatever those become. A line of several words that is replaced whole brings its
    end, for the same reason.
    """
    safe: list[Edit] = []
    for i, edit in enumerate(edits):
        start, stop, words = edit
        if words and not is_line_end(text, edit):
            is_free = not i or edits[i - 1][1] < start
            if is_free and start and _is_blank(text[start - 1]) and not words[0].isspace():
                start, words = start - 1, text[start - 1] + words
            is_free = i + 1 == len(edits) or stop < edits[i + 1][0]
            if is_free and _is_blank(text[stop : stop + 1]) and not words[-1].isspace():
                stop, words = stop + 1, words + text[stop]
        if safe and safe[-1][1] > start:  # both have the blank between them
            start, _, before = safe.pop()
            words = before + words[1:]
        safe.append((start, stop, words))
    return _with_ends(text, safe)


def _with_ends(text: str, edits: Sequence[Edit]) -> list[Edit]:
    whole: list[Edit] = []
    for i, (start, stop, words) in enumerate(edits):
        is_free = i + 1 == len(edits) or stop < edits[i + 1][0]
        if is_free and words and _is_whole_line(text, (start, stop, words)):
            end = text[stop : stop + 1 + text.startswith("\r\n", stop)]
            whole.append((start, stop + len(end), words + end))
        else:
            whole.append((start, stop, words))
    return whole


def _is_whole_line(text: str, edit: Edit) -> bool:
    """Whether an edit replaces whole lines, with several words, but for the last one's end."""
    start, stop, _ = edit
    is_whole = text[start - 1 : start] in ("", "\n") and text.startswith(_ENDS, stop)
    return is_whole and len(text[start:stop].split(maxsplit=2)) > 1


def missing_lines(text: str, other: str, base: str = "") -> list[Edit]:
    """Return the edits of `text` that insert the lines of `other` that it lacks, or has less often,
    each with an end: others may put lines there too. Lines that `base` has are not missing."""
    if not text and not base:
        return [(0, 0, other)] if other else []
    edits: list[Edit] = []
    ours, theirs = lines_of(text), lines_of(other)
    plain, wanted = [content_of(line) for line in ours], [content_of(line) for line in theirs]
    offsets = offsets_of(ours)
    lacking = Counter(wanted) - (Counter(plain) | Counter(map(content_of, lines_of(base))))
    for _, b, c, d in changed_blocks(plain, wanted, Work(len(text) + len(other))):
        missing = []
        for line in range(c, d):
            if lacking[wanted[line]] > 0:
                lacking[wanted[line]] -= 1
                missing.append(theirs[line])
        if not missing:
            continue
        lines = "".join(missing)
        lines = lines if lines.endswith("\n") else f"{lines}\n"
        if b == len(ours) and text and not text.endswith("\n"):
            lines = f"\n{lines}"
        edits.append((offsets[b], offsets[b], lines))
    return edits
