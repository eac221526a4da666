"""Pieces: the past of a scroll as the store keeps it.

When a log is folded into the state, its entries become one more *piece*, compressed; pieces that
were folded too long ago become part of the *base*, the state before everything that is known
singly. How old a piece is is judged by our own clock alone.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from phextsync.crdt import merge_updates
from phextsync.store.contract import LogEntry, StoredScroll

BASE: Final = 0
"""The number of the base among the pieces; the others follow."""

_FOLDED: Final = struct.Struct(">Q")  # when, before the compressed entries
_ENTRY: Final = struct.Struct(">QBI")

Changes: TypeAlias = dict[int | None, bytes]
"""Pieces to write by number; an empty one is removed, and all that there are with None."""


def first_pieces(state: bytes, now_ms: int) -> Changes:
    """Return what to write when all that is known of a scroll is its state of now."""
    return {None: b"", BASE: _piece(now_ms, LogEntry(state, b"", now_ms))}


def fold(
    stored: StoredScroll | None,
    last: int,
    news: Sequence[LogEntry],
    now_ms: int,
    began_ms: int,
) -> Changes:
    """Return what to write when a scroll's log and `news` become part of its state; `last`
    is the number of its newest piece, -1 when there is none."""
    state, log = (None, ()) if stored is None else (stored.state, stored.log)
    entries = (*log, *news)
    changed: Changes = {}
    if entries:
        if last < BASE and state is not None:
            known_ms = min(began_ms, entries[0].time_ms)
            changed[BASE] = _piece(now_ms, LogEntry(state, b"", known_ms))
        changed[1 + max(last, BASE)] = _piece(now_ms, *entries)
    return changed


def prune(pieces: Mapping[int, bytes], since_ms: int) -> Changes:
    """Return what to write to forget what was folded before a time.
    `pieces` are the oldest of a scroll, ascending, none of them damaged."""
    old: list[LogEntry] = []
    numbers = []
    folded_ms = 0
    for number, piece in pieces.items():
        if number != BASE:
            piece_ms = _FOLDED.unpack_from(piece)[0]
            if piece_ms >= since_ms:
                break
            folded_ms = max(folded_ms, piece_ms)
            numbers.append(number)
            old += entries_of(piece)
    if not numbers:
        return {}
    base = entries_of(pieces.get(BASE, b""))  # none before the first text of a scroll
    merged = merge_updates([entry.update for entry in (*base, *old)])
    # A clock that is far ahead does not hide what is kept.
    known_ms = min(folded_ms, max(entry.time_ms for entry in old))
    return {
        **dict.fromkeys(numbers, b""),
        BASE: _piece(folded_ms, LogEntry(merged, b"", known_ms)),
    }


def entries_of(piece: bytes) -> list[LogEntry]:
    """Return what is in a piece; nothing in one that is damaged, which comes as empty."""
    data = zlib.decompress(piece[_FOLDED.size :]) if piece else b""
    entries = []
    at = 0
    while at < len(data):
        time_ms, origin_bytes, update_bytes = _ENTRY.unpack_from(data, at)
        middle = at + _ENTRY.size + origin_bytes
        at = middle + update_bytes
        entries.append(LogEntry(data[middle:at], data[middle - origin_bytes : middle], time_ms))
    return entries


def _piece(folded_ms: int, *entries: LogEntry) -> bytes:
    body = b"".join(
        _ENTRY.pack(entry.time_ms, len(entry.origin), len(entry.update))
        + entry.origin
        + entry.update
        for entry in entries
    )
    return _FOLDED.pack(folded_ms) + zlib.compress(body, 1)  # the batch waits for this
