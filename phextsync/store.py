"""Store: what is durable. On disk (LMDB), and the same contract in memory.

Nothing here knows what an update or a coordinate means: keys are 12 bytes in the order of
coordinates, values are bytes. A store has one owner. `commit` may run in another thread than the
reads; each call begins and ends its own transaction, and no buffer leaves it.
"""

import array
import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, cast

import lmdb
import xxhash

from phextsync.errors import (
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from phextsync.index import Coordinate

FORMAT_VERSION: Final = 1

_MAP_BYTES: Final = 1 << 40  # address space, never resized: resizing under a reader is a SIGBUS
_KEY_BYTES: Final = 12
_CHECKSUM_BYTES: Final = 8
_HEAD: Final = struct.Struct(">32sI")
_LOG: Final = struct.Struct(">QB")
_WALK_TIMEOUT_S: Final = 600
_PAGE_BYTES: Final = 4096
_SPACE_BYTES_MIN: Final = 8 << 20  # a batch may need this much
_PAIRS_AT_ONCE: Final = 1024
# A child that examines a store imports this module and not the package, which takes five times as
# long: whoever takes over a folder from a process that was killed waits for it.
_CHILD: Final = """
import sys, types
sys.modules["phextsync"] = package = types.ModuleType("phextsync")
package.__path__ = [sys.argv[1]]
from phextsync.store import main
main(sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An update, the node that wrote it (16 bytes or none), and when by that node's clock."""

    update: bytes
    origin: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class ScrollWrite:
    """What a batch does to one scroll. A `state` replaces the stored state and drops its log;
    then `log` is appended."""

    key: bytes
    fingerprint: bytes
    size: int
    state: bytes | None
    log: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that become durable together: scrolls by phext, and client ids by phext.

    A receipt says what of the changes that another process asked for is in this batch and those
    before it, by the process's id; an empty one removes it.
    """

    writes: tuple[tuple[str, ScrollWrite], ...]
    leases: tuple[tuple[str, int], ...] = ()
    receipts: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredScroll:
    """A state, and the updates that came after it."""

    state: bytes | None
    log: tuple[LogEntry, ...]

    @property
    def updates(self) -> tuple[bytes, ...]:
        """The updates that together make the scroll."""
        first = () if self.state is None else (self.state,)
        return (*first, *(entry.update for entry in self.log))

    @property
    def log_bytes(self) -> int:
        """Bytes of the updates in the log."""
        return sum(len(entry.update) for entry in self.log)


@dataclass(frozen=True, slots=True)
class Heads:
    """All scrolls of a phext in order: keys of 12 bytes, fingerprints of 32, sizes as uint32 in
    native order, as `CoordinateIndex.bulk_load` takes them."""

    keys: bytes
    fingerprints: bytes
    sizes: bytes


class Store(Protocol):
    """What a replica needs of a store."""

    @property
    def report(self) -> tuple[str, ...]:
        """What the operator should know of how the store was opened, a line each."""

    def phexts(self) -> list[str]:
        """Return the names of the phexts that have scrolls, sorted."""

    def heads(self, phext: str) -> Heads:
        """Return the heads of all scrolls of a phext. O(scrolls)."""

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        """Return a scroll, None when there is none. StoreDamagedError when it is damaged."""

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        """Return scrolls from `lower`, included, to `upper`, excluded, in order: at least one if
        there is one, and no more once they have `bytes_max`. Damaged ones are left out."""

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, all or nothing. StoreFullError when the disk refuses."""

    def lease(self, phext: str) -> int | None:
        """Return the client id that this store may go on using, None when it needs a new one."""

    def receipts(self) -> dict[bytes, bytes]:
        """Return the receipts as they were when the store was opened."""

    def quarantine(self, phext: str, key: bytes) -> None:
        """Set a damaged scroll aside: it is absent from now on."""

    def close(self, *, clean: bool) -> None:
        """Close. Only a clean close, after the last commit, lets client ids be used again."""


class MemoryStore:
    """A store that lasts as long as the object. `reopened` and `cloned` imitate a restart."""

    def __init__(self) -> None:
        self.report: tuple[str, ...] = ()
        self._scrolls: dict[str, dict[bytes, tuple[ScrollWrite, StoredScroll]]] = {}
        self._leases: dict[str, int] = {}
        self._receipts: dict[bytes, bytes] = {}
        self._is_clean = False

    def phexts(self) -> list[str]:
        return sorted(name for name, scrolls in self._scrolls.items() if scrolls)

    def heads(self, phext: str) -> Heads:
        heads = [head for _, (head, _) in sorted(self._scrolls.get(phext, {}).items())]
        return Heads(
            b"".join(head.key for head in heads),
            b"".join(head.fingerprint for head in heads),
            array.array("I", [head.size for head in heads]).tobytes(),
        )

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        found = self._scrolls.get(phext, {}).get(key)
        return None if found is None else found[1]

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        found: list[tuple[bytes, StoredScroll]] = []
        size = 0
        for key, (_, scroll) in sorted(self._scrolls.get(phext, {}).items()):
            if key >= lower and (upper is None or key < upper) and size < bytes_max:
                found.append((key, scroll))
                size += len(scroll.state or b"") + scroll.log_bytes
        return found

    def commit(self, batch: Batch) -> None:
        for phext, write in batch.writes:
            scrolls = self._scrolls.setdefault(phext, {})
            old = scrolls[write.key][1] if write.key in scrolls else StoredScroll(None, ())
            if write.state is not None:
                old = StoredScroll(write.state, ())
            scrolls[write.key] = (write, StoredScroll(old.state, (*old.log, *write.log)))
        self._leases.update(batch.leases)
        self._receipts.update(batch.receipts)

    def lease(self, phext: str) -> int | None:
        return self._leases.get(phext)

    def receipts(self) -> dict[bytes, bytes]:
        return {client: receipt for client, receipt in self._receipts.items() if receipt}

    def quarantine(self, phext: str, key: bytes) -> None:
        self._scrolls.get(phext, {}).pop(key, None)

    def close(self, *, clean: bool) -> None:
        self._is_clean = clean

    def reopened(self) -> "MemoryStore":
        """Return what another open of this store finds."""
        other = self.cloned()
        if self._is_clean:
            other._leases = dict(self._leases)
        return other

    def cloned(self) -> "MemoryStore":
        """Return what an open of a copy on another machine finds."""
        other = MemoryStore()
        other._scrolls = {name: dict(scrolls) for name, scrolls in self._scrolls.items()}
        other._receipts = self.receipts()
        return other


class LmdbStore:
    """A store in a folder. StoreLockedError when another process owns it.

    Layout: `store.lock` names the owner; `store/data.mdb` has the databases `meta` (format
    version, mark of use, leases, receipts, numbers of phexts), `heads`, `states` and `logs`
    (number of the phext, key, for logs a sequence number) and `damaged`. Every value ends with
    its XXH3-64.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._reports: list[str] = []
        self._lock = _lock(self.folder)
        try:
            path = self.folder / "store"
            if _was_unclean(path):
                self._check_after_crash(path)
            self._open(path)
        except BaseException:
            os.close(self._lock)
            raise
        _stores.add(self)

    def let_go(self) -> None:
        """Give up the lock in the child of a fork: it is held as long as anybody has it open."""
        os.close(self._lock)

    @property
    def report(self) -> tuple[str, ...]:
        return tuple(self._reports)

    def _open(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        with _translated(path):
            self._env = lmdb.open(
                os.fspath(path),
                map_size=_MAP_BYTES,
                max_dbs=8,
                mode=0o600,
                lock=True,
                readahead=False,
                max_spare_txns=4,
            )
            self._env.reader_check()
            self._meta = self._env.open_db(b"meta")
            self._heads = self._env.open_db(b"heads")
            self._states = self._env.open_db(b"states")
            self._logs = self._env.open_db(b"logs")
            self._damaged = self._env.open_db(b"damaged")
            self._numbers: dict[str, bytes] = {}
            self._leases: dict[str, int] = {}
            self._receipts: dict[bytes, bytes] = {}
            with self._env.begin(write=True) as txn:
                self._start(txn)
        (self.folder / "in-use").touch(mode=0o600)
        _sync_folder(self.folder)

    def _start(self, txn: "lmdb.Transaction") -> None:
        """Check the format, keep or drop the leases, and mark the folder as in use."""
        version = txn.get(b"version", db=self._meta)
        if version is None:
            txn.put(b"version", b"%d" % FORMAT_VERSION, db=self._meta)
        elif bytes(version) != b"%d" % FORMAT_VERSION:
            found = bytes(version).decode("ascii", "replace")
            raise StoreVersionError(
                f"{self.folder}: expected format {FORMAT_VERSION}, found {found}"
            )
        place = _place(self.folder)
        keep = txn.get(b"closed-at", db=self._meta) == place
        for key, value in list(_scan(txn.cursor(db=self._meta), b"")):
            name = key[1:].decode()
            if key[:1] == b"n":
                self._numbers[name] = value
            elif key[:1] == b"c" and key != b"closed-at":
                if keep:
                    self._leases[name] = int.from_bytes(value, "big")
                else:
                    txn.delete(key, db=self._meta)
            elif key[:1] == b"r":
                self._receipts[bytes.fromhex(name)] = value
        txn.delete(b"closed-at", db=self._meta)

    def _check_after_crash(self, path: Path) -> None:
        """Walk the file in a child process: a damaged one may kill whoever maps it."""
        problem = walk(path)
        if problem is None:
            return
        number = 1
        while (aside := self.folder / f"store.damaged-{number}").exists():
            number += 1
        path.rename(aside)
        _sync_folder(self.folder)
        kept = salvage(aside, path)
        self._reports.append(
            f"{self.folder}: the store was damaged ({problem}); it was set aside as {aside.name}, "
            f"{kept} scrolls were read from it, the others come back from peers"
        )

    # -- reading ---------------------------------------------------------------------------

    def phexts(self) -> list[str]:
        found = []
        with self._env.begin() as txn:
            cursor = txn.cursor(db=self._heads)
            for name, number in self._numbers.items():
                if cursor.set_range(number) and cursor.key()[:4] == number:
                    found.append(name)
        return sorted(found)

    def heads(self, phext: str) -> Heads:
        number = self._numbers.get(phext)
        keys, marks, sizes = BytesIO(), BytesIO(), BytesIO()
        damaged: list[bytes] = []
        if number is not None:
            digest = xxhash.xxh3_64_digest
            with self._env.begin() as txn:
                for piece in _pieces(txn.cursor(db=self._heads), number):
                    whole = [pair for pair in piece if digest(pair[1][:36]) == pair[1][36:]]
                    if len(whole) < len(piece):
                        damaged += sorted({key for key, _ in piece} - {key for key, _ in whole})
                    keys.write(b"".join([key[4:] for key, _ in whole]))
                    marks.write(b"".join([value[:32] for _, value in whole]))
                    sizes.write(b"".join([value[32:36] for _, value in whole]))
        for key in damaged:
            self._reports.append(f"{phext} {_text(key[4:])}: its head is damaged; set aside")
            self.quarantine(phext, key[4:])
        native = array.array("I", sizes.getvalue())
        if sys.byteorder == "little":
            native.byteswap()
        return Heads(keys.getvalue(), marks.getvalue(), native.tobytes())

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        number = self._numbers.get(phext)
        if number is None:
            return None
        with self._env.begin() as txn:
            try:
                return self._read(txn, number + key)
            except StoreDamagedError as error:
                raise StoreDamagedError(f"{phext} {_text(key)}: {error}") from None

    def _read(self, txn: "lmdb.Transaction", place: bytes) -> StoredScroll | None:
        value = txn.get(place, db=self._states)
        state = None if value is None else _checked(bytes(value))
        log: list[LogEntry] = []
        for key, value in _scan(txn.cursor(db=self._logs), place):
            if int.from_bytes(key[16:], "big") != len(log):
                raise StoreDamagedError("an update is missing from its log")
            log.append(_read_entry(_checked(value)))
        return None if state is None and not log else StoredScroll(state, tuple(log))

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        number = self._numbers.get(phext)
        found: list[tuple[bytes, StoredScroll]] = []
        if number is None:
            return found
        end = None if upper is None else number + upper
        size = 0
        with self._env.begin() as txn:
            for place, _ in _scan(txn.cursor(db=self._heads), number, number + lower):
                if size >= bytes_max or (end is not None and place >= end):
                    break
                try:
                    scroll = self._read(txn, place)
                except StoreDamagedError:
                    continue
                if scroll is not None:
                    found.append((place[4:], scroll))
                    size += len(scroll.state or b"") + scroll.log_bytes
        return found

    def lease(self, phext: str) -> int | None:
        return self._leases.get(phext)

    def receipts(self) -> dict[bytes, bytes]:
        return self._receipts

    # -- writing ---------------------------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        numbers = dict(self._numbers)
        with _translated(self.folder), self._env.begin(write=True) as txn:
            writes = iter(batch.writes)
            # Many writes in one call: between calls a busy main thread would take the GIL.
            while some := list(islice(writes, _PAIRS_AT_ONCE)):
                for phext, _ in some:
                    if phext not in numbers:
                        numbers[phext] = len(numbers).to_bytes(4, "big")
                        txn.put(b"n" + phext.encode(), numbers[phext], db=self._meta)
                self._put(txn, [(numbers[phext] + write.key, write) for phext, write in some])
            for phext, client_id in batch.leases:
                txn.put(b"c" + phext.encode(), client_id.to_bytes(8, "big"), db=self._meta)
            for client, receipt in batch.receipts:
                key = b"r" + client.hex().encode()
                if receipt:
                    txn.put(key, receipt, db=self._meta)
                else:
                    txn.delete(key, db=self._meta)
        self._numbers = numbers
        self._leases.update(batch.leases)

    def _put(self, txn: "lmdb.Transaction", writes: list[tuple[bytes, ScrollWrite]]) -> None:
        heads: list[tuple[bytes, bytes]] = []
        states: list[tuple[bytes, bytes]] = []
        logs = txn.cursor(db=self._logs)
        for place, write in writes:
            head = _HEAD.pack(write.fingerprint, write.size)
            heads.append((place, head + xxhash.xxh3_64_digest(head)))
            sequence = 0
            if write.state is not None:
                states.append((place, write.state + xxhash.xxh3_64_digest(write.state)))
                logs.set_range(place)
                while bytes(logs.key()).startswith(place):
                    logs.delete()
            elif write.log:
                sequence = _log_length(logs, place)
            for i, entry in enumerate(write.log):
                value = _write_entry(entry)
                key = place + (sequence + i).to_bytes(4, "big")
                logs.put(key, value + xxhash.xxh3_64_digest(value))
        txn.cursor(db=self._heads).putmulti(heads)
        txn.cursor(db=self._states).putmulti(states)

    def quarantine(self, phext: str, key: bytes) -> None:
        number = self._numbers.get(phext)
        if number is None:
            return
        place = number + key
        with _translated(self.folder), self._env.begin(write=True) as txn:
            state = txn.get(place, db=self._states)
            logged = list(_scan(txn.cursor(db=self._logs), place))
            for suffix, value in [(b"state", state), *((k[16:], v) for k, v in logged)]:
                if value is not None:
                    txn.put(place + suffix, value, db=self._damaged)
            txn.delete(place, db=self._heads)
            txn.delete(place, db=self._states)
            for log_key, _ in logged:
                txn.delete(log_key, db=self._logs)

    def close(self, *, clean: bool) -> None:
        if clean:
            with _translated(self.folder), self._env.begin(write=True) as txn:
                txn.put(b"closed-at", _place(self.folder), db=self._meta)
        self._env.close()
        if clean:
            (self.folder / "in-use").unlink(missing_ok=True)
            _sync_folder(self.folder)
        _stores.discard(self)
        os.close(self._lock)


_stores: set[LmdbStore] = set()


def _let_go_of_all() -> None:
    for store in list(_stores):
        store.let_go()
    _stores.clear()


os.register_at_fork(after_in_child=_let_go_of_all)


# -- after a crash -------------------------------------------------------------------------


def walk(path: Path) -> str | None:
    """Read every page of the store in `path` in a child process; say what is wrong, or None."""
    size = (path / "data.mdb").stat().st_size
    if size % _PAGE_BYTES:
        return f"its file has {size} bytes, not whole pages of {_PAGE_BYTES}"
    done = _child("walk", path)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"reading it ended with signal {-done.returncode}"
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it cannot be read"


def salvage(damaged: Path, path: Path) -> int:
    """Copy the scrolls that can still be read into a new store; return their number.

    A child process does it, and it forks a worker that reads scroll by scroll: where a worker
    dies, the next one begins behind the scroll that killed it.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    done = _child("salvage", damaged, path)
    return int(done.stdout or 0)


def _child(command: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _CHILD, str(Path(__file__).parent), command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_WALK_TIMEOUT_S,
        check=False,
    )


def _open_damaged(path: Path) -> "lmdb.Environment":
    # Not readonly=False with lock: nothing may be written into what is being examined.
    return lmdb.open(
        os.fspath(path), map_size=_MAP_BYTES, max_dbs=8, readonly=True, lock=False, create=False
    )


def _walk_here(path: Path) -> None:
    env = _open_damaged(path)
    last_page = env.info()["last_pgno"]
    size = (path / "data.mdb").stat().st_size
    if size < (last_page + 1) * _PAGE_BYTES:
        raise StoreDamagedError(f"its file has {size} bytes of {(last_page + 1) * _PAGE_BYTES}")
    with env.begin() as txn:
        for name in (b"meta", b"heads", b"states", b"logs", b"damaged"):
            db = env.open_db(name, txn=txn, create=False)
            entries, before = 0, b""
            for key, value in txn.cursor(db=db):
                if key <= before and entries:
                    raise StoreDamagedError(f"keys out of order in {name.decode()}")
                entries, before = entries + 1, key
                if name != b"meta":
                    bytes(value)
            if entries != txn.stat(db)["entries"]:
                raise StoreDamagedError(
                    f"{name.decode()} has {entries} entries of {txn.stat(db)['entries']}"
                )


def _salvage_here(damaged: Path, path: Path) -> int:
    kept, after = 0, b""
    while True:
        reading, writing = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.close(reading)
            _salvage_from(damaged, path, after, writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as progress:
            lines = progress.read().split()
        _, status = os.waitpid(worker, 0)
        kept += sum(1 for line in lines if line.startswith(b"+"))
        tried = [line[1:] for line in lines if line.startswith(b"?")]
        if status == 0 or not tried or tried[-1] == after:
            return kept
        after = tried[-1]


def _salvage_from(damaged: Path, path: Path, after: bytes, progress: int) -> None:
    """Copy the scrolls behind `after`; write `?` and its key before each one, `+` behind it."""
    source = _open_damaged(damaged)
    target = lmdb.open(os.fspath(path), map_size=_MAP_BYTES, max_dbs=8, mode=0o600, sync=False)
    names = (b"meta", b"heads", b"states", b"logs")
    to = {name: target.open_db(name) for name in names}
    target.open_db(b"damaged")
    with source.begin() as txn:
        of = {name: source.open_db(name, txn=txn, create=False) for name in names}
        with target.begin(write=True) as out:
            for key, value in txn.cursor(db=of[b"meta"]):
                if key[:1] == b"n" or key == b"version":
                    out.put(key, value, db=to[b"meta"])
        start = bytes.fromhex(after.decode()) + b"\0" if after else b""
        for place, _ in _scan(txn.cursor(db=of[b"heads"]), b"", start):
            os.write(progress, b"?%s\n" % place.hex().encode())
            if _salvage_scroll(txn, target, of, to, place):
                os.write(progress, b"+%s\n" % place.hex().encode())
    target.sync(True)


def _salvage_scroll(
    txn: "lmdb.Transaction",
    target: "lmdb.Environment",
    of: "Mapping[bytes, lmdb._Database]",
    to: "Mapping[bytes, lmdb._Database]",
    place: bytes,
) -> bool:
    """Copy one scroll whose checksums hold; say whether they do."""
    head = bytes(txn.get(place, b"", db=of[b"heads"]))
    state = bytes(txn.get(place, b"", db=of[b"states"])) or None
    logged = list(_scan(txn.cursor(db=of[b"logs"]), place))
    for value in (head, *(() if state is None else (state,)), *(value for _, value in logged)):
        try:
            _checked(value)
        except StoreDamagedError:
            return False
    with target.begin(write=True) as out:
        out.put(place, head, db=to[b"heads"])
        if state is not None:
            out.put(place, state, db=to[b"states"])
        for key, value in logged:
            out.put(key, value, db=to[b"logs"])
    return True


# -- helpers -------------------------------------------------------------------------------


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


def _lock(folder: Path) -> int:
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
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {Path(sys.argv[0] or 'python').name}\n".encode(), 0)
    return descriptor


def _was_unclean(path: Path) -> bool:
    return (path.parent / "in-use").exists() and (path / "data.mdb").exists()


def _place(folder: Path) -> bytes:
    """Return what a copy of the folder, or the folder on another machine, does not have."""
    try:
        machine = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        machine = b""
    return b"%s:%d" % (machine, (folder / "store").stat().st_ino)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _translated:
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
                raise StoreError(f"{self._path}: {message}") from error
            case OSError():
                raise StoreError(f"{self._path}: {error.strerror}") from error


def _is_full(path: Path) -> bool:
    try:
        free = os.statvfs(path)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < _SPACE_BYTES_MIN


def _scan(
    cursor: "lmdb.Cursor", prefix: bytes, start: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over what begins with `prefix`, from `start` on."""
    for key, value in _from(cursor, start or prefix):
        if not key.startswith(prefix):
            return
        yield key, value


def _pieces(cursor: "lmdb.Cursor", prefix: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    """Iterate over what begins with `prefix`, many pairs at once: for passes over a million."""
    pairs = _from(cursor, prefix)
    while piece := list(islice(pairs, _PAIRS_AT_ONCE)):
        if not piece[-1][0].startswith(prefix):
            yield [pair for pair in piece if pair[0].startswith(prefix)]
            return
        yield piece


def _from(cursor: "lmdb.Cursor", start: bytes) -> Iterator[tuple[bytes, bytes]]:
    pairs = iter(cursor) if cursor.set_range(start) else iter(())
    return cast("Iterator[tuple[bytes, bytes]]", pairs)  # no transaction here gives out buffers


def _log_length(cursor: "lmdb.Cursor", place: bytes) -> int:
    """Return the number of entries in a scroll's log: sequence numbers begin at 0."""
    is_behind = cursor.set_range(place + b"\xff\xff\xff\xff")
    found = cursor.prev() if is_behind else cursor.last()
    if not found or not bytes(cursor.key()).startswith(place):
        return 0
    return int.from_bytes(bytes(cursor.key())[16:], "big") + 1


def _checked(value: bytes) -> bytes:
    body = value[:-_CHECKSUM_BYTES]
    if xxhash.xxh3_64_digest(body) != value[-_CHECKSUM_BYTES:]:
        raise StoreDamagedError("its bytes do not have their checksum")
    return body


def _write_entry(entry: LogEntry) -> bytes:
    return _LOG.pack(entry.time_ms, len(entry.origin)) + entry.origin + entry.update


def _read_entry(value: bytes) -> LogEntry:
    time_ms, origin_bytes = _LOG.unpack_from(value)
    start = _LOG.size + origin_bytes
    return LogEntry(value[start:], value[_LOG.size : start], time_ms)


def _text(key: bytes) -> str:
    try:
        return str(Coordinate.from_key(key))
    except ValueError:
        return key.hex()


def main(arguments: Iterable[str]) -> None:
    """What the child processes do; see `walk` and `salvage`."""
    match list(arguments):
        case ["walk", path]:
            _walk_here(Path(path))
        case ["salvage", damaged, path]:
            print(_salvage_here(Path(damaged), Path(path)))
