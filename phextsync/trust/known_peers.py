"""Membership: whom this node knows by which name, and whom it lets in.

A name belongs to the key that first came with it, as with ssh: another key under a known name is
refused until somebody says that it is right. A blocked node is refused whatever its name. Both
hold for this node alone: it is the mesh's authority that decides who belongs to the mesh.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from phextsync.errors import IdentityError, StoreDamagedError
from phextsync.plain_files import read_file
from phextsync.plain_values import read_json
from phextsync.ranges import Ranges
from phextsync.systems.locking import lock as take_lock
from phextsync.trust.certificates import NODE_ID_BYTES
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.private_files import save_private

KNOWN_FILE: Final = "known.json"
KNOWN_PEERS_MAX: Final = 4096
"""Nodes whose names are pinned; a member of a mesh-key mesh could come under any number."""
_REFUSED_MAX: Final = 64  # keys that came under another's name, kept to be allowed
_PREFIX_MIN: Final = 4


class State(StrEnum):
    """Known: let in. Blocked: refused. Refused: its name belongs to another key."""

    KNOWN = "known"
    BLOCKED = "blocked"
    REFUSED = "refused"


# Of several with one name, the one that is to be allowed.
_ALLOWED_FIRST: Final = (State.REFUSED, State.BLOCKED, State.KNOWN)


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A node that was met, or that a command named."""

    node_id: bytes
    name: str
    state: State


class KnownPeers:
    """The peers of one node, in a file of mode 0600. Every change is written at once; a node that
    runs and commands on its folder may both make them."""

    def __init__(self, path: Path | None = None, *, peers_max: int = KNOWN_PEERS_MAX) -> None:
        self._path = path
        self._peers_max = peers_max
        self._peers: dict[bytes, KnownPeer] = {}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the file in `folder`, if there is one. StoreDamagedError when it cannot be read:
        a node that forgot whom it blocks would let them in."""
        known = cls(folder / KNOWN_FILE)
        known.refresh()
        return known

    def refresh(self) -> None:
        """Read the file again."""
        if self._path is None:
            return
        peers: dict[bytes, KnownPeer] = {}
        try:
            for row in read_json(read_file(self._path))["peers"]:
                node_id, name = bytes.fromhex(row["node_id"]), row["name"]
                if len(node_id) != NODE_ID_BYTES or not isinstance(name, str):
                    raise ValueError(f"a node with the id {row['node_id']!r}")
                peers[node_id] = KnownPeer(node_id, name, State(row["state"]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreDamagedError(
                f"expected known peers in {self._path}, found {error!r:.80}; "
                "without the file nobody is blocked and every name is new"
            ) from error
        self._peers = peers

    def peers(self) -> list[KnownPeer]:
        """Return all peers, by name and id."""
        return sorted(self._peers.values(), key=lambda peer: (peer.name, peer.node_id))

    def admit(self, node_id: bytes, name: str) -> str | None:
        """Return why a node that proved this id and name is refused, or None; remember it."""
        peer = KnownPeer(node_id, name, State.KNOWN)
        refusal = self._refusal(peer)
        if refusal is None and self._peers.get(node_id) != peer:
            with self._changing():
                refusal = self._refusal(peer)
                if refusal is None:
                    self._peers[node_id] = peer
        if refusal is not None and not self.is_blocked(node_id):
            self._note_refused(KnownPeer(node_id, name, State.REFUSED))
        return refusal

    def _refusal(self, peer: KnownPeer) -> str | None:
        if self.is_blocked(peer.node_id):
            return "this node has blocked you"
        holder = self._holder(peer.name)
        if holder is not None and holder.node_id != peer.node_id:
            key = peer.node_id.hex()[:8]
            return (
                f"{peer.name!r} is known here with key {holder.node_id.hex()[:8]}, not {key}: "
                f"it was set up again, or somebody pretends to be it; "
                f"`phextsync peers allow {key}` accepts the new key"
            )
        if peer.node_id not in self._peers and len(self._peers) >= self._peers_max:
            return f"{self._peers_max} nodes are known here: `phextsync peers forget` makes room"
        return None

    def is_blocked(self, node_id: bytes) -> bool:
        """Whether the node is refused by its id."""
        known = self._peers.get(node_id)
        return known is not None and known.state is State.BLOCKED

    def block(self, who: str) -> KnownPeer:
        """Refuse a node, given by its name, a prefix of its id, or, not yet met, its whole id."""
        self._find_or_take(who)
        with self._changing():
            return self._put(self._find_or_take(who), State.BLOCKED)

    def allow(self, who: str) -> KnownPeer:
        """Let a node in that was blocked or whose name belongs to another key: the name is its
        own from now on."""
        self._find(who, *_ALLOWED_FIRST)
        with self._changing():
            peer = self._find(who, *_ALLOWED_FIRST)
            for other in self.peers():
                if other.name == peer.name and other.state is State.KNOWN:
                    del self._peers[other.node_id]
            return self._put(peer, State.KNOWN)

    def forget(self, who: str) -> KnownPeer:
        """Forget a node: its name belongs to the next node that comes with it."""
        self._find(who)
        with self._changing():
            return self._peers.pop(self._find(who).node_id)

    def _holder(self, name: str) -> KnownPeer | None:
        """Return whose the name is; a blocked node keeps it until another one is allowed."""
        for state in (State.KNOWN, State.BLOCKED):
            for peer in self._peers.values():
                if peer.name == name and peer.state is state:
                    return peer
        return None

    def _find(self, who: str, *order: State) -> KnownPeer:
        """Return the one peer of a name, or of a prefix of an id; of those with one name, the one
        whose state comes first in `order`."""
        prefix = who.lower()
        matches = [p for p in self.peers() if p.name == who]
        for state in order:
            if len(matches) > 1:
                matches = [p for p in matches if p.state is state] or matches
        if not matches and len(prefix) >= _PREFIX_MIN:
            matches = [p for p in self.peers() if p.node_id.hex().startswith(prefix)]
        if len(matches) != 1:
            found = ", ".join(f"{p.name} ({p.node_id.hex()[:8]})" for p in matches) or "none"
            raise IdentityError(
                f"expected one peer of the name or id {who!r}, found {found}: "
                f"`phextsync peers` lists them"
            )
        return matches[0]

    def _find_or_take(self, who: str) -> KnownPeer:
        """Return the one peer of a name or of a prefix of an id; one not yet met by its id."""
        try:
            return self._find(who)
        except IdentityError:
            if len(who) != 2 * NODE_ID_BYTES:
                raise
            return KnownPeer(_node_id(who), "", State.KNOWN)

    def _note_refused(self, peer: KnownPeer) -> None:
        """Keep who was refused, so that it can be allowed."""
        known = self._peers.get(peer.node_id)
        if known is not None and known.name == peer.name:
            return
        refused = [p for p in self._peers.values() if p.state is State.REFUSED]
        with self._changing():
            if len(refused) >= _REFUSED_MAX:
                self._peers.pop(refused[0].node_id, None)
            self._peers[peer.node_id] = peer

    def _put(self, peer: KnownPeer, state: State) -> KnownPeer:
        put = self._peers[peer.node_id] = KnownPeer(peer.node_id, peer.name, state)
        return put

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change what the file holds now, and write it."""
        if self._path is None:
            yield
            return
        with locked(self._path):
            self.refresh()
            yield
            save_private(self._path, (json.dumps({"peers": rows(self)}, indent=1) + "\n").encode())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold off other processes that change the file; a crash frees it."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        take_lock(lock)
        yield
    finally:
        os.close(lock)


