"""Records: the databases of a data folder, their keys, and the checksums of their values.

| database | key | value |
| --- | --- | --- |
| meta | `version` | the format's version in decimal |
| meta | `n` name | number of the phext, 4 bytes |
| meta | `k` number | how many scrolls the phext has, 8 bytes |
| meta | `c` name | the client id that this node writes the phext under, 8 bytes |
| names | number | name of the phext, once more |
| heads | number, key | fingerprint, bytes of text, digest of the content |
| states | number, key | the state that replaced all updates before it |
| logs | number, key, sequence number | time, origin, update |
| damaged | number, key | nothing: this scroll was set aside |
| damaged | number, key, `state` or sequence number | what was set aside of it |
| meta | `history` | how long history is kept and since when, in ms, 8 bytes each; absent: none is |
| meta | `policy` | settings of history for ranges: `Retention.encode_ranges`; absent: none |
| history | number, key, number of the piece | log entries that were folded into the state |
| notes | what another part of the library chose | what it has to remember together with scrolls |

A key is the 12 bytes of a coordinate; number and key together are the *place* of a scroll. Every
value ends with its checksum, which covers the database and the key as well, so that a value under
another key is as bad as a changed one. A head names the state and the log entries that belong to
it, so that none can be missing or old unnoticed. It does not name the history: no scroll depends on
that. A file without that database has none; so it is with the notes.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from typing import Final

import xxhash

from phextsync.errors import StoreDamagedError, StoreVersionError
from phextsync.index import Coordinate
from phextsync.phext_names import is_reserved
from phextsync.store.contract import LogEntry, StoredScroll
from phextsync.store.pages import PAGE_BYTES, PageFile

FORMAT_VERSION: Final = 2
"""1 had checksums of the bytes alone, and heads that did not name their content."""

META, NAMES, HEADS, STATES = b"meta", b"names", b"heads", b"states"
LOGS, DAMAGED, HISTORY, NOTES = b"logs", b"damaged", b"history", b"notes"
DATABASES: Final = (META, NAMES, HEADS, STATES, LOGS, DAMAGED, HISTORY, NOTES)
HISTORY_KEPT: Final = b"history"
HISTORY_RANGES: Final = b"policy"
KEPT: Final = struct.Struct(">QQ")

PLACE_BYTES: Final = 16
STATE_SUFFIX: Final = b"state"
HEAD: Final = struct.Struct(">32sIQ")
HEAD_BYTES: Final = HEAD.size

_LOG: Final = struct.Struct(">QB")
_HEAD_1: Final = struct.Struct(">32sI")
_CHECKSUM_BYTES: Final = 8


def seal(database: bytes, key: bytes, body: bytes) -> bytes:
    """Return a value: `body` with its checksum."""
    seed = xxhash.xxh3_64_intdigest(database + key)
    return body + xxhash.xxh3_64_digest(body, seed=seed)


def unseal(database: bytes, key: bytes, value: bytes) -> bytes:
    """Return the body of a value. StoreDamagedError when its checksum is another."""
    body = value[:-_CHECKSUM_BYTES]
    seed = xxhash.xxh3_64_intdigest(database + key)
    if xxhash.xxh3_64_digest(body, seed=seed) != value[-_CHECKSUM_BYTES:]:
        raise StoreDamagedError("its bytes do not have their checksum")
    return body


def add_content(content: int, value: bytes) -> int:
    """Return the digest of a content with one more value, a state first, then log entries."""
    return xxhash.xxh3_64_intdigest(value[-_CHECKSUM_BYTES:], seed=content)


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies at one place: sealed values, in the format of today. `problem` says what is wrong
    with the scroll; then only values with a good checksum are here."""

    place: bytes
    head: bytes | None
    state: bytes | None
    log: tuple[tuple[bytes, bytes], ...]
    problem: str = ""

    @property
    def number(self) -> bytes:
        """The number of its phext."""
        return self.place[:4]

    @property
    def key(self) -> bytes:
        """Its coordinate."""
        return self.place[4:]


