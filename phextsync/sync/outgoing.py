"""Outgoing: which updates to send on a link, and in which turn.

Kept are sets of scrolls, never a queue of updates: the entries are made when the link can take a
frame. Bursts coalesce; a slow peer costs a set.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

from phextsync.errors import ProtocolError, StoreDamagedError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, contains
from phextsync.ranges import Ranges, intersection
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.durable_first import DurableFirst
from phextsync.sync.had import HadVersions
from phextsync.sync.ledger import Ledger
from phextsync.sync.limits import Limits
from phextsync.sync.messages import TIME_MS_MAX, Entry, Live, Part, ScrollId, Updates
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.refusals import Refusals
from phextsync.sync.requests import Requests
from phextsync.sync.rights import Interest, LinkRights
from phextsync.sync.scope import forget_outside
from phextsync.sync.traffic import Traffic

_ENTRY_BYTES: Final = 40  # what an entry adds to its update in a frame, at most
_FRAME_BYTES: Final = 300  # what a frame adds to its entries, at most


class Outgoing:
    """What the peer of one link is to be sent.

    `dirty`: scrolls that changed, since which sequence number. `found`: scrolls that a comparison
    found the peer to lack. `asked`: scrolls that it asks for. The latter two with the version that
    it has. `streams`: ranges of which it has nothing. `parts`: the rest of a large entry.
    `is_terse`: it understands `Live`, whose times count from `told_ms`.
    """

    def __init__(
        self,
        link: int,
        *,
        replicas: ReplicaSet,
        interest: Interest,
        rights: LinkRights,
        recent: RecentUpdates,
        durable_first: DurableFirst,
        ledger: Ledger,
        requests: Requests,
        had: HadVersions,
        refusals: Refusals,
        traffic: Traffic,
        limits: Limits,
    ) -> None:
        self.dirty: OrderedDict[ScrollId, int] = OrderedDict()
        self.found: OrderedDict[ScrollId, bytes] = OrderedDict()
        self.asked: OrderedDict[ScrollId, bytes] = OrderedDict()
        self.asked_bytes = 0
        self.streams: deque[tuple[str, CoordinateRange]] = deque()
        self.parts: deque[Part] = deque()
        self.is_terse = False
        self.told_ms = replicas.author.now_ms()
        self._link = link
        self._replicas = replicas
        self._durability = replicas.durability
        self._interest = interest
        self._rights = rights
        self._recent = recent
        self._durable_first = durable_first
        self._ledger = ledger
        self._requests = requests
        self._had = had
        self._refusals = refusals
        self._traffic = traffic
        self._limits = limits
        self._item_bytes_max = limits.item_bytes_max  # asked for with each edit
        self._peer_versions = replicas.peer_versions.scrolls
        self._turn = 0

    # -- what to send ----------------------------------------------------------------------

    def change(self, scroll: ScrollId, sequence: int) -> None:
        """The update with a sequence number is to be sent."""
        self.dirty.setdefault(scroll, sequence)
        if scroll in self._peer_versions:
            self._had.change(scroll)

    def change_uncommitted(self, phext: str) -> None:
        """What is not durable is not in the digest that is sent: send it besides."""
        send = self._rights.of(phext).send
        for coordinate in self._replicas.phext(phext).uncommitted():
            scroll = (phext, coordinate)
            if not self._rights.shows(scroll):
                continue  # it is about to leave
            if contains(send, coordinate) and scroll not in self._durable_first:
                self.dirty.setdefault(scroll, 0)

    def find(self, scroll: ScrollId) -> None:
        """A comparison found that the peer lacks the scroll."""
        self.found[scroll] = EMPTY_VERSION

    def stream(self, phext: str, ranges: Iterable[CoordinateRange]) -> None:
        """A comparison found that the peer has nothing of some ranges."""
        self.streams.extend((phext, range_) for range_ in ranges)

    def ask(self, scroll: ScrollId, version: bytes) -> None:
        """The peer asks for what it lacks beyond a version."""
        self.asked_bytes += len(version) - len(self.asked.get(scroll, b""))
        self.asked[scroll] = version
        limits = self._limits
        # What it has not yet seen answered, and what we have not yet sent, cross on the way.
        if len(self.asked) > 2 * limits.wants_max or self.asked_bytes > 2 * (
            limits.wants_bytes_max + limits.frame_bytes_max
        ):
            raise ProtocolError(f"expected fewer requests at once, found {len(self.asked)}")

    def forget(self, scroll: ScrollId, update: bytes) -> None:
        """The peer has sent us an update: do not send it back."""
        first = self.dirty.get(scroll)
        if first is not None:
            recent = self._recent.since(scroll, first, self._link)
            if len(recent) == 1 and recent[0].update == update:
                del self.dirty[scroll]

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        forget_outside(self.dirty, phext, scope)
        forget_outside(self.found, phext, scope)
        self.asked_bytes -= sum(map(len, forget_outside(self.asked, phext, scope)))
        streams, self.streams = self.streams, deque()
        for streamed, range_ in streams:
            parts = intersection((range_,), scope) if streamed == phext else (range_,)
            self.stream(streamed, parts)

    # -- frames ----------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether there may be a frame to send."""
        return bool(self.dirty or self.asked or self.found or self.streams or self.parts)

    @property
    def is_sending(self) -> bool:
        """Whether changes, answers or large entries are to be sent; findings not counted."""
        return bool(self.dirty or self.asked or self.streams or self.parts)

    def next_part(self) -> Part:
        """Return the next part of a large entry."""
        part = self.parts.popleft()
        if part.index + 1 == part.total:
            self._number(part.phext, (part.coordinate,))
        return part

    def next_updates(self) -> Updates | Live | Part | None:
        """Let live updates, answers and streams take turns, so that none starves another. None
        when there is nothing to send, or the peer has not acknowledged enough."""
        under_way = self._ledger.sent - self._ledger.acknowledged
        if under_way >= self._limits.window_frames:
            return self._next_answers(under_way)
        if not (self.asked or self.found or self.streams):  # as nearly always
            if self.is_terse and len(self.dirty) == 1 and (lone := self._lone()) is not None:
                return lone
            entries: list[Entry] = []
            phext = self._recent_of(entries)
            return self._frame(phext, entries) if entries else None
        makers = (self._recent_of, self._answers, self._findings, self._streamed)
        for i in range(len(makers)):
            turn = (self._turn + i) % len(makers)
            entries = []
            phext = makers[turn](entries)
            if entries:
                self._turn = (turn + 1) % len(makers)
                return self._frame(phext, entries)
        return None

    def _lone(self) -> Live | None:
        """Return the one update of ours that there is, as nearly always: what `_recent_of` and
        `_frame` make of it, in a third of the steps. None where it is anything else."""
        scroll, first = next(iter(self.dirty.items()))
        if not (self._rights.is_told(scroll) and self._recent.has_since(first)):
            return None
        updates = self._recent.since(scroll, first, self._link)
        if len(updates) != 1:
            return None
        (entry,) = updates
        elapsed_ms = entry.time_ms - self.told_ms
        if entry.origin != self._replicas.node_id or not 0 <= elapsed_ms < TIME_MS_MAX:
            return None
        if len(entry.update) + _ENTRY_BYTES + _FRAME_BYTES > self._item_bytes_max:
            return None
        del self.dirty[scroll]
        phext, coordinate = scroll
        self._traffic.updates_out += 1
        self._number(phext, (coordinate,))
        return Live(phext, ((coordinate, entry.update, elapsed_ms),))

    def _next_answers(self, under_way: int) -> Updates | Live | Part | None:
        """Return answers alone, beyond the window: a peer acknowledges nothing from the frame on
        that builds on what it asks for. It asks for no more than `wants_max` at once."""
        entries: list[Entry] = []
        if self.asked and under_way < self._limits.window_frames + self._limits.wants_max:
            phext = self._answers(entries)
        return self._frame(phext, entries) if entries else None

    def _frame(self, phext: str, entries: list[Entry]) -> Updates | Live | Part:
        self._traffic.updates_out += len(entries)
        last = entries[-1]
        if len(last.update) + _ENTRY_BYTES + _FRAME_BYTES > self._limits.frame_bytes_max:
            # Entries are added until a frame is full: only a lone one can be too large.
            self._split(phext, last)
            return self.next_part()
        if len(entries) == 1:
            self._number(phext, (last.coordinate,))
        else:
            self._number(phext, tuple(dict.fromkeys(entry.coordinate for entry in entries)))
        terse = self._tersely(entries) if self.is_terse else None
        return Updates(phext, tuple(entries)) if terse is None else Live(phext, terse)

    def _tersely(
        self, entries: Iterable[Entry]
    ) -> tuple[tuple[Coordinate, bytes, int], ...] | None:
        """Return the entries of `Live`, None when the peer has to be told who wrote one, or of one
        a time before our hello."""
        own_id, told_ms = self._replicas.node_id, self.told_ms
        terse: list[tuple[Coordinate, bytes, int]] = []
        for coordinate, update, origin, time_ms in entries:
            elapsed_ms = time_ms - told_ms
            if origin != own_id or not 0 <= elapsed_ms < TIME_MS_MAX:
                return None
            terse.append((coordinate, update, elapsed_ms))
        return tuple(terse)

    def _split(self, phext: str, entry: Entry) -> None:
        size = self._item_bytes_max
        total = -(-len(entry.update) // size)
        self.parts.extend(
            Part(phext, entry.coordinate, i, total, entry.update[i * size : (i + 1) * size])
            for i in range(total)
        )

    def _number(self, phext: str, coordinates: tuple[Coordinate, ...]) -> None:
        self._ledger.send(phext, coordinates, is_durable=not self._durability.is_dirty)

    def _recent_of(self, entries: list[Entry]) -> str:
        """Fill a frame with what changed; what is no longer at hand is offered."""
        phext, size = "", 0
        own_id, half = self._replicas.node_id, self._item_bytes_max
        while self.dirty:
            scroll, first = next(iter(self.dirty.items()))
            if entries and (scroll[0] != phext or size > self._limits.frame_bytes_goal):
                break
            if not self._rights.is_told(scroll):
                del self.dirty[scroll]
                continue
            updates = self._recent.since(scroll, first, self._link)
            added = _ENTRY_BYTES * len(updates)
            for entry in updates:
                added += len(entry.update)
            if added > half or not self._recent.has_since(first):
                del self.dirty[scroll]
                self._requests.offer(scroll)
                continue
            if entries and size + added > half:
                break
            del self.dirty[scroll]
            phext = scroll[0]
            size += added
            for entry in updates:
                origin = entry.origin or own_id
                entries.append(Entry(scroll[1], entry.update, origin, entry.time_ms))
        return phext

    def _answers(self, entries: list[Entry]) -> str:
        return self._differences(self.asked, entries)

    def _findings(self, entries: list[Entry]) -> str:
        return self._differences(self.found, entries)

    def _differences(self, scrolls: OrderedDict[ScrollId, bytes], entries: list[Entry]) -> str:
        """Fill a frame with what the peer lacks of scrolls beyond the versions that it has."""
        phext, size = "", 0
        while (waiting := self._first_of(scrolls)) is not None:
            scroll, version = waiting
            if entries and (scroll[0] != phext or size > self._limits.frame_bytes_goal):
                break
            update = self._difference(scroll, version)
            if entries and size + len(update) > self._item_bytes_max:
                break
            del scrolls[scroll]
            if scrolls is self.asked:
                self.asked_bytes -= len(version)
            phext = scroll[0]
            size += len(update) + _ENTRY_BYTES
            entries.append(Entry(scroll[1], update))
        return phext

    def _first_of(self, scrolls: Mapping[ScrollId, bytes]) -> tuple[ScrollId, bytes] | None:
        """Return the first of which nothing is held back."""
        return next((item for item in scrolls.items() if item[0] not in self._durable_first), None)

    def _difference(self, scroll: ScrollId, version: bytes) -> bytes:
        """Return what a peer with `version` lacks of a scroll, empty when that is nothing, or more
        than it takes."""
        is_held = contains(self._interest.of(scroll[0]), scroll[1])
        if not is_held and not self._interest.is_guest(scroll):
            return b""
        try:
            update = self._replicas.open(scroll[0]).difference(scroll[1], version) or b""
        except StoreDamagedError:
            return b""
        return b"" if self._refusals.holds_back(scroll, len(update)) else update

    def _streamed(self, entries: list[Entry]) -> str:
        goal = self._limits.frame_bytes_goal
        while self.streams and not entries:
            phext, range_ = self.streams.popleft()
            lower, upper = range_.to_keys()
            found = self._replicas.read_range(phext, lower, upper, goal)
            if not found:
                continue
            del found[goal // _ENTRY_BYTES :]
            states = [Entry(Coordinate.from_key(key), state) for key, state in found]
            entries += [
                entry
                for entry in states
                if not self._refusals.holds_back((phext, entry.coordinate), len(entry.update))
            ]
            after = states[-1].coordinate.successor()
            if after is not None and after in range_:
                self.streams.appendleft((phext, CoordinateRange(after, range_.upper)))
            if len(entries) > 1 and len(entries[-1].update) > self._item_bytes_max:
                # Too large to travel with others: it goes next, alone.
                self.find((phext, entries.pop().coordinate))
            if entries:
                return phext
        return ""

    # -- what is under way -----------------------------------------------------------------

    @property
    def scrolls(self) -> int:
        """How many scrolls are noted; streams and parts not counted."""
        return len(self.dirty) + len(self.found) + len(self.asked)

    @property
    def messages(self) -> int:
        """How many messages are ready, and ranges to be sent."""
        return len(self.streams) + len(self.parts)

    def under_way(self, phext: str, range_: CoordinateRange) -> Iterator[Coordinate]:
        """Iterate over the scrolls of a range to be sent, some more than once, without those of
        streams."""
        for scroll in chain(self.dirty, self.found, self.asked):
            if scroll[0] == phext and scroll[1] in range_:
                yield scroll[1]
        for part in self.parts:
            if part.phext == phext and part.coordinate in range_:
                yield part.coordinate

    def is_under_way(self, scroll: ScrollId) -> bool:
        """Whether a scroll is to be sent, but for streams."""
        if scroll in self.dirty or scroll in self.found or scroll in self.asked:
            return True
        return any((part.phext, part.coordinate) == scroll for part in self.parts)

    def streams_of(self, phext: str, range_: CoordinateRange) -> Iterator[CoordinateRange]:
        """Iterate over the parts of a range of which everything is still to be sent."""
        for streamed, stream in self.streams:
            both = stream.intersect(range_) if streamed == phext else None
            if both is not None:
                yield both

    def is_quiet(self, phext: str) -> bool:
        """Whether nothing of the phext is to be sent, and no part of anything."""
        scrolls = (name for name, _ in chain(self.dirty, self.found, self.asked))
        streams = (name for name, _ in self.streams)
        return not self.parts and phext not in chain(scrolls, streams)

    def check(self) -> None:
        """Check that the count is that of what is noted."""
        assert self.asked_bytes == sum(map(len, self.asked.values()))
