"""Sweeps over seeds on all cores or on a cluster, what they found, and how two of them compare."""

import json
import shlex
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
from sims.scenarios import Outcome, run
from sims.tables import Scenario, Tier

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
    client = Client("tcp://" + where.removeprefix(_CLUSTER))  # type: ignore[no-untyped-call]
    with client, client.get_executor() as pool:  # type: ignore[no-untyped-call]
        yield pool


def gather(
    names: Sequence[str],
    seeds: Sequence[int],
    pool: Executor,
    jobs: int,
    known: Mapping[str, Scenario],
    tier: Tier = "world",
) -> list[Outcome]:
    """Run every scenario of these `known` ones with every seed; return the outcomes in that
    order."""
    todo = [(name, seed) for name in names for seed in seeds]
    size = max(1, min(_CHUNK_MAX, len(todo) // (4 * jobs)))
    chunks = [todo[i : i + size] for i in range(0, len(todo), size)]
    found: dict[Todo, Outcome] = {}
    failed = 0
    with _progress() as progress:
        bar = progress.add_task("", total=len(todo))
        futures = [
            pool.submit(_run_all, chunk, tier, {k: known[k] for k, _ in chunk if k in known})
            for chunk in chunks
        ]
        for future in as_completed(futures):
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
    known: Mapping[str, Scenario],
    file: Path | None = None,
    is_swarm: bool = False,
) -> int:
    """Run every scenario of these `known` ones with every seed; print a line for each and for what
    failed, with the command that repeats it: `file` is where they came from, `is_swarm`: they have
    a swarm. Return the exit status."""
    with executor(where, jobs) as pool:
        outcomes = gather(names, seeds, pool, jobs, known, tier)
    for name in names:
        print(_row(name, [o for o in outcomes if o.scenario == name]))
    failures = [outcome for outcome in outcomes if outcome.failure is not None]
    for outcome in failures:
        print(f"{outcome.scenario}, seed {outcome.seed}: {outcome.failure}")
        words = ["run", outcome.scenario, "--seed", str(outcome.seed)]
        words += [] if tier == "world" else ["--tier", tier]
        words += ["--swarm"] if is_swarm else []
        words += [] if file is None else ["--file", str(file)]
        print(f"  again: python -m sims {shlex.join(words)}")
    print(f"{len(outcomes) - len(failures)} passed, {len(failures)} failed")
    if json_file is not None:
        write(json_file, outcomes)
    return 1 if failures else 0


def write(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write outcomes as JSON, a line for each."""
    path.write_text("[" + ",\n ".join(json.dumps(asdict(o)) for o in outcomes) + "]\n")


def read(path: Path) -> list[Outcome]:
    """Read what a sweep wrote. ValueError when it did not write that."""
    try:
        return [Outcome(**row) for row in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected what a sweep wrote: {error}") from error


def compare(old: Path, new: Path) -> None:
    """Print the medians of two sweeps side by side, and how many seeds failed."""
    before, after = by_scenario(read(old)), by_scenario(read(new))
    print(f"{'':13} {'':17} {'old':>12} {'new':>12}")
    for name in sorted({*before} & {*after}):
        sides = before[name], after[name]
        rows = [(metric, [median(side, metric) for side in sides]) for metric in _COMPARED]
        rows.append(("failed", [sum(o.failure is not None for o in side) for side in sides]))
        for metric, values in rows:
            if any(value is not None for value in values):
                cells = [f"{'' if value is None else f'{value:.6g}':>12}" for value in values]
                print(f"{name:13} {metric:17} {' '.join(cells)}")


def by_scenario(outcomes: Iterable[Outcome]) -> Mapping[str, list[Outcome]]:
    """Group outcomes by their scenario, in the order in which these come."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.scenario, []).append(outcome)
    return found


def median(outcomes: Sequence[Outcome], metric: str) -> Number | None:
    """Return the median of a metric, None where no outcome has it."""
    known = values(outcomes, metric)
    return statistics.median(known) if known else None


def values(outcomes: Iterable[Outcome], metric: str) -> list[Number]:
    """Return the values of a metric, of the outcomes that have it, in order of size."""
    return sorted(o.metrics[metric] for o in outcomes if metric in o.metrics)


def _run_all(todo: Sequence[Todo], tier: Tier, known: Mapping[str, Scenario]) -> list[Outcome]:
    return [run(name, seed, tier=tier, known=known) for name, seed in todo]


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    failed = sum(outcome.failure is not None for outcome in outcomes)
    text = f"{name:13} {len(outcomes) - failed:5} passed {failed:3} failed"
    taken, sizes = values(outcomes, "converged_ms"), values(outcomes, "bytes")
    if taken:
        text += f"  equal after {statistics.median(taken):.0f} ms, at most {taken[-1]:.0f}"
    if sizes:
        text += f"  {statistics.median(sizes):.0f} bytes"
    frames = sum(values(outcomes, "frames"))
    if frames:
        seconds = sum(outcome.seconds for outcome in outcomes)
        text += f"  {frames / seconds:.0f} frames/s"
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
