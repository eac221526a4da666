"""What the core keeps of a link: nothing vouches for what it did not see, nothing stays behind."""

from dataclasses import replace
from itertools import permutations

import pytest

from phextsync.index import EMPTY_VERSION, EVERYTHING, Coordinate, CoordinateRange
from phextsync.store.contract import LogEntry
from phextsync.sync.codec import decode, encode
from phextsync.sync.comparison import AUDIT, RANGES
from phextsync.sync.lacks import Lack
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Compare, Entry, Goodbye, Part, Updates
from phextsync.sync.reconcile import Parameters
from phextsync.trust.permissions import Permissions
from sims.attacks import Attacker
from sims.network import PHEXT, Network

_A = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)
_PEER = b"p" * 16
_SMALL = replace(Limits(), frame_bytes_max=1000, scroll_bytes_max=2000)


def _connected(
    count: int,
    *,
    scrolls: int = 0,
    limits: Limits | None = None,
    parameters: Parameters | None = None,
) -> Network:
    network = Network(count, limits=limits, parameters=parameters)
    for peer in network.peers:
        for i in range(1, scrolls + 1):
            peer.replica.import_text(f"2.1.1/1.1.1/1.1.{i}", "here from the start\n")
    network.link_all()
    network.run(0.2)
    return network


def _number(network: Network, one: int, other: int) -> int:
    return next(n for n, ends in network.links.items() if {*ends} == {one, other})


def _carry(network: Network, source: int, target: int) -> None:
    """Let one peer say all that it has to say to another."""
    link = _number(network, source, target)
    while (frame := network.peers[source].core.next_frame(network.now, link)) is not None:
        network.peers[target].core.receive(network.now, link, frame)


def _until_compare(network: Network, who: int, link: int) -> list[bytes]:
    """Return what a peer says up to its next turn of a comparison of the phext."""
    said: list[bytes] = []
    while True:
        frame = network.peers[who].core.next_frame(network.now, link)
        assert frame is not None, "it says no turn of a comparison"
        said.append(frame)
        message = decode(frame, Limits())
        if isinstance(message, Compare) and message.phext == PHEXT:
            return said


def _tell_no_neighbours(network: Network, who: int) -> None:
    """Let a peer relay everything, as to peers that do not tell whom they are linked with."""
    for known in network.peers[who].core.links.values():
        known.lazy.meet(())


# -- comparisons vouch for what they saw ----------------------------------------------------


def test_a_comparison_does_not_vouch_for_what_was_spared_since_it_began() -> None:
    network = _connected(3)
    other, reader, writer = network.peers
    writer.replica[_A] = "x"
    for target in (0, 1):
        _carry(network, 2, target)
        network.peers[target].commit()
    known = other.core.links[link := _number(network, 0, 1)]
    known.comparisons.start(PHEXT, 1)  # no audit: it ends with an empty answer
    writer.replica.append(_A, "y")
    _carry(network, 2, 0)
    _carry(network, 0, 1)
    _carry(network, 1, 0)
    other.commit()
    assert not known.comparisons.sessions[PHEXT].is_open
    assert not other.core.links[link].comparisons.stale
    assert (reader.replica[_A], other.replica[_A]) == ("x", "xy")
    assert reader.node_id not in other.core.lacking(PHEXT)[0]


def test_a_comparison_does_not_vouch_for_what_its_writer_wrote_since_it_began() -> None:
    network = _connected(3)
    other, _, writer = network.peers
    _tell_no_neighbours(network, 1)
    writer.replica[_A] = "x"
    writer.commit()
    for source, target in ((2, 1), (1, 0)):
        _carry(network, source, target)
    other.commit()
    known = other.core.links[link := _number(network, 0, 2)]
    assert (PHEXT, _A) in known.lazy.written
    known.comparisons.start(PHEXT, 1)
    _carry(network, 0, 2)
    answers = _until_compare(network, 2, link)
    writer.replica.append(_A, "y")
    for source, target in ((2, 1), (1, 0)):
        _carry(network, source, target)
    other.commit()
    for frame in answers:
        other.core.receive(network.now, link, frame)
    assert other.replica[_A] == "xy"
    assert writer.durable_texts()[_A] == "x"
    assert not known.comparisons.sessions[PHEXT].is_open
    assert writer.node_id not in other.core.lacking(PHEXT)[0]


