"""Events: what changes in a phext, as server-sent events."""

import json
from collections.abc import Mapping
from typing import Final

from phextsync.replica.changes import Change

HEARTBEAT: Final = b":\n\n"
HEARTBEAT_S: Final = 15.0
"""How often a stream says that it lives."""


def events_of(change: Change) -> bytes:
    """Return a change as events, one for each scroll."""
    if change.missed is not None:
        return _event("reset", {"phext": change.phext})
    rows = (
        {
            "phext": change.phext,
            "coordinate": str(coordinate),
            "origin": change.origin.hex() if change.origin else None,
            "label": change.label,
        }
        for coordinate in change.coordinates
    )
    return b"".join(_event("change", row) for row in rows)


def _event(name: str, row: Mapping[str, str | None]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(row)}\n\n".encode()
