"""Announcements: which phexts both sides of a link have told of, and what was in them."""

from collections.abc import Callable

from phextsync.index import EVERYTHING, CoordinateRange
from phextsync.ranges import intersection
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.heartbeat import Heartbeat, PingTokens
from phextsync.sync.messages import PhextSummary, Summary
from phextsync.sync.outbox import Outbox
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.reconcile import scope_digest
from phextsync.sync.rights import LinkRights
from phextsync.trust.permissions import Permissions


class Announcements:
    """The summaries of one link: `ours` has what we told, `theirs` what the peer did."""

    def __init__(
        self,
        *,
        replicas: ReplicaSet,
        permissions: Permissions,
        rights: LinkRights,
        outgoing: Outgoing,
        outbox: Outbox,
        heartbeat: Heartbeat,
        tokens: PingTokens,
        ready: Callable[[], None],
    ) -> None:
        self.ours: dict[str, PhextSummary] = {}
        self.theirs: dict[str, PhextSummary] = {}
        self._replicas = replicas
        self._permissions = permissions
        self._rights = rights
        self._outgoing = outgoing
        self._outbox = outbox
        self._heartbeat = heartbeat
        self._tokens = tokens
        self._ready = ready
        self._told_after: dict[str, int] = {}  # the last ping before it was told first

    def all(self) -> tuple[PhextSummary, ...]:
        """Return a summary of each phext that is here or not to be here, and that the peer may
        see, to be told."""
        summaries = tuple(self.summary(name) for name in self._told_first())
        self.ours = {summary.name: summary for summary in summaries}
        self._told_after = dict.fromkeys(self.ours, self._tokens.last)
        for summary in summaries:
            self._outgoing.change_uncommitted(summary.name)
        return summaries

    def _told_first(self) -> list[str]:
        """Return the names of phexts to be told of. Also those of which nothing is held: of a phext
        that it does not hear of a peer sends everything."""
        names, holding = self._replicas.names(), self._replicas.holding
        given_up = names if holding.is_fleeting else holding.phexts()
        room = max(0, self._replicas.phexts_max - len(names))
        absent = [name for name in given_up if name not in names][:room]
        rights = {name: self._rights.of(name) for name in sorted([*names, *absent])}
        return [name for name, r in rights.items() if r.held or (r.show and name in given_up)]

    def tell(self, phext: str) -> None:
        """Tell the peer what is here of a phext."""
        summary = self.summary(phext)
        self.ours[phext] = summary
        self._told_after.setdefault(phext, self._tokens.last)
        self._outgoing.change_uncommitted(phext)
        self._outbox.say(Summary(summary))
        self._ready()

    def tell_if_other(self, phext: str) -> bool:
        """Tell the peer what is here of a phext, if we hold something else of it than we told last;
        say whether that is so."""
        ours = self.ours.get(phext)
        told = () if ours is None else ours.interest
        if self._rights.of(phext).held == told:
            return False
        self.tell(phext)
        return True

    def note(self, summary: PhextSummary) -> bool:
        """The peer tells what it has of a phext. Return whether it holds something else than it
        told before."""
        phext = summary.name
        before = self._rights.told.get(phext)
        self._rights.tell(phext, summary.interest)
        self.theirs[phext] = summary
        return before is not None and before != self._rights.told[phext]

    def summary(self, phext: str) -> PhextSummary:
        """Return what of a phext is durable here and may be shown to the peer."""
        held = self._rights.of(phext).held
        index = self._replicas.phext(phext).index
        count, digest = scope_digest(index, held)
        # An average over everything: only for a peer that may know everything.
        sees_all = self._permissions.readable(phext) == (EVERYTHING,)
        text_bytes = index.text_bytes * count // max(1, len(index)) if sees_all else 0
        return PhextSummary(phext, held, count, text_bytes, digest)

    def is_shared(self, phext: str) -> bool:
        """Whether one of the sides has told of the phext."""
        return phext in self._rights.told or phext in self.ours

    def may_hold(self, phext: str, range_: CoordinateRange) -> bool:
        """Whether the peer holds something of a range, or has not yet said whether it does."""
        if phext in self._rights.told:
            return bool(intersection((range_,), self._rights.told[phext]))
        told_after = self._told_after.get(phext)
        is_silent = told_after is not None and self._heartbeat.answered > told_after
        return not is_silent and bool(intersection((range_,), self._rights.of(phext).show))
