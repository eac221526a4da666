"""Ignoring: which files of a bound directory are left alone.

Others write the patterns. One with many stars would take for ever on a name that nearly fits, so
none is tried at more places than it has to be.
"""

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

_STAR: Final = "[^/]*"
_FOLDERS: Final = {"(?:/.+)?": "(?:/.+?)??", "(?:.+/)?": "(?:.+?/)??"}  # and with the fewest parts
_TOKEN: Final = re.compile(
    r"\[\^/\]\*|\(\?:/\.\+\)\?|\(\?:\.\+/\)\?|\\.|\[\^?\]?(?:\\.|[^]])*\]|.", re.S
)
_NOT: Final = re.compile(r"\[\^(?!/\])")  # any but some, and no slash: so has it git
_ONE: Final = re.compile(r"\\.|(?:\(\?!/\))?\[.+\]|[^\\/()|$^?+*{}]", re.S)  # matches one character


class Ignoring:
    """The rules of one directory: hidden files, what is left behind by other programs, and the
    patterns of its ignore file, which may also take back the second with `!`."""

    def __init__(self, text: str = "") -> None:
        """`text` is that of the ignore file. PhextsyncError when a pattern is not one."""
        try:
            self._spec = _spec_of(text) if text.strip() else None
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


def _spec_of(text: str) -> GitIgnoreSpec:
    """Return the patterns of a text. ValueError when one is not one."""
    patterns = GitIgnoreSpec.from_lines(text.splitlines()).patterns
    quick = [
        type(each)(re.compile(without_retries(each.regex.pattern)), each.include)
        for each in patterns
        if each.regex is not None
    ]
    return GitIgnoreSpec(quick, backend="simple")


def without_retries(regex: str) -> str:
    """Return a regular expression for the same paths as that of a pattern. What stands between two
    stars, or between two `**`, counts where it is found first: were it to be looked for further on,
    less would be left for the rest. Those of a pattern with many stars take a time that grows with
    a power as high as their number."""
    tokens = [f"(?!/){token}" if _NOT.match(token) else token for token in _TOKEN.findall(regex)]
    deep = [i for i, token in enumerate(tokens) if token in _FOLDERS]
    text = _first_found(tokens[: deep[0]] if deep else tokens)
    for i, at in enumerate(deep):
        if at == deep[-1]:
            text += tokens[at] + _first_found(tokens[at + 1 :])
        else:
            text += f"(?>{_FOLDERS[tokens[at]]}{_first_found(tokens[at + 1 : deep[i + 1]])}(?=/))"
    return text


def _first_found(tokens: list[str]) -> str:
    """Return the regular expression of some tokens without `**`."""
    text, start = "", 0
    for i in [i for i, token in enumerate(tokens) if token == _STAR]:
        between = tokens[start + 1 : i]
        is_between = start < i and tokens[start] == _STAR and all(map(_ONE.fullmatch, between))
        text += f"(?>{_STAR}?{''.join(between)})" if is_between else "".join(tokens[start:i])
        start = i
    return text + "".join(tokens[start:])
