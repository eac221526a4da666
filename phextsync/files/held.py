"""Held: which files lie there as another machine has them, noted in the directory itself.

What a file was when it was in step goes with the data folder. So the directory says it too: of each
file a digest of its text, its path, and the marks that the system gave it. What is said stays true
whatever comes after: a program that changes the file changes its marks, no clock is compared, and
a data folder that is put back touches neither. What cannot be read says nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from itertools import islice
from typing import Final

import cbor2

from phextsync.errors import DirectoryError
from phextsync.files.reading import File
from phextsync.files.records import Mark, Record, Records, digest_of
from phextsync.files.root import Root
from phextsync.files.todo import Runner
from phextsync.index import Coordinate

HELD_FILE: Final = ".phextsync-held"
NOTE_S: Final = 30.0
"""How often it is noted, at most."""

_AT_ONCE: Final = 256
_DIGEST_BYTES: Final = 8
_BYTES_MAX: Final = 64 << 20


class Held:
    """What is noted of the files of one directory, and what was when its records were lost."""

    def __init__(
        self,
        records: Records,
        root: Root,
        *,
        holders: Callable[[], set[bytes]],
        fingerprint: Callable[[Coordinate], bytes],
        run: Runner,
    ) -> None:
        """`holders` gives the machines that hold the range and are in step with this one just now,
        `fingerprint` that of a scroll."""
        self._records = records
        self._root = root
        self._holders = holders
        self._fingerprint = fingerprint
        self._run = run
        self._noted: frozenset[bytes] = frozenset()
        self._changes = -1  # of the records, when it was noted
        self._noted_at = 0.0

    def covers(self, path: str, file: File) -> bool:
        """Whether a file is as another machine has had it."""
        return bool(self._noted) and _digest(path, file.mark, digest_of(file.text)) in self._noted

    async def load(self, *, is_met: bool) -> bool:
        """Find out what was noted. Return whether one of those who had that is in step with this
        machine; if none is, or was as `is_met` says, it does not count."""
        self.forget()
        with suppress(OSError, ValueError, TypeError):  # also of what somebody else put there
            data = await self._run(self._root.read_beside, HELD_FILE, _BYTES_MAX)
            check, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            holders, digests = cbor2.loads(body) if check == _checked(body) else ((), b"")
            if is_met or not self._holders().isdisjoint(holders):
                self._noted = frozenset(_parts(digests))
        return bool(self._noted)

    def forget(self) -> None:
        """Know nothing any more: the directory was taken up."""
        self._noted = frozenset()

    def begin(self, now: float) -> None:
        """Note it a while after a start."""
        self._noted_at = now

    @property
    def next_due(self) -> float | None:
        """When it is to be noted again, None while nothing changed."""
        return None if self._changes == self._records.changes else self._noted_at + NOTE_S

    async def note(self, now: float) -> None:
        """Note which files others have as they lie there, if it is time."""
        if (due := self.next_due) is None or now < due:
            return
        self._noted_at = now
        changes = self._records.changes
        holders, digests = await self._found()
        if not holders:
            return
        body = cbor2.dumps([sorted(holders), digests])
        try:
            await self._run(self._root.write_beside, HELD_FILE, _checked(body) + body)
        except (OSError, DirectoryError):
            return  # as where nothing can be written
        self._changes = changes

    async def _found(self) -> tuple[set[bytes], bytes]:
        """Return who has files as they lie there, and the digests of these. In portions: others get
        their turns in between."""
        holders, digests = self._holders(), list[bytes]()
        coordinates = iter(list(self._records))
        while holders and (some := list(islice(coordinates, _AT_ONCE))):
            holders &= self._holders()  # at the moment at which the files are looked at
            files = [(r.path, r.mark, r.digest) for c in some if (r := self._even(c)) and r.mark]
            digests.append(await self._run(_digests_of, files))
        return holders, b"".join(digests)

    def _even(self, coordinate: Coordinate) -> Record | None:
        """Return the record of a file that has the text of its scroll."""
        record = self._records.get(coordinate)
        if record is None or not record.digest or not record.fingerprint:
            return None
        return record if record.fingerprint == self._fingerprint(coordinate) else None


def _digests_of(files: Iterable[tuple[str, Mark, bytes]]) -> bytes:
    return b"".join(_digest(*file) for file in files)


def _digest(path: str, mark: Mark, text: bytes) -> bytes:
    return blake2b(cbor2.dumps([path, list(mark), text]), digest_size=_DIGEST_BYTES).digest()


def _checked(body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES).digest()


def _parts(digests: bytes) -> Iterator[bytes]:
    return (digests[at : at + _DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES))
