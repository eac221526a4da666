"""Whether nobody lacks anything: what may be done only then must not be done a moment earlier."""

from functools import partial
from random import Random

import pytest

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.sync.codec import decode, encode
from phextsync.sync.limits import Limits as WireLimits
from phextsync.sync.messages import Ping, Pong
from phextsync.testing import Crash, MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT
from phextsync.trust.permissions import Permissions
from sims.network import Network

_A = Coordinate(*[1] * 9)
_DAY_S = 86400.0


def _even(network: Network, number: int, range_: CoordinateRange = EVERYTHING) -> set[int]:
    """Return the numbers of the peers that a node takes to be even with it."""
    return {peer[0] - 1 for peer in network.peers[number].core.lacks.even_peers(PHEXT, range_)}


# -- linked peers --------------------------------------------------------------------------


def test_a_peer_is_even_when_it_was_compared_and_found_equal() -> None:
    network = Network(2)
    network.peers[0].replica[_A] = "ours"
    network.run(0)
    network.link(0, 1)
    assert (_even(network, 0), _even(network, 1)) == (set(), set())
    network.run(1)
    assert (_even(network, 0), _even(network, 1)) == ({1}, {0})


def test_a_peer_is_not_even_until_an_edit_is_on_its_disk() -> None:
    network = Network(2)
    network.link(0, 1)
    network.run(1)
    network.peers[0].replica[_A] = "ours"
    assert _even(network, 0) == set(), "not even on our own disk"
    network.peers[0].commit()
    while network.step():
        pass
    assert _even(network, 0) == set(), "not on its disk"
    network.run(1)
    assert (_even(network, 0), _even(network, 1)) == ({1}, {0})


def test_a_peer_that_sends_much_is_not_even_before_all_of_it_has_come() -> None:
    network = Network(2)
    with network.peers[0].replica.batch():
        for i in range(3000):
            network.peers[0].replica[Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 900, 1 + i % 900)] = (
                f"{i}" * 99
            )
    network.run(0)
    link = network.link(0, 1)
    for _ in range(10_000):
        network.step()
        network.peers[1].commit()
        for number in (0, 1):
            if _even(network, number):
                assert len(network.peers[1].replica) == 3000
        if _even(network, 1):
            break
        if not network.step():
            network.run(0.05)
    assert link in network.links
    assert _even(network, 1) == {0}


def _fill(network: Network, number: int, scrolls: range) -> None:
    with network.peers[number].replica.batch():
        for i in scrolls:
            network.peers[number].replica[
                Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 900, 1 + i % 900)
            ] = f"{i}"


def _run_by_frames(network: Network, number: int, other: int) -> None:
    """Let two peers become equal, frame by frame: no claim comes before they are."""
    for _ in range(3000):
        moved = network.step()
        claims = {(a, b) for a, b in ((number, other), (other, number)) if b in _even(network, a)}
        kept = [network.peers[each].durable_texts() for each in (number, other)] if claims else []
        assert kept == kept[::-1], claims
        if len(claims) == 2:
            return
        if not moved:
            if not any([peer.replicas.is_dirty for peer in network.peers]):
                network.now += 0.05
                for peer in network.peers:
                    peer.core.tick(network.now)
            for peer in network.peers:
                peer.commit()
    raise AssertionError("not even after 3000 frames")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (range(5), range(0)),
        (range(0), range(5)),
        (range(5), range(3, 8)),
        (range(500), range(3, 500)),
        (range(2, 500), range(503)),
        (range(200), range(0)),
    ],
)
def test_peers_that_meet_are_not_even_before_they_are_equal(ours: range, theirs: range) -> None:
    network = Network(2)
    _fill(network, 0, ours)
    _fill(network, 1, theirs)
    network.run(0)
    network.link(0, 1)
    _run_by_frames(network, 0, 1)


@pytest.mark.parametrize("scrolls", [3, 300])
@pytest.mark.parametrize(("near", "far", "is_due"), [(0, 1, False), (1, 0, False), (0, 1, True)])
def test_what_a_peer_got_from_others_makes_it_uneven_once_it_was_compared(
    near: int, far: int, is_due: bool, scrolls: int
) -> None:
    network = Network(3)
    network.link(0, 1)
    network.run(1)
    _fill(network, 2, range(scrolls))
    network.run(0)
    brought = network.link(2, far)
    while len(network.peers[far].durable_texts()) < scrolls:
        network.step()
        network.peers[far].commit()
    network.cut(brought)
    before = _comparisons(network, near)
    if is_due:  # at once, before the other side has said that there is something
        (link,) = network.links
        network.peers[near].core.links[link].comparisons.due[PHEXT] = network.now
        network.peers[near].core.tick(network.now)
    while _comparisons(network, near) == before:
        if not network.step():
            network.now += 0.05
            for peer in network.peers:
                peer.core.tick(network.now)
    _run_by_frames(network, 0, 1)


