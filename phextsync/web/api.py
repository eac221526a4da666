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

PREFIX: Final = "/api/v1"

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

_WRITER: Final = "web"
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
        if text == "" and (self.is_number or self.is_none):
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
_LAST: Final = Given("last", "query", "100", is_number=True)
_TEXT: Final = Given("text", "body")
_TIME: Final = Given("time_ms", "query", is_number=True)
_WORDS: Final = Given("words", "query")
_LIMIT: Final = Given("limit", "query", "20", is_number=True)
_COUNT: Final = Given("count", "query", "40", is_number=True)
_ITSELF: Final = Given("itself", "query", "true", is_flag=True)
_IN_PHEXT: Final = Given("phext", "query", "", is_none=True)
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
    _row("GET", "/conflicts", "conflicts", _IN_PHEXT, _AFTER),
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
        return [described, Route(f"{PREFIX}/directories", self._directories), *made]

    def _route(self, path: str, rows: Mapping[str, Endpoint]) -> Route:
        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            try:
                return await self._answer(request, rows[method])
            except PhextsyncError as error:
                status = next(code for kind, code in _STATUSES if isinstance(error, kind))
                return JSONResponse({"error": str(error)}, status)

        return Route(PREFIX + path, answer, methods=[*rows])

    async def _answer(self, request: Request, endpoint: Endpoint) -> Response:
        operation = endpoint.operation
        body = await _text_of(request) if _TEXT in endpoint.given else ""
        asked: list[Value] = [operation.name, *(g.of(request, body) for g in endpoint.given)]
        asked += _seen(request, asked) if operation.name == "set" else []
        value = await served(self._node.desk, asked, _WRITER)
        if operation.changes:
            await self._node.durable()
        if operation.name == "get":
            return _scroll(request, value)
        return JSONResponse(
            plain(_READ_FURTHER.get(operation.name, operation).answer.decode(value))
        )

    async def _directories(self, request: Request) -> Response:
        return JSONResponse(plain(self._node.status().directories))

    async def _describe(self, request: Request) -> Response:
        return JSONResponse(description())


async def _text_of(request: Request) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise TextError("expected a text in UTF-8, found other bytes") from error


def _seen(request: Request, asked: list[Value]) -> list[Value]:
    """Return what a client saw before it writes, as `If-Match` tells it."""
    shown = request.headers.get("if-match", "").strip().strip('"')
    if not shown:
        return []
    try:
        return [bytes.fromhex(shown)]
    except ValueError as error:
        raise PhextsyncError(f"expected in If-Match what ETag said, found {shown!r:.60}") from error


def _scroll(request: Request, text: Value) -> Response:
    """Return a scroll as plain text, with what `If-Match` is to show."""
    if not isinstance(text, str):
        return JSONResponse({"error": "there is no text"}, 404)
    tag = f'"{digest(text).hex()}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return PlainTextResponse(text, headers={"ETag": tag})


def plain(value: object) -> Json:
    """Return a value as JSON has it: rows as objects, bytes in hexadecimal, other values as they
    print."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.hex()
        case Mapping():
            return {str(name): plain(each) for name, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return str(value)


# -- the description -----------------------------------------------------------------------


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
    what = [argument.what for argument in endpoint.operation.arguments]
    parameters: list[Json] = []
    for given, about in zip(endpoint.given, what, strict=False):
        if given.place != "body":
            parameters.append(_parameter(given, about))
    kind = "text/plain" if endpoint.operation.name == "get" else "application/json"
    found: dict[str, Json] = {
        "operationId": endpoint.operation.name,
        "summary": endpoint.operation.about,
        "parameters": parameters,
        "responses": {
            "200": {"description": endpoint.operation.about, "content": {kind: {}}},
            "default": {"description": "what was expected, and what was found, as `error`"},
        },
    }
    if _TEXT in endpoint.given:
        found["requestBody"] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    return found


def _parameter(given: Given, about: str) -> Json:
    kind = "integer" if given.is_number else "boolean" if given.is_flag else "string"
    schema: dict[str, Json] = {"type": kind}
    if given.default:
        is_text = kind == "string"
        schema["default"] = given.default if is_text else read_json(given.default)
    return {
        "name": given.name,
        "in": given.place,
        "required": given.default is None,
        "description": about,
        "schema": schema,
    }
