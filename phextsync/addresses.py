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
from typing import Final, TypeAlias

import ifaddr

_IPv4Or6: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_BRIDGE: Final = re.compile(
    r"(br-|bridge|docker|podman|virbr|lxc|lxd|vmnet|vboxnet|veth|vnet|cni|cali|flannel|cilium|"
    r"kube|nerdctl|vethernet|dummy|ifb|awdl|llw|tap)"
)
_TUNNEL: Final = re.compile(
    r"(tun|utun|wg|tailscale|ts\d|zt|nordlynx|proton|ppp|ipsec|gif|sit|vpn)"
)
_HARDWARE: Final = re.compile(r"(eth|en|wl|ww|wi-?fi|ethernet|wlan|usb)")
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


def ranked(interfaces: Iterable[Interface]) -> tuple[str, ...]:
    """Return the addresses of interfaces, the likeliest first; loopback only if there is nothing
    else.

    Hardware and interfaces with a default route come before bridges, and these before tunnels.
    Each of them has its first addresses (IPv4, then IPv6) before any has a second one.
    """
    rows: list[tuple[tuple[bool, bool, int, int, int, int], str]] = []
    loopback: list[str] = []
    for number, interface in enumerate(interfaces):
        seen = {4: 0, 6: 0}
        for address in map(ipaddress.ip_interface, interface.addresses):
            ip = address.ip
            if ip.is_loopback:
                loopback.append(str(ip))
                continue
            nth = seen[ip.version]
            seen[ip.version] += not ip.is_link_local
            key = (not interface.is_near, ip.is_link_local, nth, interface._rank, number)
            rows.append(((*key, ip.version), str(ip)))
    return tuple(dict.fromkeys(host for _, host in sorted(rows))) or tuple(loopback)


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


def local_addresses() -> tuple[str, ...]:
    """Return this machine's addresses, the likeliest first; loopback only if there is nothing
    else."""
    return ranked(local_interfaces())


def reached_at(host: str | None) -> tuple[str, ...]:
    """Return the addresses at which others reach what listens on `host`; None is all of this
    machine's, as an address that stands for all is."""
    addresses = local_addresses()
    match host:
        case None | "::":
            return addresses
        case "0.0.0.0":
            return tuple(address for address in addresses if ":" not in address)
        case _:
            return (host,)


def address_of_one(host: str | None) -> tuple[str, ...]:
    """Return the address at which alone others reach what listens on `host`; none for all of this
    machine, or for a name, whose addresses nobody has looked up."""
    if host == "localhost":
        return ("127.0.0.1",)
    with suppress(ValueError):
        ip = ipaddress.ip_address((host or "::").partition("%")[0])
        return () if ip.is_unspecified else (str(ip),)
    return ()


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
