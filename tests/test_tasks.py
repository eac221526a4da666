"""A task is for one claim at a time, as a majority of its voters says."""

import asyncio
import json
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
import trio

import phextsync
from phextsync.agents import AsyncTasks, Tasks, Voter
from phextsync.agents.claims import Kind, Verdict
from phextsync.agents.task_layout import HEAD, TASKS, ballot_at, claims_at
from phextsync.agents.task_plans import ListedTask
from phextsync.agents.voters import Voters
from phextsync.control.frames import Value
from phextsync.control.performing import perform
from phextsync.errors import NotFirmError, OvertakenError, PhextsyncError, StoreFullError
from phextsync.index import Coordinate
from phextsync.node.node import Node
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.testing import Crash, FillDisk, FreeDisk, MemoryMesh, Partition, Repair, Restart
from sims.processes import make_folder
from sims.tasks import Run
from tests.command_users import CommandUser

_HOUR_S = 3600.0


class _Folder:
    """A node that nobody is linked with, and what is asked of it; its vote is cast by hand."""

    def __init__(self) -> None:
        self.replicas = ReplicaSet(
            MemoryStore(), node_id=bytes(15) + b"1", random=Random(1), wall_time_ms=lambda: 1
        )
        self.node_id = self.replicas.node_id.hex()
        self.phext = self.replicas.phext("tasks")

    def ask(self, *request: Value) -> Value:
        if request[0] == "status":
            status = {"running": False, "name": "alice", "folder": "here"}
            return json.dumps({**status, "node_id": self.node_id})
        return None if request[0] == "durable" else perform(self.replicas, [*request])

    def tasks(self, worker: str = "") -> Tasks:
        return Tasks(self, worker, clock_ms=lambda: 1, nonce=partial(next, map(str, count(1))))

    def vote(self, at: Coordinate, line: str) -> None:
        """Write a line of the ballot, as `docs/reference/tasks.md` says it."""
        self.phext.append(ballot_at(self.node_id, at), f"{line}\n")


@pytest.fixture
def folder() -> _Folder:
    """Return a node that votes alone."""
    folder = _Folder()
    folder.tasks().voters("alice", term_s=9)
    return folder


def test_a_claim_is_firm_when_the_voters_voted_for_it(folder: _Folder) -> None:
    tasks = folder.tasks()
    at = tasks.add("rebuild\nthe index").coordinate
    claim = tasks.claim(at, wait_s=0)
    assert claim.verdict is Verdict.NOT_FIRM
    with pytest.raises(NotFirmError, match=r"1:alice:1 is not firm: fewer than 1 of 1 voters"):
        tasks.keep(at, claim, wait_s=0)
    with pytest.raises(NotFirmError, match="nothing was written"):
        tasks.done(at, claim, "x", wait_s=0)
    folder.vote(at, f"vote 1 {claim.name}")
    assert tasks.keep(at, str(claim)).is_firm
    assert folder.tasks("bob").claim(at, wait_s=0).verdict is Verdict.LOST
    (listed,) = tasks.tasks()
    assert (listed.standing.kind, listed.standing.claim) == (Kind.HELD, "alice:1")
    assert not tasks.done(at, claim, "it took\nlong", wait_s=0).is_firm
    folder.vote(at, f"sealed 1 {claim.name}")
    assert tasks.done(at, claim, "it took\nlong", wait_s=0).is_firm
    with pytest.raises(PhextsyncError, match="is done already: 'it took"):
        tasks.done(at, claim, "another", wait_s=0)
    (listed,) = tasks.tasks()
    assert (listed.standing.what, listed.standing.is_final) == ("it took\nlong", True)
    assert folder.tasks("bob").claim(at, wait_s=0).verdict is Verdict.LOST


