"""Watching: changes in ranges that are not held here, as holders tell of them.

Each part of a range that is watched is told of by one holder, the nearest of those that are linked,
once for all who watch that range.
Whenever nobody told of a part, what changed there meanwhile was missed, and that is said.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.ranges import Ranges, intersection, union, without
from phextsync.replica.changes import Change
from phextsync.replica.holding import Holding
from phextsync.sync.clock import Clock
from phextsync.sync.fetching import Fetching
from phextsync.sync.link import Link
from phextsync.sync.messages import ASK_MINOR, Changed, Verdict, Watch

_FETCHED_MAX: Final = 256  # scrolls that are fetched at once; of more, some were missed


@dataclass(slots=True, eq=False)
class Watched:
    """A range that is watched. `pushes`: what is called for each who watches it. `parts`: what is
    told under which number on which link. `refused`: links whose peers would not tell, each until
    it tells anew what it holds. `alone`: what nobody tells of. `fetched`: what has changed and is
    not here yet."""

    phext: str
    range: CoordinateRange
    pushes: dict[object, Callable[[Change], None]] = field(default_factory=dict)
    parts: dict[int, tuple[Link, CoordinateRange]] = field(default_factory=dict)
    refused: dict[int, None] = field(default_factory=dict)
    alone: Ranges = ()
    fetched: set[Coordinate] = field(default_factory=set)

    def push(self, change: Change) -> None:
        """Tell all who watch it."""
        for push in list(self.pushes.values()):
            push(change)


class Watching:
    """The ranges that users of a node watch, over all links."""

    def __init__(
        self,
        links: Mapping[int, Link],
        clock: Clock,
        holding: Holding,
        fetching: Fetching,
        *,
        watches_max: int,
    ) -> None:
        self._links = links
        self._watches_max = watches_max
        self._clock = clock
        self._holding = holding
        self._fetching = fetching
        self._watched: dict[tuple[str, CoordinateRange], Watched] = {}
        self._numbers: dict[int, Watched] = {}
        self._number = 0

    def watch(
        self, phext: str, range_: CoordinateRange, push: Callable[[Change], None]
    ) -> Callable[[], None]:
        """Call `push` for what changes in a range where it is not held here; return what ends that.
        What has changed is here as a guest by then."""
        watched = self._watched.get((phext, range_))
        if watched is None:
            watched = self._watched[phext, range_] = Watched(phext, range_)
            self._plan(watched)
        if watched.alone:
            push(Change(phext, (), missed=range_))
        who = object()
        watched.pushes[who] = push
        return partial(self._unwatch, watched, who)

    def _unwatch(self, watched: Watched, who: object) -> None:
        if watched.pushes.pop(who, None) is not None and not watched.pushes:
            del self._watched[watched.phext, watched.range]
            for number in list(watched.parts):
                self._drop(watched, number)
            self.look()  # there is room for others

    def _drop(self, watched: Watched, number: int) -> None:
        link, _ = watched.parts.pop(number)
        del self._numbers[number]
        if link.is_ready:
            link.outbox.say(Watch(number, watched.phext, ()))
            link.ready()

    # -- who tells of what -----------------------------------------------------------------

    def look(self) -> None:
        """A peer has come or gone, or somebody holds something else."""
        for watched in list(self._watched.values()):
            for number in [each for each in watched.refused if each not in self._links]:
                del watched.refused[number]
            self._plan(watched)

    def told_anew(self, link: Link) -> None:
        """A peer tells what it holds."""
        for watched in self._watched.values():
            watched.refused.pop(link.number, None)

    def _plan(self, watched: Watched) -> None:
        phext, holding = watched.phext, self._holding
        if holding.holds(phext, watched.range) and not watched.parts and not watched.alone:
            return
        wanted = without((watched.range,), holding.of(phext))
        for number, (link, part) in list(watched.parts.items()):
            is_wanted = intersection(wanted, (part,)) == (part,)
            if self._links.get(link.number) is not link or not link.is_ready or not is_wanted:
                self._drop(watched, number)
        rest = without(wanted, [part for _, part in watched.parts.values()])
        begun: list[CoordinateRange] = []
        for link in sorted(filter(_tells, self._links.values()), key=_distance):
            rights = link.rights
            told = intersection(rights.told.get(phext, ()), rights.of(phext).bring)
            here = () if link.number in watched.refused else intersection(rest, told)
            here = here[: self._room(link)] if here else ()
            for part in here:
                self._begin(watched, link, part)
            begun += here
            rest = without(rest, here)
        watched.alone = rest
        if begun:  # a part that nobody told of for a while
            watched.push(Change(phext, (), missed=watched.range))

    def _room(self, link: Link) -> int:
        """Return how many parts more a peer would tell of: one that is asked for more leaves."""
        begun = (by for watched in self._watched.values() for by, _ in watched.parts.values())
        return self._watches_max - sum(by is link for by in begun)

    def _begin(self, watched: Watched, link: Link, part: CoordinateRange) -> None:
        self._number += 1
        self._numbers[self._number] = watched
        watched.parts[self._number] = link, part
        link.outbox.say(Watch(self._number, watched.phext, (part,)))
        link.ready()

    # -- what is told ----------------------------------------------------------------------

    def receive(self, link: Link, changed: Changed) -> None:
        """A peer tells of changes. ProtocolError for what nobody asked to be told."""
        watched = self._numbers.get(changed.number)
        if watched is None:  # it is watched no longer, which the peer did not know
            return
        by, part = watched.parts[changed.number]
        if by is not link or not all(place in part for place in changed.coordinates):
            raise ProtocolError("expected changes of what is watched, found others")
        if changed.verdict is not Verdict.GIVEN:
            link.outbox.check()  # each time others are asked, and it may be asked again
            watched.refused[link.number] = None
            del watched.parts[changed.number], self._numbers[changed.number]
            self._plan(watched)
            return
        is_current = partial(self._holding.is_current, watched.phext)
        news = [p for p in changed.coordinates if p not in watched.fetched and not is_current(p)]
        if changed.are_missed or len(watched.fetched) + len(news) > _FETCHED_MAX:
            watched.push(Change(watched.phext, (), missed=watched.range))
            return
        watched.fetched.update(news)
        self._fetch(watched, link, news)

    def _fetch(self, watched: Watched, link: Link, places: Iterable[Coordinate]) -> None:
        """Have here what has changed, and say so; of what is a guest, and fresh, its host tells."""
        phext, origin, label = watched.phext, link.peer_id, link.name
        for place in places:

            def done(is_here: bool, place: Coordinate = place) -> None:
                known = Change(phext, (place,), origin, label)
                missed = Change(phext, (), missed=CoordinateRange.of(place))
                watched.fetched.discard(place)
                watched.push(known if is_here else missed)

            self._fetching.fetch(self._clock.now, phext, place, done)

    def statistics(self) -> tuple[int, Ranges]:
        """Return how many ranges are watched, and of what nobody tells."""
        watched = self._watched.values()
        return len(watched), union(part for each in watched for part in each.alone)


def _tells(link: Link) -> bool:
    return link.is_ready and link.hello is not None and link.hello.minor >= ASK_MINOR


def _distance(link: Link) -> tuple[float, int]:
    round_trip_s = link.heartbeat.round_trip_s
    return inf if round_trip_s is None else round_trip_s, link.number
