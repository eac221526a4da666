"""What is found by which words, whatever the language; and what a hit shows."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phextsync import words
from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate
from phextsync.search import SearchIndex
from phextsync.words import folded, indexed, query, snippet
from tests.strategies import texts

_A = Coordinate(*[1] * 9)


def _finds(text: str, asked: str) -> bool:
    """Whether a query finds a text, as SQLite decides it."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(words, content='', tokenize='ascii')")
    connection.execute("INSERT INTO t (rowid, words) VALUES (1, ?)", (indexed(text),))
    match = query(asked).match
    rows = connection.execute("SELECT rowid FROM t WHERE t MATCH ?", (match,)) if match else []
    found = bool(list(rows))
    connection.close()
    return found


@pytest.mark.parametrize(
    ("text", "found", "not_found"),
    [
        (
            "我今天去北京开会。",
            ["北京", "开会", "我", "会", "今天去", "我今天去北京开会"],
            ["京北", "上海"],
        ),
        ("東京都の税金", ["東京", "京都", "東京都", "税金", "の"], ["東都"]),
        ("テスト用のサーバー", ["サーバー", "テスト", "ﾃｽﾄ", "用"], ["バーサ"]),
        ("がんばる", ["がん", "がんばる"], ["かん"]),
        ("ภาษาไทยง่าย", ["ไทย", "ภาษา", "ง่าย"], ["ไทาย"]),
        ("ພາສາລາວ", ["ລາວ", "ພາສາ"], ["ລາພ"]),
        ("ភាសាខ្មែរ", ["ខ្មែរ", "ភាសា"], ["ខ្មាសា"]),
        ("ភាសា\u200bខ្មែរ", ["ខ្មែរ", "ភាសា", "ភាសាខ្មែរ"], []),
        ("서울에서 만나요", ["서울", "만나요", "서울에서"], ["부산"]),
        ("issue化してほしい", ["issue", "issue化", "ほしい", "ISSUE"], ["issueして"]),
        ("用python写的脚本v2", ["python", "脚本", "v2", "python写"], ["pyth"]),
        (
            "Grüße aus Straße",
            ["grusse", "GRÜSSE", "strasse", "STRASSE", "straße", "gru*"],
            ["grus"],
        ),
        ("STRASSE", ["straße", "STRAẞE"], []),
        (
            "İstanbul, ISPARTA ve \u0131l\u0131k",
            ["istanbul", "ISTANBUL", "isparta", "ILIK", "\u0131l\u0131k"],
            [],
        ),
        ("Łódź, Ærø, Đakovo", ["lodz", "aero", "dakovo", "łódź"], []),
        ("cafe\u0301 na\u00efve", ["café", "cafe", "naive", "CAFÉ"], []),
        ("Ελλάς ΌΣΟΣ", ["ελλας", "όσος", "ΟΣΟΣ"], []),
        (
            "Silben\u00adtrennung co\u2060op",
            ["silbentrennung", "coop", "Silben\u00adtrennung"],
            ["silben"],
        ),
        ("می\u200cخو\u0627\u0647م", ["میخو\u0627\u0647م", "می\u200cخو\u0627\u0647م"], []),
        ("हिन्दी में", ["हिन्दी", "में"], ["हिन"]),
        ("\uff46\uff55\uff4c\uff4c ﬁne ①", ["full", "fine", "1"], []),
        ("milk\0bread\x1fbutter", ["milk", "bread", "butter", "milk\0bread", "milk\x07butter"], []),
        ("snake_case don't e-mail", ["snake", "case", "don't", "e-mail", '"e mail"'], ["mail-e"]),
        ("new york times", ['"new york"', '"york times"', "times new"], ['"new times"']),
        (
            "oat milk",
            ["milk | bread", "bread | oat milk", "| milk |", '"oat milk" | x', "|| milk", "a | o*"],
            ["bread | butter", "milk bread | butter", "|", '"|" bread', "bread|milk", "or milk"],
        ),
        ("昨日 tokyo 東京 today", ['"tokyo 東京 today"', '"昨日 tokyo"'], ['"東京 tokyo"']),
    ],
)
def test_words_of_all_scripts_are_found(text: str, found: list[str], not_found: list[str]) -> None:
    assert [asked for asked in found if not _finds(text, asked)] == []
    assert [asked for asked in not_found if _finds(text, asked)] == []


@given(st.text("我今天去北京开会のサไทย서울a1 ", min_size=1, max_size=40), st.data())
def test_any_part_of_a_run_is_found(text: str, data: st.DataObject) -> None:
    runs = [run for run in words._pieces(folded(text)) if words._is_unparted(run)]
    for run in runs:
        start = data.draw(st.integers(0, len(run) - 1))
        stop = data.draw(st.integers(start + 1, len(run)))
        assert _finds(text, run[start:stop])


@given(texts)
def test_folding_is_done_once(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@example("\0")
@example('"*"* ** "" * "')
@example("\ud800 \udfff")
@example("a" * 100_000)
@example("我" * 100_000)
@example("x " * 100)
@example('| "|" a||b | ')
@example("NEAR(a b) AND {c} : ^d - e' OR \"")
@given(st.text(max_size=60) | st.text('"|*()^:-+{}\0\n ab', max_size=40))
@settings(deadline=None)
def test_any_query_has_a_result_or_a_clear_error(asked: str) -> None:
    try:
        query(asked)
    except PhextsyncError:
        with pytest.raises(PhextsyncError, match="expected at most 64 terms of 512 words"):
            _finds("milk and bread", asked)
    else:
        _finds("milk and bread", asked)


@pytest.mark.parametrize(
    ("text", "asked", "shown"),
    [
        ("more milk", "milk", "more [milk]"),
        ("Milch und CAFÉ!", "cafe", "Milch und [CAFÉ]!"),
        ("我今天去北京开会。", "北京", "我今天去[北京]开会。"),
        ("issue化してほしい", "issue化", "[issue][化]してほしい"),
        ("breakfast breads", "brea*", "[breakfast] [breads]"),
        ("nothing of it", "elsewhere", "nothing of it"),
    ],
)
def test_a_hit_shows_what_was_asked_for(text: str, asked: str, shown: str) -> None:
    assert snippet(text, query(asked)) == shown


def test_a_long_text_is_shown_where_most_words_stand() -> None:
    text = "milk " + "far " * 300 + "bread with milk and butter " + "away " * 300
    shown = snippet(text, query("butter milk bread"))
    assert "[bread] with [milk] and [butter]" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) < 150


@given(texts, st.sampled_from(["a", "ab*", "中", "é", '"a b"']))
def test_what_is_shown_is_a_part_of_the_text(text: str, asked: str) -> None:
    text = text.replace("[", "").replace("]", "").replace("…", "")
    shown = snippet(text, query(asked)).replace("[", "").replace("]", "").strip("…")
    assert shown in text


def test_an_index_that_was_made_by_other_rules_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "search.sqlite"
    index = SearchIndex(path)
    index.put("n", [(_A.key, bytes(32), "text")])
    index.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    index = SearchIndex(path)
    assert index.phexts() == []
    index.close()
