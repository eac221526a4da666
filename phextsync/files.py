"""Files: a directory of text files and a range of scrolls that are the same.

`Binding` decides, file by file, from what the file holds, what the scroll holds, and what both
held when they last agreed. Nothing here touches a disk or waits: a `Directory` does.

* A file is there as long as its scroll has text; an empty file is as absent as an empty scroll.
* What a file gained since both agreed is done to the scroll, whatever came there meanwhile; then
  the scroll is written to the file. Nothing is written over bytes that were not merged.
* A file that was *replaced* (git, editors that save by renaming) is imported, so that the same
  replacement on two machines is one; one that was written in place is edited.
* Files that meet a scroll for the first time keep every line of both, and are backed up.
* Deleting and emptying wait a moment: editors do both before they write.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from phextsync.changes import writing_as
from phextsync.crdt import check_text
from phextsync.edits import apply_edits, common_ends, merged_text, missing_lines
from phextsync.errors import DirectoryError, PhextsyncError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, root_clients
from phextsync.names import NameMap, check_name, prefix_of
from phextsync.replica import Replica

GRACE_S: Final = 0.5
"""How long a file has to be gone or empty before its scroll is cleared."""
ORPHAN_S: Final = 30.0
"""How long a scroll has to be without a name before it gets one: its line may be on its way."""

_IMPORT_BIT: Final = 1 << 52


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells that a file was changed: equal marks, equal bytes. `inode` tells of replacing."""

    inode: int
    size: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was read. `problem` says why its bytes are no text to keep."""

    mark: Mark
    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A file and its scroll when they last agreed: their text, the file's mark, the scroll's place
    and who had written into it when it was empty."""

    text: str
    mark: Mark | None
    place: Coordinate
    roots: tuple[int, ...] = ()


class Directory(Protocol):
    """A directory of files by their names, `/` between their parts, and a memory of records.

    DirectoryError when there cannot be a file of that name.
    """

    async def read(self, name: str) -> File | None:
        """Return a file, None when there is none."""

    async def write(self, name: str, text: str, expected: Mark | None) -> Mark | None:
        """Replace a file that is still as `expected`, None for absent, and return its mark;
        otherwise write nothing and return None."""

    async def remove(self, name: str, expected: Mark) -> bool:
        """Remove a file that is still as `expected`; say whether it was."""

    async def back_up(self, name: str, text: str) -> None:
        """Keep a text aside."""

    async def remember(self, name: str, record: Record | None) -> None:
        """Keep a record for the next start; None forgets it."""


