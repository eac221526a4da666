"""The parts of the core that see several links, or take what one brings, without a synchronizer."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from phextsync.errors import ProtocolError, StoreFullError
from phextsync.index import EMPTY_VERSION, EVERYTHING, Coordinate, CoordinateRange, update_version
from phextsync.ranges import subtract
from phextsync.replica.changes import writing_as
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry
from phextsync.store.memory import MemoryStore
from phextsync.sync.assembly import PartsBudget
from phextsync.sync.branch import update_id
from phextsync.sync.clock import Clock
from phextsync.sync.comparison import RANGES, Comparison
from phextsync.sync.comparisons import Settings
from phextsync.sync.doubles import DUPLICATE, Doubles
from phextsync.sync.durable_first import DurableFirst
from phextsync.sync.events import PeerJoined, PeerLost
from phextsync.sync.greeting import Greeting, Self
from phextsync.sync.heartbeat import PingTokens
from phextsync.sync.lacks import Lacks
from phextsync.sync.leaving import Leaving
from phextsync.sync.limits import Limits
from phextsync.sync.link import Link, Shared
from phextsync.sync.listener import Listener
from phextsync.sync.messages import (
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    REGROUPED_MINOR,
    Compare,
    Entry,
    Graft,
    Have,
    Hello,
    Live,
    Neighbours,
    PhextSummary,
    Prune,
    Refused,
    Regrouped,
    ScrollId,
    Summary,
)
from phextsync.sync.presence import PresenceBoard
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.reconcile import Parameters
from phextsync.sync.relay import Fate, Relay
from phextsync.sync.rights import Interest
from phextsync.sync.timing import Timing
from phextsync.sync.tree import Tree
from phextsync.trust.permissions import UNRESTRICTED, Permissions

_PHEXT = "memory"
_A, _B, _C = (Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in (1, 2, 3))
_SCROLL = (_PHEXT, _A)
_OURS = b"m" * 16
_ANNA, _BERT, _CARL = b"a" * 16, b"b" * 16, b"z" * 16
_READER = Permissions.of({_PHEXT: [EVERYTHING]}, {})
_STRANGER = Permissions.of({}, {})


def _replicas(node_id: bytes) -> ReplicaSet:
    return ReplicaSet(MemoryStore(), node_id=node_id, random=Random(1), wall_time_ms=lambda: 0)


class Parts:
    """A node's parts over a replica in memory; links are made as they are wanted."""

    def __init__(self, limits: Limits | None = None) -> None:
        limits, timing = limits or Limits(), Timing()
        self.replicas = _replicas(_OURS)
        self.replica = self.replicas.open(_PHEXT)
        self.ready: list[int] = []
        self.progressed = 0
        self.ended: dict[int, str] = {}
        self.pinged: list[int] = []
        self.clock = Clock(lambda due: None)
        self.shared = Shared(
            replicas=self.replicas,
            interest=Interest(self.replicas, None),
            recent=RecentUpdates(1 << 20),
            durable_first=DurableFirst(),
            tree=Tree(self.clock, timing, limits, Random(1)),
            clock=self.clock,
            tokens=PingTokens(),
            budget=PartsBudget(1 << 20),
            settings=Settings(limits, timing, Parameters(), Random(1)),
            listener=Listener(on_ready=self.ready.append, on_progress=self._progress),
        )
        self.links: dict[int, Link] = {}
        self.relay = Relay(self.links, self.shared)
        self.lacks = Lacks(self.links, self.replicas, self.shared.interest)
        ways = self._end, self._ping
        self.doubles = Doubles(_OURS, self.links, self.shared.tokens, *ways)
        presence = PresenceBoard(
            _OURS,
            "ours",
            b"i",
            limits=limits,
            interval_s=5.0,
            on_ready=self.ready.append,
            on_failure=lambda part, error: None,
        )
        own = Self(_OURS, "ours", b"i")
        leaving = Leaving(self.links, self.shared, self.lacks, self.relay, *ways)
        self.greeting = Greeting(own, self.shared, self.doubles, presence, self.relay, leaving)

    def _progress(self) -> None:
        self.progressed += 1

    def _end(self, link: Link, reason: str) -> None:
        link.goodbye = self.ended[link.number] = reason

    def _ping(self, link: Link) -> None:
        link.heartbeat.ping(self.clock.now)
        self.pinged.append(link.number)

    def link(
        self,
        number: int,
        peer_id: bytes,
        *,
        permissions: Permissions = UNRESTRICTED,
        dialled: bool = False,
    ) -> Link:
        """Return a link whose peer has said nothing yet."""
        link = Link(number, peer_id, permissions, self.shared, self.clock.now, dialled=dialled)
        self.links[number] = link
        self.greeting.hello(link)
        return link

    def greeted(
        self,
        number: int,
        peer_id: bytes,
        *summaries: PhextSummary,
        permissions: Permissions = UNRESTRICTED,
        dialled: bool = False,
        incarnation: bytes = b"1",
    ) -> Link:
        """Return a link whose peer has said hello."""
        link = self.link(number, peer_id, permissions=permissions, dialled=dialled)
        self.greeting.receive(link, _hello(peer_id, *summaries, incarnation=incarnation))
        return link

    def equal(
        self, number: int, peer_id: bytes, *, permissions: Permissions = UNRESTRICTED
    ) -> Link:
        """Return a link whose peer told of what we have."""
        link = self.link(number, peer_id, permissions=permissions)
        told = replace(link.announcements.summary(_PHEXT), interest=(EVERYTHING,))
        self.greeting.receive(link, _hello(peer_id, told))
        return link

    def listen(self) -> None:
        """Let the relay hear of what takes effect, and when it is durable."""

        def written() -> None:
            self.relay.committed()

        relay = self.relay
        self.replicas.listen(
            ReplicaListener(on_update=relay.take, on_taken=relay.committing, on_durable=written)
        )

    def fates(self, scroll: ScrollId, origin: bytes, source: int | None) -> dict[int, Fate]:
        """Let an update take effect; return what became of it on each link, as far as its marks
        tell."""
        self.relay.take(NewUpdate(*scroll, LogEntry(b"u", origin, 0), source))
        return {number: _fate_of(link, scroll) for number, link in self.links.items()}


