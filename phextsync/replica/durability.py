"""Durability: what the next batch takes, and what became of the batch that was taken last.

Who writes to the disk, a node or a simulated one, does this and nothing else: `take` a batch, give
it to the store, and say that it was `written` or `refused`. Everything that has to know of it, the
replicas and those who listen to them, hears of it from here.
"""

from collections.abc import Callable
from typing import Protocol

from phextsync.errors import StoreError, StoreFullError
from phextsync.replica.history_keeper import HistoryKeeper
from phextsync.replica.listener import Listeners
from phextsync.replica.staged import Staged
from phextsync.store.contract import Batch, ScrollWrite, Store


class Writes(Protocol):
    """The changes of one phext. It says `Durability.changed` when it has some."""

    name: str

    def take_writes(self) -> list[ScrollWrite]:
        """Return what a batch has to write; `settle` or `unsettle` must follow."""

    def settle(self) -> None:
        """The writes taken last are durable."""

    def unsettle(self) -> None:
        """The writes taken last were refused: the next batch takes them again."""


class Durability:
    """The changes of all phexts of a node on their way to its store.

    One batch is under way at a time. Batches are numbered from 1 in the order in which they are
    taken; one that is refused keeps its number, and its changes come with the next.
    """

    def __init__(self, store: Store, history: HistoryKeeper, listeners: Listeners) -> None:
        self.is_fleeting = store.is_fleeting
        """Whether what is durable ends with the process all the same."""
        self._store = store
        self._history = history
        self._listeners = listeners
        self._changed: dict[str, Writes] = {}
        self._committing: list[Writes] = []
        self._leases: Staged[str, int] = Staged()
        self._receipts: Staged[bytes, Callable[[], bytes]] = Staged()
        self._notes: Staged[bytes, bytes] = Staged()
        self._failure: StoreError | None = None
        self._batches_taken = self._batches_durable = 0
        self._is_told = True

    # -- what is to be durable -------------------------------------------------------------

    def changed(self, writes: Writes) -> None:
        """A phext has something for the next batch."""
        self._changed[writes.name] = writes
        self._listeners.dirty()

    def lease(self, phext: str, client_id: int) -> None:
        """Let the next batch say under which client id this node writes a phext."""
        self._leases.set(phext, client_id)

    def end_lease(self, phext: str) -> None:
        """Let no later batch say under which client id this node wrote a phext so far."""
        self._leases.drop(phext)

    def give_receipt(self, client: bytes, encode: Callable[[], bytes]) -> None:
        """Let the next batch hold the receipt of `client`, as `encode` says it is then."""
        self._receipts.set(client, encode)
        self._listeners.dirty()

    def note(self, key: bytes, value: bytes) -> None:
        """Let the next batch hold a note; an empty one is removed."""
        self._notes.set(key, value)
        self._listeners.dirty()

    def noted(self, key: bytes) -> bytes:
        """Return a note as it was set last, nothing when there is none."""
        value = self._notes.get(key)
        return self._store.note(key) if value is None else value

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return the notes whose key begins with `prefix`, in order."""
        notes = dict(self._store.notes(prefix))
        latest = self._notes.latest()
        notes.update((key, value) for key, value in latest.items() if key.startswith(prefix))
        return sorted((key, value) for key, value in notes.items() if value)

    # -- what is durable -------------------------------------------------------------------

    @property
    def is_changed(self) -> bool:
        """Whether there is a change that no batch has taken yet."""
        return bool(self._changed or self._notes or self._history.is_changed)

    @property
    def is_dirty(self) -> bool:
        """Whether something is not yet durable, or on its way to be."""
        return bool(self._changed or self._committing or self._notes or self._notes.is_taken)

    @property
    def last_batch(self) -> int:
        """The number of the batch with which every change made so far is durable."""
        return self._batches_taken + self.is_changed

    def is_durable(self, batch: int) -> bool:
        """Whether a batch with this number, or one after it, is durable."""
        return self._batches_durable >= batch

    @property
    def is_writable(self) -> bool:
        """Whether the store took the last batch."""
        return self._failure is None

    def check_writable(self) -> None:
        """StoreFullError while the store refuses batches."""
        if self._failure is not None:
            raise StoreFullError(f"the store refused the last write: {self._failure}")

    # -- batches ---------------------------------------------------------------------------

    def take(self) -> Batch | None:
        """Return what the store has to commit, None when there is nothing; `written` or `refused`
        must follow."""
        if not (self._changed or self._receipts or self._notes or self._history.has_work):
            if not self._is_told:
                self._tell()
            return None
        assert not self._committing
        self._history.take_settings()  # first: they hold for the writes of this batch
        self._committing, self._changed = list(self._changed.values()), {}
        try:
            writes = [(one.name, write) for one in self._committing for write in one.take_writes()]
        except BaseException:  # what cannot be made once may be made later
            self._give_back()
            raise
        leases = tuple(self._leases.take().items())
        receipts = tuple((client, encode()) for client, encode in self._receipts.take().items())
        notes = tuple(self._notes.take().items())
        pieces = self._history.take_pieces()
        self._batches_taken += 1
        batch = Batch(tuple(writes), leases, receipts, pieces, self._history.taken, notes)
        self._listeners.taken()
        return batch

    def written(self) -> None:
        """The batch taken last is durable."""
        for one in self._committing:
            one.settle()
        self._committing = []
        self._leases.written()
        self._receipts.written()
        self._notes.written()
        self._history.written(is_refused=self._store.refused_history)
        self._failure = None
        self._batches_durable = self._batches_taken
        self._is_told = False
        self._tell()

    def refused(self, error: StoreError) -> None:
        """The store refused the batch taken last: keep it, and refuse edits until one is taken."""
        self._give_back()
        self._leases.refused()
        self._receipts.refused()
        self._notes.refused()
        self._history.refused()
        self._failure = error

    def _give_back(self) -> None:
        """The next batch takes what the last one took."""
        for one in self._committing:
            one.unsettle()
            self._changed[one.name] = one
        self._committing = []

    def commit(self) -> None:
        """Make every change durable before returning. StoreError when it cannot be done, and when
        a setting of history could not, which is given up."""
        batch = self.take()
        if batch is not None:
            try:
                self._store.commit(batch)
            except StoreError as error:
                self.refused(error)
                raise
            self.written()
            self._history.check()

    def _tell(self) -> None:
        """Tell those who listen; if one of them fails, it is told again with the next batch."""
        self._listeners.durable()
        self._is_told = True
