"""Gathering: what is asked about a range of which others hold a part is asked of them too.

Here is decided, for whoever asks, whether a request is answered here, elsewhere, or by both. An
answer is whole, or says which part of it is missing.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from phextsync.control import operations
from phextsync.control.answers import ListedScroll, Missing, Page
from phextsync.control.frames import Value
from phextsync.control.operations import Operation, check_phext, operation_of, unsigned
from phextsync.control.performing import PAGE_BYTES, PAGE_ITEMS, rest_of, unfit
from phextsync.errors import CoordinateError, NotHeldError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.ranges import Ranges
from phextsync.replica.holding import Holding

_OF_RANGES: Final = (
    operations.COUNT,
    operations.COORDINATES,
    operations.LIST,
    operations.READ,
)

T = TypeVar("T")


class Row(Protocol):
    """A scroll as its holder tells of it."""

    @property
    def coordinate(self) -> Coordinate: ...

    @property
    def size(self) -> int: ...

    @property
    def line(self) -> str: ...

    @property
    def text(self) -> str | None: ...


class Rows(Protocol):
    """A page of what there is in a range: see `node.foreign.SurveyPage`."""

    @property
    def scrolls(self) -> Iterable[Row]: ...

    @property
    def rest(self) -> CoordinateRange | None: ...

    @property
    def unanswered(self) -> Ranges: ...


class Elsewhere(Protocol):
    """What asks others: see `node.foreign`."""

    async def survey(
        self,
        phext: str,
        range_: CoordinateRange,
        *,
        with_texts: bool = False,
        rows_max: int,
        bytes_max: int | None = None,
    ) -> Rows: ...

    async def read(self, phext: str, at: Coordinate) -> str: ...

    def unreachable(self, phext: str, ranges: Iterable[CoordinateRange]) -> tuple[str, ...]: ...


class Gathering:
    """Answers requests about ranges of which not all is held here."""

    def __init__(self, holding: Holding, foreign: Elsewhere) -> None:
        self._holding = holding
        self._foreign = foreign

    def is_wanted(self, request: list[Value]) -> bool:
        """Whether others have to be asked for an answer. Costs nothing where all is held."""
        if self._holding.is_everything or operation_of(request) not in _OF_RANGES:
            return False
        match unsigned(request):
            case [_, str(phext), str(range_), *_]:
                with suppress(CoordinateError):  # whoever carries it out says what is wrong
                    return not self._holding.holds(phext, CoordinateRange.parse(range_))
        return False

    async def answer(self, request: list[Value]) -> Value:
        """Answer a request. NotHeldError for a number to which some part is missing."""
        check_phext(request)
        operation = operation_of(request)
        match unsigned(request)[1:]:
            case [str(phext), str(range_)] if operation is operations.COUNT:
                return await self._count(phext, CoordinateRange.parse(range_))
            case [str(phext), str(range_), str(after)]:
                rest = rest_of(range_, after)
                if operation is operations.COORDINATES:
                    return await self._page(operations.COORDINATES, phext, rest, _place)
                if operation is operations.LIST:
                    return await self._page(operations.LIST, phext, rest, _listed)
                return await self._texts(phext, rest)
        raise unfit(unsigned(request)[0], unsigned(request)[1:])

    async def _count(self, phext: str, range_: CoordinateRange) -> int:
        count, missing = 0, Missing()
        rest: CoordinateRange | None = range_
        while rest is not None:
            page = await self._foreign.survey(phext, rest, rows_max=PAGE_ITEMS)
            count += len([*page.scrolls])
            missing.note(self._foreign.unreachable(phext, page.unanswered))
            rest = page.rest
        missing.check()
        return count

    async def _page(
        self,
        operation: Operation[Page[T]],
        phext: str,
        range_: CoordinateRange | None,
        row: Callable[[Row], T],
    ) -> Value:
        if range_ is None:
            return operation.answer.encode(Page([], None))
        page = await self._foreign.survey(phext, range_, rows_max=PAGE_ITEMS)
        rows, missing = [*page.scrolls], self._foreign.unreachable(phext, page.unanswered)
        after = None if page.rest is None else str(rows[-1].coordinate)
        return operation.answer.encode(Page([*map(row, rows)], after, missing))

    async def _texts(self, phext: str, range_: CoordinateRange | None) -> Value:
        texts: list[tuple[Coordinate, str]] = []
        missing: list[str] = []
        while range_ is not None and not texts:
            page = await self._foreign.survey(
                phext, range_, with_texts=True, rows_max=PAGE_ITEMS, bytes_max=PAGE_BYTES
            )
            missing += self._foreign.unreachable(phext, page.unanswered)
            for row in page.scrolls:
                try:
                    text = row.text or await self._foreign.read(phext, row.coordinate)
                except NotHeldError as error:  # of one that is too large to come along
                    missing.append(str(error))
                else:
                    texts += [(row.coordinate, text)] if text else []
            range_ = page.rest
        after = str(texts[-1][0]) if range_ is not None else None
        return operations.READ.answer.encode(Page(texts, after, tuple(missing)))


def _place(row: Row) -> Coordinate:
    return row.coordinate


def _listed(row: Row) -> ListedScroll:
    return ListedScroll(row.coordinate, row.size, row.line)
