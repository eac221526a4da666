"""History: what was written in a scroll, when and by which node, from the updates that are kept.

What is kept of a scroll is a *base*, the state before everything that is known singly, and the
updates that came since, in the order in which they took effect here. Most of them lie in `pieces`,
the newest in the scroll's log.

Which characters an update brought follows from clocks alone: Yjs numbers the characters of each
client without gaps, so they are those between the clock known before and the one that it shows.
Times are those of the clock of the node that wrote. What a comparison brought has none (an entry
without origin), so it is kept with the time at which it was *seen here*. Nodes' clocks differ;
nothing here believes that times ascend, and how old a piece is is judged by our own clock alone.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phextsync.crdt import Scroll, client_clocks
from phextsync.edits import minimal_edits
from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate, covers
from phextsync.inserts import IdSet
from phextsync.replica.pieces import BASE, entries_of
from phextsync.replica.replaying import CLIENT, apply_some, opened
from phextsync.replica.sides import Apart, Sides, sides
from phextsync.replica.taking_back import TakenBack, Writer, take_back, waiting
from phextsync.store.contract import LogEntry, StoredScroll
from phextsync.store.retention import NEVER_MS, Kept
from phextsync.texts import first_line

FOREVER: Final = NEVER_MS
"""How long history is kept that is never given up, in milliseconds."""

NOT_KEPT: Final = "no history is kept here: phextsync history --keep 30d"
"""Why something of the past may be missing, and what to do."""

_EARLIER: Final = "that is before what is kept"
_LINE_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """One update: who wrote it (node ids; none when unknown) and when, by the clock of the node
    that did or, with `seen_here`, when it came here by ours; characters added and removed, the
    number of the first line that it changed and how that line reads afterwards, and under which
    labels those nodes wrote."""

    time_ms: int
    seen_here: bool
    writers: tuple[bytes, ...]
    added: int
    removed: int
    line_number: int
    line: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlamedLine:
    """A line, without its end, and who wrote its newest characters (None: unknown) and when, as in
    `LoggedChange`, and under which label. Without `time_ms` it is older than the kept history."""

    text: str
    writer: bytes | None
    time_ms: int | None
    seen_here: bool
    label: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A point in time at which a scroll changed, for `text_at`: who changed it (node ids, none when
    unknown), bytes of the text afterwards, lines that came and lines that went; a line that moved
    is neither. The first one is the text before all that is known singly."""

    time_ms: int
    seen_here: bool
    writers: tuple[bytes, ...]
    size: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class DeletedScroll:
    """A scroll that has no text and had one: when it was emptied and by which node (None: unknown),
    as in `LoggedChange`, bytes of the text before, and the first line of that."""

    coordinate: Coordinate
    time_ms: int
    seen_here: bool
    writer: bytes | None
    size: int
    first_line: str


