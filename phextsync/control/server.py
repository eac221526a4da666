"""The server of a node's socket: answers the requests of other processes on the same folder.

Requests of one connection are carried out in order. What lasts (`Session`) does so until `cancel,
number`, or as long as the connection.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from phextsync.control.bringing import Bringing
from phextsync.control.desk import Desk
from phextsync.control.frames import (
    LOCAL_FRAME_BYTES_MAX,
    SENT_AWAY,
    Value,
    decode_request,
    encode_answer,
    encode_error,
)
from phextsync.control.loopback import is_admitted
from phextsync.control.operations import is_change, lasts, may_be_long
from phextsync.control.sessions import Session
from phextsync.control.sockets import bound_socket
from phextsync.errors import LinkError, PhextsyncError, StoreError
from phextsync.framing import FrameChannel, FrameQueue
from phextsync.signals import Flag
from phextsync.sockets import FOR_PEERS, SocketStream, close_in_children
from phextsync.waiting import Waiting

_OUTBOX_BYTES_MAX: Final = 8 << 20  # of answers that a process does not take, beside the last
_CONNECTIONS_MAX: Final = 1024
"""At once; the one gives way that has asked for nothing for longest, and waits for nothing."""
_TOGETHER_BYTES: Final = 16 << 10
_WAITS_MAX: Final = 1000  # of one process, at a time
_LONG_ANSWERS_MAX: Final = 4  # that are made for one process at a time, beside those


async def serve(
    folder: Path,
    desk: Desk,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on the folder's socket until cancelled."""
    with bound_socket(folder) as (listening, key):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.forget_missing)
            listener = trio.SocketListener(listening)
            close_in_children(listener)
            task_status.started()
            await desk.boundary.serve_listeners(
                [listener],
                partial(_admit, desk, key, Waiting()),
                part=lambda _: "the connection of a process",
            )


async def _admit(desk: Desk, key: bytes, waiting: Waiting, stream: trio.SocketStream) -> None:
    waiting.make_room(_CONNECTIONS_MAX, FOR_PEERS)  # a newcomer may be a command: it is let in
    with suppress(trio.TooSlowError):
        if not key or await waiting.during(partial(is_admitted, stream, key)):
            await serve_one(desk, stream, waiting)
    await trio.aclose_forcefully(stream)


async def serve_one(desk: Desk, stream: trio.abc.Stream, waiting: Waiting | None = None) -> None:
    """Answer the requests that come over one stream until it ends. It is one of the `waiting`."""
    prompt = SocketStream(stream) if isinstance(stream, trio.SocketStream) else stream
    async with FrameChannel(prompt, LOCAL_FRAME_BYTES_MAX) as channel:
        await _Connection(desk, channel, Waiting() if waiting is None else waiting).run()


