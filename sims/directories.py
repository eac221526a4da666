"""Directories: three machines with bound directories under all that goes wrong with disks.

The real `Binding` of each over a disk in memory, in virtual time; users with their habits; faults
of any call of the file system, crashes, power cuts, full disks, partitions. One seed makes one
schedule, which is data: it can be stored, run again, and shrunk. In the end all directories must
be equal, and the oracle of `lines` content.
"""

import errno
import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Final

from phextsync.errors import PhextsyncError
from phextsync.files.absences import GUARD_NAMES
from phextsync.files.layout import Abilities, paths_of
from phextsync.files.markers import MARKER_FILE
from phextsync.files.names import Line, NameMap, check_name
from phextsync.index import Coordinate
from phextsync.testing.inodes import Inode
from phextsync.testing.memory_disk import MemoryDisk
from sims.habits import HABITS, NAMES
from sims.lines import Lines, Violation, tokens_in, tokens_of
from sims.machines import RANGE, Machine
from sims.network import TICK_S, Network

SECONDS: Final = 24.0
SETTLE_S: Final = 150.0
MACHINES: Final = 3
_MAP: Final = RANGE.lower
_SLIP: Final = 0.04  # of all runs
_STEPS: Final = (20, 60)
_CALLS_MAX: Final = 120
_COMMIT_CALLS: Final = 4  # as if a commit were so many calls of the file system
_SAVES: Final = ("save_slowly", "save_emptied")  # during which nothing counts as deleted
_HOLDS: Final = (*_SAVES, "rename_oddly")  # which take lines away and put them back
_REFUSALS: Final = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EPERM, errno.EACCES),
    *(errno.EMFILE, errno.ENAMETOOLONG),
)
_FAILURES: Final = ("no rest", "is lost", "is back", " times, in ", " expected ", " line says ")
_WRITING: Final = ("create", "write", "link", "exchange", "rename", "unlink", "mkdir", "fsync")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens at a time; with `calls`, before that many calls of the machine's
    file system are done after it. All its choices follow from `pick`."""

    at: float
    machine: int
    kind: str
    pick: int = 0
    seconds: float = 0.0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """What the file system of a machine can do."""

    part_bytes_max: int = 255
    folds_case: bool = False
    has_exchange: bool = True
    has_links: bool = True
    knows_births: bool = True
    reuses_numbers: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """All of a run: what the machines are like, and what happens."""

    seed: int
    kinds: tuple[Kind, ...]
    steps: tuple[Step, ...]


class Killed(BaseException):
    """A machine ends here."""


FAULTS: Final[dict[str, int]] = {
    "cut": 6,
    "hold": 3,
    "kill": 5,
    "power": 3,
    "refuse": 6,
    "full": 3,
    "store_full": 2,
    "unmount": 2,
    "unmount_folder": 1,
    "pull": 6,
    "agent": 5,
    "map": 2,
    "rename_in_map": 2,
    "unmark": 1,
}
"""What else happens, and how often."""


# -- schedules -----------------------------------------------------------------------------


def drawn(seed: int) -> Schedule:
    """Return the schedule of a seed."""
    source = Random(seed)
    is_same = source.random() < 0.7
    first = _kind(source)
    kinds = tuple(first if is_same else _kind(source) for _ in range(MACHINES))
    users = source.choices(list(HABITS), [w for _, w in HABITS.values()], k=source.randint(*_STEPS))
    faults = source.choices(list(FAULTS), list(FAULTS.values()), k=source.randint(0, 12))
    steps = [_step(source, kind) for kind in (*users, *faults)]
    starts = [Step(0.1 * i, source.randrange(MACHINES), "new", _pick(source)) for i in range(6)]
    slips = list(_slips(Random(f"slip {seed}")))
    steps = sorted((*starts, *steps, *slips), key=lambda step: step.at)
    return Schedule(seed, kinds, tuple(steps))


def _slips(source: Random) -> Iterator[Step]:
    """Give what happens in few runs alone, since it makes many files."""
    if source.random() < _SLIP:
        seconds = round(source.uniform(2.5, 8), 2)
        machine = source.randrange(MACHINES)
        yield Step(round(source.uniform(2, 16), 2), machine, "slip", 0, seconds)


def _step(source: Random, kind: str) -> Step:
    seconds = source.choice((0.02, 0.1, 0.3, 0.8)) if kind in HABITS else source.uniform(0.3, 8)
    calls = source.randint(1, _CALLS_MAX) if source.random() < 0.5 else 0
    at = round(source.uniform(1.5, SECONDS), 2)
    return Step(at, source.randrange(MACHINES), kind, _pick(source), round(seconds, 2), calls)


def _kind(source: Random) -> Kind:
    return Kind(
        143 if source.random() < 0.1 else 255,
        source.random() < 0.15,
        source.random() < 0.7,
        source.random() < 0.8,
        source.random() < 0.8,
        source.random() < 0.9,
    )


def _pick(source: Random) -> int:
    return source.getrandbits(32)


def to_json(schedule: Schedule, about: str = "") -> str:
    """Return a schedule as it is stored, with what was wrong."""
    head = {"about": about, "seed": schedule.seed, "kinds": [asdict(k) for k in schedule.kinds]}
    rows = ",\n  ".join(json.dumps(asdict(step)) for step in schedule.steps)
    return json.dumps(head, indent=1)[:-2] + f',\n "steps": [\n  {rows}\n ]\n}}\n'


def from_json(text: str) -> Schedule:
    """Read what was stored. ValueError, TypeError or KeyError when it is not such a file."""
    row = json.loads(text)
    kinds = tuple(Kind(**kind) for kind in row["kinds"])
    return Schedule(row["seed"], kinds, tuple(Step(**step) for step in row["steps"]))


# -- running -------------------------------------------------------------------------------


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


class Run:
    """One run of a schedule."""

    def __init__(self, schedule: Schedule, trace: Callable[[str], None] | None = None) -> None:
        self.schedule = schedule
        self.lines = Lines()
        self.network = _Links(MACHINES, schedule.seed)
        self._trace = trace
        self._digest = blake2b(digest_size=8)
        self._random = Random(schedule.seed)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._sequence = 0
        self.machines = [self._machine(i, kind) for i, kind in enumerate(schedule.kinds)]
        self._calls = [0] * MACHINES
        self._acts = [0] * MACHINES  # what users did
        self._waiting: list[list[tuple[int, Callable[[], None]]]] = [[] for _ in range(MACHINES)]
        self._refused: list[dict[int, tuple[int, ...]]] = [{} for _ in range(MACHINES)]
        self._up = [True] * MACHINES
        self._has_power = [True] * MACHINES
        self._cut: dict[frozenset[int], int] = {}
        self._shown: list[dict[Coordinate, list[str]]] = [{} for _ in range(MACHINES)]
        self._feeds = [machine.peer.replica.feed(RANGE) for machine in self.machines]
        self._pulls: list[tuple[int, str, str, str]] = []
        self._is_over = False

    def _machine(self, number: int, kind: Kind) -> Machine:
        disk = MemoryDisk(
            lambda: int(1e9 * (1000 + self.network.now)),
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

    def run(self) -> None:
        """Let everything happen, then let all faults end, and check. Violation."""
        for step in self.schedule.steps:
            self._at(step.at, partial(self._begin, step))
        for second in range(0, int(SECONDS), 5):
            self._at(second, self._flush)
        self._pass_time(SECONDS)
        self._end_faults()
        self._settle()
        self._check()

    def digest(self) -> str:
        """Return the digest of all that happened."""
        return self._digest.hexdigest()

    # -- time --------------------------------------------------------------------------------

    def _at(self, time: float, call: Callable[[], object]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (time, self._sequence, call))

    def _pass_time(self, until: float) -> None:
        while self.network.now < until:
            while self._events and self._events[0][0] <= self.network.now:
                heapq.heappop(self._events)[2]()
            self._connect()
            self.network.run(TICK_S)
            for number, machine in enumerate(self.machines):
                machine.peer.wall_time_ms = int(1000 * self.network.now)
                self._look(number)
                self._watch_pulls()
                if self._up[number] and machine.is_due():
                    self._work(number, machine)
            for number in range(MACHINES):
                self._look(number)

    def _work(self, number: int, machine: Machine) -> None:
        try:
            machine.work()
        except Killed as killed:
            self._kill(number, *killed.args)

    def _connect(self) -> None:
        """Let those be linked that can see each other, and no others."""
        linked = {frozenset(ends): link for link, ends in self.network.links.items()}
        for one in range(MACHINES):
            for other in range(one):
                pair = frozenset((one, other))
                can = self._up[one] and self._up[other] and not self._cut.get(pair)
                if can and pair not in linked:
                    self.network.link(one, other)
                elif not can and pair in linked:
                    self.network.cut(linked[pair])

    def _look(self, number: int) -> None:
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
        if self._is_over:
            return
        self._calls[number] += 1
        waiting = self._waiting[number]
        while waiting and waiting[0][0] <= self._calls[number]:
            heapq.heappop(waiting)[1]()
        chance = self._random.random()
        if chance < 0.1:
            self.network.step()
        elif chance < 0.13:
            self.machines[number].peer.commit()
        if name in _WRITING:
            for refusal in self._refused[number].values():
                if refusal:
                    raise OSError(refusal[0], os.strerror(refusal[0]), path)

    def _before_commit(self, number: int) -> None:
        """A commit takes a while: what can happen before a call can happen, and then again."""
        for _ in range(_COMMIT_CALLS):
            self._before(number, "commit", "")
            self.network.step()

    def _after(self, number: int, name: str, path: str) -> None:
        """Nothing happens after a call that cannot happen before the next."""

    # -- steps -------------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        act = partial(self._act, step)
        if not step.calls:
            try:
                act()
            except Killed as killed:
                self._kill(step.machine, *killed.args)
            return
        entry = (self._calls[step.machine] + step.calls, _Once(act))
        heapq.heappush(self._waiting[step.machine], _Entry(entry))
        self._at(self.network.now + 1.0, partial(self._catch_up, step.machine, entry[1]))

    def _catch_up(self, number: int, once: "_Once") -> None:
        """A step that waited for calls that were never made happens now."""
        try:
            once()
        except Killed as killed:
            self._kill(number, *killed.args)

    def _act(self, step: Step) -> None:
        if self._is_over:
            return
        self._note(f"{self.network.now:.2f} {step}")
        if step.kind in HABITS:
            self._use(step)
        else:
            getattr(self, f"_do_{step.kind}")(step, Random(step.pick))

    def _use(self, step: Step) -> None:
        """Let a user of a machine do something to its files."""
        disk = self.machines[step.machine].disk
        habit, _ = HABITS[step.kind]
        doing = habit(disk, Random(step.pick), self.lines.token)
        self._go_on(step, doing, Counter())

    def _go_on(self, step: Step, doing: Iterator[None], held: Counter[str], acts: int = 0) -> None:
        """Let a user do the next part. `acts`: how many there were on the machine after the last,
        when lines are `held`."""
        if not self._is_usable(step.machine):
            self.lines.gave_up(held, self._tokens(step.machine))
            return
        self._watch_pulls()
        before, lay = self._tokens(step.machine), self._places(step.machine)
        is_done = False
        try:
            next(doing)
        except (StopIteration, OSError):
            is_done = True
        after = self._tokens(step.machine)
        is_alone = not held or self._acts[step.machine] == acts  # nobody came between
        if step.kind in _SAVES and is_alone:
            self.lines.saved(token for token in held if token in after)
        self._acts[step.machine] += 1
        gone = Counter({token: n for token, n in before.items() if token not in after})
        self.lines.touched.update(gone)
        if step.kind in _HOLDS:
            held |= gone
        self.lines.did(self._who(step), before | held, after | held)
        is_left_alone = partial(self._is_left_alone, self.machines[step.machine])
        self.lines.moved(lay, self._places(step.machine), is_left_alone)
        if is_done:
            self.lines.gave_up(held, after)
        else:
            later = self.network.now + step.seconds
            acts = self._acts[step.machine] if is_alone else -1
            self._at(later, partial(self._go_on, step, doing, held, acts))

    def _is_left_alone(self, machine: Machine, path: str) -> bool:
        return machine.ignores(path) or not _is_name(path)

    def _who(self, step: Step) -> str:
        return f"{step.kind} on {step.machine} at {self.network.now:.2f}"

    def _places(self, number: int) -> dict[str, frozenset[str]]:
        """Return in which files each token stands."""
        places: dict[str, frozenset[str]] = {}
        for path, text in self.machines[number].disk.files().items():
            for token in tokens_of(text):
                places[token] = places.get(token, frozenset()) | {path}
        return places

    def _tokens(self, number: int) -> Counter[str]:
        return tokens_in(self.machines[number].disk.files())

    # -- what else happens -------------------------------------------------------------------

    def _do_cut(self, step: Step, source: Random) -> None:
        """A machine, or a pair, cannot reach others; both know."""
        others = [n for n in range(MACHINES) if n != step.machine]
        for other in others if source.random() < 0.6 else [source.choice(others)]:
            pair = frozenset((step.machine, other))
            self._cut[pair] = self._cut.get(pair, 0) + 1
            self._at(self.network.now + step.seconds, partial(self._mend, pair))

    def _mend(self, pair: frozenset[int]) -> None:
        self._cut[pair] = max(0, self._cut.get(pair, 0) - 1)

    def _do_hold(self, step: Step, source: Random) -> None:
        """Nothing arrives from another machine for a while, and nobody knows."""
        pair = frozenset((step.machine, (step.machine + source.randint(1, 2)) % MACHINES))
        self.network.held[pair] = None
        until = self.network.now + min(step.seconds, 2.5)
        self._at(until, lambda: self.network.held.pop(pair, None))

    def _do_kill(self, step: Step, source: Random) -> None:
        if self._up[step.machine]:
            raise Killed(step.seconds / 2, False)

    def _do_power(self, step: Step, source: Random) -> None:
        if self._up[step.machine]:
            raise Killed(step.seconds / 2, True)
        self._lose_power(step.machine)

    def _kill(self, number: int, seconds: float, is_power: bool) -> None:
        """End a machine's node, and start it a while later."""
        self._note(f"{self.network.now:.2f} killed {number}, power {is_power}")
        self.network.crash(number)
        self.machines[number].files.end()
        self.machines[number].start()
        self._up[number] = False
        self._feeds[number] = self.machines[number].peer.replica.feed(RANGE)
        self._shown[number] = self._scroll_tokens(number)
        # What the store had not kept, and the files still have, is written again.
        held = {token for tokens in self._shown[number].values() for token in tokens}
        self.lines.again.update(
            (token, None) for token in self._tokens(number) if token not in held
        )
        if is_power:
            self._lose_power(number)
        self._at(self.network.now + seconds, partial(self._start, number))

    def _lose_power(self, number: int) -> None:
        """Lose what was not synced. What was on this disk alone is not owed any more, nor what
        this disk lost of a file that its writer had not synced, or has by a name that was
        meant for a moment: that looks like the writer's own doing."""
        disk = self.machines[number].disk
        before, unsynced = self._tokens(number), tokens_in(disk.unsynced_files())
        disk.cut_power(self._random)
        self._has_power[number] = False
        after = self._tokens(number)
        elsewhere = self._held()
        aside = {
            token
            for token, paths in self._places(number).items()
            if any(path.endswith(("~", ".tmp")) for path in paths)
        }
        theirs = {*unsynced, *aside}
        lost = [t for t in before if t not in after and (t in theirs or t not in elsewhere)]
        self.lines.excuse(lost, f"the power of {number} went")
        for token in after:
            if token not in before:
                self.lines.came(token, f"the power of {number}")

    def _held(self) -> set[str]:
        """Return the tokens of all scrolls of all machines."""
        scrolls = (self._scroll_tokens(number) for number in range(MACHINES))
        return {token for held in scrolls for tokens in held.values() for token in tokens}

    def _scroll_tokens(self, number: int) -> dict[Coordinate, list[str]]:
        replica = self.machines[number].peer.replica
        return {place: tokens_of(replica.get(place, "")) for place in replica.coordinates(RANGE)}

    def _start(self, number: int) -> None:
        self._up[number] = self._has_power[number] = True
        self.machines[number].start()
        if self._random.random() < 0.5:  # before it meets others
            self._work(number, self.machines[number])

    def _do_refuse(self, step: Step, source: Random) -> None:
        """The file system refuses to write anything, for a while."""
        self._refused[step.machine][step.pick] = (source.choice(_REFUSALS),)
        self._at(
            self.network.now + step.seconds,
            lambda: self._refused[step.machine].pop(step.pick, None),
        )

    def _do_full(self, step: Step, source: Random) -> None:
        """The disk has no room, not for users either."""
        disk = self.machines[step.machine].disk
        disk.room = disk.used() + source.choice((0, 30, 200))
        self._at(self.network.now + step.seconds, partial(setattr, disk, "room", None))

    def _do_store_full(self, step: Step, source: Random) -> None:
        number = step.machine
        self.machines[number].peer.is_disk_full = True

        def free() -> None:
            self.machines[number].peer.is_disk_full = False

        self._at(self.network.now + step.seconds, free)

    def _do_slip(self, step: Step, source: Random) -> None:
        """Somebody takes most files away by mistake, and puts them back."""
        if not self._is_usable(step.machine):
            return
        disk = self.machines[step.machine].disk
        before = self._tokens(step.machine)
        names = [f"many-{i:02}.md" for i in range(GUARD_NAMES + 4)]
        with suppress(OSError):
            for name in names:
                if disk.find(name) is None:
                    disk.put(name, f"{self.lines.token()} of many\n")
        self.lines.did(self._who(step), before, self._tokens(step.machine))
        self._at(self.network.now + 4.0, partial(self._take_away, step, names))

    def _is_usable(self, number: int) -> bool:
        """Whether a user of a machine can see the directory."""
        return self._has_power[number] and not self.machines[number].disk.is_mounted("")

    def _take_away(self, step: Step, names: Sequence[str]) -> None:
        """Take files away, where they are most of those that the machine knows."""
        machine = self.machines[step.machine]
        if not self._is_usable(step.machine) or machine.binding is None:
            return
        there = [name for name in names if self._is_in_step(step.machine, name)]
        if len(there) < GUARD_NAMES or 2 * len(there) <= len(machine.binding.records):
            return
        texts = {name: machine.disk.get(name).data.decode() for name in there}
        for name in there:
            machine.disk.unlink(name)
        self.lines.kept.update(tokens_in(texts))
        self._at(self.network.now + step.seconds, partial(self._put_back, step.machine, texts))

    def _put_back(self, number: int, texts: dict[str, str]) -> None:
        disk = self.machines[number].disk
        if not self._is_usable(number):
            self._at(self.network.now + 1.0, partial(self._put_back, number, texts))
            return
        for token in tokens_in(texts):
            del self.lines.kept[token]
        self.lines.met(tokens_in(texts))  # of what others deleted or moved it is a copy
        for name, text in texts.items():
            with suppress(OSError):
                if disk.find(name) is None:
                    disk.put(name, text)
        self.lines.gave_up(tokens_in(texts), self._tokens(number))

    def _do_unmount(self, step: Step, source: Random) -> None:
        """The directory is not there, or another one, for a while."""
        disk = self.machines[step.machine].disk
        if disk.is_mounted(""):
            return
        disk.mount("")
        if source.random() < 0.3:
            with suppress(OSError):
                disk.put("stranger.md", "of another disk\n")
        self._at(self.network.now + step.seconds, lambda: disk.unmount(""))

    def _do_unmount_folder(self, step: Step, source: Random) -> None:
        """A folder is on a file system of its own, which goes and comes back."""
        disk = self.machines[step.machine].disk
        if disk.find("mnt") is not None or disk.is_mounted(""):
            return
        disk.create("mnt", "folder")
        disk.mount("mnt")
        before = self._tokens(step.machine)
        with suppress(OSError):
            disk.put("mnt/far.md", f"{self.lines.token()} far away\n")
        self.lines.did(self._who(step), before, self._tokens(step.machine))

        def away() -> None:
            if not disk.is_mounted("") and disk.is_mounted("mnt"):
                with self._other_files(step.machine, "mnt"):
                    inode = disk.unmount("mnt")
                self._at(self.network.now + step.seconds, partial(back, inode))

        def back(inode: Inode | None) -> None:
            if disk.is_mounted(""):
                self._at(self.network.now + 1.0, partial(back, inode))
            elif disk.find("mnt") is not None and not disk.is_mounted("mnt"):
                with self._other_files(step.machine, "mnt"):
                    disk.mount("mnt", inode)
                self.machines[step.machine].look_through()

        self._at(self.network.now + 4.0, away)

    @contextmanager
    def _other_files(self, number: int, folder: str) -> Iterator[None]:
        """Other files come to be seen in a folder: their lines meet those of the scrolls. What is
        not seen any more, and nobody had read, is not owed."""
        before = self._tokens(number)
        seen = [self._places(number)]
        yield
        after = self._tokens(number)
        elsewhere = self._held()
        hidden = [t for t in before if t not in after and t not in elsewhere]
        self.lines.excuse(hidden, f"hidden by a file system at {folder} of {number}")
        seen.append(self._places(number))
        below = f"{folder}/"
        self.lines.met(
            token
            for places in seen
            for token, paths in places.items()
            if any(path.startswith(below) for path in paths)
        )

    def _do_pull(self, step: Step, source: Random) -> None:
        """Two machines get the same new version of a file that both have, unseen or seen."""
        texts = [m.disk.files() for m in self.machines]
        both = [step.machine, (step.machine + source.randint(1, 2)) % MACHINES]
        paths = [
            path
            for path in sorted(texts[both[0]])
            if texts[both[0]][path]
            and texts[both[1]].get(path) == texts[both[0]][path]
            and all(self._is_in_step(n, path) for n in both)
            and not path.startswith(".")
        ]
        if not paths:
            return
        path = source.choice(paths)
        text = texts[both[0]][path]
        lines = text.splitlines(keepends=True)
        lines.insert(source.randint(0, len(lines)), f"{self.lines.token()} was pulled\n")
        if source.random() < 0.3:
            lines.append(f"{self.lines.token()} was pulled too\n")
        for number, delay in zip(both, (0.0, step.seconds / 2), strict=True):
            later = self.network.now + delay
            self._at(later, partial(self._check_out, number, path, text, "".join(lines)))

    def _is_in_step(self, number: int, path: str) -> bool:
        """Whether a file is as its scroll is, and the machine knows it."""
        machine = self.machines[number]
        if machine.binding is None or not self._up[number]:
            return False
        place = machine.binding.records.at(path)
        text = machine.disk.text(path)
        return (
            place is not None
            and machine.peer.replica.get(place, "") == text
            and machine.binding.records.base(place) == text
        )

    def _check_out(self, number: int, path: str, old: str, text: str) -> None:
        """Write a file as git does, where nobody changed it."""
        machine = self.machines[number]
        if not self._has_power[number] or machine.disk.text(path) != old:
            return
        before = self._tokens(number)
        machine.pulled_at = self.network.now
        mode = machine.disk.get(path).mode
        with suppress(OSError):
            machine.disk.unlink(path)
            machine.disk.create(path, "file", mode)
            machine.disk.fill(path, text.encode())
        who = f"pull of {path} on {number} at {self.network.now:.2f}"
        self.lines.did(who, before, self._tokens(number))
        self._pulls.append((number, path, old, text))

    def _watch_pulls(self) -> None:
        """The same pull on two machines is one where nothing else happens to the file before the
        machine has taken it."""
        for pull in list(self._pulls):
            number, path, old, text = pull
            machine = self.machines[number]
            records = None if machine.binding is None else machine.binding.records
            place = None if records is None else records.at(path)
            if records is not None and place is not None and records.base(place) == text:
                self._pulls.remove(pull)
            elif machine.disk.text(path) != text or (
                place is not None and machine.peer.replica.get(place, "") != old
            ):
                self._pulls.remove(pull)
                self.lines.doubled.update(dict.fromkeys(tokens_of(text)))

    def _do_agent(self, step: Step, source: Random) -> None:
        """A program writes into a scroll."""
        if not self._up[step.machine]:
            return
        replica = self.machines[step.machine].peer.replica
        names = NameMap(RANGE, replica.get(_MAP, ""))
        places = [
            c
            for c in replica.coordinates(RANGE)
            if c != _MAP and not self._name(names, c).startswith(".")
        ]
        if not places or not self.machines[step.machine].peer.replicas.is_writable:
            return
        place = source.choice(places)
        token = self.lines.token()
        text = replica.get(place, "")
        end = "" if not text or text.endswith("\n") else "\n"
        replica.append(place, f"{end}{token} says the agent\n")
        self.machines[step.machine].peer.commit()  # then the user is told that it is there
        if self.machines[step.machine].peer.replicas.is_writable:
            self.lines.came(token, self._who(step))

    def _do_map(self, step: Step, source: Random) -> None:
        """Somebody writes lines into the map that must move nothing."""
        machine = self.machines[step.machine]
        if not self._up[step.machine] or not machine.peer.replicas.is_writable:
            return
        bad = source.choice(
            (
                "1.1.1/1.1.1/1.1.1 n.md",
                f"{_MAP} map.md",
                f"{source.choice([*machine.peer.replica.coordinates(RANGE)] or [_MAP])} ../up.md",
                "no line at all",
                f"{source.choice([*machine.peer.replica.coordinates(RANGE)] or [_MAP])} zzz.md",
            )
        )
        machine.peer.replica.append(_MAP, f"{bad}\n")

    def _do_rename_in_map(self, step: Step, source: Random) -> None:
        """Somebody gives a file another name by writing the map."""
        machine = self.machines[step.machine]
        if not self._up[step.machine] or not machine.peer.replicas.is_writable:
            return
        names = NameMap(RANGE, machine.peer.replica.get(_MAP, ""))
        lines = sorted(names.lines(), key=lambda line: line.coordinate)
        if lines:
            line = source.choice(lines)
            new = Line(line.coordinate, source.choice(NAMES), line.marks)
            machine.peer.replica.splice(_MAP, names.edits([line.coordinate], [new]))

    def _do_unmark(self, step: Step, source: Random) -> None:
        """Somebody says that the directory is the one to be served, whatever was in it before."""
        disk = self.machines[step.machine].disk
        if not disk.is_mounted("") and disk.find(MARKER_FILE) is not None:
            disk.put(MARKER_FILE, "")
            self.lines.met(self._tokens(step.machine))
            for number in range(MACHINES):
                for tokens in self._scroll_tokens(number).values():
                    self.lines.met(tokens)

    def _flush(self) -> None:
        """The system writes to its disks what is old enough."""
        for machine in self.machines:
            machine.disk.sync_all()

    # -- the end -----------------------------------------------------------------------------

    def _end_faults(self) -> None:
        while self._events:
            time, _, call = heapq.heappop(self._events)
            self.network.now = max(self.network.now, time)
            call()
        self._is_over = True
        for waiting, refused in zip(self._waiting, self._refused, strict=True):
            waiting.clear()
            refused.clear()
        self._cut.clear()
        self.network.held.clear()
        for number, machine in enumerate(self.machines):
            machine.disk.room = None
            machine.peer.is_disk_full = False
            if not self._up[number]:
                self._start(number)

    def _settle(self) -> None:
        """Wait until nothing is to be done any more."""
        end = self.network.now + SETTLE_S
        quiet = -5
        while self.network.now < end and quiet < 3:
            self._pass_time(self.network.now + 1.0)
            for machine in self.machines:  # who cannot put everything back says that it may go
                if machine.binding is not None and machine.binding.situation().held:
                    machine.binding.confirm(0)
            if quiet < 0:  # there is room again
                quiet += 1
                for machine in self.machines:
                    if machine.binding is not None:
                        machine.binding.problems.hurry()
                continue
            is_quiet = self._is_quiet()
            quiet = quiet + 1 if is_quiet else 0
        if quiet < 3:
            raise Violation(f"no rest: {[self._state(m) for m in self.machines]}")

    def _is_quiet(self) -> bool:
        first = dict(self.machines[0].peer.replica.scrolls())
        return all(
            m.binding is not None
            and not m.problem
            and not m.is_due()
            and not m.binding.situation().waiting
            and m.binding.naming.next_due is None
            and dict(m.peer.replica.scrolls()) == first
            and not self._is_retrying(m)
            for m in self.machines
        )

    def _is_retrying(self, machine: Machine) -> bool:
        """Whether something is tried again that has only to be waited for."""
        assert machine.binding is not None
        due = machine.binding.next_due(self.network.now)
        return due is not None and any(
            machine.disk.find(p.path) is None for p in machine.binding.problems if p.due is not None
        )

    def _state(self, machine: Machine) -> str:
        if machine.binding is None or machine.problem:
            return machine.problem or "not begun"
        situation = machine.binding.situation()
        return (
            f"waiting {situation.waiting}, due {machine.is_due()}, "
            f"{[(p.path, p.reason) for p in machine.binding.problems]}"
        )

    def _check(self) -> None:
        scrolls = [dict(m.peer.replica.scrolls()) for m in self.machines]
        for number, other in enumerate(scrolls):
            if other != scrolls[0]:
                raise Violation(f"the scrolls of 0 and {number} differ")
        names = NameMap(RANGE, scrolls[0].get(_MAP, ""))
        texts = {c: text for c, text in scrolls[0].items() if c != _MAP and c in RANGE}
        self._excuse_ignored()
        ignored = {c for c in texts if self.machines[0].ignores(self._name(names, c))}
        for place in ignored:
            self.lines.excuse(tokens_of(texts[place]), "in a scroll whose file is ignored")
        self.lines.check(
            {f"{c} {self._name(names, c)}": text for c, text in texts.items() if c not in ignored}
        )
        for number, machine in enumerate(self.machines):
            self._check_tree(number, machine, names, texts)
        self._digest.update(repr(sorted(texts.items())).encode())

    def _name(self, names: NameMap, place: Coordinate) -> str:
        line = names.line_at(place)
        return "" if line is None else line.name

    def _excuse_ignored(self) -> None:
        """What lies in files that are left alone is not owed."""
        for machine in self.machines:
            visible = machine.visible()
            for path, text in machine.disk.files().items():
                is_kept = path in visible and _is_name(path)
                if not is_kept and not path.startswith(".phextsync"):
                    self.lines.excuse(tokens_of(text), f"in {path}, which is left alone")

    def _check_tree(
        self, number: int, machine: Machine, names: NameMap, texts: dict[Coordinate, str]
    ) -> None:
        """Violation when a directory is not what the scrolls say."""
        assert machine.binding is not None
        named = {c: line.name if (line := names.line_at(c)) else None for c in texts}
        known = {c: name for c, name in named.items() if name is not None}
        paths = paths_of(known, machine.disk.abilities)
        visible = machine.visible()
        orphans = {path: t for path, t in visible.items() if path.startswith("recovered/")}
        expected = {path: texts[c] for c, path in paths.items() if not machine.ignores(path)}
        found = {path: text for path, text in visible.items() if path not in orphans}
        # A file that got an ignored name elsewhere stays where it was, and follows.
        staying = Counter(texts[c] for c, path in paths.items() if machine.ignores(path))
        told = {p.path for p in machine.binding.problems}
        odd = sum("rename it" in p.reason for p in machine.binding.problems)
        for path in sorted({*expected, *found}):
            if expected.get(path) == found.get(path) or path in told:
                continue
            if path not in found and odd:
                odd -= 1  # it is there by a name that cannot be kept
            elif path not in expected and staying[found[path]]:
                staying[found[path]] -= 1
            elif not told or path in found or not _is_blocked(machine.disk, path, found):
                raise Violation(
                    f"on {number} {path!r} is {found.get(path)!r}, expected {expected.get(path)!r}"
                )
        for problem in machine.binding.problems:
            if problem.path in expected and expected.get(problem.path) == found.get(problem.path):
                raise Violation(f"{problem.path!r} on {number} is in order, said: {problem.reason}")
        self._check_modes(number, machine, names, paths)

    def _check_modes(
        self, number: int, machine: Machine, names: NameMap, paths: dict[Coordinate, str]
    ) -> None:
        for place, path in paths.items():
            inode, line = machine.disk.find(path), names.line_at(place)
            if inode is None or line is None or inode.kind != "file" or machine.ignores(path):
                continue
            marks = ("" if inode.mode & 0o077 else "p") + ("x" if inode.mode & 0o100 else "")
            if marks != line.marks:
                raise Violation(f"{path!r} on {number} is {marks!r}, its line says {line.marks!r}")

    def _note(self, line: str) -> None:
        self._digest.update(line.encode())
        if self._trace is not None:
            self._trace(line)