@dataclass(frozen=True, slots=True)
class Past:
    """What there is of a scroll's past, as bytes: looking back takes time, and any thread will do.

    `state` is the scroll as it is at `now_ms`; `news` follow in its log; `writers` are those
    that write under the client ids in it, as far as they are known.
    """

    phext: str
    place: Coordinate
    state: bytes
    now_ms: int
    stored: StoredScroll | None
    news: Sequence[LogEntry]
    pieces: Mapping[int, bytes]
    kept: Kept
    writers: Mapping[int, Writer]

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        stored = () if self.stored is None else self.stored.updates
        parts = (*stored, *(entry.update for entry in self.news), *self.pieces.values())
        return sum(map(len, parts))

    def log(self, last: int | None = None) -> list[LoggedChange]:
        """Return the `last` changes (None: all) that are kept, newest last."""
        return self._kept().changes(self.place, self.writers.get, last)

    def blame(self) -> list[BlamedLine]:
        """Return the lines, with who wrote their newest characters, and when."""
        if not self.state:
            return []
        kept, now = self._kept(), self._now()
        if not kept.leads_to(now):  # what came behind a gap would be taken for what is lost
            kept = _Kept(None, ())
        return kept.blame(now, self.writers.get)

    def text_at(self, time_ms: int) -> str:
        """Return the text of what was written up to a time by the clocks of those who wrote it,
        as far as it is here. PhextsyncError when history does not reach back so far."""
        kept = self._kept()
        if time_ms >= max(self.now_ms, kept.last_ms):
            return self._now().text
        text = kept.text_at(self.place, time_ms)
        if text is None or not kept.leads_to(self._now()):
            raise self._unknown("a part of it is damaged" if text is not None else _EARLIER)
        return text

    def versions(self, last: int | None = None) -> list[Version]:
        """Return the `last` points in time (None: all) that `text_at` tells apart, newest last.
        PhextsyncError when a part of what is kept is damaged."""
        kept = self._kept()
        if not kept.leads_to(self._now()):
            raise self._unknown("a part of it is damaged")
        if not kept.entries and not self.kept.kept_ms:
            return []
        rows = kept.versions(self.place, self._node_of)
        return rows if last is None else rows[max(0, len(rows) - last) :]

    def deletion(self) -> tuple[DeletedScroll, str] | None:
        """Return when the scroll was last emptied, and the text before; None when what is kept
        does not say."""
        kept = self._kept()
        found = kept.deletion(self.place) if kept.leads_to(self._now()) else None
        if found is None:
            return None
        entry, text = found
        size, line = len(text.encode()), first_line(text, _LINE_CHARACTERS)
        writer, seen_here = entry.origin or None, not entry.origin
        return DeletedScroll(self.place, entry.time_ms, seen_here, writer, size, line), text

    def deleted_text(self) -> str:
        """Return the text that was there before the scroll was last emptied. PhextsyncError when
        what is kept does not say."""
        found = self.deletion()
        if found is None:
            hint = "" if self.kept.kept_ms else f"; {NOT_KEPT}"
            raise PhextsyncError(
                f"{self.phext} {self.place}: expected a text that was deleted, found none in what "
                f"is kept{hint}"
            )
        return found[1]

    def sides(self, apart: Apart) -> Sides:
        """Return what others had who changed the scroll and may not have known what was changed
        here, as far as what is kept tells. Replays all of that."""
        kept = self._kept()
        if not kept.leads_to(self._now()):
            return Sides((), are_all=False)
        return sides(self.place, kept.base, kept.entries, apart, self._node_of)

    def taking_back(self, by: Writer, since_ms: int | None = None) -> TakenBack | None:
        """Return what takes back what a writer did, since a time by its clock; None for nothing.
        Where a part of what is kept is damaged, what the writer deleted stays deleted."""
        kept, now = self._kept(), self._now()
        if not (self.state and kept.leads_to(now)):
            kept = (
                _Kept(LogEntry(self.state, b"", self.now_ms), ()) if self.state else _Kept(None, ())
            )
        return take_back(now, kept.base, kept.entries, by, since_ms, self.writers.get)

    def quarantined(self, by: Writer, since_ms: int | None, stands: IdSet) -> list[bytes]:
        """Return what takes what a writer put in and does not stand: that follows from the scroll
        alone. With a time, it puts back what the writer took out since then, too."""
        now = self._now()
        state = LogEntry(self.state, b"", self.now_ms)
        found = [take_back(now, state, (), by, None, self.writers.get, stands)]
        kept = self._kept()
        if since_ms is not None and kept.leads_to(now):
            args = kept.base, kept.entries, by, since_ms, self.writers.get, stands
            found.append(take_back(now, *args))
        return [each.update for each in found if each is not None and each.update]

    def waiting(self, by: Writer) -> TakenBack | None:
        """Return what brings back what was taken of a writer in quarantine; None for nothing."""
        kept, now = self._kept(), self._now()
        if not (self.state and kept.leads_to(now)):
            return None
        return waiting(now, kept.base, kept.entries, by, self.writers.get)

    def _node_of(self, client: int) -> bytes | None:
        writer = self.writers.get(client)
        return None if writer is None else writer.node

    def _unknown(self, why: str) -> PhextsyncError:
        hint = "" if self.kept.kept_ms else f"; {NOT_KEPT}"
        return PhextsyncError(
            f"{self.phext} {self.place}: expected a time in its history: {why}{hint}"
        )

    def _now(self) -> Scroll:
        return Scroll(self.place, CLIENT, [self.state] if self.state else [])

    def _kept(self) -> "_Kept":
        """Without pieces the stored state is as it was when history began to be kept here, or
        before the log. An entry may be there twice, in its order."""
        state, log = (None, ()) if self.stored is None else (self.stored.state, self.stored.log)
        pieces = self.pieces
        entries = [
            entry for number, piece in pieces.items() if number for entry in entries_of(piece)
        ]
        entries += [*log, *self.news]
        base: LogEntry | None = None
        if pieces:
            base = next(iter(entries_of(pieces.get(BASE, b""))), None)
        elif state is not None:
            times = [self.kept.began_ms, *(entry.time_ms for entry in entries[:1])]
            base = LogEntry(state, b"", min(times))
        return _Kept(base, tuple(entries))


