"""HTTP/1.1 for a server: requests and answers of one connection within limits, on h11 over trio.

What SQ's clients send is read as leniently as SQ reads it before `h11` judges the rest: bytes in a
request line that should have been encoded, no `Host`, lines that end with LF alone. A browser is
told that a text is one, so that no text of others becomes a page of this origin. A client that is
too slow in sending or in taking its answer ends its own connection with `trio.TooSlowError`, one
that is gone with `trio.BrokenResourceError`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import h11
import trio

from phextsync.gateways.exchange import Answer, Request

_RECEIVE_BYTES: Final = 64 << 10
_SEND_BYTES: Final = 1 << 20
_LINGER_S: Final = 2.0
_REQUEST: Final = re.compile(rb"[\r\n]*(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [/*h]")
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_NO_HEAD: Final = re.compile(rb"[^A-Za-z]")  # such as TLS
_BROWSERS: Final = ("sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site")
_TEXT: Final = (
    ("Content-Type", "text/plain; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
)
_PHRASES: Final = {413: "Payload Too Large"}  # SQ's, where Python's is another


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What clients can make a server hold, and for how long."""

    connections_max: int = 512
    """As SQ. For one more that which has waited for longest for a request is closed; it is answered
    503 where none waits."""
    header_bytes_max: int = 64 << 10
    body_bytes_max: int = 64 << 20
    """As SQ, and as large as a scroll may be."""
    bodies_bytes_max: int = 256 << 20
    """All bodies that are under way or being answered, beside the largest."""
    answers_bytes_max: int = 256 << 20
    """All answers that are being made or sent, beside the largest."""
    small_bytes: int = 64 << 10
    """A body or an answer for which there is always room."""
    header_s: float = 30.0
    """From the first byte that is awaited to the end of the header; also how long a connection
    is kept for the next request."""
    body_s: float = 120.0
    send_s: float = 30.0
    """For a client to take the next MiB of an answer."""
    send_bytes_per_s: int = 256 << 10
    """What a client has to take of an answer as a whole, after `send_s`."""
    requests_per_s: float = 20_000.0
    """Over all connections, after a burst of as many; more are answered 429."""
    streams_max: int = 64
    """Streams of changes."""


