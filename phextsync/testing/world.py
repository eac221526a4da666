"""World: many nodes in virtual time, over simulated links and disks. No trio, no threads, no clock;
one seed makes one run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Final

from phextsync.errors import (
    PermissionDeniedError,
    PhextsyncError,
    StoreDamagedError,
    StoreFullError,
)
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.overlay import spanning_tree
from phextsync.replica.replica import Replica
from phextsync.sync.limits import Limits
from phextsync.sync.timing import Timing
from phextsync.testing import wishes
from phextsync.testing.agreement import Agreement
from phextsync.testing.company import Shared
from phextsync.testing.disks import texts_on
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
    Regions,
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
from phextsync.testing.oracle import Violation
from phextsync.testing.simulated_node import SimulatedNode, id_of
from phextsync.testing.stage import Stage
from phextsync.testing.wires import Wires
from phextsync.testing.wishes import Wish
from phextsync.trust.permissions import UNRESTRICTED, Permissions

_SOCKET_BYTES: Final = 256 << 10
_CHECK_PER_NODE_S: Final = 1 / 10_000
_CHECK_S: Final = 0.01
_CHECK_PARTS_S: Final = 0.25
_FEW: Final = 8
_CLAIMS_S: Final = 0.25
_QUIET_S: Final = 0.5
_REPAIR_S: Final = 1.0
_DIAL_LOOK_S: Final = 0.02


class World:
    """Nodes 0 to `count` - 1, each pair of `overlay` linked whenever it can be (None: all pairs).
    With `links_max` nodes choose themselves with whom they are linked, at most with so many. Nodes
    in `minors` speak an older minor version of the protocol.

    Call `schedule` and `apply`, then `run_until`; `settle` ends a run and checks it.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        overlay: Iterable[tuple[int, int]] | None = None,
        links_max: int = 0,
        timing: Timing | None = None,
        socket_bytes: int = _SOCKET_BYTES,
        permissions: Mapping[int, Permissions] | None = None,
        minors: Mapping[int, int] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.count = count
        self._stage = stage = Stage(seed, trace)
        self.oracle = stage.oracle
        self.metrics = stage.metrics
        self._minors = minors
        self._make_nodes(overlay, links_max, timing or Timing(), socket_bytes, permissions or {})
        self._agreement = Agreement(self._nodes, self._wires)
        for node in self._nodes:
            node.start()
        self._check_claims(0)

    def _make_nodes(
        self,
        overlay: Iterable[tuple[int, int]] | None,
        links_max: int,
        timing: Timing,
        socket_bytes: int,
        permissions: Mapping[int, Permissions],
    ) -> None:
        count, stage, limits = self.count, self._stage, Limits()
        pairs = [] if links_max else [(a, b) for b in range(count) for a in range(b)]
        linked = pairs if overlay is None else sorted(overlay)
        is_sparse = len(linked) < len(pairs)
        tree = _tree(count, linked) if is_sparse else []
        shared = Shared([*map(id_of, range(count))], links_max) if links_max else None
        self._wires = Wires(
            stage,
            None if links_max else linked,
            limits=limits,
            socket_bytes=socket_bytes,
            links_max=links_max,
            minors=self._minors,
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
                told_with=tree[number] if is_sparse else None,
                permissions=permissions.get(number, UNRESTRICTED),
                shared=shared,
            )
            for number in range(count)
        ]
        for number, allowed in permissions.items():
            readable, writable = allowed.readable(PHEXT), allowed.writable(PHEXT)
            self.oracle.territory.permit(number, readable, writable)

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
        """Return what a node's user reads, "" for nothing, for what is damaged and for what is not
        held there."""
        if not self.oracle.territory.is_held(node, place):
            return ""
        self.metrics.reads += 1
        try:
            text = self.replica(node).get(place, "")
        except StoreDamagedError:
            return ""
        self.metrics.reads_answered += 1
        self.metrics.reads_current += self.oracle.is_current(place, text)
        return text

    def edit(self, node: int, place: Coordinate, change: Callable[[Editor], object]) -> bool:
        """Let a node's user change one scroll; say whether the node took it. What is not held there
        nobody asks for."""
        if not self.is_up(node) or not self.oracle.territory.is_held(node, place):
            return False
        replica = self.replica(node)
        self.metrics.writes += 1
        try:
            before = replica.get(place, "")
            self._nodes[node].is_editing = True
            change(replica)
        except (StoreFullError, StoreDamagedError, PermissionDeniedError):
            return False
        finally:
            self._nodes[node].is_editing = False
        self.metrics.writes_accepted += 1
        after = replica.get(place, "")
        self._stage.note("edit", node, str(place), len(after))
        came = self.oracle.edited(node, place, before, after)
        self._stage.journeys.arrived(node, came, None)
        return True

    def visit(self, node: int, place: Coordinate, *, writes: bool) -> None:
        """Let a node's user ask for a scroll that it does not hold and, if it writes, append a line
        as soon as it is there; one that is held is not visited."""
        simulated, visits = self._nodes[node], self.oracle.visits
        if not self.is_up(node) or self.oracle.territory.is_held(node, place):
            return
        visits.visit(node, place)
        self.metrics.visits += 1
        self._ask(simulated, simulated.life, place, writes, may_dial=True)

    def _ask(
        self, node: SimulatedNode, life: int, place: Coordinate, writes: bool, *, may_dial: bool
    ) -> None:
        """Let a node ask for a scroll; where no peer holds it, link it with such that do."""

        def told(is_here: bool) -> None:
            if is_here or not may_dial:
                self.at(self.now, lambda: self._visited(node, life, place, writes))
            else:
                self.at(self.now, lambda: self._dial_holders(node, life, place, writes))

        node.core.fetching.fetch(node.clock, PHEXT, place, told)

    def _dial_holders(
        self, node: SimulatedNode, life: int, place: Coordinate, writes: bool
    ) -> None:
        if node.life != life or not node.is_awake:
            return
        if node.company is None:
            self._visited(node, life, place, writes)
            return
        company, turns = node.company, node.company.turns(PHEXT, place)

        def look() -> None:
            if node.life != life or not node.is_awake:
                return
            company.ask_for(turns.take(self.now))
            ready = {peer_id for _, peer_id, _ in node.core.peers()}
            if ready & turns.dialled.keys() or self.now >= turns.due:
                self._ask(node, life, place, writes, may_dial=False)
            else:
                self.at(self.now + _DIAL_LOOK_S, look)

        look()

    def _visited(self, node: SimulatedNode, life: int, place: Coordinate, writes: bool) -> None:
        if node.life != life or not node.is_awake:
            return
        number, guests = node.number, node.replicas.guests
        if self.oracle.territory.is_held(number, place) or (PHEXT, place) not in guests:
            return
        self.metrics.reads += 1
        self.metrics.visits_answered += 1
        text = node.replica.get(place, "")
        self.metrics.reads_answered += 1
        self.oracle.visited(number, place, text)
        line = f"{self.oracle.token()} from elsewhere\n"
        if not writes:
            return
        try:
            node.is_editing = True
            node.replica.append(place, line)
        except (StoreFullError, PermissionDeniedError):
            return
        finally:
            node.is_editing = False
        edit = self.oracle.asked(place, "", line)
        self.oracle.visits.wrote(number, place, edit.written)

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

    def repair(self, copies: int, within_s: float) -> None:
        """Wait until all that is on a disk is on those of so many nodes that are on and hold it,
        while what is wrong goes on. Violation when it is not within that time."""
        began = self.now
        while (fewest := self.oracle.fewest(self._on()))[0] < copies:
            if self.now > began + within_s:
                raise Violation(f"{fewest[1]} is on {fewest[0]} disks, expected {copies}")
            self.run_until(self.now + _REPAIR_S)
        self.metrics.copied_ms = round(1000 * (self.now - began))

    def _on(self) -> list[int]:
        return [node.number for node in self._nodes if node.is_up]

    def settle(self, within_s: float) -> None:
        """End every fault, let all nodes run, and wait until all are equal that hold the same; then
        check them.

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
        if any(node.held != (EVERYTHING,) for node in self._nodes):
            self._write_quietly(within_s)
        self._stage.journeys.finish(self.metrics)
        self._wires.count_open(self.metrics)
        for node in self._nodes:
            self.oracle.kept(node.number, texts_on(node.store, PHEXT))
        self.oracle.finish(self.texts())

    def _write_quietly(self, within_s: float) -> None:
        """Let every node write once more, now that nobody changes what they hold, and see where
        that goes."""
        self._wires.is_quiet = True
        began = self.now
        for node in self._nodes:
            place = min(node.replica.index.coordinates(), default=None)
            if place is not None:
                line = f"{self.oracle.token()}\n"
                self.edit(node.number, place, lambda editor, p=place, t=line: editor.append(p, t))  # type: ignore[misc]
        self.run_until(began + _QUIET_S)
        self._wait(self.is_settled, began + within_s)

    def is_equal(self) -> bool:
        """Whether all nodes are awake, hold what they are to hold, and have the same on their
        disks as others that hold it."""
        if not all(node.is_awake and not node.replicas.is_dirty for node in self._nodes):
            return False
        return self._agreement.is_equal() and self._agreement.is_followed()

    def is_settled(self) -> bool:
        """Whether all nodes are equal, know it of their peers, and have given up what they can."""
        if not self.is_equal() or any(map(self._has_unsent, self._nodes)):
            return False
        return not self._agreement.may_give_up() and not self._agreement.lacks()

    def _has_unsent(self, node: SimulatedNode) -> bool:
        """Whether a node has edits of what others hold, and somebody could have them."""
        territory, everybody = self.oracle.territory, range(self.count)
        return any(territory.holders(everybody, place) for _, place in node.replicas.guests.unsent)

    def _wait(self, condition: Callable[[], bool], until: float) -> None:
        while not condition():
            if self.now > until:
                self.oracle.finish(self.texts())
                raise AssertionError(f"not in sync in time: {self._agreement}")
            check_s = max(_CHECK_S, self.count * _CHECK_PER_NODE_S)
            self.run_until(self.now + (_CHECK_PARTS_S if self._is_of_many_parts() else check_s))

    def _is_of_many_parts(self) -> bool:
        """Whether many nodes hold parts: to look at all of them takes as long as what they do in
        tenths of a second."""
        return self.count > _FEW and any(node.held != (EVERYTHING,) for node in self._nodes)

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
        for range_ in node.held if node.is_awake else ():
            for peer_id in node.core.lacking(PHEXT, range_)[0]:
                peer = int.from_bytes(peer_id, "big")
                self.oracle.check_claim(node.number, peer, range_)
        for range_ in following.held if following.is_awake else ():
            following.core.lacking(PHEXT, range_)
        self.at(self.now + _CLAIMS_S, lambda: self._check_claims(turn + 1))

    # -- faults ----------------------------------------------------------------------------

    def apply(self, action: Action) -> None:
        """Let a fault happen now. One that concerns a node that is down changes nothing."""
        self._stage.note(repr(action))
        match action:
            case Partition() | Hold() | Repair() | Shape() | Regions():
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
            case _:
                self._tell(self._nodes[action.node], action)

    def _tell(self, node: SimulatedNode, wish: Wish) -> None:
        """Let a user of a node say what is to be held; a node may refuse it."""
        if node.is_awake:
            try:
                wishes.tell(node.replicas, wish)
            except PhextsyncError as error:
                self._stage.note("refused", node.number, str(error))

    def _deafen(self, node: SimulatedNode, seconds: float) -> None:
        if node.is_awake:
            node.sleep(seconds, is_counted=True)
            self._wires.ping_while_asleep(node, node.life)


def _tree(count: int, pairs: Iterable[tuple[int, int]]) -> list[frozenset[bytes]]:
    """Return the node ids with which each node is linked in the tree that all choose."""
    ids = list(map(id_of, range(count)))
    chosen: dict[bytes, set[bytes]] = {node_id: set() for node_id in ids}
    for one, other in pairs:
        chosen[ids[one]].add(ids[other])
        chosen[ids[other]].add(ids[one])
    return [frozenset(peers) for peers in spanning_tree(chosen).values()]
