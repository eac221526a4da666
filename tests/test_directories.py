"""Bound directories on disk: what editors do is noticed, nothing unread is written over."""

import math
import os
import shutil
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from phextsync.errors import CoordinateError, DirectoryError
from phextsync.files import service
from phextsync.files.absences import GUARD_NAMES
from phextsync.files.binding import Binding
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.checkouts import is_moving
from phextsync.files.directory import BACKUPS, Directory
from phextsync.files.drafts import is_draft
from phextsync.files.filesystem import OsFileSystem
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.late_writers import LATE_PAUSE_S, LateChange
from phextsync.files.markers import MARKER_FILE, Marker, read_marker
from phextsync.files.names import Line
from phextsync.files.reading import TEXT_BYTES_MAX, File, Trouble
from phextsync.files.todo import Rescans
from phextsync.files.writes import Changed, Outcome, Placed, Write
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import Node, open_node
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.processes import POLL_S
from tests.polling import until, until_text

pytestmark = pytest.mark.real

_HOST = "127.0.0.1"
_RANGE = CoordinateRange.parse("7.*")
_PLACE = Coordinate(7, 1, 1, 1, 1, 1, 1, 1, 2)


@pytest.fixture
def store(tmp_path: Path) -> BindingStore:
    (tmp_path / "data").mkdir()
    return BindingStore(tmp_path / "data")


@pytest.fixture
def bound(tmp_path: Path, store: BindingStore) -> Bound:
    return store.bind(Bound(tmp_path / "notes", "memory", _RANGE))


@pytest.fixture
def root(bound: Bound) -> Path:
    return bound.directory


@pytest.fixture
def directory(bound: Bound) -> Directory:
    made = Directory(OsFileSystem(bound.directory), Marker(bound.token))
    assert made.root.check()
    return made


def _read(directory: Directory, path: str) -> File:
    found = directory.read([path])[path]
    assert isinstance(found, File), found
    return found


def _write(
    directory: Directory, path: str, text: str, expected: File | None = None, marks: str = ""
) -> Outcome:
    """Write a file as a binding does."""
    write = Write(_PLACE, path, text, marks, expected)
    (draft,) = directory.prepare([write])
    if isinstance(draft, Trouble):
        return draft
    (outcome,) = directory.place([(write, draft)], 0.0)
    directory.discard(directory.drafts_of(directory.intent_of(write, draft)))
    return outcome


# -- files ---------------------------------------------------------------------------------


def test_a_file_is_written_whole_with_mode_kept(directory: Directory, root: Path) -> None:
    outcome = _write(directory, "sub/n.md", "one\n")
    path = root / "sub" / "n.md"
    assert isinstance(outcome, Placed)
    assert (path.read_text(), outcome.mark) == ("one\n", directory.scan().marks["sub/n.md"])
    path.chmod(0o640)
    assert isinstance(_write(directory, "sub/n.md", "two\n", _read(directory, "sub/n.md")), Placed)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two\n", 0o640)
    assert sorted(os.listdir(path.parent)) == ["n.md"]


def test_a_file_that_changed_is_not_written_over(directory: Directory, root: Path) -> None:
    path = root / "n.md"
    assert isinstance(_write(directory, "n.md", "one\n"), Placed)
    assert isinstance(_write(directory, "n.md", "other\n"), Changed)
    file = _read(directory, "n.md")
    path.write_text("user\n")
    os.utime(path, ns=(file.mark.time_ns, file.mark.time_ns))
    assert isinstance(_write(directory, "n.md", "two\n", file), Changed)
    assert isinstance(_write(directory, "n.md", "", file), Changed)
    assert path.read_text() == "user\n"
    assert sorted(os.listdir(root)) == [MARKER_FILE, "n.md"]


def test_who_goes_on_writing_into_a_replaced_file_is_heard(
    directory: Directory, root: Path
) -> None:
    path = root / "log.md"
    path.write_text("one\n")
    with path.open("a") as log:
        assert isinstance(
            _write(directory, "log.md", "zero\none\n", _read(directory, "log.md")), Placed
        )
        log.write("two\n")
        log.flush()
        assert directory.late.changes(1.0) == [LateChange(_PLACE, "one\n", "one\ntwo\n")]
        assert directory.late.changes(2.0) == []
        assert directory.late.changes(60.0) == []
        assert directory.late.next_due == 60.0 + LATE_PAUSE_S
        log.write("three\n")
    assert directory.late.changes(62.0) == [LateChange(_PLACE, "one\ntwo\n", "one\ntwo\nthree\n")]
    assert directory.late.next_due is None
    directory.close()


