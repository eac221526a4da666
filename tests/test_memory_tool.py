"""The memory tool: what it answers, against the SDK's own, and what is kept where several write."""

import asyncio
import os
import tempfile
from pathlib import Path
from random import Random
from typing import cast

import pytest
from anthropic.lib.tools import ToolError

import phextsync
from phextsync import CoordinateError, PhextsyncError, aio
from phextsync.agents.memory_commands import MemoryCommands
from phextsync.agents.memory_files import MemoryFiles
from phextsync.agents.memory_scrolls import ReplicaScrolls, run_now
from phextsync.files.names import Line
from phextsync.files.naming import ORPHAN_S, Naming
from phextsync.files.paths import Abilities
from phextsync.hosts.anthropic_memory import AsyncMemoryTool, MemoryTool
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from sims.machines import RANGE
from sims.network import PHEXT
from sims.processes import PATIENCE_S, make_folder
from tests import memory_oracle
from tests.engines import OPTIONS
from tests.memory_oracle import Command
from tests.test_files import Mesh

_RANGE = CoordinateRange.parse("7.*")
_MAP = Coordinate(7, *[1] * 8)
_SEQUENCES = int(os.environ.get("PHEXTSYNC_MEMORY_SEQUENCES", "150"))


def _replica(seed: int = 0) -> Replica:
    node_id = bytes([seed]) * 16
    replicas = ReplicaSet(
        MemoryStore(), node_id=node_id, random=Random(seed), wall_time_ms=lambda: 1234
    )
    return replicas.open("memory")


def _texts(replica: Replica) -> dict[str, str]:
    files = MemoryFiles(_RANGE, replica.get(_MAP, ""), [*replica.coordinates(_RANGE)])
    return {path: replica[place] for path, place in files.paths.items()}


class _Agent:
    """Gives commands to the files of a replica."""

    def __init__(self, seed: int = 0) -> None:
        self.replica = _replica(seed)
        self.commands = MemoryCommands(ReplicaScrolls(self.replica, _RANGE))

    def ask(self, command: Command) -> str:
        given = {name: value for name, value in command.items() if name != "command"}
        made = getattr(self.commands, str(command["command"]))(**given)
        return cast("str", run_now(made))

    def do(self, name: str, **given: object) -> str:
        return self.ask({"command": name, **given})

    def texts(self) -> dict[str, str]:
        return _texts(self.replica)

    def hear(self, other: "_Agent") -> None:
        for place in other.replica.uncommitted():
            update = other.replica.difference(place, self.replica.version(place))
            if update is not None:
                self.replica.merge(place, update)


def test_what_it_answers_is_what_the_local_files_of_the_sdk_answer() -> None:
    answered = 0
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for seed in range(_SEQUENCES):
            agent = _Agent()
            below = Path(folder) / str(seed)
            answered += memory_oracle.run(seed, below, agent.ask, agent.texts)
    assert answered > _SEQUENCES * memory_oracle.COMMANDS // 4


@pytest.mark.parametrize(
    "path",
    [
        "/memories/%2e%2e/secret",
        "/memories/a/%2E%2e%2Fsecret",
        "/memories/%252e%252e/secret",
        "/memories/..\\secret",
        "/memories/../secret",
        "/memories/../../memories/secret",
    ],
)
def test_a_path_that_leaves_the_root_is_refused_however_it_is_written(path: str) -> None:
    agent = _Agent()
    commands: list[Command] = [
        {"command": "view", "path": path},
        {"command": "create", "path": path, "file_text": "x"},
        {"command": "delete", "path": path},
        {"command": "insert", "path": path, "insert_line": 0, "insert_text": "x"},
    ]
    for command in commands:
        with pytest.raises(PhextsyncError, match="would escape /memories"):
            agent.ask(command)
    agent.do("create", path="/memories/a", file_text="kept")
    with pytest.raises(PhextsyncError, match="would escape /memories"):
        agent.do("rename", old_path="/memories/a", new_path=path)
    assert agent.texts() == {"a": "kept"}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/memoriesx", "Path must start with /memories"),
        ("/memories/nul\0", "without control characters"),
        ("/memories/line\nend", "without control characters"),
        ("/memories/" + "ä" * 128, "at most 255 bytes"),
        ("/memories/" + "d/" * 1600 + "x", "at most 3072 bytes"),
        ("/memories/\ud800", "in UTF-8"),
        ("/memories/.hidden", "left alone"),
        ("/memories/d/.git/config", "left alone"),
        ("/memories/notes.md~", "left alone"),
        ("/memories/kept/below", "expected a folder at /memories/kept, found a file"),
    ],
)
def test_a_file_that_cannot_be_kept_is_not_made(path: str, why: str) -> None:
    agent = _Agent()
    agent.do("create", path="/memories/kept", file_text="kept")
    with pytest.raises(PhextsyncError, match=why):
        agent.do("create", path=path, file_text="x")
    agent.do("create", path="/memories/other", file_text="other")
    with pytest.raises(PhextsyncError, match=why):
        agent.do("rename", old_path="/memories/other", new_path=path)
    assert agent.texts() == {"kept": "kept", "other": "other"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an empty file is not kept"),
        ("a\x17b", "scroll break"),
        ("a\0b", "zero byte"),
        ("a\udc80", "lone surrogate"),
        ("x" * ((8 << 20) + 1), "at most 8388608 bytes"),
    ],
)
def test_a_text_that_cannot_be_kept_is_refused_and_nothing_is_lost(text: str, why: str) -> None:
    agent = _Agent()
    with pytest.raises(PhextsyncError, match=why):
        agent.do("create", path="/memories/new", file_text=text)
    agent.do("create", path="/memories/a", file_text="kept")
    with pytest.raises(PhextsyncError, match=why):
        agent.do("str_replace", path="/memories/a", old_str="kept", new_str=text)
    assert agent.texts() == {"a": "kept"}


