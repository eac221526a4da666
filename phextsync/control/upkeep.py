"""Upkeep of a data folder: checking, repairing, backing up, restoring.

Checking and backing up read the file page by page, without LMDB, so that nothing in it can end
the process; both work while a node runs on the folder.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import BinaryIO

from phextsync.crdt import Fingerprinter, Scroll
from phextsync.durable_files import make_folder
from phextsync.errors import PhextsyncError, ScrollError, StoreDamagedError, StoreError, UpdateError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry
from phextsync.store.folder import (
    CLOSED,
    DATA_FILE,
    NEW,
    RESTORING,
    STORE,
    build_whole,
    check_on_disk,
    lock_folder,
    look,
    no_store,
    open_records,
    put_in_place,
    translated,
)
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.pages import HEAD_BYTES, is_head
from phextsync.store.rebuild import Progress, Rebuilt, rebuild
from phextsync.store.records import (
    HEAD,
    HEADS,
    PLACE_BYTES,
    Records,
    Stored,
    coordinate_text,
    is_coordinate,
    unseal,
    updates_of,
)
from phextsync.systems.renaming import rename_new
from phextsync.systems.syncing import sync_folder
from phextsync.texts import STATE_BYTES_MAX, too_large_state


@dataclass(frozen=True, slots=True)
class Findings:
    """What `check` found: sound scrolls that have text, `others` that are deleted or the library's
    own, and a line for each thing that is wrong."""

    scrolls: int
    others: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What `repair` did: a line for each thing; scrolls that wait for a peer, by name."""

    reports: tuple[str, ...]
    missing: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def check(folder: Path, progress: Progress | None = None) -> Findings:
    """Verify structure, checksums, that each scroll is one, and that heads tell the truth of it.
    Changes nothing; works while a node runs, and on a folder that cannot be written."""
    return look(folder, lambda records: _check(records, progress))


def _check(records: Records, progress: Progress | None) -> Findings:
    problems: list[str] = []
    counts: dict[bytes, int] = {}
    scrolls = others = 0
    records.check_pages()
    of = records.expected
    for done, stored in enumerate(records.scrolls(), 1):
        problem = stored.problem or _problem_of(records, stored)
        if problem:
            problems.append(f"{records.name(stored)}: {problem}")
        scrolls += not problem and records.is_users(stored)
        others += not problem and not records.is_users(stored)
        counts[stored.number] = counts.get(stored.number, 0) + 1
        if progress is not None and done % 1000 == 0:
            progress(done, max(done, of))
    for number, count in sorted(records.counts.items()):
        if count != counts.get(number, 0):
            name = records.names.get(number, number.hex())
            problems.append(f"{name} has {counts.get(number, 0)} scrolls of {count}")
    problems += _waiting(records)
    problems += _forgotten(records)
    return Findings(scrolls, others, (*records.problems, *problems))


def _problem_of(records: Records, stored: Stored) -> str:
    """Say what is wrong with a scroll whose checksums are good, "" for nothing."""
    assert stored.head is not None
    name = records.names.get(stored.number)
    if name is None:
        return "the name of its phext is lost"
    try:
        place = Coordinate.from_key(stored.key)
        updates = updates_of(stored)
        scroll = Scroll(place, 1, updates)
    except (ValueError, PhextsyncError) as error:
        return f"it is no scroll: {error}"
    fingerprint, size, _ = HEAD.unpack(unseal(HEADS, stored.place, stored.head))
    if (fingerprint, size) != (scroll.fingerprint(Fingerprinter(name)), scroll.size):
        return "its fingerprint or size is not that of its content"
    state_bytes = sum(map(len, updates))
    if state_bytes > STATE_BYTES_MAX and (state_bytes := len(scroll.state())) > STATE_BYTES_MAX:
        return too_large_state(state_bytes)
    return ""


