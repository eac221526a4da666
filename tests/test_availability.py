"""With three copies, all is read and written while two nodes are off."""

from benchmarks.availability import two_off


def test_all_is_read_and_written_while_two_of_eight_nodes_are_off_and_nothing_is_lost() -> None:
    found = two_off(1, 8)
    assert found.reads == found.reads_answered == 14
    assert found.writes == found.writes_accepted == 14
