"""Which addresses are announced and dialled first: tables of machines as there are."""

import socket

import pytest

from phextsync.addresses import (
    Interface,
    default_routes,
    dial_order,
    local_addresses,
    local_interfaces,
    ranked,
    reached_at,
)
from phextsync.discovery import ADDRESSES_MAX

_LO = Interface("lo", ("127.0.0.1/8", "::1/128"), is_hardware=False)
_LAN = Interface("enp3s0", ("192.168.1.5/24", "fe80::5/64"), True, has_default_route=True)
_WIFI = Interface("wlp2s0", ("10.9.0.7/16",), True)
_DOCKER = Interface("docker0", ("172.17.0.1/16", "fe80::d0/64"), False)
_TAILSCALE = Interface("tailscale0", ("100.64.0.9/32", "fd7a:115c::9/48"), False)
_BRIDGES = [Interface(f"br-{i:012x}", (f"172.{18 + i}.0.1/16",), False) for i in range(8)]


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        pytest.param([_LO], ["127.0.0.1", "::1"], id="nothing else"),
        pytest.param([_LO, _LAN], ["192.168.1.5", "fe80::5"], id="one network"),
        pytest.param(
            [_LO, *_BRIDGES, _LAN],
            ["192.168.1.5", "fe80::5", *(f"172.{18 + i}.0.1" for i in range(8))],
            id="eight bridges beside the network",
        ),
        pytest.param(
            [_DOCKER, _WIFI, _LAN],
            ["192.168.1.5", "10.9.0.7", "fe80::5", "172.17.0.1", "fe80::d0"],
            id="two networks",
        ),
        pytest.param(
            [_TAILSCALE, _DOCKER, _WIFI],
            ["10.9.0.7", "172.17.0.1", "100.64.0.9", "fd7a:115c::9", "fe80::d0"],
            id="no default route",
        ),
        pytest.param(
            [Interface("wg0", ("10.2.0.2/32",), False, has_default_route=True), _WIFI],
            ["10.9.0.7", "10.2.0.2"],
            id="a tunnel that everything goes through",
        ),
        pytest.param(
            [_DOCKER, Interface("br0", ("192.168.1.9/24",), False, has_default_route=True)],
            ["192.168.1.9", "172.17.0.1", "fe80::d0"],
            id="a bridge that is the way out",
        ),
        pytest.param(
            [Interface("eth0", ("fd00::2/64", "fd00::3/64", "fe80::1/64"), True, True)],
            ["fd00::2", "fd00::3", "fe80::1"],
            id="IPv6 only",
        ),
        pytest.param(
            [Interface("eth0", ("169.254.7.7/16", "fe80::1/64"), True), _DOCKER],
            ["169.254.7.7", "fe80::1", "172.17.0.1", "fe80::d0"],
            id="link-local only",
        ),
        pytest.param(
            [
                Interface("eth0", ("10.0.0.2/24", "fd00::2/64", "fd00::3/64"), True, True),
                Interface("eth1", ("10.1.0.2/24", "10.1.0.3/24"), True),
            ],
            ["10.0.0.2", "fd00::2", "10.1.0.2", "fd00::3", "10.1.0.3"],
            id="each has its first address before any has a second one",
        ),
        pytest.param(
            [
                Interface("vEthernet (WSL)", ("172.30.0.1/20",)),
                Interface("Ethernet 2", ("192.168.1.6/24",), has_default_route=True),
                Interface("utun3", ("10.8.0.2/24",)),
            ],
            ["192.168.1.6", "172.30.0.1", "10.8.0.2"],
            id="names of other systems",
        ),
    ],
)
def test_the_likeliest_addresses_come_first(
    interfaces: list[Interface], expected: list[str]
) -> None:
    assert list(ranked(interfaces)) == expected


def test_what_many_bridges_push_out_is_not_the_network() -> None:
    assert "192.168.1.5" in ranked([*_BRIDGES, _DOCKER, _TAILSCALE, _LAN])[:ADDRESSES_MAX]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["172.17.0.1", "192.168.1.8"], ["192.168.1.8", "172.17.0.1"]),
        (["172.17.0.9", "10.77.0.1", "192.168.1.8"], ["192.168.1.8", "10.77.0.1", "172.17.0.9"]),
        (["2001:db8::8", "10.77.0.1"], ["10.77.0.1", "2001:db8::8"]),
        (["192.168.1.5", "203.0.113.9"], ["203.0.113.9", "192.168.1.5"]),
        (["fe80::8%docker0", "fe80::8%enp3s0"], ["fe80::8%enp3s0", "fe80::8%docker0"]),
        (["host.example", "192.168.1.8"], ["192.168.1.8", "host.example"]),
        (["10.77.0.2", "10.77.0.1"], ["10.77.0.2", "10.77.0.1"]),
        (["127.0.0.3", "127.0.0.2"], ["127.0.0.3", "127.0.0.2"]),
    ],
)
def test_an_address_in_a_network_of_ours_is_dialled_first(
    hosts: list[str], expected: list[str]
) -> None:
    assert list(dial_order(hosts, [_LO, _DOCKER, _LAN])) == expected


def test_default_routes_are_read_as_linux_lists_them() -> None:
    ipv4 = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "down\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n"
        "half\t00000000\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"
    )
    zero, gateway = "0" * 32, "fd" + "0" * 29 + "1"
    ipv6 = (
        f"fd{'0' * 30} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth1\n"
        f"{zero} 00 {zero} 00 {gateway} 00000400 00000002 00000000 00000003     eth2\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
    )
    assert list(default_routes(ipv4, ipv6)) == ["eth0", "eth2"]
    assert list(default_routes("", "")) == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (None, local_addresses()),
        ("::", local_addresses()),
        ("0.0.0.0", tuple(each for each in local_addresses() if ":" not in each)),
        ("127.0.0.1", ("127.0.0.1",)),
        ("desk.lan", ("desk.lan",)),
    ],
)
def test_what_listens_on_an_address_is_reached_there(
    host: str | None, expected: tuple[str, ...]
) -> None:
    assert reached_at(host) == expected


def test_this_machine_has_addresses_that_can_be_dialled() -> None:
    addresses = local_addresses()
    assert addresses
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        socket.inet_pton(family, address)
    assert {address for each in local_interfaces() for address in each.addresses}
