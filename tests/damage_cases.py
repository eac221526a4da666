"""`python -m tests.damage_cases FOLDER COUNT WORKER OF`: damage a data file, start, meet a peer.

Each case runs in a process of its own, since LMDB may end it with a signal. Whatever happened,
the next start must be a good one: no scroll shows another text than it had, each that is lost is
named, the peer brings all of them back, and the start after that has nothing to report.
"""

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from phextsync.errors import StoreDamagedError, StoreError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.replica.clients import CLIENTS
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.folder import CLOSED, mark_of
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from sims.network import PHEXT, Network
from tests.crash_images import SHM, DiskPeer, check_index

_PAGE = 4096
NODE_ID = b"n" * 16
PEER_ID = b"p" * 16
LAST = Coordinate(*[9] * 9)
"""Where the last commit before the damage wrote: an older root record does not know of it."""


def make(folder: Path) -> None:
    """Make a data folder with scrolls of all kinds, cleanly closed, and note its texts."""
    store = LmdbStore(folder)
    replicas = ReplicaSet(store, node_id=NODE_ID, random=Random(1), wall_time_ms=lambda: 0)
    source = Random(2)
    for name, count in ((PHEXT, 90), ("other", 30)):
        replica = replicas.open(name)
        places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 9, 1 + i % 9) for i in range(count)]
        for i, place in enumerate(places):
            replica.import_text(place, f"{place} {source.getrandbits(80 * (1 + i % 9)):x}\n")
        replicas.commit()
        for i in range(60):
            replica.append(places[source.randrange(20)], f"line {i}\n")
            if i % 5 == 0:
                replicas.commit()
        replica[places[5]] = f"{source.getrandbits(60_000):x}"
        del replica[places[6]]
        replicas.commit()
    replicas.open(PHEXT).append(LAST, "last\n")
    replicas.commit()
    texts = {n: {str(c): t for c, t in replicas.open(n).scrolls()} for n in replicas.names()}
    store.close(clean=True)
    (folder / "texts").write_text(json.dumps(texts))


