"""Drafts: where files lie that are not yet at their paths, or not any more."""

from contextlib import suppress
from hashlib import blake2b
from typing import Final

from phextsync.files.filesystem import FileSystem

_DRAFT: Final = ".phextsync-"
_DRAFT_CHARACTERS: Final = len(_DRAFT) + 16


def draft_of(path: str) -> str:
    """Return where a new file is written before it comes to lie at a path."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{_DRAFT}{blake2b(name.encode(), digest_size=8).hexdigest()}"


def aside_of(path: str) -> str:
    """Return where a file lies while another takes its place; a scan takes it for a draft."""
    folder, slash, name = path.rpartition("/")
    digest = blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{folder}{slash}{_DRAFT}o{digest[1:]}"


def put(files: FileSystem, path: str, data: bytes, mode: int) -> None:
    """Let a file with these bytes lie at a path of the node's own, whatever lay there: whole, or
    not at all. OSError when it cannot."""
    draft = draft_of(path)
    with suppress(FileNotFoundError):
        files.unlink(draft)
    files.write(draft, data, mode)
    files.rename(draft, path)
    files.sync_folder(path.rpartition("/")[0])


def is_draft(name: str) -> bool:
    """Whether a file has the name of a draft, or lies aside."""
    return len(name) == _DRAFT_CHARACTERS and name.startswith(_DRAFT)
