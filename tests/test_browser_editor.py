"""The live editor in real browsers: two people, two nodes, what is cut and what is refused."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from phextsync.replica.past import FOREVER
from tests.browsers import PATIENCE_MS, Wire, drive, until, visiting
from tests.web_nodes import AT, HOST, make_identity, web_node

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator, Page

pytestmark = pytest.mark.real

_EVIL = "<img src=x onerror=alert(1)>"
_KEEPS_NOTHING = """Object.defineProperty(window, 'localStorage', {
    get() { throw new DOMException('kept from it', 'SecurityError') }
})"""
_NEVER = """for (const each of ['requestAnimationFrame', 'setTimeout', 'setInterval']) {
    window[each] = () => 1
}"""


def _open(page: "Page", port: int) -> "Locator":
    page.goto(f"http://{HOST}:{port}/scroll/memory/{AT}")
    text = page.get_by_role("textbox", name=f"Text of {AT}")
    text.wait_for()
    return text


def _lines(text: "Locator") -> list[str]:
    found: list[str] = text.locator(".cm-line").all_text_contents()
    return found


@asynccontextmanager
async def _two_nodes(folder: Path, text: str) -> AsyncIterator[tuple[int, int]]:
    """Run two nodes that have a text; yield the ports of their pages."""
    for number in range(2):
        make_identity(folder / str(number), number)
    async with (
        web_node(folder / "0") as (node, port),
        web_node(folder / "1", peers=[f"{HOST}:{node.port}"]) as (_, away),
    ):
        node.phext()[AT] = text
        await node.synced()
        yield port, away


@contextmanager
def _staying(browser: "Browser") -> Iterator[tuple["Page", "Page", list[str]]]:
    """Open two windows of one person; yield them and what the first one asks, which then stays."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page, other = context.new_page(), context.new_page()
    asked: list[str] = []

    def stay(dialog: "Dialog") -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    yield page, other, asked
    context.close()


async def test_two_browsers_at_two_nodes_edit_through_a_cut_and_end_equal(tmp_path: Path) -> None:
    for number in range(2):
        make_identity(tmp_path / str(number), number)
    async with web_node(tmp_path / "0") as (node, port), trio.open_nursery() as nursery:
        wire = Wire(node.port)
        await nursery.start(wire.run)
        async with web_node(tmp_path / "1", peers=[f"{HOST}:{wire.port}"]) as (other, away):
            node.phext()[AT] = "one\ntwo\nthree"
            await node.synced()

            def work(browser: "Browser") -> None:
                with visiting(browser) as ann, visiting(browser) as bob:
                    of_ann, of_bob = _open(ann, port), _open(bob, away)
                    of_ann.press("Control+Home")
                    ann.keyboard.type("Ann ")
                    of_bob.locator(".cm-line", has_text="Ann one").wait_for()
                    trio.from_thread.run_sync(wire.cut)
                    of_ann.press("Control+Home")
                    ann.keyboard.type("apart ")
                    of_bob.press("Control+End")
                    bob.keyboard.type(" Bob apart \U0001f600")
                    trio.from_thread.run_sync(wire.heal)
                    expected = ["apart Ann one", "two", "three Bob apart \U0001f600"]
                    until(ann, lambda: _lines(of_ann) == expected)
                    until(bob, lambda: _lines(of_bob) == expected)

            await drive(work)
            assert node.phext()[AT] == other.phext()[AT]
            assert node.phext()[AT].splitlines()[2] == "three Bob apart \U0001f600"
        nursery.cancel_scope.cancel()


async def test_a_key_waits_for_no_frame_and_no_timer_of_either_window(tmp_path: Path) -> None:
    async with _two_nodes(tmp_path, "one") as (port, away):

        def work(browser: "Browser") -> None:
            with visiting(browser) as ann, visiting(browser) as bob:
                of_ann, of_bob = _open(ann, port), _open(bob, away)
                of_ann.press("Control+End")
                for each in (ann, bob):
                    each.evaluate(_NEVER)
                ann.keyboard.type(" two")
                of_bob.locator(".cm-line", has_text="one two").wait_for()

        await drive(work)


async def test_one_sees_others_by_name_with_their_cursors_until_they_leave(tmp_path: Path) -> None:
    async with _two_nodes(tmp_path, "one two") as (port, away):

        def work(browser: "Browser") -> None:
            with visiting(browser) as ann:
                of_ann = _open(ann, port)
                with visiting(browser) as bob:
                    of_bob = _open(bob, away)
                    bob.get_by_label("Your name").fill(_EVIL[:40])
                    of_bob.press("Control+End")
                    bob.keyboard.press("Control+Shift+ArrowLeft")
                    ann.locator(f'.caret[data-name="{_EVIL[:40]}"]').wait_for(state="attached")
                    of_ann.locator(".chosen", has_text="two").wait_for()
                    ann.locator(".who", has_text=_EVIL[:40]).wait_for()
                ann.locator(".caret").wait_for(state="detached")

        await drive(work)


