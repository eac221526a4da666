"""Modes: the permissions that the marks of a file ask for, and marks of several who set some."""

from phextsync.files.names import EXECUTABLE, PRIVATE


def mode_with(mode: int, marks: str, *, is_read_only: bool) -> int:
    """Return the mode of a new file to which the system gave `mode`."""
    if PRIVATE in marks:
        mode &= 0o700
    if EXECUTABLE in marks:
        mode |= (mode & 0o444) >> 2
    return mode & ~0o222 if is_read_only else mode


def mode_marked(mode: int, marks: str, *, is_read_only: bool) -> int:
    """Return the mode of a file whose marks were changed elsewhere: others may read it unless it
    is private, and execute what they may read if it is executable."""
    if PRIVATE not in marks and not mode & 0o077:
        mode |= (mode & 0o400) >> 3 | (mode & 0o400) >> 6
    return mode_with(mode & ~0o111, marks, is_read_only=is_read_only)


def merged_marks(base: str, mine: str, theirs: str) -> str:
    """Return `theirs` with what made `mine` of `base` done to it."""
    marks = (PRIVATE, EXECUTABLE)
    changed = [mark for mark in marks if (mark in mine) != (mark in base)]
    return "".join(mark for mark in marks if mark in (mine if mark in changed else theirs))
