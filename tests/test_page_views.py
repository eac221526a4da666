"""The views of the mesh, of directories and of figures, as plain HTML from running nodes."""

import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio

from phextsync import Coordinate, CoordinateRange, Node
from phextsync.conflicts import conflicts
from phextsync.files import service
from phextsync.files.absences import GUARD_NAMES
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.conflict_log import ConflictLog
from phextsync.files.desk import FileDesk
from phextsync.gateways.measured import MEASURED_FILE, keep
from phextsync.merges import merged_text
from phextsync.replica.past import FOREVER
from phextsync.reporting import Document, Section, Series
from phextsync.web.drawing import NAMED_MAX, picture
from phextsync.web.figures_view import FIGURES
from phextsync.web.samples import KEPT, Samples
from tests.polling import until
from tests.web_nodes import (
    AT,
    HOST,
    ask,
    links_of,
    make_identity,
    page_of,
    send_form,
    web_node,
)

pytestmark = pytest.mark.real


async def test_the_mesh_shows_who_is_linked_and_who_is_not_with_the_reason(tmp_path: Path) -> None:
    for number in range(2):
        make_identity(tmp_path / str(number), number)
    async with web_node(tmp_path / "0") as (node, port):
        assert "No other machine is known." in await page_of(port, "/mesh")
        async with web_node(tmp_path / "1", peers=[f"{HOST}:{node.port}"]) as (other, _):
            other.phext()[AT] = "text"
            await other.synced()
            page = await page_of(port, "/mesh")
            assert "1 machine linked" in page
            assert re.search(r"<line class=\"\w+\"", page)
            assert "<title>node1: " in page
        while node.peers():
            await trio.lowlevel.checkpoint()
        page = await page_of(port, "/mesh")
        assert "1 not connected" in page
        assert "node1 is not connected: " in page


@pytest.mark.parametrize("groups", [(0, 0, 0), (1, 0, 0), (5, 1, 0), (18, 4, 3), (16, 464, 20)])
def test_no_two_nodes_of_a_picture_are_drawn_over_each_other(groups: tuple[int, ...]) -> None:
    made = picture(groups)
    count = sum(groups)
    assert [node.number for node in made.nodes] == [*range(count)]
    assert made.is_named == (count <= NAMED_MAX)
    least = 40.0 if made.is_named else 15.0
    places = [(0.0, 0.0), *((node.x, node.y) for node in made.nodes)]
    for i, (x, y) in enumerate(places):
        assert abs(x) < made.half_width
        assert abs(y) < made.half_height
        for other_x, other_y in places[:i]:
            assert (x - other_x) ** 2 + (y - other_y) ** 2 >= least**2


@pytest.mark.parametrize("count", [*range(1, NAMED_MAX + 1)])
def test_the_name_in_the_middle_of_a_picture_has_no_node_and_no_link_under_it(count: int) -> None:
    assert all(abs(node.x) > 1 for node in picture((count, 0, 0)).nodes)


async def test_machines_stand_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in range(4):
        make_identity(tmp_path / str(number), number)
    async with AsyncExitStack() as stack:
        node, port = await stack.enter_async_context(web_node(tmp_path / "0"))
        for number in (3, 1, 2):
            peer = web_node(tmp_path / str(number), peers=[f"{HOST}:{node.port}"])
            await stack.enter_async_context(peer)
        await until(lambda: len(node.peers()) == 3)
        names = re.findall(r'<th scope="row">(\w+)', await page_of(port, "/mesh"))
        assert names == ["node1", "node2", "node3"]


async def test_much_to_do_leaves_room_for_the_picture(tmp_path: Path) -> None:
    make_identity(tmp_path)
    peers = [f"{HOST}:{number}" for number in range(1, 21)]
    async with web_node(tmp_path, peers=peers) as (node, port):
        await until(lambda: len(node.status().absent) == 20)
        shown, folded = (await page_of(port, "/mesh")).split("<details id=", 1)
        assert shown.count("is not connected: ") == 8
        assert folded.startswith('"more-to-do"><summary>12 more<')


# -- directories ---------------------------------------------------------------------------


