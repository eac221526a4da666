"""`python -m sims`: seeds that found something pass, sweeps run anywhere, reports can be read."""

import csv
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phextsync.testing import Crash, faults_to_json
from phextsync.testing.trace import generator
from sims import directories, directory_schedules, scenarios, steps, sweep
from sims.__main__ import main
from sims.scenarios import Outcome
from sims.tables import Scenario, built_in, read_schedule
from tests.repetition import outputs

# 172: Yrs showed text behind a gap that it did not count in its state vector, so that equal
# versions had different texts.
_REGRESSIONS = (172,)


@pytest.mark.parametrize("seed", [*range(4), *_REGRESSIONS])
def test_a_random_schedule_converges_and_loses_nothing(seed: int) -> None:
    assert steps.run(seed)[0] is None


@pytest.mark.parametrize(
    "program",
    [
        "from sims import steps; print([steps.run(seed) for seed in range(4)])",
        "from sims import scenarios; print(scenarios.run('havoc', 1).digest)",
    ],
)
def test_one_seed_has_one_outcome_in_every_process(program: str) -> None:
    assert len(outputs(program)) == 1


# -- scenarios -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", scenarios.small("world"))
def test_every_scenario_passes(name: str) -> None:
    assert scenarios.run(name, 0).failure is None


def test_a_trace_tells_what_happened() -> None:
    lines: list[str] = []
    assert scenarios.run("calm", 0, lines.append).failure is None
    assert any("connect" in line for line in lines)
    assert any("commit" in line for line in lines)


_STORED = sorted((Path(__file__).parent / "vectors" / "schedules").glob("*.json"))


@pytest.mark.parametrize("path", _STORED, ids=lambda path: path.stem)
def test_a_stored_schedule_passes(path: Path) -> None:
    scenario, seed = read_schedule(path)
    assert scenarios.run_scenario(path.stem, scenario, seed).failure is None


_OF_DIRECTORIES = sorted((Path(__file__).parent / "vectors" / "directories").glob("*.json"))


@pytest.mark.parametrize("path", _OF_DIRECTORIES, ids=lambda path: path.stem)
def test_a_stored_schedule_of_directories_passes(path: Path) -> None:
    assert directories.run_schedule(directory_schedules.read_stored(path))[0] is None


@pytest.mark.parametrize("seed", range(4))
def test_directories_end_equal_with_every_line_once(seed: int) -> None:
    assert directories.run(seed)[0] is None


def test_a_schedule_that_is_stored_runs_as_the_seed_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "crash.json"
    argv = ["run", "crash", "--seed", "3", "--store", str(path)]
    digests = []
    for arguments in (argv, ["run", str(path)]):
        assert main(arguments) == 0
        digests.append(capsys.readouterr().out.partition("digest")[2].split()[0])
    assert digests[0] == digests[1]
    scenario, _ = read_schedule(path)
    drawn = built_in()["crash"].faults(generator(3, "faults"))
    assert faults_to_json(scenario.fixed) == faults_to_json(drawn)


def test_what_is_shrunk_fails_alike_with_no_more_faults_than_that_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, scenario: Scenario, seed: int, *_: object, **__: object) -> Outcome:
        faults = scenario.faults(generator(seed, "faults"))
        crashed = {fault.action.node for fault in faults if isinstance(fault.action, Crash)}
        failure = f"node {len(faults)} is gone" if {1, 4} <= crashed else None
        return Outcome(name, seed, failure, "", 0.0, {})

    monkeypatch.setattr(scenarios, "run_scenario", run)
    path = tmp_path / "few.json"
    assert main(["run", "crash", "--seed", "2", "--store", str(path), "--shrink"]) == 1
    scenario, _ = read_schedule(path)
    assert sorted(fault.action.node for fault in scenario.fixed) == [1, 4]  # type: ignore[union-attr]


def test_machines_that_are_away_are_missed_by_nobody() -> None:
    metrics = [scenarios.run(f"offline-{away}", 0).metrics for away in (0, 1, 2)]
    assert all(m["read_availability"] == m["write_availability"] == 1 for m in metrics)
    assert metrics[0]["writes"] > metrics[1]["writes"] > metrics[2]["writes"]


# -- the command ---------------------------------------------------------------------------


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sims.steps.run", lambda seed: ("it broke" if seed == 1 else None, ""))


@pytest.mark.usefixtures("_broken")
def test_a_failing_seed_prints_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "executor", lambda where, jobs: ThreadPoolExecutor(1))
    assert main(["sweep", "--scenarios", "steps", "--seeds", "0-2"]) == 1
    out = capsys.readouterr().out
    assert "steps, seed 1: it broke\n  again: python -m sims run steps --seed 1\n" in out
    assert out.endswith("2 passed, 1 failed\n")


def test_a_sweep_on_a_cluster_finds_what_processes_find(
    tmp_path: Path, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "processes.json", tmp_path / "cluster.json"]
    argv = ["sweep", "--scenarios", "steps,offline-2", "--seeds", "0-1", "--jobs", "1"]
    assert main([*argv, "--json", str(files[0])]) == 0
    assert main([*argv, "--json", str(files[1]), "--executor", cluster]) == 0
    digests = [[row["digest"] for row in json.loads(file.read_text())] for file in files]
    assert digests[0] == digests[1]
    capsys.readouterr()
    assert main(["compare", *map(str, files)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert all(row[2] == row[3] for row in rows if row[1:2] == ["bytes"])


@pytest.fixture
def cluster() -> Iterator[str]:
    """A Dask cluster in this process."""
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as local:
        yield local.scheduler_address.replace("tcp://", "dask://")


def test_a_report_has_tables_and_figures(tmp_path: Path) -> None:
    names = ["offline-0", "offline-1", "halves"]
    outcomes = [scenarios.run(name, seed) for name in names for seed in (0, 1)]
    sweep.write(tmp_path / "sweep.json", outcomes)
    assert main(["report", str(tmp_path / "out"), str(tmp_path / "sweep.json")]) == 0
    with (tmp_path / "out" / "outcomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scenario"] for row in rows] == [n for n in names for _ in (0, 1)]
    assert float(rows[0]["bytes"]) == outcomes[0].metrics["bytes"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| halves | 6 | 2 | 0 |" in text
    for name in ("topology", "convergence", "nodes", "availability"):
        assert f"]({name}.svg)" in text
        assert (tmp_path / "out" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["run", "nowhere"], "expected one of calm, .* found nowhere"),
        (["run", "nowhere.json"], "No such file"),
        (["run", "steps", "--store", "x.json"], "a schedule of faults, found steps"),
        (["sweep", "--executor", "ssh://host"], "expected an executor like dask://host:port"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    argv: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(found, error)
