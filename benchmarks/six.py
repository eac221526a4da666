"""Six: what six nodes that hold everything pay for what serves many nodes that hold parts.

Six cores, all linked; what an edit takes at all of them is counted, which is the same on a busy
machine: functions that are called, bytes and frames that are sent, and functions on the way to the
first other node. Yardstick: what the last version took that knew of no placement, of no overlay
and of no guests, counted in the same way; `six_overhead_ratio` is the worst of the four ratios.

With `--against FOLDER` another version is counted beside this one, and both are timed in turns, so
that what else the machine does hits both alike. Its folder is made by

    git worktree add --detach /tmp/before 032f6d0
    pip install --no-deps --target /tmp/before-installed /tmp/before
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import six_cores
from benchmarks.report import Report

BEFORE: Final[Mapping[str, float]] = {
    "calls": 1999.16,
    "bytes": 402.66,
    "frames": 8.75,
    "way": 317.0,
}
"""What version 032f6d0 took of CPython 3.11: the last one before placement."""

_TURNS: Final = 7
_UNITS: Final = {"calls": "calls", "bytes": "bytes", "frames": "frames", "way": "calls"}


def run(*, quick: bool, against: Path | None = None) -> Report:
    """Count; with another version, count and time both, in fewer turns if `quick`."""
    if against is None:
        return _compared([six_cores.measure(timed=0)], [BEFORE])
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(2 if quick else _TURNS):
        theirs.append(_measured(against))
        ours.append(_measured(Path(__file__).parents[1]))
    report = _compared(ours, theirs)
    for name, found in (("before_cpu_us", theirs), ("six_cpu_us", ours)):
        report.add(name, [min(each["cpu_us"] for each in found)], "us")
    return report


def _compared(ours: Sequence[Mapping[str, float]], before: Sequence[Mapping[str, float]]) -> Report:
    report = Report()
    for name, unit in _UNITS.items():
        report.add(f"before_{name}", [each[name] for each in before], unit)
        report.add(f"six_{name}", [each[name] for each in ours], unit, f"before_{name}")
    ratios = [max(our[n] / its[n] for n in _UNITS) for our, its in zip(ours, before, strict=True)]
    report.add("six_overhead_ratio", ratios, "of before")
    return report


def _measured(library: Path) -> dict[str, float]:
    """Return what the library in a folder takes, in a process of its own."""
    command = [sys.executable, six_cores.__file__]
    environment = {**os.environ, "PYTHONPATH": str(library)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found
