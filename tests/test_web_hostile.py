"""Clients of the web server that mean harm: they end themselves, and the node goes on."""

import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked
from wsproto.events import (
    BytesMessage,
    Ping,
)
from wsproto.frame_protocol import FrameProtocol

from phextsync.gateways.guard import Guard
from phextsync.gateways.http1 import ByteBudget
from phextsync.varints import varints
from phextsync.web.app import WebApp
from phextsync.web.lib0 import sized, sized_text
from phextsync.web.limits import WebLimits
from phextsync.web.login import Login
from tests.web_nodes import AT, HOST, make_identity, web_node
from tests.web_sockets import PATH, Socket, opened_by, requests_of, with_app

pytestmark = pytest.mark.real

_STEP_1 = varints(0, 0) + sized(b"\0")


@asynccontextmanager
async def _open(port: int, path: str = PATH) -> AsyncIterator[Socket]:
    async with await trio.open_tcp_stream(HOST, port) as stream:
        opened = Socket(stream)
        await opened.open(path)
        yield opened


def _aware(client: int, state: str) -> bytes:
    return varints(1) + sized(varints(1, client, 1) + sized_text(state))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", 4400),
        (b"\xff" * 30, 4400),
        (varints(9), 4400),
        (varints(0, 7) + sized(b""), 4400),
        (varints(0, 0) + sized(b"\xff\xff"), 4422),
        (varints(0, 2) + sized(b"\x05\xff\xff\xff"), 4422),
        (varints(0, 2) + varints(1 << 40), 4400),
        (_aware(1, '{"x": "%s"}' % ("y" * 5000)), 4400),
        (_aware(1, "no JSON"), 4400),
        (_aware(1, "[" * 4000), 4400),
    ],
)
async def test_nonsense_ends_its_own_socket_with_a_code(
    message: bytes, code: int, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        async with _open(port) as hostile:
            await hostile.send(message)
            end = await hostile.end()
        assert end.code == code
        assert end.reason
        await _still_serves(port)
        assert AT not in node.phext()


@pytest.mark.parametrize("path", ["memory/1.2", ".clients/" + AT, "a%5Cb/" + AT])
async def test_what_is_no_scroll_is_closed_as_one_that_there_is_not(
    path: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port), _open(port, f"/sync/{path}") as client:
        assert (await client.end()).code == 4404
        assert node.replicas.names() == []


async def _still_serves(port: int) -> None:
    async with _open(port) as honest:
        await _is_answered(honest)


async def _is_answered(honest: Socket) -> None:
    await honest.send(_STEP_1)
    while not (isinstance(event := await honest.next(), BytesMessage) and _is_step_2(event)):
        pass


def _is_step_2(event: BytesMessage) -> bool:
    return bytes(event.data[:2]) == varints(0, 1)


async def test_a_client_that_takes_nothing_is_left(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    limits = WebLimits()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * 1000})

    async def ask() -> None:
        opened = Socket(theirs)
        await opened.open(PATH)
        await trio.sleep_forever()

    requests = requests_of(ours, app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError, match="takes nothing"):
            await requests.answer_all()
        assert trio.current_time() - began == pytest.approx(limits.send_s)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["bytes", "text", "response"])
