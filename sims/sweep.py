"""Sweeps over seeds on all cores or on a cluster, what they found, and how two of them compare."""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from phextsync.testing.metrics import Number
from sims.scenarios import Outcome, Tier, run

Todo = tuple[str, int]
_CLUSTER: Final = "dask://"
_CHUNK_MAX: Final = 16
_COMPARED: Final = (
    "converged_ms",
    "synced_ms",
    "bytes",
    "frames",
    "overhead",
    "redundancy",
    "buffer_bytes_max",
)


@contextmanager
def executor(where: str | None, jobs: int) -> Iterator[Executor]:
    """Open what runs the seeds: `jobs` processes, or a Dask cluster at `dask://host:port`."""
    if where is None:
        with ProcessPoolExecutor(jobs) as pool:
            yield pool
        return
    if not where.startswith(_CLUSTER):
        raise ValueError(f"expected an executor like {_CLUSTER}host:port, found {where}")
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("a cluster needs pip install 'phextsync[dask]'") from error
    with Client("tcp://" + where.removeprefix(_CLUSTER)) as client, client.get_executor() as pool:
        yield pool


def gather(
    names: Sequence[str],
    seeds: Sequence[int],
    pool: Executor,
    jobs: int,
    tier: Tier = "world",
) -> list[Outcome]:
    """Run every scenario with every seed; return the outcomes in that order."""
    todo = [(name, seed) for name in names for seed in seeds]
    size = max(1, min(_CHUNK_MAX, len(todo) // (4 * jobs)))
    chunks = [todo[i : i + size] for i in range(0, len(todo), size)]
    found: dict[Todo, Outcome] = {}
    failed = 0
    with _progress() as progress:
        bar = progress.add_task("", total=len(todo))
        for future in as_completed([pool.submit(_run_all, chunk, tier) for chunk in chunks]):
            for outcome in future.result():
                found[outcome.scenario, outcome.seed] = outcome
                failed += outcome.failure is not None
                progress.update(bar, advance=1, description=f"{failed} failed")
    return [found[which] for which in todo]


def sweep(
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    tier: Tier = "world",
    jobs: int,
    where: str | None = None,
    json_file: Path | None = None,
) -> int:
    """Run every scenario with every seed; print a line for each and for what failed, with the
    command that repeats it. Return the exit status."""
    with executor(where, jobs) as pool:
        outcomes = gather(names, seeds, pool, jobs, tier)
    for name in names:
        print(_row(name, [o for o in outcomes if o.scenario == name]))
    failures = [outcome for outcome in outcomes if outcome.failure is not None]
    for outcome in failures:
        print(f"{outcome.scenario}, seed {outcome.seed}: {outcome.failure}")
        command = f"python -m sims run {outcome.scenario} --seed {outcome.seed}"
        print(f"  again: {command}" + ("" if tier == "world" else f" --tier {tier}"))
    print(f"{len(outcomes) - len(failures)} passed, {len(failures)} failed")
    if json_file is not None:
        write(json_file, outcomes)
    return 1 if failures else 0


def write(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write outcomes as JSON, a line for each."""
    path.write_text("[" + ",\n ".join(json.dumps(asdict(o)) for o in outcomes) + "]\n")


def read(path: Path) -> list[Outcome]:
    """Read what a sweep wrote."""
    return [Outcome(**row) for row in json.loads(path.read_text())]


def compare(old: Path, new: Path) -> None:
    """Print the medians of two sweeps side by side, and how many seeds failed."""
    before, after = by_scenario(read(old)), by_scenario(read(new))
    print(f"{'':13} {'':17} {'old':>12} {'new':>12}")
    for name in sorted({*before} & {*after}):
        rows = [
            (metric, *(median(o[name], metric) for o in (before, after))) for metric in _COMPARED
        ]
        failed = [sum(o.failure is not None for o in side[name]) for side in (before, after)]
        for metric, first, second in [*rows, ("failed", *failed)]:
            print(f"{name:13} {metric:17} {first:12.6g} {second:12.6g}")


def by_scenario(outcomes: Iterable[Outcome]) -> Mapping[str, list[Outcome]]:
    """Group outcomes by their scenario, in the order in which these come."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.scenario, []).append(outcome)
    return found


def median(outcomes: Sequence[Outcome], metric: str) -> Number:
    """Return the median of a metric, 0 where no outcome has it."""
    known = [o.metrics[metric] for o in outcomes if metric in o.metrics]
    return statistics.median(known) if known else 0


def _run_all(todo: Sequence[Todo], tier: Tier) -> list[Outcome]:
    return [run(name, seed, tier=tier) for name, seed in todo]


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    failed = sum(outcome.failure is not None for outcome in outcomes)
    text = f"{name:13} {len(outcomes) - failed:5} passed {failed:3} failed"
    frames = sum(outcome.metrics.get("frames", 0) for outcome in outcomes)
    if frames:
        seconds = sum(outcome.seconds for outcome in outcomes)
        worst = max(outcome.metrics["converged_ms"] for outcome in outcomes)
        text += f"  equal after {median(outcomes, 'converged_ms'):.0f} ms, at most {worst:.0f}"
        text += f"  {median(outcomes, 'bytes'):.0f} bytes  {frames / seconds:.0f} frames/s"
    return text


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.speed:.1f}/s") if console.is_terminal else TextColumn(""),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
