"""Survey pages: what there is in a range, put together from what holders tell of its parts."""

from dataclasses import dataclass

from phextsync.index import Coordinate, CoordinateRange
from phextsync.ranges import Ranges, union
from phextsync.sync.messages import SurveyedScroll


@dataclass(frozen=True, slots=True)
class SurveyPage:
    """Scrolls with text of a range, in order: as many as fit in a page, and in `rest` the part of
    the range that was not looked at (None: all was). Of `unanswered` parts nobody could be asked:
    of them there is what is here. Where texts were asked for, each has its text, but for one that
    is too large to come along: `Foreign.fetch` it."""

    scrolls: tuple[SurveyedScroll, ...]
    rest: CoordinateRange | None
    unanswered: Ranges


@dataclass(frozen=True, slots=True)
class Look:
    """The first rows of a piece, where the next begin, and of what nobody could be asked."""

    rows: list[SurveyedScroll]
    after: Coordinate | None
    unanswered: Ranges = ()


class Filling:
    """A page that is being filled."""

    def __init__(self, range_: CoordinateRange, rows_max: int, bytes_max: int | None) -> None:
        self._range = range_
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._rows: list[SurveyedScroll] = []
        self._unanswered: list[CoordinateRange] = []

    @property
    def is_full(self) -> bool:
        is_large = self._bytes_max is not None and self._bytes >= self._bytes_max
        return len(self._rows) >= self._rows_max or is_large

    def add(self, told: Look) -> None:
        self._rows += told.rows
        self._unanswered += told.unanswered
        self._bytes += sum(row.size for row in told.rows if row.text is not None)

    def end(self, after: Coordinate | None) -> SurveyPage:
        """Return the page; `after` is where the next begins."""
        if len(self._rows) > self._rows_max:
            after = self._rows[self._rows_max].coordinate
            del self._rows[self._rows_max :]
        rest = None
        if after is not None:
            rest = self._range.intersect(CoordinateRange(after, None))
        return SurveyPage(tuple(self._rows), rest, union(self._unanswered))
