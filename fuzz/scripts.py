"""Targets whose bytes are a script: operations on an index, frames to a node that has others."""

from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Final

from phextsync.crdt import import_update
from phextsync.index import EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange, update_version
from phextsync.sync.codec import encode
from phextsync.sync.messages import (
    Acknowledge,
    Ask,
    Changed,
    Compare,
    Conflict,
    Entry,
    Fetch,
    Fetched,
    FetchMode,
    Goodbye,
    Graft,
    Had,
    Have,
    Hello,
    Keep,
    Leave,
    Live,
    Message,
    Neighbours,
    Notice,
    Part,
    PhextSummary,
    Ping,
    Pong,
    Presence,
    Prune,
    Refused,
    Regrouped,
    Summary,
    Survey,
    Surveyed,
    SurveyedScroll,
    Told,
    Updates,
    Verdict,
    Want,
    Watch,
)
from sims.network import PHEXT, Network

# -- the index -----------------------------------------------------------------------------

_OPERATION_BYTES: Final = 4


def run_index(data: bytes) -> None:
    """Change an index and a dict alike; four bytes are an operation."""
    index = CoordinateIndex(leaf_max=2 + data[0] % 7, inner_max=4, seed=1) if data else None
    model: dict[Coordinate, tuple[bytes, int]] = {}
    for at in range(1, len(data) - _OPERATION_BYTES + 1, _OPERATION_BYTES):
        assert index is not None
        operation, shelf, section, scroll = data[at : at + _OPERATION_BYTES]
        place = Coordinate(*(*[1 + shelf % 4] * 7, 1 + section % 8, 1 + scroll))
        fingerprint = Random(operation).randbytes(32)
        match operation % 8:
            case 0 | 1 | 2:
                index.set(place, fingerprint, operation)
                model[place] = (fingerprint, operation)
            case 3 if place in model:
                index.remove(place)
                del model[place]
            case 4:
                index.sketch_cells(1 + section)
            case 5:
                _read_index(index, model, place, data)
            case 6 if section == 0:
                _load_index(index, model)
            case 7 if section == 1:
                index.clear()
                model.clear()
    if index is not None:
        index.check()
        assert list(index) == sorted(model)


