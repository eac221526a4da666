"""Surroundings: what a node touches outside of itself, so that a simulator can take its place."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio

from phextsync import discovery, transport
from phextsync.store.contract import Batch, Store
from phextsync.trust.known_peers import KnownPeers


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a node touches outside of itself.

    `commit` does what `store.commit` does, where it does not hold up the node, and cannot be
    cancelled; `folder` is for people to read.
    """

    folder: Path
    store: Store
    commit: Callable[[Batch], Awaitable[None]]
    network: transport.Network
    discoveries: Sequence[discovery.Discovery]
    remembered: discovery.RememberedPeers
    known: KnownPeers = field(default_factory=KnownPeers)
    random: Random
    wall_time_s: Callable[[], float] = time.time
    on_error: Callable[[Exception], object] | None = None
    """Told every error that ended a part of the node."""


async def commit_in_thread(store: Store, batch: Batch) -> None:
    """Do what `store.commit` does, in a thread that the node does not wait for."""
    try:
        await trio.to_thread.run_sync(store.commit, batch)
    except RuntimeError:  # an interpreter that is ending starts no threads
        store.commit(batch)
