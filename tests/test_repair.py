"""What an absent machine held is held by others until it is back, and nothing is hurried."""

from collections.abc import Iterable
from functools import partial

import pytest

from phextsync.cli.placing import placed_lines, short_lines
from phextsync.control import placing
from phextsync.control.status import PlacedRow, ShortRow
from phextsync.gateways.metrics import NodeMetrics
from phextsync.index import EVERYTHING, Coordinate
from phextsync.placement.members import Member
from phextsync.placement.policy import Rule
from phextsync.testing import Crash, MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT, Editor

_PLACES = [Coordinate(library, *[1] * 8) for library in range(1, 9)]
_AFTER_S = 60


async def _placed(mesh: MemoryMesh, copies: int = 2) -> None:
    """Write a scroll in each of eight ranges, and place them."""
    await mesh.run_until(1)
    for place in _PLACES:
        assert mesh.edit(0, place, partial(_write, place))
    await mesh.settle(10)
    replicas = mesh.node(0).replicas
    mesh.node(0).desk.ask(["place", PHEXT, copies])
    mesh.node(0).desk.ask(["pace", PHEXT, _AFTER_S, None])
    placing.add_boundaries(replicas, PHEXT, _PLACES)
    for number in range(mesh.count):
        mesh.node(number).desk.ask(["follow", PHEXT])
    await mesh.run_until(mesh.now + 15)


def _write(place: Coordinate, replica: Editor) -> None:
    replica.append(place, "text\n")


def _having(mesh: MemoryMesh, place: Coordinate, among: Iterable[int]) -> list[int]:
    return [n for n in among if place in mesh.node(n).phext(PHEXT).index]


def _said(mesh: MemoryMesh, by: int) -> frozenset[bytes]:
    return placing.placement_of(mesh.node(by).replicas, PHEXT).absent


def _id(mesh: MemoryMesh, number: int) -> bytes:
    return mesh.node(number).identity.node_id


def test_others_hold_what_a_silent_machine_held_until_it_is_back() -> None:
    mesh = MemoryMesh(3, 5)

    async def body() -> None:
        await _placed(mesh)
        before = {place: _having(mesh, place, range(5)) for place in _PLACES}
        assert all(len(having) == 2 for having in before.values())
        assert any(4 in having for having in before.values())
        lost = _id(mesh, 4)
        mesh.apply(Crash(4))
        await mesh.run_until(mesh.now + _AFTER_S - 5)
        assert all(_said(mesh, number) == frozenset() for number in range(4))
        await mesh.run_until(mesh.now + 30)
        assert all(_said(mesh, number) == {lost} for number in range(4))
        for place in _PLACES:
            having = _having(mesh, place, range(4))
            assert len(having) == 2
            assert {*before[place]} - {4} <= {*having}
        mesh.apply(Restart(4))
        await mesh.run_until(mesh.now + 30)
        assert all(_said(mesh, number) == frozenset() for number in range(5))
        assert {place: _having(mesh, place, range(5)) for place in _PLACES} == before

    mesh.run(body)


def test_status_says_which_ranges_have_too_few_copies_and_who_lacks_them() -> None:
    mesh = MemoryMesh(9, 3)

    async def body() -> None:
        await _placed(mesh, copies=3)
        (row,) = mesh.node(0).status().placed
        assert (row.copies, row.least, row.short, row.move_bytes) == (3, 3, 0, 0)
        assert [*placed_lines(row)] == [
            "memory is placed on 3 machines, on 3 within reach at least"
        ]
        mesh.apply(Crash(2))
        await mesh.run_until(mesh.now + 30)
        (row,) = mesh.node(0).status().placed
        assert (row.least, row.ranges, row.short) == (2, 8, 8)
        assert row.short_ranges[2] == ShortRow(range="3.*", copies=2, lacking=("node-2",))
        assert row.move_bytes == len("text\n") * len(_PLACES)
        assert [*placed_lines(row)][1:3] == [
            "memory: 8 of 8 ranges on fewer than 3 machines, 40 bytes to move",
            "  1.* on 2, lacking on node-2",
        ]
        metrics = NodeMetrics(mesh.node(0)).text().decode()
        assert 'phextsync_placed_least{phext="memory"} 2.0' in metrics
        assert 'phextsync_placed_short{phext="memory"} 8.0' in metrics
        mesh.apply(Restart(2))
        await mesh.run_until(mesh.now + 10)
        (row,) = mesh.node(0).status().placed
        assert (row.least, row.short, row.move_bytes) == (3, 0, 0)

    mesh.run(body)


def test_a_list_of_short_ranges_has_an_end() -> None:
    short = ShortRow(range="1.*", copies=0, lacking=())
    row = PlacedRow(phext="memory", copies=2, least=0, ranges=9, short=3, short_ranges=(short,))
    assert [*short_lines(row)] == [
        "memory: 3 of 9 ranges on fewer than 2 machines, 0 bytes to move",
        "  1.* on 0, lacking on nobody who may hold it",
        "  and 2 more",
    ]


def test_of_two_parts_of_a_mesh_only_the_larger_repairs() -> None:
    mesh = MemoryMesh(4, 7)

    async def body() -> None:
        await _placed(mesh)
        small, large = (0, 1, 2), (3, 4, 5, 6)
        before = {place: _having(mesh, place, range(7)) for place in _PLACES}
        ids = {_id(mesh, number) for number in small}
        mesh.apply(Partition((small, large)))
        await mesh.run_until(mesh.now + 3 * _AFTER_S)
        assert all(_said(mesh, number) == frozenset() for number in small)
        assert all(_said(mesh, number) == ids for number in large)
        for place in _PLACES:
            assert len(_having(mesh, place, large)) == 2 or not {*before[place]} & {*large}
            assert _having(mesh, place, small) == [n for n in before[place] if n in small]
        mesh.apply(Repair())
        await mesh.run_until(mesh.now + 40)
        assert all(_said(mesh, number) == frozenset() for number in range(7))
        assert {place: _having(mesh, place, range(7)) for place in _PLACES} == before

    mesh.run(body)


