"""What a certificate does not let a node read comes through none of its doors.

A holder has scrolls that a guest may not read; all that can be asked at the doors of the guest is
asked. What there is to ask is taken from the tables of the doors, so that nothing new is left out.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import pytest
import trio
from starlette.routing import Route
from typer.testing import CliRunner
from wsproto.frame_protocol import FrameProtocol

from phextsync import Node, aio, open_node
from phextsync.cli.main import app
from phextsync.control.bringing import served
from phextsync.control.frames import Value
from phextsync.control.operations import OPERATIONS, Operation, Serving
from phextsync.control.sessions import Session
from phextsync.discovery import Address
from phextsync.errors import PhextsyncError
from phextsync.gateways import sq
from phextsync.gateways.agent import Agent
from phextsync.gateways.guard import Guard
from phextsync.gateways.http import Gateway
from phextsync.gateways.tools import TOOLS
from phextsync.index import CoordinateRange
from phextsync.trust.authority import Authority
from phextsync.trust.identity import PendingIdentity
from phextsync.trust.permissions import UNRESTRICTED, Permissions
from phextsync.varints import varints
from phextsync.web.app import WebApp
from phextsync.web.lib0 import sized, sized_text
from sims.processes import PATIENCE_S
from tests.polling import until
from tests.test_data_folders import _GIVEN
from tests.web_nodes import HOST, ask, web_node

pytestmark = pytest.mark.real

_SHOWN: Final = "2.1.1/1.1.1/1.1.1"
_HIDDEN: Final = "1.1.1/1.1.1/1.1.1"  # requests name it
_UNNAMED: Final = "1.9.8/7.6.5/4.3.2"
_GONE: Final = "1.9.8/7.6.5/4.3.3"
_SECRETS: Final = tuple(
    text.encode() for text in ("hushed", _UNNAMED, _GONE, _UNNAMED.replace("/", ";"))
)
_PHEXTS: Final = ("memory", "quiet", "mail", "tasks", "memory-stores")


class _World:
    """A holder of everything and its guest, both running; and what the guest's doors answered."""

    def __init__(self, holder: Node, guest: Node, port: int) -> None:
        self.holder = holder
        self.guest = guest
        self.port = port
        self.asked: list[tuple[object, bytes]] = []

    def note(self, request: object, answer: object) -> None:
        """This was asked, and answered."""
        told = answer if isinstance(answer, bytes) else repr(answer).encode()
        self.asked.append((request, told))

    async def settle(self) -> None:
        """Wait until the guest has what it may read of all that the holder wrote so far."""
        self.holder.phext().append(_SHOWN, ".")
        await until(lambda: self.guest.phext().get(_SHOWN) == self.holder.phext()[_SHOWN])

    def check(self, *, shows: bytes = b"shown text") -> None:
        """Check that something was told, and nothing that may not be."""
        for request, told in self.asked:
            assert not any(secret in told for secret in _SECRETS), (request, told)
        assert any(shows in told for _, told in self.asked), self.asked
        assert self.holder.phext()[_HIDDEN] == "hushed text"


def _issued(folder: Path, authority: Authority, permissions: Permissions) -> Path:
    pending = PendingIdentity.create(folder.name, folder.name.encode().ljust(32))
    bundle = authority.answer(pending.request(), permissions, now_s=time.time(), valid_s=None)
    pending.accepted(bundle).save(folder)
    return folder


@asynccontextmanager
async def _world(folder: Path, *, is_liar: bool = False) -> AsyncIterator[_World]:
    """Run both; a guest that is a liar behaves as if it had a certificate for everything."""
    authority = Authority.generate(bytes(32))
    mine = Permissions.of({}, {"memory": [CoordinateRange.parse("2.*")]})
    at_holder = _issued(folder / "holder", authority, UNRESTRICTED)
    at_guest = _issued(folder / "guest", authority, mine)
    with trio.fail_after(PATIENCE_S):
        async with web_node(at_guest) as (guest, port):
            if is_liar:
                guest.replicas.permissions = UNRESTRICTED
            peers = [f"{HOST}:{guest.port}"]
            async with open_node(
                at_holder, host=HOST, port=0, discover=False, peers=peers
            ) as holder:
                _fill(holder)
                world = _World(holder, guest, port)
                await world.settle()
                yield world
    kept = [path for path in at_guest.rglob("*") if path.is_file()]
    assert len(kept) > 3
    for path in kept:
        assert b"hushed" not in path.read_bytes(), path


