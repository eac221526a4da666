"""Whole nodes that may not be linked with all others, in memory and virtual time."""

import math
from collections.abc import Sequence

import pytest
import trio

from phextsync.control import placing
from phextsync.discovery import Address
from phextsync.errors import LinkError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.neighbourhood import PASSING_S
from phextsync.placement.policy import Rule
from phextsync.sync.messages import Notice
from phextsync.sync.presence import PresenceBoard
from phextsync.testing import Crash, Fault, MemoryMesh, World
from phextsync.testing.faults import Partition, Repair
from phextsync.testing.memory_links import MemoryLinks
from phextsync.testing.mesh import PHEXT
from phextsync.transport import CONNECT_TIMEOUT_S, SecureLink
from phextsync.trust.permissions import Permissions

_A = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)
_COUNT, _LINKS_MAX = 12, 5


def _linked(mesh: MemoryMesh) -> list[set[bytes]]:
    """Return with whom each node that is up is linked."""
    up = (number for number in range(mesh.count) if mesh.is_up(number))
    return [mesh.node(number).links.admitted() for number in up]


def _line(mesh: MemoryMesh, number: int) -> None:
    line = mesh.oracle.token() + "\n"
    mesh.edit(number, _A, lambda replica: replica.append(_A, line))


def test_nodes_keep_as_many_links_as_they_may_and_all_hear_everything() -> None:
    mesh = MemoryMesh(1, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        await mesh.run_until(20)
        linked = _linked(mesh)
        assert all(4 <= len(peers) <= _LINKS_MAX for peers in linked), list(map(len, linked))
        assert all(mesh.node(number).core.tree.is_grown for number in range(_COUNT))
        assert all(len(mesh.node(n).presence.peers()) == _COUNT - 1 for n in range(_COUNT))
        _line(mesh, 3)
        await mesh.run_until(21)
        assert {mesh.text(number, _A).count("\n") for number in range(_COUNT)} == {1}
        await mesh.settle(10)
        assert all(mesh.node(number).is_in_sight() for number in range(_COUNT))
        assert all(mesh.node(number).is_whole() for number in range(_COUNT))

    mesh.run(body)


def test_nodes_that_may_not_hear_of_others_stand_in_nobodys_way() -> None:
    reads = Permissions.from_uris(["phext:memory?read=1.*"])
    world = World(0, 24, links_max=6, permissions=dict.fromkeys(range(21, 24), reads))
    for seconds in range(20, 61, 4):
        world.run_until(seconds)
        for number in range(21):
            heard = world._nodes[number].core.presence.here()
            assert len(heard) == 23, f"{number} after {seconds} s"


def test_nobody_who_is_there_is_believed_gone_after_a_start() -> None:
    mesh = MemoryMesh(9, _COUNT, links_max=_LINKS_MAX)
    gone: list[str] = []

    async def body() -> None:
        for number in range(_COUNT):
            presence = mesh.node(number).presence
            presence.subscribe(lambda peer: None if peer.is_here else gone.append(peer.name))
        await mesh.run_until(2)
        for number in range(_COUNT):
            tree = mesh.node(number).core.tree.branches.values()
            assert any(branch.is_eager for branch in tree), number
        await mesh.run_until(30)
        assert gone == []

    mesh.run(body)


@pytest.mark.parametrize("seed", [1, 2])
def test_nodes_that_start_at_one_moment_hear_of_each_other_few_times(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    boards: dict[PresenceBoard, None] = {}
    received: list[int] = []
    receive = PresenceBoard.receive

    def count(board: PresenceBoard, now: float, link: int, notices: Sequence[Notice]) -> None:
        boards[board] = None
        received.append(len(notices))
        receive(board, now, link, notices)

    monkeypatch.setattr(PresenceBoard, "receive", count)
    World(seed, 40, links_max=6).run_until(4)
    assert [len(board.here()) for board in boards] == 40 * [39]
    assert sum(received) <= 4.5 * 40 * 39


def test_links_are_made_again_when_neighbours_lose_power_and_come_back() -> None:
    mesh = MemoryMesh(2, _COUNT, links_max=_LINKS_MAX)
    mesh.schedule([Fault(20, Crash(number, is_silent=True)) for number in (0, 1, 2)])

    async def body() -> None:
        await mesh.run_until(40)
        linked = _linked(mesh)
        assert all(4 <= len(peers) <= _LINKS_MAX for peers in linked), list(map(len, linked))
        _line(mesh, 3)
        await mesh.settle(20)
        assert {mesh.text(number, _A).count("\n") for number in range(_COUNT)} == {1}

    mesh.run(body)


def test_a_mesh_within_the_limit_is_linked_fully_and_grows_no_tree() -> None:
    mesh = MemoryMesh(3, _LINKS_MAX + 1, links_max=_LINKS_MAX)

    async def body() -> None:
        await mesh.run_until(20)
        assert all(len(peers) == _LINKS_MAX for peers in _linked(mesh))
        assert not any(mesh.node(n).core.tree.is_grown for n in range(mesh.count))
        await mesh.settle(5)

    mesh.run(body)


def test_a_link_that_is_asked_for_lasts_while_it_is_of_use() -> None:
    mesh = MemoryMesh(4, _COUNT, links_max=_LINKS_MAX)

    async def body() -> None:
        await mesh.run_until(20)
        ours, linked = mesh.node(0), _linked(mesh)
        others = {mesh.node(n).core.node_id for n in range(1, _COUNT)} - linked[0]
        far = min(others)
        assert await ours.dialler.link_with([far], within_s=1) == {far}
        await mesh.run_until(20 + PASSING_S - 5)
        assert far in ours.links.admitted()
        assert await ours.dialler.link_with([far], within_s=1) == {far}
        await mesh.run_until(20 + PASSING_S + 5)
        assert far in ours.links.admitted()
        await mesh.run_until(20 + 2 * PASSING_S + 5)
        assert far not in ours.links.admitted()
        assert await ours.dialler.link_with([b"nobody.........."], within_s=1) == set()

    mesh.run(body)


def test_a_node_that_was_asked_for_and_not_there_is_dialled_at_once_by_who_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mesh = MemoryMesh(4, _COUNT, links_max=_LINKS_MAX)
    is_refused = True
    connect = MemoryLinks.connect

    async def connect_or_not(links: MemoryLinks, host: str, port: int) -> SecureLink:
        if is_refused:
            raise LinkError("refused")
        return await connect(links, host, port)

    async def body() -> None:
        nonlocal is_refused
        await mesh.run_until(20)
        ours, linked = mesh.node(0), _linked(mesh)
        far = min({mesh.node(n).core.node_id for n in range(1, _COUNT)} - linked[0])
        monkeypatch.setattr(MemoryLinks, "connect", connect_or_not)
        ours.dialler.ask_for([far])
        await mesh.run_until(25)  # it is tried every two seconds by now
        assert far not in ours.links.ready()
        is_refused = False
        began = trio.current_time()
        assert await ours.dialler.link_with_any([far])
        assert trio.current_time() - began < 0.1

    mesh.run(body)


@pytest.mark.parametrize("seed", [5, 6])
def test_halves_that_meet_again_are_one_mesh(seed: int) -> None:
    mesh = MemoryMesh(seed, _COUNT, links_max=_LINKS_MAX)
    halves = (tuple(range(6)), tuple(range(6, 12)))
    mesh.schedule([Fault(15, Partition(halves)), Fault(30, Repair())])

    async def body() -> None:
        await mesh.run_until(25)
        assert not any(mesh.node(number).is_in_sight() for number in range(_COUNT))
        _line(mesh, 0)
        _line(mesh, 11)
        await mesh.run_until(60)
        linked = _linked(mesh)
        assert all(4 <= len(peers) <= _LINKS_MAX for peers in linked), list(map(len, linked))
        assert {mesh.text(number, _A).count("\n") for number in range(_COUNT)} == {2}

    mesh.run(body)


def test_a_holder_beyond_the_links_is_linked_with_for_a_read() -> None:
    mesh = MemoryMesh(4, _COUNT, links_max=_LINKS_MAX)
    at = Coordinate(7, *[1] * 8)

    async def body() -> None:
        await mesh.run_until(20)
        ours, linked = mesh.node(0), _linked(mesh)[0]
        far = next(n for n in range(1, _COUNT) if mesh.node(n).core.node_id not in linked)
        for number in set(range(_COUNT)) - {far}:  # which have nothing there: nobody has to keep it
            mesh.node(number).replicas.hold(PHEXT, ["1.*"])
        await mesh.run_until(25)
        mesh.node(far).phext(PHEXT)[at] = "far\n"
        placing.set_copies(ours.replicas, PHEXT, 1)
        await mesh.run_until(35)
        rule = Rule(CoordinateRange.parse("7.*"), (mesh.node(far).core.node_id,))
        placing.set_rule(ours.replicas, PHEXT, rule)
        await mesh.run_until(50)
        holders = [n for n in range(_COUNT) if mesh.node(n).replicas.holding.is_held(PHEXT, at)]
        assert holders == [far]
        assert mesh.node(far).core.node_id not in ours.links.admitted()
        assert await ours.fetch(at, PHEXT) == "far\n"
        assert mesh.node(far).core.node_id in ours.links.admitted()

    mesh.run(body)


_HANGS, _REFUSES = "10.0.0.1", "10.0.0.2"
_STRANGERS = 60


def _have_strangers(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[int]]:
    """Let there be addresses where nobody ever answers, and such that refuse. Return when one that
    refuses was dialled, and how many were being dialled at a time where nobody answers."""
    refused: list[float] = []
    hanging: list[int] = [0]
    connect = MemoryLinks.connect

    async def connect_or_not(links: MemoryLinks, host: str, port: int) -> SecureLink:
        if host == _HANGS:
            hanging.append(hanging[-1] + 1)
            await trio.sleep(CONNECT_TIMEOUT_S)
            hanging.append(hanging[-1] - 1)
            raise LinkError("no answer")
        if host == _REFUSES:
            refused.append(trio.current_time())
            raise LinkError("refused")
        return await connect(links, host, port)

    monkeypatch.setattr(MemoryLinks, "connect", connect_or_not)
    return refused, hanging


@pytest.mark.parametrize(("count", "at_once"), [(3, 20), (1, 11 * _LINKS_MAX)])
def test_where_nobody_answers_nobody_waits_for_it(
    count: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = MemoryMesh(7, count, links_max=_LINKS_MAX)
    refused, hanging = _have_strangers(monkeypatch)

    async def body() -> None:
        dialler = mesh.node(0).dialler
        async with trio.open_nursery() as nursery:
            for port in range(_STRANGERS):
                dialler.dial(nursery, Address(_HANGS, port), None, is_neighbour=True)
            await mesh.run_until(20)
            dialler.dial(nursery, Address(_REFUSES, 1), None, is_neighbour=False)
            began = trio.current_time()
            await mesh.run_until(400)
            nursery.cancel_scope.cancel()
        assert refused[0] - began < _STRANGERS / 2 + 5  # half a second for each
        pauses = [b - a for a, b in zip(refused, [*refused[1:], math.inf], strict=True)][:-1]
        assert len(pauses) >= 5
        assert max(pauses) < 130  # at most a minute and a half, and one more turn of the others
        assert max(hanging) <= at_once

    mesh.run(body)
