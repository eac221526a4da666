"""Who may be near: mDNS, static addresses and remembered peers.

Discovery only suggests addresses to dial; who answers there is the transport's affair. A record
is kept small and every stranger's record is checked, since anyone on the network may send one.
"""

import ipaddress
import json
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

import trio
import zeroconf

from phextsync.addresses import dial_order, local_addresses, local_interfaces
from phextsync.boundaries import Boundary
from phextsync.durable_files import write_whole
from phextsync.errors import IdentityError, LinkError, StoreDamagedError
from phextsync.transport import PORT, format_address
from phextsync.trust.certificates import NODE_ID_BYTES, check_node_name

SERVICE_TYPE: Final = "_phextsync._tcp.local."

ADDRESSES_MAX: Final = 8
"""Addresses of one peer, the likeliest first; more only delay the one that works."""
NAMES_MAX: Final = 1024
"""Service names waiting to be looked up; when full, the oldest waits for its next announcement."""
PEERS_FILE: Final = "peers.json"
REMEMBERED_PEERS_MAX: Final = 1024
"""When full, the peer seen longest ago is forgotten."""

NETWORK_CHECK_S: Final = 5.0
"""Between two looks at the addresses of this machine."""

_SEEN_BEHIND_S: Final = 3600.0
_SIGHTINGS_MAX: Final = 16  # between the look-ups and the node; when full, names wait and coalesce
_LOOKUPS_AT_ONCE: Final = 4  # so that one silent name does not hold up the others
_LOOKUP_TIMEOUT_MS: Final = 1000
_TOKEN_BYTES_MAX: Final = 64

_logger = logging.getLogger("phextsync.discovery")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A place to dial. `str` gives `host:port` or `[v6]:port`."""

    host: str
    port: int

    def __str__(self) -> str:
        return format_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node tells the network about itself. No `addresses` means all of this machine."""

    node_id: bytes
    name: str
    port: int
    mesh_tag: str
    incarnation: bytes = b""
    protocol: str = "1"
    addresses: tuple[str, ...] = ()
    previous_tags: tuple[str, ...] = ()
    """Of a mesh that changes its authority: who still announces the old one is looked for."""

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.mesh_tag, *self.previous_tags)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of another node of the mesh; nothing in it is proved."""

    node_id: bytes
    name: str
    addresses: tuple[Address, ...]
    mesh_tag: str
    incarnation: bytes
    protocol: str


class Discovery(Protocol):
    """A way to be found and to find: announces while the block lasts and gives what it sees.

    Only other nodes of the same mesh are given. The channel is bounded: for a slow reader the
    sightings of one node coalesce. It never ends by itself.
    """

    def open(
        self, announcement: Announcement
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Sighting]]: ...


def is_loopback(host: str) -> bool:
    """Whether a name or an address stands for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Mdns:
    """Discovery by multicast DNS on the given interfaces (addresses), or on all."""

    def __init__(
        self,
        interfaces: Sequence[str] | None = None,
        *,
        addresses: Callable[[], tuple[str, ...]] = local_addresses,
        network_check_s: float = NETWORK_CHECK_S,
    ) -> None:
        self._interfaces = tuple(interfaces) if interfaces is not None else None
        self._addresses = addresses
        self._network_check_s = network_check_s

    @asynccontextmanager
    async def open(
        self, announcement: Announcement
    ) -> AsyncIterator[trio.abc.ReceiveChannel[Sighting]]:
        """Announce and browse; leaving says goodbye, which takes about half a second."""
        send, receive = trio.open_memory_channel[Sighting](_SIGHTINGS_MAX)
        # The channel closes last: who finds must not send into a closed one.
        async with receive, trio.open_nursery() as nursery:
            nursery.start_soon(self._run, announcement, send)
            try:
                yield receive
            finally:
                nursery.cancel_scope.cancel()

    async def _run(
        self, announcement: Announcement, send: trio.MemorySendChannel[Sighting]
    ) -> None:
        """Keep one mDNS session; begin another when the network has changed."""
        boundary = Boundary(_logger)
        while True:
            with boundary.around("mDNS") as outcome:
                network = self._addresses()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._session, announcement, network, send, boundary)
                    while self._addresses() == network:  # noqa: ASYNC110  no event tells of it
                        await trio.sleep(self._network_check_s)
                    nursery.cancel_scope.cancel()
            if outcome.error is not None:
                await trio.sleep(self._network_check_s)

    async def _session(
        self,
        announcement: Announcement,
        network: tuple[str, ...],
        send: trio.MemorySendChannel[Sighting],
        boundary: Boundary,
    ) -> None:
        names = _Names(announcement.tags)
        # Naming them leaves out ::1, where multicast does not work.
        interfaces = self._interfaces or (*(ip for ip in network if ip != "::1"), "127.0.0.1")
        async with AsyncExitStack() as stack:
            mdns = announcer = await stack.enter_async_context(_multicast(interfaces))
            if announcement.addresses and all(map(is_loopback, announcement.addresses)):
                # To others the address is their own. Who they are is heard all the same.
                announcer = await stack.enter_async_context(_multicast(["127.0.0.1"]))
            browser = zeroconf.ServiceBrowser(mdns, SERVICE_TYPE, handlers=[names.put])
            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(_LOOKUPS_AT_ONCE):
                        nursery.start_soon(_look_up, mdns, names, announcement, send, boundary)
                    info = _service_info(announcement, self._interfaces or network)
                    # The name holds the node id: probing for another owner would cost 0.5 s.
                    await trio.to_thread.run_sync(
                        lambda: announcer.register_service(info, cooperating_responders=True)
                    )
            finally:
                with trio.CancelScope(shield=True), _at_exit():
                    await trio.to_thread.run_sync(browser.cancel)


