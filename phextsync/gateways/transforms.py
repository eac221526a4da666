"""Transforms: two changes of one text that were made apart, each as it is after the other.

A change is a list of edits, as `edits` has them. Pure functions; O(edits of both).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from phextsync.alignment import Work, changed_blocks, common_ends
from phextsync.edits import Edit, minimal_edits

_FINE_MAX: Final = 2000  # characters that are compared one by one: of more, lines come first
_FAR: Final = 1 << 62  # what is kept behind the last edit


def transformed(first: Sequence[Edit], other: Sequence[Edit]) -> tuple[list[Edit], list[Edit]]:
    """Return two changes of one text, each as it is of the text that the other one made.

    After both the text is the same, whichever came first. What both put in at one place stays in
    both; that of `first` comes first. What both delete is deleted once.
    """
    ours, theirs = _Steps(first), _Steps(other)
    after_theirs, after_ours = _Edits(), _Edits()
    while ours.is_more or theirs.is_more:
        if ours.text:
            after_ours.keep(len(ours.text))
            after_theirs.put(ours.take_text())
        elif theirs.text:
            after_theirs.keep(len(theirs.text))
            after_ours.put(theirs.take_text())
        else:
            count = min(ours.count, theirs.count)
            if not ours.drops:
                (after_ours.drop if theirs.drops else after_ours.keep)(count)
            if not theirs.drops:
                (after_theirs.drop if ours.drops else after_theirs.keep)(count)
            ours.take(count)
            theirs.take(count)
    return after_theirs.edits(), after_ours.edits()


def fine_edits(old: str, new: str) -> list[Edit]:
    """Return the edits that make `new` of `old`, by characters: what somebody else does meanwhile
    to the rest of a word is not done to what comes in its place."""
    first, last = common_ends(old, new)
    ours, theirs = old[first : len(old) - last], new[first : len(new) - last]
    few = max(len(ours), len(theirs)) <= _FINE_MAX
    edits = [(0, len(ours), theirs)] if few else minimal_edits(ours, theirs)
    fine: list[Edit] = []
    work = Work(len(old) + len(new))
    for start, stop, words in edits:
        for a, b, c, d in changed_blocks(ours[start:stop], words, work):
            fine.append((first + start + a, first + start + b, words[c:d]))
    return fine


def inverse(text: str, change: Sequence[Edit]) -> list[Edit]:
    """Return the change that takes a change of `text` back."""
    back: list[Edit] = []
    shift = 0
    for start, stop, words in change:
        at = start + shift
        back.append((at, at + len(words), text[start:stop]))
        shift += len(words) - (stop - start)
    return back


class _Steps:
    """A change as steps, taken from the front: `text` is put in, or `count` characters are kept or
    dropped."""

    def __init__(self, change: Sequence[Edit]) -> None:
        self._steps = _steps(change)
        self.text, self.count, self.drops = "", 0, False
        self._next()

    @property
    def is_more(self) -> bool:
        """Whether there is more to come than what is kept behind the last edit."""
        return bool(self.text) or self.drops or self.count < _FAR // 2

    def take_text(self) -> str:
        text = self.text
        self._next()
        return text

    def take(self, count: int) -> None:
        self.count -= count
        if not self.count:
            self._next()

    def _next(self) -> None:
        self.text, self.count, self.drops = next(self._steps)


def _steps(change: Sequence[Edit]) -> Iterator[tuple[str, int, bool]]:
    at = 0
    for start, stop, words in change:
        if start > at:
            yield "", start - at, False
        if words:
            yield words, 0, False
        if stop > start:
            yield "", stop - start, True
        at = stop
    yield "", _FAR, False


class _Edits:
    """Gathers steps to edits."""

    def __init__(self) -> None:
        self._done: list[Edit] = []
        self._start = self._stop = 0
        self._words = ""

    def put(self, words: str) -> None:
        self._words += words

    def drop(self, count: int) -> None:
        self._stop += count

    def keep(self, count: int) -> None:
        self._finish()
        self._start += count
        self._stop = self._start

    def edits(self) -> list[Edit]:
        """Return what was gathered."""
        self._finish()
        return self._done

    def _finish(self) -> None:
        if self._words or self._start < self._stop:
            self._done.append((self._start, self._stop, self._words))
        self._start, self._words = self._stop, ""
