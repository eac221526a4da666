"""How long an edit in one process takes to be visible in another, alone and in a flood.

"Visible" means that the subscriber's callback has the new text; both processes read one monotonic
clock. Yardsticks of the same run, between two processes too: the round trip of one byte over plain
TCP with blocking sockets, and the same edits by bare pycrdt over a plain trio stream, with neither
TLS, a store, nor any check of what arrives. `..._cpu_us` is the processor time of both processes
for an edit, commits and acknowledgements with it; `..._wire_bytes` what the writer sends, without
what TLS adds.

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
from benchmarks.report import Report, quantile
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
    cpu_s: float = 0.0
    sent_bytes: int = 0


def measure(report: Report, *, runs: int, edits: int, is_quick: bool) -> None:
    """Add the figures of single edits and of a flood."""
    trip = "loopback_round_trip_ms"
    report.add(trip, [round_trip_ms() for _ in range(runs)], "ms")
    pairs = [(_run_bare(edits), _run_nodes(_serve_edits, edits, 1)) for _ in range(runs)]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        yardstick = f"bare_visible_{name}_ms"
        quantiles = [[quantile(seen.latencies_ms, part) for seen in pair] for pair in pairs]
        report.add(yardstick, [bare for bare, _ in quantiles], "ms", trip)
        report.add(f"edit_visible_{name}_ms", [ours for _, ours in quantiles], "ms", yardstick)
        report.add(f"edit_visible_{name}_ratio", [ours / bare for bare, ours in quantiles], "")
    _add_spread(report, [ours for _, ours in pairs])
    for kind, unit in (("cpu", "us"), ("wire", "bytes")):
        yardstick = f"bare_edit_{kind}_{unit}"
        spent = [[_spent(seen, kind) / edits for seen in pair] for pair in pairs]
        report.add(yardstick, [bare for bare, _ in spent], unit)
        report.add(f"edit_{kind}_{unit}", [ours for _, ours in spent], unit, yardstick)
        report.add(f"edit_{kind}_ratio", [ours / bare for bare, ours in spent], "")
    offered = _FLOOD_PER_S * (1 if is_quick else 5)
    floods = [_run_nodes(_serve_flood, offered, _FLOOD_SCROLLS) for _ in range(runs)]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        values = [quantile(flood.latencies_ms, part) for flood in floods]
        report.add(f"flood_{name}_ms", values, "ms", f"edit_visible_{name}_ms")
    rates = [offered / flood.seconds for flood in floods]
    report.add("flood_edits_per_s", rates, "edits/s")
    lost = [offered - len(flood.latencies_ms) for flood in floods]
    report.add("flood_lost", lost, "edits")
    report.add("flood_doubled", [flood.doubled for flood in floods], "edits")
    report.add("flood_peak_mb", [flood.peak_mb for flood in floods], "MB")


def _add_spread(report: Report, found: list[_Seen]) -> None:
    spreads = [quantile(f.latencies_ms, 0.99) / quantile(f.latencies_ms, 0.5) for f in found]
    report.add("edit_visible_spread", spreads, "")


def _spent(seen: _Seen, kind: str) -> float:
    return 1e6 * seen.cpu_s if kind == "cpu" else seen.sent_bytes


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
        start, cpu_s = time.monotonic(), time.process_time()
        pipe.send("go")
        while not is_done.is_set():
            seen.peak_mb = max(seen.peak_mb, anonymous_mb())
            with trio.move_on_after(1):
                await is_done.wait()
        seen.seconds = time.monotonic() - start
        await node.synced()
        cpu_s = time.process_time() - cpu_s
        their_cpu_s, seen.sent_bytes = await trio.to_thread.run_sync(pipe.recv)
        seen.cpu_s = cpu_s + their_cpu_s
    return seen


async def _serve_edits(node: Node, pipe: Connection, edits: int) -> None:
    pipe.send(node.port)
    await trio.to_thread.run_sync(pipe.recv)
    cpu_s, sent_bytes = time.process_time(), node.traffic().bytes_out
    start = trio.current_time()
    for i in range(edits):
        await trio.sleep_until(start + i / _EDITS_PER_S)
        node.phext().append(_place(0), f"{i} {time.monotonic_ns()}\n")
    await _tell_spent(node, pipe, cpu_s, sent_bytes)


async def _tell_spent(node: Node, pipe: Connection, cpu_s: float, sent_bytes: int) -> None:
    """Tell what was spent since `cpu_s` and `sent_bytes`, once all is on both disks."""
    await node.synced()
    pipe.send((time.process_time() - cpu_s, node.traffic().bytes_out - sent_bytes))
    await trio.to_thread.run_sync(pipe.recv)


async def _serve_flood(node: Node, pipe: Connection, edits: int) -> None:
    pipe.send(node.port)
    await trio.to_thread.run_sync(pipe.recv)
    cpu_s, sent_bytes = time.process_time(), node.traffic().bytes_out
    start = trio.current_time()
    done = 0
    while done < edits:
        due = min(edits, 1 + int((trio.current_time() - start) * _FLOOD_PER_S))
        for i in range(done, due):
            node.phext().append(_place(i % _FLOOD_SCROLLS), f"{i} {time.monotonic_ns()}\n")
        done = due
        await trio.sleep_until(start + done / _FLOOD_PER_S)
    await _tell_spent(node, pipe, cpu_s, sent_bytes)


def _place(number: int) -> Coordinate:
    return Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + number)


# -- yardsticks ----------------------------------------------------------------------------


def round_trip_ms() -> float:
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


def _run_bare(edits: int) -> _Seen:
    """Take the time of edits by bare pycrdt over a plain trio stream."""
    with in_other(_send_bare, edits) as pipe:
        pin(0)
        seen = trio.run(_receive_bare, pipe.recv(), edits)
        seen.cpu_s += pipe.recv()
        return seen


async def _receive_bare(port: int, edits: int) -> _Seen:
    seen = _Seen()
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    text = document.get(ROOT, type=pycrdt.Text)
    stream = await trio.open_tcp_stream(LOOPBACK, port)
    buffer = bytearray()
    cpu_s = time.process_time()
    async with stream:
        async for data in stream:
            buffer += data
            seen.sent_bytes += len(data)
            while len(buffer) >= _LENGTH_BYTES:
                end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES])
                if len(buffer) < end:
                    break
                document.apply_update(bytes(buffer[_LENGTH_BYTES:end]))
                del buffer[:end]
                whole = str(text)
                edited = int(whole[whole.rfind("\n", 0, -1) + 1 :])
                seen.latencies_ms.append((time.monotonic_ns() - edited) / 1e6)
    seen.cpu_s = time.process_time() - cpu_s
    assert len(seen.latencies_ms) == edits
    return seen


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
        cpu_s = time.process_time()
        start = trio.current_time()
        for i in range(edits):
            await trio.sleep_until(start + i / _EDITS_PER_S)
            with document.transaction():
                text.insert(len(text), f"{time.monotonic_ns()}\n")
            update = updates.pop()
            await stream.send_all(len(update).to_bytes(_LENGTH_BYTES) + update)
        pipe.send(time.process_time() - cpu_s)
