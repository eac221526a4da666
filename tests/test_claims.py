"""Who a task is for follows from texts alone, whatever order they come in."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.agents.claims import (
    UNDECIDED_S,
    Kind,
    Known,
    Standing,
    Verdict,
    firm,
    is_split,
    lines_of_voter,
    next_fence,
    patience,
    said_silent,
    sealed,
    standing,
    verdict,
)
from phextsync.agents.task_layout import (
    TERM_S,
    Electorate,
    ballot_at,
    claims_at,
    new_task,
    read_ballot,
    read_claims,
    read_electorate,
    read_task,
    series_of,
    task_at,
)
from phextsync.index import Coordinate

_IDS = [f"{i:032x}" for i in range(5)]
_texts = st.text(st.characters(codec="utf-8"), max_size=60)


def _known(claims: str, ballots: Mapping[int, str], voters: int = 3) -> Known:
    electorate = Electorate({id_: f"v{i}" for i, id_ in enumerate(_IDS[:voters])}, 5)
    task, _ = new_task("what to do", electorate, "v0", "now")
    told = {_IDS[i]: read_ballot(text) for i, text in ballots.items()}
    return Known(task, read_claims(claims), told)


# -- what is written ------------------------------------------------------------------------


@given(_texts, st.integers(1, 5), st.integers(1, 10_000))
def test_a_task_is_read_as_it_was_written(text: str, voters: int, term_s: int) -> None:
    electorate = Electorate({id_: "a name" for id_ in _IDS[:voters]}, term_s)
    task, written = new_task(text, electorate, "laptop", "2026-11-29T17:55:31.000Z")
    assert read_task(task.coordinate, written) == task


def test_a_task_that_was_changed_is_none() -> None:
    task, written = new_task("x", Electorate({_IDS[0]: ""}), "laptop", "now")
    assert read_task(task.coordinate, written + "!") is None
    assert read_task(task.coordinate, written.replace("term 600", "term 1")) is None


@given(_texts)
def test_any_text_is_claims_and_a_ballot_and_perhaps_voters(text: str) -> None:
    read_claims(text)
    read_ballot(text)
    read_electorate(text)
    read_task(Coordinate(2, 1, 1, 1, 1, 1, 1, 1, 1), text)


def test_the_order_of_lines_has_no_meaning() -> None:
    lines = ["claim 1 a", "claim 1 b", "works 1 a 3", "works 1 a 2", 'done 1 a "x y"', "retry 2"]
    lines += ['failed 1 b "no"', "done 1 a z", "claim 0 x", "claim 1", "works 1 a many"]
    read = read_claims("\n".join(lines))
    assert read == read_claims("\n".join(lines[::-1]))
    assert read.by_fence == {1: {"a", "b"}}
    assert read.beats == {(1, "a"): 3}
    assert read.done == {(1, "a"): "x y"}
    assert read.failed == {(1, "b"): "no"}
    assert read.retried == {2}


def test_a_voter_that_voted_twice_has_no_vote_and_does_not_vote_again() -> None:
    ballot = read_ballot("vote 1 a\nvote 1 b\nvote 2 c\nvote 2 c\nvote 3 d\nvote 3 e\nnonsense")
    assert ballot.votes == {2: "c"}
    assert ballot.last == 3


def test_of_voters_lines_that_cannot_be_read_do_not_count() -> None:
    lines = [f"voter {_IDS[0]} b", f"voter {_IDS[0]} a", "voter x", "term 5", "term 0", "term 9"]
    assert read_electorate("\n".join(lines)) == Electorate({_IDS[0]: "a"}, 9)
    assert read_electorate(f"voter {_IDS[0]}") == Electorate({_IDS[0]: ""}, TERM_S)
    assert read_electorate("term 5") is None
    assert read_electorate("\n".join(f"voter {i:032x}" for i in range(100))) is None


@pytest.mark.parametrize("node_id", _IDS)
def test_each_scroll_of_a_task_tells_which_task_it_is_of(node_id: str) -> None:
    task, _ = new_task("x", Electorate({node_id: ""}), "laptop", "now")
    at = task.coordinate
    for place in (at, claims_at(at), ballot_at(node_id, at)):
        assert task_at(place) == at
    assert ballot_at(node_id, at).parts[:3] == series_of(node_id)
    assert series_of(node_id)[0] >= 3
    assert task_at(Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)) is None
    assert task_at(Coordinate(2, 1, 1, 1, 1, 1, 1, 1, 3)) is None


# -- what follows from them -----------------------------------------------------------------


def test_a_majority_is_one_of_all_that_are_named() -> None:
    known = _known("claim 1 a", {0: "vote 1 a", 1: "vote 1 a"}, voters=5)
    assert firm(known) == {}
    stranger = Known(known.task, known.claims, {**known.ballots, "f" * 32: read_ballot("vote 1 a")})
    assert firm(stranger) == {}
    assert firm(_known("claim 1 a", {0: "vote 1 a", 1: "vote 1 a", 4: "vote 1 a"}, 5)) == {1: "a"}


def test_a_split_fence_is_over_at_once() -> None:
    ballots = {0: "vote 1 a", 1: "vote 1 a", 2: "vote 1 b"}
    known = _known("claim 1 a\nclaim 1 b", ballots, voters=4)
    assert not is_split(known, 1)
    assert next_fence(known) == 1
    known = _known("claim 1 a\nclaim 1 b", {**ballots, 3: "vote 1 b"}, voters=4)
    assert is_split(known, 1)
    assert next_fence(known) == 2
    assert verdict(known, (1, "a")) is Verdict.LOST


_HELD = {0: "vote 1 a", 1: "vote 1 a"}


def test_a_task_stands_as_its_greatest_firm_claim_says() -> None:
    assert standing(_known("", {})) == Standing(Kind.OPEN, 1)
    assert standing(_known("claim 1 a", {})) == Standing(Kind.CLAIMED, 1, "a")
    assert standing(_known("claim 1 a", _HELD)) == Standing(Kind.HELD, 1, "a")
    failed = 'claim 1 a\nfailed 1 a "no"\n'
    assert standing(_known(failed, _HELD)) == Standing(Kind.FAILED, 1, "a", "no")
    assert standing(_known(failed + "retry 1", _HELD)) == Standing(Kind.OPEN, 2)
    done = 'claim 1 a\nclaim 2 b\ndone 1 a "late"\n'
    assert standing(_known(done, _HELD)) == Standing(Kind.DONE, 1, "a", "late")
    overtaken = {0: "vote 1 a\nvote 2 b", 1: "vote 1 a", 2: "vote 2 b"}
    assert standing(_known(done, overtaken)) == Standing(Kind.HELD, 2, "b")
    assert verdict(_known(done, overtaken), (1, "a")) is Verdict.LOST
    final = {0: "vote 1 a\nsealed 1 a", 1: "vote 1 a\nsealed 1 a"}
    assert standing(_known(done, final)) == Standing(Kind.DONE, 1, "a", "late", is_final=True)
    # Ballots may arrive before the result that they seal: then nobody knows yet what came of it.
    assert standing(_known("claim 1 a\n", final)) == Standing(Kind.HELD, 1, "a")
    assert verdict(_known("claim 1 a\nclaim 2 b\n", final), (2, "b")) is Verdict.LOST


def test_what_failed_is_tried_again_behind_the_greatest_firm_fence() -> None:
    ballots = {0: "vote 1 a\nvote 2 b", 1: "vote 1 a\nvote 2 b"}
    failed = "claim 1 a\nclaim 2 b\nfailed 2 b no\n"
    assert next_fence(_known(failed, ballots)) is None
    assert next_fence(_known(failed + "retry 1", ballots)) is None
    assert next_fence(_known(failed + "retry 2", ballots)) == 3


def test_what_one_voter_alone_voted_for_overtakes_nobody() -> None:
    known = _known("claim 1 a\nclaim 2 b", {**_HELD, 2: "silent 1\nvote 2 b"})
    assert standing(known) == Standing(Kind.HELD, 1, "a")
    assert lines_of_voter(known, _IDS[0]) == []
    assert verdict(known, (1, "a")) is Verdict.FIRM


def test_a_claim_far_ahead_shows_nothing() -> None:
    known = _known("claim 999999 a\nclaim 1 b", {})
    assert lines_of_voter(known, _IDS[0]) == ["vote 1 b"]


def test_a_voter_votes_once_at_a_fence_and_never_at_a_smaller_one() -> None:
    known = _known("claim 1 a\nclaim 1 b", {})
    (line,) = lines_of_voter(known, _IDS[0])
    assert line in ("vote 1 a", "vote 1 b")
    for own in ("vote 1 a", "vote 1 a\nvote 1 b", "silent 1\nvote 2 c"):
        assert lines_of_voter(_known("claim 1 a\nclaim 1 b", {0: own}), _IDS[0]) == []
    assert lines_of_voter(known, "f" * 32) == []


def test_voters_that_hear_the_same_vote_for_the_same() -> None:
    claims = "\n".join(f"claim 1 w{i}" for i in range(9))
    assert len({str(lines_of_voter(_known(claims, {}), id_)) for id_ in _IDS[:3]}) == 1


def test_silence_is_over_when_the_claimant_says_something() -> None:
    known = _known("claim 1 a\nclaim 2 b", _HELD)
    told = _known("claim 1 a\nclaim 2 b\nworks 1 a 1", _HELD)
    first, again = patience(known, _IDS[0]), patience(told, _IDS[0])
    assert first is not None
    assert again is not None
    assert first[1] == again[1] == 5
    assert first[0] != again[0]
    assert lines_of_voter(known, _IDS[0]) == []
    assert lines_of_voter(known, _IDS[0], is_overdue=True) == ["silent 1", "vote 2 b"]


def test_what_a_majority_found_silent_is_open_to_all() -> None:
    ballots = {0: "vote 1 a\nsilent 1", 1: "vote 1 a"}
    assert said_silent(_known("claim 1 a", ballots)) == frozenset()
    known = _known("claim 1 a", {**ballots, 2: "silent 1"})
    assert next_fence(known, said_silent(known)) == 2
    assert verdict(known, (1, "a")) is Verdict.FIRM  # nobody has overtaken it so far


def test_voters_that_voted_for_different_claims_try_the_next_fence_soon() -> None:
    known = _known("claim 1 a\nclaim 1 b\nclaim 2 a", {0: "vote 1 a", 1: "vote 1 b"})
    waited = patience(known, _IDS[0])
    assert waited is not None
    assert waited[1] == UNDECIDED_S
    assert lines_of_voter(known, _IDS[0], is_overdue=True) == ["silent 1", "vote 2 a"]
    alone = _known("claim 1 a", {0: "vote 1 a"})
    assert patience(alone, _IDS[0]) is None  # the other voters will be heard, or not


# -- what is final --------------------------------------------------------------------------


def test_a_voter_seals_what_is_done_unless_it_voted_for_a_greater_fence() -> None:
    done = "claim 1 a\nclaim 2 b\ndone 1 a x"
    assert lines_of_voter(_known(done, _HELD), _IDS[0]) == ["sealed 1 a"]
    beyond = {**_HELD, 2: "vote 1 a\nsilent 1\nvote 2 b"}
    assert lines_of_voter(_known(done, beyond), _IDS[2]) == []
    assert lines_of_voter(_known(done, beyond), _IDS[0]) == ["sealed 1 a"]
    sealing = {0: "vote 1 a\nsealed 1 a", 1: "vote 1 a", 2: "vote 1 a"}
    assert lines_of_voter(_known(done, sealing), _IDS[0], is_overdue=True) == []


@pytest.mark.parametrize(("voters", "enough"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_final_is_what_leaves_no_majority_to_others(voters: int, enough: int) -> None:
    for n in range(voters + 1):
        ballots = {i: "vote 1 a" + ("\nsealed 1 a" if i < n else "") for i in range(voters)}
        known = _known("claim 1 a\ndone 1 a x", ballots, voters)
        assert (sealed(known) is not None) == (n >= enough)
        assert (voters - n < known.task.electorate.majority) == (n >= enough)
