"""Hosts in network namespaces: real mDNS, real TLS, cables that are pulled and plugged in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sims.lan import Lan, missing
from sims.processes import Process, mesh, wait_until_equal
from sims.scenarios import run_real

pytestmark = pytest.mark.hosts

_NAMES = ("one", "two", "three")
_PLACE = "1.1.1/1.1.1/1.1.1"


@pytest.fixture
def lan() -> Iterator[Lan]:
    _need_hosts()
    with Lan(len(_NAMES)) as made:
        yield made


def _need_hosts() -> None:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)


def _see(process: Process, peers: int) -> None:
    process.wait_until(lambda status: len(status["peers"]) == peers)


def test_three_hosts_find_each_other_and_one_that_was_unplugged_catches_up(
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
        wait_until_equal(hosts)
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


@pytest.mark.parametrize(("scenario", "seed"), [("halves", 25), ("crash", 0), ("sleepers", 0)])
def test_a_scenario_ends_well_on_real_hosts(scenario: str, seed: int) -> None:
    _need_hosts()
    outcome = run_real(scenario, seed, nodes=4, seconds=3.0)
    assert outcome.failure is None
    assert outcome.metrics["writes"]
