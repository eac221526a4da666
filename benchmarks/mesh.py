"""Six real node processes: on hosts of their own where there can be any, else on loopback."""

import multiprocessing
import os
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.hosts import hosts
from benchmarks.nodes import LOOPBACK, anonymous_mb
from phextsync.control.client import Attachment
from phextsync.control.frames import Value
from phextsync.control.upkeep import repair
from phextsync.errors import PhextsyncError
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.reporting import Curve, Plot, Section, Series, cumulative, energy_j, ring
from phextsync.store.folder import DATA_FILE, STORE
from sims.processes import Process, mesh, wait_until_equal

COUNT: Final = 6

_NAMES: Final = [f"agent{i}" for i in range(COUNT)]
_LINE_BYTES: Final = 32
_LOAD_PER_S: Final = 200
_LOAD_BATCH: Final = 10
_WAIT_S: Final = 30.0
_EDITS_PER_MINUTE: Final = 36  # six agents, an edit every 10 s each
_OPERATIONS: Final = 20
_MEMORY_BYTES_MAX: Final = 16 << 10
_MEMORY_EVERY: Final = 10
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


Measure = Callable[[Sequence[Process]], Section]


@contextmanager
def six() -> Iterator[list[Process]]:
    """Run six nodes, each linked to all others."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="phextsync-bench-")))
        prefixes: list[list[str]] = []
        with suppress(PhextsyncError):
            prefixes = stack.enter_context(hosts(COUNT))
        if prefixes:
            nodes = stack.enter_context(mesh(folder, _NAMES, prefixes=prefixes))
            for node in nodes:
                node.launch()
        else:
            options = ("--host", LOOPBACK, "--port", "0", "--no-mdns")
            nodes = stack.enter_context(mesh(folder, _NAMES, options=options))
            for i, node in enumerate(nodes):
                for other in nodes[:i]:
                    node.options += ("--peer", f"{LOOPBACK}:{other.status()['port']}")
                node.start()
        for node in nodes:
            node.wait_until(_is_linked)
        yield nodes


def _is_linked(status: dict[str, object]) -> bool:
    peers = status["peers"]
    return isinstance(peers, list) and len(peers) == COUNT - 1


def _is_timed(status: dict[str, object]) -> bool:
    peers = status["peers"]
    return isinstance(peers, list) and all(peer["round_trip_ms"] for peer in peers)


def topology(nodes: Sequence[Process]) -> Section:
    """Tell who is linked to whom."""
    for node in nodes:
        node.wait_until(_is_timed)
    rows = [node.status()["peers"] for node in nodes]
    edges = sorted(
        {
            (min(i, _NAMES.index(peer["name"])), max(i, _NAMES.index(peer["name"])))
            for i, peers in enumerate(rows)
            for peer in peers
        }
    )
    curves, labels = ring(_NAMES, edges)
    trips = tuple(peer["round_trip_ms"] for row in rows for peer in row)
    series = (
        Series("links", "links", (float(len(edges)),)),
        Series("round trip by pings", "ms", trips, "each link, both ends"),
    )
    has_hosts = bool(nodes[0].prefix)
    where = "each in a network namespace, on a bridge of the kernel's, found by mDNS"
    method = f"Six processes of `phextsync up`, {where if has_hosts else 'on loopback'}."
    plot = Plot("topology", "The mesh as it is connected", curves, labels=labels)
    return Section("Topology", method, series, (plot,))


# -- latency -------------------------------------------------------------------------------


def latency(nodes: Sequence[Process], edits: int) -> Section:
    """Take the time from an edit at one node until clients of the five others see it."""
    series: list[Series] = []
    curves: list[Curve] = []
    for name, is_loaded in (("idle", False), ("under load", True)):
        stop = multiprocessing.get_context("spawn").Event()
        with _load(nodes[-1].folder, stop) if is_loaded else ExitStack():
            one, five = _edit_and_see(nodes, edits, f"1.1.1/1.1.1/1.1.{1 + is_loaded}")
            stop.set()
        for way, found in (("one to one", one), ("one to five", five)):
            series.append(Series(f"{way}, {name}", "ms", tuple(found)))
            curves.append(cumulative(f"{way}, {name}", found))
    method = (
        "A process beside one node appends a line; threads of it are told by the five others "
        "of the change. Both ways through a local socket are part of it. One to one: each of "
        f"the five by itself; one to five: the last of them. Load: {_LOAD_PER_S} appends a "
        "second at another node, to 100 other scrolls. All nodes, the load and the clients "
        "share the cores."
    )
    plot = Plot(
        "latency", "From edit to visible", tuple(curves), "ms", "part of edits", is_log_x=True
    )
    return Section("Latency between nodes", method, tuple(series), (plot,))


def _edit_and_see(
    nodes: Sequence[Process], edits: int, place: str
) -> tuple[list[float], list[float]]:
    """Return milliseconds until each of five saw an edit, and until the last did."""
    seen: queue.Queue[float] = queue.Queue()
    one: list[float] = []
    five: list[float] = []
    ready = threading.Barrier(COUNT)
    watchers = [
        threading.Thread(target=_see, args=(node.folder, place, edits, ready, seen), daemon=True)
        for node in nodes[1:]
    ]
    for watcher in watchers:
        watcher.start()
    ready.wait(_WAIT_S)
    with Attachment(nodes[0].folder) as attachment:
        for i in range(edits):
            line = f"edit {i}".ljust(_LINE_BYTES - 1) + "\n"
            start = time.monotonic()
            attachment.ask("append", DEFAULT_PHEXT, place, line)
            times = [seen.get(timeout=_WAIT_S) - start for _ in watchers]
            one.extend(1000 * seconds for seconds in times)
            five.append(1000 * max(times))
    for watcher in watchers:
        watcher.join(_WAIT_S)
    return one, five


def _see(
    folder: Path, place: str, edits: int, ready: threading.Barrier, seen: "queue.Queue[float]"
) -> None:
    with Attachment(folder) as attachment:
        next_change = attachment.watch(DEFAULT_PHEXT, place)
        ready.wait(_WAIT_S)
        lines = 0
        while lines < edits and (change := next_change()):
            if any(scroll.size > lines * _LINE_BYTES for scroll in change.scrolls):
                seen.put(time.monotonic())
                lines += 1


@contextmanager
def _load(folder: Path, stop: Event) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_append, args=(folder, stop))
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join()


def _append(folder: Path, stop: Event) -> None:
    number = 0
    with Attachment(folder) as attachment:
        start = time.monotonic()
        while not stop.is_set():
            changes: list[Value] = [
                ["append", f"3.1.1/1.1.1/1.1.{1 + (number + i) % 100}", f"line {number + i}\n"]
                for i in range(_LOAD_BATCH)
            ]
            attachment.ask("batch", DEFAULT_PHEXT, changes)
            number += _LOAD_BATCH
            time.sleep(max(0.0, start + number / _LOAD_PER_S - time.monotonic()))


# -- availability --------------------------------------------------------------------------


def availability(nodes: Sequence[Process], minutes: Sequence[int]) -> Section:
    """Stop up to three nodes without a word, use the others; then let one miss work."""
    series: list[Series] = []
    for offline in range(4):
        with _silenced(nodes[COUNT - offline :]):
            reads, writes, accepted = _use(
                nodes[: COUNT - offline], f"4.1.1/1.1.1/1.1.{1 + offline}"
            )
        note = f"of {_OPERATIONS * (COUNT - offline)}"
        series.append(
            Series(f"reads answered, {offline} of 6 offline", "part", (accepted[0],), note)
        )
        series.append(
            Series(f"writes accepted, {offline} of 6 offline", "part", (accepted[1],), note)
        )
        series.append(Series(f"read, {offline} of 6 offline", "ms", reads))
        series.append(Series(f"write to durable, {offline} of 6 offline", "ms", writes))
        for node in nodes:
            node.wait_until(_is_linked)
    curves = []
    noticed: list[float] = []
    for missed in minutes:
        edits = missed * _EDITS_PER_MINUTE
        seconds, curve = _miss(nodes, edits, noticed, _worth(missed))
        note = f"{edits} edits"
        series.append(Series(f"catch up after {_worth(missed)} of work", "s", (seconds,), note))
        curves.append(curve)
    series.append(Series("until a silent peer is noticed", "s", tuple(noticed)))
    plot = Plot(
        "recovery",
        "Back after being offline",
        tuple(curves),
        "s since return",
        "part of the bytes held",
    )
    method = (
        "Offline: the process is stopped (SIGSTOP), so that nobody is told. Read and written "
        "at once, at all others. Work missed: six agents that each append a line of about 50 "
        "bytes to a log every 10 s, written in batches while one node is stopped; catching "
        "up lasts from its going on until its fingerprints are those of the others."
    )
    return Section("Availability", method, tuple(series), (plot,))


def _worth(minutes: int) -> str:
    return {1: "1 minute", 60: "1 hour", 1440: "1 day"}[minutes]


@contextmanager
def _silenced(nodes: Sequence[Process]) -> Iterator[None]:
    for node in nodes:
        node.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            node.send_signal(signal.SIGCONT)


def _use(
    nodes: Sequence[Process], place: str
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, float]]:
    """Return milliseconds of reads and writes, and which part of each succeeded."""
    reads: list[float] = []
    writes: list[float] = []
    for node in nodes:
        with Attachment(node.folder) as attachment:
            for i in range(_OPERATIONS):
                start = time.perf_counter()
                attachment.ask("append", DEFAULT_PHEXT, place, f"line {i}\n")
                writes.append((time.perf_counter() - start) * 1000)
                start = time.perf_counter()
                answer = attachment.ask("get", DEFAULT_PHEXT, place)
                if isinstance(answer, str) and f"line {i}\n" in answer:
                    reads.append((time.perf_counter() - start) * 1000)
    count = _OPERATIONS * len(nodes)
    return tuple(reads), tuple(writes), (len(reads) / count, len(writes) / count)


def _miss(
    nodes: Sequence[Process], edits: int, noticed: list[float], name: str
) -> tuple[float, Curve]:
    """Return the seconds until the last node has what it missed, and how it got there."""
    with _silenced(nodes[-1:]):
        start = time.monotonic()
        nodes[0].wait_until(lambda status: len(status["peers"]) == COUNT - 2)
        noticed.append(time.monotonic() - start)
        with Attachment(nodes[0].folder) as attachment:
            before = _text_bytes(attachment)
            for i in range(0, edits, 500):
                changes: list[Value] = [
                    ["append", f"5.1.1/1.1.1/1.{1 + j % 6}.{1 + j // 10_000}", _log_line(j)]
                    for j in range(i, min(edits, i + 500))
                ]
                attachment.ask("batch", DEFAULT_PHEXT, changes)
            after = _text_bytes(attachment)
        wait_until_equal(nodes[:-1])
        wanted = nodes[0].held()
        start = time.monotonic()
    xs, ys = [0.0], [0.0]
    with Attachment(nodes[-1].folder) as attachment:
        while time.monotonic() - start < _WAIT_S * 4:
            held = _text_bytes(attachment)
            xs.append(time.monotonic() - start)
            ys.append(min(1.0, max(0.0, (held - before) / (after - before))))
            if held == after and nodes[-1].held() == wanted:
                break
            time.sleep(0.01)
        else:
            raise AssertionError(f"{nodes[-1].folder.name} did not catch up")
    for node in nodes:
        node.wait_until(_is_linked)
    return xs[-1], Curve(name, tuple(xs), tuple(ys))


def _log_line(i: int) -> str:
    return f"{i:06} agent {i % 6} looked at file {i * 7919 % 1000} and went on\n"


def _text_bytes(attachment: Attachment) -> int:
    match attachment.ask("list", DEFAULT_PHEXT, "5.*", ""):
        case [list(rows), bool()]:
            return sum(row[1] for row in rows if isinstance(row, list) and isinstance(row[1], int))
        case other:
            raise AssertionError(f"expected a page, found {other!r:.60}")


# -- growth --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Size:
    """What a mesh has come to: bytes, processor seconds, updates that its nodes received."""

    text: float
    store: float
    resident: float
    network: float
    processor_s: float
    updates: float
    redundant: float


def growth(nodes: Sequence[Process], days: int, lines: int) -> Section:
    """Replay days of six agents, one at each node; the first node's folder is compacted."""
    sizes = [_size(nodes)]
    joules = energy_j()
    for day in range(days):
        agents = [
            threading.Thread(target=_live, args=(node.folder, agent, day, lines))
            for agent, node in enumerate(nodes)
        ]
        for thread in agents:
            thread.start()
        for thread in agents:
            thread.join()
        wait_until_equal(nodes)
        sizes.append(_size(nodes))
    edits = days * lines * COUNT * (1 + 1 / _MEMORY_EVERY)
    used_j = energy_j()
    nodes[0].stop()
    done = repair(nodes[0].folder, random=Random(4), now_ms=0)
    series = [
        Series(
            name,
            "MB/day",
            tuple((getattr(b, name) - getattr(a, name)) / 1e6 for a, b in pairwise(sizes)),
            _NOTES[name],
        )
        for name in ("text", "store", "network")
    ]
    series.append(Series("resident", "MB", tuple(s.resident / 1e6 for s in sizes), "of one node"))
    series += _costs(sizes[0], sizes[-1], edits)
    if joules is not None and used_j is not None:
        used = (used_j - joules) / edits * 1000
        series.append(Series("energy per 1,000 edits", "J", (used,), "the whole processor"))
    series.append(Series("file before compaction", "MB", (done.bytes_before / 1e6,)))
    series.append(Series("file after compaction", "MB", (done.bytes_after / 1e6,)))
    axis = tuple(float(day) for day in range(days + 1))
    curves = tuple(
        Curve(name, axis, tuple(getattr(size, name) / 1e6 for size in sizes))
        for name in ("text", "store", "resident")
    )
    plot = Plot("growth", "What one node holds", curves, "days", "MB", is_log_y=True)
    method = (
        f"{days} days of six agents, one at each node, seeded: each appends {lines} lines a "
        f"day to its own daily log, every {_MEMORY_EVERY}th also to one MEMORY.md that all "
        "share; once a day one agent halves MEMORY.md when it has more than 16 KiB. Every "
        "line is an edit of its own that waits for its disk. Days follow at once. Energy is "
        "told only where the processor has a counter that may be read (RAPL)."
    )
    return Section("Memory growth", method, tuple(series), (plot,))


