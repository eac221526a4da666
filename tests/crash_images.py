"""`python -m tests.crash_images RECORDING BEFORE WORKER OF`: open what crashes may have left.

After a crash at each event of the recording, with several choices of what the disk kept: the
store opens and calls nothing damaged, has what was last acknowledged or what was being committed,
its index equals its content, no client id comes back that peers know better, and the node
converges with a peer that has everything it sent. `BEFORE` has the files of before the recording.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from phextsync.crdt import Fingerprinter, Scroll
from phextsync.index import EVERYTHING, Coordinate, clock_of
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry, Store
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from phextsync.trust.permissions import UNRESTRICTED
from sims.network import Network, Peer
from tests.crash_workload import NODE_ID, PLACES, contents
from tests.recording import Disk, events, write_image

CHANCES = (0.0, 1.0, 0.5, 0.5, 0.8, 0.8, 0.2, 0.2)
SHM = Path("/dev/shm")
Contents = Mapping[str, Mapping[str, str]]


class DiskPeer(Peer):
    """A node of the network whose store is on disk."""

    def __init__(self, store: Store, node_id: bytes, seed: int) -> None:
        self.node_id = node_id
        self.random = Random(seed)
        self.store = store  # type: ignore[assignment]
        self.certificate = self.permissions = UNRESTRICTED
        self.wall_time_ms = 0
        self.start()

    def _reopened(self) -> Any:
        return self.store


@dataclass(slots=True)
class Told:
    """What the workload had said before the crash."""

    part: str
    peer: ReplicaSet
    before: Contents
    after: Contents


def check_image(store: LmdbStore, told: Told, seed: int) -> None:
    """Check what a crash left, and let it meet a peer."""
    assert not any("damaged" in line for line in store.report), store.report
    peer_store = told.peer.store
    assert isinstance(peer_store, MemoryStore)
    network = Network(0)
    node = DiskPeer(store, NODE_ID, seed)
    peer = DiskPeer(peer_store.cloned(), b"p" * 16, seed + 1)
    network.peers += [node, peer]
    found = contents(node.replicas)
    assert _some(found) in (_some(told.before), _some(told.after)), _difference(found, told)
    for name in node.replicas.names():
        check_index(node.replicas, name)
        _check_lease(store, node.replicas, peer.replicas, name)
    expected = dict(peer.replica.scrolls())
    node.replica.append(PLACES[0], "after the crash\n")
    node.replica.append(PLACES[1], "after the crash\n")
    network.link(0, 1)
    network.run(0.2)
    texts = network.assert_equal()
    for place, text in expected.items():
        assert set(text.splitlines()) <= set(texts[place].splitlines()), place


def check_index(replicas: ReplicaSet, name: str) -> None:
    """Each fingerprint and size of the index is that of the stored content."""
    index, fingerprinter = replicas.open(name).index, Fingerprinter(name)
    for place in index.coordinates(EVERYTHING):
        stored = replicas.store.read(name, place.key)
        assert stored is not None, f"{name} {place} has no content"
        scroll = Scroll(place, 1, stored.updates)
        assert index.fingerprint_of(place) == scroll.fingerprint(fingerprinter), f"{name} {place}"
        assert index.size_of(place) == scroll.size


def _check_lease(store: LmdbStore, ours: ReplicaSet, theirs: ReplicaSet, name: str) -> None:
    """A client id that may go on has written nothing that only peers know."""
    client = store.lease(name)
    if client is None:
        return
    for place in theirs.open(name).index.coordinates(EVERYTHING):
        known = clock_of(theirs.open(name).version(place), client)
        assert known <= clock_of(ours.open(name).version(place), client), f"{name} {place}"


def _some(found: Contents) -> dict[str, dict[str, str]]:
    return {name: dict(scrolls) for name, scrolls in found.items() if scrolls}


def _difference(found: Contents, told: Told) -> str:
    return json.dumps([found, told.before, told.after])


def run(recording: Path, before: Path, worker: int, of: int) -> dict[str, int]:
    """Check every `of`-th image; return how many in each part of the workload."""
    files = {
        str(path.relative_to(before)): path.read_bytes()
        for path in sorted(before.rglob("*"))
        if path.is_file()
    }
    told_all = list(events(recording))
    marks = (json.loads(event.mark) for event in told_all if event.mark is not None)
    acknowledged = [value for kind, value in marks if kind == "acknowledged"]
    disk = Disk(files)
    peer = ReplicaSet(MemoryStore(), node_id=b"p" * 16, random=Random(0), wall_time_ms=lambda: 0)
    first = json.loads((before / "contents").read_text()) if "contents" in files else {}
    told = Told("start", peer, first, acknowledged[0])
    tried: dict[str, int] = {}
    seen: set[bytes] = set()
    taken, numbers, is_changed = 0, count(), True
    for i, event in enumerate(told_all):
        if event.mark is not None:
            taken += _hear(event.mark, told, acknowledged[taken + 1 :])
            is_changed = True
            continue
        crashed = disk.begin(event)
        if crashed is disk:
            disk.tell(event)
        for choice, chance in enumerate(CHANCES):
            seed = 100 * i + choice
            image = crashed.image(Random(seed), chance)
            name = blake2b(repr((image, told.part, taken, is_changed)).encode()).digest()
            if name in seen:
                continue
            seen.add(name)
            if next(numbers) % of == worker:
                tried[told.part] = tried.get(told.part, 0) + 1
                _try(image, told, seed)
        if crashed is not disk:
            disk.tell(event)
        is_changed = False
    return tried


def _hear(mark: str | bytes, told: Told, later: Sequence[Contents]) -> bool:
    """Note what the workload says; return whether something was acknowledged. `later` is what will
    be."""
    kind, value = json.loads(mark)
    if kind == "part":
        told.part = value
    elif kind == "sent":
        phext, key, update = value
        entry = LogEntry(bytes.fromhex(update), NODE_ID, 0)
        told.peer.open(phext).apply(Coordinate.from_key(bytes.fromhex(key)), entry)
        told.peer.commit()
    else:
        told.before = value
        told.after = later[0] if later else value
        return True
    return False


def _try(image: Mapping[str, bytes | None], told: Told, seed: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="crash-", dir=SHM))
    try:
        write_image(image, folder)
        store = LmdbStore(folder)
        try:
            check_image(store, told, seed)
        finally:
            store.close(clean=False)
    except BaseException as error:
        error.add_note(f"in part {told.part!r}, seed {seed}")
        raise
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
