"""CoordinateIndex: every answer is that of a plain-Python model, whatever happened before."""

import array
import random
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from phextsync.errors import CoordinateError
from phextsync.index import EVERYTHING, ORIGIN, Coordinate, CoordinateIndex, CoordinateRange
from tests.index_model import IndexModel
from tests.strategies import coordinates, near_coordinates, ranges

_any_coordinate = near_coordinates | coordinates
_fingerprints = st.one_of(
    st.sampled_from([bytes(32), b"\xff" * 32]), st.binary(min_size=32, max_size=32)
)
_sizes = st.sampled_from([0, 0, 1, 7, 2**32 - 1])
_ranges = ranges(near_coordinates) | ranges(coordinates)


class IndexMachine(RuleBasedStateMachine):
    """Random operations on an index with small leaves and on the model."""

    @initialize(
        leaf_max=st.integers(2, 7), inner_max=st.integers(4, 6), seed=st.integers(0, 2**64 - 1)
    )
    def create(self, leaf_max: int, inner_max: int, seed: int) -> None:
        self.index = CoordinateIndex(leaf_max=leaf_max, inner_max=inner_max, seed=seed)
        self.model = IndexModel()

    @rule(coordinate=_any_coordinate, fingerprint=_fingerprints, size=_sizes)
    def set_without_value(self, coordinate: Coordinate, fingerprint: bytes, size: int) -> None:
        value = self.model.entries.get(coordinate, (None,))[0]
        self.index.set(coordinate, fingerprint, size)
        self.model.entries[coordinate] = (value, fingerprint, size)

    @rule(
        coordinate=_any_coordinate,
        fingerprint=_fingerprints,
        size=_sizes,
        value=st.none() | st.text(),
    )
    def set_with_value(
        self, coordinate: Coordinate, fingerprint: bytes, size: int, value: object
    ) -> None:
        self.index.set(str(coordinate), fingerprint, size, value)
        self.model.entries[coordinate] = (value, fingerprint, size)

    @rule(coordinate=_any_coordinate, value=st.none() | st.text())
    def set_value(self, coordinate: Coordinate, value: object) -> None:
        if coordinate in self.model.entries:
            self.index.set_value(coordinate.parts, value)
            self.model.entries[coordinate] = (value, *self.model.entries[coordinate][1:])
        else:
            with pytest.raises(KeyError):
                self.index.set_value(coordinate, value)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        known = (
            st.sampled_from(sorted(self.model.entries)) if self.model.entries else _any_coordinate
        )
        coordinate = data.draw(known | _any_coordinate)
        if coordinate in self.model.entries:
            self.index.remove(coordinate)
            del self.model.entries[coordinate]
        else:
            with pytest.raises(KeyError):
                self.index.remove(coordinate)

    @rule(
        chosen=st.lists(st.tuples(_any_coordinate, _fingerprints, _sizes), max_size=30),
        whole=st.booleans(),
    )
    def load(self, chosen: list[tuple[Coordinate, bytes, int]], whole: bool) -> None:
        unique = {c: (f, s) for c, f, s in chosen}
        packed = (
            b"".join(c.key for c in unique),
            b"".join(f for f, _ in unique.values()),
            array.array("I", [s for _, s in unique.values()]).tobytes(),
        )
        if whole:
            self.index.bulk_load(*packed)
            self.model.entries.clear()
        else:
            self.index.set_many(*packed)
        for c, (f, s) in unique.items():
            self.model.entries[c] = (self.model.entries.get(c, (None,))[0], f, s)

    @rule(first=st.integers(1, 999 - 40), count=st.integers(1, 40), descending=st.booleans())
    def set_a_run(self, first: int, count: int, descending: bool) -> None:
        run = [Coordinate(1, 1, 1, 1, 1, 1, 2, 1, first + i) for i in range(count)]
        for coordinate in reversed(run) if descending else run:
            value = self.model.entries.get(coordinate, (None,))[0]
            self.index.set(coordinate, coordinate.key + bytes(20), 3)
            self.model.entries[coordinate] = (value, coordinate.key + bytes(20), 3)

    @rule(range_=_ranges, descending=st.booleans(), step=st.integers(1, 3))
    def remove_a_range(self, range_: CoordinateRange, descending: bool, step: int) -> None:
        inside = self.model.inside(range_)[::step]
        for coordinate in reversed(inside) if descending else inside:
            self.index.remove(coordinate)
            del self.model.entries[coordinate]

    @rule(coordinate=_any_coordinate)
    def points(self, coordinate: Coordinate) -> None:
        value, fingerprint, size = self.model.entries.get(coordinate, (None, None, 0))
        for key in (coordinate, str(coordinate), coordinate.url, coordinate.parts):
            assert (key in self.index) == (coordinate in self.model.entries)
            assert self.index.get(key, "absent") == ("absent" if value is None else value)
            assert self.index.size_of(key) == size
            assert self.index.fingerprint_of(key) == fingerprint
        keys = (coordinate.key + bytes(12)) * 20  # twenty are none
        found = array.array("I", self.index.lookup_many(keys))
        assert list(found) == [size if fingerprint is not None else 2**32 - 1, 2**32 - 1] * 20

    @rule(range_=_ranges)
    def order(self, range_: CoordinateRange) -> None:
        inside = self.model.inside(range_)
        entries = self.model.entries
        assert list(self.index.coordinates(range_)) == inside
        assert list(self.index.coordinates(range_, reverse=True)) == inside[::-1]
        filled = [c for c in inside if entries[c][2]]
        assert list(self.index.coordinates(range_, filled=True)) == filled
        assert list(self.index.coordinates(range_, filled=True, reverse=True)) == filled[::-1]
        assert self.index.count(range_) == len(inside)
        assert self.index.fingerprint(range_) == self.model.fingerprint(range_)
        assert self.index.entries(range_) == [(c, *entries[c][1:]) for c in inside]
        assert self.index.entries(range_, 2) == self.index.entries(range_)[:2]
        assert self.index.list_entries(range_) == self.model.list_entries(range_)
        assert self.index.keys_packed(range_) == b"".join(c.key for c in inside)

    @rule(
        coordinate=_any_coordinate,
        count=st.sampled_from([0, 1, 2, 5, 40, 2**40]),
        range_=st.just(EVERYTHING) | _ranges,
        itself=st.booleans(),
    )
    def nearest(
        self, coordinate: Coordinate, count: int, range_: CoordinateRange, itself: bool
    ) -> None:
        found = self.index.nearest(coordinate, count, range_, itself=itself)
        assert found == self.model.nearest(coordinate, count, range_, itself)

    @rule(coordinate=_any_coordinate)
    def ranks(self, coordinate: Coordinate) -> None:
        inside = self.model.inside()
        rank = sum(c < coordinate for c in inside)
        assert self.index.rank(coordinate) == rank
        assert self.index.lower_bound(coordinate) == (inside[rank] if rank < len(inside) else None)
        assert [self.index.select(i) for i in range(len(inside))] == inside
        with pytest.raises(IndexError):
            self.index.select(len(inside))

    @rule(range_=_ranges, data=st.data(), key=st.none() | st.just(bytes(range(16))))
    def compare(self, range_: CoordinateRange, data: st.DataObject, key: bytes | None) -> None:
        theirs = CoordinateIndex()
        for c in self.model.entries:
            if data.draw(st.booleans()):
                theirs.set(c, data.draw(_fingerprints), 1)
        extra = data.draw(st.sets(_any_coordinate, max_size=2)) - {*self.model.entries}
        for c in extra:
            theirs.set(c, bytes(32), 1)
        listed = theirs.list_entries(range_, key)
        inside = self.model.inside(range_)
        changed = [
            c
            for c in inside
            if c in theirs and theirs.fingerprint_of(c) != self.model.entries[c][1]
        ]
        found = self.index.compare_list(range_, listed, key)
        assert found[0] == [c for c in inside if c not in theirs]
        assert found[1] == sorted(c for c in extra if c in range_)
        assert found[2] == changed

    @rule(cells=st.sampled_from([0, 1, 60]))
    def sketch(self, cells: int) -> None:
        strata, packed = self.model.sketch(cells)
        assert self.index.sketch_strata() == strata
        assert self.index.sketch_cells(cells) == packed
        assert self.index.sketch_difference(packed) == ([], [], [])

    @invariant()
    def holds_together(self) -> None:
        if hasattr(self, "index"):
            self.index.check()
            assert len(self.index) == len(self.model.entries)
            sizes = [size for _, _, size in self.model.entries.values()]
            assert (self.index.filled, self.index.text_bytes) == (
                sum(s > 0 for s in sizes),
                sum(sizes),
            )


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def _filled_index(count: int, leaf_max: int = 64, inner_max: int = 128) -> CoordinateIndex:
    source = random.Random(count)
    index = CoordinateIndex(leaf_max=leaf_max, inner_max=inner_max)
    for _ in range(count):
        coordinate = Coordinate(*(source.randint(1, 4) for _ in range(9)))
        index.set(coordinate, source.randbytes(32), source.randint(0, 9))
    return index


