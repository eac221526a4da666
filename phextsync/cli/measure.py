"""What a running node measures of its mesh without harming it.

It writes lines into one scroll of the reserved phext `measure` and clears that scroll at the end,
which leaves a few bytes of deletions on every node that holds everything. All else is reading.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from phextsync.control import operations
from phextsync.control.client import Attachment
from phextsync.errors import NotSyncedError, PhextsyncError
from phextsync.reporting import Document, Plot, Section, Series, cumulative, machine, ring

PHEXT: Final = "measure"

_PLACE: Final = "1.1.1/1.1.1/1.1.1"
_ASKS: Final = 200
_EDITS: Final = 50
_PATIENCE_S: Final = 10.0

_COUNTERS: Final = {
    "bytes_in": "bytes",
    "bytes_out": "bytes",
    "frames_in": "frames",
    "frames_out": "frames",
    "updates_in": "updates",
    "redundant": "updates",
    "comparisons": "comparisons",
    "compare_messages": "messages",
}


class _Status:
    """The parts of a node's status that are numbers, checked."""

    def __init__(self, text: str) -> None:
        found = json.loads(text)
        self.name = str(found["name"])
        self.peers = [str(row["name"]) for row in found["peers"]]
        self.trips_ms = [float(row["round_trip_ms"] or 0.0) for row in found["peers"]]
        self.counters = {
            counter: tuple(float(row[counter]) for row in found["peers"]) for counter in _COUNTERS
        }
        store = found["store"]
        self.store = {name: float(store[name]) for name in ("open_scrolls", "evictions")}
        self.times_ms = {
            name: (float(row["count"]), float(row["sum_ms"]), float(row["max_ms"]))
            for name in ("commits", "syncs")
            for row in (store[name],)
        }


def measure(folder: Path, command: str, show: Callable[[int, int], None]) -> Document:
    """Measure from the node that runs on `folder`; `show` is told how far it is.

    FileNotFoundError or ConnectionRefusedError when none runs. PhextsyncError when the phext
    `measure` is used for something else, NotSyncedError when a peer acknowledges nothing in 10 s.
    """
    with Attachment(folder) as node:
        if operations.COUNT.ask(node, PHEXT, "*") != 0:
            raise PhextsyncError(f"expected the phext {PHEXT!r} to be empty, found scrolls in it")
        total = _ASKS + _EDITS
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            show(done, total)

        try:
            asks = _time_each(_ASKS, lambda i: operations.COUNT.ask(node, PHEXT, "*"), step)
            peers = _status(node).peers
            durable, everywhere = _edit(node, bool(peers), step)
            reads = _time_each(
                _ASKS, lambda i: operations.GET.ask(node, PHEXT, _PLACE), lambda: None
            )
        finally:
            operations.REMOVE.ask(node, PHEXT, _PLACE)
        status = _status(node)
    document = Document(f"What {status.name} measures of its mesh", command, machine=machine())
    document.sections = [_operations(asks, reads, durable, everywhere), _store(status)]
    if status.peers:
        document.sections.append(_peers(status))
    return document


def _status(node: Attachment) -> _Status:
    return _Status(operations.STATUS.ask(node))


def _time_each(
    count: int, operation: Callable[[int], object], step: Callable[[], None]
) -> tuple[float, ...]:
    """Return the milliseconds of each of several calls."""
    found = []
    for i in range(count):
        start = time.perf_counter()
        operation(i)
        found.append((time.perf_counter() - start) * 1000)
        step()
    return tuple(found)


def _edit(
    node: Attachment, has_peers: bool, step: Callable[[], None]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the milliseconds from each edit to this disk, and to the disks of all peers."""
    durable, everywhere = [], []
    for i in range(_EDITS):
        start = time.perf_counter()
        operations.APPEND.ask(node, PHEXT, _PLACE, f"edit {i}\n")
        durable.append((time.perf_counter() - start) * 1000)
        if has_peers:
            while lines := operations.LACKING.ask(node, PHEXT, "*"):
                if time.perf_counter() - start > _PATIENCE_S:
                    raise NotSyncedError(
                        f"expected {PHEXT!r} on the disks of all peers", (str(lines),)
                    )
            everywhere.append((time.perf_counter() - start) * 1000)
        step()
    return tuple(durable), tuple(everywhere)


def _operations(
    asks: tuple[float, ...],
    reads: tuple[float, ...],
    durable: tuple[float, ...],
    everywhere: tuple[float, ...],
) -> Section:
    series = [
        Series("ask the node anything", "ms", asks, "from another process; part of all below"),
        Series("read an open scroll", "ms", reads, "from another process"),
        Series("edit to durable here", "ms", durable),
    ]
    curves = [cumulative("edit to durable here", durable)]
    if everywhere:
        series.append(Series("edit to durable at all peers", "ms", everywhere))
        curves.append(cumulative("edit to durable at all peers", everywhere))
    plot = Plot(
        "latency", "From an edit to the disk", tuple(curves), "ms", "part of edits", is_log_x=True
    )
    method = (
        f"{_ASKS} requests and {_EDITS} edits, one after another, by a process beside the node; "
        f"the edits append to {_PLACE} of the phext `{PHEXT}`, which is cleared afterwards."
    )
    return Section("Reading and writing", method, tuple(series), (plot,))


def _store(status: _Status) -> Section:
    series = [Series(name.replace("_", " "), "scrolls", (v,)) for name, v in status.store.items()]
    for name, (count, sum_ms, max_ms) in status.times_ms.items():
        series.append(Series(name, "batches", (count,)))
        series.append(Series(f"{name}, mean", "ms", (sum_ms / max(1.0, count),)))
        series.append(Series(f"{name}, longest", "ms", (max_ms,)))
    return Section("Store", "Counters of the node since it started.", tuple(series))


def _peers(status: _Status) -> Section:
    names = ", ".join(status.peers)
    series = [Series("round trip", "ms", tuple(status.trips_ms), f"to {names}")]
    for name, unit in _COUNTERS.items():
        series.append(Series(name.replace("_", " "), unit, status.counters[name]))
    counts = zip(status.counters["compare_messages"], status.counters["comparisons"], strict=True)
    trips = tuple(messages / 2 / max(1.0, comparisons) for messages, comparisons in counts)
    series.append(Series("round trips per comparison", "round trips", trips))
    curves, labels = ring(
        [status.name, *status.peers], [(0, i + 1) for i in range(len(status.peers))]
    )
    plot = Plot("topology", "The peers of this node", curves, labels=labels)
    return Section("Peers", "Counters of each link since it opened.", tuple(series), (plot,))
