"""What users hold: ranges as views, batches, changes with their origin, undoing per writer."""

import gc
import weakref
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.crdt import Scroll
from phextsync.errors import (
    CoordinateError,
    PhextsyncError,
    PositionError,
    ScrollError,
    StoreDamagedError,
    TextError,
)
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.changes import Change, TextChange, current_writer, writing_as
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.steps import STEPS_MAX
from phextsync.store.contract import LogEntry
from phextsync.store.memory import MemoryStore
from tests.strategies import near_coordinates, ranges

_A, _B, _C = (Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in (1, 2, 3))
_KEY = "1.1.1/1.1.1/1.1.1"
_PEER = b"p" * 16


def _replicas(store: MemoryStore | None = None, *, seed: int = 0, **options: Any) -> ReplicaSet:
    return ReplicaSet(
        store or MemoryStore(),
        node_id=b"n" * 16,
        random=Random(seed),
        wall_time_ms=lambda: 0,
        **options,
    )


@pytest.fixture
def replica() -> Replica:
    return _replicas().open("memory")


def _peer_writes(replica: Replica, coordinate: Coordinate, text: str) -> None:
    """Let a peer that has what `replica` has append `text`."""
    other = _replicas(seed=len(text) + 1).open("memory")
    state = replica.difference(coordinate, b"\0\0")
    if state is not None:
        other.apply(coordinate, LogEntry(state, _PEER, 0))
    before = other.version(coordinate)
    other.append(coordinate, text)
    update = other.difference(coordinate, before)
    assert update is not None
    replica.apply(coordinate, LogEntry(update, _PEER, 0))
    replica.publish((coordinate,), _PEER, "hestia")


# -- ranges --------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.dictionaries(near_coordinates, st.sampled_from(["x", "y"])), ranges(near_coordinates))
def test_a_view_is_the_part_of_the_mapping_in_its_range(
    texts: dict[Coordinate, str], range_: CoordinateRange
) -> None:
    replica = _replicas().open("memory")
    replica.update(texts.items())
    inside = {c: texts[c] for c in sorted(texts) if c in range_}
    view = replica.within(range_)
    assert list(view) == list(inside)
    assert len(view) == len(inside)
    assert list(view.items()) == list(replica.items(range_)) == list(inside.items())
    assert list(replica.values(str(range_))) == list(inside.values())
    assert list(replica[range_.lower : range_.upper]) == list(inside)
    assert all((c in view) == (c in inside) for c in texts)
    view.clear()
    assert dict(replica) == {c: text for c, text in texts.items() if c not in range_}
    assert not view


def test_slices_take_coordinates_or_prefixes_and_delete(replica: Replica) -> None:
    for library in (1, 2, 3):
        replica[Coordinate(library, *[1] * 8)] = str(library)
    assert list(replica["2.*":].values()) == ["2", "3"]
    assert list(replica["1.1.1/1.1.1/1.1.1":"2.1.1/1.1.1/1.1.1"].values()) == ["1"]
    assert list(replica[:].values()) == ["1", "2", "3"]
    del replica["2.*":"3.*"]
    assert list(replica.values()) == ["1", "3"]
    del replica[CoordinateRange.parse("3.*")]
    assert list(replica.keys()) == [Coordinate(*[1] * 9)]
    with pytest.raises(CoordinateError):
        replica["3.*":"2.*"]
    with pytest.raises(CoordinateError, match="step"):
        replica["1.*":"2.*":"3.*"]


def test_what_is_neither_a_place_nor_its_text_is_said(replica: Replica) -> None:
    not_a_place: Any = 7
    with pytest.raises(TypeError, match=r"^expected a coordinate or its text, found int$"):
        replica.append(not_a_place, "text")
    with pytest.raises(TypeError, match=r"^expected a range or its text, found int$"):
        replica.count(not_a_place)


@pytest.mark.parametrize("method", ["closed", "import_unknown", "apply"])
def test_what_parts_of_the_library_call_says_wrong_types_too(replica: Replica, method: str) -> None:
    call: Any = getattr(replica, method)
    others: dict[str, list[Any]] = {
        "closed": [],
        "import_unknown": ["text"],
        "apply": [LogEntry(b"", _PEER, 0)],
    }
    rest = others[method]
    for wrong in (7, None, b"1.1.1/1.1.1/1.1.1"):
        with pytest.raises(TypeError, match=r"[Cc]oordinate.* (int|NoneType|bytes)"):
            call(wrong, *rest)
        if rest:
            with pytest.raises(TypeError, match=r"^expected .*, found (int|NoneType|bytes)$"):
                call(_A, wrong)


