"""Kills: a node with a bound directory is killed again and again while files are edited.

Two real node processes, each with a directory, on the real disk. Lines are added on both machines,
in place and by renaming, while one node is killed with SIGKILL at random moments and started
again. At the end both directories hold every line that was ever written, once.

    python -m sims.kills --kills 200
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from phextsync.files.bindings import BindingStore, Bound
from phextsync.index import CoordinateRange
from sims.processes import PATIENCE_S, POLL_S, mesh

_RANGE = CoordinateRange.parse("7.*")
_FILES = 12
_LIFE_S = (0.3, 3.0)  # between a start and the kill, drawn at random
_QUIET_S = 3.0


class Writer:
    """Adds lines to the files of two directories, each line to one of them."""

    def __init__(self, directories: Sequence[Path], source: random.Random) -> None:
        self._directories = directories
        self._source = source
        self.lines: dict[str, list[str]] = {f"notes/{n}.md": [] for n in range(_FILES)}

    def write(self) -> None:
        """Add a line, in place or by renaming, on either machine."""
        name = self._source.choice(list(self.lines))
        path = self._source.choice(self._directories) / name
        line = f"<{name} {len(self.lines[name])}> {'x' * self._source.randrange(2000)}\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._source.random() < 0.5 or not path.exists():
            with path.open("a") as file:
                file.write(line)
        else:
            draft = path.with_name(f".{path.name}.draft")
            # What comes between reading and renaming would be lost by the editor, not by us.
            before = path.read_text()
            draft.write_text(before + line)
            if path.read_text() != before:
                draft.unlink()
                return
            draft.replace(path)
        self.lines[name].append(line)

    def problems(self) -> list[str]:
        """Say which lines are lost or doubled, and where."""
        found: list[str] = []
        for directory in self._directories:
            for name, lines in self.lines.items():
                path = directory / name
                text = path.read_text() if path.exists() else ""
                counts = Counter(text.splitlines(keepends=True))
                for line in lines:
                    if counts[line] != 1:
                        what = "lost" if not counts[line] else f"there {counts[line]} times"
                        found.append(f"{directory.name}: {line.split('>')[0]}> is {what}")
        return found


def run(parent: Path, kills: int, seed: int) -> list[str]:
    """Kill a node `kills` times; return what is wrong at the end, nothing when all is well."""
    source = random.Random(seed)
    with mesh(parent, ("killed", "other"), options=("--host", "127.0.0.1", "--port", "0")) as nodes:
        directories = [parent / f"{node.folder.name}-files" for node in nodes]
        for node, directory in zip(nodes, directories, strict=True):
            BindingStore(node.folder).bind(Bound(directory, "memory", _RANGE))
        killed, other = nodes
        other.start()
        port = other.status()["port"]
        killed.options = (*killed.options, "--no-mdns", "--peer", f"127.0.0.1:{port}")
        writer = Writer(directories, source)
        for _ in range(kills):
            killed.launch()
            end = time.monotonic() + source.uniform(*_LIFE_S)
            while time.monotonic() < end:
                writer.write()
                time.sleep(POLL_S)
            killed.stop(signal.SIGKILL)
        killed.start()
        _wait_until_quiet(directories, writer)
        return writer.problems()


def _wait_until_quiet(directories: Sequence[Path], writer: Writer) -> None:
    """Wait until all is well, or nothing changes any more."""
    deadline = time.monotonic() + PATIENCE_S
    before: list[str] = []
    since = time.monotonic()
    while time.monotonic() < deadline:
        texts = [path.read_text() for d in directories for path in sorted(d.rglob("*.md"))]
        if not writer.problems():
            return
        if texts != before:
            before, since = texts, time.monotonic()
        elif time.monotonic() - since > 10 * _QUIET_S:
            return
        time.sleep(_QUIET_S / 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sims.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="phextsync-kills-", dir=os.getcwd()) as folder:
        problems = run(Path(folder), options.kills, options.seed)
    for problem in problems[:20]:
        print(problem)
    print(f"{options.kills} kills: {'every line is there, once' if not problems else 'FAILED'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
