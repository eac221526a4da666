"""SQ's REST API, version 2, over replicas: from a request to its answer. No IO.

The same bodies and status codes as SQ 0.5.6, so that its clients work unchanged; what is
different on purpose is listed in docs/reference/sq.md. Updates are edits by a minimal difference,
so that two clients on two machines never overwrite each other. Who may ask is decided before.

Operations are functions from a call to the text of the answer. Those that take long over big
phexts are generators: they yield every few milliseconds, so that others have their turn.
"""

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

import xxhash

from phextsync import phextfile
from phextsync.control.bringing import Needed
from phextsync.errors import CoordinateError, PhextsyncError, StoreFullError
from phextsync.gateways.exchange import ALLOW, Answer, Request
from phextsync.index import ORIGIN, Coordinate, CoordinateRange
from phextsync.phext_names import is_phext_name, is_reserved
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet

VERSION: Final = "0.5.6"
"""The version of SQ whose answers these are; clients ask for it."""
NAMELESS: Final = ".phext"
"""The phext of requests that name none."""
MISSING: Final = "---sq:Scroll-Missing---"
METHODS: Final = ("GET", "HEAD", "POST", "OPTIONS")

_PREFLIGHT: Final = (
    ALLOW,
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type"),
    ("Access-Control-Max-Age", "86400"),
)
_LIMIT: Final = 100
_PAGE: Final = 100  # scrolls between two yields
_PIECE: Final = 64 << 10  # characters, or bytes, between two yields
_PARSED: Final = 4 << 10  # as many of them take as long to parse
_PART_MAX: Final = 999
_PARTS: Final = 9
_NUMBER_MAX: Final = 1 << 32  # greater numbers are not told apart
_SEPARATORS: Final = re.compile("[./;]")
_PREFIX: Final = "/api/v2/"


class Whole(Protocol):
    """All scrolls of a phext."""

    def coordinates(self, range_: CoordinateRange, /) -> Iterator[Coordinate]: ...

    def read(self, coordinate: Coordinate, /) -> str: ...

    def read_size(self, coordinate: Coordinate, /) -> int: ...

    def check_held(self, key: Coordinate, /) -> None: ...


