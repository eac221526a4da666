"""Naming: the map of names of one directory and the paths that follow from it, kept up to date."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from phextsync.edits import apply_edits
from phextsync.files.merging import APART_BYTES_MAX, TOGETHER_BYTES_MAX
from phextsync.files.names import Line, NameMap
from phextsync.files.paths import Abilities, Layout
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.changes import writing_as
from phextsync.replica.replica import Replica

ORPHAN_S: Final = 30.0
"""How long a scroll has to be without a name before it gets a path: its line may be on its way."""

_WRITER: Final = "files"


class Naming:
    """Which scroll of a range has its file where. `follow` is told which scrolls changed."""

    def __init__(
        self,
        replica: Replica,
        range_: CoordinateRange,
        abilities: Abilities,
        is_apart: Callable[[], bool],
    ) -> None:
        """`is_apart` says whether others may be making the same change unseen. CoordinateError
        when the range is no prefix with four free parts."""
        self.map = NameMap(range_)
        self.layout = Layout(abilities)
        self._replica = replica
        self._is_apart = is_apart
        self._orphans: dict[Coordinate, float] = {}  # since when
        self._changed: set[Coordinate] = set()  # whose line changed since the last `follow`

    def follow(self, coordinates: Iterable[Coordinate], now: float) -> set[Coordinate]:
        """Take note of scrolls that changed; return them, and those whose line or path did."""
        changed = {c for c in coordinates if c in self.map.range}
        if self.map.map_coordinate in changed:
            changed.discard(self.map.map_coordinate)
            self._refresh()
        changed |= self._changed
        self._changed = set()
        changed |= {c for c, since in self._orphans.items() if now - since >= ORPHAN_S}
        return changed | self.layout.update({c: self._name_of(c, now) for c in changed})

    def load(self, now: float) -> None:
        """Take note of everything."""
        held = self._replica.coordinates(self.map.range)
        self.follow({self.map.map_coordinate, *held}, now)

    def size(self, coordinate: Coordinate) -> int:
        """Return how many bytes a scroll has."""
        return self._replica.size(coordinate)

    def text_of(self, name: str) -> str:
        """Return the text of the scroll whose file lies at a path, nothing when there is none."""
        coordinate = self.layout.at(name)
        return "" if coordinate is None else self._replica.get(coordinate, "")

    def has_folder(self, path: str) -> bool:
        """Whether files lie below a path, or have lain there."""
        if self.layout.has_folder(path):
            return True
        return any(line.name.startswith(f"{path}/") for line in self.map.lines())

    @property
    def next_due(self) -> float | None:
        """When a scroll has been without a name for long enough, None when none is without."""
        waiting = (c for c in self._orphans if self.layout.path_of(c) is None)
        return min((self._orphans[c] + ORPHAN_S for c in waiting), default=None)

    def _name_of(self, coordinate: Coordinate, now: float) -> str | None:
        if not self._replica.size(coordinate):
            self._orphans.pop(coordinate, None)
            return None
        line = self.map.line_at(coordinate)
        if line is not None:
            self._orphans.pop(coordinate, None)
            return line.name
        if now - self._orphans.setdefault(coordinate, now) < ORPHAN_S:
            return None
        return recovered(coordinate)

    # -- writing the map ---------------------------------------------------------------------

    def place_for(self, name: str, is_free: Callable[[Coordinate], bool]) -> Coordinate:
        """Return the scroll that a new file of this name gets: one that had the name before, if
        it has no text now."""
        places = (c for c in self.map.places_of(name) if is_free(c) and not self._replica.size(c))
        return next(places, None) or self.map.free_place(name, is_free)

    def add(self, lines: Iterable[Line]) -> None:
        """Add lines to the map, those that it lacks. All at once, since each change costs as much
        as the map is long."""
        self._refresh()  # others may have written them this moment
        news = [line for line in lines if line.coordinate not in self.map]
        if not news:
            return
        coordinate = self.map.map_coordinate
        edits = self.map.edits((), news)
        with writing_as(_WRITER, durable_first=True):
            limit = APART_BYTES_MAX if self._is_apart() else TOGETHER_BYTES_MAX
            if len(self._replica.version(coordinate)) > limit:
                self._replica.splice(coordinate, edits)
            else:
                whole = apply_edits(self.map.text, edits)
                self._replica.import_text(coordinate, whole, version_bytes_max=limit)
        self._refresh()

    def change(self, lines: Mapping[Coordinate, Line]) -> None:
        """Put other lines in the place of those that scrolls have."""
        if lines:
            self._refresh()
        changed = [line for c, line in lines.items() if self.map.line_at(c) != line]
        if changed:
            edits = self.map.edits([line.coordinate for line in changed], changed)
            with writing_as(_WRITER, durable_first=True):
                self._replica.splice(self.map.map_coordinate, edits)
            self._refresh()

    def tidy(self) -> None:
        """Leave each scroll one line, if there are more: every machine that does it makes the same
        change."""
        if not self.map.is_tidy:
            self._refresh()
            text = apply_edits(self.map.text, self.map.tidy())
            with writing_as(_WRITER, durable_first=True):
                self._replica.import_text(self.map.map_coordinate, text)
            self._refresh()

    def _refresh(self) -> None:
        self._changed |= self.map.read(self._replica.get(self.map.map_coordinate, ""))


def recovered(coordinate: Coordinate) -> str:
    """Return the name of a scroll to which the map gives none."""
    return f"recovered/{str(coordinate).replace('/', '-')}.md"
