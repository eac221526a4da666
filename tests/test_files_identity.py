"""Which file is which, when several get other names at once or a node ends meanwhile."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from phextsync.files.absences import GRACE_S
from sims.machines import Machine
from tests.test_files import Mesh, _AtCall, _end, _place, _replace
from tests.test_files_renames import _SAVES, _line, _Save
from tests.test_files_renames import _end as _end_node


@pytest.fixture
def mesh() -> Mesh:
    made = Mesh(2)
    made.join()
    return made


def _text(*numbers: int) -> str:
    return "".join(map(_line, numbers))


def test_a_file_that_is_renamed_during_a_round_with_another_in_its_place_is_that_file() -> None:
    seen = 0
    for number in range(1, 80):
        mesh = Mesh(2)
        mesh.join()
        one, two = mesh.machines
        one.disk.put("n.md", _text(0, 1, 2))
        mesh.settle(2)

        def rename(one: Machine = one) -> None:
            one.disk.rename("n.md", "m.md")
            one.disk.put("n.md", _line(50))

        at_call = _AtCall(one, number, rename)
        two.disk.put("n.md", _text(0, 1))
        mesh.pass_time(0.3)
        if at_call.calls < number:
            break
        seen += 1
        assert mesh.settle(4) == {"n.md": _line(50), "m.md": _text(0, 1)}, number
    assert seen > 10


def _change_places(machine: Machine, one: str, other: str) -> None:
    machine.disk.rename(one, "third")
    machine.disk.rename(other, one)
    machine.disk.rename("third", other)


def _turn(machine: Machine) -> None:
    _change_places(machine, "a", "b")
    _change_places(machine, "b", "c")


@pytest.mark.parametrize("is_ended", [False, True])
@pytest.mark.parametrize("passed_s", [0.0, 0.2, 2.0])
@pytest.mark.parametrize(
    ("change", "wanted"),
    [(lambda one: _change_places(one, "a", "b"), "bac"), (_turn, "bca")],
)
def test_files_that_change_places_are_those_files(
    mesh: Mesh,
    is_ended: bool,
    passed_s: float,
    change: Callable[[Machine], None],
    wanted: str,
) -> None:
    one, two = mesh.machines
    first = {"a": 0, "b": 10, "c": 20}
    for path, number in first.items():
        one.disk.put(path, _text(number, number + 1, number + 2))
    mesh.settle()
    places = {path: _place(one, path) for path in first}
    if is_ended:
        _end_node(mesh, 0)
    change(one)
    if not is_ended:
        mesh.pass_time(passed_s)
    for path, text in two.visible().items():
        two.disk.put(path, "".join(text.splitlines(keepends=True)[:2]))
    if is_ended:
        mesh.pass_time(passed_s)
        one.start()
    files = mesh.settle(6)
    assert files == {
        path: _text(first[old], first[old] + 1) for path, old in zip("abc", wanted, strict=True)
    }
    for path, old in zip("abc", wanted, strict=True):
        assert _place(one, path) == places[old]


@_SAVES
@pytest.mark.parametrize("changed", [1, 2, 3])
@pytest.mark.parametrize("passed_s", [0.0, 0.2])
@pytest.mark.parametrize("is_ended", [False, True])
def test_a_renamed_file_that_was_seen_is_what_is_saved_there_though_another_has_its_place(
    mesh: Mesh, save: _Save, changed: int, passed_s: float, is_ended: bool
) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", _text(0, 1, 2))
    mesh.settle()
    place = _place(one, "n.md")
    one.disk.rename("n.md", "m.md")
    mesh.pass_time(passed_s)
    one.disk.put("n.md", _line(50))
    mesh.pass_time(0.2)
    if is_ended:
        _end_node(mesh, 0)
    mine = [*range(60, 60 + changed), *range(changed, 3)]
    save(one, "m.md", _text(*mine))
    if is_ended:
        one.start()
    else:
        mesh.pass_time(0.2)
    two.disk.put("n.md", _text(0, 1, 2, 70))
    assert mesh.settle(6) == {"m.md": _text(*mine, 70), "n.md": _line(50)}
    assert _place(one, "m.md") == place


def test_a_file_that_takes_the_second_place_of_a_renamed_one_is_another(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", _text(0, 1, 2))
    mesh.settle()
    place = _place(one, "n.md")
    one.disk.rename("n.md", "m.md")
    one.disk.put("n.md", _line(50))
    mesh.pass_time(0.2)
    one.disk.rename("m.md", "k.md")
    one.disk.put("m.md", _line(51))
    two.disk.put("n.md", _text(0, 1))
    wanted = {"n.md": _line(50), "m.md": _line(51), "k.md": _text(0, 1)}
    assert mesh.settle(6) == wanted
    assert _place(one, "k.md") == place


def test_a_save_by_the_old_name_while_a_node_that_renames_ends_is_a_save_of_that_file() -> None:
    for number in range(1, 60):
        mesh = Mesh(2, has_exchange=False)
        one, two = mesh.machines
        two.disk.put("old.md", _text(0, 1))
        mesh.settle(2)
        two.disk.rename("old.md", "new.md")
        mesh.pass_time(GRACE_S)
        at_call = _AtCall(one, number, _end)
        with suppress(KeyboardInterrupt):
            mesh.pass_time(1)
        if at_call.calls < number:
            break
        _end_node(mesh, 0)
        is_there = one.disk.find("old.md") is not None
        if is_there:
            _replace(one, "old.md", _text(0, 60, 1))
        one.files.before = lambda name, path: None
        one.start()
        text = _text(0, 60, 1) if is_there else _text(0, 1)
        assert mesh.settle(5) == {"new.md": text}, number
    assert number > 20


@pytest.mark.parametrize(("exchanges", "links"), [(True, True), (False, True), (False, False)])
def test_a_save_by_the_new_name_while_a_file_gets_it_is_a_save_of_that_file(
    exchanges: bool, links: bool
) -> None:
    saved = 0
    for number in range(1, 60):
        mesh = Mesh(2, has_exchange=exchanges, has_links=links)
        one, two = mesh.machines
        two.disk.put("old.md", _text(0, 1))
        mesh.settle(2)
        is_there = False

        def save(one: Machine = one) -> None:
            nonlocal is_there
            is_there = one.disk.find("new.md") is not None
            if is_there:
                _replace(one, "new.md", _text(0, 60))

        two.disk.rename("old.md", "new.md")
        mesh.pass_time(GRACE_S)
        at_call = _AtCall(one, number, save)
        mesh.pass_time(1)
        if at_call.calls < number:
            break
        saved += is_there
        assert mesh.settle(5) == {"new.md": _text(0, 60) if is_there else _text(0, 1)}, number
    assert saved > 2


@pytest.mark.parametrize("comes", [False, True])
def test_a_file_that_is_renamed_to_a_path_that_is_looked_at_in_that_round_is_that_file(
    comes: bool,
) -> None:
    seen = 0
    for number in range(1, 80):
        mesh = Mesh(2)
        mesh.join()
        one, two = mesh.machines
        one.disk.put("old.md", _text(0, 1, 2))
        mesh.settle(2)
        place = _place(one, "old.md")
        if comes:
            two.disk.put("new.md", _line(50))
        else:
            one.disk.put("new.md", "")
            one.disk.unlink("new.md")
        mesh.network.run(0.1)
        two.work()
        mesh.network.run(0.1)

        def rename(one: Machine = one) -> None:
            if one.disk.find("new.md") is None:
                one.disk.rename("old.md", "new.md")

        at_call = _AtCall(one, number, rename)
        one.work()
        if at_call.calls < number:
            break
        seen += 1
        mesh.pass_time(0.2)
        two.disk.put("old.md", _text(0, 1))
        files = mesh.settle(6)
        assert sorted(files.values()) == sorted([_text(0, 1), *[_line(50)] * comes]), number
        assert one.binding is not None
        assert files[one.binding.naming.layout.path_of(place) or ""] == _text(0, 1), number
    assert seen > 5


def test_a_file_with_a_second_name_that_appears_is_two_files(mesh: Mesh) -> None:
    one, _ = mesh.machines
    one.disk.put("n.md", _text(0, 1))
    mesh.settle()
    one.disk.link("n.md", "m.md")
    assert mesh.settle() == {"n.md": _text(0, 1), "m.md": _text(0, 1)}


def test_a_renamed_file_that_waits_for_another_is_not_what_a_third_has_put_in_its_place(
    mesh: Mesh,
) -> None:
    one, two = mesh.machines
    for path, number in (("a", 0), ("b", 10), ("c", 20)):
        one.disk.put(path, _text(number, number + 1))
    mesh.settle()
    for old, new in (("a", "x"), ("b", "a"), ("c", "d"), ("x", "c")):
        mesh.pass_time(0.4)
        one.disk.rename(old, new)
    for path, number in (("a", 0), ("b", 10), ("c", 20)):
        two.disk.put(path, _line(number))
    assert mesh.settle(6) == {"c": _line(0), "a": _line(10), "d": _line(20)}


def _go_on(
    prepare: Callable[[Machine], None], go_on: Callable[[Machine], None], wanted: dict[str, str]
) -> None:
    """Let files get other names at some call of what a machine does next, and others change them
    by their old ones."""
    for number in range(1, 200, 3):
        mesh = Mesh(2)
        mesh.join()
        one, two = mesh.machines
        one.disk.put("a", _text(0, 1, 2))
        one.disk.put("b", _text(10, 11))
        mesh.settle(2)
        one.disk.rename("a", "x")
        mesh.pass_time(0.4)
        one.disk.rename("b", "a")
        mesh.pass_time(0.4)
        prepare(one)
        two.disk.put("a", _text(0, 1, 2, 70))
        two.disk.put("b", _text(10))
        at_call = _AtCall(one, number, partial(go_on, one))
        mesh.pass_time(0.2)
        if at_call.calls < number:
            break
        assert mesh.settle(6) == wanted, number
    assert number > 20


def test_a_renamed_file_is_known_though_another_leaves_its_place_at_that_moment() -> None:
    def prepare(machine: Machine) -> None:
        _replace(machine, "x", _text(60, 61, 2))
        machine.work()
        machine.disk.put("other", "other\n")

    wanted = {"x": _text(60, 61, 2, 70), "b": _text(10), "other": "other\n"}
    _go_on(prepare, lambda machine: machine.disk.rename("a", "b"), wanted)


def test_a_renamed_file_that_goes_on_when_its_name_is_about_to_count_is_that_file() -> None:
    def prepare(machine: Machine) -> None:
        machine.network.run(GRACE_S - 0.8)

    wanted = {"y": _text(0, 1, 2, 70), "a": _text(10)}
    _go_on(prepare, lambda machine: machine.disk.rename("x", "y"), wanted)
