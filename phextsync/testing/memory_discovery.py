"""MemoryDiscovery: sightings between hosts in memory.

They travel as those of mDNS do: once, unless the path is closed, and again when somebody asks.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from phextsync.discovery import Address, Announcement, Sighting
from phextsync.testing.network import Browser, Host

_SIGHTINGS_MAX: Final = 64
_QUERY_S: Final = (1.0, 60.0)  # the first interval and the longest: RFC 6762, section 5.2


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
        self._host.browse(self)
        async with receive, trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_again_and_again)
            nursery.start_soon(self._hand_over, send)
            try:
                yield receive
            finally:
                if self._host.stop_browsing(self):
                    self._tell_all(lambda peer: peer.forget(announcement.node_id))
                nursery.cancel_scope.cancel()

    async def _ask_again_and_again(self) -> None:
        number = self._host.number
        self._tell_all(lambda peer: peer.see(self._sighting()))
        interval_s, longest_s = _QUERY_S
        while True:
            self._tell_all(lambda peer: peer.asked(number))
            await trio.sleep(interval_s)
            interval_s = min(2 * interval_s, longest_s)

    async def _hand_over(self, send: trio.MemorySendChannel[Sighting]) -> None:
        """Give sightings to the reader; those of one node that wait are one, the newest."""
        while True:
            for node_id in list(self._waiting):
                await send.send(self._waiting.pop(node_id))
            await self._has_waiting.wait()
            self._has_waiting = trio.Event()

    def _tell_all(self, message: Callable[[Browser], None]) -> None:
        for peer in self._host.peers:
            self._host.tell(peer, message)

    def asked(self, by: int) -> None:
        sighting = self._sighting()
        self._host.tell(by, lambda peer: peer.see(sighting))

    def see(self, sighting: Sighting) -> None:
        own = self._announcement
        assert own is not None, "who browses has announced itself"
        if sighting.mesh_tag not in own.tags or self._known.get(sighting.node_id) == sighting:
            return
        self._known[sighting.node_id] = sighting
        if sighting.node_id != own.node_id:
            self._waiting[sighting.node_id] = sighting
            self._has_waiting.set()

    def forget(self, node_id: bytes) -> None:
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
