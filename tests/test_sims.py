"""The simulation repeats itself, finds planted defects, and keeps seeds that found real ones."""

import pytest

from phextsync.crdt import Scroll
from phextsync.protocol import Synchronizer
from phextsync.replica import ReplicaSet
from sims import steps
from tests.repetition import outputs

# 172: Yrs showed text behind a gap that it did not count in its state vector, so that equal
# versions had different texts.
_REGRESSIONS = (172,)


@pytest.mark.parametrize("seed", [*range(10), *_REGRESSIONS])
def test_a_random_schedule_converges_and_loses_nothing(seed: int) -> None:
    assert steps.run(seed)[0] is None


def test_one_seed_has_one_outcome_in_every_process() -> None:
    program = "from sims import steps; print([steps.run(seed) for seed in range(4)])"
    assert len(outputs(program)) == 1


def _first_failure(seeds: int) -> str | None:
    return next((found for seed in range(seeds) if (found := steps.run(seed)[0])), None)


def test_a_client_id_used_again_after_a_crash_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(replicas: ReplicaSet, phext: str) -> int:
        return replicas.node_id[0]

    monkeypatch.setattr(ReplicaSet, "draw_client_id", same)
    assert _first_failure(60) is not None


def test_a_missing_relay_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Synchronizer, "_take_update", lambda core, new: None)
    assert _first_failure(20) is not None


def test_deletions_that_are_not_sent_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Scroll.difference

    def without(scroll: Scroll, version: bytes) -> bytes | None:
        update = whole(scroll, version)
        return None if update is not None and update.startswith(b"\0") else update

    monkeypatch.setattr(Scroll, "difference", without)
    assert _first_failure(60) is not None


def test_acknowledging_before_the_write_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lie(core: Synchronizer) -> None:
        for link in core._links.values():
            link.durable = link.received

    receive = Synchronizer.receive

    def receive_and_lie(core: Synchronizer, now: float, link: int, frame: bytes) -> None:
        receive(core, now, link, frame)
        lie(core)

    monkeypatch.setattr(Synchronizer, "receive", receive_and_lie)
    assert _first_failure(60) is not None
