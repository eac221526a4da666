"""Rights: what each side of a link may be shown, may send and takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from phextsync.errors import ProtocolError
from phextsync.index import EVERYTHING, CoordinateRange, contains
from phextsync.ranges import Ranges, intersection, union
from phextsync.replica.holding import Holding
from phextsync.sync.messages import ScrollId
from phextsync.trust.permissions import Permissions

_ALL: Final = (EVERYTHING,)


@dataclass(frozen=True, slots=True)
class Rights:
    """Of one phext on one link.

    `show`: what the peer may see, `held`: what we hold of that. `send`: what the peer may take
    from us, since it may see it and we may write it. `bring`: what it may bring us, since it may
    write it and we may read it; `take`: what we hold of that, and take.
    """

    show: Ranges
    held: Ranges
    send: Ranges
    bring: Ranges
    take: Ranges


def rights_between(interest: Ranges, own: Permissions, theirs: Permissions, phext: str) -> Rights:
    """Return the rights that follow from our interest in a phext and both certificates."""
    show = intersection(own.readable(phext), theirs.readable(phext))
    return Rights(
        show=show,
        held=intersection(interest, show),
        send=intersection(own.writable(phext), show),
        bring=intersection(own.readable(phext), theirs.writable(phext)),
        take=intersection(interest, theirs.writable(phext)),
    )


class Owner(Protocol):
    """Who holds the phexts of this node."""

    permissions: Permissions
    holding: Holding

    def has_room_for(self, name: str) -> bool: ...


class Interest:
    """What this node holds of each phext: what it may read of what it is set to hold, and of
    `interests` if they are given."""

    def __init__(
        self, owner: Owner, interests: Mapping[str, Sequence[CoordinateRange]] | None
    ) -> None:
        self._owner = owner
        self._interests = None if interests is None else {p: union(r) for p, r in interests.items()}

    @property
    def permissions(self) -> Permissions:
        """What this node's certificate allows."""
        return self._owner.permissions

    def of(self, phext: str) -> Ranges:
        """Return the ranges of a phext that this node holds, nothing when it has no room for it."""
        if not self._owner.has_room_for(phext):
            return ()
        ranges = self._owner.permissions.readable(phext)
        if not self._owner.holding.is_everything:
            ranges = intersection(self._owner.holding.of(phext), ranges)
        if self._interests is not None:
            ranges = intersection(self._interests.get(phext, ()), ranges)
        return ranges

    def is_guest(self, scroll: ScrollId) -> bool:
        """Whether a scroll is here that this node does not hold."""
        return scroll in self._owner.holding.guests

    def firm(self, phext: str) -> Ranges:
        """Return the ranges of a phext that this node holds and does not give up."""
        return intersection(self._owner.holding.hold(phext).firm, self.of(phext))


class LinkRights:
    """The rights of one link by phext, and the interest that its peer told. `subscribed`: scrolls
    that we hold and it does not, of whose changes it is told all the same."""

    def __init__(self, interest: Interest, permissions: Permissions, *, phexts_max: int) -> None:
        self.told: dict[str, Ranges] = {}
        self.subscribed: dict[ScrollId, None] = {}
        self._interest = interest
        self._permissions = permissions
        self._phexts_max = phexts_max
        self._known: dict[str, Rights] = {}
        self._whole: dict[str, bool] = {}

    def of(self, phext: str) -> Rights:
        """Return the rights for a phext; they are worked out once."""
        rights = self._known.get(phext)
        if rights is None:
            if len(self._known) > self._phexts_max:
                self._known.clear()  # they can be worked out again
                self._whole.clear()
            own, theirs = self._interest.permissions, self._permissions
            rights = rights_between(self._interest.of(phext), own, theirs, phext)
            self._known[phext] = rights
        return rights

    def renew(self, phext: str) -> None:
        """This node holds something else of a phext now."""
        self._known.pop(phext, None)

    def tell(self, phext: str, ranges: Sequence[CoordinateRange]) -> None:
        """The peer holds these ranges of a phext. Those that it may not read do not count."""
        readable = self._permissions.readable(phext)
        self.told[phext] = intersection(union(ranges), readable)
        self._whole.pop(phext, None)
        if len(self.told) > self._phexts_max:
            raise ProtocolError(f"expected at most {self._phexts_max} phexts, found more")

    def held(self, phext: str) -> Ranges:
        """Return the ranges of the phext that we hold."""
        return self._interest.of(phext)

    def takes(self, scroll: ScrollId) -> bool:
        """Whether an update of the peer is taken: we hold the scroll, or have it as a guest."""
        rights = self.of(scroll[0])
        if contains(rights.take, scroll[1]):
            return True
        return self._interest.is_guest(scroll) and contains(rights.bring, scroll[1])

    def shows(self, scroll: ScrollId) -> bool:
        """Whether the peer is shown our version: we hold the scroll, or have it as a guest and the
        peer holds it."""
        rights = self.of(scroll[0])
        if contains(rights.held, scroll[1]):
            return True
        is_holder = contains(self.told.get(scroll[0], ()), scroll[1])
        return self._interest.is_guest(scroll) and is_holder and contains(rights.show, scroll[1])

    def is_told(self, scroll: ScrollId) -> bool:
        """Whether the peer is told of changes: it holds the scroll, has not said what it holds, or
        has subscribed to it."""
        told = self.told.get(scroll[0], _ALL)
        return contains(told, scroll[1]) or scroll in self.subscribed

    def is_whole(self, phext: str) -> bool:
        """Whether the peer is told of all changes of a phext, and may take all of it from us. It is
        worked out once."""
        whole = self._whole.get(phext)
        if whole is None:
            rights, told = self.of(phext), self.told.get(phext, _ALL)
            whole = self._whole[phext] = rights.show == rights.send == told == _ALL
        return whole

    def scope(self, phext: str) -> Ranges:
        """Return the ranges of the phext that both sides hold and both may see."""
        return intersection(self._interest.of(phext), self.told.get(phext, ()))
