"""Node processes for the benchmarks: folders with identities, a node beside ours, its memory."""

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final, TypeVar

import trio

from phextsync.node.node import open_node
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity

LOOPBACK: Final = "127.0.0.1"

_POLL_S: Final = 0.0005
_SAMPLE_S: Final = 0.02
_ANONYMOUS: Final = re.compile(r"RssAnon:\s*(\d+) kB")
_ROLLUP: Final = re.compile(r"^(Pss|Rss):\s*(\d+) kB", re.MULTILINE)
_CORES: Final = sorted(os.sched_getaffinity(0))  # before anything is pinned
_context = multiprocessing.get_context("spawn")

Result = TypeVar("Result")


def make_folders(parent: Path, *names: str) -> list[Path]:
    """Make the folders of nodes of one mesh."""
    key = MeshKey.generate(os.urandom(32))
    folders = [parent / name for name in names]
    for folder in folders:
        NodeIdentity.create(key, folder.name, os.urandom(32)).save(folder)
    return folders


@contextmanager
def other_node(
    folder: Path, serve: Callable[..., object], count: int
) -> Iterator[tuple[int, Connection]]:
    """Run `serve(node, pipe, count)` over the node of `folder` in another process.

    Yields the port, which is the first that `serve` has to send, and a pipe to it. The process
    gets the second core, ours the first.
    """
    pipe, end = multiprocessing.Pipe()
    process = _context.Process(target=_run_other, args=(folder, serve, end, count))
    _start(process)
    pin(0)
    try:
        yield pipe.recv(), pipe
    finally:
        pipe.send("stop")
        process.join()


@contextmanager
def in_other(run: Callable[..., object], *arguments: object) -> Iterator[Connection]:
    """Run `run(pipe, *arguments)` in another process until it ends; yield our end of the pipe.

    When either side fails, the other finds the end of the pipe: EOFError.
    """
    pipe, end = _context.Pipe()
    process = _context.Process(target=run, args=(end, *arguments))
    _start(process)
    end.close()
    try:
        with pipe:
            yield pipe
    finally:
        process.join()


def in_child(measure: Callable[..., Result], *arguments: object) -> tuple[Result, float]:
    """Return what `measure(*arguments)` returns in a fresh process, and the most anonymous memory
    that the process had, in MB. Pages of mapped files do not count."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_run_measure, args=(theirs, measure, arguments))
    _start(process)
    theirs.close()
    peak = 0.0
    try:
        while not ours.poll(_SAMPLE_S):
            peak = max(peak, anonymous_mb(process.pid))
        return ours.recv(), peak
    finally:
        process.join()


def anonymous_mb(pid: int | None = None) -> float:
    """Return the anonymous memory of a process, None for this one, in MB; 0 when it has ended."""
    found = _ANONYMOUS.search(Path(f"/proc/{pid or 'self'}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def resident_mb(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process in MB: its share, where others map the same pages,
    and all that it maps."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = dict(_ROLLUP.findall(rollup))
    return int(sizes["Pss"]) * 1024 / 1e6, int(sizes["Rss"]) * 1024 / 1e6


def pin(number: int, pid: int = 0) -> None:
    """Keep a process, 0 for this one, on one core, where there are two."""
    os.sched_setaffinity(pid, {_CORES[number % len(_CORES)]})


@contextmanager
def on_all_cores() -> Iterator[None]:
    """Let what is started in this block run on any core, whatever this process is pinned to."""
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


def _start(process: SpawnProcess) -> None:
    with on_all_cores():
        process.start()


async def until(holds: Callable[[], bool]) -> float:
    """Wait until a condition holds; return when it was seen to, by the monotonic clock."""
    while not holds():  # noqa: ASYNC110 - what is awaited has many causes and no event
        await trio.sleep(_POLL_S)
    return time.monotonic()


def _run_measure(
    pipe: Connection, measure: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    pipe.send(measure(*arguments))


def _run_other(folder: Path, serve: Callable[..., object], pipe: Connection, count: int) -> None:
    pin(1)
    trio.run(_hold_node, folder, serve, pipe, count)


async def _hold_node(
    folder: Path, serve: Callable[..., object], pipe: Connection, count: int
) -> None:
    async with open_node(folder, host=LOOPBACK, port=0, discover=False) as node:
        await serve(node, pipe, count)  # type: ignore[misc]
