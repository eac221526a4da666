"""The files of a bound directory as the page shows them: folder for folder, page for page."""

from pathlib import Path
from random import Random

from phextsync.control.frames import Value
from phextsync.control.status import DirectoryRow
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.desk import NAME_FILE, FileDesk
from phextsync.files.status import row_of
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.web.folders import Folders
from phextsync.web.shell import Shell


class _Shell(Shell):
    """A shell over a directory that nothing serves; it counts the files that it named."""

    def __init__(self, folder: Path) -> None:
        self.named = 0
        self.notes = folder / "notes"
        self.memory = ReplicaSet(
            MemoryStore(), node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0
        )
        bound = Bound(self.notes, "memory", CoordinateRange.parse("7.*"))
        BindingStore(folder).bind(bound, create=True)
        self.row: DirectoryRow = row_of(bound, None, 0)
        self._desk = FileDesk(self.memory, folder)

    def put(self, path: str) -> Coordinate:
        """Let there be a file."""
        whole = str(self.notes / path)
        found = NAME_FILE.answer.decode(self._desk.ask(["name_file", whole, whole]))
        self.replica("memory")[found.coordinate] = f"text of {path}"
        return found.coordinate

    def ask(self, *request: Value) -> Value:
        match request:
            case ["names", str(), list(places)]:
                self.named += len(places)
        return self._desk.ask([*request])

    def replica(self, phext: str) -> Replica:
        return self.memory.open(phext)


async def _seen(folders: Folders, under: str = "", count: int = 3) -> list[tuple[str, int]]:
    """Return what a folder shows, over all its pages."""
    await folders.update()
    seen: list[tuple[str, int]] = []
    start = ""
    while True:
        found = folders.page(under, start, count + 1)
        seen += [(entry.name, entry.files) for entry in found[:count]]
        if len(found) <= count:
            return seen
        start = found[count].start


async def test_pages_have_each_entry_of_a_folder_once(tmp_path: Path) -> None:
    shell = _Shell(tmp_path)
    paths = ["a.md", "a/b.md", "a/c/d.md", "a/c/e.md", "a0", "b.md", "ab/x.md", "z/a/b/c"]
    for path in paths:
        shell.put(path)
    folders = Folders(shell, shell.row)
    for count in (1, 2, 3, 100):
        top = [("a.md", 0), ("a", 3), ("a0", 0), ("ab", 1), ("b.md", 0), ("z", 1)]
        assert await _seen(folders, count=count) == top
        assert await _seen(folders, "a", count) == [("b.md", 0), ("c", 2)]
        assert await _seen(folders, "a/c", count) == [("d.md", 0), ("e.md", 0)]
    assert await _seen(folders, "none") == []
    assert folders.page("a/c", "", 1)[0].coordinate == shell.put("a/c/d.md")


async def test_what_changes_is_followed_and_what_does_not_is_not_named_again(
    tmp_path: Path,
) -> None:
    shell = _Shell(tmp_path)
    places = [shell.put(f"file {number}.md") for number in range(30)]
    folders = Folders(shell, shell.row)
    await folders.update()
    named = shell.named
    assert named >= 30
    await folders.update()
    assert shell.named == named
    shell.replica("memory")[places[3]] = "another text"
    await folders.update()
    assert shell.named == named + 1
    assert len(await _seen(folders)) == 30
    shell.put("new.md")
    assert ("new.md", 0) in await _seen(folders)
    shell.replica("memory").clear_scroll(places[3])
    assert ("file 3.md", 0) not in await _seen(folders)
    folders.close()
