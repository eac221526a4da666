"""Whom to dial next, of nodes of which one is enough."""

import pytest

from phextsync.node.turns import Turns

_NODES = [bytes([number]) * 16 for number in range(7)]


def test_two_are_dialled_at_first_and_one_more_whenever_all_were_silent_for_a_while() -> None:
    turns = Turns(_NODES[:4])
    assert turns.take(10.0) == _NODES[:2]
    assert turns.due == pytest.approx(10.05)
    assert turns.take(10.04) == []
    assert turns.take(10.05) == [_NODES[2]]
    assert turns.take(10.11) == [_NODES[3]]
    assert turns.due == pytest.approx(11.11)
    assert turns.take(11.2) == []


def test_after_one_that_fails_the_next_is_dialled_at_once_and_only_that() -> None:
    turns = Turns(_NODES)
    turns.take(10.0)
    turns.failed(10.01, _NODES[0])
    turns.failed(10.02, _NODES[0])
    assert turns.take(10.02) == [_NODES[2]]
    assert turns.due == pytest.approx(10.07)


def test_at_most_four_are_dialled_that_have_no_answer_yet() -> None:
    turns = Turns(_NODES)
    taken = [node_id for step in range(10) for node_id in turns.take(10 + step / 20)]
    assert taken == _NODES[:4]
    assert turns.due == pytest.approx(10.5)
    assert turns.take(10.5) == [_NODES[4]]
    turns.failed(10.51, _NODES[3])
    turns.failed(10.51, _NODES[2])
    assert turns.take(10.51) == [_NODES[5]]


@pytest.mark.parametrize(("round_trip_s", "rest_s"), [(0.001, 0.05), (0.04, 0.12), (3.0, 0.25)])
def test_a_dial_has_about_the_time_that_one_takes(round_trip_s: float, rest_s: float) -> None:
    turns = Turns(_NODES, round_trip_s)
    turns.take(10.0)
    assert turns.due == pytest.approx(10 + rest_s)


def test_where_nobody_is_to_be_dialled_nobody_is_waited_for() -> None:
    turns = Turns([])
    assert turns.take(10.0) == []
    assert turns.due <= 10