class SqApi:
    """Answers requests. `folder` is what clients read as the place of a phext's file."""

    def __init__(self, replicas: ReplicaSet, *, folder: str = "data") -> None:
        self._replicas = replicas
        self._folder = folder

    def answer(self, request: Request, connection: int = 1, whole: Whole | None = None) -> Answer:
        """Carry out one request at once, as `steps` does."""
        steps = self.steps(request, connection, whole)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                answer: Answer = end.value
                return answer

    def steps(
        self, request: Request, connection: int, whole: Whole | None = None
    ) -> Generator[int, None, Answer]:
        """Carry out one request, which came by the so-and-so-many-th connection, in short steps,
        each of which gives by how many characters the answer grew; with all scrolls of its phext if
        not all are held here. Never raises for what a client may send."""
        if request.method == "OPTIONS":
            return Answer(204, headers=_PREFLIGHT)
        if request.method not in METHODS:
            return _text(400, "Bad Request")
        try:
            name = request.strictly("p") or ""
        except UnicodeDecodeError:
            name = "."
        if not _is_allowed(name):
            return _text(403, "Forbidden: invalid phext path")
        operation = _route(request)
        if operation is None:
            return _text(404, "Not Found")
        is_change = operation in _CHANGES
        if request.method == "HEAD" and is_change:
            return _text(405, "Method Not Allowed: HEAD changes nothing")
        if request.is_longer and is_change:
            return _text(400, "Bad Request: the body is longer than its Content-Length, in bytes")
        texts: list[str] = []
        content = _content(request) if operation in _READ_CONTENT else b""
        for offset, piece in _characters(content):
            try:
                texts.append(piece.decode())
            except UnicodeDecodeError as error:
                found = f"byte {piece[error.start]:#04x} at offset {offset + error.start}"
                return _text(400, f"Bad Request: expected UTF-8, found {found}")
            yield 0
        file = f"{self._folder}/{name}.phext"
        try:
            replica = self._replicas.phext(name or NAMELESS)
        except PhextsyncError as error:
            return _text(400, f"Bad Request: {error}")
        call = _Call(
            replica, whole or replica, file, request.parameters, texts, len(content), connection
        )
        return (yield from _carry_out(operation, call, operation_name(request)))


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that may be carried out."""

    replica: Replica
    whole: Whole
    """All scrolls of the phext, whoever holds them."""
    file: str
    parameters: Mapping[str, str]
    texts: Sequence[str]
    """What it brings, in pieces."""
    size: int
    """Bytes of that."""
    connection: int

    @property
    def place(self) -> Coordinate:
        return Coordinate.parse_lenient(self.parameters.get("c", ""), clamp=True)

    def check_place(self) -> None:
        """CoordinateError when the coordinate has a number that no scroll can have: what is written
        there would fall on another scroll."""
        place = self.parameters.get("c", "")
        for number in _numbers(place):
            if not 1 <= number <= _PART_MAX:
                found = f"{number}" if abs(number) < _NUMBER_MAX else "one out of all bounds"
                raise CoordinateError(
                    f"expected numbers from 1 to 999 in the coordinate of a write, found {found}"
                )
        if len(_SEPARATORS.split(place)) > _PARTS:  # to SQ the tenth takes the place of the ninth
            raise CoordinateError("expected at most nine numbers in the coordinate of a write")


_Steps = Generator[int, None, str]
_Operation = Callable[[_Call], str] | Callable[[_Call], _Steps]


def _carry_out(operation: _Operation, call: _Call, name: str) -> Generator[int, None, Answer]:
    try:
        if operation in _CHANGES:
            call.check_place()
        body = operation(call)
        if not isinstance(body, str):
            body = yield from body
    except CoordinateError as error:
        warning = f"refused to {name} {call.parameters.get('c', '')!r:.80}: {error}"
        return Answer(400, f"Bad Request: {error}".encode(), warning=warning)
    except StoreFullError as error:
        return _text(503, f"Service Unavailable: {error}")
    except PhextsyncError as error:
        return _text(400, f"Bad Request: {error}")
    return Answer(200, body.encode(), has_changed=operation in _CHANGES)


def _text(status: int, text: str) -> Answer:
    return Answer(status, text.encode())


def _is_allowed(name: str) -> bool:
    """Whether clients may name a phext so: nothing hidden, nothing that looks like a path."""
    return not name or (is_phext_name(name) and ".." not in name and not is_reserved(name))


def _content(request: Request) -> bytes | bytearray:
    """Return the text that a request brings, in UTF-8 if it is one."""
    if request.method == "POST":
        if request.body:
            return request.body
        content = request.raw("content")
        if content is not None:
            return content
    return request.raw("s") or b""


def _characters(content: bytes | bytearray) -> Iterator[tuple[int, bytes | bytearray]]:
    """Iterate over pieces of UTF-8 that are cut between characters, each with its offset."""
    at = 0
    while at < len(content):
        end = at + _PIECE
        if end < len(content):  # a character has at most three bytes that continue it
            end -= next((back for back in range(3) if content[end - back] & 0xC0 != 0x80), 3)
        yield at, content[at:end]
        at = end


def _numbers(coordinate: str) -> Iterator[int]:
    """Iterate over the numbers that SQ reads in a coordinate: a 0 where nothing stands. Names in
    place of numbers, which its clients do send and which are 0 to SQ, are left out."""
    begun = re.search("-?[0-9]", coordinate)
    if begun is None:
        return
    for piece in _SEPARATORS.split(coordinate[begun.start() :]):
        digits = "".join(re.findall("[0-9]+", piece))
        if digits or not piece.strip():
            number = int(digits.lstrip("0")[:10] or "0")
            yield -number if piece.strip() == f"-{digits}" else number


# -- operations ----------------------------------------------------------------------------


def _version(call: _Call) -> str:
    return VERSION


def _load(call: _Call) -> str:
    return f"Loaded {call.file}"


def _select(call: _Call) -> str:
    return call.replica.get(call.place, "")


def _insert(call: _Call) -> str:
    if call.size:
        call.replica.append(call.place, "".join(call.texts))
    return f"Inserted {call.size} bytes"


def _update(call: _Call) -> str:
    call.replica.edit(call.place, "".join(call.texts))
    return f"Updated {call.size} bytes"


def _delete(call: _Call) -> str:
    size = call.replica.size(call.place)
    if size:
        call.replica.clear_scroll(call.place)
    return f"Removed {size} bytes"


def _status(call: _Call) -> _Steps:
    at, size, count = ORIGIN, 0, 0
    for page in _pages(call.whole):
        for coordinate in page:
            size += len(phextfile.breaks_between(at, coordinate)) + call.whole.read_size(coordinate)
            at = coordinate
        count += len(page)
        yield 0
    return (
        f"Hosting: {call.file}\nConnection ID: {call.connection}\n"
        f"Phext Size: {size}\nScrolls: {count or 1}"
    )


def _toc(call: _Call) -> _Steps:
    lines: list[str] = []
    for scrolls in _scrolls(call.whole):
        page = [f"* {place}: {phextfile.summary(text)}\n" for place, text in scrolls]
        lines += page
        yield sum(map(len, page))
    return "".join(lines) or f"* {ORIGIN}: \n"


def _get(call: _Call) -> _Steps:
    pieces: list[str] = []
    for piece in _canonical(call.whole):
        pieces.append(piece)
        yield len(piece)
    return "".join(pieces)


def _checksum(call: _Call) -> _Steps:
    return (yield from _hash(_canonical(call.whole)))


def _delta(call: _Call) -> _Steps:
    """The scrolls whose checksums are not the request's, and a mark for each that is only there."""
    theirs: dict[Coordinate, str] = {}
    for lines in _lines(call.texts):
        for first in range(0, len(lines), _PAGE):
            theirs.update(_checksums(lines[first : first + _PAGE], call.whole.check_held))
            yield 0
    answer = dict.fromkeys(theirs, MISSING)
    for scrolls in _scrolls(call.whole):
        for coordinate, text in scrolls:
            if theirs.get(coordinate) != phextfile.checksum(text):
                answer[coordinate] = text
            else:
                del answer[coordinate]
        yield sum(len(text) for _, text in scrolls)
    pieces: list[str] = []
    for piece in phextfile.implode_in_steps(sorted(answer.items())):
        pieces.append(piece)
        yield 0
    return "".join(pieces)


