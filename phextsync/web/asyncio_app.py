"""Applications of asyncio: ASGI that runs in a loop of its own, in a thread, for requests of trio.

The thread begins with the first request. What either side waits for, the other one does in its own
loop: there is one message at a time each way, so that a client that takes nothing holds up nobody
but its own request.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, TypeVar

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phextsync.boundaries import one_line
from phextsync.errors import PhextsyncError
from phextsync.signals import Flag

_STOP_S: Final = 5.0
_ASGI: Final = {
    "version": "3.0",
    "spec_version": "2.3",
}  # to send to a client that is gone is no error

T = TypeVar("T")


class AsyncioApp:
    """An ASGI application for trio, made of one for asyncio, which `opened` gives in its loop."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[ASGIApp]]) -> None:
        self._opened = opened
        self._starting = trio.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._app: ASGIApp | None = None
        self._ending: asyncio.Event | None = None
        self._error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. PhextsyncError when the application cannot be opened."""
        async with self._starting:
            if self._app is None:  # not yet, or it has ended by itself
                await self._start()
            app, loop = self._app, self._loop
        assert app is not None
        assert loop is not None
        await _Call(loop, app, receive, send).run(scope)

    async def run(self) -> None:
        """Let it be there until cancelled; then end it."""
        try:
            await trio.sleep_forever()
        finally:
            if self._thread is not None and self._loop is not None and self._ending is not None:
                with suppress(RuntimeError):  # it has ended by itself
                    self._loop.call_soon_threadsafe(self._ending.set)
                with trio.move_on_after(_STOP_S) as scope:
                    scope.shield = True
                    await trio.to_thread.run_sync(self._thread.join, abandon_on_cancel=True)

    async def _start(self) -> None:
        has_begun, token = trio.Event(), trio.lowlevel.current_trio_token()

        def tell() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(has_begun.set)

        self._error = None
        self._thread = threading.Thread(target=self._live, args=(tell,), daemon=True)
        self._thread.start()
        await has_begun.wait()
        if self._app is None:
            assert self._error is not None
            raise PhextsyncError(f"it could not be opened: {one_line(self._error)}")

    def _live(self, tell: Callable[[], None]) -> None:
        try:
            asyncio.run(self._main(tell))
        except BaseException as error:  # the thread ends here: who waits for it is told
            self._error = error
        finally:
            self._app = None
            tell()

    async def _main(self, tell: Callable[[], None]) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        async with self._opened() as self._app:
            tell()
            await self._ending.wait()


class _Call:
    """One request on its way through both loops."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, app: ASGIApp, receive: Receive, send: Send
    ) -> None:
        self._loop = loop
        self._app = app
        self._receive = receive
        self._send = send
        self._token = trio.lowlevel.current_trio_token()
        self._wanted: deque[asyncio.Future[Message]] = deque()
        self._said: deque[tuple[Message, asyncio.Future[None]]] = deque()
        self._is_wanted, self._is_said, self._is_over = Flag(), Flag(), trio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._is_gone = False  # the client

    async def run(self, scope: Scope) -> None:
        """Answer the request; what the application raises is raised."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give)
                nursery.start_soon(self._take)
                self._in_loop(self._begin, {**scope, "asgi": _ASGI})
                await self._is_over.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._in_loop(self._cancel)
        if self._error is not None:
            raise self._error

    # -- in trio ---------------------------------------------------------------------------

    async def _give(self) -> None:
        while True:
            await self._is_wanted.take()
            while self._wanted:
                message = await self._receive()
                self._in_loop(_settle, self._wanted.popleft(), message)

    async def _take(self) -> None:
        while True:
            await self._is_said.take()
            while self._said:
                message, told = self._said.popleft()
                await self._say_to_client(message)
                self._in_loop(_settle, told, None)

    async def _say_to_client(self, message: Message) -> None:
        """Say something to the client, nothing to one that is gone: many leave as soon as they have
        what they want, and what the application has still to do is no error."""
        if not self._is_gone:
            try:
                await self._send(message)
            except trio.BrokenResourceError:
                self._is_gone = True

    def _want(self, wanted: asyncio.Future[Message]) -> None:
        self._wanted.append(wanted)
        self._is_wanted.set()

    def _say(self, message: Message, told: asyncio.Future[None]) -> None:
        self._said.append((message, told))
        self._is_said.set()

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it who waited
            self._loop.call_soon_threadsafe(call, *arguments)

    # -- in asyncio ------------------------------------------------------------------------

    def _begin(self, scope: MutableMapping[str, Any]) -> None:
        async def answer() -> None:
            await self._app(scope, self._received, self._sent)

        self._task = self._loop.create_task(answer())
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._error = None if task.cancelled() else task.exception()
        self._in_trio(self._is_over.set)

    async def _received(self) -> Message:
        wanted: asyncio.Future[Message] = self._loop.create_future()
        self._in_trio(self._want, wanted)
        return await wanted

    async def _sent(self, message: Message) -> None:
        told: asyncio.Future[None] = self._loop.create_future()
        self._in_trio(self._say, message, told)
        await told

    def _in_trio(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call, *arguments)


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
