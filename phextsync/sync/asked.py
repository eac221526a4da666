"""Asked: what the peer of one link was asked to be shown of what it holds and we do not."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TypeAlias

from phextsync.errors import ProtocolError
from phextsync.index import CoordinateRange
from phextsync.ranges import Ranges
from phextsync.sync.assembly import Assembly
from phextsync.sync.messages import FETCH_MINOR, Ask, Fetch, ScrollId, Survey

Asking: TypeAlias = Fetch | Survey | Ask


@dataclass(slots=True, eq=False)
class Question:
    """Asks for something in a range that is not held here. `end` is called once, with whether it
    was answered. `minor`: what a peer has to speak to be asked. `asked`: the links that were, the
    last one at `asked_at`."""

    phext: str
    range: CoordinateRange
    message: Callable[[int], Asking]
    end: Callable[[bool], None]
    minor: int = FETCH_MINOR
    asked: dict[int, None] = field(default_factory=dict)
    asked_at: float = -inf
    unanswered: int = 0
    due: float = inf
    is_over: bool = False


@dataclass(slots=True)
class _Sent:
    """A question to one peer. `is_void`: since then one of both sides held something else."""

    question: Question
    since: float
    is_void: bool = False


class Asked:
    """What one peer was asked and has not answered. `waiting`: what it is to be asked. `even`:
    guests of which it has, or was sent, all that is here."""

    def __init__(
        self, assembly: Assembly, part: Callable[[str], None], *, questions_max: int
    ) -> None:
        self.assembly = assembly
        self.even: dict[ScrollId, None] = {}
        self._part = part
        self.waiting: deque[Asking] = deque()
        self._sent: dict[int, _Sent] = {}
        self._questions_max = questions_max

    def add(self, question: Question, number: int, now: float) -> None:
        """A question is to go out under a number."""
        self._sent[number] = _Sent(question, now)
        self.waiting.append(question.message(number))

    @property
    def may_ask(self) -> bool:
        """Whether there is something to ask, and the peer has answered enough of the rest."""
        return bool(self.waiting) and len(self._sent) - len(self.waiting) < self._questions_max

    def next_question(self) -> Asking:
        """Return what to ask next."""
        return self.waiting.popleft()

    def find(self, number: int) -> Question:
        """Return the question that the peer answers. ProtocolError when there is none."""
        sent = self._sent.get(number)
        if sent is None:
            raise ProtocolError(f"expected an answer to a question, found number {number}")
        return sent.question

    def answered(self, number: int) -> tuple[Question, float, bool]:
        """A question is answered: return it, since when it was asked, and whether it is void."""
        sent = self._sent.pop(number)
        return sent.question, sent.since, sent.is_void

    def questions(self) -> list[Question]:
        """Return what has no answer."""
        return [sent.question for sent in self._sent.values()]

    def keep_to(self, phext: str, _scope: Ranges) -> None:
        """One of the sides holds something else of a phext: it tells of no guest any more."""
        for sent in self._sent.values():
            sent.is_void |= sent.question.phext == phext
        for scroll in [each for each in self.even if each[0] == phext]:
            del self.even[scroll]
        self._part(phext)
