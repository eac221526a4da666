"""Checkouts: whether version control writes files just now, as others may do of the same commit."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from phextsync.plain_files import read_file

RECENT_S: Final = 10.0
"""How long after a checkout moved its files may be new."""

_GIT: Final = ".git"
_IN_GIT: Final = ("index", "index.lock", "HEAD")
_OTHERS: Final = (".hg/dirstate", ".jj/op")
_LINK: Final = "gitdir: "  # in the place of a folder, in worktrees and submodules
_LINK_BYTES_MAX: Final = 8192


def is_moving(directory: Path, paths: Iterable[str]) -> bool:
    """Whether a checkout that files of a directory belong to was changed just now."""
    folders = {folder for path in paths for folder in Path(path).parents}
    if not folders:
        return False
    within = (directory / folder for folder in sorted(folders))
    return any(map(_is_changed, (*within, *directory.parents)))


def _is_changed(folder: Path) -> bool:
    git = _git_folder(folder / _GIT)
    return any(map(_is_recent, (*(git / name for name in _IN_GIT), *map(folder.joinpath, _OTHERS))))


def _is_recent(path: Path) -> bool:
    with suppress(OSError):
        return abs(time.time() - os.stat(path).st_mtime) <= RECENT_S
    return False


def _git_folder(path: Path) -> Path:
    with suppress(OSError, ValueError):  # also where the folder may not be looked into
        if path.is_file():
            text = read_file(path, _LINK_BYTES_MAX).decode()
            if text.startswith(_LINK):
                return path.parent / text.removeprefix(_LINK).strip()
    return path
