"""A network of protocol cores in one thread: virtual time, links that can be cut, one seed."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from phextsync.errors import StoreFullError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.sync.limits import Limits
from phextsync.sync.listener import Listener
from phextsync.sync.reconcile import Parameters, scope_digest
from phextsync.sync.synchronizer import Synchronizer
from phextsync.trust.permissions import UNRESTRICTED, Permissions

PHEXT = "memory"
TICK_S = 0.05


class Peer:
    """One node: a core, its replicas, and the store that survives its crashes.

    `certificate` is what others allow it, `permissions` what it allows itself: a liar's differ.
    """

    interests: Mapping[str, Sequence[CoordinateRange]] | None = None
    limits: Limits | None = None
    parameters: Parameters | None = None
    listener: Listener | None = None
    is_disk_full: bool = False

    def __init__(
        self,
        number: int,
        seed: int,
        limits: Limits | None = None,
        parameters: Parameters | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.certificate = UNRESTRICTED
        self.permissions = UNRESTRICTED
        self.node_id = bytes([number]) * 16
        self.limits = limits
        self.parameters = parameters
        self.listener = listener
        self.random = Random(seed * 1000 + number)
        self.store = MemoryStore()
        self.wall_time_ms = 0
        self.start()

    def start(self) -> None:
        """Start on what the store holds; what was not committed is gone."""
        self.store = self._reopened()
        self.replicas = ReplicaSet(
            self.store,
            node_id=self.node_id,
            random=Random(self.random.getrandbits(64)),
            wall_time_ms=lambda: self.wall_time_ms,
            permissions=self.permissions,
        )
        self.core = Synchronizer(
            self.replicas,
            name=f"node-{self.node_id[0]}",
            incarnation=self.random.randbytes(16),
            random=Random(self.random.getrandbits(64)),
            interests=self.interests,
            limits=self.limits,
            parameters=self.parameters,
            listener=self.listener,
        )
        self.replicas.open(PHEXT)

    def restrict(self, certificate: Permissions, *, is_liar: bool = False) -> None:
        """Start with a certificate; a liar behaves as if it had none."""
        self.certificate = certificate
        self.permissions = UNRESTRICTED if is_liar else certificate
        self.start()

    def hold(self, interests: Mapping[str, Sequence[CoordinateRange]]) -> None:
        """Start with an interest in a part of what there is."""
        self.interests = interests
        self.start()

    def _reopened(self) -> MemoryStore:
        return self.store.reopened()

    def durable_texts(self) -> dict[Coordinate, str]:
        """Return what a restart would find now."""
        fresh = ReplicaSet(
            self.store.cloned(), node_id=self.node_id, random=Random(0), wall_time_ms=lambda: 0
        )
        return dict(fresh.open(PHEXT).scrolls())

    @property
    def replica(self) -> Replica:
        return self.replicas.open(PHEXT)

    def commit(self) -> None:
        """Make everything durable, if the disk takes it."""
        durability = self.replicas.durability
        batch = durability.take()
        if batch is None:
            return
        if self.is_disk_full:
            durability.refused(StoreFullError("the simulated disk is full"))
        else:
            self.store.commit(batch)
            durability.written()


class Network:
    """Peers and links between them. `step` moves one frame each way on each link."""

    def __init__(
        self,
        count: int,
        seed: int = 0,
        *,
        limits: Limits | None = None,
        parameters: Parameters | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.now = 0.0
        self.peers = [Peer(i + 1, seed, limits, parameters, listener) for i in range(count)]
        self.links: dict[int, tuple[int, int]] = {}
        self.bytes = 0
        self.on_frame: Callable[[Peer, Peer, bytes], None] = lambda sender, receiver, frame: None
        self._number = 0

    def link(self, dialler: int, listener: int) -> int:
        """Open a link and return its number."""
        self._number += 1
        link = self._number
        self.links[link] = (dialler, listener)
        a, b = self.peers[dialler], self.peers[listener]
        for end, other, dialled in ((a, b, True), (b, a, False)):
            end.core.link_opened(
                self.now, link, other.node_id, dialled=dialled, permissions=other.certificate
            )
        return link

    def link_all(self) -> None:
        """Link every pair that is not linked."""
        linked = {frozenset(ends) for ends in self.links.values()}
        for a in range(len(self.peers)):
            for b in range(a):
                if {a, b} not in linked:
                    self.link(a, b)

    def cut(self, link: int) -> None:
        """End a link; both ends notice."""
        for end in self.links.pop(link):
            self.peers[end].core.link_closed(self.now, link, "cut")

    def crash(self, number: int) -> None:
        """Kill a peer and start it again: its links end, what was not committed is gone."""
        for link, ends in list(self.links.items()):
            if number in ends:
                self.cut(link)
        self.peers[number].start()

    def step(self, deliver: Callable[[], bool] = lambda: True) -> bool:
        """Move frames; a frame that is not delivered ends its link. Return whether any moved."""
        moved = False
        for link, ends in list(self.links.items()):
            for sender, receiver in (ends, ends[::-1]):
                if link not in self.links:
                    break
                frame = self.peers[sender].core.next_frame(self.now, link)
                if frame is None:
                    continue
                moved = True
                self.bytes += len(frame)
                self.on_frame(self.peers[sender], self.peers[receiver], frame)
                if deliver():
                    self.peers[receiver].core.receive(self.now, link, frame)
                else:
                    self.cut(link)
            if link in self.links and any(self.peers[e].core.is_finished(link) for e in ends):
                self.cut(link)
        return moved

    def run(self, seconds: float) -> None:
        """Let time pass: frames move at once, batches are committed, cores tick."""
        end = self.now + seconds
        while True:
            while self.step():
                pass
            for peer in self.peers:
                peer.commit()
            if self.step():
                continue
            if self.now >= end:
                return
            self.now += TICK_S
            for peer in self.peers:
                peer.core.tick(self.now)

    def texts(self) -> list[dict[Coordinate, str]]:
        """Return what each peer holds."""
        return [dict(peer.replica.scrolls()) for peer in self.peers]

    def digests(self) -> list[bytes]:
        """Return the digest of each peer's durable scrolls."""
        return [scope_digest(peer.replica.index, [EVERYTHING])[1] for peer in self.peers]

    def assert_equal(self) -> dict[Coordinate, str]:
        """Check that all peers hold the same, and return it."""
        texts = self.texts()
        for other in texts[1:]:
            assert other == texts[0]
        assert len(set(self.digests())) == 1
        return texts[0]
