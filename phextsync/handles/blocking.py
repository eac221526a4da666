"""A node behind plain calls: `open` gives a handle for scripts, threads, web servers, notebooks.

A handle has a thread of its own, in which trio runs a place at the folder (`attach`). What is
asked of it crosses to that thread and back, but for reads where the node runs in this process:
the texts of open scrolls are taken where they lie, those of closed ones from the store, in the
caller's thread. A scroll that was changed since it was last read takes the long way once.

A read sees every write of the same handle that has returned, and never an older text than an
earlier read of the same scroll. Callbacks run in threads of the handle, never in the node's.
"""

import json
import logging
import os
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
    Sequence,
    ValuesView,
)
from collections.abc import Mapping as AnyMapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypedDict, TypeVar, Unpack, overload

import trio

from phextsync.control.desk import (
    Value,
    as_change,
    as_facts,
    blamed_lines,
    check_arguments,
    check_request,
    deleted_scrolls,
    digest,
    history_settings,
    logged_changes,
    versions,
)
from phextsync.errors import ClosedError, NotSyncedError, PhextsyncError, ProtocolError
from phextsync.files.desk import ToldConflict, file_names, found_file, told_conflicts
from phextsync.files.finding import FoundFile, current_folder, whole_path
from phextsync.handles.attach import Call, Place, first
from phextsync.index import EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange, OpenTexts
from phextsync.node.node import DEFAULT_PHEXT, open_node
from phextsync.phext_names import is_phext_name
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

_IMPORTED_AT_ONCE: Final = 1000
_GRACE_S: Final = 5.0

_log = logging.getLogger("phextsync.embed")
_missing: Final = object()
T = TypeVar("T")


class Options(TypedDict, total=False):
    """How the node runs, if it runs in this process: the options of `open_node`."""

    host: str | None
    port: int | None
    peers: Sequence[str]
    discover: bool
    interests: AnyMapping[str, Sequence[CoordinateRange]] | None
    links_max: int


class Engine:
    """A place at a folder in a thread of its own: what handles of every kind are made of."""

    def __init__(self, folder: str | Path, options: Options) -> None:
        self.folder = Path(folder).expanduser()
        self.place = Place(self.folder, lambda: open_node(self.folder, **options))
        self.place.on_leave = self._leave
        self.closed_because = ""
        self._readers: weakref.WeakValueDictionary[int, OpenTexts[RangeView]] = (
            weakref.WeakValueDictionary()
        )
        self._started = Call([])
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"phextsync {folder}", daemon=True)

    # -- its life --------------------------------------------------------------------------

    def start(self) -> Call:
        """Begin; the call is answered when the folder is owned or attached to."""
        _engines.add(self)
        self._thread.start()
        return self._started

    def stop(self) -> None:
        """Stop and wait for the end. From any thread, any number of times."""
        if self not in _engines:
            return
        self._has_begun.wait()
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        reason = f"{self.folder} was closed"
        try:
            trio.run(self._hold)
        except BaseException as error:  # the thread ends here: whoever waits for it is told
            cause = first(error)
            reason = f"{self.folder} had to be closed: {cause}"
            if self._started.future.done():
                _log.error("%s", reason, exc_info=error)
            elif isinstance(cause, Exception):
                self._started.complete(cause)
        finally:
            self._has_begun.set()
            self._leave()
            self.closed_because = reason
            self._started.complete(ClosedError(reason))
            _engines.discard(self)

    async def _hold(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._has_begun.set()
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.place.run)
                self._started.complete(None)

    def _leave(self) -> None:
        """The node stops being here: its texts are no longer to be read."""
        with self.place.reading:
            for reader in list(self._readers.values()):
                reader.index = CoordinateIndex()

    def abandon(self) -> None:
        """The child of a fork has the memory of this engine, and not its thread."""
        self.closed_because = (
            f"{self.folder} was opened before a fork, in process {os.getppid()}; "
            f"open it again in process {os.getpid()}"
        )
        self.place.abandon()
        self._leave()
        _engines.discard(self)

    # -- requests --------------------------------------------------------------------------

    def begin(self, request: list[Value]) -> Call:
        """Send a request on its way. See `control.check_request` and `check_arguments`."""
        check_arguments(request)
        check_request(request)
        call = Call(request)
        self._soon(partial(self.place.start, call))
        return call

    def cancel(self, call: Call) -> None:
        """Stop waiting for an answer, or end what is held."""
        with suppress(ClosedError):
            self._soon(partial(self.place.cancel, call))

    def ask(self, *request: Value, timeout_s: float | None = None) -> Value:
        """Send a request and wait for its answer; its error is raised here."""
        call = self.begin(list(request))
        return self.wait(call, timeout_s)

    def wait(self, call: Call, timeout_s: float | None = None) -> Value:
        """Wait for the answer to a call. TimeoutError when it takes longer."""
        try:
            return call.future.result(timeout_s)
        finally:  # a time-out and an interrupt leave it unanswered
            if not call.future.done():
                self.cancel(call)

    def read(self, reader: OpenTexts[RangeView], phext: str, key: Key) -> str | None:
        """Return a text, "" when there is none, without the node's thread; None when only that
        can tell. If the node is here, `reader` has its open texts from now on."""
        with self.place.reading:
            replica = self.place.replica(phext)
            if replica is None:
                return None
            if reader.index is not replica.index:
                self._readers[id(reader)] = reader
                reader.index = replica.index
            return replica.glance(key)

    def _soon(self, function: Callable[[], object]) -> None:
        if self.closed_because or self._token is None:
            raise ClosedError(self.closed_because or f"{self.folder} is not open yet")
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            raise ClosedError(f"{self.folder} was closed") from None


