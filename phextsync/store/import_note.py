"""Importing: a note in the data folder that says that an import has begun, until it has ended.

A running node takes a large import in pieces, so that others are served meanwhile. What ends the
import leaves the pieces that were taken, and this note: later commands say so.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from phextsync.systems.locking import lock, try_lock
from phextsync.systems.opening import PRIVATE, write_at

_NOTE: Final = "importing"


class ImportNote:
    """Says in a folder what is being imported for as long as the block lasts; stays if the block
    raises when `has_begun`. Waits for another import to end."""

    def __init__(self, folder: Path, what: str) -> None:
        self.has_begun = False
        self._path = folder / _NOTE
        self._what = what

    def __enter__(self) -> "ImportNote":
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | PRIVATE, 0o600)
        lock(self._descriptor)
        os.ftruncate(self._descriptor, 0)
        write_at(self._descriptor, self._what.encode("utf-8", "surrogateescape"), 0)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None or not self.has_begun:
            forget_import(self._path.parent)
        os.close(self._descriptor)


def unfinished_import(folder: Path) -> str:
    """Return what was being imported when something ended the import, "" for nothing."""
    try:
        descriptor = os.open(folder / _NOTE, os.O_RDONLY | PRIVATE)
    except OSError:
        return ""
    try:
        try_lock(descriptor, is_shared=True)
        return os.read(descriptor, 4096).decode("utf-8", "replace")
    except BlockingIOError:  # it goes on
        return ""
    finally:
        os.close(descriptor)


def forget_import(folder: Path) -> None:
    """Remove the note."""
    with suppress(FileNotFoundError):
        (folder / _NOTE).unlink()
