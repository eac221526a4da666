"""What threads leave for a task is done there, in order, up to the end and not after it."""

from threading import Barrier, Thread

import trio

from phextsync.handles.call import Call
from phextsync.handles.inbox import Inbox

_THREADS, _CALLS = 4, 300


async def test_what_threads_leave_is_done_in_the_task_in_the_order_of_each() -> None:
    inbox, done = Inbox(), list[Call]()
    is_done = trio.Event()

    def note(call: Call) -> None:
        assert trio.lowlevel.current_task() is not None
        done.append(call)
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
