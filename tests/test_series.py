"""What a process takes by time: what grows is told."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sims.series import Sample, growing

_SAMPLE = Sample("still", 7, 0.0, 0, 60.0, 40, 7, 5.0)


def _series(of: Callable[[float], Sample], minutes: int = 20) -> list[Sample]:
    return [replace(of(minute), life_s=60.0 * minute) for minute in range(minutes)]


def test_what_stays_the_same_does_not_grow() -> None:
    told, found = growing(_series(lambda _: _SAMPLE), warm_s=300)
    assert len(told) == 1
    assert "14 minutes" in told[0]
    assert found == []


@pytest.mark.parametrize(
    ("name", "told"),
    [("memory_mb", "other_mb"), ("descriptors", "descriptors"), ("threads", "threads")],
)
def test_what_grows_after_it_is_warm_is_told(name: str, told: str) -> None:
    def grown(minute: float) -> Sample:
        return replace(_SAMPLE, **{name: getattr(_SAMPLE, name) * (1 + minute / 5)})

    assert [told in line for line in growing(_series(grown), warm_s=300)[1]] == [True]
    assert growing(_series(grown), warm_s=3000) == ([], [])


def test_what_open_scrolls_are_counted_to_take_is_left_out() -> None:
    def grown(minute: float) -> Sample:
        return replace(_SAMPLE, memory_mb=60.0 + minute, open_mb=10.0 + minute)

    assert growing(_series(grown), warm_s=300)[1] == []


def test_what_grows_while_it_warms_up_and_the_disk_are_not_told() -> None:
    def warming(minute: float) -> Sample:
        return replace(_SAMPLE, memory_mb=50.0 + 10 * min(minute, 5), disk_mb=5.0 + minute)

    assert growing(_series(warming), warm_s=300)[1] == []


def test_each_process_is_compared_with_itself() -> None:
    first = _series(lambda _: _SAMPLE)
    second = _series(lambda _: replace(_SAMPLE, pid=8, memory_mb=90.0))
    told, found = growing([*first, *second], warm_s=300)
    assert (len(told), found) == (2, [])
