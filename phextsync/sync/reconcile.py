"""Range-based set reconciliation between two coordinate indexes.

Two sides take turns. A message covers its scope in ascending order by parts, each `[lower,
upper)` with what the sender has there: a fingerprint, or the list of its entries.
The receiver answers a fingerprint that differs by splitting the range at places of its own or,
where it has few entries, by its list; a list ends its range, because its receiver can tell every
difference. Finding d differences among n costs O(d log n) bytes and O(log n) turns, and opens no
scroll. (A. Meyer, "Range-Based Set Reconciliation", SRDS 2023.)

It ends: an answer to a fingerprint is either a list or consists of ranges with strictly fewer of
the answerer's entries, since it is split only when it has more entries than `list_max` >= 2. In a
message that is full it is one more fingerprint; the first of each message never is.

Under a `key` of 16 bytes, digests are those of SipHash under it instead of fingerprints: a peer
that chose texts before both sides drew the key together could not foresee them. Costs O(entries).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from typing import Final

from phextsync.errors import CoordinateError, ProtocolError
from phextsync.index import ORIGIN, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.ranges import holds
from phextsync.sync.messages import DIGEST_BYTES
from phextsync.varints import varints

_RANGE_DIGEST_BYTES: Final = 8
_FINGERPRINT, _LIST, _ROOT = range(3)
_COUNT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Parameters:
    """`branches`: ranges that a differing range is split into. `list_max`: entries up to which
    they are listed instead. `bytes_max`: a message that is larger is full: what is left waits, and
    of each range of it only a fingerprint is told. So a message is four times as large at most."""

    branches: int = 12
    list_max: int = 32
    bytes_max: int = 256 << 10

    def within(self, bytes_max: int) -> "Parameters":
        """Return the same for messages that are full at so many bytes at the latest."""
        return replace(self, bytes_max=min(self.bytes_max, bytes_max))


@dataclass(slots=True)
class Differences:
    """What one step found: scrolls that only we have, that only they have, that differ; and
    whole ranges of which they have nothing. `has_told_all`: our answer leaves nothing open, so
    that an empty one to it says that the peer has seen all."""

    ours: list[Coordinate]
    theirs: list[Coordinate]
    changed: list[Coordinate]
    our_ranges: list[CoordinateRange]
    has_told_all: bool = False

    @property
    def count(self) -> int:
        """Scrolls and ranges in all."""
        return len(self.ours) + len(self.theirs) + len(self.changed) + len(self.our_ranges)

    @property
    def mark(self) -> int:
        """A number that is the same for the same, in whatever order, in this process."""
        return sum(map(hash, chain(self.ours, self.theirs, self.changed, self.our_ranges)))


def digest(count: int, fingerprint_sum: bytes) -> bytes:
    """Return 16 bytes that stand for a range: BLAKE2b-128 of its sum and its count."""
    return blake2b(fingerprint_sum + count.to_bytes(8, "big"), digest_size=DIGEST_BYTES).digest()


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
    *,
    has_lists: bool = True,
) -> bytes:
    """Return the message that opens a reconciliation of the ranges in `scope`. With lists one
    message less is needed when few scrolls differ; without them an empty answer says that nothing
    differs, since only a list tells its receiver every difference."""
    writer = _Writer(parameters, key)
    for range_ in scope:
        if has_lists and index.count(range_) <= parameters.list_max:
            writer.list(range_, index.list_entries(range_, key))
        else:
            writer.root(range_, *_digest(index, range_, key))
    return writer.finish()


def next_step(
    index: CoordinateIndex,
    scope: Sequence[CoordinateRange],
    message: bytes,
    parameters: Parameters,
    key: bytes | None = None,
) -> tuple[bytes | None, Differences]:
    """Answer one message: the next one, or None when nothing is open, and what was found.

    ProtocolError when the message is malformed or speaks of more than `scope`.
    """
    writer = _Writer(parameters, key)
    found = Differences([], [], [], [])
    for range_, mode, payload in read_parts(message):
        if not holds(scope, range_):
            raise ProtocolError(f"expected ranges that both sides may compare, found {range_}")
        if mode == _LIST:
            _compare_list(index, range_, payload, found, key)
            continue
        our_count, ours = _digest(index, range_, key)
        if ours[: len(payload)] != payload:
            _describe(index, range_, our_count, ours, writer)
    found.has_told_all = not writer.is_idle and not writer.leaves_open
    return (None if writer.is_idle else writer.finish()), found


def count_of_root(message: bytes) -> int | None:
    """Return how many entries their sender has if `message` is one root of everything."""
    if len(message) != len(_ROOT_HEAD) + _COUNT_BYTES + DIGEST_BYTES:
        return None
    if not message.startswith(_ROOT_HEAD):
        return None
    return int.from_bytes(message[len(_ROOT_HEAD) :][:_COUNT_BYTES], "big")


def _digest(
    index: CoordinateIndex, range_: CoordinateRange, key: bytes | None
) -> tuple[int, bytes]:
    if key is None:
        return range_digest(index, range_)
    return index.count(range_), index.audit(range_, key)


def _describe(
    index: CoordinateIndex,
    range_: CoordinateRange,
    count: int,
    of_all: bytes,
    writer: "_Writer",
) -> None:
    """Write what we have in a range that differs: `count` entries, whose digest is `of_all`."""
    parameters = writer.parameters
    if writer.is_full:
        writer.fingerprint(range_, of_all)
    elif count <= parameters.list_max:
        writer.list(range_, index.list_entries(range_, writer.key))
    else:
        for piece in _split(index, range_, count, min(count, parameters.branches)):
            writer.fingerprint(piece, _digest(index, piece, writer.key)[1])


def _split(
    index: CoordinateIndex, range_: CoordinateRange, count: int, branches: int
) -> Iterator[CoordinateRange]:
    """Cut `range_` into `branches` ranges with about equally many of our `count` entries.

    They may have a quarter more or fewer, if that makes their bounds short.
    """
    first = index.rank(range_.lower)
    lower = range_.lower
    slack = count // branches // 8
    for branch in range(1, branches):
        position = first + branch * count // branches
        upper = _separator(index.select(position - slack - 1), index.select(position + slack))
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
    if not payload:
        if index.count(range_):
            found.our_ranges.append(range_)
        return
    try:
        ours, theirs, changed = index.compare_list(range_, payload, key)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    found.ours += ours
    found.theirs += theirs
    found.changed += changed


# -- bytes ---------------------------------------------------------------------------------
#
# message  = *part
# part     = head [level distance] [distance] content
# head     = mode + 4 * level of the upper bound + 64 if the lower bound is not the upper one of
#            the part before, or the origin; only then level and distance of it follow
# level    = number of parts, the others being 1; as upper bound 0: none
# distance = LEB128 of the bound less the bound before it, both cut to the level's parts and read
#            as numbers of 10 bits a part; left out for level 0
# content  = mode 0: first 8 bytes of the digest of the range
#            mode 1: length (LEB128) and list of its entries, see `CoordinateIndex.list_entries`
#            mode 2: count (8 bytes) and digest (16 bytes) of the range

_LEVEL_SHIFT: Final = 2
_JUMP: Final = 64
_ROOT_HEAD: Final = bytes([_ROOT])


class _Writer:
    def __init__(self, parameters: Parameters, key: bytes | None) -> None:
        self.parameters = parameters
        self.key = key
        self.is_idle = True
        self.leaves_open = False  # a list is not answered
        self._parts = bytearray()
        self._at: Coordinate | None = ORIGIN

    @property
    def is_full(self) -> bool:
        return len(self._parts) > self.parameters.bytes_max

    def fingerprint(self, range_: CoordinateRange, range_digest: bytes) -> None:
        self.leaves_open = True
        self._range(range_, _FINGERPRINT)
        self._parts += range_digest[:_RANGE_DIGEST_BYTES]

    def root(self, range_: CoordinateRange, count: int, range_digest: bytes) -> None:
        self._range(range_, _ROOT)
        self._parts += count.to_bytes(_COUNT_BYTES, "big") + range_digest

    def list(self, range_: CoordinateRange, entries: bytes) -> None:
        self._range(range_, _LIST)
        self._parts += varints(len(entries)) + entries

    def finish(self) -> bytes:
        return bytes(self._parts)

    def _range(self, range_: CoordinateRange, mode: int) -> None:
        before = self._at or ORIGIN
        level = 0 if range_.upper is None else _level(range_.upper)
        head = mode | level << _LEVEL_SHIFT
        if range_.lower == before:
            self._parts.append(head)
        else:
            jump = _level(range_.lower)
            self._parts += bytes([head | _JUMP, jump])
            self._parts += _distance(before, range_.lower, jump)
        if range_.upper is not None:
            self._parts += _distance(range_.lower, range_.upper, level)
        self._at = range_.upper
        self.is_idle = False


def _level(bound: Coordinate) -> int:
    """Return how many parts are left when those that are 1 at the end are cut off."""
    parts = bound.parts
    level = 9
    while level and parts[level - 1] == 1:
        level -= 1
    return level


def _cut(bound: Coordinate, level: int) -> int:
    number = 0
    for part in bound.parts[:level]:
        number = number << 10 | part
    return number


def _distance(before: Coordinate, bound: Coordinate, level: int) -> bytes:
    return varints(_cut(bound, level) - _cut(before, level)) if level else b""


def read_parts(message: bytes) -> Iterator[tuple[CoordinateRange, int, bytes]]:
    """Iterate over the parts of a message: range, mode, and digest or list."""
    reader = _Reader(message)
    at: Coordinate | None = ORIGIN
    while reader.left:
        if at is None:
            raise ProtocolError("expected the end of a comparison, found a range above all")
        head = reader.byte()
        mode, level = head & 3, head >> _LEVEL_SHIFT & 15
        if mode > _ROOT or head >= 2 * _JUMP:
            raise ProtocolError(f"expected a mode below 3, found {head}")
        lower = reader.bound(at, reader.byte()) if head & _JUMP else at
        upper = reader.bound(lower, level) if level else None
        if upper is not None and upper <= lower:
            raise ProtocolError(f"expected an upper bound above {lower}, found {upper}")
        range_, at = CoordinateRange(lower, upper), upper
        if mode == _FINGERPRINT:
            yield range_, mode, reader.take(_RANGE_DIGEST_BYTES)
        elif mode == _LIST:
            yield range_, mode, reader.take(reader.varint())
        else:
            reader.take(_COUNT_BYTES)
            yield range_, mode, reader.take(DIGEST_BYTES)


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
            if shift > 84:
                raise ProtocolError("expected an integer of at most 13 bytes, found more")

    def bound(self, before: Coordinate, level: int) -> Coordinate:
        """Read a bound that is not below `before`."""
        if level > 9:
            raise ProtocolError(f"expected a bound of at most 9 parts, found {level}")
        number = _cut(before, level) + (self.varint() if level else 0)
        parts = [number >> 10 * i & 1023 for i in range(level - 1, -1, -1)]
        try:
            if number >> 10 * level:
                raise CoordinateError("expected nine parts from 1 to 999, found more")
            bound = Coordinate(*parts, *[1] * (9 - level))
        except CoordinateError as error:
            raise ProtocolError(str(error)) from error
        if bound < before:  # what was cut off counts too
            raise ProtocolError(f"expected a bound from {before} on, found {bound}")
        return bound