class _Connection:
    """One process at the desk."""

    def __init__(self, desk: Desk, channel: FrameChannel, waiting: Waiting) -> None:
        self._desk = desk
        self._channel = channel
        self._waiting = waiting
        self._client = b""
        self._session = Session(desk, os.urandom(16))
        self._bringing = Bringing(desk)
        self._queue = FrameQueue(channel)
        self._undurable: list[tuple[int, bytes]] = []
        self._undurable_bytes = 0
        self._has_undurable = Flag()
        self._tasks: dict[int, trio.CancelScope] = {}
        self._making = trio.CapacityLimiter(_LONG_ANSWERS_MAX)

    async def run(self) -> None:
        """Answer until the other side hangs up or speaks nonsense, or an error of this node."""
        try:
            with self._desk.boundary.around("the connection of a process"):
                await self._answer_all()
            self._desk.left(self._client)
        finally:
            self._waiting.leave(self)
            self._session.close()

    def _give_way(self) -> bool:
        """Ask for no more, unless something is under way; say whether that is so."""
        stream = self._channel.stream
        is_owed = self._undurable_bytes or self._queue.waiting_bytes or self._channel.is_behind
        lasts = self._tasks or self._session.lasts or self._bringing.is_waited_for
        if is_owed or lasts or not isinstance(stream, SocketStream):
            return False
        stream.stop_waiting()
        return True

    async def _answer_all(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._queue.run)
                nursery.start_soon(self._settle)
                await self._receive(nursery)
                nursery.cancel_scope.cancel()
        except* LinkError:
            pass  # it hung up

    async def _receive(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                self._waiting.begin(self, self._give_way)
                frames = await self._channel.receive_many()
                answers: list[bytes] = []  # what can be answered at once goes in one piece
                size = 0
                for frame in frames:
                    await self._room()
                    answer = self._take(frame, nursery)
                    if answer is not None:
                        answers.append(answer)
                        size += len(answer)
                    if size > _TOGETHER_BYTES:
                        self._queue.put(*answers)
                        answers, size = [], 0
                if answers:
                    self._queue.put(*answers)
        except trio.EndOfChannel:
            return
        except trio.ClosedResourceError:  # it has given way
            self._queue.put(encode_answer(*SENT_AWAY))

    async def _room(self) -> None:
        """Wait until the other side has taken most of its answers: one more may be made."""
        while self._queue.waiting_bytes + self._undurable_bytes > _OUTBOX_BYTES_MAX:
            await self._queue.sent.wait()

    def _take(self, frame: bytes, nursery: trio.Nursery) -> bytes | None:
        """Take a request up; return the answer if there is one already."""
        number, received, request = decode_request(frame)
        match request:
            case ["attach", bytes(client)]:
                self._client = client
                self._session.close()
                self._session = Session(self._desk, client)
                self._desk.arrived(client)
                return encode_answer(number, None)
            case ["cancel", int(other)]:
                if other in self._tasks:
                    self._tasks.pop(other).cancel()
                self._session.drop(other)
            case _ if lasts(request):
                return self._begin(number, request)
            case _ if len(self._tasks) >= _WAITS_MAX and self._desk.must_wait(request):
                text = f"expected at most {_WAITS_MAX} requests of a process to wait at a time"
                return encode_error(number, PhextsyncError(text))
            case _ if self._desk.must_wait(request):
                scope = self._tasks[number] = trio.CancelScope()
                nursery.start_soon(self._wait, number, request, scope)
            case _ if self._bringing.must_wait(request):
                then = partial(self._answer_later, number, received, request)
                self._bringing.wait(nursery, request, then)
            case _:
                return self._answer(number, received, request)
        return None

    def _answer(self, number: int, received: int, request: list[Value]) -> bytes | None:
        """Carry out what needs no waiting any more; return the answer if it need not be durable."""
        answer = self._desk.answer(self._client, number, received, request)
        if not is_change(request):
            return answer
        self._undurable.append((number, answer))
        self._undurable_bytes += len(answer)
        self._has_undurable.set()
        return None

    def _answer_later(
        self,
        number: int,
        received: int,
        request: list[Value],
        error: PhextsyncError | None = None,
    ) -> None:
        """Carry out what waited, unless something is in the way."""
        answer = encode_error(number, error) if error else self._answer(number, received, request)
        if answer is not None:
            self._queue.put(answer)

    def _begin(self, number: int, request: list[Value]) -> bytes:
        with self._desk.answering(number, request) as failed:
            self._session.begin(number, request)
            return encode_answer(number, None)
        return failed[0]

    async def _settle(self) -> None:
        """Answer changes when they are on the disk."""
        while True:
            await self._has_undurable.take()
            answered, self._undurable = self._undurable, []
            counted = sum(len(answer) for _, answer in answered)
            try:
                await self._desk.durable()
            except StoreError as error:
                answered = [(number, encode_error(number, error)) for number, _ in answered]
            self._undurable_bytes -= counted
            self._queue.put(*(answer for _, answer in answered))
            self._queue.sent.notify()

    async def _wait(self, number: int, request: list[Value], scope: trio.CancelScope) -> None:
        with scope:
            with self._desk.answering(number, request) as failed:
                self._queue.put(encode_answer(number, await self._waited_for(request)))
            for answer in failed:
                self._queue.put(answer)
        self._tasks.pop(number, None)

    async def _waited_for(self, request: list[Value]) -> Value:
        if not may_be_long(request):
            return await self._session.wait(request, self._room)
        async with self._making:
            await self._room()
            return await self._session.wait(request)
