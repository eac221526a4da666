"""What clients of the MCP server over HTTP may take, and what becomes of those that take more."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, cast

import httpx2
import pytest
import uvicorn
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from phextsync.boundaries import Boundary
from phextsync.gateways.mcp_bounds import Sessions, TimedConnection
from phextsync.gateways.mcp_server import PATH, _Served
from tests.descriptors import few_descriptors
from tests.mcp_messages import HEADERS, INITIALIZE

# -- sessions ------------------------------------------------------------------------------


class _App:
    """An application with sessions, which ends those that are deleted."""

    def __init__(self) -> None:
        self.sessions: list[bytes] = []
        self.release = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = dict(scope["headers"]).get(b"mcp-session-id")
        status = 200
        if session is None:
            session = b"%d" % len(self.sessions)
            self.sessions.append(session)
        elif scope["method"] == "DELETE":
            self.sessions[self.sessions.index(session)] = b""
        elif scope["method"] == "GET":
            await self.release.wait()
        elif session not in self.sessions:
            status = 404
        headers = [(b"mcp-session-id", session)]
        await send({"type": "http.response.start", "status": status, "headers": headers})


async def _ask(door: Sessions, method: str = "POST", session: bytes | None = None) -> Message:
    headers = [] if session is None else [(b"mcp-session-id", session)]
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        answers.append(message)

    await door({"type": "http", "method": method, "headers": headers}, receive, send)
    return answers[0]


def _at(use: Callable[[_App, Sessions, list[float]], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        app, now = _App(), [0.0]
        await use(app, Sessions(app, PATH, sessions_max=3, now_s=lambda: now[0]), now)

    asyncio.run(main())


def test_where_there_is_no_room_the_session_that_was_idle_for_longest_ends() -> None:
    async def use(app: _App, door: Sessions, now: list[float]) -> None:
        for _ in range(3):
            await _ask(door)
        now[0] = 50
        await _ask(door, session=b"0")
        now[0] = 59
        await _ask(door)
        assert app.sessions == [b"0", b"1", b"2", b"3"], "none was idle for a minute"
        app.sessions.remove(b"3")  # which the application itself had refused
        now[0] = 61
        await _ask(door)
        assert app.sessions[:3] == [b"0", b"", b"2"]

    _at(use)


def test_a_session_with_a_request_under_way_is_not_idle() -> None:
    async def use(app: _App, door: Sessions, now: list[float]) -> None:
        for _ in range(3):
            await _ask(door)
        streams = [asyncio.create_task(_ask(door, "GET", b"%d" % i)) for i in range(3)]
        await asyncio.sleep(0)
        now[0] = 4000
        await _ask(door)
        assert app.sessions == [b"0", b"1", b"2", b"3"]
        app.release.set()
        await asyncio.gather(*streams)
        now[0] = 4100
        await _ask(door)
        assert b"" in app.sessions

    _at(use)


def test_sessions_that_are_over_take_no_room() -> None:
    async def use(app: _App, door: Sessions, now: list[float]) -> None:
        for _ in range(3):
            await _ask(door)
        await _ask(door, "DELETE", b"0")
        app.sessions[1] = b"ended"
        assert (await _ask(door, session=b"1"))["status"] == 404
        now[0] = 100
        await _ask(door)
        await _ask(door)
        assert app.sessions == [b"", b"ended", b"2", b"3", b"4"]
        now[0] = 10_000  # all have ended by themselves
        await _ask(door)
        assert app.sessions[2:] == [b"2", b"3", b"4", b"5"]

    _at(use)


def test_the_sdk_ends_the_session_that_yields() -> None:
    async def main() -> None:
        server: Server[None] = Server("test")
        now = [0.0]
        unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        inner = server.streamable_http_app(
            streamable_http_path=PATH, max_sessions=2, transport_security=unguarded
        )
        door = Sessions(inner, PATH, sessions_max=2, now_s=lambda: now[0])
        transport = httpx2.ASGITransport(app=door)
        async with (
            server.session_manager.run(),
            httpx2.AsyncClient(
                transport=transport, base_url="http://localhost:80", headers=HEADERS
            ) as http,
        ):
            answers = [await http.post(PATH, json=INITIALIZE) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 503]
            now[0] = 60.0
            answers.append(await http.post(PATH, json=INITIALIZE))
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            statuses = [
                (await http.post(PATH, json=ping, headers={"mcp-session-id": session})).status_code
                for answer in answers
                if (session := answer.headers.get("mcp-session-id"))
            ]
            assert [answers[-1].status_code, *statuses] == [200, 404, 200, 200]

    asyncio.run(main())


# -- subscriptions -------------------------------------------------------------------------


class _Told:
    """A session that takes what it is told, or not."""

    def __init__(self, *, takes: bool) -> None:
        self.uris: list[str] = []
        self._takes = takes

    async def send_resource_updated(self, uri: str) -> None:
        if not self._takes:
            await asyncio.Event().wait()
        self.uris.append(uri)


def test_a_session_that_takes_nothing_keeps_no_other_waiting() -> None:
    async def main() -> None:
        served = _Served(cast("Any", None), Boundary(logging.getLogger()))
        sessions = [_Told(takes=False), _Told(takes=True), _Told(takes=False), _Told(takes=True)]
        for number, session in enumerate(sessions):
            served._subscribed[str(number), "phext://n/x"] = cast("Any", session)
        telling = asyncio.create_task(served._tell_subscribers("phext://n/x"))
        for _ in range(10):
            await asyncio.sleep(0)
        telling.cancel()
        assert [session.uris for session in sessions] == [[], ["phext://n/x"]] * 2

    asyncio.run(main())


def test_a_client_listens_to_so_many_resources_and_no_more() -> None:
    async def main() -> None:
        served = _Served(cast("Any", None), Boundary(logging.getLogger()))
        uris = [f"phext://memory/1.1.1/1.1.1/1.{i}.{j}" for i in range(1, 12) for j in range(1, 99)]
        params = types.SubscriptionsListenRequestParams.model_validate(
            {"notifications": {"resourceSubscriptions": uris}}, by_name=False
        )
        with pytest.raises(MCPError, match="expected at most 1000 resources, found 1078"):
            await served._listen(cast("Any", None), params)

    asyncio.run(main())


# -- connections ---------------------------------------------------------------------------


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        """It is."""

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody reads it."""


