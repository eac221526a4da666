"""Node: the one place where the core meets IO: links, the writer, the clock, discovery.

One nursery holds all tasks of a node; leaving `open_node` cancels them, writes what is not yet
durable and closes the store. Nothing here decides what to say to a peer: see `protocol`. What a
node touches outside of itself is in its `Surroundings`, so that a simulator can take its place.
"""

import json
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, astuple, dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

import trio

from phextsync import discovery, transport
from phextsync.boundaries import Boundary, one_line
from phextsync.control import desk as control
from phextsync.errors import (
    IdentityError,
    LinkError,
    NotSyncedError,
    PhextsyncError,
    StoreError,
    StoreFullError,
)
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node import invitations as invitation
from phextsync.node.status import AbsentPeer, PeerStatus, absent_row, peer_row, presence_row
from phextsync.replica.replicas import CLIENTS, Replica, ReplicaSet
from phextsync.replica.views import Range, as_range
from phextsync.search import Hit, Searcher
from phextsync.store.durations import Durations
from phextsync.store.stores import Batch, LmdbStore, Store
from phextsync.streams import ChangeStream
from phextsync.sync.events import PeerJoined, PeerLost
from phextsync.sync.lacks import Lack
from phextsync.sync.listener import Listener
from phextsync.sync.presence import PeerPresence
from phextsync.sync.synchronizer import Synchronizer
from phextsync.sync.timing import Timing
from phextsync.sync.traffic import Traffic
from phextsync.trust.identity import NodeIdentity, certificate_end_s, certificate_permissions
from phextsync.trust.known_peers import KnownPeers, State
from phextsync.trust.permissions import NOTHING, Permissions, Ranges, intersection

DEFAULT_PORT: Final = 7439  # PHEX on a keypad
DEFAULT_PHEXT: Final = "memory"
LINKS_MAX: Final = 16

# A batch gathers what comes within this time after its first change; durable within 50 ms.
# Whoever waits for the disk ends both times.
_GATHER_S: Final = 0.003
_COMMIT_PAUSE_S: Final = 0.015
_RETRY_S: Final = 1.0
_DISCOVERY_PAUSE_S: Final = 5.0
_IMPORTED_AT_ONCE: Final = 5000
_STOP_S: Final = 5.0
_SEND_BYTES: Final = 256 << 10
_BACKOFF_MIN_S: Final = 0.1
_BACKOFF_MAX_S: Final = 2.0
_BACKOFF_MAX_STRANGER_S: Final = 60.0
_NEIGHBOUR_S: Final = 3600.0
_MAY_RETURN_S: Final = 30 * 86400.0  # a peer that was not seen for longer is not waited for
_SEEN_AGAIN_S: Final = 3600.0
_HEAD_START_S: Final = 0.25  # of one address of a peer over its others, as RFC 8305 has it
_NEXT_PLACE_S: Final = 0.02  # so late the next address of a peer is looked at
_LOST_MAX: Final = 256
_REFUSALS_MAX: Final = 256
_BLOCKED: Final = "blocked on this node"
_LINKS_PER_PEER: Final = 4  # of which one stays; an honest peer has two for a moment
_TARGETS_MAX: Final = 512  # addresses; anybody on the network may announce as many as it likes
_ACCEPTED_PER_DIALLED: Final = 4  # links in all for each that a node chooses to dial

_log = logging.getLogger("phextsync.node")


@dataclass(frozen=True, slots=True)
class _Lost:
    """The end of the last link with a peer."""

    name: str
    reason: str
    time_s: float
    interests: Mapping[str, Ranges]


@dataclass(slots=True)
class _Target:
    """An address to dial, and the node that answers there, if known."""

    address: discovery.Address
    peer_id: bytes | None
    is_neighbour: bool  # seen on this network within the last hour
    wake: trio.Event
    is_proven: bool = False  # given to us, or a peer of ours has answered there
    place: int = 0  # among the addresses of its node: the likeliest is dialled first
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    backoff_s: float = _BACKOFF_MIN_S
    last_error: str = ""


