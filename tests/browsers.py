"""Real browsers for tests: Debian's Chromium, driven by Playwright from a thread.

A test's nodes run in trio's thread, and what drives the browser in another, which can ask trio for
something meanwhile. `make browser` installs both.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from tests.web_nodes import HOST

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS: Final = 120_000
_CHROMIUM: Final = shutil.which("chromium")


@contextmanager
def browser() -> Iterator["Browser"]:
    """Run a browser. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="make browser")
    if _CHROMIUM is None:
        pytest.skip("Chromium is not installed: make browser")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]  # containers have no rights for either
        running = driver.chromium.launch(executable_path=_CHROMIUM, args=flags, timeout=PATIENCE_MS)
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
    assert not complaints, complaints


def until(page: "Page", holds: Callable[[], bool]) -> None:
    """Wait until something is true that no locator tells."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, page.content()
        page.wait_for_timeout(50)


class Wire:
    """A cable between two nodes: connections to `port` go on to another port, until it is cut."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to = to
        self._is_cut = self._is_stuck = False
        self._scopes: set[trio.CancelScope] = set()

    def stick(self) -> None:
        """Lose what is sent from now on, and let nobody notice."""
        self._is_stuck = True

    def cut(self) -> None:
        """End all connections, and let no other through."""
        self._is_cut = True
        for scope in self._scopes:
            scope.cancel()

    def heal(self) -> None:
        """Let connections through again."""
        self._is_cut = self._is_stuck = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Carry bytes until cancelled."""
        [listener] = await trio.open_tcp_listeners(0, host=HOST)
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._carry_both, [listener])

    async def _carry_both(self, near: trio.SocketStream) -> None:
        if self._is_cut:
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            async with (
                await trio.open_tcp_stream(HOST, self._to) as far,
                trio.open_nursery() as both,
            ):
                both.start_soon(self._carry, near, far, scope)
                both.start_soon(self._carry, far, near, scope)
        self._scopes.discard(scope)

    async def _carry(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                if not self._is_stuck:
                    await target.send_all(data)
        scope.cancel()


async def drive(work: Callable[["Browser"], None]) -> None:
    """Do something with a browser in a thread."""

    def run() -> None:
        with browser() as running:
            work(running)

    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(run)
