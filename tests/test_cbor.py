"""Plain CBOR is written and read as cbor2 does it; all else is left to cbor2."""

from math import inf
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.index import cbor_array, cbor_bytes

_long = st.integers(0, 70_000).map(bytes)
_integers = st.integers(-(1 << 64), (1 << 64) - 1) | st.sampled_from([23, 24, 255, 256, 65_536])
_numbers = _integers | st.floats(allow_nan=False, allow_infinity=False)
_plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _numbers | st.binary() | _long | st.text(),
    st.lists,
    max_leaves=6,
)


def _read(data: bytes) -> list[Any]:
    value = cbor2.loads(data, max_depth=6, allow_indefinite=False)
    assert isinstance(value, list)
    return value


@given(st.lists(_plain))
def test_plain_values_are_written_and_read_as_cbor2_does(array: list[Any]) -> None:
    data = cbor2.dumps(array, canonical=False)
    if cbor_array(data) is None:  # deeper than frames are
        with pytest.raises(TypeError, match="plain"):
            cbor_bytes(array)
    else:
        assert cbor2.dumps(cbor_array(data)) == data
        assert cbor2.dumps(_read(cbor_bytes(array))) == data
        assert cbor_array(cbor_bytes(array) + b"\0") is None


def test_what_is_no_finite_number_survives_in_eight_bytes_where_cbor2_takes_two() -> None:
    data = cbor_bytes([inf, -inf])
    assert cbor_array(data) == _read(data) == [inf, -inf]
    assert cbor_array(cbor2.dumps([inf])) is None


@given(st.lists(_plain, max_size=4), st.lists(st.tuples(st.integers(0), st.integers(0, 255))))
def test_what_is_read_of_damaged_bytes_is_what_cbor2_reads(
    array: list[Any], damage: list[tuple[int, int]]
) -> None:
    data = bytearray(cbor2.dumps(array))
    for place, byte in damage:
        data[place % len(data)] = byte
    found = cbor_array(bytes(data))
    if found is not None:
        assert repr(found) == repr(_read(bytes(data)))


def test_every_cut_of_an_array_is_left_to_cbor2() -> None:
    data = cbor_bytes([1, "text", b"bytes", [None, 300, 1.5], -70_000])
    assert all(cbor_array(data[:end]) is None for end in range(len(data)))


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({}, TypeError),
        ((), TypeError),
        (1 << 64, OverflowError),
        (-1 - (1 << 64), OverflowError),
        ("\ud800", UnicodeEncodeError),
        ([[[[[[]]]]]], TypeError),
    ],
)
def test_what_is_not_plain_is_not_written(item: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        cbor_bytes([item])


@pytest.mark.parametrize("data", [b"\x80\x80", b"\x01", b"\xa0", b"\x9f\xff", b"\x81\xc0\x60", b""])
def test_what_is_no_plain_array_is_not_read(data: bytes) -> None:
    assert cbor_array(data) is None
