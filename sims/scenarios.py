"""Scenarios as data, and how one is run: those of `scenarios.toml` by name, others from files.

The faults of a run are drawn from its seed as data, see `phextsync.testing.faults`; after them
every fault ends, and the nodes must become equal within `settle_s` virtual seconds.

A stored schedule is a JSON file with the same fields as a table of `scenarios.toml`, the seed, and
the faults themselves in place of generators.
"""

import json
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from phextsync.errors import PhextsyncError
from phextsync.testing import (
    Fault,
    MemoryMesh,
    Workload,
    World,
    faults_from_json,
    faults_to_json,
)
from phextsync.testing.metrics import Number
from phextsync.testing.workloads import schedule_all
from phextsync.testing.world import generator
from sims import schedules, steps
from sims.real import RealMesh

Tier = Literal["world", "memory", "real"]

_SAMPLES: Final = Path(__file__).parents[2] / "shared" / "phext" / "samples"
_REAL_SETTLE_S: Final = 60.0  # of a machine that is busy with other things
_SOCKET_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run consists of. `degree`: how many others each node is linked to, 0: all."""

    about: str
    nodes: int
    workloads: tuple[Workload, ...]
    seconds: float
    settle_s: float
    degree: int = 0
    socket_bytes: int = _SOCKET_BYTES
    tier: Tier | None = None  # the only one that has such faults
    generators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fixed: tuple[Fault, ...] = ()

    def faults(self, source: Random, nodes: int) -> list[Fault]:
        """Return the schedule of a run of so many nodes, drawn from `source`."""
        return [*self.fixed, *schedules.draw(self.generators, source, nodes)]

    @property
    def overlay(self) -> list[tuple[int, int]] | None:
        """The pairs that are linked, None: all."""
        return ring_overlay(self.nodes, self.degree) if self.degree else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: what failed, or None; a digest of all that happened; what it cost."""

    scenario: str
    seed: int
    failure: str | None
    digest: str
    seconds: float
    metrics: dict[str, Number]


def run(
    name: str,
    seed: int,
    trace: Callable[[str], None] | None = None,
    *,
    tier: Tier = "world",
    has_tls: bool = False,
) -> Outcome:
    """Run one scenario from one seed: cores of nodes in the `world`, whole ones in `memory`, or
    processes that are `real`. PhextsyncError when the tier cannot have it."""
    scenario = SCENARIOS.get(name)
    if tier != "world" and (scenario is None or scenario.tier == "world"):
        raise PhextsyncError(f"expected a scenario that whole nodes can have, found {name}")
    if tier == "real":
        return run_real(name, seed, trace)
    if scenario is not None:
        return run_scenario(name, scenario, seed, trace, tier=tier, has_tls=has_tls)
    began = time.process_time()
    failure, digest = steps.run(seed)
    return Outcome(name, seed, failure, digest, time.process_time() - began, {})


def run_scenario(
    name: str,
    scenario: Scenario,
    seed: int,
    trace: Callable[[str], None] | None = None,
    *,
    tier: Tier = "world",
    has_tls: bool = False,
) -> Outcome:
    """Run a scenario that need not have a name from one seed, in virtual time."""
    began = time.process_time()
    overlay, socket_bytes = scenario.overlay, scenario.socket_bytes
    mesh: World | MemoryMesh
    if tier == "world":
        mesh = World(seed, scenario.nodes, overlay=overlay, socket_bytes=socket_bytes, trace=trace)
    else:
        mesh = MemoryMesh(seed, scenario.nodes, overlay=overlay, has_tls=has_tls, trace=trace)
    schedule_all(mesh, scenario.workloads, scenario.seconds)
    mesh.schedule(scenario.faults(mesh.random("faults"), scenario.nodes))
    failure = None
    try:
        if isinstance(mesh, World):
            mesh.run_until(scenario.seconds)
            mesh.settle(scenario.settle_s)
        else:
            mesh.run(partial(_pass_time, mesh, scenario))
    except Exception as error:  # whatever a node raises is a finding, with its seed
        failure = str(error) if isinstance(error, AssertionError) else repr(error)
    seconds = time.process_time() - began
    return Outcome(name, seed, failure, mesh.digest(), seconds, mesh.metrics.as_dict())


