"""Positions find their place whatever others write, and undoing takes back one's own text alone."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.crdt import Scroll
from phextsync.errors import PositionError, TextError
from phextsync.index import Coordinate

_PLACE = Coordinate(*[1] * 9)
# One, two, three and four bytes of UTF-8; the last take two units in UTF-16.
_STARTS = (0x41, 0xC0, 0x4E00, 0x1F300)

_edits = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "append", "exchange"]),
        st.integers(0, 1),
        st.integers(0, 30),
        st.integers(1, 4),
    ),
    max_size=14,
)


class _Pair:
    """Two copies of a scroll in which every character that was ever written is another one."""

    def __init__(self) -> None:
        self.scrolls = [Scroll(_PLACE, (1 << 52) - 1), Scroll(_PLACE, 2)]
        self.sent: list[list[bytes]] = [[], []]
        self.by: dict[str, int] = {}

    def perform(self, action: str, side: int, at: int, size: int) -> None:
        scroll = self.scrolls[side]
        length = len(scroll.text)
        update = None
        if action == "insert":
            update = scroll.insert(at % (length + 1), self.characters(side, size))
        elif action == "append":
            update = scroll.append(self.characters(side, size))
        elif action == "delete":
            update = scroll.delete(at % (length + 1), min(at % (length + 1) + size, length))
        if update is not None:
            self.sent[side].append(update)
        if action == "exchange":
            self.exchange()

    def characters(self, side: int, count: int) -> str:
        made = ""
        for _ in range(count):
            number = len(self.by)
            made += chr(_STARTS[number % 4] + number // 4)
            self.by[made[-1]] = side
        return made

    def exchange(self) -> None:
        """Deliver each update as it was made, in order."""
        for side in (0, 1):
            updates, self.sent[side] = self.sent[side], []
            for update in updates:
                assert self.scrolls[1 - side].apply(update).covered


@settings(deadline=None)
@given(_edits, _edits)
def test_a_position_stays_with_its_character_or_where_that_was(
    before: list[tuple[str, int, int, int]], after: list[tuple[str, int, int, int]]
) -> None:
    pair = _Pair()
    for edit in before:
        pair.perform(*edit)
    pair.exchange()
    scroll, other = pair.scrolls
    old = scroll.text
    ahead = [scroll.position(i, after=True) for i in range(len(old) + 1)]
    behind = [scroll.position(i, after=False) for i in range(len(old) + 1)]
    for edit in after:
        pair.perform(*edit)
    pair.exchange()
    assert scroll.text == other.text
    new = scroll.text
    assert (other.offset(behind[0]), other.offset(ahead[-1])) == (0, len(new))
    for i, character in enumerate(old):
        places = (other.offset(ahead[i]), other.offset(behind[i + 1]))
        if character in new:
            assert places == (new.index(character), new.index(character) + 1)
        else:
            assert places[0] == places[1]
            assert all(new.index(c) < places[0] for c in old[:i] if c in new)
            assert all(new.index(c) >= places[0] for c in old[i:] if c in new)


@pytest.mark.parametrize(
    "position", ["", "x", ">1", "<1.2", ">1.2.3", ">1.2.1 ", "1.2.1", ">g.0.1"]
)
def test_what_is_no_position_is_refused(position: str) -> None:
    with pytest.raises(PositionError, match="expected a position"):
        Scroll(_PLACE, 1).offset(position)


def test_a_position_in_text_that_has_not_come_is_refused() -> None:
    ahead, late = Scroll(_PLACE, 1), Scroll(_PLACE, 2)
    update = ahead.append("text")
    assert update is not None
    position = ahead.position(2, after=True)
    with pytest.raises(PositionError, match="none yet"):
        late.offset(position)
    late.apply(update)
    assert late.offset(position) == 2
    for offset in (-1, 5):
        with pytest.raises(IndexError, match=f"expected an offset from 0 to 4, found {offset}"):
            late.position(offset, after=True)


@settings(deadline=None)
@given(_edits)
def test_undoing_all_of_ones_own_leaves_exactly_what_the_other_wrote(
    edits: list[tuple[str, int, int, int]],
) -> None:
    pair = _Pair()
    scroll, other = pair.scrolls
    scroll.steps.track("me")
    for number, edit in enumerate(edits):
        scroll.steps.begin("me", number + 1)
        pair.perform(*edit)
    pair.exchange()
    others = {c for c in other.text if pair.by[c] == 1}
    while scroll.steps.can_undo("me"):
        update = scroll.undo("me")
        if update is not None:
            assert other.apply(update).covered
    assert scroll.text == other.text
    assert others <= set(scroll.text)
    assert all(pair.by[c] == 1 for c in scroll.text)
    assert Scroll(_PLACE, 3, [scroll.state()]).text == scroll.text


@settings(deadline=None)
@given(_edits)
def test_undo_and_redo_walk_through_the_same_texts_when_nobody_else_writes(
    edits: list[tuple[str, int, int, int]],
) -> None:
    pair = _Pair()
    scroll = pair.scrolls[0]
    scroll.steps.track("me")
    texts = [""]
    for number, (action, _, at, size) in enumerate(edits):
        scroll.steps.begin("me", number + 1)
        pair.perform(action, 0, at, size)
        if scroll.text != texts[-1]:
            texts.append(scroll.text)

    def walk(step: Callable[[str], bytes | None], expected: list[str]) -> None:
        for text in expected:
            step("me")
            assert scroll.text == text

    walk(scroll.undo, texts[-2::-1])
    assert not scroll.steps.can_undo("me")
    walk(scroll.redo, texts[1:])
    assert not scroll.steps.can_redo("me")


def test_writers_undo_apart_and_edits_of_one_step_together() -> None:
    scroll = Scroll(_PLACE, 1)
    for writer in ("one", "two"):
        scroll.steps.track(writer)
    for writer, step, text in [("one", 1, "a"), ("two", 2, "b"), ("one", 3, "c"), ("one", 3, "d")]:
        scroll.steps.begin(writer, step)
        scroll.append(text)
    scroll.undo("one")
    assert scroll.text == "ab"
    scroll.undo("two")
    assert scroll.text == "a"
    scroll.redo("one")
    assert scroll.text == "acd"
    scroll.steps.untrack("one")
    scroll.undo("two")
    assert scroll.text == "acd"


def test_an_import_can_be_undone() -> None:
    scroll = Scroll(_PLACE, 1)
    scroll.steps.track("me")
    scroll.steps.begin("me", 1)
    scroll.import_text("from a file\n")
    scroll.undo("me")
    assert scroll.text == ""


@pytest.mark.parametrize(("count", "found"), [(1, 2), (3, 2), (None, 0)])
def test_replacing_says_how_many_places_were_found(count: int | None, found: int) -> None:
    scroll = Scroll(_PLACE, 1)
    scroll.append("one two one")
    with pytest.raises(TextError, match=f"found {found}"):
        scroll.replace("none" if count is None else "one", "1", count)
    assert scroll.text == "one two one"
    scroll.replace("one", "1", None)
    assert scroll.text == "1 two 1"


def test_replacing_nothing_is_refused() -> None:
    scroll = Scroll(_PLACE, 1)
    scroll.append("text")
    with pytest.raises(TextError, match="found 0"):
        scroll.replace("", "x", None)
