"""MemoryMesh: real nodes over a network in memory, in virtual time; one seed makes one run.

The world runs the core of many nodes and is fast; here the whole `Node` runs: its nursery and
writer, its timers and back-off, discovery, framing, and TLS if wanted. One trio run holds all
nodes, and its clock jumps to whatever is due next. Faults, links, workloads and oracle are those
of the world, but the oracle believes what users are told: an edit is durable when `Node.durable`
returned or the node stopped cleanly, and a peer has what `Node.synced` would say it has.

A sleeping machine neither sends nor hears, its disk and its wall clock stand still, and its users
are away; its timers go on, since all nodes share one clock.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import trio
import trio.testing

from phextsync.errors import PhextsyncError, StoreError, StoreFullError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.links import LINKS_MAX
from phextsync.node.node import Node, running
from phextsync.node.surroundings import Surroundings
from phextsync.replica.changes import Change
from phextsync.replica.replica import Replica
from phextsync.store.contract import Batch
from phextsync.sync.reconcile import scope_digest
from phextsync.sync.timing import Timing
from phextsync.testing.disks import texts_on
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
from phextsync.testing.memory_discovery import MemoryDiscovery
from phextsync.testing.memory_links import MemoryLinks
from phextsync.testing.memory_machine import Life, Machine
from phextsync.testing.mesh import PHEXT, Editor
from phextsync.testing.metrics import Metrics
from phextsync.testing.network import MemoryNetwork
from phextsync.testing.oracle import Edit, Oracle
from phextsync.testing.paths import Paths
from phextsync.testing.trace import Trace, generator
from phextsync.testing.trio_time import TrioTimeline, repeatable_scheduler
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity

_DISK_S: Final = (0.0002, 0.001, 0.012)  # a commit takes one of these times
_CHECK_S: Final = 0.05
_CLAIMS_S: Final = 0.5
_NOT_MEASURED: Final = ("bytes_needed", "reads_current", "read_currency", "backlog_max")

T = TypeVar("T")


class MemoryMesh:
    """Nodes 0 to `count` - 1, each pair of `overlay` with paths both ways (None: all pairs).

    Call `at`, `schedule` and workloads before or within `run`, which calls its argument when the
    nodes run; there, `await run_until(...)` lets time pass, and `await settle(...)` ends a run and
    checks it.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        overlay: Iterable[tuple[int, int]] | None = None,
        has_tls: bool = False,
        timing: Timing | None = None,
        links_max: int = LINKS_MAX,
        fleeting: Collection[int] = (),
        trace: Callable[[str], None] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        beside: Callable[[Node], Awaitable[None]] | None = None,
    ) -> None:
        """`on_error` is told every error that ended a part of a node; without it, one ends the
        run. `beside` runs beside each node while that runs. What nodes that are `fleeting` store
        ends with them."""
        self.seed = seed
        self.count = count
        self.oracle = Oracle()
        self.metrics = Metrics(_NOT_MEASURED)
        self._has_tls = has_tls
        self._on_error = on_error or self._failed
        self._beside = beside
        self._timing = timing
        self._links_max = links_max
        self._trace = Trace(trace)
        self._timeline = TrioTimeline()
        self._disks_random = self.random("disks")
        self._links_random = self.random("links")
        self._users_random = self.random("users")
        pairs = [(a, b) for b in range(count) for a in range(b)] if overlay is None else overlay
        self._paths = Paths(self._timeline, self._links_random, pairs)
        self._network = MemoryNetwork(self._timeline, self._paths, count, self._note_bytes)
        key = MeshKey(self.random("mesh key").randbytes(32))
        self._machines = [
            Machine(host, NodeIdentity.create(key, host.name, source.randbytes(32)), source)
            for host in self._network.hosts
            for source in [self.random(f"node {host.number}")]
        ]
        for number in fleeting:
            self._machines[number].store.is_fleeting = True
        self._nursery: trio.Nursery | None = None
        self._pause = trio.Event()
        self._error: Exception | None = None
        self._asked = 0  # whose claims are checked next

    # -- what users of a run call ----------------------------------------------------------

    def run(self, body: Callable[[], Awaitable[T]]) -> T:
        """Run all nodes, and `body` with them; return what it returns. Once for each mesh."""
        with repeatable_scheduler(self.random("scheduler")), _logged(self._note):
            clock = trio.testing.MockClock(autojump_threshold=0)
            return trio.run(self._main, body, clock=clock)

    @property
    def now(self) -> float:
        """Virtual seconds since the run began."""
        return self._timeline.now

    def random(self, name: str) -> Random:
        """Return the generator of that name."""
        return generator(self.seed, name)

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a virtual time."""
        self._timeline.at(time, call)

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Let faults happen at their times."""
        for fault in faults:
            self.at(fault.at, partial(self.apply, fault.action))

    async def run_until(self, time: float) -> None:
        """Let time pass; Violation as soon as there is one, or the error that a node met."""
        self.at(time, self._pause.set)
        await self._pause.wait()
        self._pause = trio.Event()
        if self._error is not None:
            raise self._error
        self.oracle.check()

    def node(self, number: int) -> Node:
        """Return a node that runs."""
        node = self._life(number).node
        assert node is not None, f"node {number} starts or stops"
        return node

    def _life(self, number: int) -> Life:
        life = self._machines[number].life
        assert life is not None, f"node {number} is down"
        return life

    def is_up(self, node: int) -> bool:
        """Whether a node runs and is awake."""
        return self._machines[node].is_up

    def replica(self, node: int) -> Replica:
        """Return a node's replica, to read from."""
        return self.node(node).phext(PHEXT)

    def text(self, node: int, place: Coordinate) -> str:
        """Return what a node's user reads, "" for nothing."""
        self.metrics.reads += 1
        text = self.replica(node).get(place, "")
        self.metrics.reads_answered += 1
        return text

    def edit(self, node: int, place: Coordinate, change: Callable[[Editor], object]) -> bool:
        """Let a node's user change one scroll; say whether the node took it. Every other user
        waits until the change is durable."""
        if not self.is_up(node):
            return False
        replica = self.replica(node)
        before = replica.get(place, "")
        self.metrics.writes += 1
        try:
            change(replica)
        except StoreFullError:
            return False
        self.metrics.writes_accepted += 1
        after = replica.get(place, "")
        self._note("edit", node, str(place), len(after))
        edit = self.oracle.asked(place, before, after)
        self.oracle.changed(node, place, after)
        life = self._life(node)
        life.edits.append(edit)
        if life.users is not None and self._users_random.random() < 0.5:
            life.users.start_soon(self._wait_for_disk, node, self.node(node), edit)
        return True

    async def settle(self, within_s: float) -> None:
        """End every fault, let all nodes run, and wait until they are linked and equal; then
        check them. Violation when they are not within that time, or not what they must be."""
        self.apply(Repair())
        self._paths.smooth()
        for machine in self._machines:
            machine.is_disk_full = False
            if machine.life is None:
                self._start(machine)
        began = self.now
        await trio.testing.wait_all_tasks_blocked()  # nodes notice first what has just happened
        while not self.is_settled():
            if self.now - began > within_s:
                self.oracle.finish(self.texts())
                raise AssertionError(f"not in sync after {within_s:g} s: {self._complaints()}")
            await self.run_until(self.now + _CHECK_S)
        self.metrics.converged_ms = self.metrics.synced_ms = round(1000 * (self.now - began))
        for number in range(self.count):
            self._count(self.node(number))
        self.oracle.finish(self.texts())

    def is_settled(self) -> bool:
        """Whether all nodes are awake, linked to each other, durable, equal, and know it."""
        return not self._complaints()

    def texts(self) -> list[dict[Coordinate, str]]:
        """Return what each node shows."""
        return [dict(self.replica(number).scrolls()) for number in range(self.count)]

    def digest(self) -> str:
        """Return the digest of everything that happened, in hexadecimal."""
        return self._trace.digest()

    def _complaints(self) -> list[str]:
        """Say what is missing until the mesh is settled."""
        if not all(map(self.is_up, range(self.count))):
            return ["not all nodes are up"]
        found = []
        digests = set()
        for number in range(self.count):
            node = self.node(number)
            if node.replicas.is_dirty:
                found.append(f"{number} has changes that are not durable")
            found += [f"{number}: {lack}" for lack in node.lacking(PHEXT)]
            linked = {peer.node_id for peer in node.peers()}
            peers = self._paths.peers(number)
            for peer in peers if len(peers) <= self._links_max else ():
                if self._machines[peer].identity.node_id not in linked:
                    found.append(f"{number} has no link to {peer}")
            digests.add(scope_digest(node.phext(PHEXT).index, [EVERYTHING]))
        return found if len(digests) == 1 else [*found, "the nodes differ"]

    # -- faults ----------------------------------------------------------------------------

    def apply(self, action: Action) -> None:
        """Let a fault happen now. One that concerns a node that is down changes nothing."""
        self._note(repr(action))
        match action:
            case Partition() | Hold() | Repair() | Shape():
                self._paths.apply(action)
            case Reset(one, other):
                self._network.cut(one, other)
            case Crash(number, is_silent):
                self._kill(self._machines[number], is_silent=is_silent)
            case Restart(number):
                self._restart(self._machines[number])
            case Clone(source, target):
                self._clone(self._machines[source], self._machines[target])
            case Sleep(number, seconds):
                self._sleep(self._machines[number], seconds)
            case FillDisk(number):
                self._machines[number].is_disk_full = True
            case FreeDisk(number):
                self._machines[number].is_disk_full = False
            case Garbage(source, target):
                self._send_garbage(source, target)
            case _:
                raise PhextsyncError(f"expected a fault that can be imitated, found {action}")

    def _kill(self, machine: Machine, *, is_silent: bool) -> None:
        life = machine.life
        if life is None:
            return
        if life.batch is not None and self._disks_random.random() < 0.5:
            life.store.commit(life.batch)  # the disk had it, and nobody was told
        machine.store = life.store.cloned()
        machine.life = life.node = None
        machine.asleep_until = 0.0
        machine.host.halt(is_silent=is_silent)
        life.is_over = True
        life.scope.cancel()

    def _restart(self, machine: Machine) -> None:
        if machine.life is None:
            self._start(machine)
        else:
            machine.life.node = None
            machine.life.stopping.set()

    def _clone(self, source: Machine, target: Machine) -> None:
        self._kill(target, is_silent=False)
        target.store = source.store.cloned()
        target.was_replaced = True
        left = [texts_on(machine.store, PHEXT) for machine in self._machines]
        self.oracle.destroyed(target.host.number, left)
        self._start(target)

    def _sleep(self, machine: Machine, seconds: float) -> None:
        if machine.life is None:
            return
        machine.sleep(seconds)
        self.at(machine.asleep_until, machine.wake_if_due)

    def _send_garbage(self, source: int, target: int) -> None:
        for stream in self._network.between(source, target)[:1]:
            if stream.twin is not None:
                frame = self._links_random.randbytes(self._links_random.randint(1, 200))
                stream.put(len(frame).to_bytes(4, "big") + frame)

    # -- nodes -----------------------------------------------------------------------------

    async def _main(self, body: Callable[[], Awaitable[T]]) -> T:
        result: list[T] = []
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._timeline.run)
            for machine in self._machines:
                self._start(machine)
            self.at(_CLAIMS_S, self._check_claims)
            try:
                await trio.testing.wait_all_tasks_blocked()  # a start takes no virtual time
                result.append(await body())
            except Exception as error:  # as it is, not in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result[0]

    def _start(self, machine: Machine) -> None:
        assert self._nursery is not None, "nodes run within `run`"
        machine.store = machine.store.reopened()
        machine.life = Life(machine.store)
        machine.host.boot()
        self.oracle.started(machine.host.number)
        self._note("start", machine.host.number)
        self._nursery.start_soon(self._live, machine, machine.life)

    async def _live(self, machine: Machine, life: Life) -> None:
        """Run a node until it is stopped or killed; a stopped one starts again."""
        surroundings, links_max = self._surroundings(machine, life), self._links_max
        node = Node(machine.identity, surroundings, timing=self._timing, links_max=links_max)
        with life.scope:
            async with running(node), trio.open_nursery() as users:
                node.phext(PHEXT).subscribe(partial(self._changed, machine.host.number, life))
                life.node, life.users = node, users
                if self._beside is not None:
                    users.start_soon(self._beside, node)
                await life.stopping.wait()
                users.cancel_scope.cancel()
        self._count(node)
        if not life.is_over and life.stopping.is_set():
            self._has_stopped(machine, life, node)
            self._start(machine)

    def _has_stopped(self, machine: Machine, life: Life, node: Node) -> None:
        """A node that has stopped cleanly left nothing open and, if it could, nothing unwritten."""
        left = machine.host.streams()
        assert not left, f"a node stopped and left {len(left)} connections open"
        if node.replicas.is_dirty:
            assert machine.is_disk_full, "a node stopped and left changes unwritten"
        else:
            for edit in life.edits:
                self.oracle.answered(machine.host.number, edit)

    def _surroundings(self, machine: Machine, life: Life) -> Surroundings:
        return Surroundings(
            folder=Path(machine.host.name),
            index_folder=Path(machine.host.name),
            store=life.store,
            commit=partial(self._commit, machine, life),
            network=MemoryLinks(machine.host, machine.identity, self._has_tls),
            discoveries=[MemoryDiscovery(machine.host)],
            remembered=machine.remembered,
            known=machine.known,
            random=Random(machine.random.getrandbits(64)),
            wall_time_s=machine.wall_time_s,
            on_error=self._on_error,
        )

    def _failed(self, error: Exception) -> None:
        """An error stopped at a boundary of a node; here it ends the run."""
        self._error = self._error or error
        self._pause.set()

    async def _commit(self, machine: Machine, life: Life, batch: Batch) -> None:
        """Write a batch as a disk does. A disk cannot be cancelled."""
        life.batch = batch
        with trio.CancelScope(shield=True):
            await trio.sleep(self._disks_random.choices(_DISK_S, (70, 25, 5))[0])
            while not machine.is_awake:  # noqa: ASYNC110  it may be put off
                await trio.sleep_until(machine.asleep_until)
        life.batch = None
        if life.is_over:
            raise StoreError("the machine is gone")
        if machine.is_disk_full:
            raise StoreFullError("the simulated disk is full")
        life.store.commit(batch)
        self.metrics.commits += 1
        self._note("commit", machine.host.number, len(batch.writes))

    # -- what users are told ---------------------------------------------------------------

    async def _wait_for_disk(self, number: int, node: Node, edit: Edit) -> None:
        with suppress(StoreFullError):
            await node.durable()
            self.oracle.answered(number, edit)

    def _changed(self, number: int, life: Life, change: Change) -> None:
        if change.origin is not None and life.node is not None:
            replica = life.node.phext(PHEXT)
            for place in change.coordinates:
                self.oracle.changed(number, place, replica.get(place, ""))
            if self.oracle.violation is not None:
                self._pause.set()

    def _check_claims(self) -> None:
        """A peer that a node takes for in sync must have on its disk all that the node shows."""
        self.at(self.now + _CLAIMS_S, self._check_claims)
        number, self._asked = self._asked, self._users_random.randrange(self.count)
        if self.is_up(self._asked):  # it finds out until the next time
            self.node(self._asked).core.lacking(PHEXT)
        if not self.is_up(number) or self.node(number).replicas.is_dirty:
            return
        complete, _ = self.node(number).core.lacking(PHEXT)
        peers = [m for m in self._machines if m.identity.node_id in complete and not m.was_replaced]
        if peers:
            disks = [texts_on(peer.store, PHEXT) for peer in peers]
            self.oracle.claimed(dict(self.replica(number).scrolls()), disks)

    # -- trace -----------------------------------------------------------------------------

    def _count(self, node: Node) -> None:
        traffic = node.traffic()
        metrics = self.metrics
        metrics.frames += traffic.frames_in
        metrics.updates += traffic.updates_in
        metrics.redundant += traffic.redundant
        metrics.bytes = self._network.bytes_sent
        metrics.buffer_bytes_max = self._network.buffer_bytes_max
        metrics.events = self._timeline.made

    def _note_bytes(self, what: str, node: int, connection: int, data: bytes) -> None:
        """Ciphertext differs from run to run; its length does not."""
        self._note(what, node, connection, len(data) if self._has_tls else data)

    def _note(self, *what: object) -> None:
        self._trace.note(self.now, *what)


@contextmanager
def _logged(note: Callable[..., None]) -> Iterator[None]:
    """Note what the library logs."""

    def take(record: logging.LogRecord) -> bool:
        note("log", record.getMessage())
        return False

    handler = logging.Handler()
    handler.addFilter(take)
    logger = logging.getLogger("phextsync")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
