"""Moves: how a file comes to lie at a path where nothing is, and leaves another, whatever others do
at that moment.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from phextsync.files.drafts import aside_of, draft_of, is_draft
from phextsync.files.filesystem import FileSystem, Status
from phextsync.files.reading import File, Reader
from phextsync.files.records import Mark

_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


class Moves:
    """Gives files of a directory their paths. `is_above_outside` says whether files below a folder
    lay on a file system of their own."""

    def __init__(self, files: FileSystem, reader: Reader) -> None:
        self._files = files
        self._reader = reader
        self.is_above_outside: Callable[[str], bool] = lambda folder: False

    def discard(self, path: str) -> None:
        """Remove a file if it is there."""
        with suppress(FileNotFoundError):
            self._files.unlink(path)

    def clear_way(self, path: str) -> None:
        """Remove an empty file, or a folder without files, that lies where another is to be: it is
        as absent as an empty scroll. OSError when it is not empty."""
        status = self._files.status(path)
        if status is not None and status.is_folder:
            try:
                self._remove_folders(path)
            except OSError as error:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
        elif status is not None and status.is_file and not status.size:
            aside = aside_of(path)
            self.discard(aside)
            self._files.rename(path, aside)
            status = self._files.status(aside)
            if status is not None and status.size:  # somebody wrote into it at this moment
                self.put_new(aside, path)
            else:
                self.discard(aside)

    def _remove_folders(self, folder: str) -> None:
        """Remove a folder that holds nothing but folders. OSError when it holds more, or is
        needed."""
        if self._is_needed(folder):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        entries = self._files.entries(folder)
        if all(status.is_folder for _, status in entries):
            for name, _ in entries:
                self._remove_folders(f"{folder}/{name}")
        self._files.remove_folder(folder)

    def put_new(self, draft: str, path: str) -> bool:
        """Give a file the path where nothing is; say whether nothing was."""
        try:
            self._files.rename_new(draft, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self._link_new(draft, path)
        return True

    def _link_new(self, draft: str, path: str) -> bool:
        """Do the same in two calls, between which somebody may put another file at the old path."""
        known = self._files.status(draft)
        try:
            has_both = self._link(draft, path)
        except FileExistsError:
            return False
        if not has_both:
            return True
        if is_draft(draft.rpartition("/")[2]):
            self._files.unlink(draft)
            return True
        there = self._files.status(path)
        if _numbers_of(there) == _numbers_of(self._files.status(draft)):
            known = there  # it was saved before it was given the name
        return self._leave(draft, path, known, known)

    def _link(self, path: str, new: str) -> bool:
        """Give a file another path; say whether it keeps the first."""
        try:
            self._files.link(path, new)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._files.rename_looking(path, new)
            return False
        return True

    def _leave(self, old: str, new: str, known: Status | None, came: Status | None) -> bool:
        """Take the old path from a file that has another by now, or a copy that `came` there; say
        whether that was done. If somebody saved it at the old one meanwhile, it stays there, and
        what came to the other goes."""
        aside = aside_of(old)
        self.discard(aside)
        self._files.rename(old, aside)
        is_left = self.finish_leaving(old, None if known is None else known.inode)
        if is_left or _numbers_of(self._files.status(new)) != _numbers_of(came):
            return True
        self.discard(new)
        return False

    def finish_leaving(self, path: str, inode: int | None) -> bool:
        """Do what is left to do where a file with a number was about to leave a path, if it was;
        False when another lies there."""
        aside = aside_of(path)
        status = self._files.status(aside)
        if status is None:
            return True
        if status.inode != inode and self.put_new(aside, path):
            return False
        self._files.unlink(aside)
        return True

    def carry(self, old: str, new: str, expected: Mark) -> bool:
        """Give a file another path where nothing is, on another file system by a copy; say
        whether that was done."""
        try:
            return self.put_new(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        status = self._files.status(old)
        found = self._reader.read_file(old)
        if status is None or not isinstance(found, File) or found.mark != expected:
            return False
        draft = draft_of(new)
        self.discard(draft)
        self._files.write(draft, found.text.encode(), status.mode, status.owner)
        came = self._files.status(draft)
        if not self.put_new(draft, new):
            self.discard(draft)
            return False
        self._files.sync_folder(new.rpartition("/")[0])
        again = self._reader.read_file(old)
        if not isinstance(again, File) or again.mark != expected:
            self._files.unlink(new)
            return False
        return self._leave(old, new, status, came)

    def tidy_up(self, path: str) -> None:
        """Remove the folders on the way to a file that is gone, as far as they are empty."""
        folder = path.rpartition("/")[0]
        with suppress(OSError):
            while folder and not self._is_needed(folder):
                self._files.remove_folder(folder)
                folder = folder.rpartition("/")[0]

    def _is_needed(self, folder: str) -> bool:
        """Whether the file system that files below a folder lay on is not there: it is mounted on
        this folder or one below, and could not be mounted again without."""
        return self.is_above_outside(folder) and not self._reader.is_outside(f"{folder}/")


def _numbers_of(status: Status | None) -> tuple[int, int, int] | None:
    """Return what tells whether somebody wrote into a file."""
    return None if status is None else (status.inode, status.size, status.time_ns)
