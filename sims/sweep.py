"""Sweeps over seeds on all cores, what they found, and how two of them compare."""

import json
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sims.scenarios import Outcome, Tier, run

_err = Console(stderr=True)
_COMPARED: Final = ("converged_s", "bytes", "frames", "redundant", "buffer_bytes_max")


def sweep(
    names: Sequence[str], seeds: Sequence[int], *, tier: Tier, jobs: int, json_file: Path | None
) -> int:
    """Run every scenario with every seed; print a line for each and for what failed, with the
    command that repeats it. Return the exit status."""
    outcomes = []
    with _progress() as progress, ProcessPoolExecutor(jobs) as pool:
        bar = progress.add_task("", total=len(names) * len(seeds))
        todo = [(name, seed, tier) for name in names for seed in seeds]
        failed = 0
        for outcome in pool.map(_run, todo, chunksize=max(1, min(16, len(todo) // (4 * jobs)))):
            outcomes.append(outcome)
            failed += outcome.failure is not None
            progress.update(bar, advance=1, description=f"{failed} failed")
    for name in names:
        print(_row(name, [o for o in outcomes if o.scenario == name]))
    for outcome in outcomes:
        if outcome.failure is not None:
            print(f"{outcome.scenario}, seed {outcome.seed}: {outcome.failure}")
            command = f"python -m sims run {outcome.scenario} --seed {outcome.seed}"
            print(f"  again: {command}" + ("" if tier == "world" else f" --tier {tier}"))
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    return 1 if failed else 0


def compare(old: Path, new: Path) -> None:
    """Print the medians of two sweeps side by side."""
    before, after = (json.loads(path.read_text()) for path in (old, new))
    for name in sorted({row["scenario"] for row in before} & {row["scenario"] for row in after}):
        for metric in _COMPARED:
            medians = [
                _median(row["metrics"].get(metric) for row in rows if row["scenario"] == name)
                for rows in (before, after)
            ]
            if None not in medians:
                print(f"{name:13} {metric:17} {medians[0]:12.6g} {medians[1]:12.6g}")


def _run(todo: tuple[str, int, Tier]) -> Outcome:
    name, seed, tier = todo
    return run(name, seed, tier=tier)


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    def median(metric: str) -> float | None:
        return _median(outcome.metrics.get(metric) for outcome in outcomes)

    frames = sum(outcome.metrics.get("frames") or 0 for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    failed = sum(outcome.failure is not None for outcome in outcomes)
    text = f"{name:13} {len(outcomes) - failed:5} passed {failed:3} failed"
    converged = median("converged_s")
    if converged is not None:
        worst = max(outcome.metrics["converged_s"] or 0 for outcome in outcomes)
        text += f"  in sync after {converged:.2f} s, at most {worst:.2f}"
        text += f"  {median('bytes') or 0:.0f} bytes  {frames / seconds:.0f} frames/s"
    return text


def _median(values: Iterable[float | int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _progress() -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.speed:.1f}/s") if _err.is_terminal else TextColumn(""),
        TimeRemainingColumn(),
        console=_err,
        transient=True,
        disable=not _err.is_terminal,
    )
