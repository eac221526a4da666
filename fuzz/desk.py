"""Target: the control socket of a node. Its bytes are what a process sends, and how it leaves."""

import logging
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Final

import cbor2
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from phextsync.boundaries import Boundary
from phextsync.control.desk import Desk, Directories
from phextsync.control.frames import Value
from phextsync.control.operations import digest
from phextsync.control.server import serve_one
from phextsync.control.status import Status
from phextsync.errors import NotHeldError, PhextsyncError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.survey_pages import SurveyPage
from phextsync.ranges import without
from phextsync.replica.changes import ChangeFeed
from phextsync.replica.replicas import ReplicaSet
from phextsync.search import Hit
from phextsync.store.memory import MemoryStore
from phextsync.sync.lacks import Lack
from phextsync.sync.limits import Limits
from phextsync.sync.presence import PresenceBoard

_PHEXT: Final = "memory"
_PLACE: Final = "1.1.1/1.1.1/1.1.1"
_NEVER_READS, _BREAKS = 1, 2
_PATIENCE_S: Final = 1000.0  # of a clock that jumps
_logger = logging.getLogger("phextsync.fuzz")


class Alone:
    """What a desk needs to bring scrolls here, of a node without peers."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self._replicas = replicas
        self._holding = replicas.holding
        self._guests = replicas.guests

    def is_away(self, phext: str, at: Coordinate) -> bool:
        return not self._holding.is_current(phext, at)

    async def fetch(self, phext: str, at: Coordinate) -> None:
        await trio.lowlevel.checkpoint()
        if (phext, at) not in self._guests:
            raise NotHeldError(f"no holder of {phext} {at} is reachable")

    async def fetch_to_write(self, phext: str, at: Coordinate) -> None:
        await trio.lowlevel.checkpoint()
        self._guests.admit((phext, at))

    def feed(self, phext: str, range_: CoordinateRange, *, texts: bool = False) -> ChangeFeed:
        return self._replicas.phext(phext).feed(range_, texts=texts)

    async def read(self, phext: str, at: Coordinate) -> str:
        await self.fetch(phext, at)
        return ""

    async def survey(
        self,
        phext: str,
        range_: CoordinateRange,
        *,
        with_texts: bool = False,
        rows_max: int,
        bytes_max: int | None = None,
    ) -> SurveyPage:
        await trio.lowlevel.checkpoint()
        return SurveyPage((), None, without((range_,), self._holding.of(phext)))

    async def work_out(
        self, phext: str, range_: CoordinateRange, words: bytes, read: Callable[[bytes], object]
    ) -> None:
        await trio.lowlevel.checkpoint()

    def pieces(self, phext: str, range_: CoordinateRange) -> list[CoordinateRange]:
        return [range_]

    def unreachable(self, phext: str, ranges: Iterable[CoordinateRange]) -> tuple[str, ...]:
        return tuple(f"no holder of {phext} {range_} is reachable" for range_ in ranges)


class Node:
    """What a desk needs of a node, over a store in memory; without one there is a scroll."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.directories: Directories | None = None
        self.replicas = ReplicaSet(
            store or MemoryStore(), node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0
        )
        self.foreign = Alone(self.replicas)
        self.errors: list[Exception] = []
        self.boundary = Boundary(_logger, on_error=self._note)
        self.presence = PresenceBoard(
            bytes(16), "node", b"i" * 16, limits=Limits(), interval_s=5, on_failure=_fail
        )
        if store is None:
            self.replicas.open(_PHEXT)[_PLACE] = "one two"

    def _note(self, error: Exception) -> None:
        if not isinstance(error, PhextsyncError):
            self.errors.append(error)

    def status(self) -> Status:
        return Status(running=True, name="node", node_id="00", folder="")

    def reload(self) -> None:
        return

    def lacking(self, phext: str, range_: CoordinateRange) -> list[Lack]:
        return []

    async def durable(self) -> None:
        self.replicas.commit()

    async def synced(
        self,
        phext: str,
        range_: CoordinateRange,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        return

    async def find(
        self, words: str, phext: str, range_: CoordinateRange, *, limit: int
    ) -> list[Hit]:
        return []


def _fail(part: str, error: Exception) -> None:
    raise error


def run_control(data: bytes) -> None:
    """Send frames to a desk; two bytes of length and a frame each. The first byte tells whether
    the other side reads and whether its end is a break, the next two after how many bytes it ends.
    The node meets no error of its own and answers another process afterwards."""
    if len(data) < 3:
        return
    mode, ends_at = data[0], int.from_bytes(data[1:3])
    sent = b"".join(len(frame).to_bytes(4) + frame for frame in _frames(data[3:]))
    trio.run(
        _visit,
        sent[: ends_at % (len(sent) + 1)] if ends_at else sent,
        mode,
        clock=MockClock(autojump_threshold=0),
    )


def _frames(data: bytes) -> Iterator[bytes]:
    while len(data) >= 2:
        length = int.from_bytes(data[:2])
        yield data[2 : 2 + length]
        data = data[2 + length :]


async def _visit(sent: bytes, mode: int) -> None:
    node = Node()
    desk = Desk(node)
    with trio.fail_after(_PATIENCE_S):
        never_reads = bool(mode & _NEVER_READS)
        ours, theirs = lockstep_stream_pair() if never_reads else memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_one, desk, theirs)
            try:
                await ours.send_all(sent)
                await trio.testing.wait_all_tasks_blocked()
            except trio.BrokenResourceError:
                pass  # it has had enough
            if mode & _BREAKS:
                await trio.aclose_forcefully(ours)
            else:
                await ours.aclose()
        await _ask(desk)
    for error in node.errors:
        raise error


