"""The folder's socket when it is full: who has asked for nothing for longest gives way, and comes
back with its next request."""

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

from fuzz.desk import Node as DeskNode
from phextsync.control import operations, server
from phextsync.control.client import Attachment
from phextsync.control.desk import Desk
from phextsync.control.frames import (
    SENT_AWAY,
    Value,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from phextsync.control.operations import OPERATIONS
from phextsync.control.sockets import SOCKET_NAME, connect, connect_at_once
from phextsync.errors import StoreError
from phextsync.handles import folder_client
from phextsync.handles.call import Call
from phextsync.handles.folder_client import FolderClient
from phextsync.node.node import open_node
from sims.processes import PATIENCE_S, make_folder
from tests.engines import opened
from tests.polling import until_now

_A = "1.1.1/1.1.1/1.1.1"


class _Guest:
    """A process at the socket, frame by frame."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._numbers = count(1)

    async def say(self, *request: Value) -> None:
        frame = encode_request(next(self._numbers), 0, [*request])
        await self.stream.send_all(len(frame).to_bytes(4, "big") + frame)
        await trio.testing.wait_all_tasks_blocked()

    async def hear(self) -> tuple[int, object] | None:
        """Return the next answer; None at the end."""
        head = await self.stream.receive_some(4)
        if not head:
            return None
        return decode_answer(await self.stream.receive_some(int.from_bytes(head)))

    async def ask(self, *request: Value) -> object:
        await self.say(*request)
        answer = await self.hear()
        return None if answer is None else answer[1]


Come = Callable[[], Awaitable[_Guest]]


async def _at_a_full_socket(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    places: int,
    visit: Callable[[Come], Awaitable[None]],
) -> None:
    monkeypatch.setattr(server, "_CONNECTIONS_MAX", places)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            await nursery.start(server.serve, folder, Desk(DeskNode()))

            async def come() -> _Guest:
                stream = await trio.open_unix_socket(folder / SOCKET_NAME)
                await stack.enter_async_context(stream)
                await trio.testing.wait_all_tasks_blocked()
                return _Guest(stream)

            await visit(come)
            nursery.cancel_scope.cancel()


@pytest.mark.real
async def test_of_processes_that_say_nothing_the_oldest_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def visit(come: Come) -> None:
        guests = [await come() for _ in range(3)]
        assert await guests[0].hear() == SENT_AWAY
        assert [await each.ask("phexts") for each in guests[1:]] == [["memory"]] * 2

    await _at_a_full_socket(tmp_path, monkeypatch, 2, visit)


@pytest.mark.real
async def test_who_has_asked_for_nothing_for_longest_gives_way_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def visit(come: Come) -> None:
        first, second, third = await come(), await come(), await come()
        for guest in (first, second, third, first):
            assert await guest.ask("phexts") == ["memory"]
        newcomer = await come()
        assert await newcomer.ask("phexts") == ["memory"]
        assert [await second.hear(), await second.hear()] == [SENT_AWAY, None]
        for guest in (first, third):
            assert await guest.ask("phexts") == ["memory"]

    await _at_a_full_socket(tmp_path, monkeypatch, 3, visit)


@pytest.mark.real
@pytest.mark.parametrize(
    "request_",
    [["watch", "memory", "*", False], ["track", "memory", _A, "me"], ["tell", [["busy", 1]]]],
)
async def test_who_has_something_that_would_go_with_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: list[Value]
) -> None:
    async def visit(come: Come) -> None:
        waiting, idle = await come(), await come()
        assert await waiting.ask(*request_) is None
        assert await idle.ask("phexts") == ["memory"]
        assert await (await come()).ask("phexts") == ["memory"]
        assert await idle.hear() == SENT_AWAY
        assert await waiting.ask("phexts") == ["memory"]

    await _at_a_full_socket(tmp_path, monkeypatch, 2, visit)


@pytest.mark.real
async def test_who_waits_for_an_answer_stays_and_may_go_when_it_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_synced = trio.Event()

    async def synced(*_: object, **__: object) -> None:
        await is_synced.wait()

    monkeypatch.setattr(DeskNode, "synced", synced)

    async def visit(come: Come) -> None:
        waiting = await come()
        await waiting.say("synced", "memory", "*", None)
        one, other = await come(), await come()
        assert await one.hear() == SENT_AWAY
        is_synced.set()
        assert await waiting.hear() == (1, None)
        assert await other.ask("phexts") == ["memory"]
        assert await (await come()).ask("phexts") == ["memory"]
        assert await waiting.hear() == SENT_AWAY

    await _at_a_full_socket(tmp_path, monkeypatch, 2, visit)


@pytest.mark.real
async def test_a_socket_full_of_those_that_wait_lets_a_newcomer_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def visit(come: Come) -> None:
        watchers = [await come() for _ in range(4)]
        for watcher in watchers:
            assert await watcher.ask("watch", "memory", "*", False) is None
        assert await (await come()).ask("phexts") == ["memory"]
        assert [await each.ask("phexts") for each in watchers] == [["memory"]] * 4

    await _at_a_full_socket(tmp_path, monkeypatch, 4, visit)


@pytest.mark.real
def test_handles_and_commands_that_were_sent_away_come_back_and_change_all_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "one")
    with opened(folder) as (_, owner), opened(folder) as (_, handle), Attachment(folder) as command:
        monkeypatch.setattr(server, "_CONNECTIONS_MAX", 1)
        for number in range(20):
            handle.phext()[_A] = f"{handle.phext()[_A] if number else ''}{number} "
            operations.APPEND.ask(command, "memory", _A, f"{number}' ")
        assert not handle.is_owner
        assert owner.phext()[_A] == "".join(f"{number} {number}' " for number in range(20))


@pytest.mark.real
def test_a_handle_that_was_sent_away_takes_the_folder_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_client, "_LOOKS_S", 0.01)
    folder = make_folder(tmp_path / "one")
    with opened(folder) as (_, owner), opened(folder) as (engine, handle):
        handle.phext()[_A] = "text"
        monkeypatch.setattr(server, "_CONNECTIONS_MAX", 1)
        with Attachment(folder) as command:
            assert command.ask("phexts") == ["memory"]
            owner.close()
        until_now(lambda: handle.is_owner)
        assert engine.client.statistics().unanswered == 0
        assert handle.phext()[_A] == "text"


# -- what was sent and not taken up --------------------------------------------------------------


@contextmanager
def _sending_away(folder: Path, taken: list[list[Value]]) -> Iterator[None]:
    """Serve a socket where the first that comes is sent away with what it has sent, and the second
    is answered; note what that asks for."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET_NAME))
        listening.listen()

        def serve() -> None:
            with listening.accept()[0] as first:
                first.recv(1, socket.MSG_PEEK)
                _send(first, encode_answer(*SENT_AWAY))
            with listening.accept()[0] as second:
                while head := second.recv(4, socket.MSG_WAITALL):
                    size = int.from_bytes(head)
                    number, _, request = decode_request(second.recv(size, socket.MSG_WAITALL))
                    taken.append(request)
                    _send(second, encode_answer(number, None))

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def _send(to: socket.socket, frame: bytes) -> None:
    to.sendall(len(frame).to_bytes(4, "big") + frame)


@pytest.mark.real
def test_what_a_command_sent_when_it_was_sent_away_is_asked_once_more(tmp_path: Path) -> None:
    taken: list[list[Value]] = []
    with _sending_away(tmp_path, taken), Attachment(tmp_path) as command:
        assert command.ask("append", "memory", _A, "text") is None
    assert taken == [["append", "memory", _A, "text"]]


@pytest.mark.real
@pytest.mark.parametrize("is_in_memory", [False, True])
async def test_what_a_handle_sent_when_it_was_sent_away_is_asked_as_if_for_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_in_memory: bool
) -> None:
    if is_in_memory:
        monkeypatch.setattr(folder_client, "place_in_memory", lambda folder: folder)
    taken: list[list[Value]] = []
    changed = Call(["append", "memory", _A, "text"], OPERATIONS["append"])
    watched = Call(["watch", "memory", "*", False], OPERATIONS["watch"])
    client = FolderClient(tmp_path, partial(open_node, tmp_path))
    with trio.fail_after(PATIENCE_S):
        with _sending_away(tmp_path, taken):
            client.start(changed)
            client.start(watched)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                for call in (changed, watched):
                    await trio.to_thread.run_sync(call.result)
                nursery.cancel_scope.cancel()
    assert taken[0][0] == "attach"
    assert taken[1:] == [watched.request, changed.request]


