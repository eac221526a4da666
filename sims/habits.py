"""Habits: what users, editors and programs do to the files of a directory.

Each habit is a function of a disk, a `Random` and a source of tokens. One that takes its time is a
generator: it waits where it yields. What the disk refuses is an error to the user, who lets it be.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.markers import MARKER_FILE
from phextsync.testing.memory_disk import MemoryDisk

Habit = Callable[[MemoryDisk, Random, Callable[[], str]], Iterator[None]]
"""Does something to the files of a disk; waits at each `yield`."""

NAMES: Final = (
    *("MEMORY.md", "2026-11-25.md", "notes.md", "todo", "sub/a.md", "sub/deep/b.md", "sub", "x"),
    *(
        "x/y",
        "Notes.md",
        "tool.sh",
        "caf\u00e9.md",
        "n\u00a0b.md",
        " blank ",
        "back\\slash",
        "log.log",
    ),
)
ODD_NAMES: Final = ("line\nend.md", "bell\x07.md", "caf\udce9.md", "e" * 200 + ".md")
_WORDS: Final = ("cat", "sat", "mat", "and", "saw", "that", "it", "was", "good", "noon")


def files_of(disk: MemoryDisk) -> list[str]:
    """Return the files of a user, in order."""
    return [
        path
        for path, inode in disk.walk()
        if inode.kind == "file"
        and not path.endswith(("~", ".tmp"))
        and not any(part.startswith(".phextsync") for part in path.split("/"))
    ]


def folders_of(disk: MemoryDisk) -> list[str]:
    """Return the folders of a user, in order, without one for another file system."""
    folders = [path for path, inode in disk.walk() if inode.kind == "folder"]
    return [path for path in folders if not path.startswith((".", "mnt"))]


def new_line(source: Random, token: Callable[[], str]) -> str:
    words = source.choices(_WORDS, k=source.randint(2, 6))
    words.insert(source.randint(0, len(words)), token())
    return " ".join(words) + "\n"


def some_file(disk: MemoryDisk, source: Random) -> str | None:
    files = files_of(disk)
    return source.choice(files) if files else None


def lines_at(disk: MemoryDisk, path: str) -> list[str]:
    inode = disk.get(path)
    return inode.data.decode("utf-8", "replace").splitlines(keepends=True)


def save_lines(disk: MemoryDisk, path: str, lines: list[str]) -> None:
    """Save as most editors do: another file beside it, renamed over it."""
    draft = f"{path}.tmp"
    disk.put(draft, "".join(lines))
    try:
        disk.set_mode(draft, disk.get(path).mode)
        disk.rename(draft, path)
    except OSError:
        disk.unlink(draft)
        raise


def changed(lines: list[str], source: Random, token: Callable[[], str]) -> list[str]:
    """Return lines with one inserted, changed, or taken away."""
    lines = list(lines)
    at = source.randint(0, len(lines))
    match source.choice(("insert", "insert", "append", "drop", "word")):
        case "drop" if at < len(lines):
            del lines[at]
        case "word" if at < len(lines):
            words = lines[at].rstrip("\n").split(" ")
            where = source.randrange(len(words))
            if not words[where].startswith("q"):
                words[where] = source.choice(_WORDS)
            words.insert(source.randint(0, len(words)), token())
            lines[at] = " ".join(words) + "\n"
        case "append":
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines.append(new_line(source, token))
        case _:
            lines.insert(at, new_line(source, token))
    return lines


def append(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`echo ... >> file`"""
    path = some_file(disk, source)
    if path is not None:
        inode = disk.get(path)
        end = b"" if not inode.data or inode.data.endswith(b"\n") else b"\n"
        disk.fill(path, inode.data + end + new_line(source, token).encode())
    yield


