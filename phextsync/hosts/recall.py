"""Recall: what is known about a question, found by a thread while others wait briefly."""

import re
import threading
from collections.abc import Callable
from typing import Final

from phextsync.search import Hit
from phextsync.words import ROUGHLY

WAIT_S: Final = 0.012
"""How long `ask` waits. What is found later is there for the next question."""

_WORDS_MAX: Final = 4
_HITS_MAX: Final = 6
_SHORT: Final = 4  # letters; shorter words say little
_OR: Final = " | "
_WORD: Final = re.compile(r"\w+")

Search = Callable[[str, int], list[Hit]]


def words_to_search(question: str) -> list[str]:
    """Return the words of a question that are likeliest to say what it is about: its longest."""
    words = dict.fromkeys(word.casefold() for word in _WORD.findall(question))
    telling = [word for word in words if len(word) >= _SHORT] or [*words]
    return sorted(telling, key=len, reverse=True)[:_WORDS_MAX]


def found(question: str, search: Search) -> str:
    """Return lines about the scrolls that have most of a question's words, the best first."""
    asked = words_to_search(question)
    hits = search(f"{_OR.join(asked)} {ROUGHLY}", _HITS_MAX) if asked else []
    return "\n".join(f"- {hit.coordinate}: {' '.join(hit.snippet.split())}" for hit in hits)


class Recall:
    """Answers questions by a search. Of questions that wait, the last one is answered."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._changed = threading.Condition()
        self._asked: str | None = None
        self._answer = ("", "")  # a question, and what was found about it
        self._is_told = True
        self._is_over = False
        self.late = 0
        threading.Thread(target=self._run, name="phextsync recall", daemon=True).start()

    def hand_over(self, question: str) -> None:
        """Let a question be answered in the background."""
        with self._changed:
            if question != self._answer[0]:
                self._asked = question
                self._changed.notify_all()

    def ask(self, question: str, wait_s: float = WAIT_S) -> str:
        """Return what is found within a moment; if that is too short, what was found last and
        nobody has been told yet, or nothing."""
        self.hand_over(question)
        with self._changed:
            is_there = self._changed.wait_for(lambda: self._answer[0] == question, wait_s)
            self.late += not is_there
            is_news, self._is_told = is_there or not self._is_told, True
            return self._answer[1] if is_news else ""

    def close(self) -> None:
        """Answer no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._asked is not None)
                if self._is_over:
                    return
                question, self._asked = self._asked or "", None
            answer = found(question, self._search)
            with self._changed:
                self._answer, self._is_told = (question, answer), False
                self._changed.notify_all()