@pytest.mark.parametrize("roles", [*permutations(range(3))])
@pytest.mark.parametrize("scrolls", [0, 40])
def test_a_comparison_vouches_for_the_rest_where_a_peer_has_what_nobody_takes_from_it(
    roles: tuple[int, int, int], scrolls: int
) -> None:
    node, other, limited = roles
    network = Network(3)
    reader = network.peers[limited]
    reader.restrict(Permissions.from_uris(("phext:?read=*", f"phext:{PHEXT}?write=1.*")))
    for peer in network.peers:
        for i in range(scrolls):
            peer.replica.import_text(Coordinate(1, 1, 1, 1, 1, 1, 2, 1, 1 + i), "from the start\n")
    network.link(node, limited)
    network.run(1)
    network.peers[node].replica[Coordinate(7, *[1] * 8)] = "lost but for one\n"
    while network.step():
        pass
    reader.commit()
    network.crash(node)
    network.link(node, other)
    network.link(limited, other)
    link = network.link(node, limited)
    reader.replica[_A] = "by who may write it\n"
    network.run(2)
    core = network.peers[node].core
    core.links[link].lazy.note_written(network.now, (PHEXT, _A))  # others told it first
    network.run(5)
    assert core.lacking(PHEXT, CoordinateRange.parse("1.*"))[1] == []
    traffic = core.links[link].traffic
    before = traffic.comparisons
    network.run(5)
    assert traffic.comparisons - before < 10


def test_a_comparison_that_the_peer_cut_short_vouches_for_nothing() -> None:
    limits = replace(Limits(), audit_entries_max=1)  # not saved up
    parameters = Parameters(branches=4, list_max=4)
    network = _connected(3, scrolls=40, limits=limits, parameters=parameters)
    other, reader, writer = network.peers
    writer.replica[_A] = "x"
    _carry(network, 2, 0)
    other.commit()
    known = other.core.links[link := _number(network, 0, 1)]
    assert (PHEXT, _A) in known.lazy.left
    known.comparisons.start(PHEXT)
    _carry(network, 0, 1)
    for frame in _until_compare(network, 1, link):
        other.core.receive(network.now, link, frame)
    _until_compare(network, 0, link)
    session = known.comparisons.sessions[PHEXT]
    assert session.is_open
    assert not session.has_found
    end = Compare(PHEXT, session.number, session.step, RANGES, b"")
    other.core.receive(network.now, link, encode(end))
    assert not session.is_open
    assert _A not in reader.replica
    assert reader.node_id not in other.core.lacking(PHEXT)[0]


def test_who_is_cut_short_at_the_root_is_not_even() -> None:
    limits = replace(Limits(), compares_bytes_max=-1, audit_entries_max=1)  # every turn is too much
    network = _connected(3, scrolls=5, limits=limits)
    other, reader, writer = network.peers
    assert {reader.node_id, writer.node_id} == other.core.lacks.even_peers(PHEXT, EVERYTHING)
    writer.replica[_A] = "x"
    _carry(network, 2, 0)
    other.commit()
    link = _number(network, 0, 1)
    sides = [other.core.links[link], reader.core.links[link]]
    sides[0].comparisons.start(PHEXT)
    _carry(network, 0, 1)
    for frame in _until_compare(network, 1, link):
        other.core.receive(network.now, link, frame)
    assert _A not in reader.replica
    for side in sides:
        session = side.comparisons.sessions[PHEXT]
        assert (session.is_open, session.step, session.is_audit) == (False, 2, False)
        assert side.comparisons.is_comparing(PHEXT)
        assert not side.comparisons.found_none(PHEXT)
    assert reader.node_id not in other.core.lacks.even_peers(PHEXT, EVERYTHING)
    assert reader.node_id not in other.core.lacking(PHEXT)[0]


