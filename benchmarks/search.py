"""Full text search: building the index of 10^5 scrolls, and what a query takes.

The texts are lines of words drawn as words of a language are: the second half as often as the
first, and so on (Zipf). Queries have one to three words of all ranks. Yardstick of the same run: a
scan of all texts in memory for one word.
"""

import statistics
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Final

import trio

from benchmarks.report import Report
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.search import FILE_NAME, SearchIndex
from phextsync.searching import Indexer
from phextsync.store.memory import MemoryStore

_WORDS: Final = 20_000
_WORDS_PER_SCROLL: Final = 40
_QUERIES: Final = 300


def run(*, quick: bool) -> Report:
    """Measure; `quick` takes fewer scrolls."""
    report = Report()
    exponent = 4 if quick else 5
    count, size = 10**exponent, f"1e{exponent}"
    source = Random(1)
    replicas = ReplicaSet(MemoryStore(), node_id=bytes(16), random=source, wall_time_ms=lambda: 0)
    texts = _fill(replicas, source, count)
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as folder:
        path = Path(folder) / FILE_NAME
        index = SearchIndex(path)
        began = time.perf_counter()
        trio.run(Indexer(replicas, index).catch_up)
        report.add(f"search_index_per_s@{size}", [count / _since(began)], "scrolls/s")
        took = [_query_ms(index, _words(source, source.randint(1, 3))) for _ in range(_QUERIES)]
        scans = [_scan_ms(texts, _words(source, 1)) for _ in range(3)]
        report.add(f"search_scan_ms@{size}", scans, "ms")
        report.add(f"search_p50_ms@{size}", took, "ms", f"search_scan_ms@{size}")
        report.add(f"search_p99_ms@{size}", [statistics.quantiles(took, n=100)[98]], "ms")
        report.add(f"search_changed_ms@{size}", _changes_ms(replicas, index), "ms")
        index.close()
        text_bytes = sum(len(text.encode()) for text in texts)
        report.add(f"search_bytes_ratio@{size}", [path.stat().st_size / text_bytes], "ratio")
    return report


def _fill(replicas: ReplicaSet, source: Random, count: int) -> list[str]:
    replica = replicas.open("bench")
    texts = [_words(source, _WORDS_PER_SCROLL) for _ in range(count)]
    for number, text in enumerate(texts):
        parts = (number // 999**2, number // 999 % 999, number % 999)
        replica.import_text(Coordinate(1, 1, 1, 1, 1, 1, *(1 + part for part in parts)), text)
    replicas.commit()
    return texts


def _words(source: Random, count: int) -> str:
    return " ".join(f"word{int(_WORDS ** source.random())}" for _ in range(count))


def _query_ms(index: SearchIndex, words: str) -> float:
    began = time.perf_counter()
    index.find(words, "bench")
    return _since(began) * 1000


def _scan_ms(texts: list[str], word: str) -> float:
    began = time.perf_counter()
    sum(f" {word} " in text for text in texts)
    return _since(began) * 1000


def _changes_ms(replicas: ReplicaSet, index: SearchIndex) -> list[float]:
    """Return what it takes to index one changed scroll, and to find it."""

    async def change() -> list[float]:
        indexer = Indexer(replicas, index)
        await indexer.catch_up()
        took = []
        for number in range(50):
            replicas.open("bench").edit(
                Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1 + number), f"changed{number}"
            )
            replicas.commit()
            began = time.perf_counter()
            await indexer.refresh()
            took.append(_since(began) * 1000)
            assert len(index.find(f"changed{number}", "bench")) == 1
        return took

    return trio.run(change)


def _since(began: float) -> float:
    return time.perf_counter() - began
