"""Place: one process at a data folder, running its node or attached to the process that does.

The first process at a folder owns it: it holds the lock and runs the node. All others attach to
the owner's socket and ask it. When the owner goes, each of them tries the lock; one gets it, runs
the node from then on, and the others attach to it.

Requests are numbered, and those without an answer are asked again at the next owner, in order. A
change that the last owner had made durable has a receipt there and is not made twice; one that it
had not made durable is gone with it and is made now. So each change is made exactly once, unless
this process ends too. What an owner holds for this process (`control.Session.hold`) is asked for
again first.

A place lives in one trio task. `replica` is for other threads.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    contextmanager,
)
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from socket import socket
from typing import Final, Protocol

import cbor2
import trio

from phextsync.control.desk import (
    FRAME_BYTES_MAX,
    Answer,
    Attachment,
    Session,
    Value,
    connect,
    decode_answer,
    hit_rows,
    is_about_files,
    is_change,
    is_held,
    perform,
    summarize,
    takes_time,
)
from phextsync.errors import (
    ClosedError,
    IdentityError,
    LinkError,
    PhextsyncError,
    StoreError,
    StoreLockedError,
)
from phextsync.files.desk import FileDesk, NotServing
from phextsync.index import CoordinateRange
from phextsync.node.node import Node
from phextsync.replica.replicas import Replica, ReplicaSet
from phextsync.search import find_alone
from phextsync.store.contract import Store
from phextsync.store.folder import check_restored, data_file_of, is_locked
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.store.snapshot import Snapshot
from phextsync.transport import FrameChannel
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.permissions import UNRESTRICTED, Permissions

# Whoever owns the folder without answering is starting, stopping, or a command that is soon done.
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.01
_ABSENT: Final = (FileNotFoundError, ConnectionRefusedError, BlockingIOError, TimeoutError)


@dataclass(slots=True, eq=False)
class Call:
    """A request, and where its answer goes."""

    request: list[Value]
    future: Future[Value] = field(default_factory=Future)
    number: int = 0
    was_sent: bool = False
    stop: Callable[[], None] | None = None  # what ends a wait at our own node

    def complete(self, answer: Answer) -> None:
        """Give the answer to whoever waits for it, if somebody still does."""
        if self.future.done() or not self.future.set_running_or_notify_cancel():
            return
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class Place:
    """This process at a folder. `open_own` runs the folder's node, as `open_node` does."""

    def __init__(
        self, folder: Path, open_own: Callable[[], AbstractAsyncContextManager[Node]]
    ) -> None:
        self._folder = folder
        self._open_own = open_own
        self._client = os.urandom(16)
        self._number = 0
        self._calls: dict[int, Call] = {}  # without an answer, in order
        self._held: dict[int, Call] = {}  # asked again at each owner
        self._session: Session | None = None  # at our own node
        self._outbox: list[bytes] | None = None  # None while no owner is connected
        self._has_outgoing = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._end: str | None = None  # why nothing is answered any more
        self.reading = threading.Lock()
        self.on_leave: Callable[[], None] = lambda: None

    @property
    def is_owner(self) -> bool:
        """Whether the node runs in this process. From any thread."""
        return self._session is not None

    def replica(self, phext: str) -> Replica | None:
        """Return an open replica of this process's node. For any thread that holds `reading`."""
        session = self._session
        return None if session is None else session.desk.replicas.opened_replica(phext)

    def abandon(self) -> None:
        """Forget the node: this is the child of a fork, and the node runs in its parent."""
        self.reading = threading.Lock()  # a thread that does not exist here may hold the other
        self._session = None

    # -- requests --------------------------------------------------------------------------

    def start(self, call: Call) -> None:
        """Take up a request; its future has the answer later."""
        if self._end is not None:
            call.complete(ClosedError(self._end))
            return
        self._number += 1
        call.number = self._number
        (self._held if is_held(call.request) else self._calls)[call.number] = call
        self._advance(call)

    def cancel(self, call: Call) -> None:
        """Stop waiting for an answer, or end what is held. A change may be made all the same."""
        self._calls.pop(call.number, None)
        self._held.pop(call.number, None)
        if call.stop is not None:
            call.stop()
        elif self._session is not None:
            self._session.drop(call.number)
        elif self._outbox is not None and call.was_sent:
            self._number += 1
            self._send_soon([self._number, 0, "cancel", call.number])

    def _advance(self, call: Call) -> None:
        """Carry a request out here, or send it to the owner; without either, it waits."""
        if self._session is not None:
            self._perform(self._session, call)
        elif self._outbox is not None:
            request = _as_held(call)
            call.was_sent = True
            self._send_soon([call.number, self._received(), *request])

    def _received(self) -> int:
        """Return the number up to which every change has its answer."""
        changes = (number for number, call in self._calls.items() if is_change(call.request))
        return next(changes, self._number + 1) - 1

    def _send_soon(self, message: list[Value]) -> None:
        assert self._outbox is not None
        self._outbox.append(cbor2.dumps(message))
        self._has_outgoing.set()

    def _perform(self, session: Session, call: Call) -> None:
        assert self._nursery is not None
        request = call.request
        if takes_time(request):
            scope = trio.CancelScope()
            call.stop = scope.cancel
            self._nursery.start_soon(self._wait, session, call, scope)
            return
        answer: Answer = None
        try:
            if is_held(request):
                session.hold(call.number, _as_held(call))
            elif call.was_sent and is_change(request):
                received = self._received()
                frame = session.desk.answer(self._client, call.number, received, request)
                answer = decode_answer(frame)[1]
            else:
                answer = session.desk.ask(request, self._client)
        except Exception as error:  # whatever it is, it is the caller's
            answer = error
        self._answered(call.number, answer)

    async def _wait(self, session: Session, call: Call, scope: trio.CancelScope) -> None:
        answer: Answer = None
        with scope:
            try:
                answer = await session.wait(call.request)
            except Exception as error:  # whatever it is, it is the caller's
                answer = error
            self._answered(call.number, answer)

    def _answered(self, number: int, answer: Answer) -> None:
        held = self._held.get(number)
        call = self._calls.pop(number, None) or held
        if held is not None and isinstance(answer, Exception):
            del self._held[number]
        elif held is not None and held.request[0] == "tell":
            for before in [n for n, other in self._held.items() if other.request[0] == "tell"]:
                if before < number:
                    del self._held[before]
        if call is not None:
            call.complete(answer)

    # -- places ----------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold a place at the folder until cancelled; started when it is first taken."""
        reason = f"{self._folder} was closed"
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await self._take_a_place(task_status)
                    task_status = trio.TASK_STATUS_IGNORED
        except Exception as error:
            reason = f"{self._folder} had to be closed: {first(error)}"
            raise
        finally:
            self._finish(reason)

    def _finish(self, reason: str) -> None:
        self._end = reason
        for call in [*self._calls.values(), *self._held.values()]:
            call.complete(ClosedError(reason))
        self._calls.clear()
        self._held.clear()

    async def _take_a_place(self, task_status: trio.TaskStatus[None]) -> None:
        """Attach to the owner or own the folder, and stay until the owner goes."""
        deadline = trio.current_time() + _PATIENCE_S
        while True:
            try:
                connected = connect(self._folder)
            except _ABSENT:
                pass
            else:
                await self._attach(connected, task_status)
                return
            is_late = trio.current_time() > deadline
            if is_late or not is_locked(self._folder):
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
        self._session = session = Session(node.desk, self._client)
        for call in [*self._held.values(), *self._calls.values()]:
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
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
        async with FrameChannel(stream, FRAME_BYTES_MAX) as channel:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, channel)
                    self._outbox = []
                    self._send_soon([0, 0, "attach", self._client])
                    for call in [*self._held.values(), *self._calls.values()]:
                        self._advance(call)
                    task_status.started()
                    await self._receive(channel)
                    nursery.cancel_scope.cancel()
            except* LinkError:
                pass  # the owner is gone
            finally:
                self._outbox = None

    async def _send(self, channel: FrameChannel) -> None:
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing = trio.Event()
            frames, self._outbox = self._outbox or [], []
            await channel.send_many(frames)

    async def _receive(self, channel: FrameChannel) -> None:
        try:
            while True:
                for frame in await channel.receive_many():
                    self._answered(*decode_answer(frame))
        except trio.EndOfChannel:
            return


