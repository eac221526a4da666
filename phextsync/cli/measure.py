"""What a running node measures of its mesh without harming it.

It writes lines into one scroll of the reserved phext `measure` and clears that scroll at the end,
which leaves a few bytes of deletions on every node that holds everything. All else is reading.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from phextsync.control import operations
from phextsync.control.client import Attachment
from phextsync.control.status import Status
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


def measure(folder: Path, command: str, show: Callable[[int, int], None]) -> Document:
    """Measure from the node that runs on `folder`; `show` is told how far it is.

    One of `sockets.ABSENT` when none runs. PhextsyncError when the phext
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
            peers = operations.STATUS.ask(node).peers
            durable, everywhere = _edit(node, bool(peers), step)
            reads = _time_each(
                _ASKS, lambda i: operations.GET.ask(node, PHEXT, _PLACE), lambda: None
            )
        finally:
            operations.REMOVE.ask(node, PHEXT, _PLACE)
        status = operations.STATUS.ask(node)
    document = Document(f"What {status.name} measures of its mesh", command, machine=machine())
    document.sections = [_operations(asks, reads, durable, everywhere), _store(status)]
    if status.peers:
        document.sections.append(_peers(status))
    return document


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


def _store(status: Status) -> Section:
    store = status.store
    series = [
        Series("open scrolls", "scrolls", (float(store.open_scrolls),)),
        Series("evictions", "scrolls", (float(store.evictions),)),
    ]
    for name, row in (("commits", store.commits), ("syncs", store.syncs)):
        series.append(Series(name, "batches", (float(row.count),)))
        series.append(Series(f"{name}, mean", "ms", (row.sum_ms / max(1, row.count),)))
        series.append(Series(f"{name}, longest", "ms", (row.max_ms,)))
    return Section("Store", "Counters of the node since it started.", tuple(series))


def _peers(status: Status) -> Section:
    names = [peer.name for peer in status.peers]
    trips_ms = tuple(peer.round_trip_ms or 0.0 for peer in status.peers)
    series = [Series("round trip", "ms", trips_ms, f"to {', '.join(names)}")]
    for name, unit in _COUNTERS.items():
        counts = tuple(float(getattr(peer, name)) for peer in status.peers)
        series.append(Series(name.replace("_", " "), unit, counts))
    trips = tuple(peer.compare_messages / 2 / max(1.0, peer.comparisons) for peer in status.peers)
    series.append(Series("round trips per comparison", "round trips", trips))
    curves, labels = ring([status.name, *names], [(0, i + 1) for i in range(len(names))])
    plot = Plot("topology", "The peers of this node", curves, labels=labels)
    return Section("Peers", "Counters of each link since it opened.", tuple(series), (plot,))
