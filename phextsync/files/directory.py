"""Directory: the files of a bound directory, read and written so that nobody's text is lost.

A file is replaced by another that was written whole beside it, in one step in which both change
places: what was there at that moment is looked at afterwards, so nothing is written over unseen. A
program that goes on writing into the replaced file is heard for some seconds more.

Calls do what they can for each path and say of the others why not: one path's trouble is its own.
They end with DirectoryError when another directory came to lie where the one lay that was checked
last, as when a disk is mounted over it: what was seen there says nothing.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Final

from phextsync.errors import PhextsyncError
from phextsync.files.drafts import aside_of, draft_of, is_draft, put
from phextsync.files.filesystem import FileSystem, Status
from phextsync.files.late_writers import LateWriters
from phextsync.files.markers import MARKER_FILE, Marker
from phextsync.files.modes import mode_marked, mode_with
from phextsync.files.moves import Moves
from phextsync.files.names import check_name
from phextsync.files.presets import PLAIN, Preset
from phextsync.files.reading import (
    File,
    Found,
    Gone,
    Reader,
    Trouble,
    Ways,
    is_unlike,
    mark_of,
    marks_of,
    refused,
    why,
)
from phextsync.files.records import Intent, Mark, digest_of
from phextsync.files.root import Root
from phextsync.files.scanning import Scan, scan
from phextsync.files.writes import ELSEWHERE, Changed, Draft, Outcome, Placed, Unknown, Write

BACKUPS: Final = ".phextsync-backups"
WRITERS: Final = 16  # the disk takes what several write in one go


class Directory:
    """The files of one bound directory. Used by one caller at a time, in any thread."""

    def __init__(
        self,
        files: FileSystem,
        marker: Marker,
        *,
        preset: Preset = PLAIN,
        writers: int = WRITERS,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`marker` is what the directory's marker says; `preset` what is known of its files;
        `writers` write new files at a time;
        `clock_ns` is the clock by which the file system stamps files."""
        self.preset = preset
        self._files = files
        self._writers = writers
        self._reader = Reader(files, clock_ns, preset)
        self.moves = Moves(files, self._reader)
        self.root = Root(files, self._reader, marker, preset.rules)
        self.late = LateWriters(self._reader)
        self.abilities = files.abilities(MARKER_FILE)

    def scan(self) -> Scan:
        """Look through the whole directory."""
        found = scan(self._files, self.root.ignoring)
        self.root.confirm()
        return found

    # -- reading -----------------------------------------------------------------------------

    def read(self, paths: Iterable[str]) -> dict[str, Found]:
        """Read files."""
        found = self._reader.read(paths)
        self.root.confirm()
        return found

    def settle(self, files: Mapping[str, File]) -> dict[str, Trouble]:
        """Let files be on the disk as they were read; return why those are not that cannot be."""
        troubles = self._reader.settle(files)
        self.root.confirm()
        return troubles

    def gone(self, paths: Iterable[str]) -> dict[str, bool | None]:
        """Return whether no file is at paths; None where that cannot be told."""
        gone = self._reader.gone(paths)
        self.root.confirm()
        return gone

    def changed(self, marks: Mapping[str, Mark | None]) -> list[str]:
        """Return the paths at which files have other marks than these."""
        changed = self._reader.changed(marks)
        self.root.confirm()
        return changed

    def gone_since(self, paths: Iterable[str], time_ns: int) -> list[str]:
        """Return the paths at which no file is and none was since a time, as far as that can be
        told: nothing came to the folders that they would lie in, and nothing went."""
        gone = [path for path, is_gone in self.gone(paths).items() if is_gone]
        return [path for path in gone if not self._is_changed_since(path, time_ns)]

    def _is_changed_since(self, path: str, time_ns: int) -> bool:
        """Whether a name may have come to the folder of a path or gone from it, or of the one above
        it that is there."""
        with suppress(OSError):
            while path:
                path = path.rpartition("/")[0]
                status = self._files.status(path)
                if status is not None:
                    return status.time_ns > time_ns
        return True

    # -- writing -----------------------------------------------------------------------------

    def prepare(self, writes: Sequence[Write]) -> list[Draft | Trouble]:
        """Write new files beside those whose place they are to take; none for empty texts. That
        they lie there is on the disk: a draft that has left its place was put into another."""
        ways: Ways = {}
        reasons = [self._make_way(write.path, ways) for write in writes]

        def one(number: int) -> Draft | Trouble:
            reason = reasons[number]
            return reason if reason is not None else self._prepare(writes[number])

        if min(len(writes), self._writers) <= 1:
            drafts = [one(number) for number in range(len(writes))]
        else:
            with ThreadPoolExecutor(self._writers) as pool:
                drafts = list(pool.map(one, range(len(writes))))
        self._settle_folders(writes, drafts)
        self.root.confirm()
        return drafts

    def _settle_folders(self, writes: Sequence[Write], drafts: list[Draft | Trouble]) -> None:
        """Let it be on the disk which drafts lie in their folders."""
        reasons: dict[str, Trouble | None] = {}
        for number, write in enumerate(writes):
            if isinstance(drafts[number], Trouble):
                continue
            folder = write.path.rpartition("/")[0]
            if folder not in reasons:
                reasons[folder] = None
                try:
                    self._files.sync_folder(folder)
                except OSError as error:
                    reasons[folder] = refused(error)
            if (reason := reasons[folder]) is not None:
                self.discard([draft_of(write.path)])
                drafts[number] = reason

    def _make_way(self, path: str, ways: Ways) -> Trouble | None:
        """Make the folders on the way to a path."""
        try:
            check_name(path)
            way = self._reader.way_to(path, ways)
            if isinstance(way, Gone):
                folders = path.split("/")[:-1]
                for i in range(1, len(folders) + 1):
                    folder = "/".join(folders[:i])
                    status = self._files.status(folder)
                    if status is not None and status.is_file:
                        self.moves.clear_way(folder)
                        status = None
                    if status is None:
                        self._files.make_folder(folder)
                        self._files.sync_folder("/".join(folders[: i - 1]))
                    ways[folder] = None
                return None
            return way
        except PhextsyncError as error:
            return Trouble(str(error))
        except OSError as error:
            return refused(error)

    def _prepare(self, write: Write) -> Draft | Trouble:
        draft = draft_of(write.path)
        try:
            self.moves.discard(draft)
            if not write.text:
                return Draft(draft, 0, 0, 0)
            old = None if write.expected is None else self._files.status(write.path)
            mode = None if old is None else old.mode
            owner = None if old is None else old.owner
            text = self.preset.as_file(write.path, write.text)
            self._files.write(draft, text.encode(), mode, owner)
            status = self._files.status(draft)
            if status is None:
                return Trouble("the new file vanished while it was written")
            marks = write.marks if old is None else ""
            wanted = mode_with(status.mode, marks, is_read_only=write.is_read_only)
            if wanted != status.mode:
                self._files.set_mode(draft, wanted)
            return Draft(draft, status.inode, status.size, status.time_ns)
        except OSError as error:
            with suppress(OSError):
                self.moves.discard(draft)
            return refused(error)

    def intent_of(self, write: Write, draft: Draft) -> Intent:
        """Say what `place` is about to do."""
        digest = digest_of(write.text)
        numbers = (draft.inode, draft.size, draft.time_ns, draft.path)
        return Intent(write.path, digest, write.marks, *numbers)

    def place(self, works: Sequence[tuple[Write, Draft]], now: float) -> list[Outcome]:
        """Put drafts where they belong, and take away what is to go. What was replaced stays, as
        drafts do that were put nowhere: they are to be discarded when that is durable. No
        DirectoryError: what was done is told."""
        outcomes: list[Outcome] = []
        folders: dict[str, None] = {}
        for write, draft in works:
            outcome = self._tried(partial(self._place, write, draft, now))
            if isinstance(outcome, Placed):
                folders[write.path.rpartition("/")[0]] = None
            outcomes.append(outcome)
        for folder in folders:
            with suppress(OSError):
                self._files.sync_folder(folder)
        return outcomes

    def _tried(self, change: Callable[[], Placed | Changed | Trouble]) -> Outcome:
        """Do something; what seems not to be done may have been, all or a part of it, if the system
        refuses a part or the directory is not there."""
        outcome: Outcome
        try:
            outcome = change()
        except OSError as error:
            outcome = Unknown(why(error))
        return outcome if isinstance(outcome, Placed) or self.root.is_same() else Unknown(ELSEWHERE)

    def _place(self, write: Write, draft: Draft, now: float) -> Placed | Changed:
        """Put a draft in its place, while no host of the preset changes what is there."""
        lock = self.preset.lock_of(write.path)
        if not lock:
            return self._exchange(write, draft, now)
        with self._files.locked(lock) as is_locked:
            return self._exchange(write, draft, now) if is_locked else Changed()

    def _exchange(self, write: Write, draft: Draft, now: float) -> Placed | Changed:
        if write.expected is None:
            self.moves.clear_way(write.path)
            if not self.moves.put_new(draft.path, write.path):
                return Changed()
            return self._placed(write, draft)
        status = self._files.status(write.path)
        if status is None or mark_of(status) != write.expected.mark:
            return Changed()
        if not write.text:
            return self._take_away(write, draft, now)
        try:
            self._files.exchange(draft.path, write.path)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self._put_over(write, draft, now)
        status = self._files.status(draft.path)
        if status is None or not status.is_file:
            self._files.exchange(draft.path, write.path)  # a folder, or a link: not ours to move
            return Changed()
        if self._is_another(write, draft.path, status) and self._give_back(write, draft):
            return Changed()
        late = self._look_after(write, draft.path, now)
        return self._placed(write, draft, late)

    def _is_another(self, write: Write, path: str, status: Status) -> bool:
        """Whether the file that was replaced is not the one that was read, nor like it: that may
        have got another name at this moment."""
        if write.expected is None or status.inode == write.expected.mark.inode:
            return False
        found = self._reader.read_file(path)
        return isinstance(found, File) and is_unlike(write.expected.text, found.text)

    def _give_back(self, write: Write, draft: Draft) -> bool:
        """Let a file have the place again that a draft has; False when somebody changed what lies
        there meanwhile."""
        self._files.exchange(draft.path, write.path)
        status = self._files.status(draft.path)
        numbers = (draft.inode, draft.size, draft.time_ns)
        if status is not None and (status.inode, status.size, status.time_ns) == numbers:
            return True
        self._files.exchange(draft.path, write.path)
        return False

    def _put_over(self, write: Write, draft: Draft, now: float) -> Placed | Changed:
        """Replace a file where two cannot change places: it goes aside first, or what somebody puts
        there at this moment would be written over unseen."""
        aside = aside_of(write.path)
        self.moves.discard(aside)
        if not self._set_aside(write, aside):
            return Changed()
        try:
            is_put = self.moves.put_new(draft.path, write.path)
        except OSError:
            self.moves.put_new(aside, write.path)
            raise
        if is_put:
            return self._placed(write, draft, self._look_after(write, aside, now))
        self._look_after(write, aside, now, is_done=False)
        return Changed(is_aside=True)

    def _take_away(self, write: Write, draft: Draft, now: float) -> Placed | Changed:
        """Remove a file: away from its path first, then looked at."""
        if not self._set_aside(write, draft.path):
            return Changed()
        late = self._look_after(write, draft.path, now)
        return Placed(None, late=late)

    def _set_aside(self, write: Write, aside: str) -> bool:
        """Let a file lie elsewhere; say whether it is one, and not another than was read."""
        self._files.rename(write.path, aside)
        status = self._files.status(aside)
        if status is None or not status.is_file:
            self._files.rename(aside, write.path)  # a folder, or a link: not ours to move
            return False
        is_another = self._is_another(write, aside, status)
        return not (is_another and self.moves.put_new(aside, write.path))

    def _look_after(
        self, write: Write, path: str, now: float, *, is_done: bool = True
    ) -> str | None:
        """Listen to who still writes into the file that was replaced. Return what it holds if it is
        not what was read."""
        old = self._files.open(path)
        before = "" if write.expected is None else write.expected.text
        found = self._reader.read_open(old, write.path) if is_done else None
        text = found.text if isinstance(found, File) else before
        text = text or before  # one that is empty may be about to be written
        self.late.listen(write.coordinate, write.path, old, text, now)
        return None if text == before else text

    def _placed(self, write: Write, draft: Draft, late: str | None = None) -> Placed:
        is_outside = self.root.is_same() and self._reader.is_outside(write.path)
        try:
            file = self._files.open(write.path)
        except OSError:
            return Placed(None, is_outside=is_outside, late=late)
        try:
            status = file.status()
        finally:
            file.close()
        numbers = (draft.inode, draft.size, draft.time_ns)
        is_ours = (status.inode, status.size, status.time_ns) == numbers
        # What was put there had these marks, unless somebody changed them since the file was read.
        marks = write.marks if write.expected is None else write.expected.marks
        is_marked = write.expected is not None and marks_of(status) != marks
        if not is_ours or (is_marked and not write.is_read_only):
            return Placed(None, marks, is_outside=is_outside, late=late)
        return Placed(mark_of(status), marks_of(status), status.born_ns, is_outside, late)

    def move(self, old: str, new: str, expected: Mark) -> Outcome:
        """Let a file that is as it was read lie at another path where nothing is. No
        DirectoryError."""
        return self._tried(partial(self._move, old, new, expected))

    def _move(self, old: str, new: str, expected: Mark) -> Placed | Changed | Trouble:
        reason = self._make_way(new, {})
        if reason is not None:
            return reason
        status = self._files.status(old)
        if status is None or (status.inode, status.time_ns) != (expected.inode, expected.time_ns):
            return Changed()
        self.moves.clear_way(new)
        if not self.moves.carry(old, new, expected):
            return Changed()
        for folder in {old.rpartition("/")[0], new.rpartition("/")[0]}:
            self._files.sync_folder(folder)
        self.moves.tidy_up(old)
        moved = self._files.status(new)
        if moved is None or not self.root.is_same():
            return Placed(None)
        is_outside = self._reader.is_outside(new)
        numbers = moved.inode, moved.size, moved.time_ns
        is_as_read = numbers == (expected.inode, expected.size, expected.time_ns)
        mark = mark_of(moved) if is_as_read else None  # somebody saved it at this moment
        return Placed(mark, marks_of(moved), is_outside=is_outside)

    def is_alone(self, path: str, folder: str) -> bool:
        """Whether a folder holds nothing but a file below it, as far as that can be told."""
        try:
            while path != folder:
                path = path.rpartition("/")[0]
                if len(self._files.entries(path)) != 1:
                    return False
        except OSError:
            return False
        return True

    def set_marks(self, path: str, marks: str, *, is_read_only: bool) -> Outcome:
        """Let a file be private or not, executable or not."""
        outcome = self._tried(partial(self._set_marks, path, marks, is_read_only=is_read_only))
        self.root.confirm()
        return outcome

    def _set_marks(self, path: str, marks: str, *, is_read_only: bool) -> Placed | Changed:
        status = self._files.status(path)
        if status is None or not status.is_file:
            return Changed()
        mode = mode_marked(status.mode, marks, is_read_only=is_read_only)
        if mode != status.mode:
            self._files.set_mode(path, mode)
            status = self._files.status(path)
        return Changed() if status is None else Placed(mark_of(status), marks_of(status))

    def back_up(self, path: str, text: str) -> str:
        """Keep a text aside; return where. OSError when that cannot be done."""
        kept, data = f"{BACKUPS}/{backup_name(path, text)}", text.encode()
        folder = self._files.status(BACKUPS)
        if folder is None:
            self._files.make_folder(BACKUPS)
        elif not folder.is_folder:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), BACKUPS)
        there = self._files.status(kept)
        if there is None or there.size != len(data):  # one that was cut short may lie there
            put(self._files, kept, data, 0o600)
        self.root.confirm()
        return kept

    # -- after a crash -----------------------------------------------------------------------

    def after_crash(self, intent: Intent) -> tuple[Found, Found, Found]:
        """Return what is at the path of an intent, at that of its draft, and aside. Trouble at the
        path when it cannot be told what became of it."""
        aside = aside_of(intent.path)
        try:
            if not is_draft(intent.draft.rpartition("/")[2]):
                self.moves.finish_leaving(intent.draft, intent.inode)
            draft, there, old = map(self._files.status, (intent.draft, intent.path, aside))
            has_draft = draft is not None and draft.inode == intent.inode
            if has_draft and there is None and old is not None:  # it left for the draft to come
                self.moves.put_new(aside, intent.path)
                self._files.sync_folder(intent.path.rpartition("/")[0])
            at_path = self.read([intent.path])[intent.path]
            found = at_path, self._reader.read_file(intent.draft), self._reader.read_file(aside)
        except OSError as error:
            found = (refused(error),) * 3
        self.root.confirm()
        return found

    def drafts_of(self, intent: Intent) -> tuple[str, str]:
        """Return where files may lie that an intent needs, beside its path."""
        return intent.draft, aside_of(intent.path)

    def discard(self, drafts: Iterable[str]) -> None:
        """Remove drafts that nobody needs, and folders that nothing else is in."""
        for draft in drafts:
            with suppress(OSError):
                self.moves.discard(draft)
            self.moves.tidy_up(draft)

    def remove(self, path: str) -> Trouble | None:
        """Remove a file for good, also if the power goes; return why that cannot be done."""
        try:
            self.moves.discard(path)
            self._files.sync_folder(path.rpartition("/")[0])
        except OSError as error:
            return refused(error)
        self.moves.tidy_up(path)
        return None

    def close(self) -> None:
        """Look at replaced files no more."""
        self.late.close()


def backup_name(path: str, text: str) -> str:
    """Return the name under which a text of a file is kept aside; the file's may be no UTF-8."""
    digest = blake2b(os.fsencode(path) + b"\0" + text.encode(), digest_size=8).hexdigest()
    name = os.fsencode(path.replace("/", "_"))[:180].decode(errors="ignore")
    return f"{name}.{digest}"
