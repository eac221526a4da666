"""Boundaries: an error of one part of a node ends that part, is reported once, and goes no further.

A part is whatever its neighbours can do without: a connection, a binding, a request, a round of a
task. Cancellation, KeyboardInterrupt and the like pass, also out of a group of errors.
"""

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import trio

from phextsync.errors import LinkError, PhextsyncError, ProtocolError
from phextsync.terminal import visible

PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 5.0

_LINE_CHARACTERS_MAX: Final = 300
_EXPECTED: Final = (PhextsyncError, OSError, trio.BrokenResourceError, trio.TooSlowError)
"""Errors that the world causes. Any other is a bug, and is logged with its traceback."""
_OF_OTHERS: Final = (
    LinkError,
    ProtocolError,
    ConnectionError,
    TimeoutError,
    trio.BrokenResourceError,
    trio.TooSlowError,
)
"""Those of them that others cause, as they may at any time: nothing is wrong here."""

StreamT = TypeVar("StreamT", bound=trio.abc.Stream)


@dataclass(slots=True)
class Outcome:
    """How a block ended: `error` is what stopped at its boundary, None when nothing did."""

    error: Exception | None = None


class Errors:
    """The errors that ended parts of one node, without those that others cause. Times are Unix
    time in seconds; `last` says where and what, empty before the first."""

    def __init__(self, wall_time_s: Callable[[], float] = time.time) -> None:
        self._wall_time_s = wall_time_s
        self.since_s = wall_time_s()
        self.count = 0
        self.last = ""
        self.last_s = 0.0

    def note(self, part: str, error: Exception) -> None:
        """Count an error, unless it is one that others cause."""
        if not isinstance(error, _OF_OTHERS):
            self.count += 1
            self.last = f"{printable(part)}: {one_line(error)}"
            self.last_s = self._wall_time_s()


class Boundary:
    """Where the errors of parts of one kind stop.

    An error is logged when it comes for the first, tenth, hundredth, ... time: the part, what
    happened and where in the code, and how often. Errors are the same when they have one type and
    come from one line of code, whatever part they ended.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        on_error: Callable[[Exception], object] | None = None,
        errors: Errors | None = None,
    ) -> None:
        """`on_error` is told each error too; what it raises passes the boundary. `errors` are those
        of the node, where there is one."""
        self._logger = logger
        self._on_error = on_error
        self.errors = Errors() if errors is None else errors
        self._counts: Counter[tuple[type[Exception], int | None, str]] = Counter()

    def beside(self, logger: logging.Logger) -> "Boundary":
        """Return a boundary for parts of another kind of the same node."""
        return Boundary(logger, errors=self.errors)

    @contextmanager
    def around(self, part: str) -> Iterator[Outcome]:
        """End the block at an error, and go on after it. `part` names it for people to read."""
        outcome = Outcome()
        try:
            yield outcome
        except* Exception as group:
            outcome.error = next(_leaves(group))
            self.note(part, group)

    def note(self, part: str, error: Exception) -> None:
        """Count an error that ended a part, each of a group; log it when it is due."""
        if isinstance(error, ExceptionGroup):
            for each in _leaves(error):
                self.note(part, each)
            return
        place = _place(error)
        kind = type(error), getattr(error, "errno", None), place
        self._counts[kind] += 1
        count = self._counts[kind]
        if is_due(count):
            is_bug = count == 1 and not isinstance(error, _EXPECTED)
            self._logger.error(
                "%s failed: %s (%s%s)",
                printable(part),
                one_line(error),
                place,
                f"; {count} times so far" if count > 1 else "",
                exc_info=error if is_bug else None,
            )
        self.errors.note(part, error)
        if self._on_error is not None:
            self._on_error(error)

    async def keep_running(self, part: str, call: Callable[[], Awaitable[object]]) -> None:
        """Run `call` until it returns; after an error again, after a pause that grows to
        `PAUSE_MAX_S` and is short again once it has run for longer than that."""
        pause_s = PAUSE_MIN_S
        while True:
            began = trio.current_time()
            with self.around(part) as outcome:
                await call()
            if outcome.error is None:
                return
            if trio.current_time() - began > PAUSE_MAX_S:
                pause_s = PAUSE_MIN_S
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def serve_listeners(
        self,
        listeners: Iterable[trio.abc.Listener[StreamT]],
        handler: Callable[[StreamT], Awaitable[object]],
        *,
        part: Callable[[StreamT], str],
    ) -> NoReturn:
        """Accept connections until cancelled; each has a boundary of its own and is closed when its
        handler ends. `part` names one.

        Where the system cannot accept (too many open files, a connection that is gone already),
        accepting goes on after a pause.
        """
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(self._accept, listener, handler, part, nursery)
        raise AssertionError("listeners accept until they are cancelled")

    async def _accept(
        self,
        listener: trio.abc.Listener[StreamT],
        handler: Callable[[StreamT], Awaitable[object]],
        part: Callable[[StreamT], str],
        nursery: trio.Nursery,
    ) -> None:
        pause_s = PAUSE_MIN_S
        async with listener:
            while True:
                with self.around("accepting connections") as outcome:
                    stream = await listener.accept()
                    nursery.start_soon(self._serve, stream, handler, part)
                    pause_s = PAUSE_MIN_S
                if outcome.error is not None:
                    await trio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def _serve(
        self,
        stream: StreamT,
        handler: Callable[[StreamT], Awaitable[object]],
        part: Callable[[StreamT], str],
    ) -> None:
        name = "a connection"
        with self.around(name):
            name = part(stream)
        with self.around(name):
            async with stream:
                await handler(stream)


def one_line(error: BaseException) -> str:
    """Say what happened in one line that a terminal may show."""
    text = str(error)
    if not isinstance(error, PhextsyncError | OSError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return printable(text)


def is_due(count: int) -> bool:
    """Whether to tell what comes for the `count`-th time: the first, tenth, hundredth, ..."""
    return str(count).strip("0") == "1"


def printable(text: str) -> str:
    """Return at most 300 characters of a text, with those shown that a terminal would obey."""
    return visible(text[:_LINE_CHARACTERS_MAX]) + (
        "..." if len(text) > _LINE_CHARACTERS_MAX else ""
    )


def first(error: BaseException) -> BaseException:
    """Return the first exception in nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _place(error: Exception) -> str:
    """Return the file and the line that raised an error."""
    traceback = error.__traceback__
    if traceback is None:
        return "at an unknown line"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
