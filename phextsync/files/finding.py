"""Finding: which scroll is meant by the path of a bound file, and which file a scroll is.

A file is named by its path, or by its name below a bound directory when only one has it. Names of
files that were deleted still find their scroll, whose past can be looked at.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from phextsync.errors import CoordinateError, DirectoryError
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.ignoring import IGNORE_FILE, Ignoring
from phextsync.files.markers import MARKER_FILE
from phextsync.files.names import Line, check_name
from phextsync.files.naming import ORPHAN_S, Naming
from phextsync.files.paths import Abilities
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.replicas import ReplicaSet

_LIKE_A_COORDINATE: Final = re.compile(r"(?:[\d*\s][\d./\s*]*)?")
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a bound directory and its scroll. `path` is below the directory; `is_there` says
    whether the scroll has text."""

    phext: str
    coordinate: Coordinate
    directory: Path
    path: str
    is_there: bool

    def __str__(self) -> str:
        return str(self.directory / self.path)


@dataclass(frozen=True, slots=True)
class FoundRange:
    """A range of scrolls: that of a bound directory or of one of its files. `below` is the folder
    that is meant, when it is a part of the directory, else empty."""

    phext: str
    range: CoordinateRange
    directory: Path
    below: str = ""


def is_coordinate(text: str) -> bool:
    """Whether a text is a coordinate. CoordinateError when it is meant to be one and is not."""
    try:
        Coordinate.parse(text)
    except CoordinateError:
        if _LIKE_A_COORDINATE.fullmatch(text):
            raise
        return False
    return True


def is_range(text: str) -> bool:
    """Whether a text is a range of coordinates. CoordinateError as for `is_coordinate`."""
    try:
        CoordinateRange.parse(text)
    except CoordinateError as error:
        if text.strip() == "..":
            raise
        if all(map(_LIKE_A_COORDINATE.fullmatch, text.split(".."))):
            raise CoordinateError(
                "expected nine numbers from 1 to 999 such as 1.5.2/3.7.3/9.1.1, a prefix such as "
                f"'2.*', or LOWER..UPPER, found {text!r:.60}"
            ) from error
        return False
    return True


def whole_path(text: str, folder: str | None = None) -> str:
    """Return the whole path that a text names, seen from a folder; nothing when that cannot be
    known, because the path is relative and there is no folder."""
    text = os.path.expanduser(text)
    if folder is not None:
        text = os.path.join(folder, text)
    return os.path.normpath(text) if os.path.isabs(text) else ""


