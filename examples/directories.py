"""Six nodes, each bound to a directory of notes; two are switched off for a while.

All six directories are edited meanwhile, those of the two as well. In the end they are equal, and
no line is lost or there twice.
"""

import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from processes import PATIENCE_S, POLL_S, Node, console, set_up, stopping, timed

NOTES = Path(__file__).resolve().parents[1] / "docs" / "howto"
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
AWAY = ("epsilon", "zeta")
RANGE = "7.*"
TODAY = "2026-11-25.md"


def act() -> int:
    """Play it and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="phextsync-demo-") as folder:
        nodes = [Node(name, Path(folder) / name) for name in NAMES]
        notes = {name: Path(folder) / f"{name}-notes" for name in NAMES}
        set_up(nodes)
        for node in nodes:
            node.run("bind", str(notes[node.name]), "--at", RANGE)
        with stopping(nodes):
            return play(nodes, notes)


def play(nodes: list[Node], notes: dict[str, Path]) -> int:
    """The story."""
    for page in sorted(NOTES.glob("*.md")):
        shutil.copy(page, notes["alpha"] / page.name)
    (notes["beta"] / "MEMORY.md").write_text("# what all of them know\n")
    console.print(f"\n[bold]six nodes, six directories[/], {len(list(NOTES.glob('*.md')))} notes")
    with timed("the six nodes started, and all directories are the same"):
        for node in nodes:
            node.start()
        wait_until_same(notes)

    for node in nodes:
        if node.name in AWAY:
            node.stop()
    console.print("epsilon and zeta are switched off; all six directories are edited meanwhile")
    for name, directory in notes.items():
        for file in ("MEMORY.md", TODAY):
            with (directory / file).open("a") as text:
                text.write(f"{name} noted something in {file}\n")
    (notes["gamma"] / "history.md").rename(notes["gamma"] / "past.md")
    (notes["zeta"] / "web.md").unlink()
    with timed("epsilon and zeta started again, and all six directories are the same"):
        for node in nodes:
            if node.name in AWAY:
                node.start()
        wait_until_same(notes)
    return conclude(nodes, notes)


def conclude(nodes: list[Node], notes: dict[str, Path]) -> int:
    """Print what it cost and what is found, and say whether all is well."""
    away = [node for node in nodes if node.name in AWAY]
    received = sum(peer["bytes_in"] for node in away for peer in node.status()["peers"])
    console.print(f"the two received {received:,} bytes")
    console.print("[bold]search: noted something[/]")
    console.print(nodes[0].run("search", "noted something"), markup=False)
    files = read(notes["alpha"])
    lines = Counter((files["MEMORY.md"] + files[TODAY]).splitlines())
    expected = {
        f"{name} noted something in {file}" for name in NAMES for file in (TODAY, "MEMORY.md")
    }
    is_well = (
        all(lines[line] == 1 for line in expected)
        and "past.md" in files
        and not {"history.md", "web.md"} & {*files}
    )
    if not is_well:
        console.print(f"[bold red]something differs or is lost[/]: {sorted(files)} {lines}")
        return 1
    console.print("[bold green]six equal directories, every line once[/]")
    return 0


def read(directory: Path) -> dict[str, str]:
    """Return the notes of a directory by their names; one that is gone meanwhile is not there."""
    files: dict[str, str] = {}
    for path in directory.glob("[!.]*.md"):
        with suppress(FileNotFoundError):
            files[path.name] = path.read_text()
    return files


def wait_until_same(notes: dict[str, Path]) -> None:
    """Wait until every directory has the same notes, and those that were written last."""
    deadline = time.monotonic() + PATIENCE_S
    wanted = {line for directory in notes.values() for line in last_lines(directory)}
    while True:
        held = [read(directory) for directory in notes.values()]
        whole = "".join(held[0].values())
        if all(other == held[0] for other in held) and all(line in whole for line in wanted):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the directories did not become equal in {PATIENCE_S:g} s")
        time.sleep(POLL_S * 10)


def last_lines(directory: Path) -> list[str]:
    """Return the last line of each file that is written to by all."""
    files = read(directory)
    return [files[name].splitlines()[-1] for name in ("MEMORY.md", TODAY) if files.get(name)]


if __name__ == "__main__":
    sys.exit(act())
