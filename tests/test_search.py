"""Search finds what is durable, ranks it, and follows every change; its file may vanish."""

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync import (
    Coordinate,
    CoordinateRange,
    MemoryStore,
    PhextsyncError,
    ReplicaSet,
    StoreError,
    ranking,
    search,
)
from phextsync.boundaries import Boundary
from phextsync.index import EVERYTHING
from phextsync.search import FILE_NAME, Hit, Row, SearchIndex
from phextsync.searching import Indexer, Searcher, find_alone
from phextsync.words import query
from tests.strategies import near_coordinates, texts

_A, _B, _C = (Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in (1, 2, 3))
_MARK = bytes(32)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SearchIndex]:
    opened = SearchIndex(tmp_path / FILE_NAME)
    yield opened
    opened.close()


def _replicas() -> ReplicaSet:
    return ReplicaSet(MemoryStore(), node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0)


@pytest.fixture
def replicas() -> ReplicaSet:
    return _replicas()


def _found(index: SearchIndex, words: str, phext: str = "n") -> list[Coordinate]:
    return [hit.coordinate for hit in index.find(words, phext)]


def _put(index: SearchIndex, *scrolls: tuple[Coordinate, str], phext: str = "n") -> None:
    index.put(phext, [(c.key, _MARK, text) for c, text in scrolls])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("milk", [_A, _B]),
        ("MILK bread", [_A]),
        ("brea*", [_A, _C]),
        ('"the milk"', [_B]),
        ("milk -bread", [_A]),
        ("cafe", [_C]),
        ("AND OR NOT NEAR( ^ : {", []),
        ('"unbalanced milk', []),
        ('"', []),
        ("", []),
    ],
)
def test_words_find_scrolls(index: SearchIndex, words: str, found: list[Coordinate]) -> None:
    _put(
        index,
        (_A, "milk, bread"),
        (_B, "remember the milk of the cow in the field by the house"),
        (_C, "breakfast at the café"),
    )
    assert _found(index, words) == found


def test_a_hit_shows_the_words_where_they_stand(index: SearchIndex) -> None:
    _put(index, (_A, "far " * 100 + "Remember the milk " + "away " * 100))
    (hit,) = index.find("milk", "n")
    assert "Remember the [milk] away" in hit.snippet
    assert len(hit.snippet) < 150
    assert hit.score > 0


def test_rare_words_and_short_texts_rank_first(index: SearchIndex) -> None:
    _put(index, (_A, "milk " + "other words " * 50), (_B, "milk"), (_C, "milk milk"))
    assert _found(index, "milk")[-1] == _A


def test_only_the_phext_and_the_range_are_searched(index: SearchIndex) -> None:
    _put(index, (_A, "milk"), (_B, "milk"))
    _put(index, (_C, "milk"), phext="other")
    assert _found(index, "milk", "other") == [_C]
    assert [h.coordinate for h in index.find("milk", "n", CoordinateRange(_B, None))] == [_B]
    assert [h.coordinate for h in index.find("milk", "n", CoordinateRange(None, _B))] == [_A]
    assert len(index.find("milk", "n", limit=1)) == 1


def _all(path: Path, asked: str, phext: str) -> list[tuple[float, bytes, int]]:
    """Return what a query for all of a phext finds, the best first."""
    place = (phext, *EVERYTHING.to_keys()[:1], search.KEY_END)
    with closing(sqlite3.connect(path)) as connection:
        values = (*place, query(asked).match, 10_000)
        return connection.execute(ranking._FIND.format(""), values).fetchall()


