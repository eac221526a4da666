"""After a crash it is certain whether a file was written, moved or removed, whatever was done to it
before the node runs again: it is a change of what lay there."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from phextsync.files.drafts import is_draft
from sims.machines import Machine
from tests.test_files import Mesh, _allow, _AtCall, _replace

_OLD = "first\nlast\n"
_NEW = "first\nnews\nmore news\nlast\n"
_CHANGES = ("create", "write", "fsync", "exchange", "rename", "link", "unlink", "chmod")
_CHANGES_MAX = 60

Change = Callable[[Machine], object]


class _AtChange:
    """Ends a machine just before it changes something on its disk for the `number`th time."""

    def __init__(self, machine: Machine, number: int) -> None:
        self._left = number
        machine.files.before = self

    def __call__(self, name: str, path: str) -> None:
        self._left -= name in _CHANGES
        if not self._left:
            raise KeyboardInterrupt


def _crashes(start: Change, change: Change, *, exchanges: bool, links: bool) -> Iterator[Mesh]:
    """Give machines of which the first ended while it followed what was done to a file elsewhere,
    before each change of its disk."""
    for number in range(1, _CHANGES_MAX):
        mesh = Mesh(2, has_exchange=exchanges, has_links=links)
        one, two = mesh.machines
        start(two)
        mesh.settle(2)
        _AtChange(one, number)
        change(two)
        try:
            mesh.pass_time(2.5)
        except KeyboardInterrupt:
            _allow(one)
            mesh.network.crash(0)
            yield mesh
        else:
            return
    raise AssertionError("it does not end")


def _restarted(mesh: Mesh) -> dict[str, str]:
    mesh.machines[0].start()
    return mesh.settle(5)


def _put(path: str, text: str) -> Change:
    return lambda machine: machine.disk.put(path, text)


_SYSTEMS = pytest.mark.parametrize(
    ("exchanges", "links"), [(True, True), (False, True), (False, False)]
)
_HABITS = pytest.mark.parametrize("save", [_replace, lambda m, path, text: m.disk.put(path, text)])


@_SYSTEMS
@_HABITS
def test_what_came_and_is_deleted_after_a_crash_stays_deleted(
    exchanges: bool, links: bool, save: Callable[[Machine, str, str], None]
) -> None:
    for saved in ("first\nlast\n", "of the user\n", "last\nfirst\nof the user\n", ""):
        crashes = 0
        start, change = _put("n.md", _OLD), _put("n.md", _NEW)
        for mesh in _crashes(start, change, exchanges=exchanges, links=links):
            one = mesh.machines[0]
            if one.disk.text("n.md") != _NEW or one.disk.get("n.md").names > 1:
                continue  # between link and unlink nobody can tell
            crashes += 1
            if saved:
                save(one, "n.md", saved)
            else:
                one.disk.unlink("n.md")
            assert _restarted(mesh) == ({"n.md": saved} if saved else {}), crashes
        assert crashes


@_SYSTEMS
@pytest.mark.parametrize("old", ["", _OLD])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_what_came_before_the_power_went_is_neither_lost_nor_back(
    exchanges: bool, links: bool, old: str, is_deleted: bool
) -> None:
    start, change = _put("n.md", old), _put("n.md", _NEW)
    for seed in range(4):
        for mesh in _crashes(start, change, exchanges=exchanges, links=links):
            one = mesh.machines[0]
            one.files.end()
            one.disk.cut_power(Random(seed))
            is_there = one.disk.text("n.md") == _NEW and one.disk.get("n.md").names == 1
            saved = _OLD if old else "first\nmore news\n"  # of a new file it is told by its lines
            if is_deleted and is_there:
                _replace(one, "n.md", saved)
            assert _restarted(mesh) == {"n.md": saved if is_deleted and is_there else _NEW}, seed


@_SYSTEMS
def test_who_removes_drafts_after_a_crash_takes_nothing_back(exchanges: bool, links: bool) -> None:
    for mesh in _crashes(_put("n.md", _OLD), _put("n.md", _NEW), exchanges=exchanges, links=links):
        one = mesh.machines[0]
        for path in one.disk.files():
            if is_draft(path) and one.disk.find("n.md") is not None:
                one.disk.unlink(path)
        assert _restarted(mesh) == {"n.md": _NEW}


@_SYSTEMS
def test_a_folder_that_is_removed_while_a_file_comes_to_it_deletes_nothing(
    exchanges: bool, links: bool
) -> None:
    removed = 0
    for number in range(1, 60):
        mesh = Mesh(2, has_exchange=exchanges, has_links=links)
        one, two = mesh.machines
        mesh.settle(2)
        is_removed = False

        def remove(one: Machine = one) -> None:
            nonlocal is_removed
            if one.disk.find("sub") is not None and one.disk.find("sub/n.md") is None:
                one.disk.remove_tree("sub")
                is_removed = True

        _AtCall(one, number, remove)
        two.disk.make_folders("sub")
        two.disk.put("sub/n.md", _NEW)
        mesh.pass_time(3)
        removed += is_removed
        assert mesh.settle(5) == {"sub/n.md": _NEW}, number
    assert removed > 2


@_SYSTEMS
@_HABITS
def test_what_is_made_where_a_file_was_removed_before_a_crash_stays(
    exchanges: bool, links: bool, save: Callable[[Machine, str, str], None]
) -> None:
    crashes = 0
    start, change = _put("n.md", _OLD), lambda two: two.disk.unlink("n.md")
    for mesh in _crashes(start, change, exchanges=exchanges, links=links):
        one = mesh.machines[0]
        if one.disk.find("n.md") is None:
            crashes += 1
            save(one, "n.md", "first\nof the user\n")
            assert _restarted(mesh) == {"n.md": "first\nof the user\n"}, crashes
    assert crashes


@_SYSTEMS
@pytest.mark.parametrize("saved", [_OLD, "mine\n"])
def test_what_replaces_a_file_that_was_moved_before_a_crash_is_that_file(
    exchanges: bool, links: bool, saved: str
) -> None:
    crashes = 0
    start, change = _put("old.md", _NEW), lambda two: two.disk.rename("old.md", "new.md")
    for mesh in _crashes(start, change, exchanges=exchanges, links=links):
        one = mesh.machines[0]
        if one.disk.text("new.md") == _NEW and one.disk.find("old.md") is None:
            crashes += 1
            _replace(one, "new.md", saved)
            mesh.machines[1].disk.put("new.md", f"{_NEW}elsewhere\n")
            files = _restarted(mesh)
            assert list(files) == ["new.md"]
            assert sorted(files["new.md"].split()) == sorted([*saved.split(), "elsewhere"])
    assert crashes
