"""The group of all commands, which refuses what is empty on the line of any of them.

A variable of a script that is not set makes an empty text. Taken as left out, it would widen what
is done, or who may do it: `--by ''` everybody, `--data ''` the folder in which one stands.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast

import typer
from typer.core import TyperCommand, TyperGroup

from phextsync.cli.common import called, fail

# Of typer itself, or of click, which it is built on: versions differ.
UsageError: Final = cast("type[Exception]", typer.BadParameter.__base__)
_TEXTS: Final = {"text", "result", "why"}  # arguments that may be empty


class Root(TyperGroup):
    """All commands."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read what stands before a command."""
        _refuse_empty(self, ctx, args)
        return super().parse_args(ctx, args)

    def resolve_command(  # type: ignore[override]
        self, ctx: typer.Context, args: list[str]
    ) -> tuple[str | None, TyperCommand | None, list[str]]:
        """Return a command and what stands behind it."""
        name, found, rest = super().resolve_command(ctx, args)
        command, line = found, rest
        while isinstance(command, TyperGroup) and line and line[0] in command.commands:
            command, line = command.commands[line[0]], line[1:]
        if command is not None:
            _refuse_empty(cast("TyperCommand", command), ctx, line)
        return name, cast("TyperCommand | None", found), rest


def _refuse_empty(
    command: TyperCommand | TyperGroup, context: typer.Context, line: Sequence[str]
) -> None:
    """End the command if an option or argument of its line is empty. What is wrong with the line
    besides is told where it is read."""
    with suppress(UsageError):
        parser = command.make_parser(typer.Context(command, parent=context))
        given, _, _ = parser.parse_args([*line])
        for each in command.params:
            found = given.get(str(each.name))
            values = found if isinstance(found, list | tuple) else [found]
            if "" in values and each.name not in _TEXTS:
                what = called(cast("typer.CallbackParam", each))
                fail(f"expected something for {what}, found '': leave it out if nothing is meant")
