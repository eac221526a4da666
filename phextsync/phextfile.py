""".phext text: nine break characters between scrolls. Reading, writing, and the usual operations.

A phext file is UTF-8 without header or escapes. Reading walks through it from the origin: a break
moves the coordinate on by one in its dimension and sets the smaller dimensions back to 1; what
stands between breaks is the text of the scroll there. Empty scrolls do not exist. Writing gives
the one canonical form: scrolls in order, as few breaks as possible, nothing after the last.
Operations on serialized text read it, change the scrolls and write the canonical form.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import xxhash

from phextsync.errors import PhextFileError
from phextsync.index import ORIGIN, Coordinate
from phextsync.texts import BREAKS

FILE_BYTES_MAX: Final = 512 << 20
"""SQ cuts what is larger, and nothing larger is read."""

_DIMENSION: Final = {character: dimension for dimension, character in enumerate(BREAKS)}
_RUN: Final = re.compile(f"[^{BREAKS}]+")
_PART_MAX: Final = 999
_SUMMARY_BYTES: Final = 32
_PICTURES: Final = {ord(character): 0x2400 + ord(character) for character in f"\0{BREAKS}"}


@dataclass(frozen=True, slots=True)
class Collision:
    """Several texts of a file at one coordinate, because breaks beyond 999 do not move it."""

    coordinate: Coordinate
    texts: int


@dataclass(frozen=True, slots=True)
class ParsedPhext:
    """The scrolls of a file in its order, and what collided; nothing collides in a strict read."""

    scrolls: tuple[tuple[Coordinate, str], ...]
    collisions: tuple[Collision, ...]

    def joined(self) -> dict[Coordinate, str]:
        """Return one text a coordinate; texts that collided are joined by line feeds."""
        texts: dict[Coordinate, list[str]] = {}
        for coordinate, text in self.scrolls:
            texts.setdefault(coordinate, []).append(text)
        return {coordinate: "\n".join(parts) for coordinate, parts in texts.items()}


def read(data: bytes, *, clamp: bool = False) -> ParsedPhext:
    """Read the bytes of a file. PhextFileError when they are not UTF-8 or hold a zero byte, and as
    `parse` raises."""
    if b"\0" in data:
        raise PhextFileError(
            f"expected text, found a zero byte at offset {data.index(0)}; leave it out"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise PhextFileError(
            f"expected UTF-8, found byte {data[error.start]:#04x} at offset {error.start}"
        ) from error
    return parse(text, clamp=clamp)


def parse(text: str, *, clamp: bool = False) -> ParsedPhext:
    """Read a phext. PhextFileError when text lies beyond 999; `clamp` puts it there instead, as
    other readers do, and reports the coordinates where texts collided."""
    place = _Place()
    scrolls: list[tuple[Coordinate, str]] = []
    at = 0
    for run in _RUN.finditer(text):
        place.move(text[at : run.start()])
        if place.is_beyond and not clamp:
            raise PhextFileError(
                f"expected coordinates up to {_PART_MAX}, found text beyond "
                f"{Coordinate(*place.parts)} at byte {len(text[: run.start()].encode())}"
            )
        scrolls.append((Coordinate(*place.parts), run[0]))
        at = run.end()
    counts: dict[Coordinate, int] = {}
    for coordinate, _ in scrolls:
        counts[coordinate] = counts.get(coordinate, 0) + 1
    collisions = tuple(Collision(c, count) for c, count in counts.items() if count > 1)
    return ParsedPhext(tuple(scrolls), collisions)


class _Place:
    """Where a reader stands: nine numbers that stop at 999, and which of them went beyond."""

    def __init__(self) -> None:
        self.parts = [1] * 9
        self._beyond = [False] * 9

    @property
    def is_beyond(self) -> bool:
        return any(self._beyond)

    def move(self, breaks: str) -> None:
        for character in breaks:
            dimension = _DIMENSION[character]
            if self.parts[dimension] < _PART_MAX:
                self.parts[dimension] += 1
            else:
                self._beyond[dimension] = True
            smaller = 8 - dimension
            self.parts[dimension + 1 :] = [1] * smaller
            self._beyond[dimension + 1 :] = [False] * smaller


def breaks_between(before: Coordinate, after: Coordinate) -> str:
    """Return the breaks that lead from one coordinate to a greater one."""
    old, new = before.parts, after.parts
    first = next((i for i in range(9) if old[i] != new[i]), 9)
    if first == 9:
        return ""
    smaller = (BREAKS[i] * (new[i] - 1) for i in range(first + 1, 9))
    return BREAKS[first] * (new[first] - old[first]) + "".join(smaller)


def explode(text: str) -> dict[Coordinate, str]:
    """Return the scrolls of a phext."""
    return dict(parse(text).scrolls)


def implode(scrolls: Mapping[Coordinate, str] | Iterable[tuple[Coordinate, str]]) -> str:
    """Return the canonical text of scrolls in any order; of equal coordinates the last one counts.

    A break or a zero byte in a text, which others may have brought, is written as its control
    picture (U+2401, ...): it cannot be escaped.
    """
    at = ORIGIN
    pieces: list[str] = []
    for coordinate, text in sorted(dict(scrolls).items()):
        if text:
            pieces += (breaks_between(at, coordinate), text.translate(_PICTURES))
            at = coordinate
    return "".join(pieces)


def implode_in_steps(scrolls: Iterable[tuple[Coordinate, str]]) -> Iterator[str]:
    """Iterate over the pieces of the canonical text of scrolls that come in order, without empty
    ones and two at one coordinate."""
    at = ORIGIN
    for coordinate, text in scrolls:
        yield breaks_between(at, coordinate) + text.translate(_PICTURES)
        at = coordinate


def parse_in_steps(pieces: Iterable[str]) -> Iterator[list[tuple[Coordinate, str]]]:
    """Read a phext that comes in pieces, as `parse` with `clamp` does; give the scrolls that end in
    each piece."""
    place = _Place()
    begun: list[str] = []
    for piece in pieces:
        ended: list[tuple[Coordinate, str]] = []
        at = 0
        for run in _RUN.finditer(piece):
            if run.start() > at:
                _end(place, begun, ended)
                place.move(piece[at : run.start()])
            begun.append(run[0])
            at = run.end()
        if at < len(piece):
            _end(place, begun, ended)
            place.move(piece[at:])
        yield ended
    last: list[tuple[Coordinate, str]] = []
    _end(place, begun, last)
    yield last


def _end(place: _Place, begun: list[str], ended: list[tuple[Coordinate, str]]) -> None:
    """Move the scroll that has begun to those that have ended."""
    if begun:
        ended.append((Coordinate(*place.parts), "".join(begun)))
        begun.clear()


def has_breaks(text: str) -> bool:
    """Whether `text` has break characters or zero bytes, which a file cannot hold."""
    return any(character in text for character in f"\0{BREAKS}")


def normalize(text: str) -> str:
    """Return the canonical form."""
    return implode(parse(text).scrolls)


def fetch(text: str, coordinate: Coordinate) -> str:
    """Return the scroll at `coordinate`, the empty text when there is none."""
    return explode(text).get(coordinate, "")


def replace(text: str, coordinate: Coordinate, new: str) -> str:
    """Return the phext with `new` as the scroll at `coordinate`."""
    return implode({**explode(text), coordinate: new})


def insert(text: str, coordinate: Coordinate, addition: str) -> str:
    """Return the phext with `addition` at the end of the scroll at `coordinate`."""
    scrolls = explode(text)
    return implode({**scrolls, coordinate: scrolls.get(coordinate, "") + addition})


def remove(text: str, coordinate: Coordinate) -> str:
    """Return the phext without the scroll at `coordinate`."""
    return replace(text, coordinate, "")


def merge(left: str, right: str) -> str:
    """Return both phexts in one; texts at one coordinate are joined, the left one first."""
    scrolls = explode(left)
    for coordinate, text in explode(right).items():
        scrolls[coordinate] = scrolls.get(coordinate, "") + text
    return implode(scrolls)


def textmap(text: str) -> str:
    """Return a line `* COORDINATE: SUMMARY` for each scroll."""
    return "".join(f"* {c}: {summary(scroll)}\n" for c, scroll in parse(text).scrolls)


def summary(text: str) -> str:
    """Return the first line, at most 32 bytes of whole characters, and `...` if more follows."""
    line = text.split("\n", 1)[0].encode()[:_SUMMARY_BYTES].decode("utf-8", "ignore")
    return line if line == text else line + "..."


def checksum(text: str) -> str:
    """Return XXH3-128 of the text in UTF-8, 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(text.encode())
