"""Each host of agents has a page; what it says is so, and the commands that it shows do it."""

import re
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from phextsync.cli.main import app
from phextsync.files.bindings import BindingStore
from phextsync.files.presets import PRESETS, Preset
from phextsync.hosts.configurations import HERMES, HOSTS, NAMES, Host, Written
from phextsync.hosts.hermes import TESTED
from sims.processes import make_folder

_HOWTO: Final = Path(__file__).parents[1] / "docs" / "howto"
_AGENTS: Final = (_HOWTO / "agents.md").read_text()
_PAGES: Final = sorted({*NAMES, *(preset.name for preset in PRESETS)})


def _page(name: str) -> str:
    return (_HOWTO / f"{name}.md").read_text()


def _commands(page: str) -> list[list[str]]:
    return [line.split() for line in re.findall(r"^ +phextsync (.*)$", page, re.MULTILINE)]


def test_the_page_about_agents_leads_to_the_page_of_each_host() -> None:
    section = _AGENTS.partition("## Your agents")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"\| \[[^]]*\]\((\S+)\.md\)", section)) == _PAGES
    # The others are typed by the test of the tutorial.
    assert {words[0] for words in _commands(section)} == {"init", "up", "status"}


@pytest.mark.parametrize("name", _PAGES)
def test_what_the_page_of_a_host_shows_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_folder(tmp_path / "data")
    for folder in ("home/.hermes", "home/.openclaw"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PHEXTSYNC_DATA", str(data))
    monkeypatch.chdir(tmp_path / "home")
    for words in _commands(_page(name)):
        assert words[:2] == ["integrate", name] or words[:3] == ["bind", "--preset", name], words
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.exception)
    bound = [each.preset for each in BindingStore(data).bindings()]
    assert bound == [preset.name for preset in PRESETS if preset.name == name]
    assert bool(Written(data).take_back(name)) == (name in NAMES)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_page_says_what_is_written_where(host: Host) -> None:
    page = _page(host.name)
    places = [".".join(host.path), host.user and f"~/{host.user}", host.project]
    assert [place for place in places if place and f"`{place}`" not in page] == []


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_page_says_which_files_a_preset_takes(preset: Preset) -> None:
    page = _page(preset.name)
    taken = [rule.strip("!/") for rule in preset.rules if rule[0] == "!" and rule != "!/projects/"]
    named = [f"`{name}`" for name in (preset.range, *taken)]
    named += [f"{most:,}" for _, most in preset.budgets]
    named.append(f"`FILE{preset.lock}`" if preset.lock else " lock")
    assert [text for text in named if text not in page] == []


def test_a_page_says_what_was_tested() -> None:
    for name in _PAGES:
        assert (TESTED if name == HERMES else "2026 was read") in _page(name), name
