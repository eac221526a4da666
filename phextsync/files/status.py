"""Status: how it stands with a bound directory, as a row for programs and as lines for people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from phextsync.control.status import DirectoryRow, LeftAlone
from phextsync.files.binding import Situation
from phextsync.files.bindings import Bound

_ROWS_MAX: Final = 1000
_SHOWN: Final = 5
_LINE_MAX: Final = 80  # characters of what others wrote into a map


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


def row_of(bound: Bound, status: BindingStatus | None, now_ms: int) -> DirectoryRow:
    """Return how it stands with a binding; `status` is None where nothing serves it."""
    row = DirectoryRow(
        directory=str(bound.directory),
        phext=bound.phext,
        range=str(bound.range),
        kept_days=bound.kept_days,
        preset=bound.preset,
    )
    if status is None:
        return row
    row = replace(
        row,
        is_served=True,
        looked_at=status.progress[0],
        to_look_at=status.progress[1],
        watcher=status.watcher,
        problem=status.problem,
    )
    found = status.situation
    if found is None:
        return row

    def wall_ms(then: float) -> int:
        return now_ms - round(1000 * (status.now - then))

    last_s = found.last_merge_s
    return replace(
        row,
        is_taken_up=True,
        files=found.files,
        in_step=found.in_step,
        waiting=found.waiting + len(found.refused),
        refused=len(found.refused),
        left_alone=len(found.left_alone),
        held=found.held,
        conflicts=found.conflicts,
        last_merge_ms=None if last_s is None else wall_ms(last_s),
        reasons=_reasons(found, wall_ms),
        refused_lines=tuple((_cut(line), why) for line, why in found.refused_lines[:_ROWS_MAX]),
        other_paths=tuple(map(tuple, found.moved[:_ROWS_MAX])),
        excess=tuple(map(tuple, found.excess[:_ROWS_MAX])),
    )


def _reasons(found: Situation, wall_ms: Callable[[float], int]) -> tuple[LeftAlone, ...]:
    """Return the first files that are refused or left alone, and why."""
    refused = [
        LeftAlone(path=path, reason=reason, since_ms=wall_ms(since), next_try_ms=wall_ms(due))
        for path, reason, since, due in found.refused[:_ROWS_MAX]
    ]
    left_alone = [
        LeftAlone(path=path, reason=reason, since_ms=wall_ms(since))
        for path, reason, since in found.left_alone[:_ROWS_MAX]
    ]
    return (*refused, *left_alone)[:_ROWS_MAX]


def lines_of(row: DirectoryRow) -> Iterator[str]:
    """Give what a person wants to know of a directory."""
    preset = f", as of {row.preset}" if row.preset else ""
    yield f"directory {row.directory}: {row.range} of {row.phext}{preset}"
    if row.problem:
        yield f"  {row.problem}"
    if not row.is_served:
        yield "  not kept in step: `phextsync up` does that while it runs"
        yield from _conflict_lines(row)
        return
    if not row.is_taken_up:
        yield from _conflict_lines(row)
        if row.to_look_at:
            yield f"  being taken up: {row.looked_at:,} of {row.to_look_at:,} files"
        elif not row.problem:
            yield "  being taken up"
        return
    counts = [f"{row.files:,} {'file' if row.files == 1 else 'files'}", f"{row.in_step:,} in step"]
    counts += [f"{row.waiting:,} waiting"] if row.waiting else []
    counts += [f"{row.left_alone:,} left alone"] if row.left_alone else []
    yield f"  {', '.join(counts)}; {_watched(row)}"
    if row.last_merge_ms is not None:
        yield f"  last written by a merge at {_when(row.last_merge_ms)}"
    if row.held:
        yield f"  {_held(row)}"
    yield from _conflict_lines(row)
    yield from _some(list(map(_reason, row.reasons)), row.refused + row.left_alone)
    refused = [f"line of its map refused: {line}: {why}" for line, why in row.refused_lines]
    yield from _some(refused, len(refused))
    others = [f"{name} is at {path}, its own path is taken" for name, path in row.other_paths]
    yield from _some(others, len(others))
    excess = [f"over its budget: {path}: {why}" for path, why in row.excess]
    yield from _some(excess, len(excess))


def reasons_of(row: DirectoryRow) -> Iterator[str]:
    """Give the reasons why a directory is not in step, a line each; nothing when it is."""
    where = row.directory
    if row.problem:
        yield f"{where}: {row.problem}"
    elif not row.is_served:
        yield f"{where}: not kept in step, `phextsync up` does that while it runs"
    elif not row.is_taken_up:
        yield f"{where}: being taken up"
    if row.waiting:
        yield f"{where}: {row.waiting:,} files or scrolls wait"
    if row.held:
        yield f"{where}: {_held(row)}"
    for each in row.reasons:
        yield f"{where}/{each.path}: {each.reason}"
    more = row.refused + row.left_alone - len(row.reasons)
    if more > 0:
        yield f"{where}: {more:,} more files are refused or left alone"
    for line, why in row.refused_lines:
        yield f"{where}: line of its map refused: {line}: {why}"


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_MAX else f"{line[:_LINE_MAX]}..."


def _reason(each: LeftAlone) -> str:
    if each.next_try_ms is None:
        return f"left alone: {each.path}: {each.reason}"
    return f"waiting: {each.path}: {each.reason}; tried again at {_when(each.next_try_ms)}"


def _held(row: DirectoryRow) -> str:
    return (
        f"{row.held:,} files vanished at once: their deletion is held; put them back, or "
        f"`phextsync bind --confirm {row.directory}`"
    )


def _conflict_lines(row: DirectoryRow) -> Iterator[str]:
    count = row.conflicts
    if count:
        word = "conflict" if count == 1 else "conflicts"
        yield f"  {count:,} {word}: see `phextsync conflicts`"


def _watched(row: DirectoryRow) -> str:
    return "watched" if row.watcher == "watching" else row.watcher


def _some(lines: list[str], count: int) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if count > _SHOWN:
        yield f"  and {count - _SHOWN:,} more: `phextsync status --json`"


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).isoformat(" ", "seconds")
