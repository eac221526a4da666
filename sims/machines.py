"""Machines with bound directories: the real `Binding` over a disk in memory, in a network of cores.

What `files.service` does for a node is done here in virtual time: changes of files and scrolls
are gathered, a round brings them together, and what goes wrong is tried again.
"""

from collections.abc import Callable, Coroutine
from random import Random
from typing import Final, TypeVar, TypeVarTuple

from phextsync.errors import DirectoryError, StoreError
from phextsync.files.binding import Binding
from phextsync.files.directory import Directory
from phextsync.files.held import Held
from phextsync.files.markers import MARKER_FILE, Marker
from phextsync.files.presets import PLAIN, Preset
from phextsync.files.records import Records
from phextsync.files.restored import Patience, Restored, Runs
from phextsync.files.todo import Rescans
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.changes import ChangeFeed
from phextsync.testing.filesystem import MemoryFileSystem
from phextsync.testing.memory_disk import MemoryDisk
from sims.network import PHEXT, Network, Peer

RANGE: Final = CoordinateRange.parse("7.*")
MAP: Final = RANGE.lower
"""The scroll with the names."""
CHECKOUT_S: Final = 10.0
"""How long after a pull its files may be new."""

_ID: Final = bytes(8)
_MARKER: Final = Marker("0123456789abcdef")
_RESCAN_S: Final = 30.0
_FIRST_RESCAN_S: Final = 1.0
_RETRY_S: Final = 1.0
_PACE_S: Final = 0.1

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Machine:
    """A node of a network with a bound directory. It works when it is told to."""

    def __init__(
        self,
        network: Network,
        number: int,
        disk: MemoryDisk | None = None,
        *,
        has_exchange: bool = True,
        has_links: bool = True,
        preset: Preset = PLAIN,
    ) -> None:
        self.preset = preset
        self.network = network
        self.number = number
        self.disk = disk or MemoryDisk(lambda: int(1e9 * network.now))
        self.files = MemoryFileSystem(self.disk, has_exchange=has_exchange, has_links=has_links)
        self.disk.put(MARKER_FILE, _MARKER.encode().decode())
        self.disk.sync_all()
        self.disk.on_change = self._on_change
        self.before_commit: Callable[[], None] = lambda: None
        self.pulled_at = -CHECKOUT_S  # when a checkout wrote files last
        self.problem = ""
        self.tells_runs = False  # whether an earlier store is told from the one that ended last
        self._numbers = Random(number)
        self.confirmed_ns = 0  # when somebody confirmed deletions last, while no node ran
        self.start()

    @property
    def peer(self) -> Peer:
        """Its node."""
        return self.network.peers[self.number]

    @property
    def now(self) -> float:
        """The time."""
        return self.network.now

    def start(self) -> None:
        """Begin to serve the directory, as after a start of the node."""
        self.binding: Binding | None = None
        self._patience = Patience(lambda: bool(self._holders()), self._is_whole)
        self._directory: Directory | None = None
        self._paths: dict[str, None] = {}
        self._coordinates: dict[Coordinate, None] = {}
        self._writers: dict[Coordinate, str] = {}
        self._rescans = Rescans()
        self._retry_at = 0.0
        self._root = self.disk.get("")
        self._feed: ChangeFeed = self.peer.replica.feed(RANGE)

    def is_at_rest(self) -> bool:
        """Whether it has done all that there is to do, as far as it knows."""
        if self.binding is None or self.problem or self.is_due():
            return False
        return not self.binding.situation().waiting and self.binding.naming.next_due is None

    def is_due(self) -> bool:
        """Whether there is something to do."""
        if self.now < self._retry_at:
            return False
        if (root := self.disk.get("")) is not self._root:
            self._root = root
            self._rescans.ask()  # the service looks every second
        if self.binding is None or self._paths or self.now >= self._rescans.due:
            return True
        self._take_changes()
        due = self.binding.next_due(self.now)
        return bool(self._coordinates) or (due is not None and due <= self.now)

    def work(self) -> None:
        """Bring together what may differ, once."""
        self._take_changes()
        paths, self._paths = self._paths, {}
        coordinates, self._coordinates = self._coordinates, {}
        writers, self._writers = self._writers, {}
        try:
            _run(self._round(paths, coordinates, writers))
            self.problem = ""
            self._retry_at = self.now + _PACE_S
        except (DirectoryError, StoreError, OSError) as error:
            self.problem = str(error)
            self._retry_at = self.now + _RETRY_S
            self._rescans.ask()
            self._paths = {**paths, **self._paths}
            self._coordinates = {**coordinates, **self._coordinates}
            self._writers = {**writers, **self._writers}

    def look_through(self) -> None:
        """Look through the whole directory in the next round."""
        self._rescans.ask()

    def visible(self) -> dict[str, str]:
        """Return the files that the directory shares with others, by path."""
        assert self._directory is not None
        return {
            path: text
            for path, text in self.disk.files().items()
            if text and path != MARKER_FILE and not self._directory.root.is_ignored(path)
        }

    def ignores(self, path: str) -> bool:
        """Whether a path is left alone."""
        return self._directory is not None and self._directory.root.is_ignored(path)

    def _take_changes(self) -> None:
        while (change := self._feed.take()) is not None:
            self._coordinates.update(dict.fromkeys(change.coordinates))
            if change.origin is not None:
                self._writers.update(dict.fromkeys(change.coordinates, change.label))
            if change.missed is not None:
                self._rescans.ask()

    async def _round(
        self,
        paths: dict[str, None],
        coordinates: dict[Coordinate, None],
        writers: dict[Coordinate, str],
    ) -> None:
        if self._directory is None:
            clock_ns = self.disk.now_ns
            self._directory = Directory(
                self.files, _MARKER, preset=self.preset, writers=1, clock_ns=clock_ns
            )
        if self.binding is None:
            binding = self._bind(self._directory)
            self._rescans.begin()
            await binding.start(self.now, self.confirmed_ns)
            self.binding = binding
            self._rescans.ask(self.now + _FIRST_RESCAN_S)
        elif self.now >= self._rescans.due:
            self._rescans.begin()
            await self.binding.rescan(self.now, writers)
            self._rescans.ask(self.now + _RESCAN_S)
        await self.binding.round(paths, coordinates, self.now, writers)
        await self._durable()

    def _bind(self, directory: Directory) -> Binding:
        return Binding(
            self.peer.replicas,
            PHEXT,
            RANGE,
            directory,
            binding_id=_ID,
            run=_in_thread,
            durable=self._durable,
            is_apart=self.is_apart,
            is_whole=self._is_whole,
            restored=self._restored if self.tells_runs else None,
            is_checkout_moving=lambda paths: self.now < self.pulled_at + CHECKOUT_S,
        )

    def is_apart(self) -> bool:
        """Whether others may be changing something unseen."""
        return not self._others <= self.peer.core.lacks.compared_peers(PHEXT, RANGE)

    def _restored(self, records: Records) -> Restored:
        assert self._directory is not None
        runs = Runs(self.peer.replicas, _ID, lambda: f"{self._numbers.getrandbits(64):016x}")
        fingerprint = self.peer.replica.fingerprint
        held = Held(
            *(records, self._directory.root),
            holders=self._holders,
            fingerprint=fingerprint,
            run=_in_thread,
        )
        parts = records, self._directory, runs, self._patience, held
        return Restored(*parts, run=_in_thread, durable=self._durable)

    def _holders(self) -> set[bytes]:
        return self.peer.core.lacks.even_peers(PHEXT, RANGE)

    def _is_whole(self) -> bool:
        return self._others <= self.peer.core.lacks.even_peers(PHEXT, RANGE)

    @property
    def _others(self) -> set[bytes]:
        return {peer.node_id for peer in self.network.peers} - {self.peer.node_id}

    async def _durable(self) -> None:
        self.before_commit()
        self.peer.commit()
        self.peer.replicas.durability.check_writable()

    def _on_change(self, path: str) -> None:
        self._paths[path] = None
        inode = self.disk.find(path)
        if inode is not None and inode.kind == "folder":
            self._rescans.ask()  # what came with a folder has no events


def _run(coroutine: Coroutine[None, None, None]) -> None:
    """Run what never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("expected a coroutine that does not wait")


async def _in_thread(function: Callable[[*Ts], T], /, *args: *Ts) -> T:
    return function(*args)
