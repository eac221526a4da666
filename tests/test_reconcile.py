"""A comparison finds exactly what differs, ends, and refuses what is malformed."""

from hashlib import blake2b
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import ProtocolError
from phextsync.index import EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.ranges import union
from phextsync.sync import reconcile
from phextsync.sync.reconcile import Parameters, next_step
from tests.strategies import coordinates, near_coordinates, ranges

_SMALL = Parameters(branches=2, list_max=2)


def _index(entries: dict[Coordinate, int]) -> CoordinateIndex:
    index = CoordinateIndex(leaf_max=4)
    for coordinate, state in entries.items():
        index.set(coordinate, blake2b(coordinate.key + bytes([state]), digest_size=32).digest(), 1)
    return index


def _compare(
    ours: CoordinateIndex,
    theirs: CoordinateIndex,
    scope: list[CoordinateRange],
    parameters: Parameters,
) -> tuple[list[set[Coordinate]], int, int]:
    """Run a comparison; return what each side lacks of the other, and messages and bytes."""
    sides = (ours, theirs)
    needed: list[set[Coordinate]] = [set(), set()]
    message: bytes | None = reconcile.first_step(ours, scope, parameters)
    messages, size, turn = 0, 0, 1
    while message is not None:
        messages, size = messages + 1, size + len(message)
        assert messages < 64
        message, found = reconcile.next_step(sides[turn], scope, message, parameters)
        needed[turn].update(found.theirs, found.changed)
        needed[1 - turn].update(found.ours, found.changed)
        for range_ in found.our_ranges:
            needed[1 - turn].update(sides[turn].coordinates(range_))
        turn = 1 - turn
    return needed, messages, size


_entries = st.dictionaries(near_coordinates | coordinates, st.integers(0, 3), max_size=40)


@settings(deadline=None)
@given(
    _entries,
    _entries,
    st.sampled_from([Parameters(), _SMALL, Parameters(4, 8), Parameters(3, 2, bytes_max=40)]),
    ranges(near_coordinates),
)
def test_a_comparison_finds_exactly_what_differs_in_its_scope(
    ours: dict[Coordinate, int],
    theirs: dict[Coordinate, int],
    parameters: Parameters,
    scope: CoordinateRange,
) -> None:
    needed, _, _ = _compare(_index(ours), _index(theirs), [scope], parameters)
    differing = {c for c in {*ours, *theirs} if ours.get(c) != theirs.get(c) and c in scope}
    assert needed[0] == {c for c in differing if c in theirs}
    assert needed[1] == {c for c in differing if c in ours}


def test_a_message_keeps_to_its_size_however_much_differs() -> None:
    places = [
        Coordinate(1, 1, 1, 1, 1, 1, 1 + i // 900, 1 + i // 30 % 30, 1 + i % 30)
        for i in range(4500)
    ]
    sides = [_index(dict.fromkeys(places, state)) for state in (1, 2)]
    parameters = Parameters(bytes_max=1024)
    message: bytes | None = reconcile.first_step(sides[0], [EVERYTHING], parameters)
    turn, largest, changed = 1, 0, set[Coordinate]()
    while message is not None:
        largest = max(largest, len(message))
        message, found = next_step(sides[turn], [EVERYTHING], message, parameters)
        changed.update(found.changed)
        turn = 1 - turn
    assert changed == {*places}
    assert 1024 < largest <= 4 * 1024


def test_equal_indexes_notice_in_one_message() -> None:
    entries = {Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i): i % 7 for i in range(1, 900)}
    needed, messages, size = _compare(_index(entries), _index(entries), [EVERYTHING], Parameters())
    assert (needed, messages) == ([set(), set()], 1)
    assert size < 28


def _random_entries(count: int, seed: int) -> dict[Coordinate, int]:
    source = Random(seed)
    return {
        Coordinate(
            1, 1, 1, 1, 1, 1, 1 + i // 90_000, 1 + i // 300 % 300, 1 + i % 300
        ): source.randrange(200)
        for i in range(count)
    }


def test_few_differences_among_many_cost_few_bytes_and_messages() -> None:
    ours = _random_entries(20_000, 1)
    theirs = dict(ours)
    for coordinate in Random(2).sample(sorted(ours), 10):
        theirs[coordinate] = 255
    needed, messages, size = _compare(_index(ours), _index(theirs), [EVERYTHING], Parameters())
    assert needed[0] == needed[1] == {c for c in ours if ours[c] != theirs[c]}
    assert messages <= 6
    assert size < 10 * 900


def test_a_missing_block_costs_next_to_nothing_a_scroll() -> None:
    ours = _random_entries(20_000, 1)
    missing = sorted(ours)[5000:9000]
    theirs = {c: state for c, state in ours.items() if c not in set(missing)}
    needed, _, size = _compare(_index(theirs), _index(ours), [EVERYTHING], Parameters())
    assert needed[0] == set(missing)
    assert size < 2 * len(missing)


