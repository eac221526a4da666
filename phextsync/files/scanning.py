"""Scanning: what lies in a directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phextsync.errors import PhextsyncError
from phextsync.files.drafts import is_draft
from phextsync.files.filesystem import FileSystem, Status
from phextsync.files.ignoring import Ignoring
from phextsync.files.names import SECRETS, check_name
from phextsync.files.reading import SECRET, kind_of, mark_of, why
from phextsync.files.records import Mark


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in a directory: the marks of its files by path, what is no file to keep and why,
    drafts that were left behind, and what of the way could not be looked at."""

    marks: Mapping[str, Mark]
    left_alone: Mapping[str, str]
    drafts: Sequence[str]


def scan(files: FileSystem, ignoring: Ignoring) -> Scan:
    """Look through a whole directory."""
    marks: dict[str, Mark] = {}
    left_alone: dict[str, str] = {}
    drafts: list[str] = []
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            entries = sorted(files.entries(folder), key=lambda entry: entry[0])
        except OSError as error:
            left_alone[f"{folder}/"] = f"expected a folder that can be read: {why(error)}"
            continue
        if any(name in SECRETS for name, _ in entries):
            left_alone[f"{folder}/"] = SECRET
            continue
        for name, status in entries:
            path = f"{folder}/{name}" if folder else name
            if is_draft(name):
                drafts.append(path)
            elif not ignoring.covers(path, is_folder=status.is_folder):
                if status.is_folder:
                    todo.append(path)
                elif reason := _unfit(path, status):
                    left_alone[path] = reason
                else:
                    marks[path] = mark_of(status)
    return Scan(marks, left_alone, drafts)


def _unfit(path: str, status: Status) -> str:
    """Return why what is at a path is no file to keep, nothing when it is one."""
    if not status.is_file:
        return f"expected a file, found {kind_of(status)}"
    try:
        check_name(path)
    except PhextsyncError as error:
        return f"{error}; rename it"
    return ""