def _fill(holder: Node) -> None:
    for phext, place in product(_PHEXTS, (_HIDDEN, _UNNAMED, _GONE)):
        holder.phext(phext)[place] = "hushed text"
    for phext in _PHEXTS:
        del holder.phext(phext)[_GONE]
    holder.phext("hushed")[_SHOWN] = "hushed text"
    holder.phext()[_SHOWN] = "shown text"
    holder.publish({"note": "hushed", "edits": _UNNAMED})


_SAMPLES: Final[dict[str, tuple[Value, ...]]] = {
    "the name of a phext": _PHEXTS,
    "a phext or None": (None, *_PHEXTS),
    "a coordinate": (_HIDDEN, _SHOWN),
    "a range": ("*", "1.*", "2.*"),
    "a coordinate or nothing": ("",),
    "True or False": (True,),
    "a number or None": (None,),
    "a list": ([], [_HIDDEN]),
    "words": ("text", "hush*"),
    "a time in milliseconds": (1 << 45,),
    "a node id": (bytes(16),),
}
_OF_A_KIND: Final[dict[object, tuple[Value, ...]]] = {
    str: ("text",),
    bytes: (b"",),
    int: (5,),
    bool: (False,),
    list: ([],),
}


def _requests(operation: Operation[object]) -> Iterator[list[Value]]:
    """Give an operation with all that may be a good question of somebody curious."""
    each = [
        _SAMPLES.get(argument.what) or _OF_A_KIND.get(argument.kind, (None,))
        for argument in operation.arguments
    ]
    for arguments in product(*each):
        yield [operation.name, *arguments]


@pytest.mark.parametrize("is_liar", [False, True])
async def test_no_operation_tells_of_what_may_not_be_read(tmp_path: Path, is_liar: bool) -> None:
    async with _world(tmp_path, is_liar=is_liar) as world:
        session = Session(world.guest.desk, b"c" * 16)
        number = 0
        for operation in OPERATIONS.values():
            for request in _requests(operation):
                number += 1
                try:
                    if operation.serving is Serving.LASTS:
                        session.begin(number, request)
                    elif operation.name not in ("next", "synced"):
                        world.note(request, await served(world.guest.desk, request, "curious"))
                except (PhextsyncError, IndexError, KeyError, TypeError) as error:
                    world.note(request, error)
        session.close()
        world.check()


# -- over HTTP -----------------------------------------------------------------------------

_QUERY: Final = urlencode(
    {
        **{"range": "*", "words": "text", "after": "", "last": 9, "limit": 9, "count": 9},
        **{"time_ms": 1 << 45, "at": 1 << 45, "coordinate": _HIDDEN, "view": "full"},
        **{"include_archived": "true", "s": "theirs", "name": "theirs"},
    }
)
_UPGRADE: Final = {
    **{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
    "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
}


def _paths(route: str) -> Iterator[str]:
    """Give the paths of a route that may lead to something."""
    for phext, place in product(_PHEXTS, (_HIDDEN, _SHOWN)):
        path = route.replace("{coordinate:path}", place).replace("{phext}", phext)
        for name in ("store", "memory", "version", "number", "name"):
            path = path.replace(f"{{{name}}}", quote(place, safe=""))
        yield path
        if path == route:
            return


async def test_no_request_over_http_tells_of_what_may_not_be_read(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        routes = vars(WebApp(world.guest, Guard(), now_s=lambda: 0).asgi)["_app"].routes
        for route in routes:
            if not isinstance(route, Route) or route.path in ("/events", "/mcp"):
                continue
            for method, path in product(sorted(route.methods or ()), _paths(route.path)):
                for query in ("", f"?{_QUERY}&phext=memory&p=memory"):
                    body = b"" if method in ("GET", "HEAD") else _QUERY.encode()
                    answer = await ask(world.port, method, path + query, body)
                    world.note((method, path, query), repr(answer).encode())
        world.check()


async def test_no_request_of_sq_tells_of_what_may_not_be_read(tmp_path: Path) -> None:
    async with _world(tmp_path) as world, trio.open_nursery() as nursery:
        port = await nursery.start(Gateway(world.guest).serve, Address(HOST, 0))
        operations = [
            (name, method) for name, methods, _ in vars(sq)["_ROUTES"] for method in methods
        ]
        others = [("/metrics", "GET"), ("/health", "GET")]
        paths = [(f"/api/v2/{name}", method) for name, method in operations]
        for (path, method), phext, place in product(paths + others, _PHEXTS, (_HIDDEN, _SHOWN)):
            query = urlencode({"p": phext, "c": place, "s": "theirs"})
            body = b"" if method == "GET" else b"theirs"
            answer = await ask(port, method, f"{path}?{query}", body)
            world.note((method, path, query), repr(answer).encode())
        world.check()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_liar", [False, True])
async def test_no_stream_tells_of_what_may_not_be_read(tmp_path: Path, is_liar: bool) -> None:
    async with _world(tmp_path, is_liar=is_liar) as world, trio.open_nursery() as nursery:
        gateway = await nursery.start(Gateway(world.guest).serve, Address(HOST, 0))
        told: dict[tuple[int, str], bytearray] = {}
        is_open = trio.Event()

        async def follow(port: int, path: str, headers: dict[str, str], sent: bytes) -> None:
            lines = {"Host": f"{HOST}:{port}", **headers}
            head = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in lines.items()), "", ""]
            got = told[port, path] = bytearray()
            async with await trio.open_tcp_stream(HOST, port) as stream:
                await stream.send_all("\r\n".join(head).encode() + sent)
                async for piece in stream:
                    got += piece
                    if all(told.values()) and len(told) == len(followed):
                        is_open.set()

        followed = list(_followed(world.port, gateway))
        for each in followed:
            nursery.start_soon(follow, *each)
        await is_open.wait()
        for phext in _PHEXTS:
            world.holder.phext(phext).append(_UNNAMED, "hushed too")
            world.holder.phext(phext).append(_HIDDEN, "")
        world.holder.phext().append(_SHOWN, " later")
        await world.settle()
        events = [got for (_, path), got in told.items() if path.startswith("/events?p=memory")]
        await until(lambda: all(_SHOWN.encode() in got for got in events))
        for request, got in told.items():
            world.note(request, bytes(got))
        world.check()
        nursery.cancel_scope.cancel()