@pytest.mark.parametrize(
    ("before", "is_short"), [(27, False), (28, True), (32, True), (36, True), (37, False)]
)
def test_a_range_is_split_near_its_middle_where_a_bound_is_short(
    before: int, is_short: bool
) -> None:
    index = CoordinateIndex()
    for i in range(64):
        first, number = (1, i) if i < before else (2, i - before)
        index.set(Coordinate(first, 2, 2, 2, 2, 2, 2, 2, 2 + number), bytes([i]) * 32, 1)
    message = reconcile.first_step(CoordinateIndex(), [EVERYTHING], _SMALL, has_lists=False)
    answer, _ = reconcile.next_step(index, [EVERYTHING], message, _SMALL)
    assert answer is not None
    parts = [range_ for range_, _, _ in reconcile.read_parts(answer)]
    assert len(parts) == 2
    assert (parts[0].upper == Coordinate(2, *[1] * 8)) == is_short


def test_an_answer_has_told_all_when_it_is_lists_alone() -> None:
    few, many = ({Coordinate(*[i] * 9): 1 for i in range(1, end)} for end in (3, 9))
    root = reconcile.first_step(_index({}), [EVERYTHING], _SMALL, has_lists=False)
    told_all = [
        next_step(_index(e), [EVERYTHING], root, _SMALL)[1].has_told_all for e in (few, many)
    ]
    assert told_all == [True, False]
    answer, found = next_step(_index({}), [EVERYTHING], root, _SMALL)
    assert (answer, found.has_told_all) == (None, False)


def test_several_scopes_are_compared_and_nothing_between_them() -> None:
    ours = {Coordinate(*[i] * 9): 1 for i in range(1, 6)}
    scope = [CoordinateRange.parse("2.*"), CoordinateRange.parse("4.*")]
    needed, _, _ = _compare(_index(ours), _index({}), scope, _SMALL)
    assert needed == [set(), {Coordinate(*[2] * 9), Coordinate(*[4] * 9)}]
    count, digest = reconcile.scope_digest(_index(ours), scope)
    inside = _index({c: 1 for c in needed[1]})
    assert (count, digest) == reconcile.range_digest(inside, EVERYTHING)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b"\x00", "expected 8 bytes"),
        (b"\x03", "mode below 3, found 3"),
        (b"\x80", "mode below 3, found 128"),
        (b"\x28\x01", "at most 9 parts, found 10"),
        (b"\x40\x0a", "at most 9 parts, found 10"),
        (b"\x04\x00", "upper bound above"),
        (b"\x04\xe7\x07", "1 to 999"),
        (b"\x04\xff\xff\x01", "found more"),
        (b"\x00" + bytes(8) + b"\x00", "found a range above all"),
        (b"\x24" + b"\xff" * 13, "at most 13 bytes"),
        (b"\x01\xff\xff\xff\xff\x0f", "in a comparison, found 0"),
        (b"\x02" + bytes(23), "expected 16 bytes"),
        (b"\x01\x08" + bytes(8), "expected a list of entries"),
        (b"\x01\x12" + bytes(18), "expected a list of entries"),
        (b"\x01\x0b\xff\xff\x7f" + bytes(8), "expected a list of entries"),
        (b"\x01\x16" + b"\xff" * 14 + bytes(8), "expected a list of entries"),
    ],
)
def test_a_malformed_message_is_refused(message: bytes, found: str) -> None:
    with pytest.raises(ProtocolError, match=found):
        reconcile.next_step(CoordinateIndex(), [EVERYTHING], message, Parameters())


def test_an_empty_side_asks_for_everything_and_two_empty_ones_find_nothing() -> None:
    ours = _index({Coordinate(*[2] * 9): 1})
    needed, messages, size = _compare(_index({}), ours, [EVERYTHING], Parameters())
    assert (needed, messages, size) == ([{Coordinate(*[2] * 9)}, set()], 1, 2)
    message = reconcile.first_step(_index({}), [EVERYTHING], Parameters())
    answer, found = reconcile.next_step(_index({}), [EVERYTHING], message, Parameters())
    assert answer is None
    assert found.count == 0


@given(st.binary(max_size=60))
def test_any_bytes_are_answered_or_refused(message: bytes) -> None:
    index = _index({Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i): i for i in range(1, 100)})
    try:
        answer, _ = reconcile.next_step(index, [EVERYTHING], message, Parameters())
    except ProtocolError:
        return
    assert answer is None or len(answer) < 10_000


def test_bounds_that_go_back_are_refused() -> None:
    index = CoordinateIndex()
    upper = b"\x08\x81\x08" + bytes(8)  # a fingerprint up to 2.2.1/...
    assert next_step(index, [EVERYTHING], upper, Parameters())[1].count == 0
    for jump in (b"\x40\x00", b"\x40\x01\x00"):  # from 1.1.1/... or 2.1.1/... on
        message = b"\x08\x81\x08" + bytes(8) + jump + bytes(8)
        with pytest.raises(ProtocolError, match=r"expected a bound from 2\.2"):
            next_step(index, [EVERYTHING], message, Parameters())


@given(st.lists(ranges(near_coordinates), max_size=6), near_coordinates)
def test_ranges_made_disjoint_hold_the_same_coordinates(
    given_: list[CoordinateRange], coordinate: Coordinate
) -> None:
    found = union(given_)
    assert any(coordinate in range_ for range_ in found) == any(coordinate in r for r in given_)
    for before, after in pairwise(found):
        assert before.upper is not None
        assert before.upper < after.lower
