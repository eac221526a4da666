"""Private files: keys on disk, written whole, and refused when others may have read them."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from phextsync.durable_files import make_folder, write_whole
from phextsync.errors import IdentityError
from phextsync.plain_files import read_file

IDENTITY_FILE: Final = "identity.pem"
AUTHORITY_FILE: Final = "authority.pem"
PENDING_FILE: Final = "request.pem"
_FILE_BYTES_MAX: Final = 64 << 10
_MADE_BY: Final = {
    IDENTITY_FILE: "`phextsync init` or `join`",
    AUTHORITY_FILE: "`phextsync init --administered`",
    PENDING_FILE: "`phextsync request`",
}
_MADE_AGAIN_BY: Final = {
    IDENTITY_FILE: "join the mesh again, where the scrolls stay: `phextsync join`",
    AUTHORITY_FILE: "begin a new mesh: `phextsync init --administered`",
    PENDING_FILE: "ask again: `phextsync request`",
}


def save_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600, whole or not at all, into a folder that is made if necessary."""
    try:
        make_folder(path.parent)
        write_whole(path, data)
    except OSError as error:
        raise IdentityError(f"{path} cannot be written: {error.strerror}") from error


def read_private(path: Path) -> bytes:
    """Return what a private file holds. IdentityError where it is not there, cannot be read, is
    too large, or others may read it."""
    try:
        data = read_file(path, _FILE_BYTES_MAX)
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError as error:
        how = f"make it with {_MADE_BY[path.name]}"
        if path.name == IDENTITY_FILE and (path.parent / PENDING_FILE).exists():
            how = "`phextsync accept` makes it of the certificate that was requested"
        raise IdentityError(f"there is no {path.name} in {path.parent}: {how}") from error
    except PermissionError as error:
        whose = "it has to belong to the user who runs the node"
        raise IdentityError(f"{path} cannot be read: {error.strerror}; {whose}") from error
    except OSError as error:
        raise IdentityError(f"{path} cannot be read: {error.strerror}") from error
    if os.name == "posix" and mode & 0o077:
        raise IdentityError(f"{path} has mode {mode:04o}, expected 0600: others may have read it")
    return data


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of what is wrong with a private file in the block which file it is, and what to do."""
    try:
        yield
    except IdentityError as error:
        raise IdentityError(
            f"{path} is damaged: {error}; put a copy of it back, or move it away and "
            f"{_MADE_AGAIN_BY[path.name]}"
        ) from error
