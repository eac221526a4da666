"""Directories and scrolls become the same, whoever changed what, and no line is lost or doubled."""

import re
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync import CoordinateRange
from phextsync.files import GRACE_S, Binding, File, Mark, Record
from phextsync.names import NameMap
from sims.network import Network

_RANGE = CoordinateRange.parse("7.*")


def _run(coroutine: Coroutine[None, None, None]) -> None:
    """Run what never has to wait."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


class MemoryDirectory:
    """Files in memory. `meanwhile` is what happens elsewhere while the disk is at work."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None
        self.files: dict[str, File] = {}
        self.records: dict[str, Record] = {}
        self.backups: list[tuple[str, str]] = []
        self.writes = 0
        self._count = 0

    def put(self, name: str, text: str, *, is_replaced: bool = False) -> None:
        """Let a user write a file."""
        old = self.files.get(name)
        self._count += 1
        inode = self._count if is_replaced or old is None else old.mark.inode
        self.files[name] = File(Mark(inode, len(text), self._count), text)

    def texts(self) -> dict[str, str]:
        return {name: file.text for name, file in self.files.items() if file.text}

    async def read(self, name: str) -> File | None:
        self.meanwhile()
        return self.files.get(name)

    async def write(self, name: str, text: str, expected: Mark | None) -> Mark | None:
        self.meanwhile()
        old = self.files.get(name)
        if (None if old is None else old.mark) != expected:
            return None
        self.writes += 1
        self.put(name, text, is_replaced=True)
        return self.files[name].mark

    async def remove(self, name: str, expected: Mark) -> bool:
        self.meanwhile()
        if self.files[name].mark != expected:
            return False
        del self.files[name]
        return True

    async def back_up(self, name: str, text: str) -> None:
        self.meanwhile()
        self.backups.append((name, text))

    async def remember(self, name: str, record: Record | None) -> None:
        self.meanwhile()
        if record is None:
            self.records.pop(name, None)
        else:
            self.records[name] = record


class Machine:
    """A node of a network with a bound directory."""

    def __init__(self, network: Network, number: int) -> None:
        self.peer = network.peers[number]
        self.network = network
        self.directory = MemoryDirectory()
        self.start()

    def start(self) -> None:
        """Bind the directory, with what it remembers."""
        self.binding = Binding(self.peer.replica, _RANGE, self.directory, self.directory.records)

    def sync(self, now: float | None = None) -> None:
        """Bring everything together."""
        names = sorted({*self.directory.files, *self.binding.names()})
        _run(self.binding.sync(names, self.network.now if now is None else now))
        self.peer.commit()


class Mesh:
    """Machines that can be cut off and joined."""

    def __init__(self, count: int) -> None:
        self.network = Network(count)
        self.machines = [Machine(self.network, i) for i in range(count)]

    def join(self) -> None:
        self.network.link_all()
        self.network.run(1)

    def part(self) -> None:
        for link in list(self.network.links):
            self.network.cut(link)

    def settle(self) -> dict[str, str]:
        """Join all and sync until nothing changes; return the files that all have."""
        self.join()
        for _ in range(8):
            for machine in self.machines:
                machine.sync()
            self.network.run(1)
        texts = [machine.directory.texts() for machine in self.machines]
        assert all(other == texts[0] for other in texts), texts
        return texts[0]


@pytest.fixture
def mesh() -> Mesh:
    made = Mesh(2)
    made.join()
    return made


def _both(mesh: Mesh) -> None:
    for machine in mesh.machines * 2:
        machine.sync()
        mesh.network.run(1)