_SOUGHT = [
    "milk",
    "milk | cow",
    "milk bread",
    "brea* | milk",
    "milk | bread | cow | tea",
    "cow | cow | tea",
    "milk bread | tea",
    '"milk milk" | cow',
    "nowhere | tea | milk",
    "牛乳 | milk",
    "乳 | 牛 | tea",
]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("nm"),
            near_coordinates,
            st.lists(
                st.sampled_from(["milk"] * 5 + ["bread", "bread", "cow", "tea", "牛乳", "乳牛"]),
                min_size=1,
                max_size=4,
            ),
        ),
        max_size=40,
    ),
    st.sampled_from(_SOUGHT),
    st.tuples(near_coordinates, near_coordinates),
    st.integers(1, 9),
    st.sampled_from([(1, 0), (1, 1), (4, 1), (64, 4)]),
    st.sampled_from([0, 1_000]),
)
def test_what_is_found_is_what_a_query_for_all_finds_in_the_same_order(
    scrolls: list[tuple[str, Coordinate, list[str]]],
    asked: str,
    ends: tuple[Coordinate, Coordinate],
    limit: int,
    taken_first: tuple[int, int],
    apart_min: int,
) -> None:
    ranges = [
        EVERYTHING,
        CoordinateRange(min(ends), max(ends).successor()),
        CoordinateRange(ends[0], None),
    ]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_BEST_MIN", taken_first[0])
        patch.setattr(ranking, "_BEST_PER_HIT", taken_first[1])
        patch.setattr(ranking, "_APART_MIN", apart_min)
        path = Path(folder) / FILE_NAME
        with closing(SearchIndex(path)) as index:
            for number, (phext, coordinate, words) in enumerate(scrolls):
                if number == 20:  # words are counted now, and more is written then
                    index.find(asked, phext)
                _put(index, (coordinate, " ".join(words)), phext=phext)
            for phext in "nm":
                rows = _all(path, asked, phext)
                for range_ in ranges:
                    all_ = [(Coordinate.from_key(key), -mark) for mark, key, _ in rows]
                    expected = [each for each in all_ if each[0] in range_][:limit]
                    hits = index.find(asked, phext, range_, limit)
                    assert [(hit.coordinate, hit.score) for hit in hits] == expected


def _many(index: SearchIndex, source: Random, count: int) -> None:
    """Put in scrolls with words some of which are frequent."""
    rows = [
        (Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 900, 1 + i % 900), _frequent(source, 8))
        for i in range(count)
    ]
    _put(index, *rows)


def _frequent(source: Random, count: int) -> str:
    return " ".join(f"w{int(500 ** source.random())}" for _ in range(count))


def test_of_many_scrolls_few_are_ranked_and_the_same_are_found(
    index: SearchIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Random(1)
    _many(index, source, 3_000)
    asked: list[str] = []
    find = ranking._Best.__call__

    def note(best: ranking._Best, match: str, limit: int) -> list[ranking.Ranked]:
        asked.append(match)
        return find(best, match, limit)

    monkeypatch.setattr(ranking._Best, "__call__", note)
    for number in range(60):
        words = " | ".join(dict.fromkeys(_frequent(source, 1 + number % 4).split()))
        expected = [(key, -mark) for mark, key, _ in _all(tmp_path / FILE_NAME, words, "n")]
        limit = source.choice([1, 6, 20, 3_000])
        hits = index.find(words, "n", limit=limit)
        assert [(hit.coordinate.key, hit.score) for hit in hits] == expected[:limit]
    asked.clear()
    index.find("w1 | w40", "n", limit=6)
    assert asked == ['("w1" AND "w40")', '("w40") NOT ("w1")']


def test_counts_of_words_are_taken_again_when_others_write_or_much_has_changed(
    index: SearchIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_APART_MIN", 0)
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 301)]

    def check(best: str) -> None:
        expected = [key for _, key, _ in _all(tmp_path / FILE_NAME, "milk | cow", "n")]
        for limit in (1, 300):
            hits = index.find("milk | cow", "n", limit=limit)
            assert [hit.coordinate.key for hit in hits] == expected[:limit]
            assert hits[0].snippet == best

    with closing(SearchIndex(tmp_path / FILE_NAME)) as other:
        for writer in (index, other, index):
            _put(writer, *((place, "milk") for place in places), (_A, "cow"), (_B, "cow milk"))
            check("[cow]")
            _put(writer, *((place, "cow") for place in places), (_A, "milk"), (_B, "cow milk"))
            check("[milk]")


