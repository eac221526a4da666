"""Store records: what a memory store is, as lines of a scroll, and what its numbers mean. Pure
functions.

All stores lie in one phext. A store is the range of three parts, of which its id says the digits;
its record lies outside of it, at `1.1.1/` and these parts. A line of a record is a name and a value
in JSON, so that two who change different things apart do not meet; of two lines of one name the
greater counts.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, TypeAlias

from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.plain_values import read_json, read_json_at

STORES: Final = "memory-stores"
"""The phext in which they lie."""
RECORDS: Final = CoordinateRange.parse("1.1.1.*")

Parts: TypeAlias = tuple[int, int, int]

_STORE: Final = re.compile(r"memstore_(\d{9})")
_MEMORY: Final = re.compile(r"mem_(\d{27})")
_VERSION: Final = re.compile(r"memver_(\d{27})_(\d{1,15})")


class MissingError(PhextsyncError):
    """There is no such store, memory or version."""


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """A store. Times are milliseconds since 1970; `archived_ms` is None until it is archived."""

    parts: Parts
    name: str
    created_ms: int
    updated_ms: int
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    archived_ms: int | None = None

    @property
    def range(self) -> CoordinateRange:
        return range_of(self.parts)


def text_of(record: StoreRecord) -> str:
    """Return the lines of a record."""
    values: list[tuple[str, object]] = [
        ("name", record.name),
        ("description", record.description),
        ("created", record.created_ms),
        ("updated", record.updated_ms),
        *((f"metadata {json.dumps(key)}", value) for key, value in record.metadata.items()),
    ]
    if record.archived_ms is not None:
        values.append(("archived", record.archived_ms))
    return "".join(sorted(f"{name} {json.dumps(value)}\n" for name, value in values))


def read(parts: Parts, text: str) -> StoreRecord | None:
    """Return the store that a scroll tells of, None when it tells of none. What cannot be read does
    not count: anybody may have written it."""
    words: dict[str, str] = {}
    times: dict[str, int] = {}
    metadata: dict[str, str] = {}
    for row in sorted(text.splitlines()):
        name, _, rest = row.partition(" ")
        key = ""
        try:
            if name == "metadata":
                key, end = read_json_at(rest)
                rest = rest[end:]
            value = read_json(rest)
            json.dumps([key, value], ensure_ascii=False).encode()  # no door sends half a character
        except ValueError:
            continue
        match name, key, value:
            case "metadata", str(), str():
                metadata[key] = value
            case "name" | "description", "", str():
                words[name] = value
            case "created" | "updated" | "archived", "", int() if 0 <= value < 1 << 52:
                times[name] = max(value, times.get(name, 0))
    if not words.get("name"):
        return None
    created = times.get("created", 0)
    return StoreRecord(
        parts,
        words["name"],
        created,
        max(created, times.get("updated", 0)),
        words.get("description", ""),
        metadata,
        times.get("archived"),
    )


def new_parts(name: str, node_id: bytes, now_ms: int, attempt: int) -> Parts:
    """Return the parts of a new store, which no other node and no other time gives."""
    seed = b"".join((node_id, now_ms.to_bytes(8, "big"), attempt.to_bytes(4, "big"), name.encode()))
    digest = blake2b(seed, digest_size=6).digest()
    library, shelf, series = (int.from_bytes(digest[i : i + 2], "big") for i in (0, 2, 4))
    return 2 + library % 998, 1 + shelf % 999, 1 + series % 999


def range_of(parts: Parts) -> CoordinateRange:
    """Return the range in which the memories of a store lie."""
    return CoordinateRange.parse(".".join([*map(str, parts), "*"]))


def record_place(parts: Parts) -> Coordinate:
    """Return where the record of a store lies."""
    return Coordinate(1, 1, 1, *parts, 1, 1, 1)


def parts_at(place: Coordinate) -> Parts:
    """Return the parts of the store whose record lies at a place."""
    _, _, _, library, shelf, series, *_ = place.parts
    return library, shelf, series


# -- ids -----------------------------------------------------------------------------------


def store_id(parts: Parts) -> str:
    return "memstore_" + _digits(parts)


def memory_id(place: Coordinate) -> str:
    return "mem_" + _digits(place.parts)


def version_id(place: Coordinate, time_ms: int) -> str:
    return f"memver_{_digits(place.parts)}_{time_ms}"


def parts_of(text: str) -> Parts:
    """Return the parts of the store of an id. MissingError when there can be no such store."""
    found = _STORE.fullmatch(text)
    if found is not None:
        library, shelf, series = _numbers(found[1])
        if library > 1 and shelf and series:
            return library, shelf, series
    raise MissingError(f"expected the id of a memory store, found {text:.80}")


def place_of(text: str, store: StoreRecord) -> Coordinate:
    """Return the scroll of the memory of an id. MissingError when it is none of the store's."""
    found = _MEMORY.fullmatch(text)
    return _place(found and found[1], store, "memory", text)


def version_of(text: str, store: StoreRecord) -> tuple[Coordinate, int]:
    """Return the scroll and the time of the version of an id. MissingError as for `place_of`."""
    found = _VERSION.fullmatch(text)
    return _place(found and found[1], store, "version", text), int(found[2]) if found else 0


def _place(digits: str | None, store: StoreRecord, what: str, text: str) -> Coordinate:
    numbers = _numbers(digits or "")
    if numbers and all(numbers):
        place = Coordinate(*numbers)
        if place in store.range:
            return place
    raise MissingError(f"expected a {what} of {store_id(store.parts)}, found {text:.80}")


def _digits(parts: tuple[int, ...]) -> str:
    return "".join(f"{part:03}" for part in parts)


def _numbers(digits: str) -> list[int]:
    return [int(digits[i : i + 3]) for i in range(0, len(digits), 3)]
