"""Measured series as a report: a table for each section, CSV and JSON of every value, figures."""

import csv
import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from phextsync.errors import PhextsyncError
from phextsync.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PACKAGES: Final = ("phextsync", "pycrdt", "lmdb", "trio", "cbor2", "cryptography", "zeroconf")
_TAIL_MIN: Final = 20  # values from which a tail is told
_POINTS: Final = 200  # of a cumulative curve
_ENERGY: Final = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLES: Final = ("-", "--")  # for each round through the colours
_LEGEND_MAX: Final = 6  # lines; a longer one stands beside the axes


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one thing that was measured, one for each run. `note`: what a reader has to
    know about it, such as the yardstick to compare it with."""

    name: str
    unit: str
    values: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def quantile(self, part: float) -> float:
        """Return the least value that at least `part` of all do not exceed."""
        return sorted(self.values)[max(0, math.ceil(part * len(self.values)) - 1)]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a plot, under one name."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure: curves, or bars, each with a name and a length. `labels` are texts at points;
    without `x_label` there are no axes."""

    name: str
    title: str
    curves: tuple[Curve, ...] = ()
    x_label: str = ""
    y_label: str = ""
    is_log_x: bool = False
    is_log_y: bool = False
    labels: tuple[tuple[float, float, str], ...] = ()
    bars: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A table with what was done to get it."""

    title: str
    method: str
    series: tuple[Series, ...]
    plots: tuple[Plot, ...] = ()


@dataclass(slots=True)
class Document:
    """A whole report; `command` repeats it."""

    title: str
    command: str
    sections: list[Section] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)

    def empty(self) -> list[str]:
        """Name the series without a value, and the sections without a series."""
        series = [(section, s) for section in self.sections for s in section.series]
        found = [f"{section.title}: {s.name}" for section, s in series if not s.values]
        return found + [section.title for section in self.sections if not section.series]

    def write(self, folder: Path, *, name: str = "report.md", figures: str = "figures") -> None:
        """Write the report, `series.csv`, `series.json` and the figures as SVG and PNG.

        PhextsyncError when a series is empty. Without matplotlib there are no figures, and the
        report says so.
        """
        empty = self.empty()
        if empty:
            raise PhextsyncError(f"expected values in every series, found none in {empty}")
        (folder / figures).mkdir(parents=True, exist_ok=True)
        has_figures = has_matplotlib()
        if has_figures:
            for plot in (plot for section in self.sections for plot in section.plots):
                draw(plot, folder / figures)
        lines = self._lines(figures if has_figures else "")
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._write_values(folder / figures)

    def tables(self, time_ms: int) -> str:
        """Return what the report says in tables, as JSON, and when it was made."""
        sections = [
            {"title": each.title, "method": each.method, "rows": [*map(_row, each.series)]}
            for each in self.sections
        ]
        told = {"title": self.title, "command": self.command, "machine": self.machine}
        return json.dumps({"time_ms": time_ms, **told, "header": _HEADER, "sections": sections})

    def _write_values(self, folder: Path) -> None:
        with (folder / "series.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("section", "series", "unit", "run", "value"))
            for section in self.sections:
                for series in section.series:
                    for run, value in enumerate(series.values):
                        writer.writerow(
                            (section.title, series.name, series.unit, run, f"{value:.6g}")
                        )
        rows = {
            section.title: [
                {**asdict(series), "values": [float(f"{v:.6g}") for v in series.values]}
                for series in section.series
            ]
            for section in self.sections
        }
        text = json.dumps({"command": self.command, "machine": self.machine, "sections": rows})
        (folder / "series.json").write_text(text + "\n", encoding="utf-8")

    def _lines(self, figures: str) -> Iterator[str]:
        yield from (
            f"# {self.title}",
            "",
            "Measured, never projected. The command that repeats it:",
        )
        yield from ("", f"    {self.command}", "", "## Machine and software", "")
        yield from _table(("what", "found"), self.machine.items())
        for section in self.sections:
            yield from ("", f"## {section.title}", "", section.method, "")
            yield from _table(_HEADER, map(_row, section.series))
            for plot in section.plots:
                if figures:
                    yield from ("", f"![{plot.title}]({figures}/{plot.name}.svg)")
                else:
                    yield from ("", f"*{plot.title}*: not drawn, `pip install 'phextsync[report]'`")


_HEADER: Final = ("what", "unit", "runs", "median", "p25 to p75", "p90", "p99", "max", "note")


def _row(series: Series) -> tuple[str, ...]:
    count = len(series.values)
    quantiles = [_number(series.quantile(part)) for part in (0.25, 0.75, 0.9, 0.99, 1.0)]
    has_tail = count >= _TAIL_MIN
    return (
        series.name,
        series.unit,
        str(count),
        _number(series.median),
        f"{quantiles[0]} to {quantiles[1]}" if count > 1 else "",
        *(quantiles[2:] if has_tail else ("", "", quantiles[4] if count > 1 else "")),
        series.note,
    )


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(visible(cell).replace("|", "\\|") for cell in row) + " |"


# -- the machine ---------------------------------------------------------------------------


def _load() -> str:
    if sys.platform == "win32":
        return "not known"
    return "{:.2f}, {:.2f}, {:.2f} (1, 5, 15 minutes)".format(*os.getloadavg())


def machine() -> dict[str, str]:
    """Return what figures depend on: hardware, system, versions."""
    found = {
        "processor": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(os.cpu_count() or 0),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": _load(),
        "energy counter": "RAPL" if energy_j() is not None else "none that can be read (RAPL)",
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def energy_j() -> float | None:
    """Return the joules that the first processor has used since some time; None where the
    hardware or its rights do not tell."""
    try:
        return int(_ENERGY.read_text()) / 1e6
    except (OSError, ValueError):
        return None


def _memory() -> str:
    found = _first("/proc/meminfo", "MemTotal")
    return f"{int(found.split()[0]) / 1e6:.1f} GB" if found else "unknown"


def _first(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


# -- figures -------------------------------------------------------------------------------


def has_matplotlib() -> bool:
    """Whether figures can be drawn."""
    try:
        import matplotlib  # noqa: F401 - only needed to draw
    except ImportError:
        return False
    return True


def cumulative(name: str, values: Sequence[float]) -> Curve:
    """Return which share of the values is at or below each of them, or each of 200 of them."""
    count = len(values)
    ranks = sorted({count * (i + 1) // _POINTS for i in range(_POINTS)} - {0} | {1, count})
    ordered = sorted(values)
    return Curve(name, tuple(ordered[r - 1] for r in ranks), tuple(r / count for r in ranks))


def ring(
    names: Sequence[str], edges: Sequence[tuple[int, int]]
) -> tuple[tuple[Curve, ...], tuple[tuple[float, float, str], ...]]:
    """Return curves and labels of a graph with its nodes on a circle."""
    angles = [2 * math.pi * i / len(names) for i in range(len(names))]
    places = [(math.sin(angle), math.cos(angle)) for angle in angles]
    curves = tuple(
        Curve("", (places[a][0], places[b][0]), (places[a][1], places[b][1])) for a, b in edges
    )
    labels = tuple((1.15 * x, 1.15 * y, n) for (x, y), n in zip(places, names, strict=True))
    return curves, labels


def draw(plot: Plot, folder: Path) -> None:
    """Write a figure as SVG and as a small PNG; equal figures are equal bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": plot.name, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.set_title(plot.title)
        if not plot.x_label:
            _draw_graph(plot, axes)
        else:
            (_draw_bars if plot.bars else _draw_curves)(plot, axes)
            _draw_axes(plot, axes)
        figure.savefig(folder / f"{plot.name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{plot.name}.png", dpi=100, metadata={"Software": None})


