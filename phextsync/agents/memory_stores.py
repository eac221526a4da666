"""Memory stores: memories by path in stores, with their versions, over the replicas of a node.

A memory is a file of its store's range (`memory_files`), a version a point in its kept history.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from typing import Final

from phextsync.agents.memory_files import MemoryFiles
from phextsync.agents.store_records import (
    RECORDS,
    STORES,
    MissingError,
    StoreRecord,
    new_parts,
    parts_at,
    parts_of,
    place_of,
    read,
    record_place,
    store_id,
    text_of,
)
from phextsync.errors import ConflictError, PhextsyncError
from phextsync.files.ignoring import Ignoring
from phextsync.index import Coordinate
from phextsync.replica.past import Past
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.texts import check_text

CONTENT_BYTES_MAX: Final = 102_400
KEPT_MS: Final = 30 * 24 * 3600 * 1000
"""How long versions are kept where nothing is set, in milliseconds."""

_PATH_BYTES_MAX: Final = 1024
_SEGMENTS_MAX: Final = 20
_NAME_MAX, _DESCRIPTION_MAX = 255, 1024
_PAIRS_MAX, _KEY_MAX, _VALUE_MAX = 16, 64, 512


class TakenError(PhextsyncError):
    """Another memory is at the path, or a folder of others, or it lies below one."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory as it is now. `path` begins with /."""

    store: StoreRecord
    place: Coordinate
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """A point in the history of a memory. `size` 0: it was deleted then."""

    time_ms: int
    operation: str
    size: int
    writers: tuple[bytes, ...]


def sha256_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


