"""What all commands of `phextsync` have in common: options, the folder, printing, errors.

Everything is printed by `say`, `say_json` and `say_text`, which show control characters instead of
sending them (`terminal`), and never by way of rich, which would take names for markup.
"""

import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedWriter, RawIOBase, TextIOWrapper
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Literal, NoReturn, TypeVar, cast

import typer
from rich.cells import cell_len

from phextsync.control.answers import Page, rows_of_pages
from phextsync.control.frames import LOCAL_FRAME_BYTES_MAX
from phextsync.control.operations import Asked, Operation
from phextsync.control.performing import PAGE_ITEMS
from phextsync.durable_files import write_whole
from phextsync.errors import NotHeldError
from phextsync.files import desk as files_desk
from phextsync.files.finding import current_folder, is_coordinate, is_range, whole_path
from phextsync.files.reading import check_file_text
from phextsync.handles.visit import own, visit
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.phext_names import checked_name
from phextsync.plain_files import read_at_most
from phextsync.store.folder import has_store
from phextsync.store.import_note import unfinished_imports
from phextsync.terminal import visible, visible_json, visible_text
from phextsync.trust.private_files import IDENTITY_FILE, PENDING_FILE

if TYPE_CHECKING:
    from rich.progress import Progress

SCROLLS: Final = "Scrolls"
NODE: Final = "This node"
PAST: Final = "The past"
FOLDER: Final = "The data folder"
MESH: Final = "The mesh"
DIRECTORIES: Final = "Directories"

T = TypeVar("T")
_PATIENCE_S: Final = 1.0  # for the other end of a pipe without a word
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def given_before(
    context: typer.Context, parameter: typer.CallbackParam, value: str | Path
) -> str | Path:
    """Return what the option has where it stands nearest: it may stand before the command too.
    PhextsyncError when it names no phext and has to."""
    name = str(parameter.name)
    if name == "phext":
        checked_name(str(value))  # before it is sent to a node, which it could not be
    place = context
    while not _is_given(place, name) and place.parent is not None:
        place = cast("typer.Context", place.parent)  # which has the same methods
    return value if place is context else place.params.get(name, value)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


