"""A network in memory: hosts that dial, listen and discover each other over the paths of `links`.

What TCP does to a program it does too: a connection is a stream of bytes that stay in order or
break; what was sent waits in a bounded buffer until it is read; who knocks where nobody listens
is refused, and who sends to an end that is gone hears so, if the way back is open. Frames and TLS
are those of `transport`, on top. Sightings travel as mDNS does: once, unless the path is closed.
"""

import errno
import heapq
import itertools
import logging
import math
import operator
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

import trio
from cryptography.hazmat.primitives.serialization import Encoding

from phextsync import transport
from phextsync.boundaries import Boundary
from phextsync.discovery import Address, Announcement, Sighting
from phextsync.errors import IdentityError, LinkError
from phextsync.testing.links import Paths, Timeline
from phextsync.transport import FrameChannel, SecureLink
from phextsync.trust.certificates import certificate_name, certificate_node_id
from phextsync.trust.identity import NodeIdentity

SOCKET_BYTES: Final = 256 << 10
"""What a connection holds of one direction between the sender and who reads there."""

_SEGMENT_BYTES: Final = 16 << 10
_RECEIVE_BYTES: Final = 64 << 10
_BACKLOG_MAX: Final = 128
_SIGHTINGS_MAX: Final = 64
_QUERY_S: Final = (1.0, 60.0)  # the first interval and the longest: RFC 6762, section 5.2

_logger = logging.getLogger("phextsync.testing.network")


class TrioTimeline:
    """A timeline of trio's clock, kept by `run`."""

    def __init__(self) -> None:
        self.made = 0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._alarm = trio.CancelScope()
        self._is_running = False

    @property
    def now(self) -> float:
        """Seconds by trio's clock; 0 before it runs."""
        return trio.current_time() if self._is_running else 0.0

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a time; what is due at once comes in the order of these calls."""
        heapq.heappush(self._calls, (max(time, self.now), next(self._numbers), call))
        if time < self._alarm.deadline:
            self._alarm.deadline = time

    async def run(self) -> NoReturn:
        """Make the calls that are due, one after the other, until cancelled; count them."""
        self._is_running = True
        while True:
            while self._calls and self._calls[0][0] <= self.now:
                self.made += 1
                heapq.heappop(self._calls)[2]()
            deadline = self._calls[0][0] if self._calls else math.inf
            with trio.CancelScope(deadline=deadline) as self._alarm:
                await trio.sleep_forever()


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


class Host:
    """One machine. It is on and awake until it is told otherwise, whatever runs there."""

    def __init__(self, network: MemoryNetwork, number: int) -> None:
        self.network = network
        self.number = number
        self.name = f"node-{number}"
        self._peers = network.paths.peers(number)
        self._is_off = False
        self._is_asleep = False
        self._deferred: deque[Callable[[], None]] = deque()
        self._streams: dict[int, MemoryStream] = {}
        self._listener: MemoryListener | None = None
        self._browser: MemoryDiscovery | None = None

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

    # -- connections -----------------------------------------------------------------------

    async def dial(self, host: str, port: int) -> "MemoryStream":
        """Return a connection to a host. OSError when it refuses or there is no path."""
        peer = next((p for p in self._peers if self.network.hosts[p].name == host), None)
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


# -- what a node is given ------------------------------------------------------------------


@dataclass(slots=True)
class MemoryLinks:
    """The `transport.Network` of a node on a host. Without TLS, which costs more than all else,
    certificates are shown and not proved."""

    host: Host
    identity: NodeIdentity
    has_tls: bool = True

    async def connect(self, host: str, port: int) -> SecureLink:
        """Dial a node; LinkError names the address and why."""
        if self.has_tls:
            return await transport.connect(self.identity, host, port, open_stream=self.host.dial)
        address = transport.format_address(host, port)
        try:
            with trio.fail_after(transport.CONNECT_TIMEOUT_S):
                return await self._greet(await self.host.dial(host, port), address)
        except trio.TooSlowError:
            reason = f"no answer within {transport.CONNECT_TIMEOUT_S:g} s"
            raise LinkError(f"{address}: {reason}") from None
        except (LinkError, OSError) as error:
            raise LinkError(f"{address}: {error}") from error

    async def serve(
        self,
        handler: Callable[[SecureLink], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Run `handler` for each accepted link until cancelled."""
        listener = self.host.listen()
        task_status.started(transport.PORT)
        if self.has_tls:
            await transport.serve_listeners(
                lambda: self.identity, [listener], handler, peer_address=_peer_name
            )
        await Boundary(_logger).serve_listeners(
            [listener], partial(self._accept, handler), part=_peer_name
        )

    async def _accept(
        self, handler: Callable[[SecureLink], Awaitable[None]], stream: MemoryStream
    ) -> None:
        with trio.move_on_after(transport.HANDSHAKE_TIMEOUT_S) as scope:
            try:
                link = await self._greet(stream, _peer_name(stream))
            except LinkError as error:
                _logger.warning("refused a link from %s: %s", _peer_name(stream), error)
                return
        if not scope.cancelled_caught:
            async with link.channel:
                await handler(link)

    async def _greet(self, stream: MemoryStream, address: str) -> SecureLink:
        """Exchange certificates; close the stream when that fails."""
        channel = FrameChannel(stream)
        try:
            await channel.send(self.identity.certificate.public_bytes(Encoding.DER))
            certificate = await channel.receive()
            return SecureLink(
                channel,
                certificate_node_id(certificate),
                certificate_name(certificate),
                address,
                certificate,
            )
        except BaseException as error:
            stream.reset()
            if isinstance(error, IdentityError | trio.EndOfChannel):
                raise LinkError(f"expected a certificate, found {error!r}") from error
            raise


