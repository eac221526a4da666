"""The web server: clients of Yjs at one scroll, of one node and across two, what sockets take; and
the page.

A keystroke is timed from one client's socket to another's; a client is this process. Across two
nodes it passes both, with TLS between them. Yardstick of the same run: `pycrdt-websocket` on
uvicorn, with the same library for web sockets, where it is installed.
"""

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import trio
from pycrdt import Doc, Text
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
)

from benchmarks import page
from benchmarks.nodes import LOOPBACK, anonymous_mb, in_other, make_folders, pin
from benchmarks.report import Report, absent, quantile
from phextsync.discovery import Address
from phextsync.gateways.guard import Guard
from phextsync.index import Coordinate
from phextsync.node.node import Node, open_node
from phextsync.varints import varints
from phextsync.web.lib0 import Reader, sized
from phextsync.web.serving import serve

_SOCKETS: Final = 200
_SCROLLS: Final = 50
_EMPTY: Final = 2 + _SCROLLS  # the first scroll without a text
_TURNS: Final = 10
_TEXT: Final = "A line of a note that somebody wrote.\n" * 50
STEP_1, STEP_2, UPDATE = range(3)


def run(*, quick: bool) -> Report:
    """Measure; `quick` presses fewer keys."""
    report = Report()
    keys = 100 if quick else 1000
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary, ExitStack() as stack:
        folders = make_folders(Path(temporary), "one", "two")
        first = stack.enter_context(in_other(run_node, folders[0], ()))
        port, web = first.recv()
        pin(0)
        add_one_node(report, web, keys)
        second = stack.enter_context(in_other(run_node, folders[1], (f"{LOOPBACK}:{port}",)))
        other = second.recv()[1]
        _add(report, "client_to_client", trio.run(press, (web, other), [path_of(1)] * 2, keys))
        before = _memory_mb(first)
        name = f"sockets_mb@{_SOCKETS}x{_SCROLLS}"
        report.add(name, [trio.run(_hold_sockets, web, first) - before], "MB")
        for node in (first, second):
            node.send("stop")
    page.add_size(report)
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary, ExitStack() as stack:
        folders = make_folders(Path(temporary), "one", "two")
        first = stack.enter_context(in_other(run_node, folders[0], (), None))
        port, web = first.recv()
        second = stack.enter_context(in_other(run_node, folders[1], (f"{LOOPBACK}:{port}",), None))
        path = f"/scroll/bench/{_place(2)}"
        page.add_keys(report, (web, second.recv()[1]), path, _TEXT, keys)
        for node in (first, second):
            node.send("stop")
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as temporary:
        page.add_first_paint(report, Path(temporary), 10_000 if quick else 1_000_000)
    return report


