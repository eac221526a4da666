"""Safekeeping: what the disk has to have before what was done to files is done to their scrolls."""

import logging
from collections.abc import Callable, Collection, Mapping

from phextsync.files.directory import Directory
from phextsync.files.merging import Merging
from phextsync.files.reading import File, Found, Trouble, why
from phextsync.files.records import Records, digest_of
from phextsync.files.todo import Runner
from phextsync.index import Coordinate
from phextsync.replica.replica import Replica

_log = logging.getLogger("phextsync.files")


class Safekeeping:
    """Brings files that were `found` at the `places` of scrolls to the disk. What cannot be brought
    there is found to be in trouble."""

    def __init__(
        self,
        replica: Replica,
        records: Records,
        merging: Merging,
        directory: Directory,
        run: Runner,
        *,
        may_write: Callable[[Coordinate], bool],
    ) -> None:
        self._replica = replica
        self._may_write = may_write
        self._records = records
        self._merging = merging
        self._directory = directory
        self._run = run

    async def settle(self, places: Mapping[Coordinate, str], found: dict[str, Found]) -> None:
        """Let the disk have what is about to be remembered of files."""
        known = {
            path
            for coordinate, path in places.items()
            if (record := self._records.get(coordinate)) is not None
            and isinstance(file := found[path], File)
            and (
                (record.mark == file.mark and not record.is_racy)
                or digest_of(file.text) == record.digest
            )
        }
        news = {
            path: file
            for path, file in found.items()
            if isinstance(file, File) and file.text and path not in known
        }
        if news:
            found.update(await self._run(self._directory.settle, news))

    async def keep_aside(self, places: Mapping[Coordinate, str], found: dict[str, Found]) -> None:
        """Keep files aside that are about to be merged with scrolls they never agreed with. When
        this returns, no other has come to be one meanwhile."""
        kept = set[Coordinate]()
        while due := [c for c in places if c not in kept and self._is_new(c, found[places[c]])]:
            for coordinate in due:
                path = places[coordinate]
                found[path] = await self._kept(coordinate, path, found[path])
            kept.update(due)

    async def keep_begun_apart(
        self, ready: Mapping[Coordinate, File | None]
    ) -> tuple[dict[Coordinate, tuple[int, ...]], dict[Coordinate, Trouble]]:
        """The same for files that machines began apart, of which scrolls hold the text of each by
        now. Return what was begun apart of those that differ from their scrolls, as imports, and
        what keeps which files from being kept."""
        kept: dict[Coordinate, Found] = {}
        while True:
            roots = {
                c: self._merging.roots(c) for c, file in ready.items() if self._differs(c, file)
            }
            due = [c for c in roots if c not in kept and self._begun_apart(c, roots[c])]
            if not due:
                return roots, {c: each for c, each in kept.items() if isinstance(each, Trouble)}
            for coordinate in due:
                record, file = self._records.get(coordinate), ready[coordinate]
                assert record is not None
                assert file is not None
                kept[coordinate] = await self._kept(coordinate, record.path, file)

    def _is_new(self, coordinate: Coordinate, file: Found) -> bool:
        """Whether a file is about to be merged with a scroll it never agreed with."""
        record = self._records.get(coordinate)
        if (record is not None and record.digest) or not isinstance(file, File) or not file.text:
            return False
        others = self._replica.get(coordinate, "") not in ("", file.text)
        return others and self._may_write(coordinate)  # or it is merged with nothing

    def _differs(self, coordinate: Coordinate, file: File | None) -> bool:
        """Whether a file that was imported is about to be made what its scroll is."""
        record = self._records.get(coordinate)
        if file is None or record is None or not record.digest or not record.roots:
            return False
        return self._may_write(coordinate) and self._replica.get(coordinate, "") != file.text

    def _begun_apart(self, coordinate: Coordinate, roots: Collection[int]) -> bool:
        record = self._records.get(coordinate)
        return record is not None and not set(roots) <= set(record.roots)

    async def _kept(self, coordinate: Coordinate, path: str, file: Found) -> Found:
        assert isinstance(file, File)
        try:
            kept = await self._run(self._directory.back_up, path, file.text)
        except OSError as error:
            return Trouble(f"its text cannot be kept aside: {why(error)}", may_pass=True)
        what = "merged with other text at"
        _log.warning("%s: %s %s; it is kept as %s", path, what, coordinate, kept)
        return file
