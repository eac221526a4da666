"""Operations that another process on the same folder asks of the node that owns it.

The owner performs them under its own client ids: many short-lived processes with ids of their
own would make every state vector grow. Requests and answers are CBOR arrays in frames over a
Unix socket in the data folder, readable by its owner alone:

* `[number, received, operation, argument, ...]`: numbers ascend; all answers up to `received`
  have come;
* `[number, "ok", value]` or `[number, "error", kind, message, line, ...]`, in any order; the lines
  are what `NotSyncedError` says of single peers.

`["as", label, operation, ...]` is an operation by a writer of that label. Requests of one
connection are carried out in order. Reads are answered at once, changes when they are on the
disk; what is held (`Session.hold`) lasts until `cancel, number`, or as long as the connection.
Whoever begins with `attach, id` gets receipts: what became of its changes is
stored with them, so that after the owner's death the next owner knows which of the unanswered
requests were carried out, and repeats the answer instead of the change.

`perform` is most of the vocabulary, `files.desk` what is about bound directories; a process that
finds no running node opens the folder and performs the same operations by itself.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Final, Protocol, TypeAlias

import cbor2
import trio

from phextsync import errors
from phextsync.boundaries import Boundary, one_line
from phextsync.crdt import check_text
from phextsync.errors import (
    AnswerLostError,
    ConflictError,
    CoordinateError,
    LinkError,
    NotSyncedError,
    PhextsyncError,
    ProtocolError,
    StoreError,
    TextError,
)
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.phext_names import is_reserved
from phextsync.replica.changes import Change, TextChange, writing_as
from phextsync.replica.history_keeper import HistorySetting
from phextsync.replica.past import BlamedLine, DeletedScroll, LoggedChange, Past, Version
from phextsync.replica.replicas import CLIENTS, Replica, ReplicaSet
from phextsync.search import Hit
from phextsync.streams import ChangeStream
from phextsync.sync.codec import load_array
from phextsync.sync.lacks import Lack
from phextsync.sync.presence import PresenceBoard
from phextsync.sync.reconcile import scope_digest
from phextsync.transport import FrameChannel, close_in_children

SOCKET_NAME: Final = "node.sock"
FRAME_BYTES_MAX: Final = 128 << 20
"""One answer may hold one whole scroll; only processes of the folder's owner get here."""
PAGE_ITEMS: Final = 2000
PAGE_BYTES: Final = 256 << 10

_SUMMARY_CHARACTERS: Final = 60
_CONNECT_TIMEOUT_S: Final = 5.0
_OUTBOX_BYTES_MAX: Final = 8 << 20  # of answers that a process does not take
_KEPT_ANSWER_BYTES: Final = 4096  # a longer one is lost when the owner dies before it is taken
_RETURN_S: Final = 30.0  # attached processes are back at a new owner in about a second
_CHANGES: Final = (
    "set",
    "edit_from",
    "replace",
    "append",
    "append_line",
    "splice",
    "remove",
    "pop",
    "setdefault",
    "import",
    "clear",
    "undo",
    "redo",
    "batch",
    "keep_history",
)
_ABOUT_FILES: Final = ("find", "find_range", "names", "conflicts")
_CHANGES_OF_FILES: Final = ("name_file", "settle_conflict", "forget_conflict")
_LOOKS_BACK: Final = ("log", "blame", "show", "versions", "undeletable", "deleted")
_WAITS: Final = ("durable", "synced", "search", "next", "keep_history", *_LOOKS_BACK)
_HELD: Final = ("watch", "track", "tell", "again")
_LOOKS_BACK_MAX: Final = 2  # at a time; the threads of commits are not theirs
_DEPTH_MAX: Final = 5  # of arrays, as in a batch of imports
_HEAD_BYTES: Final = 9
_REQUEST_BYTES_MAX: Final = FRAME_BYTES_MAX - 64  # the rest is for its numbers
_AT: Final = ("a coordinate", str)
_RANGE: Final = ("a range", str)
_TEXT: Final = ("a text", str)
_OFFSET: Final = ("an offset in characters", int)
_SECONDS: Final = ("seconds or None", int | float | None)
_CALLERS_OWN: Final = (PhextsyncError, IndexError, KeyError)
_HELD_MAX: Final = 1000  # by one process: each may keep a document open
_STOPPED: Final = "the node that owns this folder has stopped"
_FACTS: Final = 0  # the number under which a session holds its facts; requests begin at 1

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | None"
Answer: TypeAlias = "Value | Exception"


