"""Web sockets for ASGI: one connection after its handshake, on wsproto over trio.

Messages are read when they are asked for, so that a client that sends faster than it is served
waits. There are no extensions: compressing small updates saves little, and zlib's windows would
take some 300 KB for each socket.
"""

from typing import Final

import h11
import trio
from starlette.types import Message
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from phextsync.gateways.http1 import Refusal, Share
from phextsync.sockets import PromptStream
from phextsync.web.limits import WebLimits

PROMPT: Final = "phextsync.prompt"
"""The extension of ASGI under which a function gives the stream of a web socket that was
accepted: it can send at once, without a turn of the scheduler."""

_RECEIVE_BYTES: Final = 64 << 10
_TOO_BIG: Final = 1009
_PROTOCOL: Final = 1002
_NO_ROOM: Final = 1013
_LOST: Final = 1006


class WebSocketStream:
    """The messages of one web socket, as ASGI has them."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        early: bytes,
        limits: WebLimits,
        share: Share,
        said: Share,
    ) -> None:
        """`early` is what came behind the request; `share` holds what comes, `said` what goes."""
        self._stream = stream
        self._prompt = stream if isinstance(stream, PromptStream) else None
        self._limits = limits
        self._share = share
        self._said = said
        self._connection = Connection(ConnectionType.SERVER, trailing_data=early)
        self._sending = trio.Lock()
        self._is_cut = False
        self._closed: int | None = None

    async def receive(self) -> Message:
        """Return the next message, or that the socket has ended."""
        message = bytearray()
        has_waited = False
        while self._closed is None:
            for event in self._connection.events():
                match event:
                    case Ping():
                        await self._send(event.response())
                    case CloseConnection():
                        await self._answer_close(event)
                        break
                    case BytesMessage() | TextMessage():
                        data = event.data
                        piece = data.encode() if isinstance(data, str) else data
                        if not self._has_room(len(message), len(piece)):
                            await self.close(_TOO_BIG, "too many bytes in one message")
                            break
                        message += piece
                        if event.message_finished:
                            self._share.clear()
                            if not has_waited:  # others have their turn, however much it sends
                                await trio.lowlevel.checkpoint()
                            return _message(message, event)
                await trio.lowlevel.checkpoint()  # and in however many frames
            if self._closed is None:
                has_waited = True
                await self._read()
        self._share.clear()
        return {"type": "websocket.disconnect", "code": self._closed}

    def _has_room(self, size: int, more: int) -> bool:
        try:
            self._share.add(more)
        except Refusal:
            return False
        return size + more <= self._limits.message_bytes_max

    async def _read(self) -> None:
        """Read what comes next; a client that is silent is asked whether it lives."""
        deadline = trio.current_time() + self._limits.silent_s
        data: bytes | bytearray | None = None
        try:
            while data is None:
                with trio.move_on_after(self._limits.ping_s):
                    data = await self._stream.receive_some(_RECEIVE_BYTES)
                if data is None and trio.current_time() >= deadline:
                    data = b""
                elif data is None:
                    await self._send(Ping())
            if data:
                self._connection.receive_data(bytes(data))
            else:
                self._closed = _LOST
        except RemoteProtocolError as error:
            await self.close(_PROTOCOL, str(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._closed = _LOST

    async def send(self, data: bytes | str) -> None:
        """Send a message. trio.BrokenResourceError when the socket has ended, the client takes
        nothing, or others take so little that there is no room for it."""
        if self._closed is not None:
            raise _closing()
        try:
            with self._said.holding(len(data.encode()) if isinstance(data, str) else len(data)):
                if isinstance(data, str):
                    await self._send(TextMessage(data=data))
                else:
                    await self._send(BytesMessage(data=data))
        except Refusal as refusal:
            await self.close(_NO_ROOM, str(refusal))
            raise trio.BrokenResourceError(str(refusal)) from refusal

    @property
    def is_behind(self) -> bool:
        """Whether something of `send_nowait` is still to be sent, by `flush` or the next `send`."""
        return self._prompt is not None and self._prompt.is_behind

    @property
    def may_send_nowait(self) -> bool:
        """Whether `send_nowait` would send now, and overtake nothing."""
        if self._prompt is None or self._closed is not None or self._is_cut:
            return False
        return not (self._prompt.is_behind or self._sending.locked())

    def send_nowait(self, data: bytes) -> bool:
        """Send a message at once, as far as that goes, and return whether all went. Only where
        `may_send_nowait`. trio.BrokenResourceError when the socket has ended."""
        assert self._prompt is not None
        try:
            return self._prompt.send_nowait(self._connection.send(BytesMessage(data=data)))
        except LocalProtocolError as error:
            raise _closing() from error

    async def flush(self) -> None:
        """Send what `send_nowait` has left. Errors are those of `send`."""
        await self._send(None)

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, and say why."""
        if self._closed is None:
            await self._send(CloseConnection(code=code, reason=reason))
            self._closed = code

    async def _answer_close(self, event: CloseConnection) -> None:
        if self._closed is None:
            await self._send(event.response())
            self._closed = event.code

    async def _send(self, event: Event | None) -> None:
        try:
            try:
                self._sending.acquire_nowait()  # without a turn of others before what is said
            except trio.WouldBlock:
                await self._sending.acquire()
            try:
                await self._write(b"" if event is None else self._connection.send(event))
            finally:
                self._sending.release()
        except LocalProtocolError as error:
            raise _closing() from error
        except (trio.TooSlowError, trio.ClosedResourceError) as error:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client takes nothing") from error

    async def _write(self, data: bytes) -> None:
        if self._is_cut:
            raise trio.BrokenResourceError("a frame was cut off: nothing can be said behind it")
        if self._prompt is not None and not self._prompt.is_behind:
            # As nearly always: what goes at once needs no limit of time, which costs more.
            if self._prompt.send_nowait(data):
                await trio.lowlevel.checkpoint()
                return
            data = b""  # the rest goes first
        self._is_cut = True
        with trio.fail_after(self._limits.send_s):
            await self._stream.send_all(data)
        self._is_cut = False

    async def begin(self, head: bytes) -> None:
        """Send the answer to the handshake."""
        async with self._sending:
            await self._write(head)


