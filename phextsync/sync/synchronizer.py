"""Synchronizer: decides what to say to each peer. No IO, no clock, no randomness of its own.

The rules of this file:

* Frames of one link arrive in order, or the link ends. Whatever a link lost, the comparison that
  opens the next one finds.
* Sending is pulled. A link keeps sets of coordinates, never a queue of updates; `next_frame`
  makes a frame of them when the link can take one. Bursts coalesce; a slow peer costs a set.
* Only what is durable here is compared and acknowledged. `Acknowledge` says of how many frames
  of updates, received and sent on this link, everything is on disk.
* The receiver is in charge: an update that builds on something it lacks is not acknowledged; it
  asks with its version and gets exactly what it lacks.
* The peer with the smaller node id starts comparisons; the other asks for one with a `Summary`.
* Every link has rights: what the peer may be shown, what it may take from us, and what we take
  from it (`Rights`). Each frame that is sent or received passes one of the three; what may not
  be shown is in no summary, comparison, request or update, nor does it cause one.
* An update with an origin is live and is relayed at once to the other links, but not to a peer
  that says that it is linked with the origin (`Neighbours`). What a comparison brought is not
  relayed: the other links are compared again shortly after.
* A peer that was spared an update is not known to have it until it says so: when somebody asks
  (`lacking`, `holders`) our version is offered to it, and when a link that was relied on is gone
  there is a comparison. While somebody asks, nobody is spared.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from random import Random
from typing import Final, TypeAlias

from phextsync.crdt import ROOT
from phextsync.errors import ProtocolError, ScrollError, StoreDamagedError, UpdateError
from phextsync.index import (
    EMPTY_VERSION,
    EVERYTHING,
    Coordinate,
    CoordinateRange,
    check_update,
    check_version,
    clean_update,
    covers,
    update_version,
)
from phextsync.replica.replicas import NewUpdate, Replica, ReplicaSet
from phextsync.store.stores import LogEntry
from phextsync.sync import reconcile
from phextsync.sync.clock import Clock
from phextsync.sync.comparison import AUDIT, RANGES, Comparison, Turn
from phextsync.sync.heartbeat import Heartbeat, PingTokens
from phextsync.sync.ledger import Ledger
from phextsync.sync.messages import (
    NEIGHBOURS_MINOR,
    PRESENCE_MINOR,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Acknowledge,
    Compare,
    Conflict,
    Entry,
    Goodbye,
    Hello,
    Limits,
    Message,
    Neighbours,
    Part,
    PhextSummary,
    Ping,
    Pong,
    Presence,
    Refused,
    ScrollId,
    Summary,
    Unknown,
    Updates,
    Want,
    decode,
    encode,
)
from phextsync.sync.news import News
from phextsync.sync.outbox import Outbox
from phextsync.sync.presence import PresenceBoard
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.rights import Interest, LinkRights, Rights
from phextsync.trust.permissions import (
    UNRESTRICTED,
    Permissions,
    Ranges,
    contains,
    holds,
    intersection,
)

_ENTRY_BYTES: Final = 40  # what an entry adds to its update in a frame, at most
_REASON_BYTES_MAX: Final = 200
_NOT_ALLOWED: Final = "your certificate does not allow writing there"
_ASKED_DELAYS: Final = 5  # of a comparison: so long after a question somebody may wait for more
_PLACES_LOOKED_AT_MAX: Final = 1000  # by one question that is asked for every file that is saved
_STEPS_PER_AUDIT: Final = 8  # of one audit that cost as much as reading every entry once more
_OF_A_PHEXT: Final = (Updates, Want, Part, Compare, Refused, Conflict)

DUPLICATE: Final = (
    "a node with this identity runs already: stop one; if this folder is a copy, delete its "
    "identity.pem and run `phextsync join CODE`: the scrolls stay"
)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A dead peer is noticed after `dead_after_s`, one that says no hello after
    `hello_within_s`; a comparison that found nothing new
    is repeated after `compare_interval_s`, one that did after `compare_delay_s`; a large phext is
    audited at most every `audit_interval_s`. A node tells its presence at least every
    `presence_interval_s` and is gone after three times as long."""

    ping_interval_s: float = 1.0
    dead_after_s: float = 3.0
    hello_within_s: float = 10.0
    compare_interval_s: float = 30.0
    compare_delay_s: float = 0.1
    audit_interval_s: float = 600.0
    presence_interval_s: float = 5.0


@dataclass(frozen=True, slots=True)
class PeerJoined:
    link: int
    peer_id: bytes
    name: str


@dataclass(frozen=True, slots=True)
class PeerLost:
    """`interests` has the ranges that the peer held of the phexts that it told of."""

    link: int
    peer_id: bytes
    name: str
    reason: str
    interests: Mapping[str, Ranges] = field(default_factory=dict)


Event: TypeAlias = PeerJoined | PeerLost


@dataclass(frozen=True, slots=True)
class Lack:
    """What a connected peer is not known to have on its disk: how many scrolls, why, and how many
    bytes their texts have; of a scroll that it has in part, only the difference is to be sent.
    While it is compared, what it lacks is not known and both are 0."""

    peer_id: bytes
    scrolls: int
    reason: str
    name: str = ""
    text_bytes: int = 0

    def __str__(self) -> str:
        who = self.name or self.peer_id.hex()[:8]
        scrolls = "1 scroll" if self.scrolls == 1 else f"{self.scrolls} scrolls"
        what = f"{scrolls} ({self.text_bytes} bytes)" if self.scrolls else "something"
        return f"{who} lacks {what}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How many scrolls of a phext, and bytes of their text, are durable here, and the most that
    a peer announced when it was last compared."""

    phext: str
    scrolls: int
    scrolls_of: int
    text_bytes: int
    text_bytes_of: int


@dataclass(slots=True)
class Traffic:
    """Counters of one link. `redundant` counts updates received that changed nothing."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    updates_in: int = 0
    updates_out: int = 0
    redundant: int = 0
    comparisons: int = 0
    compare_messages: int = 0


@dataclass(slots=True)
class _Session:
    """A comparison of one phext over one link, from its first message to the empty one.

    `comparison` is None while the peer is to begin one. `is_needed`: the digests differed.
    """

    number: int
    comparison: Comparison | None
    steps_max: int = 0
    is_needed: bool = False
    is_audit: bool = False
    step: int = 0
    is_open: bool = True
    has_found: bool = False
    # What was unheard of the peer, or spared it, is durable here and has not changed since.
    sees: dict[ScrollId, None] = field(default_factory=dict)
    is_uneven: bool = False  # something differs and stays, since a certificate does not allow it
    is_withheld: bool = False  # in particular: something that we have and the peer has not

    @property
    def found_none(self) -> bool:
        """Whether it has ended and saw that nothing differs: the answer to a root was empty, or
        the digests were equal before it began. A list may be answered by nothing and by updates."""
        steps = (3,) if self.is_audit else (0, 2)
        is_sure = not (self.is_needed or self.has_found or self.is_uneven)
        return not self.is_open and is_sure and self.step in steps

    def note(self, *, is_found: bool, is_withheld: bool = False) -> None:
        """Note a difference: whether it will be settled, and whether the peer will lack it."""
        self.has_found |= is_found
        self.is_uneven |= not is_found
        self.is_withheld |= is_withheld


@dataclass(slots=True)
class _Assembly:
    """The parts that have come of an entry that is larger than a frame."""

    place: ScrollId
    total: int
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0


