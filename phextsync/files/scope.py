"""Scope: which files and scrolls a round has to look at, and which of them are left alone."""

from collections.abc import Callable, Iterable, Iterator

from phextsync.files.absences import Absences
from phextsync.files.directory import Directory
from phextsync.files.markers import MARKER_FILE
from phextsync.files.naming import Naming
from phextsync.files.output import is_moving
from phextsync.files.problems import Problems
from phextsync.files.records import Record, Records
from phextsync.files.scanning import Scan
from phextsync.files.todo import Todo
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.replica import Replica


class Scope:
    """What of a binding may differ, as far as it is known without a look at the directory."""

    def __init__(
        self,
        replica: Replica,
        range_: CoordinateRange,
        naming: Naming,
        records: Records,
        absences: Absences,
        problems: Problems,
        todo: Todo,
        directory: Directory,
        *,
        may_write: Callable[[Coordinate], bool],
    ) -> None:
        self._replica = replica
        self._range = range_
        self._naming = naming
        self._records = records
        self._absences = absences
        self._problems = problems
        self._todo = todo
        self._directory = directory
        self._may_write = may_write

    def differing(self, scan: Scan) -> tuple[list[str], list[Coordinate]]:
        """Return the paths of what lies in the directory, and the scrolls, that may differ."""
        marks, records = scan.marks, self._records
        paths = [
            path
            for path, mark in marks.items()
            if (r := records.get(records.at(path))) is None or r.mark != mark or r.is_racy
        ]
        gone = [c for c in records if (r := records.get(c)) and r.digest and r.path not in marks]
        changed = [c for c in self._all_scrolls() if self._is_changed(c)]
        odd = [path for path in scan.left_alone if not path.endswith("/")] if gone else []
        odd += [p.path for p in self._problems if p.due is None and p.path not in marks]
        return [*paths, *odd], [*gone, *changed]

    def concerned(
        self, paths: Iterable[str], coordinates: Iterable[Coordinate], now: float
    ) -> tuple[dict[Coordinate, None], dict[str, None]]:
        """Return the scrolls that a round has to look at, and the paths that belong to none. What
        was about to happen to a file has to be settled first."""
        more_paths, more_coordinates = self._todo.take()
        changed = {*coordinates, *more_coordinates, *self._absences.take_held_up()}
        changed |= self._naming.follow(changed, now)
        map_coordinate = self._naming.map.map_coordinate
        if self._may_write(map_coordinate):
            self._naming.tidy()
        changed = {c for c in changed if c in self._range and c != map_coordinate}
        # What has to move comes first: it may lie in the way of others.
        known = dict.fromkeys(sorted(changed, key=lambda c: (not self.has_to_move(c), c)))
        unknown: dict[str, None] = {}
        for path in (*paths, *more_paths, *self._problems.due(now)):
            coordinate = self.place_at(path)
            if coordinate is not None:
                known[coordinate] = None
            elif path and path != MARKER_FILE and not path.endswith("/"):
                unknown[path] = None
        absent = *self._absences, *self._absences.unsure
        known.update(dict.fromkeys([*absent, *self._below(unknown)]))
        for coordinate in self._records.unsettled:
            known.pop(coordinate, None)
        return known, unknown

    def place_at(self, path: str) -> Coordinate | None:
        """Return the scroll whose file is, or is to be, at a path."""
        coordinate = self._records.at(path)
        if coordinate is not None:
            return coordinate
        coordinate = self._naming.layout.at(path)
        return coordinate if coordinate is None or self._records.get(coordinate) is None else None

    def path_of(self, coordinate: Coordinate) -> str | None:
        """Return where a scroll's file was last seen, or is to be."""
        record = self._records.get(coordinate)
        return self._naming.layout.path_of(coordinate) if record is None else record.path

    def held(self, coordinate: Coordinate) -> Record | None:
        """Return the record of a file that this machine has had and that is not left alone, or was
        not when it went: it may have another name now."""
        record = self._records.get(coordinate)
        if record is None or not record.digest:
            return None
        was_followed = self._absences.is_missing(coordinate)
        was_followed = was_followed or self._directory.root.was_followed(record.path)
        return record if was_followed or not self.is_left_alone(record.path) else None

    def is_left_alone(self, path: str) -> bool:
        """Whether a file at a path is left alone."""
        return self._directory.root.is_ignored(path) and not is_moving(path)

    def is_scroll_left_alone(self, coordinate: Coordinate, path: str) -> bool:
        """Whether a scroll's file at a path is left alone: it is ignored, and not to move to where
        it would not be."""
        wanted = self._naming.layout.path_of(coordinate) or path
        return self.is_left_alone(path) and self.is_left_alone(wanted)

    def has_to_move(self, coordinate: Coordinate) -> bool:
        """Whether a file does not lie where its name says."""
        record, path = self._records.get(coordinate), self._naming.layout.path_of(coordinate)
        return record is not None and path is not None and path != record.path

    def _is_changed(self, coordinate: Coordinate) -> bool:
        """Whether a scroll is not what its file held, or its path another."""
        record = self._records.get(coordinate)
        if record is None:
            return True
        if record.intent is not None or self.has_to_move(coordinate):
            return True
        if not record.digest:
            return self._replica.size(coordinate) > 0
        line = self._naming.map.line_at(coordinate)
        if line is not None and line.marks != record.line_marks:
            return True
        return self._replica.fingerprint(coordinate) != record.fingerprint

    def _all_scrolls(self) -> Iterator[Coordinate]:
        yield from self._records
        for coordinate in self._replica.coordinates(self._range):
            if self._records.get(coordinate) is None:
                yield coordinate

    def _below(self, paths: Iterable[str]) -> Iterator[Coordinate]:
        """Give the scrolls whose files were seen below paths that were folders: of a folder that
        is gone, or a file now, no more may be heard."""
        folders = tuple(f"{path}/" for path in paths if self._naming.layout.has_folder(path))
        for coordinate in self._records if folders else ():
            record = self._records.get(coordinate)
            if record is not None and record.path.startswith(folders):
                yield coordinate
