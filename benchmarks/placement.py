"""Placement: how evenly ranges lie on members, what moves when one comes, and what a table takes.

Everything is computed and nothing sent, but for availability. A range weighs the same as any other;
32 lie in a slot on average, where their digests put them. Over 20 seeds.

For repair, a tenth of the members is lost at once. The phext has as many ranges as are cut at most,
each as large as it may be. Holders are those of the library, and so is the pace at which each takes
what comes to it; links carry 12 MB/s to each machine, and who is silent is said and followed when
the slowest of the witnesses has looked and all have computed.

For availability whole nodes run, in virtual time (`availability`): there things are sent.
"""

import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from benchmarks.availability import COUNT, OFF, two_off
from benchmarks.report import Report
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.following import LOOK_S
from phextsync.node.growth import BYTES_MAX, ranges_max
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.node.pace import Pace
from phextsync.placement.holders import Placement
from phextsync.placement.members import Member, table_of
from phextsync.placement.policy import RATE, REPAIR_AFTER_S, Policy
from phextsync.placement.slots import Slots, slots_for

_SIZES: Final = (26, 100, 500)
_COPIES: Final = 3
_RANGES_PER_SLOT: Final = 32
_SEEDS: Final = 20
_TABLE: Final = 5000
_LOST: Final = 10  # one of so many
_LINK_RATE: Final = 12_000_000
_FOLLOW_S: Final = 5.0  # until what is said is followed: settling, and a pause for computing
_STEP_S: Final = 0.5


def run(*, quick: bool) -> Report:
    """Measure meshes of 26, 100 and 500 members and a table of 5,000; with few seeds if `quick`."""
    report = Report()
    for size in _SIZES:
        _measure_mesh(report, size, 2 if quick else _SEEDS)
    _measure_repair(report, _SIZES[-1], 2 if quick else _SEEDS)
    _measure_availability(report, 1 if quick else _SEEDS)
    _measure_table(report)
    return report


def _measure_mesh(report: Report, size: int, seeds: int) -> None:
    """Add how even a mesh of a size is, and what one member more moves."""
    balances, moves, partners, seconds = [], [], [], []
    for seed in range(seeds):
        members = _members(size, seed)
        slots = slots_for(size)
        began = time.perf_counter()
        assigned = Slots(members, DEFAULT_PHEXT, slots, _COPIES).holders
        seconds.append(time.perf_counter() - began)
        balances.append(_balance(assigned, size, seed))
        partners.append(_most_partners(assigned, size))
        more = sorted([*members, *_members(1, size + seed)], key=lambda member: member.node_id)
        moved = _moved(members, assigned, more, Slots(more, DEFAULT_PHEXT, slots, _COPIES).holders)
        moves.append(moved / (slots * _COPIES / (size + 1)))
    report.add(f"balance@{size}", balances, "fullest/mean")
    report.add(f"join_moves@{size}", moves, "of its share")
    report.add(f"co_holders_max@{size}", partners, "members")
    report.add(f"assign_ms@{size}", [1000 * each for each in seconds], "ms")


