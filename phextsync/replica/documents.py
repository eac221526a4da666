"""Documents: the open scrolls of a phext, opened on demand and closed when memory is short.

There is one document for one scroll. It is pinned while it has changes that are not yet durable,
and while a history remembers its steps.
"""

from typing import Final

from phextsync.crdt import Scroll
from phextsync.errors import StoreDamagedError
from phextsync.index import Coordinate, CoordinateIndex, OpenText
from phextsync.replica.clients import Client
from phextsync.replica.halves import Halves
from phextsync.replica.pending import Pending, Unsettled
from phextsync.replica.shared import Shared
from phextsync.replica.tracked import Tracked
from phextsync.store.contract import StoredScroll

LOG_ENTRY_BYTES: Final = 64
"""What an entry of a log costs besides its update."""

# An open document costs about 6 KiB before its text, which Yrs and the cached string both hold.
# What was deleted leaves some bytes in a state, for which Yrs and the version take some 16 times as
# much; an update that is not folded into the state yet takes twice what it does in the store.
_DOCUMENT_BYTES: Final = 6144
_PER_TEXT: Final = 3
_PER_DELETED: Final = 16
_PER_LOGGED: Final = 2
_TEXT_BYTES: Final = 256  # what a text costs that is kept without a document


class Document(OpenText):
    """An open scroll, what its state and log occupy in the store, and where it must not be cut."""

    __slots__ = ("halves", "label", "log_bytes", "scroll", "state_bytes")

    def __init__(self, scroll: Scroll, state_bytes: int = 0, log_bytes: int = 0) -> None:
        self.scroll = scroll
        self.halves = Halves()
        self.label = ""  # of the writer under whose client id it is
        self.state_bytes = state_bytes
        self.log_bytes = log_bytes
        self.used = True

    @property
    def bytes_taken(self) -> int:
        """About what it takes in memory."""
        size = self.scroll.size
        deleted_bytes = max(0, self.state_bytes - size)
        counted = _PER_TEXT * size + _PER_DELETED * deleted_bytes + _PER_LOGGED * self.log_bytes
        return _DOCUMENT_BYTES + counted


