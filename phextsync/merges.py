"""Merges: what two changes of one text become together. Pure functions with bounded work.

What either side put in stays, what either deleted goes. Two rules more keep words whole:

* No part of a word stays alone. A word is a run without white space; where words have no blanks
  between them, as in Chinese, each sign is one. If one side wrote into a word and the other deleted
  it, or both changed the same letters or digits of it, who wrote into it has replaced it.
* Two words that come together stand no closer than in a text that has both; if none has, no closer
  than one of them stood to its neighbour. So words stay apart, and lines stay lines.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, takewhile
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from phextsync.edits import Edit, apply_edits, is_line_end, lines_of, minimal_edits

# Of a longer run without white space, as in Base64, a word is so many of one kind of character.
_WORD_MAX: Final = 64
# Scripts without blanks between words: Thai to Khmer, Chinese, Japanese.
_SIGNS: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u3029\u3030-\u3098\u309b-\u30ff\u3105-\u312f"
    "\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
)
_MARKS: Final = "\u0300-\u036f\u200d\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"
# Two characters that are one word, one number or name, or of one kind.
_WORD: Final = re.compile(rf"[^\s{_SIGNS}]{{2}}|\S[{_MARKS}]")
_NAME: Final = re.compile(rf"(?:[^\W{_SIGNS}]|[{_MARKS}]){{2}}")
_KIND: Final = re.compile(r"\w\w|[^\w\s]{2}")
_PARTS: Final = re.compile(r"\S+|\s+")
_SPACE: Final = re.compile(r"\s*")
_END: Final = re.compile(r"\r?\n")
_BLANK: Final = re.compile(r"[^\S\n]")
_BLANKS: Final = re.compile(r"[^\S\n]+").findall
_DOUBLE: Final = re.compile(r"(?<=\S) {2,}(?=\S)")
_WHOLE_WORD: Final = re.compile(r"(?<!\S)\S+")
_LETTER: Final = re.compile(r"\w")
_UNITS: Final = re.compile(r"\r?\n|\s")

_Range: TypeAlias = tuple[int, int]
# Where something is in the base, in the current text, and in the new one; -1: nowhere.
_Place: TypeAlias = tuple[int, int, int]
_NOWHERE: Final[_Place] = (-1, -1, -1)


def merged_text(base: str, current: str, new: str) -> str:
    """Return `current` with the changes that made `new` of `base`; see `merged_edits`."""
    return apply_edits(current, merged_edits(base, current, new))


def merged_edits(base: str, current: str, new: str) -> list[Edit]:
    """Return the edits of `current` that do there what made `new` of `base`.

    Lines and words that both inserted in one place are there once, so that to do the same again
    changes nothing. What one side wrote in a line that the other deleted stays a line. Where words
    of both meet, a blank or a line end is put between them if none is left, and of two blanks one
    goes. Costs O(n log n).
    """
    ours, theirs = minimal_edits(base, current), minimal_edits(base, new)
    ours, theirs = _with_whole_words(base, ours, theirs), _with_whole_words(base, theirs, ours)
    return _edits_of(current, _spaced((base, current, new), _pieces(base, ours, theirs)))


# -- words that both sides changed -----------------------------------------------------------


class _Touch(NamedTuple):
    """A word of the base that an edit changes and does not take: `range` is what of it changes,
    with the rest of the names and numbers that become others."""

    edit: Edit
    word: _Range
    range: _Range


def _with_whole_words(base: str, edits: Sequence[Edit], others: Sequence[Edit]) -> list[Edit]:
    """Return edits that do the same and replace the words whole that others change or delete."""
    theirs: dict[_Range, list[_Range]] = {}
    for touch in _touches(base, others):
        theirs.setdefault(touch.word, []).append(touch.range)
    stops = [stop for _, stop, _ in others]
    spans: list[_Range] = []
    for (start, stop, words), word, (low, high) in _touches(base, edits):
        if (
            (words.strip() and _is_deleted(word, others, stops))
            or any(low < b and a < high for a, b in theirs.get(word, ()))
            or (start == stop and word not in theirs and _is_parted(start, others, stops))
        ):
            first, last = min(start, word[0]), max(stop, word[1])
            if spans and first <= spans[-1][1]:
                before, behind = spans.pop()
                first, last = min(before, first), max(behind, last)
            spans.append((first, last))
    return _joined(base, edits, spans)


def _touches(base: str, edits: Sequence[Edit]) -> Iterator[_Touch]:
    """Give what edits change of words, in order."""
    for edit in edits:
        start, stop, words = edit
        if is_line_end(base, edit):
            continue
        before, behind = base[max(0, start - 1) : start], base[stop : stop + 1]
        lower = before + base[start : start + 1], before + (words[:1] or behind)
        upper = base[max(0, stop - 1) : stop] + behind, (words[-1:] or before) + behind
        touched = [
            _word(base, at)
            for at, pairs in ((start - 1, lower), (stop, upper))
            if any(map(_WORD.fullmatch, pairs))
        ]
        if any(map(_NAME.fullmatch, lower)):
            start = _run(base, start - 1, _NAME)[0]
        if any(map(_NAME.fullmatch, upper)):
            stop = _run(base, stop, _NAME)[1]
        for word in dict.fromkeys(touched):
            if word is not None:
                yield _Touch(edit, word, (max(start, word[0]), min(stop, word[1])))


def _word(text: str, at: int) -> _Range | None:
    """Return the word to which a character belongs; None if it is too long."""
    for pairs in (_WORD, _KIND):
        start, stop = _run(text, at, pairs)
        if stop - start <= _WORD_MAX:
            return start, stop
    return None


def _run(text: str, at: int, pairs: "re.Pattern[str]") -> _Range:
    """Return the range about a character in which any two neighbours are a pair; of one that is too
    long, a part that is too long."""
    start, stop = at, at + 1
    while start and stop - start <= _WORD_MAX and pairs.fullmatch(text, start - 1, start + 1):
        start -= 1
    while stop - start <= _WORD_MAX and pairs.fullmatch(text, stop - 1, stop + 1):
        stop += 1
    return start, stop


def _is_deleted(word: _Range, edits: Sequence[Edit], stops: Sequence[int]) -> bool:
    """Whether edits, which end at `stops`, leave nothing of a word."""
    at, stop = word
    for start, behind, _ in edits[bisect_right(stops, at) :]:
        if start > at or at >= stop:
            break
        at = behind
    return at >= stop


def _is_parted(place: int, edits: Sequence[Edit], stops: Sequence[int]) -> bool:
    """Whether an edit puts something in at a place."""
    i = bisect_left(stops, place)
    return any(edit[0] == edit[1] == place for edit in edits[i : i + 2])


def _joined(base: str, edits: Sequence[Edit], spans: Sequence[_Range]) -> list[Edit]:
    """Return edits that do the same, of which one replaces each of these ascending ranges."""
    joined: list[Edit] = []
    left = list(edits)[::-1]
    for first, last in spans:
        while left[-1][0] < first and left[-1][1] <= first:
            joined.append(left.pop())
        at, words = first, ""
        while left and left[-1][1] <= last:
            start, stop, text = left.pop()
            words, at = words + base[at:start] + text, stop
        joined.append((first, last, words + base[at:last]))
    return joined + left[::-1]


# -- what is merged --------------------------------------------------------------------------


class _Piece(NamedTuple):
    """A piece of what is merged, and where it begins."""

    text: str
    places: _Place

    def part(self, start: int, stop: int) -> "_Piece":
        """Return a part of it."""
        a, b, c = (place + start if place >= 0 else -1 for place in self.places)
        return _Piece(self.text[start:stop], (a, b, c))


class _Side:
    """The edits that one side made of the base."""

    def __init__(self, base: str, edits: Sequence[Edit]) -> None:
        self._edits = edits
        self._stops = [stop for _, stop, _ in edits]
        self._ends = {(edit[0], edit[1]): edit[2] for edit in edits if is_line_end(base, edit)}
        self._shifts = [0]  # what a place behind so many of the edits gains
        for start, stop, words in edits:
            self._shifts.append(self._shifts[-1] + len(words) - (stop - start))

    def kept(self, start: int, stop: int) -> tuple[int, str | None] | None:
        """Return where a piece of the base begins, and the line end that it became, if it did. None
        when it is deleted. No edit begins or ends within it."""
        i = bisect_right(self._stops, start)
        if i == len(self._edits) or self._edits[i][0] > start or (start, stop) in self._ends:
            return start + self._shifts[i], self._ends.get((start, stop))
        return None

    def put_in(self) -> Iterator[tuple[Edit, int]]:
        """Give the edits that put something in, and where that begins."""
        for edit, shift in zip(self._edits, self._shifts, strict=False):
            if edit[2] and edit[:2] not in self._ends:
                yield edit, edit[0] + shift


def _pieces(base: str, ours: Sequence[Edit], theirs: Sequence[Edit]) -> Iterator[_Piece]:
    """Give the pieces of which what is merged is made, in order.

    What was put in stands at the end of what it replaces, and before what was put in behind that:
    lines before words at the beginning of a line, and behind words at the end of one. Of two equal
    ones the current text's comes first.
    """
    sides = _Side(base, ours), _Side(base, theirs)
    stops = [stop for _, stop, _ in ours]
    found: dict[int, list[tuple[int, int, _Piece, bool]]] = {}
    for side, edits in enumerate(sides):
        for (start, stop, words), place in edits.put_in():
            rest = _lacking(ours, stops, (start, stop, words)) if side else words
            place += len(words) - len(rest)
            piece = _Piece(rest, (-1, -1, place) if side else (-1, place, -1))
            order = 2 if start == stop else 0
            if order and words.endswith("\n") and base[start - 1 : start] in ("", "\n"):
                order = 1
            elif order and words.startswith(("\n", "\r\n")):
                order = 3
            are_lines = not order and base[start - 1 : start] in ("", "\n")
            if rest:
                found.setdefault(stop, []).append((order, side, piece, are_lines))
    lines = ""  # those that stand last, in the place of others, and lack their end
    cuts = {0, len(base), *(cut for edit in (*ours, *theirs) for cut in edit[:2])}
    for start, stop in pairwise([*sorted(cuts), len(base)]):
        end = _END.match(base, start)
        for _, _, piece, are_lines in sorted(found.get(start, ()), key=itemgetter(0, 1)):
            if end is not None and are_lines and _need_end(lines, piece.text):
                yield _Piece(end[0], _NOWHERE)
            yield piece
            lines = piece.text if end is not None and are_lines else ""
        kept = [edits.kept(start, stop) for edits in sides]
        if start < stop and kept[0] is not None and kept[1] is not None:
            text = kept[0][1] or kept[1][1] or base[start:stop]
            lines = ""
            yield _Piece(text, (start, kept[0][0], kept[1][0]))


def _need_end(lines: str, others: str) -> bool:
    """Whether lines that lack their end need one before others, or nothing would tell an empty line
    between them from it."""
    return bool(lines) and (lines.endswith("\n") or others.startswith(("\n", "\r\n")))


def _lacking(ours: Sequence[Edit], stops: Sequence[int], edit: Edit) -> str:
    """Return what an edit has still to put in, an end of its words: not what is all there already
    where it puts them, and not the lines or words at the beginning of both."""
    start, stop, words = edit
    for first, last, there in ours[bisect_left(stops, start) :]:
        if first > stop:
            break
        is_same = (first, last) == (start, stop)
        if there and (is_same or (first < stop and start < last)):
            if _has(there, words):
                return ""
            words = _behind_common(there, words) if is_same else words
    return words


def _has(inserted: str, words: str) -> bool:
    """Whether lines, or words of one line, are all there among others."""
    if "\n" not in words + inserted:
        return f" {' '.join(words.split())} " in f" {' '.join(inserted.split())} "
    wanted, there = (
        text if text.endswith("\n") or not text else f"{text}\n" for text in (words, inserted)
    )
    return f"\n{wanted}" in f"\n{there}"


def _behind_common(inserted: str, words: str) -> str:
    """Return words without the lines, or words of one line, that others begin with as well."""
    parts = _PARTS.findall if "\n" not in words + inserted else lines_of
    both = zip(parts(inserted), parts(words), strict=False)
    size = sum(len(part) for part, _ in takewhile(lambda pair: pair[0] == pair[1], both))
    return "" if _has(inserted[size:], words[size:]) else words[size:]


# -- white space where two sides meet --------------------------------------------------------


def _spaced(texts: Sequence[str], pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """Give the pieces of what is merged, with white space between its words as it has to be."""
    spacing = _Spacing(texts)
    before: _Place | None = None
    space: list[_Piece] = []
    for piece in pieces:
        start = len(piece.text) - len(piece.text.lstrip())
        space.append(piece.part(0, start))
        if start < len(piece.text):
            stop = len(piece.text.rstrip())
            word, rest = piece.part(start, stop), piece.part(stop, len(piece.text))
            yield from spacing.between(before, space, word.places)
            yield word
            before, space = rest.places, [rest]
    yield from spacing.between(before, space, None)


class _Spacing:
    """Decides what white space stands between the words of what is merged of three texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._end = "\r\n" if any("\r\n" in text for text in texts) else "\n"

    def between(
        self, before: _Place | None, space: Sequence[_Piece], behind: _Place | None
    ) -> Iterator[_Piece]:
        """Give what stands between two words, one that ends at `before` and one that begins at
        `behind` (None: beginning and end of the text): what may be of `space`, or what lacks."""
        firsts = before or (0, 0, 0)
        lasts = behind or tuple(map(len, self._texts))
        rows = zip(self._texts, firsts, lasts, strict=True)
        gaps = [text[first:last] for text, first, last in rows if first >= 0 and last >= 0]
        if "".join(piece.text for piece in space) in gaps:
            yield from space
            return
        at_end = [] if before is None else self._behind(before)
        at_start = [] if behind is None else self._before(behind)
        units = [piece.part(*m.span()) for piece in space for m in _UNITS.finditer(piece.text)]
        ends = [i for i, unit in enumerate(units) if "\n" in unit.text]
        if ends or before is None or behind is None:
            if behind is not None:
                first = ends[-1] + 1 if ends else 0
                most = _most(text.rpartition("\n")[2] for text in at_start if "\n" in text)
                del units[first + most :]
            if before is not None:
                stop = ends[0] if ends else len(units)
                most = _most(text.splitlines()[0] for text in at_end if "\n" in text)
                del units[: max(0, stop - most)]
        else:
            del units[_most(b for gap in gaps or (*at_end, *at_start) for b in _BLANKS(gap)) :]
        lacking = self._apart(gaps or (*at_end, *at_start))
        is_glued = bool(lacking and not units and behind is not None)
        if before is not None and (is_glued or ("\n" in lacking and not ends)):
            units = [_Piece(lacking, _NOWHERE)]
        yield from units

    def _apart(self, gaps: Iterable[str]) -> str:
        """Return what of the white space in these gaps holds words apart least: nothing, a blank,
        or a line end."""
        found = [_END.search(gap) or _BLANK.search(gap) for gap in gaps]
        apart = ["" if match is None else match[0] for match in found]
        return min(apart, key=lambda text: ("\n" in text, len(text)), default="")

    def _behind(self, places: _Place) -> list[str]:
        """Return the white space behind a place in each text that has it."""
        found = []
        for text, place in zip(self._texts, places, strict=True):
            match = _SPACE.match(text, max(0, place))
            if place >= 0 and match is not None:
                found.append(match[0] if match.end() < len(text) else match[0] + self._end)
        return found

    def _before(self, places: _Place) -> list[str]:
        """Return the white space before a place in each text that has it."""
        found = []
        for text, place in zip(self._texts, places, strict=True):
            if place >= 0:
                start = max(0, place - _WORD_MAX)
                near = text[start:place]
                gap = near[len(near.rstrip()) :]
                found.append(gap if start or len(gap) < len(near) else self._end + gap)
        return found


