"""Simulated node: the real core, replica and index of one node over a simulated disk and clock.

Disks are those of LMDB: a batch is there wholly or not at all.
"""

import math
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from phextsync.errors import StoreFullError
from phextsync.index import Coordinate
from phextsync.node.follower import FOLLOW_S, Follower
from phextsync.node.neighbourhood import Links
from phextsync.ranges import Ranges, intersection
from phextsync.replica.changes import Change
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch
from phextsync.store.memory import MemoryStore
from phextsync.sync.limits import Limits
from phextsync.sync.listener import Listener
from phextsync.sync.synchronizer import Synchronizer
from phextsync.sync.timing import GATHER_S, RETRY_S, Timing, commit_pause_s
from phextsync.testing.company import Company, Shared
from phextsync.testing.disks import fingerprint_on, text_on, texts_on
from phextsync.testing.mesh import PHEXT
from phextsync.testing.oracle import Violation
from phextsync.testing.stage import Stage
from phextsync.trust.permissions import UNRESTRICTED, Permissions

_DISK_S: Final = (0.0002, 0.001, 0.012)  # a commit takes one of these times
_BOOT_S: Final = 1_700_000_000
_COMMITS_PER_CHECK: Final = 16


class Connector(Protocol):
    """Who links the nodes."""

    def started(self, node: "SimulatedNode") -> None:
        """A node runs: link it with others."""

    def ended(self, node: "SimulatedNode", *, is_silent: bool) -> None:
        """A node is gone; its peers hear of it if it is not silent."""

    def is_ready(self, node: "SimulatedNode", link: int) -> None:
        """A node may have a frame to send on a link."""

    def is_edited(self, node: "SimulatedNode", link: int) -> None:
        """A node has an edit of its user to send on a link, and sends it at once."""

    def woke(self, node: "SimulatedNode") -> None:
        """A node was asleep: give it what came meanwhile."""

    def links_of(self, node: "SimulatedNode") -> Links:
        """Return the links of a node."""

    def dial(self, node: "SimulatedNode", peer: int) -> None:
        """Let a node dial another one, once."""


