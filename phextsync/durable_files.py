"""Files that are written whole or not at all, whatever ends the process or the machine."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from phextsync.systems.locking import lock
from phextsync.systems.opening import CAN_REPLACE_OPEN, NO_LINK, PRIVATE
from phextsync.systems.rights import set_mode
from phextsync.systems.syncing import sync, sync_folder

_DRAFT: Final = ".new"


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put a file of this mode with `data` at `path`, durably, in place of one that is there.

    At every moment, also after a power cut, `path` is the old file or the new one, whole. Of two
    that write at once, one is the last. OSError leaves the old file, and no other behind; a crash
    may leave `path` + `.new`, which the next write uses up.
    """
    own = "" if CAN_REPLACE_OPEN else f".{os.getpid()}-{os.urandom(4).hex()}"
    draft = path.with_name(path.name + own + _DRAFT)
    descriptor = open_locked(draft)
    try:
        try:
            os.ftruncate(descriptor, 0)  # what a crash left
            set_mode(descriptor, mode)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            sync(descriptor)
            if not CAN_REPLACE_OPEN:
                os.close(descriptor)
                descriptor = -1
            os.replace(draft, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder of mode 0700, and those above it, durably, where there is none: a file in it
    is no more durable than the folder."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in made:
        with suppress(PermissionError):  # of one that may be written, not read
            sync_folder(each.parent)


def open_locked(path: Path) -> int:
    """Open or make a file that nobody else has locked until it is closed: wait for who has it."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | NO_LINK | PRIVATE
        descriptor = os.open(path, flags, 0o600)
        try:
            lock(descriptor)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another has moved or removed it meanwhile


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
