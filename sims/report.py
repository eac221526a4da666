"""The report: tables and figures of what sweeps found, for people who did not run them.

`report.md` and `outcomes.csv`, and each figure as SVG and PNG: how the nodes were linked, how
long convergence took after the last fault, bytes against the number of nodes, and availability
with machines away. A figure, row or column without data is left out.
"""

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sims import sweep
from sims.overlays import Overlay
from sims.scenarios import Outcome
from sims.tables import Scenario

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ValueError("a report needs pip install 'phextsync[report]'") from error

Cell = str | int | float | None
Row = Sequence[Cell]
Found = Mapping[str, Sequence[Outcome]]
Known = Mapping[str, Scenario]
_SIZES: Final = ("offline-0", "fifty", "five-hundred")
_OFFLINE: Final = ("offline-0", "offline-1", "offline-2")
_COLUMNS: Final = (
    ("converged_ms", "equal after, ms"),
    ("synced_ms", "in sync after, ms"),
    ("bytes", "bytes"),
    ("overhead", "bytes / needed"),
    ("redundancy", "redundancy"),
    ("hops_mean", "last delivery hop"),
    ("hops_max", "at most"),
    ("buffer_bytes_max", "buffer, bytes"),
    ("read_availability", "reads answered"),
    ("write_availability", "writes accepted"),
)


def write(
    folder: Path,
    sweeps: Iterable[Path],
    *,
    known: Known,
    names: Sequence[str],
    large: Sequence[str],
    seeds: Sequence[int],
    jobs: int,
) -> None:
    """Write a report on what sweeps of `known` scenarios wrote; when there is none, on one of these
    names, and of `large` ones from the first seed."""
    outcomes = [outcome for path in sweeps for outcome in sweep.read(path)]
    if not outcomes:
        with sweep.executor(None, jobs) as pool:
            outcomes = sweep.gather(names, seeds, pool, jobs, known)
            outcomes += sweep.gather(large, seeds[:1], pool, jobs, known)
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: of for name, of in sweep.by_scenario(outcomes).items() if name in known}
    _write_csv(folder / "outcomes.csv", outcomes)
    mpl.rcParams["svg.hashsalt"] = "phextsync"  # the same figures have the same bytes
    drawn = {
        "topology": _draw_topology(found, known),
        "convergence": _draw_convergence(found),
        "nodes": _draw_nodes(found, known),
        "availability": _draw_availability(found, known),
    }
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", dpi=144)
    (folder / "report.md").write_text(_text(found, known, figures))


# -- tables --------------------------------------------------------------------------------


def _write_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
    metrics = sorted({metric for outcome in outcomes for metric in outcome.metrics})
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["scenario", "seed", "failure", "digest", *metrics])
        for outcome in outcomes:
            values = [outcome.metrics.get(metric, "") for metric in metrics]
            first = [outcome.scenario, outcome.seed, outcome.failure or "", outcome.digest]
            rows.writerow([*first, *values])


