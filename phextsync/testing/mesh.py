"""Mesh: what workloads and schedules of faults need of the nodes they meet, simulated or real."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Protocol

from phextsync.index import Coordinate
from phextsync.testing.faults import Action, Fault
from phextsync.testing.oracle import Oracle

PHEXT: Final = "memory"
"""The phext that workloads edit."""


class Editor(Protocol):
    """The edits of one node's phext, as `phextsync.Replica` has them."""

    def append(self, key: Coordinate, text: str) -> None: ...

    def insert(self, key: Coordinate, offset: int, text: str) -> None: ...

    def delete(self, key: Coordinate, start: int, stop: int) -> None: ...

    def edit(self, key: Coordinate, text: str) -> None: ...

    def clear_scroll(self, key: Coordinate) -> bool: ...

    def import_text(self, key: Coordinate, text: str) -> None: ...


class Mesh(Protocol):
    """Nodes 0 to `count` - 1 and their users. Times are seconds since the run began."""

    oracle: Oracle

    @property
    def count(self) -> int: ...

    @property
    def now(self) -> float: ...

    def random(self, name: str) -> Random:
        """Return the generator of that name."""

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a time."""

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Let faults happen at their times."""

    def apply(self, action: Action) -> None:
        """Let a fault happen now."""

    def is_up(self, node: int) -> bool:
        """Whether a node runs and is awake."""

    def text(self, node: int, place: Coordinate) -> str:
        """Return what a node's user reads, "" for nothing."""

    def edit(self, node: int, place: Coordinate, change: Callable[[Editor], object]) -> bool:
        """Let a node's user change one scroll; say whether the node took it, or was asked to."""
