"""What a link keeps of its frames: nobody is said to have on disk what it did not say."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate
from phextsync.sync.ledger import Ledger
from phextsync.sync.messages import Acknowledge

_PHEXTS = ("one", "two")
_SCROLLS = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 5)]
_scrolls = st.lists(st.sampled_from(_SCROLLS), min_size=1, max_size=3, unique=True).map(tuple)
_phexts = st.sampled_from(_PHEXTS)


class LedgerModel(RuleBasedStateMachine):
    """A ledger beside plain lists of all frames that ever went either way."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(scrolls_max=10_000, gaps_max=100)
        self.sent: list[tuple[str, tuple[Coordinate, ...]]] = []
        self.received: list[tuple[str, tuple[Coordinate, ...]]] = []
        self.peer_has = 0  # frames of ours, on its disk
        self.peer_had = 0  # frames of its own
        self.told = Acknowledge(0, 0)
        self.is_held_back = False  # what of ours is durable, for what comes soon

    @rule(phext=_phexts, scrolls=_scrolls)
    def send(self, phext: str, scrolls: tuple[Coordinate, ...]) -> None:
        self.ledger.send(phext, scrolls, is_durable=False)
        self.sent.append((phext, scrolls))
        self.is_held_back = False

    @rule(phext=_phexts, scrolls=_scrolls, misses=st.booleans())
    def receive(self, phext: str, scrolls: tuple[Coordinate, ...], misses: bool) -> None:
        self.ledger.receive(phext, scrolls)
        self.received.append((phext, scrolls))
        if misses:
            self.ledger.miss((phext, scrolls[0]))

    @rule(phext=_phexts, scroll=st.sampled_from(_SCROLLS))
    def fill(self, phext: str, scroll: Coordinate) -> None:
        self.ledger.fill((phext, scroll))

    @rule(received=st.integers(0, 9), sent=st.integers(0, 9))
    def hear(self, received: int, sent: int) -> None:
        told = Acknowledge(min(received, len(self.sent)), min(sent, len(self.received)))
        self.peer_has = max(self.peer_has, told.received)
        self.peer_had = max(self.peer_had, told.sent)
        self.ledger.note(told)

    @rule(more=st.booleans(), sends=st.booleans())
    def commit(self, more: bool, sends: bool) -> None:
        self.ledger.committing()
        complete, sent = self.ledger.complete, self.ledger.sent
        if more:
            self.receive("one", (_SCROLLS[0],), False)
            if sends:
                self.send("two", (_SCROLLS[1],))
        before = (self.ledger.durable, self.ledger.own_durable)
        was_told = before[1] == self.told.sent
        is_news = self.ledger.committed(is_dirty=more)
        if more:
            assert self.ledger.durable == max(complete, before[0])
            assert self.ledger.own_durable == max(sent, before[1])
        self.is_held_back = more and was_told
        assert is_news == self.ledger.has_news

    @rule()
    def tell(self) -> None:
        told = self.ledger.acknowledge()
        assert told == Acknowledge(self.ledger.durable, self.ledger.own_durable)
        self.told = told
        assert not self.ledger.has_to_acknowledge
        assert not self.ledger.has_own_to_acknowledge

    @invariant()
    def tells_what_is_on_our_disk_but_what_is_held_back(self) -> None:
        own = self.ledger.own_durable > self.told.sent and not self.is_held_back
        assert self.ledger.has_own_to_acknowledge == own
        assert self.ledger.has_to_acknowledge == (self.ledger.durable > self.told.received)

    @invariant()
    def holds_what_is_not_known_to_be_on_the_peers_disk(self) -> None:
        self.ledger.check()
        left = self.sent[self.peer_has :] + self.received[self.peer_had :]
        for phext in _PHEXTS:
            expected = [scroll for name, scrolls in left if name == phext for scroll in scrolls]
            assert list(self.ledger.under_way(phext)) == expected
            assert self.ledger.is_quiet(phext) == (not expected)
        assert self.ledger.is_acknowledged == (self.peer_has == len(self.sent))
        assert self.ledger.scrolls == sum(len(scrolls) for _, scrolls in left)
        assert self.ledger.frames == len(left)


TestLedger = LedgerModel.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_lacks_something_is_not_acknowledged_nor_what_came_after_it() -> None:
    ledger = Ledger(scrolls_max=10, gaps_max=10)
    for scroll in _SCROLLS:
        ledger.receive("one", (scroll,))
        if scroll is _SCROLLS[1]:
            ledger.miss(("one", scroll))
    ledger.is_on_disk()
    assert ledger.acknowledge() == Acknowledge(1, 0)
    ledger.fill(("one", _SCROLLS[1]))
    ledger.is_on_disk()
    assert ledger.acknowledge() == Acknowledge(4, 0)


def test_of_more_than_can_be_noted_the_phext_is_known_until_it_is_on_the_peers_disk() -> None:
    ledger = Ledger(scrolls_max=2, gaps_max=10)
    for scroll in _SCROLLS[:3]:
        ledger.receive("one", (scroll,))
    assert list(ledger.under_way("one")) == _SCROLLS[1:3]
    assert ledger.lacks_some("one")
    assert not ledger.is_quiet("one")
    ledger.note(Acknowledge(0, 1))
    assert not ledger.lacks_some("one")


@pytest.mark.parametrize("told", [Acknowledge(1, 0), Acknowledge(0, 1)])
def test_frames_that_never_were_are_not_acknowledged(told: Acknowledge) -> None:
    with pytest.raises(ProtocolError, match="expected an acknowledgement up to 0 and 0"):
        Ledger(scrolls_max=2, gaps_max=10).note(told)


def test_a_peer_whose_updates_all_lack_something_is_refused() -> None:
    ledger = Ledger(scrolls_max=2, gaps_max=1)
    ledger.receive("one", (_SCROLLS[0],))
    ledger.miss(("one", _SCROLLS[0]))
    with pytest.raises(ProtocolError, match="expected updates of what is here"):
        ledger.miss(("one", _SCROLLS[1]))


def test_while_edits_follow_each_other_the_next_frame_takes_along_what_is_on_our_disk() -> None:
    ledger = Ledger(scrolls_max=10, gaps_max=10)
    _commit_one(ledger, is_dirty=True)
    assert not ledger.has_news
    ledger.send("one", (_SCROLLS[0],), is_durable=False)
    assert ledger.has_own_to_acknowledge
    assert ledger.acknowledge() == Acknowledge(0, 1)


@pytest.mark.parametrize("is_dirty", [False, True])
def test_what_no_frame_takes_along_is_told_after_one_more_batch(is_dirty: bool) -> None:
    ledger = Ledger(scrolls_max=10, gaps_max=10)
    _commit_one(ledger, is_dirty=True)
    ledger.committing()
    assert ledger.committed(is_dirty=is_dirty)
    assert ledger.acknowledge() == Acknowledge(0, 1)


def test_what_no_batch_follows_is_told_at_once() -> None:
    ledger = Ledger(scrolls_max=10, gaps_max=10)
    _commit_one(ledger, is_dirty=False)
    assert ledger.has_own_to_acknowledge


def _commit_one(ledger: Ledger, *, is_dirty: bool) -> None:
    ledger.send("one", (_SCROLLS[0],), is_durable=False)
    ledger.committing()
    ledger.committed(is_dirty=is_dirty)
