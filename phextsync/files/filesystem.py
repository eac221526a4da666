"""FileSystem: what a bound directory asks of a file system, one call at a time, and the real one.

Paths are relative to the directory, with `/` between their parts. A name that is not UTF-8 has
surrogates in it, as in `os.fsdecode`. Every call may raise OSError; none follows a link.
"""

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from phextsync.files.names import PART_BYTES_MAX
from phextsync.files.paths import Abilities
from phextsync.systems.leasing import has_writers
from phextsync.systems.locking import try_lock
from phextsync.systems.opening import AT_ONCE, NO_LINK, PRIVATE, read_at
from phextsync.systems.renaming import born_ns, exchange, rename_new
from phextsync.systems.resources import part_bytes_max
from phextsync.systems.rights import give, set_mode
from phextsync.systems.syncing import sync, sync_all, sync_folder

_LOCK_PAUSES_S: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.0)


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a file. `born_ns` is when it was made, 0 where that is not known."""

    is_file: bool
    is_folder: bool
    device: int
    inode: int
    size: int
    time_ns: int
    changed_ns: int
    mode: int
    owner: tuple[int, int]
    born_ns: int = 0


class OpenFile(Protocol):
    """A file that is open, whatever its name is by now."""

    def status(self) -> Status:
        """Return its status, with `born_ns`."""

    def read(self, bytes_max: int) -> bytes:
        """Return its first bytes."""

    def has_writers(self) -> bool:
        """Whether some program may still write into it although it has no name any more; False
        where the system does not tell."""

    def close(self) -> None:
        """Close it."""


class FileSystem(Protocol):
    """The part of a file system below one directory."""

    def abilities(self, known: str) -> Abilities:
        """Say what it does with names; `known` is one that has letters and is there."""

    def status(self, path: str) -> Status | None:
        """Return the status of what is at a path, None when there is nothing."""

    def open(self, path: str) -> OpenFile:
        """Open a file for reading."""

    def write(
        self, path: str, data: bytes, mode: int | None = None, owner: tuple[int, int] | None = None
    ) -> None:
        """Make a new file with these bytes, on the disk at the end. `mode` None leaves that to
        the system; an owner that may not be given is not. FileExistsError when something is
        there."""

    def exchange(self, one: str, other: str) -> None:
        """Let two files have each other's path at one moment. OSError with EINVAL where the file
        system cannot do it."""

    def rename_new(self, path: str, new: str) -> None:
        """Give a file another path where nothing is, at one moment. FileExistsError when something
        is there; OSError with EINVAL where the file system cannot do it."""

    def link(self, path: str, new: str) -> None:
        """Give a file one more path. FileExistsError when something is there."""

    def rename(self, path: str, new: str) -> None:
        """Give a file another path, whatever is there."""

    def rename_looking(self, path: str, new: str) -> None:
        """Give a file another path where nothing is, in two steps: for a system that can neither do
        that at one moment nor give a file two paths. What somebody puts there between the two is
        written over. FileExistsError when something is there."""

    def unlink(self, path: str) -> None:
        """Remove a file."""

    def make_folder(self, path: str) -> None:
        """Make a folder."""

    def remove_folder(self, path: str) -> None:
        """Remove a folder that is empty."""

    def entries(self, path: str) -> list[tuple[str, Status]]:
        """Return what lies in a folder, by name, without `born_ns`."""

    def sync_folder(self, path: str) -> None:
        """Let the names in a folder be on the disk."""

    def sync_file(self, path: str) -> None:
        """Let the bytes of a file be on the disk, and its name."""

    def sync_all(self) -> None:
        """Let everything be on the disk that lies on the file system of the directory."""

    def set_mode(self, path: str, mode: int) -> None:
        """Set the permissions of a file."""

    def locked(self, path: str) -> AbstractContextManager[bool]:
        """Hold the lock (`flock`) that a file stands for, which is made if it is not there; False
        when another program holds it for long."""


class _OsFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def status(self) -> Status:
        status = os.fstat(self._descriptor)
        return _status(status, born_ns(self._descriptor))

    def read(self, bytes_max: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while size < bytes_max and (data := read_at(self._descriptor, bytes_max - size, size)):
            pieces.append(data)
            size += len(data)
        return b"".join(pieces)

    def has_writers(self) -> bool:
        return has_writers(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class OsFileSystem:
    """The file system below a directory of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)

    def abilities(self, known: str) -> Abilities:
        found, other = self.status(known), self.status(known.swapcase())
        folds_case = found is not None and other is not None and found.inode == other.inode
        bytes_max = min(PART_BYTES_MAX, part_bytes_max(self.root))
        return Abilities(bytes_max, folds_case, normalizes=sys.platform == "darwin")

    def status(self, path: str) -> Status | None:
        try:
            return _status(os.lstat(self._at(path)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, path: str) -> OpenFile:
        flags = os.O_RDONLY | NO_LINK | AT_ONCE | PRIVATE
        return _OsFile(os.open(self._at(path), flags))

    def write(
        self, path: str, data: bytes, mode: int | None = None, owner: tuple[int, int] | None = None
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK | PRIVATE
        descriptor = os.open(self._at(path), flags, 0o666 if mode is None else 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if owner is not None:
                give(descriptor, owner)
            if mode is not None:
                set_mode(descriptor, mode)
            sync(descriptor)
        finally:
            os.close(descriptor)

    def exchange(self, one: str, other: str) -> None:
        exchange(self._at(one), self._at(other))

    def rename_new(self, path: str, new: str) -> None:
        rename_new(self._at(path), self._at(new))

    def link(self, path: str, new: str) -> None:
        os.link(self._at(path), self._at(new), follow_symlinks=False)

    def rename(self, path: str, new: str) -> None:
        os.rename(self._at(path), self._at(new))

    def rename_looking(self, path: str, new: str) -> None:
        if self.status(new) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._at(new))
        self.rename(path, new)

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def make_folder(self, path: str) -> None:
        os.mkdir(self._at(path))

    def remove_folder(self, path: str) -> None:
        os.rmdir(self._at(path))

    def entries(self, path: str) -> list[tuple[str, Status]]:
        found: list[tuple[str, Status]] = []
        with os.scandir(self._at(path)) as entries:
            for entry in entries:
                try:
                    found.append((entry.name, _status(entry.stat(follow_symlinks=False))))
                except FileNotFoundError:
                    continue  # gone meanwhile
        return found

    def sync_folder(self, path: str) -> None:
        sync_folder(self._at(path))

    def sync_file(self, path: str) -> None:
        descriptor = os.open(self._at(path), os.O_RDONLY | NO_LINK | AT_ONCE | PRIVATE)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self._at(path.rpartition("/")[0]))

    def sync_all(self) -> None:
        sync_all(self.root)

    def set_mode(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    @contextmanager
    def locked(self, path: str) -> Iterator[bool]:
        flags = os.O_RDWR | os.O_CREAT | NO_LINK | PRIVATE
        descriptor = os.open(self._at(path), flags, 0o666)
        try:
            yield _is_taken(descriptor)
        finally:
            os.close(descriptor)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def _is_taken(descriptor: int) -> bool:
    """Try for a while to take the lock of an open file; say whether it was taken."""
    for pause_s in _LOCK_PAUSES_S:
        try:
            try_lock(descriptor)
            return True
        except BlockingIOError:
            time.sleep(pause_s)
    return False


def _status(status: os.stat_result, born_ns: int = 0) -> Status:
    return Status(
        stat.S_ISREG(status.st_mode),
        stat.S_ISDIR(status.st_mode),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        stat.S_IMODE(status.st_mode),
        (status.st_uid, status.st_gid),
        born_ns,
    )
