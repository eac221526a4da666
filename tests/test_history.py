"""Who wrote which line, when, and what a scroll was before: over the kept history."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from random import Random

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.control import operations
from phextsync.control.performing import perform
from phextsync.control.upkeep import backup, check, repair, restore
from phextsync.crdt import Scroll
from phextsync.errors import PhextsyncError, StoreError, StoreFullError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.past import FOREVER, BlamedLine
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store import lmdb_store
from phextsync.store.contract import Batch, LogEntry, Store
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.store.retention import Retention
from phextsync.trust.permissions import Permissions
from sims import steps
from sims.network import PHEXT, Network

_A = Coordinate(*[1] * 9)
_B = Coordinate(*[2] * 9)
_NODE = b"n" * 16
_MANY = 200  # edits: a log is folded about four times


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ms = 1000

    def __call__(self) -> int:
        return self.now_ms


def _set_of(store: Store, clock: Callable[[], int]) -> ReplicaSet:
    return ReplicaSet(store, node_id=_NODE, random=Random(1), wall_time_ms=clock)


def _write(replicas: ReplicaSet, clock: Clock, count: int) -> list[str]:
    """Add a line at a time at the end or remove one; return the texts, by time from 1000 on."""
    random = Random(2)
    replica = replicas.open("memory")
    texts = [replica.get(_A, "")]
    for i in range(count):
        clock.now_ms += 1
        lines = texts[-1].splitlines(keepends=True)
        if len(lines) > 5 and random.random() < 0.4:
            lines.pop(random.randrange(len(lines)))
            replica.edit(_A, "".join(lines))
        else:
            replica.append(_A, f"line {i}\n")
        if i % 5 == 4:
            replicas.commit()
        texts.append(replica.get(_A, ""))
    return texts


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = MemoryStore() if request.param == "memory" else LmdbStore(tmp_path)
    yield made
    made.close(clean=True)


def _keeping(count: int, seed: int = 0) -> Network:
    """Return a network in which history is kept."""
    network = Network(count, seed)
    for peer in network.peers:
        peer.store.history = Retention(FOREVER, 0)
    return network


# -- only looking on -----------------------------------------------------------------------


Run = Callable[[int, Callable[[int, int], Network]], object]


def _write_in_turn(seed: int, make: Callable[[int, int], Network]) -> object:
    """Let logs be folded while links come and go; return what came of it."""
    writers = Writers(seed, make(3, seed))
    for _ in range(_MANY):
        writers.act()
        writers.let_time_pass()
    return writers.network.digests()


@pytest.mark.parametrize(("run", "seeds"), [(steps.run, 8), (_write_in_turn, 2)])
def test_history_changes_no_frame_and_no_outcome(run: Run, seeds: int) -> None:
    def traced(seed: int, make: Callable[[int, int], Network]) -> object:
        trace = blake2b()

        def made(count: int, seed: int) -> Network:
            network = make(count, seed)
            network.on_frame = lambda a, b, frame: trace.update(a.node_id + b.node_id + frame)
            return network

        return run(seed, made), trace.digest()

    for seed in range(seeds):
        assert traced(seed, _keeping) == traced(seed, Network)


# -- who wrote what ------------------------------------------------------------------------


class Writers:
    """Peers that type lines, each line once, and remember who typed it and when."""

    def __init__(self, seed: int, network: Network | None = None) -> None:
        self.random = Random(seed)
        self.network = network or _keeping(3, seed)
        self.network.link_all()
        self.typed: dict[str, tuple[bytes, int]] = {}
        self.now_ms = 0

    def act(self) -> None:
        """Let a random peer type, replace or delete whole lines."""
        self.now_ms += 1
        peer = self.random.choice(self.network.peers)
        peer.wall_time_ms = self.now_ms
        lines = peer.replica.get(_A, "").splitlines(keepends=True)
        at = self.random.randint(0, len(lines))
        line = f"{self.random.getrandbits(48):012x}é"
        start = sum(map(len, lines[:at]))
        what = self.random.random()
        if what < 0.3 and at < len(lines):
            peer.replica.delete(_A, start, start + len(lines[at]))
        elif what < 0.5:
            self.typed[line] = (peer.node_id, self.now_ms)
            lines[at : at + 1] = [f"{line}\n"]
            peer.replica.edit(_A, "".join(lines))
        else:
            self.typed[line] = (peer.node_id, self.now_ms)
            peer.replica.insert(_A, start, f"{line}\n")

    def let_time_pass(self) -> None:
        """Cut or mend links, or let frames move."""
        for peer in self.network.peers:
            peer.wall_time_ms = self.now_ms
        what = self.random.random()
        if what < 0.1 and self.network.links:
            self.network.cut(self.random.choice(list(self.network.links)))
        elif what < 0.2:
            self.network.link_all()
        self.network.run(0.1)

    def blamed(self, number: int) -> list[BlamedLine]:
        return self.network.peers[number].replica.blame(_A)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_blame_names_who_typed_each_line_whatever_was_concurrent(seed: int) -> None:
    writers = Writers(seed)
    for _ in range(_MANY):
        writers.act()
        if writers.random.random() < 0.5:
            writers.let_time_pass()
    writers.network.link_all()
    writers.let_time_pass()
    writers.network.run(5)
    writers.network.assert_equal()
    for number, peer in enumerate(writers.network.peers):
        lines = writers.blamed(number)
        assert [line.text for line in lines] == peer.replica[_A].splitlines()
        for line in lines:
            # One line has several words when several peers replaced one at once.
            words = [writers.typed[word] for word in re.findall("[^é]+é", line.text)]
            assert line.time_ms is not None
            assert line.time_ms >= max(time_ms for _, time_ms in words)
            if line.seen_here:
                assert line.writer in [writer for writer, _ in words]
            else:
                assert (line.writer, line.time_ms) in words


def test_what_is_pushed_at_once_has_the_time_of_its_writer_everywhere() -> None:
    writers = Writers(1)
    for _ in range(_MANY):
        writers.act()
        writers.network.run(0.1)
    for number in range(3):
        for line in writers.blamed(number):
            assert (line.writer, line.time_ms) == writers.typed[line.text]
            assert not line.seen_here


def test_an_import_was_written_by_the_node_that_imported_it() -> None:
    network = Network(2)
    a, b = network.peers
    network.link_all()
    network.run(1)
    for peer in network.peers:
        peer.replicas.keep_history(FOREVER)
    a.wall_time_ms = 7
    a.replica.import_text(_A, "one\ntwo\n")
    network.run(1)
    expected = [BlamedLine(text, a.node_id, 7, seen_here=False) for text in ("one", "two")]
    assert a.replica.blame(_A) == expected
    assert b.replica.blame(_A) == expected


def test_what_a_comparison_brought_is_seen_here_and_not_taken_for_our_own() -> None:
    network = _keeping(3)
    a, b, c = network.peers
    a.wall_time_ms = 5
    a.replica.append(_A, "typed\n")
    a.replica.import_text(_B, "imported\n")
    a.commit()
    b.wall_time_ms, c.wall_time_ms = 50, 70
    network.link(0, 1)
    network.run(1)
    network.link(1, 2)
    network.run(1)
    for peer, time_ms in ((b, 50), (c, 70)):
        typed, imported = peer.replica.blame(_A), peer.replica.blame(_B)
        assert typed == [BlamedLine("typed", a.node_id, time_ms, seen_here=True)]
        # Nobody writes under the client id of an import, so nobody knows who did it.
        assert imported == [BlamedLine("imported", None, time_ms, seen_here=True)]
        (row,) = peer.replica.log(_B)
        assert (row.time_ms, row.seen_here, row.writers) == (time_ms, True, ())
        with pytest.raises(PhextsyncError, match="before what is kept"):
            peer.replica.text_at(_A, time_ms - 1)
        peer.wall_time_ms += 9
        assert peer.replica.text_at(_A, time_ms) == "typed\n"


def test_what_a_comparison_brought_stays_without_origin_for_peers(store: Store) -> None:
    clock = Clock()
    replicas = _set_of(store, clock)
    replica, heard = replicas.open("memory"), list[LogEntry]()
    replicas.listen(ReplicaListener(on_update=lambda new: heard.append(new.entry)))
    scroll = Scroll(_A, 7)
    brought = [LogEntry(scroll.append(text) or b"", b"", 0) for text in ("new", "more")]
    replicas.keep_history(FOREVER)
    for entry in brought:
        replica.apply(_A, entry, source=1)
    replicas.commit()
    assert heard == brought
    stored = store.read("memory", _A.key)
    assert stored is not None
    assert stored.log == tuple(LogEntry(entry.update, b"", 1000) for entry in brought)


def test_there_is_no_history_of_what_may_not_be_read() -> None:
    network = _keeping(2)
    a, b = network.peers
    b.restrict(Permissions.of({PHEXT: [CoordinateRange(_A, _B)]}, {}))
    network.link(0, 1)
    for _ in range(_MANY):
        a.replica.append(_A, "to be read\n")
        a.replica.append(_B, "secret\n")
        network.run(0.1)
    assert len(b.replica.log(_A)) > 1
    assert (b.replica.log(_B), b.replica.blame(_B)) == ([], [])
    stored = [key for phext, key in b.store.histories(None, 99) if phext == PHEXT]
    assert stored == [_A.key]


def test_a_changed_word_makes_the_line_its_writers() -> None:
    clock = Clock()
    replica = _set_of(MemoryStore(), clock).open("memory")
    replica[_A] = "one two\n\nlast"
    clock.now_ms = 2000
    replica.insert(_A, 3, "!")
    times = [(line.text, line.time_ms) for line in replica.blame(_A)]
    assert times == [("one! two", 2000), ("", 1000), ("last", 1000)]


# -- what changed --------------------------------------------------------------------------


def test_the_log_says_when_by_whom_what_and_where(store: Store) -> None:
    clock = Clock()
    replicas = _set_of(store, clock)
    replica = replicas.open("memory")
    replica[_A] = "one\ntwo\n"
    clock.now_ms = 2000
    replica.edit(_A, "one\nzwei\n")
    replicas.commit()
    clock.now_ms = 3000
    replica.append(_A, "three\n")
    rows = replica.log(_A)
    assert [(row.time_ms, row.added, row.removed, row.line_number, row.line) for row in rows] == [
        (1000, 8, 0, 1, "one"),
        (2000, 4, 3, 2, "zwei"),
        (3000, 6, 0, 3, "three"),
    ]
    assert {(row.seen_here, row.writers) for row in rows} == {(False, (_NODE,))}
    assert replica.log(_A, last=1) == rows[2:]
    assert operations.LOG.answer.decode(perform(replicas, ["log", "memory", str(_A), None])) == rows
    assert operations.BLAME.answer.decode(
        perform(replicas, ["blame", "memory", str(_A)])
    ) == replica.blame(_A)
    assert (replica.log(_B), replica.blame(_B)) == ([], [])


# -- what it was ---------------------------------------------------------------------------


def test_every_text_since_history_is_kept_can_be_shown(store: Store) -> None:
    clock = Clock()
    replicas = _set_of(store, clock)
    replicas.keep_history(FOREVER)
    texts = _write(replicas, clock, _MANY)
    assert store.pieces("memory", _A.key)  # some of it was folded
    replica = replicas.open("memory")
    assert [replica.text_at(_A, 1000 + i) for i in range(len(texts))] == texts
    assert len(replica.log(_A)) == _MANY
    assert sum(row.added - row.removed for row in replica.log(_A)) == len(texts[-1])


def test_what_was_there_before_is_the_base(store: Store) -> None:
    clock = Clock()
    replicas = _set_of(store, clock)
    _write(replicas, clock, _MANY)  # and forgotten, but for the log
    known = len(replicas.open("memory").log(_A))
    assert known < _MANY
    replicas.keep_history(FOREVER)
    since_ms = clock.now_ms - known + 1
    texts = _write(replicas, clock, _MANY)
    replica = replicas.open("memory")
    shown = [replica.text_at(_A, clock.now_ms - i) for i in reversed(range(_MANY))]
    assert shown == texts[1:]
    assert len(replica.log(_A)) == known + _MANY
    with pytest.raises(PhextsyncError, match="before what is kept"):
        replica.text_at(_A, since_ms - 1)
    replicas.keep_history(0)
    replicas.commit()
    assert store.histories(None, 9) == []


def test_the_setting_is_a_change_that_the_next_batch_makes_durable(store: Store) -> None:
    replicas = _set_of(store, Clock())
    for full in (True, False):
        replicas.keep_history(7)
        assert (replicas.durability.is_changed, replicas.history_kept_ms) == (True, 7)
        batch = replicas.durability.take()
        assert batch is not None
        assert (replicas.durability.is_changed, replicas.history_kept_ms) == (False, 7)
        if full:
            replicas.durability.refused(StoreFullError("no space left"))
            assert (replicas.durability.is_changed, replicas.history_kept_ms) == (True, 7)
    assert batch is not None
    store.commit(batch)
    replicas.durability.written()
    assert (replicas.durability.is_changed, replicas.history_kept_ms) == (False, 7)
    assert store.history == Retention(7, 1000)


def test_what_is_too_old_is_forgotten_and_the_rest_stays_as_it_was(store: Store) -> None:
    clock = Clock()
    replicas = _set_of(store, clock)
    replicas.keep_history(100)
    texts = _write(replicas, clock, 3 * _MANY)
    replica = replicas.open("memory")
    assert 100 <= len(replica.log(_A)) < _MANY
    shown = [replica.text_at(_A, clock.now_ms - 99 + i) for i in range(100)]
    assert shown == texts[-100:]
    clock.now_ms += 1000
    replicas.keep_history(200)
    replicas.commit()
    assert list(store.pieces("memory", _A.key)) == [0]
    assert replica[_A] == texts[-1]


def test_a_clock_that_is_far_ahead_neither_keeps_nor_hides_the_rest(store: Store) -> None:
    clock = Clock()
    replicas = _set_of(store, clock)
    replicas.keep_history(100)
    replica = replicas.open("memory")
    scroll = Scroll(_A, 7)
    ahead = LogEntry(scroll.append("from the future\n") or b"", b"f" * 16, 10**12)
    replica.apply(_A, ahead)
    while replica.log(_A)[0].time_ms == ahead.time_ms:
        texts = _write(replicas, clock, 5)
        assert len(replica.log(_A)) < _MANY
    assert [replica.text_at(_A, clock.now_ms - i) for i in range(5)] == texts[:0:-1]


def test_a_write_that_failed_costs_no_history() -> None:
    class Full(MemoryStore):
        refusals = 0

        def commit(self, batch: Batch) -> None:
            if self.refusals > 0 and batch.history:
                self.refusals -= 1
                raise StoreFullError("no space left")
            super().commit(batch)

    store, clock = Full(), Clock()
    replicas = _set_of(store, clock)
    replicas.keep_history(FOREVER)
    replica, texts = replicas.open("memory"), [""]
    store.refusals = 3
    for i in range(_MANY):
        clock.now_ms += 1
        replica.append(_A, f"line {i}\n")
        texts.append(replica[_A])
        while replicas.is_dirty:
            with suppress(StoreFullError):
                replicas.commit()
    assert store.refusals == 0
    assert [replica.text_at(_A, 1000 + i) for i in range(len(texts))] == texts


def test_histories_that_cannot_be_read_are_not_looked_at_for_ever() -> None:
    class Unreadable(MemoryStore):
        def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
            raise StoreError("a page is damaged")

    replicas, dirty = _set_of(Unreadable(), Clock()), list[bool]()
    replicas.keep_history(FOREVER)
    replicas.listen(ReplicaListener(on_dirty=lambda: dirty.append(True)))
    replicas.commit()
    assert (dirty, replicas.durability.take()) == ([], None)
    replicas.open("memory").append(_A, "text")
    replicas.commit()
    assert replicas.open("memory")[_A] == "text"


@pytest.mark.parametrize("is_disk_full", [False, True])
def test_another_text_of_one_version_begins_a_new_history(store: Store, is_disk_full: bool) -> None:
    clock = Clock()
    replicas = _set_of(store, clock)
    replicas.keep_history(FOREVER)
    _write(replicas, clock, _MANY)
    replica = replicas.open("memory")
    other = Scroll(_A, 7)
    state = other.append("another text\n") or b""
    clock.now_ms += 1
    replica.append(_A, "not yet written\n")
    replicas.durability.take()
    replica.adopt(_A, state)
    if is_disk_full:
        replicas.durability.refused(StoreFullError("no space left"))
    else:
        replicas.durability.written()
    replicas.commit()
    adopted_ms, text = clock.now_ms, replica[_A]
    clock.now_ms += 1
    replica.append(_A, "after\n")
    replicas.commit()
    clock.now_ms += 1
    assert replica.text_at(_A, adopted_ms + 1) == f"{text}after\n"
    assert replica.text_at(_A, adopted_ms) == text
    with pytest.raises(PhextsyncError, match="before what is kept"):
        replica.text_at(_A, adopted_ms - 1)


# -- on disk -------------------------------------------------------------------------------


@contextmanager
def _opened(folder: Path) -> Iterator[ReplicaSet]:
    store = LmdbStore(folder)
    clock = Clock()
    clock.now_ms = 10**6
    yield _set_of(store, clock)
    store.close(clean=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder whose history was folded."""
    (tmp_path / "data").mkdir()
    store, clock = LmdbStore(tmp_path / "data"), Clock()
    replicas = _set_of(store, clock)
    replicas.keep_history(FOREVER)
    _write(replicas, clock, _MANY)
    store.close(clean=True)
    return tmp_path / "data"


