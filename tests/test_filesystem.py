"""What a bound directory asks of a file system: the same on disk and in memory."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from phextsync.files.filesystem import FileSystem, OsFileSystem
from phextsync.files.paths import Abilities
from phextsync.testing import acceptance
from phextsync.testing.filesystem import MemoryFileSystem
from phextsync.testing.memory_disk import MemoryDisk


@dataclass
class _OnDisk:
    root: Path
    files: FileSystem

    def write_in_place(self, path: str, data: bytes) -> None:
        (self.root / path).write_bytes(data)

    def make_link(self, path: str, target: str) -> None:
        (self.root / path).symlink_to(target)

    def make_pipe(self, path: str) -> None:
        os.mkfifo(self.root / path)


@dataclass
class _InMemory:
    disk: MemoryDisk
    files: FileSystem

    def write_in_place(self, path: str, data: bytes) -> None:
        self.disk.fill(path, data)

    def make_link(self, path: str, target: str) -> None:
        self.disk.link_to(path, target)

    def make_pipe(self, path: str) -> None:
        self.disk.create(path, "pipe")


@pytest.fixture(params=["disk", "memory", "memory of less"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[acceptance.Ground]:
    if request.param == "disk":
        yield _OnDisk(tmp_path, OsFileSystem(tmp_path))
        return
    has_all = request.param == "memory"
    disk = MemoryDisk(abilities=Abilities() if has_all else Abilities(143), knows_births=has_all)
    yield _InMemory(disk, MemoryFileSystem(disk, has_exchange=has_all, has_links=has_all))


@pytest.mark.parametrize("claim", acceptance.FILE_SYSTEM, ids=lambda claim: claim.__name__)
def test_every_file_system_is_accepted(
    claim: Callable[[acceptance.Ground], None], ground: acceptance.Ground
) -> None:
    claim(ground)


# -- what only the one in memory does --------------------------------------------------------


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


def test_the_number_of_a_file_that_is_gone_is_given_to_the_next_one() -> None:
    for reuses in (True, False):
        disk = MemoryDisk(reuses_numbers=reuses)
        disk.put("a", "one")
        number = disk.get("a").number
        disk.unlink("a")
        disk.put("b", "two")
        assert (disk.get("b").number == number) is reuses


def test_several_writes_within_a_tick_have_one_time() -> None:
    now = 0
    disk = MemoryDisk(lambda: now, tick_ns=1000)
    disk.put("a", "one")
    before = disk.get("a").time_ns
    now = 999
    disk.put("a", "two")
    assert disk.get("a").time_ns == before
    now = 1000
    disk.put("a", "six")
    assert disk.get("a").time_ns > before


def test_names_that_differ_in_case_are_one_where_the_system_says_so() -> None:
    disk = MemoryDisk(abilities=Abilities(folds_case=True))
    disk.put("Readme", "one")
    assert disk.text("README") == "one"
    disk.rename("Readme", "README")
    assert list(disk.files()) == ["README"]
    with pytest.raises(FileExistsError):
        disk.create("readme")


def test_a_folder_that_is_mounted_has_other_files_and_another_device(disk: MemoryDisk) -> None:
    disk.create("mnt", "folder")
    disk.put("mnt/below", "under")
    disk.mount("mnt")
    assert disk.files() == {}
    disk.put("mnt/a", "one")
    assert disk.get("mnt/a").device != disk.get("").device
    with pytest.raises(OSError, match="Invalid cross-device link"):
        disk.rename("mnt/a", "a")
    seen = disk.unmount("mnt")
    assert disk.files() == {"mnt/below": "under"}
    disk.mount("mnt", seen)
    assert disk.files() == {"mnt/a": "one"}
    disk.mount("")
    assert disk.files() == {}


def test_a_full_disk_takes_a_part_and_says_so() -> None:
    disk = MemoryDisk(room=10)
    disk.put("a", "12345678")
    disk.create("b")
    told: list[str] = []
    disk.on_change = told.append
    with pytest.raises(OSError, match="No space left"):
        disk.put("b", "12345678")
    assert told == ["b"]
    assert disk.files() == {"a": "12345678", "b": "12"}
    disk.put("a", "1")  # there is always room for less
    disk.put("b", "12345678")


def test_what_was_synced_outlives_the_power_and_the_rest_may_not(disk: MemoryDisk) -> None:
    found: set[tuple[str, ...]] = set()
    for seed in range(40):
        disk = MemoryDisk()
        files = MemoryFileSystem(disk)
        files.write("kept", b"kept")
        files.sync_folder("")
        files.write("draft", b"new")
        files.exchange("draft", "kept")
        disk.put("typed", "typed by somebody")
        assert disk.unsynced_files() == {"typed": "typed by somebody"}
        disk.cut_power(Random(seed))
        texts = disk.files()
        assert texts["kept"] in ("kept", "new")
        assert texts.get("draft") in (None, "new" if texts["kept"] == "kept" else "kept")
        assert "typed by somebody".startswith(texts.get("typed", ""))
        found.add((texts["kept"], *sorted(texts), texts.get("typed", "")[:7]))
    assert len(found) >= 5


def test_a_hook_refuses_calls_and_acts_between_them(disk: MemoryDisk) -> None:
    calls: list[str] = []

    def before(name: str, path: str) -> None:
        calls.append(f"{name} {path}")
        if len(calls) == 3:
            raise OSError(5, "Input/output error")

    files = MemoryFileSystem(disk, before=before, after=lambda name, path: calls.append("done"))
    with pytest.raises(OSError, match="Input/output"):
        files.write("a", b"1234")
    assert calls == ["create a", "done", "write a"]
    assert disk.files() == {"a": ""}
    with pytest.raises(FileExistsError):
        files.write("a", b"1234")
