"""Agreement: whether the peers have what we have, and we what they have."""

import trio

from phextsync.errors import NotSyncedError, PhextsyncError
from phextsync.index import CoordinateRange
from phextsync.node.acquaintances import Acquaintances
from phextsync.node.links import Links
from phextsync.node.options import limit_of
from phextsync.phext_names import checked_name
from phextsync.ranges import intersection
from phextsync.replica.replicas import ReplicaSet
from phextsync.signals import Signal
from phextsync.sync.synchronizer import Synchronizer


class Agreement:
    """Asks the core for users, and waits for them."""

    def __init__(
        self,
        replicas: ReplicaSet,
        core: Synchronizer,
        links: Links,
        acquaintances: Acquaintances,
    ) -> None:
        self._replicas = replicas
        self._core = core
        self._links = links
        self._acquaintances = acquaintances
        self._progress = Signal()

    def note_progress(self) -> None:
        """Something was acknowledged or compared: ask again."""
        self._progress.notify()

    async def progress(self) -> None:
        """Wait until something is acknowledged or compared."""
        await self._progress.wait()

    async def synced(
        self, phext: str, range_: CoordinateRange, peers: int | None, timeout_s: float | None
    ) -> None:
        """Wait until `peers` connected peers (None: all of them, at least one) have a range on
        their disks, and one holder what of it is not held here. NotSyncedError after `timeout_s`,
        NotHeldError when nothing of it is here."""
        checked_name(phext)
        if peers is not None and peers < 0:
            raise PhextsyncError(f"expected a number of peers, or None for all, found {peers}")
        if not self._replicas.guests.within(phext, range_):
            self._replicas.holding.check_some(phext, range_)
        wait_s = limit_of(timeout_s)
        with trio.move_on_after(wait_s):
            while self._replicas.is_dirty or not self._is_synced(phext, range_, peers):
                await self._progress.wait()
            return
        raise self._not_synced(phext, range_, peers, wait_s)

    def _is_synced(self, phext: str, range_: CoordinateRange, peers: int | None) -> bool:
        if self._replicas.guests.unsent_within(phext, range_):
            return False
        if not intersection((range_,), self._replicas.holding.of(phext)):
            return True
        complete, lacking = self._core.holders(phext, range_)
        return complete >= (max(1, complete + lacking) if peers is None else peers)

    def _not_synced(
        self, phext: str, range_: CoordinateRange, peers: int | None, timeout_s: float
    ) -> NotSyncedError:
        complete, lacks = self._core.lacking(phext, range_)
        lines = [str(lack) for lack in lacks]
        if self._replicas.is_dirty:
            lines.append("this node has not yet written it to its own disk")
        unsent = len(self._replicas.guests.unsent_within(phext, range_))
        if unsent:
            scrolls = "1 scroll" if unsent == 1 else f"{unsent} scrolls"
            lines.append(f"no holder has the edits of {scrolls} that this node does not hold")
        elif not complete and not lacks:
            lines.append(f"no peer that holds {range_} of {phext!r} is connected")
        wanted = "all peers" if peers is None else "1 peer" if peers == 1 else f"{peers} peers"
        return NotSyncedError(
            f"expected {range_} of {phext!r} on the disks of {wanted} within {timeout_s:g} s, "
            f"found it on {len(complete)}: {'; '.join(lines)}",
            tuple(lines),
        )

    def is_whole(self, phext: str, range_: CoordinateRange) -> bool:
        """Whether nobody is known to lack something of a range that we have, or to have what we
        lack."""
        checked_name(phext)
        return not self._awaited(phext, range_, self._core.lacks.even_peers(phext, range_))

    def even_holders(self, phext: str, range_: CoordinateRange) -> set[bytes]:
        """Return the linked peers that hold all of a range and have what we have of it, and we what
        they have."""
        holding = {link.peer_id for link in self._core.lacks.holding(phext, range_)}
        return holding & self._core.lacks.even_peers(phext, range_)

    def is_in_sight(self, phext: str, range_: CoordinateRange) -> bool:
        """Whether everybody who may change something of a range hears at once what we write, and
        we what they write."""
        return not self._awaited(phext, range_, self._core.lacks.compared_peers(phext, range_))

    def _awaited(self, phext: str, range_: CoordinateRange, here: set[bytes]) -> bool:
        """Whether another peer than those `here` may hold something of a range. Where not all are
        linked, those that are there and not linked hear by those that are."""
        known, linked = self._acquaintances, self._links.admitted()
        awaited = known.may_return() | linked
        awaited.discard(self._core.node_id)
        if self._core.tree.is_grown:
            awaited -= self._core.presence.heard().keys() - linked
        connected = self._links.connected()
        return any(
            not known.known.is_blocked(peer)
            and (peer in connected or known.may_hold(peer, phext, range_))
            for peer in awaited - here
        )
