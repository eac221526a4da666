"""What clients of Yjs have of scrolls and tell of themselves, without IO."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from phextsync import (
    Coordinate,
    MemoryStore,
    PhextsyncError,
    ProtocolError,
    Replica,
    StoreDamagedError,
    TextError,
)
from phextsync.gateways.told_cursors import fact_of
from phextsync.index import EVERYTHING
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Notice
from phextsync.sync.presence import PresenceBoard
from phextsync.testing.memory import MemoryMesh
from phextsync.trust.permissions import UNRESTRICTED, Permissions
from phextsync.varints import varints
from phextsync.web import open_scrolls as module
from phextsync.web.awareness import ELSEWHERE, STATE_BYTES_MAX, Awareness
from phextsync.web.elsewhere import Elsewhere
from phextsync.web.hocuspocus import Conversation
from phextsync.web.lib0 import Reader, sized, sized_text
from phextsync.web.open_scrolls import WAITING_BYTES_MAX, OpenScrolls, Participant
from phextsync.web.speaking import Speaker, closing

_A = Coordinate.parse("1.1.1/1.1.1/1.1.1")
_NOTHING = b"\0"
_NAME = f"memory/{_A}"
_READING = Permissions({"memory": (EVERYTHING,)}, {})


def _replicas(permissions: Permissions | None = None) -> ReplicaSet:
    return ReplicaSet(
        MemoryStore(),
        node_id=bytes(16),
        random=Random(1),
        wall_time_ms=lambda: 0,
        permissions=UNRESTRICTED if permissions is None else permissions,
    )


def _nothing() -> None:
    """Nobody waits."""


class _Client:
    """A document of a client, and its participant."""

    def __init__(self, opened: OpenScrolls, client_id: int) -> None:
        self.doc: Doc[Text] = Doc(client_id=client_id)
        self.text = self.doc.get("text", type=Text)
        self.participant = opened.enter("memory", _A, "web", _nothing)
        self.participant.ask(self.doc.get_state())
        answer = self.participant.next_answer()
        assert answer is not None
        self.doc.apply_update(answer)

    def write(self, text: str) -> None:
        """Append a text and send it."""
        before = self.doc.get_state()
        self.text += text
        self.participant.take(self.doc.get_update(before))

    def read(self) -> int:
        """Take all that there is to take; return how many updates that were."""
        count = 0
        while (update := self.participant.next_update()) is not None:
            self.doc.apply_update(update)
            count += 1
        return count


def test_a_client_hears_what_others_write_and_not_what_it_writes() -> None:
    replicas = _replicas()
    opened = OpenScrolls(replicas)
    replicas.phext("memory")[_A] = "a"
    one, two = _Client(opened, 1), _Client(opened, 2)
    one.write("b")
    assert one.read() == 0
    assert two.read() == 1
    replicas.phext("memory").append(_A, "c")
    assert (one.read(), two.read()) == (1, 1)
    assert str(one.text) == str(two.text) == replicas.phext("memory")[_A] == "abc"


def test_a_slow_reader_costs_a_bound_and_gets_one_difference() -> None:
    replicas = _replicas()
    opened = OpenScrolls(replicas)
    slow, quick = _Client(opened, 1), _Client(opened, 2)
    most = 0
    for number in range(3000):
        quick.write(f"{number} ")
        most = max(most, slow.participant.waiting_bytes)
    assert 0 < most <= WAITING_BYTES_MAX
    assert slow.participant.waiting_bytes == 0
    assert slow.read() == 1
    quick.write("!")
    assert slow.read() == 1
    assert str(slow.text) == str(quick.text) == replicas.phext("memory")[_A]


def test_updates_that_wait_are_sent_as_one() -> None:
    opened = OpenScrolls(_replicas())
    slow, quick = _Client(opened, 1), _Client(opened, 2)
    for letter in "abc":
        quick.write(letter)
    assert slow.read() == 1
    assert str(slow.text) == "abc"


def test_a_client_makes_no_text_too_large_and_may_tell_all_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("phextsync.texts.TEXT_BYTES_MAX", 40)
    replicas = _replicas()
    opened = OpenScrolls(replicas)
    client = _Client(opened, 1)
    client.write(10 * "日")
    client.participant.take(client.doc.get_update())  # all of it again
    for number, text in enumerate(("x" * 11, "y" * 41), 2):
        with pytest.raises(TextError, match=r"at most 40 bytes, found .*; part it over several"):
            _Client(opened, number).write(text)
    assert replicas.phext("memory")[_A] == 10 * "日"


def test_what_builds_on_text_that_is_not_here_is_asked_for() -> None:
    opened = OpenScrolls(_replicas())
    client = _Client(opened, 1)
    speaker = Speaker(client.participant)
    assert speaker.next_message() is not None  # it asks once at the beginning
    client.text += "first"
    between = client.doc.get_state()
    client.text += " second"
    update = varints(2) + sized(client.doc.get_update(between))
    assert speaker.receive(0, Reader(update))
    assert speaker.next_message() == varints(0, 0) + sized(_NOTHING)


def test_a_thousand_sessions_that_wrote_cost_seven_bytes_each_and_readers_nothing() -> None:
    opened = OpenScrolls(_replicas())
    random = Random(1)
    opened.enter("memory", _A, "web", _nothing)  # who stays
    scroll = opened.scroll("memory", _A)
    assert scroll is not None
    for _ in range(1000):  # of which each draws its number as Yjs does
        client = _Client(opened, random.getrandbits(32))
        client.write("x")
        opened.leave("memory", _A, client.participant)
    size = len(scroll.replica.version(_A))
    assert size < 7500
    for _ in range(50):
        client = _Client(opened, random.getrandbits(32))
        opened.leave("memory", _A, client.participant)
    assert len(scroll.replica.version(_A)) == size


def test_a_scroll_that_too_many_sessions_wrote_in_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "VERSION_BYTES_MAX", 100)
    opened = OpenScrolls(_replicas())
    clients = [_Client(opened, (1 << 40) + number) for number in range(20)]
    with pytest.raises(PhextsyncError, match="put its text into a new one"):
        _let_each_write(clients)
    wrote = len(_version(opened))
    clients[0].write("y")  # those who wrote before go on
    assert len(_version(opened)) == wrote <= 100


def test_state_vectors_and_updates_of_countless_clients_are_refused_before_they_are_counted() -> (
    None
):
    participant = _Client(OpenScrolls(_replicas()), 1).participant
    count = 100_000
    entries = b"".join(varints(client, 1) for client in range(1 << 30, (1 << 30) + count))
    with pytest.raises(ProtocolError, match="state vector"):
        participant.ask(varints(count) + entries)
    struct = varints(0, 4, 1) + sized_text("text") + sized(b"x")
    structs = b"".join(varints(1, client) + struct for client in range(1 << 30, (1 << 30) + count))
    with pytest.raises(PhextsyncError, match="fewer sessions"):
        participant.take(varints(count) + structs + _NOTHING)


def _let_each_write(clients: list[_Client]) -> None:
    for client in clients:
        client.write("x")


def _version(opened: OpenScrolls) -> bytes:
    scroll = opened.scroll("memory", _A)
    assert scroll is not None
    return scroll.replica.version(_A)


def test_a_node_that_may_not_write_refuses_edits_and_not_what_a_client_tells_of_what_it_has() -> (
    None
):
    replicas = _replicas(_READING)
    opened = OpenScrolls(replicas)
    client = _Client(opened, 1)
    assert client.participant.take(b"\0\0")
    assert not client.participant.may_write
    with pytest.raises(PhextsyncError) as refused:
        client.write("x")
    assert closing(refused.value)[0] == 4403


def test_the_last_client_takes_the_room_with_it() -> None:
    replicas = _replicas()
    opened = OpenScrolls(replicas)
    participants = [opened.enter("memory", _A, "web", _nothing) for _ in range(2)]
    for participant in participants:
        opened.leave("memory", _A, participant)
    assert len(opened) == 0
    assert replicas.names() == []


@pytest.mark.parametrize("phext", [".clients", ".phext"])
def test_no_client_opens_a_phext_of_the_library(phext: str) -> None:
    with pytest.raises(PhextsyncError, match="library"):
        OpenScrolls(_replicas()).enter(phext, _A, "web", _nothing)


def test_who_asks_whether_all_was_taken_is_told_behind_what_it_sent() -> None:
    opened = OpenScrolls(_replicas())
    speaker = Speaker(opened.enter("memory", _A, "web", _nothing))
    assert speaker.next_message() is not None  # its own question
    assert not speaker.has_to_say
    speaker.receive(100, Reader(b""))
    assert speaker.has_to_say
    assert speaker.next_message() == b"\x64"
    assert speaker.next_message() is None


# -- awareness -----------------------------------------------------------------------------


def _told(*rows: tuple[int, int, str]) -> bytes:
    each = [varints(client, clock) + sized_text(state) for client, clock, state in rows]
    return varints(len(each)) + b"".join(each)


def test_a_participant_speaks_for_the_first_client_that_it_tells_of() -> None:
    changed: list[int] = []
    awareness = Awareness(changed.append)
    awareness.take(1, _told((10, 1, '{"a":1}')))
    awareness.take(1, _told((11, 1, '{"b":1}')))
    awareness.take(2, _told((11, 1, '{"b":2}'), (10, 9, "null")))
    assert awareness.state(11) == '{"b":2}'
    assert awareness.state(10) == '{"a":1}'
    assert changed == [10, 11]
    awareness.leave(1)
    assert list(awareness) == [11]
    assert awareness.encode([10]) == _told((10, 1, "null"))


def test_nobody_tells_that_the_client_of_another_is_gone() -> None:
    awareness = Awareness()
    awareness.take(1, _told((10, 1, '{"a":1}')))
    awareness.take(2, _told((10, 9, "null")))
    assert awareness.state(10) == '{"a":1}'
    awareness.take(1, _told((10, 2, "null")))
    assert awareness.state(10) == "null"


def test_one_clock_of_one_participant_is_one_state() -> None:
    awareness = Awareness()
    awareness.take(1, _told((10, 1, '{"a":1}')))
    awareness.take(1, _told((10, 1, '{"a":2}')))
    assert awareness.state(10) == '{"a":1}'


def test_one_that_comes_back_is_heard_at_once() -> None:
    awareness = Awareness()
    awareness.take(1, _told((10, 4, "{}")))
    awareness.leave(1)
    awareness.take(2, _told((10, 4, "{}")))
    assert awareness.encode([10]) == _told((10, 5, "{}"))


def test_who_passes_on_what_it_heard_speaks_for_itself_alone() -> None:
    opened = OpenScrolls(_replicas())
    told = _told((10, 1, '{"a":1}'))
    one, viewer = (opened.enter("memory", _A, "web", _nothing) for _ in range(2))
    awareness = opened.scrolls()[0].awareness
    one.take_clients(told)
    awareness.put(ELSEWHERE, 11, 1, "{}")
    speaker = Speaker(viewer)
    speaker.receive(0, Reader(varints(1) + sized(b"\0\0")))  # the answer: it hears from now on
    speaker.receive(1, Reader(sized(_told((11, 1, "{}"), (10, 1, '{"a":1}')))))
    assert [row[0] for row in awareness.here()] == [10]
    opened.leave("memory", _A, one)
    speaker.receive(1, Reader(sized(told)))
    assert awareness.state(10) == "null"
    awareness.remove(11)
    assert awareness.state(11) == "null"
    speaker.receive(1, Reader(sized(_told((12, 1, '{"b":1}')))))
    assert awareness.state(12) == '{"b":1}'


def test_one_that_comes_back_before_its_socket_ended_stays() -> None:
    awareness = Awareness()
    awareness.take(1, _told((10, 4, "{}")))
    awareness.take(2, _told((10, 4, "{}")))
    awareness.leave(1)
    assert awareness.state(10) == "{}"
    awareness.take(1, _told((11, 1, "{}")), has_heard=True)
    assert [*awareness] == [10, 11]


@pytest.mark.parametrize(("first", "second"), [(1, 2), (1, ELSEWHERE), (ELSEWHERE, 2)])
def test_nobody_speaks_for_a_client_whose_connection_lives(first: int, second: int) -> None:
    changed: list[int] = []
    awareness = Awareness(changed.append)
    awareness.put(first, 10, 1, '{"user":"Ann"}')
    awareness.put(second, 10, 9, '{"user":"Mallory"}')
    assert awareness.state(10) == '{"user":"Ann"}'
    awareness.put(first, 10, 2, '{"user":"Ann B."}')
    assert awareness.encode([10]) == _told((10, 2, '{"user":"Ann B."}'))
    assert changed == [10, 10]


def test_who_waits_to_speak_for_a_client_is_heard_when_the_other_is_gone() -> None:
    awareness = Awareness()
    awareness.take(1, _told((10, 4, '{"n":1}')))
    awareness.take(2, _told((10, 4, '{"n":2}')))
    awareness.take(2, _told((10, 5, '{"n":3}')))
    awareness.leave(1)
    assert awareness.encode([10]) == _told((10, 5, '{"n":3}'))
    awareness.put(ELSEWHERE, 10, 7, '{"n":4}')
    awareness.take(3, _told((10, 8, '{"n":5}')))
    awareness.leave(3)
    awareness.leave(2)
    assert awareness.state(10) == "null"


@pytest.mark.parametrize("participant", [1, ELSEWHERE])
def test_no_clock_of_one_client_is_more_than_others_can_read(participant: int) -> None:
    awareness = Awareness()
    awareness.put(participant, 10, (1 << 53) - 1, "{}")
    awareness.put(2, 10, (1 << 53) - 1, "{}")
    for _ in range(3):
        awareness.leave(2)
        awareness.remove(10)
        awareness.take(2, _told((10, 5, "{}")))
        awareness.take(2, _told((10, (1 << 53) - 1, "null")))
        reader = Reader(awareness.encode([10]))
        assert (reader.integer(), reader.integer()) == (1, 10)
        assert reader.integer() < (1 << 53) - 100  # who is told that it is gone counts on


def test_the_newer_state_counts() -> None:
    awareness = Awareness()
    awareness.take(1, _told((10, 4, '{"n":4}')))
    awareness.take(1, _told((10, 3, '{"n":3}')))
    assert awareness.state(10) == '{"n":4}'


@pytest.mark.parametrize(
    "state",
    ["", "nothing", "[1]", "NaN", '{"x":Infinity}', "1", "[" * 2000, '{"x":"\x01"}', "{}{}"],
)
def test_what_other_clients_could_not_read_is_refused(state: str) -> None:
    with pytest.raises(ProtocolError, match="JSON"):
        Awareness().take(1, _told((10, 1, state)))


def test_awareness_is_bounded() -> None:
    awareness = Awareness()
    huge = json.dumps({"x": "y" * STATE_BYTES_MAX})
    with pytest.raises(ProtocolError, match="at most 4096 bytes"):
        awareness.take(1, _told((10, 1, huge)))
    with pytest.raises(ProtocolError, match="clients"):
        awareness.take(1, varints(1 << 40))
    for participant in range(1, 2000):
        awareness.take(participant, _told((participant, 1, "{}")))
        awareness.put(ELSEWHERE, 10_000 + participant, 1, "{}")
    assert len(awareness) == 512
    for participant in range(1, 2000):
        awareness.leave(participant)
    assert len(awareness.encode(range(2000))) < 20_000


# -- clients elsewhere ---------------------------------------------------------------------


def _board(node_id: bytes) -> PresenceBoard:
    return PresenceBoard(
        node_id,
        node_id.decode(),
        node_id * 16,
        limits=Limits(),
        interval_s=2.0,
        on_failure=lambda part, error: pytest.fail(f"{part}: {error}"),
    )


def _linked(one: PresenceBoard, other: PresenceBoard) -> None:
    one.link_opened(0, 1, b"b")
    other.link_opened(0, 1, b"a")


def test_a_node_tells_of_as_many_clients_as_fit_and_others_see_them() -> None:
    here, there = OpenScrolls(_replicas()), OpenScrolls(_replicas())
    boards = _board(b"a"), _board(b"b")
    _linked(*boards)
    telling, _ = Elsewhere(here, boards[0]), Elsewhere(there, boards[1])
    participants = [here.enter("memory", _A, "web", _nothing) for _ in range(30)]
    for participant in participants:
        told = _told((participant.number, 1, '{"user":{"name":"Ann"},"x":"%s"}' % ("y" * 3000)))
        participant.take_clients(told)
    telling.tell()
    boards[1].receive(0, 1, boards[0].next_notices(0, 1))
    there.enter("memory", _A, "web", _nothing)
    scroll = there.scroll("memory", _A)
    assert scroll is not None
    assert 5 < len(scroll.awareness) < 30
    assert {scroll.awareness.state(client) for client in scroll.awareness} == {
        '{"user": {"name": "Ann"}}'
    }
    for participant in participants:
        here.leave("memory", _A, participant)
    telling.tell()
    boards[1].receive(0, 1, boards[0].next_notices(0, 1))
    assert len(scroll.awareness) == 0


def test_a_key_waits_for_nothing_but_the_network_on_its_way_to_a_client_at_another_node() -> None:
    mesh = MemoryMesh(1, 2)
    took_s: list[float] = []

    async def press_keys() -> None:
        await mesh.run_until(5)
        began = math.inf
        here, there = (OpenScrolls(mesh.node(number).replicas) for number in range(2))
        writer = _Client(here, 5)
        reader = there.enter("memory", _A, "web", lambda: took_s.append(mesh.now - began))
        reader.ask(b"\0")
        reader.next_answer()
        for _ in range(5):
            took_s.clear()
            began = mesh.now
            writer.write("x")
            await mesh.run_until(mesh.now + 0.3)
            while reader.next_update() is not None:
                pass
            assert len(took_s) == 1
            assert took_s[0] < 0.0005  # of which the path takes 0.2 ms

    mesh.run(press_keys)


def test_what_another_process_at_the_node_tells_of_a_cursor_is_seen_by_clients() -> None:
    opened, board = OpenScrolls(_replicas()), _board(b"a")
    Elsewhere(opened, board)
    participant = opened.enter("memory", _A, "web", _nothing)
    scroll = opened.scroll("memory", _A)
    assert scroll is not None
    fact = fact_of(("memory", _A), 7, 1, {"user": {"name": "Ann"}})
    board.publish(dict([fact]), b"editor")
    assert scroll.awareness.state(7) == '{"user": {"name": "Ann"}}'
    participant.take_clients(_told((participant.number, 1, "{}")))
    board.publish({}, b"editor")
    assert [*scroll.awareness] == [participant.number]


def _position(*item: int, assoc: int = 0) -> dict[str, object]:
    """Return a relative position as Yjs writes it: before a character, or at the end."""
    found = {"client": item[0], "clock": item[1]} if item else None
    return {"type": None, "tname": "text", "item": found, "assoc": assoc}


@pytest.mark.parametrize(
    ("anchor", "head"),
    [
        (_position((1 << 53) - 1, 1 << 40), _position(1, 0)),
        (_position(), _position(1750465463, 1116)),
        (_position(1, 1, assoc=-1), {"item": None}),
        (None, 5),
    ],
)
def test_a_cursor_of_an_editor_is_seen_at_other_nodes_as_it_is(
    anchor: object, head: object
) -> None:
    here, there = OpenScrolls(_replicas()), OpenScrolls(_replicas())
    boards = _board(b"a"), _board(b"b")
    _linked(*boards)
    telling, _ = Elsewhere(here, boards[0]), Elsewhere(there, boards[1])
    user = {"name": "Ann", "color": "#0b6e4f", "colorLight": "#0b6e4f40"}
    state = {"user": user, "cursor": {"anchor": anchor, "head": head}}
    participant = here.enter("memory", _A, "web", _nothing)
    participant.take_clients(_told((7, 1, json.dumps(state))))
    telling.tell()
    boards[1].receive(0, 1, boards[0].next_notices(0, 1))
    there.enter("memory", _A, "web", _nothing)
    scroll = there.scroll("memory", _A)
    assert scroll is not None
    assert json.loads(scroll.awareness.state(7)) == state


@pytest.mark.parametrize(
    "value",
    [
        "",
        f'{_A} 1 {{"at":"1.2"}} memory',
        f'{_A} 1 {{"at":"1.2,x"}} memory',
        f"{_A} 1 {{}}",
        f"{_A} x {{}} memory",
        f"{_A} 1 [] memory",
        f'{_A} 1 {{"x":NaN}} memory',
        "1.1 1 {} memory",
        f"{_A} 1 {'[' * 900} memory",
    ],
)
def test_what_a_node_tells_that_makes_no_sense_is_left_out(value: str) -> None:
    opened, board = OpenScrolls(_replicas()), _board(b"b")
    Elsewhere(opened, board)
    board.link_opened(0, 1, b"a")
    opened.enter("memory", _A, "web", _nothing)
    board.receive(0, 1, [Notice(b"a", b"a" * 16, 1, 9000, "a", (("yjs:1", value),))])
    scroll = opened.scroll("memory", _A)
    assert scroll is not None
    assert len(scroll.awareness) == 0


# -- Hocuspocus ----------------------------------------------------------------------------


def _conversation(opened: OpenScrolls, token: str = "") -> Conversation:
    return Conversation(opened, "web", 4, lambda shown: shown == token, _nothing)


def _opening(name: str, token: str = "", version: str = "4.0.0") -> bytes:
    tail = sized_text(version) if version else b""
    return sized_text(name) + varints(2, 0) + sized_text(token) + tail


def test_a_wrong_token_opens_nothing_and_the_right_one_does() -> None:
    opened = OpenScrolls(_replicas())
    conversation = _conversation(opened, "secret")
    conversation.receive(_opening(_NAME, "wrong"))
    told = conversation.next_message()
    assert told is not None
    assert told.startswith(sized_text(_NAME) + varints(2, 1))
    assert (len(conversation), len(opened)) == (0, 0)
    conversation.receive(_opening(_NAME, "secret"))
    assert conversation.next_message() == sized_text(_NAME) + varints(2, 2) + sized_text(
        "read-write"
    )
    assert len(opened) == 1
    conversation.leave()
    assert len(opened) == 0


def test_a_client_of_version_2_shows_no_token_where_none_is_wanted() -> None:
    asking = sized_text(_NAME) + varints(0, 0) + sized(_NOTHING)
    for token, count in (("", 1), ("secret", 0)):
        opened = OpenScrolls(_replicas())
        conversation = _conversation(opened, token)
        conversation.receive(asking)
        assert len(conversation) == count


@pytest.mark.parametrize(("version", "count"), [("4.0.0", 1), ("", 2)])
def test_a_scroll_that_was_refused_is_opened_again_by_a_token_alone(
    version: str, count: int
) -> None:
    opened = OpenScrolls(_replicas())
    conversation = _conversation(opened)
    conversation.receive(_opening(_NAME, version=version))
    wrong = sized_text(_NAME) + varints(0, 2) + sized(b"no update")
    conversation.receive(wrong)
    conversation.receive(sized_text(_NAME) + varints(0, 0) + sized(_NOTHING))
    *denied, closed = iter(conversation.next_message, None)
    assert all(message.startswith(sized_text(_NAME) + varints(2, 1)) for message in denied)
    assert closed.startswith(sized_text(_NAME) + varints(7))
    assert len(denied) == count - 1  # those of version 2 know of no end
    assert len(conversation) == 0
    conversation.receive(_opening(_NAME))
    assert len(conversation) == 1


def test_a_flood_of_scrolls_and_refusals_is_bounded() -> None:
    opened = OpenScrolls(_replicas())
    conversation = _conversation(opened)
    with pytest.raises(ProtocolError, match="a client that reads"):
        _open_each(conversation)
    assert (len(conversation), len(opened)) == (4, 4)


def _open_each(conversation: Conversation) -> None:
    for number in range(1, 100):
        conversation.receive(_opening(f"memory/1.1.1/1.1.1/1.1.{number}"))


def test_a_client_that_opens_and_closes_and_never_reads_is_bounded() -> None:
    conversation = _conversation(OpenScrolls(_replicas()))
    for number in range(1000):
        name = f"{_NAME}\0{number}"
        conversation.receive(_opening(name))
        conversation.receive(sized_text(name) + varints(7))
    assert (len(conversation), len(conversation._ready)) == (0, 0)


@pytest.mark.parametrize("version", ["4.0.0", ""])
def test_a_scroll_that_cannot_be_told_of_is_closed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    def fail(replica: Replica, coordinate: Coordinate, version: bytes) -> bytes | None:
        if coordinate == _A:
            raise StoreDamagedError("expected a scroll, found damage")
        return difference(replica, coordinate, version)

    difference = Replica.difference
    monkeypatch.setattr(Replica, "difference", fail)
    conversation = _conversation(OpenScrolls(_replicas()))
    other = "memory/2.1.1/1.1.1/1.1.1"
    for name in (_NAME, other):
        conversation.receive(_opening(name, version=version))
        conversation.receive(sized_text(name) + varints(0, 0) + sized(_NOTHING))
    said = [*iter(conversation.next_message, None)]
    assert sized_text(other) + varints(0, 1) + sized(b"\0\0") in said
    assert any(each.startswith(sized_text(_NAME) + varints(7)) for each in said)
    assert len(conversation) == 1


def test_a_scroll_that_is_read_only_is_said_to_be_and_edits_are_not_saved() -> None:
    opened = OpenScrolls(_replicas(_READING))
    conversation = _conversation(opened)
    conversation.receive(_opening(_NAME))
    assert conversation.next_message() == sized_text(_NAME) + varints(2, 2) + sized_text("readonly")
    while conversation.next_message() is not None:
        pass
    doc: Doc[Text] = Doc(client_id=5)
    text = doc.get("text", type=Text)
    text += "x"
    update = sized_text(_NAME) + varints(0, 2) + sized(doc.get_update())
    assert not conversation.receive(update)
    assert conversation.next_message() == sized_text(_NAME) + varints(8, 0)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_whatever_a_client_sends_is_taken_or_refused(messages: list[bytes]) -> None:
    opened = OpenScrolls(_replicas())
    conversation = _conversation(opened)
    conversation.receive(_opening(_NAME))
    participant = opened.enter("memory", _A, "web", _nothing)
    for message in messages:
        for receive in (
            conversation.receive,
            lambda data: conversation.receive(sized_text(_NAME) + data),
            lambda data: _speak(participant, data),
        ):
            try:
                receive(message)
            except PhextsyncError as error:
                assert closing(error)[1]  # noqa: PT017
        while conversation.next_message() is not None:
            pass


def _speak(participant: Participant, data: bytes) -> bool:
    reader = Reader(data)
    return Speaker(participant).receive(reader.integer(), reader)
