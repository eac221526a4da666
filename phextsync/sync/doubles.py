"""Doubles: which of two links to one node stays."""

from collections.abc import Callable, Mapping
from typing import Final

from phextsync.sync.heartbeat import PingTokens
from phextsync.sync.link import Link
from phextsync.sync.messages import Hello

DUPLICATE: Final = (
    "a node with this identity runs already: stop one; if this folder is a copy, delete its "
    "identity.pem and run `phextsync join CODE`: the scrolls stay"
)


class Doubles:
    """Decides between links to one node. Both sides may have dialled; a node may have started
    again; a second node may use its identity. `end(link, reason)` ends a link, `ping(link)` asks
    its peer whether it lives."""

    def __init__(
        self,
        node_id: bytes,
        links: Mapping[int, Link],
        tokens: PingTokens,
        end: Callable[[Link, str], None],
        ping: Callable[[Link], None],
    ) -> None:
        self._node_id = node_id
        self._links = links
        self._tokens = tokens
        self._end = end
        self._ping = ping
        self._is_told = False

    def decide(self, link: Link, hello: Hello) -> bool:
        """Decide which of two links to one node stays. Return whether `link` goes on now."""
        if any(
            other.is_waiting and other.peer_id == link.peer_id for other in self._links.values()
        ):
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
                link.waiting.is_begun = True
                self._ping(other)
                link.waiting.probe = self._tokens.last
                return False
            if self._keeps(link) and not self._keeps(other):
                self._end(other, "both sides dialled; the other link stays")
            elif self._keeps(other) and not self._keeps(link):
                self._end(link, "both sides dialled; the other link stays")
                return False
            else:
                self._end(other, "a newer link of the same node took its place")
        return True

    def _keeps(self, link: Link) -> bool:
        """Of two links that both sides dialled, the one dialled by the smaller node id stays."""
        return link.dialled == (self._node_id < link.peer_id)

    def keep(self, link: Link, frame: bytes) -> None:
        """Keep what a link brings while it is not yet known whether it stays."""
        if not link.waiting.keep(frame):
            self._end(link, "too much was sent before it was clear whether the link stays")

    def answered(self, first: Link, token: int) -> None:
        """`first` lives: another link that came with its identity is refused."""
        for link in self._links.values():
            if link.is_waiting and link.peer_id == first.peer_id and link.waiting.probe <= token:
                self._end(link, DUPLICATE)

    def is_first_told(self) -> bool:
        """A peer tells that this node is the double. Return whether it is the first that does."""
        is_first, self._is_told = not self._is_told, True
        return is_first

    def successor(self, peer_id: bytes) -> Link | None:
        """The first link of a node is gone: return the one that waited to take its place."""
        for link in self._links.values():
            if link.is_waiting and link.peer_id == peer_id and link.goodbye is None:
                return link
        return None
