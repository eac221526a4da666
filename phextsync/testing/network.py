"""A network in memory: hosts that dial, listen and hear of each other over `paths`.

What TCP does to a program it does too: a connection is a stream of bytes that stay in order or
break; what was sent waits in a bounded buffer until it is read; who knocks where nobody listens
is refused, and who sends to an end that is gone hears so, if the way back is open.
"""

import errno
import itertools
import operator
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import trio

from phextsync.discovery import Sighting
from phextsync.testing.paths import Paths, Timeline

SOCKET_BYTES: Final = 256 << 10
"""What a connection holds of one direction between the sender and who reads there."""

_SEGMENT_BYTES: Final = 16 << 10
_RECEIVE_BYTES: Final = 64 << 10
_BACKLOG_MAX: Final = 128


class MemoryNetwork:
    """Hosts, each with paths to some others. `note` is told of all bytes that arrive."""

    def __init__(
        self, timeline: Timeline, paths: Paths, count: int, note: Callable[..., None]
    ) -> None:
        self.timeline = timeline
        self.paths = paths
        self.note = note
        self.bytes_sent = 0
        self.buffer_bytes_max = 0
        self.hosts = [Host(self, number) for number in range(count)]
        self._numbers = itertools.count()

    def number(self) -> int:
        """Return a number for a connection."""
        return next(self._numbers)

    def between(self, source: int, target: int) -> "list[MemoryStream]":
        """Return the ends at `source` of its connections to `target`, oldest first."""
        return [stream for stream in self.hosts[source].streams() if stream.peer == target]

    def cut(self, one: int, other: int) -> None:
        """Break every connection between two hosts, at both ends."""
        for stream in (*self.between(one, other), *self.between(other, one)):
            stream._break()


class Browser(Protocol):
    """What hears on a host of other hosts."""

    def asked(self, by: int) -> None:
        """A host asks who is here."""

    def see(self, sighting: Sighting) -> None:
        """A host says that it is there."""

    def forget(self, node_id: bytes) -> None:
        """A host says goodbye."""


