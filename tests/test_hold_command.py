"""What is held is set and shown in commands and handles, and kept in the folder."""

import asyncio
import json
from pathlib import Path

import cbor2
import pytest
import trio

import phextsync
from phextsync import NotHeldError, aio
from phextsync.control.status import HoldingRow, LeavingRow
from phextsync.files import service
from phextsync.files.bindings import BindingStore, Bound
from phextsync.gateways.agent import Agent
from phextsync.index import Coordinate, CoordinateRange
from phextsync.store.contract import Batch
from phextsync.store.lmdb_store import LmdbStore
from phextsync.testing import MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT
from sims.processes import make_folder
from tests.command_users import CommandUser

_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"
_REST = "2.1.1/1.1.1/1.1.1.."


@pytest.fixture
def user(tmp_path: Path) -> CommandUser:
    made = CommandUser(make_folder(tmp_path / "data"))
    for place in (_A, _B):
        made.out("set", place, "text")
    return made


def test_the_command_says_what_is_held_and_what_a_range_waits_for(user: CommandUser) -> None:
    assert user.out("hold") == "all of memory is held\n"
    said = [
        "of memory is held: 1.*",
        f"  {_REST} (1 scroll) leaves once it is on 2 others, now on none",
        "    no node runs here",
    ]
    assert user.out("hold", "1.*", "--copies", "2").splitlines() == said
    assert user.out("hold").splitlines() == said
    assert user.out("status").splitlines()[-3:] == said
    rows = json.loads(user.out("hold", "--json"))
    assert rows == json.loads(user.out("status", "--json"))["holding"]
    assert rows == [
        {
            "phext": "memory",
            "held": ["1.*"],
            "follows": False,
            "copies": 2,
            "leaving": [
                {
                    "range": _REST,
                    "scrolls": 1,
                    "copies": 2,
                    "kept_by": [],
                    "reasons": ["no node runs here"],
                }
            ],
            "going": 0,
        }
    ]
    assert user.out("get", _B) == "text"
    assert user.out("hold", "--everything") == "all of memory is held\n"
    assert json.loads(user.out("hold", "--json")) == []


def test_a_range_without_scrolls_leaves_at_once_and_is_an_error_from_then_on(
    user: CommandUser,
) -> None:
    assert (
        user.out("hold", "1.*", "2.*")
        == "of memory is held: 1.1.1/1.1.1/1.1.1..3.1.1/1.1.1/1.1.1\n"
    )
    said = (
        "memory 3.1.1/1.1.1/1.1.1 is not held here, where 1.1.1/1.1.1/1.1.1..3.1.1/1.1.1/1.1.1 is: "
        "no node runs here"
    )
    assert user.error("get", "3.1.1/1.1.1/1.1.1") == said
    assert user.error("set", "3.1.1/1.1.1/1.1.1", "text") == said
    assert user.error("log", "3.1.1/1.1.1/1.1.1") == said


def test_what_lists_scrolls_says_what_is_not_held(user: CommandUser, tmp_path: Path) -> None:
    file = str(tmp_path / "all.phext")
    listing = (["ls", "2.*"], ["ls"], ["search", "text"], ["export", "-"], ["export", file])
    for arguments in listing:
        assert "not held" not in user.run(*arguments).stderr
    user.out("hold", "1.*", "2.*")
    for arguments in listing[1:]:
        result = user.run(*arguments)
        assert result.exit_code == 1
        start = "phextsync: memory 3.1.1/1.1.1/1.1.1.. is not held here, where "
        assert result.stderr.splitlines()[-1].startswith(start), arguments
    assert "not held" not in user.run("ls", "2.*").stderr
    assert "7.* is not held here" in user.run("search", "text", "--range", "7.*").stderr


