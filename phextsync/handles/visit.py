"""A folder for as long as a command lasts: its node is asked, or, where none runs, the folder is
looked into, and owned from the first change on."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random, SystemRandom
from typing import Final

from phextsync.control import operations
from phextsync.control.answers import Found
from phextsync.control.client import Attachment
from phextsync.control.frames import Answer, Value
from phextsync.control.operations import Asked, check_phext, is_about_files, is_change
from phextsync.control.performing import awaiting_a_node, held_rows, perform, summarize
from phextsync.control.sockets import ABSENT
from phextsync.control.status import Status
from phextsync.errors import IdentityError, PhextsyncError, StoreError, StoreLockedError
from phextsync.files.desk import FileDesk
from phextsync.index import CoordinateRange
from phextsync.replica.replicas import ReplicaSet
from phextsync.searching import find_alone
from phextsync.store.contract import Store
from phextsync.store.folder import STORE, check_on_disk, check_restored, data_file_of, has_store
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.store.snapshot import Snapshot
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.permissions import UNRESTRICTED, Permissions

# What owns the folder without answering is starting, stopping, or a command that is soon done.
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.01


class Alone:
    """The operations of `control` on a folder where no node runs, which this process owns."""

    def __init__(self, folder: Path, identity: NodeIdentity, store: LmdbStore) -> None:
        self.replicas = _replicas(store, identity.node_id, identity.permissions)
        self._folder = folder
        self._files = FileDesk(self.replicas, folder)

    def ask(self, *request: Value) -> Value:
        answer = _answer(self.replicas, self._files, self._folder, list(request))
        if is_change(list(request)):
            self.replicas.commit()
        return answer


class Reading:
    """Those that read, on a folder that nobody owns and nobody needs to own: see `Snapshot`. If the
    folder is written while a request is answered, it is answered once more."""

    def __init__(self, folder: Path) -> None:
        """StoreError, or IdentityError where there is neither a store nor a node."""
        self._folder = folder
        self._open(is_pinned=False)

    def _open(self, *, is_pinned: bool) -> None:
        check_restored(self._folder)
        data = data_file_of(self._folder)
        if data is None:
            check_on_disk(self._folder)
            NodeIdentity.load(self._folder)
        self._snapshot = Snapshot(self._folder, data, is_pinned=is_pinned) if data else None
        try:
            self._replicas = _replicas(self._snapshot or MemoryStore(), bytes(16), UNRESTRICTED)
        except BaseException:
            self.close()
            raise
        self._files = FileDesk(self._replicas, self._folder)

    def ask(self, *request: Value) -> Value:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            answer: Answer
            try:
                answer = _answer(self._replicas, self._files, self._folder, list(request))
            except (PhextsyncError, KeyError, IndexError) as error:
                answer = error
            if self._snapshot is None or self._snapshot.is_current():
                break
            if time.monotonic() > deadline:
                raise StoreError(f"{self._folder} is being written by another process; try again")
            self.close()
            self._reopen()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _reopen(self) -> None:
        """Open what is there now; pinned, unless this process may not do that."""
        try:
            self._open(is_pinned=True)
        except StoreError:
            self._open(is_pinned=False)

    @property
    def report(self) -> tuple[str, ...]:
        """What is wrong with what was read, a line each."""
        return () if self._snapshot is None else self._snapshot.report

    def close(self) -> None:
        """Let the folder go."""
        if self._snapshot is not None:
            self._snapshot.close(clean=False)


class Visitor:
    """Reads without owning the folder for as long as that is enough; the first change asks the node
    that runs by then, or owns the folder. What changes nothing makes no store."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        report: Callable[[str], None],
        tell: Callable[[str], None] | None,
    ) -> None:
        self._folder = folder
        self._stack = stack
        self._report = report
        self._tell = tell
        self._reading: Reading | None = None
        self._owner: Asked | None = None

    def ask(self, *request: Value) -> Value:
        if self._owner is None and is_change(list(request)):
            self.finish()
            if not ((self._folder / STORE).exists() or has_store(self._folder)):
                answer, has_changed = _try(self._folder, list(request))
                if not has_changed:
                    return answer
            self._owner = self._stack.enter_context(own(self._folder, self._report, self._tell))
        if self._owner is not None:
            return self._owner.ask(*request)
        self._reading = self._reading or Reading(self._folder)
        return self._reading.ask(*request)

    def finish(self) -> None:
        """Read no more, and tell what was wrong."""
        reading, self._reading = self._reading, None
        if reading is not None:
            for line in reading.report:
                self._report(line)
            reading.close()


