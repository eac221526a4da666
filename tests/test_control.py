"""Operations that other processes ask of the node that owns a folder."""

from random import Random

import pytest

from phextsync.control import Value, as_facts, digest, is_change, perform
from phextsync.errors import ConflictError, PhextsyncError
from phextsync.replica import ReplicaSet
from phextsync.store import MemoryStore

_PLACE = "1.1.1/1.1.1/1.1.1"


@pytest.fixture
def replicas() -> ReplicaSet:
    made = ReplicaSet(MemoryStore(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0)
    perform(made, ["set", "memory", _PLACE, "one two"])
    return made


def test_a_splice_replaces_characters_of_the_text_that_was_seen(replicas: ReplicaSet) -> None:
    request = ["splice", "memory", _PLACE, 4, 7, "é\U0001f600", digest("one two")]
    assert is_change(request)
    assert perform(replicas, request) is None
    assert perform(replicas, ["get", "memory", _PLACE]) == "one é\U0001f600"


@pytest.mark.parametrize(
    "change",
    [
        ["splice", "memory", _PLACE, 0, 3, "1", digest("one")],
        ["set", "memory", _PLACE, "three", digest("")],
        ["set", "memory", "2.1.1/1.1.1/1.1.1", "three", digest("one two")],
    ],
)
def test_an_edit_of_another_text_than_was_seen_does_nothing(
    replicas: ReplicaSet, change: list[object]
) -> None:
    with pytest.raises(ConflictError, match="has changed since it was read"):
        perform(replicas, change)  # type: ignore[arg-type]
    assert perform(replicas, ["read", "memory", "*", ""]) == [[[_PLACE, "one two"]], False]


@pytest.mark.parametrize("fact", [True, False, 0.5, None, b"x"])
def test_a_fact_is_a_text_or_an_integer(fact: Value) -> None:
    assert as_facts([["load", 1], ["editing", "notes"]]) == {"load": 1, "editing": "notes"}
    with pytest.raises(PhextsyncError, match="expected a name, and a text or an integer, found"):
        as_facts([["load", 1], ["busy", fact]])