def _fate_of(link: Link, scroll: ScrollId) -> Fate:
    if scroll in link.branch.left.values():
        return Fate.TOLD
    if scroll in (written for written, _ in link.branch.written.values()):
        return Fate.TELLS
    if scroll in link.lazy.left:
        return Fate.LEFT
    if scroll in link.lazy.written:
        return Fate.WRITTEN
    if scroll[1] in set(link.outgoing.under_way(scroll[0], EVERYTHING)):
        return Fate.SENT
    return Fate.COMPARED if scroll[0] in link.comparisons.stale else Fate.NONE


def _hello(peer_id: bytes, *summaries: PhextSummary, incarnation: bytes = b"1") -> Hello:
    return Hello(PROTOCOL_MAJOR, PROTOCOL_MINOR, peer_id, "peer", incarnation, summaries)


def _summary(
    interest: Sequence[CoordinateRange] = (EVERYTHING,), *, count: int = 7, digest: bytes = b"d"
) -> PhextSummary:
    return PhextSummary(_PHEXT, tuple(interest), count, 70, digest)


def _update(text: str, *, at: Coordinate = _A, base: ReplicaSet | None = None) -> bytes:
    """Return the update by which another node appends a text."""
    others = (base or _replicas(b"o" * 16)).open(_PHEXT)
    before = others.version(at)
    others.append(at, text)
    return others.difference(at, before) or b""


# -- greeting ------------------------------------------------------------------------------


def test_who_says_hello_has_joined_and_is_told_once() -> None:
    parts = Parts()
    link = parts.greeted(1, _ANNA, _summary())
    assert list(parts.greeting.events) == [PeerJoined(1, _ANNA, "peer")]
    assert link.is_ready
    assert parts.progressed
    with pytest.raises(ProtocolError, match="expected one hello, found a second"):
        parts.greeting.receive(link, _hello(_ANNA))


def test_a_hello_of_another_node_than_the_certificate_says_is_refused() -> None:
    parts = Parts()
    link = parts.link(1, _ANNA)
    with pytest.raises(ProtocolError, match=f"of {_ANNA.hex()}, found one of {_BERT.hex()}"):
        parts.greeting.receive(link, _hello(_BERT))
    assert not link.is_ready
    assert not parts.greeting.events


def test_who_leaves_is_told_with_what_it_held_and_why_the_link_ended() -> None:
    parts = Parts()
    link = parts.greeted(1, _ANNA, _summary())
    parts.greeting.events.clear()
    parts.greeting.lose(link, "gone")
    link.goodbye = "we ended it"
    parts.greeting.lose(link, "gone")
    held = {_PHEXT: (EVERYTHING,)}
    assert list(parts.greeting.events) == [
        PeerLost(1, _ANNA, "peer", reason, held) for reason in ("gone", "we ended it")
    ]


# -- doubles -------------------------------------------------------------------------------


@pytest.mark.parametrize("peer_id", [_ANNA, _CARL])
def test_of_two_links_that_both_sides_dialled_both_keep_the_same(peer_id: bytes) -> None:
    # The one that the smaller node dialled, whichever came first.
    for first_dialled in (True, False):
        parts = Parts()
        parts.greeted(1, peer_id, dialled=first_dialled)
        parts.greeted(2, peer_id, dialled=not first_dialled)
        ((ended, reason),) = parts.ended.items()
        assert reason == "both sides dialled; the other link stays"
        assert parts.links[3 - ended].dialled == (peer_id > _OURS)
        assert parts.links[3 - ended].is_ready


def test_a_newer_link_of_one_start_takes_the_place_of_an_older_one() -> None:
    parts = Parts()
    for number in (1, 2):
        parts.greeted(number, _ANNA, dialled=True)
    assert parts.ended == {1: "a newer link of the same node took its place"}
    assert parts.links[2].is_ready


def test_a_second_start_waits_until_the_first_is_silent_or_answers() -> None:
    parts = Parts()
    first = parts.greeted(1, _ANNA)
    second = parts.greeted(2, _ANNA, incarnation=b"2")
    assert parts.pinged == [1]
    assert (first.is_ready, second.is_ready, second.is_waiting) == (True, False, True)
    parts.doubles.keep(second, b"frame")
    third = parts.greeted(3, _ANNA, incarnation=b"3")
    assert "waits already" in (third.goodbye or "")

    del parts.links[1]
    assert parts.greeting.take_successor(_BERT) is None
    assert parts.greeting.take_successor(_ANNA) == (second, [b"frame"])
    assert second.is_ready


def test_a_second_node_with_one_identity_is_refused_when_the_first_lives() -> None:
    parts = Parts()
    first = parts.greeted(1, _ANNA)
    second = parts.greeted(2, _ANNA, incarnation=b"2")
    parts.doubles.answered(first, second.waiting.probe - 1)  # an answer to an earlier question
    assert second.goodbye is None
    parts.doubles.answered(first, second.waiting.probe)
    assert second.goodbye == DUPLICATE
    assert [parts.doubles.is_first_told() for _ in range(2)] == [True, False]


@pytest.mark.parametrize("limits", [Limits(held_frames_max=2), Limits(held_bytes_max=10)])
def test_a_link_that_waits_may_bring_only_so_much(limits: Limits) -> None:
    parts = Parts(limits)
    parts.greeted(1, _ANNA)
    second = parts.greeted(2, _ANNA, incarnation=b"2")
    for _ in range(2):
        parts.doubles.keep(second, b"frame")
    assert second.goodbye is None
    parts.doubles.keep(second, b"frame")
    assert "too much was sent" in (second.goodbye or "")


