"""Scrolls merge, keep their versions truthfully, and refuse what is not text."""

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from random import Random
from typing import Any

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.crdt import (
    ROOT,
    Fingerprinter,
    Scroll,
    client_clocks,
    import_update,
    merge_updates,
)
from phextsync.errors import ScrollError, TextError, UpdateError
from phextsync.index import (
    EMPTY_VERSION,
    Coordinate,
    clean_update,
    covers,
    state_vector,
    update_version,
)
from phextsync.texts import BREAKS, check_text, first_line
from tests.strategies import documents, texts

_PLACE = Coordinate(1, 5, 2, 3, 7, 3, 9, 1, 1)
_EMOJI = "a\U0001f469\u200d\U0001f4bbb e\u0301 \r\n\u4e2d\u6587\n"


def _scroll(client_id: int, *updates: bytes) -> Scroll:
    return Scroll(_PLACE, client_id, updates)


def _exchange(a: Scroll, b: Scroll) -> None:
    """Give each what it lacks of the other."""
    for source, target in ((a, b), (b, a)):
        update = source.difference(target.version())
        if update is not None:
            assert target.apply(update).covered


# -- editing -------------------------------------------------------------------------------


def test_edits_are_done_at_once_and_none_outside_of_the_text() -> None:
    scroll = _scroll(1)
    assert scroll.splice([]) is None
    scroll.splice([(0, 0, "one two\n")])
    scroll.splice([(0, 3, "1"), (4, 7, "2")])
    assert scroll.text == "1 2\n"
    for edits in ([(0, 5, "")], [(2, 1, "")], [(1, 2, ""), (0, 1, "")]):
        with pytest.raises(IndexError, match="expected an edit within"):
            scroll.splice(edits)
    assert scroll.text == "1 2\n"


def test_what_is_replaced_has_to_be_there_so_many_times() -> None:
    scroll = _scroll(1)
    scroll.edit("two two\n")
    for count, wanted in ((None, "at least 1"), (3, "3")):
        with pytest.raises(TextError, match=f"expected {wanted} of 'one', found 0"):
            scroll.replace("one", "1", count)
    scroll.replace("two", "2", None)
    assert scroll.text == "2 2\n"


@given(st.lists(documents, min_size=1, max_size=5))
def test_an_edit_makes_its_text_the_text(wanted: list[str]) -> None:
    scroll = _scroll(1)
    for text in wanted:
        update = scroll.edit(text)
        assert (update is None) == (scroll.text == text and update is None)
        assert scroll.text == text
        assert scroll.size == len(text.encode())
    assert _scroll(2, scroll.state()).text == wanted[-1]


def test_two_who_put_lines_behind_one_line_keep_it_once() -> None:
    ours, theirs = _scroll(1), _scroll(2)
    ours.edit("## Shopping\n\nrest\n")
    _exchange(ours, theirs)
    ours.replace("## Shopping\n", "## Shopping\n- milk\n", 1)
    theirs.replace("## Shopping\n", "## Shopping\n- bread\n", 1)
    assert ours.replace("rest", "rest", 1) is None
    _exchange(ours, theirs)
    assert ours.text == theirs.text
    assert ours.text.count("## Shopping") == 1
    assert sorted(ours.text.split("\n")[1:3]) == ["- bread", "- milk"]


@given(texts, st.data())
def test_offsets_count_characters_of_the_string(text: str, data: st.DataObject) -> None:
    scroll = _scroll(1)
    scroll.append(_EMOJI)
    offset = data.draw(st.integers(0, len(_EMOJI)))
    scroll.insert(offset, text)
    expected = _EMOJI[:offset] + text + _EMOJI[offset:]
    assert scroll.text == expected
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(expected))] * 2)))
    scroll.delete(start, stop)
    assert scroll.text == expected[:start] + expected[stop:]


@pytest.mark.parametrize(
    "operation",
    [
        lambda scroll: scroll.insert(4, "x"),
        lambda scroll: scroll.insert(-1, "x"),
        lambda scroll: scroll.delete(0, 4),
        lambda scroll: scroll.delete(2, 1),
        lambda scroll: scroll.delete(-1, 1),
    ],
)
def test_offsets_outside_the_text_are_refused(operation: Callable[[Scroll], None]) -> None:
    scroll = _scroll(1)
    scroll.append("abc")
    with pytest.raises(IndexError, match=r"from 0 to 3|within 0 to 3"):
        operation(scroll)
    assert scroll.text == "abc"


def test_changing_nothing_makes_no_update() -> None:
    scroll = _scroll(1)
    scroll.append("abc")
    assert scroll.edit("abc") is None
    assert scroll.append("") is None
    assert scroll.insert(1, "") is None
    assert scroll.delete(1, 1) is None
    assert scroll.import_text("abc") is None
    scroll.clear()
    assert scroll.clear() is None


