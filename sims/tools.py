"""Tools: what editors, shells and programs do to files in several calls, between which all else may
happen. Habits as those of `habits`, of which few runs have some.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from phextsync.testing.memory_disk import MemoryDisk
from sims.habits import (
    NAMES,
    Habit,
    changed,
    files_of,
    folders_of,
    lines_at,
    new_line,
    restore,
    save_lines,
    some_file,
)
from sims.lines import tokens_of

_HURRIED: Final = 3  # at most so many files are renamed and changed in a hurry


def write_in_two(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Write a file in place from its beginning, and the rest of it a while later."""
    path = some_file(disk, source)
    if path is not None:
        text = "".join(changed(lines_at(disk, path), source, token))
        disk.put(path, text[: _blank(text, source)])
        yield
        disk.put(path, text)
    yield


def write_over(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`rsync --inplace`: one piece is there, and the old rest, before the other piece is."""
    path = some_file(disk, source)
    if path is not None:
        old = "".join(lines_at(disk, path))
        text = "".join(changed(lines_at(disk, path), source, token))
        at = _blank(text, source)
        rest = old.find(" ", at)
        disk.put(path, text[:at] + (old[rest:] if rest >= 0 else ""))
        yield
        disk.put(path, text)
    yield


def _blank(text: str, source: Random) -> int:
    """Return a place before a blank: a cut there makes no token of two."""
    return text.find(" ", source.randint(0, max(0, len(text) - 1))) if " " in text else 0


def append_often(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Several programs write a line each at the end of one log."""
    path = some_file(disk, source)
    for _ in range(source.randint(2, 4)):
        if path is not None and disk.find(path) is not None:
            inode = disk.get(path)
            end = b"" if not inode.data or inode.data.endswith(b"\n") else b"\n"
            disk.fill(path, inode.data + end + new_line(source, token).encode())
        yield


def append_open(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """A program has its log open and writes lines into it, also when it was replaced."""
    path = some_file(disk, source)
    if path is not None:
        inode = disk.get(path)
        inode.opened += 1
        try:
            for _ in range(source.randint(2, 4)):
                disk.fill_open(inode, inode.data + new_line(source, token).encode())
                for name in [name for name, there in disk.walk() if there is inode]:
                    disk.on_change(name)  # it may have been renamed
                yield
        finally:
            disk.release(inode)
    yield


def save_with_backup(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Copy the file to a backup beside it, and write it in place."""
    path = some_file(disk, source)
    if path is not None:
        lines = changed(lines_at(disk, path), source, token)
        disk.put(f"{path}~", "".join(lines_at(disk, path)))
        disk.put(path, "".join(lines))
    yield


def set_back(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Write other text of the same size in place, and let the file seem as old as before."""
    path = some_file(disk, source)
    if path is not None:
        inode = disk.get(path)
        text, before = "".join(lines_at(disk, path)), inode.time_ns
        for old in tokens_of(text)[:1]:
            disk.put(path, text.replace(old, token()))
        inode.time_ns = before
    yield


def remake(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Take files away and write them again as they were, as when branches are changed."""
    files = files_of(disk)
    texts = {path: disk.get(path).data for path in source.sample(files, min(len(files), 3))}
    for path in texts:
        disk.unlink(path)
    yield
    for path, data in texts.items():
        if disk.find(path) is None:
            disk.put(path, data.decode())
    yield


def stash(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`git stash` and `git stash pop`: old texts for a while, in new files each time."""
    files = files_of(disk)
    texts: dict[str, tuple[str, str]] = {}
    for path in source.sample(files, min(len(files), 2)):
        lines = lines_at(disk, path)
        old = [line for line in lines if source.random() < 0.7]
        texts[path] = "".join(old), "".join(lines)
        _check_out(disk, path, "".join(old))
    yield
    for path, (old_text, text) in texts.items():
        if disk.text(path) == old_text:
            _check_out(disk, path, text)
    yield


def _check_out(disk: MemoryDisk, path: str, text: str) -> None:
    mode = disk.get(path).mode
    disk.unlink(path)
    disk.create(path, "file", mode)
    disk.fill(path, text.encode())


def rename_back(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`mv file other; mv other file`"""
    path, other = some_file(disk, source), source.choice(NAMES)
    if path is not None and disk.find(other) is None and "/" not in other:
        disk.rename(path, other)
        if source.random() < 0.7:
            yield
        if disk.find(other) is not None and disk.find(path) is None:
            disk.rename(other, path)
    yield


def rename_letters(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Give a file the other case of its letters."""
    path = some_file(disk, source)
    if path is not None:
        folder, slash, name = path.rpartition("/")
        other = f"{folder}{slash}{name.swapcase()}"
        if disk.find(other) in (None, disk.get(path)) and other != path:
            disk.rename(path, other)
    yield


def move_by_copy(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`cp file other`, and perhaps `rm file`: so `mv` moves to another file system."""
    path, other = some_file(disk, source), source.choice(NAMES)
    if path is not None and disk.find(other) is None and "/" not in other:
        disk.put(other, "".join(lines_at(disk, path)))
        yield
        if source.random() < 0.7 and disk.find(path) is not None:
            disk.unlink(path)
    yield


def hard_link(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`ln file other`: what is written into one in place is in both."""
    path, other = some_file(disk, source), source.choice(NAMES)
    if path is not None and disk.find(other) is None and "/" not in other:
        disk.link(path, other)
    yield


def move_folder_in_use(
    disk: MemoryDisk, source: Random, token: Callable[[], str]
) -> Iterator[None]:
    """Rename a folder, and write a file in it before and after."""
    folders = [f for f in folders_of(disk) if any(p.startswith(f"{f}/") for p in files_of(disk))]
    if folders and disk.find("moved") is None:
        folder = source.choice(folders)
        path = source.choice([p for p in files_of(disk) if p.startswith(f"{folder}/")])
        disk.put(path, "".join(changed(lines_at(disk, path), source, token)))
        if source.random() < 0.5:
            yield
        disk.rename(folder, "moved")
        path = f"moved{path.removeprefix(folder)}"
        if disk.find(path) is not None:
            disk.put(path, "".join(changed(lines_at(disk, path), source, token)))
    yield


def folder_and_back(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Put a folder in the place of a file for a while."""
    path = some_file(disk, source)
    if path is not None:
        disk.rename(path, f"{path}.tmp")
        disk.create(path, "folder")
        disk.put(f"{path}/new.md", new_line(source, token))
        yield
        disk.unlink(f"{path}/new.md")
        disk.remove_folder(path)
        disk.rename(f"{path}.tmp", path)
    yield


def touch(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """`touch file`, and something is written into it later, or nothing."""
    path = source.choice(NAMES)
    if disk.find(path) is None and "/" not in path:
        disk.put(path, "")
        yield
        if source.random() < 0.7:
            disk.put(path, new_line(source, token))
    yield


def hurry(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Rename a file, append to it, change it in place, or save it: many do one after the other,
    before a rename counts. No two lines share words."""
    files = files_of(disk)
    if len(files) < _HURRIED:
        lines = [_unlike_line(source, token) for _ in range(6)]
        disk.put(f"{source.randrange(1000)}.md", "".join(lines))
    else:
        path = source.choice(files)
        lines = lines_at(disk, path)
        match source.choice(("rename", "append", "save", "save", "put")):
            case "rename":
                other = f"{path.partition('.')[0].partition('-')[0]}-{source.randrange(1000)}.md"
                if disk.find(other) is None:
                    disk.rename(path, other)
            case "append":
                disk.put(path, "".join([*lines, _unlike_line(source, token)]))
            case how:
                if lines and source.random() < 0.3:
                    del lines[source.randrange(len(lines))]
                else:
                    lines.insert(source.randint(0, len(lines)), _unlike_line(source, token))
                (save_lines if how == "save" else _put_lines)(disk, path, lines)
    yield


def reuse(disk: MemoryDisk, source: Random, token: Callable[[], str]) -> Iterator[None]:
    """Rename a file to one of few names, and make another one in its place, at once or soon."""
    path, other = some_file(disk, source), f"{source.randrange(12)}.md"
    if path is not None and disk.find(other) is None:
        disk.rename(path, other)
        if source.random() < 0.3:
            yield
        if source.random() < 0.8 and disk.find(path) is None:
            lines = [_unlike_line(source, token) for _ in range(source.randint(1, 3))]
            disk.put(path, "".join(lines))
    yield


def _put_lines(disk: MemoryDisk, path: str, lines: list[str]) -> None:
    disk.put(path, "".join(lines))


def _unlike_line(source: Random, token: Callable[[], str]) -> str:
    return " ".join([token(), *(f"{source.getrandbits(24):06x}" for _ in range(8))]) + "\n"


TOOLS: Final[dict[str, tuple[Habit, int]]] = {
    "write_in_two": (write_in_two, 6),
    "write_over": (write_over, 6),
    "append_often": (append_often, 8),
    "append_open": (append_open, 6),
    "save_with_backup": (save_with_backup, 8),
    "set_back": (set_back, 6),
    "remake": (remake, 4),
    "stash": (stash, 4),
    "restore": (restore, 2),
    "rename_back": (rename_back, 6),
    "rename_letters": (rename_letters, 4),
    "move_by_copy": (move_by_copy, 4),
    "move_folder_in_use": (move_folder_in_use, 4),
    "folder_and_back": (folder_and_back, 4),
    "touch": (touch, 6),
}
"""What they do, and how often."""
RARE_TOOLS: Final[dict[str, tuple[Habit, int]]] = {"hard_link": (hard_link, 2)}
"""What happens in few runs alone."""
HURRIES: Final[dict[str, tuple[Habit, int]]] = {"hurry": (hurry, 5), "reuse": (reuse, 1)}
"""What happens in runs of nothing else but faults."""
