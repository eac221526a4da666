"""A hostile member costs a bounded amount of memory and time; the others go on."""

import pytest

from benchmarks.hostile import measure
from phextsync.crdt import Scroll
from phextsync.index import EMPTY_VERSION, Coordinate
from phextsync.sync.comparison import AUDIT, RANGES
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Compare, Conflict, Entry, Updates
from sims.attacks import ATTACKS, SCROLLS, Attacker, meet, place, suffer
from sims.network import PHEXT, Network

_LARGE = {"new_scrolls", "requests_without_end", "scrolls_that_are_not_there", "never_durable"}


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - _LARGE))
def test_an_attack_ends_with_its_reason_and_honest_peers_go_on(name: str) -> None:
    suffer(name)


@pytest.mark.parametrize("name", sorted(_LARGE))
def test_an_attack_by_sheer_size_is_borne(name: str) -> None:
    suffer(name)


@pytest.mark.real
@pytest.mark.parametrize("name", ["parts_without_end", "phexts", "unread_large_requests"])
def test_the_memory_that_an_attack_takes_is_within_its_limit(name: str) -> None:
    measure(name)


def test_no_attack_makes_the_operator_read_more_than_a_few_lines() -> None:
    for name in ("refuses_everything", "unread_refusals", "conflicts"):
        attacker = suffer(name)
        lines = attacker.network.peers[0].replicas.reports
        assert len(lines) <= Limits().refusals_reported_max + 2, name


def test_a_peer_has_us_audit_no_more_entries_than_it_has_saved_up_for() -> None:
    attacker = Attacker(meet(Limits(audit_entries_max=SCROLLS)))
    attacker.connect(b"\0" * 16)
    attacker.network.now += 3.5
    answered = 0
    for session in range(1, 100):
        attacker.compare(session, 0, AUDIT, bytes(16))
        turns = [said for said in attacker.read() if isinstance(said, Compare)]
        if any(len(turn.body) > 16 for turn in turns):
            answered += 1
            attacker.compare(session, 2, RANGES, b"")
    assert answered == 7  # two a second


def test_another_text_is_adopted_only_for_the_very_version() -> None:
    attacker = Attacker(meet())
    victim = attacker.network.peers[0]
    at = Coordinate(*[1] * 9)
    attacker.connect()
    attacker.send(Conflict(PHEXT, at, bytes(16)))
    other = Scroll(at, 77).append("other text\n") or b""
    attacker.send(Updates(PHEXT, (Entry(at, other),)))
    assert sorted(victim.replica[at].splitlines()) == ["other text", "scroll 0"]  # merged
    attacker.send(Conflict(PHEXT, place(5), bytes(16)))
    assert place(5) not in victim.replica.index
    second = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 2)
    state = victim.replica.difference(second, EMPTY_VERSION) or b""
    attacker.send(Conflict(PHEXT, second, bytes(16)))
    attacker.send(Updates(PHEXT, (Entry(second, state.replace(b"scroll", b"SCROLL")),)))
    assert victim.replica[second].splitlines() == ["SCROLL 1", "scroll 1"]


def test_no_more_is_asked_for_than_may_be_under_way() -> None:
    limits = Limits(wants_max=5)
    network = Network(2, limits=limits)
    first, second = network.peers
    for peer in network.peers:
        for i in range(60):
            if peer is first or i % 2:
                peer.replica.import_text(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + i), f"{i}")
        peer.commit()
    link = network.link(0, 1)
    while network.step():
        assert len(second.core.links[link].requests.unanswered) <= limits.wants_max
    network.run(2)
    assert len(network.assert_equal()) == 60


def test_what_a_comparison_found_beyond_the_bound_is_found_by_the_next() -> None:
    network = Network(2, limits=Limits(found_max=10))
    for number, peer in enumerate(network.peers):
        for i in range(120):
            peer.replica.import_text(
                Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + number, 1 + 2 * i + number), f"{i}"
            )
            peer.replica.import_text(Coordinate(1, 1, 1, 1, 1, 1, 1, 3, 1 + 2 * i + number), f"{i}")
        peer.commit()
    network.link(0, 1)
    network.run(20)
    assert len(network.assert_equal()) == 480
    assert not any(peer.core.lacking(PHEXT)[1] for peer in network.peers)
