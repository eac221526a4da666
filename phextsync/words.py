"""Words: what of a text is put into the index of a search, what a query asks, what a hit shows.

Texts are folded first: letter case, accents, forms of one character (full width, ligatures) and
invisible characters (soft hyphens, joiners) make no difference. Then words are runs of letters
and digits. Scripts that write words without blanks between them have no such runs: there every two
characters that follow each other are indexed, and the last one alone, so that a word of any length
is a phrase of them (and one character the beginning of one), wherever it stands.

What is indexed is one line of folded words with blanks between them, for a tokenizer that knows
ASCII only. Its rules depend on the Unicode tables of Python: `RULES` changes with both.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from phextsync.errors import PhextsyncError

_UNICODE: Final = tuple(map(int, unicodedata.unidata_version.split(".")[:2]))
RULES: Final = 10_000 * 1 + 100 * _UNICODE[0] + _UNICODE[1]
"""A number for this way to index; what another one has indexed is to be indexed again."""
TERMS_MAX: Final = 64
WORDS_MAX: Final = 512
"""Words of a query, or pairs of characters: beyond them SQLite takes long or refuses."""

# Chinese, Japanese, Korean (whose particles hang on the word), Thai, Lao, Burmese, Khmer.
_UNPARTED: Final = (
    "\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3105-\u312f\u31a0-\u31bf"
    "\uac00-\ud7a3\u1100-\u11ff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u0edc-\u0edf"
    "\u1000-\u103f\u1050-\u109d\ua9e0-\ua9ef\uaa60-\uaa7f\u1780-\u17d3\u17d7\u17dc\u17dd"
)
_ACCENTS: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
    "\ufe00-\ufe0f\ufe20-\ufe2f]"
)
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
# Letters with a stroke and the like, which Unicode does not take apart; the Turkish i without a
# dot, whose capital is that of the i with one.
_ALIKE: Final = str.maketrans(
    {
        "\u0131": "i",
        "\u0142": "l",
        "\u00f8": "o",
        "\u0111": "d",
        "\u0127": "h",
        "\u0167": "t",
        "\u00e6": "ae",
        "\u0153": "oe",
        "\u00fe": "th",
    }
)
_TERM: Final = re.compile(r'"([^"]*)"|(\S+)')
_OR: Final = "|"
ROUGHLY: Final = "~"
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SHOWN_BEFORE: Final = 40  # characters
_SHOWN: Final = 120
_LOOKED_AT: Final = 1 << 18  # characters of a text, for the place to show


@dataclass(frozen=True, slots=True)
class Query:
    """A query in the language of FTS5, empty when it asks for nothing; the terms of which one is
    enough, if that is all it asks; whether it is to be answered roughly; and the folded words, of
    which those of `beginnings` are beginnings."""

    match: str
    is_rough: bool
    alternatives: tuple[str, ...]
    words: frozenset[str]
    runs: tuple[str, ...]
    beginnings: tuple[str, ...]


def folded(text: str) -> str:
    """Return a text without what makes no difference to a search."""
    if text.isascii():
        return text.lower()
    visible = _INVISIBLE.sub("", text)
    taken_apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", visible).casefold())
    # Marks that are not accents (voiced kana, Hangul) are put together again.
    return unicodedata.normalize("NFC", _ACCENTS.sub("", taken_apart).translate(_ALIKE))


def indexed(text: str) -> str:
    """Return what is indexed of a text."""
    if text.isascii():
        return text.lower().replace("\0", " ")
    pieces: list[str] = []
    for piece in _pieces(folded(text)):
        if _is_unparted(piece):
            pieces += _pairs(piece)
        else:
            pieces.append(piece)
    return " ".join(pieces)


def query(text: str) -> Query:
    """Read what a user asks for: words, `"several words"` that follow each other, `wor*`, which is
    the beginning of one; with `|` between them, what is on one side is enough; `~` asks for a rough
    answer. PhextsyncError when it is too much."""
    sides: list[list[str]] = [[]]
    words: list[str] = []
    runs: list[str] = []
    beginnings: list[str] = []
    count, is_rough = 0, False
    for phrase, word in _TERM.findall(_CONTROLS.sub(" ", text)):
        is_rough |= word == ROUGHLY
        if word == _OR:
            sides.append([])
        pieces = list(_pieces(folded(phrase or word)))
        if not pieces:
            continue
        tokens, is_beginning = _phrase(pieces)
        is_beginning |= word.endswith("*")
        for piece in pieces:
            (runs if _is_unparted(piece) else words).append(piece)
        if word.endswith("*") and not _is_unparted(pieces[-1]):
            beginnings.append(pieces[-1])
        sides[-1].append(f'"{" ".join(tokens)}"' + ("*" if is_beginning else ""))
        count += len(tokens)
    terms = sum(map(len, sides))
    if terms > TERMS_MAX or count > WORDS_MAX:
        raise PhextsyncError(
            f"expected at most {TERMS_MAX} terms of {WORDS_MAX} words in all to search for, "
            f"found {terms} of {count}"
        )
    asked = [side for side in sides if side]
    match = " OR ".join(" ".join(side) for side in asked)
    alternatives = tuple(side[0] for side in asked) if terms == len(asked) else ()
    return Query(match, is_rough, alternatives, frozenset(words), tuple(runs), tuple(beginnings))


def snippet(text: str, asked: Query) -> str:
    """Return the place of a text that has most of what was asked for, in brackets; its beginning
    when what was found is far after it."""
    spans = list(_spans(text[:_LOOKED_AT], asked))
    start = max(0, _best_start(spans) - _SHOWN_BEFORE)
    if start > 0:  # after a blank that is near, if there is one
        blank = text.find(" ", start, start + _SHOWN_BEFORE // 2)
        start = blank + 1 if blank >= 0 else start
    end = min(len(text), start + _SHOWN)
    shown, at = ["…" if start else ""], start
    for left, right, _ in spans:
        if start <= left and right <= end:
            shown += [text[at:left], "[", text[left:right], "]"]
            at = right
    return "".join((*shown, text[at:end], "…" if end < len(text) else ""))


def _best_start(spans: list[tuple[int, int, str]]) -> int:
    """Return where the first of the windows begins that show most of the words."""
    best, best_count = 0, 0
    for i, (left, _, _) in enumerate(spans[:1000]):
        found = {word for at, _, word in spans[i : i + 30] if at < left + _SHOWN - _SHOWN_BEFORE}
        if len(found) > best_count:
            best, best_count = left, len(found)
    return best


def _spans(text: str, asked: Query) -> Iterator[tuple[int, int, str]]:
    """Give the places of a text where something stands that was asked for, and what."""
    for match in _pattern().finditer(text):
        piece = _folded_piece(match[0])
        if _is_unparted(piece) and len(piece) == len(match[0]):
            yield from _spans_of_run(match.start(), piece, asked)
        elif piece in asked.words or piece.startswith(asked.beginnings):
            yield match.start(), match.end(), piece


def _spans_of_run(start: int, piece: str, asked: Query) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(piece):
        run = next((run for run in asked.runs if piece.startswith(run, at)), None)
        if run is not None:
            yield start + at, start + at + len(run), run
        at += 1 if run is None else len(run)


def _phrase(pieces: list[str]) -> tuple[list[str], bool]:
    """Return the tokens of words that follow each other, and whether the last one is only the
    beginning of one: a run of characters may go on after what was asked for."""
    tokens: list[str] = []
    for piece in pieces[:-1]:
        tokens += _pairs(piece) if _is_unparted(piece) else [piece]
    last = pieces[-1]
    if not _is_unparted(last):
        return [*tokens, last], False
    if len(last) == 1:
        return [*tokens, last], True
    return [*tokens, *_pairs(last)[:-1]], False


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run))]


def _pieces(folded_text: str) -> Iterator[str]:
    return (match[0] for match in _pattern().finditer(folded_text))


@lru_cache(maxsize=4096)
def _folded_piece(piece: str) -> str:
    return folded(piece)


def _is_unparted(piece: str) -> bool:
    return not piece.isascii() and _unparted().match(piece) is not None


@cache
def _unparted() -> re.Pattern[str]:
    return re.compile(f"[{_UNPARTED}]")


@cache
def _pattern() -> re.Pattern[str]:
    """Runs without blanks, or words: letters and digits with the marks that belong to them and the
    characters that are not to be seen."""
    marks = _marks()
    letters = rf"[^\W_{_UNPARTED}]"
    return re.compile(
        rf"[{_UNPARTED}](?:[{_UNPARTED}]|[{_INVISIBLE_INSIDE}])*"
        rf"|{letters}(?:{letters}|[{marks}{_INVISIBLE_INSIDE}])*"
    )


_INVISIBLE_INSIDE: Final = "\u00ad\u200b-\u200f\u2060\ufeff"


@cache
def _marks() -> str:
    """Return the marks of all scripts as the inside of a class of characters."""
    unparted = _unparted()
    found = [
        chr(i)
        for i in range(0x300, 0x1E100)
        if unicodedata.category(chr(i))[0] == "M" and not unparted.match(chr(i))
    ]
    return "".join(found)
