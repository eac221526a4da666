"""Operations that another process on the same folder asks of the node that owns it.

The owner performs them under its own client ids: many short-lived processes with ids of their
own would make every state vector grow. Requests and answers are CBOR arrays in frames over a
Unix socket in the data folder, readable by its owner alone:

* `[number, received, operation, argument, ...]`: numbers ascend; all answers up to `received`
  have come;
* `[number, "ok", value]`, `[number, "error", kind, message]`, or, after `watch`, any number of
  `[number, "change", rows]`, a row being coordinate, bytes, origin and label; no rows say that
  anything in the range may have changed. Answers come in any order.

Requests of one connection are carried out in order. Reads are answered at once, changes when they
are on the disk. Whoever begins with `attach, id` gets receipts: what became of its changes is
stored with them, so that after the owner's death the next owner knows which of the unanswered
requests were carried out, and repeats the answer instead of the change.

`perform` is most of the vocabulary; a process that finds no running node opens the folder and
performs the same operations by itself.
"""

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import cbor2
import trio

from phextsync import errors
from phextsync.changes import COORDINATES_MAX, Change
from phextsync.errors import (
    AnswerLostError,
    ConflictError,
    PhextsyncError,
    ProtocolError,
    StoreError,
)
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.messages import load_array
from phextsync.protocol import Lack
from phextsync.reconcile import scope_digest
from phextsync.replica import CLIENTS, Replica, ReplicaSet
from phextsync.search import Hit
from phextsync.transport import FrameChannel, close_in_children

SOCKET_NAME: Final = "node.sock"
FRAME_BYTES_MAX: Final = 128 << 20
"""One answer may hold one whole scroll; only processes of the folder's owner get here."""
PAGE_ITEMS: Final = 2000
PAGE_BYTES: Final = 256 << 10

_SUMMARY_CHARACTERS: Final = 60
_CONNECT_TIMEOUT_S: Final = 5.0
_OUTBOX_BYTES_MAX: Final = 8 << 20  # of answers that a process does not take
_KEPT_ANSWER_BYTES: Final = 4096  # a longer one is lost when the owner dies before it is taken
_RETURN_S: Final = 30.0  # attached processes are back at a new owner in about a second
_CHANGES: Final = (
    "set",
    "edit_from",
    "replace",
    "append",
    "splice",
    "remove",
    "pop",
    "setdefault",
    "import",
    "batch",
)

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | None"
Answer: TypeAlias = "Value | Exception"
Watcher: TypeAlias = Callable[[Change], None]


def perform(replicas: ReplicaSet, request: list[Value]) -> Value:
    """Carry out one request and return its answer.

    | request | answer |
    | --- | --- |
    | get, phext, coordinate | the text, or null |
    | size, phext, coordinate | bytes of the text, 0 when there is none |
    | count, phext, range | how many scrolls have text |
    | position, phext, coordinate, offset, after | a position |
    | offset, phext, coordinate, position | where it is now |
    | set, phext, coordinate, text, seen? | null |
    | append, phext, coordinate, text | null |
    | edit_from, phext, coordinate, base, text | null |
    | replace, phext, coordinate, old, new, count or null | null |
    | splice, phext, coordinate, start, stop, text, seen | null |
    | remove, phext, coordinate | whether there was a text |
    | pop, phext, coordinate | the text that was removed, or null |
    | setdefault, phext, coordinate, text | the text that is there now |
    | import, phext, keep, scrolls | how many of [coordinate, text] were taken |
    | batch, phext, changes | null; one commit, one event, and an error ends it where it happens |
    | coordinates, phext, range, after | a page of coordinates, and whether more come |
    | list, phext, range, after | a page of [coordinate, bytes, first line], and whether more come |
    | read, phext, range, after | a page of [coordinate, text], and whether more come |

    `after` is a coordinate or an empty text. `seen` is the `digest` of the text that the caller
    saw, or empty: ConflictError when the scroll has another. Other errors are those of `Replica`.
    """
    match request:
        case ["get", str(phext), str(coordinate)]:
            return replicas.open(phext).get(coordinate)
        case ["size", str(phext), str(coordinate)]:
            return replicas.open(phext).size(coordinate)
        case ["position", str(phext), str(coordinate), int(offset), bool(after)]:
            return replicas.open(phext).position(coordinate, offset, after=after)
        case ["offset", str(phext), str(coordinate), str(position)]:
            return replicas.open(phext).offset(coordinate, position)
        case ["count", str(phext), str(range_)]:
            return sum(1 for _ in replicas.open(phext).coordinates(CoordinateRange.parse(range_)))
        case ["coordinates", str(phext), str(range_), str(after)]:
            return _coordinates(replicas.open(phext), rest_of(range_, after))
        case ["list", str(phext), str(range_), str(after)]:
            return _list(replicas.open(phext), rest_of(range_, after))
        case ["read", str(phext), str(range_), str(after)]:
            return _read(replicas.open(phext), rest_of(range_, after))
        case [str(operation), str(phext), *arguments] if operation in _CHANGES:
            return _change(replicas.open(phext), operation, arguments)
        case _:
            raise ProtocolError(f"expected an operation, found {request[:2]!r:.80}")


