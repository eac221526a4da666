"""World: three machines with disks and links under a schedule, and what is known of their lines.

Whatever happens asks here: what a machine holds, and that something happens later, at a call of a
file system, or to its power.
"""

import heapq
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Final, TypeAlias

from phextsync.files.paths import Abilities
from phextsync.index import Coordinate
from phextsync.testing import Violation
from phextsync.testing.inodes import Inode
from phextsync.testing.memory_disk import MemoryDisk
from sims.directory_schedules import MACHINES, Kind, Schedule, Step
from sims.lines import Lines, tokens_in, tokens_of
from sims.machines import RANGE, Machine
from sims.network import Network

_COMMIT_CALLS: Final = 4  # as if a commit were so many calls of the file system
READING: Final = ("open", "read", "stat", "fstat", "readdir")
WRITING: Final = ("create", "write", "link", "exchange", "rename", "unlink", "mkdir", "fsync")

Refusal: TypeAlias = tuple[tuple[str, ...], str, int]
"""Which calls a file system refuses, of paths that begin how, and with which error."""


class Killed(BaseException):
    """A machine ends here."""


class _Links(Network):
    """A network in which links can be held: nothing moves, and nobody knows."""

    def __init__(self, count: int, seed: int) -> None:
        self.held: dict[frozenset[int], None] = {}
        super().__init__(count, seed)

    def step(self, deliver: Callable[[], bool] = lambda: True) -> bool:
        if not self.held:
            return super().step(deliver)
        links = self.links
        self.links = {k: ends for k, ends in links.items() if frozenset(ends) not in self.held}
        try:
            return super().step(deliver)
        finally:
            gone = {k for k in links if frozenset(links[k]) not in self.held} - {*self.links}
            self.links = {k: ends for k, ends in links.items() if k not in gone}


