"""A handle asked from where nobody expects it: callbacks, signal handlers, finalizers, children of
a fork, tasks that are cancelled. Nothing hangs, and nothing is done twice."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
import trio

import phextsync
from phextsync import (
    Change,
    ClosedError,
    Handle,
    Node,
    NotSyncedError,
    PhextsyncError,
    aio,
    open_node,
)
from phextsync.handles.awaiting import answer
from phextsync.handles.call import Call
from phextsync.handles.engine import Engine
from phextsync.index import EVERYTHING
from phextsync.replica.replica import Replica
from sims.processes import PATIENCE_S, make_folder
from tests.engines import OPTIONS, opened
from tests.interrupting import Interrupt
from tests.outcomes import Outcome
from tests.polling import until_now

pytestmark = pytest.mark.real

_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"


@pytest.fixture(params=["owner", "attached"])
def handle(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Handle]:
    """A handle that runs the node, or that is attached to it."""
    folder = make_folder(tmp_path)
    with phextsync.open(folder, **OPTIONS) as owner:
        if request.param == "owner":
            yield owner
        else:
            with phextsync.open(folder, **OPTIONS) as attached:
                yield attached


def _use(handle: Handle, told: str) -> None:
    """Do once what all who have a handle do."""
    memory = handle.phext()
    memory.append(_B, told)
    assert memory[_B].endswith(told)
    assert memory.get(_A) is not None
    with memory.batch() as batch:
        batch.append(_B, ".")
    with pytest.raises(NotSyncedError):
        handle.synced(peers=1, timeout_s=0)
    handle.durable()
    with memory.changes("9.*"):
        pass


# -- callbacks -------------------------------------------------------------------------------


def test_a_subscriber_may_do_with_its_handle_what_all_may(handle: Handle) -> None:
    memory = handle.phext()
    heard: SimpleQueue[object] = SimpleQueue()

    def hear(change: Change) -> None:
        try:
            end()
            _use(handle, "x")
            ended = memory.subscribe(lambda _: None, "9.*")
            ended()
            ended()
            heard.put(change.coordinates)
        except BaseException as error:
            heard.put(error)

    end = memory.subscribe(hear, _A)
    memory[_A] = "text"
    assert [*map(str, heard.get(timeout=PATIENCE_S))] == [_A]  # type: ignore[call-overload]
    assert memory[_B] == "x."
    memory[_A] = "other"  # of which it is not told any more
    assert heard.empty()


def test_a_subscriber_may_close_its_handle(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    handle = phextsync.open(folder, **OPTIONS)
    closed: SimpleQueue[object] = SimpleQueue()

    def hear(_: Change) -> None:
        handle.close()
        handle.close()
        try:
            closed.put(handle.status())
        except ClosedError as error:
            closed.put(error)

    handle.phext().subscribe(hear)
    handle.phext()[_A] = "text"
    assert "was closed" in str(closed.get(timeout=PATIENCE_S))
    with phextsync.open(folder, **OPTIONS) as again:
        assert again.phext()[_A] == "text"


def test_two_do_not_wait_for_the_next_change_in_one_thread(handle: Handle) -> None:
    with handle.phext().changes() as changes:
        told: SimpleQueue[object] = SimpleQueue()

        def interrupt() -> None:
            try:
                told.put(next(changes, "the end"))
            except PhextsyncError as error:
                told.put(error)
            handle.phext()[_A] = "text"

        with _interrupted("_take", interrupt):
            assert str(next(changes).coordinates[0]) == _A
        assert "expected one wait for the next change at a time" in str(told.get())


# -- signals and finalizers ------------------------------------------------------------------

_MAIN = threading.main_thread().ident or 0


@contextmanager
def _interrupted(name: str, act: Callable[[], object]) -> Iterator[None]:
    """Let the main thread do something once, by a signal, while it waits in a function."""
    has_acted = threading.Event()

    def interrupt(*_: object) -> None:
        if not has_acted.is_set():
            has_acted.set()
            act()

    def watch() -> None:
        names: list[str] = []
        while not {name, "result"} <= set(names):
            frame = sys._current_frames().get(_MAIN)
            names = []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
        while not has_acted.is_set():  # one that comes just before the wait begins wakes nobody
            signal.pthread_kill(_MAIN, signal.SIGUSR1)
            has_acted.wait(0.01)

    before = signal.signal(signal.SIGUSR1, interrupt)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_may_do_with_its_handle_what_all_may(handle: Handle) -> None:
    handle.phext()[_A] = "text"

    def interrupt() -> None:
        _use(handle, "x")
        raise KeyboardInterrupt

    with _interrupted("synced", interrupt), pytest.raises(KeyboardInterrupt):
        handle.synced(peers=1)
    assert handle.phext()[_B] == "x."


def test_a_finalizer_may_do_with_its_handle_what_all_may(handle: Handle) -> None:
    handle.phext()[_A] = "text"

    class Finalized:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            _use(handle, "x")

    Finalized()
    gc.collect()
    assert handle.phext()[_B] == "x."


def test_a_handle_that_can_have_no_thread_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine = Engine(make_folder(tmp_path), OPTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="new thread"):
            engine.start()
    stops = threading.Thread(target=engine.stop, daemon=True)
    stops.start()
    stops.join(PATIENCE_S)
    assert not stops.is_alive()


def test_an_interrupt_ends_any_wait_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with opened(folder) as (_, owner), opened(folder) as (attached, other):
        owner.phext()[_A] = "text"
        changes = other.phext().changes()
        waits: list[tuple[str, Callable[[], object]]] = [
            ("synced", lambda: other.synced(peers=1)),
            ("_take", lambda: next(changes)),
            ("ask", lambda: other.ask("synced", "memory", "*", 1, None)),
        ]
        for name, wait in waits:
            with _interrupted(name, interrupt), pytest.raises(KeyboardInterrupt):
                wait()
        other.phext()[_A] = "more"
        assert str(next(changes).coordinates[0]) == _A  # the interrupt lost none
        changes.close()
        until_now(lambda: attached.client.statistics() == (0, 0))


@pytest.mark.parametrize("is_owner", [True, False])
def test_an_interrupt_anywhere_in_a_wait_for_changes_loses_none(
    tmp_path: Path, is_owner: bool
) -> None:
    folder = make_folder(tmp_path)
    with opened(folder) as (_, owner), opened(folder) as (_, attached):
        reader = owner if is_owner else attached

        def wait() -> int:
            step = 0
            with reader.phext().changes(texts=True) as changes:
                while True:
                    owner.phext()[_A] = f"text {step}"
                    with Interrupt(step) as interrupt:
                        try:
                            change = next(changes)
                        except KeyboardInterrupt:
                            change = None
                    change = change or next(changes)
                    assert [each.new for each in change.texts] == [f"text {step}"]
                    if not interrupt.has_come:
                        return step
                    step += 1

        steps = Outcome(wait).result()
        assert isinstance(steps, int), steps
        assert steps > 100


def test_an_interrupt_after_a_wait_for_changes_loses_none(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lock:
        def __enter__(self) -> None:
            """Nobody else waits."""

        def __exit__(self, *_: object) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

    memory = handle.phext()
    with memory.changes() as changes:
        monkeypatch.setattr(changes, "_turn", Lock())
        memory[_A] = "text"
        with pytest.raises(KeyboardInterrupt):
            next(changes)
        change = Outcome(lambda: next(changes)).result()
        assert isinstance(change, Change)
        assert str(change.coordinates[0]) == _A


def test_an_interrupt_of_who_has_an_answer_leaves_it_to_others() -> None:
    class Lock:
        def __init__(self) -> None:
            self._lock = threading.Lock()
            self.release = self._lock.release

        def acquire(self, timeout: float) -> None:
            assert self._lock.acquire(timeout=timeout)
            raise KeyboardInterrupt

    call = Call([])
    lock = Lock()
    call._pending = lock  # type: ignore[assignment]
    call.complete(7)
    with pytest.raises(KeyboardInterrupt):
        call.result()
    call._pending = lock._lock
    assert call.result(0) == 7


# -- children of a fork ----------------------------------------------------------------------


def test_in_the_child_of_a_fork_nothing_hangs_and_all_says_what_to_do(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, signal, sys, threading, phextsync
from phextsync import aio
folder, A = {str(make_folder(tmp_path))!r}, {_A!r}
def open_(): return phextsync.open(folder, host='127.0.0.1', port=0, discover=False)
with open_() as owner, open_() as attached:
    for node in (owner, attached):
        memory = node.phext()
        memory[A] = 'text'
        changes, steps = memory.changes(), memory.history(A)
        waiting = threading.Event()
        def wait():
            waiting.set()
            for change in changes: pass
        threading.Thread(target=wait, daemon=True).start()
        waiting.wait()
        memory.subscribe(print, '9.*')
        child = os.fork()
        if child == 0:
            signal.alarm({int(PATIENCE_S)})
            for use in (
                lambda: memory[A], lambda: memory.append(A, 'x'), lambda: next(changes),
                lambda: steps.undo(), lambda: memory.update({{A: 'y'}}), lambda: node.synced(),
                lambda: memory.subscribe(print), lambda: node.durable(), lambda: len(memory),
                lambda: memory.pop(A), lambda: node.search('text'), lambda: memory.clear(),
            ):
                try: use()
                except phextsync.ClosedError as error:
                    assert 'open it again in process' in str(error), error
                else: os._exit(1)
            changes.close(), steps.close(), node.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert memory[A] == 'text' and node.status().running
        assert steps.can_undo is False
"""
    _run(program)


