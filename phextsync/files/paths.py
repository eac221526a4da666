"""Paths: at which path of a directory each scroll's file lies. A function of the names of all
scrolls that have text, and of what the file system can do; every machine computes the same.

A name is its own path, but where that cannot be:

* of a file and a folder of one name, the file yields: `NAME~file`;
* of several scrolls with one name, or with names that the file system takes for one, the one
  with the least name and then the lowest coordinate stays, the others are `NAME~2`, `NAME~3`, ...;
* a part of a name that is too long for the file system is cut, and ends with `~` and a digest.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Final

from phextsync.files.names import PART_BYTES_MAX
from phextsync.index import Coordinate

_DIGEST_BYTES: Final = 4
FILE_SUFFIX: Final = "~file"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a file system does with names: how many bytes a part may have, and whether it takes
    letters of either case, or composed and decomposed characters, for the same."""

    part_bytes_max: int = PART_BYTES_MAX
    folds_case: bool = False
    normalizes: bool = False

    def key(self, path: str) -> str:
        """Return what two paths share that are one file here."""
        if self.normalizes:
            path = unicodedata.normalize("NFC", path)
        return path.casefold() if self.folds_case else path

    def fitting(self, name: str) -> str:
        """Return a name whose parts are short enough."""
        if all(len(part.encode()) <= self.part_bytes_max for part in name.split("/")):
            return name
        return "/".join(self._fitting_part(part) for part in name.split("/"))

    def _fitting_part(self, part: str) -> str:
        data = part.encode()
        if len(data) <= self.part_bytes_max:
            return part
        digest = blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
        kept = data[: self.part_bytes_max - len(digest) - 1].decode(errors="ignore")
        return f"{kept}~{digest}"


