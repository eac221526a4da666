"""Clients of Yjs that are not ours edit scrolls of nodes, by both protocols."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from phextsync import Coordinate, CoordinateRange, Node
from phextsync.trust.permissions import Permissions
from tests.web_nodes import AT, HOST, make_identity, web_node
from tests.yjs_clients import YjsClients, yjs_clients

pytestmark = pytest.mark.real

_NAME = f"memory/{AT}"
_HOCUSPOCUS = ["hocuspocus", "hocuspocus3", "hocuspocus2"]


async def _open(clients: YjsClients, id: int, port: int, kind: str = "y", **more: object) -> None:
    """Open the scroll with a client and wait until it has it."""
    path = "sync" if kind == "y" else "hocuspocus"
    name = str(more.pop("name", _NAME))
    url = f"ws://{HOST}:{port}/{path}"
    await clients.ask("open", id, kind=kind, url=url, name=name, **more)
    await clients.ask("synced", id)


@pytest.mark.parametrize("kind", ["y", *_HOCUSPOCUS])
async def test_what_one_client_writes_another_and_the_node_have_and_it_is_stored(
    kind: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients:
        async with web_node(tmp_path) as (node, port):
            node.phext()[AT] = "what was there"
            await _open(clients, 1, port, kind)
            await _open(clients, 2, port, "y")
            assert await clients.ask("text", 1) == "what was there"
            await clients.ask("edit", 1, at=0, insert="😀 ")
            await clients.ask("wait", 2, text="😀 what was there")
            await clients.ask("edit", 2, at=3, remove=5)
            await clients.ask("wait", 1, text="😀 was there")
            assert node.phext()[AT] == "😀 was there"
            node.phext()[AT] = "😀 was here"
            await clients.ask("wait", 1, text="😀 was here")
            await clients.ask("wait", 2, text="😀 was here")
        async with web_node(tmp_path) as (node, _):
            assert node.phext()[AT] == "😀 was here"


@pytest.mark.parametrize("kind", ["y", *_HOCUSPOCUS])
async def test_what_no_scroll_can_hold_is_refused_with_its_reason(
    kind: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients, web_node(tmp_path) as (node, port):
        await _open(clients, 1, port, kind)
        await clients.ask("edit", 1, at=0, insert="a\0b")
        closed = await clients.ask("closed", 1)
        assert "found a zero byte (U+0000) at offset 1" in closed["reason"]
        await _open(clients, 2, port, kind)
        await clients.ask("embed", 2, at=0)
        assert "found an embed" in (await clients.ask("closed", 2))["reason"]
        assert AT not in node.phext()


@pytest.mark.parametrize(
    "edit", [{"at": 2, "insert": "x"}, {"at": 1, "remove": 1}, {"at": 2, "remove": 1}]
)
async def test_half_of_a_character_is_refused_since_texts_would_differ(
    edit: dict[str, object], tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients, web_node(tmp_path) as (node, port):
        node.phext()[AT] = "a😀b"
        await _open(clients, 1, port)
        await clients.ask("edit", 1, **edit)
        assert "expected whole characters" in (await clients.ask("closed", 1))["reason"]
        assert node.phext()[AT] == "a😀b"
        await _open(clients, 2, port)
        await clients.ask("edit", 2, at=1, remove=2)
        await clients.ask("edit", 2, at=1, insert="😀😀")
        await clients.ask("edit", 2, at=3, insert="-")
        await _open(clients, 3, port)
        await clients.ask("wait", 3, text="a😀-😀b")


async def test_formats_stay_in_the_document_and_do_not_show(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients, web_node(tmp_path) as (node, port):
        await _open(clients, 1, port)
        await _open(clients, 2, port)
        await clients.ask("edit", 1, at=0, insert="bold text")
        await clients.ask("format", 1, at=0, length=4, attributes={"bold": True})
        await clients.ask("edit", 1, at=9, insert="!")
        await clients.ask("wait", 2, text="bold text!")
        assert node.phext()[AT] == "bold text!"


@pytest.mark.parametrize("kind", _HOCUSPOCUS)
async def test_a_client_of_hocuspocus_hears_that_it_is_saved_when_the_disk_has_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients, web_node(tmp_path) as (node, port):
        await _open(clients, 1, port, kind)
        await clients.ask("saved", 1)
        disk = trio.Event()
        durable = node.durable

        async def late() -> None:
            await disk.wait()
            await durable()

        monkeypatch.setattr(node, "durable", late)
        await clients.ask("edit", 1, at=0, insert="text")
        await clients.ask("open", 2, kind="y", url=f"ws://{HOST}:{port}/sync", name=_NAME)
        await clients.ask("wait", 2, text="text")
        assert await clients.ask("unsaved", 1) == 1
        disk.set()
        await clients.ask("saved", 1)


@pytest.mark.parametrize("kind", _HOCUSPOCUS)
async def test_a_client_of_hocuspocus_that_may_only_read_has_the_text_and_saves_nothing(
    kind: str, tmp_path: Path
) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients, web_node(tmp_path) as (node, port):
        node.phext()[AT] = "text"
        read = {"memory": (CoordinateRange.parse("*"),)}
        node.replicas.permissions = Permissions.of(read, {})
        await _open(clients, 1, port, kind)
        await clients.ask("saved", 1)
        assert await clients.ask("text", 1) == "text"
        await clients.ask("edit", 1, at=0, insert="a ")
        await _open(clients, 2, port)
        await clients.ask("wait", 2, text="text")
        assert await clients.ask("unsaved", 1) == 1
        assert node.phext()[AT] == "text"


@pytest.mark.parametrize("kind", _HOCUSPOCUS)
async def test_a_client_of_hocuspocus_has_to_show_the_token(kind: str, tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients, web_node(tmp_path, token="secret") as (node, port):
        node.phext()[AT] = "text"
        url = f"ws://{HOST}:{port}/hocuspocus"
        for number, token in enumerate(["", "another"], 1):
            name = f"{_NAME}\0{number}"
            await clients.ask("open", number, kind=kind, url=url, name=name, token=token)
            assert "expected the token" in (await clients.ask("closed", number))["reason"]
            assert await clients.ask("text", number) == ""
        await clients.ask("open", 3, kind=kind, url=url + "?", name=_NAME, token="secret")
        await clients.ask("wait", 3, text="text")


async def test_clients_see_each_other_by_both_protocols_until_they_leave(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with yjs_clients() as clients, web_node(tmp_path) as (_, port):
        await _open(clients, 1, port)
        await _open(clients, 2, port, "hocuspocus")
        await clients.ask("state", 1, state={"user": {"name": "Ann"}})
        await clients.ask("sees", 1, count=1)
        await clients.ask("sees", 2, count=1)
        await clients.ask("offline", 1)
        await clients.ask("sees", 2, count=0)
        await clients.ask("online", 1)
        await clients.ask("sees", 2, count=1)
        [[_, state]] = await clients.ask("states", 2)
        assert state == {"user": {"name": "Ann"}}


async def test_clients_see_those_at_another_node_until_they_leave(tmp_path: Path) -> None:
    for number in range(2):
        make_identity(tmp_path / str(number), number)
    async with (
        yjs_clients() as clients,
        web_node(tmp_path / "0") as (node, port),
        web_node(tmp_path / "1", peers=[f"{HOST}:{node.port}"]) as (_, other),
    ):
        await _open(clients, 1, port)
        await clients.ask("state", 1, state={"user": {"name": "Ann"}, "cursor": None, "more": 1})
        await _open(clients, 2, other, "hocuspocus")
        await clients.ask("sees", 2, count=1)
        await clients.ask("sees", 1, count=1)
        [[client, state]] = await clients.ask("states", 2)
        assert client == await clients.ask("id", 1)
        assert state == {"user": {"name": "Ann"}, "cursor": None}
        await clients.ask("offline", 1)
        await clients.ask("sees", 2, count=0)


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_edits_on_three_nodes_that_restart_end_equal_everywhere(
    seed: int, tmp_path: Path
) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for number, folder in enumerate(folders):
        make_identity(folder, number)
    ports = [0, 0, 0]
    kinds = ["y", "hocuspocus", "y", "hocuspocus", "y", "hocuspocus"]
    async with yjs_clients() as clients:
        for run in range(3):
            async with AsyncExitStack() as stack:
                nodes: list[Node] = []
                for number, folder in enumerate(folders):
                    peers = [f"{HOST}:{node.port}" for node in nodes]
                    node, ports[number] = await stack.enter_async_context(
                        web_node(folder, peers=peers, port=ports[number])
                    )
                    nodes.append(node)
                if run == 0:
                    for id, kind in enumerate(kinds):
                        await _open(clients, id, ports[id % 3], kind)
                async with trio.open_nursery() as nursery:
                    for id in range(len(kinds)):
                        more = {"seed": 1000 * seed + 10 * run + id, "count": 60}
                        nursery.start_soon(_random, clients, id, more)
                await _meet(clients, nodes, len(kinds), f"<{run}>")


async def _random(clients: YjsClients, id: int, more: dict[str, int]) -> None:
    await clients.ask("random", id, **more)


async def _meet(clients: YjsClients, nodes: list[Node], count: int, mark: str) -> None:
    """Let each client write a mark; wait until all have all marks, and are equal then."""
    marks = [f"{mark}{id};" for id in range(count)]
    for id, text in enumerate(marks):
        await clients.ask("edit", id, at=0, insert=text)
    for id in range(count):
        for text in marks:
            await clients.ask("has", id, piece=text)
    place = Coordinate.parse(AT)
    while len({node.phext().version(place) for node in nodes}) > 1:  # noqa: ASYNC110
        await trio.sleep(0.01)  # a deletion may come after the marks
    text = nodes[0].phext()[AT]
    assert [node.phext()[AT] for node in nodes] == [text] * len(nodes)
    for id in range(count):
        await clients.ask("wait", id, text=text)
