"""A node whose scrolls are in memory: nobody counts on it, and its end loses what is its own."""

import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import Final, cast

import pytest
from typer.testing import CliRunner

from phextsync.cli.main import app
from phextsync.control import operations
from phextsync.errors import (
    AnswerLostError,
    NotHeldError,
    NotSyncedError,
    PhextsyncError,
    StoreError,
)
from phextsync.handles.call import Call
from phextsync.handles.folder_client import FolderClient
from phextsync.index import Coordinate
from phextsync.node.memory import all_sent
from phextsync.node.node import open_node
from phextsync.store import fleeting
from phextsync.store.fleeting import FleetingStore
from phextsync.store.folder import IN_MEMORY, look, place_in_memory
from phextsync.store.lmdb_store import LmdbStore
from phextsync.testing import Crash, MemoryMesh, Partition, Repair, Restart
from phextsync.testing.mesh import PHEXT
from sims.ports import free_port
from sims.processes import Process, make_folder
from sims.processes import mesh as nodes

_AT: Final = Coordinate(*[1] * 9)


# -- meshes --------------------------------------------------------------------------------


async def _append(mesh: MemoryMesh, number: int, line: str) -> None:
    node = mesh.node(number)
    await node.fetch(_AT, PHEXT)
    node.phext(PHEXT).append(_AT, line)


@pytest.mark.parametrize("seed", range(6))
def test_through_its_ends_nothing_that_was_synced_is_lost_nothing_doubled_and_it_never_counts(
    seed: int,
) -> None:
    mesh, random, lines = MemoryMesh(seed, 2, fleeting=[1]), Random(seed), list[str]()

    async def write(number: int) -> None:
        lines.append(f"{len(lines)} of {number}\n")
        await _append(mesh, number, lines[-1])

    async def body() -> None:
        await mesh.run_until(1)
        await write(0)
        for _ in range(4):
            await mesh.run_until(mesh.now + 2)
            for number in random.choices((0, 1), k=4):
                await write(number)
                await mesh.run_until(mesh.now + random.choice((0.0, 0.02, 0.5)))
            await write(1)
            await mesh.node(1).synced(PHEXT, peers=1, timeout_s=5)
            with pytest.raises(NotSyncedError):
                await mesh.node(0).synced(PHEXT, peers=1, timeout_s=2)
            if random.random() < 0.5:
                mesh.apply(Crash(1))
                await write(0)
                await mesh.run_until(mesh.now + 1)
            mesh.apply(Restart(1))
            await mesh.run_until(mesh.now + 0.001)
            with pytest.raises(NotSyncedError):  # nor before it has said anything
                await mesh.node(0).synced(PHEXT, peers=1, timeout_s=3)
        (text,) = {await mesh.node(number).fetch(_AT, PHEXT) for number in (0, 1)}
        assert Counter(text.splitlines(keepends=True)) == Counter(lines)

    mesh.run(body)


def test_nobody_gives_up_the_last_copy_for_it() -> None:
    mesh = MemoryMesh(1, 3, fleeting=[1])

    async def body() -> None:
        await mesh.run_until(1)
        await _append(mesh, 0, "tea\n")
        await mesh.run_until(3)
        await mesh.node(1).fetch(_AT, PHEXT)
        mesh.apply(Crash(2))
        await mesh.run_until(5)
        await mesh.node(0).hold([], PHEXT, copies=1)
        await mesh.run_until(60)
        assert mesh.node(0).phext(PHEXT)[_AT] == "tea\n"
        mesh.apply(Restart(2))
        await mesh.run_until(90)
        with pytest.raises(NotHeldError):
            assert mesh.node(0).phext(PHEXT)[_AT]
        assert await mesh.node(1).fetch(_AT, PHEXT) == "tea\n"

    mesh.run(body)


def test_it_says_which_edits_are_nowhere_else_and_waits_for_peers() -> None:
    mesh = MemoryMesh(1, 2, fleeting=[1])

    async def body() -> None:
        await mesh.run_until(1)
        await _append(mesh, 0, "tea\n")
        await mesh.run_until(3)
        await _append(mesh, 1, "milk\n")
        await mesh.run_until(5)
        node = mesh.node(1)
        assert not node.warnings()
        mesh.apply(Partition(((0,), (1,))))
        await mesh.run_until(10)
        node.phext(PHEXT).append(_AT, "eggs\n")
        await mesh.run_until(11)
        assert [line for line in node.warnings() if "1 scroll has edits that are nowhere" in line]
        assert await all_sent(node.replicas, node.agreement.progress, 10) == 1
        mesh.apply(Repair())
        assert await all_sent(node.replicas, node.agreement.progress, 60) == 0
        assert not node.warnings()
        mesh.apply(Crash(1))
        await mesh.run_until(mesh.now + 1)
        assert mesh.node(0).phext(PHEXT)[_AT] == "tea\nmilk\neggs\n"

    mesh.run(body)


def test_it_holds_nothing_and_may_not() -> None:
    mesh = MemoryMesh(1, 2, fleeting=[1])

    async def body() -> None:
        await mesh.run_until(1)
        await _append(mesh, 0, "tea\n")
        await mesh.run_until(2)
        with pytest.raises(PhextsyncError, match="a node with a disk"):
            mesh.node(1).desk.ask(["hold", PHEXT, ["*"], None])
        with pytest.raises(PhextsyncError, match="a node with a disk"):
            mesh.node(1).replicas.hold(PHEXT)
        (row,) = mesh.node(1).status().holding
        assert (row.phext, row.held) == (PHEXT, ())
        for i in range(20):
            mesh.node(0).phext(PHEXT)[f"1.1.1/1.1.1/1.1.{i + 2}"] = "not asked for\n"
            await mesh.run_until(mesh.now + 0.1)
        assert mesh.node(0).traffic().updates_out == 1  # before it had said so

    mesh.run(body)