Data = Annotated[
    Path,
    typer.Option("--data", help="The data folder.", callback=given_before),
]
Phext = Annotated[str, typer.Option("--phext", help="The phext.", callback=given_before)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Place = Annotated[
    str,
    typer.Argument(
        metavar="COORDINATE|FILE",
        help="Such as 1.5.2/3.7.3/9.1.1; or a file of a bound directory, by its path, or by its "
        "name there if only one has it.",
    ),
]
Range = Annotated[
    str,
    typer.Argument(
        metavar="[RANGE]",
        help="A coordinate, a prefix such as '2.*', or A..B; or a bound directory or file.",
    ),
]
Within = Annotated[
    str,
    typer.Option("--range", metavar="RANGE", help="Only there; or a bound directory or file."),
]
DATA: Final = Path("~/.phextsync")
PHEXT: Final = DEFAULT_PHEXT


# -- the folder ----------------------------------------------------------------------------


def existing_folder(data: Path) -> Path:
    """Return the data folder, which must be there, and be one."""
    folder = data.expanduser()
    if not folder.exists():
        fail(f"there is no data folder {folder}; make one with `phextsync init` or `join`")
    if found := _found_instead(folder):
        fail(f"expected a data folder, found {found} {folder}: {_WHERE_TO_GO[found]}")
    return folder


def new_folder(data: Path) -> Path:
    """Return a data folder that is to be made; a folder of something else stays as it is."""
    folder = data.expanduser()
    found = _found_instead(folder) if folder.exists() else ""
    if found not in ("", _EMPTY):
        fail(f"expected a new data folder, found {found} {folder}: {_WHERE_TO_GO[_FOREIGN]}")
    return folder


_EMPTY: Final = "an empty folder at"
_FOREIGN: Final = "other files in"
_FILE: Final = "a file at"
_WHERE_TO_GO: Final = {
    _EMPTY: "name another with --data, or make one there with `phextsync init` or `join`",
    _FOREIGN: "name another with --data",
    _FILE: "name a folder with --data",
}
# In a file system of its own; of a restore that the disk did not take.
_OF_NOBODY: Final = {"lost+found", "store.lock"}


def _found_instead(folder: Path) -> str:
    """Say what is there if it is no data folder, "" if it is one: an identity, a request for one,
    or a store makes it one."""
    if not folder.is_dir():
        return _FILE
    names = (IDENTITY_FILE, PENDING_FILE)
    if has_store(folder) or any((folder / name).exists() for name in names):
        return ""
    return _FOREIGN if {*os.listdir(folder)} - _OF_NOBODY else _EMPTY


def session(
    data: Path, *, writes: bool = False, report: Callable[[str], None] | None = None
) -> AbstractContextManager[Asked]:
    """Ask the node that runs on the folder or, where none does, look into the folder, and own it
    from the first change on; with `writes` from the beginning. `report` is told what is wrong with
    the store, else standard error is."""
    folder = existing_folder(data)
    warn_of_import(folder)
    return (own if writes else visit)(folder, report or warn, warn)


def warn_of_import(folder: Path) -> None:
    """Say which imports into the folder were cut short, if any were."""
    for what in unfinished_imports(folder):
        warn(
            f"an import was cut short: {what}; the same import goes on, "
            "`phextsync import --forget` leaves it as it is"
        )


def pages(asked: Asked, operation: Operation[Page[T]], phext: str, range_: str) -> Iterator[T]:
    """Iterate over the rows of an operation whose answers come in pages."""
    return rows_of_pages(lambda after: operation.ask(asked, phext, range_, after))


def there_is(rows: Iterable[T]) -> tuple[list[T], str]:
    """Return the rows of `pages`, and what is missing of them, "" when nothing is."""
    listed: list[T] = []
    try:
        for row in rows:
            listed.append(row)
    except NotHeldError as error:
        return listed, str(error)
    return listed, ""


# -- arguments -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """The scroll that an argument names, and its file if it is one."""

    phext: str
    coordinate: str
    file: Path | None = None

    def __str__(self) -> str:
        return self.coordinate if self.file is None else shown_path(self.file)


@dataclass(frozen=True, slots=True)
class RangeTarget:
    """The range that an argument names; `below` is a folder if only its files are meant."""

    phext: str
    range: CoordinateRange
    below: Path | None = None


def target(asked: Asked, phext: str, text: str, *, content: str | None = None) -> Target:
    """Return the scroll that an argument names; a file that does not exist yet gets one if
    `content` is to be written there. CoordinateError when it is neither a coordinate nor a bound
    file, PhextsyncError when no file may hold the content."""
    if is_coordinate(text):
        return Target(phext, str(Coordinate.parse(text)))
    if content is not None:  # before there is a name without a text
        check_file_text(text, content)
    operation = files_desk.FIND if content is None else files_desk.NAME_FILE
    file = operation.ask(asked, text, whole_path(text, current_folder()))
    return Target(file.phext, str(file.coordinate), file.directory / file.path)


def range_target(asked: Asked, phext: str, text: str) -> RangeTarget:
    """Return the range that an argument names: also that of a bound directory, a folder in it or a
    file. CoordinateError when it is nothing of these."""
    if is_range(text):
        return RangeTarget(phext, CoordinateRange.parse(text))
    found = files_desk.FIND_RANGE.ask(asked, text, whole_path(text, current_folder()))
    below = found.directory / found.below if found.below else None
    return RangeTarget(found.phext, found.range, below)


def whole_range_target(asked: Asked, phext: str, text: str) -> tuple[str, str]:
    """Return phext and range that an argument names, which has to be a whole range."""
    found = range_target(asked, phext, text)
    if found.below is not None:
        fail(f"expected a range, a bound directory or a file, found the folder {found.below}")
    return found.phext, str(found.range)


def file_names(asked: Asked, phext: str, places: Iterable[Coordinate]) -> dict[str, Path]:
    """Return the files that scrolls are, by their coordinates."""
    coordinates = list(map(str, places))
    found: dict[str, Path] = {}
    for start in range(0, len(coordinates), PAGE_ITEMS):
        some = coordinates[start : start + PAGE_ITEMS]
        paths = files_desk.NAMES.ask(asked, phext, [*some])
        pairs = zip(some, paths, strict=True)
        found.update((place, path) for place, path in pairs if path is not None)
    return found


def shown_path(path: Path) -> str:
    """Return a path as short as it can be given to a command here."""
    for folder, start in ((current_folder(), ""), (os.path.expanduser("~"), "~/")):
        if folder and path.is_relative_to(folder):
            return f"{start}{path.relative_to(folder)}"
    return str(path)


def with_file(line: str, file: Path | None) -> str:
    """Return what is known of a scroll, with the file that it is, if it is one."""
    return line if file is None else f"{shown_path(file)}: {line}"


def text_or_input(text: str) -> str:
    """Return an argument, or for `-` standard input byte for byte: line ends are text."""
    if text != "-":
        return text
    try:
        return bytes_of_file("-", LOCAL_FRAME_BYTES_MAX).decode()
    except UnicodeDecodeError as error:
        fail(f"expected UTF-8 on standard input, found other bytes at offset {error.start}")


def bytes_of_file(file: str, bytes_max: int) -> bytes:
    """Return what a file has, or for `-` standard input; not more than `bytes_max`, where a device
    without an end could be meant."""
    what = "standard input" if file == "-" else file
    source = nullcontext(standard_input()) if file == "-" else None
    try:
        with source or open_waiting(Path(file), "rb") as opened:
            found = read_at_most(opened, bytes_max)
    except OSError as error:  # of reading it names no file
        raise OSError(error.errno, error.strerror, what) from error
    if found is None:
        fail(f"expected at most {bytes_max} bytes of {what}, found more")
    return found


def open_waiting(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a file. Where it is a pipe that has nobody at its other end, say so, and wait."""
    if not path.is_fifo():
        return path.open(mode)
    what = "writes into" if mode == "rb" else "reads"
    telling = Timer(_PATIENCE_S, warn, [f"waiting for a program that {what} the pipe {path}"])
    telling.daemon = True
    telling.start()
    try:
        return path.open(mode)
    finally:
        telling.cancel()


def standard_input() -> BinaryIO:
    """Return standard input, which must be open: what nobody gave is not an empty text."""
    if not sys.stdin.readable():
        fail("expected standard input for -, found it closed; to give nothing, use </dev/null")
    return sys.stdin.buffer


def line_or_input(text: str) -> str:
    """Return an argument, or for `-` what stands on standard input, without its line end: for what
    other users of the machine are not to see among its processes."""
    return text_or_input(text).strip() if text == "-" else text


def read_duration_s(text: str, units: str = "smhd") -> int | None:
    """Read a time such as 30m in one of some units; None when it is nothing such."""
    match = re.fullmatch(rf"(\d{{1,9}})([{units}])", text.strip())
    return None if match is None else int(match[1]) * UNITS_S[match[2]]


# -- printing ------------------------------------------------------------------------------


def say(*lines: str) -> None:
    """Print lines, with their control characters shown."""
    for line in lines:
        print(visible(line))


def say_json(value: object) -> None:
    """Print JSON that a terminal may have too."""
    print(visible_json(value))


def say_text(text: str) -> None:
    """Write a text byte for byte; to a terminal with its control characters shown, and say so."""
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    shown = visible_text(text)
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
    if shown != text:
        warn("control characters are shown, not sent; write to a file or a pipe to have them")


def say_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as they need to be: nothing is cut."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def counted(count: int, what: str) -> str:
    """Return so many of something, the word in its number: 1 scroll, 2 scrolls."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def warn(line: str) -> None:
    """Print a line on standard error."""
    print(visible(line), file=sys.stderr)


def refuse_unused(context: typer.Context, where: str, *names: str) -> None:
    """End the command if its line has one of these options, which would do nothing `where` it is.
    What the environment and config.toml say is for all commands."""
    for what in _on_the_line(context, names):
        fail(f"expected no {what} {where}: there it would do nothing")


def is_on_the_line(context: typer.Context, name: str) -> bool:
    """Whether the command line has an option or argument, and not the environment or a default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _on_the_line(context: typer.Context, names: Sequence[str]) -> Iterator[str]:
    """Iterate over those of some options and arguments that the command line has, as it calls
    them."""
    for each in context.command.params:
        if each.name in names and is_on_the_line(context, each.name):
            yield called(cast("typer.CallbackParam", each))


def called(parameter: typer.CallbackParam) -> str:
    """Return what a command line calls an option or an argument."""
    option = parameter.metavar if parameter.param_type_name == "argument" else None
    return option or max(parameter.opts, key=len)


def again_as(*words: str, phext: str, range_: str = "*") -> str:
    """Return the line of a command that acts on the same phext and range."""
    where = ["--phext", phext] if phext != PHEXT else []
    where += ["--range", range_] if range_ != "*" else []
    return shlex.join(["phextsync", *words, *where])


def fail(reason: str, status: int = 1) -> NoReturn:
    """End the command with one line."""
    warn(f"phextsync: {reason}")
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, of which Python would tell again at the end
        close_output()
    sys.exit(status)


def open_streams() -> None:
    """Make the standard streams what commands expect, however the process was started.

    One that is closed leads nowhere: else the next file that is opened gets its number. Input that
    is closed cannot be read, which is not the same as empty input (`standard_input`). Standard
    output is buffered, also under PYTHONUNBUFFERED: without, Python leaves out what a full disk
    does not take of a text, and says nothing. Names need not be UTF-8, and the locale has no say.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout.buffer, RawIOBase):
        sys.stdout = TextIOWrapper(BufferedWriter(sys.stdout.detach()))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def close_output() -> None:
    """Standard output has nobody who reads it any more: what follows goes nowhere, quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def progress_bars() -> "Progress":
    """Return bars on a terminal's standard error; elsewhere nothing."""
    from rich import console, progress  # a node without a terminal keeps 2 MB less in memory

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console.Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=True,
        disable=not is_terminal(),
    )


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is."""
    with progress_bars() as progress:
        task = progress.add_task(visible(name), total=None)

        def show(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        yield show


def write_output(file: str, data: bytes) -> None:
    """Write a file whole or not at all, with the rights of one that is there; for `-` standard
    output. What is no file, such as a pipe, is written into. OSError names the file."""
    if file == "-":
        sys.stdout.buffer.write(data)
        return
    path = Path(file).expanduser().resolve()
    try:
        if path.exists() and not path.is_file():
            with open_waiting(path, "wb") as opened:
                opened.write(data)
        else:
            write_whole(path, data, _mode_of(path))
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from error


def _mode_of(path: Path) -> int:
    """Return the rights of a file, or those that a new one gets."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def is_terminal() -> bool:
    """Whether bars are seen."""
    return sys.stderr.isatty()
