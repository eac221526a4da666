"""Bytes, messages and time until two replicas know what differs; no network, no scrolls.

Counted are whole frames of comparisons with their lengths, behind the hellos and before the
requests and updates that follow; the requests of a case are reported beside it. A round trip is
two messages until both sides know. Coordinates are those of a nested document; of d differences a
quarter is only on one side, a quarter only on the other, and half are changed. Times are those of
both sides together, after the sketch was made, which is reported for itself. Yardstick for bytes:
a list of all keys with 8 bytes of digest each; for time: reading every entry once in C.
"""

import array
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from benchmarks.index import nested_coordinates
from benchmarks.report import Report
from phextsync.index import EMPTY_VERSION, EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.sync.codec import encode
from phextsync.sync.comparison import SKETCH, Comparison, Turn
from phextsync.sync.messages import Compare, Want
from phextsync.sync.reconcile import Parameters

_VERSION_BYTES = 12  # of a scroll that two nodes have written
_LENGTH_BYTES = 4


@dataclass(slots=True)
class _Outcome:
    """What one comparison cost."""

    sizes: list[int] = field(default_factory=list)  # of its frames, the one that ends it last
    sketches: int = 0
    wanted_bytes: int = 0
    found: int = 0
    seconds: float = 0.0


def run(*, quick: bool) -> Report:
    """Measure at 10^4, 10^5 and, unless `quick`, 10^6 scrolls."""
    report = Report()
    runs = 3 if quick else 7
    for exponent in (4, 5) if quick else (4, 5, 6):
        _measure(report, f"1e{exponent}", 10**exponent, runs)
    return report