class Host:
    """One machine. It is on and awake until it is told otherwise, whatever runs there."""

    def __init__(self, network: MemoryNetwork, number: int) -> None:
        self.network = network
        self.number = number
        self.name = f"node-{number}"
        self.peers = network.paths.peers(number)
        self._is_off = False
        self._is_asleep = False
        self._deferred: deque[Callable[[], None]] = deque()
        self._streams: dict[int, MemoryStream] = {}
        self._listener: MemoryListener | None = None
        self._browser: Browser | None = None

    def streams(self) -> "list[MemoryStream]":
        """Return the ends of connections that are open here, oldest first."""
        return list(self._streams.values())

    # -- what the machine does -------------------------------------------------------------

    def halt(self, *, is_silent: bool) -> None:
        """What runs here is gone at once. Peers are told, unless the machine went with it."""
        self._is_asleep = False
        self._deferred.clear()
        self._listener = self._browser = None
        for stream in self.streams():
            stream.abandon(is_silent=is_silent)
        self._is_off = is_silent

    def boot(self) -> None:
        """Switch the machine on."""
        self._is_off = False

    def sleep(self) -> None:
        """Let nothing leave and nothing be heard from now on; what arrives waits."""
        self._is_asleep = True

    def wake(self) -> None:
        """Hear what has arrived, and send what was to be sent, in order."""
        self._is_asleep = False
        deferred, self._deferred = self._deferred, deque()
        for call in deferred:
            call()

    def send(self, peer: int, size: int, arrive: Callable[[], None]) -> None:
        """Let `size` bytes go to a peer; `arrive` is called when it hears them."""
        if self._is_asleep:
            self._deferred.append(partial(self.send, peer, size, arrive))
        elif not self._is_off:
            target = self.network.hosts[peer]
            self.network.paths.between(self.number, peer).send(size, lambda: target._hear(arrive))

    def signal(self, peer: int, arrive: Callable[[], None]) -> None:
        """Send a peer a word that is not repeated when it is lost."""
        if not (self._is_off or self._is_asleep):
            target = self.network.hosts[peer]
            self.network.paths.between(self.number, peer).signal(lambda: target._hear(arrive))

    def _hear(self, arrive: Callable[[], None]) -> None:
        if self._is_asleep:
            self._deferred.append(arrive)
        elif not self._is_off:
            arrive()

    # -- discovery -------------------------------------------------------------------------

    def browse(self, browser: Browser) -> None:
        """Let somebody hear of other hosts from now on, in place of whoever did."""
        self._browser = browser

    def stop_browsing(self, browser: Browser) -> bool:
        """Let somebody hear of no other hosts any more; say whether they did."""
        if self._browser is not browser:
            return False
        self._browser = None
        return True

    def tell(self, peer: int, message: Callable[[Browser], None]) -> None:
        """Let a datagram go to whoever browses at a peer when it arrives."""
        target = self.network.hosts[peer]

        def arrive() -> None:
            if target._browser is not None:
                message(target._browser)

        self.signal(peer, arrive)

    # -- connections -----------------------------------------------------------------------

    async def dial(self, host: str, port: int) -> "MemoryStream":
        """Return a connection to a host. OSError when it refuses or there is no path."""
        peer = next((p for p in self.peers if self.network.hosts[p].name == host), None)
        if peer is None:
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        stream = MemoryStream(self, peer)
        answered = trio.Event()
        target = self.network.hosts[peer]
        self.send(peer, 0, lambda: target._knocked(stream, answered))
        try:
            await answered.wait()
        except BaseException:
            stream.reset()
            raise
        if stream.twin is None:
            stream.reset()
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return stream

    def listen(self) -> "MemoryListener":
        """Take connections from now on."""
        self._listener = MemoryListener(self)
        return self._listener

    def _knocked(self, theirs: "MemoryStream", answered: trio.Event) -> None:
        if self._listener is None:
            self.signal(theirs.host.number, answered.set)
            return
        ours = MemoryStream(self, theirs.host.number)
        ours.twin = theirs
        if self._listener.offer(ours):
            self.send(ours.peer, 0, lambda: theirs.answered(ours, answered))
        else:
            ours.forget()


