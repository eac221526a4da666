"""RealNode: a node as a real process on a disk of its own, and what its users have seen of it.

The disk is a small tmpfs, which a kill leaves as it was and which can be full.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from phextsync.control.frames import Value
from phextsync.control.sockets import SOCKET_NAME
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore
from phextsync.testing import PHEXT
from phextsync.testing.oracle import Edit
from phextsync.trust.private_files import IDENTITY_FILE
from sims.processes import Process
from sims.users import Session

_DISK_BYTES: Final = 64 << 20
_BALLAST: Final = "ballast"
_LOG_CHARACTERS: Final = 1000


@dataclass(slots=True)
class RealNode:
    """A node and what its users have seen of it and asked it."""

    number: int
    process: Process
    is_wanted: bool = False
    is_stopping: bool = False
    is_unplugged: bool = False
    is_disk_full: bool = False
    started_at: float = 0.0
    asleep_until: float = 0.0
    session: Session | None = None
    seen: dict[Coordinate, str] = field(default_factory=dict)
    asked: "dict[Future[Value], Edit]" = field(default_factory=dict)
    unread: dict[Coordinate, None] = field(default_factory=dict)
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)

    # -- what users see --------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether users can ask it."""
        return self.session is not None and not self.is_stopping and not self.asleep_until

    @property
    def users(self) -> Session:
        """Its users, while it answers."""
        assert self.session is not None, f"node {self.number} is down"
        return self.session

    def text(self, place: Coordinate) -> str:
        """Return what a user reads, "" for nothing."""
        text = str(self.users.read("get", PHEXT, str(place)) or "")
        self.seen[place] = text
        return text

    def texts(self) -> dict[Coordinate, str]:
        """Return all that it shows."""
        texts: dict[Coordinate, str] = {}
        after, more = "", True
        while more:
            match self.users.read("read", PHEXT, "*", after):
                case [list(rows), bool(more)]:
                    for row in rows:
                        match row:
                            case [str(after), str(text)]:
                                texts[Coordinate.parse(after)] = text
        return texts

    def status(self) -> dict[str, Any]:
        """Return what it says of itself."""
        return dict(json.loads(str(self.users.read("status"))))

    # -- its process -----------------------------------------------------------------------

    def wake(self) -> None:
        """Let it go on."""
        self.asleep_until = 0.0
        self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it do nothing in this block, so that its files can be copied as they are."""
        if self.process.has_ended() or self.asleep_until:
            yield
            return
        self.process.send_signal(signal.SIGSTOP)
        try:
            while any(state != "T" for state in _thread_states(self.process.pid)):
                time.sleep(0.001)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def last_lines(self) -> str:
        """Return the end of its log."""
        return self.process.log.read_text()[-_LOG_CHARACTERS:]

    # -- its disk --------------------------------------------------------------------------

    def mount(self, name: str) -> None:
        """Give it a small disk, named so that it is recognized when it is left."""
        folder = self.process.folder
        folder.mkdir(mode=0o700)
        options = f"size={_DISK_BYTES},mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, name, folder], check=True)

    def unmount(self) -> None:
        """Take its disk away, if it has one."""
        subprocess.run(["umount", "--lazy", self.process.folder], capture_output=True)

    def fill_disk(self) -> None:
        """Fill its disk to the last page."""
        self.is_disk_full = True
        ballast = os.open(self.process.folder / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            with suppress(OSError):
                while True:
                    os.write(ballast, bytes(1 << 20))
        finally:
            os.close(ballast)

    def free_disk(self) -> None:
        """Let there be room on its disk."""
        self.is_disk_full = False
        (self.process.folder / _BALLAST).unlink(missing_ok=True)

    def take_disk_of(self, source: "RealNode") -> None:
        """Have what is on the disk of another node, but for who it is. It must not run."""
        left = [path for path in self.process.folder.iterdir() if path.name != IDENTITY_FILE]
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with source.frozen():
            shutil.copytree(
                source.process.folder,
                self.process.folder,
                ignore=shutil.ignore_patterns(IDENTITY_FILE, SOCKET_NAME, _BALLAST),
                dirs_exist_ok=True,
            )

    def on_disk(self, work: Path) -> dict[Coordinate, str]:
        """Return what a start would find now, by means of a copy in a folder `work`."""
        with TemporaryDirectory(dir=work) as copy:
            with self.frozen():
                shutil.copytree(self.process.folder / "store", Path(copy) / "store")
            store = LmdbStore(Path(copy))
            replicas = ReplicaSet(
                store, node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0
            )
            texts = dict(replicas.open(PHEXT).scrolls())
            store.close(clean=False)
            return texts


def _thread_states(pid: int) -> list[str]:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return [thread.read_text().rpartition(")")[2].split()[0] for thread in threads]
