"""What earlier versions left and said is opened and understood, in both directions."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import phextsync
from phextsync.sync.codec import decode, encode
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Goodbye, Unknown
from sims.processes import PATIENCE_S
from tests.command_users import CommandUser
from tests.golden import READ, VERSIONS, converse, said, unpack_folders

_A = "1.1.1/1.1.1/1.1.1"
_POLL_S = 0.2


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _told(user: CommandUser) -> dict[str, str]:
    return {" ".join(words): user.out(*words) for words in READ}


def _are_equal(nodes: Sequence[phextsync.Handle], *, of: str) -> bool:
    """Whether nodes hold the same, and what each of them brought."""
    texts = [dict(node.phext("memory").items()) for node in nodes]
    places = [phextsync.Coordinate.parse(at) for at in (_A, "5.1.1/1.1.1/1.1.1")]
    found = [texts[0].get(place) for place in places]
    return all(each == texts[0] for each in texts) and found == [of, "of today\n"]


@pytest.mark.parametrize("name", ["anna", "ben"])
def test_a_folder_says_what_it_said_then(version: str, name: str, tmp_path: Path) -> None:
    told = unpack_folders(version, tmp_path)[name]
    user = CommandUser(tmp_path / name)
    assert _told(user) == told
    user.out("check")
    user.out("set", "9.9.9/9.9.9/9.9.9", "today\n")
    user.out("rm", "9.9.9/9.9.9/9.9.9")
    again = _told(user)
    changed = {words for words in told if again[words] != told[words]}
    assert changed <= {"undelete"}
    user.out("repair")
    user.out("backup", str(tmp_path / "backup"))
    user.out("check")
    assert {words for words in told if _told(user)[words] != told[words]} <= {"undelete"}


def test_two_of_them_and_a_new_machine_meet(version: str, tmp_path: Path) -> None:
    unpack_folders(version, tmp_path)
    anna, ben, new = (CommandUser(tmp_path / name) for name in ("anna", "ben", "new"))
    code = anna.out("code").split()[-1]
    new.out("join", code, "--name", "new")
    new.out("set", "5.1.1/1.1.1/1.1.1", "of today\n")
    whole = "first\nsecond, changed\nwhile both run\napart\n"
    with phextsync.open(anna.data, discover=False, port=0, host="127.0.0.1") as one:
        peers = (f"127.0.0.1:{one.status().port}",)
        with (
            phextsync.open(ben.data, discover=False, port=0, host="127.0.0.1", peers=peers) as two,
            phextsync.open(new.data, discover=False, port=0, host="127.0.0.1", peers=peers) as six,
        ):
            nodes = (one, two, six)
            deadline = time.monotonic() + PATIENCE_S
            while not _are_equal(nodes, of=whole):
                assert time.monotonic() < deadline, [dict(n.phext("memory")) for n in nodes]
                time.sleep(_POLL_S)
            for phext in ("memory", "notes"):
                one.synced(phext, peers=2, timeout_s=PATIENCE_S)
    assert new.out("get", "1.1.1/1.1.1/1.1.3") == "after they met\n"


def test_every_frame_is_read_and_would_be_written_as_it_was(version: str) -> None:
    frames = [frame for turn in said(version) for each in turn for frame in each]
    messages = [decode(frame, Limits()) for frame in frames]
    kinds = {type(message).__name__ for message in messages}
    assert kinds >= {"Hello", "Compare", "Want", "Updates", "Live", "Acknowledge", "Presence"}
    for frame, message in zip(frames, messages, strict=True):
        assert not isinstance(message, Unknown)
        assert encode(message) == frame


@pytest.mark.parametrize("old", [0, 1])
def test_what_an_old_node_said_is_answered_until_both_hold_the_same(version: str, old: int) -> None:
    turns, network = converse(old, said(version))
    answers = [decode(frame, Limits()) for turn in turns for frame in turn[1 - old]]
    assert [answer for answer in answers if isinstance(answer, Goodbye)] == []
    _, whole = converse()
    assert dict(network.peers[1 - old].replica.scrolls()) == whole.assert_equal()
