"""What two made alike of one text apart is there once, and nothing that either wrote is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.files.alike import shared_base
from phextsync.merges import merged_text

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
