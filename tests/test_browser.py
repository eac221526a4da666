"""The page in a real browser: what moves on it, by hand and by keyboard."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from phextsync import Coordinate, CoordinateRange
from phextsync.replica.past import FOREVER
from phextsync.trust.permissions import Permissions
from tests.browsers import PATIENCE_MS, drive, visiting
from tests.web_nodes import AT, HOST, make_identity, web_node

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.real

_EVIL = "<img src=x onerror=alert(1)>"
_HIDDEN = """[...document.querySelectorAll('.wide')]
    .filter(each => each.scrollWidth > each.clientWidth).map(each => each.textContent)"""
_TOPS = "[...document.querySelectorAll('.top nav a')].map(each => each.offsetTop)"
_TEXT_HEIGHTS = """[...document.querySelectorAll('.mesh g text')]
    .map(each => each.getBoundingClientRect().height)"""


async def test_one_finds_a_scroll_while_typing_by_keyboard_alone(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = f"The milkman rings twice. {_EVIL}"
        await node.durable()

        def work(browser: "Browser") -> None:
            with visiting(browser) as page:
                page.goto(f"http://{HOST}:{port}/")
                page.keyboard.press("/")
                page.keyboard.type("milkm")
                page.locator("#results mark", has_text="milkman").wait_for()
                link = page.locator("#results a").first
                while not link.evaluate("link => link === document.activeElement"):
                    page.keyboard.press("Tab")
                page.keyboard.press("Enter")
                page.get_by_role("heading", name=AT).wait_for()

        await drive(work)


async def test_one_logs_in_with_the_token_and_out_again(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, token="secret") as (_, port):

        def work(browser: "Browser") -> None:
            with visiting(browser) as page:
                page.goto(f"http://{HOST}:{port}/scrolls/memory")
                page.get_by_label("The token of this node").fill("secret")
                page.keyboard.press("Enter")
                page.get_by_role("heading", name="Scrolls").wait_for()
                page.get_by_role("button", name="Log out").click()
                page.get_by_label("The token of this node").wait_for()

        await drive(work)


async def test_the_lists_follow_what_changes_without_reloading(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "one"
        await node.durable()

        def work(browser: "Browser") -> None:
            with visiting(browser) as page:
                page.goto(f"http://{HOST}:{port}/scrolls/memory")
                page.evaluate("document.marked = true")
                page.locator("#walked a").first.focus()
                trio.from_thread.run_sync(
                    node.phext().__setitem__, "1.1.1/1.1.1/1.1.2", f"{_EVIL} two"
                )
                page.locator("#walked", has_text=f"{_EVIL} two").wait_for()
                page.locator("#recent", has_text="1.1.1/1.1.1/1.1.2").wait_for()
                assert page.evaluate("document.marked")
                assert page.evaluate("document.activeElement.textContent") == AT

        await drive(work)


async def test_the_page_fits_a_phone_and_says_when_its_node_is_gone(tmp_path: Path) -> None:
    for number in range(2):
        make_identity(tmp_path / str(number), number)
    leaving = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[int]) -> None:
        with leaving:
            async with (
                web_node(tmp_path / "0") as (node, port),
                web_node(tmp_path / "1", peers=[f"{HOST}:{node.port}"]) as (other, _),
            ):
                node.replicas.keep_history(FOREVER)
                with node.phext().batch():
                    for number in range(1, 200):
                        at = Coordinate(1, 1, 1, 1, 1, 1, 1, number, number)
                        node.phext()[at] = "a-word-of-many-letters-" * 20
                await node.durable()
                del node.phext()[at]
                await node.synced()
                other.phext()[AT] = "b" * 200
                await other.synced()
                task_status.started(port)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(run)

        def work(browser: "Browser") -> None:
            scroll = f"/scroll/memory/{AT}"
            lists = ("/", "/scrolls/memory", "/scrolls/memory?list=1", "/deleted?phext=memory")
            past = (f"{scroll}?view=blame", f"{scroll}?view=history")
            for path in (*lists, *past, scroll, "/mesh", "/figures"):
                with visiting(browser, viewport={"width": 360, "height": 640}) as page:
                    page.goto(f"http://{HOST}:{port}{path}")
                    wide = page.evaluate("document.documentElement.scrollWidth")
                    assert wide <= 360, path
                    assert page.evaluate(_HIDDEN) == [], path
                    assert len({*page.evaluate(_TOPS)}) == 1, path
                    assert all(height >= 12 for height in page.evaluate(_TEXT_HEIGHTS)), path
            page = browser.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"http://{HOST}:{port}/")
            trio.from_thread.run_sync(leaving.cancel)
            page.locator("#live", has_text="does not answer").wait_for()

        await drive(work)


async def test_who_may_only_read_sees_what_others_write_and_each_line(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        every = node.replicas.permissions

        def write(text: str) -> None:
            node.replicas.permissions = every
            node.phext()[AT] = text
            read = {"memory": (CoordinateRange.parse("*"),)}
            node.replicas.permissions = Permissions.of(read, {})

        def work(browser: "Browser") -> None:
            with visiting(browser) as page:
                page.goto(f"http://{HOST}:{port}/scroll/memory/{AT}")
                shown = page.locator("pre.text")
                assert shown.text_content() == "\nbefore"
                trio.from_thread.run_sync(write, "\nafter")
                page.locator("pre.text", has_text="after").wait_for()
                assert shown.text_content() == "\nafter"

        write("\nbefore")
        await drive(work)


async def test_long_names_fit_a_narrow_window(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        for letter in "ab":
            node.phext(letter * 60)[AT] = "c" * 600
            node.phext(letter * 60)["2.1.1/1.1.1/1.1.1"] = "c" * 600
        await node.durable()

        def work(browser: "Browser") -> None:
            name = "a" * 60
            scroll = f"/scroll/{name}/{AT}"
            past = (f"{scroll}?view=blame", f"{scroll}?view=history")
            walk = (f"/scrolls/{name}", f"/scrolls/{name}?list=1", f"/deleted?phext={name}")
            for path in ("/", "/directories", "/mesh", *walk, scroll, *past):
                with visiting(browser, viewport={"width": 320, "height": 640}) as page:
                    page.goto(f"http://{HOST}:{port}{path}")
                    assert page.evaluate("document.documentElement.scrollWidth") <= 320, path

        await drive(work)


async def test_one_walks_through_every_view_by_its_name(tmp_path: Path) -> None:
    for number in range(2):
        make_identity(tmp_path / str(number), number)
    async with (
        web_node(tmp_path / "0") as (node, port),
        web_node(tmp_path / "1", peers=[f"{HOST}:{node.port}"]) as (other, _),
    ):
        other.phext()[AT] = f"one {_EVIL}"
        await other.synced()

        def work(browser: "Browser") -> None:
            with visiting(browser, color_scheme="dark") as page:
                page.goto(f"http://{HOST}:{port}/")
                for name in ("Mesh", "Directories", "Figures", "Scrolls"):
                    page.get_by_role("navigation", name="Views").get_by_text(name).click()
                    page.get_by_role("heading", name=name, level=1).wait_for()
                page.get_by_role("link", name="Figures").click()
                page.locator("#charts canvas").nth(5).wait_for()
                page.get_by_role("link", name="Mesh").click()
                picture = page.get_by_role("img", name="node0 with 1 linked")
                picture.wait_for()
                page.get_by_role("row", name="node1").get_by_text("in sync").wait_for()
                page.get_by_role("link", name="node0").click()
                page.get_by_role("link", name="memory", exact=True).click()
                page.locator("#walked").get_by_role("link", name=AT).click()
                page.get_by_role("textbox", name=f"Text of {AT}").get_by_text(_EVIL).wait_for()
                page.get_by_role("link", name="Who wrote what").click()
                page.get_by_role("cell", name="node1").first.wait_for()

        await drive(work)
