"""Discoverer: announces a node, and has the dialler take up what others announce."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from phextsync.boundaries import Boundary
from phextsync.discovery import Announcement, Discovery, Sighting
from phextsync.node.dialler import Dialler
from phextsync.trust.identity import NodeIdentity

_DISCOVERY_PAUSE_S: Final = 5.0


def announcement(
    identity: NodeIdentity, port: int, incarnation: bytes, bound: tuple[str, ...]
) -> Announcement:
    """Return what a node announces of itself."""
    tag, *previous = (bundle.mesh_tag for bundle in identity.bundles)
    return Announcement(
        identity.node_id,
        identity.name,
        port,
        tag,
        incarnation,
        listens_on=bound,
        previous_tags=tuple(previous),
    )


class Discoverer:
    """Keeps each kind of discovery running. `announcement` gives what to announce now; when
    `reloaded` returns it may have changed."""

    def __init__(
        self,
        dialler: Dialler,
        boundary: Boundary,
        announcement: Callable[[], Announcement],
        reloaded: Callable[[], Awaitable[None]],
    ) -> None:
        self._dialler = dialler
        self._boundary = boundary
        self._announcement = announcement
        self._reloaded = reloaded

    async def run(
        self,
        nursery: trio.Nursery,
        found: Discovery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Announce and browse; started when that works, or has failed once. Dials are tasks of
        the nursery."""
        while True:
            with self._boundary.around("finding peers") as outcome:
                announced = self._announcement()
                async with found.open(announced) as sightings, trio.open_nursery() as session:
                    session.start_soon(self._take_sightings, nursery, sightings)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    while announced == self._announcement():
                        await self._reloaded()
                    session.cancel_scope.cancel()
            if outcome.error is not None:
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(_DISCOVERY_PAUSE_S)

    async def _take_sightings(
        self, nursery: trio.Nursery, sightings: trio.abc.ReceiveChannel[Sighting]
    ) -> None:
        async for sighting in sightings:
            for place, address in enumerate(sighting.addresses):
                self._dialler.dial(
                    nursery, address, sighting.node_id, is_neighbour=True, place=place
                )
