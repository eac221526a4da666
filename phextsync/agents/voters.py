"""Voters: votes beside a node in each phext whose first scroll names it as a voter of tasks."""

from typing import Final

import trio

from phextsync.agents.task_layout import HEAD, TASKS, read_electorate
from phextsync.agents.voter import Voter
from phextsync.node.node import Node
from phextsync.phext_names import is_reserved
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.signals import Flag

_ALWAYS: Final = TASKS  # tasks there may name the node, whatever the first scroll says


class Voters:
    """A `Voter` for the phext `tasks`, and one for each that names the node, from then on."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._node_id = node.identity.node_id.hex()
        self._changed = dict.fromkeys(node.replicas.names())
        self._is_changed = Flag()
        node.replicas.listen(ReplicaListener(on_update=self._updated))

    def _updated(self, new: NewUpdate) -> None:
        if new.coordinate == HEAD:
            self._changed[new.phext] = None
            self._is_changed.set()

    async def run(self) -> None:
        """Vote until cancelled."""
        voting = {_ALWAYS}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Voter(self._node, _ALWAYS).run)
            while True:
                changed, self._changed = self._changed, {}
                for phext in changed:
                    if phext not in voting and self._is_named(phext):
                        voting.add(phext)
                        nursery.start_soon(Voter(self._node, phext).run)
                await self._is_changed.take()

    def _is_named(self, phext: str) -> bool:
        if is_reserved(phext):
            return False
        with self._node.boundary.around(f"reading the voters of {phext}"):
            electorate = read_electorate(self._node.replicas.open(phext).read(HEAD))
            return electorate is not None and self._node_id in electorate.voters
        return False
