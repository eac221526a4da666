"""A node behind plain calls: `open` gives a handle for scripts, threads, web servers, notebooks.

A read sees every write of the same handle that has returned, and never an older text than an
earlier read of the same scroll. Callbacks run in threads of the handle, never in the node's.
"""

import logging
import threading
import weakref
from collections.abc import (
    Callable,
    Generator,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    MutableMapping,
    ValuesView,
)
from collections.abc import Mapping as AnyMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar, Unpack, overload

from phextsync.control import operations
from phextsync.control.answers import Page, PlacedRange, fact_rows, rows_of_pages
from phextsync.control.frames import Value
from phextsync.control.operations import Operation
from phextsync.control.status import Status
from phextsync.files import desk as files_desk
from phextsync.files.desk import ToldConflict
from phextsync.files.finding import FoundFile
from phextsync.handles.batch import Batch
from phextsync.handles.changes import Changes
from phextsync.handles.engine import Engine, Options
from phextsync.handles.requests import (
    about_file,
    as_not_synced,
    at,
    checked_name,
    import_rows,
    kept_where,
    seen_as,
    text_of,
    with_grace,
)
from phextsync.handles.steps import Steps
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange, OpenTexts
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.replica.changes import Change, current_writer
from phextsync.replica.history_keeper import HistorySetting
from phextsync.replica.past import (
    BlamedLine,
    DeletedScroll,
    LoggedChange,
    Version,
    has_text,
    newest_first,
    to_restore,
)
from phextsync.replica.views import Bounds, Key, Range, RangeView, Scrolls, as_coordinate, as_range
from phextsync.search import Hit
from phextsync.sync.lacks import Lack
from phextsync.sync.presence import PeerPresence

_log: Final = logging.getLogger("phextsync.handles")
_missing: Final = object()
T = TypeVar("T")


