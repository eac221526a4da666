"""Service: keeps the bound directories of a node in step while it runs.

Each binding has a task of its own, and a boundary: a directory that is not there, a watcher that
fails, or an error that nobody thought of concerns that binding, which tries again and says so.
Where the system cannot watch a directory, or others change files there unseen by it, it is looked
through every second or so.
"""

import logging
import os
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final, TypeVar, TypeVarTuple

import trio
from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from phextsync.boundaries import first, one_line, printable
from phextsync.errors import DirectoryError, StoreError
from phextsync.files.binding import Binding
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.checkouts import is_moving
from phextsync.files.desk import FileDesk
from phextsync.files.directory import Directory
from phextsync.files.filesystem import OsFileSystem
from phextsync.files.held import Held
from phextsync.files.presets import preset_of
from phextsync.files.records import Records
from phextsync.files.restored import Patience, Restored, Runs
from phextsync.files.status import BindingStatus
from phextsync.files.todo import Rescans
from phextsync.index import Coordinate
from phextsync.mounts import is_shared, kind_of
from phextsync.node.node import Node
from phextsync.ranges import holds
from phextsync.replica.changes import ChangeFeed
from phextsync.replica.past import FOREVER
from phextsync.signals import Flag

_STEP_MS: Final = 10  # a burst ends when nothing happens for so long, ...
_DEBOUNCE_MS: Final = 40  # ... or after so long
_RESCAN_S: Final = 30.0
_FIRST_RESCAN_S: Final = 1.0  # of what changed before the directory was watched
_POLL_MIN_S: Final = 1.0
_POLL_SHARE: Final = 10  # looking through takes at most this part of the time
_ODD_NAME: Final = "Unable to decode path"  # said by watchfiles, which hears nothing from then on
_POLLED: Final = "looks through it every few seconds: on {} others change files unseen"
_LOOK_S: Final = 1.0  # how often it is looked whether the directory is the one that is watched
_PACE_S: Final = 0.1
_RETRY_S: Final = 1.0
_REWATCH_MAX_S: Final = 30.0
_TELL_S: Final = 5.0
_PRUNE_S: Final = 3600.0
_DAY_MS: Final = 86_400_000

_log = logging.getLogger("phextsync.files")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Directories:
    """The bound directories of a node, as they are served."""

    def __init__(self, node: Node) -> None:
        self.store = BindingStore(node.folder)
        self._node = node
        self._boundary = node.boundary.beside(_log)
        self._running: dict[str, tuple[Bound, trio.CancelScope, _Service]] = {}
        self._has_begun = False

    def status(self) -> list[BindingStatus]:
        """Say how it stands with each, by directory."""
        services = [service for _, _, service in self._running.values()]
        return sorted((s.status() for s in services), key=lambda status: status.directory)

    def binding(self, directory: Path) -> Binding | None:
        """Return the binding of a directory, None when it is not served."""
        for bound, _, service in self._running.values():
            if bound.directory == directory:
                return service.binding
        return None

    def taking_up(self) -> list[tuple[str, int, int]]:
        """Say which are being taken up: directory, files that were looked at, all of them."""
        services = [service for _, _, service in self._running.values()]
        return [row for service in services if (row := service.taking_up()) is not None]

    def is_apart(self, bound: Bound) -> bool:
        """Whether others may be changing what is bound unseen."""
        return not self._node.is_in_sight(bound.phext, bound.range)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve every binding of the node's folder until cancelled, those made meanwhile included;
        started when those that are there at the start have been looked through once, or cannot
        be. When nothing of what they hold waits any more, the node may meet others."""
        state: tuple[int, ...] | None = None
        async with trio.open_nursery() as nursery:
            while True:
                with self._boundary.around("reading what is bound"):
                    if (now := await _in_thread(self.store.state)) != state or state is None:
                        self._follow(nursery, await _in_thread(self.store.bindings))
                        state = now
                if not self._has_begun:
                    self._has_begun = True
                    nursery.start_soon(self._let_meet, [row[2] for row in self._running.values()])
                if task_status is not trio.TASK_STATUS_IGNORED:
                    for _, _, service in list(self._running.values()):
                        await service.is_taken_up.wait()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(_RETRY_S)

    async def _let_meet(self, services: list["_Service"]) -> None:
        """Let the node meet others once all that directories hold is in their scrolls."""
        for service in services:
            await service.is_taken_in.wait()
        self._node.links.gate.open()

    def _follow(self, nursery: trio.Nursery, bound: list[Bound]) -> None:
        """Begin what is not served yet, end what is no longer bound, confirm what was held."""
        wanted = {each.id: each for each in bound}
        for number in {*self._running} - {*wanted}:
            self._running.pop(number)[1].cancel()
        for number, each in wanted.items():
            if number not in self._running:
                service, scope = _Service(self._node, each, self.store), trio.CancelScope()
                nursery.start_soon(service.keep_running, scope)
            else:
                before, scope, service = self._running[number]
                if each.confirmed_ns > before.confirmed_ns:
                    service.confirm(each)
            self._running[number] = each, scope, service


async def serve(
    node: Node, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve the bound directories of a node's folder until cancelled, and let the node answer for
    them; see `Directories.serve`."""
    directories = Directories(node)
    with FileDesk(node.replicas, node.folder, directories).at(node):
        await directories.serve(task_status=task_status)


