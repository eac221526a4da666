"""A node holds what it was told to, gives the rest up, and no last copy is ever lost."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import NotHeldError, PhextsyncError
from phextsync.gateways.exchange import Request
from phextsync.gateways.sq import SqApi
from phextsync.index import EMPTY_VERSION, EVERYTHING, Coordinate, CoordinateRange, contains
from phextsync.ranges import intersection
from phextsync.replica.changes import Change
from phextsync.replica.clients import CLIENTS
from phextsync.replica.holding import RANGES_MAX, WANTED_MAX
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.past import FOREVER
from phextsync.sync.codec import decode, encode
from phextsync.sync.comparison import RANGES
from phextsync.sync.limits import Limits
from phextsync.sync.messages import (
    Compare,
    Goodbye,
    Hello,
    Keep,
    Leave,
    Live,
    Message,
    Ping,
    Pong,
    Summary,
    Unknown,
    Updates,
    Want,
)
from phextsync.sync.reconcile import Parameters, first_step
from phextsync.trust.permissions import UNRESTRICTED, Permissions
from sims.network import PHEXT, Network, Peer

_ONE = CoordinateRange.parse("1.*")
_TWO = CoordinateRange.parse("2.*")
_THREE = CoordinateRange.parse("3.*")
_A = Coordinate(1, *[1] * 8)
_B = Coordinate(2, *[1] * 8)
_C = Coordinate(3, *[1] * 8)


def _network(count: int = 2) -> Network:
    network = Network(count)
    network.peers[0].replica[_A] = "one"
    network.peers[0].replica[_B] = "two"
    network.link_all()
    network.run(1)
    network.assert_equal()
    return network


def _held(peer: Peer) -> list[str]:
    return [str(range_) for range_ in peer.replicas.holding.of(PHEXT)]


def _reasons(peer: Peer) -> list[str]:
    return [reason for row in peer.core.leaving.awaited() for reason in row.reasons]


# -- giving up -----------------------------------------------------------------------------


def test_a_range_that_is_given_up_leaves_once_another_holds_it() -> None:
    network = _network()
    full, narrow = network.peers
    narrow.replicas.hold(PHEXT, [_ONE])
    assert _held(narrow) == ["*"], "it was dropped before anybody promised to keep it"
    network.run(2)
    assert _held(narrow) == ["1.*"]
    assert dict(narrow.replica.scrolls()) == {_A: "one"}
    assert narrow.durable_texts() == {_A: "one"}
    assert full.durable_texts() == {_A: "one", _B: "two"}


def test_what_leaves_is_a_deletion_for_nobody_and_comes_back_when_it_is_held_again() -> None:
    network = _network(3)
    network.peers[2].replicas.hold(PHEXT, [_ONE], copies=1)
    network.run(40)
    assert network.peers[0].replica[_B] == network.peers[1].replica[_B] == "two"
    network.peers[2].replicas.hold(PHEXT)
    network.run(2)
    assert network.assert_equal() == {_A: "one", _B: "two"}
    assert network.peers[2].replicas.holding.is_everything


def test_what_was_written_here_before_it_left_is_not_written_over_when_it_is_back() -> None:
    network = _network()
    writer = network.peers[0]
    writer.replica.append(_B, " and more")
    network.run(1)
    writer.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    assert writer.replica.statistics().client_id is None
    network.crash(0)
    writer.replicas.hold(PHEXT)
    writer.replica[_B] = "written before it is here again"
    network.link(0, 1)
    network.run(2)
    text = network.assert_equal()[_B]
    assert "two and more" in text
    assert "written before" in text


def test_a_node_neither_asks_for_nor_is_sent_what_it_does_not_hold() -> None:
    network = _network()
    full, narrow = network.peers
    narrow.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    seen: list[Coordinate] = []
    network.on_frame = lambda sender, receiver, frame: seen.extend(_coordinates(_read(frame)))
    full.replica.append(_A, "!")
    full.replica.append(_B, "!")
    network.run(40)
    assert narrow.replica[_A] == "one!"
    assert set(seen) == {_A}
    assert _B not in narrow.replica.index
    assert [row.phext for row in narrow.core.lacks.progress()] == [CLIENTS]


def test_one_that_holds_nothing_of_a_phext_is_sent_nothing_of_it_over_a_new_link() -> None:
    network = _network()
    full, narrow = network.peers
    narrow.replicas.hold(PHEXT, [])
    network.run(2)
    network.cut(next(iter(network.links)))
    network.link(0, 1)
    network.run(1)
    seen: list[Coordinate] = []
    network.on_frame = lambda sender, receiver, frame: seen.extend(_coordinates(_read(frame)))
    full.replica.append(_A, "!")
    network.run(2)
    assert seen == []


def test_what_is_about_to_leave_a_full_disk_is_neither_offered_nor_awaited_for_ever() -> None:
    network = _network()
    full, narrow = network.peers
    narrow.replicas.hold(PHEXT, [_ONE])
    while _held(narrow) == ["*"]:
        network.step()
        network.now += 0.01
        narrow.core.tick(network.now)
    narrow.is_disk_full = True
    narrow.commit()
    network.cut(next(iter(network.links)))
    full.replica.append(_B, "!")
    asked: list[Coordinate] = []

    def note(_sender: object, _receiver: object, frame: bytes) -> None:
        message = _read(frame)
        if isinstance(message, Want):
            asked.extend(row[0] for row in message.scrolls)

    network.on_frame = note
    network.link(0, 1)
    network.run(2)
    assert _B not in asked
    narrow.is_disk_full = False
    narrow.replicas.hold(PHEXT)
    network.run(2)
    assert narrow.replica[_B] == "two!"
    assert full.core.lacking(PHEXT) == ([narrow.node_id], [])


def _read(frame: bytes) -> Message | Unknown:
    return decode(frame, Limits())


def _coordinates(message: Message | Unknown) -> Iterator[Coordinate]:
    match message:
        case Updates(_, entries) | Live(_, entries):
            yield from (entry[0] for entry in entries)


def test_ranges_are_given_up_part_by_part_as_far_as_others_hold_them() -> None:
    network = _network(3)
    first, second, third = network.peers
    first.replica[_C] = "three"
    network.run(1)
    first.replicas.hold(PHEXT, [_ONE, _TWO], copies=1)
    network.run(2)
    second.replicas.hold(PHEXT, [_THREE, _TWO], copies=1)
    network.run(2)
    assert _held(first) == ["1.1.1/1.1.1/1.1.1..3.1.1/1.1.1/1.1.1"]
    assert _held(second) == ["2.1.1/1.1.1/1.1.1..4.1.1/1.1.1/1.1.1"]
    third.replicas.hold(PHEXT, [], copies=1)
    network.run(2)
    assert _held(third) == []
    assert len(third.replica.index) == 0
    assert first.durable_texts() == {_A: "one", _B: "two"}
    assert second.durable_texts() == {_B: "two", _C: "three"}


def test_all_that_others_have_leaves_in_one_step_and_is_told_once() -> None:
    network = _network()
    narrow = network.peers[1]
    for i in range(12, 16 * WANTED_MAX, 16):
        narrow.replica[_hundredth(i)] = str(i)
    network.run(2)
    held: dict[tuple[str, ...], None] = {}

    def note(_: str) -> None:
        held[tuple(_held(narrow))] = None

    narrow.replicas.listen(ReplicaListener(on_held=note))
    narrow.replicas.hold(PHEXT, _slices(0, 8))
    assert len(narrow.replicas.holding.hold(PHEXT).leaving) == WANTED_MAX
    network.run(5)
    assert len(held) == 2, list(held)


def _hundredth(i: int) -> Coordinate:
    return Coordinate(1, 1, 1 + i // 100, 1 + i % 100, 1, 1, 1, 1, 1)


def _slices(first: int, width: int) -> list[CoordinateRange]:
    """Return as many ranges as may be asked for, each of `width` scrolls of every 16."""
    starts = range(first, 16 * WANTED_MAX, 16)
    return [CoordinateRange(_hundredth(i), _hundredth(i + width)) for i in starts]


def test_no_more_ranges_are_held_than_can_be_told_however_they_leave_and_are_wanted() -> None:
    network = _network()
    first, second = network.peers
    for i in range(16 * WANTED_MAX + 16):
        first.replica[_hundredth(i)] = str(i)
    network.run(2)
    first.replicas.hold(PHEXT, [], copies=1)
    for start in (0, 5, 10):
        second.replicas.hold(PHEXT, _slices(start, 4), copies=1)
        network.run(4)
    before = first.replicas.holding.hold(PHEXT)
    assert len(before.leaving) == RANGES_MAX
    with pytest.raises(PhextsyncError, match="expected at most 64 ranges with those that have not"):
        first.replicas.hold(PHEXT, _slices(1, 2), copies=1)
    assert first.replicas.holding.hold(PHEXT) == before
    second.replicas.hold(PHEXT, copies=1)
    network.run(4)
    assert first.replicas.holding.of(PHEXT) == ()
    assert len(network.links) == 1
    first.replicas.hold(PHEXT, _slices(1, 2), copies=1)
    first.replicas.hold(PHEXT)
    network.run(4)
    assert len(network.assert_equal()) == 16 * WANTED_MAX + 17


def test_two_that_give_up_the_same_at_once_both_keep_it_and_say_why() -> None:
    network = _network()
    for peer in network.peers:
        peer.replicas.hold(PHEXT, [_ONE])
    network.run(5)
    assert network.assert_equal() == {_A: "one", _B: "two"}
    for peer in network.peers:
        assert _reasons(peer) == ["no linked peer holds it and keeps it"]
    network.peers[0].replicas.hold(PHEXT)
    network.run(2)
    assert _held(network.peers[1]) == ["1.*"]


def test_as_many_copies_as_were_asked_for_are_elsewhere_first() -> None:
    network = _network(3)
    first, second, third = network.peers
    third.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    second.replicas.hold(PHEXT, [_ONE], copies=2)
    network.run(5)
    assert _held(second) == ["*"]
    (row,) = second.core.leaving.awaited()
    assert (row.copies, row.kept_by, row.reasons) == (2, ("node-1",), ())
    third.replicas.hold(PHEXT)
    network.run(2)
    assert _held(second) == ["1.*"]
    assert first.durable_texts() == third.durable_texts() == {_A: "one", _B: "two"}


def test_without_a_number_all_linked_holders_have_it_first() -> None:
    network = _network(3)
    first, second, third = network.peers
    third.is_disk_full = True
    first.replica.append(_B, "!")
    second.replicas.hold(PHEXT, [_ONE])
    network.run(5)
    assert _held(second) == ["*"]
    assert _reasons(second) == ["node-3 lacks 1 scroll (4 bytes): not yet on its disk"]
    third.is_disk_full = False
    network.run(2)
    assert _held(second) == ["1.*"]


def test_what_waits_survives_a_crash_and_is_taken_back_by_holding_it_again() -> None:
    network = _network()
    narrow = network.peers[1]
    network.cut(next(iter(network.links)))
    narrow.replicas.hold(PHEXT, [_ONE])
    narrow.commit()
    network.crash(1)
    network.run(5)
    assert narrow.replica[_B] == "two"
    assert [str(row.range) for row in narrow.core.leaving.awaited()] == ["2.1.1/1.1.1/1.1.1.."]
    assert _reasons(narrow) == ["no linked peer holds it and keeps it"]
    narrow.replicas.hold(PHEXT)
    network.link(0, 1)
    network.run(5)
    assert narrow.core.leaving.awaited() == ()
    assert network.assert_equal() == {_A: "one", _B: "two"}


def test_a_crash_while_scrolls_leave_leaves_the_rest_to_the_next_start() -> None:
    network = Network(2)
    full, narrow = network.peers
    for i in range(2500):
        full.replica.import_text(Coordinate(2, 1, 1, 1, 1, 1, 1, 1 + i // 900, 1 + i % 900), "x")
    network.link_all()
    network.run(2)
    network.assert_equal()
    narrow.replicas.hold(PHEXT, [_ONE])
    while _held(narrow) == ["*"]:
        network.step()
        network.now += 0.01
        narrow.core.tick(network.now)
    narrow.commit()
    assert 0 < len(narrow.replica.index) < 2500
    network.crash(1)
    assert 0 < len(narrow.replica.index) < 2500
    network.run(2)
    assert not narrow.replica.index
    assert not narrow.durable_texts()
    assert len(full.replica.index) == 2500


def test_history_leaves_with_its_scrolls_and_comes_back_with_none() -> None:
    network = _network()
    narrow = network.peers[1]
    narrow.replicas.keep_history(FOREVER)
    for i in range(300):
        narrow.replica.append(_B, f"{i} " * 40)
        narrow.commit()
    assert narrow.store.pieces(PHEXT, _B.key)
    network.run(1)
    narrow.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    assert not narrow.store.pieces(PHEXT, _B.key)
    with pytest.raises(NotHeldError):
        narrow.replica.log(_B)


# -- links ---------------------------------------------------------------------------------


def test_links_last_while_what_is_held_changes_again_and_again() -> None:
    network = _network(3)
    links = dict(network.links)
    for ranges in ([_ONE], [_TWO, _THREE], [EVERYTHING], [], [EVERYTHING]):
        for peer in network.peers[1:]:
            peer.replicas.hold(PHEXT, ranges, copies=1)
            network.peers[0].replica.append(_A, "!")
        network.run(2)
    assert network.links == links
    assert network.assert_equal() == {_A: "one" + 10 * "!", _B: "two"}


def test_what_was_written_while_a_range_was_not_held_comes_when_it_is() -> None:
    network = _network()
    full, narrow = network.peers
    narrow.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    full.replica.append(_B, "!")
    full.commit()
    narrow.replicas.hold(PHEXT, [_ONE, _TWO])
    full.replica.append(_B, "?")
    network.run(1)
    assert narrow.replica[_B] == "two!?"
    assert full.core.lacking(PHEXT, _TWO) == ([narrow.node_id], [])


def test_what_is_not_yet_durable_when_a_peer_holds_more_is_sent_to_it() -> None:
    network = _network()
    full, narrow = network.peers
    narrow.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    full.replica[_C] = "three"
    while network.step():
        pass
    narrow.replicas.hold(PHEXT, [_ONE, _THREE])
    network.run(1)
    assert narrow.replica[_C] == "three"


def test_a_phext_that_was_given_up_wholly_is_held_again_over_the_same_link() -> None:
    network = _network()
    narrow = network.peers[1]
    narrow.replicas.hold(PHEXT, [])
    network.run(2)
    assert len(narrow.replica.index) == 0
    network.peers[0].replica.append(_A, "!")
    network.run(2)
    narrow.replicas.hold(PHEXT)
    network.run(2)
    assert network.assert_equal() == {_A: "one!", _B: "two"}


def test_a_peer_that_gives_a_range_up_is_in_nobodys_list_of_those_that_have_it() -> None:
    network = _network()
    full, narrow = network.peers
    narrow.replicas.hold(PHEXT, [_ONE], copies=2)
    network.run(1)
    assert narrow.replica[_B] == "two"
    assert full.core.lacking(PHEXT, _ONE) == ([narrow.node_id], [])
    assert full.core.lacking(PHEXT, _TWO) == ([], [])
    assert [str(range_) for range_ in full.core.lacks.unheld(PHEXT)] == ["2.1.1/1.1.1/1.1.1.."]


# -- peers that say what is not so ---------------------------------------------------------


class _Scripted:
    """A peer of one node that says what the test wants, over one link. It claims to hold all, with
    the digest that the node told."""

    def __init__(
        self,
        peer: Peer,
        *,
        minor: int = 4,
        permissions: Permissions = UNRESTRICTED,
        node_id: bytes = b"s" * 16,
    ) -> None:
        self.core, self.now = peer.core, 0.0
        self.said: list[Message | Unknown] = []
        self.core.link_opened(0.0, 1, node_id, dialled=False, permissions=permissions)
        self.listen()
        (hello,) = [message for message in self.said if isinstance(message, Hello)]
        self.summaries = hello.phexts
        clock = {"clock_ms": 1} if minor >= 3 else {}
        self.say(Hello(1, minor, node_id, "scripted", b"i" * 16, self.summaries, **clock))

    def say(self, message: Message) -> None:
        self.core.receive(self.now, 1, encode(message))
        self.listen()

    def listen(self) -> None:
        while (frame := self.core.next_frame(self.now, 1)) is not None:
            self.said.append(_read(frame))

    def wait(self) -> None:
        for _ in range(10):
            self.now += 0.1
            self.core.tick(self.now)
            self.listen()

    def left(self) -> Leave:
        """Return what it was told last."""
        return [message for message in self.said if isinstance(message, Leave)][-1]

    def is_ended(self) -> str | None:
        goodbyes = [message for message in self.said if isinstance(message, Goodbye)]
        return goodbyes[0].reason if goodbyes else None


def _alone() -> Peer:
    (peer,) = Network(1).peers
    peer.replica[_A] = "one"
    peer.replica[_B] = "two"
    peer.commit()
    return peer


def _give_up_two(peer: Peer) -> None:
    peer.replicas.hold(PHEXT, [_ONE])
    peer.commit()


def test_a_promise_to_keep_counts_with_its_number_and_nothing_else() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    _give_up_two(peer)
    scripted.wait()
    leave = scripted.left()
    assert [str(range_) for range_ in leave.ranges] == ["2.1.1/1.1.1/1.1.1.."]
    for number, ranges in ((leave.number - 1, leave.ranges), (leave.number + 1, leave.ranges)):
        scripted.say(Keep(PHEXT, number, ranges))
        scripted.wait()
        assert peer.replica[_B] == "two"
    scripted.say(Keep(PHEXT, leave.number, (_ONE,)))
    scripted.wait()
    assert peer.replica[_B] == "two"
    assert _reasons(peer) == ["scripted has not said that it keeps it"]
    scripted.say(Keep(PHEXT, leave.number, leave.ranges))
    scripted.wait()
    peer.commit()
    assert peer.durable_texts() == {_A: "one"}


def test_a_promise_does_not_count_while_it_is_not_known_that_the_peer_has_it() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    _give_up_two(peer)
    peer.replica.append(_B, "!")
    peer.commit()
    scripted.wait()
    leave = scripted.left()
    scripted.say(Keep(PHEXT, leave.number, leave.ranges))
    scripted.wait()
    assert peer.replica[_B] == "two!"
    assert _reasons(peer) == ["scripted lacks 1 scroll (4 bytes): not yet on its disk"]


def test_one_that_claims_a_range_and_does_not_hold_it_does_not_count() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    _give_up_two(peer)
    scripted.say(Summary(replace(scripted.summaries[-1], interest=(_ONE,))))
    leave = scripted.left()
    scripted.say(Keep(PHEXT, leave.number, leave.ranges))
    scripted.wait()
    assert peer.replica[_B] == "two"
    assert set(_reasons(peer)) == {"no linked peer holds it and keeps it"}


def test_one_that_may_not_write_a_range_does_not_count() -> None:
    peer = _alone()
    reader = Permissions.of({"": [EVERYTHING]}, {PHEXT: [_ONE]})
    scripted = _Scripted(peer, permissions=reader)
    _give_up_two(peer)
    scripted.wait()
    leave = scripted.left()
    scripted.say(Keep(PHEXT, leave.number, leave.ranges))
    scripted.wait()
    assert peer.replica[_B] == "two"
    assert _reasons(peer) == ["scripted may not write it, so nobody would take it from there"]


def test_an_older_peer_does_not_count_and_is_linked_again_when_the_interest_changes() -> None:
    peer = _alone()
    scripted = _Scripted(peer, minor=3)
    _give_up_two(peer)
    scripted.wait()
    assert not [message for message in scripted.said if isinstance(message, Leave)]
    assert _reasons(peer) == ["scripted runs a version that cannot promise to keep it"]
    assert scripted.is_ended() is None
    peer.replicas.holding.drop(PHEXT, [CoordinateRange.parse("3.*")])
    scripted.listen()
    assert scripted.is_ended() == "this node holds something else now"


def test_one_that_gives_up_what_it_promised_to_keep_is_asked_again() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    _give_up_two(peer)
    scripted.wait()
    leave = scripted.left()
    scripted.say(Leave(PHEXT, 1, leave.ranges))
    scripted.say(Keep(PHEXT, leave.number, leave.ranges))
    scripted.wait()
    assert peer.replica[_B] == "two"
    kept = [message for message in scripted.said if isinstance(message, Keep)]
    assert kept == [Keep(PHEXT, 1, ())]


def _root_of_everything(peer: Peer) -> bytes:
    return first_step(peer.replica.index, [EVERYTHING], Parameters(), None, has_lists=False)


def test_who_does_not_start_comparisons_takes_no_turn_before_the_peer_knows_what_is_held() -> None:
    peer = _alone()
    scripted = _Scripted(peer, node_id=b"\0" * 16)
    root = _root_of_everything(peer)
    peer.replicas.holding.drop(PHEXT, [CoordinateRange.parse("3.*")])
    scripted.listen()
    *_, told, ping = scripted.said
    assert isinstance(told, Summary)
    assert isinstance(ping, Ping)
    scripted.say(Compare(PHEXT, 1, 0, RANGES, root))
    assert scripted.said[-1] is ping
    assert scripted.is_ended() is None
    scripted.say(Pong(ping.token))
    assert scripted.said[-1:] == [told], "it did not ask for a comparison"
    scripted.say(Compare(PHEXT, 2, 0, RANGES, root))
    assert "expected" in (scripted.is_ended() or "")


def test_who_starts_comparisons_takes_no_turn_of_what_was_compared_before() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    scripted.say(Summary(replace(scripted.summaries[-1], digest=bytes(16))))
    (first,) = [message for message in scripted.said if isinstance(message, Compare)]
    peer.replicas.holding.drop(PHEXT, [CoordinateRange.parse("3.*")])
    scripted.listen()
    *_, second = [message for message in scripted.said if isinstance(message, Compare)]
    assert second.session > first.session
    scripted.say(Compare(PHEXT, first.session, 1, RANGES, _root_of_everything(peer)))
    assert scripted.is_ended() is None
    scripted.say(Compare(PHEXT, second.session, 1, RANGES, b""))
    assert scripted.is_ended() is None


def test_who_starts_comparisons_waits_to_be_asked_also_where_both_held_nothing_alike() -> None:
    """Else the peer, which takes no turn yet, drops the first one, and both wait for ever."""
    peer = _alone()
    peer.replicas.hold(PHEXT, [_ONE, _TWO])
    peer.core.tick(0.0)
    peer.commit()
    scripted = _Scripted(peer)
    other = replace(scripted.summaries[-1], interest=(_THREE,), digest=bytes(16))
    scripted.say(Summary(other))
    scripted.said.clear()
    peer.replicas.hold(PHEXT, [_ONE, _TWO, _THREE])
    scripted.listen()
    assert any(isinstance(message, Summary) for message in scripted.said)
    assert not any(isinstance(message, Compare) for message in scripted.said)
    scripted.say(Summary(other))  # its ping was answered
    assert sum(isinstance(message, Compare) for message in scripted.said) == 1


def test_what_lies_outside_of_what_both_hold_is_no_longer_sent_asked_for_or_awaited() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    link = peer.core.links[1]
    for place in (_A, _B):
        scroll = (PHEXT, place)
        link.requests.want(scroll)
        link.requests.unanswered[scroll] = 5
        link.requests.unanswered_bytes += 5
        link.outgoing.change(scroll, 1)
        link.outgoing.find(scroll)
        link.outgoing.ask(scroll, EMPTY_VERSION)
        link.lazy.leave(0.0, scroll)
        link.ledger.receive(PHEXT, (place,))
        link.ledger.miss(scroll)
        link.refusals.note(scroll, "no")
    link.outgoing.stream(PHEXT, [EVERYTHING])
    message = Summary(replace(scripted.summaries[-1], interest=(_ONE,)))
    peer.core.receive(0.0, 1, encode(message))
    outgoing = link.outgoing
    noted = (link.requests.waiting, link.requests.unanswered, outgoing.dirty, outgoing.found)
    for each in (*noted, outgoing.asked, link.lazy.left, link.ledger.gaps, link.refusals.reasons):
        assert list(each) == [(PHEXT, _A)]
    assert list(outgoing.streams) == [(PHEXT, _ONE)]
    link.requests.check()
    link.outgoing.check()


def test_a_comparison_of_what_both_hold_confirms_what_the_peer_wrote() -> None:
    network = Network(2)
    for peer, place in zip(network.peers, (_A, _C), strict=True):
        peer.replicas.hold(PHEXT, [_TWO, CoordinateRange.of(place)])
        peer.replica[place] = "not of both"
        peer.replica[_B] = "two"
        peer.commit()
    network.link_all()
    network.run(3)
    second = network.peers[1]  # the first one starts comparisons
    (link,) = second.core.links.values()
    before = link.traffic.compare_messages
    link.lazy.note_written(network.now, (PHEXT, _B))
    network.run(5)
    assert not link.lazy.written
    assert link.comparisons.found_none(PHEXT)
    assert link.traffic.compare_messages - before == 1


def test_nothing_is_noted_of_what_a_peer_does_not_hold() -> None:
    network = _network(3)
    network.peers[2].replicas.hold(PHEXT, [_ONE])
    network.run(3)
    writer, second, third = network.peers
    link = next(link for link in second.core.links.values() if link.peer_id == third.node_id)
    writer.replica.append(_B, "!")
    network.run(3)
    assert second.replica[_B] == "two!"
    assert not (*link.lazy.left, *link.lazy.written, *link.branch.left, *link.comparisons.stale)


def test_a_promise_has_no_more_ranges_than_a_message_has_room_for() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    peer.replicas.hold(PHEXT, _slices(0, 15))
    thirds = [CoordinateRange(_hundredth(i), _hundredth(i + 5)) for i in range(0, 6 * 64, 6)]
    scripted.say(Leave(PHEXT, 1, tuple(thirds)))
    (keep,) = [message for message in scripted.said if isinstance(message, Keep)]
    assert keep.ranges == intersection(thirds, _slices(0, 15))[:RANGES_MAX]
    assert len(keep.ranges) == RANGES_MAX


def test_peers_cannot_make_what_leaves_fall_into_many_parts() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    peer.replicas.hold(PHEXT, [_ONE])
    scripted.wait()
    many = [Coordinate(2, 1, 1, 1, 1, 1, 1, 1, 2 * i) for i in range(1, 65)]
    ranges = tuple(map(CoordinateRange.of, many))
    scripted.say(Keep(PHEXT, scripted.left().number, ranges))
    assert len(peer.core.leaving.awaited()) == RANGES_MAX + 1


def test_floods_of_what_is_given_up_and_kept_hold_nothing_up_and_do_not_grow() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    ranges = tuple(CoordinateRange.parse(f"{i}.1.*") for i in range(1, 65))
    for number in range(3000):
        scripted.say(Leave(PHEXT, number, ranges))
        scripted.say(Keep(PHEXT, number, ranges))
    assert peer.core.backlog(1) < 10
    assert peer.core.links[1].promises.given_up(PHEXT) == ranges
    for number in range(5000):
        peer.core.receive(0.0, 1, encode(Leave(PHEXT, number, ranges)))
    scripted.listen()
    assert "expected a peer that reads" in (scripted.is_ended() or "")


def test_a_node_that_gave_up_a_range_holds_what_is_in_the_others() -> None:
    replicas = _alone().replicas
    assert replicas.holding.holds("new", EVERYTHING)
    replicas.hold("new", [_ONE, _THREE])  # without scrolls the rest leaves at once
    assert replicas.holding.holds("new", CoordinateRange.parse("3.1.*"))
    assert not replicas.holding.holds("new", CoordinateRange(_ONE.lower, _THREE.upper))
    with pytest.raises(NotHeldError, match=r"where 1\.\*, 3\.\* is: "):
        replicas.phext("new").get(_B)


def test_a_phext_that_nobody_has_written_to_is_looked_at_closely_where_it_is_not_held() -> None:
    replicas = _alone().replicas
    replica = replicas.phext("new")
    assert replica.elsewhere is not None
    replicas.hold("new", [_ONE])
    assert replica.elsewhere is None


# -- what is told and refused --------------------------------------------------------------


def test_a_coordinate_that_is_not_held_is_an_error_that_says_who_has_it() -> None:
    network = _network()
    narrow = network.peers[1]
    history = narrow.replica.history(_B)
    narrow.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    said = r"memory 2.1.1/1.1.1/1.1.1 is not held here, where 1.\* is: it is on node-1"
    for call in (
        lambda: narrow.replica[_B],
        lambda: narrow.replica.get(_B),
        lambda: narrow.replica.append(_B, "!"),
        lambda: narrow.replica.import_text(_B, "!"),
        lambda: narrow.replica.check_allowed(_B),
        lambda: narrow.replica.position(_B, 0),
        lambda: narrow.replica.past(_B),
        lambda: _B in narrow.replica,
        lambda: _B in narrow.replica.within("2.*"),
        lambda: narrow.replica.pop(_B),
        lambda: narrow.replica.__delitem__(_B),
        lambda: narrow.replica.size(_B),
        lambda: history.can_undo,
        history.undo,
        history.redo,
        lambda: narrow.replica.history(_B),
    ):
        with pytest.raises(NotHeldError, match=said):
            call()
    history.close()
    assert narrow.replica.statistics().tracked == ()
    assert narrow.replica.glance(_B) is None
    assert narrow.replica.get(Coordinate(1, *[2] * 8)) is None
    network.cut(next(iter(network.links)))
    with pytest.raises(NotHeldError, match="no linked peer has it"):
        narrow.replica.get(_B)


def test_clients_of_sq_hear_of_what_is_not_held_that_it_is_elsewhere() -> None:
    network = _network()
    narrow = network.peers[1]
    narrow.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    api = SqApi(narrow.replicas)
    lines = f"{_A}: x\n{_B}: x\n".encode()
    place = f"p={PHEXT}&c={_B}"
    for request in (
        Request("GET", "/api/v2/select", place),
        Request("GET", "/api/v2/delete", place),
        Request("GET", "/api/v2/insert", f"{place}&s=text"),
        Request("POST", "/api/v2/delta", f"p={PHEXT}", body=lines),
    ):
        answer = api.answer(request)
        assert (answer.status, b"is not held here" in answer.body) == (400, True), request.path
    assert api.answer(Request("GET", "/api/v2/toc", f"p={PHEXT}")).status == 200


def test_subscribers_hear_that_a_range_has_left() -> None:
    network = _network()
    narrow = network.peers[1]
    changes: list[Change] = []
    narrow.replica.subscribe(changes.append)
    feed = narrow.replica.feed(_TWO)
    apart = narrow.replica.feed(_ONE)
    narrow.replicas.hold(PHEXT, [_ONE])
    network.run(2)
    assert [(change.coordinates, str(change.missed)) for change in changes] == [
        ((), "2.1.1/1.1.1/1.1.1..")
    ]
    assert feed.take() == Change(PHEXT, (), missed=_TWO)
    assert apart.take() is None


@pytest.mark.parametrize(
    ("phext", "ranges", "copies", "message"),
    [
        (CLIENTS, [_ONE], None, "expected a phext of your own"),
        ("no/name", [_ONE], None, "expected a phext of your own"),
        (PHEXT, ["1.*.2"], None, "expected"),
        (PHEXT, [_ONE], 0, "expected at least 1 copy elsewhere, found 0"),
        (PHEXT, [f"{2 * i}.*" for i in range(1, WANTED_MAX + 2)], None, "at most 24 ranges"),
    ],
)
def test_what_cannot_be_held_is_refused(
    phext: str, ranges: list[CoordinateRange | str], copies: int | None, message: str
) -> None:
    peer = _alone()
    with pytest.raises(PhextsyncError, match=message):
        peer.replicas.hold(phext, ranges, copies=copies)
    assert peer.replicas.holding.is_everything


def test_to_hold_nothing_of_a_phext_that_is_not_there_makes_none() -> None:
    peer = _alone()
    scripted = _Scripted(peer)
    scripted.said.clear()
    peer.replicas.hold("other", [_ONE])
    scripted.listen()
    assert not any(isinstance(message, Summary) for message in scripted.said)
    assert peer.replicas.names() == [CLIENTS, PHEXT]
    assert [str(range_) for range_ in peer.replicas.holding.of("other")] == ["1.*"]


def test_a_peer_that_told_of_a_phext_hears_what_is_held_of_it_before_anything_is_there() -> None:
    peer = _alone()
    peer.replicas.hold("other", [])
    scripted = _Scripted(peer)
    scripted.said.clear()
    peer.replicas.hold("other", [_ONE])
    scripted.listen()
    (told,) = [message for message in scripted.said if isinstance(message, Summary)]
    assert (told.phext.name, told.phext.interest) == ("other", (_ONE,))
    assert "other" not in peer.replicas.names()


def test_where_all_is_held_nothing_is_noted() -> None:
    peer = _alone()
    peer.replicas.hold(PHEXT)
    assert not peer.replicas.is_dirty
    peer.replicas.hold(PHEXT, [_ONE])
    peer.replicas.hold(PHEXT)
    peer.commit()
    assert peer.store.notes(b"h") == []


# -- no last copy is lost ------------------------------------------------------------------

_COUNT = 3
_PLACES = (_A, _B, _C)
_numbers = st.integers(0, _COUNT - 1)
_steps = st.one_of(
    st.tuples(st.just("write"), _numbers, st.integers(0, 2)),
    st.tuples(st.just("hold"), _numbers, st.integers(0, 7)),
    st.tuples(st.just("cut"), _numbers, st.just(0)),
    st.tuples(st.just("link"), _numbers, _numbers),
    st.tuples(st.just("crash"), _numbers, st.just(0)),
    st.tuples(st.just("pass"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("turns"), st.integers(1, 9), st.just(0)),
)


class _Mesh:
    """Nodes that write, hold and give up, and what was once on the disk of one of them."""

    def __init__(self) -> None:
        self.network = Network(_COUNT)
        self.written: dict[str, Coordinate] = {}
        self.durable: dict[str, None] = {}
        self.network.link_all()

    def do(self, what: str, one: int, two: int) -> None:
        network = self.network
        if what == "write":
            self._write(network.peers[one], _PLACES[two])
        elif what == "hold":
            wanted = [r for i, r in enumerate((_ONE, _TWO, _THREE)) if two >> i & 1]
            network.peers[one].replicas.hold(PHEXT, wanted or [EVERYTHING], copies=1)
        elif what == "cut":
            for link in [number for number, ends in network.links.items() if one in ends]:
                network.cut(link)
        elif what == "link":
            if one != two and {one, two} not in [{*ends} for ends in network.links.values()]:
                network.link(one, two)
        elif what == "crash":
            network.crash(one)
        elif what == "pass":
            network.run(one / 10)
        else:
            self._take_turns(one)
        self.check()

    def _write(self, peer: Peer, place: Coordinate) -> None:
        token = f"q{len(self.written)}z"
        try:
            peer.replica.append(place, token)
        except NotHeldError:
            return
        self.written[token] = place

    def _take_turns(self, count: int) -> None:
        """Let frames, disks and clocks take turns that are not those of `run`."""
        network = self.network
        for i in range(count):
            network.step()
            network.peers[i % _COUNT].commit()
            network.now += 0.05
            network.peers[-1 - i % _COUNT].core.tick(network.now)

    def check(self) -> None:
        texts = [peer.durable_texts() for peer in self.network.peers]
        there = {t for each in texts for text in each.values() for t in re.findall(r"q\d+z", text)}
        lost = [token for token in self.durable if token not in there]
        assert not lost, f"{lost} was on a disk and is on none: {texts}"
        self.durable.update(dict.fromkeys(sorted(there)))

    def settle(self) -> None:
        self._run_linked()
        self.check()
        for peer in self.network.peers:
            held = peer.replicas.holding.of(PHEXT)
            assert all(contains(held, place) for place in peer.replica.index)
        for peer in self.network.peers:
            peer.replicas.hold(PHEXT)
        self._run_linked()
        self.check()
        merged = self.network.assert_equal()
        for token in self.durable:
            assert merged[self.written[token]].count(token) == 1

    def _run_linked(self) -> None:
        for _ in range(2):  # a link that was greeting when something else was held has ended
            self.network.link_all()
            self.network.run(2)


@settings(deadline=None, max_examples=60)
@given(st.lists(_steps, max_size=40))
def test_whatever_is_held_given_up_cut_and_killed_no_last_copy_is_lost(
    steps: list[tuple[str, int, int]],
) -> None:
    mesh = _Mesh()
    for step in steps:
        mesh.do(*step)
    mesh.settle()
