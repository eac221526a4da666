"""What other programs left on machines, before a page tells how to come from them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final


@contextmanager
def other_programs(page: str, machines: Path) -> Iterator[dict[str, str]]:
    """Put what a page begins with into the homes of machines; give the addresses that stand on
    the page with those where something answers for as long as the block lasts."""
    _BEFORE.get(page, _nothing)(machines)
    yield {}


def _nothing(machines: Path) -> None:
    """Most pages begin with new machines."""


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


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Write files below a directory."""
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


_BEFORE: Final[dict[str, Callable[[Path], None]]] = {
    "docs/howto/from-syncthing.md": _syncthing,
}
