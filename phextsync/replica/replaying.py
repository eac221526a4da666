"""Replaying: a scroll as it was, made once more of updates that are kept."""

from typing import Final

from phextsync.crdt import Scroll
from phextsync.index import Coordinate
from phextsync.store.contract import LogEntry

CLIENT: Final = 1
"""The client id of scrolls in which nothing is written."""


def opened(place: Coordinate, base: LogEntry | None) -> Scroll:
    """Return the scroll as it was before all entries."""
    return Scroll(place, CLIENT, () if base is None else (base.update,))


def apply_some(scroll: Scroll, waiting: list[LogEntry]) -> list[LogEntry]:
    """Apply those of the waiting entries that build on what is there, and return them."""
    applied: list[LogEntry] = []
    is_new = True
    while is_new:
        is_new = False
        for entry in tuple(waiting):
            found = scroll.apply(entry.update)
            if found.covered:
                waiting.remove(entry)
                applied += [entry] if found.update is not None else []
                is_new = True
    return applied