class MemoryStores:
    """The stores of one node. MissingError, TakenError, ConflictError for what is stale, and
    PhextsyncError for what cannot be, say what was wrong; nothing is changed then."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self._replicas = replicas
        self._files_last = MemoryFiles(RECORDS, "", ())

    # -- stores ----------------------------------------------------------------------------

    def stores(self) -> list[StoreRecord]:
        """Return all stores, the newest first."""
        replica = self._replica()
        rows = (read(parts_at(c), replica.read(c)) for c in [*replica.coordinates(RECORDS)])
        found = [row for row in rows if row is not None]
        return sorted(found, key=lambda row: (-row.created_ms, row.parts))

    def store(self, id_: str, *, to_write: bool = False) -> StoreRecord:
        """Return a store by its id. `to_write`: PhextsyncError when it is archived."""
        parts = parts_of(id_)
        self._replicas.holding.check_whole(STORES, RECORDS)
        found = read(parts, self._replica().get(record_place(parts), ""))
        if found is None:
            raise MissingError(f"there is no memory store {id_}")
        if to_write and found.archived_ms is not None:
            raise PhextsyncError(f"{id_} is archived: nothing is made or changed in it")
        self._replicas.holding.check_whole(STORES, found.range)
        self._keep_history()
        return found

    def create_store(self, name: str, description: str, metadata: Mapping[str, str]) -> StoreRecord:
        """Make a store."""
        replica, author = self._replica(), self._replicas.author
        now_ms = author.now_ms()
        record = StoreRecord((2, 1, 1), name, now_ms, now_ms, description, metadata)
        check_record(record)
        tries = (new_parts(name, author.node_id, now_ms, number) for number in count())
        free = next(parts for parts in tries if record_place(parts) not in replica)
        record = replace(record, parts=free)
        self._write(record)
        self._keep_history()
        return record

    def update_store(
        self,
        store: StoreRecord,
        name: str | None,
        description: str | None,
        metadata: Mapping[str, str | None],
    ) -> StoreRecord:
        """Change what is not None; a pair of `metadata` that is None is removed."""
        pairs = {**store.metadata, **metadata}
        changed = replace(
            store,
            name=store.name if name is None else name,
            description=store.description if description is None else description,
            metadata={key: value for key, value in pairs.items() if value is not None},
        )
        if changed != store:
            changed = replace(changed, updated_ms=self._replicas.author.now_ms())
            self._write(changed)
        return changed

    def archive_store(self, store: StoreRecord) -> StoreRecord:
        """Let nothing be made or changed in a store any more."""
        if store.archived_ms is not None:
            return store
        now_ms = self._replicas.author.now_ms()
        archived = replace(store, archived_ms=now_ms, updated_ms=now_ms)
        self._write(archived)
        return archived

    def delete_store(self, store: StoreRecord) -> None:
        """Delete a store with its memories."""
        replica = self._replica()
        with replica.batch():
            replica.clear(store.range)
            replica.clear_scroll(record_place(store.parts))

    # -- memories --------------------------------------------------------------------------

    def memories(self, store: StoreRecord, prefix: str = "") -> list[Memory]:
        """Return the memories below a prefix, by their paths, without their texts."""
        files = self._files(store)
        below = files.below(prefix.strip("/"))
        return [Memory(store, place, f"{prefix or '/'}{name}", "") for name, place in below.items()]

    def text(self, memory: Memory) -> Memory:
        """Return a memory with its text."""
        return replace(memory, text=self._replica().get(memory.place, ""))

    def memory(self, store: StoreRecord, id_: str) -> Memory:
        """Return a memory by its id."""
        place = place_of(id_, store)
        for path, each in self._files(store).paths.items():
            if each == place:
                return self.text(Memory(store, place, f"/{path}", ""))
        raise MissingError(f"there is no memory {id_} in {store_id(store.parts)}")

    def create(self, store: StoreRecord, path: str, text: str) -> Memory:
        """Make a memory. Two that are made apart with one path are one, with the lines of both."""
        check_content(text)
        replica, files = self._replica(), self._files(store)
        name = self._free_name(files, path)
        place = files.place_for(name)
        with replica.batch():
            self._name(files, place, name)
            replica.import_text(place, text)
        return Memory(store, place, path, text)

    def update(
        self,
        memory: Memory,
        *,
        path: str | None = None,
        text: str | None = None,
        base: str | None = None,
        seen_sha256: str | None = None,
    ) -> Memory:
        """Change the path, the text, or both. The text is changed by what made it of `base`, which
        its writer saw (None: what is there now), so that what came since stays: see what comes
        out. ConflictError when the text of now has another digest than `seen_sha256`."""
        check_seen(memory, seen_sha256)
        replica = self._replica()
        files, name = self._files(memory.store), ""
        if text is not None:
            check_content(text)
        if path is not None and path != memory.path:
            name = self._free_name(files, path)
        with replica.batch():
            if name:
                self._name(files, memory.place, name)
            if text is not None:
                replica.edit_from(memory.place, memory.text if base is None else base, text)
        found = replace(memory, path=memory.path if path is None else path)
        return self.text(found)

    def delete(self, memory: Memory, seen_sha256: str | None = None) -> None:
        """Delete a memory. ConflictError as for `update`."""
        check_seen(memory, seen_sha256)
        self._replica().clear_scroll(memory.place)

    # -- the past --------------------------------------------------------------------------

    def paths(self, store: StoreRecord) -> dict[Coordinate, str]:
        """Return the path of each memory that a store has or had; of a deleted one its last."""
        files = self._files(store)
        had = {line.coordinate: f"/{line.name}" for line in files.names.lines()}
        return had | {place: f"/{path}" for path, place in files.paths.items()}

    def past(self, place: Coordinate) -> Past:
        """Return the past of a memory, for `versions_of` and `text_at` in any thread."""
        return self._replica().past(place)

    # -- scrolls ---------------------------------------------------------------------------

    def _replica(self) -> Replica:
        return self._replicas.phext(STORES)

    def _keep_history(self) -> None:
        self._replicas.keep_history(KEPT_MS, STORES, unless_set=True)

    def _files(self, store: StoreRecord) -> MemoryFiles:
        replica, last = self._replica(), self._files_last
        if last.names.range != store.range:
            last = MemoryFiles(store.range, "", ())
        text = replica.get(last.names.map_coordinate, "")
        self._files_last = last.now(store.range, text, replica.coordinates(store.range))
        return self._files_last

    def _free_name(self, files: MemoryFiles, path: str) -> str:
        name = name_at(path)
        if name in files.paths or files.has_folder(name):
            raise TakenError(f"expected a path where nothing is, found {path:.200}: it is taken")
        rules = files.ignore_file
        ignoring = Ignoring("" if rules is None else self._replica().get(rules, ""))
        files.check_new(name, ignoring, root="")
        return name

    def _name(self, files: MemoryFiles, place: Coordinate, name: str) -> None:
        before, text = files.names.text, files.map_with({place: name})
        if text != before:
            self._replica().edit(files.names.map_coordinate, text)

    def _write(self, record: StoreRecord) -> None:
        check_record(record)
        self._replica().import_text(record_place(record.parts), text_of(record), by_lines=True)


def versions_of(past: Past) -> list[MemoryVersion]:
    """Return the versions of a memory that are kept, the newest first."""
    rows: list[MemoryVersion] = []
    had = 0
    for version in past.versions():
        operation = "modified" if had else "created"
        operation = operation if version.size else "deleted"
        rows.append(MemoryVersion(version.time_ms, operation, version.size, version.writers))
        had = version.size
    return rows[::-1]


# -- checks --------------------------------------------------------------------------------


def check_content(text: str) -> None:
    """PhextsyncError when a text cannot be that of a memory."""
    check_text(text)
    if not text:
        raise PhextsyncError("expected some content, found none: an empty memory is not kept")
    size = len(text.encode())
    if size > CONTENT_BYTES_MAX:
        raise PhextsyncError(f"expected at most {CONTENT_BYTES_MAX} bytes of content, found {size}")


def check_seen(memory: Memory, seen_sha256: str | None) -> None:
    """ConflictError when a memory has another text than its writer saw."""
    if seen_sha256 is not None and seen_sha256 != sha256_of(memory.text):
        raise ConflictError(
            f"{memory.path} has changed: expected content with the SHA-256 digest "
            f"{seen_sha256!r:.70}, found {sha256_of(memory.text)}"
        )


def name_at(path: str) -> str:
    """Return the name of the file of a path. PhextsyncError when it is not one."""
    parts = path[1:].split("/")
    if not path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise PhextsyncError(f"expected a path such as /notes/tea.md, found {path!r:.80}")
    if len(parts) > _SEGMENTS_MAX or len(path.encode("utf-8", "replace")) > _PATH_BYTES_MAX:
        raise PhextsyncError(
            f"expected a path of at most {_SEGMENTS_MAX} parts and {_PATH_BYTES_MAX} bytes"
        )
    if path != unicodedata.normalize("NFC", path) or any(map(_is_unseen, path)):
        raise PhextsyncError(
            "expected a path in Unicode Normalization Form C without control and format characters"
        )
    return path[1:]


def _is_half(character: str) -> bool:
    return unicodedata.category(character) == "Cs"


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def check_record(record: StoreRecord) -> None:
    """PhextsyncError when a store cannot be so."""
    name, pairs = record.name, record.metadata
    if not 1 <= len(name) <= _NAME_MAX or any(map(_is_unseen, name)):
        raise PhextsyncError(f"expected a name of 1 to {_NAME_MAX} characters, found {name!r:.80}")
    if len(record.description) > _DESCRIPTION_MAX:
        raise PhextsyncError(f"expected a description of at most {_DESCRIPTION_MAX} characters")
    if len(pairs) > _PAIRS_MAX or not all(
        1 <= len(key) <= _KEY_MAX and len(value) <= _VALUE_MAX for key, value in pairs.items()
    ):
        raise PhextsyncError(
            f"expected at most {_PAIRS_MAX} pairs of metadata, keys of 1 to {_KEY_MAX} characters "
            f"and values of at most {_VALUE_MAX}"
        )
    if any(map(_is_half, "".join([record.description, *pairs, *pairs.values()]))):
        raise PhextsyncError("expected texts in UTF-8, found a lone surrogate")