def _most(blanks: Iterable[str]) -> int:
    return max(map(len, blanks), default=0)


def blanks_too_many(base: str, mine: str, merged: str) -> list[Edit]:
    """Return the edits of `merged` that delete blanks which stand there twice because words that
    `mine` put into `base` met what others changed meanwhile: each side brought its own.

    Of such blanks the first stays, so that all who see them delete the same.
    """
    found = list(_DOUBLE.finditer(merged))
    if not found:
        return []
    back: list[Edit] = []
    gained = 0
    for start, stop, words in minimal_edits(mine, merged):
        place = start + gained
        back.append((place, place + len(words), mine[start:stop]))
        gained += len(words) - (stop - start)
    before = _Side(merged, back)
    put_in = [
        range(place, place + len(words))
        for (_, _, words), place in _Side(base, minimal_edits(base, mine)).put_in()
    ]
    edits: list[Edit] = []
    for run in found:
        sides = (before.kept(at, at + 1) for at in (run.start() - 1, run.end()))
        places = [side[0] for side in sides if side is not None]
        if any(place in piece for place in places for piece in put_in):
            gap = mine[places[0] + 1 : places[1]] if len(places) == 2 else " "
            stop = run.start() + _most(_BLANKS(gap))
            if run[0] not in gap and stop > run.start():
                edits.append((stop, run.end(), ""))
    return edits


