"""`undo --by`, and `--by` of the commands that look back: whose work, and what is said of it."""

import asyncio
import json
import re
import shlex
import time
from pathlib import Path
from random import Random

import pytest

import phextsync
from phextsync import Writer
from phextsync.discovery import PEERS_FILE, RememberedPeers, parse_address
from phextsync.handles.engine import Options
from phextsync.replica.past import FOREVER
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.trust.identity import NodeIdentity
from sims.processes import make_folder
from tests.command_users import CommandUser

_PAGE = Path(__file__).parent.parent / "docs" / "howto" / "history.md"
_A, _B = "1.5.2/3.7.3/9.1.1", "2.1.1/1.1.1/1.1.1"
_PI = bytes(range(16))


def _set_of(store: MemoryStore | LmdbStore, node_id: bytes) -> ReplicaSet:
    now_ms = time.time_ns() // 1_000_000 + (node_id == _PI)
    return ReplicaSet(
        store, node_id=node_id, random=Random(node_id.hex()), wall_time_ms=lambda: now_ms
    )


@pytest.fixture
def user(tmp_path: Path) -> CommandUser:
    """A user of `mac`, whose notes `pi` has spoilt."""
    user = CommandUser(make_folder(tmp_path / "data", "mac"))
    _spoil(user)
    return user


def _spoil(user: CommandUser) -> None:
    _remember(user, "pi")
    store = LmdbStore(user.data)
    ours = _set_of(store, NodeIdentity.load(user.data).node_id)
    ours.keep_history(FOREVER)
    theirs = _set_of(MemoryStore(), _PI)
    for at in (_A, _B):
        memory = ours.open("memory")
        memory[at] = "bread\neggs\n"
        _bring(ours, theirs)
        theirs.open("memory")[at] = "bread from mars\nbutter\n"
        _bring(theirs, ours)
        memory.append(at, "honey\n")
    ours.commit()
    store.close(clean=True)


def _remember(user: CommandUser, name: str) -> None:
    """Let a machine be known, by a name if it has one."""
    remembered = RememberedPeers()
    remembered.remember(_PI, parse_address("192.168.0.2:4321"), 1000.0)
    if name:
        remembered.remember_name(_PI, name)
    (user.data / PEERS_FILE).write_text(remembered.to_json())


def _bring(a: ReplicaSet, b: ReplicaSet) -> None:
    """Bring what A has and B lacks, as if it had come live."""
    for name in a.names():
        ours, theirs = a.open(name), b.open(name)
        for coordinate in sorted({*ours.uncommitted(), *ours.index}):
            update = ours.difference(coordinate, theirs.version(coordinate))
            if update is not None:
                theirs.apply(coordinate, LogEntry(update, a.node_id, a.author.now_ms()), 1)


def test_it_shows_what_it_would_do_does_it_and_can_be_taken_back(user: CommandUser) -> None:
    spoilt = user.out("get", _A)
    shown = user.run("undo", "--by", "pi")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[:3] == [
        f"{_A}  -16 +4",
        "    - bread from mars",
        "    + bread",
    ]
    assert shown.stderr == "2 scrolls would change; --yes does it\n"
    assert user.out("get", _A) == spoilt
    (row,) = json.loads(user.out("undo", "--by", _PI.hex()[:8], "--range", "1.*", "--json"))
    assert (row["coordinate"], row["removed"], row["restored"], row["file"]) == (_A, 16, 4, None)
    done = user.run("undo", "--by", "pi", "--range", "1.*", "--yes")
    assert user.out("get", _A) == "bread\neggs\nhoney\n"
    assert user.out("get", _B) == spoilt
    assert "nothing of pi to take back" in user.run("undo", "--by", "pi", "--range", "1.*").stderr
    (again,) = re.findall(r"phextsync (undo --by mac --since '.*' --range '1\.\*')", done.stderr)
    user.out(*shlex.split(again), "--yes")
    assert user.out("get", _A) == spoilt


@pytest.mark.parametrize("other", ["pi", "Anna's mac"])
def test_what_takes_it_back_can_be_typed_whatever_machines_are_called(
    tmp_path: Path, other: str
) -> None:
    user = CommandUser(make_folder(tmp_path / "data", "Anna's mac"))
    _remember(user, other)
    own = NodeIdentity.load(user.data).node_id.hex()
    user.out("history", "--keep", "1d")
    user.out("set", _A, "one\n", "--phext", "notes")
    done = user.run("undo", "--by", own, "--phext", "notes", "--yes")
    words = shlex.split(done.stderr.partition("phextsync ")[2])
    assert words[2] == (own if other == "Anna's mac" else "Anna's mac")
    user.out(*words, "--yes")
    assert user.out("get", _A, "--phext", "notes") == "one\n"


