"""What others wrote is shown whole, and does nothing to a terminal."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync.terminal import visible, visible_json, visible_text

_TEXTS = st.text(st.characters(categories=["Cc", "Cf", "Cs", "L", "N", "P", "Z"]))


def _controls(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}


@given(_TEXTS)
def test_a_line_has_nothing_that_a_terminal_obeys(text: str) -> None:
    assert _controls(visible(text)) == set()
    assert _controls(visible_text(text)) <= {"\t", "\n"}


@given(_TEXTS)
def test_json_means_the_same_and_has_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = visible_json({text: [text]})
    assert _controls(shown) == set()
    assert json.loads(shown) == {text: [text]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07\x9b", r"\x1b[2J\x07\x9b"),
        ("name\u202egpj.exe", r"name\u202egpj.exe"),
        ("a\u2066b\u2069\u200f", r"a\u2066b\u2069\u200f"),
        ("two\nlines\t", r"two\nlines\t"),
        ("[/red] :smile: 日本 é 👩\u200d👧", "[/red] :smile: 日本 é 👩\u200d👧"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_is_hidden_is_seen_and_nothing_else_changes(text: str, shown: str) -> None:
    assert visible(text) == shown
