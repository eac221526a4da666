"""Asking: what a task of trio asks of the node of a folder, and awaits."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol, TypeVar

import trio

from phextsync.control import operations
from phextsync.control.answers import ToldChange, fact_rows
from phextsync.control.frames import Value, check_request
from phextsync.control.operations import OPERATIONS, Operation
from phextsync.handles.call import Call

T = TypeVar("T")


class Asked(Protocol):
    """What takes requests up: see `handles.folder_client`."""

    def start(self, call: Call) -> None: ...

    def cancel(self, call: Call) -> None: ...


class Asking:
    """Asks under the label of one writer. What is asked raises what the node answers."""

    def __init__(self, asked: Asked, writer: str) -> None:
        self._asked = asked
        self._writer = writer

    async def ask(self, operation: Operation[T], *arguments: Value) -> T:
        """Ask for something, and return the answer."""
        return operation.answer.decode(await self._answer(self._begin(operation, *arguments)))

    async def tell(self, facts: Iterable[tuple[str, str | int]]) -> None:
        """Let the other nodes be told these facts, in place of those before, until the process
        goes."""
        await self._answer(self._begin(operations.TELL, fact_rows(facts)))

    async def watch(self, phext: str, range_: str) -> Call:
        """Watch a range from now on, until that is ended."""
        call = self._begin(operations.WATCH, phext, range_, False)
        await self._answer(call)
        return call

    def end(self, call: Call) -> None:
        """End what lasts."""
        self._asked.cancel(call)

    async def changes(self, watch: Call) -> AsyncIterator[ToldChange]:
        """Give the changes of a watch, until it has ended."""
        while (change := await self.ask(operations.NEXT, watch.number)) is not None:
            yield change

    def _begin(self, operation: Operation[T], *arguments: Value) -> Call:
        request: list[Value] = [operation.name, *arguments]
        if operation.changes:
            request = ["as", self._writer, *request]
        call = Call(request, OPERATIONS[operation.name])
        check_request(request)
        self._asked.start(call)
        return call

    async def _answer(self, call: Call) -> Value:
        has_answer = trio.Event()
        call.tell(has_answer.set)
        try:
            await has_answer.wait()
        except trio.Cancelled:
            self._asked.cancel(call)
            raise
        return call.result()
