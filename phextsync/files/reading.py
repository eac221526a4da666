"""Reading: what lies at the paths of a bound directory, as far as it can be told.

One path's trouble is its own: each read gives a file, says that none is there, or says why it
cannot be read.
"""

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from phextsync.edits import likeness
from phextsync.errors import PhextsyncError
from phextsync.files.filesystem import FileSystem, OpenFile, Status
from phextsync.files.names import EXECUTABLE, PRIVATE, SECRETS, check_name
from phextsync.files.presets import PLAIN, Preset
from phextsync.files.records import Mark
from phextsync.texts import check_text

TEXT_BYTES_MAX: Final = 8 << 20
"""A larger file is left alone."""
LIKE: Final = 0.5
"""How much of its text a file has kept, at least, that seems to be the same."""
SECRET: Final = "left alone with all beside it: the keys or the data of a node lie there"

_RACY_NS: Final = 50_000_000  # file systems stamp changes by a clock that ticks
_READ_ATTEMPTS: Final = 3
_HELP: Final = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota is used up; make room",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this node's user may not; change the permissions",
    errno.EPERM: "this is not permitted; change the permissions or attributes",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EMFILE: "this process has too many open files",
    errno.ENFILE: "this machine has too many open files",
    errno.EIO: "the disk fails",
    errno.ENOTDIR: "a file is in the place of a folder",
    errno.EISDIR: "a folder is in the place of a file; move what is in it, also what is ignored",
    errno.EEXIST: "something else is in its place",
    errno.ELOOP: "a link is in its place",
}


