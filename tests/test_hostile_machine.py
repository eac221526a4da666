"""Whatever a peer sends in whatever order, the node keeps its bounds and its honest peer."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fuzz.scripts import frame_seeds
from phextsync.sync.limits import Limits
from phextsync.sync.link import Link
from sims.attacks import Attacker
from sims.network import Network
from tests.strategies import near_coordinates

_FRAMES = frame_seeds()
_LIMITS = Limits(answers_max=6, wants_max=4, found_max=8, gaps_max=2, refusals_max=2, phexts_max=8)


class HostilePeer(RuleBasedStateMachine):
    """A node with an honest peer, and a link on which anything comes, read or not."""

    @initialize(small=st.booleans())
    def begin(self, small: bool) -> None:
        self.network = Network(2, limits=_LIMITS)
        self.honest = self.network.link(0, 1)
        self.network.run(0.1)
        self.written = 0
        self.attacker = Attacker(self.network)
        self.peer_id = b"\0" * 16 if small else b"m" * 16
        self.attacker.connect(self.peer_id)

    @rule()
    def connect_again(self) -> None:
        self.attacker.leave()
        self.attacker.connect(self.peer_id)

    @rule(number=st.integers(0, len(_FRAMES) - 1))
    def send_frame(self, number: int) -> None:
        self.attacker.send(_FRAMES[number])

    @rule(
        number=st.integers(0, len(_FRAMES) - 1),
        changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
        cut=st.integers(0, 200),
    )
    def send_changed_frame(self, number: int, changes: list[tuple[int, int]], cut: int) -> None:
        frame = bytearray(_FRAMES[number])
        for at, value in changes:
            frame[at % len(frame)] = value
        self.attacker.send(bytes(frame[: len(frame) - cut % 4]))

    @rule()
    def read(self) -> None:
        self.attacker.read()

    @rule(seconds=st.sampled_from([0.05, 0.2, 1.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.network.run(seconds)

    @rule(who=st.integers(0, 1), place=near_coordinates)
    def edit(self, who: int, place: object) -> None:
        self.written += 1
        self.network.peers[who].replica.append(str(place), f"<{self.written}>")

    @invariant()
    def bounds_hold(self) -> None:
        for link in self.network.peers[0].core.links.values() if hasattr(self, "network") else ():
            _check_bounds(link)

    def teardown(self) -> None:
        if not hasattr(self, "network"):
            return
        self.attacker.leave()
        self.network.run(3)
        assert self.honest in self.network.links, "the honest link ended"
        texts = self.network.assert_equal()
        for number in range(1, self.written + 1):
            assert any(f"<{number}>" in text for text in texts.values())


def _check_bounds(link: Link) -> None:
    assert len(link.outbox.waiting) <= _LIMITS.answers_max + len(link.announcements.ours) + 2
    assert len(link.outgoing.asked) <= 2 * _LIMITS.wants_max + 1
    assert len(link.outgoing.found) <= _LIMITS.found_max
    assert len(link.ledger.gaps) <= _LIMITS.gaps_max + 1
    assert len(link.refusals.reasons) <= _LIMITS.refusals_max + 1
    assert len(link.rights.told) <= _LIMITS.phexts_max + 1
    link.ledger.check()
    link.requests.check()
    link.outgoing.check()


def test_the_machine_has_a_bound_for_all_that_a_peer_can_grow() -> None:
    run_state_machine_as_test(
        HostilePeer, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
