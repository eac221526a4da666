"""Todo: what of a binding has to be looked at again, soon."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol, TypeVar, TypeVarTuple

from phextsync.index import Coordinate

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Runner(Protocol):
    """Calls a function that may wait for a disk."""

    def __call__(self, function: Callable[[*Ts], T], /, *args: *Ts) -> Awaitable[T]: ...


class Todo:
    """Paths and scrolls that the next round has to look at, whatever else it is told of."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}
        self._coordinates: dict[Coordinate, None] = {}

    def __len__(self) -> int:
        return len(self._paths) + len(self._coordinates)

    def look_at(self, path: str) -> None:
        """Look at a path again."""
        self._paths[path] = None

    def finish(self, coordinate: Coordinate) -> None:
        """Look at a scroll and its file again."""
        self._coordinates[coordinate] = None

    def take(self) -> tuple[tuple[str, ...], tuple[Coordinate, ...]]:
        """Return all, and forget it."""
        taken = tuple(self._paths), tuple(self._coordinates)
        self._paths, self._coordinates = {}, {}
        return taken


class Rescans:
    """When a directory is to be looked through again: `due`, in monotonic seconds. What asks for it
    while that is done is not forgotten."""

    def __init__(self) -> None:
        self.due = 0.0

    def ask(self, at: float = 0.0) -> None:
        """Let it be looked through at a time, or at once."""
        self.due = min(self.due, at)

    def begin(self) -> None:
        """Note that it is looked through from now on."""
        self.due = inf
