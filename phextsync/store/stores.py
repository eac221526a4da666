"""Store: what is durable. On disk (LMDB), and the same contract in memory.

Nothing here knows what an update or a coordinate means: keys are 12 bytes in the order of
coordinates, values are bytes. A store has one owner. `commit` may run in another thread than the
reads; each call begins and ends its own transaction, and no buffer leaves it.
"""

import array
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

import lmdb
import xxhash

from phextsync.durable_files import sync_folder, write_whole
from phextsync.errors import (
    StoreDamagedError,
    StoreError,
    StoreVersionError,
)
from phextsync.store.durations import Durations
from phextsync.store.folder import (
    BUILDING,
    CLOSED,
    DATA_FILE,
    FIRST,
    NEW,
    RESTORING,
    STORE,
    check_restored,
    inode_of,
    lock_folder,
    mark_of,
    open_records,
    put_in_place,
    reserve_lock_file,
    translated,
)
from phextsync.store.rebuild import MAP_BYTES, Databases, Progress, Rebuilt, create, rebuild
from phextsync.store.records import (
    DAMAGED,
    DATABASES,
    FORMAT_VERSION,
    HEAD,
    HEAD_BYTES,
    HEADS,
    HISTORY,
    HISTORY_KEPT,
    HISTORY_RANGES,
    KEPT,
    LOGS,
    META,
    NAMES,
    NOTES,
    PLACE_BYTES,
    STATE_SUFFIX,
    STATES,
    Records,
    Stored,
    add_content,
    content_of,
    coordinate_text,
    seal,
    unseal,
)
from phextsync.store.retention import NO_HISTORY, Retention

_LOG: Final = struct.Struct(">QB")
_PAIRS_AT_ONCE: Final = 1024
_NAMED_MAX: Final = 20
_REPLACED: Final = "store.replaced"
_LOST: Final = "lost.txt"
_BEHIND: Final = b"\xff" * 5  # after a place: behind all that is there
_NOWHERE: Final = b"\xff" * 4  # the number of no phext


class LogEntry(NamedTuple):
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
class HistoryPiece:
    """A part of what is kept of a scroll's past; an empty one is removed, and all with None."""

    phext: str
    key: bytes
    number: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that become durable together: scrolls by phext, and client ids by phext.

    A receipt says what of the changes that another process asked for is in this batch and those
    before it, by the process's id; an empty one removes it. A note is what another part of the
    library has to remember of what it did to scrolls; an empty one is removed.
    """

    writes: tuple[tuple[str, ScrollWrite], ...]
    leases: tuple[tuple[str, int], ...] = ()
    receipts: tuple[tuple[bytes, bytes], ...] = ()
    history: tuple[HistoryPiece, ...] = ()
    kept: Retention | None = None
    notes: tuple[tuple[bytes, bytes], ...] = ()


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
    """What a replica needs of a store. `syncs`: how long the disk took, where it is timed.
    `refused_history`: whether the last batch was written without its history and its setting."""

    syncs: Durations
    refused_history: bool

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
        """Make a batch durable, all or nothing but for `refused_history`. StoreFullError when the
        disk refuses."""

    def lease(self, phext: str) -> int | None:
        """Return the client id that this store may go on using, None when it needs a new one."""

    def receipts(self) -> dict[bytes, bytes]:
        """Return the receipts as they were when the store was opened."""

    def note(self, key: bytes) -> bytes:
        """Return a note, nothing when there is none, or when it is damaged."""

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return the notes whose key begins with `prefix`, in order, without damaged ones."""

    def quarantine(self, phext: str, key: bytes) -> None:
        """Set a damaged scroll aside: it is absent from now on. The phext's client id has written
        what is lost, and must not write again: its lease ends."""

    @property
    def history(self) -> Retention:
        """Where history is kept and for how long: settings of the folder."""

    def pieces(self, phext: str, key: bytes, *, oldest: int | None = None) -> dict[int, bytes]:
        """Return the pieces of a scroll's history by number, ascending, damaged ones empty;
        of many only some of the `oldest`."""

    def last_piece(self, phext: str, key: bytes) -> int:
        """Return the number of the newest piece of a scroll's history, -1 when it has none."""

    def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
        """Return phexts and keys of `count` scrolls that have a history, behind one of them, in an
        order of the store's own; fewer at the end."""

    def close(self, *, clean: bool) -> None:
        """Close. Only a clean close, after the last commit, lets client ids be used again."""