def test_a_stale_fence_is_refused_and_seen(folder: _Folder) -> None:
    tasks = folder.tasks()
    at = tasks.add("x").coordinate
    old = tasks.claim(at, wait_s=0)
    folder.vote(at, f"vote 1 {old.name}\nsilent 1")
    new = folder.tasks("bob").claim(at, wait_s=0)
    assert new.fence == 2
    folder.vote(at, f"vote 2 {new.name}")
    before = folder.phext[claims_at(at)]
    for call in (tasks.keep, tasks.done, tasks.fail):
        with pytest.raises(OvertakenError, match=r"1:alice:1 was overtaken.*held by 2:bob:1"):
            call(at, old)
    assert folder.phext[claims_at(at)] == before
    folder.phext.append(claims_at(at), f"done 1 {old.name} late\n")  # written all the same
    (listed,) = tasks.tasks()
    assert (listed.standing.kind, listed.standing.fence) == (Kind.HELD, 2)


def test_what_failed_is_for_nobody_until_it_is_to_be_tried_again(folder: _Folder) -> None:
    tasks = folder.tasks()
    at = tasks.add("x").coordinate
    with pytest.raises(PhextsyncError, match="expected a task that failed, found one that is open"):
        tasks.retry(at)
    claim = tasks.claim(at, wait_s=0)
    folder.vote(at, f"vote 1 {claim.name}")
    tasks.fail(at, claim, "no room")
    assert tasks.claim(at, wait_s=0).verdict is Verdict.LOST
    (listed,) = tasks.tasks()
    assert (listed.standing.kind, listed.standing.what) == (Kind.FAILED, "no room")
    assert tasks.retry(at).kind is Kind.OPEN
    assert tasks.claim(at, wait_s=0).fence == 2


def test_a_task_keeps_its_voters(folder: _Folder) -> None:
    tasks = folder.tasks()
    task = tasks.add("x", term_s=5)
    tasks.voters(term_s=77)
    (listed,) = tasks.tasks()
    assert listed.task == task
    assert listed.task.electorate.term_s == 5
    named = tasks.voters()
    assert named is not None
    assert (named.term_s, [*named.voters]) == (77, [folder.node_id])


def test_a_task_whose_text_was_changed_is_none(folder: _Folder) -> None:
    tasks = folder.tasks()
    at = tasks.add("x").coordinate
    folder.phext.append(at, " and y")
    assert tasks.tasks() == []
    with pytest.raises(PhextsyncError, match="was changed since it was added"):
        tasks.claim(at)


def test_what_cannot_be_asked_is_said(folder: _Folder) -> None:
    tasks = folder.tasks()
    at = tasks.add("x").coordinate
    with pytest.raises(PhextsyncError, match=r"`phextsync task voters NODE\.\.\.` names"):
        _Folder().tasks().add("x")
    with pytest.raises(PhextsyncError, match=r"a node that is known here \(alice\), found 'bob'"):
        tasks.voters("bob")
    with pytest.raises(PhextsyncError, match="expected a text that says what there is to do"):
        tasks.add(" \n")
    with pytest.raises(PhextsyncError, match="expected a term of 1 to"):
        tasks.add("x", term_s=-1)
    with pytest.raises(PhextsyncError, match=r"expected a term of 1 to .*, found 0"):
        tasks.add("x", term_s=0)
    with pytest.raises(PhextsyncError, match=r"expected a term of 1 to .*, found 0"):
        tasks.voters("alice", term_s=0)
    with pytest.raises(PhextsyncError, match="expected a claim such as 1:laptop:0a1b2c3d"):
        tasks.done(at, "laptop")
    with pytest.raises(PhextsyncError, match="there is no claim 1:nobody:1 of"):
        tasks.done(at, "1:nobody:1")
    with pytest.raises(PhextsyncError, match="it is not here yet"):
        tasks.claim("2.2.2/2.2.2/1.1.1")
    with pytest.raises(PhextsyncError, match="it is no place of one"):
        tasks.claim("1.1.1/1.1.1/1.1.1")
    with pytest.raises(PhextsyncError, match="expected the name of a worker"):
        folder.tasks("two words").claim(at)