def test_one_word_changed_in_a_mebibyte_makes_a_small_update() -> None:
    source = Random(1)
    lines = [" ".join(f"word{source.randrange(999)}" for _ in range(10)) for _ in range(16_000)]
    text = "\n".join(lines)
    assert len(text) > 1 << 20
    scroll = _scroll(1)
    scroll.edit(text)
    lines[9000] = lines[9000].replace(lines[9000].split()[4], "CHANGED")
    lines[40] += " more"
    update = scroll.edit("\n".join(lines))
    assert scroll.text == "\n".join(lines)
    assert update is not None
    assert len(update) < 300


def test_a_line_deleted_by_one_does_not_part_the_line_before_which_another_inserts() -> None:
    a = _scroll(1)
    a.edit("line 0\nline 1\n")
    b = _scroll(2, a.state())
    a.edit("line 1\n")
    b.edit("line 0\nnew\nline 1\n")
    _exchange(a, b)
    assert a.text == b.text == "new\nline 1\n"


def test_two_people_who_change_words_of_one_sentence_both_get_their_words_in() -> None:
    a = _scroll(1)
    a.edit("The quick brown fox jumps over the lazy dog.\n")
    b = _scroll(2, a.state())
    a.edit("The slow brown fox jumps over the lazy dog.\n")
    b.edit("The quick brown fox jumps over the happy dog.\n")
    _exchange(a, b)
    assert a.text == b.text == "The slow brown fox jumps over the happy dog.\n"


def test_line_ends_that_became_others_on_two_machines_are_one_change() -> None:
    base, ended = "one\ntwo\n", "one\r\ntwo\r\n"
    a = _scroll(1)
    a.edit(base)
    b = _scroll(2, a.state())
    a.edit(ended)
    b.edit(ended + "three\r\n")
    _exchange(a, b)
    assert a.text == b.text == ended + "three\r\n"
    a.edit("ONE\ntwo\nthree\n")
    assert a.text == "ONE\ntwo\nthree\n"


def test_lines_are_told_without_their_ends() -> None:
    a = _scroll(7)
    a.append("one\r\n\r\ntwo\n\nthree")
    assert a.lines() == [
        ("one", [(7, 0, 3)]),
        ("", [(7, 5, 2)]),
        ("two", [(7, 7, 3)]),
        ("", [(7, 11, 1)]),
        ("three", [(7, 12, 5)]),
    ]


def test_the_ends_of_lines_are_told_with_who_wrote_them() -> None:
    a = _scroll(7)
    a.append("\u00e9\nb\r\n\nlast")
    b = _scroll(8, a.state())
    b.insert(1, "\n")
    assert b.line_ends() == [[(8, 0, 1)], [(7, 1, 1)], [(7, 3, 2)], [(7, 5, 1)], []]
    assert _scroll(9).line_ends() == []


def test_of_a_long_text_each_line_is_told_in_its_place() -> None:
    a = _scroll(7)
    a.append("".join(f"\u00e9{number}\r\n\n" for number in range(3000)))
    lines = a.lines()
    assert [text for text, _ in lines] == [
        text for number in range(3000) for text in (f"\u00e9{number}", "")
    ]
    at = 0
    for text, runs in lines:
        assert runs == [(7, at, len(text) or 1)]
        at += len(text) + 2 if text else 1


def test_new_line_ends_and_words_are_undone_in_one_step() -> None:
    a = _scroll(1)
    a.edit("one\ntwo\n")
    a.steps.begin("me", 1)
    a.steps.track("me")
    a.steps.begin("me", 2)
    a.edit("one and\r\ntwo\r\n")
    a.undo("me")
    assert a.text == "one\ntwo\n"
    assert not a.steps.can_undo("me")


def test_what_is_written_before_a_writer_is_named_is_that_of_the_one_without_a_name() -> None:
    a = _scroll(1)
    a.steps.track("")
    a.edit("one\n")
    a.undo("")
    assert a.text == ""


@given(documents, documents)
def test_an_import_makes_its_text_the_text(old: str, new: str) -> None:
    scroll = _scroll(1)
    scroll.edit(old)
    scroll.import_text(new)
    assert scroll.text == new


def test_equal_overwrites_made_apart_do_not_mix_letters() -> None:
    a = _scroll(1)
    a.edit("colour\n")
    b = _scroll(2, a.state())
    a.edit("flavour\n")
    b.edit("flavour\n")
    _exchange(a, b)
    assert a.text == b.text == "flavourflavour\n"


