"""Folders: bound directories on disk, watched while a node runs. `files` decides what to do.

A file is replaced by renaming a whole, synced one over it, never by writing into it. Who holds
the old one open goes on writing there: it is looked at for some seconds more.
"""

import errno
import fnmatch
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import trio
from watchfiles import awatch

from phextsync.changes import ChangeFeed
from phextsync.errors import DirectoryError, StoreError
from phextsync.files import Binding, File, Mark, Record
from phextsync.index import Coordinate, CoordinateRange
from phextsync.names import prefix_of
from phextsync.node import Node

FILE_NAME: Final = "bindings.sqlite"
IGNORE_FILE: Final = ".phextsyncignore"
MARKER_FILE: Final = ".phextsync-bound"
TEXT_BYTES_MAX: Final = 8 << 20
"""A larger file is left alone."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS bindings (
  directory TEXT PRIMARY KEY, phext TEXT NOT NULL, range TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS records (
  directory TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, inode INTEGER, size INTEGER,
  time_ns INTEGER, place BLOB NOT NULL, roots TEXT NOT NULL, PRIMARY KEY (directory, name)
);
"""
# Hidden files besides, and what editors leave behind.
_IGNORED: Final = ("*~", "#*#", "*.swp", "*.swx", "*.tmp", "*.part", "4913", "__pycache__/*")
_STEP_MS: Final = 10  # a burst ends when nothing happens for so long, ...
_DEBOUNCE_MS: Final = 40  # ... or after so long
_RESCAN_S: Final = 30.0
_FIRST_RESCAN_S: Final = 1.0  # of what changed before the directory was watched
_WAITING_S: Final = 0.1
_RETRY_S: Final = 1.0
_LATE_S: Final = 5.0
_LATE_MAX: Final = 64
_READ_ATTEMPTS: Final = 3

_log = logging.getLogger("phextsync.folders")


@dataclass(frozen=True, slots=True)
class Bound:
    """A directory that is bound to a range of a phext."""

    directory: Path
    phext: str
    range: CoordinateRange


