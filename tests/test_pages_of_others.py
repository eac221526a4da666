"""Pages of others write through no door: each request that may write, with what pages can send."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
import trio
from starlette.routing import Route, WebSocketRoute

from phextsync.discovery import Address
from phextsync.gateways.guard import Guard
from phextsync.gateways.http import Gateway
from phextsync.node.node import Node
from phextsync.web.app import WebApp
from tests.page_attacks import attacks_of_pages
from tests.web_nodes import AT, HOST, ask, make_identity, web_node

pytestmark = pytest.mark.real

_UPGRADE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    "Sec-WebSocket-Version": "13",
}
_STORE: Final = "/v1/memory_stores/{store}"

# The method and the route of each request that may write, by which the next test knows that none
# is left out. Web sockets are asked for by GET.
_OF_THE_WEB: Final = (
    ("PUT", "/api/v1/phexts/{phext}/scrolls/{coordinate:path}"),
    ("POST", "/api/v1/phexts/{phext}/scrolls/{coordinate:path}"),
    ("DELETE", "/api/v1/phexts/{phext}/scrolls/{coordinate:path}"),
    ("POST", "/scroll/{phext}/{coordinate:path}"),
    ("POST", "/restore/{phext}/{coordinate:path}"),
    ("POST", "/settle/{number}"),
    ("POST", "/undelete"),
    ("POST", "/confirm"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/v1/memory_stores"),
    ("POST", _STORE),
    ("DELETE", _STORE),
    ("POST", _STORE + "/archive"),
    ("POST", _STORE + "/memories"),
    ("POST", _STORE + "/memories/{memory}"),
    ("DELETE", _STORE + "/memories/{memory}"),
    ("POST", _STORE + "/memory_versions/{version}/redact"),
    ("GET", "/sync/{phext}/{coordinate:path}"),
    ("GET", "/hocuspocus"),
)
_OF_SQ: Final = tuple(
    (method, f"/api/v2/{operation}?p=memory&c={AT}&s=theirs")
    for operation, methods in {
        "insert": ("GET", "POST"),
        "update": ("GET", "POST"),
        "delete": ("GET",),
    }.items()
    for method in methods
)


def _asked(method: str, route: str) -> tuple[str, Mapping[str, str]]:
    """Return the path of a request by its route, and what it needs to be one."""
    path = route.replace("{coordinate:path}", AT).replace("{phext}", "memory")
    for name in ("store", "memory", "version", "number"):
        path = path.replace(f"{{{name}}}", "1")
    return path, _UPGRADE if method == "GET" and "/api/v2/" not in path else {}


def test_no_request_of_the_web_server_that_may_write_is_left_out(tmp_path: Path) -> None:
    make_identity(tmp_path)

    async def routes_of_a_node() -> set[tuple[str, str]]:
        async with web_node(tmp_path) as (node, _):
            routes = vars(WebApp(node, Guard(), now_s=lambda: 0).asgi)["_app"].routes
        found = {("GET", route.path) for route in routes if isinstance(route, WebSocketRoute)}
        for route in routes:
            if isinstance(route, Route):
                found |= {(method, route.path) for method in route.methods or ()} - {
                    (method, route.path) for method in ("GET", "HEAD", "OPTIONS")
                }
        return found

    assert trio.run(routes_of_a_node) == set(_OF_THE_WEB)


async def test_no_page_of_another_origin_writes_through_the_web_server(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        for method, route in _OF_THE_WEB:
            await _holds(node, port, method, route)
        own = {"Origin": f"http://{HOST}:{port}", "Sec-Fetch-Site": "same-origin"}
        path, _ = _asked(*_OF_THE_WEB[0])
        assert (await ask(port, "PUT", path, b"ours", own))[0] == 200
        for origin in (f"http://{HOST}:{port + 1}", "http://localhost:1"):  # which may read
            assert (await ask(port, "GET", path, headers={"Origin": origin}))[0] == 200


async def test_no_page_of_another_origin_writes_through_the_gateway(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, _), trio.open_nursery() as nursery:
        gateway = Gateway(node, guard=Guard())
        port = await nursery.start(gateway.serve, Address(HOST, 0))
        for method, path in _OF_SQ:
            await _holds(node, port, method, path)
        own = {"Origin": f"http://{HOST}:{port}", "Sec-Fetch-Site": "same-origin"}
        assert (await ask(port, "POST", _OF_SQ[1][1], b"ours", own))[0] == 200
        nursery.cancel_scope.cancel()


async def _holds(node: Node, port: int, method: str, route: str) -> None:
    """Check that a request is refused to all pages of others, changes nothing, and is one that a
    program may make."""
    path, needed = _asked(method, route)
    body = b"" if method == "GET" else b"theirs"
    for attack in attacks_of_pages(port):
        status, _, answer = await ask(port, method, path, body, {**needed, **attack})
        assert status == 403, (method, route, attack, answer)
    assert AT not in node.phext()
    if not needed:
        assert (await ask(port, method, path, body))[0] not in {401, 403, 405}, (method, route)
        node.phext().pop(AT, None)
