"""Replica: one phext as a mapping of coordinates to texts, over an index and a store.

Edits take effect at once in memory; `ReplicaSet` gathers them into batches that a store makes
durable. The index holds what is durable and nothing else, so that two replicas compare only what
neither can lose. What a user holds is a replica and a coordinate, never a document: there is one
document for one scroll, opened on demand, pinned while it has changes that are not yet durable,
and closed when open documents exceed their budget.

Sans-IO but for the store. Used in one thread.
"""

import heapq
import sys
from collections import deque
from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    MutableMapping,
    Sequence,
    ValuesView,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from phextsync.crdt import (
    IMPORTED_VERSION_BYTES_MAX,
    ROOT,
    Fingerprinter,
    Scroll,
    check_text,
    client_clocks,
    import_update,
    merge_updates,
)
from phextsync.edits import Edit
from phextsync.errors import (
    PermissionDeniedError,
    PhextsyncError,
    ScrollError,
    StoreDamagedError,
)
from phextsync.index import (
    EMPTY_VERSION,
    EVERYTHING,
    Coordinate,
    CoordinateRange,
    OpenText,
    OpenTexts,
    check_update,
    clean_update,
    clock_of,
    fits,
    plain_text,
    update_clock,
    update_version,
)
from phextsync.phext_names import PHEXTS_MAX, is_phext_name
from phextsync.replica.changes import (
    COORDINATES_MAX,
    TEXTS_MAX,
    Change,
    ChangeFeed,
    TextChange,
    current_author,
    current_session,
    current_writer,
    writing_as,
)
from phextsync.replica.durability import Durability
from phextsync.replica.history_keeper import HistoryKeeper, HistorySetting
from phextsync.replica.listener import Listeners, NewUpdate, ReplicaListener
from phextsync.replica.past import (
    BlamedLine,
    DeletedScroll,
    LoggedChange,
    Past,
    Version,
    has_text,
    newest_first,
    to_restore,
)
from phextsync.replica.views import Bounds, Key, Range, RangeView, as_coordinate, as_range
from phextsync.store.contract import LogEntry, ScrollWrite, Store, StoredScroll
from phextsync.trust.permissions import UNRESTRICTED, Permissions, contains

# An open document costs about 6 KiB before its text, which Yrs and the cached string both hold.
_OPEN_SCROLL_BYTES: Final = 6144
_OPEN_TEXT_BYTES: Final = 256  # what a text costs that is kept without a document
# A log is folded into the state when it outgrows half of it: a scroll never occupies more than
# one and a half times its state, and each byte is rewritten about twice.
_LOG_SHARE: Final = 2
_LOG_BYTES_MIN: Final = 4096
_LOG_ENTRY_BYTES: Final = 64  # what an entry costs besides its update
# Who opens a scroll looks at no more scrolls that cannot be closed: all may be such.
_PINNED_MAX: Final = 8
_REPORTS_MAX: Final = 100
# What one step of a search for what was deleted looks at: some milliseconds.
_WALKED_MAX: Final = 1024
_PASTS_MAX: Final = 64
_PASTS_BYTES: Final = 1 << 20
_NOTHING: Final = b"\0"  # a state vector

CLIENTS: Final = ".clients"
"""The phext that says which node wrote under which client id: one line a scroll."""


class Merged(NamedTuple):
    """What became of a peer's update: all of it took effect; the text changed."""

    covered: bool
    changed: bool


class _Open(OpenText):
    """An open document, and what its state and log occupy in the store."""

    __slots__ = ("log_bytes", "scroll", "state_bytes")

    def __init__(self, scroll: Scroll, state_bytes: int = 0, log_bytes: int = 0) -> None:
        self.scroll = scroll
        self.state_bytes = state_bytes
        self.log_bytes = log_bytes
        self.used = True


@dataclass(slots=True)
class _Pending:
    """What is not yet durable of a scroll: a state that replaces the stored one, log entries.

    A state that no document was made of brings its fingerprint, the size of its text, and its
    entry, which a log has in its place where history is kept. `is_other`: it does not build on the
    state that is stored.
    """

    log: list[LogEntry] = field(default_factory=list)
    rewrite: bool = False
    is_other: bool = False
    state: bytes | None = None
    entry: LogEntry | None = None
    fingerprint: bytes = b""
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Subscriber:
    range: CoordinateRange
    callback: Callable[[Change], None]
    wants_texts: bool


