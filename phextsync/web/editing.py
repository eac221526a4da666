"""Editing: the web sockets over which clients of Yjs edit scrolls.

Each socket has a task that hears and one that says; what is refused ends the socket, and its reason
is in the frame that closes it.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio
from starlette.websockets import WebSocket

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
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say, socket, speaker, flag, nursery.cancel_scope)
            try:
                await _hear(socket, speaker, flag)
            except PhextsyncError as error:
                await _close(socket, error)
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError:
        pass  # the client is gone: there is nobody to tell
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
        try:
            async with trio.open_nursery() as nursery:
                scope = nursery.cancel_scope
                nursery.start_soon(_say, socket, conversation, heard, scope)
                nursery.start_soon(self._save, conversation, to_save)
                nursery.start_soon(self._expect_one, socket, conversation, scope)
                try:
                    while (data := await next_bytes(socket)) is not None:
                        if conversation.receive(data):
                            to_save.set()
                except PhextsyncError as error:
                    await _close(socket, error)
                scope.cancel()
        except* trio.BrokenResourceError:
            pass  # the client is gone: there is nobody to tell
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

    async def _expect_one(
        self, socket: WebSocket, conversation: Conversation, scope: trio.CancelScope
    ) -> None:
        """End a socket over which no scroll was opened in time."""
        await trio.sleep(self._limits.token_s)
        if not conversation:
            await socket.close(4408, "expected a document and a token in time, found neither")
            scope.cancel()


async def _hear(socket: WebSocket, speaker: Speaker, flag: Flag) -> None:
    while (data := await next_bytes(socket)) is not None:
        reader = Reader(data)
        speaker.receive(reader.integer(), reader)
        flag.set()


async def _say(
    socket: WebSocket, speaker: Speaker | Conversation, flag: Flag, scope: trio.CancelScope
) -> None:
    try:
        while True:
            flag.lower()
            while (message := speaker.next_message()) is not None:
                await socket.send_bytes(message)
            with trio.move_on_after(_BEAT_S):
                await flag.wait()
            if not flag.is_set:
                speaker.beat()
    except PhextsyncError as error:
        await _close(socket, error)
        scope.cancel()


async def next_bytes(socket: WebSocket) -> bytes | None:
    """Return the next message of a socket, None at its end. ProtocolError when it is a text."""
    await trio.lowlevel.checkpoint()  # others have their turn, however much a client sends
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    data: bytes | None = message.get("bytes")
    if data is None:
        raise ProtocolError("expected a message of bytes, found a text")
    return data


async def _close(socket: WebSocket, error: PhextsyncError) -> None:
    if isinstance(error, PermissionDeniedError):
        await socket.send_bytes(denied(str(error)))
    await socket.close(*closing(error))
