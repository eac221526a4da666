"""What is placed is the same on all nodes, and those that follow it hold their part."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

import phextsync
from phextsync import aio
from phextsync.control import placing
from phextsync.control.answers import PlacedRange
from phextsync.control.frames import Value
from phextsync.control.status import DirectoryRow
from phextsync.errors import DirectoryError, NotHeldError, PhextsyncError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.follower import Follower
from phextsync.placement.members import Member, table_of
from phextsync.placement.policy import Policy, Rule
from phextsync.ranges import Ranges
from phextsync.replica.holding import WANTED_MAX
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.testing import FillDisk, FreeDisk, MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT, Editor
from sims.processes import make_folder
from tests.command_users import CommandUser

_ONE = CoordinateRange.parse("1.*")


def _replicas() -> ReplicaSet:
    return ReplicaSet(MemoryStore(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 7)


def _member(number: int) -> Member:
    return Member(bytes([number]) * 16, f"node-{number}")


def _looked(replicas: ReplicaSet) -> Follower:
    """Return a follower that has looked at what is placed."""
    follower = Follower(replicas, name="node-0", changed=lambda: None)
    for turn in follower.begin():
        follower.take(turn, turn.ranges())
    follower.end()
    return follower


def test_of_who_becomes_a_member_everybody_is_told_one_scroll() -> None:
    replicas = _replicas()
    told: list[str] = []
    replicas.listen(ReplicaListener(on_update=lambda new: told.append(new.phext)))
    placing.join(replicas, _member(0))
    placing.join(replicas, _member(0))
    assert told == [placing.PLACEMENT]
    placing.join(replicas, replace(_member(0), weight=2))
    assert placing.member_of(replicas, bytes(16)) == replace(_member(0), weight=2)


@pytest.mark.parametrize(("count", "looks"), [(8, 1), (9, 2)])
def test_links_are_chosen_by_what_is_shared_when_no_more_members_come(
    count: int, looks: int
) -> None:
    replicas = _replicas()
    for number in range(count):
        placing.join(replicas, _member(number))
    placing.set_copies(replicas, PHEXT, 3)
    asked: list[None] = []
    follower = Follower(replicas, name="node-0", changed=lambda: asked.append(None))
    for number in range(looks):
        assert not follower.shared
        asked.clear()
        follower.begin()
        follower.end()
        assert bool(asked) == (number + 1 < looks)
    assert follower.shared


def test_where_members_come_all_the_time_links_are_chosen_by_what_is_shared_all_the_same() -> None:
    replicas = _replicas()
    placing.set_copies(replicas, PHEXT, 3)
    follower = Follower(replicas, name="node-0", changed=lambda: None)
    looks = 0
    while not follower.shared and looks < 20:
        placing.join(replicas, _member(looks))
        if looks >= 8:
            follower.begin()
            follower.end()
        looks += 1
    assert looks == 14


# -- scrolls -------------------------------------------------------------------------------


def test_where_nothing_is_placed_there_is_nothing() -> None:
    replicas = _replicas()
    assert _looked(replicas).warnings == ()
    assert placing.placement_of(replicas, PHEXT).holders(_ONE.lower) == ()
    assert placing.policies_of(replicas) == ([], [])
    assert replicas.names() == []
    assert not replicas.is_dirty


def test_policies_and_members_are_scrolls_that_are_read_again() -> None:
    replicas = _replicas()
    for number in range(1, 6):
        placing.join(replicas, _member(number))
    placing.set_copies(replicas, PHEXT, 2)
    pinned = placing.named(placing.members_of(replicas)[0], ["node-3", "0404"])
    placing.set_rule(replicas, PHEXT, Rule(_ONE, pinned))
    placing.set_rule(replicas, "other", Rule(EVERYTHING, everywhere=True))
    policies, problems = placing.policies_of(replicas)
    assert problems == []
    assert policies == [
        Policy(PHEXT, 2, 32, (Rule(_ONE, pinned),)),
        Policy("other", None, 0, (Rule(EVERYTHING, everywhere=True),)),
    ]
    held = placing.placement_of(replicas, PHEXT).holders(_ONE.lower)
    assert [member.name for member in held] == ["node-3", "node-4"]
    placing.set_rule(replicas, PHEXT, Rule(_ONE))
    placing.set_copies(replicas, PHEXT, None)
    assert placing.policies_of(replicas)[0][0] == Policy(PHEXT, None, 32)
    assert placing.member_of(replicas, bytes([3]) * 16) == _member(3)
    assert placing.member_of(replicas, bytes([9]) * 16) is None
    assert _looked(replicas).warnings == ()


def test_a_look_at_what_is_placed_reads_the_members_once(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = _replicas()
    placing.join(replicas, _member(0))
    for number in range(3):
        placing.set_copies(replicas, f"{PHEXT}-{number}", 1)
    read: list[list[str]] = []

    def noted(texts: Iterable[str]) -> tuple[dict[bytes, Member], list[str]]:
        read.append(list(texts))
        return table_of(read[-1])

    monkeypatch.setattr(placing, "table_of", noted)
    assert len(_looked(replicas).placements) == 3
    assert read == [[_member(0).to_text()]]


def test_what_is_asked_for_and_cannot_be_is_told_also_of_what_everybody_holds() -> None:
    replicas = _replicas()
    placing.join(replicas, _member(0))
    placing.set_copies(replicas, PHEXT, 2)
    placing.set_rule(replicas, "other", Rule(_ONE, (bytes([3]) * 16,)))
    assert _looked(replicas).warnings == (
        f"policy of {PHEXT}: expected at least 2 members, found 1",
        f"policy of other: 1.* is pinned to {'03' * 16}, which is no member",
    )


def test_a_name_is_that_of_one_member() -> None:
    members = {m.node_id: m for m in (_member(1), _member(2), Member(b"z" * 16, "node-1"))}
    for name in ("node-1", "nobody", "", "0"):
        with pytest.raises(PhextsyncError, match="expected the name of one member"):
            placing.named(members, [name])


def test_a_phext_is_cut_where_its_scrolls_lie_when_it_is_placed_first() -> None:
    replicas = _replicas()
    replica = replicas.open(PHEXT)
    for i in range(4096):
        replica.import_text(Coordinate(1 + i // 999, 1, 1, 1, 1, 1, 1, 1, 1 + i % 999), "x")
    replicas.commit()
    placing.join(replicas, _member(1))
    placing.set_copies(replicas, PHEXT, 1)
    pieces = list(placing.placement_of(replicas, PHEXT).ranges(EVERYTHING))
    assert [replica.index.count(piece) for piece in pieces] == [1024] * 4
    placing.set_copies(replicas, PHEXT, 2)
    assert list(placing.placement_of(replicas, PHEXT).ranges(EVERYTHING)) == pieces


def test_what_others_wrote_is_told_and_does_not_count() -> None:
    replicas = _replicas()
    placing.join(replicas, _member(1))
    placing.set_copies(replicas, PHEXT, 1)
    scrolls = replicas.open(placing.PLACEMENT)
    scrolls["1.9.9/9.9.9/9.9.9"] = "phext memory\ncopies 9\n"
    scrolls["3.9.9/9.9.9/9.9.9"] = "owner me\n"
    for place in list(scrolls.coordinates("1.*")):
        if "copies 1" in scrolls[place]:
            scrolls.append(place, "delete *\n")
    assert placing.policies_of(replicas)[0] == [Policy(PHEXT, 1, 4)]
    assert sorted(_looked(replicas).warnings) == [
        "expected a fact of a member, found 'owner me'",
        "expected a line `id`, found none",
        "policy of memory: expected a rule, found 'delete *'",
        "the policy at 1.9.9/9.9.9/9.9.9 is of 'memory' and does not count",
    ]


# -- nodes ---------------------------------------------------------------------------------


def test_nodes_that_follow_hold_what_is_placed_on_them_and_no_copy_is_lost() -> None:
    mesh = MemoryMesh(5, 4)
    places = [Coordinate(library, *[1] * 8) for library in range(1, 9)]

    async def body() -> None:
        await mesh.run_until(1)
        for place in places:
            assert mesh.edit(0, place, partial(_write, place))
        await mesh.settle(10)
        desk = mesh.node(0).desk
        desk.ask(["place_range", PHEXT, "3.*", True, []])
        desk.ask(["place", PHEXT, 2])
        for number in range(mesh.count):
            mesh.node(number).desk.ask(["follow", PHEXT])
        mesh.apply(Partition(((0, 1), (2, 3))))
        await mesh.run_until(mesh.now + 20)
        mesh.apply(Repair())
        await mesh.run_until(mesh.now + 20)
        names = [f"node-{number}" for number in range(mesh.count)]
        placed = [placing.placement_of(mesh.node(n).replicas, PHEXT) for n in range(mesh.count)]
        for place in places:
            holders = [member.name for member in placed[0].holders(place)]
            assert len(holders) == (4 if place.library == 3 else 2)
            assert all([m.name for m in one.holders(place)] == holders for one in placed)
            having = [
                name
                for name, number in zip(names, range(mesh.count), strict=True)
                if place in mesh.node(number).phext(PHEXT).index
            ]
            assert sorted(holders) == having
        desk.ask(["place", PHEXT, None])
        await mesh.run_until(mesh.now + 20)
        for number in range(mesh.count):
            assert all(place in mesh.node(number).phext(PHEXT) for place in places)

    mesh.run(body)


def test_a_node_that_does_not_follow_holds_everything_and_nobody_writes_without_a_policy() -> None:
    mesh = MemoryMesh(6, 3)
    place = Coordinate(1, *[1] * 8)

    async def body() -> None:
        await mesh.run_until(1)
        assert mesh.edit(0, place, partial(_write, place))
        await mesh.settle(10)
        await mesh.run_until(mesh.now + 10)
        assert all(placing.PLACEMENT not in mesh.node(n).replicas.names() for n in range(3))
        mesh.node(0).desk.ask(["place", PHEXT, 1])
        await mesh.run_until(mesh.now + 10)
        for number in range(3):
            assert len(placing.members_of(mesh.node(number).replicas)[0]) == 3
            assert mesh.node(number).phext(PHEXT)[place] == "text\n"
            assert mesh.node(number).status().holding == ()
        mesh.apply(Restart(1))
        await mesh.run_until(mesh.now + 5)
        assert mesh.node(1).phext(PHEXT)[place] == "text\n"

    mesh.run(body)


def test_a_node_whose_disk_was_full_follows_when_it_is_free_again() -> None:
    mesh = MemoryMesh(8, 2)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.apply(FillDisk(1))
        mesh.edit(1, _ONE.lower, partial(_write, _ONE.lower))
        mesh.node(0).desk.ask(["place", PHEXT, 1])
        await mesh.run_until(mesh.now + 10)
        assert len(placing.members_of(mesh.node(0).replicas)[0]) == 1
        mesh.apply(FreeDisk(1))
        await mesh.run_until(mesh.now + 10)
        assert len(placing.members_of(mesh.node(0).replicas)[0]) == 2

    mesh.run(body)


class _Bound:
    """Directories that are bound to all there is, or something else that is in the way."""

    def __init__(self) -> None:
        self.error: PhextsyncError = DirectoryError("notes is bound")

    def ask(self, request: list[Value]) -> Value:
        raise AssertionError(request)

    def status(self) -> tuple[DirectoryRow, ...]:
        return ()

    def taking_up(self) -> list[tuple[str, int, int]]:
        return []

    def check_unbound(self, phext: str, held: Ranges) -> None:
        if held != (EVERYTHING,):
            raise self.error


def test_what_cannot_be_followed_is_a_warning_and_all_is_held() -> None:
    mesh = MemoryMesh(7, 3)

    async def body() -> None:
        await mesh.run_until(1)
        for number in range(3):
            mesh.node(number).desk.ask(["follow", PHEXT])
        mesh.node(0).desk.ask(["place", PHEXT, 1])
        await mesh.run_until(mesh.now + 10)
        holders = placing.placement_of(mesh.node(0).replicas, PHEXT).holders(_ONE.lower)
        (name,) = [member.name for member in holders]
        one, other = [n for n in range(3) if f"node-{n}" != name]
        assert [row.held for row in mesh.node(one).status().holding] == [()]
        with pytest.raises(NotHeldError, match=f"nothing is: it is on .*; it is placed on {name}"):
            mesh.node(one).phext(PHEXT).get(_ONE.lower)
        mesh.node(other).directories = bound = _Bound()
        for library in range(1, 2 * WANTED_MAX + 3, 2):
            mesh.node(0).desk.ask(["place_range", PHEXT, f"{library}.*", True, []])
        await mesh.run_until(mesh.now + 20)
        (said,) = mesh.node(one).warnings()
        assert said == "memory: all is held, since 25 ranges are placed here, over 24"
        mesh.node(0).desk.ask(["place_range", PHEXT, "1.*", False, []])
        await mesh.run_until(mesh.now + 20)
        assert mesh.node(one).warnings() == []
        assert mesh.node(other).warnings() == ["placement is not followed: notes is bound"]
        assert [row.held for row in mesh.node(other).status().holding] == [("*",)]
        bound.error = PhextsyncError("more ranges than can be told")
        mesh.node(0).desk.ask(["place_range", PHEXT, "3.*", False, []])
        await mesh.run_until(mesh.now + 20)
        said = "placement is not followed: more ranges than can be told"
        assert mesh.node(other).warnings() == [said]

    mesh.run(body)


def _write(place: Coordinate, replica: Editor) -> None:
    replica.append(place, "text\n")


# -- commands and handles ------------------------------------------------------------------


@pytest.fixture
def user(tmp_path: Path) -> CommandUser:
    made = CommandUser(make_folder(tmp_path / "data"))
    made.out("set", "1.1.1/1.1.1/1.1.1", "text")
    return made


def test_commands_place_and_show(user: CommandUser) -> None:
    assert user.out("where") == "*: every machine: nothing is placed\n  read here\n"
    user.out("place", "--copies", "2")
    user.out("place", "1.5.*", "--everywhere")
    assert user.out("where", "1.*").splitlines()[::2] == [
        "1.1.1/1.1.1/1.1.1..1.5.1/1.1.1/1.1.1: every machine: nothing is placed",
        "1.5.*: every machine: nothing is placed",
        "1.6.1/1.1.1/1.1.1..2.1.1/1.1.1/1.1.1: every machine: nothing is placed",
    ]
    assert user.out("hold", "--placed") == "of memory is held, as placed: *\n"
    rows = json.loads(user.out("where", "1.5.*", "--json"))
    assert rows == [{"range": "1.5.*", "holders": [], "read": "read here"}]


def test_who_is_no_member_cannot_be_retired_and_a_short_silence_is_none(user: CommandUser) -> None:
    assert "expected the name of one member" in user.error("place", "--retire", "nobody")
    said = user.error("place", "--repair-after", "5s")
    assert said == "expected repair-after from 60 to 31536000, found '5'"


def test_commands_say_how_fast_things_move(user: CommandUser) -> None:
    user.out("place", "--copies", "3", "--repair-after", "30m")
    user.out("place", "--rate", "4")
    user.out("place", "1.5.*", "--everywhere")
    store = LmdbStore(user.data)
    replicas = ReplicaSet(store, node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 7)
    (policy,), problems = placing.policies_of(replicas)
    store.close(clean=True)
    assert (policy.copies, policy.repair_after_s, policy.rate) == (3, 1800, 4 << 20)
    assert len(policy.rules) == 1
    assert problems == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--copies", "2", "--everywhere"],
        ["1.*", "--copies", "2"],
        ["--free"],
        ["--on", "x"],
        ["--retire", "x", "--copies", "2"],
        ["1.*", "--everywhere", "--rate", "4"],
        ["--repair-after", "soon"],
    ],
)
def test_what_cannot_be_placed_is_one_line(user: CommandUser, arguments: list[str]) -> None:
    result = user.run("place", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("phextsync: expected ")


@pytest.mark.real
def test_handles_place_and_show(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
        handle.place(2)
        handle.place_range("1.5.*", everywhere=True)
        handle.follow()
        assert [row.range for row in handle.where("1.5.*")] == [CoordinateRange.parse("1.5.*")]
        assert [row.follows for row in handle.status().holding] == [True]
        while not handle.status().placed:  # until the node has looked
            handle.durable()
        told = CommandUser(folder).run("status", "--check")
        assert told.exit_code == 1
        assert "memory: 3 of 3 ranges on fewer than 2 machines, 0 bytes to move" in told.stdout
        handle.pace(repair_after_s=600, bytes_per_s=4 << 20)
        handle.retire(handle.status().name)
        with pytest.raises(PhextsyncError, match="expected the name of one member"):
            handle.retire("nobody")

    async def use() -> None:
        async with aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
            await handle.place(None)
            await handle.place_range("1.5.*")
            await handle.follow("other")
            await handle.pace(repair_after_s=900)
            with pytest.raises(PhextsyncError, match="expected the name of one member"):
                await handle.retire("nobody")
            assert [type(row) for row in await handle.where()] == [PlacedRange]
            assert [row.phext for row in (await handle.status()).holding] == ["memory", "other"]

    asyncio.run(use())


@pytest.mark.parametrize("copies", [-1, 0, 65, 2**70])
def test_copies_that_cannot_be_are_refused_and_change_nothing(copies: int) -> None:
    replicas = _replicas()
    placing.set_copies(replicas, PHEXT, 2)
    with pytest.raises(PhextsyncError, match=r"^expected copies from 1 to 64, found"):
        placing.set_copies(replicas, PHEXT, copies)
    (policy,), problems = placing.policies_of(replicas)
    assert (policy.copies, problems) == (2, [])
