"""File histories: which versions the files of a repository had. Pure functions.

Commits come in one order in which each stands behind its parents. On branches, that which stands
later was made without what stands before; so a step has both texts that its commit knew, to be
done to what is there. A merge says what came out of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phextsync.migrations.git_repository import Changed, Commit, TreeFile


@dataclass(frozen=True, slots=True)
class Step:
    """What a commit did to a file: the blobs of before and after, "" for none. `is_whole`: what
    comes after is all there is, whatever was there."""

    commit: Commit
    old: str
    new: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class FileHistory:
    """A file of HEAD and what commits did to it, the oldest first, under whichever names."""

    file: TreeFile
    steps: tuple[Step, ...]


def histories(
    commits: Sequence[Commit], changes: Mapping[str, list[Changed]], files: Iterable[TreeFile]
) -> list[FileHistory]:
    """Return the history of each of these files of HEAD. A file that was renamed is one."""
    steps: list[list[Step]] = []
    latest: dict[str, int] = {}  # which file a path is, or was last
    for commit in commits:
        rows = changes.get(commit.id, [])
        known = [latest.get(row.before, -1) for row in rows]
        for row in rows:
            if row.before != row.path:
                latest.pop(row.before, None)
        for row, number in zip(rows, known, strict=True):
            if number < 0:
                number = len(steps)
                steps.append([])
            latest[row.path] = number
            steps[number].append(Step(commit, row.old, row.new, len(commit.parents) > 1))
    return [
        FileHistory(file, tuple(steps[latest[file.path]]) if file.path in latest else ())
        for file in files
    ]
