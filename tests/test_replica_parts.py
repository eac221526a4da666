"""The parts of replicas: each against a model of its own."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.crdt import Scroll
from phextsync.index import Coordinate, CoordinateIndex, OpenText
from phextsync.replica.author import Author
from phextsync.replica.budget import Budget
from phextsync.replica.clients import CLIENTS, Client, Clients
from phextsync.replica.durability import Durability
from phextsync.replica.guests import Guests
from phextsync.replica.history_keeper import HistoryKeeper
from phextsync.replica.listener import Listeners
from phextsync.replica.pending import Pending, Unsettled, Where
from phextsync.replica.pieces import BASE, entries_of, fold, prune
from phextsync.replica.tracked import Tracked
from phextsync.store.contract import LogEntry
from phextsync.store.memory import MemoryStore
from phextsync.trust.permissions import UNRESTRICTED

_PLACES = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in range(1, 5)]
_NUMBERS = st.integers(0, 3)


def _entry(number: int) -> LogEntry:
    return LogEntry(number.to_bytes(4, "big"), b"n" * 16, number)


# -- pending -------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("ccctsu"), _NUMBERS)))
def test_the_latest_of_a_scroll_is_found_wherever_it_is(steps: list[tuple[str, int]]) -> None:
    index = CoordinateIndex()
    pending = Pending(index)
    waiting: dict[Coordinate, list[LogEntry]] = {}
    taken: dict[Coordinate, list[LogEntry]] | None = None
    stored: set[Coordinate] = set()

    def settle(place: Coordinate, settled: Unsettled) -> None:
        assert place in pending, "it is in one place at least at every moment"
        index.set(place, bytes(32), len(settled.log))

    for number, (kind, which) in enumerate(steps):
        place = _PLACES[which]
        match kind:
            case "c":
                unsettled = pending.waiting(place) or pending.put(place, Unsettled())
                unsettled.log.append(_entry(number))
                waiting.setdefault(place, []).append(_entry(number))
            case "t" if not taken:
                taken, waiting = waiting, {}
                assert {c: u.log for c, u in pending.take().items()} == taken
            case "s" if taken is not None:
                pending.settle(settle)
                stored |= set(taken)
                taken = None
            case "u" if taken is not None:
                pending.unsettle()
                for each, log in taken.items():
                    waiting[each] = log + waiting.get(each, [])
                taken = None
        for each in _PLACES:
            layers = [logs[each] for logs in (taken or {}, waiting) if each in logs]
            assert [layer.log for layer in pending.layers(each)] == layers
            latest = pending.latest(each)
            assert (None if latest is None else latest.log) == (layers[-1] if layers else None)
            assert (each in pending) == bool(layers)
            assert pending.where(each) is (
                Where.WAITING
                if each in waiting
                else Where.COMMITTING
                if each in (taken or {})
                else Where.STORED
                if each in stored
                else Where.NOWHERE
            )
        assert set(pending.coordinates()) == {*waiting, *(taken or {})}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_state_that_is_to_be_written_anew_is_so_after_a_batch_was_refused(is_first: bool) -> None:
    pending = Pending(CoordinateIndex())
    for is_new in (is_first, not is_first):
        pending.put(_PLACES[0], Unsettled(rewrite=is_new, is_other=is_new))
        if is_new is is_first:
            pending.take()
    waiting = pending.unsettle()[_PLACES[0]]
    assert (waiting.rewrite, waiting.is_other) == (True, True)


@pytest.mark.parametrize("move", ["take", "settle", "unsettle"])
def test_whoever_looks_during_a_move_can_tell(move: str) -> None:
    index = CoordinateIndex()
    pending = Pending(index)
    pending.put(_PLACES[0], Unsettled())
    if move != "take":
        pending.take()
    seen: list[int] = [pending.moves]

    def settle(place: Coordinate, settled: Unsettled) -> None:
        seen.append(pending.moves)
        index.set(place, bytes(32), 1)

    if move == "settle":
        pending.settle(settle)
    else:
        getattr(pending, move)()
    seen.append(pending.moves)
    assert len(set(seen)) == len(seen)
    assert seen[-1] >= seen[0] + 2


# -- budget --------------------------------------------------------------------------------


class _Holder:
    """Open scrolls, of which some cannot be closed."""

    def __init__(self) -> None:
        self.pinned: set[Coordinate] = set()
        self.open: dict[Coordinate, OpenText] = {}

    def close_if_unpinned(self, coordinate: Coordinate, opened: OpenText) -> bool:
        if coordinate in self.pinned:
            return False
        assert self.open.pop(coordinate) is opened
        return True


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "grow", "pin", "free", "use", "drop", "keep"]), _NUMBERS)
    )
)
def test_a_budget_holds_but_for_what_is_pinned_and_counts_what_is_open(
    steps: list[tuple[str, int]],
) -> None:
    budget, holder = Budget(25), _Holder()
    costs: dict[Coordinate, int] = {}
    for kind, which in steps:
        place = _PLACES[which]
        match kind:
            case "open" if place not in holder.open:
                holder.open[place] = opened = OpenText()
                budget.add(holder, place, opened, 10)
                costs[place] = 10
            case "grow" if place in holder.open:
                budget.resize(holder.open[place], 15)
                costs[place] = 15
            case "pin":
                holder.pinned.add(place)
            case "free":
                holder.pinned.discard(place)
            case "use" if place in holder.open:
                holder.open[place].used = True
            case "drop" if place in holder.open:
                budget.remove(holder.open.pop(place))
            case "keep":
                budget.keep()
                assert budget.bytes <= 25 or set(holder.open) <= holder.pinned
        bytes_taken = sum(costs[place] for place in holder.open)
        assert (budget.bytes, budget.scrolls) == (bytes_taken, len(holder.open))
    budget.close_unpinned(holder)
    assert set(holder.open) <= holder.pinned
    assert budget.scrolls == len(holder.open)


def test_a_scroll_that_was_used_is_closed_after_those_that_were_not() -> None:
    budget, holder = Budget(20), _Holder()
    for place in _PLACES[:2]:
        holder.open[place] = opened = OpenText()
        budget.add(holder, place, opened, 10)
    holder.open[_PLACES[0]].used = True
    budget.bytes_max = 10
    budget.keep()
    assert list(holder.open) == _PLACES[:1]
    assert budget.evictions == 1


# -- pieces --------------------------------------------------------------------------------


def test_pieces_that_are_forgotten_are_in_the_base_and_written_empty() -> None:
    scroll = Scroll(_PLACES[0], 7)
    entries = [LogEntry(scroll.append(text) or b"", b"n" * 16, 5) for text in ("a", "b")]
    pieces: dict[int, bytes] = {}
    for number, entry in enumerate(entries):
        for at, piece in fold(None, number, [entry], 10 * number, 0).items():
            assert at is not None
            pieces[at] = piece
    changed = prune(pieces, 5)
    assert [*changed] == [1, BASE]
    assert changed[1] == b""
    assert [entry.update for entry in entries_of(changed[BASE])] == [entries[0].update]
    assert prune(pieces, 0) == {}


# -- guests --------------------------------------------------------------------------------


def _room_of(count: int) -> int:
    """Return how many bytes so many guests have to be allowed for all to stay."""
    guests = Guests(_clients(_Lines())[1])
    for place in _PLACES[:count]:
        guests.admit(("memory", place))
        guests.measure(("memory", place), 10)
    guests.bytes_max = 0
    while guests.excess(lambda _: True):
        guests.bytes_max += 1
    return guests.bytes_max


def test_guests_take_their_room_and_nothing_else() -> None:
    assert _room_of(1) > 10
    assert [_room_of(count) for count in (2, 3)] == [count * _room_of(1) for count in (2, 3)]


# -- client ids ----------------------------------------------------------------------------


class _Lines(dict[Coordinate, str]):
    def read(self, coordinate: Coordinate) -> str:
        return self.get(coordinate, "")

    def import_unknown(self, coordinate: Coordinate, text: str) -> None:
        assert coordinate not in self
        self[coordinate] = text


def _clients(lines: _Lines, report: Callable[[str], None] = print) -> tuple[Clients, Durability]:
    store, listeners = MemoryStore(), Listeners()
    history = HistoryKeeper(store, now_ms=lambda: 0, report=report, wake=listeners.dirty)
    durability = Durability(store, history, listeners)
    author = Author(b"n" * 16, UNRESTRICTED, lambda: 0)
    return Clients(Random(1), author, durability, lambda: lines, lambda: lines), durability


def test_a_client_id_is_noted_with_its_first_change_and_once() -> None:
    lines = _Lines()
    clients, durability = _clients(lines)
    client = Client("memory", None, clients)
    assert client.current is None
    first = client.id
    assert client.id == client.current == first
    assert not lines
    client.sign()
    client.sign()
    assert len(lines) == 1
    assert clients.writer_of("memory", first) == b"n" * 16
    assert clients.writer_of("other", first) is None
    durability.note(b"a", b"b")
    batch = durability.take()
    assert batch is not None
    assert batch.leases == (("memory", first),)


def test_a_leased_client_id_is_used_again_until_it_is_given_up() -> None:
    lines = _Lines()
    clients, _ = _clients(lines)
    client = Client("memory", 7, clients)
    client.sign()
    assert (client.id, lines) == (7, {})
    client.give_up()
    assert client.clocks_in(b"anything") == []
    assert client.id != 7
    client.sign()
    assert len(lines) == 1


def test_whose_the_client_id_of_a_label_is_is_told_once_for_all_starts() -> None:
    lines = _Lines()
    for _ in range(2):
        clients, _ = _clients(lines)
        client = Client("memory", 7, clients)
        client.sign("bot")
        assert clients.written_by("memory", client.id_of("bot")) == (b"n" * 16, "bot")
    assert len(lines) == 1


def test_the_phext_of_client_ids_tells_of_itself_nothing() -> None:
    lines = _Lines()
    client = Client(CLIENTS, None, _clients(lines)[0])
    client.sign()
    assert not lines


# -- tracked -------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), _NUMBERS, st.sampled_from("ab"))))
def test_the_last_history_of_an_author_ends_what_is_remembered_of_him(
    steps: list[tuple[bool, int, str]],
) -> None:
    tracked, model = Tracked(), list[tuple[Coordinate, str]]()
    for begins, which, author in steps:
        key = (_PLACES[which], author)
        if begins:
            tracked.add(*key)
            model.append(key)
        elif key in model:
            model.remove(key)
            assert tracked.remove(*key) == (key not in model)
        for place in _PLACES:
            expected = {by for at, by in model if at == place}
            assert set(tracked.authors(place)) == expected
            assert (place in tracked) == bool(expected)
    assert len(tracked) == len(set(tracked)) == len({at for at, _ in model})