def missing_ends(base: str, mine: str, merged: str) -> list[Edit]:
    """Return the edits of `merged` that end the last line of one of two texts, where another stands
    behind it: `mine`, made of `base`, and what others put in meanwhile. `base` ended with a whole
    line, so that both begin with one."""
    if base and not base.endswith("\n"):
        return []
    end = "\r\n" if "\r\n" in merged else "\n"
    made = minimal_edits(base, mine)
    tail = made[-1][2] if made and made[-1][:2] == (len(base), len(base)) else ""
    edits: list[Edit] = []
    gained = 0
    for start, stop, words in minimal_edits(mine, merged):
        place = start + gained
        gained += len(words) - (stop - start)
        if start < stop or not words:
            continue
        if start == len(mine) and not mine.endswith("\n") and not words[0].isspace():
            edits.append((place, place, end))
        elif tail and start == len(mine) - len(tail) and not words.endswith("\n"):
            edits.append((place + len(words), place + len(words), end))
    return edits


def glued_words(base: str, mine: str, merged: str) -> list[Edit]:
    """Return the edits of `merged` that part words which `mine` put into `base` from those that
    others, who did not know `mine`, put right beside them, or let come there as they deleted words
    of the same line: by the line end or blank that was there."""
    put_in = [
        (word.start(), word.end())
        for (_, _, words), place in _Side(base, minimal_edits(base, mine)).put_in()
        for word in _WHOLE_WORD.finditer(mine, place, place + len(words))
        if not mine[word.end() : word.end() + 1].strip()
    ]
    firsts, lasts = {start for start, _ in put_in}, {stop for _, stop in put_in}
    end = "\r\n" if "\r\n" in merged else "\n"
    apart: list[Edit] = []
    gained = 0
    for start, stop, words in (made := minimal_edits(mine, merged) if put_in else []):
        if start in lasts and _LETTER.fullmatch(words[:1]):
            apart.append((start + gained, start + gained, mine[start : start + 1]))
        gained += len(words) - (stop - start)
        if stop in firsts and _LETTER.fullmatch(words[-1:]):
            apart.append((stop + gained, stop + gained, mine[max(0, stop - 1) : stop]))
    glued = apart or _glued(put_in, mine, merged, made)
    return [(at, at, end if gap in "\r\n" else gap) for at, _, gap in glued]


