"""Replica events: what follows on the links from what happens to the replicas of a node."""

from collections.abc import Mapping

from phextsync.replica.listener import ReplicaListener
from phextsync.sync.elsewhere import Elsewhere
from phextsync.sync.leaving import Leaving
from phextsync.sync.link import Link, Shared
from phextsync.sync.relay import Relay


class ReplicaEvents:
    """Hears of updates, batches and phexts, and tells all links."""

    def __init__(
        self,
        links: Mapping[int, Link],
        shared: Shared,
        relay: Relay,
        leaving: Leaving,
        elsewhere: Elsewhere,
    ) -> None:
        self._links = links
        self._replicas = shared.replicas
        self._progressed = shared.listener.on_progress
        self._relay = relay
        self._leaving = leaving
        self._elsewhere = elsewhere

    def listener(self) -> ReplicaListener:
        """Return what the replicas are to tell."""
        return ReplicaListener(
            on_update=self._relay.take,
            on_open=self._phext_opened,
            on_held=self._leaving.held_changed,
            on_set_aside=self._scroll_set_aside,
            on_taken=self._batch_taken,
            on_durable=self._batch_durable,
        )

    def _batch_taken(self) -> None:
        """A batch was taken: what has arrived so far will be durable with it."""
        self._relay.committing()
        for link in self._links.values():
            link.ledger.committing()

    def _batch_durable(self) -> None:
        """The batch taken last is durable."""
        durable = self._relay.committed()
        is_dirty = self._replicas.is_dirty
        for link in self._links.values():
            if link.ledger.committed(is_dirty=is_dirty):
                link.ready()
            for phext, sources in durable.items():
                link.comparisons.hear_news(phext, sources)
        self._elsewhere.committed()
        self._progressed()

    def _phext_opened(self, phext: str) -> None:
        for link in self._links.values():
            if phext not in link.announcements.ours and link.rights.of(phext).held:
                link.announcements.tell(phext)

    def _scroll_set_aside(self, phext: str) -> None:
        """A scroll was damaged and is gone: a comparison finds it at the peers."""
        for link in self._links.values():
            link.comparisons.schedule_soon(phext)
