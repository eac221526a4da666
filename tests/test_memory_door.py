"""Anthropic's memory stores API at the web server, used by Anthropic's client."""

import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import anthropic
import pytest
import trio
from anthropic import Anthropic

from phextsync import Node
from phextsync.agents.store_records import STORES
from tests.web_nodes import HOST, ask, make_identity, web_node

pytestmark = pytest.mark.real

T = TypeVar("T")
_KEY = {"X-Api-Key": "secret"}


class _Client:
    """Anthropic's client, at a door."""

    def __init__(self, port: int, key: str = "secret") -> None:
        self.client = Anthropic(base_url=f"http://{HOST}:{port}", api_key=key)
        self.stores = self.client.beta.memory_stores

    async def do(self, use: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(use)

    async def store(self, name: str = "notes") -> str:
        return (await self.do(lambda: self.stores.create(name=name))).id


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[tuple[Node, int, _Client]]:
    make_identity(folder)
    async with web_node(folder, token="secret") as (node, port):
        client = _Client(port)
        with client.client:
            yield node, port, client


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


async def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "howto" / "memory-stores.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "token").write_text("secret\n")
    async with _served(tmp_path / "node") as (_, port, _):
        program = program.replace("127.0.0.1:7440", f"{HOST}:{port}")
        ran = await trio.run_process(
            [sys.executable, "-c", program], cwd=tmp_path, capture_stdout=True
        )
    assert ran.stdout.decode() == (
        "Anna likes green tea.\n"
        "modified /tea.md Anna likes green tea.\n"
        "created /tea.md Anna likes tea.\n"
    )


async def test_a_store_is_made_changed_archived_and_deleted(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, _, client):
        stores, do = client.stores, client.do
        made = await do(
            lambda: stores.create(name="Anna's", description="tea", metadata={"a": "1", "b": "2"})
        )
        assert (made.name, made.description, made.metadata) == (
            "Anna's",
            "tea",
            {"a": "1", "b": "2"},
        )
        assert made.id.startswith("memstore_")
        assert made.archived_at is None
        assert await do(lambda: stores.retrieve(made.id)) == made
        changed = await do(
            lambda: stores.update(made.id, name="Bea's", metadata={"a": None, "c": "3"})
        )
        assert (changed.name, changed.description) == ("Bea's", "tea")
        assert changed.metadata == {"b": "2", "c": "3"}
        assert changed.created_at == made.created_at
        other = await client.store("other")
        assert [s.id for s in await do(lambda: [*stores.list(limit=1)])] in (
            [other, made.id],
            [made.id, other],
        )
        archived = await do(lambda: stores.archive(made.id))
        assert archived.archived_at is not None
        assert await do(lambda: stores.archive(made.id)) == archived
        assert [s.id for s in await do(lambda: [*stores.list()])] == [other]
        assert len(await do(lambda: [*stores.list(include_archived=True)])) == 2
        with pytest.raises(anthropic.BadRequestError, match="is archived"):
            await do(lambda: stores.memories.create(made.id, path="/a", content="x"))
        with pytest.raises(anthropic.BadRequestError, match="is archived"):
            await do(lambda: stores.update(made.id, name="x"))
        gone = await do(lambda: stores.delete(made.id))
        assert (gone.id, gone.type) == (made.id, "memory_store_deleted")
        with pytest.raises(anthropic.NotFoundError, match="there is no memory store"):
            await do(lambda: stores.retrieve(made.id))


async def test_a_memory_is_made_read_changed_moved_and_deleted(tmp_path: Path) -> None:
    async with _served(tmp_path) as (node, _, client):
        store, do, memories = await client.store(), client.do, client.stores.memories
        made = await do(lambda: memories.create(store, path="/d/tea.md", content="green\n"))
        assert (made.path, made.content, made.content_size_bytes) == ("/d/tea.md", None, 6)
        assert made.content_sha256 == _digest("green\n")
        assert made.created_at == made.updated_at
        read = await do(lambda: memories.retrieve(made.id, memory_store_id=store))
        assert (read.content, read.id, read.memory_version_id) == (
            "green\n",
            made.id,
            made.memory_version_id,
        )
        changed = await do(
            lambda: memories.update(
                made.id, memory_store_id=store, content="black\n", path="/e/tea.md", view="full"
            )
        )
        assert (changed.id, changed.path, changed.content) == (made.id, "/e/tea.md", "black\n")
        assert [text for text in node.phext(STORES).values() if text == "black\n"] == ["black\n"]
        gone = await do(lambda: memories.delete(made.id, memory_store_id=store))
        assert (gone.id, gone.type) == (made.id, "memory_deleted")
        with pytest.raises(anthropic.NotFoundError, match="there is no memory mem_"):
            await do(lambda: memories.retrieve(made.id, memory_store_id=store))


async def test_memories_are_listed_by_path_in_pages_and_by_folders(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, _, client):
        store, do, memories = await client.store(), client.do, client.stores.memories
        for path in ("/b", "/a/x", "/a/y", "/a/z/deep", "/c/1"):
            await do(partial(memories.create, store, path=path, content=path))

        async def paths(**asked: object) -> list[tuple[str, str | None]]:
            found = await do(lambda: [*memories.list(store, **asked)])  # type: ignore[arg-type]
            return [(each.path, getattr(each, "content", None)) for each in found]

        everything = [("/a/x", None), ("/a/y", None), ("/a/z/deep", None), ("/b", None)]
        assert await paths(limit=2) == [*everything, ("/c/1", None)]
        assert await paths(path_prefix="/a/", view="full") == [
            ("/a/x", "/a/x"),
            ("/a/y", "/a/y"),
            ("/a/z/deep", "/a/z/deep"),
        ]
        assert await paths(depth=1, limit=1) == [("/a/", None), ("/b", None), ("/c/", None)]
        assert await paths(depth=1, path_prefix="/a/") == [
            ("/a/x", None),
            ("/a/y", None),
            ("/a/z/", None),
        ]
        assert await paths(path_prefix="/none/") == []


async def test_who_deletes_what_is_listed_gets_all_of_it(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, _, client):
        do, memories = client.do, client.stores.memories
        for name in ("a", "b", "c"):
            store = await client.store()
            await do(partial(memories.create, store, path=f"/{name}", content="text"))
            await do(partial(memories.create, store, path="/folder/one", content="text"))
            await do(partial(memories.create, store, path="/z", content="text"))

        def delete_all() -> tuple[int, int]:
            count, stores = 0, 0
            for found in client.stores.list(limit=1):
                for row in memories.list(found.id, limit=1):
                    assert row.type == "memory"
                    memories.delete(row.id, memory_store_id=found.id)
                    count += 1
                client.stores.delete(found.id)
                stores += 1
            return stores, count

        assert await do(delete_all) == (3, 9)


@pytest.mark.parametrize("page", ["zz", "2f", "61", "ff2f61", "612f61"])
async def test_what_asks_for_no_page_is_said(tmp_path: Path, page: str) -> None:
    async with _served(tmp_path) as (_, _, client):
        store = await client.store()
        for list_ in (
            partial(client.stores.list, page=page),
            partial(client.stores.memories.list, store, page=page),
            partial(client.stores.memory_versions.list, store, page=page),
        ):
            with pytest.raises(anthropic.BadRequestError, match="expected the next_page"):
                await client.do(list_)


async def test_a_filter_that_is_none_is_said(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, _, client):
        versions = partial(client.stores.memory_versions.list, await client.store())
        expected = "expected created, modified or deleted as operation, found made"
        with pytest.raises(anthropic.BadRequestError, match=expected):
            await client.do(partial(versions, operation="made"))
        with pytest.raises(anthropic.BadRequestError, match="expected true or false as include"):
            await client.do(partial(client.stores.list, include_archived="yes"))  # type: ignore[arg-type]


async def test_a_stale_digest_is_a_conflict_and_changes_nothing(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, _, client):
        store, do, memories = await client.store(), client.do, client.stores.memories
        made = await do(lambda: memories.create(store, path="/a", content="one\n"))

        def update(content: str, seen: str) -> str | None:
            return memories.update(
                made.id,
                memory_store_id=store,
                content=content,
                view="full",
                precondition={"type": "content_sha256", "content_sha256": _digest(seen)},
            ).content

        assert await do(lambda: update("two\n", "one\n")) == "two\n"
        with pytest.raises(anthropic.ConflictError) as caught:
            await do(lambda: update("three\n", "one\n"))
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["error"]["type"] == "memory_precondition_failed_error"
        with pytest.raises(anthropic.ConflictError, match="has changed"):
            await do(
                lambda: memories.delete(
                    made.id, memory_store_id=store, expected_content_sha256=_digest("one\n")
                )
            )
        read = await do(lambda: memories.retrieve(made.id, memory_store_id=store))
        assert read.content == "two\n"


async def test_without_a_digest_what_came_since_stays_and_is_in_the_answer(tmp_path: Path) -> None:
    async with _served(tmp_path) as (node, _, client):
        store, do, memories = await client.store(), client.do, client.stores.memories
        made = await do(lambda: memories.create(store, path="/a", content="one\ntwo\n"))
        replica = node.phext(STORES)
        place = next(place for place, text in replica.items() if text == "one\ntwo\n")
        replica.append(place, "by another machine\n")

        def update(content: str) -> str | None:
            return memories.update(made.id, memory_store_id=store, content=content).content

        assert await do(lambda: update("one\nTWO\n")) == "one\nTWO\nby another machine\n"
        # Now the client has seen that line, and may delete it.
        assert await do(lambda: update("one\nTWO\n")) is None
        assert replica[place] == "one\nTWO\n"


async def test_of_several_clients_each_changes_what_it_saw(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, port, one):
        other = _Client(port)
        with other.client:
            store, memories = await one.store(), one.stores.memories
            made = await one.do(lambda: memories.create(store, path="/a", content="one\n"))
            await other.do(lambda: other.stores.memories.retrieve(made.id, memory_store_id=store))
            await one.do(
                lambda: memories.update(
                    made.id, memory_store_id=store, content="one\nof the first\n"
                )
            )
            told = await other.do(
                lambda: other.stores.memories.update(
                    made.id, memory_store_id=store, content="of the other\none\n"
                )
            )
            assert told.content == "of the other\none\nof the first\n"


async def test_a_path_that_is_taken_is_a_conflict(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, _, client):
        store, do, memories = await client.store(), client.do, client.stores.memories
        for path in ("/a", "/d/b"):
            await do(partial(memories.create, store, path=path, content="x"))
        made = await do(lambda: memories.create(store, path="/c", content="x"))
        for path in ("/a", "/d"):
            with pytest.raises(anthropic.ConflictError, match="taken") as caught:
                await do(partial(memories.create, store, path=path, content="y"))
            assert isinstance(caught.value.body, dict)
            assert caught.value.body["error"]["type"] == "memory_path_conflict_error"
            with pytest.raises(anthropic.ConflictError, match="taken"):
                await do(partial(memories.update, made.id, memory_store_id=store, path=path))


async def test_versions_stay_as_they_were_and_outlive_the_memory(tmp_path: Path) -> None:
    async with _served(tmp_path) as (node, _, client):
        store, do, memories = await client.store(), client.do, client.stores.memories
        versions = client.stores.memory_versions
        made = await do(lambda: memories.create(store, path="/a", content="one\n"))
        changed = await do(lambda: memories.update(made.id, memory_store_id=store, content="two\n"))
        assert changed.memory_version_id != made.memory_version_id
        await do(lambda: memories.delete(made.id, memory_store_id=store))
        await do(lambda: memories.create(store, path="/b", content="other\n"))

        def listed(**asked: object) -> list[tuple[str, str | None]]:
            found = versions.list(store, **asked)  # type: ignore[arg-type]
            return [(each.operation, each.content) for each in found]

        assert await do(lambda: listed(memory_id=made.id, view="full", limit=1)) == [
            ("deleted", None),
            ("modified", "two\n"),
            ("created", "one\n"),
        ]
        assert len(await do(lambda: listed())) == 4
        assert await do(lambda: listed(operation="deleted")) == [("deleted", None)]
        assert await do(lambda: listed(created_at_lte="2001-01-01T00:00:00Z")) == []
        assert await do(lambda: listed(session_id="sesn_1")) == []
        first = await do(lambda: versions.retrieve(made.memory_version_id, memory_store_id=store))
        assert (first.content, first.path, first.operation) == ("one\n", "/a", "created")
        assert first.content_sha256 == made.content_sha256
        assert first.created_by is not None
        assert first.created_by.type == "service_account_actor"
        assert first.created_by.service_account_id == node.identity.node_id.hex()
        with pytest.raises(anthropic.NotFoundError, match="or it is not kept"):
            await do(lambda: versions.retrieve(made.memory_version_id + "0", memory_store_id=store))


async def test_that_a_version_cannot_be_redacted_is_said(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, _, client):
        store, do = await client.store(), client.do
        made = await do(lambda: client.stores.memories.create(store, path="/a", content="one\n"))
        with pytest.raises(anthropic.APIStatusError, match="--keep none") as caught:
            await do(
                lambda: client.stores.memory_versions.redact(
                    made.memory_version_id, memory_store_id=store
                )
            )
        assert caught.value.status_code == 501


async def test_only_who_shows_the_token_is_answered(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, port, client):
        await client.store()
        stranger = _Client(port, key="wrong")
        with stranger.client, pytest.raises(anthropic.AuthenticationError):
            await stranger.do(lambda: [*stranger.stores.list()])
        bearer = Anthropic(base_url=f"http://{HOST}:{port}", auth_token="secret")
        with bearer:
            found = await trio.to_thread.run_sync(lambda: [*bearer.beta.memory_stores.list()])
        assert len(found) == 1
        assert (await ask(port, "GET", "/v1/memory_stores"))[0] == 401
        assert (await ask(port, "GET", "/v1/memory_stores", headers=_KEY))[0] == 200


async def test_without_a_token_pages_of_others_reach_no_store(tmp_path: Path) -> None:
    make_identity(tmp_path)
    async with web_node(tmp_path) as (_, port):
        body = b'{"name": "x"}'
        of_another = {"Origin": f"http://localhost:{port + 1}", "Sec-Fetch-Site": "same-site"}
        for headers in (of_another, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert (await ask(port, "POST", "/v1/memory_stores", body, headers))[0] == 403
        assert (await ask(port, "POST", "/v1/memory_stores", body))[0] == 200


_WRONG: list[tuple[str, str, object, int]] = [
    ("POST", "/v1/memory_stores", "{", 400),
    ("POST", "/v1/memory_stores", "[]", 400),
    ("POST", "/v1/memory_stores", "[" * 100_000, 400),
    ("POST", "/v1/memory_stores", {}, 400),
    ("POST", "/v1/memory_stores", {"name": 7}, 400),
    ("POST", "/v1/memory_stores", {"name": ""}, 400),
    ("POST", "/v1/memory_stores", {"name": "x" * 256}, 400),
    ("POST", "/v1/memory_stores", {"name": "a\nb"}, 400),
    ("POST", "/v1/memory_stores", {"name": "\ud800"}, 400),
    ("POST", "/v1/memory_stores", {"name": "x", "description": "\ud800"}, 400),
    ("POST", "/v1/memory_stores", {"name": "x", "description": "d" * 1025}, 400),
    ("POST", "/v1/memory_stores", {"name": "x", "metadata": []}, 400),
    ("POST", "/v1/memory_stores", {"name": "x", "metadata": {"a": 1}}, 400),
    (
        "POST",
        "/v1/memory_stores",
        {"name": "x", "metadata": {str(i): "" for i in range(17)}},
        400,
    ),
    ("GET", "/v1/memory_stores?limit=0", {}, 400),
    ("GET", "/v1/memory_stores?limit=%C2%B2", {}, 400),
    ("GET", "/v1/memory_stores?created_at%5Bgte%5D=soon", {}, 400),
    ("GET", "/v1/memory_stores/memstore_001001001", {}, 404),
    ("GET", "/v1/memory_stores/memstore_002000001", {}, 404),
    ("GET", "/v1/memory_stores/x", {}, 404),
    ("POST", "STORE/memories", {"path": "/a", "content": ""}, 400),
    ("POST", "STORE/memories", {"path": "/a", "content": None}, 400),
    ("POST", "STORE/memories", {"path": "/a", "content": "a\u0017b"}, 400),
    ("POST", "STORE/memories", {"path": "/a", "content": "\ud800"}, 400),
    ("POST", "STORE/memories", {"path": "/a", "content": "x" * 102_401}, 400),
    ("POST", "STORE/memories", {"path": "a", "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/", "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/../a", "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/a//b", "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/a\u2028", "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/\ud800", "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/a\u0308", "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/a" * 21, "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/" + "a" * 1024, "content": "x"}, 400),
    ("POST", "STORE/memories", {"path": "/.hidden", "content": "x"}, 400),
    ("POST", "STORE/memories?view=all", {"path": "/b", "content": "x"}, 400),
    ("GET", "STORE/memories?path_prefix=a", {}, 400),
    ("GET", "STORE/memories?depth=2", {}, 400),
    ("GET", "STORE/memories/mem_1", {}, 404),
    ("GET", "STORE/memories/mem_007001001001001001002001001", {}, 404),
    ("POST", "MEMORY", {"content": "x", "precondition": {"type": "etag"}}, 400),
    (
        "POST",
        "MEMORY",
        {
            "content": "x",
            "precondition": {"type": "content_sha256", "content_sha256": "\ud800"},
        },
        409,
    ),
    ("DELETE", "MEMORY?expected_content_sha256=x", {}, 409),
    ("GET", "STORE/memory_versions/memver_1", {}, 404),
]


async def test_what_cannot_be_is_an_error_in_one_line_and_changes_nothing(tmp_path: Path) -> None:
    async with _served(tmp_path) as (node, port, client):
        store = await client.store()
        memory = await client.do(
            lambda: client.stores.memories.create(store, path="/kept", content="kept\n")
        )
        before = dict(node.phext(STORES).items())
        for method, path, body, status in _WRONG:
            where = path.replace("MEMORY", f"STORE/memories/{memory.id}")
            where = where.replace("STORE", f"/v1/memory_stores/{store}")
            sent = body if isinstance(body, str) else json.dumps(body)
            found, headers, answer = await ask(port, method, where, sent.encode(), _KEY)
            told = f"{method} {path} {sent:.200}: {found} {answer!r}"
            assert found == status, told
            message = json.loads(answer)["error"]["message"]
            assert message, told
            assert "\n" not in message, told
            assert headers["x-should-retry"] == "false", told
            assert dict(node.phext(STORES).items()) == before, told
