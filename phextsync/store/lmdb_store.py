"""LmdbStore: the contract of a store on a disk."""

import array
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb
import xxhash

from phextsync.errors import StoreDamagedError, StoreError
from phextsync.index import sealed_text
from phextsync.store import aside
from phextsync.store.contract import Batch, Heads, ScrollWrite, StoredScroll
from phextsync.store.cursors import PAIRS_AT_ONCE, batches, get, next_number, scan
from phextsync.store.durations import Durations
from phextsync.store.folder import (
    DATA_FILE,
    STORE,
    inode_of,
    lock_folder,
    reserve_lock_file,
    translated,
)
from phextsync.store.history_table import places_behind, put_history, read_pieces
from phextsync.store.leases import put_leases
from phextsync.store.opening import NAMED_MAX, Opening
from phextsync.store.rebuild import Databases, Progress
from phextsync.store.records import (
    DATABASES,
    HEAD,
    HEAD_BYTES,
    HEADS,
    HISTORY,
    KEPT,
    LOGS,
    META,
    NAMES,
    NOTES,
    PLACE_BYTES,
    STATES,
    add_content,
    content_of,
    coordinate_text,
    read_entry,
    seal,
    unseal,
    write_entry,
)
from phextsync.store.retention import NO_HISTORY, Retention
from phextsync.systems.forking import in_children
from phextsync.systems.resources import MAP_BYTES

_NOWHERE: Final = b"\xff" * 4  # the number of no phext


class _HistoryDamagedError(Exception):
    """LMDB did not take a history: the transaction has to go on without."""


