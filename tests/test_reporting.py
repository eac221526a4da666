"""Reports hold every value that they were given, and refuse to be written with holes."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measurements import missed
from benchmarks.report import Report as Measured
from benchmarks.report import still_far
from phextsync.errors import PhextsyncError
from phextsync.gateways import measured
from phextsync.reporting import Curve, Document, Plot, Section, Series, cumulative, draw, ring
from sims.processes import mesh

_VALUES = (0.5, 1.25, 3.0)
_BARS = Plot("ways", "Ways", x_label="ns", is_log_x=True, bars=(("a file", 20.0), ("a dict", 1.5)))
_PLOT = Plot("growth", "Growth", (Curve("a|b", (1.0, 10.0), (2.0, 3.0)),), "days", "MB", True)


def _document(*series: Series) -> Document:
    section = Section("Times", "Three runs.", series, (_PLOT,))
    return Document("Report", "do it", [section], {"cores": "2"})


def test_a_report_has_every_value_in_csv_and_json(tmp_path: Path) -> None:
    _document(Series("a|b", "ms", _VALUES, "beside c")).write(tmp_path)
    with (tmp_path / "figures" / "series.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["series"], float(row["value"])) for row in rows] == [("a|b", v) for v in _VALUES]
    found = json.loads((tmp_path / "figures" / "series.json").read_text())
    assert found["sections"]["Times"][0]["values"] == list(_VALUES)
    text = (tmp_path / "report.md").read_text()
    assert "| a\\|b | ms | 3 | 1.25 | 0.5 to 3 |  |  | 3 | beside c |" in text
    assert "    do it\n" in text
    assert "| cores | 2 |" in text
    assert "(figures/growth.svg)" in text


@pytest.mark.parametrize("document", [_document(Series("a", "ms", ())), _document()])
def test_an_empty_series_is_refused(document: Document, tmp_path: Path) -> None:
    with pytest.raises(PhextsyncError, match="expected values in every series"):
        document.write(tmp_path)


def test_equal_figures_are_equal_bytes(tmp_path: Path) -> None:
    curves, labels = ring(["one", "two"], [(0, 1)])
    for plot in (_PLOT, _BARS, Plot("ring", "Ring", curves, labels=labels)):
        for folder in (tmp_path / "a", tmp_path / "b"):
            folder.mkdir(exist_ok=True)
            draw(plot, folder)
        for kind in ("svg", "png"):
            one, other = ((tmp_path / f / f"{plot.name}.{kind}").read_bytes() for f in "ab")
            assert one == other


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_least_value_that_holds_its_part(found: list[float], part: float) -> None:
    value = Series("a", "ms", tuple(found)).quantile(part)
    assert sum(other <= value for other in found) >= part * len(found) - 1e-9
    assert sum(other < value for other in found) < part * len(found) + 1e-9


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_cumulative_curve_rises_to_one(found: list[float]) -> None:
    curve = cumulative("a", found)
    assert curve.ys[-1] == 1.0
    for x, y in zip(curve.xs, curve.ys, strict=True):
        assert sum(value <= x for value in found) >= y * len(found) - 1e-9
        assert sum(value < x for value in found) < y * len(found)


def test_a_series_far_from_its_band_is_named() -> None:
    document = Document("Report", "do it")
    assert "index over dict @1e4: expected at most 1.2: MISSED, found nan" in missed(document)
    for value, is_far in ((1.0, False), (2.3, False), (2.5, True)):
        series = Series("index over dict @1e4", "ratio", (value,))
        document.sections = [Section("Look-ups", "", (series,))]
        assert any(line.startswith("index over dict") for line in missed(document)) is is_far


@pytest.mark.parametrize(
    ("name", "values", "is_missed"),
    [
        ("takeover_ms", (4900.0, 4900.0), False),
        ("takeover_ms", (5100.0, 4900.0), False),
        ("takeover_ms", (5100.0, 5100.0), True),
        ("edit_cpu_ratio", (3.5, 3.5), False),
        ("edit_cpu_ratio", (3.6, 3.6), True),
        ("edit_wire_bytes", (75.0, 75.0), False),
        ("edit_wire_bytes", (75.1, 75.1), True),
        ("first_sync_scrolls_per_s@1e4", (6100.0, 6100.0), False),
        ("first_sync_scrolls_per_s@1e4", (5900.0, 5900.0), True),
        ("a_figure_without_a_band", (1e9, 1e9), False),
    ],
)
def test_a_figure_is_missed_that_is_far_from_its_band_twice(
    name: str, values: tuple[float, float], is_missed: bool
) -> None:
    first, second = Measured(), Measured()
    first.add(name, values[:1], "")
    second.add(name, values[1:], "")
    assert still_far(first, lambda: second) == ([name] if is_missed else [])


def test_what_is_in_its_band_is_not_measured_again() -> None:
    report = Measured()
    report.add("takeover_ms", [10.0], "ms")
    assert still_far(report, lambda: pytest.fail("measured again")) == []


@pytest.mark.real
def test_a_running_node_measures_and_leaves_nothing(tmp_path: Path) -> None:
    options = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")
    with mesh(tmp_path, ["one", "two"], options=options) as nodes:
        nodes[0].start()
        nodes[1].options += ("--peer", f"127.0.0.1:{nodes[0].status()['port']}")
        nodes[1].start()
        nodes[0].wait_until(lambda status: len(status["peers"]) == 1)
        nodes[1].wait_until(lambda status: len(status["peers"]) == 1)
        out = tmp_path / "out"
        command = [sys.executable, "-m", "phextsync.cli", "measure", "--out", os.fspath(out)]
        command += ["--data", os.fspath(nodes[0].folder)]
        subprocess.run(command, check=True, capture_output=True)
        assert nodes[0].ask("count", "measure", "*") == 0
        text = (out / "report.md").read_text()
        assert "edit to durable at all peers" in text
        assert (out / "figures" / "topology.svg").exists()
        kept = measured.kept(nodes[0].folder)
        assert kept is not None
        assert "edit to durable here" in {row[0] for row in kept.sections[0].rows}
        node_count = nodes[0].status()["store"]["syncs"]["count"]
        assert node_count >= 50
        nodes[0].ask("set", "measure", "1.1.1/1.1.1/1.1.2", "mine")
        again = subprocess.run(command, capture_output=True, text=True)
        assert (again.returncode, "to be empty, found scrolls" in again.stderr) == (1, True)
