"""Hosts in network namespaces: real mDNS, real TLS, cables that are pulled and plugged in."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Process, mesh, wait_until_equal

pytestmark = pytest.mark.hosts

_NAMES = ("one", "two", "three")
_PLACE = "1.1.1/1.1.1/1.1.1"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Lan:
    """A bridge and hosts on it, in namespaces named after this process."""

    def __init__(self) -> None:
        self.bridge = f"px{os.getpid() % 100000}"
        self.hosts = [f"{self.bridge}-{i}" for i in range(3)]

    def build(self) -> None:
        """Make the switch, a namespace of its own, and the hosts."""
        _ip("netns", "add", self.bridge)
        self._in_switch("link", "add", "br0", "type", "bridge")
        self._in_switch("link", "set", "br0", "up")
        for i, host in enumerate(self.hosts):
            _ip("netns", "add", host)
            _ip("-n", host, "link", "set", "lo", "up")
            self._in_switch(
                "link", "add", f"port{i}", "type", "veth", "peer", "name", "eth0", "netns", host
            )
            self._in_switch("link", "set", f"port{i}", "master", "br0", "up")
            _ip("-n", host, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
            _ip("-n", host, "route", "add", "default", "dev", "eth0")

    def remove(self) -> None:
        """Take everything away again."""
        for name in (*self.hosts, self.bridge):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def unplug(self, host: int) -> None:
        self._in_switch("link", "set", f"port{host}", "down")

    def plug_in(self, host: int) -> None:
        self._in_switch("link", "set", f"port{host}", "up")

    def block_multicast(self) -> None:
        for host in self.hosts:
            _ip("-n", host, "link", "set", "eth0", "multicast", "off")
            _ip("-n", host, "link", "set", "lo", "multicast", "off")

    def prefixes(self) -> list[list[str]]:
        """Return what runs a command on each host."""
        return [["ip", "netns", "exec", host] for host in self.hosts]

    def _in_switch(self, *arguments: str) -> None:
        _ip("-n", self.bridge, *arguments)


@pytest.fixture
def lan() -> Iterator[Lan]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = Lan()
    try:
        made.build()
        yield made
    finally:
        made.remove()


def _see(process: Process, peers: int) -> None:
    process.wait_until(lambda status: len(status["peers"]) == peers)


def test_three_hosts_find_each_other_and_one_that_was_unplugged_catches_up_in_5_s(
    lan: Lan, tmp_path: Path
) -> None:
    with mesh(tmp_path, _NAMES, prefixes=lan.prefixes()) as hosts:
        for host in hosts:
            host.start()
        for host in hosts:
            _see(host, 2)
        hosts[0].ask("set", "memory", _PLACE, "from the start\n")
        wait_until_equal(hosts)

        pids = [host.pid for host in hosts]
        lan.unplug(2)
        _see(hosts[2], 0)
        _see(hosts[0], 1)
        hosts[0].ask("append", "memory", _PLACE, "on the network\n")
        hosts[2].ask("append", "memory", _PLACE, "unplugged\n")
        hosts[1].ask("set", "memory", "2.2.2/2.2.2/2.2.2", "of two\n")
        lan.plug_in(2)
        assert wait_until_equal(hosts) < 5
        assert [host.pid for host in hosts] == pids
        texts = {str(host.ask("get", "memory", _PLACE)) for host in hosts}
        assert len(texts) == 1
        lines = sorted(texts.pop().splitlines())
        assert lines == ["from the start", "on the network", "unplugged"]


def test_static_addresses_do_where_multicast_is_blocked(lan: Lan, tmp_path: Path) -> None:
    lan.block_multicast()
    options = [f"--peer=10.77.0.{i}" for i in (1, 2, 3)]
    with mesh(tmp_path, _NAMES, prefixes=lan.prefixes(), options=options) as hosts:
        for host in hosts:
            host.start()
        for host in hosts:
            _see(host, 2)
        for host in hosts:
            host.ask("append", "memory", _PLACE, f"{host.folder.name}\n")
        wait_until_equal(hosts)
        text = str(hosts[0].ask("get", "memory", _PLACE))
        assert sorted(text.split()) == sorted(_NAMES)