async def test_clients_that_take_nothing_of_large_answers_hold_a_bound(
    autojump_clock: MockClock, kind: str
) -> None:
    is_socket = kind != "response"
    large, small, answers = "😀".encode() * 25_000, b"y" * 100, ByteBudget(150_000, 200, "answers")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        data = small if scope["path"] == "/small" else large
        if is_socket:
            await send({"type": "websocket.accept"})
            said = {"text": data.decode()} if kind == "text" else {"bytes": data}
            await send({"type": "websocket.send", **said})
            await receive()
        else:
            await Response(data)(scope, receive, send)

    async def serve(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.TooSlowError):
            await requests_of(stream, app, answers).answer_all()
        await trio.aclose_forcefully(stream)

    async def ask(path: str, pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]) -> bytes:
        """Ask, and read nothing but the head of what is answered; return what more is there."""
        ours, theirs = pair()
        nursery.start_soon(serve, ours)
        if is_socket:
            opened = Socket(theirs)
            await opened.open(path)
        else:
            await theirs.send_all(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        await wait_all_tasks_blocked()
        if pair is lockstep_stream_pair:
            return b""
        return bytes(await theirs.receive_some())

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            await ask("/large", lockstep_stream_pair)
        assert answers.size == 2 * len(large)  # the bound, beside the largest
        refused = await ask("/large", memory_stream_pair)
        assert large not in refused
        assert (b"\x03\xf5" if is_socket else b"503 ") in refused  # 1013: try again later
        assert small in await ask("/small", memory_stream_pair)
        await trio.sleep(2 * WebLimits().send_s)
        assert answers.size == 0
        nursery.cancel_scope.cancel()


async def test_a_message_that_is_too_large_ends_its_socket(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, limits=WebLimits(message_bytes_max=10_000)) as (_, port):
        async with _open(port) as hostile:
            await hostile.send(b"\0" * 10_001)
            assert (await hostile.end()).code == 1009
        await _still_serves(port)


async def test_a_text_is_counted_by_its_bytes(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, limits=WebLimits(message_bytes_max=10_000)) as (_, port):
        async with _open(port) as hostile:
            await hostile.send_text("\U0001f600" * 2501)
            assert (await hostile.end()).code == 1009
        await _still_serves(port)


@pytest.mark.parametrize(
    "part", [b"GET / HTT", b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_of_connections_that_only_wait_the_oldest_gives_way_to_a_newcomer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: bytes
) -> None:
    make_identity(tmp_path)
    async with (
        web_node(tmp_path, limits=WebLimits(connections_max=2)) as (_, port),
        await trio.open_tcp_stream(HOST, port) as idle,
        _open(port),
    ):
        await idle.send_all(part)
        async with _open(port) as newcomer, await trio.open_tcp_stream(HOST, port) as late:
            assert await idle.receive_some() == b""
            await late.send_all(b"GET / HTT")
            assert (await late.receive_some()).startswith(b"HTTP/1.1 503 ")
            await _is_answered(newcomer)
    assert not caplog.records


async def test_a_client_that_resets_its_connection_at_once_is_no_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        gone = [socket.create_connection((HOST, port)) for _ in range(20)]
        for client in gone:  # before the server has had a turn
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await _still_serves(port)
    assert not caplog.records


# -- one connection, in virtual time -------------------------------------------------------


class _Bodies:
    """An application that reads bodies, and keeps the pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_more = True
        while has_more:
            message = await receive()
            self.pieces.append(message["body"])
            has_more = message["more_body"]
        await PlainTextResponse("taken")(scope, receive, send)


_POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


async def _answers(sent: bytes, app: ASGIApp) -> bytes:
    """Return what is answered to a client that sends something and then ends."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(requests_of(ours, app).answer_all)
        await theirs.send_all(sent)
        await theirs.send_eof()
        return b"".join([bytes(piece) async for piece in theirs])


@pytest.mark.parametrize(
    "sent",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 9\r\n\r\nabc",
    ],
)
async def test_a_body_whose_end_is_not_clear_is_refused_and_ends_the_connection(
    sent: bytes, autojump_clock: MockClock
) -> None:
    app = _Bodies()
    answer = await _answers(_POST + sent, app)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


async def test_a_body_of_tiny_pieces_is_given_on_in_large_ones(autojump_clock: MockClock) -> None:
    app = _Bodies()
    sent = b"2\r\nab\r\n" * 40_000
    answer = await _answers(
        _POST + b"Transfer-Encoding: chunked\r\n\r\n" + sent + b"0\r\n\r\n", app
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"".join(app.pieces) == b"ab" * 40_000
    assert len(app.pieces) < 5


async def test_a_body_that_comes_too_slowly_as_a_whole_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    limits = WebLimits()
    began = trio.current_time()

    async def drip() -> None:
        await theirs.send_all(_POST + b"Content-Length: 1000\r\n\r\n")
        while True:
            await theirs.send_all(b"x")
            await trio.sleep(limits.body_s / 3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with pytest.raises(trio.TooSlowError):
            await requests_of(ours, _Bodies()).answer_all()
        assert trio.current_time() - began == pytest.approx(limits.body_s)
        nursery.cancel_scope.cancel()


async def test_a_message_in_countless_frames_leaves_others_their_turn(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    others = 0
    got: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        got.append((await receive())["bytes"])

    async def turns() -> None:
        nonlocal others
        while True:
            await trio.lowlevel.checkpoint()
            others += 1

    frames = FrameProtocol(client=True, extensions=[])
    sent = b"".join(frames.send_data(b"", False) + frames.pong() for _ in range(4000))
    async with trio.open_nursery() as nursery:
        opened = Socket(theirs)
        nursery.start_soon(requests_of(ours, app).answer_all)
        await opened.open(PATH)
        nursery.start_soon(turns)
        await theirs.send_all(sent + frames.send_data(b"end", True))
        while not got:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert got == [b"end"]
    assert others > 8000


async def test_a_message_in_countless_frames_costs_its_bytes(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    got: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        got.append((await receive())["bytes"])

    frames = FrameProtocol(client=True, extensions=[])
    count = 10_000
    async with trio.open_nursery() as nursery:
        opened = Socket(theirs)
        nursery.start_soon(requests_of(ours, app).answer_all)
        await opened.open(PATH)
        tracemalloc.start()
        for _ in range(count):
            await theirs.send_all(frames.send_data(b"ab", False))
            await wait_all_tasks_blocked()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        await theirs.send_all(frames.send_data(b"", True))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert got == [b"ab" * count]
    assert size < 10 * count


async def test_a_cookie_is_found_among_those_of_neighbours() -> None:
    login = Login(Guard("secret"), is_secure=False)
    ours = login.cookie(0).partition(";")[0]
    for neighbours in ('x={"a": 1}', "phextsync=junk", "a=b c; [=", "phextsync=", "\xe9"):
        assert login.is_in(f"{neighbours}; {ours}", 1)
        assert login.is_in(f"{ours}; {neighbours}", 1)
        assert not login.is_in(neighbours, 1)
    assert not login.is_in("; ".join([f"phextsync=1{'0' * 10}.00"] * 5000), 1)


# -- a whole node, in virtual time ---------------------------------------------------------


def test_a_socket_that_is_silent_is_left_and_one_that_answers_stays() -> None:
    async def body(app: WebApp, nursery: trio.Nursery) -> None:
        silent, lively = await opened_by(app, nursery), await opened_by(app, nursery)
        until = trio.current_time() + 2 * WebLimits().silent_s
        while trio.current_time() < until:
            while not isinstance(event := await lively.next(), Ping):
                pass
            await lively.answer(event)
        with pytest.raises(EOFError), trio.fail_after(WebLimits().ping_s):
            await silent.end()
        await _is_answered(lively)

    with_app(None, body)


def test_a_socket_of_hocuspocus_without_a_token_is_closed_in_time() -> None:
    async def body(app: WebApp, nursery: trio.Nursery) -> None:
        for sent in (b"", sized_text(f"memory/{AT}") + varints(2, 0) + sized_text("wrong")):
            began = trio.current_time()
            hostile = await opened_by(app, nursery, "/hocuspocus")
            if sent:
                await hostile.send(sent)
            assert (await hostile.end()).code == 4408
            assert trio.current_time() - began == pytest.approx(WebLimits().token_s)

    with_app("secret", body)


def test_wrong_tokens_hold_up_nobody_else() -> None:
    async def log_in(app: WebApp, token: bytes) -> tuple[bytes, float]:
        began = trio.current_time()
        body = b"Content-Length: %d\r\n\r\ntoken=%s" % (len(token) + 6, token)
        answer = await _answers(_POST.replace(b"/", b"/login", 1) + body, app.asgi)
        return answer.split()[1], trio.current_time() - began

    async def body(app: WebApp, nursery: trio.Nursery) -> None:
        for _ in range(20):
            nursery.start_soon(log_in, app, b"wrong")
        await wait_all_tasks_blocked()
        assert await log_in(app, b"secret") == (b"303", 0)
        status, took_s = await log_in(app, b"wrong")
        assert status == b"401"
        assert took_s > 0.1

    with_app("secret", body)