def _as_held(call: Call) -> list[Value]:
    """Return the request as the next owner has to see it."""
    return ["again", *call.request] if call.was_sent and is_held(call.request) else call.request


def _knowing_files(node: Node) -> AbstractContextManager[None]:
    """Let a node answer for its bound directories, which it does not keep in step."""
    apart = NotServing(lambda bound: not node.is_in_sight(bound.phext, bound.range))
    return FileDesk(node.replicas, node.folder, apart).at(node)


def first(error: BaseException) -> BaseException:
    """Return the first exception in nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# -- without a node ------------------------------------------------------------------------


class Asked(Protocol):
    """Whoever answers requests."""

    def ask(self, *request: Value) -> Value: ...


class Alone:
    """The operations of `control` on a folder where no node runs, which this process owns."""

    def __init__(self, folder: Path, identity: NodeIdentity, store: LmdbStore) -> None:
        self._folder = folder
        self._identity = identity
        self._replicas = _replicas(store, identity.node_id, identity.permissions)
        self._files = FileDesk(self._replicas, folder)

    def ask(self, *request: Value) -> Value:
        answer = _answer(self._replicas, self._files, self._folder, list(request))
        if is_change(list(request)):
            self._replicas.commit()
        return answer


class Reading:
    """Those that read, on a folder that nobody owns and nobody needs to own: see `Snapshot`. If the
    folder is written while a request is answered, it is answered once more."""

    def __init__(self, folder: Path) -> None:
        """StoreError, or IdentityError where there is neither a store nor a node."""
        self._folder = folder
        self._open(is_pinned=False)

    def _open(self, *, is_pinned: bool) -> None:
        check_restored(self._folder)
        data = data_file_of(self._folder)
        if data is None:
            NodeIdentity.load(self._folder)
        self._snapshot = Snapshot(self._folder, data, is_pinned=is_pinned) if data else None
        self._replicas = _replicas(self._snapshot or MemoryStore(), bytes(16), UNRESTRICTED)
        self._files = FileDesk(self._replicas, self._folder)

    def ask(self, *request: Value) -> Value:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            answer: Answer
            try:
                answer = _answer(self._replicas, self._files, self._folder, list(request))
            except (PhextsyncError, KeyError, IndexError) as error:
                answer = error
            if self._snapshot is None or self._snapshot.is_current():
                break
            if time.monotonic() > deadline:
                raise StoreError(f"{self._folder} is being written by another process; try again")
            self.close()
            self._reopen()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _reopen(self) -> None:
        """Open what is there now; pinned, unless this process may not do that."""
        try:
            self._open(is_pinned=True)
        except StoreError:
            self._open(is_pinned=False)

    @property
    def report(self) -> tuple[str, ...]:
        """What is wrong with what was read, a line each."""
        return () if self._snapshot is None else self._snapshot.report

    def close(self) -> None:
        """Let the folder go."""
        if self._snapshot is not None:
            self._snapshot.close(clean=False)


class Visitor:
    """Reads without owning the folder for as long as that is enough; the first change asks the node
    that runs by then, or owns the folder."""

    def __init__(self, folder: Path, stack: ExitStack, report: Callable[[str], None]) -> None:
        self._folder = folder
        self._stack = stack
        self._report = report
        self._reading: Reading | None = None
        self._owner: Asked | None = None

    def ask(self, *request: Value) -> Value:
        if self._owner is None and is_change(list(request)):
            self.finish()
            self._owner = self._stack.enter_context(own(self._folder, self._report))
        if self._owner is not None:
            return self._owner.ask(*request)
        self._reading = self._reading or Reading(self._folder)
        return self._reading.ask(*request)

    def finish(self) -> None:
        """Read no more, and tell what was wrong."""
        reading, self._reading = self._reading, None
        if reading is not None:
            for line in reading.report:
                self._report(line)
            reading.close()


@contextmanager
def visit(folder: Path, report: Callable[[str], None]) -> Iterator[Asked]:
    """Ask the node that runs on a folder, or, where none does, look into the folder for as long as
    the block lasts, and own it from the first change on. `report` is told what an operator should
    know of the store."""
    with ExitStack() as stack:
        asked: Asked
        try:
            asked = stack.enter_context(Attachment(folder))
        except (*_ABSENT, PermissionError):  # or it is that of another user
            asked = visitor = Visitor(folder, stack, report)
            stack.callback(visitor.finish)
        yield asked


@contextmanager
def own(folder: Path, report: Callable[[str], None]) -> Iterator[Asked]:
    """Ask the node that runs on a folder, or, where none does, own the folder for as long as the
    block lasts."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            attachment = Attachment(folder)
        except _ABSENT:
            identity = NodeIdentity.load(folder)
        else:
            with attachment:
                yield attachment
            return
        try:
            store = LmdbStore(folder)
        except StoreLockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            break
    is_clean = False
    try:
        for line in store.report:
            report(line)
        yield Alone(folder, identity, store)
        is_clean = True
    finally:
        store.close(clean=is_clean)


def _replicas(store: Store, node_id: bytes, permissions: Permissions) -> ReplicaSet:
    return ReplicaSet(
        store,
        node_id=node_id,
        random=Random(SystemRandom().getrandbits(64)),
        wall_time_ms=lambda: time.time_ns() // 1_000_000,
        permissions=permissions,
    )


def _answer(replicas: ReplicaSet, files: FileDesk, folder: Path, request: list[Value]) -> Value:
    match request:
        case ["status"]:
            return _status(replicas, files, folder)
        case ["search", str(phext), str(range_), str(words), int(limit)]:
            within = CoordinateRange.parse(range_)
            return hit_rows(find_alone(replicas, folder, words, phext, within, limit=limit))
    if is_about_files(request):
        return files.ask(request)
    return perform(replicas, request)


def _status(replicas: ReplicaSet, files: FileDesk, folder: Path) -> str:
    try:
        identity = NodeIdentity.load(folder)
    except IdentityError:  # somebody else's, or none: there is something to read all the same
        identity = None
    return json.dumps(
        {
            "running": False,
            "name": identity.name if identity else "",
            "node_id": identity.node_id.hex() if identity else "",
            "folder": str(folder),
            "phexts": summarize(replicas),
            "directories": files.status(),
        }
    )
