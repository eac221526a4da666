"""The table of branches tells what each scenario reaches alone, and what none does."""

import importlib

import pytest

from sims.__main__ import main
from sims.branches import Branch, Reached, table

_ONE, _OTHER, _THIRD = (Branch("sync/link.py", line, -1) for line in (1, 2, 3))
_REACHED = Reached(
    frozenset({_ONE, _OTHER, _THIRD}),
    {"calm": frozenset({_ONE}), "crash": frozenset({_ONE, _THIRD})},
)


def test_what_no_scenario_reaches_is_told() -> None:
    assert _REACHED.never == [_OTHER]
    assert str(_OTHER) == "sync/link.py:2 -> out"


def test_what_one_scenario_alone_reaches_is_told() -> None:
    assert _REACHED.only("crash") == {_THIRD}
    assert not _REACHED.only("calm")


def test_a_table_tells_of_scenarios_and_rooms() -> None:
    lines = list(table(_REACHED))
    assert "| crash | 2 | 67% | 1 |" in lines
    assert "| sync | 3 | 1 (33%) |" in lines
    assert "| files | 0 | 0 (0%) |" in lines


def test_without_coverage_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert main(["branches", "--scenarios", "calm"]) == 2
    assert "pip install 'phextsync[test]'" in capsys.readouterr().err
