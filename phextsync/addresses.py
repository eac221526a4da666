"""Addresses of this machine and of others, those first at which a peer is likeliest to be reached.

A machine may have one address in its network and a dozen on bridges of containers and tunnels that
nobody else reaches, some of them alike on every machine. None is left out for what it looks like:
the likeliest come first, and where a limit holds the others are cut.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import ifaddr

_IPv4Or6: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

EVERYWHERE: Final = ("0.0.0.0", "::")
"""Where that listens which listens on all addresses of the machine: one for each family."""

_BRIDGE: Final = re.compile(
    r"(br-|bridge|docker|podman|virbr|lxc|lxd|vmnet|vboxnet|veth|vnet|cni|cali|flannel|cilium|"
    r"kube|nerdctl|vethernet|dummy|ifb|awdl|llw|tap)"
)
_TUNNEL: Final = re.compile(
    r"(tun|utun|wg|tailscale|ts\d|zt|nordlynx|proton|ppp|ipsec|gif|sit|vpn)"
)
_HARDWARE: Final = re.compile(r"(eth|en|wl|ww|wi-?fi|ethernet|wlan|usb)")
_APART_MAX: Final = 16  # interfaces, each of which costs a socket and a thread
_ROUTE_IS_UP: Final = 1
_NO_ROUTE: Final = 0xFFFFFFFF  # the metric of what is unreachable
_OUTSIDE: Final = (
    (socket.AF_INET, "192.0.2.1"),
    (socket.AF_INET6, "2001:db8::1"),
)


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface: its addresses with their prefixes (`192.168.1.5/24`), whether it is
    hardware (None: the system does not tell), and whether a default route leads through it."""

    name: str
    addresses: tuple[str, ...]
    is_hardware: bool | None = None
    has_default_route: bool = False

    @property
    def _rank(self) -> int:
        """How likely others reach it; 0 is the likeliest."""
        name = self.name.lower()
        if _TUNNEL.match(name):
            return 5
        is_hardware = self.is_hardware
        if is_hardware is None:
            is_hardware = _HARDWARE.match(name) is not None
        if _BRIDGE.match(name) and not (is_hardware or self.has_default_route):
            return 4
        if self.has_default_route:
            return 0 if is_hardware else 1
        return 2 if is_hardware else 3

    @property
    def is_near(self) -> bool:
        """Whether a network of other machines is likely to be behind it."""
        return self._rank < 4


class Row(NamedTuple):
    """Addresses of this machine, and those that are announced there."""

    where: tuple[str, ...]
    told: tuple[str, ...]


def ranked(
    interfaces: Iterable[Interface], listens_on: Sequence[str] = EVERYWHERE
) -> tuple[str, ...]:
    """Return the addresses of interfaces at which others reach what listens on some, the likeliest
    first; loopback only if there is nothing else. One to listen on that stands for all is each of
    its family; another one is itself.

    Hardware and interfaces with a default route come before bridges, and these before tunnels.
    Each of them has its first addresses (IPv4, then IPv6) before any has a second one.
    """
    rows: list[tuple[tuple[bool, bool, int, int, int, int], str]] = []
    loopback: list[str] = []
    for number, interface in enumerate(interfaces):
        seen = {4: 0, 6: 0}
        for address in map(ipaddress.ip_interface, interface.addresses):
            ip = address.ip
            if EVERYWHERE[ip.version == 6] not in listens_on:
                continue
            if ip.is_loopback:
                loopback.append(str(ip))
                continue
            nth = seen[ip.version]
            seen[ip.version] += not ip.is_link_local
            key = (not interface.is_near, ip.is_link_local, nth, interface._rank, number)
            rows.append(((*key, ip.version), str(ip)))
    found = tuple(dict.fromkeys(host for _, host in sorted(rows))) or tuple(loopback)
    return (*found, *(host for host in listens_on if host not in EVERYWHERE))


