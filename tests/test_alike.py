"""What two made alike of one text apart is there once, and nothing that either wrote is lost."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phextsync.edits import apply_edits
from phextsync.files.alike import lines_twice, shared_base
from phextsync.merges import merged_text
from tests.test_files import Mesh

_LINES = [f"{word} number {i}\n" for i, word in enumerate(("cat", "sat", "mat", "saw", "noon"))]
_OTHERS = ["one thing\n", "another thing\n", "something else\n", "the last of all\n"]


def _merged(base: str, scroll: str, text: str) -> str:
    return merged_text(shared_base(base, scroll, text), scroll, text)


@pytest.mark.parametrize("more", ["", "and a line more\n"])
@pytest.mark.parametrize("start", ["", _OTHERS[0]])
def test_two_that_replace_a_text_by_much_the_same_have_it_once(more: str, start: str) -> None:
    base, new = start + "".join(_LINES), start + "".join(_OTHERS[1:])
    assert _merged(base, new + more, new) == new + more
    assert _merged(base, new, new + more) == new + more


def test_a_line_that_each_changed_in_its_own_way_beside_what_they_share_is_merged() -> None:
    shared = "".join(_OTHERS)
    mine, others = f"a tall cat\n{shared}", f"tall cat sat\n{shared}"
    assert _merged("tall cat\n", mine, others) == f"a tall cat sat\n{shared}"


def test_lines_keep_their_ends() -> None:
    assert shared_base("one", "one\nmany\n", "one\nmany\nmore\n") == "one\nmany\n"
    assert shared_base("one", "many\none", "many\nmore\none") == "many\none"
    assert shared_base("a\r\nb\n", "a\r\nmany\r\n", "a\nmany\nx\n") == "a\r\nmany\r\n"
    assert shared_base("", "many\n", "many\nx\n") == "many\n"


def test_what_two_made_of_a_text_that_is_not_alike_is_merged_as_ever() -> None:
    base = "".join(_LINES)
    assert shared_base(base, base + _OTHERS[0], _OTHERS[1] + base) == base
    assert shared_base(base, "".join(_OTHERS), "".join(_LINES[:2])) == base


_TEXTS = st.lists(st.sampled_from("abcdefghi"), unique=True).map(lambda of: "\n".join([*of, ""]))


@given(*[_TEXTS] * 3)
def test_nothing_that_either_side_wrote_is_lost_or_comes_back(
    base: str, scroll: str, text: str
) -> None:
    before, mine, others, found = (
        {*of.split()} for of in (base, scroll, text, _merged(base, scroll, text))
    )
    assert (mine | others) - before <= found <= mine | others
    assert before & mine & others <= found


@pytest.mark.parametrize("more", ["", "and a line more\n"])
@pytest.mark.parametrize("start", ["", _OTHERS[0]])
def test_what_others_made_alike_of_a_text_is_deleted_where_it_stands_twice(
    more: str, start: str
) -> None:
    base, new = start + "".join(_LINES), start + "".join(_OTHERS[1:])
    mine, others = "".join(_OTHERS[1:]), "".join(_OTHERS[1:]) + more
    for text in (new, new + more):
        edits = lines_twice(base, text, start + mine + others)
        assert apply_edits(start + mine + others, edits) == new + more
        edits = lines_twice(base, text, start + others + mine)
        assert apply_edits(start + others + mine, edits) == new + more


def test_words_that_both_put_beside_one_that_stays_stand_once() -> None:
    base, new = "".join(_LINES), f"cat is a thing\n{''.join(_OTHERS)}"
    whole = f"cat is a thing is  a thing\n{2 * ''.join(_OTHERS)}and more\n"
    assert apply_edits(whole, lines_twice(base, new, whole)) == f"{new}and more\n"
    other = whole.replace("is  a thing", "is another thing")  # which is no repetition
    assert not lines_twice(base, new, other)


def test_lines_that_stand_twice_at_several_places_are_deleted_at_each() -> None:
    base, new = "a\nx\nb\ny\nc\n", "a\np\nb\nq\nc\n"
    whole = "a\np\np\nb\nq\nq\nc\n"
    edits = lines_twice(base, new, whole)
    assert edits == sorted(edits)
    assert apply_edits(whole, edits) == new


def test_what_was_added_and_what_is_not_alike_may_stand_twice() -> None:
    base, line, other = "a\nb\n", _OTHERS[0], _OTHERS[1]
    assert not lines_twice(base, base + line, base + line + line)  # two added it
    assert not lines_twice(base, line, line + line * 0)  # nobody else did
    assert not lines_twice(base, line + line, line + line)  # it is meant to
    assert not lines_twice(base, f"{line}\n{other}", f"{line}\n{other}x\n\ny\n")


_FEW = st.lists(st.sampled_from("abcd"), max_size=4).map(lambda of: "".join(f"{x}\n" for x in of))


@example("a\nb\n", "b\nb\n", "b\nb\nb\n")  # of which the two delete not the same
@example("c\na\n", "b\na\nb\n", "a\n")  # where a line of another piece is like one
@given(_FEW, _FEW, _FEW)
def test_of_what_stands_twice_enough_stays_whoever_deletes_it(
    base: str, mine: str, others: str
) -> None:
    whole = mine + others
    most = Counter(mine.split()) | Counter(others.split())
    by_me, by_others = (lines_twice(base, side, whole) for side in (mine, others))
    for edits in (by_me, by_others, sorted({*by_me, *by_others})):
        assert Counter(apply_edits(whole, edits).split()) >= most


@pytest.mark.parametrize("is_whole_again", [False, True])
def test_two_machines_that_replace_a_text_apart_by_much_the_same_have_it_once(
    is_whole_again: bool,
) -> None:
    mesh = Mesh(3)
    one, two, _ = mesh.machines
    old, new = "".join(_LINES), "".join(_OTHERS)
    one.disk.put("n.md", old)
    mesh.settle()
    mesh.part()
    two.disk.put("n.md", old + "and more\n")  # so what both put there has not one neighbour
    mesh.pass_time(1)
    for machine, text in ((one, new), (two, new + "the end\n")):
        machine.disk.put("n.md.tmp", text)
        machine.disk.rename("n.md.tmp", "n.md")
    mesh.pass_time(1)
    assert mesh.settle() == {"n.md": new + "the end\n"}
    if is_whole_again:
        mesh.pass_time(10)
    two.disk.put("n.md", new + "the end\n" + new)  # whoever writes it again knows that it is there
    assert mesh.settle() == {"n.md": new + "the end\n" + new}


def test_no_more_lines_are_deleted_than_stand_there_too_often() -> None:
    base, mine = "x\n1\na\n2\nb\n3\n", "x\n1\nx\n2\nx\n3\n"
    whole = "1\nx\nx\n2\nx\nx\n3\n"  # others deleted the first one
    assert Counter(apply_edits(whole, lines_twice(base, mine, whole)))["x"] == 3
