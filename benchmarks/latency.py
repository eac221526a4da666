"""How long an edit in one process takes to be visible in another, alone and in a flood.

"Visible" means that the subscriber's callback has the new text; both processes read one monotonic
clock. Yardsticks of the same run, between two processes too: the round trip of one byte over plain
TCP with blocking sockets, and the same edits by bare pycrdt over a plain trio stream, with neither
TLS, a store, nor any check of what arrives.

A flood offers 10,000 edits a second, spread over 100 scrolls. What is late because the machine
cannot keep up is made up for at once, and the rate that was reached is reported.
"""

import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import pycrdt
import trio

from benchmarks.nodes import LOOPBACK, anonymous_mb, in_other, make_folders, other_node, pin, until
from benchmarks.report import Report
from phextsync.crdt import ROOT
from phextsync.index import Coordinate
from phextsync.node.node import Node, open_node
from phextsync.replica.changes import Change

_EDITS_PER_S = 200
_FLOOD_PER_S = 10_000
_FLOOD_SCROLLS = 100
_TRIPS = 1000
_LENGTH_BYTES = 4


@dataclass(slots=True)
class _Seen:
    """Milliseconds from edit to callback of each edit, and what else a run measured."""

    latencies_ms: list[float] = field(default_factory=list)
    doubled: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0


def measure(report: Report, *, runs: int, edits: int, is_quick: bool) -> None:
    """Add the figures of single edits and of a flood."""
    trip = "loopback_round_trip_ms"
    report.add(trip, [_round_trip_ms() for _ in range(runs)], "ms")
    bare = [_bare_latencies(edits) for _ in range(runs)]
    ours = [_run_nodes(_serve_edits, edits, 1).latencies_ms for _ in range(runs)]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        yardstick = f"bare_visible_{name}_ms"
        report.add(yardstick, [_quantile(found, part) for found in bare], "ms", trip)
        values = [_quantile(found, part) for found in ours]
        report.add(f"edit_visible_{name}_ms", values, "ms", yardstick)
    offered = _FLOOD_PER_S * (1 if is_quick else 5)
    floods = [_run_nodes(_serve_flood, offered, _FLOOD_SCROLLS) for _ in range(runs)]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        values = [_quantile(flood.latencies_ms, part) for flood in floods]
        report.add(f"flood_{name}_ms", values, "ms", f"edit_visible_{name}_ms")
    rates = [offered / flood.seconds for flood in floods]
    report.add("flood_edits_per_s", rates, "edits/s")
    lost = [offered - len(flood.latencies_ms) for flood in floods]
    report.add("flood_lost", lost, "edits")
    report.add("flood_doubled", [flood.doubled for flood in floods], "edits")
    report.add("flood_peak_mb", [flood.peak_mb for flood in floods], "MB")


def _quantile(found: list[float], part: float) -> float:
    return sorted(found)[int(len(found) * part)]


# -- nodes ---------------------------------------------------------------------------------


def _run_nodes(serve: Callable[..., object], edits: int, scrolls: int) -> _Seen:
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        ours, theirs = make_folders(Path(temporary), "ours", "theirs")
        with other_node(theirs, serve, edits) as (port, pipe):
            return trio.run(_collect, ours, port, pipe, edits, scrolls)


async def _collect(folder: Path, port: int, pipe: Connection, edits: int, scrolls: int) -> _Seen:
    """Take the time of every line that arrives, each with the time of its edit in it."""
    peers = [f"{LOOPBACK}:{port}"]
    seen = _Seen()
    read = dict.fromkeys(map(_place, range(scrolls)), 0)
    numbers: set[int] = set()
    is_done = trio.Event()
    async with open_node(folder, host=LOOPBACK, port=0, peers=peers, discover=False) as node:
        replica = node.phext()

        def take(change: Change) -> None:
            now = time.monotonic_ns()
            for place in change.coordinates:
                text = replica[place]
                for line in text[read[place] :].splitlines():
                    number, edited = map(int, line.split())
                    seen.doubled += number in numbers
                    numbers.add(number)
                    seen.latencies_ms.append((now - edited) / 1e6)
                read[place] = len(text)
            if len(numbers) >= edits:
                is_done.set()

        replica.subscribe(take)
        await until(lambda: bool(node.peers()))
        start = time.monotonic()
        pipe.send("go")
        while not is_done.is_set():
            seen.peak_mb = max(seen.peak_mb, anonymous_mb())
            with trio.move_on_after(1):
                await is_done.wait()
        seen.seconds = time.monotonic() - start
        await node.synced()
    return seen


