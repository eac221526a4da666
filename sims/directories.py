"""Directories: three machines with bound directories under all that goes wrong with disks.

The real `Binding` of each over a disk in memory, in virtual time; users with their habits; faults
of any call of the file system, crashes, power cuts, full disks, partitions. In the end all
directories must be equal, and the oracle of `lines` content. In modules of their own:

* `directory_schedules`: what happens, drawn from a seed
* `directory_world`: the machines, and what is known of them
* `directory_oracle`: what has to be in the end
* `directory_faults`: what happens besides what users do
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Final

from phextsync.testing import Violation
from sims.directory_faults import Faults
from sims.directory_oracle import check, is_name
from sims.directory_schedules import MACHINES, SECONDS, Schedule, Step, drawn
from sims.directory_world import Killed, World
from sims.habits import HABITS
from sims.machines import Machine
from sims.network import TICK_S
from sims.shrinking import fewest
from sims.tools import HURRIES, RARE_TOOLS, TOOLS

SETTLE_S: Final = 150.0
_HABITS: Final = HABITS | TOOLS | RARE_TOOLS | HURRIES
_SAVES: Final = ("save_slowly", "save_emptied", "remake")  # during which nothing counts as deleted
_PARTS: Final = ("write_in_two", "write_over", "stash")  # while which a part seems to be the whole
_HOLDS: Final = (*_SAVES, *_PARTS, "rename_oddly", "folder_and_back")  # which put lines back
_FAILURES: Final = ("no rest", "is lost", "is back", " times, in ", " expected ", " line says ")


class Run:
    """One run of a schedule."""

    def __init__(self, schedule: Schedule, trace: Callable[[str], None] | None = None) -> None:
        self._steps = schedule.steps
        self._world = World(schedule, trace)
        self._faults = Faults(self._world)
        self._acts = [0] * MACHINES  # what users did

    def run(self) -> None:
        """Let everything happen, then let all faults end, and check. Violation."""
        for step in self._steps:
            self._world.at(step.at, partial(self._begin, step))
        for second in range(0, int(SECONDS), 5):
            self._world.at(second, self._flush)
        self._pass_time(SECONDS)
        self._end_faults()
        self._settle()
        texts = check(self._world.machines, self._world.lines)
        self._world.count(repr(sorted(texts.items())))

    def digest(self) -> str:
        """Return the digest of all that happened."""
        return self._world.digest()

    # -- time --------------------------------------------------------------------------------

    def _pass_time(self, until: float) -> None:
        while self._world.network.now < until:
            self._world.do_due()
            self._connect()
            self._world.network.run(TICK_S)
            for number, machine in enumerate(self._world.machines):
                machine.peer.wall_time_ms = int(1000 * self._world.network.now)
                self._world.look(number)
                self._faults.watch_pulls()
                if self._world.up[number] and machine.is_due():
                    self._world.work(number, machine)
            for number in range(MACHINES):
                self._world.look(number)

    def _connect(self) -> None:
        """Let those be linked that can see each other, and no others."""
        linked = {frozenset(ends): link for link, ends in self._world.network.links.items()}
        for one in range(MACHINES):
            for other in range(one):
                pair = frozenset((one, other))
                can = (
                    self._world.up[one] and self._world.up[other] and not self._world.cut.get(pair)
                )
                if can and pair not in linked:
                    self._world.network.link(one, other)
                elif not can and pair in linked:
                    self._world.network.cut(linked[pair])

    # -- steps -------------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        act = partial(self._act, step)
        if not step.calls:
            try:
                act()
            except Killed as killed:
                self._world.kill(step.machine, *killed.args)
            return
        entry = (self._world.calls[step.machine] + step.calls, _Once(act))
        heapq.heappush(self._world.waiting[step.machine], _Entry(entry))
        self._world.at(
            self._world.network.now + 1.0, partial(self._catch_up, step.machine, entry[1])
        )

    def _catch_up(self, number: int, once: "_Once") -> None:
        """A step that waited for calls that were never made happens now."""
        try:
            once()
        except Killed as killed:
            self._world.kill(number, *killed.args)

    def _act(self, step: Step) -> None:
        if self._world.is_over:
            return
        self._world.note(f"{self._world.network.now:.2f} {step}")
        if step.kind in _HABITS:
            self._use(step)
        else:
            self._faults.happen(step)

    def _use(self, step: Step) -> None:
        """Let a user of a machine do something to its files."""
        disk = self._world.machines[step.machine].disk
        habit, _ = _HABITS[step.kind]
        doing = habit(disk, Random(step.pick), self._world.lines.token)
        self._go_on(step, doing, Counter())

    def _go_on(self, step: Step, doing: Iterator[None], held: Counter[str], acts: int = 0) -> None:
        """Let a user do the next part. `acts`: how many there were on the machine after the last,
        when lines are `held`."""
        if not self._world.is_usable(step.machine):
            self._world.lines.gave_up(held, self._world.tokens(step.machine))
            return
        self._faults.watch_pulls()
        before, lay = self._world.tokens(step.machine), self._world.places(step.machine)
        is_done = False
        try:
            next(doing)
        except (StopIteration, OSError):
            is_done = True
        after = self._world.tokens(step.machine)
        is_alone = not held or self._acts[step.machine] == acts  # nobody came between
        if step.kind in _SAVES and is_alone:
            self._world.lines.saved(token for token in held if token in after)
        self._world.lines.met(self._world.linked_tokens(step.machine))
        if step.kind in _PARTS:
            self._world.lines.put_back(token for token in held if token in after)
        self._acts[step.machine] += 1
        gone = Counter({token: n for token, n in before.items() if token not in after})
        self._world.lines.touched.update(gone)
        if step.kind in _HOLDS:
            held |= gone
        kept = held if is_alone else Counter[str]()  # who puts them back later writes them again
        self._world.lines.did(self._world.who(step), before | kept, after | kept)
        if step.kind not in HURRIES:  # they rename whole files: no line is written again
            is_left_alone = partial(self._is_left_alone, self._world.machines[step.machine])
            self._world.lines.moved(lay, self._world.places(step.machine), is_left_alone)
        if step.kind == "write_over":
            self._world.lines.torn(lay, self._world.places(step.machine))
        if is_done:
            self._world.lines.gave_up(held, after)
        else:
            later = self._world.network.now + step.seconds
            acts = self._acts[step.machine] if is_alone else -1
            self._world.at(later, partial(self._go_on, step, doing, held, acts))

    def _is_left_alone(self, machine: Machine, path: str) -> bool:
        return machine.ignores(path) or not is_name(path)

    def _flush(self) -> None:
        """The system writes to its disks what is old enough."""
        for machine in self._world.machines:
            machine.disk.sync_all()

    # -- the end -----------------------------------------------------------------------------

    def _end_faults(self) -> None:
        self._world.do_all()
        self._world.is_over = True
        for waiting, refused in zip(self._world.waiting, self._world.refused, strict=True):
            waiting.clear()
            refused.clear()
        self._world.cut.clear()
        self._world.network.held.clear()
        for number, machine in enumerate(self._world.machines):
            machine.disk.room = None
            machine.peer.is_disk_full = False
            if self._world.linked_tokens(number):  # of what is written by another name none hears
                machine.look_through()
            if not self._world.up[number]:
                self._world.start(number)

    def _settle(self) -> None:
        """Wait until nothing is to be done any more."""
        end = self._world.network.now + SETTLE_S
        quiet = -5
        while self._world.network.now < end and quiet < 3:
            self._pass_time(self._world.network.now + 1.0)
            for (
                machine
            ) in self._world.machines:  # who cannot put everything back says that it may go
                if machine.binding is not None and machine.binding.situation().held:
                    machine.binding.confirm(0)
            if quiet < 0:  # there is room again
                quiet += 1
                for machine in self._world.machines:
                    if machine.binding is not None:
                        machine.binding.problems.hurry()
                continue
            is_quiet = self._is_quiet()
            quiet = quiet + 1 if is_quiet else 0
        if quiet < 3:
            raise Violation(f"no rest: {[self._state(m) for m in self._world.machines]}")

    def _is_quiet(self) -> bool:
        first = dict(self._world.machines[0].peer.replica.scrolls())
        return all(
            m.is_at_rest() and dict(m.peer.replica.scrolls()) == first and not self._is_retrying(m)
            for m in self._world.machines
        )

    def _is_retrying(self, machine: Machine) -> bool:
        """Whether something is tried again that has only to be waited for."""
        assert machine.binding is not None
        due = machine.binding.next_due(self._world.network.now)
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

    def fails(steps: Sequence[Step]) -> bool:
        failure, _ = run_schedule(replace(schedule, steps=tuple(steps)))
        return failure is not None and _kind_of(failure) == kind

    return replace(schedule, steps=fewest(schedule.steps, fails))


def _kind_of(failure: str) -> str:
    """Return what two failures share that are of one kind."""
    return next((kind for kind in _FAILURES if kind in failure), failure)
