"""Placement: how evenly ranges lie on members, what moves when one comes, and what a table takes.

Everything is computed and nothing sent. A range weighs the same as any other; 32 lie in a slot on
average, where their digests put them. Over 20 seeds.
"""

import time
import tracemalloc
from collections.abc import Sequence
from random import Random
from typing import Final

from benchmarks.report import Report
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.placement.members import Member, table_of
from phextsync.placement.slots import Slots, slots_for

_SIZES: Final = (26, 100, 500)
_COPIES: Final = 3
_RANGES_PER_SLOT: Final = 32
_SEEDS: Final = 20
_TABLE: Final = 5000


def run(*, quick: bool) -> Report:
    """Measure meshes of 26, 100 and 500 members and a table of 5,000; with few seeds if `quick`."""
    report = Report()
    for size in _SIZES:
        _measure_mesh(report, size, 2 if quick else _SEEDS)
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


def _measure_table(report: Report) -> None:
    """Add what a table of members takes, and how long it takes to read it."""
    texts = [member.to_text() for member in _members(_TABLE, 0)]
    began = time.perf_counter()
    table_of(texts)
    report.add("members_load_ms@5e3", [1000 * (time.perf_counter() - began)], "ms")
    tracemalloc.start()
    table, _ = table_of(texts)
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
