"""Bound directories on disk: what editors do is noticed, nothing unread is written over."""

import os
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from phextsync import (
    Coordinate,
    CoordinateError,
    CoordinateRange,
    DirectoryError,
    MeshKey,
    NodeIdentity,
    folders,
    open_node,
)
from phextsync.files import Binding, Record
from phextsync.folders import MARKER_FILE, BindingStore, Bound, DiskDirectory
from phextsync.names import NameMap
from phextsync.node import Node

pytestmark = pytest.mark.real

_PATIENCE_S = 120.0
_HOST = "127.0.0.1"
_RANGE = CoordinateRange.parse("7.*")


@pytest.fixture
def store(tmp_path: Path) -> BindingStore:
    (tmp_path / "data").mkdir()
    return BindingStore(tmp_path / "data")


@pytest.fixture
def directory(tmp_path: Path, store: BindingStore) -> DiskDirectory:
    bound = Bound(tmp_path / "notes", "memory", _RANGE)
    store.bind(bound)
    return DiskDirectory(bound, store)


# -- files ---------------------------------------------------------------------------------


async def test_a_file_is_written_whole_with_mode_kept(directory: DiskDirectory) -> None:
    mark = await directory.write("sub/n.md", "one\n", None)
    path = directory.root / "sub" / "n.md"
    assert (path.read_text(), mark) == ("one\n", directory.scan()["sub/n.md"])
    path.chmod(0o640)
    file = await directory.read("sub/n.md")
    assert file is not None
    assert await directory.write("sub/n.md", "two\n", file.mark) is not None
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two\n", 0o640)
    assert sorted(os.listdir(path.parent)) == ["n.md"]


async def test_a_file_that_changed_is_not_written_over(directory: DiskDirectory) -> None:
    path = directory.root / "n.md"
    assert await directory.write("n.md", "one\n", None) is not None
    assert await directory.write("n.md", "other\n", None) is None
    file = await directory.read("n.md")
    assert file is not None
    path.write_text("user\n")
    os.utime(path, ns=(file.mark.time_ns, file.mark.time_ns))
    assert await directory.write("n.md", "two\n", file.mark) is None
    assert await directory.remove("n.md", file.mark) is False
    assert path.read_text() == "user\n"


async def test_who_goes_on_writing_into_a_replaced_file_is_heard(directory: DiskDirectory) -> None:
    path = directory.root / "log.md"
    path.write_text("one\n")
    with path.open("a") as log:
        file = await directory.read("log.md")
        assert file is not None
        assert await directory.write("log.md", "zero\none\n", file.mark) is not None
        log.write("two\n")
        log.flush()
        assert await directory.late_changes() == [("log.md", "one\n", "one\ntwo\n")]
        assert await directory.late_changes() == []
    directory.close()


async def test_removing_the_last_file_of_a_folder_removes_the_folder(
    directory: DiskDirectory,
) -> None:
    mark = await directory.write("a/b/n.md", "x", None)
    assert mark is not None
    assert await directory.remove("a/b/n.md", mark)
    assert os.listdir(directory.root) == [MARKER_FILE]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"caf\xe9", "expected UTF-8, found other bytes at offset 3"),
        (b"a\0b", "expected text, found a zero byte at 1"),
        (b"x" * (folders.TEXT_BYTES_MAX + 1), "expected at most 8388608 bytes, found 8388609"),
    ],
)
async def test_what_is_no_text_has_a_problem(
    directory: DiskDirectory, data: bytes, problem: str
) -> None:
    (directory.root / "n").write_bytes(data)
    file = await directory.read("n")
    assert file is not None
    assert file.problem == problem


async def test_links_are_not_followed(directory: DiskDirectory, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "n.md").write_text("secret")
    (directory.root / "folder").symlink_to(tmp_path / "outside")
    (directory.root / "n.md").symlink_to(tmp_path / "outside" / "n.md")
    file = await directory.read("n.md")
    assert file is not None
    assert file.problem == "expected a file, found a link"
    with pytest.raises(DirectoryError, match="found a link"):
        await directory.write("folder/n.md", "x", None)
    assert directory.scan() == {}


def test_hidden_files_and_leftovers_are_ignored(directory: DiskDirectory) -> None:
    for name in (".hidden", "n.md~", "n.swp", "4913", "kept.md", "draft.md", "build/out.md"):
        path = directory.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (directory.root / folders.IGNORE_FILE).write_text("# mine\ndraft.*\nbuild/\n")
    assert list(directory.scan()) == ["kept.md"]


# -- what is remembered --------------------------------------------------------------------


def test_bindings_and_records_are_kept(store: BindingStore, directory: DiskDirectory) -> None:
    record = Record("text", next(iter(directory.scan().values()), None), _RANGE.lower, (5, 7))
    store.remember(directory.root, "n.md", record)
    assert store.records(directory.root) == {"n.md": record}
    store.remember(directory.root, "n.md", None)
    assert store.records(directory.root) == {}
    assert store.bindings() == [Bound(directory.root, "memory", _RANGE)]
    assert store.unbind(directory.root)
    assert not store.unbind(directory.root)