async def _serve_edits(node: Node, pipe: Connection, edits: int) -> None:
    pipe.send(node.port)
    await trio.to_thread.run_sync(pipe.recv)
    start = trio.current_time()
    for i in range(edits):
        await trio.sleep_until(start + i / _EDITS_PER_S)
        node.phext().append(_place(0), f"{i} {time.monotonic_ns()}\n")
    await trio.to_thread.run_sync(pipe.recv)


async def _serve_flood(node: Node, pipe: Connection, edits: int) -> None:
    pipe.send(node.port)
    await trio.to_thread.run_sync(pipe.recv)
    start = trio.current_time()
    done = 0
    while done < edits:
        due = min(edits, 1 + int((trio.current_time() - start) * _FLOOD_PER_S))
        for i in range(done, due):
            node.phext().append(_place(i % _FLOOD_SCROLLS), f"{i} {time.monotonic_ns()}\n")
        done = due
        await trio.sleep_until(start + done / _FLOOD_PER_S)
    await trio.to_thread.run_sync(pipe.recv)


def _place(number: int) -> Coordinate:
    return Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + number)


# -- yardsticks ----------------------------------------------------------------------------


def _round_trip_ms() -> float:
    """Return the median round trip of one byte over plain TCP between two processes."""
    trips = []
    pin(0)
    with in_other(_echo) as pipe, socket.create_connection((LOOPBACK, pipe.recv())) as ours:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_TRIPS):
            start = time.perf_counter()
            ours.sendall(b"x")
            ours.recv(1)
            trips.append((time.perf_counter() - start) * 1000)
    return statistics.median(trips)


def _echo(pipe: Connection) -> None:
    pin(1)
    with socket.create_server((LOOPBACK, 0)) as server:
        pipe.send(server.getsockname()[1])
        theirs, _ = server.accept()
        with theirs:
            theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := theirs.recv(1):
                theirs.sendall(data)


def _bare_latencies(edits: int) -> list[float]:
    """Return milliseconds from edit to observed text by bare pycrdt over a plain trio stream."""
    with in_other(_send_bare, edits) as pipe:
        pin(0)
        return trio.run(_receive_bare, pipe.recv(), edits)


async def _receive_bare(port: int, edits: int) -> list[float]:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    text = document.get(ROOT, type=pycrdt.Text)
    found: list[float] = []
    stream = await trio.open_tcp_stream(LOOPBACK, port)
    buffer = bytearray()
    async with stream:
        async for data in stream:
            buffer += data
            while len(buffer) >= _LENGTH_BYTES:
                end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES])
                if len(buffer) < end:
                    break
                document.apply_update(bytes(buffer[_LENGTH_BYTES:end]))
                del buffer[:end]
                edited = int(str(text).splitlines()[-1])
                found.append((time.monotonic_ns() - edited) / 1e6)
    assert len(found) == edits
    return found


def _send_bare(pipe: Connection, edits: int) -> None:
    pin(1)
    trio.run(_serve_bare, pipe, edits)


async def _serve_bare(pipe: Connection, edits: int) -> None:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    text = document.get(ROOT, type=pycrdt.Text)
    updates: list[bytes] = []
    document.observe(lambda event: updates.append(event.update))
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    async with listener:
        pipe.send(listener.socket.getsockname()[1])
        stream = await listener.accept()
    async with stream:
        start = trio.current_time()
        for i in range(edits):
            await trio.sleep_until(start + i / _EDITS_PER_S)
            with document.transaction():
                text.insert(len(text), f"{time.monotonic_ns()}\n")
            update = updates.pop()
            await stream.send_all(len(update).to_bytes(_LENGTH_BYTES) + update)
