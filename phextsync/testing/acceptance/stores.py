"""What every store must do."""

import array
from collections.abc import Callable
from typing import Final, Protocol

from phextsync.index import Coordinate, CoordinateIndex
from phextsync.store.contract import Batch, HistoryPiece, LogEntry, ScrollWrite, Store, StoredScroll
from phextsync.store.retention import NO_HISTORY, Retention


class Shelf(Protocol):
    """A place where stores of one kind are opened again and again."""

    @property
    def store(self) -> Store:
        """The store that is open."""

    def reopen(self, *, clean: bool) -> Store:
        """Close the store and open it again; not clean is what a killed process leaves."""


_KEYS: Final = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i).key for i in range(1, 9)]


def entry(text: str, time_ms: int = 5) -> LogEntry:
    """Return an update that says no more than `text`."""
    return LogEntry(text.encode(), b"n" * 16, time_ms)


def write(
    key: bytes, *, state: bytes | None = None, log: tuple[LogEntry, ...] = (), size: int = 1
) -> ScrollWrite:
    """Return what a batch does to one scroll, with a fingerprint that follows from `size`."""
    return ScrollWrite(key, bytes([size % 256]) * 32, size, state, log)


def commit(store: Store, *writes: ScrollWrite, phext: str = "memory") -> None:
    """Make writes to one phext durable."""
    store.commit(Batch(tuple((phext, each) for each in writes)))


def a_state_and_its_log_are_read_back_in_order_after_reopening(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], state=b"state", log=(entry("one", 1),)))
    commit(shelf.store, write(_KEYS[0], log=(entry("two", 2), entry("three", 3))))
    expected = StoredScroll(b"state", (entry("one", 1), entry("two", 2), entry("three", 3)))
    for clean in (True, False):
        assert shelf.store.read("memory", _KEYS[0]) == expected
        shelf.reopen(clean=clean)
    assert expected.updates == (b"state", b"one", b"two", b"three")
    assert expected.log_bytes == 11


def a_new_state_replaces_state_and_log(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], log=(entry("one"), entry("two"))))
    commit(shelf.store, write(_KEYS[0], state=b"all", log=(entry("three"),)))
    assert shelf.store.read("memory", _KEYS[0]) == StoredScroll(b"all", (entry("three"),))


def an_entry_may_have_no_author(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], log=(LogEntry(b"x", b"", 0),)))
    assert shelf.store.read("memory", _KEYS[0]) == StoredScroll(None, (LogEntry(b"x", b"", 0),))


def pieces_of_history_are_kept_beside_the_scrolls_while_history_is(shelf: Shelf) -> None:
    def piece(i: int, number: int | None, data: bytes) -> HistoryPiece:
        return HistoryPiece("memory", _KEYS[i], number, data)

    kept = Retention(5, 7)
    commit(shelf.store, *(write(key, state=b"s") for key in _KEYS))
    shelf.store.commit(Batch((), history=(piece(0, 0, b"x"),)))
    assert (shelf.store.last_piece("memory", _KEYS[0]), shelf.store.history) == (-1, NO_HISTORY)
    pieces = [piece(i, number, b"%d" % number) for i in (2, 0, 1) for number in range(3)]
    shelf.store.commit(Batch((), history=tuple(pieces), kept=kept))
    shelf.store.commit(Batch((), history=(piece(1, None, b""), piece(1, 0, b"new"))))
    shelf.store.commit(Batch((), history=(piece(0, 1, b""), piece(2, 3, b"3"))))
    places = [("memory", key) for key in _KEYS[:3]]
    for clean in (True, False):
        store = shelf.store
        assert store.history == kept
        assert store.pieces("memory", _KEYS[0]) == {0: b"0", 2: b"2"}
        assert store.pieces("memory", _KEYS[1]) == {0: b"new"}
        assert list(store.pieces("memory", _KEYS[2], oldest=2)) == [0, 1]
        assert [store.last_piece("memory", key) for key in _KEYS[:4]] == [2, 0, 3, -1]
        assert store.pieces("unknown", _KEYS[0]) == {}
        assert store.histories(None, 2) == places[:2]
        assert store.histories(places[1], 2) == places[2:]
        shelf.reopen(clean=clean)
    only = NO_HISTORY.changed(9, ("memory", _KEYS[1], _KEYS[2]), 11)
    shelf.store.commit(Batch((), history=(piece(1, 1, b"1"), piece(2, 4, b"4")), kept=only))
    for clean in (True, False):
        assert shelf.store.history == only
        assert shelf.store.histories(None, 9) == places[1:2]
        assert shelf.store.pieces("memory", _KEYS[1]) == {0: b"new", 1: b"1"}
        shelf.reopen(clean=clean)
    shelf.store.commit(Batch((), kept=NO_HISTORY))
    assert shelf.reopen(clean=True).histories(None, 9) == []
    assert shelf.store.history == NO_HISTORY