class LmdbStore:
    """A store in a folder. StoreLockedError when another process owns it.

    Layout: `store.lock` names the owner; `store/data.mdb` has the databases that `records` lists;
    `closed` says how a clean stop left that file: see `opening`. `progress` is told how far a
    rebuild is. With a `clock`, `syncs` has how long the disk took for each batch.
    """

    is_fleeting = False

    def __init__(
        self,
        folder: Path | str,
        *,
        progress: Progress | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._translated = translated(self.folder)
        self.syncs = Durations()
        self.refused_history = False
        self._clock = clock
        self._data = self.folder / STORE / DATA_FILE
        self._opening = Opening(self.folder, progress)
        self._reports = self._opening.reports
        self._is_suspect = False  # damage was seen since the file was looked through
        self._lock = lock_folder(self.folder)
        try:
            with self._translated:
                self._open(keep_leases=self._opening.prepare())
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

    def _open(self, *, keep_leases: bool) -> None:
        reserve_lock_file(self.folder / STORE)
        self._env = lmdb.open(
            os.fsencode(self.folder / STORE),
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
        with self._env.begin() as txn:
            for key, value in scan(txn.cursor(db=self._dbs[META]), b""):
                body = unseal(META, key, value)
                match key[:1]:
                    case b"n":
                        self._numbers[key[1:].decode()] = body
                    case b"k":
                        self._counts[key[1:]] = int.from_bytes(body, "big")
                    case b"c":
                        self._leases[key[1:].decode()] = int.from_bytes(body, "big")
                    case b"r":
                        self._receipts[bytes.fromhex(key[1:].decode())] = body
                    case b"h":
                        self.history = Retention(*KEPT.unpack(body))
                    case b"p":  # sorted behind it
                        self.history = self.history.with_ranges(body)
        if self._leases and not keep_leases:
            # Gone from the disk too: the next clean stop must not vouch for them.
            with self._env.begin(write=True) as txn:
                for phext in self._leases:
                    txn.delete(b"c" + phext.encode(), db=self._dbs[META])
            self._leases.clear()

    def _report_waiting(self) -> None:
        """Name what earlier starts set aside and no peer has sent since."""
        names = {number: name for name, number in self._numbers.items()}
        with self._env.begin() as txn:
            places = [place for place in aside.missing(txn, self._dbs) if place[:4] in names]
        waiting = [f"{names[place[:4]]} {coordinate_text(place[4:])}" for place in places]
        told = {line.split(": ", 1)[0] for line in self._reports}
        untold = [name for name in waiting if name not in told]
        for name in untold[:NAMED_MAX]:
            self._reports.append(f"{name}: was set aside, and no peer has sent it again")
        if len(untold) > NAMED_MAX:
            self._reports.append(f"{len(untold) - NAMED_MAX} more scrolls were set aside")

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
        with self._translated, self._env.begin() as txn:
            for piece in batches(txn.cursor(db=self._dbs[HEADS]), number):
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
        with self._translated, self._env.begin() as txn:
            stored = {key[:PLACE_BYTES] for key, _ in self._contents(txn, number)}
            heads = {key for key, _ in scan(txn.cursor(db=self._dbs[HEADS]), number)}
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
        with self._translated, self._env.begin(write=True) as txn:
            self._set_count(txn, number, sound)
        self._counts[number] = sound

    def _contents(self, txn: "lmdb.Transaction", number: bytes) -> Iterator[tuple[bytes, bytes]]:
        for database in (STATES, LOGS):
            yield from scan(txn.cursor(db=self._dbs[database]), number)

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        number = self._numbers.get(phext)
        if number is None:
            return None
        try:
            with self._env.begin() as txn:
                return self._read(txn, number + key)
        except (StoreDamagedError, lmdb.Error) as error:
            raise StoreDamagedError(f"{phext} {coordinate_text(key)}: {error}") from None

    def text(self, phext: str, key: bytes) -> str | None:
        number = self._numbers.get(phext)
        if number is None:
            return None
        place = number + key
        try:
            txn = self._env.begin()
            try:
                head = txn.get(place, None, self._dbs[HEADS])
                state = txn.get(place, None, self._dbs[STATES])
            finally:
                txn.abort()
        except lmdb.Error:
            return None
        return sealed_text(place, head, state) if head and state else None

    def _read(self, txn: "lmdb.Transaction", place: bytes) -> StoredScroll | None:
        head = get(txn, place, self._dbs[HEADS])
        if head is None:
            return None
        state = get(txn, place, self._dbs[STATES])
        log = list(scan(txn.cursor(db=self._dbs[LOGS]), place))
        content = HEAD.unpack(unseal(HEADS, place, head))[2]
        if content != content_of(state, (value for _, value in log)):
            raise StoreDamagedError("its state or log is not the one that its head names")
        if state is None and not log:
            return None
        return StoredScroll(
            None if state is None else unseal(STATES, place, state),
            tuple(read_entry(unseal(LOGS, log_key, value)) for log_key, value in log),
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
        with self._translated, self._env.begin() as txn:
            for place, _ in scan(txn.cursor(db=self._dbs[HEADS]), number, number + lower):
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
        with self._translated, self._env.begin() as txn:
            return read_pieces(txn, self._dbs[HISTORY], place, oldest)

    def last_piece(self, phext: str, key: bytes) -> int:
        place = self._numbers.get(phext, _NOWHERE) + key
        with self._translated, self._env.begin() as txn:
            return next_number(txn.cursor(db=self._dbs[HISTORY]), place) - 1

    def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
        names = {number: name for name, number in self._numbers.items()}
        start = None if after is None else self._numbers[after[0]] + after[1]
        with self._translated, self._env.begin() as txn:
            places = places_behind(txn, self._dbs[HISTORY], start, count)
        return [(names[place[:4]], place[4:]) for place in places]

    def note(self, key: bytes) -> bytes:
        with self._translated, self._env.begin() as txn:
            value = get(txn, key, self._dbs[NOTES])
        try:
            return b"" if value is None else unseal(NOTES, key, value)
        except StoreDamagedError:
            self._is_suspect = True
            return b""

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with self._translated, self._env.begin() as txn:
            for key, value in scan(txn.cursor(db=self._dbs[NOTES]), prefix):
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
        with self._translated, self._env.begin(write=True) as txn:
            writes = iter(batch.writes)
            # Many writes in one call: between calls a busy main thread would take the GIL.
            while some := list(islice(writes, PAIRS_AT_ONCE)):
                for phext, _ in some:
                    if phext not in numbers:
                        self._number(txn, numbers, phext)
                self._put(
                    txn, counts, [(numbers[phext] + write.key, write) for phext, write in some]
                )
            for number in counts:
                if counts[number] != self._counts.get(number):
                    self._set_count(txn, number, counts[number])
            leases = put_leases(txn, self._dbs[META], self._leases, batch)
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
                    put_history(txn, self._dbs, numbers, batch, self.history)
                except lmdb.Error as error:
                    raise _HistoryDamagedError from error
            began_s = self._clock() if self._clock else 0.0
        if self._clock:
            self.syncs.add(self._clock() - began_s)
        # What a folder that was moved or replaced meanwhile has taken is not durable here.
        if inode_of(self._data) != self._inode:
            raise StoreError(f"{self._data} is not there any more: put the folder back")
        self._numbers, self._counts = numbers, counts
        self._leases = leases
        self.history = batch.kept or self.history

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
            if write.leaves:
                counts[place[:4]] = counts.get(place[:4], 0) - aside.take_out(txn, self._dbs, place)
                continue
            before = heads.get(place) or get(txn, place, self._dbs[HEADS])
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
                sequence = next_number(logs, place)
            for i, entry in enumerate(write.log):
                key = place + (sequence + i).to_bytes(4, "big")
                value = seal(LOGS, key, write_entry(entry))
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
        place, count = number + key, self._counts.get(number, 0)
        with self._translated, self._env.begin(write=True) as txn:
            if aside.move(txn, self._dbs, place) and count:
                count -= 1
                self._set_count(txn, number, count)
            txn.delete(b"c" + phext.encode(), db=self._dbs[META])
        self._counts[number] = count
        self._leases.pop(phext, None)

    def set_aside(self) -> list[tuple[str, bytes, tuple[bytes, ...], bool]]:
        """Return what was set aside: phext, key, the updates whose checksum is good, and whether
        that is every one that was there."""
        names = {number: name for name, number in self._numbers.items()}
        with self._translated, self._env.begin() as txn:
            found = aside.content(txn, self._dbs)
        return [
            (names[place[:4]], place[4:], updates, is_whole)
            for place, (updates, is_whole) in found.items()
            if place[:4] in names
        ]

    def drop_aside(self, phext: str, key: bytes) -> None:
        """Throw away what was set aside of a scroll."""
        with self._translated, self._env.begin(write=True) as txn:
            aside.drop(txn, self._dbs, self._numbers[phext] + key)

    def compact(self, progress: Progress | None = None) -> None:
        """Write the file again, without free pages. Client ids are new ones afterwards."""
        self._env.close()
        with self._translated:
            self._opening.compact(progress)
            self._open(keep_leases=False)

    def close(self, *, clean: bool) -> None:
        self._env.close()
        if clean and not self._is_suspect:
            with suppress(OSError):  # without the mark the next open looks closer, no more
                if inode_of(self._data) == self._inode:
                    self._opening.mark()
        _stores.discard(self)
        os.close(self._lock)


_stores: set[LmdbStore] = set()


def _let_go_of_all() -> None:
    while _stores:
        _stores.pop().let_go()


in_children(_let_go_of_all)
