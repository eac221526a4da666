"""What two machines do to the marks of a file, and to its name, is done on both."""

import errno
from itertools import permutations

import pytest

from phextsync.edits import apply_edits
from phextsync.files.names import Line, NameMap
from sims.machines import RANGE
from tests.test_files import Mesh
from tests.test_names import _PLACES

_BOTH = [(0o755, 0o600, 0o700), (0o600, 0o755, 0o700), (0o755, 0o755, 0o755)]


def _modes(mesh: Mesh, path: str) -> list[int]:
    return [machine.disk.get(path).mode & 0o777 for machine in mesh.machines]


def _mesh_with(path: str, mode: int = 0o644) -> Mesh:
    mesh = Mesh(2)
    mesh.join()
    mesh.machines[0].disk.create(path, "file", mode)
    mesh.machines[0].disk.put(path, "echo\n")
    mesh.settle()
    return mesh


@pytest.mark.parametrize("is_parted", [True, False])
@pytest.mark.parametrize(("mine", "theirs", "both"), _BOTH)
def test_marks_that_two_set_are_both_set(
    mine: int, theirs: int, both: int, is_parted: bool
) -> None:
    mesh = _mesh_with("run.sh")
    if is_parted:
        mesh.part()
    for machine, mode in zip(mesh.machines, (mine, theirs), strict=True):
        machine.disk.set_mode("run.sh", mode)
    mesh.pass_time(2)
    mesh.settle()
    assert _modes(mesh, "run.sh") == [both, both]


def test_a_mark_that_one_takes_away_and_one_that_another_sets_are_both_done() -> None:
    mesh = _mesh_with("run.sh", 0o755)
    one, two = mesh.machines
    mesh.part()
    one.disk.set_mode("run.sh", 0o644)
    two.disk.set_mode("run.sh", 0o700)
    mesh.pass_time(2)
    mesh.settle()
    assert _modes(mesh, "run.sh") == [0o600, 0o600]
    one.disk.set_mode("run.sh", 0o755)
    mesh.settle()
    assert _modes(mesh, "run.sh") == [0o755, 0o755]


def test_a_mark_that_cannot_be_set_is_no_problem_any_more_when_its_file_is_gone() -> None:
    mesh = _mesh_with("run.sh")
    one, two = mesh.machines

    def refuse(name: str, path: str) -> None:
        if name == "chmod":
            raise PermissionError(errno.EPERM, "not permitted")

    two.files.before = refuse
    one.disk.set_mode("run.sh", 0o755)
    mesh.pass_time(2)
    assert two.binding is not None
    assert [problem.path for problem in two.binding.problems] == ["run.sh"]
    one.disk.put("run.sh", "")
    assert mesh.settle() == {}
    assert [*two.binding.problems] == []


def test_a_mark_that_comes_before_a_file_is_looked_at_is_not_taken_away() -> None:
    mesh = _mesh_with("run.sh")
    one, two = mesh.machines
    one.disk.set_mode("run.sh", 0o600)
    one.work()
    mesh.network.run(1)
    two.disk.set_mode("run.sh", 0o755)
    mesh.settle()
    assert _modes(mesh, "run.sh") == [0o700, 0o700]


@pytest.mark.parametrize("name", ["a.sh", "z.sh"])
def test_a_rename_and_a_mark_that_are_made_apart_are_both_done(name: str) -> None:
    mesh = _mesh_with("run.sh")
    one, two = mesh.machines
    mesh.part()
    one.disk.rename("run.sh", name)
    two.disk.set_mode("run.sh", 0o755)
    mesh.pass_time(3)
    assert list(mesh.settle()) == [name]
    assert _modes(mesh, name) == [0o755, 0o755]


def test_of_lines_that_were_made_apart_none_of_what_was_done_is_lost() -> None:
    start = NameMap(RANGE, str(Line(_PLACES[0], "b.md", "x")))
    done = [
        Line(_PLACES[0], "c.md", "x"),
        Line(_PLACES[0], "b.md", ""),
        Line(_PLACES[0], "b.md", "px"),
    ]
    texts = [apply_edits(start.text, start.edits([_PLACES[0]], [line])) for line in done]
    assert texts == [f"{_PLACES[0]} {end}\n" for end in ("c.md\tx", "b.md\tx2", "b.md\tpx")]
    for some in permutations(texts):
        names = NameMap(RANGE, "".join(some))
        assert names.line_at(_PLACES[0]) == Line(_PLACES[0], "c.md", "p")
        names.read(apply_edits(names.text, names.tidy()))
        assert (names.text, names.is_tidy) == (f"{_PLACES[0]} c.md\tpx2\n", True)


def test_a_line_can_be_changed_very_often() -> None:
    names = NameMap(RANGE, f"{_PLACES[0]} b.md\tx999998\n")
    names.read(apply_edits(names.text, names.edits([_PLACES[0]], [Line(_PLACES[0], "a.md", "x")])))
    names.read(apply_edits(names.text, names.edits([_PLACES[0]], [Line(_PLACES[0], "a.md")])))
    assert names.text == f"{_PLACES[0]} a.md\tx999999\n"