class Folders:
    """The folders on the way to paths. Paths are added and removed, each as often."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __contains__(self, folder: object) -> bool:
        return folder in self._counts

    def add(self, path: str) -> None:
        for folder in folders_of(path):
            self._counts[folder] = self._counts.get(folder, 0) + 1

    def remove(self, path: str) -> None:
        for folder in folders_of(path):
            self._counts[folder] -= 1
            if not self._counts[folder]:
                del self._counts[folder]


class Layout:
    """The paths of scrolls by their names. A change costs in proportion to the depth of the name
    while no name has to yield to another."""

    def __init__(self, abilities: Abilities) -> None:
        self.abilities = abilities
        self._names: dict[Coordinate, str] = {}
        self._paths: dict[Coordinate, str] = {}
        self._at: dict[str, Coordinate] = {}  # by key of the path
        self._folders = Folders()  # those that names lie in, by their keys
        self._yielding: dict[Coordinate, None] = {}  # those that had to make room
        self._other: dict[Coordinate, None] = {}  # those whose path is not their name

    def __len__(self) -> int:
        return len(self._names)

    def path_of(self, coordinate: Coordinate) -> str | None:
        """Return the path of a scroll, None when it has no name here."""
        return self._paths.get(coordinate)

    def at(self, path: str) -> Coordinate | None:
        """Return the scroll whose file lies at a path."""
        return self._at.get(self.abilities.key(path))

    def has_folder(self, path: str) -> bool:
        """Whether a file lies below a path."""
        return self.abilities.key(path) in self._folders

    def yielding(self) -> dict[Coordinate, tuple[str, str]]:
        """Return name and path of the scrolls whose path is not their name, in order."""
        return {c: (self._names[c], self._paths[c]) for c in sorted(self._other)}

    def update(self, names: Mapping[Coordinate, str | None]) -> set[Coordinate]:
        """Let scrolls have these names, None for none; return those whose path changed."""
        changed: set[Coordinate] = set()
        todo = {c: name for c, name in names.items() if self._names.get(c) != name}
        while todo:
            coordinate, name = todo.popitem()
            before = self._names.get(coordinate)
            if not self._is_simple(coordinate, before, name):
                todo[coordinate] = name
                return changed | self._lay_out(todo)
            if before is not None:
                self._remove(coordinate)
            if name is not None:
                self._add(coordinate, name)
            changed.add(coordinate)
        return changed

    def _is_simple(self, coordinate: Coordinate, before: str | None, name: str | None) -> bool:
        """Whether the change moves no other file and finds none in its way."""
        if self._yielding:
            return False
        if name is None:
            return True
        path = self.abilities.fitting(name)
        if before is not None and self._meet(self._paths[coordinate], path):
            return False
        key = self.abilities.key(path)
        return (
            self._at.get(key, coordinate) == coordinate
            and key not in self._folders
            and not any(folder in self._at for folder in folders_of(key))
        )

    def _meet(self, one: str, other: str) -> bool:
        """Whether one of two paths is the other, or a folder on its way."""
        one, other = self.abilities.key(one) + "/", self.abilities.key(other) + "/"
        return one.startswith(other) or other.startswith(one)

    def _add(self, coordinate: Coordinate, name: str) -> None:
        path = self.abilities.fitting(name)
        self._names[coordinate], self._paths[coordinate] = name, path
        if path != name:
            self._other[coordinate] = None
        key = self.abilities.key(path)
        self._at[key] = coordinate
        self._folders.add(key)

    def _remove(self, coordinate: Coordinate) -> None:
        del self._names[coordinate]
        self._other.pop(coordinate, None)
        key = self.abilities.key(self._paths.pop(coordinate))
        del self._at[key]
        self._folders.remove(key)

    def _lay_out(self, news: Mapping[Coordinate, str | None]) -> set[Coordinate]:
        """Find the paths of all scrolls again, with the names of some changed."""
        before = self._paths
        names = {**self._names, **news}
        self._names = {c: name for c, name in names.items() if name is not None}
        self._paths = paths = paths_of(self._names, self.abilities)
        key = self.abilities.key
        self._at = {key(path): c for c, path in paths.items()}
        self._folders = Folders()
        for path in paths.values():
            self._folders.add(key(path))
        self._other = {c: None for c, path in paths.items() if path != self._names[c]}
        fitting = self.abilities.fitting
        self._yielding = {c: None for c in self._other if paths[c] != fitting(self._names[c])}
        return {c for c in {*before, *paths} if before.get(c) != paths.get(c)}


def paths_of(names: Mapping[Coordinate, str], abilities: Abilities) -> dict[Coordinate, str]:
    """Return the path of each scroll from the names of all. O(n log n)."""
    key = abilities.key
    wanted = {c: abilities.fitting(name) for c, name in names.items()}
    folders = {folder for path in wanted.values() for folder in folders_of(key(path))}
    taken: set[str] = set()
    paths: dict[Coordinate, str] = {}
    order = sorted(names, key=lambda c: (names[c], c))
    yielding: list[Coordinate] = []
    for coordinate in order:
        path = wanted[coordinate]
        if key(path) in folders or key(path) in taken:
            yielding.append(coordinate)
        else:
            taken.add(key(path))
            paths[coordinate] = path
    for coordinate in yielding:
        path = wanted[coordinate]
        for suffix in _suffixes(is_folder=key(path) in folders):
            other = _with_suffix(path, suffix, abilities)
            if key(other) not in folders and key(other) not in taken:
                break
        taken.add(key(other))
        paths[coordinate] = other
    return paths


def _suffixes(*, is_folder: bool) -> Iterator[str]:
    if is_folder:
        yield FILE_SUFFIX
    for number in count(2):
        yield f"{FILE_SUFFIX if is_folder else '~'}{number}"


def _with_suffix(path: str, suffix: str, abilities: Abilities) -> str:
    """Return a path that ends with `suffix`, cut before it where it would be too long."""
    folder, slash, part = path.rpartition("/")
    room = abilities.part_bytes_max - len(suffix.encode())
    return f"{folder}{slash}{part.encode()[:room].decode(errors='ignore')}{suffix}"


def folders_of(path: str) -> Iterator[str]:
    """Give the folders on the way to a path, the highest first."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