def current_folder() -> str | None:
    """Return the folder that relative paths are seen from, None when it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


class Finder:
    """Finds files and scrolls of all bound directories of a data folder.

    What it knows of names follows the scrolls, and costs in proportion to what changed.
    """

    def __init__(
        self,
        replicas: ReplicaSet,
        store: BindingStore,
        *,
        is_apart: Callable[[Bound], bool],
        abilities: Callable[[Bound], Abilities],
        trouble: Callable[[Bound, str], str],
    ) -> None:
        """`is_apart` says whether others may be naming files of a directory unseen, `abilities`
        what its file system can do, `trouble` why a file of it is left alone."""
        self._replicas = replicas
        self._store = store
        self._is_apart = is_apart
        self._abilities = abilities
        self._trouble = trouble
        self._names: dict[str, _Names] = {}

    def bindings(self) -> list[Bound]:
        """Return the bound directories."""
        bound = self._store.bindings()
        for gone in {*self._names} - {each.id for each in bound}:
            self._names.pop(gone).close()
        return bound

    def find(self, text: str, path: str) -> FoundFile:
        """Return the file that a text names; `path` is its whole path, or empty when that cannot
        be known. CoordinateError when no bound directory has, or had, such a file."""
        bound = self.bindings()
        ways = [(each, below) for each, below in _ways(bound, path) if below]
        found = self._look_at(ways)
        if not found and not os.path.isabs(os.path.expanduser(text)):
            found = self._look_at([(each, os.path.normpath(text)) for each in bound])
        files = [file for file in found if file.is_there] or found
        if len(files) == 1:
            return files[0]
        raise _several(text, files) if files else self._unknown(text, path, bound)

    def find_range(self, text: str, path: str) -> FoundRange:
        """Return the range of a bound directory, of a folder or of a file in one."""
        for each, below in _ways(self.bindings(), path):
            if not below:
                return FoundRange(each.phext, each.range, each.directory)
            naming = self._naming(each)
            if naming.layout.at(below) is None and naming.has_folder(below):
                return FoundRange(each.phext, each.range, each.directory, below)
        file = self.find(text, path)
        return FoundRange(file.phext, CoordinateRange.of(file.coordinate), file.directory)

    def name(self, text: str, path: str) -> FoundFile:
        """Return the file that a text names, and give it a scroll if it has none. DirectoryError
        when there cannot be such a file; PermissionDeniedError when this node may not make it."""
        bound = self.bindings()
        ways = [(each, below) for each, below in _ways(bound, path) if below]
        if not ways:
            try:
                return self.find(text, path)
            except CoordinateError:
                if len(bound) != 1 or os.path.isabs(os.path.expanduser(text)):
                    raise
            ways = [(bound[0], os.path.normpath(text))]
        each, below = ways[0]
        return self._look(each, below) or self._make(each, below)

    def names(self, phext: str, coordinates: Iterable[Coordinate]) -> list[Path | None]:
        """Return the path of each scroll's file, of a deleted one the path that it had."""
        namings = [(each, self._naming(each)) for each in self.bindings() if each.phext == phext]
        return [_path_of(namings, coordinate) for coordinate in coordinates]

    def close(self) -> None:
        """Stop following the scrolls."""
        for names in self._names.values():
            names.close()
        self._names.clear()

    def _naming(self, bound: Bound) -> Naming:
        names = self._names.get(bound.id)
        if names is None:
            names = self._names[bound.id] = _Names(
                self._replicas, bound, self._abilities(bound), partial(self._is_apart, bound)
            )
        return names.now()

    def _look_at(self, ways: Iterable[tuple[Bound, str]]) -> list[FoundFile]:
        looked = (self._look(each, below) for each, below in ways)
        return [file for file in looked if file is not None]

    def _look(self, bound: Bound, path: str) -> FoundFile | None:
        """Return the file at a path below a directory, or of that name."""
        naming = self._naming(bound)
        place = naming.layout.at(path)
        is_there = place is not None
        if place is None:
            place = next(iter(naming.map.places_of(path)), None)
        if place is None:
            return None
        if not is_there:  # it may lie at another path, because its own is taken
            path, is_there = naming.layout.path_of(place) or path, bool(naming.size(place))
        return FoundFile(bound.phext, place, bound.directory, path, is_there)

    def _make(self, bound: Bound, path: str) -> FoundFile:
        naming = self._naming(bound)
        check_name(path)
        if naming.layout.has_folder(path):
            raise DirectoryError(f"expected a file at {bound.directory / path}, found a folder")
        rules = Ignoring(naming.text_of(IGNORE_FILE))
        if path == MARKER_FILE or rules.covers(path):
            raise DirectoryError(
                f"{bound.directory / path} is left alone: hidden files, what programs leave "
                f"behind, and what {IGNORE_FILE} lists are not synchronised"
            )
        place = naming.place_for(path, lambda place: not naming.size(place))
        self._replicas.author.check_allowed(bound.phext, place)
        naming.add([Line(place, path)])
        return FoundFile(bound.phext, place, bound.directory, path, False)

    def _unknown(self, text: str, path: str, bound: list[Bound]) -> CoordinateError:
        for each, below in _ways(bound, path):
            if not below or self._naming(each).has_folder(below):
                return CoordinateError(f"expected a file, found the folder {path}")
            reason = self._trouble(each, below)
            if reason:
                return CoordinateError(f"{path} is left alone: {reason}")
            if os.path.lexists(path):
                return CoordinateError(f"{path} has no scroll yet: it was not taken up")
            return CoordinateError(
                f"{each.directory} has no file {below}, and had none, unless that "
                "has another name now"
            )
        if not bound:
            return CoordinateError(
                "expected a coordinate such as 1.5.2/3.7.3/9.1.1 (file names are for directories "
                f"that are bound, and none is), found {text!r:.80}"
            )
        directories = ", ".join(str(each.directory) for each in bound[:_SHOWN])
        more = ", ..." if len(bound) > _SHOWN else ""
        return CoordinateError(
            "expected a coordinate such as 1.5.2/3.7.3/9.1.1, or a file of a bound directory "
            f"({directories}{more}), found {text!r:.80}"
        )


class _Names:
    """The names of one directory, kept up to date by what changes in its range."""

    def __init__(
        self,
        replicas: ReplicaSet,
        bound: Bound,
        abilities: Abilities,
        is_apart: Callable[[], bool],
    ) -> None:
        self._replica = replicas.open(bound.phext)
        self._range = bound.range
        self._abilities = abilities
        self._is_apart = is_apart
        self._feed = self._replica.feed(bound.range)
        self._naming = self._loaded()

    def now(self) -> Naming:
        """Return the names as they are now."""
        while (change := self._feed.take()) is not None:
            if change.missed is not None:
                self._naming = self._loaded()
            else:
                self._naming.follow(change.coordinates, 0.0)
        self._naming.follow((), ORPHAN_S)
        return self._naming

    def close(self) -> None:
        self._feed.close()

    def _loaded(self) -> Naming:
        naming = Naming(self._replica, self._range, self._abilities, self._is_apart)
        naming.load(0.0)
        return naming


def _ways(bound: Iterable[Bound], path: str) -> Iterator[tuple[Bound, str]]:
    """Give the directory that a whole path lies in, and the rest of the path."""
    if not path:
        return
    folder, name = os.path.split(path)
    ways = [path, os.path.join(os.path.realpath(folder), name)]
    if os.path.isdir(path):  # it may be a link to a bound one
        ways.append(os.path.realpath(path))
    for seen in dict.fromkeys(ways):
        for each in bound:
            for root in dict.fromkeys((each.directory, Path(os.path.realpath(each.directory)))):
                if Path(seen).is_relative_to(root):
                    below = Path(seen).relative_to(root).as_posix()
                    yield each, "" if below == "." else below
                    return


def _path_of(namings: Iterable[tuple[Bound, Naming]], coordinate: Coordinate) -> Path | None:
    for bound, naming in namings:
        if coordinate in bound.range:
            path = naming.layout.path_of(coordinate)
            line = naming.map.line_at(coordinate)
            if path is None and line is not None:
                path = line.name
            return None if path is None else bound.directory / path
    return None


def _several(text: str, files: list[FoundFile]) -> CoordinateError:
    paths = ", ".join(str(file) for file in files[:_SHOWN])
    more = ", ..." if len(files) > _SHOWN else ""
    return CoordinateError(f"expected the path of one file, found {text!r:.80} as {paths}{more}")
