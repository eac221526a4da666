"""SQ's REST API, version 2, over replicas: from a request to its answer. No IO.

The same bodies and status codes as SQ 0.5.6, so that its clients work unchanged; what is
different on purpose is listed in docs/gateway.md. Updates are edits by a minimal difference, so
that two clients on two machines never overwrite each other.
"""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final
from urllib.parse import unquote_plus

from phextsync import phextfile
from phextsync.errors import CoordinateError, PhextsyncError, StoreFullError
from phextsync.index import ORIGIN, Coordinate
from phextsync.messages import is_phext_name
from phextsync.replica import Replica, ReplicaSet
from phextsync.store import MemoryStore

VERSION: Final = "0.5.6"
"""The version of SQ whose answers these are; clients ask for it."""
NAMELESS: Final = ".phext"
"""The phext of requests that name none."""
MISSING: Final = "---sq:Scroll-Missing---"

_ALLOW: Final = ("Access-Control-Allow-Origin", "*")
_PREFLIGHT: Final = (
    _ALLOW,
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type"),
    ("Access-Control-Max-Age", "86400"),
)
_LIMIT: Final = 100
_PREFIX: Final = "/api/v2/"


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. `query` is what follows the first `?`, as it came; `body` is whole."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def parameters(self) -> dict[str, str]:
        """Names and values of the query, decoded; of equal names the last one counts."""
        pairs = (piece.split("=", 1) for piece in self.query.split("&") if "=" in piece)
        return {unquote_plus(name): unquote_plus(value) for name, value in pairs}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. What `has_changed` something is to be sent when it is on disk."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (_ALLOW,)
    has_changed: bool = False