def _waiting(records: Records) -> Iterator[str]:
    """Iterate over the scrolls that were set aside and did not come back."""
    aside = {key[:PLACE_BYTES] for key, _ in records.set_aside()}
    if not aside:
        return
    present = {stored.place for stored in records.scrolls() if stored.place in aside}
    for place in sorted(aside - present):
        name = records.names.get(place[:4], place[:4].hex())
        yield f"{name} {coordinate_text(place[4:])}: set aside, and no peer has sent it again"


def _forgotten(records: Records) -> Iterator[str]:
    """Iterate over the scrolls of whose history something is damaged."""
    damaged = (key[:PLACE_BYTES] for key, value in records.histories() if value is None)
    for place in dict.fromkeys(damaged):
        yield f"{records.place_name(place)}: a part of its history is damaged, not the scroll"


def repair(
    folder: Path,
    *,
    random: Random,
    now_ms: int,
    forget: bool = False,
    progress: Progress | None = None,
) -> Repaired:
    """Rebuild what can be: the file, heads from contents, scrolls from what was set aside.

    What cannot be stays set aside until a peer sends it, or is given up with `forget`.
    StoreLockedError while a node runs; StoreError where there is nothing to repair.
    """
    if not any((folder / name).exists() for name in (STORE, NEW, RESTORING)):
        raise no_store(folder)
    data = folder / STORE / DATA_FILE
    before = data.stat().st_size if data.exists() else 0
    reports = [f"{folder}: threw away a restore that was cut short"] * discard_restore(folder)
    store = LmdbStore(folder, progress=progress)
    reports += store.report
    try:
        replicas = ReplicaSet(store, node_id=b"", random=random, wall_time_ms=lambda: now_ms)
        for name in store.phexts():
            reports += _repair_phext(replicas, name)
        taken, missing = _take_back_all(replicas, store, now_ms, forget=forget)
        reports += taken
        store.compact(progress)
    finally:
        store.close(clean=True)
    return Repaired(tuple(reports), tuple(missing), before, data.stat().st_size)


def _repair_phext(replicas: ReplicaSet, name: str) -> list[str]:
    """Set aside what is no scroll, and write again the heads that do not fit."""
    replica, fingerprinter = replicas.open(name), Fingerprinter(name)
    reports = []
    for place in list(replica.index.coordinates(EVERYTHING)):
        try:
            stored = replicas.store.read(name, place.key)
            scroll = Scroll(place, 1, () if stored is None else stored.updates)
        except (StoreError, ScrollError, UpdateError) as error:
            replicas.store.quarantine(name, place.key)
            replica.index.remove(place)
            reports.append(f"{name} {place}: {error}; set aside")
            continue
        held = (replica.index.fingerprint_of(place), replica.index.size_of(place))
        if held != (scroll.fingerprint(fingerprinter), scroll.size):
            replica.rewrite(place)
            reports.append(f"{name} {place}: its head was written again, from its content")
    replicas.commit()
    return reports


def _take_back_all(
    replicas: ReplicaSet, store: LmdbStore, now_ms: int, *, forget: bool
) -> tuple[list[str], list[str]]:
    """Take back what was set aside; return what was done, and which scrolls are missing."""
    reports, missing = [], []
    for name, key, updates, is_whole in store.set_aside():
        place = f"{name} {coordinate_text(key)}"
        if is_coordinate(key):
            is_whole &= _take_back(replicas, name, key, updates, now_ms)
            is_there = Coordinate.from_key(key) in replicas.open(name).index
        else:
            is_there = False
        if is_there:
            rest = "" if is_whole else ", but for parts that only a peer can send again"
            reports.append(f"{place}: taken back from what was set aside{rest}")
        elif forget:
            reports.append(f"{place}: given up")
        else:
            missing.append(place)
            continue
        store.drop_aside(name, key)
    return reports, missing


def _take_back(
    replicas: ReplicaSet, name: str, key: bytes, updates: tuple[bytes, ...], now_ms: int
) -> bool:
    """Merge what was set aside into its scroll; say whether all of it took effect."""
    place, replica = Coordinate.from_key(key), replicas.open(name)
    covered = bool(updates)
    for update in updates:
        try:
            covered &= replica.apply(place, LogEntry(update, b"", now_ms)).covered
        except (UpdateError, ScrollError):
            covered = False
    replicas.commit()
    return covered