def _at_exit() -> AbstractContextManager[None]:
    """No goodbye from an interpreter that is ending: it starts no threads (Python 3.12)."""
    return suppress(RuntimeError)


class RememberedPeers:
    """Where peers answered before, for a start where multicast is blocked, and when each was seen
    last, at whatever address. Time is an argument."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen_s: dict[bytes, float] = {}
        self._addresses: dict[bytes, Address] = {}
        self._names: dict[bytes, str] = {}
        self._is_changed = False

    def remember(self, node_id: bytes, address: Address, time_s: float) -> None:
        """Note that the node answered at `address` at `time_s`."""
        self._addresses[node_id] = address
        self._seen_s[node_id] = time_s
        self._is_changed = True
        self._make_room()

    def see(self, node_id: bytes, time_s: float) -> None:
        """Note that the node is there at `time_s`; the file is at most an hour behind."""
        before = self._seen_s.get(node_id, -math.inf)
        self._seen_s[node_id] = max(before, time_s)
        self._is_changed |= time_s - before > _SEEN_BEHIND_S
        self._make_room()

    def overlook(self, node_id: bytes) -> None:
        """Take the node for one that was never seen; its address is kept."""
        if node_id in self._seen_s:
            self._seen_s[node_id] = 0.0
            self._is_changed = True

    def remember_name(self, node_id: bytes, name: str) -> None:
        """Note how a node that is remembered calls itself."""
        if node_id in self._seen_s and self._names.get(node_id) != name:
            self._names[node_id] = name
            self._is_changed = True

    def name(self, node_id: bytes) -> str:
        """Return how the node called itself, the empty text when that is not known."""
        return self._names.get(node_id, "")

    def forget(self, node_id: bytes) -> None:
        """Forget a node, if it is known."""
        self._is_changed |= self._seen_s.pop(node_id, None) is not None
        self._addresses.pop(node_id, None)
        self._names.pop(node_id, None)

    def last_seen_s(self, node_id: bytes) -> float | None:
        """Return when the node was last seen, or None."""
        return self._seen_s.get(node_id)

    def seen_since(self, time_s: float) -> Iterator[bytes]:
        """Give the nodes that were seen at `time_s` or later."""
        return (
            node_id for node_id, seen_s in self._seen_s.items() if seen_s >= time_s and seen_s > 0
        )

    def addresses(self) -> tuple[Address, ...]:
        """Return the address of each peer that has one, the one seen last first."""
        return tuple(address for _, (address, _) in self.latest_first())

    def to_json(self) -> str:
        """Return all of it as text that `from_json` reads."""
        entries: list[dict[str, str | float]] = []
        for node_id in self._by_time():
            address = self._addresses.get(node_id)
            entries.append(
                {
                    "node_id": node_id.hex(),
                    "name": self.name(node_id),
                    **({} if address is None else {"address": str(address)}),
                    "last_seen_s": self._seen_s[node_id],
                }
            )
        return json.dumps({"peers": entries}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; StoreDamagedError for anything else."""
        remembered = cls()
        try:
            for entry in json.loads(text)["peers"][:REMEMBERED_PEERS_MAX]:
                node_id = _hex_bytes(entry["node_id"], NODE_ID_BYTES)
                if "address" in entry:
                    remembered._addresses[node_id] = parse_address(entry["address"])
                remembered._seen_s[node_id] = float(entry["last_seen_s"])
                if "name" in entry:
                    remembered._names[node_id] = str(entry["name"])
        except (ValueError, LookupError, TypeError, AttributeError, LinkError) as error:
            raise StoreDamagedError(f"expected remembered peers, found {text[:40]!r}") from error
        return remembered

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file at `path`. They are hints: a damaged file is logged and none are known."""
        remembered = cls()
        try:
            remembered = cls.from_json(path.read_text("utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, UnicodeError, StoreDamagedError) as error:
            _logger.warning("remembered peers in %s cannot be read: %s", path, error)
        remembered._path = path
        return remembered

    def save_if_changed(self) -> None:
        """Write the file that it was loaded from, when there is something new."""
        if not self._is_changed or self._path is None:
            return
        self._is_changed = False
        try:
            write_whole(self._path, self.to_json().encode())
        except OSError as error:
            _logger.warning("remembered peers cannot be kept in %s: %s", self._path, error)

    def latest_first(self) -> list[tuple[bytes, tuple[Address, float]]]:
        """Return each node that has an address with it, and when it was last seen."""
        return [
            (node_id, (self._addresses[node_id], self._seen_s[node_id]))
            for node_id in self._by_time()
            if node_id in self._addresses
        ]

    def _make_room(self) -> None:
        """Of too many forget one: one that others told of before one that answered."""
        if len(self._seen_s) > REMEMBERED_PEERS_MAX:
            self.forget(
                min(
                    self._seen_s,
                    key=lambda known: (known in self._addresses, self._seen_s[known], known),
                )
            )

    def _by_time(self) -> list[bytes]:
        return sorted(self._seen_s, key=lambda node_id: (-self._seen_s[node_id], node_id))


def parse_address(text: str, default_port: int = PORT) -> Address:
    """Read `host`, `host:port`, `v6` or `[v6]:port`; LinkError for anything else."""
    text = text.strip()
    try:
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            ipaddress.IPv6Address(host)
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError
            port = _port(rest[1:]) if rest else default_port
        elif text.count(":") > 1:
            ipaddress.IPv6Address(text)
            host, port = text, default_port
        else:
            host, colon, rest = text.partition(":")
            port = _port(rest) if colon else default_port
            if not host or any(character.isspace() or character in "[]/@" for character in host):
                raise ValueError
            host.encode("idna")  # as who looks it up will do
    except ValueError:
        raise LinkError(f"expected host, host:port or [v6]:port, found {text!r}") from None
    return Address(host, port)


class _Names:
    """Service names from zeroconf's thread for trio's. Each name waits once; bounded."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = tags
        self._lock = threading.Lock()
        self._waiting: dict[str, None] = {}
        self._token = trio.lowlevel.current_trio_token()
        self._takers = trio.lowlevel.ParkingLot()

    def put(
        self,
        zeroconf: zeroconf.Zeroconf,
        service_type: str,
        name: str,
        state_change: zeroconf.ServiceStateChange,
    ) -> None:
        """Called in zeroconf's thread. Goodbyes do not matter: pings notice who is gone."""
        if state_change.name == "Removed" or not any(f"-{tag}" in name for tag in self._tags):
            return
        with self._lock:
            self._waiting[name] = None
            if len(self._waiting) > NAMES_MAX:
                del self._waiting[next(iter(self._waiting))]
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._takers.unpark_all, idempotent=True)

    async def take(self) -> str:
        """Return the name that came last: a flood before it, each of whose names may take a second
        to look up in vain, does not hold it up."""
        while True:
            with self._lock:
                if self._waiting:
                    return self._waiting.popitem()[0]
            await self._takers.park()


