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

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Final, Protocol, TypeVar, TypeVarTuple

from phextsync.conflicts import conflicts, theirs_of
from phextsync.crdt import check_text
from phextsync.edits import likeness
from phextsync.errors import PhextsyncError, StoreError
from phextsync.files.conflict_log import ConflictLog
from phextsync.files.directory import (
    MARKER_FILE,
    TEXT_BYTES_MAX,
    Changed,
    Directory,
    Draft,
    File,
    Found,
    Gone,
    Outcome,
    Placed,
    Trouble,
    Write,
    why,
)
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.merging import Merging
from phextsync.files.names import Line, check_name
from phextsync.files.naming import Naming
from phextsync.files.problems import Problems
from phextsync.files.records import Intent, Record, Records, digest_of
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica import ReplicaSet

GRACE_S: Final = 1.5
"""How long a file has to be gone or empty before that counts: editors do both before they write,
some for as long as 0.8 s."""
GUARD_NAMES: Final = 20
"""Of at least so many names, ..."""
GUARD_S: Final = 10.0
"""... when more than half vanish within this time, that is held until somebody confirms it."""

_AT_ONCE: Final = 256
_AT_ONCE_CHARACTERS: Final = 4 << 20
_PASSES_MAX: Final = 4
_LIKE: Final = 0.5  # how much of its text a renamed file has kept, ...
_LIKE_STRANGER: Final = 0.8  # ... and one that is another file by its number
_COMPARED_MAX: Final = 64
_MOVING: Final = ".phextsync.moving-"

