"""Extents: how far each client has written in a version of a scroll, and what is deleted there."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from phextsync.index import state_vector
from phextsync.varints import read_varints, varints

Ranges: TypeAlias = Mapping[int, list[tuple[int, int]]]
"""For each client the clocks of characters, from and up to; sorted, with gaps between them."""


class Extent(NamedTuple):
    """What a version has: of each client what is below its clock, less what is deleted."""

    clocks: Mapping[int, int]
    deleted: Ranges


def extent_of(version: bytes) -> Extent:
    """Return what a version has."""
    vector = state_vector(version)
    clocks = read_varints(vector)
    left = iter(read_varints(version[len(vector) :]))
    deleted: dict[int, list[tuple[int, int]]] = {}
    for _ in range(next(left)):
        client, at = next(left), 0
        for _ in range(next(left)):
            start = at + next(left)
            at = start + next(left)
            deleted.setdefault(client, []).append((start, at))
    return Extent(dict(zip(clocks[1::2], clocks[2::2], strict=True)), deleted)


def joined(extents: Iterable[Extent]) -> Extent:
    """Return what has all of several."""
    clocks: dict[int, int] = {}
    found: dict[int, list[tuple[int, int]]] = {}
    for extent in extents:
        for client, clock in extent.clocks.items():
            clocks[client] = max(clock, clocks.get(client, 0))
        for client, ranges in extent.deleted.items():
            found.setdefault(client, []).extend(ranges)
    deleted: dict[int, list[tuple[int, int]]] = {}
    for client, ranges in sorted(found.items()):
        whole = deleted.setdefault(client, [])
        for start, stop in sorted(ranges):
            if whole and start <= whole[-1][1]:
                whole[-1] = whole[-1][0], max(stop, whole[-1][1])
            else:
                whole.append((start, stop))
    return Extent(clocks, deleted)


def has(extent: Extent, other: Extent) -> bool:
    """Whether an extent has all of another."""
    return all(
        clock <= extent.clocks.get(client, 0) for client, clock in other.clocks.items()
    ) and all(
        any(first <= start and stop <= last for first, last in extent.deleted.get(client, ()))
        for client, ranges in other.deleted.items()
        for start, stop in ranges
    )


def beyond(extent: Extent, clocks: Mapping[int, int]) -> Ranges:
    """Return what is to be deleted of a text that reaches up to `clocks`, with nothing deleted, to
    leave what an extent has."""
    rest = {client: [(extent.clocks.get(client, 0), clock)] for client, clock in clocks.items()}
    rest = {client: ranges for client, ranges in rest.items() if ranges[0][0] < ranges[0][1]}
    return joined([Extent({}, extent.deleted), Extent({}, rest)]).deleted


def deleting(ranges: Ranges) -> bytes:
    """Return the update that deletes characters."""
    values = [0, len(ranges)]
    for client, some in ranges.items():
        values += [client, len(some)]
        for start, stop in some:
            values += [start, stop - start]
    return varints(*values)
