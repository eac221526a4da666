"""Framing: frames over any trio stream. Knows nothing of what they mean.

A frame on a stream is its length in four bytes, big-endian, and its body.
"""

import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import trio

from phextsync.errors import LinkError
from phextsync.signals import Flag, Signal
from phextsync.sockets import PromptStream, close_in_children

FRAME_BYTES_MAX: Final = 1 << 20
"""What a peer may make us hold for one frame."""
SEND_TIMEOUT_S: Final = 60.0
"""A peer that takes no frame, or 128 KiB of small ones, for this long does not read; 20 KB/s do."""

_HEADER_BYTES: Final = 4
_SEND_BYTES: Final = 128 << 10  # frames joined for one system call
_CLOSE_TIMEOUT_S: Final = 1.0


class FrameChannel(trio.abc.Channel[bytes]):
    """Frames over a stream. A cancelled `receive` loses nothing; a cancelled `send` ends the link.

    A stream that breaks, or ends within a frame, raises `LinkError`; one that ends between frames
    raises `trio.EndOfChannel`. One task may send while another receives. `stream` is what lies
    below.
    """

    def __init__(self, stream: trio.abc.Stream, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.stream = stream
        self._prompt = stream if isinstance(stream, PromptStream) else None
        close_in_children(stream)
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._start = 0  # what lies before it in the buffer has been handed out
        self._send_failed = False

    async def send(self, value: bytes) -> None:
        """Send one frame in one piece."""
        self._check_size(value)
        await self._send_all(framed(value))

    async def send_many(self, frames: Iterable[bytes]) -> None:
        """Send frames in order, small ones joined so that many cost one system call."""
        pieces: list[bytes] = []
        joined_bytes = 0
        for frame in frames:
            self._check_size(frame)
            pieces += (len(frame).to_bytes(_HEADER_BYTES), frame)
            joined_bytes += _HEADER_BYTES + len(frame)
            if joined_bytes >= _SEND_BYTES:
                await self._send_all(b"".join(pieces))
                pieces.clear()
                joined_bytes = 0
        await self._send_all(b"".join(pieces))

    @property
    def may_send_nowait(self) -> bool:
        """Whether `send_nowait` would send now, and overtake nothing."""
        return self._prompt is not None and not (self._send_failed or self._prompt.is_behind)

    @property
    def is_behind(self) -> bool:
        """Whether something of `send_nowait` is still to be sent, by `send_many`."""
        return self._prompt is not None and self._prompt.is_behind

    def send_nowait(self, frames: Iterable[bytes], rest: bytes = b"") -> bool:
        """Send frames at once, as far as that goes, and return whether all went; `send_many`, even
        of none, sends the rest first. Only where `may_send_nowait`. `rest` is that of a frame that
        another began on the same socket."""
        assert self._prompt is not None
        pieces = [rest]
        for frame in frames:
            self._check_size(frame)
            pieces += (len(frame).to_bytes(_HEADER_BYTES), frame)
        try:
            return self._prompt.send_nowait(b"".join(pieces))
        except trio.BrokenResourceError as error:
            self._send_failed = True
            raise LinkError(broken_reason(error)) from error

    async def receive(self) -> bytes:
        """Return the next frame."""
        await trio.lowlevel.checkpoint_if_cancelled()
        frame = self._take_frame()
        if frame is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while frame is None:
            await self._receive_more()
            frame = self._take_frame()
        return frame

    async def receive_many(self) -> list[bytes]:
        """Return all frames that have arrived, at least one; cheaper than `receive` in a burst."""
        if len(self._buffer) > self._start:
            frames = [await self.receive()]
        else:
            await self._receive_more()
            frames = []
        try:
            while self._start < len(self._buffer) and (frame := self._take_frame()) is not None:
                frames.append(frame)
        except LinkError:
            if not frames:
                raise
            # The frames before it count; the next call meets it again.
        return frames or [await self.receive()]

    async def aclose(self) -> None:
        """Close the stream, with a goodbye if the peer takes it within a second."""
        with trio.move_on_after(_CLOSE_TIMEOUT_S):
            await self.stream.aclose()

    def _check_size(self, frame: bytes) -> None:
        if len(frame) > self._frame_bytes_max:
            raise ValueError(f"frame of {len(frame)} bytes exceeds {self._frame_bytes_max}")

    async def _send_all(self, data: bytes) -> None:
        if self._send_failed:
            raise LinkError("the link ended in the middle of a frame that was sent")
        try:
            is_short = 0 < len(data) <= _SEND_BYTES  # what is left of it is copied
            if is_short and self._prompt is not None and not self._prompt.is_behind:
                # As nearly always: what goes at once needs no limit of time, which costs more.
                await trio.lowlevel.checkpoint_if_cancelled()
                if self._prompt.send_nowait(data):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return
                data = b""  # the rest goes first
            with trio.move_on_after(SEND_TIMEOUT_S) as scope:
                await self.stream.send_all(data)
            if scope.cancelled_caught:
                self._send_failed = True
                raise LinkError(f"the peer took nothing for {SEND_TIMEOUT_S:g} s")
        except trio.BrokenResourceError as error:
            self._send_failed = True
            raise LinkError(broken_reason(error)) from error
        except trio.BusyResourceError:
            raise
        except BaseException:
            self._send_failed = True
            raise

    def _take_frame(self) -> bytes | None:
        """Return the first whole frame in the buffer; check its length before its body is here."""
        body = self._start + _HEADER_BYTES
        if len(self._buffer) < body:
            return None
        length = int.from_bytes(self._buffer[self._start : body])
        if length > self._frame_bytes_max:
            raise LinkError(f"frame of {length} bytes exceeds {self._frame_bytes_max}")
        end = body + length
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            frame = bytes(view[body:end])
        self._start = end
        return frame

    async def _receive_more(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError as error:
            raise LinkError(broken_reason(error)) from error
        # CPython drops the front of a bytearray without moving the rest.
        del self._buffer[: self._start]
        self._start = 0
        if data:
            self._buffer += data
        elif self._buffer:
            raise LinkError(f"the link ended within a frame, {len(self._buffer)} bytes into it")
        else:
            raise trio.EndOfChannel


def framed(frame: bytes) -> bytes:
    """Return a frame as it lies on a stream."""
    return b"".join((len(frame).to_bytes(_HEADER_BYTES), frame))


class FrameQueue:
    """Frames on their way into a channel, in order. Those that go at once are sent where they are
    put, which takes no turn of the scheduler; `run` sends all others."""

    def __init__(self, channel: FrameChannel) -> None:
        self._channel = channel
        self._frames: list[bytes] = []
        self._has_frames = Flag()
        self.waiting_bytes = 0
        """Of frames that `run` has still to send."""
        self.sent = Signal()
        """Some of those were sent."""

    @property
    def is_idle(self) -> bool:
        """Whether all has gone, and what is put goes at once."""
        return not self.waiting_bytes and self._channel.may_send_nowait

    def finish(self, rest: bytes) -> None:
        """Send the rest of a frame, which another began on the same socket. Only while idle."""
        with suppress(LinkError):
            if self._channel.send_nowait((), rest):
                return
        self._has_frames.set()

    def put(self, *frames: bytes) -> None:
        """Send frames, now or later. A link that is broken is for `run` to tell."""
        size = sum(map(len, frames))
        is_next = not self.waiting_bytes  # `run` rests between the pieces of what it sends
        if is_next and size <= _SEND_BYTES and self._channel.may_send_nowait:
            try:
                is_sent = self._channel.send_nowait(frames)
            except LinkError:
                is_sent = False
            if is_sent:
                return
        else:
            self._frames += frames
            self.waiting_bytes += size
        self._has_frames.set()

    async def run(self) -> None:
        """Send until cancelled what did not go at once. LinkError when the link is broken."""
        while True:
            await self._has_frames.take()
            frames, self._frames = self._frames, []
            await self._channel.send_many(frames)
            self.waiting_bytes -= sum(map(len, frames))
            self.sent.notify()


def broken_reason(error: trio.BrokenResourceError) -> str:
    """Say in one line why a stream broke."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, ssl.SSLError):
        return f"the connection broke: {cause.strerror}"
    return str(error) or "the peer ended the connection"
