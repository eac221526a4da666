"""Guests against holders, with links that end, crashes and little room: nothing is lost or unseen.

Each append is a token of its own. Whatever a user of a node that does not hold a scroll has seen,
that user sees again whenever the node says that it has the scroll as its holders do; and all of it,
with what was made durable, is with all holders in the end.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from phextsync.errors import NotHeldError
from phextsync.index import Coordinate, CoordinateRange
from sims.network import PHEXT, Network

_READER = 2
_PLACES = [Coordinate.parse(f"2.1.1/1.1.1/1.1.{scroll}") for scroll in (1, 2, 3, 4)]
_places = st.sampled_from(_PLACES)
_holders = st.sampled_from([0, 1])


class Guests(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 99))
    def begin(self, seed: int) -> None:
        self.network = Network(3, seed)
        self.number = 0
        self.seen: dict[Coordinate, set[str]] = {place: set() for place in _PLACES}
        self.durable: dict[Coordinate, set[str]] = {place: set() for place in _PLACES}
        self.fresh: list[tuple[Coordinate, str]] = []
        self.told: list[tuple[Coordinate, list[bool]]] = []
        self.network.peers[_READER].replicas.hold(PHEXT, [CoordinateRange.parse("1.*")])
        self._restarted()
        self.network.link_all()
        self.network.run(0.2)

    def _restarted(self) -> None:
        self.network.peers[_READER].replicas.guests.count_max = 2

    def _token(self) -> str:
        self.number += 1
        return f"<{self.number}>"

    def _tokens(self, peer: int, place: Coordinate) -> set[str]:
        text = self.network.peers[peer].replica.get(place, "")
        return {f"{token}>" for token in text.split(">") if token}

    # -- what users do ---------------------------------------------------------------------

    @rule(place=_places)
    def fetch(self, place: Coordinate) -> None:
        told: list[bool] = []
        peer = self.network.peers[_READER]
        if not peer.replicas.holding.is_current(PHEXT, place):
            peer.core.fetching.fetch(self.network.now, PHEXT, place, told.append)
            self.told.append((place, told))

    @rule(place=_places)
    def write(self, place: Coordinate) -> None:
        peer, token = self.network.peers[_READER], self._token()
        if not peer.replicas.holding.is_leaving(PHEXT, place):
            if (PHEXT, place) not in peer.replicas.guests:
                peer.replicas.guests.admit((PHEXT, place))
            peer.replica.append(place, token)
            self.fresh.append((place, token))

    @rule(place=_places, holder=_holders)
    def write_elsewhere(self, place: Coordinate, holder: int) -> None:
        self.network.peers[holder].replica.append(place, self._token())

    # -- what happens ----------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        self.network.peers[_READER].commit()
        for place, token in self.fresh:
            self.durable[place].add(token)
        self.fresh.clear()

    @rule(steps=st.integers(1, 5))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.network.step()

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0]))
    def run_on(self, seconds: float) -> None:
        self.commit()
        self.network.run(seconds)

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        if self.network.links:
            self.network.cut(data.draw(st.sampled_from(sorted(self.network.links))))

    @rule()
    def link(self) -> None:
        self.network.link_all()

    @rule()
    def crash(self) -> None:
        self.network.crash(_READER)
        self._restarted()
        self.fresh.clear()
        self.told.clear()
        for place in _PLACES:
            self.seen[place] = set()

    # -- what has to hold ------------------------------------------------------------------

    @invariant()
    def what_was_seen_is_seen_again(self) -> None:
        peer = self.network.peers[_READER]
        for place in _PLACES:
            if peer.replicas.holding.is_current(PHEXT, place):
                tokens = self._tokens(_READER, place)
                assert tokens >= self.seen[place], "a guest shows less than was shown before"
                self.seen[place] |= tokens
            elif (PHEXT, place) not in peer.replicas.guests:
                try:
                    peer.replica.get(place)
                except NotHeldError:
                    continue
                raise AssertionError("what is neither held nor a guest was shown")

    def teardown(self) -> None:
        if not hasattr(self, "network"):
            return
        self.commit()
        self.network.link_all()
        self.network.run(8)
        peer = self.network.peers[_READER]
        assert not peer.replicas.guests.unsent
        for place in _PLACES:
            both = [self._tokens(holder, place) for holder in (0, 1)]
            assert both[0] == both[1]
            assert both[0] >= self.durable[place] | self.seen[place]
        for place, told in self.told:
            assert told, f"nobody was told what became of the question about {place}"
        assert len(peer.replicas.guests) <= 2
        assert [*peer.replica] == []


TestGuests = Guests.TestCase
TestGuests.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
