"""Waiting: connections that only wait for their client end where there is no room for others."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

Result = TypeVar("Result")


class Waiting:
    """The waits of the connections of one server, the longest first."""

    def __init__(self) -> None:
        self._scopes: dict[trio.CancelScope, None] = {}

    def __len__(self) -> int:
        return len(self._scopes)

    async def during(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Wait for something; trio.TooSlowError when others need the room."""
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                return await call()
            finally:
                self._scopes.pop(scope, None)
        raise trio.TooSlowError

    def end_one(self) -> bool:
        """End the wait that has lasted for longest; False where nobody waits."""
        scope = next(iter(self._scopes), None)
        if scope is None:
            return False
        del self._scopes[scope]
        scope.cancel()
        return True
