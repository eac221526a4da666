"""Link: all that the core keeps of one link, as parts with state of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from phextsync.index import CoordinateRange
from phextsync.ranges import holds
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.announcements import Announcements
from phextsync.sync.asked import Asked
from phextsync.sync.assembly import Assembly, PartsBudget
from phextsync.sync.audits import Audits
from phextsync.sync.branch import Branch
from phextsync.sync.clock import Clock
from phextsync.sync.comparisons import Comparisons, Settings
from phextsync.sync.durable_first import DurableFirst
from phextsync.sync.findings import Findings
from phextsync.sync.had import HadVersions
from phextsync.sync.heartbeat import Heartbeat, PingTokens
from phextsync.sync.hosting import Hosting
from phextsync.sync.incoming import Incoming
from phextsync.sync.lazy import LazyPush
from phextsync.sync.ledger import Ledger
from phextsync.sync.listener import Listener
from phextsync.sync.messages import Hello
from phextsync.sync.outbox import Outbox
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.presence import Life
from phextsync.sync.promises import Promises
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.refusals import Refusals
from phextsync.sync.requests import Requests
from phextsync.sync.rights import Interest, LinkRights
from phextsync.sync.scope import Noting, Scope
from phextsync.sync.shown_changes import ShownChanges
from phextsync.sync.traffic import Traffic
from phextsync.sync.tree import Tree
from phextsync.sync.versions import Versions
from phextsync.sync.waiting import Waiting
from phextsync.trust.permissions import Permissions


@dataclass(frozen=True, slots=True)
class Shared:
    """What the links of a node share."""

    replicas: ReplicaSet
    interest: Interest
    recent: RecentUpdates
    durable_first: DurableFirst
    tree: Tree
    clock: Clock
    tokens: PingTokens
    budget: PartsBudget
    settings: Settings
    listener: Listener


class Link:
    """A link to one peer. `goodbye` is the reason for which it ends, `is_finished` whether it was
    said, `is_silent` whether it ends since nothing was heard of the peer."""

    def __init__(
        self,
        number: int,
        peer_id: bytes,
        permissions: Permissions,
        shared: Shared,
        now: float,
        *,
        dialled: bool,
    ) -> None:
        self.number = number
        self.peer_id = peer_id
        self.permissions = permissions
        self.dialled = dialled
        self.hello: Hello | None = None
        self.goodbye: str | None = None
        self.is_finished = False
        self.is_silent = False
        self.has_neighbours_to_tell = False
        self.neighbours_told: frozenset[bytes] | None = None
        self.presences: Mapping[Life, None] = {}
        self.ready = partial(shared.listener.on_ready, number)
        self.edited = partial(shared.listener.on_edit, number)
        self._begin(shared, now)
        self._exchange(shared)
        self._compare(shared, now)

    def _begin(self, shared: Shared, now: float) -> None:
        """Make the parts that need no other."""
        replicas, limits = shared.replicas, shared.settings.limits
        self.traffic = Traffic()
        self.waiting = Waiting(limits)
        self.heartbeat = Heartbeat(shared.tokens, now)
        self.outbox = Outbox(answers_max=limits.answers_max)
        self.assembly = Assembly(shared.budget, entry_bytes_max=limits.scroll_bytes_max)
        self.asked = Asked(
            Assembly(shared.budget, entry_bytes_max=limits.scroll_bytes_max),
            partial(replicas.part_guests, self.number),
            questions_max=limits.fetches_max,
        )
        self.lazy = LazyPush(left_max=limits.spared_max)
        self.branch = Branch(
            self.peer_id,
            self.outbox.say,
            left_max=limits.spared_max,
            round_trip_s=lambda: self.heartbeat.round_trip_s,
        )
        self.ledger = Ledger(scrolls_max=limits.found_max, gaps_max=limits.gaps_max)
        self.refusals = Refusals(replicas.report, limits)
        self.promises = Promises(self.outbox)
        self.rights = LinkRights(shared.interest, self.permissions, phexts_max=limits.phexts_max)
        work_out = partial(shared.listener.on_asked, self.number)
        self.hosting = Hosting(
            replicas, self.rights, shared.durable_first, limits, work_out, self.refusals.report
        )

    def _exchange(self, shared: Shared) -> None:
        """Make the parts that exchange updates."""
        replicas, limits = shared.replicas, shared.settings.limits
        self.shown = ShownChanges(replicas, self.rights, limits, self.ready)
        self.requests = Requests(replicas, self.rights, limits)
        self.had = HadVersions(self.peer_id, replicas, self.rights, limits)
        self.outgoing = Outgoing(
            self.number,
            replicas=replicas,
            interest=shared.interest,
            rights=self.rights,
            recent=shared.recent,
            durable_first=shared.durable_first,
            ledger=self.ledger,
            requests=self.requests,
            had=self.had,
            refusals=self.refusals,
            traffic=self.traffic,
            limits=limits,
        )
        self.incoming = Incoming(
            self.number,
            self.peer_id,
            replicas=replicas,
            interest=shared.interest,
            rights=self.rights,
            recent=shared.recent,
            ledger=self.ledger,
            requests=self.requests,
            outgoing=self.outgoing,
            lazy=self.lazy,
            tree=shared.tree,
            refusals=self.refusals,
            outbox=self.outbox,
            traffic=self.traffic,
            limits=limits,
        )
        self.versions = Versions(
            peer_id=self.peer_id,
            replicas=replicas,
            rights=self.rights,
            requests=self.requests,
            outgoing=self.outgoing,
            had=self.had,
            refusals=self.refusals,
            outbox=self.outbox,
        )

    def _compare(self, shared: Shared, now: float) -> None:
        """Make the parts that find out what differs."""
        replicas, settings = shared.replicas, shared.settings
        interval_s = settings.timing.audit_interval_s
        self.announcements = Announcements(
            replicas=replicas,
            permissions=self.permissions,
            rights=self.rights,
            outgoing=self.outgoing,
            outbox=self.outbox,
            heartbeat=self.heartbeat,
            tokens=shared.tokens,
            ready=self.ready,
        )
        self.findings = Findings(
            rights=self.rights,
            requests=self.requests,
            outgoing=self.outgoing,
            outbox=self.outbox,
            limits=settings.limits,
        )
        self.comparisons = Comparisons(
            self.number,
            starts=replicas.node_id < self.peer_id,
            hears_all=self.permissions.is_everything,
            settings=settings,
            replicas=replicas,
            clock=shared.clock,
            rights=self.rights,
            announcements=self.announcements,
            findings=self.findings,
            scope=Scope(self.rights, self._noting()),
            audits=Audits(now, settings.limits, interval_s=interval_s),
            versions=self.versions,
            unpushed=(self.lazy, self.branch),
            ledger=self.ledger,
            requests=self.requests,
            outgoing=self.outgoing,
            traffic=self.traffic,
            ways=shared.tree,
            ready=self.ready,
            progressed=shared.listener.on_progress,
        )

    def _noting(self) -> tuple[Noting, ...]:
        """Return the parts that note something of scrolls."""
        exchange: tuple[Noting, ...] = (self.requests, self.outgoing, self.had, self.ledger)
        both = (*exchange, self.lazy, self.branch, self.refusals, self.findings)
        return (*both, self.asked, self.hosting, self.shown)

    @property
    def name(self) -> str:
        """The name of the peer, nothing before it has said hello."""
        return self.hello.name if self.hello else ""

    def holds(self, phext: str, range_: CoordinateRange) -> bool:
        """Whether the peer holds all of a range, perhaps not for long."""
        return self.is_ready and holds(self.rights.told.get(phext, ()), range_)

    @property
    def was_lost(self) -> bool:
        """Whether it ended, if it has, without a word of either side."""
        return self.goodbye is None or self.is_silent

    @property
    def is_waiting(self) -> bool:
        """Whether it is a second link of a node whose first one is asked whether it lives."""
        return self.waiting.is_begun

    @property
    def is_ready(self) -> bool:
        """Whether it carries phexts."""
        return self.hello is not None and self.goodbye is None and not self.waiting.is_begun

    @property
    def has_work(self) -> bool:
        """Whether there may be a frame to send."""
        hosting = self.hosting
        return bool(
            self.goodbye is not None
            or self.outbox.waiting
            or self.outgoing.has_work
            or (self.requests.waiting and self.requests.may_ask)
            or self.comparisons.turns
            or (self.asked.waiting and self.asked.may_ask)
            or hosting.pieces
            or hosting.asked
            or self.shown.news
            or self.presences
            or self.has_neighbours_to_tell
            or self.branch.is_telling
            or self.ledger.has_news
        )

    @property
    def backlog(self) -> int:
        """How many messages and notes are kept, beside sets of scrolls."""
        return (
            len(self.outbox.waiting)
            + len(self.comparisons.turns)
            + self.outgoing.messages
            + len(self.waiting.frames)
            + self.ledger.frames
        )

    @property
    def scrolls(self) -> int:
        """How many scrolls are noted that are under way, roughly: some more than once."""
        return (
            self.outgoing.scrolls
            + self.requests.scrolls
            + self.ledger.scrolls
            + len(self.ledger.gaps)
            + len(self.refusals.reasons)
            + len(self.lazy.written)
            + len(self.lazy.left)
            + self.branch.scrolls
        )

    def state(self) -> str:
        """Say in a word or two what the link is about."""
        if self.hello is None or self.is_waiting:
            return "greeting"
        if self.goodbye is not None:
            return "ending"
        if self.comparisons.is_busy:
            return "comparing"
        if self.requests.waiting or self.requests.unanswered or self.assembly.is_open:
            return "receiving"
        if self.outgoing.is_sending or not self.ledger.is_acknowledged:
            return "sending"
        return "in sync"
