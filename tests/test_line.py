"""Threads that send requests and read answers themselves: whole, in order, once."""

import dis
import gc
import random
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from phextsync.control.frames import SENT_AWAY, Value, decode_request, encode_answer, encode_request
from phextsync.control.operations import OPERATIONS
from phextsync.control.sockets import SOCKET_NAME, connect_at_once
from phextsync.errors import ClosedError
from phextsync.handles import folder_client
from phextsync.handles.call import Call
from phextsync.handles.engine import Engine
from phextsync.handles.folder_client import FolderClient
from phextsync.handles.inbox import Action
from phextsync.index import NumberedSender, SharedReader
from phextsync.systems.arriving import has_arrived
from sims.processes import PATIENCE_S, make_folder
from tests.engines import opened

if TYPE_CHECKING:
    from _typeshed import TraceFunction

_A = "1.1.1/1.1.1/1.1.1"
_FEW = 4608  # bytes that a socket takes
_MANY = 3_000_000  # more than one takes
_THREADS, _CALLS = 4, 150

Request = tuple[int, int, list[Value]]


class Owner:
    """The other end of a connection: what has come, and what it answers."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = b""

    def requests(self) -> list[Request]:
        """Return what has come whole by now."""
        while True:
            try:
                data = self._end.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return [*self._taken()]
            if not data:
                return [*self._taken()]
            self._buffer += data

    def next(self) -> list[Request]:
        """Wait for more, and return it; nothing at the end."""
        found: list[Request] = []
        while not found and (data := self._end.recv(1 << 16)):
            self._buffer += data
            found = [*self._taken()]
        return found

    def answer(self, number: int) -> None:
        self._send(encode_answer(number, None))

    def send_away(self) -> None:
        self._send(encode_answer(*SENT_AWAY))
        self.close()

    def _send(self, frame: bytes) -> None:
        self._end.sendall(len(frame).to_bytes(4) + frame)

    def close(self) -> None:
        self._end.close()

    def _taken(self) -> Iterator[Request]:
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4])
            if len(self._buffer) < end:
                return
            yield decode_request(self._buffer[4:end])
            self._buffer = self._buffer[end:]


@contextmanager
def _listening(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET_NAME))
        listening.listen()
        yield listening


@asynccontextmanager
async def _attached(folder: Path) -> AsyncIterator[tuple[FolderClient, Owner]]:
    client = FolderClient(folder, lambda: pytest.fail("it may not own the folder"))
    with _listening(folder) as listening:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            owner = Owner(listening.accept()[0])
            assert [request[0] for _, _, request in owner.requests()] == ["attach"]
            yield client, owner
            nursery.cancel_scope.cancel()
        owner.close()


def _append(text: str = "") -> Call:
    return Call(["append", "memory", _A, text], OPERATIONS["append"])


def _left(client: FolderClient, call: Call) -> Call:
    """Leave a request that does not go at once, as an engine does."""
    assert not client.start_at_once(call)
    client.leave(client.start, call)
    return call


def _texts(requests: list[Request]) -> list[tuple[int, Value]]:
    return [(number, request[-1]) for number, _, request in requests]


async def _all_of(owner: Owner, count: int) -> list[Request]:
    found: list[Request] = []
    with trio.fail_after(PATIENCE_S):
        while len(found) < count:
            found += owner.requests()
            await trio.lowlevel.checkpoint()
    return found


# -- at once -----------------------------------------------------------------------------------


async def test_a_request_is_sent_without_a_turn_of_the_client(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, owner):
        call = _append("one")
        assert client.start_at_once(call)
        assert client.start_at_once(_append("two"))
        assert owner.requests() == [(1, 0, call.request), (2, 0, _append("two").request)]
        owner.answer(1)
        with trio.fail_after(PATIENCE_S):
            await trio.to_thread.run_sync(call.result)
        assert client.start_at_once(_append("three"))
        assert owner.requests() == [(3, 1, _append("three").request)]
        assert client.statistics().unanswered == 2


async def test_none_goes_at_once_while_there_is_no_owner_or_in_a_child(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, owner):
        client.abandon("this is a child")
        assert not client.start_at_once(_append())
        assert owner.requests() == []
    assert not client.start_at_once(_append())
    client.start(late := _append())
    with pytest.raises(ClosedError):
        late.result()


# -- order ---------------------------------------------------------------------------------------


async def test_none_overtakes_one_that_another_thread_has_left_for_the_client(
    tmp_path: Path,
) -> None:
    async with _attached(tmp_path) as (client, owner):
        watch = Call(["watch", "memory", "*", False], OPERATIONS["watch"])
        left = [_left(client, call) for call in (watch, _append("second"))]
        client.start(left[0])
        third = _left(client, _append("third"))
        for call in (left[1], third):
            client.start(call)
        assert client.start_at_once(_append("fourth"))
        texts = [(1, False), (2, "second"), (3, "third"), (4, "fourth")]
        assert _texts(owner.requests()) == texts


async def test_who_could_not_leave_a_request_holds_up_nobody(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, _):
        watch = Call(["watch", "memory", "*", False], OPERATIONS["watch"])
        _left(client, watch)
        assert not client.start_at_once(_append())
        client.forget(client.start, watch)
        assert client.start_at_once(_append())


async def test_none_overtakes_what_the_socket_did_not_take(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, owner):
        texts = ["x" * _MANY, "second", "third"]
        for text in texts:
            call = _append(text)
            assert not client.start_at_once(call)  # too long, and what comes after it
            client.start(call)
        await trio.testing.wait_all_tasks_blocked()
        fourth = _append("fourth")
        assert not client.start_at_once(fourth)
        client.start(fourth)
        texts.append("fourth")
        assert _texts(await _all_of(owner, 4)) == [*enumerate(texts, 1)]
        await trio.testing.wait_all_tasks_blocked()
        assert client.start_at_once(_append())


async def test_the_end_of_a_request_keeps_its_place(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, owner):
        call = _append("one")
        assert client.start_at_once(call)
        client.leave(client.cancel, call)
        second = _left(client, _append("two"))
        client.cancel(call)
        client.start(second)
        assert client.start_at_once(_append("three"))
        assert _texts(owner.requests()) == [(1, "one"), (0, 1), (2, "two"), (3, "three")]


@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_frame_that_went_in_part_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_followed: bool
) -> None:
    def connect(folder: Path) -> socket.socket:
        connected = connect_at_once(folder)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _FEW)
        return connected

    monkeypatch.setattr(folder_client, "connect_at_once", connect)
    async with _attached(tmp_path) as (client, owner):
        long, other = _append("x" * 50_000), _append("other")
        assert client.start_at_once(long)
        assert client.is_in_the_middle
        assert not client.start_at_once(other)
        if is_followed:  # as by one that an interrupt let go first
            client.start(other)
        client.finish(long)
        assert not client.is_in_the_middle
        if not is_followed:
            client.start(other)
        texts = [(1, "x" * 50_000), (2, "other")]
        assert _texts(await _all_of(owner, 2)) == texts


async def test_what_a_signal_handler_asks_meanwhile_goes_first_and_both_go_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _attached(tmp_path) as (client, owner):
        handled = _append("handler")

        def interrupted(number: int, received: int, request: list[Value]) -> bytes:
            monkeypatch.setattr(folder_client, "encode_request", encode_request)
            assert client.start_at_once(handled)
            return encode_request(number, received, request)

        monkeypatch.setattr(folder_client, "encode_request", interrupted)
        call = _append("outer")
        assert not client.start_at_once(call)
        client.start(call)
        assert _texts(owner.requests()) == [(1, "handler"), (2, "outer")]
        for number in (1, 2):
            owner.answer(number)
        with trio.fail_after(PATIENCE_S):
            for each in (handled, call):
                await trio.to_thread.run_sync(each.result)


# -- answers -------------------------------------------------------------------------------------


async def test_an_answer_is_read_by_the_thread_that_waits_for_it(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, owner):
        await trio.testing.wait_all_tasks_blocked()  # it has read that it is attached
        call = _append()
        assert client.start_at_once(call)
        owner.answer(1)
        client.read_answer(call, None)
        assert call.is_answered
        assert not client.must_read


@asynccontextmanager
async def _put_aside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[FolderClient, Owner]]:
    """A client whose task is aside: its first answer came while a thread read."""
    reads, may_go, call = threading.Event(), threading.Event(), _append()

    def wait(descriptor: int, wait_s: float) -> bool:
        reads.set()
        may_go.wait(PATIENCE_S)
        return has_arrived(descriptor, wait_s)

    async with _attached(folder) as (client, owner):
        await trio.testing.wait_all_tasks_blocked()
        with monkeypatch.context() as patched:
            patched.setattr(folder_client, "has_arrived", wait)
            assert client.start_at_once(call)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, client.read_answer, call, None)
                await trio.to_thread.run_sync(reads.wait, PATIENCE_S)
                owner.answer(1)
                await trio.testing.wait_all_tasks_blocked()
                assert not call.is_answered
                may_go.set()
        assert call.is_answered
        assert not client.must_read
        yield client, owner


async def test_the_client_does_not_read_until_no_thread_has_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async with _put_aside(tmp_path, monkeypatch) as (client, owner):
        second, third = _append(), _append()
        assert client.start_at_once(second)
        owner.answer(2)
        await trio.testing.wait_all_tasks_blocked()
        assert not second.is_answered
        client.read_answer(second, None)
        assert second.is_answered
        for _ in range(2):
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
        assert client.start_at_once(third)
        owner.answer(3)
        await trio.testing.wait_all_tasks_blocked()
        assert third.is_answered


async def test_what_no_thread_waits_for_is_read_by_the_client_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async with _put_aside(tmp_path, monkeypatch) as (client, owner):
        call = _append()
        assert client.start_at_once(call)
        assert client.must_read
        client.read(call)
        owner.answer(2)
        await trio.testing.wait_all_tasks_blocked()
        assert call.is_answered


async def test_an_owner_that_ends_is_noticed_by_a_thread_that_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async with _put_aside(tmp_path, monkeypatch) as (client, owner):
        call = _append()
        assert client.start_at_once(call)
        owner.close()
        client.read_answer(call, None)
        assert not call.is_answered
        assert client.must_read


async def test_the_last_word_of_an_owner_counts_though_a_thread_meets_the_end_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(folder_client, "is_locked", lambda _: True)
    async with _put_aside(tmp_path, monkeypatch) as (client, owner):
        call = _append()
        assert client.start_at_once(call)
        owner.send_away()
        client.read_answer(call, None)  # which leaves the last word
        assert client.must_read
        client._reader.receive()
        client.cancel(call)
        mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
        assert not client.start_at_once(_append())  # it stays away until it has something to ask


async def test_a_thread_reads_nothing_while_others_wait_too(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, owner):
        await trio.testing.wait_all_tasks_blocked()
        calls = [_append(), _append()]
        assert all([client.start_at_once(call) for call in calls])
        for number in (1, 2):
            owner.answer(number)
        client.read_answer(calls[1], None)
        assert not calls[1].is_answered
        await trio.testing.wait_all_tasks_blocked()
        assert all(call.is_answered for call in calls)


async def test_what_is_not_of_one_thread_is_left_to_the_client(tmp_path: Path) -> None:
    async with _attached(tmp_path) as (client, owner):
        await trio.testing.wait_all_tasks_blocked()
        watch = Call(["watch", "memory", "*", False], OPERATIONS["watch"])
        assert not client.start_at_once(watch)
        client.start(watch)
        owner.answer(1)
        call = _append()
        assert client.start_at_once(call)
        owner.answer(2)
        client.read_answer(call, None)
        assert not any(each.is_answered for each in (watch, call))
        assert client.must_read
        client.read(call)
        assert watch.is_answered
        assert call.is_answered


async def test_a_signal_handler_asks_while_its_thread_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _attached(tmp_path) as (client, owner):
        await trio.testing.wait_all_tasks_blocked()
        call, handled = _append(), _append()

        def interrupted(descriptor: int, wait_s: float) -> bool:
            monkeypatch.setattr(folder_client, "has_arrived", has_arrived)
            assert client.start_at_once(handled)
            client.read_answer(handled, None)
            for number in (1, 2):
                owner.answer(number)
            return True

        monkeypatch.setattr(folder_client, "has_arrived", interrupted)
        assert client.start_at_once(call)
        client.read_answer(call, None)
        assert call.is_answered
        assert handled.is_answered


@pytest.mark.parametrize("is_read_again", [False, True])
async def test_an_answer_that_takes_longer_is_read_by_the_client(
    tmp_path: Path, mock_clock: trio.testing.MockClock, *, is_read_again: bool
) -> None:
    async with _attached(tmp_path) as (client, owner):
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 2 + is_read_again):
            slow = _append()
            assert client.start_at_once(slow)
            client.read_answer(slow, 0)
            if client.must_read:  # it is aside
                client.read(slow)
            owner.answer(number)
            await trio.testing.wait_all_tasks_blocked()
            assert slow.is_answered


class _Unshared:
    """A reader as on Windows."""

    is_open = False

    def __init__(self, frame_bytes_max: int) -> None:
        self._reader = SharedReader(frame_bytes_max)

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)


async def test_where_no_threads_can_read_the_client_does_and_notices_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_client, "SharedReader", _Unshared)
    async with _attached(tmp_path) as (client, owner):
        call = _append()
        assert client.start_at_once(call)
        owner.answer(1)
        client.read_answer(call, None)
        assert not call.is_answered
        await trio.testing.wait_all_tasks_blocked()
        assert call.is_answered
        owner.close()
        await trio.testing.wait_all_tasks_blocked()
        assert client.start_at_once(_append())  # it is attached again


# -- owners --------------------------------------------------------------------------------------


async def test_what_went_at_once_is_asked_again_at_the_next_owner_in_order(
    tmp_path: Path,
) -> None:
    client = FolderClient(tmp_path, lambda: pytest.fail("it may not own the folder"))
    with _listening(tmp_path) as listening:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            first = Owner(listening.accept()[0])
            calls = [_append(f"{number}") for number in range(3)]
            assert all([client.start_at_once(call) for call in calls])
            first.close()
            late = _append("late")
            assert not client.start_at_once(late)
            client.start(late)
            with trio.fail_after(PATIENCE_S):
                end, _ = await trio.to_thread.run_sync(listening.accept)
            second = Owner(end)
            asked = await _all_of(second, 5)
            assert _texts(asked[1:]) == [(1, "0"), (2, "1"), (3, "2"), (4, "late")]
            assert [received for _, received, _ in asked[1:]] == [0, 0, 0, 0]
            second.close()
            nursery.cancel_scope.cancel()


@pytest.mark.real
def test_requests_of_many_threads_come_whole_in_order_and_none_is_forgotten(
    tmp_path: Path,
) -> None:
    faults: list[str] = []

    def serve(listening: socket.socket) -> None:
        owner, last, owed = Owner(listening.accept()[0]), 0, list[int]()
        while requests := owner.next():
            for number, received, request in requests:
                if request[0] == "append":
                    if number != last + 1 or any(other <= received for other in owed):
                        faults.append(f"{number} after {last}, {received} of {owed} received")
                    last = number
                    owed.append(number)
            while len(owed) > 1 or (owed and last == _THREADS * _CALLS):
                owner.answer(owed.pop())  # the first waits to the end
        owner.close()

    def ask(name: int) -> None:
        chance = random.Random(name)
        calls = []
        for number in range(_CALLS):
            text = f"{name} {number}".ljust(chance.choice([5, 5, 5, 3000, 70_000]))
            calls.append(engine.begin(OPERATIONS["append"], "memory", _A, text))
        for call in calls:
            engine.wait(call)

    with _listening(tmp_path) as listening:
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        engine = Engine(tmp_path, {}, may_own=False)
        engine.start().result()
        threads = [threading.Thread(target=ask, args=(name,)) for name in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.stop()
        server.join()
    assert faults == []


@pytest.mark.real
def test_calls_of_all_kinds_are_answered_though_the_client_stays_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_client, "_ASIDE_S", 10 * PATIENCE_S)
    folder = make_folder(tmp_path)
    with opened(folder) as (_, owner), opened(folder) as (engine, handle):
        assert not handle.is_owner
        phext = handle.phext()

        def ask() -> None:  # many times: then it is aside
            for _ in range(100):
                phext.append(_A, "x")

        for text in ("nobody reads this answer", "y" * 100_000):
            ask()
            call = engine.begin(OPERATIONS["append"], "memory", _A, text)
            assert call.result(PATIENCE_S) is None
        ask()
        changes = phext.changes("1.*")
        owner.phext().append(_A, "x")
        assert [str(place) for place in next(changes).coordinates] == [_A]
        changes.close()
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ask()
        owner.close()
        ask()
        assert handle.is_owner
        assert phext[_A].count("x") == 901


# -- what comes between ---------------------------------------------------------------------------


def _interrupted(step: int, functions: set[CodeType], call: Callable[[], object]) -> bool:
    """Call something, with a KeyboardInterrupt at one of the places in these functions where Python
    looks for signals; say whether there are so many."""
    left = step
    last: dict[FrameType, str] = {}
    names = {
        code: {each.offset: each.opname for each in dis.get_instructions(code)}
        for code in functions
    }

    def trace(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
        nonlocal left
        if frame.f_code not in functions:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if last.get(frame, "").startswith(("CALL", "JUMP_BACKWARD", "RESUME")):
                left -= 1
                if left == -1:
                    raise KeyboardInterrupt
            last[frame] = names[frame.f_code][frame.f_lasti]
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return left < 0


async def test_an_interrupt_of_the_thread_that_reads_takes_no_answer_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = {
        each.__code__
        for each in (FolderClient.read_answer, FolderClient._give_answers, Call.complete)
    }
    async with _attached(tmp_path) as (client, owner):
        await trio.testing.wait_all_tasks_blocked()
        step, comes = 0, True
        while comes:
            call, other, after = _append(), _append(), _append()

            def meanwhile(descriptor: int, wait_s: float, other: Call = other) -> bool:
                if not other.number:
                    assert client.start_at_once(other)
                    owner.answer(other.number)
                    owner.answer(other.number - 1)
                return has_arrived(descriptor, wait_s)

            monkeypatch.setattr(folder_client, "has_arrived", meanwhile)
            assert client.start_at_once(call)
            comes = _interrupted(step, functions, partial(client.read_answer, call, None))
            if client.must_read:
                client.read(call)
            if not call.is_answered:
                client.cancel(call)
            if other.number:
                with trio.fail_after(PATIENCE_S):
                    await trio.testing.wait_all_tasks_blocked()
                assert other.result(0) is None, step
            assert client.start_at_once(after)
            owner.answer(after.number)
            client.read_answer(after, None)
            assert after.is_answered, f"no thread reads any more after {step}"
            owner.requests()
            step += 1


def test_an_answer_that_is_given_again_changes_nothing() -> None:
    call = _append()
    call.complete("first")
    for _ in range(2):
        call._is_answered = False  # as where two threads give it at once
        call.complete("first")
        assert call.result(0) == "first"
    call.complete("late")
    assert call.result(0) == "first"


async def test_a_request_whose_interrupt_came_late_goes_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path, {}, may_own=False)
    left = list[tuple[Action, Call]]()

    def put(action: Action, call: Call) -> bool:
        left.append((action, call))
        if len(left) == 1:
            raise KeyboardInterrupt  # the request is left all the same
        return True

    async with _attached(tmp_path) as (client, owner):
        engine.client, engine._token = client, trio.lowlevel.current_trio_token()
        monkeypatch.setattr(engine._inbox, "put", put)
        client.leave(client.start, held := _append("held"))
        with pytest.raises(KeyboardInterrupt):
            engine.begin(OPERATIONS["append"], "memory", _A, "first")
        client.forget(client.start, held)
        engine.begin(OPERATIONS["append"], "memory", _A, "second")
        for action, call in left:
            action(call)
        assert _texts(owner.requests()) == [(1, "first"), (2, "second")]
        assert client.start_at_once(_append())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="no finalizer comes in between there")
async def test_what_a_finalizer_asks_does_not_disturb_another_request(tmp_path: Path) -> None:
    left = 400

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            nonlocal left
            if left:
                left -= 1
                client.start_at_once(_append())
                Garbage()

    async with _attached(tmp_path) as (client, owner):
        for _ in range(50):
            client._sender.count(client._calls, _append())
        before = gc.get_threshold()
        Garbage()
        gc.set_threshold(1)
        try:
            client._received()
        finally:
            gc.set_threshold(*before)
            left = 0
        assert owner.requests()
        client._calls.clear()


async def test_a_thread_that_meets_nonsense_lets_the_client_end_the_connection(
    tmp_path: Path,
) -> None:
    client = FolderClient(tmp_path, lambda: pytest.fail("it may not own the folder"))
    with _listening(tmp_path) as listening:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            end = listening.accept()[0]
            await trio.testing.wait_all_tasks_blocked()
            call = _append()
            assert client.start_at_once(call)
            end.sendall(b"\xff\xff\xff\xff")
            client.read_answer(call, None)
            assert client.must_read
            client.read(call)
            with trio.fail_after(PATIENCE_S):
                second = await trio.to_thread.run_sync(listening.accept, abandon_on_cancel=True)
            second[0].close()
            end.close()
            nursery.cancel_scope.cancel()


# -- the steps that nothing comes between --------------------------------------------------------


def test_a_frame_is_sent_only_if_it_is_the_next_and_nothing_is_before_it() -> None:
    before, noted = set[str](), dict[int, str]()
    sender = NumberedSender(before)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not sender.send(1, b"closed", noted, "")
        sender.open(ours.fileno())
        assert not sender.send(2, b"not the next", noted, "")
        before.add("another")
        assert not sender.send(1, b"behind another", noted, "")
        before.clear()
        assert noted == {}
        assert sender.send(1, b"sent", noted, "first")
        assert not sender.send(1, b"once more", noted, "")
        assert sender.count(noted, "second") == 2
        assert noted == {1: "first", 2: "second"}
        assert sender.close() == b""
        assert not sender.send(3, b"closed again", noted, "")
        assert theirs.recv(100) == b"sent"


def test_what_cannot_be_sent_is_neither_counted_nor_noted() -> None:
    noted = dict[int, str]()
    sender = NumberedSender(set[str]())
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        sender.open(ours.fileno())
        assert not sender.send(1, b"to nobody", noted, "")
        assert (sender.number, noted) == (0, {})


def test_a_thread_with_a_small_stack_may_read() -> None:
    program = """
