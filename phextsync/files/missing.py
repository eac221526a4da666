"""Missing: finds which of the files that this machine has had are gone, or have another at their
path, before anything that appeared is taken for new.
"""

from collections.abc import Iterable

from phextsync.files.absences import Absences
from phextsync.files.directory import Directory
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.reading import File
from phextsync.files.records import Records
from phextsync.files.renamed import displaced
from phextsync.files.scope import Scope
from phextsync.files.todo import Runner
from phextsync.index import Coordinate


class Missing:
    """Looks for the files that a round is about."""

    def __init__(
        self,
        records: Records,
        absences: Absences,
        scope: Scope,
        directory: Directory,
        run: Runner,
    ) -> None:
        self._records = records
        self._absences = absences
        self._scope = scope
        self._directory = directory
        self._run = run

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
            c: r for c in known if (r := self._scope.held(c)) is not None and r.path != IGNORE_FILE
        }
        held = {c: r for c, r in held.items() if not self._absences.is_missing(c)}
        if not held or not (strangers or any(c in self._absences for c in held)):
            return
        paths = [record.path for record in held.values()]
        found = await self._run(self._directory.read, [*paths, *strangers])
        files = {path: file for path in strangers if isinstance(file := found[path], File)}
        for coordinate in displaced(self._records, self._absences, held, found, files, now):
            self._absences.displace(coordinate, now)
            unknown.update(dict.fromkeys([held[coordinate].path, *new]))
