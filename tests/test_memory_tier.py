"""Real nodes in virtual time: every scenario passes, repeats itself, and notices defects."""

from collections.abc import Iterable
from contextlib import suppress

import pytest

from phextsync.errors import StoreError
from phextsync.framing import FrameChannel
from phextsync.index import Coordinate
from phextsync.node.committing import Committing
from phextsync.node.dialler import Dialler
from phextsync.node.node import Node
from phextsync.testing import (
    Action,
    Clone,
    Crash,
    Fault,
    FillDisk,
    FreeDisk,
    MemoryMesh,
    Partition,
    Repair,
    Reset,
    Restart,
    Sleep,
    Workload,
)
from phextsync.testing.workloads import schedule_all
from sims import scenarios
from tests.repetition import outputs

_PLACE = Coordinate(*[1] * 9)


def _append(mesh: MemoryMesh, node: int, text: str) -> bool:
    return mesh.edit(node, _PLACE, lambda replica: replica.append(_PLACE, text))


@pytest.mark.parametrize("name", scenarios.small("memory"))
def test_every_scenario_passes(name: str) -> None:
    assert scenarios.run(name, 0, tier="memory").failure is None


def test_a_scenario_passes_over_tls() -> None:
    assert scenarios.run("halves", 0, tier="memory", has_tls=True).failure is None


def test_one_seed_has_one_trace_in_every_process() -> None:
    program = """
from tests.test_memory_tier import troubled
print([troubled(has_tls).digest() for has_tls in (False, True)])
"""
    assert len(outputs(program)) == 1


def troubled(has_tls: bool) -> MemoryMesh:
    """Return a mesh of three nodes that has seen much trouble."""
    mesh = MemoryMesh(1, 3, has_tls=has_tls)
    schedule_all(mesh, [Workload("logs", 6), Workload("memory", 6)], 3)
    faults: list[Action] = [
        *(Reset(0, 1), Partition(((0,), (1, 2))), Crash(2), Repair(), Restart(2), Restart(1)),
        *(FillDisk(0), Crash(1, is_silent=True), Restart(1), FreeDisk(0), Clone(0, 2), Sleep(1, 2)),
    ]
    mesh.schedule(Fault(0.4 + 0.2 * i, fault) for i, fault in enumerate(faults))

    async def body() -> None:
        await mesh.run_until(3)
        await mesh.settle(10)

    mesh.run(body)
    return mesh


def test_what_a_node_logs_is_in_the_trace() -> None:
    lines: list[str] = []
    mesh = MemoryMesh(1, 2, trace=lines.append)

    async def body() -> None:
        mesh.apply(FillDisk(0))
        assert _append(mesh, 0, "q0z\n")
        await mesh.run_until(1)

    mesh.run(body)
    assert any("cannot write to node-0: the simulated disk is full" in line for line in lines)


# -- what a user meets ---------------------------------------------------------------------


def test_nodes_that_start_apart_find_each_other_when_they_can() -> None:
    mesh = MemoryMesh(1, 3)
    mesh.schedule([Fault(0.0, Partition(((0,), (1, 2))))])

    async def body() -> None:
        await mesh.run_until(5)
        assert [len(mesh.node(number).peers()) for number in range(3)] == [0, 1, 1]
        assert _append(mesh, 0, "q0z\n")
        await mesh.settle(10)
        assert mesh.text(2, _PLACE) == "q0z\n"

    mesh.run(body)


def test_a_node_that_was_cut_off_has_caught_up_within_5_seconds_of_its_return() -> None:
    mesh = MemoryMesh(1, 3)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(60)
        for node in range(3):
            assert _append(mesh, node, f"q{node}z\n")
        await mesh.run_until(61)
        await mesh.settle(5)
        assert mesh.metrics.synced_ms is not None
        assert {"q0z", "q1z", "q2z"} == {*mesh.text(0, _PLACE).split()}

    mesh.run(body)


def test_what_was_not_yet_on_the_disk_is_gone_after_a_crash_and_only_then() -> None:
    mesh = MemoryMesh(1, 2)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.apply(Partition(((0,), (1,))))
        assert _append(mesh, 0, "q0z\n")
        await mesh.run_until(2)
        assert _append(mesh, 0, "q1z\n")
        mesh.apply(Crash(0))
        assert not mesh.is_up(0)
        mesh.apply(Restart(0))
        await mesh.run_until(3)
        assert mesh.text(0, _PLACE) == "q0z\n"
        assert _append(mesh, 0, "q2z\n")
        mesh.apply(Restart(0))
        assert not mesh.is_up(0)
        await mesh.run_until(4)
        assert mesh.text(0, _PLACE) == "q0z\nq2z\n"

    mesh.run(body)