def _comparisons(network: Network, number: int) -> int:
    (link,) = network.links
    return network.peers[number].core.traffic(link).compare_messages


def test_a_peer_that_was_spared_an_update_is_not_even_until_it_was_compared() -> None:
    network = _mesh_of_three()
    writer = network.peers[2]
    writer.replica[_A] = "text"
    (to_second,) = [link for link, ends in network.links.items() if set(ends) == {2, 1}]
    frames = []
    while (frame := writer.core.next_frame(network.now, to_second)) is not None:
        frames.append(frame)  # which do not arrive
    while network.step():
        pass
    for peer in network.peers:
        peer.commit()
    assert frames
    assert network.peers[0].replica[_A] == "text"
    assert _A not in network.peers[1].replica
    assert 1 not in _even(network, 0)
    network.cut(to_second)
    network.run(40)
    assert network.peers[1].replica[_A] == "text"
    assert 1 in _even(network, 0)


def _mesh_of_three() -> Network:
    network = Network(3)
    network.link_all()
    network.run(3)
    return network


def test_a_peer_that_cannot_take_something_is_never_even() -> None:
    network = Network(2)
    writes = {PHEXT: (CoordinateRange.parse("2.*"),)}
    network.peers[1].restrict(Permissions.of({PHEXT: (EVERYTHING,)}, writes), is_liar=True)
    network.link(0, 1)
    network.run(1)
    network.peers[1].replica[_A] = "not allowed"
    network.run(40)
    assert (_even(network, 0), _even(network, 1)) == (set(), set())


def test_a_range_counts_alone() -> None:
    network = Network(2)
    network.link(0, 1)
    network.run(1)
    network.peers[0].replica[_A] = "under way"
    assert _even(network, 0) == set()
    assert _even(network, 0, CoordinateRange.parse("2.*")) == {1}


def test_a_peer_that_may_not_see_a_range_needs_nothing_of_it() -> None:
    network = Network(2)
    own = (CoordinateRange.parse("2.*"),)
    network.peers[1].restrict(Permissions.of({PHEXT: own}, {PHEXT: own}))
    network.link(0, 1)
    network.peers[0].replica[_A] = "not for it"
    network.run(1)
    assert _even(network, 0, CoordinateRange.parse("1.*")) == {1}


def test_whether_a_peer_holds_a_new_phext_is_open_until_it_has_had_time_to_say_so() -> None:
    network = Network(2)
    ours, theirs = network.peers
    theirs.hold({PHEXT: (EVERYTHING,)})
    network.link(0, 1)
    network.run(1)
    ours.replicas.open("other")[_A] = "text"
    ours.commit()
    while network.step():
        pass
    assert ours.core.lacks.even_peers("other", EVERYTHING) == set()
    network.run(4)
    assert ours.core.lacks.even_peers("other", EVERYTHING) == {theirs.node_id}


@pytest.mark.parametrize("seed", range(6))
def test_who_is_called_even_has_all_that_is_known(seed: int) -> None:
    """Edits, cuts and crashes at random: what a node knows is on the disk of a peer that it calls
    even, and when all is quiet, it has what that peer has."""
    source, network = Random(seed), Network(3, seed)
    network.link_all()
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + i) for i in range(4)]
    claims = 0
    for i in range(150):
        match source.randrange(10):
            case 0 if network.links:
                network.cut(source.choice(sorted(network.links)))
            case 1:
                network.link_all()
            case 2:
                network.crash(source.randrange(3))
            case 3 | 4 | 5:
                network.peers[source.randrange(3)].replica.append(source.choice(places), f"{i}\n")
            case 6 | 7:
                for _ in range(source.randrange(20)):
                    network.step()
            case _:
                network.run(source.choice([0, 0.05, 0.2, 1, 5]))
        for number in range(3):
            ours = {line for text in network.texts()[number].values() for line in text.split()}
            for other in _even(network, number):
                claims += 1
                kept = network.peers[other].durable_texts().values()
                assert ours <= {line for text in kept for line in text.split()}, i
    assert claims > 10
    network.link_all()
    network.run(90)
    network.assert_equal()
    assert [_even(network, number) for number in range(3)] == [{1, 2}, {0, 2}, {0, 1}]


