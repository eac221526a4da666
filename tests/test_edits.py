"""Edits make one text of another, and two changes of one text are both in what is merged."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from random import Random
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync import Coordinate
from phextsync.alignment import Work, changed_blocks, shortest_script
from phextsync.crdt import Scroll
from phextsync.edits import (
    Edit,
    apply_edits,
    in_hunks,
    in_steps,
    likeness,
    lines_of,
    minimal_edits,
    missing_lines,
    whole_line_edits,
    with_blanks,
)
from phextsync.merges import merged_edits, merged_text
from tests.strategies import documents


@given(documents, documents)
def test_minimal_edits_make_the_new_text_of_the_old(old: str, new: str) -> None:
    edits = minimal_edits(old, new)
    at = 0
    for start, stop, _ in edits:
        assert at <= start <= stop
        at = stop
    assert apply_edits(old, edits) == new


def test_unrelated_large_texts_are_replaced_whole_in_bounded_work() -> None:
    source = Random(2)
    old, new = ("".join(source.choices("abcdefgh \n", k=200_000)) for _ in range(2))
    edits = minimal_edits(old, new)
    assert sum(stop - start for start, stop, _ in edits) > 100_000


@given(documents, documents)
def test_a_change_of_one_side_alone_is_the_result(base: str, changed: str) -> None:
    assert merged_text(base, base, changed) == changed
    assert merged_text(base, changed, base) == changed


@given(documents, documents)
def test_the_same_change_on_both_sides_is_made_once(base: str, new: str) -> None:
    assert merged_text(base, new, new) == new


@pytest.mark.parametrize(
    ("old", "new", "edits"),
    [
        ("a c\n", "a b c d\n", [(1, 1, " b"), (3, 3, " d")]),  # as if each were the only one
        ("0\n", "1\n0\n9 10\n", [(0, 0, "1\n"), (2, 2, "9 10\n")]),
        ("1\n9 10\n0\n", "0\n", [(0, 7, "")]),
        ("a\n3\nb\n", "a\nthe number 3\nc\n", [(2, 2, "the number "), (4, 5, "c")]),
        ("a\n3\nb\n", "a\n3 of these\nc\n", [(3, 3, " of these"), (4, 5, "c")]),
        ("a\nb\nc\n", "x\ny\nz\n", [(0, 1, "x"), (2, 3, "y"), (4, 5, "z")]),
    ],
)
def test_what_is_put_in_begins_and_ends_with_words(
    old: str, new: str, edits: list[tuple[int, int, str]]
) -> None:
    assert minimal_edits(old, new) == edits


@given(st.lists(st.booleans(), min_size=1, max_size=4).filter(any), st.booleans())
def test_words_that_became_others_are_replaced_whole(changes: list[bool], is_behind: bool) -> None:
    rest = "and what else stands in this line"
    old, new = ([f"b{letter}{i}d" for i in range(len(changes))] for letter in "au")
    at = len(rest) + 1 if is_behind else 0
    expected = []
    for before, after, is_changed in zip(old, new, changes, strict=True):
        if is_changed:
            expected.append((at, at + len(before), after))
        at += len(before) + 1
    new = [new[i] if is_changed else old[i] for i, is_changed in enumerate(changes)]
    lines = [[rest, *words] if is_behind else [*words, rest] for words in (old, new)]
    assert minimal_edits(*(f"{' '.join(line)}\n" for line in lines)) == expected


@pytest.mark.parametrize("is_behind", [False, True])
@pytest.mark.parametrize("size", [64, 65])
def test_the_edge_of_a_word_is_looked_for_among_64_characters(size: int, is_behind: bool) -> None:
    rest = "and what else stands in this line of many more words, so that it is like the other"
    old, new = (
        f"{rest} {letter}{'a' * size} {rest}\n"
        if is_behind
        else f"{rest} {'a' * size}{letter} {rest}\n"
        for letter in "bc"
    )
    at = len(rest) + 1
    start, stop = at, at + size + 1
    if size > 64:
        start, stop = (at, at + 1) if is_behind else (at + size, at + size + 1)
    assert minimal_edits(old, new) == [(start, stop, new[start:stop])]


def _ascends(numbers: Sequence[int]) -> bool:
    return all(before < behind for before, behind in pairwise(numbers))


@given(st.permutations(range(7)))
def test_of_lines_that_change_places_as_many_stay_as_keep_their_order(order: list[int]) -> None:
    runs = (run for size in range(8) for run in combinations(order, size) if _ascends(run))
    most = max(map(len, runs))
    blocks = changed_blocks([*map(str, range(7))], [*map(str, order)], Work(0))
    assert 7 - sum(b - a for a, b, _, _ in blocks) == most
    text = "".join(f"{i}\n" for i in range(7))
    moved = "".join(f"{i}\n" for i in order)
    assert apply_edits(text, whole_line_edits(text, moved)) == moved


def test_lines_that_both_texts_have_once_stay_though_more_others_could() -> None:
    blocks = changed_blocks([*"uxxxa"], [*"xxxua"], Work(0))
    assert blocks == [(0, 0, 0, 3), (1, 4, 4, 4)]


@pytest.mark.parametrize(
    ("count", "alike", "are_changed"), [(3, 1, True), (40, 20, True), (40, 19, False)]
)
def test_words_of_like_lines_change_if_there_are_few_lines_or_half_of_them_are_like(
    count: int, alike: int, are_changed: bool
) -> None:
    texts = (
        "".join(f"the {word} of all\n" if i < alike else f"{word}\n" for i in range(count))
        for word in ("cat", "dog")
    )
    edits = minimal_edits(*texts)
    assert edits.count((4, 7, "dog")) == are_changed
    assert (len(edits) == 1) == (not are_changed)


@pytest.mark.parametrize(
    ("old", "new", "edits"),
    [
        ("kl abc mnopq", "rs abc tuvwx", [(0, 2, "rs"), (7, 12, "tuvwx")]),  # three of ten
        ("kl abc mnopqr", "rs abc tuvwxy", [(0, 13, "rs abc tuvwxy")]),
    ],
)
def test_words_of_lines_change_that_have_at_least_three_tenths_in_common(
    old: str, new: str, edits: list[Edit]
) -> None:
    assert minimal_edits(old, new) == edits


def test_the_blank_before_a_word_comes_and_goes_with_it_behind_other_changes_too() -> None:
    assert minimal_edits("a b c d", "A b x c D") == [(0, 1, "A"), (3, 3, " x"), (6, 7, "D")]
    assert minimal_edits("a b x c d", "A b c D") == [(0, 1, "A"), (3, 5, ""), (8, 9, "D")]


@pytest.mark.parametrize(("count", "edits"), [(64, 64), (65, 1)])
def test_up_to_64_lines_of_one_word_become_others_one_by_one(count: int, edits: int) -> None:
    assert len(minimal_edits("cat\n" * count, "dog\n" * count)) == edits


@given(st.lists(st.integers(0, 5), max_size=6), st.data())
def test_lines_of_both_sides_stay_and_deleted_ones_go(
    numbers: list[int], data: st.DataObject
) -> None:
    # Pairs of lines are kept, deleted, or parted by a new line. (A line that is deleted beside
    # one that is inserted is a change of words, of which the other side may have others.)
    base = [[f"line {i} {n}\n", f"end {i}\n"] for i, n in enumerate(numbers)]
    actions = [
        [data.draw(st.sampled_from(["keep", "delete", "insert"])) for _ in base] for _ in "ab"
    ]
    expected, sides = "", ["", ""]
    for i, (first, last) in enumerate(base):
        inserted = [f"side {side} {i}\n" for side in (0, 1) if actions[side][i] == "insert"]
        if "delete" in (actions[0][i], actions[1][i]):
            expected += "".join(inserted)
        else:
            expected += first + "".join(inserted) + last
        for side in (0, 1):
            middle = f"side {side} {i}\n" if actions[side][i] == "insert" else ""
            sides[side] += "" if actions[side][i] == "delete" else first + middle + last
    assert merged_text("".join(a + b for a, b in base), *sides) == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True), st.data())
def test_a_line_put_beside_changed_words_stays_a_line(
    numbers: list[int], data: st.DataObject
) -> None:
    base = [f"the note {number} of all\n" for number in numbers]
    changed = [
        data.draw(st.sampled_from([line, "", line.replace("note", "log"), f"new {i} of all\n"]))
        for i, line in enumerate(base)
    ]
    places = data.draw(st.lists(st.integers(0, len(base)), max_size=3, unique=True))
    added = [f"the line put at {place}\n" for place in places]
    new = list(base)
    for place, line in sorted(zip(places, added, strict=True), reverse=True):
        new.insert(place, line)
    texts = "".join(base), "".join(changed), "".join(new)
    ours = Scroll(Coordinate.parse("1.1.1/1.1.1/1.1.1"), 1)
    theirs = Scroll(ours.coordinate, 2, [ours.edit(texts[0]) or b""])
    changes = ours.edit(texts[1]), theirs.edit(texts[2])
    for scroll, change in zip((theirs, ours), changes, strict=True):
        if change is not None:
            scroll.apply(change)
    merged = (ours.text, theirs.text, merged_text(*texts), merged_text(texts[0], *texts[:0:-1]))
    for text in merged:
        assert sorted(set(text.splitlines(keepends=True)) & set(added)) == sorted(added)


@pytest.mark.parametrize(
    ("base", "current", "new", "merged"),
    [
        ("a\n", "a\nb\n", "a\nc\n", "a\nb\nc\n"),
        ("a\n", "a\nb\nc\nd\n", "a\nc\n", "a\nb\nc\nd\n"),  # done again, later
        ("one two three", "one 2 three", "one two 3", "one 2 3"),
        ("one two three", "three", "one two four", "four"),
        ("keep\ndrop\n", "keep\ndrop\nnew\n", "keep\n", "keep\nnew\n"),
        ("a b\nc d\n", "a x\n", "a b\nnew\nc d\n", "a x\nnew\n"),
    ],
)
def test_changes_meet_as_expected(base: str, current: str, new: str, merged: str) -> None:
    assert merged_text(base, current, new) == merged


# -- line ends -----------------------------------------------------------------------------

_ENDED = st.text(st.sampled_from("ab \r\n"), max_size=12) | st.lists(
    st.sampled_from(["a b", "b", "\r\n", "\n", "\r\n"]), max_size=8
).map("".join)


def _parts_a_line_end(text: str, offset: int) -> bool:
    return offset > 0 and text[offset - 1 : offset + 1] == "\r\n"


@given(_ENDED, _ENDED)
def test_no_edit_begins_or_ends_within_a_line_end(old: str, new: str) -> None:
    minimal = minimal_edits(old, new)
    for edits in (minimal, with_blanks(old, minimal)):
        assert apply_edits(old, edits) == new
        gained = 0
        for start, stop, words in edits:
            assert not _parts_a_line_end(old, start)
            assert not _parts_a_line_end(old, stop)
            assert not _parts_a_line_end(new, start + gained)
            gained += len(words) - (stop - start)
            assert not _parts_a_line_end(new, stop + gained)


@given(_ENDED, _ENDED, _ENDED)
def test_what_is_merged_has_no_torn_line_end(base: str, current: str, new: str) -> None:
    for start, stop, _ in merged_edits(base, current, new):
        assert not _parts_a_line_end(current, start)
        assert not _parts_a_line_end(current, stop)
    if not any("\r" in text.replace("\r\n", "") for text in (base, current, new)):
        assert "\r" not in merged_text(base, current, new).replace("\r\n", "")


# Each line has words of its own: of equal lines it is not known which one somebody changed.
_WORD_LINES = st.lists(
    st.lists(st.sampled_from(["one", "two", "three"]), min_size=2, max_size=4),
    min_size=1,
    max_size=4,
).map(lambda lines: [[f"{word}{i}" for word in line] for i, line in enumerate(lines)])


def _line_with_a_change(words: list[str], side: str, data: st.DataObject) -> str:
    """Return a line of which some words became others, and some were added."""
    words = list(words)
    action = data.draw(st.sampled_from(["keep", "change", "append", "prepend", "insert", "line"]))
    place = data.draw(st.integers(0, len(words) - 1))
    match action:
        case "change":
            words[place] = f"{side}{place}"
        case "append":
            words.append(f"{side}z")
        case "prepend":
            words.insert(0, f"{side}a")
        case "insert":
            words.insert(place, f"{side}i{place}")
        case "line":
            words[-1] += f"\n{side} line"
    return " ".join(words) + "\n"


def _concurrent(base: str, *changed: str) -> str:
    """Return what two scrolls become that were edited apart and then merged."""
    ours = Scroll(Coordinate.parse("1.1.1/1.1.1/1.1.1"), 1)
    theirs = Scroll(ours.coordinate, 2, [ours.edit(base) or b""])
    changes = ours.edit(changed[0]), theirs.edit(changed[1])
    for scroll, change in zip((theirs, ours), changes, strict=True):
        if change is not None:
            assert scroll.apply(change).covered
    assert ours.text == theirs.text
    return ours.text


def _merges(base: str, one: str, other: str) -> tuple[str, str, str, str]:
    """Return what two changes of a text become, by every way to merge them."""
    return (
        merged_text(base, one, other),
        merged_text(base, other, one),
        _concurrent(base, one, other),
        _concurrent(base, other, one),
    )


@given(_WORD_LINES, st.data(), st.booleans())
def test_new_line_ends_and_new_words_are_each_there_once(
    lines: list[list[str]], data: st.DataObject, is_crlf: bool
) -> None:
    base = "".join(" ".join(words) + "\n" for words in lines)
    changed = "".join(_line_with_a_change(words, "new", data) for words in lines)
    ended = base.replace("\n", "\r\n")
    if is_crlf:
        base, ended, changed = ended, base, changed.replace("\n", "\r\n")
    for merged in _merges(base, ended, changed):
        assert merged.replace("\r\n", "\n") == changed.replace("\r\n", "\n")
        assert "\r" not in merged.replace("\r\n", "")


@given(_WORD_LINES, st.data())
def test_line_ends_that_both_sides_changed_are_there_once(
    lines: list[list[str]], data: st.DataObject
) -> None:
    base = "".join(" ".join(words) + "\n" for words in lines)
    changed = "".join(_line_with_a_change(words, "new", data) for words in lines)
    ended = [text.replace("\n", "\r\n") for text in (base, changed)]
    for merged in _merges(base, *ended):
        assert merged == ended[1]


# -- words ---------------------------------------------------------------------------------


@given(_WORD_LINES, st.data())
def test_words_of_both_sides_stand_apart(lines: list[list[str]], data: st.DataObject) -> None:
    base = "".join(" ".join(words) + "\n" for words in lines)
    texts = ["".join(_line_with_a_change(words, s, data) for words in lines) for s in ("m", "n")]
    known = {word for text in (base, *texts) for word in text.split()}
    for merged in _merges(base, *texts):
        assert set(merged.split()) <= known
        new = {word for text in texts for word in text.split() if word[0] in "mn"}
        assert new <= set(merged.split())


@given(st.lists(st.sampled_from(["one", "two", "six"]), min_size=2, max_size=4), st.data())
def test_words_of_one_side_stand_apart_where_the_other_deletes(
    words: list[str], data: st.DataObject
) -> None:
    base = " ".join(words) + "\n"
    sides = []
    for side in ("m", "t"):
        start = data.draw(st.integers(0, len(words) - 1))
        # A line that is replaced whole brings its end, before which others may have written.
        stop = data.draw(st.integers(start, len(words) - (not start)))
        put = data.draw(st.lists(st.sampled_from([side, f"{side}{side}"]), max_size=2))
        sides.append(" ".join([*words[:start], *put, *words[stop:]]) + "\n")
    known = {word for text in (base, *sides) for word in text.split()}
    for merged in _merges(base, *sides):
        assert set(merged.split()) <= known


@pytest.mark.parametrize(
    ("base", "one", "other", "words"),
    [
        ("the quick fox\n", "the slow fox\n", "the rapid fox\n", "the slow rapid fox"),
        ("one two three four\n", "one 2 three four\n", "one two 3 four\n", "one 2 3 four"),
        ("buy milk\n", "buy tea\n", "buy rice\n", "buy tea rice"),
        ("buy milk\n", "get milk\n", "have milk\n", "get have milk"),
        ("buy milk\n", "get tea now\n", "do nothing\n", "get tea now do nothing"),
        ("a b c d\n", "a\n", "a x c d\n", "a x"),
    ],
)
def test_two_changes_of_one_line_keep_their_words(
    base: str, one: str, other: str, words: str
) -> None:
    for merged in (merged_text(base, one, other), _concurrent(base, one, other)):
        assert " ".join(merged.split()) == words


# -- bounds --------------------------------------------------------------------------------


def _letters(seed: int, letters: str, size: int) -> str:
    return "".join(Random(seed).choices(letters, k=size))


_UNLIKE: dict[str, Callable[[int], tuple[str, ...]]] = {
    "equal lines": lambda n: ("x\n" * (n // 2), "y\n" * (n // 2)),
    "lines of two kinds": lambda n: (_letters(1, "a\n", n), _letters(2, "a\n", n)),
    "lines of a letter": lambda n: tuple("\n".join(_letters(i, "abcdef", n // 2)) for i in (1, 2)),
    "one long line": lambda n: (_letters(1, "abcdef", n), _letters(2, "abcdef", n)),
    "one long line of words": lambda n: (_letters(1, "abc ", n), _letters(2, "abc ", n)),
    "short lines": lambda n: (_letters(1, "abcdefgh \n", n), _letters(2, "abcdefgh \n", n)),
    "the same words": lambda n: ("a b c d e f g\n" * (n // 14), "g f e d c b a\n" * (n // 14)),
    "one edit a line": lambda n: tuple(
        "".join(f"{i} {x} of all\n" for i in range(n // 14)) for x in "ab"
    ),
}


def _steps(old: str, new: str) -> int:
    """Return how many lines of Python it takes to compare two texts."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> "Callable[..., Any] | None":
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        minimal_edits(old, new)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", _UNLIKE)
def test_comparing_unlike_texts_takes_steps_in_proportion(kind: str) -> None:
    for size in (5_000, 40_000):  # besides a number of steps that any comparison may take
        old, new = _UNLIKE[kind](size)
        assert _steps(old, new) < 1_000_000 + 20 * size


