"""The parts of a link, each alone: what is asked, sent, left to others, put together."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from phextsync.crdt import Scroll
from phextsync.errors import ProtocolError
from phextsync.index import EMPTY_VERSION, EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry
from phextsync.store.memory import MemoryStore
from phextsync.sync.assembly import Assembly, PartsBudget
from phextsync.sync.audits import Audits
from phextsync.sync.codec import encode
from phextsync.sync.durable_first import DurableFirst
from phextsync.sync.findings import Findings
from phextsync.sync.had import HadVersions
from phextsync.sync.lazy import LazyPush
from phextsync.sync.ledger import Ledger
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Acknowledge, Conflict, Had, Part, Refused, Updates, Want
from phextsync.sync.outbox import Outbox
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.reconcile import Differences
from phextsync.sync.refusals import NOT_ALLOWED, Refusals
from phextsync.sync.requests import Requests
from phextsync.sync.rights import Interest, LinkRights
from phextsync.sync.session import Session
from phextsync.sync.traffic import Traffic
from phextsync.sync.versions import Versions
from phextsync.sync.waiting import Waiting
from phextsync.trust.permissions import UNRESTRICTED, Permissions

_PHEXT = "memory"
_SCROLLS = [(_PHEXT, Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i)) for i in range(1, 6)]
_A, _B = _SCROLLS[:2]
_PEER = bytes(16)


class Parts:
    """The parts of one link that exchange updates, over a replica in memory."""

    def __init__(self, limits: Limits | None = None, peer: Permissions = UNRESTRICTED) -> None:
        limits = limits or Limits()
        self.replicas = ReplicaSet(
            MemoryStore(), node_id=b"n" * 16, random=Random(1), wall_time_ms=lambda: 0
        )
        self.replica = self.replicas.open(_PHEXT)
        interest = Interest(self.replicas, None)
        self.rights = LinkRights(interest, peer, phexts_max=8)
        self.ledger = Ledger(scrolls_max=100, gaps_max=100)
        self.recent = RecentUpdates(1 << 20)
        self.durable_first = DurableFirst()
        self.requests = Requests(self.replicas, self.rights, limits)
        self.outbox = Outbox(answers_max=100)
        self.reports: list[str] = []
        self.refusals = Refusals(self.reports.append, limits)
        self.had = HadVersions(_PEER, self.replicas, self.rights, limits)
        self.had.is_understood = True
        self.outgoing = Outgoing(
            1,
            replicas=self.replicas,
            interest=interest,
            rights=self.rights,
            recent=self.recent,
            durable_first=self.durable_first,
            ledger=self.ledger,
            requests=self.requests,
            had=self.had,
            refusals=self.refusals,
            traffic=Traffic(),
            limits=limits,
        )
        self.versions = Versions(
            peer_id=_PEER,
            replicas=self.replicas,
            rights=self.rights,
            requests=self.requests,
            outgoing=self.outgoing,
            had=self.had,
            refusals=self.refusals,
            outbox=self.outbox,
        )
        self.findings = Findings(
            rights=self.rights,
            requests=self.requests,
            outgoing=self.outgoing,
            outbox=self.outbox,
            limits=limits,
        )

    def change(self, scroll: tuple[str, Coordinate], text: str) -> None:
        """Let an edit take effect, and mark it for the link."""
        before = self.replica.version(scroll[1])
        self.replica.append(scroll[1], text)
        update = self.replica.difference(scroll[1], before) or b""
        number = self.recent.advance()
        self.recent.add(scroll, LogEntry(update, b"", 0), None)
        self.outgoing.change(scroll, number)


# -- requests ------------------------------------------------------------------------------


def test_no_more_is_asked_than_may_be_unanswered_and_an_answer_makes_room() -> None:
    parts = Parts(replace(Limits(), wants_max=2))
    for scroll in _SCROLLS:
        parts.requests.want(scroll)
    want = parts.requests.next_want()
    assert [at for at, _, _ in want.scrolls] == [_A[1], _B[1]]
    assert not parts.requests.may_ask
    parts.requests.answered(_A)
    assert parts.requests.may_ask
    parts.requests.check()


def test_what_is_unanswered_counts_no_less_than_its_bytes_in_frames() -> None:
    parts = Parts()
    for scroll in _SCROLLS:
        parts.replica.append(scroll[1], "text")
        parts.requests.want(scroll)
    want = parts.requests.next_want()
    assert len(encode(want)) <= parts.requests.unanswered_bytes + len(encode(Want(_PHEXT, ())))
    parts.requests.check()


def test_a_scroll_is_wanted_once_until_it_is_answered_and_offered_again_and_again() -> None:
    requests = Parts().requests
    for _ in range(2):
        requests.want(_A)
    requests.next_want()
    requests.want(_A)
    assert not requests.may_ask
    requests.offer(_A)
    assert requests.may_ask
    requests.next_want()
    requests.check()


def test_what_would_be_refused_is_not_wanted_but_is_offered_without_an_answer() -> None:
    requests = Parts(peer=Permissions.of({_PHEXT: [EVERYTHING]}, {})).requests
    requests.want(_A)
    assert not requests.may_ask
    requests.offer(_A)
    requests.next_want()
    assert requests.is_quiet(_PHEXT)


def test_a_text_takes_the_place_of_ours_once_for_each_conflict_and_not_for_ever() -> None:
    requests = Parts(replace(Limits(), conflicts_max=2)).requests
    requests.adopt(_A)
    assert requests.next_want().scrolls == ((_A[1], EMPTY_VERSION, b""),)
    assert requests.takes_place(_A)
    assert not requests.takes_place(_A)
    requests.adopt(_A)
    with pytest.raises(ProtocolError, match="expected an end of the conflict"):
        requests.adopt(_A)


# -- what goes out -------------------------------------------------------------------------


def test_changes_of_one_scroll_travel_in_one_frame_and_once() -> None:
    parts = Parts()
    for text in ("a\n", "b\n", "c\n"):
        parts.change(_A, text)
    frame = parts.outgoing.next_updates()
    assert isinstance(frame, Updates)
    assert [entry.coordinate for entry in frame.entries] == [_A[1]] * 3
    assert parts.outgoing.next_updates() is None
    assert list(parts.ledger.under_way(_PHEXT)) == [_A[1]]


def test_changes_answers_and_findings_take_turns() -> None:
    parts = Parts()
    for scroll in _SCROLLS[:3]:
        parts.replica.append(scroll[1], "text")
    parts.outgoing.find(_SCROLLS[2])
    parts.outgoing.ask(_B, EMPTY_VERSION)
    parts.change(_A, "more")
    sent = [parts.outgoing.next_updates() for _ in range(4)]
    assert sent.pop() is None
    told = [frame.entries[0].coordinate for frame in sent if isinstance(frame, Updates)]
    assert told == [_A[1], _B[1], _SCROLLS[2][1]]
    parts.outgoing.check()


def test_nothing_is_sent_to_a_peer_that_acknowledges_nothing() -> None:
    parts = Parts(replace(Limits(), window_frames=1))
    parts.change(_A, "a")
    assert parts.outgoing.next_updates() is not None
    parts.change(_A, "b")
    assert parts.outgoing.next_updates() is None
    parts.ledger.note(Acknowledge(1, 0))
    assert parts.outgoing.next_updates() is not None


def test_as_much_as_a_peer_may_ask_for_at_once_is_sent_beyond_the_window() -> None:
    parts = Parts(replace(Limits(), window_frames=1, wants_max=2))
    parts.change(_A, "a")
    assert parts.outgoing.next_updates() is not None
    for _ in range(2):
        parts.outgoing.ask(_A, EMPTY_VERSION)
        assert parts.outgoing.next_updates() is not None
    parts.outgoing.ask(_A, EMPTY_VERSION)
    assert parts.outgoing.next_updates() is None
    parts.ledger.note(Acknowledge(1, 0))
    assert parts.outgoing.next_updates() is not None


def test_a_range_is_streamed_up_to_its_end_over_as_many_frames_as_it_takes() -> None:
    parts = Parts(replace(Limits(), updates_bytes_goal=80))  # two states
    for scroll in _SCROLLS:
        parts.change(scroll, "text")
    parts.outgoing.dirty.clear()
    parts.replicas.commit()
    parts.outgoing.stream(_PHEXT, [CoordinateRange(_A[1], _SCROLLS[3][1])])
    frames: list[list[Coordinate]] = []
    while (frame := parts.outgoing.next_updates()) is not None:
        assert isinstance(frame, Updates)
        frames.append([entry.coordinate for entry in frame.entries])
    assert frames == [[_A[1], _B[1]], [_SCROLLS[2][1]]]


def test_an_update_that_the_peer_has_sent_is_not_sent_back_unless_another_came() -> None:
    parts = Parts()
    parts.change(_A, "a")
    (entry,) = parts.recent.since(_A, 0, 1)
    parts.change(_B, "b")
    parts.change(_B, "c")
    parts.outgoing.forget(_A, entry.update)
    parts.outgoing.forget(_B, parts.recent.since(_B, 0, 1)[0].update)
    assert list(parts.outgoing.dirty) == [_B]


def test_an_entry_larger_than_a_frame_is_put_together_from_its_parts() -> None:
    parts = Parts(replace(Limits(), frame_bytes_max=1000))
    parts.replica.append(_A[1], "x" * 3000)
    parts.outgoing.ask(_A, EMPTY_VERSION)
    assembly, entry = Assembly(PartsBudget(10_000), entry_bytes_max=10_000), None
    part = parts.outgoing.next_updates()
    while isinstance(part, Part):
        assert entry is None
        assert parts.ledger.sent == (part.index + 1 == part.total)
        entry = assembly.add(part)
        part = parts.outgoing.next_part() if parts.outgoing.parts else None
    assert entry is not None
    assert entry.update == parts.replica.difference(_A[1], EMPTY_VERSION)
    assert parts.ledger.sent == 1


def test_a_peer_that_asks_without_end_is_refused() -> None:
    outgoing = Parts(replace(Limits(), wants_max=1)).outgoing
    for scroll in _SCROLLS[:2]:
        outgoing.ask(scroll, EMPTY_VERSION)
    with pytest.raises(ProtocolError, match="expected fewer requests at once, found 3"):
        outgoing.ask(_SCROLLS[2], EMPTY_VERSION)
    outgoing.check()


def test_a_peer_that_asks_with_too_many_bytes_is_refused_and_not_a_byte_before() -> None:
    parts = Parts(replace(Limits(), wants_bytes_max=10, frame_bytes_max=10))
    parts.outgoing.ask(_A, b"v" * 30)
    parts.outgoing.ask(_A, b"v" * 20)  # in place of the first
    parts.outgoing.ask(_B, b"v" * 20)
    with pytest.raises(ProtocolError, match="expected fewer requests at once, found 3"):
        parts.outgoing.ask(_SCROLLS[2], b"v")


# -- parts of large entries ----------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=20))
def test_the_bytes_of_parts_are_those_that_wait(steps: list[tuple[int, int, bool]]) -> None:
    budget = PartsBudget(1 << 20)
    links = [Assembly(budget, entry_bytes_max=25) for _ in range(2)]
    waiting = [0, 0]
    for index, link, ends in steps:
        if ends:
            links[link].drop()
            waiting[link] = 0
            continue
        if index == 0:
            waiting[link] = 0
        try:
            entry = links[link].add(Part(_PHEXT, _A[1], index, 3, b"p" * 10))
            waiting[link] = 0 if entry else waiting[link] + 10
        except ProtocolError:
            pass
        assert budget.bytes == sum(waiting)


def test_too_many_parts_over_all_links_end_the_link_that_brought_the_last() -> None:
    budget = PartsBudget(15)
    first, second = (Assembly(budget, entry_bytes_max=100) for _ in range(2))
    first.add(Part(_PHEXT, _A[1], 0, 2, b"p" * 10))
    with pytest.raises(ProtocolError, match="too many large scrolls arrive at once"):
        second.add(Part(_PHEXT, _A[1], 0, 2, b"p" * 10))
    second.drop()
    assert budget.bytes == 10
    assert first.is_open


# -- what is left to others ----------------------------------------------------------------


class LazyModel(RuleBasedStateMachine):
    """What was left, beside what any comparison may confirm of it."""

    def __init__(self) -> None:
        super().__init__()
        self.lazy = LazyPush(left_max=3)
        self.lazy.meet([b"w"])
        self.noted: dict[tuple[str, Coordinate], None] = {}
        self.seen: set[tuple[str, Coordinate]] = set()

    @rule(scroll=st.sampled_from(_SCROLLS), is_written=st.booleans())
    def note(self, scroll: tuple[str, Coordinate], is_written: bool) -> None:
        if is_written:
            self.lazy.note_written(0.0, scroll)
        elif self.lazy.has_room(scroll):
            self.lazy.leave(0.0, scroll)
        else:
            return
        self.noted[scroll] = None
        self.seen.discard(scroll)

    @rule(unsettled=st.lists(st.sampled_from([at for _, at in _SCROLLS]), max_size=2))
    def begin(self, unsettled: Sequence[Coordinate]) -> None:
        self.lazy.begin(_PHEXT, unsettled)
        self.seen = {scroll for scroll in self.noted if scroll[1] not in unsettled}

    @rule()
    def confirm(self) -> None:
        self.lazy.confirm(_PHEXT)
        for scroll in self.seen:
            self.noted.pop(scroll, None)

    @invariant()
    def holds_what_no_comparison_has_confirmed_since(self) -> None:
        assert {*self.lazy.left, *self.lazy.written} == {*self.noted}
        assert len(self.lazy.left) <= 3
        assert self.lazy.is_empty == (not self.noted)


TestLazyPush = LazyModel.TestCase
TestLazyPush.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_one_phext_waits_for_hides_nothing_of_another() -> None:
    lazy = LazyPush(left_max=8)
    for now, phext in enumerate(("one", "other", "late")):
        lazy.note_written(now, (phext, _A[1]))
    assert [*lazy.overdue_written(3, 2)] == ["one", "other"]
    assert not lazy.overdue_written(1, 2)


def test_only_what_is_durable_is_offered_of_what_was_left() -> None:
    lazy = LazyPush(left_max=8)
    for scroll in _SCROLLS:
        lazy.leave(1.0, scroll)
    inside = (CoordinateRange(_A[1], _SCROLLS[3][1]),)
    assert [*lazy.offer(_PHEXT, inside, [_B[1]])] == [_A, _SCROLLS[2]]
    assert [*lazy.left] == [_B, *_SCROLLS[3:]]
    assert lazy.is_overdue(4.0, 3.0)
    assert not lazy.is_overdue(3.0, 3.0)


def test_a_peer_that_lost_a_neighbour_says_so_and_gets_the_rest_from_us() -> None:
    lazy = LazyPush(left_max=8)
    assert not lazy.meet([b"a", b"b"])
    assert lazy.meet([b"a", b"c"])
    assert lazy.neighbours == {b"a", b"c"}


# -- comparisons ---------------------------------------------------------------------------


def test_an_audit_is_paid_from_what_was_saved_and_the_same_is_not_audited_twice() -> None:
    audits = Audits(0.0, replace(Limits(), audit_entries_max=100, audit_saved_s=4), interval_s=60)
    assert not audits.begin(0.5, _PHEXT, count=80, digest=b"1", cost=80)
    assert audits.begin(1.0, _PHEXT, count=80, digest=b"1", cost=80)
    assert not audits.begin(9.0, _PHEXT, count=80, digest=b"1", cost=80)
    assert not audits.begin(20.0, _PHEXT, count=200, digest=b"3", cost=200)  # large ones wait
    assert audits.begin(70.0, _PHEXT, count=200, digest=b"3", cost=200)


def test_the_side_that_answers_an_audit_allows_for_a_clock_that_is_twice_as_fast() -> None:
    audits = Audits(0.0, replace(Limits(), audit_entries_max=100), interval_s=60)
    assert audits.afford(1.0, 200, shares=2)
    assert not audits.afford(1.5, 200, shares=2)


@pytest.mark.parametrize(
    ("session", "found_none", "saw_all"),
    [
        (Session(1, None, is_open=False), True, True),
        (Session(1, None, is_open=False, step=2), True, True),
        (Session(1, None, is_open=False, step=3), False, False),
        (Session(1, None, is_open=False, step=3, is_audit=True), True, False),
        (Session(1, None, is_open=False, step=4, is_uneven=True), False, True),
        (Session(1, None, is_open=False, step=2, is_needed=True), False, True),
        (Session(1, None, is_open=False, step=2, is_uneven=True), False, True),
        (Session(1, None, step=2), False, True),
    ],
)
def test_a_comparison_tells_what_it_saw(session: Session, found_none: bool, saw_all: bool) -> None:
    assert session.found_none == found_none
    assert session.saw_all == saw_all


def test_what_was_found_is_wanted_sent_and_offered_as_far_as_there_is_room() -> None:
    limits = replace(Limits(), found_max=2)
    parts = Parts(limits)
    findings = parts.findings
    ours, theirs, changed = ([at for _, at in _SCROLLS[i : i + 1]] for i in range(3))
    session = Session(1, None)
    assert findings.take(_PHEXT, session, Differences(ours, theirs, changed, [EVERYTHING]), b"")
    assert [*parts.outgoing.found] == [_SCROLLS[0]]
    assert [*parts.outgoing.streams] == [(_PHEXT, EVERYTHING)]
    assert [*parts.requests.waiting] == _SCROLLS[1:3]
    assert session.has_found
    more = Differences([], [_SCROLLS[3][1]], [], [])
    assert not findings.take(_PHEXT, session, more, b"")


def test_what_may_be_sent_one_way_only_is_exchanged_once_until_it_changes() -> None:
    parts = Parts(peer=Permissions.of({_PHEXT: [EVERYTHING]}, {}))
    findings = parts.findings
    found = Differences([], [], [_A[1]], [])
    for is_found in (True, False):
        session = Session(1, None)
        findings.take(_PHEXT, session, found, b"told")
        assert session.has_found == is_found
        assert session.is_uneven
    findings.forget(_A)
    findings.take(_PHEXT, session := Session(2, None), found, b"told")
    assert session.has_found


def test_no_more_is_sent_than_there_is_room_for_beside_what_is_to_be() -> None:
    limits = replace(Limits(), found_max=2)
    parts = Parts(limits)
    findings = parts.findings
    parts.outgoing.find(_A)
    two = Differences([at for _, at in _SCROLLS[1:3]], [], [], [])
    assert not findings.take(_PHEXT, Session(1, None), two, b"")
    assert [*parts.outgoing.found] == [_A, _B]


def test_a_peer_learns_why_we_lack_something_of_its_own() -> None:
    parts = Parts(peer=Permissions.of({_PHEXT: [EVERYTHING]}, {}))
    findings = parts.findings
    two = Differences([], [_A[1], _B[1]], [], [])
    assert findings.take(_PHEXT, Session(1, None), two, b"")
    assert [*parts.outbox.waiting] == [Refused(_PHEXT, _A[1], NOT_ALLOWED)]


# -- versions ------------------------------------------------------------------------------


def test_a_version_beyond_ours_is_wanted_and_what_it_lacks_is_sent() -> None:
    parts, other = Parts(), Parts()
    other.replica.append(_A[1], "theirs")
    parts.replica.append(_A[1], "ours")
    version = other.replica.version(_A[1])
    parts.versions.receive(Want(_PHEXT, ((_A[1], version, b""),)))
    assert parts.outgoing.asked == {_A: version}
    assert [*parts.requests.waiting] == [_A]


def test_who_asks_is_told_what_we_had_apart_from_it_and_what_others_had_that_it_lacks() -> None:
    parts, peer, third = Parts(), Scroll(_A[1], 5), Scroll(_A[1], 6)
    parts.replica.append(_A[1], "ours")
    ours = parts.replica.version(_A[1])
    state = parts.replica.difference(_A[1], EMPTY_VERSION) or b""
    peer.apply(state)
    parts.versions.receive(Want(_PHEXT, ((_A[1], peer.version(), b""),)))
    assert parts.had.next_had() is None  # it knows all that we know
    parts.replicas.peer_versions.hear(*_A, b"s" * 16, bytes((1, 9, 9, 0)))
    parts.versions.receive(Want(_PHEXT, ((_A[1], peer.version(), b""),)))
    assert parts.had.next_had() == Had(*_A, ((b"s" * 16, bytes((1, 9, 9, 0))),))
    peer.append("theirs")
    third.append("of a third")
    heard = ((b"t" * 16, third.version()), (_PEER, peer.version()), (b"t" * 16, ours))
    for node_id, version in heard:
        parts.replicas.peer_versions.hear(*_A, node_id, version)
    parts.versions.receive(Want(_PHEXT, ((_A[1], peer.version(), b""),)))
    assert parts.had.next_had() is None  # of the third the last, which the peer has
    parts.replica.append(_A[1], "more")
    parts.replicas.peer_versions.hear(*_A, b"t" * 16, third.version())
    parts.replicas.peer_versions.hear(*_A, b"u" * 16, third.version())
    parts.versions.receive(Want(_PHEXT, ((_A[1], peer.version(), b""),)))
    own = (b"n" * 16, parts.replica.version(_A[1]))
    assert parts.had.next_had() == Had(*_A, ((b"u" * 16, third.version()), own))
    assert parts.had.next_had() is None


def test_what_nodes_had_is_told_once_with_what_they_wrote_and_to_who_understands() -> None:
    parts, third = Parts(), Scroll(_A[1], 6)
    parts.change(_A, "one")
    assert not parts.had.waiting
    third.append("of a third")
    had = Had(*_A, ((b"t" * 16, third.version()), (b"n" * 16, third.version())))
    parts.versions.receive(had)
    parts.change(_A, "two")
    assert parts.had.next_had() == Had(*_A, had.versions[:1])  # what we had ourselves we know
    parts.change(_A, "three")
    assert parts.had.next_had() is None
    parts.had.is_understood = False
    parts.replicas.peer_versions.hear(*_A, b"u" * 16, third.version())
    parts.change(_A, "four")
    assert parts.had.next_had() is None


def test_what_a_node_had_is_told_on_where_it_says_nothing_new_here() -> None:
    parts = Parts()
    parts.change(_A, "one")
    old = Had(*_A, ((b"t" * 16, parts.replica.version(_A[1])),))
    parts.change(_A, "two")
    parts.versions.receive(old)
    parts.change(_A, "three")
    assert parts.had.next_had() == old


def test_of_what_nodes_had_the_last_that_fits_is_told_and_no_more_is_kept() -> None:
    parts = Parts(replace(Limits(), frame_bytes_max=200, spared_max=2))
    for number in range(1, 9):
        version = bytes((1, number, 9, 0))
        parts.replicas.peer_versions.hear(*_A, bytes([number]) * 16, version)
    parts.change(_A, "one")
    told = parts.had.next_had()
    assert told is not None
    assert [node_id[0] for node_id, _ in told.versions] == [6, 7, 8]
    for scroll in _SCROLLS:
        parts.replicas.peer_versions.hear(*scroll, b"t" * 16, bytes((1, 1, 9, 0)))
        parts.change(scroll, "one")
        assert parts.had.next_had() is not None
    assert len(parts.had._told) <= 2


def test_what_nodes_had_is_taken_of_who_may_write_there_and_is_a_version() -> None:
    parts = Parts(peer=Permissions.of({_PHEXT: [EVERYTHING]}, {}))
    parts.versions.receive(Had(*_A, ((b"t" * 16, bytes((1, 1, 9, 0))),)))
    assert not parts.replicas.peer_versions.scrolls
    with pytest.raises(ProtocolError, match="version"):
        parts.versions.receive(Had(*_A, ((b"t" * 16, b"?"),)))


def test_a_conflict_is_said_once_until_the_next_comparison() -> None:
    parts = Parts()
    parts.replica.append(_A[1], "text")
    version = parts.replica.version(_A[1])
    for compared, count in (("", 1), ("other", 1), (_PHEXT, 2)):
        parts.versions.compared(compared)
        parts.versions.receive(Want(_PHEXT, ((_A[1], version, bytes(16)),)))
        assert sum(isinstance(said, Conflict) for said in parts.outbox.waiting) == count


def test_the_greater_text_gives_way() -> None:
    parts = Parts()
    parts.replica.append(_A[1], "text")
    parts.versions.receive_conflict(_A, b"\xff" * 16)
    assert isinstance(parts.outbox.waiting.pop(), Conflict)
    assert not parts.requests.may_ask
    parts.versions.receive_conflict(_A, bytes(16))
    assert parts.requests.takes_place(_A)


# -- refusals and waiting ------------------------------------------------------------------


def test_the_operator_hears_of_the_first_refusals_and_that_there_are_more() -> None:
    parts = Parts(replace(Limits(), refusals_reported_max=2, refusals_max=4))
    for scroll in _SCROLLS[:4]:
        parts.refusals.note(scroll, "too large")
    assert len(parts.reports) == 3
    assert "is not reported" in parts.reports[-1]
    parts.refusals.forget(_A)
    assert _A not in parts.refusals.reasons
    parts.refusals.note(_A, "too large")
    with pytest.raises(ProtocolError, match="expected fewer refusals, found 5"):
        parts.refusals.note(_SCROLLS[4], "too large")


def test_a_link_that_waits_keeps_only_so_much_and_gives_it_in_order() -> None:
    waiting = Waiting(replace(Limits(), held_frames_max=3, held_bytes_max=10))
    assert waiting.keep(b"one")
    assert waiting.keep(b"two")
    waiting.is_begun = True
    assert waiting.take() == [b"one", b"two"]
    assert not waiting.is_begun
    assert not waiting.keep(bytes(11))
