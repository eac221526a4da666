"""Machine: what exists of a node in memory before, between and after its lives."""

from dataclasses import dataclass, field
from random import Random

import trio

from phextsync.discovery import RememberedPeers
from phextsync.node.node import Node
from phextsync.store.contract import Batch
from phextsync.store.memory import MemoryStore
from phextsync.testing.network import Host
from phextsync.testing.oracle import Edit
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.known_peers import KnownPeers


@dataclass(slots=True)
class Life:
    """A node from its start to its end."""

    store: MemoryStore
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopping: trio.Event = field(default_factory=trio.Event)
    node: Node | None = None  # while users reach it
    users: trio.Nursery | None = None
    edits: list[Edit] = field(default_factory=list)
    batch: Batch | None = None  # on its way to the disk
    is_over: bool = False


@dataclass(slots=True)
class Machine:
    """What exists before, between and after the lives of a node."""

    host: Host
    identity: NodeIdentity
    random: Random
    store: MemoryStore = field(default_factory=MemoryStore)
    remembered: RememberedPeers = field(default_factory=RememberedPeers)
    known: KnownPeers = field(default_factory=KnownPeers)
    life: Life | None = None
    is_disk_full: bool = False
    was_replaced: bool = False  # its disk: what it had said of it may be wrong
    asleep_since: float = 0.0
    asleep_until: float = 0.0

    @property
    def is_awake(self) -> bool:
        """Whether it does not sleep, whatever runs there."""
        return self._now >= self.asleep_until

    @property
    def is_up(self) -> bool:
        """Whether users reach the node, and it is awake."""
        return self.life is not None and self.life.node is not None and self.is_awake

    def sleep(self, seconds: float) -> None:
        """Sleep from now on for some time at least; `wake_if_due` has to be called then."""
        if self.is_awake:
            self.asleep_since = self._now
        self.asleep_until = max(self.asleep_until, self._now + seconds)
        self.host.sleep()

    def wake_if_due(self) -> None:
        """Wake up, unless it is to sleep longer."""
        if self.is_awake:
            self.host.wake()

    def wall_time_s(self) -> float:
        """Return the time by its clock, which stands still while it sleeps."""
        return self._now if self.is_awake else self.asleep_since

    @property
    def _now(self) -> float:
        return self.host.network.timeline.now
