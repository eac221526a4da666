"""The HTTP gateway answers on real sockets what SQ answers, within its limits."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from phextsync import Coordinate, LinkError, MeshKey, NodeIdentity, open_node
from phextsync.discovery import Address
from phextsync.errors import StoreFullError
from phextsync.gateway import Gateway, HttpLimits
from phextsync.store import Batch, LmdbStore
from tests.test_sq import DIFFERENCES, SESSIONS, key_of, load_files, name_of

pytestmark = pytest.mark.real

_PATIENCE_S = 30.0
_HOST = "127.0.0.1"


@asynccontextmanager
async def _serving(
    folder: Path, token: str | None = None, limits: HttpLimits | None = None
) -> AsyncIterator[tuple[Gateway, int]]:
    """Serve a new node over HTTP; give the gateway and its port."""
    NodeIdentity.create(MeshKey.generate(bytes(32)), "one", bytes(range(32))).save(folder)
    with trio.fail_after(_PATIENCE_S):
        async with (
            open_node(folder, host=_HOST, port=0, discover=False) as node,
            trio.open_nursery() as nursery,
        ):
            gateway = Gateway(node, token=token, limits=limits)
            yield gateway, await nursery.start(gateway.serve, Address(_HOST, 0))
            nursery.cancel_scope.cancel()


async def _ask(port: int, request: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that comes until its end."""
    async with await trio.open_tcp_stream(_HOST, port) as stream:
        await stream.send_all(request)
        return b"".join([piece async for piece in stream])


def _closing(line: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [line, "Host: x", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _get(port: int, target: str, *headers: str) -> tuple[int, str]:
    answer = await _ask(port, _closing(f"GET {target} HTTP/1.1", *headers))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def _recorded(step: dict[str, Any]) -> bytes:
    """Return the bytes of a recorded request, on a connection that ends with its answer."""
    kept = [h for h in step["headers"] if not h.lower().startswith("connection:")]
    head = "\r\n".join([step["line"], *kept, "Connection: close", "", ""])
    return head.encode() + step["body"]["text"].encode()


@pytest.mark.parametrize("session", SESSIONS, ids=name_of)
async def test_a_recorded_session_has_the_recorded_bytes(
    session: dict[str, Any], tmp_path: Path
) -> None:
    async with _serving(tmp_path, key_of(session)) as (gateway, port):
        load_files(session, gateway.node.replicas)
        for step in session["steps"]:
            request, response = step["request"], step["response"]
            line = request["line"].removesuffix(" HTTP/1.1")
            if line in DIFFERENCES or line.startswith("HEAD"):
                continue
            answer = await _ask(port, _recorded(request))
            reason = response.get("line", "").partition(" ")[2]
            wanted = [*response["headers"], "Connection: close"]
            head, _, body = answer.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            assert first.startswith(f"HTTP/1.1 {response['status']}"), line
            assert not reason or first == f"HTTP/1.1 {reason}", line
            assert sorted(lines) == sorted(wanted), line
            assert body.decode() == response["body"]["text"], line


async def test_many_requests_share_a_connection_even_unawaited(tmp_path: Path) -> None:
    async with (
        _serving(tmp_path) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        asked = b"GET /api/v2/insert?p=n&s=x HTTP/1.1\r\nHost: x\r\n\r\n" * 3
        await stream.send_all(asked + _closing("GET /api/v2/select?p=n HTTP/1.1"))
        answer = b"".join([piece async for piece in stream])
        assert answer.count(b"Inserted 1 bytes") == 3
        assert answer.endswith(b"\r\n\r\nxxx")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /api/v2/update?p=n&s=caf\xc3\xa9 au lait HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /api/v2/update?p=n&s=caf%C3%A9+au+lait HTTP/1.0\r\n\r\n",
        _closing(
            "POST /api/v2/update?p=n HTTP/1.1",
            "Transfer-Encoding: chunked",
            body=b"5\r\ncaf\xc3\xa9\r\n8\r\n au lait\r\n0\r\n\r\n",
        ),
    ],
    ids=["not encoded, no host", "HTTP/1.0", "chunked"],
)
async def test_what_clients_send_is_understood(request_: bytes, tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        assert b"Updated 13 bytes" in await _ask(port, request_)
        assert await _get(port, "/api/v2/select?p=n") == (200, "café au lait")


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(tmp_path: Path) -> None:
    async with (
        _serving(tmp_path) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        headers = ("Content-Length: 4", "Expect: 100-continue")
        await stream.send_all(_closing("POST /api/v2/update?p=n HTTP/1.1", *headers))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"text")
        assert b"Updated 4 bytes" in b"".join([piece async for piece in stream])


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (_closing("POST /api/v2/update HTTP/1.1", "Content-Length: x"), b"400 Bad Request"),
        (
            _closing("POST /api/v2/update HTTP/1.1", "Content-Length: 99"),
            b"413 Request Entity Too Large",
        ),
        (
            _closing(
                "POST /api/v2/update HTTP/1.1",
                "Transfer-Encoding: chunked",
                body=b"63\r\n" + b"x" * 99,
            ),
            b"413 Request Entity Too Large",
        ),
        (b"GET /" + b"x" * 4000, b"413 Request Entity Too Large"),
    ],
    ids=["no request", "no length", "large body", "large chunks", "large header"],
)
async def test_what_is_no_request_or_too_large_is_refused(
    request_: bytes, answer: bytes, tmp_path: Path
) -> None:
    limits = HttpLimits(header_bytes_max=2000, body_bytes_max=50)
    async with _serving(tmp_path, limits=limits) as (gateway, port):
        assert (await _ask(port, request_)).startswith(b"HTTP/1.1 " + answer)
        assert gateway.body_bytes == 0
        assert await _get(port, "/api/v2/version") == (200, "0.5.6")


