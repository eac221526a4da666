"""Ignoring: which files of a bound directory are left alone."""

import re
from fnmatch import translate
from typing import Final

from pathspec import GitIgnoreSpec

from phextsync.errors import PhextsyncError

IGNORE_FILE: Final = ".phextsyncignore"
"""A file of patterns as in a .gitignore. It is hidden and synchronised all the same."""

# What editors, browsers and other programs leave next to the file that they write.
_LEFT_BEHIND: Final = (
    *("*~", "#*#", "*.sw?", "*.swpx", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload"),
    *("*.bak", "*.bak?", "*.orig", "*.rej", "*.old~", "*.kate-swp", "*___jb_*___", "~$*", "*.sb-*"),
    *("4913", "__pycache__", "Thumbs.db", "desktop.ini", "Icon\r"),
)
_LEFT: Final = re.compile("|".join(f"(?:{translate(pattern)})" for pattern in _LEFT_BEHIND))


class Ignoring:
    """The rules of one directory: hidden files, what is left behind by other programs, and the
    patterns of its ignore file, which may also take back the second with `!`."""

    def __init__(self, text: str = "") -> None:
        """`text` is that of the ignore file. PhextsyncError when a pattern is not one."""
        try:
            self._spec = GitIgnoreSpec.from_lines(text.splitlines()) if text.strip() else None
        except ValueError as error:
            raise PhextsyncError(f"expected patterns as in a .gitignore: {error}") from error

    def covers(self, path: str, *, is_folder: bool = False) -> bool:
        """Whether a file, or a folder with all in it, is left alone."""
        if path == IGNORE_FILE:
            return False
        parts = path.split("/")
        if any(part.startswith(".") for part in parts):
            return True
        if self._spec is not None:
            decided = self._spec.check_file(f"{path}/" if is_folder else path).include
            if decided is not None:
                return decided
        return any(_LEFT.match(part) for part in parts)
