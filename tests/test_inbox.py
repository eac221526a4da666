"""What threads leave for a task is done there, in order, up to the end and not after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Barrier, Thread

import pytest
import trio.testing

from phextsync.handles.call import Call
from phextsync.handles.inbox import Inbox

_THREADS, _CALLS = 4, 300
_CALLS_OF_ONE = 5
_FOREVER_S = 3600.0  # longer than a test may take
_IN_TWO_TURNS = 35


class Turns:
    """Counts the turns of the scheduler, and notes in which one a call was answered."""

    def __init__(self) -> None:
        self.noted = list[int]()
        self._number = 0

    async def count(self) -> None:
        while True:
            self._number += 1
            await trio.lowlevel.checkpoint()

    def note(self, call: Call) -> None:
        self.noted.append(self._number)
        call.complete(None)

    def note_only(self, call: Call) -> None:
        """Give no answer."""


@pytest.mark.parametrize("are_answered", [False, True])
async def test_what_threads_leave_is_done_in_the_task_in_the_order_of_each(
    are_answered: bool,
) -> None:
    inbox, done = Inbox(linger_s=0, clock=lambda: 0), list[Call]()
    is_done = trio.Event()

    def note(call: Call) -> None:
        assert trio.lowlevel.current_task() is not None
        done.append(call)
        if are_answered:
            call.complete(None)
        if len(done) == _THREADS * _CALLS:
            is_done.set()

    def leave(name: int) -> None:
        for number in range(_CALLS):
            assert inbox.put(note, Call([name, number]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.run)
        threads = [Thread(target=leave, args=(name,)) for name in range(_THREADS)]
        for thread in threads:
            thread.start()
        await is_done.wait()
        nursery.cancel_scope.cancel()
    inbox.close()
    for name in range(_THREADS):
        assert [c.request[1] for c in done if c.request[0] == name] == [*range(_CALLS)]


async def test_what_was_taken_is_done_though_nobody_runs_it_any_more() -> None:
    inbox, done = Inbox(), list[Call]()
    call = Call([])
    assert inbox.put(done.append, call)
    inbox.close()
    assert done == [call]
    assert not inbox.put(done.append, Call([]))


def test_at_the_end_each_is_either_done_or_refused() -> None:
    for _ in range(50):
        inbox, done, taken = Inbox(), list[Call](), list[Call]()
        together = Barrier(2)

        def leave(inbox: Inbox, done: list[Call], taken: list[Call], together: Barrier) -> None:
            together.wait()
            while inbox.put(done.append, call := Call([])):
                taken.append(call)

        thread = Thread(target=leave, args=(inbox, done, taken, together))
        thread.start()
        together.wait()
        inbox.close()
        thread.join()
        assert done == taken


async def test_who_asks_again_at_once_is_waited_for_in_the_same_turn() -> None:
    inbox, turns = Inbox(linger_s=_FOREVER_S, clock=lambda: 0), Turns()

    def ask() -> None:
        for _ in range(_IN_TWO_TURNS):
            call = Call([])
            assert inbox.put(turns.note, call)
            call.result()
        inbox.put(turns.note_only, Call([]))  # nobody waits behind it

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.run)
        nursery.start_soon(turns.count)
        await trio.to_thread.run_sync(ask)
        nursery.cancel_scope.cancel()
    inbox.close()
    assert len(turns.noted) == _IN_TWO_TURNS
    assert len(set(turns.noted)) <= 3  # of the first, which comes alone, and those two


@pytest.mark.parametrize(("step_s", "is_answered"), [(1, True), (0, False)])
async def test_nobody_is_waited_for_after_a_lone_call_or_one_without_an_answer(
    step_s: int, is_answered: bool
) -> None:
    times = count(0, step_s)
    inbox = Inbox(linger_s=_FOREVER_S, clock=lambda: next(times))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.run)
        for _ in range(3):
            is_done = trio.Event()

            def note(call: Call, is_done: trio.Event = is_done) -> None:
                if is_answered:
                    call.complete(None)
                is_done.set()

            assert inbox.put(note, Call([]))
            await is_done.wait()
        nursery.cancel_scope.cancel()
    inbox.close()


async def test_what_was_taken_is_still_to_be_done_until_it_is() -> None:
    inbox, seen = Inbox(linger_s=_FOREVER_S, clock=lambda: 0), list[tuple[bool, int]]()
    done, are_all_done = list[Call](), trio.Event()

    def do(call: Call) -> None:
        call.complete(None)
        done.append(call)
        if len(done) == _CALLS_OF_ONE:
            inbox.put(Turns().note_only, Call([]))  # which ends the waiting
            are_all_done.set()

    @contextmanager
    def meanwhile() -> Iterator[None]:
        inbox.put(do, Call([]))
        yield  # in which it is taken
        seen.append((inbox.is_empty, len(done)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.run, meanwhile)
        inbox.put(do, Call([]))
        await trio.testing.wait_all_tasks_blocked()
        assert inbox.is_empty
        inbox.put(do, Call([]))
        await are_all_done.wait()
        nursery.cancel_scope.cancel()
    inbox.close()
    assert seen == [(False, number) for number in range(2, _CALLS_OF_ONE)]
