"""ReplicaSet: all replicas of one node over one store."""

from collections import deque
from collections.abc import Callable, Container, Iterable
from contextlib import AbstractContextManager
from random import Random
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from phextsync.crdt import merge_updates
from phextsync.errors import PhextsyncError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.phext_names import PHEXTS_MAX, checked_name
from phextsync.replica.author import Author
from phextsync.replica.budget import Budget
from phextsync.replica.clients import CLIENTS, Clients
from phextsync.replica.durability import Durability
from phextsync.replica.guests import Guests
from phextsync.replica.history_keeper import HistoryKeeper, HistorySetting
from phextsync.replica.holding import Holding
from phextsync.replica.listener import Listeners, NewUpdate, ReplicaListener
from phextsync.replica.peer_versions import PeerVersions
from phextsync.replica.replica import Replica
from phextsync.replica.shared import Shared
from phextsync.replica.views import Range, as_range
from phextsync.store.contract import Store
from phextsync.trust.permissions import UNRESTRICTED, Permissions

_REPORTS_MAX: Final = 100


class Dropped(NamedTuple):
    """A guest that has left, and the link over which its changes came, if any did."""

    phext: str
    coordinate: Coordinate
    host: int | None


class ReplicaSet:
    """All replicas of one node over one store: their batches, client ids and open documents.

    `wall_time_ms` is stored beside updates for people to read and decides nothing. `permissions`
    are this node's own: edits that they do not allow raise PermissionDeniedError. `on_failure` is
    told of what failed outside, such as a subscriber; without it, it is reported.
    """

    def __init__(
        self,
        store: Store,
        *,
        node_id: bytes,
        random: Random,
        wall_time_ms: Callable[[], int],
        open_bytes_max: int = 64 << 20,
        permissions: Permissions = UNRESTRICTED,
        phexts_max: int = PHEXTS_MAX,
        on_failure: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self.store = store
        self.node_id = node_id
        self.phexts_max = phexts_max
        self.reports: deque[str] = deque(maxlen=_REPORTS_MAX)
        self.author = Author(node_id, permissions, wall_time_ms)
        self.budget, self.peer_versions = Budget(open_bytes_max), PeerVersions()
        self.listeners = listeners = Listeners()
        self.listen(ReplicaListener(on_durable=self.budget.keep, on_held=self._held_changed))
        self.history = HistoryKeeper(
            store, now_ms=wall_time_ms, report=self.report, wake=listeners.dirty
        )
        self.durability = Durability(store, self.history, listeners)
        self.guests = Guests(self.durability)
        self.holding = Holding(self.durability, self.guests, listeners.held)
        self.clients = Clients(
            random,
            self.author,
            self.durability,
            open_lines=lambda: self.open(CLIENTS),
            known_lines=lambda: self.known(CLIENTS),
        )
        self.on_failure = on_failure or self._report_failure
        self._shared = Shared(
            store=store,
            author=self.author,
            listeners=listeners,
            history=self.history,
            durability=self.durability,
            holding=self.holding,
            clients=self.clients,
            budget=self.budget,
            report=self.report,
            on_failure=self.on_failure,
            check_room=self.check_room,
            make=self._make_if_new,
        )
        self._replicas: dict[str, Replica] = {}
        self._unmade: WeakValueDictionary[str, Replica] = WeakValueDictionary()  # see `phext`

    def listen(self, listener: ReplicaListener) -> None:
        """Tell one more of what happens here, after those who listen already."""
        self.listeners.add(listener)

    def hearing(self, on_update: Callable[[NewUpdate], None]) -> AbstractContextManager[None]:
        """Tell `on_update` of every update too for as long as the block lasts."""
        return self.listeners.hearing(on_update)

    def open(self, name: str) -> Replica:
        """Return the replica of the phext `name`, which is made if there is none: it takes one of
        the places for phexts, and peers learn of it."""
        replica = self._replicas.get(name)
        if replica is None:
            replica = self._unmade.get(name)
            if replica is None:
                replica = self._new(name)
            self.check_room(name)
            self._make(replica)
        return replica

    def phext(self, name: str) -> Replica:
        """Return the replica of the phext `name`, which is made by its first scroll: who only
        reads or follows makes nothing."""
        replica = self._replicas.get(name)
        if replica is None:
            replica = self.known(name)
        if replica is None:
            replica = self._unmade.get(name)
        if replica is None:
            replica = self._new(name)
            if len(self._unmade) >= self.phexts_max:
                raise PhextsyncError(
                    f"expected at most {self.phexts_max} phexts to be followed that do not exist"
                )
            self._unmade[name] = replica
        return replica

    def known(self, name: str) -> Replica | None:
        """Return the replica of a phext that is open or stored, None when there is none."""
        return self.open(name) if name in self._replicas or name in self.store.phexts() else None

    def _new(self, name: str) -> Replica:
        return Replica(checked_name(name), self._shared)

    def _make(self, replica: Replica) -> None:
        self._unmade.pop(replica.name, None)
        self._replicas[replica.name] = replica
        self.listeners.opened(replica.name)

    def _make_if_new(self, name: str) -> None:
        if name not in self._replicas:
            self._make(self._unmade[name])

    def check_room(self, name: str) -> None:
        """PhextsyncError when the phext is not here and there may be no more."""
        if name not in self._replicas and not self.has_room_for(name):
            raise PhextsyncError(
                f"expected at most {self.phexts_max} phexts, found another: {name!r:.60}"
            )

    def opened_replica(self, name: str) -> Replica | None:
        """Return the replica of `name` if it has been opened. From any thread."""
        return self._replicas.get(name)

    def has_room_for(self, name: str) -> bool:
        """Say whether the phext is here or may come into being."""
        if name in self._replicas or name == CLIENTS:
            return True
        names = {*self.names(), CLIENTS}
        return name in names or len(names) < self.phexts_max

    def names(self) -> list[str]:
        """Return the names of all phexts that are open or stored, sorted."""
        return sorted({*self.store.phexts(), *self._replicas})

    @property
    def permissions(self) -> Permissions:
        """What this node's certificate allows it to do; another one may come while it runs."""
        return self.author.permissions

    @permissions.setter
    def permissions(self, permissions: Permissions) -> None:
        self.author.permissions = permissions

    # -- durability ------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether something is not yet durable, or on its way to be."""
        return self.durability.is_dirty

    @property
    def is_writable(self) -> bool:
        """Whether the store took the last write."""
        return self.durability.is_writable

    def commit(self) -> None:
        """Make every change durable before returning. StoreError when it cannot be done, and when
        a setting of history could not, which is given up."""
        self.durability.commit()

    # -- what is held ----------------------------------------------------------------------

    def hold(
        self,
        phext: str,
        ranges: Iterable[Range] = (EVERYTHING,),
        *,
        copies: int | None = None,
        follows: bool = False,
    ) -> None:
        """Hold these ranges of a phext and, in time, no others: what this node has of the rest
        stays until `copies` others that hold it have it on their disks (None: all that hold it and
        are linked, one at least), and leaves then without being deleted for anybody. `follows`:
        placement says so, and is to be followed.

        PhextsyncError for a phext of the library, more than 24 ranges, or fewer than 1 copy.
        """
        known = self.known(phext)
        self.holding.want(
            phext,
            map(as_range, ranges),
            copies,
            follows,
            lambda range_: known is not None and known.has_scrolls(range_),
        )

    # -- guests ----------------------------------------------------------------------------

    def part_guests(self, link: int, phext: str | None = None) -> None:
        """A link tells no longer of guests, of one phext or of any: they are stale."""
        for name, coordinate in self.guests.part(link, phext):
            self.phext(name).guests.hide(coordinate)

    def drop_guests(self, in_use: Container[tuple[str, Coordinate]]) -> list[Dropped]:
        """Let guests go where there are too many, but those in use; return them, each with the
        link over which its changes came."""
        leaving = self.guests.excess(
            lambda scroll: (
                scroll not in in_use and self.phext(scroll[0]).guests.may_leave(scroll[1])
            )
        )
        return self._drop(leaving)

    def drop_guest(self, scroll: tuple[str, Coordinate]) -> list[Dropped]:
        """Let a guest go, unless it has edits that no holder has."""
        return self._drop([scroll] if scroll not in self.guests.unsent else [])

    def _drop(self, leaving: list[tuple[str, Coordinate]]) -> list[Dropped]:
        dropped = [Dropped(*scroll, self.guests.host(scroll)) for scroll in leaving]
        for phext in dict.fromkeys(phext for phext, _ in leaving):
            replica = self.phext(phext)
            places = [coordinate for name, coordinate in leaving if name == phext]
            for coordinate in places:
                self.guests.remember((phext, coordinate), replica.version(coordinate))
                replica.guests.hide(coordinate)
            self.holding.drop_guests(phext, places)
            replica.leave()
        return dropped

    def _held_changed(self, phext: str) -> None:
        replica = self._replicas.get(phext, self._unmade.get(phext))
        if replica is not None:
            replica.note_held()

    # -- history ---------------------------------------------------------------------------

    @property
    def history_kept_ms(self) -> int:
        """How long history is kept in this folder where no range has a setting of its own, in
        milliseconds; 0: it is not."""
        return self.history.kept_ms

    def history_settings(self) -> list[HistorySetting]:
        """Return how long history is kept: first in the whole folder, then in ranges."""
        return self.history.settings()

    def keep_history(
        self,
        kept_ms: int | None,
        phext: str | None = None,
        range_: Range = EVERYTHING,
        *,
        unless_set: bool = False,
    ) -> None:
        """Let the next batch set how long history is kept, as `HistoryKeeper.keep` does."""
        self.history.keep(kept_ms, phext, range_, unless_set=unless_set)

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        """Return keys and whole states as they are stored, in order, about `bytes_max` of them."""
        found = self.store.read_range(phext, lower, upper, bytes_max)
        return [(key, merge_updates(stored.updates)) for key, stored in found]

    def set_aside(self, phext: str, problem: str) -> None:
        """A damaged scroll is absent from now on."""
        self._shared.set_aside(phext, problem)

    def _report_failure(self, part: str, error: Exception) -> None:
        self.report(f"{part} failed: {error!r}")

    def report(self, text: str) -> None:
        """Keep a line for the node's operator; the oldest go first."""
        self.reports.append(text)
