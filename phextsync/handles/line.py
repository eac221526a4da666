"""Line: the way to the process that owns the folder, for the client's task and threads that ask.

A thread that asks sends its request itself while all before it has gone (`NumberedSender`), so no
other thread has to be woken for it. Everything else goes by the queue, in the client's task.
"""

from typing import Final

import trio

from phextsync.errors import LinkError
from phextsync.framing import FrameChannel, FrameQueue
from phextsync.index import NumberedSender
from phextsync.sockets import SocketStream

_GOODBYE_S: Final = 1.0


class Line:
    """Sends to the owner over a connection. Threads may send beside it from `open` on."""

    def __init__(self, channel: FrameChannel, sender: NumberedSender) -> None:
        self._channel = channel
        self._queue = FrameQueue(channel)
        self._sender = sender
        self._is_for_threads = False

    def open(self) -> None:
        """Let other threads send, whenever all that was put has gone."""
        self._is_for_threads = True
        self._open_if_idle()

    def put(self, *frames: bytes) -> None:
        """Send frames, now or later, behind the rest of one that another thread began."""
        rest = self._sender.close()
        if rest:
            self._queue.finish(rest)
        self._queue.put(*frames)
        self._open_if_idle()

    async def run(self) -> None:
        """Send until cancelled what did not go at once. LinkError when the connection is broken."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._open_again)
            try:
                await self._queue.run()
            except LinkError:
                await trio.sleep(_GOODBYE_S)  # what the owner said before it left is read first
                raise

    def close(self) -> None:
        """Let no thread send any more."""
        self._is_for_threads = False
        self._sender.close()

    async def _open_again(self) -> None:
        while True:
            await self._queue.sent.wait()
            self._open_if_idle()

    def _open_if_idle(self) -> None:
        stream = self._channel.stream
        if self._is_for_threads and self._queue.is_idle and isinstance(stream, SocketStream):
            self._sender.open(stream.socket.fileno())
