"""Paths: when what leaves one node arrives at another, or that it waits. Shared by all tiers.

A path is one direction between two nodes and keeps the order of what is sent on it, as TCP does:
what is lost is sent again, later, and what is held back arrives when the path is repaired. Only
where a `Shape` says so, something arrives twice or is overtaken. Time comes from a timeline and
chance from a generator; nothing here knows what is carried.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from random import Random
from typing import Final, Protocol, TypeAlias, assert_never

from phextsync.errors import PhextsyncError
from phextsync.testing.faults import Hold, Partition, Regions, Repair, Shape

PathAction: TypeAlias = Partition | Hold | Repair | Shape | Regions
"""The faults that concern paths alone."""

_LATENCY_S: Final = 0.0002
_RETRANSMISSION_S: Final = 0.2
_OVERTAKEN_S: Final = 0.03
_CUTS_KEPT: Final = 8


class Timeline(Protocol):
    """Virtual time."""

    @property
    def now(self) -> float: ...

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something at a time; what is due at once comes in the order of these calls."""


@dataclass(slots=True)
class _Parcel:
    """What was sent and has not arrived. `due` is infinite until it leaves."""

    size: int
    arrive: Callable[[], None]
    due: float = math.inf


@dataclass(slots=True)
class Path:
    """The way of what one node sends to another."""

    timeline: Timeline
    random: Random
    latency_s: float = _LATENCY_S
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    is_blocked: bool = False
    is_held: bool = False
    _busy_until: float = 0.0
    _last_due: float = 0.0
    _parcels: deque[_Parcel] = field(default_factory=deque)  # in the order of sending

    @property
    def is_open(self) -> bool:
        """Whether what is sent now goes on its way."""
        return not (self.is_blocked or self.is_held)

    def send(self, size: int, arrive: Callable[[], None]) -> None:
        """Call `arrive` when `size` bytes that leave now are there, after all that left before."""
        if self.reordering and self.random.random() < self.reordering:
            self.timeline.at(self.timeline.now + _OVERTAKEN_S, lambda: self.send(size, arrive))
            return
        if self.duplication and self.random.random() < self.duplication:
            arrive = partial(_twice, arrive)
        parcel = _Parcel(size, arrive)
        self._parcels.append(parcel)
        if self.is_open:
            self._launch(parcel)

    def signal(self, arrive: Callable[[], None]) -> None:
        """Call `arrive` when a goodbye that leaves now is there, after all that left before; never
        when the path is not open: nobody sends it again."""
        if self.is_open:
            self.timeline.at(max(self.timeline.now + self.latency_s, self._last_due), arrive)

    def gate(self, *, is_blocked: bool, is_held: bool) -> None:
        """Close the path or open it. When it opens, what should have arrived meanwhile is sent
        again, in order."""
        was_open = self.is_open
        self.is_blocked, self.is_held = is_blocked, is_held
        if was_open or not self.is_open:
            return
        self._last_due = 0.0
        for parcel in self._parcels:
            if self.timeline.now < parcel.due < math.inf:
                self._expect(parcel, parcel.due)
            else:
                self._launch(parcel)

    def _launch(self, parcel: _Parcel) -> None:
        start = max(self.timeline.now, self._busy_until)
        if self.bytes_per_s:
            start += parcel.size / self.bytes_per_s
        self._busy_until = start
        due = start + self.latency_s
        if self.jitter_s:
            due += self.random.random() * self.jitter_s
        while self.loss and self.random.random() < self.loss:
            due += _RETRANSMISSION_S
        self._expect(parcel, due)

    def _expect(self, parcel: _Parcel, due: float) -> None:
        parcel.due = self._last_due = max(due, self._last_due)
        self.timeline.at(parcel.due, self._hand_over)

    def _hand_over(self) -> None:
        parcels, now = self._parcels, self.timeline.now
        while self.is_open and parcels and parcels[0].due <= now:
            parcels.popleft().arrive()


