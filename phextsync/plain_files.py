"""Plain files: read where they are files and have an end, and never waited for.

What comes from elsewhere, a pipe as well, is read up to a bound.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from phextsync.systems.opening import AT_ONCE, PRIVATE

_BYTES_MAX: Final = 64 << 20
_PIECE_BYTES: Final = 1 << 20


def read_file(path: Path, bytes_max: int = _BYTES_MAX) -> bytes:
    """Return what a file holds. OSError, which names it, also where it has more bytes, or is no
    file: a pipe would keep its reader waiting for ever, and a device may have no end."""
    descriptor = os.open(path, os.O_RDONLY | AT_ONCE | PRIVATE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            found = "expected a file, found a pipe, a device or a folder"
            raise OSError(errno.EINVAL, found, str(path))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"expected at most {bytes_max} bytes, found more", str(path))
    return data


def read_at_most(source: BinaryIO, bytes_max: int) -> bytes | None:
    """Return what a source has until its end; None where that is more than `bytes_max`. Takes
    memory for what is there, not for what may be."""
    pieces, left = [], bytes_max
    while piece := source.read(min(_PIECE_BYTES, left + 1)):
        left -= len(piece)
        if left < 0:
            return None
        pieces.append(piece)
    return b"".join(pieces)
