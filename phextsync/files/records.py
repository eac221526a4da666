"""Records: what a file held when it was last read or written, as notes beside the scrolls.

A record is committed in one batch with the change of the scroll that it speaks of, so neither runs
ahead of the other. It never says what a file is going to hold: that is its intent, which stands
beside the text that the file has, until the file has the other.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, NamedTuple

import cbor2

from phextsync.files.paths import Abilities, Folders
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet

_RECORD, _BASE, _INTENDED, _SHARED, _HELD, _DONE = b"r", b"t", b"i", b"s", b"h", b"n"
_GUISE: Final = b"g"
_OLDER: Final = b"o"  # and no coordinate: that there are such, though perhaps of no file
_HELD_ELSEWHERE: Final = b"h"  # that one has what the directory notes
_TEXT_ALONE: Final = b"t"  # as earlier versions wrote it; no array of CBOR begins so
_DIGEST_BYTES: Final = 16
_KIND_AT: Final = 1 + 8  # a note of a binding begins with `b` and the binding's id


class Mark(NamedTuple):
    """What tells that a file was changed: other marks, perhaps other bytes. Times in ns."""

    inode: int
    size: int
    time_ns: int
    changed_ns: int


class Intent(NamedTuple):
    """What is about to happen to a file: it comes to lie at `path`, with the text whose digest is
    given (empty: the file goes), as the file with these numbers, which lies at `draft` before."""

    path: str
    digest: bytes
    marks: str
    inode: int
    size: int
    time_ns: int
    draft: str


class Guise(NamedTuple):
    """What a file that is gone seems to be now: where it lies, its number, and its text."""

    path: str
    inode: int
    text: str


class Older(NamedTuple):
    """What an earlier data folder says of a file: where it lay, and its text."""

    path: str
    text: str


class Shared(NamedTuple):
    """What was everywhere before a scroll was changed here unseen by others: the text, and, of
    before the first such change, the text and the scroll's version (empty: not known). `seen` is
    the version when changes of others were looked at last."""

    text: str
    first: str
    before: bytes
    seen: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A file as it was last read or written.

    `digest` is that of its text, empty when there was none; `mark` is None when it has to be read
    again. `marks` are those of the file, `line_marks` those of its line in the map. `fingerprint`
    is that of its scroll if that had the same text. `roots` are the imports that were made into
    the scroll when it was empty. `is_outside`: on a file system of its own.
    `is_racy`: it was read so soon after it was changed that its mark may be that of other bytes.
    """

    path: str
    digest: bytes
    mark: Mark | None
    marks: str = ""
    line_marks: str = ""
    born_ns: int = 0
    is_outside: bool = False
    is_racy: bool = False
    fingerprint: bytes = b""
    roots: tuple[int, ...] = ()
    intent: Intent | None = None


def digest_of(text: str) -> bytes:
    """Return the digest of a text, nothing for the empty one."""
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest() if text else b""


