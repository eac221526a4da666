"""Who is there is known within seconds, by everybody who can be reached, and costs little."""

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phextsync.errors import PhextsyncError
from phextsync.sync.codec import decode, encode
from phextsync.sync.limits import Limits
from phextsync.sync.messages import (
    PROTOCOL_MINOR,
    Goodbye,
    Hello,
    Message,
    Neighbours,
    Notice,
    Presence,
    Unknown,
)
from phextsync.sync.presence import PeerPresence, PresenceBoard
from sims.network import Network

_SETTLED_S = 16.0  # three tellings and a second


def _network(count: int) -> Network:
    network = Network(count)
    for number, peer in enumerate(network.peers):
        peer.core.presence.publish({"home": f"{number + 1}.1.1/1.1.1/1.1.1", "load": number})
    return network


def _seen(network: Network, number: int) -> dict[int, object]:
    """Return the loads that a peer knows, by the number of the node that told it."""
    board = network.peers[number].core.presence
    return {peer.node_id[0] - 1: peer.facts["load"] for peer in board.peers()}


def _reachable(network: Network, number: int) -> set[int]:
    found = {number}
    for _ in network.peers:
        found |= {end for ends in network.links.values() if found & {*ends} for end in ends}
    return found


def test_each_node_of_a_chain_knows_what_every_other_tells_of_itself() -> None:
    network = _network(5)
    for i in range(4):
        network.link(i, i + 1)
    network.run(0.1)
    for number in range(5):
        assert _seen(network, number) == {other: other for other in range(5) if other != number}
    network.peers[0].core.presence.publish({"load": 7})
    network.run(0.1)
    (first, *_) = network.peers[4].core.presence.peers()
    assert first == PeerPresence(b"\x01" * 16, "node-1", {"load": 7})


def test_a_node_whose_links_end_is_gone_within_seconds() -> None:
    network = _network(4)
    network.link_all()
    network.run(12)
    for link, ends in list(network.links.items()):
        if 3 in ends:
            network.cut(link)
    network.run(7)
    assert [set(_seen(network, number)) for number in range(3)] == [{1, 2}, {0, 2}, {0, 1}]


def test_a_node_that_lost_one_link_of_two_stays_without_a_gap() -> None:
    network = _network(3)
    network.link_all()
    network.run(1)
    gone: list[PeerPresence] = []
    network.peers[0].core.presence.subscribe(
        lambda peer: None if peer.is_here else gone.append(peer)
    )
    network.cut(next(link for link, ends in network.links.items() if {*ends} == {0, 1}))
    network.run(30)
    assert set(_seen(network, 0)) == {1, 2}
    assert gone == []


def test_subscribers_hear_who_comes_changes_and_goes_and_a_bad_one_is_reported() -> None:
    network = _network(2)
    board = network.peers[0].core.presence
    heard: list[tuple[object, bool]] = []

    def failing(_: PeerPresence) -> None:
        raise ZeroDivisionError

    board.subscribe(failing)
    stop = board.subscribe(lambda peer: heard.append((peer.facts.get("load"), peer.is_here)))
    link = network.link(1, 0)
    network.run(11)  # told again meanwhile, which is no news
    network.peers[1].core.presence.publish({"load": 2})
    network.run(0.1)
    network.cut(link)
    network.run(7)
    assert heard == [(1, True), (2, True), (2, False)]
    assert any("ZeroDivisionError" in line for line in network.peers[0].replicas.reports)
    stop()
    network.link(1, 0)
    network.run(0.1)
    assert len(heard) == 3


def test_a_node_that_starts_again_is_one_node_with_its_new_facts() -> None:
    network = _network(3)
    network.link_all()
    network.run(8)
    network.crash(2)
    network.peers[2].core.presence.publish({"load": 9})
    network.link_all()
    network.run(0.2)
    assert _seen(network, 0) == {1: 1, 2: 9}
    network.run(_SETTLED_S)
    assert _seen(network, 0) == {1: 1, 2: 9}
    assert network.peers[0].core.presence.statistics().starts == 2