def test_a_claim_that_failed_is_neither_kept_nor_done(folder: _Folder) -> None:
    tasks = folder.tasks()
    at = tasks.add("x").coordinate
    claim = tasks.claim(at, wait_s=0)
    folder.vote(at, f"vote 1 {claim.name}")
    tasks.fail(at, claim, "no", wait_s=0)
    before = folder.phext[claims_at(at)]
    for say in (tasks.keep, tasks.done):
        with pytest.raises(OvertakenError, match="failed, so nothing was written"):
            say(at, claim, wait_s=0)
    assert folder.phext[claims_at(at)] == before


def test_what_is_done_for_good_can_be_cleared_and_nothing_else(folder: _Folder) -> None:
    tasks = folder.tasks()
    places = [tasks.add(text).coordinate for text in ("done", "sealed", "open")]
    for at in places[:2]:
        claim = tasks.claim(at, wait_s=0)
        folder.vote(at, f"vote 1 {claim.name}")
        assert not tasks.done(at, claim, wait_s=0).is_firm
    folder.vote(places[1], f"sealed 1 {claim.name}")
    (listed,) = [each for each in tasks.tasks() if each.standing.is_final]
    assert tasks.clear(0) == []
    assert tasks.clear(1 << 42) == [listed]
    assert [each.task.coordinate for each in tasks.tasks()] == sorted([places[0], places[2]])
    with pytest.raises(PhextsyncError, match="it is not here yet"):
        tasks.claim(places[1])


@pytest.mark.parametrize("before_ms", [-(10**17), 10**17])
def test_what_was_added_before_any_time_can_be_cleared(folder: _Folder, before_ms: int) -> None:
    folder.tasks().add("Water the plants.")
    assert folder.tasks().clear(before_ms) == []


def test_half_of_a_character_comes_of_no_task(folder: _Folder) -> None:
    tasks = folder.tasks()
    at = tasks.add("x").coordinate
    claim = tasks.claim(at, wait_s=0)
    folder.vote(at, f"vote 1 {claim.name}")
    before = folder.phext[claims_at(at)]
    for say in (tasks.done, tasks.fail):
        with pytest.raises(PhextsyncError, match=r"a lone surrogate \(U\+DCFF\) at offset 1"):
            say(at, claim, "a\udcff", wait_s=0)
    assert folder.phext[claims_at(at)] == before
    folder.phext.append(claims_at(at), f'done 1 {claim.name} "a\\ud800b"\n')  # by another hand
    assert tasks.read(at).standing.what == "a?b"


# -- every way to a node --------------------------------------------------------------------


