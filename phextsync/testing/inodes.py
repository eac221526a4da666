"""Inodes of a disk in memory, and what is left of them when the power goes.

A disk has the names up to a moment, and of each file the bytes that were synced last or those that
have come since: which of them it is, nobody can tell before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["file", "folder", "link", "pipe"]


@dataclass(slots=True, eq=False)
class Inode:
    """A file, folder, link or pipe, whatever its names are. `stable` is what the disk has of a
    file's bytes, None before it has any."""

    number: int
    device: int
    kind: Kind
    mode: int
    time_ns: int
    changed_ns: int
    born_ns: int
    data: bytes = b""
    entries: dict[str, tuple[str, "Inode"]] = field(default_factory=dict)  # by key of the name
    stable: bytes | None = None
    stable_time_ns: int = 0
    names: int = 0  # how many there are
    opened: int = 0  # how many programs have it open
    above: "Inode | None" = None  # of a folder
    mounted: "Inode | None" = None  # what is seen in place of this folder


Entry: TypeAlias = tuple[str, Inode] | None
"""A name in a folder with what it stands for, or that there is none."""
NameChange: TypeAlias = tuple[Inode, str, Entry, Entry]
"""A folder, the key of a name in it, and what was there before and after."""


class Unsynced:
    """What has changed and is not on the disk yet."""

    def __init__(self) -> None:
        self._names: list[tuple[NameChange, ...]] = []  # each made at one moment
        self._files: dict[int, Inode] = {}

    def __contains__(self, inode: Inode) -> bool:
        """Whether a file has bytes that the disk does not have."""
        return id(inode) in self._files

    def changed_names(self, rows: Iterable[NameChange]) -> None:
        """Names have changed, all at one moment."""
        self._names.append(tuple(rows))

    def changed_bytes(self, inode: Inode) -> None:
        """A file has other bytes."""
        self._files[id(inode)] = inode

    def forget(self, inode: Inode) -> None:
        """A file is gone."""
        self._files.pop(id(inode), None)

    def sync(self, inode: Inode) -> None:
        """Let the bytes of a file be on the disk, or the names in a folder with all that changed
        before them."""
        if inode.kind != "folder":
            self._settle(inode)
            return
        moments = [i for i, rows in enumerate(self._names) if any(row[0] is inode for row in rows)]
        if moments:
            del self._names[: moments[-1] + 1]

    def sync_all(self) -> None:
        """Let everything be on the disk."""
        self._names.clear()
        for inode in list(self._files.values()):
            self._settle(inode)

    def lose(self, source: Random) -> None:
        """Lose of the names all changes from a moment on, of each file its new bytes, a part of
        them, or nothing."""
        kept = source.randint(0, len(self._names))
        for rows in reversed(self._names[kept:]):
            for folder, key, before, _ in reversed(rows):
                if before is None:
                    folder.entries.pop(key, None)
                else:
                    folder.entries[key] = before
        self._names.clear()
        for inode in list(self._files.values()):
            match source.choice(("old", "new", "torn", "new")):
                case "old":
                    inode.data, inode.time_ns = inode.stable or b"", inode.stable_time_ns
                case "torn" if inode.stable is None:
                    inode.data = inode.data[: source.randint(0, len(inode.data))]
            self._settle(inode)

    def _settle(self, inode: Inode) -> None:
        inode.stable, inode.stable_time_ns = inode.data, inode.time_ns
        self._files.pop(id(inode), None)
