"""Scenarios by name: how many nodes, what their users do, and what goes wrong meanwhile.

The faults of a run are drawn from its seed as data, see `phextsync.testing.faults`; after them
every fault ends, and the nodes must become equal within `settle_s` virtual seconds.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from random import Random
from typing import Final, Literal

from phextsync.errors import PhextsyncError
from phextsync.testing import (
    Clone,
    Crash,
    Fault,
    FillDisk,
    FreeDisk,
    Garbage,
    Hold,
    MemoryMesh,
    Partition,
    Repair,
    Reset,
    Restart,
    Shape,
    Sleep,
    Workload,
    World,
)
from phextsync.testing.workloads import schedule_all
from sims import steps
from sims.real import RealMesh

Tier = Literal["world", "memory", "real"]
Schedule = Callable[[Random, int], list[Fault]]

_SECONDS: Final = 8.0
_SETTLE_S: Final = 15.0
_REAL_SETTLE_S: Final = 60.0  # of a machine that is busy with other things
_AGENTS: Final = (
    Workload("logs", 3),
    Workload("memory", 1),
    Workload("mailboxes", 1),
    Workload("unicode", 0.5),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run consists of. `degree`: how many others each node is linked to, 0: all."""

    about: str
    faults: Schedule
    nodes: int = 6
    workloads: tuple[Workload, ...] = _AGENTS
    seconds: float = _SECONDS
    settle_s: float = _SETTLE_S
    degree: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: what failed, or None; a digest of all that happened; what it cost."""

    scenario: str
    seed: int
    failure: str | None
    digest: str
    seconds: float
    metrics: dict[str, float | int | None]


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
    if tier == "real":
        return run_real(name, seed, trace)
    began = time.perf_counter()
    if name == _STEPS:
        if tier != "world":
            raise PhextsyncError(f"expected a scenario of whole nodes, found {name}")
        failure, digest = steps.run(seed)
        return Outcome(name, seed, failure, digest, time.perf_counter() - began, {})
    scenario = SCENARIOS[name]
    overlay = ring_overlay(scenario.nodes, scenario.degree) if scenario.degree else None
    mesh: World | MemoryMesh
    if tier == "world":
        mesh = World(seed, scenario.nodes, overlay=overlay, trace=trace)
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
    seconds = time.perf_counter() - began
    return Outcome(name, seed, failure, mesh.digest(), seconds, asdict(mesh.metrics))


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
    return Outcome(name, seed, failure, "none in real time", took, asdict(mesh.metrics))


def ring_overlay(nodes: int, degree: int) -> list[tuple[int, int]]:
    """Link each node to `degree` others, at distances that double: any two are near each other."""
    pairs = set()
    for node in range(nodes):
        for i in range(degree // 2):
            pairs.add(tuple(sorted((node, (node + 2**i) % nodes))))
    return sorted((a, b) for a, b in pairs if a != b)


# -- faults --------------------------------------------------------------------------------


def _calm(source: Random, nodes: int) -> list[Fault]:
    return []


def _halves(source: Random, nodes: int) -> list[Fault]:
    order = source.sample(range(nodes), nodes)
    cut = source.randint(1, nodes - 1)
    groups = (tuple(order[:cut]), tuple(order[cut:]))
    return [Fault(source.uniform(1, 3), Partition(groups)), Fault(source.uniform(4, 7), Repair())]


def _islands(source: Random, nodes: int) -> list[Fault]:
    """Split into a few groups, and again into others before they have met."""
    faults = []
    for at in (1.0, 3.5, 6.0):
        count = source.randint(2, 4)
        groups: list[list[int]] = [[] for _ in range(count)]
        for node in range(nodes):
            source.choice(groups).append(node)
        faults.append(Fault(at + source.random(), Partition(tuple(map(tuple, groups)))))
    return faults


def _oneway(source: Random, nodes: int) -> list[Fault]:
    faults = _halves(source, nodes)
    action = faults[0].action
    assert isinstance(action, Partition)
    return [Fault(faults[0].at, Partition(action.groups, is_oneway=True)), faults[1]]


def _rolling(source: Random, nodes: int) -> list[Fault]:
    """One node after the other is cut off, then comes back."""
    faults = []
    for i, node in enumerate(source.sample(range(nodes), nodes)):
        others = tuple(n for n in range(nodes) if n != node)
        at = 0.5 + i * 7 / nodes
        faults.append(Fault(at, Partition(((node,), others))))
    return faults


def _flapping(source: Random, nodes: int) -> list[Fault]:
    faults = []
    for _ in range(60):
        one, other = source.sample(range(nodes), 2)
        faults.append(Fault(source.uniform(0, _SECONDS), Reset(one, other)))
    return faults


def _slow(source: Random, nodes: int) -> list[Fault]:
    faults = []
    for one in range(nodes):
        for other in range(nodes):
            if one != other:
                shape = Shape(
                    one,
                    other,
                    latency_s=source.choice((0.001, 0.02, 0.15, 0.4)),
                    jitter_s=source.choice((0.0, 0.05)),
                    bytes_per_s=source.choice((0.0, 20_000.0, 200_000.0)),
                    loss=source.choice((0.0, 0.02, 0.1)),
                )
                faults.append(Fault(0.0, shape))
    return faults


def _halfopen(source: Random, nodes: int) -> list[Fault]:
    faults = []
    for _ in range(8):
        one, other = source.sample(range(nodes), 2)
        at = source.uniform(0, 6)
        faults += [Fault(at, Hold(one, other)), Fault(at + source.uniform(0.1, 4), Repair())]
    return faults


def _crashes(source: Random, nodes: int) -> list[Fault]:
    faults = []
    for _ in range(12):
        node, at = source.randrange(nodes), source.uniform(0.2, 7)
        faults.append(Fault(at, Crash(node, is_silent=source.random() < 0.3)))
        faults.append(Fault(at + source.uniform(0.01, 2), Restart(node)))
    return faults


def _full(source: Random, nodes: int) -> list[Fault]:
    faults = []
    for node in source.sample(range(nodes), 3):
        at = source.uniform(0.5, 5)
        faults += [Fault(at, FillDisk(node)), Fault(at + source.uniform(0.5, 3), FreeDisk(node))]
        if source.random() < 0.3:
            faults += [Fault(at + 0.4, Crash(node)), Fault(at + 0.8, Restart(node))]
    return faults


def _sleepers(source: Random, nodes: int) -> list[Fault]:
    return [
        Fault(source.uniform(0, 6), Sleep(source.randrange(nodes), source.uniform(0.5, 6)))
        for _ in range(6)
    ]


def _clones(source: Random, nodes: int) -> list[Fault]:
    faults = []
    for _ in range(4):
        one, other = source.sample(range(nodes), 2)
        faults.append(Fault(source.uniform(1, 7), Clone(one, other)))
    return faults


def _hostile(source: Random, nodes: int) -> list[Fault]:
    faults = []
    for _ in range(30):
        one, other = source.sample(range(nodes), 2)
        faults.append(Fault(source.uniform(0, _SECONDS), Garbage(one, other)))
    return faults


def _chaos(source: Random, nodes: int) -> list[Fault]:
    kinds = (_halves, _oneway, _flapping, _halfopen, _crashes, _full, _sleepers, _hostile)
    return [fault for kind in source.sample(kinds, 3) for fault in kind(source, nodes)]


_STEPS: Final = "steps"
SCENARIOS: Final = {
    "calm": Scenario("nothing goes wrong", _calm),
    "halves": Scenario("two groups edit apart and meet again", _halves),
    "islands": Scenario("ever other groups, never all together", _islands),
    "oneway": Scenario("one group hears the other and cannot answer", _oneway),
    "rolling": Scenario("one machine after the other is cut off", _rolling),
    "flapping": Scenario("links end again and again", _flapping),
    "slow": Scenario("latency, jitter, loss and narrow links, each way its own", _slow),
    "halfopen": Scenario("frames of one direction wait, unnoticed", _halfopen),
    "crashes": Scenario("kill -9 and power cuts, at once started again", _crashes),
    "full": Scenario("disks fill up and are freed", _full),
    "sleepers": Scenario("lids are closed and opened", _sleepers),
    "clones": Scenario("data folders are copied to other machines", _clones),
    "hostile": Scenario("garbage arrives on links", _hostile),
    "churn": Scenario(
        "scrolls are emptied and written anew on both sides of a partition",
        _halves,
        workloads=(Workload("churn", 5), Workload("memory", 2)),
    ),
    "bulk": Scenario(
        "many imports while machines crash",
        _crashes,
        workloads=(Workload("bulk", 0.5), Workload("logs", 1)),
    ),
    "chaos": Scenario("three kinds of trouble at a time", _chaos),
    "fifty": Scenario(
        "fifty nodes, eight links each, two groups",
        _halves,
        nodes=50,
        workloads=(Workload("logs", 0.5), Workload("mailboxes", 0.2)),
        degree=8,
    ),
    "five-hundred": Scenario(
        "five hundred nodes, ten links each",
        _calm,
        nodes=500,
        workloads=(Workload("logs", 0.05),),
        seconds=4.0,
        settle_s=30.0,
        degree=10,
    ),
}
NAMES: Final = (*SCENARIOS, _STEPS)
LARGE: Final = ("fifty", "five-hundred")
"""Scenarios that a sweep takes only when they are named."""


def small(tier: Tier) -> list[str]:
    """Return the names of the scenarios that a sweep takes in a tier when none are named."""
    return [name for name in NAMES if name not in LARGE and (tier == "world" or name != _STEPS)]