# -- announcements -------------------------------------------------------------------------


def test_a_summary_tells_of_what_a_peer_may_see_and_nothing_else() -> None:
    parts = Parts()
    for place in (_A, _B, _C):
        parts.replica[place] = "text"
    parts.replicas.commit()
    sees_b = Permissions.of({_PHEXT: [CoordinateRange.of(_B)]}, {})
    all_of_it = parts.link(1, _ANNA).announcements.summary(_PHEXT)
    part = parts.link(2, _BERT, permissions=sees_b).announcements.summary(_PHEXT)
    assert (all_of_it.count, part.count) == (3, 1)
    assert (all_of_it.text_bytes, part.text_bytes) == (12, 0)  # no average over what is hidden
    assert part.interest == (CoordinateRange.of(_B),)
    nothing = parts.link(3, _CARL, permissions=_STRANGER).announcements
    assert nothing.all() == ()


def test_what_is_not_durable_is_not_announced() -> None:
    parts = Parts()
    parts.replica[_A] = "text"
    announcements = parts.link(1, _ANNA).announcements
    assert announcements.summary(_PHEXT).count == 0
    parts.replicas.commit()
    announcements.tell(_PHEXT)
    told = parts.links[1].outbox.waiting[-1]
    assert isinstance(told, Summary)
    assert told.phext.count == 1
    assert announcements.ours[_PHEXT] == told.phext


def test_a_peer_that_answers_without_telling_of_a_phext_holds_nothing_of_it() -> None:
    parts = Parts()
    link = parts.greeted(1, _ANNA)
    announcements = link.announcements
    announcements.tell(_PHEXT)
    assert announcements.may_hold(_PHEXT, EVERYTHING)
    token = link.heartbeat.ping(1.0).token
    assert announcements.may_hold(_PHEXT, EVERYTHING)
    link.heartbeat.pong(2.0, token)
    assert not announcements.may_hold(_PHEXT, EVERYTHING)
    announcements.note(_summary([CoordinateRange.of(_B)]))
    assert announcements.may_hold(_PHEXT, CoordinateRange.of(_B))
    assert not announcements.may_hold(_PHEXT, CoordinateRange.of(_A))


# -- relaying ------------------------------------------------------------------------------


def test_an_update_goes_to_all_links_but_the_one_that_brought_it_and_its_writers() -> None:
    parts = Parts()
    links = {1: _ANNA, 2: _BERT, 3: _CARL}
    for number, peer_id in links.items():
        parts.equal(number, peer_id)
    assert parts.fates(_SCROLL, _OURS, None) == dict.fromkeys(links, Fate.SENT)
    fates = parts.fates((_PHEXT, _B), _ANNA, 2)
    assert fates == {1: Fate.WRITTEN, 2: Fate.NONE, 3: Fate.SENT}


def test_what_a_comparison_brought_is_compared_and_not_relayed() -> None:
    parts = Parts()
    for number, peer_id in ((1, _ANNA), (2, _BERT)):
        parts.equal(number, peer_id)
    assert parts.fates(_SCROLL, b"", 1) == {1: Fate.NONE, 2: Fate.COMPARED}
    parts.relay.committing()
    assert parts.relay.committed() == {_PHEXT: {1: None}}


def test_what_is_durable_first_is_passed_on_with_its_batch_and_in_its_order() -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA)
    parts.listen()
    with writing_as("file:a.md", durable_first=True):
        parts.replica.append(_A, "one\n")
    parts.replica.append(_A, "two\n")
    parts.replica.append(_B, "by itself\n")
    assert [*link.outgoing.under_way(_PHEXT, EVERYTHING)] == [_B]
    batch = parts.replicas.durability.take()
    assert batch is not None
    parts.replicas.durability.refused(StoreFullError("full"))
    assert _SCROLL in parts.shared.durable_first
    parts.replicas.commit()
    assert _SCROLL not in parts.shared.durable_first
    frames = [*iter(link.outgoing.next_updates, None)]
    told = [e for frame in frames if isinstance(frame, Live) for e in frame.entries]
    told = [entry for entry in told if entry[0] in (_A, _B)]
    assert [coordinate for coordinate, _, _ in told] == [_B, _A, _A]
    assert b"one\n" in told[1][1]
    assert b"two\n" in told[2][1]


def test_an_answer_waits_for_what_is_held_back_and_wakes_its_link() -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA)
    parts.listen()
    with writing_as("file:a.md", durable_first=True):
        parts.replica.append(_A, "one\n")
    link.outgoing.change_uncommitted(_PHEXT)
    link.outgoing.ask(_SCROLL, EMPTY_VERSION)
    link.outgoing.find(_SCROLL)
    assert link.outgoing.next_updates() is None
    parts.ready.clear()
    parts.replicas.commit()
    assert parts.ready == [1]
    assert link.outgoing.next_updates() is not None


def test_an_update_is_left_to_its_writer_unless_somebody_asks_who_has_it() -> None:
    parts = Parts()
    for number, peer_id in ((1, _ANNA), (2, _BERT)):
        parts.equal(number, peer_id)
    bert = parts.links[2]
    parts.relay.meet_neighbours(bert, (_CARL, _OURS))
    assert parts.fates(_SCROLL, _CARL, 1)[2] is Fate.LEFT
    assert parts.fates((_PHEXT, _B), _CARL, None)[2] is Fate.SENT  # ours is what nobody else sends
    parts.relay.ask(_PHEXT, [bert], EVERYTHING)
    assert not bert.lazy.left
    assert parts.fates((_PHEXT, _C), _CARL, 1)[2] is Fate.SENT
    parts.clock.advance(60.0)
    assert parts.fates(_SCROLL, _CARL, 1)[2] is Fate.LEFT


