"""Trio in virtual time: a timeline of its clock, and tasks in an order that can be repeated."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import NoReturn

import trio
import trio._core._run as scheduler


class TrioTimeline:
    """A timeline of trio's clock, kept by `run`."""

    def __init__(self) -> None:
        self.made = 0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._alarm = trio.CancelScope()
        self._is_running = False

    @property
    def now(self) -> float:
        """Seconds by trio's clock; 0 before it runs."""
        return trio.current_time() if self._is_running else 0.0

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a time; what is due at once comes in the order of these calls."""
        heapq.heappush(self._calls, (max(time, self.now), next(self._numbers), call))
        if time < self._alarm.deadline:
            self._alarm.deadline = time

    async def run(self) -> NoReturn:
        """Make the calls that are due, one after the other, until cancelled; count them."""
        self._is_running = True
        while True:
            while self._calls and self._calls[0][0] <= self.now:
                self.made += 1
                heapq.heappop(self._calls)[2]()
            deadline = self._calls[0][0] if self._calls else math.inf
            with trio.CancelScope(deadline=deadline) as self._alarm:
                await trio.sleep_forever()


@contextmanager
def repeatable_scheduler(source: Random) -> Iterator[None]:
    """Let trio take the order of tasks that are ready from a generator. The one such place."""
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r
    # As trio does it for Hypothesis; there is no public way.
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r = source
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = before  # type: ignore[misc]
