"""Finding peers: mDNS, addresses that are given, and peers that were met before.

Discovery only suggests: what it says is neither complete nor trusted; the link proves who is
there. A `Discovery` announces a node while it is open and yields `Sighting`s.
"""

import json
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio
from zeroconf import (
    InterfaceChoice,
    IPVersion,
    ServiceBrowser,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)

SERVICE: Final = "_phextsync._tcp.local."
REMEMBERED_MAX: Final = 64
"""Peers kept in the file of remembered ones; the longest unseen go first."""
SIGHTINGS_MAX: Final = 256
"""Services kept between zeroconf's thread and the node; more than these are not heard of."""

_RESOLVE_TIMEOUT_MS: Final = 3000

_log = logging.getLogger("phextsync.discovery")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a node may listen: a host name or an IP address, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node says of itself. `mesh_tag` keeps meshes apart that share a network."""

    node_id: bytes
    name: str
    port: int
    mesh_tag: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node of our mesh that was seen, and where."""

    node_id: bytes
    addresses: tuple[Address, ...]


class Discovery(Protocol):
    """A way of finding peers."""

    def open(
        self, own: Announcement
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Sighting]]:
        """Announce `own` while the block lasts; yield what is seen of the same mesh."""


def parse_address(text: str, default_port: int) -> Address:
    """Read `host`, `host:port`, `[v6]:port` or a bare IPv6 address. ValueError otherwise."""
    host, port = text.strip(), ""
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"expected an address such as host or host:7439, found {text!r:.80}")
    return Address(host, int(port) if port else default_port)


class Mdns:
    """Multicast DNS by zeroconf, which has a thread of its own.

    `interfaces` are addresses of this machine, or all of them.
    """

    def __init__(self, interfaces: Sequence[str] | InterfaceChoice = InterfaceChoice.All) -> None:
        self._interfaces = interfaces

    @asynccontextmanager
    async def open(self, own: Announcement) -> AsyncIterator[trio.MemoryReceiveChannel[Sighting]]:
        """See `Discovery`. Where multicast is impossible, says so once and yields nothing."""
        send, receive = trio.open_memory_channel[Sighting](SIGHTINGS_MAX)
        with send, receive:
            try:
                zeroconf = await trio.to_thread.run_sync(self._start)
            except OSError as error:
                _log.warning("no mDNS here: %s", error)
                yield receive
                return
            bridge = _Bridge(zeroconf, own, trio.lowlevel.current_trio_token())
            try:
                await trio.to_thread.run_sync(bridge.announce)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(bridge.resolve_all, send)
                    yield receive
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(bridge.close)

    def _start(self) -> Zeroconf:
        return Zeroconf(interfaces=self._interfaces, ip_version=IPVersion.V4Only)


