"""Clients of the web server that mean harm: they end themselves, and the node goes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from starlette.types import Receive, Scope, Send
from trio.testing import MockClock, lockstep_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Request

from phextsync.gateways.http1 import ByteBudget
from phextsync.varints import varints
from phextsync.web.lib0 import sized, sized_text
from phextsync.web.limits import WebLimits
from phextsync.web.requests import Requests
from tests.web_nodes import AT, HOST, make_identity, web_node

pytestmark = pytest.mark.real

_QUICK = WebLimits(ping_s=0.05, silent_s=0.2, send_s=0.2, token_s=0.2, head_s=0.5)
_PATH = f"/sync/memory/{AT}"
_STEP_1 = varints(0, 0) + sized(b"\0")


class _Socket:
    """A web socket whose client does what it is told, and no more."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._socket = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def open(self, path: str) -> None:
        await self.stream.send_all(self._socket.send(Request(host=HOST, target=path)))
        assert isinstance(await self.next(), AcceptConnection)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(self._socket.send(BytesMessage(data=data)))

    async def answer(self, ping: Ping) -> None:
        await self.stream.send_all(self._socket.send(ping.response()))

    async def next(self) -> Event:
        while not self._events:
            data = bytes(await self.stream.receive_some(65536))
            if not data:
                raise EOFError
            self._socket.receive_data(data)
            self._events = list(self._socket.events())
        return self._events.pop(0)

    async def end(self) -> CloseConnection:
        """Wait for the end; return what it says."""
        while not isinstance(event := await self.next(), CloseConnection):
            pass
        return event


@asynccontextmanager
async def _open(port: int, path: str = _PATH) -> AsyncIterator[_Socket]:
    async with await trio.open_tcp_stream(HOST, port) as stream:
        opened = _Socket(stream)
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


async def _still_serves(port: int) -> None:
    async with _open(port) as honest:
        await honest.send(_STEP_1)
        while not (isinstance(event := await honest.next(), BytesMessage) and _is_step_2(event)):
            pass


def _is_step_2(event: BytesMessage) -> bool:
    return bytes(event.data[:2]) == varints(0, 1)


async def test_a_socket_that_is_silent_is_left_and_one_that_answers_stays(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with (
        web_node(tmp_path, limits=_QUICK) as (_, port),
        _open(port) as silent,
        _open(port) as lively,
    ):
        for _ in range(8):  # twice as long as silence is borne
            while not isinstance(event := await lively.next(), Ping):
                pass
            await lively.answer(event)
        with pytest.raises(EOFError):
            await silent.end()


async def test_a_client_that_takes_nothing_is_left(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    limits = WebLimits()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * 1000})

    async def ask() -> None:
        opened = _Socket(theirs)
        await opened.open(_PATH)
        await trio.sleep_forever()

    under_way = ByteBudget(1 << 20, 1 << 10, "messages")
    requests = Requests(ours, app, limits, under_way, is_secure=False, client=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError, match="takes nothing"):
            await requests.answer_all()
        assert trio.current_time() - began == pytest.approx(limits.send_s)
        nursery.cancel_scope.cancel()


async def test_a_socket_of_hocuspocus_without_a_token_is_closed_in_time(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, limits=_QUICK, token="secret") as (_, port):
        async with _open(port, "/hocuspocus") as hostile:
            assert (await hostile.end()).code == 4408
        async with _open(port, "/hocuspocus") as hostile:
            await hostile.send(sized_text(f"memory/{AT}") + varints(2, 0) + sized_text("wrong"))
            assert (await hostile.end()).code == 4408


async def test_a_message_that_is_too_large_ends_its_socket(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, limits=WebLimits(message_bytes_max=10_000)) as (_, port):
        async with _open(port) as hostile:
            await hostile.send(b"\0" * 10_001)
            assert (await hostile.end()).code == 1009
        await _still_serves(port)
