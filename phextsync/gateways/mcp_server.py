"""The Model Context Protocol: scrolls as tools and resources, over stdio and streamable HTTP.

The protocol itself is the SDK's (`mcp`), which speaks the handshake versions and 2026-07-28; the
tools are those of `agent`. It runs under asyncio and reaches the node through `aio`.
"""

import asyncio
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final, Never, TypeAlias

import uvicorn
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
)
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from phextsync import aio
from phextsync.boundaries import Boundary, is_due, printable
from phextsync.control.performing import rest_of
from phextsync.discovery import Address
from phextsync.errors import LinkError, NotHeldError, PhextsyncError
from phextsync.gateways.agent import Agent
from phextsync.gateways.guard import Guard
from phextsync.gateways.mcp_bounds import (
    CONNECTIONS_MAX,
    SESSION_IDLE_S,
    SESSIONS_MAX,
    Sessions,
    TimedConnection,
)
from phextsync.gateways.mcp_stdio import answered_stdio
from phextsync.gateways.tools import PAGE_ROWS, TOOLS
from phextsync.handles.awaiting import running
from phextsync.handles.engine import Engine, Options
from phextsync.index import Coordinate
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.replica.changes import Change

PATH: Final = "/mcp"
DEFAULT_PORT: Final = 7438

_SCHEME: Final = "phext://"
_INSTRUCTIONS: Final = """\
Memory that is the same on all machines of a mesh: texts ("scrolls") at coordinates such as
1.5.2/3.7.3/9.1.1, in collections ("phexts"); the usual one is `memory`. Begin with list or search.
"""
_RESOURCE_CHARACTERS_MAX: Final = 1 << 20
_SUBSCRIPTIONS_MAX: Final = 1000
_PAUSE_S: Final = 0.1  # within which changes of one scroll are one notification
_STOP_S: Final = 2
_FILTERED: Final = ("mcp.server.streamable_http_manager", "uvicorn.error")
_TELL_S: Final = 5.0

_log = logging.getLogger("phextsync.gateways")

Signals: TypeAlias = Sequence[signal.Signals]
Context: TypeAlias = ServerRequestContext[None, Request]


