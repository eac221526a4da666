"""Output: makes the files of a directory what their scrolls are.

What is about to happen to a file is on the disk before it happens, so that after a crash it can be
told whether it did. What is refused leaves file, base and scroll as they are.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from phextsync.conflicts import conflicts, theirs_of
from phextsync.errors import DirectoryError
from phextsync.files.absences import Absences
from phextsync.files.conflict_log import ConflictLog
from phextsync.files.directory import Directory
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.merging import Merging
from phextsync.files.naming import Naming
from phextsync.files.paths import folders_of
from phextsync.files.problems import Problems
from phextsync.files.reading import TEXT_BYTES_MAX, File, Trouble
from phextsync.files.records import Intent, Record, Records, digest_of
from phextsync.files.rules import rules_of_others
from phextsync.files.safekeeping import Safekeeping
from phextsync.files.settling import Settling
from phextsync.files.todo import Runner, Todo
from phextsync.files.unseen import Unseen
from phextsync.files.writes import ELSEWHERE, Changed, Draft, Outcome, Placed, Unknown, Write
from phextsync.index import Coordinate
from phextsync.replica.replica import Replica

_AT_ONCE_CHARACTERS: Final = 4 << 20
_PASSES_MAX: Final = 4
_MOVING: Final = ".phextsync.moving-"


def is_moving(path: str) -> bool:
    """Whether a path is one at which a file is only while others make room."""
    return _MOVING in path


class Output:
    """Writes, moves and removes files. `last_merge_s` is when it had something to write."""

    def __init__(
        self,
        replica: Replica,
        naming: Naming,
        records: Records,
        merging: Merging,
        problems: Problems,
        conflicts: ConflictLog,
        unseen: Unseen,
        todo: Todo,
        absences: Absences,
        directory: Directory,
        safekeeping: Safekeeping,
        *,
        run: Runner,
        durable: Callable[[], Awaitable[None]],
        may_write: Callable[[Coordinate], bool],
    ) -> None:
        self.last_merge_s: float | None = None
        self._replica = replica
        self._naming = naming
        self._records = records
        self._merging = merging
        self._problems = problems
        self._conflicts = conflicts
        self._unseen = unseen
        self._todo = todo
        self._absences = absences
        self._directory = directory
        self._safekeeping = safekeeping
        self._run = run
        self._durable = durable
        self._may_write = may_write
        self._left: list[str] = []  # files that are needed until it is durable what became of them
        self._settling = Settling(
            records, merging, problems, todo, directory, run=run, durable=durable
        )

    async def give(self, ready: dict[Coordinate, File | None], now: float) -> None:
        """Make files what their scrolls are."""
        for _ in range(_PASSES_MAX):
            await self._set_marks(ready, now)
            roots, troubles = await self._safekeeping.keep_begun_apart(ready)
            for coordinate, trouble in troubles.items():
                del ready[coordinate]
                self._problems.note(self._path_of(coordinate), trouble.reason, now, is_retried=True)
            moves, writes = self._plan(ready, roots, now)
            if not moves and not writes:
                return
            await self.tidy()
            ready = {}
            if moves:
                await self._move_all(moves, ready, now)
            if writes:
                await self._write_all(writes, now)

    async def find_out(self, now: float) -> None:
        """Find out what became of files, as far as it is not known; see `settling`."""
        await self.tidy()
        await self._settling.find_out(now)

    async def tidy(self) -> None:
        """Let what was done be durable, and remove what was needed to tell it after a crash."""
        if self._left:
            await self._durable()
            left, self._left = self._left, []
            await self._run(self._directory.discard, left)

    def excess(self) -> Iterator[tuple[str, str]]:
        """Give the files of which the host does not take all, and why."""
        for coordinate in self._records if self._directory.preset.budgets else ():
            path = self._path_of(coordinate)
            what = self._directory.preset.excess(path, self._replica.get(coordinate, ""))
            if what:
                yield path, what

    def _path_of(self, coordinate: Coordinate) -> str:
        """Return where a scroll's file was last seen, or is to be; nothing when that is nowhere."""
        record = self._records.get(coordinate)
        path = self._naming.layout.path_of(coordinate) if record is None else record.path
        return path or ""

    async def _set_marks(self, ready: dict[Coordinate, File | None], now: float) -> None:
        """Do to files what was done to their marks elsewhere."""
        for coordinate, file in ready.items():
            record, line = self._records.get(coordinate), self._naming.map.line_at(coordinate)
            if record is None or line is None or file is None or line.marks == record.line_marks:
                continue
            is_read_only = not self._may_write(coordinate)
            change = partial(self._directory.set_marks, is_read_only=is_read_only)
            outcome = await self._run(change, record.path, line.marks)
            if isinstance(outcome, Placed) and outcome.mark is not None:
                done = replace(
                    record, mark=outcome.mark, marks=outcome.marks, line_marks=line.marks
                )
                self._records.keep(coordinate, done)
                ready[coordinate] = replace(file, mark=outcome.mark, marks=outcome.marks)
            elif isinstance(outcome, Trouble | Unknown):
                self._problems.note(record.path, outcome.reason, now, is_retried=True)

    def _plan(
        self,
        ready: Mapping[Coordinate, File | None],
        roots: Mapping[Coordinate, tuple[int, ...]],
        now: float,
    ) -> tuple[dict[Coordinate, tuple[File, str]], list[Write]]:
        """Decide which files have to move, and which to be written or removed."""
        moves: dict[Coordinate, tuple[File, str]] = {}
        writes: list[Write] = []
        for coordinate, file in ready.items():
            path = self._path_of(coordinate)
            with self._problems.boundary(path, now):
                wanted = self._naming.layout.path_of(coordinate) or path
                record = self._records.get(coordinate)
                is_on_its_way = wanted == path and record is not None and is_moving(path)
                if not wanted or (self._directory.root.is_ignored(wanted) and not is_on_its_way):
                    if file is None or record is None:
                        self._problems.solve(path)
                        continue
                    # It got a name that is ignored: it stays where it is, unless that is another's.
                    if self._naming.layout.at(record.path) in (None, coordinate):
                        wanted = record.path
                if file is not None and record is not None and wanted != record.path:
                    moves[coordinate] = file, wanted
                    continue
                write = self._write_of(coordinate, file, wanted, roots.get(coordinate), now)
                if write is not None:
                    writes.append(write)
        return moves, writes

    def _write_of(
        self,
        coordinate: Coordinate,
        file: File | None,
        path: str,
        roots: tuple[int, ...] | None,
        now: float,
    ) -> Write | None:
        """Return what has to be written for a file to be what its scroll is, None when it is."""
        record = self._records.get(coordinate)
        may_write = self._may_write(coordinate)
        mine = "" if file is None else file.text
        is_list = self._directory.preset.is_list(path)
        if is_list and may_write:
            self._merging.order_entries(coordinate, path)
        elif file is not None and record is not None and record.digest and may_write:
            record = self._join(coordinate, path, record, file.text, roots)
        text = self._directory.preset.as_scroll(path, self._replica.get(coordinate, ""))
        line = self._naming.map.line_at(coordinate)
        self._compare_with_elsewhere(coordinate, path, mine, text)
        self._conflicts.review(coordinate, text, partial(self._replica.blame, coordinate))
        if text == mine:
            if record is None or line is None or line.marks == record.line_marks:
                self._problems.solve(path)  # not before: one that stays is not new
            if record is not None and not text:
                self._records.forget(coordinate)
            elif record is not None:
                fingerprint = self._replica.fingerprint(coordinate)
                self._records.keep(coordinate, replace(record, fingerprint=fingerprint))
            return None
        if "\0" in text or len(text) > TEXT_BYTES_MAX or len(text.encode()) > TEXT_BYTES_MAX:
            reason = "a zero byte" if "\0" in text else f"more than {TEXT_BYTES_MAX} bytes"
            what = f"its scroll at {coordinate} has {reason}; the file follows again without"
            self._problems.note(path, what, now, is_retried=False)
            return None
        self.last_merge_s = now
        marks = "" if line is None else line.marks
        return Write(coordinate, path, text, marks, file, is_read_only=not may_write)

    def _join(
        self,
        coordinate: Coordinate,
        path: str,
        record: Record,
        mine: str,
        roots: tuple[int, ...] | None,
    ) -> Record:
        """Let a scroll say once, and in words of its own, what was done apart here, to a file that
        holds `mine`, and elsewhere. Return what is remembered of the file then."""
        is_joined = roots in (None, record.roots)  # before this round, all that was begun apart
        if roots is not None and not is_joined:
            self._merging.join_twins(coordinate, record, mine, roots)
            record = replace(record, roots=roots)
            self._records.keep(coordinate, record)
        shared = self._unseen.before(coordinate)
        if shared is not None and self._unseen.may_be_unknown(coordinate):
            self._merging.end_lines(coordinate, path, shared, mine)
            self._merging.part_words(coordinate, path, shared, mine)
        # Of what is joined now each line is there as often as one had it.
        if is_joined and shared is not None and self._unseen.was_unknown(coordinate):
            self._merging.join_alike(coordinate, path, shared, mine)
        if shared is not None:
            self._merging.tidy(coordinate, path, shared, mine)
        return record

    async def _move_all(
        self,
        moves: Mapping[Coordinate, tuple[File, str]],
        ready: dict[Coordinate, File | None],
        now: float,
    ) -> None:
        """Let files lie where their names say."""
        targets = self._targets(moves, await self._rising(moves), now)
        for coordinate, (file, path) in targets.items():
            record = self._records.get(coordinate)
            assert record is not None
            mark = file.mark
            numbers = (mark.inode, mark.size, mark.time_ns)
            intent = Intent(path, record.digest, record.marks, *numbers, record.path)
            self._records.intend(coordinate, record, intent, "")
        await self._durable()
        for coordinate, (file, path) in targets.items():
            record = self._records.get(coordinate)
            assert record is not None
            old = record.path
            outcome = await self._run(self._directory.move, old, path, file.mark)
            if outcome == Unknown(ELSEWHERE):
                raise DirectoryError(ELSEWHERE)
            self._moved(coordinate, record, file, path, outcome, ready, now)

    async def _rising(self, moves: Mapping[Coordinate, tuple[File, str]]) -> set[Coordinate]:
        """Return the files that take the place of a folder which holds nothing but them."""
        rising: set[Coordinate] = set()
        key = self._directory.abilities.key
        for coordinate, (_, path) in moves.items():
            record = self._records.get(coordinate)
            if record is not None and key(record.path).startswith(f"{key(path)}/"):
                folder = "/".join(record.path.split("/")[: path.count("/") + 1])
                is_alone = await self._run(self._directory.is_alone, record.path, folder)
                rising.update([coordinate] if is_alone else [])
        return rising

    def _targets(
        self, moves: Mapping[Coordinate, tuple[File, str]], rising: set[Coordinate], now: float
    ) -> dict[Coordinate, tuple[File, str]]:
        """Return where each file goes first: out of the way where it is in that of another, and
        out of the folder whose place it, or another, takes."""
        targets: dict[Coordinate, tuple[File, str]] = {}
        key, below = self._directory.abilities.key, self._below(moves)
        for coordinate, (file, path) in moves.items():
            if coordinate in rising:
                folder, slash, _ = path.rpartition("/")
                targets[coordinate] = file, f"{folder}{slash}{_MOVING}{coordinate.key.hex()}"
                self._todo.finish(coordinate)
                continue
            other, beside = self._in_the_way(path), ""
            if other is None and (inside := below.get(key(path))) not in (None, coordinate):
                other, beside = inside, path  # it may have to go below this file
            if other is None:
                targets.setdefault(coordinate, (file, path))
                continue
            if other in self._absences:  # it may come back, or be deleted
                self._wait_for(other, coordinate, path, now)
                continue
            self._todo.finish(coordinate)
            record = self._records.get(other)
            if record is None or other in targets or coordinate in targets:
                continue
            if beside and self._in_the_way(moves[other][1]) is None:
                continue  # it goes by itself
            folder, slash, _ = (beside or record.path).rpartition("/")
            if other in moves:
                targets[other] = moves[other][0], f"{folder}{slash}{_MOVING}{other.key.hex()}"
        return targets

    def _below(self, moves: Iterable[Coordinate]) -> dict[str, Coordinate]:
        """Return, by key of a folder, a file that lies below it and has to move."""
        records = [(c, record) for c in moves if (record := self._records.get(c)) is not None]
        key = self._directory.abilities.key
        return {folder: c for c, record in records for folder in folders_of(key(record.path))}

    def _wait_for(self, other: Coordinate, coordinate: Coordinate, path: str, now: float) -> None:
        """Let a file stay where it is until it is settled what became of one that is gone."""
        lies_at = self._path_of(coordinate)
        self._absences.wait(lies_at, other)
        if not self._absences.is_open(other):
            what = f"it is to lie at {path}, the place of a file that is gone and not deleted"
            self._problems.note(lies_at, what, now, is_retried=False)

    def _in_the_way(self, path: str) -> Coordinate | None:
        """Return the scroll whose file lies at a path, or where a folder on the way is to be."""
        while path:
            coordinate = self._records.at(path)
            if coordinate is not None:
                return coordinate
            path = path.rpartition("/")[0]
        return None

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
            self._records.keep(coordinate, kept)
            self._problems.solve(path)
            self._problems.solve(record.path)
            self._problems.hurry()  # it may have been in the way of others
            self._todo.look_at(path)
            if mark is not None:
                ready[coordinate] = replace(file, mark=mark)
            return
        if not isinstance(outcome, Unknown):
            self._records.keep(coordinate, replace(record, intent=None))
        if isinstance(outcome, Changed):
            # A file that nobody knows may lie there: it gets a name, and another path, first.
            self._todo.look_at(path)
            self._todo.finish(coordinate)
        else:
            self._problems.note(record.path, outcome.reason, now, is_retried=True)

    async def _write_all(self, writes: list[Write], now: float) -> None:
        """Write files: whole ones beside them, then what will happen, then in their place."""
        for some in _portions(writes):
            drafts = await self._run(self._directory.prepare, some)
            works = []
            for write, draft in zip(some, drafts, strict=True):
                if isinstance(draft, Trouble):
                    self._problems.note(write.path, draft.reason, now, is_retried=True)
                    continue
                works.append((write, draft))
                self._intend(write, draft)
            if not works:
                continue
            await self._durable()
            outcomes = await self._run(self._directory.place, works, now)
            for (write, draft), outcome in zip(works, outcomes, strict=True):
                if outcome != Unknown(ELSEWHERE):
                    with self._problems.boundary(write.path, now):
                        self._written(write, draft, outcome, now)
            if Unknown(ELSEWHERE) in outcomes:
                raise DirectoryError(ELSEWHERE)

    def _intend(self, write: Write, draft: Draft) -> None:
        record = self._records.get(write.coordinate)
        if record is None:
            record = Record(write.path, b"", None)
        intent = self._directory.intent_of(write, draft)
        self._records.intend(write.coordinate, record, intent, write.text)

    def _written(self, write: Write, draft: Draft, outcome: Outcome, now: float) -> None:
        coordinate = write.coordinate
        record = self._records.get(coordinate)
        assert record is not None
        drafts = self._directory.drafts_of(self._directory.intent_of(write, draft))
        if isinstance(outcome, Placed):
            is_same = self._replica.get(coordinate, "") == write.text
            # A file that was empty has marks of its own, which may have to be changed.
            was_empty = write.expected is not None and not record.digest
            line_marks = outcome.marks if was_empty else record.line_marks
            kept = replace(
                record,
                path=write.path,
                digest=digest_of(write.text),
                mark=outcome.mark,
                marks=outcome.marks,
                line_marks=write.marks if write.expected is None else line_marks,
                born_ns=outcome.born_ns,
                is_outside=outcome.is_outside,
                is_racy=True,  # it was written this moment
                fingerprint=self._replica.fingerprint(coordinate) if is_same else b"",
                roots=record.roots if record.digest else self._merging.roots(coordinate),
                intent=None,
            )
            if outcome.late is not None and write.expected is not None:
                before = write.expected.text
                # The intent stays if the store refuses: it is settled as after a crash.
                with self._problems.boundary(write.path, now):
                    self._merging.take_late(coordinate, write.path, before, outcome.late)
            self._records.keep(coordinate, kept, write.text)
            if not write.text:
                self._records.forget(coordinate)
            self._left += drafts
            self._problems.solve(write.path)
            if not is_same or outcome.late is not None or kept.line_marks != write.marks:
                self._todo.finish(coordinate)
            if outcome.mark is None and write.text:
                self._todo.look_at(write.path)
            return
        if not isinstance(outcome, Unknown) and outcome != Changed(is_aside=True):
            self._records.take_back(coordinate, record)
            self._left += drafts
        if isinstance(outcome, Changed):
            self._todo.look_at(write.path)
            self._todo.finish(coordinate)
        else:
            self._problems.note(write.path, outcome.reason, now, is_retried=True)

    def _compare_with_elsewhere(
        self, coordinate: Coordinate, path: str, mine: str, merged: str
    ) -> None:
        """Log where others changed lines that were changed here unseen by them."""
        others = rules_of_others if path == IGNORE_FILE else theirs_of
        for met in self._unseen.meet(coordinate, mine, merged, others):
            found = conflicts(met.base, mine, met.theirs, merged)
            self._conflicts.log(coordinate, path, found, met.writers, is_known=met.is_known)


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