def told_where(
    interfaces: Sequence[Interface], listens_on: Sequence[str], addresses_max: int
) -> list[Row]:
    """Return what is announced where of a machine that listens on some addresses.

    The likeliest addresses are announced on all interfaces. One that is near, and none of whose own
    would be among so many, has them announced there, before the others: who is in that network
    and in no other finds them. What is reached from this machine alone is announced there alone.
    """
    every = ranked(interfaces, listens_on)
    if all(host == "localhost" or ipaddress.ip_address(host).is_loopback for host in every):
        return [Row(("127.0.0.1",), every[:addresses_max])]
    likeliest = every[:addresses_max]
    rows: list[Row] = []
    for interface in interfaces:
        own = tuple(host for host in ranked([interface]) if host in every)
        if own and interface.is_near and not {*own} & {*likeliest} and len(rows) < _APART_MAX:
            rows.append(Row(ranked([interface]), (*own, *likeliest)[:addresses_max]))
    apart = {host for row in rows for host in row.where}
    rest = (host for host in ranked(interfaces) if host not in apart and host != "::1")
    return [Row((*rest, "127.0.0.1"), likeliest), *rows]


def dial_order(hosts: Sequence[str], interfaces: Iterable[Interface]) -> tuple[str, ...]:
    """Return the addresses of another machine in the order in which to dial them: those in a
    network of ours first, then those that we may have a route to, as the other one ordered them;
    last those that are on a bridge or a tunnel of our own, or our own: a machine has its own there.
    """
    near: list[_IPv4Or6] = []
    behind: list[_IPv4Or6] = []
    names_behind: set[str] = set()
    for interface in interfaces:
        known = near if interface.is_near else behind
        names_behind.update(() if interface.is_near else (interface.name,))
        known.extend(map(ipaddress.ip_interface, interface.addresses))
    ours = {address.ip for address in (*near, *behind)}
    versions = {
        address.version
        for address in near
        if not (address.ip.is_link_local or address.ip.is_loopback)
    }

    def rank(host: str) -> int:
        text, _, scope = host.partition("%")
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            return 1
        if scope in names_behind:
            return 3
        if ip in ours and not ip.is_loopback:
            return 4
        if any(ip in address.network for address in near):
            return 0
        if any(ip in address.network for address in behind):
            return 3
        return 1 if ip.version in versions else 2

    return tuple(sorted(hosts, key=rank))


def reached_at(host: str | None) -> tuple[str, ...]:
    """Return the addresses at which others reach what listens on `host` of this machine, the
    likeliest first; None is all of them."""
    return ranked(local_interfaces(), EVERYWHERE if host is None else (host,))


def local_interfaces() -> list[Interface]:
    """Return this machine's interfaces."""
    through = set(_default_routes())
    found = []
    for adapter in sorted(ifaddr.get_adapters(), key=lambda adapter: adapter.index or 0):
        addresses = tuple(_with_prefix(ip) for ip in adapter.ips)
        hosts = {address.partition("/")[0] for address in addresses}
        found.append(
            Interface(
                adapter.nice_name,
                addresses,
                _is_hardware(adapter.name),
                adapter.name in through or not through.isdisjoint(hosts),
            )
        )
    return found


def _with_prefix(ip: ifaddr.IP) -> str:
    host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
    return f"{host.partition('%')[0]}/{ip.network_prefix}"


def _is_hardware(name: str) -> bool | None:
    """Whether a device is behind an interface; None where the system does not tell."""
    folder = Path("/sys/class/net", name)
    return (folder / "device").exists() if folder.exists() else None


def _default_routes() -> Iterator[str]:
    """Give the names of interfaces with a default route, or, where the system does not list
    routes, addresses of theirs."""
    lists = [_text(Path("/proc/net", name)) for name in ("route", "ipv6_route")]
    if any(lists):
        yield from default_routes(*lists)
        return
    for family, host in _OUTSIDE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # of datagrams: nothing is sent
            yield probe.getsockname()[0]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def default_routes(ipv4: str, ipv6: str) -> Iterator[str]:
    """Give the names of the interfaces that have a default route, as Linux lists routes."""
    for line in ipv4.splitlines()[1:]:
        name, destination, _, flags, *_, mask = line.split()[:8]
        if int(destination, 16) == int(mask, 16) == 0 and int(flags, 16) & _ROUTE_IS_UP:
            yield name
    for line in ipv6.splitlines():
        destination, prefix, *_, metric, _, _, flags, name = line.split()
        is_default = int(destination, 16) == int(prefix, 16) == 0
        if is_default and int(metric, 16) != _NO_ROUTE and int(flags, 16) & _ROUTE_IS_UP:
            yield name
