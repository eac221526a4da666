"""Samples: how much a node does, measured now and then, for as long as an hour.

What is kept are the counters as they were; figures over time are the differences between them.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phextsync.node.node import Node
from phextsync.phext_names import is_reserved
from phextsync.replica.listener import NewUpdate, ReplicaListener

INTERVAL_S: Final = 5.0
KEPT: Final = 720
"""Samples that are kept: those of an hour."""

_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters at a time, in seconds since 1970: updates of scrolls that took effect, bytes
    that links carried, commits and how long they took in all; round trip and memory as they were
    (None: unknown)."""

    time_s: int
    edits: int
    bytes_in: int
    bytes_out: int
    commits: int
    commits_s: float
    round_trip_s: float | None
    memory_bytes: int | None


class Samples:
    """The samples of one node. `take` adds one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._edits = 0
        self._kept: deque[Sample] = deque(maxlen=KEPT + 1)
        node.replicas.listen(ReplicaListener(on_update=self._count))

    def take(self, time_s: int) -> None:
        """Add a sample of now."""
        traffic, commits = self._node.traffic(), self._node.commits
        trips = [peer.round_trip_s for peer in self._node.peers() if peer.round_trip_s is not None]
        self._kept.append(
            Sample(
                time_s,
                self._edits,
                traffic.bytes_in,
                traffic.bytes_out,
                commits.count,
                commits.sum_s,
                sum(trips) / len(trips) if trips else None,
                _memory_bytes(),
            )
        )

    def rows(self) -> list[Mapping[str, float | None]]:
        """Return the figures of each interval, the oldest first."""
        return [*self._rows()]

    def _rows(self) -> Iterator[Mapping[str, float | None]]:
        for before, now in zip(self._kept, [*self._kept][1:], strict=False):
            seconds = max(1, now.time_s - before.time_s)
            commits = now.commits - before.commits
            took_s = now.commits_s - before.commits_s
            yield {
                "time_s": now.time_s,
                "edits": (now.edits - before.edits) / seconds,
                "received": (now.bytes_in - before.bytes_in) / seconds / 1000,
                "sent": (now.bytes_out - before.bytes_out) / seconds / 1000,
                "commit": 1000 * took_s / commits if commits else None,
                "round_trip": None if now.round_trip_s is None else 1000 * now.round_trip_s,
                "memory": None if now.memory_bytes is None else now.memory_bytes / 1e6,
            }

    def _count(self, new: NewUpdate) -> None:
        self._edits += not is_reserved(new.phext)


def _memory_bytes() -> int | None:
    """Return the memory that is this process' own, without files that it maps."""
    try:
        _, resident, shared, *_ = map(int, _STATM.read_text().split())
    except (OSError, ValueError):
        return None
    return (resident - shared) * _PAGE_BYTES
