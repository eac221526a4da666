"""MemoryDisk: files in memory as the system has them, and what users and programs do to them.

Inodes whose numbers are used again, folders, links, pipes, mounted file systems, times of a coarse
clock. What was not synced is lost, or half of it, when the power goes.
"""

import errno
import os
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from phextsync.files.filesystem import Status
from phextsync.files.paths import Abilities
from phextsync.testing.inodes import Inode, Kind, NameChange, Unsynced

TICK_NS: Final = 4_000_000
"""How long the clock of files stands still: several writes within it have one time."""

_OWNER: Final = (1000, 1000)
_MODES: Final[dict[Kind, int]] = {"file": 0o644, "folder": 0o755, "link": 0o777, "pipe": 0o644}
_LINKS_MAX: Final = 40  # on the way to a file
_DEVICE: Final = 1


class MemoryDisk:
    """The files below one directory, as the programs of a machine see them. Paths are relative to
    it, with `/` between their parts. Errors are those of the system.

    `now_ns` is the clock; `on_change` is told of every path that changes, as inotify does.
    """

    def __init__(
        self,
        now_ns: Callable[[], int] = lambda: 0,
        *,
        abilities: Abilities | None = None,
        knows_births: bool = True,
        reuses_numbers: bool = True,
        tick_ns: int = TICK_NS,
        room: int | None = None,
    ) -> None:
        """`room`: how many bytes all files may have together, None for any number."""
        self.abilities = abilities or Abilities()
        self.room = room
        self.on_change: Callable[[str], None] = lambda path: None
        self.now_ns = now_ns
        self._tick_ns = tick_ns
        self._knows_births = knows_births
        self._reuses_numbers = reuses_numbers
        self._free: list[int] = []
        self._number = 1
        self._device = _DEVICE
        self._unsynced = Unsynced()
        self._base = self._new("folder", _DEVICE)
        self._base.names = 1

    # -- looking -----------------------------------------------------------------------------

    def find(self, path: str) -> Inode | None:
        """Return what is at a path, a link and not what it points to; None when nothing is."""
        try:
            folder, name = self._parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self._entry(folder, name) if name else folder

    def get(self, path: str) -> Inode:
        """Return what is at a path. FileNotFoundError or NotADirectoryError when nothing is."""
        folder, name = self._parent(path)
        found = self._entry(folder, name) if name else folder
        if found is None:
            raise system_error(errno.ENOENT, path)
        return found

    def text(self, path: str) -> str | None:
        """Return the text of a file, None where no file is."""
        found = self.find(path)
        return None if found is None or found.kind != "file" else found.data.decode()

    def walk(self, folder: str = "") -> Iterator[tuple[str, Inode]]:
        """Iterate over all that is below a folder, in order."""
        found = self.get(folder)
        for name, inode in sorted(found.entries.values(), key=lambda entry: entry[0]):
            path = f"{folder}/{name}" if folder else name
            yield path, inode.mounted or inode
            if inode.kind == "folder":
                yield from self.walk(path)

    def files(self) -> dict[str, str]:
        """Return the texts of all files by path."""
        return {
            path: inode.data.decode("utf-8", "replace")
            for path, inode in self.walk()
            if inode.kind == "file"
        }

    def unsynced_files(self) -> dict[str, str]:
        """Return the texts, by path, of the files that the disk does not have as they are."""
        return {
            path: text for path, text in self.files().items() if self.get(path) in self._unsynced
        }

    def used(self) -> int:
        """Return how many bytes the files have together."""
        return sum(len(inode.data) for _, inode in self.walk())

    def status(self, inode: Inode, *, is_open: bool = False) -> Status:
        """Return the status of an inode; only of an open one it is known when it was made."""
        return Status(
            inode.kind == "file",
            inode.kind == "folder",
            inode.device,
            inode.number,
            len(inode.data),
            inode.time_ns,
            inode.changed_ns,
            inode.mode,
            _OWNER,
            inode.born_ns if is_open and self._knows_births else 0,
        )

    # -- files -------------------------------------------------------------------------------

    def create(self, path: str, kind: Kind = "file", mode: int | None = None) -> Inode:
        """Make an empty file, a folder, or whatever else. FileExistsError when something is
        there."""
        folder, name = self._parent(path)
        if not name or self._entry(folder, name) is not None:
            raise system_error(errno.EEXIST, path)
        inode = self._new(kind, folder.device, mode)
        if kind == "folder":
            inode.above = folder
        self._change_names((folder, name, inode))
        self.on_change(path)
        return inode

    def link_to(self, path: str, target: str) -> None:
        """Make a link to a path of this disk, or to none."""
        self.create(path, "link").data = target.encode()

    def fill(self, path: str, data: bytes) -> None:
        """Give an existing file other bytes, in place. OSError when there is no room, and a part
        of them is there."""
        try:
            self.fill_open(self.get(path), data)
        finally:
            self.on_change(path)

    def fill_open(self, inode: Inode, data: bytes) -> None:
        """The same for a file that is open, whatever its names are."""
        if inode.kind == "folder":
            raise system_error(errno.EISDIR)
        room = None if self.room is None else self.room - self.used() + len(inode.data)
        is_full = room is not None and len(data) > max(room, len(inode.data))
        inode.data = data[: max(room or 0, 0)] if is_full else data
        inode.time_ns = inode.changed_ns = self._time_ns()
        self._unsynced.changed_bytes(inode)
        if is_full:
            raise system_error(errno.ENOSPC)

    def put(self, path: str, text: str) -> None:
        """Write a file as most programs do: in place if it is there, else a new one."""
        if self.find(path) is None:
            self.create(path)
        self.fill(path, text.encode())

    def make_folders(self, path: str) -> None:
        """Make a folder and those above it, as far as they are not there."""
        parts = path.split("/")
        for i in range(1, len(parts) + 1):
            if self.find("/".join(parts[:i])) is None:
                self.create("/".join(parts[:i]), "folder")

    def set_mode(self, path: str, mode: int) -> None:
        """Set the permissions of what is at a path."""
        inode = self.get(path)
        inode.mode, inode.changed_ns = mode, self._time_ns()
        self.on_change(path)

    # -- names -------------------------------------------------------------------------------

    def link(self, path: str, new: str) -> None:
        """Give a file one more name. FileExistsError when something is there."""
        inode = self.get(path)
        folder, name = self._parent(new)
        if inode.kind == "folder":
            raise system_error(errno.EPERM, path)
        if not name or self._entry(folder, name) is not None:
            raise system_error(errno.EEXIST, new)
        if folder.device != inode.device:
            raise system_error(errno.EXDEV, new)
        self._change_names((folder, name, inode))
        self.on_change(new)

    def rename(self, path: str, new: str) -> None:
        """Give what is at a path another one, whatever file is there."""
        inode, (folder, name), (other, new_name) = (
            self.get(path),
            self._parent(path),
            self._parent(new),
        )
        if not name or not new_name or inode.mounted is not None:
            raise system_error(errno.EBUSY, path)
        if folder.device != other.device:
            raise system_error(errno.EXDEV, new)
        there = self._entry(other, new_name)
        is_same_name = folder is other and self._key(name) == self._key(new_name)
        if there is inode and (name == new_name or not is_same_name):
            return
        self._check_replaceable(inode, there, other)
        if is_same_name:  # with other letters
            self._change_names((other, new_name, inode))
        else:
            self._change_names((folder, name, None), (other, new_name, inode))
        if inode.kind == "folder":
            inode.above = other
        self.on_change(path)
        self.on_change(new)

    def _check_replaceable(self, inode: Inode, there: Inode | None, folder: Inode) -> None:
        """OSError when a rename may not put `inode` in the place of what is there."""
        above: Inode | None = folder
        while inode.kind == "folder" and above is not None:
            if above is inode:
                raise system_error(errno.EINVAL)
            above = above.above
        if there is None or there is inode:
            return
        if there.kind == "folder" and inode.kind != "folder":
            raise system_error(errno.EISDIR)
        if there.kind != "folder" and inode.kind == "folder":
            raise system_error(errno.ENOTDIR)
        if there.entries:
            raise system_error(errno.ENOTEMPTY)

    def exchange(self, one: str, other: str) -> None:
        """Let two paths have what is at the other one, at one moment."""
        first, second = self.get(one), self.get(other)
        (folder, name), (other_folder, other_name) = self._parent(one), self._parent(other)
        if first.device != second.device:
            raise system_error(errno.EXDEV, one)
        self._change_names((folder, name, second), (other_folder, other_name, first))
        for inode, above in ((first, other_folder), (second, folder)):
            if inode.kind == "folder":
                inode.above = above
        self.on_change(one)
        self.on_change(other)

    def unlink(self, path: str) -> None:
        """Take a name away from a file."""
        inode = self.get(path)
        if inode.kind == "folder":
            raise system_error(errno.EISDIR, path)
        folder, name = self._parent(path)
        self._change_names((folder, name, None))
        self.on_change(path)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        inode = self.get(path)
        if inode.kind != "folder":
            raise system_error(errno.ENOTDIR, path)
        if inode.mounted is not None or not path:
            raise system_error(errno.EBUSY, path)
        if inode.entries:
            raise system_error(errno.ENOTEMPTY, path)
        folder, name = self._parent(path)
        self._change_names((folder, name, None))
        self.on_change(path)

    def remove_tree(self, path: str) -> None:
        """Remove a file, or a folder with all in it."""
        inode = self.get(path)
        if inode.kind != "folder":
            self.unlink(path)
            return
        for name, _ in list(inode.entries.values()):
            self.remove_tree(f"{path}/{name}")
        self.remove_folder(path)

    # -- file systems ------------------------------------------------------------------------

    def mount(self, path: str, inode: Inode | None = None) -> Inode:
        """Let another file system be seen at a folder, an empty one or one that was seen before;
        the empty path is the directory itself. Return its uppermost folder."""
        folder = self._base if not path else self.get(path)
        if inode is None:
            self._device += 1
            inode = self._new("folder", self._device)
            inode.names, inode.above = 1, folder.above
        folder.mounted = inode
        return inode

    def unmount(self, path: str) -> Inode | None:
        """Let a folder be seen as it is without what was mounted there; return that."""
        folder = self._base
        if path:
            above, name = self._parent(path)
            folder = above.entries[self._key(name)][1]
        mounted, folder.mounted = folder.mounted, None
        return mounted

    def is_mounted(self, path: str) -> bool:
        """Whether another file system is seen at a folder."""
        if not path:
            return self._base.mounted is not None
        above, name = self._parent(path)
        found = above.entries.get(self._key(name))
        return found is not None and found[1].mounted is not None

    # -- the power ---------------------------------------------------------------------------

    def sync(self, inode: Inode) -> None:
        """Let the bytes of a file be on the disk, or the names in a folder with all that changed
        before them."""
        self._unsynced.sync(inode)

    def sync_all(self) -> None:
        """Let everything be on the disk."""
        self._unsynced.sync_all()

    def cut_power(self, source: Random) -> None:
        """Lose what was not synced, or a part of it."""
        self._unsynced.lose(source)
        self._count_names()

    def _count_names(self) -> None:
        """Find out which inodes are left after names came back or went; none is open."""
        numbers: dict[tuple[int, int], Inode] = {}
        seen: dict[int, Inode] = {}
        todo = [self._base, *([self._base.mounted] if self._base.mounted else [])]
        for inode in todo:
            if inode.mounted is not None:
                todo.append(inode.mounted)
            for _, below in inode.entries.values():
                if below.kind == "folder":
                    below.above = inode
                if id(below) not in seen:
                    seen[id(below)] = below
                    below.names = below.opened = 0
                    if below.kind == "folder":
                        todo.append(below)
                below.names += 1
        for inode in seen.values():
            if numbers.setdefault((inode.device, inode.number), inode) is not inode:
                self._number += 1
                inode.number = self._number
        taken = {number for _, number in numbers}
        self._free = [number for number in self._free if number not in taken]

    # -- inodes and names --------------------------------------------------------------------

    def release(self, inode: Inode) -> None:
        """Close an open file."""
        inode.opened -= 1
        self._free_if_gone(inode)

    def _new(self, kind: Kind, device: int, mode: int | None = None) -> Inode:
        if self._free:
            number = self._free.pop()
        else:
            self._number += 1
            number = self._number
        now = self._time_ns()
        mode = _MODES[kind] if mode is None else mode
        return Inode(number, device, kind, mode, now, now, self.now_ns() or 1)

    def _free_if_gone(self, inode: Inode) -> None:
        if inode.names <= 0 and inode.opened <= 0:
            self._unsynced.forget(inode)
            if self._reuses_numbers:
                self._free.append(inode.number)

    def _time_ns(self) -> int:
        return self.now_ns() // self._tick_ns * self._tick_ns

    def _key(self, name: str) -> str:
        return self.abilities.key(name)

    def _entry(self, folder: Inode, name: str) -> Inode | None:
        found = folder.entries.get(self._key(name))
        if found is None:
            return None
        return found[1].mounted or found[1]

    def _parent(self, path: str) -> tuple[Inode, str]:
        """Return the folder of a path and the name in it, the directory itself and nothing for
        the empty path."""
        folder = self._base.mounted or self._base
        if not path:
            return folder, ""
        *folders, name = path.split("/")
        for i, part in enumerate(folders):
            self._check_length(part)
            found = self._resolved(self._entry(folder, part), "/".join(folders[:i]))
            if found is None:
                raise system_error(errno.ENOENT, path)
            if found.kind != "folder":
                raise system_error(errno.ENOTDIR, path)
            folder = found
        self._check_length(name)
        return folder, name

    def _resolved(self, inode: Inode | None, folder: str) -> Inode | None:
        """Return what a link on the way points to."""
        for _ in range(_LINKS_MAX):
            if inode is None or inode.kind != "link":
                return inode
            target = inode.data.decode()
            inode = self.find(f"{folder}/{target}" if folder else target)
        raise system_error(errno.ELOOP)

    def _check_length(self, name: str) -> None:
        if len(os.fsencode(name)) > self.abilities.part_bytes_max:
            raise system_error(errno.ENAMETOOLONG, name)

    def _change_names(self, *rows: tuple[Inode, str, Inode | None]) -> None:
        """Let names stand for other inodes, all at one moment."""
        now = self._time_ns()
        changes: list[NameChange] = []
        gone: list[Inode] = []
        for folder, name, inode in rows:
            key = self._key(name)
            before = folder.entries.get(key)
            after = None if inode is None else (name, inode)
            changes.append((folder, key, before, after))
            if before is not None:
                before[1].names -= 1
                gone.append(before[1])
            if after is None:
                folder.entries.pop(key, None)
            else:
                folder.entries[key] = after
                after[1].names += 1
                after[1].changed_ns = now
            folder.time_ns = folder.changed_ns = now
        self._unsynced.changed_names(changes)
        for inode in gone:
            inode.changed_ns = now
            self._free_if_gone(inode)


def system_error(number: int, path: str = "") -> OSError:
    """Return the error that the system gives for a path."""
    return OSError(number, os.strerror(number), path)
