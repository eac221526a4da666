"""A read finds a holder that answers, whoever of the others has gone without a word."""

import pytest
import trio

from phextsync.control import placing
from phextsync.index import Coordinate
from phextsync.testing import Crash, MemoryMesh
from phextsync.testing.mesh import PHEXT

_COUNT = 16
_PLACE = Coordinate(3, *[1] * 8)
_TEXT = "09:30 checked the build\n"


async def _placed(mesh: MemoryMesh, copies: int) -> dict[int, list[int]]:
    """Place a scroll on so many nodes; return them as each of the others prefers them."""
    await mesh.run_until(5)
    mesh.node(0).phext(PHEXT)[_PLACE] = _TEXT
    placing.set_copies(mesh.node(0).replicas, PHEXT, copies)
    for number in range(_COUNT):
        mesh.node(number).desk.ask(["follow", PHEXT])
    await mesh.run_until(60)
    by_id = {mesh.node(number).identity.node_id: number for number in range(_COUNT)}
    holders = {
        number: [by_id[each.node_id] for each in node.following.holders(PHEXT, _PLACE)]
        for number in range(_COUNT)
        for node in [mesh.node(number)]
        if not node.replicas.holding.is_held(PHEXT, _PLACE)
    }
    assert all(len(each) == copies for each in holders.values())
    return holders


def _linked(mesh: MemoryMesh, number: int, others: list[int]) -> list[bool]:
    linked = {peer.node_id for peer in mesh.node(number).peers()}
    return [mesh.node(other).identity.node_id in linked for other in others]


@pytest.mark.parametrize("copies", [3, 4])
@pytest.mark.parametrize("is_linked", [False, True], ids=["with none linked", "with one linked"])
def test_a_holder_answers_while_all_that_are_preferred_are_silent(
    copies: int, is_linked: bool
) -> None:
    mesh = MemoryMesh(2, _COUNT, links_max=4)

    async def body() -> None:
        holders = await _placed(mesh, copies)
        reader, order = next(
            (number, order)
            for number, order in holders.items()
            for *silent, last in [_linked(mesh, number, order)]
            if not last and any(silent) == is_linked
        )
        for number in order[:-1]:
            mesh.apply(Crash(number, is_silent=True))
        began = trio.current_time()
        assert await mesh.node(reader).fetch(_PLACE, PHEXT) == _TEXT
        assert trio.current_time() - began < 0.5

    mesh.run(body)


def test_a_holder_that_refuses_is_passed_over_at_once() -> None:
    mesh = MemoryMesh(2, _COUNT, links_max=4)

    async def body() -> None:
        holders = await _placed(mesh, 4)
        reader, order = next(
            each for each in holders.items() if not any(_linked(mesh, each[0], each[1]))
        )
        for number in order[:-1]:
            mesh.apply(Crash(number))
        began = trio.current_time()
        assert await mesh.node(reader).fetch(_PLACE, PHEXT) == _TEXT
        assert trio.current_time() - began < 0.04

    mesh.run(body)