def describe(identity: NodeIdentity, known: KnownPeers) -> dict[str, object]:
    """Return what `phextsync mesh --json` prints."""
    first, last = identity.bundles[0].period
    permissions = identity.permissions
    return {
        "kind": "administered" if identity.mesh_key is None else "mesh key",
        "mesh": identity.mesh_tag,
        "previous": None if identity.previous is None else identity.previous.mesh_tag,
        "name": identity.name,
        "node_id": identity.node_id.hex(),
        "read": _rows(permissions.read),
        "write": _rows(permissions.write),
        "valid_from": first.isoformat(),
        "valid_until": last.isoformat(),
        "peers": rows(known),
    }


def rows(known: KnownPeers) -> list[dict[str, str]]:
    """Return what `phextsync peers --json` prints."""
    return [
        {"name": peer.name, "node_id": peer.node_id.hex(), "state": peer.state}
        for peer in known.peers()
    ]


def perform(known: KnownPeers, verb: str, who: str) -> str:
    """Block, allow or forget a peer; return its name and id, for people to read."""
    match verb:
        case "block":
            peer = known.block(who)
        case "allow":
            peer = known.allow(who)
        case "forget":
            peer = known.forget(who)
        case _:
            raise IdentityError(f"expected block, allow or forget, found {verb!r:.40}")
    return f"{peer.name or 'a node'} ({peer.node_id.hex()[:8]})"


def _rows(grant: Mapping[str, Ranges]) -> dict[str, list[str]]:
    return {phext: [str(range_) for range_ in ranges] for phext, ranges in grant.items()}


def _node_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise IdentityError(f"expected a node id, found {text!r:.40}") from None