def digest(text: str) -> bytes:
    """Return what `seen` is for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _change(replica: Replica, operation: str, arguments: list[Value]) -> Value:
    match [operation, *arguments]:
        case ["set", str(coordinate), str(text)]:
            replica.edit(coordinate, text)
        case ["set", str(coordinate), str(text), bytes(seen)]:
            _check_seen(replica, coordinate, seen)
            replica.edit(coordinate, text)
        case ["append", str(coordinate), str(text)]:
            replica.append(coordinate, text)
        case ["edit_from", str(coordinate), str(base), str(text)]:
            replica.edit_from(coordinate, base, text)
        case ["replace", str(coordinate), str(old), str(new), int() | None as count]:
            replica.replace(coordinate, old, new, count)
        case ["splice", str(coordinate), int(start), int(stop), str(text), bytes(seen)]:
            _check_seen(replica, coordinate, seen)
            with replica.batch():
                replica.delete(coordinate, start, stop)
                replica.insert(coordinate, start, text)
        case ["remove", str(coordinate)]:
            return _pop(replica, coordinate) is not None
        case ["pop", str(coordinate)]:
            return _pop(replica, coordinate)
        case ["setdefault", str(coordinate), str(text)]:
            return replica.setdefault(coordinate, text)
        case ["import", bool(keep), list(scrolls)]:
            return _import(replica, scrolls, keep=keep)
        case ["batch", list(changes)]:
            with replica.batch():
                for change in changes:
                    match change:
                        case [str(name), *rest] if name in _CHANGES and name != "batch":
                            _change(replica, name, rest)
                        case _:
                            raise ProtocolError(f"expected a change, found {change!r:.60}")
        case _:
            raise ProtocolError(f"expected the arguments of {operation}, found {arguments!r:.80}")
    return None


def _check_seen(replica: Replica, coordinate: str, seen: bytes) -> None:
    if seen and digest(replica.get(coordinate, "")) != seen:
        raise ConflictError(f"{replica.name} {coordinate} has changed since it was read")


def _pop(replica: Replica, coordinate: str) -> str | None:
    text = replica.get(coordinate)
    if text is not None:
        replica.clear_scroll(coordinate)
    return text


def summarize(replicas: ReplicaSet) -> list[dict[str, str | int]]:
    """Return name, scrolls, bytes of text and fingerprint of each phext, for people to read."""
    rows: list[dict[str, str | int]] = []
    for name in replicas.names():
        if name != CLIENTS:
            replica = replicas.open(name)
            digest = scope_digest(replica.index, [EVERYTHING])[1]
            rows.append(
                {
                    "name": name,
                    "scrolls": len(replica),
                    "bytes": replica.index.text_bytes,
                    "fingerprint": digest.hex(),
                }
            )
    return rows


def is_change(request: list[Value]) -> bool:
    """Whether the operation writes, so that its answer has to wait for the disk."""
    return request[0] in _CHANGES


def takes_time(request: list[Value]) -> bool:
    """Whether the operation waits, so that others are answered before it: see `Desk.wait`."""
    return request[0] in ("durable", "synced", "search")


def hit_rows(hits: list[Hit]) -> Value:
    """Return what a search found as [coordinate, snippet, score], the best first."""
    return [[str(hit.coordinate), hit.snippet, hit.score] for hit in hits]


def rest_of(range_: str, after: str) -> CoordinateRange | None:
    """Return what is left of a range behind `after`; None when that is nothing."""
    whole = CoordinateRange.parse(range_)
    if not after:
        return whole
    lower = Coordinate.parse(after).successor()
    return None if lower is None else whole.intersect(CoordinateRange(lower, None))


def _coordinates(replica: Replica, range_: CoordinateRange | None) -> Value:
    page: list[Value] = []
    for coordinate in () if range_ is None else replica.coordinates(range_):
        if len(page) == PAGE_ITEMS:
            return [page, True]
        page.append(str(coordinate))
    return [page, False]


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


class Served(Protocol):
    """What a desk needs of the node."""

    @property
    def replicas(self) -> ReplicaSet: ...

    def status_json(self) -> str: ...

    def reload(self) -> None: ...

    def lacking(self, phext: str, range_: CoordinateRange) -> list[Lack]: ...

    async def durable(self) -> None: ...

    async def synced(
        self, phext: str, range_: CoordinateRange, *, peers: int | None = None
    ) -> None: ...

    async def search(
        self, words: str, phext: str, range_: CoordinateRange, *, limit: int
    ) -> list[Hit]: ...


@dataclass(slots=True)
class _Receipt:
    """What became of the changes of one process: the number of the last that was carried out,
    and the answers that it may not have yet."""

    performed: int = 0
    answers: dict[int, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        return cbor2.dumps([self.performed, [list(pair) for pair in self.answers.items()]])

    @staticmethod
    def decode(data: bytes) -> "_Receipt":
        performed, answers = cbor2.loads(data)
        return _Receipt(performed, dict(answers))


class Desk:
    """Carries out requests for a node: those of its own process and those of others."""

    def __init__(self, node: Served) -> None:
        self._node = node
        self.replicas = node.replicas
        stored = node.replicas.store.receipts()
        self._receipts = {client: _Receipt.decode(data) for client, data in stored.items()}
        self._awaited = set(self._receipts)

    def ask(self, request: list[Value]) -> Value:
        """Answer one request that needs no waiting."""
        match request:
            case ["status"]:
                return self._node.status_json()
            case ["reload"]:  # the files that say who belongs to the mesh
                self._node.reload()
                return None
            case ["phexts"]:
                return [name for name in self.replicas.names() if name != CLIENTS]
            case ["lacking", str(phext), str(range_)]:
                lacks = self._node.lacking(phext, CoordinateRange.parse(range_))
                return [[lack.peer_id, lack.scrolls, lack.reason] for lack in lacks]
            case _:
                return perform(self.replicas, request)

    async def wait(self, request: list[Value]) -> Value:
        """Answer a request that needs waiting: `durable`, `synced, phext, range, peers`, or
        `search, phext, range, words, limit`."""
        match request:
            case ["durable"]:
                await self._node.durable()
            case ["synced", str(phext), str(range_), int() | None as peers]:
                await self._node.synced(phext, CoordinateRange.parse(range_), peers=peers)
            case ["search", str(phext), str(range_), str(words), int(limit)]:
                within = CoordinateRange.parse(range_)
                return hit_rows(await self._node.search(words, phext, within, limit=limit))
            case _:
                raise ProtocolError(f"expected something to wait for, found {request!r:.80}")
        return None

    def watch(self, request: list[Value], note: Watcher) -> Callable[[], None]:
        """Call `note` after each change until what this returns is called. `again` says
        first that anything may have changed since the watch at another owner ended."""
        match request:
            case ["watch", str(phext), str(text), *again] if again in ([], [True], [False]):
                range_ = CoordinateRange.parse(text)
            case _:
                raise ProtocolError(f"expected a phext and a range to watch, found {request!r:.80}")
        replica = self.replicas.open(phext)
        if again == [True]:
            note(Change(phext, (), missed=range_))
        return replica.subscribe(note, range_)

    def answer(self, client: bytes, number: int, received: int, request: list[Value]) -> bytes:
        """Return the encoded answer to a request, which is carried out once even if it comes
        again from the same client."""
        if not client or not is_change(request):
            return self._encoded(number, request)
        receipt = self._receipts.setdefault(client, _Receipt())
        for old in [known for known in receipt.answers if known <= received]:
            del receipt.answers[old]
        if number <= receipt.performed:
            return receipt.answers.get(number) or encode_error(number, _lost(request))
        answer = self._encoded(number, request)
        receipt.performed = number
        is_short = len(answer) <= _KEPT_ANSWER_BYTES
        receipt.answers[number] = answer if is_short else encode_error(number, _lost(request))
        self.replicas.give_receipt(client, receipt.encode)
        return answer

    def _encoded(self, number: int, request: list[Value]) -> bytes:
        try:
            return cbor2.dumps([number, "ok", self.ask(request)])
        except (PhextsyncError, IndexError, KeyError) as error:
            return encode_error(number, error)

    def arrived(self, client: bytes) -> None:
        """A process is here, perhaps from another owner."""
        self._awaited.discard(client)

    def left(self, client: bytes) -> None:
        """A process is gone and will not ask again for what became of its requests."""
        if self._receipts.pop(client, None) is not None:
            self.replicas.give_receipt(client, bytes)

    async def forget_missing(self) -> None:
        """Drop the receipts of processes that did not come over from the last owner."""
        await trio.sleep(_RETURN_S)
        for client in sorted(self._awaited):
            self.left(client)
        self._awaited.clear()


def _lost(request: list[Value]) -> AnswerLostError:
    return AnswerLostError(
        f"{request[0]!r} was carried out once; its answer was lost with the process that did it"
    )


def encode_error(number: int, error: Exception) -> bytes:
    """Return the answer that says that a request failed."""
    message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    return cbor2.dumps([number, "error", type(error).__name__, message])


async def serve(
    folder: Path,
    desk: Desk,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on the folder's socket until cancelled."""
    with _bound_socket(folder) as listening:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.forget_missing)
            task_status.started()
            listener = trio.SocketListener(listening)
            close_in_children(listener)
            while True:
                nursery.start_soon(_serve_one, desk, await listener.accept())


