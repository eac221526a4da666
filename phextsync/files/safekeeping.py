"""Safekeeping: what the disk has to have before what was done to files is done to their scrolls."""

import logging
from collections.abc import Callable, Mapping

from phextsync.files.directory import Directory
from phextsync.files.merging import Merging
from phextsync.files.reading import File, Found, Trouble, why
from phextsync.files.records import Record, Records, digest_of
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
    ) -> dict[Coordinate, Trouble]:
        """The same for files that machines began apart, of which scrolls hold the text of each by
        now. Return what keeps which files from being kept."""
        kept: dict[Coordinate, Found] = {}
        while due := {
            c: (record.path, file)
            for c, file in ready.items()
            if c not in kept and file is not None and (record := self._begun_apart(c, file))
        }:
            for coordinate, (path, file) in due.items():
                kept[coordinate] = await self._kept(coordinate, path, file)
        return {c: found for c, found in kept.items() if isinstance(found, Trouble)}

    def _is_new(self, coordinate: Coordinate, file: Found) -> bool:
        """Whether a file is about to be merged with a scroll it never agreed with."""
        record = self._records.get(coordinate)
        if (record is not None and record.digest) or not isinstance(file, File) or not file.text:
            return False
        others = self._replica.get(coordinate, "") not in ("", file.text)
        return others and self._may_write(coordinate)  # or it is merged with nothing

    def _begun_apart(self, coordinate: Coordinate, file: File) -> Record | None:
        """Return the record of a file if its scroll holds what others began without it."""
        record = self._records.get(coordinate)
        if record is None or not record.digest or self._replica.get(coordinate, "") == file.text:
            return None
        is_met = self._may_write(coordinate) and self._merging.has_twins(coordinate, record)
        return record if is_met else None

    async def _kept(self, coordinate: Coordinate, path: str, file: Found) -> Found:
        assert isinstance(file, File)
        try:
            kept = await self._run(self._directory.back_up, path, file.text)
        except OSError as error:
            return Trouble(f"its text cannot be kept aside: {why(error)}", may_pass=True)
        what = "merged with other text at"
        _log.warning("%s: %s %s; it is kept as %s", path, what, coordinate, kept)
        return file
