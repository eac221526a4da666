"""Pending: the latest of each scroll of a phext, and where it is on its way to the store.

A change waits for the next batch, then it is in the batch that is being committed, then the store
has it and the index knows it. A batch that is refused goes back before what has come since.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from phextsync.index import Coordinate, CoordinateIndex
from phextsync.store.contract import LogEntry


class Where(Enum):
    """Where the latest of a scroll is."""

    WAITING = auto()  # for the next batch
    COMMITTING = auto()
    STORED = auto()
    NOWHERE = auto()


@dataclass(slots=True)
class Unsettled:
    """What is not yet durable of a scroll: a state that replaces the stored one, log entries.

    A state that no document was made of brings its fingerprint, the size of its text, and its
    entry, which a log has in its place where history is kept. `is_other`: it does not build on the
    state that is stored. `leaves`: nothing of the scroll is to be here any more.
    """

    log: list[LogEntry] = field(default_factory=list)
    rewrite: bool = False
    is_other: bool = False
    leaves: bool = False
    state: bytes | None = None
    entry: LogEntry | None = None
    fingerprint: bytes = b""
    size: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it is a state and nothing else, of which all is known without a document."""
        return self.state is not None and not self.log

    def follow(self, other: "Unsettled") -> None:
        """Add what has come since."""
        self.log.extend(other.log)
        self.rewrite |= other.rewrite
        self.is_other |= other.is_other


class Pending:
    """What is not yet durable of one phext, before an index of what is.

    `moves` counts the moves between the places, so that a look that takes several steps in another
    thread can tell whether it saw one moment.
    """

    def __init__(self, index: CoordinateIndex) -> None:
        self.moves = 0
        self._index = index
        self._waiting: dict[Coordinate, Unsettled] = {}
        self._committing: dict[Coordinate, Unsettled] = {}

    def __contains__(self, coordinate: object) -> bool:
        """Whether something of the scroll is not yet durable."""
        return coordinate in self._waiting or coordinate in self._committing

    @property
    def places(self) -> tuple[dict[Coordinate, Unsettled], ...]:
        """The dictionaries of what is not yet durable, the same for ever, for compiled look-ups:
        it is in one of them at every moment."""
        return (self._waiting, self._committing)

    def where(self, coordinate: Coordinate) -> Where:
        """Say where the latest of the scroll is."""
        if coordinate in self._waiting:
            return Where.WAITING
        if coordinate in self._committing:
            return Where.COMMITTING
        return Where.STORED if coordinate in self._index else Where.NOWHERE

    def latest(self, coordinate: Coordinate) -> Unsettled | None:
        """Return the latest of the scroll that is not yet durable, None when all of it is."""
        return self._waiting.get(coordinate) or self._committing.get(coordinate)

    def layers(self, coordinate: Coordinate) -> list[Unsettled]:
        """Return all that is not yet durable of the scroll, oldest first."""
        layers = (self._committing.get(coordinate), self._waiting.get(coordinate))
        return [layer for layer in layers if layer is not None]

    def coordinates(self) -> dict[Coordinate, None]:
        """Return the coordinates of which something is not yet durable, in no special order."""
        return dict.fromkeys((*self._committing, *self._waiting))

    def waiting(self, coordinate: Coordinate) -> Unsettled | None:
        """Return what the next batch takes of the scroll."""
        return self._waiting.get(coordinate)

    def put(self, coordinate: Coordinate, unsettled: Unsettled) -> Unsettled:
        """Let the next batch take this of the scroll, and nothing else."""
        self._waiting[coordinate] = unsettled
        return unsettled

    def drop(self, coordinate: Coordinate) -> None:
        """Let the next batch take nothing of the scroll."""
        del self._waiting[coordinate]

    # -- batches ---------------------------------------------------------------------------

    def take(self) -> Mapping[Coordinate, Unsettled]:
        """Begin to commit all that waits, and return it; `settle` or `unsettle` must follow."""
        assert not self._committing
        self.moves += 1  # before and after: who looks meanwhile sees that something moved
        self._waiting, self._committing = self._committing, self._waiting
        self.moves += 1
        return self._committing

    def settle(self, put: Callable[[Coordinate, Unsettled], None]) -> None:
        """What was taken last is durable: `put` each into the index."""
        self.moves += 1
        try:
            for coordinate, settled in self._committing.items():
                put(coordinate, settled)
            self._committing.clear()
        finally:
            self.moves += 1

    def unsettle(self) -> Mapping[Coordinate, Unsettled]:
        """What was taken last was refused: it waits again, before what has come since. Return all
        that waits."""
        self.moves += 1
        for coordinate, unsettled in self._waiting.items():
            before = self._committing.setdefault(coordinate, unsettled)
            if before is not unsettled:
                before.follow(unsettled)
        self._waiting.clear()
        self._waiting, self._committing = self._committing, self._waiting
        self.moves += 1
        return self._waiting
