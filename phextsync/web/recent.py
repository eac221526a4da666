"""Recent: which scrolls changed last since the server runs, when, and by whom. Sans-IO."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from phextsync.index import Coordinate
from phextsync.phext_names import is_reserved
from phextsync.replica.changes import current_writer
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.replicas import ReplicaSet

KEPT: Final = 500
"""Scrolls of which the last change is kept."""


@dataclass(frozen=True, slots=True)
class RecentChange:
    """The last change of a scroll: when it came, the node that wrote it (empty: unknown), and how
    a writer at this node calls itself."""

    phext: str
    coordinate: Coordinate
    time_ms: int
    node_id: bytes
    label: str


class Recent:
    """The last changes of a node's scrolls, one for each."""

    def __init__(self, replicas: ReplicaSet, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._holding = replicas.holding
        self._changes: dict[tuple[str, Coordinate], RecentChange] = {}
        replicas.listen(ReplicaListener(on_update=self._note))

    def newest(self, count: int, phext: str | None = None) -> list[RecentChange]:
        """Return the last changes, of one phext or of all, the newest first."""
        return list(islice(self._of(phext), count))

    def _of(self, phext: str | None) -> Iterator[RecentChange]:
        for change in reversed(self._changes.values()):
            if phext is None or change.phext == phext:
                yield change

    def _note(self, new: NewUpdate) -> None:
        if is_reserved(new.phext) or self._is_fetched(new):
            return
        key = new.phext, new.coordinate
        self._changes.pop(key, None)
        label = current_writer() if new.source is None else ""
        origin = new.entry.origin
        self._changes[key] = RecentChange(*key, self._now_ms(), origin, label)
        if len(self._changes) > KEPT:
            del self._changes[next(iter(self._changes))]

    def _is_fetched(self, new: NewUpdate) -> bool:
        """Whether it came because somebody here reads what others hold, and not as it changed."""
        comes_whole = new.source is not None and not new.entry.origin
        return comes_whole and not self._holding.is_held(new.phext, new.coordinate)
