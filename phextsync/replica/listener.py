"""Listeners: who is told of what happens to replicas, while it happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from phextsync.index import Coordinate
from phextsync.store.contract import LogEntry


class NewUpdate(NamedTuple):
    """An update that took effect here. `source` is the link that brought it, or None for here.
    One that is `durable_first` is told to peers when it is on the disk; one that `is_alone` was
    made here, and not in a batch, of which more may come."""

    phext: str
    coordinate: Coordinate
    entry: LogEntry
    source: int | None
    durable_first: bool = False
    is_alone: bool = False


def _ignore() -> None:
    """Nobody listens."""


def _at_once(call: Callable[[], None]) -> None:
    call()


def _ignore_phext(_: str) -> None:
    """Nobody listens."""


def _ignore_update(_: NewUpdate) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class ReplicaListener:
    """`on_update(new)` is called for every update that takes effect; `on_open(phext)` for a phext
    that was opened; `on_held(phext)` when this node holds something else of it than before;
    `on_set_aside(phext)` when one of its scrolls was damaged and is gone;
    `on_dirty()` when the next batch has something to take; `on_taken()` when a batch was taken,
    and `on_durable()` when it is on the disk. They are called in the middle of work: they note it
    and return."""

    on_update: Callable[[NewUpdate], None] = _ignore_update
    on_open: Callable[[str], None] = _ignore_phext
    on_held: Callable[[str], None] = _ignore_phext
    on_set_aside: Callable[[str], None] = _ignore_phext
    on_dirty: Callable[[], None] = _ignore
    on_taken: Callable[[], None] = _ignore
    on_durable: Callable[[], None] = _ignore


class Listeners:
    """All who listen to the replicas of a node, told in the order in which they came."""

    def __init__(self) -> None:
        self._all: tuple[ReplicaListener, ...] = ()
        # Those who hear of every update and every batch, without those who ignore them.
        self._hear_updates: list[Callable[[NewUpdate], None]] = []
        self._hear_dirty: list[Callable[[], None]] = []
        self._on_taken: list[Callable[[], None]] = []
        self._on_durable: list[Callable[[], None]] = []
        self.tell_now()

    def tell_now(self) -> None:
        """Tell who listens while it happens, as at first."""
        self._on_update, self._on_dirty = self._hear_updates, self._hear_dirty
        self.call: Callable[[Callable[[], None]], None] = _at_once

    def tell_later(self, later: Callable[[Callable[[], None]], None]) -> None:
        """Until `tell_now`, give `later` what tells of changes that are made here, in order."""
        self._on_update = [lambda new: later(partial(self._tell_of, new))]
        self._on_dirty = [lambda: later(self._tell_dirty)]
        self.call = later

    def add(self, listener: ReplicaListener) -> None:
        self._all = (*self._all, listener)
        if listener.on_update is not _ignore_update:
            self._hear_updates.append(listener.on_update)
        for told, on_event in (
            (self._hear_dirty, listener.on_dirty),
            (self._on_taken, listener.on_taken),
            (self._on_durable, listener.on_durable),
        ):
            if on_event is not _ignore:
                told.append(on_event)

    @contextmanager
    def hearing(self, on_update: Callable[[NewUpdate], None]) -> Iterator[None]:
        self._hear_updates.append(on_update)
        try:
            yield
        finally:
            self._hear_updates.remove(on_update)

    def update(self, new: NewUpdate) -> None:
        for on_update in self._on_update:
            on_update(new)

    def opened(self, phext: str) -> None:
        for listener in self._all:
            listener.on_open(phext)

    def held(self, phext: str) -> None:
        for listener in self._all:
            listener.on_held(phext)

    def set_aside(self, phext: str) -> None:
        for listener in self._all:
            listener.on_set_aside(phext)

    def dirty(self) -> None:
        for on_dirty in self._on_dirty:
            on_dirty()

    def _tell_of(self, new: NewUpdate) -> None:
        for on_update in self._hear_updates:
            on_update(new)

    def _tell_dirty(self) -> None:
        for on_dirty in self._hear_dirty:
            on_dirty()

    def taken(self) -> None:
        for on_taken in self._on_taken:
            on_taken()

    def durable(self) -> None:
        for on_durable in self._on_durable:
            on_durable()
