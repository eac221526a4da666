"""Fleet: 26 real node processes, each in a network namespace, half of them cut off for a while.

Both halves write meanwhile. They have healed when a client of every node was told of all of it.
"""

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.hosts import halves
from benchmarks.nodes import resident_mb
from phextsync.control.client import Attachment
from phextsync.node.node import DEFAULT_PHEXT
from sims.processes import PATIENCE_S, Process, mesh, wait_until_equal

COUNT: Final = 26

_CUT_S: Final = 15.0  # far longer than it takes to notice
_LINES: Final = 20
_LINE: Final = "09:30 checked the build and noted it\n"
_PLACES: Final = ("1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.2")  # one that each half writes


def heal() -> tuple[float, float, float]:
    """Return the seconds from the heal of a cut until all nodes have what both halves wrote, and
    what the largest node has of memory, in MB: its share of what is resident, and with all pages of
    libraries that others map as well. PhextsyncError where there can be no namespaces."""
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as folder, halves(COUNT) as made:
        prefixes, cut = made
        names = [f"node-{i}" for i in range(COUNT)]
        with mesh(Path(folder), names, prefixes=prefixes) as nodes:
            for node in nodes:
                node.launch()
            for is_so in (_runs, _hears_all):
                for node in nodes:
                    node.wait_until(is_so)
            seconds = _cut_and_heal(nodes, cut)
            wait_until_equal(nodes)
            sizes = [resident_mb(node.pid) for node in nodes]
            return seconds, max(share for share, _ in sizes), max(whole for _, whole in sizes)


def _runs(status: dict[str, object]) -> bool:
    return bool(status["running"])


def _hears_all(status: dict[str, object]) -> bool:
    presence = status["presence"]
    return isinstance(presence, list) and len(presence) == COUNT - 1


def _hears_half(status: dict[str, object]) -> bool:
    presence = status["presence"]
    return isinstance(presence, list) and len(presence) == COUNT // 2 - 1


def _cut_and_heal(nodes: Sequence[Process], cut: Callable[[bool], None]) -> float:
    """Return the seconds from a heal until all were told."""
    told: queue.Queue[float] = queue.Queue()
    ready = threading.Barrier(COUNT + 1)
    watchers = [
        threading.Thread(target=_see, args=(node.folder, ready, told), daemon=True)
        for node in nodes
    ]
    for watcher in watchers:
        watcher.start()
    ready.wait(PATIENCE_S)
    cut(True)
    time.sleep(_CUT_S)
    for node in nodes:
        node.wait_until(_hears_half)
    for node, place in zip((nodes[0], nodes[-1]), _PLACES, strict=True):
        for _ in range(_LINES):
            node.ask("append", DEFAULT_PHEXT, place, _LINE)
    time.sleep(1)
    assert told.empty()
    cut(False)
    began = time.monotonic()
    return max(told.get(timeout=PATIENCE_S) for _ in nodes) - began


def _see(folder: Path, ready: threading.Barrier, told: "queue.Queue[float]") -> None:
    """Tell when a node has what both halves wrote."""
    with Attachment(folder) as attachment:
        next_change = attachment.watch(DEFAULT_PHEXT, "*")
        ready.wait(PATIENCE_S)
        sizes = dict.fromkeys(_PLACES, 0)
        while min(sizes.values()) < _LINES * len(_LINE) and (change := next_change()):
            sizes.update((str(scroll.coordinate), scroll.size) for scroll in change.scrolls)
        told.put(time.monotonic())
