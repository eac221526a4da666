"""Generators of fault schedules: from a seed's generator and a few parameters to data.

Each is a function of a `Random`, the overlay and its parameters; faults of links happen to nodes
that are linked. Schedules are made for runs of eight seconds, and drawn out to those of a scenario.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, Literal

from phextsync.placement.policy import REPAIR_AFTER_S
from phextsync.testing import (
    Action,
    Clone,
    Crash,
    Damage,
    Deafen,
    Fault,
    FillDisk,
    Follow,
    Forget,
    FreeDisk,
    Garbage,
    HalfOpen,
    Hold,
    Partition,
    Regions,
    Repair,
    Reset,
    Restart,
    SetClock,
    SetCopies,
    SetHeld,
    SetPace,
    SetRule,
    Shape,
    Sleep,
    Tear,
)
from phextsync.testing.faults import Rubbish
from phextsync.testing.workloads import LIBRARIES, libraries
from sims.overlays import Overlay

Schedule = list[Fault]
_TOLD_BY: Final = 3
_SECONDS: Final = 8.0
_RUBBISH: Final[tuple[Rubbish, ...]] = ("noise", "frames")


def draw(
    generators: Mapping[str, Mapping[str, Any]],
    source: Random,
    overlay: Overlay,
    seconds: float = _SECONDS,
) -> Schedule:
    """Return what these generators, with these parameters, make of a run of that many seconds."""
    return [
        replace(fault, at=fault.at * seconds / _SECONDS)
        for name, parameters in generators.items()
        for fault in GENERATORS[name](source, overlay, **parameters)
    ]


def _halves(
    source: Random, overlay: Overlay, *, is_oneway: bool = False, meets: bool = False
) -> Schedule:
    nodes = overlay.nodes
    order = source.sample(range(nodes), nodes)
    cut = source.randint(1, nodes - 1)
    partition = Partition((tuple(order[:cut]), tuple(order[cut:])), is_oneway)
    faults = [Fault(source.uniform(1, 3), partition)]
    if source.random() < 0.5 or meets:  # else they meet when the run ends
        faults.append(Fault(source.uniform(4, 7), Repair()))
    return faults


def _islands(source: Random, overlay: Overlay) -> Schedule:
    """Split into a few groups, and again into others before they have met."""
    faults = []
    for at in (1.0, 3.5, 6.0):
        count = source.randint(2, 4)
        groups: list[list[int]] = [[] for _ in range(count)]
        for node in range(overlay.nodes):
            source.choice(groups).append(node)
        faults.append(Fault(at + source.random(), Partition(tuple(map(tuple, groups)))))
    return faults


def _rolling(source: Random, overlay: Overlay) -> Schedule:
    """One node after the other is cut off, then comes back."""
    nodes = overlay.nodes
    faults = []
    for i, node in enumerate(source.sample(range(nodes), nodes)):
        others = tuple(n for n in range(nodes) if n != node)
        faults.append(Fault(0.5 + i * 7 / nodes, Partition(((node,), others))))
    return faults


def _resets(source: Random, overlay: Overlay, *, times: int = 60) -> Schedule:
    return _anywhere(source, overlay, times, Reset)


def _shapes(
    source: Random, overlay: Overlay, *, duplication: float = 0.0, reordering: float = 0.0
) -> Schedule:
    """Every way between two nodes has its own latency, width and loss; where frames double or
    overtake one another, that is all."""
    faults = []
    for one in range(overlay.nodes):
        for other in range(overlay.nodes):
            if not overlay.are_linked(one, other):
                continue
            if duplication or reordering:
                shape = Shape(one, other, 0.001, 0, 0, 0, duplication, reordering)
            else:
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


def _holds(source: Random, overlay: Overlay, *, times: int = 8) -> Schedule:
    faults = []
    for _ in range(times):
        one, other = overlay.draw(source)
        at = source.uniform(0, 6)
        faults += [Fault(at, Hold(one, other)), Fault(at + source.uniform(0.1, 4), Repair())]
    return faults


def _halfopen(source: Random, overlay: Overlay, *, times: int = 8) -> Schedule:
    return _anywhere(source, overlay, times, HalfOpen)


def _crashes(source: Random, overlay: Overlay, *, times: int = 12) -> Schedule:
    faults = []
    for _ in range(times):
        node, at = source.randrange(overlay.nodes), source.uniform(0.2, 7)
        faults.append(Fault(at, Crash(node, is_silent=source.random() < 0.3)))
        faults.append(Fault(at + source.uniform(0.01, 2), Restart(node)))
    return faults


def _torn(source: Random, overlay: Overlay, *, times: int = 8) -> Schedule:
    """Power cuts in the middle of a write; where the disk rots, an orderly restart finds it."""
    faults = []
    for _ in range(times):
        node, at = source.randrange(overlay.nodes), source.uniform(0.5, 6)
        again = at + source.uniform(0.1, 2)
        if source.random() < 0.5:
            faults.append(Fault(at, Tear(node)))
        else:
            faults += [Fault(again - 0.05, Damage(node)) for _ in range(source.randint(1, 3))]
        faults.append(Fault(again, Restart(node)))
    return faults


def _full_disks(source: Random, overlay: Overlay, *, times: int = 3) -> Schedule:
    faults = []
    for node in source.sample(range(overlay.nodes), min(times, overlay.nodes)):
        at = source.uniform(0.5, 5)
        faults += [Fault(at, FillDisk(node)), Fault(at + source.uniform(0.5, 3), FreeDisk(node))]
        if source.random() < 0.3:
            faults += [Fault(at + 0.4, Crash(node)), Fault(at + 0.8, Restart(node))]
    return faults


def _sleepers(source: Random, overlay: Overlay, *, times: int = 6) -> Schedule:
    return [
        Fault(source.uniform(0, 6), Sleep(source.randrange(overlay.nodes), source.uniform(0.5, 6)))
        for _ in range(times)
    ]


def _clocks(source: Random, overlay: Overlay, *, times: int = 12) -> Schedule:
    """Wall clocks go years forward and back, monotonic ones leap or stand still in sleep."""
    faults = []
    for _ in range(times):
        node, at = source.randrange(overlay.nodes), source.uniform(0, 7)
        if source.random() < 0.4:
            sleep = Sleep(node, source.uniform(0.5, 4), is_counted=source.random() < 0.5)
            faults.append(Fault(at, sleep))
        wall_s = source.choice((-1e9, -3600.0, 0.0, 3600.0, 1e9))
        leap_s = source.choice((0.0, 2.0, 60.0, 86_400.0))
        faults.append(Fault(at, SetClock(node, wall_s, leap_s)))
    return faults


def _clones(source: Random, overlay: Overlay, *, times: int = 4) -> Schedule:
    faults = []
    for _ in range(times):
        one, other = source.sample(range(overlay.nodes), 2)
        faults.append(Fault(source.uniform(1, 7), Clone(one, other)))
    return faults


def _garbage(
    source: Random, overlay: Overlay, *, times: int = 30, of: Rubbish | Literal[""] = ""
) -> Schedule:
    """Noise and changed frames, or what `of` says."""
    faults = []
    for _ in range(times):
        one, other = overlay.draw(source)
        kind: Rubbish = source.choice(_RUBBISH) if of == "" else of
        faults.append(Fault(source.uniform(0, _SECONDS), Garbage(one, other, kind)))
    return faults


def _deaf(source: Random, overlay: Overlay, *, times: int = 2) -> Schedule:
    return [
        Fault(source.uniform(0, 6), Deafen(source.randrange(overlay.nodes), source.uniform(2, 8)))
        for _ in range(times)
    ]


def _offline(source: Random, overlay: Overlay, *, machines: int) -> Schedule:
    return [
        Fault(source.uniform(1, 2), Crash(node, is_silent=True))
        for node in source.sample(range(overlay.nodes), machines)
    ]


def _regions(
    source: Random, overlay: Overlay, *, count: int = 3, latency_s: float = 0.08
) -> Schedule:
    """Nodes lie in regions that are far from each other."""
    groups: list[list[int]] = [[] for _ in range(count)]
    for node in source.sample(range(overlay.nodes), overlay.nodes):
        source.choice(groups).append(node)
    return [Fault(0.0, Regions(tuple(map(tuple, groups)), latency_s, latency_s / 8))]


def _lost(source: Random, overlay: Overlay, *, part: float = 0.1) -> Schedule:
    """A part of all machines goes at one moment, until the end."""
    count = max(1, round(part * overlay.nodes))
    lost = source.sample(range(overlay.nodes), count)
    return [Fault(4.0, Crash(node, is_silent=True)) for node in lost]


def _holdings(source: Random, overlay: Overlay, *, times: int = 12) -> Schedule:
    """Machines hold parts, other parts, everything again; some at the same moment."""
    faults = []
    at = 0.0
    for _ in range(times):
        if source.random() < 0.7:  # else two give up at once
            at = source.uniform(0.5, 7.5)
        node = source.randrange(overlay.nodes)
        copies = source.choice((0, 1, 1, 2, 3))
        faults.append(Fault(at, SetHeld(node, _libraries(source), copies)))
    return faults


def _parts(source: Random, overlay: Overlay, *, copies: int = 3) -> Schedule:
    """From the beginning each machine holds some libraries, each of which so many hold."""
    faults = []
    for node in range(overlay.nodes):
        chosen = [i for i in range(1, LIBRARIES + 1) if (i - node) % overlay.nodes < copies]
        faults.append(Fault(0, SetHeld(node, tuple(f"{i}.*" for i in chosen), copies - 1)))
    return faults


def _libraries(source: Random) -> tuple[str, ...]:
    """Return ranges that are whole libraries: all, a run of them, some, or none."""
    match source.choices(("all", "run", "some", "none"), (3, 5, 3, 1))[0]:
        case "all":
            return ("*",)
        case "run":
            first = source.randint(1, LIBRARIES)
            return tuple(f"{i}.*" for i in range(first, source.randint(first, LIBRARIES) + 1))
        case "some":
            chosen = source.sample(range(1, LIBRARIES + 1), source.randint(1, 5))
            return tuple(f"{i}.*" for i in sorted(chosen))
        case _:
            return ()


def _placed(
    source: Random,
    overlay: Overlay,
    *,
    copies: int = 3,
    times: int = 6,
    repair_after_s: int = REPAIR_AFTER_S,
) -> Schedule:
    """All follow what is placed, and people at several machines place it otherwise, some at the
    same moment."""
    nodes = range(overlay.nodes)
    count = libraries(overlay.nodes)
    cuts = tuple(f"{i}.1.1/1.1.1/1.1.1" for i in range(2, count + 1))
    faults = [Fault(0.1, SetCopies(0, copies, cuts))]
    if repair_after_s != REPAIR_AFTER_S:
        faults.append(Fault(0.1, SetPace(0, repair_after_s)))
    faults += [Fault(source.uniform(0.1, 0.6), Follow(node)) for node in nodes]
    at = 0.0
    for _ in range(times):
        if source.random() < 0.6:
            at = source.uniform(1, 7)
        node, library = source.choice(nodes), f"{source.randint(1, count)}.*"
        members = tuple(source.sample(nodes, source.randint(1, min(3, overlay.nodes))))
        action = source.choice(
            (
                SetCopies(node, source.randint(1, 4)),
                SetRule(node, library, members),
                SetRule(node, library, everywhere=True),
                SetRule(node, library),
            )
        )
        faults.append(Fault(at, action))
    last = source.choice(nodes)
    again = [(last + i) % overlay.nodes for i in range(_TOLD_BY)]  # some of them may be away
    return [*faults, *(Fault(7.5 + i / 10, SetCopies(n, copies)) for i, n in enumerate(again))]


def _members(source: Random, overlay: Overlay, *, times: int = 3) -> Schedule:
    """Machines go, others take them for gone for good, and they come back."""
    faults = []
    for _ in range(times):
        gone, other = source.sample(range(overlay.nodes), 2)
        at = source.uniform(1, 4)
        faults.append(Fault(at, Crash(gone, is_silent=source.random() < 0.5)))
        faults.append(Fault(at + source.uniform(0.1, 1), Forget(other, gone)))
        faults.append(Fault(at + source.uniform(1.5, 3.5), Restart(gone)))
    return faults


def _some(source: Random, overlay: Overlay, *, count: int, of: Sequence[str]) -> Schedule:
    """A few of these kinds of trouble."""
    return draw({name: {} for name in source.sample(of, count)}, source, overlay)


def _swarm(source: Random, overlay: Overlay, *, of: Sequence[str]) -> Schedule:
    """Each of these kinds of trouble or not, by the toss of a coin: what one kind hides, such as a
    crash that ends what another would have led to, shows in runs without it. Groce et al. 2012,
    "Swarm testing"."""
    kinds = [name for name in of if source.random() < 0.5]
    return draw({name: {} for name in kinds}, source, overlay)


def _anywhere(
    source: Random, overlay: Overlay, times: int, action: Callable[[int, int], Action]
) -> Schedule:
    """An action on two linked nodes, at any time."""
    faults = []
    for _ in range(times):
        one, other = overlay.draw(source)
        faults.append(Fault(source.uniform(0, _SECONDS), action(one, other)))
    return faults


GENERATORS: Final[dict[str, Callable[..., Schedule]]] = {
    "halves": _halves,
    "islands": _islands,
    "rolling": _rolling,
    "resets": _resets,
    "shapes": _shapes,
    "holds": _holds,
    "halfopen": _halfopen,
    "crashes": _crashes,
    "torn": _torn,
    "full-disks": _full_disks,
    "sleepers": _sleepers,
    "clocks": _clocks,
    "clones": _clones,
    "garbage": _garbage,
    "deaf": _deaf,
    "offline": _offline,
    "some": _some,
    "swarm": _swarm,
    "regions": _regions,
    "lost": _lost,
    "holdings": _holdings,
    "parts": _parts,
    "placed": _placed,
    "members": _members,
}
