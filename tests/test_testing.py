"""Simulated meshes converge under every kind of fault, and the oracle notices what must not be."""

import json
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from phextsync.edits import minimal_edits
from phextsync.index import EVERYTHING, Coordinate
from phextsync.sync.codec import encode
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Ping
from phextsync.sync.synchronizer import Synchronizer
from phextsync.testing import (
    Clone,
    Crash,
    Damage,
    Deafen,
    Editor,
    Fault,
    FillDisk,
    Follow,
    Forget,
    FreeDisk,
    Garbage,
    HalfOpen,
    Hold,
    Oracle,
    Partition,
    Regions,
    Repair,
    Reset,
    Restart,
    SetClock,
    SetCopies,
    SetHeld,
    SetRule,
    Shape,
    Sleep,
    Tear,
    Violation,
    Workload,
    World,
    faults_from_json,
    faults_to_json,
)
from phextsync.testing.workloads import schedule_all
from sims import scenarios
from sims.overlays import Overlay
from sims.tables import built_in, schedule_to_json

_PLACE = Coordinate(*[1] * 9)
_nodes = st.integers(0, 2)
_pairs = st.lists(_nodes, min_size=2, max_size=2, unique=True)
_actions = st.one_of(
    st.builds(
        Partition,
        st.sampled_from([((0,), (1, 2)), ((0, 1), (2,)), ((0,), (1,), (2,)), ((1,),)]),
        st.booleans(),
    ),
    _pairs.map(lambda pair: Hold(*pair)),
    st.just(Repair()),
    _pairs.flatmap(
        lambda pair: st.builds(
            Shape,
            st.just(pair[0]),
            st.just(pair[1]),
            st.sampled_from([0.0, 0.1]),
            st.sampled_from([0.0, 0.05]),
            st.sampled_from([0.0, 20_000.0]),
            st.sampled_from([0.0, 0.2]),
            st.sampled_from([0.0, 0.1]),
            st.sampled_from([0.0, 0.1]),
        )
    ),
    _pairs.map(lambda pair: Reset(*pair)),
    _pairs.map(lambda pair: HalfOpen(*pair)),
    st.builds(Crash, _nodes, st.booleans()),
    st.builds(Tear, _nodes),
    st.builds(Damage, _nodes),
    st.builds(Restart, _nodes),
    _pairs.map(lambda pair: Clone(*pair)),
    st.builds(Sleep, _nodes, st.sampled_from([0.5, 4.0]), st.booleans()),
    st.builds(SetClock, _nodes, st.sampled_from([-1e9, 1e9]), st.sampled_from([0.0, 60.0])),
    st.builds(Deafen, _nodes, st.sampled_from([0.5, 4.0])),
    st.builds(FillDisk, _nodes),
    st.builds(FreeDisk, _nodes),
    _pairs.flatmap(
        lambda pair: st.builds(
            Garbage,
            st.just(pair[0]),
            st.just(pair[1]),
            st.sampled_from(["noise", "frames", "updates"]),
        )
    ),
    st.just(Regions(((0,), (1, 2)), 0.1)),
)
_wishes = st.one_of(
    st.builds(SetHeld, _nodes, st.sampled_from([("*",), ("1.*", "3.*"), ()]), st.integers(0, 2)),
    st.builds(Follow, _nodes),
    st.builds(SetCopies, _nodes, st.integers(0, 2), st.sampled_from([(), ("2.1.1/1.1.1/1.1.1",)])),
    st.builds(SetRule, _nodes, st.just("2.*"), _nodes.map(lambda node: (node,)), st.booleans()),
    st.builds(Forget, _nodes, _nodes),
    st.builds(Crash, _nodes, st.booleans()),
    st.builds(Restart, _nodes),
    st.builds(FillDisk, _nodes),
    st.builds(FreeDisk, _nodes),
    st.just(Partition(((0,), (1, 2)))),
    st.just(Repair()),
)
_schedules = st.lists(st.builds(Fault, st.sampled_from([0.1, 0.5, 1.0, 1.5]), _actions), max_size=8)


_SHORT = replace(
    built_in()["calm"],
    nodes=3,
    seconds=2,
    workloads=(Workload("logs", 4), Workload("memory", 4), Workload("churn", 2)),
)