def perform(replicas: ReplicaSet, request: list[Value]) -> Value:
    """Carry out one request and return its answer.

    | request | answer |
    | --- | --- |
    | get, phext, coordinate | the text, or null |
    | size, phext, coordinate | bytes of the text, 0 when there is none |
    | count, phext, range | how many scrolls have text |
    | position, phext, coordinate, offset, after | a position |
    | offset, phext, coordinate, position | where it is now |
    | set, phext, coordinate, text, seen? | null |
    | append, phext, coordinate, text | null |
    | append_line, phext, coordinate, text | null; the last line gets an end first, if it has none |
    | edit_from, phext, coordinate, base, text | null |
    | replace, phext, coordinate, old, new, count or null | null |
    | splice, phext, coordinate, start, stop, text, seen | null |
    | remove, phext, coordinate | whether there was a text |
    | pop, phext, coordinate | the text that was removed, or null |
    | setdefault, phext, coordinate, text | the text that is there now |
    | clear, phext, range | null; one commit, one event |
    | undo, phext, coordinate | whether the writer had a step to take back |
    | redo, phext, coordinate | whether it had one to do again |
    | steps, phext, coordinate | whether the writer has a step to undo, and one to redo |
    | import, phext, keep, scrolls | how many of [coordinate, text] were taken |
    | batch, phext, changes | null; one commit, one event, and an error ends it where it happens |
    | coordinates, phext, range, after | a page of coordinates, and whether more come |
    | list, phext, range, after | a page of [coordinate, bytes, first line], and whether more come |
    | read, phext, range, after | a page of [coordinate, text], and whether more come |
    | log, phext, coordinate, last or null | changes: the fields of `LoggedChange` |
    | blame, phext, coordinate | lines: the fields of `BlamedLine` |
    | show, phext, coordinate, time in ms | the text of then |
    | versions, phext, coordinate, last or null | the fields of `Version` of each |
    | undeletable, phext, range | fields of `DeletedScroll`; the rest of the range, or null |
    | deleted, phext, coordinate | the text before the scroll was last emptied |
    | history | how long history is kept: [phext or null, range, ms] |
    | keep_history, ms | null |
    | keep_history, ms or null, phext, range, unless_set | null |

    `after` is a coordinate or an empty text. `seen` is the `digest` of the text that the caller
    saw, or empty: ConflictError when the scroll has another. Other errors are those of `Replica`.
    """
    match request:
        case ["get", str(phext), str(coordinate)]:
            return replicas.phext(phext).get(coordinate)
        case ["size", str(phext), str(coordinate)]:
            return replicas.phext(phext).size(coordinate)
        case ["position", str(phext), str(coordinate), int(offset), bool(after)]:
            return replicas.phext(phext).position(coordinate, offset, after=after)
        case ["offset", str(phext), str(coordinate), str(position)]:
            return replicas.phext(phext).offset(coordinate, position)
        case ["steps", str(phext), str(coordinate)]:
            with replicas.phext(phext).history(coordinate) as history:
                return [history.can_undo, history.can_redo]
        case ["count", str(phext), str(range_)]:
            return replicas.phext(phext).count(range_)
        case ["coordinates", str(phext), str(range_), str(after)]:
            return _coordinates(replicas.phext(phext), rest_of(range_, after))
        case ["list", str(phext), str(range_), str(after)]:
            return _list(replicas.phext(phext), rest_of(range_, after))
        case ["read", str(phext), str(range_), str(after)]:
            return _read(replicas.phext(phext), rest_of(range_, after))
        case [str(operation), *_] if operation in _LOOKS_BACK:
            return look_back(replicas, request)()
        case ["history"]:
            return [[row.phext, str(row.range), row.kept_ms] for row in replicas.history_settings()]
        case ["keep_history", int(kept_ms)]:
            replicas.keep_history(kept_ms)
            return None
        case ["keep_history", int() | None as ms, str(phext), str(range_), bool(unless_set)]:
            replicas.keep_history(ms, phext, range_, unless_set=unless_set)
            return None
        case [str(operation), str(phext), *arguments] if operation in _CHANGES:
            if is_reserved(phext):
                raise PhextsyncError(
                    f"{phext}: phexts whose names begin with a dot are the library's own"
                )
            return _change(replicas.phext(phext), operation, arguments)
        case _:
            raise ProtocolError(f"expected an operation, found {request[:2]!r:.80}")


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
        case ["undeletable", str(phext), str(range_)]:
            pasts, rest = replicas.phext(phext).emptied(CoordinateRange.parse(range_))
            return partial(_undeletable, pasts, rest)
        case _:
            raise ProtocolError(f"expected a look at the past, found {request!r:.80}")


def _log(past: Past, last: int | None) -> Value:
    return [_plain_change(row) for row in past.log(last)]


def _blame(past: Past) -> Value:
    return [[line.text, line.writer, line.time_ms, line.seen_here] for line in past.blame()]


def _versions(past: Past, last: int | None) -> Value:
    return [
        [row.time_ms, row.seen_here, [*row.writers], row.size, row.added, row.removed]
        for row in past.versions(last)
    ]


def _undeletable(pasts: list[Past], rest: CoordinateRange | None) -> Value:
    rows: list[Value] = []
    for past in pasts:
        found = past.deletion()
        if found is not None:
            row = found[0]
            when: list[Value] = [row.time_ms, row.seen_here, row.writer]
            rows.append([str(row.coordinate), *when, row.size, row.first_line])
    return [rows, None if rest is None else str(rest)]


def _plain_change(row: LoggedChange) -> Value:
    writers: list[Value] = [*row.writers]
    return [row.time_ms, row.seen_here, writers, row.added, row.removed, row.line_number, row.line]


def logged_changes(answer: Value) -> list[LoggedChange]:
    """Return what a `log` was answered with."""
    rows = []
    for row in answer if isinstance(answer, list) else []:
        match row:
            case [int(ms), bool(seen), list(found), int(added), int(cut), int(number), str(line)]:
                writers = tuple(writer for writer in found if isinstance(writer, bytes))
                rows.append(LoggedChange(ms, seen, writers, added, cut, number, line))
            case _:
                raise ProtocolError(f"expected a change of a log, found {row!r:.80}")
    return rows


