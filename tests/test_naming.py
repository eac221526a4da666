"""The map of a directory's names as machines keep it: which scroll gets a name, and when."""

from random import Random

import pytest

from phextsync.files.merging import APART_BYTES_MAX, TOGETHER_BYTES_MAX
from phextsync.files.names import Line, NameMap
from phextsync.files.naming import ORPHAN_S, Naming
from phextsync.files.paths import Abilities
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.changes import Change, is_durable_first
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore

_RANGE = CoordinateRange.parse("7.*")
_MAP = Coordinate(7, *[1] * 8)
_A, _B = (Coordinate(7, 1, 1, 1, 1, 1, 1, 2, i) for i in (1, 2))


def _replica(seed: int = 0) -> Replica:
    store = MemoryStore()
    node_id = bytes([seed]) * 16
    return ReplicaSet(store, node_id=node_id, random=Random(seed), wall_time_ms=lambda: 1234).open(
        "memory"
    )


def _naming(replica: Replica, *, is_apart: bool = False) -> Naming:
    return Naming(replica, _RANGE, Abilities(folds_case=True), lambda: is_apart)


@pytest.fixture
def replica() -> Replica:
    return _replica()


@pytest.fixture
def naming(replica: Replica) -> Naming:
    return _naming(replica)


# -- following -----------------------------------------------------------------------------


def test_what_is_there_at_the_start_lies_at_its_name(replica: Replica) -> None:
    replica[_MAP] = f"{Line(_A, 'a.md')}{Line(_B, 'b.md')}"
    replica[_A] = "text of a"
    naming = _naming(replica)
    naming.load(0)
    assert naming.layout.path_of(_A) == "a.md"
    assert naming.layout.path_of(_B) is None  # it has no text
    assert (naming.size(_A), naming.size(_B)) == (9, 0)
    assert naming.text_of("a.md") == naming.text_of("A.MD") == "text of a"
    assert naming.text_of("b.md") == ""
    assert naming.next_due is None
    replica[_A] = ""  # of which nobody has told yet
    assert naming.text_of("a.md") == ""


def test_scrolls_whose_line_changed_are_told_with_those_that_changed(
    replica: Replica, naming: Naming
) -> None:
    elsewhere = Coordinate(*[1] * 9)
    replica[_A] = "a"
    assert naming.follow([_A, elsewhere], 0) == {_A}
    replica[_MAP] = f"{Line(_A, 'a.md')}{Line(_B, 'b.md')}"
    assert naming.follow([_MAP], 0) == {_A, _B}
    assert naming.layout.path_of(_A) == "a.md"
    assert naming.follow([], 0) == set()


def test_a_scroll_without_a_name_gets_a_path_when_it_has_waited(
    replica: Replica, naming: Naming
) -> None:
    replica[_A] = "a"
    assert naming.follow([_A], 100) == {_A}
    assert naming.layout.path_of(_A) is None
    assert naming.next_due == 100 + ORPHAN_S
    assert naming.follow([], 99 + ORPHAN_S) == set()
    assert naming.follow([], 100 + ORPHAN_S) == {_A}
    assert naming.layout.path_of(_A) == f"recovered/{str(_A).replace('/', '-')}.md"
    assert naming.next_due is None
    replica[_MAP] = str(Line(_A, "a.md"))
    naming.follow([_MAP], 101 + ORPHAN_S)
    assert naming.layout.path_of(_A) == "a.md"
    assert naming.follow([], 102 + ORPHAN_S) == set()


@pytest.mark.parametrize("is_named", [True, False])
def test_a_scroll_that_had_a_name_or_no_text_meanwhile_waits_from_the_start(
    replica: Replica, naming: Naming, is_named: bool
) -> None:
    replica[_A] = "a"
    naming.follow([_A], 100)
    key, text = (_MAP, str(Line(_A, "a.md"))) if is_named else (_A, "")
    before = replica.get(key, "")
    replica[key] = text
    naming.follow([key], 110)
    assert naming.next_due is None
    replica[key] = before
    naming.follow([key], 120)
    assert naming.next_due == 120 + ORPHAN_S
    assert naming.follow([], 119 + ORPHAN_S) == set()


