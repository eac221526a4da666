"""LateWriters: who still writes into files that were replaced while they had them open.

A replaced file has no name any more, and is open here: what is written into it is a change of the
text that it had. It is looked at all the time for some seconds, and then now and then as long as a
program has it open, where the system tells that.
"""

from typing import Final, NamedTuple

from phextsync.files.filesystem import OpenFile
from phextsync.files.reading import File, Reader, breaks_off, mark_of
from phextsync.files.records import Mark
from phextsync.index import Coordinate

LATE_S: Final = 5.0
"""How long a replaced file is looked at all the time, ..."""
LATE_PAUSE_S: Final = 1.0
"""... and how often afterwards, while a program has it open for writing."""

_LATE_MAX: Final = 64


class LateChange(NamedTuple):
    """What somebody made of the text of a file that had been replaced while they had it open."""

    coordinate: Coordinate
    before: str
    now: str


class _Late:
    """A replaced file, the text that it had, and when it is looked at."""

    def __init__(
        self, coordinate: Coordinate, path: str, file: OpenFile, text: str, until: float
    ) -> None:
        self.coordinate = coordinate
        self.path = path
        self.file = file
        self.text = text
        self.until = until
        self.mark: Mark | None = None
        self.next_at = 0.0


class LateWriters:
    """The replaced files of one directory that are still looked at."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._late: list[_Late] = []

    def listen(
        self, coordinate: Coordinate, path: str, file: OpenFile, text: str, now: float
    ) -> None:
        """Look from now on at a file that was replaced at a path when it held `text`."""
        self._late.append(_Late(coordinate, path, file, text, now + LATE_S))

    @property
    def next_due(self) -> float | None:
        """When they are to be looked at again, None when there are none."""
        return min((late.next_at for late in self._late), default=None)

    def changes(self, now: float) -> list[LateChange]:
        """Return what was written into them since the last look."""
        changes: list[LateChange] = []
        too_many = len(self._late) - _LATE_MAX
        waiting: list[_Late] = []
        for late in self._late:
            is_over = now >= late.until or too_many > 0
            is_ending = is_over and not late.file.has_writers()  # asked before the last look
            if is_ending or now >= late.next_at:
                self._look_again(late, changes, is_last=is_ending)
                late.next_at = now if now < late.until else now + LATE_PAUSE_S
            if is_ending:
                late.file.close()
                too_many -= 1
            else:
                waiting.append(late)
        for late in waiting[: max(0, too_many)]:
            late.file.close()
        self._late = waiting[max(0, too_many) :]
        return changes

    def _look_again(self, late: _Late, changes: list[LateChange], *, is_last: bool) -> None:
        """Add what was written into one replaced file."""
        try:
            mark = mark_of(late.file.status())
            if mark == late.mark and not is_last:
                return
            late.mark = mark
            found = self._reader.read_open(late.file, late.path)
        except OSError:
            return
        # One that is empty may be about to be written, by this path or by another, and a part of a
        # text to be followed by the rest.
        if not isinstance(found, File) or (breaks_off(late.text, found.text) and not is_last):
            return
        if found.text not in ("", late.text):
            changes.append(LateChange(late.coordinate, late.text, found.text))
            late.text = found.text

    def close(self) -> None:
        """Look at them no more."""
        for late in self._late:
            late.file.close()
        self._late.clear()
