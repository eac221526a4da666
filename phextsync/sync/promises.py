"""Promises: what each side of a link gives up, and what the other one keeps of that."""

from phextsync.ranges import Ranges
from phextsync.sync.messages import Keep, Leave
from phextsync.sync.outbox import Outbox


class Promises:
    """Of one link, by phext. `ours`: what we told that we give up; `kept`: what the peer keeps of
    that. `theirs`: what the peer gives up."""

    def __init__(self, outbox: Outbox) -> None:
        self.ours: dict[str, Leave] = {}
        self.kept: dict[str, Ranges] = {}
        self.theirs: dict[str, Leave] = {}
        self._answered: dict[str, Keep] = {}
        self._outbox = outbox

    def tell(self, leave: Leave) -> None:
        """Tell the peer what we give up of a phext; what it kept of what we told before is void."""
        self.ours[leave.phext] = leave
        self.kept.pop(leave.phext, None)
        self._outbox.say(leave)

    def note(self, keep: Keep) -> None:
        """The peer keeps some of what we give up, if we still do."""
        told = self.ours.get(keep.phext)
        if told is not None and told.number == keep.number:
            self.kept[keep.phext] = keep.ranges

    def answer(self, keep: Keep) -> bool:
        """Tell the peer what we keep of what it gives up; say whether it did not know."""
        if self._answered.get(keep.phext) == keep:
            return False
        self._answered[keep.phext] = keep
        self._outbox.say(keep)
        return True

    def given_up(self, phext: str) -> Ranges:
        """Return what the peer gives up of a phext."""
        leave = self.theirs.get(phext)
        return () if leave is None else leave.ranges