class Records:
    """The records of one binding, by coordinate. Texts stay on the disk."""

    def __init__(
        self, replicas: ReplicaSet, binding_id: bytes, abilities: Abilities | None = None
    ) -> None:
        """`abilities` say which paths are one file. `changes` counts what is done from then on."""
        self._key = (abilities or Abilities()).key
        self.changes = 0
        self._replicas = replicas
        self._prefix = b"b" + binding_id
        self._records: dict[Coordinate, Record] = {}
        self._by_path: dict[str, Coordinate] = {}
        self._by_inode: dict[int, Coordinate] = {}
        self._unsettled: dict[Coordinate, Intent] = {}
        self._outside = Folders()  # those above files that are outside
        for key, value in replicas.durability.notes(self._prefix + _RECORD):
            record = _decoded(value)
            coordinate = Coordinate.from_key(key[_KIND_AT + 1 :])
            self._records[coordinate] = record
            self._by_path[self._key(record.path)] = coordinate
            if record.mark is not None:
                self._by_inode[record.mark.inode] = coordinate
            if record.is_outside:
                self._outside.add(self._key(record.path))
            if record.intent is not None:
                self._unsettled[coordinate] = record.intent
        self._shared, self._held = (
            dict.fromkeys(
                Coordinate.from_key(key[_KIND_AT + 1 :])
                for key, _ in replicas.durability.notes(self._prefix + kind)
            )
            for kind in (_SHARED, _HELD)
        )
        self._guises: dict[Coordinate, Guise] = {}
        for key, value in replicas.durability.notes(self._prefix + _GUISE):
            coordinate = Coordinate.from_key(key[_KIND_AT + 1 :])
            path, inode, text = cbor2.loads(value)
            text = self.base(coordinate) if text is None else text
            self._guises[coordinate] = Guise(path, inode, text)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Coordinate]:
        return iter(list(self._records))

    def get(self, coordinate: Coordinate | None) -> Record | None:
        """Return the record of a scroll's file, None when this machine has had none."""
        return None if coordinate is None else self._records.get(coordinate)

    def at(self, path: str) -> Coordinate | None:
        """Return the scroll whose file was last seen at a path."""
        return self._by_path.get(self._key(path))

    def with_inode(self, inode: int) -> Coordinate | None:
        """Return the scroll whose file had a number when it was last seen."""
        return self._by_inode.get(inode)

    def is_above_outside(self, folder: str) -> bool:
        """Whether files below a folder lay on a file system of their own when last seen."""
        return self._key(folder) in self._outside

    @property
    def unsettled(self) -> dict[Coordinate, Intent]:
        """What was about to happen to files, of which it is not known whether it did."""
        return dict(self._unsettled)

    def base(self, coordinate: Coordinate) -> str:
        """Return the text that a file held when it was last read or written."""
        return self._text(_BASE, coordinate)

    def intended(self, coordinate: Coordinate) -> str:
        """Return the text that a file with an intent is about to have."""
        return self._text(_INTENDED, coordinate)

    def keep(self, coordinate: Coordinate, record: Record, text: str | None = None) -> None:
        """Keep a record and, when it is another, the file's text."""
        old = self._records.get(coordinate)
        if (
            old is not None
            and old.path != record.path
            and self._by_path.get(self._key(old.path)) == coordinate
        ):
            del self._by_path[self._key(old.path)]
        if old is not None and old.intent is not None and record.intent is None:
            self._note(_INTENDED, coordinate, b"")
        if old != record:
            self._note(_RECORD, coordinate, _encoded(record))
        if text is not None and (old is None or old.digest != record.digest):
            self._note(_BASE, coordinate, text.encode())
        self._records[coordinate] = record
        self._by_path[self._key(record.path)] = coordinate
        self._forget_inode(coordinate, old)
        if record.mark is not None:
            self._by_inode[record.mark.inode] = coordinate
        if old is not None and old.is_outside:
            self._outside.remove(self._key(old.path))
        if record.is_outside:
            self._outside.add(self._key(record.path))
        self._unsettled.pop(coordinate, None)
        if record.intent is not None:
            self._unsettled[coordinate] = record.intent

    def take_back(self, coordinate: Coordinate, record: Record) -> None:
        """Take an intent back: the file is what it was."""
        if record.digest:
            self.keep(coordinate, replace(record, intent=None))
        else:
            self.forget(coordinate)

    def intend(self, coordinate: Coordinate, record: Record, intent: Intent, text: str) -> None:
        """Keep what is about to happen to a file."""
        self.keep(coordinate, replace(record, intent=intent))
        self._note(_INTENDED, coordinate, text.encode())

    def forget(self, coordinate: Coordinate) -> None:
        """Keep nothing of a scroll's file."""
        record = self._records.pop(coordinate, None)
        if record is None:
            return
        if self._by_path.get(self._key(record.path)) == coordinate:
            del self._by_path[self._key(record.path)]
        self._forget_inode(coordinate, record)
        if record.is_outside:
            self._outside.remove(self._key(record.path))
        self._unsettled.pop(coordinate, None)
        for kind in (_RECORD, _BASE, _INTENDED):
            self._note(kind, coordinate, b"")

    def _forget_inode(self, coordinate: Coordinate, record: Record | None) -> None:
        mark = None if record is None else record.mark
        if mark is not None and self._by_inode.get(mark.inode) == coordinate:
            del self._by_inode[mark.inode]

    def forget_all(self) -> None:
        """Keep nothing: another directory lies there now."""
        for coordinate in self:
            self.forget(coordinate)
        self.drop_older()

    # -- what an earlier data folder knew ----------------------------------------------------

    def set_aside(self, *, is_held: bool = False) -> None:
        """Know nothing any more, but for `older`: the files are newer than what is known. `is_held`
        says whether a machine was met that has what the directory notes of them: see `held`."""
        self._note_at(self._prefix + _OLDER, _HELD_ELSEWHERE if is_held else b"t")
        for coordinate in self:
            record = self._records[coordinate]
            if record.digest:
                older = Older(record.path, self.base(coordinate))
                self._note(_OLDER, coordinate, cbor2.dumps([*older]))
            self.forget(coordinate)
        self.keep_held(())
        self.keep_guises({})
        self.drop_shared()

    @property
    def older(self) -> dict[Coordinate, Older] | None:
        """What was known of files before that was set aside, None when nothing was."""
        notes = dict(self._replicas.durability.notes(self._prefix + _OLDER))
        if notes.pop(self._prefix + _OLDER, None) is None:
            return None
        return {
            Coordinate.from_key(key[_KIND_AT + 1 :]): Older(*cbor2.loads(value))
            for key, value in notes.items()
        }

    @property
    def is_held(self) -> bool:
        """What was said of that when records were set aside."""
        return self._replicas.durability.noted(self._prefix + _OLDER) == _HELD_ELSEWHERE

    def drop_older(self) -> None:
        """Forget what was set aside."""
        for key, _ in self._replicas.durability.notes(self._prefix + _OLDER):
            self._note_at(key, b"")

    # -- renames that do not count yet -------------------------------------------------------

    @property
    def guises(self) -> dict[Coordinate, Guise]:
        """What files that are gone seemed to be when they were looked at last."""
        return dict(self._guises)

    def keep_guises(self, guises: Mapping[Coordinate, Guise]) -> None:
        """Keep what they seem to be now; of the text only what differs from the one they had."""
        for coordinate in self._guises.keys() - guises.keys():
            self._note(_GUISE, coordinate, b"")
        for coordinate, guise in guises.items():
            if self._guises.get(coordinate) != guise:
                record = self._records.get(coordinate)
                is_same = record is not None and record.digest == digest_of(guise.text)
                text = None if is_same else guise.text
                self._note(_GUISE, coordinate, cbor2.dumps([guise.path, guise.inode, text]))
        self._guises = dict(guises)

    # -- deletions that wait to be confirmed -------------------------------------------------

    @property
    def held(self) -> list[Coordinate]:
        """The files whose deletion waits to be confirmed."""
        return list(self._held)

    def keep_held(self, coordinates: Iterable[Coordinate]) -> None:
        """Keep which files these are now."""
        held = dict.fromkeys(coordinates)
        for coordinate in held.keys() ^ self._held.keys():
            self._note(_HELD, coordinate, b"t" if coordinate in held else b"")
        self._held = held

    @property
    def confirmed_ns(self) -> int:
        """When the deletions were confirmed that were done last, 0 when none were."""
        return int.from_bytes(self._replicas.durability.noted(self._prefix + _DONE), "big")

    def keep_confirmed(self, confirmed_ns: int) -> None:
        """Keep when that was."""
        value = confirmed_ns.to_bytes(8, "big")
        self._replicas.durability.note(self._prefix + _DONE, value)

    # -- what all machines had before this one wrote alone -----------------------------------

    @property
    def has_shared(self) -> bool:
        """Whether there is any such text."""
        return bool(self._shared)

    @property
    def all_shared(self) -> list[Coordinate]:
        """The scrolls of which there is such a text."""
        return list(self._shared)

    def shared(self, coordinate: Coordinate) -> Shared | None:
        """Return what was everywhere before the scroll was changed here unseen by others, None
        when it was not."""
        if coordinate not in self._shared:
            return None
        value = self._noted(_SHARED, coordinate)
        if value.startswith(_TEXT_ALONE):
            text = value[1:].decode()
            return Shared(text, text, b"", b"")
        return Shared(*cbor2.loads(value))

    def set_shared(self, coordinate: Coordinate, shared: Shared) -> None:
        """Remember that, unless something older is."""
        if coordinate not in self._shared:
            self.replace_shared(coordinate, shared)

    def replace_shared(self, coordinate: Coordinate, shared: Shared) -> None:
        """Remember something else: what differed from the old text is settled."""
        self._shared[coordinate] = None
        self._note(_SHARED, coordinate, cbor2.dumps([*shared]))

    def drop_shared(self) -> None:
        """Forget all of them: everybody has what this machine wrote."""
        for coordinate in self._shared:
            self._note(_SHARED, coordinate, b"")
        self._shared.clear()

    def _text(self, kind: bytes, coordinate: Coordinate) -> str:
        return self._noted(kind, coordinate).decode()

    def _noted(self, kind: bytes, coordinate: Coordinate) -> bytes:
        return self._replicas.durability.noted(self._prefix + kind + coordinate.key)

    def _note(self, kind: bytes, coordinate: Coordinate, value: bytes) -> None:
        self._note_at(self._prefix + kind + coordinate.key, value)

    def _note_at(self, key: bytes, value: bytes) -> None:
        self.changes += 1
        self._replicas.durability.note(key, value)


def _encoded(record: Record) -> bytes:
    mark = None if record.mark is None else list(record.mark)
    intent = None if record.intent is None else list(record.intent)
    return cbor2.dumps(
        [
            *(record.path, record.digest, mark, record.marks, record.line_marks),
            *(record.born_ns, record.is_outside, record.is_racy, record.fingerprint),
            *(list(record.roots), intent),
        ]
    )


def _decoded(value: bytes) -> Record:
    path, digest, mark, marks, line_marks, *others = cbor2.loads(value)
    born_ns, is_outside, is_racy, fingerprint, roots, intent = others
    return Record(
        path,
        digest,
        None if mark is None else Mark(*mark),
        marks,
        line_marks,
        born_ns,
        is_outside,
        is_racy,
        fingerprint,
        tuple(roots),
        None if intent is None else Intent(*intent),
    )
