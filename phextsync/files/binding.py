"""Binding: a directory of text files and a range of scrolls that are the same.

Three texts belong to a name: the base, which its file held when it was last read or written; what
the file holds now; what the scroll holds now. What made the file's text of the base is done to the
scroll, then the file is made what the scroll is. These rules keep every line:

* The base is only ever a text that the file has held. What is about to be written stands beside
  it, so that after a crash it can be told whether it was; a write that is refused changes neither
  base nor scroll, and is tried again.
* A file counts as deleted when this machine had it, it is gone for a while, and the way to it can
  be looked at. Anything else is "not there yet", and it is written.
* At which path a file lies follows from the names of all; see `layout`.
* One name's trouble is its own: the others go on. See `problems`.

Nothing here touches a disk or waits by itself: `run` calls what does.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from phextsync.files.absences import Absences
from phextsync.files.conflict_log import ConflictLog
from phextsync.files.directory import Directory
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.intake import Intake, Taken
from phextsync.files.late_writers import LateChange
from phextsync.files.merging import Merging
from phextsync.files.missing import Missing
from phextsync.files.naming import Naming
from phextsync.files.output import Output
from phextsync.files.problems import Problems
from phextsync.files.reading import File, Found, Gone, Trouble, is_nothing
from phextsync.files.records import Records, digest_of
from phextsync.files.restored import Restored
from phextsync.files.safekeeping import Safekeeping
from phextsync.files.scope import Scope
from phextsync.files.todo import Runner, Todo
from phextsync.files.unseen import Unseen
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.replicas import ReplicaSet

_AT_ONCE: Final = 128  # others get their turns in between
_HELD_UP: Final = "not written yet: it is the place of a file that is gone and not deleted"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Situation:
    """The state of a binding. `left_alone` are paths, why, and since when in monotonic seconds;
    `refused` the same of those that are tried again, and when; `held` how many deletions wait to be
    confirmed; `refused_lines` those lines of the map that do not count, and why; `moved` names and
    paths where these differ; `excess` files of which a host does not take all, and why."""

    files: int
    in_step: int
    waiting: int
    left_alone: tuple[tuple[str, str, float], ...]
    refused: tuple[tuple[str, str, float, float], ...]
    held: int
    conflicts: int
    last_merge_s: float | None
    refused_lines: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str], ...]
    excess: tuple[tuple[str, str], ...] = ()


class Binding:
    """Keeps a directory and a range of a replica the same; `round` is told of what may differ."""

    def __init__(
        self,
        replicas: ReplicaSet,
        phext: str,
        range_: CoordinateRange,
        directory: Directory,
        *,
        binding_id: bytes,
        run: Runner,
        durable: Callable[[], Awaitable[None]],
        is_apart: Callable[[], bool],
        is_whole: Callable[[], bool],
        restored: Callable[[Records], Restored] | None = None,
        name_of: Callable[[bytes], str] = lambda node_id: "",
        is_checkout_moving: Callable[[Collection[str]], bool] = lambda paths: False,
        news: Callable[[], tuple[Iterable[str], Iterable[Coordinate]]] = lambda: ((), ()),
        on_progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        """`durable` waits until what was done so far is on the disk; `is_apart` says whether
        others may be changing the range unseen, `is_whole` whether nobody lacks anything of it,
        `restored` gives what tells whether records are older than the files (None: they never are),
        `is_checkout_moving` whether version control writes files at some of the paths just now,
        `name_of` how a node is called. `news` gives paths and scrolls that changed during a round;
        `on_progress` is told how many files and scrolls of how many a round has been through."""
        replica, may_write = replicas.open(phext), partial(replicas.author.may_write, phext)
        self.problems = Problems()
        self.conflicts = ConflictLog(replicas, binding_id, name_of)
        self.records = Records(replicas, binding_id, directory.abilities)
        self.naming = Naming(replica, range_, directory.abilities, is_apart)
        self._directory = directory
        self._run, self._is_whole = run, is_whole
        self._is_checkout_moving = is_checkout_moving
        self._news, self._on_progress = news, on_progress
        self._absences, self._todo = Absences(), Todo()
        seen = self.naming, self.records, self._absences, self.problems, self._todo, directory
        self._scope = Scope(replica, range_, *seen, may_write=may_write)
        self._missing = Missing(*seen[1:3], self._scope, directory, self._todo, run)
        self.unseen = Unseen(replicas, phext, range_, self.records, is_apart)
        self._merging = Merging(replica, is_apart, directory.preset)
        kept = replica, self.records, self._merging, directory, run
        self._safekeeping = Safekeeping(*kept, may_write=may_write)
        self._restored = None if restored is None else restored(self.records)
        parts = replica, self.naming, self.records, self._merging, self.problems, self.conflicts
        parts_of_both = *parts, self.unseen, self._todo, self._absences
        self._intake = Intake(*parts_of_both, may_write=may_write, restored=self._restored)
        parts_of_output = *parts_of_both, directory, self._safekeeping
        self._output = Output(*parts_of_output, run=run, durable=durable, may_write=may_write)
        self._late: list[LateChange] = []  # told by the directory and not yet in a scroll
        self._left_alone = frozenset[str]()
        self._are_rules_bad, self._is_first = False, True

    # -- what its owner asks -----------------------------------------------------------------

    async def start(self, now: float, confirmed_ns: int = 0) -> None:
        """Take up the directory: settle what a crash interrupted, and look at everything that is
        not as it was left. Deletions that somebody confirmed at a time, in ns since the epoch, are
        done if they were not. DirectoryError when the directory is not there, or others are to be
        met first: see `restored`."""
        self._is_first = True
        self._directory.moves.is_above_outside = self.records.is_above_outside
        if self._restored is not None:
            await self._check(now)
            await self._restored.begin(now, confirmed_ns)
        for coordinate in self.records.held:
            self._absences.hold(coordinate, now)
        for coordinate, guise in self.records.guises.items():
            self._absences.see(coordinate, guise)
        if confirmed_ns > self.records.confirmed_ns:
            await self._confirm_earlier(confirmed_ns, now)
        self.naming.load(now)
        if self._restored is not None:
            await self._restored.find_moved(self.naming)
        await self.rescan(now)
        if self._todo:  # what was seen once
            await self.round((), (), now)
        if self._restored is not None:
            self._restored.end_start()
        self._absences.forget_guises()
        self._is_first = False

    async def rescan(self, now: float, writers: Mapping[Coordinate, str] | None = None) -> None:
        """Look through the whole directory and at all scrolls, and bring together what differs."""
        await self._check(now)
        paths, coordinates = await self._look_through(now)
        await self.round(paths, coordinates, now, writers)

    async def _look_through(self, now: float) -> tuple[list[str], list[Coordinate]]:
        """Return the paths and scrolls of all that may differ."""
        await self._output.find_out(now)
        scan = await self._run(self._directory.scan)
        self._directory.root.take_new_rules()
        needed = {p for i in self.records.unsettled.values() for p in self._directory.drafts_of(i)}
        if drafts := [draft for draft in scan.drafts if draft not in needed]:
            await self._run(self._directory.discard, drafts)
        for path, reason in scan.left_alone.items():
            self.problems.note(path, reason, now, is_retried=False)
        for path in self._left_alone.difference(scan.left_alone):
            self.problems.solve(path)
        self._left_alone = frozenset(scan.left_alone)
        return self._scope.differing(scan)

    async def round(
        self,
        paths: Iterable[str],
        coordinates: Iterable[Coordinate],
        now: float,
        writers: Mapping[Coordinate, str] | None = None,
    ) -> None:
        """Bring together files and scrolls that may have changed. `now` is monotonic, in seconds;
        `writers` are the names of those who changed scrolls. DirectoryError when the directory is
        not there; StoreError when the store takes no changes now."""
        if not await self._check(now):
            more_paths, more_coordinates = await self._look_through(now)
            paths, coordinates = [*paths, *more_paths], [*coordinates, *more_coordinates]
        await self._output.find_out(now)
        self.conflicts.writers = writers or {}
        paths = [*paths, *self._absences.begin_round()]
        coordinates = [*coordinates, *(told := self.unseen.hear())]
        self.unseen.look(now, {*self.conflicts.writers, *told}, self._is_whole)
        is_whole = self.records.has_shared and self._is_whole()
        await self._take_late_changes(now)
        known, unknown = self._scope.concerned(paths, coordinates, now)
        await self._take_rules(known, unknown, now)
        await self._missing.find(known, now)
        await self._missing.find_displaced(known, unknown, now)
        done, of = 0, len(known) + len(unknown)
        for strangers in _portions(unknown):  # first: one may be a file that seems to be gone
            self._on_progress(done, of)
            await self._some([], strangers, now)
            done += len(strangers)
            await self._take_news(now)
        for some in _portions(known):
            self._on_progress(done, of)
            await self._some(some, [], now)
            done += len(some)
            await self._take_news(now)
        self.records.keep_held(self._absences.holding)
        self.records.keep_guises(self._absences.guises)
        if is_whole:
            self.unseen.forget()
        await self._output.tidy()
        if self._directory.root.take_new_rules():
            await self.rescan(now, writers)  # what was ignored has changed meanwhile
        if self._restored is not None:
            await self._restored.count(now)

    def confirm(self, confirmed_ns: int) -> None:
        """Let the deletions that are held be done, which somebody confirmed at a time."""
        self._absences.confirm()
        self.records.keep_confirmed(confirmed_ns)

    async def _confirm_earlier(self, confirmed_ns: int, now: float) -> None:
        """Confirm what was held when the node ended, and what was gone at a time since then."""
        await self._check(now)
        held = {r.path: c for c in self.records if (r := self._scope.held(c)) is not None}
        for path in await self._run(self._directory.gone_since, list(held), confirmed_ns):
            self._absences.note(held[path], True, now)
        self.confirm(confirmed_ns)

    def next_due(self, now: float) -> float | None:
        """Return when a round is due although nothing changes; None when none is."""
        dues = [self.problems.next_due(), self.naming.next_due, self._absences.next_due(now)]
        dues += [] if self._restored is None else [self._restored.next_due]
        dues += [self._directory.late.next_due, self.unseen.next_due, now if self._todo else None]
        return min((due for due in dues if due is not None), default=None)

    def situation(self) -> Situation:
        """Return the state of the binding."""
        records = [r for c in self.records if (r := self.records.get(c)) and r.digest]
        waiting = self._absences.waiting + len(self._todo)
        refused = [(p.path, p.reason, p.since, p.due) for p in self.problems if p.due is not None]
        in_step = sum(r.path not in self.problems for r in records) - waiting
        return Situation(
            len(records),
            max(0, in_step),
            waiting,
            tuple((p.path, p.reason, p.since) for p in self.problems if p.due is None),
            tuple(refused),
            self._absences.held,
            len(self.conflicts),
            self._output.last_merge_s,
            tuple(sorted(self.naming.map.rejected.items())),
            tuple(self.naming.layout.yielding().values()),
            tuple(self._output.excess()),
        )

    # -- parts of a round --------------------------------------------------------------------

    async def _check(self, now: float) -> bool:
        """Look whether the directory is the one that was bound, and read its ignore file. Return
        whether it was; of one that is bound from now on nothing is known."""
        is_known = await self._run(self._directory.root.check)
        if not is_known:
            self.records.forget_all()
        if self._directory.root.ignore_problem:
            self.problems.note(
                IGNORE_FILE, self._directory.root.ignore_problem, now, is_retried=False
            )
        elif self._are_rules_bad:  # its other problems are those of a file
            self.problems.solve(IGNORE_FILE)
        self._are_rules_bad = bool(self._directory.root.ignore_problem)
        return is_known

    async def _take_news(self, now: float) -> None:
        """Look at what changed during a long round: nobody has to wait for all of it."""
        paths, coordinates = self._news()
        if paths or coordinates:
            known, unknown = self._scope.concerned(paths, coordinates, now)
            await self._missing.find(known, now)
            await self._missing.find_displaced(known, unknown, now)
            await self._some([], [*unknown], now)
            await self._some([*known], [], now)

    async def _take_late_changes(self, now: float) -> None:
        if self._directory.late.next_due is not None:
            self._late += await self._run(self._directory.late.changes, now)
        while self._late:  # what a store refuses stays
            late = self._late[0]
            record = self.records.get(late.coordinate)
            if record is not None:
                with self.problems.boundary(record.path, now):
                    self._merging.take_late(late.coordinate, record.path, late.before, late.now)
                self._todo.finish(late.coordinate)
            del self._late[0]

    async def _take_rules(
        self, known: dict[Coordinate, None], unknown: dict[str, None], now: float
    ) -> None:
        """Let what to ignore take effect before anything else that came with it."""
        coordinate = self._scope.place_at(IGNORE_FILE)
        if coordinate in known or IGNORE_FILE in unknown:
            coordinates = [c for c in known if c == coordinate]
            await self._missing.find(known, now)  # by the rules that held until now
            await self._some(coordinates, [path for path in unknown if path == IGNORE_FILE], now)
            unknown.pop(IGNORE_FILE, None)
            for each in coordinates:
                del known[each]
            await self._check(now)
            for problem in list(self.problems):
                if self._scope.is_left_alone(problem.path):
                    self.problems.solve(problem.path)

    async def _some(self, known: list[Coordinate], unknown: list[str], now: float) -> None:
        """Read files, do what was done to them to their scrolls, and write what they lack."""
        self._forget_deleted(known)
        places = {c: path for c in known if (path := self._scope.path_of(c)) is not None}
        for coordinate in [c for c, p in places.items() if self._scope.is_scroll_left_alone(c, p)]:
            self._absences.give_up(coordinate, now)
            del places[coordinate]
        for coordinate, path in list(places.items()):
            other = self.records.at(path)
            if other is not None and other != coordinate:  # it has to move first
                del places[coordinate]
                if self._absences.holds_up(other, coordinate):
                    self.problems.note(path, _HELD_UP, now, is_retried=False)
                    continue
                for each in (coordinate, other):
                    self._todo.finish(each)
            elif other is None and self._absences.lets_wait(path, coordinate):
                del places[coordinate]  # what lies there was renamed, and counts first
        strangers = [path for path in unknown if not self._scope.is_left_alone(path)]
        if not places and not strangers:
            return
        found = await self._run(self._directory.read, [*places.values(), *strangers])
        has_just_come = self._missing.has_just_come
        for coordinate in [c for c, p in places.items() if has_just_come(p, c, found[p])]:
            del places[coordinate]
        strangers = [path for path in strangers if not has_just_come(path, None, found[path])]
        for coordinate, path in places.items():
            is_unseen = self._scope.is_left_alone(path) and coordinate not in self._absences
            if is_unseen and is_nothing(found[path]):
                self.records.forget(coordinate)  # it went unseen: it is written at its new path
            elif self._is_another(coordinate, found[path]):
                self.records.forget(coordinate)
        await self._safekeeping.settle(places, found)
        paths = [*places.values(), *strangers]
        taken = Taken(now, self._is_first or await self._run(self._is_checkout_moving, paths))
        new = self._intake.places_for([p for p in strangers if isinstance(found[p], File)], now)
        await self._safekeeping.keep_aside({**new, **places}, found)
        self._intake.take(places, strangers, found, taken)
        for coordinate in self.naming.follow(taken.ready, now) - {*taken.ready}:
            self._todo.finish(coordinate)
        await self._output.give(taken.ready, now)

    def _forget_deleted(self, coordinates: Iterable[Coordinate]) -> None:
        """Forget files that were deleted and are to be elsewhere: what lies where they were says
        nothing of them."""
        for coordinate in coordinates:
            record = self.records.get(coordinate)
            if record is not None and not record.digest and self._scope.has_to_move(coordinate):
                self.records.forget(coordinate)

    def _is_another(self, coordinate: Coordinate, found: Found) -> bool:
        """Whether what is found where a file was says nothing of it, since another file system is
        seen there: one that was mounted over the file, or what lay below one that is gone. A file
        that is seen there meets the scroll; without one it is written there."""
        record = self.records.get(coordinate)
        if record is None or not record.digest or isinstance(found, Trouble):
            return False
        if isinstance(found, Gone):
            return found.is_outside and not record.is_outside
        return found.is_outside != record.is_outside and digest_of(found.text) != record.digest


def _portions(things: Iterable[T]) -> Iterator[list[T]]:
    source = iter(things)
    while some := list(islice(source, _AT_ONCE)):
        yield some
