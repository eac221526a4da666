"""What a node costs that has nothing to do: processor time of one with five links, in percent.

Its peers are in another process, which has the second core where there are two.
"""

import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import trio

from benchmarks.nodes import LOOPBACK, in_other, make_folders, pin, until
from benchmarks.report import Report
from phextsync.node.node import open_node

_PEERS: Final = 5
_SETTLES_S: Final = 3.0


def measure(report: Report, *, runs: int, seconds: float) -> None:
    """Add the figure of an idle node."""
    report.add("idle_cpu_percent", [_idle_percent(seconds) for _ in range(runs)], "%")


def _idle_percent(seconds: float) -> float:
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        ours, *theirs = make_folders(Path(temporary), *(f"node-{i}" for i in range(_PEERS + 1)))
        with in_other(_serve_peers, theirs) as pipe:
            pin(0)
            try:
                return trio.run(partial(_measure, ours, pipe, seconds))
            finally:
                pipe.send("stop")


async def _measure(folder: Path, pipe: Connection, seconds: float) -> float:
    async with open_node(folder, host=LOOPBACK, port=0, discover=False) as node:
        node.phext()["1.1.1/1.1.1/1.1.1"] = "text"
        pipe.send(node.port)
        await until(lambda: len(node.peers()) == _PEERS)
        await trio.sleep(_SETTLES_S)
        start, cpu_s = time.monotonic(), time.process_time()
        await trio.sleep(seconds)
        percent = 100 * (time.process_time() - cpu_s) / (time.monotonic() - start)
        assert len(node.peers()) == _PEERS
    return percent


def _serve_peers(pipe: Connection, folders: list[Path]) -> None:
    pin(1)
    trio.run(_hold_peers, pipe, folders)


async def _hold_peers(pipe: Connection, folders: list[Path]) -> None:
    peers = [f"{LOOPBACK}:{await trio.to_thread.run_sync(pipe.recv)}"]
    async with AsyncExitStack() as stack:
        for folder in folders:
            opened = open_node(folder, host=LOOPBACK, port=0, peers=peers, discover=False)
            await stack.enter_async_context(opened)
        await trio.to_thread.run_sync(pipe.recv)