class Replica(OpenTexts[RangeView], MutableMapping[Key, str]):
    """This node's copy of one phext, given by `ReplicaSet.phext`.

    Keys are coordinates or their texts; a missing or empty scroll is a `KeyError`, a text that
    names no coordinate a CoordinateError, any other key a TypeError. Setting a scroll changes it by
    a minimal difference, so concurrent changes merge; deleting clears it. Edits raise TextError for
    what no scroll can hold, TypeError for what is no text, PermissionDeniedError, StoreFullError;
    reads StoreDamagedError: `docs/reference/phext.md` has all of it.
    `LOWER:UPPER` and ranges give views. Used in one thread, as all that it gives, but for
    `glance`. `replica[key]` is compiled, in `OpenTexts`.
    """

    def __init__(self, name: str, owner: "ReplicaSet") -> None:
        self.name = name
        heads = owner.store.heads(name)
        self.index.bulk_load(heads.keys, heads.fingerprints, heads.sizes)
        self.index.sketch_strata()  # from now on it follows every change: no session has to wait
        self._owner = owner
        self._fingerprinter = Fingerprinter(name)
        self._client_id = owner.store.lease(name)
        self._is_client_noted = self._client_id is not None
        self._fresh: dict[Coordinate, _Open] = {}  # open scrolls that the index does not know yet
        self._pending: dict[Coordinate, _Pending] = {}
        self._committing: dict[Coordinate, _Pending] = {}
        self._subscribers: dict[int, _Subscriber] = {}
        self._subscriptions = 0
        self._before: dict[Coordinate, str] = {}  # texts before changes not yet published
        self._before_size = 0
        self._collected: dict[Coordinate, str] | None = None  # changed in this batch, by whom
        self._is_split = False
        self._step = 0  # what is undone together has one number
        self._histories: dict[Coordinate, dict[str, int]] = {}  # how many of each author
        self._turn = 0  # counts the moves between pending, committing and the store

    # -- the mapping -----------------------------------------------------------------------

    def fetch(self, key: Key | Bounds | CoordinateRange) -> str | RangeView:
        """Return a view, or a text that is not there to be taken: its scroll is closed, or was
        changed. Where the text can be told without a document, none is made."""
        if isinstance(key, slice | CoordinateRange):
            return self.within(key)
        coordinate = as_coordinate(key)
        stored = None
        if self._is_settled(coordinate) and self._opened(coordinate) is None:
            stored = self._read_stored(coordinate)
            text = _plain_text(stored)
            if text:
                return self._keep_text(coordinate, text.decode())
        opened = self._open(coordinate, stored)
        if opened is None or not opened.scroll.text:
            raise KeyError(key)
        opened.used = True
        opened.text = opened.scroll.text
        return opened.text

    def glance(self, key: Key) -> str | None:
        """Return the text of a closed scroll, "" when it has none, without opening it.

        For any thread while another uses the replica, as long as the store stays open. None: only
        the replica's own thread can tell, since the scroll is open or on its way to the store.
        """
        coordinate, turn = as_coordinate(key), self._turn
        if (
            coordinate in self._pending
            or coordinate in self._committing
            or coordinate in self._fresh
            or self.is_open(coordinate)
        ):
            return None
        text: bytes | None = b""
        if coordinate in self.index:
            try:
                stored = self._owner.store.read(self.name, coordinate.key)
            except StoreDamagedError:
                return None
            text = None if stored is None else _plain_text(stored)
        return None if text is None or turn != self._turn else text.decode()

    def __setitem__(self, key: Key, text: str) -> None:
        self.edit(key, text)

    def __delitem__(self, key: Key | Bounds | CoordinateRange) -> None:
        if isinstance(key, slice | CoordinateRange):
            self.clear(as_range(key))
            return
        if self.size(key) == 0:
            raise KeyError(key)
        self.clear_scroll(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Coordinate | str) and self.size(key) > 0

    def __len__(self) -> int:
        unsettled = self._unsettled()
        return self.index.filled + sum(
            (self.size(c) > 0) - (self.index.size_of(c) > 0) for c in unsettled
        )

    def __iter__(self) -> Iterator[Coordinate]:
        return self.coordinates()

    def within(self, range_: Range | Bounds) -> RangeView:
        """Return the scrolls in `range_` as a mapping of its own, which follows this one."""
        return RangeView(self, as_range(range_))

    def items(self, range_: Range = EVERYTHING) -> ItemsView[Key, str]:
        """Return coordinates and texts in `range_`, in order; reading them opens no documents."""
        return self.within(range_).items()

    def keys(self, range_: Range = EVERYTHING) -> KeysView[Key]:
        """Return the coordinates in `range_` whose scroll has text, in order."""
        return self.within(range_).keys()

    def values(self, range_: Range = EVERYTHING) -> ValuesView[str]:
        """Return the texts in `range_`, in order; reading them opens no documents."""
        return self.within(range_).values()

    def clear(self, range_: Range = EVERYTHING) -> None:
        """Clear every scroll in `range_`, as one batch."""
        with self.batch():
            for coordinate in list(self.coordinates(range_)):
                self.clear_scroll(coordinate)

    def count(self, range_: Range = EVERYTHING) -> int:
        """Return how many scrolls in `range_` have text."""
        return sum(1 for _ in self.coordinates(range_))

    def coordinates(self, range_: Range = EVERYTHING) -> Iterator[Coordinate]:
        """Iterate in order over the coordinates in `range_` whose scroll has text."""
        range_ = as_range(range_)
        unsettled = {c for c in self._unsettled() if c in range_}
        settled = (c for c in self.index.coordinates(range_, filled=True) if c not in unsettled)
        return heapq.merge(settled, sorted(c for c in unsettled if self.size(c)))

    def scrolls(self, range_: Range = EVERYTHING) -> Iterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls in `range_` that have text, as of the call.

        For passes over many: scrolls that are closed stay closed, unless they were edited.
        """
        for coordinate in list(self.coordinates(range_)):
            text = self.read(coordinate)
            if text:
                yield coordinate, text

    def read(self, coordinate: Coordinate) -> str:
        """Return the scroll's text, "" when there is none. For passes over many: a scroll that is
        closed stays closed, unless it was edited, and one that is damaged, which is set aside and
        reported, does not end the pass."""
        kept: OpenText | None = self.index.get(coordinate)
        if kept is not None and kept.text is not None:
            return kept.text
        try:
            state = self._plain_state(coordinate)
            text = None if state is None else plain_text(state)
            return self.get(coordinate, "") if text is None else text.decode()
        except StoreDamagedError:
            return ""

    def size(self, key: Key) -> int:
        """Return the bytes of the scroll's text in UTF-8, 0 when there is none. Opens nothing."""
        coordinate = as_coordinate(key)
        opened = self._opened(coordinate)
        if opened is not None:
            return opened.scroll.size
        pending = self._pending.get(coordinate) or self._committing.get(coordinate)
        return self.index.size_of(coordinate) if pending is None else pending.size

    # -- edits -----------------------------------------------------------------------------

    def edit(self, key: Key, text: str) -> None:
        """Make `text` the scroll's text by a minimal difference against what is there."""
        self._edit(key, lambda scroll: scroll.edit(text))

    def merge(self, key: Key, base: str, text: str) -> None:
        """Do what made `text` of `base`, which the scroll's text was when somebody read it.

        For whoever edits apart: another process, a file. What came since stays, and to do the
        same twice changes nothing the second time. With `base` the text as it is, it is `edit`.
        """
        self._edit(key, lambda scroll: scroll.edit_from(base, text))

    def splice(self, key: Key, edits: Sequence[Edit]) -> None:
        """Do `edits` (start, stop, replacement), ascending, to the text as it is."""
        self._edit(key, lambda scroll: scroll.splice(edits))

    def check_allowed(self, key: Key) -> None:
        """PermissionDeniedError when this node may not edit there."""
        self._owner.check_allowed(self.name, as_coordinate(key))

    def replace(self, key: Key, old: str, new: str, count: int | None = 1) -> None:
        """Replace the `count` places in which exactly `old` stands (None: all, at least one).
        TextError says how many were found if there are more or fewer."""
        self._edit(key, lambda scroll: scroll.replace(old, new, count))

    def insert(self, key: Key, offset: int, text: str) -> None:
        """Insert `text` before character `offset`."""
        self._edit(key, lambda scroll: scroll.insert(offset, text))

    def delete(self, key: Key, start: int, stop: int) -> None:
        """Delete the characters from `start` to `stop`, `stop` excluded."""
        self._edit(key, lambda scroll: scroll.delete(start, stop))

    def append(self, key: Key, text: str) -> None:
        """Add `text` at the end of the scroll."""
        self._edit(key, lambda scroll: scroll.append(text))

    def clear_scroll(self, key: Key) -> None:
        """Delete the scroll's whole text; what others type meanwhile survives."""
        self._edit(key, lambda scroll: scroll.clear())

    def import_text(
        self, key: Key, text: str, *, version_bytes_max: int = IMPORTED_VERSION_BYTES_MAX
    ) -> None:
        """Make `text` the scroll's text such that equal imports on equal versions are one.

        Two nodes that import the same text into the same version of a scroll make the same
        update, so that their copies merge into one. The price: it is one insertion for all, and
        each import adds about 20 bytes to the scroll's version for ever. A scroll whose version
        has more than `version_bytes_max` is edited instead, as by `edit`.
        """
        coordinate = as_coordinate(key)
        if self._is_known(coordinate):
            self._edit(coordinate, lambda scroll: scroll.import_text(text, version_bytes_max))
        elif text:
            self._owner.durability.check_writable()
            self._owner.check_allowed(self.name, coordinate)
            self._owner.check_room(self.name)
            check_text(text)
            self.import_unknown(coordinate, text)

    def import_unknown(self, coordinate: Coordinate, text: str) -> None:
        """Import into a scroll that is not known here, also while the store refuses writes: for
        what the library has to note itself."""
        self._keep_before(coordinate)
        update = import_update(coordinate.key, text)
        entry = self._owner.stamp(update)
        self._set_state(coordinate, entry, update_version(update), text.encode())
        self._owner.announce(NewUpdate(self.name, coordinate, entry, None))
        self._publish_own(coordinate)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make the changes inside one commit, one `Change` and one step to undo.

        A batch inside a batch is part of it. What was done before an error stays done. It must
        not be held across an `await`: a RuntimeError at its end says that it was, if a part of
        it was committed by then.
        """
        if self._collected is not None:
            yield
            return
        self._collected = {}
        self._step += 1
        try:
            yield
        finally:
            collected, self._collected = self._collected, None
            for writer in dict.fromkeys(collected.values()):
                self.publish(tuple(c for c in collected if collected[c] == writer), None, writer)
            is_split, self._is_split = self._is_split, False
        if is_split:
            raise RuntimeError("a batch was held across an await: a part of it was committed first")

    def history(self, key: Key, writer: str | None = None) -> "History":
        """Remember from now on what `writer` (None: the current one, see `writing_as`) does to a
        scroll, so that it can be undone, until the history is closed."""
        coordinate = as_coordinate(key)
        return History(self, coordinate, current_writer() if writer is None else writer)

    # -- the past --------------------------------------------------------------------------

    def log(self, key: Key, last: int | None = None) -> list[LoggedChange]:
        """Return the `last` changes of a scroll (None: all) that are kept, newest last. Replays
        what is kept: milliseconds for a hundred updates."""
        return self.past(key).log(last)

    def blame(self, key: Key) -> list[BlamedLine]:
        """Return the lines of a scroll, with who wrote their newest characters, and when."""
        return self.past(key).blame()

    def text_at(self, key: Key, time_ms: int) -> str:
        """Return the text of what was written up to a time by the clocks of those who wrote it,
        as far as it is here. PhextsyncError when history does not reach back so far."""
        return self.past(key).text_at(time_ms)

    def versions(self, key: Key, last: int | None = None) -> list[Version]:
        """Return the `last` points in time (None: all) that `text_at` tells apart, newest last."""
        return self.past(key).versions(last)

    def undeletable(self, range_: Range = EVERYTHING) -> list[DeletedScroll]:
        """Return the scrolls of a range without text of which the text before is kept, those that
        were emptied last first. Replays the past of each."""
        found: list[DeletedScroll] = []
        rest: CoordinateRange | None = as_range(range_)
        while rest is not None:
            pasts, rest = self.emptied(rest)
            found += [deletion[0] for past in pasts if (deletion := past.deletion())]
        return newest_first(found)

    def undelete(self, key: Key, *, force: bool = False) -> str:
        """Make the text before the scroll was last emptied its text again, and return it. Two
        nodes that do so at once make the same update. PhextsyncError when none is kept, and, but
        with `force`, when the scroll has a text."""
        if self.size(key) and not force:
            raise has_text(self.name, as_coordinate(key))
        text = self.past(key).deleted_text()
        self.import_text(key, text)
        return text

    def restore(self, key: Key, time_ms: int) -> None:
        """Make the text of a time, as `text_at` tells it, the text of now. PhextsyncError when
        there was none."""
        text = self.text_at(key, time_ms)
        self.import_text(key, to_restore(self.name, as_coordinate(key), text))

    def emptied(self, range_: CoordinateRange) -> tuple[list[Past], CoordinateRange | None]:
        """Return the pasts of the next few scrolls in a range that have no text any more, and what
        is left of the range. Looks at a bounded number of scrolls, and of bytes."""
        entries = self.index.entries(range_, _WALKED_MAX)
        last = entries[-1][0] if len(entries) == _WALKED_MAX else None
        end = None if last is None else last.successor()
        part = range_ if end is None else CoordinateRange(range_.lower, end)
        unsettled = self._unsettled()
        places = [place for place, _, size in entries if not size and place not in unsettled]
        places += [place for place in unsettled if place in part and not self.size(place)]
        pasts: list[Past] = []
        size = 0
        for place in sorted(places):
            if len(pasts) == _PASTS_MAX or size > _PASTS_BYTES:
                return pasts, range_.intersect(CoordinateRange(place, None))
            with suppress(StoreDamagedError):  # it is set aside and reported
                pasts.append(self._past(place, self.difference(place, EMPTY_VERSION) or b"", {}))
                size += pasts[-1].size
        return pasts, None if end is None else range_.intersect(CoordinateRange(end, None))

    def past(self, key: Key) -> Past:
        """Return what is kept of a scroll's past, to be looked through in any thread."""
        coordinate, owner = as_coordinate(key), self._owner
        state = self.difference(coordinate, EMPTY_VERSION) or b""
        clients = client_clocks(state) if state else ()
        writers = {client: owner.writer_of(self.name, client) for client in clients}
        known = {client: writer for client, writer in writers.items() if writer}
        return self._past(coordinate, state, known)

    def _past(self, coordinate: Coordinate, state: bytes, writers: dict[int, bytes]) -> Past:
        owner = self._owner
        news: list[LogEntry] = []
        for pending in (self._committing.get(coordinate), self._pending.get(coordinate)):
            if pending is not None:
                news += [*([] if pending.entry is None else [pending.entry]), *pending.log]
        return Past(
            self.name,
            coordinate,
            state,
            owner.now_ms(),
            # In this order: a batch that is being written may fold the log into pieces.
            self._read_stored(coordinate) if coordinate in self.index else None,
            news,
            owner.store.pieces(self.name, coordinate.key),
            owner.store.history.of(self.name, coordinate.key),
            writers,
        )

    # -- positions -------------------------------------------------------------------------

    def position(self, key: Key, offset: int, *, after: bool = True) -> str:
        """Name the place before character `offset` by a short text that `offset` understands on
        any node and at any time, whatever is written meanwhile.

        With `after` it stays before the character that follows, else behind the one before it.
        If that character is deleted, it is where that was. Costs as much as reading the scroll.
        """
        return self._scroll(key).position(offset, after=after)

    def offset(self, key: Key, position: str) -> int:
        """Return the offset in characters at which a `position` is now. PositionError when it is
        none, or in text that has not come here yet."""
        return self._scroll(key).offset(position)

    def _scroll(self, key: Key) -> Scroll:
        opened = self._open(as_coordinate(key))
        if opened is None:
            raise KeyError(key)
        opened.used = True
        return opened.scroll

    # -- changes ---------------------------------------------------------------------------

    def subscribe(
        self, callback: Callable[[Change], None], range_: Range = EVERYTHING, *, texts: bool = False
    ) -> Callable[[], None]:
        """Call `callback` after each change in `range_`; return what ends the subscription.

        It runs within the change and must be quick: whoever needs time takes a `feed`. One that
        fails is reported and harms nobody. `texts` asks for the texts before and after.
        """
        self._subscriptions += 1
        token = self._subscriptions
        self._subscribers[token] = _Subscriber(as_range(range_), callback, texts)

        def unsubscribe() -> None:
            self._subscribers.pop(token, None)

        return unsubscribe

    def feed(
        self,
        range_: Range = EVERYTHING,
        *,
        texts: bool = False,
        coordinates_max: int = COORDINATES_MAX,
        texts_max: int = TEXTS_MAX,
    ) -> ChangeFeed:
        """Return a mailbox of the changes in `range_` from now on, to be closed after use.

        Above `coordinates_max` it says that anything in the range may have changed; with `texts`
        it keeps about `texts_max` characters of old texts.
        """
        return ChangeFeed(
            self.name,
            as_range(range_),
            lambda push: self.subscribe(push, range_, texts=texts),
            read=self.read if texts else None,
            coordinates_max=coordinates_max,
            texts_max=texts_max,
        )

    def publish(
        self, coordinates: tuple[Coordinate, ...], origin: bytes | None, label: str = ""
    ) -> None:
        """Tell the subscribers that the texts at `coordinates` changed."""
        before = self._before
        if self._collected is None:
            self._before, self._before_size = {}, 0
        for subscriber in tuple(self._subscribers.values()):
            inside = tuple(c for c in coordinates if c in subscriber.range)
            if inside:
                texts: tuple[TextChange, ...] = ()
                if subscriber.wants_texts:
                    texts = tuple(TextChange(before.get(c), self.read(c)) for c in inside)
                try:
                    subscriber.callback(Change(self.name, inside, origin, label, texts))
                except Exception as error:
                    self._owner.on_failure(f"a subscriber of {self.name!r}", error)

    def _keep_before(self, coordinate: Coordinate) -> None:
        """Keep the text as it is before a change, if a subscriber wants it."""
        if coordinate not in self._before and any(
            subscriber.wants_texts and coordinate in subscriber.range
            for subscriber in self._subscribers.values()
        ):
            text = self.read(coordinate)
            size = self._before_size + len(text)
            if len(self._before) < COORDINATES_MAX and size <= TEXTS_MAX:
                self._before[coordinate] = text
                self._before_size = size

    # -- what peers need -------------------------------------------------------------------

    def uncommitted(self) -> tuple[Coordinate, ...]:
        """Return the coordinates whose last change is not yet durable, in no special order."""
        return tuple(self._unsettled())

    def version(self, coordinate: Coordinate) -> bytes:
        """Return the version of the scroll as it is now, `EMPTY_VERSION` when it is unknown."""
        state = self._plain_state(coordinate)
        if state is not None:
            return update_version(state)
        opened = self._open(coordinate)
        return EMPTY_VERSION if opened is None else opened.scroll.version()

    def fingerprint(self, coordinate: Coordinate) -> bytes:
        """Return the fingerprint of the scroll as it is now; empty when it is unknown."""
        if self._opened(coordinate) is None:
            pending = self._pending.get(coordinate) or self._committing.get(coordinate)
            if pending is None:
                return self.index.fingerprint_of(coordinate) or b""
            if pending.state is not None and not pending.log:
                return pending.fingerprint
        opened = self._open(coordinate)
        return b"" if opened is None else opened.scroll.fingerprint(self._fingerprinter)

    def difference(self, coordinate: Coordinate, version: bytes) -> bytes | None:
        """Return an update with all that `version` lacks, None when it lacks nothing.

        For the empty version it is what is stored, and no document is opened.
        """
        opened = self._opened(coordinate)
        if opened is None and version == EMPTY_VERSION:
            pending = self._pending.get(coordinate) or self._committing.get(coordinate)
            if pending is None:
                return self._read_state(coordinate) if coordinate in self.index else None
            if pending.state is not None and not pending.log:
                return pending.state
        opened = opened or self._open(coordinate)
        return None if opened is None else opened.scroll.difference(version)

    def apply(self, coordinate: Coordinate, entry: LogEntry, source: int | None = None) -> Merged:
        """Merge an update that a peer sent over link `source`; `publish` the change afterwards.

        UpdateError when it is no update of a text; ScrollError when the document failed and was
        thrown away. An update that builds on text which is not here yet is not covered: whoever
        calls asks for what is missing.
        """
        self._keep_before(coordinate)
        if not self._is_known(coordinate):
            merged = self._apply_state(coordinate, entry, source)
            if merged is not None:
                return merged
        self._guard_client_id(coordinate, entry.update)
        opened = self._open(coordinate) or self._create(coordinate)
        opened.text = None
        try:
            applied = opened.scroll.apply(entry.update)
        except ScrollError:
            self._forget(coordinate)
            raise
        if applied.update is not None:
            entry = LogEntry(applied.update, entry.origin, entry.time_ms)
            self._log(coordinate, opened, self._owner.seen(entry))
            self._owner.announce(NewUpdate(self.name, coordinate, entry, source))
        return Merged(applied.covered, applied.changed)

    def adopt(self, coordinate: Coordinate, state: bytes) -> None:
        """Take `state` in place of ours, then add the lines that only ours had, if we may write.

        For two states with one version and different texts: somebody wrote a client id twice. If
        it is the one that we write under, we take another.
        """
        check_update(state, ROOT)
        state = clean_update(state)
        self._keep_before(coordinate)
        opened = self._open(coordinate)
        ours = "" if opened is None else opened.scroll.text
        if self._client_id is not None and update_clock(state, self._client_id):
            self.renew_client_id()
        self._forget(coordinate)
        opened = _Open(Scroll(coordinate, self._client(), [state]))
        self._keep_open(coordinate, opened)
        self._pending[coordinate] = _Pending(rewrite=True, is_other=True)
        self._owner.touched(self)
        self._sign()
        may_add = self._owner.may_write(self.name, coordinate)
        update = opened.scroll.union(ours) if may_add else None
        if update is not None:
            entry = self._owner.stamp(update)
            self._log(coordinate, opened, entry)
            self._owner.announce(NewUpdate(self.name, coordinate, entry, None))
        self._publish_own(coordinate)

    def rewrite(self, coordinate: Coordinate) -> None:
        """Write the scroll anew, with the head that its content has."""
        if self._open(coordinate) is not None:
            self._pending.setdefault(coordinate, _Pending()).rewrite = True
            self._owner.touched(self)

    def renew_client_id(self) -> None:
        """Write under a new client id from now on."""
        self._client_id = self._owner.draw_client_id()
        self._is_client_noted = False
        for coordinate in dict.fromkeys((*self._unsettled(), *self._histories)):
            opened = self._opened(coordinate)
            if opened is not None:
                opened.scroll = Scroll(coordinate, self._client_id, [opened.scroll.state()])
                self._track(coordinate, opened.scroll)
        self._owner.close_unpinned(self)

    def __repr__(self) -> str:
        return f"<Replica {self.name!r}: {len(self)} scrolls>"

    # -- opening and closing ---------------------------------------------------------------

    def _opened(self, coordinate: Coordinate) -> _Open | None:
        """Return the scroll's document, if it is open: a text may be kept without."""
        opened: OpenText | None = self.index.get(coordinate)
        return opened if isinstance(opened, _Open) else self._fresh.get(coordinate)

    def _is_settled(self, coordinate: Coordinate) -> bool:
        """Whether the store has the scroll as it is now."""
        return (
            coordinate in self.index
            and coordinate not in self._pending
            and coordinate not in self._committing
        )

    def _is_known(self, coordinate: Coordinate) -> bool:
        return (
            coordinate in self.index
            or coordinate in self._fresh
            or coordinate in self._pending
            or coordinate in self._committing
        )

    def _open(self, coordinate: Coordinate, stored: StoredScroll | None = None) -> _Open | None:
        """Return the scroll's document, made of what is `stored` and pending if it is closed."""
        opened = self._opened(coordinate)
        if opened is not None:
            return opened
        if stored is None and coordinate in self.index:
            stored = self._read_stored(coordinate)
        opened = None if stored is None else self._made(coordinate, stored)
        for pending in (self._committing.get(coordinate), self._pending.get(coordinate)):
            if pending is not None:
                # Only a document that failed leaves a log behind: open scrolls are pinned.
                state = [] if pending.state is None else [pending.state]
                opened = opened or _Open(Scroll(coordinate, self._client(), state))
                for entry in pending.log:
                    opened.scroll.apply(entry.update)
        if opened is not None:
            self._keep_open(coordinate, opened)
        return opened

    def _made(self, coordinate: Coordinate, stored: StoredScroll) -> _Open:
        scroll = Scroll(coordinate, self._client(), stored.updates)
        log_bytes = stored.log_bytes + _LOG_ENTRY_BYTES * len(stored.log)
        return _Open(scroll, len(stored.state or b""), log_bytes)

    def _plain_state(self, coordinate: Coordinate) -> bytes | None:
        """Return the state of a closed scroll that tells text and version without a document."""
        if self._opened(coordinate) is not None:
            return None
        state = self.difference(coordinate, EMPTY_VERSION)
        return None if state is None or plain_text(state) is None else state

    def _read_state(self, coordinate: Coordinate) -> bytes:
        return merge_updates(self._read_stored(coordinate).updates)

    def _read_stored(self, coordinate: Coordinate) -> StoredScroll:
        """Read a scroll that the index knows; one that is damaged is set aside and reported."""
        try:
            stored = self._owner.store.read(self.name, coordinate.key)
            if stored is None:
                raise StoreDamagedError(f"{self.name} {coordinate}: its text is missing")
            return stored
        except StoreDamagedError as error:
            self._owner.store.quarantine(self.name, coordinate.key)
            self.index.remove(coordinate)
            self._client_id = None  # it may have written what is lost, and must not again
            self._owner.close_unpinned(self)
            self._owner.set_aside(self.name, str(error))
            raise

    def _create(self, coordinate: Coordinate) -> _Open:
        opened = _Open(Scroll(coordinate, self._client()))
        self._keep_open(coordinate, opened)
        return opened

    def _keep_open(self, coordinate: Coordinate, opened: _Open) -> None:
        self._track(coordinate, opened.scroll)
        self._let_go_text(coordinate)
        if coordinate in self.index:
            self.index.set_value(coordinate, opened)
        else:
            self._fresh[coordinate] = opened
        cost = _OPEN_SCROLL_BYTES + 3 * opened.scroll.size
        self._owner.opened(self, coordinate, opened, cost)

    def _keep_text(self, coordinate: Coordinate, text: str) -> str:
        """Keep the text of a scroll whose document nobody needs yet; return it."""
        kept = OpenText()
        kept.text, kept.used = text, True
        self.index.set_value(coordinate, kept)
        self._owner.opened(self, coordinate, kept, _OPEN_TEXT_BYTES + sys.getsizeof(text))
        return text

    def _let_go_text(self, coordinate: Coordinate) -> None:
        kept: OpenText | None = self.index.get(coordinate)
        if kept is not None:
            kept.text = None
            self._owner.closed(kept)

    def _track(self, coordinate: Coordinate, scroll: Scroll) -> None:
        """Let a new document remember what its histories ask for, from now on."""
        for writer in self._histories.get(coordinate, ()):
            scroll.track(writer)

    def _forget(self, coordinate: Coordinate) -> None:
        """Throw the document away; the next use makes it anew from what is stored and pending."""
        opened = self._opened(coordinate)
        if opened is not None:
            self._owner.closed(opened)
            if self._fresh.pop(coordinate, None) is None:
                self.index.set_value(coordinate, None)

    def close_if_unpinned(self, coordinate: Coordinate, opened: OpenText) -> bool:
        """Close an open scroll unless it has changes that are not yet durable, or a history."""
        if any(coordinate in pins for pins in (self._pending, self._committing, self._histories)):
            return False
        if self._fresh.pop(coordinate, None) is None and self.index.get(coordinate) is opened:
            self.index.set_value(coordinate, None)
        return True

    def _client(self) -> int:
        if self._client_id is None:
            self._client_id = self._owner.draw_client_id()
            self._is_client_noted = False
        return self._client_id

    def _sign(self) -> None:
        """Note under which client id this node writes, before it does so for the first time: who
        only reads and relays has nothing to tell the mesh."""
        client = self._client()
        if not self._is_client_noted:
            self._is_client_noted = True
            self._owner.note_client_id(self.name, client)

    # -- changing --------------------------------------------------------------------------

    def _edit(self, key: Key, operation: Callable[[Scroll], bytes | None]) -> None:
        self._owner.durability.check_writable()
        coordinate = as_coordinate(key)
        self._owner.check_allowed(self.name, coordinate)
        self._owner.check_room(self.name)
        opened = self._open(coordinate) or self._create(coordinate)
        opened.used = True
        self._keep_before(coordinate)
        if coordinate in self._histories:
            self._step += self._collected is None
            opened.scroll.begin(current_author(), self._step)
        opened.text = None
        try:
            update = operation(opened.scroll)
        except ScrollError:
            self._forget(coordinate)
            raise
        if update is not None:
            self._sign()
            entry = self._owner.stamp(update)
            self._log(coordinate, opened, entry)
            self._owner.announce(NewUpdate(self.name, coordinate, entry, None))
            self._publish_own(coordinate)

    def _log(self, coordinate: Coordinate, opened: _Open, entry: LogEntry) -> None:
        pending = self._pending.get(coordinate)
        if pending is None:
            self._owner.touched(self)
            pending = self._pending[coordinate] = _Pending()
        pending.log.append(entry)
        opened.log_bytes += len(entry.update) + _LOG_ENTRY_BYTES

    def _apply_state(
        self, coordinate: Coordinate, entry: LogEntry, source: int | None
    ) -> Merged | None:
        """Take the whole state of an unknown scroll without a document, when it is so plain."""
        check_update(entry.update, ROOT)
        text = plain_text(entry.update)
        if text is None:
            # What builds on something unknown gets no document: a peer may send much of it.
            is_fit = fits(_NOTHING, clean_update(entry.update))
            return None if is_fit else Merged(covered=False, changed=False)
        seen = self._owner.seen(entry)
        self._set_state(coordinate, seen, update_version(entry.update), text)
        self._owner.announce(NewUpdate(self.name, coordinate, entry, source))
        return Merged(covered=True, changed=bool(text))

    def _set_state(
        self, coordinate: Coordinate, entry: LogEntry, version: bytes, text: bytes
    ) -> None:
        fingerprint = self._fingerprinter.of(coordinate.key, version, text)
        self._owner.touched(self)
        self._pending[coordinate] = _Pending(
            state=entry.update, entry=entry, fingerprint=fingerprint, size=len(text)
        )

    def _guard_client_id(self, coordinate: Coordinate, update: bytes) -> None:
        """Take a new client id when a peer shows a higher clock for ours than we have."""
        client = self._client_id
        shown = 0 if client is None else update_clock(update, client)
        if client is not None and shown > clock_of(self.version(coordinate), client):
            self._owner.report(f"{self.name}: client id {client} was used elsewhere; took another")
            self.renew_client_id()

    def _publish_own(self, coordinate: Coordinate) -> None:
        if self._collected is not None:
            self._collected[coordinate] = current_writer()
        elif self._subscribers:
            self.publish((coordinate,), None, current_writer())

    # -- batches ---------------------------------------------------------------------------

    def _unsettled(self) -> dict[Coordinate, None]:
        return dict.fromkeys((*self._committing, *self._pending))

    def take_writes(self) -> list[ScrollWrite]:
        """Return what a batch has to write; `settle` or `unsettle` must follow."""
        assert not self._committing
        self._is_split |= self._collected is not None
        self._turn += 1
        self._committing, self._pending = self._pending, {}
        return [self._write(c, pending) for c, pending in self._committing.items()]

    def _write(self, coordinate: Coordinate, pending: _Pending) -> ScrollWrite:
        opened = self._opened(coordinate)
        state, log = pending.state, tuple(pending.log)
        if pending.entry is not None and self._owner.history.keeps(self.name, coordinate.key):
            state, log = None, (pending.entry, *log)
        if opened is None:
            return ScrollWrite(coordinate.key, pending.fingerprint, pending.size, state, log)
        scroll = opened.scroll
        pending.fingerprint = scroll.fingerprint(self._fingerprinter)
        pending.size = scroll.size
        stored = opened.state_bytes or len(pending.state or b"")
        if pending.rewrite or opened.log_bytes > max(stored // _LOG_SHARE, _LOG_BYTES_MIN):
            news, state, log = log, scroll.state(), ()
            self._owner.history.folded(
                self.name, coordinate.key, news, state, is_other=pending.is_other
            )
            opened.state_bytes, opened.log_bytes = len(state), 0
        return ScrollWrite(coordinate.key, pending.fingerprint, pending.size, state, log)

    def settle(self) -> None:
        """The writes taken last are durable: put them into the index."""
        self._turn += 1
        for coordinate, pending in self._committing.items():
            opened = self._opened(coordinate)
            self._fresh.pop(coordinate, None)
            self.index.set(coordinate, pending.fingerprint, pending.size, opened)
        self._committing = {}

    def unsettle(self) -> None:
        """The writes taken last failed: they go back before what has come since."""
        self._turn += 1
        for coordinate, pending in self._pending.items():
            before = self._committing.get(coordinate)
            if before is not None:
                before.log.extend(pending.log)
                before.rewrite |= pending.rewrite
                before.is_other |= pending.is_other
            else:
                self._committing[coordinate] = pending
        for coordinate, pending in self._committing.items():
            opened = self._opened(coordinate)
            # What the failed write replaced is not known to be there: write all of it.
            pending.rewrite |= opened is not None
        self._pending, self._committing = self._committing, {}


def _plain_text(stored: StoredScroll) -> bytes | None:
    """Return the text in UTF-8, None when it takes a document to tell."""
    updates = stored.updates
    text = plain_text(updates[0])
    return text if text is None or len(updates) == 1 else plain_text(merge_updates(updates))


class History:
    """What one writer did to one scroll, made by `Replica.history`: takes back its steps and does
    them again, and leaves alone what others wrote.

    A step is one change, or a batch; of more than `crdt.STEPS_MAX` the oldest are forgotten. It
    keeps the scroll's document open until it is closed, and is lost with it: after a restart, or
    when the node has to take another client id.
    """

    def __init__(self, replica: Replica, coordinate: Coordinate, writer: str) -> None:
        self.coordinate = coordinate
        self.writer = writer
        self._session = current_session()
        with writing_as(writer):
            self._author = current_author()
        self._replica = replica
        self._is_open = True
        authors = replica._histories.setdefault(coordinate, {})
        authors[self._author] = authors.get(self._author, 0) + 1
        try:
            self._scroll().track(self._author)
        except PhextsyncError:
            self.close()
            raise

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self._scroll().can_undo(self._author)

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and the writer has done nothing since."""
        return self._scroll().can_redo(self._author)

    def undo(self) -> bool:
        """Take back the last step; say whether there was one."""
        return self.can_undo and self._travel(lambda scroll: scroll.undo(self._author))

    def redo(self) -> bool:
        """Do the step again that was taken back last; say whether there was one."""
        return self.can_redo and self._travel(lambda scroll: scroll.redo(self._author))

    def close(self) -> None:
        """Forget the steps, and let the document be closed."""
        if not self._is_open:
            return
        authors = self._replica._histories[self.coordinate]
        authors[self._author] -= 1
        if authors[self._author] == 0:
            opened = self._replica._opened(self.coordinate)
            if opened is not None:  # else its document failed, and the steps went with it
                opened.scroll.untrack(self._author)
            del authors[self._author]
        if not authors:
            del self._replica._histories[self.coordinate]
        self._is_open = False

    def _travel(self, step: Callable[[Scroll], bytes | None]) -> bool:
        with writing_as(self.writer, self._session):
            self._replica._edit(self.coordinate, step)
        return True

    def _scroll(self) -> Scroll:
        if not self._is_open:
            raise PhextsyncError(f"{self.coordinate}: expected an open history, found a closed one")
        replica = self._replica
        return (replica._open(self.coordinate) or replica._create(self.coordinate)).scroll


class ReplicaSet:
    """All replicas of one node over one store: their batches, client ids and open documents.

    `wall_time_ms` is stored beside updates for people to read and decides nothing. `permissions`
    are this node's own: edits that they do not allow raise PermissionDeniedError. `on_failure` is
    told of what failed outside, such as a subscriber; without it, it is reported.
    """

    def __init__(
        self,
        store: Store,
        *,
        node_id: bytes,
        random: Random,
        wall_time_ms: Callable[[], int],
        open_bytes_max: int = 64 << 20,
        permissions: Permissions = UNRESTRICTED,
        phexts_max: int = PHEXTS_MAX,
        on_failure: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self.store = store
        self.node_id = node_id
        self.permissions = permissions
        self.open_bytes_max = open_bytes_max
        self.phexts_max = phexts_max
        self.open_bytes = 0
        self.open_scrolls = 0
        self.evictions = 0
        self.reports: deque[str] = deque(maxlen=_REPORTS_MAX)
        self.on_failure = on_failure or self._report_failure
        self._random = random
        self._wall_time_ms = wall_time_ms
        self._replicas: dict[str, Replica] = {}
        self._unmade: WeakValueDictionary[str, Replica] = WeakValueDictionary()  # see `phext`
        self._listeners = Listeners()
        self.listen(ReplicaListener(on_durable=lambda: self._evict(len(self._open))))
        self.history = HistoryKeeper(
            store, now_ms=wall_time_ms, report=self.report, wake=self._listeners.dirty
        )
        self.durability = Durability(store, self.history, self._listeners)
        self.announce = self._listeners.update
        self._open: deque[tuple[Replica, Coordinate, OpenText]] = deque()

    def listen(self, listener: ReplicaListener) -> None:
        """Tell one more of what happens here, after those who listen already."""
        self._listeners.add(listener)

    def open(self, name: str) -> Replica:
        """Return the replica of the phext `name`, which is made if there is none: it takes one of
        the places for phexts, and peers learn of it."""
        replica = self._replicas.get(name)
        if replica is None:
            replica = self._unmade.get(name)
            if replica is None:
                replica = self._new(name)
            self.check_room(name)
            self._make(replica)
        return replica

    def phext(self, name: str) -> Replica:
        """Return the replica of the phext `name`, which is made by its first scroll: who only
        reads or follows makes nothing."""
        replica = self.known(name)
        if replica is None:
            replica = self._unmade.get(name)
        if replica is None:
            replica = self._new(name)
            if len(self._unmade) >= self.phexts_max:
                raise PhextsyncError(
                    f"expected at most {self.phexts_max} phexts to be followed that do not exist"
                )
            self._unmade[name] = replica
        return replica

    def known(self, name: str) -> Replica | None:
        """Return the replica of a phext that is open or stored, None when there is none."""
        return self.open(name) if name in self._replicas or name in self.store.phexts() else None

    def _new(self, name: str) -> Replica:
        if not is_phext_name(name):
            raise PhextsyncError(f"expected the name of a phext, found {name!r:.60}")
        return Replica(name, self)

    def _make(self, replica: Replica) -> None:
        self._unmade.pop(replica.name, None)
        self._replicas[replica.name] = replica
        self._listeners.opened(replica.name)

    def check_room(self, name: str) -> None:
        """PhextsyncError when the phext is not here and there may be no more."""
        if not self.has_room_for(name):
            raise PhextsyncError(
                f"expected at most {self.phexts_max} phexts, found another: {name!r:.60}"
            )

    def opened_replica(self, name: str) -> Replica | None:
        """Return the replica of `name` if it has been opened. From any thread."""
        return self._replicas.get(name)

    def has_room_for(self, name: str) -> bool:
        """Say whether the phext is here or may come into being."""
        if name in self._replicas or name == CLIENTS:
            return True
        names = {*self.names(), CLIENTS}
        return name in names or len(names) < self.phexts_max

    def names(self) -> list[str]:
        """Return the names of all phexts that are open or stored, sorted."""
        return sorted({*self.store.phexts(), *self._replicas})

    # -- durability ------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether something is not yet durable, or on its way to be."""
        return self.durability.is_dirty

    @property
    def is_writable(self) -> bool:
        """Whether the store took the last write."""
        return self.durability.is_writable

    def commit(self) -> None:
        """Make every change durable before returning. StoreError when it cannot be done, and when
        a setting of history could not, which is given up."""
        self.durability.commit()

    # -- who may write what, and when it was written -----------------------------------------

    def may_write(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether this node's own permissions allow an edit there."""
        permissions = self.permissions
        return permissions.is_everything or contains(permissions.writable(phext), coordinate)

    def check_allowed(self, phext: str, coordinate: Coordinate) -> None:
        """PermissionDeniedError when this node may not edit there."""
        if not self.may_write(phext, coordinate):
            allowed = ", ".join(map(str, self.permissions.writable(phext))) or "nothing"
            raise PermissionDeniedError(
                f"this node's certificate does not allow writing {phext} {coordinate}: "
                f"expected a coordinate in {allowed}"
            )

    def stamp(self, update: bytes) -> LogEntry:
        """Return the log entry of an update that was made here and now."""
        return LogEntry(update, self.node_id, self._wall_time_ms())

    def seen(self, entry: LogEntry) -> LogEntry:
        """Return what is kept of an entry: one without origin gets the time at which it came.

        It stays one without origin: for peers that is what a comparison brought.
        """
        return entry if entry.origin else LogEntry(entry.update, b"", self._wall_time_ms())

    def now_ms(self) -> int:
        """Return the time by this node's clock."""
        return self._wall_time_ms()

    def draw_client_id(self) -> int:
        """Return a new client id."""
        return self._random.getrandbits(52)  # bit 52 is set in those of imports

    def note_client_id(self, phext: str, client_id: int) -> None:
        """Let the next batch make the lease of a client id durable, and tell whose it is."""
        self.durability.lease(phext, client_id)
        if phext != CLIENTS:
            coordinate = _place_of(client_id)
            if self.may_write(CLIENTS, coordinate):
                line = f"{client_id} {self.node_id.hex()} {phext}\n"
                self.open(CLIENTS).import_unknown(coordinate, line)

    def writer_of(self, phext: str, client_id: int) -> bytes | None:
        """Return the node that writes `phext` under a client id, None when that is not known."""
        clients = self.known(CLIENTS)
        lines = "" if clients is None else clients.read(_place_of(client_id))
        for line in lines.splitlines():
            match line.split(" ", 2):
                case [client, node, name] if (client, name) == (str(client_id), phext):
                    with suppress(ValueError):
                        return bytes.fromhex(node)
        return None

    # -- history ---------------------------------------------------------------------------

    @property
    def history_kept_ms(self) -> int:
        """How long history is kept in this folder where no range has a setting of its own, in
        milliseconds; 0: it is not."""
        return self.history.kept_ms

    def history_settings(self) -> list[HistorySetting]:
        """Return how long history is kept: first in the whole folder, then in ranges."""
        return self.history.settings()

    def keep_history(
        self,
        kept_ms: int | None,
        phext: str | None = None,
        range_: Range = EVERYTHING,
        *,
        unless_set: bool = False,
    ) -> None:
        """Let the next batch set how long history is kept, as `HistoryKeeper.keep` does."""
        self.history.keep(kept_ms, phext, range_, unless_set=unless_set)

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        """Return keys and whole states as they are stored, in order, about `bytes_max` of them."""
        found = self.store.read_range(phext, lower, upper, bytes_max)
        return [(key, merge_updates(stored.updates)) for key, stored in found]

    def touched(self, replica: Replica) -> None:
        """Remember that `replica` is about to have something for the next batch."""
        if replica.name not in self._replicas:
            self._make(replica)
        self.durability.changed(replica)

    def set_aside(self, phext: str, problem: str) -> None:
        """A damaged scroll is absent from now on."""
        self.report(f"{problem}; set aside, to be fetched again from a peer")
        self._listeners.set_aside(phext)

    def _report_failure(self, part: str, error: Exception) -> None:
        self.report(f"{part} failed: {error!r}")

    def report(self, text: str) -> None:
        """Keep a line for the node's operator; the oldest go first."""
        self.reports.append(text)

    def opened(self, replica: Replica, coordinate: Coordinate, opened: OpenText, cost: int) -> None:
        """Count an open scroll against the budget and close others when it is exceeded."""
        self._evict(_PINNED_MAX)  # before it joins: whoever opened it is about to use it
        opened.cost = cost
        self.open_bytes += cost
        self.open_scrolls += 1
        self._open.append((replica, coordinate, opened))

    def closed(self, opened: OpenText) -> None:
        self.open_bytes -= opened.cost
        self.open_scrolls -= opened.cost > 0
        opened.cost = 0

    def close_unpinned(self, replica: Replica) -> None:
        """Close every scroll of `replica` that has no change on its way to the store."""
        kept: deque[tuple[Replica, Coordinate, OpenText]] = deque()
        for entry in self._open:
            if entry[0] is replica and replica.close_if_unpinned(entry[1], entry[2]):
                self.closed(entry[2])
            else:
                kept.append(entry)
        self._open = kept

    def _evict(self, pinned_max: int) -> None:
        """Close scrolls that were not used since the last look, oldest first (second chance),
        until the budget holds or `pinned_max` could not be closed."""
        while self.open_bytes > self.open_bytes_max and pinned_max > 0:
            replica, coordinate, opened = entry = self._open.popleft()
            if opened.cost == 0:
                continue  # already thrown away
            if opened.used:
                opened.used = False
                self._open.append(entry)
            elif replica.close_if_unpinned(coordinate, opened):
                self.closed(opened)
                self.evictions += 1
            else:
                pinned_max -= 1
                self._open.append(entry)


def _place_of(client_id: int) -> Coordinate:
    """Return where `CLIENTS` says who writes under a client id."""
    place = blake2b(client_id.to_bytes(8, "big"), digest_size=18).digest()
    return Coordinate(*[1 + int.from_bytes(place[i : i + 2], "big") % 999 for i in range(0, 18, 2)])
