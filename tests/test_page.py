"""The page: each view as plain HTML, from nodes on real sockets. No script is needed."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from phextsync import Coordinate, CoordinateRange, writing_as
from phextsync.agents.part_names import NAMES
from phextsync.index import ORIGIN
from phextsync.replica.past import FOREVER
from phextsync.trust.permissions import Permissions
from phextsync.web.forms import with_ends_of
from tests.web_nodes import (
    AT,
    BROWSER,
    HOST,
    ask,
    links_of,
    make_identity,
    page_of,
    send_form,
    web_node,
)

pytestmark = pytest.mark.real

_EVIL = "<img src=x onerror=alert(1)>"
_NEXT = "1.1.1/1.1.1/1.1.2"


async def test_a_scroll_that_nobody_wrote_is_on_no_disk(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        for phext in ("memory", "other"):
            page = await page_of(port, f"/scroll/{phext}/{AT}")
            assert "Nobody has written here yet" in page
            assert "On the disk" not in page
        node.phext()[AT] = "text"
        await node.durable()
        page = await page_of(port, f"/scroll/memory/{AT}")
        assert "On the disk of 1 of 1 machine" in page


async def test_names_and_texts_of_others_are_text_in_every_view(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.replicas.keep_history(FOREVER)
        with writing_as(_EVIL):
            node.phext("<b>bold")[AT] = f"{_EVIL}\n</textarea></pre>{_EVIL}"
        await node.durable()
        scroll = f"/scroll/{quote('<b>bold')}/{AT}"
        for path in (
            "/",
            f"/scrolls/{quote('<b>bold')}",
            f"/search?words=onerror&phext={quote('<b>bold')}",
            f"/search?words={quote(_EVIL)}",
            f"/search?words=x&phext={quote(_EVIL)}",
            scroll,
            f"{scroll}?view=blame",
            "/mesh",
            "/directories",
            f"/deleted?phext={quote('<b>bold')}",
            f"/files?directory={quote(_EVIL)}",
            f"{scroll}?view=history&at=9999999999999",
            f"/scroll/{quote(_EVIL, safe='')}/1.1",
        ):
            _, headers, body = await ask(port, "GET", path, headers=BROWSER)
            page = body.decode()
            assert "<img" not in page, path
            assert "<b>" not in page, path
            assert page.count("</textarea>") == ("<textarea" in page), path
            for address in re.findall(r'(?:src|href|action)="([^"]*)"', page):
                assert address.startswith(("/", "#")), address
            assert " style=" not in page
            assert re.search(r"<script(?! type=\"module\" src=\"/static/)", page) is None
            assert "script-src 'self'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]


async def test_one_walks_from_the_phexts_to_a_scroll_by_links_alone(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        with node.phext().batch():
            for number in range(1, 300):
                at = Coordinate(1, 1, 1, 1 + number % 3, 1, 1, 1, 1, number)
                node.phext()[at] = f"note {number}"
        await node.durable()
        link = "/scrolls/memory"
        assert link in links_of(await page_of(port, "/"))
        link = next(each for each in links_of(await page_of(port, link)) if "in=1.1.1/2" in each)
        page = await page_of(port, link)
        link = next(each for each in links_of(page) if each.endswith("1.1.1/2.1.1/1.1.1"))
        assert "note 1" in await page_of(port, link)


async def test_who_walks_is_shown_what_people_call_the_parts_of_coordinates(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        with node.phext().batch():
            for number in range(1, 300):
                node.phext()[Coordinate(1, 1 + number % 3, 1, 1, 1, 1, 1, 1, number)] = "note"
        node.phext(NAMES)[ORIGIN] = f"memory shelf {_EVIL}\nmemory 1.2 anna\nmemory 1 people\n"
        await node.durable()
        page = await page_of(port, "/scrolls/memory")
        assert re.search(r'<th scope="row"><a href="[^"]*in=1.2">1.2</a> anna</th>', page)
        assert "&lt;img" in page  # the dimension's name, as text
        assert "1 people</a>" in await page_of(port, "/scrolls/memory?in=1.2")


async def test_a_list_of_all_scrolls_has_pages(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        places = [str(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number)) for number in range(1, 251)]
        with node.phext().batch():
            for place in places:
                node.phext()[place] = "text"
        await node.durable()
        found: list[str] = []
        link: str | None = "/scrolls/memory?list=1"
        while link is not None:
            page = (await page_of(port, link)).partition('id="walked"')[2].partition("<h2")[0]
            found += re.findall(r"/scroll/memory/([\d./]+)", page)
            link = next((each for each in links_of(page) if "after=" in each), None)
        assert found == places


async def test_what_is_typed_finds_scrolls_by_the_beginning_of_a_word(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "The milkman rings twice."
        node.phext("world")[AT] = "Milk and honey."
        page = await page_of(port, "/search?words=milk&typed=1")
        assert f"/scroll/memory/{AT}" in page
        assert f"/scroll/world/{AT}" in page
        assert "<mark>milkman</mark>" in page
        assert f"/scroll/memory/{AT}" not in await page_of(port, "/search?words=milk")
        assert "no phext" in await page_of(port, "/search?words=milk&phext=none", 404)


async def test_recent_changes_say_who_and_the_newest_comes_first(tmp_path: Path) -> None:
    for number in range(2):
        make_identity(tmp_path / str(number), number)
    async with (
        web_node(tmp_path / "0") as (node, port),
        web_node(tmp_path / "1", peers=[f"127.0.0.1:{node.port}"]) as (other, _),
    ):
        with writing_as("agent"):
            node.phext()[AT] = "one"
        await node.synced()
        async with other.changes() as _, node.changes() as changes:
            other.phext()[_NEXT] = "two"
            async for _ in changes:
                break
        rows = (await page_of(port, "/")).partition('id="recent"')[2]
        assert rows.index(_NEXT) < rows.index(AT)
        assert "<td>node1</td>" in rows
        assert "<td>node0 (agent)</td>" in rows


async def test_a_scroll_is_saved_unless_it_changed_meanwhile(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        path = f"/scroll/memory/{AT}"
        page = await page_of(port, path)
        seen = re.search(r'name="seen" value="(\w+)"', page)
        assert seen is not None
        status, link, _ = await send_form(port, path, seen=seen[1], text="One\r\ntwo\r\n")
        assert (status, link) == (303, path)
        assert node.phext()[AT] == "One\ntwo\n"
        assert not node.replicas.is_dirty
        status, _, page = await send_form(port, path, seen=seen[1], text="Mine.")
        assert status == 409
        assert "changed meanwhile" in page
        assert "Mine." in page
        assert node.phext()[AT] == "One\ntwo\n"
        assert (await send_form(port, path, seen="x", text=""))[0] == 400


async def test_a_form_leaves_the_line_ends_of_windows_what_they_are(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        path = f"/scroll/memory/{AT}"
        node.phext()[AT] = "One\r\ntwo"
        seen = re.search(r'name="seen" value="(\w+)"', await page_of(port, path))
        assert seen is not None
        await send_form(port, path, seen=seen[1], text="One\r\ntwo\r\nthree")
        assert node.phext()[AT] == "One\r\ntwo\r\nthree"


@pytest.mark.parametrize(
    ("before", "sent", "after"),
    [
        ("a\nb\r\nc\nd", "a\r\nb\r\nc!\r\nd", "a\nb\r\nc!\nd"),
        ("a\r\nb\nc", "a\r\nb\r\nc\r\nd\r\n", "a\r\nb\nc\nd\n"),
        ("a\r\nb\nc\r\nd\n", "new\r\na\r\nc\r\nd\r\n", "new\r\na\r\nc\r\nd\n"),
        ("a\nb\n\r\nc\r\n", "c\r\n", "c\r\n"),
        ("a\rb\n\rc", "a\r\nb\r\n\r\nc!", "a\rb\n\rc!"),
        ("a\r\n\r\nb\n", "", ""),
        ("", "a\r\nb", "a\nb"),
        ("a", "a\r\n", "a\n"),
    ],
)
def test_lines_of_a_form_that_nobody_edited_keep_their_ends(
    before: str, sent: str, after: str
) -> None:
    assert with_ends_of(before, sent) == after
    shown = re.sub("\r\n|\r|\n", "\r\n", before)
    assert with_ends_of(before, shown) == before


async def test_what_a_form_sends_as_it_was_shown_is_no_edit(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        path, before = f"/scroll/memory/{AT}", "One\ntwo\r\n\rthree\n"
        node.phext()[AT] = before
        seen = re.search(r'name="seen" value="(\w+)"', await page_of(port, path))
        assert seen is not None
        await send_form(port, path, seen=seen[1], text="One\r\ntwo\r\n\r\nthree\r\n")
        assert node.phext()[AT] == before


async def test_a_text_of_the_past_is_shown_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_identity(tmp_path)
    now_ms = [1000]
    async with web_node(tmp_path) as (node, port):
        monkeypatch.setattr(node.replicas.author, "now_ms", lambda: now_ms[0])
        node.replicas.keep_history(FOREVER)
        node.phext()[AT] = "before"
        await node.durable()
        now_ms[0] = 2000
        node.phext()[AT] = "after"
        await node.durable()
        path, restore = f"/scroll/memory/{AT}", f"/restore/memory/{AT}"
        assert "as it is now" in await page_of(port, f"{path}?view=history&at=2000")
        assert "before</pre>" in await page_of(port, f"{path}?view=history&at=1000")
        assert (await send_form(port, restore, at="1000"))[:2] == (303, path)
        assert node.phext()[AT] == "before"
        assert (await send_form(port, restore, at="1"))[0] == 400
        assert (await send_form(port, restore, at="soon"))[0] == 400


async def test_who_wrote_which_line_is_said_by_name(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.replicas.keep_history(FOREVER)
        node.phext()[AT] = "one\ntwo"
        page = await page_of(port, f"/scroll/memory/{AT}?view=blame")
        assert "<td>node0</td>" in page
        assert "<code>two</code>" in page


async def test_who_wrote_a_long_scroll_is_told_in_pages(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "".join(f"line{number}\n" for number in range(9000))
        found: list[str] = []
        links = [f"/scroll/memory/{AT}?view=blame"]
        while links:
            page = await page_of(port, links[0])
            assert len(page) < 500_000
            found += re.findall(r"<code>line(\d+)</code>", page)
            links = [link for link in links_of(page) if "from=" in link]
        assert found == [*map(str, range(9000))]


async def test_without_history_the_page_says_how_to_keep_it(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.phext()[AT] = "one"
        await node.durable()
        page = await page_of(port, f"/scroll/memory/{AT}?view=history")
        assert "phextsync history --keep" in page


async def test_what_may_not_be_read_or_written_is_said_plainly(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        read = {"memory": (CoordinateRange.parse("1.*"),)}
        node.replicas.permissions = Permissions.of(read, {})
        page = await page_of(port, f"/scroll/memory/{AT}")
        assert "may read this scroll, and not write it" in page
        assert "<textarea" not in page
        assert "private" in await page_of(port, "/scroll/memory/2.1.1/1.1.1/1.1.1")


async def test_the_styles_of_the_login_page_are_there_before_one_has_logged_in(
    tmp_path: Path,
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path, token="secret") as (_, port):
        page = await page_of(port, "/login")
        (link,) = (each for each in links_of(page) if each.startswith("/static/page.css"))
        status, headers, _ = await ask(port, "GET", link)
        assert (status, headers["content-type"]) == (200, "text/css; charset=utf-8")
        assert (await ask(port, "GET", "/static/none.css"))[0] == 404
        assert (await ask(port, "GET", "/scrolls/memory"))[0] == 401


async def test_a_scroll_that_others_hold_is_brought_here_to_be_read_and_written(
    tmp_path: Path,
) -> None:
    for number in range(2):
        make_identity(tmp_path / str(number), number)
    path, other_path = "/scroll/memory/7.1.1/1.1.1/1.1.1", "/scroll/memory/7.1.1/1.1.1/1.1.2"
    async with web_node(tmp_path / "1") as (node, port):
        await node.hold(["1.*"])
        async with web_node(tmp_path / "0", peers=[f"{HOST}:{node.port}"]) as (holder, _):
            holder.phext()["7.1.1/1.1.1/1.1.1"] = "far away"
            await holder.durable()
            while not node.peers():
                await trio.lowlevel.checkpoint()
            page = await page_of(port, path)
            assert "far away</textarea>" in page
            assert " of 1 machine<" in page
            assert "None since this node started." in await page_of(port, "/")
            seen = re.search(r'name="seen" value="(\w+)"', page)
            assert seen is not None
            async with holder.changes() as changes:
                assert (await send_form(port, path, seen=seen[1], text="near"))[0] == 303
                async for _ in changes:
                    break
            assert holder.phext()["7.1.1/1.1.1/1.1.1"] == "near"
        page = await page_of(port, other_path, 421)
        assert "no holder of memory 7.1.1/1.1.1/1.1.2 is reachable" in page
        assert (await send_form(port, other_path, seen="", text="x"))[0] == 421


@pytest.mark.parametrize(
    "path",
    ["/undelete", "/confirm", "/settle/1", f"/scroll/memory/{AT}", f"/restore/memory/{AT}"],
)
async def test_the_forms_count_from_the_page_itself_alone_without_a_token_too(
    path: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        own = {"Origin": f"http://{HOST}:{port}", "Sec-Fetch-Site": "same-origin"}
        neighbour = {"Origin": f"http://{HOST}:{port + 1}", "Sec-Fetch-Site": "same-site"}
        statuses = [
            (await ask(port, "POST", path, b"at=1", headers))[0] for headers in (own, neighbour)
        ]
        assert statuses[0] in {400, 404, 409}, statuses
        assert statuses[1] == 403