class Documents:
    """The documents of one phext, attached to its index, and texts that are kept without one."""

    def __init__(
        self,
        phext: str,
        index: CoordinateIndex,
        pending: Pending,
        client: Client,
        tracked: Tracked,
        shared: Shared,
    ) -> None:
        self._phext = phext
        self._index = index
        self._pending = pending
        self._client = client
        self._tracked = tracked
        self._store = shared.store
        self._shared = shared
        self._budget = shared.budget
        self._fresh: dict[Coordinate, Document] = {}  # of scrolls that the index does not know yet

    # -- looking ---------------------------------------------------------------------------

    def get(self, coordinate: Coordinate) -> Document | None:
        """Return the scroll's document if it is open: a text may be kept without."""
        opened: OpenText | None = self._index.get(coordinate)
        return opened if isinstance(opened, Document) else self._fresh.get(coordinate)

    @property
    def fresh(self) -> dict[Coordinate, Document]:
        """The documents of scrolls that the index does not know, for compiled look-ups."""
        return self._fresh

    def is_open(self, coordinate: Coordinate) -> bool:
        """Whether the scroll has a document, or its text is kept. From any thread."""
        return coordinate in self._fresh or self._index.get(coordinate) is not None

    def is_known(self, coordinate: Coordinate) -> bool:
        """Whether there is anything of the scroll here."""
        return coordinate in self._index or coordinate in self._fresh or coordinate in self._pending

    # -- opening ---------------------------------------------------------------------------

    def open(self, coordinate: Coordinate, stored: StoredScroll | None = None) -> Document | None:
        """Return the scroll's document, made of what is `stored` and pending if it is closed; None
        when there is nothing of it."""
        opened = self.get(coordinate)
        if opened is not None:
            return opened
        if stored is None and coordinate in self._index:
            stored = self.read_stored(coordinate)
        opened = None if stored is None else self._made(coordinate, stored)
        for layer in self._pending.layers(coordinate):
            # Only a document that failed leaves a log behind: open scrolls are pinned.
            state = [] if layer.state is None else [layer.state]
            opened = opened or Document(Scroll(coordinate, self._client.id, state))
            for entry in layer.log:
                opened.scroll.apply(entry.update)
        if opened is not None:
            self._keep(coordinate, opened)
        return opened

    def open_or_create(self, coordinate: Coordinate) -> Document:
        """Return the scroll's document, an empty one when there is nothing of it."""
        opened = self.get(coordinate)  # as nearly always
        return opened or self.open(coordinate) or self.replace(coordinate, [])

    def replace(self, coordinate: Coordinate, states: list[bytes]) -> Document:
        """Return a new document of a scroll, made of `states` and nothing else."""
        opened = Document(Scroll(coordinate, self._client.id, states))
        self._keep(coordinate, opened)
        return opened

    def read_stored(self, coordinate: Coordinate) -> StoredScroll:
        """Read a scroll that the index knows; one that is damaged is set aside and reported."""
        try:
            stored = self._store.read(self._phext, coordinate.key)
            if stored is None:
                raise StoreDamagedError(f"{self._phext} {coordinate}: its text is missing")
            return stored
        except StoreDamagedError as error:
            self._store.quarantine(self._phext, coordinate.key)
            self._index.remove(coordinate)
            self._client.give_up()  # it may have written what is lost
            self.close_unpinned()
            self._shared.set_aside(self._phext, str(error))
            raise

    def keep_text(self, coordinate: Coordinate, text: str) -> str:
        """Keep the text of a scroll whose document nobody needs yet; return it."""
        kept = OpenText()
        kept.text, kept.used = text, True
        self._index.set_value(coordinate, kept)
        self._budget.add(self, coordinate, kept, _TEXT_BYTES + text.__sizeof__())
        return text

    def write_as(self, coordinate: Coordinate, opened: Document, label: str) -> None:
        """Have a document write under the client id of a label from now on. One whose steps are
        remembered stays as it is."""
        if coordinate not in self._tracked:
            client = self._client.id_of(label)
            opened.scroll = Scroll(coordinate, client, [opened.scroll.state()])
            opened.label = label

    def renew_client(self) -> None:
        """Write under a new client id from now on, in all documents."""
        client = self._client.renew()
        for coordinate in dict.fromkeys((*self._pending.coordinates(), *self._tracked)):
            opened = self.get(coordinate)
            if opened is not None:
                opened.scroll = Scroll(coordinate, client, [opened.scroll.state()])
                opened.label = ""
                self._track(coordinate, opened.scroll)
        self.close_unpinned()

    def _made(self, coordinate: Coordinate, stored: StoredScroll) -> Document:
        scroll = Scroll(coordinate, self._client.id, stored.updates)
        log_bytes = stored.log_bytes + LOG_ENTRY_BYTES * len(stored.log)
        return Document(scroll, len(stored.state or b""), log_bytes)

    def _keep(self, coordinate: Coordinate, opened: Document) -> None:
        self._track(coordinate, opened.scroll)
        kept: OpenText | None = self._index.get(coordinate)
        if kept is not None:
            kept.text = None
            self._budget.remove(kept)
        if coordinate in self._index:
            self._index.set_value(coordinate, opened)
        else:
            self._fresh[coordinate] = opened
        self._budget.add(self, coordinate, opened, opened.bytes_taken)

    def _track(self, coordinate: Coordinate, scroll: Scroll) -> None:
        """Let a new document remember what its histories ask for, from now on."""
        for author in self._tracked.authors(coordinate):
            scroll.steps.track(author)

    # -- closing ---------------------------------------------------------------------------

    def hide(self, coordinate: Coordinate) -> None:
        """Have the text at hand no longer: whoever reads it next has to ask for it."""
        kept: OpenText | None = self._index.get(coordinate)
        opened = self.get(coordinate)
        if opened is not None:
            opened.text = None
        elif kept is not None:
            self._budget.remove(kept)
            self._index.set_value(coordinate, None)

    def is_idle(self, coordinate: Coordinate) -> bool:
        """Whether all of a scroll is in the store, nobody remembers its steps, and nobody has used
        it since this was asked last."""
        if coordinate in self._pending or coordinate in self._tracked:
            return False
        kept: OpenText | None = self._index.get(coordinate)
        was_used = kept is not None and kept.used
        if kept is not None:
            kept.used = False
        return not was_used

    def forget(self, coordinate: Coordinate) -> None:
        """Throw the document away; the next use makes one of what is stored and pending."""
        opened = self.get(coordinate)
        if opened is not None:
            self._budget.remove(opened)
            if self._fresh.pop(coordinate, None) is None:
                self._index.set_value(coordinate, None)

    def close_if_unpinned(self, coordinate: Coordinate, opened: OpenText) -> bool:
        """Close an open scroll unless it has changes that are not yet durable, or a history."""
        if coordinate in self._pending or coordinate in self._tracked:
            return False
        if self._fresh.pop(coordinate, None) is None and self._index.get(coordinate) is opened:
            self._index.set_value(coordinate, None)
        return True

    def close_unpinned(self) -> None:
        """Close all that can be closed."""
        self._budget.close_unpinned(self)

    def settle(self, coordinate: Coordinate, settled: Unsettled) -> None:
        """What was not yet durable of a scroll is in the store: let the index know it."""
        if settled.leaves:
            self.forget(coordinate)
            if coordinate in self._index:
                self._index.remove(coordinate)
            return
        opened = self.get(coordinate)
        self._fresh.pop(coordinate, None)
        self._index.set(coordinate, settled.fingerprint, settled.size, opened)
        if opened is not None:
            self._budget.resize(opened, opened.bytes_taken)