def test_reopening_repairing_and_backups_keep_history(folder: Path) -> None:
    with _opened(folder) as replicas:
        expected = replicas.open("memory").log(_A)
    assert len(expected) == _MANY
    repair(folder, random=Random(3), now_ms=0)
    backup(folder, folder.parent / "file")
    restore(folder.parent / "file", folder.parent / "other")
    for path in (folder, folder.parent / "other"):
        with _opened(path) as replicas:
            assert replicas.open("memory").log(_A) == expected
            assert replicas.history_kept_ms == FOREVER


def _damage(folder: Path) -> None:
    """Damage a piece of a history."""
    with lmdb.open(str(folder / "store"), max_dbs=8) as environment:
        database = environment.open_db(b"history")
        with environment.begin(write=True) as txn:
            keys = [bytes(key) for key, _ in txn.cursor(db=database) if bytes(key)[4:16] == _A.key]
            value = bytes(txn.get(keys[1], db=database) or b"")
            txn.put(keys[1], value[:-1] + b"?", db=database)


def test_a_damaged_piece_costs_no_scroll_and_is_said(folder: Path) -> None:
    with _opened(folder) as replicas:
        replica = replicas.open("memory")
        text, lines = replica[_A], replica.blame(_A)
    _damage(folder)
    problem = f"memory {_A}: a part of its history is damaged, not the scroll"
    assert check(folder).problems == (problem,)
    for _ in range(2):
        with _opened(folder) as replicas:
            replica = replicas.open("memory")
            assert replica[_A] == text
            assert replica.text_at(_A, 10**6) == text
            assert len(replica.log(_A)) < _MANY
            found = replica.blame(_A)
            assert [(line.text, line.writer) for line in found] == [
                (line.text, line.writer) for line in lines
            ]
            with pytest.raises(PhextsyncError, match="a part of it is damaged"):
                replica.text_at(_A, 1150)
        assert repair(folder, random=Random(3), now_ms=0).missing == ()
        assert check(folder).problems == ()


