"""Writes: what is asked of the files of a directory, and what became of it."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from phextsync.files.reading import File, Trouble
from phextsync.files.records import Mark
from phextsync.index import Coordinate

ELSEWHERE: Final = "expected the directory that was bound, found that another took its place"


@dataclass(frozen=True, slots=True)
class Write:
    """A file that is to be made, or to take the place of `expected`; an empty text removes it."""

    coordinate: Coordinate
    path: str
    text: str
    marks: str
    expected: File | None
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A new file, whole and on the disk, that is not yet at its path."""

    path: str
    inode: int
    size: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A write was done. `mark` is None when somebody has changed the file since. `late` is what
    somebody had put there unseen, which is not there any more."""

    mark: Mark | None
    marks: str = ""
    born_ns: int = 0
    is_outside: bool = False
    late: str | None = None


class Changed(NamedTuple):
    """A write was not done: the file is not as it was read. `is_aside`: it lies aside still, and
    another where it lay."""

    is_aside: bool = False


class Unknown(NamedTuple):
    """Whether a write was done is to be found out as after a crash: the system refused a part of
    it, or another directory came to lie where this one lay (`ELSEWHERE`)."""

    reason: str


Outcome = Placed | Changed | Trouble | Unknown
