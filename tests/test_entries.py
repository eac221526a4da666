"""Lists of entries keep every entry, whole, once, with its mark, whoever changes them where."""

from hypothesis import given
from hypothesis import strategies as st

from phextsync.edits import apply_edits
from phextsync.files.entries import (
    as_file,
    as_scroll,
    entries_of,
    entry_edits,
    merged_entries,
    with_entries,
)

_texts = st.text(st.sampled_from("ab§\n \r"), max_size=30)
_entries = st.lists(st.sampled_from(["a", "b", "c\nd", "e § f", "§g"]), unique=True, max_size=5)


@given(_texts)
def test_a_text_in_order_stays_as_it_is(text: str) -> None:
    scroll, file = as_scroll(text), as_file(text)
    assert as_scroll(scroll) == as_scroll(file) == scroll
    assert as_file(scroll) == as_file(file) == file


@given(_texts)
def test_a_file_is_what_its_host_makes_of_it_again(text: str) -> None:
    """As Hermes looks for what others did to a file: entries parted by the mark between two ends
    of lines, without blanks, joined again."""
    file = as_file(text)
    parted = [entry.strip() for entry in file.split("\n§\n") if entry.strip()]
    assert "\n§\n".join(parted) == file.strip()
    assert parted == entries_of(text)


@given(_entries, _entries, _entries)
def test_a_merge_has_what_either_put_in_and_nothing_that_either_deleted(
    base: list[str], ours: list[str], theirs: list[str]
) -> None:
    texts = ("\n§\n".join(entries) for entries in (base, ours, theirs))
    merged = entries_of(merged_entries(*texts))
    wanted = {e for e in {*ours, *theirs} if e not in base or (e in ours and e in theirs)}
    # One that moved was deleted at one place and put in at another.
    assert wanted <= {*merged} <= {*ours, *theirs}
    assert len({*merged}) == len(merged)


@given(_texts, _entries)
def test_edits_are_of_whole_entries(text: str, entries: list[str]) -> None:
    new = as_scroll("\n§\n".join(entries))
    edits = entry_edits(as_scroll(text), new)
    assert apply_edits(as_scroll(text), edits) == new
    assert all(not put or put.endswith("\n§\n") for _, _, put in edits)
    assert apply_edits(text, entry_edits(text, new)) == new


def test_an_entry_is_added_once() -> None:
    assert with_entries("a\n§\n", ["b", "a"]) == "a\n§\nb\n§\n"
    assert with_entries("a", ["b"]) == "a\n§\nb\n§\n"
    assert with_entries("", ["a\nb"]) == "a\nb\n§\n"
