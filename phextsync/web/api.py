"""The API: operations of `control.operations` as JSON over HTTP, and their description as OpenAPI.

Each endpoint is one row of a table: a path, an operation, and where its arguments stand. What the
description says of them is what the table of operations says.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from typing import Final, TypeAlias, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from phextsync.control.answers import ANY
from phextsync.control.bringing import served
from phextsync.control.frames import Value
from phextsync.control.operations import OPERATIONS, Operation, digest
from phextsync.errors import (
    ConflictError,
    NotHeldError,
    PermissionDeniedError,
    PhextsyncError,
    StoreError,
    TextError,
)
from phextsync.files.desk import CONFLICTS
from phextsync.node.node import Node
from phextsync.plain_values import read_json
from phextsync.texts import sendable

PREFIX: Final = "/api/v1"

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

_WRITER: Final = "web"
_DIRECTORIES: Final = Operation("directories", (), ANY, "how each bound directory is")
_TAG: Final = re.compile(r'"?([0-9a-f]{32})"?')
_READ_FURTHER: Final = {"conflicts": cast("Operation[object]", CONFLICTS)}
_STATUSES: Final = (
    (ConflictError, 412),
    (PermissionDeniedError, 403),
    (NotHeldError, 421),
    (TextError, 422),
    (StoreError, 503),
    (PhextsyncError, 400),
)


@dataclass(frozen=True, slots=True)
class Given:
    """Where an argument stands: in the path, the query, or the body, which is text. What may be
    left out has a default, as the query has it."""

    name: str
    place: str
    default: str | None = None
    is_number: bool = False
    is_none: bool = False
    """Whether nothing is None."""
    is_flag: bool = False
    """Whether it is true or false."""

    def of(self, request: Request, body: str) -> Value:
        """Return the argument of a request. PhextsyncError when it is missing or none."""
        if self.place == "body":
            return body
        given = request.path_params if self.place == "path" else request.query_params
        text = given.get(self.name, self.default)
        if text is None:
            raise PhextsyncError(f"expected {self.name} in the query, found none")
        if text == "" and self.is_none:
            return None
        if self.is_flag:
            if text not in ("true", "false"):
                raise PhextsyncError(f"expected true or false as {self.name}, found {text!r:.60}")
            return text == "true"
        if not self.is_number:
            return str(text)
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise PhextsyncError(f"expected a number as {self.name}, found {text!r:.60}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path that carry out an operation."""

    method: str
    path: str
    operation: Operation[object]
    given: tuple[Given, ...]


_PHEXT: Final = Given("phext", "path")
_AT: Final = Given("coordinate", "path")
_RANGE: Final = Given("range", "query", "*")
_AFTER: Final = Given("after", "query", "")
_LAST: Final = Given("last", "query", "100", is_number=True, is_none=True)
_TEXT: Final = Given("text", "body")
_TIME: Final = Given("time_ms", "query", is_number=True)
_WORDS: Final = Given("words", "query")
_LIMIT: Final = Given("limit", "query", "20", is_number=True)
_COUNT: Final = Given("count", "query", "40", is_number=True)
_ITSELF: Final = Given("itself", "query", "true", is_flag=True)
_IN_PHEXT: Final = Given("phext", "query", "", is_none=True)
_IN_SCROLL: Final = Given("coordinate", "query", "")
_OF_A_SCROLL: Final = "/phexts/{{phext}}/{}/{{coordinate:path}}"
_SCROLLS: Final = "/phexts/{phext}/scrolls"
_SCROLL: Final = _SCROLLS + "/{coordinate:path}"


def _row(method: str, path: str, name: str, *given: Given) -> Endpoint:
    return Endpoint(method, path, OPERATIONS[name], given)


