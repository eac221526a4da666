"""The oracle of directories: whether, in the end, all are equal and hold what `lines` content.

A directory is what the scrolls say, but for what the machine told of and for what is left alone.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from phextsync.errors import PhextsyncError
from phextsync.files.names import NameMap, check_name
from phextsync.files.paths import paths_of
from phextsync.index import Coordinate
from phextsync.testing import Violation
from phextsync.testing.memory_disk import MemoryDisk
from sims.lines import Lines, tokens_of
from sims.machines import MAP, RANGE, Machine


def check(machines: Sequence[Machine], lines: Lines) -> dict[Coordinate, str]:
    """Return the texts that all have. Violation when something is not as it has to be."""
    scrolls = [dict(m.peer.replica.scrolls()) for m in machines]
    for number, other in enumerate(scrolls):
        if other != scrolls[0]:
            raise Violation(f"the scrolls of 0 and {number} differ")
    names = NameMap(RANGE, scrolls[0].get(MAP, ""))
    texts = {c: text for c, text in scrolls[0].items() if c != MAP and c in RANGE}
    _excuse_ignored(machines, lines)
    ignored = {c for c in texts if machines[0].ignores(name_of(names, c))}
    for place in ignored:
        lines.excuse(tokens_of(texts[place]), "in a scroll whose file is ignored")
    lines.check({f"{c} {name_of(names, c)}": text for c, text in texts.items() if c not in ignored})
    for number, machine in enumerate(machines):
        _check_tree(number, machine, names, texts)
    return texts


def name_of(names: NameMap, place: Coordinate) -> str:
    """Return the name of a scroll's file, nothing when it has none."""
    line = names.line_at(place)
    return "" if line is None else line.name


def is_name(path: str) -> bool:
    """Whether others may have a file of this name."""
    try:
        check_name(path)
    except PhextsyncError:
        return False
    return True


def _excuse_ignored(machines: Sequence[Machine], lines: Lines) -> None:
    """What lies in files that are left alone is not owed."""
    for machine in machines:
        visible = machine.visible()
        for path, text in machine.disk.files().items():
            is_kept = path in visible and is_name(path)
            if not is_kept and not path.startswith(".phextsync"):
                lines.excuse(tokens_of(text), f"in {path}, which is left alone")


def _check_tree(
    number: int, machine: Machine, names: NameMap, texts: dict[Coordinate, str]
) -> None:
    """Violation when a directory is not what the scrolls say."""
    assert machine.binding is not None
    named = {c: line.name if (line := names.line_at(c)) else None for c in texts}
    known = {c: name for c, name in named.items() if name is not None}
    paths = paths_of(known, machine.disk.abilities)
    visible = machine.visible()
    orphans = {path: t for path, t in visible.items() if path.startswith("recovered/")}
    expected = {path: texts[c] for c, path in paths.items() if not machine.ignores(path)}
    # Where case does not count, a file has the letters with which somebody wrote it there.
    written = {machine.disk.abilities.key(path): path for path in expected}
    found = {
        written.get(machine.disk.abilities.key(path), path): text
        for path, text in visible.items()
        if path not in orphans
    }
    # A file that got an ignored name elsewhere stays where it was, and follows.
    staying = Counter(texts[c] for c, path in paths.items() if machine.ignores(path))
    told = {p.path for p in machine.binding.problems}
    odd = sum(
        "rename it" in p.reason or "it is to lie" in p.reason for p in machine.binding.problems
    )
    for path in sorted({*expected, *found}):
        if expected.get(path) == found.get(path) or path in told:
            continue
        if path not in found and odd:
            odd -= 1  # it is there by a name that cannot be kept
        elif path not in expected and staying[found[path]]:
            staying[found[path]] -= 1
        elif not told or path in found or not _is_blocked(machine.disk, path, found):
            raise Violation(
                f"on {number} {path!r} is {found.get(path)!r}, expected {expected.get(path)!r}"
            )
    for problem in machine.binding.problems:
        if problem.path in expected and expected.get(problem.path) == found.get(problem.path):
            raise Violation(f"{problem.path!r} on {number} is in order, said: {problem.reason}")
    _check_modes(number, machine, names, paths)


def _check_modes(
    number: int, machine: Machine, names: NameMap, paths: dict[Coordinate, str]
) -> None:
    for place, path in paths.items():
        inode, line = machine.disk.find(path), names.line_at(place)
        if inode is None or line is None or inode.kind != "file" or machine.ignores(path):
            continue
        marks = ("" if inode.mode & 0o077 else "p") + ("x" if inode.mode & 0o100 else "")
        if marks != line.marks:
            raise Violation(f"{path!r} on {number} is {marks!r}, its line says {line.marks!r}")


def _is_blocked(disk: MemoryDisk, path: str, shared: Iterable[str]) -> bool:
    """Whether something that is not shared lies in the way to a path, such as an empty file."""
    parts = path.split("/")
    for i in range(1, len(parts) + 1):
        above = "/".join(parts[:i])
        inode = disk.find(above)
        if inode is not None and inode.kind != "folder" and above not in shared:
            return True
    there = disk.find(path)
    return there is not None and there.kind == "folder"