def _closing() -> trio.BrokenResourceError:
    """One of both sides has begun to close it."""
    return trio.BrokenResourceError("the web socket is closed")


def is_web_socket(request: h11.Request) -> bool:
    """Whether a request asks for a web socket."""
    upgrade = dict(request.headers).get(b"upgrade", b"").lower()
    hops = [value for name, value in request.headers if name == b"connection"]
    tokens = [token.strip() for token in b",".join(hops).lower().split(b",")]
    return request.method == b"GET" and upgrade == b"websocket" and b"upgrade" in tokens


def accepted(request: h11.Request, subprotocol: str | None) -> h11.InformationalResponse | None:
    """Return the answer to a handshake, None when it is none."""
    headers = dict(request.headers)
    key = headers.get(b"sec-websocket-key")
    if key is None or headers.get(b"sec-websocket-version") != b"13":
        return None
    answer = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", generate_accept_token(key)),
    ]
    if subprotocol is not None:
        answer.append((b"Sec-WebSocket-Protocol", subprotocol.encode()))
    return h11.InformationalResponse(status_code=101, headers=answer)


def subprotocols_of(request: h11.Request) -> list[str]:
    """Return the protocols that a client offers to speak."""
    offered = dict(request.headers).get(b"sec-websocket-protocol", b"").decode("latin-1")
    return [name.strip() for name in offered.split(",") if name.strip()]


def _message(data: bytearray, last: Event) -> Message:
    if isinstance(last, TextMessage):
        return {"type": "websocket.receive", "text": data.decode()}
    return {"type": "websocket.receive", "bytes": bytes(data)}
