"""Pieces: a range that others hold in parts that are asked for one by one."""

from collections.abc import Sequence
from typing import Final

from phextsync.index import Coordinate, CoordinateRange
from phextsync.ranges import subtract

_PIECES_MAX: Final = 64


def cut(
    gap: CoordinateRange, told: Sequence[CoordinateRange], placed: Sequence[CoordinateRange]
) -> list[CoordinateRange]:
    """Return a range in parts, in order, that each lie wholly within or outside of each of the
    ranges that peers `told` that they hold, and of those that are placed apart. Where these would
    be too many, each is as long as one peer holds it: fewer can answer for it."""
    bounds = {gap.lower}
    for range_ in (*told, *placed):
        both = range_.intersect(gap)
        if both is not None:
            bounds.add(both.lower)
            if both.upper is not None and both.upper != gap.upper:
                bounds.add(both.upper)
    if len(bounds) > _PIECES_MAX:
        return _longest(gap, told)
    lowers = sorted(bounds)
    uppers: list[Coordinate | None] = [*lowers[1:], gap.upper]
    return [CoordinateRange(lo, hi) for lo, hi in zip(lowers, uppers, strict=True)]


def _longest(gap: CoordinateRange, told: Sequence[CoordinateRange]) -> list[CoordinateRange]:
    pieces: list[CoordinateRange] = []
    rest: CoordinateRange | None = gap
    while rest is not None:
        parts = [part for range_ in told if (part := range_.intersect(rest)) is not None]
        first = [part for part in parts if part.lower == rest.lower]
        if first:
            piece = max(first, key=lambda part: (part.upper is None, part.upper or part.lower))
        else:
            piece = subtract(rest, parts)[0]
        pieces.append(piece)
        upper = piece.upper
        rest = None if upper is None else rest.intersect(CoordinateRange(upper, None))
    return pieces
