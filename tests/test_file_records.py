"""What a binding remembers of its files, and what it says is wrong with them."""

import errno
from dataclasses import replace
from random import Random

import pytest

from phextsync.conflicts import Conflict, Left
from phextsync.errors import StoreFullError, TextError
from phextsync.files.absences import Absences
from phextsync.files.conflict_log import CONFLICTS_MAX, SETTLER, ConflictLog
from phextsync.files.paths import Abilities
from phextsync.files.problems import RETRY_MAX_S, Problems
from phextsync.files.reading import File, why
from phextsync.files.records import Intent, Mark, Older, Record, Records, Shared, digest_of
from phextsync.files.renamed import GoneFiles
from phextsync.index import Coordinate
from phextsync.replica.past import BlamedLine
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore

_PLACE, _OTHER = Coordinate(7, 1, 1, 1, 1, 1, 1, 1, 2), Coordinate(7, 1, 1, 1, 1, 1, 1, 1, 3)
_ID = bytes(8)
_RECORD = Record(
    *("n.md", digest_of("one\n"), Mark(5, 4, 10, 11), "x", "p", 9, True, False, b"f" * 32, (5, 7))
)
_INTENT = Intent("m.md", digest_of("two\n"), "x", 6, 4, 12, ".draft")


class _Clock:
    now_ms = 1_000


def _replicas(store: MemoryStore) -> ReplicaSet:
    return ReplicaSet(
        store, node_id=bytes(16), random=Random(0), wall_time_ms=lambda: _Clock.now_ms
    )


@pytest.fixture
def replicas() -> ReplicaSet:
    return _replicas(MemoryStore())


def _again(replicas: ReplicaSet) -> ReplicaSet:
    """Return what a start finds after everything was committed."""
    replicas.commit()
    assert isinstance(replicas.store, MemoryStore)
    return _replicas(replicas.store.reopened())


# -- records -------------------------------------------------------------------------------


def test_a_record_is_found_after_a_start(replicas: ReplicaSet) -> None:
    records = Records(replicas, _ID)
    records.keep(_PLACE, _RECORD, "one\n")
    for found in (records, Records(_again(replicas), _ID)):
        assert (found.get(_PLACE), found.base(_PLACE)) == (_RECORD, "one\n")
        assert (found.at("n.md"), found.at("m.md"), [*found]) == (_PLACE, None, [_PLACE])
    assert len(Records(replicas, b"another.")) == 0


def test_folders_are_known_while_files_below_them_are_on_a_file_system_of_their_own(
    replicas: ReplicaSet,
) -> None:
    abilities = Abilities(folds_case=True)
    records = Records(replicas, _ID, abilities)
    outside = replace(_RECORD, path="mnt/deep/n.md", is_outside=True)
    records.keep(_PLACE, outside)
    records.keep(_OTHER, replace(outside, path="mnt/m.md"))
    records.keep(_OTHER, replace(outside, path="mnt/m.md"))  # nothing is counted twice
    for found in (records, Records(_again(replicas), _ID, abilities)):
        assert [*map(found.is_above_outside, ("mnt", "MNT/Deep", "mnt/deep/n.md"))] == [
            True
        ] * 2 + [False]
        found.keep(_PLACE, replace(outside, is_outside=False))
        assert [*map(found.is_above_outside, ("mnt", "mnt/deep"))] == [True, False]
        found.forget(_OTHER)
        assert not found.is_above_outside("mnt")


def test_an_intent_stands_beside_the_text_that_the_file_has(replicas: ReplicaSet) -> None:
    records = Records(replicas, _ID)
    records.keep(_PLACE, _RECORD, "one\n")
    records.intend(_PLACE, _RECORD, _INTENT, "two\n")
    replicas = _again(replicas)
    records = Records(replicas, _ID)
    record = records.get(_PLACE)
    assert record is not None
    assert (record.intent, record.digest) == (_INTENT, digest_of("one\n"))
    assert (records.base(_PLACE), records.intended(_PLACE)) == ("one\n", "two\n")
    records.keep(_PLACE, _RECORD)
    records = Records(_again(replicas), _ID)
    assert (records.base(_PLACE), records.intended(_PLACE)) == ("one\n", "")


