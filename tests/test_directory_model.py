"""Every order of two acts at two bound directories is right, and planted defects are found."""

import pytest

from sims.__main__ import main
from sims.directory_model import Act, Found, Plan, Run, run_all, search
from tests.planted_files import (
    forget_intents,
    run_ahead_of_the_disk,
    write_before_the_intent,
    write_over_unseen,
)

_CRASHED_AND_DELETED = Plan(
    (Act("edit", 0), Act("crash", 1), Act("delete", 1)), gaps=("told", "work")
)


def _failure(found: Found) -> str:
    assert found.failures
    return found.failures[0][1]


def _found(plan: Plan) -> Found:
    found = Found()
    run_all(plan, found)
    return found


def test_nothing_is_wrong_after_a_crash_at_any_call() -> None:
    found = search(2, acts=("edit", "crash"))
    assert (found.failures, found.cut_off) == ([], 0)
    assert found.runs > 50


def test_a_search_says_what_it_left_out() -> None:
    assert search(2, seconds_max=0).cut_off > 0


def test_it_is_run_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "--directories", "--operations", "1"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert main(["model", "--directories", "--of", "append"]) == 2


def test_a_run_says_what_it_is_made_of() -> None:
    plan = Plan((Act("edit", 0), Act("crash", 1, 7)), ("told",))
    assert str(plan) == "edit on 0, told, crash on 1 before call 7, rest"
    assert Run(plan).run() is None


# -- planted defects -----------------------------------------------------------------------


def test_a_file_that_is_written_over_unseen_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    write_over_unseen(monkeypatch)
    assert _failure(search(2, acts=("edit",), failures_max=1)).startswith("lost")


def test_a_record_ahead_of_the_disk_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    run_ahead_of_the_disk(monkeypatch)
    assert _failure(search(2, acts=("edit",), failures_max=1)).startswith("lost")


def test_a_deletion_after_a_crash_at_any_call_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _found(_CRASHED_AND_DELETED).failures


def test_intents_that_are_not_looked_at_after_a_crash_bring_lines_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_intents(monkeypatch)
    assert _failure(_found(_CRASHED_AND_DELETED)).startswith("back")


def test_a_file_that_is_written_before_its_intent_is_durable_brings_lines_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_before_the_intent(monkeypatch)
    assert _failure(_found(_CRASHED_AND_DELETED)).startswith("back")