def test_work_that_was_taken_is_not_there_again() -> None:
    work = Work(1000)
    assert work.left - Work(0).left == 250
    assert work.take(work.left - 1)
    assert not work.take(2)
    assert work.take(1)
    assert not work.take(1)


def test_a_comparison_for_which_too_little_work_is_left_replaces_everything() -> None:
    ours, theirs = (_letters(seed, "abcdef", 60) for seed in (1, 2))
    assert len(shortest_script(ours, theirs, Work(0))) > 1
    work = Work(0)
    work.take(work.left - 200)  # it takes some 2,000
    assert shortest_script(ours, theirs, work) == [(0, 60, 0, 60)]


def test_texts_with_very_many_changes_are_changed_by_a_bounded_number_of_edits() -> None:
    old, new = ("".join(f"{i} {word} of all\n" for i in range(20_000)) for word in ("old", "new"))
    edits = minimal_edits(old, new)
    assert len(edits) <= 1 << 14
    assert apply_edits(old, edits) == new


def test_of_very_many_edits_those_that_are_nearest_become_one() -> None:
    old, new = (
        "".join(f"{i} {word} {word} of all that is here\n" for i in range(10_000))
        for word in ("old", "new")
    )
    edits = minimal_edits(old, new)
    assert {words for _, _, words in edits} == {"new new"}
    assert len(edits) == 10_000


