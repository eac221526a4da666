"""Importing: a note in the data folder that says that an import has begun, until it has ended.

A running node takes a large import in pieces, so that others are served meanwhile. What ends the
import leaves the pieces that were taken, and this note: later commands say so.

The note has a line for each import that has not ended, and is on the disk before anything is taken.
A line that does not end was never whole: nothing was taken yet. The lock of the file says that an
import goes on.
"""

import os
from pathlib import Path
from typing import Final

from phextsync.durable_files import open_locked
from phextsync.systems.locking import try_lock
from phextsync.systems.opening import CAN_REPLACE_OPEN, PRIVATE, read_at, write_at
from phextsync.systems.syncing import sync, sync_folder

_NOTE: Final = "importing"
_BYTES_MAX: Final = 1 << 16


class ImportNote:
    """Says in a folder what is being imported for as long as the block lasts; stays if the block
    raises when `has_begun`, or if the same import was cut short before. Waits for another import
    to end."""

    def __init__(self, folder: Path, what: str) -> None:
        self.has_begun = False
        self._path = folder / _NOTE
        self._line = " ".join(what.splitlines()).encode("utf-8", "surrogateescape") + b"\n"

    def __enter__(self) -> "ImportNote":
        self._descriptor = open_locked(self._path)
        try:
            self._write()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def _write(self) -> None:
        lines = _lines(self._descriptor)
        if self._line in lines:
            self.has_begun = True
            return
        end = len(b"".join(lines))
        os.ftruncate(self._descriptor, end)
        try:
            write_at(self._descriptor, self._line, end)
            sync(self._descriptor)
            sync_folder(self._path.parent)
        except BaseException:
            self._cut(end)
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None or not self.has_begun:
                self._remove()
        finally:
            os.close(self._descriptor)

    def _remove(self) -> None:
        """Remove the line: it is the last, or becomes an empty one."""
        lines = _lines(self._descriptor)
        if self._line not in lines:  # it was forgotten
            return
        number = lines.index(self._line)
        at = len(b"".join(lines[:number]))
        if any(line.strip() for line in lines[number + 1 :]):
            write_at(self._descriptor, b"\n" * len(self._line), at)
        else:
            self._cut(at)

    def _cut(self, size: int) -> None:
        if size == 0 and CAN_REPLACE_OPEN:
            self._path.unlink(missing_ok=True)
        else:
            os.ftruncate(self._descriptor, size)


def unfinished_imports(folder: Path) -> list[str]:
    """Return what was being imported whenever something ended an import."""
    try:
        descriptor = os.open(folder / _NOTE, os.O_RDONLY | PRIVATE)
    except OSError:
        return []
    try:
        try_lock(descriptor, is_shared=True)
        lines = [line.decode("utf-8", "replace").strip() for line in _lines(descriptor)]
    except BlockingIOError:  # it goes on
        return []
    finally:
        os.close(descriptor)
    return [line for line in lines if line]


def forget_imports(folder: Path) -> None:
    """Say no more of imports that were cut short."""
    try:
        os.truncate(folder / _NOTE, 0)
    except FileNotFoundError:
        return


def _lines(descriptor: int) -> list[bytes]:
    """Return the lines of a note that are whole."""
    found = read_at(descriptor, _BYTES_MAX, 0)
    return found[: found.rfind(b"\n") + 1].splitlines(keepends=True)
