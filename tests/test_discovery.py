"""Discovery: real mDNS on loopback alone, addresses in text, remembered peers."""

import json
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing
import zeroconf
from hypothesis import given
from hypothesis import strategies as st

from phextsync.addresses import EVERYWHERE, Interface
from phextsync.discovery import (
    REMEMBERED_PEERS_MAX,
    Address,
    Announcement,
    RememberedPeers,
    Sighting,
    parse_address,
)
from phextsync.errors import LinkError, StoreDamagedError
from phextsync.mdns import NAMES_MAX, SERVICE_TYPE, Mdns, _Names
from phextsync.testing import acceptance
from phextsync.testing.acceptance.discoveries import MESH_TAG
from phextsync.testing.acceptance.discoveries import announcement as _announcement
from phextsync.testing.memory_discovery import MemoryDiscovery
from tests.memory_networks import memory_network

_LOOPBACK = "127.0.0.1"
_MESH = MESH_TAG
_PATIENCE_S = 120  # only a bug takes that long


def _mdns() -> Mdns:
    return Mdns([_LOOPBACK])


# -- mDNS --------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("claim", acceptance.DISCOVERY, ids=lambda claim: claim.__name__)
async def test_mdns_is_accepted(claim: Callable[[acceptance.Discoveries], Awaitable[None]]) -> None:
    await claim(_mdns)


@pytest.mark.parametrize("claim", acceptance.DISCOVERY, ids=lambda claim: claim.__name__)
async def test_discovery_in_memory_is_accepted(
    claim: Callable[[acceptance.Discoveries], Awaitable[None]],
) -> None:
    async with memory_network(3) as network:
        hosts = iter(network.hosts)
        await claim(lambda: MemoryDiscovery(next(hosts)))


class _Flood(Mdns):
    """As if nodes were found without end."""

    async def _run(
        self, announcement: Announcement, send: trio.MemorySendChannel[Sighting]
    ) -> None:
        found = Sighting(bytes(16), "another", (), announcement.mesh_tag, b"", "1")
        while True:
            await send.send(found)


async def test_leaving_while_more_is_found_than_was_taken_is_quiet() -> None:
    async with _Flood().open(_announcement(1)):
        await trio.testing.wait_all_tasks_blocked()


