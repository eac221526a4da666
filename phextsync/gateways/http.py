"""The HTTP gateway beside a node: SQ's API, a stream of changes, metrics, health.

`http1` reads and writes, `guard` decides what may come in, `sq` answers SQ's requests; here is
which path leads where, and what all connections together may take.
"""

import json
import logging
import time
from collections.abc import Generator
from functools import partial
from typing import Final

import trio

from phextsync.boundaries import printable
from phextsync.change_streams import ChangeStream
from phextsync.discovery import Address
from phextsync.errors import LinkError, NotHeldError, PhextsyncError, StoreFullError
from phextsync.gateways.brought import brought
from phextsync.gateways.events import HEARTBEAT, HEARTBEAT_S, events_of
from phextsync.gateways.exchange import Answer, Request
from phextsync.gateways.guard import Guard
from phextsync.gateways.health import health_of
from phextsync.gateways.http1 import ByteBudget, HttpConnection, HttpLimits, Refusal, Share
from phextsync.gateways.metrics import CONTENT_TYPE, NodeMetrics
from phextsync.gateways.sq import METHODS, SqApi, is_write, operation_name
from phextsync.index import CoordinateRange
from phextsync.node.node import Node
from phextsync.phext_names import is_reserved
from phextsync.replica.changes import writing_as
from phextsync.sockets import FOR_FILES, are_left
from phextsync.waiting import Room

DEFAULT_PORT: Final = 1337

_CHANGES_MAX: Final = 4096
_WRITER: Final = "gateway"
_TURN_S: Final = 0.002
_LOOKS_S: Final = 1.0  # for files that may be open
_WARNINGS_PER_S: Final = 0.5
_WARNINGS_MAX: Final = 10
_EVENTS: Final = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("Access-Control-Allow-Origin", "*"),
)

_log = logging.getLogger("phextsync.gateways")