_engines: set[Engine] = set()


def _abandon_all() -> None:
    for engine in list(_engines):
        engine.abandon()


os.register_at_fork(after_in_child=_abandon_all)


# -- the blocking handle -------------------------------------------------------------------


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
        return self._engine.place.is_owner

    def phext(self, name: str = DEFAULT_PHEXT) -> "Phext":
        """Return the phext `name` as a mapping."""
        return Phext(self, self._engine, checked_name(name))

    def phexts(self) -> list[str]:
        """Return the names of the phexts that the node holds."""
        return as_texts(self._engine.ask("phexts"))

    def status(self) -> dict[str, object]:
        """Return what `phextsync status --json` prints."""
        return as_object(self._engine.ask("status"))

    def durable(self, *, timeout_s: float | None = None) -> None:
        """Wait until every change made so far is on the node's disk."""
        self._engine.ask("durable", timeout_s=timeout_s)

    def synced(
        self,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Wait as `Node.synced` does. NotSyncedError (a TimeoutError too) after `timeout_s`."""
        request = sync_request(phext, range_, peers, timeout_s)
        try:
            self._engine.ask(*request, timeout_s=with_grace(timeout_s))
        except TimeoutError as error:
            raise as_not_synced(error) from None

    def lacking(self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING) -> list[Lack]:
        """Say which connected peers are not known to have a range on their disks, and why."""
        return as_lacks(self._engine.ask("lacking", phext, text_of(range_)))

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
        hits = self._engine.ask("search", phext, text_of(range_), words, limit, timeout_s=timeout_s)
        return as_hits(hits)

    def history_settings(self) -> list[HistorySetting]:
        """Return how long history is kept: first in the whole folder, then in ranges."""
        return history_settings(self._engine.ask("history"))

    def keep_history(
        self, kept_ms: int | None, phext: str | None = None, range_: Range = EVERYTHING
    ) -> None:
        """Set how long history is kept, and wait until that is on the node's disk. See
        `ReplicaSet.keep_history`."""
        self._engine.ask(*keep_request(kept_ms, phext, range_))

    def find_file(self, name: str) -> FoundFile:
        """Return the bound file that a path names, seen from the current folder, or a name below a
        bound directory that only one has. CoordinateError when there is none."""
        return found_file(self._engine.ask(*about_file("find", name)))

    def name_file(self, name: str) -> FoundFile:
        """Return a bound file as `find_file` does; one that does not exist yet gets a scroll, and
        appears when that has text."""
        return found_file(self._engine.ask(*about_file("name_file", name)))

    def file_names(
        self, coordinates: Iterable[Coordinate], phext: str = DEFAULT_PHEXT
    ) -> dict[Coordinate, Path]:
        """Return the paths of those scrolls that are files of bound directories."""
        places = [*coordinates]
        return file_names(self._engine.ask("names", phext, [*map(str, places)]), places)

    def conflicts(self) -> list[ToldConflict]:
        """Return the lines that two sides changed apart and nobody settled, the oldest first."""
        return told_conflicts(self._engine.ask("conflicts", None, ""))

    def settle_conflict(self, number: str, side: str, text: str = "") -> None:
        """Put the lines of one side ("mine", "theirs"), or `text` ("text"), in the place of what
        the merge made of a conflict. PhextsyncError when there is no such place any more."""
        self._engine.ask("settle_conflict", number, side, text)

    def forget_conflict(self, number: str) -> None:
        """Forget a conflict; its file stays as it is."""
        self._engine.ask("forget_conflict", number)

    def publish(self, facts: AnyMapping[str, str | int]) -> None:
        """Tell the other nodes `facts` of this process, in place of those told before, until the
        handle closes. See `PresenceBoard.publish`."""
        self._engine.ask("tell", fact_rows(facts))

    def presence(self) -> list[PeerPresence]:
        """Return what the other nodes tell of themselves, by node id."""
        return as_presences(self._engine.ask("presence"))

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

    def _ask(self, operation: str, *arguments: Value) -> Value:
        return self._engine.ask(*signed([operation, self.name, *arguments]))

    # -- reading ---------------------------------------------------------------------------

    def fetch(self, key: Key | Bounds | CoordinateRange) -> str | RangeView:
        """Return a view, or a text that is not there to be taken."""
        if isinstance(key, slice | CoordinateRange):
            return self.within(key)
        text = self._engine.read(self, self.name, key)
        if text is None:
            text = as_text(self._ask("get", at(key)))
        if not text:
            raise KeyError(key)
        return text

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Coordinate | str) and self.get(key) is not None

    def __len__(self) -> int:
        return as_number(self._ask("count", "*"))

    def __iter__(self) -> Iterator[Key]:
        return self.coordinates()

    def count(self, range_: Range = EVERYTHING) -> int:
        """Return how many scrolls in a range have text."""
        return as_number(self._ask("count", text_of(range_)))

    def coordinates(self, range_: Range = EVERYTHING) -> Iterator[Coordinate]:
        """Iterate in order over the coordinates in a range whose scroll has text. What changes
        meanwhile may be in or not."""
        after = ""
        while True:
            page, more = as_page(self._ask("coordinates", text_of(range_), after))
            yield from map(Coordinate.parse, as_texts(page))
            if not more:
                return
            after = str(page[-1])

    def scrolls(self, range_: Range = EVERYTHING) -> Iterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls in a range that have text."""
        after = ""
        while True:
            page, more = as_page(self._ask("read", text_of(range_), after))
            yield from (pair := as_scrolls(page))
            if not more:
                return
            after = str(pair[-1][0])

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
        return as_text(self._ask("position", at(key), offset, after)) or ""

    def offset(self, key: Key, position: str) -> int:
        """Return the offset in characters at which a position is now."""
        return as_number(self._ask("offset", at(key), position))

    def log(self, key: Key, last: int | None = None) -> list[LoggedChange]:
        """Return the `last` changes that are kept, newest last, as `Replica.log` does."""
        return logged_changes(self._ask("log", at(key), last))

    def blame(self, key: Key) -> list[BlamedLine]:
        """Return the lines of a scroll, with who wrote them and when, as `Replica.blame` does."""
        return blamed_lines(self._ask("blame", at(key)))

    def text_at(self, key: Key, time_ms: int) -> str:
        """Return the text of a scroll at a time, as `Replica.text_at` does."""
        return as_text(self._ask("show", at(key), time_ms)) or ""

    def versions(self, key: Key, last: int | None = None) -> list[Version]:
        """Return the `last` points in time that `text_at` tells apart, newest last."""
        return versions(self._ask("versions", at(key), last))

    def undeletable(self, range_: Range = EVERYTHING) -> list[DeletedScroll]:
        """Return what was deleted in a range and can be brought back, newest first, as
        `Replica.undeletable` does. Others are answered meanwhile."""
        found: list[DeletedScroll] = []
        rest: str | None = text_of(range_)
        while rest is not None:
            rows, rest = deleted_scrolls(self._ask("undeletable", rest))
            found += rows
        return newest_first(found)

    def size(self, key: Key) -> int:
        """Return the bytes of the scroll's text in UTF-8, 0 when there is none."""
        return as_number(self._ask("size", at(key)))

    # -- changing --------------------------------------------------------------------------

    def __setitem__(self, key: Key, text: str) -> None:
        self._ask("set", at(key), text)

    def __delitem__(self, key: Key | Bounds | CoordinateRange) -> None:
        if isinstance(key, slice | CoordinateRange):
            self.clear(as_range(key))
        elif not self._ask("remove", at(key)):
            raise KeyError(key)

    def edit(self, key: Key, text: str, *, seen: str | None = None) -> None:
        """Make `text` the scroll's text by a minimal difference."""
        self._ask("set", at(key), text, seen_as(seen))

    def edit_from(self, key: Key, base: str, text: str) -> None:
        """Do what made `text` of `base`, which the text was when somebody read it; what came since
        stays."""
        self._ask("edit_from", at(key), base, text)

    def replace(self, key: Key, old: str, new: str, count: int | None = 1) -> None:
        """Replace the `count` places in which exactly `old` stands (None: all, at least one)."""
        self._ask("replace", at(key), old, new, count)

    def append(self, key: Key, text: str) -> None:
        """Add `text` at the end of the scroll."""
        self._ask("append", at(key), text)

    def insert(self, key: Key, offset: int, text: str, *, seen: str | None = None) -> None:
        """Insert `text` before character `offset`."""
        self._ask("splice", at(key), offset, offset, text, seen_as(seen))

    def delete(self, key: Key, start: int, stop: int, *, seen: str | None = None) -> None:
        """Delete the characters from `start` to `stop`, `stop` excluded."""
        self._ask("splice", at(key), start, stop, "", seen_as(seen))

    def clear_scroll(self, key: Key) -> None:
        """Delete the scroll's whole text, if it has any."""
        self._ask("remove", at(key))

    def clear(self, range_: Range = EVERYTHING) -> None:
        """Delete every scroll in a range: one commit, one event."""
        self._ask("clear", text_of(range_))

    def import_text(self, key: Key, text: str) -> None:
        """Make `text` the scroll's text such that equal imports on equal versions are one."""
        self._ask("import", False, [[at(key), text]])

    def import_texts(self, scrolls: Iterable[tuple[Key, str]], *, keep: bool = False) -> int:
        """Import many texts, `keep` only where there is none; return how many were taken."""
        source, taken = iter(scrolls), 0
        while some := import_rows(source):
            taken += as_number(self._ask("import", keep, some))
        return taken

    def undelete(self, key: Key, *, force: bool = False) -> str:
        """Bring the text back that a scroll had before it was emptied, and return it, as
        `Replica.undelete` does."""
        text = as_text(self._ask("deleted", at(key))) or ""
        if not self._ask("import", not force, [[at(key), text]]):
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
        text = as_text(self._ask("pop", at(key)))
        if text is None and default is _missing:
            raise KeyError(key)
        return default if text is None else text

    def setdefault(self, key: Key, default: str, /) -> str:
        """Return the scroll's text, after making it `default` if there was none, in one step."""
        return as_text(self._ask("setdefault", at(key), default)) or ""

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
            self._ask("batch", batch.changes)

    def history(self, key: Key, writer: str | None = None) -> "Steps":
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

    def changes(self, range_: Range = EVERYTHING, *, texts: bool = False) -> "Changes":
        """Iterate over the changes in a range from now on; each waits for the next."""
        return Changes(self._engine, self.name, range_, texts=texts)

    def __repr__(self) -> str:
        return f"<Phext {self.name!r} of {str(self._engine.folder)!r}>"


class Batch:
    """Changes to one phext that are to be made together; see `Phext.batch`."""

    def __init__(self) -> None:
        self.changes: list[Value] = []

    def __setitem__(self, key: Key, text: str) -> None:
        self.edit(key, text)

    def __delitem__(self, key: Key) -> None:
        self.changes.append(["remove", at(key)])

    def edit(self, key: Key, text: str, *, seen: str | None = None) -> None:
        self.changes.append(["set", at(key), text, seen_as(seen)])

    def append(self, key: Key, text: str) -> None:
        self.changes.append(["append", at(key), text])

    def insert(self, key: Key, offset: int, text: str, *, seen: str | None = None) -> None:
        self.changes.append(["splice", at(key), offset, offset, text, seen_as(seen)])

    def delete(self, key: Key, start: int, stop: int, *, seen: str | None = None) -> None:
        self.changes.append(["splice", at(key), start, stop, "", seen_as(seen)])

    def import_text(self, key: Key, text: str) -> None:
        self.changes.append(["import", False, [[at(key), text]]])


class Steps:
    """What one writer of a handle did to one scroll, made by `Phext.history`: takes back its steps
    and does them again, as `History` does where the node runs.

    They are held where the node runs. When another process takes the node over they are forgotten,
    and what is done from then on can be undone.
    """

    def __init__(
        self, handle: Handle, engine: Engine, phext: str, coordinate: str, writer: str
    ) -> None:
        self.writer = writer
        self._handle = handle
        self._engine = engine
        self._scroll = phext, coordinate
        self._held = engine.begin(["track", phext, coordinate, writer])
        engine.wait(self._held)
        self._finish = weakref.finalize(self, engine.cancel, self._held)

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return as_steps(self._ask("steps"))[0]

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and the writer has done nothing since."""
        return as_steps(self._ask("steps"))[1]

    def undo(self) -> bool:
        """Take back the last step; say whether there was one."""
        return bool(self._ask("undo"))

    def redo(self) -> bool:
        """Do the step again that was taken back last; say whether there was one."""
        return bool(self._ask("redo"))

    def close(self) -> None:
        """Forget the steps."""
        self._finish()

    def _ask(self, operation: str) -> Value:
        if not self._finish.alive:
            raise closed_history(self._scroll[1])
        return self._engine.ask(*signed([operation, *self._scroll], self.writer))


class Changes:
    """Changes of a phext as they come; see `Phext.changes`. Ends when it or the handle closes."""

    def __init__(self, engine: Engine, phext: str, range_: Range, *, texts: bool) -> None:
        self._engine = engine
        self._phext = phext
        self._next: Call | None = None  # without an answer, though an interrupt ended the wait
        self._turn = threading.Lock()  # of those who want the next change
        self._held = engine.begin(["watch", phext, text_of(range_), texts])
        engine.wait(self._held)

    def __enter__(self) -> "Changes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        with self._turn:
            try:
                if self._next is None:
                    self._next = self._engine.begin(["next", self._held.number])
                answer = self._next.future.result()
            except ClosedError:
                raise StopIteration from None
            self._next = None
        if answer is None:
            raise StopIteration
        return as_change(self._phext, answer)

    def close(self) -> None:
        """End the iteration, in whatever thread it waits."""
        self._engine.cancel(self._held)


def open(folder: str | Path, **options: Unpack[Options]) -> Handle:
    """Open the folder of a node for plain calls from any thread; close it, or use `with`.

    Runs the node unless another process does; then that one is asked, and if it goes, this
    process or another takes the node over. The options are those of `open_node`.
    """
    engine = Engine(folder, options)
    try:
        engine.start().future.result()
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


# -- requests and answers ------------------------------------------------------------------


def about_file(operation: str, name: str) -> list[Value]:
    """Return a request about a file that is named as seen from the current folder."""
    return [operation, name, whole_path(name, current_folder())]


def checked_name(name: str) -> str:
    """PhextsyncError when `name` cannot name a phext, TypeError when it is no text."""
    if not isinstance(name, str):
        raise TypeError(f"expected the name of a phext, found {type(name).__name__}")
    if not is_phext_name(name):
        raise PhextsyncError(f"expected the name of a phext, found {name!r:.60}")
    return name


def at(key: Key) -> str:
    """Return a coordinate as requests have it. TypeError when it is neither one nor a text."""
    return key if isinstance(key, str) else str(as_coordinate(key))


def text_of(range_: Range) -> str:
    """Return a range as requests have it. TypeError when it is neither one nor a text."""
    return range_ if isinstance(range_, str) else f"{as_range(range_)}"


def sync_request(
    phext: str, range_: Range, peers: int | None, timeout_s: float | None
) -> list[Value]:
    """Return the request for waiting until peers have a range, for so long."""
    return ["synced", phext, text_of(range_), peers, timeout_s]


def with_grace(timeout_s: float | None) -> float | None:
    """Return how long to wait for the node to say that a time is over."""
    return None if timeout_s is None else timeout_s + _GRACE_S


def as_not_synced(error: TimeoutError) -> NotSyncedError:
    """Return what to raise when the node said that time is over, or said nothing."""
    if isinstance(error, NotSyncedError):
        return error
    reason = "this node has not answered in time"
    return NotSyncedError(f"expected peers to have it on their disks: {reason}", (reason,))


def closed_history(coordinate: str) -> PhextsyncError:
    return PhextsyncError(f"{coordinate}: expected an open history, found a closed one")


def signed(request: list[Value], writer: str | None = None) -> list[Value]:
    """Return a request with the label of its writer, the current one if it is None."""
    label = current_writer() if writer is None else writer
    return ["as", label, *request] if label else request


def seen_as(text: str | None) -> bytes:
    """Return what stands for the text that a change is based on."""
    return b"" if text is None else digest(text)


def import_rows(source: Iterator[tuple[Key, str]]) -> list[Value]:
    """Take the next scrolls of many for a request."""
    return [[at(key), text] for key, text in islice(source, _IMPORTED_AT_ONCE)]


def as_text(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _unexpected("a text", value)


def as_number(value: Value) -> int:
    if isinstance(value, int):
        return value
    raise _unexpected("a number", value)


def as_texts(value: Value) -> list[str]:
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    raise _unexpected("texts", value)


def as_object(value: Value) -> dict[str, object]:
    found = json.loads(as_text(value) or "")
    if isinstance(found, dict):
        return found
    raise _unexpected("an object", value)


def as_page(value: Value) -> tuple[list[Value], bool]:
    match value:
        case [list(page), bool(more)]:
            return page, more
        case _:
            raise _unexpected("a page", value)


def as_scrolls(page: list[Value]) -> list[tuple[Coordinate, str]]:
    scrolls = []
    for row in page:
        match row:
            case [str(coordinate), str(text)]:
                scrolls.append((Coordinate.parse(coordinate), text))
            case _:
                raise _unexpected("a scroll", row)
    return scrolls


def as_lacks(value: Value) -> list[Lack]:
    lacks = []
    for row in value if isinstance(value, list) else []:
        match row:
            case [bytes(peer_id), int(scrolls), str(reason)]:
                lacks.append(Lack(peer_id, scrolls, reason))
            case _:
                raise _unexpected("what a peer lacks", row)
    return lacks


def keep_request(kept_ms: int | None, phext: str | None, range_: Range) -> list[Value]:
    """Return the request that sets how long history is kept."""
    where: list[Value] = [] if phext is None else [phext, text_of(range_), False]
    if not where and (kept_ms is None or not as_range(range_).is_everything):
        raise PhextsyncError("expected a time for the whole folder, or a phext and a range")
    return ["keep_history", kept_ms, *where]


def fact_rows(facts: AnyMapping[str, str | int]) -> list[Value]:
    """Return facts for a request."""
    return [[name, fact] for name, fact in facts.items()]


def as_presences(value: Value) -> list[PeerPresence]:
    found = []
    for row in value if isinstance(value, list) else []:
        match row:
            case [bytes(node_id), str(name), list(facts)]:
                found.append(PeerPresence(node_id, name, as_facts(facts)))
            case _:
                raise _unexpected("what a node tells", row)
    return found


def as_steps(value: Value) -> tuple[bool, bool]:
    match value:
        case [bool(undo), bool(redo)]:
            return undo, redo
        case _:
            raise _unexpected("whether there are steps", value)


def as_hits(value: Value) -> list[Hit]:
    hits = []
    for row in value if isinstance(value, list) else []:
        match row:
            case [str(coordinate), str(snippet), float(score)]:
                hits.append(Hit(Coordinate.parse(coordinate), snippet, score))
            case _:
                raise _unexpected("what was found", row)
    return hits


def _unexpected(what: str, found: Value) -> ProtocolError:
    return ProtocolError(f"expected {what}, found {found!r:.80}")
