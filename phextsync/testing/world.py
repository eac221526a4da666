"""World: many nodes in virtual time: the real core, replica and index of each over simulated
links and disks. No trio, no threads, no clock; one seed makes one run.

Events lie in a heap by time and by the order in which they were scheduled. Every random choice is
drawn from a generator of its own name, so that a change in one part leaves the others as they
were. Links are those of TCP (see `faults`): what breaks is noticed at once by an end that can
hear of it, else by the silence. Disks are those of LMDB: a batch is there wholly or not at all.
"""

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from struct import Struct
from typing import Final

from phextsync.errors import StoreDamagedError, StoreFullError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.replica.changes import Change
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch
from phextsync.store.memory import MemoryStore
from phextsync.sync.codec import encode
from phextsync.sync.limits import Limits
from phextsync.sync.listener import Listener
from phextsync.sync.messages import Part, Ping, Updates
from phextsync.sync.reconcile import scope_digest
from phextsync.sync.synchronizer import Synchronizer
from phextsync.sync.timing import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    COMMIT_PAUSE_S,
    GATHER_S,
    RETRY_S,
    Timing,
)
from phextsync.testing.disks import fingerprint_on, texts_on
from phextsync.testing.faults import (
    Action,
    Clone,
    Crash,
    Damage,
    Deafen,
    Fault,
    FillDisk,
    FreeDisk,
    Garbage,
    HalfOpen,
    Hold,
    Partition,
    Repair,
    Reset,
    Restart,
    Rubbish,
    SetClock,
    Shape,
    Sleep,
    Tear,
)
from phextsync.testing.links import Paths
from phextsync.testing.mesh import PHEXT, Editor
from phextsync.testing.metrics import Journeys, Metrics
from phextsync.testing.oracle import Oracle, Violation