class Gateway:
    """Serves one node over HTTP to requests that `guard` lets in."""

    def __init__(
        self, node: Node, *, guard: Guard | None = None, limits: HttpLimits | None = None
    ) -> None:
        self.node = node
        self.limits = limits or HttpLimits()
        small, limits = self.limits.small_bytes, self.limits
        self.bodies = ByteBudget(limits.bodies_bytes_max, small, "bodies")
        self.answers = ByteBudget(limits.answers_bytes_max, small, "answers")
        self.streams = 0
        self._accepted = 0
        self._room = Room(self.limits.connections_max)
        self._guard = guard or Guard()
        self._boundary = node.boundary.beside(_log)
        self._sq = SqApi(node.replicas)
        self._metrics = NodeMetrics(node)
        self._requests = _Allowance(self.limits.requests_per_s, self.limits.requests_per_s)
        self._warnings = _Allowance(_WARNINGS_PER_S, _WARNINGS_MAX)

    @property
    def connections(self) -> int:
        """How many are being served."""
        return self._room.connections

    async def serve(
        self, address: Address, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; started with the port. LinkError when the address cannot be
        used, or not without a token."""
        self._guard.check_address(address.host)
        try:
            listeners = await trio.open_tcp_listeners(address.port, host=address.host)
        except OSError as error:
            raise LinkError(f"cannot serve HTTP on {address}: {error.strerror or error}") from error
        task_status.started(listeners[0].socket.getsockname()[1])
        async with trio.open_nursery() as nursery:
            part = "closing connections that wait"
            nursery.start_soon(self._boundary.keep_running, part, self._give_way)
            await self._boundary.serve_listeners(
                listeners, self.answer_all, part=lambda stream: "an HTTP connection"
            )

    async def _give_way(self) -> None:
        """Close connections that wait for a request where others can open hardly any file."""
        while True:
            await trio.sleep(_LOOKS_S)
            if self._room.waiting and not are_left(FOR_FILES):
                while self._room.waiting.end_one():
                    pass

    async def answer_all(self, stream: trio.abc.HalfCloseableStream) -> None:
        """Answer the requests of one connection until either side wants no more."""
        self._accepted += 1
        connection = HttpConnection(stream, self.limits, self.bodies, self.answers)
        answer = partial(self._answer_each, connection, self._accepted)
        try:
            await self._room.take(stream, answer, connection.turn_away)
        finally:
            connection.forget()

    async def _answer_each(self, connection: HttpConnection, number: int) -> None:
        try:
            while (request := await self._room.waiting.during(connection.next_request)) is not None:
                if request.path == "/events" and request.method in ("GET", "HEAD"):
                    await self._with_body(connection, request)
                    await self._stream_changes(connection, request)
                    return
                if not await self._answer_one(connection, request, number):
                    break
                connection.forget()
        except Refusal as refusal:
            connection.forget()
            await connection.refuse(refusal)
        await self._room.waiting.during(connection.end)

    async def _with_body(self, connection: HttpConnection, head: Request) -> Request:
        """Wait for the body of a request, as long as nobody else needs the room."""
        return await self._room.waiting.during(partial(connection.with_body, head))

    async def _answer_one(self, connection: HttpConnection, head: Request, number: int) -> bool:
        """Answer the request with this head; say whether another may follow. Its body is kept no
        longer than until there is an answer, and the answer until it is sent."""
        began = time.perf_counter()
        request = await self._with_body(connection, head)
        answer = await self._answer(connection, request, number)
        connection.body.clear()
        took_s = time.perf_counter() - began
        self._metrics.note(operation_name(head), answer.status, took_s)
        return await connection.send(answer)

    async def _answer(self, connection: HttpConnection, request: Request, number: int) -> Answer:
        """Answer one request; an error inside is answered too, and ends nothing else."""
        answer = Answer(500, b"Internal Server Error")
        with self._boundary.around(f"{request.method} {operation_name(request)}"):
            try:
                answer = await self._answered(connection.answer, request, number)
            except Refusal as refusal:
                connection.answer.clear()
                answer = Answer(refusal.status, str(refusal).encode())
        if answer.warning:
            self._warn(answer.warning)
        return answer

    async def _answered(self, made: Share, request: Request, number: int) -> Answer:
        if not self._requests.take():
            return Answer(429, b"Too Many Requests")
        is_read = request.method in ("GET", "HEAD")
        refused = self._refusal(request)
        if refused is not None:
            raise refused
        if is_read and request.path == "/health":
            return self._health()
        if is_read and request.path == "/metrics":
            return Answer(200, self._metrics.text(), (("Content-Type", CONTENT_TYPE),))
        try:
            whole = await brought(self.node.desk, request, made.add)
        except NotHeldError as error:
            return Answer(503, f"Service Unavailable: {error}".encode())
        with writing_as(_WRITER):
            answer = await _by_turns(self._sq.steps(request, number, whole), made)
        if answer.has_changed:
            try:
                await self.node.durable()
            except StoreFullError as error:
                return Answer(503, f"Service Unavailable: {error}".encode())
        return answer

    def _refusal(self, request: Request) -> Refusal | None:
        """Return why a request may not come in. Methods that no door has need no leave."""
        if request.method not in METHODS:
            return None
        writes = is_write(request)
        refused = self._guard.refusal(request.method, request.headers, writes=writes)
        if refused is None or (refused.status == 401 and request.path == "/health"):
            return None
        return Refusal(refused.status, refused.reason)

    def _health(self) -> Answer:
        status, row = health_of(self.node)
        return Answer(status, json.dumps(row).encode(), (("Content-Type", "application/json"),))

    def _warn(self, text: str) -> None:
        """Log a line, but not more of them than somebody reads."""
        if self._warnings.take():
            _log.warning("%s", printable(text))

    # -- changes ---------------------------------------------------------------------------

    async def _stream_changes(self, connection: HttpConnection, request: Request) -> None:
        """Send server-sent events until the client leaves; a slow one costs a set."""
        refused = self._refusal(request)
        if refused is not None:
            raise refused
        if self.streams >= self.limits.streams_max:
            raise Refusal(503, f"Service Unavailable: {self.streams} streams are open")
        changes = self._changes(request)
        self.streams += 1
        try:
            if not await connection.start_stream(_EVENTS):
                return
            await connection.send_piece(HEARTBEAT)  # a client sees at once that it is heard
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.until_closed, nursery.cancel_scope)
                while True:
                    events = HEARTBEAT
                    with trio.move_on_after(HEARTBEAT_S):
                        events = events_of(await changes.receive())
                    await connection.send_piece(events)
        finally:
            self.streams -= 1
            changes.close()

    def _changes(self, request: Request) -> ChangeStream:
        invalid = Refusal(403, "Forbidden: invalid phext path")
        try:
            name = request.strictly("p") or ""
        except UnicodeDecodeError as error:
            raise invalid from error
        if is_reserved(name):
            raise invalid
        try:
            range_ = CoordinateRange.parse(request.parameters.get("range", "*"))
            feed = self.node.foreign.feed(name, range_, coordinates_max=_CHANGES_MAX)
        except PhextsyncError as error:
            raise Refusal(400, str(error)) from error
        return ChangeStream(feed)


class _Allowance:
    """So many a second, after a burst."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at = 0.0

    def take(self) -> bool:
        """Whether one more is allowed now."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def _by_turns(steps: Generator[int, None, Answer], made: Share) -> Answer:
    """Run a calculation to its end; other tasks have their turn every few milliseconds. `Refusal`
    when there is no room for its answer."""
    began = time.perf_counter()
    while True:
        try:
            made.add(next(steps))
        except StopIteration as end:
            answer: Answer = end.value
            made.add(len(answer.body) - made.size)
            return answer
        if time.perf_counter() - began > _TURN_S:
            await trio.lowlevel.checkpoint()
            began = time.perf_counter()