async def test_one_has_a_name_where_the_browser_keeps_nothing(tmp_path: Path) -> None:
    async with _two_nodes(tmp_path, "one two") as (port, away):

        def work(browser: "Browser") -> None:
            with visiting(browser) as ann, visiting(browser) as bob, visiting(browser) as eve:
                _open(ann, port)
                for page, at in ((bob, away), (eve, port)):
                    page.add_init_script(_KEEPS_NOTHING)
                    _open(page, at)
                    page.get_by_label("Your name").fill("Bob")
                ann.locator(".who", has_text="Also here: Bob (2 windows)").wait_for()

        await drive(work)


async def test_what_is_unsent_when_the_login_ends_stays_until_one_logs_in_elsewhere(
    tmp_path: Path,
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, token="secret") as (node, port), trio.open_nursery() as nursery:
        node.phext()[AT] = "one"
        await node.durable()
        wire = Wire(port)
        await nursery.start(wire.run)

        def log_in(page: "Page") -> None:
            page.goto(f"http://{HOST}:{wire.port}/login")
            page.locator("input[name=token]").fill("secret")
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Scrolls").wait_for()

        def work(browser: "Browser") -> None:
            with _staying(browser) as (page, other, asked):
                log_in(page)
                text = _open(page, wire.port)
                trio.from_thread.run_sync(wire.stick)
                text.press("Control+End")
                page.keyboard.type(" two")
                trio.from_thread.run_sync(wire.cut)
                page.context.clear_cookies()
                trio.from_thread.run_sync(wire.heal)
                page.locator(".state", has_text="Not logged in").wait_for()
                page.keyboard.type(" three")
                log_in(other)
                page.locator(".state", has_text="Live").wait_for()
                until(
                    page, lambda: trio.from_thread.run_sync(node.phext().get, AT) == "one two three"
                )
                assert asked == []

        await drive(work)
        nursery.cancel_scope.cancel()


async def test_one_is_asked_before_a_window_is_closed_of_which_the_node_lacks_something(
    tmp_path: Path,
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port), trio.open_nursery() as nursery:
        node.phext()[AT] = "one"
        await node.durable()
        wire = Wire(port)
        await nursery.start(wire.run)

        def has(text: str) -> bool:
            return bool(trio.from_thread.run_sync(node.phext().get, AT) == text)

        def work(browser: "Browser") -> None:
            with _staying(browser) as (page, other, asked):

                def closes(page: "Page", count: int) -> None:
                    page.close(run_before_unload=True)
                    until(other, lambda: len(asked) == count or page.is_closed())
                    assert not page.is_closed()

                text = _open(page, wire.port)
                trio.from_thread.run_sync(wire.stick)  # which the window does not notice
                text.press("Control+End")
                page.keyboard.type(" two")
                closes(page, 1)
                trio.from_thread.run_sync(wire.cut)
                page.locator(".state", has_text="Not connected").wait_for()
                closes(page, 2)
                trio.from_thread.run_sync(wire.heal)
                until(page, lambda: has("one two"))
                page.locator(".state", has_text="Live").wait_for()
                with page.expect_event("close"):
                    page.close(run_before_unload=True)
                assert asked == ["beforeunload"] * 2

        await drive(work)
        nursery.cancel_scope.cancel()


