"""The corpus of the demo is real text: large, in many scripts, and always the same."""

import subprocess
import sys
import unicodedata
from pathlib import Path

from phextsync import phextfile

_SCRIPTS = (
    *("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN", "ARABIC", "HEBREW", "DEVANAGARI"),
    *("BENGALI", "TAMIL", "THAI", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "ETHIOPIC"),
)


def _build(path: Path) -> bytes:
    script = Path(__file__).parents[1] / "examples" / "make_corpus.py"
    subprocess.run([sys.executable, str(script), str(path)], check=True)
    return path.read_bytes()


def test_the_corpus_is_large_varied_canonical_and_always_the_same(tmp_path: Path) -> None:
    data = _build(tmp_path / "one.phext")
    assert data == _build(tmp_path / "two.phext")
    assert len(data) > 1_000_000
    text = data.decode()
    assert phextfile.normalize(text) == text
    scrolls = phextfile.explode(text)
    assert len(scrolls) >= 300
    assert len(set(scrolls.values())) == len(scrolls)
    names = {unicodedata.name(character, "").split(" ")[0] for character in set(text)}
    assert set(_SCRIPTS) - {"CJK"} <= names
    assert any(name.startswith("CJK") for name in names)
    assert "\r\n" in text
    assert "\N{ZERO WIDTH JOINER}" in text
    assert "\N{COMBINING ACUTE ACCENT}" in text