def _text(found: Found, known: Known, figures: Iterable[str]) -> str:
    columns = [
        (metric, title)
        for metric, title in _COLUMNS
        if any(sweep.values(outcomes, metric) for outcomes in found.values())
    ]
    head = ["scenario", "nodes", "seeds", "failed", *(title for _, title in columns)]
    rows: list[Row] = []
    times: list[Row] = []
    for name, outcomes in found.items():
        failed = sum(outcome.failure is not None for outcome in outcomes)
        medians = [sweep.median(outcomes, metric) for metric, _ in columns]
        rows.append([name, known[name].nodes, len(outcomes), failed, *medians])
        taken = sweep.values(outcomes, "converged_ms")
        if taken:
            times.append([name, *(_quantile(taken, q) for q in (0.5, 0.9, 0.99, 1))])
    about = [[name, known[name].about] for name in found]
    until = "Virtual milliseconds from the end of the last fault until all nodes are equal:"
    parts = [
        "# Simulated meshes",
        "Medians over seeds. What the words mean: `docs/explanation/simulation.md`.",
        _table(head, rows),
        *([until, _table(["scenario", "50 %", "90 %", "99 %", "worst"], times)] if times else []),
        *(f"![{name}]({name}.svg)" for name in figures),
        _table(["scenario", "what happens"], about),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


# -- figures -------------------------------------------------------------------------------


def _figure(title: str, x: str = "", y: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _draw_topology(found: Found, known: Known) -> Figure | None:
    """Draw each overlay that occurs, its nodes on a circle."""
    shapes = sorted({(known[name].nodes, known[name].degree) for name in found})
    if not shapes:
        return None
    figure = Figure(figsize=(4 * len(shapes), 4), layout="constrained")
    for i, (nodes, degree) in enumerate(shapes):
        axes = figure.add_subplot(1, len(shapes), i + 1)
        axes.set(title=f"{nodes} nodes, {degree or nodes - 1} links each", aspect="equal")
        axes.axis("off")
        turn = [2 * math.pi * node / nodes for node in range(nodes)]
        for a, b in Overlay(nodes, degree).pairs:
            x, y = [math.sin(turn[a]), math.sin(turn[b])], [math.cos(turn[a]), math.cos(turn[b])]
            axes.plot(x, y, color="0.6", linewidth=min(1, 10 / nodes), zorder=1)
        size = max(4, 400 / nodes)
        axes.scatter([math.sin(t) for t in turn], [math.cos(t) for t in turn], size, zorder=2)
    return figure


def _draw_convergence(found: Found) -> Figure | None:
    """Draw how many seeds were equal after how long, of scenarios that were not so at once."""
    title = "Virtual time until equal, after the last fault"
    figure, axes = _figure(title, "milliseconds", "fraction of seeds")
    for number, (name, outcomes) in enumerate(found.items()):
        taken = sweep.values(outcomes, "converged_ms")
        if taken and taken[-1] > 0:
            parts = [0.0, *((i + 1) / len(taken) for i in range(len(taken)))]
            style = ("-", "--", ":")[number // 10 % 3]  # there are ten colours
            axes.step([0, *taken], parts, style, where="post", label=name, linewidth=1)
    if not axes.lines:
        return None
    axes.set_xscale("symlog", linthresh=10)
    figure.set_size_inches(7, 6)
    axes.legend(fontsize=6, ncols=3, loc="lower right")
    return figure


def _draw_nodes(found: Found, known: Known) -> Figure | None:
    """Draw what a line costs in meshes of several sizes."""
    points = [
        (known[name].nodes, statistics.median(costs))
        for name in _SIZES
        if (costs := [cost for o in found.get(name, ()) for cost in _bytes_a_line(known[name], o)])
    ]
    if not points:
        return None
    figure, axes = _figure("What a line costs", "nodes", "bytes for each line and node that got it")
    axes.plot(*zip(*points, strict=True), marker="o")
    axes.set(xscale="log", ylim=(0, None))
    return figure


def _bytes_a_line(scenario: Scenario, outcome: Outcome) -> list[float]:
    """Return the one figure that an outcome gives, if it does."""
    lines = outcome.metrics.get("writes_accepted", 0)
    return [outcome.metrics["bytes"] / lines / (scenario.nodes - 1)] if lines else []


def _draw_availability(found: Found, known: Known) -> Figure | None:
    """Draw what is still answered with machines away, as far as somebody asked."""
    title = "Requests on machines that are on, some machines away"
    figure, axes = _figure(title, "machines away, of six", "fraction")
    asked = [(away, found[name]) for away, name in enumerate(_OFFLINE) if name in found]
    for metric, label, shift in (
        ("read_availability", "reads answered", -0.25),
        ("write_availability", "writes accepted", 0.0),
    ):
        heights = [(away + shift, sweep.median(outcomes, metric)) for away, outcomes in asked]
        bars = [(x, height) for x, height in heights if height is not None]
        if bars:
            axes.bar([x for x, _ in bars], [height for _, height in bars], 0.25, label=label)
    if not axes.patches:
        return None
    away = [count for count, _ in asked]
    alone = [1 - count / known[_OFFLINE[count]].nodes for count in away]
    axes.bar([x + 0.25 for x in away], alone, 0.25, color="0.7", label="each scroll on one machine")
    axes.set(xticks=away, ylim=(0, 1.3))
    axes.legend(ncols=3, fontsize=8)
    return figure