def test_what_a_peer_may_not_see_causes_nothing_on_its_link() -> None:
    parts = Parts()
    parts.equal(1, _ANNA, permissions=_STRANGER)
    parts.equal(2, _BERT, permissions=_READER)
    assert parts.fates(_SCROLL, _OURS, None) == {1: Fate.NONE, 2: Fate.SENT}


def test_what_was_left_is_compared_when_its_writer_is_lost_or_silent() -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA)
    parts.relay.meet_neighbours(link, (_CARL,))
    link.lazy.leave(0.0, _SCROLL)
    link.comparisons.due.clear()
    parts.relay.check(1.0, link)
    assert not link.comparisons.due
    parts.relay.check(3.0, link)
    assert _PHEXT in link.comparisons.due
    link.comparisons.due.clear()
    parts.relay.meet_neighbours(link, ())
    assert _PHEXT in link.comparisons.due


def test_neighbours_are_told_to_those_who_may_know_everything() -> None:
    parts = Parts()
    anna, bert = parts.equal(1, _ANNA), parts.equal(2, _BERT)
    carl = parts.equal(3, _CARL, permissions=_READER)
    told = [link.has_neighbours_to_tell for link in (anna, bert, carl)]
    assert told == [True, True, False]
    assert parts.relay.neighbours_for(anna) == Neighbours((_BERT, _CARL))
    assert not anna.has_neighbours_to_tell


def test_of_neighbours_that_were_told_of_only_what_is_other_now_is_told() -> None:
    parts = Parts()
    anna, old = parts.equal(1, _ANNA), parts.equal(2, _BERT)
    assert old.hello is not None
    old.hello = replace(old.hello, minor=REGROUPED_MINOR - 1)
    others = [bytes([number]) * 16 for number in range(3, 7)]
    for number, peer_id in enumerate(others[:3], 3):
        parts.equal(number, peer_id)
    assert parts.relay.neighbours_for(anna) == Neighbours((*others[:3], _BERT))
    assert parts.relay.neighbours_for(old) == Neighbours((*others[:3], _ANNA))
    parts.links.pop(3)
    parts.equal(6, others[3])
    assert parts.relay.neighbours_for(anna) == Regrouped((others[0],), (others[3],))
    assert parts.relay.neighbours_for(old) == Neighbours((*others[1:], _ANNA))


def test_a_peer_that_tells_what_is_other_has_the_neighbours_that_it_would_tell() -> None:
    parts = Parts(Limits(neighbours_max=2))
    link = parts.equal(1, _ANNA)
    parts.relay.receive(link, Neighbours((_BERT, _OURS)))
    parts.relay.receive(link, Regrouped((), (_CARL,)))
    assert link.lazy.neighbours == {_BERT, _CARL}
    link.lazy.leave(0.0, _SCROLL)
    link.comparisons.due.clear()
    parts.relay.receive(link, Regrouped((_BERT, _ANNA), ()))
    assert link.lazy.neighbours == {_CARL}
    assert _PHEXT in link.comparisons.due
    with pytest.raises(ProtocolError, match="expected at most 2 neighbours, found 3"):
        parts.relay.receive(link, Regrouped((), (b"d" * 16, b"e" * 16)))


def test_an_edit_of_a_guest_goes_to_each_holder_and_not_by_the_tree() -> None:
    parts = Parts()
    anna = parts.equal(1, _ANNA)
    parts.shared.tree.is_grown = True
    parts.relay.receive(anna, Prune())
    assert parts.fates((_PHEXT, _B), _OURS, None) == {1: Fate.TOLD}
    parts.replicas.hold(_PHEXT, subtract(EVERYTHING, [CoordinateRange.of(_A)]))
    parts.replicas.guests.admit(_SCROLL)
    assert parts.fates(_SCROLL, _OURS, None) == {1: Fate.SENT}


@pytest.mark.parametrize(("lacking", "fate"), [(2, Fate.TOLD), (3, Fate.SENT), (4, Fate.SENT)])
def test_what_most_peers_hold_goes_by_the_tree_and_what_few_hold_to_each_of_them(
    lacking: int, fate: Fate
) -> None:
    parts = Parts()
    rest = subtract(EVERYTHING, [CoordinateRange.of(_A)])
    for number in range(1, 7):
        link = parts.equal(number, bytes([number]) * 16)
        parts.relay.receive(link, Prune())
        if number <= lacking:
            link.rights.tell(_PHEXT, rest)
    parts.shared.tree.is_grown = True
    fates = parts.fates(_SCROLL, _OURS, None)
    assert {fates[number] for number in range(1, lacking + 1)} == {Fate.NONE}
    assert {fates[number] for number in range(lacking + 1, 7)} == {fate}


def test_in_a_large_mesh_links_that_come_and_go_are_told_of_once_and_not_when_nothing_changed() -> (
    None
):
    parts = Parts()
    anna = parts.equal(1, _ANNA)
    assert parts.relay.neighbours_for(anna) == Neighbours(())
    parts.shared.tree.is_grown = True
    bert = parts.equal(2, _BERT)
    parts.equal(3, _CARL)
    assert not anna.has_neighbours_to_tell
    parts.relay.tick(0.4)
    assert not anna.has_neighbours_to_tell
    parts.relay.tick(0.5)
    assert parts.relay.neighbours_for(anna) == Neighbours((_BERT, _CARL))
    bert.goodbye = "it passes"
    parts.relay.links_changed()
    bert.goodbye = None
    parts.relay.tick(1.0)
    assert not anna.has_neighbours_to_tell
    parts.shared.tree.is_grown = False
    parts.relay.links_changed()
    assert not anna.has_neighbours_to_tell


