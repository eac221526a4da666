"""What a store promises: the same on disk and in memory."""

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import (
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store import opening
from phextsync.store.contract import Batch, LogEntry, ScrollWrite, Store, StoredScroll
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.store.records import FORMAT_VERSION, seal
from phextsync.testing import acceptance
from phextsync.testing.acceptance.stores import commit as _commit
from phextsync.testing.acceptance.stores import write as _write
from tests.golden import expected, unpack

_KEYS = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i).key for i in range(1, 9)]
_NODE = b"n" * 16


class Shelf:
    """A place where stores of one kind are opened again and again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.store: Store = self._first()

    def _first(self) -> Store:
        return MemoryStore() if self.kind == "memory" else LmdbStore(self.folder)

    def reopen(self, *, clean: bool) -> Store:
        """Close and open; not clean is what a killed process leaves."""
        self.store.close(clean=clean)
        if isinstance(self.store, MemoryStore):
            self.store = self.store.reopened()
        else:
            self.store = LmdbStore(self.folder)
        return self.store


@pytest.fixture(params=["memory", "lmdb"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(request.param, tmp_path)
    yield made
    made.store.close(clean=True)


@pytest.mark.parametrize("claim", acceptance.STORE, ids=lambda claim: claim.__name__)
def test_every_store_is_accepted(claim: Callable[[acceptance.Shelf], None], shelf: Shelf) -> None:
    claim(shelf)


def test_a_client_id_is_not_leased_again_once_a_scroll_was_set_aside(shelf: Shelf) -> None:
    shelf.store.commit(Batch((("memory", _write(_KEYS[0])),), (("memory", 6), ("other", 7))))
    shelf.store.quarantine("memory", _KEYS[0])
    assert (shelf.store.lease("memory"), shelf.store.lease("other")) == (None, 7)
    shelf.reopen(clean=True)
    assert shelf.store.lease("memory") is None


def test_a_damaged_value_in_memory_is_met_until_it_is_written_anew() -> None:
    store = MemoryStore()
    _commit(store, _write(_KEYS[0]), _write(_KEYS[1]))
    store.damage("memory", _KEYS[0])
    for found in (store, store.reopened()):
        with pytest.raises(StoreDamagedError, match="its bytes do not have"):
            found.read("memory", _KEYS[0])
        assert [key for key, _ in found.read_range("memory", b"", None, 100)] == [_KEYS[1]]
    _commit(store, _write(_KEYS[0], state=b"whole"))
    assert store.read("memory", _KEYS[0]) == StoredScroll(b"whole", ())


_writes = st.lists(
    st.tuples(
        st.sampled_from(["memory", "other"]),
        st.sampled_from(_KEYS[:4]),
        st.none() | st.binary(max_size=9),
        st.lists(
            st.builds(LogEntry, st.binary(max_size=9), st.just(_NODE), st.integers(0, 9)),
            max_size=3,
        ),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(_writes, max_size=6))
def test_both_stores_hold_the_same_whatever_is_committed(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[str, bytes, bytes | None, list[LogEntry]]]],
) -> None:
    disk, memory = LmdbStore(tmp_path_factory.mktemp("store")), MemoryStore()
    for writes in batches:
        batch = Batch(
            tuple(
                (phext, _write(key, state=state, log=tuple(log)))
                for phext, key, state, log in writes
            )
        )
        for store in (disk, memory):
            store.commit(batch)
    assert disk.phexts() == memory.phexts()
    for phext in ("memory", "other"):
        assert disk.heads(phext) == memory.heads(phext)
        for key in _KEYS[:4]:
            assert (disk.read(phext, key) or StoredScroll(None, ())) == (
                memory.read(phext, key) or StoredScroll(None, ())
            )
    disk.close(clean=True)


# -- on disk only --------------------------------------------------------------------------


def test_a_folder_has_one_owner_who_is_named(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    with pytest.raises(StoreLockedError, match=f"in use by process {os.getpid()}"):
        LmdbStore(tmp_path)
    store.close(clean=True)
    LmdbStore(tmp_path).close(clean=True)
    with pytest.raises(StoreError, match="cannot open"):
        LmdbStore(tmp_path / "missing")


def test_a_folder_on_a_file_system_over_a_network_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "kind_of", lambda path: "nfs4")
    with pytest.raises(
        StoreError, match=r"on a local disk, found .* on nfs4: name one with --data"
    ):
        LmdbStore(tmp_path)
    assert not (tmp_path / "store").exists()


def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    _commit(store, _write(_KEYS[0], state=b"secret"))
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    store.close(clean=True)


def test_another_format_is_refused(tmp_path: Path) -> None:
    LmdbStore(tmp_path).close(clean=True)
    with lmdb.open(str(tmp_path / "store"), max_dbs=8) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(b"version", seal(b"meta", b"version", b"3"), db=meta)
    with pytest.raises(
        StoreVersionError, match="expected a store of format 2 or older, found format 3"
    ):
        LmdbStore(tmp_path)


def test_a_damaged_note_is_absent_and_a_rebuild_keeps_the_others(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.commit(Batch((), notes=((b"a1", b"one"), (b"a2", b"two"), (b"a3", bytes(9_000)))))
    store.close(clean=True)
    with lmdb.open(str(tmp_path / "store"), max_dbs=8) as env:
        databases = {name: env.open_db(name) for name in (b"meta", b"notes")}
        with env.begin(write=True) as txn:
            txn.put(b"a2", b"of another time", db=databases[b"notes"])
    store = LmdbStore(tmp_path)
    for _ in range(2):
        assert (store.note(b"a1"), store.note(b"a2")) == (b"one", b"")
        assert store.notes(b"a") == [(b"a1", b"one"), (b"a3", bytes(9_000))]
        store.close(clean=False)
        path = tmp_path / "store" / "data.mdb"
        path.write_bytes(path.read_bytes().replace(b"format", b"forgot"))
        store = LmdbStore(tmp_path)
    store.close(clean=True)


@pytest.mark.parametrize("key", [b"cmemory", b"r" + b"ab" * 8, b"k" + bytes(4), b"nmemory"])
def test_a_damaged_record_of_the_store_itself_is_mended_at_the_next_start(
    tmp_path: Path, key: bytes
) -> None:
    store = LmdbStore(tmp_path)
    _commit(store, _write(_KEYS[0], state=b"s"))
    store.commit(Batch((), (("memory", 7),), ((bytes.fromhex("ab" * 8), b"receipt"),)))
    store.close(clean=True)
    with lmdb.open(str(tmp_path / "store"), max_dbs=8) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            assert txn.replace(key, b"damaged and long", db=meta) is not None
    store = LmdbStore(tmp_path)
    assert "a record of meta does not have its checksum" in store.report[0]
    assert store.read("memory", _KEYS[0]) is not None
    assert store.lease("memory") is None
    store.close(clean=True)
    store = LmdbStore(tmp_path)
    assert store.report == ()
    store.close(clean=True)


def test_a_copied_folder_takes_new_client_ids(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    store = LmdbStore(tmp_path / "a")
    _commit(store, _write(_KEYS[0], state=b"s"))
    store.commit(Batch((), (("memory", 7),)))
    store.close(clean=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy, original = LmdbStore(tmp_path / "b"), LmdbStore(tmp_path / "a")
    assert (copy.lease("memory"), original.lease("memory")) == (None, 7)
    assert copy.read("memory", _KEYS[0]) == StoredScroll(b"s", ())
    copy.close(clean=True)
    original.close(clean=True)


def test_a_commit_in_another_thread_does_not_disturb_reads(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    _commit(store, _write(_KEYS[0], state=b"0" * 5000))
    failures: list[BaseException] = []

    def commit_many() -> None:
        try:
            for i in range(10):
                _commit(store, _write(_KEYS[i % 8], state=bytes([48 + i % 10]) * 5000))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=commit_many)
    thread.start()
    while thread.is_alive():
        found = store.read("memory", _KEYS[0])
        assert found is not None
        assert found.state is not None
        assert len(set(found.state)) == 1
    thread.join()
    assert failures == []
    store.close(clean=True)


def _flip(folder: Path, marker: bytes) -> None:
    """Change a byte in each copy of `marker` in the data file."""
    path = folder / "store" / "data.mdb"
    data = path.read_bytes()
    assert marker in data
    path.write_bytes(data.replace(marker, b"\x00" + marker[1:]))


@pytest.mark.parametrize("part", ["state", "log"])
def test_a_damaged_value_is_named_by_its_place_and_never_served(tmp_path: Path, part: str) -> None:
    store = LmdbStore(tmp_path)
    marker = b"precious text of a scroll"
    log = (LogEntry(marker, _NODE, 1),) if part == "log" else ()
    _commit(store, _write(_KEYS[0], state=marker if part == "state" else None, log=log))
    _commit(store, _write(_KEYS[1], state=b"sound"))
    store.close(clean=True)
    _flip(tmp_path, marker)
    store = LmdbStore(tmp_path)
    with pytest.raises(StoreDamagedError, match=r"memory 1\.1\.1/1\.1\.1/1\.1\.1: its bytes"):
        store.read("memory", _KEYS[0])
    assert [key for key, _ in store.read_range("memory", _KEYS[0], None, 9999)] == [_KEYS[1]]
    store.quarantine("memory", _KEYS[0])
    assert store.read("memory", _KEYS[0]) is None
    store.close(clean=True)


def test_heads_of_thousands_are_those_of_their_phext(tmp_path: Path) -> None:
    disk, memory = LmdbStore(tmp_path), MemoryStore()
    keys = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 500, 1 + i % 500).key for i in range(2500)]
    for phext, some in (("a", keys[:10]), ("b", keys), ("c", keys[:1024]), ("d", keys[:1])):
        batch = Batch(tuple((phext, _write(key, state=key)) for key in some))
        for store in (disk, memory):
            store.commit(batch)
        assert len(disk.heads(phext).keys) == 12 * len(some)
    for phext in "abcd":
        assert disk.heads(phext) == memory.heads(phext)
    disk.close(clean=True)


def test_a_damaged_head_is_set_aside_and_reported(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    head = ScrollWrite(_KEYS[0], b"fingerprint" * 2 + b"0123456789", 5, b"state", ())
    _commit(store, head, _write(_KEYS[1], state=b"sound"))
    store.close(clean=True)
    _flip(tmp_path, b"fingerprint" * 2)
    store = LmdbStore(tmp_path)
    assert store.heads("memory").keys == _KEYS[1]
    assert "1.1.1/1.1.1/1.1.1: its head is damaged" in store.report[0]
    store.close(clean=True)


def test_a_full_disk_refuses_a_batch_whole_and_loses_nothing(small_disk: Path) -> None:
    store = LmdbStore(small_disk)
    _commit(store, _write(_KEYS[0], state=b"before"))
    for _ in range(3):
        with pytest.raises(StoreFullError, match="no space left"):
            _commit(store, *(_write(key, state=os.urandom(300_000)) for key in _KEYS))
        assert store.read("memory", _KEYS[0]) == StoredScroll(b"before", ())
        assert store.read("memory", _KEYS[1]) is None
    _commit(store, _write(_KEYS[1], state=b"small"))
    store.close(clean=True)
    store = LmdbStore(small_disk)
    assert store.report == ()
    assert store.read("memory", _KEYS[1]) == StoredScroll(b"small", ())
    store.close(clean=True)


# -- upgraded ------------------------------------------------------------------------------


def test_a_folder_of_format_1_is_rebuilt_with_progress_and_kept(tmp_path: Path) -> None:
    unpack(1, tmp_path)
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    told: list[tuple[int, int]] = []
    store = LmdbStore(tmp_path, progress=lambda done, of: told.append((done, of)))
    assert "was upgraded from format 1 to 2; 42 scrolls were taken over" in store.report[0]
    assert told[-1] == (42, 42)
    assert (tmp_path / "store.format-1" / "data.mdb").read_bytes() == before
    _check_golden(store)
    store.close(clean=True)
    store = LmdbStore(tmp_path)
    assert not any("upgraded" in line for line in store.report)
    _check_golden(store)
    store.close(clean=True)


def test_a_folder_of_todays_format_opens_as_it_was_left(tmp_path: Path) -> None:
    unpack(FORMAT_VERSION, tmp_path)
    store = LmdbStore(tmp_path)
    assert not any("upgraded" in line or "damaged (" in line for line in store.report)
    _check_golden(store)
    store.close(clean=True)


def _check_golden(store: LmdbStore) -> None:
    golden = expected()
    replicas = ReplicaSet(store, node_id=_NODE, random=Random(1), wall_time_ms=lambda: 0)
    for name, scrolls in golden["texts"].items():
        assert {str(c): text for c, text in replicas.open(name).scrolls()} == scrolls
    for name, fingerprints in golden["fingerprints"].items():
        found = store.heads(name)
        assert {
            str(Coordinate.from_key(found.keys[12 * i : 12 * i + 12])): found.fingerprints[
                32 * i : 32 * i + 32
            ].hex()
            for i in range(len(found.keys) // 12)
        } == fingerprints
    aside = {name: str(Coordinate.from_key(key)) for name, key, _, _ in store.set_aside()}
    assert {name: [place] for name, place in aside.items()} == golden["quarantined"]


# -- damaged ------------------------------------------------------------------------------


def _truncate(data: bytearray) -> None:
    del data[len(data) // 2 :]


def _cut_odd(data: bytearray) -> None:
    del data[-100:]


def _zero(data: bytearray) -> None:
    data[4096 * 20 : 4096 * 24] = bytes(4096 * 4)


def _garbage(data: bytearray) -> None:
    data[4096 * 30 : 4096 * 33] = b"\xa5" * (4096 * 3)


@pytest.mark.crash
@pytest.mark.parametrize("damage", [_truncate, _cut_odd, _zero, _garbage])
def test_a_damaged_file_is_set_aside_and_what_can_be_read_is_kept(
    tmp_path: Path, damage: Callable[[bytearray], None]
) -> None:
    keys = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 100, 1 + i % 100).key for i in range(300)]
    store = LmdbStore(tmp_path)
    _commit(store, *(_write(key, state=b"state of " + key * 80) for key in keys))
    store.close(clean=False)
    path = tmp_path / "store" / "data.mdb"
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    store = LmdbStore(tmp_path)
    assert "the store was damaged" in store.report[0]
    assert "kept as store.damaged" in store.report[0]
    assert (tmp_path / "store.damaged" / "data.mdb").read_bytes() == data
    for key, scroll in store.read_range("memory", bytes(12), None, 1 << 30):
        assert scroll.state == b"state of " + key * 80
    _commit(store, _write(keys[0], state=b"new"))
    assert store.read("memory", keys[0]) == StoredScroll(b"new", ())
    store.close(clean=True)
    waiting = LmdbStore(tmp_path).report
    assert all("was set aside, and no peer has sent it again" in line for line in waiting)


@pytest.mark.parametrize("counted", [1, 3])
def test_a_count_that_is_not_the_number_of_scrolls_is_told_and_mended(
    tmp_path: Path, counted: int
) -> None:
    store = LmdbStore(tmp_path)
    _commit(store, *(_write(key, state=b"text") for key in _KEYS[:2]))
    number = store._numbers["memory"]
    with store._env.begin(write=True) as txn:
        store._set_count(txn, number, counted)
    store.close(clean=True)
    store = LmdbStore(tmp_path)
    assert len(store.heads("memory").keys) == 2 * 12
    assert store.report == ("memory: 1 scrolls could not even be named; peers send them again",)
    assert store._counts[number] == 2
    store.close(clean=True)
