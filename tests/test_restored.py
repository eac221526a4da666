"""A data folder that is put back as it was earlier, beside a directory as it is now, doubles,
deletes and resurrects nothing."""

import errno
from collections.abc import Sequence
from random import Random

import pytest

from phextsync.files.held import HELD_FILE, NOTE_S
from phextsync.files.markers import MARKER_FILE, Marker
from phextsync.files.restored import ALONE_S, OTHERS_S, RENEW_S, Patience, Runs
from phextsync.store.memory import MemoryStore
from sims.machines import Machine
from tests.test_files import Mesh, _allow, _AtCall, _end, _refuse

_LINES = "".join(f"line {i}\n" for i in range(6))


def _mesh_that_tells() -> Mesh:
    made = Mesh(3)
    for machine in made.machines:
        machine.tells_runs = True
    made.join()
    made.pass_time(1)
    return made


@pytest.fixture
def mesh() -> Mesh:
    return _mesh_that_tells()


def _stop(mesh: Mesh, number: int = 0) -> MemoryStore:
    """End a node, and return a copy of its data folder. Nothing was changed for a while before."""
    mesh.pass_time(RENEW_S)
    mesh.network.crash(number)
    machine = mesh.machines[number]
    machine.binding = None
    return machine.peer.store.cloned()


def _put_back(mesh: Mesh, copy: MemoryStore, number: int = 0) -> Machine:
    """Start a node with an earlier data folder, alone."""
    machine = mesh.machines[number]
    mesh.part()
    machine.peer.store = copy.cloned()
    mesh.network.crash(number)
    machine.start()
    return machine


def _put_back_later(mesh: Mesh, copy: MemoryStore) -> None:
    """Do the same when renames count, of which the node that is down has seen nothing."""
    one = mesh.machines[0]
    one.is_due = lambda: False  # type: ignore[method-assign]
    mesh.pass_time(4)
    del one.is_due
    _put_back(mesh, copy)


def _restart(mesh: Mesh, number: int = 0) -> None:
    mesh.machines[number].start()
    mesh.join()


