"""Foreign: what others hold, for the users of a node."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, TypeVar

import trio

from phextsync.errors import NotHeldError
from phextsync.index import Coordinate, CoordinateRange, contains
from phextsync.node.following import Following
from phextsync.node.links import Links
from phextsync.ranges import Ranges, subtract
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.hosting import row_of
from phextsync.sync.messages import Surveyed, SurveyedScroll
from phextsync.sync.synchronizer import Synchronizer

_PAGE_SCROLLS: Final = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SurveyPage:
    """Scrolls with text of a range, in order: as many as fit in a page, and in `rest` the part of
    the range that was not looked at (None: all was). Of `unanswered` parts nobody could be asked:
    of them there is what is here."""

    scrolls: tuple[SurveyedScroll, ...]
    rest: CoordinateRange | None
    unanswered: Ranges


class Foreign:
    """Asks holders for what is not held here.

    `link_with` is awaited where no linked peer holds what is wanted: with the node ids of members
    that do by what was placed, those first that are preferred. It returns whether a link with one
    of them is up by then.
    """

    def __init__(
        self,
        replicas: ReplicaSet,
        core: Synchronizer,
        links: Links,
        following: Following,
        link_with: Callable[[Sequence[bytes]], Awaitable[bool]],
    ) -> None:
        self.link_with = link_with
        self._replicas = replicas
        self._holding = replicas.holding
        self._guests = replicas.guests
        self._core = core
        self._links = links
        self._following = following

    def is_away(self, phext: str, at: Coordinate) -> bool:
        """Whether a scroll has to be fetched before it is read: it is not held, and no guest of
        whose changes a holder tells."""
        return not self._holding.is_current(phext, at)

    async def fetch(self, phext: str, at: Coordinate) -> None:
        """Have a scroll here: held, or as a guest that is as current as its holder. Where no holder
        can be reached, a guest stays what it was. NotHeldError where there is none."""
        if not self.is_away(phext, at):
            return
        is_here = await self._ask(phext, at)
        if not is_here and await self._link_with_holders(phext, at):
            is_here = await self._ask(phext, at)
        if not is_here and (phext, at) not in self._guests:
            names = ", ".join(member.name for member in self._following.holders(phext, at))
            names = names or "it is not known who holds it"
            raise NotHeldError(f"no holder of {phext} {at} is reachable: {names}")

    async def fetch_to_write(self, phext: str, at: Coordinate) -> None:
        """Have a scroll here to be written to. Where no holder can be reached it is empty here, and
        merged with what the holders have later."""
        try:
            await self.fetch(phext, at)
        except NotHeldError:
            self._replicas.check_room(phext)
            self._guests.admit((phext, at))

    async def _ask(self, phext: str, at: Coordinate) -> bool:
        fetching = self._core.fetching
        return await self._told(lambda now, done: fetching.fetch(now, phext, at, done))

    async def _told(self, ask: Callable[[float, Callable[[T], None]], None]) -> T:
        """Return what the core tells `done` that is asked for something."""
        told: list[T] = []
        has_answer = trio.Event()

        def done(answer: T) -> None:
            told.append(answer)
            has_answer.set()

        self._links.promptly(partial(ask, trio.current_time(), done))
        await has_answer.wait()
        return told[0]

    async def _link_with_holders(self, phext: str, at: Coordinate) -> bool:
        holders = self._following.holders(phext, at)
        return await self.link_with([member.node_id for member in holders])

    # -- ranges ----------------------------------------------------------------------------

    async def survey(self, phext: str, range_: CoordinateRange) -> SurveyPage:
        """Return a page of what there is in a range, whoever holds it."""
        rows: list[SurveyedScroll] = []
        unanswered: list[CoordinateRange] = []
        rest: CoordinateRange | None = range_
        while rest is not None and len(rows) < _PAGE_SCROLLS:
            held = _first_of(rest, self._holding.of(phext))
            if held is not None:
                found, after = self._held(phext, held)
                end = held.upper
            else:
                piece = await self._piece(phext, rest)
                found, after, is_answered = await self._survey_piece(phext, piece)
                end = piece.upper
                if not is_answered:
                    unanswered.append(piece)
            rows += found
            rest = _rest(rest, end if after is None else after)
        return SurveyPage(tuple(rows), rest, tuple(unanswered))

    def _held(
        self, phext: str, range_: CoordinateRange
    ) -> tuple[list[SurveyedScroll], Coordinate | None]:
        replica = self._replicas.phext(phext)
        places = list(islice(replica.coordinates(range_), _PAGE_SCROLLS + 1))
        rows = [row_of(replica, place) for place in places[:_PAGE_SCROLLS]]
        after = places[_PAGE_SCROLLS] if len(places) > _PAGE_SCROLLS else None
        return [row for row in rows if row is not None], after

    async def _piece(self, phext: str, rest: CoordinateRange) -> CoordinateRange:
        """Return the beginning of a range that is not held here, as far as one linked peer holds
        it; where none does, as far as none does."""
        gap = subtract(rest, self._holding.of(phext))[0]
        told = self._core.lacks.told(phext)
        if not contains(told, gap.lower) and await self._link_with_holders(phext, gap.lower):
            told = self._core.lacks.told(phext)
        pieces = [part for part in (_first_of(gap, (range_,)) for range_ in told) if part]
        if pieces:
            return max(pieces, key=lambda piece: (piece.upper is None, piece.upper or piece.lower))
        return subtract(gap, told)[0]

    async def _survey_piece(
        self, phext: str, piece: CoordinateRange
    ) -> tuple[list[SurveyedScroll], Coordinate | None, bool]:
        """Return the first scrolls of a piece, where the next begin, and whether anybody said so.
        What is here is at least as new."""
        surveying = self._core.surveying
        surveyed: Surveyed | None = await self._told(
            lambda now, done: surveying.survey(now, phext, piece, done)
        )
        rows = {} if surveyed is None else {row.coordinate: row for row in surveyed.scrolls}
        after = None if surveyed is None else surveyed.rest
        here = piece if after is None else CoordinateRange(piece.lower, after)
        for place in self._guests.within(phext, here):
            row = row_of(self._replicas.phext(phext), place)
            if row is not None:
                rows[place] = row
            elif self._guests.is_fresh((phext, place)):
                rows.pop(place, None)
        return [rows[place] for place in sorted(rows)], after, surveyed is not None


def _first_of(range_: CoordinateRange, ranges: Ranges) -> CoordinateRange | None:
    """Return the part of a range that begins with it and lies in one of `ranges`."""
    parts = (range_.intersect(other) for other in ranges)
    return next((part for part in parts if part is not None and part.lower == range_.lower), None)


def _rest(range_: CoordinateRange, lower: Coordinate | None) -> CoordinateRange | None:
    """Return what is left of a range from `lower` on, None when that is nothing."""
    return None if lower is None else range_.intersect(CoordinateRange(lower, None))