# -- a node that takes nobody --------------------------------------------------------------------


@contextmanager
def _crowded(folder: Path) -> Iterator[socket.socket]:
    """Have a socket that takes nobody, since one waits at it already."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET_NAME))
        listening.listen(0)
        with connect_at_once(folder):
            yield listening


@pytest.mark.real
def test_a_node_that_takes_no_connection_is_not_taken_for_none(tmp_path: Path) -> None:
    clock = iter(range(100))
    expected = r"runs and takes no connection: too many wait for it already\. Try again"
    with _crowded(tmp_path), pytest.raises(StoreError, match=expected):
        connect(tmp_path, sleep=lambda _: None, time_s=lambda: next(clock))


@pytest.mark.real
def test_who_finds_a_node_that_takes_nobody_waits_until_it_does(tmp_path: Path) -> None:
    with _crowded(tmp_path) as listening:
        connect(tmp_path, sleep=lambda _: listening.accept()[0].close()).close()


@pytest.mark.real
async def test_a_handle_waits_for_a_node_that_takes_nobody_and_says_so_in_the_end(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    with _crowded(tmp_path) as listening:
        client = FolderClient(tmp_path, partial(open_node, tmp_path))
        with pytest.raises(ExceptionGroup) as raised:
            async with trio.open_nursery() as nursery:
                await nursery.start(client.run)
        assert raised.group_contains(StoreError, match="runs and takes no connection")
        client = FolderClient(tmp_path, partial(open_node, tmp_path))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)  # as one that was there before
            await trio.sleep(20)
            with listening.accept()[0], listening:
                await trio.sleep(1)
                with listening.accept()[0] as taken:
                    assert taken.recv(4, socket.MSG_WAITALL)
            nursery.cancel_scope.cancel()
