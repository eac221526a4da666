"""Clients of web sockets that do what they are told, and servers of theirs in virtual time."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from starlette.types import ASGIApp
from trio.testing import memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)

from phextsync.gateways.guard import Guard
from phextsync.gateways.http1 import ByteBudget
from phextsync.testing import MemoryMesh
from phextsync.waiting import Waiting
from phextsync.web.app import WebApp
from phextsync.web.limits import WebLimits
from phextsync.web.requests import Requests
from tests.web_nodes import AT, HOST

PATH = f"/sync/memory/{AT}"


class Socket:
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

    async def send_text(self, text: str) -> None:
        await self.stream.send_all(self._socket.send(TextMessage(data=text)))

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


def requests_of(
    stream: trio.abc.Stream, app: ASGIApp, answers: ByteBudget | None = None
) -> Requests:
    """Return what serves an application over a stream."""
    limits = WebLimits()
    under_way = ByteBudget(limits.under_way_bytes_max, limits.small_bytes, "messages")
    return Requests(
        stream,
        app,
        limits,
        under_way,
        answers or ByteBudget(limits.answers_bytes_max, limits.small_bytes, "answers"),
        waiting=Waiting(),
        is_secure=False,
        client=None,
    )


def with_app(token: str | None, body: Callable[[WebApp, trio.Nursery], Awaitable[None]]) -> None:
    """Run `body` with the application of a node, and a nursery for its connections."""
    mesh = MemoryMesh(1, 1)

    async def main() -> None:
        await mesh.run_until(mesh.now + 0.01)
        app = WebApp(mesh.node(0), Guard(token, own_names=lambda: ()), now_s=lambda: 0)
        async with trio.open_nursery() as nursery:
            await body(app, nursery)
            nursery.cancel_scope.cancel()

    mesh.run(main)


async def opened_by(
    app: WebApp,
    nursery: trio.Nursery,
    path: str = PATH,
    pair: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
) -> Socket:
    """Return a client's socket that an application has accepted, over `pair` if that is given."""
    ours, theirs = pair or memory_stream_pair()

    async def serve() -> None:
        with suppress(trio.BrokenResourceError):
            await requests_of(ours, app.asgi).answer_all()
        await trio.aclose_forcefully(ours)

    nursery.start_soon(serve)
    opened = Socket(theirs)
    await opened.open(path)
    return opened
