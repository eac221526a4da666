"""Mending: what is done to an open scroll may break off anywhere, as by an interrupt."""

from typing import NamedTuple

from phextsync.index import Coordinate
from phextsync.replica.changes import current_stamp
from phextsync.replica.clients import Client
from phextsync.replica.documents import Documents
from phextsync.replica.pending import Pending, Unsettled
from phextsync.replica.publisher import Publisher
from phextsync.replica.tracked import Tracked
from phextsync.replica.writes import Writes


class Mark(NamedTuple):
    """What waited of a scroll for the next batch before a change, and how many updates of it."""

    unsettled: Unsettled | None
    updates: int


class Mending:
    """Tells which changes of a phext touch one open scroll and nothing else, and takes care of one
    of them that broke off: it is made, or not at all."""

    def __init__(
        self,
        documents: Documents,
        client: Client,
        tracked: Tracked,
        publisher: Publisher,
        writes: Writes,
        pending: Pending,
    ) -> None:
        self._phext = writes.name
        self._documents = documents
        self._client = client
        self._tracked = tracked
        self._publisher = publisher
        self._writes = writes
        self._pending = pending

    def is_open(self, coordinate: Coordinate) -> bool:
        """Whether a scroll has a document, so that to read it opens none, and no history, which a
        document that is thrown away would take along."""
        return self._documents.get(coordinate) is not None and coordinate not in self._tracked

    def is_at_hand(self, coordinate: Coordinate, label: str) -> bool:
        """Whether a change by a writer of that label touches nothing but a document that is open
        and what waits for the next batch."""
        return (
            self.is_open(coordinate)
            and self._client.is_signed(current_stamp(self._phext, label))
            and not self._publisher.is_involved
        )

    def mark(self, coordinate: Coordinate) -> Mark:
        """Return what to `mend` a change with that is about to be made."""
        unsettled = self._pending.waiting(coordinate)
        return Mark(unsettled, 0 if unsettled is None else len(unsettled.log))

    def mend(self, coordinate: Coordinate, mark: Mark) -> None:
        """A change or a read has broken off: throw the document away, in which half of it may be.
        If a change got as far as the log it is made, and told, perhaps once more."""
        self._documents.forget(coordinate)
        unsettled = self._pending.waiting(coordinate)
        if unsettled is not None and unsettled is not mark.unsettled and not unsettled.log:
            self._pending.drop(coordinate)
        elif unsettled is not None:
            made = unsettled.log[mark.updates if unsettled is mark.unsettled else 0 :]
            self._writes.tell_again(coordinate, made)
            if made:
                self._publisher.publish((coordinate,), None)
