"""Entries: texts that are lists of entries, parted by a mark on a line of its own. Pure functions.

In the file the mark stands between entries, and nowhere else. In the scroll it ends each of them:
then two who add an entry apart, the first ones included, put in whole entries, and never one
without its mark. Every change is done to whole entries, so that none of two is made that nobody
wrote. An entry that stands twice is there once.
"""

from collections.abc import Iterable
from typing import Final

from phextsync.alignment import Work, changed_blocks
from phextsync.edits import Edit, lines_of, offsets_of
from phextsync.files.rules import merged_pieces

MARK: Final = "§"
"""The line that parts entries, as Hermes has it."""

_END: Final = f"\n{MARK}\n"


def entries_of(text: str) -> list[str]:
    """Return the entries of a file or a scroll, without blanks around them, each once."""
    whole = text.replace("\r\n", "\n").replace("\r", "\n")
    return [*dict.fromkeys(entry for piece in _pieces(whole) if (entry := _bare(piece)))]


def as_file(text: str) -> str:
    """Return the text that a file has of a scroll's entries."""
    return _END.join(entries_of(text))


def as_scroll(text: str) -> str:
    """Return the text that a scroll has of the entries of a file, or of a scroll in disorder."""
    return "".join(f"{entry}{_END}" for entry in entries_of(text))


def merged_entries(base: str, current: str, new: str) -> str:
    """Return `current` with the changes of entries that made `new` of `base`, as a scroll has it.
    An entry that both changed is there as each left it; one that either deleted is gone."""
    texts = (_pieces(as_scroll(text)) for text in (base, current, new))
    return as_scroll("".join(merged_pieces(*texts)))


def with_entries(text: str, more: Iterable[str]) -> str:
    """Return a scroll's text with entries behind those that it has."""
    return as_scroll(text + "".join(f"{_END}{entry}{_END}" for entry in more))


def entry_edits(old: str, new: str) -> list[Edit]:
    """Return ascending edits that make `new` of `old`, each of whole entries with their marks."""
    ours, theirs = _pieces(old), _pieces(new)
    offsets = offsets_of(ours)
    blocks = changed_blocks(ours, theirs, Work(len(old) + len(new)))
    return [(offsets[a], offsets[b], "".join(theirs[c:d])) for a, b, c, d in blocks]


def _pieces(text: str) -> list[str]:
    """Part a text behind each mark."""
    pieces = [""]
    for line in lines_of(text):
        pieces[-1] += line
        if line == f"{MARK}\n":
            pieces.append("")
    return pieces if pieces[-1] else pieces[:-1]


def _bare(piece: str) -> str:
    """Return an entry without blanks and marks around it."""
    lines = piece.strip().split("\n")
    while lines and lines[0].strip() in ("", MARK):
        del lines[0]
    while lines and lines[-1].strip() in ("", MARK):
        del lines[-1]
    return "\n".join(lines).strip()