def _read_index(
    index: CoordinateIndex,
    model: dict[Coordinate, tuple[bytes, int]],
    place: Coordinate,
    data: bytes,
) -> None:
    range_ = CoordinateRange(place)
    inside = sorted(c for c in model if c >= place)
    assert index.count(range_) == len(inside)
    assert index.lower_bound(place) == (inside[0] if inside else None)
    assert index.compare_list(range_, index.list_entries(range_)) == ([], [], [])
    index.audit(range_, bytes(16))
    for listed in (data, data * 3):
        for read in (index.sketch_difference, lambda d: index.compare_list(EVERYTHING, d)):
            with suppress(ValueError):
                read(listed[: len(listed) // 23 * 23])


def _load_index(index: CoordinateIndex, model: dict[Coordinate, tuple[bytes, int]]) -> None:
    entries = list(model.items())[::-1]
    index.bulk_load(
        b"".join(c.key for c, _ in entries),
        b"".join(fingerprint for _, (fingerprint, _) in entries),
        b"".join(size.to_bytes(4, "little") for _, (_, size) in entries),
    )


def index_seeds() -> list[bytes]:
    """Return scripts of many insertions and some of everything."""
    source = Random(2)
    return [source.randbytes(1 + _OPERATION_BYTES * count) for count in (5, 20, 80, 300) * 3]


# -- a node among others -------------------------------------------------------------------

_ATTACKER: Final = b"m" * 16
_SMALL: Final = b"\0" * 16
_LINK: Final = 99
_A: Final = Coordinate(*[1] * 9)
_B: Final = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 2)


def run_protocol(data: bytes) -> None:
    """Feed frames of a hostile peer to a node that has an honest one: two bytes of length and a
    frame each; the length FFFF lets time pass. The honest ones stay linked and become equal."""
    network = Network(2)
    victim, honest = network.peers
    victim.replica[_A] = "ours\n"
    link = network.link(0, 1)
    network.run(0.1)
    peer_id = _SMALL if data[:1] == b"\0" else _ATTACKER
    victim.core.link_opened(network.now, _LINK, peer_id, dialled=False)
    for frame in _frames(data[1:]):
        if frame is None:
            network.run(0.05)
        else:
            victim.core.receive(network.now, _LINK, frame)
        while victim.core.next_frame(network.now, _LINK) is not None:
            pass
    victim.core.link_closed(network.now, _LINK, "")
    honest.replica.append(_A, "theirs\n")
    network.run(2)
    assert link in network.links, "an honest link ended"
    network.assert_equal()
    assert "theirs\n" in victim.replica[_A]


def _frames(data: bytes) -> Iterator[bytes | None]:
    while len(data) >= 2:
        length = int.from_bytes(data[:2])
        if length == 0xFFFF:
            yield None
            data = data[2:]
        else:
            yield data[2 : 2 + length]
            data = data[2 + length :]


def frame_seeds() -> list[bytes]:
    """Return frames of every kind."""
    return [encode(message) for message in _messages(_ATTACKER)]


def protocol_seeds() -> list[bytes]:
    """Return scripts of a hello and what may follow it."""
    seeds = []
    for first, peer_id in ((b"\0", _SMALL), (b"\1", _ATTACKER)):
        hello, *others = [_framed(encode(message)) for message in _messages(peer_id)]
        seeds.append(first + hello + b"".join(others))
        seeds += [first + hello + other + b"\xff\xff" + other for other in others]
    return seeds


def _framed(frame: bytes) -> bytes:
    return len(frame).to_bytes(2) + frame


def _messages(peer_id: bytes) -> list[Message]:
    summary = PhextSummary(PHEXT, (EVERYTHING,), 3, 9, bytes(16))
    update = import_update(_B.key, "hostile\n")
    version = update_version(update)
    return [
        Hello(1, 0, peer_id, "mallory", b"i" * 16, (summary,)),
        Summary(summary),
        Summary(PhextSummary("other", (CoordinateRange.parse("2.*"),), 0, 0, bytes(16))),
        Compare(PHEXT, 1, 0, 0, b"\2" + (3).to_bytes(8) + bytes(16)),
        Compare(PHEXT, 1, 0, 3, bytes(16)),
        Want(PHEXT, ((_A, b"\0\0", b""), (_B, version, b"x" * 16))),
        Updates(PHEXT, (Entry(_B, update), Entry(_A, update, peer_id, 1), Entry(_A, b""))),
        Part(PHEXT, _A, 0, 2, update[:5]),
        Part(PHEXT, _A, 1, 2, update[5:]),
        Acknowledge(1, 1),
        Refused(PHEXT, _A, "no"),
        Conflict(PHEXT, _A, bytes(16)),
        Conflict(PHEXT, _A, b"\xff" * 16),
        Ping(1),
        Pong(1),
        Live(PHEXT, ((_A, update, 0),)),
        Presence((Notice(b"m" * 16, b"i" * 16, 1, 1000, "m", (("load", 1),)),)),
        Neighbours((b"m" * 16,)),
        Regrouped((b"m" * 16,), (b"n" * 16,)),
        Leave(PHEXT, 1, (EVERYTHING,)),
        Keep(PHEXT, 1, (EVERYTHING,)),
        *(
            Fetch(i, PHEXT, place, mode, b"")
            for i, place in ((1, _A), (2, _B))
            for mode in FetchMode
        ),
        *(Fetched(1, verdict, True, bytes(16), 0, 1, update) for verdict in Verdict),
        Survey(3, PHEXT, EVERYTHING, True),
        Surveyed(3, Verdict.GIVEN, None, (SurveyedScroll(_A, 1, bytes(16), "a"),)),
        Ask(4, PHEXT, EVERYTHING, b"\x80"),
        Told(4, Verdict.GIVEN, 0, 1, b"\x80"),
        Watch(5, PHEXT, (EVERYTHING,)),
        Changed(5, Verdict.GIVEN, False, (_A,)),
        Had(PHEXT, _A, ((bytes(16), b"\0\0"),)),
        Have((bytes(16),)),
        Graft((bytes(16),)),
        Prune(),
        Goodbye("bye"),
    ]
