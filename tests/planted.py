"""Planted defects: seeds are run until one of them fails."""

import re
from collections.abc import Callable

import pytest

from phextsync.sync.synchronizer import Synchronizer
from sims.scenarios import run_scenario
from sims.tables import Scenario

Record = Callable[[str, object], None]


def caught(record: Record, scenario: Scenario, seeds: int, by: str) -> None:
    """Check that one of the first seeds fails, and how; record how many it took."""
    for seed in range(seeds):
        failure = run_scenario("planted", scenario, seed).failure
        if failure is not None:
            record("seeds", seed + 1)
            record("failure", failure)
            print(f"{seed + 1} seeds: {failure}")
            assert re.search(by, failure), failure
            return
    pytest.fail(f"{seeds} seeds passed")


def lie_about_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nodes acknowledge what they have received and not written."""
    receive = Synchronizer.receive

    def receive_and_lie(core: Synchronizer, now: float, link: int, frame: bytes) -> None:
        receive(core, now, link, frame)
        for known in core.links.values():
            known.ledger.durable = known.ledger.received

    monkeypatch.setattr(Synchronizer, "receive", receive_and_lie)
