"""Messages survive the wire; anything else is refused with what was expected and found."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import ProtocolError
from phextsync.index import EVERYTHING, ORIGIN, cbor_items, cbor_live, cbor_size
from phextsync.phext_names import is_phext_name
from phextsync.sync.codec import KINDS, decode, encode
from phextsync.sync.fields import Fields, load_array
from phextsync.sync.limits import Limits
from phextsync.sync.messages import (
    PROTOCOL_MINOR,
    TIME_MS_MAX,
    Acknowledge,
    Ask,
    Changed,
    Compare,
    Conflict,
    Entry,
    Fetch,
    Fetched,
    FetchMode,
    Goodbye,
    Graft,
    Had,
    Have,
    Hello,
    Keep,
    Leave,
    Live,
    Message,
    Neighbours,
    Notice,
    Part,
    PhextSummary,
    Ping,
    Pong,
    Presence,
    Prune,
    Refused,
    Regrouped,
    Summary,
    Survey,
    Surveyed,
    SurveyedScroll,
    Told,
    Unknown,
    Updates,
    Verdict,
    Want,
    Watch,
)
from tests.strategies import coordinates, ranges

_LIMITS = Limits()
_LIVE = next(number for number, kind in enumerate(KINDS) if kind.message is Live)
_PROTOCOL = (Path(__file__).parents[1] / "docs" / "reference" / "protocol.md").read_text()
_ids = st.binary(min_size=16, max_size=16)
_digests = st.binary(max_size=16)
_numbers = st.integers(0, 2**63 - 1)
_names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
_held = st.lists(ranges(), max_size=3).map(tuple)
_summaries = st.builds(PhextSummary, _names, _held, _numbers, _numbers, _ids)
_entries = st.one_of(
    st.builds(Entry, coordinates, st.binary(max_size=50), st.just(b""), st.just(0)),
    st.builds(Entry, coordinates, st.binary(max_size=50), _ids, _numbers),
)
_facts = st.lists(st.tuples(_names, _names | _numbers), max_size=3).map(tuple)
_update_ids = st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple)
_left_ms = st.integers(0, 600_000) | st.just(1000 * _LIMITS.presence_left_s_max)
_notices = st.builds(
    Notice,
    _ids,
    _ids,
    st.integers(0, 2**62 - 1),
    _left_ms,
    _names,
    _facts,
)
_lives = st.builds(
    Live,
    _names,
    st.lists(
        st.tuples(coordinates, st.binary(max_size=50), st.integers(0, TIME_MS_MAX - 1)), max_size=4
    ).map(tuple),
)

_KINDS: tuple[st.SearchStrategy[Message], ...] = (
    st.builds(Leave, _names, _numbers, _held),
    st.builds(Keep, _names, _numbers, _held),
    st.builds(Fetch, _numbers, _names, coordinates, st.sampled_from(FetchMode), _digests),
    st.builds(
        Fetched,
        _numbers,
        st.sampled_from(Verdict),
        st.booleans(),
        st.binary(max_size=32),
        st.integers(0, 9),
        st.integers(0, 9),
        st.binary(max_size=50),
    ),
    st.builds(Watch, _numbers, _names, st.lists(ranges(), max_size=1).map(tuple)),
    st.builds(
        Changed,
        _numbers,
        st.sampled_from(Verdict),
        st.booleans(),
        st.lists(coordinates, max_size=5).map(tuple),
    ),
    st.builds(
        Had,
        _names,
        coordinates,
        st.lists(st.tuples(_ids, st.binary(min_size=1, max_size=50)), max_size=5).map(tuple),
    ),
    st.builds(Ask, _numbers, _names, ranges(), st.binary(max_size=50)),
    st.builds(
        Told,
        _numbers,
        st.sampled_from(Verdict),
        st.integers(0, 9),
        st.integers(0, 9),
        st.binary(max_size=50),
    ),
    st.builds(Survey, _numbers, _names, ranges(), st.booleans()),
    st.builds(
        Surveyed,
        _numbers,
        st.sampled_from(Verdict),
        st.none() | coordinates,
        st.lists(
            st.builds(
                SurveyedScroll,
                *(coordinates, st.integers(0, 9), _ids, _names),
                *(st.none(), st.just(b"")),
            )
            | st.builds(
                SurveyedScroll,
                *(coordinates, st.integers(0, 9), _ids, _names),
                *(_names, _digests),
            )
        ).map(tuple),
    ),
    st.builds(
        Hello,
        st.just(1),
        st.just(0),
        _ids,
        _names,
        _ids,
        st.lists(_summaries, max_size=3).map(tuple),
    ),
    st.builds(
        Hello,
        st.just(1),
        st.just(3),
        _ids,
        _names,
        _ids,
        st.lists(_summaries, max_size=3).map(tuple),
        st.integers(0, 2**62 - 1),
    ),
    _lives,
    st.builds(Summary, _summaries),
    st.builds(Compare, _names, _numbers, _numbers, st.integers(0, 255), st.binary(max_size=50)),
    st.builds(
        Want,
        _names,
        st.lists(
            st.tuples(coordinates, st.binary(max_size=9), st.binary(max_size=16)), max_size=3
        ).map(tuple),
    ),
    st.builds(Updates, _names, st.lists(_entries, max_size=4).map(tuple)),
    st.builds(
        Part, _names, coordinates, st.just(2), st.integers(3, 9), st.binary(min_size=1, max_size=9)
    ),
    st.builds(Acknowledge, _numbers, _numbers),
    st.builds(Refused, _names, coordinates, _names),
    st.builds(Conflict, _names, coordinates, _ids),
    st.builds(Ping, _numbers),
    st.builds(Pong, _numbers),
    st.builds(Goodbye, _names),
    st.builds(Presence, st.lists(_notices, max_size=3).map(tuple)),
    st.builds(Neighbours, st.lists(_ids, max_size=3).map(tuple)),
    st.builds(
        Regrouped, st.lists(_ids, max_size=3).map(tuple), st.lists(_ids, max_size=3).map(tuple)
    ),
    st.builds(Have, _update_ids),
    st.builds(Graft, _update_ids),
    st.builds(Prune),
)
_messages = st.one_of(_KINDS)


@pytest.mark.parametrize("messages", _KINDS)
@settings(max_examples=30)
@given(st.data())
def test_a_message_of_each_kind_survives_the_wire(
    messages: st.SearchStrategy[Message], data: st.DataObject
) -> None:
    message = data.draw(messages)
    read = decode(encode(message), _LIMITS)
    assert (type(read), read) == (type(message), message)


@given(_messages, st.data())
def test_a_frame_with_a_byte_changed_is_read_or_refused_and_nothing_else(
    message: Message, data: st.DataObject
) -> None:
    frame = bytearray(encode(message))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        decode(bytes(frame), _LIMITS)


@given(_lives, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=2), st.integers(0))
def test_updates_are_read_in_one_pass_as_a_whole_reader_reads_them(
    message: Live, damage: list[tuple[int, int]], cut: int
) -> None:
    limits = Limits(entries_max=3, name_bytes_max=9)
    frame = bytearray(encode(message))
    for place, byte in damage:
        frame[place % len(frame)] = byte
    for data in (bytes(frame), bytes(frame[: cut % len(frame)]), bytes(frame) + b"\0"):
        found = cbor_live(data, _LIVE, 9, 3, TIME_MS_MAX - 1)
        is_named = found is not None and is_phext_name(found[0])
        assert (Live(*found) if found and is_named else None) == _whole_live(data, limits)


def _whole_live(data: bytes, limits: Limits) -> Message | None:
    with suppress(ProtocolError):
        array = load_array(data)
        if array[0] == _LIVE and type(array[0]) is int:
            fields = Fields(array, limits)
            message = KINDS[_LIVE].read(fields)
            fields.end()
            return message
    return None


@given(_messages, st.data())
def test_a_frame_that_is_cut_or_has_bytes_left_over_is_refused(
    message: Message, data: st.DataObject
) -> None:
    frame = encode(message)
    with pytest.raises(ProtocolError):
        decode(frame[: data.draw(st.integers(0, len(frame) - 1))], _LIMITS)
    with pytest.raises(ProtocolError, match="left over"):
        decode(frame + b"\0", _LIMITS)


def test_a_kind_of_a_newer_version_is_read_as_unknown() -> None:
    assert decode(cbor2.dumps([99, "anything", [1]]), _LIMITS) == Unknown(99)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ([["load", -1]], "below 9223372036854775808, found -1"),
        ([["load", 1 << 63]], "below 9223372036854775808"),
        ([["load", None]], "expected a text"),
        ([["text", "x" * 256]], "at most 255 bytes"),
        ([[f"fact {i}", "x" * 200] for i in range(5)], "at most 1024 bytes"),
        ([["load"]], "found the end"),
        ([["load", 1, 2]], "expected 2 fields"),
    ],
)
def test_facts_beyond_their_bounds_are_refused(facts: list[list[Any]], found: str) -> None:
    frame = cbor2.dumps([12, [[bytes(16), bytes(16), 1, 1, "name", facts]]])
    with pytest.raises(ProtocolError, match=found):
        decode(frame, _LIMITS)


def test_every_tag_is_refused_before_it_is_interpreted() -> None:
    for tag in [*range(300), 1004, 43000, 55799, 65535]:
        for value in (1, "(a+)+$", b"x", [1, 2]):
            with pytest.raises(ProtocolError, match="expected a CBOR array"):
                decode(cbor2.dumps([9, cbor2.CBORTag(tag, value)]), _LIMITS)


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (b"\x9f\x09\x01\xff", "indefinite"),
        (b"\x81" * 2000 + b"\x00", "depth"),
        (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "found"),
        (b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "found"),
        (b"\x82\x09\xa1\x01\x02", "expected an integer"),
        (b"\x82\x09\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00", "expected an integer"),
        (b"\x82\x09\xf5", "expected an integer"),
        (b"\x82\x09\xa2\x01\x02\x01\x02", "Duplicate map key"),
        (b"\x82\x09\x20", "expected an integer"),
        (b"\x80", "expected a CBOR array"),
        (b"\x01", "expected a CBOR array, found int"),
        (b"\x81\x19\x01\x00", "expected a message kind below 256, found 256"),
        (b"\x81\x09", "expected an integer as field 1, found the end"),
        (b"\x83\x09\x01\x01", "expected 2 fields, found 3"),
    ],
)
def test_bytes_outside_the_subset_are_refused(frame: bytes, found: str) -> None:
    with pytest.raises(ProtocolError, match=found):
        decode(frame, _LIMITS)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        ([4, "memory", [[b"short", b""]]], "expected 12 to 12 bytes, found 5 bytes"),
        ([4, "memory", [["text", b""]]], "expected 12 to 12 bytes, found str"),
        ([4, "memory", [[bytes(12), b""]]], "expected a key of nine parts"),
        ([4, "", []], "expected the name of a phext"),
        ([4, "a/b", []], "expected the name of a phext"),
        ([4, "x" * 300, []], "at most 255 bytes, found 300"),
        ([3, "memory", [[ORIGIN.key, b"", b""]] * 4097], "at most 4096 items, found 4097"),
        ([5, "memory", ORIGIN.key, 3, 3, b"x"], "expected a part below 3, found 3"),
        ([2, "memory", 1, 0, 256, b""], "expected an integer below 256, found 256"),
        ([4, "memory", [[ORIGIN.key, b"", b"", 0]]], "expected 1 to 16 bytes, found 0"),
        ([28, "memory", ORIGIN.key, [[bytes(16), b""]]], "expected 1 to [0-9]+ bytes, found 0"),
        ([5, "memory", ORIGIN.key, 0, 1, b""], "expected 1 to [0-9]+ bytes, found 0"),
        ([14, "memory", [b"", b""]], "expected entries of 3 items each, found 2 items"),
        ([14, "memory", [b"\0\1", b"", 0]], "without leading zero bytes"),
        ([14, "memory", [bytes([255] * 12), b"", 0]], "expected a key of nine parts"),
        ([14, "memory", [bytes(13), b"", 0]], "at most 12 bytes, without leading zero"),
        ([14, "memory", [b"", b"", 1 << 62]], "expected an integer below 4611686018427387904"),
        (
            [14, "memory", [b"", "text", 0]],
            "expected a short key and an update as bytes, found bytes and str",
        ),
        ([14, "memory", [b"", b"", 0] * 16385], "at most 49152 items, found 49155"),
        ([0, 2, 0, bytes(16), "n", bytes(16), []], "expected protocol version 1, found 2.0"),
    ],
)
def test_a_field_over_its_limit_is_refused(array: list[Any], found: str) -> None:
    with pytest.raises(ProtocolError, match=found):
        decode(cbor2.dumps(array), _LIMITS)


_ID, _SHORT = bytes(16), bytes(15)


@pytest.mark.parametrize(
    "message",
    [
        Hello(1, PROTOCOL_MINOR, _SHORT, "n", _ID, ()),
        Hello(1, PROTOCOL_MINOR, _ID, "n", _SHORT, ()),
        Summary(PhextSummary("memory", (), 0, 0, _SHORT)),
        Conflict("memory", ORIGIN, _SHORT),
        Had("memory", ORIGIN, ((_SHORT, b"version"),)),
        Surveyed(1, Verdict.SAME, None, (SurveyedScroll(ORIGIN, 1, _SHORT, "line"),)),
        Presence((Notice(_SHORT, _ID, 1, 1, "n", ()),)),
        Presence((Notice(_ID, _SHORT, 1, 1, "n", ()),)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_an_id_or_a_digest_that_is_too_short_is_refused(message: Message) -> None:
    with pytest.raises(ProtocolError, match="expected 16 to 16 bytes, found 15"):
        decode(encode(message), _LIMITS)


def test_a_newer_minor_version_may_append_fields_to_its_hello() -> None:
    minor = PROTOCOL_MINOR + 1
    newer = [0, 1, minor, bytes(16), "n", bytes(16), [], 7, "something new"]
    assert decode(cbor2.dumps(newer), _LIMITS) == Hello(1, minor, bytes(16), "n", bytes(16), (), 7)
    newer[2] = 0
    with pytest.raises(ProtocolError, match="expected 7 fields"):
        decode(cbor2.dumps(newer), _LIMITS)


def test_an_entry_without_origin_is_short() -> None:
    assert len(encode(Updates("m", (Entry(ORIGIN, b""),)))) == 20
    summary = PhextSummary("m", (EVERYTHING,), 0, 0, bytes(16))
    assert len(encode(Summary(summary))) < 40


def test_the_name_of_a_phext_is_short_printable_and_no_path() -> None:
    assert all(map(is_phext_name, ["memory", "日本", "a b", ".clients"]))
    assert not any(map(is_phext_name, ["", "a/b", "a\\b", "a\nb", "x" * 256, "\x17"]))


def test_a_frame_of_many_tiny_items_is_refused_before_they_are_made() -> None:
    frame = b"\x83\x04\x66memory\x9a\x00\x0f\xff\x00" + b"\x80" * 0xFFF00
    with pytest.raises(ProtocolError, match="at most 131072 items in a frame, found 1048324"):
        decode(frame, _LIMITS)


@given(_messages)
def test_items_are_counted_without_making_them(message: Message) -> None:
    frame = encode(message)
    assert cbor_items(frame) == _items(cbor2.loads(frame))
    for cut in range(len(frame)):
        assert cbor_items(frame[:cut]) <= cbor_items(frame)


_plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_plain, st.binary())
def test_the_end_of_an_item_is_found_without_making_it(value: Any, rest: bytes) -> None:
    data = cbor2.dumps(value)
    assert cbor_size(data + rest) == len(data)


def _items(value: Any) -> int:
    return 1 + sum(map(_items, value)) if isinstance(value, list) else 1


def test_the_table_of_kinds_is_that_of_the_specification() -> None:
    specified = re.findall(r"^\| (\d+) \| (\w+)(?: \(since 1\.\d\))? \| ", _PROTOCOL, re.MULTILINE)
    assert specified == [(str(number), kind.name) for number, kind in enumerate(KINDS)]
    assert {kind.message for kind in KINDS} == {*get_args(Message)}
