"""The page: its first paint with many scrolls and machines, a key from one browser to another.

Measured in Debian's Chromium where it and Playwright are installed (`make browser`), which has two
windows that know nothing of each other. Somebody types at the end of a text, at rest between two
keys. `browser_to_browser` is timed from the text in one window's document to the text in the
other's, and `key_to_browser` from the key, which has the browser's own edit beside it. What is
painted from either, at the next frame of a screen, is left out.

Yardsticks of the same run, by the same browser. `relayed`: the same editors and documents over web
sockets to a process that passes on bytes, in the place of the nodes; what is beyond it is theirs.
`bare`: what is typed into a plain field goes the same way into a plain element; what is beyond it
of `relayed` is the editors' and their layout's.
"""

import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request, TextMessage

from benchmarks.nodes import LOOPBACK, in_other, make_folders, on_all_cores, pin
from benchmarks.report import Report, quantile
from phextsync.discovery import Address
from phextsync.gateways.guard import Guard
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import open_node
from phextsync.web.built import contents, packed
from phextsync.web.serving import serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PHEXT: Final = "bench"
_OTHERS: Final = 25
_LOADS: Final = 5
_VIEWS: Final = ("/", f"/scrolls/{_PHEXT}", "/mesh")
_TEXT: Final = (
    "A line of a note that somebody wrote, of about a hundred bytes, as most of them are.\n"
)
_AT: Final = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)
_CHROMIUM: Final = shutil.which("chromium")
_POLL_S: Final = 0.01
_PAINTED: Final = """() => new Promise(done => new PerformanceObserver(list => {
    const found = list.getEntries().find(entry => entry.name === 'first-contentful-paint')
    if (found) done(found.startTime)
}).observe({ type: 'paint', buffered: true }))"""
_KEYS: Final = (*("somebody writes this and others read it " * 2), "Enter")
_HELD_MS: Final = 25  # what a key leaves behind, such as painting it, is over before the next
_STAMP: Final = "performance.timeOrigin + performance.now()"
_CONTENT: Final = "querySelector('.writing').shadowRoot.querySelector('.cm-content')"
_RELAYED: Final = """{{
    const Own = WebSocket
    WebSocket = class extends Own {{ constructor() {{ super('{address}') }} }}
}}"""
_PLAIN: Final = """address => new Promise(opened => {
    const socket = new WebSocket(address)
    socket.onopen = opened
    document.querySelector('textarea').oninput = event => socket.send(event.data ?? '\\n')
    socket.onmessage = event => document.querySelector('pre').append(event.data)
})"""


def add_size(report: Report) -> None:
    """Add what a browser loads in all."""
    size = sum(len(packed(name)) for name in contents())
    report.add("page_gzip_kb", [size / 1000], "kB")


def add_first_paint(report: Report, parent: Path, count: int) -> None:
    """Add how long the views take with so many scrolls and 26 machines."""
    names = [f"node{number}" for number in range(_OTHERS + 1)]
    folders = make_folders(parent, *names)
    with ExitStack() as stack:
        large = stack.enter_context(in_other(_run_large, folders[0], count))
        port, web = large.recv()
        others = stack.enter_context(in_other(_run_others, folders[1:], f"{LOOPBACK}:{port}"))
        others.recv()
        answers = [statistics.median(_answers_ms(web, path)) for path in _VIEWS]
        report.add(f"page_answer_ms@{_OTHERS + 1}", [max(answers)], "ms")
        with running_browser() as browser:
            if browser is not None:
                paints = [statistics.median(_paints_ms(browser, web, path)) for path in _VIEWS]
                report.add(f"first_paint_ms@{_OTHERS + 1}", [max(paints)], "ms")
        others.send("stop")
        large.send("stop")


