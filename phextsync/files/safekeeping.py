"""Safekeeping: what the disk has to have before what was done to files is done to their scrolls."""

import logging
from collections.abc import Callable, Mapping

from phextsync.files.directory import Directory
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
        directory: Directory,
        run: Runner,
        *,
        may_write: Callable[[Coordinate], bool],
    ) -> None:
        self._replica = replica
        self._may_write = may_write
        self._records = records
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

    async def back_up(self, places: Mapping[Coordinate, str], found: dict[str, Found]) -> None:
        """Keep files aside that are about to be merged with scrolls they never agreed with."""
        for coordinate, path in places.items():
            file = found[path]
            record = self._records.get(coordinate)
            if (record is not None and record.digest) or not isinstance(file, File):
                continue
            if not self._may_write(coordinate):
                continue  # it is merged with nothing
            if file.text and self._replica.get(coordinate, "") not in ("", file.text):
                try:
                    kept = await self._run(self._directory.back_up, path, file.text)
                except OSError as error:
                    found[path] = Trouble(
                        f"its text cannot be kept aside: {why(error)}", may_pass=True
                    )
                else:
                    what = "merged with other text at"
                    _log.warning("%s: %s %s; it is kept as %s", path, what, coordinate, kept)
