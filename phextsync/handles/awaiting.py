"""Requests that are awaited in asyncio: one answer, and those that come one after another; and
what needs no waiting."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from phextsync.control import operations
from phextsync.control.frames import Value
from phextsync.control.operations import Operation
from phextsync.errors import ClosedError, PhextsyncError
from phextsync.handles.call import Call
from phextsync.handles.engine import Engine
from phextsync.handles.requests import closed_history
from phextsync.index import OpenTexts
from phextsync.replica.changes import Change
from phextsync.replica.views import Key, RangeView

T = TypeVar("T")


async def ask(engine: Engine, operation: Operation[T], *arguments: Value, writer: str = "") -> T:
    """Ask for something, and await the answer."""
    call = engine.begin(operation, *arguments, writer=writer)
    return operation.answer.decode(await answer(engine, call))


async def answer(engine: Engine, call: Call) -> Value:
    """Await the answer to a call, which is cancelled with the wait."""
    has_answer = asyncio.Event()
    call.tell(partial(_wake, asyncio.get_running_loop(), has_answer))
    try:
        await has_answer.wait()
    except asyncio.CancelledError:
        engine.cancel(call)
        raise
    return call.result()


@asynccontextmanager
async def running(engine: Engine) -> AsyncGenerator[None]:
    """Run an engine for as long as the block lasts."""
    try:
        await answer(engine, engine.start())
        yield
    finally:
        await asyncio.shield(asyncio.to_thread(engine.stop))


class AsyncSteps:
    """What one writer did to one scroll; see `blocking.Steps`."""

    def __init__(self, engine: Engine, phext: str, coordinate: str, writer: str) -> None:
        self.writer = writer
        self.is_open = True
        self._engine = engine
        self._scroll = phext, coordinate

    async def can_undo(self) -> bool:
        """Return whether there is a step to take back."""
        can_undo, _ = await self._ask(operations.STEPS)
        return can_undo

    async def can_redo(self) -> bool:
        """Return whether a step was taken back and the writer has done nothing since."""
        _, can_redo = await self._ask(operations.STEPS)
        return can_redo

    async def undo(self) -> bool:
        """Take back the last step; say whether there was one."""
        return await self._ask(operations.UNDO)

    async def redo(self) -> bool:
        """Do the step again that was taken back last; say whether there was one."""
        return await self._ask(operations.REDO)

    async def _ask(self, operation: Operation[T]) -> T:
        if not self.is_open:
            raise closed_history(self._scroll[1])
        return await ask(self._engine, operation, *self._scroll, writer=self.writer)


class AsyncChanges(AsyncIterator[Change]):
    """Changes as they come; see `AsyncPhext.changes`. A wait that is cancelled loses none."""

    def __init__(self, engine: Engine, phext: str, watch: Call) -> None:
        self._engine = engine
        self._phext = phext
        self._watch = watch
        self._next: Call | None = None  # without an answer, though the wait was cancelled
        self._has_answer = asyncio.Event()
        self._is_waiting = False

    async def __anext__(self) -> Change:
        if self._is_waiting:
            raise PhextsyncError(
                "expected one wait for the next change at a time, found another task that waits:"
                " give each task changes of its own"
            )
        self._is_waiting = True
        try:
            return await self._take()
        finally:
            self._is_waiting = False

    async def _take(self) -> Change:
        try:
            if self._next is None:
                self._next = self._engine.begin(operations.NEXT, self._watch.number)
                wake = partial(_wake, asyncio.get_running_loop(), self._has_answer)
                self._next.tell(wake)
            await self._has_answer.wait()
            self._has_answer.clear()
            call, self._next = self._next, None
            change = operations.NEXT.answer.decode(call.result())
        except ClosedError:
            raise StopAsyncIteration from None
        if change is None:
            raise StopAsyncIteration
        return change.change(self._phext)

    def close(self) -> None:
        """End the iteration."""
        self._engine.cancel(self._watch)


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it who waited
        loop.call_soon_threadsafe(event.set)


class AtOnce(OpenTexts[RangeView]):
    """The texts that need no waiting. BlockingIOError for all others."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def fetch(self, key: Key) -> str:
        text = self._engine.read(self, self._name, key)
        if text is None:
            raise BlockingIOError
        return text
