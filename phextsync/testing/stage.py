"""Stage: virtual time, everything that happened in it, and what that cost. One seed, one run.

Events lie in a heap by time and by the order in which they were scheduled.
"""

import heapq
from collections.abc import Callable
from random import Random

from phextsync.testing.metrics import Journeys, Metrics
from phextsync.testing.oracle import Oracle
from phextsync.testing.trace import Trace, generator


class Stage:
    """What all parts of one run share."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None) -> None:
        self.now = 0.0
        self.oracle = Oracle()
        self.metrics = Metrics()
        self.journeys = Journeys()
        self.trace = Trace(trace)
        self._seed = seed
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

    def note(self, *what: object) -> None:
        """Something happened now."""
        self.trace.note(self.now, *what)
