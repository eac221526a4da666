"""An error of one part ends that part, is told once, and goes no further."""

import errno
import logging
import os
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from phextsync.boundaries import Boundary, Errors, one_line
from phextsync.errors import LinkError, ProtocolError, StoreError

_LOGGER = logging.getLogger("phextsync.tests")


@pytest.fixture
def boundary() -> Boundary:
    return Boundary(_LOGGER)


def test_an_error_ends_its_block_and_is_told_with_its_place(
    boundary: Boundary, caplog: pytest.LogCaptureFixture
) -> None:
    with boundary.around("the link with bob") as outcome:
        raise ValueError("three\nis too\x1b[31m many")
    assert isinstance(outcome.error, ValueError)
    (record,) = caplog.records
    assert "\x1b" not in record.getMessage()
    start, _, place = record.getMessage().rpartition(" (")
    assert start == r"the link with bob failed: ValueError: three\nis too\x1b[31m many"
    assert place.startswith("test_boundaries.py:")
    assert record.exc_info is not None, "a bug is told with its traceback"


def test_errors_of_a_node_are_counted_at_all_its_boundaries_but_for_those_of_others() -> None:
    now_s = iter([100.0, 200.0, 300.0])
    boundary = Boundary(_LOGGER, errors=Errors(lambda: next(now_s)))
    others = (
        LinkError("refused"),
        ProtocolError("expected a frame"),
        ConnectionResetError(104, "reset"),
        TimeoutError("late"),
        trio.BrokenResourceError("broken"),
        trio.TooSlowError(),
    )
    for error in others:
        with boundary.around("the link with bob"):
            raise error
    assert (boundary.errors.count, boundary.errors.last) == (0, "")
    with boundary.around("a hook"):
        raise OSError(errno.EIO, "the disk\n fails")
    with boundary.beside(_LOGGER).around("a page"):
        raise ExceptionGroup("", [LinkError("gone"), ValueError("odd")])
    errors = boundary.errors
    assert (errors.since_s, errors.count, errors.last_s) == (100.0, 2, 300.0)
    assert errors.last == "a page: ValueError: odd"


def test_a_block_without_an_error_tells_nothing(
    boundary: Boundary, caplog: pytest.LogCaptureFixture
) -> None:
    with boundary.around("a part") as outcome:
        pass
    assert outcome.error is None
    assert not caplog.records


def test_an_error_that_comes_again_and_again_is_counted(
    boundary: Boundary, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(250):
        with boundary.around(f"connection {i}"):
            raise StoreError(f"refused {i}")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" (")[0] for line in lines] == [
        "connection 0 failed: refused 0",
        "connection 9 failed: refused 9",
        "connection 99 failed: refused 99",
    ]
    assert "10 times so far" in lines[1]
    assert "100 times so far" in lines[2]
    assert not any(record.exc_info for record in caplog.records)


def test_each_error_of_a_group_is_told(
    boundary: Boundary, caplog: pytest.LogCaptureFixture
) -> None:
    with boundary.around("a part") as outcome:
        raise ExceptionGroup("", [ExceptionGroup("", [KeyError("a")]), OSError("b")])
    assert isinstance(outcome.error, KeyError)
    assert [record.getMessage() for record in caplog.records] == [
        "a part failed: KeyError: 'a' (at an unknown line)",
        "a part failed: b (at an unknown line)",
    ]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_passes(boundary: Boundary, kind: type[BaseException]) -> None:
    with pytest.raises(kind), boundary.around("a part"):
        raise kind
    with pytest.raises(BaseExceptionGroup) as raised, boundary.around("a part"):
        raise BaseExceptionGroup("", [kind(), ValueError()])
    assert raised.group_contains(kind)
    assert not raised.group_contains(ValueError)


async def test_cancellation_passes_also_beside_an_error(
    boundary: Boundary, caplog: pytest.LogCaptureFixture
) -> None:
    is_behind = False

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("while cleaning up")

    with trio.CancelScope() as scope:
        scope.cancel()
        with boundary.around("a part"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
        is_behind = True
    assert scope.cancelled_caught
    assert not is_behind
    assert "while cleaning up" in caplog.text


def test_what_watches_a_boundary_may_let_an_error_pass() -> None:
    def refuse(error: Exception) -> None:
        raise error

    boundary = Boundary(_LOGGER, on_error=refuse)
    with pytest.raises(KeyError), boundary.around("a part"):
        raise KeyError


async def test_a_task_that_fails_is_run_again_after_a_pause(
    boundary: Boundary, autojump_clock: MockClock
) -> None:
    starts: list[float] = []

    async def run() -> None:
        starts.append(trio.current_time())
        if len(starts) < 11:
            raise ExceptionGroup("", [LookupError()])

    await boundary.keep_running("a task", run)
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5])


class _Listener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts one stream after the other; raises errors in place of some."""

    def __init__(self, *results: trio.abc.Stream | Exception) -> None:
        self._results = list(results)

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self._results:
            await trio.sleep_forever()
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED])
async def test_accepting_goes_on_where_the_system_cannot_accept(
    boundary: Boundary, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock, number: int
) -> None:
    ours, theirs = memory_stream_pair()
    failures = [OSError(number, os.strerror(number)) for _ in range(5)]

    async def greet(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"hello")

    async with trio.open_nursery() as nursery:
        serve = boundary.serve_listeners
        nursery.start_soon(
            lambda: serve([_Listener(*failures, theirs)], greet, part=lambda _: "a link")
        )
        assert await ours.receive_some() == b"hello"
        assert await ours.receive_some() == b"", "a connection is closed when its handler ends"
        nursery.cancel_scope.cancel()
    (record,) = caplog.records
    assert record.getMessage().startswith("accepting connections failed: [Errno")


async def test_a_connection_that_fails_ends_no_other(
    boundary: Boundary, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [memory_stream_pair() for _ in range(3)]
    names = iter(["first", "second", "third"])

    async def echo(stream: trio.abc.Stream) -> None:
        async for data in stream:
            if data == b"bad":
                async with trio.open_nursery():
                    raise ZeroDivisionError
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listener = _Listener(*(theirs for _, theirs in pairs))
        nursery.start_soon(
            lambda: boundary.serve_listeners([listener], echo, part=lambda _: next(names))
        )
        (first, _), (second, _), (third, _) = pairs
        await first.send_all(b"one")
        assert await first.receive_some() == b"one"
        await second.send_all(b"bad")
        assert await second.receive_some() == b""
        for stream in (first, third):
            await stream.send_all(b"two")
            assert await stream.receive_some() == b"two"
        nursery.cancel_scope.cancel()
    (record,) = caplog.records
    assert "second failed: ZeroDivisionError (test_boundaries.py:" in record.getMessage()


def test_what_others_wrote_is_shown_and_not_obeyed() -> None:
    assert one_line(StoreError("n\u00f6t\x07\u202e\n")) == "n\u00f6t\\x07\\u202e\\n"
    assert one_line(StoreError("x" * 1000)) == "x" * 300 + "..."
    assert one_line(KeyError("a")) == "KeyError: 'a'"
    assert one_line(ZeroDivisionError()) == "ZeroDivisionError"
