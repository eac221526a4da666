"""Opening: how files are opened, read and written at a place.

Windows has no descriptors of folders, no flags that keep links from being followed, and calls that
read and write at a place of their own; its files are texts unless they are opened as bytes.
"""

import os
import sys
from typing import Final

if sys.platform == "win32":
    PRIVATE: Final = os.O_BINARY | os.O_NOINHERIT
    NO_LINK: Final = 0
    AT_ONCE: Final = 0

    def read_at(descriptor: int, count: int, at: int) -> bytes:
        """Return at most `count` bytes of an open file from a place on."""
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.read(descriptor, count)

    def write_at(descriptor: int, data: bytes, at: int) -> int:
        """Write into an open file at a place; return how many bytes were written."""
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.write(descriptor, data)

else:
    PRIVATE: Final = os.O_CLOEXEC
    """Flag: programs that are started do not get it."""
    NO_LINK: Final = os.O_NOFOLLOW
    """Flag: fails where the last part of the path is a link."""
    AT_ONCE: Final = os.O_NONBLOCK
    """Flag: does not wait for a pipe's other end."""
    read_at = os.pread
    write_at = os.pwrite

CAN_REPLACE_OPEN: Final = sys.platform != "win32"
"""Whether a file that is open can get another name."""
