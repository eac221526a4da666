"""The commands that bring here what other programs kept."""

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from phextsync.cli.common import (
    DATA,
    DIRECTORIES,
    PHEXT,
    Data,
    Phext,
    counted,
    existing_folder,
    fail,
    line_or_input,
    pages,
    refuse_unused,
    say,
    session,
    warn,
)
from phextsync.cli.scrolls import Keep, import_scrolls, scrolls_of
from phextsync.control import operations
from phextsync.control.brought import Brought, brought_to, note
from phextsync.errors import DirectoryError, TextError
from phextsync.files.names import range_of
from phextsync.handles.visit import Alone
from phextsync.migrations import sq_phexts
from phextsync.migrations.bringing import Bringing, Outcome, Versions
from phextsync.migrations.conflict_copies import Merge, carry_out, find_copies, merge
from phextsync.migrations.file_histories import FileHistory
from phextsync.migrations.git_files import Left, Reads, Versioned, files_of, marks_of, versioned
from phextsync.migrations.git_repository import open_repository
from phextsync.phext_names import checked_name
from phextsync.store.import_note import ImportNote
from phextsync.trust.identity import NodeIdentity

app = typer.Typer()
migrate_app = typer.Typer(help="Bring here what Syncthing, git or SQ kept.")
app.add_typer(migrate_app, name="migrate", rich_help_panel=DIRECTORIES, no_args_is_help=True)

_Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown.")]
_DO_IT: Final = "nothing is changed yet: --yes does it"


@migrate_app.command()
def syncthing(
    directory: Annotated[str, typer.Argument(help="A directory that Syncthing kept.")],
    yes: _Yes = False,
) -> None:
    """Merge the conflict copies of Syncthing into their files.

    Where .stversions has what both were made of, the change of the copy is made in the file too;
    else the file gets each line of the copy that it lacks. The copies, and the file as it was, are
    moved to .phextsync-backups. What is no text stays as it is, and the status is 1 then.
    """
    top = Path(directory).expanduser().absolute()
    copies = [(path, copy) for path, of in find_copies(top).items() for copy in of]
    left = 0
    for path, copy in copies:
        try:
            planned = merge(top, path, copy)
            if yes:
                carry_out(top, planned)
        except (DirectoryError, TextError) as error:
            left += 1
            warn(f"left as it is: {error}")
        except OSError as error:
            left += 1
            warn(f"left as it is: {copy}: {error.strerror}")
        else:
            say(_told(planned, is_done=yes))
    if not copies:
        warn(f"no conflict copies in {directory}")
    elif left < len(copies) and not yes:
        say(_DO_IT)
    if left:
        fail(f"{left} of {counted(len(copies), 'conflict')} left as they are")


@migrate_app.command()
def git(
    repository: Annotated[str, typer.Argument(help="A working tree, or a bare repository.")],
    at: Annotated[str, typer.Option(help="A prefix with four free parts, such as '7.*'.")],
    yes: _Yes = False,
    data: Data = DATA,
    phext: Phext = PHEXT,
) -> None:
    """Bring the files of a git repository, with their history.

    What each commit changed is a version, by its author and of its time. History is kept in the
    range from then on. The repository stays as it is, and nothing of its configuration is used. On
    one machine, where no node runs: others get it from there, and are told so if they bring another
    commit. Files that have text already are left alone, and so are those that were brought before
    and deleted here since: the same command goes on if it was cut short.
    """
    folder, range_ = existing_folder(data), range_of(at)
    with open_repository(Path(repository).expanduser()) as opened, opened.objects() as read:
        found, left = files_of(opened, read)
        if yes:
            with session(data, writes=True) as asked:
                if not isinstance(asked, Alone):
                    fail(f"a node runs on {folder}: stop it, and start it when this is done")
                here = brought_to(asked.replicas, phext, range_)
                _tell_brought(here, opened.head, asked.replicas.node_id, str(range_))
                with ImportNote(folder, f"{repository} into {range_} of {phext}") as unfinished:
                    bringing = Bringing(asked.replicas, phext, range_)
                    unfinished.has_begun = True
                    note(asked.replicas, phext, range_, opened.head, NodeIdentity.load(folder).name)
                    left += _bring(bringing, found, read)
        else:
            say(*(_told_of(versioned(history, read)) for history in found))
    for each in left:
        warn(f"left in git: {each.path}: {each.reason}")
    if not yes:
        say(_DO_IT)


