"""Synchronizer: decides what to say to each peer. No IO, no clock, no randomness of its own.

The rules of this package:

* Frames of one link arrive in order, or the link ends. What a link lost is found by the
  comparison that opens the next one.
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
* When one side holds something else of a phext, it tells a `Summary`, and both forget what they
  noted and compared of it. What is given up stays until others promise to keep it (`leaving`).
* An update with an origin is live and is relayed at once: where all nodes are linked not to a
  peer that is linked with the origin (`Neighbours`), else along a `tree`. What a comparison
  brought is not relayed: the other links are compared again shortly after.
* A peer to which an update was not relayed is not known to have it until it says so: when
  somebody asks (`lacking`, `holders`) our version is offered to it, and when a link that was
  relied on is gone there is a comparison. While somebody asks, everything is relayed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from phextsync.errors import ProtocolError, StoreDamagedError
from phextsync.index import EVERYTHING, CoordinateRange
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.assembly import PartsBudget
from phextsync.sync.clock import Clock
from phextsync.sync.codec import decode, encode
from phextsync.sync.comparisons import Settings
from phextsync.sync.doubles import DUPLICATE, Doubles
from phextsync.sync.durable_first import DurableFirst
from phextsync.sync.elsewhere import Elsewhere
from phextsync.sync.greeting import Greeting, Self
from phextsync.sync.heartbeat import PingTokens
from phextsync.sync.lacks import Lack, Lacks
from phextsync.sync.leaving import Leaving
from phextsync.sync.limits import Limits
from phextsync.sync.link import Link, Shared
from phextsync.sync.listener import Listener
from phextsync.sync.messages import (
    PROTOCOL_MINOR,
    Acknowledge,
    Ask,
    Compare,
    Conflict,
    Fetch,
    Goodbye,
    Graft,
    Had,
    Have,
    Hello,
    Keep,
    Leave,
    Live,
    Message,
    Neighbours,
    Part,
    Ping,
    Pong,
    Presence,
    Prune,
    Refused,
    Regrouped,
    ScrollId,
    Summary,
    Survey,
    Unknown,
    Updates,
    Want,
    Watch,
    short_reason,
)
from phextsync.sync.presence import PresenceBoard
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.reconcile import Parameters
from phextsync.sync.relay import Relay
from phextsync.sync.replica_events import ReplicaEvents
from phextsync.sync.rights import Interest
from phextsync.sync.timing import Timing
from phextsync.sync.traffic import Traffic
from phextsync.sync.tree import Tree
from phextsync.trust.permissions import UNRESTRICTED, Permissions

_OF_A_PHEXT: Final = (
    *(Updates, Live, Had, Want, Part, Compare, Refused, Conflict),
    *(Leave, Keep, Fetch, Survey, Ask, Watch),
)


class Synchronizer:
    """The core of a node: one for all phexts and links.

    Feed it `link_opened`, `receive`, `tick` and `link_closed`; pull `next_frames`. The `listener`
    is told when there is something to pull. What happens to the replicas it hears from them.
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
        parameters: Parameters | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.replicas, self.node_id = replicas, replicas.node_id
        self.limits = limits = limits or Limits()
        self.timing = timing = timing or Timing()
        self._listener = listener = listener or Listener()
        self._clock = Clock(listener.on_due)
        self._shared = Shared(
            replicas=replicas,
            interest=Interest(replicas, interests),
            recent=RecentUpdates(limits.tail_bytes_max),
            durable_first=DurableFirst(),
            tree=Tree(self._clock, timing, limits, random),
            clock=self._clock,
            tokens=PingTokens(),
            budget=PartsBudget(limits.assemblies_bytes_max),
            settings=Settings(
                limits,
                timing,
                (parameters or Parameters()).within(limits.compare_bytes_goal),
                random,
            ),
            listener=listener,
        )
        self.presence = PresenceBoard(
            self.node_id,
            name,
            incarnation,
            limits=limits,
            interval_s=timing.presence_interval_s,
            is_limited=lambda: not replicas.permissions.is_everything,
            ways=self._shared.tree,
            on_ready=listener.on_ready,
            on_failure=replicas.on_failure,
        )
        self._shared.tree.on_changed = self.presence.ways_changed
        self._make_parts(Self(self.node_id, name, incarnation))

    def _make_parts(self, own: Self) -> None:
        """Make the parts that work on all links."""
        self.links: dict[int, Link] = {}
        self.tree = self._shared.tree
        self._relay = Relay(self.links, self._shared)
        self.lacks = Lacks(self.links, self.replicas, self._shared.interest)
        ways, tokens = (self._end, self._ping), self._shared.tokens
        self._doubles = Doubles(self.node_id, self.links, tokens, *ways)
        self.leaving = Leaving(self.links, self._shared, self.lacks, self._relay, *ways)
        self.elsewhere = Elsewhere(self.links, self._shared, self.lacks)
        self.fetching = self.elsewhere.fetching
        parts = self._doubles, self.presence, self._relay, self.leaving
        self._greeting = Greeting(own, self._shared, *parts)
        self.events = self._greeting.events
        events = ReplicaEvents(self.links, self._shared, self._relay, self.leaving, self.elsewhere)
        self.replicas.listen(events.listener())

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
        opened = Link(link, peer_id, permissions, self._shared, now, dialled=dialled)
        if refusal is not None:
            opened.goodbye = refusal
        elif peer_id == self.node_id:
            opened.goodbye = "both ends have one identity: a node dialled itself, or two share it"
        else:
            # It may open phexts: not for this link to see.
            opened.outbox.say(self._greeting.hello(opened))
        self.links[link] = opened
        opened.ready()

    def link_closed(self, now: float, link: int, reason: str) -> None:
        """The link is gone; either side may have ended it."""
        self._clock.advance(now)
        closed = self.links.pop(link, None)
        self.tree.lose(link)
        if closed is None:
            return
        self.presence.link_closed(self._clock.now, link, is_lost=closed.was_lost)
        closed.assembly.drop()
        closed.asked.assembly.drop()
        if closed.hello is None:
            return
        self._greeting.lose(closed, reason)
        successor = self._greeting.take_successor(closed.peer_id)
        if successor is not None:
            link_after, frames = successor
            for frame in frames:
                self._receive_frame(link_after, frame)
            link_after.ready()
        self.elsewhere.lost(closed)
        self._relay.links_changed()
        for other in self.links.values():
            self._relay.compare_left(other)  # it may have gone before it had sent it to all
        self._listener.on_progress()

    def receive(self, now: float, link: int, frame: bytes) -> None:
        """Take one frame. What breaks the protocol ends the link with a reason."""
        self._clock.advance(now)
        source = self.links.get(link)
        if source is None or source.goodbye is not None:
            return
        source.heartbeat.heard_at = now
        source.traffic.frames_in += 1
        source.traffic.bytes_in += len(frame) + 4
        if source.waiting.is_begun:
            self._doubles.keep(source, frame)
        else:
            self._receive_frame(source, frame)
        if source.has_work:
            source.ready()

    def next_frame(self, now: float, link: int) -> bytes | None:
        """Return the next frame for `link`, or None when there is nothing to say now."""
        frames, _ = self.next_frames(now, link, 1)
        return frames[0] if frames else None

    def next_frames(self, now: float, link: int, bytes_goal: int) -> tuple[list[bytes], bool]:
        """Return frames for `link`, about as many bytes as asked for, and whether there is nothing
        more to say."""
        self._clock.advance(now)
        target = self.links.get(link)
        frames: list[bytes] = []
        size = 0
        while target is not None and target.has_work:
            is_over = target.is_finished or size >= bytes_goal
            message = None if is_over else self._next_message(target)
            if message is None:
                return frames, False
            frame = encode(message)
            target.traffic.frames_out += 1
            target.traffic.bytes_out += len(frame) + 4
            frames.append(frame)
            size += len(frame)
        return frames, True

    def is_finished(self, link: int) -> bool:
        """Whether the link has said goodbye, or is unknown: the node closes it."""
        known = self.links.get(link)
        return known is None or known.is_finished

    def end_link(self, link: int, reason: str) -> None:
        """Say goodbye on `link`."""
        self._end(self.links[link], reason)

    def peers(self) -> list[tuple[int, bytes, str]]:
        """Return link, node id and name of every peer that has said hello."""
        return [
            (link.number, link.peer_id, link.hello.name)
            for link in self.links.values()
            if link.hello is not None and not link.is_waiting
        ]

    def refusal(self, link: int) -> str | None:
        """Return why `link` ends before both sides have said hello, None when they have."""
        known = self.links.get(link)
        return None if known is None or known.hello is not None else known.goodbye

    def traffic(self, link: int) -> Traffic:
        """Return a copy of the counters of `link`, zeros when it is unknown."""
        known = self.links.get(link)
        return Traffic() if known is None else replace(known.traffic)

    def backlog(self, link: int) -> int:
        """Return how many messages and notes are kept for `link`, or 0 when it is unknown. Beside
        them there are sets of coordinates."""
        known = self.links.get(link)
        return 0 if known is None else known.backlog

    # -- time ------------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Do what time asks for; return when to be called again at the latest."""
        self._clock.tick_begins(now)
        for link in list(self.links.values()):
            self._tick_link(now, link)
        self._relay.tick(now)
        self._shared.recent.tick(now)
        self.leaving.check()
        self.elsewhere.questions.check(now)
        timing = self.timing
        quiet_until = now + timing.ping_interval_s / 2
        soonest = min(self.presence.tick(now), self.tree.deadline, self.elsewhere.questions.due)
        deadline = min(soonest, quiet_until)
        for link in self.links.values():
            for due in link.comparisons.due.values():
                deadline = min(deadline, max(due, now + timing.compare_delay_s))
        self._clock.tick_ends(deadline)
        return deadline

    def _tick_link(self, now: float, link: Link) -> None:
        timing, heartbeat = self.timing, link.heartbeat
        if now - heartbeat.heard_at >= timing.dead_after_s:
            self._end(link, f"nothing was heard for {timing.dead_after_s:g} s")
            link.is_finished = link.is_silent = True  # nobody listens: no goodbye
            link.ready()
            return
        if link.hello is None and now - heartbeat.opened_at >= timing.hello_within_s:
            self._end(link, f"expected a hello within {timing.hello_within_s:g} s, found none")
            return
        if heartbeat.is_ping_due(now, timing.ping_interval_s):
            self._ping(link)
        self._relay.check(now, link)
        if link.is_ready:
            link.comparisons.begin_due(now)

    # -- questions -------------------------------------------------------------------------

    def lacking(
        self, phext: str, range_: CoordinateRange = EVERYTHING
    ) -> tuple[list[bytes], list[Lack]]:
        """Return the peers that have all of `range_` on their disks, and what the others lack.

        Peers whose interest does not cover the range are in neither list.
        """
        links = self.lacks.holding(phext, range_)
        self._relay.ask(phext, links, range_)
        found = [(link, self.lacks.of(link, phext, range_, with_left=True)) for link in links]
        complete = [link.peer_id for link, lack in found if lack is None]
        return complete, [lack for _, lack in found if lack is not None]

    def holders(self, phext: str, range_: CoordinateRange) -> tuple[int, int]:
        """Return of how many peers that hold all of `range_` it is on their disks, and how many
        lack something. Costs little while they lack much, unlike `lacking`."""
        links = self.lacks.holding(phext, range_)
        self._relay.ask(phext, links, range_)
        lacking = sum(self.lacks.lacks_some(link, phext, range_) for link in links)
        return len(links) - lacking, lacking

    # -- receiving -------------------------------------------------------------------------

    def _receive_frame(self, link: Link, frame: bytes) -> None:
        try:
            message = decode(frame, self.limits)
            is_done = False
            while not is_done:
                try:
                    self._receive(link, message)
                    is_done = True
                except StoreDamagedError:
                    pass  # A damaged scroll is set aside as soon as it is read: each is met once.
        except ProtocolError as error:
            self._end(link, str(error))

    def _receive(self, link: Link, message: Message | Unknown) -> None:
        if link.hello is None and not isinstance(message, Hello | Goodbye | Ping | Pong):
            raise ProtocolError(f"expected a hello first, found {type(message).__name__}")
        if isinstance(message, _OF_A_PHEXT) and not link.announcements.is_shared(message.phext):
            raise ProtocolError(f"expected a phext in common, found {message.phext!r:.60}")
        match message:
            case Updates(phext, entries):
                link.incoming.receive(phext, entries, link.name)
            case Live(phext, entries):
                assert link.hello is not None
                link.incoming.receive_live(phext, entries, link.hello)
            case Acknowledge():
                link.ledger.note(message)
                self.fetching.acknowledged()
            case Ping(token):
                link.outbox.answer(Pong(token))
            case Pong(token):
                self._receive_pong(link, token)
            case Want() | Had():
                link.versions.receive(message)
            case Compare():
                link.comparisons.receive(message)
            case Part():
                entry = link.assembly.add(message)
                if entry is not None:
                    link.incoming.receive(message.phext, (entry,), link.name)
            case Hello() | Summary():
                self._receive_what_is_held(link, message)
            case Refused(phext, coordinate, reason):
                self._receive_refused(link, (phext, coordinate), reason)
            case Conflict(phext, coordinate, theirs):
                link.versions.receive_conflict((phext, coordinate), theirs)
            case Presence(notices):
                self.presence.receive(self._clock.now, link.number, notices)
            case Neighbours() | Regrouped() | Have() | Graft() | Prune():
                self._relay.receive(link, message)
                self._listener.on_progress()
            case Leave() | Keep():
                self.leaving.receive(link, message)
            case Unknown(kind):
                assert link.hello is not None
                if link.hello.minor <= PROTOCOL_MINOR:
                    raise ProtocolError(f"expected a known kind of message, found {kind}")
            case Goodbye(reason):
                self._receive_goodbye(link, reason)
            case _:
                self.elsewhere.receive(link, message)

    def _receive_what_is_held(self, link: Link, message: Hello | Summary) -> None:
        if isinstance(message, Hello):
            self._greeting.receive(link, message)
        else:
            link.comparisons.receive_summary(message.phext)
        self.elsewhere.met(link)

    def _receive_pong(self, link: Link, token: int) -> None:
        if link.heartbeat.pong(self._clock.now, token):
            self._doubles.answered(link, token)
            link.comparisons.hear_again(token)

    def _receive_goodbye(self, link: Link, reason: str) -> None:
        link.goodbye = f"the peer ended it: {reason}"
        if reason == DUPLICATE and self._doubles.is_first_told():
            self.replicas.report(reason)  # once: it is dialled again and again
        link.is_finished = True
        link.ready()

    def _receive_refused(self, link: Link, scroll: ScrollId, reason: str) -> None:
        if not link.versions.receive_refused(scroll, reason):
            link.comparisons.note_refused(scroll[0])
        self._listener.on_progress()

    # -- sending ---------------------------------------------------------------------------

    def _next_message(self, link: Link) -> Message | None:
        if link.goodbye is not None:
            link.is_finished = True
            return Goodbye(short_reason(link.goodbye))
        if link.outbox.waiting:
            return link.outbox.waiting.popleft()
        if not link.is_ready:
            return None
        if link.ledger.has_to_acknowledge:
            return link.ledger.acknowledge()
        if link.asked.waiting and link.asked.may_ask:
            return link.asked.next_question()
        hosting = link.hosting
        if (hosting.pieces or hosting.asked) and (answer := hosting.next_answer()) is not None:
            return answer
        if link.shown.news and (changed := link.shown.next_changed()) is not None:
            return changed
        if link.requests.waiting and link.requests.may_ask:
            return link.requests.next_want()
        if link.comparisons.turns:
            return link.comparisons.turns.popleft()
        if link.branch.is_telling:
            return link.branch.next_have()
        if link.has_neighbours_to_tell:
            return self._relay.neighbours_for(link)
        if link.presences and (notices := self.presence.next_notices(self._clock.now, link.number)):
            return Presence(notices)
        return self._next_of_updates(link)

    def _next_of_updates(self, link: Link) -> Message | None:
        if link.had.waiting and (had := link.had.next_had()) is not None:
            return had
        if link.outgoing.parts:
            return link.outgoing.next_part()
        updates = link.outgoing.next_updates()
        if updates is not None:
            return updates
        if link.requests.may_ask:  # a scroll that changed, and whose updates are no longer at hand
            return link.requests.next_want()
        if link.ledger.has_own_to_acknowledge:
            return link.ledger.acknowledge()  # last: it concerns what went before
        return None

    def _end(self, link: Link, reason: str) -> None:
        if link.goodbye is None:
            link.goodbye = reason
            self._relay.links_changed()
            link.ready()

    def _ping(self, link: Link) -> None:
        link.outbox.say(link.heartbeat.ping(self._clock.now))
        link.ready()