def blamed_lines(answer: Value) -> list[BlamedLine]:
    """Return what a `blame` was answered with."""
    lines = []
    for row in answer if isinstance(answer, list) else []:
        match row:
            case [str(text), bytes() | None as writer, int() | None as time_ms, bool(seen)]:
                lines.append(BlamedLine(text, writer, time_ms, seen))
            case _:
                raise ProtocolError(f"expected a line and its writer, found {row!r:.80}")
    return lines


def versions(answer: Value) -> list[Version]:
    """Return what a `versions` was answered with."""
    rows = []
    for row in answer if isinstance(answer, list) else []:
        match row:
            case [int(ms), bool(seen), list(found), int(size), int(added), int(cut)]:
                writers = tuple(writer for writer in found if isinstance(writer, bytes))
                rows.append(Version(ms, seen, writers, size, added, cut))
            case _:
                raise ProtocolError(f"expected a version of a scroll, found {row!r:.80}")
    return rows


def deleted_scrolls(answer: Value) -> tuple[list[DeletedScroll], str | None]:
    """Return what an `undeletable` was answered with: scrolls, and the range to go on with."""
    match answer:
        case [list(page), str() | None as rest]:
            return [_deleted_scroll(row) for row in page], rest
        case _:
            raise ProtocolError(f"expected a page of deleted scrolls, found {answer!r:.80}")


def _deleted_scroll(row: Value) -> DeletedScroll:
    match row:
        case [str(at), int(ms), bool(seen), bytes() | None as who, int(size), str(line)]:
            return DeletedScroll(Coordinate.parse(at), ms, seen, who, size, line)
        case _:
            raise ProtocolError(f"expected a deleted scroll, found {row!r:.80}")


def history_settings(answer: Value) -> list[HistorySetting]:
    """Return what a `history` was answered with."""
    rows = []
    for row in answer if isinstance(answer, list) else []:
        match row:
            case [str() | None as phext, str(range_), int(kept_ms)]:
                rows.append(HistorySetting(phext, CoordinateRange.parse(range_), kept_ms))
            case _:
                raise ProtocolError(f"expected a setting of history, found {row!r:.80}")
    return rows


