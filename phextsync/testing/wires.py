"""Wires: links of simulated nodes, as TCP has them. What breaks is noticed at once by an end that
can hear of it, else by the silence (see `faults`)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate
from phextsync.node.links import ACCEPTED_PER_DIALLED
from phextsync.sync.codec import decode, encode
from phextsync.sync.limits import Limits
from phextsync.sync.messages import (
    ASK_MINOR,
    FETCH_MINOR,
    HAD_MINOR,
    HOLDING_MINOR,
    LIVE_MINOR,
    NEIGHBOURS_MINOR,
    PRESENCE_MINOR,
    PROTOCOL_MINOR,
    REGROUPED_MINOR,
    TREE_MINOR,
    Ask,
    Changed,
    Fetch,
    Fetched,
    Graft,
    Had,
    Have,
    Hello,
    Keep,
    Leave,
    Live,
    Neighbours,
    Part,
    Ping,
    Presence,
    Prune,
    Regrouped,
    Survey,
    Surveyed,
    Told,
    Updates,
    Watch,
)
from phextsync.sync.timing import BACKOFF_MAX_S, BACKOFF_MIN_S
from phextsync.sync.traffic import Traffic
from phextsync.testing.faults import Rubbish
from phextsync.testing.mesh import PHEXT
from phextsync.testing.metrics import Metrics
from phextsync.testing.oracle import Violation
from phextsync.testing.paths import Paths
from phextsync.testing.simulated_node import SimulatedNode, id_of
from phextsync.testing.stage import Stage

_PING_S: Final = 0.01
_HANDSHAKES: Final = 4  # ways that a dial takes
_TEXT_KINDS: Final = tuple(  # the second byte of a frame is the kind of its message
    encode(message)[1:2]
    for message in (Updates("", ()), Live("", ()), Part("", Coordinate(*[1] * 9), 0, 1, b""))
)
_SINCE: Final = (
    (PRESENCE_MINOR, (Presence,)),
    (NEIGHBOURS_MINOR, (Neighbours,)),
    (LIVE_MINOR, (Live,)),
    (HOLDING_MINOR, (Leave, Keep)),
    (FETCH_MINOR, (Fetch, Fetched, Survey, Surveyed)),
    (TREE_MINOR, (Have, Graft, Prune)),
    (ASK_MINOR, (Ask, Told, Watch, Changed)),
    (HAD_MINOR, (Had,)),
    (REGROUPED_MINOR, (Regrouped,)),
)
"""Which messages nodes of an older minor version do not know."""
_BACKLOG_MAX: Final = 2048
"""More messages and notes kept for one link than this are a queue without a bound."""


@dataclass(slots=True)
class _Connection:
    """One link; an end that has closed hears no more of it."""

    number: int
    ends: tuple[int, int]
    open: dict[int, bool]
    under_way: dict[int, int]  # bytes sent by a node and not yet received
    last: dict[int, dict[Rubbish, bytes]]  # frames that a node sent last, to be changed
    dialler: int
    since: float

    def other(self, node: int) -> int:
        return self.ends[1] if node == self.ends[0] else self.ends[0]


class Wires:
    """Links each pair of nodes whenever it can be linked; None: those that nodes dial."""

    def __init__(
        self,
        stage: Stage,
        pairs: Sequence[tuple[int, int]] | None,
        *,
        limits: Limits,
        socket_bytes: int,
        links_max: int = 0,
        minors: Mapping[int, int] | None = None,
    ) -> None:
        """`minors`: the minor versions that nodes speak, where that is not today's."""
        self._minors = minors or {}
        self._stage = stage
        self._random = stage.random("links")
        self.paths = Paths(stage, self._random, pairs)
        self._pairs = pairs or ()
        self._links_max = links_max
        self._limits = limits
        self._socket_bytes = socket_bytes
        self._nodes: dict[int, SimulatedNode] = {}
        self._inboxes: dict[int, list[tuple[_Connection, bytes]]] = {}  # of those that sleep
        self._ready: dict[int, dict[int, None]] = {}  # on which links nodes are about to send
        self._dialling = dict.fromkeys(self._pairs, False)
        self._backoff_s = dict.fromkeys(self._pairs, BACKOFF_MIN_S)
        self._connections: dict[int, _Connection] = {}
        self._of: dict[int, dict[int, _Connection]] = {}  # the open ends of each node
        self._connected: dict[tuple[int, int], int] = {}
        self._number = 0
        self.is_quiet = False
        """Nobody changes what they hold any more."""

    # -- nodes -----------------------------------------------------------------------------

    def started(self, node: SimulatedNode) -> None:
        """A node runs: dial."""
        self._nodes[node.number] = node
        self._inboxes[node.number] = []
        self._ready[node.number] = {}
        self._of.setdefault(node.number, {})
        for pair in self._pairs:
            if node.number in pair:
                self._dial_later(pair, 0.0)

    def ended(self, node: SimulatedNode, *, is_silent: bool) -> None:
        """A node is gone; its peers hear of it, if they can and the machine still tells."""
        for connection in list(self._of[node.number].values()):
            if is_silent:
                self._half_close(connection, node.number)
            else:
                self._end(connection, node.number)

    def woke(self, node: SimulatedNode) -> None:
        """A node was asleep: give it what came meanwhile, and let it go on."""
        inbox, self._inboxes[node.number] = self._inboxes[node.number], []
        for connection, frame in inbox:
            self._receive(connection, node, frame)
        node.tick()
        for number in list(self._of[node.number]):
            self.is_ready(node, number)

    def is_ready(self, node: SimulatedNode, link: int) -> None:
        """A node may have a frame to send on a link."""
        ready = self._ready[node.number]
        if link not in ready:
            ready[link] = None
            life = node.life
            self._stage.at(self._stage.now, lambda: self._pump(node, link, life))

    def is_edited(self, node: SimulatedNode, link: int) -> None:
        """A node has an edit of its user to send on a link, and sends it at once."""
        self._pump(node, link, node.life)

    # -- faults ----------------------------------------------------------------------------

    def reset(self, one: int, other: int) -> None:
        """End the links between two nodes on both sides."""
        for connection in list(self._connections.values()):
            if {one, other} == {*connection.ends}:
                self._end(connection, one, other)

    def half_open(self, number: int, peer: int) -> None:
        """End a link at one side only."""
        connected = self._connected.get((min(number, peer), max(number, peer)))
        if connected is not None:
            self._half_close(self._connections[connected], number)

    def ping_while_asleep(self, node: SimulatedNode, life: int) -> None:
        """Let a node that neither reads nor works seem to live."""
        if node.life == life and node.is_up and not node.is_awake:
            for connection in list(self._of[node.number].values()):
                self._transmit(connection, node.number, encode(Ping(0)))
            self._stage.at(self._stage.now + _PING_S, lambda: self.ping_while_asleep(node, life))

    def send_garbage(self, source: int, target: int, of: Rubbish) -> None:
        """Let a node send what no node says."""
        number = self._connected.get((min(source, target), max(source, target)))
        if number is None:
            return
        connection = self._connections[number]
        frame = connection.last[source].get(of, b"")
        if of == "noise":
            frame = self._random.randbytes(self._random.randint(1, 200))
        elif frame:
            frame = _changed(self._random, frame)
            self._stage.oracle.are_claims_exact = False
            if of == "updates":
                self._stage.oracle.tampered()
        if frame:
            self._transmit(connection, source, frame)

    def are_linked(self, one: int, other: int) -> bool:
        """Whether two nodes have a link now."""
        return (min(one, other), max(one, other)) in self._connected

    # -- dialling --------------------------------------------------------------------------

    def links_of(self, node: SimulatedNode) -> "LinksOf":
        """Return the links of a node."""
        return LinksOf(node, self._of.setdefault(node.number, {}))

    def dial(self, node: SimulatedNode, peer: int) -> None:
        """Let a node dial another one, once."""
        pair = (min(node.number, peer), max(node.number, peer))
        if not self._dialling.get(pair) and pair not in self._connected:
            self._dialling[pair] = True
            path, life = self.paths.between(node.number, peer), node.life
            due = self._stage.now + _HANDSHAKES * path.latency_s
            self._stage.at(due, lambda: self._dialled(pair, node, life))

    def _dialled(self, pair: tuple[int, int], node: SimulatedNode, life: int) -> None:
        self._dialling[pair] = False
        ends = [self._nodes[number] for number in pair]
        is_there = node.life == life and all(end.is_awake for end in ends)
        has_room = all(len(self._of[n]) < ACCEPTED_PER_DIALLED * self._links_max for n in pair)
        if is_there and has_room and pair not in self._connected and self.paths.are_open(*pair):
            self._connect(pair, node.number)

    def _dial_later(self, pair: tuple[int, int], delay_s: float) -> None:
        if not self._dialling[pair]:
            self._dialling[pair] = True
            self._stage.at(self._stage.now + delay_s, lambda: self._dial(pair))

    def _dial(self, pair: tuple[int, int]) -> None:
        self._dialling[pair] = False
        if pair in self._connected:
            return
        if all(self._nodes[n].is_awake for n in pair) and self.paths.are_open(*pair):
            self._backoff_s[pair] = BACKOFF_MIN_S
            self._connect(pair, pair[0])
            return
        delay_s = self._backoff_s[pair]
        self._backoff_s[pair] = min(2 * delay_s, BACKOFF_MAX_S)
        self._dial_later(pair, delay_s * (0.5 + self._random.random()))

    def _connect(self, pair: tuple[int, int], dialler: int) -> None:
        self._number += 1
        connection = _Connection(
            self._number,
            pair,
            dict.fromkeys(pair, True),
            dict.fromkeys(pair, 0),
            {end: {} for end in pair},
            dialler,
            self._stage.now,
        )
        self._connections[self._number] = connection
        self._connected[pair] = self._number
        self._stage.note("connect", *pair)
        for number, peer in (pair, pair[::-1]):
            node, peer_id = self._nodes[number], self._nodes[peer].node_id
            self._of[number][connection.number] = connection
            node.core.link_opened(
                node.clock,
                connection.number,
                peer_id,
                dialled=number == dialler,
                permissions=self._nodes[peer].permissions,
            )

    # -- frames ----------------------------------------------------------------------------

    def _pump(self, node: SimulatedNode, number: int, life: int) -> None:
        """Send what a node has to say on a link, as far as its socket takes it."""
        if node.life != life:
            return
        self._ready[node.number].pop(number, None)
        connection = self._connections.get(number)
        if connection is None or not connection.open[node.number] or not node.is_awake:
            return
        core, now = node.core, node.clock
        under_way, last = connection.under_way, connection.last[node.number]
        while under_way[node.number] < self._socket_bytes:
            frame = core.next_frame(now, number)
            if frame is None:
                break
            if len(frame) > self._limits.frame_bytes_max:
                raise Violation(f"node {node.number} made a frame of {len(frame)} bytes")
            if self._minors:
                frame = self._spoken(connection, frame)
            last["updates" if frame[1:2] in _TEXT_KINDS else "frames"] = frame
            self._transmit(connection, node.number, frame)
        if core.is_finished(number):
            self._end(connection, node.number)

    def _spoken(self, connection: _Connection, frame: bytes) -> bytes:
        """Return a frame as two nodes have it of which one is of an older minor version: each hears
        a hello of that version, and nothing that was not known in it."""
        minor = min(self._minors.get(node, PROTOCOL_MINOR) for node in connection.ends)
        message = decode(frame, self._limits)
        if isinstance(message, Hello):
            return encode(replace(message, minor=minor))
        for since, kinds in _SINCE:
            if since > minor and isinstance(message, kinds):
                raise Violation(f"{type(message).__name__} was said to a node of minor {minor}")
        return frame

    def _transmit(self, connection: _Connection, source: int, frame: bytes) -> None:
        size = len(frame)
        connection.under_way[source] = under_way = connection.under_way[source] + size
        metrics = self._stage.metrics
        metrics.frames += 1
        metrics.bytes += size
        if under_way > metrics.buffer_bytes_max:
            metrics.buffer_bytes_max = under_way
        path = self.paths.between(source, connection.other(source))
        path.send(size, lambda: self._arrive(connection, source, frame))

    def _arrive(self, connection: _Connection, source: int, frame: bytes) -> None:
        target = self._nodes[connection.other(source)]
        if connection.open[target.number]:
            if target.is_awake:
                self._receive(connection, target, frame)
            else:
                self._inboxes[target.number].append((connection, frame))

    def _receive(self, connection: _Connection, node: SimulatedNode, frame: bytes) -> None:
        if not connection.open[node.number]:
            return
        self._stage.trace.note_frame(self._stage.now, connection.number, node.number, frame)
        if frame[1:2] in _TEXT_KINDS and (self.is_quiet or not node.permissions.reads_everything):
            self._check_texts(node.number, frame)
        node.core.receive(node.clock, connection.number, frame)
        self._check_backlog(connection, node)
        sender = connection.other(node.number)
        was_full = connection.under_way[sender] >= self._socket_bytes
        connection.under_way[sender] = max(0, connection.under_way[sender] - len(frame))
        if was_full and connection.open[sender]:
            self.is_ready(self._nodes[sender], connection.number)

    def _check_texts(self, node: int, frame: bytes) -> None:
        """Check that a node may have what a frame brings, and when all is quiet holds it: before,
        it may have held it when the frame left."""
        territory = self._stage.oracle.territory
        for phext, place in _places_in(frame, self._limits):
            if phext != PHEXT:
                continue
            if not territory.may_read(node, place):
                raise Violation(f"{place} is sent to {node}, which may not read it")
            is_guest = self._stage.oracle.visits.is_visited(node, place)
            if self.is_quiet and not is_guest and not territory.is_held(node, place):
                raise Violation(f"{place} is sent to {node}, which does not hold it")

    def _check_backlog(self, connection: _Connection, node: SimulatedNode) -> None:
        backlog, metrics = node.core.backlog(connection.number), self._stage.metrics
        if backlog > metrics.backlog_max:
            metrics.backlog_max = backlog
        if backlog > _BACKLOG_MAX:
            peer = connection.other(node.number)
            raise Violation(f"node {node.number} keeps {backlog} messages for {peer}")

    # -- ends ------------------------------------------------------------------------------

    def _end(self, connection: _Connection, *ends: int) -> None:
        """Close ends of a link; an end that can hear of it follows."""
        for end in ends:
            self._close(connection, end)
            other = connection.other(end)
            self.paths.between(end, other).signal(partial(self._close, connection, other))

    def _close(self, connection: _Connection, end: int) -> None:
        if not connection.open[end]:
            return
        connection.open[end] = False
        del self._of[end][connection.number]
        node = self._nodes[end]
        self._stage.note("close", connection.number, end)
        if node.is_up:
            _count(self._stage.metrics, node.core.traffic(connection.number))
            node.core.link_closed(node.clock, connection.number, "the link ended")
        if not any(connection.open.values()) or not self._nodes[connection.other(end)].is_up:
            self._connections.pop(connection.number, None)
            self._lose(connection)

    def _half_close(self, connection: _Connection, end: int) -> None:
        """Close one end; the other is not told, and the pair may be linked again."""
        self._close(connection, end)
        self._lose(connection)

    def _lose(self, connection: _Connection) -> None:
        if self._connected.get(connection.ends) == connection.number:
            del self._connected[connection.ends]
            if connection.ends in self._backoff_s:
                self._dial_later(connection.ends, self._backoff_s[connection.ends])

    def count_open(self, metrics: Metrics) -> None:
        """Count what came over the links that are open."""
        for connection in self._connections.values():
            for end, is_open in connection.open.items():
                if is_open:
                    _count(metrics, self._nodes[end].core.traffic(connection.number))