async def test_a_body_that_ends_early_changes_nothing(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        async with await trio.open_tcp_stream(_HOST, port) as stream:
            headers = ("Content-Length: 9",)
            await stream.send_all(
                _closing("POST /api/v2/update?p=n HTTP/1.1", *headers, body=b"half")
            )
            await stream.send_eof()
            answer = b"".join([piece async for piece in stream])
        assert answer.startswith(b"HTTP/1.1 400")
        assert await _get(port, "/api/v2/select?p=n") == (200, "")


async def test_connections_and_requests_beyond_their_bounds_are_refused(tmp_path: Path) -> None:
    limits = HttpLimits(connections_max=1, requests_per_s=2)
    async with (
        _serving(tmp_path, limits=limits) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        await stream.send_all(b"GET /api/v2/version HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        answers = b""
        while answers.count(b"HTTP/1.1") < 3:
            answers += await stream.receive_some()
        assert answers.count(b"200 OK") == 2
        assert b"429 Too Many Requests" in answers
        assert b"connection limit reached" in await _ask(port, b"")


async def test_a_header_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    async with _serving(tmp_path, limits=HttpLimits(header_s=0.05)) as (gateway, port):
        assert await _ask(port, b"GET / HTTP/1.1\r\n") == b""
        assert gateway.connections == 0


async def test_only_loopback_is_served_without_a_token(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, _):
        with pytest.raises(LinkError, match="a loopback address for HTTP without a token"):
            await gateway.serve(Address("0.0.0.0", 0))


async def test_a_page_from_elsewhere_is_refused_unless_it_knows_the_token(tmp_path: Path) -> None:
    async with _serving(tmp_path / "a") as (_, port):
        for target in ("/api/v2/select?p=n", "/events?p=n", "/metrics"):
            status, text = await _get(port, target, "Origin: https://evil.example")
            assert (status, text) == (403, "Forbidden: pages of other sites need a token")
        assert (await _get(port, "/api/v2/select?p=n", "Origin: http://localhost:8080"))[0] == 200
    async with _serving(tmp_path / "b", token="secret") as (_, port):
        shown = ("Origin: https://app.example", "Authorization: Bearer secret")
        assert (await _get(port, "/api/v2/select?p=n", *shown))[0] == 200
        for target in ("/events?p=n", "/metrics"):
            assert await _get(port, target) == (401, "Unauthorized")
        assert (await _get(port, "/health"))[0] == 200


async def test_changes_are_streamed(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, port):
        async with await trio.open_tcp_stream(_HOST, port) as stream:
            await stream.send_all(b"GET /events?p=n&range=2.* HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await stream.receive_some()
            assert b"Content-Type: text/event-stream" in head
            await _get(port, "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.1&s=outside")
            await _get(port, "/api/v2/update?p=n&c=2.1.1/1.1.1/1.1.1&s=inside")
            received = head.partition(b"\r\n\r\n")[2]
            while b"}" not in received:
                received += await stream.receive_some()
            row = json.loads(received[received.index(b"{") : received.index(b"}") + 1])
            assert row == {
                "phext": "n",
                "coordinate": "2.1.1/1.1.1/1.1.1",
                "origin": None,
                "label": "gateway",
            }
            assert gateway.streams == 1
        while gateway.streams:
            await trio.lowlevel.checkpoint()


async def test_a_stream_that_is_not_read_costs_no_more_than_its_bound(tmp_path: Path) -> None:
    async with (
        _serving(tmp_path) as (gateway, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        await stream.send_all(b"GET /events?p=n HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive_some()
        replica = gateway.node.phext("n")
        with replica.batch():
            for number in range(5000):
                parts = (1,) * 7 + (1 + number // 999, 1 + number % 999)
                replica.import_text(Coordinate(*parts), "x")
        received = b""
        while b"event: reset" not in received:
            received += await stream.receive_some()
        assert b"event: change" not in received


async def test_metrics_and_health_tell_of_the_node(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        await _get(port, "/api/v2/update?p=n&s=text")
        _, text = await _get(port, "/metrics")
        assert 'phextsync_scrolls{phext="n"} 1.0' in text
        assert 'phextsync_http_requests_total{operation="update",status="200"} 1.0' in text
        assert "phextsync_open_scrolls 1.0" in text
        assert "phextsync_evictions_total 0.0" in text
        assert 'phextsync_sync_seconds_bucket{le="+Inf"} 1.0' in text
        assert 'phextsync_commit_seconds_bucket{le="+Inf"} 1.0' in text
        status, health = await _get(port, "/health")
        assert (status, json.loads(health)) == (200, {"status": "ok", "node": "one", "peers": 0})


async def test_a_disk_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: LmdbStore, batch: Batch) -> None:
        raise StoreFullError("no space left")

    async with _serving(tmp_path) as (_, port):
        with monkeypatch.context() as patch:
            patch.setattr(LmdbStore, "commit", refuse)
            status, text = await _get(port, "/api/v2/update?p=n&s=text")
            assert (status, "no space left" in text) == (503, True)
            assert (await _get(port, "/health"))[0] == 503