@pytest.mark.parametrize("name", ["owner", "attached"])
def test_a_child_that_was_forked_in_the_middle_of_a_wait_waits_no_more(
    tmp_path: Path, name: str
) -> None:
    _run(f"""
import os, signal, sys, threading, phextsync
main, folder = threading.main_thread().ident, {str(make_folder(tmp_path))!r}
def open_(): return phextsync.open(folder, host='127.0.0.1', port=0, discover=False)
def fork(*_):
    child = os.fork()
    if child == 0:
        signal.alarm({int(PATIENCE_S)})  # and goes on with what it waited for
    else:
        assert os.waitpid(child, 0)[1] == 0
        raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, fork)
def interrupt():
    names = []
    while 'synced' not in names:
        frame, names = sys._current_frames()[main], []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
    signal.pthread_kill(main, signal.SIGUSR1)
with open_() as owner, open_() as attached:
    threading.Thread(target=interrupt, daemon=True).start()
    try: {name}.synced(peers=1)
    except KeyboardInterrupt: pass
    except phextsync.ClosedError as error:
        assert 'open it again in process' in str(error), error
        os._exit(0)
""")


def test_a_child_of_a_fork_closes_no_socket_that_its_handles_still_use(tmp_path: Path) -> None:
    _run(f"""
import os, signal, phextsync
from phextsync import sockets
folder, A = {str(make_folder(tmp_path))!r}, {_A!r}
def open_(): return phextsync.open(folder, host='127.0.0.1', port=0, discover=False)
found = []
class Finalized:
    def detach(self):  # as a finalizer may come in between
        signal.alarm({int(PATIENCE_S)})
        try: attached.phext().append(A, 'x')
        except phextsync.ClosedError as error: found.append(str(error))
        return -1
with open_() as owner, open_() as attached:
    attached.phext()[A] = 'text'
    finalized = Finalized()
    sockets._sockets.add(finalized)
    child = os.fork()
    if child == 0:
        os._exit('open it again in process' not in ''.join(found))
    assert os.waitpid(child, 0)[1] == 0
    assert attached.phext()[A] == 'text'
""")


