"""Dialler: to which addresses there ought to be a link, and when to try again."""

import logging
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trio

from phextsync.boundaries import Boundary, one_line
from phextsync.discovery import Address
from phextsync.errors import LinkError
from phextsync.node.acquaintances import Acquaintances
from phextsync.node.links import Links
from phextsync.node.neighbourhood import PASSING_S, Neighbourhood
from phextsync.node.status import AbsentPeer
from phextsync.node.turns import FIRST_S, HANGS_S, Turns
from phextsync.sync.timing import BACKOFF_MAX_S, BACKOFF_MAX_STRANGER_S, BACKOFF_MIN_S
from phextsync.transport import Network, SecureLink

TARGETS_MAX: Final = 512
"""Addresses that are kept; anybody on the network may announce as many as it likes."""

_NEIGHBOUR_S: Final = 3600.0
_NEXT_PLACE_S: Final = 0.02  # so late the next address of a peer is looked at
_ANY_MAX_S: Final = 5.0  # for one of any number
_BLOCKED: Final = "blocked on this node"

_log = logging.getLogger("phextsync.node")


@dataclass(slots=True)
class _Target:
    """An address to dial, and the node that answers there, if known."""

    address: Address
    peer_id: bytes | None
    is_neighbour: bool  # seen on this network within the last hour
    wake: trio.Event
    is_proven: bool = False  # given to us, or a peer of ours has answered there
    place: int = 0  # among the addresses of its node: the likeliest is dialled first
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    backoff_s: float = BACKOFF_MIN_S
    last_error: str = ""
    failed_at: float = -math.inf


