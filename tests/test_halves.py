"""Characters beyond U+FFFF that others cut in two."""

from random import Random

import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from phextsync import Coordinate, MemoryStore, PhextsyncError, Replica, UpdateError
from phextsync.index import cuts, inserted_text, low_halves
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch, LogEntry, ScrollWrite
from phextsync.varints import varints

_A = Coordinate.parse("1.1.1/1.1.1/1.1.1")

# Changes of three clients of Yjs 13.6 that cut emoji. With all of them Yrs has a state that cannot
# be read.
_CUTTING = [
    "0101d00f000401047465787408f09f9880f09f988000",
    "0101e807000401047465787404f09f988000",
    "0101e80702c4d00f02d00f0308f09f9880f09f988000",
    "0002d00f010201e807010202",
    "0001e807010001",
]


def _open(store: MemoryStore | None = None) -> ReplicaSet:
    return ReplicaSet(
        store or MemoryStore(), node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0
    )


def _apply(replica: Replica, update: bytes) -> None:
    replica.apply(_A, LogEntry(update, b"", 0))


def _of_7(insert: bytes, *, clock: int, after: int | None = None) -> bytes:
    """Return an insertion of client 7 behind one of its clocks, or into an empty text."""
    if after is None:
        return varints(1, 1, 7, clock, 4, 1) + b"\4text" + varints(len(insert)) + insert + b"\0"
    head = varints(1, 1, 7, clock) + b"\x84" + varints(7, after)
    return head + varints(len(insert)) + insert + b"\0"


def test_halves_are_counted_in_units_of_utf_16() -> None:
    doc: Doc[Text] = Doc(client_id=7)
    text = doc.get("text", type=Text)
    text += "aé😀b"
    update = doc.get_update()
    assert inserted_text(update).decode() == "aé😀b"
    assert low_halves(update) == {(7, 3)}
    assert not cuts(update, low_halves(update))
    assert cuts(update, {(7, 0)})


@given(st.binary(max_size=200))
def test_changed_bytes_are_walked_or_refused(data: bytes) -> None:
    for call in (inserted_text, low_halves, lambda update: cuts(update, {(0, 0)})):
        try:
            call(data)
        except PhextsyncError as error:
            assert "expected" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "cut",
    [_of_7(b"x", clock=3, after=1), bytes.fromhex("000107010101"), bytes.fromhex("000107010201")],
    ids=["inserted between", "first half deleted", "second half deleted"],
)
@pytest.mark.parametrize("is_reopened", [False, True])
def test_what_cuts_a_character_is_refused_and_the_rest_is_taken(
    cut: bytes, is_reopened: bool
) -> None:
    replicas = _open()
    replica = replicas.open("memory")
    _apply(replica, _of_7("a😀".encode(), clock=0))
    if is_reopened:
        replicas.commit()
        replica.close_documents()
    with pytest.raises(UpdateError, match="whole characters"):
        _apply(replica, cut)
    assert replica[_A] == "a😀"
    _apply(replica, _of_7(b"!", clock=3, after=2))
    assert replica[_A] == "a😀!"


def test_what_cuts_a_character_that_was_written_here_is_refused() -> None:
    replica = _open().open("memory")
    _apply(replica, _of_7(b"a", clock=0))
    _apply(replica, _of_7(b"b", clock=1, after=0))  # from here on it is known that there is none
    replica.append(_A, "😀")
    client = replica.statistics().client_id
    assert client is not None
    half = varints(0, 1, client, 1, 1, 1)
    with pytest.raises(UpdateError, match="whole characters"):
        _apply(replica, half)


def test_a_state_that_cuts_its_own_characters_is_refused() -> None:
    replica = _open().open("memory")
    both = pycrdt.merge_updates(_of_7("😀".encode(), clock=0), _of_7(b"x", clock=2, after=0))
    with pytest.raises(UpdateError, match="whole characters"):
        _apply(replica, both)
    replica[_A] = "ours"
    with pytest.raises(UpdateError, match="whole characters"):
        replica.adopt(_A, both)
    assert replica[_A] == "ours"


def test_clients_that_cut_emoji_harm_no_commit() -> None:
    replicas = _open()
    replica = replicas.open("memory")
    refused = 0
    for update in map(bytes.fromhex, _CUTTING):
        try:
            _apply(replica, update)
        except UpdateError:
            refused += 1
    assert refused == 3
    replica.rewrite(_A)
    replicas.commit()


def test_a_scroll_without_a_state_is_kept_as_its_updates_and_others_are_written() -> None:
    store = MemoryStore()
    log = tuple(LogEntry(bytes.fromhex(update), b"", 0) for update in _CUTTING)
    store.commit(Batch((("memory", ScrollWrite(_A.key, bytes(32), 1, None, log)),)))
    replicas = _open(store)
    replicas.open("memory").rewrite(_A)
    replicas.open("other")[_A] = "written"
    replicas.commit()
    assert _open(store).open("other")[_A] == "written"
    assert "kept as updates" in replicas.reports[-1]


def test_countless_halves_are_looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phextsync.replica.halves._KEPT_MAX", 1)
    test_what_cuts_a_character_is_refused_and_the_rest_is_taken(_of_7(b"x", clock=3, after=1), True)
