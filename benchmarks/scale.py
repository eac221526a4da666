"""A million scrolls of 100 bytes: importing, starting, idling, listing, reading, a first
synchronisation, editing, and the synchronisation of a hundred edits.

Every part runs in a fresh process. Memory is anonymous memory (`RssAnon`): the store's mapped
pages belong to the page cache and are given up under pressure. "Cold" means that the scroll's
document is not open. Yardsticks of the same run: the same keys and values written and scanned
with plain LMDB, one durable write with plain LMDB, a `dict` of as many texts.
"""

import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Final

import lmdb
import trio

from benchmarks.nodes import LOOPBACK, anonymous_mb, in_child, make_folders, other_node, pin, until
from benchmarks.report import Report
from phextsync.crdt import import_update
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import DEFAULT_PHEXT, Node, open_node
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore

_TEXT_BYTES: Final = 100
_IMPORTED_AT_ONCE: Final = 10_000
_READS: Final = 2000
_EDITS: Final = 100
_SETTLE_S: Final = 1.0

Figures = dict[str, tuple[float, str, str | None]]
"""Value, unit and yardstick by name."""


def run(*, quick: bool) -> Report:
    """Measure with 10^6 scrolls, or with 10^5 if `quick`."""
    exponent = 5 if quick else 6
    count, size = 10**exponent, f"1e{exponent}"
    report = Report()
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        ours, theirs = make_folders(Path(temporary), "ours", "theirs")
        plain = Path(temporary) / "plain"
        plain.mkdir()
        for figures in (
            _peaking(in_child(_import, theirs, count), "import_peak_mb"),
            in_child(_put_plainly, plain, count)[0],
            in_child(_scan_plainly, plain)[0],
            in_child(_hold_dict, count)[0],
            _peaking(in_child(_start, theirs, time.monotonic()), "start_peak_mb"),
            in_child(_read, theirs, count)[0],
            _peaking(_beside(theirs, count, _receive, ours), "first_sync_peak_mb"),
            in_child(_edit, theirs, count)[0],
            _beside(theirs, count, _catch_up, ours)[0],
        ):
            for name, (value, unit, yardstick) in figures.items():
                report.add(f"{name}@{size}", [value], unit, yardstick and f"{yardstick}@{size}")
    return report


def _import(folder: Path, count: int) -> Figures:
    total_s = 0.0
    scrolls = _scrolls(count)
    with _replicas(folder) as replicas:
        replica = replicas.open(DEFAULT_PHEXT)
        while some := list(islice(scrolls, _IMPORTED_AT_ONCE)):
            start = time.perf_counter()
            for place, text in some:
                replica.import_text(place, text)
            replicas.commit()
            total_s += time.perf_counter() - start
    return {
        "import_scrolls_per_s": (count / total_s, "scrolls/s", "plain_put_scrolls_per_s"),
        "file_bytes_per_scroll": (
            _file_bytes(folder / "store") / count,
            "bytes",
            "plain_file_bytes_per_scroll",
        ),
    }


def _put_plainly(folder: Path, count: int) -> Figures:
    """Write heads and states of the same sizes, as often made durable."""
    total_s = 0.0
    scrolls = _scrolls(count)
    with _plain(folder) as env:
        heads, states = env.open_db(b"heads"), env.open_db(b"states")
        while some := list(islice(scrolls, _IMPORTED_AT_ONCE)):
            keys = [bytes(4) + place.key for place, _ in some]
            written = {
                heads: [(key, bytes(44)) for key in keys],
                states: [
                    (key, import_update(place.key, text) + bytes(8))
                    for key, (place, text) in zip(keys, some, strict=True)
                ],
            }
            start = time.perf_counter()
            with env.begin(write=True) as txn:
                for database, pairs in written.items():
                    txn.cursor(db=database).putmulti(pairs)
            total_s += time.perf_counter() - start
        puts_ms = _median_ms(partial(_put_durably, env, states, key) for key in keys[:_EDITS])
    return {
        "plain_put_scrolls_per_s": (count / total_s, "scrolls/s", None),
        "plain_file_bytes_per_scroll": (_file_bytes(folder) / count, "bytes", None),
        "plain_put_durable_ms": (puts_ms, "ms", None),
    }


