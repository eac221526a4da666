"""Gate: a node meets nobody before what was changed while it was down is in its scrolls.

A change that is taken in later looks as if it was made knowing what others had written meanwhile.
"""

import trio


class Gate:
    """Lets nobody through until it is opened, or has held somebody up for `alone_s` seconds."""

    def __init__(self, alone_s: float) -> None:
        self._opened = trio.Event()
        self._alone_s = alone_s
        self._until: float | None = None  # not known before somebody comes
        if alone_s <= 0:
            self.open()

    @property
    def is_open(self) -> bool:
        """Whether nobody is held up any more."""
        return self._opened.is_set()

    @property
    def waiting(self) -> int:
        """How many are held up."""
        return self._opened.statistics().tasks_waiting

    def open(self) -> None:
        """Let all through, those who wait and those who come."""
        self._opened.set()

    async def passed(self) -> None:
        """Wait until one may go through."""
        if self.is_open:
            return
        if self._until is None:
            self._until = trio.current_time() + self._alone_s
        with trio.move_on_at(self._until):
            await self._opened.wait()
        self.open()