def test_no_name_is_that_of_a_machine_whose_name_is_not_known(user: CommandUser) -> None:
    _remember(user, "")
    for nobody in ("/", "/mail"):
        assert "expected a node that is known" in user.error("undo", "--by", nobody)
        assert "expected a node that is known" in user.error("quarantine", nobody, "--all")
    assert "expected a node that is known" in user.error("task", "voters", "/")


def test_what_may_not_be_written_is_told_and_the_rest_is_taken_back(tmp_path: Path) -> None:
    user = CommandUser(tmp_path / "data")
    authority, files = str(tmp_path / "authority"), [tmp_path / "request", tmp_path / "bundle"]
    office = CommandUser(tmp_path / "office")
    office.out("init", "--administered", "--name", "office", "--authority", authority)
    files[0].write_text(user.out("request", "--name", "mac"))
    allowed = ("--read", "*", "--write", "2.*", "--phext", "memory", "--authority", authority)
    files[1].write_text(office.out("issue", str(files[0]), *allowed))
    user.out("accept", str(files[1]))
    _spoil(user)
    done = user.run("undo", "--by", "pi", "--yes")
    assert done.exit_code == 1
    changed, refused = done.stderr.splitlines()
    assert changed.startswith("1 scroll changed; to take that back: phextsync undo --by mac")
    assert refused == (
        "phextsync: 1 scroll not changed: this node's certificate does not allow writing memory "
        f"{_A}: expected a coordinate in 2.*"
    )
    assert user.out("get", _A) == "bread from mars\nbutter\nhoney\n"
    assert user.out("get", _B) == "bread\neggs\nhoney\n"
    assert user.run("undo", "--by", "pi", "--yes").stderr == f"{refused}\n"


def test_only_what_one_machine_wrote_is_listed(user: CommandUser) -> None:
    assert [line.split()[-1] for line in user.out("blame", _A, "--by", "pi").splitlines()] == [
        "mars",
        "butter",
    ]
    assert len(json.loads(user.out("log", _A, "--by", "mac", "--json"))) == 2
    assert len(json.loads(user.out("log", _A, "--by", "mac", "--last", "1", "--json"))) == 1


def test_a_machine_that_is_not_known_and_a_time_that_is_none_are_refused(user: CommandUser) -> None:
    assert "expected a node that is known here (mac, pi)" in user.error("undo", "--by", "moon")
    assert "expected a time" in user.error("undo", "--by", "pi", "--since", "soon")
    assert "nothing of" in user.run("undo", "--by", "f" * 32).stderr


def test_the_commands_of_the_page_do_what_it_says(user: CommandUser) -> None:
    section = _PAGE.read_text().split("## Taking back one writer")[1].split("\n## ")[0]
    commands = re.findall(r"^    phextsync (.*?)(?:  .*)?$", section, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        user.out(*(word.strip("'") for word in command.split()))
    assert user.out("get", _A) == user.out("get", _B) == "bread\neggs\nhoney\n"


# -- in programs ----------------------------------------------------------------------------

_OPTIONS: Options = {"host": "127.0.0.1", "port": 0, "discover": False}


def test_a_program_takes_back_a_writer_by_plain_calls(user: CommandUser) -> None:
    with phextsync.open(user.data, **_OPTIONS) as handle:
        memory = handle.phext()
        (only,) = memory.taking_back(Writer(_PI), _A)
        assert str(only.coordinate) == _A
        assert memory.taking_back(Writer(_PI, "a label that it has not")) == []
        found = memory.taking_back(Writer(_PI))
        assert [str(each.coordinate) for each in found] == [_A, _B]
        for _ in range(2):
            for each in found:
                memory.take_back(each.coordinate, each.update)
            assert memory[_A] == memory[_B] == "bread\neggs\nhoney\n"
        assert memory.taking_back(Writer(_PI)) == []


def test_a_program_takes_back_a_writer_in_asyncio(user: CommandUser) -> None:
    async def use() -> None:
        async with phextsync.aio.open(user.data, **_OPTIONS) as handle:
            memory = handle.phext()
            found = await memory.taking_back(Writer(_PI), "1.*")
            for each in found:
                await memory.take_back(each.coordinate, each.update)
            assert await memory.get(_A) == "bread\neggs\nhoney\n"
            assert [str(each.coordinate) for each in await memory.taking_back(Writer(_PI))] == [_B]

    asyncio.run(use())
