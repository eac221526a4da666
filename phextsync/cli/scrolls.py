"""The commands that read and write scrolls."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from phextsync import phextfile
from phextsync.agents.part_names import PartNames, names_of
from phextsync.agents.plans import carry_out
from phextsync.cli.common import (
    DATA,
    PHEXT,
    SCROLLS,
    Data,
    Json,
    Phext,
    Place,
    Range,
    bytes_of_file,
    counted,
    existing_folder,
    fail,
    file_names,
    pages,
    progress_bars,
    range_target,
    refuse_unused,
    say,
    say_json,
    say_text,
    session,
    shown_path,
    target,
    text_or_input,
    there_is,
    warn,
    whole_range_target,
    with_file,
    write_output,
)
from phextsync.cli.running import Command
from phextsync.control import operations
from phextsync.control.answers import ListedScroll, NearScroll, ToldChange
from phextsync.control.client import Attachment
from phextsync.control.frames import Value
from phextsync.control.sockets import ABSENT
from phextsync.errors import StoreError
from phextsync.handles.visit import Alone
from phextsync.plain_values import read_json
from phextsync.store.import_note import ImportNote, forget_imports
from phextsync.terminal import visible, visible_json

app = typer.Typer()

Keep = Annotated[bool, typer.Option("--keep", help="Leave scrolls alone that have text.")]
Scrolls = list[tuple[str, str]]
_IMPORT_BYTES: Final = 256 << 10
_COMMAND_S: Final = 600.0


@app.command(rich_help_panel=SCROLLS)
def get(coordinate: Place, data: Data = DATA, phext: Phext = PHEXT) -> None:
    """Print a scroll's text."""
    with session(data) as asked:
        at = target(asked, phext, coordinate)
        text = operations.GET.ask(asked, at.phext, at.coordinate)
    if text is None:
        fail(f"there is no scroll at {at} in {at.phext}")
    say_text(text)


@app.command(name="set", rich_help_panel=SCROLLS)
def set_(
    coordinate: Place,
    text: Annotated[str, typer.Argument(help="The new text; '-' reads it from standard input.")],
    data: Data = DATA,
    phext: Phext = PHEXT,
) -> None:
    """Make TEXT the scroll's text by the smallest change."""
    text = text_or_input(text)
    with session(data) as asked:
        at = target(asked, phext, coordinate, content=text or None)
        operations.SET.ask(asked, at.phext, at.coordinate, text)


@app.command(rich_help_panel=SCROLLS)
def append(
    coordinate: Place,
    text: Annotated[str, typer.Argument(help="What to add; '-' reads it from standard input.")],
    data: Data = DATA,
    phext: Phext = PHEXT,
) -> None:
    """Add TEXT at the end of a scroll, as a line of its own."""
    text = text_or_input(text)
    with session(data) as asked:
        at = target(asked, phext, coordinate, content=text)
        operations.APPEND_LINE.ask(asked, at.phext, at.coordinate, text)


@app.command(rich_help_panel=SCROLLS)
def rm(coordinate: Place, data: Data = DATA, phext: Phext = PHEXT) -> None:
    """Delete a scroll; what others type in it meanwhile survives."""
    with session(data) as asked:
        at = target(asked, phext, coordinate)
        if not operations.REMOVE.ask(asked, at.phext, at.coordinate):
            fail(f"there is no scroll at {at} in {at.phext}")


