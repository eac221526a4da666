"""Sides: what others had of a scroll when their changes met those of this machine.

Nobody has written what a merge makes of two changes, so nothing is read off that. What a side had
is made once more of updates that are kept: all those in the version that it told, or, of who wrote
while we were linked, what all had before, what it wrote itself, and of what others wrote as much as
its own updates build on, or as it is known to have had.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from phextsync.crdt import Scroll, client_clocks
from phextsync.index import (
    EMPTY_VERSION,
    Coordinate,
    covers,
    strip_deletes,
    update_version,
)
from phextsync.index import state_vector as clocks_of
from phextsync.replica.extents import Extent, Ranges, beyond, deleting, extent_of, has, joined
from phextsync.replica.replaying import apply_some, opened
from phextsync.store.contract import LogEntry


@dataclass(frozen=True, slots=True)
class Apart:
    """Who may not have known what: this node, `own`, changed a scroll after its version `before`,
    and looked at what others did last at its version `seen`. `had` are nodes and versions that
    they told since, `known` the versions that nodes are known to have had before they wrote."""

    own: bytes
    before: bytes
    seen: bytes
    had: Sequence[tuple[bytes, bytes]] = ()
    known: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OtherSide:
    """`text` is what others had after the changes that met those of this machine, and `base` what
    they had before; `writers` are the node ids of those who changed it. Not `is_known`: nothing
    says whether they knew what was changed here."""

    base: str
    text: str
    writers: tuple[bytes, ...]
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Sides:
    """All who changed a scroll, and whether what is kept tells of all of them."""

    others: tuple[OtherSide, ...]
    are_all: bool


def sides(
    place: Coordinate,
    oldest: LogEntry | None,
    entries: Iterable[LogEntry],
    apart: Apart,
    writer_of: Callable[[int], bytes | None],
) -> Sides:
    """Return what others had who changed a scroll since it was looked at. The entries are in the
    order in which they took effect here, after the state `oldest`."""
    if oldest is not None and not covers(apart.before, update_version(oldest.update)):
        return Sides((), are_all=False)
    return _Sides(place, oldest, entries, apart, writer_of).found()


@dataclass(frozen=True, slots=True)
class _Written:
    entry: LogEntry
    version: bytes
    writers: frozenset[bytes]


class _Sides:
    """The entries that all had (`_common`), those that were looked at, and those that came. What
    all had may be long: it is made once (`_start`), and all else of that."""

    def __init__(
        self,
        place: Coordinate,
        oldest: LogEntry | None,
        entries: Iterable[LogEntry],
        apart: Apart,
        writer_of: Callable[[int], bytes | None],
    ) -> None:
        self._place, self._oldest, self._apart = place, oldest, apart
        self._writer_of = writer_of
        self._common: list[_Written] = []
        self._later: list[_Written] = []
        self._arrived: list[_Written] = []
        for entry in entries:
            clients = () if entry.origin else client_clocks(entry.update)
            writers = frozenset({entry.origin, *(writer_of(c) or b"" for c in clients)} - {b""})
            written = _Written(entry, update_version(entry.update), writers)
            if covers(apart.before, written.version):
                self._common.append(written)
            elif covers(apart.seen, written.version) or writers == {apart.own}:
                self._later.append(written)
            else:
                self._arrived.append(written)
        start = opened(place, oldest)
        apply_some(start, [written.entry for written in self._common])
        self._start, self._started = LogEntry(start.state(), b"", 0), start.version()

    def found(self) -> Sides:
        if not covers(self._started, self._apart.before):
            return Sides((), are_all=False)
        others: list[OtherSide] = []
        told: list[bytes] = []
        for node, version in self._last_had():
            side = self._told(node, version)
            if side is not None:
                others.append(side)
                told.append(version)
        known = joined(map(extent_of, (self._apart.seen, *told)))
        left = [w for w in self._arrived if not has(known, extent_of(w.version))]
        for writer in dict.fromkeys(w.entry.origin for w in left if w.entry.origin):
            theirs = [written for written in left if written.entry.origin == writer]
            side = self._written(writer, theirs)
            others += [] if side is None else [side]
            left = left if side is None else [each for each in left if each not in theirs]
        return Sides(tuple(others), are_all=not left)

    def _is_passed_on(self, node: bytes, version: bytes) -> bool:
        """Whether a version says no more than what was looked at and what others wrote live, which
        came here from them too: it was told while these were on their way, and is no side."""
        passed = [
            extent_of(w.version)
            for w in self._arrived
            if w.entry.origin not in (b"", node) and covers(version, w.version)
        ]
        return bool(passed) and has(
            joined((extent_of(self._apart.seen), *passed)), extent_of(version)
        )

    def _last_had(self) -> list[tuple[bytes, bytes]]:
        """Return what was told and is a side: of versions that follow one another the last that
        knows no more of ours, and of what others brought together the parts."""
        seen = extent_of(self._apart.seen)
        new: dict[bytes, list[bytes]] = {}  # node ids by what they had
        for node, version in self._apart.had:
            if not covers(self._apart.seen, version) and not self._is_passed_on(node, version):
                new.setdefault(version, []).append(node)
        ours = {v: [w for w in self._known_at(v) if self._apart.own in w.writers] for v in new}
        parts = {v: [w for w in new if w != v and covers(v, w)] for v in new}
        gone: set[bytes] = set()
        for version, nodes in new.items():
            older = [  # not what only deletes: another may have deleted that, too
                v
                for v in parts[version]
                if {*nodes} & {*new[v]} or not has(seen, extent_of(v)._replace(deleted={}))
            ]
            if older and has(joined((seen, *map(extent_of, older))), extent_of(version)):
                gone.add(version)
            elif all(a in parts[b] or b in parts[a] for a, b in combinations(older, 2)):
                gone.update(v for v in older if ours[v] == ours[version])
        return [(nodes[0], version) for version, nodes in new.items() if version not in gone]

    def _known_at(self, version: bytes) -> list[_Written]:
        """Return what was here later than all that all had, and known to who had a version. What we
        only deleted others may have deleted too; what they know for sure says that they know what
        we wrote before."""
        known = {i for i, w in enumerate(self._later) if covers(version, w.version)}
        ours = [i for i, w in enumerate(self._later) if self._apart.own in w.writers]
        deleted = self._deleted_by_others(version)
        sure = (
            i
            for i in reversed(ours)
            if i in known and (_has_text(self._later[i]) or _is_apart(self._later[i], deleted))
        )
        last = next(sure, -1)
        unsure = {i for i in ours if i > last}
        return [w for i, w in enumerate(self._later) if i in known and i not in unsure]

    def _deleted_by_others(self, version: bytes) -> Ranges | None:
        """Return what others deleted up to a version, None when that is not known: what came by a
        comparison does not say what we had deleted already."""
        came = [w for w in self._arrived if covers(version, w.version)]
        known = joined((extent_of(self._apart.seen), *(extent_of(w.version) for w in came)))
        is_live = all(w.entry.origin for w in came)
        if is_live and has(known, Extent(extent_of(version).clocks, {})):
            return joined(extent_of(w.version) for w in came).deleted
        return None

    def _told(self, node: bytes, version: bytes) -> OtherSide | None:
        """Return what a node had that told its version, None when that is not known."""
        text = self._text_at(version)
        if text is None:
            return None
        known = self._known_at(version)
        seen = extent_of(self._apart.seen).clocks
        clients = [c for c, clock in extent_of(version).clocks.items() if clock > seen.get(c, 0)]
        writers = {self._writer_of(client) or b"" for client in clients} - {b"", self._apart.own}
        return OtherSide(self._made(known).text, text, tuple(sorted(writers or {node})))

    def _text_at(self, version: bytes) -> str | None:
        """Return the text of a version, None when it cannot be made: of all that is kept, without
        what the version has not. An update may have brought that together with what it has."""
        is_after = covers(version, self._started)
        scroll = opened(self._place, self._start if is_after else self._oldest)
        waiting = [
            LogEntry(strip_deletes(w.entry.update, w.version), b"", 0)
            for w in (*(() if is_after else self._common), *self._later, *self._arrived)
            if _has_text(w)
        ]
        apply_some(scroll, waiting)
        wanted, found = extent_of(version), extent_of(scroll.version())
        if not has(found, wanted._replace(deleted={})):
            return None
        deleted = beyond(wanted, found.clocks)
        if deleted:
            scroll.apply(deleting(deleted))
        return scroll.text if extent_of(scroll.version()).deleted == deleted else None

    def _written(self, writer: bytes, theirs: list[_Written]) -> OtherSide | None:
        """Return what a node had that wrote while we were linked."""
        had = self._apart.known.get(writer)
        known = [
            w
            for w in self._later
            if writer in w.writers or (had is not None and covers(had, w.version))
        ]
        known += self._needed(theirs, known)
        # Who has met others since may know from them what we wrote.
        is_known = had is not None or all(self._apart.own in w.writers for w in known)
        if any(self._apart.own not in w.writers for w in self._later if w not in known):
            return None  # what a third node wrote: nothing says whether this one knew it
        base, side = self._made(known), [*known, *theirs]
        after = self._made(side)
        if not all(covers(after.version(), w.version) for w in side):
            return None
        # Who merges puts blanks in order, knowing both, which cannot be seen of these changes.
        is_tidied = "".join(base.text.split()) == "".join(after.text.split())
        return OtherSide(base.text, base.text if is_tidied else after.text, (writer,), is_known)

    def _needed(self, theirs: list[_Written], known: list[_Written]) -> list[_Written]:
        """Return what was here before and `theirs` builds on: of each writer the first entries up
        to the last that is needed, those of this node first."""
        rest = [w for w in self._later if w not in known]
        ours = [w for w in rest if self._apart.own in w.writers]
        for some in ([], ours, [w for w in rest if w not in ours], rest):
            scroll = opened(self._place, self._start)
            waiting = [each.entry for each in (*known, *theirs)]
            for i in range(len(some) + 1):
                waiting += [each.entry for each in some[max(0, i - 1) : i]]
                apply_some(scroll, waiting)
                version = scroll.version()
                if all(covers(version, w.version) for w in theirs):
                    return some[:i]
        return []

    def _made(self, written: Iterable[_Written]) -> Scroll:
        """Return what all had before, with what was written then."""
        scroll = opened(self._place, self._start)
        apply_some(scroll, [each.entry for each in written])
        return scroll


def _has_text(written: _Written) -> bool:
    return clocks_of(written.version) != clocks_of(EMPTY_VERSION)


def _is_apart(written: _Written, deleted: Ranges | None) -> bool:
    """Whether it is known that nothing of what was deleted there is in `deleted`."""
    return deleted is not None and not any(
        start < last and first < stop
        for client, ranges in extent_of(written.version).deleted.items()
        for start, stop in ranges
        for first, last in deleted.get(client, ())
    )
