"""What holds at every door of a node: only scrolls make phexts; those of the library are closed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import phextsync
from phextsync import (
    MeshKey,
    Node,
    NodeIdentity,
    NotSyncedError,
    PhextsyncError,
    TextError,
    aio,
    open_node,
)
from phextsync.control.frames import Value
from phextsync.control.sessions import Session
from phextsync.discovery import Address
from phextsync.gateways.agent import Agent
from phextsync.gateways.http import Gateway
from sims.processes import PATIENCE_S, make_folder

pytestmark = pytest.mark.real

_A = "1.1.1/1.1.1/1.1.1"
_HOST = "127.0.0.1"
_CHANGES_OF_NOTHING: list[list[Value]] = [
    ["set", "other", _A, ""],
    ["append", "other", _A, ""],
    ["remove", "other", _A],
    ["pop", "other", _A],
    ["clear", "other", "*"],
    ["undo", "other", _A],
    ["redo", "other", _A],
    ["import", "other", False, [[_A, ""]]],
]
_READS: list[list[Value]] = [
    ["get", "other", _A],
    ["size", "other", _A],
    ["steps", "other", _A],
    ["count", "other", "*"],
    ["position", "other", _A, 0, True],
    ["offset", "other", _A, "x"],
    ["coordinates", "other", "*", ""],
    ["list", "other", "*", ""],
    ["read", "other", "*", ""],
    ["lacking", "other", "*"],
]
_LOOKS: list[list[Value]] = [
    ["log", "other", _A, None],
    ["blame", "other", _A],
    ["show", "other", _A, 0],
    ["versions", "other", _A, None],
    ["undeletable", "other", "*"],
    ["deleted", "other", _A],
    ["search", "other", "*", "word", 5],
    ["synced", "other", "*", 0, 0.0],
]
_HELD: list[list[Value]] = [
    ["watch", "other", "*", True],
    ["track", "other", _A, "me"],
]


@asynccontextmanager
async def _node(folder: Path) -> AsyncIterator[Node]:
    NodeIdentity.create(MeshKey.generate(bytes(32)), "one", bytes(range(32))).save(folder)
    with trio.fail_after(PATIENCE_S):
        async with open_node(folder, host=_HOST, port=0, discover=False) as node:
            yield node


async def test_no_request_of_a_process_makes_a_phext_but_one_that_writes(tmp_path: Path) -> None:
    async with _node(tmp_path) as node:
        session = Session(node.desk, b"c" * 16)
        for request in [*_READS, *_CHANGES_OF_NOTHING]:
            with suppress(PhextsyncError, KeyError, IndexError):
                node.desk.ask(request)
            assert node.replicas.names() == [], request
        for request in _LOOKS:
            with suppress(PhextsyncError, KeyError):
                await session.wait(request)
            assert node.replicas.names() == [], request
        for number, request in enumerate(_HELD, 1):
            session.begin(number, request)
            assert node.replicas.names() == [], request
        node.desk.ask(["append", "other", _A, "text"])
        assert node.phexts() == ["other"]
        assert await session.wait(["next", 1]) == [None, "", None, [[_A, 4, "", "text"]]]
        session.close()


@pytest.mark.parametrize("phext", [".clients", ".phext", ".other"])
async def test_no_request_of_a_process_reads_or_writes_a_phext_of_the_library(
    tmp_path: Path, phext: str
) -> None:
    async with _node(tmp_path) as node:
        node.phext("memory")[_A] = "text"
        session = Session(node.desk, b"c" * 16)
        closed = pytest.raises(PhextsyncError, match="begin with a dot are the library's own")
        requests: list[list[Value]] = [*_READS, *_CHANGES_OF_NOTHING, ["set", "", _A, "text"]]
        for [name, _, *arguments] in requests:
            for request in ([name, phext, *arguments], ["as", "me", name, phext, *arguments]):
                with closed:
                    node.desk.ask(request)
        for [name, _, *arguments] in _LOOKS:
            for request in ([name, phext, *arguments], ["as", "me", name, phext, *arguments]):
                with closed:
                    await session.wait(request)
        for [name, _, *arguments] in _HELD:
            for request in ([name, phext, *arguments], ["again", name, phext, *arguments]):
                with closed:
                    session.begin(1, request)
        with closed:
            await session.wait(["keep_history", 0, phext, "*", False])
        assert node.desk.ask(["phexts"]) == ["memory"]


def test_no_handle_reads_a_phext_of_the_library(tmp_path: Path) -> None:
    make_folder(tmp_path)
    options = {"host": _HOST, "port": 0, "discover": False}
    with phextsync.open(tmp_path, **options) as handle:  # type: ignore[arg-type]
        handle.phext()[_A] = "text"
        clients = handle.phext(".clients")
        for read in (clients.coordinates, clients.scrolls, lambda: [clients[_A]]):
            with pytest.raises(PhextsyncError, match="begin with a dot are the library's own"):
                list(read())


async def test_nobody_makes_a_phext_by_following_it_over_http(tmp_path: Path) -> None:
    async with _node(tmp_path) as node, trio.open_nursery() as nursery:
        port = await nursery.start(Gateway(node).serve, Address(_HOST, 0))
        for target in ("/events?p=other", "/api/v2/select?p=other", "/api/v2/toc?p=other"):
            async with await trio.open_tcp_stream(_HOST, port) as stream:
                await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
                assert node.replicas.names() == [], target
        nursery.cancel_scope.cancel()


async def test_who_follows_a_phext_that_does_not_exist_hears_of_its_first_scroll(
    tmp_path: Path,
) -> None:
    async with _node(tmp_path) as node:
        async with node.changes("other") as changes:
            assert node.phexts() == []
            node.phext("other")[_A] = "text"
            assert [str(place) for place in (await changes.receive()).coordinates] == [_A]
        assert node.lacking("third") == []
        with pytest.raises(NotSyncedError):
            await node.synced("third", peers=1, timeout_s=0)
        assert node.phexts() == ["other"]


def test_no_handle_makes_a_phext_by_reading(tmp_path: Path) -> None:
    make_folder(tmp_path)
    options = {"host": _HOST, "port": 0, "discover": False}
    with phextsync.open(tmp_path, **options) as handle:  # type: ignore[arg-type]
        other = handle.phext("other")
        with other.changes() as _, other.history(_A) as steps:
            assert (other.get(_A), len(other), list(other.items())) == (None, 0, [])
            assert not steps.can_undo
            assert handle.search("word", "other") == []
        assert handle.phexts() == []


def test_no_agent_makes_a_phext_by_asking(tmp_path: Path) -> None:
    make_folder(tmp_path)

    async def main() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aio.open(tmp_path, host=_HOST, port=0, discover=False) as handle,
        ):
            agent = Agent(handle)
            for name, arguments in [
                ("read", {"coordinate": _A}),
                ("list", {}),
                ("search", {"words": "word"}),
                ("write", {"coordinate": _A, "text": ""}),
            ]:
                with suppress(PhextsyncError):
                    await agent.call(name, {"phext": "other", **arguments})
            await agent.watch("memory")  # everybody's
            for number in range(300):
                with pytest.raises(PhextsyncError, match="there is no phext 'other"):
                    await agent.call("changes", {"phext": f"other{number}"})
            assert await handle.phexts() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "ask",
    [
        lambda node, name: node.synced(name),
        lambda node, name: node.search("word", name),
        lambda node, name: node.survey("*", name),
        lambda node, name: node.fetch(_A, name),
        lambda node, name: node.import_texts([(_A, "text")], name),
    ],
)
async def test_a_name_that_names_no_phext_is_refused_and_not_waited_for(
    ask: Callable[[Node, object], Awaitable[object]], tmp_path: Path
) -> None:
    with trio.fail_after(PATIENCE_S):
        async with open_node(make_folder(tmp_path), host=_HOST, port=0, discover=False) as node:
            for wrong in (5, None):
                with pytest.raises(TypeError, match=r"the name of a phext, found (int|NoneType)"):
                    await ask(node, wrong)
            for name in ("", "a/b", "\ud800"):
                with pytest.raises(PhextsyncError, match="expected the name of a phext, found"):
                    await ask(node, name)
            assert node.replicas.names() == []


async def test_words_facts_and_numbers_of_a_wrong_type_are_said(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        async with open_node(make_folder(tmp_path), host=_HOST, port=0, discover=False) as node:
            wrong: Any
            for wrong in (5, None, b"word"):
                with pytest.raises(TypeError, match="found"):
                    await node.search(wrong)
            for wrong in ("5", 1.5, None):
                with pytest.raises(TypeError, match="found"):
                    await node.search("word", limit=wrong)
            for wrong in ("facts", 5, [("a", "b")]):
                with pytest.raises(TypeError):
                    node.publish(wrong)


async def test_half_a_character_is_sent_to_no_holder(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        async with open_node(make_folder(tmp_path), host=_HOST, port=0, discover=False) as node:
            await node.hold(["1.*"])
            with pytest.raises(TextError, match="a lone surrogate"):
                await node.search("\ud800")
