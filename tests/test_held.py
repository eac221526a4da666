"""What is noted of files was true of each at one moment, though they are looked at in turns."""

from collections.abc import Callable
from random import Random
from typing import TypeVar, TypeVarTuple

import cbor2
import pytest

from phextsync.files.directory import Directory
from phextsync.files.held import HELD_FILE, NOTE_S, Held
from phextsync.files.markers import MARKER_FILE, Marker
from phextsync.files.records import Mark, Record, Records, digest_of
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.testing.filesystem import MemoryFileSystem
from phextsync.testing.memory_disk import MemoryDisk

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_FILES = 600
_MARKER = Marker("0123456789abcdef")


class _Noting:
    """A directory of many files whose node notes which of them others have; `between` is done
    between two turns."""

    def __init__(self) -> None:
        self.holders = {b"one", b"two"}
        self.between: Callable[[], object] = lambda: None
        self.turns = 0
        self.disk = MemoryDisk(lambda: 0)
        self.disk.put(MARKER_FILE, _MARKER.encode().decode())
        replicas = ReplicaSet(
            MemoryStore(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 7
        )
        self.replica = replicas.open("memory")
        records = Records(replicas, bytes(8))
        directory = Directory(MemoryFileSystem(self.disk), _MARKER)
        directory.root.check()
        for number in range(1, _FILES + 1):
            place = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number)
            self.replica.import_text(place, "text\n")
            mark, fingerprint = Mark(number, 5, 0, 0), self.replica.fingerprint(place)
            record = Record(f"{number}.md", digest_of("text\n"), mark, fingerprint=fingerprint)
            records.keep(place, record, "text\n")
        self.held = Held(
            records,
            directory.root,
            holders=lambda: {*self.holders},
            fingerprint=self.replica.fingerprint,
            run=self._run,
        )

    async def _run(self, function: Callable[[*Ts], T], /, *arguments: *Ts) -> T:
        self.turns += 1
        self.between()
        return function(*arguments)

    async def note(self) -> tuple[set[bytes], int]:
        """Return who holds how many files, as it is noted; nobody where nothing is."""
        await self.held.note(NOTE_S)
        if HELD_FILE not in self.disk.files():
            return set(), 0
        holders, digests = cbor2.loads(bytes(self.disk.get(HELD_FILE).data)[8:])
        return {*holders}, len(digests) // 8


async def test_all_files_are_noted_in_turns() -> None:
    noting = _Noting()
    assert await noting.note() == ({b"one", b"two"}, _FILES)
    assert noting.turns > 3


async def test_who_falls_behind_between_two_turns_holds_none_of_them() -> None:
    noting = _Noting()
    noting.between = lambda: noting.holders.discard(b"two")
    assert await noting.note() == ({b"one"}, _FILES)
    noting = _Noting()
    noting.between = noting.holders.clear
    assert await noting.note() == (set(), 0)


@pytest.mark.parametrize("number", [1, _FILES])
async def test_a_file_that_is_behind_its_scroll_when_it_is_looked_at_is_not_noted(
    number: int,
) -> None:
    noting = _Noting()
    place = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number)
    noting.between = lambda: noting.replica.append(place, "more\n")
    assert (await noting.note())[1] == (_FILES if number == 1 else _FILES - 1)
