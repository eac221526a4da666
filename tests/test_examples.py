"""The examples and the README's program run as they are written."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import phextsync
from phextsync.cli.main import app
from phextsync.gateways.tools import TOOLS
from phextsync.hosts.configurations import HOSTS, Host
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.processes import make_folder

_ROOT = Path(__file__).parents[1]
_SKILL = _ROOT / "integrations" / "skill" / "phextsync-memory" / "SKILL.md"
_PROGRAM = re.compile(r"```python\n(.*?)```", re.DOTALL)


def _run(*command: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.real
def test_a_replica_alone_keeps_what_was_written(tmp_path: Path) -> None:
    out = _run(str(_ROOT / "examples" / "alone.py"), home=tmp_path)
    assert out.splitlines()[-1] == r"26.1.1/1.1.1/1.1.1 'It rained.\nIt rained.\n'"


@pytest.mark.real
def test_two_agents_lose_nothing_to_a_partition(tmp_path: Path) -> None:
    out = _run(str(_ROOT / "examples" / "two_agents.py"), home=tmp_path)
    assert "they differ: True" in out
    assert out.endswith("both machines hold the same\n")


def test_the_skill_is_named_as_its_folder_and_knows_the_tools() -> None:
    text = _SKILL.read_text()
    front = re.match(r"---\nname: (.*)\ndescription: (.*)\n", text)
    assert front is not None
    assert front[1] == _SKILL.parent.name
    assert len(front[2]) <= 1024
    assert all(name in text for name in TOOLS)


@pytest.mark.parametrize("command", re.findall(r"^    (phextsync .*)", _SKILL.read_text(), re.M))
def test_the_commands_of_the_skill_work(tmp_path: Path, command: str) -> None:
    make_folder(tmp_path)
    words = shlex.split(re.sub(" [<>] .*", "", command), comments=True)
    done = CliRunner().invoke(app, words[1:], input="text", env={"PHEXTSYNC_DATA": str(tmp_path)})
    told = f"{done.stderr}{done.exception}"
    assert done.exit_code == 0 or re.search("there is no (scroll|box|message)|no scroll", told), (
        told
    )


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_each_host_has_a_configuration_to_put_in_by_hand(host: Host) -> None:
    readme = (_ROOT / "integrations" / "README.md").read_text()
    (row,) = (line for line in readme.splitlines() if f"howto/{host.name}.md" in line)
    path = _ROOT / "integrations" / row.split("`")[-2]
    loads: Callable[[str], Any] = tomllib.loads if path.suffix == ".toml" else json.loads
    found = loads(path.read_text())
    for key in (*host.path, "phextsync"):
        found = found[key]
    assert (found["command"], found["args"][:2]) == ("phextsync", ["mcp", "--data"])
    assert all(found[key] == value for key, value in host.more)


@pytest.mark.real
@pytest.mark.parametrize("is_running", [True, False])
def test_the_program_in_the_readme_runs_beside_a_node_or_alone(
    tmp_path: Path, is_running: bool
) -> None:
    program = re.search(r"```python\n(.*?)```", (_ROOT / "README.md").read_text(), re.DOTALL)
    assert program is not None
    folder = tmp_path / ".phextsync"
    NodeIdentity.create(MeshKey.generate(bytes(32)), "readme", bytes(range(32))).save(folder)
    node = phextsync.open(folder, host="127.0.0.1", discover=False) if is_running else nullcontext()
    with node:
        out = _run("-c", program[1].replace("timeout_s=5", "timeout_s=0"), home=tmp_path)
    assert out.startswith("Remember the milk.\nAnd the bread.\nexpected * of 'memory' on the disks")
    assert "no peer that holds * of 'memory' is connected" in out


def test_the_simulation_in_the_readme_runs(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", (_ROOT / "README.md").read_text(), re.DOTALL)
    out = _run("-c", programs[1], home=tmp_path)
    assert sorted(out.splitlines()) == ["", "q000000z from 0", "q000001z from 1"]


def test_the_examples_of_the_mapping_run(tmp_path: Path) -> None:
    page = (_ROOT / "docs" / "reference" / "phext.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(programs) == 8
    assert _run("-c", "".join(programs), home=tmp_path) == ""


@pytest.mark.real
def test_the_programs_of_the_page_on_embedding_run_one_after_another(tmp_path: Path) -> None:
    page = (_ROOT / "docs" / "howto" / "programs.md").read_text()
    make_folder(tmp_path / ".phextsync")
    outs = [_run("-c", program, home=tmp_path) for program in _PROGRAM.findall(page)]
    assert outs == [
        "2.1.1/1.1.1/1.1.1 one\n2.1.1/1.1.1/1.1.2 two\nRemember the milk.\nAnd the bread.\n",
        "From a coroutine.\n3.1.1/1.1.1/1.1.1 18\n(Coordinate('3.1.1/1.1.1/1.1.1'),)\n",
        "Written where the node runs.\n",
        "None editor A line.\n",
        "One.\nOne.\nTwo.\n",
        "One.\nTwo.\nFour.\n",
    ]


@pytest.mark.real
def test_the_program_of_the_page_on_history_runs(tmp_path: Path) -> None:
    page = (_ROOT / "docs" / "howto" / "history.md").read_text()
    make_folder(tmp_path / ".phextsync")
    reading, taking_back = _PROGRAM.findall(page)
    text = "Remember the milk.\n"
    out = f"+19 -0 {text}{text[:-1]} True True\n{text}1.5.2/3.7.3/9.1.1 {text}"
    assert _run("-c", reading, home=tmp_path) == out
    with phextsync.open(tmp_path / ".phextsync") as node, phextsync.writing_as("mail"):
        node.phext().append("1.1.1/1.1.1/1.1.1", "by a program\n")
    assert _run("-c", taking_back, home=tmp_path) == ""
    with phextsync.open(tmp_path / ".phextsync") as node:
        assert node.phext()["1.5.2/3.7.3/9.1.1"] == text
        assert "1.1.1/1.1.1/1.1.1" not in node.phext()


@pytest.mark.real
def test_the_program_of_the_page_on_the_memory_tool_runs(tmp_path: Path) -> None:
    page = (_ROOT / "docs" / "howto" / "memory-tool.md").read_text()
    make_folder(tmp_path / ".phextsync")
    out = _run("-c", _PROGRAM.findall(page)[0], home=tmp_path)
    assert out.splitlines() == [
        "File created successfully at: /memories/tea.md",
        "Here're the files and directories up to 2 levels deep in /memories, excluding hidden "
        "items:",
        "16B\t/memories",
        "16B\t/memories/tea.md",
        "Here's the content of /memories/tea.md with line numbers:",
        "     1\tAnna likes tea.",
        "     2\t",
    ]


def test_the_rule_of_the_claims_holds_under_partitions(tmp_path: Path) -> None:
    out = _run(str(_ROOT / "examples" / "claims.py"), home=tmp_path)
    assert out == "the agents always agreed\n"


def test_the_program_of_the_claims_is_short_and_a_rule_that_does_not_hold_is_refuted() -> None:
    text = (_ROOT / "examples" / "claims.py").read_text()
    program = text[text.index("from functools") :]
    assert sum(1 for line in program.splitlines() if line.strip()) < 40
    scope: dict[str, Any] = {"__name__": "claims"}
    exec(program.replace("min(text.splitlines(), default=None)", "object()"), scope)
    with pytest.raises(AssertionError):
        scope["test_agents_agree_who_owns_a_task"]()
