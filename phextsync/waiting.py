"""Waiting: connections that only wait for their client end where there is no room for others."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import trio

from phextsync.sockets import FOR_CLIENTS, FOR_PEERS, are_left

_TOLD_MAX: Final = 16  # that were told that there is no room, and have to read it

Result = TypeVar("Result")


class Waiting:
    """The waits of the connections of one server, the longest first."""

    def __init__(self) -> None:
        self._ends: dict[object, Callable[[], bool]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def begin(self, who: object, end: Callable[[], bool]) -> None:
        """Somebody begins to wait, perhaps anew. `end` ends the wait, and says whether it may be
        ended now."""
        self._ends.pop(who, None)
        self._ends[who] = end

    def leave(self, who: object) -> None:
        """Somebody waits no longer."""
        self._ends.pop(who, None)

    async def during(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Wait for something; trio.TooSlowError when others need the room."""
        with trio.CancelScope() as scope:
            self.begin(scope, partial(_cancelled, scope))
            try:
                return await call()
            finally:
                self.leave(scope)
        raise trio.TooSlowError

    def make_room(self, waits_max: int, parts: int) -> bool:
        """Whether so many parts of the descriptors are free. Where they are not, or the waits are
        as many as may be, the one that has lasted for longest ends: an honest client is done within
        milliseconds, so the oldest of many is the likeliest to be stalled."""
        is_room = are_left(parts)
        if not (is_room and len(self) < waits_max):
            self.end_one()
        return is_room

    def end_one(self) -> bool:
        """End the wait that has lasted for longest; False where there is none that may end."""
        who = next((who for who, end in self._ends.items() if end()), None)
        self._ends.pop(who, None)
        return who is not None


def _cancelled(scope: trio.CancelScope) -> bool:
    scope.cancel()
    return True


class Room:
    """The room of one server: so many connections at a time, and as many as leave descriptors to
    others."""

    def __init__(self, connections_max: int) -> None:
        self.connections = 0
        self.waiting = Waiting()
        self._told = Waiting()
        self._connections_max = connections_max

    async def take(
        self,
        stream: trio.abc.AsyncResource,
        answer: Callable[[], Awaitable[object]],
        refuse: Callable[[], Awaitable[object]],
    ) -> None:
        """Answer the requests of a connection, or refuse it where there is no room and none waits;
        then close it."""
        is_full = self.connections >= self._connections_max
        if (is_full or not are_left(FOR_CLIENTS)) and self.waiting.end_one():
            is_full = False
        try:
            if is_full or not are_left(FOR_PEERS):
                if len(self._told) >= _TOLD_MAX:
                    self._told.end_one()
                await self._told.during(refuse)
            else:
                await self._counted(answer)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the client is gone or too slow: there is nobody to tell
        finally:
            await trio.aclose_forcefully(stream)

    async def _counted(self, answer: Callable[[], Awaitable[object]]) -> None:
        self.connections += 1
        try:
            await answer()
        finally:
            self.connections -= 1
