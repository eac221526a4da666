"""Errors inside a node's parts: each ends its own part, and the node goes on and converges."""

import errno
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import cbor2
import pytest
import trio
import trio.lowlevel
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from fuzz.desk import Node as DeskNode
from phextsync import transport
from phextsync.boundaries import Boundary
from phextsync.control import desk, frames, performing, sessions
from phextsync.control.desk import Desk
from phextsync.control.frames import Value, decode_answer
from phextsync.control.server import serve_one
from phextsync.discovery import Address, Announcement, Sighting
from phextsync.errors import PhextsyncError, StoreError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node import invitations as invitation
from phextsync.node.invitations import Invitation, Invitations
from phextsync.node.node import Node
from phextsync.replica.changes import Change, ChangeFeed
from phextsync.searching import Indexer, Searcher
from phextsync.sync.news import News
from phextsync.testing import MemoryMesh, Reset
from phextsync.testing.memory_links import MemoryLinks
from phextsync.testing.mesh import PHEXT
from phextsync.transport import SecureLink, client_context, open_link, serve_listeners
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.processes import PATIENCE_S

_A = Coordinate(*[1] * 9)


def _fail(*_: object, **__: object) -> NoReturn:
    raise ExceptionGroup("", [ZeroDivisionError("a bug")])


# -- a node in a mesh ----------------------------------------------------------------------

_Parts = tuple[object, str]

_PARTS: dict[str, Callable[[Node], _Parts]] = {
    "a frame that comes": lambda node: (node.core, "receive"),
    "a frame to send": lambda node: (node.core, "next_frames"),
    "a link that opens": lambda node: (node.core, "link_opened"),
    "a link that ends": lambda node: (node.core, "link_closed"),
    "the time": lambda node: (node.core, "tick"),
    "who is let in": lambda node: (node.known, "admit"),
    "a dial": lambda node: (MemoryLinks, "connect"),
    "a sighting": lambda node: (node.dialler, "dial"),
    "what is told": lambda node: (node, "drain"),
    "what is durable": lambda _: (News, "committed"),
}


@pytest.mark.parametrize("part", sorted(_PARTS))
def test_a_node_goes_on_where_a_part_of_it_fails(
    part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Exception] = []
    mesh = MemoryMesh(1, 2, on_error=seen.append)

    async def body() -> None:
        await mesh.run_until(1)
        node = mesh.node(0)
        with monkeypatch.context() as patch:
            patch.setattr(*_PARTS[part](node), _fail)
            mesh.edit(0, _A, lambda replica: replica.append(_A, "ours\n"))
            mesh.edit(1, _A, lambda replica: replica.append(_A, "theirs\n"))
            mesh.apply(Reset(0, 1))
            await mesh.run_until(mesh.now + 3)
        assert mesh.node(0) is node
        await mesh.settle(120)
        errors = node.status().errors
        assert errors.count == node.boundary.errors.count
        assert not errors.count or errors.last.endswith(": ZeroDivisionError: a bug")

    mesh.run(body)
    assert seen or part == "a sighting"
    assert all(isinstance(error, ZeroDivisionError) for error in seen)
    lines = [record for record in caplog.records if "ZeroDivisionError: a bug" in record.message]
    assert len(lines) <= 4, "one line for the first, tenth, hundredth, ... time"
    assert all("failed" in record.message for record in lines)


def test_a_commit_that_fails_unexpectedly_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Exception] = []
    mesh = MemoryMesh(1, 1, on_error=seen.append)

    async def body() -> None:
        node = mesh.node(0)
        with monkeypatch.context() as patch:
            patch.setattr(mesh, "_disks_random", None)  # a disk fails in a way that nobody foresaw
            node.phext(PHEXT)[_A] = "text"
            with pytest.raises(StoreError, match="AttributeError"):
                await node.durable()
        node.phext(PHEXT).get(_A)
        while node.replicas.is_dirty:
            await mesh.run_until(mesh.now + 1)
        await node.durable()

    mesh.run(body)
    assert seen


def test_a_subscriber_that_fails_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = []
    mesh = MemoryMesh(1, 1, on_error=errors.append)
    heard: list[Change] = []

    async def body() -> None:
        replica = mesh.node(0).phext(PHEXT)
        replica.subscribe(_fail)
        replica.subscribe(heard.append)
        mesh.node(0).presence.subscribe(_fail)
        for i in range(9):
            replica.append(_A, f"{i}\n")
        await mesh.run_until(1)

    mesh.run(body)
    assert len(heard) == 9
    assert {type(error) for error in errors} == {ZeroDivisionError}
    told = [record.getMessage() for record in caplog.records if "subscriber" in record.message]
    assert [line.split(" (")[0] for line in told] == [
        "a subscriber of 'memory' failed: ZeroDivisionError: a bug"
    ]


# -- its doors -----------------------------------------------------------------------------