@asynccontextmanager
async def _multicast(interfaces: Iterable[str]) -> AsyncIterator[zeroconf.Zeroconf]:
    """Have mDNS on the interfaces of some addresses for as long as the block lasts."""
    try:
        mdns = await trio.to_thread.run_sync(zeroconf.Zeroconf, sorted(set(interfaces)))
    except RuntimeError as error:  # an IPv6 address that has just gone
        raise OSError(str(error)) from error
    try:
        yield mdns
    finally:
        with trio.CancelScope(shield=True), suppress(zeroconf.Error), _at_exit():
            await trio.to_thread.run_sync(mdns.close)  # says goodbye, ends its threads


async def _look_up(
    mdns: zeroconf.Zeroconf,
    names: _Names,
    own: Announcement,
    send: trio.MemorySendChannel[Sighting],
    boundary: Boundary,
) -> None:
    while True:
        name = await names.take()
        info = None
        with boundary.around(f"looking up {name}"):
            info = await trio.to_thread.run_sync(
                mdns.get_service_info, SERVICE_TYPE, name, _LOOKUP_TIMEOUT_MS
            )
        if info is None:
            continue
        try:
            sighting = _sighting(info)
        except (ValueError, IdentityError) as error:
            _logger.debug("ignored the record %r: %s", name, error)
            continue
        if sighting.mesh_tag not in own.tags:
            continue
        if sighting.node_id != own.node_id:
            await send.send(sighting)
        elif sighting.incarnation != own.incarnation:
            _logger.warning(
                "another node announces our identity at %s: was a data folder copied?",
                ", ".join(map(str, sighting.addresses)),
            )