class _Clock(asyncio.SelectorEventLoop):
    """A loop whose time moves only by hand."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(3):
            self.call_soon(self.stop)
            self.run_forever()


async def _never(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def loop() -> _Clock:
    return _Clock()


def _connected(loop: _Clock, state: ServerState) -> tuple[TimedConnection, _Transport]:
    config = uvicorn.Config(_never, log_config=None, lifespan="off", limit_concurrency=2)
    connection, transport = TimedConnection(config, state, {}, loop), _Transport()
    connection.connection_made(transport)
    return connection, transport


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
    ],
    ids=["nothing", "a head that never ends", "a body that never ends"],
)
def test_a_request_that_never_comes_whole_is_not_waited_for(loop: _Clock, sent: bytes) -> None:
    connection, transport = _connected(loop, ServerState())
    for at in range(len(sent)):
        connection.data_received(sent[at : at + 1])
        loop.pass_(0.5)
    loop.pass_(59 - len(sent) / 2)
    assert not transport.is_aborted
    loop.pass_(2)
    assert transport.is_aborted
    connection.connection_lost(None)
    loop.pass_(1)
    loop.close()


def test_a_request_that_came_whole_may_be_answered_for_as_long_as_it_takes(loop: _Clock) -> None:
    connection, transport = _connected(loop, ServerState())
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    loop.pass_(10_000)
    assert not transport.is_aborted
    connection.connection_lost(None)
    loop.pass_(1)
    loop.close()


def test_a_client_that_takes_nothing_of_an_answer_is_left(loop: _Clock) -> None:
    connection, transport = _connected(loop, ServerState())
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(3):
        connection.pause_writing()
        loop.pass_(59)
        connection.resume_writing()
    loop.pass_(59)
    assert not transport.is_aborted
    connection.pause_writing()
    loop.pass_(61)
    assert transport.is_aborted
    connection.connection_lost(None)
    loop.pass_(1)
    loop.close()


def test_connections_beyond_all_bounds_are_closed_at_once(loop: _Clock) -> None:
    state = ServerState()
    made = [_connected(loop, state) for _ in range(5)]
    assert [transport.is_aborted for _, transport in made] == [False] * 4 + [True]
    for connection, _ in made:
        connection.connection_lost(None)
    assert not _connected(loop, state)[1].is_aborted
    loop.close()


def test_a_connection_that_leaves_others_too_few_descriptors_is_closed_at_once(
    loop: _Clock,
) -> None:
    with few_descriptors(1):
        connection, transport = _connected(loop, ServerState())
    assert transport.is_aborted
    connection.connection_lost(None)
    loop.close()