@pytest.mark.parametrize(("leaf_max", "inner_max"), [(2, 4), (3, 5), (4, 4), (6, 6), (64, 128)])
def test_every_invariant_holds_while_entries_come_and_go(leaf_max: int, inner_max: int) -> None:
    source = random.Random(leaf_max)
    index = _filled_index(700, leaf_max, inner_max)
    index.check()
    for begin in (0, 1, 2):
        for coordinate in list(index)[begin::3]:
            index.remove(coordinate)
            if source.random() < 0.1:
                index.check()
        for i in range(50):
            index.set(Coordinate(9, 1, 1, 1, 1, 1, 1, begin + 1, i + 1), bytes(32), 1)
        index.check()
    for coordinate in sorted(index, reverse=True):
        index.remove(coordinate)
        index.check()
    assert len(index) == 0
    assert index.fingerprint() == (0, bytes(32))


@pytest.mark.parametrize("ascending", [True, False])
def test_a_tree_of_full_size_gains_and_loses_its_upper_levels(ascending: bool) -> None:
    places = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1 + i // 999, 1 + i % 999) for i in range(12_000)]
    index = CoordinateIndex()
    for place in places if ascending else reversed(places):
        index.set(place, place.key + bytes(20), 1)
    index.check()
    some = CoordinateRange(places[77], places[11_777])
    total = sum(int.from_bytes(place.key + bytes(20), "big") for place in places[77:11_777])
    assert index.fingerprint(some) == (11_700, (total % 2**256).to_bytes(32, "big"))
    assert [index.rank(place) for place in places[::500]] == list(range(0, 12_000, 500))
    for place in places[3:]:
        index.remove(place)
    index.check()
    assert list(index) == places[:3]