def test_an_audit_that_the_peer_cut_short_vouches_for_nothing() -> None:
    network = _connected(3, scrolls=5)
    other, reader, writer = network.peers
    network.run(60)  # audits are saved up for
    writer.replica[_A] = "x"
    _carry(network, 2, 0)
    other.commit()
    known = other.core.links[link := _number(network, 0, 1)]
    assert (PHEXT, _A) in known.lazy.left
    known.comparisons.start(PHEXT)
    begun = decode(_until_compare(network, 0, link)[-1], Limits())
    assert isinstance(begun, Compare)
    assert begun.form == AUDIT
    end = Compare(PHEXT, begun.session, 1, RANGES, b"")
    other.core.receive(network.now, link, encode(end))
    assert not known.comparisons.sessions[PHEXT].is_open
    assert _A not in reader.replica
    assert reader.node_id not in other.core.lacking(PHEXT)[0]


# -- what is pushed -------------------------------------------------------------------------


def test_an_update_that_came_from_both_sides_takes_no_other_with_it() -> None:
    network = _connected(3)
    writer, reader, other = network.peers
    _tell_no_neighbours(network, 2)
    writer.replica[_A] = "x\n"
    for target in (1, 2):
        _carry(network, 0, target)
    writer.replica.append(_A, "y\n")
    _carry(network, 0, 2)
    _tell_no_neighbours(network, 1)
    reader.core.links[_number(network, 1, 2)].lazy.left.clear()
    states = [LogEntry(reader.replica.difference(_A, EMPTY_VERSION) or b"", writer.node_id, 0)]
    link = _number(network, 1, 2)
    told = Updates(PHEXT, tuple(Entry(_A, e.update, e.origin, e.time_ms) for e in states))
    other.core.receive(network.now, link, encode(told))
    _carry(network, 2, 1)
    assert reader.replica[_A] == "x\ny\n"


def test_what_a_node_sends_is_not_taken_for_what_is_on_its_disk() -> None:
    network = _connected(2)
    writer, reader = network.peers
    writer.replica[_A] = "x"
    while network.step():
        pass
    reader.commit()
    while network.step():
        pass
    assert reader.core.lacking(PHEXT)[1] == [
        Lack(writer.node_id, 1, "not yet on its disk", "node-1", 1)
    ]
    writer.commit()
    while network.step():
        pass
    assert reader.core.lacking(PHEXT) == ([writer.node_id], [])


# -- parts of large scrolls -----------------------------------------------------------------


def _receives_parts(limits: Limits) -> Attacker:
    attacker = Attacker(Network(1, limits=limits))
    attacker.connect(_PEER)
    return attacker


def test_what_a_link_brought_of_a_scroll_is_forgotten_with_the_link() -> None:
    limits = replace(_SMALL, assemblies_bytes_max=2000)
    attacker = _receives_parts(limits)
    for _ in range(4):
        attacker.send(Part(PHEXT, _A, 0, 3, b"p" * 800))
        assert attacker.is_linked, attacker.read()
        attacker.leave()
        attacker.connect(_PEER)
    assert not attacker.reasons


def test_a_scroll_is_not_assembled_beyond_the_limit_of_a_scroll() -> None:
    limits = _SMALL
    attacker = _receives_parts(limits)
    attacker.send(
        *(Part(PHEXT, _A, i, 4, b"p" * 800) for i in (0, 1)), Part(PHEXT, _A, 2, 4, b"p" * 400)
    )
    assert attacker.is_linked, attacker.read()
    attacker.send(Part(PHEXT, _A, 3, 4, b"p"))
    reason = next(m.reason for m in attacker.read() if isinstance(m, Goodbye))
    assert reason == f"scroll of more than 2000 bytes at {_A}"
