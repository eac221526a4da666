"""A plain connection to the node of a folder, for commands and tools."""

import selectors
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from phextsync.control import operations
from phextsync.control.answers import ToldChange
from phextsync.control.frames import (
    SENT_AWAY,
    Answer,
    Value,
    check_request,
    decode_answer,
    encode_request,
)
from phextsync.control.sockets import ABSENT, connect
from phextsync.errors import StoreError

_STOPPED: Final = "the node that owns this folder has stopped"
_QUIET_S: Final = 10.0


class Attachment:
    """A blocking connection to the node that owns a folder, for one thread, without receipts.

    A node that is at work, stopped, or out of open files answers late, and is waited for; `tell`
    is told once that it is, after `quiet_s`. Where the node needed the room for others, the next
    request connects again.
    """

    def __init__(
        self,
        folder: Path,
        tell: Callable[[str], None] | None = None,
        *,
        quiet_s: float = _QUIET_S,
    ) -> None:
        """Connect. Errors are those of `sockets.connect`."""
        self._folder = folder
        self._tell = tell
        self._quiet_s = quiet_s
        self._socket = connect(folder)
        self._number = 0

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *request: Value) -> Value:
        """Send one request and return its answer. Errors are those that the owner raised, and
        that of `check_request`."""
        check_request(list(request))
        self._number += 1
        frame = encode_request(self._number, self._number - 1, list(request))
        while (answer := self._answer_to(frame)) == SENT_AWAY:
            self._socket.close()
            try:
                self._socket = connect(self._folder)
            except ABSENT:
                raise StoreError(_STOPPED) from None
        if isinstance(answer[1], Exception):
            raise answer[1]
        return answer[1]

    def _answer_to(self, frame: bytes) -> tuple[int, Answer]:
        # One that was sent away cannot send, and finds the reason before the end.
        with suppress(ConnectionError):
            self._socket.sendall(len(frame).to_bytes(4, "big") + frame)
        self._note_silence()
        return decode_answer(self._receive(int.from_bytes(self._receive(4), "big")))

    def _note_silence(self) -> None:
        if self._tell is None:
            return
        with selectors.DefaultSelector() as answers:
            answers.register(self._socket, selectors.EVENT_READ)
            if not answers.select(self._quiet_s):
                self._tell(f"the node of {self._folder} does not answer yet; waiting for it")
                self._tell = None

    def watch(self, phext: str, range_: str) -> Callable[[], ToldChange | None]:
        """Watch a range; return what gives the next change, again and again."""
        operations.WATCH.ask(self, phext, range_, False)
        number = self._number
        return lambda: operations.NEXT.ask(self, number)

    def _receive(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count:
            try:
                piece = self._socket.recv(min(count, 1 << 20))
            except ConnectionError:
                piece = b""
            if not piece:
                raise StoreError(_STOPPED)
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)