def heads_load_an_index(shelf: Shelf) -> None:
    for i in (3, 1, 2):
        commit(shelf.store, write(_KEYS[i], state=b"s", size=i * 1000))
    heads = shelf.store.heads("memory")
    assert heads.keys == _KEYS[1] + _KEYS[2] + _KEYS[3]
    assert list(array.array("I", heads.sizes)) == [1000, 2000, 3000]
    index = CoordinateIndex()
    index.bulk_load(heads.keys, heads.fingerprints, heads.sizes)
    assert index.fingerprint_of(Coordinate.from_key(_KEYS[2])) == bytes([2000 % 256]) * 32
    assert shelf.store.heads("unknown").keys == b""


def phexts_are_apart_and_named_in_order(shelf: Shelf) -> None:
    for name in ("zeta", "alpha", "日本"):
        commit(shelf.store, write(_KEYS[0], state=name.encode()), phext=name)
    shelf.reopen(clean=False)
    assert shelf.store.phexts() == ["alpha", "zeta", "日本"]
    assert shelf.store.read("zeta", _KEYS[0]) == StoredScroll(b"zeta", ())
    assert shelf.store.read("alpha", _KEYS[1]) is None
    assert shelf.store.read("unknown", _KEYS[0]) is None


def a_range_is_read_in_order_up_to_its_bytes(shelf: Shelf) -> None:
    commit(shelf.store, *(write(key, state=bytes(100)) for key in _KEYS))
    commit(shelf.store, write(_KEYS[0], state=b"other"), phext="other")

    def read(lower: int, upper: int | None, bytes_max: int) -> list[bytes]:
        end = None if upper is None else _KEYS[upper]
        found = shelf.store.read_range("memory", _KEYS[lower], end, bytes_max)
        assert all(scroll.state == bytes(100) for _, scroll in found)
        return [key for key, _ in found]

    assert read(0, None, 10_000) == _KEYS
    assert read(2, 5, 10_000) == _KEYS[2:5]
    assert read(2, 5, 150) == _KEYS[2:4]
    assert read(2, None, 1) == [_KEYS[2]]
    assert shelf.store.read_range("unknown", _KEYS[0], None, 100) == []


def a_client_id_is_kept_over_a_clean_close_and_no_other(shelf: Shelf) -> None:
    assert shelf.store.lease("memory") is None
    shelf.store.commit(Batch((), (("memory", 2**52 - 1), ("c", 7))))
    assert shelf.reopen(clean=True).lease("memory") == 2**52 - 1
    assert shelf.reopen(clean=True).lease("c") == 7
    assert shelf.reopen(clean=False).lease("memory") is None
    assert shelf.reopen(clean=True).lease("memory") is None


