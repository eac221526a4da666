"""Ranges as they are stored, and sets of them: what several hold, share, and lack."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange

Ranges: TypeAlias = tuple[CoordinateRange, ...]


def stored_range(text: str) -> CoordinateRange:
    """Return a range as a file or a line has it: there `..`, which nobody may ask for, is
    everything. CoordinateError when it is none."""
    return EVERYTHING if text.strip() == ".." else CoordinateRange.parse(text)


def union(*sources: Iterable[CoordinateRange]) -> Ranges:
    """Return what any of the sources holds, as sorted ranges that do not touch."""
    merged: list[CoordinateRange] = []
    for range_ in sorted((r for source in sources for r in source), key=lambda r: r.lower):
        if not merged:
            merged.append(range_)
            continue
        last = merged[-1]
        if last.upper is None:
            break
        if range_.lower > last.upper:
            merged.append(range_)
        elif range_.upper is None or range_.upper > last.upper:
            merged[-1] = CoordinateRange(last.lower, range_.upper)
    return tuple(merged)


def intersection(first: Sequence[CoordinateRange], second: Sequence[CoordinateRange]) -> Ranges:
    """Return what both hold, as sorted ranges that do not touch."""
    if len(first) == len(second) == 1:  # as nearly always
        both = first[0].intersect(second[0])
        return () if both is None else (both,)
    common = (a.intersect(b) for a in first for b in second)
    return union(both for both in common if both is not None)


def holds(ranges: Iterable[CoordinateRange], range_: CoordinateRange) -> bool:
    """Whether one of the ranges holds all of `range_`."""
    return any(held.intersect(range_) == range_ for held in ranges)


def without(ranges: Iterable[CoordinateRange], parts: Sequence[CoordinateRange]) -> Ranges:
    """Return what is left of `ranges` without `parts`, as sorted ranges that do not touch."""
    return union(left for range_ in ranges for left in subtract(range_, parts))


def subtract(
    whole: CoordinateRange, parts: Sequence[CoordinateRange]
) -> tuple[CoordinateRange, ...]:
    """Return what is left of `whole` without `parts`, in order."""
    left: list[CoordinateRange] = []
    lower: Coordinate | None = whole.lower
    for part in sorted(parts, key=lambda range_: range_.lower):
        both = None if lower is None else part.intersect(CoordinateRange(lower, whole.upper))
        if both is not None and lower is not None:
            if lower < both.lower:
                left.append(CoordinateRange(lower, both.lower))
            lower = both.upper
            if lower is None or lower == whole.upper:
                return tuple(left)
    if lower is not None:
        left.append(CoordinateRange(lower, whole.upper))
    return tuple(left)
