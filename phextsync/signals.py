"""Signals: how one task tells others that they may go on, again and again."""

import trio


class Signal:
    """Wakes all who wait for it now."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def notify(self) -> None:
        """Wake all who wait."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        """Wait until somebody notifies."""
        await self._event.wait()


class Flag:
    """Says to one who comes for it that there is something to do, even if it was set before."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """There is something to do."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether it was set since it was lowered."""
        return self._event.is_set()

    def lower(self) -> None:
        """What there is to do is being done."""
        if self._event.is_set():
            self._event = trio.Event()

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()

    async def take(self) -> None:
        """Wait until it is set, and lower it."""
        await self.wait()
        self.lower()
