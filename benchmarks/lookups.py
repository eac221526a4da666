"""Looking a scroll's text up, against a dict, files, SQLite, LMDB and the PyPI package `phext`.

Keys come in random order, in explicit loops from which an empty loop is subtracted, of each the
least of nine passes. Texts have 100 bytes. A closed scroll's text is read from the store and its
document forgotten again. No read waits for a peer: peers send what a node holds before it is asked
for. `phext` walks its text from the start, as it has no index; it is asked for few keys of a small
text.
"""

import gc
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Final

import lmdb
from phext.coordinate import Coordinate as PlainCoordinate
from phext.phext import Phext

from benchmarks import index, near
from benchmarks.growth import open_replicas
from benchmarks.index import nested_coordinates
from benchmarks.report import Report
from phextsync import phextfile
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.reporting import Curve, Plot, Section, Series

PLAIN_SCROLLS: Final = 1000

_NAME: Final = "lookups"
_KEYS: Final = 20_000
_FEW: Final = 1000
_PASSES: Final = 9
_TEXT: Final = "~" * 100
_BATCH: Final = 20_000

Times = dict[str, list[float]]


def run(*, quick: bool) -> Report:
    """Measure the index, as `benchmarks index` does, what is near in it, and scrolls of a store of
    10^5."""
    report = index.run(quick=quick)
    near.measure(report, quick=quick)
    closed_us, missing_us = stored_us(100_000, 2 if quick else 5)
    report.add("closed_read_us@1e5", closed_us, "us")
    report.add("missing_read_us@1e5", missing_us, "us")
    return report


def section(exponents: Sequence[int], runs: int) -> Section:
    """Measure at 10 to the power of each exponent."""
    series: list[Series] = []
    medians: dict[str, list[float]] = {}
    for exponent in exponents:
        times = _measure(10**exponent, runs)
        for name, found in times.items():
            series.append(Series(f"{name} @1e{exponent}", "ns", tuple(found)))
            medians.setdefault(name, []).append(series[-1].median)
        pairs = zip(times["index, hit"], times["dict, hit"], strict=True)
        ratios = tuple(ours / theirs for ours, theirs in pairs)
        series.append(Series(f"index over dict @1e{exponent}", "ratio", ratios, "same run"))
        pairs = zip(times["closed scroll, hit"], times["LMDB, hit"], strict=True)
        ratios = tuple(ours / theirs for ours, theirs in pairs)
        series.append(Series(f"closed scroll over LMDB @1e{exponent}", "ratio", ratios, "same run"))
    plain = tuple(_plain_ns() for _ in range(runs))
    series.append(Series("phext fetch, hit @1e3", "ns", plain, "walks the text"))
    sizes = tuple(10.0**exponent for exponent in exponents)
    plot = Plot(
        "lookups",
        "Looking a text up",
        tuple(Curve(name, sizes, tuple(found)) for name, found in medians.items()),
        "scrolls",
        "ns",
        is_log_x=True,
        is_log_y=True,
    )
    method = " ".join((__doc__ or "").split())
    plots = (plot, _path({name: found[-1] for name, found in medians.items()}))
    return Section("Coordinate look-up", method, tuple(series), plots)


def _path(medians_ns: dict[str, float]) -> Plot:
    """Draw where a look-up through a node ends, and what the same takes by other ways."""
    ends = (
        ("open scroll, hit", "1. open scroll: its text"),
        ("closed scroll, hit", "2. closed scroll: store, kept open"),
        ("scroll, miss", "3. no scroll: the index says so"),
        ("dict, hit", "a dict in its place"),
        ("LMDB, hit", "LMDB alone"),
        ("SQLite, hit", "SQLite"),
        ("file: open, read, close", "a file"),
    )
    bars = tuple((text, medians_ns[name]) for name, text in ends)
    return Plot("found", "How a coordinate is found", x_label="ns", is_log_x=True, bars=bars)


def stored_us(count: int, runs: int) -> tuple[list[float], list[float]]:
    """Return microseconds of reading a closed scroll of `count`, and of asking for one that is not
    there, of each run the least of some passes."""
    coordinates = nested_coordinates(count + _KEYS)
    Random(1).shuffle(coordinates)
    missing, present = coordinates[count:], coordinates[:count]
    with (
        tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary,
        _filled(Path(temporary) / "ours", present) as replicas,
    ):
        ask = replicas.open(_NAME).get
        return (
            [_closed_ns(replicas, present[:_FEW]) / 1000 for _ in range(runs)],
            [_per_key_ns(ask, missing) / 1000 for _ in range(runs)],
        )


