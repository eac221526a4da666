"""Six cores: what an edit takes at all of them, of any version of the library.

Run as a file, with a folder of the library as `PYTHONPATH`, it prints what that one takes, as JSON.
So it uses only what every version has: replicas, the core, frames.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from math import inf
from random import Random
from types import FrameType
from typing import Final

from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.sync.listener import Listener
from phextsync.sync.synchronizer import Synchronizer

COUNT: Final = 6

_PHEXT: Final = "memory"
_LINE: Final = "09:30 checked the build and noted it\n"
_PLACES: Final = tuple(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + i) for i in range(COUNT))
_EDITS_A_BATCH: Final = 8
_WARM: Final = 6  # batches, until what is made once is made
_BATCHES: Final = 24
_TIMED: Final = 60
_STEP_S: Final = 0.01


class Six:
    """Six cores, each linked with all others, in virtual time."""

    def __init__(self) -> None:
        self.bytes = self.frames = 0
        self._now = 0.0
        self._due = [0.0] * COUNT  # when each is to be ticked
        self._cores = [_core(number + 1, partial(self._tick_by, number)) for number in range(COUNT)]
        for core in self._cores:
            core.replicas.open(_PHEXT)
        numbers = range(COUNT)
        pairs = [(one, other) for one in numbers for other in numbers if one < other]
        self._ends = [(one, other, link) for link, (one, other) in enumerate(pairs, 1)]
        self._ends += [(other, one, link) for one, other, link in self._ends]
        for one, other, link in self._ends:
            peer_id = self._cores[other].node_id
            self._cores[one].link_opened(self._now, link, peer_id, dialled=one < other)
        self.carry()
        for _ in range(_WARM):
            self.batch()

    def batch(self) -> None:
        """Let one after the other add a line, and all write to their disks."""
        for i in range(_EDITS_A_BATCH):
            self._edit(i % COUNT)
            self.carry()
        for core in self._cores:
            core.replicas.commit()
        self.carry()

    def first_way(self) -> int:
        """Return how many functions are called from an edit until one other node shows it."""
        one, other, link = self._ends[0]
        took = calls(partial(self._edit, one))
        writer, reader = self._cores[one], self._cores[other]
        found: list[bytes] = []
        took += calls(lambda: found.extend(writer.next_frames(self._now, link, 1)[0]))
        took += calls(partial(reader.receive, self._now, link, found[0]))
        length = len(writer.replicas.open(_PHEXT)[_PLACES[one]])
        assert len(reader.replicas.open(_PHEXT)[_PLACES[one]]) == length
        self.carry()
        return took

    def carry(self) -> None:
        """Carry frames until nobody has any."""
        self._now += _STEP_S
        for number, core in enumerate(self._cores):
            if self._due[number] <= self._now:
                self._due[number] = inf
                self._tick_by(number, core.tick(self._now))
        is_quiet = False
        while not is_quiet:
            is_quiet = True
            for one, other, link in self._ends:
                frames, _ = self._cores[one].next_frames(self._now, link, 1 << 16)
                for frame in frames:
                    is_quiet = False
                    self.frames += 1
                    self.bytes += len(frame)
                    self._cores[other].receive(self._now, link, frame)

    def _tick_by(self, number: int, due: float) -> None:
        self._due[number] = min(self._due[number], due)

    def _edit(self, number: int) -> None:
        self._cores[number].replicas.open(_PHEXT).append(_PLACES[number], _LINE)


def measure(*, timed: int = _TIMED) -> dict[str, float]:
    """Return what one edit takes at all six: functions that are called, bytes and frames that are
    sent, microseconds of the processor if batches are `timed`; and the functions that are called
    on the way to the first other node."""
    six, edits = Six(), _BATCHES * _EDITS_A_BATCH
    way = [six.first_way() for _ in range(_BATCHES)]
    bytes_, frames = six.bytes, six.frames
    called = sum(calls(six.batch) for _ in range(_BATCHES))
    found = {
        "calls": called / edits,
        "bytes": (six.bytes - bytes_) / edits,
        "frames": (six.frames - frames) / edits,
        "way": float(sorted(way)[len(way) // 2]),
    }
    if timed:
        found["cpu_us"] = 1e6 * min(_seconds(six.batch) for _ in range(timed)) / _EDITS_A_BATCH
    return found


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def calls(work: Callable[[], object]) -> int:
    """Return how many functions are called, those in C included."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count - 1  # that of `setprofile`


def _core(number: int, on_due: Callable[[float], None]) -> Synchronizer:
    replicas = ReplicaSet(
        MemoryStore(),
        node_id=bytes([number]) * 16,
        random=Random(number),
        wall_time_ms=lambda: 1_700_000_000_000,
    )
    return Synchronizer(
        replicas,
        name=f"node {number}",
        incarnation=bytes([number]) * 16,
        random=Random(number),
        listener=Listener(on_due=on_due),
    )


if __name__ == "__main__":
    print(json.dumps(measure()))
