"""Workloads as data: what the users of the nodes do, drawn from a generator of the run.

Every line that is written has a token of the oracle, so that nothing can be lost, doubled or
brought back unseen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Final, Literal, Protocol, cast

from phextsync import phextfile
from phextsync.index import Coordinate
from phextsync.testing.mesh import Mesh

Kind = Literal[
    "logs",
    "memory",
    "mailboxes",
    "churn",
    "bulk",
    "unicode",
    "reads",
    "samples",
    "shelves",
    "visits",
]

_WORDS: Final = ("ask", "build", "check", "deploy", "note", "read", "recall", "test", "write")
_UNICODE: Final = "aé\u0301ßאبक中\U0001f600\u200d\U0001f469 \t\r"
_BULK: Final = 50
LIBRARIES: Final = 12
"""Libraries in which users of the workload `shelves` write."""
_NODES_PER_LIBRARY: Final = 4  # of meshes of many nodes
_SHELF: Final = 3


class Visited(Mesh, Protocol):
    """A mesh whose users also read and write what their nodes do not hold."""

    def visit(self, node: int, place: Coordinate, *, writes: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Workload:
    """Each node makes an edit of this kind `per_s` times a second, at random times.

    * `logs`: adds a line to its own daily log, or to one that all share
    * `memory`: adds, inserts, replaces or deletes a line of one scroll that all edit
    * `mailboxes`: adds a line to its mailbox for another node: one writer, many readers
    * `churn`: empties one of a few scrolls, or writes it again
    * `bulk`: imports many new scrolls at once
    * `unicode`: inserts texts of many scripts at random places between lines
    * `reads`: reads a daily log or a mailbox of anybody
    * `shelves`: adds, inserts, replaces or deletes a line of one of 36 scrolls that all edit, three
      in each of twelve libraries, if the node holds it
    * `visits`: reads one of these scrolls, or adds a line to it, where the node does not hold it;
      only a `World` has such users
    * `samples`: imports a scroll of the .phext files in `folder`, or edits what is there
    """

    kind: Kind
    per_s: float = 1.0
    folder: Path = Path()

    def schedule(self, mesh: Mesh, seconds: float) -> None:
        """Let the users of all nodes of a mesh do this for some time from now on."""
        for node in range(mesh.count):
            source = mesh.random(f"{self.kind} of {node}")
            time = mesh.now + source.expovariate(self.per_s)
            while time < mesh.now + seconds:
                mesh.at(time, lambda node=node, source=source: self.step(mesh, node, source))  # type: ignore[misc]
                time += source.expovariate(self.per_s)

    def step(self, mesh: Mesh, node: int, source: Random) -> None:
        """Let one node's user do this once, now."""
        if self.kind == "samples":
            _sample(mesh, node, source, self.folder)
        else:
            _STEPS[self.kind](mesh, node, source)


