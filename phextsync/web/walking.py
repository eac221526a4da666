"""Walking: the nine dimensions of a phext, from library to scroll, a page at a time.

A prefix is the first of the nine numbers of a coordinate. What has only one way to go on is walked
at once; what has few scrolls is shown as a list. Costs grow with what a page shows, not with what
a phext has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from phextsync.control.performing import rest_of
from phextsync.index import Coordinate, CoordinateRange
from phextsync.prefixes import Prefix, range_of
from phextsync.replica.replica import Replica
from phextsync.texts import DIMENSIONS, first_line

ROWS: Final = 100
"""Rows of a page, and scrolls up to which a range is shown as a list."""

_COUNTED_MAX: Final = 100  # scrolls of a branch that are counted one by one, news among them
_WEIGHED_MAX: Final = 20_000  # scrolls of a page whose bytes are added up: 10 ms
_LINE_CHARACTERS: Final = 120


@dataclass(frozen=True, slots=True)
class Branch:
    """What begins with a prefix: how many scrolls (those that were emptied may count where it is
    not `is_exact`), their bytes (None: too many to add up), and the first line of the first."""

    prefix: Prefix
    scrolls: int
    is_exact: bool
    size: int | None
    first: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scroll in a list: its bytes and its first line."""

    coordinate: Coordinate
    size: int
    first: str


@dataclass(frozen=True, slots=True)
class Walked:
    """A page of what begins with a prefix: branches, or else leaves; `after` is where the next
    page begins, None at the end. `prefix` is as far as there is one way only."""

    prefix: Prefix
    branches: tuple[Branch, ...]
    leaves: tuple[Leaf, ...]
    after: str | None


def walk(replica: Replica, prefix: Prefix, after: str = "", *, flat: bool = False) -> Walked:
    """Return a page of what begins with a prefix. `flat` lists all scrolls, in their order."""
    within = range_of(prefix)
    few = list(islice(replica.coordinates(within), ROWS + 1))
    if flat or len(few) <= ROWS:
        return _leaves(replica, prefix, rest_of(str(within), after))
    prefix = _one_way(replica, prefix, few[0])
    found: list[Branch] = []
    left = rest_of(str(range_of(prefix)), after)
    for branch in _branches(replica, prefix, left):
        if len(found) == ROWS:
            return Walked(prefix, tuple(found), (), str(_last(found[-1].prefix)))
        found.append(branch)
    return Walked(prefix, tuple(found), (), None)


def _one_way(replica: Replica, prefix: Prefix, first: Coordinate) -> Prefix:
    """Return what the first and the last scroll of a prefix have in common."""
    within = range_of(prefix)
    last = next(replica.index.coordinates(within, filled=True, reverse=True), first)
    unsettled = [c for c in replica.uncommitted() if c in within and replica.size(c)]
    last = max([last, *unsettled])
    common = len(prefix)
    while common < len(DIMENSIONS) - 1 and first.parts[common] == last.parts[common]:
        common += 1
    return first.parts[:common]


def _branches(replica: Replica, prefix: Prefix, left: CoordinateRange | None) -> Iterator[Branch]:
    level, budget = len(prefix), _WEIGHED_MAX
    while left is not None and (at := next(replica.coordinates(left), None)) is not None:
        below = at.parts[: level + 1]
        within = range_of(below)
        first = first_line(replica.read(at), _LINE_CHARACTERS)
        count = replica.index.count(within)
        if count <= _COUNTED_MAX:
            some = list(replica.coordinates(within))
            yield Branch(below, len(some), True, sum(map(replica.read_size, some)), first)
        elif count <= budget:
            budget -= count
            sizes = [size for _, _, size in replica.index.entries(within) if size]
            yield Branch(below, len(sizes), True, sum(sizes), first)
        else:
            yield Branch(below, count, False, None, first)
        left = None if within.upper is None else left.intersect(CoordinateRange(within.upper))


def _leaves(replica: Replica, prefix: Prefix, left: CoordinateRange | None) -> Walked:
    found = [] if left is None else list(islice(replica.coordinates(left), ROWS + 1))
    rows = tuple(leaf_of(replica, at) for at in found[:ROWS])
    after = str(found[ROWS - 1]) if len(found) > ROWS else None
    return Walked(prefix, (), tuple(row for row in rows if row.size), after)


def leaf_of(replica: Replica, at: Coordinate) -> Leaf:
    """Return a scroll as a list has it."""
    line = first_line(replica.read(at), _LINE_CHARACTERS)
    return Leaf(at, replica.read_size(at), line)


def _last(prefix: Prefix) -> Coordinate:
    """Return the last coordinate that begins with a prefix."""
    return Coordinate(*prefix, *[999] * (len(DIMENSIONS) - len(prefix)))
