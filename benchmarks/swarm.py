"""Swarm: the cores of many nodes in virtual time, linked as their overlay says. One seed, one run.

Frames take a tenth of a millisecond to a few; a disk takes up to 12 ms and rests between commits,
as a node's writer does. Nothing is checked here; `phextsync.testing` does that for smaller meshes.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.overlay import Pair, overlay, spanning_tree
from phextsync.replica.clients import CLIENTS
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.sync.listener import Listener
from phextsync.sync.synchronizer import Synchronizer
from phextsync.sync.timing import GATHER_S, commit_pause_s

PHEXT: Final = "memory"

_LATENCY_S: Final = (0.0001, 0.002)
_COMMIT_S: Final = 0.001
_LIBRARY: Final = "."  # names of its phexts begin so
_BOOT_MS: Final = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Carried:
    """What all links have carried: frames, their bytes, bytes of updates that were new where they
    came, updates, and updates that were not new."""

    frames: int = 0
    bytes: int = 0
    bytes_needed: int = 0
    updates: int = 0
    redundant: int = 0

    def since(self, before: "Carried") -> "Carried":
        """Return what was carried since then."""
        return Carried(
            self.frames - before.frames,
            self.bytes - before.bytes,
            self.bytes_needed - before.bytes_needed,
            self.updates - before.updates,
            self.redundant - before.redundant,
        )


class Swarm:
    """Nodes 0 to `count` - 1. `shared` has how many slots pairs of node ids both hold; `held` what
    the nodes hold, None for everything."""

    def __init__(
        self,
        seed: int,
        count: int,
        links_max: int,
        *,
        shared: Mapping[Pair, int] | None = None,
        held: Mapping[bytes, Sequence[CoordinateRange]] | None = None,
    ) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.ids = node_ids(count, seed)
        self.links = overlay(self.ids, shared or {}, links_max)
        self.frames = self.bytes = self.bytes_needed = 0
        self.hops: dict[tuple[Coordinate, bytes], dict[bytes, int]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers: dict[Pair, int] = {}
        for pair in sorted({(min(a, b), max(a, b)) for a in self.links for b in self.links[a]}):
            self._numbers[pair] = len(self._numbers) + 1
        is_sparse = count > links_max + 1
        self.nodes = {
            node_id: _Node(self, node_id, None if held is None else held[node_id])
            for node_id in self.ids
        }
        for (one, other), number in self._numbers.items():
            self.nodes[one].open(number, other, dialled=True)
            self.nodes[other].open(number, one, dialled=False)
        tree = spanning_tree(self.links)
        for node in self.nodes.values():
            node.core.tree.is_grown = is_sparse
            node.core.tree.follow(frozenset(tree[node.node_id]) if is_sparse else None)
            node.tick()

    # -- time ------------------------------------------------------------------------------

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a time."""
        heapq.heappush(self._events, (time, next(self._order), call))

    def run_until(self, time: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= time:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = time

    # -- what happens ----------------------------------------------------------------------

    def append(self, node_id: bytes, at: Coordinate, line: str) -> None:
        """Let a node's user add a line."""
        self.nodes[node_id].replicas.open(PHEXT).append(at, line)

    def crash(self, node_ids: Iterable[bytes]) -> None:
        """Let nodes lose power; their peers are not told."""
        for node_id in node_ids:
            self.nodes[node_id].is_up = False

    def send(self, source: bytes, target: bytes, number: int, frame: bytes) -> None:
        """Let a frame travel."""
        self.bytes += len(frame)
        self.frames += 1
        peer = self.nodes[target]
        due = max(self.now + self.random.uniform(*_LATENCY_S), peer.due.get(number, 0.0))
        peer.due[number] = due  # in order
        self.at(due, partial(peer.receive, number, frame))

    # -- what is measured ------------------------------------------------------------------

    @property
    def up(self) -> list["_Node"]:
        """The nodes that run."""
        return [node for node in self.nodes.values() if node.is_up]

    def carried(self) -> Carried:
        """Return what was carried so far, of updates only those that came to nodes that run."""
        updates = redundant = 0
        for node in self.up:
            for number in node.peers:
                traffic = node.core.traffic(number)
                updates += traffic.updates_in
                redundant += traffic.redundant
        return Carried(self.frames, self.bytes, self.bytes_needed, updates, redundant)

    def having(self, at: Coordinate) -> list[str]:
        """Return what the nodes that run have at a coordinate."""
        return [node.replicas.open(PHEXT).get(at, "") for node in self.up]


class _Node:
    """One node: a core, a store in memory, and when it writes."""

    def __init__(
        self, swarm: Swarm, node_id: bytes, held: Sequence[CoordinateRange] | None
    ) -> None:
        self.swarm = swarm
        self.node_id = node_id
        self.is_up = True
        self.peers: dict[int, bytes] = {}
        self.due: dict[int, float] = {}
        self._ready: dict[int, None] = {}
        self._is_writing = False
        self._ticks_at = 0.0
        self.store = MemoryStore()
        self.replicas = ReplicaSet(
            self.store,
            node_id=node_id,
            random=Random(swarm.random.getrandbits(64)),
            wall_time_ms=lambda: _BOOT_MS + int(1000 * swarm.now),
        )
        self.core = Synchronizer(
            self.replicas,
            name=f"node-{node_id.hex()[:6]}",
            incarnation=swarm.random.randbytes(16),
            random=Random(swarm.random.getrandbits(64)),
            interests=None if held is None else {PHEXT: held, CLIENTS: [EVERYTHING]},
            listener=Listener(
                on_ready=self._is_ready, on_due=self._tick_by, on_edit=self._is_ready
            ),
        )
        self.replicas.open(PHEXT)
        self.replicas.listen(ReplicaListener(on_update=self._took, on_dirty=self._is_dirty))

    def open(self, number: int, peer_id: bytes, *, dialled: bool) -> None:
        self.peers[number] = peer_id
        self.core.link_opened(0.0, number, peer_id, dialled=dialled)

    def receive(self, number: int, frame: bytes) -> None:
        if self.is_up:
            self.core.receive(self.swarm.now, number, frame)

    def _is_ready(self, number: int) -> None:
        if number not in self._ready:
            self._ready[number] = None
            self.swarm.at(self.swarm.now, partial(self._pump, number))

    def _pump(self, number: int) -> None:
        del self._ready[number]
        while self.is_up and (frame := self.core.next_frame(self.swarm.now, number)) is not None:
            self.swarm.send(self.node_id, self.peers[number], number, frame)
        if self.is_up and number in self.core.links and self.core.is_finished(number):
            self.core.link_closed(self.swarm.now, number, "the link ended")

    def tick(self) -> None:
        self._tick_at(self._ticks_at)

    def _tick_by(self, deadline: float) -> None:
        at = max(deadline, self.swarm.now)
        if at < self._ticks_at:
            self._ticks_at = at
            self.swarm.at(at, partial(self._tick_at, at))

    def _tick_at(self, at: float) -> None:
        if self.is_up and at == self._ticks_at:
            self._ticks_at = float("inf")
            self._tick_by(self.core.tick(self.swarm.now))

    def _took(self, new: NewUpdate) -> None:
        if new.source is not None:
            self.swarm.bytes_needed += len(new.entry.update)
        if new.phext.startswith(_LIBRARY):
            return
        key = (new.coordinate, new.entry.update)
        hops = self.swarm.hops.setdefault(key, {})
        if new.source is None:
            hops[self.node_id] = 0
        else:
            hops[self.node_id] = hops.get(self.peers[new.source], 0) + 1

    def _is_dirty(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self.swarm.at(self.swarm.now + GATHER_S, self._write)

    def _write(self) -> None:
        batch = self.replicas.durability.take()
        if batch is None:
            self._is_writing = False
            return
        self.store.commit(batch)
        self.swarm.at(self.swarm.now + _COMMIT_S, self._written)

    def _written(self) -> None:
        if self.is_up:
            self.replicas.durability.written()
            self.swarm.at(self.swarm.now + commit_pause_s(_COMMIT_S), self._write)


def node_ids(count: int, seed: int) -> list[bytes]:
    """Return the ids of the nodes of a swarm."""
    random = Random(seed)
    return sorted(random.randbytes(16) for _ in range(count))