def test_what_was_about_to_happen_is_known_until_it_is_settled(replicas: ReplicaSet) -> None:
    records = Records(replicas, _ID)
    records.keep(_PLACE, _RECORD, "one\n")
    assert records.unsettled == {}
    for place in (_PLACE, _OTHER):
        records.intend(place, replace(_RECORD, path=f"{place}"), _INTENT, "two\n")
    for found in (records, Records(_again(replicas), _ID)):
        assert found.unsettled == {_PLACE: _INTENT, _OTHER: _INTENT}
    records.keep(_PLACE, _RECORD)
    assert records.unsettled == {_OTHER: _INTENT}
    records.forget(_OTHER)
    assert records.unsettled == {}


def test_records_follow_files_that_change_places(replicas: ReplicaSet) -> None:
    records = Records(replicas, _ID)
    a = Record("a", digest_of("a"), None)
    b = Record("b", digest_of("b"), None)
    records.keep(_PLACE, a, "a")
    records.keep(_OTHER, b, "b")
    records.keep(_PLACE, Record("b", a.digest, None))
    records.keep(_OTHER, Record("a", b.digest, None))
    for found in (records, Records(_again(replicas), _ID)):
        assert (found.at("a"), found.at("b")) == (_OTHER, _PLACE)
        assert found.base(_PLACE) == "a"
    records.forget(_OTHER)
    assert (records.at("a"), records.at("b")) == (None, _PLACE)
    records.forget_all()
    assert len(Records(_again(replicas), _ID)) == 0


def test_records_and_scrolls_are_committed_together_or_not_at_all() -> None:
    store = MemoryStore()
    replicas = _replicas(store)
    replicas.open("memory").append(_PLACE, "one\n")
    Records(replicas, _ID).keep(_PLACE, _RECORD, "one\n")
    assert replicas.durability.take() is not None
    replicas.durability.refused(StoreFullError("full"))
    lost = _replicas(store.cloned())
    assert (len(lost.open("memory")), len(Records(lost, _ID))) == (0, 0)
    batch = replicas.durability.take()
    assert batch is not None
    store.commit(batch)
    found = _replicas(store.cloned())
    assert found.open("memory")[_PLACE] == "one\n"
    assert Records(found, _ID).base(_PLACE) == "one\n"


def test_the_oldest_text_that_all_had_is_remembered_until_it_is_settled(
    replicas: ReplicaSet,
) -> None:
    records = Records(replicas, _ID)
    assert not records.has_shared
    first, later = (Shared(text, text, b"\1", b"\1") for text in ("", "later"))
    records.set_shared(_PLACE, first)
    records.set_shared(_PLACE, later)
    records.set_shared(_OTHER, first)
    records.replace_shared(_OTHER, later)
    records = Records(_again(replicas), _ID)
    assert (records.shared(_PLACE), records.shared(_OTHER)) == (first, later)
    assert records.all_shared == sorted([_PLACE, _OTHER])
    records.drop_shared()
    assert (records.shared(_PLACE), records.has_shared) == (None, False)


def test_what_is_set_aside_is_known_until_it_is_dropped_whoever_takes_the_place_of_a_file(
    replicas: ReplicaSet,
) -> None:
    records = Records(replicas, _ID)
    assert records.older is None
    records.set_aside()
    assert records.older == {}
    records.keep(_PLACE, _RECORD, "one\n")
    records.keep(_OTHER, Record("gone.md", b"", None), "")
    records.keep_held([_PLACE])
    records.set_aside()
    assert (len(records), records.held) == (0, [])
    records.keep(_PLACE, replace(_RECORD, path="b.md", digest=digest_of("two\n")), "two\n")
    older = {_PLACE: Older(_RECORD.path, "one\n")}
    for found in (records, Records(_again(replicas), _ID)):
        assert (found.older, found.base(_PLACE)) == (older, "two\n")
    records.drop_older()
    assert Records(_again(replicas), _ID).older is None
    assert records.base(_PLACE) == "two\n"
    records.set_aside()
    records.forget_all()
    assert records.older is None


# -- problems ------------------------------------------------------------------------------