class _Bridge:
    """Between zeroconf's thread, which names services, and the trio task that resolves them."""

    def __init__(
        self, zeroconf: Zeroconf, own: Announcement, token: trio.lowlevel.TrioToken
    ) -> None:
        self._zeroconf = zeroconf
        self._own = own
        self._token = token
        self._seen: dict[str, None] = {}
        self._has_seen = trio.Event()
        self._info = ServiceInfo(
            SERVICE,
            f"{own.node_id.hex()}.{SERVICE}",
            port=own.port,
            properties={"mesh": own.mesh_tag, "name": own.name},
            server=f"phextsync-{own.node_id.hex()[:16]}.local.",
            parsed_addresses=_own_addresses(zeroconf),
        )
        self._browser: ServiceBrowser | None = None

    def announce(self) -> None:
        """Blocking: register our service and begin to browse."""
        self._zeroconf.register_service(self._info, cooperating_responders=True)
        self._browser = ServiceBrowser(self._zeroconf, SERVICE, handlers=[self._changed])

    def close(self) -> None:
        """Blocking: say goodbye and end zeroconf's thread."""
        if self._browser is not None:
            self._browser.cancel()
        self._zeroconf.unregister_service(self._info)
        self._zeroconf.close()

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """In zeroconf's thread: a service came, changed or went."""
        if state_change is not ServiceStateChange.Removed:
            self._token.run_sync_soon(self._note, name)

    def _note(self, name: str) -> None:
        if len(self._seen) < SIGHTINGS_MAX:
            self._seen[name] = None
            self._has_seen.set()

    async def resolve_all(self, send: trio.MemorySendChannel[Sighting]) -> None:
        """Ask for the details of each service that was seen and pass those of our mesh on."""
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(8)
            while True:
                await self._has_seen.wait()
                self._has_seen = trio.Event()
                names, self._seen = list(self._seen), {}
                for name in names:
                    nursery.start_soon(self._resolve, name, send, limit)

    async def _resolve(
        self, name: str, send: trio.MemorySendChannel[Sighting], limit: trio.CapacityLimiter
    ) -> None:
        info = await trio.to_thread.run_sync(
            self._zeroconf.get_service_info, SERVICE, name, _RESOLVE_TIMEOUT_MS, limiter=limit
        )
        sighting = None if info is None else _sighting(info, self._own)
        if sighting is not None:
            await send.send(sighting)


def _own_addresses(zeroconf: Zeroconf) -> list[str]:
    """Return the addresses of the interfaces that zeroconf answers on."""
    found: dict[str, None] = {}
    for transport in zeroconf.engine.senders:
        host = transport.sock_name[0] if transport.sock_name else ""
        if host and host != "0.0.0.0":
            found[host] = None
    return list(found) or ["127.0.0.1"]


def _sighting(info: ServiceInfo, own: Announcement) -> Sighting | None:
    """Return the sighting that a service stands for; None for another mesh, ourselves, nonsense."""
    try:
        node_id = bytes.fromhex(info.name.removesuffix(f".{SERVICE}"))
    except ValueError:
        return None
    mesh = info.properties.get(b"mesh")
    if len(node_id) != len(own.node_id) or node_id == own.node_id or not info.port:
        return None
    if mesh != own.mesh_tag.encode():
        return None
    addresses = tuple(Address(host, info.port) for host in info.parsed_addresses())
    return Sighting(node_id, _nearest_first(addresses)) if addresses else None


def _nearest_first(addresses: Sequence[Address]) -> tuple[Address, ...]:
    """Put loopback addresses last: they are right only for a node on this machine."""
    return tuple(sorted(addresses, key=lambda a: (a.host.startswith("127."), a)))


class RememberedPeers:
    """The addresses at which peers were reached before, kept in a file. No clock of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._peers: dict[str, tuple[Address, float]] = {}
        self._has_changed = False
        try:
            for node_id, host, port, seen in json.loads(path.read_text()):
                self._peers[str(node_id)] = (Address(str(host), int(port)), float(seen))
        except (OSError, ValueError, TypeError):
            self._peers.clear()  # a hint that is lost costs nothing

    def addresses(self) -> list[tuple[bytes, Address, float]]:
        """Return node ids, addresses and when they were last reached, the latest first."""
        latest = sorted(self._peers.items(), key=lambda item: -item[1][1])
        return [(bytes.fromhex(node_id), *place) for node_id, place in latest]

    def remember(self, node_id: bytes, address: Address, seen_s: float) -> None:
        """A peer was reached at `address` at the time `seen_s`."""
        self._peers[node_id.hex()] = (address, seen_s)
        while len(self._peers) > REMEMBERED_MAX:
            del self._peers[min(self._peers, key=lambda known: self._peers[known][1])]
        self._has_changed = True

    def save_if_changed(self) -> None:
        """Write the file, whole or not at all."""
        if self._has_changed:
            self._has_changed = False
            rows = [(node_id, a.host, a.port, seen) for node_id, (a, seen) in self._peers.items()]
            temporary = self._path.with_suffix(".new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(rows, file)
            temporary.replace(self._path)
