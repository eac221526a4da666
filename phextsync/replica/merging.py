"""Merging: what peers bring to the scrolls of one phext."""

from typing import Final

from phextsync.crdt import ROOT, Applied, Scroll
from phextsync.errors import ScrollError
from phextsync.index import (
    Coordinate,
    check_update,
    clean_update,
    clock_of,
    fits,
    plain_text,
    update_version,
)
from phextsync.replica.clients import Client
from phextsync.replica.contents import Contents
from phextsync.replica.documents import Documents
from phextsync.replica.halves import check_whole
from phextsync.replica.publisher import Publisher
from phextsync.replica.shared import Shared
from phextsync.replica.writes import Writes
from phextsync.store.contract import LogEntry
from phextsync.texts import check_size, is_too_large

_NOTHING: Final = b"\0"  # a state vector


class Merging:
    """Applies updates, and takes over whole states."""

    def __init__(
        self,
        phext: str,
        contents: Contents,
        documents: Documents,
        client: Client,
        publisher: Publisher,
        writes: Writes,
        shared: Shared,
    ) -> None:
        self._phext = phext
        self._contents = contents
        self._documents = documents
        self._client = client
        self._publisher = publisher
        self._writes = writes
        self._author = shared.author
        self._report = shared.report

    def apply(self, coordinate: Coordinate, entry: LogEntry, source: int | None = None) -> Applied:
        """Merge an update that a peer sent over link `source`. UpdateError when it is no update
        of a text; ScrollError when the document failed and was thrown away."""
        if not isinstance(coordinate, Coordinate):
            raise TypeError(f"expected a coordinate, found {type(coordinate).__name__}")
        if not isinstance(entry, LogEntry):
            raise TypeError(f"expected an update of a log, found {type(entry).__name__}")
        self._publisher.keep_before(coordinate)
        opened = self._documents.get(coordinate)
        if opened is None and not self._documents.is_known(coordinate):
            merged = self._apply_state(coordinate, entry, source)
            if merged is not None:
                return merged
        if self._guard_client_id(coordinate, entry.update) or opened is None:
            opened = self._documents.open_or_create(coordinate)
        opened.halves.check(opened.scroll, entry.update)
        opened.text = None
        try:
            applied = opened.scroll.apply(entry.update)
        except ScrollError:
            self._documents.forget(coordinate)
            raise
        if applied.update is not None:
            if applied.update is not entry.update:
                entry = LogEntry(applied.update, entry.origin, entry.time_ms)
            self._writes.log(coordinate, opened, entry, self._author.seen(entry), source)
        return applied

    def check_size(self, coordinate: Coordinate, update: bytes, inserted_bytes: int) -> None:
        """TextError when an update that inserts so many bytes makes the text too large. What is
        there already of them is found in a copy, made only where all of them would be too many."""
        before = self._contents.size(coordinate)
        if is_too_large(before, before + inserted_bytes):
            opened = self._documents.open(coordinate)
            states = [] if opened is None else [opened.scroll.state()]
            trial = Scroll(coordinate, self._client.id, states)
            trial.apply(update)
            check_size(coordinate, before, trial.size)

    def adopt(self, coordinate: Coordinate, state: bytes) -> None:
        """Take `state` in place of ours, then add the lines that only ours had, if we may write."""
        check_update(state, ROOT)
        state = clean_update(state)
        check_whole(state)
        self._publisher.keep_before(coordinate)
        opened = self._documents.open(coordinate)
        ours = "" if opened is None else opened.scroll.text
        if self._client.clocks_in(state):
            self._documents.renew_client()
        self._documents.forget(coordinate)
        opened = self._documents.replace(coordinate, [state])
        self._writes.replace(coordinate)
        self._client.sign()
        may_add = self._author.may_write(self._phext, coordinate)
        update = opened.scroll.union(ours) if may_add else None
        if update is not None:
            entry = self._author.stamp(update)
            self._writes.log(coordinate, opened, entry, entry)
        self._publisher.publish_own(coordinate)

    def _apply_state(
        self, coordinate: Coordinate, entry: LogEntry, source: int | None
    ) -> Applied | None:
        """Take the whole state of an unknown scroll without a document, when it is so plain."""
        check_update(entry.update, ROOT)
        text = plain_text(entry.update)
        if text is None:
            # What builds on something unknown gets no document: a peer may send much of it.
            is_fit = fits(_NOTHING, clean_update(entry.update))
            return None if is_fit else Applied(None, covered=False, changed=False)
        version = update_version(entry.update)
        seen = self._author.seen(entry)
        self._writes.put_state(coordinate, entry, seen, version, text, source)
        return Applied(entry.update, covered=True, changed=bool(text))

    def _guard_client_id(self, coordinate: Coordinate, update: bytes) -> bool:
        """Take a new client id when a peer shows a higher clock for ours than we have: documents
        are others then. Return whether it did."""
        for client, shown in self._client.clocks_in(update):
            if shown > clock_of(self._contents.version(coordinate), client):
                self._report(f"{self._phext}: client id {client} was used elsewhere; took another")
                self._documents.renew_client()
                return True
        return False