def test_removing_the_last_file_of_a_folder_removes_the_folder(
    directory: Directory, root: Path
) -> None:
    _write(directory, "a/b/n.md", "x")
    outcome = _write(directory, "a/b/n.md", "", _read(directory, "a/b/n.md"))
    assert isinstance(outcome, Placed)
    assert outcome.mark is None
    assert os.listdir(root) == [MARKER_FILE]


def test_a_file_that_is_moved_keeps_its_number_and_takes_no_place(
    directory: Directory, root: Path
) -> None:
    (root / "a.md").write_text("one\n")
    (root / "b.md").write_text("two\n")
    mark = _read(directory, "a.md").mark
    assert isinstance(directory.move("a.md", "b.md", mark), Changed)
    outcome = directory.move("a.md", "new/c.md", mark)
    assert isinstance(outcome, Placed)
    assert (root / "new" / "c.md").stat().st_ino == mark.inode
    assert (root / "b.md").read_text() == "two\n"
    assert not (root / "a.md").exists()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"caf\xe9", "expected UTF-8, found other bytes at offset 3"),
        (
            b"x" * (TEXT_BYTES_MAX + 1),
            "expected at most 8388608 bytes, found 8388609; split it, or put it into "
            ".phextsyncignore",
        ),
    ],
)
def test_what_is_no_text_has_a_problem(
    directory: Directory, root: Path, data: bytes, problem: str
) -> None:
    (root / "n").write_bytes(data)
    assert directory.read(["n"]) == {"n": Trouble(problem)}


def test_nothing_is_kept_aside_by_way_of_a_link(
    directory: Directory, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (root / BACKUPS).symlink_to(tmp_path / "outside")
    with pytest.raises(NotADirectoryError):
        directory.back_up("n.md", "text\n")
    assert os.listdir(tmp_path / "outside") == []


def test_links_are_not_followed(directory: Directory, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "n.md").write_text("secret")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "n.md").symlink_to(tmp_path / "outside" / "n.md")
    assert directory.read(["n.md", "folder/n.md"]) == {
        "n.md": Trouble("expected a file, found a link or a device"),
        "folder/n.md": Trouble("expected a folder at folder, found a link or a device"),
    }
    outcome = _write(directory, "folder/m.md", "x")
    assert isinstance(outcome, Trouble)
    assert "found a link" in outcome.reason
    assert os.listdir(tmp_path / "outside") == ["n.md"]
    scan = directory.scan()
    assert (dict(scan.marks), [*scan.left_alone]) == ({}, ["folder", "n.md"])


