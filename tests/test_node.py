"""Real nodes on loopback: TLS, mDNS, restarts, and processes that are killed."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from phextsync.discovery import Address, Announcement, Sighting
from phextsync.errors import (
    IdentityError,
    NotSyncedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
)
from phextsync.index import Coordinate, CoordinateRange
from phextsync.mdns import Mdns
from phextsync.node.node import Node, open_node
from phextsync.replica.changes import Change, TextChange
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.processes import PATIENCE_S, mesh, wait_until_equal

pytestmark = pytest.mark.real

_PLACE = "1.1.1/1.1.1/1.1.1"
_LOOPBACK = "127.0.0.1"


def _folders(folder: Path, names: Sequence[str]) -> list[Path]:
    key = MeshKey.generate(os.urandom(32))
    for name in names:
        NodeIdentity.create(key, name, os.urandom(32)).save(folder / name)
    return [folder / name for name in names]


@asynccontextmanager
async def _nodes(folder: Path, count: int, *, mdns: bool = False) -> AsyncIterator[list[Node]]:
    """Run nodes on loopback; without mDNS each dials the first."""
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for path in _folders(folder, [f"node{i}" for i in range(count)]):
            peers = [] if mdns or not nodes else [f"{_LOOPBACK}:{nodes[0].port}"]
            discoveries = [Mdns([_LOOPBACK])] if mdns else []
            context = open_node(path, host=_LOOPBACK, port=0, peers=peers, discoveries=discoveries)
            nodes.append(await stack.enter_async_context(context))
        yield nodes


async def _until_text(node: Node, text: str) -> None:
    """Wait until the node's scroll is `text`."""
    changed = trio.Event()

    def check(change: Change) -> None:
        if node.phext().get(_PLACE) == text:
            changed.set()

    stop = node.phext().subscribe(check)
    if node.phext().get(_PLACE) != text:
        await changed.wait()
    stop()


async def test_nodes_find_each_other_by_mdns_and_converge(tmp_path: Path) -> None:
    before = threading.active_count()
    with trio.fail_after(PATIENCE_S):
        async with _nodes(tmp_path, 3, mdns=True) as nodes:
            nodes[0].phext()[_PLACE] = "hello"
            await nodes[0].synced(peers=2)
            assert [node.phext()[_PLACE] for node in nodes] == ["hello"] * 3
    # trio keeps idle worker threads for a few seconds; zeroconf's are gone.
    names = [t.name for t in threading.enumerate()[before:] if "rio" not in t.name]
    assert names == []


async def test_synced_returns_when_the_edit_is_on_the_peers_disk(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        async with _nodes(tmp_path, 2) as (first, second):
            first.phext()[_PLACE] = "text"
            await first.synced(range_=CoordinateRange.parse(_PLACE))
            stored = second.replicas.store.heads("memory")
            assert len(stored.keys) == 12
            assert first.lacking() == []


async def test_an_edit_of_either_side_is_visible_on_the_other(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        async with _nodes(tmp_path, 2) as (first, second):
            first.phext()[_PLACE] = "one\n"
            await _until_text(second, "one\n")
            second.phext().append(_PLACE, "two\n")
            await _until_text(first, "one\ntwo\n")


async def test_a_node_comes_back_to_a_peer_that_was_restarted(tmp_path: Path) -> None:
    path, other = _folders(tmp_path, ["a", "b"])
    with trio.fail_after(PATIENCE_S):
        async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]) as first:
            address = f"{_LOOPBACK}:{first.port}"
            for round_ in range(2):
                async with open_node(
                    other, host=_LOOPBACK, port=0, peers=[address], discoveries=[]
                ) as second:
                    second.phext().append(_PLACE, f"{round_}\n")
                    await second.synced(peers=1)
                first.phext().append("2.1.1/1.1.1/1.1.1", "while it was away\n")
            assert first.phext()[_PLACE] == "0\n1\n"