# -- likeness ------------------------------------------------------------------------------


@given(documents, documents)
def test_likeness_is_symmetric_and_one_for_equal_texts(a: str, b: str) -> None:
    assert likeness(a, a) == 1
    assert likeness(a, b) == likeness(b, a)
    assert 0 <= likeness(a, b) <= 1


@pytest.mark.parametrize(
    ("a", "b", "least", "most"),
    [
        ("", "x", 0, 0),
        ("one two\n", "three four\n", 0, 0),
        ("one two\n", "one three\n", 0.5, 0.8),
        ("a\nb\nc\nd\n", "a\nb\nc\nx\n", 0.7, 0.8),
        ("a\nb\n" * 9, "a\r\nb\r\n" * 9, 1, 1),
        ("a\na\na\nbbb\n", "a\na\na\nccc\n", 0.5, 0.5),
        ("\u4e2d\u6587\u6587\u672c\u5f88\u597d", "\u4e2d\u6587\u6587\u5b57\u5f88\u597d", 0.7, 0.9),
        ("x" * 100_000, "y" * 100_000, 0, 0),
    ],
)
def test_likeness_is_the_share_of_lines_and_words_in_common(
    a: str, b: str, least: float, most: float
) -> None:
    assert least <= likeness(a, b) <= most


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ("", "a\r\nb\r\n", "a\nb\n"),
        ("", "\ufeffa\n", "a\n"),
        ("c\r\n", "a\nb\n", "a\r\nb\r\n"),
        ("one\ntwo\n", "one\r\nthree\r\n", "one\r\ntwo\r\n"),  # others may do just that
        ("one\n", "one\r\n", "one\r\n"),
    ],
)
def test_what_others_may_make_as_well_comes_first(old: str, new: str, first: str) -> None:
    assert in_steps(old, new) == [first, new]


def test_a_text_of_one_kind_is_made_in_one_step() -> None:
    assert in_steps("a\nb\n", "c\n") == ["c\n"]


@pytest.mark.parametrize(("line", "hunks"), [("b", 1), ("c", 1), ("d", 2)])
def test_a_whole_line_that_stays_parts_edits(line: str, hunks: int) -> None:
    text = "0\n1\na b\nc\nd\n"
    edits = [(at, at + 1, "new") for at in (text.index("a"), text.index(line))]
    assert len(in_hunks(text, edits)) == hunks


_FEW_LINES = st.lists(st.sampled_from(["a\n", "b\n", "\n", "c d\n"]), max_size=8).map("".join)


@given(_FEW_LINES, _FEW_LINES)
def test_of_two_texts_each_line_stands_as_often_as_in_one_of_them(text: str, other: str) -> None:
    met = apply_edits(text, missing_lines(text, other))
    lines = (Counter(lines_of(each)) for each in (met, text, other))
    assert next(lines) == next(lines) | next(lines)
