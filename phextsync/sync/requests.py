"""Requests: what we ask a peer for, and what it has not yet answered."""

from collections import OrderedDict
from itertools import chain
from typing import Final

from phextsync.errors import ProtocolError, StoreDamagedError
from phextsync.index import EMPTY_VERSION, Coordinate
from phextsync.ranges import Ranges
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.limits import Limits
from phextsync.sync.messages import DIGEST_BYTES, ScrollId, Want
from phextsync.sync.rights import LinkRights
from phextsync.sync.scope import forget_outside

_REQUEST_BYTES: Final = 40  # what a request adds to its version in a frame, at most


class Requests:
    """The requests of one link. A request shows our version of a scroll; one that we do not want
    an answer to is an offer: the peer asks back for what it lacks."""

    def __init__(self, replicas: ReplicaSet, rights: LinkRights, limits: Limits) -> None:
        self.waiting: OrderedDict[ScrollId, None] = OrderedDict()
        self.unanswered: dict[ScrollId, int] = {}  # bytes of the request
        self.unanswered_bytes = 0
        self._replicas = replicas
        self._rights = rights
        self._limits = limits
        self._adopting: dict[ScrollId, None] = {}  # the answer takes the place of ours
        self._adopted: dict[ScrollId, int] = {}  # how many times

    def want(self, scroll: ScrollId) -> None:
        """Ask for a scroll, unless that was done or the peer's answer would be refused."""
        if scroll not in self.unanswered and self._rights.takes(scroll):
            self.waiting[scroll] = None

    def offer(self, scroll: ScrollId) -> None:
        """Show our version, whether or not that was done; the peer asks for what it lacks. One that
        does not hold the scroll would not answer."""
        if self._rights.is_told(scroll):
            self.waiting[scroll] = None

    def adopt(self, scroll: ScrollId) -> None:
        """Ask for the whole scroll, to take it in place of ours. ProtocolError when the peer has
        us do that again and again."""
        self._adopted[scroll] = self._adopted.get(scroll, 0) + 1
        if self._adopted[scroll] > self._limits.conflicts_max:
            raise ProtocolError(f"expected an end of the conflict at {scroll[1]}, found another")
        self._adopting[scroll] = None
        self.waiting[scroll] = None  # even if an answer to an earlier want is on its way

    def takes_place(self, scroll: ScrollId) -> bool:
        """Whether what has come of the scroll is to take the place of ours; it is asked once."""
        if scroll not in self._adopting:
            return False
        del self._adopting[scroll]
        return True

    def answered(self, scroll: ScrollId) -> None:
        """The peer has answered what we asked for, if we did."""
        self.unanswered_bytes -= self.unanswered.pop(scroll, 0)

    @property
    def may_ask(self) -> bool:
        """Whether there is something to ask for, and the peer has answered enough of the rest."""
        return (
            bool(self.waiting)
            and len(self.unanswered) < self._limits.wants_max
            and self.unanswered_bytes < self._limits.wants_bytes_max
        )

    def next_want(self) -> Want:
        """Return what to ask for now, as much as fits in a frame."""
        phext = next(iter(self.waiting))[0]
        replica = self._replicas.open(phext)
        rights = self._rights
        asked: list[tuple[Coordinate, bytes, bytes]] = []
        size = 0
        while self.waiting:
            scroll = next(iter(self.waiting))
            is_full = size > self._limits.frame_bytes_goal or not self.may_ask
            if scroll[0] != phext or is_full:
                break
            del self.waiting[scroll]
            asked.append(self._request(replica, scroll))
            request_bytes = len(asked[-1][1]) + _REQUEST_BYTES
            if rights.takes(scroll) and scroll not in rights.subscribed:  # an answer will come
                self.answered(scroll)  # a request that is repeated counts once
                self.unanswered[scroll] = request_bytes
                self.unanswered_bytes += request_bytes
            size += request_bytes
        return Want(phext, tuple(asked))

    def _request(self, replica: Replica, scroll: ScrollId) -> tuple[Coordinate, bytes, bytes]:
        coordinate, limits = scroll[1], self._limits
        if scroll not in self._adopting:
            try:
                version = replica.version(coordinate)
                if len(version) <= min(limits.version_bytes_max, limits.item_bytes_max):
                    fingerprint = replica.fingerprint(coordinate)
                    return coordinate, version, fingerprint[:DIGEST_BYTES]
            except StoreDamagedError:
                pass
        return coordinate, EMPTY_VERSION, b""

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        forget_outside(self.waiting, phext, scope)
        forget_outside(self._adopting, phext, scope)
        self.unanswered_bytes -= sum(forget_outside(self.unanswered, phext, scope))

    # -- what is under way -----------------------------------------------------------------

    @property
    def scrolls(self) -> int:
        """How many scrolls are noted."""
        return len(self.waiting) + len(self.unanswered) + len(self._adopting)

    def under_way(self) -> chain[ScrollId]:
        """Iterate over what is asked for, or to be."""
        return chain(self.unanswered, self.waiting)

    def is_quiet(self, phext: str) -> bool:
        """Whether no answer about the phext is waited for."""
        return all(name != phext for name, _ in self.unanswered)

    def adopting(self) -> tuple[ScrollId, ...]:
        """Return what is to take the place of ours when it has come."""
        return tuple(self._adopting)

    def check(self) -> None:
        """Check that the count is that of what is noted."""
        assert self.unanswered_bytes == sum(self.unanswered.values())
        assert len(self.unanswered) <= self._limits.wants_max
