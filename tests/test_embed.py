"""A folder behind plain calls: any thread, read while it is written, stopped cleanly, forked."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import phextsync
from benchmarks.nodes import make_folders
from phextsync import (
    Change,
    ClosedError,
    ConflictError,
    Coordinate,
    CoordinateError,
    CoordinateRange,
    Handle,
    HistorySetting,
    IdentityError,
    MemoryStore,
    NotSyncedError,
    Phext,
    PhextsyncError,
    ReplicaSet,
    TextChange,
    TextError,
    writing_as,
)
from phextsync.conflicts import Conflict
from phextsync.control import operations
from phextsync.control.client import Attachment
from phextsync.control.frames import Value
from phextsync.control.operations import Operation
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.conflict_log import ConflictLog
from phextsync.handles.call import Call
from phextsync.replica.past import LoggedChange, Past
from phextsync.store.lmdb_store import LmdbStore
from sims.processes import PATIENCE_S, make_folder
from tests.clocks import next_millisecond
from tests.engines import opened

pytestmark = pytest.mark.real

_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"


def _open(folder: Path) -> Handle:
    return phextsync.open(folder, host="127.0.0.1", port=0, discover=False)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Handle, Handle]]:
    """An owner and a handle that is attached to it."""
    folder = make_folder(tmp_path_factory.mktemp("shared"))
    with _open(folder) as owner, _open(folder) as attached:
        yield owner, attached


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[Handle]:
    with _open(make_folder(tmp_path)) as handle:
        yield handle


def _asked(folder: Path, operation: Operation[None], *arguments: Value) -> None:
    """Ask for something as the command line does."""
    with Attachment(folder) as attachment:
        operation.ask(attachment, *arguments)


def _run(folder: Path, program: str) -> str:
    """Run a program in a process of its own; `memory` is what it has of the folder."""
    head = (
        "import os, signal, sys, threading, time, phextsync\n"
        f"def open_(): return phextsync.open({str(folder)!r}, host='127.0.0.1', port=0, "
        "discover=False)\n"
        f"A = {_A!r}\nnode = open_()\nmemory = node.phext()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + program],
        capture_output=True,
        check=False,
        timeout=4 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return done.stdout.decode()


# -- near ----------------------------------------------------------------------------------


def test_both_handles_find_the_nearest_scrolls(shared: tuple[Handle, Handle]) -> None:
    owner, attached = shared
    attached.phext("near").update({_A: "one\nmore\n", _B: "two", "2.1.1/1.1.1/1.1.2": "three"})
    for handle in (owner, attached):
        found = handle.phext("near").near(_A, 2)
        assert [(row.distance, str(row.coordinate)) for row in found] == [(0, _A), (1, _B)]
        assert (found[0].size, found[0].first_line) == (9, "one")
        (row,) = handle.phext("near").near(_B, 40, "2.*", itself=False)
        assert (row.distance, row.first_line) == (1, "three")
        with pytest.raises(PhextsyncError, match="from 1 to 2000, found 2001"):
            handle.phext("near").near(_A, 2001)


# -- search ----------------------------------------------------------------------------------


def test_what_one_handle_wrote_another_finds(shared: tuple[Handle, Handle]) -> None:
    owner, attached = shared
    notes = attached.phext("found")
    notes.update({_A: "the milk of the cow\n", _B: "bread\n", "2.1.1/1.1.1/1.1.2": "more milk"})
    attached.durable(timeout_s=PATIENCE_S)
    for handle in (owner, attached):
        hits = handle.search("milk", "found", timeout_s=PATIENCE_S)
        assert {str(hit.coordinate) for hit in hits} == {_A, "2.1.1/1.1.1/1.1.2"}
        (hit,) = handle.search("milk", "found", "2.*", limit=1, timeout_s=PATIENCE_S)
        assert hit.snippet == "more [milk]"
        with pytest.raises(CoordinateError):
            handle.search("milk", "found", "nowhere", timeout_s=PATIENCE_S)


def test_a_line_is_added_as_a_line_of_its_own(shared: tuple[Handle, Handle]) -> None:
    owner, attached = shared
    lines = owner.phext("lines")
    assert lines.append_line(_A, "one") == "one\n"
    assert attached.phext("lines").append_line(_A, "two\n") == "two\n"
    lines.append(_A, "three")
    assert attached.phext("lines").append_line(_A, "four\nfive") == "\nfour\nfive\n"
    assert lines[_A] == "one\ntwo\nthree\nfour\nfive\n"


# -- the mapping -----------------------------------------------------------------------------

_keys = st.sampled_from([_A, _B, "2.1.1/1.1.1/1.1.2", "3.1.1/1.1.1/1.1.1"])
_texts = st.text("ab\né", max_size=5)
_steps = st.lists(
    st.tuples(st.sampled_from(["set", "append", "pop", "del", "default", "update"]), _keys, _texts)
)


def _step(phext: Phext | dict[str, str], step: tuple[str, str, str]) -> object:
    operation, key, text = step
    match operation:
        case "set":
            phext[key] = text
        case "append" if isinstance(phext, dict):
            phext[key] = phext.get(key, "") + text
        case "append" if isinstance(phext, Phext):
            phext.append(key, text)
        case "pop":
            return phext.pop(key, None)
        case "del" if key in phext:
            del phext[key]
        case "default" if text:
            return phext.setdefault(key, text)
        case "update":
            phext.update({key: text, _A: "x"})
    return None


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
@settings(
    max_examples=25,
    suppress_health_check=[
        *settings().suppress_health_check,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(_steps)
def test_a_handle_is_a_dict_without_empty_texts(
    shared: tuple[Handle, Handle], which: int, steps: list[tuple[str, str, str]]
) -> None:
    phext, model = shared[which].phext(), dict[str, str]()
    phext.clear()
    for step in steps:
        assert _step(phext, step) == _step(model, step)
        model = {key: text for key, text in model.items() if text}
        assert phext.get(step[1]) == model.get(step[1])
    assert {str(key): text for key, text in phext.items()} == model
    assert [str(key) for key in phext] == sorted(model)
    assert len(phext) == len(model)
    inside = {key: text for key, text in model.items() if key.startswith("2.")}
    assert {str(key): text for key, text in phext.items("2.*")} == inside
    assert len(phext.items("2.*")) == len(inside)


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_errors_are_those_of_the_node(shared: tuple[Handle, Handle], which: int) -> None:
    phext = shared[which].phext("errors")
    phext[_A] = "text"
    with pytest.raises(TextError, match="offset 1"):
        phext[_A] = "a\x17"
    with pytest.raises(IndexError, match="0 to 4"):
        phext.insert(_A, 5, "x")
    with pytest.raises(CoordinateError, match="nine numbers"):
        phext.append("1.1", "x")
    with pytest.raises(CoordinateError, match="nine numbers"):
        phext["1.1"]
    for take in (phext.__getitem__, phext.__delitem__, phext.pop):
        with pytest.raises(KeyError):
            take(_B)
    with pytest.raises(ConflictError, match="has changed"):
        phext.edit(_A, "other", seen="what it was")
    with pytest.raises(ConflictError, match="has changed"):
        phext.insert(_A, 0, "other", seen="what it was")
    phext.insert(_A, 4, "!", seen="text")
    assert phext[_A] == "text!"
    with pytest.raises(phextsync.PhextsyncError, match="name of a phext"):
        shared[which].phext("a/b")


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_places_views_and_replacements_are_those_of_a_replica(
    shared: tuple[Handle, Handle], which: int
) -> None:
    phext = shared[which].phext(f"places{which}")
    phext[_A] = "one two"
    place = phext.position(_A, 4)
    phext.insert(_A, 0, "zero ")
    assert phext[_A][phext.offset(_A, place) :] == "two"
    phext.edit_from(_A, "one two", "one three")
    assert phext[_A] == "zero one three"
    phext.replace(_A, "one", "1")
    with pytest.raises(TextError):
        phext.replace(_A, "one", "1")
    with pytest.raises(KeyError):
        phext.position(_B, 0)
    phext[_B] = "b"
    assert dict(phext["2.*":]) == {Coordinate.parse(_B): "b"}
    del phext["2.*":]
    assert list(phext.keys()) == [Coordinate.parse(_A)]
    assert list(phext.values("1.*")) == ["zero 1 three"]


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_what_no_scroll_can_hold_is_refused_and_changes_nothing(
    shared: tuple[Handle, Handle], which: int
) -> None:
    phext = shared[which].phext(f"refused{which}")
    phext[_A] = "kept"
    folder, splice = Path(shared[which].status().folder), operations.SPLICE
    seen = operations.digest("kept")
    writes: list[Callable[[str], object]] = [
        lambda text: phext.edit(_A, text),
        lambda text: phext.append(_A, text),
        lambda text: phext.insert(_A, 1, text),
        lambda text: phext.replace(_A, "kept", text),
        lambda text: phext.edit_from(_A, "kept", text),
        lambda text: phext.import_text(_A, text),
        lambda text: phext.import_texts([(_B, text)]),
        lambda text: phext.update({_B: text}),
        lambda text: phext.setdefault(_B, text),
        lambda text: _asked(folder, splice, phext.name, _A, 0, 4, text, seen),
    ]
    for write in writes:
        with pytest.raises(TextError, match=r"a zero byte \(U\+0000\) at offset 1"):
            write("a\0b")
    assert dict(phext.items()) == {Coordinate.parse(_A): "kept"}


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_what_cannot_be_sent_is_refused_where_it_is_asked_for(
    shared: tuple[Handle, Handle], which: int
) -> None:
    phext = shared[which].phext("unsendable")
    bad: Any = "a\ud800"
    with phext.changes() as changes:
        for ask in (
            lambda: phext.append(_A, bad),
            lambda: phext.append(bad, "x"),
            lambda: phext.append(_A, {"a": "set"}),  # type: ignore[arg-type]
            lambda: phext.insert(_A, 1 << 70, "x"),
            lambda: phext.history(_A, bad),
            lambda: shared[which].publish({"editing": bad}),
            lambda: shared[which].publish({"busy": True}),
            lambda: writing_as(bad),
        ):
            with pytest.raises((PhextsyncError, TypeError), match=r"^expected .* found [^\n]*$"):
                ask()
        phext.append(_A, "fine")
        assert [str(place) for place in next(changes).coordinates] == [_A]


def test_an_error_shows_where_in_the_node_it_arose(handle: Handle) -> None:
    with pytest.raises(TextError) as caught:
        handle.phext()[_A] = "\x17"
    assert caught.traceback[-1].name == "check_text"
    assert caught.traceback[0].name == "test_an_error_shows_where_in_the_node_it_arose"


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_whoever_looks_back_does_not_hold_up_the_node(
    shared: tuple[Handle, Handle], which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    phext = shared[which].phext(f"past {which}")
    look, threads = Past.log, list[str]()

    def look_noted(past: Past, last: int | None) -> list[LoggedChange]:
        threads.append(threading.current_thread().name)
        return look(past, last)

    monkeypatch.setattr(Past, "log", look_noted)
    with writing_as("me"):
        phext.append(_A, "text")
        (change,) = phext.log(_A, 1)
        assert (change.line, phext.text_at(_A, change.time_ms)) == ("text", "text")
    (thread,) = threads
    assert not thread.startswith("phextsync")  # as the thread of a node is named


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_what_was_deleted_or_overwritten_comes_back(
    shared: tuple[Handle, Handle], which: int
) -> None:
    handle, phext = shared[which], shared[which].phext(f"deleted{which}")
    handle.keep_history(7, phext.name, "2.*")
    assert HistorySetting(phext.name, CoordinateRange.parse("2.*"), 7) in handle.history_settings()
    handle.keep_history(None, phext.name, "2.*")
    assert phext.name not in [row.phext for row in handle.history_settings()]
    phext[_A] = "one\n"
    (first,) = phext.versions(_A)
    next_millisecond()
    phext[_A] = "one\ntwo\n"
    del phext[_A]
    (row,) = phext.undeletable("1.*")
    assert (row.coordinate, row.first_line, row.size) == (Coordinate.parse(_A), "one", 8)
    with phext.history(_A) as steps:
        assert phext.undelete(_A) == phext[_A] == "one\ntwo\n"
        with pytest.raises(PhextsyncError, match="found some"):
            phext.undelete(_A)
        steps.undo()
        assert _A not in phext
    assert phext.undelete(_A, force=True) == "one\ntwo\n"
    phext.restore(_A, first.time_ms)
    assert phext[_A] == "one\n"
    with pytest.raises(PhextsyncError, match="at which it had a text"):
        phext.restore(_B, first.time_ms)
    with pytest.raises(PhextsyncError, match="expected a time"):
        handle.keep_history(7, range_="2.*")


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_a_batch_is_one_event(shared: tuple[Handle, Handle], which: int) -> None:
    phext = shared[which].phext(f"batches{which}")
    with phext.changes() as changes:
        with phext.batch() as batch:
            batch[_A] = "one"
            batch.append(_A, " two")
            batch[_B] = "x"
        change = next(changes)
        assert set(change.coordinates) == {Coordinate.parse(_A), Coordinate.parse(_B)}
        assert phext[_A] == "one two"


def test_a_batch_that_raises_changes_nothing(handle: Handle) -> None:
    phext = handle.phext()
    with suppress(ZeroDivisionError), phext.batch() as batch:
        batch[_A] = "never"
        raise ZeroDivisionError
    assert _A not in phext


def test_imports_in_any_thread_read_at_once(shared: tuple[Handle, Handle]) -> None:
    scrolls = [
        (Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 900, 1 + i % 900), f"{i}") for i in range(2500)
    ]
    for number, handle in enumerate(shared):
        phext = handle.phext(f"imports{number}")
        assert phext.import_texts(scrolls) == 2500
        assert [phext[place] for place, _ in scrolls[::97]] == [text for _, text in scrolls[::97]]
        assert list(phext.scrolls()) == scrolls
        assert phext.import_texts(scrolls, keep=True) == 0


# -- reading beside the node -----------------------------------------------------------------


def test_reads_do_not_wait_for_a_node_that_is_busy(handle: Handle) -> None:
    phext = handle.phext()
    phext[_A] = "open"
    phext.import_text(_B, "closed")
    handle.durable()
    assert phext[_A] == "open"
    busy, free = threading.Event(), threading.Event()
    handle._engine._soon(lambda _: busy.set(), Call([]))
    handle._engine._soon(lambda _: free.wait(PATIENCE_S), Call([]))
    busy.wait()
    try:
        assert phext[_A] == "open"
        assert phext[_B] == "closed"
        assert "9.1.1/1.1.1/1.1.1" not in phext
        write = threading.Thread(target=phext.append, args=(_A, "!"))
        write.start()
        assert phext[_A] == "open"
    finally:
        free.set()
    write.join()
    assert phext[_A] == "open!"


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can, which shows more of what can happen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_readers_see_whole_texts_that_never_grow_older(handle: Handle) -> None:
    session = handle._engine.client._session
    assert session is not None
    phext = handle.phext()
    failures: list[str] = []
    is_over = threading.Event()

    def read(key: str) -> None:
        mine, last = handle.phext(), 0
        while not is_over.is_set():
            words = mine.get(key, "0").split()
            if len(set(words)) != 1 or int(words[0]) < last:
                failures.append(f"{last}: {words[:3]}")
            last = int(words[0])

    readers = [threading.Thread(target=read, args=(key,)) for key in (_A, _B) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(30):
        text = f"{number} " * 50
        for key in (_A, _B):
            phext.import_text(key, text) if number % 3 else phext.edit(key, text)
            if phext[key] != text:
                failures.append(f"own write {number}")
        if number % 5 == 0:  # from now on scrolls are closed as soon as they are durable, or not
            session.desk.replicas.budget.bytes_max = (64 << 20) * (number % 10 == 0)
    is_over.set()
    for reader in readers:
        reader.join()
    assert failures == []


# -- changes ---------------------------------------------------------------------------------


def test_a_slow_subscriber_costs_the_node_nothing_and_hears_of_each_scroll_once(
    handle: Handle,
) -> None:
    phext = handle.phext()
    heard: list[Change] = []
    has_heard, go_on = threading.Event(), threading.Event()

    def slow(change: Change) -> None:
        heard.append(change)
        has_heard.set()
        go_on.wait(PATIENCE_S)

    stop = phext.subscribe(slow, "1.*")
    phext[_A] = "first"
    has_heard.wait()
    for number in range(50):
        phext.append(_A, f"{number}\n")
        phext[_B] = "outside"
    assert len(heard) == 1
    has_heard.clear()
    go_on.set()
    has_heard.wait()
    stop()
    assert [change.coordinates for change in heard] == [(Coordinate.parse(_A),)] * 2


def test_a_subscriber_that_fails_is_logged_and_hears_on(
    handle: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    calls = threading.Semaphore(0)

    def fail(_: Change) -> None:
        calls.release()
        raise ZeroDivisionError

    handle.phext().subscribe(fail)
    handle.phext()[_A] = "1"
    assert calls.acquire(timeout=PATIENCE_S)
    handle.phext()[_A] = "2"
    assert calls.acquire(timeout=PATIENCE_S)
    assert "a subscriber of 'memory' failed" in caplog.text


def test_an_iteration_ends_with_its_handle(tmp_path: Path) -> None:
    with _open(make_folder(tmp_path)) as handle:
        changes = handle.phext().changes()
        handle.phext()[_A] = "x"
        assert next(changes).coordinates == (Coordinate.parse(_A),)
    assert list(changes) == []


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_a_change_says_who_made_it_and_of_what_it_made_what(
    shared: tuple[Handle, Handle], which: int
) -> None:
    phext = shared[which].phext(f"labels{which}")
    other = shared[1 - which].phext(f"labels{which}")
    with phext.changes("1.*", texts=True) as changes:
        for number, one in enumerate((phext, other)):
            with writing_as(f"editor {number}"):
                one[_B] = "elsewhere"
                one[_A] = f"text {number}"
        other.append(_A, "!")
        told = [next(changes) for _ in range(3)]
    assert [(change.label, change.origin) for change in told] == [
        ("editor 0", None),
        ("editor 1", None),
        ("", None),
    ]
    assert [change.texts for change in told][::2] == [
        (TextChange("", told[0].texts[0].new),),
        (TextChange(told[1].texts[0].new, "text 1!"),),
    ]


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_a_range_is_cleared_as_one_event(shared: tuple[Handle, Handle], which: int) -> None:
    phext = shared[which].phext(f"cleared{which}")
    second = "2.1.1/1.1.1/1.1.2"
    phext.update({_A: "a", _B: "b", second: "c"})
    with phext.changes() as changes:
        phext.within("2.*").clear()
        assert [str(place) for place in next(changes).coordinates] == [_B, second]
        phext[_B] = "again"
        next(changes)
        phext.clear()
        assert len(next(changes).coordinates) == 2
    assert len(phext) == 0


# -- undoing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1], ids=["owner", "attached"])
def test_a_writer_takes_back_what_it_wrote_through_its_handle(
    shared: tuple[Handle, Handle], which: int
) -> None:
    phext = shared[which].phext(f"undone{which}")
    other = shared[1 - which].phext(f"undone{which}")
    with writing_as("editor"), phext.history(_A) as history, other.history(_A) as others:
        phext[_A] = "mine\n"
        with phext.batch() as batch:
            batch.append(_A, "and ")
            batch.append(_A, "more\n")
        other.append(_A, "of another process\n")
        with writing_as("somebody"):
            phext.append(_A, "another's\n")
        assert history.can_undo
        assert not history.can_redo
        assert history.undo()
        assert phext[_A] == "mine\nof another process\nanother's\n"
        assert history.undo()
        assert not history.undo()
        assert history.can_redo
        assert history.redo()
        assert others.undo()
        assert phext[_A] == "mine\nanother's\n"
    with pytest.raises(PhextsyncError, match="found a closed one"):
        history.undo()
    with phext.history(_A, "editor") as history:
        assert not history.undo()


def test_a_history_goes_with_the_process_that_has_it(tmp_path: Path) -> None:
    with opened(make_folder(tmp_path)) as (engine, owner):
        owner.phext()[_A] = "text"
        replica = engine.client.replica("memory")
        assert replica is not None
        with _open(tmp_path) as attached:
            history = attached.phext().history(_A)
            kept = attached.phext().history(_B)
            assert len(replica.statistics().tracked) == 2
            del history
            assert attached.phext()[_A] == "text"  # asked after the end of the first one
            assert list(map(str, replica.statistics().tracked)) == [_B]
        deadline = time.monotonic() + PATIENCE_S
        while replica.statistics().tracked:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert kept.writer == ""


# -- presence --------------------------------------------------------------------------------


def test_each_process_tells_its_facts_and_an_heir_tells_them_again(tmp_path: Path) -> None:
    here, there = make_folders(tmp_path, "here", "there")
    with _open(there) as peer:
        address = f"127.0.0.1:{peer.status().port}"

        with (
            opened(here, [address]) as (_, owner),
            opened(here, [address]) as (engine, attached),
        ):
            owner.publish({"load": 1})
            attached.publish({"editing": "notes"})
            attached.publish({"editing": _A})
            assert engine.client.statistics().lasting == 1
            peer.publish({"home": _B})
            _wait_for(peer, {"load": 1, "editing": _A})
            for handle in (owner, attached):
                _wait_for(handle, {"home": _B})
                assert [row.name for row in handle.presence()] == ["there"]
            with pytest.raises(PhextsyncError, match="facts"):
                attached.publish({"much": "x" * 2000})
            owner.close()
            attached.durable()
            assert attached.is_owner
            _wait_for(peer, {"editing": _A})
            attached.publish({})
            _wait_for(peer, {})


def _wait_for(handle: Handle, facts: dict[str, str | int]) -> None:
    """Wait until a handle reads these facts of another node."""
    deadline = time.monotonic() + PATIENCE_S
    while [row.facts for row in handle.presence()] != [facts]:
        assert time.monotonic() < deadline, handle.presence()
        time.sleep(0.01)


# -- starting and stopping -------------------------------------------------------------------


def _threads() -> set[threading.Thread]:
    """Return the threads of this process, but for those that trio keeps idle for a few seconds."""
    return {thread for thread in threading.enumerate() if "Trio" not in thread.name}


def test_thirty_handles_leave_neither_threads_nor_descriptors(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)

    def counts() -> tuple[int, set[threading.Thread]]:
        return len(os.listdir("/proc/self/fd")), _threads()

    with _open(folder) as handle:
        handle.phext()[_A] = ""
    before = counts()
    for number in range(30):
        with _open(folder) as handle:
            handle.phext().append(_A, f"{number}\n")
            handle.phext().subscribe(print)
    for thread in _threads() - before[1]:  # that of a callback ends by itself
        thread.join(PATIENCE_S)
    assert counts() == before
    with _open(folder) as handle:
        assert handle.phext()[_A].split() == [str(number) for number in range(30)]


def test_a_folder_that_cannot_be_opened_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    before = _threads()
    with pytest.raises(IdentityError):
        _open(tmp_path)
    assert _threads() <= before


def test_what_waits_when_the_handle_closes_is_told(tmp_path: Path) -> None:
    handle = _open(make_folder(tmp_path))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(handle.synced, peers=1)
        handle.phext()[_A] = "x"
        handle.close()
        with pytest.raises(ClosedError, match="was closed"):
            waiting.result(PATIENCE_S)
    for use in (lambda: handle.phext()[_A], handle.status, lambda: handle.phext().append(_A, "x")):
        with pytest.raises(ClosedError, match="was closed"):
            use()
    handle.close()


def test_who_waits_in_vain_is_told_what_is_lacking(shared: tuple[Handle, Handle]) -> None:
    for handle in shared:
        with pytest.raises(NotSyncedError, match="no peer that holds") as caught:
            handle.synced(peers=1, timeout_s=0.01)
        assert isinstance(caught.value, TimeoutError)
        assert any("is connected" in line for line in caught.value.lacks)
        handle.synced(peers=0, timeout_s=PATIENCE_S)


_WRONG_TYPES: list[Callable[[Any], object]] = [
    lambda m: m[5],
    lambda m: m.get(None),
    lambda m: m.pop(5),
    lambda m: m.size(5),
    lambda m: m.__delitem__(5),
    lambda m: m.__setitem__(5, "x"),
    lambda m: m.__setitem__(_A, 5),
    lambda m: m.__setitem__(_A, b"x"),
    lambda m: m.__setitem__(_A, None),
    lambda m: m.update({_A: 5}),
    lambda m: m.setdefault(_B, 5),
    lambda m: m.append(_A, 5),
    lambda m: m.insert(_A, 0, 5),
    lambda m: m.insert(_A, 1.5, "x"),
    lambda m: m.delete(_A, "0", 1),
    lambda m: m.edit_from(_A, 5, "x"),
    lambda m: m.edit_from(_A, "x", 5),
    lambda m: m.replace(_A, 5, "x"),
    lambda m: m.replace(_A, "t", 5),
    lambda m: m.import_text(_B, 5),
    lambda m: m.position(_A, "0"),
    lambda m: m.offset(_A, 5),
    lambda m: m.clear(5),
    lambda m: list(m.items(5)),
    lambda m: m.count(5),
    lambda m: m.text_at(_A, "now"),
    lambda m: m.edit(_A, "x", seen=5),
    lambda m: m.insert(_A, 0, "x", seen=b"x"),
]


@pytest.mark.parametrize("use", _WRONG_TYPES)
def test_what_is_of_a_wrong_type_is_a_type_error_everywhere(
    shared: tuple[Handle, Handle], use: Callable[[Any], object]
) -> None:
    replicas = ReplicaSet(
        MemoryStore(), node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0
    )
    phexts = (*(handle.phext("types") for handle in shared), replicas.open("types"))
    for phext in phexts:
        phext[_A] = "text"
        with pytest.raises(TypeError):
            use(phext)
        assert dict(phext) == {_A: "text"} or dict(phext) == {Coordinate.parse(_A): "text"}
        assert 5 not in phext
    with pytest.raises(TypeError, match="the name of a phext, found int"):
        shared[0].phext(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="facts by their names, found list"):
        shared[0].publish([])  # type: ignore[arg-type]


def test_a_script_that_ends_without_closing_stops_cleanly(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    out = _run(
        folder,
        "from concurrent.futures import ThreadPoolExecutor\n"
        "pool = ThreadPoolExecutor()\n"
        "is_ending = threading.Event()\n"
        "threading._register_atexit(is_ending.set)\n"  # before the threads of the pool are awaited
        "pool.submit(lambda: (is_ending.wait(), memory.append(A, 'late')))\n"
        "memory.append(A, 'last, ')\n",
    )
    assert out == ""
    assert not (folder / "in-use").exists()
    with _open(folder) as handle:
        assert handle.phext()[_A] == "last, late"


def test_an_interrupt_wakes_a_call_and_leaves_the_handle_usable(tmp_path: Path) -> None:
    out = _run(
        make_folder(tmp_path),
        # An interrupt is lost on a thread that is about to wait, so there are many; one counts.
        "done = threading.Event()\n"
        "def once(*_):\n"
        "    if not done.is_set():\n"
        "        done.set()\n"
        "        raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGINT, once)\n"
        "main = threading.get_ident()\n"
        "def interrupt():\n"
        "    names = ()\n"
        "    while not {'synced', 'wait'} <= set(names):\n"
        "        stack = traceback.walk_stack(sys._current_frames()[main])\n"
        "        names = [frame.f_code.co_name for frame, _ in stack]\n"
        "    while not done.is_set():\n"
        "        signal.pthread_kill(main, signal.SIGINT)\n"
        "        done.wait(0.01)\n"
        "import traceback\n"
        "try: threading.Thread(target=interrupt).start(), node.synced(peers=1)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
        "memory.append(A, 'usable')\n"
        "print(memory[A])\n",
    )
    assert out == "interrupted\nusable\n"


def test_the_child_of_a_fork_has_to_open_the_folder_again(tmp_path: Path) -> None:
    out = _run(
        make_folder(tmp_path),
        "memory[A] = 'parent, '\n"
        "memory[A]\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    for use in (lambda: memory[A], lambda: memory.append(A, 'x'), node.status):\n"
        "        try: use()\n"
        "        except phextsync.ClosedError as error:\n"
        "            assert 'before a fork' in str(error), error\n"
        "        else: os._exit(1)\n"
        "    with open_() as mine:\n"
        "        assert not mine.is_owner\n"
        "        mine.phext().append(A, 'child')\n"
        "    sys.exit()\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print(memory[A])\n",
    )
    assert out == "parent, child\n"


def test_a_child_that_lives_on_does_not_hold_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    child = int(
        _run(
            folder,
            "memory[A] = 'x'\n"
            "node.durable()\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    for stream in (0, 1, 2): os.close(stream)\n"
            "    time.sleep(600)\n"
            "print(child, flush=True)\n"
            "os._exit(0)\n",  # no clean stop either
        )
    )
    try:
        with _open(folder) as handle:
            assert handle.is_owner
            assert handle.phext()[_A] == "x"
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_handle_that_nobody_has_is_closed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    phext = _open(folder).phext()
    phext[_A] = "kept"
    del phext
    with _open(folder) as handle:
        assert handle.phext()[_A] == "kept"
        assert handle.is_owner


# -- files of bound directories --------------------------------------------------------------


def test_files_and_their_conflicts_are_reached_from_any_handle(tmp_path: Path) -> None:
    folder, notes = make_folder(tmp_path / "data"), tmp_path / "notes"
    bound = BindingStore(folder).bind(Bound(notes, "memory", CoordinateRange.parse("7.*")))
    clash = Conflict(1, "milk\n", "oat milk\n", "soy milk\n")
    with _open(folder) as owner, _open(folder) as attached:
        file = attached.name_file(str(notes / "a.md"))
        assert (str(file), file.is_there) == (str(notes / "a.md"), False)
        attached.phext(file.phext)[file.coordinate] = "oat soy milk\n"
        assert owner.find_file("a.md").coordinate == file.coordinate
        places = [file.coordinate, Coordinate.parse(_A)]
        assert owner.file_names(places) == {file.coordinate: notes / "a.md"}
        with pytest.raises(CoordinateError, match=re.escape(str(notes))):
            attached.find_file("none.md")
        assert owner.conflicts() == attached.conflicts() == []
        assert [row.directory for row in owner.status().directories] == [str(notes)]
    store = LmdbStore(folder)
    replicas = ReplicaSet(store, node_id=b"n" * 16, random=Random(1), wall_time_ms=lambda: 1)
    ConflictLog(replicas, bytes.fromhex(bound.id)).add(file.coordinate, "a.md", clash, "laptop")
    replicas.commit()
    store.close(clean=True)
    with _open(folder) as owner, _open(folder) as attached:
        (told,) = attached.conflicts()
        assert (told.path, told.mine, told.theirs_by) == (str(file), "oat milk\n", "laptop")
        attached.settle_conflict(told.number, "text", "water\n")
        assert owner.phext()[file.coordinate] == "water\n"
        assert owner.conflicts() == []
        with pytest.raises(PhextsyncError, match="found none"):
            owner.forget_conflict(told.number)
