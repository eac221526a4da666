"""Desk: what can be asked about the bound directories of a data folder, with or without a node.

The operations are those of `control.operations`; their answers are read here. A path in a request
is the whole path that its name means, or empty when that cannot be known. The beginning of the
number of a conflict will do, where it is the only such one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from phextsync.conflicts import settled
from phextsync.control import operations
from phextsync.control.answers import Form, rows_of
from phextsync.control.frames import Value
from phextsync.control.operations import Operation
from phextsync.control.performing import perform
from phextsync.control.status import DirectoryRow
from phextsync.errors import DirectoryError, PhextsyncError, ProtocolError, StoreError
from phextsync.files.binding import Binding
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.conflict_log import SETTLER, ConflictLog, LoggedConflict
from phextsync.files.finding import Finder, FoundFile, FoundRange
from phextsync.files.paths import Abilities
from phextsync.files.records import Records
from phextsync.files.status import BindingStatus, row_of
from phextsync.files.unseen import Unseen
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.node import Node
from phextsync.ranges import Ranges, holds, union
from phextsync.replica.changes import writing_as
from phextsync.replica.replicas import ReplicaSet
from phextsync.texts import sendable


class Serving(Protocol):
    """What keeps directories in step in this process."""

    def status(self) -> list[BindingStatus]: ...

    def binding(self, directory: Path) -> Binding | None: ...

    def taking_up(self) -> list[tuple[str, int, int]]: ...

    def is_apart(self, bound: Bound) -> bool: ...


class NotServing:
    """Nothing keeps them in step here. `is_apart` says whether others may be writing unseen."""

    def __init__(self, is_apart: Callable[[Bound], bool] = lambda bound: True) -> None:
        self.is_apart = is_apart

    def status(self) -> list[BindingStatus]:
        return []

    def binding(self, directory: Path) -> Binding | None:
        return None

    def taking_up(self) -> list[tuple[str, int, int]]:
        return []


@dataclass(frozen=True, slots=True)
class ToldConflict:
    """Lines that two sides changed apart. `path` is that of the file; `mine` is what this machine
    had, `theirs` what `theirs_by` had (None: no kept history says what that was); `line` is the
    first of them in `base`."""

    number: str
    phext: str
    coordinate: Coordinate
    path: str
    line: int
    time_ms: int
    theirs_by: str
    base: str
    mine: str
    theirs: str | None


class FileDesk:
    """Answers requests about the bound directories of a folder, for the owner of its scrolls."""

    def __init__(self, replicas: ReplicaSet, folder: Path, serving: Serving | None = None) -> None:
        self._replicas = replicas
        self._store = BindingStore(folder)
        self._serving: Serving = NotServing() if serving is None else serving
        self._finder = Finder(
            replicas,
            self._store,
            is_apart=self._serving.is_apart,
            abilities=self._abilities,
            trouble=self._trouble,
        )

    def ask(self, request: list[Value]) -> Value:
        """Answer a request. Errors are those of `Finder` and `Replica`."""
        match request:
            case ["find", str(text), str(path)]:
                return FIND.answer.encode(self._finder.find(text, path))
            case ["find_range", str(text), str(path)]:
                return FIND_RANGE.answer.encode(self._finder.find_range(text, path))
            case ["name_file", str(text), str(path)]:
                return NAME_FILE.answer.encode(self._finder.name(text, path))
            case ["names", str(phext), list(places)]:
                paths = self._finder.names(phext, [Coordinate.parse(str(p)) for p in places])
                return NAMES.answer.encode([*paths])
            case ["conflicts", str() | None as phext, str(place)]:
                return CONFLICTS.answer.encode(self.conflicts(phext, place))
            case ["settle_conflict", str(number), str(side), str(text)]:
                told = self.settle(number, side, text)
                return [told.phext, str(told.coordinate)]
            case ["forget_conflict", str(number)]:
                self.forget(number)
                return None
            case ["hold", str(phext), list(ranges), int() | None]:
                held = union(CoordinateRange.parse(str(each)) for each in ranges)
                self.check_unbound(phext, held)
                return perform(self._replicas, request)
            case _:
                raise ProtocolError(f"expected a request about files, found {request!r:.80}")

    def check_unbound(self, phext: str, held: Ranges) -> None:
        """DirectoryError when a directory is bound to a range that would not be held."""
        for bound in self._store.bindings():
            if bound.phext == phext and not holds(held, bound.range):
                raise DirectoryError(
                    f"{bound.directory} is bound to {bound.range} of {phext}, which would be given "
                    "up: unbind it first"
                )

    def find(self, name: str, path: str = "") -> FoundFile:
        """Return a bound file by its name or whole path. CoordinateError when there is none."""
        return self._finder.find(name, path or name)

    def status(self) -> tuple[DirectoryRow, ...]:
        """Return the state of each directory."""
        served = {status.directory: status for status in self._serving.status()}
        rows: list[DirectoryRow] = []
        try:
            all_bound = self._store.bindings()
        except StoreError as error:  # a file of the folder that says what is bound
            row = row_of(Bound(self._store.path, "", EVERYTHING), None, 0)
            return (replace(row, problem=str(error)),)
        for bound in all_bound:
            row = row_of(bound, served.get(bound.directory), self._replicas.author.now_ms())
            if not row.is_taken_up:
                row = replace(row, conflicts=len(self._log(bound)))
            rows.append(row)
        return tuple(rows)

    def taking_up(self) -> list[tuple[str, int, int]]:
        """Say which directories are being taken up: files that were looked at, and all of them."""
        return self._serving.taking_up()

    @contextmanager
    def at(self, node: Node) -> Iterator[None]:
        """Answer for a node as long as the block lasts."""
        node.directories = self
        try:
            yield
        finally:
            node.directories = None
            self._finder.close()

    # -- conflicts ---------------------------------------------------------------------------

    def conflicts(self, phext: str | None = None, place: str = "") -> list[ToldConflict]:
        """Return the conflicts that nobody settled, of all files, those of a phext or one of them,
        the oldest first. CoordinateError for what is no place."""
        at = Coordinate.parse(place) if place else None
        found = [
            _told(bound, each)
            for bound, log in self._logs()
            for each in log
            if phext in (None, bound.phext) and at in (None, each.coordinate)
        ]
        return sorted(found, key=lambda told: (told.time_ms, told.path, told.line, told.number))

    def settle(self, number: str, side: str, text: str = "") -> ToldConflict:
        """Put one side's lines, or `text`, in the place of what the merge made of a conflict, and
        forget it. PhextsyncError when there is no such conflict or no such place any more."""
        bound, log, conflict = self._found(number)
        sides = {"mine": conflict.conflict.mine, "theirs": conflict.conflict.theirs, "text": text}
        if side not in sides:
            raise PhextsyncError(f"expected mine, theirs or text, found {side!r:.40}")
        if side == "theirs" and not conflict.is_known:
            raise PhextsyncError(
                f"{conflict.path}: what others had is not known, since no history says; take "
                "mine or the lines of a file, or see `phextsync versions` on their machine"
            )
        replica = self._replicas.open(bound.phext)
        new = settled(replica.get(conflict.coordinate, ""), conflict.conflict, sides[side])
        if new is None:
            raise PhextsyncError(
                f"{conflict.path} was changed since: line {conflict.conflict.line} is not found; "
                f"edit the file, then `phextsync conflicts --forget {conflict.number[:8]}`"
            )
        # Others may settle it otherwise, unseen: that is a conflict again.
        with self._unseen(bound).changing(conflict.coordinate), writing_as(SETTLER):
            replica.edit(conflict.coordinate, new)
        log.settle(conflict.number)
        return _told(bound, conflict)

    def forget(self, number: str) -> None:
        """Forget a conflict; its file stays as it is. PhextsyncError when there is none."""
        _, log, conflict = self._found(number)
        log.settle(conflict.number)

    def _found(self, number: str) -> tuple[Bound, ConflictLog, LoggedConflict]:
        found = [
            (bound, log, each)
            for bound, log in self._logs()
            for each in log
            if number and each.number.startswith(number)
        ]
        if len(found) != 1:
            what = "several" if found else "none"
            raise PhextsyncError(
                f"expected the number of a conflict, found {what} with {number!r:.40}; "
                "`phextsync conflicts` lists them"
            )
        return found[0]

    def _logs(self) -> Iterator[tuple[Bound, ConflictLog]]:
        for bound in self._store.bindings():
            yield bound, self._log(bound)

    def _log(self, bound: Bound) -> ConflictLog:
        served = self._serving.binding(bound.directory)
        if served is not None:
            return served.conflicts
        return ConflictLog(self._replicas, bytes.fromhex(bound.id))

    def _unseen(self, bound: Bound) -> Unseen:
        served = self._serving.binding(bound.directory)
        if served is not None:
            return served.unseen
        records = Records(self._replicas, bytes.fromhex(bound.id))
        is_apart = partial(self._serving.is_apart, bound)
        return Unseen(self._replicas, bound.phext, bound.range, records, is_apart)

    def _abilities(self, bound: Bound) -> Abilities:
        served = self._serving.binding(bound.directory)
        return Abilities() if served is None else served.naming.layout.abilities

    def _trouble(self, bound: Bound, path: str) -> str:
        served = self._serving.binding(bound.directory)
        problems = () if served is None else served.problems
        return next((each.reason for each in problems if each.path == path), "")


# -- answers -------------------------------------------------------------------------------


def _as_file(answer: Value) -> FoundFile:
    match answer:
        case [str(phext), str(place), str(directory), str(path), bool(is_there)]:
            return FoundFile(phext, Coordinate.parse(place), Path(directory), path, is_there)
        case _:
            raise ProtocolError(f"expected a file, found {answer!r:.80}")


def _as_range(answer: Value) -> FoundRange:
    match answer:
        case [str(phext), str(range_), str(directory), str(below)]:
            return FoundRange(phext, CoordinateRange.parse(range_), Path(directory), below)
        case _:
            raise ProtocolError(f"expected a range, found {answer!r:.80}")


def _as_path(row: Value) -> Path | None:
    match row:
        case str() | None:
            return None if row is None else Path(row)
        case _:
            raise ProtocolError(f"expected a path, found {row!r:.80}")


def _as_conflict(row: Value) -> ToldConflict:
    match row:
        case [str(number), str(phext), str(place), str(path), list(when), list(sides)]:
            match [*when, *sides]:
                case [int(line), int(ms), str(by), str(base), str(mine), str() | None as theirs]:
                    where = phext, Coordinate.parse(place), path, line
                    return ToldConflict(number, *where, ms, by, base, mine, theirs)
                case _:
                    raise ProtocolError(f"expected both sides of lines, found {row!r:.80}")
        case _:
            raise ProtocolError(f"expected a conflict, found {row!r:.80}")


def _told(bound: Bound, logged: LoggedConflict) -> ToldConflict:
    found = logged.conflict
    path = _sent(bound.directory / logged.path)
    where = bound.phext, logged.coordinate, path, found.line
    sides = found.base, found.mine, found.theirs if logged.is_known else None
    return ToldConflict(logged.number, *where, logged.time_ms, logged.theirs_by, *sides)


def _conflict_row(told: ToldConflict) -> Value:
    when: list[Value] = [told.line, told.time_ms, told.theirs_by]
    sides: list[Value] = [told.base, told.mine, told.theirs]
    return [told.number, told.phext, str(told.coordinate), told.path, when, sides]


def _file_row(file: FoundFile) -> Value:
    place = str(file.coordinate)
    return [file.phext, place, _sent(file.directory), file.path, file.is_there]


def _sent(path: Path) -> str:
    """Return a path as an answer can hold it."""
    return sendable(str(path))


def _range_row(found: FoundRange) -> Value:
    return [found.phext, str(found.range), _sent(found.directory), found.below]


_FILE: Final = Form(_file_row, _as_file)

FIND: Final = operations.FIND.read_as(_FILE)
FIND_RANGE: Final = operations.FIND_RANGE.read_as(Form(_range_row, _as_range))
NAME_FILE: Final = operations.NAME_FILE.read_as(_FILE)
NAMES: Final[Operation[list[Path | None]]] = operations.NAMES.read_as(
    rows_of("paths", lambda path: None if path is None else _sent(path), _as_path)
)
CONFLICTS: Final = operations.CONFLICTS.read_as(rows_of("conflicts", _conflict_row, _as_conflict))
