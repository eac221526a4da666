"""Finding the nearest scrolls by their coordinates, against sorting all by their distance.

Asked for are the 40 nearest of coordinates that are held, of each the least of some passes. Without
a name the coordinates are strewn evenly, each part from 1 to 9; `nested` is the ragged document
that look-ups are measured with. The yardstick is numpy, which sorts all; where there is none,
Python.
"""

import array
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from benchmarks.index import nested_coordinates
from benchmarks.report import Report
from phextsync.index import Coordinate, CoordinateIndex

_COUNT: Final = 40
_PASSES: Final = 5


def measure(report: Report, *, quick: bool) -> None:
    """Measure at 10^5 and, unless `quick`, 10^6 entries."""
    for exponent in (5,) if quick else (5, 6):
        size = f"1e{exponent}"
        for name, coordinates in _shapes(10**exponent):
            index = _loaded(coordinates)
            asked = random.Random(1).sample(coordinates, 100)
            sort = _sorting(coordinates)
            yardstick = f"{name}_sort_ms@{size}"
            report.add(yardstick, _times_ms(sort, asked[:3], 1), "ms")
            find = _finding(index)
            find(asked[0])  # the first after a bulk load looks at all entries
            report.add(f"{name}_ms@{size}", _times_ms(find, asked, _PASSES), "ms", yardstick)


def _shapes(count: int) -> Iterable[tuple[str, list[Coordinate]]]:
    source = random.Random(count)
    even: set[Coordinate] = set()
    while len(even) < count:
        even.add(Coordinate(*source.choices(range(1, 10), k=9)))
    yield "near", sorted(even)
    yield "near_nested", nested_coordinates(count)


def _loaded(coordinates: Sequence[Coordinate]) -> CoordinateIndex:
    index, count = CoordinateIndex(), len(coordinates)
    sizes = array.array("I", [1]) * count
    index.bulk_load(b"".join(c.key for c in coordinates), bytes(32 * count), sizes.tobytes())
    return index


def _finding(index: CoordinateIndex) -> Callable[[Coordinate], object]:
    return lambda at: index.nearest(at, _COUNT)


def _sorting(coordinates: Sequence[Coordinate]) -> Callable[[Coordinate], object]:
    try:
        import numpy as np
    except ImportError:
        parts = [coordinate.parts for coordinate in coordinates]
        return lambda at: sorted(parts, key=lambda other: _apart(at.parts, other))[:_COUNT]
    table = np.array([coordinate.parts for coordinate in coordinates], dtype=np.int16)

    def sort(at: Coordinate) -> object:
        distances = np.abs(table - np.array(at.parts, dtype=np.int16)).sum(axis=1)
        return np.argsort(distances, kind="stable")[:_COUNT]

    return sort


def _apart(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _times_ms(
    find: Callable[[Coordinate], object], asked: Sequence[Coordinate], passes: int
) -> list[float]:
    """Return for each coordinate the least time of some passes."""
    times = []
    for at in asked:
        found = []
        for _ in range(passes):
            start = time.perf_counter_ns()
            find(at)
            found.append((time.perf_counter_ns() - start) / 1e6)
        times.append(min(found))
    return times
