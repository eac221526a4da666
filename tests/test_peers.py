"""The benchmark of others beside this library: what it says of them, and that it ends."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.nodes import in_other, pin


def _serve_until_told(pipe: Connection) -> None:
    pipe.send("ready")
    pipe.recv()


def _tell_core(pipe: Connection) -> None:
    pin(1)
    pipe.send(os.sched_getaffinity(0))


def _fail(_pipe: Connection) -> None:
    raise SystemExit(1)


def test_who_is_faster_stands_behind_each_line() -> None:
    times = {
        "key_ms": {"phextsync": [0.3, 0.4, 9.0], "other": [0.5, 0.5, 0.5]},
        "line_ms": {"phextsync": [27.0], "slow": [9_848.0]},
    }
    assert peers.table(times) == [
        "| ms | phextsync | other | slow | fastest |",
        "| --- | --- | --- | --- | --- |",
        "| a key, from one client to another | 0.4 | 0.5 |  | phextsync |",
        "| a line of a file, to another directory | 27 |  | 9,848 | phextsync |",
    ]


def test_a_report_says_who_is_not_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_folder: Path, _quick: bool) -> dict[str, list[float]]:
        return {"key_ms": [1.0, 2.0, 3.0]}

    there = {"phextsync": (lambda: True, measure), "absent": (lambda: False, measure)}
    monkeypatch.setattr(peers, "_PEERS", there)
    report = peers.run(quick=True)
    assert report.figures.keys() == {"key_ms_phextsync"}
    assert report.to_text().splitlines()[-1].startswith("absent is not on this machine")
    section = peers.section(quick=True)
    assert "absent is not on this machine" in section.method
    assert [(each.median, each.note) for each in section.series] == [(2.0, "fastest")]


def test_a_node_serves_what_the_others_are_measured_with(tmp_path: Path) -> None:
    with peers.node(tmp_path) as (port, path_of):
        times = peers.documents(port, path_of, 10, 1)
    assert all(value > 0 for values in times.values() for value in values)


@pytest.mark.timeout(60)
def test_a_server_that_fails_ends_the_measurement() -> None:
    with pytest.raises(EOFError), in_other(_fail) as pipe:
        pipe.recv()


@pytest.mark.timeout(60)
def test_a_measurement_that_fails_ends_the_server() -> None:
    with pytest.raises(KeyError), in_other(_serve_until_told) as pipe:
        raise KeyError(pipe.recv())


def test_a_process_has_a_core_of_its_own_beside_one_that_is_pinned() -> None:
    before = os.sched_getaffinity(0)
    pin(0)
    try:
        with in_other(_tell_core) as pipe:
            theirs = pipe.recv()
        assert len(before) == 1 or theirs.isdisjoint(os.sched_getaffinity(0))
        assert len(os.sched_getaffinity(0)) == 1
    finally:
        os.sched_setaffinity(0, before)
