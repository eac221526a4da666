"""Names of phexts: which there may be, how many, and which are the library's own."""

from functools import lru_cache
from typing import Final, TypeGuard

from phextsync.errors import PhextsyncError

PHEXTS_MAX: Final = 256
"""Phexts of one node, and so of one peer. Each costs 110 KB in memory."""


@lru_cache(PHEXTS_MAX)  # every frame of updates has one
def is_phext_name(name: str) -> TypeGuard[str]:
    """Whether `name` may name a phext: 1 to 255 bytes, no control characters, no slash."""
    return (
        0 < len(name.encode("utf-8", "replace")) <= 255
        and name.isprintable()
        and "/" not in name
        and "\\" not in name
    )


def checked_name(name: str) -> str:
    """PhextsyncError when `name` cannot name a phext, TypeError when it is no text."""
    if not isinstance(name, str):
        raise TypeError(f"expected the name of a phext, found {type(name).__name__}")
    if not is_phext_name(name):
        raise PhextsyncError(f"expected the name of a phext, found {name!r:.60}")
    return name


def is_reserved(name: str) -> bool:
    """Whether a phext belongs to the library or to one of its doors: its name begins with a dot.
    Nobody reads or writes it by name from outside of the library."""
    return name.startswith(".")