def _checksums(lines: Iterable[str], check: Callable[[Coordinate], None]) -> dict[Coordinate, str]:
    """Read lines `COORDINATE: CHECKSUM`; others are skipped. Each coordinate is to be checked."""
    found: dict[Coordinate, str] = {}
    for line in lines:
        pieces = line.removesuffix("\r").split(": ")
        if len(pieces) > 1:
            with suppress(CoordinateError):
                place = Coordinate.parse_lenient(pieces[0])
                check(place)
                found[place] = pieces[1]
    return found


def _json_export(call: _Call) -> _Steps:
    pieces: list[str] = []
    for scrolls in _scrolls(call.whole):
        for coordinate, text in scrolls:
            pieces.append(f'{"," if pieces else ""}   {{ "coord": "{coordinate}", "scroll": "')
            for piece in _cut(text):
                pieces.append(json.dumps(piece, ensure_ascii=False)[1:-1])
                yield len(pieces[-1])
            pieces.append('" }\n')
    if not pieces:
        pieces = [f'   {{ "coord": "{ORIGIN}", "scroll": "" }}\n']
    return "".join(("[\n", *pieces, "]\n"))


def _where(call: _Call) -> _Steps:
    limit = _number(call.parameters.get("limit", ""))
    if call.parameters.get("algo") == "checksum":
        algorithm, parts = "checksum", (yield from _parts_of_checksum(call.texts))
    else:
        algorithm, parts = "xor", (yield from _parts_of_scrolls(call.texts, limit))
    groups = [".".join(map(str, parts[i : i + 3])) for i in (0, 3, 6)]
    return f"Calculated coordinate {'/'.join(groups)} for input (algo={algorithm}, limit={limit})."


def _parts_of_checksum(texts: Iterable[str]) -> Generator[int, None, list[int]]:
    digits = (yield from _hash(texts)).encode()
    return [(256 * digits[2 * i] + digits[2 * i + 1]) % _PART_MAX or 1 for i in range(9)]


def _parts_of_scrolls(texts: Iterable[str], limit: int) -> Generator[int, None, list[int]]:
    parts = [1] * 9
    pieces = (piece for text in texts for piece in _cut(text, _PARSED))
    for scrolls in phextfile.parse_in_steps(pieces):
        for coordinate, scroll in scrolls:
            if len(scroll.encode()) >= limit:
                parts = [a ^ b for a, b in zip(parts, coordinate.parts, strict=True)]
        yield 0
    return parts


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else _LIMIT


