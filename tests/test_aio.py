"""A folder in an asyncio program: reads at once, waits that end, callbacks in the loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from phextsync import (
    Change,
    ClosedError,
    ConflictError,
    Coordinate,
    IdentityError,
    NotSyncedError,
    PhextsyncError,
    TextChange,
    aio,
    writing_as,
)
from phextsync.handles.awaiting import answer
from phextsync.handles.engine import Engine
from sims.processes import PATIENCE_S, make_folder
from tests.clocks import next_millisecond
from tests.engines import OPTIONS

pytestmark = pytest.mark.real

_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"


def _run(folder: Path, use: Callable[[aio.AsyncHandle], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle,
        ):
            await use(handle)

    asyncio.run(main())


def test_a_phext_is_read_and_written(tmp_path: Path) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        phext = handle.phext()
        await phext.edit(_A, "one\n")
        await phext.append(_A, "three\n")
        await phext.insert(_A, 4, "two\n", seen="one\nthree\n")
        await phext.delete(_A, 0, 4)
        assert await phext.get(_A) == "two\nthree\n"
        with pytest.raises(ConflictError):
            await phext.edit(_A, "x", seen="y")
        await phext.update({_B: "b", "2.2.1/1.1.1/1.1.1": "c"})
        assert [(str(c), text) async for c, text in phext.items("2.1.*")] == [(_B, "b")]
        assert [str(c) async for c in phext.coordinates("1.*")] == [_A]
        assert await phext.count() == 3
        assert await phext.pop(_B) == "b"
        assert await phext.pop(_B, "none") == "none"
        assert await phext.setdefault(_B, "new") == "new"
        assert await phext.size(_B) == 3
        assert await phext.import_texts([(Coordinate.parse(_A), "x"), (_B, "y")]) == 2
        (nearest,) = await phext.near(_B, 1, itself=False)
        assert (str(nearest.coordinate), nearest.first_line) == (_A, "x")
        assert await phext.clear_scroll(_B)
        assert await phext.get(_B) is None
        assert await handle.phexts() == ["memory"]
        await handle.durable()
        assert [hit.snippet for hit in await handle.search("x")] == ["[x]"]
        assert (await handle.status()).name == "solo"
        assert await handle.lacking() == []

    _run(make_folder(tmp_path), use)


def test_the_past_of_a_scroll_is_told(tmp_path: Path) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        phext = handle.phext()
        await phext.append(_A, "one\n")
        (change,) = await phext.log(_A, last=1)
        (line,) = await phext.blame(_A)
        assert (change.line, line.text, line.time_ms) == ("one", "one", change.time_ms)
        assert change.writers == (line.writer,)
        assert await phext.text_at(_A, change.time_ms) == "one\n"
        next_millisecond()
        await phext.clear_scroll(_A)
        (row,) = await phext.undeletable()
        assert (row.coordinate, row.first_line) == (Coordinate.parse(_A), "one")
        assert await phext.undelete(_A) == "one\n"
        with pytest.raises(PhextsyncError, match="found some"):
            await phext.undelete(_A)
        next_millisecond()
        await phext.append(_A, "two\n")
        (last,) = await phext.versions(_A, last=1)
        assert (last.size, last.added, last.removed) == (8, 1, 0)
        await phext.restore(_A, change.time_ms)
        assert await phext.get(_A) == "one\n"
        with pytest.raises(PhextsyncError, match="at which it had a text"):
            await phext.restore(_B, change.time_ms)
        await handle.keep_history(7, "memory", "2.*")
        with pytest.raises(PhextsyncError, match="expected a time"):
            await handle.keep_history(None)
        assert [row.kept_ms for row in await handle.history_settings()] == [0, 7]

    _run(make_folder(tmp_path), use)


def test_what_is_open_or_closed_is_told_without_waiting(tmp_path: Path) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        phext = handle.phext()
        await phext.import_text(_A, "text")
        await handle.durable()
        assert phext.peek(_A) == "text"
        assert phext.peek(_B) == ""
        await phext.append(_A, "!")
        assert phext.peek(_A) is None
        assert await phext.get(_A) == "text!"
        assert phext.peek(_A) == "text!"

    _run(make_folder(tmp_path), use)


def test_a_wait_that_is_cancelled_ends_in_the_node_too(tmp_path: Path) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await handle.synced(peers=1)
        with pytest.raises(NotSyncedError, match="no peer that holds") as caught:
            await handle.synced(peers=1, timeout_s=0.01)
        assert caught.value.lacks
        await handle.synced(peers=0, timeout_s=PATIENCE_S)
        await handle.durable(timeout_s=PATIENCE_S)
        for wrong in (handle.phext().edit(_A, 5), handle.phext().size(5)):  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await wrong
        with pytest.raises(TypeError, match="facts by their names, found int"):
            await handle.publish(5)  # type: ignore[arg-type]

    async def main(folder: Path) -> None:
        engine = Engine(folder, OPTIONS)
        await answer(engine, engine.start())
        try:
            await use(aio.AsyncHandle(engine))
            assert engine.client.statistics().unanswered == 0
        finally:
            await asyncio.to_thread(engine.stop)

    asyncio.run(main(make_folder(tmp_path)))


def test_callbacks_and_iterations_run_in_the_loop(tmp_path: Path) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        heard: asyncio.Queue[tuple[Change, int]] = asyncio.Queue()
        phext = handle.phext()
        stop = await phext.subscribe(
            lambda change: heard.put_nowait((change, threading.get_ident())), "1.*"
        )
        async with phext.changes() as changes:
            await phext.edit(_A, "x")
            change, thread = await heard.get()
            assert change == Change("memory", (Coordinate.parse(_A),), None)
            assert thread == threading.get_ident()
            assert await anext(changes) == change
            stop()
            await phext.edit(_A, "y")
            await anext(changes)
        assert heard.empty()

    _run(make_folder(tmp_path), use)


def test_changes_have_texts_and_labels_and_a_wait_that_is_cancelled_loses_none(
    tmp_path: Path,
) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        phext = handle.phext()
        async with phext.changes(texts=True) as changes:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(changes), 0.01)
            with writing_as("editor"):
                await phext.edit(_A, "text")
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            waiting.cancel()
            try:
                change = await waiting
            except asyncio.CancelledError:
                change = await anext(changes)
            assert (change.label, change.texts) == ("editor", (TextChange("", "text"),))
            await phext.update({_B: "b"})
            assert [str(c) for c in (await anext(changes)).coordinates] == [_B]
            await phext.clear()
            assert len((await anext(changes)).coordinates) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(changes)

    _run(make_folder(tmp_path), use)


def test_a_task_takes_back_what_it_wrote(tmp_path: Path) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        phext = handle.phext()
        with writing_as("editor"):
            async with phext.history(_A) as history:
                await phext.edit(_A, "one")
                await phext.append(_A, " two")
                assert await history.can_undo()
                assert not await history.can_redo()
                assert await history.undo()
                assert await phext.get(_A) == "one"
                assert await history.can_redo()
                assert await history.redo()
                assert await phext.get(_A) == "one two"
        with pytest.raises(PhextsyncError, match="found a closed one"):
            await history.undo()

    _run(make_folder(tmp_path), use)


def test_facts_are_published_within_their_bound(tmp_path: Path) -> None:
    async def use(handle: aio.AsyncHandle) -> None:
        await handle.publish({"load": 3})
        with pytest.raises(PhextsyncError):
            await handle.publish({"much": "x" * 2000})
        assert await handle.presence() == []

    _run(make_folder(tmp_path), use)


def test_a_folder_without_identity_is_an_error_and_a_closed_one_too(tmp_path: Path) -> None:
    async def fail() -> None:
        async with aio.open(tmp_path):
            pass

    with pytest.raises(IdentityError):
        asyncio.run(fail())
    handles: list[aio.AsyncHandle] = []

    async def use(handle: aio.AsyncHandle) -> None:
        handles.append(handle)

    _run(make_folder(tmp_path / "good"), use)
    with pytest.raises(ClosedError):
        asyncio.run(handles[0].durable())
