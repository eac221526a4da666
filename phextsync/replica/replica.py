"""Replica: one phext as a mapping of coordinates to texts, over an index and a store.

Edits take effect at once in memory; batches make them durable. The index holds what is durable and
nothing else, so that two replicas compare only what neither can lose. What a user holds is a
replica and a coordinate, never a document: see `documents`.

Sans-IO but for the store. Used in one thread.
"""

from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    MutableMapping,
    Sequence,
    ValuesView,
)
from contextlib import AbstractContextManager

from phextsync.crdt import IMPORTED_VERSION_BYTES_MAX, Applied, Scroll
from phextsync.edits import Edit
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange, OpenTexts
from phextsync.replica.changes import (
    COORDINATES_MAX,
    TEXTS_MAX,
    Change,
    ChangeFeed,
    ReplicaStatistics,
    current_writer,
)
from phextsync.replica.clients import Client
from phextsync.replica.contents import Contents
from phextsync.replica.documents import Documents
from phextsync.replica.editor import Editor
from phextsync.replica.guest_scrolls import GuestScrolls
from phextsync.replica.mending import Mending
from phextsync.replica.merging import Merging
from phextsync.replica.past import (
    BlamedLine,
    DeletedScroll,
    LoggedChange,
    Past,
    Version,
    has_text,
    to_restore,
)
from phextsync.replica.pasts import Pasts
from phextsync.replica.pending import Pending
from phextsync.replica.publisher import Publisher
from phextsync.replica.shared import Shared
from phextsync.replica.tracked import Tracked
from phextsync.replica.undo import History
from phextsync.replica.views import Bounds, Key, Range, RangeView, as_coordinate, as_range
from phextsync.replica.writes import Writes
from phextsync.store.contract import LogEntry


