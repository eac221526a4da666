"""Operations that other processes ask of the node that owns a folder."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from random import Random

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phextsync.control.answers import as_facts
from phextsync.control.client import Attachment
from phextsync.control.frames import (
    Value,
    check_request,
    decode_answer,
    encode_answer,
    encode_error,
    plain,
)
from phextsync.control.operations import digest, is_change
from phextsync.control.performing import perform
from phextsync.control.sockets import SOCKET_NAME
from phextsync.control.status import (
    DirectoryRow,
    DurationsRow,
    LeftAlone,
    PeerRow,
    PhextRow,
    PresenceRow,
    Status,
    StoreRow,
)
from phextsync.errors import ConflictError, PhextsyncError, ProtocolError, StoreError
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.sync.fields import load_array

_PLACE = "1.1.1/1.1.1/1.1.1"


@pytest.fixture
def replicas() -> ReplicaSet:
    made = ReplicaSet(MemoryStore(), node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0)
    perform(made, ["set", "memory", _PLACE, "one two"])
    return made


def test_who_waits_for_a_node_that_does_not_answer_is_told_so_once(tmp_path: Path) -> None:
    told: list[str] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / SOCKET_NAME))
        listening.listen()

        def answer(line: str) -> None:
            told.append(line)
            taken.append(listening.accept()[0])
            for number in (1, 2):
                frame = encode_answer(number, number)
                taken[0].sendall(len(frame).to_bytes(4, "big") + frame)

        taken: list[socket.socket] = []
        with Attachment(tmp_path, answer, quiet_s=0.0) as attachment:
            assert [attachment.ask("phexts") for _ in range(2)] == [1, 2]
        taken[0].close()
    assert told == [f"the node of {tmp_path} does not answer yet; waiting for it"]


def test_a_splice_replaces_characters_of_the_text_that_was_seen(replicas: ReplicaSet) -> None:
    request: list[Value] = ["splice", "memory", _PLACE, 4, 7, "é\U0001f600", digest("one two")]
    assert is_change(request)
    assert perform(replicas, request) is None
    assert perform(replicas, ["get", "memory", _PLACE]) == "one é\U0001f600"


@pytest.mark.parametrize(
    "change",
    [
        ["splice", "memory", _PLACE, 0, 3, "1", digest("one")],
        ["set", "memory", _PLACE, "three", digest("")],
        ["set", "memory", "2.1.1/1.1.1/1.1.1", "three", digest("one two")],
    ],
)
def test_an_edit_of_another_text_than_was_seen_does_nothing(
    replicas: ReplicaSet, change: list[object]
) -> None:
    with pytest.raises(ConflictError, match="has changed since it was read"):
        perform(replicas, change)  # type: ignore[arg-type]
    assert perform(replicas, ["read", "memory", "*", ""]) == [[[_PLACE, "one two"]], False]


@pytest.mark.parametrize("fact", [True, False, 0.5, None, b"x"])
def test_a_fact_is_a_text_or_an_integer(fact: Value) -> None:
    assert as_facts([["load", 1], ["editing", "notes"]]) == {"load": 1, "editing": "notes"}
    with pytest.raises(PhextsyncError, match="expected a name, and a text or an integer, found"):
        as_facts([["load", 1], ["busy", fact]])


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 65), 1 << 65)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.sampled_from([(), {}, 1j, "\ud800"]),
    lambda values: st.lists(values, max_size=3),
)


@example([[[[[]]]]])
@example([[[[[[]]]]]])
@example([1 << 64])
@given(st.lists(_values, min_size=1, max_size=4))
def test_a_request_is_refused_or_arrives(request: list[Value]) -> None:
    try:
        check_request(request)
    except PhextsyncError:
        return
    assert plain(load_array(cbor2.dumps([1, 0, *request]))) == [1, 0, *request]


def test_an_error_about_a_path_that_is_no_text_arrives() -> None:
    number, error = decode_answer(encode_error(1, StoreError("/data/\udcff: the disk is gone")))
    assert (number, type(error)) == (1, StoreError)
    assert str(error) == r"/data/\udcff: the disk is gone"


def test_a_request_is_as_large_as_a_frame_at_most() -> None:
    check_request(["set", "memory", _PLACE, "x" * 1000, ["é" * 1000]])
    half = "x" * (1 << 26)
    with pytest.raises(PhextsyncError, match=r"expected a request of at most 134217664 bytes"):
        check_request(["batch", "memory", [["set", _PLACE, half], ["set", _PLACE, half]]])


def test_a_status_arrives_as_it_was_sent_and_what_is_new_in_it_is_left_out() -> None:
    peer = PeerRow(
        node_id="0a", name="b", address="", round_trip_ms=None, state="in sync", lag_scrolls=0,
        lag_bytes=0, last_error="", frames_in=1, frames_out=2, bytes_in=3, bytes_out=4,
        updates_in=5, updates_out=6, redundant=7, comparisons=8, compare_messages=9,
        lacks=("memory: 1, behind",),
    )  # fmt: skip
    left = LeftAlone(path="a.md", reason="why", since_ms=1)
    status = Status(
        running=True,
        name="a",
        node_id="0b",
        folder="/data",
        phexts=(PhextRow(name="memory", scrolls=1, bytes=2, fingerprint="00"),),
        peers=(peer, replace(peer, round_trip_ms=1.5)),
        presence=(PresenceRow(node_id="0a", name="b", facts={"load": 1, "editing": "x"}),),
        directories=(
            DirectoryRow(
                directory="/notes",
                phext="memory",
                range="7.*",
                kept_days=None,
                reasons=(left,),
                refused_lines=(("1.1 x", "expected nine numbers"),),
            ),
        ),
        store=StoreRow(syncs=DurationsRow(count=1, sum_ms=2.5, at_most_s={"+Inf": 1})),
    )
    sent = json.loads(status.to_json())
    assert Status.from_json(json.dumps({**sent, "unheard_of": [1]})) == status
    assert Status.from_json(json.dumps({key: sent[key] for key in list(sent)[:4]})).peers == ()


@pytest.mark.parametrize("text", ["[]", '{"running": 1}', '{"peers": [[]]}', '{"port": "7439"}'])
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="expected a status, found"):
        Status.from_json(text)
