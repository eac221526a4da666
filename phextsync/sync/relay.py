"""Relay: which links get an update that took effect here, at once or after a comparison.

An update with an origin is live. Where all nodes are linked it goes to the other links at once, but
not to a peer that says that it is linked with the origin (`Neighbours`); where they are not, along
a tree (`Tree`), if most hold it. What a comparison brought is not relayed: the other links are
compared again shortly after.
"""

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from math import inf
from typing import Final, assert_never

from phextsync.errors import ProtocolError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange, contains
from phextsync.ranges import intersection
from phextsync.replica.listener import NewUpdate
from phextsync.sync.branch import update_id
from phextsync.sync.late import Late
from phextsync.sync.link import Link, Shared
from phextsync.sync.messages import (
    NEIGHBOURS_MINOR,
    REGROUPED_MINOR,
    Graft,
    Have,
    Neighbours,
    Prune,
    Regrouped,
    UpdateId,
)
from phextsync.sync.news import News, Sources

_ASKED_DELAYS: Final = 5  # of a comparison: for so long after a question another may come
_ALL: Final = (EVERYTHING,)
_GATHERS_S: Final = 0.5  # links that come and go in a large mesh, until peers are told of them


class Fate(Enum):
    """What becomes of an update on one link."""

    NONE = auto()  # the peer may not see it, or does not hold it
    COMPARED = auto()  # the peer hears of it by a comparison
    WRITTEN = auto()  # the peer wrote it, and has it, perhaps not yet on its disk
    LEFT = auto()  # the peer gets it from the node that wrote it
    BARRED = auto()  # the peer may not take it from us, and gets it from others
    TOLD = auto()  # the peer is told that we have it, and asks if it lacks it
    TELLS = auto()  # the peer wrote it, and tells when it is on its disk
    SENT = auto()
    OFFERED = auto()  # the peer is shown our version, and asks for what it lacks


