"""Speaking: messages of y-protocols between one client and one scroll. Sans-IO.

What y-websocket and Hocuspocus have in common: synchronization and awareness. There is no queue of
messages: `next_message` says what matters most at the moment at which it can be sent.
"""

from typing import Final

from phextsync.errors import (
    CoordinateError,
    NotHeldError,
    PermissionDeniedError,
    PhextsyncError,
    ProtocolError,
    StoreError,
    TextError,
    UpdateError,
)
from phextsync.varints import varints
from phextsync.web.lib0 import Reader, sized, sized_text
from phextsync.web.open_scrolls import Participant, TooManyError

SYNC: Final = 0
AWARENESS: Final = 1
AUTH: Final = 2
QUERY_AWARENESS: Final = 3
TAKEN: Final = 100
"""From a client: whether what it said before was taken. From the node: that it was."""

_STEP_1, _STEP_2, _UPDATE = range(3)
_DENIED: Final = 0
_NOBODY: Final = b"\0"
_CODES: Final = (
    (PermissionDeniedError, 4403),
    (NotHeldError, 4404),
    (CoordinateError, 4404),
    (TextError, 4422),
    (UpdateError, 4422),
    (ProtocolError, 4400),
    (StoreError, 4507),
    (TooManyError, 4429),
    (PhextsyncError, 4500),
)
_REASON_BYTES_MAX: Final = 123  # of a frame that closes a web socket


class Speaker:
    """What is said for one participant. `head` stands before each message."""

    def __init__(self, participant: Participant, head: bytes = b"") -> None:
        self._participant = participant
        self._head = head
        self._asks = True
        self._confirms = False
        self._beats = False

    def receive(self, kind: int, reader: Reader) -> bool:
        """Take the rest of a message; say whether it was an update. ProtocolError when it cannot
        be read; what is refused is an error too, see `Participant.take`."""
        match kind:
            case 0:
                return self._receive_sync(reader)
            case 1:
                self._participant.take_clients(reader.bytes())
            case 2:
                pass  # only servers have something to say there
            case 3:
                self._participant.note_all_clients()
            case 100:
                self._confirms = True
            case _:
                raise ProtocolError(f"expected a message of kind 0 to 3 or 100, found {kind}")
        return False

    def _receive_sync(self, reader: Reader) -> bool:
        kind, data = reader.integer(), reader.bytes()
        if kind == _STEP_1:
            self._participant.ask(data)
            return False
        if kind not in (_STEP_2, _UPDATE):
            raise ProtocolError(f"expected a step of synchronization from 0 to 2, found {kind}")
        if kind == _STEP_2:
            self._participant.note_heard()
        self._asks |= not self._participant.take(data)
        return True

    @property
    def has_to_say(self) -> bool:
        """Whether it has to ask for text that the client built on, and that is not here, or to
        confirm what it took."""
        return self._asks or self._confirms

    def next_message(self) -> bytes | None:
        """Return what to say now, None for nothing."""
        participant = self._participant
        if self._asks:
            self._asks = False
            return self._sync(_STEP_1, participant.vector)
        if self._confirms:
            self._confirms = False
            return self._head + varints(TAKEN)
        for kind, update in (
            (_STEP_2, participant.next_answer()),
            (_UPDATE, participant.next_update()),
        ):
            if update is not None:
                return self._sync(kind, update)
        clients = participant.next_clients()
        if clients is None and self._beats:
            clients = _NOBODY
        self._beats = False
        return None if clients is None else self._head + varints(AWARENESS) + sized(clients)

    def beat(self) -> None:
        """Say something soon: clients leave servers that say nothing for half a minute."""
        self._beats = True

    def _sync(self, kind: int, data: bytes) -> bytes:
        return self._head + varints(SYNC, kind) + sized(data)


def denied(reason: str) -> bytes:
    """Return the message that says that something is not permitted, as y-websocket reads it."""
    return varints(AUTH, _DENIED) + sized_text(reason)


def closing(error: PhextsyncError) -> tuple[int, str]:
    """Return code and reason with which a web socket is closed for an error. Codes from 4400 are
    final, those from 4500 let a client try again."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    return code, cut(str(error))


def cut(reason: str) -> str:
    """Return what fits into the frame that closes a web socket."""
    return reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
