"""Nothing acknowledged is lost by a crash, at whatever call to the disk it comes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore
from tests.crash_images import SHM
from tests.crash_workload import contents
from tests.golden import unpack
from tests.recording import record
from tests.workers import share

pytestmark = pytest.mark.crash


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    """A folder in memory: what is durable is simulated, or no power is lost."""
    with TemporaryDirectory(prefix="crash-", dir=SHM) as folder:
        yield Path(folder)


def test_whatever_a_crash_leaves_opens_with_all_that_was_acknowledged(memory_disk: Path) -> None:
    root, before = memory_disk / "root", memory_disk / "before"
    root.mkdir()
    before.mkdir()
    recording = record(memory_disk, root, ["tests.crash_workload", str(root)])
    tried = share("tests.crash_images", [str(recording), str(before)])
    assert tried.total() >= 1000, tried
    for part in ("commit", "compaction", "growth", "client id", "quarantine", "close", "open"):
        assert tried[part] >= 10, tried


def test_a_crash_during_an_upgrade_loses_nothing(memory_disk: Path) -> None:
    root, before, upgraded = (memory_disk / name for name in ("root", "before", "upgraded"))
    for folder in (root, before, upgraded):
        folder.mkdir()
        unpack(1, folder)
    store = LmdbStore(upgraded)
    replicas = ReplicaSet(store, node_id=b"n" * 16, random=Random(0), wall_time_ms=lambda: 0)
    (before / "contents").write_text(json.dumps(contents(replicas)))
    store.close(clean=True)
    recording = record(memory_disk, root, ["tests.crash_workload", str(root)])
    tried = share("tests.crash_images", [str(recording), str(before)])
    assert tried.total() >= 200, tried


_WRITER = """
import sys
from phextsync.index import Coordinate
from phextsync.store.contract import Batch, LogEntry, ScrollWrite
from phextsync.store.lmdb_store import LmdbStore
store = LmdbStore(sys.argv[1])
start = int(sys.argv[2])
for i in range(start, start + 100000):
    key = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + i % 50).key
    entry = LogEntry(b"%d" % i, b"", i)
    store.commit(Batch((("memory", ScrollWrite(key, bytes(32), 1, None, (entry,))),)))
    print(i, flush=True)
"""


def test_a_killed_writer_has_every_batch_that_it_acknowledged(memory_disk: Path) -> None:
    start = 0
    for round_ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(memory_disk), str(start)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        acknowledged = start - 1
        for _ in range(20 + 37 * round_):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        store = LmdbStore(memory_disk)
        assert store.report == ()
        assert store.lease("memory") is None
        found = sorted(
            int(entry.update)
            for _, scroll in store.read_range("memory", bytes(12), None, 1 << 40)
            for entry in scroll.log
        )
        assert found[: acknowledged + 1] == list(range(acknowledged + 1))
        assert len(found) <= acknowledged + 2
        start = len(found)
        store.close(clean=False)