def test_all_ways_to_a_node_do_the_same(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "alice")
    places: list[str] = []

    async def in_trio() -> None:
        async with (
            phextsync.open_node(folder, host="127.0.0.1", port=0, discover=False) as node,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(Voter(node).run)
            tasks = AsyncTasks(node)
            await tasks.voters("alice")
            at = (await tasks.add("by trio")).coordinate
            claim = await tasks.claim(at, wait_s=600)
            assert (await tasks.done(at, claim, "well", wait_s=600)).is_firm
            second = (await tasks.add("twice")).coordinate
            assert (await tasks.claim(second, wait_s=600)).is_firm
            places.append(str(second))
            nursery.cancel_scope.cancel()

    async def in_asyncio() -> None:
        async with phextsync.aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
            tasks = AsyncTasks(handle)
            at = (await tasks.add("by asyncio")).coordinate
            assert (await tasks.claim(at, wait_s=0.2)).verdict is Verdict.NOT_FIRM

    trio.run(in_trio)
    asyncio.run(in_asyncio())
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
        assert Tasks(handle).claim(places[0], wait_s=0).verdict is Verdict.LOST
    person = CommandUser(folder)
    at = person.out("task", "add", "by hand").strip()
    texts = ["by trio", "twice", "by asyncio", "by hand"]
    assert [
        row["text"] for row in json.loads(person.out("task", "list", "--all", "--json"))
    ] == texts
    lines = [line.split("  ", 1)[1] for line in person.out("task", "list").splitlines()]
    states = ["held by alice  twice", "claimed by alice  by asyncio", "open  by hand"]
    assert lines == states
    assert "alice (" in person.out("task", "voters")
    claim = person.run("task", "claim", at, "--wait", "0")
    assert (claim.exit_code, claim.stdout[:8]) == (3, "1:alice:")
    keep = person.run("task", "keep", at, claim.stdout.strip(), "--wait", "0")
    assert (keep.exit_code, keep.stdout) == (3, "")
    assert person.run("task", "claim", places[0], "--wait", "0").exit_code == 4


# -- machines that come and go --------------------------------------------------------------


def _mesh(count: int = 3) -> MemoryMesh:
    return MemoryMesh(1, count, beside=lambda node: Voter(node).run())


def _tasks(mesh: MemoryMesh, number: int, phext: str = TASKS) -> AsyncTasks:
    return AsyncTasks(mesh.node(number), phext=phext, clock_ms=lambda: round(1000 * mesh.now))


def _ids(mesh: MemoryMesh) -> list[str]:
    return [mesh.node(number).identity.node_id.hex() for number in range(mesh.count)]


async def _seen(mesh: MemoryMesh, number: int) -> ListedTask:
    (listed,) = await _tasks(mesh, number).tasks()
    return listed


def test_a_node_votes_in_each_phext_that_names_it_also_when_it_comes_back() -> None:
    mesh = MemoryMesh(1, 3, beside=lambda node: Voters(node).run())

    async def body() -> None:
        await mesh.run_until(2)
        mesh.node(0).phext("memory")[HEAD] = "voter nobody\nvoter\n"
        for phext in ("night", "day"):
            await _tasks(mesh, 0, phext).voters(*_ids(mesh)[:2], term_s=60)
        await mesh.run_until(4)
        night = (await _tasks(mesh, 2, "night").add("to do")).coordinate
        assert (await _tasks(mesh, 2, "night").claim(night, wait_s=1)).is_firm
        mesh.apply(Crash(1))
        await mesh.run_until(6)
        mesh.apply(Restart(1))
        await mesh.run_until(10)
        day = (await _tasks(mesh, 2, "day").add("to do")).coordinate
        assert (await _tasks(mesh, 2, "day").claim(day, wait_s=1)).is_firm
        voters = mesh.node(2).replicas.open("day").read(ballot_at(_ids(mesh)[2], day))
        assert voters == ""  # it is not named

    mesh.run(body)


def test_a_phext_of_the_library_has_no_voters(monkeypatch: pytest.MonkeyPatch) -> None:
    voting: list[str] = []

    class Told(Voter):
        def __init__(self, node: Node, phext: str) -> None:
            super().__init__(node, phext)
            voting.append(phext)

    monkeypatch.setattr("phextsync.agents.voters.Voter", Told)
    mesh = MemoryMesh(1, 1, beside=lambda node: Voters(node).run())

    async def body() -> None:
        await mesh.run_until(2)
        for phext in (".notes", "night"):
            head = f"voter {mesh.node(0).identity.node_id.hex()}\n"
            mesh.node(0).replicas.open(phext).edit(HEAD, head)
        await mesh.run_until(4)

    mesh.run(body)
    assert voting == [TASKS, "night"]


def test_a_task_for_a_machine_that_is_off_is_there_once_within_a_second_of_its_return() -> None:
    mesh = _mesh()

    async def body() -> None:
        await mesh.run_until(2)
        await _tasks(mesh, 0).voters(*_ids(mesh), term_s=60)
        await mesh.run_until(4)
        mesh.apply(Crash(2, is_silent=True))
        task = await _tasks(mesh, 0).add("when you are back")
        await mesh.run_until(4 + _HOUR_S)
        mesh.apply(Restart(2))
        await mesh.run_until(5 + _HOUR_S)
        listed = await _seen(mesh, 2)
        assert listed.task == task
        assert listed.standing.kind is Kind.OPEN
        claim = await _tasks(mesh, 2).claim(task.coordinate, wait_s=1)
        assert claim.is_firm
        assert (await _tasks(mesh, 2).done(task.coordinate, claim, "here", wait_s=1)).is_firm
        mesh.apply(Crash(2))
        await mesh.run_until(10 + _HOUR_S)
        mesh.apply(Restart(2))
        await mesh.run_until(11 + _HOUR_S)
        assert (await _seen(mesh, 2)).standing.is_final

    mesh.run(body)


def test_in_a_minority_no_claim_is_firm() -> None:
    mesh = _mesh()

    async def body() -> None:
        await mesh.run_until(2)
        task = await _tasks(mesh, 0).add("x", voters=_ids(mesh), term_s=5)
        await mesh.run_until(4)
        mesh.apply(Partition(((0,), (1, 2))))
        await mesh.run_until(10)
        alone = await _tasks(mesh, 0).claim(task.coordinate, wait_s=20)
        assert alone.verdict is Verdict.NOT_FIRM
        claim = await _tasks(mesh, 1).claim(task.coordinate, wait_s=20)
        assert claim.is_firm
        mesh.apply(Repair())
        await mesh.run_until(mesh.now + 3)
        with pytest.raises(OvertakenError):
            await _tasks(mesh, 0).keep(task.coordinate, alone, wait_s=1)

    mesh.run(body)


async def _claimed_with_a_full_disk(mesh: MemoryMesh) -> Verdict:
    """Return what is told of a claim whose only voter cannot write its vote."""
    await mesh.run_until(2)
    task = await _tasks(mesh, 0).add("x", voters=_ids(mesh)[1:], term_s=60)
    await mesh.run_until(4)
    mesh.apply(FillDisk(1))
    told = (await _tasks(mesh, 0).claim(task.coordinate, wait_s=5)).verdict
    with pytest.raises(StoreFullError):  # the voter itself does not know what holds either
        await _tasks(mesh, 1).tasks()
    mesh.apply(FreeDisk(1))
    await mesh.run_until(mesh.now + 5)
    assert (await _seen(mesh, 0)).standing.kind is Kind.HELD
    return told


def test_a_vote_counts_when_it_is_on_the_voters_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = _mesh(2)
    assert mesh.run(partial(_claimed_with_a_full_disk, mesh)) is Verdict.NOT_FIRM
    monkeypatch.setattr("phextsync.control.desk._is_told_late", lambda _request: False)
    broken = _mesh(2)
    assert broken.run(partial(_claimed_with_a_full_disk, broken)) is Verdict.FIRM


def test_a_claimant_that_vanishes_is_overtaken_after_its_term_and_one_that_works_is_not() -> None:
    mesh = _mesh(4)

    async def body() -> None:
        await mesh.run_until(2)
        task = await _tasks(mesh, 3).add("x", voters=_ids(mesh)[:3], term_s=60)
        at = task.coordinate
        first = await _tasks(mesh, 3).claim(at, wait_s=5)
        assert first.is_firm
        for _ in range(3):
            await mesh.run_until(mesh.now + 50)
            assert (await _tasks(mesh, 0).claim(at, wait_s=1)).verdict is Verdict.LOST
            assert (await _tasks(mesh, 3).keep(at, first, wait_s=1)).is_firm
        mesh.apply(Crash(3, is_silent=True))
        await mesh.run_until(mesh.now + 50)
        assert (await _tasks(mesh, 0).claim(at, wait_s=1)).verdict is Verdict.LOST
        await mesh.run_until(mesh.now + 15)
        second = await _tasks(mesh, 0).claim(at, wait_s=5)
        assert (second.is_firm, second.fence) == (True, 2)
        mesh.apply(Restart(3))
        await mesh.run_until(mesh.now + 3)
        with pytest.raises(OvertakenError, match=r"1:node-3:\w+ was overtaken: .* held by 2:"):
            await _tasks(mesh, 3).done(at, first, "late", wait_s=1)
        assert (await _tasks(mesh, 0).done(at, second, "well", wait_s=5)).is_firm
        assert (await _seen(mesh, 3)).standing.what == "well"

    mesh.run(body)


@pytest.mark.parametrize("seed", range(6))
def test_through_cuts_and_crashes_no_fence_is_for_two_and_all_is_done_in_the_end(seed: int) -> None:
    assert Run(seed).run() == []
