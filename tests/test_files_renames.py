"""A file that gets another name is that file, whatever else happens until that counts."""

from collections.abc import Callable
from random import Random

import pytest

from phextsync.files.absences import GRACE_S
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.paths import Abilities
from phextsync.testing.memory_disk import MemoryDisk
from sims.machines import Machine
from tests.test_files import Mesh, _AtCall, _place, _replace

_Save = Callable[[Machine, str, str], None]
_SAVES = pytest.mark.parametrize("save", [_replace, lambda m, path, text: m.disk.put(path, text)])


@pytest.fixture
def mesh() -> Mesh:
    made = Mesh(2)
    made.join()
    return made


@pytest.mark.parametrize("passed_s", [0.0, 0.5, GRACE_S - 0.1, GRACE_S])
@pytest.mark.parametrize("ignoring", [0, 1, 2])
@pytest.mark.parametrize("is_renamed_apart", [False, True])
def test_a_file_that_was_renamed_before_its_old_name_is_ignored_is_that_file(
    passed_s: float, ignoring: int, is_renamed_apart: bool
) -> None:
    mesh = Mesh(3)
    one, two, _ = mesh.machines
    one.disk.make_folders("x")
    one.disk.put("x/n.md", "first\nlast\n")
    mesh.settle()
    one.disk.rename("x/n.md", "one.md")
    if is_renamed_apart:
        mesh.pass_time(0.3)
        two.disk.rename("x/n.md", "two.md")
    mesh.pass_time(passed_s)
    mesh.machines[ignoring].disk.put(IGNORE_FILE, "x/\n")
    name = "two.md" if is_renamed_apart else "one.md"  # the later of two counts
    assert mesh.settle(6) == {IGNORE_FILE: "x/\n", name: "first\nlast\n"}
    for machine in mesh.machines:
        assert machine.disk.find("x/n.md") is None
        assert machine.binding is not None
        assert machine.binding.situation().waiting == 0


def test_an_ignored_file_that_is_removed_is_none_that_appears_later() -> None:
    mesh = Mesh(2)
    one, two = mesh.machines
    one.disk.put("n.log", "first\nlast\n")
    one.disk.put(IGNORE_FILE, "")
    mesh.settle()
    one.disk.put(IGNORE_FILE, "*.log\n")
    mesh.settle()
    one.disk.unlink("n.log")
    mesh.pass_time(1)
    one.disk.put("new.md", "first\nlast\n")
    assert mesh.settle(6) == {IGNORE_FILE: "*.log\n", "new.md": "first\nlast\n"}
    assert two.disk.text("n.log") == "first\nlast\n"


@pytest.mark.parametrize(("exchanges", "links"), [(True, True), (False, True), (False, False)])
def test_a_save_by_the_old_name_while_a_file_gets_another_is_a_save_of_that_file(
    exchanges: bool, links: bool
) -> None:
    saved = 0
    for number in range(1, 60):
        mesh = Mesh(2, has_exchange=exchanges, has_links=links)
        one, two = mesh.machines
        two.disk.put("old.md", "first\nlast\n")
        mesh.settle(2)
        is_there = False

        def save(one: Machine = one) -> None:
            nonlocal is_there
            is_there = one.disk.find("old.md") is not None
            if is_there:
                _replace(one, "old.md", "first\nmine\nlast\n")

        two.disk.rename("old.md", "new.md")
        mesh.pass_time(GRACE_S)
        at_call = _AtCall(one, number, save)
        mesh.pass_time(1)
        if at_call.calls < number:
            break
        saved += is_there
        text = "first\nmine\nlast\n" if is_there else "first\nlast\n"
        assert mesh.settle(5) == {"new.md": text}, number
    assert saved > 2


def _line(number: int) -> str:
    source = Random(number)
    return " ".join(f"{source.getrandbits(24):06x}" for _ in range(8)) + "\n"


def _end(mesh: Mesh, number: int) -> None:
    mesh.machines[number].files.end()
    mesh.network.crash(number)


@_SAVES
@pytest.mark.parametrize("ended_at", range(4))
def test_a_node_that_ends_before_a_rename_counts_knows_what_the_file_was(
    mesh: Mesh, save: _Save, ended_at: int
) -> None:
    one, two = mesh.machines
    lines = [_line(i) for i in range(3)]
    one.disk.put("n.md", "".join(lines))
    mesh.settle()
    place = _place(one, "n.md")
    one.disk.rename("n.md", "m.md")
    mesh.pass_time(0.2)
    two.disk.put("n.md", "".join([*lines[:2], _line(99)]))
    for i in range(4):
        lines[i % 3] = _line(10 + i)
        save(one, "m.md", "".join(lines))
        mesh.pass_time(0.2)
        if i == ended_at:
            _end(mesh, 0)
            one.start()
    files = mesh.settle(6)
    assert list(files) == ["m.md"]
    wanted = [_line(11), _line(12), _line(13), _line(99)]  # the one that was deleted was changed
    assert sorted(files["m.md"].splitlines(keepends=True)) == sorted(wanted)
    assert _place(one, "m.md") == place
    assert one.binding is not None
    assert not one.binding.records.guises


