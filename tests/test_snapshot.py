"""Whoever reads a folder without a node needs no lock, writes nothing, and sees one moment."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import lmdb
import pytest
from typer.testing import CliRunner

from phextsync.cli.main import app
from phextsync.control.upkeep import restore
from phextsync.errors import IdentityError, StoreDamagedError, StoreError
from phextsync.handles.visit import Reading, visit
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch
from phextsync.store.folder import data_file_of, look, open_records
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.pages import PageFile
from phextsync.store.records import DATABASES, LOGS, Records
from phextsync.store.snapshot import Snapshot
from sims.processes import make_folder
from tests.golden import unpack

_PLACES = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 20, 1 + i % 20) for i in range(100)]
_A = str(_PLACES[0])


@contextmanager
def _replicas(folder: Path) -> Iterator[ReplicaSet]:
    store = LmdbStore(folder)
    yield ReplicaSet(store, node_id=b"n" * 16, random=Random(1), wall_time_ms=lambda: 1000)
    store.close(clean=True)


def _fill(folder: Path) -> None:
    """Write scrolls with logs, histories and states that take pages of their own."""
    with _replicas(folder) as replicas:
        replicas.keep_history(10_000)
        replicas.commit()
        random = Random(7)
        for _ in range(4):
            for place in _PLACES:
                replicas.open("memory").append(place, random.randbytes(random.randrange(900)).hex())
            replicas.open("other")[_PLACES[3]] = "é" * random.randrange(1, 9000)
            replicas.commit()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a node that does not run, with scrolls."""
    _fill(make_folder(tmp_path / "data"))
    return tmp_path / "data"


@contextmanager
def _snapshot(folder: Path) -> Iterator[Snapshot]:
    data = data_file_of(folder)
    assert data is not None
    snapshot = Snapshot(folder, data)
    yield snapshot
    snapshot.close(clean=False)