_log = logging.getLogger("phextsync.files")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Runner(Protocol):
    """Calls a function that may wait for a disk."""

    def __call__(self, function: Callable[[*Ts], T], /, *args: *Ts) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Situation:
    """How it stands with a binding. `held` are the paths whose deletion waits to be confirmed."""

    files: int
    in_step: int
    waiting: int
    left_alone: tuple[tuple[str, str, float], ...]
    held: int
    conflicts: int
    last_merge_s: float | None
    refused_lines: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str], ...]


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
        is_checkout_moving: Callable[[], bool] = lambda: False,
    ) -> None:
        """`durable` waits until what was done so far is on the disk; `is_apart` says whether
        others may be changing the range unseen, `is_whole` whether nobody lacks anything of it,
        `is_checkout_moving` whether a version-control checkout writes files just now."""
        self.range = range_
        self.problems = Problems()
        self.conflicts = ConflictLog(replicas, binding_id)
        self.records = Records(replicas, binding_id)
        self.naming = Naming(replicas.open(phext), range_, directory.abilities, is_apart)
        self._replicas = replicas
        self._phext = phext
        self._replica = replicas.open(phext)
        self._directory = directory
        self._run = run
        self._durable = durable
        self._is_apart = is_apart
        self._is_whole = is_whole
        self._is_checkout_moving = is_checkout_moving
        self._merging = Merging(self._replica, is_apart)
        self._missing: dict[Coordinate, float] = {}  # since when files are gone that were here
        self._held: dict[Coordinate, None] = {}
        self._deleted: deque[tuple[float, int]] = deque()
        self._is_confirmed = False
        self._again: dict[str, None] = {}  # paths to be looked at in the next round
        self._unfinished: dict[Coordinate, None] = {}
        self._left_alone: frozenset[str] = frozenset()
        self._is_first = True
        self._writers: Mapping[Coordinate, str] = {}
        self._last_merge_s: float | None = None

    # -- what its owner asks -----------------------------------------------------------------

    async def start(self, now: float) -> None:
        """Take up the directory: settle what a crash interrupted, and look at everything that is
        not as it was left. DirectoryError when the directory is not there."""
        if not await self._run(self._directory.check):
            self.records.forget_all()
        self.naming.load(now)
        await self._after_crash()
        await self.rescan(now)
        self._is_first = False

    async def rescan(self, now: float) -> None:
        """Look through the whole directory and at all scrolls, and bring together what differs."""
        scan = await self._run(self._directory.scan)
        if scan.drafts:
            await self._run(self._directory.discard, scan.drafts)
        for path, reason in scan.left_alone.items():
            self.problems.note(path, reason, now, is_retried=False)
        for path in self._left_alone.difference(scan.left_alone):
            self.problems.solve(path)
        self._left_alone = frozenset(scan.left_alone)
        marks, records = scan.marks, self.records
        paths = [
            path
            for path, mark in marks.items()
            if (c := records.at(path)) is None or (r := records.get(c)) is None or r.mark != mark
        ]
        gone = [c for c in records if (r := records.get(c)) and r.digest and r.path not in marks]
        changed = [c for c in self._all_scrolls() if self._is_changed(c)]
        await self.round(paths, [*gone, *changed], now)

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
        if not await self._run(self._directory.check):
            self.records.forget_all()
        self._note_own_problems(now)
        self._writers = writers or {}
        is_whole = self.records.has_shared and self._is_whole()
        await self._take_late_changes(now)
        touched = dict.fromkeys((*paths, *self._again, *self.problems.due(now)))
        concerned = {*coordinates, *self._unfinished}
        self._again, self._unfinished = {}, {}
        concerned |= self.naming.follow(concerned, now)
        if self._may_write(self.naming.map.map_coordinate):
            self.naming.tidy()
        known, unknown = self._resolve(touched, concerned)
        ignore_file = self._place_at(IGNORE_FILE)
        if ignore_file in known or IGNORE_FILE in unknown:
            # Before anything else that came with it.
            rules = [c for c in known if c == ignore_file], [p for p in unknown if p == IGNORE_FILE]
            await self._some(*rules, now)
            for path in rules[1]:
                del unknown[path]
            for coordinate in rules[0]:
                del known[coordinate]
            await self._run(self._directory.check)
        await self._find_missing(known, now)
        sources: Iterator[Coordinate | str] = iter((*known, *unknown))
        while some := list(islice(sources, _AT_ONCE)):
            places = [c for c in some if isinstance(c, Coordinate)]
            await self._some(places, [path for path in some if isinstance(path, str)], now)
        if is_whole:
            self.records.drop_shared()

    async def _take_late_changes(self, now: float) -> None:
        if not self._directory.is_listening:
            return
        for late in await self._run(self._directory.late_changes, now):
            record = self.records.get(late.coordinate)
            if record is not None:
                with self._boundary(record.path, now):
                    self._merging.take_late(late.coordinate, record.path, late.before, late.now)
                self._unfinished[late.coordinate] = None

    def confirm(self) -> None:
        """Let the deletions that are held be done."""
        self._is_confirmed = True

    def next_due(self, now: float) -> float | None:
        """Return when a round is due although nothing changes; None when none is."""
        dues = [self.problems.next_due(), self.naming.next_due]
        dues += [since + GRACE_S for c, since in self._missing.items() if c not in self._held]
        if self._again or self._unfinished or self._directory.is_listening or self._is_confirmed:
            dues.append(now)
        return min((due for due in dues if due is not None), default=None)

    def situation(self) -> Situation:
        """Say how it stands."""
        records = [r for c in self.records if (r := self.records.get(c)) and r.digest]
        waiting = len({*self._missing, *self._unfinished}) + len(self._again)
        left = tuple((p.path, p.reason, p.since) for p in self.problems)
        in_step = sum(r.path not in self.problems for r in records)
        return Situation(
            len(records),
            max(0, in_step - len({*self._missing, *self._unfinished})),
            waiting,
            left,
            len(self._held),
            len(self.conflicts),
            self._last_merge_s,
            tuple(sorted(self.naming.map.rejected.items())),
            tuple(self.naming.layout.yielding().values()),
        )

    # -- which files and scrolls -------------------------------------------------------------

    def _all_scrolls(self) -> Iterator[Coordinate]:
        yield from self.records
        for coordinate in self._replica.coordinates(self.range):
            if self.records.get(coordinate) is None:
                yield coordinate

    def _is_changed(self, coordinate: Coordinate) -> bool:
        """Whether a scroll is not what its file held, or its path another."""
        record = self.records.get(coordinate)
        if record is None:
            return True
        path = self.naming.layout.path_of(coordinate)
        if record.intent is not None or (path is not None and path != record.path):
            return True
        if not record.digest:
            return self._replica.size(coordinate) > 0
        return self._replica.fingerprint(coordinate) != record.fingerprint

    def _place_at(self, path: str) -> Coordinate | None:
        """Return the scroll whose file is, or is to be, at a path."""
        coordinate = self.records.at(path)
        if coordinate is not None:
            return coordinate
        coordinate = self.naming.layout.at(path)
        return coordinate if coordinate is None or self.records.get(coordinate) is None else None

    def _path_of(self, coordinate: Coordinate) -> str | None:
        """Return where a scroll's file was last seen, or is to be."""
        record = self.records.get(coordinate)
        return self.naming.layout.path_of(coordinate) if record is None else record.path

    def _resolve(
        self, paths: Iterable[str], coordinates: Iterable[Coordinate]
    ) -> tuple[dict[Coordinate, None], dict[str, None]]:
        """Return the scrolls that are concerned, and the paths that belong to none."""
        map_coordinate = self.naming.map.map_coordinate
        known = dict.fromkeys(
            sorted(c for c in coordinates if c in self.range and c != map_coordinate)
        )
        unknown: dict[str, None] = {}
        for path in paths:
            coordinate = self._place_at(path)
            if coordinate is not None:
                known[coordinate] = None
            elif path and path != MARKER_FILE and not path.endswith("/"):
                unknown[path] = None
        known.update(self._missing)
        return known, unknown

    async def _find_missing(self, known: Iterable[Coordinate], now: float) -> None:
        """Note which files are gone, before anything that appeared is taken for new."""
        records = {c: r for c in known if (r := self.records.get(c)) is not None and r.digest}
        paths = [r.path for r in records.values() if not self._is_left_alone(r.path)]
        gone = set(await self._run(self._directory.gone, paths))
        for coordinate, record in records.items():
            if record.path in gone:
                self._missing.setdefault(coordinate, now)

    # -- one part of a round -----------------------------------------------------------------

    async def _some(self, known: list[Coordinate], unknown: list[str], now: float) -> None:
        """Read files, do what was done to them to their scrolls, and write what they lack."""
        places = {c: path for c in known if (path := self._path_of(c)) is not None}
        places = {c: path for c, path in places.items() if not self._is_left_alone(path)}
        strangers = [path for path in unknown if not self._is_left_alone(path)]
        found = await self._run(self._directory.read, [*places.values(), *strangers])
        round_ = _Round(now, self._is_first or await self._run(self._is_checkout_moving))
        await self._back_up(places, found)
        for coordinate, path in places.items():
            with self._boundary(path, now):
                self._look_at(coordinate, path, found[path], round_)
        files = {p: f for p in strangers if isinstance(f := found[p], File) and f.text}
        for path in strangers:
            self._note_found(path, found[path], now)
        self._follow_renames(files, round_)
        self._add_new(files, round_)
        self._delete(round_)
        moved = self.naming.follow(round_.ready, now)
        self._unfinished.update(dict.fromkeys(moved - {*round_.ready}))
        await self._give(round_.ready, now)

    def _is_left_alone(self, path: str) -> bool:
        return self._directory.is_ignored(path) and _MOVING not in path

    def _look_at(
        self,
        coordinate: Coordinate,
        path: str,
        found: Found,
        round_: "_Round",
    ) -> None:
        """Decide what one file says about its scroll: it is ready to be written, gone, or neither
        for now."""
        record, now = self.records.get(coordinate), round_.now
        if isinstance(found, Trouble):
            self._note_found(path, found, now)
            return
        file = found if isinstance(found, File) else None
        text = "" if file is None else file.text
        if record is None:
            if file is not None and text:
                self._merging.meet(coordinate, path, text)
                self._agree(coordinate, path, file)
        elif record.digest and not text:
            if isinstance(found, Gone) and record.is_outside and not found.is_outside:
                reason = "a file system that was mounted on the way to it is not there; mount it"
                self.problems.note(path, reason, now, is_retried=True)
                return
            if self._may_write(coordinate):
                if self._replica.size(coordinate) and self._is_waiting(coordinate, now):
                    self.problems.solve(path)
                else:
                    round_.gone.append(coordinate)
                return
            # It was not ours to delete: it is written again.
            self._missing.pop(coordinate, None)
            self.records.forget(coordinate)
        else:
            self._missing.pop(coordinate, None)
            self._held.pop(coordinate, None)
            if file is not None and not self._take(coordinate, record, file, round_):
                return
        round_.ready[coordinate] = file
        self.problems.solve(path)

    def _is_waiting(self, coordinate: Coordinate, now: float) -> bool:
        """Whether a file may come back: it has not been gone for long."""
        return now - self._missing.setdefault(coordinate, now) < GRACE_S

    def _take(self, coordinate: Coordinate, record: Record, file: File, round_: "_Round") -> bool:
        """Do to the scroll what was done to the file; say whether the file may be written now."""
        is_changed = digest_of(file.text) != record.digest
        if not self._may_write(coordinate):
            if is_changed:
                reason = (
                    "this machine may read it and not change it: its change stays here alone, and "
                    "nothing new is written over it; remove the file to get it as it is elsewhere"
                )
                self.problems.note(record.path, reason, round_.now, is_retried=False)
            return not is_changed
        if is_changed:
            self._merge(coordinate, record, file, round_)
        if file.marks != record.marks:
            line = self.naming.map.line_at(coordinate)
            if line is not None:
                self.naming.change({coordinate: replace(line, marks=file.marks)})
        self._agree(coordinate, record.path, file)
        return True

    def _merge(self, coordinate: Coordinate, record: Record, file: File, round_: "_Round") -> None:
        base, scroll = self.records.base(coordinate), self._replica.get(coordinate, "")
        if self._is_apart():
            self.records.set_shared(coordinate, scroll)
        self._merging.take(coordinate, record, base, file, is_unseen=round_.is_unseen)
        self._note_conflicts(coordinate, base, file.text, scroll)

    def _agree(self, coordinate: Coordinate, path: str, file: File) -> None:
        """Remember a file as it was read, now that the scroll has what was done to it."""
        old = self.records.get(coordinate)
        line = self.naming.map.line_at(coordinate)
        line_marks = "" if line is None else line.marks
        if old is not None and old.marks == file.marks:
            line_marks = old.line_marks  # what came from elsewhere is still to be done to the file
        is_same = self._replica.get(coordinate, "") == file.text
        record = Record(
            path,
            digest_of(file.text),
            file.mark,
            file.marks,
            line_marks,
            file.born_ns,
            file.is_outside,
            self._replica.fingerprint(coordinate) if is_same else b"",
            self._merging.roots(coordinate) if old is None or not old.digest else old.roots,
        )
        self.records.keep(coordinate, record, file.text)

    def _may_write(self, coordinate: Coordinate) -> bool:
        return self._replicas.may_write(self._phext, coordinate)

    # -- files that appeared -----------------------------------------------------------------

    async def _back_up(self, places: Mapping[Coordinate, str], found: dict[str, Found]) -> None:
        """Keep files aside that are about to be merged with scrolls they never agreed with."""
        for coordinate, path in places.items():
            file = found[path]
            if self.records.get(coordinate) is not None or not isinstance(file, File):
                continue
            if file.text and self._replica.get(coordinate, "") not in ("", file.text):
                try:
                    kept = await self._run(self._directory.back_up, path, file.text)
                except OSError as error:
                    found[path] = Trouble(f"its text cannot be kept aside: {why(error)}")
                else:
                    what = "merged with other text at"
                    _log.warning("%s: %s %s; it is kept as %s", path, what, coordinate, kept)

    def _follow_renames(self, files: dict[str, File], round_: "_Round") -> None:
        """Take files that appeared for those that are gone where their texts are alike; `files`
        keeps the others."""
        for path, file in list(files.items()):
            coordinate = self._renamed(file)
            record = None if coordinate is None else self.records.get(coordinate)
            if coordinate is None or record is None:
                continue
            del files[path]
            if coordinate not in round_.gone:
                self._again[path] = None  # the old one may come back
                continue
            round_.gone.remove(coordinate)
            with self._boundary(path, round_.now):
                self._rename(coordinate, record, path, file, round_)
                round_.ready[coordinate] = file

    def _renamed(self, file: File) -> Coordinate | None:
        """Return the scroll of the file that is gone and that this one seems to be."""
        digest = digest_of(file.text)
        candidates = [c for c in self._missing if c not in self._held]
        for coordinate in candidates:
            record = self.records.get(coordinate)
            if record is not None and record.digest == digest:
                return coordinate
        best: tuple[float, Coordinate] | None = None
        for coordinate in candidates[:_COMPARED_MAX]:
            record = self.records.get(coordinate)
            if record is None:
                continue
            is_same = record.mark is not None and record.mark.inode == file.mark.inode
            alike = likeness(self.records.base(coordinate), file.text)
            if alike >= (_LIKE if is_same else _LIKE_STRANGER) and (
                best is None or alike > best[0]
            ):
                best = alike, coordinate
        return None if best is None else best[1]

    def _rename(
        self, coordinate: Coordinate, record: Record, path: str, file: File, round_: "_Round"
    ) -> None:
        check_name(path)
        line = self.naming.map.line_at(coordinate)
        marks = "" if line is None else line.marks
        self.naming.change({coordinate: Line(coordinate, path, marks)})
        self._missing.pop(coordinate, None)
        moved = replace(record, path=path)
        self.records.keep(coordinate, moved)
        if digest_of(file.text) != record.digest:
            self._merge(coordinate, moved, file, round_)
        self._agree(coordinate, path, file)
        self.problems.solve(record.path)

    def _add_new(self, files: Mapping[str, File], round_: "_Round") -> None:
        """Give files a scroll that have none."""
        lines: dict[Coordinate, Line] = {}

        def is_free(coordinate: Coordinate) -> bool:
            return coordinate not in lines and self.records.get(coordinate) is None

        for path, file in files.items():
            with self._boundary(path, round_.now):
                check_name(path)
                check_text(file.text)
                coordinate = self.naming.place_for(path, is_free)
                self._replicas.check_allowed(self._phext, coordinate)
                lines[coordinate] = Line(coordinate, path, file.marks)
        try:
            self.naming.add(lines.values())
        except StoreError:
            raise
        except PhextsyncError as error:
            for line in lines.values():
                self.problems.note(line.name, str(error), round_.now, is_retried=True)
            return
        for coordinate, line in lines.items():
            file = files[line.name]
            with self._boundary(line.name, round_.now):
                self._merging.meet(coordinate, line.name, file.text)
                self._agree(coordinate, line.name, file)
                round_.ready[coordinate] = file
                self.problems.solve(line.name)

    def _note_found(self, path: str, found: Found, now: float) -> None:
        if isinstance(found, Trouble):
            self.problems.note(path, found.reason, now, is_retried=True)
        elif isinstance(found, Gone) or not found.text:
            self.problems.solve(path)

    # -- files that are gone -----------------------------------------------------------------

    def _delete(self, round_: "_Round") -> None:
        """Delete from scrolls what files held that are gone, unless they are too many."""
        if self._is_confirmed:
            round_.gone = list(dict.fromkeys((*round_.gone, *self._missing)))
            self._held.clear()
        elif self._missing and self._is_guarded(round_.now):
            self._held.update(dict.fromkeys(self._missing))
        doomed = [c for c in round_.gone if c not in self._held]
        if doomed:
            self._deleted.append((round_.now, len(doomed)))
        for coordinate in doomed:
            record = self.records.get(coordinate)
            if record is None:
                continue
            with self._boundary(record.path, round_.now):
                base, scroll = self.records.base(coordinate), self._replica.get(coordinate, "")
                if self._is_apart():
                    self.records.set_shared(coordinate, scroll)
                self._merging.delete(coordinate, record.path, base)
                self._note_conflicts(coordinate, base, "", scroll)
                gone = replace(record, digest=b"", mark=None, fingerprint=b"")
                self.records.keep(coordinate, gone, "")
                round_.ready[coordinate] = None
                self._missing.pop(coordinate, None)
                self.problems.solve(record.path)
        if not self._missing:
            self._is_confirmed = False

    def _is_guarded(self, now: float) -> bool:
        """Whether more than half of the names vanish within seconds."""
        while self._deleted and now - self._deleted[0][0] > GUARD_S:
            self._deleted.popleft()
        lately = sum(count for _, count in self._deleted)
        vanishing = lately + sum(c not in self._held for c in self._missing)
        files = sum(bool(r and r.digest) for r in map(self.records.get, self.records))
        total = files + lately - len(self._held)
        return total >= GUARD_NAMES and 2 * vanishing > total

    # -- writing -----------------------------------------------------------------------------

    async def _give(self, ready: dict[Coordinate, File | None], now: float) -> None:
        """Make files what their scrolls are."""
        for _ in range(_PASSES_MAX):
            await self._set_marks(ready, now)
            moves, writes = self._plan(ready, now)
            if not moves and not writes:
                return
            ready = {}
            if moves:
                await self._move_all(moves, ready, now)
            if writes:
                await self._write_all(writes, ready, now)

    async def _set_marks(self, ready: dict[Coordinate, File | None], now: float) -> None:
        """Do to files what was done to their marks elsewhere."""
        for coordinate, file in ready.items():
            record, line = self.records.get(coordinate), self.naming.map.line_at(coordinate)
            if record is None or line is None or file is None or line.marks == record.line_marks:
                continue
            is_read_only = not self._may_write(coordinate)
            change = partial(self._directory.set_marks, is_read_only=is_read_only)
            outcome = await self._run(change, record.path, line.marks)
            if isinstance(outcome, Placed) and outcome.mark is not None:
                done = replace(
                    record, mark=outcome.mark, marks=outcome.marks, line_marks=line.marks
                )
                self.records.keep(coordinate, done)
                ready[coordinate] = replace(file, mark=outcome.mark, marks=outcome.marks)
            elif isinstance(outcome, Trouble):
                self.problems.note(record.path, outcome.reason, now, is_retried=True)

    def _plan(
        self, ready: Mapping[Coordinate, File | None], now: float
    ) -> tuple[dict[Coordinate, tuple[File, str]], list[Write]]:
        """Decide which files have to move, and which to be written or removed."""
        moves: dict[Coordinate, tuple[File, str]] = {}
        writes: list[Write] = []
        for coordinate, file in ready.items():
            path = self._path_of(coordinate) or ""
            with self._boundary(path, now):
                wanted = self.naming.layout.path_of(coordinate) or path
                record = self.records.get(coordinate)
                if not wanted or self._is_left_alone(wanted):
                    continue
                if file is not None and record is not None and wanted != record.path:
                    moves[coordinate] = file, wanted
                    continue
                write = self._write_of(coordinate, file, wanted, now)
                if write is not None:
                    writes.append(write)
        return moves, writes

    def _write_of(
        self, coordinate: Coordinate, file: File | None, path: str, now: float
    ) -> Write | None:
        """Return what has to be written for a file to be what its scroll is, None when it is."""
        record = self.records.get(coordinate)
        may_write = self._may_write(coordinate)
        if file is not None and record is not None and record.digest and may_write:
            self._merging.join_twins(coordinate, record, file.text)
        text = self._replica.get(coordinate, "")
        if text == ("" if file is None else file.text):
            if record is not None and not text:
                self.records.forget(coordinate)
            elif record is not None:
                fingerprint = self._replica.fingerprint(coordinate)
                self.records.keep(coordinate, replace(record, fingerprint=fingerprint))
            return None
        if "\0" in text or len(text) > TEXT_BYTES_MAX or len(text.encode()) > TEXT_BYTES_MAX:
            reason = "a zero byte" if "\0" in text else f"more than {TEXT_BYTES_MAX} bytes"
            what = f"its scroll at {coordinate} has {reason}; the file follows again without"
            self.problems.note(path, what, now, is_retried=False)
            return None
        if file is not None:
            self._note_conflicts_from_elsewhere(coordinate, file.text, text)
        self._last_merge_s = now
        line = self.naming.map.line_at(coordinate)
        marks = "" if line is None else line.marks
        return Write(coordinate, path, text, marks, file, is_read_only=not may_write)

    async def _move_all(
        self,
        moves: Mapping[Coordinate, tuple[File, str]],
        ready: dict[Coordinate, File | None],
        now: float,
    ) -> None:
        """Let files lie where their names say."""
        targets = self._targets(moves)
        for coordinate, (file, path) in targets.items():
            record = self.records.get(coordinate)
            assert record is not None
            mark = file.mark
            numbers = (mark.inode, mark.size, mark.time_ns)
            intent = Intent(path, record.digest, record.marks, *numbers, record.path)
            self.records.intend(coordinate, record, intent, "")
        await self._durable()
        for coordinate, (file, path) in targets.items():
            record = self.records.get(coordinate)
            assert record is not None
            old = record.path
            outcome = await self._run(self._directory.move, old, path, file.mark)
            self._moved(coordinate, record, file, path, outcome, ready, now)

    def _targets(
        self, moves: Mapping[Coordinate, tuple[File, str]]
    ) -> dict[Coordinate, tuple[File, str]]:
        """Return where each file goes first: out of the way where it is in that of another."""
        targets: dict[Coordinate, tuple[File, str]] = {}
        for coordinate, (file, path) in moves.items():
            other = self.records.at(path)
            if other is not None and other != coordinate:
                self._unfinished[coordinate] = None
                if other in targets or coordinate in targets:
                    continue
                folder, slash, _ = path.rpartition("/")
                aside = f"{folder}{slash}{_MOVING}{other.key.hex()}"
                if other in moves:
                    targets[other] = moves[other][0], aside
            elif coordinate not in targets:
                targets[coordinate] = file, path
        return targets

    def _moved(
        self,
        coordinate: Coordinate,
        record: Record,
        file: File,
        path: str,
        outcome: Outcome,
        ready: dict[Coordinate, File | None],
        now: float,
    ) -> None:
        if isinstance(outcome, Placed):
            mark = outcome.mark
            kept = replace(record, path=path, mark=mark, intent=None, is_outside=outcome.is_outside)
            self.records.keep(coordinate, kept)
            self.problems.solve(path)
            self.problems.solve(record.path)
            self._again[path] = None
            if mark is not None:
                ready[coordinate] = replace(file, mark=mark)
            return
        self.records.keep(coordinate, replace(record, intent=None))
        if isinstance(outcome, Changed):
            # A file that nobody knows may lie there: it gets a name, and another path, first.
            self._again[path] = None
            self._unfinished[coordinate] = None
        else:
            self.problems.note(path, outcome.reason, now, is_retried=True)

    async def _write_all(
        self, writes: list[Write], ready: dict[Coordinate, File | None], now: float
    ) -> None:
        """Write files: whole ones beside them, then what will happen, then in their place."""
        for some in _portions(writes):
            drafts = await self._run(self._directory.prepare, some)
            works = []
            for write, draft in zip(some, drafts, strict=True):
                if isinstance(draft, Trouble):
                    self.problems.note(write.path, draft.reason, now, is_retried=True)
                    continue
                works.append((write, draft))
                self._intend(write, draft)
            if not works:
                continue
            await self._durable()
            outcomes = await self._run(self._directory.place, works, now)
            for (write, _), outcome in zip(works, outcomes, strict=True):
                with self._boundary(write.path, now):
                    self._written(write, outcome, now)

    def _intend(self, write: Write, draft: Draft) -> None:
        record = self.records.get(write.coordinate)
        if record is None:
            record = Record(write.path, b"", None)
        intent = self._directory.intent_of(write, draft)
        self.records.intend(write.coordinate, record, intent, write.text)

    def _written(self, write: Write, outcome: Outcome, now: float) -> None:
        coordinate = write.coordinate
        record = self.records.get(coordinate)
        assert record is not None
        if isinstance(outcome, Placed):
            is_same = self._replica.get(coordinate, "") == write.text
            kept = replace(
                record,
                path=write.path,
                digest=digest_of(write.text),
                mark=outcome.mark,
                marks=outcome.marks,
                line_marks=write.marks if write.expected is None else record.line_marks,
                born_ns=outcome.born_ns,
                is_outside=outcome.is_outside,
                fingerprint=self._replica.fingerprint(coordinate) if is_same else b"",
                roots=record.roots if record.digest else self._merging.roots(coordinate),
                intent=None,
            )
            self.records.keep(coordinate, kept, write.text)
            if not write.text:
                self.records.forget(coordinate)
            self.problems.solve(write.path)
            if outcome.late is not None and write.expected is not None:
                before = write.expected.text
                self._merging.take_late(coordinate, write.path, before, outcome.late)
            if not is_same or outcome.late is not None:
                self._unfinished[coordinate] = None
            if outcome.mark is None and write.text:
                self._again[write.path] = None
            return
        if not record.digest:
            self.records.forget(coordinate)
        else:
            self.records.keep(coordinate, replace(record, intent=None))
        if isinstance(outcome, Changed):
            self._again[write.path] = None
            self._unfinished[coordinate] = None
        else:
            self.problems.note(write.path, outcome.reason, now, is_retried=True)

    # -- after a crash -----------------------------------------------------------------------

    async def _after_crash(self) -> None:
        """Find out of every file that was about to be written, moved or removed whether it was."""
        for coordinate in self.records:
            record = self.records.get(coordinate)
            if record is not None and record.intent is not None:
                intent = record.intent
                at_path, at_draft = await self._run(self._directory.after_crash, intent)
                if intent.draft == record.path:
                    self._settle_move(coordinate, record, intent, at_path, at_draft)
                else:
                    await self._settle_write(coordinate, record, intent, at_path, at_draft)

    def _settle_move(
        self, coordinate: Coordinate, record: Record, intent: Intent, there: Found, here: Found
    ) -> None:
        is_there = isinstance(there, File) and intent.inode == there.mark.inode
        is_there |= isinstance(there, File) and digest_of(there.text) == intent.digest
        if is_there and isinstance(here, Gone):
            record = replace(record, path=intent.path, mark=None)
        self.records.keep(coordinate, replace(record, intent=None))

    async def _settle_write(
        self, coordinate: Coordinate, record: Record, intent: Intent, there: Found, aside: Found
    ) -> None:
        text = self.records.intended(coordinate)
        before = self.records.base(coordinate)
        if isinstance(there, File):
            is_done = digest_of(there.text) == intent.digest or (
                intent.inode != 0 and there.mark.inode == intent.inode
            )
        else:
            is_done = not intent.digest and isinstance(there, Gone)
        if is_done:
            done = replace(
                record,
                path=intent.path,
                digest=intent.digest,
                mark=None,
                marks=there.marks if isinstance(there, File) else record.marks,
                line_marks=intent.marks,
                fingerprint=b"",
                intent=None,
            )
            self.records.keep(coordinate, done, text)
        else:
            self.records.keep(coordinate, replace(record, intent=None))
        is_old = isinstance(aside, File) and is_done and aside.mark.inode != intent.inode
        if isinstance(aside, File) and is_old and aside.text not in (before, text):
            self._merging.take_late(coordinate, intent.path, before, aside.text)
            self._unfinished[coordinate] = None
        await self._durable()
        await self._run(self._directory.discard, [intent.draft])

    # -- conflicts ---------------------------------------------------------------------------

    def _note_conflicts(self, coordinate: Coordinate, base: str, mine: str, theirs: str) -> None:
        """Remember where file and scroll changed the same lines of their base."""
        path = self._path_of(coordinate) or str(coordinate)
        for conflict in conflicts(base, mine, theirs):
            by = self._writers.get(coordinate, "")
            if self.conflicts.add(coordinate, path, conflict, by):
                _log.warning(
                    "%s: both sides changed line %d; see `phextsync conflicts`", path, conflict.line
                )

    def _note_conflicts_from_elsewhere(
        self, coordinate: Coordinate, mine: str, merged: str
    ) -> None:
        """Remember where others changed lines that were changed here unseen by them."""
        shared = self.records.shared(coordinate)
        if shared is not None:
            self._note_conflicts(coordinate, shared, mine, theirs_of(shared, mine, merged))
            self.records.replace_shared(coordinate, merged)

    # -- trouble -----------------------------------------------------------------------------

    def _note_own_problems(self, now: float) -> None:
        if self._directory.ignore_problem:
            self.problems.note(IGNORE_FILE, self._directory.ignore_problem, now, is_retried=False)
        else:
            self.problems.solve(IGNORE_FILE)

    @contextmanager
    def _boundary(self, path: str, now: float) -> Iterator[None]:
        """What goes wrong with one name stays with it; a store that refuses concerns all."""
        try:
            yield
        except StoreError:
            raise
        except (PhextsyncError, OSError) as error:
            self.problems.note(path, str(error), now, is_retried=True)


@dataclass(slots=True)
class _Round:
    """What is known of some files: those that may be written now, as they were read, and those
    that have been gone for long enough. `is_unseen`: what was done to them others may do too."""

    now: float
    is_unseen: bool
    ready: dict[Coordinate, File | None] = field(default_factory=dict)
    gone: list[Coordinate] = field(default_factory=list)


def _portions(writes: list[Write]) -> Iterator[list[Write]]:
    """Part writes so that what is in memory at a time stays small."""
    some: list[Write] = []
    size = 0
    for write in writes:
        some.append(write)
        size += len(write.text)
        if size >= _AT_ONCE_CHARACTERS:
            yield some
            some, size = [], 0
    if some:
        yield some
