"""What is written is on the disk in time, and the disk rests between commits."""

from hypothesis import given
from hypothesis import strategies as st

from phextsync.sync.timing import DURABLE_WITHIN_S, commit_pause_s


@given(st.floats(0, DURABLE_WITHIN_S / 3))
def test_what_is_written_as_a_commit_begins_is_durable_in_time(commit_s: float) -> None:
    assert commit_s + commit_pause_s(commit_s) + commit_s < DURABLE_WITHIN_S


@given(st.floats(0, 60))
def test_even_a_slow_disk_rests_between_commits(commit_s: float) -> None:
    assert commit_pause_s(commit_s) >= 0.01
