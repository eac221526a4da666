"""Requests for ASGI: those of one HTTP connection, one after the other, on h11 over trio."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

import h11
import trio
from starlette.types import ASGIApp, Message, Scope

from phextsync.gateways.http1 import ByteBudget, Refusal, Share, no_room
from phextsync.waiting import Waiting
from phextsync.web.limits import WebLimits
from phextsync.web.websockets import (
    PROMPT,
    WebSocketStream,
    accepted,
    is_web_socket,
    subprotocols_of,
)

_RECEIVE_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 64 << 10
_LINGER_S: Final = 2.0
_GONE: Final[Mapping[str, str]] = {"type": "http.disconnect"}
_PLAIN: Final = (b"Content-Type", b"text/plain; charset=utf-8")


class Requests:
    """The requests of one connection, each answered by an ASGI application."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        app: ASGIApp,
        limits: WebLimits,
        under_way: ByteBudget,
        answers: ByteBudget,
        *,
        waiting: Waiting,
        is_secure: bool,
        client: tuple[str, int] | None,
    ) -> None:
        self._stream = stream
        self._app = app
        self._limits = limits
        self._share = Share(under_way)
        self._said = Share(answers)
        self._waiting = waiting
        self._scheme = "https" if is_secure else "http"
        self._client = client
        self._http = h11.Connection(h11.SERVER, limits.head_bytes_max)
        self._body_bytes = 0
        self._body_until = 0.0
        self._is_gone = False

    async def answer_all(self) -> None:
        """Answer until either side wants no more. trio.BrokenResourceError and trio.TooSlowError
        when the client is gone, or too slow."""
        try:
            while (request := await self._next_request()) is not None:
                if is_web_socket(request):
                    await self._serve_web_socket(request)
                    break
                await self._answer(request)
                if not self._has_room_for_another():
                    break
        except Refusal as refusal:
            await self._refuse(refusal)
        except h11.RemoteProtocolError as error:
            await self._refuse(Refusal(400, f"Bad Request: {error}"))
        finally:
            self._share.clear()
        await self._waiting.during(self._end)

    async def turn_away(self) -> None:
        """Say that there is no room, in place of reading, and end."""
        await self._refuse(no_room())
        await self._end()

    async def _next_request(self) -> h11.Request | None:
        with trio.fail_after(self._limits.head_s):
            event = await self._waiting.during(self._next_event)
        if not isinstance(event, h11.Request):
            return None
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            raise Refusal(400, "Bad Request: Content-Length beside Transfer-Encoding")
        self._body_until = trio.current_time() + self._limits.body_s
        return event

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event of a request; never that more bytes are needed."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                going_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._write(self._http.send(going_on) or b"")
            self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
        return event

    def _scope(self, request: h11.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        try:
            decoded = unquote(path.decode("latin-1"), errors="strict")
        except UnicodeDecodeError as error:  # in place of them another name would be meant
            raise Refusal(
                400, "Bad Request: expected a path in UTF-8, found other bytes"
            ) from error
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode(),
            "scheme": self._scheme,
            "path": decoded,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": self._client,
            "server": None,
        }

    # -- HTTP ------------------------------------------------------------------------------

    async def _answer(self, request: h11.Request) -> None:
        self._body_bytes = 0
        answer = _Answer(takes_body=request.method != b"HEAD")

        async def send(message: Message) -> None:
            if self._is_gone:
                raise trio.BrokenResourceError("the client is gone")
            with self._said.holding(len(message.get("body", b""))):
                await self._write(answer.bytes_of(self._http, message))

        await self._app(self._scope(request), self._receive, send)
        self._share.clear()

    async def _receive(self) -> Message:
        if self._http.their_state is h11.SEND_BODY:
            return await self._receive_body()
        await self._until_gone()
        return dict(_GONE)

    async def _receive_body(self) -> Message:
        """Return the next piece of a body: its end, or a large one, so that an application that
        keeps them keeps few, however small those are in which it comes."""
        try:
            with trio.fail_at(self._body_until):
                piece = await self._waiting.during(self._next_piece)
        except h11.RemoteProtocolError as error:
            raise Refusal(400, f"Bad Request: {error}") from error
        has_more = self._http.their_state is h11.SEND_BODY
        return {"type": "http.request", "body": piece, "more_body": has_more}

    async def _next_piece(self) -> bytes:
        piece = bytearray()
        while len(piece) < _PIECE_BYTES:
            await trio.lowlevel.checkpoint()  # what is here already comes without a wait
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                break
            self._count(len(event.data))
            piece += event.data
        return bytes(piece)

    def _count(self, size: int) -> None:
        self._body_bytes += size
        self._share.add(size)
        if self._body_bytes > self._limits.body_bytes_max:
            raise Refusal(413, f"body too large (max {self._limits.body_bytes_max} bytes)")

    async def _until_gone(self) -> None:
        """Wait for the client's end; what it asks next waits meanwhile."""
        try:
            while len(self._http.trailing_data[0]) < self._limits.head_bytes_max:
                data = bytes(await self._stream.receive_some(_RECEIVE_BYTES))
                self._http.receive_data(data)
                if not data:
                    self._is_gone = True
                    return
        except trio.BrokenResourceError:
            self._is_gone = True
            return
        await trio.sleep_forever()

    def _has_room_for_another(self) -> bool:
        if self._http.their_state is h11.SEND_BODY:  # which nobody read: its end may be here
            with suppress(h11.RemoteProtocolError):
                self._http.next_event()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    # -- web sockets -----------------------------------------------------------------------

    async def _serve_web_socket(self, request: h11.Request) -> None:
        if not isinstance(self._http.next_event(), h11.EndOfMessage):
            raise Refusal(400, "Bad Request: expected a web socket without a body")
        socket: WebSocketStream | None = None
        answer = _Answer(takes_body=True)
        is_told = False

        async def receive() -> Message:
            nonlocal is_told
            if not is_told:
                is_told = True
                return {"type": "websocket.connect"}
            if socket is None:
                return {"type": "websocket.disconnect", "code": 1006}
            return await socket.receive()

        async def send(message: Message) -> None:
            nonlocal socket
            kind = message["type"]
            if kind == "websocket.accept":
                socket = await self._accept(request, message.get("subprotocol"))
            elif socket is not None and kind == "websocket.send":
                data = message.get("bytes")
                await socket.send(message["text"] if data is None else data)
            elif socket is not None and kind == "websocket.close":
                await socket.close(message.get("code", 1000), message.get("reason") or "")
            elif kind.startswith("websocket.http.response"):
                plain = {**message, "type": kind.removeprefix("websocket.")}
                await self._write(answer.bytes_of(self._http, plain))
            else:
                await self._refuse(Refusal(403, "Forbidden"))

        scope = {
            **self._scope(request),
            "type": "websocket",
            "scheme": "wss" if self._scheme == "https" else "ws",
            "subprotocols": subprotocols_of(request),
            "extensions": {"websocket.http.response": {}, PROMPT: lambda: socket},
        }
        await self._app(scope, receive, send)

    async def _accept(self, request: h11.Request, subprotocol: str | None) -> WebSocketStream:
        answer = accepted(request, subprotocol)
        if answer is None:
            raise Refusal(400, "Bad Request: expected the handshake of a web socket, version 13")
        head = self._http.send(answer) or b""
        early = bytes(self._http.trailing_data[0])
        socket = WebSocketStream(self._stream, early, self._limits, self._share, self._said)
        await socket.begin(head)
        return socket

    # -- the stream ------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        with trio.fail_after(self._limits.send_s):
            await self._stream.send_all(data)

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer in place of what was asked, unless something was answered already."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = str(refusal).encode()
        headers = [_PLAIN, (b"Content-Length", str(len(body)).encode()), (b"Connection", b"close")]
        response = h11.Response(status_code=refusal.status, headers=headers)
        head = self._http.send(response) or b""
        await self._write(head + (self._http.send(h11.Data(data=body)) or b""))

    async def _end(self) -> None:
        """Send no more, and read on for a while: the last answer is lost where a connection is
        closed on bytes that nobody has read."""
        stream = self._stream
        below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if isinstance(below, trio.abc.HalfCloseableStream):
            await below.send_eof()
            with trio.move_on_after(_LINGER_S):
                while await below.receive_some(_RECEIVE_BYTES):
                    pass


class _Answer:
    """What an application answers to one request, as bytes."""

    def __init__(self, *, takes_body: bool) -> None:
        self._takes_body = takes_body
        self._head: h11.Response | None = None

    def bytes_of(self, http: h11.Connection, message: Message) -> bytes:
        """Return what to send for a message; the head waits for the first piece of the body."""
        if message["type"] == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._head = h11.Response(status_code=message["status"], headers=headers)
            return b""
        data = b""
        if self._head is not None:
            data, self._head = http.send(self._head) or b"", None
        body = message.get("body", b"")
        if body and self._takes_body:
            data += http.send(h11.Data(data=body)) or b""
        if not message.get("more_body", False):
            data += http.send(h11.EndOfMessage()) or b""
        return data
