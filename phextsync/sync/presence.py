"""Presence: who is there, and what each node tells of itself, for as long as it goes on telling.

A node tells its facts again every few seconds, under a counter that grows. A node that hears
something newer passes it on to its other peers, once, with the time that is left of it; what was
not told again vanishes. No clock is compared with another's: only durations travel.

Where nodes are not all linked, what is newer is passed on along the tree, and each node tells its
facts more rarely; over other links a node tells of itself alone, and of the others when the link
comes to be one of the tree. Then it is its neighbours, who ask it every second, that notice when
one is gone: they pass its notice on with little time left (after SWIM, Das 2002: a suspicion). Who
hears that of itself tells its facts at once.

Sans-IO; used in one thread.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol, TypeAlias

from phextsync.errors import PhextsyncError, ProtocolError
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Notice, check_facts

_TOLD_BEFORE_GONE: Final = 3  # a presence outlives two tellings that were lost
_NODES_PER_S: Final = 20  # so many are told at most: a large mesh tells each less often
_SPARSE_NODES_PER_S: Final = 2.5  # where nodes are not all linked, and neighbours look after them
_SPARSE_INTERVAL_S: Final = 200.0  # at most
_SUSPECT_S: Final = 5.0
_GRACE_S: Final = 1.0
_NOTICE_BYTES: Final = 400
_LIMITED: Final = (".limited", 1)
"""The fact by which a node tells that its certificate does not allow everything: others let ways
lead around it. It is no fact for users."""

Life: TypeAlias = tuple[bytes, bytes]
"""A node id and an incarnation: a node from its start to its end."""


def _ignore(link: int) -> None:
    """Nobody listens."""


def _ignore_told() -> None:
    """Nobody listens."""


class Ways(Protocol):
    """Which links pass on what concerns everybody."""

    @property
    def is_grown(self) -> bool:
        """Whether this node is not to be linked with all others."""

    def pushes(self, link: int) -> bool:
        """Whether a link is told at once."""

    def is_chosen(self, link: int) -> bool:
        """Whether a link is not only pushed to until something is mended."""


@dataclass(frozen=True, slots=True)
class PeerPresence:
    """What a node tells of itself. `is_here` is false in the last word about one that is gone."""

    node_id: bytes
    name: str
    facts: Mapping[str, str | int]
    is_here: bool = True


class PresenceStatistics(NamedTuple):
    """What this node tells, of how many starts of other nodes it knows, and how many peers hear
    it."""

    facts: dict[str, str | int]
    starts: int
    peers: int


@dataclass(slots=True)
class _Known:
    notice: Notice
    heard_at: float
    expires_at: float
    turn: int  # grows over all that is to be passed on
    is_limited: bool


class PresenceBoard:
    """What is known of who is there. `on_ready(link)` is called when a link has to be told."""

    def __init__(
        self,
        node_id: bytes,
        name: str,
        incarnation: bytes,
        *,
        limits: Limits,
        interval_s: float,
        is_limited: Callable[[], bool] = lambda: False,
        ways: Ways | None = None,
        on_ready: Callable[[int], None] = _ignore,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._own = (node_id, incarnation)
        self._name = name
        self._is_limited = is_limited
        self._limits = limits
        self._interval_s = interval_s
        self._ways = ways
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._parts: dict[bytes, Mapping[str, str | int]] = {}  # by session
        self._facts: tuple[tuple[str, str | int], ...] | None = None
        self._counter = 0
        self._told_at = 0.0
        self._tells_by = math.inf  # what was said of the time that is left holds until then
        self._now = 0.0
        self._known: dict[Life, _Known] = {}
        self._expires_by = math.inf  # none of them before
        self._turn = 0
        self._links: dict[int, _Link] = {}
        self._subscribers: dict[object, Callable[[PeerPresence], None]] = {}
        self.on_told_here: Callable[[], None] = _ignore_told

    # -- what users call -------------------------------------------------------------------

    def publish(self, facts: Mapping[str, str | int], session: bytes = b"") -> None:
        """Tell everybody `facts`, in place of those told before, until this node goes.

        Names, texts, and integers from 0 on; about 1 KB in all (`Limits.presence_bytes_max`).
        PhextsyncError when they are more, TypeError when they are no mapping. Those of a `session`
        (a process at this node) are told beside the others, and count with them; of two facts of
        one name the later one is told. No facts end it.
        """
        parts = {key: part for key, part in self._parts.items() if key != session}
        if facts:
            parts[session] = {**facts}  # `dict` takes pairs, too
        every = tuple(fact for part in parts.values() for fact in part.items())
        try:  # so that what any session leaves behind fits too
            check_facts((*every, _LIMITED), self._limits)
        except ProtocolError as error:
            raise PhextsyncError(str(error)) from error
        self._parts, self._facts = parts, tuple(sorted(dict(every).items()))
        self._tell()
        self.on_told_here()

    def told_here(self, but: bytes | None = None) -> dict[str, str | int]:
        """Return the facts of all sessions at this node, without those of one; `on_told_here()` is
        called when there are others."""
        parts = (part for session, part in self._parts.items() if session != but)
        return {name: value for part in parts for name, value in part.items()}

    def peers(self) -> tuple[PeerPresence, ...]:
        """Return what the other nodes told of themselves, by node id."""
        latest: dict[bytes, _Known] = {}
        for (node_id, _), known in self._known.items():
            if node_id not in latest or latest[node_id].heard_at < known.heard_at:
                latest[node_id] = known
        return tuple(_presence(latest[node_id].notice) for node_id in sorted(latest))

    def here(self) -> set[bytes]:
        """Return which other nodes are there."""
        return {node_id for node_id, _ in self._known}

    def limited(self) -> frozenset[bytes]:
        """Return which nodes tell that they may not do everything, this one among them if so."""
        told = (node[0] for node, known in self._known.items() if known.is_limited)
        return frozenset((*told, self._own[0]) if self._is_limited() else told)

    @property
    def knows_all(self) -> bool:
        """Whether there are fewer nodes than it keeps."""
        return len(self._known) < self._limits.presences_max

    def heard(self) -> dict[bytes, float]:
        """Return when this node heard last of each of the other nodes that are there; nothing
        where there may be more of them than it keeps."""
        if not self.knows_all:
            return {}
        latest: dict[bytes, float] = {}
        for (node_id, _), known in self._known.items():
            latest[node_id] = max(known.heard_at, latest.get(node_id, known.heard_at))
        return latest

    def statistics(self) -> PresenceStatistics:
        """Return what can be counted of this board."""
        return PresenceStatistics(dict(self._facts or ()), len(self._known), len(self._links))

    def subscribe(self, callback: Callable[[PeerPresence], None]) -> Callable[[], None]:
        """Call `callback` when a node comes, tells something else, or is gone; return what ends
        the subscription. One that fails is reported."""
        token = object()
        self._subscribers[token] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(token, None)

        return unsubscribe

    # -- what the core calls ---------------------------------------------------------------

    def link_opened(
        self, now: float, link: int, peer_id: bytes, *, left_s_max: int | None = None
    ) -> dict[Life, None]:
        """A peer that understands presence is there: tell it everything, or of this node alone if
        the link is not to be pushed to, with `left_s_max` seconds left at most. The result has
        something in it for as long as there is something to tell."""
        self._now = max(self._now, now)
        left_s_max = left_s_max or self._limits.presence_left_s_max
        self._links[link] = state = _Link(peer_id, 1000 * left_s_max, told_until=0)
        if self._facts is not None:
            state.due[self._own] = None
        self.ways_changed()
        return state.due

    def ways_changed(self) -> None:
        """Other links may be pushed to than before: those of the tree are told what came since
        they were."""
        for link, state in self._links.items():
            if not self._pushes(link):
                state.told_until = self._turn if state.told_until is None else state.told_until
            elif state.told_until is not None and self._is_chosen(link):
                told_until, state.told_until = state.told_until, None
                new = (node for node, known in self._known.items() if known.turn > told_until)
                state.due.update(dict.fromkeys(new))
                if self._facts is not None:
                    state.due[self._own] = None
                self._on_ready(link)

    def link_closed(self, now: float, link: int, *, is_lost: bool = False) -> None:
        """A peer is no longer linked, if it has no other link: if it is not told of by others soon,
        it is gone. Where not all are linked with it, others are told that, if it was `lost`
        without a word."""
        self._now = max(self._now, now)
        closed = self._links.pop(link, None)
        linked = (other.peer_id for other in self._links.values())
        if closed is not None and closed.peer_id not in linked:
            soon_s = _GRACE_S + (_SUSPECT_S if self._is_sparse else self.interval_s)
            for node, known in self._known.items():
                if node[0] == closed.peer_id and (is_lost or not self._is_sparse):
                    self._expire(known, min(known.expires_at, now + soon_s))
                    if self._is_sparse:
                        self._pass_on(node)

    def receive(self, now: float, link: int, notices: Sequence[Notice]) -> None:
        """Take what a peer tells, of itself and of others."""
        self._now = max(self._now, now)
        source = self._links.get(link)
        if source is None:
            raise ProtocolError("expected no presence from a peer of an older version")
        for notice in notices:
            node = (notice.node_id, notice.incarnation)
            if node == self._own:
                self._contradict(notice)
            elif notice.node_id != self._own[0]:
                known = self._known.get(node)
                if known is None or notice.counter > known.notice.counter:
                    self._take(node, notice, is_direct=source.peer_id == notice.node_id)
                elif self._is_suspicion(notice, known.notice.counter):
                    self._suspect(node, known, notice.left_ms / 1000)
                if known is None or notice.counter >= known.notice.counter:
                    source.due.pop(node, None)  # it knows as much as we do

    def tick(self, now: float) -> float:
        """Forget who was not told of again, and tell again; return when to be called next."""
        self._now = max(self._now, now)
        if now >= self._expires_by:
            for node, known in list(self._known.items()):
                if known.expires_at <= now:
                    self._forget(node)
            left = (known.expires_at for known in self._known.values())
            self._expires_by = min(left, default=math.inf)
        deadline = self._expires_by
        if self._facts is not None:
            if now >= self._tells_at:  # as below: a difference may be rounded
                self._tell()
            deadline = min(deadline, self._tells_at)
        return deadline

    def next_notices(self, now: float, link: int) -> tuple[Notice, ...]:
        """Return what to tell a peer now, as much as fits in a frame; may be nothing."""
        self._now = max(self._now, now)
        due, left_ms_max = self._links[link].due, self._links[link].left_ms_max
        notices: list[Notice] = []
        size = 0
        while due and size < self._limits.frame_bytes_goal:
            node = next(iter(due))
            del due[node]
            notice = self._notice(node)
            if notice is not None:
                if notice.left_ms > left_ms_max:
                    notice = replace(notice, left_ms=left_ms_max)
                notices.append(notice)
                size += self._limits.presence_bytes_max + _NOTICE_BYTES
        return tuple(notices)

    @property
    def interval_s(self) -> float:
        """How often this node tells its facts; a large mesh makes it less often."""
        if self._is_sparse:
            rarely_s = min(len(self._known) / _SPARSE_NODES_PER_S, _SPARSE_INTERVAL_S)
            return max(self._interval_s, rarely_s)
        return max(self._interval_s, len(self._known) / _NODES_PER_S)

    # -- inside ----------------------------------------------------------------------------

    @property
    def _is_sparse(self) -> bool:
        return self._ways is not None and self._ways.is_grown

    @property
    def _tells_at(self) -> float:
        """When this node tells its facts again: also where more nodes are there than when it told
        somebody for how long it is."""
        return min(self._told_at + self.interval_s, self._tells_by)

    def _tell(self) -> None:
        self._counter += 1
        self._told_at, self._tells_by = self._now, math.inf
        self._pass_on(self._own)

    def _pass_on(self, node: Life) -> None:
        self._turn += 1
        if node in self._known:
            self._known[node].turn = self._turn
        for link, state in self._links.items():
            if self._pushes(link) or node[0] == state.peer_id:
                state.due[node] = None
                self._on_ready(link)

    def _pushes(self, link: int) -> bool:
        return self._ways is None or self._ways.pushes(link)

    def _is_chosen(self, link: int) -> bool:
        return self._ways is None or self._ways.is_chosen(link)

    def _notice(self, node: Life) -> Notice | None:
        """Return what to say of a node now, None when it is gone."""
        if node == self._own:
            left_s = _TOLD_BEFORE_GONE * self.interval_s
            self._tells_by = min(self._tells_by, self._now + self.interval_s)
            left_ms = int(1000 * min(left_s, self._limits.presence_left_s_max))
            assert self._facts is not None
            facts = (*self._facts, _LIMITED) if self._is_limited() else self._facts
            return Notice(*node, self._counter, left_ms, self._name, facts)
        known = self._known.get(node)
        if known is None or known.expires_at <= self._now:
            return None
        left_ms = int(1000 * (known.expires_at - self._now))
        return replace(known.notice, left_ms=left_ms)

    def _contradict(self, notice: Notice) -> None:
        """Somebody tells more of us than we do, or that we are gone: tell everybody how it is."""
        is_wrong = notice.counter > self._counter or self._is_suspicion(notice, self._counter)
        if is_wrong and self._facts is not None:
            self._counter = notice.counter
            self._tell()

    def _is_suspicion(self, notice: Notice, counter: int) -> bool:
        """Whether somebody believes that a node is gone, and knows what we know of it."""
        is_short = notice.left_ms <= 1000 * (_SUSPECT_S + _GRACE_S)
        return self._is_sparse and notice.counter == counter and is_short

    def _suspect(self, node: Life, known: _Known, left_s: float) -> None:
        """Somebody has lost a node: unless it contradicts, it is gone. It is told so, too."""
        if self._now + left_s + _GRACE_S < known.expires_at:
            self._expire(known, self._now + left_s)
            self._pass_on(node)

    def _expire(self, known: _Known, at: float) -> None:
        known.expires_at = at
        self._expires_by = min(self._expires_by, at)

    def _take(self, node: Life, notice: Notice, *, is_direct: bool) -> None:
        before = self._known.get(node)
        if before is None and len(self._known) >= self._limits.presences_max:
            if not is_direct:
                return
            self._forget(min(self._known, key=lambda other: self._known[other].expires_at))
        self._known[node] = known = _Known(
            notice, self._now, math.inf, self._turn, _LIMITED in notice.facts
        )
        self._expire(known, self._now + notice.left_ms / 1000)
        self._pass_on(node)
        if before is None or (before.notice.name, before.notice.facts) != (
            notice.name,
            notice.facts,
        ):
            self._publish(_presence(notice))

    def _forget(self, node: Life) -> None:
        notice = self._known.pop(node).notice
        for state in self._links.values():
            state.due.pop(node, None)
        if not any(node_id == node[0] for node_id, _ in self._known):
            self._publish(replace(_presence(notice), is_here=False))

    def _publish(self, presence: PeerPresence) -> None:
        for callback in tuple(self._subscribers.values()):
            try:
                callback(presence)
            except Exception as error:
                self._on_failure("a subscriber to presence", error)


@dataclass(slots=True)
class _Link:
    """A peer, how much time it may be told is left, and of whom it has to be told. `told_until`:
    the last turn that it was told of, None where it is told everything."""

    peer_id: bytes
    left_ms_max: int
    told_until: int | None
    due: dict[Life, None] = field(default_factory=dict)


def _presence(notice: Notice) -> PeerPresence:
    facts = {name: value for name, value in notice.facts if name != _LIMITED[0]}
    return PeerPresence(notice.node_id, notice.name, facts)
