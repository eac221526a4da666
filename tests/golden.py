"""Data folders that earlier versions of this library wrote, kept as test vectors."""

import gzip
import json
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from phextsync.index import Coordinate
from sims.network import Network

VECTORS = Path(__file__).with_name("vectors")
VERSIONS: Final = ("2026-11-30",)
"""Days on which `make_golden` kept what there was then."""
READ: Final = (
    ("export", "-"),
    ("export", "--phext", "notes", "-"),
    ("log", "2.1.1/1.1.1/1.1.1", "--json"),
    ("blame", "1.1.1/1.1.1/1.1.1"),
    ("undelete",),
    ("history",),
    ("names",),
    ("mesh",),
)
"""Commands that tell what a folder has."""


def unpack(version: int, folder: Path) -> None:
    """Put the store of a format into an empty folder, as a node of that time left it."""
    (folder / "store").mkdir(mode=0o700)
    data = gzip.decompress((VECTORS / f"store-{version}.mdb.gz").read_bytes())
    (folder / "store" / "data.mdb").write_bytes(data)


def expected() -> dict[str, Any]:
    """Return texts, fingerprints and quarantined coordinates of those stores: all hold the same."""
    return dict(json.loads((VECTORS / "store.json").read_text()))


def unpack_folders(version: str, folder: Path) -> dict[str, dict[str, str]]:
    """Put the data folders `anna` and `ben` into a folder; return what commands said of each."""
    with tarfile.open(VECTORS / f"folders-{version}.tar.gz") as tar:
        for member in tar:
            (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
            data = tar.extractfile(member)
            assert data is not None
            (folder / member.name).write_bytes(data.read())
            (folder / member.name).chmod(member.mode)
    return dict(json.loads((folder / "told.json").read_text()))


Said: TypeAlias = list[list[bytes]]
"""What each of two cores said in one turn."""


def said(version: str) -> list[Said]:
    """Return what two cores of a version said to each other, turn by turn."""
    data = gzip.decompress((VECTORS / f"wire-{version}.json.gz").read_bytes())
    return [[[*map(bytes.fromhex, each)] for each in turn] for turn in json.loads(data)]


def converse(old: int | None = None, recorded: Sequence[Said] = ()) -> tuple[list[Said], Network]:
    """Let two cores talk until both hold the same; return what they said, and them. What number
    `old` says is what was recorded."""
    network = Network(2)
    write_first(network)
    network.link(0, 1)
    turns: list[Said] = []
    for turn in range(_TURNS):
        if turn == _LIVE_TURN:
            write_live(network)
        frames = [[*iter(partial(p.core.next_frame, network.now, 1), None)] for p in network.peers]
        turns.append(frames)
        if old is not None:
            frames = [*frames]
            frames[old] = recorded[turn][old]
        for peer, heard in zip(network.peers, reversed(frames), strict=True):
            for frame in heard:
                peer.core.receive(network.now, 1, frame)
            peer.commit()
        network.now += 0.05
        for peer in network.peers:
            peer.core.tick(network.now)
    return turns, network


def write_first(network: Network) -> None:
    """Write what two cores have when they meet."""
    for number, peer in enumerate(network.peers):
        peer.core.presence.publish({"load": number})
        for i in range(1, 13):
            place = Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + number, i)
            peer.replica.append(place, f"{i} of {number}\n")
        peer.replica.append(_SHARED, f"apart {number}\n")
    network.peers[0].replica.clear_scroll(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 5))
    network.run(0.1)


def write_live(network: Network) -> None:
    """Write while they are linked."""
    for peer in network.peers:
        peer.replica.append(_SHARED, "live\n")
    network.peers[1].replica.append(Coordinate(9, 9, 9, 9, 9, 9, 9, 9, 9), "x" * 70_000)


_TURNS: Final = 60
_LIVE_TURN: Final = 20
_SHARED: Final = Coordinate(1, 1, 1, 1, 1, 1, 1, 9, 9)