def _measure_repair(report: Report, size: int, seeds: int) -> None:
    """Add how long it takes until there are enough copies again of what a tenth of a mesh held,
    after the silence that it waits for, and how many bytes that moves."""
    seconds, overheads, gone = [], [], []
    for seed in range(seeds):
        random = Random(seed)
        members = _members(size, seed)
        ids = [member.node_id for member in members]
        lost = dict.fromkeys(random.sample(ids, size // _LOST))
        by = tuple((i, REPAIR_AFTER_S) for i in ids if i not in lost)[:3]
        after = [replace(m, silent=by if m.node_id in lost else ()) for m in members]
        cuts = [Coordinate(1 + i // 999, 1 + i % 999, *[1] * 7) for i in range(1, _ranges(size))]
        held, held_after = (_held(each, cuts) for each in (members, after))
        copies_lost = sum(len(held[i]) for i in lost)
        takes = {i: [r for r in held_after[i] if r not in held[i]] for i in ids if i not in lost}
        left = {range_ for i in takes for range_ in held[i]}
        said_s = max(random.uniform(0, LOOK_S) for _ in range(3 * len(lost)))
        taken_s = max(_take_s([r for r in ranges if r in left]) for ranges in takes.values())
        seconds.append(said_s + _FOLLOW_S + taken_s)
        moved = sum(range_ in left for ranges in takes.values() for range_ in ranges)
        overheads.append(moved / copies_lost)
        gone.append(_ranges(size) - len(left))
    report.add(f"repair_s@{size}", seconds, "s")
    report.add(f"repair_overhead@{size}", overheads, "of what was lost")
    report.add(f"ranges_lost@{size}", gone, f"of {_ranges(size)}")


def _measure_availability(report: Report, seeds: int) -> None:
    """Add which part of reads is answered and of writes accepted while some nodes are off."""
    found = [two_off(seed) for seed in range(seeds)]
    name = f"@{COUNT}-{OFF}"
    reads = sum(each.reads_answered for each in found) / sum(each.reads for each in found)
    writes = sum(each.writes_accepted for each in found) / sum(each.writes for each in found)
    report.add(f"reads_answered{name}", [100 * reads], "%")
    report.add(f"writes_accepted{name}", [100 * writes], "%")


def _ranges(size: int) -> int:
    return ranges_max(size, _COPIES)


def _held(
    members: Sequence[Member], cuts: Sequence[Coordinate]
) -> dict[bytes, dict[CoordinateRange, None]]:
    """Return the ranges that each member holds."""
    table = {member.node_id: member for member in members}
    placement = Placement(table, Policy(DEFAULT_PHEXT, _COPIES), cuts)
    held: dict[bytes, dict[CoordinateRange, None]] = {node_id: {} for node_id in table}
    for piece in placement.ranges(EVERYTHING):
        for member in placement.holders(piece.lower):
            held[member.node_id][piece] = None
    return held


def _take_s(coming: Sequence[CoordinateRange]) -> float:
    """Return how long it takes until ranges have come at the pace of the library."""
    now, carried = 0.0, dict.fromkeys(coming, 0.0)
    pace = Pace(lambda: now, lambda _, range_: carried[range_] >= BYTES_MAX, lambda *_: BYTES_MAX)
    pace.plan(DEFAULT_PHEXT, coming, RATE)
    pace.move_on()
    while any(size < BYTES_MAX for size in carried.values()):
        taking = [r for r in pace.taking(DEFAULT_PHEXT) if carried[r] < BYTES_MAX]
        for range_ in taking:
            carried[range_] += _LINK_RATE * _STEP_S / len(taking)
        now += _STEP_S
        pace.move_on()
    return now


def _measure_table(report: Report) -> None:
    """Add what a table of members takes, and how long it takes to read it."""
    timed, weighed = ([m.to_text() for m in _members(_TABLE, seed)] for seed in range(2))
    began = time.perf_counter()
    table_of(timed)
    report.add("members_load_ms@5e3", [1000 * (time.perf_counter() - began)], "ms")
    table_of(())
    tracemalloc.start()
    table, _ = table_of(weighed)
    report.add("members_mb@5e3", [tracemalloc.get_traced_memory()[0] / 1e6], "MB")
    tracemalloc.stop()
    assert len(table) == _TABLE


def _members(count: int, seed: int) -> list[Member]:
    random = Random(seed)
    made = [Member(random.randbytes(16), f"node-{i}") for i in range(count)]
    return sorted(made, key=lambda member: member.node_id)


def _balance(assigned: Sequence[tuple[int, ...]], size: int, seed: int) -> float:
    """Return what the fullest member has over the mean, where ranges fall into slots at random."""
    random, slots = Random(seed), len(assigned)
    weights = [0] * slots
    for _ in range(_RANGES_PER_SLOT * slots):
        weights[random.randrange(slots)] += 1
    held = [0] * size
    for weight, holders in zip(weights, assigned, strict=True):
        for number in holders:
            held[number] += weight
    return max(held) * size / sum(held)


def _most_partners(assigned: Sequence[tuple[int, ...]], size: int) -> int:
    """Return with how many others the member that has most of them shares slots."""
    partners: list[dict[int, None]] = [{} for _ in range(size)]
    for holders in assigned:
        for number in holders:
            partners[number].update(dict.fromkeys(holders))
    return max(map(len, partners)) - 1


def _moved(
    before: Sequence[Member],
    assigned: Sequence[tuple[int, ...]],
    after: Sequence[Member],
    reassigned: Sequence[tuple[int, ...]],
) -> int:
    """Return how many places of slots have another holder."""
    return sum(
        len({after[i].node_id for i in new} - {before[i].node_id for i in old})
        for old, new in zip(assigned, reassigned, strict=True)
    )
