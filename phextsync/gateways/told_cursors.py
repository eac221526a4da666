"""Told cursors: who is at which scroll with which cursor, as facts of presence say it.

Each client has one fact: `yjs:` with its number, and as its value the coordinate, a clock that
grows, a state as JSON, and the phext. A state has `user` with a `name`, and `cursor` as Yjs has it,
of which the fact holds `at`: the ids of the characters before which its two ends are.
"""

import json
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from phextsync.crdt import ROOT
from phextsync.index import Coordinate
from phextsync.plain_values import read_json_at

Place: TypeAlias = tuple[str, Coordinate]
"""A phext and a coordinate."""

Told: TypeAlias = dict[tuple[Place, int], tuple[int, str]]
"""Clock and state of each client at each place."""

PREFIX: Final = "yjs:"

_STATE_BYTES_MAX: Final = 200
_PACKED: Final = "at"
_KEPT: Final = ("user", "cursor", _PACKED)  # of a state that is too large the first of them alone
_END: Final = re.compile(r"(?:([0-9]{1,16})\.([0-9]{1,16}))?")


def fact_of(place: Place, client: int, clock: int, state: Mapping[str, object]) -> tuple[str, str]:
    """Return name and value of the fact about a client, without what is too much of its state."""
    phext, coordinate = place
    return f"{PREFIX}{client:x}", f"{coordinate} {clock} {_shortened(state)} {phext}"


def told_by(facts: Mapping[str, str | int]) -> Told:
    """Return what the facts of a node say of clients; what makes no sense is left out."""
    told: Told = {}
    for name, value in facts.items():
        if not name.startswith(PREFIX) or not isinstance(value, str):
            continue
        try:
            coordinate, clock, rest = value.split(" ", 2)
            state, end = read_json_at(rest)
            if not isinstance(state, dict) or rest[end] != " ":
                continue
            if isinstance(state.get(_PACKED), str):
                state["cursor"] = _unpacked(state.pop(_PACKED))
            place = rest[end + 1 :], Coordinate.parse(coordinate)
            client = int(name.removeprefix(PREFIX), 16)
            if 0 <= client < 1 << 53 and 0 <= int(clock) < 1 << 53:
                # Written again: what Python reads, and JavaScript would not, is not passed on.
                told[place, client] = int(clock), json.dumps(state, allow_nan=False)
        except (ValueError, IndexError):
            continue
    return told


def end_of(position: str) -> dict[str, object]:
    """Return the end of a cursor at a position of a scroll before a character, as Yjs has it."""
    client, clock, _ = position[1:].split(".") if len(position) > 1 else ("", "", "")
    return _unpacked_end(f"{int(client, 16)}.{int(clock, 16)}" if client else "")


def position_of(end: object) -> str | None:
    """Return the position of a scroll at which the end of a cursor is, None for what has none."""
    packed = _packed_end(end)
    if not packed:
        return None if packed is None else ">"
    client, clock = map(int, packed.split("."))
    return f">{client:x}.{clock:x}.1"


def _shortened(state: Mapping[str, object]) -> str:
    """Return a state in few bytes, without what is too much."""
    value = {**state}
    if (packed := _packed(value.get("cursor"))) is not None:
        value[_PACKED] = packed
        del value["cursor"]
    for keys in (_KEPT, _KEPT[:1]):
        kept = {key: value[key] for key in keys if key in value}
        short = json.dumps(kept, separators=(",", ":"))
        if len(short) <= _STATE_BYTES_MAX:
            return short
    return "{}"


def _packed(cursor: object) -> str | None:
    """Return a cursor in a tenth of its bytes: the ids of the characters before which its ends are,
    nothing for the end of the text. None for one that has more to it."""
    match cursor:
        case {"anchor": anchor, "head": head}:
            ends = _packed_end(anchor), _packed_end(head)
            return None if ends[0] is None or ends[1] is None else f"{ends[0]},{ends[1]}"
    return None


def _packed_end(position: object) -> str | None:
    match position:
        case {"assoc": assoc} if assoc != 0:
            return None
        case {"item": {"client": int(client), "clock": int(clock)}}:
            return f"{client}.{clock}"
        case {"item": None, "tname": str(name)} if name == ROOT:
            return ""
    return None


def _unpacked(packed: str) -> dict[str, object]:
    """Return what `_packed` made short. ValueError when it is nothing of it."""
    anchor, head = packed.split(",")
    return {"anchor": _unpacked_end(anchor), "head": _unpacked_end(head)}


def _unpacked_end(packed: str) -> dict[str, object]:
    found = _END.fullmatch(packed)
    if found is None:
        raise ValueError(f"expected the id of a character, found {packed!r:.40}")
    item = {"client": int(found[1]), "clock": int(found[2])} if packed else None
    return {"type": None, "tname": ROOT, "item": item, "assoc": 0}
