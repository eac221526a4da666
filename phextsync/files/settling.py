"""Settling: finds out whether what was about to happen to a file has happened, after a crash, a
refusal in the middle, or a round that was not finished.

A draft lies at its place before it is durable that it will leave it, and what takes its place stays
there until it is durable that it has: so it is certain whether a file was replaced, whatever its
users have done to it since. A new file leaves nothing there; neither does a draft that somebody
removed with its folder.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from phextsync.edits import lines_of
from phextsync.files.directory import Directory
from phextsync.files.entries import entries_of
from phextsync.files.merging import Merging
from phextsync.files.problems import Problems
from phextsync.files.reading import File, Found, Gone, Trouble, is_unlike
from phextsync.files.records import Intent, Record, Records, digest_of
from phextsync.files.todo import Runner, Todo
from phextsync.index import Coordinate


class Settling:
    """Settles intents: the file was written, moved or removed, or it was not."""

    def __init__(
        self,
        records: Records,
        merging: Merging,
        problems: Problems,
        todo: Todo,
        directory: Directory,
        *,
        run: Runner,
        durable: Callable[[], Awaitable[None]],
    ) -> None:
        self._records = records
        self._merging = merging
        self._problems = problems
        self._todo = todo
        self._directory = directory
        self._run = run
        self._durable = durable

    async def find_out(self, now: float) -> None:
        """Find out of every file that was about to be written, moved or removed whether it was. Of
        what cannot be told now the intent stays."""
        for coordinate, intent in self._records.unsettled.items():
            record = self._records.get(coordinate)
            assert record is not None
            at_path, at_draft, aside = await self._run(self._directory.after_crash, intent)
            if isinstance(at_path, Trouble):
                self._problems.note(record.path, at_path.reason, now, is_retried=True)
                continue
            if intent.draft == record.path:
                await self._settle_move(coordinate, record, intent, at_path, at_draft, now)
            else:
                found = at_path, at_draft, aside
                await self._settle_write(coordinate, record, intent, found, now)
            self._todo.finish(coordinate)

    async def _settle_move(
        self,
        coordinate: Coordinate,
        record: Record,
        intent: Intent,
        there: Found,
        here: Found,
        now: float,
    ) -> None:
        if isinstance(there, File):
            is_same = isinstance(here, File) and (
                here.mark.inode == there.mark.inode  # one file with two names, or a copy
                or digest_of(here.text) == digest_of(there.text) == intent.digest
            )
            if is_same or isinstance(here, Gone):
                moved = replace(record, path=intent.path, mark=None, intent=None)
                self._records.keep(coordinate, moved)
                await self._durable()
                await self._run(self._directory.discard, [intent.draft] if is_same else [])
                return
            if isinstance(here, File) and there.mark.inode == intent.inode:
                await self._settle_link(coordinate, record, intent, there, here, now)
                return
        self._records.keep(coordinate, replace(record, intent=None))

    async def _settle_link(
        self,
        coordinate: Coordinate,
        record: Record,
        intent: Intent,
        there: File,
        here: File,
        now: float,
    ) -> None:
        """Settle the move of a file that had both names for a moment, with another at its old one:
        it was saved there, or it has moved."""
        before = self._records.base(coordinate)
        if is_unlike(before, here.text):
            moved = replace(record, path=intent.path, mark=None, intent=None)
            self._records.keep(coordinate, moved)
            return
        if there.text == before:
            trouble = await self._run(self._directory.remove, intent.path)
            if trouble is not None:
                self._problems.note(record.path, trouble.reason, now, is_retried=True)
                return
        self._records.keep(coordinate, replace(record, intent=None))

    async def _settle_write(
        self,
        coordinate: Coordinate,
        record: Record,
        intent: Intent,
        found: tuple[Found, Found, Found],
        now: float,
    ) -> None:
        text = self._records.intended(coordinate)
        before = self._records.base(coordinate)
        there, at_draft, aside = found
        has_draft = isinstance(at_draft, File) and at_draft.mark.inode == intent.inode
        old = at_draft if isinstance(aside, Gone) and not has_draft else aside
        if not intent.digest:
            is_done = not isinstance(at_draft, Gone)  # it leaves by that way
        else:
            is_done = _is_as_intended(intent, there) or (
                not has_draft
                and (not isinstance(old, Gone) or self._seems_made_of(text, before, intent, there))
            )
        is_another = isinstance(old, File) and not is_done and _is_another(intent, before, there)
        is_late = isinstance(old, File) and old.text not in (before, text, "")
        if isinstance(old, File) and is_late and (is_done or is_another):
            with self._problems.boundary(intent.path, now):
                self._merging.take_late(coordinate, intent.path, before, old.text)
        if is_done:
            done = replace(
                record,
                path=intent.path,
                digest=intent.digest,
                mark=None,
                marks=there.marks if isinstance(there, File) else record.marks,
                line_marks=intent.marks,
                fingerprint=b"",
                intent=None,
            )
            self._records.keep(coordinate, done, text)
        elif is_another:
            self._records.forget(coordinate)  # the two are to meet
        else:
            self._records.take_back(coordinate, record)
        await self._durable()
        await self._run(self._directory.discard, self._directory.drafts_of(intent))

    def _seems_made_of(self, text: str, before: str, intent: Intent, there: Found) -> bool:
        """Whether a file was made of `text`, as it seems by its parts: a new file leaves nothing
        that would tell, and somebody may have removed what does."""
        if not isinstance(there, File):
            return False
        # The marks of a list are in every text, and say nothing of what came.
        parts = entries_of if self._directory.preset.is_list(intent.path) else lines_of
        return has_seen(*map(parts, (text, before, there.text)))


def has_seen(text: Sequence[str], before: Sequence[str], there: Sequence[str]) -> bool:
    """Whether a file that has replaced another since was made of `text`, which that one was given,
    and not of `before`: it has half of the parts that came."""
    came = Counter(text) - Counter(before)
    return 2 * (came & Counter(there)).total() >= came.total() > 0


def _is_as_intended(intent: Intent, there: Found) -> bool:
    """Whether a file is the one that was to come to its path, or has the same text."""
    if not isinstance(there, File):
        return False
    return there.mark.inode == intent.inode or digest_of(there.text) == intent.digest


def _is_another(intent: Intent, before: str, there: Found) -> bool:
    """Whether a file was made while the one that held `before` lay aside, and is no change of
    that."""
    if not intent.digest or not isinstance(there, File):
        return False
    return is_unlike(before, there.text)
