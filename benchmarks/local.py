"""What reading and writing on one machine cost: trio, plain calls, asyncio, another process.

1,000 scrolls of about 100 characters, and for what is closed or not there, 100,000. Keys are texts
in random order, equal but not identical to those that are held, in explicit loops inside functions.
From the times of the dict and of open scrolls that of an empty loop of the same form is subtracted;
from all others, nothing. The ratios of reads are to a dict that is asked right afterwards.

Writing and appending return when the change is made, and the disk follows within 50 ms; in an
attached process they return when it is on the disk (`attached_durable_ratio`). Yardsticks of the
same run: a dict, `sqlite3` with a write-ahead log and a transaction for each write, with
synchronous=NORMAL, which does not wait for the disk, and FULL, which does; and a file for each
text. Garbage collection is off.
"""

import asyncio
import gc
import random
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median

import trio

import phextsync
from benchmarks.attached import owner, run_writers
from benchmarks.nodes import make_folders
from benchmarks.report import Report
from phextsync import Replica, aio
from phextsync.node.node import open_node

_SCROLLS = 1000
_FEW = 500  # operations that take microseconds or more
_REPEATED = 100
_IN_TURN = 25
_HOST = "127.0.0.1"

# Figures in microseconds, and what each is held against.
_YARDSTICKS = {
    "read_open_ratio": "dict_read_us",
    "read_open_blocking_ratio": "dict_read_us",
    "read_open_us": "dict_read_us",
    "read_open_blocking_us": "dict_read_us",
    "read_open_asyncio_us": "dict_read_us",
    "read_attached_us": "sqlite_read_us",
    "read_closed_us": "sqlite_read_us",
    "read_closed_blocking_us": "sqlite_read_us",
    "write_us": "sqlite_write_us",
    "write_blocking_us": "sqlite_write_us",
    "write_asyncio_us": "sqlite_write_us",
    "write_attached_us": "sqlite_full_write_us",
    "append_us": "file_append_us",
    "append_blocking_us": "file_append_us",
    "append_asyncio_us": "file_append_us",
    "append_attached_us": "sqlite_full_write_us",
}


def run(*, quick: bool) -> Report:
    """Measure; `quick` takes fewer runs, processes and writes."""
    found: dict[str, list[float]] = defaultdict(list)
    gc.collect()
    gc.disable()
    try:
        for _ in range(2 if quick else 5):
            with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
                for name, value in _measure(Path(temporary)).items():
                    found[name].append(value)
    finally:
        gc.enable()
    report = Report()
    for name, values in found.items():
        unit = name.split("@")[0].rsplit("_", 1)[1]
        report.add(name, values, unit, _YARDSTICKS.get(name))
    _add_many(report, *((10, 200) if quick else (50, 2000)))
    return report


def _add_many(report: Report, count: int, writes: int) -> None:
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        (folder,) = make_folders(Path(temporary), "shared")
        seconds, (lost, doubled, disordered) = run_writers(folder, count, writes)
    size = f"@{count}x{writes}"
    report.add(f"attached_writes_per_s{size}", [count * writes / seconds], "writes/s")
    report.add("attached_lost", [lost], "writes")
    report.add("attached_doubled", [doubled], "writes")
    report.add("attached_disordered", [disordered], "writes")


def _measure(temporary: Path) -> dict[str, float]:
    texts = {
        f"1.1.1/1.1.{1 + i // 500}/1.{1 + i % 500}.1": f"scroll {i} ".ljust(100, ".")
        for i in range(_SCROLLS)
    }
    keys = ["".join(key) for key in random.Random(1).sample(list(texts), _SCROLLS)]
    folder, attached = make_folders(temporary, "own", "attached")
    figures = _measure_yardsticks(temporary, texts, keys)
    figures |= trio.run(_measure_trio, folder, texts, keys)
    figures |= _measure_blocking(folder, keys)
    figures |= asyncio.run(_measure_asyncio(folder, keys))
    figures |= _measure_attached(temporary, attached, texts, keys)
    return figures


# -- ways in ---------------------------------------------------------------------------------


async def _measure_trio(
    folder: Path, texts: Mapping[str, str], keys: list[str]
) -> dict[str, float]:
    async with open_node(folder, host=_HOST, port=0, discover=False) as node:
        replica = node.phext()
        await node.import_texts(texts.items())
        figures = {"read_closed_us": _each_us(replica.__getitem__, keys)}
        figures["read_open_us"] = _open_us(replica, keys)
        figures["read_open_ratio"] = figures["read_open_us"] / _open_us(dict(texts), keys)
        figures["write_us"] = _each_us(lambda key: replica.edit(key, "written " + key), keys)
        await node.durable()
        figures["append_us"] = _each_us(lambda key: replica.append(key, "more\n"), keys)
    return figures


def _measure_blocking(folder: Path, keys: list[str]) -> dict[str, float]:
    with phextsync.open(folder, host=_HOST, port=0, discover=False) as handle:
        phext = handle.phext()
        phext.get("9.9.9/9.9.9/9.9.9")  # opens the phext
        figures = {"read_closed_blocking_us": _each_us(phext.__getitem__, keys)}
        figures["write_blocking_us"] = _each_us(lambda key: phext.edit(key, "again " + key), keys)
        handle.durable()
        figures["append_blocking_us"] = _each_us(lambda key: phext.append(key, "more\n"), keys)
        handle.durable()
        for key in keys:  # those that were changed take the long way once
            phext.append(key, ".")
            assert phext[key]
        figures["read_open_blocking_us"] = _open_us(phext, keys)
        plain_us = _open_us(dict.fromkeys(map(str, phext), "text"), keys)
        figures["read_open_blocking_ratio"] = figures["read_open_blocking_us"] / plain_us
    return figures


