"""Status: what a node tells of its peers, as values and as rows of a status."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from phextsync.boundaries import Errors
from phextsync.control.status import (
    AbsentRow,
    DurationsRow,
    ErrorsRow,
    PeerRow,
    PresenceRow,
    ReceivingRow,
    StoreRow,
)
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.durations import Durations
from phextsync.sync.lacks import Lack, Progress
from phextsync.sync.presence import PeerPresence
from phextsync.sync.traffic import Traffic


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A connected peer. `round_trip_s` is None before the first ping; `lacks` has what it lacks
    of each phext; `last_error` is why the link before this one ended, empty for the first;
    `protocol` is the version that it speaks, such as 1.7."""

    node_id: bytes
    name: str
    address: str
    state: str
    round_trip_s: float | None
    traffic: Traffic
    lacks: tuple[tuple[str, Lack], ...]
    last_error: str
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class AbsentPeer:
    """A peer that is known and not connected, and why. The node id is None and the name empty
    while nobody has answered at its address; `seen_s` is when it was seen last, in Unix time;
    `is_wanted` is False where no link is: it is blocked, or enough others are linked."""

    node_id: bytes | None
    name: str
    address: str
    seen_s: float | None
    reason: str
    is_wanted: bool = True


def peer_row(peer: PeerStatus) -> PeerRow:
    """Return a connected peer as a status has it."""
    trip = peer.round_trip_s
    return PeerRow(
        node_id=peer.node_id.hex(),
        name=peer.name,
        address=peer.address,
        round_trip_ms=None if trip is None else trip * 1000,
        state=peer.state,
        lag_scrolls=sum(lack.scrolls for _, lack in peer.lacks),
        lag_bytes=sum(lack.text_bytes for _, lack in peer.lacks),
        last_error=peer.last_error,
        **asdict(peer.traffic),
        lacks=tuple(f"{phext}: {lack.scrolls}, {lack.reason}" for phext, lack in peer.lacks),
        protocol=peer.protocol,
    )


def absent_row(peer: AbsentPeer) -> AbsentRow:
    """Return an absent peer as a status has it."""
    return AbsentRow(
        node_id=None if peer.node_id is None else peer.node_id.hex(),
        name=peer.name,
        address=peer.address,
        last_seen_s=peer.seen_s,
        reason=peer.reason,
        is_wanted=peer.is_wanted,
    )


def presence_row(peer: PeerPresence) -> PresenceRow:
    """Return what a node tells of itself as a status has it."""
    return PresenceRow(node_id=peer.node_id.hex(), name=peer.name, facts=dict(peer.facts))


def receiving_rows(progress: Iterable[Progress]) -> tuple[ReceivingRow, ...]:
    """Return the phexts of which a peer has more than we, as a status has them."""
    return tuple(ReceivingRow(**asdict(row)) for row in progress if row.scrolls < row.scrolls_of)


def store_row(replicas: ReplicaSet, commits: Durations) -> StoreRow:
    """Return how a store is, and what is open of it, as a status has it."""
    budget = replicas.budget
    return StoreRow(
        is_writable=replicas.durability.is_writable,
        open_scrolls=budget.scrolls,
        open_bytes=budget.bytes,
        evictions=budget.evictions,
        commits=durations_row(commits),
        syncs=durations_row(replicas.store.syncs),
    )


def errors_row(errors: Errors) -> ErrorsRow:
    """Return which errors ended parts of a node as a status has it."""
    return ErrorsRow(
        count=errors.count, since_s=errors.since_s, last=errors.last, last_s=errors.last_s
    )


def durations_row(durations: Durations) -> DurationsRow:
    """Return how long something took as a status has it."""
    return DurationsRow(
        count=durations.count,
        sum_ms=1000 * durations.sum_s,
        max_ms=1000 * durations.max_s,
        at_most_s=dict(durations.buckets()),
    )