def _run(program: str) -> None:
    """Run a program in a process of its own, which neither fails nor prints anything. It ends what
    hangs itself."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        check=False,
        timeout=4 * PATIENCE_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# -- tasks that are cancelled ----------------------------------------------------------------


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[tuple[Engine, aio.AsyncHandle]]:
    engine = Engine(folder, OPTIONS)
    await answer(engine, engine.start())
    try:
        yield engine, aio.AsyncHandle(engine)
    finally:
        await asyncio.to_thread(engine.stop)


async def _changed(handle: aio.AsyncHandle) -> None:
    async with handle.phext().changes("9.*") as changes:
        await anext(changes)


async def _tracked(handle: aio.AsyncHandle) -> None:
    async with handle.phext().history(_A) as steps:
        await steps.can_undo()


_WAITS: list[Callable[[aio.AsyncHandle], Awaitable[object]]] = [
    lambda handle: handle.durable(),
    lambda handle: handle.synced(peers=1),
    lambda handle: handle.search("text"),
    lambda handle: handle.status(),
    lambda handle: handle.phext().get(_A),
    lambda handle: handle.phext().edit(_A, "text"),
    lambda handle: handle.phext().pop("9.1.1/1.1.1/1.1.1"),
    lambda handle: handle.phext().log(_A),
    lambda handle: handle.phext().subscribe(lambda _: None, "9.*"),
    _changed,
    _tracked,
]


@pytest.mark.parametrize("is_owner", [True, False])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_task_that_is_cancelled_anywhere_leaves_nothing_behind(
    tmp_path: Path, is_owner: bool, turns: int
) -> None:
    async def use() -> None:
        folder = make_folder(tmp_path)
        async with _opened(folder) as (engine, owner), _opened(folder) as (other, attached):
            handle = owner if is_owner else attached
            await handle.phext().edit(_A, "text")
            for wait in _WAITS:
                task = asyncio.ensure_future(wait(handle))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                found = (await asyncio.gather(task, return_exceptions=True))[0]
                if callable(found):  # it was faster: end the subscription
                    found()
            await handle.phext().append(_B, "once")
            assert await handle.phext().get(_B) == "once"
            client = (engine if is_owner else other).client
            await asyncio.to_thread(until_now, lambda: client.statistics() == (0, 0))

    asyncio.run(asyncio.wait_for(use(), 4 * PATIENCE_S))


def test_two_tasks_do_not_wait_for_the_next_change_of_one_iteration(tmp_path: Path) -> None:
    async def use() -> None:
        async with (
            _opened(make_folder(tmp_path)) as (_, handle),
            handle.phext().changes() as changes,
        ):
            first = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            with pytest.raises(PhextsyncError, match="expected one wait for the next change"):
                await anext(changes)
            await handle.phext().edit(_A, "text")
            assert str((await first).coordinates[0]) == _A

    asyncio.run(asyncio.wait_for(use(), PATIENCE_S))


# -- cancelled at the node itself ------------------------------------------------------------


async def _next_change(node: Node) -> None:
    async with node.changes("memory", "9.*") as changes:
        await anext(aiter(changes))


_NODE_WAITS: list[Callable[[Node], Awaitable[object]]] = [
    lambda node: node.durable(),
    lambda node: node.synced(peers=1),
    lambda node: node.search("text"),
    lambda node: node.find("text", "memory", EVERYTHING, limit=9),
    lambda node: node.fetch(_A),
    lambda node: node.survey(),
    lambda node: node.hold([EVERYTHING]),
    lambda node: node.import_texts([(_B, "b")]),
    _next_change,
]


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_a_wait_at_a_node_that_is_cancelled_anywhere_leaves_it_whole(
    tmp_path: Path, turns: int
) -> None:
    async def waiting(wait: Callable[[Node], Awaitable[object]], node: Node) -> None:
        await wait(node)

    with trio.fail_after(4 * PATIENCE_S):
        async with open_node(make_folder(tmp_path), **OPTIONS) as node:
            memory = node.phext()
            memory[_A] = "text"
            for wait in _NODE_WAITS:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(waiting, wait, node)
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
            memory.append(_A, ", once")
            await node.durable()
            assert memory[_A] == "text, once"
            assert [str(hit.coordinate) for hit in await node.search("once")] == [_A]
            assert not memory.statistics().tracked


def test_a_signal_handler_or_a_finalizer_reads_in_the_middle_of_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(make_folder(tmp_path)) as (engine, handle):
        handle.phext()[_A] = "text"
        replica, found = engine.client.replica, list[str]()

        def interrupted(phext: str) -> Replica | None:
            monkeypatch.setattr(engine.client, "replica", replica)
            found.append(handle.phext()[_A])
            return replica(phext)

        monkeypatch.setattr(engine.client, "replica", interrupted)
        thread = threading.Thread(target=lambda: found.append(handle.phext()[_A]), daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        assert found == ["text"] * 2
