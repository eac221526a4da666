"""Operations that another process on the same folder asks of the node that owns it.

The owner performs them under its own client ids: many short-lived processes with ids of their
own would make every state vector grow. Requests and answers are CBOR arrays in frames over a
Unix socket in the data folder, readable by its owner alone.

`perform` is the whole vocabulary; a process that finds no running node opens the folder and
performs the same operations by itself.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeAlias

import cbor2
import trio

from phextsync.changes import Change
from phextsync.errors import PhextsyncError, ProtocolError, StoreError, TextError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.messages import load_array
from phextsync.reconcile import scope_digest
from phextsync.replica import CLIENTS, Replica, ReplicaSet
from phextsync.transport import FrameChannel

SOCKET_NAME: Final = "node.sock"
FRAME_BYTES_MAX: Final = 128 << 20
"""One answer may hold one whole scroll; only processes of the folder's owner get here."""
PAGE_ITEMS: Final = 2000
PAGE_BYTES: Final = 256 << 10

_SUMMARY_CHARACTERS: Final = 60
_CONNECT_TIMEOUT_S: Final = 5.0

Value: TypeAlias = "bool | int | str | bytes | list[Value] | None"


def perform(replicas: ReplicaSet, request: list[Value]) -> Value:
    """Carry out one request and return its answer.

    | request | answer |
    | --- | --- |
    | get, phext, coordinate | the text, or null |
    | set, phext, coordinate, text, seen? | null |
    | append, phext, coordinate, text | null |
    | splice, phext, coordinate, start, stop, text, seen | null |
    | remove, phext, coordinate | whether there was a text |
    | list, phext, range, after | a page of [coordinate, bytes, first line], and whether more come |
    | read, phext, range, after | a page of [coordinate, text], and whether more come |
    | import, phext, keep, scrolls | how many of [coordinate, text] were taken |

    `after` is a coordinate or an empty text. `seen` is the `digest` of the text that the caller
    saw, or empty: TextError when the scroll has another. Other errors are those of `Replica`.
    """
    match request:
        case ["get", str(phext), str(coordinate)]:
            return replicas.open(phext).get(coordinate)
        case ["set", str(phext), str(coordinate), str(text)]:
            replicas.open(phext).edit(coordinate, text)
            return None
        case ["set", str(phext), str(coordinate), str(text), bytes(seen)]:
            replica = replicas.open(phext)
            _check_seen(replica, coordinate, seen)
            replica.edit(coordinate, text)
            return None
        case ["append", str(phext), str(coordinate), str(text)]:
            replicas.open(phext).append(coordinate, text)
            return None
        case ["splice", str(phext), str(coordinate), int(start), int(stop), str(text), bytes(seen)]:
            replica = replicas.open(phext)
            _check_seen(replica, coordinate, seen)
            with replica.batch():
                replica.delete(coordinate, start, stop)
                replica.insert(coordinate, start, text)
            return None
        case ["remove", str(phext), str(coordinate)]:
            replica = replicas.open(phext)
            was_there = coordinate in replica
            if was_there:
                replica.clear_scroll(coordinate)
            return was_there
        case ["list", str(phext), str(range_), str(after)]:
            return _list(replicas.open(phext), _rest(range_, after))
        case ["read", str(phext), str(range_), str(after)]:
            return _read(replicas.open(phext), _rest(range_, after))
        case ["import", str(phext), bool(keep), list(scrolls)]:
            return _import(replicas.open(phext), scrolls, keep=keep)
        case _:
            raise ProtocolError(f"expected an operation, found {request[:2]!r:.80}")


def digest(text: str) -> bytes:
    """Return what `seen` is for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def summarize(replicas: ReplicaSet) -> list[dict[str, str | int]]:
    """Return name, scrolls, bytes of text and fingerprint of each phext, for people to read."""
    rows: list[dict[str, str | int]] = []
    for name in replicas.names():
        if name != CLIENTS:
            replica = replicas.open(name)
            fingerprint = scope_digest(replica.index, [EVERYTHING])[1]
            rows.append(
                {
                    "name": name,
                    "scrolls": len(replica),
                    "bytes": replica.index.text_bytes,
                    "fingerprint": fingerprint.hex(),
                }
            )
    return rows


def is_change(request: list[Value]) -> bool:
    """Whether the operation writes, so that its answer has to wait for the disk."""
    return request[0] in ("set", "append", "splice", "remove", "import")


def _check_seen(replica: Replica, coordinate: str, seen: bytes) -> None:
    if seen and digest(replica.get(coordinate, "")) != seen:
        raise TextError(f"{replica.name} {coordinate} has changed since it was read")


def _rest(range_: str, after: str) -> CoordinateRange | None:
    """Return what is left of a range behind `after`; None when that is nothing."""
    whole = CoordinateRange.parse(range_)
    if not after:
        return whole
    lower = Coordinate.parse(after).successor()
    return None if lower is None else whole.intersect(CoordinateRange(lower, None))


def _list(replica: Replica, range_: CoordinateRange | None) -> Value:
    page: list[Value] = []
    for coordinate in () if range_ is None else replica.coordinates(range_):
        if len(page) == PAGE_ITEMS:
            return [page, True]
        text = replica.read(coordinate)
        line = text[: 4 * _SUMMARY_CHARACTERS].strip().split("\n", 1)[0][:_SUMMARY_CHARACTERS]
        page.append([str(coordinate), replica.size(coordinate), line])
    return [page, False]


def _read(replica: Replica, range_: CoordinateRange | None) -> Value:
    page: list[Value] = []
    size = 0
    for coordinate in () if range_ is None else replica.coordinates(range_):
        if size >= PAGE_BYTES:
            return [page, True]
        text = replica.read(coordinate)
        if text:
            page.append([str(coordinate), text])
            size += len(text)
    return [page, False]


def _import(replica: Replica, scrolls: list[Value], *, keep: bool) -> int:
    taken = 0
    with replica.batch():
        for scroll in scrolls:
            match scroll:
                case [str(coordinate), str(text)]:
                    if not keep or coordinate not in replica:
                        replica.import_text(coordinate, text)
                        taken += 1
                case _:
                    raise ProtocolError(f"expected a coordinate and a text, found {scroll!r:.60}")
    return taken


# -- the owner's side ----------------------------------------------------------------------


async def serve(
    folder: Path,
    replicas: ReplicaSet,
    status: Callable[[], str],
    durable: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on the folder's socket until cancelled.

    `status` gives a JSON text; `durable` waits until what was changed is on disk.
    """
    with _bound_socket(folder) as listening:
        async with trio.open_nursery() as nursery:
            task_status.started()
            listener = trio.SocketListener(listening)
            while True:
                stream = await listener.accept()
                nursery.start_soon(_answer_all, stream, replicas, status, durable)