def test_a_file_that_is_renamed_and_rewritten_in_place_while_no_node_runs_is_that_file(
    mesh: Mesh,
) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "".join(map(_line, range(3))))
    mesh.settle()
    place = _place(one, "n.md")
    _end(mesh, 0)
    one.disk.rename("n.md", "m.md")
    one.disk.put("m.md", _line(10))
    two.disk.put("n.md", "".join(map(_line, [0, 1, 2, 99])))
    mesh.pass_time(2)
    one.start()
    assert mesh.settle(6) == {"m.md": _line(10) + _line(99)}
    assert _place(one, "m.md") == place


@pytest.mark.parametrize("passed_s", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("is_ended", [False, True])
def test_a_renamed_file_with_another_in_its_place_is_that_file(
    mesh: Mesh, passed_s: float, is_ended: bool
) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "".join(map(_line, range(3))))
    mesh.settle()
    place = _place(one, "n.md")
    one.disk.rename("n.md", "m.md")
    mesh.pass_time(passed_s)
    one.disk.put("n.md", _line(50))
    two.disk.put("n.md", "".join(map(_line, range(2))))
    if is_ended:
        mesh.pass_time(0.2)
        _end(mesh, 0)
        one.start()
    assert mesh.settle(6) == {"m.md": "".join(map(_line, range(2))), "n.md": _line(50)}
    assert _place(one, "m.md") == place


@_SAVES
@pytest.mark.parametrize(("lines", "changed"), [(3, 1), (4, 2)])
@pytest.mark.parametrize("passed_s", [0.0, 0.2])
@pytest.mark.parametrize("is_ended", [False, True])
def test_a_renamed_file_with_another_in_its_place_is_saved_as_that_file(
    mesh: Mesh, save: _Save, lines: int, changed: int, passed_s: float, is_ended: bool
) -> None:
    one, two = mesh.machines
    old = list(map(_line, range(lines)))
    one.disk.put("n.md", "".join(old))
    mesh.settle()
    place = _place(one, "n.md")
    one.disk.rename("n.md", "m.md")
    mesh.pass_time(passed_s)
    one.disk.put("n.md", _line(50))
    mesh.pass_time(0.2)
    mine = [*map(_line, range(60, 60 + changed)), *old[changed:]]
    save(one, "m.md", "".join(mine))
    mesh.pass_time(0.2)
    if is_ended:
        _end(mesh, 0)
        one.start()
    two.disk.put("n.md", "".join([*old, _line(70)]))
    assert mesh.settle(6) == {"m.md": "".join([*mine, _line(70)]), "n.md": _line(50)}
    assert _place(one, "m.md") == place


@pytest.mark.parametrize("passed_s", [0.0, 0.3])
@pytest.mark.parametrize("ended_after", [None, 1, 2, 3])
@pytest.mark.parametrize("new", [_line(50), ""])
def test_files_that_take_each_the_place_of_the_next_are_those_files(
    mesh: Mesh, passed_s: float, ended_after: int | None, new: str
) -> None:
    one, two = mesh.machines
    texts = {path: "".join(map(_line, (i, i + 1, i + 2))) for path, i in (("a", 0), ("b", 10))}
    for path, text in texts.items():
        one.disk.put(path, text)
    mesh.settle()
    for number, (path, other) in enumerate((("b", "c"), ("a", "b")), 1):
        one.disk.rename(path, other)
        mesh.pass_time(passed_s)
        if ended_after == number:
            _end(mesh, 0)
            one.start()
            mesh.join()
    one.disk.put("a", new)
    for path, text in texts.items():
        two.disk.put(path, "".join(text.splitlines(keepends=True)[:2]))
    mesh.pass_time(passed_s)
    if ended_after == 3:
        _end(mesh, 0)
        one.start()
    wanted = {"b": "".join(map(_line, (0, 1))), "c": "".join(map(_line, (10, 11)))}
    assert mesh.settle(6) == {**({"a": new} if new else {}), **wanted}


@pytest.mark.parametrize(("file", "folder"), [("plans", "todo"), ("todo", "plans")])
@pytest.mark.parametrize("has_exchange", [True, False])
def test_a_file_and_a_folder_that_change_places_do_so_elsewhere(
    file: str, folder: str, has_exchange: bool
) -> None:
    mesh = Mesh(2, has_exchange=has_exchange)
    one, two = mesh.machines
    one.disk.put(file, "the file\n")
    one.disk.make_folders(folder)
    one.disk.put(f"{folder}/n.md", "in the folder\n")
    mesh.settle()
    mesh.part()
    two.disk.rename(file, "between.tmp")
    two.disk.rename(folder, file)
    two.disk.rename("between.tmp", folder)
    mesh.pass_time(4)  # so that both names come at once
    assert mesh.settle() == {folder: "the file\n", f"{file}/n.md": "in the folder\n"}
    assert all(machine.is_at_rest() for machine in mesh.machines)