@pytest.mark.parametrize("character", BREAKS)
def test_break_characters_are_refused_by_name_and_offset(character: str) -> None:
    scroll = _scroll(1)
    scroll.append("kept")
    for operation in (scroll.edit, scroll.append, scroll.import_text, scroll.union):
        with pytest.raises(TextError, match=r"a \w+ break \(U\+00\w\w\) at offset 2"):
            operation(f"ab{character}c")
    with pytest.raises(TextError):
        scroll.insert(0, character)
    assert scroll.text == "kept"


def test_what_is_no_text_is_refused_by_its_type() -> None:
    other: Any = 7
    with pytest.raises(TypeError, match="expected a text, found int"):
        check_text(other)


def test_lone_surrogates_are_refused_and_other_controls_are_text() -> None:
    with pytest.raises(TextError, match=r"a lone surrogate \(U\+D83D\) at offset 1"):
        check_text("a\ud83d")
    check_text("\x07\x1b\r\n\t\x7f\ufeff")


def test_a_zero_byte_is_refused_by_every_way_to_write_with_its_offset() -> None:
    scroll = _scroll(1)
    scroll.append("kept")
    for operation in (
        scroll.edit,
        scroll.append,
        scroll.import_text,
        scroll.union,
        lambda text: scroll.edit_from("kept", text),
        lambda text: scroll.insert(0, text),
        lambda text: scroll.replace("kept", text, 1),
    ):
        with pytest.raises(TextError, match=r"^expected text, found a zero byte \(U\+0000\) at o"):
            operation("ab\0c")
    assert scroll.text == "kept"


def test_a_zero_byte_that_a_peer_brings_stays_in_the_document() -> None:
    scroll = _scroll(1)
    scroll.append("kept")
    foreign: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    foreign[ROOT] = text = pycrdt.Text()
    foreign.apply_update(scroll.state())
    text.insert(2, "\0")
    assert scroll.apply(foreign.get_update()).covered
    assert scroll.text == "ke\0pt"
    scroll.append(" and more")
    scroll.edit("kept and more")
    assert scroll.text == "kept and more"


def test_union_adds_missing_lines_and_deletes_nothing() -> None:
    scroll = _scroll(1)
    scroll.edit("one\ntwo\nthree\n")
    scroll.union("zero\none\nthree\nfour\n")
    assert scroll.text.splitlines() == ["zero", "one", "two", "three", "four"]
    assert scroll.union("two\n") is None


# -- merging -------------------------------------------------------------------------------


def test_clearing_keeps_what_was_typed_meanwhile() -> None:
    a = _scroll(1)
    a.append("old text")
    b = _scroll(2, a.state())
    a.clear()
    b.append(" and new")
    _exchange(a, b)
    assert a.text == b.text == " and new"


def test_a_state_vector_does_not_see_a_deletion_and_a_version_does() -> None:
    a = _scroll(1)
    a.append("hello")
    before = a.version()
    a.delete(0, 2)
    assert state_vector(before) == state_vector(a.version())
    assert before != a.version()
    assert covers(a.version(), before)
    assert not covers(before, a.version())


_steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["edit", "insert", "delete", "send"]), texts),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(_steps, st.randoms(use_true_random=False))
def test_updates_dropped_doubled_and_reordered_converge_to_equal_versions_and_texts(
    steps: list[tuple[int, str, str]], source: Random
) -> None:
    scrolls = [_scroll(i + 1) for i in range(3)]
    stored: list[list[bytes]] = [[], [], []]
    sent: list[bytes] = []
    for who, action, text in steps:
        scroll = scrolls[who]
        length = len(scroll.text)
        if action == "send" and sent:
            applied = scroll.apply(source.choice(sent))
            update = applied.update
        elif action == "edit":
            update = scroll.edit(text)
        elif action == "insert":
            update = scroll.insert(source.randint(0, length), text)
        else:
            start = source.randint(0, length)
            update = scroll.delete(start, source.randint(start, length))
        if update is not None:
            sent.append(update)
            stored[who].append(update)
    for who, scroll in enumerate(scrolls):
        again = _scroll(9, *stored[who])
        assert (again.version(), again.text) == (scroll.version(), scroll.text)
        assert update_version(scroll.state()) == scroll.version()
    for a in scrolls:
        for b in scrolls:
            _exchange(a, b)
    for a in scrolls:
        _exchange(a, scrolls[0])
    assert len({scroll.version() for scroll in scrolls}) == 1
    assert len({scroll.text for scroll in scrolls}) == 1
    assert len({scroll.fingerprint(Fingerprinter("p")) for scroll in scrolls}) == 1
    assert scrolls[0].difference(scrolls[1].version()) is None


