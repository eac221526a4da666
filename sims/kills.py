"""Kills: a node with a bound directory is killed again and again while files are edited.

Two real node processes, each with a directory, on the real disk. Lines are put in and deleted on
both machines, at the end and anywhere, in place and by renaming (with `--renames`, files get other
names, too), while one node is killed with SIGKILL at random moments and started again. At the end
both directories are equal and hold every line that was written and not deleted, once. A writer
does what an editor does: what comes to a file between reading and saving it is written over, and is
not asked for.

    python -m sims.kills --kills 200
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.filesystem import OsFileSystem
from phextsync.index import CoordinateRange
from sims.arguments import count
from sims.processes import PATIENCE_S, POLL_S, Process, mesh

_RANGE = CoordinateRange.parse("7.*")
_FILES = 12
_LIFE_S = (0.3, 3.0)  # between a start, or the end of it, and the kill, drawn at random
_QUIET_S = 3.0
_SHOWN_MAX = 20
_HEARD_S = 2.0  # after which a node has heard what was written into a file that it replaced
_TOLD = ("directories", "peers", "absent", "warnings")
_FILES_OF_ALL = OsFileSystem(Path("/"))
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
    there, `deleted` those that must not be; `unsure` those of which either may be, and why."""

    def __init__(
        self,
        directories: Sequence[Path],
        source: random.Random,
        *,
        only_adds: bool = False,
        renames: bool = False,
    ) -> None:
        self._directories = directories
        self._source = source
        self._only_adds = only_adds
        self._renames = renames
        self._count = 0
        self._late: list[tuple[float, Path, str]] = []  # written into files that were replaced
        self.lines: dict[str, str] = {}
        self.deleted: dict[str, str] = {}
        self.unsure: dict[str, str] = {}

    def write(self) -> None:
        """Add or delete a line of a file, or rename it, on either machine."""
        folder = self._source.choice(self._directories) / "notes"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._source.randrange(_FILES)}.md"
        with suppress(FileNotFoundError):  # its node has given it another name
            habits = [self._append, self._save]
            if not self._only_adds:
                habits += [*habits, self._rewrite]
            if self._renames:
                habits.append(self._rename)
            self._source.choice(habits)(path)

    def killed(self, directory: Path) -> None:
        """Note that the node of a directory ended: it heard nothing of what was written a moment
        ago into files that it had replaced."""
        since = time.monotonic() - _HEARD_S
        for at, path, line in self._late:
            if at > since and path.is_relative_to(directory):
                self.unsure[line] = f"written into {path} as its node replaced it and ended"
        self._late.clear()

    def problems(self) -> list[str]:
        """Say which lines are lost, doubled or back, and where, and whether the files differ."""
        found: list[str] = []
        texts = [texts_of(directory) for directory in self._directories]
        for directory, of in zip(self._directories, texts, strict=True):
            counts = Counter(line for text in of.values() for line in _lines_of(text))
            for line, by in self.lines.items():
                if counts[line] > 1 or (not counts[line] and line not in self.unsure):
                    what = "lost" if not counts[line] else f"there {counts[line]} times"
                    found.append(f"{directory.name}: {line[:12]} is {what}, put by {by}")
            for line, by in self.deleted.items():
                if counts[line] and line not in self.unsure:
                    found.append(f"{directory.name}: {line[:12]} is back, deleted by {by}")
        return found or ([] if texts[0] == texts[1] else ["the directories differ"])

    def _append(self, path: Path) -> None:
        line = self._line()
        with path.open("a", newline="") as file:
            file.write(line)
            file.flush()
            self._note_late(file.fileno(), path, line)
        self.lines[line] = f"appending to {path}"

    def _rewrite(self, path: Path) -> None:
        """Empty the file and write it, as it was when it was opened but for a line."""
        with path.open("r+", newline="") as file:
            text, line = self._changed(file.read())
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            self._note_late(file.fileno(), path, line)
        self._note(line, f"rewriting {path}")

    def _note_late(self, descriptor: int, path: Path, line: str) -> None:
        """Note what was written into a file that is not at its path any more."""
        if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
            self._late.append((time.monotonic(), path, line))

    def _save(self, path: Path) -> None:
        """Let another file take its place."""
        before = _read(path)
        text, line = self._changed(before)
        draft = path.with_name(f".{path.name}.draft")
        _write(draft, text)
        _FILES_OF_ALL.exchange(str(draft), str(path))
        unread = {*_lines_of(_read(draft))} ^ {*_lines_of(before)}
        draft.unlink()
        self._note(line, f"saving {path}")
        self.unsure |= dict.fromkeys(unread, f"written over unread by saving {path}")

    def _rename(self, path: Path) -> None:
        other = path.with_name(f"{self._source.randrange(_FILES)}.md")
        with suppress(FileExistsError):
            _FILES_OF_ALL.rename_new(str(path), str(other))

    def _changed(self, text: str) -> tuple[str, str]:
        """Return a text with a line more or less, and that line."""
        lines = _lines_of(text)
        at = len(lines) if self._only_adds else self._source.randint(0, len(lines))
        if at < len(lines) and lines[at] in self.lines and self._source.random() < 0.3:
            line = lines.pop(at)
        else:
            line = self._line()
            lines.insert(at, line)
        return "".join(lines), line

    def _note(self, line: str, by: str) -> None:
        """Note that a line was put somewhere or deleted."""
        if line in self.lines:
            del self.lines[line]
            self.deleted[line] = by
        else:
            self.lines[line] = by

    def _line(self) -> str:
        self._count += 1
        words = self._source.choices(_WORDS, k=self._source.randrange(200))
        # No two lines are like: what a line became of another, of which it has the words, is a
        # conflict if somebody else deletes that one.
        return f"<{self._count:07}> {' '.join(f'{word}{self._count}' for word in words)}\n"


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


