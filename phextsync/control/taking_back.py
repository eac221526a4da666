"""Taking back what one writer did, as it is asked for: what there is to take back, in pages."""

from dataclasses import dataclass
from typing import Final

from phextsync.control import operations
from phextsync.control.answers import Form
from phextsync.control.frames import Value
from phextsync.errors import NotHeldError, ProtocolError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.past import Past
from phextsync.replica.taking_back import TakenBack, Writer


@dataclass(frozen=True, slots=True)
class TakenBacks:
    """What takes back a writer in a part of a range, and the range in which to look for more, if
    any. `missing` says, a line each, of which parts nobody could be asked."""

    found: list[TakenBack]
    rest: str | None
    missing: tuple[str, ...] = ()


def _encode(page: TakenBacks) -> Value:
    rows: list[Value] = []
    for row in page.found:
        counts: list[Value] = [row.removed, row.restored, row.unknown]
        lines: list[Value] = [row.removed_line, row.restored_line]
        rows.append([str(row.coordinate), *counts, *lines, row.update])
    return [rows, page.rest, [*page.missing]]


def _decode(value: Value) -> TakenBacks:
    match value:
        case [list(rows), str() | None as rest, list(missing)]:
            return TakenBacks([*map(_row, rows)], rest, tuple(map(str, missing)))
        case _:
            raise ProtocolError(f"expected what a writer did, found {value!r:.60}")


def _row(value: Value) -> TakenBack:
    match value:
        case [str(at), int(out), int(back), int(unknown), str(gone), str(come), bytes(update)]:
            return TakenBack(Coordinate.parse(at), out, back, unknown, gone, come, update)
        case _:
            raise ProtocolError(f"expected what a writer did to a scroll, found {value!r:.60}")


TAKING_BACK: Final = operations.TAKING_BACK.read_as(Form(_encode, _decode))


class TakingBack:
    """What takes back a writer in a range, gathered page by page."""

    def __init__(self, by: Writer, range_: str, since_ms: int | None) -> None:
        if not isinstance(by, Writer):
            raise TypeError(f"expected a Writer, found {type(by).__name__}")
        self._by = by
        self._since_ms = since_ms
        self._rest: str | None = range_
        self._found: list[TakenBack] = []
        self._missing: list[str] = []

    @property
    def asked(self) -> tuple[Value, ...] | None:
        """The arguments behind the phext of the next `TAKING_BACK`, None when there is none."""
        if self._rest is None:
            return None
        return self._rest, self._by.node, self._by.label, self._since_ms

    @property
    def asked_of_waiting(self) -> tuple[Value, ...] | None:
        """The same of the next `WAITING`."""
        return None if self.asked is None else self.asked[:-1]

    def take(self, page: TakenBacks) -> None:
        """Take an answer."""
        self._found += page.found
        self._missing += page.missing
        self._rest = page.rest

    def all(self, missing: list[str] | None = None) -> list[TakenBack]:
        """Return what was found. NotHeldError says of which parts nobody could be asked; where
        `missing` is given, that is added to it instead."""
        told = [*dict.fromkeys(self._missing)]
        if missing is not None:
            missing += told
        elif told:
            raise NotHeldError("; ".join(told))
        return self._found


def look(pasts: list[Past], rest: CoordinateRange | None, by: list[Value]) -> Value:
    """Answer what takes back a writer in some scrolls. Replays what is kept of each that it wrote
    to."""
    match by:
        case [bytes(node), str() | None as label, int() | None as since_ms]:
            writer = Writer(node, label)
        case _:
            raise ProtocolError(f"expected a node, a label and a time, found {by!r:.60}")
    return _told([past.taking_back(writer, since_ms) for past in pasts], rest)


def look_at_waiting(pasts: list[Past], rest: CoordinateRange | None, by: list[Value]) -> Value:
    """Answer what waits of a writer in some scrolls, and what brings it back."""
    match by:
        case [bytes(node), str() | None as label]:
            writer = Writer(node, label)
        case _:
            raise ProtocolError(f"expected a node and a label, found {by!r:.60}")
    return _told([past.waiting(writer) for past in pasts], rest)


def _told(found: list[TakenBack | None], rest: CoordinateRange | None) -> Value:
    rows = [row for row in found if row is not None]
    return _encode(TakenBacks(rows, None if rest is None else str(rest)))