def test_a_view_refuses_what_is_outside_it(replica: Replica) -> None:
    view = replica.within("2.*")
    replica[_A] = "outside"
    with pytest.raises(CoordinateError, match=r"expected a coordinate in 2\.\*"):
        view[_A] = "x"
    with pytest.raises(KeyError):
        view[_A]
    with pytest.raises(KeyError):
        view.pop(_A)
    assert view.get(_A, "none") == "none"
    view["2.1.1/1.1.1/1.1.1"] = "inside"
    assert view.setdefault("2.1.1/1.1.1/1.1.1", "other") == "inside"
    assert replica["2.1.1/1.1.1/1.1.1"] == "inside"


def test_reading_the_items_of_a_range_opens_no_documents() -> None:
    replicas = _replicas()
    replica = replicas.open("memory")
    for coordinate in (_A, _B, _C):
        replica.import_text(coordinate, str(coordinate))
    replicas.commit()
    before = replicas.budget.bytes
    assert len(list(replica.items())) == 3
    assert replicas.budget.bytes == before


def test_a_closed_scroll_that_is_read_gets_a_document_when_it_is_edited() -> None:
    replicas = _replicas()
    replica = replicas.open("memory")
    for coordinate in (_A, _B):
        replica.import_text(coordinate, "text")
    replicas.commit()
    replica.close_documents()
    assert replica[_A] == replica[_B] == "text"
    assert 0 < replicas.budget.bytes < 1000
    replica.append(_A, " and more")
    assert replica[_A] == replica.read(_A) == "text and more"
    assert replicas.budget.scrolls == 2
    replicas.commit()
    replicas.budget.bytes_max = 0
    replica.append(_B, "!")
    replicas.commit()
    assert replicas.budget.bytes == 0
    assert [replica[_A], replica[_B]] == ["text and more", "text!"]


def test_a_text_that_several_wrote_is_read_from_the_store() -> None:
    replicas, other = _replicas(), _replicas(seed=1).open("memory")
    replica = replicas.open("memory")
    replica[_A] = "one"
    state = replica.difference(_A, b"\0\0")
    assert state is not None
    other.apply(_A, LogEntry(state, b"", 0))
    other.insert(_A, 0, "two ")
    state = other.difference(_A, b"\0\0")
    assert state is not None
    replica.apply(_A, LogEntry(state, b"", 0))
    replicas.commit()
    replica.close_documents()
    assert replica[_A] == "two one"


# -- edits ---------------------------------------------------------------------------------


def test_an_edit_made_on_an_older_text_keeps_what_came_since(replica: Replica) -> None:
    replica[_A] = "one\ntwo\n"
    base = replica[_A]
    replica.append(_A, "three\n")
    for _ in range(2):  # asked again, it changes nothing
        replica.edit_from(_A, base, "one\n2\n")
        assert replica[_A] == "one\n2\nthree\n"
    with pytest.raises(TextError):
        replica.edit_from(_A, base, "\x17")


def test_replacing_wants_as_many_places_as_it_is_told(replica: Replica) -> None:
    replica[_A] = "a b a"
    with pytest.raises(TextError, match="expected 1 of 'a', found 2"):
        replica.replace(_A, "a", "c")
    replica.replace(_A, "b", "\U0001f600")
    replica.replace(_A, "a", "c", count=2)
    assert replica[_A] == "c \U0001f600 c"


def test_a_position_survives_edits_eviction_and_restarts() -> None:
    replicas = _replicas(open_bytes_max=0)
    replica = replicas.open("memory")
    replica[_A] = "h\u00e9llo w\u00f6rld"
    position = replica.position(_A, 6)
    replica.insert(_A, 0, "\U0001f600 ")
    replicas.commit()
    assert replica[_A][replica.offset(_A, position) :] == "w\u00f6rld"
    with pytest.raises(KeyError):
        replica.position(_B, 0)
    with pytest.raises(PositionError):
        replica.offset(_A, "somewhere")


