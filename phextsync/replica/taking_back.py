"""Taking back: what undoes all that one writer did to a scroll, and nothing that others did.

What the writer inserted and still stands is deleted. What it deleted, and nobody else did, is
inserted once more, word by word, each before the first character that it was made of. Both follow
from ids and texts that are the same wherever they are known. So nodes that take back the same,
at once and with other changes in between, make updates that are one: a client id stands for what
one update of the writer deleted. Where they know more or less of that, `put_back` leaves one copy.

A character that was put back belongs to the node that put it back as well as to its first writer,
and is put back no second time.

Where a writer is in quarantine, what it put in is taken by this, again and again, as far as it
does not *stand*: was there before, or was accepted. What was accepted is put back under ids of
another kind, so that no node takes it again, whatever it knows. So the taken only ever grows less.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from phextsync.crdt import Scroll, client_clocks, is_import
from phextsync.errors import UpdateError
from phextsync.index import Coordinate
from phextsync.inserts import (
    Id,
    IdSet,
    Inserted,
    encode_inserts,
    ids_of,
    read_inserts,
    utf16_units,
)
from phextsync.replica.kept_ends import kept_ends
from phextsync.replica.put_back import (
    ACCEPTED,
    PUT_BACK,
    PutBack,
    is_accepted,
    is_again,
    is_put_back,
)
from phextsync.replica.replaying import CLIENT
from phextsync.store.contract import LogEntry
from phextsync.texts import first_line

_LINE_CHARACTERS: Final = 80

GUARD: Final = "quarantine"
"""The label under which nodes take what a writer in quarantine did."""


class Writer(NamedTuple):
    """Who writes: a node, and under which label there; None stands for all its labels."""

    node: bytes
    label: str | None = None

    def is_of(self, other: "Writer | None") -> bool:
        """Whether it is another one, or one of its labels."""
        return other is not None and (
            self == other or (other.label is None and self.node == other.node)
        )


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What taking back a writer does to a scroll: characters that go and that come back, and the
    first line of each; characters that the writer deleted, or may have, and that stay away since
    what is kept does not tell enough. `update` does it, and doing it again changes nothing."""

    coordinate: Coordinate
    removed: int
    restored: int
    unknown: int
    removed_line: str
    restored_line: str
    update: bytes


def take_back(
    now: Scroll,
    base: LogEntry | None,
    entries: Sequence[LogEntry],
    by: Writer,
    since_ms: int | None,
    writer_of: Callable[[int], Writer | None],
    stands: IdSet | None = None,
) -> TakenBack | None:
    """Return what takes back what a writer did (since a time by its clock) to a scroll as it is
    `now`, which `entries` made of `base`; None when that is nothing. Without what `stands` of a
    writer in quarantine, and what was accepted."""
    look = _Look(now.coordinate, base, entries, by, since_ms, writer_of, stands)
    if not look.is_his_work_here(client_clocks(now.state())):
        return None
    live = _live(now)
    put_back, deleted = look.put_back()
    removed = look.his(live)
    ends = kept_ends(now, removed, look.inserted)
    for client, start, stop in removed:
        for part in ends.without(client, start, stop):
            deleted.add(client, *part)
    unknown = look.unknown + look.untimed(live)
    if not deleted and not put_back:
        return TakenBack(now.coordinate, 0, 0, unknown, "", "", b"") if unknown else None
    update = encode_inserts(put_back, deleted)
    return _told(now, update, look.restored, unknown)


def waiting(
    now: Scroll,
    base: LogEntry | None,
    entries: Sequence[LogEntry],
    by: Writer,
    writer_of: Callable[[int], Writer | None],
) -> TakenBack | None:
    """Return what brings back what was taken of a writer in quarantine and was not accepted yet;
    None when that is nothing, as far as what is kept tells."""
    look = _Look(now.coordinate, base, entries, by, None, writer_of)
    put_back: dict[int, list[Inserted]] = {}
    count = 0
    for group in look.taken():
        chars = [*_Chars(look.inserted, [group]).of(group)]
        if chars:
            items = _items(now.coordinate, chars, ACCEPTED)
            put_back[items[0].client] = items
            count += len(chars)
    return _told(now, encode_inserts(put_back, IdSet()), count, 0) if count else None


