"""Missing: finds which of the files that this machine has had are gone, or have another at their
path, before anything that appeared is taken for new.
"""

from collections.abc import Collection, Iterable

from phextsync.files.absences import Absences
from phextsync.files.directory import Directory
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.reading import File, Found
from phextsync.files.records import Guise, Record, Records
from phextsync.files.renamed import displaced, is_another, seems_to_be
from phextsync.files.scope import Scope
from phextsync.files.todo import Runner, Todo
from phextsync.index import Coordinate


class Missing:
    """Looks for the files that a round is about."""

    def __init__(
        self,
        records: Records,
        absences: Absences,
        scope: Scope,
        directory: Directory,
        todo: Todo,
        run: Runner,
    ) -> None:
        self._records = records
        self._absences = absences
        self._scope = scope
        self._directory = directory
        self._todo = todo
        self._run = run
        self._new: dict[str, int] = {}  # the numbers of files that were found once

    async def find(self, known: Iterable[Coordinate], now: float) -> None:
        """Note which files are gone, before anything that appeared is taken for new."""
        held = {c: r for c in known if (r := self._scope.held(c)) is not None}
        absent = *self._absences, *self._absences.unsure
        for coordinate in [c for c in absent if self._scope.held(c) is None]:
            self._absences.end(coordinate)
        paths = [record.path for record in held.values()]
        gone = await self._run(self._directory.gone, paths) if paths else {}
        for coordinate, record in held.items():
            self._absences.note(coordinate, gone.get(record.path), now)

    async def find_displaced(
        self, known: Iterable[Coordinate], unknown: dict[str, None], now: float
    ) -> None:
        """Note which files are gone though another lies at their path; that is `unknown` then. What
        lies where a scroll's file is to be may be one that is gone."""
        new = [p for c in known if self._records.get(c) is None and (p := self._scope.path_of(c))]
        strangers = [path for path in (*unknown, *new) if not self._scope.is_left_alone(path)]
        if self._absences.missing:
            unknown.update(dict.fromkeys(new))
        held = {
            c: record
            for c in known
            if (record := self._followed(c)) is not None and not self._absences.is_missing(c)
        }
        marks = {record.path: record.mark for record in held.values()}
        changed = await self._run(self._directory.changed, marks) if marks else []
        there = await self._files(changed)
        others = {
            c: file
            for c, record in held.items()
            if (file := there.get(record.path)) is not None and is_another(self._records, c, file)
        }
        if not others:
            return
        files = await self._files(strangers)
        for coordinate in displaced(self._records, self._absences, others, files, now):
            self._absences.displace(coordinate, now)
            unknown.update(dict.fromkeys([held[coordinate].path, *new]))

    async def _files(self, paths: Collection[str]) -> dict[str, File]:
        """Read what lies at paths, as far as that are files."""
        found = await self._run(self._directory.read, paths) if paths else {}
        return {path: file for path, file in found.items() if isinstance(file, File)}

    def has_just_come(self, path: str, coordinate: Coordinate | None, found: Found) -> bool:
        """Whether what is found at a path, which belongs to a scroll or to none, is another file
        than before, for the first time. Of what was done before it, as of a new name for a file,
        not all may be heard yet: it counts when it is found again, and what it may be is looked for
        until then."""
        seen = self._new.pop(path, None)
        if not isinstance(found, File) or not found.text or seen == found.mark.inode:
            return False
        if coordinate is not None and self._followed(coordinate) is not None:
            if self._absences.is_displaced(coordinate):
                return False
            if not is_another(self._records, coordinate, found):
                return False
        elif not self._may_be_renamed(path, found):
            return False
        self._new[path] = found.mark.inode
        if coordinate is None:
            self._todo.look_at(path)
        else:
            self._todo.finish(coordinate)
        return True

    def _may_be_renamed(self, path: str, file: File) -> bool:
        """Whether a file that appeared, or was seen, seems to be one that was not gone when it was
        looked for. It may have a second name; it is remembered what it is if it has not."""
        seen = self._absences.seen_at(path)
        other = self._records.with_inode(file.mark.inode) if seen is None else seen
        record = None if other is None else self._followed(other)
        if other is None or record is None or record.path == path:
            return False
        if self._absences.is_missing(other) or self._absences.is_unsure(other):
            return False
        if seen is None and not seems_to_be(record, self._records.base(other), file):
            return False
        self._todo.finish(other)
        self._absences.see(other, Guise(path, file.mark.inode, file.text))
        return True

    def _followed(self, coordinate: Coordinate) -> Record | None:
        """Return the record of a file that may get another name."""
        record = self._scope.held(coordinate)
        return None if record is None or record.path == IGNORE_FILE else record
