"""Branch: one link as a part of the broadcast tree, and what its peer has that we did not push.

Leitao 2007 (Plumtree): a link is eager, and updates are pushed over it at once, or lazy, and ids of
updates are told that the sender has. Here they are told when the sender has them on its disk.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from phextsync.index import Coordinate, contains
from phextsync.ranges import Ranges
from phextsync.sync.messages import (
    UPDATE_ID_BYTES,
    Graft,
    Have,
    Message,
    Prune,
    ScrollId,
    UpdateId,
)


def update_id(phext: str, coordinate: Coordinate, update: bytes) -> UpdateId:
    """Return the id of an update, the same on every node."""
    digest = blake2b(update, digest_size=UPDATE_ID_BYTES, key=coordinate.key)
    digest.update(phext.encode())
    return digest.digest()


def overdue(
    noted: Iterable[tuple[ScrollId, float]], now: float, within_s: float
) -> dict[str, None]:
    """Return the phexts of scrolls that were noted so long ago; the oldest come first."""
    phexts: dict[str, None] = {}
    for (phext, _), since in noted:
        if now - since < within_s:
            break
        phexts[phext] = None
    return phexts


class Branch:
    """Of one link. `is_open`: the peer knows of the tree; before that, and with older ones, nothing
    is left to the tree. `is_eager`: what we hear is pushed to it.
    `is_planned`: it is of the tree that both ends chose; `is_refused`: the peer is not to push.
    `round_trip_s`: how long an answer takes, None: not known.

    `left`: updates that were not pushed, and of which the peer has not told that it has them, at
    most `left_max`. `written`: updates that the peer wrote and others told us, since when.
    `untold`: those of `left` that are on our disk, to be told; `is_telling`: it is time to.
    """

    def __init__(
        self,
        peer_id: bytes,
        say: Callable[[Message], None],
        *,
        left_max: int,
        round_trip_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.peer_id = peer_id
        self.round_trip_s = round_trip_s
        self.is_open = False
        self.is_eager = True
        self.is_planned = False
        self.is_refused = False
        self._is_pruned = False  # the peer was told so, and not otherwise since
        self.left: dict[UpdateId, ScrollId] = {}
        self.written: dict[UpdateId, tuple[ScrollId, float]] = {}
        self.untold: dict[UpdateId, None] = {}
        self.is_telling = False
        self._say = say
        self._left_max = left_max
        self._seen: dict[str, list[UpdateId]] = {}  # by comparisons that are under way

    # -- eager or lazy ---------------------------------------------------------------------

    def graft(self, ids: Iterable[UpdateId]) -> None:
        """Push from now on, and have the peer do so, which sends these updates first."""
        self.is_eager, self.is_refused, self._is_pruned = True, False, False
        self._say(Graft(tuple(ids)))

    def prune(self) -> None:
        """Push no more, and have the peer push no more: what it sends comes from others, too."""
        self.is_eager, self.is_refused, self._is_pruned = False, True, True
        self._say(Prune())

    def plan(self, *, is_planned: bool) -> None:
        """Both ends know whether the link is one of the tree: push, or do not. A peer that chose
        it before and was told not to push is told otherwise: it does not choose again."""
        self.is_eager = self.is_planned = is_planned
        self.is_refused = False
        if is_planned and self._is_pruned:
            self.graft(())

    # -- what is not pushed ----------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether no more can be left: it is pushed, until a comparison has confirmed the rest."""
        return len(self.left) >= self._left_max

    def leave(self, update: UpdateId, scroll: ScrollId) -> None:
        """An update is not pushed."""
        self.left[update] = scroll

    def note_written(self, now: float, update: UpdateId, scroll: ScrollId) -> None:
        """Others told an update that the peer wrote: it is to tell when it is on its disk."""
        self.written.setdefault(update, (scroll, now))

    def hear(self, update: UpdateId) -> None:
        """The peer has an update, on its disk or on its way to it."""
        self.left.pop(update, None)
        self.written.pop(update, None)
        self.untold.pop(update, None)

    def is_durable(self, update: UpdateId) -> None:
        """An update is on our disk."""
        if update in self.left:
            self.untold[update] = None

    def next_have(self) -> Have:
        """Return which updates the peer is to be told that we have, at most as many as are left."""
        told, self.untold, self.is_telling = self.untold, {}, False
        return Have(tuple(told))

    def offer(
        self, phext: str, ranges: Ranges, unsettled: Iterable[Coordinate]
    ) -> Iterator[ScrollId]:
        """Iterate over the scrolls of what was left of ranges, without those that are `unsettled`;
        it no longer is."""
        wait = set(unsettled)
        found: dict[ScrollId, None] = {}
        for update, scroll in list(self.left.items()):
            if scroll[0] == phext and contains(ranges, scroll[1]) and scroll[1] not in wait:
                self.hear(update)
                found[scroll] = None
        yield from found

    def overdue(self, now: float, within_s: float) -> dict[str, None]:
        """Return the phexts that only a comparison settles: of which too much was left, or the
        peer has not told for so long that it has what it wrote."""
        full = dict.fromkeys(phext for phext, _ in self.left.values()) if self.is_full else {}
        return full | overdue(self.written.values(), now, within_s)

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        for update, scroll in self._noted():
            if scroll[0] == phext and not contains(scope, scroll[1]):
                self.hear(update)

    def _noted(self) -> list[tuple[UpdateId, ScrollId]]:
        written = ((update, scroll) for update, (scroll, _) in self.written.items())
        return [*self.left.items(), *written]

    # -- comparisons -----------------------------------------------------------------------

    @property
    def scrolls(self) -> int:
        """How many updates are noted."""
        return len(self.left) + len(self.written)

    def begin(self, phext: str, unsettled: Iterable[Coordinate]) -> None:
        """A comparison of the phext begins: it sees what is noted and not `unsettled`."""
        wait = set(unsettled)
        self._seen[phext] = [u for u, s in self._noted() if s[0] == phext and s[1] not in wait]

    def confirm(self, phext: str) -> None:
        """The comparison has ended: the peer has what it saw, or will be sent it."""
        for update in self._seen.pop(phext, ()):
            self.hear(update)
