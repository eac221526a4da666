"""Agents at the web server: the Model Context Protocol behind its guard, and what bridges loops."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from mcp import types
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phextsync.errors import PhextsyncError
from phextsync.web.asyncio_app import AsyncioApp
from tests.mcp_messages import HEADERS, INITIALIZE
from tests.page_attacks import attacks_of_pages
from tests.web_nodes import AT, HOST, PATIENCE_S, ask, make_identity, web_node

pytestmark = [
    pytest.mark.real,
    # Of the SDK's client: what it leaves open under trio, and that handshakes are of old.
    pytest.mark.filterwarnings("ignore:.*async_generator:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


async def _call(client: Client, name: str, **arguments: object) -> str:
    result = await client.call_tool(name, arguments)
    return "\n".join(item.text for item in result.content if isinstance(item, types.TextContent))


# -- the protocol ----------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["2026-07-28", "legacy"])
async def test_agents_use_the_web_server_as_they_use_the_server_of_their_own(
    era: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "of the node\n"
        async with Client(f"http://{HOST}:{port}/mcp", mode=era) as client:
            await _call(client, "append", coordinate=AT, text="of the agent")
            assert node.phext()[AT] == "of the node\nof the agent\n"
            assert "of the agent" in await _call(client, "read", coordinate=AT)


async def test_an_agent_is_told_of_changes(tmp_path: Path) -> None:
    make_identity(tmp_path)
    uri = f"phext://memory/{AT}"
    async with (
        web_node(tmp_path) as (node, port),
        Client(f"http://{HOST}:{port}/mcp", mode="2026-07-28") as client,
        client.listen(resource_subscriptions=[uri]) as events,
    ):
        node.phext()[AT] = "changed"
        assert await anext(aiter(events)) == ResourceUpdated(uri)


async def test_agents_are_behind_the_guard_of_the_web_server(tmp_path: Path) -> None:
    make_identity(tmp_path)
    once = httpx2.Limits(max_keepalive_connections=0)  # a refusal ends its connection
    async with (
        web_node(tmp_path) as (_, port),
        httpx2.AsyncClient(timeout=PATIENCE_S, limits=once) as http,
    ):
        url = f"http://{HOST}:{port}/mcp"
        for attack in attacks_of_pages(port):
            for method in ("POST", "DELETE"):
                headers = {**HEADERS, **attack}
                asked = await http.request(method, url, json=INITIALIZE, headers=headers)
                assert asked.status_code == 403, attack
        assert (await http.post(url, json=INITIALIZE, headers=HEADERS)).status_code == 200


async def test_agents_show_the_token_of_the_web_server(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, token="secret") as (_, port):
        url = f"http://{HOST}:{port}/mcp"
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
            assert (await http.post(url, json=INITIALIZE)).status_code == 401
        async with (
            httpx2.AsyncClient(
                headers={"Authorization": "Bearer secret"}, timeout=PATIENCE_S
            ) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            assert "no peer is connected" in await _call(client, "peers")


async def test_an_agent_that_leaves_in_a_request_ends_nobody_and_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        head = (
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Accept: {HEADERS['Accept']}\r\nContent-Length: 500\r\n\r\n{{"
        )
        for _ in range(5):
            stream = await trio.open_tcp_stream(HOST, port)
            await stream.send_all(head.encode())
            await stream.aclose()
        async with Client(f"http://{HOST}:{port}/mcp") as client:
            assert "no peer is connected" in await _call(client, "peers")
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


async def test_without_their_packages_agents_are_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_identity(tmp_path)
    monkeypatch.setattr("phextsync.web.app.find_spec", lambda name: None)
    async with web_node(tmp_path) as (_, port):
        status, _, body = await ask(port, "GET", "/mcp")
        assert (status, b"pip install 'phextsync[mcp]'" in body) == (501, True)


# -- two loops -------------------------------------------------------------------------------


class _Client:
    """What a server of trio gives an application, and gets from it."""

    def __init__(self, *bodies: bytes) -> None:
        self.said: list[Message] = []
        self.is_gone = trio.Event()
        self._bodies = [*bodies]

    async def receive(self) -> Message:
        if self._bodies:
            body = self._bodies.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._bodies)}
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.said.append(message)


@asynccontextmanager
async def _in_trio(app: ASGIApp) -> AsyncIterator[AsyncioApp]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[ASGIApp]:
        yield app

    bridged = AsyncioApp(opened)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridged.run)
            yield bridged
            nursery.cancel_scope.cancel()


async def test_messages_pass_both_ways_in_their_order() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        has_more = True
        while has_more:
            message = await receive()
            await asyncio.sleep(0)
            has_more = message["more_body"]
            await send({"type": scope["type"], "body": message["body"]})

    async with _in_trio(echo) as app, trio.open_nursery() as nursery:
        clients = [_Client(*(b"%d %d" % (i, j) for j in range(20))) for i in range(10)]
        for client in clients:
            nursery.start_soon(app, {"type": "x"}, client.receive, client.send)
    for i, client in enumerate(clients):
        assert client.said == [{"type": "x", "body": b"%d %d" % (i, j)} for j in range(20)]


async def test_an_application_hears_that_its_client_is_gone() -> None:
    heard: list[Any] = []

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())

    async with _in_trio(wait) as app:
        client = _Client()
        client.is_gone.set()
        await app({}, client.receive, client.send)
    assert heard == [{"type": "http.disconnect"}]


async def test_an_application_ends_its_work_though_its_client_is_gone() -> None:
    said: list[str] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["asgi"]["spec_version"] < "2.4"  # from which on sending fails
        for _ in range(3):
            await send({"type": "answer"})
        said.append((await receive())["type"])

    async def broken(message: Message) -> None:
        raise trio.BrokenResourceError

    async with _in_trio(serve) as app:
        client = _Client()
        client.is_gone.set()
        await app({}, client.receive, broken)
    assert said == ["http.disconnect"]


async def test_what_fails_on_either_side_ends_the_request_on_both() -> None:
    is_cancelled = threading.Event()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["fails"]:
            raise LookupError("in the application")
        try:
            await send({})
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    async def too_slow(message: Message) -> None:
        raise trio.TooSlowError

    client = _Client()
    async with _in_trio(serve) as app:
        with pytest.raises(LookupError, match="in the application"):
            await app({"fails": True}, client.receive, client.send)
        with pytest.RaisesGroup(trio.TooSlowError):
            await app({"fails": False}, client.receive, too_slow)
        assert await trio.to_thread.run_sync(is_cancelled.wait, PATIENCE_S)
        with trio.move_on_after(0):
            await app({"fails": False}, client.receive, client.send)
        await app({"fails": False}, client.receive, client.send)
    assert client.said[-1] == {}


async def test_an_application_that_cannot_be_opened_is_tried_again() -> None:
    times: list[int] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "answer"})

    @asynccontextmanager
    async def opened() -> AsyncIterator[ASGIApp]:
        times.append(len(times))
        if len(times) < 2:
            raise OSError("it is not there")
        yield answer

    client, app = _Client(), AsyncioApp(opened)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.run)
        with pytest.raises(PhextsyncError, match="it is not there"):
            await app({}, client.receive, client.send)
        await app({}, client.receive, client.send)
        nursery.cancel_scope.cancel()
    assert client.said == [{"type": "answer"}]
