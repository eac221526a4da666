"""Placing: the policies and members of a mesh, as scrolls of the phext `.placement`.

A library of it for each kind: 1 has policies and 2 boundaries, each at the place that the digest of
the phext's name tells; 3 has members, at those of their node ids. Where nobody has placed anything
there is no such phext, and nothing is read, written or computed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from phextsync.errors import PhextsyncError
from phextsync.index import EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.placement.holders import Placement
from phextsync.placement.members import Member, read_member, silent_line, table_of
from phextsync.placement.policy import (
    Policy,
    Rule,
    boundaries_text,
    read_boundaries,
    read_policy,
)
from phextsync.placement.slots import slots_for
from phextsync.prefixes import numbers_of
from phextsync.replica.replicas import ReplicaSet

PLACEMENT: Final = ".placement"

_POLICIES, _BOUNDARIES, _MEMBERS = 1, 2, 3
_PIECES_MAX: Final = 16  # into which a phext is cut when it is placed
_PIECE_SCROLLS: Final = 1024
_GROWTH: Final = 2  # slots for as many times the members that there are


def is_placed(replicas: ReplicaSet) -> bool:
    """Whether anybody has placed anything."""
    return PLACEMENT in replicas.names()


def members_of(replicas: ReplicaSet) -> tuple[dict[bytes, Member], list[str]]:
    """Return the members by node id, and what cannot be read of them."""
    return table_of(text for _, text in _texts(replicas, _MEMBERS))


def member_of(replicas: ReplicaSet, node_id: bytes) -> Member | None:
    """Return one of the members, None when it is none."""
    if not is_placed(replicas):
        return None
    return read_member(replicas.open(PLACEMENT).read(_place(_MEMBERS, node_id)))[0]


def policies_of(replicas: ReplicaSet) -> tuple[list[Policy], list[str]]:
    """Return the policies by the names of their phexts, and what cannot be read of them. One that
    lies where another belongs does not count."""
    found: list[Policy] = []
    problems: list[str] = []
    for place, text in _texts(replicas, _POLICIES):
        policy, unread = read_policy(text)
        problems += [f"policy of {policy.phext or 'no phext'}: {line}" for line in unread]
        if policy.phext and place == _place(_POLICIES, policy.phext.encode()):
            found.append(policy)
        else:
            problems.append(f"the policy at {place} is of {policy.phext!r:.60} and does not count")
    return sorted(found, key=lambda policy: policy.phext), problems


def placement_of(
    replicas: ReplicaSet, phext: str, members: Mapping[bytes, Member] | None = None
) -> Placement:
    """Return who holds what of a phext, as it is placed now; `members`: as they were read already,
    None: they are read."""
    policy, boundaries = _read(replicas, phext)
    members = members_of(replicas)[0] if members is None else members
    return Placement(members, policy, boundaries)


def join(replicas: ReplicaSet, member: Member) -> None:
    """Let the table of members have one, as it is now. The first time it is an import: that needs
    no client id, of which everybody would be told besides each member of a mesh."""
    place, text = _place(_MEMBERS, member.node_id), member.to_text()
    replica = replicas.open(PLACEMENT)
    before = replica.read(place)
    if not before:
        replica.import_text(place, text)
    elif before != text:
        replica.edit(place, text)


def follow(replicas: ReplicaSet, phext: str) -> None:
    """Hold what is placed on this node of a phext, which is a member again if it had left. One
    that has nothing of the phext takes nothing before it knows what is placed."""
    known = replicas.known(phext)
    if known is None or not known.has_scrolls(EVERYTHING):
        replicas.hold(phext, (), follows=True)
    replicas.holding.follow(phext)
    member = member_of(replicas, replicas.node_id)
    if member is not None and member.has_left:
        join(replicas, replace(member, has_left=False))


def retire(replicas: ReplicaSet, node_id: bytes) -> None:
    """Let a member have left for good, until it joins again by itself."""
    member = member_of(replicas, node_id)
    if member is not None:
        join(replicas, replace(member, has_left=True))


def say_silent(replicas: ReplicaSet, node_id: bytes, witness: bytes, after_s: int) -> None:
    """Say of a member that a witness has not heard of it for so long, 0: that it has."""
    replica, place = replicas.open(PLACEMENT), _place(_MEMBERS, node_id)
    text = replica.read(place)
    others = silent_line(witness, 0)[:-1]
    kept = [line for line in text.splitlines() if not line.startswith(others)]
    said = [silent_line(witness, after_s)] if after_s else []
    after = "".join(f"{line}\n" for line in [*kept, *said])
    if after != text:
        replica.edit(place, after)


# -- changes -------------------------------------------------------------------------------


def set_copies(replicas: ReplicaSet, phext: str, copies: int | None) -> None:
    """Let so many members hold each range of a phext, None: all of them. A phext without
    boundaries is cut where its scrolls lie now. PhextsyncError for what cannot be."""
    policy, boundaries = _read(replicas, phext)
    _check(replace(policy, copies=copies))
    slots = policy.slots
    if copies is not None:
        slots = max(slots, slots_for(_GROWTH * len(members_of(replicas)[0])))
        boundaries = boundaries or tuple(_cuts(replicas.phext(phext).index))
    _write(replicas, replace(policy, copies=copies, slots=slots), boundaries)


def set_pace(
    replicas: ReplicaSet, phext: str, repair_after_s: int | None, rate: int | None
) -> None:
    """Let others hold what a member held after this silence, and let each take so many bytes a
    second of what comes to it; None is what it was. PhextsyncError for what cannot be."""
    policy, boundaries = _read(replicas, phext)
    policy = replace(
        policy,
        repair_after_s=policy.repair_after_s if repair_after_s is None else repair_after_s,
        rate=policy.rate if rate is None else rate,
    )
    _check(policy)
    _write(replicas, policy, boundaries)


def _check(policy: Policy) -> None:
    """PhextsyncError for a policy that nobody could read."""
    _, problems = read_policy(policy.to_text())
    if problems:
        raise PhextsyncError(problems[0])


def set_rule(replicas: ReplicaSet, phext: str, rule: Rule) -> None:
    """Let a rule hold for its range, in place of the one before; one that says nothing ends it."""
    policy, boundaries = _read(replicas, phext)
    others = [other for other in policy.rules if other.range != rule.range]
    rules = [*others, rule] if rule.pinned or rule.everywhere else others
    _write(replicas, replace(policy, rules=tuple(rules)), boundaries)


def add_boundaries(replicas: ReplicaSet, phext: str, cuts: Iterable[Coordinate]) -> None:
    """Let a phext be cut at more places."""
    replica, place = replicas.open(PLACEMENT), _place(_BOUNDARIES, phext.encode())
    before, _ = read_boundaries(replica.read(place))
    replica.edit(place, boundaries_text([*before, *cuts]))


def note_slots(replicas: ReplicaSet, phext: str, slots: int) -> None:
    """Let a phext have at least so many slots from now on."""
    policy, boundaries = _read(replicas, phext)
    _write(replicas, replace(policy, slots=max(slots, policy.slots)), boundaries)


def named(members: dict[bytes, Member], names: Iterable[str]) -> tuple[bytes, ...]:
    """Return the node ids of members by names, or the beginnings of their ids. PhextsyncError when
    there is none, or more than one."""
    found: dict[bytes, None] = {}
    for name in names:
        ids = [member.node_id for member in members.values() if member.name == name]
        ids = ids or [i for i in members if name and i.hex().startswith(name)]
        if len(ids) != 1:
            known = ", ".join(sorted(member.name for member in members.values())) or "nobody yet"
            raise PhextsyncError(f"expected the name of one member ({known}), found {name!r:.40}")
        found[ids[0]] = None
    return tuple(sorted(found))


# -- scrolls -------------------------------------------------------------------------------


def _read(replicas: ReplicaSet, phext: str) -> tuple[Policy, tuple[Coordinate, ...]]:
    replica = replicas.phext(PLACEMENT)
    policy, _ = read_policy(replica.read(_place(_POLICIES, phext.encode())))
    boundaries, _ = read_boundaries(replica.read(_place(_BOUNDARIES, phext.encode())))
    return (policy, boundaries) if policy.phext == phext else (Policy(phext), boundaries)


def _write(replicas: ReplicaSet, policy: Policy, boundaries: Iterable[Coordinate]) -> None:
    replica, name = replicas.open(PLACEMENT), policy.phext.encode()
    with replica.batch():
        replica.edit(_place(_POLICIES, name), policy.to_text())
        replica.edit(_place(_BOUNDARIES, name), boundaries_text(boundaries))


def _cuts(index: CoordinateIndex) -> Iterator[Coordinate]:
    """Iterate over where a phext is cut into pieces with about equally many scrolls."""
    pieces = min(_PIECES_MAX, len(index) // _PIECE_SCROLLS)
    for i in range(1, pieces):
        yield index.select(i * len(index) // pieces)


def _texts(replicas: ReplicaSet, library: int) -> Iterator[tuple[Coordinate, str]]:
    if is_placed(replicas):
        yield from replicas.open(PLACEMENT).scrolls(CoordinateRange.parse(f"{library}.*"))


def _place(library: int, of: bytes) -> Coordinate:
    """Return where something lies in a library, by the digest of what it is of."""
    return Coordinate(library, *numbers_of(blake2b(of, digest_size=16).digest()))