def _draw_axes(plot: Plot, axes: "Axes") -> None:
    from matplotlib.ticker import LogFormatter, MaxNLocator

    axes.set(xlabel=plot.x_label, ylabel=plot.y_label)
    axes.grid(alpha=0.3, axis="x" if plot.bars else "both")
    if all(x.is_integer() for curve in plot.curves for x in curve.xs):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for name, is_log in (("x", plot.is_log_x), ("y", plot.is_log_y)):
        if is_log:
            axes.set(**{f"{name}scale": "log"})
            axis = getattr(axes, f"{name}axis")
            axis.set_major_formatter(lambda value, _: _number(value))
            axis.set_minor_formatter(LogFormatter(labelOnlyBase=False))


def _draw_curves(plot: Plot, axes: "Axes") -> None:
    for i, curve in enumerate(plot.curves):
        axes.plot(
            curve.xs,
            curve.ys,
            label=curve.name or f"_{i}",
            color=_COLOURS[i % len(_COLOURS)],
            linestyle=_STYLES[i // len(_COLOURS) % len(_STYLES)],
            marker="o" if len(curve.xs) < 30 else None,
            markersize=4,
        )
    names = sum(bool(curve.name) for curve in plot.curves)
    if names > _LEGEND_MAX:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    elif names:
        axes.legend()


def _draw_bars(plot: Plot, axes: "Axes") -> None:
    """Draw bars from top to bottom, each with its length at its end."""
    names, lengths = zip(*plot.bars, strict=True)
    drawn = axes.barh(range(len(names)), lengths, color=_COLOURS[0], height=0.6)
    axes.bar_label(drawn, labels=[_number(length) for length in lengths], padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    # Room for the numbers; a logarithmic scale has no zero for bars to begin at.
    lower, upper = (
        (min(lengths) / 4, max(lengths) * 4) if plot.is_log_x else (0, max(lengths) * 1.2)
    )
    axes.set_xlim(lower, upper)


def _draw_graph(plot: Plot, axes: "Axes") -> None:
    for curve in plot.curves:
        axes.plot(curve.xs, curve.ys, color=_COLOURS[0], marker="o", markersize=6)
    for x, y, text in plot.labels:
        side = "center" if abs(x) < 0.1 else "left" if x > 0 else "right"
        axes.annotate(text, (x, y), ha=side, va="center")
    axes.set_axis_off()
    axes.set(aspect="equal", xlim=(-1.8, 1.8), ylim=(-1.3, 1.3))
