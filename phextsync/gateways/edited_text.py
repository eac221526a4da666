"""Edited texts: one file in one editor, and its scroll, both of which change. Sans-IO.

The editor counts its edits, and those that it was sent; an edit says on which of ours it is made.
One of ours that says another count of theirs is ignored there, and sent again as it is after the
edit that was made meanwhile. Three texts belong together:

* the buffer, as the editor has it by what it said last;
* `text`, which is the buffer with what was told since, and the scroll with what was heard since;
* `scroll`, as it is known.

What both put in at one place: that of the scroll comes first. So all three are equal at rest.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phextsync.edits import Edit, apply_edits
from phextsync.errors import ProtocolError
from phextsync.gateways.editor_positions import Json, Places, delta_of, edits_of
from phextsync.gateways.transforms import fine_edits, inverse, transformed

TOLD_MAX: Final = 4096
"""Edits that were told and that the editor may not have seen: one on an older text is refused."""
TOLD_CHARACTERS_MAX: Final = 4 << 20
"""The same in characters."""

_EDIT_CHARACTERS: Final = 64  # what an edit costs beside its own


@dataclass(frozen=True, slots=True)
class Told:
    """An edit for the editor: on how many of its edits it is made, and what it does."""

    revision: int
    delta: list[Json]


class EditedText:
    """One file in one editor. `take_told` gives what to send; what is `heard` is to be done to the
    scroll, the first one first."""

    def __init__(self, buffer: str, scroll: str) -> None:
        self.scroll = scroll
        self.text = buffer
        self.heard: deque[list[Edit]] = deque()
        self._cursor: tuple[int, int] | None = None  # in the buffer
        self._buffer = buffer
        self._count_heard = 0
        self._told: deque[list[Edit]] = deque()  # behind the buffer
        self._told_size = 0
        self._count_before = 0  # of those told that are in the buffer
        self._to_send: list[Told] = []
        self._tell(fine_edits(buffer, scroll))

    def take_told(self) -> list[Told]:
        """Return what to send the editor, once."""
        told, self._to_send = self._to_send, []
        return told

    # -- the editor --------------------------------------------------------------------------

    def hear(self, revision: int, delta: Json) -> bool:
        """The editor made an edit on the text with so many of ours; whether there is anything to
        do to the scroll. ProtocolError when there is no such text, or no such place in it: then
        it is no longer known what the editor has."""
        count = self._count_before + len(self._told)
        if not self._count_before <= revision <= count:
            raise ProtocolError(
                f"expected an edit on one of {self._count_before} to {count}, found {revision}"
            )
        while self._count_before < revision:
            self._see_first()
        edit = edits_of(self._buffer, delta)
        self._change_buffer(edit)
        self._count_heard += 1
        told, self._told, self._told_size, self._to_send = self._told, deque(), 0, []
        self.text = self._buffer
        for change in told:
            rest, edit = transformed(change, edit)
            self._tell(rest)
        if edit:
            self.heard.append(edit)
        return bool(edit)

    def place_cursor(self, range_: Json) -> None:
        """The editor's cursor is at the end of a range of the buffer. ProtocolError when there is
        no such place."""
        self._cursor = Places(self._buffer).offsets(range_)

    @property
    def cursor(self) -> tuple[int, int] | None:
        """The two ends of what is chosen, in `text`, the cursor last; None before there is one."""
        cursor = self._cursor
        for change in self._told:
            cursor = _moved(cursor, change)
        return cursor

    # -- the scroll --------------------------------------------------------------------------

    def note(self, scroll: str) -> None:
        """The scroll is another one than it was, by others."""
        change = fine_edits(self.scroll, scroll)
        self.scroll = scroll
        self.heard, heard = deque(), self.heard
        for edit in heard:
            change, rest = transformed(change, edit)
            self.heard.append(rest)
        self._tell(change)

    def done(self, count: int) -> None:
        """So many of those heard were done to the scroll."""
        for _ in range(count):
            self.scroll = apply_edits(self.scroll, self.heard.popleft())

    def refuse(self) -> None:
        """The first of those heard was refused: the editor is to take it back."""
        change = inverse(self.scroll, self.heard.popleft())
        self.heard, heard = deque(), self.heard
        for edit in heard:
            change, rest = transformed(change, edit)
            self.heard.append(rest)
        self._tell(change)

    # -- inside ------------------------------------------------------------------------------

    def _tell(self, change: Sequence[Edit]) -> None:
        """Do a change to the text, and let the editor be told of it."""
        if not change:
            return
        self._to_send.append(Told(self._count_heard, delta_of(self.text, change)))
        self._told.append([*change])
        self._told_size += _size(change)
        self.text = apply_edits(self.text, change)
        while len(self._told) > TOLD_MAX or self._told_size > TOLD_CHARACTERS_MAX:
            self._see_first()

    def _see_first(self) -> None:
        """The first of those told is in the buffer."""
        change = self._told.popleft()
        self._told_size -= _size(change)
        self._change_buffer(change)
        self._count_before += 1

    def _change_buffer(self, change: Sequence[Edit]) -> None:
        self._buffer = apply_edits(self._buffer, change)
        self._cursor = _moved(self._cursor, change)


def _size(change: Sequence[Edit]) -> int:
    return sum(_EDIT_CHARACTERS + len(words) for _, _, words in change)


def _moved(cursor: tuple[int, int] | None, change: Sequence[Edit]) -> tuple[int, int] | None:
    if cursor is None:
        return None
    anchor, head = (_moved_end(end, change) for end in cursor)
    return anchor, head


def _moved_end(offset: int, change: Sequence[Edit]) -> int:
    shift = 0
    for start, stop, words in change:
        if start >= offset:
            break
        shift += len(words) - (min(stop, offset) - start)
    return offset + shift