def test_an_update_without_its_base_is_not_covered_until_the_base_has_come() -> None:
    a = _scroll(1)
    base = a.append("base")
    more = a.append(" more")
    assert base is not None
    assert more is not None
    b = _scroll(2)
    applied = b.apply(more)
    assert (applied.update, applied.covered, applied.changed) == (None, False, False)
    assert b.version() == EMPTY_VERSION
    assert b.apply(base).changed
    assert b.text == "base"
    assert b.apply(more).covered
    assert b.text == "base more"


def test_what_two_deleted_apart_is_told_whole() -> None:
    a = _scroll(1)
    b = _scroll(2, a.append("abcdef") or b"")
    a.delete(2, 4)
    longer = b.delete(1, 5)
    assert longer is not None
    assert a.apply(longer).update == longer


def test_the_first_line_of_a_text_is_what_stands_before_its_first_end_of_a_line() -> None:
    assert first_line("one\ntwo\nthree", 80) == "one"
    assert first_line("one\ntwo\nthree", 2) == "on"


def test_a_deletion_without_its_text_is_not_covered_and_a_difference_brings_both() -> None:
    a = _scroll(1)
    a.append("doomed")
    deletion = a.clear()
    assert deletion is not None
    b = _scroll(2)
    assert not b.apply(deletion).covered
    difference = a.difference(b.version())
    assert difference is not None
    assert b.apply(difference).covered
    assert (b.text, b.version()) == ("", a.version())


def test_a_difference_has_only_the_deletions_that_are_lacking() -> None:
    a = _scroll(1)
    a.append("ab" * 10_000)
    for i in range(10_000):
        a.delete(i, i + 1)
    b = _scroll(2, a.state())
    a.append("!")
    difference = a.difference(b.version())
    assert difference is not None
    assert len(difference) < 100
    assert len(a.state()) > 10_000
    assert b.apply(difference).covered
    assert a.version() == b.version()


def test_merged_updates_are_worth_all_of_them() -> None:
    a = _scroll(1)
    updates = [a.append("one "), a.append("two"), a.delete(0, 1)]
    assert _scroll(2, merge_updates([u for u in updates if u])).text == a.text == "ne two"


# -- importing -----------------------------------------------------------------------------


def test_equal_imports_made_apart_are_one_copy_without_an_exchange() -> None:
    a, b = _scroll(1), _scroll(2)
    a.import_text("line one\nline two\n")
    b.import_text("line one\nline two\n")
    assert a.version() == b.version()
    a.import_text("line one\nline 1.5\nline two\n")
    b.import_text("line one\nline 1.5\nline two\n")
    assert (a.version(), a.text) == (b.version(), b.text)
    _exchange(a, b)
    assert a.text == "line one\nline 1.5\nline two\n"


def test_what_is_imported_again_after_it_was_deleted_is_one_copy_too() -> None:
    a, b = _scroll(1), _scroll(2)
    for each in (a, b):
        for text in ("line\n", "", "line\n"):
            each.import_text(text)
    assert a.version() == b.version()
    _exchange(a, b)
    assert a.text == "line\n"


def test_different_imports_made_apart_are_both_there_once() -> None:
    a, b = _scroll(1), _scroll(2)
    a.import_text("of a\n")
    b.import_text("of b\n")
    _exchange(a, b)
    assert sorted(a.text.splitlines()) == ["of a", "of b"]


@pytest.mark.parametrize("word", ["one", "two", "three", "four", "five", "six", "seven"])
def test_lines_that_are_imported_stand_before_words_that_another_imports_there(word: str) -> None:
    a, b = _scroll(1), _scroll(2)
    for each in (a, b):
        each.import_text("a\nb\n")
    a.import_text(f"a\nline {word}\nb\n")
    b.import_text(f"a\n{word} b\n")
    _exchange(a, b)
    assert a.text == f"a\nline {word}\n{word} b\n"


@pytest.mark.parametrize("word", ["one", "two", "three", "four", "five", "six", "seven"])
def test_an_end_of_a_line_that_became_another_stands_behind_words_that_another_imports_there(
    word: str,
) -> None:
    a, b = _scroll(1), _scroll(2)
    for each in (a, b):
        each.import_text("a\nb\n")
    a.import_text("a\r\nb\r\n")
    b.import_text(f"a {word}\nb\n")
    _exchange(a, b)
    assert a.text == f"a {word}\r\nb\r\n"


def test_a_text_imported_emptied_and_imported_again_is_there() -> None:
    a = _scroll(1)
    a.import_text("text\n")
    a.import_text("")
    assert a.text == ""
    a.import_text("text\n")
    assert a.text == "text\n"


