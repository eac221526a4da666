"""Random schedules of single steps: edits, frames, losses and crashes in any order.

Finer than `scenarios`: what happens between two frames is drawn too. Time stands still.

One seed makes one schedule. The oracle remembers every token that was written and every one that
a node had on its disk; at the end all nodes must hold the same, no token twice, and every durable
token that nobody may have deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from phextsync.index import Coordinate
from phextsync.replica.replica import Replica
from sims.network import PHEXT, Network

_STEPS = 150
_SETTLE_S = 8.0
_EDITS = {"append": 20, "insert": 10, "import": 8, "clear": 3}
_ACTIONS = _EDITS | {  # how often each is drawn
    "step": 30,
    "lossy": 2,
    "commit": 12,
    "link": 8,
    "cut": 4,
    "crash": 2,
    "time": 3,
    "claim": 8,
}


@dataclass(slots=True)
class Oracle:
    """What was written where, what was durable somewhere, and which scrolls were cleared."""

    written: dict[str, Coordinate] = field(default_factory=dict)
    durable: dict[str, None] = field(default_factory=dict)
    cleared: dict[Coordinate, None] = field(default_factory=dict)
    broken: str | None = None

    def check_claims(self, network: Network, who: int) -> None:
        """A node that `who` takes for complete must have on its disk every token that `who` has."""
        peer = network.peers[who]
        complete, _ = peer.core.lacking(PHEXT)
        ours = dict(peer.replica.scrolls()) if complete else {}
        for other in network.peers:
            if other.node_id in complete:
                theirs = other.durable_texts()
                for token, place in self.written.items():
                    is_ours = token in ours.get(place, "") and place not in self.cleared
                    if is_ours and token not in theirs.get(place, ""):
                        self.broken = f"{token} was acknowledged and is not on the peer's disk"

    def failure(self, texts: dict[Coordinate, str]) -> str | None:
        """Say what is wrong with the texts that all nodes hold, or None."""
        if self.broken is not None:
            return self.broken
        everything = "".join(texts.values())
        for token, place in self.written.items():
            count = everything.count(token)
            if count > 1:
                return f"{token} stands {count} times"
            is_owed = token in self.durable and place not in self.cleared
            if is_owed and token not in texts.get(place, ""):
                return f"{token} was durable and is lost"
        return None


def run(seed: int, make: Callable[[int, int], Network] = Network) -> tuple[str | None, str]:
    """Run one schedule on what `make` makes of a count and a seed; return what failed, or None,
    and a digest of the outcome."""
    source = Random(seed)
    network = make(source.randint(2, 6), seed)
    oracle = Oracle()
    network.link(0, 1)
    for number in range(_STEPS):
        _act(network, oracle, source, f"<{seed}.{number}>")
    network.link_all()
    network.run(_SETTLE_S)
    network.link_all()  # pairs whose links ended because both had dialled
    for peer in network.peers:
        peer.core.lacking(PHEXT)  # to be asked makes it find out
    network.run(_SETTLE_S)
    texts = network.texts()
    digest = blake2b(repr(sorted(texts[0].items())).encode(), digest_size=8).hexdigest()
    if any(other != texts[0] for other in texts) or len(set(network.digests())) != 1:
        return "the nodes differ", digest
    lacks = [peer.core.lacking(PHEXT)[1] for peer in network.peers]
    if any(lacks):
        return f"somebody is not in sync: {lacks}", digest
    return oracle.failure(texts[0]), digest


def _act(network: Network, oracle: Oracle, source: Random, token: str) -> None:
    who = source.randrange(len(network.peers))
    place = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, source.randint(1, 12))
    action = source.choices(tuple(_ACTIONS), tuple(_ACTIONS.values()))[0]
    if action in _EDITS:
        _edit(action, network.peers[who].replica, oracle, source, place, token)
    else:
        _go_on(action, network, oracle, source, who)


def _edit(
    action: str, replica: Replica, oracle: Oracle, source: Random, place: Coordinate, token: str
) -> None:
    """Let a user of one node change a scroll."""
    match action:
        case "append":
            replica.append(place, token)
        case "insert":
            text = replica.get(place, "")
            edges = [0, *(i + 1 for i, character in enumerate(text) if character == ">")]
            replica.insert(place, source.choice(edges), token)
        case "import":
            replica.import_text(place, replica.get(place, "") + token)
        case _:
            replica.clear_scroll(place)
            oracle.cleared[place] = None
            return
    oracle.written[token] = place


def _go_on(action: str, network: Network, oracle: Oracle, source: Random, who: int) -> None:
    """Let something happen to the nodes and their links."""
    peer, count = network.peers[who], len(network.peers)
    match action:
        case "step":
            for _ in range(source.randint(1, 5)):
                network.step()
        case "lossy":
            network.step(lambda: source.random() < 0.5)
        case "commit":
            peer.commit()
            held = "".join(text for _, text in peer.replica.scrolls())
            oracle.durable.update((t, None) for t in oracle.written if t in held)
        case "link" if count > 1:
            network.link(who, (who + source.randint(1, count - 1)) % count)
        case "cut" if network.links:
            network.cut(source.choice(sorted(network.links)))
        case "crash":
            network.crash(who)
        case "claim":
            oracle.check_claims(network, who)
        case "time":
            network.now += source.choice([0.05, 0.5, 4.0])
            for each in network.peers:
                each.core.tick(network.now)
