"""Bringing: files with their histories become scrolls of a range, as those of a bound directory.

What each version changed is written under a label of its author's name, and dated when it was
made. A file comes whole, with all of its versions, or not at all; one whose scroll has text is
left alone, so to do it again goes on where it was cut short.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from phextsync.files.names import Line
from phextsync.files.naming import Naming
from phextsync.files.paths import Abilities
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.changes import STAMP_CHARACTERS_MAX, writing_as
from phextsync.replica.past import FOREVER
from phextsync.replica.replicas import ReplicaSet

_LABEL: Final = "git:"


@dataclass(frozen=True, slots=True)
class DatedText:
    """A version: who made `new` of `old`, and when. `is_whole`: whatever was there is replaced."""

    author: str
    time_ms: int
    old: str
    new: str
    is_whole: bool


class Outcome(Enum):
    """What became of a file."""

    BROUGHT = "brought"
    THERE = "there already"
    OTHER = "left alone"


class Bringing:
    """Brings files into a range of a phext of a folder that this process owns, and keeps the
    history of the range from then on. CoordinateError for a range that cannot have files,
    PermissionDeniedError for one that this node may not write, NotHeldError for one that is not
    held here."""

    def __init__(self, replicas: ReplicaSet, phext: str, range_: CoordinateRange) -> None:
        self._replicas = replicas
        self._replica = replicas.phext(phext)
        self._naming = Naming(self._replica, range_, Abilities(), lambda: True)
        replicas.holding.check_whole(phext, range_)
        self._replica.check_allowed(self._naming.map.map_coordinate)
        self._naming.load(0.0)
        self._places: dict[str, Coordinate] = {}
        replicas.keep_history(FOREVER, phext, range_)

    def name(self, marks: Mapping[str, str]) -> None:
        """Give files their scrolls, by path, all at once: each change of the map is as long as the
        map."""
        for path in marks:
            held = [c for c in self._naming.map.places_of(path) if self._replica.size(c)]
            self._places[path] = held[0] if held else self._naming.place_for(path, self._is_free)
        self._naming.add(Line(self._places[path], path, mark) for path, mark in marks.items())

    def _is_free(self, place: Coordinate) -> bool:
        return place not in self._places.values() and not self._replica.size(place)

    def bring(self, path: str, text: str, versions: Sequence[DatedText]) -> Outcome:
        """Bring a file that was given a scroll, and make it durable. `text` is what it has now."""
        place = self._places[path]
        here = self._replica.get(place, "")
        if here:
            return Outcome.THERE if here == text else Outcome.OTHER
        for version in self._made_whole(versions, text):
            with self._replicas.author.dated(version.time_ms), writing_as(label_of(version.author)):
                if version.is_whole or self._replica.get(place, "") == version.old:
                    self._replica.edit(place, version.new)
                else:
                    self._replica.edit_from(place, version.old, version.new)
        self._replicas.commit()
        return Outcome.BROUGHT

    @staticmethod
    def _made_whole(versions: Sequence[DatedText], text: str) -> Iterable[DatedText]:
        """Give versions, and at last what the file has, whatever the merges made."""
        yield from versions
        author, time_ms = (versions[-1].author, versions[-1].time_ms) if versions else ("", 0)
        yield DatedText(author, time_ms, "", text, is_whole=True)


def label_of(author: str) -> str:
    """Return the label under which what an author wrote is known here."""
    name = "".join(sign for sign in author if sign.isprintable())
    return f"{_LABEL}{name}"[:STAMP_CHARACTERS_MAX]
