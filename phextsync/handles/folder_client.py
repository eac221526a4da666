"""One process at a data folder, running its node or attached to the process that does.

The first process at a folder owns it: it holds the lock and runs the node. All others attach to
the owner's socket and ask it. When the owner goes, each of them tries the lock; one gets it, runs
the node from then on, and the others attach to it.

Requests are numbered, and those without an answer are asked again at the next owner, in order. A
change that the last owner had made durable has a receipt there and is not made twice; one that it
had not made durable is gone with it and is made now. So each change is made exactly once, unless
this process ends too. What lasts at an owner (`control.Session`) is asked for again first. Of an
owner that keeps all in memory the receipts end with it: no change is asked for twice there.

A process that asks for nothing may be sent away, where the owner needs the room for others. It
comes back with its next request, and looks meanwhile whether the folder still has an owner.

A client lives in one trio task. `replica` is for other threads. So are `start_at_once` and
`read_answer`, by which a thread sends a request and reads its answer itself, so that no other has
to be woken. Meanwhile the client's task does not read, and looks now and then whether it should.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from pathlib import Path
from socket import socket
from typing import Final, NamedTuple

import trio

from phextsync.boundaries import first
from phextsync.control.bringing import Bringing
from phextsync.control.desk import Desk
from phextsync.control.frames import (
    LOCAL_FRAME_BYTES_MAX,
    SENT_AWAY,
    Answer,
    Value,
    decode_answer,
    encode_request,
)
from phextsync.control.sessions import Session
from phextsync.control.sockets import ABSENT, connect_at_once, too_busy
from phextsync.errors import (
    AnswerLostError,
    ClosedError,
    LinkError,
    PhextsyncError,
    ProtocolError,
    StoreLockedError,
)
from phextsync.files.desk import FileDesk, NotServing
from phextsync.framing import FrameChannel, framed
from phextsync.handles.call import Call
from phextsync.handles.line import Line
from phextsync.index import NumberedSender, SharedReader
from phextsync.node.node import Node
from phextsync.phext_names import is_reserved
from phextsync.replica.replica import Replica
from phextsync.signals import Flag
from phextsync.sockets import SocketStream
from phextsync.store.folder import is_locked, place_in_memory
from phextsync.systems.arriving import has_arrived

# What owns the folder without answering is starting, stopping, or a command that is soon done.
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.01
_AT_ONCE_BYTES_MAX: Final = 64 << 10  # all threads wait meanwhile
_LOOKS_S: Final = 2.0  # of one that was sent away
_READ_S: Final = 0.02  # an answer that takes longer is read by the client's task
_ASIDE_S: Final = 0.03  # in which no thread has read


class ClientStatistics(NamedTuple):
    """How many requests of a process have no answer yet, and how many last."""

    unanswered: int
    lasting: int


class FolderClient:
    """This process at a folder. `open_own` runs the folder's node, as `open_node` does."""

    def __init__(
        self, folder: Path, open_own: Callable[[], AbstractAsyncContextManager[Node]]
    ) -> None:
        self._folder = folder
        self._open_own = open_own
        self.id: Final = os.urandom(16)
        # What other threads have left for this task: nothing goes before it.
        self._left: set[tuple[Callable[[Call], None], Call]] = set()
        self._sender = NumberedSender(self._left)
        self._reader = SharedReader(LOCAL_FRAME_BYTES_MAX)
        self._reads = threading.RLock()  # held by the thread that reads answers
        self._has_read = False  # since the client's task looked
        self._is_aside = False  # the client's task, which does not read
        self._is_to_read = Flag()
        self._calls: dict[int, Call] = {}  # without an answer, in order
        self._lasting: dict[int, Call] = {}  # asked again at each owner
        self._session: Session | None = None  # at our own node
        self._bringing: Bringing | None = None  # to our own node
        self._line: Line | None = None  # None while no owner is connected
        self._is_sent_away = False
        self._has_calls = Flag()  # since it was sent away
        self._nursery: trio.Nursery | None = None
        self._end: str | None = None  # why nothing is answered any more
        self.reading = threading.RLock()  # a handler or a finalizer may read meanwhile
        self.on_leave: Callable[[], None] = lambda: None

    @property
    def is_owner(self) -> bool:
        """Whether the node runs in this process. From any thread."""
        return self._session is not None

    def replica(self, phext: str) -> Replica | None:
        """Return an open replica of this process's node. For any thread that holds `reading`."""
        session = self._session
        is_open = session is not None and not is_reserved(phext)  # else the desk says why not
        return session.desk.replicas.opened_replica(phext) if session and is_open else None

    def desk_at_hand(self, phext: str) -> Desk | None:
        """Return the desk of this process's node, if it holds everything and nothing that was
        asked before waits for a scroll. For who has the turn of this client's loop."""
        if self._session is None or self._bringing is None or is_reserved(phext):
            return None
        desk = self._session.desk
        holding = desk.replicas.holding
        is_here = holding.is_everything and not holding.guests
        return desk if is_here and not self._bringing.is_waited_for else None

    def statistics(self) -> ClientStatistics:
        """Return what can be counted of this client. From any thread."""
        return ClientStatistics(len(self._calls), len(self._lasting))

    def abandon(self, reason: str) -> None:
        """Forget the node: this is the child of a fork, and the node runs in its parent. What the
        thread of the child waits for, in whose midst it was forked, has no other answer."""
        self.reading = threading.RLock()  # a thread that does not exist here may hold the other
        self._session = None
        self._sender.close()
        self._reader.close()
        for _, call in self._left:
            call.complete(ClosedError(reason))
        self._finish(reason)

    # -- requests --------------------------------------------------------------------------

    def start_at_once(self, call: Call) -> bool:
        """Send a request to the owner, from any thread, unless something is in the way; then it is
        left for `start`. Return whether it is on its way."""
        if self._sender.is_open and not call.lasts:
            call.number, call.was_sent = self._sender.number + 1, True
            frame = framed(encode_request(call.number, self._received(), call.request))
            is_short = len(frame) <= _AT_ONCE_BYTES_MAX
            if is_short and self._sender.send(call.number, frame, self._calls, call):
                return True
            call.was_sent = False
        return False

    def leave(self, action: Callable[[Call], None], call: Call) -> None:
        """Let nothing go before `action(call)`, which is left for the client's task."""
        self._left.add((action, call))

    def forget(self, action: Callable[[Call], None], call: Call) -> None:
        """What was to be left is not."""
        self._left.discard((action, call))

    @property
    def is_in_the_middle(self) -> bool:
        """Whether a request of `start_at_once` went in part: `finish` sends the rest."""
        return bool(self._sender.rest)

    def read_answer(self, call: Call, wait_s: float | None) -> None:
        """Read what comes in the thread that waits for an answer, until it is there; for a short
        time, and unless others wait too. Then `must_read` says whether the task has to."""
        if len(self._calls) > 1 or not self._reader.is_open:
            return
        try:  # an interrupt may come as soon as the lock is held
            if self._reads.acquire(blocking=False):
                self._read_until_answered(call, _READ_S if wait_s is None else wait_s)
        finally:
            try:  # noqa: SIM105 - `suppress` begins with a call, after which one may come
                self._reads.release()
            except RuntimeError:
                pass  # another thread has it

    def _read_until_answered(self, call: Call, wait_s: float) -> None:
        reader, until = self._reader, time.monotonic() + min(_READ_S, wait_s)
        self._has_read = True
        while self._give_answers() and not (call.is_answered or reader.has_ended):
            descriptor, left_s = reader.descriptor, until - time.monotonic()
            if descriptor < 0 or left_s <= 0 or not has_arrived(descriptor, left_s):
                return
            reader.receive()

    def _is_read(self) -> bool:
        """Whether a thread reads. Not for one that may."""
        if not self._reads.acquire(blocking=False):
            return True
        self._reads.release()
        return False

    def _give_answers(self) -> bool:
        """Give the answers that are here, in any thread, up to one that is for the client's task;
        return whether there is none."""
        while (frame := self._reader.first()) is not None:
            try:
                number, answer = decode_answer(frame)
            except ProtocolError:
                return False
            if number == SENT_AWAY[0] or number in self._lasting:
                return False
            call = self._calls.get(number)
            if call is not None:
                call.complete(answer)  # first: after an interrupt the task gives it again
            self._calls.pop(number, None)
            self._reader.done(frame)
        return True

    @property
    def must_read(self) -> bool:
        """Whether there is something for the client's task, of which it does not know: `read`."""
        if (self._is_aside and self._calls) or self._reader.first() is not None:
            return True
        return self._reader.has_ended and self._reader.is_open

    def read(self, _: Call) -> None:
        """Give the answers that are here, read on in the client's task, or end there."""
        self._give_all()
        self._is_to_read.set()
        if self._reader.has_ended and self._line is not None:
            self._line.end()

    def start(self, call: Call) -> None:
        """Take up a request, if it was not; its call has the answer later."""
        noted = self._lasting if call.lasts else self._calls
        if self._end is not None:
            call.complete(ClosedError(self._end))
            return
        # In this order: a thread that gives an answer takes the call from those noted at last.
        if noted.get(call.number) is not call and not call.is_answered:
            call.number = self._sender.count(noted, call)
            self._advance(call)
        self._left.discard((self.start, call))

    def finish(self, _: Call) -> None:
        """Send the rest of what was sent in part."""
        if self._line is not None:
            self._line.put()

    def cancel(self, call: Call) -> None:
        """Stop waiting for an answer, or end what is held. A change may be made all the same."""
        self._calls.pop(call.number, None)
        self._lasting.pop(call.number, None)
        if call.stop is not None:
            call.stop()
        elif self._session is not None:
            self._session.drop(call.number)
        elif self._line is not None and call.was_sent:
            self._line.put(encode_request(0, 0, ["cancel", call.number]))
        self._left.discard((self.cancel, call))

    def _advance(self, call: Call) -> None:
        """Carry a request out here, or send it to the owner; without either, it waits."""
        if self._session is not None:
            self._perform(self._session, call)
        elif self._line is not None:
            request = _as_lasting(call)
            call.was_sent = True
            self._line.put(encode_request(call.number, self._received(), request))
            self._is_to_read.set()
        else:
            self._has_calls.set()

    def _received(self) -> int:
        """Return a number up to which every change has its answer. From any thread."""
        last = self._sender.number
        unanswered = [*self._calls.values()]  # in one step, in which no finalizer runs either
        return next((call.number for call in unanswered if call.changes), last + 1) - 1

    def _perform(self, session: Session, call: Call) -> None:
        assert self._nursery is not None
        request = call.request
        if call.takes_time or session.desk.must_wait(request):
            scope = trio.CancelScope()
            call.stop = scope.cancel
            self._nursery.start_soon(self._wait, session, call, scope)
        elif self._bringing is not None and self._bringing.must_wait(request):
            then = partial(self._answer_at_once, session, call)
            self._bringing.wait(self._nursery, request, then)
        else:
            self._answer_at_once(session, call)

    def _answer_at_once(
        self, session: Session, call: Call, error: PhextsyncError | None = None
    ) -> None:
        """Carry out what needs no waiting any more, unless something is in the way."""
        request = call.request
        answer: Answer = None
        try:
            if error is not None:
                raise error
            if call.lasts:
                session.begin(call.number, _as_lasting(call))
            elif call.was_sent and call.changes:
                received = self._received()
                frame = session.desk.answer(self.id, call.number, received, request)
                answer = decode_answer(frame)[1]
            else:
                answer = session.desk.ask(request, self.id)
        except Exception as error:  # any error here is the caller's
            answer = error
        self._answered(call.number, answer)

    async def _wait(self, session: Session, call: Call, scope: trio.CancelScope) -> None:
        answer: Answer = None
        with scope:
            try:
                answer = await session.wait(call.request)
            except Exception as error:  # any error here is the caller's
                answer = error
            self._answered(call.number, answer)

    def _answered(self, number: int, answer: Answer) -> None:
        held = self._lasting.get(number)
        call = self._calls.pop(number, None) or held
        if held is not None and isinstance(answer, Exception):
            del self._lasting[number]
        elif held is not None and held.request[0] == "tell":
            for before in [n for n, other in self._lasting.items() if other.request[0] == "tell"]:
                if before < number:
                    del self._lasting[before]
        if call is not None:
            call.complete(answer)

    # -- owners ----------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold a place at the folder until cancelled; started when it is first taken."""
        reason = f"{self._folder} was closed"
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await self._take_up(task_status)
                    task_status = trio.TASK_STATUS_IGNORED
                    if self._is_sent_away:
                        await self._stay_away()
        except Exception as error:
            reason = f"{self._folder} had to be closed: {first(error)}"
            raise
        finally:
            self._finish(reason)

    def _finish(self, reason: str) -> None:
        self._end = reason
        for call in [*self._calls.values(), *self._lasting.values()]:
            call.complete(ClosedError(reason))
        self._calls.clear()
        self._lasting.clear()

    async def _take_up(self, task_status: trio.TaskStatus[None]) -> None:
        """Attach to the owner or own the folder, and stay until the owner goes."""
        deadline = trio.current_time() + _PATIENCE_S
        while True:
            is_late = trio.current_time() > deadline
            try:
                connected = connect_at_once(self._folder)
            except ABSENT:
                may_own = is_late or not is_locked(self._folder)
            except BlockingIOError:
                if is_late and task_status is not trio.TASK_STATUS_IGNORED:
                    raise too_busy(self._folder) from None
                may_own = False
            else:
                await self._attach(connected, task_status)
                return
            if may_own:
                try:
                    await self._own(task_status)
                except StoreLockedError:  # another was faster
                    if is_late:
                        raise
            await trio.sleep(_PAUSE_S)

    async def _own(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._open_own() as node:
            with _knowing_files(node):
                await self._answer(node, task_status)

    async def _answer(self, node: Node, task_status: trio.TaskStatus[None]) -> None:
        """Carry requests out at our own node until cancelled."""
        self._session = session = Session(node.desk, self.id)
        self._bringing = Bringing(node.desk)
        for call in self._unanswered():
            self._perform(session, call)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with self.reading:  # nobody reads from a store that is being closed
                self._session = None
            session.close()
            self.on_leave()

    async def _attach(self, connected: socket, task_status: trio.TaskStatus[None]) -> None:
        stream = SocketStream(trio.SocketStream(trio.socket.from_stdlib_socket(connected)))
        before = [call for call in self._unanswered() if call.was_sent]
        async with FrameChannel(stream, LOCAL_FRAME_BYTES_MAX) as channel:
            self._line = line = Line(stream, channel, self._sender, self._reader)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(line.run)
                    line.put(encode_request(0, 0, ["attach", self.id]))
                    if place_in_memory(self._folder) is not None:
                        self._give_up_changes()
                    for call in self._unanswered():
                        self._advance(call)
                    line.open()
                    task_status.started()
                    await self._receive(line)
                    nursery.cancel_scope.cancel()
            except* LinkError:
                pass  # the owner is gone
            finally:
                line.close()
                self._line = None
        if self._is_sent_away:  # the owner took up none of those that are new to it
            for call in self._unanswered():
                call.was_sent = call in before

    def _unanswered(self) -> list[Call]:
        """Return what to ask the next owner, in order."""
        return [*self._lasting.values(), *self._calls.values()]

    async def _stay_away(self) -> None:
        """Wait until there is something to ask, or the owner is gone."""
        self._is_sent_away = False
        self._has_calls.lower()
        while not (self._calls or self._lasting) and is_locked(self._folder):
            with trio.move_on_after(_LOOKS_S):
                await self._has_calls.take()

    def _give_up_changes(self) -> None:
        """Ask for no change again that was asked for: the receipts ended with its owner."""
        for call in [*self._calls.values()]:
            if call.was_sent and call.changes:
                text = f"{call.request[0]!r} may be carried out: its answer was lost with the node"
                self._answered(call.number, AnswerLostError(text))

    async def _receive(self, line: Line) -> None:
        """Read until the owner ends the connection."""
        while not self._reader.has_ended:
            await line.arrives()
            if not self._has_read:  # else a thread may wait for just this
                self._reader.receive()
            self._give_all()
            while self._has_read and not self._reader.has_ended:
                await self._stay_aside()
        self._give_all()  # what a thread left that met the end

    def _give_all(self) -> None:
        """Give all answers that are here, the owner's last word too. For the client's task."""
        while (frame := self._reader.first()) is not None:
            answer = decode_answer(frame)
            self._is_sent_away = answer == SENT_AWAY
            self._answered(*answer)
            self._reader.done(frame)

    async def _stay_aside(self) -> None:
        """Let other threads read for a while, unless there is something that none of them will."""
        self._has_read = False
        self._is_to_read.lower()
        self._is_aside = True  # first: who asks for something after this looks at it
        if not self._calls or self._is_read():
            with trio.move_on_after(_ASIDE_S):
                await self._is_to_read.wait()
                self._has_read = False
        self._is_aside = False


def _as_lasting(call: Call) -> list[Value]:
    """Return the request as the next owner has to see it."""
    return ["again", *call.request] if call.was_sent and call.lasts else call.request


def _knowing_files(node: Node) -> AbstractContextManager[None]:
    """Let a node answer for its bound directories, which it does not keep in step."""
    apart = NotServing(lambda bound: not node.is_in_sight(bound.phext, bound.range))
    return FileDesk(node.replicas, node.folder, apart).at(node)
