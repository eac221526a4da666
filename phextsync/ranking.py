"""Ranking: the best scrolls of a search, of which as few are given a mark as can be.

SQLite takes fifty times as long to give a scroll its mark as to find it. Of words of which one is
enough, scrolls with different ones of them are therefore asked for apart, those first that can
have the best mark; what cannot be among the best any more is not asked for (Turtle and Flood 1995,
for any set of words). Each scroll has the mark that the whole query gives it.
"""

import math
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from phextsync.words import Query

# Most of the time goes to rows of `scrolls`: so the best are taken first, from all phexts and
# ranges, and only of them is it asked where they are.
_BEST: Final = """
SELECT mark, key, id, phext = ? AND key >= ? AND key < ?
FROM (SELECT number, mark FROM ({}) ORDER BY +mark LIMIT ?) CROSS JOIN scrolls ON id = number
"""
_FIND: Final = """
SELECT mark, key, id FROM (
  SELECT rank AS mark, key, id FROM texts CROSS JOIN scrolls ON id = texts.rowid
  WHERE phext = ? AND key >= ? AND key < ? AND texts MATCH ? {}
) ORDER BY mark, key LIMIT ?
"""
_ALL: Final = "SELECT rowid AS number, rank AS mark FROM texts WHERE texts MATCH ?"
_NEWEST: Final = "ORDER BY texts.rowid DESC LIMIT ?"
_NEWEST_MAX: Final = 2_000
_BEST_MIN: Final = 64
_BEST_PER_HIT: Final = 4
_COUNT: Final = "SELECT count(*) FROM texts WHERE texts MATCH ?"
_COUNT_NEWEST: Final = "SELECT count(*) FROM (SELECT 1 FROM texts WHERE texts MATCH ? LIMIT ?)"
_COUNT_ALL: Final = "SELECT count(*) FROM texts_docsize"
_APART_MAX: Final = 4  # words, and so 15 sets of them
_APART_MIN: Final = 1_000  # scrolls with one of the words; fewer are asked for at once
_KNOWN_MAX: Final = 4_096
_OLD: Final = 16  # counts are taken again when one in so many of the scrolls may have changed
_MARK_MAX: Final = 2.2  # times the weight of a word, however often it stands in a scroll (k1 + 1)
_WEIGHT_MIN: Final = 1e-6
_EXACT: Final = 1 - 1e-9  # as far as sums of marks are

Place = tuple[str, bytes, bytes]
"""A phext, the first key, and the key after the last."""
Ranked = tuple[float, bytes, int]
"""Mark, key and number of a scroll: the best has the least mark."""


@dataclass(slots=True)
class _Count:
    """How many scrolls had a word, after how many writes."""

    scrolls: int
    writes: int


class Ranking:
    """Finds the best scrolls in the tables of one file, of which it hears of every write."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._writes = 0

    def note(self, writes: int) -> None:
        """Take in that so many scrolls were put in or taken out."""
        self._writes += writes

    def best(
        self, connection: sqlite3.Connection, asked: Query, place: Place, limit: int
    ) -> list[Ranked]:
        """Return the best scrolls in a place: by mark, then by key. Roughly, if so asked: words
        that half of all scrolls have are left out beside others, and of what remains 2,000 scrolls
        are given a mark, those that were put in last."""
        find = _Best(connection, place, _NEWEST_MAX if asked.is_rough else None)
        bounds = self._bounds(connection, asked)
        if asked.is_rough:
            telling = {word: b for word, b in bounds.items() if b > _MARK_MAX * _WEIGHT_MIN}
            bounds = telling or bounds
        return _best_apart(find, bounds, limit) if bounds else find(asked.match, limit)

    def _bounds(self, connection: sqlite3.Connection, asked: Query) -> dict[str, float]:
        """Return the highest mark that each word can give, of those that some scrolls have; none
        when they are to be asked for at once."""
        words = asked.alternatives
        if not 1 < len({*words}) == len(words) <= _APART_MAX:
            return {}
        counts = {word: self._count(connection, word) for word in words}
        if sum(most for _, most in counts.values()) < _APART_MIN:
            return {}
        _, all_ = self._count(connection, "")
        weights = {word: _weight(least, all_) for word, (least, most) in counts.items() if most}
        return {word: _MARK_MAX * weight for word, weight in weights.items()}

    def _count(self, connection: sqlite3.Connection, word: str) -> tuple[int, int]:
        """Return how many scrolls have a word, at least and at most; "" is in all."""
        known = self._counts.get(word)
        if known is None or _OLD * (self._writes - known.writes) > known.scrolls:
            query, values = (_COUNT, (word,)) if word else (_COUNT_ALL, ())
            (scrolls,) = connection.execute(query, values).fetchone()
            if len(self._counts) == _KNOWN_MAX:
                self._counts.clear()
            known = self._counts[word] = _Count(scrolls, self._writes)
        changed = self._writes - known.writes
        return known.scrolls - changed, known.scrolls + changed


def _weight(scrolls: int, all_: int) -> float:
    """Return the weight of a word that so many scrolls have at least, of so many at most."""
    ratio = (all_ - scrolls + 0.5) / (scrolls + 0.5)
    return max(math.log(max(ratio, 1.0)), _WEIGHT_MIN)


class _Best:
    """Gives the best scrolls of queries, each with its mark; of `newest` scrolls that were put in
    last, if there is such a number, and with marks for no more of all queries."""

    def __init__(
        self, connection: sqlite3.Connection, place: Place, newest: int | None = None
    ) -> None:
        self._connection = connection
        self._place = place
        self._left = newest
        part = "" if newest is None else _NEWEST
        self._best = _BEST.format(f"{_ALL} {part}")
        self._find = _FIND.format(part)

    def __call__(self, match: str, limit: int) -> list[Ranked]:
        if self._left == 0:
            return []
        rows = self._connection.execute
        part: tuple[int, ...] = ()
        most = max(_BEST_MIN, _BEST_PER_HIT * limit)
        if self._left is not None:
            part = (self._left,)
            most = min(most, self._left)
            self._left -= rows(_COUNT_NEWEST, (match, self._left)).fetchone()[0]
        best = rows(self._best, (*self._place, match, *part, most)).fetchall()
        found = sorted(row[:3] for row in best if row[3])
        if len(best) == most:  # there may be more that are as good as the last
            last = max(row[0] for row in best)
            found = [row for row in found if row[0] < last]
            if len(found) < limit:
                found = rows(self._find, (*self._place, match, *part, limit)).fetchall()
        return found[:limit]


def _best_apart(find: _Best, bounds: dict[str, float], limit: int) -> list[Ranked]:
    """Ask for each set of words apart."""
    found: list[Ranked] = []
    for bound, has in _sets(bounds):
        if len(found) == limit and bound < -found[-1][0] * _EXACT:
            break
        lacks = [word for word in bounds if word not in has]
        match = f"({' AND '.join(has)})" + (f" NOT ({' OR '.join(lacks)})" if lacks else "")
        found = sorted([*found, *find(match, limit)])[:limit]
    return found


def _sets(bounds: dict[str, float]) -> Iterable[tuple[float, tuple[str, ...]]]:
    """Return the sets of words, that with the highest bound first."""
    sizes = range(1, len(bounds) + 1)
    sets = [each for size in sizes for each in combinations(bounds, size)]
    return sorted(((sum(bounds[word] for word in each), each) for each in sets), reverse=True)