class Records:
    """The records of a file in any format that this library has written, read page by page.

    StoreVersionError when a newer one wrote it; StoreDamagedError when there is no root record.
    """

    def __init__(self, open_file: Callable[[], PageFile]) -> None:
        self._open_file = open_file
        self.problems: list[str] = []
        meta = dict(self.pairs(META))
        version = _version(meta.get(b"version"))
        if version is None:
            self._note("the version of its format cannot be read")
        self.version = version or FORMAT_VERSION
        bodies: dict[bytes, bytes] = {}
        for key, value in meta.items():
            body = self._body(META, key, value)
            if body is not None:
                bodies[key] = body
            else:
                self._note(f"a record of {META.decode()} does not have its checksum")
        names = {body: key[1:] for key, body in bodies.items() if key[:1] == b"n"}
        for number, value in self.pairs(NAMES):
            body = self._body(NAMES, number, value)
            if body is not None:
                names.setdefault(number, body)
        self.names = {number: name.decode("utf-8", "replace") for number, name in names.items()}
        self.counts = {
            key[1:]: int.from_bytes(body, "big") for key, body in bodies.items() if key[:1] == b"k"
        }
        self.receipts = {key: body for key, body in bodies.items() if key[:1] == b"r"}
        kept = (HISTORY_KEPT, HISTORY_RANGES)
        self.retention = {key: bodies[key] for key in kept if key in bodies}
        self.is_count_known = not self.problems

    @property
    def expected(self) -> int:
        """How many scrolls there should be."""
        if self.version == 1:
            return self._open_file().entries(HEADS)
        return sum(self.counts.values())

    def check_pages(self) -> None:
        """Add to `problems` what is wrong with the file's structure."""
        for problem in self._open_file().check():
            self._note(problem)

    def used_bytes(self) -> int:
        """Return the bytes of the pages that hold something: the others are free for writes."""
        file = self._open_file()
        file.check()
        return file.used_pages * PAGE_BYTES

    def scrolls(self, lower: bytes = b"", upper: bytes | None = None) -> Iterator[Stored]:
        """Iterate in order over what lies at each place from `lower`, included, to `upper`,
        excluded, sound or not."""
        streams = [self._ranked(name, lower, upper) for name in (HEADS, STATES, LOGS)]
        for place, group in groupby(merge(*streams), key=lambda found: found[0]):
            if len(place) == PLACE_BYTES:
                yield self._stored(place, [found[1:] for found in group])

    def set_aside(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and values of `damaged`; of those with a bad checksum only the place
        comes over."""
        for key, value in self.pairs(DAMAGED):
            place = key[:PLACE_BYTES]
            yield place, seal(DAMAGED, place, b"")
            is_state = key[PLACE_BYTES:] == STATE_SUFFIX
            database, own = (STATES, place) if is_state else (LOGS, key)
            body = self._body(database, own, value)
            if body is not None:
                yield key, seal(database, own, body)

    def heads(self, number: bytes) -> Iterator[tuple[bytes, bytes, int]]:
        """Iterate in order over key, fingerprint and size of the scrolls of a phext, without those
        whose head is damaged."""
        for place, value in self.pairs(HEADS, number, behind(number)):
            body = self._body(HEADS, place, value)
            if body is None or len(body) < _HEAD_1.size:
                self._note(f"{self.place_name(place)}: its head is damaged")
            else:
                yield place[4:], *_HEAD_1.unpack(body[: _HEAD_1.size])

    def histories(
        self, lower: bytes = b"", upper: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Iterate over keys and sealed values of `history`; one that is damaged is None."""
        for key, value in self.pairs(HISTORY, lower, upper):
            yield key, None if self._body(HISTORY, key, value) is None else value

    def notes(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Iterate in order over keys, those with a prefix, and sealed values of `notes`, without
        those that are damaged."""
        for key, value in self.pairs(NOTES, prefix, behind(prefix)):
            if self._body(NOTES, key, value) is not None:
                yield key, value

    def is_users(self, stored: Stored) -> bool:
        """Whether a sound scroll has text, and not one of the library's own."""
        name = self.names.get(stored.number, "")
        has_text = stored.head is not None and HEAD.unpack(stored.head[:HEAD_BYTES])[1] > 0
        return has_text and not is_reserved(name)

    def name(self, stored: Stored) -> str:
        """Return the phext and the coordinate of a place, for people."""
        return self.place_name(stored.place)

    def place_name(self, place: bytes) -> str:
        """Return the phext and the coordinate of a place, for people."""
        phext = self.names.get(place[:4], f"phext number {int.from_bytes(place[:4])}")
        return f"{phext} {coordinate_text(place[4:])}"

    def _ranked(
        self, database: bytes, lower: bytes, upper: bytes | None
    ) -> Iterator[tuple[bytes, int, bytes, bytes]]:
        rank = (HEADS, STATES, LOGS).index(database)
        for key, value in self.pairs(database, lower, upper):
            yield key[:PLACE_BYTES], rank, key, value

    def pairs(
        self, database: bytes, lower: bytes = b"", upper: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate in order over keys and values of a database as they are, checked or not."""
        file = self._open_file()
        yield from file.pairs(database, lower, upper)
        for problem in file.problems:
            self._note(problem)

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _body(self, database: bytes, key: bytes, value: bytes) -> bytes | None:
        if self.version == 1:
            if database == META:
                return value
            body = value[:-_CHECKSUM_BYTES]
            return body if xxhash.xxh3_64_digest(body) == value[-_CHECKSUM_BYTES:] else None
        try:
            return unseal(database, key, value)
        except StoreDamagedError:
            return None

    def _stored(self, place: bytes, found: list[tuple[int, bytes, bytes]]) -> Stored:
        head, state, problem = None, None, ""
        log: list[tuple[bytes, bytes]] = []
        for rank, key, value in found:
            database = (HEADS, STATES, LOGS)[rank]
            body = self._body(database, key, value)
            if body is None:
                problem = problem or f"the checksum of its {_PARTS[database]} is wrong"
            elif database == HEADS:
                head = body
            elif database == STATES:
                state = seal(STATES, key, body)
            else:
                if int.from_bytes(key[PLACE_BYTES:], "big") != len(log):
                    problem = problem or "an update is missing from its log"
                log.append((key, seal(LOGS, key, body)))
        sealed, mismatch = self._head(place, head, content_of(state, (v for _, v in log)))
        return Stored(place, sealed, state, tuple(log), problem or mismatch)

    def _head(self, place: bytes, body: bytes | None, content: int) -> tuple[bytes | None, str]:
        """Return the head, sealed, and what is wrong with it."""
        if body is None:
            return None, "its head is missing"
        if self.version == 1 and len(body) == _HEAD_1.size:
            body = HEAD.pack(*_HEAD_1.unpack(body), content)
        if len(body) != HEAD_BYTES or HEAD.unpack(body)[2] != content:
            return None, "its state or log is not the one that its head names"
        return seal(HEADS, place, body), ""


_PARTS: Final = {HEADS: "head", STATES: "state", LOGS: "log"}


def content_of(state: bytes | None, log: Iterable[bytes]) -> int:
    """Return the digest of a content from its sealed values."""
    content = 0 if state is None else add_content(0, state)
    for value in log:
        content = add_content(content, value)
    return content


def behind(prefix: bytes) -> bytes | None:
    """Return the least key behind all that begin with `prefix`, None when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def is_coordinate(key: bytes) -> bool:
    """Whether a key, of which a checksum does not tell, is that of a coordinate."""
    try:
        Coordinate.from_key(key)
    except ValueError:
        return False
    return True


def write_entry(entry: LogEntry) -> bytes:
    """Return the body of a log entry."""
    return _LOG.pack(entry.time_ms, len(entry.origin)) + entry.origin + entry.update


def read_entry(body: bytes) -> LogEntry:
    """Return the log entry of a body."""
    time_ms, origin_bytes = _LOG.unpack_from(body)
    start = _LOG.size + origin_bytes
    return LogEntry(body[start:], body[_LOG.size : start], time_ms)


def updates_of(stored: Stored) -> tuple[bytes, ...]:
    """Return the updates that together make a scroll of `Records`."""
    return scroll_of(stored).updates


def scroll_of(stored: Stored) -> StoredScroll:
    """Return a scroll of `Records` that is sound."""
    state = None if stored.state is None else unseal(STATES, stored.place, stored.state)
    log = tuple(read_entry(unseal(LOGS, key, value)) for key, value in stored.log)
    return StoredScroll(state, log)


def coordinate_text(key: bytes) -> str:
    """Return the coordinate of a key for people, in hexadecimal when it is none."""
    return str(Coordinate.from_key(key)) if is_coordinate(key) else key.hex()


def _version(value: bytes | None) -> int | None:
    """Return the version of the format, None when it cannot be read."""
    if value == b"1":
        return 1
    if value is None:
        return None
    try:
        text = unseal(META, b"version", value)
    except StoreDamagedError:
        return None
    version = int(text)
    if version > FORMAT_VERSION:
        raise StoreVersionError(
            f"expected a store of format {FORMAT_VERSION} or older, found format {version}: "
            "install the newer phextsync that wrote it"
        )
    return version
