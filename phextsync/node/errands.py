"""Errands: with whom a node has to be linked for a while, besides its lasting links. No IO, no
clock.

Where there are more nodes than links, those that hold a range may have no way to each other over
others that hold it. So a node links with those that what is new in a range has not come to, and
with enough of those that are to keep a range that it gives up, all of them at once: only then it
hears that they have it. For what it wrote and does not hold, two that do are enough. A few ranges
at a time; those wait that nothing came of.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final, TypeAlias

from phextsync.index import EVERYTHING, CoordinateRange
from phextsync.placement.holders import Placement
from phextsync.sync.link import Link
from phextsync.sync.synchronizer import Synchronizer

_AT_ONCE: Final = 4
_ANY_OF: Final = 2  # holders, for what one of them is to have
_PATIENCE_S: Final = 30.0  # with an errand; then others have their turn

_Piece: TypeAlias = tuple[str, CoordinateRange]


class Errands:
    """Of one node. What it knows of others is lost when it ends: then all is looked after again."""

    def __init__(self, core: Synchronizer) -> None:
        self._core = core
        self._replicas = core.replicas
        self._told: dict[tuple[_Piece, bytes], bytes] = {}  # fingerprints of what each has
        self._begun: dict[_Piece, float] = {}
        self._tried: dict[_Piece, float] = {}
        self._asked: frozenset[bytes] = frozenset()

    def look(
        self, now: float, placements: Mapping[str, Placement], here: Collection[bytes]
    ) -> frozenset[bytes]:
        """Return with which of the members that are `here` to be linked now, and until the next
        look; nobody where all nodes are linked. To be called every few seconds."""
        due: dict[_Piece, list[bytes]] = {}
        if self._core.tree.is_grown:
            for piece, node_ids in self._due(placements, here):
                if present := [node_id for node_id in node_ids if node_id in here]:
                    due[piece] = present
        self._begin(now, due)
        self._asked = frozenset(node_id for piece in self._begun for node_id in due[piece])
        return self._asked

    def _begin(self, now: float, due: Collection[_Piece]) -> None:
        """Go on with what is due for a while, and begin with what was tried least lately."""
        begun = {piece: since for piece, since in self._begun.items() if piece in due}
        self._begun = {p: since for p, since in begun.items() if now < since + _PATIENCE_S}
        tried = {piece: time for piece, time in self._tried.items() if piece in due}
        self._tried = tried | dict.fromkeys(begun.keys() - self._begun.keys(), now)
        waiting = [piece for piece in due if piece not in self._begun]
        waiting.sort(key=lambda piece: self._tried.get(piece, 0.0))
        self._begun.update(dict.fromkeys(waiting[: _AT_ONCE - len(self._begun)], now))

    def _due(
        self, placements: Mapping[str, Placement], here: Collection[bytes]
    ) -> Iterator[tuple[_Piece, list[bytes]]]:
        """Iterate over the ranges for which there ought to be links, and with whom."""
        links = {link.peer_id: link for link in self._core.links.values() if link.is_ready}
        told, self._told = self._told, {}
        for phext, placement in placements.items():
            if placement.is_everywhere:
                continue
            hold = self._replicas.holding.hold(phext)
            for range_ in (piece for part in hold.leaving for piece in placement.ranges(part)):
                if self._replicas.open(phext).has_scrolls(range_):
                    others = [i for i in self._others(placement, range_) if i in here]
                    if not self._is_enough(phext, others, links):
                        others = self._lacking(placement, range_, links, told)
                    yield (phext, range_), others
            for range_ in (piece for part in hold.firm for piece in placement.ranges(part)):
                yield (phext, range_), self._lacking(placement, range_, links, told)
            for at in self._replicas.guests.unsent_within(phext, EVERYTHING):
                range_ = next(placement.ranges(CoordinateRange(at, None)))
                others = [i for i in self._others(placement, range_) if i in here]
                near = [node_id for node_id in others if node_id in links]
                yield (phext, range_), (near or others)[:_ANY_OF]

    def _others(self, placement: Placement, range_: CoordinateRange) -> list[bytes]:
        own = self._core.node_id
        return [m.node_id for m in placement.holders(range_.lower) if m.node_id != own]

    def _is_enough(self, phext: str, others: list[bytes], links: Mapping[bytes, Link]) -> bool:
        """Whether a range that leaves could, if all those were linked that are to keep it: more of
        them than are linked without an errand."""
        if len(others) < (self._replicas.holding.hold(phext).copies or 1):
            return False
        return any(node_id not in links or node_id in self._asked for node_id in others)

    def _lacking(
        self,
        placement: Placement,
        range_: CoordinateRange,
        links: Mapping[bytes, Link],
        told: Mapping[tuple[_Piece, bytes], bytes],
    ) -> list[bytes]:
        """Return to whom what is new in a range that is held here cannot come: to nobody where all
        members hold it, since every link leads to one that does."""
        phext, others = placement.policy.phext, self._others(placement, range_)
        if len(others) + 1 >= len(placement.members):
            return []
        piece = phext, range_
        fingerprint = self._replicas.phext(phext).index.fingerprint(range_)[1]
        near = [links[node_id] for node_id in others if node_id in links]
        lacking: list[bytes] = []
        for node_id in others:
            link = links.get(node_id)
            if link is None:
                has = any(node_id in other.lazy.neighbours for other in near)
            else:
                has = not self._core.lacks.lacks_some(link, phext, range_)
            known = fingerprint if has else told.get((piece, node_id), b"")
            self._told[piece, node_id] = known
            if known != fingerprint:
                lacking.append(node_id)
        return lacking
