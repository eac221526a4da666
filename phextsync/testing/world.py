"""World: many nodes in virtual time: the real core, replica and index of each over simulated
links and disks. No trio, no threads, no clock; one seed makes one run.

Events lie in a heap by time and by the order in which they were scheduled. Every random choice is
drawn from a generator of its own name, so that a change in one part leaves the others as they
were. Links are those of TCP (see `faults`): what breaks is noticed at once by an end that can
hear of it, else by the silence. Disks are those of LMDB: a batch is there wholly or not at all.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Final

from phextsync.changes import Change
from phextsync.errors import StoreFullError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.protocol import Synchronizer, Timing
from phextsync.reconcile import scope_digest
from phextsync.replica import Replica, ReplicaSet
from phextsync.store import Batch, MemoryStore
from phextsync.testing.faults import (
    Action,
    Clone,
    Crash,
    Fault,
    FillDisk,
    FreeDisk,
    Garbage,
    Hold,
    Partition,
    Repair,
    Reset,
    Restart,
    Shape,
    Sleep,
)
from phextsync.testing.links import Paths
from phextsync.testing.mesh import PHEXT, Editor
from phextsync.testing.oracle import Oracle

_SOCKET_BYTES: Final = 256 << 10
_GATHER_S: Final = 0.003
_PAUSE_S: Final = 0.015
_RETRY_S: Final = 1.0
_DISK_S: Final = (0.0002, 0.001, 0.012)  # a commit takes one of these times
_BACKOFF_S: Final = (0.1, 2.0)
_CHECK_S: Final = 0.05


@dataclass(slots=True)
class Metrics:
    """What a run cost. Times in virtual seconds, buffers in bytes under way on one link; updates
    are those that nodes received, redundant ones changed nothing."""

    frames: int = 0
    bytes: int = 0
    events: int = 0
    updates: int = 0
    redundant: int = 0
    commits: int = 0
    writes: int = 0
    writes_refused: int = 0
    reads_unanswered: int = 0
    buffer_bytes_max: int = 0
    converged_s: float | None = None


@dataclass(slots=True)
class _Connection:
    """One link; an end that has closed hears no more of it."""

    number: int
    ends: tuple[int, int]
    open: dict[int, bool]
    under_way: dict[int, int]  # bytes sent by a node and not yet received

    def other(self, node: int) -> int:
        return self.ends[1] if node == self.ends[0] else self.ends[0]


@dataclass(slots=True)
class _Node:
    number: int
    random: Random
    store: MemoryStore
    life: int = 0
    is_up: bool = False
    is_disk_full: bool = False
    asleep_until: float = 0.0
    inbox: list[tuple[_Connection, bytes]] = field(default_factory=list)
    batch: Batch | None = None
    is_writing: bool = False
    core: Synchronizer | None = None
    replicas: ReplicaSet | None = None
    ready: dict[int, None] = field(default_factory=dict)


class World:
    """Nodes 0 to `count` - 1, each pair of `overlay` linked whenever it can be (None: all pairs).

    Call `schedule` and `apply`, then `run_until`; `settle` ends a run and checks it.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        overlay: Iterable[tuple[int, int]] | None = None,
        timing: Timing | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.now = 0.0
        self.oracle = Oracle()
        self.metrics = Metrics()
        self.count = count
        self._timing = timing or Timing()
        self._trace = trace
        self._digest = blake2b(digest_size=16)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._pairs = (
            [(a, b) for b in range(count) for a in range(b)] if overlay is None else sorted(overlay)
        )
        self._dialling = {pair: False for pair in self._pairs}
        self._backoff_s = {pair: _BACKOFF_S[0] for pair in self._pairs}
        self._connections: dict[int, _Connection] = {}
        self._connected: dict[tuple[int, int], int] = {}
        self._number = 0
        self._links_random = self.random("links")
        self._paths = Paths(self, self._links_random, self._pairs)
        self._disks_random = self.random("disks")
        self._nodes = [
            _Node(number, self.random(f"node {number}"), MemoryStore()) for number in range(count)
        ]
        for node in self._nodes:
            self._start(node)

    # -- what users of a run call ----------------------------------------------------------

    def random(self, name: str) -> Random:
        """Return the generator of that name."""
        name_digest = blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest()
        return Random(int.from_bytes(name_digest, "big"))

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a virtual time."""
        self._sequence += 1
        heapq.heappush(self._events, (max(time, self.now), self._sequence, call))

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Let faults happen at their times."""
        for fault in faults:
            self.at(fault.at, lambda action=fault.action: self.apply(action))  # type: ignore[misc]

    def run_until(self, time: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= time:
            self.now, _, call = heapq.heappop(self._events)
            self.metrics.events += 1
            call()
            if self.oracle.violation is not None:
                raise self.oracle.violation
        self.now = time

    def is_up(self, node: int) -> bool:
        """Whether a node runs and is awake."""
        return self._nodes[node].is_up and self.now >= self._nodes[node].asleep_until

    def replica(self, node: int) -> Replica:
        """Return a node's replica, to read from."""
        return self._replicas(node).open(PHEXT)

    def text(self, node: int, place: Coordinate) -> str:
        """Return what a node's user reads, "" for nothing."""
        return self.replica(node).get(place, "")

    def edit(self, node: int, place: Coordinate, change: Callable[[Editor], None]) -> bool:
        """Let a node's user change one scroll; say whether the node took it."""
        if not self.is_up(node):
            self.metrics.reads_unanswered += 1
            return False
        replica = self.replica(node)
        before = replica.get(place, "")
        self.metrics.writes += 1
        try:
            change(replica)
        except StoreFullError:
            self.metrics.writes_refused += 1
            return False
        after = replica.get(place, "")
        self._note("edit", node, str(place), len(after))
        self.oracle.edited(node, place, before, after)
        return True

    def settle(self, within_s: float) -> None:
        """End every fault, let all nodes run, and wait until they are equal; then check them.

        Violation when they are not within that time, or not what they must be.
        """
        self.apply(Repair())
        self._paths.smooth()
        for node in self._nodes:
            node.is_disk_full = False
            if not node.is_up:
                self._start(node)
        began = self.now
        while not self.is_settled():
            if self.now - began > within_s:
                lacks = [self._core(n.number).lacking(PHEXT)[1] for n in self._nodes]
                self.oracle.finish(self.texts())
                raise AssertionError(f"not in sync after {within_s:g} s: {lacks}")
            self.run_until(self.now + _CHECK_S)
        self.metrics.converged_s = self.now - began
        for connection in self._connections.values():
            for end, is_open in connection.open.items():
                if is_open:
                    self._count(self._core(end), connection)
        self.oracle.finish(self.texts())

    def is_settled(self) -> bool:
        """Whether all nodes are awake, durable, equal, and know it of their peers."""
        digests = set()
        for node in self._nodes:
            if not self.is_up(node.number) or self._replicas(node.number).is_dirty:
                return False
            digests.add(scope_digest(self.replica(node.number).index, [EVERYTHING]))
        return len(digests) == 1 and all(
            not self._core(node.number).lacking(PHEXT)[1] for node in self._nodes
        )

    def texts(self) -> list[dict[Coordinate, str]]:
        """Return what each node shows."""
        return [dict(self.replica(number).scrolls()) for number in range(self.count)]

    def digest(self) -> str:
        """Return the digest of everything that happened, in hexadecimal."""
        return self._digest.hexdigest()

    # -- faults ----------------------------------------------------------------------------

    def apply(self, action: Action) -> None:
        """Let a fault happen now. One that concerns a node that is down changes nothing."""
        self._note(repr(action))
        match action:
            case Partition() | Hold() | Repair() | Shape():
                self._paths.apply(action)
            case Reset(one, other):
                for connection in list(self._connections.values()):
                    if {one, other} == {*connection.ends}:
                        self._end(connection, "reset", one, other)
            case Crash(number, is_silent):
                self._crash(self._nodes[number], is_silent=is_silent)
            case Restart(number):
                self._restart(self._nodes[number])
            case Clone(source, target):
                self._clone(self._nodes[source], self._nodes[target])
            case Sleep(number, seconds):
                self._sleep(self._nodes[number], seconds)
            case FillDisk(number):
                self._nodes[number].is_disk_full = True
            case FreeDisk(number):
                self._nodes[number].is_disk_full = False
            case Garbage(source, target):
                self._send_garbage(source, target)

    def _crash(self, node: _Node, *, is_silent: bool) -> None:
        if not node.is_up:
            return
        if node.batch is not None and self._disks_random.random() < 0.5:
            node.store.commit(node.batch)  # the disk had it, and nobody was told
        self._stop(node, is_silent=is_silent)
        node.store.close(clean=False)

    def _restart(self, node: _Node) -> None:
        if node.is_up:
            replicas = self._replicas(node.number)
            is_clean = node.batch is None and not node.is_disk_full
            if is_clean:
                replicas.commit()
                self.oracle.taken(node.number)
                self.oracle.committed(node.number)
            self._stop(node, is_silent=False)
            node.store.close(clean=is_clean)
        self._start(node)

    def _clone(self, source: _Node, target: _Node) -> None:
        if target.is_up:
            self._stop(target, is_silent=False)
        target.store = source.store.cloned()
        self.oracle.destroyed(target.number, map(self._on_disk, self._nodes))
        self._start(target)

    def _on_disk(self, node: _Node) -> dict[Coordinate, str]:
        """Return what a start would find now."""
        replicas = ReplicaSet(
            node.store.cloned(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0
        )
        return dict(replicas.open(PHEXT).scrolls())

    def _sleep(self, node: _Node, seconds: float) -> None:
        node.asleep_until = max(node.asleep_until, self.now + seconds)
        self.at(node.asleep_until, lambda life=node.life: self._wake(node, life))  # type: ignore[misc]

    def _wake(self, node: _Node, life: int) -> None:
        if node.life != life or not self.is_up(node.number):
            return
        inbox, node.inbox = node.inbox, []
        for connection, frame in inbox:
            self._receive(connection, node, frame)
        self._tick(node, life)
        for number, connection in list(self._connections.items()):
            if node.number in connection.ends:
                self._is_ready(node, number)

    def _send_garbage(self, source: int, target: int) -> None:
        number = self._connected.get((min(source, target), max(source, target)))
        if number is not None:
            frame = self._links_random.randbytes(self._links_random.randint(1, 200))
            self._transmit(self._connections[number], source, frame)

    # -- nodes -----------------------------------------------------------------------------

    def _start(self, node: _Node) -> None:
        node.life += 1
        node.is_up = True
        node.asleep_until = 0.0
        node.batch, node.is_writing, node.ready, node.inbox = None, False, {}, []
        node.store = node.store.reopened()
        self.oracle.started(node.number)
        node.replicas = replicas = ReplicaSet(
            node.store,
            node_id=node.number.to_bytes(16, "big"),
            random=Random(node.random.getrandbits(64)),
            wall_time_ms=lambda: int(self.now * 1000),
        )
        node.core = core = Synchronizer(
            replicas,
            name=f"node-{node.number}",
            incarnation=node.random.randbytes(16),
            random=Random(node.random.getrandbits(64)),
            timing=self._timing,
        )
        replica = replicas.open(PHEXT)
        replica.subscribe(lambda change: self._changed(node, change))
        replicas.on_dirty = lambda: self._is_dirty(node)
        core.on_ready = lambda number: self._is_ready(node, number)
        self._note("start", node.number)
        self._tick(node, node.life)
        for pair in self._pairs:
            if node.number in pair:
                self._dial_later(pair, 0.0)

    def _stop(self, node: _Node, *, is_silent: bool) -> None:
        """A node is gone; its peers hear of it, if they can and the machine still tells."""
        node.life += 1
        node.is_up = False
        for connection in list(self._connections.values()):
            if node.number in connection.ends:
                if is_silent:
                    self._close(connection, node.number)
                else:
                    self._end(connection, "the node ended", node.number)
        node.core = node.replicas = None

    def _tick(self, node: _Node, life: int) -> None:
        if node.life != life or not self.is_up(node.number):
            return
        deadline = self._core(node.number).tick(self.now)
        self.at(deadline, lambda: self._tick(node, life))

    def _changed(self, node: _Node, change: Change) -> None:
        if change.origin is not None:
            replica = self.replica(node.number)
            for place in change.coordinates:
                self.oracle.changed(node.number, place, replica.get(place, ""))

    def _core(self, number: int) -> Synchronizer:
        core = self._nodes[number].core
        assert core is not None, f"node {number} is down"
        return core

    def _replicas(self, number: int) -> ReplicaSet:
        replicas = self._nodes[number].replicas
        assert replicas is not None, f"node {number} is down"
        return replicas

    # -- disks -----------------------------------------------------------------------------

    def _is_dirty(self, node: _Node) -> None:
        if not node.is_writing:
            node.is_writing = True
            self.at(self.now + _GATHER_S, lambda life=node.life: self._write(node, life))  # type: ignore[misc]

    def _write(self, node: _Node, life: int) -> None:
        if node.life != life:
            return
        if not self.is_up(node.number):
            self.at(node.asleep_until, lambda: self._write(node, life))
            return
        node.batch = self._replicas(node.number).take_batch()
        if node.batch is None:
            node.is_writing = False
            return
        self._core(node.number).committing()
        self.oracle.taken(node.number)
        delay_s = self._disks_random.choices(_DISK_S, (70, 25, 5))[0]
        self.at(self.now + delay_s, lambda: self._written(node, life))

    def _written(self, node: _Node, life: int) -> None:
        batch = node.batch
        if node.life != life or batch is None:
            return
        node.batch = None
        replicas = self._replicas(node.number)
        if node.is_disk_full:
            replicas.failed(StoreFullError("the simulated disk is full"))
            self.at(self.now + _RETRY_S, lambda: self._write(node, life))
            return
        node.store.commit(batch)
        replicas.committed()
        self._core(node.number).committed()
        self.oracle.committed(node.number)
        self.metrics.commits += 1
        self._note("commit", node.number, len(batch.writes))
        self.at(self.now + _PAUSE_S, lambda: self._write(node, life))

    # -- links -----------------------------------------------------------------------------

    def _dial_later(self, pair: tuple[int, int], delay_s: float) -> None:
        if not self._dialling[pair]:
            self._dialling[pair] = True
            self.at(self.now + delay_s, lambda: self._dial(pair))

    def _dial(self, pair: tuple[int, int]) -> None:
        self._dialling[pair] = False
        if pair in self._connected:
            return
        if all(self.is_up(n) for n in pair) and self._paths.are_open(*pair):
            self._backoff_s[pair] = _BACKOFF_S[0]
            self._connect(pair)
            return
        delay_s = self._backoff_s[pair]
        self._backoff_s[pair] = min(2 * delay_s, _BACKOFF_S[1])
        self._dial_later(pair, delay_s * (0.5 + self._links_random.random()))

    def _connect(self, pair: tuple[int, int]) -> None:
        self._number += 1
        connection = _Connection(
            self._number, pair, dict.fromkeys(pair, True), dict.fromkeys(pair, 0)
        )
        self._connections[self._number] = connection
        self._connected[pair] = self._number
        self._note("connect", *pair)
        for node, peer in (pair, pair[::-1]):
            peer_id = peer.to_bytes(16, "big")
            core = self._core(node)
            core.link_opened(self.now, connection.number, peer_id, dialled=node == pair[0])

    def _is_ready(self, node: _Node, number: int) -> None:
        if number not in node.ready:
            node.ready[number] = None
            self.at(self.now, lambda life=node.life: self._pump(node, number, life))  # type: ignore[misc]

    def _pump(self, node: _Node, number: int, life: int) -> None:
        """Send what a node has to say on a link, as far as its socket takes it."""
        if node.life != life:
            return
        node.ready.pop(number, None)
        connection = self._connections.get(number)
        if connection is None or not connection.open[node.number] or not self.is_up(node.number):
            return
        core = self._core(node.number)
        while connection.under_way[node.number] < _SOCKET_BYTES and core.has_work(number):
            frame = core.next_frame(self.now, number)
            if frame is None:
                break
            self._transmit(connection, node.number, frame)
        if core.is_finished(number):
            self._end(connection, "finished", node.number)

    def _transmit(self, connection: _Connection, source: int, frame: bytes) -> None:
        connection.under_way[source] += len(frame)
        metrics = self.metrics
        metrics.frames += 1
        metrics.bytes += len(frame)
        metrics.buffer_bytes_max = max(metrics.buffer_bytes_max, connection.under_way[source])
        path = self._paths.between(source, connection.other(source))
        path.send(len(frame), lambda: self._arrive(connection, source, frame))

    def _arrive(self, connection: _Connection, source: int, frame: bytes) -> None:
        target = self._nodes[connection.other(source)]
        if connection.open[target.number]:
            if self.is_up(target.number):
                self._receive(connection, target, frame)
            else:
                target.inbox.append((connection, frame))

    def _receive(self, connection: _Connection, node: _Node, frame: bytes) -> None:
        if not connection.open[node.number]:
            return
        self._note("frame", connection.number, node.number, frame)
        self._core(node.number).receive(self.now, connection.number, frame)
        sender = connection.other(node.number)
        connection.under_way[sender] -= len(frame)
        if connection.open[sender]:
            self._is_ready(self._nodes[sender], connection.number)

    def _end(self, connection: _Connection, reason: str, *ends: int) -> None:
        """Close ends of a link; an end that can hear of it follows."""
        for end in ends:
            self._close(connection, end)
            other = connection.other(end)
            path = self._paths.between(end, other)
            path.signal(lambda other=other: self._close(connection, other))  # type: ignore[misc]

    def _close(self, connection: _Connection, end: int) -> None:
        if not connection.open[end]:
            return
        connection.open[end] = False
        node = self._nodes[end]
        self._note("close", connection.number, end)
        if node.is_up and node.core is not None:
            self._count(node.core, connection)
            node.core.link_closed(self.now, connection.number, "the link ended")
        if not any(connection.open.values()) or not self._nodes[connection.other(end)].is_up:
            self._connections.pop(connection.number, None)
            if self._connected.get(connection.ends) == connection.number:
                del self._connected[connection.ends]
                self._dial_later(connection.ends, self._backoff_s[connection.ends])

    def _count(self, core: Synchronizer, connection: _Connection) -> None:
        traffic = core.traffic(connection.number)
        self.metrics.updates += traffic.updates_in
        self.metrics.redundant += traffic.redundant

    # -- trace -----------------------------------------------------------------------------

    def _note(self, *what: object) -> None:
        line = f"{self.now:.6f} {what}"
        self._digest.update(line.encode())
        if self._trace is not None:
            self._trace(line if len(line) < 200 else line[:200] + "...")
