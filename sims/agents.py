"""Agents: instances of hermes-agent on two machines that remember things under cuts and kills.

Two hosts of a `Lan`, each with a node and a home of Hermes that two instances share. While they
write, cables are pulled, nodes and instances are killed, as often as the writes go on. At the end
both machines must have, once, whatever was acknowledged.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.entries import entries_of
from phextsync.files.presets import preset_of
from phextsync.handles.blocking import attach
from phextsync.hosts.shared_lists import LISTS, TURNS
from phextsync.index import CoordinateRange
from sims.lan import Lan
from sims.processes import Process, mesh

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = ROOT / ".hermes" / "bin" / "python"
MISSING: Final = "hermes-agent is not installed: make hermes"

_PATIENCE_S: Final = 600.0  # Hermes takes seconds to start, and longer on a busy machine
_POLL_S: Final = 0.05
_MACHINES: Final = 2
_INSTANCES: Final = 2
_LIST: Final = "11.1.1/1.1.2/"  # where scrolls of files of the preset's range are
_FORBIDDEN: Final = "Refusing to write"
_PLUGIN: Final = "from phextsync.hosts.hermes import register  # register_memory_provider\n"


@dataclass(slots=True)
class Outcome:
    """What became of a run: `writes` that were acknowledged, and of those `lost` and `doubled` at
    the end on some machine; `refused` by Hermes because of what it found in its file."""

    writes: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    kills: int = 0
    cuts: int = 0


class Instance:
    """A process of Hermes that does `count` writes, and more than one if it is killed."""

    def __init__(
        self, name: str, home: Path, prefix: Sequence[str], count: int, pause_s: float
    ) -> None:
        self.name = name
        self.acks = home.parent / f"{name}.acks"
        self._log = home.parent / f"{name}.log"
        self._home = home
        self._command = [*prefix, str(PYTHON), "-P", str(ROOT / "sims" / "hermes_worker.py")]
        self._command += [name, str(count), str(self.acks), str(pause_s)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Let it write."""
        environment = {**os.environ, "HERMES_HOME": str(self._home), "PYTHONPATH": str(ROOT)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, cwd=self._home, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kill it, whatever it does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def is_done(self) -> bool:
        """Whether it has done all writes."""
        assert self._process is not None
        status = self._process.poll()
        if status not in (None, 0, -signal.SIGKILL):
            raise AssertionError(
                f"{self.name} ended with {status}: {self._log.read_text()[-2000:]}"
            )
        return status == 0

    def notes(self) -> list[dict[str, str]]:
        """Return what it said."""
        if not self.acks.exists():
            return []
        return [json.loads(line) for line in self.acks.read_text().splitlines()]

    def written(self) -> int:
        """Return how many of its writes were acknowledged."""
        return sum("done" in note for note in self.notes())


@dataclass(slots=True)
class Wanted:
    """What must stand at the end: each of `texts` once, none of `gone`; of each pair of `either`
    one."""

    texts: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    either: list[tuple[str, ...]] = field(default_factory=list)


def wanted_of(notes: Sequence[dict[str, str]], outcome: Outcome) -> dict[str, Wanted]:
    """Return what must stand at the end in the list, the shared list, and the turns."""
    done = {note["done"]: note["refusal"] for note in notes if "done" in note}
    wanted = {name: Wanted() for name in ("list", "fact", "turn")}
    for note in notes:
        if "begun" not in note:
            continue
        where = wanted["list" if note["kind"] in ("add", "replace") else note["kind"]]
        refusal = done.get(note["begun"])
        if refusal is None:  # it was killed meanwhile
            where.either.append((note["text"], note["old"]))
            if note["old"] in where.texts:
                where.texts.remove(note["old"])
        elif _FORBIDDEN in refusal:
            outcome.refused.append(refusal)
        elif not refusal:
            outcome.writes += 1
            where.texts.append(note["text"])
            if note["old"]:
                where.texts = [text for text in where.texts if text != note["old"]]
                where.gone.append(note["old"])
        elif note["old"] in {text for pair in where.either for text in pair}:
            continue  # what it was to replace was never written
        else:
            raise AssertionError(f"{note}: {refusal}")
    return wanted


def compare(wanted: Wanted, found: Sequence[str], outcome: Outcome) -> None:
    """Note what is lost and what is doubled."""
    counts = Counter(found)
    outcome.lost += [text for text in wanted.texts if not counts[text]]
    outcome.doubled += [text for text, count in counts.items() if count > 1]
    outcome.doubled += [text for text in wanted.gone if counts[text]]
    outcome.doubled += [a for a, b in wanted.either if b and counts[a] and counts[b]]


def run(folder: Path, writes: int, *, pause_s: float = 0.02) -> Outcome:
    """Let four instances do `writes` together under cuts and kills; return what became of them."""
    assert PYTHON.exists(), MISSING
    outcome = Outcome()
    with Lan(_MACHINES) as lan, mesh(folder, ["one", "two"], prefixes=lan.prefixes()) as nodes:
        homes = [_made_home(folder, node) for node in nodes]
        for node in nodes:
            node.start()
        instances = [
            Instance(f"agent{m}{i}", homes[m], prefix, writes // 4, pause_s)
            for m, prefix in enumerate(lan.prefixes())
            for i in range(_INSTANCES)
        ]
        try:
            for instance in instances:
                instance.start()
            _disturb(lan, nodes, instances, writes, outcome)
            _wait(lambda: all(instance.is_done() for instance in instances))
            for instance in instances[::_INSTANCES]:
                instance.start()  # what waits for a node that was gone goes with the next session
            _wait(lambda: all(instance.is_done() for instance in instances))
            _check(nodes, homes, instances, outcome)
        finally:
            for instance in instances:
                instance.kill()
    return outcome


def _made_home(folder: Path, node: Process) -> Path:
    """Make a home of Hermes with the provider, whose memories are bound by the preset."""
    home = folder / f"hermes-{node.folder.name}"
    (home / "memories").mkdir(parents=True)
    plugin = home / "plugins" / "phextsync"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(_PLUGIN)
    (home / "phextsync.json").write_text(json.dumps({"data": str(node.folder)}))
    range_ = CoordinateRange.parse(preset_of("hermes").range)
    BindingStore(node.folder).bind(Bound(home / "memories", "memory", range_, preset="hermes"))
    return home


def _disturb(
    lan: Lan,
    nodes: Sequence[Process],
    instances: Sequence[Instance],
    writes: int,
    outcome: Outcome,
) -> None:
    """Do what disturbs, each after another part of the writes."""

    def cut(is_cut: bool) -> None:
        for _, way in lan.ways():
            way.is_blocked = is_cut
        outcome.cuts += is_cut

    def kill(number: int) -> None:
        instances[number].kill()
        instances[number].start()
        outcome.kills += 1

    def down(number: int) -> None:
        nodes[number].stop(signal.SIGKILL)
        outcome.kills += 1

    steps: list[Callable[[], object]] = [
        lambda: cut(True),
        lambda: kill(0),
        lambda: cut(False),
        lambda: down(1),
        lambda: kill(3),
        lambda: nodes[1].start(),
        lambda: cut(True),
        lambda: down(0),
        lambda: kill(2),
        lambda: nodes[0].start(),
        lambda: kill(1),
        lambda: cut(False),
    ]
    for number, step in enumerate(steps, 1):
        share = writes * number // (len(steps) + 1)
        _wait(partial(_have_written, instances, share))
        step()


def _have_written(instances: Sequence[Instance], count: int) -> bool:
    """Whether instances have done so many writes, or all of theirs."""
    all_done = all([instance.is_done() for instance in instances])
    return all_done or sum(instance.written() for instance in instances) >= count


def _check(
    nodes: Sequence[Process],
    homes: Sequence[Path],
    instances: Sequence[Instance],
    outcome: Outcome,
) -> None:
    """Wait until both machines hold the same and nothing waits; compare with what was said."""
    wanted = [wanted_of(instance.notes(), outcome) for instance in instances]
    lists = [home / "memories" / "MEMORY.md" for home in homes]
    journals = [home / "phextsync-journal" for home in homes]
    _wait(lambda: not any(path.suffix for journal in journals for path in journal.iterdir()))
    _wait(lambda: nodes[0].held() == nodes[1].held() and _are_in_step(nodes, lists))
    for number, node in enumerate(nodes):
        scrolls = _scrolls(node)
        turns = [
            line.removeprefix("user: ")
            for place, text in scrolls.items()
            if place.startswith(f"{TURNS}/")
            for line in text.splitlines()
            if line.startswith("user: ")
        ]
        found = {
            "list": entries_of(lists[number].read_text()),
            "fact": entries_of(scrolls.get(str(LISTS["memory"]), "")),
            "turn": turns,
        }
        raw = lists[number].read_text().split("\n§\n")
        outcome.doubled += [text for text, count in Counter(raw).items() if count > 1]
        for each in wanted:
            for name, what in each.items():
                compare(what, found[name], outcome)
        outcome.refused += [str(path) for path in homes[number].rglob("MEMORY.md.bak.*")]


def _are_in_step(nodes: Sequence[Process], lists: Sequence[Path]) -> bool:
    """Whether both lists are what their scrolls are, and the same."""
    rows = [row for node in nodes for row in node.status()["directories"]]
    is_calm = all(row["is_taken_up"] and row["waiting"] == row["held"] == 0 for row in rows)
    texts = [
        [text for place, text in _scrolls(node).items() if place.startswith(_LIST)]
        for node in nodes
    ]
    found = [entries_of(path.read_text()) for path in lists]
    return is_calm and found[0] == found[1] and all(map(_is_one_of, found, texts))


def _is_one_of(entries: list[str], texts: list[str]) -> bool:
    return any(entries_of(text) == entries for text in texts)


def _scrolls(node: Process) -> dict[str, str]:
    """Return the scrolls of a node, by coordinate."""
    with attach(node.folder) as handle:
        return {str(place): text for place, text in handle.phext().scrolls()}


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("it did not get there")
        time.sleep(_POLL_S)


def run_copied(folder: Path, writes: int, *, pause_s: float = 0.02) -> Outcome:
    """The same writes without nodes: what a copy of the newer file to the other machine, as often
    as it can, makes of Hermes' own lists."""
    assert PYTHON.exists(), MISSING
    outcome = Outcome()
    homes = [folder / f"hermes-{name}" for name in ("one", "two")]
    for home in homes:
        (home / "memories").mkdir(parents=True)
    lists = [home / "memories" / "MEMORY.md" for home in homes]
    instances = [
        Instance(f"agent{m}{i}", home, (), writes // 4, pause_s)
        for m, home in enumerate(homes)
        for i in range(_INSTANCES)
    ]
    try:
        for instance in instances:
            instance.start()
        while not all([instance.is_done() for instance in instances]):
            _copy_newer(lists)
            time.sleep(10 * _POLL_S)
        _copy_newer(lists)
        wanted = [
            wanted_of(_forgiven(instance.notes(), outcome), outcome) for instance in instances
        ]
    finally:
        for instance in instances:
            instance.kill()
    for each in wanted:
        compare(each["list"], entries_of(lists[0].read_text()), outcome)
    return outcome


def _forgiven(notes: list[dict[str, str]], outcome: Outcome) -> list[dict[str, str]]:
    """Leave out what could not be replaced since it was lost already."""
    failed = {note["done"] for note in notes if note.get("refusal", "").startswith("No entry")}
    return [note for note in notes if {note.get("begun"), note.get("done")}.isdisjoint(failed)]


def _copy_newer(lists: Sequence[Path]) -> None:
    """Put the newer list in the place of the other, as a copy in a cron job does."""
    there = sorted((path for path in lists if path.exists()), key=lambda path: path.stat().st_mtime)
    if there and (len(there) == 1 or there[0].read_bytes() != there[1].read_bytes()):
        other = next(path for path in lists if path != there[-1])
        draft = other.with_name(".copied")
        shutil.copy2(there[-1], draft)
        draft.replace(other)