def test_lines_that_came_since_stand_once(mesh: Mesh) -> None:
    one, two, _ = mesh.machines
    one.disk.put("n.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    two.disk.put("n.md", f"{_LINES}of two\n")
    mesh.settle()
    one.disk.put("n.md", f"of one\n{_LINES}of two\n")
    expected = mesh.settle()
    _stop(mesh)
    machine = _put_back(mesh, copy)
    mesh.pass_time(ALONE_S / 2)
    assert "earlier" in machine.problem
    assert mesh.settle(8) == expected == {"n.md": f"of one\n{_LINES}of two\n"}
    assert not machine.problem


def test_an_earlier_data_folder_is_told_however_often_one_is_put_back(mesh: Mesh) -> None:
    """Runs of equal length, one after the other, from one copy: a count would be the same."""
    one, two, _ = mesh.machines
    one.disk.put("n.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    for turn in range(3):
        two.disk.put("n.md", f"{two.disk.text('n.md')}turn {turn}\n")
        expected = mesh.settle(8)
        later = _stop(mesh)
        assert mesh.settle(8) == expected if turn else True
        for earlier in (copy, later) if turn == 2 else (copy,):
            machine = _put_back(mesh, earlier)
            machine.work()
            assert "earlier" in machine.problem
            assert mesh.settle(8) == expected
            mesh.pass_time(RENEW_S)


def test_a_file_that_was_renamed_since_comes_once(mesh: Mesh) -> None:
    one, two, _ = mesh.machines
    for name in ("here.md", "there.md", "down.md", "gone.md"):
        one.disk.put(name, f"{name}\n{_LINES}")
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    one.disk.rename("here.md", "here-2.md")
    two.disk.rename("there.md", "there-2.md")
    mesh.settle()
    _stop(mesh)
    two.disk.rename("down.md", "down-2.md")
    two.disk.unlink("gone.md")
    _put_back_later(mesh, copy)
    expected = {f"{name}-2.md": f"{name}.md\n{_LINES}" for name in ("here", "there", "down")}
    assert mesh.settle(8) == expected


def test_a_file_that_is_younger_than_the_copy_comes_once_though_it_is_renamed(mesh: Mesh) -> None:
    one, two, _ = mesh.machines
    one.disk.put("n.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    two.disk.put("young.md", f"young\n{_LINES}")
    mesh.settle()
    _stop(mesh)
    two.disk.rename("young.md", "grown.md")
    one.disk.rename("n.md", "renamed.md")
    _put_back_later(mesh, copy)
    assert mesh.settle(8) == {"grown.md": f"young\n{_LINES}", "renamed.md": _LINES}


def test_what_was_written_since_on_either_side_stays(mesh: Mesh) -> None:
    one, two, _ = mesh.machines
    one.disk.put("n.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    two.disk.put("n.md", _LINES.replace("line 1\n", "line one\n"))
    mesh.pass_time(1)
    one.disk.put("n.md", f"{_LINES}of the user\n")
    one.disk.put("new.md", "new\n")
    one.start()
    mesh.part()
    one.work()  # so that the marker is ahead of the copy
    mesh.pass_time(RENEW_S)
    _put_back(mesh, copy)
    expected = _LINES.replace("line 1\n", "line one\n")
    assert mesh.settle(8) == {"n.md": f"{expected}of the user\n", "new.md": "new\n"}


def test_of_what_is_younger_than_the_copy_nothing_is_taken_for_old(mesh: Mesh) -> None:
    """What others deleted while the node was down is back in a file that was changed, since its
    user may have written it."""
    one, two, _ = mesh.machines
    one.disk.put("n.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    two.disk.put("n.md", f"{_LINES}of all\n")
    mesh.settle()
    _stop(mesh)
    two.disk.put("n.md", _LINES)
    one.disk.put("n.md", f"{_LINES}of all\nof the user\n")
    _put_back_later(mesh, copy)
    assert mesh.settle(8) == {"n.md": f"{_LINES}of all\nof the user\n"}


def _held_and_deleted(mesh: Mesh) -> MemoryStore:
    """Let lines and a file come after a copy of a data folder, others have them, and delete them
    while the node is down. Return the copy."""
    one, two, _ = mesh.machines
    one.disk.put("n.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    one.disk.put("n.md", f"young\n{_LINES}of all\n")
    two.disk.put("young.md", "young file\n")
    mesh.settle()
    mesh.pass_time(NOTE_S)
    _stop(mesh)
    two.disk.put("n.md", f"{_LINES}of two\n")
    two.disk.unlink("young.md")
    return copy


def test_what_others_had_and_deleted_since_does_not_come_back(mesh: Mesh) -> None:
    _put_back_later(mesh, _held_and_deleted(mesh))
    assert mesh.settle(8) == {"n.md": f"{_LINES}of two\n"}


def test_what_others_had_comes_back_where_none_of_them_is_met(mesh: Mesh) -> None:
    """The machine that is met may never have had it."""
    copy = _held_and_deleted(mesh)
    one = mesh.machines[0]
    one._holders = lambda: {b"another"}  # type: ignore[method-assign]
    _put_back_later(mesh, copy)
    found = mesh.settle(8)
    assert found["young.md"] == "young file\n"
    assert sorted(found["n.md"].splitlines()) == sorted(
        ["young", *_LINES.splitlines(), "of two", "of all"]
    )


def test_what_a_user_made_as_it_was_is_not_taken_for_what_others_had(mesh: Mesh) -> None:
    one = mesh.machines[0]
    copy = _held_and_deleted(mesh)
    text = one.disk.text("n.md") or ""
    one.disk.put("n.md", _LINES)
    one.disk.put("n.md", text)
    _put_back_later(mesh, copy)
    found = mesh.settle(8)
    assert {"young", "of all", "of two"} <= {*found["n.md"].splitlines()}


@pytest.mark.parametrize("data", ["", "x", "held by nobody, and longer than a digest"])
def test_what_stands_in_the_place_of_what_is_noted_says_nothing(mesh: Mesh, data: str) -> None:
    copy = _held_and_deleted(mesh)
    one = mesh.machines[0]
    one.disk.put(HELD_FILE, data)
    _put_back_later(mesh, copy)
    assert "of all" in mesh.settle(8)["n.md"].splitlines()


def test_a_file_that_is_absent_was_not_deleted(mesh: Mesh) -> None:
    one = mesh.machines[0]
    one.disk.put("n.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    _stop(mesh)
    one.disk.unlink("n.md")
    _put_back(mesh, copy)
    assert mesh.settle(8) == {"n.md": _LINES}


def test_nobody_is_waited_for_where_somebody_confirms(mesh: Mesh) -> None:
    one = mesh.machines[0]
    one.disk.put("n.md", _LINES)
    one.disk.put("gone.md", _LINES)
    mesh.settle()
    copy = _stop(mesh)
    _restart(mesh)
    _stop(mesh)
    _put_back(mesh, copy)
    mesh.pass_time(10 * ALONE_S)
    assert "earlier" in one.problem
    one.disk.unlink("gone.md")
    one.confirmed_ns = int(1e9 * mesh.network.now)
    mesh.pass_time(4)
    assert not one.problem
    assert one.visible() == {"n.md": _LINES, "gone.md": _LINES}  # it confirms no deletion


def test_who_knows_of_nobody_looks_for_others_for_a_while_and_goes_on() -> None:
    mesh = Mesh(1)
    (one,) = mesh.machines
    one.tells_runs = True
    one.disk.put("n.md", _LINES)
    mesh.pass_time(1)
    copy = _stop(mesh)
    one.start()
    one.disk.put("n.md", f"{_LINES}more\n")
    mesh.pass_time(1)
    _put_back(mesh, copy)
    mesh.pass_time(ALONE_S - 1)
    assert "earlier" in one.problem
    mesh.pass_time(3)
    assert not one.problem
    assert one.visible() == {"n.md": f"{_LINES}more\n"}


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC])
def test_a_marker_that_cannot_be_written_is_no_sign_of_an_earlier_folder(
    mesh: Mesh, error: int
) -> None:
    one = mesh.machines[0]
    one.disk.put("n.md", _LINES)
    mesh.settle()
    _refuse(one, error)
    for _ in range(3):
        mesh.pass_time(RENEW_S)
        mesh.network.crash(0)
        one.start()
        one.work()
        assert "earlier" not in one.problem
    _allow(one)
    copy = _stop(mesh)
    _restart(mesh)
    mesh.pass_time(1)
    _stop(mesh)
    _put_back(mesh, copy).work()
    assert "earlier" in one.problem


def test_nothing_is_counted_for_a_marker_that_cannot_be_written_while_nothing_changes(
    mesh: Mesh,
) -> None:
    one = mesh.machines[0]
    one.disk.put("n.md", _LINES)
    mesh.settle()
    _refuse(one, errno.EROFS)
    mesh.network.crash(0)
    one.start()
    mesh.pass_time(2 * RENEW_S)
    counted = _runs_of(one)
    mesh.pass_time(3 * RENEW_S)
    assert _runs_of(one) == counted
    _allow(one)
    mesh.pass_time(RENEW_S)
    assert (one.disk.text(MARKER_FILE) or "").endswith(f"run {counted}\n")


def _runs_of(machine: Machine) -> str:
    return str(Runs(machine.peer.replicas, bytes(8), str))


def _ends_at(mesh: Mesh, number: int) -> bool:
    """Let the first machine work until it asks its files for the `number`th time, end there and
    start again. Return whether it asked so often."""
    one = mesh.machines[0]
    at_call = _AtCall(one, number, _end)
    try:
        one.work()
    except KeyboardInterrupt:
        one.files.end()
    _allow(one)
    mesh.network.crash(0)
    one.start()
    return at_call.calls >= number


def test_a_node_that_ends_at_any_moment_of_its_start_has_no_earlier_folder(mesh: Mesh) -> None:
    one = mesh.machines[0]
    one.disk.put("n.md", _LINES)
    mesh.settle()
    for number in range(1, 40):
        mesh.network.crash(0)
        one.start()
        is_over = not _ends_at(mesh, number)
        one.work()
        assert not one.problem
        if is_over:
            break
    else:
        pytest.fail("expected fewer calls")
    assert mesh.settle() == {"n.md": _LINES}


def test_a_node_that_ends_while_an_earlier_folder_is_taken_up_goes_on_with_that() -> None:
    younger = _LINES.replace("line 1\n", "")
    for number in range(1, 400, 16):
        mesh = _mesh_that_tells()
        one, two, _ = mesh.machines
        for name in ("n.md", "there.md"):
            one.disk.put(name, f"{name}\n{_LINES}")
        mesh.settle()
        copy = _stop(mesh)
        two.disk.put("n.md", f"n.md\n{younger}")
        two.disk.rename("there.md", "there-2.md")
        mesh.pass_time(4)
        one.start()
        mesh.part()
        one.work()  # so that the marker is ahead of the copy
        mesh.pass_time(RENEW_S)
        _put_back(mesh, copy).work()
        assert "earlier" in one.problem
        mesh.network.link_all()
        mesh.network.run(2)
        is_over = not _ends_at(mesh, number)
        assert mesh.settle(8) == {
            "n.md": f"n.md\n{younger}",
            "there-2.md": f"there.md\n{_LINES}",
        }, number
        if is_over:
            break
    else:
        pytest.fail("expected fewer calls")
    assert number > 100


def test_a_data_folder_knows_its_last_runs_and_what_the_marker_says() -> None:
    machine = Mesh(1).machines[0]
    numbers = iter(f"{i:016x}" for i in range(1000))
    runs = Runs(machine.peer.replicas, bytes(8), lambda: next(numbers))
    others = Runs(machine.peer.replicas, bytes([1] * 8), lambda: next(numbers))
    others.begin("")
    assert not runs.knows(str(others))
    runs.begin("")
    told = str(runs)
    runs.count()
    ahead = str(runs)
    assert runs.knows(told)
    assert runs.knows(ahead)
    for _ in range(600):  # while which the marker cannot be written
        runs = Runs(machine.peer.replicas, bytes(8), lambda: next(numbers, "f" * 16))
        runs.begin(ahead)
    assert runs.knows(ahead)
    assert not runs.knows(f"{ahead.partition(' ')[0]} 2")


@pytest.mark.parametrize("folder", ["", "/home/me/.phextsync", "/a\nrun b"])
def test_a_marker_says_which_run_changed_the_directory(folder: str) -> None:
    marker = Marker("token", folder, f"{'0' * 15}a 17")
    assert Marker.decode(marker.encode()) == marker
    assert Marker.decode(marker._replace(run="").encode()) == marker._replace(run="")


# -- any history -------------------------------------------------------------------------------


class _Users:
    """Users of a mesh who make, edit, rename and delete files."""

    def __init__(self, mesh: Mesh, source: Random) -> None:
        self._mesh = mesh
        self._source = source
        self._count = 0

    def act(self, times: int) -> dict[str, str]:
        """Do things, a while apart; return the files that all have in the end."""
        self.act_on(self._mesh.machines, times)
        return self._mesh.settle(8)

    def act_on(self, machines: Sequence[Machine], times: int) -> None:
        """Do things on some machines, a while apart."""
        for _ in range(times):
            self._act(self._source.choice(machines))
            self._mesh.pass_time(self._source.choice([0.2, 1, 3]))

    def _act(self, machine: Machine) -> None:
        self._count += 1
        disk, what = machine.disk, f"{self._count}"
        names = sorted(machine.visible()) if machine.binding is not None else []
        kind = self._source.choice(["new", "edit", "edit", "edit", "rename", "delete"])
        if kind == "new" or not names:
            disk.put(f"f{what}.md", "".join(f"t{what}.{i} word\n" for i in range(5)))
            return
        path = self._source.choice(names)
        if kind == "rename":
            disk.rename(path, f"g{what}.md")
        elif kind == "delete":
            disk.unlink(path)
        else:
            lines = (disk.text(path) or "").splitlines(keepends=True)
            at = self._source.randint(0, len(lines))
            if self._source.random() < 0.4 and at < len(lines):
                del lines[at]
            lines.insert(at, f"e{what} by {machine.number}\n")
            disk.put(path, "".join(lines))


@pytest.mark.parametrize("seed", range(24))
def test_any_history_in_which_others_go_on_ends_as_it_does_for_them(mesh: Mesh, seed: int) -> None:
    users = _Users(mesh, Random(seed))
    users.act(8)
    copy = _stop(mesh)
    _restart(mesh)
    users.act(8)
    mesh.pass_time(NOTE_S)
    _stop(mesh)
    mesh.machines[0].is_due = lambda: False  # type: ignore[method-assign]
    users.act_on(mesh.machines[1:], 8)
    mesh.pass_time(8)
    expected = mesh.machines[1].visible()
    del mesh.machines[0].is_due
    _put_back(mesh, copy).work()
    assert mesh.settle(8) == expected


def test_a_node_that_ends_while_what_others_had_is_taken_up_goes_on_with_that() -> None:
    for number in range(1, 400, 24):
        mesh = _mesh_that_tells()
        one = mesh.machines[0]
        _put_back_later(mesh, _held_and_deleted(mesh))
        one.work()
        assert "earlier" in one.problem
        mesh.network.link_all()
        mesh.network.run(2)
        is_over = not _ends_at(mesh, number)
        assert mesh.settle(8) == {"n.md": f"{_LINES}of two\n"}, number
        if is_over:
            break
    else:
        pytest.fail("expected fewer calls")
    assert number > 50


def _any_history(mesh: Mesh, seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Put the data folder of a machine back; return what all had before, and in the end."""
    users = _Users(mesh, Random(seed))
    users.act(8)
    copy = _stop(mesh)
    _restart(mesh)
    expected = users.act(8)
    _stop(mesh)
    _put_back(mesh, copy).work()
    return expected, mesh.settle(8)


@pytest.mark.parametrize("seed", range(24))
def test_any_history_leaves_what_all_had(mesh: Mesh, seed: int) -> None:
    expected, found = _any_history(mesh, seed)
    assert found == expected


def test_records_of_an_earlier_folder_that_are_believed_are_noticed(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runs, "knows", lambda runs, told: True)
    expected, found = _any_history(mesh, 1)
    assert found != expected


@pytest.mark.parametrize(
    ("has_met", "is_whole", "waits_s"),
    [(False, True, ALONE_S), (True, False, OTHERS_S), (True, True, 0.0), (False, False, None)],
)
def test_others_are_waited_for_as_long_as_it_may_help(
    has_met: bool, is_whole: bool, waits_s: float | None
) -> None:
    patience = Patience(lambda: has_met, lambda: is_whole)
    over = [s for s in range(1000, 2001) if patience.is_over(float(s))]
    assert over == ([] if waits_s is None else [*range(1000 + int(waits_s), 2001)])
