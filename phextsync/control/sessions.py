"""Sessions: what lasts as long as a process is there, and goes with it."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

import trio

from phextsync.change_streams import ChangeStream
from phextsync.control import operations
from phextsync.control.answers import ToldChange, ToldScroll, as_facts
from phextsync.control.desk import Desk
from phextsync.control.frames import Value
from phextsync.control.operations import check_phext
from phextsync.errors import PhextsyncError, ProtocolError
from phextsync.index import CoordinateRange
from phextsync.replica.changes import writing_as

_LASTING_MAX: Final = 1000  # of one process: each may keep a document open
_FACTS: Final = 0  # the number under which a session has its facts; requests begin at 1


class Session:
    """One process at a desk: the changes that it waits for, the steps that it may undo, the facts
    that it tells. They go with it."""

    def __init__(self, desk: Desk, client: bytes) -> None:
        self.desk = desk
        self.client = client
        self._streams: dict[int, ChangeStream] = {}
        self._ends: dict[int, Callable[[], None]] = {}

    @property
    def lasts(self) -> bool:
        """Whether there is something that would go with the process."""
        return bool(self._ends)

    def begin(self, number: int, request: list[Value]) -> None:
        """Begin what lasts until it is dropped."""
        check_phext(request)
        replicas = self.desk.replicas
        if len(self._ends) >= _LASTING_MAX:
            raise PhextsyncError(f"expected a process to have at most {_LASTING_MAX} such requests")
        match request[1:] if request[0] == "again" else request:
            case ["watch", str(phext), str(range_), bool(texts)]:
                within = CoordinateRange.parse(range_)
                feed = self.desk.foreign.feed(phext, within, texts=texts)
                if request[0] == "again":
                    feed.miss()
                stream = self._streams[number] = ChangeStream(feed)
                self._ends[number] = stream.close
            case ["track", str(phext), str(coordinate), str(label)]:
                with writing_as(label, self.client):
                    self._ends[number] = replicas.phext(phext).history(coordinate).close
            case ["tell", list(facts)]:
                self.desk.presence.publish(as_facts(facts), self.client)
                self._ends[_FACTS] = lambda: self.desk.presence.publish({}, self.client)
            case _:
                raise ProtocolError(f"expected something that lasts, found {request!r:.80}")

    def drop(self, number: int) -> None:
        """End what was begun under a number, if anything was."""
        self._streams.pop(number, None)
        self._ends.pop(number, _nothing)()

    async def wait(
        self,
        request: list[Value],
        has_room: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    ) -> Value:
        """Answer a request that needs waiting: those of `Desk.wait`, or the next change once the
        process `has_room` for it."""
        match request:
            case ["next", int(number)]:
                return operations.NEXT.answer.encode(await self._next(number, has_room))
            case ["as", str(), *unsigned]:  # it does not matter who waits
                return await self.desk.wait(unsigned)
            case _:
                return await self.desk.wait(request)

    async def _next(
        self, number: int, has_room: Callable[[], Awaitable[object]]
    ) -> ToldChange | None:
        if number not in self._streams:
            return None
        try:
            change = await self._streams[number].receive_when(has_room)
        except trio.ClosedResourceError:
            return None
        replica = self.desk.replicas.phext(change.phext)
        texts = change.texts or (None,) * len(change.coordinates)
        scrolls = tuple(
            ToldScroll(place, replica.read_size(place), text)
            for place, text in zip(change.coordinates, texts, strict=True)
        )
        return ToldChange(change.origin, change.label, change.missed, scrolls)

    def close(self) -> None:
        """The process is gone: end all that lasts, even if an end fails."""
        with ExitStack() as stack:
            for number in tuple(self._ends):
                stack.callback(self.drop, number)


def _nothing() -> None:
    """Nothing was begun."""
