"""What was deleted or overwritten comes back: on any machine that kept it, once, as an edit."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import PermissionDeniedError, PhextsyncError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.past import FOREVER
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.trust.permissions import Permissions
from sims.network import PHEXT, Network

_A = Coordinate(*[1] * 9)
_B = Coordinate(*[2] * 9)
_LINES = 100  # a log is folded


def _place(number: int) -> Coordinate:
    return Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + number // 900, 1 + number % 900)


class _Clock:
    """A wall clock that is set by hand."""

    now_ms = 1000

    def __call__(self) -> int:
        return self.now_ms


def _set_of(clock: _Clock | None = None) -> ReplicaSet:
    return ReplicaSet(
        MemoryStore(), node_id=b"n" * 16, random=Random(1), wall_time_ms=clock or _Clock()
    )


def _mesh(count: int = 2) -> Network:
    """Return linked nodes that keep their history, with a text that was written at 5 ms."""
    network = Network(count)
    network.link_all()
    for peer in network.peers:
        peer.replicas.keep_history(FOREVER)
        peer.wall_time_ms = 5
    network.run(1)
    replica = network.peers[0].replica
    replica.import_text(_A, "first\n")
    for i in range(_LINES):
        replica.append(_A, f"line {i} {'.' * 40}\n")
        network.run(0.01)
    network.run(1)
    return network


# -- what was deleted ----------------------------------------------------------------------


def test_what_one_node_deleted_another_brings_back_everywhere() -> None:
    network = _mesh(3)
    a, b, _ = network.peers
    text = a.replica[_A]
    for peer in network.peers:
        peer.wall_time_ms = 9
    a.replica.clear_scroll(_A)
    network.run(1)
    for peer in network.peers:
        (row,) = peer.replica.undeletable()
        assert (row.coordinate, row.time_ms, row.writer) == (_A, 9, a.node_id)
        assert (row.size, row.first_line, row.seen_here) == (len(text), "first", False)
    assert b.replica.undelete(_A) == text
    network.run(1)
    assert network.assert_equal()[_A] == text
    assert [peer.replica.undeletable() for peer in network.peers] == [[], [], []]


def test_two_nodes_that_bring_it_back_at_once_make_one_copy() -> None:
    network = _mesh()
    a, b = network.peers
    text = a.replica[_A]
    a.replica.clear_scroll(_A)
    network.run(1)
    for link in list(network.links):
        network.cut(link)
    for peer in network.peers:
        peer.replica.undelete(_A)
    network.link_all()
    network.run(5)
    assert network.assert_equal()[_A] == text
    for peer in network.peers:
        peer.wall_time_ms = 9
    a.replica.edit(_A, "after\n")
    network.run(1)
    for link in list(network.links):
        network.cut(link)
    for peer in network.peers:
        peer.replica.restore(_A, 5)
    network.link_all()
    network.run(5)
    assert network.assert_equal()[_A] == b.replica.text_at(_A, 5) == text


def test_bringing_back_is_one_step_that_can_be_undone() -> None:
    replica = _set_of().open("memory")
    replica[_A] = "one\ntwo\n"
    replica.clear_scroll(_A)
    with replica.history(_A) as steps:
        replica.undelete(_A)
        assert replica[_A] == "one\ntwo\n"
        assert steps.undo()
        assert _A not in replica
        assert not steps.can_undo


def test_a_text_that_is_there_is_replaced_only_by_force() -> None:
    replica = _set_of().open("memory")
    replica[_A] = "deleted"
    replica.clear_scroll(_A)
    replica[_A] = "written since"
    with pytest.raises(PhextsyncError, match="expected no text to bring one back"):
        replica.undelete(_A)
    assert replica.undelete(_A, force=True) == replica[_A] == "deleted"
    replica[_B] = "never deleted"
    with pytest.raises(PhextsyncError, match="found none in what is kept; no history is kept"):
        replica.undelete(_B, force=True)


def test_nothing_is_brought_back_where_this_node_may_not_write() -> None:
    network = _mesh()
    a, b = network.peers
    a.replica.clear_scroll(_A)
    network.run(1)
    b.restrict(Permissions.of({PHEXT: [EVERYTHING]}, {}))
    with pytest.raises(PermissionDeniedError):
        b.replica.undelete(_A)


def test_the_last_deletions_come_first_also_before_they_are_durable() -> None:
    clock = _Clock()
    replicas = _set_of(clock)
    replica = replicas.open("memory")
    for place in (_A, _B):
        replica[place] = f"text of {place}"
    replicas.commit()
    for place in (_A, _B):
        clock.now_ms += 1
        replica.clear_scroll(place)
        if place == _A:
            replicas.commit()
    assert [row.coordinate for row in replica.undeletable()] == [_B, _A]
    assert [row.coordinate for row in replica.undeletable("1.*")] == [_A]
    replicas.commit()
    assert [row.coordinate for row in replica.undeletable()] == [_B, _A]


def test_what_is_not_yet_durable_is_found_among_what_was_deleted_if_it_has_no_text() -> None:
    replica = _set_of().open("memory")
    for place in (_A, _B):
        replica[place] = "text"
    replica.clear_scroll(_B)
    pasts, rest = replica.few_pasts(EVERYTHING, emptied=True)
    assert ([past.place for past in pasts], rest) == ([_B], None)


def test_a_search_for_what_was_deleted_takes_bounded_steps() -> None:
    replicas = _set_of()
    replica = replicas.open("memory")
    places = [_place(number) for number in range(3000)]
    for place in places:
        replica.import_text(place, "text")
    replicas.commit()
    gone = places[::7]
    for place in gone:
        replica.clear_scroll(place)
    replicas.commit()
    found, rest = list[Coordinate](), EVERYTHING
    steps = 0
    while rest is not None:
        pasts, left = replica.few_pasts(rest, emptied=True)
        assert len(pasts) <= 64
        found += [past.place for past in pasts]
        steps += 1
        if left is None:
            break
        assert left.lower > rest.lower
        rest = left
    assert found == gone
    assert steps >= 3000 // 1024
    assert len(replica.undeletable()) == len(gone)


# -- versions ------------------------------------------------------------------------------


def _lines_of(replica: Replica, time_ms: int) -> list[str]:
    return replica.text_at(_A, time_ms).splitlines()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_versions_are_what_the_times_tell_apart(seed: int, is_kept: bool) -> None:
    random = Random(seed)
    network = Network(2, seed)
    network.link_all()
    if is_kept:
        for peer in network.peers:
            peer.replicas.keep_history(FOREVER)
    now_ms = 100
    for i in range(random.randint(1, 60)):
        now_ms += random.randint(0, 3)
        for peer in network.peers:
            peer.wall_time_ms = max(1, now_ms + random.randint(-9, 0))  # clocks differ
        replica = random.choice(network.peers).replica
        size = len(replica.get(_A, ""))
        match random.randint(0, 5):
            case 0:
                replica.delete(_A, (at := random.randint(0, size)), random.randint(at, size))
            case 1:
                replica.insert(_A, random.randint(0, size), f"<{i}>\n")
            case _:
                replica.append(_A, f"line {i} {'.' * 90}\n")
        if random.random() < 0.7:
            network.run(0.1)
    network.run(1)
    for peer in network.peers:
        peer.wall_time_ms = now_ms + 1
        rows = peer.replica.versions(_A)
        times = [row.time_ms for row in rows]
        assert times == sorted(set(times))
        before: list[str] = []
        for row in rows:
            text = peer.replica.text_at(_A, row.time_ms)
            assert row.size == len(text.encode())
            after = text.splitlines()
            assert row.added - row.removed == len(after) - len(before)
            before = after
        assert peer.replica.versions(_A, last=2) == rows[-2:]
        for time_ms in range(min(times, default=now_ms + 1), now_ms + 1):
            last = max(time for time in times if time <= time_ms)
            assert _lines_of(peer.replica, time_ms) == _lines_of(peer.replica, last)


def test_a_version_names_its_writers_and_what_came_by_a_comparison() -> None:
    network = _mesh()
    a, b = network.peers
    for peer in network.peers:
        peer.wall_time_ms = 20
    b.replica.append(_A, "more\n")
    network.run(1)
    (row,) = a.replica.versions(_A, last=1)
    assert (row.time_ms, row.seen_here, row.writers) == (20, False, (b.node_id,))
    assert (row.added, row.removed) == (1, 0)
    for link in list(network.links):
        network.cut(link)
    b.replica.edit(_A, "other\n")
    a.wall_time_ms = 70
    network.link_all()
    network.run(5)
    (row,) = a.replica.versions(_A, last=1)
    assert (row.time_ms, row.seen_here, row.size) == (70, True, 6)
    assert (row.added, row.removed) == (1, 2 + _LINES)


def test_an_older_text_becomes_the_text_of_now_as_an_edit() -> None:
    clock = _Clock()
    replica = _set_of(clock).open("memory")
    replica[_A] = "one\ntwo\n"
    clock.now_ms = 2000
    replica.edit(_A, "one\nzwei\nthree\n")
    clock.now_ms = 3000
    with replica.history(_A) as steps:
        replica.restore(_A, 1500)
        assert replica[_A] == "one\ntwo\n"
        assert replica.text_at(_A, 2500) == "one\nzwei\nthree\n"
        steps.undo()
        assert replica[_A] == "one\nzwei\nthree\n"
    for place, time_ms in ((_A, 500), (_B, 1500)):
        expected = f"^memory {place}: expected a time at which it had a text, found none then$"
        with pytest.raises(PhextsyncError, match=expected):
            replica.restore(place, time_ms)


def test_without_history_the_reason_is_said() -> None:
    clock = _Clock()
    replicas = _set_of(clock)
    replica = replicas.open("memory")
    replica[_A] = "text"
    replica.rewrite(_A)
    replicas.commit()
    clock.now_ms = 2000
    how = "no history is kept here: phextsync history --keep 30d"
    with pytest.raises(PhextsyncError, match=how):
        replica.text_at(_A, 500)
    assert replica.versions(_A) == []
    replicas.keep_history(FOREVER, "memory", CoordinateRange.of(_A))
    replicas.commit()
    clock.now_ms = 3000
    (row,) = replica.versions(_A)
    assert (row.time_ms, row.seen_here, row.size, row.writers) == (2000, True, 4, ())
    with pytest.raises(PhextsyncError, match=r"before what is kept$"):
        replica.text_at(_A, 500)
