"""RealMesh: the nodes of a scenario as real processes on the hosts of a `Lan`, in real time.

Users talk to their nodes over the nodes' sockets and do not wait for answers: an edit is
owed when its answer has come, and what was asked of a node that was killed may come or not.
"""

import heapq
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from phextsync.control.frames import Value
from phextsync.errors import PhextsyncError, StoreError
from phextsync.index import Coordinate
from phextsync.testing import (
    PHEXT,
    Action,
    Clone,
    Crash,
    Editor,
    Fault,
    FillDisk,
    FreeDisk,
    Garbage,
    Hold,
    Oracle,
    Partition,
    Repair,
    Reset,
    Restart,
    Shape,
    Sleep,
)
from phextsync.testing.paths import group_of, is_open_between
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.lan import FOLDER_PREFIX, Counters, Lan
from sims.processes import PATIENCE_S, Process
from sims.real_node import RealNode
from sims.users import Hand, Session

NODES_MAX: Final = 6

_POLL_S: Final = 0.02
_COUNT_S: Final = 0.5
_RETRY_S: Final = 0.5
_LINE_MAX: Final = 200
_NOTHING_TAKEN: Final = 0  # by an import
_LAST_LINES: Final = Coordinate(9, 1, 1, 1, 1, 1, 1, 1, 1)
"""Where users write just before their nodes are killed; workloads write elsewhere."""


@dataclass(slots=True)
class RealMetrics:
    """What a run cost, as far as it can be seen from outside. Frames and bytes are those of
    Ethernet, with discovery and all headers; updates are those of links that lived long enough
    to be asked about. `up_s`: from the end of all faults until all nodes ran; `converged_s`: from
    then until all were equal."""

    frames: int = 0
    bytes: int = 0
    updates: int = 0
    redundant: int = 0
    writes: int = 0
    writes_refused: int = 0
    reads_unanswered: int = 0
    up_s: float | None = None
    converged_s: float | None = None