class SimulatedNode:
    """One node. `life` counts its starts and ends: what was meant for another one is void."""

    def __init__(
        self,
        number: int,
        stage: Stage,
        connector: Connector,
        disks_random: Random,
        *,
        timing: Timing,
        limits: Limits,
        told_with: frozenset[bytes] | None = None,
        permissions: Permissions = UNRESTRICTED,
        shared: Shared | None = None,
    ) -> None:
        """`shared`: what it shares with the others where nodes choose their links."""
        self.number = number
        self._told_with = told_with  # its links in the tree, None where all are linked
        self.node_id = id_of(number)
        self.name = f"node-{number}"
        self.permissions = permissions
        self.store = MemoryStore()
        self.life = 0
        self.is_up = False
        self.is_disk_full = False
        self.is_torn = False  # it ends in the middle of its next write
        self.is_editing = False  # its user is, who knows what he writes
        self._stage = stage
        self._connector = connector
        self._random = stage.random(f"node {number}")
        self._disks_random = disks_random
        self._timing = timing
        self._limits = limits
        self._asleep_until = 0.0
        self._ticks_at = 0.0
        self._ahead_s = 0.0  # of its monotonic clock
        self._wall_ahead_s = 0.0
        self._batch: Batch | None = None
        self._is_writing = False
        self._commit_s = 0.0
        self._core: Synchronizer | None = None
        self._replicas: ReplicaSet | None = None
        self._shared = shared
        self._follower: Follower | None = None
        self.company: Company | None = None
        self._follows_at = math.inf

    @property
    def is_awake(self) -> bool:
        """Whether it runs, and its machine does not sleep."""
        return self.is_up and self._stage.now >= self._asleep_until

    @property
    def core(self) -> Synchronizer:
        """Its core; it must be up."""
        assert self._core is not None, f"node {self.number} is down"
        return self._core

    @property
    def replicas(self) -> ReplicaSet:
        """Its replicas; it must be up."""
        assert self._replicas is not None, f"node {self.number} is down"
        return self._replicas

    @property
    def replica(self) -> Replica:
        """Its replica of the phext that the users of a run edit."""
        return self.replicas.open(PHEXT)

    @property
    def clock(self) -> float:
        """Its monotonic clock."""
        return self._stage.now + self._ahead_s

    @property
    def ahead_s(self) -> float:
        """By how much that is ahead of the time of the run."""
        return self._ahead_s

    @property
    def held(self) -> Ranges:
        """What it holds of that phext, and may read."""
        holding = self.replicas.holding.of(PHEXT)
        return intersection(holding, self.permissions.readable(PHEXT))

    # -- lives -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start on what its disk holds."""
        self.life += 1
        self.is_up = True
        self.is_torn = False
        self._asleep_until = 0.0
        self._batch, self._is_writing = None, False
        self.store = self.store.reopened()
        self._replicas = replicas = ReplicaSet(
            self.store,
            node_id=self.node_id,
            random=Random(self._random.getrandbits(64)),
            wall_time_ms=self._wall_time_ms,
            permissions=self.permissions,
        )
        self._tell_of_disk()
        self._core = Synchronizer(
            replicas,
            name=self.name,
            incarnation=self._random.randbytes(16),
            random=Random(self._random.getrandbits(64)),
            timing=self._timing,
            limits=self._limits,
            listener=Listener(
                on_ready=lambda link: self._connector.is_ready(self, link),
                on_due=self._tick_by,
                on_edit=self._has_edit,
            ),
        )
        if self._shared is None:
            self._core.tree.is_grown = self._told_with is not None
            self._core.tree.follow(self._told_with)
        replicas.open(PHEXT).subscribe(self._changed)
        replicas.listen(
            ReplicaListener(
                on_update=self._took_effect, on_dirty=self._is_dirty, on_held=self._held
            )
        )
        self._follows_at = math.inf
        self._begin_to_follow()
        self._stage.note("start", self.number)
        self.tick()
        self._connector.started(self)

    def _begin_to_follow(self) -> None:
        if self._shared is None:
            self._follower = Follower(self.replicas, name=self.name, changed=self._follow_later)
            return
        self.company = Company(
            self.core,
            self._connector.links_of(self),
            self._shared,
            name=self.name,
            random=self._random,
            after=self._after,
            clock=lambda: self.clock,
            dial=lambda node_id: self._connector.dial(self, number_of(node_id)),
            changed=self._follow_later,
        )

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something later, if this life lasts until then, and when it is awake."""
        life = self.life

        def due() -> None:
            if self.life == life and self.is_awake:
                call()
            elif self.life == life:
                self._stage.at(self._asleep_until, due)

        self._stage.at(self._stage.now + seconds, due)

    def _has_edit(self, link: int) -> None:
        if self.is_editing:
            self._connector.is_edited(self, link)
        else:  # in the middle of a frame that came
            self._connector.is_ready(self, link)

    def crash(self, *, is_silent: bool) -> None:
        """End at once, if it runs. What is being written may be on the disk."""
        if not self.is_up:
            return
        if self._batch is not None and self._disks_random.random() < 0.5:
            self.store.commit(self._batch)  # the disk had it, and nobody was told
        self._stop(is_silent=is_silent)
        self.store.close(clean=False)

    def restart(self) -> None:
        """Start, after a clean stop if it runs."""
        if self.is_up:
            is_clean = self._batch is None and not self.is_disk_full
            if is_clean:
                self.replicas.commit()
                self._stage.oracle.taken(self.number)
                self._stage.oracle.committed(self.number)
            self._stop(is_silent=False)
            self.store.close(clean=is_clean)
        self.start()

    def become(self, other: "SimulatedNode") -> None:
        """Start on a copy of another node's disk, as a cloned machine does."""
        if self.is_up:
            self._stop(is_silent=False)
        self.store = other.store.cloned()
        self._stage.oracle.destroyed(self.number)
        for place in self._stage.oracle.rotten(other.number):
            self._stage.oracle.damaged(self.number, place)
        self.start()

    def recover(self) -> None:
        """End what is wrong with it, and let it run."""
        self.is_disk_full = False
        if not self.is_up:
            self.start()
        self.is_torn = False

    def _stop(self, *, is_silent: bool) -> None:
        self.life += 1
        self.is_up = False
        self._connector.ended(self, is_silent=is_silent)
        self._core = self._replicas = self._follower = self.company = None

    # -- time ------------------------------------------------------------------------------

    def sleep(self, seconds: float, *, is_counted: bool) -> None:
        """Suspend its machine; `is_counted` says whether its clock goes on."""
        if not is_counted and self.is_awake:
            self._ahead_s -= seconds
        self._asleep_until = max(self._asleep_until, self._stage.now + seconds)
        life = self.life
        self._stage.at(self._asleep_until, lambda: self._wake(life))

    def set_clock(self, wall_s: float, leap_s: float) -> None:
        """Let its clocks leap."""
        self._wall_ahead_s += wall_s
        self._ahead_s += leap_s
        self.tick()

    def _wake(self, life: int) -> None:
        if self.life == life and self.is_awake:
            self._connector.woke(self)

    def _wall_time_ms(self) -> int:
        return max(0, int(1000 * (_BOOT_S + self._stage.now + self._wall_ahead_s)))

    def tick(self) -> None:
        """Call its core, if it is awake."""
        if not self.is_awake:
            return
        deadline = self.core.tick(self.clock)
        self._ticks_at = math.inf
        self._tick_by(deadline)

    def _tick_by(self, deadline: float) -> None:
        """Call its core by a time of its clock, or earlier if it asked for that before."""
        at = max(self._stage.now, deadline - self._ahead_s)
        while at + self._ahead_s < deadline:  # rounded: it would come a little too early
            at = math.nextafter(at, math.inf)
        if at < self._ticks_at:
            self._ticks_at = at
            life = self.life
            self._stage.at(at, lambda: self._tick_at(life, at))

    def _tick_at(self, life: int, time: float) -> None:
        # Otherwise it was called earlier, and another tick follows.
        if self._ticks_at == time and self.life == life:
            self.tick()

    # -- what it holds ---------------------------------------------------------------------

    def _tell_of_disk(self) -> None:
        """Tell the oracle what its disk has, now that it is known what it holds."""
        oracle, found = self._stage.oracle, texts_on(self.store, PHEXT)
        hold = self.replicas.holding.hold(PHEXT)
        oracle.holds(self.number, self.held, hold.copies or 1)
        oracle.kept(self.number, found, hold.dropping)
        held = oracle.territory.is_held
        shown = {place: text for place, text in found.items() if held(self.number, place)}
        oracle.started(self.number, shown)

    def _held(self, phext: str) -> None:
        if phext == PHEXT:
            copies = self.replicas.holding.hold(PHEXT).copies
            self._stage.note("holds", self.number, *self.held)
            oracle = self._stage.oracle
            oracle.holds(self.number, self.held, copies or 1)
            for place in oracle.visits.become_held(self.number, oracle.territory.is_held):
                on_disk = text_on(self.store, PHEXT, place)
                oracle.took_in(self.number, place, self.replica.get(place, ""), on_disk)

    def _follow_later(self) -> None:
        if self._follows_at == math.inf:
            self._follows_at = self._stage.now + FOLLOW_S
            self._after(FOLLOW_S, self._follow)

    def _follow(self) -> None:
        self._follows_at = math.inf
        if self.company is not None:
            self.company.follow()
        elif self._follower is not None:
            for turn in self._follower.begin():
                self._follower.take(turn, turn.ranges())
            self._follower.end()

    @property
    def is_following_later(self) -> bool:
        """Whether it is about to look again at what was placed."""
        return self._follows_at < math.inf

    # -- what takes effect -----------------------------------------------------------------

    def _took_effect(self, new: NewUpdate) -> None:
        if new.source is not None:
            self._stage.metrics.bytes_needed += len(new.entry.update)

    def _changed(self, change: Change) -> None:
        if not self.is_editing and change.missed is None:
            source = None if change.origin is None else number_of(change.origin)
            for place in change.coordinates:
                if (PHEXT, place) in self.replicas.guests:
                    continue  # whoever asks for it next says what it shows
                text = self.replica.get(place, "")
                came = self._stage.oracle.changed(self.number, place, text)
                self._stage.journeys.arrived(self.number, came, source)

    # -- its disk --------------------------------------------------------------------------

    def damage(self) -> None:
        """Change what the disk has of one scroll."""
        keys = self.store.heads(PHEXT).keys
        if keys:
            at = 12 * self._disks_random.randrange(len(keys) // 12)
            key = keys[at : at + 12]
            self.store.damage(PHEXT, key)
            self._stage.oracle.damaged(self.number, Coordinate.from_key(key))

    def _is_dirty(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._write_at(self._stage.now + GATHER_S)

    def _write_at(self, time: float) -> None:
        life = self.life
        self._stage.at(time, lambda: self._write(life))

    def _write(self, life: int) -> None:
        if self.life != life:
            return
        if not self.is_awake:
            self._write_at(self._asleep_until)
            return
        self._batch = self.replicas.durability.take()
        if self._batch is None:
            self._is_writing = False
            return
        self._stage.oracle.taken(self.number)
        self._commit_s = delay_s = self._disks_random.choices(_DISK_S, (70, 25, 5))[0]
        if self.is_torn:
            self._stage.at(self._stage.now + delay_s / 2, lambda: self._tear(life))
        self._stage.at(self._stage.now + delay_s, lambda: self._written(life))

    def _tear(self, life: int) -> None:
        if self.life == life and self.is_torn:
            self.is_torn = False
            self.crash(is_silent=True)

    def _written(self, life: int) -> None:
        batch = self._batch
        if self.life != life or batch is None:
            return
        self._batch = None
        if self.is_disk_full:
            self.replicas.durability.refused(StoreFullError("the simulated disk is full"))
            self._write_at(self._stage.now + RETRY_S)
            return
        self.store.commit(batch)
        self._stage.oracle.committed(self.number)
        self.replicas.durability.written()
        metrics = self._stage.metrics
        metrics.commits += 1
        self._stage.note("commit", self.number, len(batch.writes))
        if metrics.commits % _COMMITS_PER_CHECK == 0:
            self._check_fingerprint(batch)
        self._write_at(self._stage.now + commit_pause_s(self._commit_s))

    def _check_fingerprint(self, batch: Batch) -> None:
        """Compare a fingerprint in the index with what is stored, read by other code."""
        for phext, write in batch.writes:
            if phext == PHEXT:
                expected = fingerprint_on(self.store, phext, write.key)
                place = Coordinate.from_key(write.key)
                if expected and self.replica.index.fingerprint_of(place) != expected:
                    raise Violation(f"the fingerprint at {place} on {self.number} is of other text")
                return


def number_of(node_id: bytes) -> int:
    """Return the number of a simulated node."""
    return int.from_bytes(node_id, "big")


def id_of(number: int) -> bytes:
    """Return the node id of a simulated node."""
    return number.to_bytes(16, "big")
