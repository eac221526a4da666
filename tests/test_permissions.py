"""Nobody is shown what he may not read, and nobody's text changes by whom may not write it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import get_args

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.crdt import import_update
from phextsync.errors import PermissionDeniedError
from phextsync.index import (
    EMPTY_VERSION,
    EVERYTHING,
    Coordinate,
    CoordinateRange,
    contains,
    update_version,
)
from phextsync.ranges import Ranges, holds, intersection, union
from phextsync.replica.clients import CLIENTS
from phextsync.sync import comparison, reconcile
from phextsync.sync.codec import decode, encode
from phextsync.sync.listener import Listener
from phextsync.sync.messages import (
    Acknowledge,
    Ask,
    Changed,
    Compare,
    Conflict,
    Entry,
    Fetch,
    Fetched,
    FetchMode,
    Goodbye,
    Graft,
    Had,
    Have,
    Hello,
    Keep,
    Leave,
    Live,
    Message,
    Neighbours,
    Part,
    PhextSummary,
    Ping,
    Pong,
    Presence,
    Prune,
    Refused,
    Regrouped,
    Summary,
    Survey,
    Surveyed,
    Told,
    Unknown,
    Updates,
    Verdict,
    Want,
    Watch,
)
from phextsync.sync.synchronizer import Synchronizer
from phextsync.trust.permissions import EVERY_PHEXT, UNRESTRICTED, Permissions
from sims.network import PHEXT, Network, Peer
from tests.strategies import near_coordinates, ranges

_A = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)
_B = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 2)
_C = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 3)
_D = Coordinate(*[9] * 9)
_FIRST = CoordinateRange(None, _B)
_REST = CoordinateRange(_B, None)
_NOTES = "notes"
_HIDDEN = import_update(_A.key, "hidden")


# -- ranges and grants ---------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(ranges(near_coordinates)), st.lists(ranges(near_coordinates)), near_coordinates)
def test_union_and_intersection_hold_what_they_say(
    first: list[CoordinateRange], second: list[CoordinateRange], place: Coordinate
) -> None:
    both, either = intersection(first, second), union(first, second)
    assert contains(both, place) == (contains(first, place) and contains(second, place))
    assert contains(either, place) == (contains(first, place) or contains(second, place))
    for result in (both, either):
        for before, after in pairwise(result):
            assert before.upper is not None
            assert before.upper < after.lower


@settings(deadline=None)
@given(st.lists(ranges(near_coordinates)), st.lists(ranges(near_coordinates)), near_coordinates)
def test_what_may_be_written_may_be_read(
    read: list[CoordinateRange], write: list[CoordinateRange], place: Coordinate
) -> None:
    permissions = Permissions.of({PHEXT: read}, {PHEXT: write})
    assert contains(permissions.writable(PHEXT), place) == contains(write, place)
    assert contains(permissions.readable(PHEXT), place) == contains([*read, *write], place)
    assert permissions.readable(_NOTES) == permissions.writable(_NOTES) == ()


def test_a_grant_for_every_phext_is_one_for_the_librarys_own_only_if_it_is_for_everything() -> None:
    some = Permissions.of({EVERY_PHEXT: [_FIRST]}, {})
    assert some.readable(PHEXT) == (_FIRST,)
    assert some.readable(CLIENTS) == ()
    everything = Permissions.of({EVERY_PHEXT: [_FIRST, _REST]}, {})
    assert everything.readable(CLIENTS) == (EVERYTHING,)
    assert everything.writable(CLIENTS) == ()
    assert not everything.is_everything
    assert UNRESTRICTED.is_everything


# -- a node and its own certificate --------------------------------------------------------


def _read_only(*readable: CoordinateRange) -> Permissions:
    return Permissions.of({PHEXT: readable}, {})


def test_a_node_refuses_its_own_edits_outside_its_write_range() -> None:
    (peer,) = Network(1).peers
    peer.restrict(Permissions.of({PHEXT: [EVERYTHING]}, {PHEXT: [_REST]}))
    peer.replica[_B] = "allowed"
    said = rf"certificate does not allow writing {PHEXT} {_A}: expected a coordinate in "
    with pytest.raises(PermissionDeniedError, match=said):
        peer.replica[_A] = "refused"
    with pytest.raises(PermissionDeniedError):
        peer.replica.import_text(_A, "refused")
    with pytest.raises(PermissionError):
        peer.replicas.open(_NOTES).append(_B, "refused")
    assert dict(peer.replica.scrolls()) == {_B: "allowed"}


def test_a_node_with_limits_does_not_register_its_client_ids() -> None:
    (peer,) = Network(1).peers
    peer.restrict(Permissions.of({}, {PHEXT: [EVERYTHING]}))
    peer.replica[_A] = "text"
    assert len(peer.replicas.open(CLIENTS)) == 0


# -- two nodes -----------------------------------------------------------------------------


def _listened(network: Network, is_wanted: Callable[[Peer, Peer], bool]) -> list[Message | Unknown]:
    """Return a list that gets what a sender says to a receiver from now on."""
    said: list[Message | Unknown] = []

    def note(sender: Peer, receiver: Peer, frame: bytes) -> None:
        if is_wanted(sender, receiver):
            said.append(_decoded(sender, frame))

    network.on_frame = note
    return said


def _summaries(message: Message | Unknown) -> tuple[PhextSummary, ...]:
    match message:
        case Hello(phexts=summaries):
            return summaries
        case Summary(summary):
            return (summary,)
        case _:
            return ()


def _limited(*certificates: Permissions) -> Network:
    """Return a linked network whose later peers have these certificates."""
    network = Network(1 + len(certificates))
    for peer, certificate in zip(network.peers[1:], certificates, strict=True):
        peer.restrict(certificate)
    return network


def test_a_read_only_node_gets_its_range_and_the_rest_is_not_even_counted() -> None:
    network = _limited(_read_only(_REST))
    writer, reader = network.peers
    writer.replica[_A] = "hidden"
    writer.replicas.open("secret")[_B] = "hidden"
    writer.replica[_B] = "shown\n"
    heard = _listened(network, lambda _, receiver: receiver is reader)
    network.run(0.1)
    network.link_all()
    network.run(1)
    writer.replica.append(_B, "live\n")
    writer.replica.append(_A, "live\n")
    network.run(1)
    assert dict(reader.replica.scrolls()) == {_B: "shown\nlive\n"}
    summaries = [summary for message in heard for summary in _summaries(message)]
    assert {(s.name, s.interest, s.count, s.text_bytes) for s in summaries} == {
        (PHEXT, (_REST,), 1, 0)
    }
    assert writer.core.lacking(PHEXT, _REST) == ([reader.node_id], [])


def _compared(certificate: Permissions) -> int:
    """Return how often a node is compared with the others while one of these writes."""
    network = _limited(UNRESTRICTED, UNRESTRICTED, certificate)
    writer, _, _, reader = network.peers
    network.link_all()
    network.run(1)
    said = _listened(network, lambda sender, receiver: reader in (sender, receiver))
    for _ in range(40):
        writer.replica.append(_A, "line\n")
        network.run(0.25)
    begun = sum(isinstance(m, Compare) and m.phext == PHEXT and m.step == 0 for m in said)
    for _ in range(4):
        reader.core.lacking(PHEXT)  # to be asked makes it compare
        network.run(0.5)
    network.assert_equal()
    assert reader.core.lacking(PHEXT)[1] == []
    return begun


def test_a_node_that_writes_nothing_is_compared_no_more_often_than_others() -> None:
    assert _compared(_read_only(EVERYTHING)) <= _compared(UNRESTRICTED) + 2


def test_a_node_that_writes_nothing_does_not_take_for_sent_what_it_left_to_others() -> None:
    network = _limited(UNRESTRICTED, _read_only(EVERYTHING))
    writer, other, reader = network.peers
    network.link(0, 2)
    network.link(1, 2)
    network.run(1)
    writer.replica.append(_A, "not linked with the other\n")
    for _ in range(8):
        network.run(0.1)
        assert other.node_id not in reader.core.lacking(PHEXT)[0]
    (lack,) = reader.core.lacking(PHEXT)[1]
    assert "our certificate does not allow" in lack.reason


def test_a_read_only_liar_is_refused_with_a_reason_and_changes_nothing() -> None:
    network = Network(2)
    honest, liar = network.peers
    liar.restrict(_read_only(EVERYTHING), is_liar=True)
    honest.replica[_A] = "honest\n"
    network.link_all()
    network.run(1)
    liar.replica[_A] = "lie\n"
    liar.replica[_B] = "lie\n"
    network.run(65)
    assert dict(honest.replica.scrolls()) == {_A: "honest\n"}
    complete, (lack,) = liar.core.lacking(PHEXT)
    assert complete == []
    assert lack.reason == "it refused: your certificate does not allow writing there"
    assert any("your certificate" in line for line in honest.replicas.reports)


def test_a_difference_that_nobody_may_settle_costs_no_more_than_a_quiet_comparison() -> None:
    # The reader has what its writer never sent to the second node, and may not pass it on.
    network = _limited(_read_only(EVERYTHING), UNRESTRICTED, UNRESTRICTED)
    writer, reader, other, fourth = network.peers
    link = network.link(0, 1)
    writer.replica[_A] = "one\n"
    network.run(1)
    network.cut(link)
    other.replica[_A] = "two\n"
    fourth.replica[_A] = "three\n"
    network.run(0.1)
    between = network.link(1, 2)
    network.run(40)
    assert sorted(reader.replica[_A].splitlines()) == ["one", "two"]
    assert other.replica[_A] == "two\n"
    said = _listened(network, lambda *_: True)
    network.run(120)
    assert sum(isinstance(message, Want) for message in said) <= 1
    compares = [message for message in said if isinstance(message, Compare)]
    assert len(compares) <= 16
    assert sum(message.form == comparison.AUDIT for message in compares) <= 2
    complete, (lack,) = reader.core.lacking(PHEXT)
    assert complete == []
    assert "our certificate does not allow" in lack.reason
    said.clear()
    differs = Summary(PhextSummary(PHEXT, (EVERYTHING,), 1, 0, bytes(16)))
    for _ in range(3):  # nobody suspects a forger where a certificate explains the difference
        reader.core.receive(network.now, between, encode(differs))
        network.run(0.2)
    forms = [message.form for message in said if isinstance(message, Compare)]
    assert comparison.AUDIT not in forms[1:]
    network.link(2, 3)  # a comparison changes it there: the reader gets that too
    network.run(35)
    assert sorted(reader.replica[_A].splitlines()) == ["one", "three", "two"]
    network.link(0, 2)
    network.run(35)
    network.assert_equal()
    assert reader.core.lacking(PHEXT)[1] == []


@pytest.mark.parametrize(
    "held", [[], [_C], [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 2 * i + 1) for i in range(80)]]
)
def test_a_read_only_node_never_sends_what_it_has_alone(held: list[Coordinate]) -> None:
    network = _limited(UNRESTRICTED, _read_only(EVERYTHING))
    writer, other, reader = network.peers
    link = network.link(0, 2)
    network.run(0.1)
    writer.replica[_B] = "among others"
    writer.replica[_D] = "far away"
    network.run(1)
    network.cut(link)
    for place in held:
        other.replica[place] = "the other's"
    network.run(0.1)
    said = _listened(network, lambda sender, _: sender is reader)
    network.link(1, 2)
    network.run(1)
    assert len(reader.replica) == len(held) + 2
    assert len(other.replica) == len(held)
    assert not any(isinstance(message, Updates) for message in said)
    _, (lack,) = reader.core.lacking(PHEXT)
    assert "our certificate does not allow" in lack.reason


def test_not_even_the_time_of_a_change_is_told_to_whom_may_not_see_it() -> None:
    network = _limited(_read_only(_REST), UNRESTRICTED, UNRESTRICTED)
    writer, reader, other, _ = network.peers
    writer.replica[_B] = "shown"
    network.link(0, 1)
    network.link(0, 3)
    network.run(2)
    other.replica[_A] = "brought by a comparison"
    network.run(0.1)
    heard = _listened(network, lambda _, receiver: receiver is reader)
    network.link(0, 2)
    network.run(0.5)
    writer.replica[_A] = "live"
    network.run(0.4)
    assert writer.replica[_A] == other.replica[_A] == "live"
    assert all(isinstance(message, Ping | Pong) for message in heard)


def test_presence_is_told_only_to_whom_may_read_everything() -> None:
    network = _limited(_read_only(EVERYTHING), UNRESTRICTED)
    for number, peer in enumerate(network.peers):
        peer.core.presence.publish({"edits": str(_A), "number": number})
    network.link_all()
    network.run(6)
    told = [
        {notice.facts["number"] for notice in peer.core.presence.peers()} for peer in network.peers
    ]
    assert told == [{1, 2}, set(), {0, 1}]


def test_a_conflict_is_not_settled_by_whom_may_not_write() -> None:
    network = _limited(_read_only(EVERYTHING))
    honest, reader = network.peers
    honest.replica[_B] = "text"
    link = network.link(0, 1)
    network.run(1)
    honest.core.receive(network.now, link, encode(Conflict(PHEXT, _B, bytes(16))))
    assert honest.core.next_frame(network.now, link) is None
    reader.core.receive(network.now, link, encode(Conflict(PHEXT, _B, bytes(16))))
    network.run(1)
    assert reader.replica[_B] == "text"


def test_a_copy_that_is_taken_over_is_not_added_to_by_whom_may_not_write() -> None:
    state = import_update(_A.key, "theirs")
    (peer,) = Network(1).peers
    peer.replica.import_text(_A, "ours")
    peer.replicas.permissions = _read_only(EVERYTHING)
    peer.replica.adopt(_A, state)
    assert peer.replica[_A] == "theirs"


def test_an_interest_never_exceeds_what_the_own_certificate_allows_to_read() -> None:
    (peer,) = Network(1).peers
    peer.restrict(_read_only(_REST))
    peer.replica  # noqa: B018  a phext that is open is announced
    core = Synchronizer(
        peer.replicas,
        name="node",
        incarnation=bytes(16),
        random=Random(0),
        interests={PHEXT: [CoordinateRange(_A, _C)], _NOTES: [EVERYTHING]},
    )
    core.link_opened(0, 1, b"p" * 16, dialled=True)
    frame = core.next_frame(0, 1)
    assert frame is not None
    hello = decode(frame, core.limits)
    assert isinstance(hello, Hello)
    assert [(s.name, s.interest) for s in hello.phexts] == [(PHEXT, (CoordinateRange(_B, _C),))]
    theirs = replace(hello, node_id=b"p" * 16, phexts=())
    entries = tuple(Entry(c, import_update(c.key, "text")) for c in (_A, _B))
    for message in (theirs, Updates(PHEXT, entries)):
        core.receive(0, 1, encode(message))
    assert dict(peer.replica.scrolls()) == {_B: "text"}


def test_a_node_with_half_a_range_is_heard_in_that_half_and_its_words_are_relayed() -> None:
    network = _limited(
        Permissions.of({PHEXT: [EVERYTHING]}, {PHEXT: [_REST]}), _read_only(EVERYTHING)
    )
    middle, half, reader = network.peers
    network.link(0, 1)
    network.link(0, 2)
    network.run(0.1)
    half.replica[_B] = "half\n"
    middle.replica[_A] = "whole\n"
    network.run(1)
    for peer in (middle, half, reader):
        assert dict(peer.replica.scrolls()) == {_A: "whole\n", _B: "half\n"}


_ASKS: list[Message] = [
    Want(PHEXT, ((_A, EMPTY_VERSION, b""),)),
    Want(PHEXT, ((_A, b"\1\1\1\0", b"x" * 8),)),
    Want(PHEXT, ((_A, update_version(_HIDDEN), b"x" * 8),)),
    Want("secret", ((_A, EMPTY_VERSION, b""),)),
    Conflict(PHEXT, _A, bytes(16)),
    Conflict(PHEXT, _A, b"\xff" * 16),
    Compare(PHEXT, 99, 0, comparison.RANGES, b"\1\0"),
    Compare(PHEXT, 99, 0, comparison.RANGES, b"\0" + bytes(8)),
    Compare(PHEXT, 99, 0, comparison.SKETCH, bytes(160 + 23 * 40)),
    Compare(PHEXT, 99, 0, comparison.AUDIT, bytes(16) + b"\1\0"),
    Compare("secret", 99, 0, comparison.RANGES, b"\1\0"),
    Compare("nothing", 99, 0, comparison.RANGES, b"\1\0"),
    Summary(PhextSummary(PHEXT, (EVERYTHING,), 0, 0, bytes(16))),
    Summary(PhextSummary("secret", (EVERYTHING,), 0, 0, bytes(16))),
    *(Fetch(1, PHEXT, _A, mode, bytes(16)) for mode in FetchMode),
    Fetch(1, "secret", _A, FetchMode.SUBSCRIBE, bytes(16)),
    *(
        Survey(1, PHEXT, range_, texts)
        for range_ in (EVERYTHING, _FIRST)
        for texts in (False, True)
    ),
    Survey(1, "secret", EVERYTHING, with_texts=True),
    *(
        Ask(1, PHEXT, range_, cbor2.dumps(words))
        for range_ in (EVERYTHING, _FIRST)
        for words in (
            ["search", "hidden", 10],
            ["count"],
            ["log", str(_A), None],
        )
    ),
    Ask(1, "secret", EVERYTHING, cbor2.dumps(["search", "hidden", 10])),
    Watch(1, PHEXT, (EVERYTHING,)),
    Watch(1, PHEXT, (_FIRST,)),
    Watch(1, "secret", (EVERYTHING,)),
    Leave(PHEXT, 1, (EVERYTHING,)),
    Leave("secret", 1, (EVERYTHING,)),
    Keep(PHEXT, 1, (EVERYTHING,)),
    Keep("secret", 1, (EVERYTHING,)),
    Have((bytes(8),)),
    Graft((bytes(8),)),
    Graft(()),
    Prune(),
    Presence(()),
    Neighbours((b"n" * 16,)),
    Regrouped((), (b"n" * 16,)),
    Updates(PHEXT, (Entry(_A, import_update(_A.key, "theirs")),)),
    Updates("secret", (Entry(_A, import_update(_A.key, "theirs")),)),
    Live(PHEXT, ((_A, import_update(_A.key, "theirs"), 0),)),
    Had(PHEXT, _A, ((b"n" * 16, bytes((1, 1, 9, 0))),)),
    Part(PHEXT, _A, 0, 2, b"piece"),
    Acknowledge(99, 99),
    Refused(PHEXT, _A, "why"),
    Ping(1),
    Pong(1),
    Fetched(1, Verdict.GIVEN, True, bytes(32), 0, 1, b"piece"),
    Surveyed(1, Verdict.GIVEN),
    Told(1, Verdict.GIVEN, 0, 1, b"piece"),
    Changed(1, Verdict.GIVEN, False, (_A,)),
    Goodbye("done"),
    Hello(
        1,
        6,
        bytes(16),
        "liar",
        bytes(16),
        (PhextSummary("secret", (EVERYTHING,), 0, 0, bytes(16)),),
    ),
]


def test_no_kind_of_message_is_left_out() -> None:
    assert {type(message) for message in _ASKS} == set(get_args(Message))


@pytest.mark.parametrize("message", _ASKS, ids=lambda message: f"{type(message).__name__}")
def test_whoever_asks_for_what_it_may_not_read_learns_nothing(message: Message) -> None:
    answers = []
    for has_secrets in (False, True):
        network = Network(2, listener=Listener(on_asked=lambda _, asked: not asked.number))
        honest, liar = network.peers
        liar.node_id = bytes(16)  # the smaller one begins comparisons
        liar.restrict(_read_only(_REST), is_liar=True)
        honest.replica[_B] = "shown"
        if has_secrets:
            honest.replica.import_text(_A, "hidden")
            honest.replicas.open("secret")[_A] = "hidden"
        network.run(0.1)
        link = network.link(0, 1)
        network.run(0.1)
        honest.core.receive(network.now, link, encode(message))
        frames = _frames_of(honest, network.now, link)
        if has_secrets:
            honest.replica.append(_A, " hidden later")
            honest.replicas.open("secret").append(_B, "hidden later")
        honest.commit()
        for now in (network.now + 0.2, network.now + 0.4):
            honest.core.tick(now)
            frames += _frames_of(honest, now, link)
        assert not any(b"hidden" in frame for frame in frames)
        answers.append([decode(f, honest.core.limits) for f in frames])
    for seen in answers:
        for said in seen:
            _check_shown(said, _read_only(_REST))
    assert [type(said) for said in answers[0]] == [type(said) for said in answers[1]]
    assert [m for m in answers[0] if isinstance(m, Goodbye)] == [
        m for m in answers[1] if isinstance(m, Goodbye)
    ]


def _frames_of(peer: Peer, now: float, link: int) -> list[bytes]:
    """Return what a peer has to say on a link."""
    return list(iter(lambda: peer.core.next_frame(now, link), None))


# -- any nodes -----------------------------------------------------------------------------


@dataclass
class _Case:
    """Certificates, who lies, and what is done: edits, links, cuts."""

    certificates: list[Permissions]
    liar: int | None
    steps: list[tuple[str, int, Coordinate, str]] = field(default_factory=list)


_PHEXTS = (PHEXT, _NOTES)
_few_ranges = st.lists(ranges(near_coordinates), max_size=2)


@st.composite
def _certificates(draw: st.DrawFn) -> Permissions:
    if draw(st.integers(0, 3)) == 0:
        return UNRESTRICTED
    names = draw(st.lists(st.sampled_from([*_PHEXTS, EVERY_PHEXT]), min_size=1, unique=True))
    return Permissions.of(
        {name: draw(_few_ranges) for name in names}, {name: draw(_few_ranges) for name in names}
    )


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    certificates = draw(st.lists(_certificates(), min_size=3, max_size=3))
    liar = draw(st.none() | st.integers(0, 2))
    step = st.tuples(
        st.sampled_from(["edit", "edit", "edit", "link", "cut", "run"]),
        st.integers(0, 2),
        near_coordinates,
        st.sampled_from(_PHEXTS),
    )
    return _Case(certificates, liar, draw(st.lists(step, max_size=25)))


def _decoded(sender: Peer, frame: bytes) -> Message | Unknown:
    return decode(frame, sender.core.limits)


def _ranges_of(message: Compare) -> Sequence[CoordinateRange]:
    """Return the ranges of which a turn of a comparison speaks."""
    match message.form:
        case comparison.RANGES:
            return [range_ for range_, _, _ in reconcile.read_parts(message.body)]
        case comparison.AUDIT:
            return [range_ for range_, _, _ in reconcile.read_parts(message.body[16:])]
        case _:
            return [EVERYTHING]


def _check_shown(message: Message | Unknown, permissions: Permissions) -> None:
    """Check that a message tells nothing to a peer that may not read it."""
    match message:
        case Hello() | Summary():
            for summary in _summaries(message):
                _check_summary(summary, permissions.readable(summary.name))
        case Compare(phext):
            assert all(holds(permissions.readable(phext), r) for r in _ranges_of(message))
            assert permissions.readable(phext)
        case Want(phext, scrolls):
            assert all(contains(permissions.readable(phext), scroll[0]) for scroll in scrolls)
        case Updates(phext, entries):
            assert all(contains(permissions.readable(phext), e.coordinate) for e in entries)
        case Live(phext, entries):
            assert all(contains(permissions.readable(phext), place) for place, _, _ in entries)
        case Part(phext, coordinate) | Conflict(phext, coordinate) | Had(phext, coordinate):
            assert contains(permissions.readable(phext), coordinate)
        case Leave(phext, _, ranges) | Keep(phext, _, ranges) | Watch(_, phext, ranges):
            assert all(holds(permissions.readable(phext), range_) for range_ in ranges)
        case Presence():
            assert permissions.reads_everything
        case Fetched(verdict=verdict) | Surveyed(verdict=verdict) | Told(verdict=verdict):
            assert verdict is Verdict.NOT_ALLOWED  # nobody asks for what it may read
        case Changed(coordinates=coordinates):
            assert all(contains(permissions.readable(PHEXT), place) for place in coordinates)


def _check_allowed(message: Message | Unknown, permissions: Permissions) -> None:
    """Check that a node with these permissions sends nothing that would be refused."""
    match message:
        case Updates(phext, entries):
            assert all(contains(permissions.writable(phext), e.coordinate) for e in entries)
        case Part(phext, coordinate):
            assert contains(permissions.writable(phext), coordinate)


def _check_summary(summary: PhextSummary, readable: Ranges) -> None:
    assert readable
    assert all(holds(readable, range_) for range_ in summary.interest)
    assert summary.text_bytes == 0 or readable == (EVERYTHING,)


def _check_counted(sender: Peer, message: Message | Unknown) -> None:
    """Check that a summary counts what is within its interest and nothing else."""
    for summary in _summaries(message):
        index = sender.replicas.open(summary.name).index
        assert reconcile.scope_digest(index, summary.interest) == (summary.count, summary.digest)


class _Run:
    """One case carried out; every frame is read by a listener."""

    def __init__(self, case: _Case) -> None:
        self.case = case
        self.network = Network(len(case.certificates))
        for number, (peer, certificate) in enumerate(
            zip(self.network.peers, case.certificates, strict=True)
        ):
            peer.restrict(certificate, is_liar=number == case.liar)
        self.network.on_frame = self._listen
        self.tokens: list[tuple[str, int, Coordinate, str]] = []

    def _listen(self, sender: Peer, receiver: Peer, frame: bytes) -> None:
        message = _decoded(sender, frame)
        if not self._is_liar(sender):
            _check_shown(message, receiver.certificate)
            _check_allowed(message, sender.certificate)
            _check_counted(sender, message)

    def _is_liar(self, peer: Peer) -> bool:
        return self.case.liar is not None and peer is self.network.peers[self.case.liar]

    def carry_out(self) -> None:
        for number, (verb, who, place, phext) in enumerate(self.case.steps):
            if verb == "edit":
                self._append(who, place, phext, f"{who}/{number}\n")
            elif verb == "link":
                pair = {who, (who + 1) % 3}
                if pair not in map(set, self.network.links.values()):
                    self.network.link(*sorted(pair))
            elif verb == "cut":
                for link in [n for n, ends in self.network.links.items() if who in ends]:
                    self.network.cut(link)
            elif verb == "run":
                self.network.run(0.3)
        self.network.link_all()
        self.network.run(2)

    def _append(self, who: int, place: Coordinate, phext: str, token: str) -> None:
        peer = self.network.peers[who]
        replica = peer.replicas.open(phext)
        if contains(peer.permissions.writable(phext), place):
            replica.append(place, token)
            self.tokens.append((phext, who, place, token))
            return
        before = replica.get(place)
        with pytest.raises(PermissionDeniedError):
            replica.append(place, token)
        assert replica.get(place) == before

    def check_written(self) -> None:
        """Nobody has a line of whom may not write there; the liar counts as itself."""
        for phext, writer, place, token in self.tokens:
            allowed = self.case.certificates[writer].writable(phext)
            for number, peer in enumerate(self.network.peers):
                has = token in peer.replicas.open(phext).get(place, "").splitlines(True)
                readable = peer.certificate.readable(phext)
                if number == writer:
                    assert has
                elif not contains(allowed, place) or not contains(readable, place):
                    assert not has
                elif self.case.liar is None:
                    assert has


@settings(deadline=None, max_examples=120)
@given(_cases())
def test_no_frame_tells_and_no_update_changes_what_a_certificate_does_not_allow(
    case: _Case,
) -> None:
    run = _Run(case)
    run.carry_out()
    run.check_written()
