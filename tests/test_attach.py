"""Many processes at one folder: each change once, whoever is killed; the next one takes over."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import phextsync
from benchmarks.attached import Writer, faults, place, run_writers, start_writers
from fuzz.desk import Node as DeskNode
from phextsync.control import desk as desk_module
from phextsync.control import operations
from phextsync.control.desk import Desk
from phextsync.control.frames import Value, decode_answer
from phextsync.control.sessions import Session
from phextsync.errors import AnswerLostError, PhextsyncError
from phextsync.handles.call import Call
from phextsync.index import CoordinateRange
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.store.contract import Batch
from phextsync.store.memory import MemoryStore
from sims.processes import PATIENCE_S, make_folder, mesh
from tests.engines import opened

_A = "1.1.1/1.1.1/1.1.1"


# -- receipts --------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["ask", "commit", "answer", "die"]), max_size=30))
def test_each_change_is_made_once_though_owners_die(steps: list[str]) -> None:
    store = MemoryStore()
    desk, asked = Desk(DeskNode(store)), 0
    unanswered: dict[int, list[Value]] = {}

    def ask(number: int) -> None:
        _, answer = decode_answer(desk.answer(b"me", number, 0, unanswered[number]))
        assert answer is None

    for step in [*steps, "die", "answer"]:
        match step:
            case "ask":
                asked += 1
                unanswered[asked] = ["append", "memory", _A, f"{asked}\n"]
                ask(asked)
            case "commit":  # and nobody hears of it
                desk.replicas.commit()
            case "answer":  # which only what is durable gets
                desk.replicas.commit()
                unanswered.clear()
            case "die":
                store = store.cloned()
                desk = Desk(DeskNode(store))
                for number in sorted(unanswered):
                    ask(number)
    text = desk.replicas.open("memory").get(_A, "")
    assert text == "".join(f"{n + 1}\n" for n in range(asked))


@given(
    st.lists(
        st.sampled_from(["write", "write", "undo", "redo", "commit", "answer", "die"]), max_size=30
    )
)
def test_steps_are_undone_once_though_owners_die(steps: list[str]) -> None:
    store = MemoryStore()
    desk, number = Desk(DeskNode(store)), 0
    asked: dict[int, list[Value]] = {}
    unanswered: set[int] = set()
    answers: dict[int, object] = {}

    def hold(*again: Value) -> None:
        Session(desk, b"me").begin(1, [*again, "track", "memory", _A, "writer"])

    def ask(number: int) -> None:
        frame = desk.answer(b"me", number, 0, ["as", "writer", *asked[number]])
        answers[number] = decode_answer(frame)[1]

    hold()
    for step in [*steps, "die", "answer"]:
        match step:
            case "write" | "undo" | "redo":
                number += 1
                text: list[Value] = [f"{number} "] if step == "write" else []
                asked[number] = ["append" if text else step, "memory", _A, *text]
                unanswered.add(number)
                ask(number)
            case "commit":  # and nobody hears of it
                desk.replicas.commit()
            case "answer":  # which only what is durable gets
                desk.replicas.commit()
                unanswered.clear()
            case "die":  # and its steps are forgotten
                store = store.cloned()
                desk = Desk(DeskNode(store))
                hold("again")
                for number_ in sorted(unanswered):
                    ask(number_)
    texts, undone = list[Value](), list[Value]()
    for number_, request in asked.items():
        match request[0], answers[number_]:
            case "append", None:
                texts.append(request[3])
                undone.clear()
            case "undo", True:
                undone.append(texts.pop())
            case "redo", True:
                texts.append(undone.pop())
            case _, answer:
                assert answer is False
    assert desk.replicas.open("memory").get(_A, "").split() == [str(t).strip() for t in texts]


def test_what_a_process_holds_is_bounded_and_goes_with_it() -> None:
    desk = Desk(DeskNode(MemoryStore()))
    session = Session(desk, b"me")
    session.begin(1, ["track", "memory", _A, "writer"])
    for number in range(2, 1001):
        session.begin(number, ["watch", "memory", "*", False])
    with pytest.raises(phextsync.PhextsyncError, match="at most 1000"):
        session.begin(1001, ["watch", "memory", "*", False])
    replica = desk.replicas.open("memory")
    waiting = replica.statistics()
    assert (waiting.subscribers, list(map(str, waiting.tracked))) == (999, [_A])
    session.close()
    assert replica.statistics()[:2] == (0, ())


def test_all_that_a_process_holds_ends_though_an_end_fails() -> None:
    session = Session(Desk(DeskNode(MemoryStore())), b"me")

    def fail() -> None:
        raise PhextsyncError("this end failed")

    session._ends[1] = fail
    session.begin(2, ["watch", "memory", "*", False])
    session._ends[3] = fail
    with pytest.raises(PhextsyncError, match="this end failed"):
        session.close()
    assert not session.desk.replicas.open("memory").statistics().subscribers


def test_a_setting_of_history_that_is_refused_is_no_success() -> None:
    class Refusing(MemoryStore):
        def commit(self, batch: Batch) -> None:
            super().commit(replace(batch, history=(), kept=None))
            self.refused_history = True

    class Node(DeskNode):
        async def durable(self) -> None:
            batch = self.replicas.durability.take()
            assert batch is not None
            self.replicas.store.commit(batch)
            self.replicas.durability.written()

    desk = Desk(Node(Refusing()))
    request: list[Value] = ["keep_history", 7]
    with pytest.raises(phextsync.PhextsyncError, match="could not be written"):
        trio.run(desk.wait, request)
    assert desk.ask(["history"]) == [[None, "*", 0]]


def test_an_answer_is_kept_until_the_process_has_it_and_while_it_is_short() -> None:
    store = MemoryStore()
    desk = Desk(DeskNode(store))
    requests: list[list[Value]] = [
        ["setdefault", "memory", _A, "short"],
        ["append", "memory", _A, "x" * 5000],
        ["pop", "memory", _A],
        ["splice", "memory", _A, 9, 9, "there is no such place", b""],
    ]
    answers = [
        decode_answer(desk.answer(b"me", number, 0, request))[1]
        for number, request in enumerate(requests, 1)
    ]
    desk.replicas.commit()
    again = Desk(DeskNode(store.cloned()))
    repeated = [
        decode_answer(again.answer(b"me", number, 1, request))[1]
        for number, request in enumerate(requests, 1)
    ]
    assert answers[0] == "short"
    assert isinstance(repeated[0], AnswerLostError)  # it had said that it has this one
    assert repeated[1] is None
    assert isinstance(answers[2], str)
    assert isinstance(repeated[2], AnswerLostError)
    assert isinstance(repeated[3], IndexError)
    assert str(repeated[3]) == str(answers[3])
    assert _A not in again.replicas.open("memory")


def test_others_hear_of_a_change_that_may_come_again_when_it_has_its_receipt() -> None:
    desk = Desk(DeskNode(MemoryStore()))
    told: list[NewUpdate] = []
    desk.replicas.listen(ReplicaListener(on_update=told.append))
    desk.answer(b"me", 1, 0, ["append", "memory", _A, "x"])
    desk.ask(["append", "memory", _A, "x"], b"me")
    assert [new.durable_first for new in told if new.phext == "memory"] == [True, False]


def test_the_receipt_of_a_process_goes_with_it() -> None:
    store = MemoryStore()
    desk = Desk(DeskNode(store))
    desk.answer(b"me", 1, 0, ["append", "memory", _A, "x"])
    desk.replicas.commit()
    assert list(store.receipts()) == [b"me"]
    desk.left(b"me")
    desk.replicas.commit()
    assert store.receipts() == {}


async def test_fifty_looks_at_the_past_leave_a_thread_to_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end = threading.Event()
    answer = partial(may_end.wait, PATIENCE_S)
    monkeypatch.setattr(desk_module, "look_back", lambda replicas, request: answer)
    session = Session(Desk(DeskNode(MemoryStore())), b"me")
    async with trio.open_nursery() as nursery:
        for label in range(50):
            request: list[Value] = ["as", str(label), "log", "memory", _A, None]
            nursery.start_soon(session.wait, request)
        await trio.testing.wait_all_tasks_blocked()
        try:
            with trio.fail_after(PATIENCE_S / 2):
                await trio.to_thread.run_sync(session.desk.replicas.commit)
        finally:
            may_end.set()


# -- processes -------------------------------------------------------------------------------


@pytest.mark.real
def test_ten_processes_write_at_once_and_all_is_there_in_order(tmp_path: Path) -> None:
    _, found = run_writers(make_folder(tmp_path), 10, 200)
    assert found == (0, 0, 0)


@contextmanager
def _writers(folder: Path, count: int, writes: int) -> Iterator[list[Writer]]:
    writers = start_writers(folder, count, writes)
    try:
        yield writers
    finally:
        for writer in writers:
            writer.process.kill()
            writer.process.join()


@pytest.mark.real
@pytest.mark.crash
def test_three_owners_killed_in_a_row_lose_and_double_nothing(tmp_path: Path) -> None:
    folder, count = make_folder(tmp_path), 5
    with _writers(folder, count, 1_000_000) as writers:
        killed: set[int] = set()
        for _ in range(3):
            _wait_for_progress(writers, killed)
            owner = _owner(folder)
            killed |= {writer.name for writer in writers if writer.process.pid == owner}
            os.kill(owner, signal.SIGKILL)
        _wait_for_progress(writers, killed)
        living = [writer for writer in writers if writer.name not in killed]
        for writer in living:
            writer.pipe.send("stop")
        for writer in living:
            writer.process.join(PATIENCE_S)
        assert [writer.process.exitcode for writer in living] == [0, 0]
        acknowledged = [writer.acknowledged() for writer in writers]
    with phextsync.open(folder, host="127.0.0.1", port=0, discover=False) as handle:
        texts = {name: handle.phext()[place(name)] for name in range(count)}
    for name in killed:
        # What an owner wrote itself and did not wait for may be gone with it, but only the end.
        acknowledged[name] = sum(line.startswith(f"{name} ") for line in texts[name].splitlines())
    assert faults(texts, acknowledged) == (0, 0, 0)


@pytest.mark.real
@pytest.mark.crash
def test_an_owner_that_is_killed_leaves_each_step_done_or_undone_once(tmp_path: Path) -> None:
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        process.start()
        with opened(process.folder) as (engine, handle), handle.phext().history(_A, "writer"):
            asked: list[tuple[str, Call]] = []
            for number in range(600):
                request: list[Value] = ["memory", _A]
                if number % 3 == 2:
                    call = engine.begin(operations.UNDO, *request, writer="writer")
                else:
                    request.append(f"{number} ")
                    call = engine.begin(operations.APPEND, *request, writer="writer")
                asked.append((f"{number}", call))
                if number == 300:
                    asked[100][1].result(PATIENCE_S)
                    process.stop(signal.SIGKILL)
            written: list[str] = []
            for name, call in asked:
                answer = call.result(PATIENCE_S)
                assert answer in (None, True, False)
                if answer is None:
                    written.append(name)
                elif answer:
                    written.pop()
            assert handle.is_owner
            assert handle.phext()[_A].split() == written


@pytest.mark.real
def test_watchers_and_waiting_calls_move_to_the_next_owner(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    with _open(folder) as heir, _open(folder) as first:  # which is attached
        assert heir.is_owner
        changes = first.phext().changes("1.*")
        heir.phext()[_A] = "before"
        assert [str(c) for c in next(changes).coordinates] == [_A]
        steps = first.phext().history(_A)
        first.phext().append(_A, ", here")
        assert steps.can_undo
        heir.close()
        assert not steps.undo()  # its history is gone, and nobody else's is taken
        assert first.is_owner
        first.phext().append(_A, ", gone")
        assert steps.undo()
        first.phext().append(_A, ", after")
        assert next(changes).missed == CoordinateRange.parse("1.*")
        assert first.phext()[_A] == "before, here, after"


def _open(folder: Path) -> phextsync.Handle:
    return phextsync.open(folder, host="127.0.0.1", port=0, discover=False)


def _owner(folder: Path) -> int:
    """Return the process that owns the folder."""
    return int((folder / "store.lock").read_text().split()[0])


def _wait_for_progress(writers: list[Writer], killed: set[int]) -> None:
    """Wait until every writer that lives has twenty more lines acknowledged."""
    living = [writer for writer in writers if writer.name not in killed]
    wanted = [writer.acknowledged() + 20 for writer in living]
    deadline = time.monotonic() + PATIENCE_S
    while any(w.acknowledged() < n for w, n in zip(living, wanted, strict=True)):
        assert time.monotonic() < deadline, "the writers do not get on"
        time.sleep(0.01)
