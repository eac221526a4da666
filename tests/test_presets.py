"""Directories of agents: lists merge by entries, locks and limits of hosts are kept to."""

import fcntl
import os
from pathlib import Path

import pytest

from phextsync.errors import DirectoryError
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.entries import as_file, entries_of
from phextsync.files.filesystem import OsFileSystem
from phextsync.files.ignoring import Ignoring
from phextsync.files.presets import PRESETS, preset_of
from phextsync.files.settling import has_seen
from phextsync.index import CoordinateRange
from phextsync.testing.memory_disk import MemoryDisk
from sims.machines import Machine
from sims.network import Network

_HERMES = preset_of("hermes")


class Mesh:
    """Machines with Hermes on each, that can be cut off and joined."""

    def __init__(self, count: int) -> None:
        self.network = Network(count)
        self.machines = [Machine(self.network, i, preset=_HERMES) for i in range(count)]

    def part(self) -> None:
        for link in list(self.network.links):
            self.network.cut(link)

    def settle(self) -> list[str]:
        """Join all and let time pass; return the entries that all have."""
        self.network.link_all()
        self.pass_time(4.0)
        texts = [machine.visible()["MEMORY.md"] for machine in self.machines]
        assert texts == [as_file(texts[0])] * len(texts)
        return entries_of(texts[0])

    def pass_time(self, seconds: float) -> None:
        end = self.network.now + seconds
        while self.network.now < end:
            self.network.run(0.1)
            for machine in self.machines:
                if machine.is_due():
                    machine.work()


def _change(machine: Machine, add: str = "", remove: str = "") -> None:
    """Change the list as Hermes does: read all, write all beside it, rename."""
    entries = entries_of(machine.visible().get("MEMORY.md", ""))
    if remove:
        entries.remove(remove)
    entries += [add] if add else []
    machine.disk.put(".mem_1.tmp", "\n§\n".join(entries))
    machine.disk.rename(".mem_1.tmp", "MEMORY.md")


@pytest.fixture
def mesh() -> Mesh:
    made = Mesh(2)
    made.network.link_all()
    made.pass_time(0.2)
    return made


def test_first_entries_of_two_machines_are_two(mesh: Mesh) -> None:
    mesh.part()
    _change(mesh.machines[0], "one")
    _change(mesh.machines[1], "other")
    mesh.pass_time(2.0)
    assert sorted(mesh.settle()) == ["one", "other"]


def test_entries_that_two_add_apart_are_all_there_once_and_no_conflict(mesh: Mesh) -> None:
    _change(mesh.machines[0], "base")
    assert mesh.settle() == ["base"]
    for number in range(5):
        mesh.part()
        for name, machine in zip("ab", mesh.machines, strict=True):
            _change(machine, f"{name}{number}")
            mesh.pass_time(1.0)
            _change(machine, f"{name}{number} again")
        mesh.pass_time(1.0)
        mesh.settle()
    wanted = [f"{name}{i}{more}" for name in "ab" for i in range(5) for more in ("", " again")]
    assert sorted(mesh.settle()) == sorted(["base", *wanted])
    assert all(m.binding is not None and not len(m.binding.conflicts) for m in mesh.machines)


def test_an_entry_that_one_replaces_and_the_other_deletes_keeps_its_mark(mesh: Mesh) -> None:
    for entry in ("one", "two", "three"):
        _change(mesh.machines[0], entry)
        mesh.settle()
    mesh.part()
    _change(mesh.machines[0], "two changed", remove="two")
    _change(mesh.machines[1], remove="two")
    mesh.pass_time(2.0)
    assert mesh.settle() == ["one", "three", "two changed"]


def test_an_entry_that_two_replace_apart_is_there_as_each_wrote_it(mesh: Mesh) -> None:
    for entry in ("one", "buy milk today", "three"):
        _change(mesh.machines[0], entry)
        mesh.settle()
    mesh.part()
    _change(mesh.machines[0], "buy oat milk today", remove="buy milk today")
    _change(mesh.machines[1], "buy milk tomorrow", remove="buy milk today")
    mesh.pass_time(2.0)
    merged = mesh.settle()
    assert sorted(merged) == ["buy milk tomorrow", "buy oat milk today", "one", "three"]


def test_an_entry_that_two_change_in_its_place_is_there_as_each_wrote_it(mesh: Mesh) -> None:
    mesh.machines[0].disk.put("MEMORY.md", "one\n§\nbuy milk today\n§\nthree")
    mesh.settle()
    mesh.part()
    for machine, entry in zip(mesh.machines, ("buy oat milk", "buy milk soon"), strict=True):
        machine.disk.put(".mem_1.tmp", f"one\n§\n{entry}\n§\nthree")
        machine.disk.rename(".mem_1.tmp", "MEMORY.md")
    mesh.pass_time(2.0)
    assert sorted(mesh.settle()) == ["buy milk soon", "buy oat milk", "one", "three"]


def test_the_same_entry_of_two_machines_is_there_once(mesh: Mesh) -> None:
    mesh.part()
    for machine in mesh.machines:
        _change(machine, "same")
    mesh.pass_time(2.0)
    assert mesh.settle() == ["same"]


def test_lines_of_another_program_become_entries(mesh: Mesh) -> None:
    _change(mesh.machines[0], "one")
    mesh.settle()
    replica = mesh.machines[0].peer.replicas.open("memory")
    (place,) = [c for c in replica if "one" in replica[c] and "MEMORY" not in replica[c]]
    replica.append(place, "§\n§\nfrom elsewhere")
    assert mesh.settle() == ["one", "from elsewhere"]
    assert replica[place] == "one\n§\nfrom elsewhere\n§\n"