class _Seen:
    """Discovery that has seen one node at some addresses."""

    def __init__(self, node: Node, hosts: Sequence[str]) -> None:
        self._sighting = Sighting(
            node.identity.node_id,
            node.identity.name,
            tuple(Address(host, node.port) for host in hosts),
            node.identity.mesh_tag,
            node.incarnation,
            "1",
        )

    @asynccontextmanager
    async def open(self, own: Announcement) -> AsyncIterator[trio.MemoryReceiveChannel[Sighting]]:
        send, receive = trio.open_memory_channel[Sighting](1)
        send.send_nowait(self._sighting)
        yield receive


class _Heard:
    """A discovery that keeps what is announced."""

    def __init__(self, heard: list[Announcement]) -> None:
        self._heard = heard

    @asynccontextmanager
    async def open(self, own: Announcement) -> AsyncIterator[trio.MemoryReceiveChannel[Sighting]]:
        self._heard.append(own)
        send, receive = trio.open_memory_channel[Sighting](0)
        with send:
            yield receive


async def test_a_peer_with_several_addresses_is_dialled_at_one_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mock_clock: MockClock
) -> None:
    mock_clock.rate = 0.1  # a busy machine must not use up the head start of the first address
    path, other = _folders(tmp_path, ["a", "b"])
    caplog.set_level(logging.INFO)
    with trio.fail_after(0.1 * PATIENCE_S):
        async with open_node(path, host="0.0.0.0", port=0, discoveries=[]) as first:
            seen = _Seen(first, ["127.0.0.2", "127.0.0.3", "127.0.0.4"])
            async with open_node(other, host=_LOOPBACK, port=0, discoveries=[seen]) as second:
                second.phext()[_PLACE] = "text"
                await second.synced(peers=1)
    # One line of each side; without the rule, some more, and links that end at once.
    assert sum("joined" in message for message in caplog.messages) == 2


async def test_a_node_announces_the_address_that_it_listens_on(tmp_path: Path) -> None:
    (path,) = _folders(tmp_path, ["a"])
    for host in (_LOOPBACK, "0.0.0.0"):
        heard: list[Announcement] = []
        seen = _Heard(heard)
        async with open_node(path, host=host, port=0, discoveries=[seen]):
            assert [own.listens_on for own in heard] == [(host,)]
    heard = []
    async with open_node(path, host="localhost", port=0, discoveries=[_Heard(heard)]):
        assert {*heard[0].listens_on} <= {_LOOPBACK, "::1"}
    heard = []
    async with open_node(path, port=0, discoveries=[_Heard(heard)]):
        assert "0.0.0.0" in heard[0].listens_on


async def test_a_search_finds_what_was_written_just_before(tmp_path: Path) -> None:
    (path,) = _folders(tmp_path, ["node"])
    async with open_node(path, discover=False) as node:
        for number in range(5):
            node.phext().append(_PLACE, f"word{number}\n")
            (hit,) = await node.search(f"word{number}")
            assert str(hit.coordinate) == _PLACE


async def test_another_mesh_key_is_refused_before_any_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours, theirs):
        key = MeshKey.generate(os.urandom(32))
        NodeIdentity.create(key, path.name, os.urandom(32)).save(path)
    refused = trio.Event()

    def note(record: logging.LogRecord) -> bool:
        if "refused" in record.getMessage():
            refused.set()
        return True

    logging.getLogger("phextsync.node").addFilter(note)
    with caplog.at_level(logging.INFO), trio.fail_after(PATIENCE_S):
        async with open_node(ours, host=_LOOPBACK, port=0, discoveries=[]) as first:
            first.phext()[_PLACE] = "secret"
            address = f"{_LOOPBACK}:{first.port}"
            async with open_node(
                theirs, host=_LOOPBACK, port=0, peers=[address], discoveries=[]
            ) as second:
                await refused.wait()
                reason = ""
                while "refused" not in reason and "closed" not in reason:  # it hears a little later
                    await trio.lowlevel.checkpoint()
                    (absent,) = second.absent()
                    reason = absent.reason
                assert (absent.node_id, absent.address) == (None, address)
                assert first.peers() == second.peers() == []
                assert _PLACE not in second.phext()
    logging.getLogger("phextsync.node").removeFilter(note)
    refusals = [r for r in caplog.records if "refused a link" in r.getMessage()]
    assert refusals
    assert all("\n" not in record.getMessage() for record in refusals)


