"""The desk of a node: carries out what its own process and others ask.

Reads are answered at once, changes when they are on the disk. A process that begins with
`attach, id` gets receipts: what became of its changes is stored with them. So, after the owner's
death, the next owner knows which of the unanswered requests were carried out, and repeats the
answer instead of the change.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import cbor2
import trio

from phextsync.boundaries import Boundary, one_line
from phextsync.control import operations
from phextsync.control.answers import Found
from phextsync.control.frames import Value, encode_answer, encode_error
from phextsync.control.gathering import Elsewhere, Gathering
from phextsync.control.operations import (
    Serving,
    check_phext,
    is_about_files,
    is_change,
    operation_of,
    takes_time,
)
from phextsync.control.performing import look_back, perform
from phextsync.control.status import DirectoryRow, Status
from phextsync.errors import AnswerLostError, CoordinateError, PhextsyncError, ProtocolError
from phextsync.index import Coordinate, CoordinateRange, cbor_bytes
from phextsync.phext_names import is_reserved
from phextsync.ranges import Ranges
from phextsync.replica.changes import ChangeFeed, writing_as
from phextsync.replica.replicas import ReplicaSet
from phextsync.search import Hit
from phextsync.sync.lacks import Lack
from phextsync.sync.presence import PresenceBoard

_KEPT_ANSWER_BYTES: Final = 4096  # a longer one is lost when the owner dies before it is taken
_RETURN_S: Final = 30.0  # attached processes are back at a new owner in about a second
_LOOKS_BACK_MAX: Final = 2  # at a time; the threads of commits are not theirs
_ABOUT_THE_NODE: Final = ("status", "reload", "phexts", "lacking", "presence", "told-here")
_CALLERS_OWN: Final = (PhextsyncError, IndexError, KeyError)


class Directories(Protocol):
    """What knows of the bound directories of a folder: see `files.desk`."""

    def ask(self, request: list[Value]) -> Value: ...

    def status(self) -> tuple[DirectoryRow, ...]: ...

    def taking_up(self) -> list[tuple[str, int, int]]: ...

    def check_unbound(self, phext: str, held: Ranges) -> None: ...


class Foreign(Elsewhere, Protocol):
    """What brings scrolls here that others hold: see `node.foreign`."""

    def is_away(self, phext: str, at: Coordinate) -> bool: ...

    async def fetch(self, phext: str, at: Coordinate) -> None: ...

    async def fetch_to_write(self, phext: str, at: Coordinate) -> None: ...

    def feed(self, phext: str, range_: CoordinateRange, *, texts: bool = False) -> ChangeFeed: ...


class Served(Protocol):
    """What a desk needs of the node."""

    @property
    def directories(self) -> Directories | None: ...

    @property
    def replicas(self) -> ReplicaSet: ...

    @property
    def presence(self) -> PresenceBoard: ...

    @property
    def foreign(self) -> Foreign: ...

    @property
    def boundary(self) -> Boundary: ...

    def status(self) -> Status: ...

    def reload(self) -> None: ...

    def lacking(self, phext: str, range_: CoordinateRange) -> list[Lack]: ...

    async def durable(self) -> None: ...

    async def synced(
        self,
        phext: str,
        range_: CoordinateRange,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None: ...

    async def find(
        self, words: str, phext: str, range_: CoordinateRange, *, limit: int
    ) -> list[Hit]: ...


@dataclass(slots=True)
class _Receipt:
    """What became of the changes of one process: the number of the last that was carried out,
    and the answers that it may not have yet."""

    performed: int = 0
    answers: dict[int, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        return cbor_bytes([self.performed, [[*pair] for pair in self.answers.items()]])

    @staticmethod
    def decode(data: bytes) -> "_Receipt":
        performed, answers = cbor2.loads(data)
        return _Receipt(performed, dict(answers))


class Desk:
    """Carries out requests for a node: those of its own process and those of others."""

    def __init__(self, node: Served) -> None:
        self._node = node
        self.replicas = node.replicas
        self.foreign = node.foreign
        self._gathering = Gathering(node.replicas.holding, node.foreign, self.wait)
        stored = node.replicas.store.receipts()
        self._receipts = {client: _Receipt.decode(data) for client, data in stored.items()}
        self._awaited = set(self._receipts)
        self._looking_back = trio.CapacityLimiter(_LOOKS_BACK_MAX)
        self._looking_back_for_peers = trio.CapacityLimiter(_LOOKS_BACK_MAX)
        self.boundary = node.boundary

    @property
    def presence(self) -> PresenceBoard:
        """What this node and the others tell of themselves."""
        return self._node.presence

    def ask(
        self, request: list[Value], client: bytes = b"", *, may_come_again: bool = False
    ) -> Value:
        """Answer one request of a process that needs no waiting. Others hear of a change that
        `may_come_again`, since its owner may die, when it has its receipt."""
        label = ""
        if request[0] == "as":
            match request:
                case ["as", str(label), *request]:
                    pass
        durable_first = may_come_again or _is_told_late(request)
        with writing_as(label, client, durable_first=durable_first):
            return self._ask(request)

    def _ask(self, request: list[Value]) -> Value:
        if request[0] in _ABOUT_THE_NODE:
            return self._ask_about_the_node(request)
        if is_about_files(request):
            return self._ask_about_files(request)
        return perform(self.replicas, request)

    def _ask_about_the_node(self, request: list[Value]) -> Value:
        match request:
            case ["status"]:
                return operations.STATUS.answer.encode(self._node.status())
            case ["reload"]:  # the files that say who belongs to the mesh
                self._node.reload()
                return None
            case ["phexts"]:
                return [name for name in self.replicas.names() if not is_reserved(name)]
            case ["lacking", str(phext), str(range_)]:
                check_phext(request)
                lacks = self._node.lacking(phext, CoordinateRange.parse(range_))
                return operations.LACKING.answer.encode(lacks)
            case ["presence"]:
                return operations.PRESENCE.answer.encode([*self.presence.peers()])
            case ["told-here"]:
                return operations.TOLD_HERE.answer.encode([*self.presence.told_here().items()])
            case _:
                raise ProtocolError(
                    f"expected the arguments of {request[0]!r}, found {request!r:.80}"
                )

    def _ask_about_files(self, request: list[Value]) -> Value:
        if self._node.directories is not None:
            return self._node.directories.ask(request)
        match request:
            case ["names", str(), list(places)]:
                return [None] * len(places)
            case ["conflicts", *_]:
                return []
            case ["hold", *_]:
                return perform(self.replicas, request)
            case _:
                raise CoordinateError(
                    "expected a coordinate such as 1.5.2/3.7.3/9.1.1; the process that has this "
                    "folder knows of no directories"
                )

    async def durable(self) -> None:
        """Wait until all that was changed so far is on the disk. StoreFullError."""
        await self._node.durable()

    def must_wait(self, request: list[Value]) -> bool:
        """Whether a request is to be answered by `wait`."""
        return takes_time(request) or self._gathering.is_wanted(request)

    async def wait(self, request: list[Value], *, of_peer: bool = False) -> Value:
        """Answer a request that needs waiting. One of a peer takes no user's turn."""
        check_phext(request)
        if self._gathering.is_wanted(request):
            return await self._gathering.answer(request)
        operation = operation_of(request)
        if operation is not None and operation.serving is Serving.AT_ONCE:
            return self.ask(request)  # all is held by now
        match request:
            case ["durable"]:
                await self.durable()
            case ["keep_history", *_]:
                perform(self.replicas, request)
                await self._node.durable()
                self.replicas.history.check()
            case ["synced", str(phext), str(range_), int() | None as peers, *rest]:
                await self._synced(phext, CoordinateRange.parse(range_), peers, rest)
            case ["search", str(phext), str(range_), str(words), int(limit)]:
                within = CoordinateRange.parse(range_)
                hits = await self._node.find(words, phext, within, limit=limit)
                return operations.SEARCH.answer.encode(Found(hits))
            case _:
                look = look_back(self.replicas, request)
                limiter = self._looking_back_for_peers if of_peer else self._looking_back
                return await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=limiter)
        return None

    async def _synced(
        self, phext: str, range_: CoordinateRange, peers: int | None, rest: list[Value]
    ) -> None:
        match rest:
            case [] | [None]:
                await self._node.synced(phext, range_, peers=peers)
            case [int() | float() as timeout_s]:
                await self._node.synced(phext, range_, peers=peers, timeout_s=timeout_s)
            case _:
                raise ProtocolError(f"expected seconds, found {rest!r:.60}")

    def answer(self, client: bytes, number: int, received: int, request: list[Value]) -> bytes:
        """Return the encoded answer to a request, which is carried out once even if it comes
        again from the same client."""
        if not client or not is_change(request):
            return self._encoded(number, request, client)
        receipt = self._receipts.setdefault(client, _Receipt())
        for old in [known for known in receipt.answers if known <= received]:
            del receipt.answers[old]
        if number <= receipt.performed:
            return receipt.answers.get(number) or encode_error(number, _lost(request))
        answer = self._encoded(number, request, client, may_come_again=True)
        receipt.performed = number
        is_short = len(answer) <= _KEPT_ANSWER_BYTES
        receipt.answers[number] = answer if is_short else encode_error(number, _lost(request))
        self.replicas.durability.give_receipt(client, receipt.encode)
        return answer

    def _encoded(
        self, number: int, request: list[Value], client: bytes, *, may_come_again: bool = False
    ) -> bytes:
        with self.answering(number, request) as failed:
            answer = self.ask(request, client, may_come_again=may_come_again)
            return encode_answer(number, answer)
        return failed[0]

    @contextmanager
    def answering(self, number: int, request: list[Value]) -> Iterator[list[bytes]]:
        """Put into a list what to answer when the block fails. What is not the caller's own error
        is one of this node: it is told here too, and ends neither the process nor the node."""
        failed: list[bytes] = []
        with self.boundary.around(f"the request {_name_of(request)!r:.40}") as outcome:
            try:
                yield failed
            except _CALLERS_OWN as error:
                failed.append(encode_error(number, error))
        if outcome.error is not None:
            text = f"the node could not carry it out: {one_line(outcome.error)}"
            failed.append(encode_error(number, PhextsyncError(text)))

    def arrived(self, client: bytes) -> None:
        """A process is here, perhaps from another owner."""
        self._awaited.discard(client)

    def left(self, client: bytes) -> None:
        """A process is gone and will not ask again for what became of its requests."""
        if self._receipts.pop(client, None) is not None:
            self.replicas.durability.give_receipt(client, bytes)

    async def forget_missing(self) -> None:
        """Drop the receipts of processes that did not come over from the last owner."""
        await trio.sleep(_RETURN_S)
        for client in sorted(self._awaited):
            with self.boundary.around("forgetting a process that did not come back"):
                self.left(client)
        self._awaited.clear()


def _is_told_late(request: list[Value]) -> bool:
    """Whether peers are to hear of what is asked for only when it is on the disk here."""
    return request[:1] == ["batch"] and request[3:] == [True]


def _name_of(request: list[Value]) -> Value:
    operation = operation_of(request)
    return request[0] if operation is None else operation.name


def _lost(request: list[Value]) -> AnswerLostError:
    return AnswerLostError(
        f"{_name_of(request)!r} was carried out once; "
        "its answer was lost with the process that did it"
    )