def test_what_is_only_compared_is_not_kept_at_hand() -> None:
    parts = Parts()
    parts.equal(1, _ANNA)
    parts.fates(_SCROLL, b"", None)
    assert parts.shared.recent.since(_SCROLL, 0, 9) == []


# -- incoming ------------------------------------------------------------------------------


def test_an_update_is_merged_and_is_durable_with_the_batch() -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA)
    link.incoming.receive(_PHEXT, (Entry(_A, _update("one\n"), _ANNA, 0),), "anna")
    assert parts.replica[_A] == "one\n"
    assert not link.ledger.has_news
    assert link.traffic.updates_in == 1


def test_an_update_that_builds_on_something_else_is_asked_for_and_not_acknowledged() -> None:
    parts, theirs = Parts(), _replicas(b"o" * 16)
    link = parts.equal(1, _ANNA)
    _update("one\n", base=theirs)
    second = _update("two\n", base=theirs)
    whole = theirs.open(_PHEXT).difference(_A, EMPTY_VERSION) or b""
    link.incoming.receive(_PHEXT, (Entry(_A, second, _ANNA, 0),), "anna")
    assert _A not in parts.replica
    assert [place for place, _, _ in link.requests.next_want().scrolls] == [_A]
    assert _SCROLL in link.ledger.gaps
    link.incoming.receive(_PHEXT, (Entry(_A, whole, b"", 0),), "anna")
    assert parts.replica[_A] == "one\ntwo\n"
    assert not link.ledger.gaps


@pytest.mark.parametrize("update", [b"no update", b"", b"\0"])
def test_bytes_that_are_no_update_are_refused_and_change_nothing(update: bytes) -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA)
    link.incoming.receive(_PHEXT, (Entry(_A, update, _ANNA, 0),), "anna")
    assert _A not in parts.replica
    if update != b"\0":
        assert isinstance(link.outbox.waiting[-1], Refused)


def test_what_a_peer_may_not_write_is_refused_and_what_we_do_not_hold_is_ignored() -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA, permissions=_READER)
    waiting = len(link.outbox.waiting)
    link.incoming.receive(_PHEXT, (Entry(_A, _update("x"), _ANNA, 0),), "anna")
    assert len(parts.replica) == 0
    told = link.outbox.waiting[-1]
    assert len(link.outbox.waiting) == waiting + 1
    assert isinstance(told, Refused)
    assert told.coordinate == _A


def test_an_update_that_is_here_is_redundant_and_not_sent_back() -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA)
    update = _update("one\n")
    for _ in range(2):
        link.incoming.receive(_PHEXT, (Entry(_A, update, _ANNA, 0),), "anna")
    assert parts.replica[_A] == "one\n"
    assert link.traffic.redundant >= 1


def test_a_text_takes_the_place_of_ours_only_if_it_was_asked_for_and_has_our_version() -> None:
    parts, theirs = Parts(), _replicas(b"o" * 16)
    link = parts.equal(1, _ANNA)
    update = _update("theirs\n", base=theirs)
    forged = update.replace(b"theirs", b"forged")
    assert update_version(forged) == update_version(update)
    parts.replica.apply(_A, LogEntry(update, _ANNA, 0), None)
    link.incoming.receive(_PHEXT, (Entry(_A, forged, b"", 0),), "anna")
    assert parts.replica[_A] == "theirs\n"
    link.requests.adopt(_SCROLL)
    link.requests.next_want()
    link.incoming.receive(_PHEXT, (Entry(_A, forged, b"", 0),), "anna")
    assert parts.replica[_A] == "forged\ntheirs\n"  # a line of ours that theirs lacks stays


def test_a_frame_of_more_scrolls_than_are_allowed_ends_the_link() -> None:
    parts = Parts(replace(Limits(), scrolls_max=1))
    link = parts.equal(1, _ANNA)
    entries = tuple(Entry(place, _update("x", at=place), _ANNA, 0) for place in (_A, _B))
    with pytest.raises(ProtocolError, match="expected at most 1 scrolls, found 2"):
        link.incoming.receive(_PHEXT, entries, "anna")


def test_of_peers_that_hold_all_it_is_worked_out_once_what_becomes_of_an_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts()
    parts.shared.tree.is_grown = True
    for number in range(3):
        parts.equal(number, bytes([number]) * 16)
    worked_out: list[int] = []
    fate = Relay._fate

    def counted(relay: Relay, link: Link, new: NewUpdate, *, is_asked: bool) -> Fate:
        worked_out.append(link.number)
        return fate(relay, link, new, is_asked=is_asked)

    monkeypatch.setattr(Relay, "_fate", counted)
    expected = {0: Fate.TELLS, 1: Fate.SENT, 2: Fate.SENT}  # the first one wrote it
    assert parts.fates(_SCROLL, bytes(16), None) == expected
    assert not worked_out
    parts.links[1].rights.tell(_PHEXT, ())
    parts.links[2].goodbye = "it ends"
    for link in parts.links.values():
        link.outgoing.dirty.clear()
    parts.fates(_SCROLL, bytes(16), None)
    assert not any(link.outgoing.dirty for link in parts.links.values())
    assert worked_out == [1, 2]


# -- comparisons ---------------------------------------------------------------------------


def test_the_smaller_node_starts_and_the_other_asks_with_a_summary() -> None:
    parts = Parts()
    starting, asking = parts.greeted(1, _CARL, _summary()), parts.greeted(2, _ANNA, _summary())
    assert [turn.step for turn in starting.comparisons.turns] == [0]
    assert not asking.comparisons.turns
    assert asking.comparisons.is_comparing(_PHEXT)
    with pytest.raises(ProtocolError, match="expected a running comparison"):
        asking.comparisons.receive(Compare(_PHEXT, 5, 1, RANGES, b""))