def test_a_file_becomes_a_file_elsewhere_and_its_changes_follow(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("MEMORY.md", "milk\n")
    assert mesh.settle() == {"MEMORY.md": "milk\n"}
    two.directory.put("MEMORY.md", "milk\nbread\n")
    assert mesh.settle() == {"MEMORY.md": "milk\nbread\n"}
    assert one.directory.writes + two.directory.writes == 2  # no echo


@pytest.mark.parametrize("is_replaced", [False, True])
def test_changes_made_apart_are_merged(mesh: Mesh, is_replaced: bool) -> None:
    one, two = mesh.machines
    one.directory.put("n.md", "one\ntwo\nthree\n")
    mesh.settle()
    mesh.part()
    one.directory.put("n.md", "one\ntwo\nthree\nfour\n", is_replaced=is_replaced)
    two.directory.put("n.md", "zero\none\nthree\n", is_replaced=is_replaced)
    for machine in mesh.machines:
        machine.sync()
    assert mesh.settle() == {"n.md": "zero\none\nthree\nfour\n"}


def test_the_same_replacement_on_two_machines_is_one(mesh: Mesh) -> None:
    mesh.machines[0].directory.put("n.md", "one\n")
    mesh.settle()
    mesh.part()
    for machine in mesh.machines:
        machine.directory.put("n.md", "one\ntwo\n", is_replaced=True)
        machine.sync()
    assert mesh.settle() == {"n.md": "one\ntwo\n"}


def test_what_a_file_holds_is_merged_before_it_is_written_over(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("n.md", "one\n")
    mesh.settle()
    two.directory.put("n.md", "one\ntwo\n")
    two.sync()
    mesh.network.run(1)
    write = one.directory.write

    async def write_late(name: str, text: str, expected: Mark | None) -> Mark | None:
        one.directory.put(name, "zero\none\n")
        one.directory.write = write  # type: ignore[method-assign]
        return await write(name, text, expected)

    one.directory.write = write_late  # type: ignore[method-assign]
    one.sync()
    assert one.directory.texts() == {"n.md": "zero\none\n"}
    assert mesh.settle() == {"n.md": "zero\none\ntwo\n"}


def test_equal_first_versions_are_one_and_different_ones_keep_each_line_once() -> None:
    for is_apart in (False, True):
        mesh = Mesh(3)
        if not is_apart:
            mesh.join()
        for machine, text in zip(
            mesh.machines, ["a\nb\nc\n", "b\nc\nd\n", "b\nx\nc\n"], strict=True
        ):
            machine.directory.put("same.md", "same\n")
            machine.directory.put("n.md", text)
            machine.sync()
            if not is_apart:
                mesh.network.run(1)
        texts = mesh.settle()
        assert texts["same.md"] == "same\n"
        assert sorted(texts["n.md"].split()) == ["a", "b", "c", "d", "x"]


def test_a_first_merge_is_reported_and_backed_up(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("n.md", "a\n")
    one.sync()
    mesh.network.run(1)
    two.directory.put("n.md", "b\n")
    two.sync()
    assert two.directory.backups == [("n.md", "b\n")]
    assert "n.md: merged with other text" in two.binding.reports[0]


def test_what_arrives_while_a_file_is_backed_up_stays(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("n.md", "one was here\n")
    one.sync()
    mesh.network.run(1)
    one.directory.put("n.md", "one was here\nthree was here\n")
    one.sync()
    two.directory.put("n.md", "two was here\n")

    async def back_up(name: str, text: str) -> None:
        mesh.network.run(0)

    two.directory.back_up = back_up  # type: ignore[method-assign]
    two.sync()
    assert sorted(mesh.settle()["n.md"].splitlines()) == [
        *("one was here", "three was here", "two was here")
    ]


def test_a_file_that_is_gone_or_emptied_for_a_moment_is_not_deleted(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.directory.put("n.md", "one\n")
    mesh.settle()
    now = mesh.network.now
    one.directory.put("n.md", "")
    one.sync(now)
    one.directory.put("n.md", "one\ntwo\n")
    one.sync(now + GRACE_S / 2)
    assert mesh.settle() == {"n.md": "one\ntwo\n"}
    del one.directory.files["n.md"]
    one.sync(mesh.network.now)
    assert one.binding.is_waiting
    assert mesh.settle() == {}


def test_a_deletion_and_a_change_made_apart_keep_the_change(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("n.md", "one\n")
    mesh.settle()
    mesh.part()
    del one.directory.files["n.md"]
    two.directory.put("n.md", "one\ntwo\n")
    for _ in range(2):
        mesh.network.run(1)
        for machine in mesh.machines:
            machine.sync()
    assert mesh.settle() == {"n.md": "two\n"}
    two.directory.put("n.md", "two\nthree\n")
    assert mesh.settle() == {"n.md": "two\nthree\n"}


def test_a_rename_keeps_the_scroll_and_what_was_written_meanwhile(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("old.md", "one\n")
    mesh.settle()
    place = NameMap.of(_RANGE, one.peer.replica[_RANGE.lower]).places["old.md"]
    mesh.part()
    one.directory.files["new/name.md"] = one.directory.files.pop("old.md")
    two.directory.put("old.md", "one\ntwo\n")
    for machine in mesh.machines:
        machine.sync()
    assert mesh.settle() == {"new/name.md": "one\ntwo\n"}
    assert one.peer.replica[place] == "one\ntwo\n"
    one.directory.put("old.md", "another\n")
    assert mesh.settle() == {"new/name.md": "one\ntwo\n", "old.md": "another\n"}


def test_the_same_rename_on_two_machines_is_one(mesh: Mesh) -> None:
    mesh.machines[0].directory.put("old.md", "one\n")
    mesh.settle()
    mesh.part()
    for machine in mesh.machines:
        machine.directory.files["new.md"] = machine.directory.files.pop("old.md")
    mesh.machines[0].sync()
    mesh.join()
    mesh.machines[1].sync()
    assert mesh.settle() == {"new.md": "one\n"}


def test_a_name_that_is_used_again_after_both_renamed_it_is_another_scroll(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("n.md", "one\n")
    mesh.settle()
    for machine in mesh.machines:
        machine.directory.files["m.md"] = machine.directory.files.pop("n.md")
    one.sync()
    mesh.network.run(1)
    two.sync()
    two.directory.put("n.md", "new\n")
    assert mesh.settle() == {"m.md": "one\n", "n.md": "new\n"}


def test_a_name_that_is_used_again_is_another_scroll(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("2026-11-25.md", "old\n")
    mesh.settle()
    two.directory.files["kept.md"] = two.directory.files.pop("2026-11-25.md")
    two.sync()
    two.directory.put("2026-11-25.md", "new\n")
    two.sync()
    assert mesh.settle() == {"2026-11-25.md": "new\n", "kept.md": "old\n"}


def test_a_scroll_without_a_name_gets_one_in_time(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.peer.replica["7.5.5/5.5.5/5.5.5"] = "orphan\n"
    one.sync()
    assert one.directory.texts() == {}
    mesh.network.run(31)
    assert mesh.settle() == {"recovered/7.5.5-5.5.5-5.5.5.md": "orphan\n"}


def test_what_is_no_text_is_left_alone_and_reported_once(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.directory.put("a.md", "break \x17 here")
    one.directory.files["b.bin"] = File(Mark(99, 1, 1), problem="not UTF-8")
    for _ in range(3):
        one.sync()
    assert sorted(one.binding.reports) == [
        "a.md: expected text without breaks, found a scroll break (U+0017) at offset 6; left alone",
        "b.bin: not UTF-8; left alone",
    ]
    assert len(one.peer.replica) == 0


def test_a_restart_does_nothing_twice(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.directory.put("n.md", "one\n")
    mesh.settle()
    one.directory.put("n.md", "one\ntwo\n")
    one.sync()
    before = one.directory.records["n.md"]
    one.directory.records["n.md"] = Record("one\n", before.mark, before.place, before.roots)
    one.start()
    two.directory.put("m.md", "x\n")
    assert mesh.settle() == {"m.md": "x\n", "n.md": "one\ntwo\n"}


# -- any history ---------------------------------------------------------------------------

_names = st.sampled_from(["MEMORY.md", "2026-11-25.md", "sub/notes.md"])
_steps = st.one_of(
    st.tuples(
        st.sampled_from(["append", "prepend", "insert", "replace", "drop", "delete", "restart"]),
        st.integers(0, 2),
        _names,
    ),
    st.tuples(st.just("rename"), st.integers(0, 2), _names),
    st.tuples(st.sampled_from(["sync", "write"]), st.integers(0, 2), _names),
    st.tuples(st.sampled_from(["join", "part", "time"]), st.just(0), st.just("")),
)


def _token(number: int) -> str:
    return f"t{number:03}"  # none is another with a letter put in


def _tokens(text: str) -> list[str]:
    return re.findall(r"t\d{3}", text)


@dataclass
class _History:
    """What users did to the files of a mesh, each line with a token and words that all have."""

    mesh: Mesh
    random: Random
    tokens: int = 0
    deleted: set[str] = field(default_factory=set)

    def pass_time(self) -> None:
        """Let what was sent arrive, at half of all occasions."""
        if self.random.random() < 0.5:
            self.mesh.network.run(0)

    def act(self, step: str, number: int, name: str) -> None:
        machine = self.mesh.machines[number]
        match step:
            case "join":
                self.mesh.join()
            case "part":
                self.mesh.part()
            case "time":
                self.mesh.network.run(1)
            case "sync":
                machine.sync()
            case "restart":
                machine.start()
            case _:
                self._change(step, machine, name)

    def _change(self, step: str, machine: Machine, name: str) -> None:
        held = machine.directory.files.get(name)
        lines = [] if held is None else held.text.splitlines(keepends=True)
        at = self.random.randint(0, len(lines))
        if step == "rename":
            if lines and f"{name}.old" not in machine.directory.files:
                machine.directory.files[f"{name}.old"] = machine.directory.files.pop(name)
                machine.sync()
            return
        if step == "delete":
            self.deleted.update(_tokens("".join(lines)))
            machine.directory.files.pop(name, None)
            return
        if step == "drop" and at < len(lines):
            self.deleted.update(_tokens(lines.pop(at)))
        else:
            place = {"append": len(lines), "prepend": 0}.get(step, at)
            lines.insert(place, f"{_token(self.tokens)} was noted here\n")
            self.tokens += 1
        machine.directory.put(name, "".join(lines), is_replaced=step == "replace")
        if step != "write":
            machine.sync()


@settings(deadline=None, max_examples=150)
@given(st.lists(_steps, max_size=25), st.integers(0, 9))
def test_any_history_ends_with_equal_directories_and_every_line_once(
    steps: list[tuple[str, int, str]], seed: int
) -> None:
    history = _History(Mesh(3), Random(seed))
    history.mesh.join()
    for machine in history.mesh.machines:
        machine.directory.meanwhile = history.pass_time
    for step in steps:
        history.act(*step)
    found = Counter(_tokens("\n".join(history.mesh.settle().values())))
    assert not {token: count for token, count in found.items() if count > 1}
    lost = {_token(i) for i in range(history.tokens)} - {*found} - history.deleted
    assert not lost
