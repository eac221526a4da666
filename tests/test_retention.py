"""Where history is kept and for how long: settings of the folder and of ranges."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.control.upkeep import backup, repair, restore
from phextsync.errors import PhextsyncError, StoreFullError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.history_keeper import HistorySetting
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.past import FOREVER
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Store
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.store.records import KEPT, seal
from phextsync.store.retention import NEVER_MS, NO_HISTORY, RANGES_MAX, Kept, KeptRange, Retention

_A = Coordinate(*[1] * 9)
_B = Coordinate(*[2] * 9)
_TWO = CoordinateRange.parse("2.*")
_MANY = 100  # lines: a log is folded


def _key(number: int) -> bytes:
    return number.to_bytes(12, "big")


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = MemoryStore() if request.param == "memory" else LmdbStore(tmp_path)
    yield made
    made.close(clean=True)


def _set_of(store: Store, clock: Callable[[], int] = lambda: 1000) -> ReplicaSet:
    return ReplicaSet(store, node_id=b"n" * 16, random=Random(1), wall_time_ms=clock)


def _write_and_delete(replicas: ReplicaSet, place: Coordinate, label: str) -> None:
    """Import a text, add lines until the log is folded, and empty the scroll."""
    replica = replicas.open("memory")
    replica.import_text(place, f"{label} imported\n")
    replicas.commit()
    for i in range(_MANY):
        replica.append(place, f"{label} {i} {'.' * 40}\n")
    replicas.commit()
    replica.clear_scroll(place)
    replicas.commit()


# -- what counts where ---------------------------------------------------------------------

_Where = tuple[str, bytes, bytes | None]
_ENDS = st.integers(0, 12)
_WHERES = st.builds(
    lambda phext, lower, size: (phext, _key(lower), _key(lower + size) if size else None),
    st.sampled_from(["a", "b"]),
    _ENDS,
    st.integers(0, 6),
)
_SETTINGS = st.lists(
    st.tuples(st.sampled_from([None, 0, 5, 5, 9]), st.one_of(st.none(), _WHERES)), max_size=12
)


def _size(where: _Where) -> int:
    upper = 1 << 96 if where[2] is None else int.from_bytes(where[2], "big")
    return upper - int.from_bytes(where[1], "big")


def _holds(where: _Where, phext: str, key: bytes) -> bool:
    return where[0] == phext and where[1] <= key and (where[2] is None or key < where[2])


@given(_SETTINGS)
def test_the_smallest_range_counts_and_history_began_where_it_was_not_kept(
    settings: list[tuple[int | None, _Where | None]],
) -> None:
    places = [(phext, _key(number)) for phext in "abc" for number in range(20)]
    retention = NO_HISTORY
    general_ms, ranges = 0, dict[_Where, int]()
    expected = dict.fromkeys(places, Kept(0, NEVER_MS))
    for now_ms, (kept_ms, where) in enumerate(settings, 1):
        retention = retention.changed(kept_ms, where, now_ms)
        if where is None:
            general_ms = general_ms if kept_ms is None else kept_ms
        elif kept_ms is None:
            ranges.pop(where, None)
        else:
            ranges[where] = kept_ms
        for place in places:
            holding = [(_size(w), -ms) for w, ms in ranges.items() if _holds(w, *place)]
            ms = -min(holding)[1] if holding else general_ms
            before = expected[place]
            since = before.began_ms if before.kept_ms else now_ms
            expected[place] = Kept(ms, since) if ms else Kept(0, NEVER_MS)
    assert {place: retention.of(*place) for place in places} == expected
    for phext, key in places:
        gaps = [
            upper is None or key < upper for lower, upper in retention.gaps(phext) if lower <= key
        ]
        assert any(gaps) == (expected[phext, key].kept_ms == 0)
    general = Retention(retention.kept_ms, retention.began_ms)
    assert general.with_ranges(retention.encode_ranges()) == retention


def test_settings_that_came_and_went_do_not_grow_without_end() -> None:
    left = tuple(
        (_key(number) if number else b"", Kept(9, number)) for number in range(4 * RANGES_MAX)
    )
    retention = Retention(9, 1, (), {"memory": left})
    where = ("memory", _key(10**6), None)
    assert len(retention.changed(None, where, 10**6).steps["memory"]) == len(left)
    retention = retention.changed(7, where, 10**6)
    assert retention.steps["memory"] == ((b"", Kept(9, 10**6)), (where[1], Kept(7, 10**6)))


def test_one_range_too_many_is_refused() -> None:
    ranges = [KeptRange("a", _key(i), _key(i + 1), 7) for i in range(RANGES_MAX)]
    retention = Retention(0, NEVER_MS, tuple(ranges))
    assert len(retention.changed(9, ranges[0].where, 1).ranges) == RANGES_MAX
    with pytest.raises(PhextsyncError, match="at most 1000 ranges"):
        retention.changed(7, ("other", _key(0), None), 1)


# -- as replicas keep it -------------------------------------------------------------------


def test_a_range_keeps_its_history_from_the_first_batch_and_others_none(store: Store) -> None:
    replicas = _set_of(store)
    replicas.keep_history(FOREVER, "memory", "2.*")
    for place in (_A, _B):
        _write_and_delete(replicas, place, "text")
    replica = replicas.open("memory")
    assert len(replica.log(_B)) == 2 + _MANY
    assert len(replica.log(_A)) < _MANY
    assert store.histories(None, 9) == [("memory", _B.key)]
    assert replicas.open("other").past(_B).kept.kept_ms == 0


def test_a_setting_and_the_writes_of_its_batch_are_one(store: Store) -> None:
    replicas = _set_of(store)
    replicas.keep_history(FOREVER, "memory", _TWO)
    replica = replicas.open("memory")
    replica.import_text(_B, "imported\n")
    for i in range(_MANY):  # more than the imported state: folded at once
        replica.append(_B, f"{i} {'.' * 60}\n")
    batch = replicas.durability.take()
    assert batch is not None
    replicas.durability.refused(StoreFullError("no space left"))
    assert replicas.durability.is_changed
    replicas.commit()
    assert len(replica.log(_B)) == 1 + _MANY


def test_a_range_without_history_forgets_what_was_kept_there(store: Store) -> None:
    replicas = _set_of(store)
    replicas.keep_history(FOREVER)
    for place in (_A, _B):
        _write_and_delete(replicas, place, "text")
    replicas.keep_history(0, "memory", _TWO)
    replicas.commit()
    assert [key for phext, key in store.histories(None, 9) if phext == "memory"] == [_A.key]
    assert len(replicas.open("memory").log(_A)) == 2 + _MANY


def test_each_range_is_pruned_by_its_own_setting(store: Store) -> None:
    now_ms = [1000]
    replicas = _set_of(store, lambda: now_ms[0])
    replicas.keep_history(100)
    replicas.keep_history(FOREVER, "memory", _TWO)
    for place in (_A, _B):
        _write_and_delete(replicas, place, "text")
    now_ms[0] += 1000
    replicas.keep_history(101)
    replicas.commit()
    assert list(store.pieces("memory", _A.key)) == [0]
    assert list(store.pieces("memory", _B.key)) == [1]
    assert len(replicas.open("memory").log(_B)) == 2 + _MANY


def test_history_that_begins_again_does_not_claim_what_lies_before(store: Store) -> None:
    now_ms = [1000]
    replicas = _set_of(store, lambda: now_ms[0])
    replicas.keep_history(FOREVER)
    replicas.keep_history(0, "memory", _TWO)
    _write_and_delete(replicas, _B, "not kept")
    replicas.open("memory").rewrite(_B)
    replicas.commit()
    now_ms[0] = 2000
    replicas.keep_history(None, "memory", _TWO)
    replicas.commit()
    now_ms[0] = 3000
    replica = replicas.open("memory")
    assert replica.text_at(_B, 2000) == ""
    with pytest.raises(PhextsyncError, match="before what is kept"):
        replica.text_at(_B, 1500)


def test_to_set_what_is_set_changes_nothing(store: Store) -> None:
    replicas = _set_of(store)
    dirty = list[bool]()
    replicas.keep_history(7, "memory", _TWO)
    replicas.commit()
    replicas.listen(ReplicaListener(on_dirty=lambda: dirty.append(True)))
    replicas.keep_history(7, "memory", "2.*")
    replicas.keep_history(9, "memory", _TWO, unless_set=True)
    assert (dirty, replicas.durability.take()) == ([], None)
    replicas.keep_history(9, "memory", _TWO)
    assert dirty == [True]
    assert replicas.history_settings() == [
        HistorySetting(None, EVERYTHING, 0),
        HistorySetting("memory", _TWO, 9),
    ]
    replicas.keep_history(None, "memory", _TWO)
    replicas.commit()
    assert store.history == NO_HISTORY


@pytest.mark.parametrize(
    ("kept_ms", "phext", "range_"),
    [(-1, None, "*"), (FOREVER + 1, "memory", "*"), (None, None, "*"), (7, None, "2.*")],
)
def test_a_setting_that_cannot_be_is_refused(
    kept_ms: int | None, phext: str | None, range_: str
) -> None:
    replicas = _set_of(MemoryStore())
    with pytest.raises(PhextsyncError, match="expected"):
        replicas.keep_history(kept_ms, phext, range_)
    with pytest.raises(PhextsyncError, match="name of a phext"):
        replicas.keep_history(7, "\n")
    assert not replicas.durability.is_changed


# -- on disk -------------------------------------------------------------------------------


def test_settings_of_ranges_outlive_starts_repairs_and_backups(tmp_path: Path) -> None:
    folder, other = tmp_path / "data", tmp_path / "other"
    folder.mkdir()
    store = LmdbStore(folder)
    replicas = _set_of(store)
    replicas.keep_history(FOREVER, "memory", _TWO)
    _write_and_delete(replicas, _B, "text")
    expected, rows = store.history, replicas.open("memory").log(_B)
    store.close(clean=True)
    repair(folder, random=Random(3), now_ms=0)
    backup(folder, tmp_path / "file")
    restore(tmp_path / "file", other)
    for path in (folder, other):
        opened = LmdbStore(path)
        assert opened.history == expected
        assert _set_of(opened).open("memory").log(_B) == rows
        opened.close(clean=True)


def test_a_folder_with_the_one_setting_of_older_versions_keeps_it(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    _write_and_delete(_set_of(store), _A, "text")
    store.close(clean=True)
    with lmdb.open(str(tmp_path / "store"), max_dbs=9) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as txn:
            txn.delete(b"policy", db=meta)
            txn.put(b"history", seal(b"meta", b"history", KEPT.pack(700, 30)), db=meta)
    opened = LmdbStore(tmp_path)
    replicas = _set_of(opened)
    assert opened.history == Retention(700, 30)
    assert opened.history.of("memory", _A.key) == Kept(700, 30)
    replicas.keep_history(FOREVER, "memory", _TWO)
    replicas.commit()
    opened.close(clean=True)
    reopened = LmdbStore(tmp_path)
    assert reopened.history.of("memory", _A.key) == Kept(700, 30)
    assert reopened.history.of("memory", _B.key).kept_ms == FOREVER
    reopened.close(clean=True)
