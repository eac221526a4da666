"""The commands about boxes and messages."""

from typing import Annotated, Final

import typer

from phextsync.agents.mail import Mail
from phextsync.agents.mail_layout import MAIL as MAIL_PHEXT
from phextsync.agents.mail_layout import Message
from phextsync.cli.common import (
    DATA,
    Data,
    Json,
    counted,
    say,
    say_json,
    say_text,
    session,
    text_or_input,
    warn,
)
from phextsync.index import Coordinate

app = typer.Typer()

MAIL: Final = "Mail"

_Box = Annotated[
    str, typer.Option("--box", help="The box.", show_default="the one with the node's name")
]
# That of scrolls, which may be set for all commands, is another one.
_Phext = Annotated[str, typer.Option("--phext", help="The phext of the boxes.")]
_Places = Annotated[
    list[str], typer.Argument(metavar="COORDINATE...", help="As `inbox` lists them.")
]


@app.command(rich_help_panel=MAIL)
def box(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Make this one.", show_default="list them")
    ] = "",
    role: Annotated[
        list[str] | None, typer.Option("--role", help="It gets what is sent to role:ROLE, too.")
    ] = None,
    data: Data = DATA,
    phext: _Phext = MAIL_PHEXT,
    as_json: Json = False,
) -> None:
    """List the boxes with their ranges and roles, or make one, or give one more roles."""
    with session(data) as asked:
        mail = Mail(asked, name, phext=phext)
        boxes = [mail.make_box(*role or ())] if name or role else mail.boxes()
    if as_json:
        say_json([{"name": b.name, "range": b.range, "roles": [*b.roles]} for b in boxes])
        return
    for each in boxes:
        say(" ".join([each.name, each.range, *each.roles]))


@app.command(rich_help_panel=MAIL)
def send(
    to: Annotated[str, typer.Argument(metavar="TO", help="A box, role:ROLE, or all.")],
    text: Annotated[str, typer.Argument(help="What to say; '-' reads it from standard input.")],
    data: Data = DATA,
    phext: _Phext = MAIL_PHEXT,
    box: _Box = "",
    expires: Annotated[
        float | None,
        typer.Option("--expires", metavar="SECONDS", help="Nobody gets it later than that."),
    ] = None,
) -> None:
    """Send TEXT to a box, and print where the message stands."""
    text = text_or_input(text)
    with session(data) as asked:
        message = Mail(asked, box, phext=phext).send(to, text, expires_after_s=expires)
    say(str(message.coordinate))


@app.command(rich_help_panel=MAIL)
def inbox(
    data: Data = DATA, phext: _Phext = MAIL_PHEXT, box: _Box = "", as_json: Json = False
) -> None:
    """List what nobody acknowledged for a box: coordinate, time, sender, first line."""
    with session(data) as asked:
        found = Mail(asked, box, phext=phext).inbox()
    if as_json:
        say_json([_row(message) for message in found.messages])
    else:
        for message in found.messages:
            say(message.line())
    if found.waiting:
        what = counted(len(found.waiting), "message")
        warn(f"{what} will be shown when what the sender sent before is here")


def _row(message: Message) -> dict[str, object]:
    return {
        "coordinate": str(message.coordinate),
        "from": message.sender,
        "to": message.to,
        "sent_ms": message.sent_ms,
        "expires_ms": message.expires_ms,
        "text": message.text,
    }


@app.command(rich_help_panel=MAIL)
def read(
    coordinate: Annotated[str, typer.Argument(metavar="COORDINATE", help="As in `inbox`.")],
    data: Data = DATA,
    phext: _Phext = MAIL_PHEXT,
    as_json: Json = False,
) -> None:
    """Print the text of a message."""
    with session(data) as asked:
        message = Mail(asked, phext=phext).read(Coordinate.parse(coordinate))
    if as_json:
        say_json(_row(message))
    else:
        say_text(message.text)


@app.command(rich_help_panel=MAIL)
def ack(
    coordinates: _Places, data: Data = DATA, phext: _Phext = MAIL_PHEXT, box: _Box = ""
) -> None:
    """Acknowledge messages, and print those that nobody had acknowledged for the box before."""
    places = [Coordinate.parse(each) for each in coordinates]
    with session(data) as asked:
        done = Mail(asked, box, phext=phext).ack(*places)
    for at in done:
        say(str(at))
