"""Look-ups, range fingerprints and loading of the coordinate index, against `dict`.

Loop and call cost are measured with an empty loop of the same form and subtracted; keys come in
random order; text keys have their hash cached, as keys that are held have.
"""

import array
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.report import Report
from phextsync.index import Coordinate, CoordinateIndex, CoordinateRange


def run(*, quick: bool) -> Report:
    """Measure at 10^4, 10^5 and, unless `quick`, 10^6 entries."""
    report = Report()
    runs = 3 if quick else 5
    for exponent in (4, 5) if quick else (4, 5, 6):
        _measure(report, f"1e{exponent}", 10**exponent, runs)
    return report


def _coordinates(count: int) -> list[Coordinate]:
    """Return the coordinates of a nested document, ragged, in order."""
    source = random.Random(count)
    found: list[Coordinate] = []
    fan = max(2, round(count ** (1 / 6)))
    while len(found) < count:
        prefix = [source.randint(1, fan) for _ in range(6)]
        base = [1 + len(found) // 100_000, 1 + len(found) // 400 % 250]
        found += [
            Coordinate(*prefix[:3], *base, *prefix[3:6], i) for i in range(1, source.randint(4, 20))
        ]
    return sorted(set(found))[:count]


def _measure(report: Report, size: str, count: int, runs: int) -> None:
    coordinates = _coordinates(count)
    count = len(coordinates)
    source = random.Random(1)
    packed = (
        b"".join(c.key for c in coordinates),
        os.urandom(32 * count),
        array.array("I", [1] * count).tobytes(),
    )
    order = list(range(count))
    source.shuffle(order)
    unsorted = (
        b"".join(coordinates[i].key for i in order),
        packed[1],
        packed[2],
    )
    index = CoordinateIndex()
    loads = []
    for _ in range(runs):
        start = time.perf_counter()
        index.bulk_load(*unsorted)
        loads.append(count / (time.perf_counter() - start))
    report.add(f"bulk_keys_per_s@{size}", loads, "keys/s")
    values = [object() for _ in range(1000)]
    for i, coordinate in enumerate(coordinates):
        index.set_value(coordinate, values[i % 1000])
    texts = [str(c) for c in coordinates]
    plain = {text: values[i % 1000] for i, text in enumerate(texts)}
    for text in texts:
        hash(text)
    picks = [order[i % count] for i in range(min(count, 200_000))]
    by_coordinate = [coordinates[i] for i in picks]
    by_text = [texts[i] for i in picks]
    ratios_coordinate, ratios_text, nanoseconds, dict_ns = [], [], [], []
    for _ in range(runs):
        baseline = _per_item(_empty_loop, by_text)
        dict_time = _per_item(_subscript(plain), by_text) - baseline
        coordinate_time = _per_item(_subscript(index), by_coordinate) - baseline
        text_time = _per_item(_subscript(index), by_text) - baseline
        ratios_coordinate.append(coordinate_time / dict_time)
        ratios_text.append(text_time / dict_time)
        nanoseconds.append(coordinate_time)
        dict_ns.append(dict_time)
    report.add(f"dict_ns@{size}", dict_ns, "ns")
    report.add(f"lookup_coordinate_ns@{size}", nanoseconds, "ns", f"dict_ns@{size}")
    report.add(f"lookup_coordinate_ratio@{size}", ratios_coordinate, "ratio", f"dict_ns@{size}")
    report.add(f"lookup_text_ratio@{size}", ratios_text, "ratio", f"dict_ns@{size}")
    _measure_order(report, size, index, coordinates, runs)


def _measure_order(
    report: Report, size: str, index: CoordinateIndex, coordinates: Sequence[Coordinate], runs: int
) -> None:
    source = random.Random(2)
    ranges = []
    while len(ranges) < 300:
        lower, upper = sorted(source.sample(range(len(coordinates)), 2))
        ranges.append(CoordinateRange(coordinates[lower], coordinates[upper]))
    fingerprints, sets = [], []
    some = source.sample(list(coordinates), 2000)
    mark = os.urandom(32)
    for _ in range(runs):
        fingerprints.append(_per_item(_loop(index.fingerprint), ranges) / 1000)
        start = time.perf_counter()
        for coordinate in some:
            index.set(coordinate, mark, 1)
        sets.append((time.perf_counter() - start) / len(some) * 1e6)
    report.add(f"range_fingerprint_us@{size}", fingerprints, "us")
    report.add(f"insert_us@{size}", sets, "us")


def _subscript(mapping: Any) -> Callable[[Sequence[object]], None]:
    def loop(keys: Sequence[object]) -> None:
        for key in keys:
            mapping[key]

    return loop


def _loop(function: Callable[[object], object]) -> Callable[[Sequence[object]], None]:
    def loop(keys: Sequence[object]) -> None:
        for key in keys:
            function(key)

    return loop


def _empty_loop(keys: Sequence[object]) -> None:
    for _ in keys:
        pass


def _per_item(loop: Callable[[Sequence[object]], None], keys: Sequence[object]) -> float:
    """Return nanoseconds for each key."""
    start = time.perf_counter_ns()
    loop(keys)
    return (time.perf_counter_ns() - start) / len(keys)