class _Link:
    """All that the core keeps of one link."""

    def __init__(
        self,
        link: int,
        peer_id: bytes,
        permissions: Permissions,
        parts: "_Parts",
        *,
        dialled: bool,
        now: float,
    ) -> None:
        self.link = link
        self.peer_id = peer_id
        self.permissions = permissions
        self.rights = parts.rights
        self.ledger = parts.ledger
        self.heartbeat = parts.heartbeat
        self.outbox = parts.outbox
        self.dialled = dialled
        self.hello: Hello | None = None
        self.theirs: dict[str, PhextSummary] = {}
        self.traffic = Traffic()
        self.goodbye: str | None = None
        self.is_finished = False
        self.is_held = False  # a second link of a node whose first one is being probed
        self.held: list[bytes] = []
        self.held_bytes = 0
        self.probe = 0
        # out; ordered dictionaries, since what is taken first is found without a walk
        self.announced: dict[str, bytes] = {}
        self.announced_first: dict[str, int] = {}  # the last ping before it
        self.wants: OrderedDict[ScrollId, None] = OrderedDict()
        self.compares: deque[Compare] = deque()
        self.dirty: OrderedDict[ScrollId, int] = OrderedDict()
        self.found: OrderedDict[ScrollId, None] = OrderedDict()  # of comparisons: it lacks them
        self.asked: OrderedDict[ScrollId, bytes] = OrderedDict()
        self.asked_bytes = 0
        self.streams: deque[tuple[str, CoordinateRange]] = deque()
        self.parts: deque[Part] = deque()
        self.presences: Mapping[tuple[bytes, bytes], None] = {}
        self.neighbours: frozenset[bytes] = frozenset()  # whom the peer is linked with besides us
        self.has_neighbours_to_tell = False
        self.spared: dict[ScrollId, float] = {}  # left to its writer, since when
        self.turn = 0
        self.refused: dict[ScrollId, str] = {}
        # differing scrolls that only one side may write: exchanged once, until they change here
        # or the peer tells of other ones beside them: the digest of what it told
        self.exchanged: dict[ScrollId, bytes] = {}
        # in
        self.unheard: dict[ScrollId, float] = {}  # it wrote them, others told
        self.wanted: dict[ScrollId, int] = {}  # bytes of the request
        self.wanted_bytes = 0
        self.adopting: dict[ScrollId, None] = {}
        self.adopted: dict[ScrollId, int] = {}  # how many times
        self.refusals = 0
        self.conflicts_said: dict[ScrollId, None] = {}
        self.assembly: _Assembly | None = None
        # comparison
        self.audit_saved = 0.0  # entries that may be audited
        self.audit_saved_at = now
        self.sessions: dict[str, _Session] = {}
        self.session_number = 0
        self.compare_due: dict[str, float] = {}
        self.audits: dict[str, tuple[float, bytes]] = {}  # when the next may be; digest of the last
        self.stale: dict[str, bool] = {}  # phexts with news of other links; whether it is durable

    @property
    def is_ready(self) -> bool:
        return self.hello is not None and self.goodbye is None and not self.is_held

    @property
    def places_under_way(self) -> int:
        """How many places the sets hold that tell what is under way, roughly."""
        first = (self.dirty, self.found, self.asked, self.wanted, self.wants)
        more = (self.refused, self.unheard, self.spared, self.ledger.gaps, self.adopting)
        kept: tuple[Mapping[ScrollId, object], ...] = (*first, *more)
        return sum(len(places) for places in kept) + self.ledger.scrolls

    def is_quiet(self, phext: str) -> bool:
        """Whether nothing of the phext is under way that a comparison would see twice."""
        under_way = (
            (place[0] for place in chain(self.dirty, self.found, self.asked, self.wanted)),
            (name for name, _ in self.streams),
        )
        return not self.parts and phext not in chain(*under_way) and self.ledger.is_quiet(phext)

    def answered(self, place: ScrollId) -> None:
        """The peer has answered what we asked for, if we did."""
        self.wanted_bytes -= self.wanted.pop(place, 0)


@dataclass(frozen=True, slots=True)
class _Parts:
    rights: LinkRights
    ledger: Ledger
    heartbeat: Heartbeat
    outbox: Outbox


