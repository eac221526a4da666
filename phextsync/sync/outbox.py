"""Outbox: short messages that wait for a link, before all others."""

from collections import deque

from phextsync.errors import ProtocolError
from phextsync.sync.messages import Message


class Outbox:
    """What is to be said on a link, in order. A peer that does not read has at most `answers_max`
    answers wait for it; what we say of ourselves is bounded by what we have to say."""

    def __init__(self, *, answers_max: int) -> None:
        self.waiting: deque[Message] = deque()
        self._answers_max = answers_max

    def say(self, message: Message) -> None:
        """Say something that no message of the peer asked for."""
        self.waiting.append(message)

    def answer(self, message: Message) -> None:
        """Answer a message. ProtocolError when too many answers wait."""
        self.check()
        self.waiting.append(message)

    def check(self) -> None:
        """ProtocolError when too many answers wait for one more."""
        if len(self.waiting) >= self._answers_max:
            raise ProtocolError(f"expected a peer that reads, found {len(self.waiting)} answers")
