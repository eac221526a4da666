"""Durability: nothing is lost or told too early, whatever the store takes and refuses."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.errors import StoreFullError
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.staged import Staged
from phextsync.store.memory import MemoryStore

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.sampled_from([b"a", b"b"]), st.binary(max_size=2)),
        st.tuples(st.sampled_from(["take", "written", "refused"])),
    ),
    max_size=40,
)


def _replicas() -> ReplicaSet:
    return ReplicaSet(MemoryStore(), node_id=b"n" * 16, random=Random(0), wall_time_ms=lambda: 0)


@given(_STEPS)
def test_what_is_noted_is_seen_at_once_and_is_stored_in_the_end(
    steps: list[tuple[str, bytes, bytes] | tuple[str]],
) -> None:
    replicas = _replicas()
    durability, told = replicas.durability, [0]
    replicas.listen(ReplicaListener(on_durable=lambda: told.append(told.pop() + 1)))
    model: dict[bytes, bytes] = {}
    batch, written = None, 0
    for step in steps:
        match step:
            case ("note", key, value):
                durability.note(key, value)
                model[key] = value
            case ("take",) if batch is None:
                batch = durability.take()
            case ("written",) if batch is not None:
                replicas.store.commit(batch)
                durability.written()
                batch, written = None, written + 1
            case ("refused",) if batch is not None:
                durability.refused(StoreFullError("full"))
                batch = None
                assert not durability.is_writable
        expected = sorted((key, value) for key, value in model.items() if value)
        assert durability.notes(b"") == expected
        assert all(durability.noted(key) == value for key, value in model.items())
        assert durability.is_durable(durability.last_batch) == (not durability.is_dirty)
    assert told == [written]
    if batch is not None:
        durability.refused(StoreFullError("full"))
    durability.commit()
    assert durability.is_writable
    assert not durability.is_dirty
    assert replicas.store.notes(b"") == durability.notes(b"")


def test_a_listener_that_fails_is_told_again() -> None:
    replicas = _replicas()
    told = []

    def hear() -> None:
        told.append(True)
        if len(told) == 1:
            raise ZeroDivisionError

    replicas.listen(ReplicaListener(on_durable=hear))
    replicas.durability.note(b"a", b"b")
    with pytest.raises(ZeroDivisionError):
        replicas.commit()
    assert not replicas.is_dirty
    assert replicas.durability.take() is None
    assert replicas.durability.take() is None
    assert len(told) == 2


def test_an_edit_is_durable_with_the_batch_that_it_names() -> None:
    replicas = _replicas()
    durability = replicas.durability
    assert durability.is_durable(durability.last_batch)
    replicas.open("memory")["1.1.1/1.1.1/1.1.1"] = "one"
    first = durability.last_batch
    assert durability.take() is not None
    assert durability.last_batch == first
    replicas.open("memory")["1.1.1/1.1.1/1.1.1"] = "two"
    assert durability.last_batch == first + 1
    durability.refused(StoreFullError("full"))
    assert not durability.is_durable(first)
    durability.commit()
    assert durability.is_durable(first + 1)


def test_a_batch_that_cannot_be_made_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = _replicas()
    names = "one", "two", "three"
    for name in names:
        replicas.open(name)["1.1.1/1.1.1/1.1.1"] = name
    with monkeypatch.context() as broken:
        broken.setattr("phextsync.crdt.Scroll.fingerprint", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replicas.commit()
    assert replicas.durability.is_dirty
    replicas.commit()
    assert not replicas.durability.is_dirty
    assert [len(replicas.open(name).index) for name in names] == [1, 1, 1]


def test_the_lease_of_a_client_id_outlives_a_batch_that_was_refused() -> None:
    replicas = _replicas()
    replica = replicas.open("memory")
    replica["1.1.1/1.1.1/1.1.1"] = "text"
    assert replicas.durability.take() is not None
    replicas.durability.refused(StoreFullError("full"))
    replicas.commit()
    assert replicas.store.lease("memory") == replica.statistics().client_id


def test_no_batch_brings_back_a_lease_that_was_given_up() -> None:
    replicas = _replicas()
    replicas.open("memory")["1.1.1/1.1.1/1.1.1"] = "text"
    assert replicas.durability.take() is not None
    replicas.durability.end_lease("memory")
    replicas.durability.refused(StoreFullError("full"))
    replicas.commit()
    assert replicas.store.lease("memory") is None


@given(st.lists(st.tuples(st.sampled_from("stwrd"), st.integers(0, 2), st.integers())))
def test_staged_values_come_with_the_next_batch_until_one_was_written(
    steps: list[tuple[str, int, int]],
) -> None:
    staged: Staged[int, int] = Staged()
    taken: dict[int, int] = {}
    following: dict[int, int] = {}
    for kind, key, value in steps:
        match kind:
            case "s":
                staged.set(key, value)
                following[key] = value
            case "t" if not taken:
                taken, following = following, {}
                assert staged.take() == taken
            case "d":
                staged.drop(key)
                taken.pop(key, None)
                following.pop(key, None)
            case "w":
                staged.written()
                taken = {}
            case "r":
                staged.refused()
                taken, following = {}, {**taken, **following}
        assert (bool(staged), staged.is_taken) == (bool(following), bool(taken))
        assert staged.latest() == {**taken, **following}
        assert staged.get(key) == staged.latest().get(key)