_LINES = [f"line {i}\n" for i in range(40)]


def _changed(lines: Sequence[str], changes: Mapping[int, str]) -> str:
    return "".join(changes.get(i, line) for i, line in enumerate(lines))


@given(st.data())
def test_equal_pieces_of_imports_into_texts_that_differ_elsewhere_are_one(
    data: st.DataObject,
) -> None:
    places = data.draw(st.lists(st.integers(0, 9), max_size=6, unique=True))
    pulled = {4 * i: data.draw(st.sampled_from(["", f"new {i}\n"])) + _LINES[4 * i] for i in places}
    own = {4 * i + 2: f"own {i}\n" for i in data.draw(st.lists(st.integers(0, 9), max_size=3))}
    a = _scroll(1)
    base = a.edit("".join(_LINES))
    assert base is not None
    b = _scroll(2, base)
    a.edit(_changed(_LINES, own))
    a.import_text(_changed(_LINES, own | pulled))
    b.import_text(_changed(_LINES, pulled))
    _exchange(a, b)
    assert a.text == b.text == _changed(_LINES, own | pulled)


def test_a_piece_imported_deleted_and_imported_again_is_there_on_all_machines() -> None:
    a = _scroll(1)
    a.import_text("".join(_LINES))
    b = _scroll(2, a.state())
    for _ in range(3):
        for text in (_changed(_LINES, {3: "new 1\n", 20: "new 2\n"}), "".join(_LINES)):
            a.import_text(text)
            _exchange(a, b)
            assert a.text == b.text == text


def test_an_id_that_somebody_else_wrote_under_is_not_that_of_an_import() -> None:
    text = "".join(_LINES)
    a, twin = _scroll(1), _scroll(2)
    for scroll in (a, twin):
        scroll.import_text(text)
    made = twin.import_text(f"new\n{text}")
    assert made is not None
    (client_id,) = client_clocks(made)
    other = _scroll(client_id, a.state())
    _exchange(a, other)
    other.append("of another\n")
    _exchange(a, other)
    also = _scroll(3, a.state())
    update = a.import_text(f"new\n{text}of another\n")
    assert update is not None
    assert also.import_text(a.text) == update
    assert client_id not in client_clocks(update)
    _exchange(a, other)
    assert a.text == other.text == f"new\n{text}of another\n"


def test_an_import_of_many_pieces_has_one_client_id() -> None:
    a = _scroll(1)
    a.edit("".join(_LINES))
    before = a.version()
    a.import_text(_changed(_LINES, {i: f"new {i}\n" for i in range(0, 40, 2)}))
    assert len(a.version()) < len(before) + 60  # with what was deleted


@pytest.mark.parametrize(
    ("size", "deletions", "ids"), [(0, 0, 8), (120_000, 0, 8), (140_000, 0, 1), (0, 2_000, 1)]
)
def test_pieces_of_an_import_have_an_id_for_each_while_making_them_is_little_work(
    size: int, deletions: int, ids: int
) -> None:
    a = _scroll(1)
    a.edit("".join(_LINES) + "x" * size)
    a.append("ab" * deletions)
    end = len(a.text)
    a.splice([(i, i + 1, "") for i in range(end - 2 * deletions, end, 2)])
    text = _changed(_LINES, {i: f"new {i}\n" for i in range(0, 40, 5)})
    update = a.import_text(text + a.text[len("".join(_LINES)) :], 20_000)
    assert update is not None
    assert len(client_clocks(update)) == ids


@given(st.randoms(use_true_random=False))
def test_imports_and_edits_in_any_order_end_equal(source: Random) -> None:
    scrolls = [_scroll(i + 1) for i in range(source.randint(2, 4))]
    for _ in range(source.randint(5, 30)):
        one, other = source.sample(scrolls, 2)
        lines = one.text.split("\n")
        for _ in range(source.randint(1, 3)):
            at = source.randint(0, len(lines))
            lines[at : at + source.randint(0, 1)] = source.choices(["a", "b", "c d", ""], k=1)
        change = source.choice([one.import_text, one.import_text, one.edit])
        change(source.choice(["\n".join(lines)] * 8 + [other.text, ""]))
        if source.random() < 0.3:
            _exchange(one, other)
    for one, other in [*permutations(scrolls, 2)] * 2:
        _exchange(one, other)
    # One id for two contents would show as texts that differ though their versions are equal.
    assert len({scroll.text for scroll in scrolls}) == 1
    assert len({scroll.version() for scroll in scrolls}) == 1


@given(texts.filter(bool))
def test_an_import_without_a_document_makes_the_same_bytes(text: str) -> None:
    slow = _scroll(1)
    update = slow.import_text(text)
    assert import_update(_PLACE.key, text) == update == slow.state()