async def _ask(desk: Desk) -> None:
    """See that another process is answered."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, desk, theirs)
        request = cbor2.dumps([1, 0, "get", "another phext", _PLACE])
        await ours.send_all(len(request).to_bytes(4) + request)
        assert await ours.receive_some() == b"\0\0\0\x06" + cbor2.dumps([1, "ok", None])
        await ours.aclose()


def control_seeds() -> list[bytes]:
    """Return scripts of requests of every kind, alone and one after the other."""
    frames = [cbor2.dumps([i + 1, i, *request]) for i, request in enumerate(_requests())]
    scripts = [b"".join(map(_framed, frames)), *map(_framed, frames)]
    attached = _framed(cbor2.dumps([1, 0, "attach", b"client"])) + scripts[0]
    whole = [bytes([mode]) + bytes(2) + script for mode in range(4) for script in scripts]
    cut = [bytes([at % 4]) + at.to_bytes(2) + attached for at in range(1, 200)]
    return [*whole, *cut]


def _framed(frame: bytes) -> bytes:
    return len(frame).to_bytes(2) + frame


def _request(*parts: Value) -> list[Value]:
    return [*parts]


def _requests() -> list[list[Value]]:
    where: list[Value] = [_PHEXT, _PLACE]
    return [
        *(
            _request(name, *where)
            for name in ("get", "size", "steps", "remove", "pop", "undo", "redo")
        ),
        *(_request(name, _PHEXT, "*", "") for name in ("coordinates", "list", "read")),
        *(
            _request(name)
            for name in ("status", "reload", "phexts", "presence", "durable", "history")
        ),
        ["count", _PHEXT, "1.*"],
        ["position", *where, 3, True],
        ["offset", *where, "nowhere"],
        ["set", *where, "three", digest("one two")],
        ["append", *where, "four\n"],
        ["edit_from", *where, "one", "two"],
        ["replace", *where, "e", "a", None],
        ["splice", *where, 0, 2, "x", b""],
        ["setdefault", *where, "text"],
        ["clear", _PHEXT, "2.*"],
        ["import", _PHEXT, False, [["2.1.1/1.1.1/1.1.1", "text"]]],
        ["batch", _PHEXT, [["append", _PLACE, "x"], ["remove", _PLACE]]],
        ["keep_history", 1000],
        ["log", *where, None],
        ["blame", *where],
        ["show", *where, 5],
        ["lacking", _PHEXT, "*"],
        ["synced", _PHEXT, "*", 1],
        ["search", _PHEXT, "*", "words", 5],
        ["as", "label", "append", *where, "x"],
        ["watch", _PHEXT, "*", True],
        ["next", 37],
        ["track", *where, "label"],
        ["tell", [["load", 1], ["editing", "notes"]]],
        ["again", "watch", _PHEXT, "*", False],
        ["cancel", 3],
    ]
