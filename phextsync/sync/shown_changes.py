"""Shown changes: the peer of one link is told which scrolls change in ranges that it does not hold.

It watches a range that we hold and it may read. What changes before it takes the news waits once,
and is bounded; a range that either side holds no longer so is watched no longer.
"""

from collections.abc import Callable
from functools import partial

from phextsync.errors import ProtocolError
from phextsync.index import CoordinateRange
from phextsync.ranges import Ranges, holds
from phextsync.replica.changes import ChangeFeed
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Changed, Verdict, Watch
from phextsync.sync.rights import LinkRights


class ShownChanges:
    """What one peer watches. `news`: the numbers of which there is something to say."""

    def __init__(
        self, replicas: ReplicaSet, rights: LinkRights, limits: Limits, ready: Callable[[], None]
    ) -> None:
        self.news: dict[int, None] = {}
        self._replicas = replicas
        self._rights = rights
        self._limits = limits
        self._ready = ready
        self._feeds: dict[int, tuple[str, CoordinateRange, ChangeFeed]] = {}
        self._ended: dict[int, Verdict] = {}

    def receive(self, watch: Watch) -> None:
        """The peer watches a range, or no longer. ProtocolError when it watches too many."""
        if not watch.ranges:
            self._end(watch.number)
            return
        count = len(self._feeds) + len(self._ended)
        if watch.number in self._feeds or count >= self._limits.watches_max:
            raise ProtocolError(
                f"expected at most {self._limits.watches_max} ranges to be watched under numbers "
                f"of their own, found {count + 1}"
            )
        phext, range_ = watch.phext, watch.ranges[0]
        verdict = self._verdict(phext, range_)
        if verdict is Verdict.GIVEN:
            replica, most = self._replicas.open(phext), self._limits.changed_max
            feed = replica.feed(range_, coordinates_max=most)
            self._feeds[watch.number] = phext, range_, feed
            feed.on_ready = partial(self._has_news, watch.number)
        else:
            self._ended[watch.number] = verdict
            self._has_news(watch.number)

    def keep_to(self, phext: str, _scope: Ranges) -> None:
        """One of the sides holds something else of a phext, or may see something else."""
        for number, (name, range_, _) in list(self._feeds.items()):
            if name == phext and (verdict := self._verdict(phext, range_)) is not Verdict.GIVEN:
                self._end(number)
                self._ended[number] = verdict
                self._has_news(number)

    def close(self) -> None:
        """The link is gone."""
        for number in list(self._feeds):
            self._end(number)

    def next_changed(self) -> Changed | None:
        """Return what there is to say next."""
        while self.news:
            number = next(iter(self.news))
            del self.news[number]
            if number in self._ended:
                return Changed(number, self._ended.pop(number))
            _, _, feed = self._feeds[number]
            change = feed.take()
            if change is not None:
                self.news[number] = None  # there may be more, after that of others
                missed = change.missed is not None
                return Changed(number, Verdict.GIVEN, missed, change.coordinates)
        return None

    def _verdict(self, phext: str, range_: CoordinateRange) -> Verdict:
        rights = self._rights.of(phext)
        if not holds(rights.show, range_):
            return Verdict.NOT_ALLOWED
        return Verdict.GIVEN if holds(rights.held, range_) else Verdict.NOT_HELD

    def _has_news(self, number: int) -> None:
        self.news[number] = None
        self._ready()

    def _end(self, number: int) -> None:
        if number in self._feeds:
            self._feeds.pop(number)[2].close()
        self._ended.pop(number, None)
        self.news.pop(number, None)
