"""Renaming: two names exchanged, a name that nobody has, and when a file was made.

Linux has `renameat2` and `statx`, macOS `renamex_np` and the time in `stat`. OSError with EINVAL
where the system or the file system has no such call: other ways have to do.
"""

import ctypes
import errno
import os
import struct
import sys
from typing import Final

_UNKNOWN: Final = 0

if sys.platform == "win32":

    def exchange(one: str, other: str) -> None:
        """Exchange the files of two paths."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), one, None, other)

    def rename_new(path: str, new: str) -> None:
        """Give a file a path that nothing has. FileExistsError otherwise."""
        os.rename(path, new)  # which replaces nothing there

    def born_ns(descriptor: int) -> int:
        """Return when an open file was made; 0 where the system does not tell."""
        return int(getattr(os.fstat(descriptor), "st_birthtime_ns", _UNKNOWN))  # of Python 3.12

elif sys.platform == "darwin":
    _SWAP: Final = 2
    _EXCL: Final = 4
    _libc = ctypes.CDLL(None, use_errno=True)

    def exchange(one: str, other: str) -> None:
        """Exchange the files of two paths."""
        _rename(one, other, _SWAP)

    def rename_new(path: str, new: str) -> None:
        """Give a file a path that nothing has. FileExistsError otherwise."""
        _rename(path, new, _EXCL)

    def born_ns(descriptor: int) -> int:
        """Return when an open file was made; 0 where the system does not tell."""
        return int(getattr(os.fstat(descriptor), "st_birthtime", _UNKNOWN) * 1e9)

    def _rename(path: str, new: str, flags: int) -> None:
        call = getattr(_libc, "renamex_np", None)
        if call is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        if call(os.fsencode(path), os.fsencode(new), ctypes.c_uint(flags)):
            number = ctypes.get_errno()
            number = errno.EINVAL if number == errno.ENOTSUP else number
            raise OSError(number, os.strerror(number), path)

else:
    _AT_FDCWD: Final = -100
    _AT_EMPTY_PATH: Final = 0x1000
    _NOREPLACE: Final = 1
    _EXCHANGE: Final = 2
    _STATX_BTIME: Final = 0x800
    _STATX_BYTES: Final = 256
    _BORN: Final = struct.Struct("=qI")  # seconds, nanoseconds
    _BORN_AT: Final = 80
    _libc = ctypes.CDLL(None, use_errno=True)
    _HAS_ALL: Final = hasattr(_libc, "renameat2") and hasattr(_libc, "statx")

    def exchange(one: str, other: str) -> None:
        """Exchange the files of two paths."""
        _rename(one, other, _EXCHANGE)

    def rename_new(path: str, new: str) -> None:
        """Give a file a path that nothing has. FileExistsError otherwise."""
        _rename(path, new, _NOREPLACE)

    def born_ns(descriptor: int) -> int:
        """Return when an open file was made; 0 where the system does not tell."""
        if not _HAS_ALL:
            return _UNKNOWN
        buffer = ctypes.create_string_buffer(_STATX_BYTES)
        if _libc.statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer):
            return _UNKNOWN
        (mask,) = struct.unpack_from("=I", buffer.raw)
        seconds, nanoseconds = _BORN.unpack_from(buffer.raw, _BORN_AT)
        return int(seconds * 1_000_000_000 + nanoseconds) if mask & _STATX_BTIME else _UNKNOWN

    def _rename(path: str, new: str, flags: int) -> None:
        if not _HAS_ALL:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        paths = os.fsencode(path), os.fsencode(new)
        if _libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flags):
            number = ctypes.get_errno()
            number = errno.EINVAL if number == errno.ENOSYS else number
            raise OSError(number, os.strerror(number), path)