# -- in steps ------------------------------------------------------------------------------


def _pages(replica: Whole) -> Iterator[list[Coordinate]]:
    """Iterate in order over the coordinates of a replica, which may change from page to page."""
    lower: Coordinate | None = ORIGIN
    while lower is not None:
        page = list(islice(replica.coordinates(CoordinateRange(lower, None)), _PAGE))
        if not page:
            return
        yield page
        lower = page[-1].successor()


def _scrolls(replica: Whole) -> Iterator[list[tuple[Coordinate, str]]]:
    """Iterate in order over the scrolls of a replica, by pages of few or of one that is large."""
    for page in _pages(replica):
        scrolls: list[tuple[Coordinate, str]] = []
        characters = 0
        for coordinate in page:
            text = replica.read(coordinate)
            if text:
                scrolls.append((coordinate, text))
                characters += len(text)
            if characters > _PIECE:
                yield scrolls
                scrolls, characters = [], 0
        yield scrolls


def _canonical(replica: Whole) -> Iterator[str]:
    """Iterate over the pieces of a replica's canonical text."""
    scrolls = (scroll for page in _scrolls(replica) for scroll in page)
    return phextfile.implode_in_steps(scrolls)


def _lines(texts: Iterable[str]) -> Iterator[list[str]]:
    """Iterate over the lines of a text that comes in pieces, by the piece in which they end."""
    begun: list[str] = []
    for text in texts:
        first, *lines = text.split("\n")
        begun.append(first)
        if lines:
            last = lines.pop()
            yield ["".join(begun), *lines]
            begun = [last]
    yield ["".join(begun)]


def _cut(text: str, size: int = _PIECE) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def _hash(pieces: Iterable[str]) -> _Steps:
    """Return what `phextfile.checksum` returns of the whole."""
    hasher = xxhash.xxh3_128()
    for piece in pieces:
        hasher.update(piece.encode())
        yield 0
    return hasher.hexdigest()


# A path matches where it begins with one of these.
_ROUTES: Final[tuple[tuple[str, tuple[str, ...], _Operation], ...]] = (
    ("version", ("GET",), _version),
    ("load", ("GET",), _load),
    ("select", ("GET",), _select),
    ("insert", ("GET", "POST"), _insert),
    ("update", ("GET", "POST"), _update),
    ("delete", ("GET",), _delete),
    ("status", ("GET",), _status),
    ("toc", ("GET",), _toc),
    ("get", ("GET",), _get),
    ("checksum", ("GET",), _checksum),
    ("delta", ("GET", "POST"), _delta),
    ("json-export", ("GET",), _json_export),
    ("where", ("POST",), _where),
)
_WRITES: Final = (_insert, _update)
_CHANGES: Final = (*_WRITES, _delete)
_OF_WHOLE: Final = (_status, _toc, _get, _checksum, _delta, _json_export)
_READ_CONTENT: Final = (*_WRITES, _delta, _where)


def about(request: Request) -> tuple[str, Needed | None] | None:
    """Return the phext that a request is about, and the scroll, None for all of them; None where it
    is about nothing that is held somewhere."""
    operation = _route(request)
    with suppress(UnicodeDecodeError, CoordinateError):
        name = request.strictly("p") or ""
        if name and _is_allowed(name) and operation in _OF_WHOLE:
            return name, None
        if name and _is_allowed(name) and operation in (*_CHANGES, _select):
            place = Coordinate.parse_lenient(request.parameters.get("c", ""), clamp=True)
            return name, Needed(name, place, is_blind=operation in _WRITES)
    return None


def is_write(request: Request) -> bool:
    """Whether a request asks for a change."""
    return _route(request) in _CHANGES


def operation_name(request: Request) -> str:
    """Return the name of the operation that a request's path asks for, "other" for none."""
    names = (name for name, _, _ in _ROUTES if request.path.startswith(f"{_PREFIX}{name}"))
    return next(names, "other")


def _route(request: Request) -> _Operation | None:
    method = "GET" if request.method == "HEAD" else request.method
    for name, methods, operation in _ROUTES:
        if request.path.startswith(f"{_PREFIX}{name}") and method in methods:
            return operation
    return None
