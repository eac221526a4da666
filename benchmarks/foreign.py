"""Foreign: how long a read takes of a scroll that another node holds, first and again.

Two node processes, linked over the loopback; ours holds nothing of what it reads. A first read is
`Node.fetch` of a scroll that was never here: one question, one answer, a new guest. There are rests
between, so that no read waits for the commit of the guest before it. A repeated one is that call
later. Yardstick: the round trip of one byte over plain TCP between two processes.
"""

import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import trio

from benchmarks.latency import round_trip_ms
from benchmarks.nodes import LOOPBACK, make_folders, other_node, until
from benchmarks.report import Report
from phextsync.index import Coordinate
from phextsync.node.node import DEFAULT_PHEXT, Node, open_node

_REST_S: Final = 0.03
_TEXT: Final = "a line of some forty characters or more\n" * 25  # a kilobyte
_REPEATED: Final = 20_000


def run(*, quick: bool) -> Report:
    """Measure 300 first reads and repeated ones, three times; less if `quick`."""
    report = Report()
    runs = [_run(100 if quick else 300) for _ in range(1 if quick else 3)]
    trip = "loopback_round_trip_ms"
    report.add(trip, [round_trip_ms() for _ in runs], "ms")
    for name, part in (("p50", 50), ("p99", 99)):
        values = [statistics.quantiles(first, n=100)[part - 1] for first, _ in runs]
        report.add(f"foreign_read_{name}_ms", values, "ms", trip)
    report.add("cached_read_us", [repeated for _, repeated in runs], "us")
    return report


def _run(count: int) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory() as parent:
        reader, holder = make_folders(Path(parent), "reader", "holder")
        with other_node(holder, _serve, count) as (port, _):
            return trio.run(_read, reader, port, count)


async def _serve(node: Node, pipe: Connection, count: int) -> None:
    with node.phext().batch():
        for number in range(count):
            node.phext()[_place(number)] = _TEXT
    await node.durable()
    pipe.send(node.port)
    await trio.to_thread.run_sync(pipe.recv)


async def _read(folder: Path, port: int, count: int) -> tuple[list[float], float]:
    """Return the milliseconds of each first read, and the microseconds of a repeated one."""
    peers = [f"{LOOPBACK}:{port}"]
    async with open_node(folder, host=LOOPBACK, port=0, peers=peers, discover=False) as node:
        await node.hold([], DEFAULT_PHEXT)
        await until(lambda: bool(node.core.lacks.told(DEFAULT_PHEXT)))
        first: list[float] = []
        for number in range(count):
            began = time.perf_counter()
            text = await node.fetch(_place(number))
            first.append(1000 * (time.perf_counter() - began))
            assert text == _TEXT
            await trio.sleep(_REST_S)
        began = time.perf_counter()
        for number in range(_REPEATED):
            await node.fetch(_place(number % count))
        return first, 1e6 * (time.perf_counter() - began) / _REPEATED


def _place(number: int) -> Coordinate:
    return Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + number // 999, 1 + number % 999)
