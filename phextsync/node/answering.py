"""Answering: what peers ask to be worked out of what this node holds and they do not.

Each is an operation of the table that only looks. One of a peer is worked out at a time, and a few
of all, so that the users of this node are hardly held up. One that takes long makes way for others:
a few more may be under way, for as long as they take.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from phextsync.boundaries import Boundary, one_line
from phextsync.control.frames import Value, decode_request, encode_answer, encode_error
from phextsync.control.gathering import OF_A_PAST, WORKED_OUT
from phextsync.errors import PhextsyncError, ProtocolError
from phextsync.node.links import Links
from phextsync.signals import Flag
from phextsync.sync.messages import Ask
from phextsync.sync.synchronizer import Synchronizer

_AT_ONCE: Final = 2  # of those that are not known to take long
_LONG_S: Final = 0.1
_LONG_MAX: Final = 14


class Answering:
    """Works out what peers ask, with `wait`, which answers a request as a user's."""

    def __init__(
        self,
        core: Synchronizer,
        links: Links,
        boundary: Boundary,
        wait: Callable[[list[Value]], Awaitable[Value]],
    ) -> None:
        self._core = core
        self._links = links
        self._boundary = boundary
        self._wait = wait
        self._asked: dict[int, deque[Ask]] = {}  # by link; one that is worked on is the first
        self._begun: dict[int, None] = {}
        self._has_work = Flag()
        self._short = trio.CapacityLimiter(_AT_ONCE)
        self._long = trio.CapacityLimiter(_LONG_MAX)

    def ask(self, link: int, asked: Ask) -> bool:
        """A peer asks; see `Listener.on_asked`."""
        self._asked.setdefault(link, deque()).append(asked)
        self._has_work.set()
        return True

    async def run(self) -> None:
        """Answer until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._has_work.take()
                for link in [link for link in self._asked if link not in self._begun]:
                    self._begun[link] = None
                    nursery.start_soon(self._answer_all, link)

    async def _answer_all(self, link: int) -> None:
        while self._asked[link]:
            async with self._turn():
                with self._boundary.around("answering a peer"):
                    await self._answer_one(link, self._asked[link][0])
                self._asked[link].popleft()
        del self._asked[link], self._begun[link]

    async def _answer_one(self, link: int, asked: Ask) -> None:
        if link in self._core.links:
            answer = await self._answer(asked)
            self._links.promptly(
                partial(self._core.elsewhere.tell, trio.current_time(), link, asked, answer)
            )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until one more may be worked out."""
        turn = object()
        await self._short.acquire_on_behalf_of(turn)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._make_way, turn)
                yield
                nursery.cancel_scope.cancel()
        finally:
            for limiter in (self._short, self._long):
                if turn in limiter.statistics().borrowers:
                    limiter.release_on_behalf_of(turn)

    async def _make_way(self, turn: object) -> None:
        await trio.sleep(_LONG_S)
        await self._long.acquire_on_behalf_of(turn)
        self._short.release_on_behalf_of(turn)

    async def _answer(self, asked: Ask) -> bytes:
        answer, bytes_max = b"", self._core.limits.told_bytes_max
        with self._boundary.around("what a peer asks") as outcome:
            try:
                answer = encode_answer(0, await self._wait(_request(asked)))
            except (PhextsyncError, IndexError, KeyError) as error:
                return encode_error(0, error)
        if outcome.error is not None:
            return encode_error(0, PhextsyncError(one_line(outcome.error)))
        if len(answer) > bytes_max:
            found = f"expected an answer of at most {bytes_max} bytes, found {len(answer)}"
            return encode_error(0, PhextsyncError(f"{found}: ask for less"))
        return answer


def _request(asked: Ask) -> list[Value]:
    """Return what is asked for as a request. ProtocolError for what is not worked out for peers."""
    _, _, words = decode_request(asked.words)
    match words:
        case [str(name), *arguments] if name in WORKED_OUT:
            where = asked.range.lower if name in OF_A_PAST else asked.range
            return [name, asked.phext, str(where), *arguments]
        case _:
            raise ProtocolError(f"expected what is worked out for others, found {words!r:.60}")