_actions = st.lists(
    st.tuples(
        st.sampled_from(["link", "cut", "crash", "publish", "wait"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(_actions)
def test_each_knows_the_last_word_of_exactly_those_it_can_reach(
    actions: list[tuple[str, int, int]],
) -> None:
    network = _network(4)
    loads = dict(enumerate(range(4)))
    for number, (action, a, b) in enumerate(actions):
        match action:
            case "link" if a != b:
                network.link(a, b)
            case "cut" if network.links:
                network.cut(sorted(network.links)[a % len(network.links)])
            case "crash":
                network.crash(a)
                network.peers[a].core.presence.publish({"load": loads[a]})
            case "publish":
                loads[a] = 100 + number
                network.peers[a].core.presence.publish({"load": loads[a]})
            case "wait":
                network.run(0.05 + 2 * b)
    network.run(_SETTLED_S)
    for number, peer in enumerate(network.peers):
        others = _reachable(network, number) - {number}
        assert _seen(network, number) == {other: loads[other] for other in others}
        assert peer.core.presence.statistics().starts == len(others)
    for link in list(network.links):
        network.cut(link)
    network.run(_SETTLED_S)
    for peer in network.peers:
        assert peer.core.presence.statistics()[1:] == (0, 0)


def test_a_telling_crosses_each_link_at_most_once_in_each_direction() -> None:
    network = _network(6)
    network.link_all()
    network.run(2)
    notices: list[tuple[bytes, int]] = []
    for peer in network.peers:
        receive = peer.core.presence.receive

        def count(
            now: float, link: int, told: tuple[Notice, ...], receive: object = receive
        ) -> None:
            notices.extend((notice.node_id, notice.counter) for notice in told)
            receive(now, link, told)  # type: ignore[operator]

        peer.core.presence.receive = count  # type: ignore[method-assign,assignment]
    network.run(5)
    tellings = len(set(notices))
    assert tellings == 6
    assert len(notices) <= tellings * 2 * len(network.links)


# -- bounds --------------------------------------------------------------------------------


def _board(**limits: int) -> PresenceBoard:
    return PresenceBoard(
        b"o" * 16,
        "own",
        b"i" * 16,
        limits=Limits(**limits),
        interval_s=5,
        on_failure=lambda *_: None,
    )


def _notice(node_id: bytes, counter: int = 1, **values: object) -> Notice:
    notice = Notice(node_id, bytes(16), counter, 15_000, "peer", (("load", counter),))
    return replace(notice, **values)  # type: ignore[arg-type]


def test_strangers_fill_no_more_than_the_bound_and_leave_room_for_peers() -> None:
    board = _board(presences_max=10)
    due = board.link_opened(0, 1, b"p" * 16)
    board.link_opened(0, 2, b"q" * 16)
    source = Random(1)
    for i in range(1000):
        board.receive(i / 1000, 2, [_notice(source.randbytes(16))])
    assert len(board.peers()) == 10
    assert len(due) == 10
    board.receive(1, 1, [_notice(b"p" * 16)])
    assert len(board.peers()) == 10
    assert b"p" * 16 in {peer.node_id for peer in board.peers()}
    board.tick(17)
    assert board.peers() == ()
    assert not due


def test_a_mesh_of_two_thousand_is_heard_of() -> None:
    board, source = _board(), Random(1)
    board.link_opened(0, 1, b"p" * 16)
    for _ in range(20):
        board.receive(1, 1, [_notice(source.randbytes(16)) for _ in range(100)])
    assert len(board.heard()) == 2000


def test_when_each_was_heard_last_is_known_unless_there_may_be_more_than_are_kept() -> None:
    board = _board(presences_max=3)
    board.link_opened(0, 1, b"p" * 16)
    board.receive(1, 1, [_notice(b"p" * 16), _notice(b"q" * 16)])
    board.receive(2, 1, [_notice(b"q" * 16, 2)])
    assert board.heard() == {b"p" * 16: 1, b"q" * 16: 2}
    board.receive(3, 1, [_notice(b"r" * 16)])
    assert board.heard() == {}
    board.tick(17)
    assert board.heard() == {b"r" * 16: 3}


@given(st.floats(0, 100))
@example(27.05983200665486)
def test_what_is_due_is_done_in_one_tick(now: float) -> None:
    board = _board()
    board.tick(now)
    board.publish({"load": 1})
    for _ in range(5):
        due = board.tick(now)
        assert due > now
        now = due


def test_old_news_and_lies_about_oneself_do_not_hold() -> None:
    board = _board()
    board.publish({"load": 1})
    board.link_opened(0, 1, b"p" * 16)
    board.receive(0, 1, [_notice(b"x" * 16, 5), _notice(b"x" * 16, 4)])
    assert [peer.facts for peer in board.peers()] == [{"load": 5}]
    board.receive(1, 1, [_notice(b"o" * 16, 50, incarnation=b"i" * 16)])
    assert len(board.peers()) == 1
    (own,) = [n for n in board.next_notices(1, 1) if n.node_id == b"o" * 16]
    assert (own.counter, own.facts) == (51, (("load", 1),))


def test_what_is_passed_on_has_only_the_time_that_is_left() -> None:
    board = _board()
    board.link_opened(0, 1, b"p" * 16)
    board.receive(0, 1, [_notice(b"p" * 16)])
    board.link_opened(10, 2, b"q" * 16)
    assert [notice.left_ms for notice in board.next_notices(10, 2)] == [5000]
    board.link_opened(15, 3, b"r" * 16)
    assert board.next_notices(15, 3) == ()


def test_a_large_mesh_is_told_less_often() -> None:
    board = _board()
    board.link_opened(0, 1, b"p" * 16)
    board.receive(0, 1, [_notice(i.to_bytes(16, "big")) for i in range(500)])
    assert board.interval_s == 25


@pytest.mark.parametrize(
    "facts",
    [
        {"load": -1},
        {"load": 1 << 63},
        {"x" * 256: 1},
        {"x": "y" * 256},
        {"busy": True},
        {"load": 0.5},
        {"x": None},
        {1: "x"},
        {"x": "\ud800"},
        {"\ud800": 1},
    ],
)
def test_facts_that_cannot_be_told_are_refused(facts: dict[str, Any]) -> None:
    board = _board()
    board.publish({"load": 1})
    with pytest.raises(PhextsyncError, match="expected"):
        board.publish(facts)
    assert board.statistics().facts == {"load": 1}


# -- where nodes are not all linked --------------------------------------------------------


class _Ways:
    """A tree to which only some links belong."""

    is_grown = True

    def __init__(self) -> None:
        self.lazy = {3}
        self.grafted: set[int] = set()

    def pushes(self, link: int) -> bool:
        return link not in self.lazy

    def is_chosen(self, link: int) -> bool:
        return link not in self.grafted


def _sparse_board(ways: _Ways | None = None) -> PresenceBoard:
    board = PresenceBoard(
        b"o" * 16,
        "own",
        b"i" * 16,
        limits=Limits(),
        interval_s=5,
        ways=ways or _Ways(),
        on_failure=lambda *_: None,
    )
    board.publish({})
    for link, peer_id in ((1, b"p" * 16), (2, b"q" * 16), (3, b"r" * 16)):
        board.link_opened(0, link, peer_id)
        board.next_notices(0, link)
    return board


def _told(board: PresenceBoard, now: float) -> dict[int, list[bytes]]:
    return {link: [n.node_id for n in board.next_notices(now, link)] for link in (1, 2, 3)}


def test_what_is_newer_is_passed_on_along_the_tree_and_told_more_rarely() -> None:
    board = _sparse_board()
    board.receive(0, 1, [_notice(i.to_bytes(16, "big")) for i in range(25)])
    assert {link: len(told) for link, told in _told(board, 0).items()} == {1: 0, 2: 25, 3: 0}
    assert board.interval_s == 10
    board.receive(0, 1, [_notice(i.to_bytes(16, "big")) for i in range(900)])
    assert board.interval_s == 200


def test_a_link_that_is_not_of_the_tree_is_told_of_its_ends_alone_until_it_is() -> None:
    ways = _Ways()
    board = _sparse_board(ways)
    first, second, third = (bytes([i]) * 16 for i in (1, 2, 3))
    board.receive(0, 1, [_notice(first)])
    ways.lazy.add(2)
    board.ways_changed()
    board.receive(0, 1, [_notice(second)])
    assert _told(board, 0) == {1: [], 2: [first], 3: []}, "what it was due before"
    ways.lazy.add(4)
    board.link_opened(0, 4, b"s" * 16)
    assert [notice.node_id for notice in board.next_notices(0, 4)] == [b"o" * 16]
    ways.grafted.add(4)
    ways.lazy.remove(4)
    board.ways_changed()
    assert board.next_notices(0, 4) == (), "a graft mends what is missing, and asks for no list"
    ways.grafted.clear()
    ways.lazy.clear()
    board.ways_changed()
    own = b"o" * 16
    assert _told(board, 0) == {1: [], 2: [second, own], 3: [first, second, own]}
    board.receive(0, 4, [_notice(third), _notice(first)])
    assert [notice.node_id for notice in board.next_notices(0, 4)] == [second, own]
    board.ways_changed()
    assert _told(board, 0) == {1: [third], 2: [third], 3: [third]}, "all else was told"


def test_who_was_told_before_the_mesh_was_large_is_told_again_in_time() -> None:
    board = _sparse_board()  # it told three peers that it is there for 15 seconds
    others = [_notice(i.to_bytes(16, "big"), left_ms=120_000) for i in range(100)]
    board.receive(0, 1, others)
    assert board.interval_s == 40
    assert board.tick(1) == 5
    board.tick(5)
    assert b"o" * 16 in _told(board, 5)[1]
    for now in range(7, 45, 5):  # those that hear of it now hear that it is there for two minutes
        board.tick(now)
        assert b"o" * 16 not in _told(board, now)[1]


def test_a_node_that_is_lost_is_suspected_by_all_and_gone_unless_it_contradicts() -> None:
    board = _sparse_board()
    board.receive(0, 1, [_notice(b"q" * 16, left_ms=600_000)])
    _told(board, 0)
    board.link_closed(10, 2, is_lost=True)
    (suspicion,) = board.next_notices(10, 1)
    assert (suspicion.node_id, suspicion.left_ms) == (b"q" * 16, 6000)
    other = _sparse_board()
    other.receive(0, 1, [_notice(b"q" * 16, left_ms=600_000)])
    _told(other, 0)
    other.receive(10, 1, [suspicion])
    assert _told(other, 10) == {1: [], 2: [b"q" * 16], 3: []}, "the node itself hears it, too"
    other.receive(11, 1, [suspicion])
    assert _told(other, 11) == {1: [], 2: [], 3: []}, "once"
    other.receive(12, 1, [_notice(b"q" * 16, 2, left_ms=600_000)])
    for each, is_here in ((board, False), (other, True)):
        each.tick(17)
        assert (b"q" * 16 in each.heard()) == is_here


def test_a_node_that_hears_that_it_is_gone_says_that_it_is_not() -> None:
    board = _sparse_board()
    own = _notice(b"o" * 16, 1, incarnation=b"i" * 16)
    board.receive(1, 1, [replace(own, left_ms=600_000)])
    assert _told(board, 1) == {1: [], 2: [], 3: []}
    board.receive(1, 1, [replace(own, left_ms=5000)])
    (told,) = board.next_notices(1, 2)
    assert (told.node_id, told.counter) == (b"o" * 16, 2)


def test_a_link_that_ended_with_a_word_makes_nobody_suspect() -> None:
    board = _sparse_board()
    board.receive(0, 1, [_notice(b"q" * 16, left_ms=600_000)])
    _told(board, 0)
    board.link_closed(10, 2)
    assert board.next_notices(10, 1) == ()
    board.tick(30)
    assert b"q" * 16 in board.heard()


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_peer_whose_second_link_ended_is_not_gone(is_lost: bool) -> None:
    board = _sparse_board()
    board.receive(0, 1, [_notice(b"q" * 16, left_ms=600_000)])
    board.link_opened(1, 4, b"q" * 16)
    _told(board, 1)
    board.link_closed(10, 2, is_lost=is_lost)
    assert board.next_notices(10, 1) == ()
    board.tick(30)
    assert b"q" * 16 in board.heard()


def test_an_older_peer_is_told_of_no_more_time_than_it_takes() -> None:
    board = _sparse_board()
    board.receive(0, 1, [_notice(b"q" * 16, left_ms=600_000)])
    board.link_opened(1, 4, b"s" * 16, left_s_max=300)
    assert max(notice.left_ms for notice in board.next_notices(1, 4)) == 300_000


# -- other versions ------------------------------------------------------------------------


def _said_to(minor: int, *frames: bytes) -> list[Message | Unknown]:
    """Return what a node says to a peer of a minor version that says hello and then `frames`."""
    network = _network(2)
    first, second = network.peers
    link = network.link(0, 1)
    frame = second.core.next_frame(0, link)
    assert frame is not None
    hello = decode(frame, Limits())
    assert isinstance(hello, Hello)
    for frame in (encode(replace(hello, minor=minor)), *frames):
        first.core.receive(0, link, frame)
    said = []
    while (frame := first.core.next_frame(0, link)) is not None:
        said.append(decode(frame, Limits()))
    return said


@pytest.mark.parametrize(("minor", "hears"), [(0, False), (1, True), (2, True)])
def test_only_peers_that_understand_presence_are_told(minor: int, hears: bool) -> None:
    assert any(isinstance(message, Presence) for message in _said_to(minor)) == hears


@pytest.mark.parametrize(("minor", "hears"), [(1, False), (2, True)])
def test_only_peers_that_understand_it_are_told_of_neighbours(minor: int, hears: bool) -> None:
    assert any(isinstance(message, Neighbours) for message in _said_to(minor)) == hears


@pytest.mark.parametrize(
    ("minor", "frame", "ends"),
    [
        (1, b"\x82\x18\x63\x01", ["expected a known kind of message, found 99"]),
        (PROTOCOL_MINOR + 1, b"\x82\x18\x63\x01", []),
        (0, b"\x82\x0c\x80", ["expected no presence from a peer of an older version"]),
    ],
)
def test_a_kind_that_is_not_known_is_skipped_if_the_peer_is_newer(
    minor: int, frame: bytes, ends: list[str]
) -> None:
    said = _said_to(minor, frame)
    assert [message.reason for message in said if isinstance(message, Goodbye)] == ends


def test_processes_at_one_node_tell_their_facts_side_by_side() -> None:
    network = _network(2)
    network.link(0, 1)
    board = network.peers[0].core.presence

    def seen() -> object:
        network.run(0.1)
        (first,) = network.peers[1].core.presence.peers()
        return first.facts

    board.publish({"load": 1})
    board.publish({"load": 2, "editing": "notes"}, b"one")
    assert seen() == {"load": 2, "editing": "notes"}
    board.publish({"cursor": 5}, b"two")
    with pytest.raises(PhextsyncError):
        board.publish({"much": "x" * 2000}, b"two")
    assert seen() == {"load": 2, "editing": "notes", "cursor": 5}
    board.publish({}, b"one")
    assert seen() == {"load": 1, "cursor": 5}
    board.publish({}, b"two")
    assert seen() == {"load": 1}


def test_a_node_tells_other_nodes_and_no_users_that_it_has_limits() -> None:
    limited = {b"o" * 16}
    ours, theirs = (_limited_board(node_id, limited) for node_id in (b"o" * 16, b"p" * 16))
    for now in range(2):
        ours.link_opened(now, 1, b"p" * 16)
        theirs.link_opened(now, 1, b"o" * 16)
        ours.publish({"load": 1})
        theirs.receive(now, 1, ours.next_notices(now, 1))
        assert theirs.limited() == ours.limited() == limited
        assert [peer.facts for peer in theirs.peers()] == [{"load": 1}]
        limited.clear()


def _limited_board(node_id: bytes, limited: set[bytes]) -> PresenceBoard:
    return PresenceBoard(
        node_id,
        "name",
        b"i" * 16,
        limits=Limits(),
        interval_s=5,
        is_limited=lambda: node_id in limited,
        on_failure=lambda *_: None,
    )


_parts = st.dictionaries(
    st.sampled_from("abcdef"), st.integers(0, 9).map(lambda n: "x" * (25 * n)), max_size=6
)
_long = dict.fromkeys("abcd", "x" * 225)


@example([(b"one", _long), (b"two", dict.fromkeys("abc", "")), (b"", {"e": "x" * 225})])
@given(st.lists(st.tuples(st.sampled_from([b"", b"one", b"two"]), _parts), max_size=10))
def test_facts_can_be_withdrawn_whatever_they_covered(steps: list[tuple[bytes, Any]]) -> None:
    board = _board()
    for session, facts in steps:
        with suppress(PhextsyncError):
            board.publish(facts, session)
    for session in (b"two", b"one", b""):
        board.publish({}, session)
    assert board.statistics().facts == {}
