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
from sims.network import PHEXT, Network

_STEPS = 150
_SETTLE_S = 8.0


@dataclass(slots=True)
class Oracle:
    """What was written where, what was durable somewhere, and which scrolls were cleared."""

    written: dict[str, Coordinate] = field(default_factory=dict)
    durable: dict[str, None] = field(default_factory=dict)
    cleared: dict[Coordinate, None] = field(default_factory=dict)
    broken: str | None = None

    def check_claims(self, network: Network, who: int) -> None:
        """Whoever `who` takes for complete must have on its disk every token that `who` has."""
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
    peer = network.peers[who]
    place = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, source.randint(1, 12))
    match source.choices(
        (
            "append",
            "insert",
            "import",
            "clear",
            "step",
            "lossy",
            "commit",
            "link",
            "cut",
            "crash",
            "time",
            "claim",
        ),
        (20, 10, 8, 3, 30, 2, 12, 8, 4, 2, 3, 8),
    )[0]:
        case "append":
            peer.replica.append(place, token)
            oracle.written[token] = place
        case "insert":
            text = peer.replica.get(place, "")
            edges = [0, *(i + 1 for i, character in enumerate(text) if character == ">")]
            peer.replica.insert(place, source.choice(edges), token)
            oracle.written[token] = place
        case "import":
            peer.replica.import_text(place, peer.replica.get(place, "") + token)
            oracle.written[token] = place
        case "clear":
            peer.replica.clear_scroll(place)
            oracle.cleared[place] = None
        case "step":
            for _ in range(source.randint(1, 5)):
                network.step()
        case "lossy":
            network.step(lambda: source.random() < 0.5)
        case "commit":
            peer.commit()
            held = "".join(text for _, text in peer.replica.scrolls())
            oracle.durable.update((t, None) for t in oracle.written if t in held)
        case "link" if len(network.peers) > 1:
            network.link(
                who, (who + source.randint(1, len(network.peers) - 1)) % len(network.peers)
            )
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
