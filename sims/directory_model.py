"""Model of directories: every order of what users do to a file on two machines, and of crashes.

A run is a few acts, with something between each two of them. All happen at once but for one, which
may happen in the middle of what its machine does about those before: before one of the calls that
it makes to its file system, each in turn, and before each commit, for the time of some rounds:
those that follow look whether all is still as it was. Of two calls between which there is nothing
that the act could meet or undo, one is enough: a crash comes after what changed the disk, and what
users do after that and after what looked at their file, at the names in its folder, or at what is
written for it.

Two machines have the file and are in step. Acts are those of `ACTS`; between two acts is one of
`GAPS`. Of two runs that differ in which machine is which one is enough.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Final, NamedTuple

from sims.machines import RANGE, Machine
from sims.network import TICK_S, Network

FILE: Final = "a.md"
OTHER: Final = "b.md"
ACTS: Final = ("edit", "save", "rename", "delete", "crash")
"""A line is put at the end of the file, in place, or in a file that is renamed over it; the file
gets its other name; it is deleted; the node ends and starts again."""
GAPS: Final = ("nothing", "work", "told", "rest")
"""Between two acts: nothing; the machine looks at its files; and the other hears of it, too; all
is done that is to be done."""

_LOOKS: Final = ("stat", "fstat", "open", "read", "readdir")
_DRAFT: Final = ".phextsync-"
_BYSTANDER: Final = "other-"
_BYSTANDERS: Final = 3  # other files: without them the deletion of one would be one of most
_CALLS_MAX: Final = 1000
_ROUNDS_S: Final = 0.4
_REST_S: Final = 120.0
_PACE_S: Final = 0.5


class Act(NamedTuple):
    """What happens on a machine. `call`: before which of its calls from then on that count, 0: at
    once."""

    kind: str
    machine: int
    call: int = 0


class Plan(NamedTuple):
    """A run: acts, and what is between them."""

    acts: tuple[Act, ...]
    gaps: tuple[str, ...]

    def __str__(self) -> str:
        words: list[str] = []
        for act, gap in zip(self.acts, (*self.gaps, "rest"), strict=True):
            when = f" before call {act.call}" if act.call else ""
            words += [f"{act.kind} on {act.machine}{when}", gap]
        return ", ".join(words)


@dataclass
class Found:
    """How many runs there were, how many acts had nothing to act on, how many were left when time
    was over, the seconds of the processor, and the runs that failed, with what is wrong."""

    runs: int = 0
    idle: int = 0
    cut_off: int = 0
    seconds: float = 0.0
    failures: list[tuple[Plan, str]] = field(default_factory=list)


class _Crash(BaseException):
    """A node ends here."""


class Run:
    """One run. `is_idle`: an act had nothing to act on; `is_waiting`: the calls were not made that
    the last act was to wait for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._network = Network(2)
        self._machines = [Machine(self._network, number) for number in range(2)]
        self.is_idle = False
        self._due: Act | None = None
        self._calls = 0  # that counted since the act before
        self._is_after = True  # what counts
        self._due_until = 0.0
        self._lines = 0
        self._written: set[str] = set()
        self._deleted: set[str] = set()
        self._known: set[str] = set()  # what all had when there was nothing to be done
        for machine in self._machines:
            machine.files.before = partial(self._before, machine.number)
            machine.before_commit = partial(self._before, machine.number, "commit", "")
        for i in range(_BYSTANDERS):
            self._put(0, f"{_BYSTANDER}{i}.md")
        self._put(0, FILE)
        self._rest()

    def run(self) -> str | None:
        """Let all happen; return what is wrong in the end."""
        for act, gap in zip(self.plan.acts, (*self.plan.gaps, "rest"), strict=True):
            if self._due is not None:
                return None  # what it waits for does not come
            if act.call:
                self._due, self._calls, self._is_after = act, 0, True
                self._due_until = self._network.now + _ROUNDS_S
            else:
                self._guarded(act.machine, partial(self._act, act))
            failure = self._pass(act.machine, gap)
            if failure is not None:
                return failure
        return self._wrong()

    @property
    def is_waiting(self) -> bool:
        return self._due is not None

    # -- acts ------------------------------------------------------------------------------

    def _act(self, act: Act) -> None:
        disk = self._machines[act.machine].disk
        before = self._lines_on(act.machine)
        if act.kind == "crash":
            raise _Crash
        path = next((path for path in (FILE, OTHER) if disk.find(path) is not None), None)
        if path is None:
            self.is_idle = True
            return
        match act.kind:
            case "edit":
                disk.put(path, disk.get(path).data.decode() + self._line())
            case "save":
                draft = f"{path}.tmp"
                disk.put(draft, disk.get(path).data.decode() + self._line())
                disk.rename(draft, path)
            case "rename":
                disk.rename(path, OTHER if path == FILE else FILE)
            case "delete":
                disk.unlink(path)
        self._deleted |= before - self._lines_on(act.machine)

    def _put(self, machine: int, path: str) -> None:
        self._machines[machine].disk.put(path, self._line())

    def _line(self) -> str:
        self._lines += 1
        self._written.add(f"line {self._lines}")
        return f"line {self._lines}\n"

    def _before(self, number: int, name: str, path: str) -> None:
        due = self._due
        if due is None or due.machine != number or self._network.now > self._due_until:
            return
        self._calls += self._is_after
        if self._is_after and due.call == self._calls:
            self._due = None
            self._act(due)
        is_seen = path in (FILE, OTHER) or path.startswith(_DRAFT) or name == "readdir"
        self._is_after = name not in _LOOKS or (is_seen and due.kind != "crash")

    def _guarded(self, number: int, call: Callable[[], None]) -> None:
        """Call something, during which a node may crash."""
        try:
            call()
        except _Crash:
            self._network.crash(number)
            self._machines[number].files.end()
            self._machines[number].start()

    # -- time ------------------------------------------------------------------------------

    def _pass(self, number: int, gap: str) -> str | None:
        if gap in ("work", "told"):
            self._guarded(number, self._machines[number].work)
        if gap == "told":
            self._network.link_all()
            self._network.run(TICK_S)
        return self._rest() if gap == "rest" else None

    def _rest(self) -> str | None:
        """Wait until nothing is to be done; return what is wrong if there is no end."""
        end, quiet = self._network.now + _REST_S, 0
        while quiet < 3:
            if self._network.now > end:
                return f"no rest: {[m.problem or m.binding for m in self._machines]}"
            until = self._network.now + _PACE_S
            while self._network.now < until:
                self._network.link_all()
                self._network.run(TICK_S)
                for machine in self._machines:
                    if machine.is_due():
                        self._guarded(machine.number, machine.work)
            for machine in self._machines:
                if machine.binding is not None and machine.binding.situation().held:
                    machine.binding.confirm(0)
            quiet = quiet + 1 if self._is_quiet() else 0
        self._known |= self._lines_on(0) & self._lines_on(1)
        return None

    def _is_quiet(self) -> bool:
        now = self._network.now
        return all(
            machine.is_at_rest()
            and machine.binding is not None
            and machine.binding.next_due(now) is None
            for machine in self._machines
        )

    # -- the end ---------------------------------------------------------------------------

    def _lines_on(self, number: int) -> set[str]:
        return {line for text in self._files(number).values() for line in text.splitlines()}

    def _files(self, number: int) -> dict[str, str]:
        files = self._machines[number].disk.files()
        return {path: text for path, text in files.items() if not path.startswith(".")}

    def _wrong(self) -> str | None:
        one, other = (self._files(number) for number in range(2))
        if one != other:
            return f"the directories differ: {one} and {other}"
        scrolls = [dict(machine.peer.replica.within(RANGE)) for machine in self._machines]
        texts = sorted(text for place, text in scrolls[0].items() if place != RANGE.lower)
        if scrolls[0] != scrolls[1] or texts != sorted(one.values()):
            return f"the scrolls differ: {scrolls[0]} and {scrolls[1]}, files {one}"
        lines = [line for text in one.values() for line in text.splitlines()]
        if len({*lines}) < len(lines):
            return f"doubled: {one}"
        lost = self._written - self._deleted - {*lines}
        if lost:
            return f"lost: {sorted(lost)} of {one}"
        back = self._deleted & self._known & {*lines}
        return f"back: {sorted(back)} of {one}" if back else None


