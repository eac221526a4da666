"""A phext behind plain calls, as a mapping."""

import logging
import threading
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
from typing import Final, TypeVar, overload

from phextsync.control import operations
from phextsync.control.answers import ListedScroll, NearScroll, Page, rows_of_pages
from phextsync.control.frames import Value
from phextsync.control.operations import Operation
from phextsync.control.taking_back import TAKING_BACK, TakingBack
from phextsync.handles.batch import Batch
from phextsync.handles.changes import Changes
from phextsync.handles.engine import Engine
from phextsync.handles.requests import (
    at,
    import_rows,
    seen_as,
    text_of,
)
from phextsync.handles.steps import Steps
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange, OpenTexts
from phextsync.replica.changes import Change, current_writer
from phextsync.replica.past import (
    BlamedLine,
    DeletedScroll,
    LoggedChange,
    Version,
    has_text,
    newest_first,
    to_restore,
)
from phextsync.replica.taking_back import TakenBack, Writer
from phextsync.replica.views import Bounds, Key, Range, RangeView, Scrolls, as_coordinate, as_range

_log: Final = logging.getLogger("phextsync.handles")
_missing: Final = object()
T = TypeVar("T")


class Phext(OpenTexts[RangeView], MutableMapping[Key, str]):
    """A phext of an open folder, as a mapping of coordinates to texts, for any thread.

    What `Replica` says of keys, edits and errors holds here. `seen` is the text on which a change
    is based: if the scroll has another by now, nothing is changed and ConflictError is raised.
    ClosedError after the handle was closed.
    """

    def __init__(self, handle: object, engine: Engine, name: str) -> None:
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

    def listed(self, range_: Range = EVERYTHING) -> Iterator[ListedScroll]:
        """Iterate in order over coordinates, bytes and first lines of the scrolls in a range."""
        return self._rows(operations.LIST, range_)

    def scrolls(self, range_: Range = EVERYTHING) -> Iterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls in a range that have text."""
        return self._rows(operations.READ, range_)

    def _rows(self, operation: Operation[Page[T]], range_: Range) -> Iterator[T]:
        within = text_of(range_)
        return rows_of_pages(lambda after: self._ask(operation, within, after))

    def near(
        self,
        key: Key,
        count: int = 40,
        range_: Range = EVERYTHING,
        *,
        itself: bool = True,
        missing: list[str] | None = None,
    ) -> list[NearScroll]:
        """Return the scrolls of a range that are nearest to a coordinate, as `Replica.near` does,
        with bytes and first lines; up to 2,000. A list `missing` gets a line for each part of which
        nobody could be asked; without it that is a NotHeldError."""
        asked = text_of(range_), at(key), count, itself
        return self._ask(operations.NEAR, *asked).all(missing)

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

    def taking_back(
        self,
        by: Writer,
        range_: Range = EVERYTHING,
        *,
        since_ms: int | None = None,
        missing: list[str] | None = None,
    ) -> list[TakenBack]:
        """Return what takes back all that a writer did in a range, since a time by its clock if
        one is given, by coordinate; `take_back` does it. NotHeldError says of which parts nobody
        could be asked; where `missing` is given, that is added to it instead."""
        found = TakingBack(by, text_of(range_), since_ms)
        while (asked := found.asked) is not None:
            found.take(self._ask(TAKING_BACK, *asked))
        return found.all(missing)

    def take_back(self, key: Key, update: bytes) -> None:
        """Do what `taking_back` found for a scroll: an edit of its own, which leaves what others
        wrote. Doing it again, here or at another node, changes nothing, nor does an empty one."""
        if update:
            self._ask(operations.TAKE_BACK, at(key), update)

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


def _deliver(changes: Changes, callback: Callable[[Change], None]) -> None:
    for change in changes:
        try:
            callback(change)
        except Exception:
            _log.exception("a subscriber of %r failed", change.phext)
