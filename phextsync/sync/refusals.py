"""Refusals: what a peer does not take from us, and what of a link the operator is told."""

from collections.abc import Callable
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.ranges import Ranges
from phextsync.sync.limits import Limits
from phextsync.sync.messages import ScrollId
from phextsync.sync.scope import forget_outside

NOT_ALLOWED: Final = "your certificate does not allow writing there"


class Refusals:
    """Of one link: the reason of each scroll that the peer refused, until it asks for it again or
    the scroll changes."""

    def __init__(self, report: Callable[[str], None], limits: Limits) -> None:
        self.reasons: dict[ScrollId, str] = {}
        self._report = report
        self._limits = limits
        self._count = 0

    def note(self, scroll: ScrollId, reason: str) -> None:
        """The peer refused what we sent of a scroll."""
        self.reasons[scroll] = reason
        if len(self.reasons) > self._limits.refusals_max:
            raise ProtocolError(f"expected fewer refusals, found {len(self.reasons)}")
        self.report(f"a peer refused {scroll[0]} {scroll[1]}: {reason}")

    def forget(self, scroll: ScrollId) -> None:
        """The scroll is sent again."""
        self.reasons.pop(scroll, None)

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        forget_outside(self.reasons, phext, scope)

    def report(self, text: str) -> None:
        """Tell the operator of the first of them: a peer decides how many there are."""
        self._count += 1
        if self._count <= self._limits.refusals_reported_max:
            self._report(text)
        elif self._count == self._limits.refusals_reported_max + 1:
            self._report("more was refused on this link; it is not reported")