class BindingStore:
    """Which directories are bound, and what is remembered of their files: a file in the data
    folder. Usable from any thread; each call is durable."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def bind(self, bound: Bound) -> None:
        """Bind a directory, which is made if it is not there. DirectoryError when it, or a part of
        the range, is bound already; CoordinateError when the range does not suit."""
        for other in self.bindings():
            if other.directory == bound.directory:
                raise DirectoryError(f"{bound.directory} is bound already, to {other.range}")
            if other.phext == bound.phext and other.range.intersect(bound.range) is not None:
                raise DirectoryError(
                    f"{bound.range} of {bound.phext} is bound already, to {other.directory}"
                )
        prefix_of(bound.range)
        bound.directory.mkdir(parents=True, exist_ok=True)
        (bound.directory / MARKER_FILE).touch()
        row = (os.fspath(bound.directory), bound.phext, str(bound.range))
        self._change("INSERT INTO bindings VALUES (?, ?, ?)", row)

    def unbind(self, directory: Path) -> bool:
        """End a binding; files and scrolls stay. Say whether there was one."""
        row = (os.fspath(directory),)
        self._change("DELETE FROM records WHERE directory = ?", row)
        return self._change("DELETE FROM bindings WHERE directory = ?", row) > 0

    def bindings(self) -> list[Bound]:
        """Return all bindings, by directory."""
        rows = self._rows("SELECT directory, phext, range FROM bindings ORDER BY directory")
        return [Bound(Path(row[0]), row[1], CoordinateRange.parse(row[2])) for row in rows]

    def records(self, directory: Path) -> dict[str, Record]:
        """Return what is remembered of the files of a directory."""
        query = (
            "SELECT name, text, inode, size, time_ns, place, roots FROM records WHERE directory = ?"
        )
        records: dict[str, Record] = {}
        for name, text, inode, size, time_ns, place, roots in self._rows(
            query, (os.fspath(directory),)
        ):
            mark = None if inode is None else Mark(inode, size, time_ns)
            clients = tuple(int(client) for client in roots.split())
            records[name] = Record(text, mark, Coordinate.from_key(place), clients)
        return records

    def remember(self, directory: Path, name: str, record: Record | None) -> None:
        """Keep a record; None forgets it."""
        where = (os.fspath(directory), name)
        if record is None:
            self._change("DELETE FROM records WHERE directory = ? AND name = ?", where)
            return
        mark = record.mark
        numbers = (None, None, None) if mark is None else (mark.inode, mark.size, mark.time_ns)
        roots = " ".join(map(str, record.roots))
        row = (*where, record.text, *numbers, record.place.key, roots)
        self._change("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def state(self) -> tuple[int, ...]:
        """Return what changes whenever somebody writes; cheap."""
        paths = (self._path, self._path.with_name(f"{FILE_NAME}-wal"))
        return tuple(path.stat().st_mtime_ns for path in paths if path.exists())

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[tuple]:  # type: ignore[type-arg]
        if not self._path.exists():
            return []
        with self._connected() as connection:
            return connection.execute(query, values).fetchall()

    def _change(self, query: str, values: tuple[object, ...]) -> int:
        with self._connected() as connection, connection:
            return connection.execute(query, values).rowcount

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        return connection


@dataclass(slots=True)
class _Late:
    """A file that was replaced, still open: who wrote into it may not know yet."""

    name: str
    descriptor: int
    text: str
    until: float


class DiskDirectory:
    """The files of a bound directory; see `phextsync.files.Directory`. Its calls use threads."""

    def __init__(self, bound: Bound, store: BindingStore) -> None:
        self.root = bound.directory
        self._store = store
        self._texts: dict[str, str] = {}  # as they were read or written last
        self._late: list[_Late] = []
        self._ignored: tuple[str, ...] = _IGNORED

    async def read(self, name: str) -> File | None:
        return await trio.to_thread.run_sync(self._read, name)

    async def write(self, name: str, text: str, expected: Mark | None) -> Mark | None:
        return await trio.to_thread.run_sync(self._write, name, text, expected)

    async def remove(self, name: str, expected: Mark) -> bool:
        return await trio.to_thread.run_sync(self._remove, name, expected)

    async def back_up(self, name: str, text: str) -> None:
        await trio.to_thread.run_sync(self._back_up, name, text)

    async def remember(self, name: str, record: Record | None) -> None:
        await trio.to_thread.run_sync(self._store.remember, self.root, name, record)

    async def check(self) -> None:
        """DirectoryError when the directory is gone, or another one lies in its place, such as
        that of a disk that is not mounted: its files are not deleted."""
        if not await trio.Path(self.root / MARKER_FILE).exists():
            raise DirectoryError(f"expected {MARKER_FILE} in it, as `phextsync bind` made it")

    def scan(self) -> dict[str, Mark]:
        """Return the marks of all files that are not ignored."""
        self._ignored = (*_IGNORED, *self._own_patterns())
        marks: dict[str, Mark] = {}
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for file in files:
                path = Path(folder, file)
                name = self.name_of(path)
                if name is not None:
                    with suppress(OSError):
                        status = path.lstat()
                        if stat.S_ISREG(status.st_mode):
                            marks[name] = _mark(status)
        return marks

    def name_of(self, path: Path) -> str | None:
        """Return the name of a path in the directory, None for one that is ignored."""
        name = path.relative_to(self.root).as_posix()
        return None if self.is_ignored(name) else name

    def is_ignored(self, name: str) -> bool:
        """Whether a name is hidden, left by an editor, or in the ignore file."""
        parts = name.split("/")
        return any(part.startswith(".") for part in parts) or any(
            fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(parts[-1], pattern)
            for pattern in self._ignored
        )

    async def late_changes(self) -> list[tuple[str, str, str]]:
        """Return what was written into replaced files: name, text before, text now."""
        return await trio.to_thread.run_sync(self._late_changes) if self._late else []

    def _late_changes(self) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        for late in list(self._late):
            text = _text_of(late.descriptor)
            if text is not None and text != late.text:
                found.append((late.name, late.text, text))
                late.text = text
            if time.monotonic() >= late.until or len(self._late) > _LATE_MAX:
                os.close(late.descriptor)
                self._late.remove(late)
        return found

    @property
    def is_waiting(self) -> bool:
        """Whether replaced files are still looked at."""
        return bool(self._late)

    def close(self) -> None:
        """Look at replaced files no more."""
        for late in self._late:
            os.close(late.descriptor)
        self._late.clear()

    def _own_patterns(self) -> list[str]:
        try:
            lines = (self.root / IGNORE_FILE).read_text("utf-8").splitlines()
        except (OSError, UnicodeError):
            return []
        patterns = [line.strip() for line in lines if line.strip() and line[0] != "#"]
        return [f"{p}*" if p.endswith("/") else p for p in patterns]

    def _path(self, name: str) -> Path:
        """Return where a file is. DirectoryError when links would lead out of the directory."""
        path = self.root / name
        folder = path.parent
        while folder != self.root:
            if folder.is_symlink():
                raise DirectoryError(f"expected a folder of its own at {folder}, found a link")
            folder = folder.parent
        return path

    def _read(self, name: str) -> File | None:
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            reason = "a link" if error.errno == errno.ELOOP else str(error.strerror)
            return File(Mark(0, 0, 0), problem=f"expected a file, found {reason}")
        try:
            return self._read_open(name, descriptor)
        finally:
            os.close(descriptor)

    def _read_open(self, name: str, descriptor: int) -> File | None:
        for _ in range(_READ_ATTEMPTS):
            mark = _mark(status := os.fstat(descriptor))
            if stat.S_ISDIR(status.st_mode):
                return None
            if not stat.S_ISREG(status.st_mode):
                return File(mark, problem="expected a file, found something else")
            if mark.size > TEXT_BYTES_MAX:
                return File(
                    mark, problem=f"expected at most {TEXT_BYTES_MAX} bytes, found {mark.size}"
                )
            data = os.pread(descriptor, TEXT_BYTES_MAX + 1, 0)
            if _mark(os.fstat(descriptor)) == mark:
                break
        if b"\0" in data:
            return File(mark, problem=f"expected text, found a zero byte at {data.index(0)}")
        try:
            self._texts[name] = text = data.decode()
        except UnicodeDecodeError as error:
            return File(mark, problem=f"expected UTF-8, found other bytes at offset {error.start}")
        return File(mark, text)

    def _write(self, name: str, text: str, expected: Mark | None) -> Mark | None:
        path = self._path(name)
        old = self._open_expected(path, name, expected)
        if old is None and (expected is not None or os.path.lexists(path)):
            return None
        held = self._texts.get(name, "")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".phextsync-{_digest(name)}")
            mark = _write_whole(draft, text.encode(), None if old is None else os.fstat(old))
            draft.replace(path)
            _sync(path.parent)
        except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
            raise DirectoryError(f"expected a place for a file, found {error.strerror}") from error
        finally:
            if old is not None:
                self._late.append(_Late(name, old, held, time.monotonic() + _LATE_S))
        self._texts[name] = text
        return mark

    def _open_expected(self, path: Path, name: str, expected: Mark | None) -> int | None:
        """Return the open file if it is as it was read, None otherwise."""
        if expected is None:
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        if _mark(os.fstat(descriptor)) == expected and _text_of(descriptor) == self._texts.get(
            name
        ):
            return descriptor
        os.close(descriptor)
        return None

    def _remove(self, name: str, expected: Mark) -> bool:
        path = self._path(name)
        descriptor = self._open_expected(path, name, expected)
        if descriptor is None:
            return False
        os.close(descriptor)
        path.unlink()
        folder = path.parent
        with suppress(OSError):  # it has other files
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent
        _sync(folder)
        return True

    def _back_up(self, name: str, text: str) -> None:
        folder = self.root / ".phextsync-backups"
        path = folder / f"{name}.{_digest(text)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, text.encode(), None)


async def serve(
    node: Node, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve every binding of a node's folder until cancelled, those made meanwhile included;
    started when the ones there are at the start are the same."""
    store = BindingStore(node.folder)
    running: dict[Path, trio.CancelScope] = {}
    state: tuple[int, ...] | None = None
    async with trio.open_nursery() as nursery:
        while True:
            if (now := await trio.to_thread.run_sync(store.state)) != state:
                try:
                    bound = await trio.to_thread.run_sync(store.bindings)
                    await _serve_all(nursery, node, store, bound, running)
                    state = now
                except StoreError as error:
                    _log.warning("%s; tried again", error)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await trio.sleep(_RETRY_S)