def _put_durably(env: "lmdb.Environment", database: "lmdb._Database", key: bytes) -> None:
    with env.begin(write=True) as txn:
        txn.put(key, bytes(_TEXT_BYTES), db=database)


def _scan_plainly(folder: Path) -> Figures:
    """Read every head, as a start has to."""
    with _plain(folder) as env:
        heads = env.open_db(b"heads")
        start = time.perf_counter()
        with env.begin() as txn:
            for key, value in txn.cursor(db=heads):
                len(key) + len(value)
        return {"plain_scan_s": (time.perf_counter() - start, "s", None)}


def _hold_dict(count: int) -> Figures:
    before = anonymous_mb()
    held = {str(place): text for place, text in _scrolls(count)}
    used = anonymous_mb() - before
    start = time.perf_counter()
    for _ in sorted(held):
        pass
    listed_ns = (time.perf_counter() - start) / count * 1e9
    return {"dict_mb": (used, "MB", None), "dict_sorted_ns_per_scroll": (listed_ns, "ns", None)}


def _start(folder: Path, process_began: float) -> Figures:
    return trio.run(_start_node, folder, process_began)


async def _start_node(folder: Path, process_began: float) -> Figures:
    began = time.monotonic()
    async with open_node(folder, host=LOOPBACK, port=0, discover=False) as node:
        node.phext()  # as the first peer's hello would open it
        ready = time.monotonic()
        await trio.sleep(_SETTLE_S)
        used = anonymous_mb()
    return {
        "start_s": (ready - began, "s", "plain_scan_s"),
        "start_process_s": (ready - process_began, "s", "plain_scan_s"),
        "idle_mb": (used, "MB", "dict_mb"),
    }