def accepts(update: bytes) -> bool:
    """Whether an update puts back text of a writer in quarantine."""
    return any(map(is_accepted, client_clocks(update)))


def check_takes_back(update: bytes) -> None:
    """UpdateError for an update that inserts anything but what is put back."""
    if not all(map(is_again, client_clocks(update))):
        raise UpdateError("expected an update that takes back a writer, found one that writes")


class _Read(NamedTuple):
    entry: LogEntry
    inserted: list[Inserted]
    deleted: IdSet
    is_by: bool  # the writer
    is_his: bool  # since the time that counts
    is_guard: bool  # a node that took what was in quarantine


class _Char(NamedTuple):
    id: Id
    text: str
    left: Id | None


class _Look:
    """One look through what is kept of a scroll, for what one writer did."""

    def __init__(
        self,
        place: Coordinate,
        base: LogEntry | None,
        entries: Sequence[LogEntry],
        by: Writer,
        since_ms: int | None,
        writer_of: Callable[[int], Writer | None],
        stands: IdSet | None = None,
    ) -> None:
        self._place, self._by, self._since_ms = place, by, since_ms
        self._writer_of = writer_of
        self._stands = IdSet() if stands is None else stands
        self._is_again = is_put_back if stands is not None else is_again
        self._base_ms = 0 if base is None else base.time_ms
        self.unknown = self.restored = 0
        old, gone = ([], IdSet()) if base is None else read_inserts(base.update)
        self._gone = gone  # deleted by others, or by nobody knows whom
        self._read = [self._reading(entry) for entry in entries]
        inserted = [*old, *(each for read in self._read for each in read.inserted)]
        self._origins = PutBack(inserted, self._is_again)
        self.inserted = inserted
        self._spans: dict[int, list[tuple[int, _Read | None]]] = {}
        clocks = {}
        for client, _, stop in ids_of(old):
            clocks[client] = stop
            self._spans[client] = [(0, None)]
        for read in self._read:
            for client, start, stop in ids_of(read.inserted):
                if stop > clocks.get(client, 0):
                    span = max(start, clocks.get(client, 0)), read
                    self._spans.setdefault(client, []).append(span)
                    clocks[client] = stop

    def _reading(self, entry: LogEntry) -> _Read:
        inserted, deleted = read_inserts(entry.update)
        writers = set(map(self._writer_of, {each.client for each in inserted}))
        labels = {writer.label for writer in writers if writer is not None} or {""}
        is_by = entry.origin == self._by.node and self._by.label in (None, *labels)
        is_his = is_by and self._is_since(entry)
        return _Read(entry, inserted, deleted, is_by, is_his, GUARD in labels)

    def is_his_work_here(self, clients: Iterable[int]) -> bool:
        """Whether the writer may have done anything here."""
        if any(read.entry.origin == self._by.node for read in self._read):
            return True
        return any(self._is_by(self._writer_of(client)) for client in clients)

    # -- what goes -------------------------------------------------------------------------

    def his(self, ids: IdSet) -> IdSet:
        """Return those of some ids that the writer inserted."""
        found = IdSet()
        for client, start, stop in ids:
            for part in self._his_of(client, start, stop):
                found.add(client, *part)
        return found

    def untimed(self, ids: IdSet) -> int:
        """Return how many units of the ids are the writer's, and of unknown time."""
        if self._since_ms is None or self._since_ms >= self._base_ms:
            return 0
        return sum(
            upper - lower
            for client, start, stop in ids
            if self._is_by(self._writer_of(client))
            for lower, upper, read in self._parts(client, start, stop)
            if read is None
        )

    def _his_of(self, client: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Iterate over what the writer inserted, or put back, or others put back of that."""
        for lower, upper, read in self._parts(client, start, stop):
            if self._is_taken(client, read):
                yield from self._stands.without(client, lower, upper)
            elif self._is_again(client):
                for at, units, (first, clock) in self._origins.parts(client, lower, upper):
                    for begin, end in self._his_of(first, clock, clock + units):
                        yield at + begin - clock, at + end - clock

    def _parts(
        self, client: int, start: int, stop: int
    ) -> Iterator[tuple[int, int, "_Read | None"]]:
        """Iterate over a range of clocks by the entries that brought it."""
        spans = self._spans.get(client, [(0, None)])
        first = max(0, bisect_right(spans, start, key=lambda span: span[0]) - 1)
        for i in range(first, len(spans)):
            upper = spans[i + 1][0] if i + 1 < len(spans) else stop
            if spans[i][0] < stop and max(start, spans[i][0]) < min(stop, upper):
                yield max(start, spans[i][0]), min(stop, upper), spans[i][1]

    def _is_taken(self, client: int, read: _Read | None) -> bool:
        """Whether what an entry brought of a client is to be taken back."""
        if not self._is_since(None if read is None else read.entry):
            return False
        writer = None if is_import(client) else self._writer_of(client)
        if writer is not None:
            return self._is_by(writer)
        return read is not None and read.is_by

    def _is_by(self, writer: Writer | None) -> bool:
        return writer is not None and writer.is_of(self._by)

    def _is_since(self, entry: LogEntry | None) -> bool:
        return self._since_ms is None or (entry is not None and entry.time_ms >= self._since_ms)

    def taken(self) -> Iterator[IdSet]:
        """Iterate over what was taken of the writer while it was in quarantine, and was not
        accepted, in the parts in which it was written."""
        gone, seen = IdSet(), PutBack(self.inserted, is_accepted).back
        for read in self._read:
            if read.is_guard and read.entry.origin:  # else others may have deleted it
                for range_ in read.deleted:
                    gone.add(*range_)
        for read in self._read:
            group = IdSet()
            for client, start, stop in ids_of(read.inserted):
                if not is_import(client) and self._is_by(self._writer_of(client)):
                    for taken in gone.within(client, start, stop):
                        for part in seen.without(client, *taken):
                            group.add(client, *part)
            for range_ in group:
                seen.add(*range_)
            yield group

    # -- what comes back -------------------------------------------------------------------

    def put_back(self) -> tuple[dict[int, list[Inserted]], IdSet]:
        """Return what is to be inserted under new client ids, and what of that does not stand,
        since somebody else deleted it too."""
        events: list[tuple[IdSet, IdSet]] = []  # all that an entry of the writer deletes; wanted
        others, wanted = IdSet(), IdSet()
        for read in self._read:
            if not read.is_his and read.entry.origin:
                for range_ in read.deleted:
                    others.add(*range_)
        for read in self._read:
            if read.is_his:
                event, new = self._event(read, others, wanted)
                if new:
                    events.append((event, new))
            else:
                self._note_unknown(read, others)
                for range_ in read.deleted:
                    self._gone.add(*range_)
        chars = _Chars(self.inserted, [event for event, _ in events])
        put_back: dict[int, list[Inserted]] = {}
        unwanted = IdSet()
        for event, new in events:
            self._make(chars, event, new, put_back, unwanted)
        return put_back, unwanted

    def _event(self, read: _Read, others: IdSet, wanted: IdSet) -> tuple[IdSet, IdSet]:
        """Return what an entry of the writer deletes of what is not taken back, and what of that is
        to come back; that is added to `wanted`."""
        event, new, his = IdSet(), IdSet(), self.his(read.deleted)
        for client, start, stop in read.deleted:
            for part in his.without(client, start, stop):
                event.add(client, *part)
        for client, start, stop in event:
            parts = [(start, stop)]
            for away in (self._gone, others, wanted, self._origins.back):
                parts = [part for span in parts for part in away.without(client, *span)]
            for part in parts:
                new.add(client, *part)
        for range_ in new:
            wanted.add(*range_)
        return event, new

    def _note_unknown(self, read: _Read, others: IdSet) -> None:
        """Count what came without its origin, with text of the writer, and deletes: it may be the
        writer that deleted."""
        clients = {each.client for each in read.inserted}
        if read.entry.origin or not any(self._is_by(self._writer_of(c)) for c in clients):
            return
        for client, start, stop in read.deleted:
            if not self._is_by(self._writer_of(client)):
                for part in others.without(client, start, stop):
                    self.unknown += sum(b - a for a, b in self._gone.without(client, *part))

    def _make(
        self,
        chars: "_Chars",
        event: IdSet,
        new: IdSet,
        put_back: dict[int, list[Inserted]],
        unwanted: IdSet,
    ) -> None:
        """Put back what one entry deleted."""
        found = list(chars.of(event))
        known = {char.id for char in found if char.id in new}
        self.unknown += sum(stop - start for _, start, stop in new) - sum(
            utf16_units(char.text) for char in found if char.id in known
        )
        if not known:
            return
        items = _items(self._place, found)
        client = items[0].client
        put_back[client] = items
        clock = 0
        for char in found:
            units = utf16_units(char.text)
            if char.id not in known:
                unwanted.add(client, clock, clock + units)
            clock += units
        self.restored += len(known)


class _Chars:
    """The characters that are needed, with what is known of them."""

    def __init__(self, inserted: Iterable[Inserted], events: Iterable[IdSet]) -> None:
        needed = IdSet()
        for event in events:
            for range_ in event:
                needed.add(*range_)
        self._chars: dict[Id, _Char] = {}
        for each in inserted:
            if each.text:
                for start, stop in needed.within(each.client, each.clock, each.clock + each.units):
                    self._keep(each, start, stop)

    def _keep(self, run: Inserted, start: int, stop: int) -> None:
        clock, left = run.clock, run.left
        for char in run.text or "":
            if clock >= stop:
                return
            if clock >= start:
                id_ = run.client, clock
                self._chars[id_] = _Char(id_, char, left)
            clock += utf16_units(char)
            left = run.client, clock - 1

    def of(self, ids: IdSet) -> Iterator[_Char]:
        """Iterate over the characters at some ids that are known, by their ids."""
        for client, start, stop in ids:
            for clock in range(start, stop):
                char = self._chars.get((client, clock))
                if char is not None:
                    yield char


def _items(place: Coordinate, chars: Sequence[_Char], kind: int = PUT_BACK) -> list[Inserted]:
    """Return what puts characters back: each word is put where it was, before what it was made of,
    such that what others put between words stays there."""
    client = _client_id(place, chars) | kind
    items: list[Inserted] = []
    clock = 0
    last: _Char | None = None
    for char in chars:
        units = utf16_units(char.text)
        is_next = last is not None and _are_one(last, char)
        if last is not None and is_next and _kind(last.text) == _kind(char.text):
            item = items[-1]
            text = f"{item.text}{char.text}"
            items[-1] = item._replace(text=text, units=item.units + units)
        else:
            items.append(Inserted(client, clock, units, char.text, char.left, char.id))
        clock += units
        last = char
    return items


def _are_one(last: _Char, char: _Char) -> bool:
    """Whether a character was put in right behind another, under the next number of its client."""
    client, clock = last.id[0], last.id[1] + utf16_units(last.text)
    return char.left == (client, clock - 1) and char.id == (client, clock)


def _kind(char: str) -> int:
    return 0 if char.isspace() else 1 if char.isalnum() or char == "_" else 2


def _client_id(place: Coordinate, chars: Sequence[_Char]) -> int:
    hasher = blake2b(place.key, digest_size=5, person=b"phextsync again")
    for client, clock, text in ((*char.id, char.text) for char in chars):
        hasher.update(client.to_bytes(8, "big") + clock.to_bytes(8, "big") + text.encode())
    return int.from_bytes(hasher.digest(), "big")


def _live(scroll: Scroll) -> IdSet:
    """Return the ids of the characters that stand: those that emptying a copy deletes."""
    copy = Scroll(scroll.coordinate, CLIENT, [scroll.state()])
    update = copy.clear()
    return IdSet() if update is None else read_inserts(update)[1]


def _told(now: Scroll, update: bytes, restored: int, unknown: int) -> TakenBack | None:
    after = Scroll(now.coordinate, CLIENT, [now.state()])
    after.apply(update)
    old, new = (Counter(text.splitlines()) for text in (now.text, after.text))
    if now.text == after.text and not restored and not unknown:
        return None
    removed = len(now.text) + restored - len(after.text)
    gone, come = (first_line("\n".join(of), _LINE_CHARACTERS) for of in (old - new, new - old))
    return TakenBack(now.coordinate, removed, restored, unknown, gone, come, update)
