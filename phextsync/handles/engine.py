"""The engine of a handle: a thread with an event loop of its own, where a client of a folder lives.

What is asked crosses to that thread and back, but for two things where the node runs in this
process, which are done in the caller's thread. The texts of open scrolls are read where they lie,
those of closed ones from the store; and a scroll that is open is changed, or read again after a
change, while the node waits (`direct`).
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypedDict, TypeVar

import trio

from phextsync.boundaries import first
from phextsync.control.arguments import check_arguments
from phextsync.control.frames import Value, check_request
from phextsync.control.operations import OPERATIONS, Operation
from phextsync.errors import ClosedError, StoreLockedError
from phextsync.handles.call import Call
from phextsync.handles.direct import Direct
from phextsync.handles.folder_client import FolderClient
from phextsync.handles.inbox import Action, Inbox
from phextsync.index import CoordinateIndex, CoordinateRange, OpenTexts
from phextsync.node.node import Node, open_node
from phextsync.node.options import folder_of, seconds_of
from phextsync.replica.views import Key, RangeView
from phextsync.systems.forking import in_children

_log: Final = logging.getLogger("phextsync.handles")
T = TypeVar("T")


class Options(TypedDict, total=False):
    """How the node runs, if it runs in this process: the options of `open_node`."""

    host: str | None
    port: int | None
    peers: Sequence[str]
    discover: bool
    interests: Mapping[str, Sequence[CoordinateRange]] | None
    links_max: int


class Engine:
    """A client of a folder in a thread of its own: what handles of every kind are made of."""

    def __init__(self, folder: str | Path, options: Options, *, may_own: bool = True) -> None:
        """`may_own`: where no other process runs the node, this one does."""
        self.folder = folder_of(folder)
        self._may_own = may_own
        self.client = FolderClient(self.folder, lambda: self._own(options))
        self.client.on_leave = self._leave
        self.closed_because = ""
        self._readers: weakref.WeakValueDictionary[int, OpenTexts[RangeView]] = (
            weakref.WeakValueDictionary()
        )
        self._started = Call([])
        self._inbox = Inbox()
        self._direct = Direct(self.client, self._inbox)
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"phextsync {folder}", daemon=True)

    # -- its life --------------------------------------------------------------------------

    def _own(self, options: Options) -> AbstractAsyncContextManager[Node]:
        if not self._may_own:
            raise StoreLockedError(f"no node runs on {self.folder}: `phextsync up` runs it")
        return open_node(self.folder, **options)

    def start(self) -> Call:
        """Begin; the call is answered when the folder is owned or attached to. RuntimeError when
        there can be no more threads."""
        _engines.add(self)
        try:
            self._thread.start()
        except RuntimeError:
            _engines.discard(self)
            raise
        return self._started

    def stop(self) -> None:
        """Stop and wait for the end. From any thread, any number of times."""
        if self not in _engines:
            return
        if threading.current_thread() is not self._thread:
            self._direct.check()
        self._has_begun.wait()
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        reason = f"{self.folder} was closed"
        try:
            trio.run(self._hold)
        except BaseException as error:  # the thread ends here: all that wait for it are told
            cause = first(error)
            reason = f"{self.folder} had to be closed: {cause}"
            if self._started.is_answered and not (
                isinstance(cause, StoreLockedError) and not self._may_own
            ):
                _log.error("%s", reason, exc_info=error)
            elif isinstance(cause, Exception):
                self._started.complete(cause)
        finally:
            self._has_begun.set()
            self._leave()
            self.closed_because = reason
            self._inbox.close()
            self._direct.end()
            self._started.complete(ClosedError(reason))
            _engines.discard(self)

    async def _hold(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._has_begun.set()
        self._direct.begin()
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._inbox.run, self._direct.given)
                await nursery.start(self.client.run)
                self._started.complete(None)

    def _leave(self) -> None:
        """The node stops being here: its texts are no longer to be read."""
        with self.client.reading:
            for reader in list(self._readers.values()):
                reader.index = CoordinateIndex()

    def abandon(self) -> None:
        """The child of a fork has the memory of this engine, and not its thread."""
        self.closed_because = (
            f"{self.folder} was opened before a fork, in process {os.getppid()}; "
            f"open it again in process {os.getpid()}"
        )
        self.client.abandon(self.closed_because)
        self._direct.end()
        self._leave()
        _engines.discard(self)

    # -- requests --------------------------------------------------------------------------

    def begin(self, operation: Operation[T], *arguments: Value, writer: str = "") -> Call:
        """Send a request on its way, for a writer of that label. See `check_arguments` and
        `check_request`."""
        call = self.prepared(operation, *arguments, writer=writer)
        self.send(call)
        return call

    def prepared(self, operation: Operation[T], *arguments: Value, writer: str = "") -> Call:
        """Return the call that `begin` would send."""
        return Call(self._checked(operation, arguments, writer), OPERATIONS[operation.name])

    def send(self, call: Call) -> None:
        """Send a request on its way. For one that an interrupt may have kept from it there is
        `send_again`."""
        self._send(call)
        self._let_read(call)

    def send_again(self, call: Call) -> None:
        """Send a request on its way unless it is."""
        self._hand_over(self.client.start, call)
        self._let_read(call)

    def _checked(
        self, operation: Operation[T], arguments: Sequence[Value], writer: str
    ) -> list[Value]:
        self._direct.check()
        request: list[Value] = [operation.name, *arguments]
        check_arguments(request)
        if writer:
            request = ["as", writer, *request]
        check_request(request)
        return request

    def _send(self, call: Call) -> None:
        if not self.client.start_at_once(call):
            self._hand_over(self.client.start, call)
        elif self.client.is_in_the_middle:
            self._soon(self.client.finish, call)

    def _let_read(self, call: Call) -> None:
        """Let the client's task read what no thread that waits will."""
        if self.client.must_read:
            with suppress(ClosedError):
                self._soon(self.client.read, call)

    def cancel(self, call: Call) -> None:
        """Stop waiting for an answer, or end what lasts."""
        with suppress(ClosedError):
            self._hand_over(self.client.cancel, call)

    def ask(
        self,
        operation: Operation[T],
        *arguments: Value,
        writer: str = "",
        timeout_s: float | None = None,
    ) -> T:
        """Send a request and wait for its answer; its error is raised here."""
        wait_s = seconds_of(timeout_s)
        request = self._checked(operation, arguments, writer)
        done = self._direct.ask(operation, request)
        if done is None:
            call = Call(request, OPERATIONS[operation.name])
            self._send(call)
            done = (self.wait(call, wait_s),)
        return operation.answer.decode(done[0])

    def wait(self, call: Call, timeout_s: float | None = None) -> Value:
        """Wait for the answer to a call. TimeoutError when it takes longer."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            try:
                self.client.read_answer(call, timeout_s)
            finally:
                self._let_read(call)
            return call.result(None if until is None else until - time.monotonic())
        finally:  # a time-out and an interrupt leave it unanswered
            if not call.is_answered:
                self.cancel(call)

    def read(self, reader: OpenTexts[RangeView], phext: str, key: Key) -> str | None:
        """Return a text, "" when there is none, without the node's thread; None when only that
        can tell. If the node is here, `reader` has its open texts from now on."""
        with self.client.reading:
            replica = self.client.replica(phext)
            if replica is None:
                return None
            if reader.index is not replica.index:
                self._readers[id(reader)] = reader
                reader.index = replica.index
            return replica.glance(key)

    def _hand_over(self, action: Callable[[Call], None], call: Call) -> None:
        """Leave something for the client's task, before all that is asked for later."""
        try:
            self.client.leave(action, call)
            self._soon(action, call)
        except ClosedError:
            self.client.forget(action, call)
            raise
        except BaseException:  # an interrupt: it may be left, and then nothing goes before it
            with suppress(ClosedError):
                self._soon(partial(self.client.forget, action), call)
            raise

    def _soon(self, action: Action, call: Call) -> None:
        if self.closed_because or self._token is None:
            raise ClosedError(self.closed_because or f"{self.folder} is not open yet")
        if not self._inbox.put(action, call):
            raise ClosedError(f"{self.folder} was closed")


_engines: set[Engine] = set()


def _abandon_all() -> None:
    for engine in list(_engines):
        engine.abandon()


in_children(_abandon_all)