def _is_blocked(disk: MemoryDisk, path: str, shared: Iterable[str]) -> bool:
    """Whether something that is not shared lies in the way to a path, such as an empty file."""
    parts = path.split("/")
    for i in range(1, len(parts) + 1):
        above = "/".join(parts[:i])
        inode = disk.find(above)
        if inode is not None and inode.kind != "folder" and above not in shared:
            return True
    there = disk.find(path)
    return there is not None and there.kind == "folder"


def _is_name(path: str) -> bool:
    """Whether others may have a file of this name."""
    try:
        check_name(path)
    except PhextsyncError:
        return False
    return True


class _Once:
    """Something that happens once, however often it is called."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class _Entry(tuple):  # type: ignore[type-arg]
    """An entry of a heap that is ordered by its number alone."""

    def __lt__(self, other: object) -> bool:
        return bool(self[0] < other[0])  # type: ignore[index]


def run(seed: int, trace: Callable[[str], None] | None = None) -> tuple[str | None, str]:
    """Run the schedule of a seed; return what failed, or None, and a digest of the outcome."""
    return run_schedule(drawn(seed), trace)


def run_schedule(
    schedule: Schedule, trace: Callable[[str], None] | None = None
) -> tuple[str | None, str]:
    """Run a schedule; return what failed, or None, and a digest of the outcome."""
    try:
        made = Run(schedule, trace)
        made.run()
    except Exception as error:  # whatever a binding raises is a finding
        failure = str(error) if isinstance(error, AssertionError) and str(error) else repr(error)
        return failure, made.digest()
    return None, made.digest()


def shrunk(schedule: Schedule, failure: str) -> Schedule:
    """Return a schedule that fails in the same way, without the steps that it does not need."""
    kind = _kind_of(failure)

    def fails(schedule: Schedule) -> bool:
        failure, _ = run_schedule(schedule)
        return failure is not None and _kind_of(failure) == kind

    steps: Sequence[Step] = schedule.steps
    size = max(1, len(steps) // 2)
    while True:
        i, is_smaller = 0, False
        while i < len(steps):
            fewer = [*steps[:i], *steps[i + size :]]
            if fails(replace(schedule, steps=tuple(fewer))):
                steps, is_smaller = fewer, True
            else:
                i += size
        if size > 1:
            size //= 2
        elif not is_smaller:
            return replace(schedule, steps=tuple(steps))


def _kind_of(failure: str) -> str:
    """Return what two failures share that are of one kind."""
    return next((kind for kind in _FAILURES if kind in failure), failure)