@asynccontextmanager
async def _bound(tmp_path: Path) -> AsyncIterator[tuple[Node, int, Path]]:
    """Run a node with a bound directory, and its page."""
    make_identity(tmp_path / "node")
    notes = tmp_path / "<b>notes"
    BindingStore(tmp_path / "node").bind(Bound(notes, "memory", CoordinateRange.parse("7.*")))
    async with web_node(tmp_path / "node") as (node, port), trio.open_nursery() as nursery:
        node.replicas.keep_history(FOREVER)
        await nursery.start(service.serve, node)
        yield node, port, notes
        nursery.cancel_scope.cancel()


def _files(node: Node) -> int:
    (row,) = node.status().directories
    return row.in_step


async def test_one_file_is_told_of_in_the_singular(tmp_path: Path) -> None:
    async with _bound(tmp_path) as (node, port, notes):
        await until(lambda: node.status().directories[0].is_taken_up)
        assert "It has no file." in await page_of(port, "/directories")
        (notes / "list.md").write_text("Tea.\n")
        await until(lambda: _files(node) == 1)
        assert "Its one file is in step." in await page_of(port, "/directories")


async def test_what_is_left_alone_is_told_of_on_the_first_page(tmp_path: Path) -> None:
    async with _bound(tmp_path) as (node, port, notes):
        (notes / "list.md").write_text("Tea.\n")
        (notes / "other.md").write_bytes(b"caf\xe9\n")
        await until(lambda: node.status().directories[0].left_alone)
        await until(lambda: _files(node) == 1)
        for path in ("/", "/directories"):
            assert re.search(
                r"1 of 1 file in step,\s<span class=\"warn\">1 left alone<",
                await page_of(port, path),
            )


async def test_a_name_that_is_no_text_is_told_of_as_one(tmp_path: Path) -> None:
    async with _bound(tmp_path) as (node, port, notes):
        try:
            (notes / os.fsdecode(b"caf\xe9.md")).write_text("Tea.\n")
        except OSError:
            pytest.skip("this file system has names in UTF-8 alone")
        await until(lambda: node.status().directories[0].left_alone)
        assert "caf\\udce9.md" in await page_of(port, "/directories")
        for path in ("/api/v1/directories", "/api/v1/status"):
            status, _, body = await ask(port, "GET", path)
            assert (status, b"caf\\\\udce9.md" in body) == (200, True)


async def test_files_are_found_by_name_from_folder_to_scroll(tmp_path: Path) -> None:
    async with _bound(tmp_path) as (node, port, notes):
        (notes / "daily").mkdir()
        (notes / "daily" / "<i>monday.md").write_text("Milk.\n")
        (notes / "list.md").write_text("Tea.\n")
        await until(lambda: _files(node) == 2)
        page = await page_of(port, "/directories")
        assert "All of its 2 files are in step." in page
        link = next(each for each in links_of(page) if each.startswith("/files"))
        page = await page_of(port, link)
        assert ">list.md</a>" in page
        link = next(each for each in links_of(page) if "under=daily" in each)
        page = await page_of(port, link)
        assert "<i>" not in page
        link = next(each for each in links_of(page) if each.startswith("/scroll/memory/"))
        assert "Milk." in await page_of(port, link)
        assert str(notes / "daily") in unescape(await page_of(port, "/search?words=milk"))
        assert "not bound here" in await page_of(port, "/files?directory=/none", 404)


async def test_deleting_many_files_waits_for_a_decision_on_the_page(tmp_path: Path) -> None:
    async with _bound(tmp_path) as (node, port, notes):
        for number in range(GUARD_NAMES):
            (notes / f"{number}.md").write_text(f"note {number}\n")
        await until(lambda: _files(node) == GUARD_NAMES)
        status, _, page = await send_form(port, "/confirm", directory=str(notes))
        assert (status, "no deletion waits" in page) == (400, True)
        for path in notes.glob("*.md"):
            path.unlink()
        await until(lambda: node.status().directories[0].held == GUARD_NAMES)
        page = await page_of(port, "/directories")
        assert f"Delete {GUARD_NAMES} files on all machines" in page
        assert len(node.phext().within("7.*")) >= GUARD_NAMES
        assert (await send_form(port, "/confirm", directory=str(notes)))[0] == 303
        await until(lambda: "note 3\n" not in node.phext().values("7.*"))


