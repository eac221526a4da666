"""Editing: the web sockets over which clients of Yjs edit scrolls.

Each socket has a task that hears and one that says; what is refused ends the socket, and its reason
is in the frame that closes it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio
from starlette.websockets import WebSocket, WebSocketState

from phextsync.boundaries import first
from phextsync.errors import (
    PermissionDeniedError,
    PhextsyncError,
    ProtocolError,
    StoreFullError,
)
from phextsync.index import Coordinate
from phextsync.node.node import Node
from phextsync.signals import Flag
from phextsync.web.hocuspocus import Conversation
from phextsync.web.lib0 import Reader
from phextsync.web.limits import WebLimits
from phextsync.web.open_scrolls import OpenScrolls
from phextsync.web.speaking import Speaker, closing, denied
from phextsync.web.websockets import PROMPT, WebSocketStream

_BEAT_S: Final = 10.0
_FULL_S: Final = 1.0
_TOO_LATE: Final = 4408
_WRITER: Final = "web"


class Voice:
    """Says what a speaker has to say over one socket that was accepted: news at once, where all
    that came before has gone, and anything else in a task."""

    def __init__(self, socket: WebSocket) -> None:
        stream_of: Callable[[], WebSocketStream] | None = socket.scope["extensions"].get(PROMPT)
        self._stream = None if stream_of is None else stream_of()
        self._socket = socket
        self._flag = Flag()
        self._silent: Speaker | Conversation | None = None  # all that it had to say has been said
        self._problem: Exception | None = None

    def wake(self) -> None:
        """There may be something to say."""
        self._flag.set()

    def tell(self) -> None:
        """There is news that can be had in the middle of an edit, which no error here ends."""
        speaker, stream = self._silent, self._stream
        if speaker is None or stream is None or self._flag.is_set or not stream.may_send_nowait:
            self._flag.set()
            return
        try:
            message = speaker.next_message()
            if message is None or stream.send_nowait(message):
                return
        except Exception as error:
            self._problem = error
        self._flag.set()

    async def run(self, speaker: Speaker | Conversation, is_ending: trio.Event) -> None:
        """Say what there is to say until the end. Errors are those of the speaker and, when the
        socket has ended, trio.BrokenResourceError."""
        while not is_ending.is_set():
            self._flag.lower()
            if self._problem is not None:
                raise self._problem
            if self._stream is not None and self._stream.is_behind:
                await self._stream.flush()
            while not is_ending.is_set() and (message := speaker.next_message()) is not None:
                await _send(self._socket, message)
            self._silent = speaker
            with trio.move_on_after(_BEAT_S):
                await self._flag.wait()
            self._silent = None
            if not self._flag.is_set:
                speaker.beat()


async def serve_scroll(socket: WebSocket, opened: OpenScrolls) -> None:
    """Speak y-websocket's protocol about the scroll that the path of a socket names."""
    await socket.accept()
    try:
        phext = socket.path_params["phext"]
        coordinate = Coordinate.parse(socket.path_params["coordinate"])
        voice = Voice(socket)
        participant = opened.enter(phext, coordinate, _WRITER, voice.wake, voice.tell)
    except PhextsyncError as error:
        await _close(socket, error)
        return
    speaker = Speaker(participant)

    async def hear() -> None:
        while (data := await next_bytes(socket)) is not None:
            reader = Reader(data)
            speaker.receive(reader.integer(), reader)
            if speaker.has_to_say:
                voice.wake()

    try:
        await _talk(socket, speaker, voice, hear)
    finally:
        opened.leave(phext, coordinate, participant)


class Conversations:
    """The sockets of Hocuspocus' clients."""

    def __init__(self, node: Node, opened: OpenScrolls, limits: WebLimits) -> None:
        self._node = node
        self._opened = opened
        self._limits = limits

    async def serve(self, socket: WebSocket, admits: Callable[[str], bool]) -> None:
        """Speak Hocuspocus' protocol over a socket."""
        await socket.accept()
        voice, to_save = Voice(socket), Flag()
        scrolls_max = self._limits.scrolls_max
        conversation = Conversation(self._opened, _WRITER, scrolls_max, admits, voice.wake)

        async def hear() -> None:
            while (data := await next_bytes(socket)) is not None:
                if conversation.receive(data):
                    to_save.set()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._save, conversation, to_save)
                nursery.start_soon(self._expect_one, socket, conversation)
                await _talk(socket, conversation, voice, hear)
                nursery.cancel_scope.cancel()
        finally:
            conversation.leave()

    async def _save(self, conversation: Conversation, to_save: Flag) -> None:
        """Tell the client what is on the disk, and only that."""
        while True:
            await to_save.take()
            while conversation.saving():
                with suppress(StoreFullError):
                    await self._node.durable()
                    conversation.saved()
                    break
                await trio.sleep(_FULL_S)

    async def _expect_one(self, socket: WebSocket, conversation: Conversation) -> None:
        """End a socket over which no scroll was opened in time."""
        await trio.sleep(self._limits.token_s)
        if not conversation:
            with suppress(trio.BrokenResourceError):
                told = "expected a document and a token in time, found neither"
                await _end(socket, _TOO_LATE, told)


async def _talk(
    socket: WebSocket,
    speaker: Speaker | Conversation,
    voice: Voice,
    hear: Callable[[], Awaitable[None]],
) -> None:
    """Hear and say until the socket ends, or something is refused: that is its last word. What is
    being said is said to its end, or nothing could be said behind it."""
    problem: PhextsyncError | None = None
    is_ending = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(voice.run, speaker, is_ending)
            try:
                await hear()
            except PhextsyncError as error:
                problem = error
            is_ending.set()
            voice.wake()
        if problem is not None:
            await _close(socket, problem)
    except* PhextsyncError as group:
        await _close(socket, first(group))
    except* trio.BrokenResourceError:
        pass  # the client is gone: there is nobody to tell


async def next_bytes(socket: WebSocket) -> bytes | None:
    """Return the next message of a socket, None at its end. ProtocolError when it is a text."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    data: bytes | None = message.get("bytes")
    if data is None:
        raise ProtocolError("expected a message of bytes, found a text")
    return data


async def _close(socket: WebSocket, problem: BaseException) -> None:
    """Say why a socket ends."""
    assert isinstance(problem, PhextsyncError)
    with suppress(trio.BrokenResourceError):
        if isinstance(problem, PermissionDeniedError):
            await _send(socket, denied(str(problem)))
        await _end(socket, *closing(problem))


async def _send(socket: WebSocket, data: bytes) -> None:
    """Send a message. trio.BrokenResourceError when the socket has ended."""
    if socket.application_state is not WebSocketState.CONNECTED:
        raise trio.BrokenResourceError("the web socket is closed")
    await socket.send_bytes(data)


async def _end(socket: WebSocket, code: int, reason: str) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        await socket.close(code, reason)
