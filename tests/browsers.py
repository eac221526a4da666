"""Real browsers for tests: Debian's Chromium, driven by Playwright from a thread.

A test's nodes run in trio's thread, and what drives the browser in another, which can ask trio for
something meanwhile. `make browser` installs both.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS: Final = 60_000
_CHROMIUM: Final = shutil.which("chromium")


@contextmanager
def browser() -> Iterator["Browser"]:
    """Run a browser. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="make browser")
    if _CHROMIUM is None:
        pytest.skip("Chromium is not installed: make browser")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]  # containers have no rights for either
        running = driver.chromium.launch(executable_path=_CHROMIUM, args=flags)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def visiting(running: "Browser", **options: Any) -> Iterator["Page"]:
    """Open a window of its own, as another person has it. Whatever the page complains of in its
    console, a refused script or style among it, fails the test at the end."""
    context = running.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    yield page
    context.close()
    assert complaints == []


async def drive(work: Callable[["Browser"], None]) -> None:
    """Do something with a browser in a thread."""

    def run() -> None:
        with browser() as running:
            work(running)

    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(run)
