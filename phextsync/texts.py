"""Texts: what a scroll can hold, what it cannot, and what is shown of it in a list."""

import re
from typing import Final

from phextsync.errors import TextError
from phextsync.index import Coordinate

BREAKS: Final = "\x01\x1f\x1e\x1d\x1c\x1a\x19\x18\x17"
"""The break of each dimension in a .phext file, from library to scroll."""

DIMENSIONS: Final = (
    *("library", "shelf", "series", "collection", "volume"),
    *("book", "chapter", "section", "scroll"),
)
"""What the nine numbers of a coordinate are called."""
TEXT_BYTES_MAX: Final = 32 << 20
"""Bytes of UTF-8 above which no edit makes the text of a scroll larger: half of what peers put
together of one, since the state of a scroll has more than its text."""
STATE_BYTES_MAX: Final = 2 * TEXT_BYTES_MAX
"""Bytes of the state of a scroll, its text and what is kept of who wrote where, up to which peers
take it, and no edit makes it larger."""

_HEAD_TIMES: Final = 4  # so many times what is shown of a line is looked at first
_FORBIDDEN: Final = re.compile(f"[\0{BREAKS}\ud800-\udfff]")


def check_text(text: str) -> None:
    """TextError when `text` has what no scroll can hold: a break character, a lone surrogate, or a
    zero byte, which neither a file of text nor most programs take. TypeError when it is not a
    text."""
    if not isinstance(text, str):
        raise TypeError(f"expected a text, found {type(text).__name__}")
    found = _FORBIDDEN.search(text)
    if found is None:
        return
    offset, character = found.start(), found[0]
    if character == "\0":
        raise TextError(
            f"expected text, found a zero byte (U+0000) at offset {offset}; leave it out"
        )
    if character in BREAKS:
        name = DIMENSIONS[BREAKS.index(character)]
        what = f"a {name} break (U+{ord(character):04X})"
    else:
        what = f"a lone surrogate (U+{ord(character):04X})"
    raise TextError(f"expected text without breaks, found {what} at offset {offset}; leave it out")


def is_too_large(before: int, after: int) -> bool:
    """Whether no edit may make a text of so many bytes one of so many: it may become smaller."""
    return before < after > TEXT_BYTES_MAX


def check_size(where: Coordinate, before: int, after: int) -> None:
    """TextError when an edit makes the text at a coordinate larger, in bytes, and too large."""
    if before < after > TEXT_BYTES_MAX:  # a call would take as long again
        raise TextError(
            f"{where}: expected a text of at most {TEXT_BYTES_MAX} bytes, found {after};"
            " part it over several scrolls"
        )


def too_large_state(size: int) -> str:
    """Say that the state of a scroll has more bytes than peers take, and what to do."""
    return (
        f"with all that was done to it it has {size} bytes, and peers take at most"
        f" {STATE_BYTES_MAX}; copy its text to another scroll and clear this one"
    )


def text_from(data: bytes) -> str:
    """Return the text that bytes of UTF-8 are. TextError when they are none that a scroll can
    hold."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise TextError(f"expected UTF-8, found other bytes at offset {error.start}") from error
    check_text(text)
    return text


def sendable(text: str) -> str:
    """Return what UTF-8 has of a text, and how the rest would be written: paths need not be
    UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def first_line(text: str, characters: int) -> str:
    """Return the beginning of the first line that is not blank."""
    head = text[: _HEAD_TIMES * characters].strip() or text.strip()
    return head.split("\n", 1)[0][:characters]