async def _serve_all(
    nursery: trio.Nursery,
    node: Node,
    store: BindingStore,
    bound: list[Bound],
    running: dict[Path, trio.CancelScope],
) -> None:
    """Begin what is not running yet, and end what is no longer bound."""
    for directory in {*running} - {each.directory for each in bound}:
        running.pop(directory).cancel()
    for each in bound:
        if each.directory not in running:
            running[each.directory] = await nursery.start(_serve_one, node, each, store)


async def _serve_one(
    node: Node,
    bound: Bound,
    store: BindingStore,
    *,
    task_status: trio.TaskStatus[trio.CancelScope],
) -> None:
    directory = DiskDirectory(bound, store)
    records = await trio.to_thread.run_sync(store.records, bound.directory)
    binding = Binding(node.phext(bound.phext), bound.range, directory, records)
    service = _Service(node, bound, binding, directory)
    with trio.CancelScope() as scope:
        try:
            names = {*await service.changed_files(), *binding.names()}
            await service.round(sorted(names))
            task_status.started(scope)
            await service.run()
        finally:
            service.close()
            directory.close()


class _Service:
    """One binding while a node runs: what may differ, and rounds that bring it together."""

    def __init__(
        self, node: Node, bound: Bound, binding: Binding, directory: DiskDirectory
    ) -> None:
        self._node = node
        self._bound = bound
        self._binding = binding
        self._directory = directory
        self._names: dict[str, None] = {}
        self._wake = trio.Event()
        self._stop = trio.Event()
        self._failure = ""
        # From the start: what comes while the directory is first looked through counts too.
        self._feed = node.phext(bound.phext).feed(bound.range)
        self._feed.on_ready = self._wake_up

    async def run(self) -> None:
        """Follow files and scrolls until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            try:
                await self._follow(self._feed)
            finally:
                self._stop.set()  # which the watching thread hears, and no cancellation

    def close(self) -> None:
        """Follow no more."""
        self._feed.close()

    async def _follow(self, feed: ChangeFeed) -> None:
        rescan_at = trio.current_time() + _FIRST_RESCAN_S
        while True:
            with trio.move_on_at(min(trio.current_time() + self._patience_s(), rescan_at)):
                await self._wake.wait()
            self._wake = trio.Event()
            names, self._names = self._names, {}
            while (change := feed.take()) is not None:
                names.update(dict.fromkeys(self._binding.names_at(change.coordinates)))
                if change.missed is not None:
                    names.update(dict.fromkeys(self._binding.names()))
            if trio.current_time() >= rescan_at:
                names.update(dict.fromkeys(await self.changed_files()))
                rescan_at = trio.current_time() + _RESCAN_S
            await self.round(list(names))

    async def changed_files(self) -> list[str]:
        """Return the names of files that are not as they are remembered."""
        marks = await trio.to_thread.run_sync(self._directory.scan)
        return self._binding.changed_names(marks)

    async def round(self, names: list[str]) -> None:
        """Bring files and scrolls together; what the disk refuses is tried again."""
        try:
            await self._directory.check()
            for late in await self._directory.late_changes():
                self._binding.take_late(*late)
                names.append(late[0])
            kept = [name for name in names if not self._directory.is_ignored(name)]
            await self._binding.sync(kept, trio.current_time())
            self._failure = ""
        except (StoreError, DirectoryError, OSError) as error:
            self._names.update(dict.fromkeys(names))
            if str(error) != self._failure:
                _log.warning("%s: %s; tried again", self._bound.directory, error)
            self._failure = str(error)
        for report in self._binding.reports:
            _log.warning("%s: %s", self._bound.directory, report)
        self._binding.reports.clear()

    def _patience_s(self) -> float:
        if self._failure:
            return _RETRY_S
        if self._binding.is_waiting or self._directory.is_waiting:
            return _WAITING_S
        return _RESCAN_S

    def _wake_up(self) -> None:
        self._wake.set()

    async def _watch(self) -> None:
        root = self._bound.directory
        async for changes in awatch(
            root,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=self._stop,
        ):
            paths = [Path(path) for _, path in changes]
            names = [self._directory.name_of(path) for path in paths if path != root]
            self._names.update((name, None) for name in names if name is not None)
            if any(path.is_dir() for path in paths):
                # Files that came with a folder, or before it was watched, have no events.
                self._names.update(dict.fromkeys(await self.changed_files()))
            self._wake_up()


def _write_whole(path: Path, data: bytes, like: os.stat_result | None) -> Mark:
    """Write a new file, synced, with the mode and the owner of another."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        if like is not None:
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
            with suppress(PermissionError):
                os.fchown(descriptor, like.st_uid, like.st_gid)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
        return _mark(os.fstat(descriptor))


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _text_of(descriptor: int) -> str | None:
    """Return the text of an open file, None when it is none."""
    data = os.pread(descriptor, TEXT_BYTES_MAX + 1, 0)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _mark(status: os.stat_result) -> Mark:
    return Mark(status.st_ino, status.st_size, status.st_mtime_ns)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
