"""Syncing: what makes files and folders durable.

`fsync` of macOS leaves data in the cache of the disk; F_FULLFSYNC does not, where the file system
has it. Windows cannot sync a folder: NTFS writes changes of names to its log.
"""

import ctypes
import os
import sys
from pathlib import Path

if sys.platform == "win32":
    sync = os.fsync

    def sync_folder(folder: Path | str) -> None:
        """Make what was created, renamed and removed in a folder durable."""
        del folder

    def sync_all(folder: Path | str) -> None:
        """Make all of the folder's file system durable."""
        del folder  # it has no call that anybody may make: each file is synced by itself

elif sys.platform == "darwin":
    import fcntl
    from contextlib import suppress

    def sync(descriptor: int) -> None:
        """Make an open file durable."""
        os.fsync(descriptor)
        with suppress(OSError):  # over a network there is none
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)

else:

    def sync(descriptor: int) -> None:
        """Make an open file durable."""
        os.fsync(descriptor)


if sys.platform != "win32":
    _libc = ctypes.CDLL(None, use_errno=True)

    def sync_folder(folder: Path | str) -> None:
        """Make what was created, renamed and removed in a folder durable."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(folder: Path | str) -> None:
        """Make all of the folder's file system durable."""
        if not hasattr(_libc, "syncfs"):
            os.sync()
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc.syncfs(descriptor):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), os.fspath(folder))
        finally:
            os.close(descriptor)
