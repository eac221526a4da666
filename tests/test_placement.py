"""The same texts give the same holders on every machine, about equally loaded, and few move."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.index import EVERYTHING, ORIGIN, Coordinate, CoordinateRange
from phextsync.placement import members as members_module
from phextsync.placement.draws import columns
from phextsync.placement.holders import Placement
from phextsync.placement.members import MEMBERS_MAX, Member, read_member, table_of
from phextsync.placement.policy import (
    Policy,
    Rule,
    boundaries_text,
    read_boundaries,
    read_policy,
)
from phextsync.placement.slots import Slots, rank, share, slots_for
from phextsync.trust.permissions import Permissions
from tests.repetition import outputs
from tests.strategies import coordinates, near_coordinates, ranges

_PHEXT = "memory"
_ids = st.binary(min_size=16, max_size=16)
_members = st.builds(
    Member,
    _ids,
    st.text("abc", min_size=1, max_size=5),
    st.integers(1, 16),
    st.integers(0, 9),
    apart=st.sets(st.sampled_from(["work", "world"])).map(sorted).map(tuple),
    silent=st.dictionaries(_ids, st.integers(1, 9999), max_size=3).map(
        lambda silent: tuple(sorted(silent.items()))
    ),
)
_tables = st.lists(_members, min_size=1, max_size=12, unique_by=lambda member: member.node_id)
_rules = st.builds(
    Rule,
    ranges(near_coordinates),
    st.lists(_ids, max_size=3, unique=True).map(sorted).map(tuple),
    st.booleans(),
).filter(lambda rule: rule.pinned or rule.everywhere)
_policies = st.builds(
    Policy,
    st.just(_PHEXT),
    st.none() | st.integers(1, 5),
    st.sampled_from([0, 1, 8, 64]),
    st.lists(_rules, max_size=3, unique_by=lambda rule: rule.range).map(tuple),
    st.sampled_from([60, 600, 86400]),
    st.sampled_from([1 << 16, 8 << 20]),
)


_places = st.lists(near_coordinates, max_size=4)


def _mesh(count: int, seed: int = 0) -> dict[bytes, Member]:
    random = Random(seed)
    members = [Member(random.randbytes(16), f"node-{i}") for i in range(count)]
    return {member.node_id: member for member in members}


def _sorted(members: dict[bytes, Member]) -> list[Member]:
    return [members[node_id] for node_id in sorted(members)]


# -- texts ---------------------------------------------------------------------------------


@given(_members, st.randoms(use_true_random=False))
def test_a_member_is_read_from_its_lines_in_any_order(member: Member, random: Random) -> None:
    lines = member.to_text().splitlines()
    random.shuffle(lines)
    assert read_member("\n".join(lines)) == (member, [])


@given(_policies, st.randoms(use_true_random=False))
def test_a_policy_is_read_from_its_lines_in_any_order(policy: Policy, random: Random) -> None:
    lines = policy.to_text().splitlines()
    random.shuffle(lines)
    read, problems = read_policy("\n".join(lines))
    assert problems == []
    assert read.to_text().splitlines() == policy_in_order(policy)


def policy_in_order(policy: Policy) -> list[str]:
    order = sorted(policy.rules, key=lambda rule: (rule.range.lower, _upper(rule.range)))
    return replace(policy, rules=tuple(order)).to_text().splitlines()


def _upper(range_: CoordinateRange) -> tuple[bool, Coordinate]:
    return (True, ORIGIN) if range_.upper is None else (False, range_.upper)


def test_a_rule_without_ends_is_one_for_everything() -> None:
    pinned = f"{'ab' * 16}"
    assert read_policy(f"everywhere ..\npin .. {pinned}") == read_policy(
        f"everywhere *\npin * {pinned}"
    )


@given(st.text(max_size=200))
def test_any_text_is_read_or_told(text: str) -> None:
    policy, problems = read_policy(text)
    assert all(problem.startswith(("expected", "invalid")) or problem for problem in problems)
    assert read_policy(policy.to_text())[0].rules == policy.rules
    read_member(text)
    read_boundaries(text)


@pytest.mark.parametrize(
    "line",
    [
        "copies 0",
        "copies 65",
        "copies -1",
        "copies three",
        "slots 3",
        "slots 99999999",
        "everywhere",
        "everywhere nowhere",
        "pin 1.*.2 " + 32 * "0",
        "pin 1.* 0123",
        "pin 1.* " + 32 * "x",
        "phext a/b",
        "repair-after 59",
        "repair-after 10m",
        "rate 1",
        "delete *",
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_does_not_count(line: str) -> None:
    sound = Policy(_PHEXT, 3, 64, (Rule(CoordinateRange.parse("2.*"), everywhere=True),))
    policy, problems = read_policy(f"{line}\n{sound.to_text()}")
    assert policy == sound
    assert len(problems) == 1


@pytest.mark.parametrize(
    "line",
    [
        "id 00",
        "weight 0",
        "weight 17",
        "weight 1.5",
        "since -3",
        "name \t",
        "owner me",
        "apart a/b",
        "silent 00 5",
    ],
)
def test_a_fact_that_cannot_be_read_is_told_and_does_not_count(line: str) -> None:
    member = Member(b"n" * 16, "name", 2, 5)
    assert read_member(f"{member.to_text()}{line}\n") == (
        member,
        [f"expected a fact of a member, found {line!r}"],
    )


def test_a_member_that_two_described_is_the_same_in_any_order_of_lines() -> None:
    one, other = Member(b"n" * 16, "name", 2, 5), Member(b"n" * 16, "names", 10, 50)
    lines = (one.to_text() + other.to_text()).splitlines()
    found = {str(read_member("\n".join(some))[0]) for some in (lines, lines[::-1])}
    assert found == {str(other)}


def test_a_table_has_each_member_once_and_nobody_who_left_and_has_a_bound() -> None:
    one = Member(b"1" * 16, "one")
    gone = Member(b"2" * 16, "two", has_left=True)
    later = replace(one, since_ms=7)
    for texts in (
        [one.to_text(), gone.to_text(), later.to_text()],
        [later.to_text(), one.to_text()],
    ):
        members, problems = table_of([*texts, ""])
        assert problems == []
        assert members == {one.node_id: later}
    many = [Member(i.to_bytes(16, "big"), "m").to_text() for i in range(MEMBERS_MAX + 5)]
    members, problems = table_of(many)
    assert len(members) == MEMBERS_MAX
    assert problems == [f"expected at most {MEMBERS_MAX} members, found {MEMBERS_MAX + 5}"]


def test_of_many_members_those_are_read_again_that_have_changed_or_cannot_be_read_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    def counted(text: str) -> tuple[Member | None, list[str]]:
        read.append(text)
        return read_member(text)

    monkeypatch.setattr(members_module, "read_member", counted)
    texts = [Member(bytes([number]) * 16, f"read-{number}").to_text() for number in range(9)]
    table, _ = table_of(texts)
    assert len(read) == 9
    texts[3] += "weight 2\n"
    texts[4] += "colour red\n"
    for number in range(2):
        read.clear()
        again, problems = table_of(texts)
        assert again == {**table, bytes([3]) * 16: replace(table[bytes([3]) * 16], weight=2)}
        assert len(problems) == 1
        assert {*read} == {texts[4], *texts[3 : 4 - number]}


def test_however_many_members_there_are_none_is_read_again_that_has_not_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [Member(i.to_bytes(16, "big"), f"again-{i}").to_text() for i in range(2000)]
    table, _ = table_of(texts)
    monkeypatch.delattr(members_module, "read_member")
    assert table_of(texts) == (table, [])


@given(st.lists(coordinates, max_size=9))
def test_boundaries_are_a_set_whose_merged_text_is_their_union(places: list[Coordinate]) -> None:
    one, other = places[::2], places[1::2]
    merged = boundaries_text(one) + "rubbish\n" + boundaries_text(other)
    found, problems = read_boundaries(merged)
    assert found == tuple(sorted(set(places)))
    assert len(problems) == 1


# -- holders -------------------------------------------------------------------------------


@given(
    _tables, _policies, st.lists(near_coordinates, max_size=4), st.randoms(use_true_random=False)
)
def test_the_same_texts_give_the_same_holders_and_each_range_as_many_as_are_asked_for(
    members: list[Member], policy: Policy, boundaries: list[Coordinate], random: Random
) -> None:
    shuffled = random.sample(members, len(members))
    one = Placement({m.node_id: m for m in members}, policy, boundaries)
    other = Placement(
        {m.node_id: m for m in shuffled}, policy, random.sample(boundaries, len(boundaries))
    )
    pieces = list(one.ranges(EVERYTHING))
    assert pieces == list(other.ranges(EVERYTHING))
    assert pieces[0].lower == ORIGIN
    assert pieces[-1].upper is None
    assert all(a.upper == b.lower for a, b in pairwise(pieces))
    for piece in pieces:
        holders = one.holders(piece.lower)
        assert holders == other.holders(piece.lower)
        ids = {holder.node_id for holder in holders}
        assert len(ids) == len(holders) >= min(policy.copies or 0, len(members))
        assert all(
            any(r.intersect(piece) == piece for r in one.of(holder.node_id)) for holder in holders
        )


def test_every_process_finds_the_same() -> None:
    program = """