def _service_info(announcement: Announcement, local: Sequence[str]) -> zeroconf.ServiceInfo:
    node_id = announcement.node_id.hex()
    addresses = announcement.addresses or local
    return zeroconf.ServiceInfo(
        SERVICE_TYPE,
        f"{node_id}-{announcement.mesh_tag}.{SERVICE_TYPE}",
        port=announcement.port,
        server=f"{node_id}.local.",
        parsed_addresses=list(addresses[:ADDRESSES_MAX]),
        properties={
            "v": announcement.protocol,
            "id": node_id,
            "name": announcement.name,
            "mesh": announcement.mesh_tag,
            "inc": announcement.incarnation.hex(),
        },
    )


def _sighting(info: zeroconf.ServiceInfo) -> Sighting:
    """Read a stranger's record; ValueError or IdentityError when it is not one of ours."""
    properties = info.decoded_properties
    name = properties.get("name") or ""
    check_node_name(name)
    tokens = [properties.get(key) or "" for key in ("mesh", "v")]
    if not all(0 < len(token) <= _TOKEN_BYTES_MAX and token.isprintable() for token in tokens):
        raise ValueError(f"expected a mesh and a protocol version, found {tokens!r}")
    if not info.port or not 0 < info.port < 1 << 16:
        raise ValueError(f"expected a port, found {info.port!r}")
    # A link-local address is of use only with the interface on which it was heard.
    hosts = [
        host
        for host in info.parsed_scoped_addresses()
        if "%" in host or not ipaddress.ip_address(host).is_link_local
    ]
    incarnation = properties.get("inc") or ""
    return Sighting(
        _hex_bytes(properties.get("id"), NODE_ID_BYTES),
        name,
        tuple(
            Address(host, info.port)
            for host in dial_order(hosts, local_interfaces())[:ADDRESSES_MAX]
        ),
        tokens[0],
        _hex_bytes(incarnation[: 2 * _TOKEN_BYTES_MAX], len(incarnation) // 2),
        tokens[1],
    )


def _hex_bytes(text: object, length: int) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * length:
        raise ValueError(f"expected {2 * length} hexadecimal digits, found {text!r}")
    return bytes.fromhex(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 1 << 16):
        raise LinkError(f"expected a port from 1 to 65535, found {text!r:.20}")
    return int(text)
