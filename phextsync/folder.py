"""Folder: the files of a data folder, apart from what is in the data file.

* `store.lock` names the process that owns the folder
* `store/` has LMDB's files; `store.first/` is one that is being made
* `store.building/` and `store.restoring/` are ones that are being built, of no use before the end
* `store.new/` is a whole one that is to take the place of `store/`
* `closed` says how a clean stop left the data file
* `importing` says what an import has begun to bring
* `store.damaged/`, `store.format-1/` and `store.before-restore/` are stores of the past
"""

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import lmdb

from phextsync.durable_files import sync_folder
from phextsync.errors import StoreError, StoreFullError, StoreLockedError
from phextsync.pages import PAGE_BYTES, PageFile
from phextsync.rebuild import MAP_BYTES
from phextsync.records import Records

STORE: Final = "store"
DATA_FILE: Final = "data.mdb"
FIRST: Final = "store.first"
BUILDING: Final = "store.building"
RESTORING: Final = "store.restoring"
NEW: Final = "store.new"
CLOSED: Final = "closed"

_ROOTS_BYTES: Final = 2 * PAGE_BYTES
_LOCK_BYTES: Final = 8192  # as many as LMDB needs for 126 readers
_SPACE_BYTES_MIN: Final = 8 << 20  # a batch may need this much
_DAMAGES: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.InvalidError,
    lmdb.CursorFullError,
)


def lock_folder(folder: Path) -> int:
    """Take the folder's lock; the file tells whose it is."""
    path = folder / "store.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode("utf-8", "replace").strip()
        os.close(descriptor)
        raise StoreLockedError(f"{folder} is in use by process {owner or '(unknown)'}") from None
    with suppress(OSError):  # it is for people to read; the lock holds on a full disk too
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {Path(sys.argv[0] or 'python').name}\n".encode(), 0)
    return descriptor


def is_locked(folder: Path) -> bool:
    """Whether somebody owns the folder at this moment. Cheap; nothing is opened."""
    try:
        descriptor = os.open(folder / "store.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def mark_of(data: Path) -> bytes:
    """Return what changes whenever somebody writes, copies, restores or moves a data file."""
    try:
        machine = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        machine = b""
    found = data.stat()
    numbers = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return b"%s %d %d %d %d\n" % (machine, *numbers)


def inode_of(data: Path) -> tuple[int, int] | None:
    try:
        found = data.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def put_in_place(folder: Path, built: str, stem: str) -> Path:
    """Make a store that was built the folder's own, and return what the present one, if any, is
    called from now on.

    What is called `store.new` is whole: a crash here leaves the old store, or none and that one.
    """
    path, new = folder / STORE, folder / NEW
    sync_folder(folder / built)
    shutil.rmtree(new, ignore_errors=True)
    (folder / built).rename(new)
    sync_folder(folder)
    number, aside = 1, folder / stem
    while aside.exists():
        number += 1
        aside = folder / f"{stem}-{number}"
    if path.exists():
        path.rename(aside)
        sync_folder(folder)
    new.rename(path)
    sync_folder(folder)
    return aside


def check_restored(folder: Path) -> None:
    """StoreError when a restore did not come to its end, and there is no store beside it."""
    if (folder / RESTORING).exists() and not any((folder / n).exists() for n in (STORE, NEW)):
        raise StoreError(
            f"a restore into {folder} was cut short: `phextsync restore FILE` begins it again, "
            "`phextsync repair` throws away what there is of it"
        )


def reserve_lock_file(store: Path) -> None:
    """Give LMDB's lock file its place on the disk. LMDB maps it: without, to write into it on a
    full disk would end the process."""
    descriptor = os.open(store / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _LOCK_BYTES)
    finally:
        os.close(descriptor)


@contextmanager
def open_folder(folder: Path) -> Iterator[Records]:
    """Open the records of a data folder, of this moment if its node runs, else locked."""
    data = folder / STORE / DATA_FILE
    check_restored(folder)
    if not data.exists():
        raise StoreError(f"{folder} has no store")
    try:
        lock = lock_folder(folder)
    except StoreLockedError:
        with translated(folder), _open_running(data) as records:
            yield records
        return
    try:
        with translated(folder), open_records(data) as records:
            yield records
    finally:
        os.close(lock)


@contextmanager
def open_records(path: Path) -> Iterator[Records]:
    """Open the records of a data file without LMDB: nothing in the file can end the process.

    StoreDamagedError when nothing of it can be read; StoreVersionError when it is newer.
    """
    with path.open("rb", buffering=0) as file:
        yield Records(partial(PageFile, partial(_read_at, file.fileno())))


@contextmanager
def _open_running(data: Path) -> Iterator[Records]:
    """Open the records of a file that a node goes on writing: a read transaction keeps the pages
    of this moment, and the root record of this moment is kept here."""
    environment = lmdb.open(
        os.fspath(data.parent), map_size=MAP_BYTES, max_dbs=8, readonly=True, create=False
    )
    try:
        with data.open("rb", buffering=0) as file:
            while True:
                with environment.begin() as txn:
                    roots = os.pread(file.fileno(), _ROOTS_BYTES, 0)
                    open_pages = partial(PageFile, partial(_read_at, file.fileno(), roots=roots))
                    if open_pages().transaction == txn.id():  # else a commit came between
                        yield Records(open_pages)
                        return
    finally:
        environment.close()


def _read_at(descriptor: int, offset: int, count: int, *, roots: bytes = b"") -> bytes:
    if offset < len(roots):
        return roots[offset : offset + count]
    return os.pread(descriptor, count, offset)


class translated:
    """Turns what LMDB and the system raise into errors of this library."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case lmdb.Error():
                message = str(error)
                refusals = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
                if isinstance(error, lmdb.MapFullError | lmdb.DiskError) or any(
                    os.strerror(number) in message for number in refusals
                ):
                    # LMDB says EIO where a write to a full disk came out short.
                    reason = "no space left" if _is_full(self._path) else message
                    raise StoreFullError(f"{self._path}: {reason}") from error
                if isinstance(error, _DAMAGES):
                    message = f"the data file is damaged ({message}); start again to rebuild it"
                raise StoreError(f"{self._path}: {message}") from error
            case OSError():
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise StoreFullError(f"{self._path}: no space left") from error
                raise StoreError(f"{self._path}: {error.strerror}") from error


def _is_full(path: Path) -> bool:
    try:
        free = os.statvfs(path if path.exists() else path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < _SPACE_BYTES_MIN
