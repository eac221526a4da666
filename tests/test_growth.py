"""Ranges that have become large are cut by one of their holders, and slots only grow."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from phextsync.control import placing
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.growth import Growth, ranges_max
from phextsync.placement.holders import Placement
from phextsync.placement.members import Member
from phextsync.placement.policy import Policy
from phextsync.replica.holding import WANTED_MAX
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.testing import MemoryMesh
from phextsync.testing.mesh import PHEXT

_FIRST = Coordinate.parse("1.1.1/1.1.1/1.1.1")


def _replicas(number: int, members: int = 6, copies: int = 3) -> ReplicaSet:
    """Return the replicas of one of some members, with a placed phext."""
    made = ReplicaSet(
        MemoryStore(), node_id=_id(number), random=Random(number), wall_time_ms=lambda: 7
    )
    for i in range(members):
        placing.join(made, Member(_id(i), f"node-{i}"))
    placing.set_copies(made, PHEXT, copies)
    return made


def _id(number: int) -> bytes:
    return bytes([number]) * 16


def _places(count: int) -> Iterator[Coordinate]:
    return (Coordinate(1 + i // 999, 1, 1, 1, 1, 1, 1, 1, 1 + i % 999) for i in range(count))


def _fill(replicas: ReplicaSet, count: int, size: int = 1) -> None:
    for place in _places(count):
        replicas.open(PHEXT).import_text(place, "x" * size)
    replicas.commit()


def _sizes(replicas: ReplicaSet) -> list[int]:
    index = replicas.open(PHEXT).index
    return [index.count(p) for p in placing.placement_of(replicas, PHEXT).ranges(EVERYTHING)]


def _look(replicas: ReplicaSet, growth: Growth, here: range = range(6)) -> None:
    ids = [_id(number) for number in here]
    growth.look(placing.placement_of(replicas, PHEXT), ids.__contains__)


def test_a_range_with_many_bytes_is_cut_in_its_middle() -> None:
    first = placing.placement_of(_replicas(0), PHEXT).holders(_FIRST)[0].node_id[0]
    replicas = _replicas(first)
    many = Growth(replicas, scrolls_max=100)
    large = Growth(replicas, bytes_max=2000)
    _fill(replicas, 100, 20)
    for _ in range(3):
        _look(replicas, many)
        _look(replicas, large)
    assert _sizes(replicas) == [100]
    replicas.open(PHEXT).append("1.1.1/1.1.1/1.1.9", "x")
    replicas.commit()
    _look(replicas, large)
    assert _sizes(replicas) == [50, 50]
    _look(replicas, large)
    assert _sizes(replicas) == [50, 50]


def test_a_range_with_many_scrolls_is_cut() -> None:
    first = placing.placement_of(_replicas(0), PHEXT).holders(_FIRST)[0].node_id[0]
    replicas = _replicas(first)
    _fill(replicas, 101)
    _look(replicas, Growth(replicas, scrolls_max=100))
    assert _sizes(replicas) == [50, 51]


def test_one_scroll_is_not_cut() -> None:
    first = placing.placement_of(_replicas(0), PHEXT).holders(_FIRST)[0].node_id[0]
    replicas = _replicas(first)
    _fill(replicas, 1, 500)
    _look(replicas, Growth(replicas, bytes_max=100))
    assert _sizes(replicas) == [1]


def test_the_first_of_the_holders_that_are_here_cuts() -> None:
    holders = [m.node_id[0] for m in placing.placement_of(_replicas(0), PHEXT).holders(_FIRST)]
    for number, here, cuts in (
        (holders[0], range(6), True),
        (holders[1], range(6), False),
        (holders[1], range(0), True),
        (next(n for n in range(6) if n not in holders), range(0), False),
    ):
        replicas = _replicas(number)
        _fill(replicas, 10)
        _look(replicas, Growth(replicas, scrolls_max=5), here)
        assert len(_sizes(replicas)) == (2 if cuts else 1), number


def test_what_is_not_held_is_not_cut() -> None:
    first = placing.placement_of(_replicas(0), PHEXT).holders(_FIRST)[0].node_id[0]
    replicas = _replicas(first)
    _fill(replicas, 10)
    replicas.hold(PHEXT, ["1.*"], copies=1, follows=True)
    _look(replicas, Growth(replicas, scrolls_max=5))
    assert len(_sizes(replicas)) == 1


@pytest.mark.parametrize(("members", "copies", "most"), [(3, 3, 16), (26, 3, 52), (500, 3, 1000)])
def test_there_are_no_more_ranges_than_members_can_hold(
    members: int, copies: int, most: int
) -> None:
    assert ranges_max(members, copies) == most
    ids = [i.to_bytes(16, "big") for i in range(members)]
    table = {node_id: Member(node_id, "name") for node_id in ids}
    places = list(_places(most))[1:]
    placement = Placement(table, Policy(PHEXT, copies), places)
    assert max(len(placement.of(node_id)) for node_id in ids) <= WANTED_MAX


def test_ranges_are_cut_until_there_are_enough() -> None:
    replicas = _replicas(0, members=1, copies=1)
    _fill(replicas, 200)
    growth = Growth(replicas, scrolls_max=5)
    placing.add_boundaries(replicas, PHEXT, list(_places(200))[60:200:70])
    for _ in range(10):
        _look(replicas, growth)
    assert len(_sizes(replicas)) == ranges_max(1, 1) == 16


def test_slots_are_noted_when_there_are_more_members_and_are_never_fewer() -> None:
    replicas, other = _replicas(0), _replicas(1)
    policy = placing.policies_of(replicas)[0][0]
    placing.note_slots(replicas, PHEXT, 1)
    assert placing.policies_of(replicas)[0] == [policy]
    for each in (replicas, other):
        for i in range(6, 26):
            placing.join(each, Member(_id(i), f"node-{i}"))
        _look(each, Growth(each))
    assert placing.policies_of(other)[0] == [policy]
    assert placing.policies_of(replicas)[0] == [replace(policy, slots=64)]
    for i in range(3, 26):
        placing.retire(replicas, _id(i))
    _look(replicas, Growth(replicas))
    assert placing.placement_of(replicas, PHEXT).slots == 64


def test_nodes_cut_what_has_grown_and_its_upper_part_moves() -> None:
    mesh = MemoryMesh(11, 4)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.node(0).desk.ask(["place", PHEXT, 1])
        for number in range(4):
            mesh.node(number).desk.ask(["follow", PHEXT])
        await mesh.run_until(10)
        places = list(_places(2))
        (holder,) = _holders(mesh, places[0])
        for place in places:
            mesh.node(holder).phext(PHEXT).edit(place, "x" * (9 << 20))
        await mesh.run_until(60)
        having = [
            [n for n in range(4) if place in mesh.node(n).phext(PHEXT).index] for place in places
        ]
        assert having == [[holder], _holders(mesh, places[1])]
        assert having[0] != having[1]

    mesh.run(body)


def _holders(mesh: MemoryMesh, place: Coordinate) -> list[int]:
    held = placing.placement_of(mesh.node(0).replicas, PHEXT).holders(place)
    return [int(member.name.removeprefix("node-")) for member in held]