def test_hidden_files_and_leftovers_are_ignored(directory: Directory, root: Path) -> None:
    for name in (".hidden", "n.md~", "n.swp", "4913", "kept.md", "draft.md", "build/out.md"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (root / IGNORE_FILE).write_text("# mine\ndraft.*\nbuild/\n")
    directory.root.check()
    assert [*directory.scan().marks] == [IGNORE_FILE, "kept.md"]


def test_rules_that_are_none_leave_the_older_ones_in_force(
    directory: Directory, root: Path
) -> None:
    (root / IGNORE_FILE).write_text("secret.md\n")
    directory.root.check()
    (root / IGNORE_FILE).write_text("!\n")
    directory.root.check()
    assert "a .gitignore" in directory.root.ignore_problem
    assert directory.root.is_ignored("secret.md")


def test_folders_with_keys_or_data_of_a_node_are_left_alone(
    directory: Directory, root: Path
) -> None:
    (root / "data").mkdir()
    (root / "data" / "n.md").write_text("x")
    (root / "data" / "identity.pem").write_text("key")
    scan = directory.scan()
    assert (dict(scan.marks), [*scan.left_alone]) == ({}, ["data/"])
    for path in ("data/n.md", "data/identity.pem"):
        assert isinstance(directory.read([path])[path], Trouble)
        assert isinstance(_write(directory, path, "x"), Trouble)
    assert (root / "data" / "identity.pem").read_text() == "key"


def test_marks_of_a_file_are_made_on_the_other_side(directory: Directory, root: Path) -> None:
    for marks, mode in (("p", 0o600), ("x", 0o755), ("px", 0o700), ("", 0o644)):
        _write(directory, f"n{marks}", "x", marks=marks)
        found = stat.S_IMODE((root / f"n{marks}").stat().st_mode)
        assert found == mode & ~_umask() | (mode & 0o700)
        assert _read(directory, f"n{marks}").marks == marks
    assert isinstance(directory.set_marks("n", "px", is_read_only=True), Placed)
    assert stat.S_IMODE((root / "n").stat().st_mode) == 0o500


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_another_directory_in_the_place_of_the_bound_one_is_refused(
    directory: Directory, root: Path
) -> None:
    (root / MARKER_FILE).write_text("another\n")
    with pytest.raises(DirectoryError, match="found another: put the right directory back"):
        directory.root.check()
    (root / MARKER_FILE).unlink()
    with pytest.raises(DirectoryError, match=f"expected {MARKER_FILE} in it, found none"):
        directory.root.check()
    (root / MARKER_FILE).touch()
    assert directory.root.check() is False  # somebody says that it is this one
    assert directory.root.check() is True
    (root / MARKER_FILE).unlink()
    root.rmdir()
    with pytest.raises(DirectoryError, match="expected a directory, found none"):
        directory.root.check()


# -- what is remembered --------------------------------------------------------------------


def test_the_marker_of_a_directory_can_be_read_by_whoever_reads_the_directory(
    bound: Bound,
) -> None:
    assert stat.S_IMODE((bound.directory / MARKER_FILE).stat().st_mode) == 0o644


def test_bindings_are_kept(store: BindingStore, bound: Bound) -> None:
    assert store.bindings() == [bound]
    assert read_marker(bound.directory) == store.marker_of(bound)
    before = store.state()
    assert not store.confirm(bound.directory)
    assert store.bindings()[0].confirmed_ns > bound.confirmed_ns
    assert store.state() != before
    assert store.unbind(bound.directory)
    assert not store.unbind(bound.directory)
    with pytest.raises(DirectoryError, match="is not bound"):
        store.confirm(bound.directory)


def test_another_directory_that_is_confirmed_counts_as_bound_and_confirms_no_deletion(
    store: BindingStore, bound: Bound, tmp_path: Path
) -> None:
    bound.directory.rename(tmp_path / "elsewhere")
    with pytest.raises(DirectoryError, match="expected a directory at"):
        store.confirm(bound.directory)
    bound.directory.mkdir()
    assert store.confirm(bound.directory)
    assert store.bindings() == [bound]
    directory = Directory(OsFileSystem(bound.directory), store.marker_of(bound))
    assert [directory.root.check(), directory.root.check()] == [False, True]
    assert read_marker(bound.directory) == store.marker_of(bound)


def test_what_is_bound_already_or_does_not_suit_is_refused(
    store: BindingStore, bound: Bound, tmp_path: Path
) -> None:
    with pytest.raises(DirectoryError, match="is bound already, to 7"):
        store.bind(Bound(bound.directory, "other", _RANGE))
    with pytest.raises(DirectoryError, match="of memory is bound already"):
        store.bind(Bound(tmp_path / "b", "memory", CoordinateRange.parse("7.1.1/2.*")))
    with pytest.raises(DirectoryError, match="a directory apart from others"):
        store.bind(Bound(bound.directory / "below", "memory", CoordinateRange.parse("8.*")))
    with pytest.raises(DirectoryError, match="none above it; make it, or bind with --create"):
        store.bind(Bound(tmp_path / "no" / "where", "memory", CoordinateRange.parse("8.*")))
    with pytest.raises(CoordinateError, match="a prefix with four free parts"):
        store.bind(Bound(tmp_path / "c", "memory", CoordinateRange.parse("8.1.1/1.1.1/*")))


def test_a_directory_is_the_same_by_whatever_way_it_is_named(
    store: BindingStore, bound: Bound, tmp_path: Path
) -> None:
    eight = CoordinateRange.parse("8.*")
    (tmp_path / "link").symlink_to(bound.directory)
    (tmp_path / "dangling").symlink_to("no/where")
    (tmp_path / "other").mkdir()
    marker = (bound.directory / MARKER_FILE).read_text()
    for way in (tmp_path / "link", tmp_path / "other" / ".." / bound.directory.name):
        with pytest.raises(DirectoryError, match="is bound already, to 7"):
            store.bind(Bound(way, "memory", eight))
        with pytest.raises(DirectoryError, match="a directory apart from others"):
            store.bind(Bound(way / "below", "memory", eight))
    assert (bound.directory / MARKER_FILE).read_text() == marker
    with pytest.raises(DirectoryError, match="found a link to none"):
        store.bind(Bound(tmp_path / "dangling", "memory", eight))
    assert not store.confirm(tmp_path / "link")
    assert store.unbind(tmp_path / "link")
    made = store.bind(Bound(tmp_path / "link", "memory", eight))
    assert made.directory == bound.directory
    assert Directory(OsFileSystem(made.directory), store.marker_of(made)).root.check()
    assert store.unbind(bound.directory)


@pytest.fixture
def other(tmp_path: Path) -> BindingStore:
    """Another data folder of the same machine."""
    (tmp_path / "other data").mkdir()
    return BindingStore(tmp_path / "other data")


def test_what_another_data_folder_has_bound_is_not_bound(
    store: BindingStore, other: BindingStore, bound: Bound, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(bound.directory)
    (bound.directory / "below").mkdir()
    told = (
        f"found {bound.directory}.*, which {tmp_path / 'data'} has bound; `phextsync --data "
        f"{tmp_path / 'data'} unbind {bound.directory}` ends that"
    )
    ways = (bound.directory, bound.directory / "below", tmp_path / "link", tmp_path)
    for way in (*ways, tmp_path / "link" / "below", tmp_path / "link" / "new"):
        with pytest.raises(DirectoryError, match=told):
            other.bind(Bound(way, "memory", _RANGE))
    assert read_marker(bound.directory) == store.marker_of(bound)
    assert other.bindings() == []
    store.unbind(bound.directory)
    made = other.bind(Bound(tmp_path / "link", "memory", _RANGE))
    with pytest.raises(DirectoryError, match=r"--data '.*/other data' unbind"):
        store.bind(bound)
    assert read_marker(bound.directory) == other.marker_of(made)


def test_what_a_data_folder_has_bound_that_is_gone_is_bound_when_its_marker_is(
    store: BindingStore, other: BindingStore, bound: Bound, tmp_path: Path
) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    told = f"{tmp_path / 'data'}, which is not there; if that has ended, remove the marker"
    with pytest.raises(DirectoryError, match=told):
        other.bind(bound)
    # A node that serves it says where its data folder is by now.
    moved = BindingStore(tmp_path / "moved")
    directory = Directory(OsFileSystem(bound.directory), moved.marker_of(bound))
    assert directory.root.check()
    directory.root.tell_run("")
    with pytest.raises(DirectoryError, match=f"{tmp_path / 'moved'} has bound"):
        other.bind(bound)
    for marker in (Marker(bound.token), Marker(bound.token, "/no/where")):
        (bound.directory / MARKER_FILE).write_bytes(marker.encode())
        with pytest.raises(DirectoryError, match="remove the marker"):
            other.bind(bound)
    (bound.directory / MARKER_FILE).unlink()
    other.bind(bound)
    with pytest.raises(DirectoryError, match="found another"):
        directory.root.check()
    with pytest.raises(DirectoryError, match="other data has bound"):
        moved.confirm(bound.directory)


def test_a_copy_of_a_bound_directory_is_not_bound(
    store: BindingStore, other: BindingStore, bound: Bound, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    marker = (bound.directory / MARKER_FILE).read_bytes()
    (tmp_path / "copy" / MARKER_FILE).write_bytes(marker)
    store.bind(Bound(tmp_path / "copy", "memory", CoordinateRange.parse("8.*")))
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / MARKER_FILE).write_bytes(marker)
    other.bind(Bound(tmp_path / "another", "memory", _RANGE))
    (tmp_path / "marked").mkdir()
    (tmp_path / "marked" / MARKER_FILE).touch()  # by hand
    other.bind(Bound(tmp_path / "marked", "memory", CoordinateRange.parse("8.*")))


def test_a_directory_with_keys_below_or_above_is_not_bound(
    store: BindingStore, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "deep" / "data").mkdir(parents=True)
    (home / "deep" / "data" / "identity.pem").touch()
    (home / "deep" / "data" / "notes").mkdir()
    for path in (home, home / "deep" / "data", home / "deep" / "data" / "notes"):
        with pytest.raises(DirectoryError, match="without the keys or data of a node, found"):
            store.bind(Bound(path, "memory", _RANGE))
    assert store.bindings() == []


# -- two nodes -----------------------------------------------------------------------------


@asynccontextmanager
async def _two(tmp_path: Path) -> AsyncIterator[tuple[Path, Path]]:
    """Run two nodes, each with a bound directory, and give the directories."""
    async with _node(tmp_path / "one") as one, _node(tmp_path / "two", f"{_HOST}:{one.port}"):
        yield tmp_path / "one-notes", tmp_path / "two-notes"


@asynccontextmanager
async def _node(folder: Path, *peers: str) -> AsyncIterator[Node]:
    _prepare(folder)
    async with (
        open_node(folder, host=_HOST, port=0, discover=False, peers=peers) as node,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(service.serve, node)
        yield node
        nursery.cancel_scope.cancel()


def _prepare(folder: Path) -> None:
    if not folder.exists():
        identity = NodeIdentity.create(MeshKey.generate(bytes(32)), folder.name, os.urandom(32))
        identity.save(folder)
        BindingStore(folder).bind(Bound(folder.with_name(folder.name + "-notes"), "memory", _RANGE))


def _marker(directory: Path) -> Marker:
    marker = read_marker(directory)
    assert marker is not None
    return marker


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("two\n")


def _truncate_and_write(path: Path) -> None:
    path.write_text("")
    path.write_text("one\ntwo\n")


def _sed(path: Path) -> None:
    subprocess.run(["sed", "-i", "$ a two", str(path)], check=True)


def _save_as_vim(path: Path) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text("one\ntwo\n")
    path.with_name(path.name + "~").unlink()


def _save_as_vscode(path: Path) -> None:
    draft = path.with_name(".draft")
    draft.write_text("one\ntwo\n")
    draft.replace(path)


@pytest.mark.parametrize(
    "save", [_append, _truncate_and_write, _sed, _save_as_vim, _save_as_vscode]
)
async def test_however_a_file_is_saved_it_is_saved_elsewhere(
    save: Callable[[Path], None], tmp_path: Path
) -> None:
    async with _two(tmp_path) as (one, two):
        (one / "n.md").write_text("one\n")
        await until_text(two / "n.md", "one\n")
        save(one / "n.md")
        await until_text(two / "n.md", "one\ntwo\n")
        assert (one / "n.md").read_text() == "one\ntwo\n"


async def test_renames_deletions_and_folders_follow(tmp_path: Path) -> None:
    async with _two(tmp_path) as (one, two):
        (one / "sub").mkdir()
        (one / "sub" / "n.md").write_text("one\n")
        await until_text(two / "sub" / "n.md", "one\n")
        (two / "sub" / "n.md").rename(two / "m.md")
        await until_text(one / "m.md", "one\n")
        await until(lambda: not (one / "sub").exists())
        (one / "m.md").unlink()
        await until(lambda: not (two / "m.md").exists())


async def test_what_changed_while_a_node_was_down_is_found(tmp_path: Path) -> None:
    async with _two(tmp_path) as (one, two):
        (one / "n.md").write_text("one\n")
        await until_text(two / "n.md", "one\n")
    _append(two / "n.md")
    (one / "n.md").write_text("zero\none\n")
    async with _two(tmp_path) as (one, two):
        for notes in (one, two):
            await until_text(notes / "n.md", "zero\none\ntwo\n")


async def test_a_directory_that_is_gone_or_another_one_deletes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _two(tmp_path) as (one, two):
        (one / "n.md").write_text("one\n")
        await until_text(two / "n.md", "one\n")
        one.rename(tmp_path / "elsewhere")
        one.mkdir()
        (two / "m.md").write_text("x")
        await until(lambda: MARKER_FILE in caplog.text)
        await until_text(two / "m.md", "x")
        assert (two / "n.md").read_text() == "one\n"
        one.rmdir()
        (tmp_path / "elsewhere").rename(one)
        await until_text(one / "m.md", "x")
        assert (two / "n.md").read_text() == "one\n"


async def test_where_others_change_files_unseen_a_directory_is_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hear_nothing(
        *_paths: Path, stop_event: trio.Event, **_options: object
    ) -> AsyncIterator[set[tuple[int, str]]]:
        await stop_event.wait()
        yield set()

    monkeypatch.setattr(service, "awatch", hear_nothing)
    monkeypatch.setattr(service, "kind_of", lambda path: "nfs4")
    monkeypatch.setattr(service, "_RESCAN_S", math.inf)
    notes = tmp_path / "one-notes"
    async with _node(tmp_path / "one") as node:
        (notes / "n.md").write_text("one\n")
        await until(lambda: "one\n" in node.phext().values(_RANGE))
        for round_ in range(3):  # the first may be found by the look after the start
            (notes / f"{round_}.md").write_text(f"{round_}\n")
            await until(lambda text=f"{round_}\n": text in node.phext().values(_RANGE))  # type: ignore[misc]
        (row,) = node.status().directories
        assert "on nfs4 others change files unseen" in row.watcher


async def test_what_comes_while_a_directory_is_first_looked_through_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Binding.start

    async def start_and_hear(binding: Binding, now: float, confirmed_ns: int) -> None:
        await start(binding, now, confirmed_ns)
        place = binding.naming.place_for("late.md", lambda place: True)
        replica = node.phext()
        replica.edit(place, "late\n")
        replica.append(_RANGE.lower, str(Line(place, "late.md")))

    monkeypatch.setattr(Binding, "start", start_and_hear)
    _prepare(tmp_path / "one")
    async with (
        open_node(tmp_path / "one", host=_HOST, port=0, discover=False) as node,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(service.serve, node)
        await until_text(tmp_path / "one-notes" / "late.md", "late\n")
        nursery.cancel_scope.cancel()


async def test_a_round_that_takes_longer_than_until_the_next_look_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_FIRST_RESCAN_S", -1.0)
    async with _two(tmp_path) as (one, two):
        (one / "n.md").write_text("one\n")
        await until_text(two / "n.md", "one\n")


async def test_a_directory_that_cannot_be_served_holds_up_neither_the_node_nor_another(
    tmp_path: Path,
) -> None:
    _prepare(tmp_path / "one")
    store = BindingStore(tmp_path / "one")
    gone = store.bind(Bound(tmp_path / "gone", "memory", CoordinateRange.parse("8.*")))
    (gone.directory / MARKER_FILE).unlink()
    gone.directory.rmdir()
    async with _node(tmp_path / "one") as node:
        (tmp_path / "one-notes" / "n.md").write_text("one\n")
        await until(lambda: "one\n" in node.phext().values(_RANGE))


async def test_a_name_that_is_not_utf8_holds_up_no_other(tmp_path: Path) -> None:
    async with _two(tmp_path) as (one, two):
        (one / os.fsdecode(b"caf\xe9.md")).write_text("odd\n")
        (one / "n.md").write_text("one\n")
        await until_text(two / "n.md", "one\n")
        _append(one / "n.md")
        await until_text(two / "n.md", "one\ntwo\n")
        await until(lambda: not any(map(is_draft, os.listdir(two))))


async def test_names_that_are_not_utf8_end_no_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = trio.Event()

    async def count(*paths: Path, **options: Any) -> AsyncIterator[set[tuple[Any, str]]]:
        nonlocal begun
        begun.set()
        async with aclosing(awatch(*paths, **options)) as changes:
            async for each in changes:
                yield each

    monkeypatch.setattr(service, "awatch", count)
    monkeypatch.setattr(service, "_RETRY_S", 0.0)
    notes = tmp_path / "one-notes"
    async with _node(tmp_path / "one") as node:
        for round_ in range(3):
            await begun.wait()
            begun = trio.Event()
            while not begun.is_set():  # it may not have begun to listen
                (notes / os.fsdecode(b"caf\xe9.md")).write_text("odd\n")
                with trio.move_on_after(POLL_S):
                    await begun.wait()
            (notes / f"{round_}.md").write_text(f"{round_}\n")
            await until(lambda: f"{round_}\n" in node.phext().values(_RANGE))  # noqa: B023
        (row,) = node.status().directories
        assert row.watcher == "watching"
        assert node.boundary.errors.count == 0
    lines = sorted(each.getMessage() for each in caplog.records if "UTF-8" in each.getMessage())
    file = f"{notes}/caf\\udce9.md"
    assert lines == [
        f"{file}: expected a name in UTF-8, found 'caf\\udce9.md'; rename it; left alone",
        f"{notes}: names there are not UTF-8; it is looked through when one changes",
    ]


async def test_a_directory_that_the_system_does_not_watch_is_looked_through_and_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reason = "Error creating recommended watcher: Too many open files (os error 24)"

    async def fail(*_: Path, **__: object) -> AsyncIterator[set[tuple[int, str]]]:
        raise WatchfilesRustInternalError(reason)
        yield set()

    monkeypatch.setattr(service, "awatch", fail)
    async with _node(tmp_path / "one") as node:
        await until(lambda: reason in node.status().directories[0].watcher)
        (tmp_path / "one-notes" / "n.md").write_text("one\n")
        await until(lambda: "one\n" in node.phext().values(_RANGE))
    failed = next(each for each in caplog.records if "failed: " in each.getMessage())
    assert f"-notes failed: it cannot be watched: {reason}" in failed.getMessage()
    assert failed.exc_info is None


async def test_a_directory_is_told_who_brought_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[Coordinate, str] = {}
    round_ = Binding.round

    async def note(*arguments: Any) -> None:
        told.update(arguments[-1] or {})
        await round_(*arguments)

    monkeypatch.setattr(Binding, "round", note)
    async with _node(tmp_path / "one") as node:
        (tmp_path / "one-notes" / "n.md").write_text("one\n")
        await until(lambda: "one\n" in node.phext().values(_RANGE))
        node.phext().publish((_RANGE.lower,), bytes(8), "ann")
        await until(lambda: told == {_RANGE.lower: "ann"})


async def test_a_binding_made_while_the_node_runs_is_served_and_one_ended_is_not(
    tmp_path: Path,
) -> None:
    async with _node(tmp_path / "one") as node:
        store = BindingStore(node.folder)
        notes = tmp_path / "more"
        places = CoordinateRange.parse("8.*")
        store.bind(Bound(notes, "memory", places))
        (notes / "n.md").write_text("one\n")
        await until(lambda: "one\n" in node.phext().values(places))
        store.unbind(notes)
        store.bind(Bound(tmp_path / "last", "memory", CoordinateRange.parse("9.*")))
        (tmp_path / "last" / "n.md").write_text("last\n")  # served means: the other one is not
        await until(lambda: "last\n" in node.phext().values(CoordinateRange.parse("9.*")))
        (notes / "n.md").write_text("two\n")
        (tmp_path / "last" / "m.md").write_text("later\n")
        await until(lambda: "later\n" in node.phext().values(CoordinateRange.parse("9.*")))
        assert "two\n" not in node.phext().values(places)
        assert Coordinate(*[1] * 9) not in node.phext()


async def test_a_node_that_serves_a_directory_says_where_its_data_folder_is(tmp_path: Path) -> None:
    _prepare(tmp_path / "one")
    store, notes = BindingStore(tmp_path / "one"), tmp_path / "one-notes"
    (bound,) = store.bindings()
    (notes / MARKER_FILE).write_text(f"{bound.token}\n")  # as an older version wrote it
    async with _node(tmp_path / "one"):
        await until(lambda: _marker(notes)._replace(run="") == store.marker_of(bound))
        await until(lambda: bool(_marker(notes).run))


async def test_a_data_folder_that_is_put_back_doubles_nothing(tmp_path: Path) -> None:
    folder, copy = tmp_path / "one", tmp_path / "copy"
    mine, theirs = tmp_path / "one-notes", tmp_path / "two-notes"
    async with _node(tmp_path / "two") as two:
        peer = f"{_HOST}:{two.port}"
        async with _node(folder, peer):
            (mine / "n.md").write_text("a\nb\n")
            (mine / "old.md").write_text("old\n")
            await until_text(theirs / "n.md", "a\nb\n")
            await until_text(theirs / "old.md", "old\n")
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
        async with _node(folder, peer):
            (theirs / "n.md").write_text("a\ntheirs\nb\n")
            (theirs / "old.md").rename(theirs / "new.md")
            await until_text(mine / "n.md", "a\ntheirs\nb\n")
            await until_text(mine / "new.md", "old\n")
            (mine / "n.md").write_text("a\ntheirs\nb\nmine\n")
            await until_text(theirs / "n.md", "a\ntheirs\nb\nmine\n")
        shutil.rmtree(folder)
        copy.rename(folder)
        async with _node(folder) as one:
            (row,) = one.status().directories
            assert "as it was earlier" in row.problem
        async with _node(folder, peer) as one:
            await until(lambda: one.status().directories[0].is_taken_up)
            (theirs / "last.md").write_text("last\n")
            await until_text(mine / "last.md", "last\n")
    for notes in (mine, theirs):
        texts = {path.name: path.read_text() for path in notes.glob("*.md")}
        assert texts == {"n.md": "a\ntheirs\nb\nmine\n", "new.md": "old\n", "last.md": "last\n"}


async def test_what_another_directory_lacks_that_is_confirmed_is_not_deleted(
    tmp_path: Path,
) -> None:
    async with _node(tmp_path / "one") as node:
        notes, store = tmp_path / "one-notes", BindingStore(tmp_path / "one")
        (notes / "old.md").write_text("old\n")
        await until(lambda: "old\n" in node.phext().values(_RANGE))
        notes.rename(tmp_path / "away")
        notes.mkdir()
        (notes / "new.md").write_text("new\n")
        store.confirm(notes)
        await until(lambda: "new\n" in node.phext().values(_RANGE))
        await until(lambda: (notes / "old.md").exists())
        assert "old\n" in node.phext().values(_RANGE)


def test_a_checkout_that_moves_is_seen_above_a_file_within_the_directory_too(
    tmp_path: Path,
) -> None:
    root = tmp_path / "work" / "notes"
    for repository in (tmp_path / "work", root / "repo", root / "tree"):
        (repository / ".git").mkdir(parents=True)
        (repository / ".git" / "index").touch()
        os.utime(repository / ".git" / "index", (1, 1))
    linked = root / "linked"
    linked.mkdir()
    (linked / ".git").write_text("gitdir: ../tree/.git/worktrees/linked\n")
    of_linked = root / "tree" / ".git" / "worktrees" / "linked"
    of_linked.mkdir(parents=True)
    paths = ["repo/deep/n.md", "tree/n.md", "linked/n.md", "n.md"]

    def moving() -> list[str]:
        return [path for path in paths if is_moving(root, [path])]

    assert moving() == []
    (root / "repo" / ".git" / "index").touch()
    assert moving() == ["repo/deep/n.md"]
    (of_linked / "HEAD").touch()
    assert moving() == ["repo/deep/n.md", "linked/n.md"]
    later = time.time() + 3600
    for index in (root / "repo" / ".git" / "index", of_linked / "HEAD"):
        os.utime(index, (later, later))  # a clock was wrong
    assert moving() == []
    (tmp_path / "work" / ".git" / "index").touch()
    assert moving() == paths
    assert not is_moving(root, [])


def test_a_folder_that_cannot_be_looked_into_holds_no_checkout_and_ends_no_round(
    tmp_path: Path,
) -> None:
    assert not is_moving(tmp_path, [f"{'x' * 300}/n.md"])
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").touch()
    assert is_moving(tmp_path, [f"{'x' * 300}/n.md"])


async def test_deletions_that_are_held_are_done_when_somebody_confirms_them(tmp_path: Path) -> None:
    names = [f"{number}.md" for number in range(GUARD_NAMES)]
    async with _node(tmp_path / "one") as node:
        notes, store = tmp_path / "one-notes", BindingStore(tmp_path / "one")

        def is_held() -> bool:
            (row,) = node.status().directories
            return row.held == GUARD_NAMES

        for name in names:
            (notes / name).write_text(f"{name}\n")
        await until(lambda: len(list(node.phext().values(_RANGE))) == GUARD_NAMES + 1)
        for name in names:
            (notes / name).unlink()
        await until(is_held)
        store.confirm(notes)
        await until(lambda: len(list(node.phext().values(_RANGE))) == 1)


def test_what_asks_for_another_look_during_one_is_not_forgotten() -> None:
    rescans = Rescans()
    assert rescans.due == 0.0
    rescans.begin()
    rescans.ask(40.0)
    assert rescans.due == 40.0
    rescans.begin()
    rescans.ask()
    rescans.ask(70.0)
    assert rescans.due == 0.0