async def _serve_one(desk: Desk, stream: trio.SocketStream) -> None:
    async with FrameChannel(stream, FRAME_BYTES_MAX) as channel:
        await _Connection(desk, channel).run()


class _Connection:
    """One process at the desk."""

    def __init__(self, desk: Desk, channel: FrameChannel) -> None:
        self._desk = desk
        self._channel = channel
        self._client = b""
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._undurable: list[tuple[int, bytes]] = []
        self._has_answers = trio.Event()
        self._has_undurable = trio.Event()
        self._has_room = trio.Event()
        self._tasks: dict[int, trio.CancelScope] = {}

    async def run(self) -> None:
        """Answer until the other side hangs up or speaks nonsense."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                nursery.start_soon(self._settle)
                await self._receive(nursery)
                nursery.cancel_scope.cancel()
        except* PhextsyncError:
            self._desk.left(self._client)
        else:
            self._desk.left(self._client)

    async def _receive(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                for frame in await self._channel.receive_many():
                    self._take(frame, nursery)
                await self._room()
        except trio.EndOfChannel:
            return

    async def _room(self) -> None:
        """Wait until the other side has taken most of its answers."""
        while self._outbox_bytes > _OUTBOX_BYTES_MAX:
            await self._has_room.wait()

    def _take(self, frame: bytes, nursery: trio.Nursery) -> None:
        match plain(load_array(frame)):
            case [int(number), int(), "attach", bytes(client)]:
                self._client = client
                self._desk.arrived(client)
                self._put(cbor2.dumps([number, "ok", None]))
            case [int(), int(), "cancel", int(number)]:
                if number in self._tasks:
                    self._tasks.pop(number).cancel()
            case [int(number), int(), "watch", *rest]:
                nursery.start_soon(self._watch, number, ["watch", *rest])
            case [int(number), int(), *request] if request and takes_time(request):
                nursery.start_soon(self._wait, number, request)
            case [int(number), int(received), *request] if request:
                answer = self._desk.answer(self._client, number, received, request)
                if is_change(request):
                    self._undurable.append((number, answer))
                    self._has_undurable.set()
                else:
                    self._put(answer)
            case other:
                raise ProtocolError(f"expected a request, found {other!r:.80}")

    def _put(self, answer: bytes) -> None:
        self._outbox.append(answer)
        self._outbox_bytes += len(answer)
        self._has_answers.set()

    async def _send(self) -> None:
        while True:
            await self._has_answers.wait()
            self._has_answers = trio.Event()
            answers, self._outbox = self._outbox, []
            await self._channel.send_many(answers)
            self._outbox_bytes -= sum(map(len, answers))
            self._has_room.set()
            self._has_room = trio.Event()

    async def _settle(self) -> None:
        """Answer changes when they are on the disk."""
        while True:
            await self._has_undurable.wait()
            self._has_undurable = trio.Event()
            answered, self._undurable = self._undurable, []
            try:
                await self._desk.wait(["durable"])
            except StoreError as error:
                answered = [(number, encode_error(number, error)) for number, _ in answered]
            for _, answer in answered:
                self._put(answer)

    async def _wait(self, number: int, request: list[Value]) -> None:
        with trio.CancelScope() as self._tasks[number]:
            try:
                answer = await self._desk.wait(request)
            except PhextsyncError as error:
                self._put(encode_error(number, error))
            else:
                self._put(cbor2.dumps([number, "ok", answer]))
        self._tasks.pop(number, None)

    async def _watch(self, number: int, request: list[Value]) -> None:
        """Send changes; a slow reader costs a set of coordinates."""
        has_changed = trio.Event()

        def wake() -> None:
            has_changed.set()

        inbox = Inbox(wake)
        try:
            unsubscribe = self._desk.watch(request, inbox.put)
        except PhextsyncError as error:
            self._put(encode_error(number, error))
            return
        try:
            with trio.CancelScope() as self._tasks[number]:
                self._put(cbor2.dumps([number, "ok", None]))
                while True:
                    await has_changed.wait()
                    has_changed = trio.Event()
                    for change in inbox.take():
                        await self._tell(number, change)
        finally:
            unsubscribe()
            self._tasks.pop(number, None)

    async def _tell(self, number: int, change: Change) -> None:
        replica = self._desk.replicas.open(change.phext)
        rows: list[Value] = [
            [str(place), replica.size(place), change.origin or b"", change.label]
            for place in change.coordinates
        ]
        for start in range(0, max(1, len(rows)), PAGE_ITEMS):
            page = rows[start : start + PAGE_ITEMS]
            self._put(cbor2.dumps([number, "change", page]))
            await self._room()


class Inbox:
    """Changes that a subscriber has not taken yet: each scroll once for each origin, and beyond
    `COORDINATES_MAX` one change that stands for the range. For two threads.

    `wake` is called when the first one comes and at the end.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._changed: dict[tuple[str, bytes | None, str], dict[Coordinate, None]] = {}
        self._count = 0
        self._missed: dict[str, CoordinateRange | None] = {}
        self.is_closed = False

    def put(self, change: Change) -> None:
        """Add a change."""
        with self._lock:
            was_empty = not self._changed and not self._missed
            if change.missed is not None or self._count > COORDINATES_MAX:
                self._missed[change.phext] = change.missed or EVERYTHING
                self._changed.clear()
                self._count = 0
            elif change.phext not in self._missed:
                source = change.phext, change.origin, change.label
                group = self._changed.setdefault(source, {})
                self._count -= len(group)
                group.update(dict.fromkeys(change.coordinates))
                self._count += len(group)
        if was_empty:
            self._wake()

    def take(self) -> list[Change]:
        """Return what has changed since the last call, as one change for each origin."""
        with self._lock:
            changed, self._changed = self._changed, {}
            missed, self._missed = self._missed, {}
            self._count = 0
        return [
            *(Change(phext, (), missed=range_) for phext, range_ in missed.items()),
            *(
                Change(phext, tuple(group), origin, label)
                for (phext, origin, label), group in changed.items()
            ),
        ]

    def close(self) -> None:
        """Nothing more will come."""
        self.is_closed = True
        self._wake()


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


