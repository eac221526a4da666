"""Two sides of a comparison find all that differs, in few turns, whatever was made to hide it."""

import json
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import ProtocolError
from phextsync.index import EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.sync.comparison import AUDIT, FOUND, RANGES, SKETCH, Comparison, Turn
from phextsync.sync.reconcile import Parameters

_VECTORS = Path(__file__).parent / "vectors" / "comparison.json"


def _place(number: int) -> Coordinate:
    return Coordinate(
        1, 1, 1, 1, 1, 1, 1 + number // 90_000, 1 + number // 300 % 300, 1 + number % 300
    )


def _fingerprint(number: int, state: int) -> bytes:
    return blake2b(b"%d %d" % (number, state), digest_size=32).digest()


def _index(states: dict[int, int]) -> CoordinateIndex:
    index = CoordinateIndex()
    for number, state in states.items():
        index.set(_place(number), _fingerprint(number, state), 1)
    return index


class _Pair:
    """Two sides that take turns until the empty body; each change is applied at the end."""

    def __init__(
        self,
        ours: CoordinateIndex,
        theirs: CoordinateIndex,
        scope: CoordinateRange = EVERYTHING,
        parameters: Parameters | None = None,
    ) -> None:
        self.indexes = (ours, theirs)
        self.sides = [
            Comparison(index, [scope], parameters or Parameters(), bytes([i]) * 16)
            for i, index in enumerate(self.indexes)
        ]
        self.needed: list[set[Coordinate]] = [set(), set()]  # what each side lacks of the other
        self.turns: list[Turn] = []

    def run(self, turn: Turn) -> "_Pair":
        """Let the second side answer `turn`, and so on."""
        who = 1
        while not turn.is_last:
            self.turns.append(turn)
            assert len(self.turns) < 80
            turn = self.sides[who].answer(turn.form, turn.body)
            self.note(who, turn)
            who = 1 - who
        self.turns.append(turn)
        return self

    def note(self, who: int, turn: Turn) -> None:
        if turn.found is None:
            return
        self.needed[who].update(turn.found.theirs, turn.found.changed)
        self.needed[1 - who].update(turn.found.ours, turn.found.changed)
        for range_ in turn.found.our_ranges:
            self.needed[1 - who].update(self.indexes[who].coordinates(range_))

    @property
    def forms(self) -> list[int]:
        return [turn.form for turn in self.turns if turn.body]

    def differing(self) -> list[set[Coordinate]]:
        """Return what each side lacks of the other, entry by entry."""
        first, second = (
            {c: fingerprint for c, fingerprint, _ in index.entries()} for index in self.indexes
        )
        return [
            {c for c, fingerprint in there.items() if here.get(c) != fingerprint}
            for here, there in ((first, second), (second, first))
        ]


_states = st.builds(
    lambda count, changed, seed: {
        i: Random(f"{seed} {i}").randrange(3) if i % 100 < changed else 0 for i in range(count)
    },
    st.sampled_from([0, 1, 40, 100, 300]),
    st.integers(0, 100),
    st.integers(0, 9),
)


@settings(max_examples=150, deadline=None)
@given(_states, _states, st.booleans(), st.booleans(), st.booleans())
def test_both_sides_together_find_exactly_what_differs(
    ours: dict[int, int], theirs: dict[int, int], is_known: bool, is_audit: bool, is_small: bool
) -> None:
    parameters = Parameters(2, 2, bytes_max=500) if is_small else Parameters()
    pair = _Pair(_index(ours), _index(theirs), parameters=parameters)
    first = pair.sides[0]
    differ = ours != theirs
    if is_audit:
        pair.run(first.begin_audit())
    else:
        pair.run(first.begin(len(theirs) if is_known and differ else None))
    assert pair.needed == pair.differing()


@pytest.mark.parametrize(
    ("count", "parameters"), [(1000, Parameters()), (80, Parameters(list_max=100))]
)
def test_equal_sides_say_one_message_and_the_end(count: int, parameters: Parameters) -> None:
    states = dict.fromkeys(range(count), 1)
    pair = _Pair(_index(states), _index(states), parameters=parameters)
    pair.run(pair.sides[0].begin(None))
    assert [len(turn.body) for turn in pair.turns] == [25, 0]


def _with_changes(count: int, changes: int) -> tuple[CoordinateIndex, CoordinateIndex]:
    states = dict.fromkeys(range(count), 1)
    changed = Random(changes).sample(range(count), changes)
    return _index(states), _index({**states, **dict.fromkeys(changed, 2)})


def test_a_known_difference_of_few_is_found_in_one_round_trip() -> None:
    pair = _Pair(*_with_changes(5000, 10))
    pair.run(pair.sides[0].begin(5000))
    assert pair.forms == [SKETCH, FOUND]
    assert sum(len(turn.body) for turn in pair.turns) < 1300
    assert pair.needed == pair.differing()


def test_a_root_that_differs_is_answered_by_a_sketch() -> None:
    pair = _Pair(*_with_changes(5000, 10))
    pair.run(pair.sides[0].begin(None))
    assert pair.forms == [RANGES, SKETCH, FOUND]
    assert pair.needed == pair.differing()


def test_a_hundred_differences_take_one_top_up_of_the_other_side() -> None:
    pair = _Pair(*_with_changes(5000, 100))
    pair.run(pair.sides[0].begin(5000))
    assert pair.forms == [SKETCH, SKETCH, FOUND]
    assert sum(len(turn.body) for turn in pair.turns) < 7000
    assert pair.needed == pair.differing()