def damage(data: bytearray, random: Random) -> str:
    """Change a data file somewhere; return how."""
    at = random.randrange(len(data))
    kind = random.choice(["flip", "flip", "byte", "zero", "garbage", "truncate", "swap", "header"])
    match kind:
        case "flip":
            data[at] ^= 1 << random.randrange(8)
        case "byte":
            data[at] = random.randrange(256)
        case "zero":
            data[at : at + random.choice([16, 512, 4096])] = bytes(len(data[at : at + 512]))
        case "garbage":
            data[at : at + 512] = random.randbytes(len(data[at : at + 512]))
        case "truncate":
            del data[at:]
        case "swap":
            other = random.randrange(len(data) // _PAGE) * _PAGE
            start = at // _PAGE * _PAGE
            data[start : start + _PAGE] = data[other : other + _PAGE]
        case "header":
            data[at // _PAGE * _PAGE + random.randrange(48)] ^= 1 << random.randrange(8)
    return kind


def start_and_meet(
    folder: Path, texts: dict[str, dict[str, str]], peer: MemoryStore, *, whole: bool
) -> str:
    """Start on a folder, read everything, meet a peer; return what was reported. In the end all
    is there, if `whole`: what a node writes into a file whose damage it does not know may be
    damaged too, until the next start looks at the structure."""
    store = LmdbStore(folder)
    network = Network(0)
    node = DiskPeer(store, NODE_ID, 3)
    network.peers += [node, DiskPeer(peer, PEER_ID, 4)]
    lost = []
    for name, scrolls in texts.items():
        replica = node.replicas.open(name)
        for place, text in scrolls.items():
            try:
                found = replica.get(place)
            except StoreError:
                found = None
            if found is None:
                lost.append(f"{name} {place}")
            elif place != str(LAST):
                assert found == text, f"{name} {place} shows another text"
        for coordinate in list(replica.index.coordinates(EVERYTHING)):
            with suppress(StoreDamagedError):  # of scrolls without text too, which readers skip
                replica.version(coordinate)
        shown = {str(place) for place, _ in replica.scrolls()}
        assert name == CLIENTS or shown <= {*scrolls}, f"{name} shows {shown - {*scrolls}}"
    report = "\n".join([*store.report, *node.replicas.reports])
    for scroll in lost:
        assert (
            scroll in report
            or "could not even be named" in report
            or "cannot be read" in report
            or "root record" in report
            or " more scrolls were set aside" in report
        ), f"{scroll} is lost and not named: {report}"
    network.link(0, 1)
    network.run(0.1)
    for name, scrolls in texts.items() if whole else ():
        back = {str(place): text for place, text in node.replicas.open(name).scrolls()}
        back = {place: text for place, text in back.items() if name != CLIENTS or place in scrolls}
        assert back == scrolls, f"{name} did not come back: {report}"
        check_index(node.replicas, name)
    store.close(clean=True)
    return report


def run(source: Path, start: int, stop: int, worker: int, of: int) -> Counter[str]:
    """Try every `of`-th case from `start` to `stop`; return how many there were of each kind and
    outcome."""
    texts = json.loads((source / "texts").read_text())
    peer = _peer(texts, source)
    tried: Counter[str] = Counter()
    for seed in range(start + worker, stop, of):
        folder = Path(tempfile.mkdtemp(prefix="damage-", dir=SHM))
        try:
            tried.update(_case(source, folder, texts, peer, seed))
        except BaseException as error:
            error.add_note(f"in case {seed}")
            raise
        finally:
            shutil.rmtree(folder)
    return tried


def _peer(texts: dict[str, dict[str, str]], source: Path) -> MemoryStore:
    """Return the store of a peer that has everything, by the protocol."""
    with tempfile.TemporaryDirectory(prefix="damage-", dir=SHM) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        store = LmdbStore(folder)
        network = Network(0)
        peer = DiskPeer(MemoryStore(), PEER_ID, 5)
        network.peers += [DiskPeer(store, NODE_ID, 6), peer]
        for name in texts:
            network.peers[0].replicas.open(name)
        network.link(0, 1)
        network.run(0.1)
        store.close(clean=False)
        assert isinstance(peer.store, MemoryStore)
        return peer.store


def _case(
    source: Path, folder: Path, texts: dict[str, dict[str, str]], peer: MemoryStore, seed: int
) -> list[str]:
    random = Random(seed)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    path = folder / "store" / "data.mdb"
    data = bytearray(path.read_bytes())
    kind = damage(data, random)
    path.write_bytes(data)
    outcome = [kind]
    if random.random() < 0.5:
        # As when the disk itself changed it: nothing tells that it is not as it was left.
        (folder / CLOSED).write_bytes(mark_of(path))
        outcome.append("unnoticed")

    is_unnoticed = "unnoticed" in outcome

    def meet(*, whole: bool = True) -> tuple[int, str]:
        return _in_child(lambda: start_and_meet(folder, texts, peer.cloned(), whole=whole))

    status, report = meet(whole=not is_unnoticed)
    if status != 0:
        outcome.append("ended by a signal" if status < 0 else "ended with an error")
        assert status < 0 or report.startswith("Store"), report
    elif report:
        outcome.append("reported")
    if is_unnoticed:
        status, report = meet()
        assert status == 0, f"the second start failed too: {status} {report}"
    status, report = meet()
    assert status == 0, f"a later start failed: {status} {report}"
    for line in report.splitlines():
        # A changed key may name a scroll that never was: it waits until it is forgotten.
        scroll, _, rest = line.partition(": was set aside")
        name, _, place = scroll.partition(" ")
        assert rest, f"the last start reported {line}"
        assert place not in texts[name], f"the last start reported {line}"
    return outcome


def _in_child(call: Callable[[], str]) -> tuple[int, str]:
    """Return the status of a call in a process of its own (0, 1, or less than 0 for a signal),
    and what it returned or raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 0
        try:
            said = call()
        except StoreError as error:
            status, said = 1, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        except BaseException:
            status, said = 1, traceback.format_exc()
        os.write(writing, said.encode()[:60_000])
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(run(Path(arguments[0]), *map(int, arguments[1:]))))