def test_agents_hear_that_what_they_list_and_search_is_not_held(tmp_path: Path) -> None:
    async def main() -> None:
        folder = make_folder(tmp_path)
        async with aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
            agent = Agent(handle)
            assert len(await agent.call("list", {"range": "2.*"})) == 1
            await handle.hold(["1.*"])
            await handle.phext().edit(_A, "text")
            for name, given in (
                ("list", {"range": "2.*"}),
                ("list", {}),
                ("search", {"words": "text"}),
                ("search", {"words": "text", "range": "2.*"}),
            ):
                said = (await agent.call(name, given))[-1]
                assert said.startswith("[no holder of "), name
            assert len(await agent.call("list", {"range": "1.*"})) == 1

    asyncio.run(main())


@pytest.mark.parametrize("note", [[[], [], []], [[], [], [], None, False, 1], [[[b"", b""]]], 5])
def test_what_another_version_noted_of_holding_is_one_line(user: CommandUser, note: object) -> None:
    store = LmdbStore(user.data)
    store.commit(Batch((), notes=((b"hmemory", cbor2.dumps(note)),)))
    store.close(clean=True)
    for arguments in (["get", _A], ["hold"], ["hold", "1.*"], ["status"], ["ls"]):
        said = user.error(*arguments)
        assert said.startswith("expected what is held of 'memory', found"), arguments
        assert said.endswith("another version of phextsync has noted it")


