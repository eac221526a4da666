"""The commands about the past of scrolls: what was written when and by whom, and what is kept."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from phextsync.cli.common import (
    DATA,
    PAST,
    PHEXT,
    UNITS_S,
    Data,
    Json,
    Phext,
    Place,
    RangeTarget,
    counted,
    fail,
    file_names,
    is_on_the_line,
    range_target,
    read_duration_s,
    refuse_unused,
    say,
    say_json,
    say_text,
    session,
    shown_path,
    target,
    warn,
    whole_range_target,
)
from phextsync.cli.writers import (
    NodeNames,
    is_one_of,
    json_row,
    read_time_ms,
    told_time,
    told_writers,
)
from phextsync.control import operations
from phextsync.control.frames import Value
from phextsync.control.operations import Asked
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.past import FOREVER, NOT_KEPT, DeletedScroll, newest_first, to_restore

app = typer.Typer()

At = Annotated[
    str,
    typer.Option(
        help="A time, such as '2026-02-28 09:30' (local) or with +01:00, or 2h or 3d ago."
    ),
]

By = Annotated[
    str,
    typer.Option(metavar="NODE[/WRITER]", help="Only what this node wrote, or one label there."),
]

_AT_ONCE: Final = 256 << 10
_KEPT_WORDS: Final = {"forever": FOREVER, "none": 0, "default": None}


@app.command(rich_help_panel=PAST)
def log(
    coordinate: Place,
    data: Data = DATA,
    phext: Phext = PHEXT,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many changes.")] = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Print the changes of a scroll that are kept, newest last: time, node, what changed.

    Times are those of the clock of the node that wrote; what came late, by a comparison, did not
    bring its time: then it is when it was seen here.
    """
    with session(data) as asked:
        at = target(asked, phext, coordinate)
        names = NodeNames(asked, data)
        rows = operations.LOG.ask(asked, at.phext, at.coordinate, None if by else last)
        if by:
            writer = names.writer(by)
            rows = [row for row in rows if is_one_of(writer, row.writers, row.labels)]
            rows = rows[-(last or 0) :]
        file = file_names(asked, at.phext, [Coordinate.parse(at.coordinate)]).get(at.coordinate)
    if as_json:
        named = {} if file is None else {"file": str(file)}
        say_json([{**json_row(asdict(row), names), **named} for row in rows])
        return
    if file is not None:
        warn(f"{at.coordinate} of {at.phext} is {shown_path(file)}")
    for row in rows:
        by = told_writers(row.writers, row.seen_here, names, row.labels)
        change = f"+{row.added} -{row.removed}"
        say(f"{told_time(row.time_ms)}  {by}  {change}  {row.line_number}: {row.line}")
    if not rows:
        warn(f"no changes of {at} of {at.phext} are kept")