class SqApi:
    """Answers requests. `token` is what clients must show, None for nothing; `folder` is what
    they read as the place of a phext's file."""

    def __init__(
        self, replicas: ReplicaSet, *, token: str | None = None, folder: str = "data"
    ) -> None:
        self._replicas = replicas
        self._token = token
        self._folder = folder
        self._answered = 0
        # Reading a phext that does not exist must not make it, and peers learn of it.
        nothing = ReplicaSet(
            MemoryStore(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0
        )
        self._nothing = nothing.open("nothing")

    def answer(self, request: Request) -> Answer:
        """Carry out one request. Never raises for what a client may send."""
        self._answered += 1
        if request.method == "OPTIONS":
            return Answer(204, headers=_PREFLIGHT)
        if request.method not in ("GET", "POST"):
            return _text(400, "Bad Request")
        if not self.is_authorized(request):
            return _text(401, "Unauthorized")
        parameters = request.parameters
        name = parameters.get("p", "")
        if not _is_allowed(name):
            return _text(403, "Forbidden: invalid phext path")
        operation = _route(request)
        if operation is None:
            return _text(404, "Not Found")
        content = _content(request, parameters)
        file = f"{self._folder}/{name}.phext"
        replica = self._replica(name or NAMELESS, is_made=bool(content) and operation in _WRITES)
        return _carry_out(operation, _Call(replica, file, parameters, content, self._answered))

    def _replica(self, phext: str, *, is_made: bool) -> Replica:
        known = self._replicas.open(phext) if is_made else self._replicas.known(phext)
        return self._nothing if known is None else known

    def is_authorized(self, request: Request) -> bool:
        """Whether a request shows the token, as `Authorization: TOKEN` or `Bearer TOKEN`."""
        if self._token is None:
            return True
        shown = request.headers.get("authorization", "").strip()
        if shown[:7].lower() == "bearer ":
            shown = shown[7:].strip()
        return hmac.compare_digest(shown.encode(), self._token.encode())


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that may be carried out."""

    replica: Replica
    file: str
    parameters: Mapping[str, str]
    content: str
    number: int

    @property
    def place(self) -> Coordinate:
        return Coordinate.parse_lenient(self.parameters.get("c", ""), clamp=True)


_Operation = Callable[[_Call], str]


def _carry_out(operation: _Operation, call: _Call) -> Answer:
    try:
        body = operation(call)
    except StoreFullError as error:
        return _text(503, f"Service Unavailable: {error}")
    except PhextsyncError as error:
        return _text(400, f"Bad Request: {error}")
    return Answer(200, body.encode(), has_changed=operation in (*_WRITES, _delete))


def _text(status: int, text: str) -> Answer:
    return Answer(status, text.encode())


def _is_allowed(name: str) -> bool:
    """Whether clients may name a phext so: nothing hidden, nothing that looks like a path."""
    return not name or (is_phext_name(name) and ".." not in name and not name.startswith("."))


def _content(request: Request, parameters: Mapping[str, str]) -> str:
    if request.method == "POST" and request.body:
        return request.body.decode("utf-8", "replace")
    fallback = parameters.get("s", "")
    return parameters.get("content", fallback) if request.method == "POST" else fallback


# -- operations ----------------------------------------------------------------------------


def _version(call: _Call) -> str:
    return VERSION


def _load(call: _Call) -> str:
    return f"Loaded {call.file}"


def _select(call: _Call) -> str:
    return call.replica.get(call.place, "")


def _insert(call: _Call) -> str:
    if call.content:
        call.replica.append(call.place, call.content)
    return f"Inserted {len(call.content.encode())} bytes"


def _update(call: _Call) -> str:
    call.replica.edit(call.place, call.content)
    return f"Updated {len(call.content.encode())} bytes"


def _delete(call: _Call) -> str:
    size = call.replica.size(call.place)
    if size:
        call.replica.clear_scroll(call.place)
    return f"Removed {size} bytes"


def _status(call: _Call) -> str:
    return (
        f"Hosting: {call.file}\nConnection ID: {call.number}\n"
        f"Phext Size: {_canonical_bytes(call.replica)}\nScrolls: {len(call.replica) or 1}"
    )


def _toc(call: _Call) -> str:
    lines = [f"* {c}: {phextfile.summary(text)}\n" for c, text in call.replica.scrolls()]
    return "".join(lines) or f"* {ORIGIN}: \n"


def _get(call: _Call) -> str:
    return phextfile.implode(call.replica.scrolls())


def _checksum(call: _Call) -> str:
    return phextfile.checksum(_get(call))


def _delta(call: _Call) -> str:
    """The scrolls whose checksums are not those of the request, and a mark for each that is only
    there."""
    theirs = _checksums(call.content)
    answer = dict.fromkeys(theirs, MISSING)
    for coordinate, text in call.replica.scrolls():
        if theirs.get(coordinate) != phextfile.checksum(text):
            answer[coordinate] = text
        else:
            del answer[coordinate]
    return phextfile.implode(answer)


def _checksums(text: str) -> dict[Coordinate, str]:
    """Read lines `COORDINATE: CHECKSUM`; others are skipped."""
    found: dict[Coordinate, str] = {}
    for line in text.split("\n"):
        pieces = line.removesuffix("\r").split(": ")
        if len(pieces) > 1:
            try:
                found[Coordinate.parse_lenient(pieces[0])] = pieces[1]
            except CoordinateError:
                continue
    return found


def _json_export(call: _Call) -> str:
    scrolls = list(call.replica.scrolls()) or [(ORIGIN, "")]
    rows = (
        f'   {{ "coord": "{coordinate}", "scroll": {json.dumps(text, ensure_ascii=False)} }}\n'
        for coordinate, text in scrolls
    )
    return "[\n" + ",".join(rows) + "]\n"


def _where(call: _Call) -> str:
    algorithm = "checksum" if call.parameters.get("algo") == "checksum" else "xor"
    limit = _number(call.parameters.get("limit", ""))
    if algorithm == "checksum":
        parts = _parts_of_checksum(call.content)
    else:
        parts = _parts_of_scrolls(call.content, limit)
    groups = [".".join(map(str, parts[i : i + 3])) for i in (0, 3, 6)]
    return f"Calculated coordinate {'/'.join(groups)} for input (algo={algorithm}, limit={limit})."


def _parts_of_checksum(text: str) -> list[int]:
    digits = phextfile.checksum(text).encode()
    return [(256 * digits[2 * i] + digits[2 * i + 1]) % 999 or 1 for i in range(9)]


def _parts_of_scrolls(text: str, limit: int) -> list[int]:
    parts = [1] * 9
    for coordinate, scroll in phextfile.parse(text, clamp=True).scrolls:
        if len(scroll.encode()) >= limit:
            parts = [a ^ b for a, b in zip(parts, coordinate.parts, strict=True)]
    return parts


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else _LIMIT


def _canonical_bytes(replica: Replica) -> int:
    """Return the bytes of the canonical text, without reading it."""
    at, total = ORIGIN, 0
    for coordinate in replica.coordinates():
        total += len(phextfile.breaks_between(at, coordinate)) + replica.size(coordinate)
        at = coordinate
    return total


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


def operation_name(request: Request) -> str:
    """Return the name of the operation that a request's path asks for, "other" for none."""
    names = (name for name, _, _ in _ROUTES if request.path.startswith(f"{_PREFIX}{name}"))
    return next(names, "other")


def _route(request: Request) -> _Operation | None:
    for name, methods, operation in _ROUTES:
        if request.path.startswith(f"{_PREFIX}{name}") and request.method in methods:
            return operation
    return None
