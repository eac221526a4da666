"""Positions: places in a text by line and character, as editors say them, and changes by them.

Lines end with LF; characters are those of Unicode, not units of UTF-8 or UTF-16. Values of JSON.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from phextsync.edits import Edit, apply_edits
from phextsync.errors import ProtocolError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

EDITS_MAX: Final = 10_000
"""Edits in one change of an editor."""


class Places:
    """The lines of one text, by which places in it are found."""

    def __init__(self, text: str) -> None:
        self._starts = [0]
        self._size = len(text)
        at = text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = text.find("\n", at + 1)

    def offset(self, position: Json) -> int:
        """Return the offset of a position. A character behind the end of its line is that end, and
        the line behind the last one is the end of the text. ProtocolError for all else."""
        match position:
            case {"line": int(line), "character": int(character)} if line >= 0 and character >= 0:
                pass
            case _:
                raise ProtocolError(f"expected a line and a character, found {position!r:.80}")
        if line > len(self._starts):
            last = len(self._starts) - 1
            raise ProtocolError(f"expected a line from 0 to {last}, found {line}")
        if line == len(self._starts):
            return self._size
        is_last = line + 1 == len(self._starts)
        end = self._size if is_last else self._starts[line + 1] - 1
        return min(self._starts[line] + character, end)

    def position(self, offset: int) -> dict[str, Json]:
        """Return the position of an offset."""
        line = bisect_right(self._starts, offset) - 1
        return {"line": line, "character": offset - self._starts[line]}

    def range(self, start: int, stop: int) -> dict[str, Json]:
        """Return the range between two offsets."""
        return {"start": self.position(start), "end": self.position(stop)}

    def offsets(self, range_: Json) -> tuple[int, int]:
        """Return the offsets of the two ends of a range. ProtocolError when it is none."""
        match range_:
            case {"start": start, "end": end}:
                return self.offset(start), self.offset(end)
        raise ProtocolError(f"expected a range with start and end, found {range_!r:.80}")


def edits_of(text: str, delta: Json) -> list[Edit]:
    """Return the edits that a change by positions is. ProtocolError when it is none of `text`."""
    if not isinstance(delta, list):
        raise ProtocolError(f"expected a list of edits, found {delta!r:.80}")
    if len(delta) > EDITS_MAX:
        raise ProtocolError(f"expected at most {EDITS_MAX} edits, found {len(delta)}")
    places = Places(text)
    edits: list[Edit] = []
    for item in delta:
        match item:
            case {"range": range_, "replacement": str(words)}:
                start, stop = sorted(places.offsets(range_))
                edits.append((start, stop, words))
            case _:
                raise ProtocolError(f"expected a range and a replacement, found {item!r:.80}")
    edits.sort(key=lambda edit: edit[:2])  # what is put in at one place stays in order
    for before, edit in pairwise(edits):
        if edit[0] < before[1]:
            raise ProtocolError("expected edits that do not overlap, found two that do")
    return [edit for edit in edits if edit[2] or edit[0] < edit[1]]


def delta_of(text: str, edits: Iterable[Edit]) -> list[Json]:
    """Return edits of `text` as a change by positions."""
    places = Places(text)
    return [
        {"range": places.range(start, stop), "replacement": words} for start, stop, words in edits
    ]


def applied(text: str, delta: Json) -> str:
    """Return `text` after a change by positions, as an editor does it."""
    return apply_edits(text, edits_of(text, delta))