def run(
    parent: Path, kills: int, seed: int, *, only_adds: bool = False, renames: bool = False
) -> list[str]:
    """Kill a node `kills` times; return what is wrong at the end, nothing when all is well. With
    `only_adds`, lines are put in at the end of files alone; with `renames`, files are renamed,
    too."""
    source = random.Random(seed)
    with mesh(parent, ("killed", "other"), options=("--host", "127.0.0.1", "--port", "0")) as nodes:
        directories = [parent / f"{node.folder.name}-files" for node in nodes]
        for node, directory in zip(nodes, directories, strict=True):
            BindingStore(node.folder).bind(Bound(directory, "memory", _RANGE))
        killed, other = nodes
        other.start()
        port = other.status()["port"]
        killed.options = (*killed.options, "--no-mdns", "--peer", f"127.0.0.1:{port}")
        writer = Writer(directories, source, only_adds=only_adds, renames=renames)
        for number in range(kills):
            if number % 10 == 0:
                print(f"{number} of {kills} kills", file=sys.stderr, flush=True)
            killed.launch()
            if source.random() < 0.7:  # the others may end while they start
                _write_until_at_work(killed, writer)
            end = time.monotonic() + source.uniform(*_LIFE_S)
            while time.monotonic() < end:
                writer.write()
                time.sleep(POLL_S)
            killed.stop(signal.SIGKILL)
            writer.killed(directories[0])
        killed.start()
        _wait_until_quiet(directories, writer)
        problems = writer.problems()
        return [*problems[:_SHOWN_MAX], *_circumstances(nodes, writer)] if problems else []


def _write_until_at_work(node: Process, writer: Writer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not _is_at_work(node):
        if node.has_ended() or time.monotonic() > deadline:
            raise AssertionError(
                f"it did not take up its directory: {node.log.read_text()[-2000:]}"
            )
        writer.write()
        time.sleep(10 * POLL_S)


def _is_at_work(node: Process) -> bool:
    """Whether a node has taken up its directory."""
    with suppress(OSError):
        rows = node.status()["directories"]
        return bool(rows) and all(row["is_taken_up"] for row in rows)
    return False


def _circumstances(nodes: Sequence[Process], writer: Writer) -> list[str]:
    """Say what may explain problems: what was written over, and how it stands with the nodes."""
    unsure = [f"not asked for: {line[:12]}, {why}" for line, why in writer.unsure.items()]
    states = [(node.folder.name, node.status()) for node in nodes]
    rows = [(name, {key: state.get(key) for key in _TOLD}) for name, state in states]
    return [*unsure, *(f"{name}: {json.dumps(row, ensure_ascii=False)}" for name, row in rows)]


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
    parser.add_argument("--kills", type=count, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-adds", action="store_true", help="put lines at the end of files")
    parser.add_argument("--renames", action="store_true", help="rename files, too")
    options = parser.parse_args(arguments)
    habits = {"only_adds": options.only_adds, "renames": options.renames}
    with tempfile.TemporaryDirectory(prefix="phextsync-kills-", dir=os.getcwd()) as folder:
        problems = run(Path(folder), options.kills, options.seed, **habits)
    for problem in problems:
        print(problem)
    print(f"{options.kills} kills: {'every line is there, once' if not problems else 'FAILED'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
