"""Comparisons: when a link compares which phext, and what it says and takes then.

The side with the smaller node id starts comparisons; the other asks for one with a summary. Only
what is durable here is compared.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Final, Protocol

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.announcements import Announcements
from phextsync.sync.audits import Audits
from phextsync.sync.clock import Clock
from phextsync.sync.comparison import AUDIT, CUT, RANGES, Comparison, Turn
from phextsync.sync.findings import Findings
from phextsync.sync.ledger import Ledger
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Compare, PhextSummary
from phextsync.sync.news import Sources
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.reconcile import Parameters, scope_digest
from phextsync.sync.requests import Requests
from phextsync.sync.rights import LinkRights
from phextsync.sync.scope import Scope
from phextsync.sync.session import Session
from phextsync.sync.timing import Timing
from phextsync.sync.traffic import Traffic
from phextsync.sync.versions import Versions

_STEPS_PER_AUDIT: Final = 8  # one audit of so many steps costs as much as reading every entry again
_DOUBLINGS_MAX: Final = 16  # then a delay is longer than any interval
_ENTRIES_TOLD_MAX: Final = 1 << 24  # that a peer's summary is believed to have


@dataclass(frozen=True, slots=True)
class Settings:
    """What all comparisons of a node share."""

    limits: Limits
    timing: Timing
    parameters: Parameters
    random: Random


class Unpushed(Protocol):
    """What is noted of updates that were not sent on a link: a comparison confirms it."""

    def begin(self, phext: str, unsettled: Iterable[Coordinate]) -> None:
        """A comparison of the phext begins: it sees what is noted and not `unsettled`."""

    def confirm(self, phext: str) -> None:
        """The comparison has ended: the peer has what it saw, or will be sent it."""


class Ways(Protocol):
    """How updates come besides."""

    @property
    def rarer(self) -> float:
        """How many times rarer a link is compared than where all nodes are linked."""

    def is_flowing(self, phext: str) -> bool:
        """Whether more of a phext is on its way."""


class Comparisons:
    """The comparisons of one link.

    `sessions`: the last one of each phext. `due`: when the next one is. `stale`: phexts with news
    of other links, and whether they are durable. `turns`: what is to be said.
    """

    def __init__(
        self,
        link: int,
        *,
        starts: bool,
        hears_all: bool,
        settings: Settings,
        replicas: ReplicaSet,
        clock: Clock,
        rights: LinkRights,
        announcements: Announcements,
        findings: Findings,
        scope: Scope,
        audits: Audits,
        versions: Versions,
        unpushed: tuple[Unpushed, ...],
        ledger: Ledger,
        requests: Requests,
        outgoing: Outgoing,
        traffic: Traffic,
        ways: Ways,
        ready: Callable[[], None],
        progressed: Callable[[], None],
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.due: dict[str, float] = {}
        self.stale: dict[str, bool] = {}
        self.turns: deque[Compare] = deque()
        self._link = link
        self._starts = starts
        self._hears_all = hears_all
        self._limits, self._timing = settings.limits, settings.timing
        self._parameters = settings.parameters
        self._random = settings.random
        self._replicas, self._clock = replicas, clock
        self._rights = rights
        self._announcements = announcements
        self._findings = findings
        self._scope = scope
        self._audits = audits
        self._versions = versions
        self._unpushed = unpushed
        self._ledger = ledger
        self._requests, self._outgoing = requests, outgoing
        self._traffic, self._ways = traffic, ways
        self._ready = ready
        self._progressed = progressed
        self._number = 0
        self._again: dict[str, tuple[tuple[int, bytes], int]] = {}  # the same was found, how often

    # -- what is known ---------------------------------------------------------------------

    def is_comparing(self, phext: str) -> bool:
        """Whether it is not yet known what differs."""
        session = self.sessions.get(phext)
        return session is None or session.is_open or phext in self.stale

    @property
    def is_busy(self) -> bool:
        """Whether a comparison is under way, or has to be."""
        return bool(self.stale) or any(session.is_open for session in self.sessions.values())

    def found_none(self, phext: str) -> bool:
        """Whether the last comparison has ended and saw that nothing differs."""
        return not self.is_comparing(phext) and self.sessions[phext].found_none

    def has_come_to_an_end(self, phext: str) -> bool:
        """Whether the last comparison has ended, and nothing that it found is to be exchanged."""
        if self.is_comparing(phext):
            return False
        session = self.sessions[phext]
        return not (session.has_found or session.is_cut)

    def is_withheld(self, phext: str) -> bool:
        """Whether the peer lacks something that we may not send."""
        session = self.sessions.get(phext)
        return session is not None and session.is_withheld

    # -- summaries -------------------------------------------------------------------------

    def meet(self, phext: str, summary: PhextSummary | None) -> None:
        """Both sides have said hello; `summary` is what the peer told of a phext."""
        if summary is None or not self._rights.scope(phext):
            return
        sent = self._announcements.ours.get(phext)
        if sent is None:
            self._announcements.tell(phext)
        if sent is not None and sent.digest == summary.digest:
            self.sessions[phext] = Session(0, None, is_open=False)
            timing = self._timing
            is_stale = phext in self.stale  # by what came while the link waited for its turn
            self.schedule(phext, timing.compare_delay_s if is_stale else self._interval_s)
        elif self._starts:
            self.start(phext, None if sent is None else _told_of_difference(sent, summary))
        else:
            self.sessions[phext] = Session(0, None)

    def receive_summary(self, summary: PhextSummary) -> None:
        """The peer tells what it has of a phext, and so asks for a comparison."""
        phext = summary.name
        is_other = self._announcements.note(summary)
        if is_other:
            self._end_scope(phext)
            self._outgoing.change_uncommitted(phext)
            self._scope.awaited.add(phext)
        else:
            self._scope.awaited.discard(phext)
        if not self._rights.scope(phext):
            return
        if phext not in self._announcements.ours:
            self._announcements.tell(phext)
        session = self.sessions.get(phext)
        if not self._starts:
            self.sessions.setdefault(phext, Session(0, None))
        elif is_other:
            self.sessions[phext] = Session(0, None)  # the peer asks: see `rescope`
        elif session is None or not session.is_open or session.comparison is None:
            ours = self._announcements.summary(phext)
            self.start(phext, _told_of_difference(ours, summary))

    # -- what both hold --------------------------------------------------------------------

    def rescope(self, phext: str, *, is_new: bool, ping: int) -> None:
        """We hold something else of a phext now, and have told so, and have sent a ping since.
        What is under way is about what both held before; `is_new`: it was nothing.

        Who starts comparisons starts one. The other takes no turn until the ping is answered, since
        the peer may not know yet, and asks for a comparison then.
        """
        self._end_scope(phext)
        if not self._starts and not is_new:
            self._scope.deaf[phext] = ping
        if not self._rights.scope(phext):
            return
        if self._starts and phext not in self._scope.awaited:
            self.start(phext)
        else:
            self.sessions[phext] = Session(0, None)  # the peer begins, or asks

    def hear_again(self, answered: int) -> None:
        """A ping was answered: ask for the comparisons that have waited for that."""
        for phext, ping in list(self._scope.deaf.items()):
            if answered >= ping:
                del self._scope.deaf[phext]
                self._announcements.tell(phext)

    def _end_scope(self, phext: str) -> None:
        """What both hold of a phext has changed: nothing that was compared counts any more."""
        self._scope.void[phext] = self._number
        self._scope.changed(phext)
        self.turns = deque(turn for turn in self.turns if turn.phext != phext)
        for noted in (self.sessions, self.due, self.stale, self._again):
            noted.pop(phext, None)

    # -- when ------------------------------------------------------------------------------

    def schedule(self, phext: str, delay_s: float) -> None:
        """Compare the phext within a delay, or a quarter more."""
        due = self._clock.now + delay_s * (1 + self._random.random() / 4)
        self.due[phext] = min(due, self.due.get(phext, due))
        self._clock.ask_for_tick(due, pause_s=self._timing.compare_delay_s)

    @property
    def _interval_s(self) -> float:
        """After how long a quiet phext is compared again."""
        return self._timing.compare_interval_s * self._ways.rarer

    def schedule_soon(self, phext: str) -> None:
        """Compare the phext soon, if it was compared before."""
        if phext in self.sessions:
            self.schedule(phext, self._timing.compare_delay_s)

    def mark_stale(self, phext: str) -> None:
        """Something came that is not relayed, and is not yet durable."""
        self.stale[phext] = False

    def hear_news(self, phext: str, sources: Sources) -> None:
        """What changed in the phext is durable; `sources` are the links that brought it."""
        # A peer with limits is marked where the news concerns it.
        is_concerned = self._hears_all or phext in self.stale
        if is_concerned and tuple(sources) != (self._link,):
            self.stale[phext] = True
            self.schedule_soon(phext)

    def begin_due(self, now: float) -> None:
        """Begin the comparisons that are due, or put them off while something is under way."""
        for phext, due in list(self.due.items()):
            if due <= now:
                self._begin_again(phext)

    def _begin_again(self, phext: str) -> None:
        session = self.sessions.get(phext)
        if session is None or session.is_open or not self._is_quiet(phext):
            self.due[phext] = self._clock.now + self._timing.compare_delay_s
            return
        del self.due[phext]
        if self._starts:
            self.start(phext)
        else:
            self.schedule(phext, self._interval_s)
            self._announcements.tell(phext)

    def _is_quiet(self, phext: str) -> bool:
        """Whether nothing of the phext is under way that a comparison would see twice."""
        parts = (self._outgoing, self._requests, self._ledger)
        return not self._ways.is_flowing(phext) and all(part.is_quiet(phext) for part in parts)

    # -- turns -----------------------------------------------------------------------------

    def start(self, phext: str, theirs: int | None = None) -> None:
        """Begin a comparison with a peer that announced `theirs` scrolls and another digest; None:
        it is not known whether there is a difference."""
        self._number += 1
        last = self.sessions.get(phext)
        is_fruitless = last is not None and last.is_fruitless
        comparison, session = self._open(phext, self._number)
        session.is_needed = theirs is not None
        self._traffic.comparisons += 1
        if session.is_needed:
            session.is_audit = is_fruitless and self._can_afford_audit(phext)
        else:
            session.is_audit = self._begins_audit(phext)
        turn = comparison.begin_audit() if session.is_audit else comparison.begin(theirs)
        self._say(phext, turn)

    def _open(self, phext: str, number: int) -> tuple[Comparison, Session]:
        if self.stale.get(phext):
            del self.stale[phext]  # it is durable: this comparison sees it
        self.due.pop(phext, None)
        replica = self._replicas.open(phext)
        nonce = self._random.randbytes(16)
        scope = self._rights.scope(phext)
        comparison = Comparison(replica.index, scope, self._parameters, nonce)
        entries = len(replica.index) + self._entries_told(phext)
        steps_max = self._limits.compare_steps_max + entries // self._limits.entries_per_step_min
        session = self.sessions[phext] = Session(number, comparison, steps_max)
        for noted in self._unpushed:
            noted.begin(phext, replica.uncommitted())
        return comparison, session

    def _entries_told(self, phext: str) -> int:
        return min(self._announcements.theirs[phext].count, _ENTRIES_TOLD_MAX)

    def _audit_cost(self, phext: str) -> int:
        return max(len(self._replicas.open(phext).index), self._entries_told(phext))

    def _can_afford_audit(self, phext: str, *, shares: int = 1) -> bool:
        return self._audits.afford(self._clock.now, self._audit_cost(phext), shares=shares)

    def _begins_audit(self, phext: str) -> bool:
        scope = self._rights.scope(phext)
        count, digest = scope_digest(self._replicas.open(phext).index, scope)
        cost = self._audit_cost(phext)
        return self._audits.begin(self._clock.now, phext, count=count, digest=digest, cost=cost)

    def _say(self, phext: str, turn: Turn) -> None:
        session = self.sessions[phext]
        self.turns.append(Compare(phext, session.number, session.step, turn.form, turn.body))
        self._traffic.compare_messages += 1
        session.step += 1
        if turn.is_last:
            self._end(phext)
        self._ready()

    def _end(self, phext: str) -> None:
        session = self.sessions[phext]
        session.is_open = False
        if session.saw_all:
            for noted in self._unpushed:
                noted.confirm(phext)
        self._versions.compared(phext)
        self.schedule(phext, self._delay_s(phext, session))
        self._progressed()

    def _delay_s(self, phext: str, session: Session) -> float:
        """Return after how long to compare again. What was found is compared once more, by its
        root, when it has been exchanged. What is found again though nothing has changed here, as
        what no peer takes, is compared each time twice as late."""
        if not session.has_found:
            self._again.pop(phext, None)
            return self._interval_s
        _, ours = scope_digest(self._replicas.open(phext).index, self._rights.scope(phext))
        found = session.found, ours
        before, count = self._again.get(phext, (None, 0))
        count = min(count + 1, _DOUBLINGS_MAX) if found == before else 0
        self._again[phext] = found, count
        return min(self._timing.compare_delay_s * (1 << count), self._interval_s)

    def receive(self, message: Compare) -> None:
        """Take a turn of the peer and answer it. ProtocolError when it is not its turn."""
        phext, scope = message.phext, self._scope
        if phext in scope.deaf or (self._starts and message.session <= scope.void.get(phext, 0)):
            return  # it is about what both held before
        if not self._rights.scope(phext):
            raise ProtocolError(f"expected a comparison of a phext in common, found {phext!r:.60}")
        comparison, session = self._session_of(message)
        session.step += 1
        if not message.body:
            session.is_cut = message.form == CUT
            if session.is_cut and not session.is_audit:
                self.stale[phext] = True  # the next comparison sees the rest
            self._end(phext)
            return
        if not self._may_answer(phext, session, message.form):
            session.is_cut = True
            self._say(phext, Turn(CUT, b""))
            return
        turn = comparison.answer(message.form, message.body)
        session.has_told_all = turn.found is not None and turn.found.has_told_all
        if turn.found is not None:
            session.found += turn.found.mark
            told = blake2b(message.body, digest_size=8).digest()
            told = told if message.form == RANGES else b""  # other forms tell no fingerprints
            if not self._findings.take(phext, session, turn.found, told):
                self.stale[phext] = True  # the next comparison finds the rest
        if session.step >= session.steps_max:
            raise ProtocolError(f"expected a comparison of fewer than {session.step} steps")
        self._say(phext, turn)

    def _session_of(self, message: Compare) -> tuple[Comparison, Session]:
        """Return the comparison that a turn belongs to; a first turn begins one."""
        phext = message.phext
        session = self.sessions.get(phext)
        if session is None or session.number != message.session:
            if self._starts or message.step != 0:
                raise ProtocolError(
                    f"expected a running comparison, found number {message.session}"
                )
            _, session = self._open(phext, message.session)
        if session.comparison is None or (not session.is_open and message.body):
            raise ProtocolError("expected no more of a comparison that has ended")
        if message.step != session.step:
            raise ProtocolError(
                f"expected step {session.step} of a comparison, found {message.step}"
            )
        if any(waiting.phext == phext for waiting in self.turns):
            raise ProtocolError("expected no turn of a comparison before ours was read")
        return session.comparison, session

    def _may_answer(self, phext: str, session: Session, form: int) -> bool:
        """Say whether to go on with a comparison, or to end it and leave the rest to a later one:
        the peer reads too slowly, or has us audit too much."""
        if sum(len(waiting.body) for waiting in self.turns) > self._limits.compares_bytes_max:
            self.stale[phext] = True
            return False
        session.is_audit |= form == AUDIT
        is_due = session.is_audit and session.step % _STEPS_PER_AUDIT == 1
        return not is_due or self._starts or self._can_afford_audit(phext, shares=2)

    # -- refusals --------------------------------------------------------------------------

    def note_refused(self, phext: str) -> None:
        """The peer may not take something that a comparison found it to lack."""
        session = self.sessions.get(phext)
        if session is not None:
            session.note(is_found=False, is_withheld=True)


def _told_of_difference(ours: PhextSummary, theirs: PhextSummary) -> int | None:
    """Return how many scrolls a peer has that has others than we do; None when that is not known,
    as where it holds other ranges: they have another digest, whatever both have in common."""
    is_known = ours.interest == theirs.interest and ours.digest != theirs.digest
    return theirs.count if is_known else None
