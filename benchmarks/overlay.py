"""Overlay: what it takes to tell something to many nodes of few links, simulated.

Edits of random nodes among 500 that hold everything; then a tenth of them lose power unseen, and
others edit at once; idle traffic over one interval of presence; edits of ranges that three hold.
And 26 real processes, half of which are cut off for a while.
"""

from collections import Counter
from contextlib import suppress
from random import Random
from typing import Final

from benchmarks.fleet import COUNT, heal
from benchmarks.report import Report
from benchmarks.swarm import PHEXT, Carried, Swarm, node_ids
from phextsync.errors import PhextsyncError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.links import LINKS_MAX
from phextsync.node.overlay import Pair
from phextsync.placement.draws import Drawer
from phextsync.placement.slots import slots_for, slots_of
from phextsync.ranges import subtract

_LENGTH_BYTES: Final = 4  # of each frame
_SIZE: Final = 500
_QUICK_SIZE: Final = 100
_SEEDS: Final = 20
_EDITS_PER_S: Final = 25.0
_CRASHED: Final = 0.1
_COPIES: Final = 3
_STARTS_S: Final = 2.0
_WARM_S: Final = 2.0
_EDIT_S: Final = 3.0
_SETTLES_S: Final = 1.0
_DELIVERED_S: Final = 2.0


def run(*, quick: bool) -> Report:
    """Measure 500 nodes over 20 seeds; 100 nodes and one seed if `quick`."""
    report = Report()
    size, seeds = (_QUICK_SIZE, 1) if quick else (_SIZE, _SEEDS)
    broadcasts = [_broadcast(size, seed) for seed in range(seeds)]
    for i, (name, unit) in enumerate(_BROADCAST):
        report.add(f"{name}@{size}", [found[i] for found in broadcasts], unit)
    placed = [_placed(size, seed) for seed in range(seeds)]
    report.add(f"updates_per_edit@{size}", [found[0] for found in placed], "updates")
    report.add(f"links_max@{size}", [found[1] for found in placed], "links")
    idle = [_idle(size, seed) for seed in range(1 if quick else 3)]
    report.add(f"idle_bytes_per_s@{size}", idle, "bytes/s")
    with suppress(PhextsyncError):  # where there can be no namespaces
        healed = [heal() for _ in range(1 if quick else 3)]
        report.add(f"heal_s@{COUNT}", [found[0] for found in healed], "s")
        report.add(f"resident_mb@{COUNT}", [found[1] for found in healed], "MB")
        report.add(f"mapped_mb@{COUNT}", [found[2] for found in healed], "MB")
    return report


_BROADCAST: Final = (
    ("redundancy", "updates"),
    ("overhead", "of needed"),
    ("last_hop", "links"),
    ("delivered_part", "of nodes"),
)


def _broadcast(size: int, seed: int) -> tuple[float, float, float, float]:
    """Return redundancy, bytes over bytes needed, the last hop, and the part of the nodes that had
    everything two seconds after a tenth had lost power."""
    swarm = Swarm(seed, size, LINKS_MAX)
    swarm.run_until(_STARTS_S)
    _edit(swarm, _WARM_S)
    swarm.run_until(swarm.now + _SETTLES_S)
    before = swarm.carried()
    swarm.hops.clear()
    _edit(swarm, _EDIT_S)
    swarm.run_until(swarm.now + _SETTLES_S)
    carried: Carried = swarm.carried().since(before)
    last_hop = max(max(hops.values()) for hops in swarm.hops.values())
    swarm.crash(swarm.random.sample(swarm.ids, round(size * _CRASHED)))
    places = _edit(swarm, 0.4)
    swarm.run_until(swarm.now + _DELIVERED_S)
    texts = [swarm.having(at) for at in sorted(places)]
    complete = [all(text[i] == max(text, key=len) for text in texts) for i in range(len(swarm.up))]
    redundancy = carried.redundant / (carried.updates - carried.redundant)
    overhead = carried.bytes / carried.bytes_needed
    return redundancy, overhead, last_hop, sum(complete) / len(complete)


def _edit(swarm: Swarm, seconds: float) -> set[Coordinate]:
    """Let random nodes add lines to logs of their own for a while; return where."""
    places: set[Coordinate] = set()
    until = swarm.now + seconds
    while swarm.now < until:
        number = swarm.random.randrange(len(swarm.ids))
        if swarm.nodes[swarm.ids[number]].is_up:
            at = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + number)
            swarm.append(swarm.ids[number], at, "09:30 checked the build and noted it\n")
            places.add(at)
        swarm.run_until(swarm.now + 1 / _EDITS_PER_S)
    return places


def _placed(size: int, seed: int) -> tuple[float, float]:
    """Return how many updates nodes receive for each edit of a range that three of them hold, made
    by one of these; and the most links of a node."""
    drawers = tuple(Drawer(node_id, 1) for node_id in node_ids(size, seed))
    holders = slots_of(drawers, PHEXT, slots_for(size), _COPIES).holders
    ids = [drawer.node_id for drawer in drawers]
    shared: Counter[Pair] = Counter()
    for held_by in holders:
        a, b, c = sorted(ids[number] for number in held_by)
        shared.update([(a, b), (a, c), (b, c)])
    slots = Random(seed).sample(range(len(holders)), 20)
    ranges = {slot: CoordinateRange.parse(f"{2 + i}.*") for i, slot in enumerate(slots)}
    everywhere = tuple(subtract(EVERYTHING, [*ranges.values()]))
    held = {
        node_id: (*everywhere, *(ranges[slot] for slot in slots if number in holders[slot]))
        for number, node_id in enumerate(ids)
    }
    swarm = Swarm(seed, size, LINKS_MAX, shared=shared, held=held)
    swarm.run_until(_STARTS_S)
    for slot in slots:  # each writer first tells everybody its client id
        swarm.append(ids[holders[slot][0]], ranges[slot].lower, "first\n")
    swarm.run_until(swarm.now + 2 * _SETTLES_S)
    before = swarm.carried()
    for slot in slots:
        swarm.append(ids[holders[slot][0]], ranges[slot].lower, "second\n")
    swarm.run_until(swarm.now + _SETTLES_S)
    updates = swarm.carried().since(before).updates
    return updates / len(slots), max(map(len, swarm.links.values()))


def _idle(size: int, seed: int) -> float:
    """Return how many bytes a node sends a second that has nothing to do, over one interval of
    presence."""
    swarm = Swarm(seed, size, LINKS_MAX)
    swarm.run_until(_STARTS_S)
    _edit(swarm, _WARM_S)
    first = swarm.nodes[swarm.ids[0]].core.presence
    for node in swarm.nodes.values():
        tell = node.core.presence.publish
        swarm.at(swarm.now + swarm.random.uniform(0, 5), lambda tell=tell: tell({}))  # type: ignore[misc]
    swarm.run_until(swarm.now + 20)
    before, began = swarm.carried(), swarm.now
    swarm.run_until(swarm.now + max(30.0, first.interval_s))
    carried = swarm.carried().since(before)
    sent = carried.bytes + _LENGTH_BYTES * carried.frames
    return sent / size / (swarm.now - began)
