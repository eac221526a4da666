"""Links: carries frames between the core and the network, link by link."""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from typing import Final, TypeVar

import trio

from phextsync.boundaries import Boundary, one_line
from phextsync.errors import LinkError
from phextsync.framing import FrameChannel
from phextsync.node.acquaintances import Acquaintances
from phextsync.node.gate import Gate
from phextsync.node.status import PeerStatus
from phextsync.signals import Signal
from phextsync.sync.synchronizer import Synchronizer
from phextsync.sync.traffic import Traffic
from phextsync.transport import Complaints, SecureLink
from phextsync.trust.certificates import certificate_end_s
from phextsync.trust.identity import NodeIdentity

LINKS_MAX: Final = 16
"""Links that a node dials, unless it is told otherwise."""
LINKS_PER_PEER: Final = 4
"""Of which one stays; an honest peer has two for a moment."""
ACCEPTED_PER_DIALLED: Final = 4
"""Links in all for each that a node chooses to dial."""

_SEND_BYTES: Final = 256 << 10
_PROMPT_BYTES: Final = 16 << 10
_PROMPT_PAUSE_S: Final = 0.001  # what comes faster is gathered until the next turn


T = TypeVar("T")


@dataclass(slots=True)
class _Running:
    """What runs one link: its channel, the event that says there is something to send.

    `is_idle`: everything that was taken from the core has been handed to the channel.
    """

    secure: SecureLink
    part: str
    certificate_end_s: float
    has_work: trio.Event
    scope: trio.CancelScope
    dialled_at: float | None  # None: the peer has dialled
    reason: str = "the connection was closed"
    has_failed: bool = False
    is_idle: bool = False
    prompt_after: float = -math.inf

    def fail(self, error: Exception) -> None:
        """An error of this node ends the link."""
        self.reason = f"an error of this node: {one_line(error)}"
        self.has_failed = True