import socket, threading
from phextsync.index import SharedReader

ours, theirs = socket.socketpair()
reader = SharedReader(100)
reader.open(ours.fileno())
theirs.send(bytes([0, 0, 0, 1, 7]))
threading.stack_size(64 << 10)
thread = threading.Thread(target=reader.receive)
thread.start()
thread.join()
assert reader.first() == bytes([7])
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of memory")
def test_what_finds_no_memory_ends_the_stream_behind_what_came_before() -> None:
    program = """
import resource
from phextsync.index import SharedReader

reader = SharedReader(100)
reader.open(0)
frames = [bytes([0, 0, 0, 40]) + bytes([each] * 40) for each in range(4)]
big = bytes(256 << 20)
reader.feed(b"".join(frames)[:-1])
reader.done(reader.first())  # what is left is moved over it
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (1, limits[1]))
try:
    reader.feed(big)
except MemoryError:
    pass
else:
    raise SystemExit("there was memory")
resource.setrlimit(resource.RLIMIT_AS, limits)
for frame in frames[1:3]:
    assert reader.first() == frame[4:], reader.first()
    reader.done(reader.first())
assert reader.first() is None
assert reader.has_ended
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)


class _Full:
    """A reader that finds no memory for what arrives first."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._reader = SharedReader(frame_bytes_max)
        self._is_full = True

    def receive(self) -> None:
        self._reader.receive()
        if self._is_full and self._reader.first() is not None:
            self._is_full = False
            self._reader.feed(b"")
            raise MemoryError

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)