class World:
    """The machines of one run, and what is known of them: which are `up` and have power, and what
    of it is `cut` off, `refused` by its file system, or `waiting` for calls of that."""

    def __init__(self, schedule: Schedule, trace: Callable[[str], None] | None) -> None:
        self.lines = Lines()
        self.network = _Links(MACHINES, schedule.seed)
        self._trace = trace
        self._digest = blake2b(digest_size=8)
        self._random = Random(schedule.seed)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._sequence = 0
        self.clocks = [0.0] * MACHINES  # seconds that their disks' clocks are ahead
        self.machines = [self._machine(i, kind) for i, kind in enumerate(schedule.kinds)]
        self.calls = [0] * MACHINES
        self.waiting: list[list[tuple[int, Callable[[], None]]]] = [[] for _ in range(MACHINES)]
        self.refused: list[dict[int, Refusal]] = [{} for _ in range(MACHINES)]
        self.up = [True] * MACHINES
        self.has_power = [True] * MACHINES
        self.cut: dict[frozenset[int], int] = {}
        self._linked: dict[Inode, None] = {}  # files that had two names once
        self._shown: list[dict[Coordinate, list[str]]] = [{} for _ in range(MACHINES)]
        self._feeds = [machine.peer.replica.feed(RANGE) for machine in self.machines]
        self.is_over = False

    def _machine(self, number: int, kind: Kind) -> Machine:
        disk = MemoryDisk(
            lambda: int(1e9 * (1000 + self.network.now + self.clocks[number])),
            abilities=Abilities(kind.part_bytes_max, kind.folds_case),
            knows_births=kind.knows_births,
            reuses_numbers=kind.reuses_numbers,
        )
        machine = Machine(
            *(self.network, number, disk), has_exchange=kind.has_exchange, has_links=kind.has_links
        )
        machine.files.before = partial(self._before, number)
        machine.files.after = partial(self._after, number)
        machine.before_commit = partial(self._before_commit, number)
        return machine

    def digest(self) -> str:
        """Return the digest of all that counts."""
        return self._digest.hexdigest()

    def count(self, text: str) -> None:
        """Let a text count for the digest."""
        self._digest.update(text.encode())

    def note(self, line: str) -> None:
        """Note that something happens."""
        self.count(line)
        if self._trace is not None:
            self._trace(line)

    # -- time --------------------------------------------------------------------------------

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Let something happen at a time."""
        self._sequence += 1
        heapq.heappush(self._events, (time, self._sequence, call))

    def do_due(self) -> None:
        """Let happen what is due."""
        while self._events and self._events[0][0] <= self.network.now:
            heapq.heappop(self._events)[2]()

    def do_all(self) -> None:
        """Let happen at once what was to happen later."""
        while self._events:
            time, _, call = heapq.heappop(self._events)
            self.network.now = max(self.network.now, time)
            call()

    def work(self, number: int, machine: Machine) -> None:
        """Let a machine work, which may be killed meanwhile."""
        try:
            machine.work()
        except Killed as killed:
            self.kill(number, *killed.args)

    def look(self, number: int) -> None:
        """See what a machine's scrolls lost."""
        feed, shown = self._feeds[number], self._shown[number]
        replica = self.machines[number].peer.replica
        while (change := feed.take()) is not None:
            places = change.coordinates or replica.coordinates(RANGE)
            before: dict[str, None] = {}
            for place in places:
                before.update(dict.fromkeys(shown.get(place, ())))
                shown[place] = tokens_of(replica.get(place, ""))
            if before:
                held = {token for tokens in shown.values() for token in tokens}
                self.lines.left(token for token in before if token not in held)

    # -- calls of the file system ------------------------------------------------------------

    def _before(self, number: int, name: str, path: str) -> None:
        if ".." in path.split("/"):
            raise Violation(f"{name} of {path!r} on {number} reaches out of the directory")
        if self.is_over:
            return
        self.calls[number] += 1
        waiting = self.waiting[number]
        while waiting and waiting[0][0] <= self.calls[number]:
            heapq.heappop(waiting)[1]()
        chance = self._random.random()
        if chance < 0.1:
            self.network.step()
        elif chance < 0.13:
            self.machines[number].peer.commit()
        for names, below, code in self.refused[number].values():
            if name in names and path.startswith(below):
                raise OSError(code, os.strerror(code), path)

    def _before_commit(self, number: int) -> None:
        """A commit takes a while: what can happen before a call can happen, and then again."""
        for _ in range(_COMMIT_CALLS):
            self._before(number, "commit", "")
            self.network.step()

    def _after(self, number: int, name: str, path: str) -> None:
        """Nothing happens after a call that cannot happen before the next."""

    # -- power -------------------------------------------------------------------------------

    def kill(self, number: int, seconds: float, is_power: bool) -> None:
        """End a machine's node, and start it a while later."""
        self.note(f"{self.network.now:.2f} killed {number}, power {is_power}")
        self.network.crash(number)
        self.machines[number].files.end()
        self.machines[number].start()
        self.up[number] = False
        self._feeds[number] = self.machines[number].peer.replica.feed(RANGE)
        self._shown[number] = self.scroll_tokens(number)
        # What the store had not kept, and the files still have, is written again.
        held = {token for tokens in self._shown[number].values() for token in tokens}
        self.lines.again.update((token, None) for token in self.tokens(number) if token not in held)
        if is_power:
            self.lose_power(number)
        self.at(self.network.now + seconds, partial(self.start, number))

    def lose_power(self, number: int) -> None:
        """Lose what was not synced. What was on this disk alone is not owed any more, nor what
        this disk lost of a file that its writer had not synced, or has by a name that was
        meant for a moment: that looks like the writer's own doing."""
        disk = self.machines[number].disk
        before, unsynced = self.tokens(number), tokens_in(disk.unsynced_files())
        disk.cut_power(self._random)
        self.has_power[number] = False
        after = self.tokens(number)
        elsewhere = self.held()
        aside = {
            token
            for token, paths in self.places(number).items()
            if any(path.endswith(("~", ".tmp")) for path in paths)
        }
        theirs = {*unsynced, *aside}
        lost = [t for t in before if t not in after and (t in theirs or t not in elsewhere)]
        self.lines.excuse(lost, f"the power of {number} went")
        for token in after:
            if token not in before:
                self.lines.came(token, f"the power of {number}")

    def start(self, number: int) -> None:
        """Start a machine's node."""
        self.up[number] = self.has_power[number] = True
        self.machines[number].start()
        if self._random.random() < 0.5:  # before it meets others
            self.work(number, self.machines[number])

    # -- what machines hold ------------------------------------------------------------------

    def places(self, number: int) -> dict[str, frozenset[str]]:
        """Return in which files each token stands."""
        places: dict[str, frozenset[str]] = {}
        for path, text in self.machines[number].disk.files().items():
            for token in tokens_of(text):
                places[token] = places.get(token, frozenset()) | {path}
        return places

    def tokens(self, number: int) -> Counter[str]:
        """Return the tokens in a machine's files."""
        return tokens_in(self.machines[number].disk.files())

    def linked_tokens(self, number: int) -> list[str]:
        """Return the tokens in a machine's files that have two names, or had once."""
        files = [inode for _, inode in self.machines[number].disk.walk() if inode.kind == "file"]
        self._linked.update((inode, None) for inode in files if inode.names > 1)
        return [t for i in files if i in self._linked for t in tokens_of(i.data.decode())]

    def held(self) -> set[str]:
        """Return the tokens of all scrolls of all machines."""
        scrolls = (self.scroll_tokens(number) for number in range(MACHINES))
        return {token for held in scrolls for tokens in held.values() for token in tokens}

    def scroll_tokens(self, number: int) -> dict[Coordinate, list[str]]:
        """Return the tokens of a machine's scrolls."""
        replica = self.machines[number].peer.replica
        return {place: tokens_of(replica.get(place, "")) for place in replica.coordinates(RANGE)}

    def is_usable(self, number: int) -> bool:
        """Whether a user of a machine can see the directory."""
        return self.has_power[number] and not self.machines[number].disk.is_mounted("")

    def is_in_step(self, number: int, path: str) -> bool:
        """Whether a file is as its scroll is, and the machine knows it."""
        machine = self.machines[number]
        if machine.binding is None or not self.up[number]:
            return False
        place = machine.binding.records.at(path)
        text = machine.disk.text(path)
        return (
            place is not None
            and machine.peer.replica.get(place, "") == text
            and machine.binding.records.base(place) == text
        )

    def who(self, step: Step) -> str:
        """Return the name of what a step does."""
        return f"{step.kind} on {step.machine} at {self.network.now:.2f}"
