"""Editor: changes that are made here, to the texts of one phext."""

from collections.abc import Callable
from typing import Final

from phextsync.crdt import ROOT, Applied, Scroll, import_update
from phextsync.errors import ScrollError, TextError, UpdateError
from phextsync.index import Coordinate, check_update, inserted_text, update_version
from phextsync.replica.changes import current_author, current_stamp
from phextsync.replica.clients import Client
from phextsync.replica.documents import Document, Documents
from phextsync.replica.merging import Merging
from phextsync.replica.publisher import Publisher
from phextsync.replica.shared import Shared
from phextsync.replica.taking_back import check_takes_back
from phextsync.replica.tracked import Tracked
from phextsync.replica.writes import Writes
from phextsync.texts import STATE_BYTES_MAX, TEXT_BYTES_MAX, check_size, check_text, too_large_state

_LARGE_BYTES: Final = STATE_BYTES_MAX - TEXT_BYTES_MAX  # one edit may make this state too large
_EDIT_BYTES: Final = 1 << 20  # what nearly all edits add to a state is less


class Editor:
    """Checks that a change may be made, makes it, and passes it on."""

    def __init__(
        self,
        phext: str,
        documents: Documents,
        client: Client,
        tracked: Tracked,
        publisher: Publisher,
        writes: Writes,
        merging: Merging,
        shared: Shared,
    ) -> None:
        self._phext = phext
        self._documents = documents
        self._client = client
        self._tracked = tracked
        self._publisher = publisher
        self._writes = writes
        self._merging = merging
        self._author = shared.author
        self._check_writable = shared.durability.check_writable
        self._holding = shared.holding
        self._check_room = shared.check_room

    def check_allowed(self, coordinate: Coordinate) -> None:
        """PermissionDeniedError when this node may not edit there, NotHeldError when it does not
        hold that."""
        self._author.check_allowed(self._phext, coordinate)
        self._holding.check_here(self._phext, coordinate)

    def check_held(self, coordinate: Coordinate) -> None:
        """NotHeldError when this node neither holds the scroll nor has it as a guest."""
        self._holding.check_here(self._phext, coordinate)

    def edit(
        self,
        coordinate: Coordinate,
        operation: Callable[[Scroll], bytes | None],
        label: str | None = None,
    ) -> None:
        """Do to a document what returns an update, or None when nothing changed, under the client
        id of the writer; of the node alone with the label "", for what has client ids of its own,
        and for what goes through the document's steps. An operation that refuses does so before it
        changes anything. ScrollError when the document failed: it was thrown away."""
        is_step = label is not None
        if label is None:
            label = current_stamp(self._phext)
            if label:
                operation = self._stamped(operation, label)
        self._check(coordinate)
        opened = self._documents.open_or_create(coordinate)
        opened.used = True
        if opened.label != label:
            self._documents.write_as(coordinate, opened, label)
        if opened.state_bytes + opened.log_bytes > _LARGE_BYTES and not is_step:
            operation = self._bounded(coordinate, opened, operation)
        self._publisher.keep_before(coordinate)
        if coordinate in self._tracked:
            opened.scroll.steps.begin(current_author(), self._publisher.step())
        opened.text = None
        try:
            update = operation(opened.scroll)
        except ScrollError:
            self._documents.forget(coordinate)
            raise
        if update is not None:
            self._client.sign(label)
            entry = self._author.stamp(update)
            self._writes.log(coordinate, opened, entry, entry)
            self._publisher.publish_own(coordinate)

    def merge(self, coordinate: Coordinate, update: bytes) -> Applied:
        """Merge what a client of this node wrote under a client id of its own. TextError when its
        text gets too large."""
        self._check(coordinate)
        inserted = inserted_text(update)
        check_text(inserted.decode())
        self._merging.check_size(coordinate, update, len(inserted))
        opened = self._documents.open(coordinate)
        if opened is not None and _known_bytes(opened) + len(update) > STATE_BYTES_MAX:
            _check_state(opened.scroll, lambda scroll: scroll.apply(update), len(update))
        applied = self._merging.apply(coordinate, self._author.stamp(update))
        if applied.changed:
            self._publisher.publish_own(coordinate)
        return applied

    def take_back(self, coordinate: Coordinate, update: bytes) -> None:
        """Do what takes back the work of a writer, found by `taking_back.take_back`, as one step.
        UpdateError for an update that does anything else."""
        check_update(update, ROOT)
        check_takes_back(update)
        inserted = inserted_text(update)
        check_text(inserted.decode())

        def apply(scroll: Scroll) -> bytes | None:
            self._documents.open_or_create(coordinate).halves.check(scroll, update)
            self._merging.check_size(coordinate, update, len(inserted))
            applied = scroll.apply(update, is_ours=True)
            if not applied.covered:
                raise UpdateError(
                    f"{coordinate}: expected text that is here, found other taken back"
                )
            return applied.update

        self.edit(coordinate, apply)

    def import_text(
        self, coordinate: Coordinate, text: str, version_bytes_max: int, *, by_lines: bool
    ) -> None:
        """Make `text` the scroll's text such that equal imports on equal versions are one."""
        if self._documents.is_known(coordinate):
            self.edit(
                coordinate,
                lambda scroll: scroll.import_text(text, version_bytes_max, by_lines=by_lines),
            )
        elif text:
            self._check(coordinate)
            self.import_unknown(coordinate, text)

    def import_unknown(self, coordinate: Coordinate, text: str) -> None:
        """Import into a scroll that is not known here, even where writes are refused."""
        check_text(text)
        self._publisher.keep_before(coordinate)
        data = text.encode()
        check_size(coordinate, 0, len(data))
        update = import_update(coordinate.key, text)
        entry = self._author.stamp(update)
        self._documents.forget(coordinate)  # an empty one, of an edit that was refused
        self._writes.put_state(coordinate, entry, entry, update_version(update), data)
        self._publisher.publish_own(coordinate)

    def _stamped(
        self, operation: Callable[[Scroll], bytes | None], label: str
    ) -> Callable[[Scroll], bytes | None]:
        """Return an operation under the client id of a label: in a copy of a document that is to
        stay under its own, since its steps are remembered."""

        def do(scroll: Scroll) -> bytes | None:
            client = self._client.id_of(label)
            is_its_own = scroll.client_id == client
            own = scroll if is_its_own else Scroll(scroll.coordinate, client, [scroll.state()])
            update = operation(own)
            if update is None:
                return None
            update = own.stamp(update)
            if not is_its_own:
                scroll.apply(update, is_ours=True)
            return update

        return do

    def _bounded(
        self,
        coordinate: Coordinate,
        opened: Document,
        operation: Callable[[Scroll], bytes | None],
    ) -> Callable[[Scroll], bytes | None]:
        """Return an operation that is tried in a copy where it may make the state too large, or,
        where it is only seen afterwards that it did, has the document thrown away."""

        def do(scroll: Scroll) -> bytes | None:
            known = _known_bytes(opened)
            if known > STATE_BYTES_MAX - _EDIT_BYTES and _check_state(scroll, operation):
                return operation(scroll)
            update = operation(scroll)
            if update is not None and known + len(update) > STATE_BYTES_MAX:
                size = len(scroll.state())
                if size > STATE_BYTES_MAX:
                    self._documents.forget(coordinate)
                    raise _too_large(scroll, size)
            return update

        return do

    def _check(self, coordinate: Coordinate) -> None:
        self._check_writable()
        self.check_allowed(coordinate)
        self._check_room(self._phext)


def _known_bytes(opened: Document) -> int:
    """Return how many bytes the state of a document has, or a few more."""
    return opened.state_bytes + opened.log_bytes


def _check_state(
    scroll: Scroll, operation: Callable[[Scroll], object], added: int = _EDIT_BYTES
) -> bool:
    """TextError when an operation, tried in a copy, makes the state of a scroll larger, and too
    large. Return whether it was tried: not where the state and so many bytes are not too large."""
    state = scroll.state()
    if len(state) + added <= STATE_BYTES_MAX:
        return False
    trial = Scroll(scroll.coordinate, scroll.client_id, [state])
    operation(trial)
    size = len(trial.state())
    if len(state) < size > STATE_BYTES_MAX:
        raise _too_large(scroll, size)
    return True


def _too_large(scroll: Scroll, size: int) -> TextError:
    return TextError(f"{scroll.coordinate}: {too_large_state(size)}")
