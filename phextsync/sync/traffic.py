"""Traffic: what is counted of a link."""

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Counters of one link. `redundant` counts updates received that changed nothing."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    updates_in: int = 0
    updates_out: int = 0
    redundant: int = 0
    comparisons: int = 0
    compare_messages: int = 0