def test_a_rough_answer_has_the_best_of_those_that_were_put_in_last(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_NEWEST_MAX", 5)
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 101)]
    _put(index, (places[0], "milk"), *((place, "milk and bread") for place in places[1:]))
    _put(index, *((place, "milk") for place in reversed(places)), phext="other")
    assert _found(index, "milk")[0] == places[0]
    assert _found(index, "milk ~") == places[95:]
    assert [h.coordinate for h in index.find("~ milk", "n", CoordinateRange(None, places[9]))] == (
        places[4:9]
    )


def test_a_rough_answer_ends_with_the_set_of_words_that_takes_the_last_of_the_marks(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_NEWEST_MAX", 5)
    monkeypatch.setattr(ranking, "_APART_MIN", 0)
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 101)]
    texts = ["milk tea", "milk", "tea", "cow", "sun", "sun", "sun", "sun"]
    _put(index, *((place, texts[i % 8]) for i, place in enumerate(places)))
    assert _found(index, "milk | tea | cow ~") == places[64::8]


def test_a_rough_answer_leaves_out_words_of_half_of_all_scrolls_beside_others(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 101)]
    _put(index, *((place, "milk") for place in places), (_A, "milk cow"), (_C, "cow"))
    assert _found(index, "milk | cow ~")[:2] == [_C, _A]
    assert len(_found(index, "milk | cow ~")) == 20
    monkeypatch.setattr(ranking, "_APART_MIN", 0)
    assert _found(index, "milk | cow ~") == [_C, _A]
    assert len(_found(index, "milk | nowhere ~")) == 20


@pytest.mark.parametrize("limit", [1, 20, 100])
def test_of_scrolls_that_are_as_good_the_first_by_coordinate_are_found(
    index: SearchIndex, limit: int
) -> None:
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 701)]
    _put(index, *((place, "milk") for place in reversed(places)))
    assert [hit.coordinate for hit in index.find("milk", "n", limit=limit)] == places[:limit]


def test_a_text_is_replaced_and_removed(index: SearchIndex) -> None:
    _put(index, (_A, "milk"))
    _put(index, (_A, "bread"))
    assert (_found(index, "milk"), _found(index, "bread")) == ([], [_A])
    index.remove("n", [_A.key, _B.key])
    assert _found(index, "bread") == []
    assert index.fingerprints("n", b"", b"\xff") == {}


def test_the_file_is_readable_by_its_owner_alone(index: SearchIndex, tmp_path: Path) -> None:
    assert stat.S_IMODE(os.stat(tmp_path / FILE_NAME).st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / FILE_NAME
    index = SearchIndex(path)
    _put(index, (_A, "milk"))
    index.close()
    path.write_bytes(damage)
    index = SearchIndex(path)
    assert index.phexts() == []
    _put(index, (_A, "milk"))
    assert _found(index, "milk") == [_A]
    index.close()


def test_a_page_that_is_damaged_while_the_index_is_open_costs_only_the_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / FILE_NAME
    index = SearchIndex(path)
    _put(
        index, *((Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i), f"milk {i} " * 50) for i in range(1, 200))
    )
    index.close()
    whole = bytearray(path.read_bytes())
    whole[8192:] = os.urandom(len(whole) - 8192)
    index = SearchIndex(path)
    path.write_bytes(whole)
    assert _found(index, "milk") in ([], [_A]) or "built again" in caplog.text
    _put(index, (_A, "bread"))
    assert _found(index, "bread") == [_A]
    index.close()


# -- following replicas --------------------------------------------------------------------


def _expected(replicas: ReplicaSet, word: str) -> list[Coordinate]:
    return [c for c, text in replicas.open("n").scrolls() if word in text.split()]