_WIDTHS = {
    "everywhere": (999,) * 9,
    "dense": (3,) * 9,
    "a line": (1, 1, 1, 1, 1, 1, 1, 1, 999),
    "a plane": (40, 1, 1, 1, 1, 1, 1, 1, 40),
    "the upper parts": (999, 999, 999, 1, 1, 1, 1, 1, 1),
    "the middle": (1, 1, 1, 30, 1, 30, 1, 1, 1),
}


@pytest.mark.parametrize("widths", _WIDTHS.values(), ids=_WIDTHS)
@pytest.mark.parametrize(("leaf_max", "inner_max"), [(2, 4), (5, 6), (64, 128)])
def test_the_nearest_are_those_of_a_sort_however_the_entries_lie(
    widths: tuple[int, ...], leaf_max: int, inner_max: int
) -> None:
    source = random.Random(leaf_max)
    index = CoordinateIndex(leaf_max=leaf_max, inner_max=inner_max)
    model = IndexModel()

    def draw() -> Coordinate:
        return Coordinate(*(source.randint(1, width) for width in widths))

    def put(coordinate: Coordinate, size: int) -> None:
        index.set(coordinate, bytes(32), size)
        model.entries[coordinate] = (None, bytes(32), size)

    for _ in range(400):
        put(draw(), source.randint(0, 2))
    index.bulk_load(*_packed(model))
    for step in range(60):
        at = draw() if step % 4 else Coordinate(*(source.randint(1, 999) for _ in range(9)))
        some = CoordinateRange(*sorted({draw(), draw()})) if step % 3 == 0 else EVERYTHING
        for count, itself in ((1, True), (25, False), (1000, True)):
            found = index.nearest(at, count, some, itself=itself)
            assert found == model.nearest(at, count, some, itself)
        put(draw(), source.randint(0, 2))  # new, or has text now, or has none now
        put(source.choice([*model.entries]), step % 2)
        gone = source.choice([*model.entries])
        index.remove(gone)
        del model.entries[gone]
        index.check()
    for gone in sorted(model.entries, reverse=True)[:300]:  # the last nodes join those before
        index.remove(gone)
        del model.entries[gone]
        assert index.nearest(gone, 5) == model.nearest(gone, 5, EVERYTHING, True)
        index.check()


