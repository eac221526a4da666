"""How many calls an edit takes on its way, which no other program on the machine changes.

Between two edits a node's caches are taken by others, so what an edit costs grows with the
functions that it passes through: a call takes about a microsecond then.

`edit_calls_writer`: from `append` until the frame is handed to the link; `edit_calls_reader`: from
that frame until the subscriber has the text; `commit_calls`: what a batch of eight edits takes at
the writer, without its store, with what both sides say of it. Two cores, no IO. Yardstick of the
same run: inserting in pycrdt, and applying what that gave.
"""

from collections.abc import Callable
from functools import partial
from random import Random

import pycrdt

from benchmarks.report import Report
from benchmarks.six_cores import calls
from phextsync.crdt import ROOT
from phextsync.index import Coordinate
from phextsync.replica.changes import Change
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.sync.listener import Listener
from phextsync.sync.synchronizer import Synchronizer

_PHEXT = "memory"
_PLACE = Coordinate(*[1] * 9)
_LINE = "a line of an agent\n"
_EDITS_A_BATCH = 8
_BATCHES = 10
_SEND_BYTES = 16 << 10


def run(*, quick: bool) -> Report:
    """Count; `quick` counts the same."""
    report = Report()
    inserting, applying = _bare_calls()
    report.add("bare_calls_writer", inserting, "calls")
    report.add("bare_calls_reader", applying, "calls")
    writers, readers, commits = _Pair().count()
    report.add("edit_calls_writer", writers, "calls", "bare_calls_writer")
    report.add("edit_calls_reader", readers, "calls", "bare_calls_reader")
    report.add("commit_calls", commits, "calls")
    return report


class _Pair:
    """A writer and a reader, each a core without IO, on one link."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._writers, self._writer = _core(1, lambda _link: self._send())
        self._readers, self._reader = _core(2, lambda _link: None)
        self._writer.link_opened(1.0, 1, self._readers.node_id, dialled=True)
        self._reader.link_opened(1.0, 1, self._writers.node_id, dialled=False)
        self._texts: list[str] = []
        self._open(self._writers)
        self._open(self._readers).subscribe(self._take)
        self._open(self._writers).append(_PLACE, _LINE)  # what is made once is made now
        self._commit()
        self._texts.clear()

    def count(self) -> tuple[list[float], list[float], list[float]]:
        """Return the calls of each edit at the writer and at the reader, and of each commit."""
        writers, readers, commits = list[float](), list[float](), list[float]()
        replica = self._open(self._writers)
        for _ in range(_BATCHES):
            for _ in range(_EDITS_A_BATCH):
                written = calls(partial(replica.append, _PLACE, _LINE))
                (frame,), self._frames = self._frames, []
                read = calls(partial(self._reader.receive, 1.0, 1, frame))
                assert self._texts.pop().endswith(_LINE)
                writers.append(written)
                readers.append(read)
            self._readers.commit()
            commits.append(calls(self._writers.commit) + calls(self._exchange))
        return writers, readers, commits

    def _open(self, replicas: ReplicaSet) -> Replica:
        return replicas.open(_PHEXT)

    def _take(self, change: Change) -> None:
        self._texts += [self._open(self._readers)[place] for place in change.coordinates]

    def _send(self) -> None:
        self._frames += self._writer.next_frames(1.0, 1, _SEND_BYTES)[0]

    def _commit(self) -> None:
        for replicas in (self._readers, self._writers):
            self._exchange()
            replicas.commit()
        self._exchange()

    def _exchange(self) -> None:
        """Carry frames both ways until nobody has any."""
        while True:
            self._send()
            there, self._frames = self._frames, []
            back, _ = self._reader.next_frames(1.0, 1, _SEND_BYTES)
            for frame in there:
                self._reader.receive(1.0, 1, frame)
            for frame in back:
                self._writer.receive(1.0, 1, frame)
            if not (there or back):
                return


def _core(number: int, on_edit: Callable[[int], None]) -> tuple[ReplicaSet, Synchronizer]:
    replicas = ReplicaSet(
        MemoryStore(),
        node_id=bytes([number]) * 16,
        random=Random(number),
        wall_time_ms=lambda: 1_700_000_000_000,
    )
    core = Synchronizer(
        replicas,
        name=f"node {number}",
        incarnation=bytes([number]) * 16,
        random=Random(number),
        listener=Listener(on_edit=on_edit),
    )
    return replicas, core


def _bare_calls() -> tuple[list[float], list[float]]:
    """Return the calls of each insertion that is observed, and of applying it and reading."""
    ours, theirs = pycrdt.Doc[pycrdt.Text](), pycrdt.Doc[pycrdt.Text]()
    text, copy = (document.get(ROOT, type=pycrdt.Text) for document in (ours, theirs))
    updates: list[bytes] = []
    ours.observe(lambda event: updates.append(event.update))

    def insert() -> None:
        with ours.transaction():
            text.insert(len(text), _LINE)

    def apply() -> str:
        theirs.apply_update(updates.pop())
        return str(copy)

    counts = [(float(calls(insert)), float(calls(apply))) for _ in range(_BATCHES)]
    return [inserted for inserted, _ in counts], [applied for _, applied in counts]
