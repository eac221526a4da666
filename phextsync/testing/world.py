"""World: many nodes in virtual time, over simulated links and disks. No trio, no threads, no clock;
one seed makes one run."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Final

from phextsync.errors import StoreDamagedError, StoreFullError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.replica.replica import Replica
from phextsync.sync.limits import Limits
from phextsync.sync.reconcile import scope_digest
from phextsync.sync.timing import Timing
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
    SetClock,
    Shape,
    Sleep,
    Tear,
)
from phextsync.testing.mesh import PHEXT, Editor
from phextsync.testing.metrics import Metrics
from phextsync.testing.simulated_node import SimulatedNode
from phextsync.testing.stage import Stage
from phextsync.testing.wires import Wires

_SOCKET_BYTES: Final = 256 << 10
_CHECK_PER_NODE_S: Final = 1 / 10_000
_CHECK_S: Final = 0.01
_CLAIMS_S: Final = 0.25


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
        self.count = count
        self._stage = stage = Stage(seed, trace)
        self.oracle = stage.oracle
        self.metrics = stage.metrics
        pairs = [(a, b) for b in range(count) for a in range(b)]
        limits, timing = Limits(), timing or Timing()
        linked = pairs if overlay is None else sorted(overlay)
        degrees = Counter(node for pair in linked for node in pair)
        self._wires = Wires(
            stage,
            linked,
            limits=limits,
            socket_bytes=socket_bytes,
        )
        disks_random = stage.random("disks")
        self._nodes = [
            SimulatedNode(
                number,
                stage,
                self._wires,
                disks_random,
                timing=timing,
                limits=limits,
                is_sparse=degrees[number] < count - 1,
            )
            for number in range(count)
        ]
        for node in self._nodes:
            node.start()
        self._check_claims(0)

    # -- what users of a run call ----------------------------------------------------------

    @property
    def now(self) -> float:
        """The virtual time, in seconds."""
        return self._stage.now

    def random(self, name: str) -> Random:
        """Return the generator of that name."""
        return self._stage.random(name)

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a virtual time."""
        self._stage.at(time, call)

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Let faults happen at their times."""
        for fault in faults:
            self.at(fault.at, partial(self.apply, fault.action))

    def run_until(self, time: float) -> None:
        """Let time pass. Violation when something is not what it must be."""
        self._stage.run_until(time)

    def is_up(self, node: int) -> bool:
        """Whether a node runs and is awake."""
        return self._nodes[node].is_awake

    def replica(self, node: int) -> Replica:
        """Return a node's replica, to read from."""
        return self._nodes[node].replica

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
            self._nodes[node].is_editing = True
            change(replica)
        except (StoreFullError, StoreDamagedError):
            return False
        finally:
            self._nodes[node].is_editing = False
        self.metrics.writes_accepted += 1
        after = replica.get(place, "")
        self._stage.note("edit", node, str(place), len(after))
        came = self.oracle.edited(node, place, before, after)
        self._stage.journeys.arrived(node, came, None)
        return True

    def texts(self) -> list[dict[Coordinate, str]]:
        """Return what each node shows."""
        return [dict(self.replica(number).scrolls()) for number in range(self.count)]

    def measured(self) -> Metrics:
        """Return what was measured so far; `metrics` has what links carried that are open only
        after `settle`."""
        metrics = replace(self.metrics)
        self._wires.count_open(metrics)
        return metrics

    def digest(self) -> str:
        """Return the digest of everything that happened, in hexadecimal."""
        return self._stage.trace.digest()

    # -- the end of a run ------------------------------------------------------------------

    def settle(self, within_s: float) -> None:
        """End every fault, let all nodes run, and wait until they are equal; then check them.

        Violation when they are not within that time, or not what they must be.
        """
        self.apply(Repair())
        self._wires.paths.smooth()
        for node in self._nodes:
            node.recover()
        began = self.now
        self._wait(lambda: all(map(self.is_up, range(self.count))), began + within_s)
        self._read_all()
        self._wait(self.is_equal, began + within_s)
        self.metrics.converged_ms = round(1000 * (self.now - began))
        self._wait(self.is_settled, began + within_s)
        self.metrics.synced_ms = round(1000 * (self.now - began))
        self._stage.journeys.finish(self.metrics)
        self._wires.count_open(self.metrics)
        self.oracle.finish(self.texts())

    def is_equal(self) -> bool:
        """Whether all nodes are awake and have the same on their disks."""
        first = None
        for node in self._nodes:
            if not node.is_awake or node.replicas.is_dirty:
                return False
            digest = scope_digest(node.replica.index, [EVERYTHING])
            first = first or digest
            if digest != first:
                return False
        return True

    def is_settled(self) -> bool:
        """Whether all nodes are equal, and know it of their peers."""
        # All are asked at once: to be asked makes a node find out.
        return self.is_equal() and not any([node.core.lacking(PHEXT)[1] for node in self._nodes])

    def _wait(self, condition: Callable[[], bool], until: float) -> None:
        while not condition():
            if self.now > until:
                lacks = [node.core.lacking(PHEXT)[1] for node in self._nodes]
                self.oracle.finish(self.texts())
                raise AssertionError(f"not in sync in time: {lacks}")
            self.run_until(self.now + max(_CHECK_S, self.count * _CHECK_PER_NODE_S))

    def _read_all(self) -> None:
        """Let users read everything that was damaged, so that it is noticed."""
        for node in self._nodes:
            for place in self.oracle.rotten(node.number):
                if node.is_awake:
                    self.text(node.number, place)

    def _check_claims(self, turn: int) -> None:
        """Check whom one node takes for complete; the next one in turn a little later. That is
        asked already, since to be asked makes a node find out."""
        node = self._nodes[turn % self.count]
        following = self._nodes[(turn + 1) % self.count]
        if node.is_awake:
            for peer_id in node.core.lacking(PHEXT)[0]:
                self.oracle.check_claim(node.number, int.from_bytes(peer_id, "big"))
        if following.is_awake:
            following.core.lacking(PHEXT)
        self.at(self.now + _CLAIMS_S, lambda: self._check_claims(turn + 1))

    # -- faults ----------------------------------------------------------------------------

    def apply(self, action: Action) -> None:
        """Let a fault happen now. One that concerns a node that is down changes nothing."""
        self._stage.note(repr(action))
        match action:
            case Partition() | Hold() | Repair() | Shape():
                self._wires.paths.apply(action)
                if isinstance(action, Shape) and (action.duplication or action.reordering):
                    self.oracle.are_claims_exact = False
            case Reset(one, other):
                self._wires.reset(one, other)
            case HalfOpen(number, peer):
                self._wires.half_open(number, peer)
            case Crash(number, is_silent):
                self._nodes[number].crash(is_silent=is_silent)
            case Tear(number):
                self._nodes[number].is_torn = True
            case Damage(number):
                self._nodes[number].damage()
            case Restart(number):
                self._nodes[number].restart()
            case Clone(source, target):
                self._nodes[target].become(self._nodes[source])
            case Sleep(number, seconds, is_counted):
                self._nodes[number].sleep(seconds, is_counted=is_counted)
            case SetClock(number, wall_s, leap_s):
                self._nodes[number].set_clock(wall_s, leap_s)
            case Deafen(number, seconds):
                self._deafen(self._nodes[number], seconds)
            case FillDisk(number):
                self._nodes[number].is_disk_full = True
            case FreeDisk(number):
                self._nodes[number].is_disk_full = False
            case Garbage(source, target, of):
                self._wires.send_garbage(source, target, of)

    def _deafen(self, node: SimulatedNode, seconds: float) -> None:
        if node.is_awake:
            node.sleep(seconds, is_counted=True)
            self._wires.ping_while_asleep(node, node.life)
