"""One node of a model: the real core over a store in memory, given one input after the other.

What it does follows from its inputs alone: its clock is one of them, and the numbers that it draws
are a rule. So a node state is known by the inputs that lead to it, and by its digest.
"""

from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Final, NamedTuple, TypeAlias

from phextsync.crdt import Scroll
from phextsync.index import EVERYTHING, ORIGIN
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch
from phextsync.store.memory import MemoryStore
from phextsync.sync.synchronizer import Synchronizer
from phextsync.sync.timing import Timing
from phextsync.testing.mesh import PHEXT
from sims.canonical import digest

Input: TypeAlias = tuple[str] | tuple[str, int] | tuple[str, int, int]
"""What a node is given: a word, and the numbers that go with it: a link, a peer, a frame."""

TICK_S: Final = 0.25  # longer than the pause before a comparison that is due soon
_BOOT_MS: Final = 1_700_000_000_000
# Nothing happens by itself but comparisons: links that are silent are those of the search.
_TIMING: Final = Timing(
    ping_interval_s=1000.0,
    dead_after_s=3000.0,
    hello_within_s=3000.0,
    compare_interval_s=3.0,
    presence_interval_s=1000.0,
)


class Text(NamedTuple):
    """What a scroll is: its lines and its version."""

    lines: tuple[str, ...]
    version: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be seen of a node: what it shows and what is on its disk; which peers it takes for
    complete; on which links it may have a frame, which it has ended; whether a batch is to be
    taken, and whether one is on its way to the disk."""

    shown: Text
    disk: Text
    complete: tuple[int, ...]
    ready: tuple[int, ...]
    ended: tuple[tuple[int, str], ...]
    may_take: bool
    is_writing: bool


class _Numbers(Random):
    """Numbers by a rule: no two client ids are alike; a delay is what it is on average; a nonce,
    which guards against hostile sums, is none. `drawn` counts them."""

    def __init__(self, name: str) -> None:
        super().__init__(0)
        self._name = name
        self.drawn = 0

    def random(self) -> float:
        return 0.5

    def randbytes(self, n: int) -> bytes:
        return bytes(n)

    def getrandbits(self, k: int, /) -> int:
        self.drawn += 1
        found = blake2b(f"{self._name} {self.drawn}".encode(), digest_size=8).digest()
        return int.from_bytes(found, "big") >> (64 - k)


class ModelNode:
    """A node on a disk. `lines` counts what its user wrote, in all its lives."""

    def __init__(self, number: int, disk: MemoryStore) -> None:
        self.number = number
        self.store = disk
        self._now = 1.0
        # What it writes and draws is not what who prepared the disk wrote and drew.
        self._life = self.lines = len(disk.phexts())
        self._batch: Batch | None = None
        self._start()

    def _start(self) -> None:
        self._life += 1
        self._batch = None
        self.store = self.store.reopened()
        self._numbers = _Numbers(f"{self.number} {self._life}")
        self.replicas = ReplicaSet(
            self.store,
            node_id=id_of(self.number),
            random=self._numbers,
            wall_time_ms=lambda: _BOOT_MS,
        )
        self.core = Synchronizer(
            self.replicas,
            name=f"node-{self.number}",
            incarnation=bytes([self.number, self._life]) * 8,
            random=_Numbers(""),
            timing=_TIMING,
        )
        self.replica = self.replicas.open(PHEXT)
        self.core.tick(self._now)

    # -- inputs ----------------------------------------------------------------------------

    def do(self, given: Input, received: bytes | None = None) -> bytes | None:
        """Take one input, perhaps with a frame; return the frame that it gave, if any."""
        took = () if received is None else (received,)
        frame: bytes | None = getattr(self, f"_do_{given[0]}")(*given[1:], *took)
        self.core.events.clear()
        self.replicas.reports.clear()
        return frame

    def _do_open(self, link: int, peer: int) -> None:
        is_first = self.number < peer
        self.core.link_opened(self._now, link, id_of(peer), dialled=is_first)

    def _do_close(self, link: int) -> None:
        self.core.link_closed(self._now, link, "it broke")

    def _do_pull(self, link: int) -> bytes | None:
        return self.core.next_frame(self._now, link)

    def _do_receive(self, link: int, frame: bytes) -> None:
        self.core.receive(self._now, link, frame)

    def _do_append(self) -> None:
        self.lines += 1
        self.replica.append(ORIGIN, f"{self.number}.{self.lines}\n")

    def _do_delete(self) -> None:
        """Delete the first line."""
        self.replica.delete(ORIGIN, 0, self.replica[ORIGIN].index("\n") + 1)

    def _do_take(self) -> None:
        self._batch = self.replicas.durability.take()

    def _do_written(self) -> None:
        assert self._batch is not None
        self.store.commit(self._batch)
        self._batch = None
        self.replicas.durability.written()

    def _do_crash(self) -> None:
        """End; what was on its way to the disk did not arrive."""
        self.store.close(clean=False)
        self._start()

    def _do_late_crash(self) -> None:
        """End when what was on its way is on the disk, and nobody was told."""
        assert self._batch is not None
        self.store.commit(self._batch)
        self._do_crash()

    def _do_restart(self) -> None:
        """End cleanly and start again."""
        self.replicas.commit()
        self.store.close(clean=True)
        self._start()

    def _do_tick(self) -> None:
        self._now += TICK_S
        self.core.tick(self._now)

    def _do_ask(self) -> None:
        """Somebody asks who has everything."""
        self.core.lacking(PHEXT)

    def left_disk(self) -> MemoryStore:
        """Return its disk after a clean stop. It must not be given another input."""
        self.replicas.commit()
        self.store.close(clean=True)
        return self.store

    # -- what it is ------------------------------------------------------------------------

    def digest(self) -> bytes:
        """Return 16 bytes that tell all that it is."""
        own = (self.number, self._life, self.lines, self._now, self._numbers.drawn, self._batch)
        return digest((own, self.store, self.replicas, self.core))

    def seen(self) -> Seen:
        """Return what can be seen of it. It must not be given another input: who looks opens
        scrolls."""
        core, durability = self.core, self.replicas.durability
        return Seen(
            shown=_text(self.replica.get(ORIGIN, ""), self.replica.version(ORIGIN)),
            disk=_disk(self.store),
            complete=tuple(
                int.from_bytes(link.peer_id, "big")
                for link in core.lacks.holding(PHEXT, EVERYTHING)
                if core.lacks.of(link, PHEXT, EVERYTHING, with_left=True) is None
            ),
            ready=tuple(number for number, link in core.links.items() if link.has_work),
            ended=tuple((n, link.goodbye) for n, link in core.links.items() if link.goodbye),
            may_take=durability.is_changed and self._batch is None,
            is_writing=self._batch is not None,
        )


def id_of(number: int) -> bytes:
    """Return the node id of a node."""
    return number.to_bytes(16, "big")


def _disk(store: MemoryStore) -> Text:
    """Return what a start would find, read past the library's own bookkeeping."""
    stored = store.read(PHEXT, ORIGIN.key)
    scroll = Scroll(ORIGIN, 1, () if stored is None else stored.updates)
    return _text(scroll.text, scroll.version())


def _text(text: str, version: bytes) -> Text:
    return Text(tuple(text.splitlines()), version)
