"""Surveying: what there is in a range that is not held here, as a holder tells."""

from collections.abc import Callable
from itertools import pairwise

from phextsync.crdt import Fingerprinter
from phextsync.errors import ProtocolError
from phextsync.index import CoordinateRange
from phextsync.sync.asked import Question
from phextsync.sync.clock import Clock
from phextsync.sync.link import Link
from phextsync.sync.messages import Survey, Surveyed, Verdict
from phextsync.sync.questions import Questions


class Surveying:
    """Asks one holder at a time for one page of a range at a time."""

    def __init__(self, clock: Clock, questions: Questions) -> None:
        self._clock = clock
        self._questions = questions
        self._found: dict[Question, Surveyed] = {}

    def survey(
        self,
        now: float,
        phext: str,
        range_: CoordinateRange,
        done: Callable[[Surveyed | None], None],
        *,
        with_texts: bool = False,
    ) -> None:
        """Ask a peer that holds all of a range for its first scrolls; `done` is told them, perhaps
        at once None: there is nobody."""

        self._clock.advance(now)

        def end(_: bool) -> None:
            done(self._found.pop(question, None))

        def message(number: int) -> Survey:
            return Survey(number, phext, range_, with_texts)

        question = Question(phext, range_, message, end)
        self._questions.ask(question)

    def receive(self, link: Link, surveyed: Surveyed) -> None:
        """A peer answers. ProtocolError for scrolls outside of the range, or not in order, and for
        a text that is not what its digest says."""
        question = link.asked.find(surveyed.number)
        _check(question.range, surveyed)
        _check_texts(question.phext, surveyed)
        self._questions.answered(link, surveyed.number)
        if question.is_over:
            return
        if surveyed.verdict is Verdict.GIVEN:
            self._found[question] = surveyed
            self._questions.end(question, is_answered=True)
        else:
            self._questions.ask(question)


def _check_texts(phext: str, surveyed: Surveyed) -> None:
    fingerprinter = Fingerprinter(phext)
    for row in surveyed.scrolls:
        if row.text is not None:
            text = row.text.encode()
            fingerprint = fingerprinter.of(row.coordinate.key, row.version, text)
            if row.size != len(text) or not fingerprint.startswith(row.digest):
                place = row.coordinate
                raise ProtocolError(f"expected another text of {place} by its fingerprint")


def _check(range_: CoordinateRange, surveyed: Surveyed) -> None:
    places = [row.coordinate for row in surveyed.scrolls]
    if surveyed.rest is not None:
        places.append(surveyed.rest)
        if surveyed.rest == range_.lower:
            raise ProtocolError(f"expected a part of {range_} to be told, found nothing of it")
    is_ordered = all(before < after for before, after in pairwise(places))
    if not is_ordered or not all(place in range_ for place in places):
        raise ProtocolError(f"expected scrolls of {range_} in order, found others")
