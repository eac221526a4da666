"""What the coordinate index costs, against `dict` and the file system.

Keys come in random order, in explicit loops inside functions. From the times of look-ups, chains,
files and iteration that of an empty loop of the same form is subtracted; from those of inserts,
loading, fingerprints, audits and `lookup_many`, nothing. The `dict` has text keys that are equal
but not identical to those looked up; the index is asked for the very same objects. Their hashes are
cached, as those of keys that are held are, but for `fresh_text`.

Most loops ask for keys that do not depend on each other, so that cache misses overlap; in `chain`
each value found is the next key. Garbage collection is off, as in `timeit`.
"""

import array
import gc
import mmap
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Report
from phextsync.index import EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange

# Figures with their units and what they are held against; a ratio is to its yardstick.
_FIGURES: dict[str, tuple[str, str | None]] = {
    "dict_ns": ("ns", None),
    "dict_fresh_text_ns": ("ns", None),
    "dict_tuple_ns": ("ns", None),
    "dict_chain_ns": ("ns", None),
    "file_ns": ("ns", None),
    "lookup_coordinate_ns": ("ns", "dict_ns"),
    "lookup_coordinate_ratio": ("ratio", "dict_ns"),
    "lookup_text_ratio": ("ratio", "dict_ns"),
    "lookup_fresh_text_ratio": ("ratio", "dict_fresh_text_ns"),
    "lookup_tuple_ratio": ("ratio", "dict_tuple_ns"),
    "lookup_chain_ratio": ("ratio", "dict_chain_ns"),
    "lookup_file_ratio": ("ratio", "file_ns"),
    "lookup_many_ns": ("ns", "dict_ns"),
    "iterate_ns": ("ns", None),
    "audit_ns_per_entry": ("ns", None),
    "range_fingerprint_us": ("us", None),
    "insert_us": ("us", None),
    "build_us": ("us", None),
    "update_us": ("us", None),
    "bulk_keys_per_s": ("keys/s", None),
    "index_bytes_per_entry": ("bytes", None),
    "index_resident_bytes_per_entry": ("bytes", None),
}
_STEPS = 100_000  # loops over fewer keys are repeated
_FILES = 10_000
_FILE_BYTES = 1024


def run(*, quick: bool) -> Report:
    """Measure at 10^4, 10^5 and, unless `quick`, 10^6 entries."""
    report = Report()
    gc.collect()
    gc.disable()
    try:
        for exponent in (4, 5) if quick else (4, 5, 6):
            coordinates = nested_coordinates(10**exponent)
            measures = [_resident, _changes, _points, _other_keys, _chain, _order]
            if len(coordinates) == _FILES:
                measures.append(_files)
            for measure in measures:
                _add(report, f"1e{exponent}", measure(coordinates, 5))
    finally:
        gc.enable()
    return report


def _add(report: Report, size: str, runs: Iterable[dict[str, float]]) -> None:
    values = defaultdict(list)
    for figures in runs:
        for name, value in figures.items():
            values[name].append(value)
    for name, found in values.items():
        unit, yardstick = _FIGURES[name]
        report.add(f"{name}@{size}", found, unit, yardstick and f"{yardstick}@{size}")


def nested_coordinates(count: int) -> list[Coordinate]:
    """Return the coordinates of a nested document, ragged, in order."""
    source = random.Random(count)
    fan = max(2, round(count ** (1 / 6)))
    found: set[Coordinate] = set()
    sections = 0
    while len(found) < count:
        a, b, c, f, g, h = (source.randint(1, fan) for _ in range(6))
        d, e = 1 + sections // 10_000, 1 + sections // 40 % 250
        scrolls = range(1, source.randint(4, 20))
        found.update(Coordinate(a, b, c, d, e, f, g, h, scroll) for scroll in scrolls)
        sections += 1
    return sorted(found)[:count]


def _shuffled(coordinates: Sequence[Coordinate], seed: int = 1) -> list[Coordinate]:
    return random.Random(seed).sample(coordinates, len(coordinates))


def _packed(coordinates: Iterable[Coordinate]) -> tuple[bytes, bytes, bytes]:
    """Return keys, fingerprints and sizes as `bulk_load` takes them."""
    keys = b"".join(coordinate.key for coordinate in coordinates)
    count = len(keys) // 12
    return keys, random.Random(3).randbytes(32 * count), array.array("I", [1] * count).tobytes()


def _loaded(coordinates: Iterable[Coordinate]) -> CoordinateIndex:
    index = CoordinateIndex()
    index.bulk_load(*_packed(coordinates))
    return index


# -- what each run measures --------------------------------------------------------------------