def test_a_damaged_history_begins_anew(folder: Path) -> None:
    _damage(folder)
    with _opened(folder) as replicas:
        replica, now_ms = replicas.open("memory"), replicas.author.now_ms()
        text = replica[_A]
        for i in range(_MANY):  # whatever is folded, the next histories are looked at
            replica.append(_B, f"{i}\n")
            replicas.commit()
        assert any("its history was damaged" in line for line in replicas.reports)
        assert replica.blame(_A)[0].time_ms is None
        assert replica.log(_A) == []
        assert replica[_A] == text
        with pytest.raises(PhextsyncError, match="before what is kept"):
            replica.text_at(_A, now_ms - 1)
    assert check(folder).problems == ()


def test_what_is_written_on_a_damaged_history_is_kept(folder: Path) -> None:
    _damage(folder)
    store, clock = LmdbStore(folder), Clock()
    replicas = _set_of(store, clock)
    clock.now_ms += 10 * _MANY
    texts = _write(replicas, clock, _MANY)
    replica = replicas.open("memory")
    assert [replica.text_at(_A, clock.now_ms - i) for i in range(20)] == texts[:-21:-1]
    store.close(clean=True)


def _refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise lmdb.CorruptedError("a page of the history")

    monkeypatch.setattr(lmdb_store, "put_history", refuse)