@pytest.mark.parametrize(("count", "more"), [(64, 128), (2048, 4096), (2049, None), (4096, None)])
def test_cells_that_do_not_suffice_are_answered_by_twice_as_many_up_to_a_most(
    count: int, more: int | None
) -> None:
    ours, theirs = _with_changes(8000, 4000)
    side = Comparison(ours, [EVERYTHING], Parameters(), bytes(16))
    side.begin(8000)
    turn = side.answer(SKETCH, theirs.sketch_cells(count))
    if more is None:
        assert turn.form == RANGES
    else:
        assert (turn.form, turn.body) == (SKETCH, ours.sketch_cells(more))


def test_where_much_differs_ranges_are_compared_at_once() -> None:
    pair = _Pair(*_with_changes(2000, 1500))
    pair.run(pair.sides[0].begin(2000))
    assert pair.forms[:2] == [SKETCH, RANGES]
    assert pair.needed == pair.differing()
    pair = _Pair(_index(dict.fromkeys(range(2000), 1)), _index({1: 1}))
    pair.run(pair.sides[0].begin(1))
    assert set(pair.forms) == {RANGES}


def test_a_sketch_serves_only_two_that_hold_the_whole_phext() -> None:
    first, second = _with_changes(500, 5)
    pair = _Pair(first, second, CoordinateRange.parse("1.*"))
    pair.run(pair.sides[0].begin(500))
    assert set(pair.forms) == {RANGES}
    assert pair.needed == pair.differing()


def test_a_change_that_the_sketch_cannot_see_is_found_by_ranges() -> None:
    first, second = _with_changes(500, 5)
    other = bytearray(first.fingerprint_of(_place(7)) or b"")
    other[7] ^= 1  # the first 61 bits are the same
    second.set(_place(7), bytes(other), 1)
    pair = _Pair(first, second)
    pair.run(pair.sides[0].begin(500))
    assert pair.forms[:3] == [SKETCH, FOUND, RANGES]
    assert pair.needed == pair.differing()
    assert _place(7) in pair.needed[0]


def test_sums_that_were_made_equal_are_told_apart_by_an_audit() -> None:
    first, second = _with_changes(500, 0)
    for number, change in ((3, 1), (300, -1)):
        old = int.from_bytes(first.fingerprint_of(_place(number)) or b"", "big")
        second.set(_place(number), (old + change).to_bytes(32, "big"), 1)
    assert first.fingerprint() == second.fingerprint()
    pair = _Pair(first, second)
    pair.run(pair.sides[0].begin(None))
    assert pair.needed == [set(), set()]
    pair = _Pair(first, second)
    pair.run(pair.sides[0].begin_audit())
    assert pair.needed == pair.differing() == [{_place(3), _place(300)}] * 2


def test_fingerprints_that_begin_alike_are_told_apart_by_an_audit() -> None:
    first, second = _with_changes(500, 0)
    other = bytearray(first.fingerprint_of(_place(7)) or b"")
    other[31] ^= 1
    second.set(_place(7), bytes(other), 1)
    pair = _Pair(first, second)
    pair.run(pair.sides[0].begin(500))
    assert pair.needed == [set(), set()]
    pair = _Pair(first, second)
    pair.run(pair.sides[0].begin_audit())
    assert pair.needed == pair.differing() == [{_place(7)}] * 2


def test_an_index_that_changes_meanwhile_costs_a_comparison_of_ranges() -> None:
    pair = _Pair(*_with_changes(500, 5))
    first, second = pair.sides
    turn = second.answer(*_parts(first.begin(500)))
    assert turn.form == FOUND
    pair.indexes[0].set(_place(9), bytes(32), 1)
    pair.note(1, turn)
    answer = first.answer(*_parts(turn))
    assert answer.form == RANGES
    pair.run(answer)
    assert pair.needed == pair.differing()


def _parts(turn: Turn) -> tuple[int, bytes]:
    return turn.form, turn.body


@pytest.mark.parametrize(
    ("form", "body"),
    [(FOUND, bytes(24)), (AUDIT, bytes(15)), (4, b"x"), (SKETCH, bytes(100)), (SKETCH, bytes(160))],
)
def test_what_is_malformed_or_out_of_turn_is_refused(form: int, body: bytes) -> None:
    side = Comparison(_with_changes(500, 0)[0], [EVERYTHING], Parameters(), bytes(16))
    with pytest.raises(ProtocolError, match="expected"):
        side.answer(form, body)


def test_cells_that_do_not_grow_and_a_second_audit_are_refused() -> None:
    index = _with_changes(500, 0)[0]
    side = Comparison(index, [EVERYTHING], Parameters(), bytes(16))
    turn = side.begin(500)
    for body in (turn.body[160:], turn.body[160:] + b"half a cell"):
        with pytest.raises(ProtocolError, match=r"^expected more than 40 cells, found 40$"):
            side.answer(SKETCH, body)
    side = Comparison(index, [EVERYTHING], Parameters(), bytes(16))
    side.answer(AUDIT, bytes(16))
    with pytest.raises(ProtocolError, match="another turn"):
        side.answer(AUDIT, bytes(16))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.binary(min_size=1, max_size=300)), max_size=6))
def test_any_turns_are_answered_or_refused(turns: list[tuple[int, bytes]]) -> None:
    side = Comparison(_index(dict.fromkeys(range(100), 1)), [EVERYTHING], Parameters(), bytes(16))
    for form, body in turns:
        try:
            side.answer(form, body)
        except ProtocolError:
            return


def test_the_worked_examples_come_out_byte_for_byte() -> None:
    for example in json.loads(_VECTORS.read_text())["examples"]:
        ours, theirs = (_index(dict(side)) for side in example["states"])
        pair = _Pair(ours, theirs)
        first = pair.sides[0]
        pair.run(first.begin_audit() if example["is_audit"] else first.begin(example["announced"]))
        assert [[turn.form, turn.body.hex()] for turn in pair.turns] == example["turns"]