def test_what_an_ignore_file_lists_is_not_made() -> None:
    agent = _Agent()
    agent.do("create", path="/memories/.phextsyncignore", file_text="*.log\n")
    with pytest.raises(PhextsyncError, match="left alone"):
        agent.do("create", path="/memories/d/a.log", file_text="x")
    assert agent.do("view", path="/memories").endswith("\n6B\t/memories")


def test_a_file_of_more_lines_than_have_numbers_is_not_shown() -> None:
    agent = _Agent()
    agent.do("create", path="/memories/a", file_text="\n" * 999_999)
    with pytest.raises(PhextsyncError, match="exceeds maximum line limit of 999,999 lines"):
        agent.do("view", path="/memories/a")


def test_a_range_with_too_few_free_parts_is_refused() -> None:
    with pytest.raises(CoordinateError, match="four free parts"):
        MemoryCommands(ReplicaScrolls(_replica(), CoordinateRange.parse("7.1.1/1.1.1/*")))


def test_the_names_of_files_are_read_again_only_where_they_changed() -> None:
    place, other = (Coordinate(7, 1, 1, 1, 1, 1, 2, 2, i) for i in (1, 2))
    text = str(Line(place, "a"))
    files = MemoryFiles(_RANGE, text, [place])
    assert files.now(_RANGE, text, iter([place])) is files
    assert [*files.now(_RANGE, str(Line(place, "b")), [place]).paths] == ["b"]
    assert len(files.now(_RANGE, text, [place, other]).paths) == 2
    assert not len(files.now(CoordinateRange.parse("8.*"), text, []).names)


# -- a bound directory of the range --------------------------------------------------------


def _paths_of_a_directory(replica: Replica) -> dict[str, str]:
    naming = Naming(replica, _RANGE, Abilities(), lambda: False)
    naming.load(0)
    naming.follow((), ORPHAN_S)
    places = [c for c in replica.coordinates(_RANGE) if c != _MAP]
    return {str(naming.layout.path_of(place)): replica[place] for place in places}


def test_a_bound_directory_gets_what_agents_write_and_agents_what_is_saved_there() -> None:
    mesh = Mesh(2)
    mesh.join()
    agents = [
        MemoryCommands(ReplicaScrolls(machine.peer.replicas.open(PHEXT), RANGE))
        for machine in mesh.machines
    ]
    run_now(agents[0].create("/memories/d/tea.md", "green\n"))
    mesh.machines[1].disk.put("saved.md", "by an editor\n")
    assert mesh.settle() == {"d/tea.md": "green\n", "saved.md": "by an editor\n"}
    mesh.part()
    run_now(agents[0].rename("/memories/d", "/memories/e"))
    mesh.machines[1].disk.put("d/tea.md", "green\nand black\n")
    mesh.pass_time(4)
    assert mesh.settle() == {"e/tea.md": "green\nand black\n", "saved.md": "by an editor\n"}
    for agent in agents:
        assert run_now(agent.view("/memories/saved.md")).endswith("     1\tby an editor\n     2\t")
    run_now(agents[1].delete("/memories/e"))
    assert mesh.settle() == {"saved.md": "by an editor\n"}


