"""Wishes: what users say of what is held and placed, done as the commands of a node do it."""

from typing import TypeAlias

from phextsync.control.placing import (
    add_boundaries,
    follow,
    retire,
    set_copies,
    set_pace,
    set_rule,
)
from phextsync.index import Coordinate, CoordinateRange
from phextsync.placement.policy import Rule
from phextsync.replica.replicas import ReplicaSet
from phextsync.testing.faults import Follow, Forget, SetCopies, SetHeld, SetPace, SetRule
from phextsync.testing.mesh import PHEXT
from phextsync.testing.simulated_node import id_of

Wish: TypeAlias = SetHeld | Follow | SetCopies | SetPace | SetRule | Forget
"""The actions that a user of a node asks for."""


def tell(replicas: ReplicaSet, wish: Wish) -> None:
    """Let a node hear what its user wishes. PhextsyncError when it refuses."""
    match wish:
        case SetHeld(_, ranges, copies):
            replicas.hold(PHEXT, map(CoordinateRange.parse, ranges), copies=copies or None)
        case Follow():
            follow(replicas, PHEXT)
        case SetCopies(_, copies, cuts):
            set_copies(replicas, PHEXT, copies or None)
            if cuts:
                add_boundaries(replicas, PHEXT, map(Coordinate.parse, cuts))
        case SetPace(_, repair_after_s):
            set_pace(replicas, PHEXT, repair_after_s, None)
        case SetRule(_, range_, members, everywhere):
            pinned = tuple(sorted(id_of(member) for member in members))
            set_rule(replicas, PHEXT, Rule(CoordinateRange.parse(range_), pinned, everywhere))
        case Forget(_, number):
            retire(replicas, id_of(number))
