"""Branches: which branches of the library each scenario reaches, and which none does.

`python -m sims branches` runs scenarios one after the other under coverage.py, which has to be
installed (`pip install '.[test]'`). A branch is one of the lines that may follow on another, by
file: sending `-1` after 12 is to leave the function there.
"""

import importlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from sims.scenarios import run
from sims.tables import Scenario

ROOMS: Final = ("sync", "replica", "files")
_LIBRARY: Final = Path(__file__).parents[1] / "phextsync"


class Branch(NamedTuple):
    """A way from one line to another, -1 for one out of the function."""

    file: str
    line: int
    to: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} -> {self.to if self.to > 0 else 'out'}"


@dataclass(frozen=True, slots=True)
class Reached:
    """All branches there are, and those that each scenario has reached."""

    all: frozenset[Branch]
    by: Mapping[str, frozenset[Branch]] = field(default_factory=dict)

    @property
    def never(self) -> list[Branch]:
        """The branches that no scenario has reached, in order."""
        return sorted(self.all.difference(*self.by.values()))

    def only(self, name: str) -> frozenset[Branch]:
        """Return the branches that no other scenario has reached."""
        others = (found for other, found in self.by.items() if other != name)
        return self.by[name].difference(*others)


def measure(
    names: Sequence[str], seeds: Sequence[int], known: Mapping[str, Scenario]
) -> tuple[Reached, list[str]]:
    """Run every scenario of these `known` ones with every seed. Return what they reached, and what
    failed. ValueError when coverage.py is not installed."""
    try:
        coverage: Any = importlib.import_module("coverage")
    except ImportError as error:
        raise ValueError("branches need pip install 'phextsync[test]'") from error
    watch = coverage.Coverage(
        data_file=None,
        config_file=False,
        branch=True,
        source=[str(_LIBRARY / room) for room in ROOMS],
    )
    failures: list[str] = []
    for name in names:
        with watch.collect():
            watch.switch_context(name)
            outcomes = [run(name, seed, known=known) for seed in seeds]
        failures += [f"{name}, seed {o.seed}: {o.failure}" for o in outcomes if o.failure]
    return _reached(watch, names), failures


def _reached(watch: Any, names: Iterable[str]) -> Reached:
    every = _report(watch, ())
    return Reached(
        frozenset(_branches(every, ("executed_branches", "missing_branches"))),
        {
            name: frozenset(_branches(_report(watch, [f"^{name}$"]), ("executed_branches",)))
            for name in names
        },
    )


def _report(watch: Any, contexts: Sequence[str]) -> dict[str, Any]:
    """Return what coverage.py reports of each file, in these contexts, or in all if none."""
    with tempfile.NamedTemporaryFile() as report:
        watch.json_report(outfile=report.name, contexts=contexts)
        files: dict[str, Any] = json.loads(Path(report.name).read_text())["files"]
        return files


def _branches(files: Mapping[str, Any], kinds: Iterable[str]) -> Iterator[Branch]:
    for path, told in files.items():
        file = str(Path(path).absolute().relative_to(_LIBRARY))
        for line, to in chain.from_iterable(told[kind] for kind in kinds):
            yield Branch(file, line, max(to, -1))


def table(reached: Reached) -> Iterator[str]:
    """Give the lines of a table of scenarios: branches reached, and those that no other reached;
    then how many there are in each room, and how many none reached."""
    total = len(reached.all)
    yield "| scenario | branches | of all | no other |"
    yield "| --- | --- | --- | --- |"
    for name, found in sorted(reached.by.items(), key=lambda item: -len(item[1])):
        yield f"| {name} | {len(found)} | {len(found) / total:.0%} | {len(reached.only(name))} |"
    yield ""
    yield "| room | branches | reached by none |"
    yield "| --- | --- | --- |"
    never = reached.never
    for room in ROOMS:
        count = sum(branch.file.startswith(f"{room}/") for branch in reached.all)
        none = sum(branch.file.startswith(f"{room}/") for branch in never)
        yield f"| {room} | {count} | {none} ({none / max(1, count):.0%}) |"