# -- batches and changes -------------------------------------------------------------------


def test_a_batch_is_one_change_and_one_commit() -> None:
    replicas = _replicas()
    replica = replicas.open("memory")
    changes: list[Change] = []
    replica.subscribe(changes.append)
    with replica.batch():
        replica[_A] = "one"
        with replica.batch():
            replica[_B] = "two"
        replica.append(_A, " more")
    assert [change.coordinates for change in changes] == [(_A, _B)]
    batch = replicas.durability.take()
    assert batch is not None
    assert len([name for name, _ in batch.writes if name == "memory"]) == 2


def test_a_batch_that_a_commit_parts_says_so() -> None:
    replicas = _replicas()
    replica = replicas.open("memory")

    def wait_inside() -> None:
        with replica.batch():
            replica[_A] = "one"
            replicas.commit()  # as the node does, while the block awaits something

    with pytest.raises(RuntimeError, match="held across an await"):
        wait_inside()
    assert replica[_A] == "one"
    with replica.batch():
        replica[_B] = "two"


def test_what_was_done_before_an_error_in_a_batch_stays_and_is_told(replica: Replica) -> None:
    changes: list[Change] = []
    replica.subscribe(changes.append)

    def fail() -> None:
        with replica.batch():
            replica[_A] = "one"
            raise KeyError("reason")

    with pytest.raises(KeyError, match="reason"):
        fail()
    assert replica[_A] == "one"
    assert [change.coordinates for change in changes] == [(_A,)]


def test_a_change_says_who_made_it(replica: Replica) -> None:
    changes: list[Change] = []
    replica.subscribe(changes.append)
    replica[_A] = "here"
    with writing_as("file:notes.md"):
        assert current_writer() == "file:notes.md"
        replica[_A] = "from a file"
    _peer_writes(replica, _A, " and a peer")
    with replica.batch():
        replica[_A] = "1"
        with writing_as("gateway"):
            replica[_B] = "2"
    assert [(change.origin, change.label) for change in changes] == [
        (None, ""),
        (None, "file:notes.md"),
        (_PEER, "hestia"),
        (None, ""),
        (None, "gateway"),
    ]


def test_texts_are_told_to_whoever_asks(replica: Replica) -> None:
    changes: list[Change] = []
    plain: list[Change] = []
    replica.subscribe(changes.append, "1.*", texts=True)
    replica.subscribe(plain.append)
    replica[_A] = "one\n"
    _peer_writes(replica, _A, "two\n")
    _peer_writes(replica, _B, "new\n")
    with replica.batch():
        replica[_A] = "three\n"
        replica[_A] = "four\n"
        del replica[_B]
    assert [change.texts for change in changes] == [
        (TextChange("", "one\n"),),
        (TextChange("one\n", "one\ntwo\n"),),
        (TextChange("", "new\n"),),
        (TextChange("one\ntwo\n", "four\n"), TextChange("new\n", "")),
    ]
    assert not any(change.texts for change in plain)


def test_a_subscriber_that_fails_is_reported_and_the_others_are_told() -> None:
    replicas = _replicas()
    replica = replicas.open("memory")
    changes: list[Change] = []

    def failing(_: Change) -> None:
        raise ZeroDivisionError

    replica.subscribe(failing)
    replica.subscribe(changes.append)
    replica[_A] = "one"
    assert len(changes) == 1
    assert "ZeroDivisionError" in replicas.reports[-1]


# -- feeds ---------------------------------------------------------------------------------


def test_a_feed_holds_each_coordinate_once_for_each_origin(replica: Replica) -> None:
    calls: list[None] = []
    feed = replica.feed("1.*")
    feed.on_ready = lambda: calls.append(None)
    for i in range(100):
        replica.append(_A, f"{i}\n")
    replica["2.1.1/1.1.1/1.1.1"] = "outside"
    _peer_writes(replica, _A, "peer\n")
    assert len(feed) == 2
    assert len(calls) == 101
    assert feed.take() == Change("memory", (_A,))
    assert feed.take() == Change("memory", (_A,), _PEER, "hestia")
    assert feed.take() is None
    feed.close()
    replica[_B] = "after"
    assert feed.take() is None


