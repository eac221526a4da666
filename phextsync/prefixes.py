"""Prefixes: the first of the nine numbers of a coordinate, and all that begins with them."""

from typing import Final, TypeAlias

from phextsync.errors import CoordinateError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.texts import DIMENSIONS

Prefix: TypeAlias = tuple[int, ...]

_GROUP: Final = 3  # numbers between slashes


def prefix_of(text: str) -> Prefix:
    """Read a prefix, such as `1.5.2/3`. CoordinateError when it is none."""
    parts = text.replace("/", ".").strip(".").split(".") if text.strip("./") else []
    if len(parts) > len(DIMENSIONS) or not all(
        part.isascii() and part.isdigit() and len(part) < 4 and int(part) for part in parts
    ):
        raise CoordinateError(f"expected up to nine numbers from 1 to 999, found {text!r:.60}")
    return tuple(map(int, parts))


def prefix_text(prefix: Prefix) -> str:
    """Return a prefix as it is read: groups of three."""
    groups = [prefix[i : i + _GROUP] for i in range(0, len(prefix), _GROUP)]
    return "/".join(".".join(map(str, group)) for group in groups)


def numbers_of(digest: bytes) -> list[int]:
    """Return the numbers of a place that follows from a digest: one of each two bytes."""
    return [1 + int.from_bytes(digest[i : i + 2]) % 999 for i in range(0, len(digest), 2)]


def range_of(prefix: Prefix) -> CoordinateRange:
    """Return the range of all that begins with a prefix."""
    if len(prefix) == len(DIMENSIONS):
        return CoordinateRange.of(Coordinate(*prefix))
    return CoordinateRange.parse(".".join([*map(str, prefix), "*"]))
