"""Pace: which of the ranges that come to this node it takes now, so that it takes no more bytes a
second than it is to. No IO, no clock of its own.

How large a range is, is known when it is here: it is taken whole, two at a time, and for what has
come the node rests. So for a moment it takes what the link carries, and over minutes its rate.
"""

from collections.abc import Callable, Sequence
from typing import Final

from phextsync.index import CoordinateRange
from phextsync.ranges import Ranges

_AT_ONCE: Final = 2
_PATIENCE_S: Final = 30.0  # with a range that does not come to an end, since others write in it


class Pace:
    """What is to come, by phext. `is_taken` says whether all is here of a range that is held,
    `bytes_of` how many bytes its texts have here, `clock` the time in seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        is_taken: Callable[[str, CoordinateRange], bool],
        bytes_of: Callable[[str, CoordinateRange], int],
    ) -> None:
        self._clock = clock
        self._is_taken = is_taken
        self._bytes_of = bytes_of
        self._coming: dict[str, list[CoordinateRange]] = {}
        self._rates: dict[str, int] = {}
        self._begun: dict[tuple[str, CoordinateRange], float] = {}
        self._rests_until = -float("inf")

    def plan(self, phext: str, coming: Sequence[CoordinateRange], rate: int) -> None:
        """Let these ranges come, in this order, at so many bytes a second."""
        self._coming[phext] = [each for each in coming if (phext, each) not in self._begun]
        self._rates[phext] = rate

    def awaited(self, phext: str) -> Ranges:
        """Return what is to come and not to be held yet."""
        return tuple(self._coming.get(phext, ()))

    def taking(self, phext: str) -> Ranges:
        """Return what is held and has not come to an end."""
        return tuple(range_ for name, range_ in self._begun if name == phext)

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to `move_on` with."""
        return bool(self._begun) or any(self._coming.values())

    def move_on(self) -> list[str]:
        """Take what may be taken now; return the phexts of which there is less awaited."""
        now = self._clock()
        for (phext, range_), began in list(self._begun.items()):
            if self._is_taken(phext, range_) or now >= began + _PATIENCE_S:
                del self._begun[phext, range_]
                rest_s = self._bytes_of(phext, range_) / self._rates[phext]
                self._rests_until = max(now, self._rests_until) + rest_s
        moved: list[str] = []
        for phext in sorted(self._coming):
            coming = self._coming[phext]
            while coming and len(self._begun) < _AT_ONCE and now >= self._rests_until:
                self._begun[phext, coming.pop(0)] = now
                moved.append(phext)
        return moved
