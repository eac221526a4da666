"""MemoryFileSystem: what a bound directory asks of a file system, on a disk in memory.

A hook hears of every call, and may refuse it, end the program, or do something in between.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from phextsync.files.filesystem import OpenFile, Status
from phextsync.files.paths import Abilities
from phextsync.testing.inodes import Inode
from phextsync.testing.memory_disk import MemoryDisk, system_error

Hook = Callable[[str, str], None]


class _MemoryFile:
    def __init__(self, files: "MemoryFileSystem", inode: Inode, path: str) -> None:
        self._files = files
        self._inode = inode
        self._path = path
        self._life = files.life
        inode.opened += 1

    def status(self) -> Status:
        with self._files.call("fstat", self._path):
            return self._files.disk.status(self._inode, is_open=True)

    def read(self, bytes_max: int) -> bytes:
        with self._files.call("read", self._path):
            if self._inode.kind == "folder":
                raise system_error(errno.EISDIR, self._path)
            return self._inode.data[:bytes_max]

    def has_writers(self) -> bool:
        return self._inode.names <= 0 and self._inode.opened > 1

    def close(self) -> None:
        if self._life == self._files.life:
            self._files.disk.release(self._inode)


class MemoryFileSystem:
    """The `files.filesystem.FileSystem` of a program on a disk in memory.

    `before` and `after` are called around every call of the system, with its name and path. What
    `before` raises refuses the call, or half of it: of bytes that are written, a part is there.
    `locks` are the paths of locks that other programs hold.
    """

    def __init__(
        self,
        disk: MemoryDisk,
        *,
        before: Hook | None = None,
        after: Hook | None = None,
        has_exchange: bool = True,
        has_links: bool = True,
    ) -> None:
        self.disk = disk
        self.before: Hook = before or _nothing
        self.after: Hook = after or _nothing
        self.life = 0
        self.locks: set[str] = set()
        self._has_exchange = has_exchange
        self._has_links = has_links

    def call(self, name: str, path: str) -> "_Call":
        """Be told before and after a call of the system, in a `with` block."""
        return _Call(self, name, path)

    def abilities(self, known: str) -> Abilities:
        return self.disk.abilities

    def status(self, path: str) -> Status | None:
        with self.call("stat", path):
            found = self.disk.find(path)
            return None if found is None else self.disk.status(found)

    def open(self, path: str) -> OpenFile:
        with self.call("open", path):
            inode = self.disk.get(path)
            if inode.kind == "link":
                raise system_error(errno.ELOOP, path)
            return _MemoryFile(self, inode, path)

    def write(
        self, path: str, data: bytes, mode: int | None = None, owner: tuple[int, int] | None = None
    ) -> None:
        with self.call("create", path):
            inode = self.disk.create(path, "file", 0o600 if mode is not None else None)
        inode.opened += 1
        life = self.life
        try:
            self._write(path, inode, data)
            if mode is not None:
                with self.call("fchmod", path):
                    inode.mode = mode
            with self.call("fsync", path):
                self.disk.sync(inode)
        finally:
            if life == self.life:
                self.disk.release(inode)

    def _write(self, path: str, inode: Inode, data: bytes) -> None:
        half = len(data) // 2
        for piece in (data[:half], data):
            with self.call("write", path):
                self.disk.fill_open(inode, piece)
        self.disk.on_change(path)

    def exchange(self, one: str, other: str) -> None:
        with self.call("exchange", one):
            if not self._has_exchange:
                raise system_error(errno.EINVAL, one)
            self.disk.exchange(one, other)

    def rename_new(self, path: str, new: str) -> None:
        with self.call("rename", new):
            if not self._has_exchange:
                raise system_error(errno.EINVAL, path)
            self._rename_new(path, new)

    def link(self, path: str, new: str) -> None:
        with self.call("link", new):
            if not self._has_links:
                is_there = self.disk.find(new) is not None
                raise system_error(errno.EEXIST if is_there else errno.EPERM, new)
            self.disk.link(path, new)

    def rename(self, path: str, new: str) -> None:
        with self.call("rename", new):
            self.disk.rename(path, new)

    def rename_looking(self, path: str, new: str) -> None:
        with self.call("rename", new):  # one call: what comes between two is promised to nobody
            self._rename_new(path, new)

    def _rename_new(self, path: str, new: str) -> None:
        if self.disk.find(new) is not None:
            raise system_error(errno.EEXIST, new)
        self.disk.rename(path, new)

    def unlink(self, path: str) -> None:
        with self.call("unlink", path):
            self.disk.unlink(path)

    def make_folder(self, path: str) -> None:
        with self.call("mkdir", path):
            self.disk.create(path, "folder")

    def remove_folder(self, path: str) -> None:
        with self.call("rmdir", path):
            self.disk.remove_folder(path)

    def entries(self, path: str) -> list[tuple[str, Status]]:
        with self.call("readdir", path):
            folder = self.disk.get(path)
            if folder.kind != "folder":
                raise system_error(errno.ENOTDIR, path)
            return [
                (name, self.disk.status(inode.mounted or inode))
                for name, inode in list(folder.entries.values())
            ]

    def sync_folder(self, path: str) -> None:
        with self.call("fsync", path):
            folder = self.disk.get(path)
            if folder.kind != "folder":
                raise system_error(errno.ENOTDIR, path)
            self.disk.sync(folder)

    def sync_file(self, path: str) -> None:
        with self.call("fsync", path):
            self.disk.sync(self.disk.get(path))
        self.sync_folder(path.rpartition("/")[0])

    def sync_all(self) -> None:
        with self.call("syncfs", ""):
            self.disk.sync_all()

    def set_mode(self, path: str, mode: int) -> None:
        with self.call("chmod", path):
            self.disk.set_mode(path, mode)

    @contextmanager
    def locked(self, path: str) -> Iterator[bool]:
        with self.call("flock", path):
            is_free = path not in self.locks
        yield is_free

    def end(self) -> None:
        """The program is gone, with all files that it had open."""
        self.life += 1
        for _, inode in self.disk.walk():
            inode.opened = 0


@dataclass(frozen=True, slots=True)
class _Call:
    files: MemoryFileSystem
    name: str
    path: str

    def __enter__(self) -> None:
        self.files.before(self.name, self.path)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.files.after(self.name, self.path)


def _nothing(name: str, path: str) -> None:
    """Let a call be."""
