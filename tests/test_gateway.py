"""The HTTP gateway answers on real sockets what SQ answers, within its limits."""

import errno
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from phextsync import Coordinate, CoordinateRange, LinkError, MeshKey, NodeIdentity, open_node
from phextsync.discovery import Address
from phextsync.errors import StoreFullError
from phextsync.files import service
from phextsync.files.bindings import BindingStore, Bound
from phextsync.gateways.exchange import Answer, Request
from phextsync.gateways.guard import Guard
from phextsync.gateways.http import Gateway
from phextsync.gateways.http1 import ByteBudget, HttpConnection, HttpLimits, Refusal, Share
from phextsync.gateways.sq import SqApi
from phextsync.store.contract import Batch
from phextsync.store.lmdb_store import LmdbStore
from tests.test_sq import DIFFERENCES, SESSIONS, key_of, load_files, name_of

pytestmark = pytest.mark.real

_PATIENCE_S = 120.0
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
            guard = Guard(token, allowed_hosts=["sq.example"])  # as recorded clients called it
            gateway = Gateway(node, guard=guard, limits=limits)
            yield gateway, await nursery.start(gateway.serve, Address(_HOST, 0))
            nursery.cancel_scope.cancel()


async def _ask(port: int, request: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that comes until its end."""
    async with await trio.open_tcp_stream(_HOST, port) as stream:
        await stream.send_all(request)
        return b"".join([piece async for piece in stream])


def _closing(line: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [line, "Host: localhost", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _get(port: int, target: str, *headers: str) -> tuple[int, str]:
    answer = await _ask(port, _closing(f"GET {target} HTTP/1.1", *headers))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def _recorded(step: dict[str, Any]) -> bytes:
    """Return the bytes of a recorded request, on a connection that ends with its answer."""
    kept = [h for h in step["headers"] if not h.lower().startswith("connection:")]
    head = "\r\n".join([step["line"], *kept, "Connection: close", "", ""])
    head = head.replace(":PORT\r\n", ":1337\r\n")  # which differed from run to run
    return head.encode() + str(step["body"]["text"]).encode()


@pytest.mark.parametrize("session", SESSIONS, ids=name_of)
async def test_a_recorded_session_has_the_recorded_bytes(
    session: dict[str, Any], tmp_path: Path
) -> None:
    async with _serving(tmp_path, key_of(session)) as (gateway, port):
        load_files(session, gateway.node.replicas)
        for step in session["steps"]:
            request, response = step["request"], step["response"]
            line = request["line"].removesuffix(" HTTP/1.1")
            answer = await _ask(port, _recorded(request))
            if line in DIFFERENCES:
                continue
            reason = response.get("line", "").partition(" ")[2]
            wanted = [*response["headers"], "Connection: close"]
            head, _, body = answer.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            assert first.startswith(f"HTTP/1.1 {response['status']}"), line
            assert not reason or first == f"HTTP/1.1 {reason}", line
            assert sorted(lines) == sorted(wanted), line
            assert body.decode() == response["body"]["text"], line


@pytest.mark.parametrize(
    "target", ["/api/v2/select?p=n", "/api/v2/none", "/events?p=n&range=<script>"]
)
async def test_a_browser_makes_no_page_of_a_text(target: str, tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, port):
        gateway.node.phext("n").edit(Coordinate(*[1] * 9), "<script>alert(1)</script>")
        for line in ("Sec-Fetch-Mode: navigate", "Accept: text/html,*/*"):
            told = await _ask(port, _closing(f"GET {target} HTTP/1.1", line))
            assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in told
            assert b"\r\nX-Content-Type-Options: nosniff\r\n" in told
        assert b"nosniff" not in await _ask(port, _closing(f"GET {target} HTTP/1.1"))


async def test_changes_of_a_range_without_ends_are_not_those_of_everything(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        told = await _ask(port, _closing("GET /events?p=n&range=.. HTTP/1.1"))
        assert told.startswith(b"HTTP/1.1 400 ")
        assert told.endswith(b"found '..'; '*' is everything")


async def test_many_requests_share_a_connection_even_unawaited(tmp_path: Path) -> None:
    async with (
        _serving(tmp_path) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        asked = b"GET /api/v2/insert?p=n&s=x HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3
        await stream.send_all(asked + _closing("GET /api/v2/select?p=n HTTP/1.1"))
        answer = b"".join([piece async for piece in stream])
        assert answer.count(b"Inserted 1 bytes") == 3
        assert answer.endswith(b"\r\n\r\nxxx")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /api/v2/update?p=n&s=caf\xc3\xa9 au lait HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /api/v2/update?p=n&s=caf%C3%A9+au+lait HTTP/1.0\r\n\r\n",
        b"GET /api/v2/update?p=n&s=caf%C3%A9+au+lait HTTP/1.1\nConnection: close\n\n",
        _closing(
            "POST /api/v2/update?p=n HTTP/1.1",
            "Transfer-Encoding: chunked",
            body=b"5\r\ncaf\xc3\xa9\r\n8\r\n au lait\r\n0\r\n\r\n",
        ),
    ],
    ids=["not encoded, no host", "HTTP/1.0", "lines end with LF", "chunked"],
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
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400 Bad Request"),
        (_closing("POST /api/v2/update HTTP/1.1", "Content-Length: x"), b"400 Bad Request"),
        (
            _closing("POST /api/v2/update HTTP/1.1", "Content-Length: 99"),
            b"413 Payload Too Large",
        ),
        (
            _closing(
                "POST /api/v2/update HTTP/1.1",
                "Transfer-Encoding: chunked",
                body=b"63\r\n" + b"x" * 99,
            ),
            b"413 Payload Too Large",
        ),
        (b"GET /" + b"x" * 4000, b"413 Payload Too Large"),
        (
            _closing(
                "POST /api/v2/update?p=n HTTP/1.1",
                "Content-Length: 1",
                "Transfer-Encoding: chunked",
                body=b"1\r\nx\r\n0\r\n\r\n",
            ),
            b"400 Bad Request",
        ),
    ],
    ids=[
        "no request",
        "tls",
        "no length",
        "large body",
        "large chunks",
        "large header",
        "two lengths",
    ],
)
async def test_what_is_no_request_or_too_large_is_refused(
    request_: bytes, answer: bytes, tmp_path: Path
) -> None:
    limits = HttpLimits(header_bytes_max=2000, body_bytes_max=50)
    async with _serving(tmp_path, limits=limits) as (gateway, port):
        answered = await _ask(port, request_)
        assert answered.startswith(b"HTTP/1.1 " + answer)
        assert answered.count(b"HTTP/1.1") == 1
        assert gateway.bodies.size == gateway.answers.size == 0
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


async def test_connections_and_requests_beyond_their_bounds_are_refused(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:  # in a second that does not pass
    limits = HttpLimits(connections_max=1, requests_per_s=2)
    async with (
        _serving(tmp_path, limits=limits) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        await stream.send_all(b"GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        answers = b""
        while answers.count(b"HTTP/1.1") < 3:
            answers += await stream.receive_some()
        assert answers.count(b"200 OK") == 2
        assert b"429 Too Many Requests" in answers


@pytest.mark.parametrize(
    "part", [b"GET /hea", b"POST /api/v2/insert HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_of_connections_that_only_wait_the_oldest_gives_way_and_others_do_not(
    tmp_path: Path, part: bytes
) -> None:
    async with (
        _serving(tmp_path, limits=HttpLimits(connections_max=1)) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as idle,
    ):
        await idle.send_all(part)
        async with await trio.open_tcp_stream(_HOST, port) as stream:
            await stream.send_all(b"GET /events?p=n HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 OK")
            assert await idle.receive_some() == b""
            assert b"connection limit reached" in await _ask(port, b"")
            # What it sends is read, or the answer would be lost.
            assert b"connection limit reached" in await _ask(port, _closing("GET / HTTP/1.1"))


async def test_a_connection_that_ends_is_not_in_the_way_of_others(tmp_path: Path) -> None:
    async with (
        _serving(tmp_path, limits=HttpLimits(connections_max=1)) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as refused,
    ):
        await refused.send_all(b"no request\r\n\r\n")
        assert (await refused.receive_some()).startswith(b"HTTP/1.1 400 ")
        assert (await _get(port, "/health"))[0] == 200


async def test_a_header_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    async with _serving(tmp_path, limits=HttpLimits(header_s=0.05)) as (gateway, port):
        assert await _ask(port, b"GET / HTTP/1.1\r\n") == b""
        assert gateway.connections == 0


async def test_only_loopback_is_served_without_a_token(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, _):
        with pytest.raises(LinkError, match="a loopback address for HTTP without a token"):
            await gateway.serve(Address("0.0.0.0", 0))


async def test_an_address_that_cannot_be_served_is_told_without_numbers(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, port):
        with pytest.raises(LinkError) as caught:
            await gateway.serve(Address(_HOST, port))
    assert str(caught.value) == f"cannot serve HTTP on {_HOST}:{port}: Address already in use"


_DOORS = ("/api/v2/select?p=n", "/events?p=n", "/metrics", "/health", "/nowhere")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_one_guard_stands_before_every_door(tmp_path: Path, method: str) -> None:
    async with _serving(tmp_path) as (_, port):
        for target in _DOORS:
            for line, status in [
                ("Host: evil.example", b"403"),
                ("Origin: https://evil.example", b"403"),
                ("Origin: http://[", b"403"),
                ("Sec-Fetch-Site: cross-site", b"403"),
                ("Authorization: a\r\nAuthorization: b", b"400"),
            ]:
                host = [] if line.startswith("Host") else ["Host: localhost"]
                head = [f"{method} {target} HTTP/1.1", "Connection: close", *host, line, "", ""]
                answer = await _ask(port, "\r\n".join(head).encode())
                assert answer[9:12] == status, (target, line)
        assert (await _get(port, "/api/v2/select?p=n", "Origin: http://localhost:8080"))[0] == 200


async def test_a_page_that_knows_the_token_may_be_from_anywhere(tmp_path: Path) -> None:
    async with _serving(tmp_path, token="secret") as (_, port):
        shown = ("Origin: https://app.example", "Authorization: Bearer secret")
        assert (await _get(port, "/api/v2/select?p=n", *shown))[0] == 200
        for target in ("/events?p=n", "/metrics"):
            assert await _get(port, target) == (401, "Unauthorized")
        assert (await _get(port, "/health"))[0] == 200


async def test_what_a_page_sends_without_a_script_writes_nothing(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        await _get(port, "/api/v2/update?p=n&s=mine")
        for operation in ("update", "insert", "delete"):
            for site in ("same-site", "cross-site"):
                target = f"/api/v2/{operation}?p=n&s=theirs"
                assert (await _get(port, target, f"Sec-Fetch-Site: {site}"))[0] == 403
        assert await _get(port, "/api/v2/select?p=n") == (200, "mine")
        own_page = await _get(port, "/api/v2/insert?p=n&s=+too", "Sec-Fetch-Site: same-origin")
        assert own_page == (200, "Inserted 4 bytes")


@pytest.mark.parametrize("target", [*_DOORS[:1], *_DOORS[2:], "/api/v2/get?p=n"])
async def test_head_is_answered_as_get_is_without_a_body(tmp_path: Path, target: str) -> None:
    async with _serving(tmp_path) as (_, port):
        await _get(port, "/api/v2/update?p=n&s=text")
        asked = await _ask(port, _closing(f"GET {target} HTTP/1.1"))
        looked = await _ask(port, _closing(f"HEAD {target} HTTP/1.1"))
        assert looked.endswith(b"\r\n\r\n")
        if target != "/metrics":  # counts the requests before it
            assert looked == asked[: len(looked)]


async def test_head_of_the_stream_is_its_head(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, port):
        answer = await _ask(port, b"HEAD /events?p=n HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"Content-Type: text/event-stream" in answer
        assert answer.endswith(b"\r\n\r\n")
        assert gateway.streams == 0


@pytest.mark.parametrize("more", [b"\n", b"P", b"GET", b"ole\n", b"\r\n", b"x" * 100_000])
@pytest.mark.parametrize("body", [b"half", b"h" * 200_000], ids=["short", "long"])
async def test_a_body_that_is_longer_than_announced_is_refused_whole(
    tmp_path: Path, more: bytes, body: bytes
) -> None:
    async with _serving(tmp_path) as (_, port):
        head = b"POST /api/v2/%s?p=n HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        answer = await _ask(port, head % (b"update", len(body)) + body + more)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Connection: close\r\n" in answer
        assert await _get(port, "/api/v2/select?p=n") == (200, "")
        answer = await _ask(port, head % (b"where", len(body)) + body + more)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer


async def test_what_came_behind_a_body_but_was_not_received_with_it_is_seen(
    tmp_path: Path,
) -> None:
    async with (
        _serving(tmp_path) as (_, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        headers = ("Content-Length: 65536", "Expect: 100-continue")
        await stream.send_all(_closing("POST /api/v2/update?p=n HTTP/1.1", *headers))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"x" * 65536 + b"\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")


async def test_a_body_without_a_length_is_refused(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        request = b"POST /api/v2/update?p=n HTTP/1.1\r\nHost: localhost\r\n\r\ntext"
        assert (await _ask(port, request)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert await _get(port, "/api/v2/select?p=n") == (200, "")


async def test_a_request_may_follow_a_body_at_once(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        post = b"POST /api/v2/insert?p=n HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
        last = _closing("GET /api/v2/select?p=n HTTP/1.1")
        assert (await _ask(port, post + post + b"\r\n" + last)).endswith(b"\r\n\r\nxx")


async def test_connections_are_counted_as_sq_counts_them(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        await _get(port, "/api/v2/version")
        asked = b"GET /api/v2/status?p=n HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = await _ask(port, asked + _closing("GET /api/v2/status?p=n HTTP/1.1"))
        assert answer.count(b"Connection ID: 2\n") == 2


async def test_a_refused_coordinate_is_a_line_of_the_log_but_not_a_flood(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _serving(tmp_path) as (_, port):
        for _ in range(30):
            assert (await _get(port, "/api/v2/update?p=n&c=1.1.20260309&s=x"))[0] == 400
    lines = [record.getMessage() for record in caplog.records]
    assert "refused to update '1.1.20260309': expected numbers from 1 to 999" in lines[0]
    assert 1 <= len(lines) <= 20


# -- what fails stays where it is ----------------------------------------------------------


async def test_a_client_that_leaves_ends_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [
        b"GET /events?p=n HTTP/1.1\r\nHost: localhost\r\n\r\n",
        _closing("POST /api/v2/update?p=n HTTP/1.1", "Content-Length: 9", body=b"half"),
        b"GET /api/v2/vers",
        b"GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
    ]
    async with _serving(tmp_path) as (gateway, port):
        for round_ in range(3):
            for request in requests:
                stream = await trio.open_tcp_stream(_HOST, port)
                await stream.send_all(request)
                for _ in range(round_ * 5):
                    await trio.lowlevel.checkpoint()
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await stream.aclose()
        while gateway.connections:
            await trio.lowlevel.checkpoint()
        assert (await _get(port, "/health"))[0] == 200
    assert not caplog.records


async def test_a_stream_that_breaks_ends_alone(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, _):
        ours, theirs = memory_stream_pair()
        assert isinstance(ours, trio.StapledStream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.answer_all, theirs)
            await ours.send_all(b"GET /events?p=n HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await ours.receive_some()
            ours.receive_stream.close()
            gateway.node.phext("n").edit(Coordinate(*[1] * 9), "text")
        assert gateway.connections == gateway.streams == 0


async def test_an_error_inside_is_answered_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(api: SqApi, request: Request, *more: object) -> Generator[int, None, Answer]:
        raise ZeroDivisionError

    async with _serving(tmp_path) as (_, port):
        with monkeypatch.context() as patch:
            patch.setattr(SqApi, "steps", fail)
            for _ in range(3):
                assert await _get(port, "/api/v2/toc?p=n") == (500, "Internal Server Error")
        assert (await _get(port, "/api/v2/toc?p=n"))[0] == 200
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "GET toc failed: ZeroDivisionError"
    ]


async def test_an_error_of_one_connection_ends_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(connection: HttpConnection) -> Request | None:
        raise ExceptionGroup("odd", [ZeroDivisionError()])

    async with _serving(tmp_path) as (gateway, port):
        with monkeypatch.context() as patch:
            patch.setattr(HttpConnection, "next_request", fail)
            async with await trio.open_tcp_stream(_HOST, port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                with suppress(trio.BrokenResourceError):  # where it is closed before that is read
                    assert await stream.receive_some() == b""
        assert gateway.connections == 0
        assert (await _get(port, "/health"))[0] == 200
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "an HTTP connection failed: ZeroDivisionError"
    ]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOBUFS])
async def test_accepting_survives_what_the_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refusals = [OSError(number, "refused")] * 2
    really_accept = trio.SocketListener.accept

    async def accept(listener: trio.SocketListener) -> trio.SocketStream:
        if refusals:
            raise refusals.pop()
        return await really_accept(listener)

    async with _serving(tmp_path) as (_, port):
        with monkeypatch.context() as patch:
            patch.setattr(trio.SocketListener, "accept", accept)
            for _ in range(2):
                assert (await _get(port, "/health"))[0] == 200
    assert not refusals


@pytest.mark.parametrize("target", ["/api/v2/select?p=n", "/events?p=n", "/health", "/x?\r\n x"])
async def test_a_client_that_takes_no_answer_is_left(tmp_path: Path, target: str) -> None:
    async with _serving(tmp_path, limits=HttpLimits(send_s=0.05)) as (gateway, port):
        ours, theirs = lockstep_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.answer_all, theirs)
            await ours.send_all(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert gateway.connections == gateway.streams == 0
        assert (await _get(port, "/health"))[0] == 200


async def test_a_large_answer_to_a_slow_client_arrives_whole(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, _):
        text = "".join(map(str, range(500_000)))
        gateway.node.phext("n").edit(Coordinate(*[1] * 9), text)
        ours, theirs = lockstep_stream_pair()
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.answer_all, theirs)
            await ours.send_all(_closing("GET /api/v2/select?p=n HTTP/1.1"))
            async with ours:
                async for piece in ours:
                    received += piece
        assert received.partition(b"\r\n\r\n")[2].decode() == text


def test_all_beside_the_largest_share_a_bound_and_small_ones_find_room() -> None:
    budget = ByteBudget(100, 10, "answers")
    shares = [Share(budget) for _ in range(6)]
    shares[0].add(1000)
    shares[1].add(60)
    shares[2].add(40)
    with pytest.raises(Refusal, match="Unavailable: too many answers are under way"):
        shares[3].add(11)
    shares[3].clear()
    shares[3].add(10)
    shares[0].add(1000)
    shares[1].clear()
    shares[4].add(50)
    assert budget.size == 2000 + 40 + 10 + 50
    for share in shares:
        share.clear()
    assert budget.size == 0
    for share in shares[:2]:
        share.add(100)
    with pytest.raises(Refusal):
        shares[2].add(11)
    shares[0].add(1)


async def test_slow_readers_of_large_answers_hold_so_much_and_no_more(tmp_path: Path) -> None:
    limits = HttpLimits(answers_bytes_max=500_000)
    async with _serving(tmp_path, limits=limits) as (gateway, port):
        gateway.node.phext("n").edit(Coordinate(*[1] * 9), "x" * 300_000)
        async with trio.open_nursery() as nursery:
            for number in (1, 2):
                ours, theirs = lockstep_stream_pair()
                nursery.start_soon(gateway.answer_all, theirs)
                await ours.send_all(_closing("GET /api/v2/select?p=n HTTP/1.1"))
                assert (await ours.receive_some(12)).startswith(b"HTTP/1.1 200")
                assert gateway.answers.size == number * 300_000
            reason = "Service Unavailable: too many answers are under way"
            for target in ("/api/v2/select?p=n", "/api/v2/get?p=n", "/api/v2/json-export?p=n"):
                assert await _get(port, target) == (503, reason)
            assert (await _get(port, "/api/v2/toc?p=n"))[0] == 200
            nursery.cancel_scope.cancel()
        assert gateway.answers.size == 0
        assert (await _get(port, "/api/v2/select?p=n"))[0] == 200


async def test_an_answer_for_which_there_is_no_room_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def work(api: SqApi, request: Request, *more: object) -> Generator[int, None, Answer]:
        nonlocal made
        while made < 1 << 30:
            made += 1 << 20
            yield 1 << 20
        return Answer(200)

    monkeypatch.setattr(SqApi, "steps", work)
    async with _serving(tmp_path, limits=HttpLimits(answers_bytes_max=5 << 20)) as (gateway, port):
        Share(gateway.answers).add(1 << 30)
        assert (await _get(port, "/api/v2/toc?p=n"))[0] == 503
        assert made == 6 << 20


async def test_a_body_counts_until_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def work(api: SqApi, request: Request, *more: object) -> Generator[int, None, Answer]:
        held.append(gateway.bodies.size)
        yield 0
        return Answer(200)

    async with _serving(tmp_path) as (gateway, port):
        monkeypatch.setattr(SqApi, "steps", work)
        post = _closing("POST /api/v2/where HTTP/1.1", "Content-Length: 4", body=b"text")
        assert (await _ask(port, post)).startswith(b"HTTP/1.1 200")
        assert (held, gateway.bodies.size) == ([4], 0)


async def test_who_takes_an_answer_too_slowly_as_a_whole_is_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limits, budget = HttpLimits(), ByteBudget(0, 0, "bytes")
    ours, theirs = lockstep_stream_pair()
    connection = HttpConnection(theirs, limits, budget, budget)

    async def read(pause_s: float) -> None:
        while True:
            await trio.sleep(pause_s)
            await ours.receive_some(2 << 20)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, b"GET / HTTP/1.1\r\n\r\n")
        assert await connection.next_request() is not None
        nursery.start_soon(read, 20)
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await connection.send(Answer(200, b"x" * (32 << 20)))
        assert trio.current_time() - began == pytest.approx(30 + 32 * 4)
        nursery.cancel_scope.cancel()


async def test_others_have_their_turn_during_long_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, during = 0, 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    def work(api: SqApi, request: Request, *more: object) -> Generator[int, None, Answer]:
        nonlocal during
        before = turns
        for _ in range(5):
            until = time.perf_counter() + 0.003
            while time.perf_counter() < until:
                pass
            yield 0
        during = turns - before
        return Answer(200)

    async with _serving(tmp_path) as (_, port), trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        monkeypatch.setattr(SqApi, "steps", work)
        assert (await _get(port, "/api/v2/toc?p=n"))[0] == 200
        nursery.cancel_scope.cancel()
    assert during >= 4


# -- beside SQ's API -----------------------------------------------------------------------


async def test_changes_are_streamed(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, port):
        async with await trio.open_tcp_stream(_HOST, port) as stream:
            await stream.send_all(b"GET /events?p=n&range=2.* HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await stream.receive_some()
            assert b"Content-Type: text/event-stream" in head
            await _get(port, "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.1&s=outside")
            await _get(port, "/api/v2/update?p=n&c=2.1.1/1.1.1/1.1.1&s=inside")
            received = head.partition(b"\r\n\r\n")[2]
            while b"}" not in received:
                received += await stream.receive_some()
            assert received.startswith(b"3\r\n:\n\n\r\n")  # before anything has changed
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


async def test_phexts_of_the_library_are_not_shown(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (gateway, port):
        await _get(port, "/api/v2/update?p=n&s=text")
        hidden = gateway.node.replicas.names()[0]
        assert hidden.startswith(".")
        for name in (hidden, f"n&p={hidden}", "%FF", "n%C3"):
            assert (await _get(port, f"/events?p={name}"))[0] == 403
        for target in (f"/events?p={hidden}", f"/api/v2/toc?p={hidden}"):
            assert await _get(port, target) == (403, "Forbidden: invalid phext path")
        assert f'"{hidden}"' not in (await _get(port, "/metrics"))[1]


async def test_a_stream_that_is_not_read_costs_no_more_than_its_bound(tmp_path: Path) -> None:
    async with (
        _serving(tmp_path) as (gateway, port),
        await trio.open_tcp_stream(_HOST, port) as stream,
    ):
        await stream.send_all(b"GET /events?p=n HTTP/1.1\r\nHost: localhost\r\n\r\n")
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


async def test_metrics_tell_how_it_stands_with_each_bound_directory(tmp_path: Path) -> None:
    async with _serving(tmp_path / "data") as (gateway, port):
        node, notes = gateway.node, tmp_path / "notes"
        BindingStore(node.folder).bind(Bound(notes, "memory", CoordinateRange.parse("7.*")))
        assert "phextsync_directory_files{" not in (await _get(port, "/metrics"))[1]
        async with trio.open_nursery() as nursery:
            (tmp_path / "notes" / "a.md").write_text("text\n")
            (tmp_path / "notes" / "b.md").write_bytes(b"\xff")
            nursery.start_soon(service.serve, node)
            counts = {"left_alone": 1, "files": 1, "in_step": 1, "waiting": 0, "held": 0}
            wanted = [
                f'phextsync_directory_{name}{{directory="{notes}"}} {count}.0'
                for name, count in (*counts.items(), ("conflicts", 0))
            ]
            text = ""
            while not all(line in text for line in wanted):
                _, text = await _get(port, "/metrics")
            nursery.cancel_scope.cancel()


async def test_metrics_and_health_tell_of_the_node(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (_, port):
        await _get(port, "/api/v2/update?p=n&s=text")
        _, text = await _get(port, "/metrics")
        assert 'phextsync_scrolls{phext="n"} 1.0' in text
        assert 'phextsync_http_requests_total{operation="update",status="200"} 1.0' in text
        assert "phextsync_open_scrolls 1.0" in text
        assert "phextsync_evictions_total 0.0" in text
        assert "phextsync_errors_total 0.0" in text
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
