"""Series: what a process takes by time, and whether it takes ever more.

A series is of one process, from its start to its end. What it takes while it warms up is left out;
of the rest the medians of the first and the last third are compared. Left out too is what its open
scrolls are counted to take: what is deleted leaves something in them, and their budget bounds it.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

GROWTH_MAX: Final = 1.10
"""The last third's median to the first's, above which something grows."""

_MINUTES_MIN: Final = 6.0  # a shorter series says nothing
_FEW_DESCRIPTORS: Final = 8  # sockets that come and go
_STATUS: Final = re.compile(r"^(RssAnon|Threads):\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node takes at a moment: its own memory without files that it maps, of that what it
    counts for open scrolls, and its folder; `edits` were made in the whole mesh until then, and
    `life_s` is since the process started."""

    node: str
    pid: int
    life_s: float
    edits: int
    memory_mb: float
    descriptors: int
    threads: int
    disk_mb: float
    open_mb: float = 0.0

    @property
    def other_mb(self) -> float:
        """The memory beside that of open scrolls."""
        return self.memory_mb - self.open_mb

    def to_json(self) -> str:
        """Return a line of a file of samples."""
        return json.dumps(asdict(self))


def sample(node: str, pid: int, folder: Path, since: float, edits: int, open_bytes: int) -> Sample:
    """Look at a process that started at `since`, and at its folder. OSError when it has ended."""
    place = Path(f"/proc/{pid}")
    found = dict(_STATUS.findall((place / "status").read_text()))
    if "RssAnon" not in found:
        raise ProcessLookupError(f"{pid} has ended")
    return Sample(
        node,
        pid,
        round(time.monotonic() - since, 1),
        edits,
        round(int(found["RssAnon"]) * 1024 / 1e6, 3),
        len(os.listdir(place / "fd")),
        int(found["Threads"]),
        round(sum(_on_disk(path) for path in folder.rglob("*")) / 1e6, 3),
        round(open_bytes / 1e6, 3),
    )


def read(path: Path) -> list[Sample]:
    """Return the samples of a file, in its order."""
    return [Sample(**json.loads(line)) for line in path.read_text().splitlines()]


def growing(samples: Iterable[Sample], warm_s: float) -> tuple[list[str], list[str]]:
    """Return a line for each process that was seen for long enough after `warm_s`, and of these
    what says that something of it grows."""
    lives: dict[tuple[str, int], list[Sample]] = {}
    for each in samples:
        if each.life_s >= warm_s:
            lives.setdefault((each.node, each.pid), []).append(each)
    told: list[str] = []
    found: list[str] = []
    for (node, pid), life in lives.items():
        minutes = (life[-1].life_s - life[0].life_s) / 60
        if minutes >= _MINUTES_MIN:
            line = f"{node} ({pid}), {minutes:.0f} minutes, {life[-1].edits - life[0].edits} edits"
            told.append(f"{line}: {', '.join(_compared(life))}")
            found += [f"{node} ({pid}): {what}" for what in _grown(life)]
    return told, found


def _grown(life: Sequence[Sample]) -> list[str]:
    limits = (
        ("other_mb", GROWTH_MAX, 0.0),
        ("descriptors", 1.0, _FEW_DESCRIPTORS),
        ("threads", 1.0, _FEW_DESCRIPTORS),
    )
    grown = []
    for name, factor, more in limits:
        first, last = _thirds(life, name)
        if last > first * factor + more:
            grown.append(f"{name} grows, {first:.6g} to {last:.6g}")
    return grown


def _compared(life: Sequence[Sample]) -> Iterable[str]:
    for name in ("memory_mb", "open_mb", "other_mb", "descriptors", "threads", "disk_mb"):
        first, last = _thirds(life, name)
        yield f"{name} {first:.6g} to {last:.6g}"


def _thirds(life: Sequence[Sample], name: str) -> tuple[float, float]:
    values = [getattr(each, name) for each in life]
    third = max(1, len(values) // 3)
    return median(values[:third]), median(values[-third:])


def _on_disk(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
