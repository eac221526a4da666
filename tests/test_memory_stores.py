"""Memory stores as scrolls: what a record says, what ids mean, and what two write apart."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.agents.memory_stores import MemoryStores, versions_of
from phextsync.agents.store_records import (
    RECORDS,
    STORES,
    MissingError,
    StoreRecord,
    memory_id,
    new_parts,
    parts_of,
    place_of,
    range_of,
    read,
    record_place,
    store_id,
    text_of,
    version_id,
    version_of,
)
from phextsync.errors import NotHeldError, PermissionDeniedError, PhextsyncError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.trust.permissions import Permissions
from phextsync.web.memory_json import store_json

_PARTS = (2, 3, 4)
_PLACE = Coordinate(2, 3, 4, 1, 1, 2, 7, 8, 999)
_texts = st.text(st.characters(exclude_categories=["Cs"]))


class _Machine:
    """The stores of one machine, whose clock goes on by a second whenever it is asked."""

    def __init__(self, number: int) -> None:
        self._now_ms = 1_700_000_000_000
        self.replicas = ReplicaSet(
            MemoryStore(),
            node_id=bytes([number]) * 16,
            random=Random(number),
            wall_time_ms=self._ms,
        )
        self.stores = MemoryStores(self.replicas)

    def _ms(self) -> int:
        self._now_ms += 1000
        return self._now_ms

    def hear(self, other: "_Machine") -> None:
        mine, theirs = self.replicas.phext(STORES), other.replicas.phext(STORES)
        for place in theirs.uncommitted():
            update = theirs.difference(place, mine.version(place))
            if update is not None:
                mine.merge(place, update)


def _pair() -> tuple[_Machine, _Machine, str]:
    """Return two machines that know one store."""
    one, other = _Machine(1), _Machine(2)
    made = one.stores.create_store("notes", "", {})
    other.hear(one)
    return one, other, store_id(made.parts)


@given(
    _texts.filter(bool),
    _texts,
    st.dictionaries(_texts, _texts),
    st.integers(0, 1 << 50),
    st.integers(0, 1000),
    st.none() | st.integers(0, 1 << 50),
)
def test_a_record_is_read_as_it_was_written(
    name: str, about: str, pairs: dict[str, str], created: int, more: int, archived: int | None
) -> None:
    record = StoreRecord(_PARTS, name, created, created + more, about, pairs, archived)
    assert read(_PARTS, text_of(record)) == record


@given(
    st.text()
    | st.builds(
        "\n".join,
        st.lists(
            st.sampled_from(
                [
                    "name",
                    "name 1",
                    'name "a"',
                    'name "b"',
                    "created -1",
                    "created 5",
                    "created true",
                    "updated 1e999",
                    'metadata "a" "b"',
                    'metadata "a',
                    "metadata 1 2",
                    "archived null",
                    "[" * 9999,
                    "name " + "[" * 99_999,
                    'name "\\ud800"',
                    'metadata "\\udfff" "b"',
                    "created 4503599627370495",
                ]
            )
        ),
    )
)
def test_any_text_is_a_record_or_none(text: str) -> None:
    found = read(_PARTS, text)
    if found is not None:
        assert found.name
        json.dumps(store_json(found), ensure_ascii=False).encode()  # as a door tells of it


def test_an_id_says_where_its_scroll_lies_and_no_other_text_does() -> None:
    store = StoreRecord(_PARTS, "x", 0, 0)
    assert parts_of(store_id(_PARTS)) == _PARTS
    assert place_of(memory_id(_PLACE), store) == _PLACE
    assert version_of(version_id(_PLACE, 12), store) == (_PLACE, 12)
    for text in ("", "memstore_1", "memstore_001001001", "memstore_002000001", "mem_002003004"):
        with pytest.raises(MissingError):
            parts_of(text)
    elsewhere = memory_id(Coordinate(2, 3, 5, 1, 1, 2, 7, 8, 999))
    for text in ("", elsewhere, "mem_" + "0" * 27, store_id(_PARTS), memory_id(_PLACE) + "\n"):
        with pytest.raises(MissingError):
            place_of(text, store)


@given(st.text(), st.binary(min_size=16, max_size=16), st.integers(0, 1 << 60))
def test_a_new_store_lies_outside_of_the_records(name: str, node_id: bytes, now_ms: int) -> None:
    parts = new_parts(name, node_id, now_ms, 0)
    assert range_of(parts).intersect(RECORDS) is None
    assert record_place(parts) in RECORDS
    assert parts_of(store_id(parts)) == parts


def test_what_two_change_of_a_store_apart_both_counts() -> None:
    one, other, id_ = _pair()
    one.stores.update_store(one.stores.store(id_), "Anna's", None, {"a": "1"})
    other.stores.update_store(other.stores.store(id_), None, "about tea", {"b": "2"})
    one.hear(other)
    other.hear(one)
    assert one.stores.store(id_) == other.stores.store(id_)
    found = one.stores.store(id_)
    assert (found.name, found.description, found.metadata) == (
        "Anna's", "about tea", {"a": "1", "b": "2"},
    )  # fmt: skip


def test_of_two_lines_of_one_name_the_greater_counts() -> None:
    lines = ['name "a"', 'name "b"', "updated 900", "updated 1000", "created 5", "created 40"]
    for order in (lines, lines[::-1]):
        found = read(_PARTS, "\n".join(order))
        assert found is not None
        assert (found.name, found.created_ms, found.updated_ms) == ("b", 40, 1000)


def test_two_who_name_a_store_apart_agree_on_one_name() -> None:
    one, other, id_ = _pair()
    one.stores.update_store(one.stores.store(id_), "Anna's", None, {})
    other.stores.update_store(other.stores.store(id_), "Bea's", None, {})
    one.hear(other)
    other.hear(one)
    assert one.stores.store(id_) == other.stores.store(id_)
    assert one.stores.store(id_).name == "Bea's"


def test_two_who_make_a_memory_of_one_path_apart_have_one_with_the_lines_of_both() -> None:
    one, other, id_ = _pair()
    for machine, text in ((one, "of one\n"), (other, "of the other\n")):
        machine.stores.create(machine.stores.store(id_), "/d/a", text)
    one.hear(other)
    other.hear(one)
    (memory,) = one.stores.memories(one.stores.store(id_))
    assert [memory] == other.stores.memories(other.stores.store(id_))
    lines = one.stores.text(memory).text.splitlines()
    assert sorted(lines) == ["of one", "of the other"]


@pytest.mark.parametrize("path", ["/a/b", "/.a"])
def test_what_cannot_be_made_is_named_as_its_writer_did(path: str) -> None:
    stores = _Machine(1).stores
    store = stores.create_store("notes", "", {})
    stores.create(store, "/a", "x")
    with pytest.raises(PhextsyncError, match=r"^(expected a folder at /a,|/\.a is left alone)"):
        stores.create(store, path, "x")


def test_a_memory_that_is_made_again_goes_on_with_its_versions() -> None:
    one, _, id_ = _pair()
    store = one.stores.store(id_)
    memory = one.stores.create(store, "/a", "one\n")
    one.stores.delete(memory)
    again = one.stores.create(store, "/a", "two\n")
    assert again.place == memory.place
    rows = versions_of(one.stores.past(memory.place))
    assert [row.operation for row in rows] == ["created", "deleted", "created"]


def test_history_is_kept_where_nothing_else_is_set() -> None:
    one, other, id_ = _pair()
    assert [row.kept_ms for row in one.replicas.history_settings()] == [0, 30 * 86_400_000]
    other.replicas.keep_history(5, STORES)
    other.stores.store(id_)
    assert [row.kept_ms for row in other.replicas.history_settings()] == [0, 5]


def test_a_store_that_is_not_held_here_is_not_taken_for_empty() -> None:
    one, _, id_ = _pair()
    one.replicas.hold(STORES, [RECORDS])
    one.replicas.commit()
    with pytest.raises(NotHeldError):
        one.stores.store(id_)


def test_where_this_node_may_not_write_nothing_is_made() -> None:
    one, _, id_ = _pair()
    elsewhere = {STORES: (CoordinateRange.parse("999.*"),)}
    one.replicas.permissions = Permissions({STORES: (EVERYTHING,)}, elsewhere)
    with pytest.raises(PermissionDeniedError):
        one.stores.create(one.stores.store(id_), "/a", "one\n")
    assert one.stores.memories(one.stores.store(id_)) == []