def _packed(model: IndexModel) -> tuple[bytes, bytes, bytes]:
    sizes = array.array("I", [size for _, _, size in model.entries.values()])
    keys = b"".join(c.key for c in model.entries)
    return keys, bytes(32 * len(model.entries)), sizes.tobytes()


def test_the_nearest_of_nothing_are_none_and_what_is_asked_wrongly_is_an_error() -> None:
    index = CoordinateIndex()
    assert index.nearest(ORIGIN, 40) == []
    index.set(ORIGIN, bytes(32), 0)
    assert index.nearest(ORIGIN, 40) == []
    index.set(ORIGIN, bytes(32), 1)
    assert index.nearest("999.999.999/999.999.999/999.999.999", 40) == [(9 * 998, ORIGIN)]
    with pytest.raises(ValueError, match="0 or more, found -1"):
        index.nearest(ORIGIN, -1)
    with pytest.raises(CoordinateError):
        index.nearest("1.1", 1)


def test_an_entry_takes_at_most_135_bytes() -> None:
    index = _filled_index(20_000)
    assert index.__sizeof__() <= 135 * len(index)


def test_code_that_runs_when_an_object_ends_may_use_the_index() -> None:
    index = CoordinateIndex()
    seen = []

    class Thing:
        def __del__(self) -> None:
            seen.append(len(index))
            for i in range(1, 100):
                index.set(Coordinate(2, 1, 1, 1, 1, 1, 1, 1, i), bytes(32), 1)

    def hang_in() -> None:
        index.set(ORIGIN, bytes(32), 1, Thing())

    hang_in()
    index.set(ORIGIN, bytes(32), 1, None)
    index.check()
    hang_in()
    index.remove(ORIGIN)
    index.check()
    hang_in()
    index.clear()
    index.check()
    hang_in()
    index.bulk_load(ORIGIN.key, bytes(32), bytes(4))
    index.check()
    assert seen == [1, 99, 0, 1]


def test_an_absent_coordinate_is_a_key_error_and_a_closed_one_none() -> None:
    index = CoordinateIndex()
    with pytest.raises(KeyError):
        index[ORIGIN]
    index.set(ORIGIN, bytes(32), 1)
    assert index[str(ORIGIN)] is None
    assert index.get(ORIGIN, 5) == 5
    index.set(ORIGIN, bytes(32), 1, value="open")
    assert index[ORIGIN.parts] == "open"


def test_an_object_is_released_when_it_is_replaced_removed_or_dropped_with_the_index() -> None:
    class Thing:
        pass

    index = CoordinateIndex()
    watched = []
    for _ in range(3):
        thing = Thing()
        watched.append(weakref.ref(thing))
        index.set("1.1.1/1.1.1/1.1.1", bytes(32), 1, thing)
        del thing
    assert [w() is None for w in watched] == [True, True, False]
    index.remove("1.1.1/1.1.1/1.1.1")
    assert watched[2]() is None
    thing = Thing()
    watched.append(weakref.ref(thing))
    index.set(ORIGIN, bytes(32), 1, thing)
    del thing, index
    assert watched[3]() is None


def test_changing_the_index_ends_an_iteration_with_an_error() -> None:
    index = _filled_index(20)
    iterator = iter(index)
    next(iterator)
    index.set(Coordinate(*[999] * 9), bytes(32), 1)
    with pytest.raises(RuntimeError, match="changed while"):
        next(iterator)