@app.command(rich_help_panel=SCROLLS)
def ls(range_: Range = "*", data: Data = DATA, phext: Phext = PHEXT, as_json: Json = False) -> None:
    """List the scrolls in a range: coordinate, bytes, file if it is one, first line."""
    with session(data) as asked:
        within = range_target(asked, phext, range_)
        rows, missing = there_is(pages(asked, operations.LIST, within.phext, str(within.range)))
        files = file_names(asked, within.phext, (row.coordinate for row in rows))
        names = carry_out(asked, names_of(within.phext))
    if within.below is not None:
        rows = [row for row in rows if _is_below(files.get(str(row.coordinate)), within.below)]
    if as_json:
        say_json([_with_names(_with_file(_listed_row(row), files), row, names) for row in rows])
    else:
        width = max((len(str(row.coordinate)) for row in rows), default=0)
        for row in rows:
            what = with_file(row.first_line, files.get(str(row.coordinate)))
            if called := names.path(row.coordinate):
                what = f"{called}: {what}"
            say(f"{row.coordinate!s:{width}}  {row.size:>9}  {what}")
    if missing:
        fail(missing)
    if not rows and not as_json:
        warn(f"no scrolls in {range_} of {within.phext}")


def _listed_row(row: ListedScroll | NearScroll) -> dict[str, object]:
    return {"coordinate": str(row.coordinate), "bytes": row.size, "first_line": row.first_line}


def _is_below(file: Path | None, folder: Path) -> bool:
    return file is not None and file.is_relative_to(folder)


def _with_file(row: dict[str, object], files: Mapping[str, Path]) -> dict[str, object]:
    """Return a row that also names the file that its scroll is, if it is one."""
    file = files.get(str(row["coordinate"]))
    return row if file is None else {**row, "file": str(file)}


def _with_names(told: dict[str, object], row: ListedScroll, names: PartNames) -> dict[str, object]:
    """Return what is told of a scroll, with the names on the way to it, if there are any."""
    called = names.path(row.coordinate)
    return {**told, "names": called} if called else told