def test_a_feed_beyond_its_bound_stands_for_its_whole_range(replica: Replica) -> None:
    feed = replica.feed("1.*", coordinates_max=10)
    for i in range(1, 100):
        replica[Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i)] = "x"
    assert len(feed) == 0
    assert feed.take() == Change("memory", (), missed=CoordinateRange.parse("1.*"))
    assert feed.take() is None
    replica[_A] = "y"
    assert feed.take() == Change("memory", (_A,))


def test_a_change_brings_no_more_texts_than_its_feed_has_room_for() -> None:
    replica = _replicas().open("memory")
    feed = replica.feed(texts=True, texts_max=10)
    for place in (_A, _B, _C):
        replica[place] = "6 each"
    taken = [feed.take(), feed.take(), feed.take()]
    assert [change and change.coordinates for change in taken] == [(_A, _B), (_C,), None]


_events = st.lists(
    st.tuples(
        st.sampled_from(["write", "clear", "peer", "take"]),
        st.sampled_from([_A, _B, _C]),
        st.text("ab", min_size=1, max_size=3),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(_events, st.sampled_from([1, 2, 10_000]), st.sampled_from([0, 5, 1 << 20]))
def test_whoever_follows_a_feed_knows_every_text(
    events: list[tuple[str, Coordinate, str]], coordinates_max: int, texts_max: int
) -> None:
    replica = _replicas().open("memory")
    feed = replica.feed(texts=True, coordinates_max=coordinates_max, texts_max=texts_max)
    known: dict[Coordinate, str] = {}

    def take() -> None:
        while (change := feed.take()) is not None:
            if change.missed is not None:
                known.clear()
                known.update(replica.scrolls(change.missed))
            for coordinate, text in zip(change.coordinates, change.texts, strict=True):
                assert text.old is None or text.old == known.get(coordinate, "")
                assert texts_max < 1 << 20 or text.old is not None
                known[coordinate] = text.new

    for action, coordinate, text in events:
        match action:
            case "write":
                replica[coordinate] = text
            case "clear":
                replica.clear_scroll(coordinate)
            case "peer":
                _peer_writes(replica, coordinate, text)
            case "take":
                take()
        assert len(feed) <= coordinates_max
        assert feed.statistics().characters <= texts_max
    take()
    assert {c: text for c, text in known.items() if text} == dict(replica.scrolls(EVERYTHING))
    assert feed.statistics() == (0, 0, 0)


# -- undoing -------------------------------------------------------------------------------


def test_a_history_takes_back_its_writers_steps_and_leaves_a_peers(replica: Replica) -> None:
    changes: list[Change] = []
    with replica.history(_KEY, "me") as history:
        with writing_as("me"):
            replica.append(_KEY, "mine\n")
            with replica.batch():
                replica.append(_KEY, "and\n")
                replica.append(_KEY, "more\n")
        replica.append(_KEY, "another's\n")
        _peer_writes(replica, _A, "a peer's\n")
        replica.subscribe(changes.append)
        assert history.undo()
        assert replica[_KEY] == "mine\nanother's\na peer's\n"
        assert history.undo()
        assert replica[_KEY] == "another's\na peer's\n"
        assert not history.undo()
        assert history.redo()
        assert replica[_KEY] == "mine\nanother's\na peer's\n"
        assert [change.label for change in changes] == ["me"] * 3
    with pytest.raises(PhextsyncError, match="closed"):
        history.undo()


def test_what_was_undone_reaches_the_disk_and_peers() -> None:
    replicas = _replicas()
    replica, other = replicas.open("memory"), _replicas(seed=1).open("memory")
    replicas.listen(
        ReplicaListener(on_update=lambda new: other.apply(new.coordinate, new.entry) and None)
    )
    with replica.history(_A) as history:
        replica[_A] = "one two three"
        replica[_A] = "one 2 three"
        history.undo()
        assert other[_A] == "one two three"
        history.redo()
    replicas.commit()
    again = ReplicaSet(
        replicas.store, node_id=b"n" * 16, random=Random(2), wall_time_ms=lambda: 0
    ).open("memory")
    assert again[_A] == other[_A] == replica[_A] == "one 2 three"
    assert again.version(_A) == other.version(_A)


def test_a_history_keeps_its_document_open_and_lets_it_go() -> None:
    replicas = _replicas(open_bytes_max=0)
    replica = replicas.open("memory")
    history = replica.history(_A)
    replica[_A] = "text"
    opened = replica._documents.get(_A)
    assert opened is not None
    document = weakref.ref(opened.scroll._doc)
    del opened
    for coordinate in (_B, _C):
        replica[coordinate] = "another"
        replicas.commit()
    assert history.can_undo
    history.close()
    for coordinate in (_B, _C):
        replica[coordinate] = "more"
        replicas.commit()
    gc.collect()
    assert document() is None
    assert replicas.budget.bytes == 0
    assert not replica.statistics().tracked


def test_a_history_of_a_scroll_that_was_damaged_can_be_closed_and_none_is_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ScrollError("it failed")

    store = MemoryStore()
    replicas = _replicas(store)
    replica = replicas.open("memory")
    replica[_A] = replica[_B] = "text"
    replicas.commit()
    history = replica.history(_A)
    for coordinate in (_A, _B):
        with monkeypatch.context() as patch:
            patch.setattr(Scroll, "append", fail)
            with pytest.raises(ScrollError):
                replica.append(coordinate, "x")
        store.damage("memory", coordinate.key)
    history.close()
    with pytest.raises(StoreDamagedError):
        replica.history(_B)
    assert not replica.statistics().tracked


def test_a_history_starts_anew_under_another_client_id(replica: Replica) -> None:
    with replica.history(_A) as history:
        replica[_A] = "before"
        replica.renew_client_id()
        assert not history.can_undo
        replica.append(_A, " after")
        assert history.undo()
        assert replica[_A] == "before"


def test_writers_of_one_label_in_two_sessions_are_undone_apart(replica: Replica) -> None:
    def write(session: bytes, text: str) -> None:
        with writing_as("editor", session):
            replica.append(_A, text)

    with writing_as("editor", b"1"):
        first = replica.history(_A)
    with replica.history(_A, "editor") as own, first:
        write(b"1", "one ")
        write(b"", "own ")
        write(b"2", "two")
        assert first.undo()
        assert not first.undo()
        assert replica[_A] == "own two"
        assert own.undo()
        assert first.redo()
        assert replica[_A] == "one two"


def test_a_history_holds_a_bounded_number_of_steps_and_forgets_the_oldest(
    replica: Replica,
) -> None:
    written = 2 * STEPS_MAX + 1
    with replica.history(_A) as history:
        for number in range(written):
            replica.append(_A, f"{number} ")
            if number % 10 == 0:  # what is undone and done again is no more than one step
                assert history.undo()
                assert history.redo()
        undone = 0
        while history.undo():
            undone += 1
        assert STEPS_MAX * 3 // 4 <= undone <= STEPS_MAX + 1
        assert replica[_A] == "".join(f"{number} " for number in range(written - undone))
        while history.redo():
            undone -= 1
        assert undone == 0
        assert replica[_A].split() == [str(number) for number in range(written)]


def test_steps_of_two_writers_in_one_batch_are_bounded_for_both(replica: Replica) -> None:
    with replica.history(_A, "a") as first, replica.history(_A, "b") as second:
        for _ in range(STEPS_MAX + 2):
            with replica.batch():
                for writer in "ab":
                    with writing_as(writer):
                        replica.append(_A, writer)
        for history in (first, second):
            undone = 0
            while history.undo():
                undone += 1
            assert undone == STEPS_MAX * 3 // 4 + 1
        assert replica[_A] == "ab" * (STEPS_MAX // 4 + 1)


def test_what_is_undone_at_the_bound_can_be_done_again(replica: Replica) -> None:
    with replica.history(_A) as history:
        for number in range(STEPS_MAX):
            replica.append(_A, f"{number} ")
        for _ in range(2):
            undone = 0
            while history.undo():
                undone += 1
            assert undone == STEPS_MAX
            assert _A not in replica
            while history.redo():
                pass
            assert len(replica[_A].split()) == STEPS_MAX


def test_a_range_is_cleared_as_one_change(replica: Replica) -> None:
    told: list[Change] = []
    replica.update({_A: "a", _B: "b", _C: "c"})
    replica.subscribe(told.append)
    replica.within(f"{_A}..{_C}").clear()
    assert [change.coordinates for change in told] == [(_A, _B)]
    replica.clear()
    assert [change.coordinates for change in told[1:]] == [(_C,)]