async def test_a_folder_has_one_node_and_needs_an_identity(tmp_path: Path) -> None:
    (path,) = _folders(tmp_path, ["a"])
    async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]):
        with pytest.raises(StoreLockedError, match=str(os.getpid())):
            async with open_node(path, discoveries=[]):
                pass
    with pytest.raises(IdentityError):
        async with open_node(tmp_path, discoveries=[]):
            pass


async def test_what_was_edited_last_is_durable_after_a_clean_stop(tmp_path: Path) -> None:
    (path,) = _folders(tmp_path, ["a"])
    for i in range(3):
        async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]) as node:
            node.phext().append(_PLACE, f"{i}\n")
            lease = node.replicas.open("memory").statistics().client_id
    async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]) as node:
        assert node.phext()[_PLACE] == "0\n1\n2\n"
        node.phext().append(_PLACE, "x")
        assert node.replicas.open("memory").statistics().client_id == lease


async def test_what_was_edited_before_a_cancellation_is_durable(tmp_path: Path) -> None:
    (path,) = _folders(tmp_path, ["a"])
    with trio.CancelScope() as scope:
        async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]) as node:
            node.phext()[_PLACE] = "last"
            scope.cancel()
            await trio.sleep_forever()
    assert not (path / "in-use").exists()
    async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]) as node:
        assert node.phext()[_PLACE] == "last"


async def test_waiting_for_the_disk_ends_though_others_go_on_writing(tmp_path: Path) -> None:
    (path,) = _folders(tmp_path, ["a"])
    async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]) as node:

        async def write() -> None:
            while True:
                node.phext().append(_PLACE, "more\n")
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.lowlevel.checkpoint()
            with trio.fail_after(PATIENCE_S):
                await node.durable()
            nursery.cancel_scope.cancel()


async def test_a_disk_that_refuses_is_told_and_tried_again(small_disk: Path) -> None:
    (path,) = _folders(small_disk, ["a"])
    with trio.fail_after(PATIENCE_S):
        async with open_node(path, host=_LOOPBACK, port=0, discoveries=[]) as node:
            ballast = small_disk / "ballast"
            ballast.write_bytes(bytes(700_000))
            node.phext()[_PLACE] = "".join(f"line {i}\n" for i in range(40_000))
            with pytest.raises(StoreFullError, match="no space left"):
                await node.durable()
            with pytest.raises(StoreFullError):
                node.phext().append(_PLACE, "refused")
            assert len(node.phext()[_PLACE]) > 400_000
            ballast.unlink()
            while node.replicas.is_dirty:
                with suppress(StoreFullError):
                    await node.durable()
            node.phext().append(_PLACE, "accepted")


def test_a_node_killed_amid_hundreds_of_edits_has_every_acknowledged_one_and_converges(
    tmp_path: Path,
) -> None:
    options = ["--no-mdns", "--host", _LOOPBACK]
    with mesh(tmp_path, ["victim", "witness"], options=options) as (victim, witness):
        witness.start()
        victim.options = (*options, f"--peer={_LOOPBACK}:{witness.status()['port']}")
        victim.start()
        acknowledged = []
        is_amid = threading.Event()

        def kill() -> None:
            is_amid.wait()
            os.kill(victim.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with suppress(StoreError, OSError):
            for i in itertools.count():
                if i == 100:
                    is_amid.set()
                victim.ask("append", "memory", _PLACE, f"edit {i}\n")
                acknowledged.append(f"edit {i}")
        killer.join()
        victim.stop()
        assert len(acknowledged) >= 100
        victim.start()
        victim.wait_until(lambda status: len(status["peers"]) == 1)
        victim.ask("append", "memory", _PLACE, "after\n")
        wait_until_equal([victim, witness])
        lines = str(witness.ask("get", "memory", _PLACE)).splitlines()
        assert set(acknowledged) <= set(lines)
        assert len(lines) == len(set(lines))
        # An edit that was sent and not yet acknowledged survives with the witness, on either side.
        assert "after" in lines


async def test_many_imports_are_durable_a_part_at_a_time_and_reach_a_peer(tmp_path: Path) -> None:
    scrolls = [
        (Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 999, 1 + i % 999), f"{i}") for i in range(12_000)
    ]
    async with _nodes(tmp_path, 2) as (first, second):
        sizes = []
        first.phext().subscribe(lambda change: sizes.append(len(change.coordinates)))
        with trio.fail_after(PATIENCE_S):
            assert await first.import_texts(iter(scrolls)) == 12_000
            assert not first.replicas.is_dirty
            assert sizes == [5000, 5000, 2000]
            await first.synced()
        assert dict(second.phext().scrolls()) == dict(scrolls)


