"""A node's users read and write what others hold, through handles, commands and other processes."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import phextsync
from phextsync.control.bringing import Bringing, needed
from phextsync.control.frames import Value
from phextsync.errors import NotHeldError, NotSyncedError, PhextsyncError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.foreign import Foreign
from phextsync.sync.hosting import Hosting
from phextsync.sync.messages import Survey, Surveyed, Verdict
from phextsync.testing import Crash, MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT
from sims.processes import PATIENCE_S, POLL_S, mesh
from tests.command_users import CommandUser

_A, _B, _C = (Coordinate(library, *[1] * 8) for library in (1, 2, 3))


def _run(body: Callable[[MemoryMesh], Awaitable[None]], count: int = 3) -> None:
    """Run a mesh whose last node holds 1.* alone; all nodes but it have three scrolls."""
    mesh = MemoryMesh(1, count)

    async def run() -> None:
        await mesh.run_until(1)
        for place in (_A, _B, _C):
            mesh.node(0).phext(PHEXT)[place] = f"{place}\n"
        await mesh.run_until(2)
        await mesh.node(count - 1).hold(["1.*"], PHEXT, copies=1)
        await mesh.run_until(5)
        assert list(mesh.node(count - 1).phext(PHEXT)) == [_A]
        await body(mesh)

    mesh.run(run)


def test_a_scroll_is_fetched_in_one_round_trip_and_followed() -> None:
    async def body(mesh: MemoryMesh) -> None:
        node = mesh.node(2)
        assert await node.fetch(_B, PHEXT) == f"{_B}\n"
        mesh.edit(1, _B, lambda replica: replica.append(_B, "more\n"))
        await mesh.run_until(mesh.now + 1)
        assert node.phext(PHEXT)[_B] == f"{_B}\nmore\n"
        assert await node.fetch("2.1.1/1.1.1/9.9.9", PHEXT) == ""
        assert mesh.node(0).phext(PHEXT).get("2.1.1/1.1.1/9.9.9") is None

    _run(body)


def test_an_error_in_fetching_is_told_and_ends_nothing_else() -> None:
    async def body(mesh: MemoryMesh) -> None:
        node = mesh.node(2)
        bringing, told = Bringing(node.desk), list[PhextsyncError | None]()
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(Foreign, "fetch", lambda *_: 1 / 0)
            async with trio.open_nursery() as nursery:
                bringing.wait(nursery, ["get", PHEXT, str(_B)], told.append)
        async with trio.open_nursery() as nursery:
            bringing.wait(nursery, ["get", PHEXT, str(_B)], told.append)
        assert [str(error) for error in told] == [
            "the node could not fetch it: ZeroDivisionError: division by zero",
            "None",
        ]

    _run(body)


def test_where_no_holder_is_reachable_the_error_says_so_and_what_was_here_stays() -> None:
    async def body(mesh: MemoryMesh) -> None:
        node = mesh.node(2)
        await node.fetch(_B, PHEXT)
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(mesh.now + 5)
        assert await node.fetch(_B, PHEXT) == f"{_B}\n"
        with pytest.raises(NotHeldError, match=f"no holder of {PHEXT} {_C} is reachable: "):
            await node.fetch(_C, PHEXT)

    _run(body)


@pytest.mark.parametrize("is_dialled", [True, False], ids=["by a dial", "by itself"])
def test_a_holder_that_comes_once_nobody_answers_is_asked(is_dialled: bool) -> None:
    async def body(mesh: MemoryMesh) -> None:
        node = mesh.node(2)
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(mesh.now + 5)

        async def link_with(node_ids: object) -> bool:
            mesh.apply(Repair())
            await mesh.run_until(mesh.now + 5)
            return is_dialled

        node.foreign.link_with = link_with
        assert await node.fetch(_C, PHEXT) == f"{_C}\n"

    _run(body)


def test_a_holder_whose_link_was_lost_and_made_again_by_itself_is_asked_again() -> None:
    async def body(mesh: MemoryMesh) -> None:
        node, calls = mesh.node(2), list[set[bytes]]()

        async def link_with(node_ids: object) -> bool:
            calls.append(node.links.ready())
            if len(calls) > 1:
                mesh.apply(Repair())
            await mesh.run_until(mesh.now + 60)
            return False

        node.foreign.link_with = link_with
        mesh.apply(Partition(((0, 1), (2,))))
        assert await node.fetch(_C, PHEXT) == f"{_C}\n"
        assert [len(linked) for linked in calls] == [2, 0]

    _run(body)


def test_an_edit_is_synced_when_a_holder_has_it_after_days_offline_and_restarts() -> None:
    async def body(mesh: MemoryMesh) -> None:
        node = mesh.node(2)
        await node.fetch(_B, PHEXT)
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(mesh.now + 5)
        node.phext(PHEXT).append(_B, "offline\n")
        await node.durable()
        with pytest.raises(NotSyncedError, match="no holder has the edits of 1 scroll"):
            await node.synced(PHEXT, CoordinateRange.of(_B), timeout_s=1)
        mesh.apply(Crash(2))
        mesh.apply(Restart(2))
        await mesh.run_until(mesh.now + 5)
        mesh.apply(Repair())
        await mesh.node(2).synced(PHEXT, CoordinateRange.of(_B), timeout_s=60)
        texts = [mesh.node(number).phext(PHEXT).get(_B) for number in range(3)]
        assert f"{_B}\noffline\n" in texts

    _run(body)


def test_a_survey_tells_what_is_held_here_and_elsewhere_in_order() -> None:
    async def body(mesh: MemoryMesh) -> None:
        node = mesh.node(2)
        page = await node.survey(EVERYTHING, PHEXT)
        assert [(row.coordinate, row.line) for row in page.scrolls] == [
            (place, str(place)) for place in (_A, _B, _C)
        ]
        assert (page.rest, page.unanswered) == (None, ())
        await node.fetch(_B, PHEXT)
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(mesh.now + 5)
        page = await node.survey(EVERYTHING, PHEXT)
        assert [row.coordinate for row in page.scrolls] == [_A, _B]
        assert page.unanswered == (CoordinateRange(_B, None),)

    _run(body)


def test_a_long_range_is_surveyed_in_pages() -> None:
    async def body(mesh: MemoryMesh) -> None:
        replica = mesh.node(0).phext(PHEXT)
        with replica.batch():
            for number in range(1, 601):
                replica[f"2.1.1/1.1.1/1.1.{number}"] = "x"
        await mesh.run_until(mesh.now + 3)
        found: list[Coordinate] = []
        rest: CoordinateRange | None = CoordinateRange.parse("2.*")
        while rest is not None:
            page = await mesh.node(2).survey(rest, PHEXT)
            assert len(page.scrolls) <= 256
            found += [row.coordinate for row in page.scrolls]
            rest = page.rest
        assert found == list(replica.coordinates("2.*"))

    _run(body)


def test_more_pieces_than_are_asked_at_once_are_surveyed_whole_and_in_order() -> None:
    mesh, pieces = MemoryMesh(1, 4), range(1, 41)

    async def run() -> None:
        await mesh.run_until(1)
        for library in pieces:
            mesh.node(3).phext(PHEXT)[Coordinate(library, *[1] * 8)] = f"{library}\n"
        await mesh.run_until(2)
        for number, first in ((0, 1), (1, 2)):  # every other library
            held = [f"{library}.*" for library in pieces[first - 1 :: 2]]
            await mesh.node(number).hold(held, PHEXT, copies=1)
        await mesh.node(2).hold(["41.*"], PHEXT, copies=1)
        await mesh.run_until(5)
        mesh.apply(Partition(((0, 1, 2), (3,))))
        await mesh.run_until(10)
        within = CoordinateRange(Coordinate(*[1] * 9), Coordinate(41, *[1] * 8))
        assert len(mesh.node(2).foreign.pieces(PHEXT, within)) == len(pieces)
        page = await mesh.node(2).survey(within, PHEXT)
        assert [int(row.line) for row in page.scrolls] == [*pieces]
        assert (page.rest, page.unanswered) == (None, ())

    mesh.run(run)


_at = "1.1.1/1.1.1/1.1.1"


def test_a_holder_that_tells_of_nothing_and_never_ends_is_believed_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    def never_ends(hosting: Hosting, survey: Survey) -> Surveyed:
        nonlocal asked
        asked += 1
        rest = None if asked > 200 else CoordinateRange.of(survey.range.lower).upper
        return Surveyed(survey.number, Verdict.GIVEN, rest)

    async def body(mesh: MemoryMesh) -> None:
        await mesh.node(2).fetch(_C, PHEXT)
        monkeypatch.setattr(Hosting, "_surveyed", never_ends)
        page = await mesh.node(2).survey(EVERYTHING, PHEXT)
        assert [row.coordinate for row in page.scrolls] == [_A, _C], "a guest is shown all the same"
        (unanswered,) = page.unanswered
        assert page.rest is None
        assert _C in unanswered
        assert asked <= 32

    _run(body)


@pytest.mark.parametrize(
    ("request_", "blind"),
    [
        (["get", "memory", _at], [False]),
        (["as", "me", "append", "memory", _at, "x"], [True]),
        (["set", "memory", _at, "x"], [True]),
        (["set", "memory", _at, "x", b"seen"], [False]),
        (["replace", "memory", _at, "x", "y", 1], [False]),
        (["batch", "memory", [["set", _at, "x", b""], ["remove", _at]]], [True, False]),
        (["import", "memory", True, [[_at, "x"]]], [False]),
        (["import", "memory", False, [[_at, "x"]]], [True]),
        (["log", "memory", _at, None], []),
        (["count", "memory", "*"], []),
        (["get", "memory", "no coordinate"], []),
        (["status"], []),
    ],
)
def test_a_request_needs_the_scrolls_that_it_reads_or_changes(
    request_: list[Value], blind: list[bool]
) -> None:
    assert [scroll.is_blind for scroll in needed(request_)] == blind


def test_commands_read_and_write_what_another_process_holds(tmp_path: Path) -> None:
    options = ["--no-mdns", "--host", "127.0.0.1", "--port", "0"]
    with mesh(tmp_path, ["holder", "reader"], options=options) as (holder, reader):
        holder.start()
        holder.ask("set", PHEXT, str(_B), "of the holder\n")
        reader.options += ("--peer", f"127.0.0.1:{holder.status()['port']}")
        reader.start()
        reader.ask("hold", PHEXT, ["1.*"], 1)
        reader.wait_until(lambda status: len(status["peers"]) == 1)
        user = CommandUser(reader.folder)
        assert user.out("get", str(_B)) == "of the holder\n"
        user.out("append", str(_B), "of the reader\n")
        user.out("set", str(_C), "new\n")
        reader.ask("synced", PHEXT, "2.*", 1, PATIENCE_S)
        assert holder.ask("get", PHEXT, str(_B)) == "of the holder\nof the reader\n"
        assert reader.ask("get", PHEXT, str(_C)) == holder.ask("get", PHEXT, str(_C)) == "new\n"
        holder.stop()
        reader.wait_until(lambda status: not status["peers"])
        user.out("append", str(_B), "offline\n")
        assert user.out("get", str(_B)).endswith("offline\n")
        assert "is reachable" in user.error("get", "4.1.1/1.1.1/1.1.1")


def test_a_handle_that_runs_the_node_reads_and_writes_what_others_hold(tmp_path: Path) -> None:
    options = ["--no-mdns", "--host", "127.0.0.1", "--port", "0"]
    with mesh(tmp_path, ["holder", "reader"], options=options) as (holder, reader):
        holder.start()
        holder.ask("set", PHEXT, str(_B), "of the holder\n")
        peers = [f"127.0.0.1:{holder.status()['port']}"]
        with phextsync.open(
            reader.folder, host="127.0.0.1", port=0, peers=peers, discover=False
        ) as handle:
            holder.wait_until(lambda status: len(status["peers"]) == 1)
            handle.hold(["1.*"], PHEXT, copies=1)
            handle.synced(PHEXT, "1.*", timeout_s=PATIENCE_S)
            while handle.status().holding[0].leaving:  # the holder has it: it leaves soon
                time.sleep(POLL_S)
            phext = handle.phext(PHEXT)
            assert phext[_B] == "of the holder\n"
            for number in range(20):
                phext.append(_B, f"{number}\n")
            with phext.batch() as batch:
                batch[_C] = "set in a batch"
                batch.append(_B, "in a batch\n")
            handle.synced(PHEXT, "2.*", timeout_s=PATIENCE_S)
            lines = ["of the holder", *map(str, range(20)), "in a batch"]
            assert phext[_B].splitlines() == lines
            assert str(holder.ask("get", PHEXT, str(_B))).splitlines() == lines
            holder.ask("append", PHEXT, str(_B), "last\n")
            holder.stop()
            with pytest.raises(NotHeldError, match="is reachable"):
                phext.get("4.1.1/1.1.1/1.1.1")
            with pytest.raises(NotHeldError, match="is reachable"):
                phext.replace("4.1.1/1.1.1/1.1.1", "a", "b")
            phext.append("4.1.1/1.1.1/1.1.1", "blind")
            assert phext["4.1.1/1.1.1/1.1.1"] == "blind"