from tests.test_placement import _mesh, _sorted
from phextsync.placement.slots import Slots
print(Slots(_sorted(_mesh(26)), "memory", 64, 3).holders)
"""
    assert len(outputs(program)) == 1
    held = Slots(_sorted(_mesh(26)), "memory", 64, 3).holders
    assert held[:3] == ((14, 11, 3), (14, 6, 18), (6, 9, 0))


@given(_tables, st.integers(1, 4), st.sampled_from([1, 4, 16, 64]))
def test_a_slot_has_different_holders_in_the_order_of_its_rank(
    members: list[Member], copies: int, slots: int
) -> None:
    for slot, holders in enumerate(Slots(members, _PHEXT, slots, copies).holders):
        assert len(set(holders)) == len(holders) == min(copies, len(members))
        assert sorted(rank(members, _PHEXT, slots, slot)) == list(range(len(members)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [9, 26, 100])
def test_no_member_holds_an_eighth_more_than_its_share(count: int, seed: int) -> None:
    random = Random(seed)
    members = [replace(m, weight=random.randint(1, 4)) for m in _sorted(_mesh(count, seed))]
    slots = slots_for(count)
    held = [0] * count
    for holders in Slots(members, _PHEXT, slots, 3).holders:
        for number in holders:
            held[number] += 1
    total = sum(member.weight for member in members)
    bounds = [share(member.weight, total, 3 * slots) for member in members]
    assert all(have <= most for have, most in zip(held, bounds, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_a_join_moves_about_its_share_and_a_leave_what_it_held(seed: int) -> None:
    before = _mesh(100, seed)
    newcomer = Member(Random(seed + 100).randbytes(16), "new")
    after = {**before, newcomer.node_id: newcomer}
    moved = _moved(_sorted(before), _sorted(after), 256)
    assert moved <= 3 * 256 * 3 / 101
    assert _moved(_sorted(after), _sorted(before), 256) <= 3 * 256 * 3 / 101


def _moved(before: Sequence[Member], after: Sequence[Member], slots: int) -> int:
    pairs = zip(
        Slots(before, _PHEXT, slots, 3).holders, Slots(after, _PHEXT, slots, 3).holders, strict=True
    )
    return sum(
        len({after[i].node_id for i in new} - {before[i].node_id for i in old})
        for old, new in pairs
    )


@given(st.integers(0, 6), st.sampled_from([1, 2, 8, 256, 512]))
def test_a_slot_draws_the_same_when_there_are_twice_as_many(seed: int, slots: int) -> None:
    members = _sorted(_mesh(3, seed))
    once, twice = dict(columns(members, _PHEXT, slots)), dict(columns(members, _PHEXT, 2 * slots))
    assert sorted(once) == list(range(slots))
    assert sorted(twice) == list(range(2 * slots))
    assert all(twice[2 * slot] == drawn for slot, drawn in once.items())


def test_a_new_boundary_moves_only_what_lies_above_it() -> None:
    members, policy = _mesh(26), Policy(_PHEXT, 3)
    middle = Coordinate.parse("5.1.1/1.1.1/1.1.1")
    one, two = Placement(members, policy), Placement(members, policy, [middle])
    assert [str(range_) for range_ in two.ranges(EVERYTHING)] == [
        "1.1.1/1.1.1/1.1.1..5.1.1/1.1.1/1.1.1",
        "5.1.1/1.1.1/1.1.1..",
    ]
    assert two.holders(ORIGIN) == one.holders(ORIGIN) == one.holders(middle)
    assert two.holders(middle) != one.holders(middle)


def _silent(members: dict[bytes, Member], absent: Sequence[bytes]) -> dict[bytes, Member]:
    """Return the members, of whom some are said to be silent by three others."""
    by = tuple((node_id, 600) for node_id in sorted(members) if node_id not in absent)[:3]
    return {i: replace(m, silent=by if i in absent else ()) for i, m in members.items()}


@pytest.mark.parametrize("seed", range(3))
def test_others_hold_what_absent_members_hold_and_nothing_else_moves(seed: int) -> None:
    members = _mesh(26, seed)
    absent = Random(seed).sample(sorted(members), 8)
    places = [Coordinate(library, *[1] * 8) for library in range(1, 200)]
    before = Placement(members, Policy(_PHEXT, 3), places)
    after = Placement(_silent(members, absent), Policy(_PHEXT, 3), places)
    later = Placement(_silent(members, absent), Policy(_PHEXT, 3, repair_after_s=601), places)
    assert before.absent == later.absent == frozenset()
    assert after.absent == frozenset(absent)
    for place in places:
        first = [member.node_id for member in before.holders(place)]
        now = [member.node_id for member in after.holders(place)]
        assert now[:3] == first == [member.node_id for member in later.holders(place)]
        assert sum(node_id not in absent for node_id in now) == 3
        assert len(set(now)) == len(now) == 3 + sum(node_id in absent for node_id in first)


def test_when_hardly_anybody_is_here_all_of_them_hold_a_range() -> None:
    members = _mesh(40)
    here = sorted(members)[:3]
    absent = sorted(members)[3:]
    pinned = Rule(CoordinateRange.parse("2.*"), pinned=tuple(absent[:2]))
    policy = Policy(_PHEXT, 4, 0, (pinned,))
    placement = Placement(_silent(members, absent), policy)
    for place in (ORIGIN, pinned.range.lower):
        holders = [member.node_id for member in placement.holders(place)]
        assert {*here} < {*holders}
        assert sum(node_id in absent for node_id in holders) <= 4


def test_what_is_held_by_hand_is_not_placed_but_may_be_pinned() -> None:
    members = _mesh(9)
    one = min(members)
    members[one] = replace(members[one], apart=(_PHEXT,))
    rule = Rule(CoordinateRange.parse("2.*"), pinned=(one,))
    placement = Placement(members, Policy(_PHEXT, 9, 0, (rule,)))
    assert one not in [member.node_id for member in placement.holders(ORIGIN)]
    assert placement.holders(rule.range.lower)[0].node_id == one
    other = Placement(members, replace(placement.policy, phext="other"))
    assert one in [member.node_id for member in other.holders(ORIGIN)]


def test_without_copies_everybody_holds_everything_and_nothing_is_computed() -> None:
    members = _mesh(8)
    placement = Placement(members, Policy(_PHEXT))
    assert placement.is_everywhere
    assert placement.holders(ORIGIN) == tuple(_sorted(members))
    assert placement.of(min(members)) == (EVERYTHING,)


def test_the_narrowest_rule_holds_and_pins_come_before_rank() -> None:
    members = _mesh(26)
    first, second, *_ = ids = sorted(members)
    wide, narrow, inner = map(CoordinateRange.parse, ("1.*", "1.5.*", "1.5.5.*"))
    rules = (
        Rule(wide, everywhere=True),
        Rule(narrow, pinned=(second, first)),
        Rule(inner, pinned=tuple(ids[:5])),
    )
    placement = Placement(members, Policy(_PHEXT, 3, 0, rules))
    assert len(placement.holders(wide.lower)) == 26
    held = placement.holders(narrow.lower)
    assert [member.node_id for member in held[:2]] == [second, first]
    assert len(held) == 3
    assert [m.node_id for m in placement.holders(inner.lower)] == ids[:5]
    assert len(placement.holders(Coordinate.parse("2.1.1/1.1.1/1.1.1"))) == 3
    apart = Placement(members, Policy(_PHEXT, 3))
    assert placement.holders(Coordinate(9, *[1] * 8)) == apart.holders(Coordinate(9, *[1] * 8))


def test_of_rules_that_overlap_the_one_that_begins_last_and_ends_first_holds() -> None:
    members = _mesh(9)
    ids = sorted(members)
    spelt = (
        "1.*",
        "1.1.1/1.1.1/1.1.1..2.5.1/1.1.1/1.1.1",
        "2.*",
        "2.1.1/1.1.1/1.1.1..4.1.1/1.1.1/1.1.1",
    )
    ranges_ = map(CoordinateRange.parse, spelt)
    rules = tuple(Rule(each, pinned=(ids[i],)) for i, each in enumerate(ranges_))
    placement = Placement(members, Policy(_PHEXT, 1, 0, rules))
    for library, first in ((1, 0), (2, 2), (3, 3)):
        place = Coordinate(library, 1, 1, 1, 1, 1, 1, 1, 5)
        assert placement.holders(place)[0].node_id == ids[first], library


def test_however_many_boundaries_are_listed_so_many_count() -> None:
    members = _mesh(3)
    places = [Coordinate(1 + i // 999, 1 + i % 999, *[1] * 7) for i in range(3000)]
    for count, found in ((255, 255), (256, 256), (3000, 256)):
        placement = Placement(members, Policy(_PHEXT, 2), places[:count])
        assert len(list(placement.ranges(EVERYTHING))) == found
        told = ["expected at most 256 ranges, found 3000: the last are one"]
        assert placement.problems() == (told if count > 256 else [])


def test_a_member_that_may_not_write_all_of_a_range_never_holds_it_even_if_it_is_pinned() -> None:
    members = _mesh(9)
    limited = Permissions.of({"": [EVERYTHING]}, {_PHEXT: [CoordinateRange.parse("2.*")]})
    reader = min(members)
    members[reader] = replace(members[reader], permissions=limited)
    policy = Policy(_PHEXT, 9, 0, (Rule(CoordinateRange.parse("3.*"), pinned=(reader,)),))
    placement = Placement(members, policy, [Coordinate(2, *[1] * 8), Coordinate(3, *[1] * 8)])
    for library in range(1, 5):
        holders = [m.node_id for m in placement.holders(Coordinate(library, *[1] * 8))]
        assert len(holders) == (9 if library == 2 else 8)
        assert (reader in holders) == (library == 2)


def test_what_cannot_be_is_told_and_everybody_there_is_holds() -> None:
    members = _mesh(2)
    rule = Rule(CoordinateRange.parse("1.*"), pinned=(b"x" * 16, min(members)))
    placement = Placement(members, Policy(_PHEXT, 3, 0, (rule,)))
    assert placement.problems() == [
        f"1.* is pinned to {(b'x' * 16).hex()}, which is no member",
        "expected at least 3 members, found 2",
    ]
    assert len(placement.holders(ORIGIN)) == 2
