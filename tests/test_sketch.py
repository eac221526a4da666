"""A sketch tells exactly what differs, or that it cannot; and what it names is proven."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import ProtocolError
from phextsync.index import SKETCH_CELLS, Coordinate, CoordinateIndex
from phextsync.sync import sketch
from phextsync.sync.reconcile import Differences
from tests.index_model import pack_cell
from tests.strategies import coordinates

_P = 2**61 - 1


def _index(entries: dict[Coordinate, bytes]) -> CoordinateIndex:
    index = CoordinateIndex()
    for coordinate, fingerprint in entries.items():
        index.set(coordinate, fingerprint, 1)
    return index


def _coordinate(source: Random) -> Coordinate:
    return Coordinate(*(source.randint(1, 999) for _ in range(9)))


def _pair(
    differences: int, seed: int
) -> tuple[CoordinateIndex, CoordinateIndex, list[set[Coordinate]]]:
    """Return two indexes and what only the first, only the second, both have that differs."""
    source = Random(seed)
    first, second = CoordinateIndex(), CoordinateIndex()
    sides: list[set[Coordinate]] = [set(), set(), set()]
    for i in range(differences + 50):
        coordinate, fingerprint = _coordinate(source), source.randbytes(32)
        kind = i % 4 if i < differences else 4
        if kind != 1:
            first.set(coordinate, fingerprint, 1)
        if kind != 0:
            second.set(coordinate, fingerprint if kind in (1, 4) else source.randbytes(32), 1)
        if kind < 4:
            sides[min(kind, 2)].add(coordinate)
    return first, second, sides


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 2**32), st.sampled_from([0, 1, 40, 200, 600]))
def test_what_is_read_is_exactly_what_differs(differences: int, seed: int, cells: int) -> None:
    first, second, sides = _pair(differences, seed)
    found = sketch.read(first, second.sketch_cells(cells))
    if found is not None and (cells or differences == 0):
        assert [set(found.ours), set(found.theirs), set(found.changed)] == sides
    if differences * 2 + 30 <= cells:
        assert found is not None


def test_scrolls_whose_coordinates_have_equal_parts_are_not_mixed_up() -> None:
    # Sums of v * hi and v * lo over keys with one lo would look like one key with that lo.
    source = Random(1)
    for _ in range(300):
        ours, theirs = CoordinateIndex(), CoordinateIndex()
        expected = set()
        for book in source.sample(range(1, 999), 20):
            coordinate = Coordinate(*(book, *(source.randint(1, 3) for _ in range(5)), 4, 4, 5))
            expected.add(coordinate)
            theirs.set(coordinate, source.randbytes(32), 1)
        found = ours.sketch_difference(theirs.sketch_cells(40))
        assert found is None or (found[0], sorted(found[1]), found[2]) == ([], sorted(expected), [])


def test_ten_differences_are_read_from_the_opening_nearly_always() -> None:
    failed = 0
    for seed in range(200):
        first, second, sides = _pair(10, seed)
        _, cells = sketch.split_opening(sketch.opening(second))
        found = sketch.read(first, cells)
        failed += found is None
        assert found is None or set(found.changed) == sides[2]
    assert failed <= 4


@pytest.mark.parametrize("differences", [20, 100, 700, 2500])
def test_the_strata_tell_how_many_cells_suffice(differences: int) -> None:
    enough = 0
    for seed in range(20):
        first, second, _ = _pair(differences, seed)
        ours, theirs = first.sketch_strata(), second.sketch_strata()
        assert 0.5 * differences < sketch.estimate(ours, theirs) < 2 * differences
        cells = sketch.cells_for(ours, theirs, 1 << 20)
        assert cells is None or differences < cells <= 4 * differences + 64
        enough += cells is not None and sketch.read(first, second.sketch_cells(cells)) is not None
    assert enough >= 15 if differences < 2000 else enough >= 5


def _strata(unequal: list[int]) -> tuple[bytes, bytes]:
    """Return two strata of which so many buckets of each level are not equal."""
    return bytes(160), b"".join(b"\1" * count + bytes(16 - count) for count in unequal)


def _log_likelihood(unequal: list[int], differences: float) -> float:
    """Of seeing that, when a level has half of what the one above it has and the last the rest;
    a bucket of one byte stays equal when nothing fell into it, or by chance."""
    shares = [2.0 ** -(level + 1) for level in range(9)] + [2.0**-9]
    total = 0.0
    for seen, share in zip(unequal, shares, strict=True):
        untouched = math.exp(-differences * share / 16)
        equal = untouched + (1 - untouched) / 256
        total += (16 - seen) * math.log(equal)
        total += seen * math.log(1 - equal) if seen else 0.0
    return total


@given(st.lists(st.integers(0, 16), min_size=10, max_size=10))
def test_an_estimate_is_the_most_likely_number_of_differences(unequal: list[int]) -> None:
    found = sketch.estimate(*_strata(unequal))
    assert (found == 0) == (not any(unequal))
    if found:
        best = _log_likelihood(unequal, found)
        for other in (0.97 * found, 1.03 * found):
            if math.exp(-1) < other < math.exp(16):
                assert _log_likelihood(unequal, other) < best + 1e-9


def test_cells_are_a_little_more_than_what_reading_takes() -> None:
    for level in range(1, 9):
        strata = _strata([16] * level + [8] + [1] * (9 - level))
        found = sketch.estimate(*strata)
        entries = math.ceil(4 * found)
        wanted = int(1.8 * found) + 8
        if found * 1.45 > SKETCH_CELLS:
            assert sketch.cells_for(*strata, 1 << 30) is None
        else:
            assert sketch.cells_for(*strata, entries) == min(max(64, wanted), SKETCH_CELLS)
            assert sketch.cells_for(*strata, entries - 1) is None
    assert sketch.cells_for(bytes(160), bytes(160), 0) == 64


def test_an_opening_may_have_no_cells_and_not_less_than_strata() -> None:
    assert sketch.split_opening(bytes(160)) == (bytes(160), b"")
    assert sketch.split_opening(bytes(160) + b"cells") == (bytes(160), b"cells")
    with pytest.raises(ProtocolError, match="expected strata of 160 bytes, found 159"):
        sketch.split_opening(bytes(159))


def test_equal_strata_are_of_no_difference_and_full_ones_of_too_many() -> None:
    index = _pair(100, 1)[0]
    assert sketch.estimate(index.sketch_strata(), index.sketch_strata()) == 0
    assert sketch.cells_for(bytes(160), b"\1" * 160, 1 << 30) is None
    assert sketch.cells_for(index.sketch_strata(), bytes(160), 150) is None


def test_a_sketch_is_worth_it_among_many_of_which_few_differ() -> None:
    assert sketch.is_worth(64, 64)
    assert sketch.is_worth(100, 75)
    assert sketch.is_worth(75, 100)
    assert not sketch.is_worth(100, 74)
    assert sketch.is_worth(10**6, 10**6 - int(SKETCH_CELLS / 1.45))
    assert not sketch.is_worth(10**6, 10**6 - int(SKETCH_CELLS / 1.45) - 1)
    assert sketch.is_worth(10**6, 10**6 - 2000)
    assert not sketch.is_worth(63, 100)
    assert not sketch.is_worth(0, 10**6)
    assert not sketch.is_worth(10**6, 10**6 - 3000)
    assert not sketch.is_worth(1000, 700)


@given(st.dictionaries(coordinates, st.binary(min_size=32, max_size=32), max_size=20), st.data())
def test_what_is_named_is_proven_by_the_rest(
    entries: dict[Coordinate, bytes], data: st.DataObject
) -> None:
    index = _index(entries)
    named = data.draw(st.lists(st.sampled_from(sorted(entries)))) if entries else []
    found = Differences([], [], sorted(set(named)), [])
    other = {c: f for c, f in entries.items() if c not in found.changed}
    body = sketch.name_found(index, found)
    assert sketch.is_all(index, body)
    assert sketch.is_all(_index(other), body)
    if other:
        less = dict(list(other.items())[1:])
        assert not sketch.is_all(_index(less), body)
        coordinate = next(iter(other))
        assert not sketch.is_all(_index({**other, coordinate: bytes(32)}), body) or (
            other[coordinate] == bytes(32)
        )


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (bytes(22), "found 22 bytes"),
        (bytes(23 * (SKETCH_CELLS + 1)), "up to 4096 cells"),
        (pack_cell([_P, 0, 0]), "below 2\\^61 - 1"),
        (pack_cell([0, _P, 0]), "below 2\\^61 - 1"),
        (bytes(23) + pack_cell([0, 0, _P]), "in cell 1"),
        (bytes(22) + b"\1", "in cell 0"),
    ],
)
def test_bytes_that_are_no_cells_are_refused(cells: bytes, found: str) -> None:
    with pytest.raises(ProtocolError, match=found):
        sketch.read(CoordinateIndex(), cells)


@given(st.lists(st.integers(0, _P - 1), max_size=90))
def test_any_cells_are_read_or_not_and_nothing_breaks(words: list[int]) -> None:
    cells = b"".join(pack_cell(words[i : i + 3]) for i in range(0, len(words) // 3 * 3, 3))
    sketch.read(_pair(8, 1)[0], cells)


def test_cells_that_name_the_same_scroll_again_and_again_come_to_an_end() -> None:
    # One pair in each cell alone, over and over: taking it out of one puts it into the others.
    coordinate = Coordinate(*[1] * 9)
    index = CoordinateIndex()
    index.set(coordinate, bytes(32), 1)
    assert sketch.read(CoordinateIndex(), index.sketch_cells(1) * 500) is None


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (b"\1", "at most 0 shared"),
        (b"\0" + b"\1" * 9 + b"\x09", "above 1.1.1/1.1.1/1.1.1"),
        (b"\0" + b"\2" * 9 + b"\x08\1", "above 2.2.2/2.2.2/2.2.2"),
        (b"\0" + b"\1" * 9 + b"\x0a", "at most 9 shared"),
        (b"\0\1", "found the end"),
        (b"\0" + b"\1" * 8 + b"\x80", "found the end"),
        (b"\0" + bytes(9), "expected nine numbers"),
        (b"\0" + b"\1" * 8 + b"\xff\xff", "expected nine numbers"),
    ],
)
def test_malformed_names_are_refused(names: bytes, found: str) -> None:
    with pytest.raises(ProtocolError, match=found):
        sketch.is_all(CoordinateIndex(), bytes(24) + names)
