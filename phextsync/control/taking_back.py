"""Taking back what one writer did, as it is asked for: what there is to take back, in pages."""

from dataclasses import dataclass
from typing import Final

from phextsync.control import operations
from phextsync.control.answers import Form
from phextsync.control.frames import Value
from phextsync.errors import ProtocolError
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


def look(pasts: list[Past], rest: CoordinateRange | None, by: list[Value]) -> Value:
    """Answer what takes back a writer in some scrolls. Replays what is kept of each that it wrote
    to."""
    match by:
        case [bytes(node), str() | None as label, int() | None as since_ms]:
            writer = Writer(node, label)
        case _:
            raise ProtocolError(f"expected a node, a label and a time, found {by!r:.60}")
    found = [past.taking_back(writer, since_ms) for past in pasts]
    rows = [row for row in found if row is not None]
    return _encode(TakenBacks(rows, None if rest is None else str(rest)))