async def test_leaving_in_memory_while_more_is_found_than_was_taken_is_quiet(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory_network(70) as network, AsyncExitStack() as stack:
        for number, host in enumerate(network.hosts, 1):
            await stack.enter_async_context(MemoryDiscovery(host).open(_announcement(number)))
        await trio.sleep(0.5)


@pytest.mark.real
async def test_stopping_says_goodbye_and_leaves_no_thread() -> None:
    seen, gone = threading.Event(), threading.Event()

    def on_change(
        zeroconf: zeroconf.Zeroconf,
        service_type: str,
        name: str,
        state_change: zeroconf.ServiceStateChange,
    ) -> None:
        if state_change.name in ("Added", "Removed"):
            (seen if state_change.name == "Added" else gone).set()

    with trio.fail_after(_PATIENCE_S):
        before = _foreign_threads()
        onlooker = await trio.to_thread.run_sync(
            lambda: zeroconf.Zeroconf(interfaces=[_LOOPBACK], use_asyncio=False)
        )
        browser = zeroconf.ServiceBrowser(onlooker, SERVICE_TYPE, handlers=[on_change])
        async with _mdns().open(_announcement(1)), _mdns().open(_announcement(2)) as sightings:
            await sightings.receive()
            assert await trio.to_thread.run_sync(seen.wait, _PATIENCE_S)
        assert await trio.to_thread.run_sync(gone.wait, _PATIENCE_S)
        await trio.to_thread.run_sync(browser.cancel)
        await trio.to_thread.run_sync(onlooker.close)
        assert _foreign_threads() <= before


@pytest.mark.real
async def test_a_copied_identity_is_reported_and_both_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    original = _announcement(1)
    copy = replace(original, incarnation=b"another.", port=7999)
    logged = trio.Event()

    def note(record: logging.LogRecord) -> bool:
        if "was a data folder copied?" in record.getMessage():
            logged.set()
        return True

    caplog.handler.addFilter(note)
    with trio.fail_after(_PATIENCE_S):
        async with _mdns().open(original), _mdns().open(copy):
            await logged.wait()
            async with _mdns().open(_announcement(2)) as sightings:
                assert (await sightings.receive()).node_id == original.node_id


class _NoMdns:
    """What notes which records are announced at which interfaces, and hears nothing."""

    announced: ClassVar[dict[tuple[str, ...], list[str]]] = {}
    is_announced: ClassVar[trio.Event]
    to_announce: ClassVar[int]

    def __init__(self, interfaces: Sequence[str], **options: object) -> None:
        self._interfaces = tuple(interfaces)

    def register_service(self, info: zeroconf.ServiceInfo, **options: object) -> None:
        self.announced[self._interfaces] = info.parsed_addresses()
        if len(self.announced) == self.to_announce:
            trio.from_thread.run_sync(self.is_announced.set)

    def close(self) -> None:
        """There is nothing to close."""

    @staticmethod
    def browse(*what: object, **options: object) -> "_NoMdns":
        return _NoMdns([])

    cancel = close


_HERE = ["127.0.0.1", "192.0.2.1", "192.0.2.2", "2001:db8::1"]
_MACHINE = [
    Interface("lo", ("127.0.0.1/8", "::1/128"), False),
    Interface("eth0", ("192.0.2.1/24", "2001:db8::1/64"), True),
    Interface("eth1", ("192.0.2.2/24",), True),
]
_CROWD = [Interface(f"eth{i}", (f"10.{i}.0.1/24",), True) for i in range(9)]
_FIRST = [f"10.{i}.0.1" for i in range(8)]


@pytest.mark.parametrize(
    ("machine", "listens_on", "told"),
    [
        (_MACHINE, ["127.0.0.1"], {("127.0.0.1",): ["127.0.0.1"]}),
        (_MACHINE, ["127.0.0.1", "::1"], {("127.0.0.1",): ["127.0.0.1", "::1"]}),
        (_MACHINE, ["192.0.2.2"], {tuple(_HERE): ["192.0.2.2"]}),
        (_MACHINE, EVERYWHERE, {tuple(_HERE): _HERE[1:]}),
        (_MACHINE, ["0.0.0.0"], {tuple(_HERE): ["192.0.2.1", "192.0.2.2"]}),
        (_MACHINE, ["::"], {tuple(_HERE): ["2001:db8::1"]}),
        (
            _CROWD,
            EVERYWHERE,
            {(*_FIRST, _LOOPBACK): _FIRST, ("10.8.0.1",): ["10.8.0.1", *_FIRST[:7]]},
        ),
    ],
)
async def test_what_a_node_listens_on_is_announced_where_it_leads_there(
    machine: list[Interface],
    listens_on: Sequence[str],
    told: dict[tuple[str, ...], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zeroconf, "Zeroconf", _NoMdns)
    monkeypatch.setattr(zeroconf, "ServiceBrowser", _NoMdns.browse)
    announced: dict[tuple[str, ...], list[str]] = {}
    monkeypatch.setattr(_NoMdns, "announced", announced)
    monkeypatch.setattr(_NoMdns, "is_announced", trio.Event(), raising=False)
    monkeypatch.setattr(_NoMdns, "to_announce", len(told), raising=False)
    anna = replace(_announcement(1), listens_on=tuple(listens_on))
    with trio.fail_after(_PATIENCE_S):
        async with Mdns(machine=lambda: machine).open(anna):
            await _NoMdns.is_announced.wait()
    assert announced == {tuple(sorted(where)): each for where, each in told.items()}


@pytest.mark.real
async def test_a_changed_network_is_announced_anew() -> None:
    network = [Interface("lo", ("127.0.0.1/8",))]
    moving = Mdns([_LOOPBACK], machine=lambda: tuple(network), network_check_s=0.01)
    anna = replace(_announcement(1), listens_on=EVERYWHERE)
    with trio.fail_after(_PATIENCE_S):
        async with _mdns().open(_announcement(2)) as sightings, moving.open(anna):
            assert (await sightings.receive()).node_id == anna.node_id
            network.append(Interface("eth0", ("192.0.2.1/24",)))
            assert (await sightings.receive()).node_id == anna.node_id


@pytest.mark.real
async def test_a_network_that_cannot_be_used_is_reported_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = 0

    def machine() -> list[Interface]:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise OSError("no interfaces today")
        return []

    failing = Mdns([_LOOPBACK], machine=machine, network_check_s=0.01)
    with trio.fail_after(_PATIENCE_S):
        async with _mdns().open(_announcement(2)), failing.open(_announcement(1)) as sightings:
            assert (await sightings.receive()).node_id == _announcement(2).node_id
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("phext")]
    (line,) = lines
    assert line.startswith("mDNS failed: no interfaces today (")


@pytest.mark.real
async def test_strangers_records_that_make_no_sense_are_ignored() -> None:
    sound = {"v": "1", "id": "09" * 16, "name": "mallory", "mesh": _MESH, "inc": "09" * 8}
    wrong = (
        {"id": "ab"},
        {"id": "zz" * 16},
        {"name": ""},
        {"name": "a\nb"},
        {"inc": "x"},
        {"v": ""},
    )
    services = [
        zeroconf.ServiceInfo(
            SERVICE_TYPE,
            f"{number}-{_MESH}.{SERVICE_TYPE}",
            port=7000 + number,
            server="mallory.local.",
            parsed_addresses=[_LOOPBACK],
            properties=sound | wrong_part,
        )
        for number, wrong_part in enumerate((*wrong, {"mesh": "cd" * 8}, {}))
    ]

    def register() -> zeroconf.Zeroconf:
        mallory = zeroconf.Zeroconf(interfaces=[_LOOPBACK], use_asyncio=False)
        for service in services[:-1]:
            mallory.registry.async_add(service)
        mallory.register_service(services[-1], cooperating_responders=True)
        return mallory

    with trio.fail_after(_PATIENCE_S):
        mallory = await trio.to_thread.run_sync(register)
        async with _mdns().open(_announcement(1)) as sightings:
            assert (await sightings.receive()).addresses == (Address(_LOOPBACK, 7007),)
            async with _mdns().open(_announcement(2)):
                assert (await sightings.receive()).node_id == _announcement(2).node_id
        await trio.to_thread.run_sync(mallory.close)


def _foreign_threads() -> set[str]:
    return {t.name for t in threading.enumerate() if not t.name.startswith("Trio thread")}


# -- the bridge from zeroconf's thread ---------------------------------------------------------


async def test_names_of_a_flood_coalesce_and_are_bounded() -> None:
    names = _Names([_MESH])
    added = zeroconf.ServiceStateChange.Added

    def flood() -> None:
        for number in range(NAMES_MAX + 10):
            for _ in range(3):
                _put(names, f"{number}-{_MESH}", added)
        _put(names, "1-anothermesh", added)
        _put(names, f"gone-{_MESH}", zeroconf.ServiceStateChange.Removed)

    with trio.fail_after(_PATIENCE_S):
        await trio.to_thread.run_sync(flood)
        taken = [await names.take() for _ in range(NAMES_MAX)]
    newest_first = range(NAMES_MAX + 9, 9, -1)
    assert taken == [f"{number}-{_MESH}" for number in newest_first]
    with trio.move_on_after(0) as scope:
        await names.take()
    assert scope.cancelled_caught


async def test_a_name_wakes_whoever_waits_for_one() -> None:
    names = _Names([_MESH])
    taken: list[str] = []

    async def take() -> None:
        taken.append(await names.take())

    with trio.fail_after(_PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(2):
                await trio.to_thread.run_sync(
                    _put, names, f"{number}-{_MESH}", zeroconf.ServiceStateChange.Added
                )
    assert sorted(taken) == [f"0-{_MESH}", f"1-{_MESH}"]


def _put(names: _Names, name: str, change: zeroconf.ServiceStateChange) -> None:
    call: Callable[..., None] = names.put
    call(zeroconf=None, service_type=SERVICE_TYPE, name=name, state_change=change)


# -- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node.example", Address("node.example", 7439)),
        (" node.example:80 ", Address("node.example", 80)),
        ("192.0.2.7:65535", Address("192.0.2.7", 65535)),
        ("::1", Address("::1", 7439)),
        ("[::1]", Address("::1", 7439)),
        ("[fe80::1%eth0]:81", Address("fe80::1%eth0", 81)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert parse_address(str(expected), 1) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ":80", "a:", "a:0", "a:65536", "a:x", "a:²", "a:-1", "a:1:2", "a b", "http://a"),
        *("[::1", "[::1]80", "[a]:80", "[]:80", "user@a", "a]:1", "[::1]:"),
        *("a..b:1", f"{70 * 'a'}:1"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(LinkError, match=r"expected (host, host:port|a port from 1)"):
        parse_address(text)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_link_error(text: str) -> None:
    try:
        address = parse_address(text)
    except LinkError:
        return
    assert parse_address(str(address)) == address


# -- remembered peers --------------------------------------------------------------------------


def _remembered() -> RememberedPeers:
    peers = RememberedPeers()
    peers.remember(b"a" * 16, Address("::1", 1), 10.0)
    peers.remember(b"b" * 16, Address("b", 2), 30.0)
    peers.remember(b"c" * 16, Address("c", 3), 20.0)
    return peers


def test_peers_seen_last_come_first_with_their_newest_address() -> None:
    peers = _remembered()
    peers.remember(b"a" * 16, Address("new", 4), 40.0)
    assert peers.addresses() == (Address("new", 4), Address("b", 2), Address("c", 3))
    assert peers.last_seen_s(b"c" * 16) == 20.0
    assert peers.last_seen_s(b"x" * 16) is None


def test_a_forgotten_peer_is_not_dialled() -> None:
    peers = _remembered()
    peers.forget(b"b" * 16)
    peers.forget(b"x" * 16)
    assert peers.addresses() == (Address("c", 3), Address("::1", 1))


def test_remembered_peers_survive_as_text() -> None:
    text = _remembered().to_json()
    assert RememberedPeers.from_json(text).to_json() == text
    assert RememberedPeers.from_json(text).addresses() == _remembered().addresses()


def test_only_so_many_peers_are_remembered() -> None:
    peers = RememberedPeers()
    for number in range(REMEMBERED_PEERS_MAX + 1):
        peers.remember(number.to_bytes(16), Address("a", 1 + number), float(number))
    assert len(peers.addresses()) == REMEMBERED_PEERS_MAX
    assert peers.last_seen_s((0).to_bytes(16)) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "null", '{"peers": 3}', '{"peers": [3]}'),
        '{"peers": [{"node_id": "ab", "address": "a", "last_seen_s": 1}]}',
        f'{{"peers": [{{"node_id": "{"ab" * 16}", "address": "a:0", "last_seen_s": 1}}]}}',
        f'{{"peers": [{{"node_id": "{"ab" * 16}", "address": 7, "last_seen_s": 1}}]}}',
        f'{{"peers": [{{"node_id": "{"ab" * 16}", "address": "a", "last_seen_s": "x"}}]}}',
    ],
)
def test_damaged_memory_is_said_to_be_so(text: str) -> None:
    with pytest.raises(StoreDamagedError, match="expected remembered peers"):
        RememberedPeers.from_json(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peers.json"


def test_peers_are_kept_in_a_file(path: Path) -> None:
    peers = RememberedPeers.load(path)
    peers.save_if_changed()
    assert not path.exists()
    peers.remember(b"a" * 16, Address("a", 1), 1.0)
    peers.save_if_changed()
    assert RememberedPeers.load(path).addresses() == (Address("a", 1),)


def test_a_damaged_file_of_peers_is_logged_and_replaced(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"\xff{")
    peers = RememberedPeers.load(path)
    assert peers.addresses() == ()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    peers.remember(b"a" * 16, Address("a", 1), 1.0)
    peers.save_if_changed()
    assert RememberedPeers.load(path).addresses() == (Address("a", 1),)


def test_a_file_of_remembered_peers_gives_no_more_than_are_remembered() -> None:
    rows = [{"node_id": f"{i:032x}", "last_seen_s": i} for i in range(2 * REMEMBERED_PEERS_MAX)]
    found = RememberedPeers.from_json(json.dumps({"peers": rows}))
    assert len([*found.seen_since(0)]) <= REMEMBERED_PEERS_MAX