@dataclass(frozen=True, slots=True)
class _Kept:
    """`base` is the state before the entries, with the time from which on history is known."""

    base: LogEntry | None
    entries: tuple[LogEntry, ...]

    @property
    def last_ms(self) -> int:
        """The latest time at which an entry can count."""
        return max((e.time_ms for e in self.entries), default=0) + len(self.entries)

    def changes(
        self, place: Coordinate, writer_of: Callable[[int], Writer | None], last: int | None
    ) -> list[LoggedChange]:
        """Return the `last` changes (None: all), newest last. Replays all that is kept."""
        scroll = opened(place, self.base)
        clocks = _clocks(self.base)
        rows: list[LoggedChange] = []
        first = 0 if last is None else len(self.entries) - last
        for i, entry in enumerate(self.entries):
            before = scroll.text if i >= first else ""
            if scroll.apply(entry.update).update is None:
                continue  # it was here already, or builds on what is damaged
            clients = _brought(clocks, entry)
            if i >= first:
                of_entry = Writer(entry.origin, "")
                found = {writer_of(client) or of_entry for client in clients} or {of_entry}
                rows.append(_change(entry, found, before, scroll.text))
        return rows

    def versions(
        self, place: Coordinate, writer_of: Callable[[int], bytes | None]
    ) -> list[Version]:
        """Return what `text_at` tells apart, newest last. Replays all that is kept."""
        scroll, clocks = opened(place, self.base), _clocks(self.base)
        moments = self._moments(place)
        if self.base is not None and (not moments or moments[0][0] > self._from_ms):
            moments = [(self._from_ms, []), *moments]
        rows: list[Version] = []
        before = ""
        for time_ms, entries in moments:
            writers: set[bytes] = set()
            seen_here = self.base is not None and time_ms == self._from_ms
            for entry in entries:
                scroll.apply(entry.update)
                clients = _brought(clocks, entry)
                writers |= {writer_of(client) or entry.origin for client in clients}
                writers |= {entry.origin} if not clients else set()
                seen_here |= not entry.origin
            text = scroll.text
            if text != before:
                added, removed = _moved_lines(before, text)
                who = tuple(sorted(writers - {b""}))
                rows.append(Version(time_ms, seen_here, who, scroll.size, added, removed))
            before = text
        return rows

    @property
    def _from_ms(self) -> int:
        """The time from which on history is known."""
        first = self.base or next(iter(self.entries), None)
        return 0 if first is None or first.origin else first.time_ms

    def _moments(self, place: Coordinate) -> list[tuple[int, list[LogEntry]]]:
        """Return the entries by the times at which they count: that of their clocks, or, where that
        is earlier than what they build on, a moment each behind that. Else what a clock hides that
        was set back could not be seen again."""
        times = [max(self._from_ms, entry.time_ms) for entry in self.entries]
        by_time: dict[int, list[LogEntry]] = {}
        for time_ms, entry in zip(times, self.entries, strict=True):
            by_time.setdefault(time_ms, []).append(entry)
        if times == sorted(times):  # all build on what is earlier
            return [*by_time.items()]
        scroll = opened(place, self.base)
        moments: list[tuple[int, list[LogEntry]]] = []
        early: list[LogEntry] = []  # earlier than what they build on, in their order here
        for time_ms, entries in sorted(by_time.items()):
            found = [apply_some(scroll, entries)]
            while found[-1] and early:
                for entry in tuple(early):
                    if scroll.apply(entry.update).covered:
                        early.remove(entry)
                        found.append([entry])
                found.append(apply_some(scroll, entries))
            for some in filter(None, found):
                last_ms = moments[-1][0] if moments else -1
                moments.append((max(last_ms + 1, time_ms), some))
            early += entries
        return moments

    def deletion(self, place: Coordinate) -> tuple[LogEntry, str] | None:
        """Return the last entry that left no text where there was some, and that text."""
        scroll, found = opened(place, self.base), -1
        size = scroll.size
        for i, entry in enumerate(self.entries):
            scroll.apply(entry.update)
            if size and not scroll.size:
                found = i
            size = scroll.size
        if found < 0:
            return None
        before = opened(place, self.base)
        for entry in self.entries[:found]:
            before.apply(entry.update)
        return self.entries[found], before.text

    def leads_to(self, now: Scroll) -> bool:
        """Whether nothing of a scroll as it is now is missing."""
        entries = self.entries if self.base is None else (self.base, *self.entries)
        last = Scroll(now.coordinate, CLIENT, [entry.update for entry in entries])
        return covers(last.version(), now.version())

    def blame(self, scroll: Scroll, writer_of: Callable[[int], Writer | None]) -> list[BlamedLine]:
        """Return who wrote which line of `scroll`, as it is now."""
        spans: dict[int, list[tuple[int, LogEntry | None]]] = {}
        clocks = _clocks(self.base)
        for client in clocks:
            spans[client] = [(0, None)]
        for entry in self.entries:
            for client, start in _brought(clocks, entry).items():
                spans.setdefault(client, []).append((start, entry))
        return [
            _blamed(text, [_newest(spans, clocks, *run) for run in runs], writer_of)
            for text, runs in scroll.lines()
        ]

    def text_at(self, place: Coordinate, time_ms: int) -> str | None:
        """Return the text of what was written up to a time, None when that is not known.

        What is earlier by its clock than the text that it builds on counts as later.
        """
        first = self.base or next(iter(self.entries), None)
        if first is not None and not first.origin and time_ms < first.time_ms:
            return None
        scroll = opened(place, self.base)
        for when_ms, entries in self._moments(place):
            for entry in entries if when_ms <= time_ms else ():
                scroll.apply(entry.update)
        return scroll.text


