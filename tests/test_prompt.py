"""What a node writes goes to its peers at once, a burst or a batch not in pieces, and who has
nothing to say says little."""

from phextsync.index import Coordinate
from phextsync.node.node import Node
from phextsync.testing import MemoryMesh
from phextsync.testing.mesh import PHEXT

_A = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)


def _frames(node: Node) -> int:
    return node.traffic().frames_out


async def _settled(mesh: MemoryMesh) -> Node:
    """Return a node that has written before, is linked with all others and has nothing to say."""
    await mesh.settle(60)
    mesh.node(0).phext(PHEXT).append(_A, "zero\n")
    await mesh.settle(60)
    await mesh.run_until(mesh.now + 0.5)
    return mesh.node(0)


def test_an_edit_is_sent_to_every_peer_before_its_writer_goes_on() -> None:
    mesh = MemoryMesh(1, 3)

    async def body() -> None:
        node = await _settled(mesh)
        before = _frames(node)
        node.phext(PHEXT).append(_A, "one\n")
        assert _frames(node) == before + 2

    mesh.run(body)


def test_a_burst_is_gathered_after_its_first_edit() -> None:
    mesh = MemoryMesh(1, 2)

    async def body() -> None:
        node = await _settled(mesh)
        before = _frames(node)
        for i in range(100):
            node.phext(PHEXT).append(_A, f"{i}\n")
        assert _frames(node) == before + 1
        await mesh.run_until(mesh.now)
        assert _frames(node) == before + 2
        await mesh.settle(60)

    mesh.run(body)


def test_a_batch_goes_in_one_piece() -> None:
    mesh = MemoryMesh(1, 2)

    async def body() -> None:
        node = await _settled(mesh)
        before = _frames(node)
        with node.phext(PHEXT).batch():
            for i in range(100):
                node.phext(PHEXT).append(_A, f"{i}\n")
        assert _frames(node) == before
        await mesh.run_until(mesh.now)
        assert _frames(node) == before + 1

    mesh.run(body)


def test_a_node_without_work_says_little_to_each_peer() -> None:
    mesh = MemoryMesh(1, 6)

    async def body() -> None:
        node = await _settled(mesh)
        await mesh.run_until(mesh.now + 2)
        before = _frames(node)
        await mesh.run_until(mesh.now + 60)
        # A ping or its answer a second, and who is there every five.
        assert _frames(node) - before <= 2 * 5 * 60

    mesh.run(body)