class Links:
    """The links of one node that are open, by the numbers that the core knows them by.

    Nobody is met before the `gate` is open. `drain` is called after the core has taken frames or
    lost a link; `on_free(peer_id)` when a link ended that may be made again at once.
    """

    def __init__(
        self,
        core: Synchronizer,
        acquaintances: Acquaintances,
        boundary: Boundary,
        *,
        links_max: int,
        alone_s: float,
        drain: Callable[[], None],
        on_free: Callable[[bytes], None],
    ) -> None:
        self._core = core
        self._acquaintances = acquaintances
        self._boundary = boundary
        self._links_max = links_max
        self.gate = Gate(alone_s)
        self._drain = drain
        self._on_free = on_free
        self._running: dict[int, _Running] = {}
        self._is_noting = False
        self._noted: dict[int, None] = {}
        self._last_number = 0
        self.changed = Signal()  # a peer has said hello, or one that was dialled has not
        self._ended_traffic = Traffic()  # of links that are no more
        self._complaints = Complaints()

    # -- what is asked of them -------------------------------------------------------------

    def numbers(self) -> list[int]:
        """Return the numbers of the open links, in ascending order."""
        return list(self._running)

    def connected(self) -> set[bytes]:
        """Return the node ids at the other ends, also of those not yet let in."""
        return {link.secure.peer_id for link in self._running.values()}

    def ready(self) -> set[bytes]:
        """Return the node ids of the peers that have said hello."""
        return {peer_id for _, peer_id, _ in self._core.peers()}

    def slowest_s(self) -> float:
        """Return the longest round trip that any link has, 0 where none is known."""
        links = self._core.links.values()
        return max((link.heartbeat.round_trip_s or 0.0 for link in links), default=0.0)

    def dialled_before(self, time: float) -> list[tuple[int, bytes]]:
        """Return number and peer of the links that this node has dialled, before a time."""
        return [
            (number, link.secure.peer_id)
            for number, link in self._running.items()
            if link.dialled_at is not None and link.dialled_at < time
        ]

    def admitted(self) -> set[bytes]:
        """Return the node ids at the other ends, without those that were refused."""
        return {
            link.secure.peer_id
            for number, link in self._running.items()
            if self._core.refusal(number) is None
        }

    def traffic(self) -> Traffic:
        """Return what all links have carried since the start."""
        total = self._ended_traffic
        for number in self._running:
            total = _sum(total, self._core.traffic(number))
        return total

    def peers(self) -> list[PeerStatus]:
        """Return the connected peers, by node id."""
        rows = []
        for number, peer_id, name in self._core.peers():
            if number in self._running:
                lost = self._acquaintances.lost(peer_id)
                hello = self._core.links[number].hello
                row = PeerStatus(
                    peer_id,
                    name,
                    self._running[number].secure.address,
                    self._core.links[number].state(),
                    self._core.links[number].heartbeat.round_trip_s,
                    self._core.traffic(number),
                    self._core.lacks.of_link(self._core.links[number]),
                    "" if lost is None else lost.reason,
                    "" if hello is None else f"{hello.major}.{hello.minor}",
                )
                rows.append(row)
        return sorted(rows, key=lambda peer: peer.node_id)

    # -- whom they are for -----------------------------------------------------------------

    def end_expired(self, wall_time_s: float) -> None:
        """End links whose peer's certificate is no longer valid."""
        for number, link in self._running.items():
            if wall_time_s >= link.certificate_end_s:
                self._core.end_link(number, "your certificate has expired")

    def recheck(self, identity: NodeIdentity, *, has_changed: bool) -> None:
        """End links that are no longer allowed, all of them where this node may do something else
        than before."""
        for number, link in self._running.items():
            secure = link.secure
            if not identity.recognises(secure.certificate):
                self._core.end_link(number, "the mesh has changed its key")
            elif has_changed:
                self._core.end_link(number, "this node has a new certificate")
            elif (refusal := self._admit(secure)) is not None:
                self._core.end_link(number, refusal)

    def _admit(self, secure: SecureLink) -> str | None:
        return self._acquaintances.known.admit(secure.peer_id, secure.peer_name)

    # -- running ---------------------------------------------------------------------------

    async def accept(self, secure: SecureLink) -> None:
        """Run a link that a peer has made, if there is room for it."""
        if self.gate.waiting < ACCEPTED_PER_DIALLED * self._links_max:
            await self.gate.passed()
        elif not self.gate.is_open:
            return  # which closes it
        same = sum(link.secure.peer_id == secure.peer_id for link in self._running.values())
        if len(self._running) >= ACCEPTED_PER_DIALLED * self._links_max or same >= LINKS_PER_PEER:
            self._complaints.log(
                "refused %s: %d links are open, %d of its own",
                *(secure.address, len(self._running), same),
            )
            return  # which closes it
        with self._boundary.around(_part(secure)):
            await self.run(secure, dialled=False)

    async def run(self, secure: SecureLink, *, dialled: bool) -> str | None:
        """Run a link to its end; return why it was refused by either side, if it was. An error
        of this node while it runs, in the core too, ends the link and nothing else."""
        permissions, refusal = self._acquaintances.judge(secure)
        self._last_number += 1
        number = self._last_number
        link = _Running(
            secure,
            _part(secure),
            certificate_end_s(secure.certificate),
            trio.Event(),
            trio.CancelScope(),
            trio.current_time() if dialled else None,
        )
        self._running[number] = link
        try:
            with self._boundary.around(link.part) as outcome, link.scope:
                self._core.link_opened(
                    trio.current_time(),
                    number,
                    secure.peer_id,
                    dialled=dialled,
                    permissions=permissions,
                    refusal=refusal,
                )
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive, number, link, nursery.cancel_scope)
                    await self._send(number, link)
                    nursery.cancel_scope.cancel()
            if outcome.error is not None:
                link.fail(outcome.error)
            if link.has_failed:
                return link.reason
        finally:
            del self._running[number]
            refusal = self._core.refusal(number)
            # After an error, or a refusal, it is dialled when its time has come.
            if refusal is None and not link.has_failed:
                self._on_free(secure.peer_id)
            self._ended_traffic = _sum(self._ended_traffic, self._core.traffic(number))
            self._core.link_closed(trio.current_time(), number, link.reason)
            self._drain()
        return refusal

    # -- sending ---------------------------------------------------------------------------

    def wake(self, number: int) -> None:
        """There may be something to send on a link. The core says so in the middle of its work."""
        link = self._running.get(number)
        if link is None:
            return
        if self._core.is_finished(number):
            link.scope.cancel()  # what is being sent, the peer will not take
        if self._is_noting:
            self._noted[number] = None
        else:
            link.has_work.set()

    def edited(self, number: int) -> None:
        """There is an edit of ours to send on a link, and the core can be asked for it now."""
        link = self._running.get(number)
        if link is None:
            return
        if self._is_noting:
            self._noted[number] = None
        elif not self._sends_now(number, link):
            link.has_work.set()

    def promptly(self, call: Callable[[], T]) -> T:
        """Return what `call` does; what it makes the core say is sent on idle links in this turn of
        the scheduler. On others, and after an error, their tasks send it."""
        if self._is_noting:
            return call()
        self._is_noting = True
        may_send = False
        try:
            result = call()
            may_send = True
        finally:
            self._is_noting = False
            if self._noted:
                self._end_noting(may_send=may_send)
        return result

    def _end_noting(self, *, may_send: bool) -> None:
        noted, self._noted = self._noted, {}
        for number in noted:
            link = self._running.get(number)
            if link is not None and not (may_send and self._sends_now(number, link)):
                link.has_work.set()

    def _sends_now(self, number: int, link: _Running) -> bool:
        """Send on an idle link; return whether nothing is left to do."""
        channel, now = link.secure.channel, trio.current_time()
        if not (link.is_idle and now >= link.prompt_after and channel.may_send_nowait):
            return False
        link.prompt_after = now + _PROMPT_PAUSE_S
        try:
            frames, is_all = self._core.next_frames(now, number, _PROMPT_BYTES)
            return (not frames or channel.send_nowait(frames)) and is_all
        except LinkError as error:
            link.reason = str(error)
        except Exception as error:  # a boundary, without the cost of `around`
            self._boundary.note(link.part, error)
            link.fail(error)
        link.scope.cancel()
        return True

    async def _send(self, number: int, link: _Running) -> None:
        channel = link.secure.channel
        try:
            while not self._core.is_finished(number):
                frames, _ = self._core.next_frames(trio.current_time(), number, _SEND_BYTES)
                if frames or channel.is_behind:
                    await channel.send_many(frames)
                else:
                    link.is_idle = True
                    await link.has_work.wait()
                    link.is_idle = False
                    link.has_work = trio.Event()
        except LinkError as error:
            link.reason = str(error)

    async def _receive(self, number: int, link: _Running, scope: trio.CancelScope) -> None:
        channel: FrameChannel = link.secure.channel
        try:
            while True:
                frames = await channel.receive_many()
                self.promptly(partial(self._take, number, frames))
                self._drain()
        except trio.EndOfChannel:
            pass
        except LinkError as error:
            link.reason = str(error)
        scope.cancel()

    def _take(self, number: int, frames: list[bytes]) -> None:
        now = trio.current_time()
        for frame in frames:
            self._core.receive(now, number, frame)


def _part(secure: SecureLink) -> str:
    return f"the link with {secure.peer_name} at {secure.address}"


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))