@app.command(rich_help_panel=SCROLLS)
def near(
    coordinate: Place,
    count: Annotated[int, typer.Option(help="How many at most, up to 2,000.")] = 40,
    range_: Annotated[str, typer.Option("--range", help="Only this range.")] = "*",
    data: Data = DATA,
    phext: Phext = PHEXT,
    others: Annotated[
        bool, typer.Option("--others", help="Leave out the scroll at the coordinate itself.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the nearest scrolls: distance, coordinate, file if it is one, first line.

    The distance is what the nine numbers differ by in all.
    """
    with session(data) as asked:
        at = target(asked, phext, coordinate)
        name, within = whole_range_target(asked, at.phext, range_)
        if name != at.phext:
            fail(f"expected a range of {at.phext}, where {at} is, found one of {name}")
        found = operations.NEAR.ask(asked, name, within, at.coordinate, count, not others)
        rows, missing = found.hits, "; ".join(found.missing)
        files = file_names(asked, name, (row.coordinate for row in rows))
    if as_json:
        named = [{"distance": row.distance, **_listed_row(row)} for row in rows]
        say_json([_with_file(each, files) for each in named])
    else:
        width = max((len(str(row.coordinate)) for row in rows), default=0)
        for row in rows:
            what = with_file(row.first_line, files.get(str(row.coordinate)))
            say(f"{row.distance:>5}  {row.coordinate!s:{width}}  {what}")
    if missing:
        fail(missing)
    if not rows and not as_json:
        warn(f"no {'other ' if others else ''}scrolls in {range_} of {name}")


@app.command(rich_help_panel=SCROLLS)
def search(
    words: Annotated[
        str,
        typer.Argument(
            help='All of them; "a phrase" in quotation marks, beginnings as wor*, | for or, '
            "~ for a rough answer where many scrolls have them."
        ),
    ],
    range_: Annotated[str, typer.Option("--range", help="Only this range.")] = "*",
    data: Data = DATA,
    phext: Phext = PHEXT,
    limit: Annotated[int, typer.Option(help="How many results at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Find the scrolls that have all the words, the best first: coordinate, score, snippet."""
    with session(data) as asked:
        phext, within = whole_range_target(asked, phext, range_)
        found = operations.SEARCH.ask(asked, phext, within, words, limit)
        hits, missing = found.hits, "; ".join(found.missing)
        files = file_names(asked, phext, (hit.coordinate for hit in hits))
    if as_json:
        rows: list[dict[str, object]] = [
            {"coordinate": str(hit.coordinate), "score": hit.score, "snippet": hit.snippet}
            for hit in hits
        ]
        say_json([_with_file(row, files) for row in rows])
    else:
        width = max((len(str(hit.coordinate)) for hit in hits), default=0)
        for hit in hits:
            what = with_file(" ".join(hit.snippet.split()), files.get(str(hit.coordinate)))
            say(f"{hit.coordinate!s:{width}}  {hit.score:6.2f}  {what}")
    if missing:
        fail(missing)
    if not hits and not as_json:
        fail(f"no scroll in {range_} of {phext} has {words!r}")


@app.command(name="import", rich_help_panel=SCROLLS)
def import_(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE.phext", help="'-' is standard input.", show_default=False)
    ] = "",
    data: Data = DATA,
    phext: Phext = PHEXT,
    keep: Keep = False,
    clamp: Annotated[
        bool, typer.Option("--clamp", help="Read breaks beyond 999 as 999 and join what collides.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Leave imports that were cut short as they are.")
    ] = False,
) -> None:
    """Read a .phext file: the file wins at its own coordinates, others stay as they are.

    A file has at most 512 MiB, as one of SQ.
    """
    folder = existing_folder(data)
    if forget:
        refuse_unused(context, "with --forget", "file", "keep", "clamp")
        forget_imports(folder)
        return
    if not file:
        fail("expected a file to import, or '-' for standard input")
    scrolls = scrolls_of(bytes_of_file(file, phextfile.FILE_BYTES_MAX), clamp=clamp)
    import_scrolls(data, {phext: scrolls}, file, keep=keep)


def scrolls_of(found: bytes, *, clamp: bool) -> Scrolls:
    """Return coordinates and texts of a .phext file, and say what was joined."""
    parsed = phextfile.read(found, clamp=clamp)
    for collision in parsed.collisions:
        warn(f"{collision.texts} texts beyond 999 were joined at {collision.coordinate}")
    return [(str(coordinate), text) for coordinate, text in parsed.joined().items()]


def import_scrolls(data: Path, found: Mapping[str, Scrolls], source: str, *, keep: bool) -> None:
    """Import the scrolls of phexts, with `keep` those that have no text yet, and say how many were
    taken."""
    told: list[str] = []
    what = f"{source} into {', '.join(found)}"
    with session(data, writes=any(found.values())) as asked, progress_bars() as progress:
        # Where no node runs a phext is one commit; a node has others to serve meanwhile.
        chunk_bytes = None if isinstance(asked, Alone) else _IMPORT_BYTES
        is_in_pieces = chunk_bytes is not None or len(found) > 1
        with ImportNote(existing_folder(data), what) as note:
            for phext, scrolls in found.items():
                bar = progress.add_task(visible(f"importing {source}"), total=len(scrolls))
                taken = 0
                for chunk in _chunks(scrolls, chunk_bytes):
                    try:
                        taken += operations.IMPORT.ask(asked, phext, keep, chunk)
                    except StoreError:  # a node that stopped may have taken it
                        note.has_begun |= is_in_pieces
                        raise
                    note.has_begun |= is_in_pieces
                    progress.advance(bar, len(chunk))
                told.append(f"{taken} of {counted(len(scrolls), 'scroll')} imported into {phext}")
    for line in told:
        warn(line)


def _chunks(scrolls: Scrolls, bytes_max: int | None) -> Iterator[list[Value]]:
    chunk: list[Value] = []
    size = 0
    for coordinate, text in scrolls:
        chunk.append([coordinate, text])
        size += len(text) + 40
        if bytes_max is not None and size >= bytes_max:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@app.command(rich_help_panel=SCROLLS)
def export(
    file: Annotated[str, typer.Argument(metavar="FILE.phext", help="'-' is standard output.")],
    data: Data = DATA,
    phext: Phext = PHEXT,
    range_: Annotated[str, typer.Option("--range", help="Only this range.")] = "*",
) -> None:
    """Write the scrolls to a .phext file."""
    damages: list[str] = []
    with session(data, report=damages.append) as asked:
        phext, range_ = whole_range_target(asked, phext, range_)
        scrolls, missing = there_is(pages(asked, operations.READ, phext, range_))
    replaced = sum(phextfile.has_breaks(text) for _, text in scrolls)
    if replaced:
        what = counted(replaced, "scroll")
        warn(f"break characters or zero bytes of {what} are written as pictures")
    text = phextfile.implode(scrolls)
    if file == "-":
        say_text(text)
    else:
        write_output(file, text.encode())
        warn(f"{counted(len(scrolls), 'scroll')} of {phext} written to {file}")
    if missing:
        fail(missing)
    if damages:
        fail(f"what is damaged is not in the export: {'; '.join(damages)}")


@app.command(rich_help_panel=SCROLLS)
def watch(
    context: typer.Context,
    range_: Range = "*",
    data: Data = DATA,
    phext: Phext = PHEXT,
    as_json: Json = False,
    command: Annotated[
        str | None,
        typer.Option("--exec", metavar="COMMAND", help="Run this for each line of --json."),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option("--exec-limit", min=0.1, help=f"Seconds until it is ended: {_COMMAND_S:g}."),
    ] = None,
) -> None:
    """Print a line for each change in a range until interrupted, and one when some were missed.

    With --exec a shell runs a command for each instead, one at a time, with the line of --json on
    its standard input and PHEXTSYNC_PHEXT and PHEXTSYNC_COORDINATE set. What changes meanwhile
    waits; a scroll that changes again before its turn waits once. A command that fails is one line
    and ends nothing; one that runs for longer than --exec-limit is ended with all that it started.
    """
    if command is None:
        refuse_unused(context, "without --exec", "limit")
    if command is not None and not command.strip():
        fail(f"expected a command of the shell after --exec, found {command!r}")
    runner = None if command is None else Command(command, limit or _COMMAND_S, warn)
    folder = existing_folder(data)
    try:
        attachment = Attachment(folder)
    except ABSENT:
        fail(f"no node runs on {folder}; start one with `phextsync up`")
    with attachment:
        phext, range_ = whole_range_target(attachment, phext, range_)
        next_change = attachment.watch(phext, range_)
        while True:
            change = next_change()
            if change is None:
                return
            files = file_names(attachment, phext, [scroll.coordinate for scroll in change.scrolls])
            for line in _change_lines(change, files, as_json=as_json or bool(runner)):
                if runner:
                    told = {
                        "PHEXTSYNC_PHEXT": phext,
                        "PHEXTSYNC_COORDINATE": read_json(line).get("coordinate", ""),
                    }
                    runner.run(line, told)
                else:
                    print(line, flush=True)


def _change_lines(change: ToldChange, files: Mapping[str, Path], *, as_json: bool) -> Iterator[str]:
    """Give a line for each scroll of a change, and one when some were missed."""
    if change.missed is not None:
        text = f"changes were missed: anything in {change.missed} may have changed"
        yield visible_json({"missed": str(change.missed)}) if as_json else text
        return
    whose = change.origin.hex() if change.origin else ""
    who = " ".join(filter(None, (whose[:8] or "here", change.label)))
    for scroll in change.scrolls:
        coordinate = str(scroll.coordinate)
        if as_json:
            row = {"coordinate": coordinate, "bytes": scroll.size, "origin": whose}
            named = _with_file({**row, "label": change.label}, files)
            yield visible_json({**named, "missed": None})
        else:
            file = files.get(coordinate)
            what = "" if file is None else f"  {shown_path(file)}"
            yield visible(f"{coordinate}  {scroll.size:>9}  {who}{what}")