def _tell_brought(here: list[Brought], commit: str, node_id: bytes, where: str) -> None:
    """Say which other machine brought something there. If it was another commit, end the command,
    unless this machine goes on with its own."""
    is_begun = any((each.node_id, each.commit) == (node_id, commit) for each in here)
    for each in here:
        if each.node_id == node_id:
            continue
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.time_ms // 1000))
        told = f"{where} was brought by {each.name} at {when}"
        if each.commit == commit:
            warn(f"{told}, of the same commit: what both bring is there once")
        elif is_begun:
            warn(f"{told}, of another commit: a file that both bring may have both texts")
        else:
            fail(f"{told}, and comes from there: to bring another commit, take another range")


def _bring(bringing: Bringing, found: list[FileHistory], read: Reads) -> list[Left]:
    """Bring files, and say so; return what is not brought."""
    left: list[Left] = []
    histories = {history.file.path: history for history in found}

    def read_versions(path: str) -> Versions:
        file = versioned(histories[path], read)
        return file.text, file.versions

    marks = {path: marks_of(history.file) for path, history in histories.items()}
    bringing.name(marks, read_versions)
    for history in found:
        file = versioned(history, read)
        outcome = bringing.bring(file.path, file.text, file.versions)
        if outcome is Outcome.OTHER:
            left.append(Left(file.path, "its scroll has another text"))
        else:
            say(f"{_told_of(file)}, {outcome.value}")
    return left


def _told_of(file: Versioned) -> str:
    """Say in a line what is known of a file."""
    authors = len({version.author for version in file.versions})
    told = f"{file.path}: {counted(len(file.versions), 'version')} by {counted(authors, 'author')}"
    others = f", without {file.passed_over} that are no text" if file.passed_over else ""
    return told + others


@migrate_app.command()
def sq(
    context: typer.Context,
    where: Annotated[
        str, typer.Argument(help="http://HOST:PORT of a server, its folder, or a .phext file.")
    ],
    names: Annotated[
        list[str] | None, typer.Argument(help="Which phexts; of a folder, all unless told.")
    ] = None,
    yes: _Yes = False,
    data: Data = DATA,
    keep: Keep = False,
    token: Annotated[
        str,
        typer.Option(
            envvar="PHEXTSYNC_SQ_TOKEN", help="What the server asks for; '-' is standard input."
        ),
    ] = "",
) -> None:
    """Bring the phexts of SQ, each under its name.

    A server is only read; name phexts that it has, since it makes an empty file of each other. What
    is here at the same coordinates is replaced, as `import` does it, unless --keep.
    """
    existing_folder(data)
    if sq_phexts.is_server(where):
        if not names:
            fail("expected the names of phexts: a server of SQ does not tell which it has")
        shown = line_or_input(token)
        found = {name: sq_phexts.fetch(where, name, shown) for name in names}
    else:
        refuse_unused(context, "without the http:// address of a server", "token")
        found = sq_phexts.files(Path(where).expanduser(), names or ())
    read = {checked_name(name): scrolls_of(found[name], clamp=True) for name in found}
    if yes:
        import_scrolls(data, read, where, keep=keep)
    else:
        for name, scrolls in read.items():
            say(_compared(data, name, scrolls))
        say(_DO_IT)


def _compared(data: Path, phext: str, scrolls: list[tuple[str, str]]) -> str:
    """Say in a line how scrolls differ from those that are here."""
    with session(data) as asked:
        here = {str(place): text for place, text in pages(asked, operations.READ, phext, "*")}
    new = sum(place not in here for place, _ in scrolls)
    same = sum(here.get(place) == text for place, text in scrolls)
    others = len(scrolls) - new - same
    return f"{phext}: {counted(len(scrolls), 'scroll')}, {new} new, {same} as here, {others} others"


def _told(planned: Merge, *, is_done: bool) -> str:
    """Say in a line what becomes of a copy, or became of it."""
    how = ", by a version of before" if planned.base else ""
    if planned.merged == planned.text:
        how = ", with nothing new"
    return f"{planned.copy}: {'merged' if is_done else 'to merge'} into {planned.path}{how}"