def test_nothing_of_a_phext_may_be_held(user: CommandUser) -> None:
    assert user.out("hold", "--nothing").splitlines()[0] == "of memory is held: nothing"
    assert user.out("hold", "--nothing", "--phext", "other").splitlines()[-1] == (
        "of other is held: nothing"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1.*", "--everything"], "more than one of them"),
        (["--nothing", "--everything"], "more than one of them"),
        (["--copies", "2"], "expected ranges with --copies"),
        (["1.*.2"], "expected"),
        (["1.*", "--phext", ".clients"], "the library's own"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    user: CommandUser, arguments: list[str], message: str
) -> None:
    assert message in user.error("hold", *arguments)
    assert user.out("hold") == "all of memory is held\n"


def test_the_range_of_a_bound_directory_is_not_given_up(user: CommandUser, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    user.out("bind", str(notes), "--at", "7.*")
    said = f"{notes} is bound to 7.* of memory, which would be given up: unbind it first"
    assert user.error("hold", "1.*") == said
    user.out("hold", "1.*", "7.*")
    user.out("unbind", str(notes))
    user.out("hold", "1.*")


def test_no_directory_is_bound_to_a_range_that_is_not_held(
    user: CommandUser, tmp_path: Path
) -> None:
    user.out("hold", "1.*", "2.*")
    user.out("hold", "1.*", "--copies", "1")  # 2.* is still here, and is given up
    for at in ("2.*", "7.*"):
        assert user.error("bind", str(tmp_path / "notes"), "--at", at).strip() == (
            f"phextsync: expected a range that is held here, found {at}: of memory is held 1.*; "
            "`phextsync hold` has more held"
        )
    user.out("bind", str(tmp_path / "notes"), "--at", "1.5.*")
    user.out("bind", str(tmp_path / "others"), "--at", "7.*", "--phext", "other")


def test_the_command_shows_the_phext_that_it_is_about(user: CommandUser) -> None:
    user.out("hold", "1.*")
    assert user.out("hold", "2.*", "--phext", "other") == "of other is held: 2.*\n"
    assert user.out("hold", "--phext", "other") == "of other is held: 2.*\n"
    assert [row["phext"] for row in json.loads(user.out("hold", "--json"))] == ["memory"]
    assert "of other is held: 2.*" in user.out("status")


def test_a_backup_says_that_it_is_one_of_a_part(user: CommandUser, tmp_path: Path) -> None:
    assert "held" not in user.run("backup", str(tmp_path / "all")).stderr
    user.out("hold", "1.*")
    said = user.run("backup", str(tmp_path / "part")).stderr.splitlines()
    assert said[-1] == "of memory only what is held here is in it: 1.*"


@pytest.mark.real
async def test_a_directory_whose_range_is_not_held_is_left_alone_and_says_why(
    user: CommandUser, tmp_path: Path
) -> None:
    user.out("hold", "1.*", "2.*")
    notes = tmp_path / "notes"
    BindingStore(user.data).bind(Bound(notes, "memory", CoordinateRange.parse("7.*")))
    async with (
        phextsync.open_node(user.data, host="127.0.0.1", port=0, discover=False) as node,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(service.serve, node)
        (row,) = node.status().directories
        assert row.problem.startswith("this node does not hold 7.* of memory")
        nursery.cancel_scope.cancel()


# -- handles -------------------------------------------------------------------------------


@pytest.mark.real
def test_plain_calls_set_and_show_what_is_held(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
        phext = handle.phext()
        phext[_B] = "text"
        handle.durable()
        handle.hold(["1.*"], copies=2)
        leaving = LeavingRow(
            range=_REST,
            scrolls=1,
            copies=2,
            kept_by=(),
            reasons=("no linked peer holds it and keeps it",),
        )
        expected = HoldingRow(phext="memory", held=("1.*",), copies=2, leaving=(leaving,))
        assert handle.status().holding == (expected,)
        assert phext[_B] == "text"
        handle.hold(["1.*", "2.*"])
        with pytest.raises(NotHeldError, match=r"no holder of memory .* is reachable"):
            phext.get("3.1.1/1.1.1/1.1.1")
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
        assert [row.held for row in handle.status().holding] == [
            ("1.1.1/1.1.1/1.1.1..3.1.1/1.1.1/1.1.1",)
        ]
        handle.hold(["*"])
        assert handle.status().holding == ()


@pytest.mark.real
def test_asyncio_sets_and_shows_what_is_held(tmp_path: Path) -> None:
    async def use() -> None:
        async with aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
            await handle.hold([_A])
            assert [row.held for row in (await handle.status()).holding] == [(_A,)]
            with pytest.raises(NotHeldError):
                await handle.phext().get(_B)
            await handle.phext().append(_B, "text")  # kept until a holder has it
            assert await handle.phext().get(_B) == "text"

    folder = make_folder(tmp_path)
    asyncio.run(use())


# -- nodes ---------------------------------------------------------------------------------


def _append(mesh: MemoryMesh, node: int, place: Coordinate, text: str) -> None:
    assert mesh.edit(node, place, lambda replica: replica.append(place, text))


def test_a_node_gives_a_range_up_while_it_runs_and_waits_for_the_others_to_be_back() -> None:
    mesh = MemoryMesh(1, 3)
    one, two = Coordinate.parse(_A), Coordinate.parse(_B)

    async def body() -> None:
        await mesh.run_until(1)
        _append(mesh, 0, one, "text\n")
        _append(mesh, 0, two, "text\n")
        await mesh.settle(10)
        mesh.apply(Partition(((0,), (1,), (2,))))
        await mesh.run_until(mesh.now + 5)
        await mesh.node(2).hold(["1.*"], PHEXT, copies=2)
        await mesh.run_until(mesh.now + 5)
        (row,) = mesh.node(2).status().holding
        assert row.leaving[0].reasons == ("no linked peer holds it and keeps it",)
        mesh.apply(Restart(2))
        await mesh.run_until(mesh.now + 5)
        assert mesh.node(2).phext(PHEXT)[two] == "text\n"
        mesh.apply(Repair())
        await mesh.run_until(mesh.now + 10)
        (row,) = mesh.node(2).status().holding
        assert (row.held, row.leaving, row.going) == (("1.*",), (), 0)
        with pytest.raises(NotHeldError, match="it is on node-0, node-1"):
            mesh.node(2).phext(PHEXT).get(two)
        with pytest.raises(NotHeldError, match=r"2\.\* is not held here, where 1\.\* is"):
            await mesh.node(2).synced(PHEXT, "2.*", timeout_s=1)
        await mesh.node(2).synced(PHEXT, "1.*", timeout_s=1)
        assert [peer.state for peer in mesh.node(2).peers()] == ["in sync", "in sync"]
        assert all(mesh.node(i).phext(PHEXT)[two] == "text\n" for i in (0, 1))
        await mesh.node(2).hold(["*"], PHEXT)
        await mesh.run_until(mesh.now + 5)
        assert mesh.node(2).phext(PHEXT)[two] == "text\n"
        assert mesh.node(2).status().holding == ()

    mesh.run(body)
