"""What is answered: each form of an answer as it is sent, and as it is read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from phextsync.control.frames import Value
from phextsync.control.status import Status
from phextsync.errors import NotHeldError, ProtocolError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.changes import Change, TextChange
from phextsync.replica.history_keeper import HistorySetting
from phextsync.replica.past import BlamedLine, DeletedScroll, LoggedChange, Version
from phextsync.search import Hit
from phextsync.sync.lacks import Lack
from phextsync.sync.presence import PeerPresence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How answers of one kind are sent and read. ProtocolError for what is of no such form."""

    encode: Callable[[T], Value]
    decode: Callable[[Value], T]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of an answer, and the coordinate behind which more come; None when none do.
    `missing` says, a line each, of which parts nobody could be asked."""

    rows: list[T]
    after: str | None
    missing: tuple[str, ...] = ()


def rows_of_pages(ask: Callable[[str], Page[T]]) -> Iterator[T]:
    """Iterate over the rows of all pages; `ask` gives the page behind a coordinate. NotHeldError at
    the end says of which parts nobody could be asked, if there are any."""
    missing = Missing()
    after: str | None = ""
    while after is not None:
        page = ask(after)
        missing.note(page.missing)
        yield from page.rows
        after = page.after
    missing.check()


class Missing:
    """What is missing in answers, each part once."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def note(self, lines: Iterable[str]) -> None:
        """These parts are missing."""
        self._lines.update(dict.fromkeys(lines))

    def check(self) -> None:
        """NotHeldError when something is missing."""
        if self._lines:
            raise NotHeldError("; ".join(self._lines))


@dataclass(frozen=True, slots=True)
class ListedScroll:
    """A scroll in a list: bytes of its text, and the beginning of its first line."""

    coordinate: Coordinate
    size: int
    first_line: str


@dataclass(frozen=True, slots=True)
class NearScroll:
    """A scroll as in a list, and its distance: what the nine parts differ by in all."""

    distance: int
    coordinate: Coordinate
    size: int
    first_line: str


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """The best that was found; `missing` says, a line each, of which parts nobody was asked."""

    hits: list[T]
    missing: tuple[str, ...] = ()

    def all(self, missing: list[str] | None) -> list[T]:
        """Return the hits, and add what is missing to a list. NotHeldError without a list."""
        if self.missing and missing is None:
            raise NotHeldError("; ".join(self.missing))
        if missing is not None:
            missing += self.missing
        return self.hits


@dataclass(frozen=True, slots=True)
class DeletedScrolls:
    """Scrolls that can be brought back, and the range in which to look for more, if any."""

    found: list[DeletedScroll]
    rest: str | None


@dataclass(frozen=True, slots=True)
class PlacedRange:
    """A range, and the members that hold it by what was placed: node ids and names, in rank."""

    range: CoordinateRange
    holders: tuple[tuple[bytes, str], ...]


@dataclass(frozen=True, slots=True)
class ToldScroll:
    """A scroll that changed: bytes of its text now, and both texts if they were asked for."""

    coordinate: Coordinate
    size: int
    text: TextChange | None = None


@dataclass(frozen=True, slots=True)
class ToldChange:
    """A change of the phext that is watched: the fields of `Change`, with sizes."""

    origin: bytes | None
    label: str
    missed: CoordinateRange | None
    scrolls: tuple[ToldScroll, ...]

    def change(self, phext: str) -> Change:
        """Return it as subscribers get it."""
        coordinates = tuple(scroll.coordinate for scroll in self.scrolls)
        texts = tuple(scroll.text for scroll in self.scrolls if scroll.text is not None)
        return Change(phext, coordinates, self.origin, self.label, texts, self.missed)


# -- plain values --------------------------------------------------------------------------


def _same(value: T) -> T:
    return value


def _nothing(value: Value) -> None:
    if value is not None:
        raise _unexpected("nothing", value)


def _as_text(value: Value) -> str:
    if isinstance(value, str):
        return value
    raise _unexpected("a text", value)


