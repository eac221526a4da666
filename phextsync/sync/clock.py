"""Clock: the time that the core was told last, and when it wants to be told again."""

from collections.abc import Callable


class Clock:
    """Time only grows. `on_due(time)` is called when the core is to be ticked by then, earlier than
    it said."""

    def __init__(self, on_due: Callable[[float], None]) -> None:
        self.now = 0.0
        self._on_due = on_due
        self._ticked_at = 0.0
        self._tick_due = 0.0

    def advance(self, now: float) -> None:
        """It is `now`, or later if that was said before."""
        if now > self.now:
            self.now = now

    def tick_begins(self, now: float) -> None:
        """What falls due during a tick is told by its deadline."""
        self.advance(now)
        self._ticked_at = self._tick_due = now

    def tick_ends(self, deadline: float) -> None:
        """The next tick will be at `deadline` at the latest."""
        self._tick_due = deadline

    def ask_for_tick(self, due: float, *, pause_s: float) -> None:
        """Something falls due: ask for a tick by then, `pause_s` after the last one at the
        earliest, unless there will be one."""
        due = max(due, self._ticked_at + pause_s)
        if due < self._tick_due:
            self._tick_due = due
            self._on_due(due)