def test_a_problem_is_new_once_and_tried_less_and_less_often() -> None:
    problems = Problems()
    now, dues = 0.0, []
    for _ in range(9):
        problems.note("n.md", "full", now, is_retried=True)
        due = problems.next_due()
        assert due is not None
        assert problems.due(due) == ["n.md"]
        assert problems.due(due - 0.1) == []
        dues.append(due - now)
        now = due
    assert dues == [1, 2, 4, 8, 16, 32, RETRY_MAX_S, RETRY_MAX_S, RETRY_MAX_S]
    assert [p.since for p in problems.take_news()] == [0.0]
    assert problems.take_news() == []
    problems.note("n.md", "another reason", now, is_retried=False)
    assert [(p.reason, p.since) for p in problems.take_news()] == [("another reason", 0.0)]
    assert problems.next_due() is None
    problems.solve("n.md")
    assert "n.md" not in problems
    problems.note("n.md", "full", now, is_retried=True)
    assert problems.next_due() == now + 1


def test_everything_is_tried_at_once_when_there_may_be_room() -> None:
    problems = Problems()
    for _ in range(5):
        problems.note("n.md", "full", 0.0, is_retried=True)
    problems.note("odd", "not UTF-8", 0.0, is_retried=False)
    problems.hurry()
    assert problems.due(0.0) == ["n.md"]
    assert [p.path for p in problems] == ["n.md", "odd"]


def test_what_is_below_a_path_is_tried_at_once_when_that_is_in_no_trouble() -> None:
    problems = Problems()
    problems.note("sub", "a link", 0.0, is_retried=False)
    for path in ("sub/n.md", "sub/x/n.md", "suburb/n.md", "n.md"):
        problems.note(path, "not a folder", 0.0, is_retried=False)
    problems.solve("sub/n.md")
    assert problems.due(0.0) == []
    problems.solve("sub")
    assert problems.due(0.0) == ["sub/x/n.md"]
    problems.note("sub/x/n.md", "not a folder", 1.0, is_retried=False)
    problems.solve("sub")
    assert problems.due(1.0) == []


def test_when_a_disk_has_room_again_everything_is_tried_within_two_seconds() -> None:
    problems, full = Problems(), why(OSError(errno.ENOSPC, ""))
    now, tried = 0.0, dict.fromkeys("abc", 0)
    for path in tried:
        problems.note(path, full, now, is_retried=True)
    problems.note("d", "another reason", now, is_retried=True)
    while now < 600:
        due = problems.next_due()
        assert due is not None
        assert due - now <= 2
        now = max(now, due)
        for path in problems.due(now):
            if path in tried:
                tried[path] += 1
                problems.note(path, full, now, is_retried=True)
            else:
                problems.note(path, "another reason", now, is_retried=True)
    assert tried["a"] > 250 > 20 > tried["b"]
    problems.solve("a")
    assert problems.due(now) == ["b", "c"]
    problems.note("c", full, now, is_retried=True)  # which is larger
    assert problems.next_due() == 0
    problems.solve("b")
    assert problems.next_due() == now + 2


def test_what_goes_wrong_with_a_name_stays_with_it_and_a_store_that_refuses_does_not() -> None:
    problems = Problems()
    with problems.boundary("n.md", 0.0):
        raise TextError("expected text")
    with problems.boundary("m.md", 0.0):
        raise OSError(5, "Input/output error")
    assert [p.path for p in problems] == ["m.md", "n.md"]
    with pytest.raises(StoreFullError), problems.boundary("o.md", 0.0):
        raise StoreFullError("full")
    assert "o.md" not in problems


def test_a_text_that_all_had_is_read_as_earlier_versions_wrote_it(replicas: ReplicaSet) -> None:
    replicas.durability.note(b"b" + _ID + b"s" + _PLACE.key, b"told")
    assert Records(replicas, _ID).shared(_PLACE) == Shared("old", "old", b"", b"")


# -- conflicts -----------------------------------------------------------------------------