def _as_optional_text(value: Value) -> str | None:
    return None if value is None else _as_text(value)


def _as_number(value: Value) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _unexpected("a number", value)


def _as_bool(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    raise _unexpected("whether it is so", value)


def _as_texts(value: Value) -> list[str]:
    return [_as_text(item) for item in _items("texts", value)]


def _items(what: str, value: Value) -> list[Value]:
    if isinstance(value, list):
        return value
    raise _unexpected(what, value)


def _unexpected(what: str, found: Value) -> ProtocolError:
    return ProtocolError(f"expected {what}, found {found!r:.80}")


def rows_of(what: str, encode: Callable[[T], Value], decode: Callable[[Value], T]) -> Form[list[T]]:
    """Return the form of a list of rows of one kind. `what` is how an error names them."""
    return Form(
        lambda rows: [encode(row) for row in rows],
        lambda value: [decode(row) for row in _items(what, value)],
    )


def _page_of(
    encode: Callable[[T], Value],
    decode: Callable[[Value], T],
    place: Callable[[T], Coordinate],
) -> Form[Page[T]]:
    def encode_page(page: Page[T]) -> Value:
        sent: list[Value] = [[encode(row) for row in page.rows], page.after is not None]
        return [*sent, [*page.missing]] if page.missing else sent

    def decode_page(value: Value) -> Page[T]:
        match value:
            case [list(sent), bool(more), *rest] if sent or not more:
                rows = [decode(row) for row in sent]
                missing = tuple(_as_texts(rest[0])) if rest else ()
                return Page(rows, str(place(rows[-1])) if more else None, missing)
            case _:
                raise _unexpected("a page", value)

    return Form(encode_page, decode_page)


NOTHING: Final[Form[None]] = Form(_same, _nothing)
YES: Final[Form[bool]] = Form(_same, _as_bool)
NUMBER: Final[Form[int]] = Form(_same, _as_number)
TEXT: Final[Form[str]] = Form(_same, _as_text)
OPTIONAL_TEXT: Final[Form[str | None]] = Form(_same, _as_optional_text)
ANY: Final[Form[Value]] = Form(_same, _same)
STATUS: Final[Form[Status]] = Form(
    lambda status: status.to_json(), lambda value: Status.from_json(_as_text(value))
)
TEXTS: Final[Form[list[str]]] = Form(lambda texts: [*texts], _as_texts)


# -- scrolls -------------------------------------------------------------------------------


def _as_coordinate(value: Value) -> Coordinate:
    return Coordinate.parse(_as_text(value))


def _as_listed(value: Value) -> ListedScroll:
    match value:
        case [str(place), int(size), str(line)]:
            return ListedScroll(Coordinate.parse(place), size, line)
        case _:
            raise _unexpected("a scroll of a list", value)


def _as_scroll(value: Value) -> tuple[Coordinate, str]:
    match value:
        case [str(place), str(text)]:
            return Coordinate.parse(place), text
        case _:
            raise _unexpected("a scroll", value)


def _as_steps(value: Value) -> tuple[bool, bool]:
    match value:
        case [bool(undo), bool(redo)]:
            return undo, redo
        case _:
            raise _unexpected("whether there are steps", value)


def _as_hit(value: Value) -> Hit:
    match value:
        case [str(place), str(snippet), float(score)]:
            return Hit(Coordinate.parse(place), snippet, score)
        case _:
            raise _unexpected("what was found", value)


COORDINATES: Final = _page_of(str, _as_coordinate, _same)
LISTED: Final = _page_of(
    lambda row: [str(row.coordinate), row.size, row.first_line],
    _as_listed,
    lambda row: row.coordinate,
)
SCROLLS: Final = _page_of(lambda row: [str(row[0]), row[1]], _as_scroll, lambda row: row[0])
STEPS: Final[Form[tuple[bool, bool]]] = Form(lambda steps: [*steps], _as_steps)


def _near_row(row: NearScroll) -> Value:
    return [row.distance, str(row.coordinate), row.size, row.first_line]


def _as_near(value: Value) -> NearScroll:
    match value:
        case [int(distance), str(place), int(size), str(line)]:
            return NearScroll(distance, Coordinate.parse(place), size, line)
        case _:
            raise _unexpected("a scroll and how near it is", value)


def _found(rows: Form[list[T]]) -> Form[Found[T]]:
    def decode(value: Value) -> Found[T]:
        match value:
            case [list(found), list(missing)]:
                return Found(rows.decode(found), tuple(_as_texts(missing)))
            case _:
                raise _unexpected("what was found", value)

    return Form(lambda found: [rows.encode(found.hits), [*found.missing]], decode)


FOUND: Final = _found(
    rows_of("hits", lambda hit: [str(hit.coordinate), hit.snippet, hit.score], _as_hit)
)
NEAR: Final = _found(rows_of("near scrolls", _near_row, _as_near))


# -- the past ------------------------------------------------------------------------------


def _logged_row(row: LoggedChange) -> Value:
    writers: list[Value] = [*row.writers]
    counts: list[Value] = [row.added, row.removed, row.line_number]
    return [row.time_ms, row.seen_here, writers, *counts, row.line, [*row.labels]]


def _as_logged(value: Value) -> LoggedChange:
    match value:
        case [int(ms), bool(seen), list(found), int(added), int(cut), int(number), str(line), *by]:
            labels = by[0] if by and isinstance(by[0], list) else []  # older nodes know of none
            told = tuple(map(str, labels))
            return LoggedChange(ms, seen, _writers(found), added, cut, number, line, told)
        case _:
            raise _unexpected("a change of a log", value)


def _blamed_row(line: BlamedLine) -> Value:
    return [line.text, line.writer, line.time_ms, line.seen_here, line.label]


def _as_blamed(value: Value) -> BlamedLine:
    match value:
        case [str(text), bytes() | None as writer, int() | None as time_ms, bool(seen), *by]:
            return BlamedLine(text, writer, time_ms, seen, str(by[0]) if by else "")
        case _:
            raise _unexpected("a line and its writer", value)


def _version_row(row: Version) -> Value:
    writers: list[Value] = [*row.writers]
    return [row.time_ms, row.seen_here, writers, row.size, row.added, row.removed]


def _as_version(value: Value) -> Version:
    match value:
        case [int(ms), bool(seen), list(found), int(size), int(added), int(cut)]:
            return Version(ms, seen, _writers(found), size, added, cut)
        case _:
            raise _unexpected("a version of a scroll", value)


def _writers(found: Iterable[Value]) -> tuple[bytes, ...]:
    return tuple(writer for writer in found if isinstance(writer, bytes))


def _deleted_row(row: DeletedScroll) -> Value:
    when: list[Value] = [row.time_ms, row.seen_here, row.writer]
    return [str(row.coordinate), *when, row.size, row.first_line]


def _as_deleted(value: Value) -> DeletedScroll:
    match value:
        case [str(at), int(ms), bool(seen), bytes() | None as who, int(size), str(line)]:
            return DeletedScroll(Coordinate.parse(at), ms, seen, who, size, line)
        case _:
            raise _unexpected("a deleted scroll", value)


def _as_deleted_page(value: Value) -> DeletedScrolls:
    match value:
        case [list(rows), str() | None as rest]:
            return DeletedScrolls([_as_deleted(row) for row in rows], rest)
        case _:
            raise _unexpected("a page of deleted scrolls", value)


def _as_setting(value: Value) -> HistorySetting:
    match value:
        case [str() | None as phext, str(range_), int(kept_ms)]:
            return HistorySetting(phext, CoordinateRange.parse(range_), kept_ms)
        case _:
            raise _unexpected("a setting of history", value)


LOG: Final = rows_of("a log", _logged_row, _as_logged)
BLAME: Final = rows_of("lines", _blamed_row, _as_blamed)
VERSIONS: Final = rows_of("versions", _version_row, _as_version)
DELETED: Final[Form[DeletedScrolls]] = Form(
    lambda page: [[_deleted_row(row) for row in page.found], page.rest], _as_deleted_page
)
SETTINGS: Final = rows_of(
    "settings of history", lambda row: [row.phext, str(row.range), row.kept_ms], _as_setting
)


# -- others --------------------------------------------------------------------------------


def _as_lack(value: Value) -> Lack:
    match value:
        case [bytes(peer_id), int(scrolls), str(reason), str(name), int(text_bytes)]:
            return Lack(peer_id, scrolls, reason, name, text_bytes)
        case _:
            raise _unexpected("what a peer lacks", value)


def _as_presence(value: Value) -> PeerPresence:
    match value:
        case [bytes(node_id), str(name), list(facts)]:
            return PeerPresence(node_id, name, as_facts(facts))
    raise _unexpected("what a node tells", value)


def as_facts(rows: list[Value]) -> dict[str, str | int]:
    """Return the facts that a request or an answer holds."""
    return dict(map(_as_fact, rows))


def _as_fact(row: Value) -> tuple[str, str | int]:
    match row:
        case [str(name), str() | int() as fact] if not isinstance(fact, bool):
            return name, fact
    raise _unexpected("a name, and a text or an integer", row)


def fact_rows(facts: Iterable[tuple[str, str | int]]) -> list[Value]:
    """Return facts as a request or an answer holds them."""
    return [[name, fact] for name, fact in facts]


def _change_row(change: ToldChange | None) -> Value:
    if change is None:
        return None
    missed = None if change.missed is None else str(change.missed)
    return [change.origin, change.label, missed, [_scroll_row(each) for each in change.scrolls]]


def _scroll_row(scroll: ToldScroll) -> Value:
    row: list[Value] = [str(scroll.coordinate), scroll.size]
    return row if scroll.text is None else [*row, scroll.text.old, scroll.text.new]


def _as_change(value: Value) -> ToldChange | None:
    match value:
        case None:
            return None
        case [bytes() | None as origin, str(label), str() | None as text, list(rows)]:
            missed = None if text is None else CoordinateRange.parse(text)
            return ToldChange(origin, label, missed, tuple(map(_as_told_scroll, rows)))
        case _:
            raise _unexpected("a change", value)


def _as_told_scroll(value: Value) -> ToldScroll:
    match value:
        case [str(place), int(size)]:
            return ToldScroll(Coordinate.parse(place), size)
        case [str(place), int(size), str() | None as old, str(new)]:
            return ToldScroll(Coordinate.parse(place), size, TextChange(old, new))
        case _:
            raise _unexpected("a scroll that changed", value)


def _placed_row(row: PlacedRange) -> Value:
    holders: list[Value] = [[node_id, name] for node_id, name in row.holders]
    return [str(row.range), holders]


def _as_placed(value: Value) -> PlacedRange:
    match value:
        case [str(range_), list(holders)]:
            return PlacedRange(CoordinateRange.parse(range_), tuple(map(_as_holder, holders)))
        case _:
            raise _unexpected("a range and its holders", value)


def _as_holder(value: Value) -> tuple[bytes, str]:
    match value:
        case [bytes(node_id), str(name)]:
            return node_id, name
        case _:
            raise _unexpected("a holder", value)


PLACED: Final = rows_of("ranges and their holders", _placed_row, _as_placed)
LACKS: Final = rows_of(
    "what peers lack",
    lambda lack: [lack.peer_id, lack.scrolls, lack.reason, lack.name, lack.text_bytes],
    _as_lack,
)
PRESENCE: Final = rows_of(
    "what nodes tell",
    lambda peer: [peer.node_id, peer.name, fact_rows(peer.facts.items())],
    _as_presence,
)
FACTS: Final = rows_of("facts", list[Value], _as_fact)
CHANGE: Final[Form[ToldChange | None]] = Form(_change_row, _as_change)