def _measure(count: int, runs: int) -> Times:
    coordinates = nested_coordinates(count + count // 10)
    Random(1).shuffle(coordinates)
    missing = coordinates[count:][:_KEYS]
    present = coordinates[:count]
    asked = present[:_KEYS]
    times: Times = {}
    gc.collect()
    gc.disable()
    try:
        with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
            with _filled(Path(temporary) / "ours", present) as replicas:
                lookups = _ours(replicas, asked, missing)
                for _ in range(runs):
                    for name, ask, keys in lookups:
                        times.setdefault(name, []).append(_per_key_ns(ask, keys))
                    times.setdefault("closed scroll, hit", []).append(
                        _closed_ns(replicas, asked[:_FEW])
                    )
            with _others(Path(temporary), present, asked, missing) as others:
                for _ in range(runs):
                    for name, ask, keys in others:
                        times.setdefault(name, []).append(_per_key_ns(ask, keys))
    finally:
        gc.enable()
    return times


_Lookup = tuple[str, Callable[..., object], Sequence[object]]


def _ours(
    replicas: ReplicaSet, asked: Sequence[Coordinate], missing: Sequence[Coordinate]
) -> list[_Lookup]:
    replica = replicas.open(_NAME)
    opened = asked[:_FEW]
    return [
        ("index, hit", replica.index.__contains__, asked),
        ("index, miss", replica.index.__contains__, missing),
        ("open scroll, hit", replica.__getitem__, _opened(replicas, opened)),
        ("scroll, miss", replica.get, missing),
    ]


def _opened(replicas: ReplicaSet, keys: Sequence[Coordinate]) -> Sequence[Coordinate]:
    """Open the scrolls: from the second reading on, each is read where it is."""
    for key in keys:
        replicas.open(_NAME)[key]
    return keys


def _closed_ns(replicas: ReplicaSet, keys: Sequence[Coordinate]) -> float:
    """Return the nanoseconds of reading a scroll that is not open, the least of some passes."""
    replica = replicas.open(_NAME)
    found = []
    for _ in range(_PASSES):
        replica.close_documents()
        start = time.perf_counter_ns()
        for key in keys:
            replica[key]
        found.append((time.perf_counter_ns() - start) / len(keys))
    return min(found)


@contextmanager
def _filled(folder: Path, coordinates: Sequence[Coordinate]) -> Iterator[ReplicaSet]:
    folder.mkdir()
    store, replicas = open_replicas(folder)
    replica = replicas.open(_NAME)
    try:
        for i in range(0, len(coordinates), _BATCH):
            for coordinate in coordinates[i : i + _BATCH]:
                replica.import_text(coordinate, _TEXT)
            replicas.commit()
        yield replicas
    finally:
        store.close(clean=True)


@contextmanager
def _others(
    folder: Path,
    present: Sequence[Coordinate],
    asked: Sequence[Coordinate],
    missing: Sequence[Coordinate],
) -> Iterator[list[_Lookup]]:
    """Fill and yield the yardsticks."""
    plain = {str(coordinate): _TEXT for coordinate in present}
    texts, absent = list(map(str, asked)), list(map(str, missing))
    few = asked[:_FEW]
    names = [os.fspath(folder / coordinate.key.hex()) for coordinate in few]
    for name in names:
        Path(name).write_text(_TEXT)
    (folder / "lmdb").mkdir()
    with (
        closing(sqlite3.connect(folder / "plain.sqlite")) as base,
        lmdb.open(os.fspath(folder / "lmdb"), map_size=1 << 34) as env,
    ):
        base.execute("create table scroll (key blob primary key, text) without rowid")
        base.executemany("insert into scroll values (?, ?)", ((c.key, _TEXT) for c in present))
        base.commit()
        with env.begin(write=True) as txn:
            txn.cursor().putmulti((c.key, _TEXT.encode()) for c in present)
        with env.begin() as reading:
            yield [
                ("dict, hit", plain.__getitem__, texts),
                ("dict, miss", plain.get, absent),
                ("file: open, read, close", _read, names),
                ("SQLite, hit", _selecting(base), [c.key for c in few]),
                ("LMDB, hit", reading.get, [c.key for c in few]),
            ]


def _selecting(base: sqlite3.Connection) -> Callable[[bytes], object]:
    def select(key: bytes) -> object:
        return base.execute("select text from scroll where key = ?", (key,)).fetchone()

    return select


def _read(name: str) -> str:
    with open(name, encoding="utf-8") as file:
        return file.read()


def _plain_ns() -> float:
    """Return the time of one `fetch` of the package `phext`."""
    coordinates = nested_coordinates(PLAIN_SCROLLS)
    text = phextfile.implode([(coordinate, _TEXT) for coordinate in coordinates])
    few = Random(1).sample(coordinates, 10)
    keys = [PlainCoordinate(*coordinate.parts) for coordinate in few]
    plain = Phext()
    return _per_key_ns(lambda key: plain.fetch(text, key), keys)


def _per_key_ns(ask: Callable[..., object], keys: Sequence[object]) -> float:
    """Return the nanoseconds of one call, less those of an empty loop; of each the least of some
    passes, since whatever else runs only adds."""
    asked, empty = [], []
    for _ in range(_PASSES):
        start = time.perf_counter_ns()
        for key in keys:
            ask(key)
        middle = time.perf_counter_ns()
        for _key in keys:
            pass
        asked.append(middle - start)
        empty.append(time.perf_counter_ns() - middle)
    return (min(asked) - min(empty)) / len(keys)
