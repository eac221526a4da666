"""What the demo needs of a mesh: node processes, each with a folder, and patience."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from phextsync.control.client import Attachment

PATIENCE_S = 60.0
POLL_S = 0.005

console = Console(highlight=False, soft_wrap=True)


class Node:
    """A node process and the command line on its folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: str, *arguments: str) -> str:
        """Run a command on the folder and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "phextsync.cli", command, *arguments, "--data", self.folder],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {command} failed: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def start(self) -> None:
        """Start the node process; it answers within a second."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "phextsync.cli", "up", "--data", self.folder],
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """Stop the node process, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def status(self) -> dict[str, Any]:
        """Return what `phextsync status --json` prints, asked of the running node directly."""
        with Attachment(self.folder) as attachment:
            status: dict[str, Any] = json.loads(str(attachment.ask("status")))
            return status

    def wait_until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Ask until `holds`; give up after a while."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            # A node that is just starting does not answer yet.
            with suppress(FileNotFoundError, ConnectionRefusedError):
                if holds(self.status()):
                    return
            time.sleep(POLL_S)
        raise SystemExit(f"{self.name}: waited {PATIENCE_S:g} s for {what}")


def set_up(nodes: list[Node]) -> None:
    """Make a mesh of the nodes."""
    first, *others = nodes
    first.run("init", "--name", first.name)
    code = first.run("code").strip()
    for node in others:
        node.run("join", code, "--name", node.name)


@contextmanager
def stopping(nodes: Iterable[Node]) -> Iterator[None]:
    """Stop the node processes at the end of the block, however it ends."""
    try:
        yield
    finally:
        for node in nodes:
            node.stop()


def wait_until_equal(nodes: list[Node]) -> None:
    """Wait until all nodes have equal fingerprints of every phext."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        held = [node.status()["phexts"] for node in nodes]
        if all(other == held[0] for other in held):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the nodes did not become equal in {PATIENCE_S:g} s: {held}")
        time.sleep(POLL_S)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long the block took; each command of an edit is a process of 0.3 s by itself."""
    start = time.monotonic()
    yield
    console.print(f"{time.monotonic() - start:6.2f} s  {what}")
