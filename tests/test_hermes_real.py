"""Real instances of hermes-agent on two machines lose and double nothing."""

import os
from pathlib import Path

import pytest

from sims import agents

pytestmark = [pytest.mark.real, pytest.mark.hosts, pytest.mark.timeout(3600)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where they run."""
    if not agents.PYTHON.exists():
        assert "CI" not in os.environ, "CI has to install hermes-agent"
        pytest.skip(agents.MISSING)
    return tmp_path


def test_what_real_instances_remember_under_cuts_and_kills_is_there_once(folder: Path) -> None:
    outcome = agents.run(folder, 60)
    assert (outcome.lost, outcome.doubled, outcome.refused) == ([], [], [])
    assert outcome.writes > 50
    assert (outcome.kills, outcome.cuts) == (6, 2)
