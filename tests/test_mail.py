"""Messages are there once, in order, until somebody has acknowledged them."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import phextsync
from phextsync.agents import AsyncMail, Mail
from phextsync.agents import mail_layout as layout
from phextsync.agents.mail_layout import Box, Message
from phextsync.agents.mail_state import EXPIRED_KEPT_MS, BoxState
from phextsync.control.frames import Value
from phextsync.control.performing import perform
from phextsync.errors import PhextsyncError, StoreFullError
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.testing import (
    Crash,
    FillDisk,
    FreeDisk,
    MemoryMesh,
    Restart,
)
from sims.processes import make_folder
from tests.command_users import CommandUser
from tests.troubles import cut_or_crash, mend

_HOUR_S = 3600.0
_BOXES = {name: Box(name, layout.new_series(name)) for name in ("alice", "bob")}


class _Folder:
    """A node that nobody is linked with, and what is asked of it."""

    def __init__(self, name: str = "alice", number: int = 1) -> None:
        self.name = name
        self.replicas = ReplicaSet(
            MemoryStore(),
            node_id=number.to_bytes(16, "big"),
            random=Random(number),
            wall_time_ms=partial(next, count(1)),
        )

    def ask(self, *request: Value) -> Value:
        if request[0] == "status":
            status = {"running": False, "name": self.name, "folder": "here"}
            return json.dumps({**status, "node_id": self.replicas.node_id.hex()})
        return perform(self.replicas, [*request])

    def mail(self, box: str = "", now_ms: int = 1_000_000) -> Mail:
        return Mail(self, box, clock_ms=lambda: now_ms)


def _texts(mail: Mail) -> list[str]:
    return [message.text for message in mail.inbox().messages]


@pytest.fixture
def folder() -> _Folder:
    """Return a node with two boxes."""
    folder = _Folder()
    folder.mail().make_box("ops")
    folder.mail("bob").make_box("ops", "night")
    return folder


# -- what is written ------------------------------------------------------------------------

_texts_of_any = st.text(st.characters(codec="utf-8"), max_size=30)
_ms = st.integers(0, 4_000_000_000_000)


@given(_texts_of_any, _ms, st.none() | _ms)
def test_a_message_is_read_as_it_was_written(text: str, sent: int, expires: int | None) -> None:
    written = Message(layout.DIRECTORY, "alice", "role:ops", sent, expires, text)
    assert layout.read_message(layout.DIRECTORY, written.to_text()) == written


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999"]
)
def test_a_message_of_any_time_is_listed(folder: _Folder, time: str) -> None:
    at = Coordinate(*_BOXES["bob"].series, 9, 9, 9, 1, 1, 2)
    folder.ask("set", layout.MAIL, str(at), f"from x\nto bob\nsent {time}\nexpires {time}\n\nhi")
    for message in folder.mail("bob").inbox().messages:
        assert message.line().endswith("  x  hi")
        assert layout.read_message(at, message.to_text()).text == "hi"
    folder.mail("bob").ack(at)


def test_a_line_of_a_list_is_short_whoever_wrote_the_message() -> None:
    role = f"role:{'r' * 64}"
    line = layout.read_message(layout.DIRECTORY, f"from {'x' * 64}\nto {role}\n\nhi").line()
    assert line.endswith(f"  {'x' * 64} to {role}  hi")
    wild = f"from {'x' * 99_999}\nto role:{'r' * 99_999}\nsent {'0' * 99_999}\n\n{'t' * 99_999}"
    assert len(layout.read_message(layout.DIRECTORY, wild).line()) < 300


@given(st.text(max_size=80))
def test_any_text_is_a_message_a_cover_a_directory_and_receipts(text: str) -> None:
    message = layout.read_message(layout.DIRECTORY, text)
    assert message.text in text
    layout.read_cover(text)
    layout.read_boxes(text)
    layout.read_receipts(text)


def test_a_text_of_any_program_is_a_message_of_nobody(folder: _Folder) -> None:
    folder.mail().send("bob", "hello")
    series = folder.mail("bob").make_box().series
    stray = Coordinate(*series, 5, 5, 5, 1, 1, 2)
    folder.replicas.phext("mail").append(stray, "just a text\n\nof two paragraphs")
    assert "just a text\n\nof two paragraphs" in _texts(folder.mail("bob"))
    assert folder.mail("bob").ack(stray) == [stray]
    assert _texts(folder.mail("bob")) == ["hello"]


@given(st.integers(0, layout.NUMBER_MAX))
def test_each_number_has_a_place_and_they_are_in_order(number: int) -> None:
    book = (2, 3, 4, 5, 6, 7)
    at = layout.message_at(book, number)
    assert layout.place_of(at) == (book, number)
    if number < layout.NUMBER_MAX:
        assert at < layout.message_at(book, number + 1)


def test_after_999_scrolls_comes_the_next_section_and_a_full_book_is_told() -> None:
    book = (2, 3, 4, 5, 6, 7)
    assert str(layout.message_at(book, 998)) == "2.3.4/5.6.7/1.1.999"
    assert str(layout.message_at(book, 999)) == "2.3.4/5.6.7/1.2.1"
    assert str(layout.message_at(book, 999 * 999)) == "2.3.4/5.6.7/2.1.1"
    with pytest.raises(PhextsyncError, match="at most 997002998 messages"):
        layout.message_at(book, layout.NUMBER_MAX + 1)


@given(st.permutations(["box a 5.1.1/*", "box a 4.1.1/* ops", "box a 4.1.1/* x", "nonsense"]))
def test_the_order_of_lines_in_the_directory_has_no_meaning(lines: list[str]) -> None:
    assert layout.read_boxes("\n".join(lines)) == {"a": Box("a", (4, 1, 1), ("ops", "x"))}


@pytest.mark.parametrize(
    "line", ["box all 2.1.1/*", "box a 1.1.1/*", "box a 2.1/*", "box a 2.1.1000/*", "box a x r:r"]
)
def test_a_line_that_cannot_be_read_is_no_box(line: str) -> None:
    assert layout.read_boxes(line) == {}


def test_a_cover_that_two_lives_wrote_says_the_greater_number() -> None:
    text = layout.Cover("aa", 7, 3).to_text() + layout.Cover("aa", 8, 2).to_text()
    assert layout.read_cover(text) == layout.Cover("aa", 8, 3)


def test_a_program_that_knows_the_page_alone_takes_part(folder: _Folder) -> None:
    """Boxes, books, covers and messages by the words of `docs/reference/mail.md`."""

    def parts(text: str) -> tuple[int, int, int]:
        digest = blake2b(text.encode(), digest_size=16, person=b"phextsync mail").digest()
        n = int.from_bytes(digest, "big")
        return n % 998 + 2, n // 998 % 998 + 1, n // 998**2 % 998 + 1

    mail = folder.replicas.phext("mail")
    series, book = parts("bob\n0"), parts(f"{'ab' * 16}\n0")
    start = "/".join(".".join(map(str, three)) for three in (series, book))
    assert f"box bob {'.'.join(map(str, series))}/* night ops" in mail["1.1.1/1.1.1/1.1.1"]
    mail.edit(f"{start}/1.1.1", f"node {'ab' * 16}\nlast 1\nover 1\n")
    mail.edit(f"{start}/1.1.2", "from robot\nto bob\n\nBeep.")
    assert [(m.sender, m.text) for m in folder.mail("bob").inbox().messages] == [("robot", "Beep.")]
    folder.mail("bob").ack(f"{start}/1.1.2")
    assert mail[f"{'.'.join(map(str, series))}/1.1.1/1.1.1"] == f"acked-to {start}/1.1.2\n"


# -- one node -------------------------------------------------------------------------------


def test_messages_are_listed_in_order_read_and_acknowledged_once(folder: _Folder) -> None:
    sent = [folder.mail().send("bob", f"number {i}") for i in range(3)]
    bob = folder.mail("bob")
    assert [*bob.inbox().messages] == sent
    assert bob.read(sent[1].coordinate) == sent[1]
    assert bob.ack(sent[1].coordinate) == [sent[1].coordinate]
    assert bob.ack(sent[1].coordinate) == []
    assert _texts(bob) == ["number 0", "number 2"]
    with pytest.raises(PhextsyncError, match="it was acknowledged, has expired, or is not here"):
        bob.read(sent[1].coordinate)


def test_a_broadcast_is_acknowledged_by_each_for_itself(folder: _Folder) -> None:
    folder.mail("carol").make_box()
    to_all = folder.mail("carol").send("all", "to all")
    to_role = folder.mail("carol").send("role:night", "to the night")
    assert _texts(folder.mail()) == ["to all"]
    assert _texts(folder.mail("bob")) == ["to all", "to the night"]
    assert _texts(folder.mail("carol")) == []
    folder.mail("bob").ack(to_all.coordinate, to_role.coordinate)
    assert _texts(folder.mail("bob")) == []
    assert _texts(folder.mail()) == ["to all"]
    assert to_all.expires_ms == 1_000_000 + 30 * 86_400_000


def test_an_expired_message_is_not_shown_and_goes_when_it_is_long_over(folder: _Folder) -> None:
    message = folder.mail().send("bob", "soon over", expires_after_s=2)
    later = folder.mail().send("bob", "stays")
    assert message.expires_ms == 1_002_000
    assert _texts(folder.mail("bob", 1_001_999)) == ["soon over", "stays"]
    assert _texts(folder.mail("bob", 1_002_000)) == ["stays"]
    replica = folder.replicas.phext("mail")
    folder.mail("bob", 1_002_000).ack(later.coordinate)
    assert message.coordinate in replica
    other = folder.mail().send("bob", "another")
    folder.mail("bob", 1_002_000 + EXPIRED_KEPT_MS).ack(other.coordinate)
    assert message.coordinate not in replica
    assert _texts(folder.mail("bob")) == []


def test_a_sender_empties_what_nobody_took_and_the_rest_is_shown(folder: _Folder) -> None:
    folder.mail().send("all", "old", expires_after_s=1)
    new = 1_001_000 + EXPIRED_KEPT_MS
    folder.mail(now_ms=new).send("all", "new")
    folder.mail("dave").make_box()
    assert _texts(folder.mail("dave", new)) == ["new"]
    series = layout.new_series("all")
    texts = [t for at, t in folder.replicas.phext("mail").scrolls() if at.parts[:3] == series]
    assert "over 2" in texts[0]
    assert len(texts) == 2  # the cover, and one message


def test_a_message_waits_for_what_its_sender_sent_before(folder: _Folder) -> None:
    sent = [folder.mail().send("bob", f"number {i}") for i in range(3)]
    replica = folder.replicas.phext("mail")
    first = replica.pop(sent[0].coordinate)
    inbox = folder.mail("bob").inbox()
    assert inbox.messages == ()
    assert [*inbox.waiting] == sent[1:]
    replica.append(sent[0].coordinate, first)  # it comes
    assert [*folder.mail("bob").inbox().messages] == sent
    replica.clear_scroll(sent[0].coordinate)  # for good: it can be acknowledged all the same
    folder.mail("bob").ack(sent[0].coordinate)
    assert [*folder.mail("bob").inbox().messages] == sent[1:]


def test_two_senders_with_one_digest_get_a_book_each(folder: _Folder) -> None:
    mine = folder.mail().send("bob", "mine").coordinate
    cover = layout.message_at(layout.place_of(mine)[0], 0)
    replica = folder.replicas.phext("mail")
    replica.edit(cover, replica[cover].replace("0", "f"))  # it is another node's
    assert folder.mail().send("bob", "beside").coordinate.parts[:6] != mine.parts[:6]


def test_what_is_acknowledged_is_kept_in_few_lines(folder: _Folder) -> None:
    bob = folder.mail("bob")
    at = layout.receipts_at(bob.make_box().series)
    for i in range(30):
        folder.mail().send("bob", f"number {i}")
    places = [message.coordinate for message in bob.inbox().messages]
    for place in places[1:][::-1]:
        bob.ack(place)
    assert len(folder.replicas.phext("mail")[at].splitlines()) == 29
    bob.ack(places[0])
    assert folder.replicas.phext("mail")[at] == f"acked-to {places[-1]}\n"


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.lists(st.integers(1, 6), max_size=8))
def test_receipts_of_two_machines_merge_to_those_of_both(
    here: Sequence[int], there: Sequence[int]
) -> None:
    """Each machine appends its lines and takes out what follows from them; neither takes out what
    the other relies on."""
    box, book = _BOXES["bob"], (*_BOXES["bob"].series, 9, 9, 9)
    lines: list[dict[int, str]] = []
    for machine, numbers in enumerate((here, there)):
        kept: dict[int, str] = {}  # its own lines by their age; all are new here
        for age, number in enumerate(numbers):
            text = "".join(kept.values())
            state = BoxState(box, {layout.receipts_at(box.series): text})
            gone, added = state.receipts_with([layout.message_at(book, number)])
            starts = [len("".join([*kept.values()][:i])) for i in range(len(kept))]
            ages = [*kept]
            for start, _ in gone:
                del kept[ages[starts.index(start)]]
            for i, line in enumerate(added.splitlines(keepends=True)):
                kept[1000 * machine + 10 * age + i] = line
        lines.append(kept)
    merged = layout.read_receipts("".join([*lines[0].values(), *lines[1].values()]))
    told = {n for n in range(1, 7) if merged.has(book, n)}
    assert told == {*here, *there}


@pytest.mark.parametrize(
    ("to", "text", "expires", "reason"),
    [
        (
            "bbo",
            "x",
            None,
            "there is no box 'bbo'; there are alice, bob, role:night, role:ops, all",
        ),
        ("role:day", "x", None, "there is no box 'role:day'"),
        ("bob", "", None, "expected a text to send"),
        ("bob", " \n\t", None, "expected a text to send"),
        ("bob", "a\x17b", None, "break"),
        ("bob", "x", 0.0, "expected to expire after 1 second to 100 years, found 0 s"),
        ("bob", "x", 1e12, "expected to expire"),
    ],
)
def test_what_cannot_be_sent_is_said(
    folder: _Folder, to: str, text: str, expires: float | None, reason: str
) -> None:
    with pytest.raises(PhextsyncError, match=reason):
        folder.mail().send(to, text, expires_after_s=expires)
    assert _texts(folder.mail("bob")) == []


@pytest.mark.parametrize("name", ["all", "two words", "role:x", "", "x" * 65])
def test_a_name_that_no_box_can_have_is_refused(folder: _Folder, name: str) -> None:
    with pytest.raises(PhextsyncError, match="expected the name of a box"):
        folder.mail(name or "-\n").make_box()
    asked = _Folder(name)
    with pytest.raises(PhextsyncError, match=f"found (''$|none, and the node is called {name!r})"):
        asked.mail().make_box()
    assert asked.mail("box").make_box().name == "box"


def test_what_is_no_message_of_the_box_cannot_be_acknowledged(folder: _Folder) -> None:
    message = folder.mail().send("alice", "to myself")
    for at in (message.coordinate, layout.DIRECTORY):
        with pytest.raises(PhextsyncError, match="there is no message at"):
            folder.mail("bob").ack(at)
    with pytest.raises(PhextsyncError, match="there is no box 'nobody'; there are alice, bob"):
        folder.mail("nobody").inbox()


class _Interrupted(_Folder):
    """A node at which another process sends whenever this one is about to."""

    is_first = True

    def ask(self, *request: Value) -> Value:
        if request[0] == "batch" and self.is_first:
            self.is_first = False
            self.mail().send("bob", "faster")
        return super().ask(*request)


def test_two_processes_of_one_node_never_take_one_number() -> None:
    folder = _Interrupted()
    folder.is_first = False
    folder.mail("bob").make_box()
    folder.is_first = True
    folder.mail().send("bob", "slower")
    assert _texts(folder.mail("bob")) == ["faster", "slower"]


# -- every way to a node --------------------------------------------------------------------


def test_all_ways_to_a_node_do_the_same(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "alice")
    options = {"host": "127.0.0.1", "port": 0, "discover": False}

    async def in_asyncio() -> None:
        async with phextsync.aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
            mail = AsyncMail(handle)
            await mail.make_box("ops")
            at = (await mail.send("alice", "by asyncio")).coordinate
            assert (await mail.read(at)).text == "by asyncio"

    async def in_trio() -> None:
        async with phextsync.open_node(folder, host="127.0.0.1", port=0, discover=False) as node:
            await AsyncMail(node).send("alice", "by trio")

    asyncio.run(in_asyncio())
    trio.run(in_trio)
    with phextsync.open(folder, **options) as handle:  # type: ignore[arg-type]
        Mail(handle).send("alice", "by threads")
    person = CommandUser(folder)
    at = person.out("send", "alice", "by hand").strip()
    listed = json.loads(person.out("inbox", "--json"))
    ways = ["by asyncio", "by trio", "by threads", "by hand"]
    assert [row["text"] for row in listed] == ways
    assert [line.split("  ")[-1] for line in person.out("inbox").splitlines()] == ways
    assert person.out("read", at) == "by hand"
    assert person.out("ack", at) == f"{at}\n"
    assert person.out("ack", at) == ""
    assert "there is no message at" in person.error("read", at)
    assert person.out("box") == f"alice {layout.range_of(layout.new_series('alice'))} ops\n"


# -- machines that come and go --------------------------------------------------------------


def _named(mesh: MemoryMesh, number: int) -> AsyncMail:
    names = ("alice", "bob", "carol")
    return AsyncMail(mesh.node(number), names[number], clock_ms=lambda: round(1000 * mesh.now))


def _shown(mesh: MemoryMesh, number: int) -> Iterator[str]:
    """Give the texts that a node shows now, without waiting for anything."""
    texts = dict(mesh.node(number).phext("mail").scrolls())
    for message in BoxState(_BOXES["bob"], texts).inbox(round(1000 * mesh.now)).messages:
        yield message.text


def test_a_message_to_a_machine_that_is_off_is_there_once_within_a_second_of_its_return() -> None:
    mesh = MemoryMesh(1, 3)

    async def body() -> None:
        await mesh.run_until(2)
        await _named(mesh, 1).make_box()
        await mesh.run_until(4)
        mesh.apply(Crash(1, is_silent=True))
        await _named(mesh, 0).send("bob", "when you are back")
        await mesh.run_until(4 + _HOUR_S)
        mesh.apply(Restart(1))
        await mesh.run_until(5 + _HOUR_S)
        inbox = await _named(mesh, 1).inbox()
        assert [message.text for message in inbox.messages] == ["when you are back"]
        assert await _named(mesh, 1).ack(inbox.messages[0].coordinate)
        mesh.apply(Crash(1))
        await mesh.run_until(6 + _HOUR_S)
        mesh.apply(Restart(1))
        await mesh.run_until(7 + _HOUR_S)
        assert (await _named(mesh, 1).inbox()).messages == ()

    mesh.run(body)


def test_a_number_that_peers_have_heard_of_is_never_given_again() -> None:
    mesh = MemoryMesh(1, 2)

    async def body() -> None:
        await mesh.run_until(2)
        await _named(mesh, 1).make_box()
        await mesh.run_until(3)
        mesh.apply(FillDisk(0))
        with pytest.raises(StoreFullError):
            await _named(mesh, 0).send("bob", "is on no disk")
        await mesh.run_until(4)
        mesh.apply(Crash(0))
        mesh.apply(FreeDisk(0))
        mesh.apply(Restart(0))
        await mesh.run_until(4.01)
        await _named(mesh, 0).send("bob", "is on a disk")
        await mesh.run_until(10)
        assert [*_shown(mesh, 1)] == ["is on a disk"]

    mesh.run(body)


@pytest.mark.parametrize("seed", range(6))
def test_through_crashes_and_partitions_each_message_is_acknowledged_once_in_order(
    seed: int,
) -> None:
    """Two nodes send to a box that is read on a third and, at times, on one of them. What was
    answered is there; what was not may be. Whoever reads sees each sender's order."""
    mesh = MemoryMesh(seed, 3)
    source = Random(seed)
    answered: list[str] = []
    acknowledged: list[str] = []

    async def use(until: float) -> None:
        while mesh.now < until:
            number = source.choice((0, 0, 1, 1, 2))
            if mesh.is_up(number):
                await _step(mesh, number, source, answered, acknowledged)
            await mesh.run_until(mesh.now + source.random() / 5)

    async def body() -> None:
        await mesh.run_until(1)
        await _named(mesh, 1).make_box()
        await mesh.run_until(3)
        for _ in range(8):
            mesh.apply(cut_or_crash(source))
            await use(mesh.now + 1)
            mend(mesh)
            await mesh.run_until(mesh.now + source.choice((0.05, 2)))
        await mesh.run_until(mesh.now + 30)
        await _read_all(mesh, 1, acknowledged)
        await mesh.run_until(mesh.now + 10)
        for number in range(3):
            assert [*_shown(mesh, number)] == []

    mesh.run(body)
    assert len(answered) > 3
    assert {*answered} <= {*acknowledged}
    assert len(acknowledged) == len({*acknowledged})
    for sender in "02":
        numbers = [int(t.split()[1]) for t in acknowledged if t.startswith(sender)]
        assert numbers == sorted(numbers)


async def _step(
    mesh: MemoryMesh, number: int, source: Random, answered: list[str], acknowledged: list[str]
) -> None:
    if number == 1:
        if source.random() < 0.5:
            await _read_all(mesh, number, acknowledged)
        return
    text = f"{number} {round(1000 * mesh.now)}"
    mail, done = _named(mesh, number), trio.Event()

    async def send() -> None:
        try:
            await mail.send("bob", text)
            answered.append(text)
        except PhextsyncError:
            pass  # the node ended, or has not heard of the box
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        if source.random() < 0.2:  # what peers have heard of by then may be on no disk here
            await trio.sleep(source.random() / 100)
            mesh.apply(Crash(number))
        with trio.move_on_after(0.5):
            await done.wait()
        nursery.cancel_scope.cancel()


async def _read_all(mesh: MemoryMesh, number: int, acknowledged: list[str]) -> None:
    mail = _named(mesh, number)
    for message in (await mail.inbox()).messages:
        if await mail.ack(message.coordinate):
            acknowledged.append(message.text)
