"""Refusals: what a peer does not take from us, or would not, and what of a link the operator is
told."""

from collections.abc import Callable
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.ranges import Ranges
from phextsync.sync.limits import Limits
from phextsync.sync.messages import ScrollId
from phextsync.sync.scope import forget_outside
from phextsync.texts import too_large_state

NOT_ALLOWED: Final = "your certificate does not allow writing there"


class Refusals:
    """Of one link: why the peer has not taken a scroll, until it asks for it again or the scroll
    changes."""

    def __init__(self, report: Callable[[str], None], limits: Limits) -> None:
        self.reasons: dict[ScrollId, str] = {}
        self._report = report
        self._limits = limits
        self._count = 0
        self._held_back: set[ScrollId] = set()

    def note(self, scroll: ScrollId, reason: str) -> None:
        """The peer refused what we sent of a scroll."""
        self._add(scroll, f"it refused: {reason}")
        self.report(f"a peer refused {scroll[0]} {scroll[1]}: {reason}")

    def holds_back(self, scroll: ScrollId, size: int) -> bool:
        """Whether so many bytes of a scroll are more than any peer takes: they are not sent, and
        the operator is told once."""
        if size <= self._limits.scroll_bytes_max:
            return False
        reason = too_large_state(size)
        self._add(scroll, reason)
        if scroll not in self._held_back:
            self._held_back.add(scroll)
            self.report(f"{scroll[0]} {scroll[1]} is not sent: {reason}")
        return True

    def forget(self, scroll: ScrollId) -> None:
        """The scroll is sent again."""
        self.reasons.pop(scroll, None)

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        forget_outside(self.reasons, phext, scope)

    def _add(self, scroll: ScrollId, reason: str) -> None:
        self.reasons[scroll] = reason
        if len(self.reasons) > self._limits.refusals_max:
            raise ProtocolError(f"expected fewer refusals, found {len(self.reasons)}")

    def report(self, text: str) -> None:
        """Tell the operator of the first of them: a peer decides how many there are."""
        self._count += 1
        if self._count <= self._limits.refusals_reported_max:
            self._report(text)
        elif self._count == self._limits.refusals_reported_max + 1:
            self._report("more was refused on this link; it is not reported")
