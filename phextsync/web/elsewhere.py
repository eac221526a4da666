"""Elsewhere: clients of Yjs at other nodes, told from node to node as facts of presence.

A node tells of as many of its clients as fit beside its other facts, by their names and cursors,
twice a second at most. What another node tells, or another process at this one, becomes awareness
of the scrolls that are open here.
"""

from typing import Final

import trio

from phextsync.errors import PhextsyncError
from phextsync.gateways.told_cursors import PREFIX, Told, fact_of, told_by
from phextsync.plain_values import read_json
from phextsync.signals import Flag
from phextsync.sync.presence import PeerPresence, PresenceBoard
from phextsync.web.awareness import ELSEWHERE
from phextsync.web.open_scrolls import OpenScroll, OpenScrolls

FACTS_BYTES_MAX: Final = 700
"""Of the facts of a node, which has 1,024 bytes of them: some eight clients."""

_SESSION: Final = b"yjs"
_HERE: Final = b""  # in the place of a node id
_PAUSE_S: Final = 0.5
_NAME_BYTES: Final = len(PREFIX) + 16


class Elsewhere:
    """Tells other nodes of the clients here, and scrolls of the clients there."""

    def __init__(self, opened: OpenScrolls, board: PresenceBoard) -> None:
        self._opened = opened
        self._board = board
        self._changed = Flag()
        self._facts: dict[str, str | int] = {}
        self._known: dict[bytes, Told] = {}  # by node
        opened.on_awareness = self._changed.set
        opened.on_open = self._fill
        board.subscribe(self._hear)
        board.on_told_here = self._hear_processes

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
            for client, clock, state in scroll.awareness.here():
                told = read_json(state)
                name, value = fact_of(scroll.place, client, clock, told)
                size += _NAME_BYTES + len(value.encode())
                if size > FACTS_BYTES_MAX:
                    return facts
                facts[name] = value
        return facts

    def _hear(self, peer: PeerPresence) -> None:
        self._take(peer.node_id, told_by(peer.facts) if peer.is_here else {})

    def _hear_processes(self) -> None:
        self._take(_HERE, told_by(self._board.told_here(_SESSION)))

    def _take(self, node_id: bytes, told: Told) -> None:
        before = self._known.pop(node_id, {})
        if told:
            self._known[node_id] = told
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
