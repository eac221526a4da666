"""Conflict copies: what Syncthing left of files that were changed apart, merged into them.

Syncthing keeps one text under the file's name, the other as `NAME.sync-conflict-DATE-TIME-ID.md`.
Where its `.stversions` has a text from before, that is what both were made of, and the copy's
change is made in the file. Elsewhere the file gets the lines of the copy that it lacks: what one
side deleted may then return, and nothing is lost.

Copies are moved to where `bind` keeps texts aside, with the text that the file had. To do the same
again after it was cut short changes nothing that is done.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from phextsync.alignment import Work, changed_blocks
from phextsync.durable_files import make_folder, write_whole
from phextsync.edits import apply_edits, content_of, lines_of, missing_lines
from phextsync.errors import DirectoryError, TextError
from phextsync.files.directory import BACKUPS, backup_name
from phextsync.files.reading import TEXT_BYTES_MAX
from phextsync.merges import merged_text
from phextsync.systems.opening import AT_ONCE, NO_LINK, PRIVATE
from phextsync.systems.syncing import sync_folder
from phextsync.texts import text_from

VERSIONS: Final = ".stversions"
"""Where Syncthing keeps what it replaced, if it was told to."""

_COPY: Final = re.compile(r"(.+?)\.sync-conflict-(\d{8}-\d{6})-[0-9A-Z]{7}(\.[^./]*)?")
_WORD: Final = re.compile(r"\w")
_VERSION: Final = re.compile(r"(.+)~(\d{8}-\d{6})(\.[^./]*)?")


@dataclass(frozen=True, slots=True)
class Merge:
    """What becomes of a file with one of its copies. Paths are those below the directory; `base`
    is that of the version which both were made of, "" when there is none."""

    path: str
    text: str
    copy: str
    theirs: str
    base: str
    merged: str


def find_copies(directory: Path) -> dict[str, list[str]]:
    """Return the files of which there are conflict copies, and these, the oldest first. What is
    hidden is passed over, as links are. DirectoryError where there is no directory."""
    if not directory.is_dir():
        raise DirectoryError(f"expected a directory, found none at {directory}")
    found: dict[str, list[tuple[str, str]]] = {}
    for path in _files(directory):
        folder, slash, name = path.rpartition("/")
        stamp, original = "", name
        while match := _COPY.fullmatch(original):  # there are copies of copies
            original, stamp = match[1] + (match[3] or ""), stamp or match[2]
        if stamp:
            found.setdefault(folder + slash + original, []).append((stamp, path))
    return {path: [copy for _, copy in sorted(copies)] for path, copies in sorted(found.items())}


def merge(directory: Path, path: str, copy: str) -> Merge:
    """Work out what becomes of a file with a copy. TextError, which says which, when one of them is
    no text or a link, DirectoryError when the file is gone, OSError when one cannot be read."""
    if not (directory / path).exists():
        raise DirectoryError(f"{copy}: {path} is gone; give its name to the copy that you want")
    text, theirs = (_read(directory / each, each) for each in (path, copy))
    base = _base(directory, path, copy)
    before = _read(directory / base, base) if base else ""

    def merged(text: str) -> str:
        if base:
            return _without_doubles(before, text, theirs, merged_text(before, text, theirs))
        return apply_edits(text, missing_lines(text, theirs))

    is_done = any(merged(kept) == text for kept in _kept(directory, path))
    return Merge(path, text, copy, theirs, base, text if is_done else merged(text))


def _without_doubles(before: str, text: str, theirs: str, merged: str) -> str:
    """Return `merged` without the lines that a text got where it had put in the same: there they
    are as often as on the side that has more of them. Lines without words stay, which part others.
    """
    ours, lines = ([*map(content_of, lines_of(each))] for each in (text, merged))
    surplus = Counter(lines) - (Counter(ours) | Counter(map(content_of, lines_of(theirs))))
    if not surplus:
        return merged
    work, pieces, dropped = Work(len(text) + len(merged)), lines_of(merged), set[int]()
    changed = changed_blocks([*map(content_of, lines_of(before))], ours, work)
    own = [(lower, upper) for _, _, lower, upper in changed]
    for a, b, c, d in changed_blocks(ours, lines, work):
        near = [range(lower, upper) for lower, upper in own if lower <= b and a <= upper]
        there = Counter(ours[place] for place in chain(*near) if not a <= place < b)
        for i in range(c, d):
            if surplus[lines[i]] > 0 and there[lines[i]] > 0 and _WORD.search(lines[i]):
                surplus[lines[i]] -= 1
                there[lines[i]] -= 1
                dropped.add(i)
    return "".join(piece for i, piece in enumerate(pieces) if i not in dropped)


def carry_out(directory: Path, planned: Merge) -> None:
    """Keep the file's text aside, write what is merged, and put the copy aside; each step is on the
    disk before the next. DirectoryError when something changed since it was planned, OSError when
    the disk refuses."""
    file, copy = directory / planned.path, directory / planned.copy
    for path, text in ((planned.path, planned.text), (planned.copy, planned.theirs)):
        if _read(directory / path, path) != text:
            raise DirectoryError(f"{path} has changed meanwhile; do it again")
    backups = directory / BACKUPS
    make_folder(backups)
    if planned.merged != planned.text:
        write_whole(backups / backup_name(planned.path, planned.text), planned.text.encode())
        write_whole(file, planned.merged.encode(), stat.S_IMODE(file.stat().st_mode))
    os.replace(copy, backups / backup_name(planned.copy, planned.theirs))
    sync_folder(backups)
    sync_folder(copy.parent)


def _kept(directory: Path, path: str) -> Iterator[str]:
    """Give the texts of a file that are kept aside: it may be merged, its copy still there."""
    name = backup_name(path, "").rpartition(".")[0]
    kept = directory / BACKUPS
    for other in sorted(os.listdir(kept)) if kept.is_dir() else ():
        if other.rpartition(".")[0] == name:
            yield _read(kept / other, f"{BACKUPS}/{other}")


def _files(directory: Path) -> Iterator[str]:
    """Give the paths of all files that are not hidden, in order."""
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        within = os.path.relpath(folder, directory)
        for name in sorted(names):
            if not name.startswith("."):
                yield name if within == "." else f"{within}/{name}"


def _base(directory: Path, path: str, copy: str) -> str:
    """Return the newest version of a file that is no younger than the conflict, "" if none is."""
    conflict = re.findall(r"\.sync-conflict-(\d{8}-\d{6})-", copy)[-1]
    folder, slash, name = path.rpartition("/")
    kept = directory / VERSIONS / folder
    found = []
    for other in sorted(os.listdir(kept)) if kept.is_dir() else ():
        match = _VERSION.fullmatch(other)
        if match and match[1] + (match[3] or "") == name and match[2] <= conflict:
            found.append((match[2], f"{VERSIONS}/{folder}{slash}{other}"))
    return max(found)[1] if found else ""


def _read(file: Path, path: str) -> str:
    """Return the text of a file that is no link."""
    if file.is_symlink():  # the system says of it only that there are too many
        raise TextError(f"{path}: expected a file, found a link")
    descriptor = os.open(file, os.O_RDONLY | NO_LINK | AT_ONCE | PRIVATE)
    with open(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TextError(f"{path}: expected a file, found something else")
        data = opened.read(TEXT_BYTES_MAX + 1)
    if len(data) > TEXT_BYTES_MAX:
        raise TextError(f"{path}: expected at most {TEXT_BYTES_MAX} bytes, found more")
    try:
        return text_from(data)
    except TextError as error:
        raise TextError(f"{path}: {error}") from error