class LinksOf:
    """The links of one node, by its clock."""

    def __init__(self, node: SimulatedNode, links: Mapping[int, _Connection]) -> None:
        self._node = node
        self._links = links

    def connected(self) -> set[bytes]:
        """Return the node ids at the other ends."""
        return {id_of(link.other(self._node.number)) for link in self._links.values()}

    def admitted(self) -> set[bytes]:
        """Return the same: nobody is refused."""
        return self.connected()

    def dialled_before(self, time: float) -> list[tuple[int, bytes]]:
        """Return number and peer of the links that this node has dialled, before a time."""
        own, ahead_s = self._node.number, self._node.ahead_s
        return [
            (link.number, id_of(link.other(own)))
            for link in self._links.values()
            if link.dialler == own and link.since + ahead_s < time
        ]


def _count(metrics: Metrics, traffic: Traffic) -> None:
    metrics.updates += traffic.updates_in
    metrics.redundant += traffic.redundant


def _places_in(frame: bytes, limits: Limits) -> Iterator[tuple[str, Coordinate]]:
    """Iterate over the scrolls of which a frame brings text; over none where it is damaged."""
    with suppress(ProtocolError):
        match decode(frame, limits):
            case Updates(phext, entries) | Live(phext, entries):
                yield from ((phext, entry[0]) for entry in entries)
            case Part() as part:
                yield part.phext, part.coordinate


def _changed(source: Random, frame: bytes) -> bytes:
    """Return a frame with a few bytes changed, cut off, or written twice."""
    data = bytearray(frame)
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(data))
        match source.choice(("change", "change", "change", "cut", "double")):
            case "change":
                data[at] = source.randrange(256)
            case "cut" if at:
                del data[at:]
            case _:
                data[at:at] = data[at : at + source.randint(1, 16)]
    return bytes(data)
