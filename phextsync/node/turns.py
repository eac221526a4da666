"""Turns: whom to dial next, of nodes of which one is enough. No IO, no clock.

Nodes may be gone and nobody knows yet: two are dialled at first, the next one as soon as a dial
fails or has had about the time that one takes. What RFC 8305 does with addresses of a host, this
does with holders of a range.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from phextsync.sync.questions import HEDGE_S

FIRST_S: Final = 0.25
"""The longest head start of one dial over the next, as RFC 8305 has it."""
HANGS_S: Final = 0.5
"""After which a dial that has no answer keeps no other from being made."""

_FIRST: Final = 2
_AT_ONCE: Final = 4
_ROUND_TRIPS: Final = 3  # that a dial takes
_LAST_S: Final = 1.0  # that the last one has


class Turns:
    """Of nodes, the preferred ones first. `round_trip_s`: the longest that is known."""

    def __init__(self, node_ids: Iterable[bytes], round_trip_s: float = 0.0) -> None:
        self._waiting = deque(node_ids)
        self._rest_s = min(max(HEDGE_S, _ROUND_TRIPS * round_trip_s), FIRST_S)
        self.dialled: dict[bytes, float] = {}  # since when
        self._failed: dict[bytes, None] = {}
        self._next = 0.0

    def failed(self, now: float, node_id: bytes) -> None:
        """A dial of a node came to nothing: the next one goes at once."""
        if node_id not in self._failed:
            self._failed[node_id] = None
            self._next = now

    def take(self, now: float) -> list[bytes]:
        """Return whom to dial now."""
        taken: list[bytes] = []
        while self._waiting and now >= self.due:
            taken.append(self._waiting.popleft())
            self.dialled[taken[-1]] = now
            self._next = now + self._rest_s if len(self.dialled) >= _FIRST else now
        return taken

    @property
    def due(self) -> float:
        """When to take again; where nobody is left, when to wait no longer."""
        if not self._waiting:
            return max(self.dialled.values(), default=0.0) + (_LAST_S if self.dialled else 0.0)
        silent = [since for each, since in self.dialled.items() if each not in self._failed]
        has_room = len(silent) < _AT_ONCE
        return self._next if has_room else max(self._next, silent[-_AT_ONCE] + HANGS_S)
