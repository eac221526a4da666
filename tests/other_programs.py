"""What other programs left on machines, before a page tells how to come from them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.old_sq import old_sq
from tests.repositories import Repository


@contextmanager
def other_programs(page: str, machines: Path) -> Iterator[dict[str, str]]:
    """Put what a page begins with into the homes of machines; give the addresses that stand on
    the page with those where something answers for as long as the block lasts."""
    if page == "docs/howto/sq.md":
        phexts = {"world": "hello\x17Remember the milk.\n", "brain": "x"}
        write_files(machines / "laptop" / "sq-data", {f"{n}.phext": t for n, t in phexts.items()})
        with old_sq(phexts) as (address, _):
            yield {"http://127.0.0.1:1337": address}
        return
    if page in _BEFORE:
        _BEFORE[page](machines)
    yield {}


def _syncthing(machines: Path) -> None:
    """A directory that was changed apart on three machines."""
    conflict = "sync-conflict-2026030"
    files = {
        "shopping.md": "milk\nbread\nsalt\n",
        f"shopping.{conflict}1-120000-ABCDEF7.md": "milk\neggs\n",
        ".stversions/shopping~20260228-090000.md": "milk\nbread\n",
        "todo.md": "call Anna\nwater the plants\n",
        f"todo.{conflict}2-083000-ABCDEF7.md": "call Anna\nwrite to Ben\n",
    }
    write_files(machines / "laptop" / "notes", files)
    write_files(machines / "desk" / "notes", {"shopping.md": "milk\neggs\nsalt\npepper\n"})


def _directories(machines: Path) -> None:
    """A directory on each of two machines, copied by hand."""
    files = {"shopping.md": "milk\nbread\n", "ideas.md": "A book of maps.\n"}
    write_files(machines / "laptop" / "notes", files)
    (machines / "laptop" / "notes" / "photo.jpg").write_bytes(b"\xff\xd8")
    write_files(machines / "desk" / "notes", {"shopping.md": "milk\nsalt\n"})


def _git(machines: Path) -> None:
    """A repository of notes by two."""
    notes = Repository(machines / "laptop" / "notes")
    ignored = {".gitignore": "*.log\n"}
    notes.commit({"shopping.md": "milk\nbread\n", **ignored}, "Anna", "2024-01-05")
    notes.commit({"shopping.md": "milk\nbread\noil\n"}, "Ben", "2025-02-05")
    notes.commit({"shopping.md": "milk\noil\n"}, "Anna", "2026-03-05")


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Write files below a directory."""
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


_BEFORE: Final[dict[str, Callable[[Path], None]]] = {
    "docs/howto/from-directories.md": _directories,
    "docs/howto/from-git.md": _git,
    "docs/howto/from-syncthing.md": _syncthing,
}