def a_scroll_that_was_set_aside_is_absent(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], state=b"bad", log=(entry("x"),)), write(_KEYS[1]))
    shelf.store.quarantine("memory", _KEYS[0])
    shelf.store.quarantine("unknown", _KEYS[0])
    assert shelf.store.read("memory", _KEYS[0]) is None
    assert shelf.store.heads("memory").keys == _KEYS[1]
    commit(shelf.store, write(_KEYS[0], log=(entry("new"),)))
    assert shelf.store.read("memory", _KEYS[0]) == StoredScroll(None, (entry("new"),))


def a_scroll_that_leaves_is_gone_with_its_log_and_history_and_ends_the_lease(shelf: Shelf) -> None:
    kept = Retention(5, 7)
    shelf.store.commit(
        Batch(
            tuple(("memory", write(key, state=b"s", log=(entry("x"),))) for key in _KEYS[:3]),
            (("memory", 7), ("c", 8)),
            history=tuple(HistoryPiece("memory", key, 0, b"past") for key in _KEYS[:3]),
            kept=kept,
        )
    )
    leaving = ScrollWrite(_KEYS[1], b"", 0, None, (), leaves=True)
    absent = ScrollWrite(_KEYS[5], b"", 0, None, (), leaves=True)
    forgotten = HistoryPiece("memory", _KEYS[1], None, b"")
    writes = (("memory", leaving), ("memory", absent))
    shelf.store.commit(Batch(writes, history=(forgotten,)))
    for _ in range(2):
        assert shelf.store.read("memory", _KEYS[1]) is None
        assert shelf.store.heads("memory").keys == _KEYS[0] + _KEYS[2]
        assert not shelf.store.pieces("memory", _KEYS[1])
        assert shelf.store.pieces("memory", _KEYS[2]) == {0: b"past"}
        assert (shelf.store.lease("memory"), shelf.store.lease("c")) == (None, 8)
        shelf.reopen(clean=True)
    commit(shelf.store, write(_KEYS[1], log=(entry("new"),)))
    assert shelf.store.read("memory", _KEYS[1]) == StoredScroll(None, (entry("new"),))


def notes_are_kept_with_what_they_are_committed_with(shelf: Shelf) -> None:
    def note(*notes: tuple[bytes, bytes]) -> Batch:
        return Batch((("memory", write(_KEYS[0], log=(entry("x"),))),), notes=notes)

    shelf.store.commit(note((b"a1", b"one"), (b"b1", b"other"), (b"a2", bytes(70_000))))
    shelf.store.commit(note((b"a1", b"two"), (b"a3", b""), (b"a10", b"ten")))
    for clean in (True, False):
        store = shelf.store
        assert (store.note(b"a1"), store.note(b"b1"), store.note(b"a3")) == (b"two", b"other", b"")
        assert store.notes(b"a") == [(b"a1", b"two"), (b"a10", b"ten"), (b"a2", bytes(70_000))]
        assert store.notes(b"c") == []
        shelf.reopen(clean=clean)
    shelf.store.commit(Batch((), notes=((b"a1", b""), (b"a2", b""), (b"none", b""))))
    for clean in (True, False):
        assert shelf.store.notes(b"") == [(b"a10", b"ten"), (b"b1", b"other")]
        shelf.reopen(clean=clean)


STORE: Final[tuple[Callable[[Shelf], None], ...]] = (
    a_state_and_its_log_are_read_back_in_order_after_reopening,
    a_new_state_replaces_state_and_log,
    an_entry_may_have_no_author,
    pieces_of_history_are_kept_beside_the_scrolls_while_history_is,
    heads_load_an_index,
    phexts_are_apart_and_named_in_order,
    a_range_is_read_in_order_up_to_its_bytes,
    a_client_id_is_kept_over_a_clean_close_and_no_other,
    a_scroll_that_was_set_aside_is_absent,
    a_scroll_that_leaves_is_gone_with_its_log_and_history_and_ends_the_lease,
    notes_are_kept_with_what_they_are_committed_with,
)
