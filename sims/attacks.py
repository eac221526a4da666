"""What a hostile member may do to a node that has an honest peer, with what it may cost.

An attack speaks the protocol by hand: it knows no core. Each is bounded: it ends when the node
has ended the link or after a number of frames far above every limit.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from phextsync.crdt import ROOT, Scroll
from phextsync.index import EVERYTHING, Coordinate, encode_plain_insert
from phextsync.sync.codec import decode, encode
from phextsync.sync.comparison import AUDIT, RANGES, SKETCH
from phextsync.sync.limits import Limits
from phextsync.sync.messages import (
    Acknowledge,
    Compare,
    Conflict,
    Entry,
    Hello,
    Message,
    Part,
    PhextSummary,
    Ping,
    Refused,
    Summary,
    Unknown,
    Updates,
    Want,
)
from phextsync.sync.sketch import CELL_BYTES, STRATA_BYTES
from sims.network import PHEXT, Network

SCROLLS: Final = 2000
"""Of the node under attack and its honest peer."""

_LIMITS: Final = Limits()
_SMALL_ID: Final = b"\0" * 16  # starts comparisons
_LARGE_ID: Final = b"m" * 16
_LINK: Final = 1000
_TURN_FRAMES: Final = 64  # between two turns of the honest ones
_FRAMES_MAX: Final = 100_000
_NEWS: Final = Coordinate(*[3] * 9)  # where an honest node writes meanwhile


@dataclass(slots=True)
class Attacker:
    """A hostile peer on a link to the first node of a network. `reasons` are those of its links'
    ends; `frame_s` is the longest that the node worked on one frame."""

    network: Network
    peer_id: bytes = _LARGE_ID
    link: int = _LINK
    reasons: list[str] = field(default_factory=list)
    frames: int = 0
    frame_s: float = 0.0
    seconds: float = 0.0

    def connect(
        self, peer_id: bytes = _LARGE_ID, *, incarnation: bytes = b"i" * 16, hello: bool = True
    ) -> None:
        """Open a link, and say hello with the phext that all have."""
        self.peer_id = peer_id
        self.link += 1
        core = self.network.peers[0].core
        core.link_opened(self.network.now, self.link, peer_id, dialled=False)
        if hello:
            self.send(Hello(1, 0, peer_id, "mallory", incarnation, (summary(),)))

    @property
    def is_linked(self) -> bool:
        """Whether the node has neither ended the link nor was fed all that there is."""
        link = self.network.peers[0].core.links.get(self.link)
        return link is not None and link.goodbye is None and self.frames < _FRAMES_MAX

    def send(self, *messages: Message | bytes) -> None:
        """Send frames; the honest ones get their turn now and then."""
        core = self.network.peers[0].core
        for message in messages:
            frame = message if isinstance(message, bytes) else encode(message)
            start = time.perf_counter()
            core.receive(self.network.now, self.link, frame)
            took_s = time.perf_counter() - start
            self.frame_s = max(self.frame_s, took_s)
            self.seconds += took_s
            self.frames += 1
            if self.frames % _TURN_FRAMES == 0:
                self.network.run(0)

    def read(self) -> list[Message | Unknown]:
        """Read all that the node has to say."""
        messages: list[Message | Unknown] = []
        core = self.network.peers[0].core
        while (frame := core.next_frame(self.network.now, self.link)) is not None:
            messages.append(decode(frame, _LIMITS))
        return messages

    def leave(self) -> None:
        """End the link, and note why if the node did so before."""
        core = self.network.peers[0].core
        known = core.links.get(self.link)
        if known is not None:
            if known.goodbye is not None:
                self.reasons.append(known.goodbye)
            core.link_closed(self.network.now, self.link, "gone")

    def compare(self, session: int, step: int, form: int, body: bytes) -> None:
        """Send a turn of a comparison."""
        self.send(Compare(PHEXT, session, step, form, body))


@dataclass(frozen=True, slots=True)
class Attack:
    """`memory_mb` is the limit of what the node takes for it, and `reason` a part of what the
    link ends with; empty when it goes on and is harmless."""

    run: Callable[[Attacker], None]
    memory_mb: float
    reason: str


def summary(phext: str = PHEXT, count: int = 0, digest: bytes = b"d" * 16) -> PhextSummary:
    """Return a summary of a whole phext."""
    return PhextSummary(phext, (EVERYTHING,), count, 0, digest)


def place(number: int) -> Coordinate:
    """Return one of 900 million coordinates that no honest node uses."""
    return Coordinate(
        7, 7, 7, 7, 7, 7, 1 + number // 810_000, 1 + number // 900 % 900, 1 + number % 900
    )


def meet(limits: Limits | None = None) -> Network:
    """Return two honest nodes, linked and equal, with some thousand scrolls."""
    network = Network(2, limits=limits)
    for i in range(SCROLLS):
        at = Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 900, 1 + i % 900)
        network.peers[0].replica.import_text(at, f"scroll {i}\n")
    network.peers[0].commit()
    network.link(0, 1)
    network.run(1)
    return network


# -- attacks on reading --------------------------------------------------------------------


def _malformed(attacker: Attacker) -> None:
    deep = b"\x81" * 100_000
    for frame in (
        *(b"", b"\xff", b"\x80", deep, b"\x9b" + b"\xff" * 8, b"\x5b" + b"\x7f" * 8 + b"x"),
        *(b"\x82\x04\x9f\xff", b"\xa1\x01\x02", b"\xc0\x81\x01", b"\x81\x18\x63", b"\x81\x20"),
        *(b"\x82\x09\xfb" + bytes(8), b"\x83\x04\x66memory\x9a\x7f\xff\xff\xff"),
        *(encode(Ping(1))[:-1], encode(Ping(1)) + b"\0", b"\x82\x04" + b"\x81" * 5),
        b"\x83\x04\x66memory\x9a\x00\x0f\xff\xff" + b"\x80" * ((1 << 20) - 14),
    ):
        attacker.connect()
        attacker.send(frame)
        attacker.leave()


def _second_hello(attacker: Attacker) -> None:
    attacker.connect()
    attacker.send(Hello(1, 0, attacker.peer_id, "mallory", b"i" * 16, (summary(),)))


def _pings_without_hello(attacker: Attacker) -> None:
    attacker.connect(hello=False)
    while attacker.is_linked and attacker.frames < 1000:
        attacker.send(Ping(1))
        attacker.read()
        attacker.network.run(0.1)


def _crowded_hello(attacker: Attacker) -> None:
    attacker.connect(hello=False)
    ranges = (EVERYTHING,) * _LIMITS.ranges_max
    summaries = [
        PhextSummary(f"phext-{i}", ranges, 1 << 62, 1 << 62, bytes(16))
        for i in range(_LIMITS.phexts_max)
    ]
    attacker.send(Hello(1, 0, attacker.peer_id, "m" * 255, b"i" * 16, tuple(summaries)))
    for i in range(1000):
        attacker.send(Summary(summary(f"more-{i}")))


# -- attacks on what a link keeps ----------------------------------------------------------


def _unread_pings(attacker: Attacker) -> None:
    attacker.connect()
    while attacker.is_linked:
        attacker.send(Ping(1 << 62))


def _unread_refusals(attacker: Attacker) -> None:
    attacker.connect()
    while attacker.is_linked:
        attacker.send(Updates(PHEXT, tuple(Entry(place(i), b"\xff") for i in range(1000))))


def _unread_requests(attacker: Attacker) -> None:
    attacker.connect()
    version = b"\1\1\1\0"
    while attacker.is_linked:
        places = range(attacker.frames * 1000, attacker.frames * 1000 + 1000)
        attacker.send(Want(PHEXT, tuple((place(i), version, bytes(16)) for i in places)))


def _unread_large_requests(attacker: Attacker) -> None:
    attacker.connect()
    version = _version(_LIMITS.version_bytes_max - 8)
    while attacker.is_linked:
        places = range(3 * attacker.frames, 3 * attacker.frames + 3)
        attacker.send(Want(PHEXT, tuple((place(i), version, b"") for i in places)))


def _unread_comparisons(attacker: Attacker) -> None:
    attacker.connect(_SMALL_ID)
    body = bytes(STRATA_BYTES + CELL_BYTES)
    session = 1
    while attacker.is_linked:
        attacker.compare(session, 0, SKETCH, body)
        session += 1


def _requests_without_end(attacker: Attacker) -> None:
    """Empty lists ask for everything, again and again."""
    attacker.connect(_SMALL_ID)
    for session in range(1, 1000):
        attacker.compare(session, 0, RANGES, _empty_list())
        _take_turns(attacker)


def _scrolls_that_are_not_there(attacker: Attacker) -> None:
    """Lists that name more and more scrolls; none of them is ever sent."""
    attacker.connect(_SMALL_ID)
    session = 1
    for first in range(0, 400_000, 50_000):
        body = _list(range(first, first + 50_000))
        attacker.compare(session, 0, RANGES, body)
        _take_turns(attacker)
        session += 1


def _updates_without_base(attacker: Attacker) -> None:
    attacker.connect()
    gapped = b"\1\1\5\7\x84\5\6\1a\0"
    while attacker.is_linked:
        places = range(attacker.frames * 1000, attacker.frames * 1000 + 1000)
        entries = tuple(Entry(place(i), gapped, b"o" * 16, 1) for i in places)
        attacker.send(Updates(PHEXT, entries))
        attacker.read()


def _never_durable(attacker: Attacker) -> None:
    """Frames of updates of which their sender never says that they are on its disk."""
    attacker.connect()
    for frame in range(60):
        first = frame * 2000
        entries = tuple(Entry(place(i), b"") for i in range(first, first + 2000))
        attacker.send(Updates(PHEXT, entries))
        attacker.read()


def _parts_without_end(attacker: Attacker) -> None:
    for number in range(8):
        attacker.connect(bytes([200 + number]) * 16)
        for index in range(120):
            attacker.send(Part(PHEXT, place(0), index, 121, bytes((1 << 19) - 100)))
    for _ in range(8):
        attacker.leave()
        attacker.link -= 1


def _refuses_everything(attacker: Attacker) -> None:
    attacker.connect()
    while attacker.is_linked and attacker.frames < 10_000:
        i = attacker.frames
        at = place(i) if i % 2 else Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 900 % 2, 1 + i % 900)
        attacker.send(Refused(PHEXT, at, "no" * 100))


def _held_frames(attacker: Attacker) -> None:
    attacker.connect()
    for number in range(64):
        attacker.connect(incarnation=bytes([number]) * 16)
        for _ in range(3):
            attacker.send(Updates(PHEXT, (Entry(place(0), bytes((1 << 20) - 100)),)))
    for _ in range(65):
        attacker.leave()
        attacker.link -= 1


def _phexts(attacker: Attacker) -> None:
    attacker.connect()
    update = encode_plain_insert(5, ROOT, b"x")
    for i in range(2000):
        attacker.send(Summary(summary(f"phext-{i}")))
        attacker.send(Updates(f"phext-{i}", (Entry(place(0), update, b"o" * 16, 1),)))


# -- attacks on time -----------------------------------------------------------------------


def _audits(attacker: Attacker) -> None:
    attacker.connect(_SMALL_ID)
    for session in range(1, 3000):
        attacker.compare(session, 0, AUDIT, bytes(16))
        if any(isinstance(said, Compare) and said.body for said in attacker.read()):
            attacker.compare(session, 2, RANGES, b"")


def _fingerprints_that_never_match(attacker: Attacker) -> None:
    attacker.connect(_SMALL_ID)
    source, session = Random(1), 0
    while attacker.is_linked and session < 200:
        session += 1
        for step in range(0, 200, 2):
            if not attacker.is_linked:
                break
            attacker.compare(session, step, RANGES, b"\0" + source.randbytes(8))
            attacker.read()


def _sketches_that_never_decode(attacker: Attacker) -> None:
    attacker.connect(_SMALL_ID)
    source, session = Random(1), 0
    while attacker.is_linked and session < 60:
        session += 1
        cells = b"".join(_cell(source) for _ in range(3000))
        attacker.compare(session, 0, SKETCH, bytes(STRATA_BYTES) + cells)
        attacker.read()
        attacker.compare(session, 2, RANGES, b"")


def _new_scrolls(attacker: Attacker) -> None:
    """As many coordinates as it likes, each with a text: a member may write."""
    attacker.connect()
    update = encode_plain_insert(5, ROOT, b"x")
    for frame in range(8):
        first = frame * _LIMITS.scrolls_max
        entries = (Entry(place(i), update) for i in range(first, first + _LIMITS.scrolls_max))
        attacker.send(Updates(PHEXT, tuple(entries)))
        attacker.network.run(0)
        attacker.read()


def _updates_that_claim_gigabytes(attacker: Attacker) -> None:
    attacker.connect()
    claims = (b"\xff\xff\xff\xff\x07", b"\xfe\xff\xff\xff\x07", b"\xff" * 8 + b"\x7f")
    for claim in claims:
        for update in (
            claim + claim + b"\5\0",
            b"\1" + claim + b"\5\0\4\1\4text\1a\0",
            b"\1\1\5\0\4\1\4text" + claim + b"a\0",
            b"\1\1\5\0\1\1\4text" + claim + b"\0",
            b"\1\1\5\0\0" + claim + b"\0",
            b"\0" + claim + b"\5" + claim,
            b"\0\1\5\1\0" + claim,
        ):
            for told in (Entry(place(0), update, b"o" * 16, 1), Entry(place(0), update)):
                attacker.send(Updates(PHEXT, (told,)))
                attacker.read()


def _conflicts(attacker: Attacker) -> None:
    attacker.connect()
    at = Coordinate(*[1] * 9)
    while attacker.is_linked and attacker.frames < 1000:
        attacker.send(Conflict(PHEXT, at, bytes(16)))
        for said in attacker.read():
            if isinstance(said, Want) and said.phext == PHEXT:
                scroll = Scroll(at, attacker.frames, [])
                update = scroll.append(f"{attacker.frames}\n") or b""
                attacker.send(Updates(PHEXT, (Entry(at, update),)))


def _lies_about_the_disk(attacker: Attacker) -> None:
    attacker.connect()
    attacker.send(Acknowledge(1 << 40, 1 << 40))


# -- pieces --------------------------------------------------------------------------------


def _take_turns(attacker: Attacker) -> None:
    """Read a turn of a comparison and nothing else."""
    core = attacker.network.peers[0].core
    for _ in range(3):
        core.next_frame(attacker.network.now, attacker.link)


def _version(size: int) -> bytes:
    """Return a canonical version of about that many bytes."""
    count = (size - 8) // 5
    clients = b"".join(_varint(3_000_000 + i) + b"\1" for i in range(count))
    return _varint(count) + clients + b"\0"


def _list(numbers: range) -> bytes:
    """Return a part of a comparison that lists scrolls."""
    entries = bytearray()
    before = 0
    for key in _numbers(numbers):
        entries += _varint(key - before) + b"12345678"
        before = key
    return b"\1" + _varint(len(entries)) + entries


def _numbers(numbers: range) -> Iterator[int]:
    origin = _number(Coordinate(*[1] * 9))
    for i in numbers:
        yield _number(place(i)) - origin


def _number(coordinate: Coordinate) -> int:
    key = coordinate.key
    return int.from_bytes(key[:8], "big") << 30 | int.from_bytes(key[8:], "big")


def _empty_list() -> bytes:
    return b"\1\0"


def _cell(source: Random) -> bytes:
    words = [source.randrange(1, (1 << 61) - 1) for _ in range(3)]
    return ((words[0] << 122 | words[1] << 61 | words[2]) << 1).to_bytes(CELL_BYTES)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


ATTACKS: Final = {
    "malformed": Attack(_malformed, 20, "expected"),
    "second_hello": Attack(_second_hello, 5, "expected one hello, found a second"),
    "pings_without_hello": Attack(_pings_without_hello, 5, "expected a hello within 10 s"),
    "crowded_hello": Attack(_crowded_hello, 60, "expected at most 256 phexts, found more"),
    "unread_pings": Attack(_unread_pings, 5, "expected a peer that reads"),
    "unread_refusals": Attack(_unread_refusals, 10, "expected a peer that reads"),
    "unread_requests": Attack(_unread_requests, 10, "expected fewer requests at once"),
    "unread_large_requests": Attack(_unread_large_requests, 20, "expected fewer requests at once"),
    "unread_comparisons": Attack(_unread_comparisons, 10, "no turn of a comparison before ours"),
    "requests_without_end": Attack(_requests_without_end, 40, ""),
    "scrolls_that_are_not_there": Attack(_scrolls_that_are_not_there, 60, ""),
    "updates_without_base": Attack(_updates_without_base, 30, "expected updates of what is here"),
    "never_durable": Attack(_never_durable, 40, ""),
    "parts_without_end": Attack(_parts_without_end, 300, "too many large scrolls arrive at once"),
    "refuses_everything": Attack(_refuses_everything, 10, ""),
    "held_frames": Attack(_held_frames, 40, "another link of this node waits already"),
    "phexts": Attack(_phexts, 80, "expected at most 256 phexts, found more"),
    "audits": Attack(_audits, 5, ""),
    "fingerprints_that_never_match": Attack(_fingerprints_that_never_match, 10, "steps"),
    "sketches_that_never_decode": Attack(_sketches_that_never_decode, 10, ""),
    "new_scrolls": Attack(_new_scrolls, 400, ""),
    "updates_that_claim_gigabytes": Attack(_updates_that_claim_gigabytes, 5, ""),
    "conflicts": Attack(_conflicts, 10, "expected an end of the conflict"),
    "lies_about_the_disk": Attack(_lies_about_the_disk, 5, "expected an acknowledgement up to"),
}


def suffer(name: str, network: Network | None = None) -> Attacker:
    """Run one attack beside honest edits on what `meet` returns. AssertionError unless the honest
    ones stay linked and become equal, and the link ended as it should."""
    network = network or meet()
    (link,) = network.links
    attacker = Attacker(network)
    first, second = network.peers
    second.replica.append(_NEWS, "before\n")
    ATTACKS[name].run(attacker)
    attacker.leave()
    second.replica.append(_NEWS, "after\n")
    network.run(5)
    assert link in network.links, "the honest link ended"
    network.assert_equal()
    assert first.replica[_NEWS] == "before\nafter\n"
    reason = ATTACKS[name].reason
    assert any(reason in said for said in attacker.reasons) or not reason, attacker.reasons
    return attacker
