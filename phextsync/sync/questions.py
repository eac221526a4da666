"""Questions: what peers are asked that hold what we do not, and whom next.

The nearest by its round trip is asked first; after one that is silent for long, or says no, comes
the next. The first answer counts.
"""

from collections.abc import Mapping
from math import inf
from typing import Final

from phextsync.ranges import holds, intersection
from phextsync.sync.asked import Question
from phextsync.sync.clock import Clock
from phextsync.sync.link import Link

HEDGE_S: Final = 0.05
"""After so long without an answer the next peer is asked as well."""


class Questions:
    """The questions of a node over all links."""

    def __init__(self, links: Mapping[int, Link], clock: Clock) -> None:
        self._links = links
        self._clock = clock
        self._open: dict[Question, None] = {}
        self._number = 0

    @property
    def due(self) -> float:
        """When to `check`."""
        return min((question.due for question in self._open), default=inf)

    def ask(self, question: Question) -> None:
        """Ask the next peer; end the question where there is none and no answer is awaited."""
        link = self._next(question)
        question.due = inf
        if link is None:
            if not question.unanswered:
                self.end(question, is_answered=False)
            return
        self._number += 1
        self._open[question] = None
        question.asked[link.number] = None
        question.asked_at = self._clock.now
        question.unanswered += 1
        link.asked.add(question, self._number, self._clock.now)
        link.ready()
        self._go_on_later(question)

    def met(self) -> None:
        """A peer has come, or holds something else: ask it too where all others are silent."""
        for question in self._open:
            if question.due == inf:
                self._go_on_later(question)

    def _go_on_later(self, question: Question) -> None:
        if self._next(question) is not None:
            question.due = max(self._clock.now, question.asked_at + HEDGE_S)
            self._clock.ask_for_tick(question.due, pause_s=0)

    def answered(self, link: Link, number: int) -> bool:
        """A peer has answered. Return whether that still counts for the time after."""
        question, since, is_void = link.asked.answered(number)
        question.unanswered -= 1
        link.heartbeat.measure(self._clock.now - since)
        return not is_void

    def end(self, question: Question, *, is_answered: bool) -> None:
        """A question needs no more answers."""
        self._open.pop(question, None)
        if not question.is_over:
            question.is_over, question.due = True, inf
            question.end(is_answered)

    def check(self, now: float) -> None:
        """Ask others where a peer is silent."""
        for question in list(self._open):
            if question.due <= now:
                self.ask(question)

    def lost(self, link: Link) -> None:
        """A link is gone: ask others."""
        for question in link.asked.questions():
            question.unanswered -= 1
            if not question.is_over:
                self.ask(question)

    def _next(self, question: Question) -> Link | None:
        candidates = [link for link in self._links.values() if _may_answer(link, question)]
        return min(candidates, key=lambda link: _distance(link, question), default=None)


def _may_answer(link: Link, question: Question) -> bool:
    if link.hello is None or link.hello.minor < question.minor or link.number in question.asked:
        return False
    phext, range_ = question.phext, question.range
    return link.holds(phext, range_) and holds(link.rights.of(phext).bring, range_)


def _distance(link: Link, question: Question) -> tuple[bool, float, int]:
    """Order links: those first whose peers stay holders, then the nearest."""
    leaves = bool(intersection((question.range,), link.promises.given_up(question.phext)))
    round_trip_s = link.heartbeat.round_trip_s
    return leaves, inf if round_trip_s is None else round_trip_s, link.number
