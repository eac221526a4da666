"""What comes to a machine comes at its pace, what is lost elsewhere first, and never too few hold
it meanwhile."""

from functools import partial
from random import Random

from phextsync.control import placing
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.follower import Follower
from phextsync.node.pace import Pace
from phextsync.placement.members import Member
from phextsync.ranges import intersection, union
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.testing import Crash, MemoryMesh, Restart
from phextsync.testing.mesh import PHEXT, Editor

_RATE = 1000
_RANGES = [CoordinateRange.parse(f"{library}.*") for library in range(1, 7)]
_PLACES = [Coordinate(library, *[1] * 8) for library in range(1, 13)]


class _Paced:
    """A node to which ranges come, each of 2,000 bytes."""

    def __init__(self) -> None:
        self.now = 50.0
        self.taken: list[CoordinateRange] = []
        self.pace = Pace(lambda: self.now, lambda _, each: each in self.taken, lambda *_: 2000)
        self.pace.plan(PHEXT, _RANGES, _RATE)

    def after(self, seconds: float) -> int:
        """Return how many ranges are let in after some time."""
        self.now += seconds
        return len(self.pace.move_on())

    def take_all(self) -> None:
        self.taken += self.pace.taking(PHEXT)


def test_two_ranges_come_at_once_and_then_the_node_rests_for_their_bytes() -> None:
    paced = _Paced()
    assert paced.after(0) == 2
    assert paced.pace.taking(PHEXT) == tuple(_RANGES[:2])
    assert paced.pace.awaited(PHEXT) == tuple(_RANGES[2:])
    assert paced.after(1) == 0
    paced.take_all()
    assert paced.after(0) == 0
    assert paced.after(3.9) == 0
    assert paced.after(0.1) == 2
    paced.take_all()
    assert paced.after(0) == 0
    assert paced.after(4) == 2
    assert paced.pace.is_waiting
    paced.take_all()
    assert paced.after(9) == 0
    assert not paced.pace.is_waiting


def test_a_range_that_does_not_come_to_an_end_holds_the_others_up_for_a_while() -> None:
    paced = _Paced()
    assert paced.after(0) == 2
    assert paced.after(29) == 0
    assert paced.after(1) == 0
    assert paced.after(4) == 2


def test_what_is_on_its_way_is_not_begun_again() -> None:
    paced = _Paced()
    paced.after(0)
    paced.pace.plan(PHEXT, _RANGES[1:4], _RATE)
    assert paced.pace.awaited(PHEXT) == tuple(_RANGES[2:4])
    paced.pace.plan(PHEXT, [], _RATE)
    paced.take_all()
    assert paced.after(0) == 0
    assert not paced.pace.is_waiting


def test_what_is_let_in_of_any_phext_is_held() -> None:
    replicas = ReplicaSet(
        MemoryStore(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 7
    )
    placing.join(replicas, Member(bytes(16), "one"))
    phexts = ("one", "other")
    for phext in phexts:
        placing.set_copies(replicas, phext, 1)
        placing.add_boundaries(replicas, phext, _PLACES)
        placing.follow(replicas, phext)
    now = 0.0
    pace = Pace(lambda: now, lambda *_: True, lambda *_: 0)
    follower = Follower(replicas, name="one", changed=lambda: None, pace=pace)
    for _ in range(20):
        for turn in follower.begin():
            follower.take(turn, turn.ranges())
        for phext in phexts:
            held, awaited = replicas.holding.of(phext), pace.awaited(phext)
            assert union(held, awaited) == (EVERYTHING,)
            assert not intersection(held, awaited)
        now += 1
    assert all(replicas.holding.of(phext) == (EVERYTHING,) for phext in phexts)


def _write(place: Coordinate, replica: Editor) -> None:
    replica.append(place, "x" * (64 << 10))


async def _place_at_a_pace(mesh: MemoryMesh) -> None:
    """Have ranges of 64 KiB on two machines each, of which each takes one a second."""
    await mesh.run_until(1)
    for place in _PLACES:
        assert mesh.edit(0, place, partial(_write, place))
    await mesh.settle(10)
    mesh.node(0).desk.ask(["place", PHEXT, 2])
    mesh.node(0).desk.ask(["pace", PHEXT, None, 64 << 10])
    placing.add_boundaries(mesh.node(0).replicas, PHEXT, _PLACES)


def test_a_machine_takes_its_share_at_its_pace_and_nobody_lets_go_before() -> None:
    mesh = MemoryMesh(3, 4)

    async def body() -> None:
        await _place_at_a_pace(mesh)
        for number in range(4):
            mesh.node(number).desk.ask(["follow", PHEXT])
        await mesh.run_until(mesh.now + 20)
        share = sorted(mesh.node(3).phext(PHEXT))
        assert 4 <= len(share) <= 8
        mesh.node(0).desk.ask(["retire", "node-3"])
        await mesh.run_until(mesh.now + 30)
        assert sorted(mesh.node(3).phext(PHEXT)) == []
        mesh.node(3).desk.ask(["follow", PHEXT])
        counts: list[int] = []
        while len(counts) < 40:
            await mesh.run_until(mesh.now + 0.5)
            counts.append(len(mesh.node(3).phext(PHEXT)))
            for place in _PLACES:
                assert sum(place in mesh.node(n).phext(PHEXT).index for n in range(4)) >= 2
        first = next(i for i, count in enumerate(counts) if count)
        assert counts[first] <= 2
        until = next(i for i, count in enumerate(counts) if count == len(share))
        assert (until - first) / 2 >= len(share) - 3  # a range a second, and two at once
        assert sorted(mesh.node(3).phext(PHEXT)) == share
        assert all(
            sum(place in mesh.node(n).phext(PHEXT).index for n in range(4)) == 2
            for place in _PLACES
        )

    mesh.run(body)


def test_who_says_by_hand_what_is_held_ends_what_is_on_its_way() -> None:
    mesh = MemoryMesh(5, 2)

    async def body() -> None:
        await _place_at_a_pace(mesh)
        mesh.node(1).desk.ask(["hold", PHEXT, ["1.*"], 1])
        await mesh.run_until(mesh.now + 20)
        mesh.node(1).desk.ask(["follow", PHEXT])
        await mesh.run_until(mesh.now + 4)
        assert 1 < len(mesh.node(1).phext(PHEXT)) < len(_PLACES)
        mesh.node(1).desk.ask(["hold", PHEXT, ["1.*"], 1])
        await mesh.run_until(mesh.now + 20)
        (row,) = mesh.node(1).status().holding
        assert (row.held, row.follows) == (("1.*",), False)
        assert [*mesh.node(1).phext(PHEXT)] == _PLACES[:1]

    mesh.run(body)


def test_who_follows_and_has_nothing_takes_nothing_until_it_knows_what_is_placed() -> None:
    mesh = MemoryMesh(4, 2)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.node(1).desk.ask(["follow", PHEXT])
        await mesh.run_until(2)
        mesh.apply(Crash(1))
        assert mesh.edit(0, _PLACES[0], partial(_write, _PLACES[0]))
        await mesh.run_until(3)
        mesh.apply(Restart(1))
        await mesh.run_until(12)
        assert [row.held for row in mesh.node(1).status().holding] == [()]
        assert len(mesh.node(1).phext(PHEXT)) == 0
        await mesh.run_until(20)
        assert [row.held for row in mesh.node(1).status().holding] == [("*",)]
        assert len(mesh.node(1).phext(PHEXT)) == 1

    mesh.run(body)
