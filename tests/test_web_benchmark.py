"""The benchmark of the web server: where a browser runs, and what is left out."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import page, web
from benchmarks.nodes import in_other, make_folders, pin
from benchmarks.page import running_browser
from benchmarks.report import Report


@pytest.fixture
def pinned() -> Iterator[set[int]]:
    """This process on one core; give those that it had."""
    before = os.sched_getaffinity(0)
    pin(0)
    yield before
    os.sched_setaffinity(0, before)


def _cores_of_descendants() -> list[set[int]]:
    """Return on which cores each may run; those that end meanwhile are left out."""
    found, cores = [os.getpid()], []
    for pid in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
            cores.append(os.sched_getaffinity(pid))
    return cores[1:]


@pytest.mark.real
def test_a_browser_has_all_cores_whatever_this_process_is_pinned_to(pinned: set[int]) -> None:
    with running_browser() as browser:
        if browser is None:
            pytest.skip("make browser")
        browser.new_page()
        cores = _cores_of_descendants()
        assert cores
        assert all(each == pinned for each in cores)
    assert len(os.sched_getaffinity(0)) == 1


def test_a_report_says_that_the_other_server_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "find_spec", lambda _name: None)
    report = Report()
    with in_other(web.run_node, make_folders(tmp_path, "one")[0], ()) as node:
        web.add_one_node(report, node.recv()[1], 20)
        node.send("stop")
    assert report.figures.keys() == {"one_node_p50_ms", "one_node_p99_ms"}
    assert report.notes == [
        "pycrdt-websocket is not on this machine, and left out; `make peers` brings it."
    ]


@pytest.mark.real
def test_keys_are_timed_with_nodes_and_without_and_with_plain_fields(tmp_path: Path) -> None:
    report = Report()
    with in_other(web.run_node, make_folders(tmp_path, "one")[0], (), None) as node:
        port = node.recv()[1]
        page.add_keys(report, (port, port), "/scroll/bench/2.1.1/1.1.1/1.1.1", "a\n" * 3, 10)
        node.send("stop")
    if not report.figures:
        pytest.skip("make browser")
    for name in ("key_to_browser_p50_ms", "browser_to_browser_p99_ms"):
        assert report.figures[name].yardstick == f"relayed_{name}"
        assert report.figures[f"relayed_{name}"].yardstick == f"bare_{name}"
        assert report.figures[f"bare_{name}"].value > 0
