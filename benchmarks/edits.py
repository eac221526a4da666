"""Texts that become unlike ones: the time of a whole `edit` of a scroll of 400 KB.

A replica in memory takes an unlike text in place of its scroll's: the difference, and its edits in
the document. Yardstick of the same run: deleting the text and inserting the other in pycrdt.
`..._4_times_ratio` is how much longer four times the text takes.
"""

import random
import time
from collections.abc import Callable
from typing import Final

import pycrdt

from benchmarks.report import Report
from phextsync.crdt import Scroll
from phextsync.index import Coordinate

_PLACE: Final = Coordinate(*[1] * 9)
_SIZE: Final = 400_000

_Texts = tuple[str, str]


def run(*, quick: bool) -> Report:
    """Measure; `quick` measures once."""
    report = Report()
    repeats = 1 if quick else 5
    kinds: dict[str, Callable[[int], _Texts]] = {
        "unlike": _sentences,
        "unlike_numbers": _numbers,
        "unlike_letters": lambda size: _drawn(size, "abcdef\n"),
        "unlike_equal_lines": lambda size: ("x\n" * (size // 2), "y\n" * (size // 2)),
        "unlike_long_line": lambda size: _drawn(size, "abcdef"),
        "unlike_words_of_one_line": lambda size: _drawn(size, "abc "),
        "word_of_each_line": _one_word_a_line,
    }
    for name, make in kinds.items():
        _measure(report, name, make, repeats)
    return report


def measure_unlike(report: Report, repeats: int) -> None:
    """Add the figures of sentences that become others."""
    _measure(report, "unlike", _sentences, repeats)


def _measure(report: Report, name: str, make: Callable[[int], _Texts], repeats: int) -> None:
    texts = make(_SIZE)
    yardstick = f"pycrdt_replace_{name}_s@400KB"
    report.add(yardstick, [_replaced(*texts) for _ in range(repeats)], "s")
    taken = [_edited(*texts) for _ in range(repeats)]
    report.add(f"replace_{name}_s@400KB", taken, "s", yardstick)
    quarter = min(_edited(*make(_SIZE // 4)) for _ in range(repeats))
    report.add(f"replace_{name}_4_times_ratio", [min(taken) / quarter], "")


def _edited(old: str, new: str) -> float:
    scroll = Scroll(_PLACE, 1)
    scroll.edit(old)
    began = time.process_time()
    scroll.edit(new)
    taken = time.process_time() - began
    assert scroll.text == new
    return taken


def _replaced(old: str, new: str) -> float:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    document["text"] = text = pycrdt.Text(old)
    began = time.process_time()
    with document.transaction():
        del text[0 : len(text)]
        text.insert(0, new)
    return time.process_time() - began


def _sentences(size: int) -> _Texts:
    source = random.Random(1)
    return _pair(size, lambda: " ".join(f"w{source.randrange(3000)}" for _ in range(5)))


def _numbers(size: int) -> _Texts:
    source = random.Random(1)
    return _pair(size, lambda: str(source.randrange(10**6)))


def _one_word_a_line(size: int) -> _Texts:
    lines = size // 28
    old, new = (
        "".join(f"line {i:6} is {x} of all\n" for i in range(lines)) for x in ("old", "new")
    )
    return old, new


def _pair(size: int, line: Callable[[], str]) -> _Texts:
    count = size // (len(line()) + 1)
    return "\n".join(line() for _ in range(count)), "\n".join(line() for _ in range(count))


def _drawn(size: int, letters: str) -> _Texts:
    source = random.Random(1)
    return "".join(source.choices(letters, k=size)), "".join(source.choices(letters, k=size))