@app.command(rich_help_panel=PAST)
def blame(
    coordinate: Place,
    data: Data = DATA,
    phext: Phext = PHEXT,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Print each line with the node that wrote its newest characters, its writer there, and when.

    Times are those of the clock of the node that wrote; '*' marks when it was seen here.
    """
    with session(data) as asked:
        at = target(asked, phext, coordinate)
        names = NodeNames(asked, data)
        lines = operations.BLAME.ask(asked, at.phext, at.coordinate)
        if by:
            writer = names.writer(by)
            lines = [line for line in lines if is_one_of(writer, (line.writer,), (line.label,))]
    if as_json:
        say_json([json_row(asdict(line), names) for line in lines])
        return
    if not lines:
        warn(f"there is no text {f'of {by} ' if by else ''}at {at} in {at.phext}")
    heads = []
    for line in lines:
        mark = "*" if line.seen_here else " "
        when = "before the kept history" if line.time_ms is None else told_time(line.time_ms)
        who = told_writers((line.writer,) if line.writer else (), False, names, (line.label,))
        heads.append((who, f"{when}{mark}"))
    widths = [max(map(len, column)) for column in zip(*heads, strict=True)]
    for (who, when), line in zip(heads, lines, strict=True):
        say(f"{who:{widths[0]}}  {when:{widths[1]}} {line.text.expandtabs()}")


@app.command(rich_help_panel=PAST)
def show(coordinate: Place, at: At, data: Data = DATA, phext: Phext = PHEXT) -> None:
    """Print a scroll as it was, by the clocks of the nodes that wrote it."""
    time_ms = read_time_ms(at)
    with session(data) as asked:
        place = target(asked, phext, coordinate)
        text = operations.SHOW.ask(asked, place.phext, place.coordinate, time_ms)
    if not text:
        warn(f"{place} of {place.phext} had no text then")
    say_text(text)


@app.command(name="versions", rich_help_panel=PAST)
def versions_(
    coordinate: Place,
    data: Data = DATA,
    phext: Phext = PHEXT,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many versions.")] = None,
    as_json: Json = False,
) -> None:
    """Print the versions of a scroll, newest last: time, node, bytes, lines that came and went.

    Times are those of the clock of the node that wrote; `show` and `restore` take them.
    """
    with session(data) as asked:
        at = target(asked, phext, coordinate)
        rows = operations.VERSIONS.ask(asked, at.phext, at.coordinate, last)
        names = NodeNames(asked, data)
        if not rows and not _is_kept(asked):
            fail(NOT_KEPT)
    if as_json:
        say_json([json_row(asdict(row), names) for row in rows])
        return
    for row in rows:
        by = told_writers(row.writers, row.seen_here, names)
        say(f"{told_time(row.time_ms)}  {by}  {row.size} bytes  +{row.added} -{row.removed}")


def restore_at(coordinate: str, at: str, data: Path, phext: str) -> None:
    """Make the text that a scroll had at a time its text of now."""
    time_ms = read_time_ms(at)
    with session(data) as asked:
        place = target(asked, phext, coordinate)
        text = operations.SHOW.ask(asked, place.phext, place.coordinate, time_ms)
        to_restore(place.phext, Coordinate.parse(place.coordinate), text)
        operations.IMPORT.ask(asked, place.phext, False, [[place.coordinate, text]])
    warn(f"{place} is as it was at {told_time(time_ms)}: {len(text.encode())} bytes")


# -- what was deleted ----------------------------------------------------------------------


@app.command(rich_help_panel=PAST)
def undelete(
    context: typer.Context,
    range_: Annotated[
        str,
        typer.Argument(
            metavar="[RANGE|FILE]",
            help="What to bring back, also a file or a folder of a bound directory by its path; "
            "without it, list what can be.",
            show_default=False,
        ),
    ] = "",
    data: Data = DATA,
    phext: Phext = PHEXT,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the text that a scroll has by now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring back the last text of deleted scrolls, or list those that have one, newest first."""
    if range_:
        refuse_unused(context, "with what to bring back", "as_json")
    else:
        refuse_unused(context, "without what to bring back", "force")
    with session(data) as asked:
        if range_:
            _bring_back(asked, range_target(asked, phext, range_), force=force)
            return
        rows = newest_first(_deleted(asked, phext, "*"))
        names = NodeNames(asked, data)
        files = file_names(asked, phext, [row.coordinate for row in rows])
        is_kept = _is_kept(asked)
    if as_json:
        named = [
            {
                **json_row(asdict(row), names),
                "coordinate": str(row.coordinate),
                "file": None if (file := files.get(str(row.coordinate))) is None else str(file),
            }
            for row in rows
        ]
        say_json(named)
        return
    for row in rows:
        by = told_writers((row.writer,) if row.writer else (), row.seen_here, names)
        file = files.get(str(row.coordinate))
        what = " ".join([str(row.coordinate), *([] if file is None else [shown_path(file)])])
        say(f"{told_time(row.time_ms)}  {by}  {what}  {row.size} bytes  {row.first_line}")
    if not rows:
        warn(f"nothing was deleted that is kept{'' if is_kept else f'; {NOT_KEPT}'}")


def _bring_back(asked: Asked, found: RangeTarget, *, force: bool) -> None:
    """Make the last text of the deleted scrolls in a range their text again."""
    phext, range_ = found.phext, found.range
    is_one = range_ == CoordinateRange.of(range_.lower)
    if force and not is_one:
        fail(f"expected one coordinate with --force, found the range {range_}")
    if is_one and not force and operations.SIZE.ask(asked, phext, str(range_)):
        fail(f"{range_} of {phext} has text; --force replaces it by what was deleted")
    places = (
        [range_.lower]
        if is_one
        else [row.coordinate for row in _deleted(asked, phext, str(range_))]
    )
    if found.below is not None:
        files = file_names(asked, phext, places)
        below = {at for at, path in files.items() if path.is_relative_to(found.below)}
        places = [place for place in places if str(place) in below]
    taken, some, size = 0, list[Value](), 0
    for i, place in enumerate(places):
        text = operations.DELETED.ask(asked, phext, str(place))
        some.append([str(place), text])
        size += len(text)
        if size >= _AT_ONCE or i + 1 == len(places):
            taken += operations.IMPORT.ask(asked, phext, not force, some)
            some, size = [], 0
    if not places and not _is_kept(asked):
        fail(NOT_KEPT)
    warn(f"{counted(taken, 'scroll')} brought back")


def _deleted(asked: Asked, phext: str, range_: str) -> Iterator[DeletedScroll]:
    """Give what can be brought back, in the order of coordinates."""
    rest: str | None = range_
    while rest is not None:
        page = operations.UNDELETABLE.ask(asked, phext, rest)
        yield from page.found
        rest = page.rest


# -- how long it is kept -------------------------------------------------------------------


@app.command(rich_help_panel=PAST)
def history(
    context: typer.Context,
    range_: Annotated[
        str,
        typer.Argument(
            metavar="[RANGE]", help="Only for this range.", show_default="the whole folder"
        ),
    ] = "",
    keep: Annotated[
        str,
        typer.Option(
            help="How long: 30d, 12h, forever; none forgets what is kept; default ends the setting "
            "of a range."
        ),
    ] = "",
    data: Data = DATA,
    phext: Phext = PHEXT,
    as_json: Json = False,
) -> None:
    """Say, or set, how long this folder keeps the history of its scrolls.

    Where ranges with settings overlap, the smallest counts.
    """
    is_part = bool(range_) or _is_phext_given(context)
    if not keep and is_part:
        fail("expected --keep with a range or a phext, such as --keep 30d")
    kept_ms = _kept_ms(keep) if keep else None
    with session(data) as asked:
        if is_part:
            phext, place = whole_range_target(asked, phext, range_ or "*")
            operations.KEEP_HISTORY.ask(asked, kept_ms, phext, place, False)
        elif kept_ms is not None:
            operations.KEEP_HISTORY.ask(asked, kept_ms)
        elif keep:
            fail("expected a range or a phext whose setting ends, found neither")
        rows = operations.HISTORY.ask(asked)
    if as_json:
        say_json([{"phext": p, "range": str(r), "kept_ms": ms} for p, r, ms in rows])
        return
    for row in rows:
        where = "history" if row.phext is None else f"in {row.range} of {row.phext} it"
        say(f"{where} is {_kept_for(row.kept_ms)}")


def _is_phext_given(context: typer.Context) -> bool:
    """Whether the command line names a phext. The environment does so for all that need one."""
    contexts = (context, *(() if context.parent is None else (context.parent,)))
    return any(is_on_the_line(place, "phext") for place in contexts)


def _kept_ms(text: str) -> int | None:
    """Read how long to keep history; None: as where there is no setting."""
    seconds = read_duration_s(text, "hd")
    if seconds is not None:
        return 1000 * seconds
    if text not in _KEPT_WORDS:
        fail(
            "expected a time such as 30d or 12h, 'forever', 'none' or 'default', "
            f"found {text!r:.40}"
        )
    return _KEPT_WORDS[text]


def _kept_for(kept_ms: int) -> str:
    if kept_ms == 0:
        return "not kept, but for the latest changes"
    if kept_ms == FOREVER:
        return "kept forever"
    unit = "day" if kept_ms % (1000 * UNITS_S["d"]) == 0 else "hour"
    count = kept_ms / (1000 * UNITS_S[unit[0]])
    return f"kept for {count:.12g} {unit}{'' if count == 1 else 's'}"


def _is_kept(asked: Asked) -> bool:
    return any(row.kept_ms for row in operations.HISTORY.ask(asked))
