"""Waiting in a thread for what arrives on a socket."""

import sys

if sys.platform == "win32":

    def has_arrived(descriptor: int, wait_s: float) -> bool:
        """Return False: no two threads read one socket there."""
        return False

else:
    import select

    def has_arrived(descriptor: int, wait_s: float) -> bool:
        """Wait at most so long for something, or the end; return whether it has come."""
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(wait_s * 1000))