class Paths:
    """The paths between the nodes of each pair, both ways; None: between any two, made when they
    are first asked for."""

    def __init__(
        self, timeline: Timeline, random: Random, pairs: Iterable[tuple[int, int]] | None
    ) -> None:
        self._timeline = timeline
        self._random = random
        self._is_any = pairs is None
        self._lasting: list[PathAction] = []  # what concerns also the paths that are not made
        ways = {way for pair in pairs or () for way in (pair, pair[::-1])}
        self._paths = {way: Path(timeline, random) for way in sorted(ways)}

    def between(self, source: int, target: int) -> Path:
        """Return the path from one node to another. PhextsyncError when they are no pair."""
        if (source, target) not in self._paths:
            if not self._is_any:
                raise PhextsyncError(f"expected two nodes of a pair, found {source} and {target}")
            way = source, target
            self._paths[way] = Path(self._timeline, self._random)
            for action in self._lasting:
                self._apply(action, {way: self._paths[way]})
        return self._paths[source, target]

    def peers(self, node: int) -> list[int]:
        """Return the nodes that one has paths to, in order."""
        return [target for source, target in self._paths if source == node]

    def are_open(self, one: int, other: int) -> bool:
        """Whether both ways between two nodes are open, so that one can dial the other."""
        return self.between(one, other).is_open and self.between(other, one).is_open

    def apply(self, action: PathAction) -> None:
        """Let a fault happen now."""
        if isinstance(action, Partition | Regions):
            self._lasting = [each for each in self._lasting if type(each) is not type(action)]
            self._lasting.append(action)
        elif isinstance(action, Repair):
            self._lasting = [each for each in self._lasting if isinstance(each, Regions)]
        self._apply(action, self._paths)

    def _apply(self, action: PathAction, paths: Mapping[tuple[int, int], Path]) -> None:
        match action:
            case Partition(groups, is_oneway):
                _partition(paths, groups, is_oneway=is_oneway)
            case Hold(source, target):
                path = self.between(source, target)
                path.gate(is_blocked=path.is_blocked, is_held=True)
            case Repair():
                for path in paths.values():
                    path.gate(is_blocked=False, is_held=False)
            case Shape(source, target):
                path = self.between(source, target)
                path.latency_s, path.jitter_s = action.latency_s, action.jitter_s
                path.bytes_per_s, path.loss = action.bytes_per_s, action.loss
                path.duplication, path.reordering = action.duplication, action.reordering
            case Regions(groups, latency_s, jitter_s):
                groups_of = group_of(groups)
                for (source, target), path in paths.items():
                    if groups_of.get(source) != groups_of.get(target):
                        path.latency_s, path.jitter_s = latency_s, jitter_s
            case _:
                assert_never(action)

    def smooth(self) -> None:
        """Let all paths have the shape that they had at first."""
        self._lasting = [each for each in self._lasting if not isinstance(each, Regions)]
        for source, target in self._paths:
            self.apply(Shape(source, target, _LATENCY_S))


def _partition(
    paths: Mapping[tuple[int, int], Path], groups: tuple[tuple[int, ...], ...], *, is_oneway: bool
) -> None:
    groups_of = group_of(groups)
    for (source, target), path in paths.items():
        is_open = is_open_between(groups_of, source, target, is_oneway=is_oneway)
        path.gate(is_blocked=not is_open, is_held=path.is_held)


def is_open_between(
    groups_of: Mapping[int, int], source: int, target: int, *, is_oneway: bool
) -> bool:
    """Whether frames go from one node to another where groups are cut apart. `is_oneway`: each
    group still hears those before it."""
    a, b = groups_of.get(source, -1), groups_of.get(target, -1)
    return a == b != -1 or (is_oneway and -1 < a < b)


@lru_cache(_CUTS_KEPT)
def group_of(groups: tuple[tuple[int, ...], ...]) -> Mapping[int, int]:
    """Return in which group each node is that is in one."""
    return {node: i for i, group in enumerate(groups) for node in group}


def _twice(arrive: Callable[[], None]) -> None:
    arrive()
    arrive()
