"""Node states of a model: each is met once, and what follows on each input is worked out once.

A core cannot be copied, since documents cannot; but it is made and given its inputs again in about
a millisecond. So a state is kept as the input that led to it and the state before, and is made
again when an input comes that it was not given yet.
"""

from collections.abc import Sequence

from phextsync.store.memory import MemoryStore
from sims.model_node import Input, ModelNode, Seen


class NodeStates:
    """The states of all nodes, by number. The first is that of node 0 at its start, and so on; node
    `i` starts on the i-th of `disks`."""

    def __init__(self, disks: Sequence[MemoryStore]) -> None:
        self.seen: list[Seen] = []
        self.frames: list[bytes] = []  # each is known by its number from 1 on, 0 is none
        self._disks = disks
        self._came_from: list[tuple[int, Input]] = []
        self._after: dict[tuple[int, Input], tuple[int, int]] = {}
        self._known: dict[bytes, int] = {}
        self._frame_numbers: dict[bytes, int] = {}
        for number in range(len(disks)):
            self._meet(self.made(number), (-1 - number, ("start",)))

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def inputs(self) -> int:
        """How many inputs were worked out."""
        return len(self._after)

    def after(self, state: int, given: Input) -> tuple[int, int]:
        """Return the state that follows, and the number of the frame that was given."""
        key = (state, given)
        found = self._after.get(key)
        if found is None:
            node = self.made(state)
            frame = self.do(node, given)
            number = 0 if frame is None else self._number_of(frame)
            found = self._after[key] = (self._meet(node, key), number)
        return found

    def left_disk(self, state: int) -> MemoryStore:
        """Return the disk of a node that stops cleanly in a state."""
        return self.made(state).left_disk()

    def _number_of(self, frame: bytes) -> int:
        number = self._frame_numbers.get(frame)
        if number is None:
            self.frames.append(frame)
            number = self._frame_numbers[frame] = len(self.frames)
        return number

    def _meet(self, node: ModelNode, came_from: tuple[int, Input]) -> int:
        known = node.digest()
        state = self._known.get(known)
        if state is None:
            state = self._known[known] = len(self.seen)
            self._came_from.append(came_from)
            self.seen.append(node.seen())
        else:
            assert self.seen[state] == node.seen()  # of one digest, and one to look at
        return state

    def known(self, state: int) -> list[tuple[Input, int, int]]:
        """Return what was worked out of a state: inputs, what follows and the frame."""
        return [(given, *after) for (of, given), after in self._after.items() if of == state]

    def made(self, state: int) -> ModelNode:
        """Return a node in a state."""
        inputs: list[Input] = []
        while state >= len(self._disks):
            state, given = self._came_from[state]
            inputs.append(given)
        node = ModelNode(state, self._disks[state])
        while inputs:
            self.do(node, inputs.pop())
        return node

    def do(self, node: ModelNode, given: Input) -> bytes | None:
        """Give a node an input, in which a frame is its number; return the frame that it gave."""
        if len(given) == 3 and given[0] == "receive":
            word, link, frame = given
            return node.do((word, link), self.frames[frame - 1])
        return node.do(given)
