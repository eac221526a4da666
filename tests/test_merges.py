"""What two changes of one text become: no part of a word alone, nothing glued, nothing twice."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync import Coordinate
from phextsync.crdt import Scroll
from phextsync.edits import apply_edits
from phextsync.merges import blanks_too_many, glued_words, merged_edits, merged_text
from tests.strategies import documents

# Words that are like each other, of which one becomes another by a letter, and signs at them.
_WORDS = st.sampled_from(["1", "10", "100", "cat", "cats", "at", "scat"])
_SIGNED = _WORDS | st.sampled_from(["at.", "cat!", "(10)", "1,10", "a/cat", "==", "\u8336", "--"])


@st.composite
def _sides(draw: st.DrawFn, words: st.SearchStrategy[str]) -> tuple[str, str, str]:
    """Three texts of lines of words, of which the last two are like the first or unlike it."""
    some = st.lists(words, max_size=4)
    lines = draw(st.lists(some, max_size=4))
    texts = [lines]
    for _ in "ab":
        changed = []
        for line in lines:
            action = draw(st.sampled_from(["keep", "change", "drop", "put", "split", "join"]))
            at = draw(st.integers(0, len(line)))
            if action == "change":
                line = [*line[:at], draw(words), *line[at + draw(st.integers(0, 2)) :]]
            elif action == "put":
                changed.append(draw(some))
            elif action == "split":
                changed.append(line[:at])
                line = line[at:]
            elif action == "join" and changed:
                line = changed.pop() + line
            if action != "drop":
                changed.append(line)
        texts.append(changed)
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    whole = ["".join(" ".join(line) + ends for line in lines) for lines in texts]
    base, current, new = (
        text if draw(st.integers(0, 3)) else text.removesuffix(ends) for text in whole
    )
    return base, current, new


def _words_of(text: str) -> set[str]:
    return set(text.split())


@given(_sides(_WORDS))
def test_every_word_of_a_merge_is_a_word_of_a_side(texts: tuple[str, str, str]) -> None:
    assert _words_of(merged_text(*texts)) <= set[str]().union(*map(_words_of, texts))


@given(_sides(_SIGNED))
def test_every_name_and_number_of_a_merge_is_one_of_a_side(texts: tuple[str, str, str]) -> None:
    known = {name for text in texts for name in re.findall(r"\w+", text)}
    assert set(re.findall(r"\w+", merged_text(*texts))) <= known


@given(_sides(_SIGNED))
def test_a_merge_has_no_blank_too_many(texts: tuple[str, str, str]) -> None:
    for line in merged_text(*texts).replace("\r\n", "\n").split("\n"):
        assert "  " not in line
        assert line == line.strip()


@given(documents, documents, documents)
def test_merged_edits_ascend_and_insert_nothing_that_was_not_new(
    base: str, current: str, new: str
) -> None:
    edits = merged_edits(base, current, new)
    at = 0
    for start, stop, words in edits:
        assert at <= start <= stop <= len(current)
        assert current[start:stop] != words
        at = stop
    # A blank or a line end may come between words of both sides.
    inserted = Counter("".join("".join(words for _, _, words in edits).split()))
    assert inserted <= Counter(new)


@pytest.mark.parametrize(
    ("base", "current", "new"),
    [("\n", "a\n", ""), ("a a bb", "a abb", "aa bb"), ("\na", "a\na\r\n", "a")],
)
def test_a_change_of_which_nothing_is_left_is_no_edit(base: str, current: str, new: str) -> None:
    assert merged_text(base, current, new) == current
    assert merged_edits(base, current, new) == []


@pytest.mark.parametrize("before", ["", "some words " * 9])
@pytest.mark.parametrize(("size", "is_word"), [(7, True), (64, True), (65, False)])
def test_a_word_of_up_to_64_characters_stands_when_one_changes_what_another_deletes(
    before: str, size: int, is_word: bool
) -> None:
    word = "".join("abcdefghijklmnopq"[i % 17] for i in range(size))
    base, deleted = f"{before}{word} end\n", f"{before}end\n"
    for changed, rest in ((f"{word}s", "s"), (f"s{word}", "s")):
        one = f"{before}{changed} end\n"
        merged = one if is_word else f"{before}{rest} end\n"
        assert merged_text(base, one, deleted) == merged_text(base, deleted, one) == merged


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("base", "one", "other", "merged"),
    [
        # A word that one side wrote into and the other deleted, or replaced.
        ("pay 10\n", "pay 100\n", "", "100\n"),
        ("a\npay 10\nb\n", "a\npay 100\nb\n", "a\nb\n", "a\n100\nb\n"),
        ("a\npay 10", "a\npay 100", "a", "a\n100"),
        ("pay 10 now\n", "pay 100 now\n", "pay now\n", "pay 100 now\n"),
        ("see f(x.y)!\n", "see f(x.yz)!\n", "see\n", "see f(x.yz)!\n"),
        ("cats\n", "cat\n", "", ""),  # nothing was put in that could be torn
        ("ab c\n", "a b c\n", "c\n", "c\n"),
        # What stays of a line that the other side deleted is a line.
        ("a\npay 10 x y\nb\n", "a\npay 20 x z\nb\n", "a\nb\n", "a\n20 z\nb\n"),
        ("a\npay 10\nbuy tea\n", "a\npay 20\nbuy milk\n", "a\n", "a\n20\nmilk\n"),
        ("a\npay 10\nb\n", "a\nso pay 10\nb\n", "a\nb\n", "a\nso\nb\n"),
        ("a\npay 10\nb\n", "a\npay 10 now\nb\n", "a\nb\n", "a\nnow\nb\n"),
        ("a\npay 10\nb\n", "a\nthe new\npay 10\nb\n", "a\nb\n", "a\nthe new\nb\n"),
        ("23\n24\n", "2\n23\n24\n", "24\n", "2\n24\n"),
        # Words beside what was deleted.
        ("a b\n", "a x b\n", "a\n", "a x\n"),
        ("a b\n", "a x b\n", "b\n", "x b\n"),
        ("a b\n", "a b c\n", "a B\n", "a B c\n"),
        # An empty line that one side put in where the other put words.
        ("a b\n", "a\n\nb\n", "a c b\n", "a c\n\nb\n"),
        ("a b\n", "a\n\n\nb\n", "a c b\n", "a c\n\n\nb\n"),
        # Both wrote into one word at places apart, or in scripts without blanks.
        ("f(x)\n", "g(x)\n", "f(y)\n", "g(y)\n"),
        ("x.y\n", "x.y.z\n", "x.w\n", "x.w.z\n"),
        ("\u6211\u559d\u8336\n", "\u6211\u559d\u7ea2\u8336\n", "", "\u7ea2\n"),
        ("x" * 300, "x" * 150 + "y" + "x" * 150, "", "y"),
        ("x/" * 99, "x/" * 50 + "xyz/" + "x/" * 49, "", "xyz/x/"),
    ],
)
def test_changes_that_meet_do_not_depend_on_the_side(
    base: str, one: str, other: str, merged: str, end: str
) -> None:
    base, one, other, merged = (text.replace("\n", end) for text in (base, one, other, merged))
    assert merged_text(base, one, other) == merged
    assert merged_text(base, other, one) == merged


@pytest.mark.parametrize(
    ("base", "current", "new", "merged"),
    [
        ("pay 10\n", "pay 100\n", "pay 20\n", "pay 100 20\n"),
        ("10\n", "100\n", "105\n", "100\n105\n"),
        ("a b cat c\n", "a b dog c\n", "a b cats c\n", "a b dog cats c\n"),
        ("cat\n", "dog\n", "cats\n", "dog\ncats\n"),
        ("buy milk\n", "buy soy milk\n", "buy oat milk\n", "buy soy oat milk\n"),
        ("a b c\n", "a x c\n", "a y c\n", "a x y c\n"),
        ("1 2\n", "1 3 2\n", "1 13 2\n", "1 3 13 2\n"),
        ("b\n", "a b\n", "c\nb\n", "c\na b\n"),
        ("b", "b\nc", "b a", "b a\nc"),
        ("10 20\n", "200\n", "10 200\n", "200\n"),
        ("a b", "a b\nc d", "a b\nc e", "a b\nc d\nc e"),
        ("a b", "a b\nc d\nc e", "a b\nc e", "a b\nc d\nc e"),  # done again, later
        # An empty line that one side put in where the other put a line.
        ("a\nb\n", "a\nc\nb\n", "a\n\nb\n", "a\nc\n\nb\n"),
        ("a\nb\n", "a\n\nb\n", "a\nc\nb\n", "a\n\nc\nb\n"),
        ("", "\n", "\n\n", "\n\n"),
        ("a\n", "b\n\n", "c\n", "b\n\nc\n"),
        ("a\n", "b\n", "\nc\n", "b\n\nc\n"),
        ("a\r\n", "b\r\n\r\n", "c\r\n", "b\r\n\r\nc\r\n"),
        ("see it\n", "see it now\n", "see it now and then\n", "see it now and then\n"),
        ("<1>\n", "<1><2>\n", "<1><3>\n", "<1><2><3>\n"),
    ],
)
def test_of_two_changes_in_one_place_the_current_one_comes_first(
    base: str, current: str, new: str, merged: str
) -> None:
    assert merged_text(base, current, new) == merged


# -- words that are all different ----------------------------------------------------------


@st.composite
def _different(draw: st.DrawFn, actions: Sequence[str]) -> tuple[str, str, str]:
    """Three texts of lines in which no word stands twice."""
    numbers = count()
    lines = [[f"{next(numbers)}" for _ in range(n)] for n in draw(_SIZES)]
    texts = [lines]
    for side in "mn":
        changed: list[list[str]] = []
        for line in lines:
            at = draw(st.integers(0, len(line)))
            stop = draw(st.integers(at, len(line)))
            new = [f"{side}{next(numbers)}" for _ in range(draw(st.integers(0, 2)))]
            match draw(st.sampled_from(actions)):
                case "change":
                    changed.append([*line[:at], *new, *line[stop:]])
                case "insert":
                    changed.append([*line[:at], *new, *line[at:]])
                case "grow":
                    changed.append([*line[:at], *(f"{word}{side}" for word in line[at:])])
                case "put":
                    changed += [new, line]
                case "split":
                    changed += [line[:at], line[at:]]
                case "join" if changed:
                    changed[-1] = changed[-1] + line
                case "keep" | "join":
                    changed.append(line)
        texts.append(changed)
    base, ours, theirs = (
        "".join(" ".join(line) + "\n" for line in lines if line) for lines in texts
    )
    return base, ours, theirs


_STAYING = ["keep", "insert", "put", "drop", "change", "grow"]
_SIZES = st.lists(st.integers(0, 4), max_size=4)


@given(_different(_STAYING))
def test_each_word_that_a_side_put_in_is_there_once(texts: tuple[str, str, str]) -> None:
    base, current, new = (_words_of(text) for text in texts)
    merged = merged_text(*texts).split()
    assert len(merged) == len(set(merged))
    assert (current | new) - base | (base & current & new) <= set(merged) <= base | current | new


@given(_different(_STAYING))
def test_words_do_not_depend_on_the_side(texts: tuple[str, str, str]) -> None:
    base, current, new = texts
    one, other = merged_text(base, current, new), merged_text(base, new, current)
    assert Counter(one.split()) == Counter(other.split())


@given(_different(["keep", "put"]))
def test_to_add_lines_again_changes_nothing(texts: tuple[str, str, str]) -> None:
    base, current, new = texts
    merged = merged_text(base, current, new)
    assert merged_text(base, merged, new) == merged
    assert merged_text(base, merged, current) == merged


@given(_different(_STAYING))
def test_words_of_two_lines_come_into_no_line(texts: tuple[str, str, str]) -> None:
    lines = [[line.split() for line in text.splitlines()] for text in texts]
    at = [{word: i for i, line in enumerate(of_text) for word in line} for of_text in lines]
    for line in merged_text(*texts).splitlines():
        for before, behind in pairwise(line.split()):
            both = [places for places in at if before in places and behind in places]
            assert not both or any(places[before] == places[behind] for places in both)


@st.composite
def _whole_lines(draw: st.DrawFn) -> tuple[str, str, str]:
    """Three texts of lines, some of them empty, of which the last two were made of the first by
    whole lines that came and went."""
    numbers = count()
    base = [f"{next(numbers)}" for _ in range(draw(st.integers(0, 3)))]
    texts = [base]
    for side in "mn":
        changed: list[str] = []
        for line in [*base, None]:
            are_empty = draw(st.lists(st.booleans(), max_size=2))
            changed += ["" if is_empty else f"{side}{next(numbers)}" for is_empty in are_empty]
            if line is not None and draw(st.booleans()):
                changed.append(line)
        texts.append(changed)
    one, two, three = ("".join(f"{line}\n" for line in lines) for lines in texts)
    return one, two, three


@given(_whole_lines())
def test_lines_do_not_depend_on_the_side(texts: tuple[str, str, str]) -> None:
    base, current, new = texts
    one, other = merged_text(base, current, new), merged_text(base, new, current)
    assert {*one.splitlines()} == {*other.splitlines()}


# -- blanks of two documents that merged --------------------------------------------------------


def _concurrent(base: str, *changed: str) -> str:
    """Return what two scrolls become that were edited apart and then merged."""
    ours = Scroll(Coordinate.parse("1.1.1/1.1.1/1.1.1"), 1)
    ours.edit(base)
    theirs = Scroll(ours.coordinate, 2, [ours.state()])
    changes = ours.edit(changed[0]), theirs.edit(changed[1])
    for scroll, change in zip((theirs, ours), changes, strict=True):
        if change is not None:
            assert scroll.apply(change).covered
    return ours.text


@pytest.mark.parametrize(
    ("base", "one", "other", "merged"),
    [
        ("buy milk\n", "buy oat milk\n", "buy soy milk\n", "buy oat soy milk\n"),
        ("a b c\n", "a x c\n", "a y c\n", "a x y c\n"),
        ("x = 1\n", "x  = 1\n", "x = 2\n", "x  = 2\n"),  # somebody wanted two
        ("a  b c\n", "a  b x c\n", "a  b y c\n", "a  b x y c\n"),
    ],
)
def test_of_two_blanks_that_two_sides_brought_one_goes_and_it_is_the_same_for_both(
    base: str, one: str, other: str, merged: str
) -> None:
    text = _concurrent(base, one, other)
    edits = [blanks_too_many(base, mine, text) for mine in (one, other)]
    assert edits[0] == edits[1]
    assert apply_edits(text, edits[0]) == merged


def test_a_blank_that_stays_of_what_another_deleted_goes() -> None:
    base, one, other = "a b c\n", "a x b c\n", "a c\n"
    text = _concurrent(base, one, other)
    assert text == "a x  c\n"
    assert apply_edits(text, blanks_too_many(base, one, text)) == "a x c\n"
    assert blanks_too_many(base, other, text) == []  # who knows whether they were wanted


@given(_different(_STAYING))
def test_blanks_too_many_are_blanks_beside_others(texts: tuple[str, str, str]) -> None:
    base, one, other = texts
    text = _concurrent(base, one, other)
    for mine in (one, other):
        for start, stop, words in blanks_too_many(base, mine, text):
            assert text[start - 1 : stop].strip(" ") == words == ""


@pytest.mark.parametrize(
    ("base", "mine", "merged", "parted"),
    [
        ("old\n", "cat\n", "dogcat\n", "dog\ncat\n"),
        ("old\n", "cat\n", "catdog\n", "cat\ndog\n"),
        ("old\r\n", "cat\r\n", "catdog\r\n", "cat\r\ndog\r\n"),
        ("a b\n", "a c b\n", "a cd b\n", "a c d b\n"),
        ("cat\n", "cats\n", "catsx\n", "catsx\n"),  # no word of its own
        ("hello\n", "bye\n", "bye!\n", "bye!\n"),
        ("old\n", "cat\n", "dog\ncat\n", "dog\ncat\n"),
        ("old\n", "old\n", "olddog\n", "olddog\n"),  # nothing of mine is glued
        ("a\nold b\nc\n", "a\nold b x\nc\n", "a\n xc\n", "a\n x\nc\n"),
        ("a\nb\n", "a\nx b\n", "ax b\n", "ax b\n"),  # who deletes what is between wants that
    ],
)
def test_words_of_two_that_stand_glued_together_are_parted(
    base: str, mine: str, merged: str, parted: str
) -> None:
    assert apply_edits(merged, glued_words(base, mine, merged)) == parted


def test_a_word_that_another_wrote_together_is_not_parted_for_one_that_was_put_in_elsewhere() -> (
    None
):
    base, mine = "to day\nlast\n", "to day\nlast to\n"
    assert glued_words(base, mine, "today\nlast to\n") == []
