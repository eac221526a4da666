"""Tasks: who a task is for in a mesh of real nodes in virtual time, with cuts, crashes and clocks.

Three or five nodes vote and two more work: `python -m sims.tasks 0-59`. One seed makes one run. The
oracle hears what workers are told: no two of them hold one fence of a task, what is final stays as
it is, and when everything is healed each task is done.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import Final

import trio

from phextsync.agents import AsyncTasks, Voter
from phextsync.agents.claims import Kind, Verdict
from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate
from phextsync.testing import (
    Action,
    Crash,
    FillDisk,
    FreeDisk,
    MemoryMesh,
    Partition,
    Repair,
    Restart,
    Sleep,
)
from sims.arguments import seeds

TERM_S: Final = 4
_WORKERS: Final = 2
_TASKS_MAX: Final = 5
_STORM_S: Final = 24.0
_HEAL_S: Final = 120.0
_WAIT_S: Final = 1.5


@dataclass(slots=True)
class Oracle:
    """What workers were told. `failures` says what must not be."""

    asked: dict[str, float] = field(default_factory=dict)
    holders: dict[tuple[Coordinate, int], str] = field(default_factory=dict)
    failed: set[tuple[Coordinate, int]] = field(default_factory=set)
    results: dict[Coordinate, tuple[int, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def told_firm(self, at: Coordinate, fence: int, name: str, now: float) -> None:
        """A worker was told that its claim is firm."""
        before = self.holders.get((at, fence - 1))
        asked = self.asked.get(before or "", now)  # no voter heard of it earlier
        if before is not None and (at, fence - 1) not in self.failed and now < asked + TERM_S:
            self.failures.append(f"fence {fence - 1} of {at} was overtaken before its term")
        other = self.holders.setdefault((at, fence), name)
        if other != name:
            self.failures.append(f"fence {fence} of {at} is firm for {other} and {name}")
        final = self.results.get(at)
        if final is not None and fence > final[0]:
            self.failures.append(f"fence {fence} of {at} is firm, and {final} was final")

    def told_final(self, at: Coordinate, fence: int, what: str) -> None:
        """Somebody was told that a result is final."""
        known = self.results.setdefault(at, (fence, what))
        if known != (fence, what):
            self.failures.append(f"{at} is done twice: {known} and {(fence, what)}")
        if any(task == at and other > fence for task, other in self.holders):
            self.failures.append(f"{what} of a stale fence {fence} of {at} was counted")


class Run:
    """One run: `failures` says what was wrong."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.voters = self.random.choice((3, 3, 4, 5))
        self.count = self.voters + _WORKERS
        self.oracle = Oracle()
        self._serial = count(1)
        self._places: list[Coordinate] = []
        self._names: list[str] = []
        self._ahead_s = [1000.0] * self.count
        self.mesh = MemoryMesh(
            seed, self.count, beside=lambda node: Voter(node).run(), on_error=lambda _error: None
        )

    def run(self) -> list[str]:
        """Run, and return what was wrong."""
        self.mesh.run(self._body)
        return self.oracle.failures

    def tasks(self, number: int) -> AsyncTasks:
        """Return the tasks as a node sees them, by a clock that may be wrong."""
        return AsyncTasks(
            self.mesh.node(number),
            f"w{number}",
            clock_ms=lambda: round(1000 * (self.mesh.now + self._ahead_s[number])),
            nonce=partial(self._nonce, number),
        )

    def _nonce(self, number: int) -> str:
        nonce = str(next(self._serial))
        self.oracle.asked[f"w{number}:{nonce}"] = self.mesh.now
        return nonce

    async def _body(self) -> None:
        await self.mesh.run_until(2)
        nodes = [self.mesh.node(number) for number in range(self.voters)]
        self._names = [node.identity.node_id.hex() for node in nodes]
        await self._add()
        await self.mesh.run_until(4)
        async with trio.open_nursery() as nursery:
            for number in range(self.count):
                nursery.start_soon(self._work, number, Random(self.random.getrandbits(64)))
            await self._storm()
            await self._heal()
            nursery.cancel_scope.cancel()

    async def _add(self) -> None:
        """Let a worker add a task, if it can."""
        if self.mesh.is_up(self.voters):
            text = f"t{len(self._places)}"
            with trio.move_on_after(_WAIT_S), suppress(PhextsyncError):
                tasks = self.tasks(self.voters)
                task = await tasks.add(text, voters=self._names, term_s=TERM_S)
                self._places.append(task.coordinate)

    # -- what happens to them --------------------------------------------------------------

    async def _storm(self) -> None:
        while self.mesh.now < _STORM_S:
            for action in self._trouble():
                self.mesh.apply(action)
            await self.mesh.run_until(self.mesh.now + self.random.uniform(0.2, 2.5))
            if len(self._places) < _TASKS_MAX and self.random.random() < 0.3:
                await self._add()
            for number in range(self.count):
                if self.mesh._machines[number].life is None and self.random.random() < 0.6:
                    self.mesh.apply(Restart(number))

    def _trouble(self) -> Iterable[Action]:
        number = self.random.randrange(self.count)
        self._ahead_s[self.random.randrange(self.count)] = self.random.uniform(0, 2000)
        match self.random.randrange(7):
            case 0 | 1:
                groups: tuple[list[int], list[int]] = ([], [])
                for other in range(self.count):
                    groups[self.random.randrange(2)].append(other)
                yield Partition((tuple(groups[0]), tuple(groups[1])))
            case 2 | 3:
                yield Crash(number, is_silent=self.random.random() < 0.5)
            case 4:
                yield Sleep(number, self.random.uniform(0.5, 6))
            case 5:
                yield FillDisk(number)
            case _:
                yield Repair()
                yield FreeDisk(self.random.randrange(self.count))

    async def _heal(self) -> None:
        """End all trouble; each task has to be done before long, alike at all nodes."""
        self.mesh.apply(Repair())
        await self.mesh.run_until(max(self.mesh.now, _STORM_S + 0.1))  # the last of the crashes
        for number in range(self.count):
            self.mesh.apply(FreeDisk(number))
            if self.mesh._machines[number].life is None:
                self.mesh.apply(Restart(number))
        deadline = self.mesh.now + _HEAL_S
        while not self._is_done():
            if self.mesh.now > deadline:
                self.oracle.failures.append("tasks are not done long after all is well")
                return
            await self.mesh.run_until(self.mesh.now + 0.5)
        await self.mesh.run_until(self.mesh.now + 3)
        for number in range(self.count):
            await self._see(number)

    def _is_done(self) -> bool:
        return all(at in self.oracle.results for at in self._places)

    # -- what workers do -------------------------------------------------------------------

    async def _work(self, number: int, source: Random) -> None:
        """Claim tasks, work on them for a while, and say what came of it; give up at times."""
        while True:
            await trio.sleep(source.uniform(0.05, 0.8))
            if not self.mesh.is_up(number):
                continue
            with trio.move_on_after(3 * _WAIT_S + TERM_S):  # a node that ends answers nothing
                with suppress(PhextsyncError):  # it was overtaken, or the disk is full
                    await self._take(number, source)

    async def _take(self, number: int, source: Random) -> None:
        if number < self.voters and source.random() < 0.8:
            await self._see(number)
            return
        tasks, at = self.tasks(number), source.choice(self._places)
        if self.mesh.now < _STORM_S and source.random() < 0.1:  # while there are votes
            crash = partial(self.mesh.apply, Crash(source.randrange(self.voters)))
            self.mesh.at(self.mesh.now + source.uniform(0, 0.1), crash)
        claim = await tasks.claim(at, wait_s=_WAIT_S)
        if claim.verdict is Verdict.NOT_FIRM:
            claim = await tasks.keep(at, claim, wait_s=_WAIT_S)
        if not claim.is_firm:
            return
        self.oracle.told_firm(at, claim.fence, claim.name, self.mesh.now)
        chance = source.random()
        if chance < 0.3:
            return  # it vanishes
        await trio.sleep(source.uniform(0, 1.5 * TERM_S))
        if chance < 0.4:
            self.oracle.failed.add((at, claim.fence))
            await tasks.fail(at, claim, "no", wait_s=_WAIT_S)
            await tasks.retry(at)
            return
        if (await tasks.done(at, claim, claim.name, wait_s=_WAIT_S)).is_firm:
            self.oracle.told_final(at, claim.fence, claim.name)

    async def _see(self, number: int) -> None:
        """Look at the list, as anybody may."""
        for listed in await self.tasks(number).tasks():
            now = listed.standing
            if now.kind is Kind.HELD:
                at, time = listed.task.coordinate, self.mesh.now
                self.oracle.told_firm(at, now.fence, now.claim, time)
            elif now.is_final:
                self.oracle.told_final(listed.task.coordinate, now.fence, now.what)
            elif now.kind is Kind.FAILED:
                await self.tasks(number).retry(listed.task.coordinate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run seeds, and print what is wrong with any; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sims.tasks", description=__doc__)
    parser.add_argument("seeds", type=seeds, help="such as 7 or 0-59")
    options = parser.parse_args(arguments)
    wrong = 0
    for seed in options.seeds:
        failures = Run(seed).run()
        wrong += bool(failures)
        for failure in failures:
            print(f"seed {seed}: {failure}")
    print(f"{len(options.seeds)} seeds, {wrong} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
