"""Drawing: where the nodes of a mesh stand in a picture of it, as numbers. Pure.

This node is in the middle. The linked ones stand on the first rings around it, those without a link
to it further out, the absent ones outermost. With few nodes there is room for names.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

NAMED_MAX: Final = 30
"""Nodes up to which there is room for their names."""

_NAMED_STEP: Final = (105.0, 90.0)  # between rings, and along them
_DOT_STEP: Final = (26.0, 24.0)
_DOTS_FIRST: Final = 70.0
_MARGIN: Final = (100.0, 50.0)  # for half a name, and for a name
_LEAST: Final = (200.0, 100.0)
_WIDE: Final = 1.5
_HIGH: Final = 0.8
_ROUND: Final = 2 * math.pi * 1.15  # about the way around such an ellipse, by its radius


@dataclass(frozen=True, slots=True)
class Placed:
    """A node in the picture: a number of those that were given, and its middle."""

    number: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Picture:
    """Where all stand, and half the width and height of the picture, whose middle is (0, 0)."""

    nodes: tuple[Placed, ...]
    half_width: float
    half_height: float
    is_named: bool


def picture(groups: Sequence[int]) -> Picture:
    """Return a picture of groups of so many nodes, from the inside to the outside; their numbers go
    on from one group to the next."""
    is_named = sum(groups) <= NAMED_MAX
    apart, along = _NAMED_STEP if is_named else _DOT_STEP
    radius = _NAMED_STEP[0] if is_named else _DOTS_FIRST
    placed: list[Placed] = []
    rings = 0
    for count in groups:
        left = count
        while left:
            if is_named:  # a ring for each group, however wide
                radius = max(radius, left * along / _ROUND)
            on_ring = left if is_named else min(left, int(_ROUND * radius / along))
            placed += _ring(len(placed), on_ring, radius, is_turned=rings % 2 == 0)
            left -= on_ring
            radius += apart
            rings += 1
    widest = _most(abs(node.x) for node in placed)
    highest = _most(abs(node.y) for node in placed)
    half_width = max(widest + _MARGIN[0], _LEAST[0])
    half_height = max(highest + _MARGIN[1], _LEAST[1])
    return Picture(tuple(placed), half_width, half_height, is_named)


def _ring(first: int, count: int, radius: float, *, is_turned: bool) -> list[Placed]:
    """Return nodes on an ellipse that is wider than high, as screens are. With a turn none of them
    stands right above or below the middle, where its name is."""
    start = 0.0
    if is_turned:
        start = math.pi / 2 if count % 2 else math.pi / count
    angles = [2 * math.pi * i / count - math.pi / 2 + start for i in range(count)]
    return [
        Placed(
            first + i,
            round(_WIDE * radius * math.cos(angle), 1),
            round(_HIGH * radius * math.sin(angle), 1),
        )
        for i, angle in enumerate(angles)
    ]


def _most(values: Iterable[float]) -> float:
    return max(values, default=0.0)