async def _pass_time(mesh: MemoryMesh, scenario: Scenario) -> None:
    await mesh.run_until(scenario.seconds)
    await mesh.settle(scenario.settle_s)


def run_real(
    name: str,
    seed: int,
    trace: Callable[[str], None] | None = None,
    *,
    nodes: int | None = None,
    seconds: float | None = None,
) -> Outcome:
    """Run one scenario on processes and hosts of this machine; one seed has many outcomes.

    `nodes`, `seconds`: fewer than the scenario has. PhextsyncError when it cannot be had.
    """
    began = time.perf_counter()
    scenario = SCENARIOS.get(name)
    if scenario is None or scenario.degree:
        raise PhextsyncError(f"expected a scenario of nodes that are all linked, found {name}")
    seconds = scenario.seconds if seconds is None else seconds
    failure = None
    with RealMesh(seed, nodes or scenario.nodes, trace=trace) as mesh:
        schedule_all(mesh, scenario.workloads, seconds)
        mesh.schedule(scenario.faults(mesh.random("faults"), mesh.count))
        try:
            mesh.run_until(seconds)
            mesh.settle(_REAL_SETTLE_S)
        except (AssertionError, PhextsyncError, OSError) as error:
            failure = str(error) if isinstance(error, AssertionError) else repr(error)
    took = time.perf_counter() - began
    metrics = {name: value for name, value in asdict(mesh.metrics).items() if value is not None}
    return Outcome(name, seed, failure, "none in real time", took, metrics)


def ring_overlay(nodes: int, degree: int) -> list[tuple[int, int]]:
    """Link each node to `degree` others, at distances that double: any two are near each other."""
    pairs = set()
    for node in range(nodes):
        for i in range(degree // 2):
            pairs.add(tuple(sorted((node, (node + 2**i) % nodes))))
    return sorted((a, b) for a, b in pairs if a != b)


# -- data ----------------------------------------------------------------------------------


def read_schedule(path: Path) -> tuple[Scenario, int]:
    """Read a stored schedule and its seed. ValueError when it is none."""
    table = json.loads(path.read_text())
    seed = table.pop("seed")
    fixed = faults_from_json(json.dumps(table.pop("faults")))
    return _scenario(table, fixed), seed


def schedule_to_json(scenario: Scenario, seed: int) -> str:
    """Return what a run of a scenario consists of, its faults as they are drawn from the seed."""
    faults = scenario.faults(generator(seed, "faults"), scenario.nodes)
    head = {
        "about": scenario.about,
        "seed": seed,
        "nodes": scenario.nodes,
        "degree": scenario.degree,
        "seconds": scenario.seconds,
        "settle_s": scenario.settle_s,
        "socket_bytes": scenario.socket_bytes,
        "workloads": {workload.kind: workload.per_s for workload in scenario.workloads},
    }
    return json.dumps(head)[:-1] + ',\n"faults":\n' + faults_to_json(faults) + "}\n"


def _scenario(table: Mapping[str, Any], fixed: tuple[Fault, ...] = ()) -> Scenario:
    known = {"about", "nodes", "degree", "seconds", "settle_s", "socket_bytes", "tier", "faults"}
    unknown = sorted({*table} - known - {"workloads"})
    if unknown:
        raise ValueError(f"expected a scenario of {', '.join(sorted(known))}, found {unknown[0]}")
    values = {**_DEFAULTS, **table}
    workloads = tuple(Workload(k, per_s, _SAMPLES) for k, per_s in values.pop("workloads").items())
    generators = values.pop("faults", {})
    return Scenario(**values, workloads=workloads, generators=generators, fixed=fixed)


_STEPS: Final = "steps"
_TABLES: Final = tomllib.loads((Path(__file__).parent / "scenarios.toml").read_text())
_DEFAULTS: Final = _TABLES.pop("defaults")
SCENARIOS: Final = {name: _scenario(table) for name, table in _TABLES.items()}
NAMES: Final = (*SCENARIOS, _STEPS)
LARGE: Final = ("fifty", "five-hundred")
"""Scenarios that a sweep takes only when they are named."""


def small(tier: Tier) -> list[str]:
    """Return the names of the scenarios that a sweep takes in a tier when none are named."""
    fit = [name for name, s in SCENARIOS.items() if s.tier in (None, tier) and name not in LARGE]
    return [*fit, _STEPS] if tier == "world" else fit
