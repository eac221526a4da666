"""Quarantine for programs: whose work waits, what of it, and what is accepted."""

from collections.abc import Iterable
from typing import Final, TypeVar

from phextsync.agents.plans import Plan, asks, carry_out, carry_out_awaited
from phextsync.aio import AsyncHandle
from phextsync.control import operations
from phextsync.control.node_names import names_of, node_named
from phextsync.control.operations import Asked
from phextsync.control.quarantine import QUARANTINED, WAITING, Quarantined
from phextsync.control.taking_back import TakingBack
from phextsync.errors import PermissionDeniedError
from phextsync.node.node import DEFAULT_PHEXT, Node
from phextsync.replica.taking_back import TakenBack, Writer
from phextsync.replica.views import Range, as_range

_EVERYTHING: Final = "*"

T = TypeVar("T")


def writer_named(text: str) -> Plan[Writer]:
    """Return who is meant by NODE or NODE/WRITER. PhextsyncError when the node is not known, but
    for a whole id."""
    node, slash, label = text.partition("/")
    known = names_of((yield from asks(operations.STATUS)))
    node_id = node_named(node, known, takes_any_id=True)
    return Writer(bytes.fromhex(node_id), label if slash else None)


def change(phext: str, by: Writer, range_: Range, how: str) -> Plan[None]:
    """Let the work of a writer wait: what comes (`new`), or `all`; or `end` that."""
    where = str(as_range(range_))
    yield from asks(operations.QUARANTINE, phext, where, by.node, by.label, how)


def waiting(phext: str, by: Writer, range_: Range) -> Plan[list[TakenBack]]:
    """Return what waits of a writer, and what brings it back, by coordinate."""
    found = TakingBack(by, str(as_range(range_)), None)
    while (asked := found.asked_of_waiting) is not None:
        found.take((yield from asks(WAITING, phext, *asked)))
    return found.all()


def accept(phext: str, by: Writer, range_: Range) -> Plan[list[TakenBack]]:
    """Bring back what waits of a writer in a range, and return it. PermissionDeniedError names the
    first scroll that may not be written here; what waits in others is back then."""
    rows = yield from waiting(phext, by, range_)
    _, refused = yield from taken_back(phext, rows)
    if refused:
        raise refused[0]
    return rows


def taken_back(
    phext: str, rows: Iterable[TakenBack]
) -> Plan[tuple[list[TakenBack], list[PermissionDeniedError]]]:
    """Take back what this node may, and return that, and why not the rest."""
    done: list[TakenBack] = []
    refused: list[PermissionDeniedError] = []
    for row in rows:
        try:
            yield from asks(operations.TAKE_BACK, phext, str(row.coordinate), row.update)
            done.append(row)
        except PermissionDeniedError as error:
            refused.append(error)
    return done, refused


def accept_at(phext: str, range_: Range) -> Plan[list[TakenBack]]:
    """Bring back what waits in a range of those that are in quarantine, or were, and return it."""
    found: list[TakenBack] = []
    where = as_range(range_)
    rows = yield from asks(QUARANTINED, phext)
    rows += yield from asks(QUARANTINED, phext, True)
    for by in dict.fromkeys(row.writer for row in rows):
        found += yield from accept(phext, by, where)
    return found


class Quarantine:
    """Quarantine behind plain calls: `Quarantine(handle)`, `handle` from `phextsync.open`."""

    def __init__(self, asked: Asked, *, phext: str = DEFAULT_PHEXT) -> None:
        self._asked = asked
        self._phext = phext

    def begin(self, by: Writer, range_: Range = _EVERYTHING, *, all_: bool = False) -> None:
        """Let wait what a writer puts into a range from now on, with `all_` what stands there of
        it, too: all nodes take it until it is accepted."""
        self._do(change(self._phext, by, range_, "all" if all_ else "new"))

    def end(self, by: Writer, range_: Range = _EVERYTHING) -> None:
        """Take nothing more of what a writer puts into a range for which it was begun. What was
        taken waits, for `accept`, and is in `ended` until this is said again. PhextsyncError when
        it was begun for no such range, PermissionDeniedError when it is the writer who asks."""
        self._do(change(self._phext, by, range_, "end"))

    def writers(self) -> list[Quarantined]:
        """Return whose work waits, and in which ranges."""
        return self._do(asks(QUARANTINED, self._phext))

    def ended(self) -> list[Quarantined]:
        """Return of whom and in which ranges work may wait although that was ended."""
        return self._do(asks(QUARANTINED, self._phext, True))

    def waiting(self, by: Writer, range_: Range = _EVERYTHING) -> list[TakenBack]:
        """Return what was taken of a writer in a range and can be accepted, by coordinate, as far
        as the history that this node keeps tells: `restored` characters that begin with
        `restored_line`. NotHeldError where others hold a part of the range."""
        return self._do(waiting(self._phext, by, range_))

    def accept(self, by: Writer, range_: Range = _EVERYTHING) -> list[TakenBack]:
        """Bring back what waits of a writer in a range, where it stood, and return it. Two that
        accept the same at once bring it back once. PermissionDeniedError when it is the writer who
        asks."""
        return self._do(accept(self._phext, by, range_))

    def _do(self, plan: Plan[T]) -> T:
        return carry_out(self._asked, plan)


class AsyncQuarantine:
    """Quarantine with methods that are those of `Quarantine`, awaited: over a handle of
    `phextsync.aio.open`, or over the node of `phextsync.open_node`, in its trio task."""

    def __init__(self, asked: AsyncHandle | Node, *, phext: str = DEFAULT_PHEXT) -> None:
        self._asked = asked
        self._phext = phext

    async def begin(self, by: Writer, range_: Range = _EVERYTHING, *, all_: bool = False) -> None:
        """Let wait what a writer puts into a range, as `Quarantine.begin` does."""
        await self._do(change(self._phext, by, range_, "all" if all_ else "new"))

    async def end(self, by: Writer, range_: Range = _EVERYTHING) -> None:
        """Take nothing more, as `Quarantine.end` does."""
        await self._do(change(self._phext, by, range_, "end"))

    async def writers(self) -> list[Quarantined]:
        """Return whose work waits, and in which ranges."""
        return await self._do(asks(QUARANTINED, self._phext))

    async def ended(self) -> list[Quarantined]:
        """Return where work may wait although that was ended, as `Quarantine.ended` does."""
        return await self._do(asks(QUARANTINED, self._phext, True))

    async def waiting(self, by: Writer, range_: Range = _EVERYTHING) -> list[TakenBack]:
        """Return what can be accepted, as `Quarantine.waiting` does."""
        return await self._do(waiting(self._phext, by, range_))

    async def accept(self, by: Writer, range_: Range = _EVERYTHING) -> list[TakenBack]:
        """Bring back what waits, as `Quarantine.accept` does."""
        return await self._do(accept(self._phext, by, range_))

    async def _do(self, plan: Plan[T]) -> T:
        return await carry_out_awaited(self._asked, plan)
