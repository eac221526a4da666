"""Queues of frames: sent where they are put if they go at once, in order if they do not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from phextsync import framing
from phextsync.errors import LinkError
from phextsync.framing import FrameChannel, FrameQueue
from phextsync.sockets import SocketStream
from sims.processes import PATIENCE_S


@asynccontextmanager
async def _channels() -> AsyncIterator[tuple[FrameChannel, FrameChannel]]:
    one, other = (SocketStream(trio.SocketStream(end)) for end in trio.socket.socketpair())
    async with FrameChannel(one) as sender, FrameChannel(other) as receiver:
        yield sender, receiver


async def test_what_goes_at_once_is_sent_where_it_is_put() -> None:
    async with _channels() as (sender, receiver):
        queue = FrameQueue(sender)  # which nobody runs
        queue.put(b"one", b"two")
        assert queue.waiting_bytes == 0
        with trio.fail_after(PATIENCE_S):
            assert await receiver.receive_many() == [b"one", b"two"]


async def test_frames_arrive_in_order_whether_they_went_at_once_or_not() -> None:
    frames = [bytes([i]) * (200_000 if i % 7 == 3 else 5) for i in range(40)]
    async with _channels() as (sender, receiver), trio.open_nursery() as nursery:
        queue = FrameQueue(sender)
        nursery.start_soon(queue.run)
        for frame in frames[:20]:  # more than the socket takes
            queue.put(frame)
        await trio.testing.wait_all_tasks_blocked()  # it sends the first of those that wait
        waited = queue.waiting_bytes
        assert waited > 0
        for frame in frames[20:]:
            queue.put(frame)
        assert queue.waiting_bytes == waited + sum(map(len, frames[20:]))
        assert [await receiver.receive() for _ in frames] == frames
        await trio.testing.wait_all_tasks_blocked()
        assert queue.waiting_bytes == 0
        nursery.cancel_scope.cancel()


async def test_none_overtakes_those_that_are_sent_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(framing, "_SEND_BYTES", 100)
    async with _channels() as (sender, receiver), trio.open_nursery() as nursery:
        queue = FrameQueue(sender)
        queue.put(first := bytes(1 << 20))  # it waits, and others wait behind it
        frames = [bytes([i]) * 96 for i in range(5)]
        queue.put(*frames)
        nursery.start_soon(queue.run)
        await trio.testing.wait_all_tasks_blocked()

        async def put_between() -> None:
            while not sender.may_send_nowait:
                await trio.lowlevel.checkpoint()
            assert queue.waiting_bytes > 0
            queue.put(b"late")

        nursery.start_soon(put_between)
        assert [await receiver.receive() for _ in range(7)] == [first, *frames, b"late"]
        nursery.cancel_scope.cancel()


async def test_who_waits_for_room_is_told_when_some_were_sent() -> None:
    async with _channels() as (sender, receiver), trio.open_nursery() as nursery:
        queue = FrameQueue(sender)
        nursery.start_soon(queue.run)
        queue.put(bytes(1 << 20))
        with trio.fail_after(PATIENCE_S):
            nursery.start_soon(receiver.receive)
            await queue.sent.wait()
        assert queue.waiting_bytes == 0
        nursery.cancel_scope.cancel()


async def test_a_link_that_is_broken_ends_its_run_and_not_who_puts() -> None:
    async with _channels() as (sender, receiver):
        queue = FrameQueue(sender)
        await receiver.aclose()
        queue.put(b"in vain")
        queue.put(b"again")
        with pytest.raises(LinkError):
            await queue.run()
