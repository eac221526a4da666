"""The small parts of the core, each beside the plainest model of it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.errors import ProtocolError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange, contains
from phextsync.replica.listener import NewUpdate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry
from phextsync.store.memory import MemoryStore
from phextsync.sync.clock import Clock
from phextsync.sync.durable_first import DurableFirst
from phextsync.sync.heartbeat import Heartbeat, PingTokens
from phextsync.sync.messages import Ping
from phextsync.sync.news import News
from phextsync.sync.outbox import Outbox
from phextsync.sync.recent import KEPT_S, RecentUpdates
from phextsync.sync.rights import Interest, LinkRights, rights_between
from phextsync.trust.permissions import UNRESTRICTED, Permissions
from tests.strategies import near_coordinates, ranges

_A = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)
_PHEXT = "memory"
_interests = st.lists(ranges(near_coordinates), max_size=2)

# -- recent updates ------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.booleans())), st.integers(0, 9))
def test_recent_updates_are_all_of_a_scroll_since_a_number_but_those_of_the_asking_link(
    updates: list[tuple[int, int, bool]], first: int
) -> None:
    recent = RecentUpdates(1 << 20)
    model: list[tuple[int, int, LogEntry, int]] = []
    for last, source, is_kept in updates:
        number = recent.advance()
        entry = LogEntry(bytes([number]), b"", 0)
        if is_kept:
            recent.add((_PHEXT, Coordinate(1, 1, 1, 1, 1, 1, 1, 1, last)), entry, source)
            model.append((number, last, entry, source))
    for last in (1, 2, 3):
        scroll = (_PHEXT, Coordinate(1, 1, 1, 1, 1, 1, 1, 1, last))
        expected = [e for n, at, e, source in model if n >= first and at == last and source != 1]
        assert recent.since(scroll, first, 1) == expected
    assert recent.has_since(1)


def test_recent_updates_are_forgotten_oldest_first_and_that_is_known() -> None:
    recent = RecentUpdates(2000)
    for _ in range(4):
        number = recent.advance()
        recent.add((_PHEXT, _A), LogEntry(b"u" * 500, b"", 0), None)
    assert len(recent.since((_PHEXT, _A), 0, 1)) == 2
    assert recent.has_since(number - 1)
    assert not recent.has_since(number - 2)


@given(st.lists(st.floats(0, 100)))
def test_a_recent_update_is_forgotten_a_minute_later(pauses_s: list[float]) -> None:
    recent, now = RecentUpdates(1 << 20), 0.0
    made: list[tuple[float, int]] = []
    for pause_s in pauses_s:
        now += pause_s
        recent.tick(now)
        made.append((now, recent.advance()))
        recent.add((_PHEXT, _A), LogEntry(b"u", b"", 0), None)
        for at, number in made:
            if now - at < KEPT_S:
                assert recent.has_since(number)
    recent.tick(now + KEPT_S)
    recent.tick(now + 2 * KEPT_S + 1)
    assert recent.since((_PHEXT, _A), 0, 1) == []
    assert recent.has_since(recent.sequence + 1)


# -- what is held back ---------------------------------------------------------------------

_changes = st.tuples(st.integers(1, 3), st.sampled_from([None, 1]), st.booleans())


@given(st.lists(_changes | st.sampled_from(["committing", "committed"])))
def test_what_is_durable_first_and_what_follows_it_waits_for_its_batch(
    events: list[tuple[int, int | None, bool] | str],
) -> None:
    first = DurableFirst()
    fresh: list[NewUpdate] = []
    taken: list[NewUpdate] = []
    for event in events:
        if event == "committing":
            taken, fresh = taken + fresh, []
            first.committing()
        elif isinstance(event, str):
            assert [*first.committed()] == taken
            taken = []
        else:
            last, source, durable_first = event
            at = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, last)
            new = NewUpdate(_PHEXT, at, LogEntry(b"u", b"", 0), source, durable_first)
            is_behind = any(other.coordinate == at for other in taken + fresh)
            waits = source is None and (durable_first or is_behind)
            assert first.take(new) == waits
            fresh += [new] if waits else []
        waiting = {new.coordinate for new in taken + fresh}
        for last in (1, 2, 3):
            at = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, last)
            assert ((_PHEXT, at) in first) == (at in waiting)


# -- rights --------------------------------------------------------------------------------


@given(_interests, *[_interests] * 4, near_coordinates)
def test_rights_are_what_interest_and_both_certificates_allow(
    interest: list[CoordinateRange],
    read: list[CoordinateRange],
    write: list[CoordinateRange],
    their_read: list[CoordinateRange],
    their_write: list[CoordinateRange],
    at: Coordinate,
) -> None:
    own = Permissions.of({_PHEXT: read}, {_PHEXT: write})
    theirs = Permissions.of({_PHEXT: their_read}, {_PHEXT: their_write})
    held = Interest(_Owner(own), {_PHEXT: interest}).of(_PHEXT)
    rights = rights_between(held, own, theirs, _PHEXT)
    shown = contains(own.readable(_PHEXT), at) and contains(theirs.readable(_PHEXT), at)
    wanted = contains(interest, at) and contains(own.readable(_PHEXT), at)
    assert contains(rights.show, at) == shown
    assert contains(rights.held, at) == (shown and wanted)
    assert contains(rights.send, at) == (shown and contains(write, at))
    assert contains(rights.take, at) == (wanted and contains(their_write, at))


class _Owner:
    """Has room for one phext."""

    def __init__(self, permissions: Permissions = UNRESTRICTED) -> None:
        self.permissions = permissions
        nothing = ReplicaSet(
            MemoryStore(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0
        )
        self.holding = nothing.holding

    def has_room_for(self, name: str) -> bool:
        return name == _PHEXT


def test_a_phext_for_which_there_is_no_room_is_in_nobodys_rights() -> None:
    rights = LinkRights(Interest(_Owner(), None), UNRESTRICTED, phexts_max=8)
    assert rights.of(_PHEXT).held == rights.of(_PHEXT).take == (EVERYTHING,)
    assert rights.of("other").held == rights.of("other").take == ()


def test_a_peer_holds_nothing_that_it_may_not_read() -> None:
    readable = CoordinateRange.parse("2.*")
    permissions = Permissions.of({_PHEXT: [readable]}, {})
    rights = LinkRights(Interest(_Owner(), None), permissions, phexts_max=1)
    rights.tell(_PHEXT, [EVERYTHING])
    assert rights.told[_PHEXT] == rights.scope(_PHEXT) == (readable,)
    with pytest.raises(ProtocolError, match="expected at most 1 phexts"):
        rights.tell("other", [EVERYTHING])


# -- time ----------------------------------------------------------------------------------


def test_a_tick_is_asked_for_only_when_it_is_earlier_than_the_next_one() -> None:
    asked: list[float] = []
    clock = Clock(asked.append)
    clock.tick_begins(10.0)
    clock.ask_for_tick(10.1, pause_s=0.1)  # its end tells
    clock.tick_ends(15.0)
    clock.ask_for_tick(16.0, pause_s=0.1)
    assert asked == []
    clock.ask_for_tick(12.0, pause_s=0.1)
    clock.ask_for_tick(13.0, pause_s=0.1)
    clock.ask_for_tick(10.0, pause_s=0.1)
    assert asked == [12.0, 10.1]


def test_time_never_goes_back() -> None:
    clock = Clock(lambda _: None)
    clock.advance(3.0)
    clock.advance(2.0)
    assert clock.now == 3.0


def test_only_an_answer_to_a_ping_of_this_link_tells_how_long_it_took() -> None:
    tokens = PingTokens()
    one, other = Heartbeat(tokens, 0.0), Heartbeat(tokens, 0.0)
    assert [one.ping(1.0), other.ping(1.0), one.ping(2.0)] == [Ping(1), Ping(2), Ping(3)]
    assert not one.pong(2.5, 2)
    assert one.round_trip_s is None
    assert one.pong(2.5, 3)
    assert one.round_trip_s == 0.5
    assert not one.pong(9.0, 1)  # was answered with it
    assert one.answered == 3


def test_a_silent_peer_is_asked_once_in_an_interval() -> None:
    heartbeat = Heartbeat(PingTokens(), 0.0)
    assert not heartbeat.is_ping_due(0.9, 1.0)
    assert heartbeat.is_ping_due(1.0, 1.0)
    heartbeat.ping(1.0)
    assert not heartbeat.is_ping_due(1.5, 1.0)
    heartbeat.heard_at = 1.8
    assert not heartbeat.is_ping_due(2.2, 1.0)
    assert heartbeat.is_ping_due(2.9, 1.0)


# -- what waits ----------------------------------------------------------------------------


def test_a_peer_that_does_not_read_has_only_so_many_answers_wait() -> None:
    outbox = Outbox(answers_max=1)
    outbox.answer(Ping(1))
    outbox.say(Ping(2))
    with pytest.raises(ProtocolError, match="expected a peer that reads, found 2 answers"):
        outbox.answer(Ping(3))
    assert list(outbox.waiting) == [Ping(1), Ping(2)]


def test_news_are_durable_when_nothing_came_after_their_batch() -> None:
    news = News()
    news.note("one", 1)
    news.note("two", None)
    news.committing()
    news.note("two", 3)
    assert news.committed() == {"one": {1: None}}
    news.committing()
    assert news.committed() == {"two": {3: None, None: None}}
    assert news.committed() == {}


def test_news_of_a_batch_that_was_refused_are_durable_with_the_next() -> None:
    news = News()
    news.note("one", 1)
    news.committing()
    news.note("two", 2)
    news.committing()
    assert news.committed() == {"one": {1: None}, "two": {2: None}}
