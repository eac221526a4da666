"""The commands that the page about agents shows do what it says."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phextsync.cli.main import app
from phextsync.files.bindings import BindingStore
from phextsync.files.presets import PRESETS
from phextsync.hosts.configurations import NAMES, Written
from sims.processes import make_folder

_PAGE = Path(__file__).parents[1] / "docs" / "howto" / "agents.md"
_ELSEWHERE = {"init", "up", "status"}  # typed by the test of the tutorial


def _commands() -> list[list[str]]:
    section = _PAGE.read_text().partition("## Your agents")[2].partition("\n## ")[0]
    return [line.split() for line in re.findall(r"^ +phextsync (.*)$", section, re.MULTILINE)]


def test_each_host_and_preset_has_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_folder(tmp_path / "data")
    for folder in ("home/.hermes", "home/.openclaw"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PHEXTSYNC_DATA", str(data))
    monkeypatch.chdir(tmp_path / "home")
    commands = _commands()
    assert {words[0] for words in commands} == {"bind", "integrate", *_ELSEWHERE}
    assert [words[1] for words in commands if words[0] == "integrate"] == [*NAMES[1:], NAMES[0]]
    for words in commands:
        if words[0] not in _ELSEWHERE:
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, (words, done.exception)
    bound = {each.preset: each.directory for each in BindingStore(data).bindings()}
    assert bound.keys() == {preset.name for preset in PRESETS}
    for name in NAMES:
        assert Written(data).take_back(name), name