async def test_a_node_tells_changes_presence_and_what_is_wrong_with_its_peers(
    tmp_path: Path,
) -> None:
    first_folder, second_folder = _folders(tmp_path, ["first", "second"])
    with trio.fail_after(PATIENCE_S):
        async with open_node(first_folder, host=_LOOPBACK, port=0, discoveries=[]) as first:
            with pytest.raises(NotSyncedError, match=r"no peer that holds 1\.\* of 'memory'"):
                await first.synced(range_="1.*", timeout_s=0)
            present = trio.Event()
            first.presence.subscribe(lambda peer: present.set() if peer.facts else None)
            address = f"{_LOOPBACK}:{first.port}"
            async with (
                first.changes(range_="1.*", texts=True) as changes,
                open_node(
                    second_folder, host=_LOOPBACK, port=0, peers=[address], discoveries=[]
                ) as second,
            ):
                second.presence.publish({"editing": _PLACE, "load": 3})
                second.phext()[_PLACE] = "text"
                change = await changes.receive()
                assert (change.origin, change.label) == (second.identity.node_id, "second")
                assert change.texts == (TextChange("", "text"),)
                await present.wait()
                assert [dict(peer.facts) for peer in first.presence.peers()] == [
                    {"editing": _PLACE, "load": 3}
                ]
                await second.synced(timeout_s=PATIENCE_S)
                (row,) = second.status().peers
                assert (row.name, row.lag_scrolls, row.last_error) == ("first", 0, "")
                assert row.state in ("in sync", "comparing")
                assert second.status().warnings == ()
            while first.peers():
                await first.agreement.progress()
            (absent,) = first.absent()
            assert (absent.name, absent.node_id) == ("second", second.identity.node_id)
            assert absent.seen_s is not None
            assert first.warnings() == ["memory: no connected peer holds *"]
            with pytest.raises(NotSyncedError) as raised:
                await first.synced(peers=1, timeout_s=0)
            assert "on the disks of 1 peer within 0 s, found it on 0" in str(raised.value)
            assert raised.value.lacks == ("no peer that holds * of 'memory' is connected",)


_FIRST_EDIT = """
import sys, trio
from pathlib import Path
from phextsync.node.node import open_node

async def main(one, other):
    options = {"host": "127.0.0.1", "discover": False}
    async with open_node(one, port=0, **options) as writer:
        peers = [f"127.0.0.1:{writer.port}"]
        async with open_node(other, port=0, peers=peers, **options) as reader:
            came = trio.Event()
            reader.phext().subscribe(lambda change: came.set())
            while not (writer.peers() and reader.peers()):
                await trio.sleep(0.01)
            loaded = set(sys.modules)
            writer.phext().append("1.1.1/1.1.1/1.1.1", "first")
            await came.wait()
            await writer.durable()
            await reader.durable()
            print(*sorted(set(sys.modules) - loaded))

trio.run(main, *map(Path, sys.argv[1:]))
"""


def test_the_first_edit_waits_for_no_module_to_be_loaded(tmp_path: Path) -> None:
    folders = _folders(tmp_path, ["one", "other"])
    program = [sys.executable, "-c", _FIRST_EDIT, *map(str, folders)]
    done = subprocess.run(program, capture_output=True, check=True, text=True)
    assert done.stdout.split() == []
