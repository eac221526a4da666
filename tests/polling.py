"""Waits for what tells nobody: files, and who has met whom."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import trio

from sims.processes import PATIENCE_S, POLL_S


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds. trio.TooSlowError when only a bug takes so long."""
    with trio.fail_after(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(POLL_S)


def until_now(holds: Callable[[], object]) -> None:
    """Wait as `until` does, in a thread."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        threading.Event().wait(POLL_S)


async def until_text(path: Path, text: str) -> None:
    """Wait until a file holds a text."""
    await until(lambda: path.exists() and path.read_text() == text)