class MemoryStream(trio.abc.Stream):
    """One end of a connection between two hosts; `twin` is the other, once it has answered."""

    def __init__(self, host: Host, peer: int) -> None:
        self.host = host
        self.peer = peer
        self.twin: MemoryStream | None = None
        self._number = host.network.number()
        self._received = bytearray()
        self._under_way = 0  # bytes that we sent and the twin has not read
        self._is_ended = False
        self._is_broken = False
        self._is_closed = False
        self._is_abandoned = False
        self._is_sending = False
        self._is_receiving = False
        self._may_send = trio.Event()
        self._may_receive = trio.Event()
        host._streams[self._number] = self

    # -- what a program calls --------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as room comes for them."""
        self._begin_to_send()
        try:
            await trio.lowlevel.checkpoint()
            await self._wait_for_room()
            with memoryview(data) as view:
                for start in range(0, len(view), _SEGMENT_BYTES):
                    await self._wait_for_room()
                    self.put(bytes(view[start : start + _SEGMENT_BYTES]))
        finally:
            self._is_sending = False

    @property
    def is_behind(self) -> bool:
        """Whether something is being sent, or nothing can be."""
        is_usable = not (self._is_closed or self._is_broken) and self.twin is not None
        return not is_usable or self._is_sending or self._under_way >= SOCKET_BYTES

    def send_nowait(self, data: bytes) -> bool:
        """Send at once, whether there is room for all of it or not."""
        assert not self.is_behind
        self.put(data)
        return True

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for a byte."""
        self._begin_to_send()
        try:
            await trio.lowlevel.checkpoint()
            await self._wait_for_room()
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes that have arrived, up to `max_bytes`; b"" when the peer has closed."""
        limit = _RECEIVE_BYTES if max_bytes is None else operator.index(max_bytes)
        if limit < 1:
            raise ValueError(f"expected to receive at least 1 byte, found {limit}")
        self._check_open()
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._is_receiving = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._received or self._is_ended or self._is_broken:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while not (self._received or self._is_ended or self._is_broken or self._is_closed):
                self._may_receive = trio.Event()
                await self._may_receive.wait()
        finally:
            self._is_receiving = False
        self._check_open()
        if not self._received:
            self._check_usable()
        data = bytes(self._received[:limit])
        del self._received[:limit]
        if self.twin is not None:
            self.twin._was_read(len(data))
        return data

    async def aclose(self) -> None:
        """Close; the peer learns of it after all that was sent. What was not read breaks it."""
        if self._received:
            self.reset()
        elif self.forget() and self.twin is not None:
            self.host.send(self.peer, 0, self.twin._end)
        await trio.lowlevel.checkpoint()

    # -- what a simulator calls ------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Send bytes, whether there is room for them or not."""
        twin, network = self.twin, self.host.network
        assert twin is not None, "nothing is sent before the peer has answered"
        self._under_way += len(data)
        network.bytes_sent += len(data)
        network.buffer_bytes_max = max(network.buffer_bytes_max, self._under_way)
        self.host.send(self.peer, len(data), lambda: twin._take(data))

    def reset(self) -> None:
        """Close without a goodbye: what is under way to here will not be taken."""
        if self.forget() and self.twin is not None:
            self.host.signal(self.peer, self.twin._break)

    def abandon(self, *, is_silent: bool) -> None:
        """The program that held this end is gone: what it still does concerns nobody."""
        if not is_silent and self.twin is not None:
            self.host.signal(self.peer, self.twin._break)
        self._is_abandoned = self._is_broken = True
        self.host._streams.pop(self._number, None)

    def forget(self) -> bool:
        """Close and tell nobody; say whether anybody should be told."""
        was_open, self._is_closed = not (self._is_closed or self._is_abandoned), True
        self.host._streams.pop(self._number, None)
        self._wake()
        return was_open

    # -- what the twin brings about --------------------------------------------------------

    def answered(self, twin: "MemoryStream", waiting: trio.Event) -> None:
        """Take note of who is at the other end."""
        self.twin = twin
        waiting.set()
        if self._is_closed:
            self.host.signal(self.peer, twin._break)

    def _take(self, data: bytes) -> None:
        if self._is_closed or self._is_broken:
            if self.twin is not None:
                self.host.signal(self.peer, self.twin._break)
            return
        self.host.network.note("bytes", self.host.number, self._number, data)
        self._received += data
        self._may_receive.set()

    def _end(self) -> None:
        self._is_ended = True
        self._may_receive.set()

    def _break(self) -> None:
        self._is_broken = True
        self._wake()

    def _was_read(self, count: int) -> None:
        self._under_way -= count
        self._may_send.set()

    # -- common ----------------------------------------------------------------------------

    def _begin_to_send(self) -> None:
        self._check_usable()
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._is_sending = True

    async def _wait_for_room(self) -> None:
        self._check_usable()
        while self._under_way >= SOCKET_BYTES:
            self._may_send = trio.Event()
            await self._may_send.wait()
            self._check_usable()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")

    def _check_usable(self) -> None:
        self._check_open()
        if self._is_broken:
            raise trio.BrokenResourceError("the peer reset the connection")

    def _wake(self) -> None:
        self._may_send.set()
        self._may_receive.set()


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Where a host is dialled. Who knocks while the backlog is full gets no answer."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._send, self._receive = trio.open_memory_channel[MemoryStream](_BACKLOG_MAX)

    async def accept(self) -> MemoryStream:
        """Return the next connection."""
        return await self._receive.receive()

    async def aclose(self) -> None:
        """Stop listening; a connection that was not accepted yet is reset."""
        if self._host._listener is self:
            self._host._listener = None
        while self._receive.statistics().current_buffer_used:
            self._receive.receive_nowait().reset()
        self._receive.close()
        await trio.lowlevel.checkpoint()

    def offer(self, stream: MemoryStream) -> bool:
        """Let a connection wait to be accepted; say whether there is room."""
        try:
            self._send.send_nowait(stream)
        except trio.WouldBlock:
            return False
        return True
