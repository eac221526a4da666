"""What every file system must do for bound directories."""

import errno
from collections.abc import Callable
from typing import Final, Protocol

from phextsync.files.filesystem import FileSystem


class Ground(Protocol):
    """An empty directory of a file system, and what others do there."""

    @property
    def files(self) -> FileSystem:
        """The file system."""

    def write_in_place(self, path: str, data: bytes) -> None:
        """Write other bytes into a file that is there."""

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link to a path, relative to its folder."""

    def make_pipe(self, path: str) -> None:
        """Make a named pipe."""


def _read(files: FileSystem, path: str, bytes_max: int = 1 << 20) -> bytes:
    file = files.open(path)
    try:
        return file.read(bytes_max)
    finally:
        file.close()


def _refused_as(call: Callable[..., object], *arguments: object) -> int | None:
    """Return the number of the error that a call raises, None when it raises none."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def a_file_is_made_with_its_bytes_and_its_mode(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one\n", 0o640)
    files.write("b", b"", None)
    files.sync_folder("")
    assert (_read(files, "a"), _read(files, "a", 2), _read(files, "b")) == (b"one\n", b"on", b"")
    status = files.status("a")
    assert status is not None
    assert (status.is_file, status.is_folder, status.size) == (True, False, 4)
    assert status.mode == 0o640
    files.set_mode("a", 0o711)
    changed = files.status("a")
    assert changed is not None
    assert (changed.mode, changed.inode, changed.device) == (0o711, status.inode, status.device)
    assert status.changed_ns <= changed.changed_ns


def what_others_wrote_is_synced_by_its_path(ground: Ground) -> None:
    files = ground.files
    files.make_folder("folder")
    files.write("folder/a", b"one")
    ground.write_in_place("folder/a", b"other")
    files.sync_file("folder/a")
    files.sync_folder("folder")
    files.sync_all()
    assert _read(files, "folder/a") == b"other"
    assert _refused_as(files.sync_file, "folder/none") == errno.ENOENT
    assert _refused_as(files.sync_folder, "none") == errno.ENOENT


