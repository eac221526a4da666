"""What a scroll and a store grow to: many small edits of one scroll, and a log over weeks.

Yardsticks of the same run: the state that pycrdt alone keeps of the same edits made in one
document, and the bytes of the text. "Used" are the pages of the file that hold something; the
file itself never shrinks by itself: what is free is used by later writes, and `phextsync repair`
gives it back.
"""

import os
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final

from pycrdt import Doc, Text

from benchmarks.report import Report
from phextsync.control.upkeep import repair
from phextsync.index import Coordinate
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.past import FOREVER
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.folder import DATA_FILE, STORE, open_records
from phextsync.store.lmdb_store import LmdbStore

_EDITS: Final = 100_000
_EDITS_PER_COMMIT: Final = 20
_LINE_EDITS: Final = 10_000
_LINES_PER_DAY: Final = 10_000
_DAYS: Final = 30
_QUICK: Final = 20
_PLACE: Final = Coordinate(*[1] * 9)


def run(*, quick: bool) -> Report:
    """Measure 100,000 edits of a character, 10,000 of a line, and 30 days of 10,000 lines, or a
    20th if `quick`."""
    report = Report()
    of = _QUICK if quick else 1
    for kind in ("anywhere", "appended"):
        with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as folder:
            _edit_characters(report, Path(folder), kind, _EDITS // of)
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as folder:
        _keep_history(report, Path(folder), _LINE_EDITS // of)
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as folder:
        _keep_log(report, Path(folder), _LINES_PER_DAY // of, _DAYS if not quick else _DAYS // 10)
    return report


def _edit_characters(report: Report, folder: Path, kind: str, count: int) -> None:
    """Insert or delete one character at a time, at random places or at the end."""
    random = Random(1)
    plain: Doc[Text] = Doc(client_id=random.getrandbits(52))  # as ours are
    text = plain.get("text", type=Text)
    store, replicas = open_replicas(folder)
    replica = replicas.open(DEFAULT_PHEXT)
    size = 0
    for i in range(count):
        at = size if kind == "appended" else random.randint(0, size)
        if kind == "anywhere" and size and random.random() < 0.2:
            at = min(at, size - 1)
            del text[at : at + 1]
            replica.delete(_PLACE, at, at + 1)
            size -= 1
        else:
            character = chr(97 + i % 26)
            text.insert(at, character)
            replica.insert(_PLACE, at, character)
            size += 1
        if i % _EDITS_PER_COMMIT == 0:
            replicas.commit()
    replicas.commit()
    stored = store.read(DEFAULT_PHEXT, _PLACE.key)
    assert stored is not None
    own = len(stored.state or b"") + stored.log_bytes
    store.close(clean=True)
    used, file = _used(folder), _file_bytes(folder)
    fresh = f"{kind}_fresh_state_bytes"
    report.add(fresh, [len(plain.get_update())], "bytes")
    report.add(f"{kind}_stored_bytes", [own], "bytes", fresh)
    report.add(f"{kind}_stored_ratio", [own / len(plain.get_update())], "", fresh)
    report.add(f"{kind}_used_bytes", [used], "bytes", fresh)
    report.add(f"{kind}_used_ratio", [used / len(plain.get_update())], "", fresh)
    report.add(f"{kind}_file_bytes", [file], "bytes", fresh)
    _compact(folder)
    report.add(f"{kind}_repaired_file_bytes", [_file_bytes(folder)], "bytes", fresh)


def _keep_log(report: Report, folder: Path, lines: int, days: int) -> None:
    """Append lines to a scroll a day, committing as a node does that gets one every 8 s."""
    random = Random(2)
    sizes = [(0, 0, 0)]
    commits_s = []
    for day in range(days):
        store, replicas = open_replicas(folder)
        replica = replicas.open(DEFAULT_PHEXT)
        place = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + day)
        for i in range(lines):
            replica.append(place, f"{day:02} {i:05} agent {random.randrange(6)} did {i % 97}\n")
            start = time.perf_counter()
            replicas.commit()
            commits_s.append(time.perf_counter() - start)
        written = sum(replica.size(place) for place in replica.coordinates())
        store.close(clean=True)
        sizes.append((written, _used(folder), _file_bytes(folder)))
    growth = [
        tuple(after - before for before, after in zip(*pair, strict=True))
        for pair in pairwise(sizes)
    ]
    text = "log_text_bytes_per_day"
    report.add(text, [row[0] for row in growth], "bytes")
    report.add("log_used_bytes_per_day", [row[1] for row in growth], "bytes", text)
    report.add("log_used_ratio", [row[1] / row[0] for row in growth], "", text)
    report.add("log_file_bytes_per_day", [sizes[-1][2] / days], "bytes", text)
    report.add("log_commit_ms", [1000 * value for value in commits_s], "ms")
    _compact(folder)
    report.add("log_repaired_bytes_per_day", [_file_bytes(folder) / days], "bytes", text)


def _keep_history(report: Report, folder: Path, count: int) -> None:
    """Edit lines of one scroll: what its history takes, and what looking back costs."""
    used = []
    sizes: list[int] = []
    for kept_ms in (0, FOREVER):
        path = folder / str(kept_ms)
        path.mkdir()
        clock_ms, random = [0], Random(5)
        store = LmdbStore(path)
        replicas = ReplicaSet(
            store,
            node_id=bytes(range(16)),
            random=Random(3),
            wall_time_ms=partial(clock_ms.__getitem__, 0),
        )
        replicas.keep_history(kept_ms)
        sizes = []
        replicas.listen(ReplicaListener(on_update=partial(_note_size, sizes)))
        _edit_lines(replicas, random, clock_ms, count)
        replica = replicas.open(DEFAULT_PHEXT)
        if kept_ms:
            start = time.perf_counter()
            replica.blame(_PLACE)
            report.add("history_blame_ms", [1000 * (time.perf_counter() - start)], "ms")
            start = time.perf_counter()
            replica.text_at(_PLACE, clock_ms[0] // 2)
            report.add("history_show_ms", [1000 * (time.perf_counter() - start)], "ms")
        store.close(clean=True)
        _compact(path)
        used.append(_used(path))
    report.add("history_update_bytes", [sum(sizes) / count], "bytes")
    per_edit = (used[1] - used[0]) / count
    report.add("history_bytes_per_edit", [per_edit], "bytes", "history_update_bytes")


def _note_size(sizes: list[int], new: NewUpdate) -> None:
    if new.phext == DEFAULT_PHEXT:
        sizes.append(len(new.entry.update))


def _edit_lines(replicas: ReplicaSet, random: Random, clock_ms: list[int], count: int) -> None:
    """Insert a line at a time, and delete one when there are a hundred; some seconds apart."""
    replica = replicas.open(DEFAULT_PHEXT)
    lines: list[str] = []
    for i in range(count):
        clock_ms[0] += random.randrange(10_000)
        if len(lines) > 100:
            del lines[random.randrange(len(lines))]
        lines.insert(random.randint(0, len(lines)), f"{i} edited\n")
        replica.edit(_PLACE, "".join(lines))
        if i % _EDITS_PER_COMMIT == 0:
            replicas.commit()
    replicas.commit()


def open_replicas(folder: Path) -> tuple[LmdbStore, ReplicaSet]:
    """Return a store and replicas over it, without a node."""
    store = LmdbStore(folder)
    now = time.time_ns() // 1_000_000
    random = Random(3)
    return store, ReplicaSet(store, node_id=os.urandom(16), random=random, wall_time_ms=lambda: now)


def _compact(folder: Path) -> None:
    repair(folder, random=Random(4), now_ms=0)


def _used(folder: Path) -> int:
    with open_records(folder / STORE / DATA_FILE) as records:
        return records.used_bytes()


def _file_bytes(folder: Path) -> int:
    return (folder / STORE / DATA_FILE).stat().st_blocks * 512
