"""A file of a bound directory is found by its path or its name, and a scroll by its file."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from phextsync.control.frames import Value
from phextsync.errors import CoordinateError, DirectoryError, PermissionDeniedError, PhextsyncError
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.desk import FIND, FIND_RANGE, NAME_FILE, FileDesk
from phextsync.files.finding import is_coordinate, is_range, whole_path
from phextsync.files.names import Line, NameMap
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.trust.permissions import UNRESTRICTED, Permissions

_SEVEN, _EIGHT = CoordinateRange.parse("7.*"), CoordinateRange.parse("8.*")


class _Folder:
    """A data folder with directories that are bound, and the scrolls of its node."""

    def __init__(self, folder: Path, permissions: Permissions = UNRESTRICTED) -> None:
        self.folder = folder
        (folder / "data").mkdir()
        self.replicas = ReplicaSet(
            MemoryStore(),
            node_id=b"n" * 16,
            random=Random(1),
            wall_time_ms=lambda: 1000,
            permissions=permissions,
        )
        self.desk = FileDesk(self.replicas, folder / "data")

    def bind(self, name: str, range_: CoordinateRange = _SEVEN, phext: str = "memory") -> Path:
        directory = self.folder / name
        BindingStore(self.folder / "data").bind(Bound(directory, phext, range_), create=True)
        return directory

    def write(self, files: dict[str, str], range_: CoordinateRange = _SEVEN) -> None:
        """Let scrolls be files, as a binding does it."""
        replica, names = self.replicas.open("memory"), NameMap(range_)
        for name, text in files.items():
            names.read(replica.get(names.map_coordinate, ""))
            places = names.places_of(name)
            place = places[0] if places else names.free_place(name, lambda _: True)
            replica.splice(names.map_coordinate, names.edits((), [Line(place, name)]))
            replica.edit(place, text)

    def text(self, name: str, path: Path | None = None) -> str:
        file = FIND.ask(self, name, "" if path is None else str(path))
        return self.replicas.open(file.phext).get(file.coordinate, "")

    def ask(self, *request: Value) -> Value:
        return self.desk.ask([*request])

    def error(self, *request: str) -> str:
        with pytest.raises(CoordinateError) as caught:
            self.desk.ask([*request])
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> _Folder:
    return _Folder(tmp_path)


def test_a_file_is_found_by_its_path_and_by_its_name(folder: _Folder) -> None:
    notes = folder.bind("notes")
    folder.write({"MEMORY.md": "one", "sub/a.md": "two"})
    assert folder.text("notes/MEMORY.md", notes / "MEMORY.md") == "one"
    assert folder.text("MEMORY.md", Path("/elsewhere/MEMORY.md")) == "one"
    assert folder.text("MEMORY.md") == "one"
    assert folder.text("./sub//a.md") == "two"


def test_a_path_through_a_link_to_the_directory_is_the_same_file(folder: _Folder) -> None:
    notes = folder.bind("notes")
    (folder.folder / "link").symlink_to("notes")
    folder.write({"a.md": "one"})
    assert folder.text("link/a.md", folder.folder / "link" / "a.md") == "one"
    found = FIND_RANGE.ask(folder, "link", str(folder.folder / "link"))
    assert found.directory == notes


def test_a_path_is_that_of_its_directory_alone_and_a_name_has_to_be_one_of_all(
    folder: _Folder,
) -> None:
    notes, work = folder.bind("notes"), folder.bind("work", _EIGHT)
    folder.write({"a.md": "private", "b.md": "only here"})
    folder.write({"a.md": "of work"}, _EIGHT)
    assert folder.text("a.md", notes / "a.md") == "private"
    assert folder.text("a.md", work / "a.md") == "of work"
    assert folder.text("b.md") == "only here"
    assert f"{notes / 'a.md'}, {work / 'a.md'}" in folder.error("find", "a.md", "")


def test_a_file_that_yields_to_a_folder_is_found_at_its_path(folder: _Folder) -> None:
    notes = folder.bind("notes")
    folder.write({"plan": "the file", "plan/one.md": "in the folder"})
    assert folder.text("plan~file", notes / "plan~file") == "the file"
    assert folder.text("plan/one.md", notes / "plan" / "one.md") == "in the folder"
    place = folder.desk.find("plan~file").coordinate
    assert folder.desk.ask(["names", "memory", [str(place)]]) == [str(notes / "plan~file")]


def test_what_changes_is_found_at_once(folder: _Folder) -> None:
    notes = folder.bind("notes")
    assert "has no file a.md" in folder.error("find", "a.md", str(notes / "a.md"))
    folder.write({"a.md": "one"})
    place = folder.desk.find("a.md").coordinate
    replica = folder.replicas.open("memory")
    names = NameMap(_SEVEN, replica[Coordinate.parse("7.1.1/1.1.1/1.1.1")])
    replica.splice(names.map_coordinate, names.edits([place], [Line(place, "b.md")]))
    assert folder.desk.find("b.md").coordinate == place
    assert "found 'a.md'" in folder.error("find", "a.md", "")
    BindingStore(folder.folder / "data").unbind(notes)
    assert "none is" in folder.error("find", "b.md", "")


def test_a_deleted_file_still_finds_its_scroll(folder: _Folder) -> None:
    notes = folder.bind("notes")
    folder.write({"a.md": "one", "sub/b.md": "two"})
    file = folder.desk.find("a.md")
    folder.replicas.open("memory").clear_scroll(file.coordinate)
    gone = folder.desk.find("a.md")
    assert (gone.coordinate, gone.is_there) == (file.coordinate, False)
    assert folder.desk.ask(["names", "memory", [str(gone.coordinate)]]) == [str(notes / "a.md")]


def test_scrolls_that_are_no_files_have_no_name(folder: _Folder) -> None:
    folder.bind("notes")
    folder.write({"a.md": "one"})
    places = ["7.1.1/1.1.1/1.1.1", "9.9.9/9.9.9/9.9.9"]
    assert folder.desk.ask(["names", "memory", [*places]]) == [None, None]
    place = str(folder.desk.find("a.md").coordinate)
    assert folder.desk.ask(["names", "other", [place]]) == [None]


# -- ranges --------------------------------------------------------------------------------


def test_a_directory_a_folder_and_a_file_are_ranges(folder: _Folder) -> None:
    notes = folder.bind("notes")
    folder.write({"sub/a.md": "one"})

    def found(path: Path) -> tuple[str, str]:
        answer = FIND_RANGE.ask(folder, str(path), str(path))
        return str(answer.range), answer.below

    assert found(notes) == ("7.*", "")
    assert found(notes / "sub") == ("7.*", "sub")
    assert found(notes / "sub" / "a.md") == (str(folder.desk.find("sub/a.md").coordinate), "")
    assert "found the folder" in folder.error("find", "sub", str(notes / "sub"))


# -- new files -----------------------------------------------------------------------------


def _named(folder: _Folder, name: str, path: Path | None = None) -> Coordinate:
    return NAME_FILE.ask(folder, name, "" if path is None else str(path)).coordinate


def test_a_new_name_gets_one_line_of_the_map_where_any_machine_puts_it(folder: _Folder) -> None:
    notes = folder.bind("notes")
    place = _named(folder, "new.md", notes / "new.md")
    assert place == NameMap(_SEVEN).free_place("new.md", lambda _: True)
    assert _named(folder, "new.md") == place
    text = folder.replicas.open("memory")[Coordinate.parse("7.1.1/1.1.1/1.1.1")]
    assert text == f"{place} new.md\n"
    folder.replicas.open("memory").edit(place, "text")
    assert folder.desk.find("new.md").is_there


def test_a_deleted_file_is_made_again_in_its_own_scroll(folder: _Folder) -> None:
    notes = folder.bind("notes")
    folder.write({"a.md": "one"})
    place = folder.desk.find("a.md").coordinate
    folder.replicas.open("memory").clear_scroll(place)
    assert _named(folder, "a.md", notes / "a.md") == place


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".hidden", "left alone"),
        ("draft.tmp", "left alone"),
        ("private/a.md", "left alone"),
        (".phextsync-bound", "left alone"),
        ("sub", "found a folder"),
        ("a\nb.md", "control characters"),
    ],
)
def test_a_name_that_could_be_no_file_is_refused(folder: _Folder, name: str, reason: str) -> None:
    notes = folder.bind("notes")
    folder.write({".phextsyncignore": "private/\n", "sub/a.md": "one"})
    before = folder.replicas.open("memory").scrolls()
    texts = dict(before)
    with pytest.raises(PhextsyncError, match=reason):
        _named(folder, name, notes / name)
    assert dict(folder.replicas.open("memory").scrolls()) == texts


def test_a_new_name_needs_a_directory_that_is_meant(folder: _Folder) -> None:
    folder.bind("notes")
    assert _named(folder, "new.md", Path("/elsewhere/new.md"))
    assert "has no file" not in folder.error("name_file", "/elsewhere/x.md", "/elsewhere/x.md")
    folder.bind("work", _EIGHT)
    assert "found 'other.md'" in folder.error("name_file", "other.md", "")


def test_a_name_where_this_node_may_not_write_leaves_the_map_alone(tmp_path: Path) -> None:
    names = CoordinateRange.of(Coordinate.parse("7.1.1/1.1.1/1.1.1"))  # the map alone
    folder = _Folder(tmp_path, Permissions.of({"memory": [_SEVEN]}, {"memory": [names]}))
    notes = folder.bind("notes")
    with pytest.raises(PermissionDeniedError):
        _named(folder, "new.md", notes / "new.md")
    assert len(folder.replicas.open("memory")) == 0


# -- texts and paths -------------------------------------------------------------------------


@pytest.mark.parametrize("read", [is_coordinate, is_range])
def test_what_looks_like_a_coordinate_is_never_a_file(read: Callable[[str], bool]) -> None:
    assert read("1.5.2/3.7.3/9.1.1")
    assert not read("MEMORY.md")
    assert not read("2026-11-29.md")
    assert not read("./2026")
    for text in ("1.2.3", "1.5.2/3.7.3/9.1.1000", "", "0.*"):
        with pytest.raises(CoordinateError):
            read(text)


def test_a_path_is_seen_from_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert whole_path("../b/./c.md", "/a/d") == "/a/b/c.md"
    assert whole_path("~/c.md", "/a") == "/home/me/c.md"
    assert whole_path("/x/c.md") == "/x/c.md"
    assert whole_path("c.md") == ""


def test_a_range_that_is_not_readable_or_not_ours_cannot_be_bound(folder: _Folder) -> None:
    with pytest.raises(DirectoryError, match="begin with a dot"):
        folder.bind("notes", phext=".clients")