# -- answers to pings ----------------------------------------------------------------------


def test_a_round_trip_is_measured_by_the_answer_to_a_ping_that_was_sent() -> None:
    network = Network(2)
    link = network.link(0, 1)
    network.run(1)
    ours = network.peers[0].core
    before = ours.links[link].heartbeat.round_trip_s
    network.now += 0.5
    ours.receive(network.now, link, encode(Pong(1 << 40)))
    assert ours.links[link].heartbeat.round_trip_s == before, "an answer that nobody asked for"

    tokens = []
    for _ in range(2):
        network.now += 1.125
        ours.tick(network.now)
        while (frame := ours.next_frame(network.now, link)) is not None:
            message = decode(frame, WireLimits())
            if isinstance(message, Ping):
                tokens.append(message.token)
    first, second = tokens
    network.now += 0.25
    ours.receive(network.now, link, encode(Pong(first)))
    assert ours.links[link].heartbeat.round_trip_s == pytest.approx(1.375), (
        "of two pings the first is answered"
    )
    ours.receive(network.now, link, encode(Pong(first)))
    ours.receive(network.now, link, encode(Pong(second)))
    assert ours.links[link].heartbeat.round_trip_s == pytest.approx(0.25)


# -- nodes ---------------------------------------------------------------------------------


def _whole(mesh: MemoryMesh) -> list[bool]:
    return [mesh.node(number).is_whole(PHEXT) for number in range(mesh.count)]


def test_a_node_that_never_met_anybody_is_whole() -> None:
    mesh = MemoryMesh(1, 1)

    async def body() -> None:
        mesh.edit(0, _A, lambda replica: replica.append(_A, "text\n"))
        assert _whole(mesh) == [True]
        await mesh.run_until(1)
        assert _whole(mesh) == [True]

    mesh.run(body)


def test_a_range_is_whole_while_all_that_were_met_are_here_and_even() -> None:
    mesh = MemoryMesh(1, 3)

    async def body() -> None:
        await mesh.run_until(1)
        await mesh.settle(10)
        await mesh.run_until(mesh.now + 2)
        assert _whole(mesh) == [True] * 3
        mesh.edit(0, _A, lambda replica: replica.append(_A, "text\n"))
        assert not mesh.node(0).is_whole(PHEXT)
        assert mesh.node(0).is_whole(PHEXT, "2.*")
        await mesh.run_until(mesh.now + 2)
        assert _whole(mesh) == [True] * 3
        mesh.apply(Partition(((0, 1), (2,))))
        await mesh.run_until(mesh.now + 10)
        assert _whole(mesh) == [False] * 3
        mesh.apply(Repair())
        await mesh.settle(60)
        await mesh.run_until(mesh.now + 2)
        assert _whole(mesh) == [True] * 3

    mesh.run(body)


def test_a_node_that_starts_waits_for_those_that_it_met_before_whoever_dialled() -> None:
    mesh = MemoryMesh(2, 2)

    async def body() -> None:
        await mesh.run_until(1)
        for number in (0, 1):
            mesh.apply(Crash(1 - number))
            mesh.apply(Restart(number))
            await mesh.run_until(mesh.now + 1)
            assert not mesh.node(number).is_whole(PHEXT)
            mesh.apply(Restart(1 - number))
            await mesh.settle(60)
            await mesh.run_until(mesh.now + 2)
            assert _whole(mesh) == [True] * 2

    mesh.run(body)


def test_a_peer_that_is_away_for_thirty_days_or_blocked_or_forgotten_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mesh = MemoryMesh(3, 2)

    async def body() -> None:
        await mesh.run_until(1)
        node = mesh.node(0)
        absent = mesh.node(1).core.node_id
        mesh.apply(Crash(1))
        await mesh.run_until(mesh.now + 10)
        assert not node.is_whole(PHEXT)
        node.known.block(absent.hex())
        assert node.is_whole(PHEXT)
        node.known.allow(absent.hex())
        assert not node.is_whole(PHEXT)
        met = node.acquaintances
        for days, is_whole in ((29, False), (31, True)):
            later_s = mesh.now + days * _DAY_S
            with monkeypatch.context() as patch:
                patch.setattr(met, "wall_time_s", partial(float, later_s))
                assert node.is_whole(PHEXT) is is_whole
        met.remembered.overlook(absent)
        assert node.is_whole(PHEXT)

    mesh.run(body)
