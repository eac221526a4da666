"""How a scenario is run: on cores of nodes, on whole ones, or on real processes.

The faults of a run are drawn from its seed as data, see `phextsync.testing.faults`; after them
every fault ends, and the nodes must become equal within `settle_s` virtual seconds.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

from phextsync.errors import PhextsyncError
from phextsync.testing import (
    Damage,
    Deafen,
    Fault,
    Follow,
    Forget,
    Garbage,
    HalfOpen,
    MemoryMesh,
    Regions,
    SetClock,
    SetCopies,
    SetHeld,
    SetPace,
    SetRule,
    Shape,
    Tear,
    World,
)
from phextsync.testing.metrics import Number
from phextsync.testing.trace import generator
from phextsync.testing.workloads import schedule_all
from sims import directories, steps
from sims.processes import PATIENCE_S
from sims.real import RealMesh
from sims.shrinking import fewest, kind_of
from sims.tables import DIRECTORIES, SPECIAL, Scenario, Tier, built_in

LARGE: Final = ("fifty", "five-hundred", "placed-26", "placed-100", "placed-500")
"""Scenarios that a sweep takes only when they are named."""
_REAL_SETTLE_S: Final = PATIENCE_S  # of a machine that is busy with other things
_OF_MODELS: Final = (
    *(HalfOpen, Tear, Damage, SetClock, Deafen, Regions),
    *(SetHeld, Follow, SetCopies, SetPace, SetRule, Forget),
)


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
    known: Mapping[str, Scenario] | None = None,
) -> Outcome:
    """Run one scenario from one seed: cores of nodes in the `world`, whole ones in `memory`, or
    processes that are `real`. `known`: scenarios by name, None: those of `scenarios.toml`.

    ValueError when there is none of that name, PhextsyncError when the tier cannot have it.
    """
    known = built_in() if known is None else known
    if name not in names(known):
        raise ValueError(f"expected one of {', '.join(names(known))}, found {name}")
    scenario = known.get(name)
    only = "world" if scenario is None else scenario.tier
    if only not in (None, tier):
        raise PhextsyncError(f"scenario {name}: expected the tier {only}, found {tier}")
    if scenario is None:
        began = time.process_time()
        failure, digest = directories.run(seed, trace) if name == DIRECTORIES else steps.run(seed)
        return Outcome(name, seed, failure, digest, time.process_time() - began, {})
    if tier == "real":
        return run_real(name, seed, trace, known=known)
    return run_scenario(name, scenario, seed, trace, tier=tier, has_tls=has_tls)


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
    overlay, socket_bytes = scenario.pairs, scenario.socket_bytes
    mesh: World | MemoryMesh
    if tier == "world":
        mesh = World(
            seed,
            scenario.nodes,
            overlay=overlay,
            links_max=scenario.links,
            socket_bytes=socket_bytes,
            permissions=scenario.permissions,
            trace=trace,
        )
    else:
        mesh = MemoryMesh(seed, scenario.nodes, overlay=overlay, has_tls=has_tls, trace=trace)
    schedule_all(mesh, scenario.workloads, scenario.seconds)
    faults = scenario.faults(mesh.random("faults"))
    if tier != "world":
        _check_faults(name, faults)
    mesh.schedule(faults)
    failure = None
    try:
        if isinstance(mesh, World):
            mesh.run_until(scenario.seconds)
            if scenario.copies:
                mesh.repair(scenario.copies, scenario.settle_s)
            mesh.settle(scenario.settle_s)
        else:
            mesh.run(partial(_pass_time, mesh, scenario))
    except Exception as error:  # whatever a node raises is a finding, with its seed
        failure = str(error) if isinstance(error, AssertionError) else repr(error)
    seconds = time.process_time() - began
    return Outcome(name, seed, failure, mesh.digest(), seconds, mesh.metrics.as_dict())


def shrunk(scenario: Scenario, seed: int) -> Scenario:
    """Return a scenario that fails in the same way from a seed, with no more faults than that
    needs; all that are drawn when it passes."""
    drawn = scenario.faults(generator(seed, "faults"))
    kind = kind_of(run_scenario("whole", scenario, seed).failure)

    def fails(faults: Sequence[Fault]) -> bool:
        fewer = replace(scenario, generators={}, fixed=tuple(faults))
        return kind_of(run_scenario("shrunk", fewer, seed).failure) == kind

    faults = drawn if kind is None else fewest(drawn, fails)
    return replace(scenario, generators={}, fixed=tuple(faults))


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
    known: Mapping[str, Scenario] | None = None,
) -> Outcome:
    """Run one scenario on processes and hosts of this machine; one seed has many outcomes.

    `nodes`, `seconds`: fewer than the scenario has. PhextsyncError when it cannot be had.
    """
    began = time.perf_counter()
    scenario = (built_in() if known is None else known).get(name)
    if scenario is None or scenario.degree:
        raise PhextsyncError(f"expected a scenario of nodes that are all linked, found {name}")
    seconds = scenario.seconds if seconds is None else seconds
    failure = None
    with RealMesh(seed, nodes or scenario.nodes, trace=trace) as mesh:
        faults = scenario.faults(mesh.random("faults"), nodes=mesh.count, seconds=seconds)
        _check_faults(name, faults)
        schedule_all(mesh, scenario.workloads, seconds)
        mesh.schedule(faults)
        try:
            mesh.run_until(seconds)
            mesh.settle(_REAL_SETTLE_S)
        except (AssertionError, PhextsyncError, OSError) as error:
            failure = str(error) if isinstance(error, AssertionError) else repr(error)
    took = time.perf_counter() - began
    metrics = {name: value for name, value in asdict(mesh.metrics).items() if value is not None}
    return Outcome(name, seed, failure, "none in real time", took, metrics)


def names(known: Mapping[str, Scenario]) -> list[str]:
    """Return the names of all that can be run."""
    return [*known, *SPECIAL]


def small(tier: Tier, known: Mapping[str, Scenario] | None = None) -> list[str]:
    """Return the names of the scenarios that a sweep takes in a tier when none are named."""
    known = built_in() if known is None else known
    fit = [name for name, s in known.items() if s.tier in (None, tier) and name not in LARGE]
    return [*fit, *SPECIAL] if tier == "world" else fit


def _check_faults(name: str, faults: Iterable[Fault]) -> None:
    """PhextsyncError when one of them is of models alone."""
    for fault in faults:
        match fault.action:
            case Shape(duplication=a, reordering=b) if a or b:
                found = "frames that arrive twice or are overtaken"
            case Garbage(of="updates"):
                found = "changed updates"
            case action if isinstance(action, _OF_MODELS):
                found = type(action).__name__
            case _:
                continue
        raise PhextsyncError(f"scenario {name}: expected faults of whole nodes, found {found}")
