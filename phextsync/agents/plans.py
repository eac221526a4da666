"""Plans: what is asked of a node step by step, written once for threads, asyncio and trio.

A plan is a generator: it yields operations of `control.operations` with their arguments, is sent
each answer, or has its error raised, and returns what comes of all. It does no IO of its own.
"""

import asyncio
import time
from collections.abc import Generator, Iterable
from typing import Final, TypeAlias, TypeVar

import trio

from phextsync.aio import AsyncHandle
from phextsync.control import operations
from phextsync.control.answers import Missing
from phextsync.control.bringing import served
from phextsync.control.frames import Value
from phextsync.control.operations import Asked, Operation, digest, is_change
from phextsync.errors import ConflictError, PhextsyncError
from phextsync.handles.blocking import Handle
from phextsync.index import Coordinate
from phextsync.node.node import Node
from phextsync.replica.changes import current_writer

_PAUSE: Final = "pause"  # no operation of a node

T = TypeVar("T")
Plan: TypeAlias = Generator[list[Value], Value, T]


def asks(operation: Operation[T], *arguments: Value) -> Plan[T]:
    """Ask for one operation, and return its answer."""
    return operation.answer.decode((yield [operation.name, *arguments]))


def text_of(phext: str, at: Coordinate) -> Plan[str]:
    """Return the text of a scroll, "" when there is none."""
    return (yield from asks(operations.GET, phext, str(at))) or ""


def scrolls_of(phext: str, range_: str) -> Plan[dict[Coordinate, str]]:
    """Return all scrolls in a range. NotHeldError says of which parts nobody could be asked."""
    found: dict[Coordinate, str] = {}
    missing = Missing()
    after: str | None = ""
    while after is not None:
        page = yield from asks(operations.READ, phext, range_, after)
        missing.note(page.missing)
        found.update(page.rows)
        after = page.after
    missing.check()
    return found


def splice_if_unchanged(
    phext: str,
    at: Coordinate,
    text: str,
    changes: Iterable[tuple[int, int, str]],
    gone: Iterable[Coordinate] = (),
) -> Plan[bool]:
    """Put texts in the place of parts of a scroll, the last part first, and empty others, as one
    change; say whether the scroll still had the text that was seen."""
    seen = digest(text)
    rows: list[Value] = []
    for start, stop, new in changes:
        rows.append(["splice", str(at), start, stop, new, b"" if rows else seen])
    rows += [["remove", str(each)] for each in gone]
    try:
        yield from asks(operations.BATCH, phext, rows)
    except ConflictError:
        return False
    return True


def pause(seconds: float) -> Plan[None]:
    """Let others do something before the next step."""
    yield [_PAUSE, seconds]


def carry_out(asked: Asked, plan: Plan[T]) -> T:
    """Carry out a plan. A change is on the disk before the next step."""
    try:
        request = next(plan)
        while True:
            try:
                answer = _answer(asked, request)
                if isinstance(asked, Handle) and is_change(request):
                    asked.durable()  # what other processes ask is answered when it is
            except PhextsyncError as error:
                request = plan.throw(error)
            else:
                request = plan.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _answer(asked: Asked, request: list[Value]) -> Value:
    match request:
        case [str(word), float(seconds)] if word == _PAUSE:
            time.sleep(seconds)
            return None
    return asked.ask(*request)


async def carry_out_awaited(asked: AsyncHandle | Node, plan: Plan[T]) -> T:
    """Carry out a plan as `carry_out` does: over a handle of asyncio, or in the trio task of a
    node."""
    try:
        request = next(plan)
        while True:
            try:
                answer = await _awaited(asked, request)
                if is_change(request):
                    await asked.durable()
            except PhextsyncError as error:
                request = plan.throw(error)
            else:
                request = plan.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def _awaited(asked: AsyncHandle | Node, request: list[Value]) -> Value:
    match request:
        case [str(word), float(seconds)] if word == _PAUSE:
            await (trio.sleep if isinstance(asked, Node) else asyncio.sleep)(seconds)
            return None
    if isinstance(asked, Node):
        return await served(asked.desk, request, current_writer())
    return await asked.ask(*request)
