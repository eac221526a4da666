"""Tasks: what one and only one takes, for programs: in plain calls, for asyncio and for trio.

A task is for whoever a majority of its voters voted for; a voter runs beside each node that is one.
`docs/reference/tasks.md` has the rules.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from phextsync.agents import task_plans
from phextsync.agents.claims import Standing
from phextsync.agents.mail import wall_time_ms
from phextsync.agents.plans import Plan, carry_out, carry_out_awaited
from phextsync.agents.task_layout import TASKS, Electorate, Task
from phextsync.agents.task_plans import Claim, ListedTask, read_key
from phextsync.aio import AsyncHandle
from phextsync.control.operations import Asked
from phextsync.node.node import Node
from phextsync.node.options import limit_of
from phextsync.replica.views import Key, as_coordinate

WAIT_S: Final = 10.0
"""For so many seconds votes are waited for, unless it is said otherwise."""

T = TypeVar("T")


def new_nonce() -> str:
    """Return what tells a claim from others of one name."""
    return secrets.token_hex(4)


class _Steps:
    """The plans of one worker."""

    def __init__(
        self, worker: str, phext: str, clock_ms: Callable[[], int], nonce: Callable[[], str]
    ) -> None:
        self._worker = worker
        self._phext = phext
        self._clock_ms = clock_ms
        self._nonce = nonce

    def voters(self, nodes: Sequence[str], term_s: int | None) -> Plan[Electorate | None]:
        if nodes or term_s is not None:
            return (yield from task_plans.name_voters(self._phext, nodes, term_s))
        return (yield from task_plans.electorate(self._phext))

    def add(self, text: str, voters: Sequence[str], term_s: int | None) -> Plan[Task]:
        return task_plans.add(self._phext, text, voters, term_s, self._clock_ms())

    def tasks(self) -> Plan[list[ListedTask]]:
        return task_plans.tasks(self._phext)

    def read(self, at: Key) -> Plan[ListedTask]:
        return task_plans.read(self._phext, as_coordinate(at))

    def claim(self, at: Key, wait_s: float) -> Plan[Claim]:
        place, nonce, now_ms = as_coordinate(at), self._nonce(), self._clock_ms()
        return task_plans.claim(self._phext, place, self._worker, nonce, limit_of(wait_s), now_ms)

    def keep(self, at: Key, claim: Claim | str, wait_s: float) -> Plan[Claim]:
        place, key = as_coordinate(at), read_key(str(claim))
        return task_plans.keep(self._phext, place, key, limit_of(wait_s))

    def done(self, at: Key, claim: Claim | str, result: str, wait_s: float) -> Plan[Claim]:
        place, key = as_coordinate(at), read_key(str(claim))
        return task_plans.done(self._phext, place, key, result, limit_of(wait_s))

    def fail(self, at: Key, claim: Claim | str, why: str, wait_s: float) -> Plan[Claim]:
        place, key = as_coordinate(at), read_key(str(claim))
        return task_plans.fail(self._phext, place, key, why, limit_of(wait_s))

    def retry(self, at: Key) -> Plan[Standing]:
        return task_plans.retry(self._phext, as_coordinate(at))

    def clear(self, before_ms: int) -> Plan[list[ListedTask]]:
        return task_plans.clear(self._phext, before_ms)


class Tasks:
    """Tasks behind plain calls: `Tasks(handle)`, `handle` from `phextsync.open`.

    `worker` is the name under which tasks are claimed, "" that of the node. `clock_ms` says when
    tasks are added, and `nonce` tells claims apart; nothing else depends on them. Whatever waits
    for votes does so for `wait_s` seconds at most.
    """

    def __init__(
        self,
        asked: Asked,
        worker: str = "",
        *,
        phext: str = TASKS,
        clock_ms: Callable[[], int] = wall_time_ms,
        nonce: Callable[[], str] = new_nonce,
    ) -> None:
        self._asked = asked
        self._steps = _Steps(worker, phext, clock_ms, nonce)

    def voters(self, *nodes: str, term_s: int | None = None) -> Electorate | None:
        """Name the voters of new tasks, by names or ids of nodes, or their term, or both; return
        them, None where none are named. Tasks that are there keep theirs.

        PhextsyncError for a node that is not known here.
        """
        return self._do(self._steps.voters(nodes, term_s))

    def add(self, text: str, *, voters: Sequence[str] = (), term_s: int | None = None) -> Task:
        """Add a task and return it; it is on this node's disk. Its voters and its term are those of
        new tasks unless others are given. PhextsyncError where there are none."""
        return self._do(self._steps.add(text, voters, term_s))

    def tasks(self) -> list[ListedTask]:
        """Return all tasks and how they stand as far as is known here, the oldest first."""
        return self._do(self._steps.tasks())

    def read(self, at: Key) -> ListedTask:
        """Return the task at a coordinate. PhextsyncError when there is none."""
        return self._do(self._steps.read(at))

    def claim(self, at: Key, *, wait_s: float = WAIT_S) -> Claim:
        """Claim the task at a coordinate, and return the claim: it is firm when a majority of the
        task's voters have it on their disks, lost when the task is not to be had, or else not firm
        yet: it may become so, which `keep` tells."""
        return self._do(self._steps.claim(at, wait_s))

    def keep(self, at: Key, claim: Claim | str, *, wait_s: float = WAIT_S) -> Claim:
        """Say that one is still at work on a task; its voters begin its term again when they hear
        of it. OvertakenError when the task is no longer for this claim, or this failed;
        NotFirmError when it is not firm after `wait_s` seconds."""
        return self._do(self._steps.keep(at, claim, wait_s))

    def done(
        self, at: Key, claim: Claim | str, result: str = "", *, wait_s: float = WAIT_S
    ) -> Claim:
        """Say that a task is done, and what came of it. The claim that is returned is firm when
        that is final: no other can take the task any more. OvertakenError and NotFirmError as in
        `keep`: nothing was written then, or it does not count."""
        return self._do(self._steps.done(at, claim, result, wait_s))

    def fail(self, at: Key, claim: Claim | str, why: str = "", *, wait_s: float = WAIT_S) -> Claim:
        """Say that a task failed; nobody can claim it until `retry`. Errors as in `keep`."""
        return self._do(self._steps.fail(at, claim, why, wait_s))

    def retry(self, at: Key) -> Standing:
        """Let a task that failed be claimed again, at the next fence. PhextsyncError when it did
        not fail."""
        return self._do(self._steps.retry(at))

    def clear(self, before_ms: int) -> list[ListedTask]:
        """Remove the tasks that were added before a time in milliseconds and are done for good, and
        return them. Those whose result is not final stay."""
        return self._do(self._steps.clear(before_ms))

    def _do(self, plan: Plan[T]) -> T:
        return carry_out(self._asked, plan)


class AsyncTasks:
    """Tasks with methods that are those of `Tasks`, awaited: over a handle of `phextsync.aio.open`,
    or over the node of `phextsync.open_node`, in its trio task."""

    def __init__(
        self,
        asked: AsyncHandle | Node,
        worker: str = "",
        *,
        phext: str = TASKS,
        clock_ms: Callable[[], int] = wall_time_ms,
        nonce: Callable[[], str] = new_nonce,
    ) -> None:
        self._asked = asked
        self._steps = _Steps(worker, phext, clock_ms, nonce)

    async def voters(self, *nodes: str, term_s: int | None = None) -> Electorate | None:
        """Name or return the voters of new tasks, as `Tasks.voters` does."""
        return await self._do(self._steps.voters(nodes, term_s))

    async def add(
        self, text: str, *, voters: Sequence[str] = (), term_s: int | None = None
    ) -> Task:
        """Add a task as `Tasks.add` does."""
        return await self._do(self._steps.add(text, voters, term_s))

    async def tasks(self) -> list[ListedTask]:
        """Return all tasks and how they stand, the oldest first."""
        return await self._do(self._steps.tasks())

    async def read(self, at: Key) -> ListedTask:
        """Return the task at a coordinate. PhextsyncError when there is none."""
        return await self._do(self._steps.read(at))

    async def claim(self, at: Key, *, wait_s: float = WAIT_S) -> Claim:
        """Claim a task as `Tasks.claim` does."""
        return await self._do(self._steps.claim(at, wait_s))

    async def keep(self, at: Key, claim: Claim | str, *, wait_s: float = WAIT_S) -> Claim:
        """Say that one is still at work, as `Tasks.keep` does."""
        return await self._do(self._steps.keep(at, claim, wait_s))

    async def done(
        self, at: Key, claim: Claim | str, result: str = "", *, wait_s: float = WAIT_S
    ) -> Claim:
        """Say that a task is done, as `Tasks.done` does."""
        return await self._do(self._steps.done(at, claim, result, wait_s))

    async def fail(
        self, at: Key, claim: Claim | str, why: str = "", *, wait_s: float = WAIT_S
    ) -> Claim:
        """Say that a task failed, as `Tasks.fail` does."""
        return await self._do(self._steps.fail(at, claim, why, wait_s))

    async def retry(self, at: Key) -> Standing:
        """Let a task that failed be claimed again, as `Tasks.retry` does."""
        return await self._do(self._steps.retry(at))

    async def clear(self, before_ms: int) -> list[ListedTask]:
        """Remove tasks that are done for good, as `Tasks.clear` does."""
        return await self._do(self._steps.clear(before_ms))

    async def _do(self, plan: Plan[T]) -> T:
        return await carry_out_awaited(self._asked, plan)
