"""Node: the one place where the core meets IO.

One nursery holds all tasks of a node; leaving `open_node` cancels them, writes what is not yet
durable and closes the store. Nothing here decides what to say to a peer: see `sync`. What a
node touches outside of itself is in its `Surroundings`, so that a simulator can take its place.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import trio

from phextsync import crdt, discovery, mdns, transport
from phextsync.change_streams import ChangeStream
from phextsync.control import operations
from phextsync.control.desk import Desk, Directories
from phextsync.control.frames import Value
from phextsync.control.performing import held_rows, phexts_of_users, summarize
from phextsync.control.status import Status
from phextsync.errors import IdentityError, StoreFullError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.acquaintances import Acquaintances
from phextsync.node.agreement import Agreement
from phextsync.node.answering import Answering
from phextsync.node.committing import Committing
from phextsync.node.dialler import Dialler
from phextsync.node.discoverer import Discoverer, announcement
from phextsync.node.doors import doors
from phextsync.node.following import Following
from phextsync.node.foreign import Foreign
from phextsync.node.importing import import_texts
from phextsync.node.links import LINKS_MAX, Links
from phextsync.node.memory import opened_store, unsent_warnings
from phextsync.node.neighbourhood import Neighbourhood
from phextsync.node.options import check_options, folder_of
from phextsync.node.quarantine import Guard
from phextsync.node.status import (
    AbsentPeer,
    PeerStatus,
    absent_row,
    errors_row,
    peer_row,
    presence_row,
    receiving_rows,
    store_row,
)
from phextsync.node.surroundings import Committer, Surroundings
from phextsync.node.survey_pages import SurveyPage
from phextsync.phext_names import checked_name
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.views import Key, Range, as_coordinate, as_range
from phextsync.search import Hit
from phextsync.searching import Searcher
from phextsync.signals import Signal
from phextsync.store.durations import Durations
from phextsync.sync.events import PeerJoined, PeerLost
from phextsync.sync.lacks import Lack
from phextsync.sync.listener import Listener
from phextsync.sync.synchronizer import Synchronizer
from phextsync.sync.timing import RETRY_S, Timing
from phextsync.sync.traffic import Traffic
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.known_peers import KnownPeers

DEFAULT_PORT: Final = transport.PORT
DEFAULT_PHEXT: Final = "memory"

_log = logging.getLogger("phextsync.node")


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
        self.known = surroundings.known
        self.boundary = surroundings.boundary(_log)
        self.on_peer: Callable[[PeerJoined | PeerLost], None] = lambda _event: None
        self._surroundings = surroundings
        self._static = [discovery.parse_address(peer, DEFAULT_PORT) for peer in peers]
        self._reloaded = Signal()
        self._alarm = trio.CancelScope()
        self.replicas = ReplicaSet(
            surroundings.store,
            node_id=identity.node_id,
            random=Random(seed.getrandbits(64)),
            wall_time_ms=lambda: int(surroundings.wall_time_s() * 1000),
            permissions=identity.permissions,
            on_failure=self.boundary.note,
        )
        self.committing = Committing(
            self.replicas,
            surroundings.commit,
            self.boundary,
            self.folder,
            promptly=lambda call: self.links.promptly(call),
        )
        self.core = Synchronizer(
            self.replicas,
            name=identity.name,
            incarnation=self.incarnation,
            random=Random(seed.getrandbits(64)),
            interests=interests,
            timing=timing,
            listener=self._core_listener(),
        )
        self._make_parts(links_max)
        self.searcher = Searcher(self.replicas, surroundings.index_folder, self.boundary)
        self.directories: Directories | None = None  # while they are known
        self.desk = Desk(self)

    def _core_listener(self) -> Listener:
        return Listener(
            on_ready=lambda link: self.links.wake(link),
            on_due=self._is_due,
            on_progress=lambda: self.agreement.note_progress(),
            on_edit=lambda link: self.links.edited(link),
            on_asked=lambda link, asked: self.answering.ask(link, asked),
        )

    def _make_parts(self, links_max: int) -> None:
        outside, boundary = self._surroundings, self.boundary
        own_id, wall_time_s = self.identity.node_id, outside.wall_time_s
        self.acquaintances = Acquaintances(own_id, self.known, outside.remembered, wall_time_s)
        self.links = Links(
            self.core,
            self.acquaintances,
            boundary,
            links_max=links_max,
            alone_s=outside.alone_s,
            drain=lambda: self.drain(),
            on_free=lambda peer_id: self.dialler.try_again(peer_id),
        )
        self.following = Following(
            self, boundary, lambda ids, for_s: self.dialler.ask_for(ids, for_s=for_s)
        )
        neighbourhood = Neighbourhood(self.core, self.links, self.following, links_max=links_max)
        met, source, network = self.acquaintances, outside.random, outside.network
        self.dialler = Dialler(network, self.links, met, boundary, source, neighbourhood)
        link_with = self.dialler.link_with_any
        self.foreign = Foreign(self.replicas, self.core, self.links, self.following, link_with)
        self.answering = Answering(
            self.core,
            self.links,
            boundary,
            wait=lambda request: self.desk.wait(request, of_peer=True),
        )
        self.discoverer = Discoverer(self.dialler, boundary, self._announcement, self.reloaded)
        self.agreement = Agreement(self.replicas, self.core, self.links, self.acquaintances)
        self.guard = Guard(self.replicas, boundary)
        self.presence = self.core.presence
        self.presence.subscribe(lambda peer: self.acquaintances.see(peer.node_id))
        self.presence.publish({})  # everybody is to know that this node is there

    # -- what users call -------------------------------------------------------------------

    def phext(self, name: str = DEFAULT_PHEXT) -> Replica:
        """Return the replica of the phext `name`, which is made if there is none."""
        return self.replicas.open(name)

    def phexts(self) -> list[str]:
        """Return the names of the phexts that this node holds, without those of the library."""
        return phexts_of_users(self.replicas)

    async def durable(self) -> None:
        """Wait until every change made so far is on this node's disk. StoreFullError when the
        disk refuses: the change stays in memory and is tried again."""
        await self.committing.durable()

    async def import_texts(
        self,
        scrolls: Iterable[tuple[Coordinate | str, str]],
        phext: str = DEFAULT_PHEXT,
        *,
        keep: bool = False,
    ) -> int:
        """Import many texts, as `Replica.import_text` does one, with `keep` only where there is
        none; return how many were taken. All of them are durable at the end."""
        return await import_texts(self.phext(phext), scrolls, self.durable, keep=keep)

    async def fetch(self, key: Key, phext: str = DEFAULT_PHEXT) -> str:
        """Return the text of a scroll, "" when there is none, whoever holds it.

        One that is not held here is asked for at a peer, and can be read and edited at once from
        then on, until nobody has used it for long. Where no holder is reachable, it is what it was
        when it was last here; NotHeldError where that is nothing.
        """
        return await self.foreign.read(phext, as_coordinate(key))

    async def survey(self, range_: Range = EVERYTHING, phext: str = DEFAULT_PHEXT) -> SurveyPage:
        """Return a page of what there is in a range, whoever holds it: coordinates, sizes, the
        beginnings of first lines."""
        return await self.foreign.survey(phext, as_range(range_))

    def changes(
        self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING, *, texts: bool = False
    ) -> ChangeStream:
        """Return the changes in `range_` from now on, whoever holds it: `async with ... as changes:
        async for ...`. See `Replica.feed`."""
        return ChangeStream(self.foreign.feed(phext, as_range(range_), texts=texts))

    async def synced(
        self,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        peers: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Wait until `peers` connected peers (None: all of them, at least one) have what we have
        in `range_` on their disks, and one holder what is not held here. Only peers that hold the
        whole range count. NotSyncedError after `timeout_s` says which lacks what, as `lacking`."""
        await self.agreement.synced(phext, as_range(range_), peers, timeout_s)

    async def hold(
        self, ranges: Iterable[Range], phext: str = DEFAULT_PHEXT, *, copies: int | None = None
    ) -> None:
        """Hold these ranges of a phext and give the others up, as `ReplicaSet.hold` does, and wait
        until that is noted on the disk. DirectoryError when a directory is bound to one of them."""
        self.desk.ask(["hold", phext, [str(as_range(each)) for each in ranges], copies])
        await self.durable()

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
        return self.agreement.is_whole(phext, as_range(range_))

    def is_in_sight(self, phext: str = DEFAULT_PHEXT, range_: Range = EVERYTHING) -> bool:
        """Whether everybody who may change something of `range_` hears at once what we write, and
        we what they write: as `is_whole`, but what is on its way does not count."""
        return self.agreement.is_in_sight(phext, as_range(range_))

    async def search(
        self,
        words: str,
        phext: str = DEFAULT_PHEXT,
        range_: Range = EVERYTHING,
        *,
        limit: int = 20,
        missing: list[str] | None = None,
    ) -> list[Hit]:
        """Return the `limit` best scrolls in `range_` that have all the words, the best first,
        whoever holds them: what was written before the call. On a full disk: what is durable.

        The first search makes the index or brings it up to date, and waits for that;
        `searcher.start` does it beforehand. StoreError when there can be none. NotHeldError says of
        which parts nobody could be asked; where `missing` is given, that is added to it instead.
        """
        asked: list[Value] = [checked_name(phext), str(as_range(range_)), words, limit]
        operations.SEARCH.check(asked)
        answer = await self.desk.wait([operations.SEARCH.name, *asked])
        return operations.SEARCH.answer.decode(answer).all(missing)

    async def find(
        self, words: str, phext: str, range_: CoordinateRange, *, limit: int
    ) -> list[Hit]:
        """Search as `search` does in what is held here."""
        with suppress(StoreFullError):
            await self.durable()  # only then it is indexed
        return await self.searcher.find(words, phext, range_, limit=limit)

    def peers(self) -> list[PeerStatus]:
        """Return the connected peers, by node id."""
        return self.links.peers()

    def absent(self) -> list[AbsentPeer]:
        """Return the peers that are known and not connected, and why; those seen last first."""
        return self.dialler.absent()

    def traffic(self) -> Traffic:
        """Return what all links have carried since the start."""
        return self.links.traffic()

    @property
    def commits(self) -> Durations:
        """How long the node waited for each commit, with the turns of threads."""
        return self.committing.durations

    def warnings(self) -> list[str]:
        """Say what is only here, and what of placement cannot be done."""
        alone = {phext: self.core.lacks.unheld(phext) for phext in self.phexts()}
        told = [f"{phext}: no connected peer holds {r}" for phext in alone for r in alone[phext]]
        return [*told, *self.following.warnings, *unsent_warnings(self.replicas)]

    def status(self) -> Status:
        """Return how this node is, as `phextsync status --json` prints it."""
        return Status(
            running=True,
            name=self.identity.name,
            node_id=self.identity.node_id.hex(),
            folder=str(self.folder),
            mesh=self.identity.mesh_tag,
            host=self._surroundings.network.listens_on,
            port=self.port,
            phexts=summarize(self.replicas),
            receiving=receiving_rows(self.core.lacks.progress()),
            peers=tuple(peer_row(peer) for peer in self.peers()),
            absent=tuple(absent_row(row) for row in self.absent()),
            presence=tuple(presence_row(row) for row in self.presence.peers()),
            warnings=tuple(self.warnings()),
            directories=() if self.directories is None else self.directories.status(),
            holding=held_rows(self.replicas, self.core.leaving.awaited()),
            placed=self.following.rows(),
            store=store_row(self.replicas, self.commits),
            errors=errors_row(self.boundary.errors),
        )

    # -- running ---------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; started when the node listens and can be found."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.committing.run)
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self.searcher.run)
            if not self.replicas.store.is_fleeting:
                nursery.start_soon(self.following.run)
            nursery.start_soon(self.answering.run)
            nursery.start_soon(self.guard.run)
            self.port = await nursery.start(self._surroundings.network.serve, self.links.accept)
            for address in self._static:
                self.dialler.dial(nursery, address, None, is_neighbour=True, is_proven=True)
            self.dialler.dial_remembered(nursery)
            for found in self._surroundings.discoveries:
                await nursery.start(self.discoverer.run, nursery, found)
            task_status.started()

    async def stop(self) -> bool:
        """Write what is not yet durable; say whether all of it is."""
        with self.boundary.around("keeping in mind whom it has met"):
            self.acquaintances.remembered.save_if_changed()
        return await self.committing.stop()

    async def _keep_time(self) -> None:
        while True:
            now = trio.current_time()
            deadline = now + RETRY_S
            with self.boundary.around("keeping time"):
                deadline = self.links.promptly(partial(self.core.tick, now))
            here = self.links.connected, self.presence.peers
            see = partial(self.acquaintances.see_again, now, *here)
            end = partial(self.links.end_expired, self._surroundings.wall_time_s())
            for part in (self.drain, see, self.dialler.review, end):
                with self.boundary.around("keeping in touch"):
                    part()
            with trio.CancelScope(deadline=deadline) as self._alarm:
                await trio.sleep_forever()

    def _is_due(self, time: float) -> None:
        self._alarm.deadline = min(time, self._alarm.deadline)

    def _announcement(self) -> discovery.Announcement:
        bound = self._surroundings.network.bound
        return announcement(self.identity, self.port, self.incarnation, bound)

    def drain(self) -> None:
        """Note and log what the core has to tell."""
        while self.core.events:
            event = self.core.events.popleft()
            with self.boundary.around("who is told of peers"):
                self.on_peer(event)
            match event:
                case PeerJoined(_, peer_id, name):
                    self.acquaintances.join(peer_id, name)
                    self.links.changed.notify()
                    _log.info("%s (%s) joined", name, peer_id.hex()[:8])
                case PeerLost(_, peer_id, name, reason):
                    self.acquaintances.lose(event)
                    _log.info("%s (%s) is gone: %s", name, peer_id.hex()[:8], reason)
        while self.replicas.reports:
            _log.warning("%s", self.replicas.reports.popleft())

    # -- who belongs -----------------------------------------------------------------------

    def reload(self) -> None:
        """Read again what the folder says of peers and of this node. Links stay unless they are no
        longer allowed, or the certificate allows this node something else now."""
        identity = NodeIdentity.load(self.folder)
        if identity.node_id != self.identity.node_id:
            raise IdentityError("expected the node's own key, found another: restart the node")
        self.acquaintances.refresh()
        has_changed = identity.permissions != self.identity.permissions
        self.identity = self._surroundings.network.identity = identity
        self.replicas.permissions = identity.permissions
        self.links.recheck(identity, has_changed=has_changed)
        self.dialler.try_again()
        self._reloaded.notify()

    async def reloaded(self) -> None:
        """Wait for the next `reload`."""
        await self._reloaded.wait()


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[None]:
    """Run a node for as long as the block lasts; then write what is not yet durable, however the
    block ended, and close its store."""
    is_clean = False
    try:
        crdt.load()
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
    alone_s: float = 0.0,
    seed: int | None = None,
    in_memory: bool = False,
) -> AsyncIterator[Node]:
    """Run the node whose identity and store are in `folder` for as long as the block lasts.

    `peers` are addresses (`host`, `host:port`) to dial besides those met before and those that mDNS
    finds, `discover=False` none. `interests` maps phexts to the ranges that this run holds of those
    that the folder does. `host` None is all interfaces, `port` None 7439 or, when that is taken,
    any free one; another one that is taken is a LinkError. For `alone_s` seconds it meets nobody,
    until what bound directories hold is taken in. `in_memory`: it holds nothing, and its store ends
    with it. IdentityError: no identity; StoreError: cannot be opened.
    """
    check_options(host, port, peers, interests, links_max)
    path = folder_of(folder)
    identity, known = NodeIdentity.load(path), KnownPeers.load(path)
    on_lan = [mdns.Mdns()] if discover and discoveries is None else []
    store = opened_store(path, in_memory=in_memory)
    outside = Surroundings(
        folder=path,
        index_folder=store.folder,
        store=store,
        commit=Committer(store),
        network=transport.TlsNetwork(identity, host, port),
        discoveries=on_lan if discoveries is None else discoveries,
        remembered=discovery.RememberedPeers.load(path / discovery.PEERS_FILE),
        known=known,
        alone_s=alone_s,
        random=Random(seed) if seed is not None else random.SystemRandom(),
    )
    try:
        node = Node(
            identity, outside, peers=peers, interests=interests, links_max=links_max, timing=timing
        )
    except BaseException:
        store.close(clean=False)
        raise
    async with running(node), doors(node, host):
        yield node
