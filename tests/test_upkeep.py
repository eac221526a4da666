"""A data folder is checked, repaired, backed up and restored."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import lmdb
import pytest

from phextsync.control.upkeep import backup, check, repair, restore
from phextsync.errors import StoreError, StoreFullError, StoreLockedError
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.records import HEAD, HEADS, STATES, content_of, seal, unseal

_PLACES = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 30)]
_TEXTS = {place: f"text of {place}\n" for place in _PLACES}


@contextmanager
def _replicas(folder: Path) -> Iterator[ReplicaSet]:
    store = LmdbStore(folder)
    yield ReplicaSet(store, node_id=b"n" * 16, random=Random(1), wall_time_ms=lambda: 0)
    store.close(clean=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with scrolls."""
    made = tmp_path / "data"
    made.mkdir()
    with _replicas(made) as replicas:
        for place, text in _TEXTS.items():
            replicas.open("memory")[place] = text
        replicas.commit()
    return made


def _texts(folder: Path) -> dict[Coordinate, str]:
    with _replicas(folder) as replicas:
        return dict(replicas.open("memory").scrolls())


def _repair(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    done = repair(folder, random=Random(2), now_ms=0)
    return done.reports, done.missing


@contextmanager
def _edited(folder: Path) -> Iterator[tuple["lmdb.Transaction", dict[bytes, "lmdb._Database"]]]:
    """Change a store behind the back of the library."""
    with lmdb.open(str(folder / "store"), max_dbs=8) as environment:
        names = (b"heads", b"states", b"logs")
        databases = {name: environment.open_db(name) for name in names}
        with environment.begin(write=True) as txn:
            yield txn, databases


def _place(txn: "lmdb.Transaction", heads: "lmdb._Database", wanted: Coordinate) -> bytes:
    (found,) = (bytes(k) for k, _ in txn.cursor(db=heads) if bytes(k)[4:] == wanted.key)
    return found


def test_a_sound_folder_has_no_problems(folder: Path) -> None:
    assert check(folder).problems == ()
    assert check(folder).scrolls == len(_TEXTS)
    assert check(folder).others == 1  # who wrote them
    assert _repair(folder) == ((), ())
    assert _texts(folder) == _TEXTS


def test_a_scroll_that_peers_do_not_take_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    with _replicas(folder) as replicas:
        for _ in range(50):
            replicas.open("memory").insert(_PLACES[3], 0, "x")
        replicas.commit()
    monkeypatch.setattr("phextsync.control.upkeep.STATE_BYTES_MAX", 200)
    (problem,) = check(folder).problems
    assert problem.startswith(f"memory {_PLACES[3]}: with all that was done to it it has ")
    assert problem.endswith("; copy its text to another scroll and clear this one")


def test_a_head_that_lies_is_found_and_written_anew(folder: Path) -> None:
    with _edited(folder) as (txn, databases):
        place = _place(txn, databases[HEADS], _PLACES[3])
        _, size, content = HEAD.unpack(
            unseal(HEADS, place, bytes(txn.get(place, db=databases[HEADS]) or b""))
        )
        txn.put(place, seal(HEADS, place, HEAD.pack(bytes(32), size, content)), db=databases[HEADS])
    problem = f"memory {_PLACES[3]}: its fingerprint or size is not that of its content"
    assert check(folder).problems == (problem,)
    assert _repair(folder) == (
        (f"memory {_PLACES[3]}: its head was written again, from its content",),
        (),
    )
    assert check(folder).problems == ()
    assert _texts(folder) == _TEXTS


def test_a_scroll_without_its_head_is_named_and_taken_back(folder: Path) -> None:
    with _edited(folder) as (txn, databases):
        txn.delete(_place(txn, databases[HEADS], _PLACES[5]), db=databases[HEADS])
    assert check(folder).problems == (f"memory {_PLACES[5]}: its head is missing",)
    reports, missing = _repair(folder)
    assert f"memory {_PLACES[5]}: taken back from what was set aside" in reports
    assert missing == ()
    assert _texts(folder) == _TEXTS


def test_content_that_is_lost_is_named_and_waits_for_a_peer(folder: Path) -> None:
    with _edited(folder) as (txn, databases):
        for database in (databases[b"states"], databases[b"logs"]):
            for key, value in list(txn.cursor(db=database)):
                if bytes(key)[4:16] == _PLACES[7].key:
                    txn.put(key, bytes(value)[:-1] + b"?", db=database)
    assert [line.split(": ")[0] for line in check(folder).problems] == [f"memory {_PLACES[7]}"]
    _, missing = _repair(folder)
    assert missing == (f"memory {_PLACES[7]}",)
    assert check(folder).problems == (
        f"memory {_PLACES[7]}: set aside, and no peer has sent it again",
    )
    assert _texts(folder) == {p: t for p, t in _TEXTS.items() if p != _PLACES[7]}


def test_valid_bytes_that_are_no_scroll_are_named_and_set_aside(folder: Path) -> None:
    with _edited(folder) as (txn, databases):
        place = _place(txn, databases[HEADS], _PLACES[9])
        for key, _ in list(txn.cursor(db=databases[b"logs"])):
            if bytes(key)[:16] == place:
                txn.delete(key, db=databases[b"logs"])
        value = seal(STATES, place, b"no update")
        txn.put(place, value, db=databases[b"states"])
        head = HEAD.pack(bytes(32), 9, content_of(value, ()))
        txn.put(place, seal(HEADS, place, head), db=databases[HEADS])
    assert "it is no scroll" in check(folder).problems[0]
    reports, missing = _repair(folder)
    assert reports[0].startswith(f"memory {_PLACES[9]}: ")
    assert missing == (f"memory {_PLACES[9]}",)


def test_a_backup_of_a_store_in_use_holds_one_moment_of_it(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with _replicas(folder) as replicas:
        replicas.open("memory").append(_PLACES[0], "committed\n")
        replicas.commit()
        replicas.open("memory").append(_PLACES[0], "not committed\n")
        for command in (["backup", str(file)], ["check"]):
            program = [sys.executable, "-m", "phextsync.cli", *command, "--data", str(folder)]
            subprocess.run(program, check=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data"]
    target = tmp_path / "other"
    restore(file, target)
    assert _texts(target) == {**_TEXTS, _PLACES[0]: _TEXTS[_PLACES[0]] + "committed\n"}


def test_a_backup_does_not_replace_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("precious")
    with pytest.raises(StoreError, match="exists already"):
        backup(folder, tmp_path / "backup")
    assert (tmp_path / "backup").read_text() == "precious"


def test_a_backup_replaces_no_file_that_came_while_it_was_made(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backup"

    def come(_done: int, _of: int) -> None:
        file.write_text("precious")

    with pytest.raises(StoreError, match="exists already"):
        backup(folder, file, come)
    assert file.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data"]


def test_a_backup_names_the_folder_that_is_missing(folder: Path, tmp_path: Path) -> None:
    missing = tmp_path / "backups"
    with pytest.raises(StoreError, match=f"expected a folder for memory, found none at {missing}"):
        backup(folder, missing / "memory")
    assert not missing.exists()


def test_a_backup_that_cannot_be_written_leaves_nothing(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("data")
    with _replicas(folder) as replicas:
        for place in _PLACES:
            replicas.open("memory")[place] = os.urandom(30_000).hex()
        replicas.commit()
    with pytest.raises(StoreFullError, match="no space left"):
        backup(folder, small_disk / "backup")
    assert list(small_disk.iterdir()) == []


def test_a_restored_store_takes_new_client_ids_and_keeps_the_one_before(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    backup(folder, file)
    with _replicas(folder) as replicas:
        lease = replicas.store.lease("memory")
        replicas.open("memory").append(_PLACES[0], "sent to peers\n")
        replicas.commit()
    assert lease is not None
    with pytest.raises(StoreError, match="has a store: expected a folder without one, or --rep"):
        restore(file, folder)
    restore(file, folder, replace=True)
    assert (folder / "store.before-restore").is_dir()
    with _replicas(folder) as replicas:
        assert replicas.store.lease("memory") is None
        assert dict(replicas.open("memory").scrolls()) == _TEXTS


def _restore_and_die(file: Path, folder: Path, *, replace: bool = False) -> None:
    """Let a process restore and end before the store is in its place."""
    child = os.fork()
    if child == 0:
        restore(file, folder, replace=replace, progress=lambda *_: os._exit(7))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_restore_that_was_killed_is_named_and_serves_no_part(
    folder: Path, tmp_path: Path
) -> None:
    file, target = tmp_path / "backup", tmp_path / "target"
    backup(folder, file)
    _restore_and_die(file, target)
    for use in (
        lambda: LmdbStore(target),
        lambda: check(target),
        lambda: backup(target, tmp_path / "other"),
    ):
        with pytest.raises(StoreError, match=r"cut short.*restore FILE.*repair"):
            use()
    restore(file, target)
    assert _texts(target) == _TEXTS
    assert not (target / "store.restoring").exists()


def test_a_restore_that_was_killed_is_thrown_away_by_repair(folder: Path, tmp_path: Path) -> None:
    file, target = tmp_path / "backup", tmp_path / "target"
    backup(folder, file)
    _restore_and_die(file, target)
    assert _repair(target) == ((f"{target}: threw away a restore that was cut short",), ())
    assert _texts(target) == {}


def test_a_restore_that_was_killed_leaves_the_store_that_is_there(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    backup(folder, file)
    with _replicas(folder) as replicas:
        replicas.open("memory")[_PLACES[0]] = "newer"
        replicas.commit()
    _restore_and_die(file, folder, replace=True)
    store = LmdbStore(folder)
    store.close(clean=True)
    assert store.report == (f"{folder}: a restore was cut short; nothing has changed",)
    assert _texts(folder)[_PLACES[0]] == "newer"


def test_what_is_deleted_or_the_librarys_is_counted_apart(folder: Path, tmp_path: Path) -> None:
    with _replicas(folder) as replicas:
        replicas.open("memory").clear_scroll(_PLACES[0])
        replicas.commit()
    assert (check(folder).scrolls, check(folder).others) == (len(_TEXTS) - 1, 2)
    done = backup(folder, tmp_path / "backup")
    assert (done.scrolls, done.others) == (len(_TEXTS) - 1, 2)


def test_a_full_disk_ends_no_process(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("data")
    with _replicas(folder):
        pass
    (small_disk / "one" / "store").mkdir(parents=True)
    shutil.copy(folder / "store" / "data.mdb", small_disk / "one" / "store")
    with (small_disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    program = (
        "import sys; from pathlib import Path; from phextsync.store.lmdb_store import LmdbStore\n"
        "from phextsync.control.upkeep import backup\n"
        "folder, disk = map(Path, sys.argv[1:])\n"
        "for use in (lambda: LmdbStore(disk / 'one'), lambda: backup(folder, disk / 'backup')):\n"
        "    try: use()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", program, str(folder), str(small_disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["StoreFullError"] * 2
    assert done.stdout.lower().count("no space left") == 2
    assert not (small_disk / "backup.partial").exists()


def test_a_repair_that_a_full_disk_refuses_leaves_the_store_and_nothing_by_half(
    small_disk: Path,
) -> None:
    folder = small_disk / "data"
    folder.mkdir()
    random = Random(1)
    texts = {place: random.randbytes(10_000).hex() for place in _PLACES}
    with _replicas(folder) as replicas:
        for place, text in texts.items():
            replicas.open("memory")[place] = text
        replicas.commit()
    with pytest.raises(StoreFullError, match="no space left"):
        _repair(folder)
    assert not (folder / "store.building").exists()
    assert _texts(folder) == texts


def test_a_folder_in_use_is_neither_repaired_nor_restored(folder: Path, tmp_path: Path) -> None:
    backup(folder, tmp_path / "backup")
    with _replicas(folder):
        with pytest.raises(StoreLockedError, match="in use by process"):
            repair(folder, random=Random(1), now_ms=0)
        with pytest.raises(StoreLockedError, match="in use by process"):
            restore(tmp_path / "backup", folder, replace=True)


def test_a_data_file_copied_back_in_place_takes_new_client_ids(folder: Path) -> None:
    data = folder / "store" / "data.mdb"
    shutil.copy2(data, folder / "copy")
    with _replicas(folder) as replicas:
        assert replicas.store.lease("memory") is not None
        replicas.open("memory").append(_PLACES[0], "sent to peers\n")
        replicas.commit()
    shutil.copy2(folder / "copy", data)
    with _replicas(folder) as replicas:
        assert replicas.store.lease("memory") is None
        assert dict(replicas.open("memory").scrolls()) == _TEXTS


def test_repair_gives_free_pages_back(folder: Path) -> None:
    with _replicas(folder) as replicas:
        for round_ in range(3):
            for place in _PLACES:
                replicas.open("memory")[place] = Random(round_).randbytes(20_000).hex()
            replicas.commit()
        for place in _PLACES:
            replicas.open("memory")[place] = _TEXTS[place]
        replicas.commit()
    before = (folder / "store" / "data.mdb").stat().st_size
    _repair(folder)
    assert (folder / "store" / "data.mdb").stat().st_size < before / 2
    assert _texts(folder) == _TEXTS
