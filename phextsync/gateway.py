"""HTTP/1.1 beside a node: SQ's API, a stream of changes, metrics, health. On h11 over trio.

`sq` answers SQ's requests; here are connections and their limits. What SQ's clients send is read
as leniently as SQ reads it before `h11` judges the rest: bytes in a request line that should have
been encoded, no `Host`.
"""

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from phextsync.changes import Change, writing_as
from phextsync.discovery import Address, is_loopback
from phextsync.errors import LinkError, PhextsyncError, StoreFullError
from phextsync.index import CoordinateRange
from phextsync.metrics import NodeMetrics
from phextsync.node import Node
from phextsync.sq import Answer, Request, SqApi, operation_name
from phextsync.streams import ChangeStream

DEFAULT_PORT: Final = 1337

_RECEIVE_BYTES: Final = 64 << 10
_HEARTBEAT_S: Final = 15.0
_CHANGES_MAX: Final = 4096
_HEARTBEAT: Final = b":\n\n"
_WRITER: Final = "gateway"

_log = logging.getLogger("phextsync.gateway")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What clients can make the gateway hold, and for how long."""

    connections_max: int = 512
    """As SQ; one more is answered 503."""
    header_bytes_max: int = 64 << 10
    body_bytes_max: int = 64 << 20
    """As SQ, and as large as a scroll may be."""
    bodies_bytes_max: int = 256 << 20
    """All bodies that are under way."""
    header_s: float = 30.0
    """From the first byte that is awaited to the end of the header; also how long a connection
    is kept for the next request."""
    body_s: float = 120.0
    requests_per_s: float = 20_000.0
    """Over all connections, after a burst of as many; more are answered 429."""
    streams_max: int = 64
    """Streams of changes."""


class Gateway:
    """Serves one node over HTTP. `token` is what clients must show, None for nothing."""

    def __init__(
        self, node: Node, *, token: str | None = None, limits: HttpLimits | None = None
    ) -> None:
        self.node = node
        self.limits = limits or HttpLimits()
        self.connections = 0
        self.body_bytes = 0
        self.streams = 0
        self._has_token = token is not None
        self._sq = SqApi(node.replicas, token=token)
        self._metrics = NodeMetrics(node)
        self._allowance = self.limits.requests_per_s
        self._allowed_at = 0.0

    async def serve(
        self, address: Address, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; started with the port. Without a token only loopback addresses
        are served: LinkError for another one, and when the address cannot be used."""
        if not self._has_token and not is_loopback(address.host):
            raise LinkError(
                f"expected a loopback address for HTTP without a token, found {address.host}"
            )
        try:
            listeners = await trio.open_tcp_listeners(address.port, host=address.host)
        except OSError as error:
            raise LinkError(f"cannot serve HTTP on {address}: {error}") from error
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._accept, listeners)

    async def _accept(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            connection = _Connection(stream, self.limits)
            if self.connections > self.limits.connections_max:
                await connection.refuse(503, "Service Unavailable: connection limit reached")
            else:
                await self._answer_all(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the client is gone or too slow: there is nobody to tell
        finally:
            self.connections -= 1
            await trio.aclose_forcefully(stream)

    async def _answer_all(self, connection: "_Connection") -> None:
        """Answer request after request until either side wants no more."""
        while True:
            try:
                with trio.fail_after(self.limits.header_s):
                    request = await connection.next_request()
                if request is None:
                    return
                began = time.perf_counter()
                with trio.fail_after(self.limits.body_s):
                    request = await self._with_body(connection, request)
            except _Refusal as refusal:
                await connection.refuse(refusal.status, str(refusal))
                return
            if request.method == "GET" and request.path == "/events":
                await self._stream_changes(connection, request)
                return
            answer = await self._answer(request)
            self._metrics.note(operation_name(request), answer.status, time.perf_counter() - began)
            if not await connection.send(answer):
                return

    async def _with_body(self, connection: "_Connection", request: Request) -> Request:
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in connection.body():
                pieces.append(piece)
                size += len(piece)
                self.body_bytes += len(piece)
                if self.body_bytes > self.limits.bodies_bytes_max:
                    raise _Refusal(503, "Service Unavailable: too many bodies are under way")
        finally:
            self.body_bytes -= size
        if not pieces:
            return request
        return Request(
            request.method, request.path, request.query, request.headers, b"".join(pieces)
        )

    async def _answer(self, request: Request) -> Answer:
        if not self._is_within_rate():
            return Answer(429, b"Too Many Requests")
        if self._is_foreign_page(request):
            return Answer(403, b"Forbidden: pages of other sites need a token")
        if request.method == "GET" and request.path == "/health":
            return self._health()
        if request.method == "GET" and request.path == "/metrics":
            if not self._sq.is_authorized(request):
                return Answer(401, b"Unauthorized")
            return Answer(200, self._metrics.text(), (("Content-Type", "text/plain"),))
        with writing_as(_WRITER):
            answer = self._sq.answer(request)
        if answer.has_changed:
            try:
                await self.node.durable()
            except StoreFullError as error:
                return Answer(503, f"Service Unavailable: {error}".encode())
        return answer

    def _is_within_rate(self) -> bool:
        now, rate = trio.current_time(), self.limits.requests_per_s
        self._allowance = min(rate, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _is_foreign_page(self, request: Request) -> bool:
        """Whether a browser asks for a page that came from elsewhere, which could not know the
        token: any site could read and write the phexts of whoever visits it."""
        origin = request.headers.get("origin")
        if self._has_token or origin is None or request.method == "OPTIONS":
            return False
        return not is_loopback(urlsplit(origin).hostname or "")

    def _health(self) -> Answer:
        is_writable = self.node.replicas.is_writable
        row = {
            "status": "ok" if is_writable else "the disk refuses writes",
            "node": self.node.identity.name,
            "peers": len(self.node.peers()),
        }
        body = json.dumps(row).encode()
        return Answer(200 if is_writable else 503, body, (("Content-Type", "application/json"),))

    # -- changes ---------------------------------------------------------------------------

    async def _stream_changes(self, connection: "_Connection", request: Request) -> None:
        """Send server-sent events until the client leaves; a slow one costs a set."""
        try:
            self._check_stream(request)
            name = request.parameters.get("p", "")
            range_ = CoordinateRange.parse(request.parameters.get("range", "*"))
            feed = self.node.phext(name).feed(range_, coordinates_max=_CHANGES_MAX)
        except (PhextsyncError, _Refusal) as error:
            status = error.status if isinstance(error, _Refusal) else 400
            await connection.refuse(status, str(error))
            return
        changes = ChangeStream(feed)
        self.streams += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.until_closed, nursery.cancel_scope)
                await connection.start_events()
                while True:
                    events = _HEARTBEAT
                    with trio.move_on_after(_HEARTBEAT_S):
                        events = _events(await changes.receive())
                    await connection.send_event(events)
        finally:
            self.streams -= 1
            changes.close()

    def _check_stream(self, request: Request) -> None:
        if not self._sq.is_authorized(request):
            raise _Refusal(401, "Unauthorized")
        if self._is_foreign_page(request):
            raise _Refusal(403, "Forbidden: pages of other sites need a token")
        if self.streams >= self.limits.streams_max:
            raise _Refusal(503, f"Service Unavailable: {self.streams} streams are open")


class _Refusal(Exception):
    """A request that is answered without being read whole; the connection ends."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _events(change: Change) -> bytes:
    """Return a change as events, one for each scroll."""
    if change.missed is not None:
        return _event("reset", {"phext": change.phext})
    rows = (
        {
            "phext": change.phext,
            "coordinate": str(coordinate),
            "origin": change.origin.hex() if change.origin else None,
            "label": change.label,
        }
        for coordinate in change.coordinates
    )
    return b"".join(_event("change", row) for row in rows)


def _event(name: str, row: Mapping[str, str | None]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(row)}\n\n".encode()


class _Connection:
    """One TCP connection: requests, one after the other, each with an `h11.Connection`."""

    def __init__(self, stream: trio.SocketStream, limits: HttpLimits) -> None:
        self._stream = stream
        self._limits = limits
        self._buffer = b""
        self._http = h11.Connection(h11.SERVER)
        self._takes_body = True

    async def next_request(self) -> Request | None:
        """Return the next request without its body, None at the end; `_Refusal` as it says."""
        head = await self._next_head()
        if head is None:
            return None
        self._http = h11.Connection(h11.SERVER, self._limits.header_bytes_max * 2)
        self._http.receive_data(_lenient(head) + self._buffer)
        event = self._next_event()
        assert isinstance(event, h11.Request)
        self._takes_body = event.method != b"HEAD"
        target = event.target.decode("ascii")
        path, _, query = target.partition("?")
        headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        announced = headers.get("content-length", "0")
        if int(announced) > self._limits.body_bytes_max:
            raise self._too_large(announced)
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        return Request(event.method.decode("ascii"), path, query, headers)

    async def body(self) -> AsyncIterator[bytes]:
        """Give the pieces of the request's body."""
        size = 0
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._stream.receive_some(_RECEIVE_BYTES))
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self._limits.body_bytes_max:
                    raise self._too_large(str(size))
                yield bytes(event.data)
            else:
                self._buffer = self._http.trailing_data[0]
                return

    async def send(self, answer: Answer) -> bool:
        """Send an answer; say whether another request may follow."""
        headers = list(answer.headers)
        if answer.status != 204:
            headers.append(("Content-Length", str(len(answer.body))))
        events: list[h11.Event] = [_response(answer.status, headers)]
        if answer.body and self._takes_body:
            events.append(h11.Data(data=answer.body))
        await self._send(*events, h11.EndOfMessage())
        return self._http.our_state is h11.DONE

    async def refuse(self, status: int, reason: str) -> None:
        """Answer and read no more."""
        body = reason.encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        lines = f"Access-Control-Allow-Origin: *\r\nContent-Length: {len(body)}\r\n"
        await self._stream.send_all(f"{head}{lines}Connection: close\r\n\r\n".encode() + body)
        await self._stream.send_eof()

    async def start_events(self) -> None:
        """Begin an answer that lasts as long as the connection."""
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")]
        headers.append(("Access-Control-Allow-Origin", "*"))
        await self._send(_response(200, headers))

    async def send_event(self, data: bytes) -> None:
        """Send a piece of such an answer."""
        await self._send(h11.Data(data=data))

    async def until_closed(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the client is gone."""
        try:
            while await self._stream.receive_some(_RECEIVE_BYTES):
                pass
        except trio.BrokenResourceError:
            pass
        scope.cancel()

    async def _next_head(self) -> bytes | None:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > self._limits.header_bytes_max:
                raise _Refusal(413, "header too large")
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            if not data:
                return None
            self._buffer = (self._buffer + data).lstrip(b"\r\n")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if len(head) > self._limits.header_bytes_max:
            raise _Refusal(413, "header too large")
        return head + b"\r\n\r\n"

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise _Refusal(400, "Bad Request") from error

    def _too_large(self, size: str) -> _Refusal:
        return _Refusal(413, f"body too large: {size} bytes (max {self._limits.body_bytes_max})")

    async def _send(self, *events: h11.Event) -> None:
        await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in events))


def _response(status: int, headers: list[tuple[str, str]]) -> h11.Response:
    reason = HTTPStatus(status).phrase
    return h11.Response(status_code=status, headers=headers, reason=reason.encode())


def _lenient(head: bytes) -> bytes:
    """Return a head that strict readers take: what SQ's clients leave out is filled in."""
    line, end, rest = head.partition(b"\r\n")
    method, _, tail = line.partition(b" ")
    target, _, version = tail.rpartition(b" ")
    if version.startswith(b"HTTP/"):
        target = re.sub(rb"[^\x21-\x7e]", lambda found: b"%%%02X" % found[0][0], target)
        line = b" ".join((method, target, version))
    if not re.search(rb"\r\nhost:", head, re.IGNORECASE):
        end += b"Host: localhost\r\n"
    return line + end + rest
