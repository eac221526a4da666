"""Guard: takes what writers in quarantine put in, and what was put back twice, wherever this node
holds it.

What it takes follows from a scroll and the rules alone, and it only ever deletes: so all nodes may
do it, at once or one after the other, and come to the same. On the writer's own node it also puts
back what the writer took out, since that node alone saw all of it; it writes under a label of its
own, by which what was taken is known from what people deleted. Of copies of a text that nodes put
back apart, each leaves the same one.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar

import trio

from phextsync.boundaries import Boundary
from phextsync.control.quarantine import (
    KEPT_MS,
    QUARANTINE,
    Quarantined,
    Rules,
    all_rules,
    clocks_of,
)
from phextsync.errors import StoreFullError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange
from phextsync.replica.changes import ChangeFeed, writing_as
from phextsync.replica.clients import CLIENTS
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.noted_scrolls import NotedScrolls
from phextsync.replica.put_back import puts_back, take_doubles
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.taking_back import GUARD, Writer
from phextsync.signals import Flag

T = TypeVar("T")

RETRY_S: Final = 1.0
_BEFORE_MS: Final = 60_000  # of the last run, in which it may have been killed before it was done
_LARGE_BYTES: Final = 256 << 10  # of a past that is looked through in a thread
_NOTES: Final = b"p"


class Guard:
    """Looks at what changes where somebody's work waits, and where text is put back. Costs nothing
    elsewhere. A note, in the batch of the text, says what was put back and not looked at yet: if
    the node ends before, it looks when it starts again."""

    def __init__(self, replicas: ReplicaSet, boundary: Boundary) -> None:
        self._replicas = replicas
        self._boundary = boundary
        self._ready = Flag()
        self._rules: dict[str, Rules] = {}
        self._since_ms: dict[tuple[str, Quarantined], int] = {}
        self._feeds: dict[str, ChangeFeed] = {}
        self._followed = {QUARANTINE}  # as soon as they are here
        self._early_ms = _BEFORE_MS if QUARANTINE in replicas.names() else 0
        self._unseen = NotedScrolls(replicas.durability, _NOTES)  # where text was put back
        self._put_back = dict(self._unseen.all)  # since the last look
        replicas.listen(ReplicaListener(on_open=self._follow, on_update=self._updated))
        if self._put_back:
            self._ready.set()
        if self._early_ms:
            self._follow(QUARANTINE)

    def _follow(self, phext: str) -> None:
        """Hear of what changes in a phext that is here, if it matters."""
        if phext not in self._followed:
            return
        replica = self._replicas.phext(phext)
        if phext not in self._feeds:  # opening it comes here, too
            feed = self._feeds[phext] = replica.feed()
            feed.on_ready = self._ready.set
            feed.miss()

    def _updated(self, new: NewUpdate) -> None:
        if puts_back(new.entry.update):
            self._put_back[new.phext, new.coordinate] = None
            if new.source is not None:  # by itself a node puts back nothing twice
                self._unseen.add((new.phext, new.coordinate))
            self._ready.set()

    async def run(self) -> None:
        """Take what waits until cancelled."""
        again: set[tuple[str, Coordinate]] = set()
        while True:
            with trio.move_on_after(RETRY_S if again else math.inf):
                await self._ready.take()
            due, again = again, set()
            with self._boundary.around("looking for whose work waits"):
                due.update(self._due())
            for phext, place in sorted(due):
                with self._boundary.around(f"taking back at {phext} {place}") as outcome:
                    await self._look(phext, place)
                    if (phext, place) not in self._put_back:  # meanwhile
                        self._unseen.discard((phext, place))
                if isinstance(outcome.error, StoreFullError):
                    again.add((phext, place))
                await trio.lowlevel.checkpoint()

    # -- where to look ---------------------------------------------------------------------

    def _due(self) -> Iterator[tuple[str, Coordinate]]:
        """Iterate over the scrolls of which something may have to be taken."""
        put_back, self._put_back = self._put_back, {}
        yield from put_back
        is_everywhere = QUARANTINE in self._feeds and self._changed(QUARANTINE) != []
        if is_everywhere:
            self._read()
        is_everywhere |= CLIENTS in self._feeds and self._is_somebody_known()
        for phext, rules in self._rules.items():
            if phext not in self._feeds:
                continue  # it is not here
            places = self._changed(phext)
            if places is None or is_everywhere:
                ranges = {held.range for held in rules.held}
                with self._boundary.around(f"keeping the history of what waits in {phext}"):
                    self._keep(phext, ranges)
                replica = self._replicas.open(phext)
                places = [place for range_ in ranges for place in replica.coordinates(range_)]
            for place in places:
                yield phext, place

    def _is_somebody_known(self) -> bool:
        """Whether it was told just now under which client id one writes whose work waits."""
        places, lines = self._changed(CLIENTS), self._replicas.open(CLIENTS)
        nodes = {held.writer.node.hex() for each in self._rules.values() for held in each.held}
        return places is None or any(node in lines.read(at) for at in places for node in nodes)

    def _changed(self, phext: str) -> list[Coordinate] | None:
        """Return what changed, None when that may be anything."""
        places: list[Coordinate] | None = []
        while (change := self._feeds[phext].take()) is not None:
            if change.missed is not None:
                places = None
            elif places is not None:
                places += change.coordinates
        return places

    def _read(self) -> None:
        self._rules = {rules.phext: rules for rules in all_rules(self._replicas)}
        now_ms, before = self._replicas.author.now_ms(), self._since_ms
        now_ms, self._early_ms = now_ms - self._early_ms, 0
        self._since_ms = {}
        for phext, rules in self._rules.items():
            for held in rules.held:
                self._since_ms[phext, held] = before.get((phext, held), now_ms)
        self._followed = {QUARANTINE, *self._rules} | ({CLIENTS} if self._rules else set())
        for phext in {*self._feeds} - self._followed:
            self._feeds.pop(phext).close()
        for phext in sorted(self._followed.intersection(self._replicas.names())):
            self._follow(phext)

    def _keep(self, phext: str, ranges: set[CoordinateRange]) -> None:
        """Keep the history of ranges where something waits, if nobody said how long."""
        if not self._replicas.history_settings()[0].kept_ms:
            for range_ in ranges:
                self._replicas.keep_history(KEPT_MS, phext, range_, unless_set=True)

    # -- taking ----------------------------------------------------------------------------

    async def _look(self, phext: str, place: Coordinate) -> None:
        if not self._may(phext, place):
            return
        await self._take_doubles(phext, place)
        rules, replica = self._rules.get(phext, Rules(phext)), self._replicas.open(phext)
        for writer in rules.at(place):
            if not any(clocks_of(self._replicas, phext, place, writer)):
                continue
            past = replica.past(place)
            args = writer, self._since(phext, place, writer), rules.stands(place)
            updates = await _looked(past.size, partial(past.quarantined, *args))
            with writing_as(GUARD):
                for update in updates:
                    replica.take_back(place, update)

    async def _take_doubles(self, phext: str, place: Coordinate) -> None:
        replica = self._replicas.open(phext)
        state = replica.difference(place, EMPTY_VERSION) or b""
        if puts_back(state):
            update = await _looked(len(state), partial(take_doubles, state))
            if update is not None:
                replica.take_back(place, update)

    def _may(self, phext: str, place: Coordinate) -> bool:
        holding, author = self._replicas.holding, self._replicas.author
        return holding.is_held(phext, place) and author.may_write(phext, place)

    def _since(self, phext: str, place: Coordinate, writer: Writer) -> int | None:
        """Return since when to put back what a writer takes out: here, if its work can be told from
        that of this guard."""
        if writer.node != self._replicas.node_id or writer.label is None:
            return None
        held = [h for h in self._rules[phext].held if h.writer == writer and place in h.range]
        return min(self._since_ms[phext, each] for each in held)


async def _looked(size: int, look: Callable[[], T]) -> T:
    """Look through bytes of a past: where they are many, in a thread."""
    if size > _LARGE_BYTES:
        return await trio.to_thread.run_sync(look)
    return look()
