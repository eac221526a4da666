"""The command, the programs and the tools about writers whose work waits."""

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest

import phextsync
from phextsync import Writer
from phextsync.agents import AsyncQuarantine, Quarantine
from phextsync.control.frames import Value
from phextsync.control.quarantine import WAITING
from phextsync.control.taking_back import TakenBacks
from phextsync.errors import PermissionDeniedError
from phextsync.gateways.agent import Agent
from phextsync.handles.blocking import Handle
from phextsync.handles.engine import Options
from phextsync.index import Coordinate
from phextsync.replica.taking_back import TakenBack
from sims.processes import make_folder
from tests.command_users import CommandUser

_PAGE = Path(__file__).parent.parent / "docs" / "howto" / "quarantine.md"
_OPTIONS: Options = {"host": "127.0.0.1", "port": 0, "discover": False}
_A, _B = "2.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.1"


def _add(handle: Handle, at: str, line: str, after: str, phext: str = "memory") -> None:
    """Let the writer add a line, and wait until it was taken."""
    memory = handle.phext(phext)
    with memory.changes() as changes:
        with phextsync.writing_as("mail"):
            memory.append(at, line)
        while memory.get(at, "") != after:
            next(changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", "desk")


def test_the_commands_of_the_page_do_what_it_says(folder: Path) -> None:
    commands = re.findall(r"^    phextsync (.*?)(?:  .*)?$", _PAGE.read_text(), re.MULTILINE)
    begin, every, list_, accept, accept_all, end = (
        [word.strip("'") for word in command.split()] for command in commands
    )
    user = CommandUser(folder)
    with phextsync.open(folder, **_OPTIONS) as handle:
        memory = handle.phext()
        memory[_A] = memory[_B] = "milk\n"
        user.out(*begin)
        user.out(*every)
        _add(handle, _A, "one\n", "milk\n")
        _add(handle, _B, "two\n", "milk\n")
        assert user.out(*list_).splitlines() == [
            "desk/mail  *",
            f"    {_B}  +4  two",
            f"    {_A}  +4  one",
            "desk/mail  2.*",
            f"    {_A}  +4  one",
        ]
        (_, row) = json.loads(user.out(*list_, "--json"))
        assert row["waiting"] == [{"coordinate": _A, "characters": 4, "line": "one"}]
        assert user.out(*accept) == f"{_A}  +4  one\n"
        assert user.out(*accept_all) == f"{_B}  +4  two\n"
        assert (memory[_A], memory[_B]) == ("milk\none\n", "milk\ntwo\n")
        assert "nothing of desk/mail waits here" in user.run(*accept_all).stderr
        user.out(*end)
        assert [line for line in user.out(*list_).splitlines()] == ["desk/mail  2.*"]
    assert "expected a writer" in user.error("quarantine")
    assert "expected a node that is known here" in user.error("quarantine", "moon/mail")
    assert "expected a label" in user.error("quarantine", "desk/file:notes.md")


def test_what_waits_when_it_ends_is_told_and_comes_back_by_the_writers_name(folder: Path) -> None:
    user = CommandUser(folder)
    with phextsync.open(folder, **_OPTIONS) as handle:
        user.out("quarantine", "desk/mail", "--range", "2.*")
        _add(handle, _A, "one\n", "")
        for writer, range_ in (("desk/mail", "*"), ("desk/other", "2.*")):
            told = user.error("quarantine", writer, "--range", range_, "--end")
            assert re.search(r"the work of this writer waits \((2\.\*|none)\), found", told)
        ended = user.run("quarantine", "desk/mail", "--range", "2.*", "--end")
        hint = "work in 1 scroll waits still: phextsync quarantine desk/mail --accept\n"
        assert (ended.exit_code, ended.stderr) == (0, hint)
        assert "those that are in quarantine" in user.run("quarantine", _B, "--accept").stderr
        assert user.out("quarantine", "desk/mail", "--accept") == f"{_A}  +4  one\n"


def test_what_waits_when_it_has_ended_is_listed_until_it_is_accepted_or_ended_again(
    folder: Path,
) -> None:
    user, of_it = CommandUser(folder), ("quarantine", "desk/mail", "--range", "2.*")
    with phextsync.open(folder, **_OPTIONS) as handle:
        user.out(*of_it)
        user.out(*of_it, "--end")
        assert user.run("quarantine", "--list").stdout == ""
        user.out(*of_it)
        _add(handle, _A, "one\n", "")
        user.out(*of_it, "--end")
        (row,) = json.loads(user.out("quarantine", "--list", "--json"))
        assert (row["range"], row["ended"], len(row["waiting"])) == ("2.*", True, 1)
        shown = user.run("quarantine", "--list")
        assert shown.stdout == (f"desk/mail  2.*  ended; 1 scroll waits still\n    {_A}  +4  one\n")
        accept, drop = (line.split(": phextsync ")[1] for line in shown.stderr.splitlines())
        assert drop == "quarantine desk/mail --end --range '2.*'"
        user.out(*of_it, "--end")
        assert user.out("quarantine", "--list") == ""
        assert "waits (none), found 2.*" in user.error(*of_it, "--end")
        user.out(*of_it)
        assert "ended" not in user.out("quarantine", "--list")
        user.out(*of_it, "--end")
        assert user.out(*shlex.split(accept)) == f"{_A}  +4  one\n"
        assert user.run("quarantine", "--list").stderr == ""


def test_what_waits_of_an_ended_quarantine_is_accepted_by_its_coordinate(folder: Path) -> None:
    user = CommandUser(folder)
    with phextsync.open(folder, **_OPTIONS) as handle:
        user.out("quarantine", "desk/mail")
        _add(handle, _A, "one\n", "")
        user.out("quarantine", "desk/mail", "--end")
        assert user.out("quarantine", _A, "--accept") == f"{_A}  +4  one\n"
        assert handle.phext()[_A] == "one\n"


def test_what_is_told_to_be_done_next_is_done_in_the_same_phext(folder: Path) -> None:
    user, where = CommandUser(folder), ("--phext", "notes")
    with phextsync.open(folder, **_OPTIONS) as handle:
        begun = user.run("quarantine", "desk/mail", *where).stderr
        assert begun.endswith(": phextsync quarantine --list --phext notes\n")
        _add(handle, _A, "one\n", "", "notes")
        ended = user.run("quarantine", "desk/mail", *where, "--end").stderr
        assert ended.endswith(": phextsync quarantine desk/mail --accept --phext notes\n")


def test_nobody_holds_his_own_work_as_he_could_not_end_that(folder: Path) -> None:
    user = CommandUser(folder)
    assert "ask on another machine" in user.error("quarantine", "desk")
    assert user.out("quarantine", "--list") == ""


def test_an_agent_holds_writers_and_no_machine_of_people(folder: Path) -> None:
    async def use() -> None:
        async with phextsync.aio.open(folder, **_OPTIONS) as node:
            agent = Agent(node)
            for who in ("desk", "desk/"):
                with pytest.raises(phextsync.PhextsyncError, match="expected NODE/WRITER"):
                    await agent.call("quarantine", {"writer": who})
            await agent.call("quarantine", {"writer": f"{'AF' * 16}/mail"})
            (held,) = await AsyncQuarantine(node).writers()
            assert held.writer == Writer(b"\xaf" * 16, "mail")
            with pytest.raises(phextsync.PhextsyncError, match="found 'zz'"):
                await agent.call("quarantine_accept", {"range": "zz"})

    asyncio.run(use())


def test_a_folder_of_a_bound_directory_is_not_taken_for_all_of_it(
    folder: Path, tmp_path: Path
) -> None:
    user, notes = CommandUser(folder), tmp_path / "notes"
    (notes / "sub").mkdir(parents=True)
    user.out("bind", str(notes), "--at", "7.*")
    user.out("set", str(notes / "sub" / "a.md"), "milk\n")
    told = user.error("quarantine", "desk/mail", "--range", str(notes / "sub"))
    assert "found the folder" in told
    assert user.out("quarantine", "--list") == ""
    user.out("quarantine", "desk/mail", "--range", str(notes))
    assert user.out("quarantine", "--list") == "desk/mail  7.*\n"


def test_programs_and_agents_see_what_waits_and_accept_it(folder: Path) -> None:
    with phextsync.open(folder, **_OPTIONS) as handle:
        by = Writer(bytes.fromhex(handle.status().node_id), "mail")
        held = Quarantine(handle)
        held.begin(by)
        assert [row.writer for row in held.writers()] == [by]
        _add(handle, _A, "one\n", "")
        _add(handle, _B, "two\n", "")
        (row,) = held.accept(by, _A)
        assert (row.restored, row.restored_line) == (4, "one")
        assert handle.phext()[_A] == "one\n"
        assert [str(each.coordinate) for each in held.waiting(by)] == [_B]

    async def use() -> None:
        async with phextsync.aio.open(folder, **_OPTIONS) as node:
            agent, quarantine = Agent(node), AsyncQuarantine(node)
            assert await agent.call("quarantine_list", {}) == [f"{_B}  +4  two"]
            await agent.call("quarantine", {"writer": "desk/other", "range": "2.*"})
            assert len(await quarantine.writers()) == 2
            assert await agent.call("quarantine_accept", {"range": _B}) == [f"{_B}  +4  two"]
            assert await agent.call("quarantine_accept", {"range": "*"}) == ["nothing waits there"]
            assert await node.phext().get(_B) == "two\n"
            await quarantine.end(by)
            await quarantine.begin(by, "1.*", all_=True)
            refused = pytest.raises(phextsync.PhextsyncError, match="waits itself")
            with refused, phextsync.writing_as("mail"):
                await quarantine.end(by, "1.*")

    asyncio.run(use())


def test_what_may_not_be_written_keeps_nothing_else_from_coming_back() -> None:
    back: list[Value] = []

    class Asked:
        def ask(self, *request: Value) -> Value:
            match request:
                case ["waiting", *_]:
                    rows = [
                        TakenBack(Coordinate.parse(at), 0, 1, 0, "", "x", b"") for at in (_B, _A)
                    ]
                    return WAITING.answer.encode(TakenBacks(rows, None))
                case ["take_back", _, str(place), *_] if place == _B:
                    raise PermissionDeniedError("nothing may be written there")
            back.append(request[2])
            return None

    with pytest.raises(PermissionDeniedError, match="nothing may be written there"):
        Quarantine(Asked()).accept(Writer(bytes(16), "mail"))
    assert back == [_A]


def test_the_program_of_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    with phextsync.open(folder, **_OPTIONS):
        exec(program.replace("~/.phextsync", str(folder)), {})
