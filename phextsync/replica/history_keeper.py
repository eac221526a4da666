"""HistoryKeeper: which of the history beside the scrolls is kept, and for how long.

It is written in the same batches as the scrolls, and nothing here may stop one of these: what is
damaged begins again.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from phextsync.crdt import merge_updates
from phextsync.errors import PhextsyncError, StoreError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.phext_names import checked_name
from phextsync.replica.past import FOREVER
from phextsync.replica.pieces import Changes, first_pieces, fold, prune
from phextsync.replica.views import Range, as_range
from phextsync.store.contract import HistoryPiece, LogEntry, Store
from phextsync.store.retention import Retention

# With each batch that folds a log, as many histories are looked at: what is too old goes in turn.
_LOOKED_AT: Final = 4


class HistorySetting(NamedTuple):
    """How long history is kept in a range of a phext, in milliseconds (0: it is not), or, with
    None, in the whole folder."""

    phext: str | None
    range: CoordinateRange
    kept_ms: int


class _Setting(NamedTuple):
    """What was asked for, as `Retention.changed` takes it."""

    kept_ms: int | None
    where: tuple[str, bytes, bytes | None] | None


class HistoryKeeper:
    """The settings of history of one node, and what each batch does to what is kept.

    `wake` is called when the next batch has something to do here.
    """

    def __init__(
        self,
        store: Store,
        *,
        now_ms: Callable[[], int],
        report: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._report = report
        self._wake = wake
        self._settings: list[_Setting] = []  # for the next batch
        self._taken_settings: list[_Setting] = []
        self._pieces: list[HistoryPiece] = []
        self._taken_pieces: tuple[HistoryPiece, ...] = ()
        self._retention: Retention | None = None  # what the settings of the batch taken last are
        self._is_setting_refused = False
        self._looked_at: tuple[str, bytes] | None = None  # the scroll whose history was, last
        self._is_looking = False
        # Histories that begin again with the next fold.
        self._damaged: set[tuple[str, bytes]] = set()

    # -- settings --------------------------------------------------------------------------

    @property
    def retention(self) -> Retention:
        """Where history is kept and for how long, with what was set and is not yet durable."""
        retention = self._retention or self._store.history
        for setting in self._settings:
            retention = retention.changed(*setting, self._now_ms())
        return retention

    @property
    def kept_ms(self) -> int:
        """How long history is kept in this folder where no range has a setting of its own, in
        milliseconds; 0: it is not."""
        return self.retention.kept_ms

    def settings(self) -> list[HistorySetting]:
        """Return how long history is kept: first in the whole folder, then in ranges."""
        retention = self.retention
        rows = [HistorySetting(None, EVERYTHING, retention.kept_ms)]
        for phext, lower, upper, kept_ms in retention.ranges:
            end = None if upper is None else Coordinate.from_key(upper)
            range_ = CoordinateRange(Coordinate.from_key(lower), end)
            rows.append(HistorySetting(phext, range_, kept_ms))
        return rows

    def keep(
        self,
        kept_ms: int | None,
        phext: str | None = None,
        range_: Range = EVERYTHING,
        *,
        unless_set: bool = False,
    ) -> None:
        """Let the next batch set how long history is kept: in a range of a phext, or, without
        `phext`, in this folder where no range has a setting. Where the smallest range that has
        one says 0, what is kept is forgotten. None removes the setting of a range.

        To set what is set changes nothing; `unless_set` leaves a range alone that has a setting.
        PhextsyncError for a time, a phext or a range that cannot be.
        """
        if kept_ms is not None and not 0 <= kept_ms <= FOREVER:
            raise PhextsyncError(f"expected milliseconds from 0 to {FOREVER}, found {kept_ms}")
        if phext is not None:
            checked_name(phext)
        if phext is None and (kept_ms is None or not as_range(range_).is_everything):
            raise PhextsyncError("expected a time for the whole folder, or a phext and a range")
        where = None if phext is None else (phext, *as_range(range_).to_keys())
        before = self.retention
        if unless_set and any(row.where == where for row in before.ranges):
            return
        retention = before.changed(kept_ms, where, self._now_ms())
        if retention == before:
            return
        self._settings.append(_Setting(kept_ms, where))
        self._is_setting_refused = False
        self._looked_at = None
        self._is_looking = retention.is_kept
        self._wake()

    # -- batches ---------------------------------------------------------------------------

    @property
    def is_changed(self) -> bool:
        """Whether there is a setting that no batch has taken yet."""
        return bool(self._settings)

    @property
    def has_work(self) -> bool:
        """Whether the next batch has something to do here, apart from what else it has."""
        return self.is_changed or self._is_looking

    def take_settings(self) -> None:
        """A batch is taken; its writes come under what is set now. `take_pieces` must follow."""
        self._retention = self.retention if self._settings else None
        self._taken_settings, self._settings = self._settings, []

    @property
    def taken(self) -> Retention | None:
        """What the batch taken last sets, None when it sets nothing."""
        return self._retention

    def take_pieces(self) -> tuple[HistoryPiece, ...]:
        """Return what the batch does to what is kept; `written` or `refused` must follow."""
        if self._pieces or self._is_looking:
            self._look_at_some()
        # Those of a batch that fails are made again: its scrolls are folded again.
        self._taken_pieces, self._pieces = tuple(self._pieces), []
        return self._taken_pieces

    def written(self, *, is_refused: bool) -> None:
        """The batch taken last is durable, but for its history when that `is_refused`."""
        if is_refused:
            self._was_refused()
        self._taken_settings, self._retention = [], None
        self._taken_pieces = ()
        if self._is_looking:
            self._wake()

    def refused(self) -> None:
        """The batch taken last was refused: its settings come with the next."""
        self._settings = [*self._taken_settings, *self._settings]
        self._taken_settings, self._retention = [], None
        self._damaged |= {(p.phext, p.key) for p in self._taken_pieces if p.number is None}

    def keeps(self, phext: str, key: bytes) -> bool:
        """Whether history of a scroll is kept in the batch taken last."""
        return (self._retention or self._store.history).of(phext, key).kept_ms > 0

    def check(self) -> None:
        """StoreError when the store did not take the last setting."""
        if self._is_setting_refused:
            self._is_setting_refused = False
            raise StoreError(
                "the setting of history could not be written, since what is stored of history is "
                "damaged: repair the folder, and set it again"
            )

    def _was_refused(self) -> None:
        """The batch taken last is durable but for its history."""
        self._is_setting_refused = bool(self._taken_settings)
        self._is_looking = False
        # What was only to be forgotten stays as it was.
        lost = [p for p in self._taken_pieces if p.number is None or (p.number and p.data)]
        for phext, key in sorted({(piece.phext, piece.key) for piece in lost}):
            self._damaged.add((phext, key))
            place = Coordinate.from_key(key)
            self._report(f"{phext} {place}: a part of its history could not be written")

    def folded(
        self, phext: str, key: bytes, news: tuple[LogEntry, ...], state: bytes, *, is_other: bool
    ) -> None:
        """The log of a scroll, and `news` that were to follow in it, are in its new `state`, which
        is another, not one that builds on them, with `is_other`."""
        now_ms = self._now_ms()
        kept = (self._retention or self._store.history).of(phext, key)
        if kept.kept_ms:
            pieces = first_pieces(state, now_ms)
            if not is_other and (phext, key) not in self._damaged:
                with suppress(StoreError):  # the next reader of the scroll sees to that
                    stored, last = self._store.read(phext, key), self._store.last_piece(phext, key)
                    pieces = fold(stored, last, news, now_ms, kept.began_ms)
            self._damaged.discard((phext, key))
            self._keep_pieces(phext, key, pieces)

    def left(self, phext: str, key: bytes) -> None:
        """A scroll leaves this node with the batch taken last, and its history with it."""
        self._damaged.discard((phext, key))
        self._pieces.append(HistoryPiece(phext, key, None, b""))

    def _look_at_some(self) -> None:
        """Look whether something is to be forgotten of the next few histories in turn."""
        retention, now_ms = self._retention or self._store.history, self._now_ms()
        beginning = {(piece.phext, piece.key) for piece in self._pieces if piece.number is None}
        folding = {(piece.phext, piece.key) for piece in self._pieces}
        is_looking, self._is_looking = self._is_looking, False  # not on and on where it cannot
        with suppress(StoreError):
            places = self._store.histories(self._looked_at, _LOOKED_AT)
            self._looked_at = places[-1] if len(places) == _LOOKED_AT else None
            self._is_looking = is_looking and self._looked_at is not None
            for place in places:
                if place not in beginning:
                    pieces = self._store.pieces(*place, oldest=_LOOKED_AT)
                    if all(pieces.values()):
                        self._keep_pieces(
                            *place, prune(pieces, now_ms - retention.of(*place).kept_ms)
                        )
                    elif place in folding:
                        self._damaged.add(place)
                    else:
                        self._begin_anew(*place, now_ms)
            for place in sorted(self._damaged - folding)[:_LOOKED_AT]:
                self._damaged.discard(place)
                self._begin_anew(*place, now_ms)

    def _begin_anew(self, phext: str, key: bytes, now_ms: int) -> None:
        """Forget a history that is damaged."""
        stored = self._store.read(phext, key)
        state = None if stored is None else merge_updates(stored.updates)
        self._keep_pieces(phext, key, {None: b""} if state is None else first_pieces(state, now_ms))
        self._report(
            f"{phext} {Coordinate.from_key(key)}: its history was damaged, and begins again"
        )

    def _keep_pieces(self, phext: str, key: bytes, pieces: Changes) -> None:
        self._pieces += [HistoryPiece(phext, key, number, data) for number, data in pieces.items()]
