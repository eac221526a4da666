"""Conflicts are where two sides changed one line, and can be settled later."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.conflicts import (
    Conflict,
    conflicts,
    is_answer,
    is_settled,
    replaced,
    settled,
    theirs_of,
)
from phextsync.merges import merged_text
from tests.strategies import documents

_NUMBERS = st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True)
_ACTIONS = st.sampled_from(["keep", "delete", "words", "whole", "insert"])


def _changed(line: str, action: str, side: str) -> str:
    match action:
        case "delete":
            return ""
        case "words":
            return line.replace("note", f"log-{side}")
        case "whole":
            return f"{side * 3} {line.split()[2]}{side}\n"
        case "insert":
            return f"{line}put by {side}\n"
    return line


@given(_NUMBERS, st.data())
def test_changes_of_different_lines_are_no_conflict(
    numbers: list[int], data: st.DataObject
) -> None:
    base = [f"the note {number} of all\n" for number in numbers]
    mine, theirs = list(base), list(base)
    for i, line in enumerate(base):
        side = data.draw(st.sampled_from([mine, theirs]))
        side[i] = _changed(line, data.draw(_ACTIONS), "m" if side is mine else "t")
    assert conflicts(*map("".join, (base, mine, theirs))) == []


@given(_NUMBERS, st.data())
def test_different_changes_of_one_line_are_a_conflict(
    numbers: list[int], data: st.DataObject
) -> None:
    base = [f"the note {number} of all\n" for number in numbers]
    mine, theirs = list(base), list(base)
    place = data.draw(st.integers(0, len(base) - 1))
    for i, line in enumerate(base):
        if i == place:
            actions = data.draw(st.permutations(["delete", "words", "whole"]))[:2]
            mine[i], theirs[i] = _changed(line, actions[0], "m"), _changed(line, actions[1], "t")
        else:
            side = data.draw(st.sampled_from([mine, theirs]))
            side[i] = _changed(line, data.draw(_ACTIONS), "m" if side is mine else "t")
    found = conflicts(*map("".join, (base, mine, theirs)))
    assert len(found) == 1
    assert base[place] in found[0].base
    assert mine[place] in found[0].mine
    assert theirs[place] in found[0].theirs


@given(documents, documents, documents)
def test_conflicts_are_the_same_from_both_sides(base: str, mine: str, theirs: str) -> None:
    assert [(c.line, c.base, c.mine, c.theirs) for c in conflicts(base, mine, theirs)] == [
        (c.line, c.base, c.theirs, c.mine) for c in conflicts(base, theirs, mine)
    ]


def test_a_blank_that_goes_where_it_stood_twice_is_no_conflict() -> None:
    base, mine, theirs = "buy  milk\n", "buy milk\n", "buy  oat milk\n"
    assert conflicts(base, mine, theirs) == conflicts(base, theirs, mine) == []
    assert len(conflicts(base, "buy tea\n", theirs)) == 1


@given(documents, documents)
def test_a_change_of_one_side_or_the_same_of_both_is_no_conflict(base: str, new: str) -> None:
    assert (
        conflicts(base, new, base) == conflicts(base, base, new) == conflicts(base, new, new) == []
    )


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "found"),
    [
        ("milk\ntea\n", "milk\r\ntea\r\n", "milk\ntea, green\n", []),
        ("a\n", "a\nb\n", "a\nc\n", []),
        ("a\n", "b\n", "c\n", [Conflict(1, "a\n", "b\n", "c\n")]),
        ("a b\nc\n", "c\n", "a x\nc\n", [Conflict(1, "a b\n", "", "a x\n")]),
        (
            "a\nb\nc\n",
            "a\nx y\nz\n",
            "a\nq r\nc\n",
            [Conflict(2, "b\nc\n", "x y\nz\n", "q r\nc\n")],
        ),
        ("one two", "one 2", "1 two", [Conflict(1, "one two", "one 2", "1 two")]),
    ],
)
def test_lines_that_both_sides_changed_are_found(
    base: str, mine: str, theirs: str, found: list[Conflict]
) -> None:
    assert [replace(each, left=None) for each in conflicts(base, mine, theirs)] == found


@given(documents, documents)
def test_what_the_other_side_had_is_known_if_one_side_alone_changed(base: str, new: str) -> None:
    assert theirs_of(base, base, new) == new
    assert theirs_of(base, new, new) == base


def test_what_the_other_side_had_is_known_from_the_merge() -> None:
    base, mine, theirs = "a b c\nd\ne\n", "a x c\ne\n", "new\na b c\nd\ne!\n"
    assert theirs_of(base, mine, merged_text(base, mine, theirs)) == theirs


@given(_NUMBERS, st.data())
def test_a_settled_conflict_has_the_chosen_version(numbers: list[int], data: st.DataObject) -> None:
    base = [f"the note {number} of all\n" for number in numbers]
    place = data.draw(st.integers(0, len(base) - 1))
    mine, theirs = list(base), list(base)
    mine[place] = _changed(base[place], "words", "m")
    theirs[place] = _changed(base[place], data.draw(st.sampled_from(["words", "whole"])), "t")
    texts = "".join(base), "".join(mine), "".join(theirs)
    (conflict,) = conflicts(*texts)
    merged = merged_text(*texts)
    assert settled(merged, conflict, conflict.mine) == texts[1]
    assert settled(merged, conflict, conflict.theirs) == texts[2]
    assert settled(f"new\n{merged}more\n", conflict, "a\nb") == "".join(
        ("new\n", *base[:place], "a\nb\n", *base[place + 1 :], "more\n")
    )


def test_a_conflict_whose_lines_were_changed_since_is_found_while_they_are_alike() -> None:
    conflict = Conflict(2, "buy the milk\n", "buy the tea\n", "buy the rice\n")
    text = "first\nbuy also the tea rice today\nlast\n"
    assert settled(text, conflict, "buy nothing\n") == "first\nbuy nothing\nlast\n"
    assert settled("first\nsomething else\nlast\n", conflict, "buy nothing\n") is None


@pytest.mark.parametrize("side", ["mine", "theirs"])
@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged", "expected"),
    [
        ("a\nb\n", "a\nx\n", "a\ny\n", "a\nxy\n", ("a\nx\n", "a\ny\n")),
        # What is left of a line stands at the beginning of the next one.
        (
            "for two\nend\n",
            "end\n",
            "for you two\nend\n",
            "you end\n",
            ("end\n", "for you two\nend\n"),
        ),
        # Nothing is left of it.
        ("a\nb c\nd\n", "a\nd\n", "a\nb\nd\n", "a\nd\n", ("a\nd\n", "a\nb\nd\n")),
        ("a b", "b", "a", "", ("b", "a")),
        # Two lines that touch are one conflict.
        ("a\nb\n", "ax\nbx\n", "ay\nby\n", "axy\nbxy\n", ("ax\nbx\n", "ay\nby\n")),
        # The last line has no end, and one is put in behind it.
        ("a\nb", "a\nx", "a\ny\nc\n", "a\nxyc\n", ("a\nx", "a\ny\nc\n")),
    ],
)
def test_one_side_is_taken_exactly_whatever_the_merge_left(
    base: str, mine: str, theirs: str, merged: str, expected: tuple[str, str], side: str
) -> None:
    (conflict,) = conflicts(base, mine, theirs, merged)
    taken = settled(merged, conflict, conflict.mine if side == "mine" else conflict.theirs)
    assert taken == expected[side == "theirs"]


def test_lines_of_others_beside_a_conflict_stay_when_a_side_is_taken() -> None:
    (conflict,) = conflicts("a\nb\nc\n", "a\nx\nc\n", "a\ny\nc\n", "a\nx y\nc\n")
    assert settled("new\na\nx  y\nc\nmore\n", conflict, "z\n") == "new\na\nz\nc\nmore\n"
    assert settled("a\nput in\nx y\nc\n", conflict, "z\n") == "a\nput in\nz\nc\n"


def test_a_conflict_is_settled_when_one_side_stands_where_the_merge_left_something_else() -> None:
    (conflict,) = conflicts("a\nb\nc\n", "a\nx\nc\n", "a\nc\n", "a\nx b\nc\n")
    assert not is_settled("a\nx b\nc\n", conflict)
    assert is_settled("a\nx\nc\n", conflict)
    assert is_settled("a\nc\n", conflict)
    assert not is_settled("a\nsomething else\nc\n", conflict)
    assert not is_settled("a\nsomething else\nc\nx\n", conflict)
    assert not is_settled("a\nx\nc\n", replace(conflict, left=None))


@pytest.mark.parametrize(
    ("base", "text", "lines"),
    [
        ("a\nb\nc\n", "new\na\nz\nw\nc\n", range(2, 4)),
        ("a\nb\nc\n", "a\nx y\nc\n", None),  # what the merge left
        ("a\nb\nc\n", "a\nc\n", None),
        ("a\nb\nc\n", "z\nw\n", None),
        ("b\nc\n", "z\nc\n", range(1)),
        ("a\nb\n", "a\nz\nw\n", range(1, 3)),
        ("1\n2\n3\na\nb\nc\n", "a\nz\nc\na\nw\nc\n", range(4, 5)),  # the nearest
    ],
)
def test_what_stands_instead_of_what_was_left_is_found_between_the_lines_beside_it(
    base: str, text: str, lines: range | None
) -> None:
    texts = (base.replace("b", words) for words in ("x", "y", "x y"))
    (conflict,) = conflicts(base, *texts)
    assert replaced(text, conflict) == lines
    assert replaced(text, replace(conflict, left=None)) is None


@pytest.mark.parametrize(("line", "is_first"), [(4, True), (6, False)])
def test_of_equal_lines_the_nearest_is_settled(line: int, is_first: bool) -> None:
    conflict = Conflict(line, "a\n", "b\n", "c\n")
    left = merged_text("a\n", "b\n", "c\n")
    first, second = ("b\n", left) if is_first else (left, "b\n")
    text = f"0\n1\n{left}x\ny\n{left}"
    assert settled(text, conflict, "b\n") == f"0\n1\n{first}x\ny\n{second}"


@pytest.mark.parametrize(
    ("mine", "merged", "answers"),
    [
        ("buy oat milk\n", "buy oat soy milk\n", False),
        ("buy oat milk\n", "buy soy milk\n", True),
        ("buy tea\n", "buy tea juice\n", False),
        ("buy tea\n", "buy juice\n", True),
        ("buy tea\n", "", True),
        ("buy milk\nbread\n", "soy\nbread\n", False),
        ("buy milk\nbread\n", "buy milk\n", True),
        ("buy milks\n", "buy milkshake\n", False),
        ("", "soy\n", False),
    ],
)
def test_who_takes_away_what_was_put_in_had_seen_it(mine: str, merged: str, answers: bool) -> None:
    assert is_answer("buy milk\n", mine, merged) == answers