def test_halves_of_a_mesh_repair_nothing() -> None:
    mesh = MemoryMesh(5, 6)

    async def body() -> None:
        await _placed(mesh)
        before = {place: _having(mesh, place, range(6)) for place in _PLACES}
        mesh.apply(Partition(((0, 1, 2), (3, 4, 5))))
        await mesh.run_until(mesh.now + 3 * _AFTER_S)
        assert all(_said(mesh, number) == frozenset() for number in range(6))
        assert {place: _having(mesh, place, range(6)) for place in _PLACES} == before

    mesh.run(body)


@pytest.mark.parametrize("wait_s", [_AFTER_S / 2, _AFTER_S - 10])
def test_a_machine_that_restarts_in_time_moves_nothing(wait_s: float) -> None:
    mesh = MemoryMesh(6, 4)

    async def body() -> None:
        await _placed(mesh)
        before = {place: _having(mesh, place, range(4)) for place in _PLACES}
        for _ in range(2):
            mesh.apply(Crash(3))
            await mesh.run_until(mesh.now + wait_s)
            mesh.apply(Restart(3))
            await mesh.run_until(mesh.now + 10)
        assert all(_said(mesh, number) == frozenset() for number in range(4))
        assert {place: _having(mesh, place, range(4)) for place in _PLACES} == before

    mesh.run(body)


def _member(mesh: MemoryMesh, number: int) -> Member | None:
    return placing.member_of(mesh.node(0).replicas, _id(mesh, number))


def test_what_a_retired_machine_held_moves_and_it_comes_back_when_it_is_told_to() -> None:
    mesh = MemoryMesh(7, 5)

    async def body() -> None:
        await _placed(mesh)
        before = {place: _having(mesh, place, range(5)) for place in _PLACES}
        mesh.node(0).desk.ask(["retire", "node-4"])
        await mesh.run_until(mesh.now + 20)
        member = _member(mesh, 4)
        assert member is not None
        assert member.has_left
        assert mesh.node(4).status().holding[0].held == ()
        for place in _PLACES:
            having = _having(mesh, place, range(5))
            assert len(having) == 2
            assert 4 not in having
        mesh.node(4).desk.ask(["follow", PHEXT])
        await mesh.run_until(mesh.now + 20)
        assert {place: _having(mesh, place, range(5)) for place in _PLACES} == before

    mesh.run(body)


def test_what_is_given_up_by_hand_moves_to_others() -> None:
    mesh = MemoryMesh(8, 5)

    async def body() -> None:
        await _placed(mesh)
        mesh.node(4).desk.ask(["hold", PHEXT, [], None])
        await mesh.run_until(mesh.now + 20)
        member = _member(mesh, 4)
        assert member is not None
        assert member.apart == (PHEXT,)
        for place in _PLACES:
            having = _having(mesh, place, range(5))
            assert len(having) == 2
            assert 4 not in having
        mesh.node(4).desk.ask(["hold", PHEXT, ["*"], None])
        await mesh.run_until(mesh.now + 20)
        member = _member(mesh, 4)
        assert member is not None
        assert member.apart == ()
        assert all(4 in _having(mesh, place, range(5)) for place in _PLACES)

    mesh.run(body)


# -- who means harm ------------------------------------------------------------------------


def _copies(mesh: MemoryMesh, among: Iterable[int]) -> int:
    """Return on how few of some nodes a scroll is."""
    nodes = list(among)
    return min(len(_having(mesh, place, nodes)) for place in _PLACES)


def test_a_flood_of_members_that_are_none_takes_no_copy_away() -> None:
    mesh = MemoryMesh(12, 4)

    async def body() -> None:
        await _placed(mesh)
        assert _copies(mesh, range(4)) == 2
        for number in range(60):
            forged = Member(bytes([number]) * 16, f"forged-{number}", 16)
            placing.join(mesh.node(3).replicas, forged)
        for _ in range(2 * _AFTER_S):
            await mesh.run_until(mesh.now + 1)
            assert _copies(mesh, range(4)) >= 2
        (row,) = mesh.node(0).status().placed
        assert row.least >= 2

    mesh.run(body)


def test_a_member_that_claims_everything_counts_as_one_copy() -> None:
    mesh = MemoryMesh(13, 4)

    async def body() -> None:
        await _placed(mesh)
        replicas = mesh.node(3).replicas
        placing.join(replicas, Member(_id(mesh, 3), "node-3", 16))
        placing.set_rule(replicas, PHEXT, Rule(EVERYTHING, (_id(mesh, 3),)))
        for _ in range(30):
            await mesh.run_until(mesh.now + 1)
            assert _copies(mesh, range(3)) >= 1
            assert _copies(mesh, range(4)) >= 2

    mesh.run(body)


def test_who_is_said_to_be_silent_and_is_not_takes_it_back() -> None:
    mesh = MemoryMesh(14, 4)

    async def body() -> None:
        await _placed(mesh)
        before = {place: _having(mesh, place, range(4)) for place in _PLACES}
        for by in range(3):
            placing.say_silent(mesh.node(0).replicas, _id(mesh, 3), _id(mesh, by), 999)
        await mesh.run_until(mesh.now + 1)
        assert _said(mesh, 1) == {_id(mesh, 3)}
        await mesh.run_until(mesh.now + 30)
        assert all(_said(mesh, number) == frozenset() for number in range(4))
        assert {place: _having(mesh, place, range(4)) for place in _PLACES} == before

    mesh.run(body)