def ten_differences(count: int, runs: int) -> list[tuple[float, float, float]]:
    """Return bytes, round trips and milliseconds of finding 10 differences among `count`."""
    coordinates = nested_coordinates(count + count // 10)
    Random(1).shuffle(coordinates)
    coordinates, spare = coordinates[:count], coordinates[count:]
    ours, theirs = _index(coordinates), _index(coordinates)
    ours.sketch_strata()
    theirs.sketch_strata()
    rows = []
    for run_number in range(runs):
        undo = _change(theirs, coordinates, spare, 10, Random(run_number))
        outcome = _compare(ours, theirs, count)
        undo()
        trips = (len(outcome.sizes) - 1) / 2  # less the one that ends it
        rows.append((float(sum(outcome.sizes)), trips, outcome.seconds * 1000))
    return rows


def _measure(report: Report, size: str, count: int, runs: int) -> None:
    coordinates = nested_coordinates(count + count // 10)
    Random(1).shuffle(coordinates)
    coordinates, spare = coordinates[:count], coordinates[count:]
    ours, theirs = _index(coordinates), _index(coordinates)
    start = time.perf_counter()
    ours.sketch_strata()
    report.add(f"sketch_ms@{size}", [(time.perf_counter() - start) * 1000], "ms")
    theirs.sketch_strata()
    listed = f"list_bytes@{size}"
    report.add(listed, [len(ours.list_entries(EVERYTHING))], "bytes")
    passed = f"pass_ms@{size}"
    report.add(passed, [_milliseconds(ours.keys_packed) for _ in range(runs)], "ms")
    equal = [_compare(ours, theirs, None) for _ in range(runs)]
    report.add(f"reconcile_equal_bytes@{size}", [max(o.sizes) for o in equal], "bytes", listed)
    for differences in (1, 10, 100, 1000):
        outcomes = []
        for run_number in range(runs):
            undo = _change(theirs, coordinates, spare, differences, Random(run_number))
            outcomes.append(_compare(ours, theirs, count))
            assert outcomes[-1].found == differences
            undo()
        _report_case(
            report, f"reconcile_{differences}", size, differences, outcomes, listed, passed
        )
    undo = _change(theirs, coordinates, spare, 100, Random(7))
    ranges = [_compare(ours, theirs, None, sketches=False) for _ in range(runs)]
    undo()
    each = [sum(outcome.sizes) / 100 for outcome in ranges]
    report.add(f"ranges_100_bytes_each@{size}", each, "bytes/scroll", listed)
    report.add(f"ranges_100_messages@{size}", [len(o.sizes) - 1 for o in ranges], "messages")
    report.add(f"ranges_100_ms@{size}", [o.seconds * 1000 for o in ranges], "ms", passed)
    _measure_block(report, size, coordinates, listed)
    _measure_change(report, size, theirs, coordinates)


def _report_case(
    report: Report,
    name: str,
    size: str,
    differences: int,
    outcomes: list[_Outcome],
    listed: str,
    passed: str,
) -> None:
    total = [sum(outcome.sizes) for outcome in outcomes]
    if differences <= 10:
        report.add(f"{name}_bytes@{size}", total, "bytes", listed)
    else:
        each = [value / differences for value in total]
        report.add(f"{name}_bytes_each@{size}", each, "bytes/scroll", listed)
        report.add(f"{name}_flights@{size}", [o.sketches for o in outcomes], "messages")
    trips = [(len(outcome.sizes) - 1) / 2 for outcome in outcomes]  # less the one that ends it
    report.add(f"{name}_round_trips@{size}", trips, "round trips")
    report.add(f"{name}_wants_bytes@{size}", [o.wanted_bytes for o in outcomes], "bytes")
    report.add(f"{name}_ms@{size}", [o.seconds * 1000 for o in outcomes], "ms", passed)


def _measure_block(report: Report, size: str, coordinates: list[Coordinate], listed: str) -> None:
    """One side lacks a tenth of the scrolls, all in one run."""
    whole = sorted(coordinates)
    start, block = len(whole) // 3, len(whole) // 10
    lacking = _index(whole[:start] + whole[start + block :])
    outcome = _compare(_index(whole), lacking, len(whole) - block)
    assert outcome.found == block
    each = [sum(outcome.sizes) / block]
    report.add(f"reconcile_block_bytes_each@{size}", each, "bytes/scroll", listed)
    report.add(f"reconcile_block_messages@{size}", [len(outcome.sizes) - 1], "messages")


def _measure_change(
    report: Report, size: str, index: CoordinateIndex, coordinates: list[Coordinate]
) -> None:
    """What keeping the sketch costs a change of a fingerprint."""
    some = Random(3).sample(coordinates, 2000)
    plain = CoordinateIndex()
    plain.bulk_load(*_packed(coordinates))
    times: dict[str, list[float]] = {"sketched": [], "plain": []}
    for _ in range(7):
        for name, changed in (("sketched", index), ("plain", plain)):
            mark = os.urandom(32)
            start = time.perf_counter_ns()
            for coordinate in some:
                changed.set(coordinate, mark, 1)
            times[name].append((time.perf_counter_ns() - start) / len(some))
    report.add(f"change_plain_ns@{size}", times["plain"], "ns")
    report.add(f"change_sketched_ns@{size}", times["sketched"], "ns", f"change_plain_ns@{size}")


def _compare(
    ours: CoordinateIndex,
    theirs: CoordinateIndex,
    announced: int | None,
    *,
    sketches: bool = True,
) -> _Outcome:
    """Run one comparison to its end."""
    # Two scopes that make up everything leave no way but ranges.
    scope = [EVERYTHING] if sketches else [CoordinateRange(EVERYTHING.lower, _LAST)]
    sides = [
        Comparison(index, scope, Parameters(), bytes([i]) * 16)
        for i, index in enumerate((ours, theirs))
    ]
    outcome = _Outcome()
    start = time.perf_counter()
    turn = sides[0].begin(announced)
    who, step = 1, 0
    while True:
        frame = encode(Compare("memory", 1, step, turn.form, turn.body))
        outcome.sizes.append(len(frame) + _LENGTH_BYTES)
        outcome.sketches += turn.form == SKETCH and bool(turn.body)
        if turn.is_last:
            break
        turn = sides[who].answer(turn.form, turn.body)
        _count_found(outcome, turn, (ours, theirs)[who])
        who, step = 1 - who, step + 1
    outcome.seconds = time.perf_counter() - start
    return outcome


_LAST = Coordinate(*[999] * 9)


def _count_found(outcome: _Outcome, turn: Turn, index: CoordinateIndex) -> None:
    found = turn.found
    if found is None:
        return
    outcome.found += len(found.ours) + len(found.theirs) + len(found.changed)
    outcome.found += sum(index.count(range_) for range_ in found.our_ranges)
    wants = [(c, bytes(_VERSION_BYTES), bytes(16)) for c in found.changed]
    wants += [(c, EMPTY_VERSION, b"") for c in found.theirs]
    if wants:
        outcome.wanted_bytes += len(encode(Want("memory", tuple(wants)))) + _LENGTH_BYTES


def _change(
    index: CoordinateIndex,
    coordinates: list[Coordinate],
    spare: list[Coordinate],
    differences: int,
    source: Random,
) -> Callable[[], None]:
    """Make an index differ; return what makes it as it was."""
    changed = source.sample(coordinates, differences - differences // 4)
    removed = changed[: differences // 4]
    before = [(c, index.fingerprint_of(c) or b"") for c in changed]
    added = source.sample(spare, differences // 4)
    for coordinate in removed:
        index.remove(coordinate)
    for coordinate in (*changed[len(removed) :], *added):
        index.set(coordinate, source.randbytes(32), 1)

    def undo() -> None:
        for coordinate in added:
            index.remove(coordinate)
        for coordinate, fingerprint in before:
            index.set(coordinate, fingerprint, 1)

    return undo


def _index(coordinates: list[Coordinate]) -> CoordinateIndex:
    index = CoordinateIndex()
    index.bulk_load(*_packed(coordinates))
    return index


def _packed(coordinates: list[Coordinate]) -> tuple[bytes, bytes, bytes]:
    fingerprints = b"".join(blake2b(c.key, digest_size=32).digest() for c in coordinates)
    sizes = array.array("I", [1] * len(coordinates)).tobytes()
    return b"".join(c.key for c in coordinates), fingerprints, sizes


def _milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1000