async def _asked(stream: trio.abc.Stream, number: int, *request: object) -> object:
    frame = cbor2.dumps([number, number - 1, *request])
    await stream.send_all(len(frame).to_bytes(4) + frame)
    size = int.from_bytes(await stream.receive_some(4))
    answered, answer = decode_answer(bytes(await stream.receive_some(size)))
    assert answered == number
    return answer


@pytest.mark.parametrize(
    ("module", "broken", "request_"),
    [
        (performing, "_list", ["list", "memory", "*", ""]),
        (performing, "_change", ["append", "memory", str(_A), "x"]),
        (desk, "look_back", ["log", "memory", str(_A), None]),
        (sessions, "as_facts", ["tell", [["load", 1]]]),
    ],
)
async def test_a_request_that_the_node_cannot_carry_out_is_answered_and_the_next_one_too(
    module: ModuleType, broken: str, request_: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = DeskNode()
    ours, theirs = memory_stream_pair()
    monkeypatch.setattr(module, broken, _fail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, Desk(node), theirs)
        answer = await _asked(ours, 1, *request_)
        assert type(answer) is PhextsyncError
        assert str(answer) == "the node could not carry it out: ZeroDivisionError: a bug"
        assert await _asked(ours, 2, "get", "memory", str(_A)) == "one two"
        await ours.aclose()
    assert [type(error) for error in node.errors] == [ZeroDivisionError]


async def test_a_process_whose_connection_fails_takes_nothing_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = DeskNode()
    shared = Desk(node)
    (first, theirs), (second, others) = memory_stream_pair(), memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, shared, theirs)
        nursery.start_soon(serve_one, shared, others)
        assert await _asked(second, 1, "get", "memory", str(_A)) == "one two"
        with monkeypatch.context() as patch:
            patch.setattr(frames, "load_array", _fail)
            await first.send_all(b"\0\0\0\1x")
            assert await first.receive_some() == b""
        assert await _asked(second, 2, "get", "memory", str(_A)) == "one two"
        await second.aclose()
    assert [type(error) for error in node.errors] == [ZeroDivisionError]


def _frame(number: int, *request: object) -> bytes:
    frame = cbor2.dumps([number, 0, *request])
    return len(frame).to_bytes(4) + frame


async def test_a_process_that_takes_no_answers_gets_no_more_than_it_has_room_for() -> None:
    node = DeskNode()
    node.replicas.open("memory")[_A] = "x" * (3 << 20)
    asked: list[int] = []
    shared = Desk(node)
    answer = shared.answer

    def count(client: bytes, number: int, received: int, request: list[Value]) -> bytes:
        asked.append(number)
        return answer(client, number, received, request)

    shared.answer = count  # type: ignore[method-assign]
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, shared, theirs)
        sent = [_frame(number, "get", "memory", str(_A)) for number in range(1, 100)]
        await ours.send_all(b"".join(sent))
        await wait_all_tasks_blocked()
        assert asked == [1, 2, 3]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "request_",
    [
        ["show", "memory", str(_A), 0],
        ["log", "memory", str(_A), None],
        ["undeletable", "memory", "*"],
        ["search", "memory", "*", "one", 9],
        ["as", "me", "blame", "memory", str(_A)],
    ],
)
async def test_answers_that_take_time_are_made_when_there_is_room_for_them(
    request_: list[Value], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    async def long_answer(*_: object) -> str:
        await trio.lowlevel.checkpoint()
        made.append("x" * (3 << 20))
        return made[-1]

    shared = Desk(DeskNode())
    monkeypatch.setattr(shared, "wait", long_answer)
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, shared, theirs)
        await ours.send_all(b"".join(_frame(number, *request_) for number in range(1, 100)))
        await wait_all_tasks_blocked()
        assert 3 <= len(made) <= 3 + 4
        nursery.cancel_scope.cancel()


async def test_changes_stay_in_their_feeds_until_there_is_room_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[Change] = []
    take = ChangeFeed.take

    def count(feed: ChangeFeed) -> Change | None:
        change = take(feed)
        taken.extend([] if change is None else [change])
        return change

    monkeypatch.setattr(ChangeFeed, "take", count)
    node = DeskNode()
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, Desk(node), theirs)
        watches = [_frame(number, "watch", "memory", "*", True) for number in range(1, 21)]
        waits = [_frame(20 + number, "next", number) for number in range(1, 21)]
        await ours.send_all(b"".join(watches + waits))
        await wait_all_tasks_blocked()
        node.replicas.open("memory")[_A] = "x" * (3 << 20)
        await wait_all_tasks_blocked()
        assert len(taken) == 3
        nursery.cancel_scope.cancel()


