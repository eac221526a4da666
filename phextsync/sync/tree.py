"""Tree: which links get an update at once, and how what is missing is noticed and fetched.

Leitao 2007 (Plumtree): all links begin as eager. A link that brings an update a second time is
pruned: it becomes lazy, and ids are told over it. An id of something that does not come soon makes
a lazy link eager again (graft), which brings it and what follows. So eager links come to be a
tree, which mends itself.

Where updates follow each other faster than they travel, links are pruned in more places than one of
each circle, and grafted again, without end. So nodes that know the same choose the same tree
(`follow`), and prune none of its links; what is grafted and pruned then is where they know
different things, or something broke.

Sans-IO; used in one thread.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Final, NamedTuple

from phextsync.replica.listener import NewUpdate
from phextsync.sync.branch import Branch
from phextsync.sync.clock import Clock
from phextsync.sync.limits import Limits
from phextsync.sync.messages import ScrollId, UpdateId
from phextsync.sync.timing import Timing

_FLUSH_PAUSE_S: Final = 0.01
_COMPARED_LINKS: Final = 4
_CALM_S: Final = 0.5  # after the last of many updates, until all have come by the tree
_FLOWS_S: Final = 5.0  # what goes on for longer is compared all the same
_TRIPS: Final = 2  # there and back over a link, while an update goes through the tree
_TRIPS_S: Final = 0.4  # at most
_SPREAD: Final = 1  # delays of grafts differ by so many times the least


def _ignore(_: NewUpdate) -> None:
    """Nobody passes it on."""


class Kept(NamedTuple):
    """An update that is here: its scroll, the sequence number under which it took effect, and the
    link that brought it first, None for none."""

    scroll: ScrollId
    sequence: int
    source: int | None = None


@dataclass(slots=True)
class _Missing:
    """An update that others have. `told_by`: links, in the order in which they told of it."""

    due: float
    told_by: deque[int] = field(default_factory=deque)
    asked: int | None = None


class Tree:
    """The links of one node as branches of a broadcast tree.

    `is_grown`: this node is not to be linked with all others. Where it is, no link is pruned: each
    writer serves everybody itself.
    """

    def __init__(self, clock: Clock, timing: Timing, limits: Limits, random: Random) -> None:
        self.branches: dict[int, Branch] = {}
        self.pass_on: Callable[[NewUpdate], None] = _ignore  # what nobody else passes on
        self.on_changed: Callable[[], None] = lambda: None  # other links may be pushed to
        self.is_used = False
        """Whether ids are of any use. Each edit asks for it."""
        self._is_grown = False
        self._plan: frozenset[bytes] | None = None
        self._clock = clock
        self._timing = timing
        self._limits = limits
        self._random = random
        self._kept: OrderedDict[UpdateId, Kept] = OrderedDict()
        self._fresh: list[UpdateId] = []
        self._committing: list[UpdateId] = []
        self._missing: dict[UpdateId, _Missing] = {}
        self._told_at: float | None = None  # when ids are told that wait
        self._flows: dict[str, tuple[float, float]] = {}  # since when, and until when, by phext

    @property
    def is_grown(self) -> bool:
        return self._is_grown

    @is_grown.setter
    def is_grown(self, is_grown: bool) -> None:
        """What was pruned is grafted again when all others come to be linked. Who may know of few
        others hears from them that not all are."""
        was_grown, self._is_grown = self._is_grown, is_grown
        for branch in self.branches.values():
            if was_grown and not is_grown and not branch.is_eager:
                branch.graft(())
        self._look()

    def _look(self) -> None:
        """A branch has come or gone, or is eager or lazy now."""
        self.is_used = self._is_grown or not all(b.is_eager for b in self.branches.values())
        self.on_changed()

    # -- links -----------------------------------------------------------------------------

    def join(self, link: int, branch: Branch) -> None:
        """A link is up whose peer knows of the tree."""
        branch.is_open = True
        self.branches[link] = branch
        if self._plan is not None:
            branch.plan(is_planned=branch.peer_id in self._plan)
        self._look()

    def follow(self, peer_ids: frozenset[bytes] | None) -> None:
        """The links with these peers are those of the tree that all choose; None: of no tree, and
        what peers pruned stays so."""
        if peer_ids is None and self._plan is None:
            return
        self._plan = peer_ids
        for branch in self.branches.values():
            branch.plan(is_planned=peer_ids is None or branch.peer_id in peer_ids)
        self._look()

    def lose(self, link: int) -> None:
        """A link is gone. What came by it comes by another one soon; more than one is pruned."""
        lost = self.branches.pop(link, None)
        if lost is not None and lost.is_eager and self._is_grown:
            for branch in self.branches.values():
                if not branch.is_eager:
                    branch.graft(())
                    break
        self._look()

    def pushes(self, link: int) -> bool:
        """Whether what concerns everybody is sent on a link at once."""
        branch = self.branches.get(link)
        return branch is None or branch.is_eager

    def is_chosen(self, link: int) -> bool:
        """Whether a link is of the tree that all choose, if there is one."""
        branch = self.branches.get(link)
        return branch is None or self._plan is None or branch.is_planned

    @property
    def rarer(self) -> float:
        """How many times rarer a link is compared than where all nodes are linked: so a node
        compares as often as with four links."""
        return max(1.0, len(self.branches) / _COMPARED_LINKS) if self._is_grown else 1.0

    # -- updates ---------------------------------------------------------------------------

    def keep(
        self, update: UpdateId, scroll: ScrollId, sequence: int, source: int | None = None
    ) -> None:
        """An update took effect here, or had before; `source` is the link that brought it."""
        self._missing.pop(update, None)
        if update in self._kept:
            return
        self._kept[update] = Kept(scroll, sequence, source)
        self._fresh.append(update)
        if len(self._kept) > self._limits.update_ids_max:
            self._kept.popitem(last=False)

    def has(self, update: UpdateId) -> bool:
        """Whether an update was here lately."""
        return update in self._kept

    def came(self, link: int, update: UpdateId) -> None:
        """A link brought an update: its peer has it."""
        branch = self.branches.get(link)
        if branch is not None:
            branch.hear(update)

    def doubled(self, link: int, update: UpdateId) -> None:
        """A link brought an update that was here. It is pruned if the link that brought it first is
        still eager: where several updates flood at a time, a node may otherwise prune all. Of two
        of which one is of the tree that all choose, the other one is, also if it was faster."""
        branch = self.branches.get(link)
        if branch is None or branch.is_refused or not self._is_grown:
            return
        source = self._kept[update].source
        first = None if source is None else self.branches.get(source)
        if self._plan is not None:
            if not branch.is_planned:
                self._prune(branch)
            elif first is not None and not (first.is_planned or first.is_refused):
                self._prune(first)
            return
        if source is None or (first is not None and first is not branch and first.is_eager):
            self._prune(branch)

    def _prune(self, branch: Branch) -> None:
        branch.prune()
        self._look()

    def flow(self, phext: str) -> None:
        """Something of a phext is passed on by the tree."""
        now = self._clock.now
        began, last = self._flows.get(phext, (now, now))
        self._flows[phext] = (began if now - last < _CALM_S else now), now

    def is_flowing(self, phext: str) -> bool:
        """Whether more of a phext is on its way by the tree: each comparison would find it, over
        every link, and it would come as often."""
        began, last = self._flows.get(phext, (-inf, -inf))
        now = self._clock.now
        return self._is_grown and now - last < _CALM_S and now - began < _FLOWS_S

    # -- our disk --------------------------------------------------------------------------

    def committing(self) -> None:
        """A batch was taken: what has arrived so far will be durable with it."""
        self._committing += self._fresh
        self._fresh = []

    def committed(self) -> None:
        """The batch is durable: tell of it after a while, in which peers may tell first."""
        durable, self._committing = self._committing, []
        if not durable or not self.is_used:
            return
        for branch in self.branches.values():
            if branch.left:
                for update in durable:
                    branch.is_durable(update)
        if self._told_at is None and any(branch.untold for branch in self.branches.values()):
            self._told_at = self._clock.now + self._timing.have_delay_s
            self._clock.ask_for_tick(self._told_at, pause_s=_FLUSH_PAUSE_S)

    # -- what peers say --------------------------------------------------------------------

    def hear(self, link: int, ids: Iterable[UpdateId]) -> None:
        """A peer has these updates on its disk."""
        branch = self.branches.get(link)
        if branch is None:
            return
        far_s: float | None = None  # worked out where something is missing
        for update in ids:
            branch.hear(update)
            if update in self._kept:
                continue
            missing = self._missing.get(update)
            if missing is None:
                if len(self._missing) >= self._limits.update_ids_max:
                    continue  # the next comparison finds it
                far_s = self._far_s() if far_s is None else far_s
                # The first of those that lost their branch together sends it to the others.
                delay_s = self._timing.graft_delay_s * (1 + _SPREAD * self._random.random())
                missing = _Missing(self._clock.now + far_s + delay_s)
                self._missing[update] = missing
                self._clock.ask_for_tick(missing.due, pause_s=_FLUSH_PAUSE_S)
            missing.told_by.append(link)

    def grafted(self, link: int, ids: Iterable[UpdateId]) -> list[Kept]:
        """A peer wants to be pushed to; return what it asks for of what is here."""
        branch = self.branches.get(link)
        if branch is None:
            return []
        branch.is_eager = True
        self._look()
        found = [(update, self._kept[update]) for update in ids if update in self._kept]
        for update, _ in found:
            branch.hear(update)
        return [kept for _, kept in found]

    def pruned(self, link: int) -> None:
        """A peer hears from others what this node tells it."""
        branch = self.branches.get(link)
        if branch is not None:
            branch.is_eager = False
            self._look()

    def _far_s(self) -> float:
        """How much later updates come and are answered where peers are far: an id goes over one
        link, and what it is of over several of the tree that all choose."""
        if self._plan is None:
            return 0.0
        trips_s = max((b.round_trip_s() or 0.0 for b in self.branches.values()), default=0.0)
        return min(_TRIPS * trips_s, _TRIPS_S)

    # -- time ------------------------------------------------------------------------------

    def tick(self, now: float) -> tuple[list[int], list[int]]:
        """Graft what did not come. Return the links that have ids to tell, and those that told of
        something that never came."""
        telling: list[int] = []
        if self._told_at is not None and now >= self._told_at:
            self._told_at = None
            for link, branch in self.branches.items():
                if branch.untold:
                    branch.is_telling = True
                    telling.append(link)
        return telling, self._graft_due(now)

    @property
    def deadline(self) -> float:
        """When to be ticked at the latest."""
        told_at = self._told_at if self._told_at is not None else inf
        return min((missing.due for missing in self._missing.values()), default=told_at)

    def _graft_due(self, now: float) -> list[int]:
        """Ask for what is missing where it was told of; first where other things are asked for."""
        grafts: dict[int, list[UpdateId]] = {}
        fruitless: dict[int, None] = {}
        far_s = self._far_s() if self._missing else 0.0
        for update, missing in list(self._missing.items()):
            if missing.due > now:
                continue
            told_by = [link for link in missing.told_by if link in self.branches]
            if not told_by:
                del self._missing[update]
                if missing.asked in self.branches:
                    fruitless[missing.asked] = None
                continue
            link = next((link for link in told_by if link in grafts), told_by[0])
            missing.told_by = deque(other for other in told_by if other != link)
            missing.due, missing.asked = now + far_s + self._timing.graft_delay_s, link
            grafts.setdefault(link, []).append(update)
        for link, ids in grafts.items():
            self.branches[link].graft(ids)
        if grafts:
            self._look()
        return list(fruitless)
