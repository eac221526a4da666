"""The commands about tasks, which one and only one takes."""

from typing import Annotated, Final, NoReturn

import typer

from phextsync.agents.claims import Verdict
from phextsync.agents.task_layout import TASKS
from phextsync.agents.task_plans import Claim, ListedTask
from phextsync.agents.tasks import WAIT_S, Tasks
from phextsync.cli.common import (
    DATA,
    Data,
    Json,
    fail,
    say,
    say_json,
    say_text,
    session,
    text_or_input,
    warn,
)
from phextsync.cli.mail import MAIL
from phextsync.cli.writers import read_time_ms
from phextsync.errors import NotFirmError, OvertakenError
from phextsync.index import Coordinate

app = typer.Typer()
task_app = typer.Typer(help="Tasks, which one and only one takes.", no_args_is_help=True)
app.add_typer(task_app, name="task", rich_help_panel=MAIL)

NOT_FIRM_STATUS: Final = 3
LOST_STATUS: Final = 4

_Phext = Annotated[str, typer.Option("--phext", help="The phext of the tasks.")]
_At = Annotated[str, typer.Argument(metavar="COORDINATE", help="As `task list` shows it.")]
_Claim = Annotated[str, typer.Argument(metavar="CLAIM", help="As `task claim` printed it.")]
_Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait so long for votes.")
]
_Voters = Annotated[
    list[str] | None,
    typer.Option("--voter", metavar="NODE", help="One that votes on it; may be repeated."),
]
_Term = Annotated[
    int | None,
    typer.Option("--term", metavar="SECONDS", help="A claim that says nothing holds so long."),
]


@task_app.command()
def voters(
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NODE]...", help="Name these.", show_default="show them"),
    ] = None,
    term: _Term = None,
    data: Data = DATA,
    phext: _Phext = TASKS,
    as_json: Json = False,
) -> None:
    """Show which nodes vote on new tasks, and how long a claim holds, or name them.

    An odd number is best: any more than half of them can decide. A node votes while
    `phextsync up` runs there, in each phext whose first scroll names it.
    """
    with session(data) as asked:
        named = Tasks(asked, phext=phext).voters(*nodes or (), term_s=term)
    if as_json:
        say_json(None if named is None else {"term_s": named.term_s, "voters": {**named.voters}})
    elif named is None:
        warn("no node votes on new tasks; `phextsync task voters NODE...` names them")
    else:
        say(*sorted(f"{name} ({id_[:8]})" for id_, name in named.voters.items()))
        say(f"a claim holds for {named.term_s} s")


@task_app.command()
def add(
    text: Annotated[str, typer.Argument(help="What to do; '-' reads it from standard input.")],
    voter: _Voters = None,
    term: _Term = None,
    data: Data = DATA,
    phext: _Phext = TASKS,
) -> None:
    """Add a task, and print where it stands."""
    text = text_or_input(text)
    with session(data) as asked:
        task = Tasks(asked, phext=phext).add(text, voters=voter or (), term_s=term)
    say(str(task.coordinate))


@task_app.command(name="list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Also those that are done.")] = False,
    data: Data = DATA,
    phext: _Phext = TASKS,
    as_json: Json = False,
) -> None:
    """List tasks, the oldest first: coordinate, how it stands, first line."""
    with session(data) as asked:
        found = Tasks(asked, phext=phext).tasks()
    shown = [each for each in found if every or not each.standing.is_final]
    if as_json:
        say_json([_row(each) for each in shown])
    else:
        say(*(each.line() for each in shown))


def _row(listed: ListedTask) -> dict[str, object]:
    task, now = listed.task, listed.standing
    return {
        "coordinate": str(task.coordinate),
        "text": task.text,
        "added": task.added,
        "added_by": task.added_by,
        "voters": {**task.electorate.voters},
        "term_s": task.electorate.term_s,
        "state": now.kind.value,
        "fence": now.fence,
        "claim": f"{now.fence}:{now.claim}" if now.claim else None,
        "result": now.what,
        "is_final": now.is_final,
    }


@task_app.command()
def show(coordinate: _At, data: Data = DATA, phext: _Phext = TASKS, as_json: Json = False) -> None:
    """Print what there is to do, and, if anything did, what came of it."""
    with session(data) as asked:
        found = Tasks(asked, phext=phext).read(Coordinate.parse(coordinate))
    if as_json:
        say_json(_row(found))
        return
    for text in filter(None, (found.task.text, found.standing.what)):
        say_text(text if text.endswith("\n") else f"{text}\n")