async def test_who_finds_no_memory_for_what_arrives_is_told_and_others_are_answered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_client, "SharedReader", _Full)
    client = FolderClient(tmp_path, lambda: pytest.fail("it may not own the folder"))
    with _listening(tmp_path) as listening:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            owner = Owner(listening.accept()[0])
            await trio.testing.wait_all_tasks_blocked()
            call = _append()
            assert client.start_at_once(call)
            owner.answer(7)
            with pytest.raises(MemoryError):
                client.read_answer(call, None)
            assert client.must_read
            client.read(call)
            with trio.fail_after(PATIENCE_S):
                other = Owner(await trio.to_thread.run_sync(lambda: listening.accept()[0]))
            requests = await _all_of(other, 2)
            assert [request[0] for _, _, request in requests] == ["attach", "append"]
            nursery.cancel_scope.cancel()
        owner.close()
        other.close()


def test_of_a_frame_that_goes_in_part_the_rest_is_left_and_no_other_goes() -> None:
    noted = dict[int, str]()
    sender = NumberedSender(set[str]())
    ours, theirs = socket.socketpair()
    frame = bytes(range(256)) * 20_000
    with ours, theirs:
        sender.open(ours.fileno())
        assert sender.send(1, frame, noted, "long")
        assert noted == {1: "long"}
        assert not sender.is_open
        assert not sender.send(2, b"another", noted, "")
        rest = sender.close()
        ours.close()
        begun = b""
        while data := theirs.recv(1 << 20):
            begun += data
    assert begun + rest == frame
    assert rest
    assert sender.rest == b""


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(4) + body


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 50)))
def test_frames_come_whole_and_once_however_they_arrive(
    bodies: list[bytes], sizes: list[int]
) -> None:
    reader, found = SharedReader(40), list[bytes]()
    stream = b"".join(map(_frame, bodies))
    for size in [*sizes, len(stream)]:
        if stream[:size]:
            reader.feed(stream[:size])
        stream = stream[size:]
        while (frame := reader.first()) is not None:
            assert reader.first() is frame
            found.append(frame)
            reader.done(frame)
            reader.done(frame)  # as another thread does
    assert found == bodies


def test_a_frame_that_is_too_long_ends_all_and_so_does_the_other_side() -> None:
    reader = SharedReader(4)
    ours, theirs = socket.socketpair()
    for sent in (_frame(b"12345"), b""):
        reader.open(ours.fileno())
        reader.receive()
        assert (reader.has_ended, reader.first()) == (False, None)  # nothing has come
        theirs.sendall(sent)
        if not sent:
            theirs.close()
        reader.receive()
        assert reader.first() is None
        assert reader.has_ended
    reader.close()
    reader.receive()
    assert reader.descriptor == -1
    ours.close()