def test_a_scroll_that_has_no_name_at_the_start_waits_from_then(
    replica: Replica, naming: Naming
) -> None:
    replica[_A] = "a"
    naming.load(100)
    assert naming.next_due == 100 + ORPHAN_S


def test_the_scroll_that_waits_longest_is_due_first(replica: Replica, naming: Naming) -> None:
    for place, now in ((_A, 100), (_B, 110)):
        replica[place] = "text"
        naming.follow([place], now)
    assert naming.next_due == 100 + ORPHAN_S
    naming.follow([], 100 + ORPHAN_S)
    assert naming.next_due == 110 + ORPHAN_S


def test_a_folder_is_known_while_files_lie_in_it_or_have(replica: Replica, naming: Naming) -> None:
    replica[_MAP] = f"{Line(_A, 'now/a.md')}{Line(_B, 'then/b.md')}"
    replica[_A] = "a"
    naming.load(0)
    assert naming.layout.has_folder("now")
    assert not naming.layout.has_folder("then")
    for folder, is_known in (("now", True), ("then", True), ("the", False), ("then/b.md", False)):
        assert naming.has_folder(folder) == is_known


# -- writing the map -----------------------------------------------------------------------


def test_a_name_gets_the_scroll_back_that_it_had_if_that_is_free(
    replica: Replica, naming: Naming
) -> None:
    naming.add([Line(_B, "a.md"), Line(_A, "a.md")])
    assert naming.place_for("a.md", lambda place: True) == _A
    assert naming.place_for("a.md", lambda place: place != _A) == _B
    replica[_A] = "text of another file"
    assert naming.place_for("a.md", lambda place: True) == _B
    replica[_B] = "of one more"
    free = naming.place_for("a.md", lambda place: True)
    assert free == NameMap(_RANGE).free_place("a.md", lambda place: True)
    assert naming.place_for("other.md", lambda place: True) not in (_A, _B, free)


def test_lines_that_are_added_stand_in_the_order_of_names_and_displace_none(
    replica: Replica, naming: Naming
) -> None:
    naming.add([Line(_B, "b.md")])
    naming.add([Line(_A, "a.md"), Line(_B, "other.md")])
    assert replica[_MAP] == f"{Line(_A, 'a.md')}{Line(_B, 'b.md')}"
    assert naming.follow([], 0) == {_A, _B}
    version = replica.version(_MAP)
    naming.add([Line(_B, "other.md")])
    assert replica.version(_MAP) == version


def test_all_lines_that_were_written_are_told_with_the_next_changes(naming: Naming) -> None:
    naming.add([Line(_A, "a.md")])
    naming.add([Line(_B, "b.md")])
    assert naming.follow([], 0) == {_A, _B}


def test_a_line_that_somebody_else_has_put_there_meanwhile_stays(
    replica: Replica, naming: Naming
) -> None:
    replica[_MAP] = str(Line(_A, "a.md"))
    naming.add([Line(_B, "b.md")])
    assert replica[_MAP] == f"{Line(_A, 'a.md')}{Line(_B, 'b.md')}"


def test_a_line_that_somebody_else_has_put_there_meanwhile_is_not_added_again(
    replica: Replica, naming: Naming
) -> None:
    naming.load(0)
    replica[_MAP] = str(Line(_A, "a.md"))  # of which nobody has told yet
    naming.add([Line(_A, "a.md"), Line(_B, "b.md")])
    assert replica[_MAP] == f"{Line(_A, 'a.md')}{Line(_B, 'b.md')}"


def test_the_same_line_added_on_two_machines_is_one(replica: Replica) -> None:
    other = _replica(1)
    for each in (replica, other):
        _naming(each).add([Line(_A, "a.md")])
    assert replica.version(_MAP) == other.version(_MAP)


@pytest.mark.parametrize(
    ("is_apart", "limit"), [(False, TOGETHER_BYTES_MAX), (True, APART_BYTES_MAX)]
)
def test_a_map_with_very_many_imports_is_changed_under_this_nodes_own_id(
    replica: Replica, is_apart: bool, limit: int
) -> None:
    naming = _naming(replica, is_apart=is_apart)
    lines = [Line(Coordinate(7, 1, 1, 1, 1, 1, 1, 2, i), f"{i:03}.md") for i in range(1, 61)]
    for line in lines:
        naming.add([line])
    assert replica[_MAP] == "".join(map(str, lines))
    size = len(replica.version(_MAP))
    assert is_apart == (size > TOGETHER_BYTES_MAX + 100)
    assert size < limit + 100


