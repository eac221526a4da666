"""Multicast DNS: which nodes announce themselves on the networks of this machine.

A record is kept small and every stranger's record is checked, since anyone on the network may send
one.
"""

import ipaddress
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import trio
import zeroconf

from phextsync.addresses import (
    Interface,
    Row,
    dial_order,
    local_interfaces,
    ranked,
    told_where,
)
from phextsync.boundaries import Boundary
from phextsync.discovery import Address, Announcement, Sighting, bytes_of_hex
from phextsync.errors import IdentityError
from phextsync.trust.certificates import NODE_ID_BYTES, check_node_name

SERVICE_TYPE: Final = "_phextsync._tcp.local."

ADDRESSES_MAX: Final = 8
"""Addresses of one peer, the likeliest first; more only delay the one that works."""
NAMES_MAX: Final = 1024
"""Service names waiting to be looked up; when full, the oldest waits for its next announcement."""
NETWORK_CHECK_S: Final = 5.0
"""Between two looks at the interfaces of this machine."""

_SIGHTINGS_MAX: Final = 16  # between the look-ups and the node; when full, names wait and coalesce
_LOOKUPS_AT_ONCE: Final = 4  # so that one silent name does not hold up the others
_LOOKUP_TIMEOUT_MS: Final = 1000
_TOKEN_BYTES_MAX: Final = 64

_logger = logging.getLogger("phextsync.mdns")


class Mdns:
    """Discovery by multicast DNS on the given interfaces (addresses), or on all of the machine."""

    def __init__(
        self,
        interfaces: Sequence[str] | None = None,
        *,
        machine: Callable[[], Sequence[Interface]] = local_interfaces,
        network_check_s: float = NETWORK_CHECK_S,
    ) -> None:
        self._interfaces = tuple(interfaces) if interfaces is not None else None
        self._machine = machine
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
                network = self._machine()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._session, announcement, network, send, boundary)
                    while self._machine() == network:  # noqa: ASYNC110  no event tells of it
                        await trio.sleep(self._network_check_s)
                    nursery.cancel_scope.cancel()
            if outcome.error is not None:
                await trio.sleep(self._network_check_s)

    async def _session(
        self,
        announcement: Announcement,
        network: Sequence[Interface],
        send: trio.MemorySendChannel[Sighting],
        boundary: Boundary,
    ) -> None:
        names = _Names(announcement.tags)
        heard, rows = self._places(announcement, network)
        async with AsyncExitStack() as stack:
            mdns = await stack.enter_async_context(_multicast(heard))
            announcers = [
                mdns if {*where} == {*heard} else await stack.enter_async_context(_multicast(where))
                for where, _ in rows
            ]
            browser = zeroconf.ServiceBrowser(mdns, SERVICE_TYPE, handlers=[names.put])
            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(_LOOKUPS_AT_ONCE):
                        nursery.start_soon(_look_up, mdns, names, announcement, send, boundary)
                    for announcer, (_, addresses) in zip(announcers, rows, strict=True):
                        await trio.to_thread.run_sync(_register, announcer, announcement, addresses)
            finally:
                with trio.CancelScope(shield=True), _at_exit():
                    await trio.to_thread.run_sync(browser.cancel)

    def _places(
        self, announcement: Announcement, network: Sequence[Interface]
    ) -> tuple[Sequence[str], list[Row]]:
        """Return at which addresses others are heard, and which are announced where."""
        if self._interfaces is not None:
            given = [Interface("given", tuple(f"{ip}/32" for ip in self._interfaces))]
            told = ranked(given, announcement.listens_on)[:ADDRESSES_MAX]
            return self._interfaces, [Row(self._interfaces, told)]
        # Naming them leaves out ::1, where multicast does not work.
        heard = (*(ip for ip in ranked(network) if ip != "::1"), "127.0.0.1")
        return heard, told_where(network, announcement.listens_on, ADDRESSES_MAX)


def _at_exit() -> AbstractContextManager[None]:
    """No goodbye from an interpreter that is ending: it starts no threads (Python 3.12)."""
    return suppress(RuntimeError)


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


def _register(
    mdns: zeroconf.Zeroconf, announcement: Announcement, addresses: Sequence[str]
) -> None:
    # The name holds the node id: probing for another owner would cost 0.5 s.
    mdns.register_service(_service_info(announcement, addresses), cooperating_responders=True)


def _service_info(announcement: Announcement, addresses: Sequence[str]) -> zeroconf.ServiceInfo:
    node_id = announcement.node_id.hex()
    return zeroconf.ServiceInfo(
        SERVICE_TYPE,
        f"{node_id}-{announcement.mesh_tag}.{SERVICE_TYPE}",
        port=announcement.port,
        server=f"{node_id}.local.",
        parsed_addresses=list(addresses),
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
        bytes_of_hex(properties.get("id"), NODE_ID_BYTES),
        name,
        tuple(
            Address(host, info.port)
            for host in dial_order(hosts, local_interfaces())[:ADDRESSES_MAX]
        ),
        tokens[0],
        bytes_of_hex(incarnation[: 2 * _TOKEN_BYTES_MAX], len(incarnation) // 2),
        tokens[1],
    )
