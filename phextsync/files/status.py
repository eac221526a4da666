"""Status: how it stands with a bound directory, as a row for programs and as lines for people."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypedDict

from phextsync.files.binding import Situation
from phextsync.files.bindings import Bound

_ROWS_MAX: Final = 1000
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class BindingStatus:
    """How it stands with a bound directory. `watcher` says how changes are noticed; `problem` is
    the directory's own; `situation` is None before it was first looked through, `progress` how
    many files and scrolls of how many were looked at so far. `now` is by the clock of times."""

    directory: Path
    phext: str
    range: str
    watcher: str
    problem: str
    situation: Situation | None
    progress: tuple[int, int] = (0, 0)
    now: float = 0.0


class LeftAlone(TypedDict):
    """A file that is not kept in step, why, and since when."""

    path: str
    reason: str
    since_ms: int


class DirectoryRow(TypedDict):
    """How it stands with a directory, as JSON. Of long lists it has the beginning."""

    directory: str
    phext: str
    range: str
    kept_days: int | None
    is_served: bool
    is_taken_up: bool
    looked_at: int
    to_look_at: int
    watcher: str
    problem: str
    files: int
    in_step: int
    waiting: int
    left_alone: int
    held: int
    conflicts: int
    last_merge_ms: int | None
    reasons: list[LeftAlone]
    refused_lines: list[list[str]]
    other_paths: list[list[str]]


def row_of(bound: Bound, status: BindingStatus | None, now_ms: int) -> DirectoryRow:
    """Return how it stands with a binding; `status` is None where nothing serves it."""
    found = None if status is None else status.situation
    row = DirectoryRow(
        directory=str(bound.directory),
        phext=bound.phext,
        range=str(bound.range),
        kept_days=bound.kept_days,
        is_served=status is not None,
        is_taken_up=found is not None,
        looked_at=0 if status is None else status.progress[0],
        to_look_at=0 if status is None else status.progress[1],
        watcher="" if status is None else status.watcher,
        problem="" if status is None else status.problem,
        files=0,
        in_step=0,
        waiting=0,
        left_alone=0,
        held=0,
        conflicts=0,
        last_merge_ms=None,
        reasons=[],
        refused_lines=[],
        other_paths=[],
    )
    if status is None or found is None:
        return row

    def wall_ms(then: float) -> int:
        return now_ms - round(1000 * (status.now - then))

    row["files"], row["in_step"], row["waiting"] = found.files, found.in_step, found.waiting
    row["left_alone"] = len(found.left_alone)
    row["held"], row["conflicts"] = found.held, found.conflicts
    if found.last_merge_s is not None:
        row["last_merge_ms"] = wall_ms(found.last_merge_s)
    for path, reason, since in found.left_alone[:_ROWS_MAX]:
        row["reasons"].append(LeftAlone(path=path, reason=reason, since_ms=wall_ms(since)))
    row["refused_lines"] = [[*line] for line in found.refused_lines[:_ROWS_MAX]]
    row["other_paths"] = [[*names] for names in found.moved[:_ROWS_MAX]]
    return row


def lines_of(row: DirectoryRow) -> Iterator[str]:
    """Give what a person wants to know of a directory."""
    yield f"directory {row['directory']}: {row['range']} of {row['phext']}"
    if row["problem"]:
        yield f"  {row['problem']}"
    if not row["is_served"]:
        yield "  not kept in step: `phextsync up` does that while it runs"
        yield from _conflict_lines(row)
        return
    if not row["is_taken_up"]:
        yield from _conflict_lines(row)
        if row["to_look_at"]:
            yield f"  being taken up: {row['looked_at']:,} of {row['to_look_at']:,} files"
        elif not row["problem"]:
            yield "  being taken up"
        return
    counts = [f"{row['files']:,} files", f"{row['in_step']:,} in step"]
    counts += [f"{row['waiting']:,} waiting"] if row["waiting"] else []
    counts += [f"{row['left_alone']:,} left alone"] if row["left_alone"] else []
    yield f"  {', '.join(counts)}; {_watched(row)}"
    if row["last_merge_ms"] is not None:
        yield f"  last written by a merge at {_when(row['last_merge_ms'])}"
    if row["held"]:
        yield f"  {_held(row)}"
    yield from _conflict_lines(row)
    yield from _some(
        [f"left alone: {each['path']}: {each['reason']}" for each in row["reasons"]],
        row["left_alone"],
    )
    refused = [f"line of its map refused: {line}: {why}" for line, why in row["refused_lines"]]
    yield from _some(refused, len(refused))
    others = [f"{name} is at {path}, its own path is taken" for name, path in row["other_paths"]]
    yield from _some(others, len(others))


def reasons_of(row: DirectoryRow) -> Iterator[str]:
    """Give the reasons why a directory is not in step, a line each; nothing when it is."""
    where = row["directory"]
    if row["problem"]:
        yield f"{where}: {row['problem']}"
    elif not row["is_served"]:
        yield f"{where}: not kept in step, `phextsync up` does that while it runs"
    elif not row["is_taken_up"]:
        yield f"{where}: being taken up"
    if row["waiting"]:
        yield f"{where}: {row['waiting']:,} files or scrolls wait"
    if row["held"]:
        yield f"{where}: {_held(row)}"
    for each in row["reasons"]:
        yield f"{where}/{each['path']}: {each['reason']}"
    more = row["left_alone"] - len(row["reasons"])
    if more > 0:
        yield f"{where}: {more:,} more files are left alone"
    for line, why in row["refused_lines"]:
        yield f"{where}: line of its map refused: {line}: {why}"


def _held(row: DirectoryRow) -> str:
    return (
        f"{row['held']:,} files vanished at once: their deletion is held; put them back, or "
        f"`phextsync bind --confirm {row['directory']}`"
    )


def _conflict_lines(row: DirectoryRow) -> Iterator[str]:
    count = row["conflicts"]
    if count:
        word = "conflict" if count == 1 else "conflicts"
        yield f"  {count:,} {word}: see `phextsync conflicts`"


def _watched(row: DirectoryRow) -> str:
    return "watched" if row["watcher"] == "watching" else row["watcher"]


def _some(lines: list[str], count: int) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if count > _SHOWN:
        yield f"  and {count - _SHOWN:,} more: `phextsync status --json`"


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).isoformat(" ", "seconds")