class Synchronizer:
    """The core of a node: one for all phexts and links.

    Feed it `link_opened`, `receive`, `committed`, `tick` and `link_closed`; pull `next_frame`.
    `on_ready(link)` is called when a link may have a frame to send; `on_due(time)` when `tick` is
    to be called by then, earlier than it said; `on_progress()` when something was acknowledged or
    a comparison ended.
    """

    def __init__(
        self,
        replicas: ReplicaSet,
        *,
        name: str,
        incarnation: bytes,
        random: Random,
        interests: Mapping[str, Sequence[CoordinateRange]] | None = None,
        limits: Limits | None = None,
        timing: Timing | None = None,
        parameters: reconcile.Parameters | None = None,
    ) -> None:
        self.replicas = replicas
        self.node_id = replicas.node_id
        self.name = name
        self.incarnation = incarnation
        self.limits = limits or Limits()
        self.timing = timing or Timing()
        self.on_ready: Callable[[int], None] = _ignore
        self.on_due: Callable[[float], None] = _ignore
        self.on_progress: Callable[[], None] = _ignore_all
        self.events: deque[Event] = deque()
        self.presence = PresenceBoard(
            self.node_id,
            name,
            incarnation,
            limits=self.limits,
            interval_s=self.timing.presence_interval_s,
            on_failure=lambda part, error: replicas.on_failure(part, error),
        )
        self.presence.on_ready = lambda link: self.on_ready(link)
        self._random = random
        self._interest = Interest(replicas, interests)
        self._parameters = parameters or reconcile.Parameters()
        self._links: dict[int, _Link] = {}
        self._clock = Clock(lambda time: self.on_due(time))
        self._recent = RecentUpdates(self.limits.tail_bytes_max)
        self._news = News()
        self._asked_at: dict[str, float] = {}  # phexts, when somebody asked who has them
        self._ping_tokens = PingTokens()
        self._is_duplicate = False
        self._assemblies_bytes = 0
        replicas.listener = self._take_update
        replicas.on_open = self._phext_opened
        replicas.on_set_aside = self._scroll_set_aside

    # -- links -----------------------------------------------------------------------------

    def link_opened(
        self,
        now: float,
        link: int,
        peer_id: bytes,
        *,
        dialled: bool,
        permissions: Permissions = UNRESTRICTED,
        refusal: str | None = None,
    ) -> None:
        """A link to the authenticated node `peer_id` is up; `dialled` says who called and
        `permissions` what its certificate allows. With a `refusal` it only hears that reason."""
        self._clock.advance(now)
        opened = _Link(
            link, peer_id, permissions, self._parts(permissions, now), dialled=dialled, now=now
        )
        if refusal is not None:
            opened.goodbye = refusal
        elif peer_id == self.node_id:
            opened.goodbye = "both ends have one identity: a node dialled itself, or two share it"
        else:
            opened.outbox.say(self._hello(opened))  # may open phexts: not for this link to see
        self._links[link] = opened
        self.on_ready(link)

    def link_closed(self, now: float, link: int, reason: str) -> None:
        """The link is gone, whoever ended it."""
        self._clock.advance(now)
        closed = self._links.pop(link, None)
        self.presence.link_closed(self._clock.now, link)
        if closed is not None and closed.assembly is not None:
            self._assemblies_bytes -= closed.assembly.size
        if closed is not None and closed.hello is not None:
            if not closed.is_held:
                reason = closed.goodbye or reason
                interests = dict(closed.rights.told)
                name = closed.hello.name
                self.events.append(PeerLost(link, closed.peer_id, name, reason, interests))
            self._release_held(closed.peer_id)
            self._neighbours_changed()
            for other in self._links.values():
                self._compare_spared(other)  # it may have gone before it had sent it to all
            self.on_progress()

    def receive(self, now: float, link: int, frame: bytes) -> None:
        """Take one frame. What breaks the protocol ends the link with a reason."""
        self._clock.advance(now)
        from_link = self._links.get(link)
        if from_link is None or from_link.goodbye is not None:
            return
        from_link.heartbeat.heard_at = now
        from_link.traffic.frames_in += 1
        from_link.traffic.bytes_in += len(frame) + 4
        if from_link.is_held:
            self._hold(from_link, frame)
        else:
            self._receive_frame(from_link, frame)
        if self._has_work(from_link):
            self.on_ready(link)

    def next_frame(self, now: float, link: int) -> bytes | None:
        """Return the next frame for `link`, or None when there is nothing to say now."""
        self._clock.advance(now)
        to_link = self._links.get(link)
        if to_link is None or to_link.is_finished:
            return None
        message = self._next_message(to_link)
        if message is None:
            return None
        frame = encode(message)
        to_link.traffic.frames_out += 1
        to_link.traffic.bytes_out += len(frame) + 4
        return frame

    def has_work(self, link: int) -> bool:
        """Whether `next_frame` may have something to return; cheaper than asking it in vain."""
        known = self._links.get(link)
        return known is not None and self._has_work(known)

    def is_finished(self, link: int) -> bool:
        """Whether the link has said goodbye, or is unknown: the node closes it."""
        known = self._links.get(link)
        return known is None or known.is_finished

    def end_link(self, link: int, reason: str) -> None:
        """Say goodbye on `link`."""
        self._end(self._links[link], reason)

    def peers(self) -> list[tuple[int, bytes, str]]:
        """Return link, node id and name of every peer that has said hello."""
        return [
            (link.link, link.peer_id, link.hello.name)
            for link in self._links.values()
            if link.hello is not None and not link.is_held
        ]

    def refusal(self, link: int) -> str | None:
        """Return why `link` ends before both sides have said hello, None when they have."""
        known = self._links.get(link)
        return None if known is None or known.hello is not None else known.goodbye

    def traffic(self, link: int) -> Traffic:
        """Return a copy of the counters of `link`, zeros when it is unknown."""
        known = self._links.get(link)
        return Traffic() if known is None else replace(known.traffic)

    def backlog(self, link: int) -> int:
        """Return how many messages and notes are kept for `link`, or 0 when it is unknown. Beside
        them there are sets of coordinates."""
        known = self._links.get(link)
        if known is None:
            return 0
        return (
            len(known.outbox.waiting)
            + len(known.compares)
            + len(known.parts)
            + len(known.held)
            + len(known.streams)
            + known.ledger.frames
        )

    def round_trip_s(self, link: int) -> float | None:
        """Return the last measured round trip, or None before the first."""
        return self._links[link].heartbeat.round_trip_s

    def _parts(self, permissions: Permissions, now: float) -> _Parts:
        limits = self.limits
        return _Parts(
            LinkRights(self._interest, permissions, phexts_max=limits.phexts_max),
            Ledger(scrolls_max=limits.found_max, gaps_max=limits.gaps_max),
            Heartbeat(self._ping_tokens, now),
            Outbox(answers_max=limits.answers_max),
        )

    # -- time ------------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Do what time asks for; return when to be called again at the latest."""
        timing = self.timing
        self._clock.tick_begins(now)
        for link in list(self._links.values()):
            if now - link.heartbeat.heard_at >= timing.dead_after_s:
                self._end(link, f"nothing was heard for {timing.dead_after_s:g} s")
                link.is_finished = True  # nobody listens: no goodbye
                self.on_ready(link.link)
                continue
            if link.hello is None and now - link.heartbeat.opened_at >= timing.hello_within_s:
                self._end(link, f"expected a hello within {timing.hello_within_s:g} s, found none")
                continue
            if link.heartbeat.is_ping_due(now, timing.ping_interval_s):
                self._ping(link)
            if link.unheard:
                (phext, _), since = next(iter(link.unheard.items()))
                if now - since >= timing.ping_interval_s and phext in link.sessions:
                    self._schedule(link, phext, timing.compare_delay_s)
            if link.spared:
                is_full = len(link.spared) >= self.limits.spared_max
                if is_full or now - next(iter(link.spared.values())) >= timing.dead_after_s:
                    self._compare_spared(link)  # who was to send it may not have written it
            for phext, due in list(link.compare_due.items()):
                if due <= now and link.is_ready:
                    self._compare_again(link, phext)
        deadline = min(self.presence.tick(now), now + timing.ping_interval_s / 2)
        for link in self._links.values():
            for due in link.compare_due.values():
                deadline = min(deadline, max(due, now + timing.compare_delay_s))
        self._clock.tick_ends(deadline)
        return deadline

    # -- replicas --------------------------------------------------------------------------

    def committing(self) -> None:
        """A batch was taken: what has arrived so far will be durable with it."""
        self._news.committing()
        for link in self._links.values():
            link.ledger.committing()

    def committed(self) -> None:
        """The batch taken last is durable."""
        durable = self._news.committed()
        is_dirty = self.replicas.is_dirty
        for link in self._links.values():
            if link.ledger.committed(is_dirty=is_dirty):
                self.on_ready(link.link)
            for phext, sources in durable.items():
                # A peer with limits is marked by `_take_update` where the news concerns it.
                is_concerned = link.permissions.is_everything or phext in link.stale
                if is_concerned and tuple(sources) != (link.link,):
                    link.stale[phext] = True
                    if phext in link.sessions:
                        self._schedule(link, phext, self.timing.compare_delay_s)
        self.on_progress()

    def progress(self) -> list[Progress]:
        """Return for each phext what we have of the most that a peer announced, by name."""
        most: dict[str, tuple[int, int]] = {}
        for link in self._links.values():
            for phext, summary in link.theirs.items():
                scrolls, text_bytes = most.get(phext, (0, 0))
                most[phext] = (
                    max(scrolls, summary.count),
                    max(text_bytes, summary.text_bytes),
                )
        indexes = {phext: self.replicas.open(phext).index for phext in sorted(most)}
        return [
            Progress(phext, len(index), most[phext][0], index.text_bytes, most[phext][1])
            for phext, index in indexes.items()
        ]

    def lacking(
        self, phext: str, range_: CoordinateRange = EVERYTHING
    ) -> tuple[list[bytes], list[Lack]]:
        """Return the peers that have all of `range_` on their disks, and what the others lack.

        Peers whose interest does not cover the range are in neither list.
        """
        complete: list[bytes] = []
        lacks: list[Lack] = []
        self._asked_at[phext] = self._clock.now
        for link in self._links.values():
            if link.is_ready and holds(link.rights.told.get(phext, ()), range_):
                self._offer_spared(link, phext, range_)
                lack = self._lack(link, phext, range_, with_spared=True)
                if lack is None:
                    complete.append(link.peer_id)
                else:
                    lacks.append(lack)
        return complete, lacks

    def holders(self, phext: str, range_: CoordinateRange) -> tuple[int, int]:
        """Return of how many peers that hold all of `range_` it is on their disks, and how many
        lack something. Costs little while they lack much, unlike `lacking`."""
        links = [
            link
            for link in self._links.values()
            if link.is_ready and holds(link.rights.told.get(phext, ()), range_)
        ]
        self._asked_at[phext] = self._clock.now
        for link in links:
            self._offer_spared(link, phext, range_)
        lacking = sum(
            self._is_comparing(link, phext)
            or link.sessions[phext].is_withheld
            or link.ledger.lacks_some(phext)
            or next(self._under_way(link, phext, range_, with_spared=True), None) is not None
            or any(_streams(link, phext, range_))
            for link in links
        )
        return len(links) - lacking, lacking

    def _is_comparing(self, link: _Link, phext: str) -> bool:
        session = link.sessions.get(phext)
        return session is None or session.is_open or phext in link.stale

    def _lack(
        self, link: _Link, phext: str, range_: CoordinateRange, *, with_spared: bool = False
    ) -> Lack | None:
        name = link.hello.name if link.hello else ""
        if self._is_comparing(link, phext):
            return Lack(link.peer_id, 0, "still comparing", name)
        if link.sessions[phext].is_withheld:
            reason = "our certificate does not allow writing what it lacks"
            return Lack(link.peer_id, 0, reason, name)
        if link.ledger.lacks_some(phext):
            return Lack(link.peer_id, 0, "not yet on its disk", name)
        index = self.replicas.open(phext).index
        coordinates = dict.fromkeys(self._under_way(link, phext, range_, with_spared=with_spared))
        streamed = sum(index.count(stream) for stream in _streams(link, phext, range_))
        if not coordinates and not streamed:
            return None
        refused = next(
            (link.refused[phext, c] for c in sorted(coordinates) if (phext, c) in link.refused), ""
        )
        reason = f"it refused: {refused}" if refused else "not yet on its disk"
        replica = self.replicas.open(phext)
        text_bytes = sum(replica.size(coordinate) for coordinate in coordinates)
        text_bytes += index.text_bytes * streamed // max(1, len(index))
        return Lack(link.peer_id, len(coordinates) + streamed, reason, name, text_bytes)

    def _under_way(
        self, link: _Link, phext: str, range_: CoordinateRange, *, with_spared: bool
    ) -> Iterator[Coordinate]:
        """Iterate over the scrolls that the peer is not known to have, some more than once;
        `with_spared` also those that it should have from who wrote them."""
        for coordinate in self.replicas.open(phext).uncommitted():
            if coordinate in range_:
                yield coordinate
        yield from (c for c in link.ledger.under_way(phext) if c in range_)
        sets = (link.dirty, link.found, link.asked, link.wanted, link.wants)
        spared = link.spared if with_spared else ()
        for place in chain(*sets, link.refused, link.unheard, spared):
            if place[0] == phext and place[1] in range_:
                yield place[1]
        for part in link.parts:
            if part.phext == phext and part.coordinate in range_:
                yield part.coordinate

    def even_peers(self, phext: str, range_: CoordinateRange) -> set[bytes]:
        """Return the linked peers that have all that we know of `range_`, and we all that they
        told; also those that hold nothing of it.

        Only what a comparison has seen since the link began counts. Costs microseconds: a link
        with much under way is left out without a closer look.
        """
        if not holds(self._interest.of(phext), range_):
            return set()
        return {
            link.peer_id
            for link in self._links.values()
            if link.is_ready
            and (not self._may_hold(link, phext, range_) or self._is_even(link, phext, range_))
        }

    def compared_peers(self, phext: str, range_: CoordinateRange) -> set[bytes]:
        """Return the linked peers that were compared since the link began, so that each hears of
        the other's changes at once; also those that hold nothing of a range."""
        return {
            link.peer_id
            for link in self._links.values()
            if link.is_ready
            and (not self._is_comparing(link, phext) or not self._may_hold(link, phext, range_))
        }

    def _may_hold(self, link: _Link, phext: str, range_: CoordinateRange) -> bool:
        """Whether the peer holds something of a range, or has not yet said whether it does."""
        if phext in link.rights.told:
            return bool(intersection((range_,), link.rights.told[phext]))
        announced = link.announced_first.get(phext)
        is_silent = announced is not None and link.heartbeat.answered > announced
        return not is_silent and bool(intersection((range_,), link.rights.of(phext).show))

    def _is_even(self, link: _Link, phext: str, range_: CoordinateRange) -> bool:
        if self._is_comparing(link, phext) or not link.sessions[phext].found_none:
            return False
        if link.ledger.lacks_some(phext) or link.assembly or any(_streams(link, phext, range_)):
            return False
        coming = (place for place in chain(link.ledger.gaps, link.adopting) if place[0] == phext)
        under_way = self._under_way(link, phext, range_, with_spared=True)
        places = link.places_under_way
        return (
            places <= _PLACES_LOOKED_AT_MAX
            and next(under_way, None) is None
            and not any(place[1] in range_ for place in coming)
        )

    def lacks_of(self, link: int) -> tuple[tuple[str, Lack], ...]:
        """Return what the peer of a link lacks of each phext, in the ranges that both hold."""
        known = self._links[link]
        found: list[tuple[str, Lack]] = []
        for phext in sorted(known.rights.told) if known.is_ready else ():
            parts = [self._lack(known, phext, range_) for range_ in known.rights.scope(phext)]
            lacks = [lack for lack in parts if lack is not None]
            if lacks:
                scrolls = sum(lack.scrolls for lack in lacks)
                text_bytes = sum(lack.text_bytes for lack in lacks)
                found.append((phext, replace(lacks[0], scrolls=scrolls, text_bytes=text_bytes)))
        return tuple(found)

    def state(self, link: int) -> str:
        """Say in a word or two what a link is about."""
        known = self._links[link]
        if known.hello is None or known.is_held:
            return "greeting"
        if known.goodbye is not None:
            return "ending"
        if known.stale or any(session.is_open for session in known.sessions.values()):
            return "comparing"
        if known.wants or known.wanted or known.assembly is not None:
            return "receiving"
        if known.dirty or known.asked or known.streams or known.parts:
            return "sending"
        if not known.ledger.is_acknowledged:
            return "sending"
        return "in sync"

    def unheld(self, phext: str) -> tuple[CoordinateRange, ...]:
        """Return the parts of our interest in which there are scrolls and that no peer here holds:
        nobody else has what is written there."""
        held = [
            range_
            for link in self._links.values()
            if link.is_ready
            for range_ in link.rights.told.get(phext, ())
        ]
        index = self.replicas.open(phext).index
        parts = [
            part
            for ours in self._interest.of(phext)
            for part in subtract(ours, held)
            if index.count(part)
        ]
        return tuple(parts)

    # -- receiving -------------------------------------------------------------------------

    def _receive_frame(self, link: _Link, frame: bytes) -> None:
        try:
            message = decode(frame, self.limits)
            is_done = False
            while not is_done:
                # A damaged scroll is set aside as soon as it is read, so each is met once.
                with suppress(StoreDamagedError):
                    self._receive(link, message)
                    is_done = True
        except ProtocolError as error:
            self._end(link, str(error))

    def _receive(self, link: _Link, message: Message | Unknown) -> None:
        if link.hello is None and not isinstance(message, Hello | Goodbye | Ping | Pong):
            raise ProtocolError(f"expected a hello first, found {type(message).__name__}")
        if isinstance(message, _OF_A_PHEXT) and not (
            message.phext in link.rights.told or message.phext in link.announced
        ):
            raise ProtocolError(f"expected a phext in common, found {message.phext!r:.60}")
        match message:
            case Updates(phext, entries):
                self._receive_updates(link, phext, entries)
            case Acknowledge():
                link.ledger.note(message)
                self.on_progress()
            case Ping(token):
                link.outbox.answer(Pong(token))
            case Pong(token):
                self._receive_pong(link, token)
            case Want(phext, scrolls):
                for coordinate, version, fingerprint in scrolls:
                    self._receive_want(link, (phext, coordinate), version, fingerprint)
            case Compare():
                self._receive_compare(link, message)
            case Part():
                self._receive_part(link, message)
            case Hello():
                self._receive_hello(link, message)
            case Summary(summary):
                self._receive_summary(link, summary)
            case Refused(phext, coordinate, reason):
                self._receive_refused(link, (phext, coordinate), reason)
            case Conflict(phext, coordinate, theirs):
                self._receive_conflict(link, (phext, coordinate), theirs)
            case Presence(notices):
                self.presence.receive(self._clock.now, link.link, notices)
            case Neighbours(node_ids):
                self._receive_neighbours(link, node_ids)
            case Unknown(kind):
                assert link.hello is not None
                if link.hello.minor <= PROTOCOL_MINOR:
                    raise ProtocolError(f"expected a known kind of message, found {kind}")
            case Goodbye(reason):
                link.goodbye = f"the peer ended it: {reason}"
                if reason == DUPLICATE and not self._is_duplicate:
                    self._is_duplicate = True  # said once: it is dialled again and again
                    self.replicas.report(reason)
                link.is_finished = True
                self.on_ready(link.link)

    def _receive_pong(self, link: _Link, token: int) -> None:
        """An answer counts when we have asked, and answers all that was asked before."""
        if link.heartbeat.pong(self._clock.now, token):
            self._refuse_held(link, token)

    def _receive_hello(self, link: _Link, hello: Hello) -> None:
        if link.hello is not None:
            raise ProtocolError("expected one hello, found a second")
        if hello.node_id != link.peer_id:
            raise ProtocolError(
                f"expected a hello of {link.peer_id.hex()}, found one of {hello.node_id.hex()}"
            )
        link.hello = hello
        if not self._settle_double(link, hello):
            return
        self._join(link)

    def _join(self, link: _Link) -> None:
        """The link is the one for its peer: from now on it carries phexts."""
        assert link.hello is not None
        self.events.append(PeerJoined(link.link, link.peer_id, link.hello.name))
        if link.hello.minor >= PRESENCE_MINOR:
            told = self.presence.link_opened(self._clock.now, link.link, link.peer_id)
            if link.permissions.reads_everything:  # facts may speak of any text
                link.presences = told
        self._neighbours_changed()
        theirs = {summary.name: summary for summary in link.hello.phexts}
        for summary in link.hello.phexts:
            self._note_summary(link, summary)
        for phext in sorted({*theirs, *link.announced}):
            self._meet_phext(link, phext, theirs.get(phext))
        self.on_progress()

    def _note_summary(self, link: _Link, summary: PhextSummary) -> None:
        link.rights.tell(summary.name, summary.interest)
        if link.rights.scope(summary.name):
            link.theirs[summary.name] = summary

    def _meet_phext(self, link: _Link, phext: str, summary: PhextSummary | None) -> None:
        ours = link.rights.scope(phext)
        if summary is None or not ours:
            return
        sent = link.announced.get(phext)
        if sent is None:
            self._say_summary(link, phext)
        if sent == summary.digest:
            link.sessions[phext] = _Session(0, None, is_open=False)
            timing = self.timing
            is_stale = phext in link.stale  # by what came while the link waited for its turn
            delay_s = timing.compare_delay_s if is_stale else timing.compare_interval_s
            self._schedule(link, phext, delay_s)
        elif self._starts(link):
            self._start_session(link, phext, summary.count)
        else:
            link.sessions[phext] = _Session(0, None)

    def _receive_summary(self, link: _Link, summary: PhextSummary) -> None:
        self._note_summary(link, summary)
        if not link.rights.scope(summary.name):
            return
        if summary.name not in link.announced:
            self._say_summary(link, summary.name)
        session = link.sessions.get(summary.name)
        if not self._starts(link):
            link.sessions.setdefault(summary.name, _Session(0, None))
        elif session is None or not session.is_open:
            is_equal = self._summary(link, summary.name).digest == summary.digest
            self._start_session(link, summary.name, None if is_equal else summary.count)

    def _receive_updates(self, link: _Link, phext: str, entries: Sequence[Entry]) -> None:
        coordinates = tuple(dict.fromkeys(entry.coordinate for entry in entries))
        if len(coordinates) > self.limits.scrolls_max:
            raise ProtocolError(
                f"expected at most {self.limits.scrolls_max} scrolls, found {len(coordinates)}"
            )
        link.ledger.receive(phext, coordinates)
        changed: dict[Coordinate, None] = {}
        interest, take = self._interest.of(phext), link.rights.of(phext).take
        for entry in entries:
            if contains(take, entry.coordinate):
                self._receive_entry(link, self.replicas.open(phext), entry, changed)
            elif contains(interest, entry.coordinate):
                self._refuse(link, (phext, entry.coordinate), _NOT_ALLOWED)
        if changed:
            name = link.hello.name if link.hello else ""
            self.replicas.open(phext).publish(tuple(changed), link.peer_id, name)
        if not self.replicas.is_dirty:
            link.ledger.is_on_disk()

    def _receive_entry(
        self, link: _Link, replica: Replica, entry: Entry, changed: dict[Coordinate, None]
    ) -> None:
        place = (replica.name, entry.coordinate)
        link.unheard.pop(place, None)  # from now on its acknowledgement tells
        link.traffic.updates_in += 1
        is_answer = not entry.origin
        if is_answer:
            link.answered(place)
            if not entry.update:
                link.ledger.fill(place)
                return
        sequence = self._recent.sequence
        try:
            if place in link.adopting:
                del link.adopting[place]
                if _is_version(entry.update, replica.version(entry.coordinate)):
                    replica.adopt(entry.coordinate, entry.update)
                    changed[entry.coordinate] = None
                    return
            logged = LogEntry(entry.update, entry.origin, entry.time_ms)
            merged = replica.apply(entry.coordinate, logged, link.link)
        except (UpdateError, ScrollError) as error:
            self._refuse(link, place, str(error))
            return
        except StoreDamagedError:
            merged = None  # set aside and reported; the peer has it whole
        if merged is not None and merged.changed:
            changed[entry.coordinate] = None
        if self._recent.sequence == sequence:
            link.traffic.redundant += 1
            self._forget_dirty(link, place, entry.update)
        if merged is not None and merged.covered:
            if is_answer:
                link.ledger.fill(place)
        else:
            link.ledger.miss(place)
            self._want(link, place)

    def _refuse(self, link: _Link, place: ScrollId, reason: str) -> None:
        link.outbox.answer(Refused(*place, _reason(reason)))
        self._report_refusal(link, f"refused {place[0]} {place[1]} from a peer: {reason}")

    def _receive_refused(self, link: _Link, place: ScrollId, reason: str) -> None:
        session = link.sessions.get(place[0])
        if contains(link.rights.of(place[0]).send, place[1]):
            replica = self.replicas.known(place[0])
            if replica is None or replica.version(place[1]) == EMPTY_VERSION:
                return  # nothing that we could have sent
            link.refused[place] = reason
            if len(link.refused) > self.limits.refusals_max:
                raise ProtocolError(f"expected fewer refusals, found {len(link.refused)}")
            self._report_refusal(link, f"a peer refused {place[0]} {place[1]}: {reason}")
        elif session is not None:  # it was found by a comparison, not sent
            session.note(is_found=False, is_withheld=True)
        self.on_progress()

    def _report_refusal(self, link: _Link, text: str) -> None:
        """Tell the operator of the first of them: a peer decides how many there are."""
        link.refusals += 1
        if link.refusals <= self.limits.refusals_reported_max:
            self.replicas.report(text)
        elif link.refusals == self.limits.refusals_reported_max + 1:
            self.replicas.report("more was refused on this link; it is not reported")

    def _receive_part(self, link: _Link, part: Part) -> None:
        place = (part.phext, part.coordinate)
        if part.index == 0:
            self._drop_assembly(link)
            link.assembly = _Assembly(place, part.total)
        assembly = link.assembly
        if (
            assembly is None
            or assembly.place != place
            or assembly.total != part.total
            or len(assembly.pieces) != part.index
        ):
            raise ProtocolError(f"expected the next part of a scroll, found part {part.index}")
        assembly.pieces.append(part.piece)
        assembly.size += len(part.piece)
        self._assemblies_bytes += len(part.piece)
        if assembly.size > self.limits.scroll_bytes_max:
            raise ProtocolError(
                f"scroll of more than {self.limits.scroll_bytes_max} bytes at {part.coordinate}"
            )
        if self._assemblies_bytes > self.limits.assemblies_bytes_max:
            raise ProtocolError("too many large scrolls arrive at once")
        if part.index + 1 == part.total:
            self._drop_assembly(link)
            entry = Entry(part.coordinate, b"".join(assembly.pieces))
            self._receive_updates(link, part.phext, (entry,))

    def _drop_assembly(self, link: _Link) -> None:
        if link.assembly is not None:
            self._assemblies_bytes -= link.assembly.size
            link.assembly = None

    def _receive_want(
        self, link: _Link, place: ScrollId, version: bytes, fingerprint: bytes
    ) -> None:
        try:
            check_version(version)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        phext, coordinate = place
        rights = link.rights.of(phext)
        if not contains(rights.held, coordinate):
            return
        if contains(rights.send, coordinate):
            link.refused.pop(place, None)
            self._ask(link, place, version)
        if version == EMPTY_VERSION:
            return
        replica = self.replicas.open(phext)
        ours = replica.version(coordinate)
        if not covers(ours, version):
            self._want(link, place)
        elif ours == version and fingerprint:
            mine = replica.fingerprint(coordinate)[: len(fingerprint)]
            if mine != fingerprint:
                self._say_conflict(link, place)

    def _ask(self, link: _Link, place: ScrollId, version: bytes) -> None:
        """Note that the peer asks for what it lacks beyond a version."""
        link.asked_bytes += len(version) - len(link.asked.get(place, b""))
        link.asked[place] = version
        limits = self.limits
        # What it has not yet seen answered, and what we have not yet sent, cross on the way.
        if len(link.asked) > 2 * limits.wants_max or link.asked_bytes > 2 * (
            limits.wants_bytes_max + limits.frame_bytes_max
        ):
            raise ProtocolError(f"expected fewer requests at once, found {len(link.asked)}")

    def _say_conflict(self, link: _Link, place: ScrollId) -> None:
        if place not in link.conflicts_said:
            link.conflicts_said[place] = None
            link.outbox.answer(Conflict(*place, self._text_digest(place)))
            self._report_refusal(
                link, f"{place[0]} {place[1]}: equal versions, different texts; mending"
            )

    def _receive_conflict(self, link: _Link, place: ScrollId, theirs: bytes) -> None:
        rights = link.rights.of(place[0])
        if not contains(rights.held, place[1]):
            return
        if self.replicas.open(place[0]).version(place[1]) == EMPTY_VERSION:
            return
        ours = self._text_digest(place)
        if ours > theirs and contains(rights.take, place[1]):
            link.adopted[place] = link.adopted.get(place, 0) + 1
            if link.adopted[place] > self.limits.conflicts_max:
                raise ProtocolError(f"expected an end of the conflict at {place[1]}, found another")
            link.adopting[place] = None
            link.wants[place] = None  # even if an answer to an earlier want is on its way
        elif ours < theirs:
            self._say_conflict(link, place)

    def _text_digest(self, place: ScrollId) -> bytes:
        text = self.replicas.open(place[0]).get(place[1], "")
        return blake2b(text.encode(), digest_size=16).digest()

    # -- comparison ------------------------------------------------------------------------

    def _starts(self, link: _Link) -> bool:
        return self.node_id < link.peer_id

    def _start_session(self, link: _Link, phext: str, theirs: int | None = None) -> None:
        """Begin a comparison with a peer that announced `theirs` scrolls and another digest; None:
        it is not known whether there is a difference."""
        link.session_number += 1
        last = link.sessions.get(phext)
        # Digests that stay different although nothing was found: somebody made entries alike.
        is_fruitless = (
            last is not None and last.is_needed and not last.has_found and not last.is_uneven
        )
        session = self._open_session(link, phext, link.session_number)
        session.is_needed = theirs is not None
        link.traffic.comparisons += 1
        assert session.comparison is not None
        if (
            is_fruitless and self._may_audit(link, phext)
            if session.is_needed
            else self._takes_audit(link, phext)
        ):
            session.is_audit = True
            turn = session.comparison.begin_audit()
        else:
            turn = session.comparison.begin(theirs)
        self._say_turn(link, phext, turn)

    def _open_session(self, link: _Link, phext: str, number: int) -> _Session:
        if link.stale.get(phext):
            del link.stale[phext]  # it is durable: this comparison sees it
        link.compare_due.pop(phext, None)
        index = self.replicas.open(phext).index
        nonce = self._random.randbytes(16)
        comparison = Comparison(index, link.rights.scope(phext), self._parameters, nonce)
        entries = len(index) + min(link.theirs[phext].count, 1 << 24)
        steps_max = self.limits.compare_steps_max + entries // self.limits.entries_per_step_min
        session = link.sessions[phext] = _Session(number, comparison, steps_max)
        if link.unheard or link.spared:
            unsettled = set(self.replicas.open(phext).uncommitted())
            places = chain(link.unheard, link.spared)
            session.sees = {p: None for p in places if p[0] == phext and p[1] not in unsettled}
        return session

    def _takes_audit(self, link: _Link, phext: str) -> bool:
        """Say whether the next comparison is to be an audit, and note it.

        What was audited is not audited again; large phexts wait, since it reads every entry.
        """
        count, digest = reconcile.scope_digest(
            self.replicas.open(phext).index, link.rights.scope(phext)
        )
        due, audited = link.audits.get(phext, (0.0, b""))
        is_large = count > self.limits.audit_entries_max
        if not count or digest == audited or (is_large and self._clock.now < due):
            return False
        if not self._may_audit(link, phext):
            return False
        link.audits[phext] = (self._clock.now + self.timing.audit_interval_s, digest)
        return True

    def _may_audit(self, link: _Link, phext: str, shares: int = 1) -> bool:
        """Say whether the link has saved up for an audit of the phext, and take it off: whoever
        starts audits has the other side read every entry. Who answers allows for two shares, so
        that clocks need not agree."""
        limits = self.limits
        rate = shares * limits.audit_entries_max
        most = rate * limits.audit_saved_s
        cost = max(len(self.replicas.open(phext).index), min(link.theirs[phext].count, 1 << 24))
        saved = min(most, link.audit_saved + rate * (self._clock.now - link.audit_saved_at))
        link.audit_saved_at = self._clock.now
        may = saved >= min(most, cost)
        link.audit_saved = saved - cost if may else saved
        return may

    def _say_turn(self, link: _Link, phext: str, turn: Turn) -> None:
        session = link.sessions[phext]
        link.compares.append(Compare(phext, session.number, session.step, turn.form, turn.body))
        link.traffic.compare_messages += 1
        session.step += 1
        if turn.is_last:
            self._end_session(link, phext)
        self.on_ready(link.link)

    def _end_session(self, link: _Link, phext: str) -> None:
        session = link.sessions[phext]
        session.is_open = False
        # The peer may end an audit, or a comparison whose turns it cannot send, before all is seen.
        if not session.is_audit and (session.has_found or session.step <= 2):
            for place in session.sees:
                link.unheard.pop(place, None)
                link.spared.pop(place, None)
        link.conflicts_said = {p: None for p in link.conflicts_said if p[0] != phext}
        # What was found is compared once more, by its root, when it has been exchanged.
        timing = self.timing
        delay_s = timing.compare_delay_s if session.has_found else timing.compare_interval_s
        self._schedule(link, phext, delay_s)
        self.on_progress()

    def _receive_compare(self, link: _Link, message: Compare) -> None:
        phext = message.phext
        if not link.rights.scope(phext):
            raise ProtocolError(f"expected a comparison of a phext in common, found {phext!r:.60}")
        session = link.sessions.get(phext)
        if session is None or session.number != message.session:
            if self._starts(link) or message.step != 0:
                raise ProtocolError(
                    f"expected a running comparison, found number {message.session}"
                )
            session = self._open_session(link, phext, message.session)
        if session.comparison is None or (not session.is_open and message.body):
            raise ProtocolError("expected no more of a comparison that has ended")
        if message.step != session.step:
            raise ProtocolError(
                f"expected step {session.step} of a comparison, found {message.step}"
            )
        if any(waiting.phext == phext for waiting in link.compares):
            raise ProtocolError("expected no turn of a comparison before ours was read")
        session.step += 1
        if not message.body:
            self._end_session(link, phext)
            return
        if not self._may_answer(link, phext, session, message.form):
            self._say_turn(link, phext, Turn(RANGES, b""))
            return
        turn = session.comparison.answer(message.form, message.body)
        if turn.found is not None:
            told = blake2b(message.body, digest_size=8).digest()
            told = told if message.form == RANGES else b""  # other forms tell no fingerprints
            self._take_differences(link, phext, session, turn.found, told)
        if session.step >= session.steps_max:
            raise ProtocolError(f"expected a comparison of fewer than {session.step} steps")
        self._say_turn(link, phext, turn)

    def _may_answer(self, link: _Link, phext: str, session: _Session, form: int) -> bool:
        """Say whether to go on with a comparison, or to end it and leave the rest to a later one:
        the peer reads too slowly, or has us audit too much."""
        if sum(len(waiting.body) for waiting in link.compares) > self.limits.compares_bytes_max:
            link.stale[phext] = True
            return False
        session.is_audit |= form == AUDIT
        is_due = session.is_audit and session.step % _STEPS_PER_AUDIT == 1
        return not is_due or self._starts(link) or self._may_audit(link, phext, shares=2)

    def _take_differences(
        self,
        link: _Link,
        phext: str,
        session: _Session,
        found: reconcile.Differences,
        told: bytes,
    ) -> None:
        rights = link.rights.of(phext)
        most = self.limits.found_max
        streams = found.our_ranges[: max(0, most - len(link.streams))]
        ours = found.ours[: max(0, most - len(link.found))]
        room = max(0, most - len(link.wants))
        theirs = found.theirs[:room]
        changed = found.changed[: room - len(theirs)]
        for range_ in streams:
            allowed = intersection((range_,), rights.send)
            link.streams.extend((phext, each) for each in allowed)
            session.note(is_found=bool(allowed), is_withheld=allowed != (range_,))
        for coordinate in ours:
            sends = contains(rights.send, coordinate)
            if sends:
                link.found[phext, coordinate] = None
            session.note(is_found=sends, is_withheld=not sends)
        for coordinate in theirs:
            session.note(is_found=contains(rights.take, coordinate))
            self._want(link, (phext, coordinate))
        for coordinate in changed:
            self._take_changed(link, rights, session, (phext, coordinate), told)
        for coordinate in (*theirs, *changed):
            if not contains(rights.take, coordinate):
                # One stands for all: the peer learns that we lack something of its own.
                link.outbox.answer(Refused(phext, coordinate, _NOT_ALLOWED))
                break
        if len(streams) + len(ours) + len(theirs) + len(changed) < found.count:
            link.stale[phext] = True  # the next comparison finds the rest

    def _take_changed(
        self, link: _Link, rights: Rights, session: _Session, place: ScrollId, told: bytes
    ) -> None:
        sends, takes = contains(rights.send, place[1]), contains(rights.take, place[1])
        before = link.exchanged.get(place)
        is_one_way = sends != takes and before is None
        is_known = not sends and told == before != b""
        if sends != takes:
            link.exchanged[place] = told
        if is_one_way or (takes and not is_known):
            # Also an offer: the peer asks back. One that is on its way may be of what was before.
            link.wants[place] = None
        is_found = is_one_way or (sends and takes)
        session.note(is_found=is_found, is_withheld=not (is_found or sends))

    def _compare_again(self, link: _Link, phext: str) -> None:
        session = link.sessions.get(phext)
        if session is not None and not session.is_open and link.is_quiet(phext):
            del link.compare_due[phext]
            if self._starts(link):
                self._start_session(link, phext)
            else:
                self._schedule(link, phext, self.timing.compare_interval_s)
                self._say_summary(link, phext)
        else:
            link.compare_due[phext] = self._clock.now + self.timing.compare_delay_s

    def _schedule(self, link: _Link, phext: str, delay_s: float) -> None:
        due = self._clock.now + delay_s * (1 + self._random.random() / 4)
        link.compare_due[phext] = min(due, link.compare_due.get(phext, due))
        self._clock.ask_for_tick(due, pause_s=self.timing.compare_delay_s)

    def _say_summary(self, link: _Link, phext: str) -> None:
        summary = self._summary(link, phext)
        link.announced[phext] = summary.digest
        link.announced_first.setdefault(phext, self._ping_tokens.last)
        self._mark_uncommitted(link, phext)
        link.outbox.say(Summary(summary))
        self.on_ready(link.link)

    def _summary(self, link: _Link, phext: str) -> PhextSummary:
        held = link.rights.of(phext).held
        index = self.replicas.open(phext).index
        count, digest = reconcile.scope_digest(index, held)
        # An average over everything: only for whoever may know everything.
        sees_all = link.permissions.readable(phext) == (EVERYTHING,)
        text_bytes = index.text_bytes * count // max(1, len(index)) if sees_all else 0
        return PhextSummary(phext, held, count, text_bytes, digest)

    # -- sending ---------------------------------------------------------------------------

    def _next_message(self, link: _Link) -> Message | None:
        if link.goodbye is not None:
            link.is_finished = True
            return Goodbye(_reason(link.goodbye))
        if link.outbox.waiting:
            return link.outbox.waiting.popleft()
        if not link.is_ready:
            return None
        if link.ledger.has_to_acknowledge:
            return link.ledger.acknowledge()
        if self._may_want(link):
            return self._next_want(link)
        if link.compares:
            return link.compares.popleft()
        if link.has_neighbours_to_tell:
            return self._tell_neighbours(link)
        if link.presences and (notices := self.presence.next_notices(self._clock.now, link.link)):
            return Presence(notices)
        if link.parts:
            return self._next_part(link)
        updates: Message | None = None
        if link.ledger.sent - link.ledger.acknowledged < self.limits.window_frames:
            updates = self._next_updates(link)
        if updates is None and link.ledger.has_own_to_acknowledge:
            return link.ledger.acknowledge()  # last: it concerns what went before
        return updates

    def _hello(self, link: _Link) -> Hello:
        summaries = tuple(
            self._summary(link, phext)
            for phext in self.replicas.names()
            if link.rights.of(phext).held
        )
        link.announced = {summary.name: summary.digest for summary in summaries}
        link.announced_first = dict.fromkeys(link.announced, self._ping_tokens.last)
        for summary in summaries:
            self._mark_uncommitted(link, summary.name)
        return Hello(
            PROTOCOL_MAJOR, PROTOCOL_MINOR, self.node_id, self.name, self.incarnation, summaries
        )

    def _may_want(self, link: _Link) -> bool:
        """Whether there is something to ask for, and the peer has answered enough of the rest."""
        limits = self.limits
        return (
            bool(link.wants)
            and len(link.wanted) < limits.wants_max
            and link.wanted_bytes < limits.wants_bytes_max
        )

    def _next_want(self, link: _Link) -> Want:
        phext = next(iter(link.wants))[0]
        replica = self.replicas.open(phext)
        scrolls: list[tuple[Coordinate, bytes, bytes]] = []
        size = 0
        while link.wants:
            place = next(iter(link.wants))
            is_full = size > self.limits.updates_bytes_goal or not self._may_want(link)
            if place[0] != phext or is_full:
                break
            del link.wants[place]
            scrolls.append(self._want_of(link, replica, place))
            request_bytes = len(scrolls[-1][1]) + _ENTRY_BYTES
            if contains(link.rights.of(phext).take, place[1]):  # an answer will come
                link.answered(place)  # a request that is repeated counts once
                link.wanted[place] = request_bytes
                link.wanted_bytes += request_bytes
            size += request_bytes
        return Want(phext, tuple(scrolls))

    def _want_of(
        self, link: _Link, replica: Replica, place: ScrollId
    ) -> tuple[Coordinate, bytes, bytes]:
        coordinate = place[1]
        if place not in link.adopting:
            try:
                version = replica.version(coordinate)
                if len(version) <= self.limits.version_bytes_max:
                    fingerprint = replica.fingerprint(coordinate)
                    return coordinate, version, fingerprint[: reconcile.ROOT_DIGEST_BYTES]
            except StoreDamagedError:
                pass
        return coordinate, EMPTY_VERSION, b""

    def _next_part(self, link: _Link) -> Part:
        part = link.parts.popleft()
        if part.index + 1 == part.total:
            self._number(link, part.phext, (part.coordinate,))
        return part

    def _next_updates(self, link: _Link) -> Message | None:
        """Let live updates, answers and streams take turns, so that none starves another."""
        makers = (
            *(self._dirty_entries, self._asked_entries),
            *(self._found_entries, self._stream_entries),
        )
        for i in range(len(makers)):
            turn = (link.turn + i) % len(makers)
            entries: list[Entry] = []
            phext = makers[turn](link, entries)
            if entries:
                link.turn = (turn + 1) % len(makers)
                return self._updates(link, phext, entries)
        if self._may_want(link):  # a dirty scroll whose updates are no longer at hand
            return self._next_want(link)
        return None

    def _updates(self, link: _Link, phext: str, entries: list[Entry]) -> Message:
        link.traffic.updates_out += len(entries)
        last = entries[-1]
        if len(last.update) + _ENTRY_BYTES + 300 > self.limits.frame_bytes_max:
            # Entries are added until a frame is full: only a lone one can be too large.
            return self._split(link, phext, last)
        self._number(link, phext, tuple(dict.fromkeys(e.coordinate for e in entries)))
        return Updates(phext, tuple(entries))

    def _split(self, link: _Link, phext: str, entry: Entry) -> Part:
        size = self.limits.frame_bytes_max // 2
        total = -(-len(entry.update) // size)
        link.parts.extend(
            Part(phext, entry.coordinate, i, total, entry.update[i * size : (i + 1) * size])
            for i in range(total)
        )
        return self._next_part(link)

    def _number(self, link: _Link, phext: str, coordinates: tuple[Coordinate, ...]) -> None:
        link.ledger.send(phext, coordinates, is_durable=not self.replicas.is_dirty)

    def _dirty_entries(self, link: _Link, entries: list[Entry]) -> str:
        phext, size = "", 0
        while link.dirty:
            place = next(iter(link.dirty))
            if entries and (place[0] != phext or size > self.limits.updates_bytes_goal):
                break
            first = link.dirty[place]
            if not contains(link.rights.told.get(place[0], (EVERYTHING,)), place[1]):
                del link.dirty[place]
                continue
            updates = self._recent.since(place, first, link.link)
            added = sum(len(entry.update) + _ENTRY_BYTES for entry in updates)
            if not self._recent.has_since(first) or added > self.limits.frame_bytes_max // 2:
                del link.dirty[place]
                self._offer(link, place)
                continue
            if entries and size + added > self.limits.frame_bytes_max // 2:
                break
            del link.dirty[place]
            phext = place[0]
            size += added
            entries.extend(
                Entry(place[1], e.update, e.origin or self.node_id, e.time_ms) for e in updates
            )
        return phext

    def _offer(self, link: _Link, place: ScrollId) -> None:
        """Show our version; the peer asks for what it lacks."""
        link.wants[place] = None

    def _asked_entries(self, link: _Link, entries: list[Entry]) -> str:
        phext, size = "", 0
        while link.asked:
            place = next(iter(link.asked))
            if entries and (place[0] != phext or size > self.limits.updates_bytes_goal):
                break
            update = self._lacking(place, link.asked[place])
            if entries and size + len(update) > self.limits.frame_bytes_max // 2:
                break
            link.asked_bytes -= len(link.asked.pop(place))
            phext = place[0]
            size += len(update) + _ENTRY_BYTES
            entries.append(Entry(place[1], update))
        return phext

    def _found_entries(self, link: _Link, entries: list[Entry]) -> str:
        phext, size = "", 0
        while link.found:
            place = next(iter(link.found))
            if entries and (place[0] != phext or size > self.limits.updates_bytes_goal):
                break
            update = self._lacking(place, EMPTY_VERSION)
            if entries and size + len(update) > self.limits.frame_bytes_max // 2:
                break
            del link.found[place]
            phext = place[0]
            size += len(update) + _ENTRY_BYTES
            entries.append(Entry(place[1], update))
        return phext

    def _lacking(self, place: ScrollId, version: bytes) -> bytes:
        """Return what a peer with `version` lacks of a scroll, empty when that is nothing."""
        if not contains(self._interest.of(place[0]), place[1]):
            return b""
        try:
            return self.replicas.open(place[0]).difference(place[1], version) or b""
        except StoreDamagedError:
            return b""

    def _stream_entries(self, link: _Link, entries: list[Entry]) -> str:
        while link.streams and not entries:
            phext, range_ = link.streams.popleft()
            lower, upper = range_.to_keys()
            found = self.replicas.read_range(phext, lower, upper, self.limits.updates_bytes_goal)
            if not found:
                continue
            del found[self.limits.updates_bytes_goal // _ENTRY_BYTES :]
            entries.extend(Entry(Coordinate.from_key(key), state) for key, state in found)
            after = entries[-1].coordinate.successor()
            if after is not None and after in range_:
                link.streams.appendleft((phext, CoordinateRange(after, range_.upper)))
            if len(entries) > 1 and len(entries[-1].update) > self.limits.frame_bytes_max // 2:
                # Too large to travel with others: it goes next, alone.
                link.found[phext, entries.pop().coordinate] = None
            return phext
        return ""

    # -- what changed here -----------------------------------------------------------------

    def _take_update(self, new: NewUpdate) -> None:
        """An update took effect: keep it at hand and mark it for the links that want it."""
        place = (new.phext, new.coordinate)
        sequence = self._recent.advance()
        is_wanted = False
        asked_for_s = _ASKED_DELAYS * self.timing.compare_delay_s
        asked_at = self._asked_at.get(new.phext, -asked_for_s)
        may_spare = new.source is not None and self._clock.now - asked_at >= asked_for_s
        for link in self._links.values():
            link.exchanged.pop(place, None)
            rights = link.rights.of(new.phext)
            if link.link == new.source or not contains(rights.show, new.coordinate):
                continue
            if not new.entry.origin or not contains(rights.send, new.coordinate):
                self._news.note(new.phext, new.source)
                link.stale[new.phext] = False
            elif link.goodbye is not None:
                continue
            elif link.peer_id == new.entry.origin:  # it has it, perhaps not yet on its disk
                link.unheard.setdefault(place, self._clock.now)
                _unsee(link, place)
            elif may_spare and self._is_spared(link, place, new.entry.origin):
                link.spared.setdefault(place, self._clock.now)
                _unsee(link, place)
            else:
                link.refused.pop(place, None)
                link.dirty.setdefault(place, sequence)
                is_wanted = True
                if link.is_ready:
                    self.on_ready(link.link)
        if is_wanted:
            self._recent.add(place, new.entry, new.source)

    def _is_spared(self, link: _Link, place: ScrollId, origin: bytes) -> bool:
        """Whether the peer gets an update from who wrote it, and there is room to note that."""
        has_room = place in link.spared or len(link.spared) < self.limits.spared_max
        return has_room and origin in link.neighbours

    def _neighbours_changed(self) -> None:
        """Tell every peer that may know everything whom we are linked with."""
        for link in self._links.values():
            is_told = link.hello is not None and link.hello.minor >= NEIGHBOURS_MINOR
            if is_told and link.is_ready and link.permissions.reads_everything:
                link.has_neighbours_to_tell = True
                self.on_ready(link.link)

    def _tell_neighbours(self, link: _Link) -> Neighbours:
        link.has_neighbours_to_tell = False
        others = {other.peer_id for other in self._links.values() if other.is_ready}
        return Neighbours(tuple(sorted(others - {link.peer_id})[: self.limits.neighbours_max]))

    def _receive_neighbours(self, link: _Link, node_ids: tuple[bytes, ...]) -> None:
        before, link.neighbours = link.neighbours, frozenset(node_ids) - {self.node_id}
        if before - link.neighbours:
            self._compare_spared(link)

    def _compare_spared(self, link: _Link) -> None:
        """Compare soon, if something was not relayed on the link."""
        for phext in dict.fromkeys(place[0] for place in link.spared):
            if phext in link.sessions:
                self._schedule(link, phext, self.timing.compare_delay_s)

    def _offer_spared(self, link: _Link, phext: str, range_: CoordinateRange) -> None:
        """Offer what was not relayed on the link: whoever asks does not wait for a comparison,
        which a busy link puts off."""
        if not link.spared:
            return
        unsettled = set(self.replicas.open(phext).uncommitted())
        for place in list(link.spared):
            if place[0] == phext and place[1] in range_ and place[1] not in unsettled:
                del link.spared[place]
                self._offer(link, place)
        self.on_ready(link.link)

    def _phext_opened(self, phext: str) -> None:
        for link in self._links.values():
            if phext not in link.announced and link.rights.of(phext).held:
                self._say_summary(link, phext)

    def _scroll_set_aside(self, phext: str) -> None:
        """A scroll was damaged and is gone: a comparison finds it at the peers."""
        for link in self._links.values():
            if phext in link.sessions:
                self._schedule(link, phext, self.timing.compare_delay_s)

    def _forget_dirty(self, link: _Link, place: ScrollId, update: bytes) -> None:
        """The peer has sent us what we were about to send it."""
        first = link.dirty.get(place)
        if first is not None:
            recent = self._recent.since(place, first, link.link)
            if len(recent) == 1 and recent[0].update == update:
                del link.dirty[place]

    def _mark_uncommitted(self, link: _Link, phext: str) -> None:
        """What is not durable is not in the digest that is sent: offer it besides."""
        send = link.rights.of(phext).send
        for coordinate in self.replicas.open(phext).uncommitted():
            if contains(send, coordinate):
                link.dirty.setdefault((phext, coordinate), 0)

    def _want(self, link: _Link, place: ScrollId) -> None:
        """Ask for a scroll, unless that was done or the peer's answer would be refused."""
        if place not in link.wanted and contains(link.rights.of(place[0]).take, place[1]):
            link.wants[place] = None

    # -- helpers ---------------------------------------------------------------------------

    def _has_work(self, link: _Link) -> bool:
        return bool(
            link.goodbye is not None
            or link.outbox.waiting
            or self._may_want(link)
            or link.compares
            or link.found
            or link.asked
            or link.streams
            or link.dirty
            or link.parts
            or link.presences
            or link.has_neighbours_to_tell
            or link.ledger.has_to_acknowledge
            or link.ledger.has_own_to_acknowledge
        )

    def _end(self, link: _Link, reason: str) -> None:
        if link.goodbye is None:
            link.goodbye = reason
            self._neighbours_changed()
            self.on_ready(link.link)

    def _ping(self, link: _Link) -> None:
        link.outbox.say(link.heartbeat.ping(self._clock.now))
        self.on_ready(link.link)

    # -- two links to one peer -------------------------------------------------------------

    def _settle_double(self, link: _Link, hello: Hello) -> bool:
        """Decide which of two links to one node stays. Return whether `link` goes on now."""
        if any(other.is_held and other.peer_id == link.peer_id for other in self._links.values()):
            self._end(link, "another link of this node waits already")
            return False
        for other in list(self._links.values()):
            if other is link or other.peer_id != link.peer_id or other.hello is None:
                continue
            if other.goodbye is not None:
                continue
            if other.hello.incarnation != hello.incarnation:
                # Another start of that node, or a second node with its identity: does the
                # first one still live?
                link.is_held = True
                self._ping(other)
                link.probe = self._ping_tokens.last
                return False
            if self._keeps(link) and not self._keeps(other):
                self._end(other, "both sides dialled; the other link stays")
            elif self._keeps(other) and not self._keeps(link):
                self._end(link, "both sides dialled; the other link stays")
                return False
            else:
                self._end(other, "a newer link of the same node took its place")
        return True

    def _keeps(self, link: _Link) -> bool:
        """Of two links that both sides dialled, the one dialled by the smaller node id stays."""
        return link.dialled == (self.node_id < link.peer_id)

    def _refuse_held(self, first: _Link, token: int) -> None:
        """`first` answered: whoever else came with its identity is refused."""
        for link in self._links.values():
            if link.is_held and link.peer_id == first.peer_id and link.probe <= token:
                self._end(link, DUPLICATE)

    def _hold(self, link: _Link, frame: bytes) -> None:
        """Keep what a link brings while it is not yet known whether it stays."""
        link.held.append(frame)
        link.held_bytes += len(frame)
        if (
            len(link.held) > self.limits.held_frames_max
            or link.held_bytes > self.limits.held_bytes_max
        ):
            self._end(link, "too much was sent before it was clear whether the link stays")

    def _release_held(self, peer_id: bytes) -> None:
        """The first link of `peer_id` is gone: a second one that waited takes its place."""
        for link in self._links.values():
            if link.is_held and link.peer_id == peer_id and link.goodbye is None:
                link.is_held = False
                self._join(link)
                for frame in link.held:
                    self._receive_frame(link, frame)
                link.held.clear()
                self.on_ready(link.link)
                return


def _ignore(_: float) -> None:
    """Nobody listens."""


def _ignore_all() -> None:
    """Nobody listens."""


def subtract(
    whole: CoordinateRange, parts: Sequence[CoordinateRange]
) -> tuple[CoordinateRange, ...]:
    """Return what is left of `whole` without `parts`, in order."""
    left: list[CoordinateRange] = []
    lower: Coordinate | None = whole.lower
    for part in sorted(parts, key=lambda range_: range_.lower):
        both = None if lower is None else part.intersect(CoordinateRange(lower, whole.upper))
        if both is not None and lower is not None:
            if lower < both.lower:
                left.append(CoordinateRange(lower, both.lower))
            lower = both.upper
            if lower is None or lower == whole.upper:
                return tuple(left)
    if lower is not None:
        left.append(CoordinateRange(lower, whole.upper))
    return tuple(left)


def _unsee(link: _Link, place: ScrollId) -> None:
    """A comparison that is under way does not tell of what has come since it began."""
    session = link.sessions.get(place[0])
    if session is not None:
        session.sees.pop(place, None)


def _reason(text: str) -> str:
    return text.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore")


def _streams(link: _Link, phext: str, range_: CoordinateRange) -> Iterator[CoordinateRange]:
    """Iterate over the parts of `range_` of which everything is still to be sent."""
    for streamed, stream in link.streams:
        both = stream.intersect(range_) if streamed == phext else None
        if both is not None:
            yield both


def _is_version(update: bytes, version: bytes) -> bool:
    """Whether an update from a peer is a state of this version."""
    check_update(update, ROOT)
    return bool(update_version(clean_update(update)) == version)
