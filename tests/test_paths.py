"""Paths carry what is sent in order, and late; what is held back waits."""

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phextsync.errors import PhextsyncError
from phextsync.testing import Hold, Partition, Repair, Shape
from phextsync.testing.paths import Path, Paths


class _Timeline:
    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, time: float, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._calls, (time, self._number, call))

    def run(self, until: float = 1e9) -> None:
        while self._calls and self._calls[0][0] <= until:
            self.now, _, call = heapq.heappop(self._calls)
            call()
        self.now = until


def _path() -> tuple[_Timeline, Path]:
    timeline = _Timeline()
    return timeline, Path(timeline, Random(0), latency_s=0.5)


_shapes = st.tuples(
    st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.0, 1e3, 1e6]), st.floats(0, 0.5)
)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5000), _shapes), max_size=12))
def test_whatever_its_shape_a_path_keeps_the_order_and_takes_its_time(
    sent: list[tuple[float, int, tuple[float, float, float, float]]],
) -> None:
    timeline, path = _path()
    arrived: list[tuple[int, float]] = []
    for number, (pause_s, size, shape) in enumerate(sent):
        timeline.run(timeline.now + pause_s)
        path.latency_s, path.jitter_s, path.bytes_per_s, path.loss = shape
        least = timeline.now + path.latency_s + (size / path.bytes_per_s if shape[2] else 0)
        path.send(size, lambda n=number, t=least: arrived.append((n, timeline.now - t)))  # type: ignore[misc]
    timeline.run()
    assert [number for number, _ in arrived] == list(range(len(sent)))
    assert all(late >= -1e-6 for _, late in arrived)


def test_a_narrow_path_carries_so_many_bytes_a_second() -> None:
    timeline, path = _path()
    path.bytes_per_s = 100.0
    arrivals: list[float] = []
    for _ in range(3):
        path.send(50, lambda: arrivals.append(timeline.now))
    timeline.run()
    assert arrivals == [1.0, 1.5, 2.0]


_steps = st.one_of(
    st.just("send"),
    st.just("hold"),
    st.just("release"),
    st.floats(0, 0.7),
    st.floats(0, 1).map(str),
)


# Once a frame under way waited behind those that were sent after the path was closed.
@example(["send", "hold", "send", 0.6, "release"])
@example(["send", "hold", 0.6, "0.0", "send", "release", "hold", 0.1, "release"])
@given(st.lists(_steps, max_size=30))
def test_what_is_sent_or_under_way_waits_while_a_path_is_closed_and_keeps_the_order(
    steps: list[str | float],
) -> None:
    timeline, path = _path()
    sent = 0
    arrived: list[int] = []

    def arrive(number: int) -> None:
        assert path.is_open
        arrived.append(number)

    for step in steps:
        match step:
            case "send":
                path.send(1, partial(arrive, sent))
                sent += 1
            case "hold":
                path.gate(is_blocked=False, is_held=True)
            case "release":
                path.gate(is_blocked=False, is_held=False)
            case str(latency_s):
                path.latency_s = float(latency_s)
            case pause_s:
                timeline.run(timeline.now + pause_s)
    path.gate(is_blocked=False, is_held=False)
    timeline.run()
    assert arrived == list(range(sent))


def test_a_signal_comes_after_what_was_sent_and_is_lost_while_a_path_is_closed() -> None:
    timeline, path = _path()
    arrived: list[str] = []
    path.gate(is_blocked=False, is_held=True)
    path.signal(lambda: arrived.append("lost"))
    path.gate(is_blocked=False, is_held=False)
    path.jitter_s = 10.0
    path.send(1, lambda: arrived.append("sent"))
    path.signal(lambda: arrived.append("signal"))
    timeline.run()
    assert arrived == ["sent", "signal"]


def test_a_partition_closes_the_paths_between_groups_and_of_who_is_in_none() -> None:
    paths = Paths(_Timeline(), Random(0), [(0, 1), (0, 2), (1, 2), (2, 3)])

    def open_ways() -> list[tuple[int, int]]:
        ways = [(a, b) for a in range(4) for b in paths.peers(a)]
        return [way for way in ways if paths.between(*way).is_open]

    paths.apply(Partition(((0, 1), (2,))))
    assert open_ways() == [(0, 1), (1, 0)]
    paths.apply(Partition(((0, 1), (2,)), is_oneway=True))
    assert open_ways() == [(0, 1), (0, 2), (1, 0), (1, 2)]
    paths.apply(Hold(0, 1))
    assert not paths.are_open(0, 1)
    paths.apply(Repair())
    assert len(open_ways()) == 8
    assert paths.are_open(0, 1)


def test_a_partition_that_takes_the_place_of_another_frees_what_it_had_held_back() -> None:
    timeline = _Timeline()
    paths = Paths(timeline, Random(0), [(0, 1), (0, 2), (1, 2)])
    arrived: list[str] = []
    paths.apply(Partition(((0,), (1, 2))))
    paths.between(0, 1).send(1, lambda: arrived.append("before"))
    paths.apply(Partition(((0, 1), (2,))))
    paths.between(0, 1).send(1, lambda: arrived.append("after"))
    timeline.run()
    assert arrived == ["before", "after"]


def test_smooth_paths_have_their_first_shape_again() -> None:
    paths = Paths(_Timeline(), Random(0), [(0, 1)])
    first = paths.between(0, 1).latency_s
    paths.apply(Shape(0, 1, latency_s=9.0, jitter_s=1.0, bytes_per_s=1.0, loss=0.5))
    paths.smooth()
    path = paths.between(0, 1)
    assert (path.latency_s, path.jitter_s, path.bytes_per_s, path.loss) == (first, 0, 0, 0)


def test_nodes_that_are_no_pair_have_no_path() -> None:
    paths = Paths(_Timeline(), Random(0), [(0, 1)])
    with pytest.raises(PhextsyncError, match="expected two nodes of a pair, found 1 and 2"):
        paths.between(1, 2)