def digest(text: str) -> bytes:
    """Return what `seen` is for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _change(replica: Replica, operation: str, arguments: list[Value]) -> Value:
    match [operation, *arguments]:
        case ["set", str(coordinate), str(text)]:
            replica.edit(coordinate, text)
        case ["set", str(coordinate), str(text), bytes(seen)]:
            _check_seen(replica, coordinate, seen)
            replica.edit(coordinate, text)
        case ["append", str(coordinate), str(text)]:
            replica.append(coordinate, text)
        case ["append_line", str(coordinate), str(text)]:
            before = replica.get(coordinate, "")
            is_open = bool(before) and not before.endswith("\n")
            replica.append(coordinate, f"\n{text}" if is_open else text)
        case ["edit_from", str(coordinate), str(base), str(text)]:
            replica.edit_from(coordinate, base, text)
        case ["replace", str(coordinate), str(old), str(new), int() | None as count]:
            replica.replace(coordinate, old, new, count)
        case ["splice", str(coordinate), int(start), int(stop), str(text), bytes(seen)]:
            _check_seen(replica, coordinate, seen)
            check_text(text)  # before anything is deleted
            with replica.batch():
                replica.delete(coordinate, start, stop)
                replica.insert(coordinate, start, text)
        case ["remove", str(coordinate)]:
            return _pop(replica, coordinate) is not None
        case ["pop", str(coordinate)]:
            return _pop(replica, coordinate)
        case ["setdefault", str(coordinate), str(text)]:
            return replica.setdefault(coordinate, text)
        case ["clear", str(range_)]:
            replica.clear(range_)
        case ["undo", str(coordinate)]:
            with replica.history(coordinate) as history:
                return history.undo()
        case ["redo", str(coordinate)]:
            with replica.history(coordinate) as history:
                return history.redo()
        case ["import", bool(keep), list(scrolls)]:
            return _import(replica, scrolls, keep=keep)
        case ["batch", list(changes)]:
            with replica.batch():
                for change in changes:
                    match change:
                        case [str(name), *rest] if name in _CHANGES and name != "batch":
                            _change(replica, name, rest)
                        case _:
                            raise ProtocolError(f"expected a change, found {change!r:.60}")
        case _:
            raise ProtocolError(f"expected the arguments of {operation}, found {arguments!r:.80}")
    return None


def _check_seen(replica: Replica, coordinate: str, seen: bytes) -> None:
    if seen and digest(replica.get(coordinate, "")) != seen:
        raise ConflictError(f"{replica.name} {coordinate} has changed since it was read")


def _pop(replica: Replica, coordinate: str) -> str | None:
    text = replica.get(coordinate)
    if text is not None:
        replica.clear_scroll(coordinate)
    return text


def summarize(replicas: ReplicaSet) -> list[dict[str, str | int]]:
    """Return name, scrolls, bytes of text and fingerprint of each phext, for people to read."""
    rows: list[dict[str, str | int]] = []
    for name in replicas.names():
        if name != CLIENTS:
            replica = replicas.phext(name)
            digest = scope_digest(replica.index, [EVERYTHING])[1]
            rows.append(
                {
                    "name": name,
                    "scrolls": len(replica),
                    "bytes": replica.index.text_bytes,
                    "fingerprint": digest.hex(),
                }
            )
    return rows


def is_change(request: list[Value]) -> bool:
    """Whether the operation writes, so that its answer has to wait for the disk."""
    return operation_of(request) in (*_CHANGES, *_CHANGES_OF_FILES)


def is_about_files(request: list[Value]) -> bool:
    """Whether the request is one for `Directories`."""
    return request[0] in _ABOUT_FILES or request[0] in _CHANGES_OF_FILES


def is_held(request: list[Value]) -> bool:
    """Whether what the operation begins lasts until it is dropped: see `Session.hold`."""
    return request[0] in _HELD


def operation_of(request: list[Value]) -> Value:
    """Return the name of the operation, whoever asks for it."""
    return request[2] if request[0] == "as" and len(request) > 2 else request[0]


def takes_time(request: list[Value]) -> bool:
    """Whether the operation waits, so that others are answered before it: see `Session.wait`."""
    return operation_of(request) in _WAITS


def check_request(request: list[Value]) -> None:
    """PhextsyncError for what cannot be sent, or not be read at the other end: where the caller
    is, since what fails on the way there or back is of no one request."""
    size = _size(request, _DEPTH_MAX)
    if size > _REQUEST_BYTES_MAX:
        raise PhextsyncError(
            f"expected a request of at most {_REQUEST_BYTES_MAX} bytes, found {size}"
        )


_TAKES: Final[dict[str, tuple[tuple[str, type | UnionType], ...]]] = {
    "set": (_AT, _TEXT),
    "append": (_AT, _TEXT),
    "append_line": (_AT, _TEXT),
    "setdefault": (_AT, _TEXT),
    "edit_from": (_AT, _TEXT, _TEXT),
    "replace": (_AT, _TEXT, _TEXT, ("a number or None", int | None)),
    "splice": (_AT, _OFFSET, _OFFSET, _TEXT),
    "position": (_AT, _OFFSET, ("True or False", bool)),
    "offset": (_AT, ("a position", str)),
    "log": (_AT, ("a number or None", int | None)),
    "versions": (_AT, ("a number or None", int | None)),
    "show": (_AT, ("a time in milliseconds", int)),
    "synced": (_RANGE, ("a number of peers or None", int | None), _SECONDS),
    "search": (_RANGE, ("words", str), ("a number", int)),
}


def check_arguments(request: list[Value]) -> None:
    """TypeError when an argument is of another type than its operation takes: where the caller
    is, who passed it. Coordinates and ranges are texts by then."""
    match request[2:] if request[:1] == ["as"] else request:
        case ["import", _, _, list(scrolls)]:
            for scroll in scrolls:
                match scroll:
                    case [_, text] if not isinstance(text, str):
                        raise _other_type("a text", text)
        case ["batch", phext, list(changes)]:
            for change in changes:
                match change:
                    case [operation, *arguments]:
                        check_arguments([operation, phext, *arguments])
        case [str(operation), phext, *arguments] if operation in _TAKES:
            if not isinstance(phext, str):
                raise _other_type("the name of a phext", phext)
            for (what, kind), value in zip(_TAKES[operation], arguments, strict=False):
                is_bool = isinstance(value, bool) and kind is not bool
                if is_bool or not isinstance(value, kind):
                    raise _other_type(what, value)


def _other_type(what: str, value: Value) -> TypeError:
    return TypeError(f"expected {what}, found {type(value).__name__}")


def _size(value: Value, depth: int) -> int:
    """Return at most how many bytes a value takes that may be sent."""
    match value:
        case str():
            try:
                return _HEAD_BYTES + len(value if value.isascii() else value.encode())
            except UnicodeEncodeError as error:
                found = f"a lone surrogate (U+{ord(value[error.start]):04X})"
                raise TextError(
                    f"expected text in UTF-8, found {found} at offset {error.start}"
                ) from error
        case bytes():
            return _HEAD_BYTES + len(value)
        case None | float():
            return _HEAD_BYTES
        case int() if -(1 << 64) <= value < 1 << 64:
            return _HEAD_BYTES
        case list() if depth > 0:
            return _HEAD_BYTES + sum(_size(item, depth - 1) for item in value)
        case _:
            found = type(value).__name__
            raise PhextsyncError(f"expected texts, bytes and numbers of 64 bits, found {found}")


def hit_rows(hits: list[Hit]) -> Value:
    """Return what a search found as [coordinate, snippet, score], the best first."""
    return [[str(hit.coordinate), hit.snippet, hit.score] for hit in hits]


def rest_of(range_: str, after: str) -> CoordinateRange | None:
    """Return what is left of a range behind `after`; None when that is nothing."""
    whole = CoordinateRange.parse(range_)
    if not after:
        return whole
    lower = Coordinate.parse(after).successor()
    return None if lower is None else whole.intersect(CoordinateRange(lower, None))


def _coordinates(replica: Replica, range_: CoordinateRange | None) -> Value:
    page: list[Value] = []
    for coordinate in () if range_ is None else replica.coordinates(range_):
        if len(page) == PAGE_ITEMS:
            return [page, True]
        page.append(str(coordinate))
    return [page, False]


def _list(replica: Replica, range_: CoordinateRange | None) -> Value:
    def row(coordinate: Coordinate, text: str) -> list[Value]:
        line = text[: 4 * _SUMMARY_CHARACTERS].strip().split("\n", 1)[0][:_SUMMARY_CHARACTERS]
        return [str(coordinate), replica.size(coordinate), line]

    return _page(replica, range_, row, bytes_max=None)


def _read(replica: Replica, range_: CoordinateRange | None) -> Value:
    return _page(replica, range_, lambda place, text: [str(place), text], bytes_max=PAGE_BYTES)


def _page(
    replica: Replica,
    range_: CoordinateRange | None,
    row: Callable[[Coordinate, str], list[Value]],
    *,
    bytes_max: int | None,
) -> Value:
    """Return a page of rows of scrolls, and whether more come. To read one that is damaged takes it
    out of the index, which must not happen while that is iterated over."""
    page: list[Value] = []
    size = 0
    while range_ is not None:
        places = list(islice(replica.coordinates(range_), PAGE_ITEMS + 1))
        for place in places[:PAGE_ITEMS]:
            if bytes_max is not None and size >= bytes_max:
                return [page, True]
            text = replica.read(place)
            if text:
                page.append(row(place, text))
                size += len(text)
        if page or len(places) <= PAGE_ITEMS:  # else all of them were damaged, and are gone
            return [page, len(places) > PAGE_ITEMS]
    return [page, False]


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


# -- the owner's side ----------------------------------------------------------------------


class Directories(Protocol):
    """What knows of the bound directories of a folder: see `files.desk`."""

    def ask(self, request: list[Value]) -> Value: ...

    def status(self) -> list[dict[str, object]]: ...

    def taking_up(self) -> list[tuple[str, int, int]]: ...


class Served(Protocol):
    """What a desk needs of the node."""

    @property
    def directories(self) -> Directories | None: ...

    @property
    def replicas(self) -> ReplicaSet: ...

    @property
    def presence(self) -> PresenceBoard: ...

    @property
    def boundary(self) -> Boundary: ...

    def status_json(self) -> str: ...

    def reload(self) -> None: ...

    def lacking(self, phext: str, range_: CoordinateRange) -> list[Lack]: ...

    async def durable(self) -> None: ...

    async def synced(
        self,
        phext: str,
        range_: CoordinateRange,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None: ...

    async def search(
        self, words: str, phext: str, range_: CoordinateRange, *, limit: int
    ) -> list[Hit]: ...


@dataclass(slots=True)
class _Receipt:
    """What became of the changes of one process: the number of the last that was carried out,
    and the answers that it may not have yet."""

    performed: int = 0
    answers: dict[int, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        return cbor2.dumps([self.performed, [list(pair) for pair in self.answers.items()]])

    @staticmethod
    def decode(data: bytes) -> "_Receipt":
        performed, answers = cbor2.loads(data)
        return _Receipt(performed, dict(answers))


class Desk:
    """Carries out requests for a node: those of its own process and those of others."""

    def __init__(self, node: Served) -> None:
        self._node = node
        self.replicas = node.replicas
        stored = node.replicas.store.receipts()
        self._receipts = {client: _Receipt.decode(data) for client, data in stored.items()}
        self._awaited = set(self._receipts)
        self._looking_back = trio.CapacityLimiter(_LOOKS_BACK_MAX)
        self.boundary = node.boundary

    @property
    def presence(self) -> PresenceBoard:
        """What this node and the others tell of themselves."""
        return self._node.presence

    def ask(self, request: list[Value], client: bytes = b"") -> Value:
        """Answer one request of a process that needs no waiting."""
        label = ""
        if request[0] == "as":
            match request:
                case ["as", str(label), *request]:
                    pass
        with writing_as(label, client):
            return self._ask(request)

    def _ask(self, request: list[Value]) -> Value:
        match request:
            case ["status"]:
                return self._node.status_json()
            case ["reload"]:  # the files that say who belongs to the mesh
                self._node.reload()
                return None
            case ["phexts"]:
                return [name for name in self.replicas.names() if name != CLIENTS]
            case ["lacking", str(phext), str(range_)]:
                lacks = self._node.lacking(phext, CoordinateRange.parse(range_))
                return [[lack.peer_id, lack.scrolls, lack.reason] for lack in lacks]
            case ["presence"]:
                return [
                    [peer.node_id, peer.name, [[*fact] for fact in peer.facts.items()]]
                    for peer in self.presence.peers()
                ]
            case _ if is_about_files(request):
                return self._ask_about_files(request)
            case _:
                return perform(self.replicas, request)

    def _ask_about_files(self, request: list[Value]) -> Value:
        if self._node.directories is not None:
            return self._node.directories.ask(request)
        match request:
            case ["names", str(), list(places)]:
                return [None] * len(places)
            case ["conflicts", *_]:
                return []
            case _:
                raise CoordinateError(
                    "expected a coordinate such as 1.5.2/3.7.3/9.1.1; the process that has this "
                    "folder knows of no directories"
                )

    async def wait(self, request: list[Value]) -> Value:
        """Answer a request that needs waiting: `durable`, `synced, phext, range, peers, seconds?`,
        `search, phext, range, words, limit`, `keep_history, ms`, or what `look_back` knows."""
        match request:
            case ["durable"]:
                await self._node.durable()
            case ["keep_history", *_]:
                perform(self.replicas, request)
                await self._node.durable()
                self.replicas.history.check()
            case ["synced", str(phext), str(range_), int() | None as peers, *rest]:
                await self._synced(phext, CoordinateRange.parse(range_), peers, rest)
            case ["search", str(phext), str(range_), str(words), int(limit)]:
                within = CoordinateRange.parse(range_)
                return hit_rows(await self._node.search(words, phext, within, limit=limit))
            case [str(operation), *_] if operation in _LOOKS_BACK:
                look = look_back(self.replicas, request)
                return await trio.to_thread.run_sync(
                    look, abandon_on_cancel=True, limiter=self._looking_back
                )
            case _:
                raise ProtocolError(f"expected something to wait for, found {request!r:.80}")
        return None

    async def _synced(
        self, phext: str, range_: CoordinateRange, peers: int | None, rest: list[Value]
    ) -> None:
        match rest:
            case [] | [None]:
                await self._node.synced(phext, range_, peers=peers)
            case [int() | float() as timeout_s]:
                await self._node.synced(phext, range_, peers=peers, timeout_s=timeout_s)
            case _:
                raise ProtocolError(f"expected seconds, found {rest!r:.60}")

    def answer(self, client: bytes, number: int, received: int, request: list[Value]) -> bytes:
        """Return the encoded answer to a request, which is carried out once even if it comes
        again from the same client."""
        if not client or not is_change(request):
            return self._encoded(number, request, client)
        receipt = self._receipts.setdefault(client, _Receipt())
        for old in [known for known in receipt.answers if known <= received]:
            del receipt.answers[old]
        if number <= receipt.performed:
            return receipt.answers.get(number) or encode_error(number, _lost(request))
        answer = self._encoded(number, request, client)
        receipt.performed = number
        is_short = len(answer) <= _KEPT_ANSWER_BYTES
        receipt.answers[number] = answer if is_short else encode_error(number, _lost(request))
        self.replicas.durability.give_receipt(client, receipt.encode)
        return answer

    def _encoded(self, number: int, request: list[Value], client: bytes) -> bytes:
        with self.answering(number, request) as failed:
            return cbor2.dumps([number, "ok", self.ask(request, client)])
        return failed[0]

    @contextmanager
    def answering(self, number: int, request: list[Value]) -> Iterator[list[bytes]]:
        """Put into a list what to answer when the block fails. What is not the caller's own error
        is one of this node: it is told here too, and ends neither the process nor the node."""
        failed: list[bytes] = []
        with self.boundary.around(f"the request {operation_of(request)!r:.40}") as outcome:
            try:
                yield failed
            except _CALLERS_OWN as error:
                failed.append(encode_error(number, error))
        if outcome.error is not None:
            text = f"the node could not carry it out: {one_line(outcome.error)}"
            failed.append(encode_error(number, PhextsyncError(text)))

    def arrived(self, client: bytes) -> None:
        """A process is here, perhaps from another owner."""
        self._awaited.discard(client)

    def left(self, client: bytes) -> None:
        """A process is gone and will not ask again for what became of its requests."""
        if self._receipts.pop(client, None) is not None:
            self.replicas.durability.give_receipt(client, bytes)

    async def forget_missing(self) -> None:
        """Drop the receipts of processes that did not come over from the last owner."""
        await trio.sleep(_RETURN_S)
        for client in sorted(self._awaited):
            self.left(client)
        self._awaited.clear()


class Session:
    """One process at a desk: the changes that it waits for, the steps that it may undo, the facts
    that it tells. They go with it."""

    def __init__(self, desk: Desk, client: bytes) -> None:
        self.desk = desk
        self.client = client
        self._streams: dict[int, ChangeStream] = {}
        self._ends: dict[int, Callable[[], None]] = {}

    def hold(self, number: int, request: list[Value]) -> None:
        """Begin what lasts until it is dropped:

        * `watch, phext, range, texts`: `next, number` gives its changes from now on;
        * `track, phext, coordinate, label`: the steps of that writer can be undone from now on;
        * `tell, facts`: this process publishes them in place of those before.

        `again, ...` says that another owner held it before; what it knew is lost with it.
        """
        replicas = self.desk.replicas
        if len(self._ends) >= _HELD_MAX:
            raise PhextsyncError(f"expected a process to hold at most {_HELD_MAX} such requests")
        match request[1:] if request[0] == "again" else request:
            case ["watch", str(phext), str(range_), bool(texts)]:
                feed = replicas.phext(phext).feed(range_, texts=texts)
                if request[0] == "again":
                    feed.miss()
                stream = self._streams[number] = ChangeStream(feed)
                self._ends[number] = stream.close
            case ["track", str(phext), str(coordinate), str(label)]:
                with writing_as(label, self.client):
                    self._ends[number] = replicas.phext(phext).history(coordinate).close
            case ["tell", list(facts)]:
                self.desk.presence.publish(as_facts(facts), self.client)
                self._ends[_FACTS] = lambda: self.desk.presence.publish({}, self.client)
            case _:
                raise ProtocolError(f"expected something to hold, found {request!r:.80}")

    def drop(self, number: int) -> None:
        """End what was held under a number, if anything was."""
        self._streams.pop(number, None)
        self._ends.pop(number, _nothing)()

    async def wait(self, request: list[Value]) -> Value:
        """Answer a request that needs waiting: those of `Desk.wait`, or `next, number`, which
        gives [origin, label, range that was missed, scrolls], a scroll being coordinate, bytes
        and, if it was asked for, the old and the new text; null when that watch has ended."""
        match request:
            case ["next", int(number)]:
                return await self._next(number)
            case ["as", str(), *unsigned]:  # it does not matter who waits
                return await self.desk.wait(unsigned)
            case _:
                return await self.desk.wait(request)

    async def _next(self, number: int) -> Value:
        if number not in self._streams:
            return None
        try:
            change = await self._streams[number].receive()
        except trio.ClosedResourceError:
            return None
        replica = self.desk.replicas.phext(change.phext)
        scrolls: list[Value] = [[str(place), replica.size(place)] for place in change.coordinates]
        if change.texts:
            scrolls = [
                [str(place), replica.size(place), text.old, text.new]
                for place, text in zip(change.coordinates, change.texts, strict=True)
            ]
        missed = None if change.missed is None else str(change.missed)
        return [change.origin, change.label, missed, scrolls]

    def close(self) -> None:
        """The process is gone: end all that is held, even if an end fails."""
        with ExitStack() as stack:
            for number in tuple(self._ends):
                stack.callback(self.drop, number)


def _nothing() -> None:
    """Nothing was held."""


def as_facts(rows: list[Value]) -> dict[str, str | int]:
    """Return the facts that a request or an answer holds."""
    facts: dict[str, str | int] = {}
    for row in rows:
        match row:
            case [str(name), str() | int() as fact] if not isinstance(fact, bool):
                facts[name] = fact
            case _:
                raise ProtocolError(f"expected a name, and a text or an integer, found {row!r:.60}")
    return facts


def as_change(phext: str, answer: Value) -> Change:
    """Return the change that `next` was answered with."""
    match answer:
        case [bytes() | None as origin, str(label), str() | None as text, list(rows)]:
            missed = None if text is None else CoordinateRange.parse(text)
        case _:
            raise ProtocolError(f"expected a change, found {answer!r:.80}")
    coordinates, texts = [], []
    for row in rows:
        match row:
            case [str(place), int()]:
                coordinates.append(Coordinate.parse(place))
            case [str(place), int(), str() | None as old, str(new)]:
                coordinates.append(Coordinate.parse(place))
                texts.append(TextChange(old, new))
            case _:
                raise ProtocolError(f"expected a scroll that changed, found {row!r:.80}")
    return Change(phext, tuple(coordinates), origin, label, tuple(texts), missed)


def _lost(request: list[Value]) -> AnswerLostError:
    return AnswerLostError(
        f"{operation_of(request)!r} was carried out once; "
        "its answer was lost with the process that did it"
    )


def encode_error(number: int, error: Exception) -> bytes:
    """Return the answer that says that a request failed."""
    message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    sendable = message.encode("utf-8", "backslashreplace").decode()  # paths need not be UTF-8
    lacks = error.lacks if isinstance(error, NotSyncedError) else ()
    return cbor2.dumps([number, "error", type(error).__name__, sendable, *lacks])


async def serve(
    folder: Path,
    desk: Desk,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on the folder's socket until cancelled."""
    with _bound_socket(folder) as listening:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.forget_missing)
            listener = trio.SocketListener(listening)
            close_in_children(listener)
            task_status.started()
            await desk.boundary.serve_listeners(
                [listener], partial(serve_one, desk), part=lambda _: "the connection of a process"
            )