def _costs(first: _Size, last: _Size, edits: float) -> list[Series]:
    """Return what an edit costs."""
    processor_s = (last.processor_s - first.processor_s) / edits * 1000
    return [
        Series("processor per 1,000 edits", "s", (processor_s,), "all six nodes together"),
        *(
            Series(
                f"{name} received per edit",
                "updates",
                ((getattr(last, name) - getattr(first, name)) / edits,),
                _NOTES[name],
            )
            for name in ("updates", "redundant")
        ),
    ]


_NOTES: Final = {
    "text": "of all scrolls",
    "store": "the file of one node, whose free pages are used first",
    "network": "sent by all six, in frames",
    "updates": "by all; five are needed",
    "redundant": "of these, by all",
}


def _live(folder: Path, agent: int, day: int, lines: int) -> None:
    source = Random(1000 * day + agent)
    memory, log = "2.1.1/1.1.1/1.1.1", f"2.1.1/1.1.1/{2 + agent}.1.{1 + day}"
    with Attachment(folder) as attachment:
        for i in range(lines):
            line = f"{day:02} {i:04} agent {agent} " + source.choice(_DEEDS) + "\n"
            attachment.ask("append", DEFAULT_PHEXT, log, line)
            if i % _MEMORY_EVERY == 0:
                attachment.ask("append", DEFAULT_PHEXT, memory, line)
        if agent == 0:
            text = attachment.ask("get", DEFAULT_PHEXT, memory)
            if isinstance(text, str) and len(text) > _MEMORY_BYTES_MAX:
                kept = "".join(text.splitlines(keepends=True)[-len(text.splitlines()) // 2 :])
                attachment.ask("set", DEFAULT_PHEXT, memory, kept)


_DEEDS: Final = (
    "read the build log and found the test that fails",
    "asked agent 3 for the key of the staging host",
    "decided to keep the old schema until Thursday",
    "wrote the summary of the morning's mail",
)


def _size(nodes: Sequence[Process]) -> _Size:
    status = nodes[0].status()
    peers = [peer for node in nodes for peer in node.status()["peers"]]
    return _Size(
        sum(row["bytes"] for row in status["phexts"]),
        (nodes[0].folder / STORE / DATA_FILE).stat().st_blocks * 512,
        anonymous_mb(nodes[0].pid) * 1e6,
        sum(peer["bytes_out"] for peer in peers),
        sum(_processor_s(node.pid) for node in nodes),
        sum(peer["updates_in"] for peer in peers),
        sum(peer["redundant"] for peer in peers),
    )


def _processor_s(pid: int) -> float:
    """Return the seconds that a process has computed (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