# -- the store -----------------------------------------------------------------------------


def test_a_store_in_memory_is_there_as_long_as_the_process(tmp_path: Path) -> None:
    store = FleetingStore(tmp_path)
    place = place_in_memory(tmp_path)
    assert place is not None
    assert place.parent == fleeting.MEMORY
    assert place.stat().st_mode & 0o777 == 0o700
    assert look(tmp_path, lambda records: records.names) == {}
    with pytest.raises(StoreError, match="is in use by process"):
        FleetingStore(tmp_path)
    store.close(clean=True)
    assert not place.exists()
    for use in (LmdbStore, lambda folder: look(folder, str)):
        with pytest.raises(StoreError, match="were in memory and ended with its node"):
            use(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"store.lock", IN_MEMORY}


def test_what_a_killed_process_left_in_memory_is_removed_by_the_next(tmp_path: Path) -> None:
    left = fleeting.MEMORY / f"phextsync-test-{os.getpid()}"
    (left / "store").mkdir(parents=True)
    (tmp_path / IN_MEMORY).write_bytes(os.fsencode(left))
    store = FleetingStore(tmp_path)
    assert not left.exists()
    assert store.phexts() == []
    store.close(clean=True)


def test_a_store_in_memory_that_somebody_removed_ends_as_others_do(tmp_path: Path) -> None:
    store = FleetingStore(tmp_path)
    rmtree(store.folder)
    store.close(clean=True)
    FleetingStore(tmp_path).close(clean=True)  # nobody has the folder any more


def test_nothing_but_a_store_in_memory_is_removed(tmp_path: Path) -> None:
    other = tmp_path / "phextsync-notes"
    other.mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / IN_MEMORY).write_bytes(os.fsencode(other))
    FleetingStore(tmp_path / "data").close(clean=True)
    assert other.exists()


def test_a_folder_with_a_store_stays_on_its_disk(tmp_path: Path) -> None:
    LmdbStore(tmp_path).close(clean=True)
    with pytest.raises(StoreError, match="stays on its disk"):
        FleetingStore(tmp_path)
    assert place_in_memory(tmp_path) is None
    LmdbStore(tmp_path).close(clean=True)


def test_without_a_file_system_in_memory_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleeting, "MEMORY", tmp_path / "shm")
    with pytest.raises(StoreError, match="expected a file system in memory at"):
        FleetingStore(tmp_path)


# -- processes -----------------------------------------------------------------------------


def test_what_was_asked_for_is_not_asked_for_again_where_receipts_ended(tmp_path: Path) -> None:
    client = FolderClient(tmp_path, partial(open_node, tmp_path))
    append = cast("operations.Operation[object]", operations.APPEND)
    sent, waiting = (
        Call(["append", PHEXT, str(_AT), line], append) for line in ("tea\n", "milk\n")
    )
    reading = Call(["get", PHEXT, str(_AT)])
    for call in (sent, waiting, reading):
        client.start(call)
    sent.was_sent = reading.was_sent = True
    client._give_up_changes()
    with pytest.raises(AnswerLostError, match="'append' may be carried out"):
        sent.result(0)
    assert not waiting.is_answered
    assert not reading.is_answered


def test_a_bound_directory_is_refused(tmp_path: Path) -> None:
    folder, notes = make_folder(tmp_path / "data"), tmp_path / "notes"
    notes.mkdir()
    words = ["bind", str(notes), "--at", "7.*", "--data", str(folder)]
    (folder / IN_MEMORY).write_bytes(os.fsencode(tmp_path / "gone"))
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 1
    assert "in memory" in told.stderr
    (folder / IN_MEMORY).unlink()
    assert CliRunner().invoke(app, words).exit_code == 0
    told = CliRunner().invoke(app, ["up", "--data-in-memory", "--data", str(folder)])
    assert "expected no bound directory" in str(told.exception)


@pytest.mark.real
def test_a_node_with_its_scrolls_in_memory_is_one_of_the_mesh(tmp_path: Path) -> None:
    options = ("--host", "127.0.0.1", "--no-mdns")
    with nodes(tmp_path, ["desk", "lap"]) as (desk, lap):
        port = free_port()
        desk.options = (*options, "--port", str(port))
        lap.options = (*options, "--port", "0", "--peer", f"127.0.0.1:{port}", "--data-in-memory")
        desk.start()
        desk.ask("append", PHEXT, str(_AT), "tea\n")
        lap.start()
        for line in ("milk\n", "eggs\n"):
            lap.wait_until(lambda status: bool(status["peers"]))
            assert _done(lap, "get", str(_AT)).startswith("tea\n")
            _done(lap, "append", str(_AT), line.strip())
            _done(lap, "append", "7.1.1/1.1.1/1.1.1", line.strip())
            place = place_in_memory(lap.folder)
            assert place is not None
            assert place.exists()
            assert not (lap.folder / "store").exists()
            assert "0 problems" in _done(lap, "check")
            lap.stop()
            assert not place.exists()
            assert "were in memory and ended with its node" in _done(lap, "get", str(_AT))
            lap.start()
        left = place_in_memory(lap.folder)
        lap.stop(signal.SIGKILL)
        lap.start()
        assert left is not None
        assert not left.exists()
        assert _done(desk, "get", str(_AT)) == "tea\nmilk\neggs\n"
        assert _done(desk, "get", "7.1.1/1.1.1/1.1.1") == "milk\neggs\n"


def _done(process: Process, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data", str(process.folder)])
    return done.output + str(done.exception or "")
