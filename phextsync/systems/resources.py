"""Resources: how many files may be open, how large a map and a name may be."""

import os
import sys
from contextlib import suppress
from typing import Final

if sys.platform == "win32":
    MAP_BYTES: Final = 4 << 30  # a file is as large as its map there

    def open_files_max() -> int | None:
        """Return how many files this process may have open, None for any number."""
        return None

else:
    import resource

    MAP_BYTES: Final = 1 << 40
    """How large a file that is mapped may become: address space, nothing else."""

    def open_files_max() -> int | None:
        """Return how many files this process may have open, None for any number."""
        limit: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return None if limit == resource.RLIM_INFINITY else limit


OPEN_FILES: Final = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
"""A folder that has each open file of this process, by its number; Windows has none."""


def open_files() -> int:
    """Return how many files this process has open; 0 where the system does not tell."""
    with suppress(OSError):
        # The size since Linux 6.2.
        size = os.stat(OPEN_FILES).st_size if sys.platform == "linux" else 0
        return size or len(os.listdir(OPEN_FILES))
    return 0


def reserve(descriptor: int, size: int) -> None:
    """Let an open file have at least `size` bytes, on the disk. OSError where there is no space."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    piece = bytes(1 << 16)
    missing = size - os.lseek(descriptor, 0, os.SEEK_END)
    while missing > 0:
        missing -= os.write(descriptor, piece[:missing])


def part_bytes_max(folder: str) -> int:
    """Return how many bytes a name in a folder may have; 255 where the system does not tell."""
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            return os.pathconf(folder, "PC_NAME_MAX")
    return 255
