"""Locking: locks of files that end with the process, however it ends.

POSIX systems lock a file as a whole (`flock`), Windows a range of its bytes: one byte far behind
the end, so that the file can be read by all.
"""

import errno
import os
import sys
from typing import Final

if sys.platform == "win32":
    import msvcrt

    _BYTE: Final = 1 << 30

    def lock(descriptor: int) -> None:
        """Take the lock of an open file, for as long as it is open; wait for who holds it."""
        while True:
            try:
                _locked(descriptor, msvcrt.LK_LOCK)  # which tries for ten seconds
                return
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise

    def try_lock(descriptor: int, *, is_shared: bool = False) -> None:
        """As `lock`, without waiting. BlockingIOError when another holds it."""
        del is_shared  # there are none; who only looks holds it for a moment
        try:
            _locked(descriptor, msvcrt.LK_NBLCK)
        except PermissionError as error:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def _locked(descriptor: int, how: int) -> None:
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, how, 1)
        finally:
            os.lseek(descriptor, at, os.SEEK_SET)

else:
    import fcntl

    def lock(descriptor: int) -> None:
        """Take the lock of an open file, for as long as it is open; wait for who holds it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def try_lock(descriptor: int, *, is_shared: bool = False) -> None:
        """As `lock`, without waiting. BlockingIOError when another holds it."""
        fcntl.flock(descriptor, fcntl.LOCK_NB | (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX))
