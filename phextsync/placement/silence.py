"""Silence: for how long a node has heard nothing of members, and whether it is to say so.

No single clock decides that a member is absent. Each node counts only time in which it was awake
and heard of more than half of all members: one that was cut off, or has just started, counts
nothing that it did not see, and of the parts of a mesh at most one goes on counting. Three members
have to say the same (`members.is_absent`).
"""

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Final

from phextsync.placement.members import witnesses

_STEP_MAX_S: Final = 30.0  # of time between two looks: for the rest it was asleep
_NEXT_S: Final = 10.0  # after which one witness more says it, in case one of the first cannot
_PER_MEMBER_S: Final = 0.15  # of silence at least: of many members each tells less often


class Silence:
    """What one node has heard of members. `look` has to be called every few seconds."""

    def __init__(self, node_id: bytes) -> None:
        self.sees_most = False
        """Whether it heard lately of more than half of the members."""
        self._node_id = node_id
        self._counted_s = 0.0
        self._looked_at: float | None = None
        self._words: dict[bytes, float | None] = {}
        self._since: dict[bytes, float] = {}

    def look(self, now: float, members: Collection[bytes], heard: Mapping[bytes, float]) -> None:
        """It is `now`, and the members in `heard` are there: of each the time of its last word."""
        step_s = 0.0 if self._looked_at is None else min(now - self._looked_at, _STEP_MAX_S)
        self._looked_at = now
        words = {m: now if m == self._node_id else heard.get(m) for m in members}
        here = sum(word is not None for word in words.values())
        self.sees_most = 2 * here > len(words)
        if self.sees_most:
            self._counted_s += max(0.0, step_s)
        for member, word in words.items():
            if word is not None or member not in self._since:
                self._since[member] = self._counted_s
        for gone in self._since.keys() - words.keys():
            del self._since[gone]
        self._words = words

    def silent_s(self, member: bytes) -> float:
        """Return for how many seconds nothing was heard of a member, 0 for one that is unknown."""
        return self._counted_s - self._since.get(member, self._counted_s)

    def is_here(self, member: bytes) -> bool:
        """Whether a member was there at the last look."""
        return self._words.get(member) is not None

    def is_to_say(self, member: bytes, after_s: int) -> bool:
        """Whether this node is one of those that are to say that a member is silent for so long:
        the first by a digest, and in time more of them."""
        over_s = self.silent_s(member) - max(after_s, _PER_MEMBER_S * len(self._words))
        if not self.sees_most or over_s < 0:
            return False
        own = _draw(member, self._node_id)
        before = sum(
            self.is_here(m) and m != member and _draw(member, m) < own for m in self._words
        )
        return before < witnesses(len(self._words)) + over_s // _NEXT_S


def _draw(member: bytes, witness: bytes) -> bytes:
    return blake2b(member + witness, digest_size=8).digest()
