"""One file in one editor and its scroll, both of which change, over queues as slow as may be."""

from collections import Counter, deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.edits import Edit, apply_edits
from phextsync.errors import ProtocolError
from phextsync.gateways.edited_text import TOLD_MAX, EditedText, Told
from phextsync.gateways.editor_positions import EDITS_MAX, Json, Places, applied, delta_of
from phextsync.gateways.transforms import fine_edits, inverse, transformed
from tests.editors import EditorBuffer, Writer

_EMOJI = "a🍃b\nčd"


# -- transforms ------------------------------------------------------------------------------


@st.composite
def _changes(draw: st.DrawFn, text: str) -> list[Edit]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pairs = zip(places[::2], places[1::2], strict=False)
    edits = [(start, stop, draw(st.text("xy", max_size=2))) for start, stop in pairs]
    return [edit for edit in edits if edit[2] or edit[0] < edit[1]]


@given(st.data())
def test_two_changes_give_one_text_whichever_comes_first(data: st.DataObject) -> None:
    text = data.draw(st.text("abc", max_size=8))
    first, other = data.draw(_changes(text)), data.draw(_changes(text))
    first_after, other_after = transformed(first, other)
    made = apply_edits(apply_edits(text, first), other_after)
    assert made == apply_edits(apply_edits(text, other), first_after)
    assert apply_edits(apply_edits(text, first), inverse(text, first)) == text


def test_of_what_both_put_in_at_one_place_the_first_stands_first() -> None:
    first, other = transformed([(1, 1, "x")], [(1, 1, "y")])
    assert (first, other) == ([(1, 1, "x")], [(2, 2, "y")])


def test_what_both_delete_is_deleted_once() -> None:
    assert transformed([(0, 2, "")], [(1, 3, "")]) == ([(0, 1, "")], [(0, 1, "")])


@given(st.text("ab \n", max_size=20), st.text("ab \n", max_size=20))
def test_fine_edits_make_one_text_of_the_other(old: str, new: str) -> None:
    assert apply_edits(old, fine_edits(old, new)) == new


def test_fine_edits_leave_the_rest_of_a_word() -> None:
    assert fine_edits("a hello b", "a hexllo b") == [(4, 4, "x")]


# -- positions -------------------------------------------------------------------------------


def test_characters_are_those_of_unicode() -> None:
    places = Places(_EMOJI)
    assert places.position(2) == {"line": 0, "character": 2}
    assert places.offset({"line": 1, "character": 1}) == 5
    assert _EMOJI[places.offset({"line": 0, "character": 1})] == "🍃"


@given(st.text("a🍃\n\r"), st.data())
def test_a_position_is_found_again(text: str, data: st.DataObject) -> None:
    places, offset = Places(text), data.draw(st.integers(0, len(text)))
    assert places.offset(places.position(offset)) == offset


def test_a_place_behind_a_line_is_its_end_and_one_behind_the_last_the_end() -> None:
    places = Places("ab\ncd")
    assert places.offset({"line": 0, "character": 9}) == 2
    assert places.offset({"line": 1, "character": 9}) == 5
    assert places.offset({"line": 2, "character": 0}) == 5


def test_all_ranges_of_a_change_are_of_the_text_before_it() -> None:
    delta = [*delta_of("abcd", [(3, 4, "D")]), *delta_of("abcd", [(0, 1, ""), (1, 1, "x")])]
    assert applied("abcd", delta) == "xbcD"


_AT = {"line": 0, "character": 0}
_BAD_DELTAS: list[Json] = [
    None,
    {},
    [1],
    [{"range": {"start": _AT, "end": _AT}}],
    [{"range": {"start": _AT}, "replacement": ""}],
    [{"range": {"start": _AT, "end": {"line": 3, "character": 0}}, "replacement": ""}],
    [{"range": {"start": _AT, "end": {"line": -1, "character": 0}}, "replacement": ""}],
    [{"range": {"start": _AT, "end": {"line": 0.5, "character": 0}}, "replacement": ""}],
    delta_of("abc", [(0, 2, ""), (1, 3, "")]),
    delta_of("abc", [(0, 0, "x")]) * (EDITS_MAX + 1),
]


@pytest.mark.parametrize("delta", _BAD_DELTAS)
def test_what_is_no_change_is_refused_with_what_was_expected(delta: Json) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        EditedText("abc\n", "abc\n").hear(0, delta)


# -- one file --------------------------------------------------------------------------------