def nothing_is_made_where_something_is(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.write("b", b"two")
    files.make_folder("folder")
    for path in ("a", "folder"):
        assert _refused_as(files.write, path, b"x") == errno.EEXIST
        assert _refused_as(files.link, "b", path) == errno.EEXIST
        assert _refused_as(files.rename_looking, "b", path) == errno.EEXIST
        assert _refused_as(files.make_folder, path) == errno.EEXIST
    assert _read(files, "a") == b"one"
    files.rename_looking("b", "c")
    assert files.status("b") is None
    assert _read(files, "c") == b"two"


def nothing_is_where_nothing_was_made(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    for path in ("none", "none/below", "a/below", "a/below/that"):
        assert files.status(path) is None
    assert _refused_as(files.open, "none") == errno.ENOENT
    assert _refused_as(files.open, "a/below") == errno.ENOTDIR
    assert _refused_as(files.write, "none/below", b"") == errno.ENOENT
    assert _refused_as(files.write, "a/below", b"") == errno.ENOTDIR
    assert _refused_as(files.unlink, "none") == errno.ENOENT
    assert _refused_as(files.rename, "none", "b") == errno.ENOENT
    assert _refused_as(files.exchange, "a", "none") in (errno.ENOENT, errno.EINVAL)
    assert _refused_as(files.entries, "none") == errno.ENOENT
    assert _refused_as(files.entries, "a") == errno.ENOTDIR
    assert _refused_as(files.sync_folder, "a") == errno.ENOTDIR


def two_files_change_places_where_the_system_can(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.make_folder("folder")
    files.write("folder/b", b"two")
    refused = _refused_as(files.exchange, "a", "folder/b")
    expected = (b"one", b"two") if refused == errno.EINVAL else (b"two", b"one")
    assert (_read(files, "a"), _read(files, "folder/b")) == expected
    if refused is None:
        files.exchange("a", "folder")
        assert _read(files, "folder") == b"two"
        assert _read(files, "a/b") == b"one"
    assert refused in (None, errno.EINVAL)


def a_file_with_two_names_is_one(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.make_folder("folder")
    refused = _refused_as(files.link, "a", "folder/b")
    if refused is not None:
        assert refused in (errno.EPERM, errno.ENOTSUP, errno.EMLINK)
        return
    statuses = [files.status(path) for path in ("a", "folder/b")]
    assert statuses[0] == statuses[1]
    files.unlink("a")
    assert (files.status("a"), _read(files, "folder/b")) == (None, b"one")
    assert _refused_as(files.link, "folder", "c") == errno.EPERM


def a_file_that_is_renamed_replaces_a_file_and_no_folder(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.write("b", b"two")
    files.make_folder("folder")
    before = files.status("a")
    files.rename("a", "b")
    after = files.status("b")
    assert before is not None
    assert after is not None
    assert (files.status("a"), after.inode, _read(files, "b")) == (None, before.inode, b"one")
    assert _refused_as(files.rename, "b", "folder") == errno.EISDIR
    assert _refused_as(files.rename, "folder", "b") == errno.ENOTDIR
    assert _refused_as(files.rename, "folder", "folder/below") == errno.EINVAL
    files.rename("b", "folder/b")
    files.rename("folder", "other")
    assert _read(files, "other/b") == b"one"


def only_an_empty_folder_is_removed(ground: Ground) -> None:
    files = ground.files
    files.make_folder("folder")
    files.write("folder/a", b"")
    assert _refused_as(files.remove_folder, "folder") == errno.ENOTEMPTY
    assert _refused_as(files.remove_folder, "folder/a") == errno.ENOTDIR
    assert _refused_as(files.unlink, "folder") in (errno.EISDIR, errno.EPERM)
    files.unlink("folder/a")
    files.remove_folder("folder")
    assert files.status("folder") is None


def an_open_file_stays_what_it_is_whatever_its_name_is(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.write("b", b"two")
    file = files.open("a")
    before = file.status()
    files.rename("b", "a")
    assert (file.read(9), _read(files, "a")) == (b"one", b"two")
    assert (file.status().inode, file.status().born_ns) == (before.inode, before.born_ns)
    files.write("c", b"three")  # with the number of no file that is open
    status = files.status("c")
    assert status is not None
    assert status.inode != before.inode
    file.close()
    again = files.open("a")
    ground.write_in_place("a", b"other")
    assert (again.read(9), again.status().size) == (b"other", 5)
    again.close()


def a_folder_names_all_that_is_in_it(ground: Ground) -> None:
    files = ground.files
    names = ["a", "\u200d\U0001f469", "b\udcff", " blanks ", "back\\slash"]
    for name in names:
        files.write(name, b"x")
    files.make_folder("folder")
    files.write("folder/below", b"")
    entries = files.entries("")
    assert sorted(name for name, _ in entries) == sorted([*names, "folder"])
    for name, status in entries:
        assert status == files.status(name)
        assert status.born_ns == 0
    assert [name for name, _ in files.entries("folder")] == ["below"]


def a_link_or_a_pipe_is_no_file_and_is_not_opened(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    ground.make_link("link", "a")
    ground.make_link("nowhere", "none")
    ground.make_pipe("pipe")
    for path in ("link", "nowhere", "pipe"):
        status = files.status(path)
        assert status is not None
        assert not status.is_file
        assert not status.is_folder
    for path in ("link", "nowhere"):
        assert _refused_as(files.open, path) == errno.ELOOP
        assert _refused_as(files.write, path, b"x") == errno.EEXIST
    file = files.open("pipe")
    assert not file.status().is_file
    file.close()
    files.unlink("link")
    assert _read(files, "a") == b"one"


def a_name_that_is_too_long_is_refused(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    longest = files.abilities("a").part_bytes_max
    files.write("x" * longest, b"")
    too_long = "x" * (longest + 1)
    assert _refused_as(files.status, too_long) == errno.ENAMETOOLONG
    for call in (files.write, files.link, files.rename):
        arguments = (too_long, b"") if call == files.write else ("a", too_long)
        assert _refused_as(call, *arguments) == errno.ENAMETOOLONG
    assert _refused_as(files.make_folder, too_long) == errno.ENAMETOOLONG
    assert _read(files, "a") == b"one"


FILE_SYSTEM: Final[tuple[Callable[[Ground], None], ...]] = (
    a_file_is_made_with_its_bytes_and_its_mode,
    what_others_wrote_is_synced_by_its_path,
    nothing_is_made_where_something_is,
    nothing_is_where_nothing_was_made,
    two_files_change_places_where_the_system_can,
    a_file_with_two_names_is_one,
    a_file_that_is_renamed_replaces_a_file_and_no_folder,
    only_an_empty_folder_is_removed,
    an_open_file_stays_what_it_is_whatever_its_name_is,
    a_folder_names_all_that_is_in_it,
    a_link_or_a_pipe_is_no_file_and_is_not_opened,
    a_name_that_is_too_long_is_refused,
)
