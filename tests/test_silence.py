"""Who is silent is found by several that see most of a mesh, and by no clock alone."""

from collections.abc import Collection, Iterable

import pytest

from phextsync.placement.members import Member, is_absent, witnesses
from phextsync.placement.silence import Silence

_AFTER_S = 600
_LOOK_S = 5.0


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


class _Watched:
    """A node of a mesh that looks every few seconds."""

    def __init__(self, number: int, count: int) -> None:
        self.members = [_id(i) for i in range(count)]
        self.silence = Silence(_id(number))
        self.now = 1000.0

    def watch(self, seconds: float, here: Iterable[int], *, leap_s: float = 0.0) -> None:
        """Look for some time at these members; the clock leaps once before."""
        self.now += leap_s
        for _ in range(round(seconds / _LOOK_S)):
            self.now += _LOOK_S
            self.silence.look(self.now, self.members, {_id(i): self.now for i in here})

    def silent_s(self, number: int) -> float:
        return self.silence.silent_s(_id(number))


def test_silence_is_counted_from_the_last_word() -> None:
    watched = _Watched(0, 5)
    watched.watch(100, range(1, 5))
    assert watched.silent_s(4) == 0
    watched.watch(300, range(1, 4))
    assert watched.silent_s(4) == 300
    watched.watch(5, range(1, 5))
    assert watched.silent_s(4) == 0
    assert watched.silence.is_here(_id(4))


def test_a_member_that_is_there_is_not_silent_however_seldom_it_tells() -> None:
    watched = _Watched(0, 3)
    heard = {_id(1): 7.0, _id(2): 7.0}
    for now in range(0, 600, 5):
        watched.silence.look(now, watched.members, heard)
    assert watched.silent_s(1) == watched.silent_s(2) == 0
    assert watched.silence.is_here(_id(2))


def test_a_node_that_has_just_started_counts_from_its_start() -> None:
    watched = _Watched(0, 3)
    watched.watch(60, [1])
    assert watched.silent_s(2) == 55


@pytest.mark.parametrize("here", [[], [1]])
def test_a_node_that_is_cut_off_counts_nothing(here: list[int]) -> None:
    watched = _Watched(0, 4)
    watched.watch(100, [1, 2])
    watched.watch(10_000, here)
    assert not watched.silence.sees_most
    assert watched.silent_s(3) == watched.silent_s(2) + 95 == 95
    watched.watch(50, [1, 2])
    assert watched.silent_s(3) == 145


def test_a_machine_that_slept_takes_nobody_for_silent_since_then() -> None:
    watched = _Watched(0, 4)
    watched.watch(100, [1, 2, 3])
    watched.watch(5, [1, 2], leap_s=100_000)
    assert watched.silent_s(3) == 30
    watched.watch(5, [1, 2], leap_s=-100_000)
    assert watched.silent_s(3) == 30


def _saying(count: int, here: Collection[int], lost: int, seconds: float) -> list[int]:
    """Return who says that one is lost after the time has passed, and so much more."""
    saying = []
    for number in here:
        watched = _Watched(number, count)
        watched.watch(10, {*here, lost})
        watched.watch(_AFTER_S + seconds, here)
        if watched.silence.is_to_say(_id(lost), _AFTER_S):
            saying.append(number)
    return saying


def test_as_many_say_it_as_are_needed_and_more_if_these_do_not() -> None:
    assert _saying(9, range(8), 8, -5) == []
    first = _saying(9, range(8), 8, 0)
    assert len(first) == witnesses(9) == 3
    more = _saying(9, range(8), 8, 25)
    assert len(more) == 5
    assert {*first} < {*more}
    assert _saying(9, range(4), 8, 60) == []
    assert len(_saying(9, range(5), 8, 0)) == 3
    assert len(_saying(3, range(2), 2, 0)) == witnesses(3) == 2


def test_in_a_large_mesh_in_which_each_tells_seldom_nobody_is_silent_soon() -> None:
    watched = _Watched(0, 1000)
    watched.watch(10, range(1, 1000))
    watched.watch(140, range(1, 999))
    assert not any(watched.silence.is_to_say(_id(999), 60) for _ in range(2))
    watched.watch(10_000, range(1, 999))
    assert watched.silence.is_to_say(_id(999), 60)


def test_a_member_is_absent_when_enough_members_say_so() -> None:
    members = {_id(i): Member(_id(i), f"node-{i}") for i in range(9)}

    def absent(*said: tuple[int, int]) -> bool:
        silent = tuple((_id(by), after_s) for by, after_s in said)
        return is_absent(Member(_id(8), "lost", silent=silent), members, len(members), _AFTER_S)

    assert absent((0, 600), (1, 600), (2, 3600))
    assert not absent((0, 600), (1, 600))
    assert not absent((0, 600), (1, 600), (2, 599))
    assert not absent((0, 600), (1, 600), (8, 600))  # itself
    assert not absent((0, 600), (1, 600), (77, 600))  # no member


@pytest.mark.parametrize("count", range(2, 30))
def test_who_are_not_most_of_a_mesh_can_never_say_enough(count: int) -> None:
    half = range(count // 2)
    assert witnesses(count) <= count // 2 + 1
    assert _saying(count, half, count - 1, 100) == []