def test_a_directory_of_the_range_has_the_same_files() -> None:
    agent = _Agent()
    for name in ("a", "d/b", "d/c/e", "gone", "2026-11-29.md"):
        agent.do("create", path=f"/memories/{name}", file_text=name)
    agent.do("delete", path="/memories/gone")
    agent.do("rename", old_path="/memories/d", new_path="/memories/x")
    agent.do("create", path="/memories/d/b", file_text="again")
    agent.replica[Coordinate(7, 5, 5, 5, 5, 5, 5, 5, 5)] = "without a name"
    lost = agent.texts().keys() - {"a", "d/b", "x/b", "x/c/e", "2026-11-29.md"}
    assert lost == {"recovered/7.5.5-5.5.5-5.5.5.md"}
    assert _paths_of_a_directory(agent.replica) == agent.texts()


def test_what_is_renamed_keeps_its_marks_and_what_a_directory_calls_otherwise_is_found() -> None:
    agent = _Agent()
    one, two, three = (Coordinate(7, 1, 1, 1, 1, 1, 2, 2, i) for i in (1, 2, 3))
    lines = Line(one, "a", "x"), Line(two, "a"), Line(three, "a/b")
    agent.replica[_MAP] = "".join(map(str, lines))
    for place in (one, two, three):
        agent.replica[place] = str(place)
    assert agent.texts() == {"a/b": str(three), "a~file": str(one), "a~file2": str(two)}
    assert _paths_of_a_directory(agent.replica) == agent.texts()
    agent.do("rename", old_path="/memories/a~file", new_path="/memories/c")
    assert str(Line(one, "c", "x")) in agent.replica[_MAP]
    assert agent.do("view", path="/memories/c").endswith(str(one))


# -- several write -------------------------------------------------------------------------


def test_two_who_make_the_same_file_apart_have_it_once() -> None:
    one, other = _Agent(1), _Agent(2)
    for agent in (one, other):
        agent.do("create", path="/memories/d/a.md", file_text="the same\n")
    one.hear(other)
    other.hear(one)
    assert one.texts() == other.texts() == {"d/a.md": "the same\n"}


def test_two_who_make_a_file_of_one_name_apart_keep_the_lines_of_both() -> None:
    one, other = _Agent(1), _Agent(2)
    one.do("create", path="/memories/a", file_text="of one\n")
    other.do("create", path="/memories/a", file_text="of the other\n")
    one.hear(other)
    other.hear(one)
    (text,) = one.texts().values()
    assert one.texts() == other.texts()
    assert sorted(text.splitlines()) == ["of one", "of the other"]


def test_what_is_written_into_a_file_that_is_renamed_apart_comes_along() -> None:
    one, other = _Agent(1), _Agent(2)
    one.do("create", path="/memories/d/a.md", file_text="first\n")
    other.hear(one)
    one.do("rename", old_path="/memories/d", new_path="/memories/e/f")
    other.do("insert", path="/memories/d/a.md", insert_line=1, insert_text="second")
    one.hear(other)
    other.hear(one)
    assert one.texts() == other.texts() == {"e/f/a.md": "first\nsecond\n"}


def test_what_is_written_into_a_file_that_is_deleted_apart_stays() -> None:
    one, other = _Agent(1), _Agent(2)
    one.do("create", path="/memories/a", file_text="first\n")
    other.hear(one)
    one.do("delete", path="/memories/a")
    other.do("insert", path="/memories/a", insert_line=1, insert_text="second")
    one.hear(other)
    assert one.texts() == {"a": "second\n"}


class _Busy(ReplicaScrolls):
    """Somebody else writes a line between each look and the next change, some times."""

    def __init__(self, replica: Replica, times: int) -> None:
        super().__init__(replica, _RANGE)
        self._busy, self._times = replica, times

    async def edit(self, place: Coordinate, text: str, seen: str) -> None:
        if self._times:
            self._times -= 1
            self._busy.append(place, f"by somebody {self._times}\n")
        await super().edit(place, text, seen)


def test_a_change_that_others_get_in_the_way_of_begins_again() -> None:
    agent = _Agent()
    agent.do("create", path="/memories/a", file_text="one\n")
    agent.commands = MemoryCommands(_Busy(agent.replica, times=2))
    told = agent.do("str_replace", path="/memories/a", old_str="one", new_str="two")
    assert agent.texts() == {"a": "two\nby somebody 1\nby somebody 0\n"}
    assert "by somebody 0" in told