@task_app.command()
def claim(
    coordinate: _At,
    worker: Annotated[
        str, typer.Option("--worker", help="Your name.", show_default="the node's")
    ] = "",
    wait: _Wait = WAIT_S,
    data: Data = DATA,
    phext: _Phext = TASKS,
) -> None:
    """Claim a task, and print the claim. Status 0: it is firm, the task is yours alone; 3: it is
    not, as too few voters are heard, and may become so; 4: another has the task, or nobody may.
    """
    at = Coordinate.parse(coordinate)
    with session(data) as asked:
        found = Tasks(asked, worker, phext=phext).claim(at, wait_s=wait)
    if found.verdict is Verdict.LOST:
        fail(f"{at} is not to be had: `phextsync task list --all` shows who has it", LOST_STATUS)
    say(str(found))
    if not found.is_firm:
        warn(
            "not firm: too few voters voted for it so far (one votes while `phextsync up` runs "
            "there); `phextsync task keep` asks again"
        )
        raise typer.Exit(NOT_FIRM_STATUS)


@task_app.command()
def keep(
    coordinate: _At,
    claim: _Claim,
    wait: _Wait = WAIT_S,
    data: Data = DATA,
    phext: _Phext = TASKS,
) -> None:
    """Say that you are still at work on a task, so that its term begins again. The status is that
    of `claim`."""
    at = Coordinate.parse(coordinate)
    with session(data) as asked:
        try:
            Tasks(asked, phext=phext).keep(at, claim, wait_s=wait)
        except (NotFirmError, OvertakenError) as error:
            _refuse(error)


@task_app.command()
def done(
    coordinate: _At,
    claim: _Claim,
    result: Annotated[
        str, typer.Argument(help="What came of it; '-' reads it from standard input.")
    ] = "",
    wait: _Wait = WAIT_S,
    data: Data = DATA,
    phext: _Phext = TASKS,
) -> None:
    """Say that a task is done. Status 0: that is final; 3: too few voters have heard of it so far;
    4: the claim was overtaken, and it does not count."""
    at, result = Coordinate.parse(coordinate), text_or_input(result)
    with session(data) as asked:
        try:
            found: Claim = Tasks(asked, phext=phext).done(at, claim, result, wait_s=wait)
        except (NotFirmError, OvertakenError) as error:
            _refuse(error)
    if not found.is_firm:
        fail("not final: too few voters have heard of it so far; say it again", NOT_FIRM_STATUS)


@task_app.command(name="fail")
def fail_(
    coordinate: _At,
    claim: _Claim,
    why: Annotated[str, typer.Argument(help="Why; '-' reads it from standard input.")] = "",
    wait: _Wait = WAIT_S,
    data: Data = DATA,
    phext: _Phext = TASKS,
) -> None:
    """Say that a task failed: nobody gets it until `retry`. The status is that of `claim`."""
    at, why = Coordinate.parse(coordinate), text_or_input(why)
    with session(data) as asked:
        try:
            Tasks(asked, phext=phext).fail(at, claim, why, wait_s=wait)
        except (NotFirmError, OvertakenError) as error:
            _refuse(error)


@task_app.command()
def retry(coordinate: _At, data: Data = DATA, phext: _Phext = TASKS) -> None:
    """Let a task that failed be claimed again."""
    with session(data) as asked:
        Tasks(asked, phext=phext).retry(Coordinate.parse(coordinate))


@task_app.command()
def clear(
    before: Annotated[
        str, typer.Option(help="Added before then, such as '2026-02-28 09:30', or 30d ago.")
    ],
    data: Data = DATA,
    phext: _Phext = TASKS,
) -> None:
    """Remove tasks that are done for good, and list them."""
    before_ms = read_time_ms(before)
    with session(data) as asked:
        over = Tasks(asked, phext=phext).clear(before_ms)
    say(*(each.line() for each in over))


def _refuse(error: NotFirmError | OvertakenError) -> NoReturn:
    fail(str(error), NOT_FIRM_STATUS if isinstance(error, NotFirmError) else LOST_STATUS)
