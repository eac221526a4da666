"""Heartbeat: whether the peer of a link still lives, and how long an answer takes."""

from collections import OrderedDict
from typing import Final

from phextsync.sync.messages import Ping

_PINGS_MAX: Final = 16  # that are remembered; a peer that answers none for seconds is dead


class PingTokens:
    """Numbers of pings, growing over all links: an answer to a later one comes later."""

    def __init__(self) -> None:
        self.last = 0

    def draw(self) -> int:
        """Return the number of the next ping."""
        self.last += 1
        return self.last


class Heartbeat:
    """When a link was opened, when its peer was heard, and what it was asked."""

    def __init__(self, tokens: PingTokens, now: float) -> None:
        self.opened_at = now
        self.heard_at = now
        self.answered = 0  # the last ping that was
        self.round_trip_s: float | None = None
        self._tokens = tokens
        self._pinged_at = now
        self._pings: OrderedDict[int, float] = OrderedDict()  # when each was sent

    def ping(self, now: float) -> Ping:
        """Return a ping to be sent now."""
        token = self._tokens.draw()
        self._pinged_at = now
        self._pings[token] = now
        if len(self._pings) > _PINGS_MAX:
            self._pings.popitem(last=False)
        return Ping(token)

    def measure(self, round_trip_s: float) -> None:
        """Something else than a ping was answered after so long: it counts until one is."""
        if self.round_trip_s is None:
            self.round_trip_s = round_trip_s

    def is_ping_due(self, now: float, interval_s: float) -> bool:
        """Whether the peer was silent for so long, and was not asked since."""
        return now - self.heard_at >= interval_s and now - self._pinged_at >= interval_s

    def pong(self, now: float, token: int) -> bool:
        """Take an answer. Return whether it counts: it does if we have asked. It answers all that
        was asked before."""
        sent_at = self._pings.get(token)
        if sent_at is None:
            return False
        while self._pings and next(iter(self._pings)) <= token:
            self._pings.popitem(last=False)
        self.answered = token
        self.round_trip_s = now - sent_at
        return True