def connect(folder: Path) -> socket.socket:
    """Connect to the node that owns a folder. FileNotFoundError or ConnectionRefusedError when
    none runs there."""
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(_CONNECT_TIMEOUT_S)
    try:
        with _short_path(folder) as path:
            connected.connect(path)
    except BaseException:
        connected.close()
        raise
    connected.settimeout(None)
    return connected


def decode_answer(frame: bytes) -> tuple[int, Answer, bool]:
    """Return the number of the request, its answer or its error, and whether it is a change."""
    match plain(load_array(frame)):
        case [int(number), "ok", answer]:
            return number, answer, False
        case [int(number), "change", rows]:
            return number, rows, True
        case [int(number), "error", str(kind), str(message)]:
            return number, _ERRORS.get(kind, PhextsyncError)(message), False
        case other:
            raise ProtocolError(f"expected an answer, found {other!r:.80}")


class Attachment:
    """A blocking connection to the node that owns a folder, for one thread, without receipts."""

    def __init__(self, folder: Path) -> None:
        """Connect. FileNotFoundError or ConnectionRefusedError when no node runs there."""
        self._socket = connect(folder)
        self._number = 0
        self._rows: deque[Value] = deque()

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *request: Value) -> Value:
        """Send one request and return its answer. Errors are those that the owner raised."""
        self._number += 1
        frame = cbor2.dumps([self._number, self._number - 1, *request])
        self._socket.sendall(len(frame).to_bytes(4, "big") + frame)
        return self._next()

    def next_answer(self) -> Value:
        """After `watch`: return the next change as coordinate, bytes and origin."""
        while not self._rows:
            rows = self._next()
            if isinstance(rows, list):
                self._rows.extend(row[:3] for row in rows if isinstance(row, list))
        return self._rows.popleft()

    def _next(self) -> Value:
        frame = self._receive(int.from_bytes(self._receive(4), "big"))
        _, answer, _ = decode_answer(frame)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _receive(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count:
            piece = self._socket.recv(min(count, 1 << 20))
            if not piece:
                raise StoreError("the node that owns this folder has stopped")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


_ERRORS: Final[dict[str, type[Exception]]] = {
    "IndexError": IndexError,
    "KeyError": KeyError,
    **{
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, PhextsyncError)
    },
}


def plain(array: list[object]) -> list[Value]:
    """Check that an array holds nothing but what a request or an answer may hold."""
    values: list[Value] = []
    for item in array:
        if isinstance(item, list):
            values.append(plain(item))
        elif item is None or isinstance(item, bool | int | float | str | bytes):
            values.append(item)
        else:
            raise ProtocolError(f"expected a plain value, found {type(item).__name__}")
    return values