async def test_line_ends_of_windows_stay_what_they_are_while_two_type(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "one\ntwo\nthree"
        await node.durable()

        def with_other_ends() -> None:
            node.phext()[AT] = node.phext()[AT].replace("\n", "\r\n")

        def work(browser: "Browser") -> None:
            with visiting(browser) as ann:
                of_ann = _open(ann, port)
                trio.from_thread.run_sync(with_other_ends)
                with visiting(browser) as bob:
                    of_bob = _open(bob, port)

                    def until_both(*lines: str) -> None:
                        until(ann, lambda: _lines(of_ann) == _lines(of_bob) == [*lines])

                    of_ann.press("Control+End")
                    ann.keyboard.type("!\nfour")
                    until_both("one", "two", "three!", "four")
                    of_bob.press("Control+End")
                    for key in ("ArrowUp", "ArrowUp", "Home", "x", "Home", "Backspace"):
                        bob.keyboard.press(key)
                    until_both("onextwo", "three!", "four")
                    bob.locator(".caret").wait_for(state="attached")
                    ann.keyboard.type(".")
                    until_both("onextwo", "three!", "four.")
                    for _ in range(9):  # how many steps it was is a question of time
                        ann.keyboard.press("Control+z")
                    until_both("onextwo", "three")
                    bob.keyboard.type("-")
                    until_both("one-xtwo", "three")

        await drive(work)
        assert node.phext()[AT] == "one-xtwo\r\nthree"


async def test_what_no_scroll_can_hold_is_taken_back_with_a_reason(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "one"
        await node.durable()

        def work(browser: "Browser") -> None:
            with visiting(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
                text = _open(page, port)
                text.press("Control+End")
                page.evaluate("navigator.clipboard.writeText(' and\\u0017more')")
                page.keyboard.press("Control+v")
                told = page.get_by_role("alert").filter(has_text="took the last change back")
                told.wait_for()
                told.get_by_role("link").click()
                until(page, lambda: _lines(text) == ["one"])

        await drive(work)
        assert node.phext()[AT] == "one"


async def test_the_preview_shows_markdown_and_never_markup(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = (
            f"# Head\n\n*soft* **loud** `code` ~~gone~~ {_EVIL}\n\n{_EVIL}\n\n"
            "[good](https://example.org/) [bad](javascript:alert(1)) ![seen](https://example.org/x)\n"
            "\n- one\n  1. two\n- [x] done\n\n> said\n\n```\n<b>\n```\n"
            "\n| a | b |\n|---|---|\n| 1 | 2 |\n"
        )
        await node.durable()

        def work(browser: "Browser") -> None:
            with visiting(browser) as page:
                asked: list[str] = []
                page.on("request", lambda request: asked.append(request.url))
                text = _open(page, port)
                page.get_by_role("button", name="Preview").click()
                preview = page.get_by_role("region", name="Preview")
                preview.get_by_role("heading", name="Head").wait_for()
                for tag in ("em", "strong", "code", "s", "blockquote", "pre", "td", "ul ol li"):
                    assert preview.locator(tag).count(), tag
                assert preview.locator("img, script, b").count() == 0
                assert preview.get_by_text(_EVIL).count() == 2
                links = [a.get_attribute("href") for a in preview.locator("a").all()]
                assert links == ["https://example.org/", "https://example.org/x"]
                text.press("Control+Home")
                page.keyboard.type("New ")
                preview.get_by_text("New # Head").wait_for()
                assert all(url.startswith(f"http://{HOST}:{port}/") for url in asked)

        await drive(work)


async def test_no_text_holds_up_the_window_that_shows_it(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        texts = [">" * 50_000, "- " * 20_000, "[a](" * 30_000, f"{'|a' * 9_999}\n{'|-' * 9_999}"]
        phext = node.phext()

        def work(browser: "Browser") -> None:
            for text in texts:
                trio.from_thread.run_sync(phext.__setitem__, AT, f"{text}\n\n*end*")
                with visiting(browser) as page:
                    _open(page, port).press("Control+End")
                    page.keyboard.type(" of it")
                    page.get_by_role("button", name="Preview").click()
                    preview = page.get_by_role("region", name="Preview")
                    preview.locator("p", has_text="end of it").locator("em").wait_for()

        await drive(work)


async def test_the_margin_and_the_slider_tell_of_the_past(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.replicas.keep_history(FOREVER)
        node.phext()[AT] = "one"
        await node.durable()

        def work(browser: "Browser") -> None:
            with visiting(browser) as page:
                text = _open(page, port)
                page.get_by_role("button", name="Who wrote what").click()
                page.locator(".who-gutter", has_text="node0").wait_for()
                text.press("Control+End")
                page.keyboard.type(" more")
                until(page, lambda: trio.from_thread.run_sync(node.phext().get, AT) == "one more")
                page.get_by_role("link", name="History").click()
                slider = page.get_by_role("slider", name="Go through the versions")
                slider.press("End")
                slider.press("Home")
                page.locator("#then pre").get_by_text("one", exact=True).wait_for()
                page.get_by_role("button", name="Restore this text").click()
                text.wait_for()
                text.get_by_text("one", exact=True).wait_for()

        await drive(work)
        assert node.phext()[AT] == "one"


async def test_without_scripts_a_text_is_edited_in_a_form(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):

        def work(browser: "Browser") -> None:
            with visiting(browser, java_script_enabled=False) as page:
                page.goto(f"http://{HOST}:{port}/scroll/memory/{AT}")
                page.get_by_label("Text", exact=True).fill("One\ntwo")
                page.get_by_role("button", name="Save").click()
                page.get_by_text("On the disk of 1 of 1 machine").wait_for()

        await drive(work)
        assert node.phext()[AT] == "One\ntwo"