@pytest.mark.parametrize("name", ["Notes", "notes"])
def test_a_file_takes_the_name_of_its_folder_in_other_letters_where_case_does_not_count(
    name: str,
) -> None:
    folding = MemoryDisk(abilities=Abilities(folds_case=True))
    mesh = Mesh(2)
    two = mesh.machines[1]
    one = mesh.machines[0] = Machine(mesh.network, 0, folding)
    one.disk.make_folders("notes")
    one.disk.put("notes/a.md", "a line\n")
    mesh.settle()
    two.disk.rename("notes/a.md", "between.tmp")
    two.disk.remove_folder("notes")
    two.disk.rename("between.tmp", name)
    assert mesh.settle() == {name: "a line\n"}
    assert all(machine.is_at_rest() for machine in mesh.machines)


def test_a_file_that_is_saved_beside_a_backup_of_it_stays_that_file(mesh: Mesh) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "".join(map(_line, range(4))))
    mesh.settle()
    place = _place(one, "n.md")
    one.disk.rename("n.md", "n.md.1")
    one.disk.put("n.md", "".join(map(_line, [0, 1, 2, 3, 50])))
    two.disk.put("n.md", "".join(map(_line, [60, 0, 1, 2, 3])))
    files = mesh.settle(6)
    assert files["n.md"] == "".join(map(_line, [60, 0, 1, 2, 3, 50]))
    assert files["n.md.1"] == "".join(map(_line, range(4)))
    assert _place(one, "n.md") == place


@pytest.mark.parametrize("passed_s", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("has_another_in_its_place", [False, True])
@pytest.mark.parametrize("is_ended", [False, True])
def test_a_file_that_comes_to_where_another_was_renamed_is_not_merged_with_it(
    mesh: Mesh, passed_s: float, has_another_in_its_place: bool, is_ended: bool
) -> None:
    one, two = mesh.machines
    old = list(map(_line, range(3)))
    one.disk.put("n.md", "".join(old))
    mesh.settle()
    place = _place(one, "n.md")
    one.disk.rename("n.md", "m.md")
    others = {"n.md": _line(50)} if has_another_in_its_place else {}
    for path, text in others.items():
        one.disk.put(path, text)
    mesh.pass_time(passed_s)
    two.disk.put("m.md", _line(60))
    two.disk.put("n.md", "".join(old[:2]))
    if is_ended:
        mesh.pass_time(0.2)
        _end(mesh, 0)
        one.start()
    files = mesh.settle(6)
    assert one.binding is not None
    path = one.binding.naming.layout.path_of(place) or ""
    assert path in ("m.md", "m.md~2")
    (other,) = {"m.md", "m.md~2"} - {path}
    assert files == {path: "".join(old[:2]), other: _line(60), **others}


@pytest.mark.parametrize("passed_s", [0.0, 0.3, 1.0])
def test_a_file_comes_to_where_another_was_renamed_for_a_moment(
    mesh: Mesh, passed_s: float
) -> None:
    one, two = mesh.machines
    one.disk.put("n.md", "".join(map(_line, range(3))))
    mesh.settle()
    one.disk.rename("n.md", "m.md")
    mesh.pass_time(passed_s)
    two.disk.put("m.md", _line(60))
    mesh.pass_time(0.2)
    one.disk.rename("m.md", "n.md")
    assert mesh.settle(3) == {"m.md": _line(60), "n.md": "".join(map(_line, range(3)))}


def test_a_file_with_others_in_its_places_that_is_renamed_during_a_round_is_that_file() -> None:
    seen = 0
    for number in range(1, 80):
        mesh = Mesh(2)
        mesh.join()
        one, two = mesh.machines
        old = list(map(_line, range(3)))
        one.disk.put("n.md", "".join(old))
        mesh.settle(2)
        one.disk.rename("n.md", "m.md")
        one.disk.put("n.md", _line(50))
        mesh.pass_time(0.2)

        def rename(one: Machine = one) -> None:
            one.disk.rename("m.md", "k.md")
            one.disk.put("m.md", _line(51))

        at_call = _AtCall(one, number, rename)
        one.disk.put("x.md", _line(52))
        two.disk.put("n.md", "".join(old[:2]))
        mesh.pass_time(0.3)
        if at_call.calls < number:
            break
        seen += 1
        wanted = {"n.md": _line(50), "m.md": _line(51), "x.md": _line(52)}
        assert mesh.settle(4) == {**wanted, "k.md": "".join(old[:2])}, number
    assert seen > 10


@pytest.mark.parametrize("passed_s", [0.0, 0.3, 1.0])
def test_a_file_that_comes_to_where_another_was_renamed_with_the_same_text_is_one_with_it(
    mesh: Mesh, passed_s: float
) -> None:
    one, two = mesh.machines
    text = "".join(map(_line, range(3)))
    one.disk.put("n.md", text)
    mesh.settle()
    one.disk.rename("n.md", "m.md")
    mesh.pass_time(passed_s)
    two.disk.put("m.md", text)
    assert mesh.settle(6) == {"m.md": text}
