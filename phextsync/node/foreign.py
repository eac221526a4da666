"""Foreign: what others hold, for the users of a node."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias, TypeVar

import trio

from phextsync.at_once import at_once
from phextsync.errors import NotHeldError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange
from phextsync.node.following import Following
from phextsync.node.links import Links
from phextsync.node.pieces import cut
from phextsync.node.survey_pages import Filling, Look, SurveyPage
from phextsync.phext_names import checked_name
from phextsync.ranges import Ranges, intersection, subtract, union
from phextsync.replica.changes import COORDINATES_MAX, TEXTS_MAX, Change, ChangeFeed
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.hosting import row_of, rows_of
from phextsync.sync.messages import DIGEST_BYTES, Surveyed, SurveyedScroll
from phextsync.sync.questions import HEDGE_S
from phextsync.sync.synchronizer import Synchronizer

_PAGE_SCROLLS: Final = 256
_AT_ONCE: Final = 16  # holders that are asked, and scrolls that are fetched, for one page
_EMPTY_MAX: Final = 16  # answers in a row that tell of nothing, and of more to come
_HELD_BYTES: Final = 64 << 10
_TEXT_BYTES_MAX: Final = 64 << 20
_ROUNDS_MAX: Final = 4  # of asking others where nobody answers

T = TypeVar("T")

_Ask: TypeAlias = Callable[[float, Callable[[T | None], None]], None]


class Foreign:
    """Asks holders for what is not held here.

    `link_with` is awaited where no linked peer holds what is wanted, or all that do are silent:
    with the node ids of members that hold it by what was placed, those first that are preferred. It
    returns whether one of them is linked that was not.
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

        def ask(now: float, done: Callable[[bool | None], None]) -> None:
            self._core.fetching.fetch(now, phext, at, lambda is_so: done(is_so or None))

        is_here = await self._told(phext, at, ask)
        if not is_here and (phext, at) not in self._guests:
            names = ", ".join(member.name for member in self._following.holders(phext, at))
            names = names or "it is not known who holds it"
            raise NotHeldError(f"no holder of {phext} {at} is reachable: {names}")

    async def read(self, phext: str, at: Coordinate) -> str:
        """Return the text of a scroll, "" when there is none, as it is after `fetch`."""
        await self.fetch(phext, at)
        return self._replicas.phext(phext).get(at, "")

    async def fetch_to_write(self, phext: str, at: Coordinate) -> None:
        """Have a scroll here to be written to. Where no holder can be reached it is empty here, and
        merged with what the holders have later."""
        try:
            await self.fetch(phext, at)
        except NotHeldError:
            self._replicas.check_room(phext)
            self._holding.admit(phext, at)

    async def _told(self, phext: str, at: Coordinate, ask: _Ask[T]) -> T | None:
        """Return what holders tell: those that are linked or, where none of them answers, others.
        None where nobody does."""
        for _ in range(1 + _ROUNDS_MAX):
            asked = self._linked()
            answer = await self._told_by_linked(phext, at, ask)
            if answer is not None:
                return answer
            is_more = await self._link_with_holders(phext, at)
            if not is_more and self._linked() <= asked:  # one may have come by itself
                break
        return None

    async def _told_by_linked(self, phext: str, at: Coordinate, ask: _Ask[T]) -> T | None:
        """Return what holders tell that are linked, or come to be while those are silent."""
        told: list[T | None] = []
        has_answer = trio.Event()

        def done(answer: T | None) -> None:
            told.append(answer)
            has_answer.set()

        self._links.promptly(partial(ask, trio.current_time(), done))
        with trio.move_on_after(HEDGE_S):
            await has_answer.wait()
        if not told:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._link_with_more, phext, at)
                await has_answer.wait()
                nursery.cancel_scope.cancel()
        return told[0]

    def _linked(self) -> set[int]:
        """Return the links of the peers that can be asked: one that is lost and linked again has
        not been asked over its new link."""
        return {number for number, _, _ in self._core.peers()}

    async def _link_with_more(self, phext: str, at: Coordinate) -> None:
        """Link with one holder after another; each is asked when it is there."""
        is_more = True
        while is_more:
            is_more = await self._link_with_holders(phext, at)
            await trio.sleep(HEDGE_S)

    async def _link_with_holders(self, phext: str, at: Coordinate) -> bool:
        holders = self._following.holders(phext, at)
        return await self.link_with([member.node_id for member in holders])

    def feed(
        self,
        phext: str,
        range_: CoordinateRange,
        *,
        texts: bool = False,
        coordinates_max: int = COORDINATES_MAX,
    ) -> ChangeFeed:
        """Return the changes in a range, as `Replica.feed` does, whoever holds it.
        Where nobody told of a part for a while, it says that changes were missed."""
        replica, watching = self._replicas.phext(phext), self._core.elsewhere.watching

        def subscribe(push: Callable[[Change], None]) -> Callable[[], None]:
            unsubscribe = replica.subscribe(push, range_, texts=texts)
            unwatch = self._links.promptly(partial(watching.watch, phext, range_, push))

            def end() -> None:
                unsubscribe()
                self._links.promptly(unwatch)

            return end

        return ChangeFeed(
            phext,
            range_,
            subscribe,
            read=replica.read if texts else None,
            coordinates_max=coordinates_max,
            texts_max=TEXTS_MAX,
        )

    # -- ranges ----------------------------------------------------------------------------

    async def survey(
        self,
        phext: str,
        range_: CoordinateRange,
        *,
        with_texts: bool = False,
        rows_max: int = _PAGE_SCROLLS,
        bytes_max: int | None = None,
    ) -> SurveyPage:
        """Return a page of what there is in a range, whoever holds it: holders are asked at once,
        each for the first of what it holds. It has so many rows at most, and is full when its texts
        have about so many bytes."""
        checked_name(phext)
        page = Filling(range_, rows_max, bytes_max)
        pieces = deque(self.pieces(phext, range_))
        while pieces:
            some = [pieces.popleft() for _ in range(min(len(pieces), _AT_ONCE))]
            looks = [partial(self._look, phext, piece, with_texts) for piece in some]
            for piece, told in zip(some, await at_once(looks, _AT_ONCE), strict=True):
                page.add(told)
                empty = 0
                while told.after is not None and not page.is_full:
                    rest = CoordinateRange(told.after, piece.upper)
                    empty = 0 if told.rows else empty + 1
                    if empty < _EMPTY_MAX:
                        told = await self._look(phext, rest, with_texts)
                    else:
                        rows = self._with_guests(phext, rest, {}, with_texts)
                        told = Look(rows, None, (rest,))
                    page.add(told)
                if page.is_full:
                    return page.end(piece.upper if told.after is None else told.after)
        return page.end(None)

    def pieces(self, phext: str, range_: CoordinateRange) -> list[CoordinateRange]:
        """Return a range in parts, each held here, or wholly by each holder that has some of it."""
        held = intersection((range_,), self._holding.of(phext))
        told = self._core.lacks.told(phext)
        foreign: list[CoordinateRange] = []
        for gap in subtract(range_, held):
            foreign += cut(gap, told, self._following.pieces(phext, gap))
        return sorted((*held, *foreign), key=lambda piece: piece.lower)

    def unreachable(self, phext: str, ranges: Iterable[CoordinateRange]) -> tuple[str, ...]:
        """Say of ranges of which nobody could be asked who holds them."""
        by_names: dict[str, list[CoordinateRange]] = {}
        for range_ in ranges:
            holders = self._following.holders(phext, range_.lower)
            names = ", ".join(member.name for member in holders)
            by_names.setdefault(names or "it is not known who holds it", []).append(range_)
        return tuple(
            f"no holder of {phext} {', '.join(map(str, union(some)))} is reachable: {names}"
            for names, some in by_names.items()
        )

    async def _look(self, phext: str, piece: CoordinateRange, with_texts: bool) -> Look:
        """Return the first scrolls of a piece."""
        if self._holding.holds(phext, piece):
            replica = self._replicas.phext(phext)
            goal = _HELD_BYTES if with_texts else None
            rows, after = rows_of(
                replica, piece, _PAGE_SCROLLS, bytes_goal=goal, text_bytes_max=_TEXT_BYTES_MAX
            )
            return Look(rows, after)
        surveyed = await self._survey(phext, piece, with_texts)
        if surveyed is None:
            return Look(self._with_guests(phext, piece, {}, with_texts), None, (piece,))
        here = piece if surveyed.rest is None else CoordinateRange(piece.lower, surveyed.rest)
        rows_by_place = {row.coordinate: row for row in surveyed.scrolls}
        missing = await self._make_current(phext, here, rows_by_place)
        rows = self._with_guests(phext, here, rows_by_place, with_texts)
        return Look(rows, surveyed.rest, missing)

    async def work_out(
        self, phext: str, range_: CoordinateRange, words: bytes, read: Callable[[bytes], T]
    ) -> T | None:
        """Return what a holder of all of a range works out of it, None where nobody could be asked.
        `read` makes it of the answer, ProtocolError for what is none: then another one is asked."""
        ask = self._core.elsewhere.working_out.ask
        return await self._told(
            phext, range_.lower, lambda now, done: ask(now, phext, range_, words, read, done)
        )

    async def _survey(
        self, phext: str, piece: CoordinateRange, with_texts: bool
    ) -> Surveyed | None:
        survey = self._core.elsewhere.surveying.survey
        return await self._told(
            phext,
            piece.lower,
            lambda now, done: survey(now, phext, piece, done, with_texts=with_texts),
        )

    async def _make_current(
        self, phext: str, range_: CoordinateRange, rows: Mapping[Coordinate, SurveyedScroll]
    ) -> Ranges:
        """Fetch what a holder may have less of than was shown here, and what is here and no longer
        as it is there; return of what that failed."""
        replica, guests = self._replicas.phext(phext), self._guests
        stale: dict[Coordinate, None] = {}
        for place in guests.within(phext, range_):
            row = rows.get(place)
            digest = b"" if row is None else row.digest
            is_same = replica.fingerprint(place)[:DIGEST_BYTES] == digest
            if not is_same and not guests.is_fresh((phext, place)):
                stale[place] = None
        for place, row in rows.items():
            # Where no texts were asked for it is not told which version a holder has.
            is_looked_at = not row.version and (phext, place) in guests
            version = row.version or EMPTY_VERSION
            if not is_looked_at and not guests.is_enough((phext, place), version):
                stale[place] = None
        missing: list[CoordinateRange] = []

        async def fetch(place: Coordinate) -> None:
            try:
                await self.fetch(phext, place)
            except NotHeldError:
                missing.append(CoordinateRange.of(place))

        await at_once([partial(fetch, place) for place in stale], _AT_ONCE)
        return union(missing)

    def _with_guests(
        self,
        phext: str,
        range_: CoordinateRange,
        rows: dict[Coordinate, SurveyedScroll],
        with_texts: bool,
    ) -> list[SurveyedScroll]:
        """Return rows in order, with what is here of them and at least as new."""
        text_bytes_max = _TEXT_BYTES_MAX if with_texts else None
        for place in self._guests.within(phext, range_):
            row = row_of(self._replicas.phext(phext), place, text_bytes_max)
            if row is not None:
                rows[place] = row
            elif self._guests.is_fresh((phext, place)):
                rows.pop(place, None)
        return [rows[place] for place in sorted(rows)]