class Binding:
    """Keeps a directory and a range of a replica the same. `sync` is told of what may differ."""

    def __init__(
        self,
        replica: Replica,
        range_: CoordinateRange,
        directory: Directory,
        records: Mapping[str, Record],
    ) -> None:
        """`records` are those that the directory remembers. CoordinateError when the range is no
        prefix with four free parts."""
        self.range = range_
        self.reports: list[str] = []
        self._prefix = prefix_of(range_)
        self._map_place = NameMap(self._prefix, "").map_place
        self._replica = replica
        self._directory = directory
        self._records = dict(records)
        self._missing: dict[str, float] = {}  # since when files are gone that should be there
        self._orphans: dict[Coordinate, float] = {}
        self._problems: dict[str, str] = {}
        self._named: tuple[str, NameMap] | None = None

    # -- what the directory's owner asks ---------------------------------------------------

    def names(self) -> list[str]:
        """Return every name that has text here or is remembered, sorted."""
        named = self._map()
        held = (named.name_at(c) for c in self._replica.coordinates(self.range))
        return sorted({*self._records, *(name for name in held if name is not None)})

    def changed_names(self, marks: Mapping[str, Mark]) -> list[str]:
        """Return the names of files that are not as they are remembered, sorted."""
        new = (n for n, mark in marks.items() if self._is_changed(n, mark))
        gone = (n for n, record in self._records.items() if record.text and n not in marks)
        return sorted({*new, *gone})

    def _is_changed(self, name: str, mark: Mark) -> bool:
        record = self._records.get(name)
        return record is None or record.mark != mark

    def names_at(self, coordinates: Iterable[Coordinate]) -> list[str]:
        """Return the names that a change of scrolls concerns, sorted."""
        named = self._map()
        places = set(coordinates)
        if self._map_place in places:
            return self.names()
        found = {named.name_at(place) for place in places}
        return sorted(name for name in found if name is not None)

    def take_late(self, name: str, base: str, text: str) -> None:
        """Do to the scroll what somebody did to a file that was replaced under his hands, which
        made `text` of `base`."""
        record = self._records.get(name)
        if record is not None:
            with self._writing(name):
                self._replica.edit_from(record.place, base, text)

    @property
    def is_waiting(self) -> bool:
        """Whether something has to be looked at again when time has passed."""
        return bool(self._missing or self._orphans)

    async def sync(self, names: Iterable[str], now: float) -> None:
        """Make these files and their scrolls the same. `now` is monotonic, in seconds."""
        self._merge_aliases()
        todo = sorted({*names, *self._missing})
        files: dict[str, File | None] = {}
        for name in todo:
            files[name] = await self._read(name)
        for name in await self._follow_renames(files):
            files[name] = await self._read(name)
        for name, file in files.items():
            if name not in self._problems:
                try:
                    await self._sync(name, file, now)
                except DirectoryError as error:
                    self._report(name, str(error))
        await self._name_orphans(now)

    # -- one file --------------------------------------------------------------------------

    async def _read(self, name: str) -> File | None:
        """Read a file; one that cannot be kept is reported once and left alone."""
        file = await self._directory.read(name)
        problem = "" if file is None else file.problem
        try:
            check_name(name)
            check_text("" if file is None else file.text)
        except PhextsyncError as error:
            problem = str(error)
        if problem:
            self._report(name, problem)
        else:
            self._problems.pop(name, None)
        return file

    def _report(self, name: str, problem: str) -> None:
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            self.reports.append(f"{name}: {problem}; left alone")

    async def _sync(self, name: str, file: File | None, now: float) -> None:
        record = self._records.get(name)
        text = "" if file is None else file.text
        if record is None:
            await self._meet(name, file)
            return
        if not text and record.text and self._is_too_soon(name, now):
            return
        self._missing.pop(name, None)
        place = self._map().places.get(name)
        if place != record.place:
            await self._move(name, file, record)
            return
        self._join_twins(record)
        if text != record.text:
            self._take(name, record, text, is_replaced=_is_replaced(record, file))
        await self._give(name, file, place)

    def _is_too_soon(self, name: str, now: float) -> bool:
        since = self._missing.setdefault(name, now)
        scroll = self._replica.get(self._records[name].place, "")
        return bool(scroll) and now - since < GRACE_S

    async def _meet(self, name: str, file: File | None) -> None:
        """A file and a scroll that never agreed: keep every line of both."""
        text = "" if file is None else file.text
        place = self._map().places.get(name)
        scroll = "" if place is None else self._replica.get(place, "")
        if not text and not scroll:
            return
        if text and scroll and text != scroll:
            await self._directory.back_up(name, text)
            self.reports.append(f"{name}: merged with other text at {place}; the file is backed up")
        named = self._map()  # again: the disk took its time
        place = named.places.get(name)
        if place is None:
            place = named.add(name)
            self._write_map(named)
        scroll = self._replica.get(place, "")
        with self._writing(name):
            whole = apply_edits(scroll, missing_lines(scroll, text)) if scroll else text
            self._replica.import_text(place, whole)
        await self._give(name, file, place)

    def _take(self, name: str, record: Record, text: str, *, is_replaced: bool) -> None:
        """Do to the scroll what was done to the file."""
        with self._writing(name):
            if is_replaced:
                scroll = self._replica.get(record.place, "")
                whole = merged_text(record.text, scroll, text)
                self._replica.import_text(record.place, whole)
            else:
                self._replica.edit_from(record.place, record.text, text)

    async def _give(self, name: str, file: File | None, place: Coordinate) -> None:
        """Make the file what its scroll is, unless it has changed again."""
        text, roots = self._replica.get(place, ""), self._roots(place)
        mark = None if file is None else file.mark
        held = "" if file is None else file.text
        if text != held:
            # Before the file has it: after a crash between, it is no change of the file's.
            await self._keep(name, Record(text, mark, place, roots))
            if text:
                mark = await self._directory.write(name, text, mark)
            elif mark is not None and not await self._directory.remove(name, mark):
                mark = None
            if text and mark is None:
                # It has changed: there is an event.
                await self._keep(name, Record(held, None, place, roots))
                return
        await self._keep(name, Record(text, mark, place, roots))

    async def _keep(self, name: str, record: Record) -> None:
        if self._records.get(name) != record:
            self._records[name] = record
            await self._directory.remember(name, record)

    async def _forget(self, name: str) -> None:
        del self._records[name]
        await self._directory.remember(name, None)

    async def _move(self, name: str, file: File | None, record: Record) -> None:
        """Another machine has given this file's scroll another name, or the name another scroll."""
        if file is not None and file.text != record.text:
            self._take(name, record, file.text, is_replaced=_is_replaced(record, file))
        await self._forget(name)
        named = self._map()
        place = named.places.get(name)
        if named.name_at(record.place) in (None, name):
            await self._meet(name, file)
        elif place is not None:
            await self._give(name, file, place)  # what the file has is where its scroll is now
        elif file is not None and not await self._directory.remove(name, file.mark):
            self.reports.append(f"{name}: changed while it was renamed elsewhere; kept")

    # -- names -----------------------------------------------------------------------------

    def _map(self) -> NameMap:
        text = self._replica.get(self._map_place, "")
        if self._named is None or self._named[0] != text:
            self._named = text, NameMap(self._prefix, text)
        return self._named[1]

    def _write_map(self, named: NameMap) -> None:
        self._named = None  # it was changed before its text is
        with writing_as("files"):
            self._replica.edit(self._map_place, named.text())

    async def _follow_renames(self, files: dict[str, File | None]) -> list[str]:
        """Find files that are gone under one name and there under another, and rename them in the
        map. Return the names that other machines will have to do without."""
        named = self._map()
        gone = [
            name
            for name, file in files.items()
            if file is None and name in self._records and self._records[name].text
        ]
        renamed: dict[str, str] = {}
        for name, file in files.items():
            if file is None or not file.text or name in self._records:
                continue
            old = next((g for g in gone if _is_same_file(self._records[g], file)), None)
            # The scroll has its old name, or already the new one: it was renamed elsewhere too.
            place = named.places.get(name) or named.places.get(old or "")
            if old is not None and place == self._records[old].place:
                gone.remove(old)
                self._missing.pop(old, None)
                renamed[old] = name
        ours = [old for old in renamed if old in named.places]
        for old in ours:
            named.rename(old, renamed[old])
        if ours:
            self._write_map(named)
        for old, name in renamed.items():
            record = self._records[old]
            await self._forget(old)
            self._records[name] = record
            await self._directory.remember(name, record)
        return list(renamed)

    def _merge_aliases(self) -> None:
        """Move text that came to a second place of a name to its first, and tidy the map."""
        named = self._map()
        for alias, name in named.aliases.items():
            text = self._replica.get(alias, "")
            if text:
                place = named.places[name]
                scroll = self._replica.get(place, "")
                with self._writing(name):
                    self._replica.import_text(
                        place, apply_edits(scroll, missing_lines(scroll, text))
                    )
                    self._replica.import_text(alias, "")
        text = self._replica.get(self._map_place, "")
        if text and len(text.splitlines()) > len(named.text().splitlines()):
            with writing_as("files"):
                self._replica.import_text(self._map_place, named.text())

    async def _name_orphans(self, now: float) -> None:
        """Name a scroll that has text and no line, so that its text is in every directory."""
        named = self._map()
        orphans = [
            place
            for place in self._replica.coordinates(self.range)
            if place != self._map_place and named.name_at(place) is None
        ]
        self._orphans = {place: self._orphans.get(place, now) for place in orphans}
        due = [place for place, since in self._orphans.items() if now - since >= ORPHAN_S]
        for place in due:
            name = f"recovered/{str(place).replace('/', '-')}.md"
            del self._orphans[place]
            named.adopt(place, name)
            self.reports.append(f"{place}: has text and no name; it is {name} now")
        if due:
            self._write_map(named)
            for place in due:
                await self._meet(f"recovered/{str(place).replace('/', '-')}.md", None)

    # -- scrolls that were begun twice -----------------------------------------------------

    def _roots(self, place: Coordinate) -> tuple[int, ...]:
        """Return the imports that were made into the empty scroll."""
        state = self._replica.difference(place, EMPTY_VERSION)
        if state is None:
            return ()
        return tuple(client for client in root_clients(state) if client & _IMPORT_BIT)

    def _join_twins(self, record: Record) -> None:
        """Two machines began one scroll apart, from files that differ: each line that both had
        stands twice. Delete the later one of each pair, which every machine does alike."""
        new = set(self._roots(record.place)) - set(record.roots)
        scroll = self._replica.get(record.place, "")
        if not new or not record.roots or scroll == record.text:
            return
        doubled = doubled_lines(record.text, scroll)
        with self._writing(self._map().name_at(record.place) or ""), self._replica.batch():
            for start, stop in reversed(doubled):
                self._replica.delete(record.place, start, stop)

    def _writing(self, name: str) -> AbstractContextManager[None]:
        return writing_as(f"file:{name}")