def newest_first(rows: Iterable[DeletedScroll]) -> list[DeletedScroll]:
    """Return what was deleted, in the order in which people look for it."""
    return sorted(rows, key=lambda row: (-row.time_ms, row.coordinate))


def to_restore(phext: str, coordinate: Coordinate, text: str) -> str:
    """Return a text of the past that is to come back. PhextsyncError when it is empty."""
    if not text:
        raise PhextsyncError(
            f"{phext} {coordinate}: expected a time at which it had a text, found none then"
        )
    return text


def has_text(phext: str, coordinate: Coordinate) -> PhextsyncError:
    return PhextsyncError(
        f"{phext} {coordinate}: expected no text to bring one back, found some: force replaces it"
    )


def _moved_lines(before: str, after: str) -> tuple[int, int]:
    """Return how many lines came, and how many went."""
    old, new = Counter(before.splitlines()), Counter(after.splitlines())
    return (new - old).total(), (old - new).total()


def _clocks(base: LogEntry | None) -> dict[int, int]:
    return {} if base is None else client_clocks(base.update)


def _brought(clocks: dict[int, int], entry: LogEntry) -> dict[int, int]:
    """Count an update in `clocks`; return the clients of which it brought characters, and the
    clocks of the first ones."""
    found = {}
    for client, clock in sorted(client_clocks(entry.update).items()):
        known = clocks.get(client, 0)
        if clock > known:
            found[client] = known
            clocks[client] = clock
    return found


def _newest(
    spans: dict[int, list[tuple[int, LogEntry | None]]],
    clocks: dict[int, int],
    client: int,
    start: int,
    length: int,
) -> tuple[int, LogEntry | None]:
    """Return a run's client and the newest entry that brought a part of it."""
    of_client = spans.get(client, [])
    first = max(0, bisect_right(of_client, start, key=lambda span: span[0]) - 1)
    stop = min(start + length, clocks.get(client, 0))
    entries = [entry for lower, entry in of_client[first:] if lower < stop]
    return client, max(entries, key=_age, default=None)


def _age(entry: LogEntry | None) -> int:
    return -1 if entry is None else entry.time_ms


def _blamed(
    text: str,
    found: list[tuple[int, LogEntry | None]],
    writer_of: Callable[[int], Writer | None],
) -> BlamedLine:
    client, entry = max(found, key=lambda pair: _age(pair[1]))
    node, label = writer_of(client) or Writer(entry.origin if entry else b"", "")
    if entry is None:
        return BlamedLine(text, node or None, None, seen_here=False, label=label or "")
    return BlamedLine(text, node or None, entry.time_ms, not entry.origin, label or "")


def _change(entry: LogEntry, writers: set[Writer], before: str, after: str) -> LoggedChange:
    edits = minimal_edits(before, after) if before != after else []
    start = edits[0][0] if edits else 0
    if edits and edits[0][2].startswith("\n") and start and before[start - 1] != "\n":
        start += 1  # the line before it stays as it was
    line_start = after.rfind("\n", 0, start) + 1
    line, _, _ = after[line_start:].partition("\n")
    return LoggedChange(
        entry.time_ms,
        not entry.origin,
        tuple(sorted({writer.node for writer in writers} - {b""})),
        sum(len(text) for _, _, text in edits),
        sum(stop - begin for begin, stop, _ in edits),
        1 + after.count("\n", 0, line_start),
        line.removesuffix("\r")[:_LINE_CHARACTERS],
        tuple(sorted({writer.label for writer in writers if writer.label})),
    )
