"""Bringing: files with their histories become scrolls of a range, as those of a bound directory.

What each version changed is written under a label of its author's name, and dated when it was
made. A file comes whole, with all of its versions, or not at all; one whose scroll has text is
left alone, so to do it again goes on where it was cut short. One that was brought before and has no
text now was deleted since, or had none at last: it is not brought again. Two machines that bring
the same file with the same versions apart make one text of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b
from typing import Final, TypeAlias

from phextsync.crdt import Scroll
from phextsync.files.names import Line
from phextsync.files.naming import Naming
from phextsync.files.paths import Abilities
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, clock_of
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


Versions: TypeAlias = tuple[str, Sequence[DatedText]]
"""What a file has now, and its versions."""


class Outcome(Enum):
    """What became of a file."""

    BROUGHT = "brought"
    THERE = "there already"
    DELETED = "brought before, and deleted here since"
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
        self._brought: set[str] = set()  # before, and without a text now
        replicas.keep_history(FOREVER, phext, range_)

    def name(self, marks: Mapping[str, str], read: Callable[[str], Versions]) -> None:
        """Give files their scrolls, by path, all at once: each change of the map is as long as the
        map. That, and that history is kept, is durable then. A name that was deleted with its file
        stays so; `read` tells the versions of one that may have been."""
        taken: set[Coordinate] = set()

        def is_free(place: Coordinate) -> bool:
            return place not in taken and not self._replica.size(place)

        for path in marks:
            held = [c for c in self._naming.map.places_of(path) if self._replica.size(c)]
            place = held[0] if held else self._naming.place_for(path, is_free)
            taken.add(place)
            self._places[path] = place
            if self._is_written(place) and self._was_brought(place, *read(path)):
                self._brought.add(path)
        self._naming.add(
            Line(self._places[path], path, mark)
            for path, mark in marks.items()
            if path not in self._brought
        )
        self._replicas.commit()

    def bring(self, path: str, text: str, versions: Sequence[DatedText]) -> Outcome:
        """Bring a file that was given a scroll, and make it durable. `text` is what it has now."""
        place = self._places[path]
        here = self._replica.get(place, "")
        if path in self._brought:
            return Outcome.DELETED if text else Outcome.THERE
        if here:
            return Outcome.THERE if here == text else Outcome.OTHER
        self._write(place, _whole(text, versions))
        self._replicas.commit()
        return Outcome.BROUGHT

    def _is_written(self, place: Coordinate) -> bool:
        """Whether a scroll has no text, and had one."""
        return not self._replica.size(place) and self._replica.version(place) != EMPTY_VERSION

    def _was_brought(self, place: Coordinate, text: str, versions: Sequence[DatedText]) -> bool:
        """Whether a file was brought to a scroll: one that nobody had written to before, as the
        client ids tell on all machines, or else one that has a version of the file in its past."""
        version, whole = self._replica.version(place), _whole(text, versions)
        series = _series(place, EMPTY_VERSION, whole)
        if any(clock_of(version, _client_of(series, each)) for each in whole):
            return True
        dated = {(each.time_ms, label_of(each.author)) for each in whole}
        log = self._replica.past(place).log()
        return any((each.time_ms, label) in dated for each in log for label in each.labels)

    def _write(self, place: Coordinate, versions: Sequence[DatedText]) -> None:
        """Write versions under client ids that follow from all of them and from what was there: to
        do the same on two machines is to do it once."""
        state = self._replica.difference(place, EMPTY_VERSION) or b""
        series = _series(place, self._replica.version(place), versions)
        scroll = Scroll(place, 0, [state] if state else [])
        for version in versions:
            client = _client_of(series, version)
            if scroll.client_id != client:
                scroll = Scroll(place, client, [scroll.state()])
            if version.is_whole or scroll.text == version.old:
                update = scroll.edit(version.new)
            else:
                update = scroll.edit_from(version.old, version.new)
            if update is not None:
                with self._replicas.author.dated(version.time_ms):
                    self._replica.merge(place, scroll.stamp(update))
                self._replicas.clients.note_label(
                    self._replica.name, client, label_of(version.author)
                )


def _whole(text: str, versions: Sequence[DatedText]) -> list[DatedText]:
    """Return versions of which the last has what the file has, whatever the merges made."""
    last = versions[-1] if versions else DatedText("", 0, "", "", is_whole=True)
    return [*versions, replace(last, old="", new=text, is_whole=True)]


def _series(place: Coordinate, before: bytes, versions: Sequence[DatedText]) -> bytes:
    return _digest(place.key, before, *map(_told, versions))


def _client_of(series: bytes, version: DatedText) -> int:
    return int.from_bytes(_digest(series, label_of(version.author).encode())[:8], "big") >> 12


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