@contextmanager
def visit(
    folder: Path, report: Callable[[str], None], tell: Callable[[str], None] | None = None
) -> Iterator[Asked]:
    """Ask the node that runs on a folder, or, where none does, look into the folder for as long as
    the block lasts, and own it from the first change on. `report` is told what an operator should
    know of the store, `tell` that a node is waited for."""
    with ExitStack() as stack:
        asked: Asked
        try:
            asked = stack.enter_context(Attachment(folder, tell))
        except (*ABSENT, PermissionError):  # or it is that of another user
            asked = visitor = Visitor(folder, stack, report, tell)
            stack.callback(visitor.finish)
        yield asked


@contextmanager
def own(
    folder: Path, report: Callable[[str], None], tell: Callable[[str], None] | None = None
) -> Iterator[Asked]:
    """Ask the node that runs on a folder, or, where none does, own the folder for as long as the
    block lasts."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            attachment = Attachment(folder, tell)
        except ABSENT:
            identity = NodeIdentity.load(folder)
        else:
            with attachment:
                yield attachment
            return
        try:
            store = LmdbStore(folder)
        except StoreLockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            break
    is_clean = False
    try:
        for line in store.report:
            report(line)
        yield Alone(folder, identity, store)
        is_clean = True
    finally:
        store.close(clean=is_clean)


def _try(folder: Path, request: list[Value]) -> tuple[Value, bool]:
    """Return the answer to a change in a folder without a store, and whether it needs one."""
    permissions = NodeIdentity.load(folder).permissions
    replicas = _replicas(MemoryStore(), bytes(16), permissions)
    answer = _answer(replicas, FileDesk(replicas, folder), folder, request)
    return answer, replicas.durability.is_changed


def _replicas(store: Store, node_id: bytes, permissions: Permissions) -> ReplicaSet:
    return ReplicaSet(
        store,
        node_id=node_id,
        random=Random(SystemRandom().getrandbits(64)),
        wall_time_ms=lambda: time.time_ns() // 1_000_000,
        permissions=permissions,
    )


def _answer(replicas: ReplicaSet, files: FileDesk, folder: Path, request: list[Value]) -> Value:
    match request:
        case ["status"]:
            return operations.STATUS.answer.encode(_status(replicas, files, folder))
        case ["durable"]:
            return None  # what is read here is on the disk
        case ["search", str(phext), str(range_), str(words), int(limit)]:
            check_phext(request)
            within = CoordinateRange.parse(range_)
            hits = find_alone(replicas, folder, words, phext, within, limit=limit)
            missing = replicas.holding.missing(phext, within)
            return operations.SEARCH.answer.encode(Found(hits, missing))
    if is_about_files(request):
        return files.ask(request)
    return perform(replicas, request)


def _status(replicas: ReplicaSet, files: FileDesk, folder: Path) -> Status:
    identity, warnings = None, tuple[str, ...]()
    try:
        identity = NodeIdentity.load(folder)
    except IdentityError as error:  # there is something to read all the same
        if not isinstance(error.__cause__, PermissionError):  # else it is somebody else's
            warnings = (str(error),)
    return Status(
        running=False,
        name=identity.name if identity else "",
        node_id=identity.node_id.hex() if identity else "",
        folder=str(folder),
        phexts=summarize(replicas),
        warnings=warnings,
        directories=files.status(),
        holding=held_rows(replicas, awaiting_a_node(replicas)),
    )