_SOCKET_BYTES: Final = 256 << 10
_DISK_S: Final = (0.0002, 0.001, 0.012)  # a commit takes one of these times
_BOOT_S: Final = 1_700_000_000
_CHECK_PER_NODE_S: Final = 1 / 10_000
_CHECK_S: Final = 0.01
_CLAIMS_S: Final = 0.25
_COMMITS_PER_CHECK: Final = 16
_PING_S: Final = 0.01
_TEXT_KINDS: Final = tuple(  # the second byte of a frame is the kind of its message
    encode(message)[1] for message in (Updates("", ()), Part("", Coordinate(*[1] * 9), 0, 1, b""))
)
_ARRIVAL: Final = Struct("<dQQQ")  # of a frame: time, connection, node, bytes
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
    is_torn: bool = False  # it ends in the middle of its next write
    asleep_until: float = 0.0
    ticks_at: float = 0.0
    ahead_s: float = 0.0  # of its monotonic clock
    wall_ahead_s: float = 0.0
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
        socket_bytes: int = _SOCKET_BYTES,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.now = 0.0
        self.oracle = Oracle()
        self.metrics = Metrics()
        self.count = count
        self._timing = timing or Timing()
        self._limits = Limits()
        self._socket_bytes = socket_bytes
        self._journeys = Journeys()
        self._is_editing = False
        self._trace = trace
        self._digest = blake2b(digest_size=16)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._pairs = (
            [(a, b) for b in range(count) for a in range(b)] if overlay is None else sorted(overlay)
        )
        self._dialling = {pair: False for pair in self._pairs}
        self._backoff_s = {pair: BACKOFF_MIN_S for pair in self._pairs}
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
        self._check_claims(0)

    # -- what users of a run call ----------------------------------------------------------

    def random(self, name: str) -> Random:
        """Return the generator of that name."""
        return generator(self.seed, name)

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a virtual time."""
        self._sequence += 1
        due = time if time > self.now else self.now
        heapq.heappush(self._events, (due, self._sequence, call))

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Let faults happen at their times."""
        for fault in faults:
            self.at(fault.at, lambda action=fault.action: self.apply(action))  # type: ignore[misc]

    def run_until(self, time: float) -> None:
        """Let time pass."""
        events, oracle, metrics = self._events, self.oracle, self.metrics
        while events and events[0][0] <= time:
            self.now, _, call = heapq.heappop(events)
            metrics.events += 1
            call()
            if oracle.violation is not None:
                raise oracle.violation
        self.now = time

    def is_up(self, node: int) -> bool:
        """Whether a node runs and is awake."""
        return self._nodes[node].is_up and self.now >= self._nodes[node].asleep_until

    def replica(self, node: int) -> Replica:
        """Return a node's replica, to read from."""
        return self._replicas(node).open(PHEXT)

    def text(self, node: int, place: Coordinate) -> str:
        """Return what a node's user reads, "" for nothing and for what is damaged."""
        self.metrics.reads += 1
        try:
            text = self.replica(node).get(place, "")
        except StoreDamagedError:
            return ""
        self.metrics.reads_answered += 1
        self.metrics.reads_current += self.oracle.is_current(place, text)
        return text

    def edit(self, node: int, place: Coordinate, change: Callable[[Editor], object]) -> bool:
        """Let a node's user change one scroll; say whether the node took it."""
        if not self.is_up(node):
            return False
        replica = self.replica(node)
        self.metrics.writes += 1
        try:
            before = replica.get(place, "")
            self._is_editing = True
            change(replica)
        except (StoreFullError, StoreDamagedError):
            return False
        finally:
            self._is_editing = False
        self.metrics.writes_accepted += 1
        after = replica.get(place, "")
        self._note("edit", node, str(place), len(after))
        came = self.oracle.edited(node, place, before, after)
        self._journeys.arrived(node, came, None)
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
            node.is_torn = False
        began = self.now
        self._wait(lambda: all(map(self.is_up, range(self.count))), began + within_s)
        self._read_all()
        self._wait(self.is_equal, began + within_s)
        self.metrics.converged_ms = round(1000 * (self.now - began))
        self._wait(self.is_settled, began + within_s)
        self.metrics.synced_ms = round(1000 * (self.now - began))
        self._journeys.finish(self.metrics)
        for connection in self._connections.values():
            for end, is_open in connection.open.items():
                if is_open:
                    self._count(self._core(end), connection)
        self.oracle.finish(self.texts())

    def is_equal(self) -> bool:
        """Whether all nodes are awake and have the same on their disks."""
        first = None
        for node in self._nodes:
            if not self.is_up(node.number) or self._replicas(node.number).is_dirty:
                return False
            digest = scope_digest(self.replica(node.number).index, [EVERYTHING])
            first = first or digest
            if digest != first:
                return False
        return True

    def is_settled(self) -> bool:
        """Whether all nodes are equal, and know it of their peers."""
        # All are asked at once: to be asked makes a node find out.
        return self.is_equal() and not any(
            [self._core(number).lacking(PHEXT)[1] for number in range(self.count)]
        )

    def _wait(self, condition: Callable[[], bool], until: float) -> None:
        while not condition():
            if self.now > until:
                lacks = [self._core(number).lacking(PHEXT)[1] for number in range(self.count)]
                self.oracle.finish(self.texts())
                raise AssertionError(f"not in sync in time: {lacks}")
            self.run_until(self.now + max(_CHECK_S, self.count * _CHECK_PER_NODE_S))

    def texts(self) -> list[dict[Coordinate, str]]:
        """Return what each node shows."""
        return [dict(self.replica(number).scrolls()) for number in range(self.count)]

    def _read_all(self) -> None:
        """Let users read everything that was damaged, so that it is noticed."""
        for node in self._nodes:
            for place in self.oracle.rotten(node.number):
                if self.is_up(node.number):
                    self.text(node.number, place)

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
                if isinstance(action, Shape) and (action.duplication or action.reordering):
                    self.oracle.are_claims_exact = False
            case Reset(one, other):
                for connection in list(self._connections.values()):
                    if {one, other} == {*connection.ends}:
                        self._end(connection, "reset", one, other)
            case HalfOpen(number, peer):
                self._half_open(number, peer)
            case Crash(number, is_silent):
                self._crash(self._nodes[number], is_silent=is_silent)
            case Tear(number):
                self._nodes[number].is_torn = True
            case Damage(number):
                self._damage(self._nodes[number])
            case Restart(number):
                self._restart(self._nodes[number])
            case Clone(source, target):
                self._clone(self._nodes[source], self._nodes[target])
            case Sleep(number, seconds, is_counted):
                self._sleep(self._nodes[number], seconds, is_counted=is_counted)
            case SetClock(number, wall_s, leap_s):
                self._set_clock(self._nodes[number], wall_s, leap_s)
            case Deafen(number, seconds):
                self._deafen(self._nodes[number], seconds)
            case FillDisk(number):
                self._nodes[number].is_disk_full = True
            case FreeDisk(number):
                self._nodes[number].is_disk_full = False
            case Garbage(source, target, of):
                self._send_garbage(source, target, of)

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
        self.oracle.destroyed(target.number)
        for place in self.oracle.rotten(source.number):
            self.oracle.damaged(target.number, place)
        self._start(target)

    def _damage(self, node: _Node) -> None:
        keys = node.store.heads(PHEXT).keys
        if keys:
            at = 12 * self._disks_random.randrange(len(keys) // 12)
            key = keys[at : at + 12]
            node.store.damage(PHEXT, key)
            self.oracle.damaged(node.number, Coordinate.from_key(key))

    def _sleep(self, node: _Node, seconds: float, *, is_counted: bool) -> None:
        if not is_counted and self.is_up(node.number):
            node.ahead_s -= seconds
        node.asleep_until = max(node.asleep_until, self.now + seconds)
        self.at(node.asleep_until, lambda life=node.life: self._wake(node, life))  # type: ignore[misc]

    def _set_clock(self, node: _Node, wall_s: float, leap_s: float) -> None:
        node.wall_ahead_s += wall_s
        node.ahead_s += leap_s
        self._tick(node, node.life)

    def _deafen(self, node: _Node, seconds: float) -> None:
        if self.is_up(node.number):
            self._sleep(node, seconds, is_counted=True)
            self._ping_all(node, node.life)

    def _ping_all(self, node: _Node, life: int) -> None:
        """Pretend to live, while deaf."""
        if node.life == life and node.is_up and not self.is_up(node.number):
            for connection in list(self._connections.values()):
                if connection.open.get(node.number):
                    self._transmit(connection, node.number, encode(Ping(0)))
            self.at(self.now + _PING_S, lambda: self._ping_all(node, life))

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

    def _send_garbage(self, source: int, target: int, of: Rubbish) -> None:
        number = self._connected.get((min(source, target), max(source, target)))
        if number is None:
            return
        connection = self._connections[number]
        frame = connection.last[source].get(of, b"")
        if of == "noise":
            frame = self._links_random.randbytes(self._links_random.randint(1, 200))
        elif frame:
            frame = _changed(self._links_random, frame)
            self.oracle.are_claims_exact = False
            if of == "updates":
                self.oracle.tampered()
        if frame:
            self._transmit(connection, source, frame)

    def _half_open(self, number: int, peer: int) -> None:
        connected = self._connected.get((min(number, peer), max(number, peer)))
        if connected is not None:
            self._half_close(self._connections[connected], number)

    # -- nodes -----------------------------------------------------------------------------

    def _start(self, node: _Node) -> None:
        node.life += 1
        node.is_up = True
        node.is_torn = False
        node.asleep_until = 0.0
        node.batch, node.is_writing, node.ready, node.inbox = None, False, {}, []
        node.store = node.store.reopened()
        self.oracle.started(node.number, texts_on(node.store, PHEXT))
        node.replicas = replicas = ReplicaSet(
            node.store,
            node_id=node.number.to_bytes(16, "big"),
            random=Random(node.random.getrandbits(64)),
            wall_time_ms=lambda: max(0, int(1000 * (_BOOT_S + self.now + node.wall_ahead_s))),
        )
        node.core = Synchronizer(
            replicas,
            name=f"node-{node.number}",
            incarnation=node.random.randbytes(16),
            random=Random(node.random.getrandbits(64)),
            timing=self._timing,
            limits=self._limits,
            listener=Listener(
                on_ready=lambda number: self._is_ready(node, number),
                on_due=lambda time: self._tick_by(node, time),
            ),
        )
        replica = replicas.open(PHEXT)
        replica.subscribe(lambda change: self._changed(node, change))
        replicas.listen(
            ReplicaListener(on_update=self._took_effect, on_dirty=lambda: self._is_dirty(node))
        )
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
                    self._half_close(connection, node.number)
                else:
                    self._end(connection, "the node ended", node.number)
        node.core = node.replicas = None

    def _tick(self, node: _Node, life: int) -> None:
        if node.life != life or not self.is_up(node.number):
            return
        deadline = self._core(node.number).tick(self._clock(node))
        node.ticks_at = math.inf
        self._tick_by(node, deadline)

    def _tick_by(self, node: _Node, deadline: float) -> None:
        """Call a node's core by a time of its clock, or earlier if it asked for that before."""
        at = max(self.now, deadline - node.ahead_s)
        while at + node.ahead_s < deadline:  # rounded: it would come a little too early
            at = math.nextafter(at, math.inf)
        if at < node.ticks_at:
            node.ticks_at = at
            self.at(at, lambda life=node.life: self._tick_at(node, life, at))  # type: ignore[misc]

    def _tick_at(self, node: _Node, life: int, time: float) -> None:
        if node.ticks_at == time:  # otherwise it was called earlier, and another tick follows
            self._tick(node, life)

    def _clock(self, node: _Node) -> float:
        """Return a node's monotonic clock."""
        return self.now + node.ahead_s

    def _took_effect(self, new: NewUpdate) -> None:
        if new.source is not None:
            self.metrics.bytes_needed += len(new.entry.update)

    def _changed(self, node: _Node, change: Change) -> None:
        if not self._is_editing:
            replica = self.replica(node.number)
            source = None if change.origin is None else int.from_bytes(change.origin, "big")
            for place in change.coordinates:
                came = self.oracle.changed(node.number, place, replica.get(place, ""))
                self._journeys.arrived(node.number, came, source)

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
            self.at(self.now + GATHER_S, lambda life=node.life: self._write(node, life))  # type: ignore[misc]

    def _write(self, node: _Node, life: int) -> None:
        if node.life != life:
            return
        if not self.is_up(node.number):
            self.at(node.asleep_until, lambda: self._write(node, life))
            return
        node.batch = self._replicas(node.number).durability.take()
        if node.batch is None:
            node.is_writing = False
            return
        self.oracle.taken(node.number)
        delay_s = self._disks_random.choices(_DISK_S, (70, 25, 5))[0]
        if node.is_torn:
            self.at(self.now + delay_s / 2, lambda: self._tear(node, life))
        self.at(self.now + delay_s, lambda: self._written(node, life))

    def _tear(self, node: _Node, life: int) -> None:
        if node.life == life and node.is_torn:
            node.is_torn = False
            self._crash(node, is_silent=True)

    def _written(self, node: _Node, life: int) -> None:
        batch = node.batch
        if node.life != life or batch is None:
            return
        node.batch = None
        durability = self._replicas(node.number).durability
        if node.is_disk_full:
            durability.refused(StoreFullError("the simulated disk is full"))
            self.at(self.now + RETRY_S, lambda: self._write(node, life))
            return
        node.store.commit(batch)
        durability.written()
        self.oracle.committed(node.number)
        self.metrics.commits += 1
        self._note("commit", node.number, len(batch.writes))
        if self.metrics.commits % _COMMITS_PER_CHECK == 0:
            self._check_fingerprint(node, batch)
        self.at(self.now + COMMIT_PAUSE_S, lambda: self._write(node, life))

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
            self._backoff_s[pair] = BACKOFF_MIN_S
            self._connect(pair)
            return
        delay_s = self._backoff_s[pair]
        self._backoff_s[pair] = min(2 * delay_s, BACKOFF_MAX_S)
        self._dial_later(pair, delay_s * (0.5 + self._links_random.random()))

    def _connect(self, pair: tuple[int, int]) -> None:
        self._number += 1
        connection = _Connection(
            self._number,
            pair,
            dict.fromkeys(pair, True),
            dict.fromkeys(pair, 0),
            {end: {} for end in pair},
        )
        self._connections[self._number] = connection
        self._connected[pair] = self._number
        self._note("connect", *pair)
        for node, peer in (pair, pair[::-1]):
            peer_id = peer.to_bytes(16, "big")
            core = self._core(node)
            now = self._clock(self._nodes[node])
            core.link_opened(now, connection.number, peer_id, dialled=node == pair[0])

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
        now = self._clock(node)
        under_way, last = connection.under_way, connection.last[node.number]
        while under_way[node.number] < self._socket_bytes and core.has_work(number):
            frame = core.next_frame(now, number)
            if frame is None:
                break
            self._check_frame(node, frame)
            last["updates" if frame[1] in _TEXT_KINDS else "frames"] = frame
            self._transmit(connection, node.number, frame)
        if core.is_finished(number):
            self._end(connection, "finished", node.number)

    def _transmit(self, connection: _Connection, source: int, frame: bytes) -> None:
        size = len(frame)
        connection.under_way[source] = under_way = connection.under_way[source] + size
        metrics = self.metrics
        metrics.frames += 1
        metrics.bytes += size
        if under_way > metrics.buffer_bytes_max:
            metrics.buffer_bytes_max = under_way
        path = self._paths.between(source, connection.other(source))
        path.send(size, lambda: self._arrive(connection, source, frame))

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
        self._note_frame(connection, node, frame)
        core = self._core(node.number)
        core.receive(self._clock(node), connection.number, frame)
        self._check_backlog(core, connection, node)
        sender = connection.other(node.number)
        was_full = connection.under_way[sender] >= self._socket_bytes
        connection.under_way[sender] = max(0, connection.under_way[sender] - len(frame))
        if was_full and connection.open[sender]:
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
            node.core.link_closed(self._clock(node), connection.number, "the link ended")
        if not any(connection.open.values()) or not self._nodes[connection.other(end)].is_up:
            self._connections.pop(connection.number, None)
            if self._connected.get(connection.ends) == connection.number:
                del self._connected[connection.ends]
                self._dial_later(connection.ends, self._backoff_s[connection.ends])

    def _half_close(self, connection: _Connection, end: int) -> None:
        """Close one end; the other is not told, and the pair may be linked again."""
        self._close(connection, end)
        if self._connected.get(connection.ends) == connection.number:
            del self._connected[connection.ends]
            self._dial_later(connection.ends, self._backoff_s[connection.ends])

    def _count(self, core: Synchronizer, connection: _Connection) -> None:
        traffic = core.traffic(connection.number)
        self.metrics.updates += traffic.updates_in
        self.metrics.redundant += traffic.redundant

    # -- checks ----------------------------------------------------------------------------

    def _check_frame(self, node: _Node, frame: bytes) -> None:
        if len(frame) > self._limits.frame_bytes_max:
            raise Violation(f"node {node.number} made a frame of {len(frame)} bytes")

    def _check_backlog(self, core: Synchronizer, connection: _Connection, node: _Node) -> None:
        backlog = core.backlog(connection.number)
        if backlog > self.metrics.backlog_max:
            self.metrics.backlog_max = backlog
        if backlog > _BACKLOG_MAX:
            peer = connection.other(node.number)
            raise Violation(f"node {node.number} keeps {backlog} messages for {peer}")

    def _check_fingerprint(self, node: _Node, batch: Batch) -> None:
        """Compare a fingerprint in the index with what is stored, read by other code."""
        for phext, write in batch.writes:
            if phext == PHEXT:
                expected = fingerprint_on(node.store, phext, write.key)
                place = Coordinate.from_key(write.key)
                if expected and self.replica(node.number).index.fingerprint_of(place) != expected:
                    raise Violation(f"the fingerprint at {place} on {node.number} is of other text")
                return

    def _check_claims(self, turn: int) -> None:
        """Check whom one node takes for complete; the next one in turn a little later. That is
        asked already, since to be asked makes a node find out."""
        number, following = turn % self.count, (turn + 1) % self.count
        if self.is_up(number):
            for peer_id in self._core(number).lacking(PHEXT)[0]:
                self.oracle.check_claim(number, int.from_bytes(peer_id, "big"))
        if self.is_up(following):
            self._core(following).lacking(PHEXT)
        self.at(self.now + _CLAIMS_S, lambda: self._check_claims(turn + 1))

    # -- trace -----------------------------------------------------------------------------

    def _note(self, *what: object) -> None:
        line = f"{self.now:.6f} {what}"
        self._digest.update(line.encode())
        self._tell(line)

    def _note_frame(self, connection: _Connection, node: _Node, frame: bytes) -> None:
        """Note what arrives: most of a run, so it becomes text only when there is a reader."""
        self._digest.update(_ARRIVAL.pack(self.now, connection.number, node.number, len(frame)))
        self._digest.update(frame)
        if self._trace is not None:
            self._tell(f"{self.now:.6f} {('frame', connection.number, node.number, frame)}")

    def _tell(self, line: str) -> None:
        if self._trace is not None:
            self._trace(line if len(line) < 200 else line[:200] + "...")


def generator(seed: int, name: str) -> Random:
    """Return the generator of that name in a run from `seed`."""
    name_digest = blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return Random(int.from_bytes(name_digest, "big"))


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
