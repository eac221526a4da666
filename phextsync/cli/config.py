"""The command that shows how a node is to run, and who says so."""

import json
from dataclasses import asdict, dataclass
from typing import Final

import typer

from phextsync.cli.common import DATA, NODE, Data, Json, existing_folder, say_columns, say_json
from phextsync.cli.settings import (
    ELSEWHERE,
    FILE_NAME,
    KEYS,
    Settings,
    argument_of,
    read_settings,
)
from phextsync.gateways.hooks import Target

app = typer.Typer()

_FROM: Final = {
    "COMMANDLINE": "option",
    "ENVIRONMENT": "environment",
    "DEFAULT_MAP": "file",
}


@dataclass(frozen=True, slots=True)
class _Shown:
    """A setting: `source` is `default`, `file`, `option` or `environment`."""

    value: object
    source: str
    line: int | None = None


@app.command(
    rich_help_panel=NODE,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def config(context: typer.Context, data: Data = DATA, as_json: Json = False) -> None:
    """Show how `up` runs the node, and what says so: its options, config.toml, or nothing.

    Takes the options of `up` too, and shows what it would make of them.
    """
    folder = existing_folder(data)
    root = context.find_root()
    up = root.command.get_command(root, "up")  # type: ignore[attr-defined]
    settings = read_settings(folder)
    given = up.make_context("up", ["--data", str(folder), *context.args], parent=root)
    defaults = {each.name: getattr(each, "show_default", None) for each in up.params}
    shown = {name: _shown(given, name, settings) for name in (*KEYS, "http-token")}
    if as_json:
        say_json(
            {
                "file": str(settings.path),
                "settings": {name: asdict(each) for name, each in shown.items()},
                "elsewhere": {name: {"kept_in": place} for name, (place, _) in ELSEWHERE.items()},
            }
        )
        return
    rows = [
        (name, _text(each, defaults[argument_of(name)]), _source(each))
        for name, each in shown.items()
    ]
    say_columns([*rows, *((name, f"see {how}", place) for name, (place, how) in ELSEWHERE.items())])


def _shown(given: typer.Context, name: str, settings: Settings) -> _Shown:
    source = given.get_parameter_source(argument_of(name))
    whose = _FROM.get("" if source is None else source.name, "default")
    value = given.params[argument_of(name)]
    if name == "http-token":
        value = bool(value)  # a secret is not shown
    elif name == "hook":
        value = [
            Target(url, "unseen").place for url in value or ()
        ]  # the rest of an address may be one
    elif isinstance(value, tuple | list):
        value = [*map(str, value)]
    elif not isinstance(value, bool | int):
        value = str(value or "") or None
    return _Shown(value, whose, settings.line_of(name) if whose == "file" else None)


def _text(shown: _Shown, default: object) -> str:
    if shown.value in (None, []):
        return f"({default})" if isinstance(default, str) else "(none)"
    return json.dumps(shown.value, ensure_ascii=False)


def _source(shown: _Shown) -> str:
    return shown.source if shown.line is None else f"{FILE_NAME}, line {shown.line}"
