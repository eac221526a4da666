"""Incoming: the updates that a peer sends, merged, refused, or waiting for what they build on.

The receiver is in charge: of an update that builds on something it lacks it asks for what it lacks,
and does not acknowledge it until then.
"""

from collections.abc import Sequence

from phextsync.crdt import ROOT, Applied
from phextsync.errors import ProtocolError, ScrollError, StoreDamagedError, UpdateError
from phextsync.index import Coordinate, check_update, clean_update, contains, update_version
from phextsync.replica.listener import NewUpdate
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry
from phextsync.sync.branch import update_id
from phextsync.sync.lazy import LazyPush
from phextsync.sync.ledger import Ledger
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Entry, Hello, Refused, ScrollId, short_reason
from phextsync.sync.outbox import Outbox
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.refusals import NOT_ALLOWED, Refusals
from phextsync.sync.requests import Requests
from phextsync.sync.rights import Interest, LinkRights
from phextsync.sync.traffic import Traffic
from phextsync.sync.tree import Tree


class Incoming:
    """What comes from the peer of one link."""

    def __init__(
        self,
        link: int,
        peer_id: bytes,
        *,
        replicas: ReplicaSet,
        interest: Interest,
        rights: LinkRights,
        recent: RecentUpdates,
        ledger: Ledger,
        requests: Requests,
        outgoing: Outgoing,
        lazy: LazyPush,
        tree: Tree,
        refusals: Refusals,
        outbox: Outbox,
        traffic: Traffic,
        limits: Limits,
    ) -> None:
        self._link = link
        self._peer_id = peer_id
        self._replicas = replicas
        self._durability = replicas.durability
        self._peer_versions = replicas.peer_versions
        self._interest = interest
        self._rights = rights
        self._recent = recent
        self._ledger = ledger
        self._requests = requests
        self._outgoing = outgoing
        self._lazy = lazy
        self._tree = tree
        self._refusals = refusals
        self._outbox = outbox
        self._traffic = traffic
        self._limits = limits

    def receive(self, phext: str, entries: Sequence[Entry], name: str) -> None:
        """Take a frame of updates of a peer with a name."""
        updates = [(e.coordinate, LogEntry(e.update, e.origin, e.time_ms)) for e in entries]
        self._receive_all(phext, updates, name)

    def receive_live(
        self, phext: str, entries: Sequence[tuple[Coordinate, bytes, int]], hello: Hello
    ) -> None:
        """Take what a peer wrote since its hello."""
        origin, clock_ms = self._peer_id, hello.clock_ms
        updates = [(at, LogEntry(update, origin, clock_ms + ms)) for at, update, ms in entries]
        self._receive_all(phext, updates, hello.name)

    def _receive_all(
        self, phext: str, updates: Sequence[tuple[Coordinate, LogEntry]], name: str
    ) -> None:
        if len(updates) == 1:
            coordinates: tuple[Coordinate, ...] = (updates[0][0],)
        else:
            coordinates = tuple(dict.fromkeys(coordinate for coordinate, _ in updates))
        if len(coordinates) > self._limits.scrolls_max:
            raise ProtocolError(
                f"expected at most {self._limits.scrolls_max} scrolls, found {len(coordinates)}"
            )
        self._ledger.receive(phext, coordinates)
        changed: dict[Coordinate, None] = {}
        take = self._rights.of(phext).take
        replica = None
        for coordinate, entry in updates:
            if contains(take, coordinate) or self._rights.takes((phext, coordinate)):
                if replica is None:
                    replica = self._replicas.open(phext)
                if self._receive_entry(replica, coordinate, entry):
                    changed[coordinate] = None
            elif contains(self._interest.of(phext), coordinate):
                self._refuse((phext, coordinate), NOT_ALLOWED)
        if replica is not None and changed:
            replica.publish(tuple(changed), self._peer_id, name)
        if not self._durability.is_dirty:
            self._ledger.is_on_disk()

    def _receive_entry(self, replica: Replica, coordinate: Coordinate, entry: LogEntry) -> bool:
        """Take one update; return whether it changed the text."""
        scroll = (replica.name, coordinate)
        if self._lazy.written:
            self._lazy.hear(scroll)
        self._traffic.updates_in += 1
        is_answer = not entry.origin
        if is_answer:
            self._requests.answered(scroll)
            if not entry.update:
                self._ledger.fill(scroll)
                return False
        if entry.origin == self._peer_id and self._peer_versions.is_watched(*scroll):
            self._note_known(replica, coordinate)
        sequence = self._recent.sequence
        try:
            if self._requests.takes_place(scroll) and self._adopts(replica, scroll, entry):
                return True
            applied = replica.apply(coordinate, entry, self._link)
        except (UpdateError, ScrollError) as error:
            self._refuse(scroll, str(error))
            return False
        except StoreDamagedError:  # set aside and reported; the peer has it whole
            applied = Applied(None, covered=False, changed=False)
        is_new = self._recent.sequence != sequence
        if not is_answer and self._tree.is_used:
            self._place(scroll, entry, is_new=is_new)
        if not is_new:
            self._traffic.redundant += 1
            self._outgoing.forget(scroll, entry.update)
        if not applied.covered:
            self._ledger.miss(scroll)
            self._requests.want(scroll)
        elif is_answer:
            self._ledger.fill(scroll)
        return applied.changed

    def _note_known(self, replica: Replica, coordinate: Coordinate) -> None:
        """Note that the peer writes knowing what we wrote in a scroll, if that is on its disk."""
        own, scroll = self._replicas.node_id, (replica.name, coordinate)
        if any(entry.origin == own for entry in replica.news(coordinate)):
            return
        if self._outgoing.is_under_way(scroll) or self._ledger.is_unacknowledged(scroll):
            return
        self._peer_versions.note(*scroll, self._peer_id, replica.version(coordinate))

    def _place(self, scroll: ScrollId, entry: LogEntry, *, is_new: bool) -> None:
        """A live update came: it may have come by another way before. Where it did not, those who
        hear by us need it even if it says nothing new here, or builds on what is missing here."""
        update = update_id(*scroll, entry.update)
        if is_new:
            self._tree.keep(update, scroll, self._recent.sequence, self._link)
        elif self._tree.has(update):
            self._tree.doubled(self._link, update)
        else:
            self._tree.pass_on(NewUpdate(*scroll, entry, self._link))
        self._tree.came(self._link, update)

    def _adopts(self, replica: Replica, scroll: ScrollId, entry: LogEntry) -> bool:
        """Whether a state that was asked for took the place of ours: it has the very version."""
        check_update(entry.update, ROOT)
        version = update_version(clean_update(entry.update))
        if version != replica.version(scroll[1]):
            return False
        replica.adopt(scroll[1], entry.update)
        return True

    def _refuse(self, scroll: ScrollId, reason: str) -> None:
        self._outbox.answer(Refused(*scroll, short_reason(reason)))
        self._refusals.report(f"refused {scroll[0]} {scroll[1]} from a peer: {reason}")
