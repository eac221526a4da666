"""Doors: what of a node others of this machine, and new machines of its mesh, can reach."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from phextsync.boundaries import Boundary
from phextsync.control.desk import Desk
from phextsync.control.server import serve
from phextsync.node import invitations as invitation
from phextsync.trust.identity import NodeIdentity


class Served(Protocol):
    """What the doors need of a node."""

    folder: Path
    identity: NodeIdentity
    desk: Desk
    boundary: Boundary

    @property
    def reloaded(self) -> Callable[[], Awaitable[None]]: ...


@asynccontextmanager
async def doors(node: Served, host: str | None) -> AsyncIterator[None]:
    """Let other processes of the folder's owner in, and new machines of the mesh."""
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, node.folder, node.desk)
        nursery.start_soon(
            invitation.keep_serving,
            invitation.Invitations(node.folder),
            lambda: node.identity,
            host,
            node.reloaded,
            node.boundary,
        )
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