def test_an_editor_with_another_text_is_told_what_to_change() -> None:
    edited, buffer = EditedText("old\n", "new\n"), EditorBuffer("old\n")
    buffer.hear_all(edited.take_told())
    assert (buffer.text, edited.text) == ("new\n", "new\n")


def test_an_edit_that_crosses_one_of_ours_is_done_and_ours_is_sent_again() -> None:
    edited, buffer = EditedText("ab", "ab"), EditorBuffer("ab")
    edited.note("abY")
    late = edited.take_told()
    edited.hear(*buffer.type(0, 0, "X"))
    buffer.hear_all(late)
    assert buffer.text == "Xab"  # it was made on another text
    buffer.hear_all(edited.take_told())
    assert (buffer.text, edited.text, [*edited.heard]) == ("XabY", "XabY", [[(0, 0, "X")]])


def test_what_the_scroll_refuses_is_taken_back_and_nothing_else() -> None:
    edited, buffer = EditedText("ab", "ab"), EditorBuffer("ab")
    edited.hear(*buffer.type(1, 1, "\0"))
    edited.hear(*buffer.type(2, 2, "good"))
    edited.refuse()
    buffer.hear_all(edited.take_told())
    edited.done(1)
    assert (buffer.text, edited.scroll) == ("agoodb", "agoodb")


def test_an_edit_on_a_text_that_never_was_is_refused() -> None:
    edited, buffer = EditedText("ab", "ab"), EditorBuffer("ab")
    edited.note("abc")
    buffer.hear_all(edited.take_told())
    edited.hear(*buffer.type(0, 0, "x"))
    for revision in (0, 2):
        with pytest.raises(ProtocolError, match="expected an edit on one of 1 to 1"):
            edited.hear(revision, [])


def test_what_an_editor_was_told_and_never_answers_is_bounded() -> None:
    edited, buffer = EditedText("", ""), EditorBuffer("")
    for number in range(2 * TOLD_MAX):
        edited.note(f"{number}")
    with pytest.raises(ProtocolError, match="found 0"):
        edited.hear(0, [])
    buffer.hear_all(edited.take_told())
    edited.hear(*buffer.type(0, 0, "x"))
    assert edited.text == buffer.text == f"x{2 * TOLD_MAX - 1}"


# -- both sides at once ----------------------------------------------------------------------


class _World:
    """An editor, what is on the way between it and us, what is on the way to the scroll, and
    others who write there."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.me = Writer(self.random, 0x1F300, has_lines=True)
        self.others = Writer(self.random, 0xC0, has_lines=False)
        self.scroll = self.others.edit("")[2]
        self.buffer = EditorBuffer(self.scroll)
        self.edited = EditedText(self.scroll, self.scroll)
        self.to_us: deque[tuple[int, list[Json]]] = deque()
        self.to_editor: deque[Told] = deque()

    def step(self, name: str) -> None:
        match name:
            case "type":
                self.to_us.append(self.buffer.type(*self.me.edit(self.buffer.text)))
            case "other":
                start, stop, words = self.others.edit(self.scroll)
                self.scroll = self.scroll[:start] + words + self.scroll[stop:]
            case "hear" if self.to_us:
                self.edited.hear(*self.to_us.popleft())
            case "told" if self.to_editor:
                told = self.to_editor.popleft()
                self.buffer.hear(told.revision, told.delta)
            case "look":
                self.edited.note(self.scroll)
            case "do" if self.edited.heard:
                self._do(self.random.randint(1, len(self.edited.heard)))
        self.to_editor.extend(self.edited.take_told())

    def _do(self, count: int) -> None:
        if self.scroll != self.edited.scroll:  # others were faster
            self.edited.note(self.scroll)
            return
        self.edited.done(count)
        self.scroll = self.edited.scroll

    def rest(self) -> None:
        while self.to_us or self.to_editor or self.edited.heard:
            for name in ("hear", "do", "told"):
                self.step(name)
        self.step("look")
        while self.to_editor:
            self.step("told")


@pytest.mark.parametrize("seed", range(200))
def test_at_rest_editor_and_scroll_are_equal_and_nothing_is_lost_or_doubled(seed: int) -> None:
    world = _World(seed)
    names = ["type", "type", "other", "hear", "hear", "told", "told", "look", "do"]
    for _ in range(120):
        world.step(world.random.choice(names))
    world.rest()
    assert world.buffer.text == world.scroll == world.edited.text
    count = Counter(world.scroll.replace("\n", ""))
    put_in = world.me.put_in | world.others.put_in
    assert {*count} == put_in - world.me.deleted - world.others.deleted
    assert {*count.values()} <= {1}