def _read(folder: Path, count: int) -> Figures:
    source = Random(1)
    with _replicas(folder) as replicas:
        replica = replicas.open(DEFAULT_PHEXT)
        start = time.perf_counter()
        listed = sum(1 for _ in replica.coordinates())
        listed_ns = (time.perf_counter() - start) / count * 1e9
        start = time.perf_counter()
        passed = sum(1 for _ in replica.scrolls())
        passed_us = (time.perf_counter() - start) / count * 1e6
        assert listed == passed == len(replica) == count
        lowers = [_place(100 * i) for i in source.sample(range(count // 100 - 1), _READS // 10)]
        ranges = [CoordinateRange(lower, _section_after(lower)) for lower in lowers]
        queries_ms = _median_ms(partial(_exhaust, replica.coordinates, range_) for range_ in ranges)
        places = [_place(i) for i in source.sample(range(count), _READS)]
        reads_ms = _median_ms(partial(replica.__getitem__, place) for place in places)
    return {
        "list_ns_per_scroll": (listed_ns, "ns", "dict_sorted_ns_per_scroll"),
        "pass_us_per_scroll": (passed_us, "us", None),
        "prefix_query_us": (1000 * queries_ms, "us", None),
        "read_us": (1000 * reads_ms, "us", None),
    }


def _exhaust(
    query: Callable[[CoordinateRange], Iterator[Coordinate]], range_: CoordinateRange
) -> None:
    found = list(query(range_))
    assert len(found) == 100


def _edit(folder: Path, count: int) -> Figures:
    return trio.run(_edit_durably, folder, count)


async def _edit_durably(folder: Path, count: int) -> Figures:
    found = []
    async with open_node(folder, host=LOOPBACK, port=0, discover=False) as node:
        for place in _edited(count):
            start = time.perf_counter()
            node.phext().append(place, "edited\n")
            await node.durable()
            found.append((time.perf_counter() - start) * 1000)
    return {"edit_durable_ms": (sorted(found)[_EDITS // 2], "ms", "plain_put_durable_ms")}


def _beside(
    theirs: Path, count: int, measure: Callable[..., Awaitable[Figures]], ours: Path
) -> tuple[Figures, float]:
    """Measure at a node whose peer, in another process, has all scrolls."""
    with other_node(theirs, _serve, count) as (port, _):
        return in_child(_run_pinned, measure, ours, port, count)


def _run_pinned(
    measure: Callable[..., Awaitable[Figures]], folder: Path, port: int, count: int
) -> Figures:
    pin(0)
    return trio.run(measure, folder, port, count)


async def _receive(folder: Path, port: int, count: int) -> Figures:
    peers = [f"{LOOPBACK}:{port}"]
    async with open_node(folder, host=LOOPBACK, port=0, peers=peers, discover=False) as node:
        index = node.phext().index
        start = await until(lambda: bool(node.peers()))
        taken_s = (
            await until(lambda: len(index) == count) - start
        )  # the index holds what is durable
    return {"first_sync_scrolls_per_s": (count / taken_s, "scrolls/s", "import_scrolls_per_s")}


async def _catch_up(folder: Path, port: int, count: int) -> Figures:
    peers = [f"{LOOPBACK}:{port}"]
    async with open_node(folder, host=LOOPBACK, port=0, peers=peers, discover=False) as node:
        index, edited = node.phext().index, _edited(count)
        start = await until(lambda: bool(node.peers()))
        end = await until(lambda: all(index.size_of(place) > _TEXT_BYTES for place in edited))
        traffic = node.peers()[0].traffic
    return {
        "catch_up_ms": (1000 * (end - start), "ms", None),
        "catch_up_bytes": (traffic.bytes_in + traffic.bytes_out, "bytes", None),
    }


def _edited(count: int) -> list[Coordinate]:
    return [_place(i) for i in Random(2).sample(range(count), _EDITS)]


async def _serve(node: Node, pipe: Connection, count: int) -> None:
    assert len(node.phext()) == count
    pipe.send(node.port)
    await trio.to_thread.run_sync(pipe.recv)


def _peaking(measured: tuple[Figures, float], name: str) -> Figures:
    figures, peak = measured
    return {**figures, name: (peak, "MB", None)}


def _place(i: int) -> Coordinate:
    """Return the i-th place: a hundred scrolls a section, a hundred sections a chapter."""
    return Coordinate(1, 1, 1, 1, 1, 1, 1 + i // 10_000, 1 + i // 100 % 100, 1 + i % 100)


def _section_after(place: Coordinate) -> Coordinate:
    return Coordinate(*place.parts[:7], place.section + 1, 1)


def _scrolls(count: int) -> Iterator[tuple[Coordinate, str]]:
    for i in range(count):
        yield _place(i), f"scroll {i} of {count}, ".ljust(_TEXT_BYTES, "~")


def _median_ms(calls: Iterator[Callable[[], object]]) -> float:
    found = []
    for call in calls:
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1000)
    return sorted(found)[len(found) // 2]


@contextmanager
def _replicas(folder: Path) -> Iterator[ReplicaSet]:
    store = LmdbStore(folder)
    try:
        yield ReplicaSet(
            store,
            node_id=os.urandom(16),
            random=Random(0),
            wall_time_ms=lambda: time.time_ns() // 1_000_000,
        )
    finally:
        store.close(clean=True)


@contextmanager
def _plain(folder: Path) -> Iterator["lmdb.Environment"]:
    with lmdb.open(os.fspath(folder), map_size=1 << 40, max_dbs=2, readahead=False) as env:
        yield env


def _file_bytes(folder: Path) -> int:
    return (folder / "data.mdb").stat().st_blocks * 512
