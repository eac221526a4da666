"""Folder: the files of a data folder, apart from what is in the data file.

* `store.lock` names the process that owns the folder
* `store/` has LMDB's files; `store.first/` is one that is being made
* `store.building/` and `store.restoring/` are ones that are being built, of no use before the end
* `store.new/` is a whole one that is to take the place of `store/`
* `closed` says how a clean stop left the data file
* `importing` says what an import has begun to bring
* `in-memory` says where in memory the store of the process is that runs here
* `store.damaged/`, `store.format-1/` and `store.before-restore/` are stores of the past
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from phextsync.errors import (
    PhextsyncError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
)
from phextsync.store.pages import PAGE_BYTES, PageFile
from phextsync.store.records import Records
from phextsync.systems.locking import try_lock
from phextsync.systems.opening import PRIVATE, read_at, write_at
from phextsync.systems.resources import MAP_BYTES, reserve
from phextsync.systems.syncing import sync_folder

T = TypeVar("T")

STORE: Final = "store"
DATA_FILE: Final = "data.mdb"
FIRST: Final = "store.first"
BUILDING: Final = "store.building"
RESTORING: Final = "store.restoring"
NEW: Final = "store.new"
CLOSED: Final = "closed"
IN_MEMORY: Final = "in-memory"

_ROOTS_BYTES: Final = 2 * PAGE_BYTES
_LOCK_BYTES: Final = 8192  # as many as LMDB needs for 126 readers
_LOOKS_MAX: Final = 20
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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | PRIVATE, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {folder}: {error.strerror}") from error
    try:
        try_lock(descriptor)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode("utf-8", "replace").strip()
        os.close(descriptor)
        raise StoreLockedError(f"{folder} is in use by process {owner or '(unknown)'}") from None
    with suppress(OSError):  # it is for people to read; the lock holds on a full disk too
        os.ftruncate(descriptor, 0)
        program = os.fsencode(Path(sys.argv[0] or "python").name)
        write_at(descriptor, b"%d %s\n" % (os.getpid(), program), 0)
    return descriptor


def is_locked(folder: Path) -> bool:
    """Whether somebody owns the folder at this moment. Cheap; nothing is opened."""
    try:
        descriptor = os.open(folder / "store.lock", os.O_RDWR | PRIVATE)
    except FileNotFoundError:
        return False
    try:
        try_lock(descriptor)
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


def build_whole(folder: Path, build: Callable[[Path], T]) -> T:
    """Build a store in a new folder. What is built by half when that fails is of no use, and gives
    back the room that it took."""
    try:
        return build(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def put_in_place(folder: Path, built: str, stem: str) -> Path:
    """Make a store that was built the folder's own, and return what the present one, if any, is
    called from now on.

    What is called `store.new` is whole: a crash here leaves the old store, or none and that one.
    Where the disk refuses it, the old one stays and the other is gone.
    """
    path, new = folder / STORE, folder / NEW
    number, aside = 1, folder / stem
    while aside.exists():
        number += 1
        aside = folder / f"{stem}-{number}"
    shutil.rmtree(new, ignore_errors=True)
    try:
        sync_folder(folder / built)
        (folder / built).rename(new)
        sync_folder(folder)
        if path.exists():
            path.rename(aside)
    except BaseException:
        for each in (folder / built, new):
            shutil.rmtree(each, ignore_errors=True)
        raise
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
    descriptor = os.open(store / "lock.mdb", os.O_RDWR | os.O_CREAT | PRIVATE, 0o600)
    try:
        reserve(descriptor, _LOCK_BYTES)
    finally:
        os.close(descriptor)


def data_file_of(folder: Path) -> Path | None:
    """Return where the data of a folder is, None when it has no store yet. StoreError when a store
    is there without its data."""
    memory = place_in_memory(folder)
    if memory is not None and is_locked(folder):
        folder = memory
    # Between two renames of a rebuild there is only the new one.
    store = next((folder / name for name in (STORE, NEW) if (folder / name).exists()), None)
    if store is None:
        return None
    if not (store / DATA_FILE).exists():
        raise StoreError(f"{store} has no {DATA_FILE}: `phextsync repair` begins a new one")
    return store / DATA_FILE


def has_store(folder: Path) -> bool:
    """Whether a folder holds the data of a store, or what was left of a restore."""
    data = (folder / name / DATA_FILE for name in (STORE, NEW))
    return any(path.exists() for path in (*data, folder / RESTORING))


def place_in_memory(folder: Path) -> Path | None:
    """Return where in memory the store of a folder is, or was; None when it is on the disk."""
    try:
        return Path(os.fsdecode((folder / IN_MEMORY).read_bytes()))
    except FileNotFoundError:
        return None


def check_on_disk(folder: Path) -> None:
    """StoreError where the store of a folder is in memory."""
    if place_in_memory(folder) is not None:
        raise no_store(folder)


def no_store(folder: Path) -> StoreError:
    """Return what says that a folder has no store, and how it gets one."""
    if place_in_memory(folder) is not None:
        return StoreError(
            f"the scrolls of {folder} were in memory and ended with its node: `phextsync up "
            f"--data-in-memory` gets them again from peers; once {folder / IN_MEMORY} is removed, "
            "an empty store is made on the disk"
        )
    return StoreError(
        f"expected a store in {folder}, found none: the first start or change makes an empty one, "
        "`phextsync restore FILE` brings a backup"
    )


def look(folder: Path, use: Callable[[Records], T]) -> T:
    """Return what `use` makes of the records of a data folder as they are at one moment. Nothing is
    locked or written, whether somebody writes or not; if somebody did meanwhile, `use` is called
    again. StoreError when there is no store."""
    check_restored(folder)
    data = data_file_of(folder)
    if data is None:
        raise no_store(folder)
    with translated(folder):
        for is_pinned in (False, True, *[False] * _LOOKS_MAX):
            try:
                opened = OpenData(data, is_pinned=is_pinned)
            except lmdb.Error:  # this process may not pin it
                continue
            with opened:
                try:
                    found = use(opened.records)
                except PhextsyncError:
                    if opened.is_current():
                        raise
                else:
                    if opened.is_current():
                        return found
    raise StoreError(f"{folder} is being written by another process; try again")


class OpenData:
    """A data file that is open for reading without LMDB: nothing in it can end the process.

    The root record is that of the moment of opening. LMDB writes what changes to pages that no
    state uses, but takes those of an older one again soon: what was read is worth something if
    `is_current` afterwards. With `is_pinned` a read transaction of LMDB keeps all pages of that
    moment, which needs the right to write its lock file.
    """

    def __init__(self, path: Path, *, is_pinned: bool = False) -> None:
        with ExitStack() as stack:
            self._descriptor = stack.enter_context(path.open("rb", buffering=0)).fileno()
            self._is_pinned = is_pinned
            if is_pinned:
                self._roots = stack.enter_context(_pinned(path, self._descriptor))
            else:
                self._roots = _read_at(self._descriptor, 0, _ROOTS_BYTES)
            read = partial(_read_at, self._descriptor, roots=self._roots)
            try:
                self.records = Records(partial(PageFile, read))
            except StoreDamagedError as error:
                raise StoreDamagedError(
                    f"{path} cannot be read ({error}); `phextsync repair` sets it aside"
                ) from error
            self._stack = stack.pop_all()

    def __enter__(self) -> "OpenData":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._stack.close()

    def is_current(self) -> bool:
        """Whether all that was read is of one moment."""
        return self._is_pinned or _read_at(self._descriptor, 0, _ROOTS_BYTES) == self._roots


@contextmanager
def _pinned(data: Path, descriptor: int) -> Iterator[bytes]:
    """Begin a read transaction of LMDB, beside a node that goes on writing, and give the root
    records that it sees. lmdb.Error where it cannot."""
    lock = data.parent / "lock.mdb"
    if not os.access(lock if lock.exists() else data.parent, os.W_OK):
        # On a file system that is only read LMDB goes on, and nobody hears of its transaction.
        raise lmdb.LockError(f"{lock} cannot be written")
    environment = lmdb.open(
        os.fsencode(data.parent), map_size=MAP_BYTES, max_dbs=8, readonly=True, create=False
    )
    try:
        while True:
            with environment.begin() as txn:
                roots = _read_at(descriptor, 0, _ROOTS_BYTES)
                file = PageFile(partial(_read_at, descriptor, roots=roots))
                if file.transaction == txn.id():  # else a commit came between
                    yield roots
                    return
    finally:
        environment.close()


@contextmanager
def open_records(path: Path) -> Iterator[Records]:
    """Open the records of a data file without LMDB: nothing in the file can end the process.

    StoreDamagedError when nothing of it can be read; StoreVersionError when it is newer.
    """
    with path.open("rb", buffering=0) as file:
        yield Records(partial(PageFile, partial(_read_at, file.fileno())))


def _read_at(descriptor: int, offset: int, count: int, *, roots: bytes = b"") -> bytes:
    if offset < len(roots):
        return roots[offset : offset + count]
    return read_at(descriptor, count, offset)


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
        return shutil.disk_usage(path if path.exists() else path.parent).free < _SPACE_BYTES_MIN
    except OSError:
        return False
