"""The application: which path of the web server leads where."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from phextsync.errors import PhextsyncError
from phextsync.gateways.guard import Guard
from phextsync.gateways.health import health_of
from phextsync.gateways.metrics import CONTENT_TYPE, NodeMetrics
from phextsync.node.node import Node
from phextsync.web import built
from phextsync.web.api import Api
from phextsync.web.asyncio_app import AsyncioApp
from phextsync.web.directories_view import DirectoriesView
from phextsync.web.editing import Conversations, serve_scroll
from phextsync.web.elsewhere import Elsewhere
from phextsync.web.entrance import ADMITTED, HEALTH, HOCUSPOCUS, LOGIN, STATIC, Entrance
from phextsync.web.figures_view import FiguresView
from phextsync.web.forms import FormTooLargeError, form_of
from phextsync.web.library import Library
from phextsync.web.limits import WebLimits
from phextsync.web.login import Login
from phextsync.web.memory_door import MemoryDoor
from phextsync.web.mesh_view import MeshView
from phextsync.web.one_scroll import OneScroll
from phextsync.web.open_scrolls import OpenScrolls
from phextsync.web.recent import Recent
from phextsync.web.rendering import render
from phextsync.web.shell import Shell
from phextsync.web.streams import Streams
from phextsync.web.times import WallTime

_log: Final = logging.getLogger("phextsync.web")
_FORM_BYTES_MAX: Final = 4096
_WRONG_S: Final = 0.5  # for which a wrong token is held up, and nobody else


class WebApp:
    """What is served of one node, to requests that `guard` lets in."""

    def __init__(
        self,
        node: Node,
        guard: Guard,
        *,
        now_s: WallTime,
        is_secure: bool = False,
        limits: WebLimits | None = None,
    ) -> None:
        limits = limits or WebLimits()
        self.opened = OpenScrolls(node.replicas)
        self.agents = AsyncioApp(partial(_agents_at, node.folder))
        self.elsewhere = Elsewhere(self.opened, node.presence)
        self._node = node
        self._guard = guard
        self._now_s = now_s
        self._login = Login(guard, is_secure=is_secure)
        self._conversations = Conversations(node, self.opened, limits)
        self._streams = Streams(node, limits.streams_max)
        self._metrics = NodeMetrics(node)
        shell = Shell(node, lambda: 1000 * now_s(), has_login=guard.wants_token)
        self.figures = FiguresView(shell)
        self._pages = [
            *Library(shell, Recent(node.replicas, shell.now_ms)).routes(),
            *OneScroll(shell, limits.body_bytes_max).routes(),
            *MeshView(shell).routes(),
            *DirectoriesView(shell).routes(),
            *self.figures.routes(),
        ]
        app = Router(routes=[*self._routes(), *Api(node).routes(), *MemoryDoor(node).routes()])
        boundary = node.boundary.beside(_log)
        self.asgi: ASGIApp = Entrance(app, guard, self._login, now_s, boundary)

    def _routes(self) -> list[BaseRoute]:
        return [
            *self._pages,
            Route(LOGIN, self._log_in, methods=["GET", "POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route(STATIC + "{name}", built.answer),
            Route(HEALTH, self._health),
            Route("/metrics", self._figures),
            Route("/events", self._streams.answer),
            Route("/mcp", self.agents if find_spec("mcp") else _without_agents),
            WebSocketRoute("/sync/{phext}/{coordinate:path}", self._sync),
            WebSocketRoute(HOCUSPOCUS, self._converse),
        ]

    # -- pages -----------------------------------------------------------------------------

    async def _log_in(self, request: Request) -> Response:
        if request.method != "POST":
            return HTMLResponse(_login_page(""))
        try:
            shown = (await form_of(request, _FORM_BYTES_MAX)).get("token", "").strip()
        except FormTooLargeError as error:
            return PlainTextResponse(str(error), 413)
        except PhextsyncError:
            shown = ""
        if not self._guard.is_token(shown):
            await trio.sleep(_WRONG_S)
            return HTMLResponse(_login_page("This is not the token of this node."), 401)
        cookie = self._login.cookie(self._now_s())
        return RedirectResponse("/", 303, headers={"Set-Cookie": cookie})

    async def _log_out(self, request: Request) -> Response:
        return RedirectResponse(LOGIN, 303, headers={"Set-Cookie": self._login.no_cookie()})

    # -- for programs ----------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        status, row = health_of(self._node)
        return JSONResponse(row, status)

    async def _figures(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    # -- web sockets -----------------------------------------------------------------------

    async def _sync(self, socket: WebSocket) -> None:
        await serve_scroll(socket, self.opened)

    async def _converse(self, socket: WebSocket) -> None:
        admits: Callable[[str], bool] = self._guard.is_token
        if socket.scope[ADMITTED]:
            admits = _anybody
        await self._conversations.serve(socket, admits)


def _login_page(problem: str) -> str:
    """Return the page on which a token is shown; `problem` is what was wrong with the last."""
    return render("login.html", {"problem": problem})


def _agents_at(folder: Path) -> AbstractAsyncContextManager[ASGIApp]:
    from phextsync.gateways import mcp_server  # only where agents ask are its packages needed

    return mcp_server.app_at(folder)


async def _without_agents(request: Request) -> Response:
    text = "serving agents needs more packages: pip install 'phextsync[mcp]'"
    return PlainTextResponse(text, 501)


def _anybody(token: str) -> bool:
    return True
