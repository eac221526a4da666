"""Texts read in one pass over sealed values: the same as by the long way, or not told."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.crdt import Scroll, import_update
from phextsync.index import Coordinate, plain_text, sealed_text
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch, LogEntry, ScrollWrite
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.store.records import HEAD, HEADS, LOGS, STATES, content_of, seal, write_entry

_A, _B, _C = (Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in (1, 2, 3))
_PLACE = b"\0\0\0\1" + _A.key
_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    st.integers(200, 300).map(lambda size: "~" * size),
)


def _sealed(state: bytes, log: tuple[bytes, ...] = ()) -> tuple[bytes, bytes]:
    sealed = seal(STATES, _PLACE, state)
    head = HEAD.pack(b"f" * 32, 7, content_of(sealed, log))
    return seal(HEADS, _PLACE, head), sealed


def _state(text: str, edits: int) -> bytes:
    scroll = Scroll(_A, 7, [import_update(_A.key, text)] if edits != 1 else [])
    if edits:
        scroll.append(text)
    if edits == 2:
        scroll.delete(0, 1)
    return scroll.state()


@given(_TEXTS, st.integers(0, 2))
def test_a_sealed_text_is_what_the_long_way_tells(text: str, edits: int) -> None:
    state = _state(text, edits)
    plain = plain_text(state)
    expected = None if plain is None else plain.decode()
    assert sealed_text(_PLACE, *_sealed(state)) == expected
    if edits < 2:
        assert edits == 0 or expected is not None


@given(_TEXTS, st.integers(min_value=0), st.integers(0, 7))
def test_one_bit_that_is_not_right_is_noticed(text: str, where: int, bit: int) -> None:
    head, state = _sealed(_state(text, 0))
    whole = bytearray(_PLACE + head + state)
    whole[where % len(whole)] ^= 1 << bit
    place, rest = bytes(whole[:16]), bytes(whole[16:])
    assert sealed_text(place, rest[: len(head)], rest[len(head) :]) is None


@pytest.mark.parametrize("size", [0, 7, 8, 9, 24, 25, 51, 52, 53])
def test_values_of_any_size_are_taken(size: int) -> None:
    head, state = _sealed(_state("text", 0))
    assert sealed_text(_PLACE, head, state[: min(size, len(state) - 1)]) is None
    assert sealed_text(_PLACE, state[:size], state) is None
    assert sealed_text(_PLACE[: min(size, 15)], head, state) is None


@pytest.mark.parametrize("size", range(280))
def test_states_of_any_size_have_the_checksum_that_the_library_gives(size: int) -> None:
    text = "~" * (size + 1)
    assert sealed_text(_PLACE, *_sealed(import_update(_A.key, text))) == text


def test_a_log_that_the_head_names_is_not_left_out() -> None:
    entry = seal(LOGS, _PLACE + bytes(4), write_entry(LogEntry(b"update", b"n" * 16, 1)))
    assert sealed_text(_PLACE, *_sealed(_state("text", 0), (entry,))) is None


def test_a_store_tells_texts_or_leaves_it_to_reading(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    state = import_update(_A.key, "text")
    more = LogEntry(state, b"n" * 16, 1)
    store.commit(
        Batch(
            (
                ("memory", ScrollWrite(_A.key, b"f" * 32, 4, state, ())),
                ("memory", ScrollWrite(_B.key, b"f" * 32, 4, None, (more,))),
            )
        )
    )
    assert store.text("memory", _A.key) == "text"
    for phext, place in (("memory", _B), ("memory", _C), ("other", _A)):
        assert store.text(phext, place.key) is None
    store.close(clean=True)


# -- where a text is looked for --------------------------------------------------------------


def _replicas(store: MemoryStore | LmdbStore) -> ReplicaSet:
    return ReplicaSet(store, node_id=b"n" * 16, random=Random(0), wall_time_ms=lambda: 0)


@pytest.mark.parametrize("kind", [str, Coordinate.parse])
def test_a_text_is_found_wherever_it_is(kind: type[str], tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    replicas = _replicas(store)
    replica = replicas.open("memory")
    key, other = kind(str(_A)), kind(str(_B))
    assert replica.get(key) is None
    with pytest.raises(KeyError):
        replica[key]
    replica.import_text(_A, "waiting")
    assert replica.get(key) == replica[key] == "waiting"
    batch = replicas.durability.take()
    assert batch is not None
    assert replica.get(key) == "waiting"
    replica.import_text(_B, "since")
    store.commit(batch)
    replicas.durability.written()
    assert (replica[key], replica[other], replica.get(kind(str(_C)), "none")) == (
        "waiting",
        "since",
        "none",
    )
    replicas.commit()
    for _ in range(2):
        replica.close_documents()
        assert (replica.get(key), replica[key]) == ("waiting", "waiting")
    replica[_A] = "edited"
    assert replica[key] == "edited"
    replicas.commit()
    del replica[_A]
    replicas.commit()
    replica.close_documents()
    assert replica.get(key, 7) == 7
    with pytest.raises(KeyError):
        replica[key]
    store.close(clean=True)
