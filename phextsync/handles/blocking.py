"""A node behind plain calls: `open` gives a handle for scripts, threads, web servers, notebooks.

A read sees every write of the same handle that has returned, and never an older text than an
earlier read of the same scroll. Callbacks run in threads of the handle, never in the node's.
"""

import weakref
from collections.abc import (
    Iterable,
)
from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import TypeVar, Unpack

from phextsync.control import operations
from phextsync.control.answers import PlacedRange
from phextsync.control.frames import Value
from phextsync.control.status import Status
from phextsync.files import desk as files_desk
from phextsync.files.desk import ToldConflict
from phextsync.files.finding import FoundFile
from phextsync.handles.engine import Engine, Options
from phextsync.handles.phexts import Phext
from phextsync.handles.requests import (
    about_file,
    as_not_synced,
    kept_where,
    named,
    text_of,
    told_as,
    with_grace,
)
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.node.options import seconds_of
from phextsync.phext_names import checked_name
from phextsync.replica.changes import current_writer
from phextsync.replica.history_keeper import HistorySetting
from phextsync.replica.views import Range
from phextsync.search import Hit
from phextsync.sync.lacks import Lack
from phextsync.sync.presence import PeerPresence

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

    def phext(self, name: str = DEFAULT_PHEXT) -> Phext:
        """Return the phext `name` as a mapping."""
        return Phext(self, self._engine, checked_name(name))

    def phexts(self) -> list[str]:
        """Return the names of the phexts that the node holds."""
        return self._engine.ask(operations.PHEXTS)

    def status(self) -> Status:
        """Return how the node is, as `phextsync status --json` prints it."""
        return self._engine.ask(operations.STATUS)

    def ask(self, *request: Value) -> Value:
        """Ask for an operation of `phextsync.control.operations`, its name first, and return its
        answer as it is sent. ProtocolError when there is no such operation."""
        return self._engine.ask(named(request), *request[1:], writer=current_writer())

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
        wait_s = seconds_of(timeout_s)
        wanted: list[Value] = [phext, text_of(range_), peers, wait_s]
        try:
            self._engine.ask(operations.SYNCED, *wanted, timeout_s=with_grace(wait_s))
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
        missing: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> list[Hit]:
        """Search as `Node.search` does. TimeoutError after `timeout_s`."""
        wanted: list[Value] = [phext, text_of(range_), words, limit]
        found = self._engine.ask(operations.SEARCH, *wanted, timeout_s=timeout_s)
        return found.all(missing)

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

    def pace(
        self,
        phext: str = DEFAULT_PHEXT,
        *,
        repair_after_s: int | None = None,
        bytes_per_s: int | None = None,
    ) -> None:
        """Let others hold what a member of a placed phext held that is silent for so long, and let
        members take so many bytes a second of what comes to them; None leaves what was said."""
        self._engine.ask(operations.PACE, phext, repair_after_s, bytes_per_s)

    def retire(self, name: str) -> None:
        """Let the member with this name, or node id, have left for good. PhextsyncError when there
        is none, or more than one."""
        self._engine.ask(operations.RETIRE, name)

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
        self._engine.ask(operations.TELL, told_as(facts))

    def presence(self) -> list[PeerPresence]:
        """Return what the other nodes tell of themselves, by node id."""
        return self._engine.ask(operations.PRESENCE)

    def __repr__(self) -> str:
        return f"<Handle {str(self._engine.folder)!r}>"


def open(folder: str | Path, **options: Unpack[Options]) -> Handle:
    """Open the folder of a node for plain calls from any thread; close it, or use `with`.

    Runs the node unless another process does; then that one is asked, and if it goes, this
    process or another takes the node over. The options are those of `open_node`.
    """
    return _started(Engine(folder, options))


def attach(folder: str | Path) -> Handle:
    """Open the folder as `open` does, and never run its node. When none has run for ten seconds,
    StoreLockedError is raised, or the handle ends: calls get a ClosedError."""
    return _started(Engine(folder, {}, may_own=False))


def _started(engine: Engine) -> Handle:
    try:
        engine.start().result()
    except BaseException:
        engine.stop()
        raise
    return Handle(engine)