def add_one_node(report: Report, web: int, keys: int) -> None:
    """Add how long keys take at one node, and at the other server where there is one: in turns, so
    that what the machine does meanwhile meets both, and each with a text of its own."""
    ours: list[float] = []
    theirs: list[float] = []
    there = find_spec("pycrdt.websocket") is not None
    with pycrdt_websocket() if there else nullcontext() as other:
        for turn in range(_TURNS):
            ours += trio.run(press, (web, web), [path_of(_EMPTY + turn)] * 2, keys // _TURNS)
            if other is not None:
                theirs += trio.run(press, (other, other), [f"/{turn}"] * 2, keys // _TURNS)
    if not theirs:
        _add(report, "one_node", ours)
        report.notes.append(absent("pycrdt-websocket"))
        return
    _add(report, "pycrdt_websocket", theirs)
    _add(report, "one_node", ours, "pycrdt_websocket_p50_ms")
    ratio = quantile(ours, 0.5) / quantile(theirs, 0.5)
    report.add("one_node_ratio", [ratio], "ratio", "pycrdt_websocket_p50_ms")


def _add(report: Report, name: str, times_ms: list[float], yardstick: str | None = None) -> None:
    report.add(f"{name}_p50_ms", [quantile(times_ms, 0.5)], "ms", yardstick)
    report.add(f"{name}_p99_ms", [quantile(times_ms, 0.99)], "ms")


def path_of(number: int) -> str:
    return f"/sync/bench/{_place(number)}"


def _place(number: int) -> Coordinate:
    return Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number)


# -- clients -------------------------------------------------------------------------------


class Client:
    """One web socket of y-websocket's protocol."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._socket = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def open(self, path: str, state: bytes = b"\0") -> bytes:
        """Begin, and return what is there beyond a state."""
        await self._send(Request(host=LOOPBACK, target=path))
        assert isinstance(await self._next(), AcceptConnection)
        await self.say(STEP_1, state)
        while True:
            kind, update = await self.hear()
            if kind == STEP_2:
                return update

    async def close(self) -> None:
        """Take leave and end: a server may fail that writes to a client that is gone."""
        await self._send(CloseConnection(code=1000))
        while not isinstance(await self._next(), CloseConnection):
            pass
        await self._stream.aclose()

    async def say(self, kind: int, data: bytes) -> None:
        """Send a message of synchronization."""
        await self._send(BytesMessage(data=varints(0, kind) + sized(data)))

    async def hear(self) -> tuple[int, bytes]:
        """Return the next message of synchronization."""
        data = b""
        while True:
            event = await self._next()
            if isinstance(event, Ping):
                await self._send(event.response())
            elif isinstance(event, BytesMessage):
                data += event.data
                if event.message_finished:
                    reader, data = Reader(data), b""
                    if reader.integer() == 0:
                        return reader.integer(), reader.bytes()

    async def _send(self, event: Event) -> None:
        await self._stream.send_all(self._socket.send(event))

    async def _next(self) -> Event:
        while not self._events:
            if not (data := await self._stream.receive_some(1 << 16)):
                raise EOFError("expected a message of the server, found the end")
            self._socket.receive_data(bytes(data))
            self._events = list(self._socket.events())
        return self._events.pop(0)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """Yield a client that is closed at the end."""
    client = Client(await trio.open_tcp_stream(LOOPBACK, port))
    yield client
    await client.close()


async def press(ports: tuple[int, int], paths: list[str], keys: int) -> list[float]:
    """Return the milliseconds that each key took from one client to the other."""
    times_ms: list[float] = []
    doc: Doc[Text] = Doc()
    text = doc.get("text", type=Text)
    async with connected(ports[0]) as writer, connected(ports[1]) as reader:
        await writer.open(paths[0])
        await reader.open(paths[1])
        for number in range(keys):
            before = doc.get_state()
            text.insert(number, "x")
            update = doc.get_update(before)
            began = time.perf_counter()
            await writer.say(UPDATE, update)
            while (await reader.hear())[0] == STEP_1:
                pass
            times_ms.append((time.perf_counter() - began) * 1000)
    return times_ms[keys // 10 :]


async def _hold_sockets(port: int, pipe: Connection) -> float:
    """Open all sockets; return what memory the node has then."""
    clients: list[Client] = []
    for number in range(_SOCKETS):
        clients.append(Client(await trio.open_tcp_stream(LOOPBACK, port)))
        await clients[-1].open(path_of(2 + number % _SCROLLS))
    return _memory_mb(pipe)


def _memory_mb(pipe: Connection) -> float:
    pipe.send("memory")
    memory: float = pipe.recv()
    return memory


# -- servers -------------------------------------------------------------------------------


def run_node(pipe: Connection, folder: Path, peers: tuple[str, ...], core: int | None = 1) -> None:
    """Run a node, on one core or, beside browsers, which have many processes, on any."""
    if core is not None:
        pin(core)
    trio.run(_hold_node, pipe, folder, peers)


async def _hold_node(pipe: Connection, folder: Path, peers: tuple[str, ...]) -> None:
    """Run a node with its web server; answer how much memory it takes until told to stop."""
    async with (
        open_node(folder, host=LOOPBACK, port=0, discover=False, peers=peers) as node,
        trio.open_nursery() as nursery,
    ):
        if not peers:
            _fill(node)
        await node.durable()
        start: Callable[..., Awaitable[None]] = serve
        web: int = await nursery.start(start, node, Address(LOOPBACK, 0), Guard())
        pipe.send((node.port, web))
        while await trio.to_thread.run_sync(pipe.recv) == "memory":
            pipe.send(anonymous_mb())
        nursery.cancel_scope.cancel()


def _fill(node: Node) -> None:
    with node.phext("bench").batch():
        for number in range(_SCROLLS):
            node.phext("bench")[_place(2 + number)] = _TEXT


@contextmanager
def pycrdt_websocket() -> Iterator[int]:
    """Run the other server; yield its port."""
    with in_other(_run_pycrdt_websocket) as pipe:
        yield pipe.recv()
        pipe.send("stop")


def _run_pycrdt_websocket(pipe: Connection) -> None:
    """Serve one document with the other server, until this process is ended with ours."""
    import asyncio

    import uvicorn
    from pycrdt.websocket import ASGIServer, WebsocketServer

    async def hold() -> None:
        async with WebsocketServer() as rooms:
            config = uvicorn.Config(
                ASGIServer(rooms), host=LOOPBACK, port=0, ws="wsproto", log_level="error"
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
            pipe.send(server.servers[0].sockets[0].getsockname()[1])
            told = asyncio.Event()
            asyncio.get_running_loop().add_reader(pipe.fileno(), told.set)
            await told.wait()
            server.should_exit = True
            await serving

    pin(1)
    asyncio.run(hold())