class Refusal(Exception):
    """A request that is answered without being read whole; the connection ends."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ByteBudget:
    """Bytes of one kind that connections of one server hold: so many at a time, beside the largest
    share, which no other request can make wait."""

    def __init__(self, bytes_max: int, small_bytes: int, what: str) -> None:
        self.size = 0
        self._small_bytes = small_bytes
        self._bytes_max = bytes_max
        self._what = what
        self._shares: dict[Share, None] = {}  # in order: of equal ones the first is the largest

    def grown(self, share: "Share", size: int) -> None:
        """Count more bytes of a share. `Refusal` when they are too many; small shares always find
        room, since there are only so many connections."""
        self._shares[share] = None
        share.size += size
        self.size += size
        if share.size <= self._small_bytes or self.size <= self._bytes_max:
            return
        largest = max(self._shares, key=lambda held: held.size)
        if share is not largest and self.size - largest.size > self._bytes_max:
            raise Refusal(503, f"Service Unavailable: too many {self._what} are under way")

    def left(self, share: "Share") -> None:
        """Count a share no more."""
        self._shares.pop(share, None)
        self.size -= share.size
        share.size = 0


class Share:
    """What one connection holds of a budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self.size = 0
        self._budget = budget

    def add(self, size: int) -> None:
        """Hold more bytes; `Refusal` when there is no room for them."""
        self._budget.grown(self, size)

    def clear(self) -> None:
        """Hold nothing."""
        self._budget.left(self)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold so many bytes in this block, and nothing behind it; `Refusal` as `add` has it."""
        try:
            self.add(size)
            yield
        finally:
            self.clear()


class HttpConnection:
    """One connection: requests, one after the other, each with an `h11.Connection`."""

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        limits: HttpLimits,
        bodies: ByteBudget,
        answers: ByteBudget,
    ) -> None:
        self.body = Share(bodies)
        self.answer = Share(answers)
        self._stream = stream
        self._limits = limits
        self._buffer = b""
        self._http = h11.Connection(h11.SERVER)
        self._takes_body = True
        self._has_more = False
        self._is_browser = False

    # -- requests --------------------------------------------------------------------------

    async def next_request(self) -> Request | None:
        """Return the next request without its body, None at the end; `Refusal` as it says."""
        with trio.fail_after(self._limits.header_s):
            head = await self._next_head()
        if head is None:
            return None
        self._http = h11.Connection(h11.SERVER, self._limits.header_bytes_max * 2)
        self._http.receive_data(_lenient(head) + self._buffer)
        event = self._next_event()
        assert isinstance(event, h11.Request)
        self._takes_body = event.method != b"HEAD"
        headers = tuple((name.decode(), value.decode("latin-1")) for name, value in event.headers)
        named = dict(headers)
        is_for_people = "text/html" in named.get("accept", "").lower()
        self._is_browser = is_for_people or any(name in named for name in _BROWSERS)
        if "content-length" in named and "transfer-encoding" in named:
            raise Refusal(400, "Bad Request: Content-Length beside Transfer-Encoding")
        announced = named.get("content-length", "0")
        if int(announced) > self._limits.body_bytes_max:
            raise self._too_large(announced)
        path, _, query = event.target.decode("ascii").partition("?")
        return Request(event.method.decode("ascii"), path, query, headers)

    async def with_body(self, request: Request) -> Request:
        """Return a request with its body, which has to be read before it is answered, and counts
        until it is forgotten."""
        body = bytearray()
        with trio.fail_after(self._limits.body_s):
            while (piece := await self._next_piece()) is not None:
                body += piece
                self.body.add(len(piece))
                if len(body) > self._limits.body_bytes_max:
                    raise self._too_large(str(len(body)))
        self._has_more = await self._more_came(is_awaited=bool(body))
        return replace(request, body=body, is_longer=self._has_more)

    def forget(self) -> None:
        """Hold neither a body nor an answer any more."""
        self.body.clear()
        self.answer.clear()

    async def _next_head(self) -> bytes | None:
        self._buffer = self._buffer.lstrip(b"\r\n")
        while (end := _END_OF_HEAD.search(self._buffer)) is None:
            if _NO_HEAD.match(self._buffer):
                raise Refusal(400, "Bad Request")
            if len(self._buffer) > self._limits.header_bytes_max:
                raise Refusal(413, "header too large")
            data = await self._receive()
            if not data:
                return None
            self._buffer = (self._buffer + data).lstrip(b"\r\n")
        head, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
        if len(head) > self._limits.header_bytes_max:
            raise Refusal(413, "header too large")
        return b"\r\n".join([*(line.removesuffix(b"\r") for line in head.split(b"\n")), b"", b""])

    async def _next_piece(self) -> bytes | None:
        """Return the next bytes of the body, None behind its end."""
        if self._http.they_are_waiting_for_100_continue:
            await self._write(
                _bytes(self._http, h11.InformationalResponse(status_code=100, headers=[]))
            )
        while True:
            event = self._next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is not h11.NEED_DATA:
                self._buffer = self._http.trailing_data[0]
                return None
            self._http.receive_data(await self._receive())

    async def _more_came(self, *, is_awaited: bool) -> bool:
        """Whether bytes came behind the body that begin no request: it is longer than announced.

        Clients that count characters in place of bytes send such bodies. What comes later than the
        body cannot be seen here; it is a bad request of its own.
        """
        if is_awaited and not self._buffer:
            with trio.CancelScope() as scope:
                scope.deadline = trio.current_time()  # what is there already is still received
                self._buffer = await self._receive()
        return bool(self._buffer) and _REQUEST.match(self._buffer) is None

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Refusal(400, "Bad Request") from error

    def _too_large(self, size: str) -> Refusal:
        return Refusal(413, f"body too large: {size} bytes (max {self._limits.body_bytes_max})")

    # -- answers ---------------------------------------------------------------------------

    async def send(self, answer: Answer) -> bool:
        """Send an answer; say whether another request may follow."""
        headers = [*answer.headers, *self._of_a_text(answer.headers)]
        if answer.status != 204:
            headers.append(("Content-Length", str(len(answer.body))))
        if self._has_more:
            headers.append(("Connection", "close"))
        head = _bytes(self._http, _response(answer.status, headers))
        whole = answer.body if self._takes_body else b""
        self._http.send_with_data_passthrough(h11.Data(data=whole))
        self._http.send(h11.EndOfMessage())
        body = memoryview(whole)
        with trio.fail_after(self._limits.send_s + len(body) / self._limits.send_bytes_per_s):
            await self._write(head + body[:_SEND_BYTES])
            for at in range(_SEND_BYTES, len(body), _SEND_BYTES):
                await self._write(body[at : at + _SEND_BYTES])
        return self._http.our_state is h11.DONE

    async def refuse(self, refusal: Refusal) -> None:
        """Answer in place of reading on; `end` is to follow."""
        body = str(refusal).encode()
        lines = [
            f"HTTP/1.1 {refusal.status} {_phrase(refusal.status)}",
            "Access-Control-Allow-Origin: *",
            *(f"{name}: {value}" for name, value in self._of_a_text(())),
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        head = "\r\n".join([*lines, "", ""]).encode()
        await self._write(head + (body if self._takes_body else b""))

    async def turn_away(self) -> None:
        """Say that there is no room, in place of reading, and end."""
        await self.refuse(no_room())
        await self.end()

    def _of_a_text(self, headers: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Return what an answer without a type says to a browser, which would guess one."""
        has_type = any(name == "Content-Type" for name, _ in headers)
        return _TEXT if self._is_browser and not has_type else ()

    async def end(self) -> None:
        """Send no more, and read on for a while: the last answer is lost where a connection is
        closed on bytes that nobody has read."""
        await self._stream.send_eof()
        with trio.move_on_after(_LINGER_S):
            while await self._stream.receive_some(_RECEIVE_BYTES):
                pass

    async def start_stream(self, headers: tuple[tuple[str, str], ...]) -> bool:
        """Begin an answer that lasts as long as the connection; False when it has no body."""
        await self._write(_bytes(self._http, _response(200, list(headers))))
        return self._takes_body

    async def send_piece(self, data: bytes) -> None:
        """Send a piece of such an answer."""
        await self._write(_bytes(self._http, h11.Data(data=data)))

    async def until_closed(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the client is gone."""
        try:
            while await self._stream.receive_some(_RECEIVE_BYTES):
                pass
        except trio.BrokenResourceError:
            pass
        scope.cancel()

    async def _receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_RECEIVE_BYTES))

    async def _write(self, data: bytes | memoryview) -> None:
        with trio.fail_after(self._limits.send_s):
            await self._stream.send_all(data)


def no_room() -> Refusal:
    """Return what is answered where as many connections are open as may be."""
    return Refusal(503, "Service Unavailable: connection limit reached")


def _bytes(http: h11.Connection, event: h11.Event) -> bytes:
    return http.send(event) or b""


def _phrase(status: int) -> str:
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def _response(status: int, headers: list[tuple[str, str]]) -> h11.Response:
    return h11.Response(status_code=status, headers=headers, reason=_phrase(status).encode())


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