ENDPOINTS: Final = (
    _row("GET", "/status", "status"),
    _row("GET", "/phexts", "phexts"),
    _row("GET", "/presence", "presence"),
    _row("GET", _SCROLLS, "list", _PHEXT, _RANGE, _AFTER),
    _row("GET", "/phexts/{phext}/texts", "read", _PHEXT, _RANGE, _AFTER),
    _row("GET", "/phexts/{phext}/count", "count", _PHEXT, _RANGE),
    _row("GET", _SCROLL, "get", _PHEXT, _AT),
    _row("PUT", _SCROLL, "set", _PHEXT, _AT, _TEXT),
    _row("POST", _SCROLL, "append", _PHEXT, _AT, _TEXT),
    _row("DELETE", _SCROLL, "remove", _PHEXT, _AT),
    _row("GET", _OF_A_SCROLL.format("history"), "log", _PHEXT, _AT, _LAST),
    _row("GET", _OF_A_SCROLL.format("versions"), "versions", _PHEXT, _AT, _LAST),
    _row("GET", _OF_A_SCROLL.format("blame"), "blame", _PHEXT, _AT),
    _row("GET", _OF_A_SCROLL.format("then"), "show", _PHEXT, _AT, _TIME),
    _row("GET", "/phexts/{phext}/search", "search", _PHEXT, _RANGE, _WORDS, _LIMIT),
    _row("GET", _OF_A_SCROLL.format("near"), "near", _PHEXT, _RANGE, _AT, _COUNT, _ITSELF),
    _row("GET", "/phexts/{phext}/deleted", "undeletable", _PHEXT, _RANGE),
    _row("GET", "/phexts/{phext}/lacking", "lacking", _PHEXT, _RANGE),
    _row("GET", "/conflicts", "conflicts", _IN_PHEXT, _IN_SCROLL),
    Endpoint("GET", "/directories", cast("Operation[object]", _DIRECTORIES), ()),
)


class Api:
    """Carries out what the table has, for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        """Return the routes of all endpoints, those of one path together."""
        paths: dict[str, dict[str, Endpoint]] = {}
        for endpoint in ENDPOINTS:
            paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        made = [self._route(path, rows) for path, rows in paths.items()]
        described = Route(f"{PREFIX}/openapi.json", self._describe, methods=["GET"])
        return [described, *made]

    def _route(self, path: str, rows: Mapping[str, Endpoint]) -> Route:
        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            try:
                return await self._answer(request, rows[method])
            except PhextsyncError as error:
                status = next(code for kind, code in _STATUSES if isinstance(error, kind))
                return JSONResponse({"error": sendable(str(error))}, status)

        return Route(PREFIX + path, answer, methods=[*rows])

    async def _answer(self, request: Request, endpoint: Endpoint) -> Response:
        operation = endpoint.operation
        if operation is _DIRECTORIES:
            return JSONResponse(plain(self._node.status().directories))
        body = await _text_of(request) if _TEXT in endpoint.given else ""
        asked: list[Value] = [operation.name, *(g.of(request, body) for g in endpoint.given)]
        asked += _seen(request) if operation.changes else []
        value = await served(self._node.desk, asked, _WRITER)
        if operation.changes:
            await self._node.durable()
        if operation.name == "get":
            return _scroll(request, value)
        return JSONResponse(
            plain(_READ_FURTHER.get(operation.name, operation).answer.decode(value))
        )

    async def _describe(self, request: Request) -> Response:
        return JSONResponse(description())


async def _text_of(request: Request) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise TextError("expected a text in UTF-8, found other bytes") from error


def _seen(request: Request) -> list[Value]:
    """Return what a client saw before it writes: the text of `If-Match`, or with `If-None-Match: *`
    that there was none. A condition that cannot be read is an error, and nothing is written."""
    seen: list[Value] = []
    if (shown := _shown(request, "if-none-match")) is not None:
        if shown != "*":
            raise PhextsyncError(f"expected * in If-None-Match of what writes, found {shown!r:.60}")
        seen.append(digest(""))
    if (shown := _shown(request, "if-match")) is not None:
        found = _TAG.fullmatch(shown)
        if found is None or seen:
            raise PhextsyncError(f"expected in If-Match what ETag said, found {shown!r:.60}")
        seen.append(bytes.fromhex(found[1]))
    return seen


def _shown(request: Request, header: str) -> str | None:
    lines = request.headers.getlist(header)
    return ", ".join(lines).strip() if lines else None


def _scroll(request: Request, text: Value) -> Response:
    """Return a scroll as plain text, with what `If-Match` is to show."""
    if not isinstance(text, str):
        return JSONResponse({"error": "there is no text"}, 404)
    tag = f'"{digest(text).hex()}"'
    known = _shown(request, "if-none-match") or ""
    if known == "*" or tag in re.findall(r'"[^"]*"', known):
        return Response(status_code=304, headers={"ETag": tag})
    return PlainTextResponse(text, headers={"ETag": tag})


def plain(value: object) -> Json:
    """Return a value as JSON has it: rows as objects, bytes in hexadecimal, other values as they
    print."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return sendable(value)
        case bytes():
            return value.hex()
        case Mapping():
            return {sendable(str(name)): plain(each) for name, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return sendable(str(value))


# -- the description -----------------------------------------------------------------------

_TEXT_OF_A_SCROLL: Final[Json] = {"schema": {"type": "string"}}
_ERROR: Final[Json] = {
    "application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}},
    "text/plain": {},
}
_OF_ETAG: Final[Json] = {"ETag": {"schema": {"type": "string"}}}


def description() -> dict[str, Json]:
    """Return what there is, in the words of OpenAPI 3.1."""
    paths: dict[str, Json] = {}
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace(":path", "")
        rows = paths.setdefault(path, {})
        assert isinstance(rows, dict)
        rows[endpoint.method.lower()] = _described(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "phextsync", "version": version("phextsync")},
        "servers": [{"url": PREFIX}],
        "paths": paths,
    }


