"""What a caller's own thread does while the node's loop waits: as if the loop had done it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from threading import Event, get_ident
from typing import Any

import pycrdt
import pytest
import trio

import phextsync
from benchmarks.nodes import make_folders
from phextsync import ClosedError, Coordinate, Handle, MemoryStore, Phext, ReplicaSet, writing_as
from phextsync.control import operations
from phextsync.control.desk import Desk
from phextsync.control.frames import Value
from phextsync.control.operations import unsigned
from phextsync.crdt import Scroll
from phextsync.handles.bell import Bell
from phextsync.handles.turn import Turn
from phextsync.replica.changes import current_session, current_writer
from phextsync.replica.durability import Durability
from phextsync.replica.halves import Halves
from phextsync.replica.listener import Listeners, NewUpdate, ReplicaListener
from phextsync.replica.pending import Pending
from phextsync.replica.replica import Replica
from phextsync.sync.relay import Relay
from sims.processes import PATIENCE_S, make_folder
from tests.engines import opened
from tests.interrupting import Interrupt
from tests.outcomes import Outcome

_A, _B, _C = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1", "3.1.1/1.1.1/1.1.1"


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the tests may handle signals, for a time-out."""
    monkeypatch.setattr("phextsync.handles.turn.has_handlers", lambda: False)


# -- turns ---------------------------------------------------------------------------------


class Ring:
    """Wakes a loop, as a bell does; interrupts come before it rings the first times."""

    def __init__(self, interrupts: int = 0) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._interrupts = interrupts
        self.rung = 0

    def __call__(self) -> None:
        if self._interrupts:
            self._interrupts -= 1
            raise KeyboardInterrupt
        self.rung += 1
        self._token.run_sync_soon(int)


def _let_others_run() -> None:
    time.sleep(0)


def _taken(turn: Turn, call: Callable[[object], object]) -> object:
    """Return what a call gives in a turn of this thread, as soon as the loop waits."""
    while (given := turn.take(call, None)) is None:
        _let_others_run()
    return given


@pytest.fixture
async def turn() -> Any:
    turn = Turn(int, Ring())
    turn.begin()
    yield turn
    trio.lowlevel.remove_instrument(turn)


async def test_a_thread_has_a_turn_while_the_loop_waits_and_never_else(turn: Turn) -> None:
    assert Outcome(lambda: turn.take(str, 1)).result() is None
    assert await trio.to_thread.run_sync(_taken, turn, str) == "None"
    with turn.given():
        assert Outcome(lambda: turn.take(str, 1)).result() == "1"
    assert Outcome(lambda: turn.take(str, 1)).result() is None


async def test_nothing_may_wait_in_the_loops_thread_even_as_it_gives_its_turn(turn: Turn) -> None:
    assert turn.is_mine
    with turn.given():  # a finalizer may come in between
        assert turn.is_mine
        assert Outcome(lambda: turn.is_mine).result() is False
    turn.end()
    assert not turn.is_mine


async def test_a_thread_does_not_keep_a_turn_that_the_loop_wants(turn: Turn) -> None:
    token, is_over = trio.lowlevel.current_trio_token(), trio.Event()
    order: list[str] = []

    def work(_: object) -> bool:
        token.run_sync_soon(order.append, "loop")  # which ends its wait
        while not turn.is_wanted:
            _let_others_run()
        order.append("thread")
        return True

    def take() -> None:
        _taken(turn, work)
        turn.take(order.append, "again")
        token.run_sync_soon(is_over.set)

    thread = Outcome(take)
    await is_over.wait()
    assert thread.result() is None
    assert order[:2] == ["thread", "loop"]


async def test_nobody_has_a_turn_after_the_end_though_the_loop_ended_while_it_waited(
    turn: Turn,
) -> None:
    with turn.given():
        turn.end()
        assert Outcome(lambda: turn.take(str, 1)).result() is None


async def test_a_thread_knows_that_it_is_in_the_middle_of_its_turn(turn: Turn) -> None:
    assert [turn.is_mine] == [True]  # the loop, too, must not wait for itself
    found = await trio.to_thread.run_sync(_taken, turn, lambda _: [turn.is_mine])
    assert found == [True]
    assert not await trio.to_thread.run_sync(lambda: turn.is_mine)
    turn.end()
    assert not turn.is_mine


