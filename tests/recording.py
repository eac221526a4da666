"""What a process did to its files, as the preloaded recorder saw it, and the disks that a crash
could have left.

A write is on the disk once its file was synced (or it went through a descriptor that syncs by
itself); until then any of its 4 KiB blocks may be there, whole or by sectors of 512 bytes. A name
is there once its folder was synced; until then a journal holds some first part of the changes.
"""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

MARKS = "marks"
_RECORD = struct.Struct("<IIIIQQ")
_WRITE, _SYNC, _TRUNCATE, _CREATE, _UNLINK, _RENAME, _MKDIR, _RMDIR = range(1, 9)
_BLOCK_BYTES, _SECTOR_BYTES = 4096, 512


@dataclass(frozen=True, slots=True)
class Event:
    """One call: kind, whether it is durable when it returns, path, offset, data."""

    kind: int
    is_synced: bool
    path: str
    offset: int
    data: bytes

    @property
    def mark(self) -> bytes | None:
        """What the workload had to say, if this is a mark of it."""
        return self.data if self.kind == _WRITE and self.path == MARKS else None


def build_recorder(folder: Path) -> Path:
    """Compile the recorder; without a compiler the test is skipped, which CI does not allow."""
    if shutil.which("gcc") is None:
        if os.environ.get("CI"):
            pytest.fail("gcc is needed to record what LMDB does")
        pytest.skip("gcc is needed to record what LMDB does")
    library = folder / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(["gcc", *options, "-o", library, source, "-ldl"], check=True)
    return library


def preloaded(library: Path, root: Path, record: Path) -> dict[str, str]:
    """Return the environment of a process whose changes below `root` are recorded."""
    own = {"LD_PRELOAD": str(library), "RECORD_ROOT": str(root), "RECORD_FILE": str(record)}
    return {**os.environ, **own}


def record(folder: Path, root: Path, arguments: Sequence[str]) -> Path:
    """Run a module of Python that changes files below `root`; return the file of its events."""
    path = folder / f"{root.name}.recording"
    environment = preloaded(build_recorder(folder), root, path)
    subprocess.run([sys.executable, "-m", *arguments], env=environment, check=True)
    return path


def events(recording: Path) -> Iterator[Event]:
    """Iterate over the events of a recording."""
    data = recording.read_bytes()
    at = 0
    while at < len(data):
        kind, flags, path_bytes, _, offset, data_bytes = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        path = data[at : at + path_bytes].decode().lstrip("/")
        at += path_bytes
        yield Event(kind, bool(flags), path, offset, data[at : at + data_bytes])
        at += data_bytes


@dataclass(slots=True, eq=False)
class _File:
    """Bytes that are durable, and blocks that may be."""

    durable: bytearray = field(default_factory=bytearray)
    blocks: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        while data:
            some = _BLOCK_BYTES - offset % _BLOCK_BYTES
            self.blocks.append((offset, data[:some]))
            offset, data = offset + some, data[some:]

    def sync(self) -> None:
        for offset, data in self.blocks:
            _put(self.durable, offset, data)
        self.blocks.clear()


class Disk:
    """A disk that is told of events, and says what a crash may leave of it."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._names: dict[str, _File | None] = {}  # None: a folder
        for path, data in files.items():
            for parent in list(Path(path).parents)[:-1]:
                self._names[str(parent)] = None
            self._names[path] = _File(bytearray(data))
        self._changes: list[tuple[Event, _File | None]] = []
        self._current = dict(self._names)

    def tell(self, event: Event) -> None:
        """An event happened, and is as durable as it is."""
        match event.kind:
            case 1:
                file = self.file(event.path)
                file.write(event.offset, event.data)
                if event.is_synced:
                    self._make_durable(file, event)
            case 2:
                if self._current.get(event.path) is None:
                    self._sync_names()
                else:
                    self.file(event.path).sync()
            case 3:
                file = self.file(event.path)
                file.sync()
                del file.durable[event.offset :]
                file.durable.extend(bytes(event.offset - len(file.durable)))
            case _:
                change = (event, _File() if event.kind == _CREATE else None)
                _change(self._current, *change)
                self._changes.append(change)

    def begin(self, event: Event) -> "Disk":
        """Return the disk while a write that syncs by itself is under way; else this one."""
        if event.kind != _WRITE or not event.is_synced:
            return self
        other = Disk({})
        file = self.file(event.path)
        copy = _File(bytearray(file.durable), list(file.blocks))
        other._names = {n: copy if f is file else f for n, f in self._names.items()}
        other._current = {n: copy if f is file else f for n, f in self._current.items()}
        other._changes = [(e, copy if f is file else f) for e, f in self._changes]
        other.file(event.path).write(event.offset, event.data)
        return other

    def image(self, random: Random, chance: float) -> dict[str, bytes | None]:
        """Return files (folders: None) after a crash; each unsynced block is there by `chance`."""
        names = dict(self._names)
        kept = (
            round(len(self._changes) * chance)
            if chance in (0, 1)
            else random.randint(0, len(self._changes))
        )
        for change in self._changes[:kept]:
            _change(names, *change)
        return {
            name: None if file is None else self._content(file, random, chance)
            for name, file in sorted(names.items())
        }

    def _content(self, file: _File, random: Random, chance: float) -> bytes:
        data = bytearray(file.durable)
        for offset, block in file.blocks:
            if random.random() < chance:
                _put(data, offset, block)
            elif 0 < chance < 1 and random.random() < 0.3:
                for at in range(0, len(block), _SECTOR_BYTES):
                    if random.random() < 0.5:
                        _put(data, offset + at, block[at : at + _SECTOR_BYTES])
        return bytes(data)

    def file(self, path: str) -> _File:
        file = self._current.get(path)
        assert file is not None, path
        return file

    @staticmethod
    def _make_durable(file: _File, event: Event) -> None:
        """A write that syncs by itself says nothing of those before it."""
        count = -(-(event.offset % _BLOCK_BYTES + len(event.data)) // _BLOCK_BYTES)
        for offset, data in file.blocks[-count:]:
            _put(file.durable, offset, data)
        del file.blocks[-count:]

    def _sync_names(self) -> None:
        self._names = dict(self._current)
        self._changes.clear()


def _change(names: dict[str, _File | None], event: Event, created: _File | None) -> None:
    match event.kind:
        case 4 | 7:
            names[event.path] = created
        case 5 | 8:
            names.pop(event.path, None)
        case 6:
            target = event.data.decode()
            for name in [n for n in names if n == event.path or n.startswith(event.path + "/")]:
                names[target + name[len(event.path) :]] = names.pop(name)


def _put(data: bytearray, offset: int, block: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(block)] = block


def write_image(image: Mapping[str, bytes | None], folder: Path) -> None:
    """Write an image into an empty folder."""
    for name, data in image.items():
        path = folder / name
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        elif name != MARKS:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
