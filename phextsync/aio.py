"""A node for asyncio: `open` gives an asynchronous context manager whose calls are awaited.

The engine is that of the blocking handle: the node runs in a thread of its own, so that neither
loop holds up the other. Awaiting a read that needs no node thread returns without giving way.
Callbacks run in the loop.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from collections.abc import Mapping as AnyMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, Unpack

from phextsync.control import operations
from phextsync.control.answers import ListedScroll, Missing, NearScroll, Page, PlacedRange
from phextsync.control.frames import Value
from phextsync.control.operations import Operation
from phextsync.control.status import Status
from phextsync.control.taking_back import TAKING_BACK, TakingBack
from phextsync.files import desk as files_desk
from phextsync.files.desk import ToldConflict
from phextsync.files.finding import FoundFile
from phextsync.handles.async_range import AsyncRange as AsyncRange
from phextsync.handles.awaiting import AsyncChanges, AsyncSteps, AtOnce, answer, ask, running
from phextsync.handles.batch import Batch
from phextsync.handles.engine import Engine, Options
from phextsync.handles.requests import (
    about_file,
    as_not_synced,
    at,
    import_rows,
    kept_where,
    named,
    seen_as,
    text_of,
    told_as,
    with_grace,
)
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.node.options import seconds_of
from phextsync.phext_names import checked_name
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
from phextsync.replica.taking_back import TakenBack, Writer
from phextsync.replica.views import Bounds, Key, Range, Scrolls, as_coordinate, as_range
from phextsync.search import Hit
from phextsync.sync.lacks import Lack
from phextsync.sync.presence import PeerPresence

T = TypeVar("T")


class AsyncHandle:
    """A folder that is open in this process, for one event loop; made by `open`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def is_owner(self) -> bool:
        """Whether the node runs in this process; if not, another process has it."""
        return self._engine.client.is_owner

    def phext(self, name: str = DEFAULT_PHEXT) -> "AsyncPhext":
        """Return the phext `name`."""
        return AsyncPhext(self._engine, checked_name(name))

    async def phexts(self) -> list[str]:
        """Return the names of the phexts that the node holds."""
        return await ask(self._engine, operations.PHEXTS)

    async def status(self) -> Status:
        """Return how the node is, as `phextsync status --json` prints it."""
        return await ask(self._engine, operations.STATUS)

    async def ask(self, *request: Value) -> Value:
        return await ask(self._engine, named(request), *request[1:], writer=current_writer())

    async def durable(self, *, timeout_s: float | None = None) -> None:
        """Wait until every change made so far is on the node's disk. TimeoutError after
        `timeout_s`."""
        async with asyncio.timeout(seconds_of(timeout_s)):
            await ask(self._engine, operations.DURABLE)

    async def synced(
        self,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Wait as `Node.synced` does. NotSyncedError (a TimeoutError too) after `timeout_s`."""
        wait_s = seconds_of(timeout_s)
        wanted: list[Value] = [phext, text_of(range_), peers, wait_s]
        try:
            async with asyncio.timeout(with_grace(wait_s)):
                await ask(self._engine, operations.SYNCED, *wanted)
        except TimeoutError as error:
            raise as_not_synced(error) from None

    async def lacking(self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING) -> list[Lack]:
        """Say which connected peers are not known to have a range on their disks, and why."""
        return await ask(self._engine, operations.LACKING, phext, text_of(range_))

    async def search(
        self,
        words: str,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        limit: int = 20,
        missing: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> list[Hit]:
        """Search as `Node.search` does. TimeoutError after `timeout_s`."""
        wanted: list[Value] = [phext, text_of(range_), words, limit]
        async with asyncio.timeout(seconds_of(timeout_s)):
            found = await ask(self._engine, operations.SEARCH, *wanted)
        return found.all(missing)

    async def hold(
        self, ranges: Iterable[Range], phext: str = DEFAULT_PHEXT, *, copies: int | None = None
    ) -> None:
        """Hold these ranges of a phext and, in time, no others, as `Node.hold` does."""
        await ask(self._engine, operations.HOLD, phext, [*map(text_of, ranges)], copies)

    async def follow(self, phext: str = DEFAULT_PHEXT) -> None:
        """Hold what placement gives this node of a phext, and what it will give it later."""
        await ask(self._engine, operations.FOLLOW, phext)

    async def place(self, copies: int | None, phext: str = DEFAULT_PHEXT) -> None:
        """Let so many members hold each range of a phext, None: all of them."""
        await ask(self._engine, operations.PLACE, phext, copies)

    async def place_range(
        self,
        range_: Range,
        names: Iterable[str] = (),
        phext: str = DEFAULT_PHEXT,
        *,
        everywhere: bool = False,
    ) -> None:
        """Place a range as `blocking.Handle.place_range` does."""
        pinned: list[Value] = [*names]
        asked = phext, text_of(range_), everywhere, pinned
        await ask(self._engine, operations.PLACE_RANGE, *asked)

    async def pace(
        self,
        phext: str = DEFAULT_PHEXT,
        *,
        repair_after_s: int | None = None,
        bytes_per_s: int | None = None,
    ) -> None:
        """Say how fast members of a phext do what was placed, as `blocking.Handle.pace` does."""
        await ask(self._engine, operations.PACE, phext, repair_after_s, bytes_per_s)

    async def retire(self, name: str) -> None:
        """Let the member with this name have left, as `blocking.Handle.retire` does."""
        await ask(self._engine, operations.RETIRE, name)

    async def where(
        self, range_: Range = EVERYTHING, phext: str = DEFAULT_PHEXT
    ) -> list[PlacedRange]:
        """Return the ranges within one, and who holds each by what was placed."""
        return await ask(self._engine, operations.WHERE, phext, text_of(range_))

    async def find_file(self, name: str) -> FoundFile:
        """Return the bound file that a path names, seen from the current folder, or a name below a
        bound directory that only one has. CoordinateError when there is none."""
        return await ask(self._engine, files_desk.FIND, *about_file(name))

    async def name_file(self, name: str) -> FoundFile:
        """Return a bound file as `find_file` does; one that does not exist yet gets a scroll, and
        appears when that has text."""
        return await ask(self._engine, files_desk.NAME_FILE, *about_file(name))

    async def file_names(
        self, coordinates: Iterable[Coordinate], phext: str = DEFAULT_PHEXT
    ) -> dict[Coordinate, Path]:
        """Return the paths of those scrolls that are files of bound directories."""
        places = [*coordinates]
        paths = await ask(self._engine, files_desk.NAMES, phext, [*map(str, places)])
        return {at: path for at, path in zip(places, paths, strict=True) if path is not None}

    async def conflicts(self) -> list[ToldConflict]:
        """Return the lines that two sides changed apart and nobody settled, the oldest first."""
        return await ask(self._engine, files_desk.CONFLICTS, None, "")

    async def settle_conflict(self, number: str, side: str, text: str = "") -> None:
        """Settle a conflict as `Handle.settle_conflict` does."""
        await ask(self._engine, operations.SETTLE_CONFLICT, number, side, text)

    async def forget_conflict(self, number: str) -> None:
        """Forget a conflict; its file stays as it is."""
        await ask(self._engine, operations.FORGET_CONFLICT, number)

    async def history_settings(self) -> list[HistorySetting]:
        """Return how long history is kept: first in the whole folder, then in ranges."""
        return await ask(self._engine, operations.HISTORY)

    async def keep_history(
        self, kept_ms: int | None, phext: str | None = None, range_: Range = EVERYTHING
    ) -> None:
        """Set how long history is kept, as `blocking.Handle.keep_history` does."""
        where = kept_where(kept_ms, phext, range_)
        await ask(self._engine, operations.KEEP_HISTORY, kept_ms, *where)

    async def publish(self, facts: AnyMapping[str, str | int]) -> None:
        """Tell the other nodes `facts` of this process, as `blocking.Handle.publish` does."""
        await ask(self._engine, operations.TELL, told_as(facts))

    async def presence(self) -> list[PeerPresence]:
        """Return what the other nodes tell of themselves, by node id."""
        return await ask(self._engine, operations.PRESENCE)


class AsyncPhext:
    """A phext of an open folder. The methods are those of `phexts.Phext`, awaited, and raise the
    same; `get` of a scroll without text gives its default."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self._engine = engine
        self._texts = AtOnce(engine, name)

    async def _ask(self, operation: Operation[T], *arguments: Value) -> T:
        writer = current_writer()
        return await ask(self._engine, operation, self.name, *arguments, writer=writer)

    # -- reading ---------------------------------------------------------------------------

    def peek(self, key: Key) -> str | None:
        """Return the text at once, "" when there is none; None when that has to be awaited."""
        try:
            return self._texts[key]
        except KeyError:
            return ""
        except BlockingIOError:
            return None

    async def get(self, key: Key, default: str | None = None) -> str | None:
        """Return the scroll's text, `default` when it has none."""
        text = self.peek(key)
        if text is None:
            text = await self._ask(operations.GET, at(key))
        return text or default

    async def size(self, key: Key) -> int:
        return await self._ask(operations.SIZE, at(key))

    async def count(self, range_: Range = EVERYTHING) -> int:
        """Return how many scrolls in a range have text."""
        return await self._ask(operations.COUNT, text_of(range_))

    def coordinates(self, range_: Range = EVERYTHING) -> AsyncGenerator[Coordinate]:
        return self._rows(operations.COORDINATES, range_)

    def keys(self, range_: Range = EVERYTHING) -> AsyncIterator[Coordinate]:
        """Iterate in order over the coordinates in a range whose scroll has text."""
        return self.coordinates(range_)

    def listed(self, range_: Range = EVERYTHING) -> AsyncGenerator[ListedScroll]:
        return self._rows(operations.LIST, range_)

    async def near(
        self,
        key: Key,
        count: int = 40,
        range_: Range = EVERYTHING,
        *,
        itself: bool = True,
        missing: list[str] | None = None,
    ) -> list[NearScroll]:
        asked = text_of(range_), at(key), count, itself
        return (await self._ask(operations.NEAR, *asked)).all(missing)

    async def values(self, range_: Range = EVERYTHING) -> AsyncIterator[str]:
        """Iterate in order over the texts in a range."""
        async for _, text in self.items(range_):
            yield text

    def within(self, range_: Range | Bounds) -> "AsyncRange":
        """Return the scrolls in a range apart, as they are whenever they are asked for."""
        return AsyncRange(self, as_range(range_))

    def items(self, range_: Range = EVERYTHING) -> AsyncIterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls in a range that have text."""
        return self._rows(operations.READ, range_)

    async def _rows(self, operation: Operation[Page[T]], range_: Range) -> AsyncGenerator[T]:
        missing = Missing()
        after: str | None = ""
        while after is not None:
            page = await self._ask(operation, text_of(range_), after)
            missing.note(page.missing)
            for row in page.rows:
                yield row
            after = page.after
        missing.check()

    # -- changing --------------------------------------------------------------------------

    async def edit(self, key: Key, text: str, *, seen: str | None = None) -> None:
        await self._ask(operations.SET, at(key), text, seen_as(seen))

    async def edit_from(self, key: Key, base: str, text: str) -> None:
        await self._ask(operations.EDIT_FROM, at(key), base, text)

    async def replace(self, key: Key, old: str, new: str, count: int | None = 1) -> None:
        await self._ask(operations.REPLACE, at(key), old, new, count)

    async def position(self, key: Key, offset: int, *, after: bool = True) -> str:
        return await self._ask(operations.POSITION, at(key), offset, after)

    async def offset(self, key: Key, position: str) -> int:
        return await self._ask(operations.OFFSET_OF, at(key), position)

    async def log(self, key: Key, last: int | None = None) -> list[LoggedChange]:
        return await self._ask(operations.LOG, at(key), last)

    async def blame(self, key: Key) -> list[BlamedLine]:
        return await self._ask(operations.BLAME, at(key))

    async def text_at(self, key: Key, time_ms: int) -> str:
        return await self._ask(operations.SHOW, at(key), time_ms)

    async def versions(self, key: Key, last: int | None = None) -> list[Version]:
        return await self._ask(operations.VERSIONS, at(key), last)

    async def undeletable(self, range_: Range = EVERYTHING) -> list[DeletedScroll]:
        found: list[DeletedScroll] = []
        rest: str | None = text_of(range_)
        while rest is not None:
            page = await self._ask(operations.UNDELETABLE, rest)
            found += page.found
            rest = page.rest
        return newest_first(found)

    async def undelete(self, key: Key, *, force: bool = False) -> str:
        text = await self._ask(operations.DELETED, at(key))
        if not await self._ask(operations.IMPORT, not force, [[at(key), text]]):
            raise has_text(self.name, as_coordinate(key))
        return text

    async def taking_back(
        self,
        by: Writer,
        range_: Range = EVERYTHING,
        *,
        since_ms: int | None = None,
        missing: list[str] | None = None,
    ) -> list[TakenBack]:
        found = TakingBack(by, text_of(range_), since_ms)
        while (asked := found.asked) is not None:
            found.take(await self._ask(TAKING_BACK, *asked))
        return found.all(missing)

    async def take_back(self, key: Key, update: bytes) -> None:
        if update:
            await self._ask(operations.TAKE_BACK, at(key), update)

    async def restore(self, key: Key, time_ms: int) -> None:
        text = await self.text_at(key, time_ms)
        await self.import_text(key, to_restore(self.name, as_coordinate(key), text))

    async def append(self, key: Key, text: str) -> None:
        await self._ask(operations.APPEND, at(key), text)

    async def append_line(self, key: Key, text: str) -> str:
        return await self._ask(operations.APPEND_LINE, at(key), text)

    async def insert(self, key: Key, offset: int, text: str, *, seen: str | None = None) -> None:
        await self._ask(operations.SPLICE, at(key), offset, offset, text, seen_as(seen))

    async def delete(self, key: Key, start: int, stop: int, *, seen: str | None = None) -> None:
        await self._ask(operations.SPLICE, at(key), start, stop, "", seen_as(seen))

    async def clear_scroll(self, key: Key) -> bool:
        """Delete the scroll's whole text; return whether there was any."""
        return await self._ask(operations.REMOVE, at(key))

    async def clear(self, range_: Range = EVERYTHING) -> None:
        """Delete every scroll in a range: one commit, one event."""
        await self._ask(operations.CLEAR, text_of(range_))

    async def import_text(self, key: Key, text: str) -> None:
        await self._ask(operations.IMPORT, False, [[at(key), text]])

    async def import_texts(self, scrolls: Iterable[tuple[Key, str]], *, keep: bool = False) -> int:
        source, taken = iter(scrolls), 0
        while some := import_rows(source):
            taken += await self._ask(operations.IMPORT, keep, some)
        return taken

    async def pop(self, key: Key, default: str | None = None) -> str | None:
        """Delete a scroll's text and return it, `default` when there was none, in one step."""
        text = await self._ask(operations.POP, at(key))
        return default if text is None else text

    async def setdefault(self, key: Key, default: str) -> str:
        return await self._ask(operations.SETDEFAULT, at(key), default)

    async def update(self, *others: Scrolls) -> None:
        """Set many scrolls as one change."""
        async with self.batch() as batch:
            for other in others:
                for key, text in other.items() if isinstance(other, AnyMapping) else other:
                    batch[key] = text

    @asynccontextmanager
    async def batch(self) -> AsyncGenerator[Batch]:
        """Gather changes for the end of the block, as `phexts.Phext.batch` does."""
        batch = Batch()
        yield batch
        if batch.changes:
            await self._ask(operations.BATCH, batch.changes)

    @asynccontextmanager
    async def history(self, key: Key, writer: str | None = None) -> AsyncGenerator[AsyncSteps]:
        """Remember what `writer` (None: the current one) does to a scroll through this handle
        while the block lasts, so that it can be undone, as `phexts.Phext.history` does."""
        label = current_writer() if writer is None else writer
        tracked = self._engine.begin(operations.TRACK, self.name, at(key), label)
        await answer(self._engine, tracked)
        steps = AsyncSteps(self._engine, self.name, at(key), label)
        try:
            yield steps
        finally:
            steps.is_open = False
            self._engine.cancel(tracked)

    # -- changes ---------------------------------------------------------------------------

    async def subscribe(
        self, callback: Callable[[Change], None], range_: Range = EVERYTHING, *, texts: bool = False
    ) -> Callable[[], None]:
        """Call `callback` in the loop after changes in a range; return what ends it. `texts` asks
        for the texts before and after."""
        changes = await self._watch(range_, texts=texts)
        task = asyncio.create_task(_deliver(changes, callback))

        def end() -> None:
            changes.close()
            task.cancel()

        return end

    @asynccontextmanager
    async def changes(
        self, range_: Range = EVERYTHING, *, texts: bool = False
    ) -> AsyncGenerator[AsyncChanges]:
        """Iterate over the changes in a range while the block lasts."""
        changes = await self._watch(range_, texts=texts)
        try:
            yield changes
        finally:
            changes.close()

    async def _watch(self, range_: Range, *, texts: bool) -> AsyncChanges:
        watch = self._engine.begin(operations.WATCH, self.name, text_of(range_), texts)
        await answer(self._engine, watch)
        return AsyncChanges(self._engine, self.name, watch)


@asynccontextmanager
async def open(folder: str | Path, **options: Unpack[Options]) -> AsyncGenerator[AsyncHandle]:
    """Open the folder of a node for as long as the block lasts, as `phextsync.open` does."""
    engine = Engine(folder, options)
    async with running(engine):
        yield AsyncHandle(engine)


async def _deliver(changes: AsyncChanges, callback: Callable[[Change], None]) -> None:
    loop = asyncio.get_running_loop()
    async for change in changes:
        loop.call_soon(callback, change)