def test_the_client_id_of_an_import_has_its_bit_and_depends_on_everything() -> None:
    ids = set()
    for place, text in ((_PLACE, "a"), (_PLACE, "b"), (Coordinate(*[2] * 9), "a")):
        clients = pycrdt.get_state(import_update(place.key, text))
        ids.add(clients)
    scroll = _scroll(1)
    scroll.import_text("a")
    scroll.clear()
    ids.add(scroll.import_text("a") or b"")
    assert len(ids) == 4
    (client_id,) = client_clocks(import_update(_PLACE.key, "a"))
    assert client_id >> 52 == 1


# -- fingerprints --------------------------------------------------------------------------


def test_a_fingerprint_tells_coordinate_version_text_and_phext_apart() -> None:
    marks = {
        Fingerprinter(phext).of(place.key, version, text)
        for phext in ("p", "q")
        for place in (_PLACE, Coordinate(*[2] * 9))
        for version in (b"\1\1\1\0", b"\1\1\2\0")
        for text in (b"a", b"b")
    }
    assert len(marks) == 16
    assert {len(mark) for mark in marks} == {32}


# -- what peers may send -------------------------------------------------------------------


def _foreign(make: Callable[[pycrdt.Doc[pycrdt.Text]], None]) -> bytes:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc(client_id=77)
    make(document)
    return document.get_update()


def _nested(document: pycrdt.Doc[pycrdt.Text]) -> None:
    document[ROOT] = pycrdt.Map({"inside": pycrdt.Text("x")})  # type: ignore[assignment]


def _array(document: pycrdt.Doc[pycrdt.Text]) -> None:
    document[ROOT] = pycrdt.Array([1, 2])  # type: ignore[assignment]


def _embed(document: pycrdt.Doc[pycrdt.Text]) -> None:
    document.get(ROOT, type=pycrdt.Text).insert_embed(0, {"image": "x"})


def _other_root(document: pycrdt.Doc[pycrdt.Text]) -> None:
    document.get("other", type=pycrdt.Text).insert(0, "x")


def _entry(document: pycrdt.Doc[pycrdt.Text]) -> None:
    document[ROOT] = pycrdt.Map({"key": 1})  # type: ignore[assignment]


@pytest.mark.parametrize("make", [_nested, _array, _embed, _other_root, _entry])
def test_an_update_of_anything_but_the_one_text_is_refused(
    make: Callable[[pycrdt.Doc[pycrdt.Text]], None],
) -> None:
    scroll = _scroll(1)
    scroll.append("kept")
    with pytest.raises(UpdateError, match="expected"):
        scroll.apply(_foreign(make))
    assert scroll.text == "kept"


def test_formats_of_a_foreign_peer_are_kept_and_do_not_show() -> None:
    def bold(document: pycrdt.Doc[pycrdt.Text]) -> None:
        text = document.get(ROOT, type=pycrdt.Text)
        text.insert(0, "plain bold")
        text.format(6, 10, {"bold": True})

    scroll = _scroll(1)
    assert scroll.apply(_foreign(bold)).covered
    assert scroll.text == "plain bold"
    scroll.append("!")
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    document.apply_update(scroll.state())
    assert any(attributes for _, attributes in document.get(ROOT, type=pycrdt.Text).diff())


@given(st.binary(max_size=40))
def test_garbage_is_refused_and_changes_nothing(data: bytes) -> None:
    scroll = _scroll(1)
    scroll.append("kept")
    before = scroll.version()
    try:
        scroll.apply(data)
    except UpdateError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some of these bytes are updates
        assert scroll.version() == before


def test_what_was_added_behind_the_text_is_observed_with_what_comes_next() -> None:
    scroll = _scroll(1)
    scroll.append("a")
    assert scroll.text == "a"
    scroll.append("b")
    update = scroll.insert(0, "x")
    assert update is not None
    other = _scroll(2, scroll.state())
    assert other.text == scroll.text == "xab"
    assert not other.apply(update).changed


def test_what_says_that_it_ends_a_text_beyond_ascii_stands_where_yrs_puts_it() -> None:
    scroll = _scroll(1)
    scroll.append("\u00e9")
    scroll.insert(0, "b")
    scroll = _scroll(3, scroll.state())
    assert scroll.text == "b\u00e9"
    assert scroll.apply(b"\x01\x01\x02\x00\x84\x01\x01\x01N\x00").covered  # behind the b
    assert scroll.text == _scroll(4, scroll.state()).text == "bN\u00e9"