class MemoryDiscovery:
    """The `discovery.Discovery` of a node on a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._announcement: Announcement | None = None
        self._known: dict[bytes, Sighting] = {}
        self._waiting: dict[bytes, Sighting] = {}
        self._has_waiting = trio.Event()

    @asynccontextmanager
    async def open(
        self, announcement: Announcement
    ) -> AsyncIterator[trio.abc.ReceiveChannel[Sighting]]:
        """Announce and browse while the block lasts; leaving says goodbye."""
        send, receive = trio.open_memory_channel[Sighting](_SIGHTINGS_MAX)
        self._announcement = announcement
        self._host._browser = self
        async with receive, trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_again_and_again)
            nursery.start_soon(self._hand_over, send)
            try:
                yield receive
            finally:
                if self._host._browser is self:
                    self._host._browser = None
                    self._tell_all(lambda peer: peer._forget(announcement.node_id))
                nursery.cancel_scope.cancel()

    async def _ask_again_and_again(self) -> None:
        number = self._host.number
        self._tell_all(lambda peer: peer._see(self._sighting()))
        interval_s, longest_s = _QUERY_S
        while True:
            self._tell_all(lambda peer: peer._asked(number))
            await trio.sleep(interval_s)
            interval_s = min(2 * interval_s, longest_s)

    async def _hand_over(self, send: trio.MemorySendChannel[Sighting]) -> None:
        """Give sightings to the reader; those of one node that wait are one, the newest."""
        while True:
            for node_id in list(self._waiting):
                await send.send(self._waiting.pop(node_id))
            await self._has_waiting.wait()
            self._has_waiting = trio.Event()

    def _tell_all(self, message: "Callable[[MemoryDiscovery], None]") -> None:
        for peer in self._host._peers:
            self._tell(peer, message)

    def _tell(self, peer: int, message: "Callable[[MemoryDiscovery], None]") -> None:
        """Let a datagram go to those who browse at a peer when it arrives."""
        target = self._host.network.hosts[peer]

        def arrive() -> None:
            if target._browser is not None:
                message(target._browser)

        self._host.signal(peer, arrive)

    def _asked(self, by: int) -> None:
        sighting = self._sighting()
        self._tell(by, lambda peer: peer._see(sighting))

    def _see(self, sighting: Sighting) -> None:
        own = self._announcement
        assert own is not None, "who browses has announced itself"
        if sighting.mesh_tag not in own.tags or self._known.get(sighting.node_id) == sighting:
            return
        self._known[sighting.node_id] = sighting
        if sighting.node_id != own.node_id:
            self._waiting[sighting.node_id] = sighting
            self._has_waiting.set()

    def _forget(self, node_id: bytes) -> None:
        self._known.pop(node_id, None)

    def _sighting(self) -> Sighting:
        own = self._announcement
        assert own is not None, "who browses has announced itself"
        return Sighting(
            own.node_id,
            own.name,
            (Address(self._host.name, own.port),),
            own.mesh_tag,
            own.incarnation,
            own.protocol,
        )


def _peer_name(stream: MemoryStream) -> str:
    return stream.host.network.hosts[stream.peer].name
