"""Findings: what a comparison found becomes requests and updates, as far as rights allow."""

from phextsync.index import contains
from phextsync.ranges import Ranges, intersection
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Refused, ScrollId
from phextsync.sync.outbox import Outbox
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.reconcile import Differences
from phextsync.sync.refusals import NOT_ALLOWED
from phextsync.sync.requests import Requests
from phextsync.sync.rights import LinkRights, Rights
from phextsync.sync.scope import forget_outside
from phextsync.sync.session import Session


class Findings:
    """The differences of one link.

    A scroll that only one side may write is exchanged once, and again when it changes here or the
    peer tells of other ones beside it: kept is the digest of what it told.
    """

    def __init__(
        self,
        *,
        rights: LinkRights,
        requests: Requests,
        outgoing: Outgoing,
        outbox: Outbox,
        limits: Limits,
    ) -> None:
        self._rights = rights
        self._requests = requests
        self._outgoing = outgoing
        self._outbox = outbox
        self._limits = limits
        self._exchanged: dict[ScrollId, bytes] = {}

    def forget(self, scroll: ScrollId) -> None:
        """The scroll has changed here: it is exchanged again."""
        self._exchanged.pop(scroll, None)

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        forget_outside(self._exchanged, phext, scope)

    def take(self, phext: str, session: Session, found: Differences, told: bytes) -> bool:
        """Take what a comparison found. Return whether there was room for all of it."""
        rights = self._rights.of(phext)
        most = self._limits.found_max
        room = max(0, most - len(self._requests.waiting))
        theirs = found.theirs[:room]
        changed = found.changed[: room - len(theirs)]
        sent = self._send(phext, rights, session, found)
        for coordinate in theirs:
            session.note(is_found=contains(rights.take, coordinate))
            self._requests.want((phext, coordinate))
        for coordinate in changed:
            self._take_changed(rights, session, (phext, coordinate), told)
        for coordinate in (*theirs, *changed):
            if not contains(rights.take, coordinate):
                # One stands for all: the peer learns that we lack something of its own.
                self._outbox.answer(Refused(phext, coordinate, NOT_ALLOWED))
                break
        return sent + len(theirs) + len(changed) == found.count

    def _send(self, phext: str, rights: Rights, session: Session, found: Differences) -> int:
        """Send what the peer lacks. Return how many findings there was room for."""
        most = self._limits.found_max
        streams = found.our_ranges[: max(0, most - len(self._outgoing.streams))]
        ours = found.ours[: max(0, most - len(self._outgoing.found))]
        for range_ in streams:
            allowed = intersection((range_,), rights.send)
            self._outgoing.stream(phext, allowed)
            session.note(is_found=bool(allowed), is_withheld=allowed != (range_,))
        for coordinate in ours:
            sends = contains(rights.send, coordinate)
            if sends:
                self._outgoing.find((phext, coordinate))
            session.note(is_found=sends, is_withheld=not sends)
        return len(streams) + len(ours)

    def _take_changed(
        self, rights: Rights, session: Session, scroll: ScrollId, told: bytes
    ) -> None:
        sends, takes = contains(rights.send, scroll[1]), contains(rights.take, scroll[1])
        before = self._exchanged.get(scroll)
        is_one_way = sends != takes and before is None
        is_known = not sends and told == before != b""
        if sends != takes:
            self._exchanged[scroll] = told
        if is_one_way or (takes and not is_known):
            # Also an offer: the peer asks back. One that is on its way may be of what was before.
            self._requests.offer(scroll)
        is_found = is_one_way or (sends and takes)
        # Where we may not send, the peer may lack something even when it has told all it has.
        session.note(is_found=is_found, is_withheld=not sends)
