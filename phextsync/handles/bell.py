"""Bell: how one thread wakes the task of another that waits for a descriptor.

Linux has counters of events for it, other POSIX systems pipes; Windows can wait for sockets alone.
"""

import sys
from contextlib import suppress

if sys.platform == "linux":
    import os

    class Bell:
        """Rings until it is hushed. `heard` can be read when it rings."""

        __slots__ = ("heard",)

        def __init__(self) -> None:
            self.heard = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

        def ring(self) -> None:
            """Ring. From any thread."""
            os.eventfd_write(self.heard, 1)

        def hush(self) -> None:
            """Ring no more for what was rung for."""
            os.eventfd_read(self.heard)

        def close(self) -> None:
            """Ring never again."""
            os.close(self.heard)

else:
    import socket

    _BYTES_MAX = 1 << 16

    class Bell:
        """Rings until it is hushed. `heard` can be read when it rings."""

        __slots__ = ("_rope", "heard")

        def __init__(self) -> None:
            self.heard, self._rope = socket.socketpair()
            self.heard.setblocking(False)
            self._rope.setblocking(False)

        def ring(self) -> None:
            """Ring. From any thread."""
            with suppress(BlockingIOError):  # it rings already
                self._rope.send(b"!")

        def hush(self) -> None:
            """Ring no more for what was rung for."""
            with suppress(BlockingIOError):
                while len(self.heard.recv(_BYTES_MAX)) == _BYTES_MAX:
                    pass

        def close(self) -> None:
            """Ring never again."""
            self.heard.close()
            self._rope.close()
