"""Several calls at once."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from phextsync.errors import PhextsyncError

T = TypeVar("T")


async def at_once(calls: Sequence[Callable[[], Awaitable[T]]], count_max: int) -> list[T]:
    """Return what the calls return, in their order; so many run at a time. When all have ended, the
    first PhextsyncError of any is raised."""
    found: dict[int, T] = {}
    errors: list[PhextsyncError] = []
    limiter = trio.CapacityLimiter(count_max)

    async def run(i: int, call: Callable[[], Awaitable[T]]) -> None:
        async with limiter:
            try:
                found[i] = await call()
            except PhextsyncError as error:
                errors.append(error)

    async with trio.open_nursery() as nursery:
        for i, call in enumerate(calls):
            nursery.start_soon(run, i, call)
    if errors:
        raise errors[0]
    return [found[i] for i in range(len(calls))]