def search(
    count: int, *, acts: Sequence[str] = ACTS, seconds_max: float = 1e9, failures_max: int = 10
) -> Found:
    """Do all runs of up to `count` acts; stop after so many that fail."""
    began, worked = time.perf_counter(), time.process_time()
    found = Found()
    for number in range(1, count + 1):
        for plan in _plans(number, acts):
            is_over = time.perf_counter() - began >= seconds_max
            if is_over or len(found.failures) >= failures_max:
                found.cut_off += 1
            else:
                run_all(plan, found)
    found.seconds = time.process_time() - worked
    return found


def run_all(plan: Plan, found: Found) -> None:
    """Do a run, and those in which one of its acts happens in the middle of what machines do."""
    for i in range(len(plan.acts)):
        is_waiting, call = False, min(i, 1)  # the first act: nothing goes on
        while not is_waiting and call <= (i and _CALLS_MAX):
            acts = (*plan.acts[:i], plan.acts[i]._replace(call=call), *plan.acts[i + 1 :])
            run = Run(plan._replace(acts=acts))
            failure = run.run()
            is_waiting = run.is_waiting
            found.runs += not is_waiting
            found.idle += run.is_idle
            if failure is not None:
                found.failures.append((run.plan, failure))
            call += 1


def _plans(count: int, acts: Sequence[str]) -> Iterator[Plan]:
    """Iterate over all runs of so many acts, the first on machine 0, all at once."""
    for kinds in product(acts, repeat=count):
        for others in product((0, 1), repeat=count - 1):
            for gaps in product(GAPS, repeat=count - 1):
                yield Plan(tuple(map(Act, kinds, (0, *others))), gaps)