class Relay:
    """Passes updates on between the links of a node.

    A peer to which an update was not relayed is not known to have it: when somebody asks who has
    the phext, our version is offered to it, and for a while nothing is left to others.
    """

    def __init__(self, links: Mapping[int, Link], shared: Shared) -> None:
        self._news = News()
        self._links = links
        self._replicas = shared.replicas
        self._guests = shared.replicas.guests
        self._interest = shared.interest
        self._recent = shared.recent
        self._durable_first = shared.durable_first
        self._tree = shared.tree
        self._clock = shared.clock
        self._limits = shared.settings.limits
        self._timing = shared.settings.timing
        self._asked_at: dict[str, float] = {}  # by phext
        self._tells_at = inf
        self._late = Late(shared.tree, scrolls_max=shared.settings.limits.spared_max)
        self._tree.pass_on = self._pass_on_as_it_came

    # -- updates ---------------------------------------------------------------------------

    def take(self, new: NewUpdate) -> None:
        """An update took effect: pass it on now, or when it is durable. What others wrote to a
        guest, those pass on who hold it."""
        if new.source is None:
            waits = self._durable_first.take(new)
        else:
            guests = self._guests.here
            waits = bool(guests) and (new.phext, new.coordinate) in guests
        if waits:
            self._recent.advance()
            return
        for link in self._pass_on(new):
            if new.is_alone:
                link.edited()
            else:
                link.ready()

    def committing(self) -> None:
        """A batch was taken."""
        self._durable_first.committing()
        self._tree.committing()
        self._news.committing()

    def committed(self) -> Mapping[str, Sources]:
        """The batch is durable: pass on what was held back. Return the sources of each phext of
        which all is durable."""
        for new in self._durable_first.committed():
            self._pass_on(new)
        self._tree.committed()
        for link in self._links.values():
            if link.is_ready and link.has_work:  # an answer may have waited, too
                link.ready()
        return self._news.committed()

    def _pass_on(self, new: NewUpdate) -> list[Link]:
        """Keep an update at hand and mark it for the links that want it; return those that may
        send it."""
        scroll = (new.phext, new.coordinate)
        sequence = self._recent.advance()
        is_kept = False
        ready: list[Link] = []
        update = self._keep(new, sequence)
        is_in_tree = update is not None and self._is_common(*scroll)
        is_asked = self._is_asked(new.phext)
        fate_of = self._fate_in_tree if is_in_tree else self._fate
        if is_in_tree:
            self._tree.flow(new.phext)
        for link in self._links.values():
            link.findings.forget(scroll)
            if link.number == new.source:
                continue
            match fate_of(link, new, is_asked=is_asked):
                case Fate.SENT:
                    if link.refusals.reasons:
                        link.refusals.forget(scroll)
                    link.outgoing.change(scroll, sequence)
                    is_kept = True
                    if link.is_ready:
                        ready.append(link)
                case Fate.TOLD:
                    assert update is not None
                    link.branch.leave(update, scroll)
                    is_kept = True
                case Fate.TELLS:
                    assert update is not None
                    link.branch.note_written(self._clock.now, update, scroll)
                case Fate.LEFT | Fate.BARRED:
                    link.lazy.leave(self._clock.now, scroll)
                case Fate.WRITTEN:
                    link.lazy.note_written(self._clock.now, scroll)
                case Fate.COMPARED if self._late.takes(link.branch, new):
                    self._late.note(self._clock.now, link.branch, new)
                case Fate.COMPARED:
                    self._news.note(new.phext, new.source)
                    link.comparisons.mark_stale(new.phext)
                case Fate.OFFERED:
                    link.requests.offer(scroll)
                    if link.is_ready:
                        ready.append(link)
                case Fate.NONE:
                    pass
        if is_kept:
            self._recent.add(scroll, new.entry, new.source)
        return ready

    def _keep(self, new: NewUpdate, sequence: int) -> UpdateId | None:
        """Note that an update is here and return its id, where ids are of any use."""
        if not self._tree.is_used or not new.entry.origin:
            return None
        scroll = (new.phext, new.coordinate)
        update = update_id(*scroll, new.entry.update)
        self._tree.keep(update, scroll, sequence, new.source)
        return update

    def _pass_on_as_it_came(self, new: NewUpdate) -> None:
        scroll = (new.phext, new.coordinate)
        self._late.came(scroll, self._tree.branches.values())
        for link in self._pass_on(new):
            link.ready()

    def _fate(self, link: Link, new: NewUpdate, *, is_asked: bool) -> Fate:
        """Say what becomes of an update on a link that did not bring it; `is_asked`: somebody has
        asked lately who has it."""
        rights, origin = link.rights.of(new.phext), new.entry.origin
        scroll = (new.phext, new.coordinate)
        if link.rights.subscribed and scroll in link.rights.subscribed:
            return _fate_where_subscribed(link, origin)
        if not (contains(rights.show, new.coordinate) and link.rights.is_told(scroll)):
            return Fate.NONE  # nothing is noted: what is compared when it holds more brings it
        if not origin:
            return Fate.COMPARED
        if link.goodbye is not None:
            return Fate.NONE
        if link.peer_id == origin:
            return Fate.WRITTEN
        may_leave = new.source is not None and not is_asked and link.lazy.has_room(scroll)
        if not contains(rights.send, new.coordinate):
            return Fate.BARRED if may_leave else Fate.COMPARED
        return Fate.LEFT if may_leave and origin in link.lazy.neighbours else Fate.SENT

    def _fate_in_tree(self, link: Link, new: NewUpdate, *, is_asked: bool) -> Fate:
        """The same for what most nodes hold, where they are not all linked."""
        rights = link.rights
        is_plain = new.entry.origin and link.goodbye is None and not rights.subscribed
        if not (is_plain and rights.is_whole(new.phext)):
            fate = self._fate(link, new, is_asked=is_asked)
            if not link.branch.is_open or fate not in (Fate.SENT, Fate.LEFT, Fate.WRITTEN):
                return fate
        elif not link.branch.is_open:
            return self._fate(link, new, is_asked=is_asked)
        if link.peer_id == new.entry.origin:
            return Fate.TELLS
        if link.branch.is_eager or link.branch.is_full or is_asked:
            return Fate.SENT
        return Fate.TOLD

    def _is_common(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether most nodes hold a scroll, as far as we see: who would be told by one that does
        not asks others. One that may do everything counts such peers alone: what others may not
        read concerns them not. Of a guest nobody would tell us by the tree that it has our edits.
        """
        if not self._replicas.holding.is_held(phext, coordinate):
            return False
        count = without = 0
        is_limited = not self._interest.permissions.is_everything
        for link in self._links.values():
            if link.branch.is_open and (is_limited or link.permissions.is_everything):
                count += 1
                if not link.rights.is_whole(phext):
                    told = link.rights.told.get(phext, _ALL)
                    without += not contains(told, coordinate)
        return 2 * without < count

    # -- what was left to others -----------------------------------------------------------

    def ask(self, phext: str, links: list[Link], range_: CoordinateRange) -> None:
        """Somebody asks who has a range: offer what was left of it to others. The answer does not
        wait for a comparison, which a busy link puts off. A peer that may not write answers no
        offer, and one that may not take it from us does not ask back: a comparison finds what it
        has."""
        self._asked_at[phext] = self._clock.now
        for link in links:
            rights = link.rights.of(phext)
            answered = intersection(intersection((range_,), rights.take), rights.send)
            for unpushed in (link.lazy, link.branch):
                if unpushed.left:
                    unsettled = self._replicas.open(phext).uncommitted()
                    for scroll in unpushed.offer(phext, answered, unsettled):
                        link.requests.offer(scroll)
                    if answered != (range_,):
                        link.comparisons.schedule_soon(phext)
                    link.ready()

    def _is_asked(self, phext: str) -> bool:
        within_s = _ASKED_DELAYS * self._timing.compare_delay_s
        return self._clock.now - self._asked_at.get(phext, -inf) < within_s

    def compare_left(self, link: Link) -> None:
        """Compare soon, if something was not relayed on the link."""
        for phext in link.lazy.phexts_left():
            link.comparisons.schedule_soon(phext)

    def check(self, now: float, link: Link) -> None:
        """Compare what was left for too long: who was to send it may not have written it."""
        within_s = self._timing.ping_interval_s
        for unpushed in (link.lazy.overdue_written, link.branch.overdue):
            for phext in unpushed(now, within_s):
                link.comparisons.schedule_soon(phext)
        if link.lazy.is_overdue(now, self._timing.dead_after_s):
            self.compare_left(link)

    # -- the tree --------------------------------------------------------------------------

    def _grafted(self, link: Link, ids: tuple[UpdateId, ...]) -> None:
        """A peer asks for updates that it was told of, and for what comes."""
        for kept in self._tree.grafted(link.number, ids):
            phext, coordinate = kept.scroll
            if contains(link.rights.of(phext).send, coordinate):
                link.outgoing.change(kept.scroll, kept.sequence)
        link.ready()

    def tick(self, now: float) -> None:
        """Tell which updates are here, ask for such as are missing, and compare with peers that did
        not send what they told of."""
        if not self._replicas.is_dirty:
            for phext, sources in self._late.overdue(now):
                for link in self._links.values():
                    link.comparisons.hear_news(phext, sources)
        if now >= self._tells_at:
            self._tell_neighbours()
        telling, fruitless = self._tree.tick(now)
        for number in telling:
            self._links[number].ready()
        for number in fruitless:
            comparisons = self._links[number].comparisons
            for phext in comparisons.sessions:
                comparisons.schedule_soon(phext)

    # -- what peers say --------------------------------------------------------------------

    def receive(self, link: Link, message: Neighbours | Regrouped | Have | Graft | Prune) -> None:
        """A peer tells what it has of others, or how it wants to be told."""
        match message:
            case Neighbours(node_ids):
                self.meet_neighbours(link, node_ids)
            case Regrouped(gone, come):
                self._meet_regrouped(link, gone, come)
            case Have(ids):
                self._tree.hear(link.number, ids)
            case Graft(ids):
                self._grafted(link, ids)
            case Prune():
                self._tree.pruned(link.number)
            case _:
                assert_never(message)

    # -- neighbours ------------------------------------------------------------------------

    def links_changed(self) -> None:
        """Whom we are linked with has changed: peers are told, in a large mesh, where links come
        and go all the time, after a while."""
        if self._tree.is_grown:
            self._tells_at = min(self._tells_at, self._clock.now + _GATHERS_S)
        else:
            self._tell_neighbours()

    def _tell_neighbours(self) -> None:
        """Tell peers that may know everything whom we are linked with, unless they know it."""
        self._tells_at = inf
        linked = self._linked()
        for link in self._links.values():
            understands = link.hello is not None and link.hello.minor >= NEIGHBOURS_MINOR
            may_know = understands and link.is_ready and link.permissions.reads_everything
            if may_know and self._beside(link, linked) != link.neighbours_told:
                link.has_neighbours_to_tell = True
                link.ready()

    def neighbours_for(self, link: Link) -> Neighbours | Regrouped:
        """Return whom we are linked with besides the peer of a link, or what of that the peer does
        not know yet."""
        assert link.hello is not None
        link.has_neighbours_to_tell = False
        told, beside = link.neighbours_told, self._beside(link, self._linked())
        link.neighbours_told = beside
        if told is not None and link.hello.minor >= REGROUPED_MINOR:
            gone, come = told - beside, beside - told
            if len(gone) + len(come) < len(beside):
                return Regrouped(tuple(sorted(gone)), tuple(sorted(come)))
        return Neighbours(tuple(sorted(beside)))

    def _linked(self) -> frozenset[bytes]:
        return frozenset(link.peer_id for link in self._links.values() if link.is_ready)

    def _beside(self, link: Link, linked: frozenset[bytes]) -> frozenset[bytes]:
        """Return of those with whom we are linked whom the peer of a link is told of."""
        others, most = linked - {link.peer_id}, self._limits.neighbours_max
        return others if len(others) <= most else frozenset(sorted(others)[:most])

    def _meet_regrouped(self, link: Link, gone: tuple[bytes, ...], come: tuple[bytes, ...]) -> None:
        """A peer tells what is other than it told before."""
        neighbours = link.lazy.neighbours.difference(gone).union(come)
        most = self._limits.neighbours_max
        if len(neighbours) > most:
            raise ProtocolError(f"expected at most {most} neighbours, found {len(neighbours)}")
        self.meet_neighbours(link, neighbours)

    def meet_neighbours(self, link: Link, node_ids: Iterable[bytes]) -> None:
        """A peer tells whom it is linked with: compare soon if it has lost one."""
        if link.lazy.meet(node_id for node_id in node_ids if node_id != self._replicas.node_id):
            self.compare_left(link)


def _fate_where_subscribed(link: Link, origin: bytes) -> Fate:
    """Say what becomes of an update of a scroll that the peer does not hold and has subscribed to:
    no comparison finds it."""
    if link.goodbye is not None or link.peer_id == origin:
        return Fate.NONE
    return Fate.SENT if origin else Fate.OFFERED