def test_bad_arguments_are_refused_and_change_nothing() -> None:
    index = _filled_index(20)
    before = index.entries()
    with pytest.raises(ValueError, match="32 bytes, found 3"):
        index.set(ORIGIN, b"abc", 1)
    with pytest.raises(CoordinateError, match="found int"):
        index.get(7)  # type: ignore[arg-type]
    with pytest.raises(CoordinateError):
        index.set("1.1.1", bytes(32), 1)
    with pytest.raises(ValueError, match="as many keys"):
        index.set_many(ORIGIN.key, bytes(31), bytes(4))
    with pytest.raises(CoordinateError):
        index.set_many(ORIGIN.key + bytes(12), bytes(64), bytes(8))
    with pytest.raises(CoordinateError):
        index.bulk_load(ORIGIN.key + bytes(12), bytes(64), bytes(8))
    with pytest.raises(ValueError, match="found one twice"):
        index.bulk_load(ORIGIN.key * 2, bytes(64), bytes(8))
    with pytest.raises(CoordinateError):
        index.set(Coordinate.__new__(Coordinate), bytes(32), 1)
    with pytest.raises(ValueError, match="a key of 16 bytes"):
        index.audit(EVERYTHING, b"short")
    with pytest.raises(ValueError, match="4 to 128 children"):
        CoordinateIndex(inner_max=3)
    with pytest.raises(ValueError, match="a key of 16 bytes"):
        index.list_entries(EVERYTHING, b"short")
    with pytest.raises(ValueError, match="list of entries in 1"):
        index.compare_list(CoordinateRange.of(ORIGIN), b"\1" + bytes(8))
    assert index.compare_list(CoordinateRange.of(ORIGIN), b"\0" + b"\1" * 8)[1] == [ORIGIN]
    assert index.entries() == before


def test_the_audit_is_siphash_128_of_each_entry_summed() -> None:
    index = CoordinateIndex()
    key = bytes(range(16))
    coordinates_ = [Coordinate(1, 2, 3, 4, 5, 6, 7, 8, i) for i in (1, 500, 999)]
    for i, coordinate in enumerate(coordinates_):
        index.set(coordinate, bytes([i]) * 32, i)
    total = (
        sum(_siphash_128(key, c.key + bytes([i]) * 32) for i, c in enumerate(coordinates_)) % 2**128
    )
    assert index.audit(EVERYTHING, key) == total.to_bytes(16, "big")
    # Appendix A of the SipHash paper's reference code: vectors_sip128, 15 bytes of input.
    assert _siphash_128(key, bytes(range(15))).to_bytes(16, "little").hex() == (
        "5493e99933b0a8117e08ec0f97cfc3d9"
    )


def _siphash_128(key: bytes, data: bytes) -> int:
    mask = 2**64 - 1
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D ^ 0xEE,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]

    def rotate(x: int, n: int) -> int:
        return (x << n | x >> (64 - n)) & mask

    def sip_round() -> None:
        for a, b, n, c, d, m in ((0, 1, 13, 2, 3, 16), (0, 3, 21, 2, 1, 17)):
            v[a] = (v[a] + v[b]) & mask
            v[c] = (v[c] + v[d]) & mask
            v[b] = rotate(v[b], n) ^ v[a]
            v[d] = rotate(v[d], m) ^ v[c]
            v[0 if a == 0 and n == 13 else 2] = rotate(v[0 if n == 13 else 2], 32)

    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) & 255])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= word
        sip_round()
        sip_round()
        v[0] ^= word
    v[2] ^= 0xEE
    for _ in range(4):
        sip_round()
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    for _ in range(4):
        sip_round()
    return first | (v[0] ^ v[1] ^ v[2] ^ v[3]) << 64


@given(st.lists(coordinates, unique=True, min_size=1, max_size=40))
def test_bulk_loading_gives_the_same_index_as_setting_one_by_one(chosen: list[Coordinate]) -> None:
    marks = [bytes([i]) * 32 for i in range(len(chosen))]
    one = CoordinateIndex(leaf_max=4)
    for coordinate, mark in zip(chosen, marks, strict=True):
        one.set(coordinate, mark, 1)
    other = CoordinateIndex(leaf_max=4)
    sizes = array.array("I", [1] * len(chosen)).tobytes()
    other.bulk_load(b"".join(c.key for c in chosen), b"".join(marks), sizes)
    other.check()
    assert one.entries() == other.entries()
