"""Coordinates order as scrolls do, survive every form, and refuse what is none."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.errors import CoordinateError
from phextsync.index import EVERYTHING, ORIGIN, Coordinate, CoordinateRange
from phextsync.ranges import stored_range
from tests.strategies import coordinates, near_coordinates, ranges

_any = near_coordinates | coordinates


@given(coordinates)
def test_a_coordinate_survives_every_form(coordinate: Coordinate) -> None:
    assert Coordinate.parse(str(coordinate)) == coordinate
    assert Coordinate.parse(f"  {coordinate.url}\n") == coordinate
    assert Coordinate.parse_lenient(str(coordinate)) == coordinate
    assert Coordinate.from_key(coordinate.key) == coordinate
    assert Coordinate.from_short_key(coordinate.short_key) == coordinate
    assert Coordinate(*coordinate.parts) == coordinate
    assert pickle.loads(pickle.dumps(coordinate)) == coordinate
    assert str(coordinate).replace("/", ".").split(".") == [str(p) for p in coordinate.parts]


@given(_any, _any)
def test_order_equality_and_hash_are_those_of_the_nine_numbers(
    a: Coordinate, b: Coordinate
) -> None:
    assert (a < b) == (a.parts < b.parts) == (a.key < b.key)
    assert (a <= b) == (a.parts <= b.parts)
    assert (a > b) == (a.parts > b.parts)
    assert (a >= b) == (a.parts >= b.parts)
    assert (a == b) == (a.parts == b.parts)
    assert (a != b) == (a.parts != b.parts)
    assert a != str(a)
    if a == b:
        assert hash(a) == hash(b)


def test_the_parts_have_their_names() -> None:
    c = Coordinate(1, 2, 3, 4, 5, 6, 7, 8, 9)
    names = ("library", "shelf", "series", "collection", "volume", "book", "chapter", "section")
    assert [getattr(c, name) for name in (*names, "scroll")] == list(range(1, 10))
    with pytest.raises(AttributeError):
        c.library = 5  # type: ignore[misc]
    with pytest.raises(TypeError, match="does not change"):
        c.__init__(*[1] * 9)


@given(coordinates)
def test_the_successor_is_the_next_one(coordinate: Coordinate) -> None:
    after = coordinate.successor()
    if after is None:
        assert coordinate.parts == (999,) * 9
    else:
        assert after > coordinate
        position = max(i for i in range(9) if coordinate.parts[i] < 999)
        assert after.parts[position] == coordinate.parts[position] + 1
        assert after.parts[position + 1 :] == (1,) * (8 - position)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.1.1/1.1.1/1.1",
        "1.1.1/1.1.1/1.1.1.1",
        "1.1.1.1.1.1.1.1.1",
        "0.1.1/1.1.1/1.1.1",
        "1.1.1/1.1.1/1.1.1000",
        "1.1.1/1.1.1/1.1.99999999999999999999",
        "1.1.1/1.1.1/1.1.-1",
        "1.1.1/1.1.1/1.1.a",
        "1.1.1/1.1.1/1.1.\u0661",
        "1 .1.1/1.1.1/1.1.1",
        "1..1/1.1.1/1.1.1",
        "1.1.1/1.1.1/1.1.1 x",
        "\U0001f600",
    ],
)
def test_a_text_that_is_no_coordinate_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(CoordinateError, match="expected nine numbers from 1 to 999") as refusal:
        Coordinate.parse(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [0, 1000, -1, 2**70])
def test_a_number_outside_1_to_999_is_refused(value: int) -> None:
    with pytest.raises((CoordinateError, OverflowError)):
        Coordinate(1, 1, 1, 1, 1, 1, 1, 1, value)
    with pytest.raises(CoordinateError):
        Coordinate.from_key(bytes(12))
    with pytest.raises(CoordinateError, match="12 bytes, found 3"):
        Coordinate.from_key(b"abc")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", (1, 1, 1, 1, 1, 1, 1, 1, 1)),
        ("no digits.at/all", (1, 1, 1, 1, 1, 1, 1, 1, 1)),
        ("7", (1, 1, 1, 1, 1, 1, 1, 1, 7)),
        ("2.5", (2, 1, 1, 1, 1, 1, 1, 1, 5)),
        ("5.1.1/7.1.1", (5, 1, 1, 7, 1, 1, 1, 1, 1)),
        ("1.2.3;4.5.6/7.8.9", (1, 2, 3, 4, 5, 6, 7, 8, 9)),
        ("1.2.3.4.5.6.7.8.9.10", (1, 2, 3, 4, 5, 6, 7, 8, 10)),
        ("1.1.1/1.1.1/1.1.3: text 42", (1, 1, 1, 1, 1, 1, 1, 1, 342)),
    ],
)
def test_the_lenient_reader_reads_as_sq_does(text: str, parts: tuple[int, ...]) -> None:
    assert Coordinate.parse_lenient(text).parts == parts


@pytest.mark.parametrize(
    "text", ["1..1/1.1.1/1.1.1", "1.", "1000", "1.1.1/1.1.1/1.1.1234567890123"]
)
def test_the_lenient_reader_refuses_what_would_do_damage(text: str) -> None:
    with pytest.raises(CoordinateError):
        Coordinate.parse_lenient(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1..1/0.1000.5/1.1.1", "1.1.1/1.999.5/1.1.1"),
        ("99999999999999999999.1.1", "999.1.1/1.1.1/1.1.1"),
        ("1.1.1/c.d.2/1.1.0", "1.1.1/1.1.2/1.1.1"),
    ],
)
def test_a_lenient_reader_may_clamp_what_lies_outside(text: str, found: str) -> None:
    assert str(Coordinate.parse_lenient(text, clamp=True)) == found


# -- ranges --------------------------------------------------------------------------------


@given(ranges(), _any)
def test_a_range_holds_what_lies_between_its_bounds(
    range_: CoordinateRange, coordinate: Coordinate
) -> None:
    inside = range_.lower <= coordinate and (range_.upper is None or coordinate < range_.upper)
    assert (coordinate in range_) == inside
    assert "text" not in range_


@given(ranges(near_coordinates) | ranges(), ranges(near_coordinates) | ranges(), _any)
def test_an_intersection_holds_what_both_hold(
    a: CoordinateRange, b: CoordinateRange, coordinate: Coordinate
) -> None:
    both = a.intersect(b)
    assert (both is not None and coordinate in both) == (coordinate in a and coordinate in b)


@given(ranges(near_coordinates) | ranges() | _any.map(CoordinateRange.of))
def test_a_range_survives_its_text_and_pickling(range_: CoordinateRange) -> None:
    assert CoordinateRange.parse(str(range_)) == range_
    assert pickle.loads(pickle.dumps(range_)) == range_
    assert hash(CoordinateRange(range_.lower, range_.upper)) == hash(range_)
    lower, upper = range_.to_keys()
    assert lower == range_.lower.key
    assert upper == (None if range_.upper is None else range_.upper.key)


@given(_any, st.integers(1, 8))
def test_a_prefix_holds_what_begins_with_it(coordinate: Coordinate, size: int) -> None:
    text = ".".join(map(str, coordinate.parts[:size])) + ".*"
    long = "/".join(
        ".".join(str(coordinate.parts[i]) if i < size else "*" for i in range(group, group + 3))
        for group in (0, 3, 6)
    )
    range_ = CoordinateRange.parse(text)
    assert range_ == CoordinateRange.parse(long)
    assert range_.lower.parts == coordinate.parts[:size] + (1,) * (9 - size)
    assert coordinate in range_
    assert range_.upper is None or range_.upper.parts[:size] > coordinate.parts[:size]


def test_everything_is_everything() -> None:
    assert CoordinateRange.parse("*") == EVERYTHING
    assert EVERYTHING.is_everything
    assert not CoordinateRange.parse("1.*").is_everything
    assert (str(EVERYTHING), str(CoordinateRange.parse("2.*.*/*.*.*/*.*.*"))) == ("*", "2.*")
    assert CoordinateRange.parse("999.*").upper is None
    assert CoordinateRange.of(Coordinate(*[999] * 9)).upper is None


@pytest.mark.parametrize("text", ["..", " .. ", ".. "])
def test_nobody_asks_for_everything_by_two_ends_that_are_missing(text: str) -> None:
    with pytest.raises(CoordinateError, match=r"^expected a coordinate before or behind .*, found"):
        CoordinateRange.parse(text)
    assert stored_range(text) == stored_range("*") == EVERYTHING
    assert str(stored_range("1.1.1/1.1.1/1.1.2..")) == "1.1.1/1.1.1/1.1.2.."


@pytest.mark.parametrize(
    "text",
    ["", "x", "*.1", "1.*.1.1", "0.*", "1000.*", "-1.*", "1.1", "1.1.1.1.1.1.1.1.1.*", "a.."],
)
def test_a_text_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(CoordinateError):
        CoordinateRange.parse(text)


def test_a_range_whose_bounds_do_not_ascend_is_refused() -> None:
    with pytest.raises(CoordinateError, match="expected an upper bound above"):
        CoordinateRange(ORIGIN, ORIGIN)