def _followed(web: int, gateway: int) -> Iterator[tuple[int, str, dict[str, str], bytes]]:
    """Give the streams of a web server and a gateway: what is asked, and what is sent then."""
    for port, phext in product((web, gateway), ("memory", "quiet")):
        yield port, f"/events?p={phext}&phext={phext}&range=*&texts=true", {}, b""
    for phext, place in product(("memory", "quiet"), (_HIDDEN, _SHOWN)):
        step = varints(0, 0) + sized(b"\0")
        yield web, f"/sync/{phext}/{place}", _UPGRADE, _frame(step)
        yield (
            web,
            f"/hocuspocus?{phext}{place}",
            _UPGRADE,
            _frame(sized_text(f"{phext}/{place}") + varints(2, 0) + sized_text(""))
            + _frame(sized_text(f"{phext}/{place}") + step),
        )


def _frame(data: bytes) -> bytes:
    return bytes(FrameProtocol(client=True, extensions=[]).send_data(data))


# -- agents and commands, which are processes of their own -----------------------------------

_ARGUMENTS: Final = {
    **{"coordinate": _HIDDEN, "range": "*", "words": "text", "text": "theirs", "old": "text"},
    **{"new": "theirs", "to": "all", "claim": "1:a:b"},
}


async def test_no_tool_of_an_agent_tells_of_what_may_not_be_read(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        for name, request, answer in await trio.to_thread.run_sync(_use_tools, world.guest.folder):
            world.note((name, request), answer)
        world.check()


def _use_tools(folder: Path) -> list[tuple[str, object, str]]:
    async def use() -> list[tuple[str, object, str]]:
        said: list[tuple[str, object, str]] = []
        async with aio.open(folder) as handle:
            agent = Agent(handle)
            for tool, phext, place in product(TOOLS.values(), _PHEXTS, (_HIDDEN, _SHOWN)):
                given = {**_ARGUMENTS, "coordinate": place, "phext": phext}
                taken = {each.name for each in tool.parameters}
                request = {name: value for name, value in given.items() if name in taken}
                try:
                    answer = "\n".join(await agent.call(tool.name, request))
                except PhextsyncError as error:
                    answer = str(error)
                said.append((tool.name, request, answer))
            said.append(("phexts", None, str(await agent.phexts())))
        return said

    return asyncio.run(use())


_NOT_OF_A_NODE: Final = frozenset(  # without end, or about folders, keys and other programs
    {"up", "mcp", "watch", "editor", "integrate", "init", "join", "join --rotate", "request"}
    | {"accept", "invite", "rotate", "restore", "repair", "measure", "service install"}
    | {"service status", "service remove", "backup", "code"}
)


async def test_no_command_tells_of_what_may_not_be_read(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        for name, each in _GIVEN.items():
            for words in [] if name in _NOT_OF_A_NODE else each:
                given = [word.replace("here/", f"{tmp_path}/") for word in words]
                command = ["--data", str(world.guest.folder), *given]
                invoke = partial(CliRunner().invoke, app, command, input="x")
                result = await trio.to_thread.run_sync(invoke)
                world.note(given, f"{result.output}{result.stderr}{result.exception}".encode())
        world.check()