@pytest.mark.parametrize("interrupts", [0, 1])
async def test_a_turn_is_given_back_and_the_loop_is_woken_whatever_ends_it(interrupts: int) -> None:
    ring, is_back = Ring(interrupts), trio.Event()
    turn = Turn(lambda: is_back.set() if ring.rung else None, ring)
    turn.begin()

    def fail(_: object) -> None:
        turn.wake_loop()
        raise ValueError

    thread = Outcome(lambda: _taken(turn, fail))
    await is_back.wait()
    assert isinstance(thread.result(), KeyboardInterrupt if interrupts else ValueError)
    assert ring.rung == 1
    assert await trio.to_thread.run_sync(_taken, turn, str) == "None"
    trio.lowlevel.remove_instrument(turn)


# -- telling -------------------------------------------------------------------------------


def test_what_is_told_later_is_what_would_have_been_told_at_once() -> None:
    replicas = ReplicaSet(MemoryStore(), node_id=b"n" * 16, random=Random(1), wall_time_ms=int)
    replica = replicas.phext("memory")
    told: list[str] = []
    later: list[Callable[[], None]] = []
    replicas.listen(
        ReplicaListener(
            on_update=lambda new: told.append(f"{new.coordinate}"),
            on_dirty=lambda: told.append("dirty"),
        )
    )
    replica.subscribe(lambda change: told.append(change.label))

    def change() -> list[str]:
        replicas.commit()
        told.clear()
        with writing_as("agent"):
            replica.append(_A, "x")
        replica.append(_B, "y")
        return told.copy()

    change()  # which notes the client ids
    at_once = ["dirty", _A, "agent", "dirty", _B, ""]
    assert change() == at_once
    replicas.listeners.tell_later(later.append)
    assert change() == []
    for call in later:
        call()
    assert told == at_once
    replicas.listeners.tell_now()
    assert change() == at_once


