"""Line: the way to the process that owns the folder, for the client's task and threads that ask.

A thread that asks sends its request itself while all before it has gone (`NumberedSender`), and
takes in the answer if it comes soon (`SharedReader`): no other thread has to be woken for it.
Everything else goes by the queue, and is taken in, in the client's task.
"""

from contextlib import suppress
from typing import Final

import trio

from phextsync.errors import LinkError
from phextsync.framing import FrameChannel, FrameQueue
from phextsync.index import NumberedSender, SharedReader
from phextsync.sockets import SocketStream

_GOODBYE_S: Final = 1.0


class Line:
    """Sends to the owner over a connection. Threads may send beside it from `open` on."""

    def __init__(
        self,
        stream: SocketStream,
        channel: FrameChannel,
        sender: NumberedSender,
        reader: SharedReader,
    ) -> None:
        """`channel` is over `stream`; nobody receives from it."""
        self._stream = stream
        self._channel = channel
        self._queue = FrameQueue(channel)
        self._sender = sender
        self._reader = reader
        self._is_for_threads = False
        reader.open(stream.socket.fileno())

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

    async def arrives(self) -> None:
        """Wait until something has arrived; take it in where threads do not."""
        if self._reader.is_open:
            await trio.lowlevel.wait_readable(self._stream.socket)
        else:
            try:
                self._reader.feed(await self._stream.receive_some())
            except trio.BrokenResourceError:
                self._reader.feed(b"")

    def end(self) -> None:
        """Wait for nothing more: another thread has taken in the last that is wanted."""
        with suppress(OSError):  # the other end is gone
            self._stream.socket.shutdown(trio.socket.SHUT_RDWR)

    def close(self) -> None:
        """Let no thread send any more, nor take anything in."""
        self._is_for_threads = False
        self._sender.close()
        self._reader.close()

    async def _open_again(self) -> None:
        while True:
            await self._queue.sent.wait()
            self._open_if_idle()

    def _open_if_idle(self) -> None:
        if self._is_for_threads and self._queue.is_idle:
            self._sender.open(self._stream.socket.fileno())
