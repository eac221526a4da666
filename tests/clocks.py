"""The wall clock, for tests that use that of the machine."""

import time


def next_millisecond() -> None:
    """Return when the clock shows another millisecond: what is written then is another version."""
    before = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == before:
        pass
