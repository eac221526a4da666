"""A replica is a mapping of coordinates to texts whose changes become durable in batches."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.crdt import Scroll
from phextsync.errors import (
    CoordinateError,
    PhextsyncError,
    ScrollError,
    StoreDamagedError,
    StoreFullError,
    TextError,
    UpdateError,
)
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, OpenText, covers
from phextsync.replica.changes import Change, writing_as
from phextsync.replica.clients import CLIENTS
from phextsync.replica.documents import Documents
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.pending import Pending
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch, LogEntry, Store
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.sync.limits import Limits
from phextsync.texts import STATE_BYTES_MAX, TEXT_BYTES_MAX
from tests.strategies import documents, near_coordinates

_A, _B = (Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in (1, 2))
_NODE = b"n" * 16


def _open(store: Store, seed: int = 0, **options: Any) -> ReplicaSet:
    return ReplicaSet(
        store, node_id=_NODE, random=Random(seed), wall_time_ms=lambda: 1234, **options
    )


@pytest.fixture
def replicas() -> ReplicaSet:
    return _open(MemoryStore())


@pytest.fixture
def replica(replicas: ReplicaSet) -> Replica:
    return replicas.open("memory")


def test_it_is_a_mapping_of_coordinates_or_their_texts(replica: Replica) -> None:
    replica["1.1.1/1.1.1/1.1.2"] = "two"
    replica[_A] = "one"
    assert replica["1.1.1;1.1.1;1.1.1"] == replica[_A] == "one"
    assert list(replica) == [_A, _B]
    assert len(replica) == 2
    assert _A in replica
    assert "9.9.9/9.9.9/9.9.9" not in replica
    assert 7 not in replica
    assert replica.pop(_A) == "one"
    assert list(replica.items()) == [(_B, "two")]
    with pytest.raises(KeyError):
        replica[_A]
    with pytest.raises(KeyError):
        del replica[_A]
    replica.clear()
    assert len(replica) == 0


def test_a_bad_coordinate_or_text_is_refused_and_changes_nothing(replica: Replica) -> None:
    replica[_A] = "text"
    with pytest.raises(CoordinateError):
        replica["1.1.1"] = "x"
    with pytest.raises(TextError, match="a scroll break"):
        replica[_A] = "a\x17b"
    with pytest.raises(TextError):
        replica[_B] = "\x01"
    with pytest.raises(TextError):
        replica.import_text(_B, "\x1f")
    assert dict(replica) == {_A: "text"}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "delete", "append", "import", "commit", "reopen", "tiny"]),
            near_coordinates,
            documents,
        ),
        max_size=30,
    ),
    st.sampled_from([0, 20_000, 64 << 20]),
)
def test_it_behaves_as_a_dict_whatever_is_committed_evicted_or_reopened(
    actions: list[tuple[str, Coordinate, str]], open_bytes_max: int
) -> None:
    store = MemoryStore()
    replicas = _open(store, open_bytes_max=open_bytes_max)
    model: dict[Coordinate, str] = {}
    for seed, (action, coordinate, text) in enumerate(actions):
        replica = replicas.open("memory")
        match action:
            case "set":
                replica[coordinate] = text
                model[coordinate] = text
            case "import":
                replica.import_text(coordinate, text)
                model[coordinate] = text
            case "append":
                replica.append(coordinate, text)
                model[coordinate] = model.get(coordinate, "") + text
            case "delete":
                replica.clear_scroll(coordinate)
                model[coordinate] = ""
            case "commit":
                replicas.commit()
            case "reopen":
                replicas.commit()
                store.close(clean=seed % 2 == 0)
                store = store.reopened()
                replicas = _open(store, seed, open_bytes_max=open_bytes_max)
        replica = replicas.open("memory")
        expected = {c: t for c, t in sorted(model.items()) if t}
        assert list(replica) == list(expected)
        assert len(replica) == len(expected)
        assert replica.size(coordinate) == len(expected.get(coordinate, "").encode())
    assert dict(replicas.open("memory").scrolls()) == expected if actions else True
    replicas.commit()
    index = replicas.open("memory").index
    index.check()
    for coordinate in index:
        replica = replicas.open("memory")
        assert index.fingerprint_of(coordinate) == replica.fingerprint(coordinate)


def test_scrolls_of_a_range_come_in_order_committed_or_not(
    replicas: ReplicaSet, replica: Replica
) -> None:
    for i in (5, 1, 3):
        replica[Coordinate(2, 1, 1, 1, 1, 1, 1, 1, i)] = str(i)
    replicas.commit()
    for i in (4, 2):
        replica[Coordinate(2, 1, 1, 1, 1, 1, 1, 1, i)] = str(i)
    replica[Coordinate(3, *[1] * 8)] = "outside"
    inside = CoordinateRange.parse("2.*")
    assert [text for _, text in replica.scrolls(inside)] == ["1", "2", "3", "4", "5"]


def test_the_nearest_scrolls_are_those_with_text_committed_or_not(replicas: ReplicaSet) -> None:
    replica = replicas.phext("near")
    places = [f"1.1.1/1.1.1/1.1.{i}" for i in range(1, 30)]
    for i, place in enumerate(places):
        replica[place] = "x"
        if i == 20:
            replicas.commit()
    del replica[places[2]]  # committed with text, and has none now
    del replica[places[27]]  # never was committed
    at = Coordinate.parse(places[4])

    def sorted_all(itself: bool) -> list[tuple[int, Coordinate]]:
        filled = [c for c in replica if itself or c != at]
        return sorted((abs(c.parts[8] - 5), c) for c in filled)

    for _ in range(2):
        for itself in (True, False):
            for count in (0, 1, 5, 26, 27, 28, 1000):
                assert replica.near(at, count, itself=itself) == sorted_all(itself)[:count]
        assert replica.near(at, 2, "1.1.1/1.1.1/1.1.9..") == [
            (4, Coordinate.parse(places[8])),
            (5, Coordinate.parse(places[9])),
        ]
        replicas.commit()


def test_texts_versions_and_fingerprints_of_closed_scrolls_open_nothing() -> None:
    store = MemoryStore()
    before = _open(store)
    before.open("memory").import_text(_A, "imported")
    before.open("memory")[_B] = "typed"
    before.commit()
    replicas = _open(store)
    replica = replicas.open("memory")
    assert dict(replica.scrolls()) == {_A: "imported", _B: "typed"}
    for coordinate in (_A, _B):
        assert replica.version(coordinate) == before.open("memory").version(coordinate)
        assert replica.fingerprint(coordinate) == before.open("memory").fingerprint(coordinate)
    assert replicas.budget.bytes == 0
    replica.append(_A, " and edited")
    replica.import_text("1.1.1/1.1.1/1.1.3", "new")
    assert [text for _, text in replica.scrolls()] == ["imported and edited", "typed", "new"]


def test_nothing_is_in_the_index_before_it_is_durable(
    replicas: ReplicaSet, replica: Replica
) -> None:
    replica[_A] = "text"
    assert _A not in replica.index
    batch = replicas.durability.take()
    assert batch is not None
    assert _A not in replica.index
    assert replica[_A] == "text"
    replicas.store.commit(batch)
    replicas.durability.written()
    assert replica.index.fingerprint_of(_A) == replica.fingerprint(_A)
    assert replica.uncommitted() == ()


def test_changes_say_where_and_from_whom_and_a_batch_is_one_change(replica: Replica) -> None:
    seen: list[Change] = []
    stop = replica.subscribe(seen.append, CoordinateRange.of(_A))
    replica[_A] = "one"
    replica[_B] = "outside the range"
    with replica.batch():
        replica.append(_A, "two")
        replica.append(_A, "three")
        assert len(seen) == 1
    replica.publish((_A, _B), b"p" * 16)
    stop()
    replica[_A] = "unseen"
    assert seen == [
        Change("memory", (_A,), None),
        Change("memory", (_A,), None),
        Change("memory", (_A,), b"p" * 16),
    ]


def test_a_subscriber_that_fails_is_reported_and_harms_nobody(
    replicas: ReplicaSet, replica: Replica
) -> None:
    def fail(change: Change) -> None:
        raise RuntimeError("boom")

    replica.subscribe(fail)
    replica[_A] = "text"
    assert replica[_A] == "text"
    assert "boom" in replicas.reports[0]


class _FailingStore(MemoryStore):
    """Refuses commits while `is_full`."""

    is_full = False

    def commit(self, batch: Batch) -> None:
        if self.is_full:
            raise StoreFullError("no space left")
        super().commit(batch)


def test_a_full_disk_keeps_what_was_edited_and_refuses_more_until_there_is_space() -> None:
    store = _FailingStore()
    replicas = _open(store)
    replica = replicas.open("memory")
    replica[_A] = "before\n"
    replicas.commit()
    store.is_full = True
    replica.append(_A, "kept\n")
    replica[_B] = "kept too"
    replica.import_text(Coordinate(*[9] * 9), "imported")
    with pytest.raises(StoreFullError):
        replicas.commit()
    with pytest.raises(StoreFullError, match="refused the last write"):
        replica.append(_A, "refused")
    with pytest.raises(StoreFullError):
        replicas.commit()
    store.is_full = False
    replicas.commit()
    replica.append(_A, "after\n")
    replicas.commit()
    again = _open(store.reopened()).open("memory")
    assert again[_A] == "before\nkept\nafter\n"
    assert again[_B] == "kept too"
    assert again[Coordinate(*[9] * 9)] == "imported"


def test_opening_looks_at_few_scrolls_that_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def look(documents: Documents, coordinate: Coordinate, opened: OpenText) -> bool:
        nonlocal looks
        looks += 1
        return close(documents, coordinate, opened)

    close = Documents.close_if_unpinned
    monkeypatch.setattr(Documents, "close_if_unpinned", look)
    replica = _open(MemoryStore(), open_bytes_max=0).open("memory")
    for i in range(1, 500):
        replica[Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i)] = "not yet durable"
    assert looks < 10 * 500


def test_open_scrolls_stay_within_their_budget_and_unstored_ones_are_never_closed() -> None:
    replicas = _open(MemoryStore(), open_bytes_max=50_000)
    replica = replicas.open("memory")
    for i in range(1, 60):
        replica[Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i)] = f"text {i}"
    assert replicas.budget.bytes > 50_000  # all of them are pinned
    replicas.commit()
    assert replicas.budget.bytes <= 50_000
    for i in range(1, 60):
        assert replica[Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i)] == f"text {i}"
        assert replicas.budget.bytes <= 60_000


def test_what_was_written_and_deleted_in_an_open_scroll_counts_against_the_budget() -> None:
    replicas, others = _open(MemoryStore()), _open(MemoryStore(), 2)
    scrolls = replicas.open("memory"), others.open("memory")
    before = 0
    for number in range(400):
        writer, reader = scrolls if number % 2 else scrolls[::-1]
        writer[_A] = "".join(Random(number).choices("abcdef", k=50))
        for entry in writer.news(_A):
            reader.apply(_A, entry)
        replicas.commit()
        others.commit()
        before = before or replicas.budget.bytes
    assert replicas.budget.bytes > before + 400 * 60
    counted = replicas.budget.bytes
    replicas.budget.bytes_max = counted - 1
    scrolls[0][_A] = "once more"
    replicas.commit()
    replicas.commit()
    assert replicas.budget.bytes < counted // 2  # closed
    assert scrolls[0][_A] == "once more"


def test_a_log_is_folded_into_the_state_when_it_outgrows_it(replicas: ReplicaSet) -> None:
    replica = replicas.open("memory")
    sizes = []
    for i in range(300):
        replica.append(_A, f"line {i}\n")
        replicas.commit()
        stored = replicas.store.read("memory", _A.key)
        assert stored is not None
        sizes.append(len(stored.log))
    assert 0 in sizes[10:]
    assert max(sizes) < 250


def test_a_damaged_scroll_is_set_aside_and_reported_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    replicas = _open(store)
    replicas.open("memory")[_A] = "text"
    replicas.commit()
    replicas = _open(store.reopened())

    def read(phext: str, key: bytes) -> None:
        raise StoreDamagedError(f"{phext} {Coordinate.from_key(key)}: its bytes are damaged")

    monkeypatch.setattr(replicas.store, "read", read)
    replica = replicas.open("memory")
    with pytest.raises(StoreDamagedError, match=r"memory 1\.1\.1/1\.1\.1/1\.1\.1"):
        replica[_A]
    assert _A not in replica
    assert _A not in replica.index
    assert "set aside" in replicas.reports[-1]


def test_a_scroll_that_was_set_aside_is_written_under_another_client_id() -> None:
    store = MemoryStore()
    replicas = _open(store)
    replicas.open("memory")[_A] = "text"
    replicas.commit()
    lost = replicas.open("memory").version(_A)
    store.damage("memory", _A.key)
    store.close(clean=True)
    replicas = _open(store.reopened(), seed=1)
    with pytest.raises(StoreDamagedError):
        replicas.open("memory")[_A]
    replicas.open("memory")[_A] = "else"
    assert not covers(replicas.open("memory").version(_A), lost)


def test_who_only_takes_updates_of_peers_tells_nobody_of_a_client_id() -> None:
    replicas, peer = _open(MemoryStore()), _open(MemoryStore(), seed=1).open("memory")
    for line in ("one", "two"):
        before = peer.version(_A)
        peer.append(_A, line)
        update = peer.difference(_A, before)
        assert update is not None
        replicas.open("memory").apply(_A, LogEntry(update, _NODE, 0))
    assert len(replicas.open(CLIENTS)) == 0
    replicas.open("memory").append(_A, "three")
    assert len(replicas.open(CLIENTS)) == 1


def test_what_others_write_costs_no_client_id() -> None:
    replicas, peer = _open(MemoryStore()), _open(MemoryStore(), seed=1).open("memory")
    replica = replicas.open("memory")
    replica[_B] = "ours"  # from now on there is a client id
    for number in range(20):
        before = peer.version(_A)
        peer.append(_A, f"{number}\n")
        update = peer.difference(_A, before)
        assert update is not None
        replica.apply(_A, LogEntry(update, _NODE, 0))
        replica.append(_B, ".")
    assert len(replicas.open(CLIENTS)) == 1
    assert not replicas.reports
    alone = _open(MemoryStore(), seed=2).open("memory")
    alone[_B] = "ours" + 20 * "."
    assert len(replica.version(_B)) == len(alone.version(_B))


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_a_glance_tells_the_text_of_a_scroll_that_is_stored(
    is_on_disk: bool, tmp_path: Path
) -> None:
    store = LmdbStore(tmp_path) if is_on_disk else MemoryStore()
    replicas = _open(store)
    replica = replicas.open("memory")
    assert replica.glance(_A) == ""
    for text in ("text", "text and more"):
        replica[_A] = text
        assert replica.glance(_A) is None
        replicas.commit()
        replica.close_documents()
        assert replica.glance(_A) == text
    store.close(clean=True)


def test_a_glance_at_a_scroll_that_moves_meanwhile_says_nothing(
    replicas: ReplicaSet, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = _open(MemoryStore(), seed=1).open("memory")
    peer[_A] = "text"
    replica.apply(_A, LogEntry(peer.difference(_A, EMPTY_VERSION) or b"", _NODE, 0))
    assert replicas.durability.take() is not None

    def miss(_: Pending, __: object) -> bool:
        """Look first where it is not yet, then where it is not any more."""
        replicas.durability.refused(StoreFullError("full"))
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Pending, "__contains__", miss)
        assert replica.glance(_A) is None  # in no place that was looked at, and not absent
    assert replica[_A] == "text"


def test_after_a_commit_that_failed_a_scroll_is_written_whole() -> None:
    replicas = _open(MemoryStore(), open_bytes_max=0)
    replica = replicas.open("memory")
    replica[_A] = "one\n"
    replicas.commit()
    replica.append(_A, "two\n")
    assert replicas.durability.take() is not None
    for number in range(3, 9):
        replica[Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number)] = (
            "others are opened, and there is no room"
        )
    replicas.durability.refused(StoreFullError("full"))
    batch = replicas.durability.take()
    assert batch is not None
    (write,) = (write for _, write in batch.writes if write.key == _A.key)
    assert write.state is not None
    assert write.log == ()


def test_a_peers_update_is_taken_although_the_disk_is_full_and_there_is_no_client_id() -> None:
    replicas = _open(MemoryStore())
    replicas.open("other")[_A] = "text"
    replicas.durability.take()
    replicas.durability.refused(StoreFullError("full"))
    replica, peer = replicas.open("memory"), _open(MemoryStore(), seed=1).open("memory")
    for line in ("one", "two"):
        before = peer.version(_A)
        peer.append(_A, line)
        update = peer.difference(_A, before)
        assert update is not None
        assert replica.apply(_A, LogEntry(update, _NODE, 0)).covered
    assert replica[_A] == "onetwo"


def test_an_update_that_shows_our_client_id_used_elsewhere_is_taken_into_the_scroll() -> None:
    store = MemoryStore()
    replicas = _open(store)
    replica = replicas.open("memory")
    replica[_A] = "ours\n"
    replicas.commit()  # its document is open, and may be closed
    client_id = replica.statistics().client_id
    assert client_id is not None
    before, state = replica.version(_A), replica.difference(_A, EMPTY_VERSION)
    assert state is not None
    twin = Scroll(_A, client_id, [state])
    twin.append("theirs\n")
    update = twin.difference(before)
    assert update is not None
    replica.apply(_A, LogEntry(update, _NODE, 0), 1)
    used = f"memory: client id {client_id} was used elsewhere; took another"
    assert replicas.reports[-1] == used
    replicas.commit()
    assert replica[_A] == "ours\ntheirs\n"
    assert replica.index.fingerprint_of(_A) == replica.fingerprint(_A)
    replica.append(_A, "more\n")
    replicas.commit()
    assert replica.statistics().client_id != client_id
    assert _open(store.cloned()).open("memory")[_A] == "ours\ntheirs\nmore\n"


def test_a_client_id_is_used_again_only_after_a_clean_stop() -> None:
    store = MemoryStore()
    replicas = _open(store)
    replicas.open("memory")[_A] = "text"
    replicas.commit()
    first = store.lease("memory")
    assert first is not None
    store.close(clean=True)
    assert store.reopened().lease("memory") == first
    assert store.cloned().lease("memory") is None
    crashed = store.reopened()
    assert crashed.reopened().lease("memory") is None


def test_the_phext_of_client_ids_says_which_node_wrote(
    replicas: ReplicaSet, replica: Replica
) -> None:
    replica[_A] = "text"
    replicas.commit()
    lines = list(replicas.open(CLIENTS).values())
    assert lines == [f"{replicas.store.lease('memory')} {_NODE.hex()} memory\n"]


def test_updates_carry_their_author_and_time(replicas: ReplicaSet, replica: Replica) -> None:
    seen: list[NewUpdate] = []
    replicas.listen(ReplicaListener(on_update=seen.append))
    replica[_A] = "text"
    replicas.commit()
    stored = replicas.store.read("memory", _A.key)
    assert stored is not None
    own = [new for new in seen if new.phext == "memory"]
    assert [(e.origin, e.time_ms) for e in stored.log] == [(_NODE, 1234)]
    assert [new.entry for new in own] == list(stored.log)


def _update_of(text: str) -> bytes:
    source = _open(MemoryStore(), 99).open("memory")
    source[_A] = "x"
    source[_A] = text
    update = source.difference(_A, b"\0\0")
    assert update is not None
    return update


def test_the_plain_state_of_an_unknown_scroll_is_taken_without_a_document(
    replicas: ReplicaSet,
) -> None:
    source = _open(MemoryStore(), 99).open("memory")
    source.import_text(_A, "imported text")
    state = source.difference(_A, b"\0\0")
    assert state is not None
    replica = replicas.open("memory")
    assert replica.apply(_A, LogEntry(state, b"", 0)).covered
    assert replicas.budget.bytes == 0
    replicas.commit()
    assert replicas.budget.bytes == 0
    assert replica.index.fingerprint_of(_A) == source.fingerprint(_A)
    assert replica[_A] == "imported text"


@pytest.mark.parametrize("writer", ["", "agent"])
@pytest.mark.parametrize("is_committed", [False, True])
def test_no_edit_makes_a_text_larger_than_peers_take_for_sure(
    monkeypatch: pytest.MonkeyPatch,
    replicas: ReplicaSet,
    replica: Replica,
    is_committed: bool,
    writer: str,
) -> None:
    monkeypatch.setattr("phextsync.texts.TEXT_BYTES_MAX", 400)
    text = 99 * "日\n" + "ends"
    doors: list[Callable[[], object]] = [
        lambda: replica.append(_A, "x"),
        lambda: replica.insert(_A, 0, "日"),
        lambda: replica.edit(_A, 401 * "x"),
        lambda: replica.edit_from(_A, text, f"before\n{text}"),
        lambda: replica.splice(_A, [(0, 1, "long"), (2, 2, "x")]),
        lambda: replica.replace(_A, "日", "four", None),
        lambda: replica.import_text(_A, f"{text}more"),
        lambda: replica.import_text(_A, text.replace("\n", "\r\n")),
        lambda: replica.import_text(_B, 140 * "日"),
        lambda: replica.edit(_B, 401 * "x"),
    ]
    with writing_as(writer):
        replica[_A] = text
        assert replica.size(_A) == 400
        if is_committed:
            replicas.commit()
        version = replica.version(_A)
        for door in doors:
            with pytest.raises(
                TextError, match=r"at most 400 bytes, found \d+; part it over sever"
            ):
                door()
            assert (dict(replica), replica.version(_A)) == ({_A: text}, version)
        replica.replace(_A, "ends", "stop")
        replica.import_unknown(_B, 400 * "x")
    replicas.commit()
    assert dict(replica) == {_A: 99 * "日\n" + "stop", _B: 400 * "x"}
    monkeypatch.setattr("phextsync.texts.TEXT_BYTES_MAX", 200)
    replica.replace(_A, "stop", "ends")
    replica.delete(_A, 0, 2)
    with pytest.raises(TextError, match="at most 200 bytes, found 397;"):
        replica.append(_A, "x")
    assert replica[_A] == 98 * "日\n" + "ends"


@pytest.mark.parametrize("is_known", [False, True])
def test_what_came_before_an_edit_that_failed_is_committed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, replicas: ReplicaSet, replica: Replica, is_known: bool
) -> None:
    if is_known:
        replica.append(_A, "stored, ")
        replicas.commit()
    replica.append(_A, "waits")
    text, fingerprint = replica[_A], replica.fingerprint(_A)

    def fail(*_: object) -> bytes:
        raise ScrollError("its document failed")

    monkeypatch.setattr(Scroll, "append", fail)
    with pytest.raises(ScrollError):
        replica.append(_A, "x")
    replicas.commit()  # nobody has looked at the scroll since
    assert replica.index.fingerprint_of(_A) == fingerprint
    assert (replica[_A], replica.index.size_of(_A)) == (text, len(text))


def test_what_is_undone_makes_no_text_too_large_either(
    monkeypatch: pytest.MonkeyPatch, replica: Replica
) -> None:
    monkeypatch.setattr("phextsync.texts.TEXT_BYTES_MAX", 400)
    replica[_A] = 300 * "x"
    with replica.history(_A) as history:
        replica.clear_scroll(_A)
        with writing_as("other"):
            replica[_A] = 300 * "y"
        with pytest.raises(TextError, match="at most 400 bytes, found 600;"):
            history.undo()
        assert (replica[_A], history.can_undo, history.can_redo) == (300 * "y", True, False)
        with writing_as("other"):
            replica.delete(_A, 0, 200)
        assert history.undo()
        assert (replica[_A].count("x"), replica[_A].count("y")) == (300, 100)
        with writing_as("other"):
            replica.delete(_A, replica[_A].index("y"), replica[_A].index("y") + 100)
        assert history.redo()
        assert (replica.get(_A, ""), history.can_undo) == ("", True)
    other = _open(MemoryStore(), 99).open("memory")
    state = replica.difference(_A, EMPTY_VERSION)
    assert state is not None
    assert other.apply(_A, LogEntry(state, b"p" * 16, 0)).covered
    assert other.fingerprint(_A) == replica.fingerprint(_A)


@pytest.mark.parametrize("writer", ["", "agent"])
def test_an_edit_that_is_refused_loses_no_step(
    monkeypatch: pytest.MonkeyPatch, replicas: ReplicaSet, replica: Replica, writer: str
) -> None:
    monkeypatch.setattr("phextsync.texts.TEXT_BYTES_MAX", 100)
    replica[_A] = "one\n"
    with writing_as(writer), replica.history(_A) as history:
        replica[_A] = "two\n"
        replica.append(_A, "three\n")
        updates: list[NewUpdate] = []
        replicas.listen(ReplicaListener(on_update=updates.append))
        doors: list[Callable[[], object]] = [
            lambda: replica.edit(_A, "two\r\nthree\r\n0123456789" + 90 * "x"),
            lambda: replica.edit_from(_A, "two\n", "two\r\n0123456789" + 90 * "x"),
            lambda: replica.splice(_A, [(0, 1, "x"), (2, 2, 100 * "x")]),
            lambda: replica.replace(_A, "t", 100 * "x", None),
            lambda: replica.insert(_A, 0, 100 * "x"),
            lambda: replica.append(_A, 100 * "x"),
            lambda: replica.import_text(_A, "two\r\nthree\r\n0123456789" + 90 * "x"),
            lambda: replica.import_text(_A, 101 * "x", by_lines=True),
            lambda: replica.import_text(_A, 101 * "x", by_lines=True, version_bytes_max=0),
        ]
        for door in doors:
            with pytest.raises(TextError, match="expected a text of at most 100 bytes"):
                door()
            assert (replica[_A], updates) == ("two\nthree\n", [])
        assert history.undo()
        assert replica[_A] == "two\n"
        assert history.undo()
        assert (replica[_A], history.undo()) == ("one\n", False)


def test_what_peers_bring_is_taken_however_large(
    monkeypatch: pytest.MonkeyPatch, replica: Replica
) -> None:
    sources = [_open(MemoryStore(), seed).open("memory") for seed in (98, 99)]
    for source in sources:
        source.append(_A, 300 * "x")
    monkeypatch.setattr("phextsync.texts.TEXT_BYTES_MAX", 200)
    for source in sources:
        update = source.difference(_A, EMPTY_VERSION)
        assert update is not None
        assert replica.apply(_A, LogEntry(update, b"p" * 16, 0)).changed
    assert len(replica[_A]) >= 600
    with pytest.raises(TextError):
        replica.append(_A, "x")


def _limit_states(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("editor", "writes"):
        monkeypatch.setattr(f"phextsync.replica.{module}.STATE_BYTES_MAX", 8000)
    monkeypatch.setattr("phextsync.replica.writes.TEXT_BYTES_MAX", 4000)
    monkeypatch.setattr("phextsync.replica.editor._LARGE_BYTES", 4000)
    monkeypatch.setattr("phextsync.replica.editor._EDIT_BYTES", 1000)


def _state_bytes(replica: Replica) -> int:
    return len(replica.difference(_A, EMPTY_VERSION) or b"")


@pytest.mark.parametrize("writer", ["", "agent"])
def test_no_edit_makes_the_state_of_a_scroll_larger_than_peers_take(
    monkeypatch: pytest.MonkeyPatch, replicas: ReplicaSet, replica: Replica, writer: str
) -> None:
    _limit_states(monkeypatch)
    told = r"^1\.1\.1/1\.1\.1/1\.1\.1: with all that was done to it it has \d+ bytes, and peers ta"
    replica[_A] = 3000 * "-"
    with writing_as(writer), replica.history(_A) as history:
        with pytest.raises(TextError, match=told):  # noqa: PT012, which of them is not known
            for count in range(10_000):
                replica.insert(_A, 0, "x")
                if count % 100 == 0:
                    replicas.commit()
        before, size = replica[_A], _state_bytes(replica)
        assert (history.can_undo, 7000 < size <= 8000) == (True, True)
        for text in (before + 1000 * "y", "y" + before):
            with pytest.raises(TextError, match=told):
                replica[_A] = text
        assert (replica[_A], _state_bytes(replica), history.can_undo) == (before, size, True)
        replicas.commit()
        assert not any("peers take" in report for report in replicas.reports)
        assert history.undo()
    assert replica[_A] == before[1:]
    replicas.commit()
    replica[_B] = replica[_A]
    replica.clear_scroll(_A)
    replicas.commit()
    assert _state_bytes(replica) < size - 1000
    replica[_A] = "new"


def test_an_edit_that_is_seen_afterwards_to_make_a_state_too_large_did_nothing(
    monkeypatch: pytest.MonkeyPatch, replicas: ReplicaSet, replica: Replica
) -> None:
    _limit_states(monkeypatch)
    replica[_A] = 6000 * "x"
    replicas.commit()
    for _ in range(2):
        with pytest.raises(TextError, match="it has 9"):
            replica.insert(_A, 0, 3000 * "y")
        assert replica[_A] == 6000 * "x"
    replica.insert(_A, 0, 1000 * "y")
    sources = [_open(MemoryStore(), seed).open("memory") for seed in (97, 98, 99)]
    for source in sources:
        source[_A] = 1000 * "z"
        update = source.difference(_A, EMPTY_VERSION)
        assert update is not None
        if source is sources[0]:
            with pytest.raises(TextError, match="it has 8"):
                replica.merge(_A, update)
        assert replica.apply(_A, LogEntry(update, b"p" * 16, 0)).changed
    replicas.commit()
    assert [report for report in replicas.reports if "peers take at most" in report] == [
        f"memory {_A}: with all that was done to it it has {_state_bytes(replica)} bytes, and peers"
        " take at most 67108864; copy its text to another scroll and clear this one"
    ]


def test_a_text_that_may_be_written_fits_into_what_peers_put_together() -> None:
    assert Limits().scroll_bytes_max == STATE_BYTES_MAX == 2 * TEXT_BYTES_MAX


def test_garbage_is_refused_and_leaves_no_scroll_behind(
    replicas: ReplicaSet, replica: Replica
) -> None:
    with pytest.raises(UpdateError):
        replica.apply(_A, LogEntry(b"\xff\xff\xff", b"", 0))
    assert _A not in replica
    replicas.commit()
    assert replicas.store.phexts() == []


def test_a_document_that_failed_is_made_anew_from_the_store_and_what_is_pending(
    monkeypatch: pytest.MonkeyPatch, replicas: ReplicaSet, replica: Replica
) -> None:
    replica[_A] = "stored\n"
    replicas.commit()
    replica.append(_A, "pending\n")
    from phextsync.crdt import Scroll

    def fail(scroll: Scroll, update: bytes) -> None:
        raise ScrollError("its document failed")

    with monkeypatch.context() as patched:
        patched.setattr(Scroll, "apply", fail)
        with pytest.raises(ScrollError):
            replica.apply(_A, LogEntry(_update_of("other"), b"p" * 16, 0))
    whole = replica.difference(_A, EMPTY_VERSION)
    assert whole is not None
    assert Scroll(_A, 1, [whole]).text == "stored\npending\n"
    assert replica[_A] == "stored\npending\n"
    replicas.commit()
    assert replica[_A] == "stored\npending\n"


def test_a_phext_is_made_by_its_first_scroll_and_not_by_who_reads_or_follows_it() -> None:
    replicas = _open(MemoryStore(), phexts_max=3)
    made: list[str] = []
    replicas.listen(ReplicaListener(on_open=made.append))
    told: list[Change] = []
    other = replicas.phext("other")
    other.subscribe(told.append)
    assert replicas.phext("other") is other
    assert other.get(_A) is None
    other[_A] = ""
    assert (made, replicas.names(), replicas.durability.take()) == ([], [], None)
    other[_A] = "text"
    assert "other" in made
    assert replicas.names() == [CLIENTS, "other"]
    assert replicas.open("other") is replicas.phext("other") is other
    assert [change.coordinates for change in told] == [(_A,)]


def test_a_phext_beyond_the_bound_may_be_read_and_is_not_made() -> None:
    replicas = _open(MemoryStore(), phexts_max=2)
    late = replicas.phext("late")
    replicas.phext("one")[_A] = "text"
    for write in (late.append, late.import_text):
        with pytest.raises(PhextsyncError, match="at most 2 phexts, found another: 'late'"):
            write(_A, "text")
    assert late.get(_A) is None
    assert replicas.names() == [CLIENTS, "one"]
    kept = [late, replicas.phext("later")]
    with pytest.raises(PhextsyncError, match="at most 2 phexts to be followed that do not exist"):
        replicas.phext("latest")
    del kept, late
    assert replicas.phext("latest").get(_A) is None


@pytest.mark.parametrize("name", ["", "a/b", "x" * 300])
def test_a_bad_name_for_a_phext_is_refused(replicas: ReplicaSet, name: str) -> None:
    with pytest.raises(PhextsyncError, match="expected the name of a phext"):
        replicas.open(name)


_edits: list[Callable[[Replica], None]] = [
    lambda replica: replica.insert(_A, 1, "é"),
    lambda replica: replica.delete(_A, 0, 2),
    lambda replica: replica.edit(_A, "entirely new"),
]


@pytest.mark.parametrize("edit", _edits)
def test_a_replica_on_the_same_store_reads_what_was_committed(
    edit: Callable[[Replica], None],
) -> None:
    store = MemoryStore()
    replicas = _open(store)
    replica = replicas.open("memory")
    replica[_A] = "日本語 text"
    edit(replica)
    replicas.commit()
    assert _open(store.reopened(), 5).open("memory")[_A] == replica[_A]