def test_what_is_bound_already_or_does_not_suit_is_refused(
    store: BindingStore, directory: DiskDirectory, tmp_path: Path
) -> None:
    with pytest.raises(DirectoryError, match="is bound already, to 7"):
        store.bind(Bound(directory.root, "other", _RANGE))
    with pytest.raises(DirectoryError, match="of memory is bound already"):
        store.bind(Bound(tmp_path / "b", "memory", CoordinateRange.parse("7.1.1/2.*")))
    with pytest.raises(CoordinateError, match="a prefix with four free parts"):
        store.bind(Bound(tmp_path / "c", "memory", CoordinateRange.parse("8.1.1/1.1.1/*")))


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
        await nursery.start(folders.serve, node)
        yield node
        nursery.cancel_scope.cancel()


def _prepare(folder: Path) -> None:
    if not folder.exists():
        identity = NodeIdentity.create(MeshKey.generate(bytes(32)), folder.name, os.urandom(32))
        identity.save(folder)
        BindingStore(folder).bind(Bound(folder.with_name(folder.name + "-notes"), "memory", _RANGE))


async def _until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(_PATIENCE_S):
        while not holds():  # noqa: ASYNC110  files tell nobody
            await trio.sleep(0.01)


async def _until_text(path: Path, text: str) -> None:
    await _until(lambda: path.exists() and path.read_text() == text)


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
        await _until_text(two / "n.md", "one\n")
        save(one / "n.md")
        await _until_text(two / "n.md", "one\ntwo\n")
        assert (one / "n.md").read_text() == "one\ntwo\n"


async def test_renames_deletions_and_folders_follow(tmp_path: Path) -> None:
    async with _two(tmp_path) as (one, two):
        (one / "sub").mkdir()
        (one / "sub" / "n.md").write_text("one\n")
        await _until_text(two / "sub" / "n.md", "one\n")
        (two / "sub" / "n.md").rename(two / "m.md")
        await _until_text(one / "m.md", "one\n")
        await _until(lambda: not (one / "sub").exists())
        (one / "m.md").unlink()
        await _until(lambda: not (two / "m.md").exists())


async def test_what_changed_while_a_node_was_down_is_found(tmp_path: Path) -> None:
    async with _two(tmp_path) as (one, two):
        (one / "n.md").write_text("one\n")
        await _until_text(two / "n.md", "one\n")
    _append(two / "n.md")
    (one / "n.md").write_text("zero\none\n")
    async with _two(tmp_path) as (one, two):
        for notes in (one, two):
            await _until_text(notes / "n.md", "zero\none\ntwo\n")


async def test_a_directory_that_is_gone_or_another_one_deletes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _two(tmp_path) as (one, two):
        (one / "n.md").write_text("one\n")
        await _until_text(two / "n.md", "one\n")
        one.rename(tmp_path / "elsewhere")
        one.mkdir()
        (two / "m.md").write_text("x")
        await _until(lambda: MARKER_FILE in caplog.text)
        await trio.sleep(2 * 0.5)
        assert (two / "n.md").read_text() == "one\n"
        one.rmdir()
        (tmp_path / "elsewhere").rename(one)
        await _until_text(one / "m.md", "x")


async def test_what_comes_while_a_directory_is_first_looked_through_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = Binding.sync

    async def sync_and_hear(binding: Binding, names: Iterable[str], now: float) -> None:
        await sync(binding, names, now)
        replica = binding._replica
        named = NameMap.of(_RANGE, replica.get(_RANGE.lower, ""))
        if "late.md" not in named.places:
            replica.edit(named.add("late.md"), "late\n")
            replica.edit(named.map_place, named.text())

    monkeypatch.setattr(Binding, "sync", sync_and_hear)
    async with _node(tmp_path / "one"):
        await _until_text(tmp_path / "one-notes" / "late.md", "late\n")


async def test_a_round_that_takes_longer_than_until_the_next_look_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_FIRST_RESCAN_S", -1.0)
    async with _two(tmp_path) as (one, two):
        (one / "n.md").write_text("one\n")
        await _until_text(two / "n.md", "one\n")


async def test_a_binding_made_while_the_node_runs_is_served_and_one_ended_is_not(
    tmp_path: Path,
) -> None:
    async with _node(tmp_path / "one") as node:
        store = BindingStore(node.folder)
        notes = tmp_path / "more"
        store.bind(Bound(notes, "memory", CoordinateRange.parse("8.*")))
        (notes / "n.md").write_text("one\n")
        places = CoordinateRange.parse("8.*")
        await _until(lambda: "one\n" in node.phext().values(places))
        store.unbind(notes)
        await trio.sleep(1.5)
        (notes / "n.md").write_text("two\n")
        await trio.sleep(0.5)
        assert "two\n" not in node.phext().values(places)
        assert Coordinate(*[1] * 9) not in node.phext()
