"""Opening: makes sure that a folder has a sound data file, before LMDB sees it.

`closed` says how a clean stop left the file. It is removed before LMDB sees the file again, so
no matter what ends the process, even a damaged page, the next open finds it missing (or the file
changed), reads the whole structure without LMDB, and rebuilds a file that is damaged.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from phextsync.durable_files import write_whole
from phextsync.errors import StoreDamagedError, StoreError, StoreVersionError
from phextsync.mounts import is_network, kind_of
from phextsync.store.folder import (
    BUILDING,
    CLOSED,
    DATA_FILE,
    FIRST,
    NEW,
    RESTORING,
    STORE,
    build_whole,
    check_on_disk,
    check_restored,
    mark_of,
    open_records,
    put_in_place,
)
from phextsync.store.rebuild import Progress, Rebuilt, create, rebuild
from phextsync.store.records import FORMAT_VERSION, Records
from phextsync.systems.syncing import sync_folder

NAMED_MAX: Final = 20
"""So many scrolls are reported by name; of more, how many there are."""

_REPLACED: Final = "store.replaced"
_LOST: Final = "lost.txt"


class Opening:
    """What is done to the files of a folder that this process owns, and to be reported of it.
    `progress` is told how far a rebuild is."""

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.reports: list[str] = []
        self._folder = folder
        self._data = folder / STORE / DATA_FILE
        self._progress = progress

    def prepare(self) -> bool:
        """See to it that there is a sound file of today's format; say whether it is exactly as a
        clean stop left it."""
        path, first = self._folder / STORE, self._folder / FIRST
        check_on_disk(self._folder)
        _check_local(self._folder)
        check_restored(self._folder)
        if (self._folder / NEW).exists() and not path.exists():
            (self._folder / NEW).rename(path)  # a rebuild was done but for this
        if (self._folder / RESTORING).exists():
            self.reports.append(f"{self._folder}: a restore was cut short; nothing has changed")
        elif (self._folder / NEW).exists():
            self.reports.append(
                f"{self._folder}: a restore or rebuild was cut short; nothing has changed"
            )
        for name in (NEW, FIRST, BUILDING, RESTORING, _REPLACED):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        if not path.exists():
            build_whole(first, lambda new: create(new, is_durable=True)[0].close())
            sync_folder(first)
            first.rename(path)
            sync_folder(self._folder)
        if not self._data.exists():
            self._begin_again("it has no data file")
            return False
        try:
            with open_records(self._data) as records:
                return self._inspect(records)
        except StoreDamagedError as error:
            self._begin_again(str(error))
            return False
        except StoreVersionError as error:
            raise StoreVersionError(f"{self._folder}: {error}") from None

    def _inspect(self, records: Records) -> bool:
        is_as_left = self._unmark()
        if not is_as_left:
            records.check_pages()
        if records.problems or records.version != FORMAT_VERSION:
            self._rebuild(records)
            return False
        return is_as_left

    def _unmark(self) -> bool:
        """Remove the mark of a clean stop; say whether it was there and fits the file."""
        mark = self._folder / CLOSED
        is_as_left = mark.is_file() and mark.read_bytes() == mark_of(self._data)
        mark.unlink(missing_ok=True)
        sync_folder(self._folder)
        return is_as_left

    def _begin_again(self, problem: str) -> None:
        aside = self._replace(lambda new: create(new, is_durable=True)[0].close(), "store.damaged")
        self.reports.append(
            f"{self._folder}: the store cannot be read ({problem}); it was set aside as "
            f"{aside.name}, its scrolls come back from peers, or by `phextsync restore BACKUP "
            "--replace`"
        )

    def _rebuild(self, records: Records) -> None:
        """Put a new file in the place of one that is damaged or of an older format."""
        rebuilt: list[Rebuilt] = []
        is_damaged = bool(records.problems)
        stem = "store.damaged" if is_damaged else f"store.format-{records.version}"
        aside = self._replace(
            lambda new: rebuilt.append(rebuild(records, new, self._progress)), stem
        )
        (done,) = rebuilt
        if is_damaged:
            what = f"was damaged ({'; '.join(records.problems[:3])})"
        else:
            what = f"was upgraded from format {records.version} to {FORMAT_VERSION}"
            (self._folder / "in-use").unlink(missing_ok=True)  # the mark of format 1
        self.reports.append(
            f"{self._folder}: the store {what}; {done.scrolls + done.others} scrolls were taken "
            f"over, the old one is kept as {aside.name}"
        )
        self._report_lost(done, aside)

    def _report_lost(self, rebuilt: Rebuilt, aside: Path) -> None:
        if not rebuilt.lost and rebuilt.unnamed == 0:
            return
        write_whole(aside / _LOST, "".join(f"{line}\n" for line in rebuilt.lost).encode())
        for line in rebuilt.lost[:NAMED_MAX]:
            self.reports.append(f"{line}; set aside, to be fetched again from a peer")
        if len(rebuilt.lost) > NAMED_MAX:
            more = len(rebuilt.lost) - NAMED_MAX
            self.reports.append(f"{more} more scrolls were set aside: see {aside / _LOST}")
        if rebuilt.unnamed != 0:
            count = "any number of" if rebuilt.unnamed is None else str(rebuilt.unnamed)
            self.reports.append(f"{count} scrolls could not even be named; peers send them again")

    def _replace(self, build: Callable[[Path], object], stem: str) -> Path:
        """Build a store, put it in the place of the present one, and return where that one is."""
        build_whole(self._folder / BUILDING, build)
        return put_in_place(self._folder, BUILDING, stem)

    def compact(self, progress: Progress | None = None) -> None:
        """Write the file again, without free pages."""
        with open_records(self._data) as records:
            aside = self._replace(lambda new: rebuild(records, new, progress), _REPLACED)
        shutil.rmtree(aside)

    def mark(self) -> None:
        """Say in `closed` how the data file was left."""
        write_whole(self._folder / CLOSED, mark_of(self._data))


def _check_local(folder: Path) -> None:
    """StoreError where LMDB's file would lie on a file system over a network: what one machine maps
    into memory is not what another one wrote."""
    kind = kind_of(folder)
    if is_network(kind):
        raise StoreError(
            f"expected a data folder on a local disk, found {folder} on {kind}: name one with "
            "--data, where bound directories may stay as they are; or, without a disk, `phextsync "
            "up --data-in-memory` keeps no scroll and asks peers"
        )