def add_keys(report: Report, ports: tuple[int, int], path: str, text: str, keys: int) -> None:
    """Add how long keys take from a browser at one node to a browser at another, where the scroll
    of the path has this text."""
    with running_browser() as browser:
        if browser is None:
            return
        with in_other(_run_relay) as relay:
            port = relay.recv()
            pages = [_plain(browser, port) for _ in range(2)]
            bare_ms = _all_keys_ms(pages, "body", keys)
        with in_other(_run_relay) as relay:
            port = relay.recv()
            pages = [_editor(browser, ports[0], path, port) for _ in range(2)]
            _ready(pages, text)
            relayed_ms = _all_keys_ms(pages, _CONTENT, keys)
        pages = [_editor(browser, port, path) for port in ports]
        _ready(pages)
        times_ms = _all_keys_ms(pages, _CONTENT, keys)
    names = ("key", "browser")
    for name, each_ms, relayed, bare in zip(names, times_ms, relayed_ms, bare_ms, strict=True):
        for part, share in (("p50", 0.5), ("p99", 0.99)):
            figure, yardstick = f"{name}_to_browser_{part}_ms", None
            for prefix, values in (("bare_", bare), ("relayed_", relayed), ("", each_ms)):
                report.add(prefix + figure, [quantile(values, share)], "ms", yardstick)
                yardstick = prefix + figure


@contextmanager
def running_browser() -> Iterator["Browser | None"]:
    """Run a browser, which has many processes, on all cores; None where there is none."""
    if _CHROMIUM is None or find_spec("playwright") is None:
        yield None
        return
    from playwright.sync_api import sync_playwright  # few have it

    with on_all_cores(), sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=_CHROMIUM, args=flags)
        yield browser
        browser.close()


def _answers_ms(port: int, path: str) -> list[float]:
    times_ms: list[float] = []
    for _ in range(_LOADS):
        began = time.perf_counter()
        with urlopen(f"http://{LOOPBACK}:{port}{path}") as answer:
            answer.read()
        times_ms.append(1000 * (time.perf_counter() - began))
    return times_ms


