"""Stage: virtual time, everything that happened in it, and what that cost. One seed, one run.

Events lie in a heap by time and by the order in which they were scheduled. Every random choice is
drawn from a generator of its own name, so that a change in one part leaves the others as they were.
"""

import heapq
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from struct import Struct
from typing import Final

from phextsync.testing.metrics import Journeys, Metrics
from phextsync.testing.oracle import Oracle

_ARRIVAL: Final = Struct("<dQQQ")  # of a frame: time, connection, node, bytes
_LINE_CHARACTERS_MAX: Final = 200


class Stage:
    """What all parts of one run share."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None) -> None:
        self.now = 0.0
        self.oracle = Oracle()
        self.metrics = Metrics()
        self.journeys = Journeys()
        self._seed = seed
        self._trace = trace
        self._digest = blake2b(digest_size=16)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def random(self, name: str) -> Random:
        """Return the generator of that name."""
        return generator(self._seed, name)

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a virtual time."""
        self._sequence += 1
        due = time if time > self.now else self.now
        heapq.heappush(self._events, (due, self._sequence, call))

    def run_until(self, time: float) -> None:
        """Let time pass. Violation when something is not what it must be."""
        events, oracle, metrics = self._events, self.oracle, self.metrics
        while events and events[0][0] <= time:
            self.now, _, call = heapq.heappop(events)
            metrics.events += 1
            call()
            if oracle.violation is not None:
                raise oracle.violation
        self.now = time

    # -- trace -----------------------------------------------------------------------------

    def digest(self) -> str:
        """Return the digest of everything that happened, in hexadecimal."""
        return self._digest.hexdigest()

    def note(self, *what: object) -> None:
        """Something happened."""
        line = f"{self.now:.6f} {what}"
        self._digest.update(line.encode())
        self._tell(line)

    def note_frame(self, connection: int, node: int, frame: bytes) -> None:
        """A frame arrives: most of a run, so it becomes text only when there is a reader."""
        self._digest.update(_ARRIVAL.pack(self.now, connection, node, len(frame)))
        self._digest.update(frame)
        if self._trace is not None:
            self._tell(f"{self.now:.6f} {('frame', connection, node, frame)}")

    def _tell(self, line: str) -> None:
        if self._trace is not None:
            is_short = len(line) < _LINE_CHARACTERS_MAX
            self._trace(line if is_short else line[:_LINE_CHARACTERS_MAX] + "...")


def generator(seed: int, name: str) -> Random:
    """Return the generator of that name in a run from `seed`."""
    name_digest = blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return Random(int.from_bytes(name_digest, "big"))
