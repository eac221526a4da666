"""What is done to the scrolls of a node for those who ask, and what is looked up.

The owner of a folder performs it under its own client ids: many short-lived processes with ids of
their own would make every state vector grow. A process that finds no running node opens the folder
and performs the same operations by itself.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from phextsync.control import operations, placing, quarantine, taking_back
from phextsync.control.answers import (
    DeletedScrolls,
    Found,
    ListedScroll,
    NearScroll,
    Page,
    PlacedRange,
)
from phextsync.control.brought import BROUGHT
from phextsync.control.frames import Value
from phextsync.control.operations import OPERATIONS, Operation, digest
from phextsync.control.status import HoldingRow, LeavingRow, PhextRow
from phextsync.errors import ConflictError, PhextsyncError, ProtocolError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.placement.holders import Placement
from phextsync.placement.policy import Rule
from phextsync.replica.changes import current_writer
from phextsync.replica.clients import CLIENTS
from phextsync.replica.past import DeletedScroll, Past
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.taking_back import Writer, accepts
from phextsync.sync.leaving import Awaited
from phextsync.sync.reconcile import scope_digest
from phextsync.texts import check_text, first_line

PAGE_ITEMS: Final = 2000
PAGE_BYTES: Final = 256 << 10

_SUMMARY_CHARACTERS: Final = 60

_OF_PLACEMENT: Final = frozenset(
    {
        operations.HOLD,
        operations.FOLLOW,
        operations.PLACE,
        operations.PLACE_RANGE,
        operations.PACE,
        operations.RETIRE,
    }
)

_OF_THE_LIBRARY: Final = (CLIENTS, placing.PLACEMENT, quarantine.QUARANTINE, BROUGHT)

T = TypeVar("T")


def perform(replicas: ReplicaSet, request: list[Value]) -> Value:
    """Carry out one request about scrolls and return its answer."""
    operation = OPERATIONS.get(str(request[0])) if request else None
    if operation is None:
        raise ProtocolError(f"expected an operation, found {request[:2]!r:.80}")
    operation.check_phext(request[1:])
    if operation is operations.HISTORY:
        return operations.HISTORY.answer.encode(replicas.history_settings())
    if operation in _OF_PLACEMENT:
        _place(replicas, operation.name, request[1:])
        return None
    if operation is operations.KEEP_HISTORY:
        _keep_history(replicas, request[1:])
        return None
    if operation in (operations.QUARANTINE, operations.TAKE_BACK):
        _put_aside(replicas, operation.name, request[1:])
        return None
    match request[1:2]:
        case [str(phext)]:
            return _perform(replicas, operation, phext, request)
        case _:
            raise unfit(operation.name, request[1:])


def _perform(
    replicas: ReplicaSet, operation: Operation[object], phext: str, request: list[Value]
) -> Value:
    if operation is operations.CLEAR:
        replicas.holding.check_whole(phext, CoordinateRange.parse(str(request[2])))
    if operation.changes:
        return _change(replicas.phext(phext), operation.name, request[2:])
    if operation.serving is operations.Serving.WAITS:
        return look_back(replicas, request)()
    return _look(replicas, replicas.phext(phext), operation.name, request[2:])


def unfit(name: Value, arguments: list[Value]) -> ProtocolError:
    """Return what to raise for arguments that an operation does not take."""
    return ProtocolError(f"expected the arguments of {name!r:.40}, found {arguments!r:.80}")


def _keep_history(replicas: ReplicaSet, arguments: list[Value]) -> None:
    match arguments:
        case [int(kept_ms)]:
            replicas.keep_history(kept_ms)
        case [int() | None as ms, str(phext), str(range_), bool(unless_set)]:
            replicas.keep_history(ms, phext, range_, unless_set=unless_set)
        case _:
            raise unfit("keep_history", arguments)


def _put_aside(replicas: ReplicaSet, name: str, arguments: list[Value]) -> None:
    """Take back what a writer did, or let it wait, or bring back what waited."""
    match name, arguments:
        case "take_back", [str(phext), str(coordinate), bytes(update)]:
            if accepts(update):
                place = Coordinate.parse(coordinate)
                quarantine.check_may_accept(replicas, phext, place, current_writer())
            replicas.phext(phext).take_back(coordinate, update)
        case "quarantine", [str(phext), str(range_), bytes(node), str() | None as label, str(how)]:
            within, by = CoordinateRange.parse(range_), Writer(node, label)
            quarantine.change(replicas, phext, within, by, how, current_writer())
        case _:
            raise unfit(name, arguments)


def _place(replicas: ReplicaSet, name: str, arguments: list[Value]) -> None:
    match name, arguments:
        case "hold", [str(phext), list(ranges), int() | None as copies]:
            replicas.hold(phext, map(str, ranges), copies=copies)
        case "follow", [str(phext)]:
            placing.follow(replicas, phext)
        case "place", [str(phext), int() | None as copies]:
            placing.set_copies(replicas, phext, copies)
        case "pace", [str(phext), int() | None as repair_after_s, int() | None as rate]:
            placing.set_pace(replicas, phext, repair_after_s, rate)
        case "retire", [str(member)]:
            (node_id,) = placing.named(placing.members_of(replicas)[0], [member])
            placing.retire(replicas, node_id)
        case "place_range", [str(phext), str(range_), bool(everywhere), list(names)]:
            pinned = placing.named(placing.members_of(replicas)[0], map(str, names))
            rule = Rule(CoordinateRange.parse(range_), pinned, everywhere)
            placing.set_rule(replicas, phext, rule)
        case _:
            raise unfit(name, arguments)


def _look(replicas: ReplicaSet, replica: Replica, name: str, arguments: list[Value]) -> Value:
    match name, arguments:
        case "get", [str(coordinate)]:
            return replica.get(coordinate)
        case "size", [str(coordinate)]:
            return replica.size(coordinate)
        case "position", [str(coordinate), int(offset), bool(after)]:
            return replica.position(coordinate, offset, after=after)
        case "offset", [str(coordinate), str(position)]:
            return replica.offset(coordinate, position)
        case "steps", [str(coordinate)]:
            with replica.history(coordinate) as history:
                return [history.can_undo, history.can_redo]
        case "count", [str(range_)]:
            replicas.holding.check_whole(replica.name, CoordinateRange.parse(range_))
            return replica.count(range_)
        case "coordinates", [str(range_), str(after)]:
            page = _coordinates(replicas, replica, rest_of(range_, after))
            return operations.COORDINATES.answer.encode(page)
        case "list", [str(range_), str(after)]:
            return operations.LIST.answer.encode(_list(replicas, replica, rest_of(range_, after)))
        case "near", [str(range_), str(at), int(count), bool(itself)]:
            within = CoordinateRange.parse(range_)
            found = _near(replicas, replica, within, at, count, itself=itself)
            return operations.NEAR.answer.encode(found)
        case "quarantined", [*ended]:
            rules = quarantine.rules_of(replicas, replica.name)
            over = [each for each in rules.ended if each not in rules.held]
            return quarantine.QUARANTINED.answer.encode(over if any(ended) else [*rules.held])
        case "read", [str(range_), str(after)]:
            return operations.READ.answer.encode(_read(replicas, replica, rest_of(range_, after)))
        case _:
            raise unfit(name, arguments)


# -- changing ------------------------------------------------------------------------------


def _change(replica: Replica, name: str, arguments: list[Value]) -> Value:
    match name, arguments:
        case "set", [str(coordinate), str(text), *seen]:
            _check_seen(replica, coordinate, *seen)
            replica.edit(coordinate, text)
        case "append", [str(coordinate), str(text), *seen]:
            _check_seen(replica, coordinate, *seen)
            replica.append(coordinate, text)
        case "edit_from", [str(coordinate), str(base), str(text)]:
            replica.edit_from(coordinate, base, text)
        case "replace", [str(coordinate), str(old), str(new), int() | None as count]:
            replica.replace(coordinate, old, new, count)
        case "splice", [str(coordinate), int(start), int(stop), str(text), bytes(seen)]:
            _check_seen(replica, coordinate, seen)
            check_text(text)  # before anything is deleted
            with replica.batch():
                replica.delete(coordinate, start, stop)
                replica.insert(coordinate, start, text)
        case "clear", [str(range_)]:
            replica.clear(range_)
        case "batch", [list(changes)] | [list(changes), bool()]:
            with replica.batch():
                for change in changes:
                    _change_one_of_many(replica, change)
        case _:
            return _change_and_tell(replica, name, arguments)
    return None


def _change_one_of_many(replica: Replica, change: Value) -> None:
    match change:
        case [str(name), *arguments] if name != "batch":
            _change(replica, name, arguments)
        case _:
            raise ProtocolError(f"expected a change, found {change!r:.60}")


def _change_and_tell(replica: Replica, name: str, arguments: list[Value]) -> Value:
    """Make a change whose answer tells something."""
    match name, arguments:
        case "append_line", [str(coordinate), str(text)]:
            return _append_line(replica, coordinate, text)
        case "remove", [str(coordinate), *seen]:
            _check_seen(replica, coordinate, *seen)
            return replica.clear_scroll(coordinate)
        case "pop", [str(coordinate)]:
            return _pop(replica, coordinate)
        case "setdefault", [str(coordinate), str(text)]:
            return replica.setdefault(coordinate, text)
        case "undo", [str(coordinate)]:
            with replica.history(coordinate) as history:
                return history.undo()
        case "redo", [str(coordinate)]:
            with replica.history(coordinate) as history:
                return history.redo()
        case "import", [bool(keep), list(scrolls)]:
            return _import(replica, scrolls, keep=keep)
        case _:
            raise unfit(name, arguments)


def _check_seen(replica: Replica, coordinate: str, seen: Value = b"", *others: Value) -> None:
    if others or not isinstance(seen, bytes):
        raise ProtocolError(f"expected the digest of a text, found {[seen, *others]!r:.60}")
    if seen and digest(replica.get(coordinate, "")) != seen:
        raise ConflictError(f"{replica.name} {coordinate} has changed since it was read")


def _append_line(replica: Replica, coordinate: str, text: str) -> str:
    before = replica.get(coordinate, "")
    start = "\n" if before and not before.endswith("\n") else ""
    added = start + text + ("" if text.endswith("\n") else "\n")
    replica.append(coordinate, added)
    return added


def _pop(replica: Replica, coordinate: str) -> str | None:
    text = replica.get(coordinate)
    if text is not None:
        replica.clear_scroll(coordinate)
    return text


def _import(replica: Replica, scrolls: list[Value], *, keep: bool) -> int:
    taken = 0
    with replica.batch():
        for scroll in scrolls:
            match scroll:
                case [str(coordinate), str(text)]:
                    if not keep or coordinate not in replica:
                        replica.import_text(coordinate, text)
                        taken += 1
                case _:
                    raise ProtocolError(f"expected a coordinate and a text, found {scroll!r:.60}")
    return taken


# -- pages ---------------------------------------------------------------------------------


def rest_of(range_: str, after: str) -> CoordinateRange | None:
    """Return what is left of a range behind `after`; None when that is nothing."""
    whole = CoordinateRange.parse(range_)
    if not after:
        return whole
    lower = Coordinate.parse(after).successor()
    return None if lower is None else whole.intersect(CoordinateRange(lower, None))


def _coordinates(
    replicas: ReplicaSet, replica: Replica, range_: CoordinateRange | None
) -> Page[Coordinate]:
    page: list[Coordinate] = []
    missing = () if range_ is None else replicas.holding.missing(replica.name, range_)
    for coordinate in () if range_ is None else replica.coordinates(range_):
        if len(page) == PAGE_ITEMS:
            return Page(page, str(page[-1]), missing)
        page.append(coordinate)
    return Page(page, None, missing)


def _list(
    replicas: ReplicaSet, replica: Replica, range_: CoordinateRange | None
) -> Page[ListedScroll]:
    def row(coordinate: Coordinate, text: str) -> ListedScroll:
        line = first_line(text, _SUMMARY_CHARACTERS)
        return ListedScroll(coordinate, replica.read_size(coordinate), line)

    return _page(replicas, replica, range_, row, bytes_max=None)


def _near(
    replicas: ReplicaSet,
    replica: Replica,
    range_: CoordinateRange,
    at: str,
    count: int,
    *,
    itself: bool,
) -> Found[NearScroll]:
    if not 1 <= count <= PAGE_ITEMS:
        raise PhextsyncError(f"expected a count from 1 to {PAGE_ITEMS}, found {count}")
    rows: list[NearScroll] = []
    for distance, place in replica.near(at, count, range_, itself=itself):
        if text := replica.read(place):  # one that is damaged has none
            line = first_line(text, _SUMMARY_CHARACTERS)
            rows.append(NearScroll(distance, place, replica.read_size(place), line))
    return Found(rows, replicas.holding.missing(replica.name, range_))


def _read(
    replicas: ReplicaSet, replica: Replica, range_: CoordinateRange | None
) -> Page[tuple[Coordinate, str]]:
    return _page(replicas, replica, range_, lambda place, text: (place, text), bytes_max=PAGE_BYTES)


def _page(
    replicas: ReplicaSet,
    replica: Replica,
    range_: CoordinateRange | None,
    row: Callable[[Coordinate, str], T],
    *,
    bytes_max: int | None,
) -> Page[T]:
    """Return a page of rows of scrolls, and whether more come. To read one that is damaged takes it
    out of the index, which must not happen while that is iterated over."""
    page: list[T] = []
    size, last = 0, ""
    missing = () if range_ is None else replicas.holding.missing(replica.name, range_)
    while range_ is not None:
        places = list(islice(replica.coordinates(range_), PAGE_ITEMS + 1))
        for place in places[:PAGE_ITEMS]:
            if bytes_max is not None and size >= bytes_max:
                return Page(page, last, missing)
            text = replica.read(place)
            if text:
                page.append(row(place, text))
                size += len(text)
                last = str(place)
        if page or len(places) <= PAGE_ITEMS:  # else all of them were damaged, and are gone
            return Page(page, last if len(places) > PAGE_ITEMS else None, missing)
    return Page(page, None, missing)


# -- the past ------------------------------------------------------------------------------


def look_back(replicas: ReplicaSet, request: list[Value]) -> Callable[[], Value]:
    """Return what answers a look at the past, in any thread: it may take a while."""
    match request:
        case ["log", str(phext), str(coordinate), int() | None as last]:
            return partial(_log, replicas.phext(phext).past(coordinate), last)
        case ["blame", str(phext), str(coordinate)]:
            return partial(_blame, replicas.phext(phext).past(coordinate))
        case ["show", str(phext), str(coordinate), int(time_ms)]:
            return partial(replicas.phext(phext).past(coordinate).text_at, time_ms)
        case ["versions", str(phext), str(coordinate), int() | None as last]:
            return partial(_versions, replicas.phext(phext).past(coordinate), last)
        case ["deleted", str(phext), str(coordinate)]:
            return replicas.phext(phext).past(coordinate).deleted_text
        case ["where", str(phext), str(range_)]:
            placement = placing.placement_of(replicas, phext)
            return partial(_where, placement, CoordinateRange.parse(range_))
        case ["undeletable", str(phext), str(range_)]:
            pasts, rest = replicas.phext(phext).few_pasts(
                CoordinateRange.parse(range_), emptied=True
            )
            return partial(_undeletable, pasts, rest)
        case ["taking_back", str(phext), str(range_), *by]:
            pasts, rest = replicas.phext(phext).few_pasts(CoordinateRange.parse(range_))
            return partial(taking_back.look, pasts, rest, by)
        case ["waiting", str(phext), str(range_), *by]:
            pasts, rest = replicas.phext(phext).few_pasts(CoordinateRange.parse(range_))
            return partial(taking_back.look_at_waiting, pasts, rest, by)
        case _:
            raise unfit(request[0], request[1:])


def _log(past: Past, last: int | None) -> Value:
    return operations.LOG.answer.encode(past.log(last))


def _blame(past: Past) -> Value:
    return operations.BLAME.answer.encode(past.blame())


def _versions(past: Past, last: int | None) -> Value:
    return operations.VERSIONS.answer.encode(past.versions(last))


def _where(placement: Placement, range_: CoordinateRange) -> Value:
    rows = [
        PlacedRange(piece, tuple((m.node_id, m.name) for m in placement.holders(piece.lower)))
        for piece in placement.ranges(range_)
    ]
    return operations.WHERE.answer.encode(rows)


def _undeletable(pasts: list[Past], rest: CoordinateRange | None) -> Value:
    found: list[DeletedScroll] = []
    for past in pasts:
        deletion = past.deletion()
        if deletion is not None:
            found.append(deletion[0])
    page = DeletedScrolls(found, None if rest is None else str(rest))
    return operations.UNDELETABLE.answer.encode(page)


# -- all phexts ----------------------------------------------------------------------------


def summarize(replicas: ReplicaSet) -> tuple[PhextRow, ...]:
    """Return how each phext is, by name."""
    return tuple(_phext_row(replicas.phext(name)) for name in phexts_of_users(replicas))


def phexts_of_users(replicas: ReplicaSet) -> list[str]:
    """Return the names of all phexts without those of the library, sorted."""
    return [name for name in replicas.names() if name not in _OF_THE_LIBRARY]


def held_rows(replicas: ReplicaSet, awaited: Iterable[Awaited]) -> tuple[HoldingRow, ...]:
    """Return what is held of each phext of which that is not all, and what leaving waits for."""
    holding, waiting = replicas.holding, tuple(awaited)
    rows: list[HoldingRow] = []
    others = phexts_of_users(replicas) if holding.is_fleeting else ()
    for phext in sorted({*holding.phexts(), *others}):
        hold, index = holding.hold(phext), replicas.phext(phext).index
        leaving = [
            LeavingRow(
                range=str(row.range),
                scrolls=index.count(row.range),
                copies=row.copies,
                kept_by=row.kept_by,
                reasons=row.reasons,
            )
            for row in waiting
            if row.phext == phext
        ]
        rows.append(
            HoldingRow(
                phext=phext,
                held=tuple(map(str, hold.wanted)),
                follows=hold.follows,
                copies=hold.copies,
                leaving=tuple(leaving),
                going=sum(index.count(range_) for range_ in hold.dropping),
            )
        )
    return tuple(rows)


def awaiting_a_node(replicas: ReplicaSet) -> Iterator[Awaited]:
    """Iterate over what is given up and waits for a node to run."""
    for phext in replicas.holding.phexts():
        hold = replicas.holding.hold(phext)
        for range_ in hold.leaving:
            yield Awaited(phext, range_, hold.copies or 1, (), ("no node runs here",))


def _phext_row(replica: Replica) -> PhextRow:
    digest = scope_digest(replica.index, [EVERYTHING])[1]
    return PhextRow(
        name=replica.name,
        scrolls=len(replica),
        bytes=replica.index.text_bytes,
        fingerprint=digest.hex(),
    )
