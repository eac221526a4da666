"""Every order of what three voters are asked is right, and planted defects are found."""

from dataclasses import replace

import pytest

from phextsync.agents.claims import Known, lines_of_voter
from phextsync.agents.task_layout import NO_BALLOT, Electorate
from sims import claim_model
from sims.__main__ import main
from sims.claim_model import search


def test_nothing_is_wrong_after_any_two_operations() -> None:
    found = search(2)
    assert (found.failure, found.cut_off) == (None, 0)
    assert found.worlds > 1000


def test_it_is_run_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "--claims"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


# -- planted defects -----------------------------------------------------------------------


def test_a_voter_that_forgets_its_ballot_votes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(known: Known, voter: str, *, is_overdue: bool = False) -> list[str]:
        ballots = {**known.ballots, voter: NO_BALLOT}
        return lines_of_voter(replace(known, ballots=ballots), voter, is_overdue=is_overdue)

    monkeypatch.setattr(claim_model, "lines_of_voter", forgets)
    found = search(2)
    assert found.failure is not None
    assert found.failure.startswith("a voter voted twice")
    assert len(found.steps) <= 4


def test_a_third_of_the_voters_is_no_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Electorate, "majority", 1)
    found = search(2)
    assert found.failure is not None
    assert found.failure.startswith("two claims of one fence are firm")
