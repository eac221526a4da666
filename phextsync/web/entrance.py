"""The entrance: what may come in to the web server, and what all its answers tell a browser."""

from typing import Final
from urllib.parse import parse_qs

import trio
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from phextsync.boundaries import Boundary, first
from phextsync.gateways.guard import Guard, Refused
from phextsync.gateways.http1 import Refusal
from phextsync.web.login import Login
from phextsync.web.times import WallTime

LOGIN: Final = "/login"
HEALTH: Final = "/health"
STATIC: Final = "/static/"
HOCUSPOCUS: Final = "/hocuspocus"
ADMITTED: Final = "phextsync.admitted"
"""In the scope: whether the client has shown what it takes, and not only will."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # without one, forms say that they come from nowhere
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_OF_THE_CLIENT: Final = (
    Refusal,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)
_NO_STORE: Final = (b"cache-control", b"no-store")


class Entrance:
    """An ASGI application behind the guard. An error inside ends its own request."""

    def __init__(
        self, app: ASGIApp, guard: Guard, login: Login, now_s: WallTime, boundary: Boundary
    ) -> None:
        self._app = app
        self._guard = guard
        self._login = login
        self._now_s = now_s
        self._boundary = boundary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or say why not."""
        answer = _Answer(send)
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
        refused = self._refusal(scope, headers)
        if refused is None:
            passed: BaseException | None = None
            with self._boundary.around("a request of the web server") as outcome:
                try:
                    await self._app(scope, receive, answer)
                except* _OF_THE_CLIENT as group:
                    passed = first(group)
            if passed is not None:
                raise passed
            if outcome.error is not None and not answer.has_begun and scope["type"] == "http":
                await PlainTextResponse("Internal Server Error", 500)(scope, receive, answer)
        elif scope["type"] == "websocket":
            socket = WebSocket(scope, receive, send)
            await socket.send_denial_response(_plain(refused))
        elif refused.status == 401 and _is_for_people(scope, headers):
            await RedirectResponse(LOGIN, 303)(scope, receive, answer)
        else:
            await _plain(refused)(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: list[tuple[str, str]]) -> Refused | None:
        scope[ADMITTED] = True
        is_socket = scope["type"] == "websocket"  # over which one writes
        refused = self._guard.refusal(scope.get("method", "GET"), headers, writes=is_socket)
        path = scope["path"]
        if refused is None or not self._guard.wants_token:
            return refused
        if path == HEALTH or path.startswith(STATIC):  # which tell nothing of the scrolls
            return None
        if path == LOGIN or self._has_cookie(headers):
            return self._guard.refusal_of_page(headers)
        if is_socket:
            shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self._guard.is_token(shown):
                return None
            if path == HOCUSPOCUS:  # its clients show the token in their first message
                scope[ADMITTED] = False
                return None
        return refused

    def _has_cookie(self, headers: list[tuple[str, str]]) -> bool:
        cookies = "; ".join(value for name, value in headers if name == "cookie")
        return self._login.is_in(cookies, self._now_s())


class _Answer:
    """Sends an answer, with what it has to tell a browser besides."""

    def __init__(self, send: Send) -> None:
        self.has_begun = False
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = [*message.get("headers", ()), *_HEADERS]
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append(_NO_STORE)
            message = {**message, "headers": headers}
        await self._send(message)


def _plain(refused: Refused) -> Response:
    more = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
    return PlainTextResponse(refused.reason, refused.status, more)


def _is_for_people(scope: Scope, headers: list[tuple[str, str]]) -> bool:
    return scope["method"] == "GET" and any(
        name == "accept" and "text/html" in value for name, value in headers
    )
