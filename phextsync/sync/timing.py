"""Timing: how often a node does what, and when it gives up."""

from dataclasses import dataclass
from typing import Final

GATHER_S: Final = 0.003
"""So long a batch gathers changes after its first one, unless somebody waits for the disk."""
BEHIND_S: Final = 0.006
"""A batch that is due waits so long for one more change, to go right behind it: of changes that
come at intervals, the next is furthest then, and none meets a commit."""
DURABLE_WITHIN_S: Final = 0.050
"""After a change, until it is on a disk that takes a commit in a third of that."""
RETRY_S: Final = 1.0
"""After a disk has refused a batch, until it is asked again."""
BACKOFF_MIN_S: Final = 0.1
"""After a link has ended or could not be made, until the next attempt; doubled each time."""
BACKOFF_MAX_S: Final = 2.0
BACKOFF_MAX_STRANGER_S: Final = 60.0
"""The same for addresses where nobody of the mesh was met lately."""

_PAUSE_MIN_S: Final = 0.010
_SLACK_S: Final = 0.005  # turns of tasks and threads


def commit_pause_s(commit_s: float) -> float:
    """Return how long to rest at most between two commits that take `commit_s` each: what is
    written as one begins waits for its end and for the whole of the next."""
    return max(_PAUSE_MIN_S, DURABLE_WITHIN_S - _SLACK_S - 2 * commit_s)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A dead peer is noticed after `dead_after_s`, one that says no hello after
    `hello_within_s`; a comparison that found nothing new is repeated after `compare_interval_s`,
    one that did after `compare_delay_s`; a large phext is audited at most every
    `audit_interval_s`. A node tells its presence at least every `presence_interval_s` and is gone
    after three times as long. A node tells of what it did not send `have_delay_s` after it is on
    its disk; what it is told of and lacks it asks for after `graft_delay_s`."""

    ping_interval_s: float = 1.0
    dead_after_s: float = 3.0
    hello_within_s: float = 10.0
    compare_interval_s: float = 30.0
    compare_delay_s: float = 0.1
    audit_interval_s: float = 600.0
    presence_interval_s: float = 5.0
    have_delay_s: float = 0.2
    graft_delay_s: float = 0.1
