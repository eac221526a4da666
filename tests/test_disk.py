"""A disk that is full, read-only or gone refuses writes, and loses nothing that it took."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from phextsync.errors import PhextsyncError, StoreError, StoreFullError
from phextsync.node.node import Node, open_node
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.processes import PATIENCE_S, Process
from tests.recording import build_recorder

pytestmark = pytest.mark.real

_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"
_OPTIONS = ["--no-mdns", "--host", "127.0.0.1", "--port", "0"]


def _make(folder: Path) -> None:
    NodeIdentity.create(MeshKey.generate(bytes(32)), "node", bytes(32)).save(folder)


def _texts(folder: Path) -> dict[str, str]:
    store = LmdbStore(folder)
    assert store.report == ()
    replicas = ReplicaSet(store, node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0)
    texts = {str(place): text for place, text in replicas.open("memory").scrolls()}
    store.close(clean=True)
    return texts


@contextmanager
def _running(folder: Path, prefix: list[str]) -> Iterator[Process]:
    process = Process(folder, prefix, _OPTIONS)
    process.start()
    try:
        yield process
    finally:
        process.stop()


def _until_taken(process: Process, place: str, text: str) -> None:
    """Write until the node takes it: it asks its disk again every second."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            process.ask("set", "memory", place, text)
            return
        except PhextsyncError:
            assert time.monotonic() < deadline, process.log.read_text()
            time.sleep(0.05)


def test_a_full_disk_refuses_writes_and_takes_them_when_there_is_space(small_disk: Path) -> None:
    _make(small_disk)
    with _running(small_disk, []) as process:
        process.ask("set", "memory", _A, "before")
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        with pytest.raises(PhextsyncError, match="no space left"):
            process.ask("set", "memory", _B, "b" * 20_000)
        assert process.ask("get", "memory", _A) == "before"
        with pytest.raises(PhextsyncError, match="refused the last write"):
            process.ask("set", "memory", _A, "while full")
        ballast.unlink()
        _until_taken(process, _A, "after")
    assert _texts(small_disk) == {_A: "after", _B: "b" * 20_000}


def test_a_disk_that_becomes_read_only_refuses_writes_until_it_is_mended(tmp_path: Path) -> None:
    folder, refuse = tmp_path / "data", tmp_path / "refuse"
    _make(folder)
    preload = f"LD_PRELOAD={build_recorder(tmp_path)}"
    prefix = ["env", preload, f"RECORD_ROOT={folder}/store", f"RECORD_REFUSE={refuse}"]
    with _running(folder, prefix) as process:
        process.ask("set", "memory", _A, "before")
        refuse.touch()
        with pytest.raises(PhextsyncError, match="Read-only file system"):
            process.ask("set", "memory", _B, "kept in memory")
        assert process.ask("get", "memory", _A) == "before"
        refuse.unlink()
        _until_taken(process, _A, "after")
    assert _texts(folder) == {_A: "after", _B: "kept in memory"}


def test_a_folder_on_a_read_only_disk_is_refused_and_unharmed(small_disk: Path) -> None:
    _make(small_disk)
    store = LmdbStore(small_disk)
    store.close(clean=True)
    mount = ["mount", "-o"]
    subprocess.run([*mount, "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="Read-only file system"):
        LmdbStore(small_disk)
    subprocess.run([*mount, "remount,rw", str(small_disk)], check=True)
    assert _texts(small_disk) == {}


async def test_a_folder_that_is_moved_away_takes_no_writes_until_it_is_back(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    _make(folder)
    with trio.fail_after(PATIENCE_S):
        async with open_node(folder, host="127.0.0.1", port=0, discover=False) as node:
            memory = node.phext()
            memory[_A] = "before"
            await node.durable()
            folder.rename(elsewhere)
            memory[_B] = "kept in memory"
            with pytest.raises(StoreFullError, match="is not there any more: put the folder back"):
                await node.durable()
            assert memory[_A] == "before"
            with pytest.raises(StoreFullError):
                memory[_A] = "refused"
            elsewhere.rename(folder)
            while node.replicas.is_dirty:
                with suppress(StoreFullError):
                    await node.durable()
            memory[_A] = "after"
    assert _texts(folder) == {_A: "after", _B: "kept in memory"}


async def test_of_two_nodes_with_one_identity_the_second_is_told_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = MeshKey.generate(bytes(32))
    peer, original, clone = (tmp_path / name for name in ("peer", "original", "clone"))
    NodeIdentity.create(key, "peer", bytes(32)).save(peer)
    NodeIdentity.create(key, "original", bytes([1]) * 32).save(original)
    with trio.fail_after(PATIENCE_S):
        async with AsyncExitStack() as stack:

            async def start(folder: Path, *peers: str) -> Node:
                context = open_node(folder, host="127.0.0.1", port=0, peers=peers, discover=False)
                return await stack.enter_async_context(context)

            middle = await start(peer)
            first = await start(original, f"127.0.0.1:{middle.port}")
            first.phext()[_A] = "text"
            await first.synced(peers=1)
            # A copy of everything while it runs, as that of a virtual machine.
            shutil.copytree(original, clone, ignore=shutil.ignore_patterns("*.sock"))
            second = await start(clone, f"127.0.0.1:{middle.port}")
            assert second.phext()[_A] == "text"
            while "`phextsync join CODE`" not in caplog.text:
                await trio.testing.wait_all_tasks_blocked(0.01)
            while len(middle.peers()) != 1:
                await trio.testing.wait_all_tasks_blocked(0.01)
            first.phext().append(_A, ", and more")
            await first.synced(peers=1)
            assert middle.phext()[_A] == "text, and more"