def test_nothing_is_put_in_place_while_the_host_holds_its_lock(mesh: Mesh) -> None:
    first, second = mesh.machines
    _change(first, "one")
    mesh.settle()
    second.files.locks.add("MEMORY.md.lock")
    _change(first, "two")
    mesh.pass_time(3.0)
    assert second.visible()["MEMORY.md"] == "one"
    # What it read before, and writes now, is not taken for a deletion of what came meanwhile.
    _change(second, "three")
    second.files.locks.clear()
    assert sorted(mesh.settle()) == ["one", "three", "two"]


def test_a_file_over_its_budget_is_told_and_whole(mesh: Mesh) -> None:
    entries = [f"{i} {'x' * 300}" for i in range(8)]
    for entry in entries:
        _change(mesh.machines[0], entry)
    assert mesh.settle() == entries
    binding = mesh.machines[1].binding
    assert binding is not None
    ((path, what),) = binding.situation().excess
    assert path == "MEMORY.md"
    assert what.startswith("2,437 characters, of which hermes takes 2,200: all are kept")


def test_the_lock_of_a_host_is_waited_for(tmp_path: Path) -> None:
    files = OsFileSystem(tmp_path)
    other = os.open(tmp_path / "a.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    with files.locked("a.lock") as is_locked:
        assert not is_locked
    os.close(other)
    with files.locked("a.lock") as is_locked:
        assert is_locked
        again = os.open(tmp_path / "a.lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(again)


@pytest.mark.parametrize(
    ("name", "kept", "ignored"),
    [
        ("hermes", ["MEMORY.md", "USER.md"], ["MEMORY.md.lock", "MEMORY.md.bak.1", "other.md"]),
        (
            "claude-code",
            ["CLAUDE.md", "rules/a.md", "projects/p/memory/MEMORY.md", "skills/s/SKILL.md"],
            ["history.jsonl", "settings.json", "projects/p/1.jsonl", "todos/1.json"],
        ),
        ("openclaw", ["SOUL.md", "memory/2026-11-29.md", "skills/a.md"], ["a.json", "canvas/a.md"]),
        ("agents-md", ["AGENTS.md", "CLAUDE.md"], ["README.md", "src/AGENTS.md"]),
    ],
)
def test_a_preset_says_which_files_are_memory(
    name: str, kept: list[str], ignored: list[str]
) -> None:
    ignoring = Ignoring("\n".join(preset_of(name).rules))
    assert [path for path in kept if ignoring.covers(path)] == []
    assert [path for path in ignored if not ignoring.covers(path)] == []


def test_an_unknown_preset_names_those_that_there_are() -> None:
    with pytest.raises(
        DirectoryError, match=r"hermes \(tested with hermes-agent 0\.19\.0\).*found amnesia"
    ):
        preset_of("amnesia")


def test_a_directory_has_one_preset(tmp_path: Path) -> None:
    store = BindingStore(tmp_path)
    directory = tmp_path / "memories"
    ranges = {preset.name: CoordinateRange.parse(preset.range) for preset in PRESETS}
    store.bind(Bound(directory, "memory", ranges["hermes"], preset="hermes"))
    with pytest.raises(DirectoryError, match=r"is bound already, to 11\.\* by the preset hermes"):
        store.bind(Bound(directory, "memory", ranges["openclaw"], preset="openclaw"))
    assert [bound.preset for bound in store.bindings()] == ["hermes"]
    assert len({*ranges.values()}) == len(PRESETS)


@pytest.mark.parametrize("first", [["one"], []])
def test_a_crash_at_any_moment_of_a_write_takes_no_entry_away(first: list[str]) -> None:
    crashes = 0
    for number in range(1, 100, 5):
        mesh = Mesh(2)
        one, other = mesh.machines
        mesh.network.link_all()
        mesh.pass_time(0.2)
        for entry in first:
            _change(one, entry)
            mesh.settle()
        mesh.part()
        _change(other, "news")
        mesh.pass_time(1.0)
        calls, saved = 0, 0

        def crash(name: str, path: str, number: int = number, disk: MemoryDisk = one.disk) -> None:
            nonlocal calls, saved
            calls += 1
            if calls == number:
                raise KeyboardInterrupt
            if name == "flock" and not saved:
                saved = calls
                disk.put(".mem_1.tmp", "\n§\n".join([*first, "mine"]))
                disk.rename(".mem_1.tmp", "MEMORY.md")

        one.files.before = crash
        try:
            mesh.settle()
        except KeyboardInterrupt:
            crashes += 1
        else:
            break
        one.files.before = lambda name, path: None
        mesh.network.crash(0)
        entries = entries_of(one.disk.text("MEMORY.md") or "")
        for entry in ("mine", "mine too"):
            entries += [] if entry in entries else [entry]
            one.disk.put(".mem_1.tmp", "\n§\n".join(entries))
            one.disk.rename(".mem_1.tmp", "MEMORY.md")
        one.start()
        assert sorted(mesh.settle()) == sorted([*first, "mine", "mine too", "news"]), number
    assert crashes > 2


def test_marks_do_not_say_that_a_list_was_made_of_what_came() -> None:
    came, before, there = "one\n§\nnews\n§\n", "one\n§\n", "one\n§\nmine\n§\n"
    assert not has_seen(*map(entries_of, (came, before, there)))
    assert has_seen(*map(entries_of, (came, before, came)))