async def _measure_asyncio(folder: Path, keys: list[str]) -> dict[str, float]:
    async with aio.open(folder, host=_HOST, port=0, discover=False) as handle:
        phext = handle.phext()
        few, figures = keys[:_FEW], {}
        start = time.perf_counter()
        for key in few:
            await phext.edit(key, "asyncio " + key)
        figures["write_asyncio_us"] = _since_us(start, few)
        await handle.durable()
        start = time.perf_counter()
        for key in few:
            await phext.append(key, "more\n")
        figures["append_asyncio_us"] = _since_us(start, few)
        for key in few:
            await phext.get(key)
        await handle.durable()
        start = time.perf_counter()
        for _ in range(_REPEATED):
            for key in few:
                await phext.get(key)
        figures["read_open_asyncio_us"] = _since_us(start, few) / _REPEATED
    return figures


def _measure_attached(
    temporary: Path, folder: Path, texts: Mapping[str, str], keys: list[str]
) -> dict[str, float]:
    with (
        owner(folder) as process,
        phextsync.open(folder, host=_HOST, port=0, discover=False) as handle,
    ):
        assert not handle.is_owner
        phext = handle.phext()
        phext.import_texts(texts.items())
        figures = {"read_attached_us": _each_us(phext.__getitem__, keys)}
        figures["write_attached_us"] = _each_us(lambda key: phext.edit(key, "w" + key), keys)
        figures["append_attached_us"] = _each_us(lambda key: phext.append(key, "m\n"), keys)
        figures["attached_durable_ratio"] = _durable_ratio(temporary, phext, keys)
        process.kill()
        start = time.perf_counter()
        phext.append(keys[0], "after the owner's death\n")
        figures["takeover_ms"] = (time.perf_counter() - start) * 1e3
    return figures


def _durable_ratio(temporary: Path, phext: phextsync.Phext, keys: list[str]) -> float:
    """Return how long an edit takes until it is durable, as a multiple of a transaction of
    `sqlite3` with synchronous=FULL: both in turn, a few at a time, so that a disk that is busy for
    a while is so for both."""
    with closing(sqlite3.connect(temporary / "in_turn", isolation_level=None)) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = full")
        database.execute("create table texts (place text primary key, text text)")
        ratios = []
        for start in range(0, _FEW, _IN_TURN):
            some = keys[start : start + _IN_TURN]
            theirs = _each_us(
                lambda key: database.execute("replace into texts values (?, ?)", (key, "w" + key)),
                some,
            )
            ratios.append(_each_us(lambda key: phext.edit(key, "in turn " + key), some) / theirs)
    return median(ratios)


# -- yardsticks ------------------------------------------------------------------------------


def _measure_yardsticks(
    temporary: Path, texts: Mapping[str, str], keys: list[str]
) -> dict[str, float]:
    figures = {"dict_read_us": _open_us(dict(texts), keys)}
    for name, synchronous in (("sqlite", "NORMAL"), ("sqlite_full", "FULL")):
        with closing(sqlite3.connect(temporary / name, isolation_level=None)) as database:
            read_us, write_us = _measure_sqlite(database, synchronous, texts, keys)
        figures[f"{name}_read_us"], figures[f"{name}_write_us"] = read_us, write_us
    paths = {key: temporary / key.replace("/", ";") for key in keys}
    figures["file_write_us"] = _each_us(lambda key: paths[key].write_text("w" + key), keys)
    figures["file_read_us"] = _each_us(lambda key: paths[key].read_text(), keys)
    figures["file_append_us"] = _each_us(lambda key: _append(paths[key]), keys)
    return figures


def _measure_sqlite(
    database: sqlite3.Connection, synchronous: str, texts: Mapping[str, str], keys: list[str]
) -> tuple[float, float]:
    ask = database.execute
    ask("pragma journal_mode = wal")
    ask(f"pragma synchronous = {synchronous}")
    ask("create table texts (place text primary key, text text)")
    with database:
        database.executemany("insert into texts values (?, ?)", texts.items())
    read, write = "select text from texts where place = ?", "replace into texts values (?, ?)"
    return (
        _each_us(lambda key: ask(read, (key,)).fetchone(), keys),
        _each_us(lambda key: ask(write, (key, "written " + key)), keys),
    )


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more\n")


# -- clocks ----------------------------------------------------------------------------------


def _open_us(texts: Mapping[str, str] | Replica | phextsync.Phext, keys: list[str]) -> float:
    """Return microseconds of one subscript, when all texts are there, without the loop."""
    for key in keys:
        texts[key]
    best = empty = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(_REPEATED):
            for key in keys:
                texts[key]
        best = min(best, time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(_REPEATED):
            for _key in keys:
                pass
        empty = min(empty, time.perf_counter() - start)
    return (best - empty) / _REPEATED / len(keys) * 1e6


def _each_us(operation: Callable[[str], object], keys: list[str]) -> float:
    """Return microseconds of one operation on each of a few keys."""
    few = keys[:_FEW]
    start = time.perf_counter()
    for key in few:
        operation(key)
    return _since_us(start, few)


def _since_us(start: float, keys: list[str]) -> float:
    return (time.perf_counter() - start) / len(keys) * 1e6