def _broken_off(replica: Replica, part: type, name: str, *, is_made: bool) -> None:
    """Append to a scroll with an interrupt when a part has done what it does, and mend that."""
    done = getattr(part, name)

    def interrupted(*arguments: object) -> object:
        done(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(part, name, interrupted)
        mark = replica.mending.mark(Coordinate.parse(_A))
        with pytest.raises(KeyboardInterrupt):
            replica.append(_A, "x")
    replica.mending.mend(Coordinate.parse(_A), mark)
    assert replica.get(_A) == ("x" if is_made else None)


@pytest.mark.parametrize(
    ("part", "name", "is_made"),
    [(Pending, "put", False), (Durability, "changed", False), (Halves, "note", True)],
)
def test_a_change_that_broke_off_is_made_and_told_or_leaves_nothing(
    part: type, name: str, is_made: bool
) -> None:
    replicas = ReplicaSet(MemoryStore(), node_id=b"n" * 16, random=Random(1), wall_time_ms=int)
    replica = replicas.phext("memory")
    replica.append(_B, "known")
    replicas.commit()
    told: list[Coordinate] = []
    replicas.listen(ReplicaListener(on_update=lambda new: told.append(new.coordinate)))
    changed: list[Coordinate] = []
    replica.subscribe(lambda change: changed.extend(change.coordinates))
    replica.edit(_A, "")  # which opens a document, and writes nothing
    _broken_off(replica, part, name, is_made=is_made)
    replicas.commit()
    assert list(map(str, told)) == list(map(str, changed)) == is_made * [_A]
    assert (_A in replica.index) is is_made


# -- handles -------------------------------------------------------------------------------


class Watch:
    """Which requests a node has carried out, and in which threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Value, int]] = []
        self.within: Callable[[], object] = int  # is called in the middle of each
        ask = Desk.ask

        def note(desk: Desk, request: list[Value], *client: bytes) -> Value:
            self.asked.append((unsigned(request)[0], get_ident()))
            self.within()
            return ask(desk, request, *client)

        monkeypatch.setattr(Desk, "ask", note)

    def is_direct(self, call: Callable[[], object]) -> bool:
        """Do something, and return whether this thread did it itself."""
        self.asked.clear()
        call()
        return get_ident() in (thread for _, thread in self.asked)

    def until_direct(self, call: Callable[[], object]) -> int:
        """Do something until this thread does it itself; return how often it was done."""
        count = 1
        while not self.is_direct(call):
            count += 1
        return count


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[Handle]:
    with opened(make_folder(tmp_path)) as (_, handle):
        handle.phext().append(_A, "begin\n")
        yield handle


def _made(phext: Phext, name: str, number: int) -> str:
    """Do something to a scroll; return what its text is then."""
    before, new = phext.get(_A, ""), f"line {number}\n"
    match name:
        case "append":
            phext.append(_A, new)
        case "append_line":
            assert phext.append_line(_A, new) == new
        case "edit":
            phext.edit(_A, before + new, seen=before)
        case "edit_from":
            phext.edit_from(_A, before, before + new)
        case "replace":
            phext.replace(_A, before, before + new)
        case "pop":
            assert phext.pop(_A, "") == before
            return ""
        case "clear_scroll":
            assert phext.clear_scroll(_A) == bool(before)
            return ""
        case "setdefault":
            return phext.setdefault(_A, new)
    return before + new


@pytest.mark.real
@pytest.mark.parametrize("label", ["", "agent"])
@pytest.mark.parametrize(
    "name",
    ["append", "append_line", "edit", "edit_from", "replace", "pop", "clear_scroll", "setdefault"],
)
def test_what_touches_one_open_scroll_is_done_where_it_is_asked_for(
    handle: Handle, watch: Watch, name: str, label: str
) -> None:
    phext, numbers = handle.phext(), iter(range(1 << 30))

    def make() -> None:
        text = _made(phext, name, next(numbers))
        assert phext.get(_A, "") == text
        if name in ("pop", "clear_scroll"):
            phext.append(_A, "begin\n")

    with writing_as(label):
        watch.until_direct(make)
        text = phext.get(_A)
        handle.durable()
    assert watch.until_direct(lambda: phext.size(_A))
    assert phext.get(_A) == text


@pytest.mark.real
def test_what_touches_more_is_done_in_the_thread_of_the_node(handle: Handle, watch: Watch) -> None:
    phext = handle.phext()
    calls: list[Callable[[], object]] = [
        lambda: phext.insert(_A, 0, "x"),
        lambda: phext.update({_A: "x", _B: "y"}),
        lambda: phext.import_text(_A, "x"),
        lambda: phext.position(_A, 0),
        lambda: phext.count(),
        lambda: phext.clear("2.*"),
    ]
    for call in calls:
        watch.until_direct(lambda: phext.append(_A, "x"))
        assert not watch.is_direct(call)
    for number in range(20):
        watch.until_direct(lambda: phext.append(_A, "x"))
        with writing_as(f"new {number}"):  # whose client id others are to be told of
            assert not watch.is_direct(lambda: phext.append(_A, "x"))
    with phext.history(_A) as history:
        assert not any(watch.is_direct(lambda: phext.append(_A, "step")) for _ in range(50))
        assert history.undo()
    with phext.changes(texts=True) as changes:
        assert not any(watch.is_direct(lambda: phext.append(_A, ".")) for _ in range(50))
        (text,) = next(changes).texts
        assert text.old == text.new[: len(text.old or "")]


@pytest.mark.real
def test_an_error_of_a_change_is_its_own_and_changes_nothing(handle: Handle, watch: Watch) -> None:
    phext = handle.phext()

    def fail() -> None:
        with pytest.raises(phextsync.TextError):
            phext.append(_A, "\x17")
        with pytest.raises(phextsync.ConflictError):
            phext.edit(_A, "other", seen="another")

    watch.until_direct(fail)
    assert phext[_A] == "begin\n"
    watch.until_direct(lambda: phext.append(_A, "."))


@pytest.mark.real
def test_nothing_goes_before_what_its_thread_asked_for_earlier(tmp_path: Path) -> None:
    with opened(make_folder(tmp_path)) as (engine, handle):
        phext = handle.phext()
        for _ in range(300):  # as an interrupted call, of which nobody awaits the answer
            engine.begin(operations.APPEND, "memory", _A, "a")
            phext.append(_A, "b")
        assert phext[_A] == 300 * "ab"


@pytest.mark.real
def test_what_hears_of_a_change_hears_who_made_it_in_the_thread_of_the_node(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []
    take = Relay.take

    def note(relay: Relay, new: NewUpdate) -> None:
        if new.phext == "memory":
            told.append((current_writer(), get_ident()))
        take(relay, new)

    monkeypatch.setattr(Relay, "take", note)
    with opened(make_folder(tmp_path)) as (_, handle), writing_as("agent"):
        phext = handle.phext()
        with phext.changes() as changes:
            count = watch.until_direct(lambda: phext.append(_A, "x"))
            handle.durable()
            assert next(changes).label == "agent"
    assert [writer for writer, _ in told] == count * ["agent"]
    assert get_ident() not in (thread for _, thread in told)


@pytest.mark.real
def test_the_node_is_woken_for_what_others_are_to_hear(
    handle: Handle, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    ring = Bell.ring

    def note(bell: Bell) -> None:
        rung.append(get_ident())
        ring(bell)

    monkeypatch.setattr(Bell, "ring", note)
    phext = handle.phext()

    def change() -> None:
        handle.durable()
        rung.clear()
        phext.append(_A, "x")

    watch.until_direct(change)
    assert rung == [get_ident()]


class Panic(BaseException):
    """What comes out of Yrs when it panics is no Exception."""


@pytest.mark.real
def test_what_fails_when_it_is_told_ends_no_turn(
    handle: Handle, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trio lets go of an instrument that fails: then nothing would be told any more."""
    phext = handle.phext()

    def fail(*_: object) -> None:
        raise Panic

    with monkeypatch.context() as patched:
        patched.setattr(Listeners, "_tell_of", fail)  # which only those call who tell later
        watch.until_direct(lambda: phext.append(_A, "x"))
        handle.durable()
    assert "Panic" in handle.status().errors.last
    watch.until_direct(lambda: phext.append(_A, "x"))
    handle.durable()


@pytest.mark.real
def test_a_call_in_the_middle_of_a_change_is_refused(handle: Handle, watch: Watch) -> None:
    phext, errors = handle.phext(), list[str]()

    def use_it() -> None:
        """Do what a finalizer may do."""
        if watch.asked[-1][1] != main or errors:
            return
        for use in (lambda: phext.append(_A, "!"), phext.keys().__len__, handle.close):
            with pytest.raises(RuntimeError, match="from within the node") as caught:
                use()
            errors.append(str(caught.value))
        thread = Outcome(partial(phext.append, _B, "other"))
        assert thread.is_alive()
        threads.append(thread)

    main, threads = get_ident(), list[Outcome]()
    watch.within = use_it
    count = watch.until_direct(lambda: phext.append(_A, "x"))
    assert len(errors) == 3
    assert [thread.result() for thread in threads] == [None]
    assert phext[_A] == "begin\n" + count * "x"
    assert phext[_B] == "other"


# -- interrupts ----------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(("name", "stride"), [("append", 2), ("edit", 5), ("append_line", 5)])
def test_an_interrupt_anywhere_leaves_a_change_made_or_not_made(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, name: str, stride: int
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", print)  # what comes within a finalizer ends there
    folders = make_folders(tmp_path, "one", "other")
    with opened(folders[0]) as (_, handle):
        peers = [f"127.0.0.1:{handle.status().port}"]
        with opened(folders[1], peers) as (_, follower):
            phext, number, step = handle.phext(), 0, 0
            phext.append(_A, "begin\n")
            lines, doubtful = ["begin"], set[str]()
            while True:
                phext.position(_A, 0)  # which opens its document again
                before = phext[_A]
                line = f"line {number}"
                number += 1
                with Interrupt(step) as interrupt:
                    try:
                        is_direct = watch.is_direct(partial(_make_line, phext, name, before, line))
                        lines.append(line)
                    except KeyboardInterrupt:
                        doubtful.add(line)
                step += stride * interrupt.has_come
                phext.append(_A, f"after {number}\n")
                lines.append(f"after {number}")
                if not interrupt.has_come and is_direct:
                    break
            found = phext[_A].splitlines()
            assert [line for line in found if line not in doubtful] == lines
            assert len(set(found)) == len(found)
            handle.synced(peers=1, timeout_s=PATIENCE_S)
            assert follower.phext()[_A].splitlines() == found
            assert handle.status().errors.count == 0
            assert step > 100 * stride
    assert current_session() == b""
    with opened(folders[0]) as (_, handle):
        assert handle.phext()[_A].splitlines() == found


@pytest.mark.real
def test_an_interrupt_before_a_change_keeps_nothing_from_being_told(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_later = Listeners.tell_later

    def interrupted(*arguments: Any) -> None:
        tell_later(*arguments)
        raise KeyboardInterrupt

    with opened(make_folder(tmp_path)) as (_, handle):
        phext = handle.phext()
        phext.append(_A, "begin")
        with phext.changes("2.*") as changes:
            with monkeypatch.context() as patched:
                patched.setattr(Listeners, "tell_later", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    watch.until_direct(lambda: phext.append(_A, "x"))
            phext.append(_B, "x")  # in the thread of the node, since it is not open
            change = Outcome(lambda: next(changes)).result()
            assert isinstance(change, phextsync.Change)
            assert list(map(str, change.coordinates)) == [_B]


@pytest.mark.real
def test_an_interrupt_of_a_read_harms_no_change_after_it(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    phext, leave, main = handle.phext(), pycrdt.Transaction.__exit__, get_ident()
    interrupts = list[int]()

    def interrupted(transaction: pycrdt.Transaction, *error: Any) -> None:
        if get_ident() in interrupts:
            raise KeyboardInterrupt  # as at the beginning of any function
        leave(transaction, *error)

    monkeypatch.setattr(pycrdt.Transaction, "__exit__", interrupted)

    def is_interrupted() -> bool:
        """Read what has to be read again after a change; the node's thread may do it."""
        phext.insert(_A, 0, ".")
        interrupts.append(main)
        try:
            phext.get(_A)
        except KeyboardInterrupt:
            return True
        finally:
            interrupts.clear()
        return False

    while not is_interrupted():
        pass
    phext.edit(_A, "after")
    assert phext[_A] == "after"
    handle.durable()


def _make_line(phext: Phext, name: str, before: str, line: str) -> None:
    match name:
        case "append":
            phext.append(_A, f"{line}\n")
        case "edit":
            phext.edit(_A, f"{before}{line}\n")
        case "append_line":
            phext.append_line(_A, line)


# -- many at once --------------------------------------------------------------------------


@pytest.mark.real
def test_what_threads_the_node_and_a_peer_do_at_once_is_made_once_and_told_in_order(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[NewUpdate] = []
    take = Relay.take

    def note(relay: Relay, new: NewUpdate) -> None:
        told.append(new)
        take(relay, new)

    monkeypatch.setattr(Relay, "take", note)
    folders = make_folders(tmp_path, "one", "other")
    keys = [_A, _B, _C]
    with opened(folders[0]) as (_, handle):
        peers = [f"127.0.0.1:{handle.status().port}"]
        with opened(folders[1], peers) as (_, follower):
            handle.phext().append(_A, "begin\n")
            handle.synced(peers=1, timeout_s=PATIENCE_S)
            heard = [set[Coordinate](), set[Coordinate]()]
            changes = [each.phext().changes() for each in (handle, follower)]

            def listen(to: int) -> None:
                for change in changes[to]:
                    heard[to].update(change.coordinates)

            def write(name: int) -> None:
                phext, random = (follower if name == 4 else handle).phext(), Random(name)
                for number in range(200):
                    key, line = random.choice(keys), f"{name}.{number}"
                    if name == 3:  # in the thread of the node
                        phext.update({f"4.1.1/1.1.1/1.1.{number + 1}": line})
                        phext.insert(key, 0, f"{line}\n")
                    else:
                        phext.append(key, f"{line}\n")

            listening = [Outcome(partial(listen, to)) for to in range(2)]
            threads = [Outcome(partial(write, name)) for name in range(5)]
            assert [thread.result() for thread in threads] == 5 * [None]
            assert watch.until_direct(lambda: handle.phext().append(_A, "end\n"))
            for each in (handle, follower, handle):
                each.synced(peers=1, timeout_s=PATIENCE_S)
            texts = dict(handle.phext())
            assert dict(follower.phext()) == texts
            for feed in changes:
                feed.close()
            assert [thread.result() for thread in listening] == [None, None]
            assert heard == 2 * [set(map(Coordinate.parse, map(str, texts)))]
    _check_lines([texts[Coordinate.parse(key)].split() for key in keys])
    _check_order(told)


def _check_lines(texts: list[list[str]]) -> None:
    """Check that each line was written once, and those of a thread that appends in its order."""
    numbers = [(name, number) for name in range(5) for number in range(200)]
    lines = [line for text in texts for line in text if "." in line]
    assert sorted(lines) == sorted(f"{name}.{number}" for name, number in numbers)
    for text in texts:
        for name in (0, 1, 2):
            mine = [int(line[2:]) for line in text if line.startswith(f"{name}.")]
            assert mine == sorted(mine)


def _check_order(told: list[NewUpdate]) -> None:
    """Check that nobody was told of an update before those that it builds on: of the clock of a
    client nothing is left out."""
    for coordinate in {new.coordinate for new in told}:
        scroll = Scroll(coordinate, 1)
        for new in told:
            if new.phext == "memory" and new.coordinate == coordinate:
                assert scroll.apply(new.entry.update).covered


@pytest.mark.real
def test_a_change_that_races_with_the_end_is_either_kept_or_refused(
    tmp_path: Path, watch: Watch
) -> None:
    folder, keys = make_folder(tmp_path), [_A, _B, _C]
    made = dict.fromkeys(keys, "")
    with opened(folder) as (_, handle):
        phext = handle.phext()
        began = [Event() for _ in keys]

        def write(key: str, has_begun: Event) -> None:
            while True:
                phext.append(key, ".")
                made[key] += "."
                if len(made[key]) > 100:
                    has_begun.set()

        threads = [Outcome(partial(write, *of)) for of in zip(keys, began, strict=True)]
        for has_begun in began:
            assert has_begun.wait(PATIENCE_S)
        handle.close()
        assert all(isinstance(thread.result(), ClosedError) for thread in threads)
        late = [Outcome(partial(phext.append, _A, "late")) for _ in range(5)]
        assert all(isinstance(thread.result(), ClosedError) for thread in late)
        with pytest.raises(ClosedError):
            phext.get(_A)
    with opened(folder) as (_, handle):
        assert {str(key): text for key, text in handle.phext().items()} == made


def _run(program: str) -> None:
    """Run a program in a process of its own, which neither fails nor prints anything."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        check=False,
        timeout=4 * PATIENCE_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.real
def test_where_signals_are_handled_the_main_thread_leaves_changes_to_the_node(
    tmp_path: Path,
) -> None:
    _run(
        "import signal, threading, phextsync\n"
        "from phextsync.control.desk import Desk\n"
        "ask, threads = Desk.ask, set()\n"
        "def note(*arguments):\n"
        "    threads.add(threading.current_thread())\n"
        "    return ask(*arguments)\n"
        "Desk.ask = note\n"
        f"with phextsync.open({str(make_folder(tmp_path))!r}, host='127.0.0.1', port=0,"
        " discover=False) as node:\n"
        f"    memory, A, main = node.phext(), {_A!r}, threading.main_thread()\n"
        "    while main not in threads: memory.append(A, 'x')\n"
        "    signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "    threads.clear()\n"
        "    for _ in range(100): memory.append(A, 'x')\n"
        "    assert main not in threads\n"
    )


@pytest.mark.real
def test_a_fork_in_the_middle_of_a_change_leaves_the_child_nothing_to_wait_for(
    tmp_path: Path,
) -> None:
    _run(
        "import os, threading, phextsync\n"
        "from phextsync.control.desk import Desk\n"
        f"node = phextsync.open({str(make_folder(tmp_path))!r}, host='127.0.0.1', port=0,"
        " discover=False)\n"
        f"memory, A, ask, written = node.phext(), {_A!r}, Desk.ask, []\n"
        "held, goes_on = threading.Event(), threading.Event()\n"
        "def slow(*arguments):\n"
        "    if threading.current_thread() is writer and not held.is_set():\n"
        "        fork()\n"  # as a signal handler might
        "        held.set()\n"
        "        goes_on.wait()\n"
        "    return ask(*arguments)\n"
        "def write():\n"
        "    while not held.is_set():\n"
        "        memory.append(A, 'x')\n"
        "        written.append('x')\n"
        "def fork():\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        for use in (lambda: memory.append(A, 'y'), lambda: memory[A], node.close):\n"
        "            try: use()\n"
        "            except phextsync.ClosedError as error: assert 'before a fork' in str(error)\n"
        "            else: assert use == node.close\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "writer = threading.Thread(target=write)\n"
        "Desk.ask = slow\n"
        "writer.start()\n"
        "held.wait()\n"
        "fork()\n"
        "goes_on.set()\n"
        "writer.join()\n"
        "assert memory[A] == ''.join(written)\n"
        "node.close()\n"
    )