class Handle:
    """A folder that is open in this process, for any thread; made by `open`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # At exit this runs when other threads and pools have ended, and before modules go.
        self._finish = weakref.finalize(self, engine.stop)

    def __enter__(self) -> "Handle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not yet durable and stop. Calls that still wait get a ClosedError."""
        self._finish()

    @property
    def is_owner(self) -> bool:
        """Whether the node runs in this process; if not, another process has it."""
        return self._engine.client.is_owner

    def phext(self, name: str = DEFAULT_PHEXT) -> "Phext":
        """Return the phext `name` as a mapping."""
        return Phext(self, self._engine, checked_name(name))

    def phexts(self) -> list[str]:
        """Return the names of the phexts that the node holds."""
        return self._engine.ask(operations.PHEXTS)

    def status(self) -> Status:
        """Return how the node is, as `phextsync status --json` prints it."""
        return self._engine.ask(operations.STATUS)

    def durable(self, *, timeout_s: float | None = None) -> None:
        """Wait until every change made so far is on the node's disk."""
        self._engine.ask(operations.DURABLE, timeout_s=timeout_s)

    def synced(
        self,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Wait as `Node.synced` does. NotSyncedError (a TimeoutError too) after `timeout_s`."""
        wanted: list[Value] = [phext, text_of(range_), peers, timeout_s]
        try:
            self._engine.ask(operations.SYNCED, *wanted, timeout_s=with_grace(timeout_s))
        except TimeoutError as error:
            raise as_not_synced(error) from None

    def lacking(self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING) -> list[Lack]:
        """Say which connected peers are not known to have a range on their disks, and why."""
        return self._engine.ask(operations.LACKING, phext, text_of(range_))

    def search(
        self,
        words: str,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        limit: int = 20,
        timeout_s: float | None = None,
    ) -> list[Hit]:
        """Search as `Node.search` does. TimeoutError after `timeout_s`."""
        wanted: list[Value] = [phext, text_of(range_), words, limit]
        return self._engine.ask(operations.SEARCH, *wanted, timeout_s=timeout_s)

    def history_settings(self) -> list[HistorySetting]:
        """Return how long history is kept: first in the whole folder, then in ranges."""
        return self._engine.ask(operations.HISTORY)

    def keep_history(
        self, kept_ms: int | None, phext: str | None = None, range_: Range = EVERYTHING
    ) -> None:
        """Set how long history is kept, and wait until that is on the node's disk. See
        `ReplicaSet.keep_history`."""
        where = kept_where(kept_ms, phext, range_)
        self._engine.ask(operations.KEEP_HISTORY, kept_ms, *where)

    def hold(
        self, ranges: Iterable[Range], phext: str = DEFAULT_PHEXT, *, copies: int | None = None
    ) -> None:
        """Hold these ranges of a phext and, in time, no others, as `Node.hold` does."""
        self._engine.ask(operations.HOLD, phext, [*map(text_of, ranges)], copies)

    def follow(self, phext: str = DEFAULT_PHEXT) -> None:
        """Hold what placement gives this node of a phext, and what it will give it later."""
        self._engine.ask(operations.FOLLOW, phext)

    def place(self, copies: int | None, phext: str = DEFAULT_PHEXT) -> None:
        """Let so many members hold each range of a phext, None: all of them."""
        self._engine.ask(operations.PLACE, phext, copies)

    def place_range(
        self,
        range_: Range,
        names: Iterable[str] = (),
        phext: str = DEFAULT_PHEXT,
        *,
        everywhere: bool = False,
    ) -> None:
        """Let the members with these names hold a range besides others, or all do; neither ends
        what was said of that very range."""
        self._engine.ask(operations.PLACE_RANGE, phext, text_of(range_), everywhere, [*names])

    def where(self, range_: Range = EVERYTHING, phext: str = DEFAULT_PHEXT) -> list[PlacedRange]:
        """Return the ranges within one, and who holds each by what was placed."""
        return self._engine.ask(operations.WHERE, phext, text_of(range_))

    def find_file(self, name: str) -> FoundFile:
        """Return the bound file that a path names, seen from the current folder, or a name below a
        bound directory that only one has. CoordinateError when there is none."""
        return self._engine.ask(files_desk.FIND, *about_file(name))

    def name_file(self, name: str) -> FoundFile:
        """Return a bound file as `find_file` does; one that does not exist yet gets a scroll, and
        appears when that has text."""
        return self._engine.ask(files_desk.NAME_FILE, *about_file(name))

    def file_names(
        self, coordinates: Iterable[Coordinate], phext: str = DEFAULT_PHEXT
    ) -> dict[Coordinate, Path]:
        """Return the paths of those scrolls that are files of bound directories."""
        places = [*coordinates]
        paths = self._engine.ask(files_desk.NAMES, phext, [*map(str, places)])
        return {at: path for at, path in zip(places, paths, strict=True) if path is not None}

    def conflicts(self) -> list[ToldConflict]:
        """Return the lines that two sides changed apart and nobody settled, the oldest first."""
        return self._engine.ask(files_desk.CONFLICTS, None, "")

    def settle_conflict(self, number: str, side: str, text: str = "") -> None:
        """Put the lines of one side ("mine", "theirs"), or `text` ("text"), in the place of what
        the merge made of a conflict. PhextsyncError when there is no such place any more."""
        self._engine.ask(operations.SETTLE_CONFLICT, number, side, text)

    def forget_conflict(self, number: str) -> None:
        """Forget a conflict; its file stays as it is."""
        self._engine.ask(operations.FORGET_CONFLICT, number)

    def publish(self, facts: AnyMapping[str, str | int]) -> None:
        """Tell the other nodes `facts` of this process, in place of those told before, until the
        handle closes. See `PresenceBoard.publish`."""
        self._engine.ask(operations.TELL, fact_rows(facts.items()))

    def presence(self) -> list[PeerPresence]:
        """Return what the other nodes tell of themselves, by node id."""
        return self._engine.ask(operations.PRESENCE)

    def __repr__(self) -> str:
        return f"<Handle {str(self._engine.folder)!r}>"


class Phext(OpenTexts[RangeView], MutableMapping[Key, str]):
    """A phext of an open folder, as a mapping of coordinates to texts, for any thread.

    What `Replica` says of keys, edits and errors holds here. `seen` is the text on which a change
    is based: if the scroll has another by now, nothing is changed and ConflictError is raised.
    ClosedError after the handle was closed.
    """

    def __init__(self, handle: Handle, engine: Engine, name: str) -> None:
        self.name = name
        self._handle = handle  # which is not closed as long as somebody has one of its phexts
        self._engine = engine

    def _ask(self, operation: Operation[T], *arguments: Value) -> T:
        return self._engine.ask(operation, self.name, *arguments, writer=current_writer())

    # -- reading ---------------------------------------------------------------------------

    def fetch(self, key: Key | Bounds | CoordinateRange) -> str | RangeView:
        """Return a view, or a text that is not there to be taken."""
        if isinstance(key, slice | CoordinateRange):
            return self.within(key)
        text = self._engine.read(self, self.name, key)
        if text is None:
            text = self._ask(operations.GET, at(key))
        if not text:
            raise KeyError(key)
        return text

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Coordinate | str) and self.get(key) is not None

    def __len__(self) -> int:
        return self._ask(operations.COUNT, "*")

    def __iter__(self) -> Iterator[Key]:
        return self.coordinates()

    def count(self, range_: Range = EVERYTHING) -> int:
        """Return how many scrolls in a range have text."""
        return self._ask(operations.COUNT, text_of(range_))

    def coordinates(self, range_: Range = EVERYTHING) -> Iterator[Coordinate]:
        """Iterate in order over the coordinates in a range whose scroll has text. What changes
        meanwhile may be in or not."""
        return self._rows(operations.COORDINATES, range_)

    def scrolls(self, range_: Range = EVERYTHING) -> Iterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls in a range that have text."""
        return self._rows(operations.READ, range_)

    def _rows(self, operation: Operation[Page[T]], range_: Range) -> Iterator[T]:
        within = text_of(range_)
        return rows_of_pages(lambda after: self._ask(operation, within, after))

    def within(self, range_: Range | Bounds) -> RangeView:
        """Return the scrolls in a range as a mapping of its own, which follows this one."""
        return RangeView(self, as_range(range_))

    def items(self, range_: Range = EVERYTHING) -> ItemsView[Key, str]:
        """Return coordinates and texts in a range, in order."""
        return self.within(range_).items()

    def keys(self, range_: Range = EVERYTHING) -> KeysView[Key]:
        """Return the coordinates in a range whose scroll has text, in order."""
        return self.within(range_).keys()

    def values(self, range_: Range = EVERYTHING) -> ValuesView[str]:
        """Return the texts in a range, in order."""
        return self.within(range_).values()

    def position(self, key: Key, offset: int, *, after: bool = True) -> str:
        """Name the place before character `offset`, as `Replica.position` does."""
        return self._ask(operations.POSITION, at(key), offset, after)

    def offset(self, key: Key, position: str) -> int:
        """Return the offset in characters at which a position is now."""
        return self._ask(operations.OFFSET_OF, at(key), position)

    def log(self, key: Key, last: int | None = None) -> list[LoggedChange]:
        """Return the `last` changes that are kept, newest last, as `Replica.log` does."""
        return self._ask(operations.LOG, at(key), last)

    def blame(self, key: Key) -> list[BlamedLine]:
        """Return the lines of a scroll, with who wrote them and when, as `Replica.blame` does."""
        return self._ask(operations.BLAME, at(key))

    def text_at(self, key: Key, time_ms: int) -> str:
        """Return the text of a scroll at a time, as `Replica.text_at` does."""
        return self._ask(operations.SHOW, at(key), time_ms)

    def versions(self, key: Key, last: int | None = None) -> list[Version]:
        """Return the `last` points in time that `text_at` tells apart, newest last."""
        return self._ask(operations.VERSIONS, at(key), last)

    def undeletable(self, range_: Range = EVERYTHING) -> list[DeletedScroll]:
        """Return what was deleted in a range and can be brought back, newest first, as
        `Replica.undeletable` does. Others are answered meanwhile."""
        found: list[DeletedScroll] = []
        rest: str | None = text_of(range_)
        while rest is not None:
            page = self._ask(operations.UNDELETABLE, rest)
            found += page.found
            rest = page.rest
        return newest_first(found)

    def size(self, key: Key) -> int:
        """Return the bytes of the scroll's text in UTF-8, 0 when there is none."""
        return self._ask(operations.SIZE, at(key))

    # -- changing --------------------------------------------------------------------------

    def __setitem__(self, key: Key, text: str) -> None:
        self._ask(operations.SET, at(key), text)

    def __delitem__(self, key: Key | Bounds | CoordinateRange) -> None:
        if isinstance(key, slice | CoordinateRange):
            self.clear(as_range(key))
        elif not self._ask(operations.REMOVE, at(key)):
            raise KeyError(key)

    def edit(self, key: Key, text: str, *, seen: str | None = None) -> None:
        """Make `text` the scroll's text by a minimal difference."""
        self._ask(operations.SET, at(key), text, seen_as(seen))

    def edit_from(self, key: Key, base: str, text: str) -> None:
        """Do what made `text` of `base`, which the text was when somebody read it; what came since
        stays."""
        self._ask(operations.EDIT_FROM, at(key), base, text)

    def replace(self, key: Key, old: str, new: str, count: int | None = 1) -> None:
        """Replace the `count` places in which exactly `old` stands (None: all, at least one)."""
        self._ask(operations.REPLACE, at(key), old, new, count)

    def append(self, key: Key, text: str) -> None:
        """Add `text` at the end of the scroll."""
        self._ask(operations.APPEND, at(key), text)

    def append_line(self, key: Key, text: str) -> str:
        """Add `text` at the end as lines of its own, and return what was added: the last line gets
        an end first, if it has none."""
        return self._ask(operations.APPEND_LINE, at(key), text)

    def insert(self, key: Key, offset: int, text: str, *, seen: str | None = None) -> None:
        """Insert `text` before character `offset`."""
        self._ask(operations.SPLICE, at(key), offset, offset, text, seen_as(seen))

    def delete(self, key: Key, start: int, stop: int, *, seen: str | None = None) -> None:
        """Delete the characters from `start` to `stop`, `stop` excluded."""
        self._ask(operations.SPLICE, at(key), start, stop, "", seen_as(seen))

    def clear_scroll(self, key: Key) -> bool:
        """Delete the scroll's whole text; return whether there was any."""
        return self._ask(operations.REMOVE, at(key))

    def clear(self, range_: Range = EVERYTHING) -> None:
        """Delete every scroll in a range: one commit, one event."""
        self._ask(operations.CLEAR, text_of(range_))

    def import_text(self, key: Key, text: str) -> None:
        """Make `text` the scroll's text such that equal imports on equal versions are one."""
        self._ask(operations.IMPORT, False, [[at(key), text]])

    def import_texts(self, scrolls: Iterable[tuple[Key, str]], *, keep: bool = False) -> int:
        """Import many texts, `keep` only where there is none; return how many were taken."""
        source, taken = iter(scrolls), 0
        while some := import_rows(source):
            taken += self._ask(operations.IMPORT, keep, some)
        return taken

    def undelete(self, key: Key, *, force: bool = False) -> str:
        """Bring the text back that a scroll had before it was emptied, and return it, as
        `Replica.undelete` does."""
        text = self._ask(operations.DELETED, at(key))
        if not self._ask(operations.IMPORT, not force, [[at(key), text]]):
            raise has_text(self.name, as_coordinate(key))
        return text

    def restore(self, key: Key, time_ms: int) -> None:
        """Make the text of a time, as `text_at` tells it, the text of now."""
        text = self.text_at(key, time_ms)
        self.import_text(key, to_restore(self.name, as_coordinate(key), text))

    @overload
    def pop(self, key: Key, /) -> str: ...
    @overload
    def pop(self, key: Key, /, default: str) -> str: ...
    @overload
    def pop(self, key: Key, /, default: T) -> str | T: ...
    def pop(self, key: Key, /, default: object = _missing) -> object:
        """Delete a scroll's text and return it, in one step."""
        text = self._ask(operations.POP, at(key))
        if text is None and default is _missing:
            raise KeyError(key)
        return default if text is None else text

    def setdefault(self, key: Key, default: str, /) -> str:
        """Return the scroll's text, after making it `default` if there was none, in one step."""
        return self._ask(operations.SETDEFAULT, at(key), default)

    # Without keywords, which are no coordinates.
    def update(self, *others: Scrolls) -> None:  # type: ignore[override]
        """Set many scrolls as one change."""
        with self.batch() as batch:
            for other in others:
                for key, text in other.items() if isinstance(other, AnyMapping) else other:
                    batch[key] = text

    @contextmanager
    def batch(self) -> Generator["Batch"]:
        """Gather changes; they are made together at the end of the block: one commit, one event.

        If the block raises, none is made. One that fails, such as an insertion at an offset that
        is not there, raises its error at the end of the block; those before it stand.
        """
        batch = Batch()
        yield batch
        if batch.changes:
            self._ask(operations.BATCH, batch.changes)

    def history(self, key: Key, writer: str | None = None) -> Steps:
        """Remember from now on what `writer` (None: the current one, see `writing_as`) does to a
        scroll through this handle, so that it can be undone, until that is closed."""
        label = current_writer() if writer is None else writer
        return Steps(self._handle, self._engine, self.name, at(key), label)

    # -- changes ---------------------------------------------------------------------------

    def subscribe(
        self, callback: Callable[[Change], None], range_: Range = EVERYTHING, *, texts: bool = False
    ) -> Callable[[], None]:
        """Call `callback` after changes in a range, from a thread of its own; return what ends it.

        While it runs, changes gather; however many they are, each scroll comes once. `texts` asks
        for the texts before and after.
        """
        changes = self.changes(range_, texts=texts)
        threading.Thread(
            target=_deliver, args=(changes, callback), name="phextsync changes", daemon=True
        ).start()
        return changes.close

    def changes(self, range_: Range = EVERYTHING, *, texts: bool = False) -> Changes:
        """Iterate over the changes in a range from now on; each waits for the next."""
        return Changes(self._engine, self.name, range_, texts=texts)

    def __repr__(self) -> str:
        return f"<Phext {self.name!r} of {str(self._engine.folder)!r}>"


def open(folder: str | Path, **options: Unpack[Options]) -> Handle:
    """Open the folder of a node for plain calls from any thread; close it, or use `with`.

    Runs the node unless another process does; then that one is asked, and if it goes, this
    process or another takes the node over. The options are those of `open_node`.
    """
    engine = Engine(folder, options)
    try:
        engine.start().result()
    except BaseException:
        engine.stop()
        raise
    return Handle(engine)


def _deliver(changes: Changes, callback: Callable[[Change], None]) -> None:
    for change in changes:
        try:
            callback(change)
        except Exception:
            _log.exception("a subscriber of %r failed", change.phext)