@settings(max_examples=40, deadline=None)
@given(_schedules, st.integers(0, 3))
def test_any_schedule_of_faults_ends_with_equal_nodes(faults: list[Fault], seed: int) -> None:
    scenario = replace(_SHORT, fixed=tuple(faults))
    note(schedule_to_json(scenario, seed))  # a file for tests/vectors/schedules
    assert scenarios.run_scenario("drawn", scenario, seed).failure is None


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.builds(Fault, st.sampled_from([0.1, 0.5, 2.5, 3.0]), _wishes), max_size=10),
    st.integers(0, 3),
)
def test_whatever_is_held_and_placed_no_copy_is_lost(faults: list[Fault], seed: int) -> None:
    work = (Workload("shelves", 4),)
    scenario = replace(_SHORT, seconds=4, limited=1, workloads=work, fixed=tuple(faults))
    note(schedule_to_json(scenario, seed))
    assert scenarios.run_scenario("drawn", scenario, seed).failure is None


@given(st.lists(st.builds(Fault, st.just(0.5), _actions | _wishes), max_size=8))
def test_a_schedule_survives_being_stored(faults: list[Fault]) -> None:
    assert faults_from_json(faults_to_json(faults)) == tuple(faults)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"at": 1, "action": "Explode"}, "found Explode"),
        ({"at": 1, "action": "Crash", "nodes": 3}, "the fields of Crash"),
    ],
)
def test_an_unknown_fault_is_refused(row: dict[str, object], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        faults_from_json(json.dumps([row]))


# -- the oracle ----------------------------------------------------------------------------


def _told(*texts: str) -> Oracle:
    oracle = Oracle()
    before = ""
    for text in texts:
        oracle.edited(0, _PLACE, before, text)
        before = text
    return oracle


def _durable(*texts: str) -> Oracle:
    oracle = _told(*texts)
    oracle.taken(0)
    oracle.committed(0)
    return oracle


def test_the_oracle_notices_what_is_doubled_and_what_came_back() -> None:
    oracle = _told("q0z")
    oracle.changed(1, _PLACE, "q0z q0z")
    with pytest.raises(Violation, match="q0z stands 2 times"):
        oracle.check()
    for is_rotten in (False, True):  # then a peer that is behind may bring the state it had
        oracle = _told("q0z", "")
        for text in ("q0z", ""):
            oracle.changed(1, _PLACE, text)
        if is_rotten:
            oracle.damaged(1, _PLACE)
        oracle.changed(1, _PLACE, "q0z")
        with nullcontext() if is_rotten else pytest.raises(Violation, match="q0z came back"):
            oracle.check()


def test_the_oracle_notices_what_nobody_wrote_there_and_what_nobody_deleted() -> None:
    oracle = _told("q0z")
    oracle.changed(1, Coordinate(*[2] * 9), "q0z")
    with pytest.raises(Violation, match="where nobody wrote it"):
        oracle.check()
    oracle = _told("q0z")
    oracle.changed(0, _PLACE, "")
    with pytest.raises(Violation, match="q0z disappeared from"):
        oracle.check()


def test_the_oracle_owes_only_what_was_durable() -> None:
    oracle = _told("q0z")
    oracle.finish([{}, {}])
    oracle.taken(0)
    oracle.finish([{}, {}])
    oracle.committed(0)
    with pytest.raises(Violation, match="q0z was durable on 0 and is lost"):
        oracle.finish([{}, {}])
    oracle.finish([{_PLACE: "q0z"}] * 2)
    with pytest.raises(Violation, match="nodes 0 and 1 differ"):
        oracle.finish([{_PLACE: "q0z"}, {}])


def test_the_oracle_owes_what_a_user_was_told_is_durable() -> None:
    oracle = Oracle()
    edit = oracle.asked(_PLACE, "", "q0z")
    oracle.finish([{}])
    oracle.answered(0, edit)
    with pytest.raises(Violation, match="q0z was durable"):
        oracle.finish([{}])


def test_the_oracle_asks_for_no_copies_of_what_is_on_no_disk_of_a_node_that_is_on() -> None:
    oracle = _durable("q0z")
    assert oracle.fewest([0, 1]) == (1, f"q0z at {_PLACE}")
    assert oracle.fewest([1, 2]) == (2, "")


def test_the_oracle_asks_of_a_start_what_was_on_the_disk() -> None:
    oracle = _durable("q0z")
    oracle.edited(0, _PLACE, "q0z", "q0z q1z")
    oracle.started(0, {_PLACE: "q0z"})
    oracle.check()
    oracle.started(0, {})
    with pytest.raises(Violation, match="q0z was on the disk of 0"):
        oracle.check()
    oracle = _durable("q0z", "")
    oracle.started(0, {_PLACE: "q0z"})
    with pytest.raises(Violation, match="q0z was deleted from the disk of 0"):
        oracle.check()


def test_the_oracle_asks_of_a_disk_what_its_node_answered() -> None:
    oracle = Oracle()
    written = oracle.asked(_PLACE, "", "q0z")
    oracle.check_disk(0, {})
    oracle.answered(0, written)
    oracle.check_disk(0, {_PLACE: "q0z"})
    oracle.check_disk(1, {})
    with pytest.raises(Violation, match="q0z was on the disk of 0"):
        oracle.check_disk(0, {})
    oracle.violation = None
    deleted = oracle.asked(_PLACE, "q0z", "")
    oracle.check_disk(0, {})
    oracle.answered(0, deleted)
    with pytest.raises(Violation, match="q0z was deleted from the disk of 0"):
        oracle.check_disk(0, {_PLACE: "q0z"})


def test_the_oracle_owes_nothing_that_only_a_destroyed_disk_or_place_had() -> None:
    for is_all in (True, False):
        oracle = _durable("q0z")
        if is_all:
            oracle.destroyed(0)
        else:
            oracle.damaged(0, _PLACE)
        oracle.started(0, {})
        oracle.finish([{}])
        oracle.changed(1, _PLACE, "q0z")
        oracle.taken(1)
        oracle.committed(1)
        with pytest.raises(Violation, match="q0z was durable on 1"):
            oracle.finish([{}])


def test_what_other_disks_have_of_a_destroyed_one_is_still_owed() -> None:
    oracle = _durable("q0z", "q0z q1z")
    oracle.destroyed(0, [{_PLACE: "q0z"}])
    oracle.finish([{_PLACE: "q0z"}])
    with pytest.raises(Violation, match="q0z was durable"):
        oracle.finish([{}])


def test_the_oracle_holds_durable_deletions() -> None:
    oracle = _told("q0z", "")
    oracle.finish([{_PLACE: "q0z"}])
    oracle.taken(0)
    oracle.started(0, {_PLACE: "q0z"})  # it crashed before the batch was written
    oracle.committed(0)
    oracle.finish([{_PLACE: "q0z"}])
    with pytest.raises(Violation, match="q0z was deleted durably"):
        _durable("q0z", "").finish([{_PLACE: "q0z"}])


def test_the_oracle_notices_a_claim_before_the_write() -> None:
    oracle = _told("q0z")
    oracle.changed(1, _PLACE, "q0z")
    oracle.taken(1)
    oracle.committed(1)
    oracle.check_claim(0, 1)
    oracle.check()
    oracle.edited(0, _PLACE, "q0z", "q0z q1z")
    oracle.check_claim(0, 1)
    with pytest.raises(Violation, match="q1z was acknowledged to 0 and is not on disk 1"):
        oracle.check()


def _both_have(token: str) -> Oracle:
    oracle = Oracle()
    for node in (0, 1):
        oracle.started(node, {})
    oracle.edited(0, _PLACE, "", token)
    oracle.changed(1, _PLACE, token)
    for node in (0, 1):
        oracle.taken(node)
        oracle.committed(node)
    return oracle


def test_the_oracle_counts_the_disks_that_a_line_is_on_when_it_is_given_up() -> None:
    oracle = _both_have("q000000z")
    oracle.holds(0, ())
    oracle.check()
    oracle.holds(1, ())
    with pytest.raises(Violation, match=r"1 gives up q000000z .* on 0 other disks, expected 1"):
        oracle.check()


def test_a_copy_from_which_nobody_takes_the_line_does_not_count() -> None:
    oracle = _both_have("q000000z")
    oracle.territory.permit(1, (EVERYTHING,), ())
    oracle.holds(0, ())
    with pytest.raises(Violation, match=r"0 gives up q000000z .* on 0 other disks, expected 1"):
        oracle.check()


def test_the_oracle_owes_what_was_given_up_and_forgets_that_it_had_been_seen() -> None:
    oracle = _both_have("q000000z")
    oracle.holds(0, ())
    oracle.holds(0, (EVERYTHING,))
    oracle.changed(0, _PLACE, "q000000z")
    oracle.check()
    oracle.destroyed(1)
    with pytest.raises(Violation, match=r"q000000z was durable on .* and is lost"):
        oracle.finish([{}, {}])


def test_the_oracle_notices_what_is_shown_or_kept_and_not_held_or_not_allowed() -> None:
    everything = (EVERYTHING,)
    for ranges, readable, writable, found in (
        ((), everything, everything, "1 shows q000000z .* which it does not hold"),
        (everything, (), everything, "1 shows q000000z .* which it may not read"),
        (everything, everything, (), "q000000z .* on 1: 0 may not write there"),
    ):
        oracle = Oracle()
        oracle.territory.permit(1, readable, everything)
        oracle.edited(0, _PLACE, "", "q000000z")
        oracle.territory.permit(0, everything, writable)
        oracle.territory.hold(1, ranges)
        oracle.changed(1, _PLACE, "q000000z")
        with pytest.raises(Violation, match=found):
            oracle.check()


def test_the_oracle_notices_what_is_kept_and_not_held() -> None:
    oracle = _both_have("q000000z")
    oracle.holds(0, ())
    oracle.kept(0, [_PLACE], leaving=(EVERYTHING,))
    oracle.check()
    oracle.kept(0, [_PLACE])
    with pytest.raises(Violation, match=r"0 keeps .* which it does not hold"):
        oracle.check()


def test_of_what_a_member_may_write_only_equality_is_asked() -> None:
    oracle = _durable("q0z")
    oracle.tampered()
    oracle.changed(1, _PLACE, "q7z q7z")
    oracle.finish([{_PLACE: "q7z q7z"}] * 2)
    with pytest.raises(Violation, match="differ"):
        oracle.finish([{_PLACE: "q7z"}, {}])


@given(st.integers(0, 99), st.integers(0, 99))
def test_a_line_that_is_replaced_loses_its_token_whole(one: int, other: int) -> None:
    oracle = Oracle()
    tokens = []
    for _ in range(100):
        tokens.append(oracle.token())
        oracle.places[tokens[-1]] = _PLACE
    old, new = tokens[one], tokens[other]
    edits = minimal_edits(f"{old} note\n", f"{new} note\n")
    assert edits == ([] if old == new else [(0, len(old), new)])


# -- what a user meets ---------------------------------------------------------------------


def test_a_full_disk_refuses_edits_and_a_sleeping_machine_answers_nobody() -> None:
    world = World(1, 2)
    world.run_until(1)
    world.apply(FillDisk(0))
    assert world.edit(0, _PLACE, lambda replica: replica.append(_PLACE, "q0z\n"))
    world.run_until(2)
    assert not world.edit(0, _PLACE, lambda replica: replica.append(_PLACE, "q1z\n"))
    world.apply(Sleep(1, 5))
    assert not world.edit(1, _PLACE, lambda replica: replica.append(_PLACE, "q1z\n"))
    assert (world.metrics.writes, world.metrics.writes_accepted) == (2, 1)
    world.settle(10)
    assert world.text(1, _PLACE) == "q0z\n"


def test_a_partition_keeps_texts_apart_until_it_is_repaired() -> None:
    world = World(1, 3)
    world.run_until(1)
    world.apply(Partition(((0,), (1, 2))))
    world.edit(0, _PLACE, lambda replica: replica.append(_PLACE, "q0z\n"))
    world.run_until(5)
    assert [world.text(node, _PLACE) for node in range(3)] == ["q0z\n", "", ""]
    world.settle(10)
    assert world.text(2, _PLACE) == "q0z\n"
    assert world.metrics.updates > world.metrics.redundant


def test_fifty_nodes_with_eight_links_each_converge() -> None:
    world = World(1, 50, overlay=Overlay(50, 8).pairs)
    schedule_all(world, [Workload("logs", 0.2)], 2)
    world.run_until(2)
    world.settle(10)


def test_a_damaged_scroll_is_not_served_and_comes_back_from_a_peer() -> None:
    world = World(1, 2)
    world.edit(0, _PLACE, lambda replica: replica.append(_PLACE, "q0z\n"))
    world.run_until(1)
    world.apply(Damage(0))
    world.apply(Restart(0))
    assert world.text(0, _PLACE) == ""
    assert (world.metrics.reads, world.metrics.reads_answered) == (1, 0)
    world.run_until(2)
    assert world.text(0, _PLACE) == "q0z\n"


def _append(line: str, replica: Editor) -> None:
    replica.append(_PLACE, line)


def test_a_torn_write_is_there_wholly_or_not_at_all() -> None:
    texts = set()
    for seed in range(8):
        world = World(seed, 1)
        world.apply(Tear(0))
        for line in ("q0z\n", "q1z\n"):
            world.edit(0, _PLACE, partial(_append, line))
        world.run_until(1)
        assert not world.is_up(0)
        world.settle(5)
        texts.add(world.text(0, _PLACE))
    assert texts == {"", "q0z\nq1z\n"}


def test_a_deaf_node_is_not_taken_for_dead_and_catches_up() -> None:
    lines: list[str] = []
    world = World(1, 2, trace=lines.append)
    world.run_until(1)
    world.apply(Deafen(1, 6))
    world.edit(0, _PLACE, lambda replica: replica.append(_PLACE, "q0z\n"))
    world.run_until(7)
    assert not any("close" in line for line in lines)
    assert sum(repr(encode(Ping(0))) in line for line in lines) > 100
    world.run_until(8)
    assert world.text(1, _PLACE) == "q0z\n"


def test_a_clock_that_leaps_ends_links_and_no_text() -> None:
    lines: list[str] = []
    world = World(1, 2, trace=lines.append)
    world.edit(0, _PLACE, lambda replica: replica.append(_PLACE, "q0z\n"))
    world.run_until(1)
    world.apply(SetClock(0, wall_s=-1e9, leap_s=60))
    world.run_until(1.1)
    assert any("close" in line for line in lines)
    world.settle(5)
    assert world.text(1, _PLACE) == "q0z\n"


def test_a_clock_that_is_behind_has_no_tick_come_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    due: list[float] = []
    tick = Synchronizer.tick

    def watched(core: Synchronizer, now: float) -> float:
        assert not due or now >= due[-1]
        due.append(tick(core, now))
        return due[-1]

    world = World(1, 1)
    world.run_until(0.123)
    world.apply(Sleep(0, 17.21, is_counted=False))
    world.run_until(18)
    monkeypatch.setattr(Synchronizer, "tick", watched)
    world.run_until(60)
    assert len(due) > 80


def test_one_end_of_a_link_may_be_gone_and_the_pair_meets_anew() -> None:
    lines: list[str] = []
    world = World(1, 2, trace=lines.append)
    world.run_until(1)
    world.apply(HalfOpen(0, 1))
    world.edit(0, _PLACE, lambda replica: replica.append(_PLACE, "q0z\n"))
    world.run_until(2)
    assert sum("connect" in line for line in lines) == 2
    assert world.text(1, _PLACE) == "q0z\n"


def test_a_frame_over_the_limit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1, 2)
    monkeypatch.setattr(world._wires, "_limits", Limits(frame_bytes_max=10))
    with pytest.raises(Violation, match="made a frame of"):
        world.run_until(1)


def test_samples_are_imported_from_a_folder_and_edited(tmp_path: Path) -> None:
    (tmp_path / "notes.phext").write_text("one\ntwo\n\x17three")
    world = World(1, 2)
    schedule_all(world, [Workload("samples", 3, tmp_path)], 3)
    world.run_until(3)
    world.settle(5)
    texts = world.texts()[0]
    assert [place.parts[-1] for place in texts] == [1, 2]
    assert any("q" in text for text in texts.values())