async def _answer_all(
    stream: trio.SocketStream,
    replicas: ReplicaSet,
    status: Callable[[], str],
    durable: Callable[[], Awaitable[None]],
) -> None:
    async with FrameChannel(stream, FRAME_BYTES_MAX) as channel:
        try:
            async for frame in channel:
                await _answer(channel, frame, replicas, status, durable)
        except PhextsyncError:
            return  # the other process is gone or spoke nonsense: its connection ends


async def _answer(
    channel: FrameChannel,
    frame: bytes,
    replicas: ReplicaSet,
    status: Callable[[], str],
    durable: Callable[[], Awaitable[None]],
) -> None:
    try:
        request = _values(load_array(frame))
        if request == ["status"]:
            answer: Value = status()
        elif request[0] == "watch":
            await _watch(channel, replicas, request)
            return
        else:
            answer = perform(replicas, request)
            if is_change(request):
                await durable()
    except PhextsyncError as error:
        await channel.send(cbor2.dumps(["error", str(error)]))
    else:
        await channel.send(cbor2.dumps(["ok", answer]))


async def _watch(channel: FrameChannel, replicas: ReplicaSet, request: list[Value]) -> None:
    """Send changes until the other side hangs up; a slow reader costs a set of coordinates."""
    match request:
        case ["watch", str(phext), str(text)]:
            range_ = CoordinateRange.parse(text)
        case _:
            raise ProtocolError(f"expected a phext and a range to watch, found {request!r:.80}")
    changed: dict[Coordinate, bytes | None] = {}
    has_changed = trio.Event()

    def note(change: Change) -> None:
        for coordinate in change.coordinates:
            changed[coordinate] = change.origin
        has_changed.set()

    replica = replicas.open(phext)
    unsubscribe = replica.subscribe(note, range_)
    try:
        await channel.send(cbor2.dumps(["ok", None]))
        while True:
            await has_changed.wait()
            has_changed = trio.Event()
            changes, changed = changed, {}
            for coordinate, origin in changes.items():
                size = replica.size(coordinate)
                await channel.send(cbor2.dumps(["ok", [str(coordinate), size, origin or b""]]))
    finally:
        unsubscribe()


@contextmanager
def _bound_socket(folder: Path) -> Iterator[trio.socket.SocketType]:
    """Bind the folder's socket, mode 0600, in place of one that a dead process left."""
    with _short_path(folder) as path:
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            (folder / SOCKET_NAME).unlink(missing_ok=True)
            listening.bind(path)
        finally:
            os.umask(before)
    try:
        listening.listen(128)
        yield trio.socket.from_stdlib_socket(listening)
    finally:
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        listening.close()


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Yield a path of the socket that fits in the 108 bytes that the system allows."""
    path = str(folder / SOCKET_NAME)
    if len(os.fsencode(path)) < 100:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


# -- the other side ------------------------------------------------------------------------


class Attachment:
    """A blocking connection to the node that owns a folder. Used in one thread."""

    def __init__(self, folder: Path) -> None:
        """Connect. FileNotFoundError or ConnectionRefusedError when no node runs there."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_CONNECT_TIMEOUT_S)
        try:
            with _short_path(folder) as path:
                self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(None)

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *request: Value) -> Value:
        """Send one request and return its answer. PhextsyncError is what the owner raised."""
        frame = cbor2.dumps(list(request))
        self._socket.sendall(len(frame).to_bytes(4, "big") + frame)
        return self.next_answer()

    def next_answer(self) -> Value:
        """Return the next answer: after `watch` there is one for each change."""
        frame = self._receive(int.from_bytes(self._receive(4), "big"))
        match _values(load_array(frame)):
            case ["ok", answer]:
                return answer
            case ["error", str(message)]:
                raise PhextsyncError(message)
            case other:
                raise ProtocolError(f"expected an answer, found {other!r:.80}")

    def _receive(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count:
            piece = self._socket.recv(min(count, 1 << 20))
            if not piece:
                raise StoreError("the node that owns this folder has stopped")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


def _values(array: list[object]) -> list[Value]:
    """Check that an array holds nothing but what a request or an answer may hold."""
    values: list[Value] = []
    for item in array:
        if isinstance(item, list):
            values.append(_values(item))
        elif item is None or isinstance(item, bool | int | str | bytes):
            values.append(item)
        else:
            raise ProtocolError(f"expected a plain value, found {type(item).__name__}")
    return values