class MemoryStore:
    """A store that lasts as long as the object. `reopened` and `cloned` imitate a restart."""

    def __init__(self) -> None:
        self.report: tuple[str, ...] = ()
        self.syncs = Durations()
        self.refused_history = False
        self._scrolls: dict[str, dict[bytes, tuple[ScrollWrite, StoredScroll]]] = {}
        self._leases: dict[str, int] = {}
        self._receipts: dict[bytes, bytes] = {}
        self._notes: dict[bytes, bytes] = {}
        self._damaged: dict[tuple[str, bytes], None] = {}
        self._history: dict[tuple[str, bytes], dict[int, bytes]] = {}
        self.history = NO_HISTORY
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
        if (phext, key) in self._damaged:
            raise StoreDamagedError(
                f"{phext} {coordinate_text(key)}: its bytes do not have their checksum"
            )
        found = self._scrolls.get(phext, {}).get(key)
        return None if found is None else found[1]

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        found: list[tuple[bytes, StoredScroll]] = []
        size = 0
        for key, (_, scroll) in sorted(self._scrolls.get(phext, {}).items()):
            if (phext, key) in self._damaged:
                continue
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
                self._damaged.pop((phext, write.key), None)
            scrolls[write.key] = (write, StoredScroll(old.state, (*old.log, *write.log)))
        self._leases.update(batch.leases)
        self._receipts.update(batch.receipts)
        self._notes.update(batch.notes)
        self.history = batch.kept or self.history
        if batch.kept is not None:
            for place in [p for p in self._history if not batch.kept.of(*p).kept_ms]:
                del self._history[place]
        for piece in batch.history:
            if not self.history.of(piece.phext, piece.key).kept_ms:
                continue
            pieces = self._history.setdefault((piece.phext, piece.key), {})
            if piece.number is None:
                pieces.clear()
            elif piece.data:
                pieces[piece.number] = piece.data
            else:
                pieces.pop(piece.number, None)

    def pieces(self, phext: str, key: bytes, *, oldest: int | None = None) -> dict[int, bytes]:
        return dict(sorted(self._history.get((phext, key), {}).items())[:oldest])

    def last_piece(self, phext: str, key: bytes) -> int:
        return max(self._history.get((phext, key), ()), default=-1)

    def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
        places = sorted(place for place, pieces in self._history.items() if pieces)
        return [place for place in places if after is None or place > after][:count]

    def lease(self, phext: str) -> int | None:
        return self._leases.get(phext)

    def receipts(self) -> dict[bytes, bytes]:
        return {client: receipt for client, receipt in self._receipts.items() if receipt}

    def note(self, key: bytes) -> bytes:
        return self._notes.get(key, b"")

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((k, v) for k, v in self._notes.items() if v and k.startswith(prefix))

    def quarantine(self, phext: str, key: bytes) -> None:
        self._scrolls.get(phext, {}).pop(key, None)
        self._damaged.pop((phext, key), None)
        self._leases.pop(phext, None)

    def damage(self, phext: str, key: bytes) -> None:
        """Let what is stored of a scroll fail its checksum, until its state is written again."""
        self._damaged[phext, key] = None

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
        other._notes = dict(self._notes)
        other._damaged = dict(self._damaged)
        other._history = {place: dict(pieces) for place, pieces in self._history.items()}
        other.history = self.history
        return other


class _HistoryDamagedError(Exception):
    """LMDB did not take a history: the transaction has to go on without."""


