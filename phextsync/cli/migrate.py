"""The commands that bring here what other programs kept."""

from pathlib import Path
from typing import Annotated, Final

import typer

from phextsync.cli.common import DIRECTORIES, counted, fail, say, warn
from phextsync.errors import DirectoryError, TextError
from phextsync.migrations.conflict_copies import Merge, carry_out, find_copies, merge

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
    if not directory:
        fail("expected a directory, found ''")
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


def _told(planned: Merge, *, is_done: bool) -> str:
    """Say in a line what becomes of a copy, or became of it."""
    how = ", by a version of before" if planned.base else ""
    if planned.merged == planned.text:
        how = ", with nothing new"
    return f"{planned.copy}: {'merged' if is_done else 'to merge'} into {planned.path}{how}"
