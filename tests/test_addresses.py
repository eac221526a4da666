"""Which addresses are announced and dialled first: tables of machines as there are."""

import socket

import pytest

from phextsync.addresses import (
    EVERYWHERE,
    Interface,
    default_routes,
    dial_order,
    local_interfaces,
    ranked,
    reached_at,
    told_where,
)
from phextsync.mdns import ADDRESSES_MAX

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
    ("listens_on", "expected"),
    [
        (EVERYWHERE, ["192.168.1.5", "fe80::5", "172.17.0.1", "fe80::d0"]),
        (["0.0.0.0"], ["192.168.1.5", "172.17.0.1"]),
        (["::"], ["fe80::5", "fe80::d0"]),
        (["127.0.0.1"], ["127.0.0.1"]),
        (["desk.lan"], ["desk.lan"]),
        (["172.17.0.1", "::"], ["fe80::5", "fe80::d0", "172.17.0.1"]),
    ],
)
def test_what_listens_on_an_address_is_reached_there(
    listens_on: list[str], expected: list[str]
) -> None:
    assert list(ranked([_LO, _DOCKER, _LAN], listens_on)) == expected


def test_a_family_without_a_network_is_reached_by_loopback() -> None:
    assert ranked([_LO, _WIFI], ["::"]) == ("::1",)
    assert told_where([_LO, _WIFI], ["::"], 8) == [(("127.0.0.1",), ("::1",))]


_MANY = [Interface(f"eth{i}", (f"10.{i}.0.1/24", f"10.{i}.0.2/24"), True) for i in range(5)]


@pytest.mark.parametrize(
    ("interfaces", "addresses_max", "expected"),
    [
        pytest.param(
            [_LO, _WIFI, _LAN, _DOCKER],
            8,
            {"192.168.1.5 10.9.0.7 fe80::5 172.17.0.1 fe80::d0 127.0.0.1": "* "},
            id="all fit",
        ),
        pytest.param(
            [_LO, *_BRIDGES, _DOCKER, _TAILSCALE, _LAN],
            3,
            {
                "192.168.1.5 fe80::5 172.18.0.1 172.19.0.1 172.20.0.1 172.21.0.1 172.22.0.1 "
                "172.23.0.1 172.24.0.1 172.25.0.1 172.17.0.1 100.64.0.9 fd7a:115c::9 fe80::d0 "
                "127.0.0.1": "192.168.1.5 fe80::5 172.18.0.1"
            },
            id="what is behind is cut everywhere",
        ),
        pytest.param(
            [_LO, *_MANY[:3]],
            2,
            {
                "10.0.0.1 10.1.0.1 10.0.0.2 10.1.0.2 127.0.0.1": "10.0.0.1 10.1.0.1",
                "10.2.0.1 10.2.0.2": "10.2.0.1 10.2.0.2",
            },
            id="a network whose addresses do not fit has its own first",
        ),
        pytest.param(
            [_LO, *_MANY[:4]],
            3,
            {
                "10.0.0.1 10.1.0.1 10.2.0.1 10.0.0.2 10.1.0.2 10.2.0.2 127.0.0.1": (
                    "10.0.0.1 10.1.0.1 10.2.0.1"
                ),
                "10.3.0.1 10.3.0.2": "10.3.0.1 10.3.0.2 10.0.0.1",
            },
            id="and those of others after them",
        ),
        pytest.param([_LO], 8, {"127.0.0.1": "127.0.0.1 ::1"}, id="no network"),
    ],
)
def test_each_interface_announces_its_own(
    interfaces: list[Interface], addresses_max: int, expected: dict[str, str]
) -> None:
    rows = told_where(interfaces, EVERYWHERE, addresses_max)
    told = {" ".join(where): " ".join(addresses) for where, addresses in rows}
    every = " ".join(ranked(interfaces))
    assert told == {where: each.replace("* ", every) for where, each in expected.items()}


def test_only_so_many_networks_have_an_announcement_of_their_own() -> None:
    many = [Interface(f"eth{i}", (f"10.{i}.0.1/24",), True) for i in range(100)]
    first, *others = told_where(many, EVERYWHERE, 8)
    assert [row.told[0] for row in others] == [f"10.{i}.0.1" for i in range(8, 24)]
    assert {"10.0.0.1", "10.24.0.1", "10.99.0.1", "127.0.0.1"} <= {*first.where}
    assert len(first.where) == 100 - 16 + 1


def test_who_listens_on_one_address_announces_it_in_its_own_network_too() -> None:
    (row,) = told_where([_LO, _WIFI, _LAN], ["10.9.0.7"], 8)
    assert row.told == ("10.9.0.7",)
    assert {"10.9.0.7", "192.168.1.5"} <= {*row.where}


def test_this_machine_has_addresses_that_can_be_dialled() -> None:
    addresses = reached_at(None)
    assert addresses
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        socket.inet_pton(family, address)
    assert {address for each in local_interfaces() for address in each.addresses}
