"""Direct: what is done in the caller's own thread, while the node's loop waits.

A way to the loop's thread and back takes several times as long as an edit. What touches one open
scroll and nothing else needs neither that thread nor any waiting: it is done in this one, in its
`Turn`, and the loop, which is woken for it, tells of it before it does anything else. All else
goes the way of the inbox: what lasts or waits, scrolls that are closed, changes of many, what can
be undone, and all that comes while the loop is at work.

Ctrl-C may interrupt a change in the main thread. What had begun is mended by the loop: see
`replica.mending`. Where signals have other handlers, that thread changes nothing itself.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Final, NamedTuple, TypeVar

from phextsync.boundaries import one_line
from phextsync.control import operations
from phextsync.control.desk import Desk
from phextsync.control.frames import Value
from phextsync.control.operations import Operation
from phextsync.errors import CoordinateError, PhextsyncError
from phextsync.handles.folder_client import FolderClient
from phextsync.handles.inbox import Inbox
from phextsync.handles.turn import Turn
from phextsync.index import Coordinate
from phextsync.replica.mending import Mark, Mending

T = TypeVar("T")

_READS: Final = (operations.GET, operations.SIZE)
_CHANGES: Final = (
    operations.APPEND,
    operations.SET,
    operations.APPEND_LINE,
    operations.EDIT_FROM,
    operations.REPLACE,
    operations.REMOVE,
    operations.POP,
    operations.SETDEFAULT,
)
_UNTOLD_MAX: Final = 1000  # then callers wait for the loop
_TELLING: Final = "who is told of a change"


class _Scroll(NamedTuple):
    """A scroll that a request is about, and the label of the writer who asks."""

    desk: Desk
    mending: Mending
    coordinate: Coordinate
    label: str


class Direct:
    """What of the requests of a handle is done in the threads that ask."""

    def __init__(self, client: FolderClient, inbox: Inbox) -> None:
        self._client = client
        self._inbox = inbox
        self._turn = Turn(self._catch_up, inbox.ring)
        self.given = self._turn.given
        self._desk: Desk | None = None  # whose loop has to catch up
        self._begun: tuple[_Scroll, Mark] | None = None  # what may break off
        self._untold: deque[tuple[Context, Callable[[], None]]] = deque()

    def begin(self) -> None:
        """The client lives in the loop of this thread."""
        self._turn.begin()

    def end(self) -> None:
        """That loop has ended, or is that of another process."""
        self._turn.end()

    def check(self) -> None:
        """RuntimeError in the middle of a change by this thread, and in the node's own: there
        nobody can wait."""
        if self._turn.is_mine:
            raise RuntimeError(
                "expected no call of a handle from within the node: a finalizer has interrupted "
                "it in the middle of its work"
            )

    def ask(self, operation: Operation[T], request: list[Value]) -> tuple[Value] | None:
        """Return the answer to a request, or raise its error, if that can be had here and now; else
        None."""
        if not self._client.is_owner:
            return None
        if operation in _CHANGES:
            return self._turn.take(self._change, request)
        return self._turn.take(self._read, request) if operation in _READS else None

    def _read(self, request: list[Value]) -> tuple[Value] | None:
        scroll = self._found(request)
        if scroll is None or not scroll.mending.is_open(scroll.coordinate):
            return None
        return self._begin(scroll, request)

    def _change(self, request: list[Value]) -> tuple[Value] | None:
        scroll = self._found(request)
        if (
            scroll is None
            or not scroll.mending.is_at_hand(scroll.coordinate, scroll.label)
            or len(self._untold) >= _UNTOLD_MAX
        ):
            return None
        self._turn.wake_loop()
        self._desk = scroll.desk  # before what it is to put right, though it breaks off here
        scroll.desk.replicas.listeners.tell_later(self._tell_later)
        return self._begin(scroll, request)

    def _begin(self, scroll: _Scroll, request: list[Value]) -> tuple[Value]:
        """Carry out what may break off, a read too: it may leave a document in the middle of a
        transaction, in which later changes are lost."""
        self._begun = scroll, scroll.mending.mark(scroll.coordinate)
        try:
            answer = self._carried_out(scroll, request)
        except PhextsyncError:  # as everywhere, nothing is left half done
            self._begun = None
            raise
        self._begun = None
        return (answer,)

    def _carried_out(self, scroll: _Scroll, request: list[Value]) -> Value:
        """Return the answer to a request. In a context of its own: an interrupt may leave it there
        that somebody else writes."""
        return copy_context().run(scroll.desk.ask, request, self._client.id)

    def _found(self, request: list[Value]) -> _Scroll | None:
        """Return the scroll that a request is about, if nothing that was asked for or begun before
        is in its way."""
        label, unsigned = "", request
        match request:
            case ["as", str(label), *unsigned]:
                pass
        match unsigned:
            case [_, str(phext), str(at), *_] if self._begun is None and self._inbox.is_empty:
                desk = self._client.desk_at_hand(phext)
                replica = None if desk is None else desk.replicas.opened_replica(phext)
                if desk is None or replica is None:
                    return None
                with suppress(CoordinateError):  # whoever carries it out says what is wrong
                    return _Scroll(desk, replica.mending, Coordinate.parse(at), label)
        return None

    def _tell_later(self, call: Callable[[], None]) -> None:
        self._untold.append((copy_context(), call))

    def _catch_up(self) -> None:
        """The loop has its turn again: mend what broke off, and tell what is to be told. What those
        change who are told comes behind."""
        if self._begun is not None:
            scroll, mark = self._begun
            self._begun = None
            with scroll.desk.boundary.around("mending what was interrupted"):
                scroll.mending.mend(scroll.coordinate, mark)
        desk, self._desk = self._desk, None
        if desk is None:
            return
        while self._untold:
            context, call = self._untold.popleft()
            try:
                context.run(call)
            except Exception as error:  # a boundary, without the cost of `around`
                desk.boundary.note(_TELLING, error)
            except BaseException as error:  # of Yrs: it would end all turns, with the rest untold
                desk.boundary.note(_TELLING, RuntimeError(one_line(error)))
        desk.replicas.listeners.tell_now()
