"""Scenarios: tables are checked before they run, faults of links happen to linked nodes."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.errors import PhextsyncError
from phextsync.testing import Fault, Hold, Reset, Shape, faults_from_json, faults_to_json
from phextsync.testing.faults import nodes_of
from phextsync.testing.metrics import Metrics
from phextsync.testing.workloads import Kind
from sims import scenarios, sweep
from sims.__main__ import main
from sims.overlays import Overlay
from sims.parameters import PARAMETERS, REQUIRED, parameters
from sims.schedules import GENERATORS, draw
from sims.swarm import swarmed
from sims.tables import SETTINGS, Scenario, built_in, read_scenarios

_REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "offline": {"machines": 2},
    "some": {"count": 1, "of": ["resets"]},
    "swarm": {"of": ["resets", "crashes"]},
}
_DOCS = (Path(__file__).parents[1] / "docs" / "explanation" / "simulation.md").read_text()


# -- overlays ------------------------------------------------------------------------------


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_every_node_has_as_many_links_as_its_scenario_says(shape: tuple[int, int]) -> None:
    nodes, degree = shape
    if degree == 1 and nodes > 2:
        with pytest.raises(ValueError, match=r"expected 0 \(all\) or 2 to .* found degree 1"):
            Overlay(nodes, degree)
        return
    links = Counter(node for pair in Overlay(nodes, degree).pairs for node in pair)
    wanted = [degree or nodes - 1] * nodes
    wanted[-1] += nodes % 2 and degree % 2  # a link has two ends
    assert sorted(links.values()) == wanted


@given(st.integers(3, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n - 1))))
def test_every_node_reaches_every_other_over_links(shape: tuple[int, int]) -> None:
    overlay = Overlay(*shape)
    reached = {0}
    while len(reached) < overlay.nodes:
        more = {b for b in range(overlay.nodes) if any(overlay.are_linked(a, b) for a in reached)}
        assert more - reached
        reached |= more


# -- generators ----------------------------------------------------------------------------


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("shape", [(2, 0), (5, 2), (8, 3), (9, 3), (12, 4)])
def test_faults_of_links_happen_to_nodes_that_are_linked(
    generator: str, shape: tuple[int, int]
) -> None:
    overlay, seconds = Overlay(*shape), 2.0
    for seed in range(20):
        faults = draw({generator: _REQUIRED.get(generator, {})}, Random(seed), overlay, seconds)
        for fault in faults:
            numbers = nodes_of(fault.action)
            assert all(0 <= number < overlay.nodes for number in numbers)
            assert 0 <= fault.at <= 1.25 * seconds  # what ends a fault may come a little later
            if isinstance(fault.action, Hold | Shape | Reset):
                assert overlay.are_linked(*numbers)


def test_a_mesh_of_few_links_passes_with_resets_and_slow_links(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(_OWN)
    scenario = read_scenarios(file)["own"]
    outcome = scenarios.run_scenario("own", scenario, 0)
    assert outcome.failure is None
    assert outcome.metrics["hops_max"] > 1


# -- tables --------------------------------------------------------------------------------

_OWN = """
[own]
about = "few links, and resets"
nodes = 8
degree = 3
seconds = 2.0
faults.resets = {}
faults.shapes = {}
"""


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("nodes = 1", "expected a whole number from 2 to 2000 as nodes, found 1"),
        ("nodes = true", "as nodes, found True"),
        ("nodes = 6\ndegree = 6", r"expected 0 \(all\) or 2 to 5 links .* found degree 6"),
        ("nodes = 6\ndegree = 1", r"expected 0 \(all\) or 2 to 5 links .* found degree 1"),
        ("limited = 7", "expected at most the number of nodes as limited, found 7"),
        ("faults.regions = { count = 1 }", "a whole number from 2 to 16 for count .* regions"),
        ("faults.regions = { latency_s = 3 }", "a number from 0 to 2 for latency_s"),
        ("faults.placed = { copies = 0 }", "a whole number from 1 to 16 for copies"),
        ("seconds = 0", "expected a number above 0 .* as seconds, found 0"),
        ("settle_s = 'long'", "expected a number above 0 .* as settle_s, found 'long'"),
        ("socket_bytes = 0.5", "expected a whole number of bytes above 0 as socket_bytes"),
        ("tier = 'paper'", "expected one of world, memory, real as tier, found 'paper'"),
        ("colour = 'red'", "expected about, nodes, degree, .* found colour"),
        ("workloads = 3", "expected a table of times a second, .* as workloads, found 3"),
        ("workloads = { knitting = 1 }", "for some of logs, memory, .* found {'knitting': 1}"),
        ("workloads = { logs = 0 }", "expected a table of times a second, above 0"),
        ("faults = ['resets']", "expected a table of generators as faults"),
        ("faults.floods = {}", "expected faults among halves, .* found floods"),
        ("faults.resets = 3", "expected a table for the faults resets, found 3"),
        ("faults.resets = { often = 3 }", "expected times for the faults resets, found often"),
        ("faults.rolling = { times = 3 }", "expected no parameters for the faults rolling"),
        ("faults.resets = { times = -1 }", "expected a whole number .* resets, found -1"),
        ("faults.resets = { times = 1.5 }", "expected a whole number .* resets, found 1.5"),
        ("faults.halves = { is_oneway = 1 }", "expected true or false for is_oneway"),
        ("faults.shapes = { reordering = 1 }", "expected a fraction up to 0.9 for reordering"),
        ("faults.garbage = { of = 'gold' }", "expected \"\" or one of noise, .* found 'gold'"),
        ("faults.offline = {}", "expected machines for the faults offline, found none"),
        ("faults.offline = { machines = 7 }", "expected at most the number of nodes"),
        ("faults.some = { count = 2, of = ['holds'] }", "expected at most the number of kinds"),
        ("faults.some = { count = 1, of = ['offline'] }", "for of of the faults some"),
    ],
)
def test_a_wrong_scenario_is_one_line_that_names_it_and_what_was_expected(
    table: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text(f"[fine]\n[wrong]\n{table}\n")
    assert main(["sweep", "--file", str(file), "--seeds", "0"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(f"my.toml: scenario wrong: .*{expected}", error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a table for each scenario, found none"),
        ("nodes = 3", "expected a table for each scenario, found nodes = 3"),
        ("defaults = 3", "expected a table for each scenario, found defaults = 3"),
        ("[own", "my.toml: Expected"),
        ("[steps]", "scenario steps: expected another name"),
        ("['a,b']", "scenario a,b: expected another name"),
    ],
)
def test_a_wrong_file_of_scenarios_is_one_line(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    assert main(["run", "calm", "--file", str(file)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert expected in error


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": "x"}, "expected a whole number as seed, found 'x'"),
        ({"nodes": 0}, "expected a whole number from 2 to 2000 as nodes, found 0"),
        ({"faults": {}}, "expected a list of faults"),
        ({"faults": [3]}, "expected a fault at a time in seconds, found 3"),
        ({"faults": [{"at": "x", "action": "Repair"}]}, "expected a fault at a time in seconds"),
        ({"faults": [{"at": 1, "action": "Rain"}]}, "expected one of Clone, .* found Rain"),
        ({"faults": [{"at": 1, "action": "Crash"}]}, "expected the fields of Crash"),
        ({"faults": [{"at": 1, "action": "Crash", "node": "x"}]}, "found node = 'x'"),
        ({"faults": [{"at": 1, "action": "Crash", "node": 6}]}, "expected nodes 0 to 5"),
        (
            {"faults": [{"at": 1, "action": "Hold", "source": 0, "target": 3}], "degree": 2},
            "expected two nodes that are linked",
        ),
    ],
)
def test_a_wrong_schedule_is_one_line_that_names_its_file(
    change: dict[str, object],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "stored.json"
    file.write_text(json.dumps({"seed": 1, "nodes": 6, "faults": [], **change}))
    assert main(["run", str(file)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(f"stored.json: .*{expected}", error)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("my.toml", None, "No such file or directory"),
        ("my.toml", "[own", "my.toml: Expected"),
        ("my.toml", "[own]\nnodes = 0", "scenario own: expected a whole number"),
        ("my.toml", "[own]\n[other]", r"one of its scenarios \(own, other\) and --file .*my.toml"),
        ("my.json", None, "No such file or directory"),
        ("my.json", "{", "my.json: Expecting"),
        ("my.json", '{"kinds": [3]}', "my.json: expected a schedule of directories"),
        ("my.json", '{"kinds": []}', "my.json: expected a schedule of directories: .*seed"),
        ("my", None, "No such file or directory"),
        ("my", "[own", "my: Expecting"),
    ],
)
def test_what_is_wrong_with_a_file_that_is_to_be_run_is_one_line_about_it(
    name: str, text: str | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    assert main(["run", str(file)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(expected, error)
    assert "calm" not in error


def test_of_a_name_that_a_file_lacks_its_own_are_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text(_OWN)
    assert main(["run", "owm", "--file", str(file)]) == 2
    assert f"expected one of {file} (own) or one of calm" in capsys.readouterr().err


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_fault_that_is_drawn_can_be_stored(generator: str) -> None:
    faults = draw({generator: _REQUIRED.get(generator, {})}, Random(1), Overlay(6))
    assert faults_from_json(faults_to_json(faults)) == tuple(faults)


# -- swarms --------------------------------------------------------------------------------


def test_each_seed_of_a_swarm_has_other_kinds_of_trouble() -> None:
    calm = swarmed(built_in(), "world")["calm"]
    drawn = [_kinds_of(calm.faults(Random(seed))) for seed in range(12)]
    assert len({frozenset(kinds) for kinds in drawn}) > 6
    assert drawn[0] == _kinds_of(calm.faults(Random(0)))


def test_a_swarm_has_what_a_tier_can_have_and_an_oracle_can_judge() -> None:
    calm, holding = (swarmed(built_in(), "world")[name] for name in ("calm", "holding"))
    whole = swarmed(built_in(), "memory")["calm"]
    everything = {*calm.generators["swarm"]["of"]}
    assert {*holding.generators["swarm"]["of"]} == everything - {"torn"}
    assert {*whole.generators["swarm"]["of"]} < everything
    assert "some" not in holding.generators
    assert "holdings" in holding.generators


def test_a_failure_in_a_swarm_is_repeated_with_the_swarm(
    capsys: pytest.CaptureFixture[str],
) -> None:
    impatient = {"calm": replace(swarmed(built_in(), "world")["calm"], settle_s=1e-9)}
    assert sweep.sweep(["calm"], [3], jobs=1, known=impatient, is_swarm=True) == 1
    assert "again: python -m sims run calm --seed 3 --swarm\n" in capsys.readouterr().out


def test_a_run_has_a_swarm_when_it_is_asked_for(tmp_path: Path) -> None:
    stored = tmp_path / "swarm.json"
    assert main(["run", "calm", "--seed", "3", "--swarm", "--store", str(stored)]) == 0
    assert len(json.loads(stored.read_text())["faults"]) > 5
    assert main(["run", "calm", "--seed", "3", "--store", str(stored)]) == 0
    assert not json.loads(stored.read_text())["faults"]


def _kinds_of(faults: Iterable[Fault]) -> set[str]:
    return {type(fault.action).__name__ for fault in faults}


# -- scenarios of one's own ----------------------------------------------------------------


def test_a_sweep_of_a_file_runs_its_scenarios_in_other_processes_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text(_OWN + "[other]\nnodes = 2\nseconds = 0.5\n")
    assert main(["sweep", "--file", str(file), "--seeds", "0", "--jobs", "1"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["own", "other", "2"]


def test_a_scenario_of_a_file_comes_before_one_of_the_same_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[calm]\nnodes = 2\nseconds = 0.5\nworkloads = { churn = 1 }\n")
    assert main(["run", "calm", "--file", str(file), "--seed", "1"]) == 0
    own = capsys.readouterr().out
    assert int(re.findall(r"frames +(\d+)", own)[0]) < 1000  # six nodes make more
    assert "outcome            passed" in own


def test_the_command_that_repeats_a_seed_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my own.toml"
    file.write_text("[own]\nsettle_s = 1e-9\nseconds = 3.0\nfaults.halves = {}\n")
    argv = ["sweep", "--file", str(file), "--seeds", "1", "--jobs", "1"]
    assert main(argv) == 1
    again = re.findall(r"again: python -m sims (.*)", capsys.readouterr().out)[0]
    assert shlex.split(again) == ["run", "own", "--seed", "1", "--file", str(file)]


def test_a_report_of_a_file_leaves_out_what_has_no_data(tmp_path: Path) -> None:
    file, out = tmp_path / "my.toml", tmp_path / "out"
    file.write_text("[own]\nnodes = 2\nseconds = 0.5\nworkloads = { churn = 1 }\n")
    assert main(["report", str(out), "--file", str(file), "--seeds", "0", "--jobs", "1"]) == 0
    text = (out / "report.md").read_text()
    figures = sorted(path.stem for path in out.glob("*.svg"))
    assert "| own | 2 | 1 | 0 |" in text
    assert "topology" in figures
    assert not {"availability", "nodes"} & {*figures}
    assert sorted(re.findall(r"!\[(\w+)\]", text)) == figures
    assert "reads answered" not in text


def test_a_sweep_that_reached_no_end_shows_no_time_until_it_was_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[own]\nsettle_s = 1e-9\nseconds = 3.0\nfaults.sleepers = { times = 40 }\n")
    json_file = tmp_path / "out.json"
    argv = ["sweep", "--file", str(file), "--seeds", "1", "--jobs", "1"]
    assert main([*argv, "--json", str(json_file)]) == 1
    assert "equal after" not in capsys.readouterr().out
    assert main(["report", str(tmp_path / "out"), str(json_file), "--file", str(file)]) == 0
    assert "until all nodes are equal" not in (tmp_path / "out" / "report.md").read_text()
    assert main(["compare", str(json_file), str(json_file)]) == 0
    assert "converged_ms" not in capsys.readouterr().out


def test_metrics_without_data_are_left_out() -> None:
    found = Metrics(without=("backlog_max",), reads=4, reads_answered=3).as_dict()
    assert found["read_availability"] == 0.75
    assert not {"write_availability", "overhead", "hops_max", "converged_ms"} & {*found}
    assert not {"backlog_max", "without"} & {*found}


def test_faults_that_whole_nodes_cannot_have_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[own]\nnodes = 2\nfaults.clocks = {}\n")
    with pytest.raises(PhextsyncError, match=r"scenario own: .* whole nodes, found SetClock"):
        scenarios.run("own", 0, tier="memory", known=read_scenarios(file))


# -- what is documented --------------------------------------------------------------------


def _rows(heading: str) -> list[list[str]]:
    section = _DOCS.partition(f"### {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_field_of_a_scenario_is_documented() -> None:
    rows = _rows("Fields of a scenario")
    assert [row[0].strip("`") for row in rows] == list(SETTINGS)
    assert [row[2] for row in rows] == [setting.about for setting in SETTINGS.values()]
    names = {field.name for field in fields(Scenario)}
    assert names - {"generators", "fixed"} == {*SETTINGS} - {"faults"}


def test_every_workload_is_documented() -> None:
    assert [row[0].strip("`") for row in _rows("Workloads")] == list(get_args(Kind))


def test_every_parameter_of_a_generator_is_documented_with_its_default() -> None:
    found = [(row[0].strip("`"), row[1].strip("`"), row[2].strip("`")) for row in _rows("Faults")]
    expected = []
    for generator in GENERATORS:
        known = parameters(generator) or {"": ""}
        for name, default in known.items():
            shown = "" if not name else "needed" if default is REQUIRED else json.dumps(default)
            expected.append((generator, name, shown))
    assert found == expected
    assert {(g, n) for g, n, _ in expected if n} == {*PARAMETERS}
    abouts = [row[4] for row in _rows("Faults") if row[1]]
    assert abouts == [PARAMETERS[generator, name].about for generator, name, _ in expected if name]


def test_the_documented_scenario_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(_DOCS.partition("```toml\n")[2].partition("```")[0])
    assert [*read_scenarios(file)] == ["laptops"]