@contextmanager
def _stored(folder: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(folder)
    yield store
    store.close(clean=True)


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path: path.stat() for path in folder.rglob("*")}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def _run(folder: Path, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--data", str(folder)])
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.stdout


# -- the same as the store -------------------------------------------------------------------


def test_a_snapshot_has_what_the_store_has(folder: Path) -> None:
    with _snapshot(folder) as snapshot, _stored(folder) as store:
        assert snapshot.phexts() == store.phexts()
        assert snapshot.history == store.history
        for name in (*store.phexts(), "none"):
            assert snapshot.heads(name) == store.heads(name)
            for place in (*_PLACES, *reversed(_PLACES[::9]), Coordinate(*[9] * 9)):
                assert snapshot.read(name, place.key) == store.read(name, place.key)
                assert snapshot.pieces(name, place.key) == store.pieces(name, place.key)
            last = _PLACES[0].key
            assert snapshot.last_piece(name, last) == store.last_piece(name, last)
            for lower, upper in ((b"", None), (_PLACES[5].key, _PLACES[50].key)):
                found = snapshot.read_range(name, lower, upper, 20_000)
                assert found == store.read_range(name, lower, upper, 20_000)
        assert snapshot.histories(None, 1000) == store.histories(None, 1000)
        some = snapshot.histories(None, 4)
        assert snapshot.histories(some[-1], 4) == store.histories(some[-1], 4)
        assert snapshot.report == ()


def test_a_snapshot_of_an_older_format_is_read_as_it_is(tmp_path: Path) -> None:
    unpack(1, tmp_path)
    before = _files(tmp_path)
    with _snapshot(tmp_path) as snapshot:
        old = {name: snapshot.heads(name) for name in snapshot.phexts()}
        read = {name: snapshot.read_range(name, b"", None, 1 << 30) for name in old}
    assert _files(tmp_path) == before
    with _stored(tmp_path) as store:
        assert old == {name: store.heads(name) for name in store.phexts()}
        assert read == {name: store.read_range(name, b"", None, 1 << 30) for name in old}


def test_a_part_of_a_database_is_what_lies_between_its_bounds(folder: Path) -> None:
    with open_records(folder / "store" / "data.mdb") as records:
        for name in DATABASES:
            whole = list(records.pairs(name))
            keys = [key for key, _ in whole] or [b""]
            middle = keys[len(keys) // 2]
            for lower, upper in ((keys[0], keys[-1]), (b"", middle), (middle, None)):
                part = [(k, v) for k, v in whole if lower <= k and (upper is None or k < upper)]
                assert list(records.pairs(name, lower, upper)) == part
        assert records.problems == []


def test_it_is_known_how_many_scrolls_there_should_be(folder: Path) -> None:
    with open_records(folder / "store" / "data.mdb") as records:
        assert records.expected == len(list(records.scrolls())) > 0


def test_a_note_is_found_without_a_look_at_all_others(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.commit(Batch((), notes=tuple((b"note %03d" % i, bytes(3000)) for i in range(300))))
    store.close(clean=True)
    data = (tmp_path / "store" / "data.mdb").read_bytes()
    reads: list[int] = []

    def read(offset: int, count: int) -> bytes:
        reads.append(offset)
        return data[offset : offset + count]

    records = Records(partial(PageFile, read))
    reads.clear()
    assert [key for key, _ in records.notes(b"note 123")] == [b"note 123"]
    assert len(reads) < 60


def test_a_damaged_scroll_is_named_and_not_served(folder: Path) -> None:
    name = "memory"
    with _snapshot(folder) as snapshot:
        number = snapshot._numbers[name]
    with lmdb.open(str(folder / "store"), max_dbs=8) as environment:
        database = environment.open_db(LOGS)
        with environment.begin(write=True) as txn:
            logs = [pair for pair in txn.cursor(db=database) if bytes(pair[0])[:4] == number]
            key, value = logs[len(logs) // 2]
            txn.put(key, bytes(value)[:-1] + b"?", db=database)
    place = Coordinate.from_key(bytes(key)[4:16])
    with _snapshot(folder) as snapshot:
        with pytest.raises(StoreDamagedError, match=f"{name} {place}: "):
            snapshot.read(name, place.key)
        assert place.key in snapshot.heads(name).keys
        snapshot.quarantine(name, place.key)
        assert snapshot.read(name, place.key) is None
    for operation in ("list", "read"):
        with closing(Reading(folder)) as reading:
            match reading.ask(operation, name, "*", ""):
                case [list(rows), bool(more)]:
                    places = [str(row[0]) for row in rows if isinstance(row, list)]
                    assert str(place) not in places
                    assert len(places) == len(_PLACES) - 1 or more
                case other:
                    pytest.fail(f"{other!r:.80}")


# -- beside who writes -----------------------------------------------------------------------


def _write_on_and_on(folder: Path, began: int) -> None:
    """Give 40 scrolls one text, then another, again and again, each time by one commit."""
    with _replicas(folder) as replicas:
        for i in range(1_000_000):
            with replicas.open("memory").batch():
                for place in _PLACES[:40]:
                    replicas.open("memory")[place] = f"{i} " * (i % 50 + 1)
            replicas.commit()
            os.write(began, b".")


@contextmanager
def _written_on_and_on(folder: Path) -> Iterator[int]:
    """Let a process write a folder; give a descriptor of which something can be read when more was
    written."""
    ours, its = os.pipe()
    os.set_blocking(its, False)
    writer = os.fork()
    if writer == 0:
        with suppress(BaseException):
            _write_on_and_on(folder, its)
        os._exit(0)
    try:
        os.read(ours, 1)
        yield ours
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        os.close(ours)
        os.close(its)


def test_a_request_is_answered_from_one_moment_whoever_writes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    with _written_on_and_on(folder) as written:
        for _ in range(10):
            with closing(Reading(folder)) as reading:
                match reading.ask("read", "memory", "*", ""):
                    case [list(rows), False]:
                        assert len(rows) == 40
                        assert len({row[1] for row in rows if isinstance(row, list)}) == 1
            assert look(folder, _problems) == []
            assert os.read(written, 1 << 20)


def _problems(records: Records) -> list[str]:
    return [stored.problem for stored in records.scrolls() if stored.problem]


def test_reading_takes_no_lock_and_leaves_everything_as_it_is(folder: Path) -> None:
    before = _files(folder)
    with visit(folder, pytest.fail) as one, visit(folder, pytest.fail) as other:
        for asked in (one, other):
            assert asked.ask("get", "memory", _A)
            assert asked.ask("log", "memory", _A, None)
            assert json.loads(str(asked.ask("status")))["running"] is False
        assert _files(folder) == before
        other.ask("set", "memory", _A, "changed")
        assert other.ask("get", "memory", _A) == "changed"
        assert one.ask("get", "memory", _A) == "changed"
    with _stored(folder) as store:
        assert store.report == ()


def test_a_folder_without_store_or_node_is_named(tmp_path: Path) -> None:
    with visit(tmp_path, pytest.fail) as asked, pytest.raises(IdentityError):
        asked.ask("get", "memory", _A)
    make_folder(tmp_path)
    with visit(tmp_path, pytest.fail) as asked:
        assert asked.ask("get", "memory", _A) is None
    (tmp_path / "store.restoring").mkdir()
    with visit(tmp_path, pytest.fail) as asked, pytest.raises(StoreError, match="cut short"):
        asked.ask("get", "memory", _A)


def test_a_store_that_cannot_be_read_is_named_and_what_to_do(folder: Path) -> None:
    data = folder / "store" / "data.mdb"
    data.write_bytes(b"x" * 10_000)
    asks = [("get", "memory", _A), ("status",), ("search", "memory", "*", "word", 9)]
    for request in asks:
        with (
            visit(folder, pytest.fail) as asked,
            pytest.raises(StoreError, match="phextsync repair"),
        ):
            asked.ask(*request)
    with pytest.raises(StoreError, match="expected a backup, found"):
        restore(data, folder / "elsewhere")
    data.unlink()
    with visit(folder, pytest.fail) as asked, pytest.raises(StoreError, match="has no data"):
        asked.ask("get", "memory", _A)


# -- where nothing can be written ------------------------------------------------------------

_READS = (
    ["get", _A],
    ["ls"],
    ["log", _A],
    ["blame", _A],
    ["export", "-"],
    ["status"],
    ["show", _A, "--at", "2100-01-01"],
    ["check"],
    ["search", "word"],
    ["near", _A],
    ["versions", _A],
    ["where"],
    ["names"],
    ["undelete"],
    ["history"],
    ["box"],
    ["task", "list"],
    ["conflicts"],
    ["bindings"],
    ["hold"],
    ["quarantine", "--list"],
    ["config"],
    ["mesh"],
    ["peers"],
)


def _make_small(folder: Path) -> None:
    make_folder(folder)
    with _replicas(folder) as replicas:
        replicas.open("memory")[_A] = "a word\n"
        replicas.commit()


@pytest.mark.real
def test_commands_that_read_work_on_a_disk_that_cannot_be_written(small_disk: Path) -> None:
    _make_small(small_disk)
    expected = {words[0]: _run(small_disk, *words) for words in _READS}
    for has_index in (True, False):
        if not has_index:
            for path in small_disk.glob("search.sqlite*"):
                path.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        try:
            for words in _READS:
                assert _run(small_disk, *words) == expected[words[0]], words
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


@contextmanager
def _read_only(folder: Path) -> Iterator[Path]:
    """Give a folder at another path, where nobody can write it."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    seen = folder.with_name("seen")
    seen.mkdir()
    subprocess.run(["mount", "--bind", str(folder), str(seen)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(seen)], check=True)
        yield seen
    finally:
        subprocess.run(["umount", "-l", str(seen)], check=True)


_READER = """
import sys
from pathlib import Path
from tests.test_snapshot import _READS, _run
print([_run(Path(sys.argv[1]), *words) for words in _READS])
"""


@pytest.mark.real
def test_ten_processes_read_at_once_beside_an_owner_what_they_cannot_write(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    _make_small(folder)
    with _read_only(folder) as seen, _replicas(folder) as replicas:
        replicas.open("memory").append(_A, "another\n")
        replicas.commit()
        command = [sys.executable, "-c", _READER, str(seen)]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(10)]
        told = [reader.communicate()[0] for reader in readers]
    assert len({*told}) == 1
    assert b"a word\\nanother\\n" in told[0]


_SLOW_READER = """
import sys
from pathlib import Path
from phextsync.errors import StoreError
from phextsync.store.folder import look
def read_slowly(_):
    print(flush=True)
    sys.stdin.readline()
try:
    look(Path(sys.argv[1]), read_slowly)
    print("one moment")
except StoreError as error:
    print(error)
"""


@pytest.mark.real
def test_who_cannot_keep_a_moment_gives_none_that_was_written_over(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    with _read_only(folder) as seen, _replicas(folder) as replicas:
        replicas.open("memory")[_A] = "text"
        replicas.commit()
        command = [sys.executable, "-c", _SLOW_READER, str(seen)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            while (line := reader.stdout.readline()) == "\n":
                for i in range(3):
                    replicas.open("memory")[_A] = str(i)
                    replicas.commit()
                reader.stdin.write("\n")
                reader.stdin.flush()
    assert "is being written by another process; try again" in line


@pytest.mark.real
def test_commands_that_read_work_on_the_folder_of_another_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    program = (
        "import os, sys\n"
        "from phextsync.handles.visit import visit\n"
        "from pathlib import Path\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with visit(Path(sys.argv[1]), print) as asked:\n"
        "    print(asked.ask('get', 'memory', sys.argv[2]), end='')\n"
        "    print(asked.ask('search', 'memory', '*', 'word', 9)[0][0][1], end='')\n"
        "    asked.ask('status')\n"
    )
    with TemporaryDirectory() as top:  # above which everybody may look
        folder = Path(top, "data")
        _make_small(folder)
        for path in (Path(top), folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        (folder / "identity.pem").chmod(0o600)
        command = [sys.executable, "-c", program, str(folder), _A]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("a word\na [word]\n", "")
