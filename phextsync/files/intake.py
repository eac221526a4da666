"""Intake: what the files of a directory say about their scrolls, and what is done to these.

A file changed, appeared, was renamed, or is gone: each is done to its scroll and remembered in one
batch. What cannot be told now waits, or is a problem of that name alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from phextsync.conflicts import Conflict, conflicts
from phextsync.edits import lines_of, without_end
from phextsync.errors import PhextsyncError, StoreError
from phextsync.files.absences import Absences
from phextsync.files.conflict_log import ConflictLog
from phextsync.files.merging import Merging
from phextsync.files.modes import merged_marks
from phextsync.files.names import Line, check_name, marks_of
from phextsync.files.naming import Naming
from phextsync.files.problems import Problems
from phextsync.files.reading import File, Found, Gone, Trouble, breaks_off, is_nothing
from phextsync.files.records import Guise, Record, Records, digest_of
from phextsync.files.renamed import GoneFiles
from phextsync.files.restored import Restored
from phextsync.files.todo import Todo
from phextsync.files.unseen import Unseen
from phextsync.index import EMPTY_VERSION, Coordinate
from phextsync.replica.replica import Replica
from phextsync.texts import check_text

_READ_ONLY: Final = (
    "this machine may read it and not change it: its change stays here alone, and nothing new is "
    "written over it; remove the file to get it as it is elsewhere"
)
_READ_ONLY_NEW: Final = (
    "this machine may read these files and add none: it stays here alone; keep it elsewhere"
)
_UNSURE: Final = "not taken yet: it may be one of which it cannot be told whether it is gone:"


@dataclass(slots=True)
class Taken:
    """What is known of some files: those that may be written now, as they were read, and those
    that have been gone for long enough. `is_unseen`: what was done to them others may do too."""

    now: float
    is_unseen: bool
    ready: dict[Coordinate, File | None] = field(default_factory=dict)
    gone: list[Coordinate] = field(default_factory=list)


class Intake:
    """Does to scrolls what was done to their files."""

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
        *,
        may_write: Callable[[Coordinate], bool],
        restored: Restored | None = None,
    ) -> None:
        self._restored = restored
        self._replica = replica
        self._naming = naming
        self._records = records
        self._merging = merging
        self._problems = problems
        self._conflicts = conflicts
        self._unseen = unseen
        self._todo = todo
        self._absences = absences
        self._may_write = may_write

    def take(
        self,
        places: Mapping[Coordinate, str],
        strangers: Iterable[str],
        found: Mapping[str, Found],
        taken: Taken,
    ) -> None:
        """Take what was `found` at the `places` of scrolls, and at paths that belong to none."""
        strangers = self._still_unknown(strangers, taken.now)
        for coordinate, path in places.items():
            with self._problems.boundary(path, taken.now):
                self._look_at(coordinate, path, found[path], taken)
        files = {p: f for p in strangers if isinstance(f := found[p], File) and f.text}
        files = {p: f for p, f in files.items() if not self._is_as_it_is_to_come(p, f)}
        for path in strangers:
            self._note_found(path, found[path], taken.now)
        odd = {p: t.file for p in strangers if isinstance(t := found[p], Trouble) and t.file}
        gone = GoneFiles(self._absences, self._records)
        were = gone.those_of({**odd, **files})
        unread = {p: t.inode for p in strangers if isinstance(t := found[p], Trouble)}
        for path, inode in unread.items():
            was = were.get(path) or gone.with_inode(inode)
            if was is not None and not self._absences.is_unsure(was):
                self._absences.keep_odd(was, path)
        self._follow_renames(were, files, taken)
        files = {p: f for p, f in files.items() if self._is_free(p)}
        self._wait_for_folders(files)
        self._add_new(files, taken)
        self._delete(taken)

    def _still_unknown(self, paths: Iterable[str], now: float) -> list[str]:
        """Return the paths that belong to no scroll. Since they were looked for, a scroll's file
        may have moved to one, or a scroll come whose file is to lie there: it meets what does, but
        for one that was renamed, which counts first."""
        naming = self._naming
        unknown = [path for path in paths if self._belongs_to(path) is None]
        named = {c for path in unknown for c in naming.map.places_of(path)}
        for coordinate in naming.follow(named, now):
            self._todo.finish(coordinate)
        return unknown

    def _belongs_to(self, path: str) -> Coordinate | None:
        """Return the scroll whose file lies at a path."""
        coordinate = self._records.at(path)
        is_displaced = coordinate is not None and self._absences.is_displaced(coordinate)
        return None if is_displaced else coordinate

    def _to_come(self, path: str) -> Coordinate | None:
        """Return the scroll whose file is to lie at a path, and of whose file nothing is known."""
        coordinate = self._naming.layout.at(path)
        return coordinate if self._records.get(coordinate) is None else None

    def _is_as_it_is_to_come(self, path: str, file: File) -> bool:
        """Whether a file has the text that is to come to its path: it is no other then."""
        coordinate = self._to_come(path)
        return coordinate is not None and self._replica.get(coordinate, "") == file.text

    def _is_free(self, path: str) -> bool:
        """Whether no scroll's file lies at a path, or is to."""
        return self._records.at(path) is None and self._to_come(path) is None

    def _look_at(
        self,
        coordinate: Coordinate,
        path: str,
        found: Found,
        taken: Taken,
    ) -> None:
        """Decide what one file says about its scroll: it is ready to be written, gone, or neither
        for now."""
        record, now = self._records.get(coordinate), taken.now
        if isinstance(found, Trouble):
            self._absences.doubt(coordinate)
            self._note_found(path, found, now)
            return
        if self._absences.is_elsewhere(coordinate, now):
            return  # what lies there is another file
        file = found if isinstance(found, File) else None
        text = "" if file is None else file.text
        if record is None or not record.digest:
            self._absences.end(coordinate)
            if text and self._stays_here(coordinate, path, text, now):
                return
            if file is not None and text:
                self._meet(coordinate, path, file)
                self._agree(coordinate, path, file)
        elif not text:
            if isinstance(found, Gone) and (reason := self._doubt(coordinate, record, found)):
                self._absences.doubt(coordinate)
                self._problems.note(path, reason, now, is_retried=True)
                return
            if self._may_write(coordinate):
                is_due = self._absences.is_due(coordinate, now)
                is_due = is_due or self._absences.is_confirmed(coordinate)
                if not self._absences.is_holding_up(coordinate):  # which is told by that path
                    self._problems.solve(path)
                if not is_due:
                    return
                if self._replica.size(coordinate):
                    taken.gone.append(coordinate)
                    return
            else:  # it was not ours to delete: it is written again
                self._records.forget(coordinate)
            self._absences.end(coordinate)
        elif file is not None and not self._take(coordinate, record, file, taken):
            return
        taken.ready[coordinate] = file

    def _doubt(self, coordinate: Coordinate, record: Record, found: Gone) -> str:
        """Return why it cannot be told yet that a file is gone, nothing when it can."""
        if record.is_outside and not found.is_outside:
            return "a file system that was mounted on the way to it is not there; mount it"
        if not self._absences.is_missing(coordinate):
            return "it is gone; its folder cannot be brought to the disk yet"
        return ""

    def _stays_here(self, coordinate: Coordinate, path: str, text: str, now: float) -> bool:
        """Whether this machine may not do to a scroll what its file holds; that is told."""
        if self._may_write(coordinate) or self._replica.get(coordinate, "") == text:
            return False
        self._problems.note(path, _READ_ONLY, now, is_retried=False)
        return True

    def _take(self, coordinate: Coordinate, record: Record, file: File, taken: Taken) -> bool:
        """Do to the scroll what was done to the file; say whether the file may be written now."""
        is_changed = digest_of(file.text) != record.digest
        if is_changed and self._is_unfinished(coordinate, record, file, taken.now):
            return False
        self._absences.end(coordinate)
        if not self._may_write(coordinate):
            if is_changed and self._stays_here(coordinate, record.path, file.text, taken.now):
                return False
            if is_changed:
                self._agree(coordinate, record.path, file)
            return True
        if is_changed:
            self._merge(coordinate, record, file, taken)
        line = self._naming.map.line_at(coordinate)
        may_name = self._may_write(self._naming.map.map_coordinate)
        if file.marks != record.marks and line is not None and may_name:
            marks = merged_marks(record.marks, file.marks, line.marks)
            self._naming.change({coordinate: replace(line, marks=marks)})
        self._agree(coordinate, record.path, file)
        return True

    def _is_unfinished(
        self, coordinate: Coordinate, record: Record, file: File, now: float
    ) -> bool:
        """Whether somebody seems to be writing a file in place. It waits as one that is empty."""
        old, new = record.mark, file.mark
        if old is None or old.inode != new.inode or old.size <= new.size:
            return False
        is_part = breaks_off(self._records.base(coordinate), file.text)
        return is_part and not self._absences.is_due(coordinate, now)

    def _merge(self, coordinate: Coordinate, record: Record, file: File, taken: Taken) -> None:
        base = self._records.base(coordinate)
        with self._comparing(coordinate, record.path, base, file.text):
            self._merging.take(coordinate, record, base, file, is_unseen=taken.is_unseen)

    @contextmanager
    def _comparing(self, coordinate: Coordinate, path: str, base: str, mine: str) -> Iterator[None]:
        """Log where what made `mine` of `base`, which the block does to the scroll, meets what
        others did to it. Where they may not know of an earlier change, that is told later."""
        scroll = self._replica.get(coordinate, "")
        is_first = self._unseen.before(coordinate) is None
        found = conflicts(base, mine, scroll) if is_first else []
        writers = self._writers_of(coordinate, found) if found else []
        with self._unseen.changing(coordinate):
            yield
        if found:
            found = conflicts(base, mine, scroll, self._replica.get(coordinate, ""))
            self._conflicts.log(coordinate, path, found, writers)

    def _writers_of(self, coordinate: Coordinate, found: Iterable[Conflict]) -> list[bytes]:
        """Return who wrote the lines that others have in conflicts, as far as that is known."""
        lines = {without_end(line) for each in found for line in lines_of(each.theirs)}
        blamed = self._replica.blame(coordinate)
        return sorted({each.writer for each in blamed if each.writer and each.text in lines})

    def _meet(self, coordinate: Coordinate, path: str, file: File) -> None:
        """Bring a file to a scroll that it never agreed with. Where all was deleted others may do
        the same unseen, as in a text that both replace."""
        had_text = self._replica.version(coordinate) != EMPTY_VERSION
        is_emptied = had_text and not self._replica.size(coordinate)
        with self._unseen.changing(coordinate) if is_emptied else nullcontext():
            older = "" if self._restored is None else self._restored.text(coordinate, path, file)
            self._merging.meet(coordinate, path, file.text, older)

    def _agree(self, coordinate: Coordinate, path: str, file: File) -> None:
        """Remember a file as it was read, now that the scroll has what was done to it."""
        old = self._records.get(coordinate)
        line_marks = file.marks
        if old is not None:  # what came from elsewhere is still to be done to the file
            line_marks = merged_marks(old.marks, file.marks, old.line_marks)
        is_same = self._replica.get(coordinate, "") == file.text
        record = Record(
            path,
            digest_of(file.text),
            file.mark,
            file.marks,
            line_marks,
            file.born_ns,
            file.is_outside,
            file.is_racy,
            self._replica.fingerprint(coordinate) if is_same else b"",
            self._merging.roots(coordinate) if old is None or not old.digest else old.roots,
        )
        self._records.keep(coordinate, record, file.text)

    def _follow_renames(
        self, were: Mapping[str, Coordinate], files: dict[str, File], taken: Taken
    ) -> None:
        """Take files that appeared for those that they `were`; `files` keeps the others."""
        renamed: dict[Coordinate, tuple[Record, str, File]] = {}
        for path, coordinate in were.items():
            record = self._records.get(coordinate)
            if record is None or path not in files:
                continue
            file = files.pop(path)
            if self._absences.is_unsure(coordinate):
                self._problems.note(path, f"{_UNSURE} {record.path}", taken.now, is_retried=True)
                continue
            is_due = self._absences.is_due(coordinate, taken.now)
            if not is_due or self._gone_below(path, but=coordinate) is not None:
                self._wait(path, coordinate, file)  # the old one may come back
                continue
            with self._problems.boundary(path, taken.now):
                check_name(path)
                renamed[coordinate] = record, path, file
        while (early := self._to_an_old_place(renamed)) is not None:
            _, path, file = renamed.pop(early)
            self._wait(path, early, file)
        self._rename(renamed, taken)

    def _wait(self, path: str, coordinate: Coordinate, file: File) -> None:
        """Let a file that was renamed, as it seems, wait until that counts."""
        self._absences.wait(path, coordinate)
        self._absences.see(coordinate, Guise(path, file.mark.inode, file.text))

    def _to_an_old_place(
        self, renamed: Mapping[Coordinate, tuple[Record, str, File]]
    ) -> Coordinate | None:
        """Return a file that lies where another lay that is renamed too, and later."""
        for coordinate, (_, path, _) in renamed.items():
            other = self._records.at(path)
            if other is not None and other != coordinate and other not in renamed:
                return coordinate
        return None

    def _rename(self, renamed: Mapping[Coordinate, tuple[Record, str, File]], taken: Taken) -> None:
        """Give scrolls the names that their files have now."""
        lines: dict[Coordinate, Line] = {}
        for coordinate, (record, path, file) in renamed.items():
            line = self._naming.map.line_at(coordinate)
            marks = merged_marks(record.marks, file.marks, marks_of(line))
            lines[coordinate] = Line(coordinate, path, marks)
        if not self._name(lines, self._naming.change, taken.now):
            for coordinate, line in lines.items():
                self._absences.keep_odd(coordinate, line.name)
            return
        for coordinate, (record, path, file) in renamed.items():
            with self._problems.boundary(path, taken.now):
                if self._absences.is_displaced(coordinate):
                    self._todo.look_at(record.path)
                self._absences.end(coordinate)
                moved = replace(record, path=path)
                self._records.keep(coordinate, moved)
                if digest_of(file.text) != record.digest:
                    self._merge(coordinate, moved, file, taken)
                self._agree(coordinate, path, file)
                self._problems.solve(record.path)
                taken.ready[coordinate] = file

    def _name(
        self,
        lines: Mapping[Coordinate, Line],
        write: Callable[[Mapping[Coordinate, Line]], None],
        now: float,
    ) -> bool:
        """Write lines of the map, all at once; say whether that was allowed."""
        try:
            write(lines)
        except StoreError:
            raise
        except PhextsyncError as error:
            for line in lines.values():
                self._problems.note(line.name, str(error), now, is_retried=True)
            return False
        return True

    def _wait_for_folders(self, files: dict[str, File]) -> None:
        """Let a file that lies where a folder was wait until what was in the folder is deleted:
        it would have to yield to it. `files` keeps the others."""
        for path in list(files):
            below = self._gone_below(path)
            if below is not None:
                self._absences.wait(path, below)
                del files[path]

    def _gone_below(self, path: str, but: Coordinate | None = None) -> Coordinate | None:
        """Return a file that is gone, is to be deleted, and lay in a folder of this path."""
        if not self._naming.layout.has_folder(path):
            return None
        open_ = (c for c in self._absences if self._absences.is_open(c))
        gone = ((c, r) for c in open_ if (r := self._records.get(c)) is not None)
        return next((c for c, r in gone if c != but and r.path.startswith(f"{path}/")), None)

    def _add_new(self, files: Mapping[str, File], taken: Taken) -> None:
        """Give files a scroll that have none."""
        lines: dict[Coordinate, Line] = {}
        for coordinate, path in self.places_for(files, taken.now).items():
            file = files[path]
            with self._problems.boundary(path, taken.now):
                check_text(file.text)
                if not self._may_write(coordinate):
                    self._problems.note(path, _READ_ONLY_NEW, taken.now, is_retried=False)
                    continue
                lines[coordinate] = Line(coordinate, path, file.marks)
        if not self._name(lines, self._name_new, taken.now):
            return
        for coordinate, line in lines.items():
            file = files[line.name]
            with self._problems.boundary(line.name, taken.now):
                self._meet(coordinate, line.name, file)
                self._agree(coordinate, line.name, file)
                taken.ready[coordinate] = file
                self._problems.solve(line.name)

    def places_for(self, paths: Iterable[str], now: float) -> dict[Coordinate, str]:
        """Return the scrolls that new files of these paths get. What no name can be is noted."""
        places: dict[Coordinate, str] = {}

        def is_free(coordinate: Coordinate) -> bool:
            return coordinate not in places and self._records.get(coordinate) is None

        for path in paths:
            with self._problems.boundary(path, now):
                check_name(path)
                places[self._naming.place_for(path, is_free)] = path
        return places

    def _name_new(self, lines: Mapping[Coordinate, Line]) -> None:
        """Write lines of new files into the map; one that had its name before has other marks."""
        self._naming.add(lines.values())
        self._naming.change({c: line for c, line in lines.items() if not self._replica.size(c)})

    def _note_found(self, path: str, found: Found, now: float) -> None:
        if isinstance(found, Trouble):
            self._problems.note(path, found.reason, now, is_retried=found.may_pass)
        elif is_nothing(found):
            self._problems.solve(path)

    # -- files that are gone -----------------------------------------------------------------

    def _delete(self, taken: Taken) -> None:
        """Delete from scrolls what files held that are gone, unless they are too many."""
        if not taken.gone:
            return
        files = sum(bool(r and r.digest) for r in map(self._records.get, self._records))
        for coordinate in self._absences.doomed(taken.gone, files, taken.now):
            record = self._records.get(coordinate)
            if record is None:
                continue
            with self._problems.boundary(record.path, taken.now):
                base = self._records.base(coordinate)
                with self._comparing(coordinate, record.path, base, ""):
                    self._merging.delete(coordinate, record.path, base)
                gone = replace(record, digest=b"", mark=None, fingerprint=b"")
                self._records.keep(coordinate, gone, "")
                taken.ready[coordinate] = None
                self._absences.end(coordinate)
                self._problems.solve(record.path)
