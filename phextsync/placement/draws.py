"""Draws: in which order members come for a slot. Rendezvous hashing (Thaler and Ravishankar 1998).

Each member draws a number for each slot; the one with the greatest comes first. Only integers are
compared, so that all machines agree: a member of weight w draws w times and its greatest draw
counts, which is the same distribution as w-th roots of one draw.

A slot is a fraction of a circle: slot i of S is i/S. When S doubles, every slot stays what it was,
and between two of them a new one comes. So the draws for a slot belong to the fraction in its
lowest terms: its level, which is the power of two below the bar, and its place at that level.
"""

import sys
from array import array
from collections.abc import Iterator, Sequence
from hashlib import shake_128
from typing import Final, NamedTuple, Protocol

_AT_ONCE: Final = 128  # slots for which draws are made together: a kilobyte for each member
_DRAW_BYTES: Final = 8


class Drawing(Protocol):
    """What draws need of a member."""

    @property
    def node_id(self) -> bytes: ...

    @property
    def weight(self) -> int: ...


class Drawer(NamedTuple):
    """What draws need of a member, and nothing else, so that other facts change no draw."""

    node_id: bytes
    weight: int


def index_of(level: int, place: int, slots: int) -> int:
    """Return which of `slots` slots has this level and place."""
    return 0 if level == 0 else (2 * place + 1) * (slots >> level)


def columns(members: Sequence[Drawing], phext: str, slots: int) -> Iterator[tuple[int, list[int]]]:
    """Iterate over the slots, older levels first, with what each member draws for each. Takes
    memory in proportion to the members."""
    for level in range(slots.bit_length()):
        there = max(1, 1 << level >> 1)
        for start in range(0, there, _AT_ONCE):
            count = min(_AT_ONCE, there - start)
            rows = [_draws(member, phext, level, start, count) for member in members]
            for i in range(count):
                yield index_of(level, start + i, slots), [row[i] for row in rows]


def _draws(member: Drawing, phext: str, level: int, place: int, count: int) -> "array[int]":
    """Return what a member draws for slots of one level that follow each other."""
    drawn = [
        _draw(b"%s %d %d %d %s" % (member.node_id, level, place, i, phext.encode()), count)
        for i in range(member.weight)
    ]
    return drawn[0] if len(drawn) == 1 else array("Q", map(max, *drawn))


def _draw(seed: bytes, count: int) -> "array[int]":
    draws = array("Q")
    draws.frombytes(shake_128(seed).digest(_DRAW_BYTES * count))
    if sys.byteorder == "big":
        draws.byteswap()
    return draws