@dataclass(slots=True)
class _LinkTask:
    """What runs one link: its channel, the event that says there is something to send."""

    peer_id: bytes
    name: str
    address: str
    certificate: bytes
    certificate_end_s: float
    has_work: trio.Event
    scope: trio.CancelScope
    reason: str = "the connection was closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a node touches outside of itself.

    `commit` does what `store.commit` does, where it does not hold up the node, and cannot be
    cancelled; `folder` is for people to read.
    """

    folder: Path
    store: Store
    commit: Callable[[Batch], Awaitable[None]]
    network: transport.Network
    discoveries: Sequence[discovery.Discovery]
    remembered: discovery.RememberedPeers
    known: KnownPeers = field(default_factory=KnownPeers)
    random: Random
    wall_time_s: Callable[[], float] = time.time
    on_error: Callable[[Exception], object] | None = None
    """Told every error that ended a part of the node."""


class Node:
    """A running node, made by `open_node`. `phext` gives the replicas to read and edit."""

    def __init__(
        self,
        identity: NodeIdentity,
        surroundings: Surroundings,
        *,
        peers: Sequence[str] = (),
        interests: Mapping[str, Sequence[CoordinateRange]] | None = None,
        links_max: int = LINKS_MAX,
        timing: Timing | None = None,
    ) -> None:
        seed = surroundings.random
        self.folder = surroundings.folder
        self.identity = identity
        self.port = 0
        self.incarnation = seed.randbytes(16)
        self.replicas = ReplicaSet(
            surroundings.store,
            node_id=identity.node_id,
            random=Random(seed.getrandbits(64)),
            wall_time_ms=lambda: int(surroundings.wall_time_s() * 1000),
            permissions=identity.permissions,
        )
        self.known = surroundings.known
        self.boundary = Boundary(_log, on_error=surroundings.on_error)
        self.replicas.on_failure = self.boundary.note
        self.core = Synchronizer(
            self.replicas,
            name=identity.name,
            incarnation=self.incarnation,
            random=Random(seed.getrandbits(64)),
            interests=interests,
            timing=timing,
            listener=Listener(self._link_has_work, self._is_due, self._progressed),
        )
        self._surroundings = surroundings
        self._random = seed
        self._remembered = surroundings.remembered
        self._static = [discovery.parse_address(peer, DEFAULT_PORT) for peer in peers]
        self._links_max = links_max
        self._links: dict[int, _LinkTask] = {}
        self._ended_traffic = Traffic()  # of links that are no more
        self._link_number = 0
        self._last_refusals: dict[bytes, str] = {}  # what was logged of whom
        self._targets: dict[discovery.Address, _Target] = {}
        self._head_starts: dict[bytes, float] = {}  # until when a dial of a peer goes alone
        self._lost: dict[bytes, _Lost] = {}
        self._batches_taken = self._batches_durable = 0
        self._is_core_told = True
        self._complaints = transport.Complaints()
        self.commits = Durations()  # as the node waits for them, with the turns of threads
        self._dirty = trio.Event()
        self._hurry = trio.Event()
        self._settled = trio.Event()
        self._progress = trio.Event()
        self._alarm = trio.CancelScope()
        self.presence = self.core.presence
        self.presence.subscribe(self._note_presence)
        self.presence.publish({})  # everybody is to know that this node is there
        self._reloaded = trio.Event()
        self.on_peer: Callable[[PeerJoined | PeerLost], None] = _ignore
        self.replicas.on_dirty = self._is_dirty
        self.searcher = Searcher(self.replicas, self.folder, self.boundary)
        self.directories: control.Directories | None = None  # while they are known
        self.desk = control.Desk(self)
        self._seen_noted = -math.inf
        for peer in self.known.peers():  # those of before it was noted when a peer was seen
            if peer.state is State.KNOWN and self._remembered.last_seen_s(peer.node_id) is None:
                self._remembered.see(peer.node_id, surroundings.wall_time_s())

    # -- what users call -------------------------------------------------------------------

    def phext(self, name: str = DEFAULT_PHEXT) -> Replica:
        """Return the replica of the phext `name`; peers learn of it with its first scroll."""
        return self.replicas.open(name)

    def phexts(self) -> list[str]:
        """Return the names of the phexts that this node holds, without those of the library."""
        return [name for name in self.replicas.names() if name != CLIENTS]

    async def durable(self) -> None:
        """Wait until every change made so far is on this node's disk. StoreFullError when the
        disk refuses: the change stays in memory and is tried again."""
        last = self._batches_taken + self.replicas.is_changed
        while self._batches_durable < last:
            self._hurry.set()
            await self._settled.wait()
            self.replicas.check_writable()

    async def import_texts(
        self, scrolls: Iterable[tuple[Coordinate | str, str]], phext: str = DEFAULT_PHEXT
    ) -> int:
        """Import many texts, as `Replica.import_text` does one; return how many there were.

        A few thousand are made durable at a time, so that memory stays small and others get
        their turns. All of them are durable at the end.
        """
        replica = self.phext(phext)
        source = iter(scrolls)
        count = 0
        while some := list(islice(source, _IMPORTED_AT_ONCE)):
            with replica.batch():
                for place, text in some:
                    replica.import_text(place, text)
            count += len(some)
            await self.durable()
        return count

    def changes(
        self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING, *, texts: bool = False
    ) -> ChangeStream:
        """Return the changes in `range_` from now on: `async with ... as changes: async for ...`.
        See `Replica.feed`."""
        return ChangeStream(self.phext(phext).feed(range_, texts=texts))

    async def synced(
        self,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Wait until `peers` connected peers (None: all of them, at least one) have what we have
        in `range_` on their disks.

        Only peers that hold the whole range count. NotSyncedError after `timeout_s` says which
        peer lacks what; `lacking` says it meanwhile.
        """
        whole = as_range(range_)
        with trio.move_on_after(math.inf if timeout_s is None else timeout_s):
            while self.replicas.is_dirty or not self._is_synced(phext, whole, peers):
                await self._progress.wait()
            return
        raise self._not_synced(phext, whole, peers, timeout_s or 0)

    def _is_synced(self, phext: str, range_: CoordinateRange, peers: int | None) -> bool:
        complete, lacking = self.core.holders(phext, range_)
        return complete >= (max(1, complete + lacking) if peers is None else peers)

    def _not_synced(
        self, phext: str, range_: CoordinateRange, peers: int | None, timeout_s: float
    ) -> NotSyncedError:
        complete, lacks = self.core.lacking(phext, range_)
        lines = [str(lack) for lack in lacks]
        if self.replicas.is_dirty:
            lines.append("this node has not yet written it to its own disk")
        if not complete and not lacks:
            lines.append(f"no peer that holds {range_} of {phext!r} is connected")
        wanted = "all peers" if peers is None else "1 peer" if peers == 1 else f"{peers} peers"
        return NotSyncedError(
            f"expected {range_} of {phext!r} on the disks of {wanted} within {timeout_s:g} s, "
            f"found it on {len(complete)}: {'; '.join(lines)}",
            tuple(lines),
        )

    def publish(self, facts: Mapping[str, str | int]) -> None:
        """Tell the other nodes `facts`, as `PresenceBoard.publish` does."""
        self.presence.publish(facts)

    def lacking(self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING) -> list[Lack]:
        """Say which connected peers are not known to have `range_` on their disks, and why."""
        return self.core.lacking(phext, as_range(range_))[1]

    def is_whole(self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING) -> bool:
        """Whether nobody is known to lack something of `range_` that we have, or to have what we
        lack: every peer that was seen within 30 days and may hold some of it is connected, and was
        compared since its link began. True where no peer was ever met.

        Costs microseconds. A peer that this node has blocked or forgotten is not waited for.
        """
        whole = as_range(range_)
        return not self._awaited(phext, whole, self.core.even_peers(phext, whole))

    def is_in_sight(self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING) -> bool:
        """Whether everybody who may change something of `range_` hears at once what we write, and
        we what they write: as `is_whole`, but what is on its way does not count."""
        whole = as_range(range_)
        return not self._awaited(phext, whole, self.core.compared_peers(phext, whole))

    def _awaited(self, phext: str, range_: CoordinateRange, here: set[bytes]) -> bool:
        """Whether another peer than those `here` may hold something of a range."""
        awaited = set(self._remembered.seen_since(self._surroundings.wall_time_s() - _MAY_RETURN_S))
        awaited.update(
            task.peer_id for link, task in self._links.items() if self.core.refusal(link) is None
        )
        awaited.discard(self.identity.node_id)
        connected = self._connected()
        return any(
            not self.known.is_blocked(peer)
            and (peer in connected or self._may_hold(peer, phext, range_))
            for peer in awaited - here
        )

    def _may_hold(self, absent: bytes, phext: str, range_: CoordinateRange) -> bool:
        """Whether a peer that is not here may hold something of a range, by what it told last."""
        lost = self._lost.get(absent)
        if lost is None or phext not in lost.interests:
            return True
        return bool(intersection((range_,), lost.interests[phext]))

    async def search(
        self,
        words: str,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        limit: int = 20,
    ) -> list[Hit]:
        """Return the `limit` best scrolls in `range_` that have all the words, the best first:
        what was written before the call. On a full disk: what is durable.

        The first search makes the index or brings it up to date, and waits for that;
        `searcher.start` does it beforehand. StoreError when there can be none.
        """
        with suppress(StoreFullError):
            await self.durable()  # only then it is indexed
        return await self.searcher.find(words, phext, as_range(range_), limit=limit)

    def peers(self) -> list[PeerStatus]:
        """Return the connected peers, by node id."""
        rows = []
        for link, peer_id, name in self.core.peers():
            if link in self._links:
                lost = self._lost.get(peer_id)
                row = PeerStatus(
                    peer_id,
                    name,
                    self._links[link].address,
                    self.core.state(link),
                    self.core.round_trip_s(link),
                    self.core.traffic(link),
                    self.core.lacks_of(link),
                    "" if lost is None else lost.reason,
                )
                rows.append(row)
        return sorted(rows, key=lambda peer: peer.node_id)

    def traffic(self) -> Traffic:
        """Return what all links have carried since the start."""
        total = self._ended_traffic
        for link in self._links:
            total = _sum(total, self.core.traffic(link))
        return total

    def absent(self) -> list[AbsentPeer]:
        """Return the peers that are known and not connected, and why; those seen last first."""
        present = {*self._connected(), self.identity.node_id}
        rows: dict[bytes | discovery.Address, AbsentPeer] = {}
        for target in self._targets.values():
            if target.peer_id not in present:
                rows.setdefault(target.peer_id or target.address, self._absent(target))
        for peer_id, lost in self._lost.items():
            if peer_id not in present and peer_id not in rows:
                is_blocked = self.known.is_blocked(peer_id)
                reason = _BLOCKED if is_blocked else lost.reason
                row = AbsentPeer(peer_id, lost.name, "", lost.time_s, reason, not is_blocked)
                rows[peer_id] = row
        return sorted(rows.values(), key=lambda row: (-(row.seen_s or 0), row.address))

    def _absent(self, target: _Target) -> AbsentPeer:
        peer_id, address = target.peer_id, str(target.address)
        if peer_id is None:
            return AbsentPeer(None, "", address, None, target.last_error or "no answer yet")
        lost, is_wanted = self._lost.get(peer_id), True
        if self.known.is_blocked(peer_id):
            reason, is_wanted = _BLOCKED, False
        elif target.last_error:
            reason = target.last_error
        elif not self._wants(target):
            is_wanted = False
            reason = f"links to {self._links_max} others are preferred"
        else:
            reason = "no answer yet" if lost is None else lost.reason
        if lost is not None:
            return AbsentPeer(peer_id, lost.name, address, lost.time_s, reason, is_wanted)
        seen_s, name = self._remembered.last_seen_s(peer_id), self._remembered.name(peer_id)
        return AbsentPeer(peer_id, name, address, seen_s, reason, is_wanted)

    def warnings(self) -> list[str]:
        """Say what is only here: ranges of phexts that no connected peer holds."""
        return [
            f"{phext}: no connected peer holds {range_}"
            for phext in self.phexts()
            for range_ in self.core.unheld(phext)
        ]

    def status(self) -> dict[str, object]:
        """Return what `phextsync status --json` prints."""
        return {
            "running": True,
            "name": self.identity.name,
            "node_id": self.identity.node_id.hex(),
            "mesh": self.identity.mesh_tag,
            "port": self.port,
            "folder": str(self.folder),
            "phexts": control.summarize(self.replicas),
            "receiving": [
                asdict(row) for row in self.core.progress() if row.scrolls < row.scrolls_of
            ],
            "peers": [peer_row(peer) for peer in self.peers()],
            "absent": [absent_row(row) for row in self.absent()],
            "presence": [presence_row(row) for row in self.presence.peers()],
            "warnings": self.warnings(),
            "directories": [] if self.directories is None else self.directories.status(),
            "store": {
                "open_scrolls": self.replicas.open_scrolls,
                "open_bytes": self.replicas.open_bytes,
                "evictions": self.replicas.evictions,
                "commits": self.commits.row(),
                "syncs": self.replicas.store.syncs.row(),
            },
        }

    def status_json(self) -> str:
        """Return the status as a JSON text."""
        return json.dumps(self.status())

    # -- running ---------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; started when the node listens and can be found."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self.searcher.run)
            self.port = await nursery.start(self._surroundings.network.serve, self._accept)
            for address in self._static:
                self._dial(nursery, address, None, is_neighbour=True, is_proven=True)
            for peer_id, (address, seen_s) in self._remembered.latest_first():
                recent = self._surroundings.wall_time_s() - seen_s < _NEIGHBOUR_S
                self._dial(nursery, address, peer_id, is_neighbour=recent, is_proven=True)
            for found in self._surroundings.discoveries:
                await nursery.start(self._discover, nursery, found)
            task_status.started()

    async def _write(self) -> None:
        """Commit batch after batch; a store that refuses keeps its batch and is asked again."""
        while True:
            await self._dirty.wait()
            with trio.move_on_after(_GATHER_S):
                await self._hurry.wait()
            self._dirty, self._hurry = trio.Event(), trio.Event()
            is_done = False
            with self.boundary.around("writing to the disk"):
                is_done = await self._commit()
            if is_done:
                with trio.move_on_after(_COMMIT_PAUSE_S):
                    await self._hurry.wait()
            else:
                self._is_dirty()
                await trio.sleep(_RETRY_S)

    async def _commit(self) -> bool:
        batch = self.replicas.take_batch()
        if batch is None:
            self._tell_core()
            return True
        self._batches_taken += 1
        self.core.committing()
        try:
            began = trio.current_time()
            with trio.CancelScope(shield=True):  # a batch that was taken has to end, well or badly
                await self._surroundings.commit(batch)
        except StoreError as error:
            self._commit_failed(error)
            _log.error("cannot write to %s: %s", self.folder, error)
            return False
        except Exception as error:
            self._commit_failed(StoreError(f"cannot write to {self.folder}: {one_line(error)}"))
            raise
        self.commits.add(trio.current_time() - began)
        self.replicas.committed()
        self._batches_durable = self._batches_taken
        self._settle()
        self._is_core_told = False
        self._tell_core()
        return True

    def _tell_core(self) -> None:
        """Tell the core that the last batch is durable, if it does not know it yet."""
        if not self._is_core_told:
            self.core.committed()
            self._is_core_told = True

    def _commit_failed(self, error: StoreError) -> None:
        self.replicas.failed(error)
        self._is_dirty()
        self._settle()

    def _settle(self) -> None:
        """Wake whoever waits for the end of a commit, good or bad."""
        self._settled.set()
        self._settled = trio.Event()

    async def _keep_time(self) -> None:
        while True:
            now = trio.current_time()
            deadline = now + _RETRY_S
            with self.boundary.around("keeping time"):
                deadline = self.core.tick(now)
                self._drain()
                self._note_seen(now)
                self._remembered.save_if_changed()
                for link, task in self._links.items():
                    if self._surroundings.wall_time_s() >= task.certificate_end_s:
                        self.core.end_link(link, "your certificate has expired")
            with trio.CancelScope(deadline=deadline) as self._alarm:
                await trio.sleep_forever()

    def _note_seen(self, now: float) -> None:
        """Note from time to time who is here: a node that is killed knows it afterwards."""
        if now - self._seen_noted >= _SEEN_AGAIN_S:
            self._seen_noted = now
            for peer in (*self._connected(), *(peer.node_id for peer in self.presence.peers())):
                self._remembered.see(peer, self._surroundings.wall_time_s())

    def _note_presence(self, peer: PeerPresence) -> None:
        """Note who is somewhere in the mesh, whether it is linked with this node or not."""
        if peer.node_id != self.identity.node_id:
            self._remembered.see(peer.node_id, self._surroundings.wall_time_s())

    def _is_due(self, time: float) -> None:
        self._alarm.deadline = min(time, self._alarm.deadline)

    async def stop(self) -> bool:
        """Write what is not yet durable; say whether all of it is, within seconds."""
        self._remembered.save_if_changed()
        with trio.move_on_after(_STOP_S) as scope:
            scope.shield = True
            while self.replicas.is_dirty:
                if not await self._commit():
                    return False
        return not self.replicas.is_dirty

    def _is_dirty(self) -> None:
        self._dirty.set()

    def _progressed(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    def _link_has_work(self, link: int) -> None:
        task = self._links.get(link)
        if task is not None:
            task.has_work.set()
            if self.core.is_finished(link):
                task.scope.cancel()  # what is being sent, the peer will not take

    def _drain(self) -> None:
        """Log what the core has to tell."""
        while self.core.events:
            event = self.core.events.popleft()
            self.on_peer(event)
            match event:
                case PeerJoined(_, peer_id, name):
                    self._remembered.see(peer_id, self._surroundings.wall_time_s())
                    self._remembered.remember_name(peer_id, name)
                    _log.info("%s (%s) joined", name, peer_id.hex()[:8])
                case PeerLost(_, peer_id, name, reason, interests):
                    now_s = self._surroundings.wall_time_s()
                    self._remembered.see(peer_id, now_s)
                    self._lost.pop(peer_id, None)  # the latest comes last
                    self._lost[peer_id] = _Lost(name, reason, now_s, interests)
                    if len(self._lost) > _LOST_MAX:
                        del self._lost[next(iter(self._lost))]
                    _log.info("%s (%s) is gone: %s", name, peer_id.hex()[:8], reason)
        while self.replicas.reports:
            _log.warning("%s", self.replicas.reports.popleft())

    # -- who belongs -----------------------------------------------------------------------

    def reload(self) -> None:
        """Read again what the folder says of peers and of this node. Links stay unless they are no
        longer allowed, or the certificate allows this node something else now."""
        identity = NodeIdentity.load(self.folder)
        if identity.node_id != self.identity.node_id:
            raise IdentityError("expected the node's own key, found another: start the node anew")
        before = {peer.node_id for peer in self.known.peers()}
        self.known.refresh()
        for forgotten in before - {peer.node_id for peer in self.known.peers()}:
            self._remembered.overlook(forgotten)
        has_changed = identity.permissions != self.identity.permissions
        self.identity = self._surroundings.network.identity = identity
        self.replicas.permissions = identity.permissions
        for link, task in self._links.items():
            if not identity.recognises(task.certificate):
                self.core.end_link(link, "the mesh has changed its key")
            elif has_changed:
                self.core.end_link(link, "this node has a new certificate")
            elif (refusal := self.known.admit(task.peer_id, task.name)) is not None:
                self.core.end_link(link, refusal)
        for target in self._targets.values():
            target.wake.set()
        self._reloaded.set()
        self._reloaded = trio.Event()

    def _judge(self, secure: transport.SecureLink) -> tuple[Permissions, str | None]:
        """Return what a peer may do, and why it is refused, if it is."""
        try:
            permissions = certificate_permissions(secure.certificate)
            refusal = None
            if secure.peer_id != self.identity.node_id:
                refusal = self.known.admit(secure.peer_id, secure.peer_name)
        except PhextsyncError as error:
            permissions, refusal = NOTHING, str(error)
        if refusal is not None and refusal != self._last_refusals.get(secure.peer_id):
            if len(self._last_refusals) >= _REFUSALS_MAX:
                self._last_refusals.clear()
            self._last_refusals[secure.peer_id] = refusal
            _log.warning("refused %s at %s: %s", secure.peer_name, secure.address, refusal)
        return permissions, refusal

    async def reloaded(self) -> None:
        """Wait for the next `reload`."""
        await self._reloaded.wait()

    # -- links -----------------------------------------------------------------------------

    async def _accept(self, link: transport.SecureLink) -> None:
        same = sum(task.peer_id == link.peer_id for task in self._links.values())
        if len(self._links) >= _ACCEPTED_PER_DIALLED * self._links_max or same >= _LINKS_PER_PEER:
            self._complaints.log(
                "refused %s: %d links are open, %d of its own",
                *(link.address, len(self._links), same),
            )
            return  # which closes it
        with self.boundary.around(_part(link)):
            await self._run_link(link, dialled=False)

    async def _run_link(self, secure: transport.SecureLink, *, dialled: bool) -> str | None:
        """Run a link to its end; return why it was refused by either side, if it was. An error
        of this node while it runs, in the core too, ends the link and nothing else."""
        permissions, refusal = self._judge(secure)
        self._link_number += 1
        link = self._link_number
        task = _LinkTask(
            secure.peer_id,
            secure.peer_name,
            secure.address,
            secure.certificate,
            certificate_end_s(secure.certificate),
            trio.Event(),
            trio.CancelScope(),
        )
        self._links[link] = task
        try:
            with self.boundary.around(_part(secure)) as outcome, task.scope:
                self.core.link_opened(
                    trio.current_time(),
                    link,
                    secure.peer_id,
                    dialled=dialled,
                    permissions=permissions,
                    refusal=refusal,
                )
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(
                        self._receive, link, task, secure.channel, nursery.cancel_scope
                    )
                    await self._send(link, task, secure.channel)
                    nursery.cancel_scope.cancel()
            if outcome.error is not None:
                task.reason = f"an error of this node: {one_line(outcome.error)}"
                return task.reason
        finally:
            del self._links[link]
            refusal = self.core.refusal(link)
            for target in self._targets.values():
                # After an error, or a refusal, it is dialled when its time has come.
                if target.peer_id == task.peer_id and refusal is None and outcome.error is None:
                    target.wake.set()
            self._ended_traffic = _sum(self._ended_traffic, self.core.traffic(link))
            self.core.link_closed(trio.current_time(), link, task.reason)
            self._drain()
        return refusal

    async def _send(self, link: int, task: _LinkTask, channel: transport.FrameChannel) -> None:
        try:
            while not self.core.is_finished(link):
                frames = self._frames(link)
                if frames:
                    await channel.send_many(frames)
                else:
                    await task.has_work.wait()
                    task.has_work = trio.Event()
        except LinkError as error:
            task.reason = str(error)

    def _frames(self, link: int) -> list[bytes]:
        frames: list[bytes] = []
        size = 0
        while size < _SEND_BYTES and self.core.has_work(link):
            frame = self.core.next_frame(trio.current_time(), link)
            if frame is None:
                break
            frames.append(frame)
            size += len(frame)
        return frames

    async def _receive(
        self,
        link: int,
        task: _LinkTask,
        channel: transport.FrameChannel,
        scope: trio.CancelScope,
    ) -> None:
        try:
            while True:
                for frame in await channel.receive_many():
                    self.core.receive(trio.current_time(), link, frame)
                self._drain()
        except trio.EndOfChannel:
            pass
        except LinkError as error:
            task.reason = str(error)
        scope.cancel()

    # -- finding peers ---------------------------------------------------------------------

    async def _discover(
        self,
        nursery: trio.Nursery,
        found: discovery.Discovery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Announce and browse; started when that works, or has failed once."""
        while True:
            with self.boundary.around("finding peers") as outcome:
                announced = self._announcement()
                async with found.open(announced) as sightings, trio.open_nursery() as session:
                    session.start_soon(self._take_sightings, nursery, sightings)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    while announced == self._announcement():
                        await self._reloaded.wait()
                    session.cancel_scope.cancel()
            if outcome.error is not None:
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(_DISCOVERY_PAUSE_S)

    def _announcement(self) -> discovery.Announcement:
        tag, *previous = (bundle.mesh_tag for bundle in self.identity.bundles)
        return discovery.Announcement(
            self.identity.node_id,
            self.identity.name,
            self.port,
            tag,
            self.incarnation,
            previous_tags=tuple(previous),
        )

    async def _take_sightings(
        self, nursery: trio.Nursery, sightings: trio.abc.ReceiveChannel[discovery.Sighting]
    ) -> None:
        async for sighting in sightings:
            for place, address in enumerate(sighting.addresses):
                self._dial(nursery, address, sighting.node_id, is_neighbour=True, place=place)

    def _dial(
        self,
        nursery: trio.Nursery,
        address: discovery.Address,
        peer_id: bytes | None,
        *,
        is_neighbour: bool,
        is_proven: bool = False,
        place: int = 0,
    ) -> None:
        """Take up an address, or, if it is known, try it again now.

        When there are too many, the oldest goes at which no peer has ever answered.
        """
        target = self._targets.get(address)
        if target is None:
            if len(self._targets) >= _TARGETS_MAX:
                strange = next((t for t in self._targets.values() if not t.is_proven), None)
                if strange is None:
                    return
                strange.scope.cancel()
                del self._targets[strange.address]
            target = _Target(address, peer_id, is_neighbour, trio.Event(), is_proven, place)
            self._targets[address] = target
            nursery.start_soon(self._keep_dialling, target)
        else:
            target.peer_id = peer_id or target.peer_id
            target.place = place
            target.backoff_s = _BACKOFF_MIN_S
            target.wake.set()

    async def _keep_dialling(self, target: _Target) -> None:
        """Hold a link to one address whenever its node has none with us."""
        with target.scope:
            while True:
                await trio.sleep(target.place * _NEXT_PLACE_S)
                if self._wants(target) and not self._is_being_dialled(target.peer_id):
                    with self.boundary.around(f"dialling {target.address}") as outcome:
                        await self._dial_once(target)
                    if outcome.error is not None:
                        _note_failure(target, one_line(outcome.error))
                target.wake = trio.Event()
                rest_s = target.backoff_s if self._wants(target) else _BACKOFF_MAX_STRANGER_S
                with trio.move_on_after(rest_s * (0.5 + self._random.random())):
                    await target.wake.wait()

    async def _dial_once(self, target: _Target) -> None:
        host, port = target.address.host, target.address.port
        peer_id = target.peer_id
        if peer_id is not None:
            self._head_starts[peer_id] = trio.current_time() + _HEAD_START_S
        try:
            secure = await self._surroundings.network.connect(host, port)
        except LinkError as error:
            _note_failure(target, str(error))
            return
        finally:
            if peer_id is not None:
                self._head_starts.pop(peer_id, None)
        try:
            await self._use(target, secure)
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await secure.channel.aclose()

    async def _use(self, target: _Target, secure: transport.SecureLink) -> None:
        """Run the link that a dial has made."""
        target.last_error = ""
        target.peer_id = secure.peer_id
        target.is_proven = True
        if secure.peer_id == self.identity.node_id:
            target.last_error = "this is the node itself"
            return
        now_s = self._surroundings.wall_time_s()
        self._remembered.remember(secure.peer_id, target.address, now_s)
        began = trio.current_time()
        refusal = await self._run_link(secure, dialled=True)
        if refusal is None:
            has_held = trio.current_time() - began > _BACKOFF_MAX_S
            target.backoff_s = _BACKOFF_MIN_S if has_held else _longer_backoff_s(target)
        else:
            _note_failure(target, f"{target.address}: {refusal}")

    def _wants(self, target: _Target) -> bool:
        """Whether to dial: not ourselves, nobody we have, and within the bound on links."""
        if target.peer_id is None:
            return True
        if target.peer_id == self.identity.node_id or target.peer_id in self._connected():
            return False
        if self.known.is_blocked(target.peer_id):
            return False
        return target.peer_id in self._chosen(target.peer_id)

    def _is_being_dialled(self, peer_id: bytes | None) -> bool:
        """Whether another address of a peer was dialled just now: who dials two at a time makes
        two links and ends one."""
        if peer_id is None:
            return False
        return trio.current_time() < self._head_starts.get(peer_id, -math.inf)

    def _connected(self) -> set[bytes]:
        return {task.peer_id for task in self._links.values()}

    def _chosen(self, candidate: bytes) -> set[bytes]:
        """Choose `links_max` of the peers that were met and one candidate by rendezvous hashing:
        both ends agree on a rank, and a peer that comes or goes changes few links. Peers that were
        only announced do not count: anybody could announce enough to displace all others."""
        met = {t.peer_id for t in self._targets.values() if t.peer_id is not None and t.is_proven}
        known = sorted(met | {candidate})
        ranked = sorted(
            known,
            key=lambda peer: blake2b(
                min(peer, self.identity.node_id) + max(peer, self.identity.node_id)
            ).digest(),
        )
        return set(ranked[: self._links_max])


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[None]:
    """Run a node for as long as the block lasts; then write what is not yet durable, however the
    block ended, and close its store."""
    is_clean = False
    try:
        for line in node.replicas.store.report:
            _log.warning("%s", line)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            is_clean = await node.stop()
    finally:
        node.replicas.store.close(clean=is_clean)


async def _commit_in_thread(store: Store, batch: Batch) -> None:
    try:
        await trio.to_thread.run_sync(store.commit, batch)
    except RuntimeError:  # an interpreter that is ending starts no threads
        store.commit(batch)


def _part(link: transport.SecureLink) -> str:
    return f"the link with {link.peer_name} at {link.address}"


def _note_failure(target: _Target, reason: str) -> None:
    if reason != target.last_error:
        _log.info("%s", reason)
    target.last_error = reason
    target.backoff_s = _longer_backoff_s(target)


def _longer_backoff_s(target: _Target) -> float:
    is_near = target.is_neighbour and target.is_proven
    limit = _BACKOFF_MAX_S if is_near else _BACKOFF_MAX_STRANGER_S
    return min(2 * target.backoff_s, limit)


def _ignore(_event: PeerJoined | PeerLost) -> None:
    """Nobody wants to know."""


def _expanded(folder: str | Path) -> Path:
    return Path(folder).expanduser()


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))


def _log_progress(done: int, of: int) -> None:
    _log.warning("rebuilding the store: %d of %d scrolls", done, of)


@asynccontextmanager
async def open_node(
    folder: str | Path,
    *,
    host: str | None = None,
    port: int | None = None,
    peers: Sequence[str] = (),
    discover: bool = True,
    discoveries: Sequence[discovery.Discovery] | None = None,
    interests: Mapping[str, Sequence[CoordinateRange]] | None = None,
    links_max: int = LINKS_MAX,
    timing: Timing | None = None,
    seed: int | None = None,
) -> AsyncIterator[Node]:
    """Run the node whose identity and store are in `folder` for as long as the block lasts.

    `peers` are addresses (`host`, `host:port`) to dial besides those that mDNS finds and those
    that were met before; `discover=False` leaves mDNS out. `interests` maps phexts to the ranges
    that this node holds (None: all of everything). `host` None listens on all interfaces,
    `port` None on 7439 or, when that is taken, on any free one; another one that is taken is a
    LinkError. IdentityError when the folder has no identity, StoreError when it cannot be opened.
    """
    path = _expanded(folder)
    identity, known = NodeIdentity.load(path), KnownPeers.load(path)
    if discoveries is None:
        discoveries = [discovery.Mdns()] if discover else []
    store = LmdbStore(path, progress=_log_progress, clock=time.perf_counter)
    surroundings = Surroundings(
        folder=path,
        store=store,
        commit=partial(_commit_in_thread, store),
        network=transport.TlsNetwork(identity, host, port),
        discoveries=discoveries,
        remembered=discovery.RememberedPeers.load(path / discovery.PEERS_FILE),
        known=known,
        random=Random(seed) if seed is not None else random.SystemRandom(),
    )
    try:
        node = Node(
            identity,
            surroundings,
            peers=peers,
            interests=interests,
            links_max=links_max,
            timing=timing,
        )
    except BaseException:
        store.close(clean=False)
        raise
    async with running(node), trio.open_nursery() as nursery:
        await nursery.start(control.serve, path, node.desk)
        nursery.start_soon(
            invitation.keep_serving,
            invitation.Invitations(path),
            lambda: node.identity,
            host,
            node.reloaded,
            node.boundary,
        )
        try:
            yield node
        finally:
            nursery.cancel_scope.cancel()