class _Service:
    """One binding while a node runs: what may differ, and rounds that bring it together."""

    def __init__(self, node: Node, bound: Bound, store: BindingStore) -> None:
        self.binding: Binding | None = None
        self.is_taken_up = trio.Event()  # it was looked through, or cannot be
        self.is_taken_in = trio.Event()  # nor is anything waited for, such as who is back
        self._node = node
        self._boundary = node.boundary.beside(_log)
        self._bound = bound
        self._store = store
        self._paths: dict[str, None] = {}
        self._coordinates: dict[Coordinate, None] = {}
        self._writers: dict[Coordinate, str] = {}
        self._wake = Flag()
        self._stop = trio.Event()
        self._patience = Patience(
            lambda: bool(self._holders()),
            partial(node.is_whole, bound.phext, bound.range),
        )
        self._watched: tuple[int, int] | None = None
        self._watcher = "not yet watched"
        self._has_odd_names = False
        self._shared = ""  # the kind of file system, if others change files there unseen
        self._rescans = Rescans()
        self._problem = ""
        self._prune_at = 0.0
        self._progress = (0, 0)
        self._progress_told_at = 0.0

    def status(self) -> BindingStatus:
        """Say how it stands."""
        bound, binding = self._bound, self.binding
        situation = None if binding is None else binding.situation()
        place = bound.directory, bound.phext, str(bound.range)
        watched = self._watcher, self._problem
        return BindingStatus(*place, *watched, situation, self._progress, trio.current_time())

    def taking_up(self) -> tuple[str, int, int] | None:
        """Say how many files of how many were looked at, None when it has been taken up."""
        is_busy = self.binding is None and self._progress[1] > 0
        return (str(self._bound.directory), *self._progress) if is_busy else None

    def confirm(self, bound: Bound) -> None:
        """Do the deletions that are held, in the next round."""
        self._bound = bound
        self._wake_up()

    async def keep_running(self, scope: trio.CancelScope) -> None:
        """Serve the binding until `scope` is cancelled, whatever happens to it."""
        with scope:
            part = f"the directory {self._bound.directory}"
            await self._boundary.keep_running(part, self._run)

    async def _run(self) -> None:
        bound, node = self._bound, self._node
        node.replicas.keep_history(_kept_ms(bound), bound.phext, bound.range, unless_set=True)
        self.binding, self._rescans, self._stop = None, Rescans(), trio.Event()
        feed = node.phext(bound.phext).feed(bound.range)
        feed.on_ready = self._wake_up
        directory: Directory | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_watching)
                while True:
                    try:
                        directory = directory or await self._open()
                        await self._round(directory, feed)
                        await node.durable()  # others wait for it
                        self._problem = ""
                    except (DirectoryError, StoreError, OSError) as error:
                        self._failed(str(error))
                    self._tell()
                    self.is_taken_up.set()
                    if not self.is_taken_in.is_set() and not self._is_waiting():
                        self.is_taken_in.set()
                    await self._rest()
        finally:
            self._stop.set()  # which the watching thread hears, and no cancellation
            feed.close()
            if directory is not None:
                directory.close()

    def _is_waiting(self) -> bool:
        """Whether something of what the directory holds is not in the scrolls only yet."""
        situation = None if self.binding is None else self.binding.situation()
        has_more = situation is not None and situation.waiting > situation.held
        return has_more and not self._problem

    async def _open(self) -> Directory:
        """Return the directory. DirectoryError when it is not there, or its range is not held."""
        bound = self._bound
        if not holds(self._node.replicas.holding.hold(bound.phext).firm, bound.range):
            raise DirectoryError(
                f"this node does not hold {bound.range} of {bound.phext}: `phextsync hold` has it "
                "held again"
            )
        files = OsFileSystem(self._bound.directory)
        marker, preset = self._store.marker_of(bound), preset_of(bound.preset)
        return await _in_thread(partial(Directory, files, marker, preset=preset))

    def _take_changes(self, feed: ChangeFeed) -> tuple[dict[str, None], dict[Coordinate, None]]:
        """Return what may have changed, since the last call, of files and of scrolls."""
        paths, self._paths = self._paths, {}
        coordinates, self._coordinates = self._coordinates, {}
        while (change := feed.take()) is not None:
            coordinates.update(dict.fromkeys(change.coordinates))
            if change.origin is not None:
                self._writers.update(dict.fromkeys(change.coordinates, change.label))
            if change.missed is not None:
                self._rescans.ask()
        return paths, coordinates

    async def _round(self, directory: Directory, feed: ChangeFeed) -> None:
        """Bring together what may differ."""
        paths, coordinates = self._take_changes(feed)
        writers, self._writers = self._writers, {}
        now = trio.current_time()
        try:
            if self.binding is None:
                binding = self._bind(directory, partial(self._take_changes, feed))
                self._rescans.begin()
                await binding.start(now, self._bound.confirmed_ns)
                self.binding = binding
                self._rescans.ask(now + _FIRST_RESCAN_S)
            elif now >= self._rescans.due:
                self._rescans.begin()
                await self.binding.rescan(now, writers)
                later = trio.current_time()
                self._rescans.ask(later + self._pause_s(later - now))
            binding = self.binding
            if self._bound.confirmed_ns > binding.records.confirmed_ns:
                binding.confirm(self._bound.confirmed_ns)
            await binding.round(paths, coordinates, trio.current_time(), writers)
            if now >= self._prune_at:
                binding.conflicts.prune(_kept_ms(self._bound))
                self._prune_at = now + _PRUNE_S
        except BaseException:
            self._paths = {**paths, **self._paths}
            self._coordinates = {**coordinates, **self._coordinates}
            self._writers = {**writers, **self._writers}
            raise

    def _bind(
        self,
        directory: Directory,
        news: Callable[[], tuple[dict[str, None], dict[Coordinate, None]]],
    ) -> Binding:
        bound, node = self._bound, self._node
        fingerprint = node.replicas.open(bound.phext).fingerprint
        tells = partial(Held, holders=self._holders, fingerprint=fingerprint, run=_in_thread)
        number = bytes.fromhex(bound.id)
        if old := self._store.old_records(bound):
            records = Records(node.replicas, number)
            for coordinate, (record, text) in old.items():
                if records.get(coordinate) is None:
                    records.keep(coordinate, record, text)
        return Binding(
            node.replicas,
            bound.phext,
            bound.range,
            directory,
            binding_id=number,
            run=_in_thread,
            durable=node.durable,
            is_apart=lambda: not node.is_in_sight(bound.phext, bound.range),
            is_whole=partial(node.is_whole, bound.phext, bound.range),
            restored=lambda records: Restored(
                records,
                directory,
                Runs(node.replicas, number, partial(token_hex, 8)),
                self._patience,
                tells(records, directory.root),
                run=_in_thread,
                durable=node.durable,
            ),
            name_of=node.acquaintances.remembered.name,
            is_checkout_moving=partial(is_moving, bound.directory),
            news=news,
            on_progress=self._note_progress,
        )

    def _holders(self) -> set[bytes]:
        return self._node.agreement.even_holders(self._bound.phext, self._bound.range)

    def _note_progress(self, done: int, of: int) -> None:
        self._progress = done, of
        now = trio.current_time()
        if self.binding is None and now - self._progress_told_at >= _TELL_S and of:
            self._progress_told_at = now
            _log.info("taking up %s: %d of %d files", self._bound.directory, done, of)

    def _pause_s(self, took_s: float) -> float:
        """Return how long to wait before the directory is looked through again."""
        is_told_of_all = self._watched and not self._shared
        return _RESCAN_S if is_told_of_all else max(_POLL_MIN_S, _POLL_SHARE * took_s)

    def _failed(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("%s: %s; tried again", self._bound.directory, problem)
        self._problem = problem
        self._rescans.ask()  # what happened meanwhile has no events

    def _tell(self) -> None:
        """Log what is new of what cannot be kept in step."""
        if self.binding is not None:
            for problem in self.binding.problems.take_news():
                where = self._bound.directory / printable(problem.path)
                what = "left alone" if problem.due is None else "tried again"
                _log.warning("%s: %s; %s", where, printable(problem.reason), what)

    async def _rest(self) -> None:
        """Wait until there is something to do."""
        now = trio.current_time()
        if self._problem:
            until = now + _RETRY_S
        else:
            due = None if self.binding is None else self.binding.next_due(now)
            until = min(
                self._rescans.due, now + _RESCAN_S if due is None else max(due, now + _PACE_S)
            )
        with trio.move_on_at(until):
            await self._wake.wait()
        self._wake.lower()

    def _wake_up(self) -> None:
        self._wake.set()

    # -- noticing changes --------------------------------------------------------------------

    async def _keep_watching(self) -> None:
        """Watch the directory; where that fails, look through it often and try again."""
        pause_s = _RETRY_S
        while True:
            root = await _in_thread(_identity, self._bound.directory)
            if root is not None:
                self._watched, began = root, trio.current_time()
                kind = await _in_thread(kind_of, self._bound.directory)
                self._shared = kind if is_shared(kind) else ""
                self._watcher = _POLLED.format(kind) if self._shared else "watching"
                self._rescans.ask(began + _FIRST_RESCAN_S)
                reason = await self._watch_once(root)
                if is_calm := trio.current_time() - began > pause_s:
                    pause_s = _RETRY_S
                self._rescans.ask()
                self._wake_up()
                if is_calm and not reason:
                    continue
                self._watched = None
                reason = reason or "names that are not UTF-8 change often"
                self._watcher = f"looks through it every few seconds: {reason}"
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _REWATCH_MAX_S) if root is not None else _RETRY_S

    async def _watch_once(self, root: tuple[int, int]) -> str:
        """Watch until that fails or another directory lies there; return why it ended, "" for a
        name that is not UTF-8: whatever watches has to begin again."""
        stop, is_odd = trio.Event(), False
        with self._boundary.around(f"watching {self._bound.directory}") as outcome:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_at_root, root, stop)
                try:
                    await self._watch(stop)
                except* WatchfilesRustInternalError as group:
                    reason = str(first(group))
                    if _ODD_NAME not in reason:
                        raise DirectoryError(f"it cannot be watched: {reason}") from group
                    is_odd = True
                nursery.cancel_scope.cancel()
        stop.set()
        if is_odd:
            self._note_odd_name()
            return ""
        return "it is another directory" if outcome.error is None else one_line(outcome.error)

    def _note_odd_name(self) -> None:
        if not self._has_odd_names:
            self._has_odd_names = True
            told = "%s: names there are not UTF-8; it is looked through when one changes"
            _log.warning(told, self._bound.directory)

    async def _look_at_root(self, root: tuple[int, int], stop: trio.Event) -> None:
        """Set `stop` when another directory lies there, or this binding ends."""
        try:
            while await _in_thread(_identity, self._bound.directory) == root:
                with trio.move_on_after(_LOOK_S):
                    await self._stop.wait()
                    break
        finally:
            stop.set()

    async def _watch(self, stop: trio.Event) -> None:
        top = f"{self._bound.directory}/"
        watching = awatch(
            self._bound.directory,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            ignore_permission_denied=True,
        )
        async with aclosing(watching):  # also when this ends between two of its changes
            async for changes in watching:
                paths = [changed[len(top) :] for _, changed in changes if changed.startswith(top)]
                self._paths.update(dict.fromkeys(paths))
                if await _in_thread(_has_folders, top, paths):
                    self._rescans.ask()  # what came with a folder has no events
                self._wake_up()


def _kept_ms(bound: Bound) -> int:
    return FOREVER if bound.kept_days is None else bound.kept_days * _DAY_MS


def _has_folders(top: str, paths: list[str]) -> bool:
    return any(os.path.isdir(top + path) for path in paths if not path.startswith("."))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a directory from another at its path, None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


async def _in_thread(function: Callable[[*Ts], T], *args: *Ts) -> T:
    return await trio.to_thread.run_sync(function, *args)
