"""Had: what nodes had of a scroll is told to a peer ahead of updates of it.

An update says what it changes, and not what its writer had not yet heard of. Who changed the same
lines apart is to see what the others had, also where it came by a third node, which has merged it.
"""

from typing import Final

from phextsync.index import EMPTY_VERSION, covers
from phextsync.ranges import Ranges
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Had, ScrollId
from phextsync.sync.rights import LinkRights
from phextsync.sync.scope import forget_outside

_PAIR_BYTES: Final = 24  # what a version adds to its own bytes, at most


class HadVersions:
    """What the peer of one link is told of who had which versions. `is_understood`: by the peer.
    `waiting`: scrolls of which something is to be sent, and the version that the peer showed."""

    def __init__(
        self, peer_id: bytes, replicas: ReplicaSet, rights: LinkRights, limits: Limits
    ) -> None:
        self.is_understood = False
        self.waiting: dict[ScrollId, bytes] = {}
        self._peer_id = peer_id
        self._replicas = replicas
        self._heard = replicas.peer_versions.heard
        self._rights = rights
        self._limits = limits
        self._told: dict[ScrollId, int] = {}  # the number of the last that was told

    def change(self, scroll: ScrollId) -> None:
        """Something that somebody wrote is to be sent."""
        if self.is_understood:
            self.waiting.setdefault(scroll, EMPTY_VERSION)

    def ask(self, scroll: ScrollId, version: bytes) -> None:
        """The peer has a version, and asks for what it lacks."""
        if self.is_understood and version != EMPTY_VERSION:
            self.waiting[scroll] = version

    def next_had(self) -> Had | None:
        """Return what to tell of the first scroll of which there is anything, None if there is
        none."""
        while self.waiting:
            scroll, shown = next(iter(self.waiting.items()))
            del self.waiting[scroll]
            if self._rights.is_told(scroll) and (versions := self._versions_for(scroll, shown)):
                return Had(*scroll, versions)
        return None

    def _versions_for(self, scroll: ScrollId, shown: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """Return what the peer was not told, of as much as fits in a frame the last. Our own is in
        it where the peer's has what we lack, too."""
        heard, last = self._heard(*scroll, self._told.get(scroll, 0))
        if heard:
            if len(self._told) >= self._limits.spared_max:
                self._told.clear()  # what is told twice does no harm
            self._told[scroll] = last
        if shown != EMPTY_VERSION:
            ours = self._replicas.open(scroll[0]).version(scroll[1])
            if not covers(ours, shown):
                heard.append((self._replicas.node_id, ours))
        room = self._limits.item_bytes_max
        found: list[tuple[bytes, bytes]] = []
        for node_id, version in reversed(heard):
            size = len(version) + _PAIR_BYTES
            is_new = node_id != self._peer_id and not covers(shown, version)
            if is_new and size <= min(room, self._limits.version_bytes_max):
                found.append((node_id, version))
                room -= size
        return tuple(reversed(found))

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        forget_outside(self.waiting, phext, scope)
        forget_outside(self._told, phext, scope)