def backup(folder: Path, file: Path, progress: Progress | None = None) -> Rebuilt:
    """Copy the store of a data folder into a new file of mode 0600, whole or not at all.

    Works while a node runs there. Neither client ids nor the node's identity come along. Damaged
    scrolls do not either: they are in what is returned.
    """
    if file.exists():
        raise _exists(file)
    if not file.parent.is_dir():
        raise StoreError(f"expected a folder for {file.name}, found none at {file.parent}")
    partial_copy = file.with_name(f"{file.name}.partial")

    def copy(records: Records) -> Rebuilt:
        shutil.rmtree(partial_copy, ignore_errors=True)
        with translated(file):
            return rebuild(records, partial_copy, progress)

    try:
        rebuilt = look(folder, copy)
        with translated(file):
            _put_new(partial_copy / DATA_FILE, file)
            try:
                sync_folder(file.parent)
            except OSError:
                file.unlink()  # the next attempt finds none
                raise
    finally:
        shutil.rmtree(partial_copy, ignore_errors=True)
    return rebuilt


def _put_new(copy: Path, file: Path) -> None:
    """Give a copy its name, which another may have taken since."""
    try:
        rename_new(os.fspath(copy), os.fspath(file))
    except FileExistsError as error:
        raise _exists(file) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # there is no such call here
            raise
        os.rename(copy, file)


def _exists(file: Path) -> StoreError:
    return StoreError(f"{file} exists already: expected a new file")


def restore(
    file: Path, folder: Path, *, replace: bool = False, progress: Progress | None = None
) -> Rebuilt:
    """Put the store of a backup, or of any data file, into a data folder, where nobody runs: whole
    or not at all. What is no backup is refused before anything is made.

    A store that is there is refused, or, with `replace`, kept as `store.before-restore`. The node
    writes under new client ids: it does not know what was sent since the backup.
    """
    with _reading(file):
        pass
    make_folder(folder)
    lock = lock_folder(folder)
    try:
        check_on_disk(folder)
        if not replace and any((folder / name).exists() for name in (STORE, NEW)):
            raise StoreError(f"{folder} has a store: expected a folder without one, or --replace")
        if (folder / NEW).exists() and not (folder / STORE).exists():
            (folder / NEW).rename(folder / STORE)  # a rebuild was done but for this
        building = folder / RESTORING
        shutil.rmtree(building, ignore_errors=True)
        with translated(folder), _reading(file) as records:
            rebuilt = build_whole(building, lambda new: rebuild(records, new, progress))
        with translated(folder):
            (folder / CLOSED).unlink(missing_ok=True)
            put_in_place(folder, RESTORING, "store.before-restore")
    finally:
        os.close(lock)
    return rebuilt


def receive(source: BinaryIO, file: Path) -> None:
    """Write a backup that comes from elsewhere to a new file. StoreDamagedError where it does not
    begin as one: what is none may have no end. OSError as writing raises it."""
    head = source.read(HEAD_BYTES)
    if not is_head(head):
        raise StoreDamagedError("expected a backup on standard input, found something else")
    with file.open("xb") as written:
        written.write(head)
        shutil.copyfileobj(source, written)


@contextmanager
def _reading(file: Path) -> Iterator[Records]:
    """Open a backup. StoreDamagedError when it is none."""
    try:
        with open_records(file) as records:
            yield records
    except StoreDamagedError as error:
        raise StoreDamagedError(f"expected a backup, found {file}: {error}") from error


def discard_restore(folder: Path) -> bool:
    """Throw away what a restore left that was cut short; say whether there was anything."""
    lock = lock_folder(folder)
    try:
        left = folder / RESTORING
        is_there = left.exists()
        shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(lock)
    return is_there
