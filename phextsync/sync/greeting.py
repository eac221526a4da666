"""Greeting: what two nodes tell each other first, and what follows from it."""

from collections import deque
from dataclasses import dataclass

from phextsync.errors import ProtocolError
from phextsync.sync.doubles import Doubles
from phextsync.sync.events import Event, PeerJoined, PeerLost
from phextsync.sync.leaving import Leaving
from phextsync.sync.link import Link, Shared
from phextsync.sync.messages import (
    HAD_MINOR,
    LIMITED_TREE_MINOR,
    LIVE_MINOR,
    OLD_LEFT_S_MAX,
    PRESENCE_MINOR,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    TREE_MINOR,
    Hello,
)
from phextsync.sync.presence import PresenceBoard
from phextsync.sync.relay import Relay


@dataclass(frozen=True, slots=True)
class Self:
    """What a node tells of itself. `incarnation` is drawn at each start."""

    node_id: bytes
    name: str
    incarnation: bytes


class Greeting:
    """Lets links in, and tells who has come and gone as `events`."""

    def __init__(
        self,
        own: Self,
        shared: Shared,
        doubles: Doubles,
        presence: PresenceBoard,
        relay: Relay,
        leaving: Leaving,
    ) -> None:
        self.events: deque[Event] = deque()
        self._own = own
        self._clock = shared.clock
        self._tree = shared.tree
        self._interest = shared.interest
        self._doubles = doubles
        self._presence = presence
        self._relay = relay
        self._leaving = leaving
        self._progressed = shared.listener.on_progress

    def hello(self, link: Link) -> Hello:
        """Return what to say first on a link. It may open phexts."""
        own, summaries = self._own, link.announcements.all()
        return Hello(
            PROTOCOL_MAJOR,
            PROTOCOL_MINOR,
            own.node_id,
            own.name,
            own.incarnation,
            summaries,
            link.outgoing.told_ms,
        )

    def receive(self, link: Link, hello: Hello) -> None:
        """Take what the peer of a link says first."""
        if link.hello is not None:
            raise ProtocolError("expected one hello, found a second")
        if hello.node_id != link.peer_id:
            raise ProtocolError(
                f"expected a hello of {link.peer_id.hex()}, found one of {hello.node_id.hex()}"
            )
        link.hello = hello
        link.outgoing.is_terse = hello.minor >= LIVE_MINOR
        link.had.is_understood = hello.minor >= HAD_MINOR
        if self._doubles.decide(link, hello):
            self._join(link, hello)

    def _join(self, link: Link, hello: Hello) -> None:
        """The link is the one for its peer: from now on it carries phexts."""
        self.events.append(PeerJoined(link.number, link.peer_id, hello.name))
        tree_minor = TREE_MINOR if self._may_know_everything(link) else LIMITED_TREE_MINOR
        if hello.minor >= tree_minor:
            self._tree.join(link.number, link.branch)
        if hello.minor >= PRESENCE_MINOR:
            left_s_max = None if hello.minor >= TREE_MINOR else OLD_LEFT_S_MAX
            told = self._presence.link_opened(
                self._clock.now, link.number, link.peer_id, left_s_max=left_s_max
            )
            if link.permissions.reads_everything:  # facts may speak of any text
                link.presences = told
        self._relay.links_changed()
        theirs = {summary.name: summary for summary in hello.phexts}
        for summary in hello.phexts:
            link.announcements.note(summary)
        for phext in sorted({*theirs, *link.announcements.ours}):
            link.comparisons.meet(phext, theirs.get(phext))
        self._leaving.met(link)
        self._progressed()

    def _may_know_everything(self, link: Link) -> bool:
        """Whether both sides may pass on all that they hear."""
        return link.permissions.is_everything and self._interest.permissions.is_everything

    def lose(self, link: Link, reason: str) -> None:
        """A link is gone that the peer had said hello on."""
        if not link.is_waiting:
            reason = link.goodbye or reason
            told = dict(link.rights.told)
            self.events.append(PeerLost(link.number, link.peer_id, link.name, reason, told))

    def take_successor(self, peer_id: bytes) -> tuple[Link, list[bytes]] | None:
        """The first link of a node is gone: let one in that waited to take its place. Return it
        and the frames that it brought."""
        link = self._doubles.successor(peer_id)
        if link is None or link.hello is None:
            return None
        frames = link.waiting.take()
        self._join(link, link.hello)
        return link, frames
