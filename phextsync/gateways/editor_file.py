"""Editor files: one open file of an editor, kept the same as its scroll.

What the editor does is done to the scroll as the change that it is, on the very text that it was
made of, or not at all: where others were faster, it is made once more of what they made. What the
scroll refuses, the editor is told to take back, with the reason.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

import trio

from phextsync.control import operations
from phextsync.control.frames import Value
from phextsync.control.operations import digest
from phextsync.edits import Edit, apply_edits
from phextsync.errors import (
    AnswerLostError,
    ClosedError,
    ConflictError,
    PhextsyncError,
    ProtocolError,
    StoreError,
)
from phextsync.files.finding import FoundFile
from phextsync.gateways.asking import Asking
from phextsync.gateways.edited_text import EditedText
from phextsync.gateways.editor_positions import Json
from phextsync.signals import Flag, Signal

HEARD_MAX: Final = 256
"""Edits of one file that wait for the node; an editor that is faster waits."""

_AT_ONCE: Final = 64
_RETRY_S: Final = 1.0

Answer = Callable[[PhextsyncError | None], Awaitable[None]]
"""Answers a request of the editor, with what was wrong, if anything was."""


class EditorFile:
    """One open file. `send(revision, delta)` tells the editor of an edit."""

    def __init__(
        self,
        asking: Asking,
        found: FoundFile,
        buffer: str,
        scroll: str,
        send: Callable[[int, Json], Awaitable[None]],
    ) -> None:
        self.found = found
        self.edited = EditedText(buffer, scroll)
        self.problem: PhextsyncError | None = None
        self._asking = asking
        self._place = found.phext, str(found.coordinate)
        self._send = send
        self._answers: deque[Answer] = deque()  # of those heard
        self._work = Flag()
        self._worked = Signal()
        self._is_stale = False
        self._work.set()

    # -- what the editor asks ----------------------------------------------------------------

    async def hear(self, revision: int, delta: Json, answer: Answer) -> None:
        """The editor made an edit, which is answered when it is on the disk. ProtocolError when
        it is not known any more what the editor has: the file is to be opened again."""
        if self.problem is not None:
            raise self.problem
        try:
            is_heard = self.edited.hear(revision, delta)
        except ProtocolError as error:
            self.fail(ProtocolError(f"{error}; open the file again"))
            raise self.problem or error from error
        self._work.set()
        if not is_heard:
            await answer(None)
            return
        self._answers.append(answer)
        while len(self._answers) > HEARD_MAX and self.problem is None:
            await self._worked.wait()

    @property
    def is_at_rest(self) -> bool:
        """Whether the scroll is what the editor and we made of it, as far as is known."""
        return not self._answers and not self._is_stale

    async def finish(self) -> None:
        """Wait until all that was heard is done, or cannot be."""
        while self._answers and self.problem is None:
            await self._worked.wait()

    def fail(self, problem: PhextsyncError) -> None:
        """The file is no longer kept the same."""
        self.problem = self.problem or problem
        self._worked.notify()

    async def answer_rest(self) -> None:
        """Say of all that was heard and is not known to be done why that is so."""
        self.edited.heard.clear()
        await self._answer(len(self._answers), self.problem)

    # -- the scroll --------------------------------------------------------------------------

    async def follow(self) -> None:
        """Note when the scroll changes, until cancelled."""
        watch = await self._asking.watch(*self._place)
        try:
            self._note()
            async for _ in self._asking.changes(watch):
                self._note()
        finally:
            self._asking.end(watch)

    def _note(self) -> None:
        self._is_stale = True
        self._work.set()

    async def keep(self) -> None:
        """Keep file and scroll the same until cancelled."""
        while True:
            await self._work.take()
            await self._tell()
            while self._answers:
                await self._do_some(min(_AT_ONCE, len(self._answers)))
                self._worked.notify()
            if self._is_stale:
                self._is_stale = False
                await self._look()
            await self._tell()

    async def _do_some(self, count: int) -> None:
        """Do the first edits that were heard to the scroll, as one change."""
        scroll, edits = self.edited.scroll, [*islice(self.edited.heard, count)]
        changes = _splices(self._place[1], scroll, edits)
        try:
            if changes:
                await self._asking.ask(operations.BATCH, self._place[0], changes)
        except ConflictError:
            await self._look()
            return
        except ClosedError:
            raise
        except (AnswerLostError, StoreError) as error:
            await self._find_out(edits, error)
            return
        except PhextsyncError as error:
            if count > 1:  # to tell which of them it is
                await self._do_some(1)
                return
            self.edited.refuse()
            await self._tell()
            await self._answer(1, error)
            return
        await self._done(count)

    async def _done(self, count: int) -> None:
        self.edited.done(count)
        await self._answer(count, None)

    async def _answer(self, count: int, error: PhextsyncError | None) -> None:
        for _ in range(count):
            await self._answers.popleft()(error)

    async def _find_out(self, edits: list[list[Edit]], error: PhextsyncError) -> None:
        """See whether edits were made, where the answer does not say."""
        before = after = self.edited.scroll
        for edit in edits:
            after = apply_edits(after, edit)
        scroll = await self._text()
        if scroll == after:
            await self._done(len(edits))
        elif scroll == before:
            await trio.sleep(_RETRY_S)
        else:
            self.fail(PhextsyncError(f"it is not known whether edits were made: {error}"))
            await self.answer_rest()

    async def _look(self) -> None:
        self.edited.note(await self._text())

    async def _text(self) -> str:
        return await self._asking.ask(operations.GET, *self._place) or ""

    async def _tell(self) -> None:
        for told in self.edited.take_told():
            await self._send(told.revision, told.delta)


def _splices(coordinate: str, scroll: str, edits: list[list[Edit]]) -> list[Value]:
    """Return edits, one after the other, as changes of a scroll that has this text."""
    seen = digest(scroll)
    changes: list[Value] = []
    for edit in edits:
        for start, stop, words in reversed(edit):  # so that offsets stay what they are
            changes.append(["splice", coordinate, start, stop, words, seen])
            seen = b""
    return changes