def test_a_change_that_others_always_get_in_the_way_of_is_told_and_not_made() -> None:
    agent = _Agent()
    agent.do("create", path="/memories/a", file_text="one\n")
    agent.commands = MemoryCommands(_Busy(agent.replica, times=1000))
    with pytest.raises(PhextsyncError, match="try again"):
        agent.do("str_replace", path="/memories/a", old_str="one", new_str="two")
    assert agent.texts()["a"].startswith("one\n")


class _Late(ReplicaScrolls):
    """Somebody else is first with a file, after it was seen that there was none."""

    async def begin(self, place: Coordinate, text: str) -> bool:
        await super().begin(place, "by somebody\n")
        return await super().begin(place, text)


def test_who_comes_second_with_a_file_is_told_that_it_exists() -> None:
    agent = _Agent()
    agent.commands = MemoryCommands(_Late(agent.replica, _RANGE))
    with pytest.raises(PhextsyncError, match="File /memories/a already exists"):
        agent.do("create", path="/memories/a", file_text="mine\n")
    assert agent.texts() == {"a": "by somebody\n"}


# -- the tools of the SDK ------------------------------------------------------------------


def _handle_texts(handle: phextsync.Handle) -> dict[str, str]:
    phext = handle.phext()
    files = MemoryFiles(_RANGE, phext.get(_MAP) or "", [*phext.coordinates(_RANGE)])
    return {path: phext[place] for path, place in files.paths.items()}


@pytest.mark.real
def test_the_tool_of_a_handle_answers_as_the_local_files_of_the_sdk(tmp_path: Path) -> None:
    make_folder(tmp_path / "node")
    with phextsync.open(tmp_path / "node", **OPTIONS) as handle:
        tool = MemoryTool(handle, "7.*")
        for seed in range(2):
            tool.clear_all_memory()
            memory_oracle.run(
                seed,
                tmp_path / str(seed),
                lambda c: str(tool.call(c)),
                lambda: _handle_texts(handle),
            )
        kept = MemoryTool(handle, "7.*", cache_control={"type": "ephemeral"})
        assert tool.to_dict() == {"type": "memory_20250818", "name": "memory"}
        assert kept.to_dict() == {**tool.to_dict(), "cache_control": {"type": "ephemeral"}}


@pytest.mark.real
def test_the_tool_for_asyncio_does_what_the_other_does(tmp_path: Path) -> None:
    make_folder(tmp_path / "node")

    async def main() -> list[str]:
        async with (
            asyncio.timeout(PATIENCE_S),
            aio.open(tmp_path / "node", **OPTIONS) as handle,
        ):
            tool = AsyncMemoryTool(handle, "7.*")
            commands: list[Command] = [
                {"command": "create", "path": "/memories/d/a", "file_text": "one\ntwo\n"},
                {
                    "command": "insert",
                    "path": "/memories/d/a",
                    "insert_line": 1,
                    "insert_text": "x",
                },
                {"command": "str_replace", "path": "/memories/d/a", "old_str": "x", "new_str": "y"},
                {"command": "rename", "old_path": "/memories/d", "new_path": "/memories/e"},
                {"command": "view", "path": "/memories"},
                {"command": "view", "path": "/memories/e/a", "view_range": [2, 2]},
                {"command": "delete", "path": "/memories/e"},
            ]
            told = [str(await tool.call(command)) for command in commands]
            with pytest.raises(ToolError, match="does not exist"):
                await tool.call({"command": "view", "path": "/memories/e"})
            return [*told, str(await tool.clear_all_memory())]

    told = asyncio.run(main())
    assert told[4].splitlines()[1:] == ["10B\t/memories", "10B\t/memories/e/", "10B\t/memories/e/a"]
    assert told[5].endswith("\n     2\ty")
    assert told[6:] == ["Successfully deleted /memories/e", "All memory cleared"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("command", "why"),
    [
        ({"command": "view"}, "expected path as text, found None"),
        ({"command": "view", "path": "/memories", "view_range": ["a"]}, "expected view_range"),
        ({"command": "create", "path": "/memories/a"}, "expected file_text as text"),
        ({"command": "insert", "path": "/memories/a", "insert_text": "x"}, "expected insert_line"),
        ({"command": "str_replace", "path": "/memories/a", "old_str": "x"}, "expected new_str"),
        ({"command": "rename", "old_path": 7, "new_path": "/memories/a"}, "expected old_path"),
    ],
)
def test_a_model_that_forgets_a_part_is_told_which(
    tmp_path: Path, command: Command, why: str
) -> None:
    make_folder(tmp_path / "node")
    with (
        phextsync.open(tmp_path / "node", **OPTIONS) as handle,
        pytest.raises(ToolError, match=why),
    ):
        MemoryTool(handle, "7.*").call(command)
