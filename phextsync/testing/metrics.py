"""Metrics: what a run cost. `docs/explanation/simulation.md` defines the words."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

Number = int | float


@dataclass(slots=True)
class Metrics:
    """Counters of a run, over all nodes.

    `bytes_needed` counts an update once for each node that lacked it when it came; `updates` are
    those that nodes received, `redundant` ones changed nothing. Visits are reads of what a node
    does not hold; one is answered when it has come. A read or write is counted where
    the machine is on; a read is current when it shows all that is durable anywhere. Buffers are
    the most that one link had under way, and the most messages and notes that a core kept for one.
    `hops` are the links over which a line travelled to its last receiver. After the last edit,
    virtual milliseconds until all has its copies on machines that are on. After the last fault,
    virtual milliseconds: until all nodes hold the same on their disks, and until all know it.
    None: not known, or not yet. `without`: metrics that this kind of run does not measure.
    """

    without: tuple[str, ...] = ()
    frames: int = 0
    bytes: int = 0
    bytes_needed: int = 0
    events: int = 0
    updates: int = 0
    redundant: int = 0
    commits: int = 0
    writes: int = 0
    writes_accepted: int = 0
    visits: int = 0
    visits_answered: int = 0
    reads: int = 0
    reads_answered: int = 0
    reads_current: int = 0
    buffer_bytes_max: int = 0
    backlog_max: int = 0
    hops_max: int | None = None
    hops_mean: float | None = None
    copied_ms: int | None = None
    converged_ms: int | None = None
    synced_ms: int | None = None

    def as_dict(self) -> dict[str, Number]:
        """Return the counters and what follows from them, without those that have no data."""
        values: dict[str, Number | None] = {
            **asdict(self),
            "overhead": _ratio(self.bytes, self.bytes_needed),
            "redundancy": _ratio(self.redundant, self.updates - self.redundant),
            "read_availability": _ratio(self.reads_answered, self.reads),
            "visit_availability": _ratio(self.visits_answered, self.visits),
            "write_availability": _ratio(self.writes_accepted, self.writes),
            "read_currency": _ratio(self.reads_current, self.reads_answered),
        }
        left_out = {"without", *self.without}
        return {k: v for k, v in values.items() if v is not None and k not in left_out}


class Journeys:
    """Over how many links each line travelled to each node."""

    def __init__(self) -> None:
        self._hops: dict[str, dict[int, int]] = {}

    def arrived(self, node: int, tokens: Iterable[str], source: int | None) -> None:
        """A node shows tokens that came from `source`, None: from its user."""
        for token in tokens:
            hops = self._hops.setdefault(token, {})
            hops.setdefault(node, 0 if source is None else hops.get(source, 0) + 1)

    def finish(self, metrics: Metrics) -> None:
        """Write the last delivery hops, if there was a line: the most, and the mean over all."""
        last = [max(hops.values()) for hops in self._hops.values()]
        metrics.hops_max = max(last, default=None)
        metrics.hops_mean = _ratio(sum(last), len(last))


def _ratio(part: Number, whole: Number) -> float | None:
    return round(part / whole, 4) if whole else None
