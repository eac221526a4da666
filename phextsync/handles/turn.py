"""Turn: whose turn it is to use a node: its loop's; while that waits, another thread's."""

import signal
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock, get_ident, main_thread
from typing import Final, TypeVar

import trio

T = TypeVar("T")
U = TypeVar("U")

# Of each it asks `_signal`: `signal` makes an enumeration of it, which takes ten times as long.
_USUAL: Final = tuple(
    int(each) for each in {*signal.valid_signals()} - {signal.SIGINT} if each < 32
)


def has_handlers() -> bool:
    """Whether signals are handled in Python but for Ctrl-C, which raises KeyboardInterrupt."""
    of_interrupts = getsignal(signal.SIGINT)
    is_plain = of_interrupts is signal.default_int_handler or not callable(of_interrupts)
    return not is_plain or any(map(callable, map(getsignal, _USUAL)))


class Turn(trio.abc.Instrument):
    """Held by the loop but while it waits. Another thread gets it only when it need not wait for
    it and the loop does not: so a thread that takes it again and again cannot keep it.

    Ctrl-C may interrupt the main thread. Python looks for signals at the end of calls, at the
    beginning of functions and when a loop goes round: so never between the beginning of a `finally`
    and the first call in it. A handler of somebody's own may wait for what needs the loop: where
    there is one, the main thread gets no turn.
    """

    def __init__(self, on_back: Callable[[], object], ring: Callable[[], object]) -> None:
        """`on_back` is called in the loop's thread whenever it has the turn again. `ring` ends its
        wait."""
        self._on_back = on_back
        self._ring = ring
        self._lock = RLock()
        self.is_wanted = False  # by the loop
        self._must_ring = self._has_rung = False
        self._loop = self._holder = 0  # threads

    # -- the loop --------------------------------------------------------------------------

    def begin(self) -> None:
        """Let the loop of this thread have the turn from now on."""
        self._lock.acquire()
        self._loop = self._holder = get_ident()
        trio.lowlevel.add_instrument(self)

    def end(self) -> None:
        """The loop has ended, or is that of another process. The turn is not to be had again."""
        self._holder = self._loop = 0
        self.is_wanted = True  # for ever: it may have ended while it waited

    def before_io_wait(self, timeout: float) -> None:
        """The loop gives its turn to others."""
        self._holder = 0
        self._lock.release()

    def after_io_wait(self, timeout: float) -> None:
        """The loop takes its turn back."""
        if not self._lock.acquire(blocking=False):
            self.is_wanted = True
            self._lock.acquire()
            self.is_wanted = False
        self._holder = self._loop
        self._must_ring = self._has_rung = False
        self._on_back()

    @contextmanager
    def given(self) -> Iterator[None]:
        """Give the turn to others while the loop waits in this block for something else."""
        self.before_io_wait(0)
        try:
            yield
        finally:
            self.after_io_wait(0)

    # -- others ----------------------------------------------------------------------------

    @property
    def is_mine(self) -> bool:
        """Whether this thread is in the middle of its turn, or the loop's, which nobody else can
        run: signal handlers and finalizers ask."""
        return get_ident() in (self._holder, self._loop)

    def wake_loop(self) -> None:
        """Let the loop take its turn back as soon as this thread's has ended."""
        self._must_ring = not self._has_rung

    def take(self, call: Callable[[U], T], argument: U) -> T | None:
        """Return what `call` gives in a turn of this thread, which must have none; None when it
        cannot have one now."""
        thread = get_ident()
        if self.is_wanted or (thread == main_thread().ident and has_handlers()):
            return None
        try:
            if not self._lock.acquire(blocking=False):
                return None
            self._holder = thread
            return call(argument)
        finally:
            try:
                if self._must_ring and self._holder == thread:
                    try:
                        self._ring()
                        self._must_ring, self._has_rung = False, True
                    except BaseException:  # perhaps an interrupt that came before it did
                        self._ring()
                        raise
            finally:
                if self._holder == thread:
                    self._holder = 0
                try:  # noqa: SIM105 - `suppress` begins with a call
                    self._lock.release()
                except RuntimeError:
                    pass  # it was not to be had
