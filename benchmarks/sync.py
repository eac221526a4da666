"""Two node processes on loopback over TLS: first synchronisation, reconnection, latency.

Each process is pinned to a core where there are two; both tell the time by one monotonic clock.
Yardstick of the same run for the first synchronisation: a bare loop that makes a pycrdt document
of each state. `latency` has the edits, `idle` a node without work.
"""

import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pycrdt
import trio

from benchmarks import idle, latency
from benchmarks.nodes import LOOPBACK, make_folders, other_node, until
from benchmarks.report import Report
from phextsync.crdt import ROOT, import_update
from phextsync.index import EMPTY_VERSION, Coordinate
from phextsync.node.node import Node, open_node

TEXT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class PairSync:
    """What one pair of nodes measured: a first synchronisation, and, after 10 edits on each side,
    a second. `wire_ratio` is to the bytes of the states."""

    first_s: float
    first_bytes: float
    wire_ratio: float
    reconnect_ms: float
    reconnect_bytes: float
    reconnect_round_trips: float


def run(*, quick: bool) -> Report:
    """Measure; `quick` takes fewer runs, scrolls and edits."""
    report = Report()
    runs, exponent = (1, 3) if quick else (3, 4)
    count, size = 10**exponent, f"1e{exponent}"
    bare = [_bare_documents_per_s(count) for _ in range(runs)]
    syncs = [measure_sync(count) for _ in range(runs)]
    yardstick = f"bare_documents_per_s@{size}"
    report.add(yardstick, bare, "documents/s")
    rates = [count / sync.first_s for sync in syncs]
    report.add(f"first_sync_scrolls_per_s@{size}", rates, "scrolls/s", yardstick)
    report.add(f"first_sync_wire_ratio@{size}", [sync.wire_ratio for sync in syncs], "ratio")
    report.add(f"reconnect_ms@{size}", [sync.reconnect_ms for sync in syncs], "ms")
    report.add(f"reconnect_bytes@{size}", [sync.reconnect_bytes for sync in syncs], "bytes")
    latency.measure(report, runs=runs, edits=400 if quick else 1000, is_quick=quick)
    idle.measure(report, runs=runs, seconds=5 if quick else 10)
    return report


def measure_sync(count: int) -> PairSync:
    """Measure a pair of nodes of which one has `count` scrolls."""
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        ours, theirs = make_folders(Path(temporary), "ours", "theirs")
        with other_node(theirs, _serve_scrolls, count) as (port, pipe):
            return trio.run(_synchronize, ours, port, pipe, count)


async def _synchronize(folder: Path, port: int, pipe: Connection, count: int) -> PairSync:
    peers = [f"{LOOPBACK}:{port}"]
    async with open_node(folder, host=LOOPBACK, port=0, peers=peers, discover=False) as node:
        index = node.phext().index
        await until(lambda: bool(node.peers()))
        start = time.monotonic()
        await until(lambda: len(index) == count)  # the index holds what is durable
        first_s = time.monotonic() - start
        received = node.peers()[0].traffic.bytes_in
        states = (node.phext().difference(_scroll(i)[0], EMPTY_VERSION) for i in range(count))
        encoded = sum(len(state or b"") for state in states)
    pipe.send("edit")
    await trio.to_thread.run_sync(pipe.recv)
    async with open_node(folder, host=LOOPBACK, port=0, discover=False) as node:
        for i in range(10):
            node.phext().append(_scroll(i * 7)[0], "edited here\n")
    (folder / "peers.json").unlink(missing_ok=True)
    async with open_node(folder, host=LOOPBACK, port=0, peers=peers, discover=False) as node:
        edited = [_scroll(i * 11 + 1)[0] for i in range(10)]
        await until(lambda: bool(node.peers()))
        start = time.monotonic()
        await until(lambda: all("there" in node.phext()[place] for place in edited))
        await node.synced()
        reconnect_ms = (time.monotonic() - start) * 1000
        traffic = node.peers()[0].traffic
    total = traffic.bytes_in + traffic.bytes_out
    trips = traffic.compare_messages / 2
    return PairSync(first_s, received, received / encoded, reconnect_ms, total, trips)


async def _serve_scrolls(node: Node, pipe: Connection, count: int) -> None:
    replica = node.phext()
    for i in range(count):
        replica.import_text(*_scroll(i))
    await node.durable()
    pipe.send(node.port)
    while await trio.to_thread.run_sync(pipe.recv) == "edit":
        await until(lambda: not node.peers())
        for i in range(10):
            replica.append(_scroll(i * 11 + 1)[0], "edited there\n")
        await node.durable()
        pipe.send("done")


def _scroll(i: int) -> tuple[Coordinate, str]:
    text = f"scroll {i} " + "".join(Random(i).choices("abcdefghij klmnop\n", k=TEXT_BYTES))
    place = Coordinate(1, 1, 1, 1, 1, 1, 1 + i // 90_000, 1 + i // 300 % 300, 1 + i % 300)
    return place, text[:TEXT_BYTES]


def _bare_documents_per_s(count: int) -> float:
    """Make a document of each state and ask for its version: what no synchronisation can skip
    that makes documents."""
    states = [import_update(place.key, text) for place, text in map(_scroll, range(count))]
    start = time.perf_counter()
    for state in states:
        document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
        document.get(ROOT, type=pycrdt.Text)
        document.apply_update(state)
        document.get_state()
    return count / (time.perf_counter() - start)