async def test_what_is_there_and_what_has_gone_is_found_at_the_start(
    index: SearchIndex, replicas: ReplicaSet
) -> None:
    _put(index, (_A, "old"), (_B, "gone"), (_C, "cleared"))
    _put(index, (_A, "forgotten"), phext="forgotten")
    replica = replicas.open("n")
    replica[_A] = "new"
    replica[_C] = "x"
    del replica[_C]
    replicas.commit()
    await Indexer(replicas, index).catch_up()
    assert _found(index, "new") == [_A]
    assert not any(_found(index, word) for word in ("old", "gone", "cleared"))
    assert not _found(index, "forgotten", "forgotten")
    assert replicas.names() == [".clients", "n"]


async def test_what_is_indexed_as_it_is_is_not_read_again(
    index: SearchIndex, replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = replicas.open("n")
    replica.update({_A: "milk", _B: "bread"})
    replicas.commit()
    await Indexer(replicas, index).catch_up()
    replica[_B] = "butter"
    replicas.commit()
    read: list[bytes] = []
    put = SearchIndex.put

    def note(index: SearchIndex, phext: str, rows: list[tuple[bytes, bytes, str]]) -> None:
        read.extend(key for key, _, _ in rows)
        put(index, phext, rows)

    monkeypatch.setattr(SearchIndex, "put", note)
    await Indexer(replicas, index).catch_up()
    assert read == [_B.key]


async def test_what_this_node_has_ceased_to_hold_is_not_found(
    index: SearchIndex, replicas: ReplicaSet
) -> None:
    replica = replicas.open("n")
    replica.update({_A: "milk", _B: "bread"})
    replicas.commit()
    indexer = Indexer(replicas, index)
    await indexer.catch_up()
    replicas.hold("n", [str(_A)])
    for range_ in replicas.holding.hold("n").leaving:
        assert replicas.holding.drop("n", [range_])
    replica.leave()
    while replicas.durability.is_changed:
        replicas.commit()
    await indexer.refresh()
    assert (_found(index, "milk"), _found(index, "bread")) == ([_A], [])


async def test_changes_are_followed_once_they_are_durable(
    index: SearchIndex, replicas: ReplicaSet
) -> None:
    indexer = Indexer(replicas, index)
    await indexer.catch_up()
    replica = replicas.open("n")
    replica[_A] = "milk"
    await indexer.refresh()
    assert _found(index, "milk") == []
    replicas.commit()
    await indexer.refresh()
    assert _found(index, "milk") == [_A]
    del replica[_A]
    replicas.commit()
    await indexer.refresh()
    assert _found(index, "milk") == []


@asynccontextmanager
async def _searching(replicas: ReplicaSet, folder: Path) -> AsyncIterator[Searcher]:
    searcher = Searcher(replicas, folder, Boundary(logging.getLogger()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(searcher.run)
        yield searcher
        nursery.cancel_scope.cancel()


async def _hits(searcher: Searcher, words: str) -> list[Coordinate]:
    return [hit.coordinate for hit in await searcher.find(words, "n", EVERYTHING, limit=9)]


async def test_each_search_sees_what_was_durable_when_it_was_asked(
    replicas: ReplicaSet, tmp_path: Path
) -> None:
    replica = replicas.open("n")
    async with _searching(replicas, tmp_path) as searcher:
        for number in range(20):
            replica.append(_A, f"word{number}\n")
            replicas.commit()
            assert await _hits(searcher, f"word{number}") == [_A]
        assert replica.statistics().subscribers == 1
    assert not replica.statistics().subscribers


def _damage(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        connection.execute("DELETE FROM texts_data")


async def test_what_a_damaged_index_had_is_found_again_by_the_search_that_meets_it(
    replicas: ReplicaSet, tmp_path: Path
) -> None:
    replica = replicas.open("n")
    replica.update({_A: "milk", _B: "bread"})
    replicas.commit()
    async with _searching(replicas, tmp_path) as searcher:
        assert await _hits(searcher, "milk") == [_A]
        _damage(tmp_path)
        assert await _hits(searcher, "bread") == [_B]
        _damage(tmp_path)
        replica[_C] = "milk"  # now the one that writes meets it
        replicas.commit()
        assert await _hits(searcher, "milk") == [_A, _C]


def test_a_search_where_no_node_runs_finds_all_in_place_of_a_damaged_index(
    replicas: ReplicaSet, tmp_path: Path
) -> None:
    replica = replicas.open("n")
    replica.update({_A: "milk", _B: "bread"})
    replicas.commit()
    for _ in range(2):
        found = find_alone(replicas, tmp_path, "milk", "n", EVERYTHING, limit=9)
        assert [hit.coordinate for hit in found] == [_A]
        _damage(tmp_path)


@pytest.mark.parametrize("times", [1, 9])
def test_a_search_finds_what_another_that_has_read_an_older_store_takes_out(
    replicas: ReplicaSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    older, find, left = _replicas(), SearchIndex.find, iter(range(times))
    for known in (older, replicas):
        known.open("n").update({_A: "milk"})
    replicas.open("n").update({_A: "bread and milk", _B: "bread"})

    def find_late(index: SearchIndex, *arguments: Any) -> list[Hit]:
        if next(left, None) is not None:  # between what this one indexes and what it finds
            with closing(SearchIndex(tmp_path / FILE_NAME)) as other:
                trio.run(Indexer(older, other).catch_up)
        return find(index, *arguments)

    for known in (older, replicas):
        known.commit()
    monkeypatch.setattr(SearchIndex, "find", find_late)
    found = find_alone(replicas, tmp_path, "bread", "n", EVERYTHING, limit=9)
    assert sorted(hit.coordinate for hit in found) == [_A, _B]


def test_searches_of_many_processes_write_one_index_and_harm_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i), "milk") for i in range(1, 100)]
    SearchIndex(tmp_path / FILE_NAME).close()
    begin = threading.Barrier(4)

    def write() -> None:  # as a process does, with a connection of its own
        begin.wait()
        with closing(SearchIndex(tmp_path / FILE_NAME)) as index:
            for row in rows:
                _put(index, row)

    with ThreadPoolExecutor(4) as pool:
        for written in [pool.submit(write) for _ in range(4)]:
            written.result()
    with closing(SearchIndex(tmp_path / FILE_NAME)) as index:
        assert len(index.find("milk", "n", limit=999)) == len(rows)
    assert not caplog.records


def test_who_finds_the_index_in_use_waits_for_a_minute(tmp_path: Path) -> None:
    with closing(SearchIndex(tmp_path / FILE_NAME)) as index:
        waits_ms = index._do(lambda connection: connection.execute("PRAGMA busy_timeout"))
        assert waits_ms.fetchone() == (60_000,)


def _is_there(folder: Path) -> bool:
    return (folder / FILE_NAME).exists()


async def test_a_search_asked_while_the_index_is_written_waits_for_the_next_time(
    replicas: ReplicaSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, gate, put = trio.Event(), threading.Event(), SearchIndex.put

    def wait(index: SearchIndex, phext: str, rows: list[Row]) -> None:
        trio.from_thread.run_sync(writing.set)
        gate.wait()
        put(index, phext, rows)

    replica = replicas.open("n")
    async with _searching(replicas, tmp_path) as searcher, trio.open_nursery() as nursery:
        await _hits(searcher, "milk")
        monkeypatch.setattr(SearchIndex, "put", wait)
        replica[_A] = "milk"
        replicas.commit()
        await writing.wait()
        replica[_B] = "milk"
        replicas.commit()
        nursery.start_soon(trio.to_thread.run_sync, _let_pass, gate)
        assert await _hits(searcher, "milk") == [_A, _B]


def _let_pass(gate: threading.Event) -> None:
    """Open the gate from a thread, after the task that starts it has gone on to wait."""
    trio.from_thread.run(trio.testing.wait_all_tasks_blocked)
    gate.set()


async def test_nothing_is_indexed_until_it_is_wanted(replicas: ReplicaSet, tmp_path: Path) -> None:
    async with _searching(replicas, tmp_path) as searcher:
        await trio.testing.wait_all_tasks_blocked()
        assert not _is_there(tmp_path)
        await _hits(searcher, "milk")
        assert _is_there(tmp_path)


async def test_a_search_that_cannot_be_made_fails_alone_and_is_tried_again(
    replicas: ReplicaSet, tmp_path: Path
) -> None:
    replicas.open("n")[_A] = "milk"
    replicas.commit()
    (tmp_path / FILE_NAME).mkdir()
    async with _searching(replicas, tmp_path) as searcher:
        for _ in range(2):
            with pytest.raises(StoreError, match="search index cannot be opened: unable to open"):
                await _hits(searcher, "milk")
        (tmp_path / FILE_NAME).rmdir()
        assert await _hits(searcher, "milk") == [_A]


async def test_a_limit_is_bounded(replicas: ReplicaSet, tmp_path: Path) -> None:
    with pytest.raises(PhextsyncError, match="expected a limit from 1 to 10000, found -1"):
        await Searcher(replicas, tmp_path, Boundary(logging.getLogger())).find(
            "milk", "n", EVERYTHING, limit=-1
        )


def test_a_folder_that_does_not_take_the_file_is_said_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened: No such file or directory") as refused:
        SearchIndex(tmp_path / "missing" / FILE_NAME)
    assert "missing" not in str(refused.value)


def test_half_a_character_is_in_no_text_and_parts_words(index: SearchIndex) -> None:
    _put(index, (_A, "milk bread"))
    assert _found(index, "\ud800") == []
    assert _found(index, "milk\udfffbread") == [_A]


def test_a_closed_index_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    index = SearchIndex(tmp_path / FILE_NAME)
    _put(index, (_A, "milk"))
    index.close()
    with pytest.raises(StoreError, match="was closed"):
        index.find("milk", "n")
    index = SearchIndex(tmp_path / FILE_NAME)
    assert _found(index, "milk") == [_A]
    index.close()


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(near_coordinates, st.sampled_from(["", "milk", "bread", "milk bread"]) | texts),
        max_size=12,
    ),
    st.sampled_from([1, 2, 4096]),
)
def test_any_history_is_indexed_as_it_ends(
    edits: list[tuple[Coordinate, str]], window: int
) -> None:
    replicas = _replicas()
    with TemporaryDirectory() as folder:
        index = SearchIndex(Path(folder) / FILE_NAME)
        for number, (coordinate, text) in enumerate(edits):
            replicas.open("n").edit(coordinate, text)
            if number % 4 == 0:
                replicas.commit()
                trio.run(Indexer(replicas, index, window).catch_up)
        replicas.commit()
        trio.run(Indexer(replicas, index, window).catch_up)
        for word in ("milk", "bread"):
            assert sorted(_found(index, word)) == _expected(replicas, word)
        index.close()


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(near_coordinates, st.sampled_from(["", "milk", "bread"])), max_size=12),
    st.integers(1, 5),
    st.sampled_from([0, 1, 100]),
)
def test_an_index_that_follows_has_what_is_durable_however_much_changed(
    edits: list[tuple[Coordinate, str]], every: int, changes_max: int
) -> None:
    async def follow(replicas: ReplicaSet, index: SearchIndex) -> None:
        indexer = Indexer(replicas, index, changes_max=changes_max)
        await indexer.catch_up()
        for number, (coordinate, text) in enumerate(edits):
            replicas.open("n").edit(coordinate, text)
            if number % every == 0:
                await indexer.refresh()
            if number % 3 == 0:
                replicas.commit()
        replicas.commit()
        await indexer.refresh()

    replicas = _replicas()
    with TemporaryDirectory() as folder:
        index = SearchIndex(Path(folder) / FILE_NAME)
        trio.run(follow, replicas, index)
        for word in ("milk", "bread"):
            assert sorted(_found(index, word)) == _expected(replicas, word)
        index.close()