def test_conflicts_are_kept_until_somebody_settles_them(
    replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ConflictLog(replicas, _ID)
    first, second = (Conflict(n, "base", f"mine {n}", "theirs") for n in (1, 2))
    assert log.add(_PLACE, "n.md", first, "anna")
    assert not log.add(_PLACE, "n.md", first, "anna")
    monkeypatch.setattr(_Clock, "now_ms", 5_000)
    assert log.add(_PLACE, "n.md", second, "")
    replicas = _again(replicas)
    log = ConflictLog(replicas, _ID)
    found = [*log]
    assert [(each.conflict, each.time_ms) for each in found] == [(first, 1_000), (second, 5_000)]
    assert (found[0].coordinate, found[0].path, found[0].theirs_by) == (_PLACE, "n.md", "anna")
    assert log.find(found[0].number) == found[0]
    assert log.settle(found[0].number)
    assert not log.settle(found[0].number)
    assert [*ConflictLog(_again(replicas), _ID)] == found[1:]
    monkeypatch.setattr(_Clock, "now_ms", 6_000)
    log.prune(2_000)
    assert len(log) == 1
    log.prune(500)
    assert len(log) == 0


def test_of_a_scroll_no_conflicts_but_its_own_are_reviewed(
    replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, noted = ConflictLog(replicas, _ID), replicas.durability.noted
    places = [Coordinate(7, 1, 1, 1, 1, 2, 1, 1, number) for number in range(1, 10)]
    for place in places:
        log.add(place, "n.md", Conflict(1, "base\n", "mine\n", "theirs\n"), "")
    keys: list[bytes] = []

    def read(key: bytes) -> bytes:
        keys.append(key)
        return noted(key)

    monkeypatch.setattr(replicas.durability, "noted", read)
    log.review(places[0], "mine\n", list)
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("text", "chosen", "is_kept"),
    [
        ("a\nz\nz\nb\n", [None, 9, 9, None], False),
        ("a\nz\nx\nb\n", [None, 9, None, None], False),  # a line of those that were left
        ("a\nz\nq\nb\n", [None, 9, None, None], True),
        ("a\nz\nb\n", [None, None, None], True),
        ("a\nz\nb\n", [None, 2, None], True),  # before there was a conflict
        ("a\nz\nb\n", [None, 9], True),
        ("a\nx\ny\nb\nz\n", [None, None, None, None, 9], True),  # it still stands
        ("a\nz\n", [None, 9], True),
    ],
)
def test_what_somebody_chose_since_in_the_place_of_a_conflict_settles_it(
    replicas: ReplicaSet,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    chosen: list[int | None],
    is_kept: bool,
) -> None:
    log = ConflictLog(replicas, _ID)
    monkeypatch.setattr(_Clock, "now_ms", 5)
    left = Left("x\ny\n", "", "", "a\n", "b\n")
    log.add(_PLACE, "n.md", Conflict(2, "base\n", "mine\n", "theirs\n", left), "")
    lines = zip(text.splitlines(), chosen, strict=False)
    blamed = [
        BlamedLine(line, b"", time_ms, seen_here=False, label=SETTLER if time_ms else "mary")
        for line, time_ms in lines
    ]
    log.review(_PLACE, text, lambda: blamed)
    assert len(log) == is_kept


def test_the_oldest_of_too_many_conflicts_go(replicas: ReplicaSet) -> None:
    log = ConflictLog(replicas, _ID)
    log._keys = [log._prefix + bytes(8 + 12 + 8)] * CONFLICTS_MAX
    assert log.add(_PLACE, "n.md", Conflict(1, "", "a", "b"), "")
    assert len(log) == CONFLICTS_MAX


# -- renamed -------------------------------------------------------------------------------


def test_of_files_with_one_text_it_is_the_one_whose_name_ends_alike_whatever_else_is_gone(
    replicas: ReplicaSet,
) -> None:
    records, absences = Records(replicas, _ID), Absences()
    gone = {"x/other.md": "another text\n", "x/a.md": "one text\n", "y/b.md": "one text\n"}
    for number, (path, text) in enumerate(gone.items(), 1):
        place = Coordinate(7, 1, 1, 1, 1, 1, 1, 1, number)
        records.keep(place, Record(path, digest_of(text), Mark(number, len(text), 1, 1)), text)
        absences.note(place, True, 0)
    found = File(Mark(9, 9, 2, 2), "one text\n", born_ns=2)
    were = GoneFiles(absences, records).those_of({"z/b.md": found})
    assert were == {"z/b.md": Coordinate(7, 1, 1, 1, 1, 1, 1, 1, 3)}