def test_equal_digests_need_no_comparison_until_something_comes_that_is_not_relayed() -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    assert not link.comparisons.is_comparing(_PHEXT)
    assert link.comparisons.found_none(_PHEXT)
    link.comparisons.mark_stale(_PHEXT)
    assert link.comparisons.is_comparing(_PHEXT)
    link.comparisons.hear_news(_PHEXT, {1: None})  # the link brought it itself
    assert link.comparisons.stale == {_PHEXT: False}
    link.comparisons.hear_news(_PHEXT, {2: None})
    assert link.comparisons.stale == {_PHEXT: True}
    assert link.comparisons.due[_PHEXT] <= 0.125


def test_a_comparison_waits_while_something_is_under_way() -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    parts.replica[_A] = "text"
    link.outgoing.change(_SCROLL, parts.shared.recent.advance())
    link.comparisons.due[_PHEXT] = 0.0
    link.comparisons.begin_due(0.0)
    assert not link.comparisons.turns
    assert link.comparisons.due[_PHEXT] == 0.1


@pytest.mark.parametrize(("flows_until", "first"), [(2.0, 2.8), (9.0, 5.6)])
def test_in_a_large_mesh_a_comparison_waits_while_the_tree_brings_more_but_not_for_ever(
    flows_until: float, first: float
) -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    parts.equal(2, _ANNA)
    parts.shared.tree.is_grown = True
    for step in range(1, 20):
        now = step * 0.4
        parts.clock.advance(now)
        if now <= flows_until:
            parts.fates(_SCROLL, _ANNA, 2)
            link.outgoing.dirty.clear()
        link.comparisons.due[_PHEXT] = 0.0
        link.comparisons.begin_due(now)
        if link.comparisons.turns:
            break
    assert now == pytest.approx(first)


def test_a_turn_out_of_turn_is_refused() -> None:
    parts = Parts()
    link = parts.greeted(1, _CARL, _summary())
    turn = link.comparisons.turns[0]
    answer = Compare(_PHEXT, turn.session, 1, RANGES, b"")
    with pytest.raises(ProtocolError, match="before ours was read"):
        link.comparisons.receive(answer)
    link.comparisons.turns.clear()
    with pytest.raises(ProtocolError, match="expected step 1 of a comparison, found 2"):
        link.comparisons.receive(replace(answer, step=2))
    link.comparisons.receive(answer)
    assert not link.comparisons.sessions[_PHEXT].is_open
    with pytest.raises(ProtocolError, match="expected a comparison of a phext in common"):
        link.comparisons.receive(replace(answer, phext="other"))


def test_who_may_not_start_a_comparison_asks_for_one_and_for_the_next() -> None:
    parts = Parts()
    link = parts.equal(1, _ANNA)
    link.outbox.waiting.clear()
    link.comparisons.due[_PHEXT] = 0.0
    link.comparisons.begin_due(0.0)
    assert [type(message) for message in link.outbox.waiting] == [Summary]
    assert 30.0 <= link.comparisons.due[_PHEXT] <= 37.5


def test_nothing_more_is_taken_of_a_comparison_that_has_ended() -> None:
    parts = Parts()
    link = parts.greeted(1, _CARL, _summary())
    turn = link.comparisons.turns.popleft()
    link.comparisons.receive(Compare(_PHEXT, turn.session, 1, RANGES, b""))
    with pytest.raises(ProtocolError, match=r"^expected no more of a comparison that has ended$"):
        link.comparisons.receive(Compare(_PHEXT, turn.session, 2, RANGES, b"more"))


@pytest.mark.parametrize("meets", [True, False])
def test_nothing_is_taken_of_a_comparison_that_the_peer_has_not_begun(*, meets: bool) -> None:
    parts = Parts()
    link = parts.greeted(1, _ANNA, _summary())
    if not meets:
        link.comparisons.rescope(_PHEXT, is_new=True, ping=1)
    with pytest.raises(ProtocolError, match=r"^expected no more of a comparison that has ended$"):
        link.comparisons.receive(Compare(_PHEXT, 0, 0, RANGES, b""))


def test_nothing_is_to_be_compared_of_what_is_no_longer_held_on_both_sides() -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    link.comparisons.mark_stale(_PHEXT)
    assert link.comparisons.is_busy
    link.rights.tell(_PHEXT, [])
    link.comparisons.rescope(_PHEXT, is_new=False, ping=1)
    assert not link.comparisons.is_busy
    link.comparisons.begin_due(99.0)
    assert not link.comparisons.turns


def test_a_comparison_that_the_peer_makes_an_audit_is_one() -> None:
    parts = Parts()
    parts.replica[_A] = "text"
    parts.replicas.commit()
    link = parts.greeted(1, _ANNA, _summary())
    parts.clock.advance(60.0)  # audits are saved up for
    begun = Comparison(_replicas(_ANNA).open(_PHEXT).index, [EVERYTHING], Parameters(), b"n" * 16)
    turn = begun.begin_audit()
    link.comparisons.receive(Compare(_PHEXT, 1, 0, turn.form, turn.body))
    session = link.comparisons.sessions[_PHEXT]
    assert session.is_audit
    said = link.comparisons.turns.popleft()
    turn = begun.answer(said.form, said.body)
    assert turn.form == RANGES
    link.comparisons.receive(Compare(_PHEXT, 1, 2, turn.form, turn.body))
    assert session.is_audit


def test_what_a_peer_may_not_take_is_withheld_from_it() -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    link.comparisons.note_refused("other")
    assert not link.comparisons.is_withheld(_PHEXT)
    link.comparisons.note_refused(_PHEXT)
    assert link.comparisons.is_withheld(_PHEXT)
    lack = parts.lacks.of(link, _PHEXT, EVERYTHING)
    assert lack is not None
    assert "our certificate does not allow" in lack.reason


# -- lacks ---------------------------------------------------------------------------------