@pytest.mark.parametrize("kept_ms", [0, 7])
def test_a_setting_that_lmdb_refuses_is_said_and_given_up(folder: Path, kept_ms: int) -> None:
    with _opened(folder) as replicas:
        replicas.open("memory").append(_B, "written")
        replicas.keep_history(kept_ms)
        with pytest.MonkeyPatch.context() as monkeypatch:
            _refuse(monkeypatch)
            with pytest.raises(StoreError, match="could not be written"):
                replicas.commit()
        assert (replicas.history_kept_ms, replicas.durability.take()) == (FOREVER, None)
        replicas.keep_history(kept_ms)
        replicas.commit()
        assert replicas.history_kept_ms == kept_ms
    with _opened(folder) as replicas:
        assert replicas.open("memory")[_B] == "written"


def _check_past(replica: Replica, texts: list[str], from_ms: int) -> None:
    """What is told of the past is right: texts by time, and when lines were written."""
    for i, text in enumerate(texts):
        with suppress(PhextsyncError):
            assert replica.text_at(_A, from_ms + i) == text
    for line in replica.blame(_A):
        if line.time_ms is not None:
            i = line.time_ms - from_ms
            assert texts[i].count(line.text) == texts[i - 1].count(line.text) + 1


def test_nothing_wrong_is_told_of_what_lmdb_refused(folder: Path) -> None:
    clock = Clock()
    clock.now_ms = from_ms = 1000 + _MANY
    store = LmdbStore(folder)
    replicas = _set_of(store, clock)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _refuse(monkeypatch)
        texts = _write(replicas, clock, _MANY // 2)
    replica = replicas.open("memory")
    assert any("could not be written" in line for line in replicas.reports)
    with pytest.raises(PhextsyncError, match="a part of it is damaged"):
        replica.text_at(_A, from_ms)
    _check_past(replica, texts, from_ms)
    store.close(clean=True)
    with _opened(folder) as reopened:
        _check_past(reopened.open("memory"), texts, from_ms)


@pytest.mark.parametrize("is_disk_full", [False, True])
@pytest.mark.parametrize("other", [_A, _B])
def test_a_history_that_lmdb_refused_begins_anew(
    folder: Path, other: Coordinate, is_disk_full: bool
) -> None:
    store, clock = LmdbStore(folder), Clock()
    clock.now_ms = 1000 + _MANY
    replicas = _set_of(store, clock)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _refuse(monkeypatch)
        _write(replicas, clock, _MANY // 2)
    replica = replicas.open("memory")
    for _ in range(_MANY // 2):  # until logs were folded, of whatever scroll
        clock.now_ms += 1
        replica.append(other, "more\n")
        for _ in range(2 * is_disk_full):  # the second one folds the log
            replicas.durability.take()
            replicas.durability.refused(StoreFullError("no space left"))
        replicas.commit()
    from_ms = clock.now_ms
    texts = _write(replicas, clock, _MANY)
    assert [replica.text_at(_A, from_ms + i) for i in range(len(texts))] == texts
    with pytest.raises(PhextsyncError, match="before what is kept"):
        replica.text_at(_A, 1000 + _MANY)
    store.close(clean=True)


def test_a_history_that_lmdb_refuses_costs_no_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse(monkeypatch)
    clock = Clock()
    store = LmdbStore(folder)
    texts = _write(_set_of(store, clock), clock, _MANY)
    store.close(clean=True)
    assert not (folder / "closed").exists()  # the next start looks through the file
    with _opened(folder) as replicas:
        assert replicas.open("memory")[_A] == texts[-1]


def test_what_a_clock_that_was_set_back_hides_is_a_version_that_can_be_seen() -> None:
    clock = Clock()
    replicas = _set_of(MemoryStore(), clock)
    replicas.keep_history(FOREVER)
    replica = replicas.open("memory")
    texts = ["one\n", "one\ntwo\n", "one\nthree\n", "one\nthree\nfour\n", ""]
    for text, clock.now_ms in zip(texts, (9_000, 9_500, 2_000, 2_500, 3_000), strict=True):
        replica.edit(_A, text)
        replicas.commit()
    clock.now_ms = 4_000
    rows = replica.versions(_A)
    assert [row.time_ms for row in rows] == [9_000, 9_500, 9_501, 9_502, 9_503]
    assert [replica.text_at(_A, row.time_ms) for row in rows] == texts
    assert replica.past(_A).deleted_text() == texts[3]