def _changes(coordinates: Sequence[Coordinate], runs: int) -> Iterator[dict[str, float]]:
    """Bulk load, then insert one by one: the last tenth of the keys, beside all of them."""
    count = len(coordinates)
    order = _shuffled(coordinates)
    packed = _packed(order)
    marks = [packed[1][i : i + 32] for i in range(0, 32 * count, 32)]
    last = count - count // 10
    for _ in range(runs):
        loaded = CoordinateIndex()
        start = time.perf_counter()
        loaded.bulk_load(*packed)
        bulk_s = time.perf_counter() - start
        index = CoordinateIndex()
        index.sketch_strata()  # kept from now on, as in a node
        first_ns = _insert(index, order[:last], marks)
        last_ns = _insert(index, order[last:], marks[last:])
        index_bytes = max(sys.getsizeof(index), sys.getsizeof(loaded))
        update_ns = _insert(index, _shuffled(order, 2), marks)
        yield {
            "bulk_keys_per_s": count / bulk_s,
            "insert_us": last_ns / (count - last) / 1000,
            "build_us": (first_ns + last_ns) / count / 1000,
            "update_us": update_ns / count / 1000,
            "index_bytes_per_entry": index_bytes / count,
        }


def _resident(coordinates: Sequence[Coordinate], runs: int) -> Iterator[dict[str, float]]:
    """What an index that was filled one by one adds to the process. Two before it fill holes."""
    order = _shuffled(coordinates)
    marks = [bytes(32)] * len(order)
    indexes = []
    for run in range(2 + runs // 2):
        before = _resident_bytes()
        indexes.append(CoordinateIndex())
        _insert(indexes[-1], order, marks)
        if run >= 2 and before:
            resident = _resident_bytes() - before
            yield {"index_resident_bytes_per_entry": resident / len(order)}


def _points(coordinates: Sequence[Coordinate], runs: int) -> Iterator[dict[str, float]]:
    """Look up coordinates and texts that are held."""
    index, plain, by_coordinate, by_text = _pair(coordinates, [object() for _ in range(1000)])
    keys = b"".join(coordinate.key for coordinate in by_coordinate)
    for _ in range(runs):
        dict_ns = _subscript_ns(plain, by_text)
        coordinate_ns = _subscript_ns(index, by_coordinate)
        text_ns = _subscript_ns(index, by_text)
        start = time.perf_counter_ns()
        index.lookup_many(keys)
        many_ns = time.perf_counter_ns() - start
        yield {
            "dict_ns": dict_ns,
            "lookup_coordinate_ns": coordinate_ns,
            "lookup_coordinate_ratio": coordinate_ns / dict_ns,
            "lookup_text_ratio": text_ns / dict_ns,
            "lookup_many_ns": many_ns / len(coordinates),
        }


def _other_keys(coordinates: Sequence[Coordinate], runs: int) -> Iterator[dict[str, float]]:
    """Look up texts that were just made, and tuples."""
    index, plain, by_coordinate, _ = _pair(coordinates, [object()])
    by_tuple = [coordinate.parts for coordinate in by_coordinate]
    tuples = {coordinate.parts: None for coordinate in coordinates}
    for _ in range(runs):
        fresh_dict_ns = _subscript_ns(plain, list(map(str, by_coordinate)), 1)
        fresh_ns = _subscript_ns(index, list(map(str, by_coordinate)), 1)
        dict_tuple_ns = _subscript_ns(tuples, by_tuple)
        tuple_ns = _subscript_ns(index, by_tuple)
        yield {
            "dict_fresh_text_ns": fresh_dict_ns,
            "lookup_fresh_text_ratio": fresh_ns / fresh_dict_ns,
            "dict_tuple_ns": dict_tuple_ns,
            "lookup_tuple_ratio": tuple_ns / dict_tuple_ns,
        }


def _chain(coordinates: Sequence[Coordinate], runs: int) -> Iterator[dict[str, float]]:
    """Follow one cycle through all keys: the value of each is the next one."""
    order = _shuffled(coordinates)
    following = dict(zip(order, order[1:] + order[:1], strict=True))
    texts = {coordinate: str(coordinate) for coordinate in coordinates}
    index = _loaded(coordinates)
    plain: dict[str, str] = {}
    for coordinate in coordinates:
        index.set_value(coordinate, following[coordinate])
        plain[str(coordinate)] = texts[following[coordinate]]
    for text in texts.values():
        hash(text)
    steps = [None] * len(order)
    for _ in range(runs):
        empty_ns = _per_key(_empty_loop, steps)
        dict_ns = _per_key(_follow(plain, texts[order[0]]), steps) - empty_ns
        index_ns = _per_key(_follow(index, order[0]), steps) - empty_ns
        yield {"dict_chain_ns": dict_ns, "lookup_chain_ratio": index_ns / dict_ns}


def _order(coordinates: Sequence[Coordinate], runs: int) -> Iterator[dict[str, float]]:
    """Fingerprints of random ranges, the audit of everything, iteration."""
    index = _loaded(coordinates)
    source = random.Random(2)
    bounds = [sorted(source.sample(coordinates, 2)) for _ in range(10_000)]
    ranges = [CoordinateRange(lower, upper) for lower, upper in bounds]
    key = source.randbytes(16)
    for _ in range(runs):
        fingerprint_ns = _per_key(_call(index.fingerprint), ranges, 1)
        start = time.perf_counter_ns()
        index.audit(EVERYTHING, key)
        audit_ns = time.perf_counter_ns() - start
        iterate_ns = _per_key(lambda _: _empty_loop(index), coordinates)
        empty_ns = _per_key(_empty_loop, [None] * len(coordinates))
        yield {
            "range_fingerprint_us": fingerprint_ns / 1000,
            "audit_ns_per_entry": audit_ns / len(coordinates),
            "iterate_ns": iterate_ns - empty_ns,
        }


def _files(coordinates: Sequence[Coordinate], runs: int) -> Iterator[dict[str, float]]:
    """Look up coordinates beside opening, reading and closing files, each name once."""
    index, _, by_coordinate, _ = _pair(coordinates, [object()])
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/{coordinate.key.hex()}" for coordinate in by_coordinate]
        for name in sorted(names):
            Path(name).write_bytes(bytes(_FILE_BYTES))
        for _ in range(runs):
            file_ns = _per_key(_call(_read), names, 1) - _per_key(_empty_loop, names, 1)
            index_ns = _subscript_ns(index, by_coordinate)
            yield {"file_ns": file_ns, "lookup_file_ratio": index_ns / file_ns}


def _pair(
    coordinates: Sequence[Coordinate], values: Sequence[object]
) -> tuple[CoordinateIndex, dict[str, object], list[Coordinate], list[str]]:
    """Return an index and a dict with the same values, and the keys to ask them for."""
    index = _loaded(coordinates)
    plain: dict[str, object] = {}
    for i, coordinate in enumerate(coordinates):
        index.set_value(coordinate, values[i % len(values)])
        plain[str(coordinate)] = values[i % len(values)]
    texts = [str(coordinate) for coordinate in coordinates]
    for text in texts:
        hash(text)
    order = random.Random(1).sample(range(len(texts)), len(texts))
    return index, plain, [coordinates[i] for i in order], [texts[i] for i in order]


# -- loops -------------------------------------------------------------------------------------


def _subscript_ns(mapping: Any, keys: Sequence[object], rounds: int | None = None) -> float:
    def loop(keys: Iterable[object]) -> None:
        for key in keys:
            mapping[key]

    # The interpreter adapts code to the type it meets: each mapping gets its own.
    loop.__code__ = loop.__code__.replace()
    empty_ns = _per_key(_empty_loop, keys)
    return _per_key(loop, keys, rounds) - empty_ns


def _follow(mapping: Any, key: object) -> Callable[[Iterable[object]], None]:
    def loop(steps: Iterable[object]) -> None:
        at = key
        for _ in steps:
            at = mapping[at]

    loop.__code__ = loop.__code__.replace()
    return loop


def _call(function: Callable[[Any], object]) -> Callable[[Iterable[object]], None]:
    def loop(keys: Iterable[object]) -> None:
        for key in keys:
            function(key)

    loop.__code__ = loop.__code__.replace()
    return loop


def _empty_loop(keys: Iterable[object]) -> None:
    for _ in keys:
        pass


def _per_key(
    loop: Callable[[Sequence[object]], None], keys: Sequence[object], rounds: int | None = None
) -> float:
    """Return nanoseconds for each key, over `rounds` (else at least `_STEPS` keys)."""
    rounds = rounds or -(-_STEPS // len(keys))
    start = time.perf_counter_ns()
    for _ in range(rounds):
        loop(keys)
    return (time.perf_counter_ns() - start) / (rounds * len(keys))


def _insert(
    index: CoordinateIndex, coordinates: Sequence[Coordinate], marks: Sequence[bytes]
) -> float:
    """Return the nanoseconds of all."""
    start = time.perf_counter_ns()
    for coordinate, mark in zip(coordinates, marks, strict=False):
        index.set(coordinate, mark, 1)
    return time.perf_counter_ns() - start


def _read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def _resident_bytes() -> int:
    """Return what the process has in memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * mmap.PAGESIZE
