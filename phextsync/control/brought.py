"""Brought: which commits of repositories were brought where, as scrolls of the phext `.brought`.

Each range of a phext to which something was brought has a scroll there, at the place that the
digest of both tells, of lines in any order, merged as every text is:

    COMMIT NODE-ID TIME NAME

A node with a name brought the commit at a time by its clock, in milliseconds.
"""

import re
from hashlib import blake2b
from typing import Final, NamedTuple

from phextsync.index import Coordinate, CoordinateRange
from phextsync.prefixes import numbers_of
from phextsync.replica.replicas import ReplicaSet

BROUGHT: Final = ".brought"

_LINE: Final = re.compile(r"([0-9a-f]{40,64}) ([0-9a-f]{32}) (\d{1,14}) (.{1,255})", re.ASCII)
_LINES_MAX: Final = 1000


class Brought(NamedTuple):
    """A commit that a node brought, when and under which name."""

    commit: str
    node_id: bytes
    time_ms: int
    name: str


def brought_to(replicas: ReplicaSet, phext: str, range_: CoordinateRange) -> list[Brought]:
    """Return what was brought to a range, as far as it was heard of, the earliest first. A line
    that cannot be read does not count."""
    if BROUGHT not in replicas.names():
        return []
    lines = replicas.open(BROUGHT).read(_place(phext, range_)).splitlines()[:_LINES_MAX]
    found = [
        Brought(row[1], bytes.fromhex(row[2]), int(row[3]), row[4])
        for row in map(_LINE.fullmatch, lines)
        if row is not None
    ]
    return sorted(found, key=lambda each: (each.time_ms, each))


def note(replicas: ReplicaSet, phext: str, range_: CoordinateRange, commit: str, name: str) -> None:
    """Tell others that this node brings a commit to a range, if it may and did not say so yet."""
    place, node_id = _place(phext, range_), replicas.node_id
    is_told = any(
        (each.commit, each.node_id) == (commit, node_id)
        for each in brought_to(replicas, phext, range_)
    )
    if not is_told and replicas.author.may_write(BROUGHT, place):
        line = f"{commit} {node_id.hex()} {replicas.author.now_ms()} {name}\n"
        replicas.open(BROUGHT).append(place, line)


def _place(phext: str, range_: CoordinateRange) -> Coordinate:
    told = f"{range_} {phext}".encode()
    digest = blake2b(told, digest_size=18, person=b"brought").digest()
    return Coordinate(*numbers_of(digest))
