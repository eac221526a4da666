"""Editors that speak the protocol of Teamtype's plug-ins with a node, in virtual time."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from phextsync.control.frames import Value
from phextsync.errors import NotHeldError, ProtocolError, StoreFullError
from phextsync.gateways.content_length import BODY_BYTES_MAX, HEADER_BYTES_MAX, Messages, framed
from phextsync.gateways.edited_text import EditedText
from phextsync.gateways.editor import FILES_MAX, path_of
from phextsync.gateways.editor_positions import Json
from phextsync.gateways.told_cursors import end_of, fact_of, position_of, told_by
from phextsync.index import Coordinate
from phextsync.sync.messages import Notice
from phextsync.testing.trio_time import repeatable_scheduler
from sims.processes import PATIENCE_S, make_folder, mesh
from tests.command_users import CommandUser
from tests.editors import CLIENT, EditorBuffer, Files, SlowNode, Writer, editor_at_node, talk

_A = "file:///notes/a"
_AT = "1.1.1/1.1.1/1.1.8"
_SESSION = Path(__file__).parent / "vectors" / "editor_session.json"


async def _settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


# -- messages --------------------------------------------------------------------------------


def test_messages_are_found_wherever_they_are_cut() -> None:
    sent = framed({"a": "🍃"}) + b"Content-Type: x\r\ncontent-length:2\r\n\r\n{}" + framed([])
    for size in (1, 3, len(sent)):
        messages = Messages()
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        found = [json.loads(message) for piece in pieces for message in messages.feed(piece)]
        assert found == [{"a": "🍃"}, {}, []]
        assert messages.is_between


@pytest.mark.parametrize(
    "data",
    [
        b"{}" + b"x" * HEADER_BYTES_MAX,
        b"Content-Type: x\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: \xb2\r\n\r\n",
        b"Content-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1),
        b"Content-Length: " + b"9" * 2000 + b"\r\n\r\n",
    ],
)
def test_what_has_no_length_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        [*Messages().feed(data)]


@pytest.mark.parametrize(
    "uri", ["", "a/b", "http://x/a", "file://other/a", "file:a", "file:///a%00", "file://[/a"]
)
def test_what_is_no_file_of_this_machine_is_refused(uri: str) -> None:
    with pytest.raises(ProtocolError, match="expected the address of a file"):
        path_of(uri)


def test_an_address_is_a_path() -> None:
    assert path_of("file:///a%20b/%C3%A4.md") == "/a b/ä.md"
    assert path_of("file://localhost/a") == "/a"


# -- a session as it is documented -----------------------------------------------------------


async def test_a_recorded_session_goes_as_it_is_documented(autojump_clock: object) -> None:
    steps: list[dict[str, Any]] = json.loads(_SESSION.read_text())
    async with talk() as (node, stream):
        messages, came = Messages(), list[Json]()
        for step in steps:
            await _settled()
            match step:
                case {"to": "node", "message": message}:
                    await stream.send_all(framed(message))
                case {"to": "editor", "message": message}:
                    while not came:
                        came += map(json.loads, messages.feed(await stream.receive_some()))
                    assert came.pop(0) == message
                case {"scroll": text}:
                    assert node.text[_AT] == text
                case {"write": text}:
                    node.text[_AT] = text
        assert not came


# -- what editors do -------------------------------------------------------------------------


async def test_both_sides_see_what_the_other_writes(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        node.text[_AT] = "one\n"
        buffer = await client.open(_A, "one\n")
        await client.edit(_A, buffer.type(0, 0, "🍃 "))
        await _settled()
        assert node.text[_AT] == "🍃 one\n"
        node.text[_AT] = "🍃 one\ntwo\n"
        await _settled()
        assert buffer.text == "🍃 one\ntwo\n"


async def test_a_file_without_a_scroll_gets_one_with_what_the_editor_has(
    autojump_clock: object,
) -> None:
    async with editor_at_node() as (node, client):
        buffer = await client.open(_A, "new\n")
        await _settled()
        assert (node.text[_AT], buffer.text) == ("new\n", "new\n")


async def test_an_editor_with_another_text_gets_that_of_the_scroll(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        node.text[_AT] = "newer\n"
        buffer = await client.open(_A, "old\n")
        await _settled()
        assert (node.text[_AT], buffer.text) == ("newer\n", "newer\n")


async def test_two_editors_at_one_file_stay_equal(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        one = await client.open(_A, "")
        other = await client.open("file://localhost/notes/a", "")
        await client.edit(_A, one.type(0, 0, "a"))
        await client.edit("file://localhost/notes/a", other.type(0, 0, "b"))
        await _settled()
        assert one.text == other.text == node.text[_AT]
        assert sorted(one.text) == ["a", "b"]


async def test_what_a_scroll_refuses_is_said_and_taken_back(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        node.text[_AT] = "text"
        buffer = await client.open(_A, "text")
        numbers = [
            await client.edit(_A, buffer.type(0, 0, words))
            for words in ("a", "\x17", "\ud800", "b")
        ]
        await _settled()
        assert buffer.text == node.text[_AT] == "batext"
        assert [client.answers[number] for number in numbers[::3]] == ["success", "success"]
        for number, found in zip(numbers[1:3], ("scroll break", "surrogate"), strict=True):
            assert found in str(client.answers[number])


async def test_edits_wait_while_the_disk_is_full(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        buffer = await client.open(_A, "text")
        node.fails_with(StoreFullError("the disk is full"), times=3)
        number = await client.edit(_A, buffer.type(0, 0, "a"))
        await trio.sleep(10)
        assert client.answers[number] == "success"
        assert buffer.text == node.text[_AT] == "atext"


async def test_edits_whose_answer_was_lost_are_made_once(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        buffer = await client.open(_A, "text")
        node.fails_with(StoreFullError("the disk is full"), times=1, after=True)
        await client.edit(_A, buffer.type(0, 0, "a"))
        await trio.sleep(10)
        assert buffer.text == node.text[_AT] == "atext"


async def test_a_file_that_cannot_be_kept_is_said_to_be_so_and_others_go_on(
    autojump_clock: object,
) -> None:
    async with editor_at_node(lambda: 0.1) as (node, client):
        buffer, other = await client.open(_A, "text"), await client.open(f"{_A}b", "")
        await trio.sleep(1)
        node.fails_with(NotHeldError("no holder is reachable"), times=1, name="get")
        node.text[_AT] = "others were faster"
        number = await client.edit(_A, buffer.type(0, 0, "a"))
        await trio.sleep(1)
        assert "no holder is reachable" in str(client.answers[number])
        lost: Json = {"uri": _A, "revision": 0, "delta": []}
        assert "no holder is reachable" in str(await client.ask("edit", lost))
        await client.edit(f"{_A}b", other.type(0, 0, "b"))
        again = await client.open(_A, buffer.text)
        await trio.sleep(1)
        assert (again.text, other.text) == ("others were faster", "b")


async def test_what_is_nonsense_is_said_and_ends_nothing(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        buffer = await client.open(_A, "text")
        nonsense: list[tuple[str, Json]] = [
            ("save", {}),
            ("open", {"uri": _A}),
            ("open", {"uri": "file:///elsewhere/a", "content": ""}),
            ("open", [1]),
            ("edit", {"uri": _A, "revision": "0", "delta": []}),
            ("edit", {"uri": "file:///notes/b", "revision": 0, "delta": []}),
            ("cursor", {"uri": "file:///notes/b", "ranges": []}),
            ("cursor", {"uri": _A}),
            ("cursor", {"uri": _A, "ranges": [1]}),
            ("close", None),
        ]
        for method, parameters in nonsense:
            answer = await client.ask(method, parameters)
            assert isinstance(answer, dict), (method, parameters, answer)
        await client.edit(_A, buffer.type(0, 0, "a"))
        await _settled()
        assert node.text[_AT] == "atext"


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b'{"id": 1}', b"[" * 100_000, b"\xff"])
async def test_what_is_no_request_is_answered_so(autojump_clock: object, body: bytes) -> None:
    async with talk() as (_, stream):
        await stream.send_all(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        (answer,) = Messages().feed(await stream.receive_some())
        assert json.loads(answer)["error"]["code"] in (-32700, -32600)


_NUMBERS = st.sampled_from([0, 0, 1, 2, -1, 1.5, 1 << 70, True, None, "0"])
_PLACES = st.fixed_dictionaries({"line": _NUMBERS}, optional={"character": _NUMBERS})
_RANGES = st.fixed_dictionaries({"start": _PLACES}, optional={"end": _PLACES})
_WORDS = st.sampled_from(["", "x\n", "\0", "\ud83d", 7])
_EDITS = st.fixed_dictionaries({"range": _RANGES}, optional={"replacement": _WORDS})
_PARAMETERS = st.none() | st.fixed_dictionaries(
    {"uri": st.sampled_from([_A, _A, f"{_A}b", "file:///x", 3])},
    optional={
        "content": st.sampled_from(["", "one\ntwo\n", "\ud83d", None]),
        "revision": _NUMBERS,
        "delta": st.lists(_EDITS, max_size=3) | st.none(),
        "ranges": st.lists(_RANGES, max_size=2) | st.none(),
    },
)
_REQUESTS = st.tuples(
    st.sampled_from(["open", "edit", "edit", "cursor", "close", "x"]), _PARAMETERS
)


@given(st.lists(_REQUESTS, max_size=12))
def test_whatever_an_editor_asks_is_answered_and_ends_nothing(
    requests: list[tuple[str, Json]],
) -> None:
    async def ask_each() -> None:
        async with editor_at_node() as (node, client):
            client.hears = False
            buffer = await client.open(_A, "text\n")
            for method, parameters in requests:
                await client.ask(method, parameters)
            await _settled()
            client.hears = True
            buffer = await client.open(_A, buffer.text)
            await client.edit(_A, buffer.type(0, 0, "a"))
            await _settled()
            assert node.text.get(_AT, "") == buffer.text

    trio.run(ask_each, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_an_editor_that_lost_count_is_told_to_open_the_file_again(
    autojump_clock: object,
) -> None:
    async with editor_at_node() as (node, client):
        buffer = await client.open(_A, "text")
        await client.edit(_A, buffer.type(0, 0, "a"))
        lost: Json = {"uri": _A, "revision": 7, "delta": []}
        for _ in range(2):
            assert "open the file again" in str(await client.ask("edit", lost))
        assert node.text[_AT] == "atext"
        again = await client.open(_A, buffer.text)
        await client.edit(_A, again.type(0, 0, "b"))
        await _settled()
        assert node.text[_AT] == "batext"


async def test_a_text_that_no_file_may_hold_gives_it_no_name(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = Files.ask, list[object]()

    def note(files: Files, request: list[Value]) -> Value:
        asked.append(request[0])
        return ask(files, request)

    monkeypatch.setattr(Files, "ask", note)
    async with editor_at_node() as (_, client):
        for content, found in (("a\x17b", "scroll break"), ("a" * (8 << 20) + "a", "split it")):
            assert found in str(await client.ask("open", {"uri": _A, "content": content}))
        assert asked == ["find", "find"]


async def test_an_editor_has_so_many_files_open(autojump_clock: object) -> None:
    async with editor_at_node() as (_, client):
        for number in range(FILES_MAX):
            await client.open(f"file://{'localhost' if number else ''}/notes/{'a' * number}", "")
        answer = await client.ask("open", {"uri": _A + "/b", "content": ""})
        assert f"at most {FILES_MAX} open files" in str(answer)


async def test_what_was_typed_before_the_editor_ended_is_done(autojump_clock: object) -> None:
    async with talk(lambda: 0.5) as (node, stream):
        for message in json.loads(_SESSION.read_text())[:3:2]:
            await stream.send_all(framed(message["message"]))
        assert isinstance(stream, trio.StapledStream)
        await stream.send_stream.aclose()
        await trio.sleep(100)
        assert node.text[_AT] == "bread 🍞\n"


async def test_what_was_typed_before_nonsense_is_done(autojump_clock: object) -> None:
    text: list[str] = []
    with pytest.RaisesGroup(ProtocolError, flatten_subgroups=True):
        async with talk(lambda: 0.5) as (node, stream):
            for message in json.loads(_SESSION.read_text())[:3:2]:
                await stream.send_all(framed(message["message"]))
            await stream.send_all(b"nonsense\r\n\r\n")
            try:
                await trio.sleep(100)
            finally:
                text.append(node.text[_AT])
    assert text == ["bread 🍞\n"]


# -- cursors ---------------------------------------------------------------------------------

_PEER = bytes([7]) * 16


def _here(line: int, character: int) -> Json:
    where: Json = {"line": line, "character": character}
    return {"start": where, "end": where}


def _tell(node: SlowNode, counter: int, facts: list[tuple[str, str | int]]) -> None:
    """Let a peer tell facts of itself."""
    notice = Notice(_PEER, _PEER, counter, 60_000, "there", tuple(facts))
    node.node.presence.receive(0, 1, [notice])


async def test_others_see_where_the_cursor_is(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        buffer = await client.open(_A, "🍃 one\n")
        await client.edit(_A, buffer.type(0, 0, "x"))
        await client.ask("cursor", {"uri": _A, "ranges": [_here(0, 2)]})
        await trio.sleep(2)
        ((place, number), (_, state)) = next(
            iter(told_by(node.node.presence.told_here(b"")).items())
        )
        assert (place, number) == (("memory", Coordinate.parse(_AT)), CLIENT)
        assert json.loads(state)["user"] == {"name": "kiki"}
        head = position_of(json.loads(state)["cursor"]["head"])
        assert head is not None
        assert node.text.offset(_AT, head) == 2
        await client.ask("close", {"uri": _A})
        await trio.sleep(2)
        assert not node.node.presence.told_here(b"")


async def test_an_editor_sees_the_cursors_of_others_until_they_are_gone(
    autojump_clock: object,
) -> None:
    async with editor_at_node() as (node, client):
        node.node.presence.link_opened(0, 1, _PEER)
        await client.open(_A, "a🍃\nbc\n")
        await _settled()
        ends = [end_of(node.text.position(_AT, offset)) for offset in (1, 4)]
        state = {"user": {"name": "m\x1bax"}, "cursor": {"anchor": ends[0], "head": ends[1]}}
        fact = fact_of(("memory", Coordinate.parse(_AT)), 0xAB, 1, state)
        _tell(node, 1, [fact, ("yjs:1", "nonsense"), ("load", 3)])
        await trio.sleep(2)
        _tell(node, 2, [])
        await trio.sleep(2)
        shown: Json = {
            "userid": "ab",
            "name": "m\\x1bax",
            "uri": _A,
            "ranges": [{"start": {"line": 0, "character": 1}, "end": {"line": 1, "character": 1}}],
        }
        assert isinstance(shown, dict)
        assert client.notified == [("cursor", shown), ("cursor", {**shown, "ranges": []})]


async def test_an_editor_sees_the_cursors_of_others_at_its_own_node(autojump_clock: object) -> None:
    async with editor_at_node() as (node, client):
        await client.open(_A, "one\n")
        await client.ask("cursor", {"uri": _A, "ranges": [_here(0, 2)]})
        end = end_of(node.text.position(_AT, 3))
        state = {"user": {"name": "max"}, "cursor": {"anchor": end, "head": end}}
        fact = fact_of(("memory", Coordinate.parse(_AT)), 0xAB, 1, state)
        node.node.presence.publish(dict([fact]), b"another session")
        await trio.sleep(2)
        told: Json = {"userid": "ab", "name": "max", "uri": _A, "ranges": [_here(0, 3)]}
        assert client.notified == [("cursor", told)]  # and not of its own


def test_a_cursor_moves_with_what_others_write() -> None:
    edited = EditedText("one\ntwo\n", "one\ntwo\n")
    edited.place_cursor(_here(1, 1))
    edited.note("zero\none\ntwo\n")
    assert edited.cursor == (10, 10)
    with pytest.raises(ProtocolError, match="expected"):
        edited.place_cursor({"start": 1})


# -- both sides at once ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_random_edits_of_both_sides_end_equal_and_none_is_lost(seed: int) -> None:
    random = Random(seed)
    with repeatable_scheduler(random):
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(_edit_at_random, random, clock=clock)


async def _edit_at_random(random: Random) -> None:
    me = Writer(random, 0x1F300, has_lines=True)
    others = Writer(random, 0x400, has_lines=False)
    async with editor_at_node(lambda: random.choice([0.0, 0.1, 1.0])) as (node, client):
        node.text[_AT] = others.edit("")[2] + "\n"
        buffer = await client.open(_A, node.text[_AT])
        for _ in range(60):
            if random.random() < 0.5:
                await client.edit(_A, buffer.type(*me.edit(buffer.text)))
            else:
                start, stop, words = others.edit(node.text.get(_AT, ""))
                node.replace(_AT, start, stop, words)
            await trio.sleep(random.choice([0.0, 0.1, 2.0]))
        await trio.sleep(1000)
        text = node.text.get(_AT, "")
        assert buffer.text == text
        assert {*text} - {"\n"} == ((me.put_in | others.put_in) - me.deleted - others.deleted)
        assert len(text.replace("\n", "")) == len({*text} - {"\n"})


# -- the command -----------------------------------------------------------------------------


@pytest.mark.real
def test_the_command_serves_an_editor_at_a_file_that_the_node_keeps(tmp_path: Path) -> None:
    with mesh(tmp_path, ["here"], options=("--no-mdns", "--port", "0")) as (node,):
        notes = tmp_path / "notes"
        CommandUser(node.folder).out("bind", str(notes), "--at", "7.*")
        (notes / "a.md").write_text("bread\n")
        node.start()
        uri = (notes / "a.md").as_uri()
        command = [sys.executable, "-m", "phextsync.cli", "editor", "--data", str(node.folder)]
        opened, typed = (
            {"uri": uri, "content": "bread\n"},
            EditorBuffer("bread\n").type(5, 5, " 🍞"),
        )
        edit: Json = {"uri": uri, "revision": typed[0], "delta": typed[1]}
        requests = [("open", opened), ("edit", edit)]
        said = b"".join(
            framed({"id": number, "method": method, "params": parameters})
            for number, (method, parameters) in enumerate(requests, 1)
        )
        done = subprocess.run(command, input=said, capture_output=True, timeout=PATIENCE_S)
        assert (done.returncode, done.stderr) == (0, b"")
        told = [json.loads(message) for message in Messages().feed(done.stdout)]
        assert [answer for answer in told if "id" in answer] == [
            {"jsonrpc": "2.0", "id": number, "result": "success"} for number in (1, 2)
        ]
        node.wait_until(lambda _: (notes / "a.md").read_text() == "bread 🍞\n")
        assert "editor" in CommandUser(node.folder).out("log", str(notes / "a.md"))


@pytest.mark.real
def test_without_a_node_the_command_says_what_to_do(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    assert "start one with `phextsync up`" in CommandUser(folder).error("editor")