class LmdbStore:
    """A store in a folder. StoreLockedError when another process owns it.

    Layout: `store.lock` names the owner; `store/data.mdb` has the databases that `records` lists;
    `closed` says how a clean stop left that file. It is removed before LMDB sees the file again,
    so whatever ends the process, even a damaged page, the next open finds it missing (or the file
    changed), reads the whole structure without LMDB, and rebuilds a file that is damaged.
    `progress` is told how far a rebuild is. With a `clock`, `syncs` has how long the disk took to
    write each batch and wait for it.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        progress: Progress | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.syncs = Durations()
        self.refused_history = False
        self._clock = clock
        self._data = self.folder / STORE / DATA_FILE
        self._reports: list[str] = []
        self._is_suspect = False  # damage was seen since the file was looked through
        self._lock = lock_folder(self.folder)
        try:
            with translated(self.folder):
                is_as_left = self._prepare(progress)
                self._open(keep_leases=is_as_left)
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

    # -- opening ---------------------------------------------------------------------------

    def _prepare(self, progress: Progress | None) -> bool:
        """See to it that there is a sound file of today's format; say whether it is exactly as a
        clean stop left it."""
        path, first = self.folder / STORE, self.folder / FIRST
        check_restored(self.folder)
        if (self.folder / NEW).exists() and not path.exists():
            (self.folder / NEW).rename(path)  # a rebuild was done but for this
        if (self.folder / RESTORING).exists():
            self._reports.append(f"{self.folder}: a restore was cut short; nothing has changed")
        for name in (NEW, FIRST, BUILDING, RESTORING, _REPLACED):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        if not path.exists():
            create(first, is_durable=True)[0].close()
            sync_folder(first)
            first.rename(path)
            sync_folder(self.folder)
        if not self._data.exists():
            self._begin_anew("it has no data file")
            return False
        try:
            with open_records(self._data) as records:
                return self._inspect(records, progress)
        except StoreDamagedError as error:
            self._begin_anew(str(error))
            return False
        except StoreVersionError as error:
            raise StoreVersionError(f"{self.folder}: {error}") from None

    def _inspect(self, records: Records, progress: Progress | None) -> bool:
        is_as_left = self._unmark()
        if not is_as_left:
            records.check_pages()
        if records.problems or records.version != FORMAT_VERSION:
            self._rebuild(records, progress)
            return False
        return is_as_left

    def _unmark(self) -> bool:
        """Remove the mark of a clean stop; say whether it was there and fits the file."""
        mark = self.folder / CLOSED
        is_as_left = mark.exists() and mark.read_bytes() == mark_of(self._data)
        mark.unlink(missing_ok=True)
        sync_folder(self.folder)
        return is_as_left

    def _begin_anew(self, problem: str) -> None:
        aside = self._replace(lambda new: create(new, is_durable=True)[0].close(), "store.damaged")
        self._reports.append(
            f"{self.folder}: the store cannot be read ({problem}); it was set aside as "
            f"{aside.name}, its scrolls come back from peers"
        )

    def _rebuild(self, records: Records, progress: Progress | None) -> None:
        """Put a new file in the place of one that is damaged or of an older format."""
        rebuilt: list[Rebuilt] = []
        is_damaged = bool(records.problems)
        stem = "store.damaged" if is_damaged else f"store.format-{records.version}"
        aside = self._replace(lambda new: rebuilt.append(rebuild(records, new, progress)), stem)
        (done,) = rebuilt
        if is_damaged:
            what = f"was damaged ({'; '.join(records.problems[:3])})"
        else:
            what = f"was upgraded from format {records.version} to {FORMAT_VERSION}"
            (self.folder / "in-use").unlink(missing_ok=True)  # the mark of format 1
        self._reports.append(
            f"{self.folder}: the store {what}; {done.scrolls + done.others} scrolls were taken "
            f"over, the old one is kept as {aside.name}"
        )
        self._report_lost(done, aside)

    def _report_lost(self, rebuilt: Rebuilt, aside: Path) -> None:
        if not rebuilt.lost and rebuilt.unnamed == 0:
            return
        write_whole(aside / _LOST, "".join(f"{line}\n" for line in rebuilt.lost).encode())
        for line in rebuilt.lost[:_NAMED_MAX]:
            self._reports.append(f"{line}; set aside, to be fetched again from a peer")
        if len(rebuilt.lost) > _NAMED_MAX:
            more = len(rebuilt.lost) - _NAMED_MAX
            self._reports.append(f"{more} more scrolls were set aside: see {aside / _LOST}")
        if rebuilt.unnamed != 0:
            count = "any number of" if rebuilt.unnamed is None else str(rebuilt.unnamed)
            self._reports.append(f"{count} scrolls could not even be named; peers send them again")

    def _replace(self, build: Callable[[Path], object], stem: str) -> Path:
        """Build a store, put it in the place of the present one, and return where that one is."""
        build(self.folder / BUILDING)
        return put_in_place(self.folder, BUILDING, stem)

    def _open(self, *, keep_leases: bool) -> None:
        reserve_lock_file(self.folder / STORE)
        self._env = lmdb.open(
            os.fspath(self.folder / STORE),
            map_size=MAP_BYTES,
            max_dbs=8,
            mode=0o600,
            lock=True,
            readahead=False,
            max_spare_txns=4,
        )
        try:
            self._env.reader_check()
            self._dbs: Databases = {name: self._env.open_db(name) for name in DATABASES}
            self._numbers: dict[str, bytes] = {}
            self._counts: dict[bytes, int] = {}
            self._leases: dict[str, int] = {}
            self._receipts: dict[bytes, bytes] = {}
            self.history = NO_HISTORY
            self._load_meta(keep_leases=keep_leases)
            self._report_waiting()
            self._inode = inode_of(self._data)
        except BaseException:
            self._env.close()
            raise

    def _load_meta(self, *, keep_leases: bool) -> None:
        leases: list[bytes] = []
        with self._env.begin() as txn:
            for key, value in _scan(txn.cursor(db=self._dbs[META]), b""):
                body = unseal(META, key, value)
                match key[:1]:
                    case b"n":
                        self._numbers[key[1:].decode()] = body
                    case b"k":
                        self._counts[key[1:]] = int.from_bytes(body, "big")
                    case b"c":
                        leases.append(key)
                        self._leases[key[1:].decode()] = int.from_bytes(body, "big")
                    case b"r":
                        self._receipts[bytes.fromhex(key[1:].decode())] = body
                    case b"h":
                        self.history = Retention(*KEPT.unpack(body))
                    case b"p":  # sorted behind it
                        self.history = self.history.with_ranges(body)
        if leases and not keep_leases:
            # Gone from the disk too: the next clean stop must not vouch for them.
            self._leases.clear()
            with self._env.begin(write=True) as txn:
                for key in leases:
                    txn.delete(key, db=self._dbs[META])

    def _report_waiting(self) -> None:
        """Name what earlier starts set aside and no peer has sent since."""
        names = {number: name for name, number in self._numbers.items()}
        waiting: dict[str, None] = {}
        with self._env.begin() as txn:
            for key, _ in _scan(txn.cursor(db=self._dbs[DAMAGED]), b""):
                place = key[:PLACE_BYTES]
                if place[:4] in names and _get(txn, place, self._dbs[HEADS]) is None:
                    waiting[f"{names[place[:4]]} {coordinate_text(place[4:])}"] = None
        told = {line.split(": ", 1)[0] for line in self._reports}
        untold = [name for name in waiting if name not in told]
        for name in untold[:_NAMED_MAX]:
            self._reports.append(f"{name}: was set aside, and no peer has sent it again")
        if len(untold) > _NAMED_MAX:
            self._reports.append(f"{len(untold) - _NAMED_MAX} more scrolls were set aside")

    # -- reading ---------------------------------------------------------------------------

    def phexts(self) -> list[str]:
        return sorted(name for name, number in self._numbers.items() if self._counts.get(number))

    def heads(self, phext: str) -> Heads:
        number = self._numbers.get(phext)
        if number is None:
            return Heads(b"", b"", b"")
        keys, marks, sizes = BytesIO(), BytesIO(), BytesIO()
        damaged: list[bytes] = []
        found = 0
        digest, seed = xxhash.xxh3_64_digest, xxhash.xxh3_64_intdigest
        with translated(self.folder), self._env.begin() as txn:
            for piece in _pieces(txn.cursor(db=self._dbs[HEADS]), number):
                whole = [
                    pair
                    for pair in piece
                    if digest(pair[1][:HEAD_BYTES], seed=seed(HEADS + pair[0]))
                    == pair[1][HEAD_BYTES:]
                ]
                if len(whole) < len(piece):
                    damaged += sorted({key for key, _ in piece} - {key for key, _ in whole})
                found += len(whole)
                keys.write(b"".join([key[4:] for key, _ in whole]))
                marks.write(b"".join([value[:32] for _, value in whole]))
                sizes.write(b"".join([value[32:36] for _, value in whole]))
        if found != self._counts.get(number, 0):
            self._set_headless_aside(phext, number, damaged, found)
        native = array.array("I", sizes.getvalue())
        if sys.byteorder == "little":
            native.byteswap()
        return Heads(keys.getvalue(), marks.getvalue(), native.tobytes())

    def _set_headless_aside(
        self, phext: str, number: bytes, damaged: list[bytes], sound: int
    ) -> None:
        """Set aside what has no sound head, and say what it is: nobody else would miss it."""
        with translated(self.folder), self._env.begin() as txn:
            stored = {key[:PLACE_BYTES] for key, _ in self._contents(txn, number)}
            heads = {key for key, _ in _scan(txn.cursor(db=self._dbs[HEADS]), number)}
        headless = sorted({*damaged, *(stored - heads)})
        for place in headless:
            self._reports.append(
                f"{phext} {coordinate_text(place[4:])}: its head is damaged; set aside, to be "
                "fetched again from a peer"
            )
            self.quarantine(phext, place[4:])
        missing = self._counts.get(number, 0) - sound - (len(headless) - len(damaged))
        if missing:
            self._reports.append(
                f"{phext}: {abs(missing)} scrolls could not even be named; peers send them again"
            )
        with translated(self.folder), self._env.begin(write=True) as txn:
            self._set_count(txn, number, sound)
        self._counts[number] = sound

    def _contents(self, txn: "lmdb.Transaction", number: bytes) -> Iterator[tuple[bytes, bytes]]:
        for database in (STATES, LOGS):
            yield from _scan(txn.cursor(db=self._dbs[database]), number)

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        number = self._numbers.get(phext)
        if number is None:
            return None
        try:
            with self._env.begin() as txn:
                return self._read(txn, number + key)
        except (StoreDamagedError, lmdb.Error) as error:
            raise StoreDamagedError(f"{phext} {coordinate_text(key)}: {error}") from None

    def _read(self, txn: "lmdb.Transaction", place: bytes) -> StoredScroll | None:
        head = _get(txn, place, self._dbs[HEADS])
        if head is None:
            return None
        state = _get(txn, place, self._dbs[STATES])
        log = list(_scan(txn.cursor(db=self._dbs[LOGS]), place))
        content = HEAD.unpack(unseal(HEADS, place, head))[2]
        if content != content_of(state, (value for _, value in log)):
            raise StoreDamagedError("its state or log is not the one that its head names")
        if state is None and not log:
            return None
        return StoredScroll(
            None if state is None else unseal(STATES, place, state),
            tuple(_read_entry(unseal(LOGS, log_key, value)) for log_key, value in log),
        )

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        number = self._numbers.get(phext)
        found: list[tuple[bytes, StoredScroll]] = []
        if number is None:
            return found
        end = None if upper is None else number + upper
        size = 0
        with translated(self.folder), self._env.begin() as txn:
            for place, _ in _scan(txn.cursor(db=self._dbs[HEADS]), number, number + lower):
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

    def pieces(self, phext: str, key: bytes, *, oldest: int | None = None) -> dict[int, bytes]:
        place = self._numbers.get(phext, _NOWHERE) + key
        pieces: dict[int, bytes] = {}
        with translated(self.folder), self._env.begin() as txn:
            stored = _scan(txn.cursor(db=self._dbs[HISTORY]), place)
            for piece_key, value in islice(stored, oldest):
                number = int.from_bytes(piece_key[PLACE_BYTES:], "big")
                try:
                    pieces[number] = unseal(HISTORY, piece_key, value)
                except StoreDamagedError:
                    pieces[number] = b""
        return pieces

    def last_piece(self, phext: str, key: bytes) -> int:
        place = self._numbers.get(phext, _NOWHERE) + key
        with translated(self.folder), self._env.begin() as txn:
            return _next_number(txn.cursor(db=self._dbs[HISTORY]), place) - 1

    def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
        names = {number: name for name, number in self._numbers.items()}
        start = b"" if after is None else self._numbers[after[0]] + after[1] + _BEHIND
        places: list[bytes] = []
        with translated(self.folder), self._env.begin() as txn:
            cursor = txn.cursor(db=self._dbs[HISTORY])
            while len(places) < count and cursor.set_range(start):
                places.append(bytes(cursor.key())[:PLACE_BYTES])
                start = places[-1] + _BEHIND
        return [(names[place[:4]], place[4:]) for place in places]

    def note(self, key: bytes) -> bytes:
        with translated(self.folder), self._env.begin() as txn:
            value = _get(txn, key, self._dbs[NOTES])
        try:
            return b"" if value is None else unseal(NOTES, key, value)
        except StoreDamagedError:
            self._is_suspect = True
            return b""

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with translated(self.folder), self._env.begin() as txn:
            for key, value in _scan(txn.cursor(db=self._dbs[NOTES]), prefix):
                try:
                    found.append((key, unseal(NOTES, key, value)))
                except StoreDamagedError:
                    self._is_suspect = True
        return found

    # -- writing ---------------------------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        self.refused_history = False
        try:
            self._commit(batch)
        except _HistoryDamagedError:
            # No reason to lose a write. The next open looks at all pages, and saves the others.
            self._is_suspect = True
            self._commit(replace(batch, history=(), kept=None))
            self.refused_history = True

    def _commit(self, batch: Batch) -> None:
        numbers, counts = dict(self._numbers), dict(self._counts)
        with translated(self.folder), self._env.begin(write=True) as txn:
            writes = iter(batch.writes)
            # Many writes in one call: between calls a busy main thread would take the GIL.
            while some := list(islice(writes, _PAIRS_AT_ONCE)):
                for phext, _ in some:
                    if phext not in numbers:
                        self._number(txn, numbers, phext)
                self._put(
                    txn, counts, [(numbers[phext] + write.key, write) for phext, write in some]
                )
            for number in counts:
                if counts[number] != self._counts.get(number):
                    self._set_count(txn, number, counts[number])
            for phext, client_id in batch.leases:
                key = b"c" + phext.encode()
                txn.put(key, seal(META, key, client_id.to_bytes(8, "big")), db=self._dbs[META])
            for client, receipt in batch.receipts:
                key = b"r" + client.hex().encode()
                if receipt:
                    txn.put(key, seal(META, key, receipt), db=self._dbs[META])
                else:
                    txn.delete(key, db=self._dbs[META])
            for key, note in batch.notes:
                if note:
                    txn.put(key, seal(NOTES, key, note), db=self._dbs[NOTES])
                else:
                    txn.delete(key, db=self._dbs[NOTES])
            if batch.kept or batch.history:
                try:
                    self._put_history(txn, numbers, batch)
                except lmdb.Error as error:
                    raise _HistoryDamagedError from error
            began_s = self._clock() if self._clock else 0.0
        if self._clock:
            self.syncs.add(self._clock() - began_s)
        # What a folder that was moved or replaced meanwhile has taken is not durable here.
        if inode_of(self._data) != self._inode:
            raise StoreError(f"{self._data} is not there any more: put the folder back")
        self._numbers, self._counts = numbers, counts
        self._leases.update(batch.leases)
        self.history = batch.kept or self.history

    def _put_history(
        self, txn: "lmdb.Transaction", numbers: dict[str, bytes], batch: Batch
    ) -> None:
        kept, database = batch.kept or self.history, self._dbs[HISTORY]
        if batch.kept is not None:
            body = KEPT.pack(kept.kept_ms, kept.began_ms)
            for key, data in ((HISTORY_KEPT, body), (HISTORY_RANGES, kept.encode_ranges())):
                txn.put(key, seal(META, key, data), db=self._dbs[META])
            self._forget(txn, numbers, kept)
        for piece in batch.history:
            if not kept.of(piece.phext, piece.key).kept_ms:
                continue
            place = numbers[piece.phext] + piece.key
            if piece.number is None:
                for key, _ in list(_scan(txn.cursor(db=database), place)):
                    txn.delete(key, db=database)
                continue
            key = place + piece.number.to_bytes(4, "big")
            if piece.data:
                txn.put(key, seal(HISTORY, key, piece.data), db=database)
            else:
                txn.delete(key, db=database)

    def _forget(self, txn: "lmdb.Transaction", numbers: dict[str, bytes], kept: Retention) -> None:
        """Remove what is stored where nothing is kept."""
        database = self._dbs[HISTORY]
        if not kept.is_kept:
            txn.drop(database, delete=False)
            return
        cursor = txn.cursor(db=database)
        for phext, number in numbers.items():
            for lower, upper in kept.gaps(phext):
                is_there = cursor.set_range(number + lower)
                while is_there:
                    place = bytes(cursor.key())
                    if place[:4] != number or (upper is not None and place[4:] >= upper):
                        break
                    is_there = cursor.delete()

    def _number(self, txn: "lmdb.Transaction", numbers: dict[str, bytes], phext: str) -> None:
        """Give a phext its number."""
        number = 1 + max((int.from_bytes(n, "big") for n in numbers.values()), default=-1)
        numbers[phext] = number.to_bytes(4, "big")
        key, name = b"n" + phext.encode(), phext.encode()
        txn.put(key, seal(META, key, numbers[phext]), db=self._dbs[META])
        txn.put(numbers[phext], seal(NAMES, numbers[phext], name), db=self._dbs[NAMES])

    def _set_count(self, txn: "lmdb.Transaction", number: bytes, count: int) -> None:
        key = b"k" + number
        txn.put(key, seal(META, key, count.to_bytes(8, "big")), db=self._dbs[META])

    def _put(
        self,
        txn: "lmdb.Transaction",
        counts: dict[bytes, int],
        writes: list[tuple[bytes, ScrollWrite]],
    ) -> None:
        heads: dict[bytes, bytes] = {}
        states: list[tuple[bytes, bytes]] = []
        logs = txn.cursor(db=self._dbs[LOGS])
        for place, write in writes:
            before = heads.get(place) or _get(txn, place, self._dbs[HEADS])
            if before is None:
                counts[place[:4]] = counts.get(place[:4], 0) + 1
            content, sequence = 0, 0
            if write.state is not None:
                states.append((place, seal(STATES, place, write.state)))
                content = add_content(0, states[-1][1])
                logs.set_range(place)
                while bytes(logs.key()).startswith(place):
                    logs.delete()
            elif before is not None:
                content = HEAD.unpack(unseal(HEADS, place, before))[2]
                sequence = _next_number(logs, place)
            for i, entry in enumerate(write.log):
                key = place + (sequence + i).to_bytes(4, "big")
                value = seal(LOGS, key, _write_entry(entry))
                content = add_content(content, value)
                logs.put(key, value)
            head = HEAD.pack(write.fingerprint, write.size, content)
            heads[place] = seal(HEADS, place, head)
        txn.cursor(db=self._dbs[HEADS]).putmulti(list(heads.items()))
        txn.cursor(db=self._dbs[STATES]).putmulti(states)

    def quarantine(self, phext: str, key: bytes) -> None:
        number = self._numbers.get(phext)
        if number is None:
            return
        self._is_suspect = True
        place = number + key
        count = self._counts.get(number, 0)
        with translated(self.folder), self._env.begin(write=True) as txn:
            state = txn.get(place, db=self._dbs[STATES])
            logged = list(_scan(txn.cursor(db=self._dbs[LOGS]), place))
            aside = [(place, seal(DAMAGED, place, b"")), (place + STATE_SUFFIX, state), *logged]
            for aside_key, value in aside:
                if value is not None:
                    txn.put(aside_key, value, db=self._dbs[DAMAGED])
            if txn.delete(place, db=self._dbs[HEADS]) and count:
                count -= 1
                self._set_count(txn, number, count)
            txn.delete(place, db=self._dbs[STATES])
            for log_key, _ in logged:
                txn.delete(log_key, db=self._dbs[LOGS])
            txn.delete(b"c" + phext.encode(), db=self._dbs[META])
        self._counts[number] = count
        self._leases.pop(phext, None)

    def set_aside(self) -> list[tuple[str, bytes, tuple[bytes, ...], bool]]:
        """Return what was set aside: phext, key, the updates whose checksum is good, and whether
        that is every one that was there."""
        names = {number: name for name, number in self._numbers.items()}
        found: dict[bytes, list[bytes]] = {}
        cut: set[bytes] = set()
        with translated(self.folder), self._env.begin() as txn:
            for key, value in _scan(txn.cursor(db=self._dbs[DAMAGED]), b""):
                place = key[:PLACE_BYTES]
                updates = found.setdefault(place, [])
                if key == place:
                    continue
                try:
                    if key[PLACE_BYTES:] == STATE_SUFFIX:
                        updates.insert(0, unseal(STATES, place, value))
                    else:
                        updates.append(_read_entry(unseal(LOGS, key, value)).update)
                except StoreDamagedError:
                    cut.add(place)
        return [
            (names[place[:4]], place[4:], tuple(updates), place not in cut)
            for place, updates in found.items()
            if place[:4] in names
        ]

    def drop_aside(self, phext: str, key: bytes) -> None:
        """Throw away what was set aside of a scroll."""
        place = self._numbers[phext] + key
        with translated(self.folder), self._env.begin(write=True) as txn:
            for aside_key, _ in list(_scan(txn.cursor(db=self._dbs[DAMAGED]), place)):
                txn.delete(aside_key, db=self._dbs[DAMAGED])

    def compact(self, progress: Progress | None = None) -> None:
        """Write the file anew, without free pages. Client ids are new ones afterwards."""
        self._env.close()
        with translated(self.folder):
            with open_records(self._data) as records:
                aside = self._replace(lambda new: rebuild(records, new, progress), _REPLACED)
            shutil.rmtree(aside)
            self._open(keep_leases=False)

    def close(self, *, clean: bool) -> None:
        self._env.close()
        if clean:
            # Without the mark the next open looks closer, no more: a full disk is no failure.
            with suppress(OSError):
                self._mark()
        _stores.discard(self)
        os.close(self._lock)

    def _mark(self) -> None:
        """Say in `closed` how the data file was left."""
        if self._is_suspect or inode_of(self._data) != self._inode:
            return
        write_whole(self.folder / CLOSED, mark_of(self._data))


_stores: set[LmdbStore] = set()


def _let_go_of_all() -> None:
    for store in list(_stores):
        store.let_go()
    _stores.clear()


os.register_at_fork(after_in_child=_let_go_of_all)


def updates_of(stored: Stored) -> tuple[bytes, ...]:
    """Return the updates that together make a scroll of `Records`."""
    return scroll_of(stored).updates


def scroll_of(stored: Stored) -> StoredScroll:
    """Return a scroll of `Records` that is sound."""
    state = None if stored.state is None else unseal(STATES, stored.place, stored.state)
    log = tuple(_read_entry(unseal(LOGS, key, value)) for key, value in stored.log)
    return StoredScroll(state, log)


# -- helpers -------------------------------------------------------------------------------


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


def _get(txn: "lmdb.Transaction", key: bytes, database: "lmdb._Database") -> bytes | None:
    return cast("bytes | None", txn.get(key, db=database))  # as above


def _next_number(cursor: "lmdb.Cursor", place: bytes) -> int:
    """Return the number behind those that what lies at a place has; they begin at 0."""
    is_behind = cursor.set_range(place + b"\xff\xff\xff\xff")
    found = cursor.prev() if is_behind else cursor.last()
    if not found or not bytes(cursor.key()).startswith(place):
        return 0
    return int.from_bytes(bytes(cursor.key())[16:], "big") + 1


def _write_entry(entry: LogEntry) -> bytes:
    return _LOG.pack(entry.time_ms, len(entry.origin)) + entry.origin + entry.update


def _read_entry(value: bytes) -> LogEntry:
    time_ms, origin_bytes = _LOG.unpack_from(value)
    start = _LOG.size + origin_bytes
    return LogEntry(value[start:], value[_LOG.size : start], time_ms)
