"""What a node keeps of how long things took."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.store.durations import BOUNDS_S, Durations


@given(st.lists(st.floats(0, 10)))
def test_every_duration_is_in_the_buckets_at_and_above_it(found: list[float]) -> None:
    times = Durations()
    for seconds in found:
        times.add(seconds)
    expected = [sum(seconds <= bound for seconds in found) for bound in BOUNDS_S]
    assert [count for _, count in times.buckets()] == [*expected, len(found)]
    assert (times.count, times.max_s) == (len(found), max(found, default=0.0))
    assert times.sum_s == pytest.approx(sum(found))
