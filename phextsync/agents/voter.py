"""Voter: votes on tasks beside a node that is named as one of their voters, while that runs.

It decides by what the node has at that moment, and what it votes is told to others when it is on
the disk. How long nothing new was heard is measured by this machine's monotonic clock alone, and
begins again when the node does.
"""

import logging
from collections.abc import Iterable
from typing import Final

import trio

from phextsync.agents.claims import Known, lines_of_voter, patience
from phextsync.agents.task_layout import TASKS, ballot_at, places_of, read_task, task_at
from phextsync.agents.task_plans import known_of
from phextsync.control import operations
from phextsync.control.frames import Value
from phextsync.errors import PhextsyncError, StoreFullError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.node import Node

_RETRY_S: Final = 1.0

_log = logging.getLogger("phextsync.agents")


class Voter:
    """Votes for a node on the tasks of a phext."""

    def __init__(self, node: Node, phext: str = TASKS) -> None:
        self._node = node
        self._phext = phext
        self._node_id = node.identity.node_id.hex()
        self._heard: dict[Coordinate, tuple[object, float]] = {}  # what is waited for, until when
        self._due: dict[Coordinate, float] = {}

    async def run(self) -> None:
        """Vote until cancelled."""
        await self._node.boundary.keep_running("voting on tasks", self._run)

    async def _run(self) -> None:
        async with self._node.changes(self._phext, EVERYTHING) as changes:
            await self._look_at(self._all())
            while True:
                deadline = min(self._due.values(), default=float("inf"))
                concerned: list[Coordinate] = []
                with trio.move_on_at(deadline):
                    change = await changes.receive()
                    concerned = [*map(task_at, change.coordinates)]  # type: ignore[list-item]
                    if change.missed is not None:
                        concerned = self._all()
                now = trio.current_time()
                due = [at for at, time in self._due.items() if time <= now]
                await self._look_at(dict.fromkeys([*filter(None, concerned), *due]))

    def _all(self) -> list[Coordinate]:
        coordinates = self._node.replicas.phext(self._phext).coordinates(EVERYTHING)
        return [at for at in coordinates if task_at(at) == at]

    async def _look_at(self, tasks: Iterable[Coordinate]) -> None:
        for at in tasks:
            with self._node.boundary.around(f"voting on the task at {at}"):
                self._look(at)
            await trio.lowlevel.checkpoint()

    def _look(self, at: Coordinate) -> None:
        """Vote on one task, if there is something to vote for. Without a pause: nothing changes
        between the look and the vote."""
        self._due.pop(at, None)
        known = self._known(at)
        if known is None or self._node_id not in known.task.electorate.voters:
            return
        lines = lines_of_voter(known, self._node_id, is_overdue=self._is_overdue(known))
        if not lines:
            return
        place = str(ballot_at(self._node_id, at))
        rows: list[Value] = [[operations.APPEND_LINE.name, place, line] for line in lines]
        try:
            # Told late: a vote that somebody heard of cannot be forgotten here.
            self._node.desk.ask([operations.BATCH.name, self._phext, rows, True])
        except StoreFullError:
            self._due[at] = trio.current_time() + _RETRY_S
        except PhextsyncError as error:
            _log.warning("cannot vote on the task at %s: %s", at, error)

    def _known(self, at: Coordinate) -> Known | None:
        replica = self._node.replicas.phext(self._phext)
        task = read_task(at, replica.get(at, ""))
        if task is None:
            return None
        return known_of(task, {place: replica.get(place, "") for place in places_of(task)})

    def _is_overdue(self, known: Known) -> bool:
        """Say whether what is waited for did not change for too long, and note when it will."""
        at, wanted, now = known.task.coordinate, patience(known, self._node_id), trio.current_time()
        if wanted is None:
            self._heard.pop(at, None)
            return False
        what, seconds = wanted
        before, until = self._heard.get(at, (None, 0.0))
        if before != what:
            until = now + seconds
        self._heard[at] = what, until
        if now >= until:
            return True
        self._due[at] = until
        return False