def test_a_sleeping_machine_answers_nobody_and_catches_up() -> None:
    mesh = MemoryMesh(1, 3)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.apply(Sleep(1, 10))
        assert not _append(mesh, 1, "never written")
        assert _append(mesh, 0, "q0z\n")
        await mesh.run_until(9)
        assert mesh.replica(1).get(_PLACE) is None
        assert [peer.name for peer in mesh.node(0).peers()] == ["node-2"]
        await mesh.settle(5)
        assert mesh.now >= 11
        assert mesh.text(1, _PLACE) == "q0z\n"

    mesh.run(body)


def test_a_full_disk_refuses_edits_and_is_tried_again() -> None:
    mesh = MemoryMesh(1, 2)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.apply(FillDisk(0))
        assert _append(mesh, 0, "q0z\n")
        await mesh.run_until(2)
        assert not _append(mesh, 0, "q1z\n")
        assert mesh.metrics.writes - mesh.metrics.writes_accepted == 1
        mesh.apply(FreeDisk(0))
        await mesh.run_until(4)
        assert _append(mesh, 0, "q1z\n")
        await mesh.settle(5)

    mesh.run(body)


def test_a_node_that_crashes_at_once_holds_up_nobody() -> None:
    mesh = MemoryMesh(1, 3)
    mesh.schedule([Fault(0.0, Crash(0))])

    async def body() -> None:
        assert [mesh.is_up(node) for node in range(3)] == [False, True, True]
        await mesh.settle(5)

    mesh.run(body)


def test_a_bug_in_a_run_comes_out_as_it_is() -> None:
    async def body() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        MemoryMesh(1, 2).run(body)


# -- planted defects -----------------------------------------------------------------------


def _failures(name: str, seeds: Iterable[int] = range(4)) -> str:
    """Return what the checks say."""
    return "\n".join(scenarios.run(name, seed, tier="memory").failure or "" for seed in seeds)


def test_acknowledging_before_the_commit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hasty(writer: Committing) -> bool:
        batch = writer._durability.take()
        if batch is None:
            return True
        writer._durability.written()
        with suppress(StoreError):
            await writer._commit_batch(batch)
        return True

    monkeypatch.setattr(Committing, "_commit", hasty)
    assert "was acknowledged, and the peer's disk lacks it" in _failures("crash")


def test_a_lost_link_that_nobody_dials_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dialler, "_keep_dialling", Dialler._dial_once)
    mesh = MemoryMesh(1, 3)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.apply(Reset(0, 1))
        await mesh.settle(10)

    with pytest.raises(AssertionError, match="0 has no link to 1"):
        mesh.run(body)


def test_links_that_are_left_open_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave_open(channel: FrameChannel) -> None:
        pass

    monkeypatch.setattr(FrameChannel, "aclose", leave_open)
    with pytest.raises(ExceptionGroup) as caught:
        troubled(has_tls=False)
    assert "connections open" in repr(caught.value)


def test_a_stop_that_writes_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop(node: Node) -> bool:
        return True

    monkeypatch.setattr(Node, "stop", stop)
    mesh = MemoryMesh(1, 2)

    async def body() -> None:
        await mesh.run_until(1)
        mesh.replica(0).append(_PLACE, "last words")
        mesh.apply(Restart(0))
        await mesh.run_until(2)

    with pytest.raises(ExceptionGroup) as caught:
        mesh.run(body)
    assert "left changes unwritten" in repr(caught.value)


def test_a_comparison_begins_when_it_is_due_and_not_with_a_later_tick() -> None:
    mesh = MemoryMesh(1, 2)

    async def body() -> None:
        await mesh.run_until(2)
        node = min((mesh.node(0), mesh.node(1)), key=lambda node: node.identity.node_id)
        for turn in range(1, 5):
            before = node.traffic().comparisons
            node.replicas.set_aside("memory", "a scroll was damaged")
            await mesh.run_until(2 + turn * 0.2)
            assert node.traffic().comparisons == before + 1

    mesh.run(body)
