"""Restored: a data folder that was put back as it was earlier, beside a directory as it is now.

The records of such a folder are older than the files: what came to these since would look as if
their user had written it. Every run of a node has a random number, and counts how often the records
were changed; the data folder knows its runs, and the directory's marker says which changed it last.
The data folder has it first: if it does not know what the marker says, it is an older one. A marker
that cannot be written is behind, which says nothing.

Then nothing is taken in before others were met who have what came since. After that the directory
is taken up as one that is bound for the first time: what is absent was not deleted, the same text
is one, and where texts differ the file's lines are put into its scroll, without those that the
older record has: these are not new. Nor is anything of a file that another machine has had as it
lies there (see `held`). All that is kept until the directory is taken up, so that a start which
ends before that is gone on with by the next.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

import cbor2

from phextsync.edits import content_of, likeness, lines_of
from phextsync.errors import DirectoryError
from phextsync.files.directory import Directory
from phextsync.files.held import Held
from phextsync.files.naming import Naming
from phextsync.files.reading import LIKE, File, is_unlike
from phextsync.files.records import Older, Record, Records, digest_of
from phextsync.files.todo import Runner
from phextsync.index import Coordinate
from phextsync.replica.replicas import ReplicaSet

RENEW_S: Final = 10.0
"""How long changes of records may go uncounted: a copy of a data folder that is so much older than
the end of the node is not told from a newer one."""
ALONE_S: Final = 30.0
"""How long others are looked for where none are known."""
OTHERS_S: Final = 60.0
"""How long others are waited for when one was met."""

_RUN: Final = b"e"
_RUNS_MAX: Final = 256
_PAIRS_MAX: Final = 10_000  # of files and texts that are compared
_WAITS: Final = (
    "its data folder was put back as it was earlier: nothing is taken in or written before this "
    "node is in step with those that have what came since, or `phextsync bind --confirm` says to "
    "go on without them"
)


class Patience:
    """Whether those were met who have what came since. Times are monotonic seconds."""

    def __init__(self, has_met: Callable[[], bool], is_whole: Callable[[], bool]) -> None:
        """`has_met` says whether another that holds all is in step with this node, `is_whole`
        whether all are that are known."""
        self._has_met = has_met
        self._is_whole = is_whole
        self._began = self._met = inf

    def is_over(self, now: float) -> bool:
        """Whether nobody is waited for any more."""
        self._began = min(self._began, now)
        if self._has_met():
            self._met = min(self._met, now)
            return self._is_whole() or now - self._met >= OTHERS_S
        return self._is_whole() and now - self._began >= ALONE_S


class Runs:
    """The runs in which a data folder changed the records of a binding, and how often."""

    def __init__(self, replicas: ReplicaSet, binding_id: bytes, number: Callable[[], str]) -> None:
        """`number` gives one of 16 hexadecimal digits that nobody has had."""
        self._durability = replicas.durability
        self._key = b"b" + binding_id + _RUN
        self._number = number
        noted = self._durability.noted(self._key)
        self._counts: dict[str, int] = dict(cbor2.loads(noted)) if noted else {}

    def __str__(self) -> str:
        """What a marker is to say."""
        number = [*self._counts][-1]
        return f"{number} {self._counts[number]}"

    def knows(self, told: str) -> bool:
        """Whether what a marker says was said by this data folder, or nothing is."""
        number, _, count = told.partition(" ")
        return not told or self._counts.get(number, -1) >= int(count)

    def begin(self, told: str) -> None:
        """Begin a run. What the marker says is known for as long as it says so."""
        number = told.partition(" ")[0]
        if number in self._counts:
            self._counts[number] = self._counts.pop(number)
        self._counts[self._number()] = 0
        self._counts = dict([*self._counts.items()][-_RUNS_MAX:])
        self._keep()

    def count(self) -> None:
        """Count changes."""
        self._counts[[*self._counts][-1]] += 1
        self._keep()

    def _keep(self) -> None:
        self._durability.note(self._key, cbor2.dumps([*self._counts.items()]))


class Restored:
    """Takes care of one binding, from its start on."""

    def __init__(
        self,
        records: Records,
        directory: Directory,
        runs: Runs,
        patience: Patience,
        held: Held,
        *,
        run: Runner,
        durable: Callable[[], Awaitable[None]],
    ) -> None:
        self._records = records
        self._directory = directory
        self._runs = runs
        self._patience = patience
        self._held = held
        self._run = run
        self._durable = durable
        self._older: dict[Coordinate, Older] = {}
        self._is_earlier = False
        self._is_told = False
        self._counted = 0  # changes of the records
        self._counted_at = -inf

    async def begin(self, now: float, confirmed_ns: int) -> None:
        """Begin a run in a directory that was checked. DirectoryError while others are to be met
        first, unless somebody confirmed, at a time in ns since the epoch, that they are not."""
        root, records = self._directory.root, self._records
        if not self._runs.knows(root.run):
            is_confirmed = confirmed_ns > records.confirmed_ns
            if not is_confirmed and not self._patience.is_over(now):
                raise DirectoryError(_WAITS)
            records.set_aside(is_held=await self._held.load(is_met=False))
            records.keep_confirmed(confirmed_ns)
        older = records.older  # that of a start too which ended before all was taken up
        self._is_earlier, self._older = older is not None, older or {}
        if records.is_held:
            await self._held.load(is_met=True)
        self._runs.begin(root.run)
        self._held.begin(now)
        await self._tell(now)

    async def find_moved(self, naming: Naming) -> None:
        """Remember files that lie where they were and have another name by now: each is to move,
        and comes no second time."""
        for coordinate, older in self._older.items():
            old, new = older.path, naming.layout.path_of(coordinate)
            if new is None or new == old or self._records.get(coordinate) is not None:
                continue
            found = await self._run(self._directory.read, [old, new])
            file, there = found[old], found[new]
            if not isinstance(file, File) or is_unlike(older.text, file.text):
                continue
            scroll, others = naming.text_of(new), naming.text_of(old)
            is_others = bool(others) and not is_unlike(others, file.text)
            if is_others or (isinstance(there, File) and not is_unlike(scroll, there.text)):
                continue
            self._remember(coordinate, old, file, scroll)
        if self._is_earlier:
            await self._find_strangers(naming)

    async def _find_strangers(self, naming: Naming) -> None:
        """Remember files that lie at no scroll's path, and are like one whose file is not there: it
        has another name elsewhere, or here since the earlier data folder."""
        marks = (await self._run(self._directory.scan)).marks
        places = [line.coordinate for line in naming.map.lines()]
        paths = {place: naming.layout.path_of(place) for place in places}
        absent = {c: p for c, p in paths.items() if p is not None and p not in marks}
        known = (naming.layout.at, self._records.at)
        strangers = [p for p in marks if all(find(p) is None for find in known)]
        found = await self._run(self._directory.read, strangers if absent else [])
        files = {path: file for path, file in found.items() if isinstance(file, File)}
        is_much = len(files) * len(absent) > _PAIRS_MAX
        for coordinate, new in absent.items():
            if self._records.get(coordinate) is not None:
                continue
            scroll = naming.text_of(new)
            same = {path: float(file.text == scroll) for path, file in files.items()}
            if not is_much:
                same = {path: likeness(scroll, file.text) for path, file in files.items()}
            path = max(same, key=lambda each: same[each], default="")
            if not path or same[path] < LIKE:
                continue
            is_renamed_here = self._lay_at(coordinate, new) is not None
            self._remember(coordinate, new if is_renamed_here else path, files.pop(path), scroll)

    def _remember(self, coordinate: Coordinate, path: str, file: File, scroll: str) -> None:
        """Keep, as what a file was, what of it is not new."""
        older = self._older.get(coordinate)
        known = file.text if self._held.covers(path, file) else "" if older is None else older.text
        text = without_new_lines(file.text, scroll, known)
        if text:
            record = Record(path, digest_of(text), None, file.marks, file.marks, file.born_ns)
            self._records.keep(coordinate, record, text)

    def text(self, coordinate: Coordinate, path: str, file: File) -> str:
        """Return what is not new of a file: what it holds, where others have had that, what it held
        by an earlier data folder otherwise, nothing where none is."""
        if self._held.covers(path, file):
            return file.text
        older = self._lay_at(coordinate, path)
        return "" if older is None else older.text

    def _lay_at(self, coordinate: Coordinate, path: str) -> Older | None:
        older = self._older.get(coordinate)
        return older if older is not None and older.path == path else None

    def end_start(self) -> None:
        """Note that the directory was taken up."""
        if self._is_earlier:
            self._is_earlier, self._older = False, {}
            self._held.forget()
            self._records.drop_older()

    async def count(self, now: float) -> None:
        """Count what was changed, and tell it, if it is time."""
        if not self._is_counted and self._counted_at + RENEW_S <= now:
            if self._records.changes != self._counted:
                self._runs.count()
            await self._tell(now)
        if not self._is_earlier:
            await self._held.note(now)

    @property
    def next_due(self) -> float | None:
        """When changes are to be counted, told or noted, None when there are none."""
        dues = [None if self._is_counted else self._counted_at + RENEW_S, self._held.next_due]
        return min((due for due in dues if due is not None), default=None)

    @property
    def _is_counted(self) -> bool:
        return self._is_told and self._records.changes == self._counted

    async def _tell(self, now: float) -> None:
        """Let the data folder know the run, and then the directory."""
        self._counted, self._counted_at = self._records.changes, now
        await self._durable()
        try:
            await self._run(self._directory.root.tell_run, str(self._runs))
            self._is_told = True
        except OSError:
            self._is_told = False  # as where nothing can be written


def without_new_lines(text: str, *known: str) -> str:
    """Return the lines of a text that one of those that are known has too, as often as it does."""
    left: Counter[str] = Counter()
    for each in known:
        left |= Counter(map(content_of, lines_of(each)))
    kept = []
    for line in lines_of(text):
        if left[content_of(line)] > 0:
            left[content_of(line)] -= 1
            kept.append(line)
    return "".join(kept)
