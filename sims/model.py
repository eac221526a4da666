"""Model: every order of what two or three nodes do, through the real core, with states merged.

A world is the nodes, the links between them and what is on its way there. Steps are of two kinds:

* What users and faults do, of which there are a few: a line is added, the first line is deleted, a
  node crashes, when what it writes is on its disk or when it is not, a node stops and starts again,
  a link breaks with all that is on its way, a frame comes twice, somebody asks who has everything,
  a quarter of a second passes.
* What follows, in any order and as often as it can: a link is made, a node makes a frame, a frame
  arrives, a batch is taken, a batch is on the disk.

Breadth first: what is found is found with the fewest steps. A world is known by the states of its
nodes (`model_states`) and by what is on the way, so that orders that end alike are one.

On each way of a link is at most one frame. Between two nodes that leaves out nothing: whatever a
sender does after a frame, it could do as well once that frame has arrived, unless the receiver does
something before that which the sender must hear of, and it cannot hear of what was not sent. Among
three a frame may be overtaken by way of the third; of that only the part with one frame is seen.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, NamedTuple, TypeAlias, TypeVar

from phextsync.store.memory import MemoryStore
from sims.model_checks import check
from sims.model_node import Input, Seen
from sims.model_states import NodeStates

Step: TypeAlias = tuple[str, *tuple[int, ...]]
"""A word, and the nodes, or the link and its end, that it is about."""

WorldT = TypeVar("WorldT")

OPERATIONS: Final = (
    *("append", "delete", "crash", "late_crash", "restart", "cut", "double", "ask", "wait"),
)
_ROUNDS_MAX: Final = 60  # quarters of a second until all is quiet
_TURNS_MAX: Final = 1000  # of carrying, within one


class Way(NamedTuple):
    """A link between two nodes: how often it was made, whether it is there, and the frames on their
    way from the first and from the second."""

    made: int = 0
    is_up: bool = False
    frames: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


class World(NamedTuple):
    """All there is at a moment. `left`: how many operations may follow; `deleted`: lines that some
    user has deleted; `is_doubled`: whether a frame came twice."""

    nodes: tuple[int, ...]
    ways: tuple[Way, ...]
    left: int
    deleted: frozenset[str] = frozenset()
    is_doubled: bool = False


@dataclass
class Found:
    """What a search found: how many worlds, states of single nodes, inputs that were worked out and
    worlds that were looked at until all was quiet; the most steps; how many worlds lay deeper than
    the search went, or were left when its time was over; the seconds of the processor; and what is
    wrong, with the steps that show it."""

    worlds: int = 0
    node_states: int = 0
    inputs: int = 0
    quiet: int = 0
    depth: int = 0
    cut_off: int = 0
    seconds: float = 0.0
    failure: str | None = None
    steps: list[Step] = field(default_factory=list)


class Model:
    """A search among worlds of so many nodes."""

    def __init__(
        self, nodes: int, *, operations: Sequence[str] = OPERATIONS, is_linked: bool = True
    ) -> None:
        self.pairs = tuple(combinations(range(nodes), 2))
        self._operations = operations
        self._start = World(tuple(range(nodes)), (Way(),) * len(self.pairs), 0)
        self.states = NodeStates([MemoryStore()] * nodes)
        self.states = NodeStates(self._written_disks())
        if is_linked:
            self._start = self._rested(self._start)

    def _written_disks(self) -> list[MemoryStore]:
        """Return the disks of nodes that have each written a line, and have stopped."""
        world = self._start
        for node in range(len(world.nodes)):
            world = self._give(world, node, ("append",))
        return [self.states.left_disk(state) for state in self._rested(world).nodes]

    def _rested(self, world: World) -> World:
        """Return the world when all are linked and equal."""
        world, failure = self._settled(world)
        assert failure is None, failure
        return world

    def search(self, count: int, *, depth_max: int = 1000, seconds_max: float = 1e9) -> Found:
        """Look at every world that `count` operations may lead to; stop at the first that is
        wrong."""
        began, worked = time.perf_counter(), time.process_time()
        found = Found()
        start = self._start._replace(left=count)
        came_from: dict[World, tuple[World, Step] | None] = {start: None}
        queue = deque([(start, 0)])
        while queue and found.failure is None and time.perf_counter() - began < seconds_max:
            world, depth = queue.popleft()
            found.depth = depth
            is_last = True
            for step, follower in self.followers(world):
                if follower == world:
                    continue
                is_last &= step[0] in OPERATIONS
                if follower in came_from:
                    continue
                if depth == depth_max:
                    found.cut_off += 1
                    break
                came_from[follower] = (world, step)
                queue.append((follower, depth + 1))
                found.failure = self.check(world, follower)
                if found.failure is not None:
                    world = follower
                    break
            if is_last and found.failure is None:
                found.quiet += 1
                found.failure = self.quiet(world)
            if found.failure is not None:
                found.steps = steps_to(world, came_from)
        found.cut_off += len(queue)
        found.worlds, found.node_states = len(came_from), len(self.states)
        found.inputs, found.seconds = self.states.inputs, time.process_time() - worked
        return found

    # -- steps -----------------------------------------------------------------------------

    def followers(self, world: World) -> Iterator[tuple[Step, World]]:
        """Iterate over what may happen next, and where it leads."""
        for node in range(len(world.nodes)):
            yield from self._of_node(world, node)
        for pair in range(len(self.pairs)):
            yield from self._of_pair(world, pair)
        if world.left:
            yield from self._operate(world)

    def _of_node(self, world: World, node: int) -> Iterator[tuple[Step, World]]:
        seen = self.states.seen[world.nodes[node]]
        if seen.may_take:
            yield ("take", node), self._give(world, node, ("take",))
        if seen.is_writing:
            yield ("written", node), self._give(world, node, ("written",))

    def _of_pair(self, world: World, pair: int) -> Iterator[tuple[Step, World]]:
        way = world.ways[pair]
        if not way.is_up:
            yield ("link", pair), self.link(world, pair)
            return
        for end in (0, 1):
            if way.frames[end]:
                yield ("receive", pair, end), self.receive(world, pair, end)
            elif self._link_number(world, pair) in self._seen(world, pair, end).ready:
                yield ("pull", pair, end), self.pull(world, pair, end)

    def _operate(self, world: World) -> Iterator[tuple[Step, World]]:
        fewer = world._replace(left=world.left - 1)
        for word in self._operations:
            match word:
                case "cut":
                    for pair, way in enumerate(world.ways):
                        if way.is_up:
                            yield (word, pair), self._cut(fewer, pair)
                case "double":
                    yield from self._double(fewer)
                case "wait":
                    yield (word,), self._wait(fewer)
                case _:
                    for node in range(len(world.nodes)):
                        follower = self._at_node(fewer, node, word)
                        if follower is not None:
                            yield (word, node), follower

    def _at_node(self, world: World, node: int, word: str) -> World | None:
        seen = self.states.seen[world.nodes[node]]
        match word:
            case "delete":
                if not seen.shown.lines:
                    return None
                world = world._replace(deleted=world.deleted | {seen.shown.lines[0]})
            case "late_crash" if not seen.is_writing:
                return None
            case "restart" if seen.is_writing:
                return None  # it ends when that is written
        if word in ("crash", "late_crash", "restart"):
            for pair, ends in enumerate(self.pairs):
                if node in ends and world.ways[pair].is_up:
                    world = self._cut(world, pair)
        return self._give(world, node, (word,))

    def _double(self, world: World) -> Iterator[tuple[Step, World]]:
        for pair, way in enumerate(world.ways):
            for end in (0, 1):
                if len(way.frames[end]) == 1:
                    twice = _with(world, pair, _on_the_way(way, end, way.frames[end] * 2))
                    yield ("double", pair, end), twice._replace(is_doubled=True)

    def _wait(self, world: World) -> World:
        for node in range(len(world.nodes)):
            world = self._give(world, node, ("tick",))
        return world

    def _cut(self, world: World, pair: int) -> World:
        """The link is gone at both ends, with all that was on its way."""
        number = self._link_number(world, pair)
        for node in self.pairs[pair]:
            world = self._give(world, node, ("close", number))
        return _with(world, pair, Way(world.ways[pair].made))

    def link(self, world: World, pair: int) -> World:
        """Make a link."""
        world = _with(world, pair, Way(world.ways[pair].made + 1, is_up=True))
        number = self._link_number(world, pair)
        one, other = self.pairs[pair]
        world = self._give(world, one, ("open", number, other))
        return self._give(world, other, ("open", number, one))

    def pull(self, world: World, pair: int, end: int) -> World:
        """Let a node make a frame for a link."""
        node = self.pairs[pair][end]
        given = ("pull", self._link_number(world, pair))
        state, frame = self.states.after(world.nodes[node], given)
        world = _in_state(world, node, state)
        return _with(world, pair, _on_the_way(world.ways[pair], end, (frame,))) if frame else world

    def receive(self, world: World, pair: int, end: int) -> World:
        """Let the first frame from one end arrive at the other."""
        way = world.ways[pair]
        frame, *later = way.frames[end]
        world = _with(world, pair, _on_the_way(way, end, tuple(later)))
        number = self._link_number(world, pair)
        world = self._give(world, self.pairs[pair][1 - end], ("receive", number, frame))
        is_ended = any(number == ended for ended, _ in self._seen(world, pair, 1 - end).ended)
        return self._cut(world, pair) if is_ended and world.is_doubled else world

    def _give(self, world: World, node: int, given: Input) -> World:
        return _in_state(world, node, self.states.after(world.nodes[node], given)[0])

    def _seen(self, world: World, pair: int, end: int) -> Seen:
        return self.states.seen[world.nodes[self.pairs[pair][end]]]

    def _link_number(self, world: World, pair: int) -> int:
        return 1 + pair + len(self.pairs) * world.ways[pair].made

    # -- what must be so -------------------------------------------------------------------

    def check(self, before: World, world: World) -> str | None:
        """Return what is wrong with a world that follows another."""
        seen, deleted = self.states.seen, world.deleted
        now = [seen[state] for state in world.nodes]
        return check([seen[s] for s in before.nodes], now, deleted, is_doubled=world.is_doubled)

    def quiet(self, world: World) -> str | None:
        """Link all, let everything arrive and be written, and time pass: return what is wrong on
        the way, or in the end."""
        owed = {line for state in world.nodes for line in self.states.seen[state].disk.lines}
        world, failure = self._settled(world)
        lost = owed - world.deleted - {*self.states.seen[world.nodes[0]].disk.lines}
        return failure or (f"lost: {sorted(lost)} was on a disk" if lost else None)

    def _settled(self, world: World) -> tuple[World, str | None]:
        """Let everything arrive and be written, and time pass, until all are equal and know it."""
        for _ in range(_ROUNDS_MAX):
            world, failure = self._carried(world)
            if failure is not None:
                return world, failure
            seen = [self.states.seen[state] for state in world.nodes]
            texts = {one.disk for one in seen} | {one.shown for one in seen}
            if len(texts) == 1 and all(len(one.complete) == len(seen) - 1 for one in seen):
                return world, None
            world = self._wait(world)
        texts_told = [(one.shown.lines, one.disk.lines, one.complete) for one in seen]
        return world, f"not equal: {texts_told}"

    def _carried(self, world: World) -> tuple[World, str | None]:
        """Let everything arrive and be written."""
        for _ in range(_TURNS_MAX):
            step = next((f for s, f in self.followers(world._replace(left=0)) if f != world), None)
            if step is None:
                return world, None
            follower = step._replace(left=world.left)
            failure = self.check(world, follower)
            if failure is not None:
                return follower, failure
            world = follower
        return world, f"no rest: after {_TURNS_MAX} steps there are more"


def _with(world: World, pair: int, way: Way) -> World:
    return world._replace(ways=(*world.ways[:pair], way, *world.ways[pair + 1 :]))


def _in_state(world: World, node: int, state: int) -> World:
    return world._replace(nodes=(*world.nodes[:node], state, *world.nodes[node + 1 :]))


def _on_the_way(way: Way, end: int, frames: tuple[int, ...]) -> Way:
    first, second = way.frames
    return way._replace(frames=(first, frames) if end else (frames, second))


def steps_to(world: WorldT, came_from: Mapping[WorldT, tuple[WorldT, Step] | None]) -> list[Step]:
    """Return the steps that led to a world."""
    steps: list[Step] = []
    while (came := came_from[world]) is not None:
        world, step = came
        steps.append(step)
    return steps[::-1]
