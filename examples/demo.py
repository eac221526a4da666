"""The main job, end to end: three nodes, one of them cut off for a while, the same text at last.

Three real processes with folders of their own find each other by mDNS on this machine. One
imports a corpus, all three edit, one is switched off and edited meanwhile, and comes back. Prints
what each node holds; exits with status 1 if anything differs or is lost.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from phextsync.control import Attachment

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "shared" / "phext" / "samples"
NAMES = ("alpha", "beta", "gamma")
SHARED = "500.1.1/1.1.1/1.1.1"
DOOMED = "500.1.1/1.1.1/1.1.2"
MEANWHILE = {
    "alpha": "written by alpha while gamma was away",
    "gamma": "written by gamma while it was away",
}
PATIENCE_S = 60.0
POLL_S = 0.005

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="phextsync-demo-") as folder:
        nodes = {name: Node(name, Path(folder) / name) for name in NAMES}
        set_up(list(nodes.values()))
        with stopping(nodes.values()):
            return act(nodes, Path(folder))


def act(nodes: "dict[str, Node]", folder: Path) -> int:
    """The story; every step says how long it took."""
    alpha, beta, gamma = nodes.values()
    everyone = list(nodes.values())
    with timed("the three nodes started and found each other by mDNS"):
        for node in everyone:
            node.start()
        for node in everyone:
            node.wait_until("two peers", lambda status: len(status["peers"]) == 2)

    corpus = folder / "corpus.phext"
    subprocess.run([sys.executable, HERE / "make_corpus.py", corpus], check=True)
    files = {"memory": corpus}
    if SAMPLES.is_dir():
        files |= {path.stem[:20]: path for path in sorted(SAMPLES.glob("*.phext"))}
    with timed(f"alpha imported {len(files)} files ({corpus.stat().st_size:,} bytes of notes)"):
        for phext, path in files.items():
            alpha.run("import", str(path), "--phext", phext, "--clamp")
    with timed("all three hold the same text"):
        wait_until_equal(everyone)

    with timed("each node edited, and all have every edit"):
        beta.run("set", DOOMED, "to be deleted\n")
        for node in everyone:
            node.run("append", SHARED, f"a line of {node.name}")
        wait_until_equal(everyone)

    gamma.stop()
    console.print("\n[bold]gamma is switched off[/]; alpha and gamma edit one scroll meanwhile")
    for name, line in MEANWHILE.items():
        nodes[name].run("append", SHARED, line)
    beta.run("rm", DOOMED)
    gamma.run("append", "500.1.1/1.1.1/1.1.3", "something else of gamma")
    with timed("gamma started again, and all three are the same"):
        gamma.start()
        gamma.wait_until("a peer", lambda status: len(status["peers"]) > 0)
        wait_until_equal(everyone)
    return conclude(everyone)


def conclude(nodes: "list[Node]") -> int:
    """Print what each node holds and say whether all is well."""
    table = Table("node", "phext", "scrolls", "bytes", "fingerprint", box=None)
    for node in nodes:
        for row in node.status()["phexts"]:
            if row["name"] in ("memory", "world"):
                cells = (row["name"], str(row["scrolls"]), f"{row['bytes']:,}", row["fingerprint"])
                table.add_row(node.name, *cells)
    console.print(table)
    merged = nodes[0].run("get", SHARED)
    console.print(f"\n[bold]the merged scroll {SHARED}[/]\n{merged}")
    expected = sorted([*(f"a line of {node.name}" for node in nodes), *MEANWHILE.values()])
    texts = {node.run("get", SHARED) for node in nodes}
    deleted = all(DOOMED not in node.run("ls", DOOMED) for node in nodes)
    if texts != {merged} or sorted(merged.splitlines()) != expected or not deleted:
        console.print("[bold red]something differs or is lost[/]")
        return 1
    console.print("[bold green]nothing lost, nothing doubled, nothing came back[/]")
    return 0


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
            return json.loads(str(attachment.ask("status")))

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


if __name__ == "__main__":
    sys.exit(main())
