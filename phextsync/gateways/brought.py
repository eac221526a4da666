"""Brought: what a request of SQ is about is here before it is carried out, whoever holds it."""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from phextsync.control import operations
from phextsync.control.answers import Missing
from phextsync.control.bringing import bring
from phextsync.control.desk import Desk
from phextsync.control.frames import Value
from phextsync.gateways.exchange import Request
from phextsync.gateways.sq import Whole, about
from phextsync.index import Coordinate, CoordinateRange


class Gathered:
    """All scrolls of a phext as they were, in order."""

    def __init__(self, texts: dict[Coordinate, str]) -> None:
        self._texts = texts
        self._places = [*texts]

    def coordinates(self, range_: CoordinateRange, /) -> Iterator[Coordinate]:
        first = bisect_left(self._places, range_.lower)
        for i in range(first, len(self._places)):
            if self._places[i] not in range_:
                return
            yield self._places[i]

    def read(self, coordinate: Coordinate, /) -> str:
        return self._texts[coordinate]

    def read_size(self, coordinate: Coordinate, /) -> int:
        return len(self._texts[coordinate].encode())

    def check_held(self, _key: Coordinate, /) -> None:
        """All are here."""


async def brought(desk: Desk, request: Request, grown: Callable[[int], None]) -> Whole | None:
    """Have the scroll here that a request is about; for one about a whole phext of which not all is
    held, return it. `grown` is told by how many characters what is gathered grows. NotHeldError
    for what nobody could be asked."""
    found = about(request)
    if found is None:
        return None
    phext, scroll = found
    if scroll is not None:
        if (error := await bring(desk, [scroll])) is not None:
            raise error
        return None
    asked: list[Value] = [operations.READ.name, phext, "*", ""]
    if not desk.must_wait(asked):
        return None
    texts: dict[Coordinate, str] = {}
    missing = Missing()
    after: str | None = ""
    while after is not None:
        page = operations.READ.answer.decode(await desk.wait([*asked[:3], after]))
        grown(sum(len(text) for _, text in page.rows))
        texts.update(page.rows)
        missing.note(page.missing)
        after = page.after
    missing.check()
    return Gathered(texts)
