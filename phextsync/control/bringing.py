"""Bringing: requests wait until the scrolls that they are about are here, where others hold them.

The changes of one process keep their order; what only reads waits for nothing but its own scroll.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

import trio

from phextsync.boundaries import one_line
from phextsync.control.desk import Desk
from phextsync.control.frames import Value
from phextsync.control.kinds import AT, PHEXT
from phextsync.control.operations import OPERATIONS, Serving, is_change
from phextsync.errors import CoordinateError, PhextsyncError
from phextsync.index import Coordinate
from phextsync.replica.changes import writing_as

_AT_ONCE: Final = 16  # scrolls of one request
_WAITING_MAX: Final = 1000  # requests of one process

_NEED_NO_BASE: Final = ("append", "append_line", "set")


class Needed(NamedTuple):
    """A scroll that a request is about. `is_blind`: it can be written to before it is here."""

    phext: str
    at: Coordinate
    is_blind: bool


def needed(request: list[Value]) -> Iterator[Needed]:
    """Iterate over the scrolls that a request reads or changes; none for one about a range, the
    past or the node."""
    match request[2:] if request[:1] == ["as"] else request:
        case ["batch", str(phext), list(changes), *_]:
            for change in changes:
                match change:
                    case [str(name), *arguments] if name != "batch":
                        yield from needed([name, phext, *arguments])
        case ["import", str(phext), bool(keep), list(rows)]:
            for row in rows:
                match row:
                    case [str(at), *_]:
                        yield from _scroll(phext, at, is_blind=not keep)
        case [str(name), str(phext), str(at), *rest]:
            operation = OPERATIONS.get(name)
            is_about_one = operation is not None and operation.arguments[:2] == (PHEXT, AT)
            if operation is not None and is_about_one and operation.serving is Serving.AT_ONCE:
                has_seen = any(isinstance(value, bytes) and value for value in rest)
                is_blind = operation.name in _NEED_NO_BASE and not has_seen
                yield from _scroll(phext, at, is_blind=is_blind)


def _scroll(phext: str, at: str, *, is_blind: bool) -> Iterator[Needed]:
    with suppress(CoordinateError):  # whoever carries it out says what is wrong
        yield Needed(phext, Coordinate.parse(at), is_blind)


class Bringing:
    """The requests of one process that wait."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._changes: deque[tuple[list[Value], Callable[[PhextsyncError | None], None]]] = deque()
        self._reads = 0

    @property
    def is_waited_for(self) -> bool:
        """Whether a request waits."""
        return bool(self._changes or self._reads)

    def must_wait(self, request: list[Value]) -> bool:
        """Whether a request has to wait: for a scroll, or for a change before it that does."""
        if self._changes and is_change(request):
            return True
        return bool(_away(self._desk, needed(request)))

    def wait(
        self,
        nursery: trio.Nursery,
        request: list[Value],
        then: Callable[[PhextsyncError | None], None],
    ) -> None:
        """Call `then` when the request can be carried out, or with what is in the way of that."""
        if len(self._changes) + self._reads >= _WAITING_MAX:
            text = f"expected at most {_WAITING_MAX} requests of a process to wait at a time"
            then(PhextsyncError(text))
        elif is_change(request):
            self._changes.append((request, then))
            if len(self._changes) == 1:
                nursery.start_soon(self._bring_for_changes)
        else:
            self._reads += 1
            nursery.start_soon(self._bring_for_read, request, then)

    async def _bring_for_changes(self) -> None:
        while self._changes:
            request, then = self._changes[0]
            error = await bring(self._desk, needed(request))
            self._changes.popleft()
            then(error)

    async def _bring_for_read(
        self, request: list[Value], then: Callable[[PhextsyncError | None], None]
    ) -> None:
        error = await bring(self._desk, needed(request))
        self._reads -= 1
        then(error)


async def served(desk: Desk, request: list[Value], writer: str) -> Value:
    """Answer one request, by a writer of that label, wherever the scrolls are that it is about."""
    if desk.must_wait(request):
        return await desk.wait(request)
    if (error := await bring(desk, needed(request))) is not None:
        raise error
    with writing_as(writer):
        return desk.ask(request)


async def bring(desk: Desk, scrolls: Iterable[Needed]) -> PhextsyncError | None:
    """Have scrolls here; return what is in the way of that."""
    errors: list[PhextsyncError] = []
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def fetch(scroll: Needed) -> None:
        foreign = desk.foreign
        call = foreign.fetch_to_write if scroll.is_blind else foreign.fetch
        async with limiter:
            with desk.boundary.around(f"fetching {scroll.phext} {scroll.at}") as outcome:
                try:
                    await call(scroll.phext, scroll.at)
                except PhextsyncError as error:
                    errors.append(error)
            if outcome.error is not None:
                text = f"the node could not fetch it: {one_line(outcome.error)}"
                errors.append(PhextsyncError(text))

    if away := _away(desk, scrolls):
        async with trio.open_nursery() as nursery:
            for scroll in away:
                nursery.start_soon(fetch, scroll)
    return errors[0] if errors else None


def _away(desk: Desk, scrolls: Iterable[Needed]) -> list[Needed]:
    """Return which scrolls have to be brought."""
    if desk.replicas.holding.is_everything:
        return []
    away = (each for each in scrolls if desk.foreign.is_away(each.phext, each.at))
    return [*dict.fromkeys(away)]