async def serve_one(desk: Desk, stream: trio.abc.Stream) -> None:
    """Answer the requests that come over one stream until it ends."""
    async with FrameChannel(stream, FRAME_BYTES_MAX) as channel:
        await _Connection(desk, channel).run()


class _Connection:
    """One process at the desk."""

    def __init__(self, desk: Desk, channel: FrameChannel) -> None:
        self._desk = desk
        self._channel = channel
        self._client = b""
        self._session = Session(desk, os.urandom(16))
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._undurable: list[tuple[int, bytes]] = []
        self._has_answers = trio.Event()
        self._has_undurable = trio.Event()
        self._has_room = trio.Event()
        self._tasks: dict[int, trio.CancelScope] = {}

    async def run(self) -> None:
        """Answer until the other side hangs up or speaks nonsense, or an error of this node."""
        try:
            with self._desk.boundary.around("the connection of a process"):
                await self._answer_all()
            self._desk.left(self._client)
        finally:
            self._session.close()

    async def _answer_all(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                nursery.start_soon(self._settle)
                await self._receive(nursery)
                nursery.cancel_scope.cancel()
        except* LinkError:
            pass  # it hung up

    async def _receive(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                for frame in await self._channel.receive_many():
                    self._take(frame, nursery)
                await self._room()
        except trio.EndOfChannel:
            return

    async def _room(self) -> None:
        """Wait until the other side has taken most of its answers."""
        while self._outbox_bytes > _OUTBOX_BYTES_MAX:
            await self._has_room.wait()

    def _take(self, frame: bytes, nursery: trio.Nursery) -> None:
        match plain(load_array(frame)):
            case [int(number), int(), "attach", bytes(client)]:
                self._client = client
                self._session.close()
                self._session = Session(self._desk, client)
                self._desk.arrived(client)
                self._put(cbor2.dumps([number, "ok", None]))
            case [int(), int(), "cancel", int(number)]:
                if number in self._tasks:
                    self._tasks.pop(number).cancel()
                self._session.drop(number)
            case [int(number), int(), *request] if request and is_held(request):
                self._put(self._hold(number, request))
            case [int(number), int(), *request] if request and takes_time(request):
                nursery.start_soon(self._wait, number, request)
            case [int(number), int(received), *request] if request:
                answer = self._desk.answer(self._client, number, received, request)
                if is_change(request):
                    self._undurable.append((number, answer))
                    self._has_undurable.set()
                else:
                    self._put(answer)
            case other:
                raise ProtocolError(f"expected a request, found {other!r:.80}")

    def _hold(self, number: int, request: list[Value]) -> bytes:
        with self._desk.answering(number, request) as failed:
            self._session.hold(number, request)
            return cbor2.dumps([number, "ok", None])
        return failed[0]

    def _put(self, answer: bytes) -> None:
        self._outbox.append(answer)
        self._outbox_bytes += len(answer)
        self._has_answers.set()

    async def _send(self) -> None:
        while True:
            await self._has_answers.wait()
            self._has_answers = trio.Event()
            answers, self._outbox = self._outbox, []
            await self._channel.send_many(answers)
            self._outbox_bytes -= sum(map(len, answers))
            self._has_room.set()
            self._has_room = trio.Event()

    async def _settle(self) -> None:
        """Answer changes when they are on the disk."""
        while True:
            await self._has_undurable.wait()
            self._has_undurable = trio.Event()
            answered, self._undurable = self._undurable, []
            try:
                await self._desk.wait(["durable"])
            except StoreError as error:
                answered = [(number, encode_error(number, error)) for number, _ in answered]
            for _, answer in answered:
                self._put(answer)

    async def _wait(self, number: int, request: list[Value]) -> None:
        with trio.CancelScope() as self._tasks[number]:
            with self._desk.answering(number, request) as failed:
                answer = await self._session.wait(request)
                self._put(cbor2.dumps([number, "ok", answer]))
            for answer in failed:
                self._put(answer)
        self._tasks.pop(number, None)


@contextmanager
def _bound_socket(folder: Path) -> Iterator[trio.socket.SocketType]:
    """Bind the folder's socket, mode 0600, in place of one that a dead process left."""
    with _short_path(folder) as path:
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            (folder / SOCKET_NAME).unlink(missing_ok=True)
            listening.bind(path)
        finally:
            os.umask(before)
    try:
        listening.listen(128)
        yield trio.socket.from_stdlib_socket(listening)
    finally:
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        listening.close()


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Yield a path of the socket that fits in the 108 bytes that the system allows."""
    path = str(folder / SOCKET_NAME)
    if len(os.fsencode(path)) < 100:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


# -- the other side ------------------------------------------------------------------------


def connect(folder: Path) -> socket.socket:
    """Connect to the node that owns a folder. FileNotFoundError or ConnectionRefusedError when
    none runs there."""
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(_CONNECT_TIMEOUT_S)
    try:
        with _short_path(folder) as path:
            connected.connect(path)
    except BaseException:
        connected.close()
        raise
    connected.settimeout(None)
    return connected


def decode_answer(frame: bytes) -> tuple[int, Answer]:
    """Return the number of the request, and its answer or its error."""
    match plain(load_array(frame)):
        case [int(number), "ok", answer]:
            return number, answer
        case [int(number), "error", "NotSyncedError", str(message), *lacks]:
            return number, NotSyncedError(message, tuple(map(str, lacks)))
        case [int(number), "error", str(kind), str(message)]:
            return number, _ERRORS.get(kind, PhextsyncError)(message)
        case other:
            raise ProtocolError(f"expected an answer, found {other!r:.80}")


class Attachment:
    """A blocking connection to the node that owns a folder, for one thread, without receipts."""

    def __init__(self, folder: Path) -> None:
        """Connect. FileNotFoundError or ConnectionRefusedError when no node runs there."""
        self._socket = connect(folder)
        self._number = 0

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *request: Value) -> Value:
        """Send one request and return its answer. Errors are those that the owner raised, and
        that of `check_request`."""
        check_request(list(request))
        self._number += 1
        frame = cbor2.dumps([self._number, self._number - 1, *request])
        try:
            self._socket.sendall(len(frame).to_bytes(4, "big") + frame)
        except ConnectionError:
            raise StoreError(_STOPPED) from None
        _, answer = decode_answer(self._receive(int.from_bytes(self._receive(4), "big")))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def watch(self, phext: str, range_: str) -> Callable[[], Value]:
        """Watch a range; return what gives the next change as `Session.wait` says it, again and
        again."""
        self.ask("watch", phext, range_, False)
        number = self._number
        return lambda: self.ask("next", number)

    def _receive(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count:
            try:
                piece = self._socket.recv(min(count, 1 << 20))
            except ConnectionError:
                piece = b""
            if not piece:
                raise StoreError(_STOPPED)
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


_ERRORS: Final[dict[str, type[Exception]]] = {
    "IndexError": IndexError,
    "KeyError": KeyError,
    **{
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, PhextsyncError)
    },
}


def plain(array: list[object]) -> list[Value]:
    """Check that an array holds nothing but what a request or an answer may hold."""
    values: list[Value] = []
    for item in array:
        if isinstance(item, list):
            values.append(plain(item))
        elif item is None or isinstance(item, bool | int | float | str | bytes):
            values.append(item)
        else:
            raise ProtocolError(f"expected a plain value, found {type(item).__name__}")
    return values