def check_size(path: str, text: str) -> None:
    """PhextsyncError when a text is larger than a file of a bound directory may be."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TEXT_BYTES_MAX:
        raise PhextsyncError(
            f"expected at most {TEXT_BYTES_MAX} bytes at {path}, found {size}; split it"
        )


def check_file_text(path: str, text: str) -> None:
    """PhextsyncError when a text cannot be that of a file of a bound directory."""
    check_text(text)
    check_size(path, text)


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was read. `is_racy`: so soon after a change that another may have its mark."""

    mark: Mark
    text: str
    marks: str = ""
    born_ns: int = 0
    is_outside: bool = False
    is_racy: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """No file is at a path, and the way to it could be looked at. `is_outside`: what is left of
    the way lies on another file system than the directory."""

    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a path cannot be read or written now. `file` is what lies there when its name is wrong,
    or its bytes cannot be brought to the disk. `may_pass`: the system refused it, and may take it
    later. `inode` is the number of a file that cannot be read, where that is known."""

    reason: str
    file: File | None = None
    may_pass: bool = False
    inode: int | None = None


Found = File | Gone | Trouble


_SYNCED_ALONE_MAX: Final = 16

Ways = dict[str, "Gone | Trouble | None"]
"""What was found on the way to paths, by folder."""


class Reader:
    """Reads files below one directory. `device` is that of the directory itself; `clock_ns` the
    clock by which the file system stamps files."""

    def __init__(
        self, files: FileSystem, clock_ns: Callable[[], int], preset: Preset = PLAIN
    ) -> None:
        self.device = 0
        self._preset = preset
        self._files = files
        self._clock_ns = clock_ns

    def read(self, paths: Iterable[str]) -> dict[str, Found]:
        """Read files."""
        ways: Ways = {}
        return {path: self._read(path, ways) for path in paths}

    def _read(self, path: str, ways: Ways) -> Found:
        try:
            found = self.way_to(path, ways) or self.read_file(path)
        except OSError as error:
            return replace(refused(error), inode=self._inode_of(path))
        try:
            check_name(path)
        except PhextsyncError as error:
            reason = f"{error}; rename it"
            return Trouble(reason, found) if isinstance(found, File) else found
        return found

    def _inode_of(self, path: str) -> int | None:
        with suppress(OSError):
            status = self._files.status(path)
            return None if status is None or not status.is_file else status.inode
        return None

    def way_to(self, path: str, ways: Ways) -> Gone | Trouble | None:
        """Look at the folders on the way to a path: None when they are there, Gone when the last
        of them are not or one is a file, and Trouble when one is something else, or holds keys."""
        folder, _, _ = path.rpartition("/")
        if folder not in ways:
            above = self.way_to(folder, ways) if folder else None
            ways[folder] = above if above is not None else self._look_at(folder)
        return ways[folder]

    def _look_at(self, folder: str) -> Gone | Trouble | None:
        status = self._files.status(folder)
        if status is None or status.is_file:  # below a file is nothing
            return Gone(self.is_outside(folder))
        if not status.is_folder:
            return Trouble(f"expected a folder at {folder}, found {kind_of(status)}")
        inside = [f"{folder}/{name}" if folder else name for name in SECRETS]
        if any(self._files.status(path) is not None for path in inside):
            return Trouble(SECRET)
        return None

    def read_file(self, path: str) -> Found:
        status = self._files.status(path)
        if status is None or status.is_folder:
            return Gone(self.is_outside(path))
        if not status.is_file:
            return Trouble(f"expected a file, found {kind_of(status)}")
        file = self._files.open(path)
        try:
            found = self.read_open(file, path)
        finally:
            file.close()
        return (
            replace(found, is_outside=self.is_outside(path)) if isinstance(found, File) else found
        )

    def is_outside(self, path: str) -> bool:
        """Whether the folder of a path lies on another file system than the directory. A file's own
        number is not asked: where one system lies over another, that of a file may change."""
        folder = self._files.status(path.rpartition("/")[0])
        return folder is not None and folder.device != self.device

    def read_open(self, file: OpenFile, path: str) -> File | Trouble:
        """Read a file that is, or was, at a path."""
        for _ in range(_READ_ATTEMPTS):
            status = file.status()
            if not status.is_file:
                return Trouble(f"expected a file, found {kind_of(status)}")
            if status.size > TEXT_BYTES_MAX:
                return Trouble(
                    f"expected at most {TEXT_BYTES_MAX} bytes, found {status.size}; "
                    "split it, or put it into .phextsyncignore"
                )
            data = file.read(TEXT_BYTES_MAX + 1)
            if mark_of(file.status()) == mark_of(status):
                break
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            return Trouble(f"expected UTF-8, found other bytes at offset {error.start}")
        return File(
            mark_of(status),
            self._preset.as_scroll(path, text),
            marks_of(status),
            status.born_ns,
            is_racy=self._clock_ns() - status.changed_ns < _RACY_NS,
        )

    def gone(self, paths: Iterable[str]) -> dict[str, bool | None]:
        """Return whether no file is at paths, and none either after the power went; None where that
        cannot be told."""
        ways: Ways = {}
        found: dict[str, bool | None] = {}
        synced: dict[str, None] = {}
        for path in paths:
            found[path] = None
            with suppress(OSError):
                way = self.way_to(path, ways)
                is_gone = isinstance(way, Gone)
                if way is None:
                    status = self._files.status(path)
                    is_gone = status is None or status.is_folder
                if is_gone:
                    self._sync_way(path, synced)
                found[path] = is_gone
        return found

    def changed(self, marks: Mapping[str, Mark | None]) -> list[str]:
        """Return the paths at which files have other marks than these."""
        changed: list[str] = []
        for path, mark in marks.items():
            with suppress(OSError):
                status = self._files.status(path)
                if status is not None and status.is_file and mark_of(status) != mark:
                    changed.append(path)
        return changed

    def _sync_way(self, path: str, synced: dict[str, None]) -> None:
        """Let it be on the disk what the folder of a path holds, or that there is none."""
        folder = path.rpartition("/")[0]
        while folder and ((status := self._files.status(folder)) is None or not status.is_folder):
            folder = folder.rpartition("/")[0]
        if folder not in synced:
            self._files.sync_folder(folder)
            synced[folder] = None

    def settle(self, files: Mapping[str, File]) -> dict[str, Trouble]:
        """Let files be on the disk as they were read; return why those are not that cannot be.

        What is on the disk by chance only may be gone after the power went, and would seem to be
        deleted by somebody.
        """
        troubles: dict[str, Trouble] = {}
        alone = [path for path, file in files.items() if file.is_outside]
        others = [path for path, file in files.items() if not file.is_outside]
        if len(others) <= _SYNCED_ALONE_MAX:
            alone += others
        else:
            try:
                self._files.sync_all()
            except OSError as error:
                troubles = {path: refused(error, files[path]) for path in others}
        for path in alone:
            try:
                self._files.sync_file(path)
            except OSError as error:
                troubles[path] = refused(error, files[path])
        return troubles


def why(error: OSError) -> str:
    """Return what an error of the file system means and what would help."""
    text = os.strerror(error.errno) if error.errno else str(error)
    helping = _HELP.get(error.errno or 0)
    return f"{text}: {helping}" if helping else text


def refused(error: OSError, file: File | None = None) -> Trouble:
    """Return what the system refuses now."""
    return Trouble(why(error), file, may_pass=True)


def is_nothing(found: Found) -> bool:
    """Whether no file is at a path, or an empty one."""
    return isinstance(found, Gone) or (isinstance(found, File) and not found.text)


def is_unlike(before: str, text: str) -> bool:
    """Whether a text is none that somebody made of `before`, as it seems."""
    return likeness(before, text) < LIKE


def breaks_off(before: str, text: str) -> bool:
    """Whether a text that replaces `before` seems to be a part of one that is still being written:
    it is shorter, and ends within a line."""
    return len(text) < len(before) and before.endswith("\n") and not text.endswith("\n")


def kind_of(status: Status) -> str:
    """Return what lies at a path, for people."""
    if status.is_folder:
        return "a folder"
    return "a file" if status.is_file else "a link or a device"


def mark_of(status: Status) -> Mark:
    """Return the mark of a file."""
    return Mark(status.inode, status.size, status.time_ns, status.changed_ns)


def marks_of(status: Status) -> str:
    """Return the marks of a file for the map: private, executable."""
    private = PRIVATE if not status.mode & 0o077 else ""
    return private + (EXECUTABLE if status.mode & 0o100 else "")
