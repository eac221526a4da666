"""Range-based set reconciliation between two coordinate indexes.

Two sides take turns. A message covers its scope in ascending order by parts, each `[lower,
upper)` with what the sender has there: a fingerprint, or the list of its entries.
The receiver answers a fingerprint that differs by splitting the range at places of its own or,
where it has few entries, by its list; a list ends its range, because its receiver can tell every
difference. Finding d differences among n costs O(d log n) bytes and O(log n) turns, and opens no
scroll. (A. Meyer, "Range-Based Set Reconciliation", SRDS 2023.)

It ends: an answer to a fingerprint is either a list or consists of ranges with strictly fewer of
the answerer's entries, since it is split only when it has more entries than `list_max` >= 2.

Under a `key` of 16 bytes, digests are those of SipHash under it instead of fingerprints: whoever
chose texts before both sides drew the key together could not foresee them. Costs O(entries).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate, CoordinateIndex, CoordinateRange

ROOT_DIGEST_BYTES: Final = 16
_RANGE_DIGEST_BYTES: Final = 8
_ENTRY_DIGEST_BYTES: Final = 8
_KEY_BYTES: Final = 12
_FINGERPRINT, _LIST, _ROOT = range(3)
_ROOT_MESSAGE_BYTES_MAX: Final = 64
_UNBOUNDED: Final = 13  # in place of a length of at most 12: no bound above


@dataclass(frozen=True, slots=True)
class Parameters:
    """`branches`: ranges that a differing range is split into. `list_max`: entries up to which
    they are listed instead. `bytes_max`: size of one message; what does not fit waits, and is
    covered by one fingerprint."""

    branches: int = 16
    list_max: int = 32
    bytes_max: int = 256 << 10


@dataclass(slots=True)
class Differences:
    """What one step found: scrolls that only we have, that only they have, that differ; and
    whole ranges of which they have nothing."""

    ours: list[Coordinate]
    theirs: list[Coordinate]
    changed: list[Coordinate]
    our_ranges: list[CoordinateRange]

    @property
    def is_empty(self) -> bool:
        return not (self.ours or self.theirs or self.changed or self.our_ranges)


def digest(count: int, fingerprint_sum: bytes) -> bytes:
    """Return 16 bytes that stand for a range: BLAKE2b-128 of its sum and its count."""
    return blake2b(fingerprint_sum + count.to_bytes(8, "big"), digest_size=16).digest()


def range_digest(index: CoordinateIndex, range_: CoordinateRange) -> tuple[int, bytes]:
    """Return count and digest of the entries in `range_`."""
    count, fingerprint_sum = index.fingerprint(range_)
    return count, digest(count, fingerprint_sum)


def scope_digest(index: CoordinateIndex, scope: Sequence[CoordinateRange]) -> tuple[int, bytes]:
    """Return count and digest of the entries in disjoint ranges."""
    if len(scope) == 1:
        return range_digest(index, scope[0])
    count, total = 0, 0
    for range_ in scope:
        part, fingerprint_sum = index.fingerprint(range_)
        count += part
        total += int.from_bytes(fingerprint_sum, "big")
    return count, digest(count, (total % (1 << 256)).to_bytes(32, "big"))


def first_step(
    index: CoordinateIndex,
    scope: Sequence[CoordinateRange],
    parameters: Parameters,
    key: bytes | None = None,
) -> bytes:
    """Return the message that opens a reconciliation of the ranges in `scope`."""
    writer = _Writer(parameters, key)
    for range_ in scope:
        count = index.count(range_)
        if 0 < count <= parameters.list_max:
            writer.list(range_, _entries(index, range_, key), count)
        else:
            writer.root(range_, *_digest(index, range_, key))
    return writer.finish()


def next_step(
    index: CoordinateIndex, message: bytes, parameters: Parameters, key: bytes | None = None
) -> tuple[bytes | None, Differences]:
    """Answer one message: the next one, or None when nothing is open, and what was found.

    ProtocolError when the message is malformed.
    """
    writer = _Writer(parameters, key)
    found = Differences([], [], [], [])
    for range_, mode, count, payload in _read(message):
        if mode == _LIST:
            _compare_list(index, range_, payload, found, key)
        else:
            _compare_fingerprint(index, range_, count, payload, writer, found)
    return (None if writer.is_idle else writer.finish()), found


def count_of_root(message: bytes) -> int | None:
    """Return how many entries their sender has if `message` is one root of everything."""
    parts = list(_read(message)) if len(message) < _ROOT_MESSAGE_BYTES_MAX else []
    if len(parts) == 1 and parts[0][0].is_everything and parts[0][1] == _ROOT:
        return parts[0][2]
    return None


def _digest(
    index: CoordinateIndex, range_: CoordinateRange, key: bytes | None
) -> tuple[int, bytes]:
    if key is None:
        return range_digest(index, range_)
    return index.count(range_), index.audit(range_, key)


def _entries(index: CoordinateIndex, range_: CoordinateRange, key: bytes | None) -> bytes:
    return index.entries_packed(range_, _ENTRY_DIGEST_BYTES, key)


def _compare_fingerprint(
    index: CoordinateIndex,
    range_: CoordinateRange,
    count: int,
    theirs: bytes,
    writer: "_Writer",
    found: Differences,
) -> None:
    our_count, ours = _digest(index, range_, writer.key)
    if ours[: len(theirs)] == theirs and our_count == count:
        return
    if count == 0:
        found.our_ranges.append(range_)
    else:
        _describe(index, range_, our_count, writer)


def _describe(
    index: CoordinateIndex, range_: CoordinateRange, count: int, writer: "_Writer"
) -> None:
    """Write what we have in a range that differs, `count` entries."""
    parameters = writer.parameters
    if count <= parameters.list_max:
        writer.list(range_, _entries(index, range_, writer.key), count)
    elif writer.is_full:
        writer.fingerprint(range_, *_digest(index, range_, writer.key))
    else:
        for piece in _split(index, range_, count, parameters.branches):
            writer.fingerprint(piece, *_digest(index, piece, writer.key))


def _split(
    index: CoordinateIndex, range_: CoordinateRange, count: int, branches: int
) -> Iterator[CoordinateRange]:
    """Cut `range_` into `branches` ranges with equally many of our `count` entries."""
    first = index.rank(range_.lower)
    lower = range_.lower
    for branch in range(1, branches):
        position = first + branch * count // branches
        upper = _separator(index.select(position - 1), index.select(position))
        yield CoordinateRange(lower, upper)
        lower = upper
    yield CoordinateRange(lower, range_.upper)


def _separator(below: Coordinate, above: Coordinate) -> Coordinate:
    """Return the coordinate with the fewest parts other than 1 in (`below`, `above`]."""
    parts: list[int] = []
    for low, high in zip(below.parts, above.parts, strict=True):
        parts.append(high)
        if low != high:
            break
    return Coordinate(*parts, *[1] * (9 - len(parts)))


def _compare_list(
    index: CoordinateIndex,
    range_: CoordinateRange,
    payload: bytes,
    found: Differences,
    key: bytes | None,
) -> None:
    size = _KEY_BYTES + _ENTRY_DIGEST_BYTES
    theirs = {payload[i : i + 12]: payload[i + 12 : i + size] for i in range(0, len(payload), size)}
    if not theirs:
        found.our_ranges.append(range_)
        return
    packed = _entries(index, range_, key)
    for i in range(0, len(packed), size):
        place = packed[i : i + 12]
        other = theirs.pop(place, None)
        if other is None:
            found.ours.append(Coordinate.from_key(place))
        elif other != packed[i + 12 : i + size]:
            found.changed.append(Coordinate.from_key(place))
    for place in theirs:
        coordinate = _coordinate(place)
        if coordinate not in range_:
            raise ProtocolError(f"expected entries in {range_}, found {coordinate}")
        found.theirs.append(coordinate)


# -- bytes ---------------------------------------------------------------------------------
#
# message = *part
# part    = lower upper mode [count digest | count *entry]; a root has 16 bytes of digest
# bound   = length (1 byte) and that many bytes of the key, whose parts equal to 1 at the end are
#           left out; a lower bound of length 14 repeats the upper bound before it; 13 = no bound


_SAME: Final = 14


class _Writer:
    def __init__(self, parameters: Parameters, key: bytes | None) -> None:
        self.parameters = parameters
        self.key = key
        self.is_idle = True
        self._parts = bytearray()
        self._upper: Coordinate | None = None

    @property
    def is_full(self) -> bool:
        return len(self._parts) > self.parameters.bytes_max

    def fingerprint(self, range_: CoordinateRange, count: int, range_digest: bytes) -> None:
        self._range(range_, _FINGERPRINT)
        self._parts += _varint(count) + range_digest[:_RANGE_DIGEST_BYTES]

    def root(self, range_: CoordinateRange, count: int, range_digest: bytes) -> None:
        self._range(range_, _ROOT)
        self._parts += _varint(count) + range_digest

    def list(self, range_: CoordinateRange, entries: bytes, count: int) -> None:
        self._range(range_, _LIST)
        self._parts += _varint(count) + entries

    def finish(self) -> bytes:
        return bytes(self._parts)

    def _range(self, range_: CoordinateRange, mode: int) -> None:
        if self._upper is not None and range_.lower == self._upper:
            self._parts.append(_SAME)
        else:
            self._parts += _bound(range_.lower)
        self._parts += bytes([_UNBOUNDED]) if range_.upper is None else _bound(range_.upper)
        self._upper = range_.upper
        self._parts.append(mode)
        self.is_idle = False


def _read(message: bytes) -> Iterator[tuple[CoordinateRange, int, int, bytes]]:
    reader = _Reader(message)
    upper: Coordinate | None = None
    is_first = True
    while reader.left:
        if not is_first and upper is None:
            raise ProtocolError("expected the end of a comparison, found a range above all")
        length = reader.byte()
        lower = upper if length == _SAME and upper is not None else reader.bound(length)
        if not is_first and upper is not None and lower < upper:
            raise ProtocolError(f"expected a range from {upper} on, found {lower}")
        length = reader.byte()
        upper = None if length == _UNBOUNDED else reader.bound(length)
        if upper is not None and upper <= lower:
            raise ProtocolError(f"expected an upper bound above {lower}, found {upper}")
        is_first = False
        mode = reader.byte()
        range_ = CoordinateRange(lower, upper)
        if mode > _ROOT:
            raise ProtocolError(f"expected a mode below 3, found {mode}")
        count = reader.varint()
        sizes = (_RANGE_DIGEST_BYTES, count * (_KEY_BYTES + _ENTRY_DIGEST_BYTES), ROOT_DIGEST_BYTES)
        yield range_, mode, count, reader.take(sizes[mode])


class _Reader:
    def __init__(self, message: bytes) -> None:
        self._message = message
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._message) - self._position

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ProtocolError(f"expected {count} bytes in a comparison, found {self.left}")
        self._position += count
        return self._message[self._position - count : self._position]

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 56:
                raise ProtocolError("expected an integer of at most 8 bytes, found more")

    def bound(self, length: int) -> Coordinate:
        if length > _KEY_BYTES:
            raise ProtocolError(f"expected a bound of at most 12 bytes, found {length}")
        return _coordinate(self.take(length) + bytes(_KEY_BYTES - length), fill=True)


def _coordinate(key: bytes, *, fill: bool = False) -> Coordinate:
    """Read a key; with `fill`, its parts that are 0 stand for 1."""
    try:
        return Coordinate.from_key(key) if not fill else Coordinate(*_filled(key))
    except ValueError as error:
        raise ProtocolError(str(error)) from error


def _filled(key: bytes) -> list[int]:
    high, low = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
    parts = [high >> shift & 1023 for shift in (50, 40, 30, 20, 10, 0)]
    parts += [low >> shift & 1023 for shift in (20, 10, 0)]
    if high >> 60 or low >> 30:
        raise ProtocolError("expected a key of nine parts of 10 bits, found higher bits set")
    return [part or 1 for part in parts]


def _bound(coordinate: Coordinate) -> bytes:
    parts = list(coordinate.parts)
    for i in range(8, -1, -1):
        if parts[i] != 1:
            break
        parts[i] = 0
    high = low = 0
    for part in parts[:6]:
        high = high << 10 | part
    for part in parts[6:]:
        low = low << 10 | part
    key = (high.to_bytes(8, "big") + low.to_bytes(4, "big")).rstrip(b"\0")
    return bytes([len(key)]) + key


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
