"""Nodes of older minor versions of the protocol are of one mesh with those of today."""

import pytest

from phextsync.index import Coordinate
from phextsync.sync.messages import PROTOCOL_MINOR
from phextsync.testing import Crash, Fault, Partition, Repair, Reset, World

_PLACES = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 6)]
_FAULTS = (
    Fault(1.0, Partition(((0, 1), (2, 3)))),
    Fault(3.0, Repair()),
    Fault(3.5, Crash(0)),
    Fault(4.5, Reset(1, 2)),
    Fault(5.0, Partition(((0, 2), (1, 3)))),
    Fault(7.0, Repair()),
)


def _write(world: World, node: int, at_s: float) -> None:
    world.run_until(at_s)
    place = _PLACES[(node + int(at_s)) % len(_PLACES)]
    line = f"{world.oracle.token()} from {node}\n"
    world.edit(node, place, lambda replica: replica.append(place, line))


@pytest.mark.parametrize("minor", range(PROTOCOL_MINOR))
def test_a_mesh_in_which_one_node_is_older_is_equal_in_the_end(minor: int) -> None:
    world = World(minor, 4, minors={0: minor})
    world.schedule(_FAULTS)
    for step in range(32):
        _write(world, step % 4, 0.25 * (step + 1))
    world.settle(within_s=30)
    assert len({world.text(node, _PLACES[0]) for node in range(4)}) == 1


def test_a_mesh_that_is_upgraded_node_by_node_is_equal_in_the_end() -> None:
    world = World(7, 4, minors={0: 0, 1: 2, 2: 4})
    world.schedule(_FAULTS)
    for step in range(32):
        _write(world, step % 4, 0.25 * (step + 1))
    world.settle(within_s=30)


def test_in_a_chain_the_old_one_in_the_middle_passes_on_what_the_others_write() -> None:
    world = World(3, 3, overlay=[(0, 1), (1, 2)], minors={1: 0})
    for step in range(12):
        _write(world, step % 3, 0.25 * (step + 1))
    world.settle(within_s=30)
