"""Room: how many connections are answered, and how many are told that there is none."""

import trio
import trio.testing

from phextsync.waiting import Room


async def test_of_those_that_are_told_that_there_is_no_room_a_few_may_take_their_time() -> None:
    room, reading = Room(0), list[int]()

    async def answer() -> None:
        raise AssertionError("there is no room")

    async def come(number: int) -> None:
        stream, _ = trio.testing.memory_stream_pair()

        async def refuse() -> None:
            reading.append(number)
            try:
                await trio.sleep_forever()
            finally:
                reading.remove(number)

        await room.take(stream, answer, refuse)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(come, number)
            await trio.testing.wait_all_tasks_blocked()
        assert reading == [*range(24, 40)]  # those that came last
        nursery.cancel_scope.cancel()