@pytest.mark.parametrize("over", [0, 1])
def test_the_same_line_is_one_up_to_the_limit_of_imports(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, over: int
) -> None:
    other = _replica(1)
    for each in (replica, other):
        _naming(each).add([Line(_A, "a.md")])
    limit = len(replica.version(_MAP)) - over
    monkeypatch.setattr("phextsync.files.naming.TOGETHER_BYTES_MAX", limit)
    for each in (replica, other):
        _naming(each).add([Line(_B, "b.md")])
    assert (replica.version(_MAP) == other.version(_MAP)) == (not over)


def test_a_line_that_is_changed_takes_the_place_of_the_one_that_was(
    replica: Replica, naming: Naming
) -> None:
    naming.add([Line(_A, "a.md"), Line(_B, "b.md")])
    version = replica.version(_MAP)
    naming.change({_A: Line(_A, "a.md"), _B: Line(_B, "b.md")})
    assert replica.version(_MAP) == version
    naming.follow([], 0)
    naming.change({_A: Line(_A, "z.md", "x"), _B: Line(_B, "b.md")})
    assert replica[_MAP] == f"{Line(_B, 'b.md')}{Line(_A, 'z.md', 'x')}"
    assert _A in naming.follow([], 0)


def test_a_change_is_made_on_what_somebody_else_has_written_meanwhile(
    replica: Replica, naming: Naming
) -> None:
    naming.add([Line(_A, "a.md")])
    replica[_MAP] += str(Line(_B, "b.md"))
    naming.change({_A: Line(_A, "c.md")})
    assert replica[_MAP] == f"{Line(_B, 'b.md')}{Line(_A, 'c.md')}"


def test_a_change_is_made_if_somebody_else_has_taken_it_back_meanwhile(
    replica: Replica, naming: Naming
) -> None:
    naming.add([Line(_A, "a.md")])
    replica[_MAP] = str(Line(_A, "b.md"))
    naming.change({_A: Line(_A, "a.md")})
    assert replica[_MAP] == str(Line(_A, "a.md"))


def test_tidying_takes_nothing_of_what_somebody_else_has_written_meanwhile(
    replica: Replica, naming: Naming
) -> None:
    replica[_MAP] = f"{Line(_A, 'a.md')}{Line(_A, 'b.md')}"
    naming.load(0)
    replica[_MAP] += str(Line(_B, "c.md"))
    naming.tidy()
    assert replica[_MAP] == f"{Line(_A, 'a.md')}{Line(_B, 'c.md')}"


def test_tidying_leaves_one_line_of_each_scroll_and_is_one_change_on_two_machines(
    replica: Replica,
) -> None:
    text = f"{Line(_A, 'a.md')}{Line(_A, 'b.md')}{Line(_B, 'c.md')}"
    other = _replica(1)
    for each in (replica, other):
        each.import_text(_MAP, text)
        naming = _naming(each)
        naming.load(0)
        naming.tidy()
        assert each[_MAP] == f"{Line(_A, 'a.md')}{Line(_B, 'c.md')}"
        assert naming.map.is_tidy
        naming.tidy()
    assert replica.version(_MAP) == other.version(_MAP)


def test_who_writes_the_map_is_named_and_peers_hear_of_it_when_it_is_durable(
    replica: Replica, naming: Naming
) -> None:
    seen: list[tuple[str, bool]] = []

    def note(change: Change) -> None:
        seen.append((change.label, is_durable_first()))

    replica.subscribe(note)
    naming.add([Line(_A, "a.md")])
    naming.change({_A: Line(_A, "b.md")})
    replica[_MAP] = f"{Line(_A, 'a.md')}{Line(_A, 'b.md')}"
    naming.follow([_MAP], 0)
    naming.tidy()
    assert seen == [("files", True)] * 2 + [("", False)] + [("files", True)]