def libraries(nodes: int) -> int:
    """Return in how many libraries the shelves of so many nodes are: where there are more nodes,
    there is more to hold."""
    return max(LIBRARIES, nodes // _NODES_PER_LIBRARY)


def _line(mesh: Mesh, source: Random) -> str:
    return f"{mesh.oracle.token()} {' '.join(source.choices(_WORDS, k=source.randint(0, 6)))}\n"


def _place(*numbers: int) -> Coordinate:
    return Coordinate(*[1] * (9 - len(numbers)), *(1 + number % 999 for number in numbers))


def _log(mesh: Mesh, node: int, source: Random) -> None:
    owner = node if source.random() < 0.8 else 998
    place = _place(1, owner, int(mesh.now) // 10)
    line = _line(mesh, source)
    mesh.edit(node, place, lambda replica: replica.append(place, line))


def _memory(mesh: Mesh, node: int, source: Random) -> None:
    _edit_lines(mesh, node, source, _place(2, 0, 0))


def _edit_lines(mesh: Mesh, node: int, source: Random, place: Coordinate) -> None:
    if not mesh.is_up(node):
        return
    lines = mesh.text(node, place).splitlines(keepends=True)
    at = source.randint(0, len(lines))
    match source.choices(("append", "insert", "delete", "edit"), (4, 3, 2, 2))[0]:
        case "append":
            line = _line(mesh, source)
            mesh.edit(node, place, lambda replica: replica.append(place, line))
        case "insert":
            line = _line(mesh, source)
            offset = len("".join(lines[:at]))
            mesh.edit(node, place, lambda replica: replica.insert(place, offset, line))
        case "delete" if at < len(lines):
            start = len("".join(lines[:at]))
            stop = start + len(lines[at])
            mesh.edit(node, place, lambda replica: replica.delete(place, start, stop))
        case "edit":
            changed = [*lines[:at], _line(mesh, source), *lines[at + 1 :]]
            mesh.edit(node, place, lambda replica: replica.edit(place, "".join(changed)))


def _shelf(mesh: Mesh, node: int, source: Random) -> None:
    library, number = source.randint(1, libraries(mesh.count)), source.randint(1, _SHELF)
    _edit_lines(mesh, node, source, Coordinate(library, 1, 1, 1, 1, 1, 1, 1, number))


def _visit(mesh: Mesh, node: int, source: Random) -> None:
    library, number = source.randint(1, libraries(mesh.count)), source.randint(1, _SHELF)
    place = Coordinate(library, 1, 1, 1, 1, 1, 1, 1, number)
    writes = source.random() < 0.5
    cast("Visited", mesh).visit(node, place, writes=writes)  # its scenarios are for no other tier


def _mailbox(mesh: Mesh, node: int, source: Random) -> None:
    reader = source.randrange(mesh.count)
    place = _place(3, node, reader)
    line = _line(mesh, source)
    mesh.edit(node, place, lambda replica: replica.append(place, line))


def _churn(mesh: Mesh, node: int, source: Random) -> None:
    place = _place(4, 0, source.randrange(6))
    if not mesh.is_up(node):
        return
    if mesh.text(node, place):
        mesh.edit(node, place, lambda replica: replica.clear_scroll(place))
    else:
        line = _line(mesh, source)
        mesh.edit(node, place, lambda replica: replica.edit(place, line))


def _bulk(mesh: Mesh, node: int, source: Random) -> None:
    shelf = source.randrange(999)
    for number in range(_BULK):
        place = _place(5 + node, shelf, number)
        if mesh.is_up(node) and not mesh.text(node, place):
            line = _line(mesh, source)
            mesh.edit(
                node,
                place,
                lambda replica, place=place, line=line: replica.import_text(place, line),  # type: ignore[misc]
            )


def _unicode(mesh: Mesh, node: int, source: Random) -> None:
    place = _place(2, 1, source.randrange(3))
    if not mesh.is_up(node):
        return
    lines = mesh.text(node, place).split("\n")
    offset = len("\n".join(lines[: source.randint(0, len(lines) - 1)]))
    text = mesh.oracle.token() + "".join(source.choices(_UNICODE, k=source.randint(0, 9)))
    mesh.edit(node, place, lambda replica: replica.insert(place, offset, f"\n{text}"))


def _read(mesh: Mesh, node: int, source: Random) -> None:
    owner = source.randrange(mesh.count)
    log, mailbox = _place(1, owner, int(mesh.now) // 10), _place(3, owner, node)
    if mesh.is_up(node):
        mesh.text(node, source.choice((log, mailbox)))


def _sample(mesh: Mesh, node: int, source: Random, folder: Path) -> None:
    scrolls = _samples(folder)
    if not scrolls or not mesh.is_up(node):
        return
    place, text = source.choice(scrolls)
    if mesh.text(node, place):
        _edit_lines(mesh, node, source, place)
    else:
        mesh.edit(node, place, lambda replica: replica.import_text(place, text))


@cache
def _samples(folder: Path) -> tuple[tuple[Coordinate, str], ...]:
    """Return the scrolls of all files, read where they lie."""
    files = sorted(folder.glob("*.phext"))
    parsed = [phextfile.read(file.read_bytes(), clamp=True).joined() for file in files]
    return tuple((place, text) for texts in parsed for place, text in sorted(texts.items()) if text)


_STEPS: Final[Mapping[Kind, Callable[[Mesh, int, Random], None]]] = {
    "logs": _log,
    "memory": _memory,
    "mailboxes": _mailbox,
    "churn": _churn,
    "bulk": _bulk,
    "unicode": _unicode,
    "reads": _read,
    "shelves": _shelf,
    "visits": _visit,
}


def schedule_all(mesh: Mesh, workloads: Sequence[Workload], seconds: float) -> None:
    """Let all of them happen at the same time."""
    for workload in workloads:
        workload.schedule(mesh, seconds)