def _described(endpoint: Endpoint) -> Json:
    operation = endpoint.operation
    parameters: list[Json] = [
        _parameter(given, about.what)
        for given, about in zip(endpoint.given, operation.arguments, strict=False)
        if given.place != "body"
    ]
    if operation.changes:
        parameters.append(_condition("If-Match", "the ETag of the text that is to be there"))
        parameters.append(_condition("If-None-Match", "*: no text is to be there"))
    elif operation.name == "get":
        parameters.append(_condition("If-None-Match", "the ETag of what is known"))
    found: dict[str, Json] = {
        "operationId": operation.name,
        "summary": operation.about,
        "parameters": parameters,
        "responses": _responses(operation),
    }
    if _TEXT in endpoint.given:
        found["requestBody"] = {"content": {"text/plain": _TEXT_OF_A_SCROLL}}
    return found


def _responses(operation: Operation[object]) -> Json:
    found: dict[str, Json] = {
        "default": {
            "description": "what was expected, and what was found: as `error`, or as plain text"
            " where no operation was asked for",
            "content": _ERROR,
        }
    }
    content: dict[str, Json] = {"application/json": {}}
    if operation.name == "get":
        content = {"text/plain": _TEXT_OF_A_SCROLL}
        found["304"] = {"description": "the text is the one that is known", "headers": _OF_ETAG}
        found["404"] = {"description": "there is no text", "content": _ERROR}
    elif operation.changes:
        found["412"] = {
            "description": "the scroll has another text, and is as it was",
            "content": _ERROR,
        }
    done: dict[str, Json] = {"description": operation.about, "content": content}
    return {"200": {**done, "headers": _OF_ETAG} if operation.name == "get" else done, **found}


def _condition(name: str, about: str) -> Json:
    return {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}


def _parameter(given: Given, about: str) -> Json:
    kind = "integer" if given.is_number else "boolean" if given.is_flag else "string"
    schema: dict[str, Json] = {"type": kind}
    if given.default:
        is_text = kind == "string"
        schema["default"] = given.default if is_text else read_json(given.default)
    found: dict[str, Json] = {
        "name": given.name,
        "in": given.place,
        "required": given.default is None,
        "description": about,
        "schema": schema,
    }
    if given.is_none:
        found["allowEmptyValue"] = True
    return found
