"""`python -m tests.crash_workload FOLDER`: what a node does to its store, with marks between.

A mark says what was sent to peers, what was acknowledged (the store's whole content), or where a
part begins. It is written to a file in the folder, so that the recorder puts it in order.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from random import Random

from phextsync.index import Coordinate
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore
from tests.recording import MARKS

PHEXT = "memory"
NODE_ID = b"node that crashes"[:16]
PLACES = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 9)]


class Run:
    """A node's data folder while things happen to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.random = Random(5)
        self._marks = os.open(folder / MARKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._written = 0

    def mark(self, kind: str, value: object) -> None:
        os.write(self._marks, json.dumps([kind, value]).encode())

    @contextmanager
    def open(self, part: str) -> Iterator[ReplicaSet]:
        """Open the store and close it cleanly."""
        self.mark("part", part)
        store = LmdbStore(self.folder)
        replicas = ReplicaSet(
            store,
            node_id=NODE_ID,
            random=Random(self.random.getrandbits(64)),
            wall_time_ms=lambda: 0,
        )
        replicas.listen(ReplicaListener(on_update=self._sent))
        yield replicas
        store.close(clean=True)

    def _sent(self, update: NewUpdate) -> None:
        self.mark("sent", [update.phext, update.coordinate.key.hex(), update.entry.update.hex()])

    def commit(self, replicas: ReplicaSet) -> None:
        replicas.commit()
        self.mark("acknowledged", contents(replicas))

    def line(self) -> str:
        self._written += 1
        return f"line {self._written} {self.random.getrandbits(64):x}\n"


def contents(replicas: ReplicaSet) -> dict[str, dict[str, str]]:
    """Return a digest of the text of each scroll of each phext."""
    return {
        name: {
            str(place): blake2b(text.encode(), digest_size=8).hexdigest()
            for place, text in replicas.open(name).scrolls()
        }
        for name in replicas.names()
    }


def _work(run: Run) -> None:
    with run.open("commit") as replicas:
        memory = replicas.open(PHEXT)
        for i in range(20):
            memory.append(PLACES[i % 4], run.line())
            if i % 3 == 2:
                memory.edit(PLACES[i % 4], run.line() * 3)
            run.commit(replicas)
        del memory[PLACES[3]]
        replicas.open("other").append(PLACES[0], run.line())
        run.commit(replicas)
        run.mark("part", "compaction")
        for _ in range(10):  # until the log outgrows the state and is folded into it
            memory.append(PLACES[0], run.line() * 30)
            run.commit(replicas)
        run.mark("part", "growth")
        for place in PLACES[4:7]:
            memory.append(place, run.line() * 900)
            run.commit(replicas)
        run.mark("part", "client id")
        memory.append(PLACES[1], run.line())
        memory.renew_client_id()
        memory.append(PLACES[1], run.line())
        run.commit(replicas)
        run.mark("part", "quarantine")
        replicas.store.quarantine(PHEXT, PLACES[2].key)
        memory.index.remove(PLACES[2])
        run.mark("acknowledged", contents(replicas))
        memory.append(PLACES[1], run.line())
        run.commit(replicas)
        run.mark("part", "close")


def _come_back(run: Run) -> None:
    with run.open("open") as replicas:
        memory = replicas.open(PHEXT)
        for i in range(9):
            memory.append(PLACES[i % 2], run.line())
            run.commit(replicas)
        run.mark("part", "close")


def main(folder: Path) -> None:
    """Do all of it, or, in a folder that has a store, what a start after an upgrade does."""
    run = Run(folder)
    if not (folder / "store").exists():
        _work(run)
    _come_back(run)
    _come_back(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
