"""Many processes attached to one folder, each with its own writes: what arrives, and how fast."""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import phextsync
from phextsync.index import Coordinate

SCROLLS = 10

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["phextsync"])


@dataclass(frozen=True, slots=True)
class Writer:
    """A process that appends numbered lines and notes in a file how many were acknowledged."""

    name: int
    process: BaseProcess
    pipe: Connection
    notes: Path

    def acknowledged(self) -> int:
        """Return how many of its lines were acknowledged, even if it is dead."""
        return int(self.notes.read_bytes() or 0)


def start_writers(folder: Path, count: int, writes: int) -> list[Writer]:
    """Start processes that write `writes` lines each, when all of them have the folder open."""
    writers = []
    for name in range(count):
        ours, theirs = _context.Pipe()
        notes = folder / f"acknowledged-{name}"
        notes.touch()
        process = _context.Process(target=_write, args=(folder, name, writes, theirs, notes))
        process.start()
        theirs.close()
        writers.append(Writer(name, process, ours, notes))
    for writer in writers:
        writer.pipe.recv()
    for writer in writers:
        writer.pipe.send("go")
    return writers


def place(writer: int) -> Coordinate:
    """Return where a writer writes; several share a scroll."""
    return Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + writer % SCROLLS)


def faults(texts: Mapping[int, str], acknowledged: Sequence[int]) -> tuple[int, int, int]:
    """Return how many lines are lost, doubled, and out of their writer's order; `texts` by writer,
    `acknowledged` the number of each writer's lines that have to be there."""
    lost = doubled = disordered = 0
    for writer, count in enumerate(acknowledged):
        lines = [line.split() for line in texts[writer].splitlines()]
        numbers = [int(number) for name, number in lines if int(name) == writer]
        lost += len(set(range(count)) - set(numbers))
        doubled += sum(n - 1 for n in Counter(numbers).values())
        disordered += sum(a > b for a, b in pairwise(numbers))
    return lost, doubled, disordered


def run_writers(folder: Path, count: int, writes: int) -> tuple[float, tuple[int, int, int]]:
    """Let `count` processes write beside a handle of ours; return seconds and faults."""
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
        writers = start_writers(folder, count, writes)
        start = time.monotonic()
        for writer in writers:
            writer.process.join()
        seconds = time.monotonic() - start
        phext = handle.phext()
        texts = {writer.name: phext[place(writer.name)] for writer in writers}
        return seconds, faults(texts, [writes] * count)


@contextmanager
def owner(folder: Path) -> Iterator[BaseProcess]:
    """Let another process own a folder."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_own, args=(folder, theirs))
    process.start()
    theirs.close()
    ours.recv()
    try:
        yield process
    finally:
        ours.close()
        process.join()


def _own(folder: Path, pipe: Connection) -> None:
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False):
        pipe.send("ready")
        with suppress(EOFError):
            pipe.recv()


def _write(folder: Path, name: int, writes: int, pipe: Connection, notes: Path) -> None:
    with (
        phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle,
        notes.open("wb", buffering=0) as acknowledged,
    ):
        phext = handle.phext()
        pipe.send("ready")
        pipe.recv()
        for number in range(writes):
            if pipe.poll():  # told to stop
                break
            phext.append(place(name), f"{name} {number}\n")
            os.pwrite(acknowledged.fileno(), b"%d" % (number + 1), 0)