def edit(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Change a file in place."""
    path = some_file(disk, source)
    if path is not None:
        disk.put(path, "".join(changed(lines_at(disk, path), source, token)))
    yield


def save(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Change a file by another that is renamed over it."""
    path = some_file(disk, source)
    if path is not None:
        save_lines(disk, path, changed(lines_at(disk, path), source, token))
    yield


def save_stale(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Open a file in an editor, and save what was made of it later, whatever it is by then."""
    path = some_file(disk, source)
    if path is not None:
        lines = changed(lines_at(disk, path), source, token)
        yield
        if disk.find(path) is not None:
            save_lines(disk, path, lines)
    yield


def save_slowly(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Rename the old file away, and write the new one a while later."""
    path = some_file(disk, source)
    if path is not None and not path.endswith("~"):
        lines = changed(lines_at(disk, path), source, token)
        disk.rename(path, f"{path}~")
        yield
        if disk.find(path) is None:
            disk.put(path, "".join(lines))
        if source.random() < 0.7 and disk.find(f"{path}~") is not None:
            disk.unlink(f"{path}~")
    yield


def save_emptied(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Empty the file, and write it a while later."""
    path = some_file(disk, source)
    if path is not None:
        lines = changed(lines_at(disk, path), source, token)
        disk.put(path, "")
        yield
        disk.put(path, "".join(lines))
    yield


def rewrite(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Put other text in the place of all that a file holds."""
    path = some_file(disk, source)
    if path is not None:
        lines = [new_line(source, token) for _ in range(source.randint(1, 4))]
        if source.random() < 0.5:
            disk.put(path, "".join(lines))
        else:
            save_lines(disk, path, lines)
    yield


def new(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Make a file."""
    path = source.choice(NAMES)
    if disk.find(path) is None:
        if "/" in path:
            disk.make_folders(path.rpartition("/")[0])
        lines = [new_line(source, token) for _ in range(source.randint(1, 5))]
        disk.put(path, "".join(lines))
    yield


def delete(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`rm file`"""
    path = some_file(disk, source)
    if path is not None:
        disk.unlink(path)
    yield


def empty(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`: > file`"""
    path = some_file(disk, source)
    if path is not None:
        disk.put(path, "")
    yield


def rename(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`mv file other`, where nothing is or over what is there."""
    path, other = some_file(disk, source), source.choice(NAMES)
    if path is not None and path != other:
        if "/" in other:
            disk.make_folders(other.rpartition("/")[0])
        if source.random() < 0.8 and disk.find(other) is not None:
            other = f"{other}.moved"
        disk.rename(path, other)
    yield


def rename_oddly(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Give a file a name that others may not have, and perhaps take it back."""
    path = some_file(disk, source)
    if path is not None:
        odd = source.choice(ODD_NAMES)
        disk.rename(path, odd)
        yield
        if source.random() < 0.5 and disk.find(odd) is not None and disk.find(path) is None:
            disk.rename(odd, path)
    yield


def rename_folder(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`mv folder other`"""
    folders = folders_of(disk)
    if folders:
        path = source.choice(folders)
        other = source.choice(("sub", "x", "moved", "sub/inner", "todo"))
        if disk.find(other) is None and disk.find(other.rpartition("/")[0]) is not None:
            disk.rename(path, other)
    yield


def folder_for_file(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Make a folder where a file was; the file goes, or goes into it."""
    path = some_file(disk, source)
    if path is not None:
        if source.random() < 0.5:
            disk.unlink(path)
            disk.create(path, "folder")
        else:
            disk.rename(path, f"{path}.tmp")
            disk.create(path, "folder")
            disk.rename(f"{path}.tmp", f"{path}/index.md")
        disk.put(f"{path}/new.md", new_line(source, token))
    yield


def file_for_folder(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`rm -r folder`, and a file of its name."""
    folders = folders_of(disk)
    if folders:
        path = source.choice(folders)
        disk.remove_tree(path)
        yield
        if disk.find(path) is None and disk.find(path.rpartition("/")[0]) is not None:
            disk.put(path, new_line(source, token))
    yield


def change_mode(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`chmod`"""
    path = some_file(disk, source)
    if path is not None:
        disk.set_mode(path, source.choice((0o644, 0o755, 0o600, 0o700)))
    yield


def ignore(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Write rules of what to ignore, or take them back."""
    rules = source.choice(("", "*.log\n", "x/\n", "# none\n", "*.log\nsub/deep/\n"))
    disk.put(IGNORE_FILE, rules)
    yield


def swap(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Let two files have each other's name."""
    files = files_of(disk)
    if len(files) > 1:
        one, other = source.sample(files, 2)
        disk.rename(one, f"{one}.tmp")
        disk.rename(other, one)
        disk.rename(f"{one}.tmp", other)
    yield


def restore(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Take a copy of everything, and put it back a while later."""
    copies = [(path, disk.get(path).data) for path in files_of(disk)]
    yield
    for path, data in copies:
        if disk.find(path) is not None:
            disk.fill(path, data)
    yield


HABITS: Final[dict[str, tuple[Habit, int]]] = {
    "append": (append, 14),
    "edit": (edit, 14),
    "save": (save, 14),
    "save_stale": (save_stale, 3),
    "save_slowly": (save_slowly, 6),
    "save_emptied": (save_emptied, 4),
    "rewrite": (rewrite, 4),
    "new": (new, 16),
    "delete": (delete, 5),
    "empty": (empty, 2),
    "rename": (rename, 8),
    "rename_oddly": (rename_oddly, 2),
    "rename_folder": (rename_folder, 3),
    "folder_for_file": (folder_for_file, 3),
    "file_for_folder": (file_for_folder, 2),
    "change_mode": (change_mode, 3),
    "ignore": (ignore, 2),
    "swap": (swap, 2),
}
"""What users do, and how often."""

assert MARKER_FILE.startswith(".phextsync")
