"""Kills: a node with a bound directory is killed again and again while files are edited.

Two real node processes, each with a directory, on the real disk. Lines are put in and deleted on
both machines, at the end and anywhere, in place and by renaming, and files are renamed, while one
node is killed with SIGKILL at random moments and started again. At the end both directories are
equal and hold every line that was written and not deleted, once.

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
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from phextsync.files.bindings import BindingStore, Bound
from phextsync.index import CoordinateRange
from sims.processes import PATIENCE_S, POLL_S, mesh

_RANGE = CoordinateRange.parse("7.*")
_FILES = 12
_LIFE_S = (0.3, 3.0)  # between a start and the kill, drawn at random
_QUIET_S = 3.0
_WORDS = (
    "cat",
    "saw",
    "Katze",
    "\u0645\u06cc\u200c\u0631\u0648\u062f",
    "\u732b",
    "\U0001f408\u200d\u2b1b",
    "12,5",
    "and so on.",
)


class Writer:
    """Changes the files of two directories a line at a time. `lines` are those that have to be
    there, `deleted` those that must not be."""

    def __init__(
        self, directories: Sequence[Path], source: random.Random, *, only_adds: bool
    ) -> None:
        self._directories = directories
        self._source = source
        self._only_adds = only_adds
        self._count = 0
        self.lines: dict[str, None] = {}
        self.deleted: dict[str, None] = {}

    def write(self) -> None:
        """Add or delete a line of a file, or rename it, on either machine."""
        folder = self._source.choice(self._directories) / "notes"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._source.randrange(_FILES)}.md"
        with suppress(FileNotFoundError):  # its node has given it another name
            habits = [self._append, self._save]
            if not self._only_adds:
                habits += [*habits, self._rewrite, self._rename]
            self._source.choice(habits)(path)

    def problems(self) -> list[str]:
        """Say which lines are lost, doubled or back, and where, and whether the files differ."""
        found: list[str] = []
        texts = [texts_of(directory) for directory in self._directories]
        for directory, of in zip(self._directories, texts, strict=True):
            counts = Counter(line for text in of.values() for line in _lines_of(text))
            for line in self.lines:
                if counts[line] != 1:
                    what = "lost" if not counts[line] else f"there {counts[line]} times"
                    found.append(f"{directory.name}: {line[:12]} is {what}")
            found += [f"{directory.name}: {d[:12]} is back" for d in self.deleted if counts[d]]
        return found or ([] if texts[0] == texts[1] else ["the directories differ"])

    def _append(self, path: Path) -> None:
        line = self._line()
        with path.open("a", newline="") as file:
            file.write(line)
        self.lines[line] = None

    def _rewrite(self, path: Path) -> None:
        """Empty the file and write it, as it was when it was opened but for a line."""
        with path.open("r+", newline="") as file:
            text, done = self._changed(file.read())
            file.seek(0)
            file.truncate()
            file.write(text)
        done()

    def _save(self, path: Path) -> None:
        """Rename another file over it."""
        before = _read(path)
        text, done = self._changed(before)
        draft = path.with_name(f".{path.name}.draft")
        _write(draft, text)
        # What comes between reading and renaming would be lost by the editor, not by us.
        if _read(path) != before:
            draft.unlink()
            return
        draft.replace(path)
        done()

    def _rename(self, path: Path) -> None:
        other = path.with_name(f"{self._source.randrange(_FILES)}.md")
        if not other.exists():
            path.rename(other)

    def _changed(self, text: str) -> tuple[str, Callable[[], None]]:
        """Return a text with a line more or less, and what notes that it is so."""
        lines = _lines_of(text)
        at = len(lines) if self._only_adds else self._source.randint(0, len(lines))
        if at < len(lines) and lines[at] in self.lines and self._source.random() < 0.3:
            gone = lines.pop(at)

            def note() -> None:
                del self.lines[gone]
                self.deleted[gone] = None
        else:
            line = self._line()
            lines.insert(at, line)

            def note() -> None:
                self.lines[line] = None

        return "".join(lines), note

    def _line(self) -> str:
        self._count += 1
        words = self._source.choices(_WORDS, k=self._source.randrange(200))
        return f"<{self._count:07}> {' '.join(words)}\n"


def texts_of(directory: Path) -> dict[str, str]:
    """Return the texts of a directory's files, without hidden ones."""
    files = [path for path in sorted(directory.rglob("[!.]*")) if path.is_file()]
    paths = [(str(path.relative_to(directory)), path) for path in files]
    return {name: _read(path) for name, path in paths if "/." not in f"/{name}"}


def _read(path: Path) -> str:
    with path.open(newline="") as file:
        return file.read()


def _write(path: Path, text: str) -> None:
    with path.open("w", newline="") as file:
        file.write(text)


def _lines_of(text: str) -> list[str]:
    return [f"{line}\n" for line in text.split("\n") if line]


def run(parent: Path, kills: int, seed: int, *, only_adds: bool = False) -> list[str]:
    """Kill a node `kills` times; return what is wrong at the end, nothing when all is well. With
    `only_adds`, lines are put in at the end of files, and nothing else is done."""
    source = random.Random(seed)
    with mesh(parent, ("killed", "other"), options=("--host", "127.0.0.1", "--port", "0")) as nodes:
        directories = [parent / f"{node.folder.name}-files" for node in nodes]
        for node, directory in zip(nodes, directories, strict=True):
            BindingStore(node.folder).bind(Bound(directory, "memory", _RANGE))
        killed, other = nodes
        other.start()
        port = other.status()["port"]
        killed.options = (*killed.options, "--no-mdns", "--peer", f"127.0.0.1:{port}")
        writer = Writer(directories, source, only_adds=only_adds)
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
    texts: list[dict[str, str]] = []
    before = texts
    since = time.monotonic()
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):  # one got another name just now
            texts = [texts_of(directory) for directory in directories]
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
    parser.add_argument("--only-adds", action="store_true", help="put lines at the end of files")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="phextsync-kills-", dir=os.getcwd()) as folder:
        problems = run(Path(folder), options.kills, options.seed, only_adds=options.only_adds)
    for problem in problems[:20]:
        print(problem)
    print(f"{options.kills} kills: {'every line is there, once' if not problems else 'FAILED'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