async def test_what_was_deleted_is_listed_and_brought_back(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, port):
        node.replicas.keep_history(FOREVER)
        node.phext()[AT] = "<b>precious"
        await node.durable()
        del node.phext()[AT]
        await node.durable()
        page = await page_of(port, f"/deleted?{urlencode({'phext': 'memory', 'range': '1.*'})}")
        assert "&lt;b&gt;precious" in page
        assert "node0" in page
        given = {"phext": "memory", "at": AT}
        assert (await send_form(port, "/undelete", **given))[:2] == (303, f"/scroll/memory/{AT}")
        assert node.phext()[AT] == "<b>precious"
        status, _, page = await send_form(port, "/undelete", **given)
        assert (status, "has a text again" in page) == (400, True)


@pytest.mark.parametrize("side", ["mine", "theirs"])
async def test_of_a_conflict_one_takes_either_side(side: str, tmp_path: Path) -> None:
    make_identity(tmp_path / "node")
    store = BindingStore(tmp_path / "node")
    bound = store.bind(Bound(tmp_path / "notes", "memory", CoordinateRange.parse("1.*")))
    sides = {"mine": "one\nmy line\n", "theirs": "one\ntheir <b>line\n"}
    async with web_node(tmp_path / "node") as (node, port):
        node.phext()[AT] = merged_text("one\nline\n", sides["mine"], sides["theirs"])
        log = ConflictLog(node.replicas, bytes.fromhex(bound.id))
        found = conflicts("one\nline\n", sides["mine"], sides["theirs"])
        log.log(Coordinate.parse(AT), "n.md", found, [])
        await node.durable()
        with FileDesk(node.replicas, node.folder).at(node):
            page = await page_of(port, f"/scroll/memory/{AT}")
            assert "their &lt;b&gt;line" in page
            for query, count in (
                ("", 1),
                ("?phext=memory", 1),
                (f"?phext=memory&coordinate=0{AT}", 1),
                ("?phext=memory&coordinate=1.1.1/1.1.1/1.1.2", 0),
                ("?phext=other", 0),
            ):
                told = await ask(port, "GET", f"/api/v1/conflicts{query}")
                assert (told[0], len(json.loads(told[2]))) == (200, count), query
            (number,) = re.findall(r'action="/settle/(\w+)"', page)
            assert (await send_form(port, f"/settle/{number}", side="both"))[0] == 400
            status, link, _ = await send_form(port, f"/settle/{number}", side=side)
            assert (status, link) == (303, f"/scroll/memory/{AT}")
            assert node.phext()[AT] == sides[side]
            assert "/settle/" not in await page_of(port, link)


# -- figures -------------------------------------------------------------------------------


async def test_figures_are_what_happened_between_two_samples(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (node, _):
        samples = Samples(node)
        samples.take(100)
        for number in range(20):
            node.phext()[AT] = str(number)
        await node.durable()
        samples.take(110)
        samples.take(115)
        first, second = samples.rows()
        assert (first["time_s"], first["edits"], second["edits"]) == (110, 2.0, 0.0)
        assert first["commit"] is not None
        assert first["commit"] > 0
        assert second["commit"] is None
        assert first["round_trip"] is None
        for number in range(3 * KEPT):
            samples.take(200 + number)
        assert len(samples.rows()) == KEPT


async def test_the_page_of_figures_says_the_last_of_them(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        page = await page_of(port, "/figures")
        for _, name, unit in FIGURES:
            assert f'<th scope="row">{name}</th>' in page
            assert unit in page
        _, headers, body = await ask(port, "GET", "/figures.json")
        assert headers["content-type"] == "application/json"
        assert isinstance(json.loads(body), list)


async def test_the_page_of_figures_shows_what_was_measured_last(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        assert "has not been measured" in await page_of(port, "/figures")
        series = (Series("read <b>", "ms", (0.5, 1.5, 0.25)),)
        document = Document("What one measures", "", machine={"cores": "2"})
        document.sections = [Section("Reading", "one after another", series)]
        keep(tmp_path, document.tables(1000))
        page = await page_of(port, "/figures")
        assert '<th scope="row">read &lt;b&gt;</th><td>ms</td><td>3</td><td>0.5</td>' in page
        assert "What one measures" in page
        for broken in (
            "",
            "[]",
            "{" * 3000,
            document.tables(1000).replace('"rows": [', '"rows": [1,'),
        ):
            (tmp_path / MEASURED_FILE).write_text(broken)
            assert "`phextsync measure` makes a new one" in unescape(
                await page_of(port, "/figures")
            )
