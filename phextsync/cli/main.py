"""The phextsync command: a thin layer over the operations of `control` and `open_node`.

Every command works on one data folder. When a node runs there, the command asks it; when none
does, it opens the folder, does the same by itself and closes it.
"""

import faulthandler
import sys
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from phextsync import __version__
from phextsync.boundaries import first
from phextsync.cli import config as config_cli
from phextsync.cli import doctor as doctor_cli
from phextsync.cli import editor as editor_cli
from phextsync.cli import files as files_cli
from phextsync.cli import folder as folder_cli
from phextsync.cli import holding as holding_cli
from phextsync.cli import hosts as hosts_cli
from phextsync.cli import mail as mail_cli
from phextsync.cli import membership as membership_cli
from phextsync.cli import migrate as migrate_cli
from phextsync.cli import names as names_cli
from phextsync.cli import node as node_cli
from phextsync.cli import past as past_cli
from phextsync.cli import placing as placing_cli
from phextsync.cli import quarantine as quarantine_cli
from phextsync.cli import scrolls as scrolls_cli
from phextsync.cli import service as service_cli
from phextsync.cli import status as status_cli
from phextsync.cli import taking_back as taking_back_cli
from phextsync.cli import tasks as tasks_cli
from phextsync.cli.common import (
    DATA,
    PHEXT,
    close_output,
    fail,
    open_streams,
    say,
)
from phextsync.cli.root import Root, UsageError
from phextsync.errors import PhextsyncError

app = typer.Typer(
    cls=Root,
    help="Keep phexts - text in nine dimensions - the same on many machines without a server.",
    pretty_exceptions_enable=False,
)
_runs = (node_cli, service_cli, config_cli, doctor_cli)
_mesh = (status_cli, holding_cli, placing_cli)
_past = (past_cli, taking_back_cli, quarantine_cli)
_scrolls = (scrolls_cli, names_cli, *_past, mail_cli, tasks_cli, files_cli)
_doors = (editor_cli, hosts_cli, migrate_cli)
_parts = (*_scrolls, *_doors, *_runs, *_mesh, folder_cli, membership_cli)
for _part in _parts:
    app.add_typer(_part.app)

_TEXTS: Final = {"text", "words"}  # arguments that may begin with a dash
_USAGE_STATUS: Final = 2
_NO_HOME: Final = "Could not determine home directory."  # what pathlib raises, wherever it expands


def main() -> None:
    """Run the command; an expected failure is one line on standard error and status 1."""
    open_streams()
    faulthandler.enable()  # a damaged page can end the process with a signal: not in silence
    try:
        arguments = sys.argv[1:] or ["--help"]
        status = app(arguments, prog_name="phextsync", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has enough
        close_output()
        status = 0
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):  # typer and rich make 1 of it
            raise
        close_output()
        status = 0
    except (PhextsyncError, OSError) as error:
        fail(_told(error))
    except RuntimeError as error:
        if str(error) != _NO_HOME:
            raise
        fail("no user here has the home that ~ names in a path: write the path whole")
    except UsageError as error:
        fail(_usage(error), _USAGE_STATUS)
    except ExceptionGroup as group:
        expected, others = group.split((PhextsyncError, OSError))
        if expected is None or others is not None:
            raise
        fail(_told(first(expected)))
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    sys.exit(status if isinstance(status, int) else 0)


def _told(error: BaseException) -> str:
    """Say an error in one line, one of the system without its number."""
    if isinstance(error, OSError) and error.strerror:
        names = [name for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([*(str(name) or "''" for name in names), error.strerror])
    return " ".join(str(error).splitlines())


def _usage(error: Exception) -> str:
    """Say what was wrong with the command line, and where to read how it is done."""
    message = " ".join(cast("typer.BadParameter", error).format_message().split())
    message = message.removesuffix(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    names = {parameter.name for parameter in context.command.params}
    if getattr(error, "option_name", None) and names & _TEXTS:
        return f"{message}. A text that begins with a dash stands behind --: {_TEXT_EXAMPLE}"
    stop = "" if message.endswith("?") else "."
    return f"{message}{stop} See `{context.command_path} --help`."


_TEXT_EXAMPLE: Final = "`phextsync set COORDINATE -- -text`"


def _print_version(is_asked: bool) -> None:
    if is_asked:
        say(f"phextsync {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    data: Annotated[
        Path, typer.Option("--data", envvar="PHEXTSYNC_DATA", help="The data folder.")
    ] = DATA,
    phext: Annotated[
        str, typer.Option("--phext", envvar="PHEXTSYNC_PHEXT", help="The phext.")
    ] = PHEXT,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version)
    ] = False,
) -> None:
    """Take the options that may stand before the command; `cli_common.Data` looks them up."""


if __name__ == "__main__":
    main()
