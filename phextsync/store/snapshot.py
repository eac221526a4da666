"""Snapshot: what a data folder holds at one moment, as a store that is only read.

Nothing is locked and nothing is written: any number of processes look at once, beside one that
writes, and on a file system that cannot be written. The file is read page by page (`pages`), so
that a damaged one ends no process; a value is taken only with its checksum.
"""

from array import array
from itertools import islice
from pathlib import Path
from typing import Final

from phextsync.errors import StoreDamagedError, StoreError
from phextsync.store.contract import Batch, Heads, StoredScroll
from phextsync.store.durations import Durations
from phextsync.store.folder import OpenData, translated
from phextsync.store.records import (
    HISTORY,
    HISTORY_KEPT,
    HISTORY_RANGES,
    KEPT,
    NOTES,
    PLACE_BYTES,
    Stored,
    behind,
    coordinate_text,
    scroll_of,
    unseal,
)
from phextsync.store.retention import NO_HISTORY, Retention

_WINDOW_SCROLLS: Final = 64
_WINDOW_BYTES: Final = 256 << 10
_PROBLEMS_SHOWN: Final = 3
_NOBODY: Final = b"\xff" * 4  # the number of no phext


class Snapshot:
    """The store of a folder, whose data file is `data`, as it is now; see `folder.OpenData` for
    `is_pinned` and `is_current`. `commit` is refused. Scrolls are read in windows, for passes in
    order."""

    def __init__(self, folder: Path, data: Path, *, is_pinned: bool = False) -> None:
        self.syncs = Durations()
        self.refused_history = self.is_fleeting = False
        self._folder = folder
        with translated(folder):
            self._data = OpenData(data, is_pinned=is_pinned)
        self._records = self._data.records
        self._numbers = {name: number for number, name in self._records.names.items()}
        self._gone: set[bytes] = set()  # places of damaged scrolls
        self._window: dict[bytes, Stored] = {}
        self._window_lower, self._window_upper = b"", b""
        self.history = self._retention()

    @property
    def report(self) -> tuple[str, ...]:
        """What is wrong with what was read so far, in a line; nothing if nothing is."""
        problems = self._records.problems
        if not problems:
            return ()
        what = "; ".join(problems[:_PROBLEMS_SHOWN])
        rest = len(problems) - _PROBLEMS_SHOWN
        more = f"; {rest} more, which `phextsync check` lists" if rest > 0 else ""
        return (
            f"{self._folder}: the store is damaged ({what}{more}); `phextsync repair` rebuilds it",
        )

    def is_current(self) -> bool:
        """Whether all that was read is of one moment."""
        return self._data.is_current()

    def _retention(self) -> Retention:
        kept = self._records.retention
        found = Retention(*KEPT.unpack(kept[HISTORY_KEPT])) if HISTORY_KEPT in kept else NO_HISTORY
        return found.with_ranges(kept[HISTORY_RANGES]) if HISTORY_RANGES in kept else found

    # -- scrolls ---------------------------------------------------------------------------

    def phexts(self) -> list[str]:
        return sorted(
            name
            for name, number in self._numbers.items()
            if next(self._records.heads(number), None) is not None
        )

    def heads(self, phext: str) -> Heads:
        number = self._number(phext)
        keys, fingerprints, sizes = [], [], array("I")
        for key, fingerprint, size in self._records.heads(number):
            if number + key not in self._gone:
                keys.append(key)
                fingerprints.append(fingerprint)
                sizes.append(size)
        return Heads(b"".join(keys), b"".join(fingerprints), sizes.tobytes())

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        place = self._number(phext) + key
        if not self._window_lower <= place < self._window_upper:
            self._load(place)
        stored = self._window.get(place)
        if stored is None or place in self._gone:
            return None
        if stored.problem:
            raise StoreDamagedError(f"{phext} {coordinate_text(key)}: {stored.problem}")
        return scroll_of(stored)

    def text(self, phext: str, key: bytes) -> str | None:
        return None

    def _load(self, place: bytes) -> None:
        """Read the scroll at a place, and some that follow."""
        self._window, size = {}, 0
        self._window_lower, self._window_upper = place, place[:4] + b"\xff" * 13
        for stored in self._records.scrolls(place, behind(place[:4])):
            if len(self._window) == _WINDOW_SCROLLS or size >= _WINDOW_BYTES:
                self._window_upper = stored.place
                return
            self._window[stored.place] = stored
            size += len(stored.state or b"") + sum(len(value) for _, value in stored.log)

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        number = self._number(phext)
        found: list[tuple[bytes, StoredScroll]] = []
        size = 0
        end = behind(number) if upper is None else number + upper
        for stored in self._records.scrolls(number + lower, end):
            if size >= bytes_max:
                break
            if not stored.problem and stored.place not in self._gone:
                found.append((stored.key, scroll_of(stored)))
                size += sum(map(len, found[-1][1].updates))
        return found

    def quarantine(self, phext: str, key: bytes) -> None:
        self._gone.add(self._number(phext) + key)

    def _number(self, phext: str) -> bytes:
        return self._numbers.get(phext, _NOBODY)

    # -- what goes with them ---------------------------------------------------------------

    def note(self, key: bytes) -> bytes:
        return dict(self.notes(key)).get(key, b"")

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return [(key, unseal(NOTES, key, value)) for key, value in self._records.notes(prefix)]

    def pieces(self, phext: str, key: bytes, *, oldest: int | None = None) -> dict[int, bytes]:
        place = self._number(phext) + key
        return {
            int.from_bytes(piece[PLACE_BYTES:], "big"): b""
            if value is None
            else unseal(HISTORY, piece, value)
            for piece, value in islice(self._records.histories(place, behind(place)), oldest)
        }

    def last_piece(self, phext: str, key: bytes) -> int:
        return max(self.pieces(phext, key), default=-1)

    def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
        start = b"" if after is None else self._number(after[0]) + after[1] + b"\xff" * 5
        places: dict[bytes, None] = {}
        for key, _ in self._records.histories(start):
            places[key[:PLACE_BYTES]] = None
            if len(places) > count:
                break
        names = self._records.names
        return [(names[p[:4]], p[4:]) for p in islice(places, count) if p[:4] in names]

    # -- what only who writes has ----------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        raise StoreError(f"{self._folder} was opened for reading alone")

    def lease(self, phext: str) -> int | None:
        return None

    def receipts(self) -> dict[bytes, bytes]:
        return {}

    def close(self, *, clean: bool) -> None:
        self._data.close()