class _Writers:
    """Three who write one scroll, and hear of each other when they are told to."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._letters = self._random.choice(("ab", "ab", "a\u00e9", "a\U0001f469"))
        self._scrolls = [_scroll(client) for client in (1, 2, 3)]
        self._sent: list[list[bytes]] = [[], [], []]
        self._heard = [[0, 0, 0] for _ in self._scrolls]

    def step(self) -> None:
        """Let one of them do something, and perhaps look."""
        number = self._random.randrange(3)
        if self._random.random() < 0.4:
            self._hear(number)
        else:
            update = self._write(self._scrolls[number])
            if update is not None:
                self._sent[number].append(update)
        if self._random.random() < 0.7:
            self._check(number)

    def settle(self) -> None:
        """Let all hear of all."""
        for number in (0, 1, 2):
            while any(
                heard < len(self._sent[source])
                for source, heard in enumerate(self._heard[number])
                if source != number
            ):
                self._hear(number)
            self._check(number)
        assert len({(scroll.text, scroll.version()) for scroll in self._scrolls}) == 1

    def _write(self, scroll: Scroll) -> bytes | None:
        text = "".join(self._random.choices(self._letters, k=self._random.randint(1, 3)))
        size = len(scroll.text)
        kind = self._random.random()
        if kind < 0.7 or not size:
            return scroll.append(text)
        if kind < 0.8:
            return scroll.insert(self._random.randint(0, size), text)
        if kind < 0.9:
            start = self._random.randrange(size)
            return scroll.delete(start, self._random.randint(start + 1, size))
        if kind < 0.95:
            return scroll.clear()
        scroll.steps.track("somebody")
        return None

    def _hear(self, number: int) -> None:
        for source, updates in enumerate(self._sent):
            for update in updates[self._heard[number][source] :] if source != number else ():
                if not self._scrolls[number].apply(update).covered:
                    break
                self._heard[number][source] += 1

    def _check(self, number: int) -> None:
        """What a scroll tells is what a document tells that is made of its updates alone."""
        scroll = self._scrolls[number]
        told = scroll.text, scroll.size, scroll.version()
        known = [
            update
            for source, updates in enumerate(self._sent)
            for update in updates[: None if source == number else self._heard[number][source]]
        ]
        if known:
            document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
            document.apply_update(merge_updates(known))
            text = str(document.get(ROOT, type=pycrdt.Text))
            state = clean_update(document.get_update())
            assert told == (text, len(text.encode()), update_version(state))


@pytest.mark.parametrize("seed", range(60))
def test_what_waits_for_the_document_is_never_missed(seed: int) -> None:
    writers = _Writers(seed)
    for _ in range(100):
        writers.step()
    writers.settle()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "operation"),
    [
        ("phextsync.crdt.merge_updates", Scroll.state),
        ("pycrdt.Doc.apply_update", Scroll.state),
        ("phextsync.crdt.version_behind", Scroll.version),
    ],
)
def test_what_waits_for_the_document_outlasts_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, place: str, operation: Callable[[Scroll], object]
) -> None:
    updates: list[bytes] = []
    for client_id, text in enumerate("abcd", 1):
        update = _scroll(client_id, *updates).append(text)
        assert update is not None
        updates.append(update)
    scroll = _scroll(5, updates[0])
    assert (scroll.text, scroll.version()) == ("a", update_version(updates[0]))
    assert scroll.apply(updates[1]).covered
    assert scroll.apply(updates[2]).covered
    with monkeypatch.context() as patch:
        patch.setattr(place, _interrupt)
        with pytest.raises(KeyboardInterrupt):
            operation(scroll)
    assert scroll.apply(updates[3]).covered
    assert (scroll.text, scroll.version()) == ("abcd", update_version(scroll.state()))
    assert _scroll(2, scroll.state()).text == "abcd"


def test_an_append_that_is_interrupted_leaves_a_text_and_its_document_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(list[bytes]):
        def append(self, update: bytes, /) -> None:
            super().append(update)
            raise MemoryError

    scroll = _scroll(1)
    scroll.append("a")
    assert scroll.text == "a"
    monkeypatch.setattr(scroll, "_waiting", Interrupted())
    with pytest.raises(MemoryError):
        scroll.append("b")
    scroll.append("c")
    assert scroll.text == _scroll(2, scroll.state()).text == "abc"
    assert scroll.version() == update_version(scroll.state())


@pytest.mark.parametrize("is_ours", [True, False])
def test_what_is_interrupted_behind_an_addition_is_not_made_twice(
    monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    ours, theirs = _scroll(1), _scroll(2)
    add = Scroll._add

    def add_and_interrupt(scroll: Scroll, *arguments: Any, **options: Any) -> None:
        add(scroll, *arguments, **options)
        raise KeyboardInterrupt

    updates = [update for update in map(ours.append, "ab") if update is not None]
    for update in updates:
        theirs.apply(update)
    assert (theirs.text, theirs.size) == ("ab", 2)
    third = ours.append("c")
    assert third is not None
    with monkeypatch.context() as patch:
        patch.setattr(Scroll, "_add", add_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            ours.append("d") if is_ours else theirs.apply(third)
    theirs.apply(third)
    fourth = ours.append("e")
    assert fourth is not None
    theirs.apply(ours.state())
    theirs.apply(fourth)
    for scroll in (ours, theirs):
        assert scroll.text == ("abcde" if is_ours else "abce")
        assert scroll.size == len(scroll.text)
        assert _scroll(3, scroll.state()).text == scroll.text


def test_a_scroll_that_is_let_go_takes_its_document_along() -> None:
    scroll = _scroll(1, import_update(_PLACE.key, "text"))
    scroll.append(" and more")
    document = weakref.ref(scroll._doc)
    del scroll
    gc.collect()
    assert document() is None


class PanicException(BaseException):
    """What a panic of Yrs looks like from Python."""


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (PanicException("attempt to divide by zero"), ScrollError),
        (ValueError("cannot decode"), ScrollError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_panic_is_an_error_of_the_scroll_and_an_interrupt_stays_one(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, seen: type[BaseException]
) -> None:
    scroll = _scroll(1)
    update = import_update(_PLACE.key, "text")

    def fail(document: object, update: bytes) -> None:
        raise raised

    monkeypatch.setattr(pycrdt.Doc, "apply_update", fail)
    with pytest.raises(seen):
        scroll.apply(update)


@pytest.mark.parametrize(
    "operation",
    [
        lambda scroll: scroll.apply(import_update(_PLACE.key, "text")),
        lambda scroll: scroll.lines(),
        lambda scroll: scroll.position(1, after=True),
        lambda scroll: scroll.import_text("one\ntwo\n"),
    ],
)
def test_the_error_of_a_document_names_its_scroll(
    monkeypatch: pytest.MonkeyPatch, operation: Callable[[Scroll], object]
) -> None:
    scroll = _scroll(1)
    scroll.append("one\n")

    def fail(document: object, update: bytes) -> None:
        raise ValueError("cannot decode")

    monkeypatch.setattr(pycrdt.Doc, "apply_update", fail)
    with pytest.raises(ScrollError, match=rf"^{_PLACE}: its document failed: cannot decode$"):
        operation(scroll)


@given(st.lists(st.tuples(st.sampled_from("apedir"), texts), max_size=20))
def test_appends_among_other_changes_make_the_text_that_they_say(
    changes: list[tuple[str, str]],
) -> None:
    ours, theirs = Scroll(_PLACE, 5), Scroll(_PLACE, 6)
    for kind, text in changes:
        before = ours.text
        match kind:
            case "a" | "p":
                update = ours.append(text)
                assert ours.text == before + text
            case "e":
                update = ours.edit(text)
            case "d":
                update = ours.delete(0, len(before) // 2)
            case "i":
                update = ours.insert(len(before) // 2, text)
            case _:
                reply = theirs.append(text)
                update = None
                if reply is not None:
                    assert ours.apply(reply).covered
        if update is not None:
            assert theirs.apply(update).covered
        assert ours.text == theirs.text
        assert ours.version() == theirs.version()


def test_line_ends_that_are_converted_again_and_again_keep_the_version_small() -> None:
    scroll, other = _scroll(1), _scroll(2)
    for number in range(1000):
        ends = ("\n", "\r\n")[number % 2]
        update = scroll.edit(ends.join(("one", "two", "three", "")))
        assert update is not None
        assert other.apply(update).covered
    assert other.text == scroll.text
    assert len(scroll.version()) < 4096


def test_what_is_kept_of_additions_for_which_nobody_asks_is_bounded() -> None:
    ours, theirs = Scroll(_PLACE, 1), Scroll(_PLACE, 2)
    begun = ours.append("begun\n")
    assert begun is not None
    theirs.apply(begun)
    for scroll in (ours, theirs):  # from here on what is added is kept behind these
        assert scroll.text == "begun\n"
        scroll.version()
    tracemalloc.start()
    try:
        for number in range(6000):
            update = ours.append(f"{number:99}\n")
            assert update is not None
            theirs.apply(update)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 800_000
    assert ours.text == theirs.text == "begun\n" + "".join(f"{n:99}\n" for n in range(6000))
    assert ours.version() == theirs.version() == Scroll(_PLACE, 3, [ours.state()]).version()
