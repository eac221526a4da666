"""Memory door: Anthropic's memory stores API, so that its clients work with this node.

What a client writes changes what it saw: the content that was last sent to it, over its connection
or else to its address; what came since stays, and is in the answer. A digest that it expects makes
that an error instead, as it is there.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias, cast

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from phextsync.agents.memory_stores import (
    Memory,
    MemoryStores,
    MemoryVersion,
    TakenError,
    versions_of,
)
from phextsync.agents.store_records import (
    STORES,
    MissingError,
    StoreRecord,
    memory_id,
    place_of,
    store_id,
    version_id,
    version_of,
)
from phextsync.errors import (
    ConflictError,
    NotHeldError,
    PermissionDeniedError,
    PhextsyncError,
    StoreError,
)
from phextsync.gateways.readers import Seen, Views, reader_of
from phextsync.index import Coordinate
from phextsync.node.node import Node
from phextsync.plain_values import read_json
from phextsync.replica.changes import writing_as
from phextsync.replica.past import Past
from phextsync.web import memory_json
from phextsync.web.api import Json
from phextsync.web.memory_json import FULL_PAGE_MAX, PAGE_MAX, Given, is_full, page_of

STORES_PATH: Final = "/v1/memory_stores"

_WRITER: Final = "memory"
_STORE: Final = STORES_PATH + "/{store}"
_MEMORIES: Final = _STORE + "/memories"
_VERSIONS: Final = _STORE + "/memory_versions"
_ERRORS: Final = (
    (MissingError, 404, "not_found_error"),
    (TakenError, 409, "memory_path_conflict_error"),
    (ConflictError, 409, "memory_precondition_failed_error"),
    (PermissionDeniedError, 403, "permission_error"),
    (NotHeldError, 421, "api_error"),
    (StoreError, 503, "api_error"),
    (PhextsyncError, 400, "invalid_request_error"),
)
_OPERATIONS: Final = ("created", "modified", "deleted")
_AUTHOR: Final = "service_account_id"
_NOT_AGAIN: Final = {"x-should-retry": "false"}  # else clients send again what cannot succeed
_NO_REDACTION: Final = (
    "one version cannot be redacted: each machine keeps a history of its own, and none can promise "
    "that the others forget. Delete the memory, and let each machine run "
    f"`phextsync history RANGE --keep none --phext {STORES}`"
)

Answering: TypeAlias = Callable[[Request], Awaitable[Json]]


class _Row(NamedTuple):
    """A version of a memory."""

    place: Coordinate
    past: Past
    version: MemoryVersion


class MemoryDoor:
    """Answers for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stores = MemoryStores(node.replicas)
        self._views = Views()

    def routes(self) -> list[Route]:
        """Return the routes of all requests."""
        rows: tuple[tuple[str, dict[str, Answering]], ...] = (
            (STORES_PATH, {"GET": self._list_stores, "POST": self._create_store}),
            (
                _STORE,
                {"GET": self._get_store, "POST": self._update_store, "DELETE": self._delete_store},
            ),
            (_STORE + "/archive", {"POST": self._archive_store}),
            (_MEMORIES, {"GET": self._list, "POST": self._create}),
            (
                _MEMORIES + "/{memory}",
                {"GET": self._get, "POST": self._update, "DELETE": self._delete},
            ),
            (_VERSIONS, {"GET": self._list_versions}),
            (_VERSIONS + "/{version}", {"GET": self._get_version}),
        )
        made = [_route(path, answers) for path, answers in rows]
        redact = _VERSIONS + "/{version}/redact"
        return [*made, Route(redact, self._redact, methods=["POST"])]

    # -- stores ----------------------------------------------------------------------------

    async def _list_stores(self, request: Request) -> Json:
        query = request.query_params
        since, until = (memory_json.moment(query, f"created_at[{end}]") for end in ("gte", "lte"))
        has_all = memory_json.one_of(query, "include_archived", ("true", "false"), "") == "true"
        found = [
            store
            for store in self._stores.stores()
            if (has_all or store.archived_ms is None)
            and (since is None or store.created_ms >= since)
            and (until is None or store.created_ms <= until)
        ]
        shown, more = page_of(found, lambda row: (-row.created_ms, store_id(row.parts)), query)
        return {"data": [memory_json.store_json(store) for store in shown], "next_page": more}

    async def _create_store(self, request: Request) -> Json:
        given = await _given(request)
        pairs = {k: v for k, v in given.pairs("metadata").items() if v is not None}
        with writing_as(_WRITER):
            made = self._stores.create_store(
                given.text("name"), given.maybe_text("description") or "", pairs
            )
        await self._node.durable()
        return memory_json.store_json(made)

    async def _get_store(self, request: Request) -> Json:
        return memory_json.store_json(self._store(request))

    async def _update_store(self, request: Request) -> Json:
        given = await _given(request)
        name, description = given.maybe_text("name"), given.maybe_text("description")
        store = self._store(request, to_write=True)
        with writing_as(_WRITER):
            changed = self._stores.update_store(store, name, description, given.pairs("metadata"))
        await self._node.durable()
        return memory_json.store_json(changed)

    async def _archive_store(self, request: Request) -> Json:
        with writing_as(_WRITER):
            archived = self._stores.archive_store(self._store(request))
        await self._node.durable()
        return memory_json.store_json(archived)

    async def _delete_store(self, request: Request) -> Json:
        store = self._store(request)
        with writing_as(_WRITER):
            self._stores.delete_store(store)
        await self._node.durable()
        return {"id": store_id(store.parts), "type": "memory_store_deleted"}

    # -- memories --------------------------------------------------------------------------

    async def _list(self, request: Request) -> Json:
        query = request.query_params
        store, full = self._store(request), is_full(query)
        prefix = query.get("path_prefix", "")
        if prefix and not (prefix.startswith("/") and prefix.endswith("/")):
            raise PhextsyncError(f"expected a prefix such as /notes/, found {prefix:.80}")
        rows: list[Memory | str] = []
        for memory in self._stores.memories(store, "" if prefix == "/" else prefix):
            folder, slash, _ = memory.path[len(prefix or "/") :].partition("/")
            grouped = (prefix or "/") + folder + slash
            if not (memory_json.number(query, "depth", 0, 1, 0) and slash):
                rows.append(memory)
            elif grouped not in rows[-1:]:
                rows.append(grouped)
        limit = FULL_PAGE_MAX if full else PAGE_MAX
        shown, more = page_of(
            rows, lambda row: (0, row if isinstance(row, str) else row.path), query, limit
        )
        data: list[Json] = []
        for row in shown:
            if isinstance(row, str):
                data.append({"type": "memory_prefix", "path": row})
            else:
                data.append(await self._told(request, self._stores.text(row), full=full))
        return {"data": data, "next_page": more}

    async def _create(self, request: Request) -> Json:
        given = await _given(request)
        full = is_full(request.query_params)
        path, text = given.text("path"), given.text("content")
        store = self._store(request, to_write=True)
        with writing_as(_WRITER):
            memory = self._stores.create(store, path, text)
        self._note(request, memory, text)
        await self._node.durable()
        return await self._told(request, memory, full=full)

    async def _get(self, request: Request) -> Json:
        full = is_full(request.query_params, "full")
        return await self._told(request, self._memory(request), full=full)

    async def _update(self, request: Request) -> Json:
        given = await _given(request)
        full = is_full(request.query_params)
        path, text = given.maybe_text("path"), given.maybe_text("content")
        seen = given.precondition()
        memory = self._memory(request, to_write=True)
        base = None if seen is not None else self._seen(request, memory)
        with writing_as(_WRITER):
            changed = self._stores.update(memory, path=path, text=text, base=base, seen_sha256=seen)
        if text is not None:
            self._note(request, changed, changed.text)
        await self._node.durable()
        # What the client did not send it has to be told.
        is_merged = text is not None and changed.text != text
        return await self._told(request, changed, full=full or is_merged)

    async def _delete(self, request: Request) -> Json:
        memory = self._memory(request)
        with writing_as(_WRITER):
            self._stores.delete(memory, request.query_params.get("expected_content_sha256"))
        await self._node.durable()
        return {"id": memory_id(memory.place), "type": "memory_deleted"}

    # -- versions --------------------------------------------------------------------------

    async def _list_versions(self, request: Request) -> Json:
        query = request.query_params
        store, full = self._store(request), is_full(query)
        paths = self._stores.paths(store)
        asked = query.get("memory_id")
        places = [*paths] if asked is None else [place_of(asked, store)]
        since, until = (memory_json.moment(query, f"created_at[{end}]") for end in ("gte", "lte"))
        kind, who = memory_json.one_of(query, "operation", _OPERATIONS, ""), query.get(_AUTHOR)
        rows: list[_Row] = []
        for place in places if not ({"api_key_id", "session_id"} & {*query}) else ():
            past = self._stores.past(place)
            versions = await trio.to_thread.run_sync(versions_of, past)
            rows += (
                _Row(place, past, version)
                for version in versions
                if (since is None or version.time_ms >= since)
                and (until is None or version.time_ms <= until)
                and kind in ("", version.operation)
                and (who is None or who in [writer.hex() for writer in version.writers[:1]])
            )
        rows.sort(key=_newest_first)
        limit = FULL_PAGE_MAX if full else PAGE_MAX
        shown, more = page_of(rows, _newest_first, query, limit)
        data = [await _told_version(store, row, paths.get(row.place, ""), full) for row in shown]
        return {"data": data, "next_page": more}

    async def _get_version(self, request: Request) -> Json:
        store = self._store(request)
        place, time_ms = version_of(request.path_params["version"], store)
        past = self._stores.past(place)
        for version in await trio.to_thread.run_sync(versions_of, past):
            if version.time_ms == time_ms:
                path = self._stores.paths(store).get(place, "")
                full = is_full(request.query_params, "full")
                return await _told_version(store, _Row(place, past, version), path, full)
        raise MissingError(f"there is no version {version_id(place, time_ms)}, or it is not kept")

    async def _redact(self, request: Request) -> Response:
        return JSONResponse(memory_json.error_json("api_error", _NO_REDACTION), 501, _NOT_AGAIN)

    # -- what clients have seen ------------------------------------------------------------

    def _store(self, request: Request, *, to_write: bool = False) -> StoreRecord:
        return self._stores.store(request.path_params["store"], to_write=to_write)

    def _memory(self, request: Request, *, to_write: bool = False) -> Memory:
        store = self._store(request, to_write=to_write)
        return self._stores.memory(store, request.path_params["memory"])

    async def _told(self, request: Request, memory: Memory, *, full: bool) -> Json:
        if full:
            self._note(request, memory, memory.text)
        past = self._stores.past(memory.place)
        versions: Sequence[MemoryVersion] = await trio.to_thread.run_sync(versions_of, past)
        return memory_json.memory_json(memory, versions, full=full)

    def _note(self, request: Request, memory: Memory, text: str) -> None:
        """A client has this text of a memory from now on."""
        for session in _sessions(request):
            self._views.keep(session, STORES, memory.place, Seen(text, len(text)))

    def _seen(self, request: Request, memory: Memory) -> str | None:
        for session in _sessions(request):
            seen = self._views.of(reader_of(session, ""), STORES, memory.place)
            if seen is not None:
                return seen.text
        return None


def _route(path: str, answers: dict[str, Answering]) -> Route:
    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        try:
            return JSONResponse(await answers[method](request))
        except PhextsyncError as error:
            status, kind = next(row[1:] for row in _ERRORS if isinstance(error, row[0]))
            return JSONResponse(memory_json.error_json(kind, str(error)), status, _NOT_AGAIN)

    return Route(path, answer, methods=[*answers])


def _newest_first(row: _Row) -> tuple[int, str]:
    return -row.version.time_ms, memory_id(row.place)


async def _told_version(store: StoreRecord, row: _Row, path: str, full: bool) -> Json:
    text = await trio.to_thread.run_sync(row.past.text_at, row.version.time_ms)
    return memory_json.version_json(store, row.place, path, row.version, text, full=full)


async def _given(request: Request) -> Given:
    try:
        return Given(cast("Json", read_json(await request.body() or b"{}")))
    except ValueError as error:
        raise PhextsyncError(f"expected JSON: {error}") from error


def _sessions(request: Request) -> tuple[str, ...]:
    """Return by what a client is known: its connection, and its address."""
    if request.client is None:
        return ()
    return f"{request.client.host} {request.client.port}", request.client.host