class Replica(OpenTexts[RangeView], MutableMapping[Key, str]):
    """This node's copy of one phext, given by `ReplicaSet.phext`.

    Keys are coordinates or their texts; a missing or empty scroll is a `KeyError`, a text that
    names no coordinate a CoordinateError, any other key a TypeError. Setting a scroll changes it by
    a minimal difference, so concurrent changes merge; deleting clears it. Edits raise TextError for
    what no scroll can hold, also for what makes a text larger than 32 MiB; TypeError for what is no
    text, PermissionDeniedError, StoreFullError; reads StoreDamagedError: `docs/reference/phext.md`.
    `LOWER:UPPER` and ranges give views. Used in one thread, as all that it gives, but for
    `glance`. `replica[key]` is compiled, in `OpenTexts`.
    """

    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        heads = shared.store.heads(name)
        self.index.bulk_load(heads.keys, heads.fingerprints, heads.sizes)
        self.index.sketch_strata()  # from now on it follows every change: no session has to wait
        index, store = self.index, shared.store
        self._client = client = Client(name, store.lease(name), shared.clients)
        self._pending = pending = Pending(index)
        self._tracked = tracked = Tracked()
        self._documents = documents = Documents(name, index, pending, client, tracked, shared)
        guests = shared.holding.guests
        self._contents = contents = Contents(name, index, pending, documents, store, guests)
        self._publisher = publisher = Publisher(name, contents, shared.on_failure, shared.listeners)
        self._writes = writes = Writes(
            name, index, pending, documents, contents, client, publisher, shared
        )
        self._merging = Merging(name, contents, documents, client, publisher, writes, shared)
        self._editor = Editor(
            name, documents, client, tracked, publisher, writes, self._merging, shared
        )
        merging = self._merging
        self.mending = Mending(documents, client, tracked, publisher, writes, pending)
        self.guests = GuestScrolls(name, index, documents, contents, merging, publisher, shared)
        self._pasts = Pasts(name, index, pending, documents, contents, shared)
        self._holding = shared.holding
        self.closed = contents.stored_text
        self.news = self._pasts.news
        self.note_held()

    # -- the mapping -----------------------------------------------------------------------

    def fetch(self, key: Key | Bounds | CoordinateRange) -> str | RangeView:
        """Return a view, or a text that is not there to be taken: its scroll is closed, or was
        changed. Where the text can be told without a document, none is made."""
        if isinstance(key, slice | CoordinateRange):
            return self.within(key)
        coordinate = as_coordinate(key)
        self._holding.check_here(self.name, coordinate)
        is_part = self.elsewhere is None
        text = self.guests.text(coordinate) if is_part else self._contents.text(coordinate)
        if not text:
            raise KeyError(key)
        return text

    def glance(self, key: Key) -> str | None:
        """Return the text of a closed scroll, "" when it has none, without opening it.

        For any thread, as long as the store stays open. None: only the replica's own can tell,
        since the scroll is open, on its way to the store, or not held here.
        """
        coordinate = as_coordinate(key)
        is_current = self._holding.is_current(self.name, coordinate)
        return self._contents.glance(coordinate) if is_current else None

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
        return self._contents.count()

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
        return self._contents.coordinates(range_)

    def scrolls(self, range_: Range = EVERYTHING) -> Iterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls in `range_` that have text, as of the call.

        For passes over many: scrolls that are closed stay closed, unless they were edited.
        """
        return self._contents.scrolls(range_)

    def near(
        self, key: Key, count: int = 40, range_: Range = EVERYTHING, *, itself: bool = True
    ) -> list[tuple[int, Coordinate]]:
        """Return the `count` scrolls of `range_` with text that are nearest to a coordinate, each
        with its distance: what the nine parts differ by in all. Of equal ones the lower comes
        first. `itself` tells whether one at the coordinate counts."""
        return self._contents.near(as_coordinate(key), count, as_range(range_), itself=itself)

    def read(self, coordinate: Coordinate) -> str:
        """Return the scroll's text, "" when there is none. For passes over many: a scroll that is
        closed stays closed, unless it was edited, and one that is damaged, which is set aside and
        reported, does not end the pass."""
        return self._contents.read(coordinate)

    def size(self, key: Key) -> int:
        """Return the bytes of the scroll's text in UTF-8, 0 when there is none. Opens nothing."""
        coordinate = as_coordinate(key)
        self._holding.check_here(self.name, coordinate)
        return self._contents.size(coordinate)

    def read_size(self, coordinate: Coordinate) -> int:
        """Return the bytes of the text that `read` returns."""
        return self._contents.size(coordinate)

    # -- edits -----------------------------------------------------------------------------

    def edit(self, key: Key, text: str) -> None:
        """Make `text` the scroll's text by a minimal difference against what is there."""
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.edit(text))

    def edit_from(self, key: Key, base: str, text: str) -> None:
        """Do what made `text` of `base`, which the scroll's text was when somebody read it.

        For those that edit apart: another process, a file. What came since stays, and to do the
        same twice changes nothing the second time. With `base` the text as it is, it is `edit`.
        """
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.edit_from(base, text))

    def splice(self, key: Key, edits: Sequence[Edit]) -> None:
        """Do `edits` (start, stop, replacement), ascending, to the text as it is."""
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.splice(edits))

    def check_allowed(self, key: Key) -> None:
        """PermissionDeniedError when this node may not edit there, NotHeldError when it does not
        hold that."""
        self._editor.check_allowed(as_coordinate(key))

    def replace(self, key: Key, old: str, new: str, count: int | None = 1) -> None:
        """Replace the `count` places in which exactly `old` stands (None: all, at least one).
        TextError says how many were found if there are more or fewer."""
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.replace(old, new, count))

    def insert(self, key: Key, offset: int, text: str) -> None:
        """Insert `text` before character `offset`."""
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.insert(offset, text))

    def delete(self, key: Key, start: int, stop: int) -> None:
        """Delete the characters from `start` to `stop`, `stop` excluded."""
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.delete(start, stop))

    def append(self, key: Key, text: str) -> None:
        """Add `text` at the end of the scroll."""
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.append(text))

    def clear_scroll(self, key: Key) -> bool:
        """Delete the scroll's whole text; return whether there was any. What others type meanwhile
        survives."""
        had_text = key in self
        self._editor.edit(as_coordinate(key), lambda scroll: scroll.clear())
        return had_text

    def import_text(
        self,
        key: Key,
        text: str,
        *,
        version_bytes_max: int = IMPORTED_VERSION_BYTES_MAX,
        by_lines: bool = False,
    ) -> None:
        """Make `text` the scroll's text such that equal imports on equal versions are one.

        Two nodes that import the same text into the same version of a scroll make the same
        update, so that their copies merge into one. Where an import has up to eight pieces, with
        whole lines between that stay, this holds for each piece that both put in at the same place,
        no matter what else their versions have. Each piece, or each import of more, adds about 20
        bytes to the version for ever; above `version_bytes_max` it is an edit, as by `edit`.
        With `by_lines` each line that changed is replaced whole, for texts whose lines two sides
        must not mix.
        """
        self._editor.import_text(as_coordinate(key), text, version_bytes_max, by_lines=by_lines)

    def import_unknown(self, key: Key, text: str) -> None:
        """Import into a scroll that is not known here, even while the store refuses writes."""
        self._editor.import_unknown(as_coordinate(key), text)

    @property
    def is_in_batch(self) -> bool:
        """Whether changes are made within a `batch`."""
        return self._publisher.is_in_batch

    def batch(self) -> AbstractContextManager[None]:
        """Make the changes inside one commit, one `Change` and one step to undo.

        A batch inside a batch is part of it. What was done before an error stays done. Not to be
        held across an `await`: RuntimeError at its end if a part of it was committed by then.
        """
        return self._publisher.batch()

    def history(self, key: Key, writer: str | None = None) -> "History":
        """Remember from now on what `writer` (None: the current one, see `writing_as`) does to a
        scroll, so that it can be undone, until the history is closed."""
        coordinate = as_coordinate(key)
        writer = current_writer() if writer is None else writer
        return History(self, self._editor, self._documents, self._tracked, coordinate, writer)

    # -- the past --------------------------------------------------------------------------

    def log(self, key: Key, last: int | None = None) -> list[LoggedChange]:
        """Return the `last` changes of a scroll (None: all) that are kept, newest last."""
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
        return self._pasts.undeletable(as_range(range_))

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

    def few_pasts(
        self, range_: CoordinateRange, *, emptied: bool = False
    ) -> tuple[list[Past], CoordinateRange | None]:
        """Return the pasts of the next few scrolls in a range, or of those that have no text any
        more, and what is left of the range. Looks at a bounded number of scrolls, and of bytes."""
        return self._pasts.emptied(range_) if emptied else self._pasts.few(range_)

    def take_back(self, key: Key, update: bytes) -> None:
        """Do what `Past.taking_back` found, as one step; twice changes nothing."""
        self._editor.take_back(as_coordinate(key), update)

    def past(self, key: Key) -> Past:
        """Return what is kept of a scroll's past, to be looked through in any thread."""
        self._holding.check(self.name, as_coordinate(key))
        return self._pasts.of(as_coordinate(key))

    # -- positions -------------------------------------------------------------------------

    def position(self, key: Key, offset: int, *, after: bool = True) -> str:
        """Name the place before character `offset` by a short text that `offset` understands on
        any node and at any time, also after other changes.

        With `after` it stays before the character that follows, else behind the one before it.
        If that character is deleted, it is where that was. Costs as much as reading the scroll.
        """
        return self._scroll(key).position(offset, after=after)

    def offset(self, key: Key, position: str) -> int:
        """Return the offset in characters at which a `position` is now. PositionError when it is
        none, or in text that has not come here yet."""
        return self._scroll(key).offset(position)

    def _scroll(self, key: Key) -> Scroll:
        coordinate = as_coordinate(key)
        self._holding.check_here(self.name, coordinate)
        opened = self._documents.open(coordinate)
        if opened is None:
            raise KeyError(key)
        opened.used = True
        return opened.scroll

    # -- changes ---------------------------------------------------------------------------

    def subscribe(
        self, callback: Callable[[Change], None], range_: Range = EVERYTHING, *, texts: bool = False
    ) -> Callable[[], None]:
        """Call `callback` after each change in `range_`; return what ends the subscription.

        It runs within the change and must be quick: use a `feed` for what needs time. One that
        fails is reported and harms nobody. `texts` asks for the texts before and after.
        """
        subscription = self._publisher.subscribe(callback, range_, texts=texts)
        # It holds this replica, which may be of a phext that is not made yet.
        return lambda: self._publisher.unsubscribe(subscription)

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
        self._publisher.publish(coordinates, origin, label)

    # -- what is given up ------------------------------------------------------------------

    def check_held(self, key: Key) -> None:
        """NotHeldError when this node neither holds the scroll nor has it as a guest."""
        self._editor.check_held(as_coordinate(key))

    def has_scrolls(self, range_: CoordinateRange) -> bool:
        """Whether there is anything here of a range, scrolls that were emptied included."""
        return self.index.count(range_) > 0 or any(c in range_ for c in self._pending.coordinates())

    def note_held(self) -> None:
        """This node holds something else of the phext: where that is not all, each text that is
        not there is looked at closely (see `fetch`)."""
        self.elsewhere = None
        if self._holding.of(self.name) == (EVERYTHING,):
            self.elsewhere = (*self._pending.places, self._documents.fresh)

    def leave(self) -> None:
        """Let the next batches take out what this node has ceased to hold."""
        self._writes.leave()

    # -- what peers need -------------------------------------------------------------------

    def uncommitted(self) -> tuple[Coordinate, ...]:
        """Return the coordinates whose last change is not yet durable, in no special order."""
        return tuple(self._pending.coordinates())

    def version(self, coordinate: Coordinate) -> bytes:
        """Return the version of the scroll as it is now, `EMPTY_VERSION` when it is unknown."""
        return self._contents.version(coordinate)

    def fingerprint(self, coordinate: Coordinate) -> bytes:
        """Return the fingerprint of the scroll as it is now; empty when it is unknown."""
        return self._contents.fingerprint(coordinate)

    def difference(self, coordinate: Coordinate, version: bytes) -> bytes | None:
        """Return an update with all that `version` lacks, None when it lacks nothing: for the empty
        version what is stored, and no document is opened."""
        return self._contents.difference(coordinate, version)

    def apply(self, coordinate: Coordinate, entry: LogEntry, source: int | None = None) -> Applied:
        """Merge an update that a peer sent over link `source`; `publish` the change afterwards.

        UpdateError when it is no update of a text; ScrollError when the document failed and was
        thrown away. An update that builds on text which is not here yet is not covered: the caller
        asks for what is missing.
        """
        return self._merging.apply(coordinate, entry, source)

    def merge(self, coordinate: Coordinate, update: bytes) -> Applied:
        """Merge what a client wrote under a client id of its own as an edit of this node, and tell
        the subscribers. The errors of edits, and of `apply`."""
        return self._editor.merge(coordinate, update)

    def adopt(self, coordinate: Coordinate, state: bytes) -> None:
        """Take `state` in place of ours, then add the lines that only ours had, if we may write.

        For one version with two texts: a client id was written twice, and ours is given up.
        """
        self._merging.adopt(coordinate, state)

    def rewrite(self, coordinate: Coordinate) -> None:
        """Write the scroll again, with the head that its content has."""
        if self._documents.open(coordinate) is not None:
            self._writes.rewrite(coordinate)

    def renew_client_id(self) -> None:
        """Write under a new client id from now on."""
        self._documents.renew_client()

    def close_documents(self) -> None:
        """Close every scroll that has no change on its way to the store, and no history."""
        self._documents.close_unpinned()

    def __repr__(self) -> str:
        return f"<Replica {self.name!r}: {len(self)} scrolls>"

    def statistics(self) -> ReplicaStatistics:
        """Return what can be counted of this replica."""
        tracked = tuple(sorted(self._tracked))
        return ReplicaStatistics(len(self._publisher), tracked, self._client.current)
