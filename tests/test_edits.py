"""Edits make one text of another, and two changes of one text are both in what is merged."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync import Coordinate
from phextsync.crdt import Scroll
from phextsync.edits import apply_edits, likeness, merged_edits, merged_text, minimal_edits
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


@given(documents, documents, documents)
def test_merged_edits_ascend_and_insert_nothing_that_was_not_new(
    base: str, current: str, new: str
) -> None:
    edits = merged_edits(base, current, new)
    at = 0
    for start, stop, _ in edits:
        assert at <= start <= stop <= len(current)
        at = stop
    inserted = Counter("".join(replacement for _, _, replacement in edits))
    assert inserted <= Counter("".join(r for _, _, r in minimal_edits(base, new)))


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
        ("\u4e2d\u6587\u6587\u672c\u5f88\u597d", "\u4e2d\u6587\u6587\u5b57\u5f88\u597d", 0.7, 0.9),
        ("x" * 100_000, "y" * 100_000, 0, 0),
    ],
)
def test_likeness_is_the_share_of_lines_and_words_in_common(
    a: str, b: str, least: float, most: float
) -> None:
    assert least <= likeness(a, b) <= most