def _paints_ms(browser: "Browser", port: int, path: str) -> list[float]:
    """Return how long the first paint took in windows that know nothing yet."""
    times_ms: list[float] = []
    for _ in range(_LOADS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://{LOOPBACK}:{port}{path}")
        times_ms.append(float(page.evaluate(_PAINTED)))
        context.close()
    return times_ms


def _keys_ms(pages: Sequence["Page"], shown_in: str, keys: int) -> Iterator[tuple[float, float]]:
    """Give the milliseconds from each key in the first window, and from when it was in the text
    there, to when it was in what `shown_in` gives of the second, without the first tenth."""
    writer, reader = pages
    for event in ("beforeinput", "input"):
        writer.evaluate(
            f"document.addEventListener('{event}', () => {{ window.{event} = {_STAMP} }}, true)"
        )
    reader.evaluate(
        f"""() => new MutationObserver(() => window.told?.({_STAMP})).observe(
            document.{shown_in}, {{ childList: true, characterData: true, subtree: true }})"""
    )
    for number in range(keys):
        key = _KEYS[number % len(_KEYS)]
        reader.evaluate("() => { window.shown = new Promise(told => { window.told = told }) }")
        writer.keyboard.press(key, delay=_HELD_MS)
        shown = float(reader.evaluate("window.shown"))
        pressed, written = writer.evaluate("[window.beforeinput, window.input]")
        if number >= keys // 10 and key != "Enter":  # which an editor takes before it is an input
            yield shown - float(pressed), shown - float(written)


def _all_keys_ms(pages: Sequence["Page"], shown_in: str, keys: int) -> list[list[float]]:
    """Return the times of all keys, from the key and from the first text; close the windows."""
    times_ms = [list(each) for each in zip(*_keys_ms(pages, shown_in, keys), strict=True)]
    for page in pages:
        page.context.close()
    return times_ms


def _editor(browser: "Browser", port: int, path: str, relay: int | None = None) -> "Page":
    """Return a window at a scroll, whose web socket may go to a relay in the place of the node."""
    context = browser.new_context(bypass_csp=relay is not None)
    if relay is not None:
        context.add_init_script(_RELAYED.format(address=f"ws://{LOOPBACK}:{relay}"))
    page = context.new_page()
    page.goto(f"http://{LOOPBACK}:{port}{path}")
    return page


def _ready(pages: Sequence["Page"], text: str = "") -> None:
    """Go to the end of the text in windows with editors; put one in first that is not there."""
    for page in pages:
        page.locator(".cm-content").wait_for()
    pages[0].locator(".cm-content").focus()
    if text:
        pages[0].keyboard.insert_text(text)
    last = text.count("\n")
    for page in pages:
        page.locator(".cm-line").nth(last).wait_for(state="attached")
        page.locator(".cm-content").press("Control+End")


def _plain(browser: "Browser", port: int) -> "Page":
    """Return a window with a field, and an element for what comes from another."""
    page = browser.new_context().new_page()
    page.set_content("<textarea></textarea><pre></pre>")
    page.evaluate(_PLAIN, f"ws://{LOOPBACK}:{port}")
    page.locator("textarea").focus()
    return page


# -- nodes ---------------------------------------------------------------------------------


def _run_relay(pipe: Connection) -> None:
    """Pass on what one of two web sockets says to the other, until both have ended."""
    trio.run(_hold_relay, pipe)


async def _hold_relay(pipe: Connection) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    async with listener, trio.open_nursery() as nursery:
        pipe.send(listener.socket.getsockname()[1])
        ends: list[tuple[trio.SocketStream, WSConnection]] = []
        are_here = trio.Event()
        for _ in range(2):
            stream, socket = await listener.accept(), WSConnection(ConnectionType.SERVER)
            ends.append((stream, socket))
            nursery.start_soon(_relay, ends, len(ends) - 1, are_here)


async def _relay(
    ends: list[tuple[trio.SocketStream, WSConnection]], own: int, are_here: trio.Event
) -> None:
    stream, socket = ends[own]
    async for data in stream:
        socket.receive_data(bytes(data))
        for event in socket.events():
            match event:
                case Request():
                    await stream.send_all(socket.send(AcceptConnection()))
                    if own == 1:
                        are_here.set()
                case TextMessage() | BytesMessage():
                    await are_here.wait()
                    other, theirs = ends[1 - own]
                    await other.send_all(theirs.send(event))


def _run_large(pipe: Connection, folder: Path, count: int) -> None:
    pin(1)
    trio.run(_hold_large, pipe, folder, count)


async def _hold_large(pipe: Connection, folder: Path, count: int) -> None:
    """Run a node with so many scrolls and its web server, until told to stop."""
    async with (
        open_node(folder, host=LOOPBACK, port=0, discover=False) as node,
        trio.open_nursery() as nursery,
    ):
        await node.import_texts(_scrolls(count), _PHEXT)
        start: Callable[..., Awaitable[None]] = serve
        web: int = await nursery.start(start, node, Address(LOOPBACK, 0), Guard())
        pipe.send((node.port, web))
        await trio.to_thread.run_sync(pipe.recv)
        nursery.cancel_scope.cancel()


def _scrolls(count: int) -> Iterator[tuple[Coordinate, str]]:
    for number in range(count):
        low, rest = number % 999 + 1, number // 999
        yield Coordinate(1, 1, 1, 1, 1, 1, rest // 99 + 1, rest % 99 + 1, low), _TEXT


def _run_others(pipe: Connection, folders: list[Path], peer: str) -> None:
    pin(0)
    trio.run(_hold_others, pipe, folders, peer)


async def _hold_others(pipe: Connection, folders: list[Path], peer: str) -> None:
    """Run nodes that hold one scroll each, linked with a peer, until told to stop."""
    only = {_PHEXT: [CoordinateRange.of(_AT)]}
    async with AsyncExitStack() as stack:
        for folder in folders:
            node = open_node(
                folder, host=LOOPBACK, port=0, discover=False, peers=[peer], interests=only
            )
            opened = await stack.enter_async_context(node)
            while not opened.peers():  # noqa: ASYNC110  a link says so to its node alone
                await trio.sleep(_POLL_S)
        pipe.send("linked")
        await trio.to_thread.run_sync(pipe.recv)