class RealMesh:
    """Nodes 0 to `count` - 1 on real hosts, for as long as the block lasts.

    Everything is removed at the end, however it ends; what a killed run left is removed by the
    next one.
    """

    def __init__(
        self, seed: int, count: int, *, trace: Callable[[str], None] | None = None
    ) -> None:
        if count > NODES_MAX:
            raise PhextsyncError(f"expected at most {NODES_MAX} real nodes, found {count}")
        self.seed = seed
        self.count = count
        self.oracle = Oracle()
        self.metrics = RealMetrics()
        self._trace = trace
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._began: float | None = None
        self._heard: SimpleQueue[Callable[[], None]] = SimpleQueue()  # to be called in this thread
        self._lan = Lan(count, random=self.random("links"))
        self._nodes: list[RealNode] = []

    def __enter__(self) -> "RealMesh":
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix=FOLDER_PREFIX)))
            stack.enter_context(self._lan)
            key = MeshKey.generate(os.urandom(32))
            for number, prefix in enumerate(self._lan.prefixes()):
                folder = self._folder / f"node-{number}"
                node = RealNode(number, Process(folder, prefix, ()))
                stack.callback(node.unmount)
                node.mount(self._lan.names[number])
                NodeIdentity.create(key, folder.name, os.urandom(32)).save(folder)
                self._nodes.append(node)
                stack.callback(self._end, node)
                self._start(node)
            self._wait_until(self._is_whole, PATIENCE_S)
            self._stack = stack.pop_all()
        self._began = time.monotonic()
        self._lan.counters = Counters()
        self._count_again()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self, node: RealNode) -> None:
        self._kill(node)
        if self._trace is not None and node.process.log.exists():
            for line in node.process.log.read_text().splitlines():
                self._trace(f"node-{node.number}: {line}")

    # -- what users of a run call ----------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since all nodes had met."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def random(self, name: str) -> Random:
        """Return the generator of that name."""
        return Random(f"{self.seed} {name}")

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a time."""
        self._sequence += 1
        heapq.heappush(self._events, (time, self._sequence, call))

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Let faults happen at their times."""
        for fault in faults:
            self.at(fault.at, lambda action=fault.action: self.apply(action))  # type: ignore[misc]

    def run_until(self, time: float) -> None:
        """Let time pass; what is late because the machine is busy happens in its order."""
        while self.now < time:
            if self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
                self._listen(0.0)
            else:
                due = self._events[0][0] if self._events else time
                self._listen(min(due, time) - self.now)

    def is_up(self, node: int) -> bool:
        """Whether a node answers and is awake."""
        return self._nodes[node].is_up

    def text(self, node: int, place: Coordinate) -> str:
        """Return what a node's user reads, "" for nothing."""
        return self._nodes[node].text(place)

    def edit(self, node: int, place: Coordinate, change: Callable[[Editor], object]) -> bool:
        """Let a node's user change one scroll, on the text that they read last; say whether the
        node was asked to."""
        if not self.is_up(node):
            self.metrics.reads_unanswered += 1
            return False
        found = self._nodes[node]
        hand = Hand(found.seen.get(place, ""))
        change(hand)
        self.metrics.writes += 1
        self._note("edit", node, str(place), len(hand.after))
        asked = self.oracle.asked(place, hand.before, hand.after)
        future = found.users.edit(*hand.request)
        found.asked[future] = asked
        future.add_done_callback(lambda _: self._heard.put(lambda: self._answered(found, future)))
        return True

    def settle(self, within_s: float) -> None:
        """End every fault, let all nodes run, and wait until they are equal; then check them.

        Violation when they are not within that time, or not what they must be.
        """
        self.apply(Repair())
        for (source, target), _ in self._lan.ways():
            self.apply(Shape(source, target, 0.0))
        for node in self._nodes:
            self.apply(FreeDisk(node.number))
            node.wake()
            if not node.is_wanted:
                self._start(node)
        began = self.now
        self._wait_until(self._are_up, within_s)
        self.metrics.up_s = self.now - began
        self._wait_until(self._is_settled, within_s)
        self.metrics.converged_s = self.now - began - self.metrics.up_s
        self._count()
        self.metrics.frames = self._lan.counters.frames
        self.metrics.bytes = self._lan.counters.bytes
        self.oracle.finish([node.texts() for node in self._nodes])

    # -- faults ----------------------------------------------------------------------------

    def apply(self, action: Action) -> None:
        """Let a fault happen now. One that concerns a node that is down changes nothing."""
        self._note(repr(action))
        match action:
            case Partition(groups, is_oneway):
                self._partition(groups, is_oneway=is_oneway)
            case Hold(source, target):
                self._lan.way(source, target).is_blocked = True
            case Repair():
                for _, way in self._lan.ways():
                    way.is_blocked = False
            case Shape(source, target, latency_s, jitter_s, bytes_per_s, loss):
                way = self._lan.way(source, target)
                way.latency_s, way.jitter_s = latency_s, jitter_s
                way.bytes_per_s, way.loss = bytes_per_s, loss
            case Reset(one, other):
                self._lan.reset(one, other)
            case Crash(number, is_silent):
                self._crash(self._nodes[number], is_silent=is_silent)
            case Restart(number):
                self._restart(self._nodes[number])
            case Clone(source, target):
                self._clone(self._nodes[source], self._nodes[target])
            case Sleep(number, seconds):
                self._sleep(self._nodes[number], seconds)
            case FillDisk(number):
                self._nodes[number].fill_disk()
            case FreeDisk(number):
                self._nodes[number].free_disk()
            case Garbage(source, target):
                self._lan.garble(source, target)
            case _:
                raise PhextsyncError(f"expected a fault of real machines, found {action!r}")

    def _partition(self, groups: tuple[tuple[int, ...], ...], *, is_oneway: bool) -> None:
        groups_of = group_of(groups)
        for (source, target), way in self._lan.ways():
            is_open = is_open_between(groups_of, source, target, is_oneway=is_oneway)
            way.is_blocked = not is_open

    def _crash(self, node: RealNode, *, is_silent: bool) -> None:
        if node.is_up:
            self._write_last(node)
        if node.is_wanted and is_silent:
            node.is_unplugged = True
            self._lan.unplug(node.number)
        self._kill(node)

    def _write_last(self, node: RealNode) -> None:
        """Let a user write a line and wait for the answer: the worst moment for a crash, when the
        node has just said that the line is on its disk."""
        line = f"{self.oracle.token()}\n"
        self.edit(node.number, _LAST_LINES, lambda editor: editor.append(_LAST_LINES, line))
        wait(node.asked, PATIENCE_S)

    def _restart(self, node: RealNode) -> None:
        if node.process.has_ended():
            self._start(node)
        else:
            node.wake()
            node.is_stopping = True
            node.process.send_signal(signal.SIGTERM)

    def _clone(self, source: RealNode, target: RealNode) -> None:
        self._kill(target)
        target.take_disk_of(source)
        self.oracle.destroyed(target.number, [each.on_disk(self._folder) for each in self._nodes])
        self._start(target)

    def _sleep(self, node: RealNode, seconds: float) -> None:
        if node.process.has_ended() or node.is_stopping:
            return
        node.process.send_signal(signal.SIGSTOP)
        node.asleep_until = max(node.asleep_until, self.now + seconds)
        self.at(node.asleep_until, lambda: self._wake_if_due(node))

    def _wake_if_due(self, node: RealNode) -> None:
        if node.asleep_until <= self.now:
            node.wake()

    # -- nodes -----------------------------------------------------------------------------

    def _start(self, node: RealNode) -> None:
        if node.is_unplugged:
            node.is_unplugged = False
            self._lan.plug_in(node.number)
        node.is_wanted, node.is_stopping, node.asleep_until = True, False, 0.0
        node.started_at = self.now
        node.unread.clear()
        node.counted.clear()
        self.oracle.started(node.number)
        if (node.process.folder / "store").exists():
            self.oracle.check_disk(node.number, node.on_disk(self._folder))
        node.process.launch()
        self._note("start", node.number)

    def _kill(self, node: RealNode) -> None:
        """Kill a node; an answer that was under way to a user still arrives."""
        node.is_wanted = node.is_stopping = False
        node.asleep_until = 0.0
        node.process.stop(signal.SIGKILL)
        self._read_last_answers(node)

    def _read_last_answers(self, node: RealNode) -> None:
        if node.session is not None:
            node.session.close()
            node.session = None
        for future in list(node.asked):
            self._answered(node, future)

    def _tend(self, node: RealNode) -> None:
        """Connect to a node that has come up, start one that has stopped."""
        if not node.is_wanted or node.asleep_until:
            return
        if node.process.has_ended():
            self._read_last_answers(node)
            if node.is_stopping:
                self._start(node)
            elif not node.is_disk_full:
                raise AssertionError(f"node {node.number} ended by itself: {node.last_lines()}")
            elif self.now - node.started_at > _RETRY_S:
                self._start(node)  # as whatever looks after services on that machine does
        elif node.session is None and not node.is_stopping:
            with suppress(FileNotFoundError, ConnectionError, StoreError):
                self._connect(node)

    def _connect(self, node: RealNode) -> None:
        def changed(place: Coordinate) -> None:
            self._heard.put(lambda: node.unread.update({place: None}))

        node.session = Session(node.process.folder, changed)
        for place, text in node.texts().items():
            self.oracle.changed(node.number, place, text)
        self._note("up", node.number)

    # -- what is heard of nodes ------------------------------------------------------------

    def _listen(self, seconds: float) -> None:
        """Take answers and changes for some time, at most until the first has come."""
        for node in self._nodes:
            self._tend(node)
        if any(node.is_wanted and node.session is None for node in self._nodes):
            seconds = min(seconds, _POLL_S)
        with suppress(Empty):
            self._heard.get(timeout=max(0.0, seconds))()
            while True:
                self._heard.get_nowait()()
        for node in self._nodes:
            self._read_changes(node)
        self.oracle.check()

    def _answered(self, node: RealNode, future: "Future[Value]") -> None:
        """Take an answer, once. What was not answered, or with an error, is not owed."""
        edit = node.asked.pop(future, None)
        if edit is None or future.cancelled():
            return
        error = future.exception()
        if error is None and future.result() != _NOTHING_TAKEN:
            self.oracle.answered(node.number, edit)
        else:
            self._note("refused", node.number, str(error))
            self.metrics.writes_refused += 1

    def _read_changes(self, node: RealNode) -> None:
        if not node.is_up:
            return
        unread, node.unread = node.unread, {}
        for place in unread:
            self.oracle.changed(node.number, place, self.text(node.number, place))

    def _wait_until(self, holds: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                found = [
                    node.status()["peers"] if node.is_up else node.last_lines()
                    for node in self._nodes
                ]
                raise AssertionError(f"not in sync after {within_s:g} s: {found}")
            self._listen(_POLL_S)

    def _are_up(self) -> bool:
        return all(node.is_up for node in self._nodes)

    def _is_whole(self) -> bool:
        """Whether all nodes are up and see each other."""
        return self._are_up() and all(
            len(node.status()["peers"]) == self.count - 1 for node in self._nodes
        )

    def _is_settled(self) -> bool:
        """Whether all nodes are up, have answered, are equal, and know it of their peers."""
        fingerprints: set[str] = set()
        for node in self._nodes:
            if not node.is_up or node.asked:
                return False
            status = node.status()
            if any(peer["lacks"] for peer in status["peers"]):
                return False
            rows = [row for row in status["phexts"] if row["name"] == PHEXT]
            fingerprints.update(row["fingerprint"] for row in rows)
        return len(fingerprints) <= 1 and self._is_whole()

    def _count_again(self) -> None:
        self._count()
        self.at(self.now + _COUNT_S, self._count_again)

    def _count(self) -> None:
        """Add up what is counted for each link, which ends with the link."""
        for node in self._nodes:
            if not node.is_up:
                continue
            for peer in node.status()["peers"]:
                now = (peer["updates_in"], peer["redundant"])
                before = node.counted.get(peer["node_id"], (0, 0))
                if now < before:  # another link
                    before = (0, 0)
                self.metrics.updates += now[0] - before[0]
                self.metrics.redundant += now[1] - before[1]
                node.counted[peer["node_id"]] = now

    def _note(self, *what: object) -> None:
        if self._trace is not None:
            self._trace(f"{self.now:.6f} {what}"[:_LINE_MAX])
