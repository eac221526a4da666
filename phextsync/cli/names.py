"""The command about what people call the parts of coordinates."""

from typing import Annotated

import typer

from phextsync.agents.part_names import give_name, names_of
from phextsync.agents.plans import carry_out
from phextsync.cli.common import (
    DATA,
    PHEXT,
    SCROLLS,
    Data,
    Json,
    Phext,
    fail,
    refuse_unused,
    say,
    say_json,
    session,
)

app = typer.Typer()


@app.command(rich_help_panel=SCROLLS)
def names(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="[WHAT]",
            help="A dimension, such as shelf, or first numbers, such as 1.2.",
            show_default="list the names",
        ),
    ] = "",
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="What it is called.", show_default="print it")
    ] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the name away.")] = False,
    data: Data = DATA,
    phext: Phext = PHEXT,
    as_json: Json = False,
) -> None:
    """List, give or take away the names of dimensions and of first numbers.

    `ls`, the page and the tools of agents show them beside coordinates.
    """
    if remove and (name or not what):
        fail("expected one dimension or first numbers with --remove, and no name")
    if name or remove:
        refuse_unused(context, "where a name is given or taken away", "as_json")
    with session(data) as asked:
        if name or remove:
            carry_out(asked, give_name(phext, what, name))
            return
        rows = [*carry_out(asked, names_of(phext)).rows()]
    if what:
        rows = [row for row in rows if row[0] == what]
    if as_json:
        say_json([{"what": shown, "name": called} for shown, called in rows])
        return
    if what and not rows:
        fail(f"{what} has no name in {phext}")
    width = max((len(shown) for shown, _ in rows), default=0)
    for shown, called in rows:
        say(f"{shown:{width}}  {called}")
