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

_BEAT_S: Final = 10.0
_FULL_S: Final = 1.0
_TOO_LATE: Final = 4408
_WRITER: Final = "web"


async def serve_scroll(socket: WebSocket, opened: OpenScrolls) -> None:
    """Speak y-websocket's protocol about the scroll that the path of a socket names."""
    await socket.accept()
    try:
        phext = socket.path_params["phext"]
        coordinate = Coordinate.parse(socket.path_params["coordinate"])
        flag = Flag()
        participant = opened.enter(phext, coordinate, _WRITER, flag.set)
    except PhextsyncError as error:
        await _close(socket, error)
        return
    speaker = Speaker(participant)

    async def hear() -> None:
        while (data := await next_bytes(socket)) is not None:
            reader = Reader(data)
            speaker.receive(reader.integer(), reader)
            if speaker.has_to_say:
                flag.set()

    try:
        await _talk(socket, speaker, flag, hear)
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
        heard, to_save = Flag(), Flag()
        scrolls_max = self._limits.scrolls_max
        conversation = Conversation(self._opened, _WRITER, scrolls_max, admits, heard.set)

        async def hear() -> None:
            while (data := await next_bytes(socket)) is not None:
                if conversation.receive(data):
                    to_save.set()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._save, conversation, to_save)
                nursery.start_soon(self._expect_one, socket, conversation)
                await _talk(socket, conversation, heard, hear)
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
    flag: Flag,
    hear: Callable[[], Awaitable[None]],
) -> None:
    """Hear and say until the socket ends, or something is refused: that is its last word. What is
    being said is said to its end, or nothing could be said behind it."""
    problem: PhextsyncError | None = None
    is_ending = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say, socket, speaker, flag, is_ending)
            try:
                await hear()
            except PhextsyncError as error:
                problem = error
            is_ending.set()
            flag.set()
        if problem is not None:
            await _close(socket, problem)
    except* PhextsyncError as group:
        await _close(socket, first(group))
    except* trio.BrokenResourceError:
        pass  # the client is gone: there is nobody to tell


async def _say(
    socket: WebSocket, speaker: Speaker | Conversation, flag: Flag, is_ending: trio.Event
) -> None:
    while not is_ending.is_set():
        flag.lower()
        while not is_ending.is_set() and (message := speaker.next_message()) is not None:
            await _send(socket, message)
        with trio.move_on_after(_BEAT_S):
            await flag.wait()
        if not flag.is_set:
            speaker.beat()


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