def test_a_peer_lacks_what_was_not_acknowledged_and_nothing_else() -> None:
    parts = Parts()
    link = parts.greeted(1, _CARL, _summary())
    lack = parts.lacks.of(link, _PHEXT, EVERYTHING)
    assert lack is not None
    assert (lack.scrolls, lack.reason) == (0, "still comparing")
    parts = Parts()
    link = parts.equal(1, _CARL)
    assert parts.lacks.of(link, _PHEXT, EVERYTHING) is None
    assert parts.lacks.even_peers(_PHEXT, EVERYTHING) == {_CARL}
    parts.replica[_A] = "text"
    lack = parts.lacks.of(link, _PHEXT, EVERYTHING)
    assert lack is not None
    assert str(lack) == "peer lacks 1 scroll (4 bytes): not yet on its disk"
    assert parts.lacks.even_peers(_PHEXT, EVERYTHING) == set()
    assert parts.lacks.of(link, _PHEXT, CoordinateRange.of(_B)) is None
    assert parts.lacks.even_peers(_PHEXT, CoordinateRange.of(_B)) == {_CARL}


def test_a_peer_is_compared_where_it_holds_nothing_and_where_it_does_once_that_has_ended() -> None:
    parts = Parts()
    link = parts.greeted(1, _CARL, _summary([CoordinateRange.of(_B)]))
    assert link.comparisons.is_comparing(_PHEXT)
    assert parts.lacks.compared_peers(_PHEXT, EVERYTHING) == set()
    assert parts.lacks.compared_peers(_PHEXT, CoordinateRange.of(_A)) == {_CARL}
    link.comparisons.turns.clear()
    link.comparisons.receive(Compare(_PHEXT, 1, 1, RANGES, b""))
    assert parts.lacks.compared_peers(_PHEXT, EVERYTHING) == {_CARL}


def test_what_is_left_to_others_is_no_lack_of_ours_but_nobody_is_even_meanwhile() -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    link.lazy.leave(0.0, _SCROLL)
    assert parts.lacks.of(link, _PHEXT, EVERYTHING) is None
    assert parts.lacks.of(link, _PHEXT, EVERYTHING, with_left=True) is not None
    assert parts.lacks.lacks_some(link, _PHEXT, EVERYTHING)
    assert parts.lacks.even_peers(_PHEXT, EVERYTHING) == set()
    assert parts.lacks.compared_peers(_PHEXT, EVERYTHING) == {_CARL}


def test_a_refusal_is_the_reason_of_a_lack() -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    link.refusals.note(_SCROLL, "no room")
    lack = parts.lacks.of(link, _PHEXT, EVERYTHING)
    assert lack is not None
    assert lack.reason == "it refused: no room"


def test_of_a_range_that_is_streamed_a_peer_lacks_everything_and_of_another_phext_nothing() -> None:
    parts = Parts()
    for place in (_A, _B, _C):
        parts.replica[place] = "text"
    parts.replicas.commit()
    link = parts.equal(1, _CARL)
    link.outgoing.stream("other", [EVERYTHING])
    assert parts.lacks.of(link, _PHEXT, EVERYTHING) is None
    link.outgoing.stream(_PHEXT, [CoordinateRange(_B, None)])
    lack = parts.lacks.of(link, _PHEXT, EVERYTHING)
    assert lack is not None
    assert (lack.scrolls, lack.text_bytes) == (2, 8)
    assert parts.lacks.even_peers(_PHEXT, EVERYTHING) == set()
    assert parts.lacks.even_peers(_PHEXT, CoordinateRange.of(_A)) == {_CARL}


def test_a_scroll_of_which_something_is_missing_here_is_even_with_nobody() -> None:
    parts = Parts()
    link = parts.equal(1, _CARL)
    link.requests.adopt(_SCROLL)
    link.requests.waiting.clear()
    assert parts.lacks.even_peers(_PHEXT, CoordinateRange.of(_A)) == set()
    assert parts.lacks.even_peers(_PHEXT, CoordinateRange.of(_B)) == {_CARL}


def test_unheld_is_where_scrolls_are_that_no_peer_wants() -> None:
    parts = Parts()
    for place in (_A, _C):
        parts.replica[place] = "text"
    parts.replicas.commit()
    assert parts.lacks.unheld(_PHEXT) == (EVERYTHING,)
    parts.greeted(1, _ANNA, _summary([CoordinateRange.of(_A)]))
    (left,) = parts.lacks.unheld(_PHEXT)
    assert (left.lower, left.upper) == (_B, None)
    parts.greeted(2, _BERT, _summary([CoordinateRange(_B, None)]))
    assert parts.lacks.unheld(_PHEXT) == ()


def test_ranges_are_taken_out_of_a_range_in_any_order() -> None:
    a, b, c = (CoordinateRange.of(place) for place in (_A, _B, _C))
    after = CoordinateRange(_C.successor(), None)
    assert subtract(EVERYTHING, (c, a)) == (b, after)
    assert subtract(EVERYTHING, ()) == (EVERYTHING,)
    assert subtract(a, (EVERYTHING,)) == ()


# -- the tree ------------------------------------------------------------------------------


def test_where_nodes_are_not_all_linked_lazy_links_are_told_and_asked_first() -> None:
    parts = Parts()
    anna, bert, carl = (parts.equal(i, of) for i, of in enumerate((_ANNA, _BERT, _CARL)))
    for link in (bert, carl):
        parts.relay.receive(link, Prune())
    fates = parts.fates(_SCROLL, _CARL, 9)
    assert fates == {0: Fate.SENT, 1: Fate.TOLD, 2: Fate.TELLS}
    with_left = parts.lacks.of(bert, _PHEXT, EVERYTHING, with_left=True)
    assert with_left is not None
    assert parts.lacks.of(bert, _PHEXT, EVERYTHING) is None, "it gets it from others"
    assert parts.lacks.of(carl, _PHEXT, EVERYTHING) is not None, "it wrote it, maybe not to disk"
    ((update, _),) = bert.branch.left.items()
    for link in (bert, carl):
        parts.relay.receive(link, Have((update,)))
    assert parts.lacks.of(bert, _PHEXT, EVERYTHING, with_left=True) is None
    assert parts.lacks.of(carl, _PHEXT, EVERYTHING) is None
    assert anna.branch.is_eager


