"""Volumes: the kind of the file system of a path, where the system has no list of mounts."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

if sys.platform == "win32":
    _REMOTE: Final = 4  # DRIVE_REMOTE

    def kind_of(path: Path) -> str:
        """Return the kind of the file system that a path lies on; "" when it is not known."""
        drive = os.path.splitdrive(os.path.realpath(path))[0]
        is_remote = drive.startswith("\\\\") or (
            ctypes.windll.kernel32.GetDriveTypeW(f"{drive}\\") == _REMOTE
        )
        return "remote" if is_remote else ""

elif sys.platform == "darwin":
    _STATFS_BYTES: Final = 4096  # 2168, with 64 bits for an inode
    _KIND_AT: Final = 72
    _KIND_BYTES: Final = 16
    _libc = ctypes.CDLL(None, use_errno=True)

    def kind_of(path: Path) -> str:
        """Return the kind of the file system that a path lies on; "" when it is not known."""
        call = getattr(_libc, "statfs$INODE64", None) or getattr(_libc, "statfs", None)
        there = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
        buffer = ctypes.create_string_buffer(_STATFS_BYTES)
        if call is None or call(os.fsencode(there), buffer):
            return ""
        name = buffer.raw[_KIND_AT : _KIND_AT + _KIND_BYTES]
        return name.partition(b"\0")[0].decode("ascii", "replace")

else:

    def kind_of(path: Path) -> str:
        """Return the kind of the file system that a path lies on; "" when it is not known."""
        del path
        return ""
