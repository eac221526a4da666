"""Gathering: what is asked about a range of which others hold a part is asked of them too.

Here is decided, for whoever asks, whether a request is answered here, elsewhere, or by both. An
answer is whole, or says which part of it is missing.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn, Protocol, TypeVar

from phextsync.at_once import at_once
from phextsync.control import operations
from phextsync.control.answers import DeletedScrolls, Found, ListedScroll, Missing, NearScroll, Page
from phextsync.control.frames import Value, check_request, decode_answer, encode_request
from phextsync.control.operations import Operation, check_phext, operation_of, unsigned
from phextsync.control.performing import PAGE_BYTES, PAGE_ITEMS, rest_of, unfit
from phextsync.control.taking_back import TAKING_BACK, TakenBacks
from phextsync.errors import CoordinateError, NotHeldError, PhextsyncError, ProtocolError
from phextsync.index import Coordinate, CoordinateRange, cbor_items
from phextsync.ranges import Ranges
from phextsync.replica.holding import Holding
from phextsync.search import Hit

_OF_RANGES: Final = (
    operations.COUNT,
    operations.COORDINATES,
    operations.LIST,
    operations.READ,
    operations.UNDELETABLE,
    operations.TAKING_BACK,
    operations.SEARCH,
    operations.NEAR,
)
_OF_A_PAST: Final = (
    operations.LOG,
    operations.BLAME,
    operations.SHOW,
    operations.VERSIONS,
    operations.DELETED,
)
OF_A_PAST: Final = tuple(operation.name for operation in _OF_A_PAST)
"""These look at the past of one scroll, which those that hold it keep."""

_OF_PARTS: Final = (
    operations.UNDELETABLE,
    operations.TAKING_BACK,
    operations.SEARCH,
    operations.NEAR,
)
WORKED_OUT: Final = (*OF_A_PAST, *(operation.name for operation in _OF_PARTS))
"""These a holder works out for one who does not hold the range."""

_AT_ONCE: Final = 16  # holders that are asked at a time
_ITEMS_MAX: Final = 1 << 20  # of an answer; a log of 100,000 changes has 800,000

T = TypeVar("T")
P = TypeVar("P", DeletedScrolls, TakenBacks)


class Placed(Protocol):
    """What is told of a scroll."""

    @property
    def coordinate(self) -> Coordinate: ...


B = TypeVar("B", bound=Placed)


class Row(Placed, Protocol):
    """A scroll as its holder tells of it."""

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

    async def work_out(
        self, phext: str, range_: CoordinateRange, words: bytes, read: Callable[[bytes], T]
    ) -> T | None: ...

    def pieces(self, phext: str, range_: CoordinateRange) -> list[CoordinateRange]: ...

    def unreachable(self, phext: str, ranges: Iterable[CoordinateRange]) -> tuple[str, ...]: ...


class Gathering:
    """Answers requests about what is not all held here. `look` answers one that is about what is
    held."""

    def __init__(
        self,
        holding: Holding,
        foreign: Elsewhere,
        look: Callable[[list[Value]], Awaitable[Value]],
    ) -> None:
        self._holding = holding
        self._foreign = foreign
        self._look = look

    def is_wanted(self, request: list[Value]) -> bool:
        """Whether others have to be asked for an answer. Costs nothing where all is held."""
        if self._holding.is_everything:
            return False
        operation = operation_of(request)
        with suppress(CoordinateError):  # whoever carries it out says what is wrong
            match unsigned(request):
                case [_, str(phext), str(range_), *_] if operation in _OF_RANGES:
                    return not self._holding.holds(phext, CoordinateRange.parse(range_))
                case [_, str(phext), str(at), *_] if operation in _OF_A_PAST:
                    return not self._holding.is_held(phext, Coordinate.parse(at))
        return False

    async def answer(self, request: list[Value]) -> Value:
        """Answer a request. NotHeldError for what is nothing if a part of it is missing."""
        check_phext(request)
        operation, request = operation_of(request), unsigned(request)
        match request[1:]:
            case [str(phext), str(at), *_] if operation is not None and operation in _OF_A_PAST:
                return await self._past(operation, phext, Coordinate.parse(at), request)
            case [str(phext), str(range_)]:
                within = CoordinateRange.parse(range_)
                if operation is operations.COUNT:
                    return await self._count(phext, within)
                if operation is operations.UNDELETABLE:
                    nobody = self._nobody
                    return await self._first(operations.UNDELETABLE, phext, within, [], nobody)
            case [str(phext), str(range_), *by] if operation is operations.TAKING_BACK:
                within = CoordinateRange.parse(range_)
                return await self._first(TAKING_BACK, phext, within, by, self._not_taken_back)
            case [str(phext), str(range_), *by] if operation is operations.SEARCH:
                within = CoordinateRange.parse(range_)
                return await self._best(operations.SEARCH, phext, within, by, _rank_of_hit)
            case [str(phext), str(range_), str(at), *by] if operation is operations.NEAR:
                within = CoordinateRange.parse(range_)
                by = [str(Coordinate.parse(at)), *by]
                return await self._best(operations.NEAR, phext, within, by, _rank_of_near)
            case [str(phext), str(range_), str(after)]:
                rest = rest_of(range_, after)
                if operation is operations.COORDINATES:
                    return await self._page(operations.COORDINATES, phext, rest, _place)
                if operation is operations.LIST:
                    return await self._page(operations.LIST, phext, rest, _listed)
                return await self._texts(phext, rest)
        raise unfit(request[0], request[1:])

    # -- what holders work out -------------------------------------------------------------

    async def _ask(
        self,
        operation: Operation[T],
        phext: str,
        range_: CoordinateRange,
        arguments: list[Value],
        check: Callable[[T], bool] = lambda _: True,
    ) -> T | None:
        """Return the answer to an operation about a range that one holder has, None where nobody
        could be asked. The error that it has there is raised here."""

        def decoded(answer: bytes) -> T | Exception:
            if cbor_items(answer) > _ITEMS_MAX:
                raise ProtocolError(f"expected an answer of at most {_ITEMS_MAX} items, found more")
            _, value = decode_answer(answer)
            if isinstance(value, Exception):
                return value
            told = operation.answer.decode(value)
            if not check(told):
                raise ProtocolError(f"expected of {operation.name} what was asked, found else")
            return told

        def read(answer: bytes) -> T | Exception:
            try:
                return decoded(answer)
            except CoordinateError as error:
                raise ProtocolError(str(error)) from error

        request = [operation.name, *arguments]
        check_request(request)
        words = encode_request(0, 0, request)
        told = await self._foreign.work_out(phext, range_, words, read)
        if isinstance(told, Exception):
            raise told
        return told

    async def _past(
        self, operation: Operation[object], phext: str, at: Coordinate, request: list[Value]
    ) -> Value:
        told = await self._ask(operation, phext, CoordinateRange.of(at), request[3:])
        if told is None:
            self._nobody(phext, CoordinateRange.of(at))
        return operation.answer.encode(told)

    async def _first(
        self,
        operation: Operation[P],
        phext: str,
        range_: CoordinateRange,
        arguments: list[Value],
        unasked: Callable[[str, CoordinateRange], P],
    ) -> Value:
        """Answer for the first part of a range, and say where to look for more. `unasked` answers
        for a part of which nobody could be asked."""
        piece, *_ = self._foreign.pieces(phext, range_)
        if self._holding.holds(phext, piece):
            request: list[Value] = [operation.name, phext, str(piece), *arguments]
            told = operation.answer.decode(await self._look(request))
        else:
            is_fit = partial(_is_within, piece)
            found = await self._ask(operation, phext, piece, arguments, is_fit)
            told = unasked(phext, piece) if found is None else found
        lower = piece.upper if told.rest is None else CoordinateRange.parse(told.rest).lower
        rest = None if lower is None else range_.intersect(CoordinateRange(lower, None))
        return operation.answer.encode(replace(told, rest=None if rest is None else str(rest)))

    def _not_taken_back(self, phext: str, range_: CoordinateRange) -> TakenBacks:
        return TakenBacks([], None, self._foreign.unreachable(phext, (range_,)))

    async def _best(
        self,
        operation: Operation[Found[B]],
        phext: str,
        range_: CoordinateRange,
        arguments: list[Value],
        rank: Callable[[B], tuple[float, Coordinate]],
    ) -> Value:
        """Ask each holder for its best, and return the best of all, as many. An error of all that
        could be asked is raised."""
        check_request([operation.name, phext, str(range_), *arguments])
        limits = [each for each in arguments if type(each) is int]
        if len(limits) != 1:
            raise unfit(operation.name, arguments)
        pieces = self._foreign.pieces(phext, range_)
        best: list[B] = []
        unanswered: list[CoordinateRange] = []
        failed: dict[CoordinateRange, PhextsyncError] = {}

        async def find(piece: CoordinateRange) -> None:
            try:
                best.extend(await found_in(piece))
            except PhextsyncError as error:
                failed[piece] = error

        async def found_in(piece: CoordinateRange) -> list[B]:
            if self._holding.holds(phext, piece):
                request: list[Value] = [operation.name, phext, str(piece), *arguments]
                return operation.answer.decode(await self._look(request)).hits
            is_fit = partial(_are_hits_in, piece, limits[0])
            told = await self._ask(operation, phext, piece, arguments, is_fit)
            unanswered.extend(() if told is not None else (piece,))
            return [] if told is None else told.hits

        await at_once([partial(find, piece) for piece in pieces], _AT_ONCE)
        best.sort(key=rank)
        if failed and len(failed) + len(unanswered) == len(pieces):
            raise failed[min(failed, key=lambda piece: piece.lower)]
        errors = [f"{phext} {p} cannot be searched: {error}" for p, error in failed.items()]
        missing = (*self._foreign.unreachable(phext, unanswered), *errors)
        return operation.answer.encode(Found(best[: limits[0]], missing))

    def _nobody(self, phext: str, range_: CoordinateRange) -> NoReturn:
        raise NotHeldError("; ".join(self._foreign.unreachable(phext, (range_,))))

    # -- what there is in a range ----------------------------------------------------------

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


def _is_within(range_: CoordinateRange, told: DeletedScrolls | TakenBacks) -> bool:
    places = [row.coordinate for row in told.found]
    if told.rest is not None:
        lower = CoordinateRange.parse(told.rest).lower
        if lower == range_.lower:
            return False
        places.append(lower)
    return all(place in range_ for place in places)


def _rank_of_hit(hit: Hit) -> tuple[float, Coordinate]:
    return -hit.score, hit.coordinate


def _rank_of_near(row: NearScroll) -> tuple[float, Coordinate]:
    return row.distance, row.coordinate


def _are_hits_in(range_: CoordinateRange, limit: int, told: Found[B]) -> bool:
    return len(told.hits) <= limit and all(hit.coordinate in range_ for hit in told.hits)
