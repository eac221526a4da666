"""Inserts: the characters that updates brought, with their ids, and what they deleted.

An id is a client id and a clock, which counts units of UTF-16. Read from the bytes of updates that
were checked before, and written as such.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from phextsync.varints import varints

Id: TypeAlias = tuple[int, int]

_GARBAGE: Final = 0
_DELETED: Final = 1
_STRING: Final = 4
_FORMAT: Final = 6
_GAP: Final = 10
_HAS_LEFT: Final = 0x80
_HAS_RIGHT: Final = 0x40
_HAS_KEY: Final = 0x20
_KIND: Final = 0x1F


class Inserted(NamedTuple):
    """Characters that follow each other: the ids of the first one, and of those between which it
    was put. `text` is None where they were deleted when the update was made, "" for a format;
    `is_placed` is False where nothing but their number is left."""

    client: int
    clock: int
    units: int
    text: str | None
    left: Id | None
    right: Id | None
    is_placed: bool = True


class IdSet:
    """A set of ids, kept as ranges of clocks."""

    def __init__(self) -> None:
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._unsorted: set[int] = set()

    def add(self, client: int, start: int, stop: int) -> None:
        """Add the ids of a client from `start` to `stop`, which is excluded."""
        if start < stop:
            self._ranges.setdefault(client, []).append((start, stop))
            self._unsorted.add(client)

    def __contains__(self, id_: Id) -> bool:
        return any(self.within(*id_, id_[1] + 1))

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Iterate over clients and their ranges, ascending."""
        for client in sorted(self._ranges):
            for start, stop in self._of(client):
                yield client, start, stop

    def within(self, client: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Iterate over what is in the set of a range of clocks, ascending."""
        ranges = self._of(client)
        first = max(0, bisect_right(ranges, (start, start)) - 1)
        for lower, upper in ranges[first:]:
            if lower >= stop:
                return
            if upper > start:
                yield max(lower, start), min(upper, stop)

    def without(self, client: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Iterate over what is not in the set of a range of clocks, ascending."""
        for lower, upper in self.within(client, start, stop):
            if start < lower:
                yield start, lower
            start = upper
        if start < stop:
            yield start, stop

    def _of(self, client: int) -> list[tuple[int, int]]:
        if client in self._unsorted:
            self._unsorted.remove(client)
            merged: list[tuple[int, int]] = []
            for start, stop in sorted(self._ranges[client]):
                if merged and start <= merged[-1][1]:
                    merged[-1] = merged[-1][0], max(stop, merged[-1][1])
                else:
                    merged.append((start, stop))
            self._ranges[client] = merged
        return self._ranges.get(client, [])


def utf16_units(text: str) -> int:
    """Return by how much the clock of who writes a text goes on."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def read_inserts(update: bytes) -> tuple[list[Inserted], IdSet]:
    """Return what an update that was checked inserts, and what it deletes."""
    reader = _Reader(update)
    inserted: list[Inserted] = []
    for _ in range(reader.number()):
        structs, client, clock = reader.number(), reader.number(), reader.number()
        for _ in range(structs):
            kind, found = reader.struct(client, clock)
            clock += found.units
            if kind != _GAP:
                inserted.append(found)
    deleted = IdSet()
    for _ in range(reader.number()):
        client = reader.number()
        for _ in range(reader.number()):
            start = reader.number()
            deleted.add(client, start, start + reader.number())
    return inserted, deleted


def encode_inserts(inserted: Mapping[int, Sequence[Inserted]], deleted: IdSet) -> bytes:
    """Return an update that inserts texts, each between two characters of which one at least is
    there, and deletes ids. Those of one client follow each other by their clocks."""
    parts = [varints(len(inserted))]
    for client, of_client in sorted(inserted.items(), reverse=True):
        parts.append(varints(len(of_client), client, of_client[0].clock))
        parts += map(_encoded, of_client)
    ranges: dict[int, list[int]] = {}
    for client, start, stop in deleted:
        ranges.setdefault(client, []).extend((start, stop - start))
    parts.append(varints(len(ranges)))
    parts += [varints(client, len(of) // 2, *of) for client, of in sorted(ranges.items())]
    return b"".join(parts)


def ids_of(inserted: Iterable[Inserted]) -> IdSet:
    """Return the ids of what was inserted."""
    ids = IdSet()
    for each in inserted:
        ids.add(each.client, each.clock, each.clock + each.units)
    return ids


def _encoded(item: Inserted) -> bytes:
    assert item.text
    assert item.left or item.right
    info = _STRING | (_HAS_LEFT if item.left else 0) | (_HAS_RIGHT if item.right else 0)
    text = item.text.encode()
    ids = varints(*(item.left or ()), *(item.right or ()), len(text))
    return bytes([info]) + ids + text


class _Reader:
    """Reads the bytes of one update from the beginning on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self) -> str:
        size = self.number()
        self._at += size
        return self._data[self._at - size : self._at].decode()

    def struct(self, client: int, clock: int) -> tuple[int, Inserted]:
        info = self._data[self._at]
        self._at += 1
        kind = info & _KIND
        if kind in (_GARBAGE, _GAP):
            return kind, Inserted(client, clock, self.number(), None, None, None, is_placed=False)
        left = (self.number(), self.number()) if info & _HAS_LEFT else None
        right = (self.number(), self.number()) if info & _HAS_RIGHT else None
        if left is None and right is None:
            self._skip_parent(info)
        text: str | None = None
        if kind == _DELETED:
            units = self.number()
        elif kind == _STRING:
            text = self.text()
            units = utf16_units(text)
        else:
            assert kind == _FORMAT, "updates are checked before they are kept"
            self.text()
            self.text()
            text, units = "", 1
        return kind, Inserted(client, clock, units, text, left, right)

    def _skip_parent(self, info: int) -> None:
        if self.number():
            self.text()
        else:
            self.number()
            self.number()
        if info & _HAS_KEY:
            self.text()
