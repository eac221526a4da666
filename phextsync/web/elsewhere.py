"""Elsewhere: clients of Yjs at other nodes, told from node to node as facts of presence.

A node tells of as many of its clients as fit beside its other facts, by their names and cursors,
twice a second at most. What another node tells becomes awareness of the scrolls that are open here.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

import trio

from phextsync.crdt import ROOT
from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate
from phextsync.signals import Flag
from phextsync.sync.presence import PeerPresence, PresenceBoard
from phextsync.web.awareness import ELSEWHERE
from phextsync.web.open_scrolls import OpenScroll, OpenScrolls, Place

FACTS_BYTES_MAX: Final = 700
"""Of the facts of a node, which has 1,024 bytes of them: some eight clients."""

_PREFIX: Final = "yjs:"
_SESSION: Final = b"yjs"
_STATE_BYTES_MAX: Final = 200
_PAUSE_S: Final = 0.5
_PACKED: Final = "at"
_KEPT: Final = ("user", "cursor", _PACKED)  # of a state that is too large the first of them alone
_END: Final = re.compile(r"(?:([0-9]{1,16})\.([0-9]{1,16}))?")

_Told = dict[tuple[Place, int], tuple[int, str]]


class Elsewhere:
    """Tells other nodes of the clients here, and scrolls of the clients there."""

    def __init__(self, opened: OpenScrolls, board: PresenceBoard) -> None:
        self._opened = opened
        self._board = board
        self._changed = Flag()
        self._facts: dict[str, str | int] = {}
        self._known: dict[bytes, _Told] = {}  # by node
        opened.on_awareness = self._changed.set
        opened.on_open = self._fill
        board.subscribe(self._hear)

    async def run(self) -> None:
        """Tell of what changes until cancelled."""
        while True:
            await self._changed.take()
            self.tell()
            await trio.sleep(_PAUSE_S)

    def tell(self) -> None:
        """Tell of the clients here as they are, if they have changed."""
        facts = self._facts_now()
        if facts != self._facts:
            self._facts = facts
            try:
                self._board.publish(facts, _SESSION)
            except PhextsyncError:  # others tell so much of this node that there is no room
                self._board.publish({}, _SESSION)

    def _facts_now(self) -> dict[str, str | int]:
        facts: dict[str, str | int] = {}
        size = 0
        for scroll in self._opened.scrolls():
            phext, coordinate = scroll.place
            for client, clock, state in scroll.awareness.here():
                value = f"{coordinate} {clock} {_shortened(state)} {phext}"
                size += len(_PREFIX) + 16 + len(value.encode())
                if size > FACTS_BYTES_MAX:
                    return facts
                facts[f"{_PREFIX}{client:x}"] = value
        return facts

    def _hear(self, peer: PeerPresence) -> None:
        told = _told(peer.facts) if peer.is_here else {}
        before = self._known.pop(peer.node_id, {})
        if told:
            self._known[peer.node_id] = told
        for place, client in before.keys() - told.keys():
            scroll = self._opened.scroll(*place)
            if scroll is not None:
                scroll.awareness.remove(client)
        for (place, client), (clock, state) in told.items():
            scroll = self._opened.scroll(*place)
            if scroll is not None:
                scroll.awareness.put(ELSEWHERE, client, clock, state)

    def _fill(self, scroll: OpenScroll) -> None:
        """A scroll was opened here: its clients see those at other nodes."""
        for told in self._known.values():
            for (place, client), (clock, state) in told.items():
                if place == scroll.place:
                    scroll.awareness.put(ELSEWHERE, client, clock, state)


def _shortened(state: str) -> str:
    """Return a state in few bytes, without what is too much."""
    value = json.loads(state)
    if isinstance(value, dict) and (packed := _packed(value.get("cursor"))) is not None:
        value = {**value, _PACKED: packed}
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


def _told(facts: Mapping[str, str | int]) -> _Told:
    """Return what a node tells of its clients; what makes no sense is left out."""
    told: _Told = {}
    for name, value in facts.items():
        if not name.startswith(_PREFIX) or not isinstance(value, str):
            continue
        try:
            coordinate, clock, rest = value.split(" ", 2)
            state, end = json.JSONDecoder().raw_decode(rest)
            if not isinstance(state, dict) or rest[end] != " ":
                continue
            if isinstance(state.get(_PACKED), str):
                state["cursor"] = _unpacked(state.pop(_PACKED))
            place = rest[end + 1 :], Coordinate.parse(coordinate)
            client = int(name.removeprefix(_PREFIX), 16)
            if 0 <= client < 1 << 53 and 0 <= int(clock) < 1 << 53:
                # Written again: what Python reads, and JavaScript would not, is not passed on.
                told[place, client] = int(clock), json.dumps(state, allow_nan=False)
        except (ValueError, IndexError, RecursionError):
            continue
    return told
