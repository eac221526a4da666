"""Leaving: ranges that a node gives up, and when it may drop them.

Nobody drops the last copy. A node tells its peers what it gives up (`Leave`); a peer that holds
that and gives it up neither answers that it keeps it (`Keep`), and does not count the node any
more among those that have it. A range is dropped when enough peers that keep it have all of it on
their disks. If a node dropped a range that counted on another one, and so on around, each would
have begun to give it up before the one that it counted on: there is no such round.

A peer that may not write a range counts for nothing: nobody would take the range from it.

A message has room for `RANGES_MAX` ranges. What else is given up or kept waits: it is told when the
first of them have left.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from phextsync.index import Coordinate, CoordinateRange, contains
from phextsync.ranges import holds, intersection
from phextsync.replica.holding import RANGES_MAX
from phextsync.sync.lacks import Lacks
from phextsync.sync.link import Link, Shared
from phextsync.sync.messages import HOLDING_MINOR, Keep, Leave
from phextsync.sync.relay import Relay


@dataclass(frozen=True, slots=True)
class Awaited:
    """A range that is given up and still here: how many peers must have it, the names of those
    that do and keep it, and a line for each other one that says why it does not count yet."""

    phext: str
    range: CoordinateRange
    copies: int
    kept_by: tuple[str, ...]
    reasons: tuple[str, ...]


class Leaving:
    """What this node gives up, over all links."""

    def __init__(
        self,
        links: Mapping[int, Link],
        shared: Shared,
        lacks: Lacks,
        relay: Relay,
        end: Callable[[Link, str], None],
        ping: Callable[[Link], None],
    ) -> None:
        self._links = links
        self._shared = shared
        self._replicas = shared.replicas
        self._holding = shared.replicas.holding
        self._lacks = lacks
        self._relay = relay
        self._end = end
        self._ping = ping
        self._number = 0
        self._is_resumed = False
        self._holding.whose = lacks.whose

    # -- telling ---------------------------------------------------------------------------

    def met(self, link: Link) -> None:
        """A link carries phexts from now on: tell its peer what is given up."""
        for phext in self._holding.phexts():
            self._tell(link, phext)

    def held_changed(self, phext: str) -> None:
        """This node holds something else of a phext, or gives up something else of it."""
        is_here = self._replicas.known(phext) is not None
        for link in self._links.values():
            link.rights.renew(phext)
            if link.goodbye is None and (is_here or phext in link.rights.told):
                self._tell_held(link, phext)
            if link.is_ready:
                self._tell(link, phext)
                self._answer(link, phext)

    def receive(self, link: Link, message: Leave | Keep) -> None:
        """A peer gives something up: say what of it is kept here. Or it keeps something of what
        this node gives up."""
        if isinstance(message, Keep):
            link.promises.note(message)
            return
        link.outbox.check()
        link.promises.theirs[message.phext] = message
        self._answer(link, message.phext)

    def _tell_held(self, link: Link, phext: str) -> None:
        """Tell a peer what this node holds of a phext, if that is not what it told."""
        is_new = phext not in link.announcements.ours
        if not link.announcements.tell_if_other(phext):
            return
        if link.is_ready and link.hello is not None and link.hello.minor >= HOLDING_MINOR:
            self._ping(link)
            link.comparisons.rescope(phext, is_new=is_new, ping=self._shared.tokens.last)
        else:
            self._end(link, "this node holds something else now")

    def _tell(self, link: Link, phext: str) -> None:
        if link.hello is None or link.hello.minor < HOLDING_MINOR:
            return
        leaving = self._holding.hold(phext).leaving
        ranges = intersection(leaving, link.rights.of(phext).held)[:RANGES_MAX]
        before = link.promises.ours.get(phext)
        if ranges != (() if before is None else before.ranges):
            self._number += 1
            link.promises.tell(Leave(phext, self._number, ranges))
            link.ready()

    def _answer(self, link: Link, phext: str) -> None:
        leave = link.promises.theirs.get(phext)
        if leave is None:
            return
        firm = self._shared.interest.firm(phext)
        kept = intersection(leave.ranges, intersection(firm, link.rights.of(phext).held))
        if link.promises.answer(Keep(phext, leave.number, kept[:RANGES_MAX])):
            link.ready()

    # -- dropping --------------------------------------------------------------------------

    def check(self) -> None:
        """Drop what enough others have. Costs nothing where nothing is given up."""
        if not self._is_resumed:
            self._is_resumed = True
            for phext in self._holding.phexts():
                if self._holding.hold(phext).dropping:
                    self._replicas.open(phext).leave()
        for phext in self._holding.phexts():
            # At once: each time all peers are told what is held, and compared with again.
            others_have = [part for part in self._parts(phext) if self._may_drop(phext, part)]
            if others_have and self._holding.drop(phext, others_have):
                self._replicas.open(phext).leave()

    def awaited(self) -> tuple[Awaited, ...]:
        """Return what is given up and still here, and what it waits for."""
        return tuple(
            self._awaited(phext, range_)
            for phext in self._holding.phexts()
            for range_ in self._parts(phext)
        )

    def _parts(self, phext: str) -> list[CoordinateRange]:
        """Return what is given up, cut where peers begin or end to keep it or may write it, at so
        many places that peers cannot make it long."""
        leaving = self._holding.hold(phext).leaving
        if not leaving:
            return []
        kept = [
            intersection(link.promises.kept.get(phext, ()), link.permissions.writable(phext))
            for link in self._links.values()
        ]
        bounds = sorted({bound for ranges in kept for each in ranges for bound in _bounds(each)})
        inner = [bound for bound in bounds if contains(leaving, bound)]
        return [part for range_ in leaving for part in _cut(range_, inner[:RANGES_MAX])]

    def _may_drop(self, phext: str, range_: CoordinateRange) -> bool:
        if not self._replicas.open(phext).has_scrolls(range_):
            return True
        links = self._keepers(phext, range_)
        self._relay.ask(phext, links, range_)
        having = sum(self._has(link, phext, range_) for link in links)
        return having >= self._copies(phext, len(links))

    def _keepers(self, phext: str, range_: CoordinateRange) -> list[Link]:
        """Return the links whose peers hold all of a range and may promise to keep it."""
        links = self._lacks.holding(phext, range_)
        return [link for link in links if _may_keep(link, phext, range_)]

    def _copies(self, phext: str, links: int) -> int:
        return self._holding.hold(phext).copies or max(1, links)

    def _has(self, link: Link, phext: str, range_: CoordinateRange) -> bool:
        is_kept = holds(link.promises.kept.get(phext, ()), range_)
        return is_kept and not self._lacks.lacks_some(link, phext, range_)

    def _awaited(self, phext: str, range_: CoordinateRange) -> Awaited:
        links = self._lacks.holding(phext, range_)
        keepers = self._keepers(phext, range_)
        having = [link for link in keepers if self._has(link, phext, range_)]
        reasons = [self._reason(link, phext, range_) for link in links if link not in having]
        if not links:
            reasons.append("no linked peer holds it and keeps it")
        return Awaited(
            phext,
            range_,
            self._copies(phext, len(keepers)),
            tuple(sorted(link.name for link in having)),
            tuple(sorted(reasons)),
        )

    def _reason(self, link: Link, phext: str, range_: CoordinateRange) -> str:
        if link.hello is None or link.hello.minor < HOLDING_MINOR:
            return f"{link.name} runs a version that cannot promise to keep it"
        if not _may_keep(link, phext, range_):
            return f"{link.name} may not write it, so nobody would take it from there"
        lack = self._lacks.of(link, phext, range_, with_left=True)
        return f"{link.name} has not said that it keeps it" if lack is None else str(lack)


def _may_keep(link: Link, phext: str, range_: CoordinateRange) -> bool:
    """Whether others take a range from a peer, and it understands what it promises."""
    understands = link.hello is not None and link.hello.minor >= HOLDING_MINOR
    return understands and holds(link.permissions.writable(phext), range_)


def _bounds(range_: CoordinateRange) -> Iterator[Coordinate]:
    yield range_.lower
    if range_.upper is not None:
        yield range_.upper


def _cut(range_: CoordinateRange, bounds: list[Coordinate]) -> Iterator[CoordinateRange]:
    lower = range_.lower
    for bound in bounds:
        if lower < bound and bound in range_:
            yield CoordinateRange(lower, bound)
            lower = bound
    yield CoordinateRange(lower, range_.upper)