def test_what_was_left_to_the_tree_is_offered_when_somebody_asks_and_then_sent() -> None:
    parts = Parts()
    bert = parts.equal(1, _BERT)
    parts.relay.receive(bert, Prune())
    assert parts.fates(_SCROLL, _ANNA, 9) == {1: Fate.TOLD}
    parts.relay.ask(_PHEXT, [bert], EVERYTHING)
    assert list(bert.requests.waiting) == [_SCROLL]
    assert parts.fates((_PHEXT, _B), _ANNA, 9) == {1: Fate.SENT}


def test_a_graft_is_answered_by_what_was_left() -> None:
    parts = Parts()
    bert = parts.equal(1, _BERT)
    parts.relay.receive(bert, Prune())
    parts.relay.take(NewUpdate(*_SCROLL, LogEntry(b"u", _ANNA, 0), 9))
    ((update, _),) = bert.branch.left.items()
    parts.relay.receive(bert, Graft((update, b"unknown.")))
    entries = (Entry(_A, b"u", _ANNA, 0),)
    assert bert.outgoing.next_updates() == (_PHEXT, entries)
    assert bert.branch.is_eager
    assert not bert.branch.left


def test_what_few_hold_goes_from_its_writer_to_each_that_holds_it() -> None:
    parts = Parts()
    node_ids = (_ANNA, _BERT, _CARL, b"d" * 16)
    anna, bert, *others = (parts.equal(i, of) for i, of in enumerate(node_ids))
    elsewhere = tuple(subtract(EVERYTHING, [CoordinateRange.of(_A)]))
    for other in others:
        other.rights.tell(_PHEXT, elsewhere)
    parts.shared.tree.is_grown = True
    parts.relay.receive(anna, Prune())
    parts.relay.receive(bert, Neighbours((_OURS, _CARL)))
    fates = parts.fates(_SCROLL, _OURS, None)
    assert (fates[0], fates[1]) == (Fate.SENT, Fate.SENT)
    fates = parts.fates((_PHEXT, _B), _OURS, None)
    assert (fates[0], fates[1], fates[2]) == (Fate.TOLD, Fate.SENT, Fate.SENT)
    assert parts.fates(_SCROLL, _CARL, 9)[1] is Fate.LEFT


@pytest.mark.parametrize(
    ("minor", "permissions", "is_open"),
    [(4, UNRESTRICTED, False), (5, UNRESTRICTED, True), (7, _READER, False), (8, _READER, True)],
)
def test_peers_of_older_versions_are_sent_everything_that_they_may_read(
    minor: int, permissions: Permissions, is_open: bool
) -> None:
    parts = Parts()
    parts.shared.tree.is_grown = True
    link = parts.link(1, _ANNA, permissions=permissions)
    told = replace(link.announcements.summary(_PHEXT), interest=(EVERYTHING,))
    parts.greeting.receive(link, replace(_hello(_ANNA, told), minor=minor))
    assert link.branch.is_open == is_open
    parts.shared.tree.keep(b"update..", _SCROLL, 1)
    parts.shared.tree.doubled(1, b"update..")
    assert link.branch.is_eager != is_open


def test_a_peer_with_limits_is_told_ids_of_what_it_may_read_and_grafts_nothing_else() -> None:
    parts = Parts()
    parts.equal(1, _ANNA)
    bert = parts.equal(2, _BERT, permissions=Permissions.of({_PHEXT: [CoordinateRange.of(_A)]}, {}))
    parts.shared.tree.is_grown = True
    parts.relay.receive(bert, Prune())
    secret = (("other", _A), (_PHEXT, _B))
    assert parts.fates(_SCROLL, _ANNA, 1)[2] is Fate.TOLD
    assert [parts.fates(scroll, _OURS, None) for scroll in secret] == [
        {1: Fate.SENT, 2: Fate.NONE}
    ] * 2
    for scroll in secret:
        update = update_id(*scroll, b"u")
        assert parts.shared.tree.has(update)
        parts.relay.receive(bert, Graft((update,)))
    assert list(bert.branch.left.values()) == [_SCROLL]
    assert not bert.outgoing.has_work


def test_a_second_copy_prunes_the_link_that_brought_it_and_a_first_does_not() -> None:
    parts = Parts()
    parts.listen()
    parts.shared.tree.is_grown = True
    links = [parts.equal(number, of) for number, of in enumerate((_ANNA, _BERT))]
    entry = Entry(_A, _update("x"), _CARL, 1)
    for link in links:
        link.incoming.receive(_PHEXT, (entry,), "peer")
    assert [link.branch.is_eager for link in links] == [True, False]
    assert [link.traffic.redundant for link in links] == [0, 1]


def test_what_came_by_a_comparison_before_does_not_prune() -> None:
    parts = Parts()
    parts.listen()
    parts.shared.tree.is_grown = True
    anna, bert = (parts.equal(number, of) for number, of in enumerate((_ANNA, _BERT)))
    update = _update("x")
    anna.incoming.receive(_PHEXT, (Entry(_A, update),), "peer")
    bert.incoming.receive(_PHEXT, (Entry(_A, update, _CARL, 1),), "peer")
    assert bert.branch.is_eager
    anna.incoming.receive(_PHEXT, (Entry(_A, update, _CARL, 1),), "peer")
    assert not anna.branch.is_eager