class _Served:
    """The handlers of the protocol over one node, for all sessions."""

    def __init__(self, node: aio.AsyncHandle, boundary: Boundary) -> None:
        self._node = node
        self._agent = Agent(node)
        self._agent.on_change = self._note
        self._boundary = boundary
        self._bus = InMemorySubscriptionBus()
        self._listen_handler = ListenHandler(self._bus)
        self._listening: dict[str, int] = {}  # resources that streams of 2026-07-28 listen to
        self._subscribed: dict[tuple[str, str], ServerSession] = {}  # of earlier versions
        self._changed: dict[str, None] = {}
        self._has_changed = asyncio.Event()
        self.server: Server[None] = Server(
            "phextsync",
            version=version("phextsync"),
            instructions=_INSTRUCTIONS,
            lifespan=_no_state,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=self._listen,
        )

    async def publish(self) -> Never:
        """Tell sessions what they want to know of, as of now."""
        with self._boundary.around("watching for changes"):
            for phext in sorted({DEFAULT_PHEXT, *await self._agent.phexts()}):
                await self._agent.watch(phext)
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            changed, self._changed = self._changed, {}
            with self._boundary.around("telling of changes"):
                for uri in changed:
                    await self._bus.publish(ResourceUpdated(uri))
                    await self._tell_subscribers(uri)
                await self._bus.publish(ResourcesListChanged())
            await asyncio.sleep(_PAUSE_S)

    async def _tell_subscribers(self, uri: str) -> None:
        """Tell sessions of earlier versions, all at once; one that has ended or takes nothing is
        left out."""
        wanting = [session for key, session in self._subscribed.items() if key[1] == uri]
        await asyncio.gather(*(self._tell(session, uri) for session in wanting))

    async def _tell(self, session: ServerSession, uri: str) -> None:
        with self._boundary.around("telling a session of a change") as outcome:
            async with asyncio.timeout(_TELL_S):
                await session.send_resource_updated(uri)
        if outcome.error is not None:
            kept = self._subscribed.items()
            self._subscribed = {key: each for key, each in kept if each is not session}

    # -- tools -----------------------------------------------------------------------------

    async def _list_tools(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=tool.schema(),
                    annotations=types.ToolAnnotations(
                        read_only_hint=not tool.writes,
                        destructive_hint=tool.replaces,
                        open_world_hint=False,
                    ),
                )
                for tool in TOOLS.values()
            ]
        )

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name not in TOOLS:
            raise MCPError(
                types.INVALID_PARAMS,
                f"there is no tool {params.name!r:.40}; the tools are {', '.join(TOOLS)}",
            )
        try:
            given = params.arguments or {}
            texts, failed = await self._agent.call(params.name, given, _session_of(context)), False
        except PhextsyncError as error:
            texts, failed = [str(error)], True
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text) for text in texts], is_error=failed
        )

    # -- resources -------------------------------------------------------------------------

    async def _list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """List a page of scrolls; the cursor is the last resource of the page before."""
        cursor = params.cursor if params is not None else None
        first, after = ("", "") if cursor is None else _parts(cursor)
        resources: list[types.Resource] = []
        missing: list[str] = []  # of which nobody could be asked
        for name in await self._agent.phexts():
            if name < first:
                continue
            rest = rest_of("*", str(after) if name == first else "")
            try:
                async with aclosing(self._agent.rows(self._node.phext(name), rest)) as rows:
                    async for place, size, line in rows:
                        if len(resources) == PAGE_ROWS:
                            return types.ListResourcesResult(
                                resources=resources, next_cursor=resources[-1].uri
                            )
                        resources.append(_resource(name, place, size, line))
            except NotHeldError as error:
                missing.append(str(error))
        meta = {"phextsync/missing": "; ".join(missing)} if missing else None
        return types.ListResourcesResult(resources=resources, _meta=meta)

    async def _list_templates(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            uri_template=_SCHEME + "{phext}/{+coordinate}",
            name="scroll",
            description="The scroll at a coordinate: phext://memory/1.1.1/1.1.1/1.1.1",
            mime_type="text/plain",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        phext, place = _parts(params.uri)
        try:
            text = await self._agent.read(phext, place, _session_of(context))
        except PhextsyncError as error:
            raise _bad_resource(params.uri, str(error)) from error
        if len(text) > _RESOURCE_CHARACTERS_MAX:
            reason = f"it has {len(text)} characters; use the tool read, which reads by pages"
            raise _bad_resource(params.uri, reason)
        contents = types.TextResourceContents(uri=params.uri, text=text, mime_type="text/plain")
        return types.ReadResourceResult(contents=[contents])

    # -- subscriptions ---------------------------------------------------------------------

    async def _subscribe(
        self, context: Context, params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        await self._watch(params.uri)
        key = _session_of(context) or "", params.uri
        self._subscribed.pop(key, None)
        self._subscribed[key] = context.session
        if len(self._subscribed) > _SUBSCRIPTIONS_MAX:  # sessions end without telling
            del self._subscribed[next(iter(self._subscribed))]
        return types.EmptyResult()

    async def _unsubscribe(
        self, context: Context, params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        self._subscribed.pop((_session_of(context) or "", params.uri), None)
        return types.EmptyResult()

    async def _listen(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        uris = tuple(params.notifications.resource_subscriptions or ())
        if len(uris) > _SUBSCRIPTIONS_MAX:
            reason = f"expected at most {_SUBSCRIPTIONS_MAX} resources, found {len(uris)}"
            raise MCPError(types.INVALID_PARAMS, f"{reason}; listen to them in several streams")
        for uri in uris:
            await self._watch(uri)
        for uri in uris:
            self._listening[uri] = self._listening.get(uri, 0) + 1
        try:
            return await self._listen_handler(context, params)
        finally:
            for uri in uris:
                self._listening[uri] -= 1
                if not self._listening[uri]:
                    del self._listening[uri]

    async def _watch(self, uri: str) -> None:
        phext, place = _parts(uri)
        if uri != f"{_SCHEME}{phext}/{place}":
            raise _bad_resource(uri, f"expected {_SCHEME}{phext}/{place}")
        try:
            await self._agent.watch(phext)
        except PhextsyncError as error:
            raise _bad_resource(uri, str(error)) from error

    def _note(self, change: Change) -> None:
        if change.missed is None:
            uris = [f"{_SCHEME}{change.phext}/{place}" for place in change.coordinates]
        else:  # any of them may have changed
            wanted = (*self._listening, *(uri for _, uri in self._subscribed))
            uris = [uri for uri in wanted if uri.startswith(f"{_SCHEME}{change.phext}/")]
        self._changed.update(dict.fromkeys(uris))
        self._has_changed.set()


@asynccontextmanager
async def _no_state(server: Server[None]) -> AsyncIterator[None]:
    yield


def _session_of(context: Context) -> str | None:
    """Name the session of a request: there is one on stdio, many over HTTP by earlier versions,
    and none (None) over HTTP by 2026-07-28."""
    return "" if context.request is None else context.request.headers.get("mcp-session-id")


def _resource(phext: str, place: Coordinate, size: int, line: str) -> types.Resource:
    return types.Resource(
        uri=f"{_SCHEME}{phext}/{place}",
        name=f"{phext} {place}",
        title=line or None,
        mime_type="text/plain",
        size=size,
    )


def _parts(uri: str) -> tuple[str, Coordinate]:
    """Return phext and coordinate of a resource."""
    phext, _, coordinate = uri.removeprefix(_SCHEME).partition("/")
    try:
        if not uri.startswith(_SCHEME):
            raise PhextsyncError("expected phext://PHEXT/COORDINATE")
        return phext, Coordinate.parse(coordinate)
    except PhextsyncError as error:
        example = f"{_SCHEME}{DEFAULT_PHEXT}/1.1.1/1.1.1/1.1.1"
        raise _bad_resource(uri, f"{error}; a resource is such as {example}") from error


def _bad_resource(uri: str, reason: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"{uri:.200}: {reason}", {"uri": uri})


# -- transports ----------------------------------------------------------------------------


async def serve_stdio(folder: Path, options: Options, signals: Signals) -> None:
    """Serve one client on standard input and output until it hangs up or one of some signals
    comes."""
    stopped = asyncio.Event()
    async with _serving(aio.open(folder, **options), signals, stopped.set) as server:
        session = asyncio.create_task(_talk(server))
        signalled = asyncio.create_task(stopped.wait())
        await asyncio.wait((session, signalled), return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()
    if session.done():
        await session
    else:
        os._exit(0)  # nothing else ends the thread that reads standard input


async def _talk(server: Server[None]) -> None:
    async with answered_stdio() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


async def serve_http(
    folder: Path,
    options: Options,
    address: Address,
    guard: Guard,
    signals: Signals,
    *,
    started: Callable[[int], None] = lambda port: None,
) -> None:
    """Serve requests that `guard` lets in over streamable HTTP until one of some signals comes;
    `started` gets the port. LinkError when the address cannot be used, or not without a token."""
    guard.check_address(address.host)
    with _listening_socket(address) as listening:
        stopped = asyncio.Event()
        _filter_logs()
        async with _serving(aio.open(folder, **options), signals, stopped.set) as server:
            config = uvicorn.Config(
                _Guarded(http_app(server), guard),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_STOP_S,
                limit_concurrency=CONNECTIONS_MAX,
                http=TimedConnection,
                ws="none",
            )
            http = uvicorn.Server(config)
            ending = asyncio.create_task(_end_when(stopped, http))
            started(listening.getsockname()[1])
            await http.serve(sockets=[listening])
            ending.cancel()


@asynccontextmanager
async def app_at(folder: Path) -> AsyncIterator[ASGIApp]:
    """Give the application that serves the node which runs on a folder, without a guard."""
    _filter_logs()
    async with _serving(_attached(folder), (), lambda: None) as server:
        app = _application(server)
        async with app.router.lifespan_context(app):
            yield Sessions(app, PATH)


@asynccontextmanager
async def _attached(folder: Path) -> AsyncIterator[aio.AsyncHandle]:
    engine = Engine(folder, {}, may_own=False)
    async with running(engine):
        yield aio.AsyncHandle(engine)


def http_app(server: Server[None]) -> ASGIApp:
    """Return the application that serves streamable HTTP, without a guard. Sessions end when they
    are idle, and there is a bound for them."""
    return Sessions(_application(server), PATH)


def _application(server: Server[None]) -> Starlette:
    return server.streamable_http_app(
        streamable_http_path=PATH,
        session_idle_timeout=SESSION_IDLE_S,
        max_sessions=SESSIONS_MAX,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )


async def _end_when(stopped: asyncio.Event, http: uvicorn.Server) -> None:
    await stopped.wait()
    http.should_exit = True


def _listening_socket(address: Address) -> socket.socket:
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise LinkError(f"cannot serve HTTP on {address}: {error.strerror or error}") from error


@asynccontextmanager
async def _serving(
    opened: AbstractAsyncContextManager[aio.AsyncHandle], signals: Signals, stop: Callable[[], None]
) -> AsyncIterator[Server[None]]:
    """Open a folder and give a server over it; `stop` is called at a signal."""
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, stop)
    boundary = Boundary(_log)
    # What asyncio meets by itself: it cannot accept, a task of a session failed.
    loop.set_exception_handler(lambda loop, context: _note(boundary, context))
    async with opened as node:
        served = _Served(node, boundary)
        publishing = asyncio.create_task(served.publish())
        try:
            yield served.server
        finally:
            publishing.cancel()


def _note(boundary: Boundary, context: Mapping[str, object]) -> None:
    error, part = context.get("exception"), str(context.get("message", "asyncio"))
    if isinstance(error, Exception):
        boundary.note(part, error)
    elif error is None:
        _log.error("%s", printable(part))


def _filter_logs() -> None:
    """Let the logs of others have what is news, once and now and then."""
    logging.getLogger("mcp.server.streamable_http").addFilter(_is_news)
    for name in _FILTERED:
        logger = logging.getLogger(name)
        if not logger.filters:
            logger.addFilter(_rarely())


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the SDK's log tells more than that a client left."""
    return record.exc_info is None or not isinstance(record.exc_info[1], ClientDisconnect)


def _rarely() -> Callable[[logging.LogRecord], bool]:
    """Return a filter that lets the first, tenth, hundredth, ... line of each kind pass."""
    counts: Counter[str] = Counter()

    def passes(record: logging.LogRecord) -> bool:
        counts[str(record.msg)] += 1
        return is_due(counts[str(record.msg)])

    return passes


class _Guarded:
    """An ASGI application behind the guard of all HTTP doors. An error ends its own request."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard
        self._boundary = Boundary(_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Callable[[Scope, Receive, Send], Awaitable[None]] = self._app
        if scope["type"] == "http":
            pairs: list[tuple[bytes, bytes]] = scope["headers"]
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
            refused = self._guard.refusal(scope["method"], headers)
            if refused is not None:
                more = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
                answer = Response(refused.reason, refused.status, more)
        if scope["type"] == "lifespan":
            await answer(scope, receive, send)
            return
        with self._boundary.around("a request of MCP"), suppress(ClientDisconnect):
            await answer(scope, receive, send)
