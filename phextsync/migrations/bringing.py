"""Bringing: files with their histories become scrolls of a range, as those of a bound directory.

What each version changed is written under a label of its author's name, and dated when it was
made. A file comes whole, with all of its versions, or not at all; one whose scroll has text is
left alone, so to do it again goes on where it was cut short. Two machines that bring the same file
with the same versions apart make one text of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b
from typing import Final

from phextsync.crdt import Scroll
from phextsync.files.names import Line
from phextsync.files.naming import Naming
from phextsync.files.paths import Abilities
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange
from phextsync.replica.changes import STAMP_CHARACTERS_MAX
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
        map. That, and that history is kept, is durable then."""
        taken: set[Coordinate] = set()

        def is_free(place: Coordinate) -> bool:
            return place not in taken and not self._replica.size(place)

        for path in marks:
            held = [c for c in self._naming.map.places_of(path) if self._replica.size(c)]
            place = held[0] if held else self._naming.place_for(path, is_free)
            taken.add(place)
            self._places[path] = place
        self._naming.add(Line(self._places[path], path, mark) for path, mark in marks.items())
        self._replicas.commit()

    def bring(self, path: str, text: str, versions: Sequence[DatedText]) -> Outcome:
        """Bring a file that was given a scroll, and make it durable. `text` is what it has now."""
        place = self._places[path]
        here = self._replica.get(place, "")
        if here:
            return Outcome.THERE if here == text else Outcome.OTHER
        last = versions[-1] if versions else DatedText("", 0, "", "", is_whole=True)
        # At last it has what the file has, whatever the merges made.
        self._write(place, [*versions, replace(last, old="", new=text, is_whole=True)])
        self._replicas.commit()
        return Outcome.BROUGHT

    def _write(self, place: Coordinate, versions: Sequence[DatedText]) -> None:
        """Write versions under client ids that follow from all of them and from what was there: to
        do the same on two machines is to do it once."""
        state = self._replica.difference(place, EMPTY_VERSION) or b""
        series = _digest(place.key, self._replica.version(place), *map(_told, versions))
        scroll = Scroll(place, 0, [state] if state else [])
        for version in versions:
            label = label_of(version.author)
            client = int.from_bytes(_digest(series, label.encode())[:8], "big") >> 12
            if scroll.client_id != client:
                scroll = Scroll(place, client, [scroll.state()])
            if version.is_whole or scroll.text == version.old:
                update = scroll.edit(version.new)
            else:
                update = scroll.edit_from(version.old, version.new)
            if update is not None:
                with self._replicas.author.dated(version.time_ms):
                    self._replica.merge(place, scroll.stamp(update))
                self._replicas.clients.note_label(self._replica.name, client, label)


def label_of(author: str) -> str:
    """Return the label under which what an author wrote is known here."""
    name = "".join(sign for sign in author if sign.isprintable())
    return f"{_LABEL}{name}"[:STAMP_CHARACTERS_MAX]


def _told(version: DatedText) -> bytes:
    """Return what a version is, as bytes of its own."""
    told = f"{version.time_ms} {version.is_whole} {version.author}"
    return _digest(
        *(part.encode("utf-8", "surrogatepass") for part in (told, version.old, version.new))
    )


def _digest(*parts: bytes) -> bytes:
    hasher = blake2b(digest_size=32, person=b"phextsync git")
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big") + part)
    return hasher.digest()