class Dialler:
    """Keeps one task for each address; a task has a link there whenever its node has none with us
    and the neighbourhood wants one."""

    def __init__(
        self,
        network: Network,
        links: Links,
        acquaintances: Acquaintances,
        boundary: Boundary,
        random: Random,
        neighbourhood: Neighbourhood,
    ) -> None:
        self._network = network
        self._own_id = network.identity.node_id
        self._links = links
        self._acquaintances = acquaintances
        self._boundary = boundary
        self._random = random
        self._neighbourhood = neighbourhood
        self._dialling: list[float] = []  # since when, of the dials that have no answer yet
        self._targets: dict[Address, _Target] = {}
        self._head_starts: dict[bytes, float] = {}  # until when a dial of a peer goes alone

    def addresses(self) -> list[Address]:
        """Return the addresses that are kept, the oldest first."""
        return list(self._targets)

    # -- what to dial ----------------------------------------------------------------------

    def dial(
        self,
        nursery: trio.Nursery,
        address: Address,
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
            if len(self._targets) >= TARGETS_MAX:
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
            target.backoff_s = BACKOFF_MIN_S
            target.wake.set()

    def dial_remembered(self, nursery: trio.Nursery) -> None:
        """Take up where peers answered before."""
        now_s = self._acquaintances.wall_time_s()
        for peer_id, (address, seen_s) in self._acquaintances.remembered.latest_first():
            is_recent = now_s - seen_s < _NEIGHBOUR_S
            self.dial(nursery, address, peer_id, is_neighbour=is_recent, is_proven=True)

    def try_again(self, peer_id: bytes | None = None) -> None:
        """Look again at the addresses of a peer (None: at all of them)."""
        for target in self._targets.values():
            if peer_id is None or target.peer_id == peer_id:
                target.wake.set()

    # -- dialling --------------------------------------------------------------------------

    async def _keep_dialling(self, target: _Target) -> None:
        """Hold a link to one address whenever its node has none with us."""
        with target.scope:
            await self._links.gate.passed()
            while True:
                await trio.sleep(target.place * _NEXT_PLACE_S)
                with self._boundary.around(f"dialling {target.address}") as outcome:
                    rest_s = await self._dial_in_turn(target)
                if outcome.error is not None:
                    _note_failure(target, one_line(outcome.error))
                    rest_s = target.backoff_s
                target.wake = trio.Event()
                with trio.move_on_after(rest_s * (0.5 + self._random.random())):
                    await target.wake.wait()

    async def _dial_in_turn(self, target: _Target) -> float:
        """Dial if it is time to; return after how long to look again."""
        has_turn = self._wants(target) and self._may_dial(target.peer_id)
        if has_turn:
            await self._dial_once(target)
        return self._rest_s(target, has_had_turn=has_turn)

    def _rest_s(self, target: _Target, *, has_had_turn: bool) -> float:
        """Return after how long to look at an address again."""
        if not self._wants(target):
            return BACKOFF_MAX_STRANGER_S
        return target.backoff_s if has_had_turn else min(target.backoff_s, BACKOFF_MAX_S)

    async def _dial_once(self, target: _Target) -> None:
        host, port = target.address.host, target.address.port
        peer_id = target.peer_id
        began = trio.current_time()
        self._dialling.append(began)
        if peer_id is not None:
            self._head_starts[peer_id] = began + FIRST_S
        try:
            secure = await self._network.connect(host, port)
        except LinkError as error:
            self._failed(target, str(error))
            took_s = trio.current_time() - began
            if took_s > HANGS_S:  # others are to have their turn
                target.backoff_s = max(target.backoff_s, min(took_s, _backoff_max_s(target)))
            return
        finally:
            self._dialling.remove(began)
            if peer_id is not None:
                self._head_starts.pop(peer_id, None)
        try:
            await self._use(target, secure)
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await secure.channel.aclose()

    async def _use(self, target: _Target, secure: SecureLink) -> None:
        """Run the link that a dial has made."""
        target.last_error = ""
        target.peer_id = secure.peer_id
        target.is_proven = True
        if secure.peer_id == self._own_id:
            target.last_error = "this is the node itself"
            return
        now_s = self._acquaintances.wall_time_s()
        self._acquaintances.remembered.remember(secure.peer_id, target.address, now_s)
        began = trio.current_time()
        refusal = await self._links.run(secure, dialled=True)
        if refusal is None:
            has_held = trio.current_time() - began > BACKOFF_MAX_S
            target.backoff_s = BACKOFF_MIN_S if has_held else _longer_backoff_s(target)
        else:
            self._failed(target, f"{target.address}: {refusal}")

    def _failed(self, target: _Target, reason: str) -> None:
        _note_failure(target, reason)
        target.failed_at = trio.current_time()
        self._links.changed.notify()

    def _wants(self, target: _Target) -> bool:
        """Whether to dial: not ourselves, nobody we have, and whom the neighbourhood wants."""
        if target.peer_id is None:
            return True
        if target.peer_id == self._own_id or target.peer_id in self._links.connected():
            return False
        if self._acquaintances.known.is_blocked(target.peer_id):
            return False
        return self._neighbourhood.wants(trio.current_time(), target.peer_id)

    def _may_dial(self, peer_id: bytes | None) -> bool:
        """Whether to dial now: not while another address of the peer was dialled just now, since
        who dials two at a time makes two links and ends one; nor more peers than there is room
        for. One that has not answered for a while takes none."""
        now = trio.current_time()
        if peer_id is not None and now < self._head_starts.get(peer_id, -math.inf):
            return False
        dialling = sum(now - began < HANGS_S for began in self._dialling)
        return self._neighbourhood.has_room(now, peer_id, dialling)

    # -- on demand -------------------------------------------------------------------------

    def review(self) -> None:
        """End links that are of no use any more, and dial whom there ought to be one with since."""
        for peer_id in sorted(self._neighbourhood.review(trio.current_time())):
            self.try_again(peer_id)

    def ask_for(self, node_ids: Iterable[bytes], *, for_s: float = PASSING_S) -> None:
        """Have links with nodes for a while, also beyond those that are kept, if they can be made
        by then. Who is asked for already is dialled when its time has come."""
        now = trio.current_time()
        for node_id in sorted(node_ids):
            is_new = not self._neighbourhood.is_asked_for(now, node_id)
            self._neighbourhood.ask_for(now, node_id, for_s)
            if is_new:
                self.try_again(node_id)

    def _dial_now(self, node_ids: Collection[bytes]) -> None:
        """Ask for nodes, and dial them though their time has not come."""
        self.ask_for(node_ids)
        for node_id in sorted(node_ids):
            self.try_again(node_id)

    async def link_with(self, node_ids: Iterable[bytes], *, within_s: float) -> set[bytes]:
        """Have links with nodes, also beyond those that are kept; return with which there are some
        when all are there, or the time is over. They last for `PASSING_S` after the last call."""
        wanted = set(node_ids) - {self._own_id}
        self._dial_now(wanted)
        with trio.move_on_after(within_s):
            while not wanted <= self._links.ready():
                await self._links.changed.wait()
        return wanted & self._links.ready()

    async def link_with_any(self, node_ids: Iterable[bytes]) -> bool:
        """Have a link with one of some nodes that have none, the preferred ones first; say whether
        there is one. Of those that nobody hears of none is waited for."""
        here, linked = self._neighbourhood.here(), {*self._links.ready(), self._own_id}
        wanted = [each for each in node_ids if each in here and each not in linked]
        turns = Turns(wanted, self._links.slowest_s())
        until = trio.current_time() + _ANY_MAX_S
        while not self._links.ready() & turns.dialled.keys():
            now = trio.current_time()
            self._note_failures(now, turns)
            self._dial_now(turns.take(now))
            due = min(turns.due, until)
            if now >= due:
                return False
            with trio.move_on_after(due - now):
                await self._links.changed.wait()
        return True

    def _note_failures(self, now: float, turns: Turns) -> None:
        for target in self._targets.values():
            peer_id = target.peer_id
            if peer_id in turns.dialled and target.failed_at >= turns.dialled[peer_id]:
                turns.failed(now, peer_id)

    # -- who is not here -------------------------------------------------------------------

    def absent(self) -> list[AbsentPeer]:
        """Return the peers that are known and not connected, and why; those seen last first."""
        present = {*self._links.connected(), self._own_id}
        known = self._acquaintances.known
        rows: dict[bytes | Address, AbsentPeer] = {}
        for target in self._targets.values():
            if target.peer_id not in present:
                rows.setdefault(target.peer_id or target.address, self._absent(target))
        for peer_id, lost in self._acquaintances.all_lost():
            if peer_id not in present and peer_id not in rows:
                is_blocked = known.is_blocked(peer_id)
                reason = _BLOCKED if is_blocked else lost.reason
                row = AbsentPeer(peer_id, lost.name, "", lost.time_s, reason, not is_blocked)
                rows[peer_id] = row
        return sorted(rows.values(), key=lambda row: (-(row.seen_s or 0), row.address))

    def _absent(self, target: _Target) -> AbsentPeer:
        peer_id, address = target.peer_id, str(target.address)
        if peer_id is None:
            return AbsentPeer(None, "", address, None, target.last_error or "no answer yet")
        lost, is_wanted = self._acquaintances.lost(peer_id), True
        if self._acquaintances.known.is_blocked(peer_id):
            reason, is_wanted = _BLOCKED, False
        elif target.last_error:
            reason = target.last_error
        elif not self._wants(target):
            is_wanted = False
            reason = f"links to {self._neighbourhood.links_max} others are preferred"
        else:
            reason = "no answer yet" if lost is None else lost.reason
        if lost is not None:
            return AbsentPeer(peer_id, lost.name, address, lost.time_s, reason, is_wanted)
        remembered = self._acquaintances.remembered
        seen_s, name = remembered.last_seen_s(peer_id), remembered.name(peer_id)
        return AbsentPeer(peer_id, name, address, seen_s, reason, is_wanted)


def _note_failure(target: _Target, reason: str) -> None:
    if reason != target.last_error:
        _log.info("%s", reason)
    target.last_error = reason
    target.backoff_s = _longer_backoff_s(target)


def _longer_backoff_s(target: _Target) -> float:
    return min(2 * target.backoff_s, _backoff_max_s(target))


def _backoff_max_s(target: _Target) -> float:
    is_near = target.is_neighbour and target.is_proven
    return BACKOFF_MAX_S if is_near else BACKOFF_MAX_STRANGER_S
