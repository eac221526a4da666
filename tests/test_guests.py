"""What others hold is read and written here too: as guests, which count for nobody as copies."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from phextsync.errors import NotHeldError, ProtocolError, StoreDamagedError, TextError
from phextsync.index import EMPTY_VERSION, EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.changes import Change
from phextsync.store.contract import StoredScroll
from phextsync.sync.codec import decode, encode
from phextsync.sync.hosting import rows_of
from phextsync.sync.limits import Limits
from phextsync.sync.listener import Listener
from phextsync.sync.messages import (
    Ask,
    Changed,
    Fetch,
    Fetched,
    FetchMode,
    Summary,
    Survey,
    Surveyed,
    SurveyedScroll,
    Told,
    Unknown,
    Verdict,
    Watch,
)
from phextsync.trust.permissions import Permissions
from sims.network import PHEXT, Network, Peer

_ONE = CoordinateRange.parse("1.*")
_TWO = CoordinateRange.parse("2.*")
_A = Coordinate(1, *[1] * 8)
_B = Coordinate(2, *[1] * 8)
_C = Coordinate(2, *[2] * 8)
_D = Coordinate(2, *[3] * 8)
_E = Coordinate(2, *[4] * 8)


def _network(holders: int = 1, *, limits: Limits | None = None) -> Network:
    """Return holders of everything, and last a node that holds 1.* alone, all linked."""
    network = Network(holders + 1, limits=limits)
    network.peers[0].replica[_A] = "one"
    network.peers[0].replica[_B] = "two"
    network.peers[-1].replicas.hold(PHEXT, [_ONE])
    network.link_all()
    network.run(1)
    return network


def test_a_text_that_peers_would_not_put_together_is_refused_where_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _network(2, limits=Limits(frame_bytes_max=4096, scroll_bytes_max=1 << 16))
    monkeypatch.setattr("phextsync.texts.TEXT_BYTES_MAX", 1 << 15)
    writer, reader = network.peers[0].replica, network.peers[1].replica
    with pytest.raises(TextError, match="expected a text of at most 32768 bytes, found 70000"):
        writer[_C] = "x" * 70_000  # none would come, and nobody would be told
    writer[_C] = "x" * (1 << 15)
    network.run(2)
    assert (reader[_C], len(reader)) == (writer[_C], len(writer))


def _fetch(network: Network, place: Coordinate = _B, peer: int = -1) -> list[bool]:
    """Let a peer fetch a scroll; return what it is told, later too."""
    told: list[bool] = []
    network.peers[peer].core.fetching.fetch(network.now, PHEXT, place, told.append)
    while network.step():
        pass
    return told


def _is_unsent(peer: Peer, place: Coordinate = _B) -> bool:
    return (PHEXT, place) in peer.replicas.guests.unsent


def test_a_scroll_that_others_hold_is_read_when_it_was_fetched() -> None:
    network = _network()
    reader = network.peers[1]
    with pytest.raises(NotHeldError):
        reader.replica[_B]
    assert _fetch(network) == [True]
    assert reader.replica[_B] == "two"
    assert reader.replicas.guests.is_fresh((PHEXT, _B))


def test_a_guest_is_in_no_listing_summary_or_comparison() -> None:
    network = _network()
    reader = network.peers[1]
    before = reader.core.links[1].announcements.summary(PHEXT)
    _fetch(network)
    network.run(1)
    assert list(reader.replica) == [_A]
    assert len(reader.replica) == 1
    assert reader.replica.near(_B, 1) == [(1, _A)]
    assert reader.core.links[1].announcements.summary(PHEXT) == before
    assert _B in reader.replica.index


def test_a_guest_hears_of_changes_of_whoever_makes_them_at_once() -> None:
    network = _network(2)
    _fetch(network)
    for writer in network.peers[:2]:
        writer.replica.append(_B, "!")
        while network.step():
            pass
    assert network.peers[-1].replica[_B] == "two!!"


def test_an_edit_of_a_guest_reaches_holders_and_is_sent_when_one_has_it_on_its_disk() -> None:
    network = _network(2)
    reader = network.peers[-1]
    _fetch(network)
    reader.replica.append(_B, "!")
    assert _is_unsent(reader)
    while network.step():
        pass
    assert network.peers[0].replica[_B] == network.peers[1].replica[_B] == "two!"
    assert _is_unsent(reader), "no disk has it yet"
    network.run(1)
    assert not _is_unsent(reader)
    assert network.peers[0].durable_texts()[_B] == "two!"


def test_an_edit_on_its_way_to_the_host_is_no_reason_to_ask_it_again() -> None:
    network = _network()
    reader = network.peers[1]
    _fetch(network)
    asked: list[object] = []

    def see(_sender: Peer, _receiver: Peer, frame: bytes) -> None:
        message = decode(frame, Limits())
        if isinstance(message, Fetch):
            asked.append(message)

    network.on_frame = see
    reader.replica.append(_B, "!")
    while network.step():
        pass
    reader.commit()
    while network.step():
        pass
    assert _is_unsent(reader)
    assert asked == []


def test_an_edit_made_while_nobody_is_linked_survives_a_restart_and_is_sent_later() -> None:
    network = _network()
    reader = network.peers[1]
    _fetch(network)
    network.cut(1)
    reader.replica.append(_B, " offline")
    network.run(1)
    network.crash(1)
    assert _is_unsent(reader)
    assert reader.replica[_B] == "two offline"
    network.link(0, 1)
    network.run(1)
    assert network.peers[0].replica[_B] == "two offline"
    assert not _is_unsent(reader)


def test_a_scroll_can_be_written_without_what_is_there() -> None:
    network = _network()
    reader = network.peers[1]
    network.cut(1)
    reader.replicas.guests.admit((PHEXT, _B))
    reader.replica.append(_B, "blind")
    network.run(1)
    network.crash(1)
    network.link(1, 0)
    network.run(1)
    text = network.peers[0].replica[_B]
    assert sorted(text) == sorted("twoblind")
    assert reader.replica[_B] == text
    assert not _is_unsent(reader)


def test_a_guest_is_stale_when_the_link_that_told_of_it_ends() -> None:
    network = _network(2)
    reader = network.peers[-1]
    _fetch(network)
    network.run(1)
    reader.replica.close_documents()
    assert reader.replica.glance(_B) == "two"
    host = reader.replicas.guests.host((PHEXT, _B))
    assert host is not None
    network.cut(host)
    assert reader.replica.glance(_B) is None
    assert reader.replicas.guests.is_stale((PHEXT, _B))
    assert not reader.replica.is_open(_B), "whoever reads it has to ask"
    assert _fetch(network) == [True]
    assert reader.replicas.guests.is_fresh((PHEXT, _B))


def test_a_silent_holder_is_followed_by_the_next_within_50_ms() -> None:
    network = _network(2)
    reader = network.peers[-1]
    silent = min(number for number, ends in network.links.items() if 2 in ends)
    told: list[bool] = []
    reader.core.fetching.fetch(network.now, PHEXT, _B, told.append)
    asked = reader.core.next_frame(network.now, silent)
    assert asked is not None
    assert not told
    network.now += 0.05
    due = reader.core.tick(network.now)
    assert due >= network.now
    while network.step():
        pass
    assert told == [True]
    network.peers[0].core.receive(network.now, silent, asked)
    while network.step():
        pass
    late = network.peers[0].core.links[silent].rights
    assert not late.subscribed, "of two holders one is to tell"
    assert reader.replicas.guests.is_fresh((PHEXT, _B))


def test_a_holder_whose_scroll_is_damaged_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _network(2)
    damaged, _, reader = network.peers
    number = next(link for link, ends in network.links.items() if {*ends} == {0, 2})
    reader.core.links[number].heartbeat.round_trip_s = 0.0  # the nearest
    damaged.replica.close_documents()

    def read(phext: str, key: bytes) -> StoredScroll | None:
        raise StoreDamagedError("its bytes do not have their checksum")

    with monkeypatch.context() as patched:
        patched.setattr(damaged.store, "read", read)
        assert _fetch(network) == [True]
    assert reader.replica[_B] == "two"
    assert any("set aside" in report for report in damaged.replicas.reports)
    assert len(reader.core.links) == 2


def _asked_twice(network: Network) -> tuple[int, list[bytes | None], list[bool]]:
    """Let the last peer ask the first, which is silent, another, which answers and is gone, and the
    first again; return their link, both questions, and what the asker is told."""
    reader = network.peers[-1]
    slow, fast = (
        next(link for link, ends in network.links.items() if {*ends} == {number, 2})
        for number in (0, 1)
    )
    reader.core.links[slow].heartbeat.round_trip_s = 0.0  # it is asked first
    told: list[bool] = []
    reader.core.fetching.fetch(network.now, PHEXT, _B, told.append)
    asked = [reader.core.next_frame(network.now, slow)]
    network.now += 0.05
    reader.core.tick(network.now)
    while network.step():
        pass
    assert told == [True]
    network.cut(fast)
    reader.core.fetching.fetch(network.now, PHEXT, _B, told.append)
    asked.append(reader.core.next_frame(network.now, slow))
    return slow, asked, told


def test_a_holder_that_answers_late_and_is_asked_again_tells_of_changes_all_the_same() -> None:
    network = _network(2)
    late, _, reader = network.peers
    slow, asked, told = _asked_twice(network)
    for frame in asked:
        assert frame is not None
        late.core.receive(network.now, slow, frame)
    answers = [late.core.next_frame(network.now, slow) for _ in asked]
    for frame in answers:
        assert frame is not None
        reader.core.receive(network.now, slow, frame)
    while network.step():
        pass
    assert told == [True, True]
    late.replica.append(_B, "!")
    while network.step():
        pass
    assert reader.replicas.guests.is_fresh((PHEXT, _B))
    assert reader.replica[_B] == "two!"


def test_a_holder_that_says_no_when_it_is_asked_again_tells_of_no_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _network(2)
    late, _, reader = network.peers
    slow, asked, told = _asked_twice(network)

    def damaged(at: Coordinate) -> bytes:
        raise StoreDamagedError("its bytes do not have their checksum")

    for frame in asked:
        assert frame is not None
        late.core.receive(network.now, slow, frame)
        answer = late.core.next_frame(network.now, slow)
        assert answer is not None
        assert bool(late.core.links[slow].rights.subscribed) is (frame is asked[0])
        reader.core.receive(network.now, slow, answer)
        monkeypatch.setattr(late.replica, "fingerprint", damaged)
    assert told == [True, False]
    assert reader.replicas.guests.is_stale((PHEXT, _B))


def test_a_scroll_that_is_about_to_leave_is_fetched_when_it_has_left() -> None:
    network = Network(2)
    network.peers[0].replica[_B] = "two"
    network.link_all()
    network.run(1)
    reader = network.peers[1]
    holding = reader.replicas.holding
    reader.replicas.hold(PHEXT, [_ONE])
    told: list[bool] = []
    for _ in range(99):
        if holding.is_leaving(PHEXT, _B):
            break
        if not network.step():
            network.peers[0].commit()
            network.now += 0.1
            reader.core.tick(network.now)
    reader.core.fetching.fetch(network.now, PHEXT, _B, told.append)
    while network.step():
        pass
    assert holding.is_leaving(PHEXT, _B)
    assert told == []
    network.run(1)
    assert told == [True]
    assert holding.guests.is_fresh((PHEXT, _B))


def test_where_nobody_holds_a_scroll_that_is_said_at_once() -> None:
    network = Network(2)
    for peer in network.peers:
        peer.replicas.hold(PHEXT, [_ONE])
    network.link_all()
    network.run(1)
    assert _fetch(network) == [False]


def test_the_holder_says_no_where_the_certificate_does_not_let_the_asker_read() -> None:
    network = Network(2)
    network.peers[1].restrict(
        Permissions(read={PHEXT: (_ONE,)}, write={PHEXT: (_ONE,)}), is_liar=True
    )
    network.peers[0].replica[_B] = "secret"
    network.link_all()
    network.run(1)
    verdicts: list[int] = []

    def see(sender: Peer, _receiver: Peer, frame: bytes) -> None:
        message = decode(frame, Limits())
        if isinstance(message, Fetched):
            verdicts.append(message.verdict)

    network.on_frame = see
    network.peers[1].core.links[1].rights.told[PHEXT] = (CoordinateRange(),)
    assert _fetch(network) == [False]
    assert verdicts == [3]
    assert (PHEXT, _B) not in network.peers[1].replicas.guests


# -- hostile and broken answers ------------------------------------------------------------


def _forged(network: Network, forge: Callable[[Fetched], list[Fetched]]) -> None:
    """Let the reader fetch, and get other answers than the holder gave."""
    reader, holder = network.peers[1], network.peers[0]
    reader.core.fetching.fetch(network.now, PHEXT, _B, lambda _: None)
    while (frame := reader.core.next_frame(network.now, 1)) is not None:
        holder.core.receive(network.now, 1, frame)
    while (frame := holder.core.next_frame(network.now, 1)) is not None:
        message = decode(frame, Limits())
        answers = forge(message) if isinstance(message, Fetched) else [message]
        for answer in answers:
            assert not isinstance(answer, Unknown)
            reader.core.receive(network.now, 1, encode(answer))


def _other_text(fetched: Fetched) -> list[Fetched]:
    other = Network(1).peers[0]
    other.replica[_B] = "foreign"
    state = other.replica.difference(_B, EMPTY_VERSION)
    assert state is not None
    return [replace(fetched, piece=state)]


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (_other_text, "expected another text of 2.1.1/1.1.1/1.1.1 by its fingerprint"),
        (lambda f: [replace(f, fingerprint=bytes(32))], "expected another text"),
        (lambda f: [replace(f, piece=f.piece[:-1])], "update"),
        (lambda f: [replace(f, piece=b"")], "found nothing"),
        (lambda f: [replace(f, verdict=Verdict.SAME)], "expected another text"),
        (lambda f: [replace(f, number=7777)], "expected an answer to a question, found number"),
        (lambda f: [f, f], "expected an answer to a question, found number"),
        (lambda f: [replace(f, index=1, total=2)], "expected the next part of a scroll"),
    ],
)
def test_an_answer_that_is_not_what_it_says_ends_the_link_and_nothing_is_kept(
    forge: Callable[[Fetched], list[Fetched]], reason: str
) -> None:
    network = _network()
    reader = network.peers[1]
    _forged(network, forge)
    assert reason in str(reader.core.links[1].goodbye)
    network.cut(1)
    network.run(1)
    assert not reader.replicas.guests.is_fresh((PHEXT, _B))
    assert "foreign" not in reader.durable_texts().values()


def test_a_state_that_is_larger_than_a_frame_comes_in_pieces_and_one_too_large_is_not_shown() -> (
    None
):
    network = _network(limits=Limits(frame_bytes_max=4096, scroll_bytes_max=1 << 16))
    network.peers[0].replica[_C] = "x" * 30_000
    network.peers[0].replica[_D] = "x" * 100_000
    network.run(1)
    assert _fetch(network, _C) == [True]
    assert network.peers[1].replica[_C] == "x" * 30_000
    assert _fetch(network, _D) == [False]
    assert (PHEXT, _D) not in network.peers[1].replicas.guests
    (report,) = network.peers[0].replicas.reports
    assert report.startswith(f"{PHEXT} {_D} is not shown: with all that was done to it it has 1000")
    assert network.peers[0].core.links[1].goodbye is None


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_scroll_that_no_peer_puts_together_is_not_sent_and_is_told_and_others_come(
    is_linked: bool,
) -> None:
    network = Network(2, limits=Limits(frame_bytes_max=4096, scroll_bytes_max=1 << 16))
    if is_linked:
        network.link_all()
        network.run(1)
    writer, reader = network.peers
    for place in (_A, _B, _C, _D):
        writer.replica[place] = ("x" * 100_000) if place == _B else f"text of {place}"
    network.run(1)
    if not is_linked:
        network.link_all()
    network.run(60)
    assert dict(reader.replica) == {place: f"text of {place}" for place in (_A, _C, _D)}
    link = writer.core.links[1]
    assert link.goodbye is None
    (report,) = writer.replicas.reports
    assert report.startswith(f"{PHEXT} {_B} is not sent: with all that was done to it it has 1000")
    assert report.endswith("copy its text to another scroll and clear this one")
    lack = writer.core.lacks.of(link, PHEXT, EVERYTHING)
    assert lack is not None
    assert lack.scrolls == 1
    assert "peers take at most" in lack.reason
    compared = sum(peer.core.traffic(1).comparisons for peer in network.peers)
    network.run(90)
    again = sum(peer.core.traffic(1).comparisons for peer in network.peers) - compared
    assert again <= 6, "it is compared as rarely as what is the same"
    writer.replica[_E] = writer.replica[_B][:30_000]
    writer.replica.clear_scroll(_B)
    network.run(60)
    assert reader.replica[_E] == writer.replica[_E]
    assert writer.core.lacks.of(link, PHEXT, EVERYTHING) is None


def test_a_peer_that_asks_too_much_at_once_or_twice_under_a_number_is_left() -> None:
    for numbers in ([1, 1], list(range(300))):
        network = _network()
        holder = network.peers[0]
        for number in numbers:
            fetch = Fetch(number, PHEXT, _B, FetchMode.ONCE, b"")
            holder.core.receive(network.now, 1, encode(fetch))
        assert "questions at once" in str(holder.core.links[1].goodbye)


def test_a_peer_is_told_of_so_many_scrolls_and_told_when_it_is_not() -> None:
    network = _network(limits=Limits(subscriptions_max=1))
    network.peers[0].replica[_C] = "three"
    network.run(1)
    assert _fetch(network) == _fetch(network, _C) == [True]
    guests = network.peers[1].replicas.guests
    assert guests.is_fresh((PHEXT, _B))
    assert guests.is_stale((PHEXT, _C))
    assert len(network.peers[0].core.links[1].rights.subscribed) == 1


def test_scrolls_outside_of_a_range_or_in_disorder_end_the_link() -> None:
    row = SurveyedScroll(_A, 3, bytes(16), "one")
    for scrolls, rest in (((row,), None), ((), _TWO.lower), ((), _A)):
        network = _network()
        reader = network.peers[1]
        reader.core.elsewhere.surveying.survey(network.now, PHEXT, _TWO, lambda _: None)
        frame = reader.core.next_frame(network.now, 1)
        assert frame is not None
        survey = decode(frame, Limits())
        assert isinstance(survey, Survey)
        answer = Surveyed(survey.number, Verdict.GIVEN, rest, scrolls)
        reader.core.receive(network.now, 1, encode(answer))
        assert "expected" in str(reader.core.links[1].goodbye)


@pytest.mark.parametrize(
    ("text", "size", "version"), [("other", 5, EMPTY_VERSION), ("two", 5, b""), ("two", 3, b"x")]
)
def test_a_text_in_a_survey_that_is_not_what_its_digest_says_ends_the_link(
    text: str, size: int, version: bytes
) -> None:
    network = _network()
    holder, reader = network.peers
    told: list[Surveyed | None] = []
    survey = reader.core.elsewhere.surveying.survey
    survey(network.now, PHEXT, _TWO, told.append, with_texts=True)
    network.run(1)
    assert told[0] is not None
    (row,) = told[0].scrolls
    assert (row.text, row.version) == ("two", holder.replica.version(_B))
    survey(network.now, PHEXT, _TWO, told.append, with_texts=True)
    frame = reader.core.next_frame(network.now, 1)
    assert frame is not None
    asked = decode(frame, Limits())
    assert isinstance(asked, Survey)
    forged = row._replace(text=text, size=size, version=version or row.version)
    answer = Surveyed(asked.number, Verdict.GIVEN, None, (forged,))
    reader.core.receive(network.now, 1, encode(answer))
    assert "by its fingerprint" in str(reader.core.links[1].goodbye)


def test_texts_in_a_survey_count_with_their_versions() -> None:
    holder = Network(1).peers[0]
    for place in (_B, _C, _D):
        with holder.replica.batch():
            holder.replica[place] = "ab" * 500
            for at in range(500):
                holder.replica.delete(place, at, at + 1)
    size = len(holder.replica.version(_B))
    assert size > 2 * len(holder.replica[_B])
    for goal, count in ((size, 1), (size + 501, 2)):
        rows, rest = rows_of(holder.replica, _TWO, 9, bytes_goal=goal, text_bytes_max=size + 500)
        assert ([row.text for row in rows], rest is None) == (["b" * 500] * count, False)
    rows, _ = rows_of(holder.replica, _TWO, 9, bytes_goal=size, text_bytes_max=size + 499)
    assert [row.text for row in rows] == [None] * 3


def _ask(network: Network, read: Callable[[bytes], int]) -> list[int | None]:
    """Let the last peer ask for something to be worked out; return what it is told."""
    told: list[int | None] = []
    ask = network.peers[-1].core.elsewhere.working_out.ask
    ask(network.now, PHEXT, _TWO, b"words", read, told.append)
    return told


@pytest.mark.parametrize("answer", [b"", b"answer", bytes(3 << 20)])
def test_what_is_worked_out_comes_in_pieces(answer: bytes) -> None:
    network = Network(2)
    holder, reader = network.peers
    asked: list[tuple[int, Ask]] = []

    def note(link: int, ask: Ask) -> bool:
        asked.append((link, ask))
        return True

    holder.listener = Listener(on_asked=note)
    holder.start()
    reader.replicas.hold(PHEXT, [_ONE])
    network.link_all()
    network.run(1)
    read: list[bytes] = []

    def number(answer: bytes) -> int:
        read.append(answer)
        return len(read)

    told = _ask(network, number)
    network.run(1)
    ((link, ask),) = asked
    assert (ask.phext, ask.range, ask.words, told) == (PHEXT, _TWO, b"words", [])
    holder.core.elsewhere.tell(network.now, link, ask, answer)
    holder.core.elsewhere.tell(network.now, link, ask, b"once more")
    network.run(1)
    assert (read, told) == ([answer], [1])


def test_of_a_peer_one_answer_is_worked_out_at_a_time_and_waits_to_be_taken() -> None:
    asked: list[Ask] = []

    def note(_: int, ask: Ask) -> bool:
        asked.append(ask)
        return True

    network = Network(2)
    network.peers[0].listener = Listener(on_asked=note)
    network.peers[0].start()
    network.peers[1].replicas.hold(PHEXT, [_ONE])
    network.link_all()
    network.run(1)
    core = network.peers[0].core
    for number in range(3):
        core.receive(network.now, 1, encode(Ask(number, PHEXT, _TWO, b"words")))
    core.receive(network.now, 1, encode(Survey(3, PHEXT, _TWO)))
    frame = core.next_frame(network.now, 1)
    assert frame is not None
    assert isinstance(decode(frame, Limits()), Surveyed), "others do not wait"
    for number in range(3):
        assert core.next_frame(network.now, 1) is None
        assert [ask.number for ask in asked] == [*range(number + 1)]
        core.elsewhere.tell(network.now, 1, asked[number], b"answer")
        assert core.next_frame(network.now, 1) is not None


def test_where_nobody_works_it_out_that_is_said() -> None:
    network = _network()
    told = _ask(network, len)
    network.run(1)
    assert told == [None]


def test_an_answer_that_is_none_ends_the_link_and_the_next_holder_is_asked() -> None:
    def refuse(_: bytes) -> int:
        raise ProtocolError("expected an answer")

    network = _network()
    reader = network.peers[1]
    told = _ask(network, refuse)
    frame = reader.core.next_frame(network.now, 1)
    assert frame is not None
    asked = decode(frame, Limits())
    assert isinstance(asked, Ask)
    answer = Told(asked.number, Verdict.GIVEN, 0, 1, b"none")
    reader.core.receive(network.now, 1, encode(answer))
    assert reader.core.links[1].goodbye == "expected an answer"
    assert told == [None]


def _changes(network: Network, *, range_: CoordinateRange = _TWO) -> list[Change]:
    """Let the last peer watch; return what it hears."""
    heard: list[Change] = []
    network.peers[-1].core.elsewhere.watching.watch(PHEXT, range_, heard.append)
    network.run(1)
    return heard


def test_a_watched_range_is_told_of_by_another_holder_when_the_first_is_gone() -> None:
    network = _network(holders=2)
    heard = _changes(network)
    network.peers[1].replica[_B] = "first"
    network.run(1)
    writer = network.peers[0]
    assert heard == [Change(PHEXT, (_B,), writer.node_id, "node-1")], "as its holder tells"
    network.cut(next(link for link, ends in network.links.items() if {*ends} == {0, 2}))
    network.run(1)
    assert [change.missed for change in heard[1:]] in ([], [_TWO])
    network.peers[1].replica[_C] = "second"
    network.run(1)
    assert heard[-1].coordinates == (_C,)


def test_where_nobody_tells_of_a_watched_range_that_is_said_at_once() -> None:
    network = _network()
    network.cut(next(iter(network.links)))
    assert [change.missed for change in _changes(network)] == [_TWO]


def test_of_a_peer_that_would_not_tell_of_changes_nothing_is_kept_when_it_is_gone() -> None:
    network = _network()
    _changes(network)
    core = network.peers[1].core
    (number,) = core.links
    (watched,) = core.elsewhere.watching._watched.values()
    (watch,) = watched.parts
    core.receive(network.now, number, encode(Changed(watch, Verdict.NOT_HELD, False, ())))
    assert [*watched.refused] == [number]
    network.cut(next(iter(network.links)))
    network.run(1)
    assert not watched.refused


def test_a_peer_that_watches_too_much_or_twice_under_a_number_is_left() -> None:
    for numbers in (range(300), (1, 1)):
        network = _network()
        for number in numbers:
            frame = encode(Watch(number, PHEXT, (_TWO,)))
            network.peers[0].core.receive(network.now, 1, frame)
        assert "ranges to be watched" in str(network.peers[0].core.links[1].goodbye)


def test_what_a_peer_may_not_watch_is_bounded_too_and_forgotten_when_it_is_watched_no_longer() -> (
    None
):
    certificate = Permissions(read={PHEXT: (_ONE,)}, write={PHEXT: (_ONE,)})
    for is_ended in (True, False):
        network = _restricted(certificate)
        core = network.peers[0].core
        for number in range(300):
            core.receive(network.now, 1, encode(Watch(number, PHEXT, (_TWO,))))
            if is_ended:
                core.receive(network.now, 1, encode(Watch(number, PHEXT, ())))
        assert ("ranges to be watched" in str(core.links[1].goodbye)) is not is_ended


def _pushes(heard: list[list[Change]]) -> list[Callable[[Change], None]]:
    return [one.append for one in heard]


def test_no_more_is_watched_on_a_link_than_its_peer_would_tell_of() -> None:
    network = _network(limits=Limits(watches_max=2))
    watching = network.peers[1].core.elsewhere.watching
    heard: list[list[Change]] = [[], [], []]
    ranges = [_TWO, CoordinateRange.parse("2.1.*"), CoordinateRange.parse("2.2.*")]
    ends = [watching.watch(PHEXT, *each) for each in zip(ranges, _pushes(heard), strict=True)]
    network.run(1)
    assert [[change.missed for change in one] for one in heard] == [[], [], [ranges[2]]]
    assert watching.statistics() == (3, (ranges[2],))
    ends[0]()
    network.run(1)
    assert watching.statistics() == (2, ())
    assert [change.missed for change in heard[2]] == [ranges[2], ranges[2]]


def test_a_range_that_many_watch_is_told_of_once() -> None:
    network = _network(limits=Limits(watches_max=1))
    watching = network.peers[1].core.elsewhere.watching
    heard: list[list[Change]] = [[], [], []]
    ends = [watching.watch(PHEXT, _TWO, push) for push in _pushes(heard)]
    network.run(1)
    assert watching.statistics() == (1, ())
    for end in (ends[0], ends[0]):
        end()
    network.peers[0].replica[_B] = "changed"
    network.run(1)
    assert [[change.coordinates for change in one] for one in heard] == [[], [(_B,)], [(_B,)]]
    for end in ends[1:]:
        end()
    network.run(1)
    assert watching.statistics() == (0, ())
    network.peers[0].replica[_C] = "untold"
    network.run(1)
    assert [len(one) for one in heard] == [0, 1, 1]
    network.cut(1)
    for push in _pushes(heard):
        watching.watch(PHEXT, _TWO, push)
    assert [one[-1].missed for one in heard] == [_TWO] * 3


def test_a_peer_that_refuses_again_and_again_and_does_not_read_is_left() -> None:
    network = _network(limits=Limits(answers_max=8))
    reader = network.peers[1]
    _changes(network)
    summary = network.peers[0].core.links[1].announcements.summary(PHEXT)
    core = reader.core
    for number in range(1, 99):
        core.receive(network.now, 1, encode(Changed(number, Verdict.NOT_HELD)))
        core.receive(network.now, 1, encode(Summary(summary)))
    assert "expected a peer that reads" in str(core.links[1].goodbye)


def test_a_peer_that_tells_of_changes_and_does_not_show_them_has_few_asked_for() -> None:
    network = _network()
    reader = network.peers[1]
    heard = _changes(network)
    (number,) = reader.core.elsewhere.watching._numbers
    for place in (Coordinate(2, 1, 1, 1, 1, 1, 1, n, m) for n in range(1, 9) for m in range(1, 99)):
        for _ in range(2):
            told = Changed(number, Verdict.GIVEN, False, (place,))
            reader.core.receive(network.now, 1, encode(told))
    asked = reader.core.links[1].asked
    assert len(asked.waiting) == 256
    assert {change.missed for change in heard} == {_TWO}
    assert sum(map(len, reader.core.fetching._told.values())) == 256
    network.run(1)
    network.peers[0].replica[_C] = "more"
    network.run(1)
    assert heard[-1].coordinates == (_C,)


def test_changes_that_were_not_asked_for_end_the_link() -> None:
    network = _network()
    reader = network.peers[1]
    _changes(network)
    (number,) = reader.core.elsewhere.watching._numbers
    reader.core.receive(network.now, 1, encode(Changed(number, Verdict.GIVEN, False, (_A,))))
    assert "expected changes of what is watched" in str(reader.core.links[1].goodbye)


def test_a_holder_that_does_not_tell_is_not_asked_again_until_it_holds_something_else() -> None:
    network = _restricted(Permissions(read={PHEXT: (_ONE,)}, write={PHEXT: (_ONE,)}))
    assert [change.missed for change in _changes(network)][-1] == _TWO
    assert network.peers[1].core.elsewhere.watching.statistics() == (1, (_TWO,))


# -- rights --------------------------------------------------------------------------------


def _restricted(certificate: Permissions) -> Network:
    """Return a holder, and a reader of 1.* that has a certificate and says that it had none."""
    network = Network(2)
    network.peers[0].replica[_B] = "two"
    network.peers[1].restrict(certificate, is_liar=True)
    network.peers[1].replicas.hold(PHEXT, [_ONE])
    network.link_all()
    network.run(1)
    return network


def test_what_a_peer_may_not_write_it_may_read_and_its_edits_are_refused() -> None:
    everything = {PHEXT: (CoordinateRange(),)}
    network = _restricted(Permissions(read=everything, write={PHEXT: (_ONE,)}))
    holder, reader = network.peers
    assert _fetch(network) == [True]
    reader.replica.append(_B, " of mine")
    network.run(1)
    assert holder.replica[_B] == "two"
    assert _is_unsent(reader)


def test_a_holder_that_may_not_write_a_range_is_not_asked_for_it() -> None:
    network = Network(2)
    network.peers[0].replica[_B] = "two"
    network.run(1)
    everything = {PHEXT: (CoordinateRange(),)}
    network.peers[0].restrict(Permissions(read=everything, write={PHEXT: (_ONE,)}))
    network.peers[1].replicas.hold(PHEXT, [_ONE])
    network.link_all()
    network.run(1)
    assert _fetch(network) == [False]


# -- coming and going ----------------------------------------------------------------------


def test_guests_go_when_there_are_too_many_and_are_subscribed_to_no_longer() -> None:
    network = _network()
    holder, reader = network.peers
    for number in range(1, 9):
        holder.replica[Coordinate(2, 2, 2, 2, 2, 2, 2, 2, number)] = f"text {number}"
    network.run(1)
    reader.replicas.guests.count_max = 4
    for number in range(1, 9):
        assert _fetch(network, Coordinate(2, 2, 2, 2, 2, 2, 2, 2, number)) == [True]
        network.run(0.2)
    assert len(reader.replicas.guests) == 4
    assert len(reader.replica.index) == 5
    assert len(holder.core.links[1].rights.subscribed) == 4
    with pytest.raises(NotHeldError):
        reader.replica.get(Coordinate(2, 2, 2, 2, 2, 2, 2, 2, 1))
    assert reader.durable_texts().keys() < set(reader.replica.index.coordinates())


def test_nothing_unsent_goes_and_what_was_written_here_is_not_written_over_when_it_is_back() -> (
    None
):
    network = _network()
    holder, reader = network.peers
    holder.replica[_C] = holder.replica[_D] = "more"
    network.run(1)
    reader.replicas.guests.count_max = 1
    _fetch(network)
    network.cut(1)
    reader.replica.append(_B, " of mine")
    network.run(1)
    assert _is_unsent(reader)
    network.link(0, 1)
    network.run(1)
    assert not _is_unsent(reader)
    _fetch(network, _C)
    network.run(1)
    _fetch(network, _D)
    network.run(1)
    assert (PHEXT, _B) not in reader.replicas.guests
    reader.replicas.guests.admit((PHEXT, _B))
    reader.replica.append(_B, ", blind")
    network.run(1)
    assert sorted(holder.replica[_B]) == sorted("two of mine, blind")
    assert "two of mine" in holder.replica[_B]


def test_a_holder_that_is_behind_what_was_shown_is_passed_over() -> None:
    network = Network(3)
    ahead, _, reader = network.peers
    ahead.replica[_B] = "old"
    network.link(0, 1)
    network.run(1)
    network.cut(1)
    ahead.replica.append(_B, " and new")
    reader.replicas.hold(PHEXT, [_ONE])
    to_ahead = network.link(0, 2)
    network.run(1)
    assert _fetch(network) == [True]
    assert reader.replica[_B] == "old and new"
    reader.replicas.guests.count_max = 0
    _fetch(network, _C)
    network.run(1)
    assert len(reader.replicas.guests) == 0
    reader.replicas.guests.count_max = 9
    network.cut(to_ahead)
    network.link(1, 2)
    network.run(1)
    assert _fetch(network) == [False], "it would show less than before"
    network.run(1)
    assert (PHEXT, _B) not in reader.replicas.guests
    network.link(0, 2)
    network.run(1)
    assert _fetch(network) == [True]
    assert reader.replica[_B] == "old and new"


def test_an_answer_that_another_holder_does_not_confirm_is_not_kept_fresh() -> None:
    network = Network(3)
    behind, ahead, reader = network.peers
    behind.replica[_B] = "old"
    between = network.link(0, 1)
    network.run(1)
    network.cut(between)
    ahead.replica.append(_B, " and new")
    reader.replicas.hold(PHEXT, [_ONE])
    near, far = network.link(0, 2), network.link(1, 2)
    network.run(1)
    for link, seconds in ((near, 0.01), (far, 1.0)):
        reader.core.links[link].heartbeat.round_trip_s = seconds
    assert _fetch(network) == [True]
    network.run(1)
    guests = reader.replicas.guests
    assert reader.replica[_B] == "old and new", "what both have is shown"
    assert guests.is_stale((PHEXT, _B)), "and asked for again"
    assert not behind.core.links[near].rights.subscribed
    assert _fetch(network) == [True]
    network.run(1)
    assert guests.is_fresh((PHEXT, _B))
    assert behind.replica[_B] == "old and new", "a reader brings it to who is behind"


def test_an_answer_that_another_holder_confirms_costs_one_more_question() -> None:
    network = _network(3)
    asked: list[tuple[FetchMode, bytes]] = []

    def see(_sender: Peer, _receiver: Peer, frame: bytes) -> None:
        message = decode(frame, Limits())
        if isinstance(message, Fetch):
            asked.append((message.mode, message.digest))

    network.on_frame = see
    assert _fetch(network) == [True]
    network.run(1)
    fingerprint = network.peers[0].replica.fingerprint(_B)
    assert asked == [(FetchMode.SUBSCRIBE, b""), (FetchMode.ONCE, fingerprint[:16])]
    assert network.peers[-1].replicas.guests.is_fresh((PHEXT, _B))


def test_a_holder_that_confirms_with_a_forged_answer_leaves_no_subscription(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _network(3)
    reader = network.peers[-1]
    receive = reader.core.receive

    def forged(now: float, link: int, frame: bytes) -> None:
        message = decode(frame, Limits())
        if isinstance(message, Fetched) and message.verdict is Verdict.SAME:
            frame = encode(replace(message, verdict=Verdict.GIVEN, fingerprint=bytes(32), total=1))
        receive(now, link, frame)

    monkeypatch.setattr(reader.core, "receive", forged)
    assert _fetch(network) == [True]
    network.run(1)
    assert reader.replicas.guests.is_stale((PHEXT, _B))
    assert len(reader.core.links) == 2, "that of who forged it has ended"
    for peer in network.peers[:-1]:
        assert not any(link.rights.subscribed for link in peer.core.links.values())


def test_a_scroll_whose_versions_were_watched_when_it_was_held_may_be_a_guest() -> None:
    network = _network()
    holder, reader = network.peers
    reader.replicas.peer_versions.watch(PHEXT, _B)
    _fetch(network)
    for word in (" and", " three"):
        holder.replica.append(_B, word)
        while network.step():
            pass
    assert reader.replica[_B] == "two and three"
    assert holder.node_id in reader.replicas.peer_versions.known(PHEXT, _B)


def test_what_is_held_again_is_a_guest_no_longer() -> None:
    network = _network()
    reader = network.peers[1]
    _fetch(network)
    reader.replica.append(_B, "!")
    reader.replicas.hold(PHEXT)
    network.run(2)
    assert len(reader.replicas.guests) == 0
    assert network.assert_equal()[_B] == "two!"


def test_another_interest_of_a_side_makes_guests_stale_until_they_are_asked_for_again() -> None:
    for changes in (0, 1):
        network = _network()
        network.peers[changes].replicas.hold(PHEXT, [_ONE, _TWO] if changes == 0 else [])
        network.run(1)
        _fetch(network)
        guests = network.peers[1].replicas.guests
        assert guests.is_fresh((PHEXT, _B))
        network.peers[changes].replicas.hold(PHEXT, [_TWO] if changes == 0 else [_ONE])
        network.run(1)
        assert guests.is_stale((PHEXT, _B))
        assert _fetch(network) == [True]
        network.peers[0].replica.append(_B, "!")
        network.run(0.1)
        assert network.peers[1].replica[_B] == "two!"


def test_there_is_room_again_when_what_was_unsent_has_been_sent() -> None:
    network = _network()
    reader = network.peers[1]
    reader.replicas.guests.count_max = 2
    network.cut(1)
    for place in (_B, _C, _D):
        reader.replicas.guests.admit((PHEXT, place))
        reader.replica.append(place, "x")
    network.run(1)
    assert len(reader.replicas.guests) == 3
    network.link(0, 1)
    network.run(2)
    assert len(reader.replicas.guests) == 2


# -- what is told on which link ------------------------------------------------------------


def test_what_a_comparison_brings_to_the_host_its_guests_hear_too() -> None:
    network = Network(3)
    host, other, reader = network.peers
    reader.replicas.hold(PHEXT, [_ONE])
    host.replica[_B] = "two"
    network.link(0, 2)
    between = network.link(0, 1)
    network.run(1)
    network.cut(between)
    assert _fetch(network) == [True]
    other.replica.append(_B, " of another")
    network.run(1)
    network.link(0, 1)
    network.run(1)
    assert reader.replica[_B] == host.replica[_B] == "two of another"


def test_a_node_passes_on_nothing_that_others_write_to_its_guests() -> None:
    network = Network(3)
    network.peers[2].replicas.hold(PHEXT, [_ONE])
    network.peers[0].replica[_B] = "two"
    between = network.link(0, 1)
    network.link(0, 2)
    network.link(1, 2)
    network.run(1)
    assert _fetch(network) == [True]
    network.cut(between)
    network.peers[0].replica.append(_B, "!")
    network.run(1)
    assert network.peers[2].replica[_B] == "two!"
    assert network.peers[1].replica[_B] == "two"


def test_edits_that_a_holder_has_already_are_sent_when_it_has_them_on_its_disk() -> None:
    network = _network()
    holder, reader = network.peers
    _fetch(network)
    reader.replica.append(_B, "!")
    while network.step():
        pass
    network.cut(1)
    network.run(1)
    assert holder.durable_texts()[_B] == "two!"
    assert _is_unsent(reader), "the link ended before the holder said so"
    network.link(0, 1)
    network.run(1)
    assert not _is_unsent(reader)


def test_an_answer_that_crosses_another_interest_makes_no_guest_fresh() -> None:
    network = _network()
    reader = network.peers[1]
    told: list[bool] = []
    reader.core.fetching.fetch(network.now, PHEXT, _B, told.append)
    reader.replicas.hold(PHEXT, [_ONE, CoordinateRange.parse("3.*")])
    network.run(1)
    assert told == [True]
    assert reader.replicas.guests.is_stale((PHEXT, _B))


def test_an_answer_that_comes_when_its_scroll_is_held_makes_no_guest_of_it() -> None:
    network = _network()
    reader = network.peers[1]
    told: list[bool] = []
    heard: list[Change] = []
    reader.core.fetching.fetch(network.now, PHEXT, _B, told.append)
    reader.replicas.hold(PHEXT)
    reader.replica.subscribe(heard.append, _TWO)
    while network.step():
        pass
    assert told == [True]
    assert [change.coordinates for change in heard] == [(_B,)]
    assert len(reader.replicas.guests) == 0
    assert reader.replica[_B] == "two"


def test_a_holder_forgets_who_has_subscribed_when_either_side_holds_something_else() -> None:
    network = _network()
    holder, reader = network.peers
    _fetch(network)
    assert len(holder.core.links[1].rights.subscribed) == 1
    reader.replicas.hold(PHEXT, [_ONE, CoordinateRange.parse("3.*")])
    network.run(1)
    assert not holder.core.links[1].rights.subscribed
