"""What every benchmark prints: figures with units and yardsticks, and the machine."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.bands import is_far, verdict
from phextsync.reporting import machine


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of `runs` measurements; `yardstick` names the figure it is to be held against."""

    value: float
    unit: str
    yardstick: str | None
    runs: int


@dataclass(slots=True)
class Report:
    """The figures of one benchmark, by name."""

    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Lines for people, behind the figures."""

    def add(
        self, name: str, values: Sequence[float], unit: str, yardstick: str | None = None
    ) -> None:
        """Add the median of `values`."""
        self.figures[name] = Figure(statistics.median(values), unit, yardstick, len(values))

    def to_json(self) -> str:
        """Return one JSON object."""
        figures = {name: asdict(figure) for name, figure in self.figures.items()}
        return json.dumps({"figures": figures, "machine": machine()})

    def to_text(self) -> str:
        """Return a line for each figure."""
        width = max(map(len, self.figures))
        lines = [
            f"{name:{width}}  {figure.value:12.4g} {figure.unit:14} runs {figure.runs}"
            + (f"  beside {figure.yardstick}" if figure.yardstick else "")
            + (f"  ({asked})" if (asked := verdict(name, figure.value)) else "")
            for name, figure in self.figures.items()
        ]
        return "\n".join([*lines, *self.notes])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the one of `values` below which this share of the others is: 0.5 is the median."""
    return sorted(values)[int(share * (len(values) - 1))]


def absent(name: str) -> str:
    """Return the line about somebody who could not be measured."""
    return f"{name} is not on this machine, and left out; `make peers` brings it."


def still_far(report: Report, measure: Callable[[], Report]) -> list[str]:
    """Return the figures that are far from their bands, also when they are measured again: the
    machine may have been busy with something else."""
    far = _far(report)
    return sorted(far & _far(measure())) if far else []


def _far(report: Report) -> set[str]:
    figures = report.figures.items()
    return {
        name for name, each in figures if verdict(name, each.value) and is_far(name, each.value)
    }