def _glued(put_in: list[_Range], mine: str, merged: str, made: list[Edit]) -> Iterator[Edit]:
    """Give where in `merged` words `put_in` are one with others of `mine`, and what was between."""
    had, has = {*_WHOLE_WORD.findall(mine)}, Counter(_WHOLE_WORD.findall(merged))
    lost = Counter(mine[a:b] for a, b in put_in) - has
    ends = [end.start() for end in _END.finditer(mine)]
    cut = {bisect_left(ends, i) for a, b, _ in made if lost for i in range(a, b) if mine[i].strip()}
    beside = ((a, b) for a, b in put_in if bisect_left(ends, a) in cut and mine[a:b] in lost)
    gaps = {mine[a:b]: (mine[a - 1 : a], mine[b : b + 1]) for a, b in beside}
    for found in _WHOLE_WORD.finditer(merged) if gaps else ():
        word = found[0]
        for i in range(1, 0 if word in had or len(word) > 2 * _WORD_MAX else len(word)):
            one, other = word[:i], word[i:]
            if one in had and other in had and (one in gaps or other in gaps):
                at = found.start() + i
                yield at, at, gaps[one][1] if one in gaps else gaps[other][0]
                break


# -- edits -----------------------------------------------------------------------------------


def _edits_of(current: str, pieces: Iterable[_Piece]) -> list[Edit]:
    """Return the edits that make of `current` what these pieces are together."""
    edits: list[Edit] = []
    at, words = 0, ""
    for text, (_, place, _) in (*pieces, _Piece("", (-1, len(current), -1))):
        if place < 0:
            words += text
            continue
        if current[at:place] != words:
            edits.append((at, place, words))
        at, words = place + len(text), ""
        if not current.startswith(text, place):  # a line end that became another
            at = place + (2 if current.startswith("\r", place) else 1)
            edits.append((place, at, text))
    return edits
