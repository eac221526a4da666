"""Working out: what a holder works out of what it holds, for one that does not hold it.

What is asked and answered means something to those above alone: here it is bytes.
"""

from collections.abc import Callable
from typing import TypeVar

from phextsync.errors import ProtocolError
from phextsync.index import CoordinateRange
from phextsync.sync.asked import Question
from phextsync.sync.clock import Clock
from phextsync.sync.link import Link
from phextsync.sync.messages import ASK_MINOR, Ask, Part, Told, Verdict
from phextsync.sync.questions import Questions

T = TypeVar("T")


class WorkingOut:
    """Asks one holder at a time."""

    def __init__(self, clock: Clock, questions: Questions, *, told_bytes_max: int) -> None:
        self._clock = clock
        self._questions = questions
        self._told_bytes_max = told_bytes_max
        self._takes: dict[Question, Callable[[bytes], None]] = {}

    def ask(
        self,
        now: float,
        phext: str,
        range_: CoordinateRange,
        words: bytes,
        read: Callable[[bytes], T],
        done: Callable[[T | None], None],
    ) -> None:
        """Ask a peer that holds all of a range; `done` is told its answer, perhaps at once None:
        there is nobody. `read` makes of its bytes what `done` is told, ProtocolError for what
        is no answer."""
        self._clock.advance(now)
        found: list[T] = []

        def take(answer: bytes) -> None:
            found.append(read(answer))

        def end(_: bool) -> None:
            del self._takes[question]
            done(found[0] if found else None)

        def message(number: int) -> Ask:
            return Ask(number, phext, range_, words)

        question = Question(phext, range_, message, end, ASK_MINOR)
        self._takes[question] = take
        self._questions.ask(question)

    def receive(self, link: Link, told: Told) -> None:
        """A peer answers. ProtocolError for what is no answer: others are asked."""
        question = link.asked.find(told.number)
        answer = b""
        if told.verdict is Verdict.GIVEN:
            place = question.phext, question.range.lower
            part = Part(*place, told.index, max(1, told.total), told.piece)
            entry = link.asked.assembly.add(part)
            if entry is None:
                return
            answer = entry.update
        self._questions.answered(link, told.number)
        if question.is_over:
            return
        if told.verdict is not Verdict.GIVEN:
            self._questions.ask(question)
            return
        try:
            if len(answer) > self._told_bytes_max:
                raise ProtocolError(f"answer of more than {self._told_bytes_max} bytes")
            self._takes[question](answer)
        except ProtocolError:
            self._questions.ask(question)
            raise
        self._questions.end(question, is_answered=True)
