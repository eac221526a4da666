"""Availability: reads and writes of all that is placed on three of 26 nodes, while two are off.

Whole nodes in virtual time, over a network in memory. Two that hold the same lose power unseen;
others read and write everywhere at once, and again when that was noticed. In the end all that was
written is there.
"""

from dataclasses import dataclass
from typing import Final

from phextsync.control import placing
from phextsync.errors import NotHeldError
from phextsync.index import Coordinate
from phextsync.node.node import Node
from phextsync.testing import Crash, MemoryMesh, Restart
from phextsync.testing.mesh import PHEXT

COUNT: Final = 26
OFF: Final = 2

_COPIES: Final = 3
_STARTS_S: Final = 10.0
_PLACED_S: Final = 40.0
_NOTICED_S: Final = 10.0
_BACK_S: Final = 40.0
_TEXT: Final = "09:30 checked the build and noted it\n"


@dataclass(slots=True)
class Answered:
    """How many reads and writes there were, and how many were answered and accepted."""

    reads: int = 0
    reads_answered: int = 0
    writes: int = 0
    writes_accepted: int = 0


def two_off(seed: int, count: int = COUNT) -> Answered:
    """Return what became of reads and writes among so many nodes. AssertionError when something was
    lost."""
    mesh, counted = MemoryMesh(seed, count), Answered()
    places = [Coordinate(library, *[1] * 8) for library in range(1, count)]
    source = mesh.random("availability")

    async def body() -> None:
        await mesh.run_until(_STARTS_S)
        first = mesh.node(0)
        for number, place in enumerate(places):
            mesh.node(number % count).phext(PHEXT)[place] = _TEXT
        await mesh.run_until(mesh.now + 1)
        placing.set_copies(first.replicas, PHEXT, _COPIES)
        placing.add_boundaries(first.replicas, PHEXT, places)
        for number in range(count):
            mesh.node(number).desk.ask(["follow", PHEXT])
        await mesh.run_until(mesh.now + _PLACED_S)
        assert all(len(_having(mesh, place)) == _COPIES for place in places)
        off = source.sample(_having(mesh, places[0]), OFF)  # no two miss more copies of one
        for number in off:
            mesh.apply(Crash(number, is_silent=True))
        users = [number for number in range(count) if number not in off]
        lines = {place: 1 for place in places}
        for _ in range(2):
            for place in places:
                await _read(mesh.node(source.choice(users)), place, counted)
                is_written = await _write(mesh.node(source.choice(users)), place, counted)
                lines[place] += is_written
            await mesh.run_until(mesh.now + _NOTICED_S)
        for number in off:
            mesh.apply(Restart(number))
        await mesh.run_until(mesh.now + _BACK_S)
        for place in places:
            assert await mesh.node(source.choice(users)).fetch(place, PHEXT) == (
                _TEXT * lines[place]
            )
            assert len(_having(mesh, place)) == _COPIES

    mesh.run(body)
    return counted


def _having(mesh: MemoryMesh, place: Coordinate) -> list[int]:
    """Return which nodes hold a place and have what is there."""
    return [
        number
        for number in range(mesh.count)
        if mesh.node(number).replicas.holding.is_held(PHEXT, place)
        and place in mesh.node(number).phext(PHEXT).index
    ]


async def _read(node: Node, place: Coordinate, counted: Answered) -> None:
    counted.reads += 1
    try:
        text = await node.fetch(place, PHEXT)
    except NotHeldError:
        return
    counted.reads_answered += text.startswith(_TEXT)


async def _write(node: Node, place: Coordinate, counted: Answered) -> bool:
    counted.writes += 1
    await node.foreign.fetch_to_write(PHEXT, place)
    try:
        node.phext(PHEXT).append(place, _TEXT)
    except NotHeldError:
        return False
    counted.writes_accepted += 1
    return True
