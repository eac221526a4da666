"""Files of git: what of a repository can become scrolls, each file with its versions."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from phextsync.errors import PhextsyncError, TextError
from phextsync.files.ignoring import IGNORE_FILE, Ignoring
from phextsync.files.names import EXECUTABLE, check_name
from phextsync.files.reading import TEXT_BYTES_MAX
from phextsync.migrations.bringing import DatedText
from phextsync.migrations.file_histories import FileHistory, Step, histories
from phextsync.migrations.git_repository import EXECUTABLE_MODE, PLAIN, Repository, TreeFile
from phextsync.texts import text_from


class Reads(Protocol):
    """What returns the bytes of an object of git, None for one that has too many."""

    def __call__(self, name: str, bytes_max: int) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Left:
    """A file that stays in git, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Versioned:
    """A file with its versions. `passed_over`: how many others are no text."""

    path: str
    text: str
    versions: tuple[DatedText, ...]
    passed_over: int


def files_of(repository: Repository, read: Reads) -> tuple[list[FileHistory], list[Left]]:
    """Return the texts of HEAD, which may become scrolls, and the other files. Those that a bound
    directory ignores are in neither."""
    files = repository.files()
    rules = next((file for file in files if file.path == IGNORE_FILE), None)
    ignoring = Ignoring("" if rules is None else _text(read, rules.blob))
    files = [file for file in files if not _is_ignored(ignoring, file.path)]
    left = [Left(file.path, reason) for file in files if (reason := _unfit(file, read))]
    unfit = {each.path for each in left}
    commits = repository.commits()
    fit = [file for file in files if file.path not in unfit]
    return histories(commits, repository.changes(commits), fit), left


def versioned(history: FileHistory, read: Reads) -> Versioned:
    """Read a file of `files_of` with all of its versions."""
    file = history.file
    text_of = cache(partial(_text, read))  # what a step begins with, another ended with
    dated = [_dated(step, text_of) for step in history.steps]
    versions = tuple(each for each in dated if each is not None)
    return Versioned(file.path, text_of(file.blob), versions, len(dated) - len(versions))


def marks_of(file: TreeFile) -> str:
    """Return the marks that a file has in a map of names."""
    return EXECUTABLE if file.mode == EXECUTABLE_MODE else ""


def _is_ignored(ignoring: Ignoring, path: str) -> bool:
    parts = path.split("/")
    folders = ("/".join(parts[:i]) for i in range(1, len(parts)))
    return ignoring.covers(path) or any(ignoring.covers(f, is_folder=True) for f in folders)


def _unfit(file: TreeFile, read: Reads) -> str:
    """Say why something cannot be a file of a bound directory, "" if it can."""
    if file.mode not in PLAIN:
        return "expected a file, found a link or another repository"
    try:
        check_name(file.path)
        _text(read, file.blob)
    except PhextsyncError as error:
        return str(error)
    return ""


def _dated(step: Step, text_of: Callable[[str], str]) -> DatedText | None:
    """Return a version, None of one that is no text."""
    try:
        old, new = (text_of(blob) if blob else "" for blob in (step.old, step.new))
    except TextError:
        return None
    # A clock that was wrong does not reach beyond what can be told, nor into what is to come.
    time_ms = min(max(step.commit.time_ms, 0), time.time_ns() // 1_000_000)
    return DatedText(step.commit.author, time_ms, old, new, step.is_whole)


def _text(read: Reads, blob: str) -> str:
    data = read(blob, TEXT_BYTES_MAX)
    if data is None:
        raise TextError(f"expected a text of at most {TEXT_BYTES_MAX} bytes, found more, or none")
    return text_from(data)
