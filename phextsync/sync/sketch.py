"""Sketches: few differences between two whole indexes, found in one round trip at any size.

An index keeps its sketch (`index/_sketch.pxd`) up to date, so that a comparison costs nothing for
what is equal. One side sends strata and the first cells. The other subtracts its own; if they do
not suffice, the strata tell about how many differ, and it answers with as many cells of its own.
A side that can read the difference names it, with the digest of everything else that it has: where
the digests of the rest agree, nothing was overlooked, by accident or on purpose.
"""

import math
from collections.abc import Sequence
from typing import Final

from phextsync.errors import CoordinateError, ProtocolError
from phextsync.index import SKETCH_CELLS, Coordinate, CoordinateIndex
from phextsync.sync.messages import DIGEST_BYTES
from phextsync.sync.reconcile import Differences, digest

CELL_BYTES: Final = 23
STRATA_BYTES: Final = 160
_BUCKETS: Final = 16
_COUNT_BYTES: Final = 8
# 10 differences are read from 40 cells 996 times of 1,000, 20 from them 9 times of 10.
_FIRST_CELLS: Final = 40
_SECOND_CELLS_MIN: Final = 64
# Reading d differences takes 1.45 d cells at 100 and 1.37 d above; estimates are within 20 %. With
# fewer cells for each more comparisons need a third sketch, and the mean of all is longer.
_CELLS_PER_DIFFERENCE: Final = 1.45
_CELLS_PER_ESTIMATE: Final = 1.8
# Below this, a few ranges and lists are shorter than an opening of 1,080 bytes.
_ENTRIES_MIN: Final = 64
# The share of a bucket's values that cancel although they differ.
_BLIND: Final = 1 / 256
_WEIGHTS: Final = (*(2.0 ** -(k + 1) / _BUCKETS for k in range(9)), 2.0**-9 / _BUCKETS)


def is_worth(ours: int, theirs: int) -> bool:
    """Say whether a sketch may find what differs between so many entries, and be short."""
    difference = abs(ours - theirs)
    return (
        min(ours, theirs) >= _ENTRIES_MIN
        and difference <= max(ours, theirs) // 4
        and difference * _CELLS_PER_DIFFERENCE <= SKETCH_CELLS
    )


def opening(index: CoordinateIndex) -> bytes:
    """Return strata and first cells."""
    return index.sketch_strata() + index.sketch_cells(_FIRST_CELLS)


def split_opening(body: bytes) -> tuple[bytes, bytes]:
    """Return the strata and the cells of an opening. ProtocolError when it is none."""
    if len(body) < STRATA_BYTES:
        raise ProtocolError(f"expected strata of {STRATA_BYTES} bytes, found {len(body)}")
    return body[:STRATA_BYTES], body[STRATA_BYTES:]


def read(index: CoordinateIndex, cells: bytes) -> Differences | None:
    """Read what differs from the cells of a peer, None when they are too few. A hint, to be
    proven by the digest of the rest. ProtocolError when they are no cells."""
    try:
        found = index.sketch_difference(cells)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    if found is None:
        return None
    names = [coordinate for side in found for coordinate in side]
    # A pair that is none, put in and taken out again, shows up twice.
    return Differences(*found, []) if len({*names}) == len(names) else None


def cells_for(ours: bytes, theirs: bytes, entries: int) -> int | None:
    """Return how many cells the difference takes by its strata; None: ranges are shorter."""
    differences = estimate(ours, theirs)
    if differences > entries / 4 or differences * _CELLS_PER_DIFFERENCE > SKETCH_CELLS:
        return None
    count = int(differences * _CELLS_PER_ESTIMATE) + 8
    return min(max(_SECOND_CELLS_MIN, count), SKETCH_CELLS)


def estimate(ours: bytes, theirs: bytes) -> float:
    """Return about how many pairs differ, from two strata, by maximum likelihood.

    The standard error is an eighth; what lies above 20,000 comes out as some larger number.
    """
    unequal = [
        sum(a != b for a, b in zip(ours[i : i + 16], theirs[i : i + 16], strict=True))
        for i in range(0, STRATA_BYTES, _BUCKETS)
    ]
    if not any(unequal):
        return 0.0
    lower, upper = -1.0, 16.0  # of the logarithm
    while upper - lower > 0.01:
        middle = (lower + upper) / 2
        if _slope(unequal, math.exp(middle)) > 0:
            lower = middle
        else:
            upper = middle
    return math.exp(lower)


def _slope(unequal: Sequence[int], differences: float) -> float:
    """Return the slope of the likelihood of what was seen, if so many pairs differ."""
    slope = 0.0
    for seen, weight in zip(unequal, _WEIGHTS, strict=True):
        empty = math.exp(-differences * weight)
        equal = empty + (1 - empty) * _BLIND
        slope += weight * empty * (seen / (1 - equal) - (_BUCKETS - seen) / equal)
    return slope


def name_found(index: CoordinateIndex, found: Differences) -> bytes:
    """Return the coordinates that differ, behind count and digest of what else we have.

    Each as the number of parts shared with the one before, and the others in one byte or two.
    """
    coordinates = sorted((*found.ours, *found.theirs, *found.changed))
    count, rest = _rest(index, coordinates)
    packed = bytearray(count.to_bytes(_COUNT_BYTES, "big") + rest)
    before: tuple[int, ...] = (0,)
    for coordinate in coordinates:
        parts = coordinate.parts
        shared = next(i for i, (a, b) in enumerate(zip(before, parts, strict=False)) if a != b)
        packed.append(shared)
        for part in parts[shared:]:
            packed += bytes([part]) if part < 128 else bytes([part & 127 | 128, part >> 7])
        before = parts
    return bytes(packed)


def is_all(index: CoordinateIndex, named: bytes) -> bool:
    """Say whether we differ from the sender of `named` in nothing but what it names."""
    start = _COUNT_BYTES + DIGEST_BYTES
    coordinates = _read_names(named[start:])
    count, rest = _rest(index, coordinates)
    return named[:start] == count.to_bytes(_COUNT_BYTES, "big") + rest


def _rest(index: CoordinateIndex, coordinates: Sequence[Coordinate]) -> tuple[int, bytes]:
    """Return count and digest of all entries but those at `coordinates`."""
    count, fingerprint_sum = index.fingerprint()
    total = int.from_bytes(fingerprint_sum, "big")
    for coordinate in coordinates:
        fingerprint = index.fingerprint_of(coordinate)
        if fingerprint is not None:
            count -= 1
            total -= int.from_bytes(fingerprint, "big")
    return count, digest(count, (total % (1 << 256)).to_bytes(32, "big"))


def _read_names(packed: bytes) -> list[Coordinate]:
    """Read coordinates as `name_found` writes them. ProtocolError unless they ascend."""
    coordinates: list[Coordinate] = []
    numbers = iter(packed)
    try:
        for shared in numbers:
            parts = list(coordinates[-1].parts[:shared] if coordinates else ())
            if len(parts) != shared:
                raise ProtocolError(f"expected at most {len(parts)} shared parts, found {shared}")
            while len(parts) < 9:
                part = next(numbers)
                parts.append(part if part < 128 else part & 127 | next(numbers) << 7)
            coordinate = Coordinate(*parts)
            if coordinates and coordinate <= coordinates[-1]:
                raise ProtocolError(f"expected a coordinate above {coordinates[-1]}, found another")
            coordinates.append(coordinate)
    except StopIteration:
        raise ProtocolError("expected nine parts of a coordinate, found the end") from None
    except CoordinateError as error:
        raise ProtocolError(str(error)) from error
    return coordinates