def doubled_lines(text: str, whole: str) -> list[tuple[int, int]]:
    """Return which lines of `whole`, as ascending ranges of characters, stand twice since a piece
    was put into `text`: the later one of each pair. Empty when it is not one piece."""
    start, stop = common_ends(text, whole)
    if start + stop < len(text):
        return []
    start = whole.rfind("\n", 0, start) + 1
    end = len(whole) - stop
    lines = [*_line_ranges(whole)]
    before = [line for line in lines if line[0] < start]
    piece = [line for line in lines if start <= line[0] < end]
    behind = [line for line in lines if line[0] >= end]
    return sorted({*_repeated(whole, before, piece), *_repeated(whole, piece, behind)})


def _repeated(
    text: str, first: list[tuple[int, int]], later: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Give the lines of `later` that stand in `first` too, each as often as there."""
    left = Counter(text[start:stop] for start, stop in first)
    for start, stop in later:
        if left[text[start:stop]] > 0:
            left[text[start:stop]] -= 1
            yield start, stop


def _line_ranges(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    for line in text.splitlines(keepends=True):
        yield at, at + len(line)
        at += len(line)


def _is_replaced(record: Record, file: File | None) -> bool:
    """Whether a file is another one than the one that was written or read last."""
    return file is not None and record.mark is not None and file.mark.inode != record.mark.inode


def _is_same_file(record: Record, file: File) -> bool:
    """Whether a file that appeared is one that is gone: the same inode, or else the same text."""
    if record.mark is not None and record.mark.inode == file.mark.inode:
        return True
    return record.text == file.text
