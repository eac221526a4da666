"""What clients of the MCP server over HTTP may take: sessions, connections, and time.

The SDK bounds sessions and ends idle ones late; uvicorn waits for a request for as long as its
client likes. Both are kept as they are, and stood in front of.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from phextsync.sockets import FOR_PEERS, are_left

SESSIONS_MAX: Final = 256
SESSION_IDLE_S: Final = 30 * 60.0
"""After which a session ends in any case."""
CONNECTIONS_MAX: Final = 512
"""One more is answered 503, and closed without an answer while as many again are open."""
REQUEST_S: Final = 60.0
"""From the first byte that is awaited to the end of a request."""
TAKE_S: Final = 60.0
"""For a client to take what waits for it."""

_YIELDS_S: Final = 60.0  # a session that was idle for so long ends where there is no room
_SESSION: Final = b"mcp-session-id"


class Sessions:
    """An ASGI application in which the session that was idle for longest ends when a client begins
    one and there is no room, if it was idle for a minute."""

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        *,
        sessions_max: int = SESSIONS_MAX,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._path = path
        self._sessions_max = sessions_max
        self._now_s = now_s
        self._idle_since: dict[bytes, float] = {}
        self._requests: Counter[bytes] = Counter()  # under way, of each session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        session = dict(scope["headers"]).get(_SESSION)
        if session is None:
            await self._make_room()
        elif session in self._idle_since:
            self._requests[session] += 1
        begun, status = b"", 0

        async def watch(message: Message) -> None:
            nonlocal begun, status
            if message["type"] == "http.response.start":
                status = message["status"]
                begun = dict(message.get("headers", ())).get(_SESSION, b"")
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            if session is not None:
                self._answered(session, is_over=status == 404 or scope["method"] == "DELETE")
            elif begun and status < 400:
                self._idle_since[begun] = self._now_s()

    def _answered(self, session: bytes, *, is_over: bool) -> None:
        if session in self._idle_since:
            self._idle_since[session] = self._now_s()
            self._requests[session] -= 1
            if is_over:
                self._forget(session)

    def _forget(self, session: bytes) -> None:
        self._idle_since.pop(session, None)
        self._requests.pop(session, None)

    async def _make_room(self) -> None:
        """Let one session end, if there is no room for another."""
        if len(self._idle_since) < self._sessions_max:
            return
        now = self._now_s()
        idle = [session for session in self._idle_since if not self._requests[session]]
        for session in idle:
            if now - self._idle_since[session] > SESSION_IDLE_S:
                self._forget(session)  # it has ended by itself
        if len(self._idle_since) < self._sessions_max or not idle:
            return
        longest = min(idle, key=self._idle_since.__getitem__)
        if now - self._idle_since[longest] >= _YIELDS_S:
            self._forget(longest)
            await self._end(longest)

    async def _end(self, session: bytes) -> None:
        """Ask for the end of a session as its client would."""
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": "DELETE",
            "path": self._path,
            "raw_path": self._path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (_SESSION, session)],
            "client": None,
            "server": None,
        }
        await self._app(scope, _nothing_more, _ignore)


async def _nothing_more() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _ignore(message: Message) -> None:
    """Nobody waits for the answer."""


class TimedConnection(asyncio.Protocol):
    """A connection of uvicorn that is closed when a request takes too long to come or an answer to
    be taken, or when too many are open."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._http = H11Protocol(config, server_state, app_state, _loop)
        self._connections = server_state.connections
        self._connections_max = config.limit_concurrency
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._http.connection_made(transport)
        is_many = self._connections_max and len(self._connections) > 2 * self._connections_max
        if is_many or not are_left(FOR_PEERS):
            transport.abort()
        else:
            self._await_request()

    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)
        cycle = self._http.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            self._await_request()
        else:
            self._stop_timer()

    def eof_received(self) -> None:
        self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_taking()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._taking = self._http.loop.call_later(TAKE_S, self._transport.abort)
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._stop_taking()
        self._http.resume_writing()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _await_request(self) -> None:
        assert self._transport is not None
        if self._timer is None:
            self._timer = self._http.loop.call_later(REQUEST_S, self._transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
