"""Real node processes, each with a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from phextsync.control.client import Attachment
from phextsync.control.frames import Value
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity

PATIENCE_S = 120.0  # only a bug takes that long
POLL_S = 0.01


def make_folder(folder: Path, name: str = "solo") -> Path:
    """Make `folder` that of a node in a mesh of its own; return it."""
    NodeIdentity.create(MeshKey.generate(os.urandom(32)), name, os.urandom(32)).save(folder)
    return folder


class Process:
    """A `phextsync up` process. `prefix` runs it elsewhere, such as in a network namespace."""

    def __init__(self, folder: Path, prefix: Sequence[str], options: Sequence[str]) -> None:
        self.folder = folder
        self.prefix = tuple(prefix)
        self.options = tuple(options)
        self.log = folder.with_name(folder.name + ".log")  # not on the node's own disk
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait_until(lambda status: status["running"])

    def launch(self) -> None:
        """Start it."""
        command = [*self.prefix, sys.executable, "-m", "phextsync.cli", "up", "--verbose"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--data", str(self.folder), *self.options], stdout=log, stderr=log
            )

    def send_signal(self, which: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        if self._process is not None:
            self._process.send_signal(which)

    def has_ended(self) -> bool:
        """Whether it does not run, by itself or because it was never started."""
        return self._process is None or self._process.poll() is not None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ask(self, *request: Value) -> Value:
        """Ask the running node."""
        with Attachment(self.folder) as attachment:
            return attachment.ask(*request)

    def status(self) -> dict[str, Any]:
        """Return the node's status."""
        return dict(json.loads(str(self.ask("status"))))

    def held(self) -> dict[str, tuple[int, str]]:
        """Return scrolls and fingerprint of each phext."""
        rows = self.status()["phexts"]
        return {row["name"]: (row["scrolls"], row["fingerprint"]) for row in rows}

    def wait_until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Ask until `holds` is true of the status; fail after a generous while."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                if holds(self.status()):
                    return
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(POLL_S)
        raise AssertionError(
            f"{self.folder.name} did not get there: {self.log.read_text()[-2000:]}"
        )


@contextmanager
def mesh(
    folder: Path,
    names: Sequence[str],
    *,
    prefixes: Sequence[Sequence[str]] = (),
    options: Sequence[str] = (),
) -> Iterator[list[Process]]:
    """Make a mesh with a folder for each name; whatever was started is stopped at the end."""
    key = MeshKey.generate(os.urandom(32))
    for name in names:
        NodeIdentity.create(key, name, os.urandom(32)).save(folder / name)
    folders = [folder / name for name in names]
    with reopened(folders, prefixes=prefixes, options=options) as processes:
        yield processes


@contextmanager
def reopened(
    folders: Sequence[Path],
    *,
    prefixes: Sequence[Sequence[str]] = (),
    options: Sequence[str] = (),
) -> Iterator[list[Process]]:
    """Give a process for each folder of nodes; whatever was started is stopped at the end."""
    before = prefixes or [()] * len(folders)
    processes = [Process(*each, options) for each in zip(folders, before, strict=True)]
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()


def wait_until_equal(processes: Sequence[Process]) -> float:
    """Wait until all hold the same; return the seconds it took."""
    start = time.monotonic()
    while True:
        held = [process.held() for process in processes]
        if all(other == held[0] for other in held):
            return time.monotonic() - start
        if time.monotonic() - start > PATIENCE_S:
            logs = "\n".join(process.log.read_text()[-800:] for process in processes)
            raise AssertionError(f"they did not become equal: {held}\n{logs}")
        time.sleep(POLL_S)
