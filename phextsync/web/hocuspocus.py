"""Hocuspocus: many scrolls over one web socket, as its versions 2 to 4 speak. Sans-IO.

The name of a scroll's document is `PHEXT/COORDINATE`; what stands behind a zero byte tells
participants at one scroll apart. A client of version 2 that has no token shows none: it begins with
what it asks. What is answered is counted or kept once for each name, so that a
client that sends and does not read costs no more than one that does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from phextsync.errors import PermissionDeniedError, PhextsyncError, ProtocolError
from phextsync.index import Coordinate
from phextsync.varints import varints
from phextsync.web.lib0 import Reader, sized_text
from phextsync.web.open_scrolls import OpenScrolls, Participant
from phextsync.web.speaking import AUTH, AWARENESS, QUERY_AWARENESS, SYNC, Speaker

CLOSE: Final = 7
SYNC_STATUS: Final = 8
PING: Final = b"\x09"
PONG: Final = b"\x0a"

_TOKEN, _DENIED, _AUTHENTICATED = range(3)
_SPOKEN: Final = (SYNC, AWARENESS, QUERY_AWARENESS)
_NAME_BYTES_MAX: Final = 512


@dataclass(slots=True)
class _Open:
    """A scroll that the client has open, and of how many updates it is to be told.

    `knows_end`: it is of a version that hears of the end of a document. Version 2 does not, but
    that it is denied; version 3 hears of both, and only from 4 on do they say which they are.
    """

    phext: str
    coordinate: Coordinate
    participant: Participant
    speaker: Speaker
    scope: str | None
    knows_end: bool
    unsaved: int = 0
    saving: int = 0
    saved: int = 0
    refused: int = 0


@dataclass(slots=True)
class Conversation:
    """What is said over one socket. `admits(token)` says whether a client with a token may come in,
    `on_ready` is called when there is something to say."""

    opened: OpenScrolls
    label: str
    scrolls_max: int
    admits: Callable[[str], bool]
    on_ready: Callable[[], object]
    _open: dict[str, _Open] = field(default_factory=dict)
    _ready: dict[str, None] = field(default_factory=dict)
    _closed: dict[str, list[bytes]] = field(default_factory=dict)
    _refused: dict[str, None] = field(default_factory=dict)
    _is_pinged: bool = False

    def __len__(self) -> int:
        return len(self._open)

    # -- what comes ------------------------------------------------------------------------

    def receive(self, data: bytes) -> bool:
        """Take a message; say whether something is to be saved. ProtocolError when it cannot be
        read; what is refused of one scroll closes that scroll alone."""
        if data in (PING, PONG):
            self._is_pinged |= data == PING
            self.on_ready()
            return False
        reader = Reader(data)
        name, kind = reader.text(), reader.integer()
        if len(name.encode()) > _NAME_BYTES_MAX:
            raise ProtocolError(f"expected a name of at most {_NAME_BYTES_MAX} bytes, found more")
        if kind == AUTH:
            self._enter(name, _token_of(reader), tells_version=not reader.is_at_end)
        elif kind == CLOSE:
            self._leave(name)
        elif kind in _SPOKEN:
            if name not in self._open and name not in self._refused:
                self._enter(name, "")  # as version 2 does that has no token
            opened = self._open.get(name)
            if opened is not None:  # else it was refused, and the client may not have read that yet
                return self._receive(name, opened, kind, reader)
        return False

    def _receive(self, name: str, opened: _Open, kind: int, reader: Reader) -> bool:
        is_update = False
        try:
            is_update = opened.speaker.receive(kind, reader)
            opened.unsaved += is_update
        except PermissionDeniedError:
            opened.refused += 1
        except PhextsyncError as error:
            self._end(name, opened, error)
        self._note(name)
        return is_update

    def _end(self, name: str, opened: _Open, error: PhextsyncError) -> None:
        """Close a scroll, and say why."""
        self._leave(name)
        reason = sized_text(str(error))
        denied = [] if opened.knows_end else [varints(AUTH, _DENIED) + reason]
        self._close(name, *denied, varints(CLOSE) + reason)

    def _enter(self, name: str, token: str, *, tells_version: bool = False) -> None:
        self._leave(name)
        try:
            if not self.admits(token):
                raise PermissionDeniedError("expected the token of this node, found another")
            if len(self._open) >= self.scrolls_max:
                raise PhextsyncError(f"expected at most {self.scrolls_max} scrolls, found another")
            self._open[name] = self._opened(name, knows_end=tells_version)
            self._closed.pop(name, None)
            self._refused.pop(name, None)
        except PhextsyncError as error:
            self._close(name, varints(AUTH, _DENIED) + sized_text(str(error)))
        self._note(name)

    def _opened(self, name: str, *, knows_end: bool) -> _Open:
        phext, _, place = name.partition("\0")[0].partition("/")
        coordinate = Coordinate.parse(place)
        participant = self.opened.enter(phext, coordinate, self.label, lambda: self._note(name))
        scope = "read-write" if participant.may_write else "readonly"
        speaker = Speaker(participant, sized_text(name))
        return _Open(phext, coordinate, participant, speaker, scope, knows_end)

    def _close(self, name: str, *messages: bytes) -> None:
        if len(self._closed) >= self.scrolls_max:
            raise ProtocolError("expected a client that reads what is refused to it")
        self._refused[name] = None
        if len(self._refused) > self.scrolls_max:
            del self._refused[next(iter(self._refused))]
        self._closed[name] = [sized_text(name) + message for message in messages]

    def _leave(self, name: str) -> None:
        opened = self._open.pop(name, None)
        self._ready.pop(name, None)
        if opened is not None:
            self.opened.leave(opened.phext, opened.coordinate, opened.participant)

    def leave(self) -> None:
        """The socket has ended."""
        for name in list(self._open):
            self._leave(name)

    # -- what is on the disk ---------------------------------------------------------------

    def saving(self) -> bool:
        """What was taken so far is about to be saved; whether there is any."""
        for opened in self._open.values():
            opened.saving, opened.unsaved = opened.saving + opened.unsaved, 0
        return any(opened.saving for opened in self._open.values())

    def saved(self) -> None:
        """What was about to be saved is on the disk."""
        for name, opened in self._open.items():
            if opened.saving:
                opened.saved, opened.saving = opened.saved + opened.saving, 0
                self._note(name)

    # -- what goes -------------------------------------------------------------------------

    def next_message(self) -> bytes | None:
        """Return what to say now, None for nothing; scrolls have their turns. One that cannot be
        told of is closed alone."""
        if self._is_pinged:
            self._is_pinged = False
            return PONG
        while self._ready and not self._closed:
            name = next(iter(self._ready))
            del self._ready[name]
            opened = self._open.get(name)
            if opened is None:
                continue
            try:
                message = _next_of(name, opened)
            except PhextsyncError as error:
                self._end(name, opened, error)
                continue
            if message is not None:
                self._ready[name] = None
                return message
        return self._next_of_closed(next(iter(self._closed))) if self._closed else None

    def _next_of_closed(self, name: str) -> bytes:
        message = self._closed[name].pop(0)
        if not self._closed[name]:
            del self._closed[name]
        return message

    def beat(self) -> None:
        """Say something of some scroll soon."""
        for name, opened in self._open.items():
            opened.speaker.beat()
            self._note(name)
            return

    def _note(self, name: str) -> None:
        self._ready[name] = None
        self.on_ready()


def _token_of(reader: Reader) -> str:
    if reader.integer() != _TOKEN:
        raise ProtocolError("expected a token, found another message")
    return reader.text()


def _next_of(name: str, opened: _Open) -> bytes | None:
    if opened.scope is not None:
        scope, opened.scope = opened.scope, None
        return sized_text(name) + varints(AUTH, _AUTHENTICATED) + sized_text(scope)
    for is_saved in (True, False):
        if opened.saved if is_saved else opened.refused:
            opened.saved -= is_saved
            opened.refused -= not is_saved
            return sized_text(name) + varints(SYNC_STATUS, int(is_saved))
    return opened.speaker.next_message()