async def test_a_process_waits_for_so_many_answers_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = DeskNode()
    monkeypatch.setattr(node, "synced", _never)
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, Desk(node), theirs)
        sent = [_frame(number, "synced", "memory", "*", None) for number in range(1, 1001)]
        await ours.send_all(b"".join(sent))
        answer = await _asked(ours, 1001, "synced", "memory", "*", None)
        assert str(answer) == "expected at most 1000 requests of a process to wait at a time"
        await ours.send_all(_frame(0, "cancel", 5))
        await ours.send_all(_frame(1002, "synced", "memory", "*", None))
        assert await _asked(ours, 1003, "get", "memory", str(_A)) == "one two"
        await ours.aclose()


async def _never(*_: object, **__: object) -> None:
    await trio.sleep_forever()


async def test_a_search_that_fails_unexpectedly_says_so_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = DeskNode()
    node.replicas.commit()
    searcher = Searcher(node.replicas, tmp_path, node.boundary)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(searcher.run)
        for method in ("catch_up", "refresh"):
            with monkeypatch.context() as patch:
                patch.setattr(Indexer, method, _fail)
                with pytest.raises(StoreError, match="ZeroDivisionError"):
                    await searcher.find("one", "memory", EVERYTHING, limit=5)
        assert len(await searcher.find("one", "memory", EVERYTHING, limit=5)) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.real
async def test_invitations_are_redeemed_after_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = NodeIdentity.create(MeshKey.generate(bytes(32)), "node", bytes(32))
    invitations = Invitations(tmp_path)
    invitations.add(Invitation("none", 1, None, [], None, "authority"), 0, 0)
    seen: list[Exception] = []
    boundary = Boundary(logging.getLogger("phextsync.tests"), on_error=seen.append)
    ports: list[int] = []
    listen = transport.listen

    async def noting(host: str | None, port: int) -> list[trio.SocketListener]:
        found = await listen(host, port)
        ports.append(found[0].socket.getsockname()[1])
        return found

    monkeypatch.setattr(invitation, "listen", noting)
    serving = invitation.serving(
        invitations, identity, "127.0.0.1", 0, boundary, wall_time_s=lambda: 0
    )
    async with serving:
        with monkeypatch.context() as patch:
            patch.setattr(invitation, "TlsStream", _fail)
            async with await trio.open_tcp_stream("127.0.0.1", ports[0]) as stream:
                with trio.fail_after(PATIENCE_S):
                    assert await _ends(stream)
        async with await trio.open_tcp_stream("127.0.0.1", ports[0]) as stream:
            await stream.send_all(b"no TLS")
            with trio.fail_after(PATIENCE_S):
                assert await _ends(stream)
    assert [type(error) for error in seen] == [ZeroDivisionError]


async def _ends(stream: trio.abc.Stream) -> bool:
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    return True


class _Once:
    """Discovery that fails when it is opened for the first time."""

    def __init__(self) -> None:
        self.opened = 0

    @asynccontextmanager
    async def open(self, own: Announcement) -> AsyncIterator[trio.MemoryReceiveChannel[Sighting]]:
        self.opened += 1
        if self.opened == 1:
            _fail()
        send, receive = trio.open_memory_channel[Sighting](1)
        sighting = Sighting(b"x" * 16, "x", (Address("x", 1),), own.mesh_tag, b"", "1")
        send.send_nowait(sighting)
        yield receive


def test_discovery_that_fails_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Exception] = []
    mesh = MemoryMesh(1, 1, on_error=seen.append)

    async def body() -> None:
        node, found = mesh.node(0), _Once()
        async with trio.open_nursery() as nursery:
            await nursery.start(node.discoverer.run, nursery, found)
            await mesh.run_until(mesh.now + 10)
            assert found.opened == 2
            assert Address("x", 1) in node.dialler.addresses()
            nursery.cancel_scope.cancel()

    mesh.run(body)
    assert [type(error) for error in seen] == [ZeroDivisionError]


class _Starved(trio.abc.Listener[trio.abc.Stream]):
    """A listener of a system that had no open files left for a while."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._results: list[trio.abc.Stream | OSError] = [
            *(OSError(number, "none left") for number in (errno.EMFILE, errno.ENFILE)),
            OSError(errno.ECONNABORTED, "gone"),
            stream,
        ]

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self._results:
            await trio.sleep_forever()
        result = self._results.pop(0)
        if isinstance(result, OSError):
            raise result
        return result

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_links_are_accepted_once_there_are_open_files_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    identity = NodeIdentity.create(MeshKey.generate(bytes(32)), "node", bytes(32))
    ours, theirs = memory_stream_pair()
    links: list[SecureLink] = []

    async def keep(link: SecureLink) -> None:
        links.append(link)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listener = _Starved(theirs)
        nursery.start_soon(
            partial(serve_listeners, identity, [listener], keep, peer_address=lambda _: "here")
        )
        link = await open_link(ours, client_context(identity), server_side=False, address="there")
        assert link.peer_name == "node"
        nursery.cancel_scope.cancel()
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        f"accepting connections failed: {error}"
        for error in ("[Errno 24] none left", "[Errno 23] none left", "[Errno 103] gone")
    ]
