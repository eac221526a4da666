"""The report: tables and figures of what sweeps found, for people who did not run them.

`report.md` and `outcomes.csv`, and each figure as SVG and PNG: how the nodes were linked, how
long convergence took after the last fault, bytes against the number of nodes, and availability
with machines away.
"""

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sims import sweep
from sims.scenarios import LARGE, SCENARIOS, Outcome, ring_overlay, small

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ValueError("a report needs pip install 'phextsync[report]'") from error

Row = Sequence[str | int | float]
_SIZES: Final = ("offline-0", *LARGE)
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


def write(folder: Path, sweeps: Iterable[Path], seeds: Sequence[int], jobs: int) -> None:
    """Write a report on what sweeps wrote; on a sweep of its own when there is none."""
    outcomes = [outcome for path in sweeps for outcome in sweep.read(path)]
    if not outcomes:
        with sweep.executor(None, jobs) as pool:
            outcomes = sweep.gather(small("world"), seeds, pool, jobs)
            outcomes += sweep.gather(["fifty"], seeds[:1], pool, jobs)
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: of for name, of in sweep.by_scenario(outcomes).items() if name in SCENARIOS}
    _write_csv(folder / "outcomes.csv", outcomes)
    mpl.rcParams["svg.hashsalt"] = "phextsync"  # the same figures have the same bytes
    figures = {
        "topology": _draw_topology(found),
        "convergence": _draw_convergence(found),
        "nodes": _draw_nodes(found),
        "availability": _draw_availability(found),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", dpi=144)
    (folder / "report.md").write_text(_text(found, figures))


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


def _text(found: Mapping[str, Sequence[Outcome]], figures: Iterable[str]) -> str:
    head = ["scenario", "nodes", "seeds", "failed", *(title for _, title in _COLUMNS)]
    rows: list[Row] = []
    for name, outcomes in found.items():
        failed = sum(outcome.failure is not None for outcome in outcomes)
        medians: dict[str, str | int | float] = {
            metric: sweep.median(outcomes, metric) for metric, _ in _COLUMNS
        }
        if not sweep.median(outcomes, "reads"):
            medians["read_availability"] = ""  # nobody read: none were answered, none were not
        rows.append([name, SCENARIOS[name].nodes, len(outcomes), failed, *medians.values()])
    about = [[name, SCENARIOS[name].about] for name in found]
    times: list[Row] = []
    for name, outcomes in found.items():
        taken = sorted(o.metrics["converged_ms"] for o in outcomes)
        times.append([name, *(_quantile(taken, q) for q in (0.5, 0.9, 0.99, 1))])
    pictures = [f"![{name}]({name}.svg)" for name in figures]
    return (
        "\n\n".join(
            [
                "# Simulated meshes",
                "Medians over seeds. What the words mean: `docs/simulation.md`.",
                _table(head, rows),
                "Virtual milliseconds from the end of the last fault until all nodes are equal:",
                _table(["scenario", "50 %", "90 %", "99 %", "worst"], times),
                *pictures,
                _table(["scenario", "what happens"], about),
            ]
        )
        + "\n"
    )


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


# -- figures -------------------------------------------------------------------------------


def _figure(title: str, x: str = "", y: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _draw_topology(found: Mapping[str, Sequence[Outcome]]) -> Figure:
    """Draw each overlay that occurs, its nodes on a circle."""
    shapes = sorted({(SCENARIOS[name].nodes, SCENARIOS[name].degree) for name in found})
    figure = Figure(figsize=(4 * len(shapes), 4), layout="constrained")
    for i, (nodes, degree) in enumerate(shapes):
        axes = figure.add_subplot(1, len(shapes), i + 1)
        axes.set(title=f"{nodes} nodes, {degree or nodes - 1} links each", aspect="equal")
        axes.axis("off")
        turn = [2 * math.pi * node / nodes for node in range(nodes)]
        every = [(a, b) for b in range(nodes) for a in range(b)]
        for a, b in ring_overlay(nodes, degree) if degree else every:
            x, y = [math.sin(turn[a]), math.sin(turn[b])], [math.cos(turn[a]), math.cos(turn[b])]
            axes.plot(x, y, color="0.6", linewidth=min(1, 10 / nodes), zorder=1)
        size = max(4, 400 / nodes)
        axes.scatter([math.sin(t) for t in turn], [math.cos(t) for t in turn], size, zorder=2)
    return figure


def _draw_convergence(found: Mapping[str, Sequence[Outcome]]) -> Figure:
    title = "Virtual time until equal, after the last fault"
    figure, axes = _figure(title, "milliseconds", "fraction of seeds")
    for number, (name, outcomes) in enumerate(found.items()):
        taken = sorted(outcome.metrics["converged_ms"] for outcome in outcomes)
        if taken[-1] > 0:
            parts = [0.0, *((i + 1) / len(taken) for i in range(len(taken)))]
            style = ("-", "--", ":")[number // 10 % 3]  # there are ten colours
            axes.step([0, *taken], parts, style, where="post", label=name, linewidth=1)
    axes.set_xscale("symlog", linthresh=10)
    figure.set_size_inches(7, 6)
    if axes.lines:
        axes.legend(fontsize=6, ncols=3, loc="lower right")
    return figure


def _draw_nodes(found: Mapping[str, Sequence[Outcome]]) -> Figure:
    figure, axes = _figure("What a line costs", "nodes", "bytes for each line and node that got it")
    points = [
        (SCENARIOS[name].nodes, statistics.median(_bytes_a_line(name, o) for o in found[name]))
        for name in _SIZES
        if name in found
    ]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o")
    axes.set(xscale="log", ylim=(0, None))
    return figure


def _bytes_a_line(name: str, outcome: Outcome) -> float:
    receivers = SCENARIOS[name].nodes - 1
    return outcome.metrics["bytes"] / max(1, outcome.metrics["writes_accepted"]) / receivers


def _draw_availability(found: Mapping[str, Sequence[Outcome]]) -> Figure:
    title = "Requests on machines that are on, some machines away"
    figure, axes = _figure(title, "machines away, of six", "fraction")
    known = [(away, found[name]) for away, name in enumerate(_OFFLINE) if name in found]
    away = [count for count, _ in known]
    for metric, label, shift in (
        ("read_availability", "reads answered", -0.25),
        ("write_availability", "writes accepted", 0.0),
    ):
        heights = [sweep.median(outcomes, metric) for _, outcomes in known]
        axes.bar([x + shift for x in away], heights, 0.25, label=label)
    alone = [1 - count / 6 for count in away]
    axes.bar([x + 0.25 for x in away], alone, 0.25, color="0.7", label="each scroll on one machine")
    axes.set(xticks=away, ylim=(0, 1.3))
    axes.legend(ncols=3, fontsize=8)
    return figure
