"""What `config.toml` of a data folder says about how its node runs.

Its keys are the options of `up`, by their names; what is given on the command line or in the
environment counts before it. What commands set is kept elsewhere, and is no key.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from phextsync.cli.common import existing_folder, given_before
from phextsync.discovery import check_host, parse_address
from phextsync.errors import PhextsyncError, StoreError
from phextsync.gateways.guard import Guard
from phextsync.gateways.hooks import Target
from phextsync.plain_files import read_file
from phextsync.plain_values import read_toml

FILE_NAME: Final = "config.toml"
NODE_KEYS: Final = frozenset({"host", "port", "peer", "mdns"})
"""The keys that are about any node, whichever command runs it."""
ELSEWHERE: Final = {
    "bindings": ("bindings.json", "`phextsync bind`, listed by `phextsync bindings`"),
    "holdings": ("the store", "`phextsync hold`, which lists them too"),
    "history": ("the store", "`phextsync history`, which shows it too"),
}
"""What is kept in another place and set by commands: where, and how."""

_BYTES_MAX: Final = 16384
_NAMES: Final = {
    bool: "true or false",
    int: "a whole number",
    str: "a text",
    list: "a list of texts",
    dict: "a table",
}

Value: TypeAlias = bool | int | str | list[str]
_Report: TypeAlias = Callable[[str], StoreError]


@dataclass(frozen=True, slots=True)
class Key:
    """What a key of the file takes; `bounds` are those of a number, `check` raises PhextsyncError
    for a text that is not what is meant."""

    kind: type[bool] | type[int] | type[str] | type[list[str]]
    bounds: tuple[int, int] | None = None
    is_path: bool = False
    check: Callable[[str], object] | None = None


def _check_served(text: str) -> None:
    if text:  # a server at "" is none
        parse_address(text)


def _check_listened(text: str) -> None:
    if text:  # "" is all addresses
        check_host(text)


_FLAG: Final = Key(bool)
_PATH: Final = Key(str, is_path=True)
KEYS: Final = {
    "host": Key(str, check=_check_listened),
    "port": Key(int, bounds=(0, 65535)),
    "peer": Key(list, check=parse_address),
    "mdns": _FLAG,
    "http": Key(str, check=_check_served),
    "web": Key(str, check=_check_served),
    "web-cert": _PATH,
    "web-key": _PATH,
    "hook": Key(list, check=partial(Target, secret="unseen")),
    "hook-secret-file": _PATH,
    "http-token-file": _PATH,
    "allow-host": Key(list, check=lambda host: Guard(allowed_hosts=[host])),
    "index": _FLAG,
    "data-in-memory": _FLAG,
    "log": _PATH,
    "quiet": _FLAG,
    "verbose": _FLAG,
}
"""What may stand in the file: options of `up`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a file says, by its keys; paths are whole."""

    path: Path
    values: Mapping[str, Value]
    text: str = ""

    def line_of(self, key: str) -> int:
        """Return the number of the line where a key begins, from 1."""
        return _line_of(self.text, key)


def read_settings(folder: Path) -> Settings:
    """Return what the file of a data folder says, nothing when there is none. StoreError names the
    line that has no key of `KEYS`, or not what the key takes."""
    path = folder / FILE_NAME
    try:
        data = read_file(path, _BYTES_MAX)
    except FileNotFoundError:
        return Settings(path, {})
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    text, table = _parsed(path, data)
    values: dict[str, Value] = {}
    for name, value in table.items():
        report = partial(_told, path, text, name)
        values[name] = _checked(folder, name, value, _known(name, report), report)
    return Settings(path, values, text)


def argument_of(key: str) -> str:
    """Return what commands call what a key sets."""
    return key.replace("-", "_")


# -- what a file may say -------------------------------------------------------------------


def _parsed(path: Path, data: bytes) -> tuple[str, dict[str, object]]:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")  # as files of Windows begin and end
        return text, read_toml(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StoreError(f"{path}, line {line}: expected UTF-8, found other bytes") from error
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        number = re.match(r"line (\d+)", place)
        line = int(number[1]) if number else _line_of(text)  # of what has no end
        raise StoreError(f"{path}, line {line}: expected TOML: {what}") from error
    except ValueError as error:  # a number of 4,300 digits; a thousand brackets
        raise StoreError(f"{path}: expected TOML: {error}") from error


def _known(name: str, report: _Report) -> Key:
    if name in ELSEWHERE:
        place, how = ELSEWHERE[name]
        raise report(f"{name} are not set here but kept in {place}: {how}")
    if name == "http-token":
        raise report("expected http-token-file, which names a file with the token, found the token")
    if name not in KEYS:
        near = get_close_matches(name, KEYS, 1)
        hint = f"did you mean {near[0]}?" if near else "see `phextsync up --help`"
        raise report(f"expected an option of `phextsync up`, found {name!r:.80}: {hint}")
    return KEYS[name]


def _checked(folder: Path, name: str, value: object, key: Key, report: _Report) -> Value:
    """Return a value as the command takes it."""
    if type(value) is not key.kind:
        raise report(f"expected {_NAMES[key.kind]} for {name}, found {_name_of(value)}")
    if isinstance(value, list) and (others := [each for each in value if type(each) is not str]):
        raise report(f"expected a list of texts for {name}, found {_name_of(others[0])} in it")
    if isinstance(value, int) and key.bounds is not None:
        least, most = key.bounds
        if not least <= value <= most:
            raise report(f"expected {least} to {most} for {name}, found {value}")
    if key.check is not None:
        _check_texts(name, key.check, value if isinstance(value, list) else [value], report)
    return _path(folder, name, value, report) if isinstance(value, str) and key.is_path else value


def _path(folder: Path, name: str, value: str, report: _Report) -> str:
    if not value or "\0" in value:
        raise report(f"expected the path of a file for {name}, found {value!r:.80}")
    try:
        return str(folder.absolute() / Path(value).expanduser())
    except RuntimeError as error:  # of a user that there is not
        raise report(f"expected the path of a file for {name}, found no home for it") from error


def _check_texts(
    name: str, check: Callable[[str], object], texts: Iterable[object], report: _Report
) -> None:
    for text in texts:
        try:
            check(str(text))
        except PhextsyncError as error:
            raise report(f"{name}: {error}") from error


def _name_of(value: object) -> str:
    if isinstance(value, date | time):  # a date and time is a date too
        return f"the date or time {value}"
    if isinstance(value, list):
        return "a list"
    return _NAMES.get(type(value), f"{value!r:.40}")


def _told(path: Path, text: str, name: str, what: str) -> StoreError:
    return StoreError(f"{path}, line {_line_of(text, name)}: {what}")


def _line_of(text: str, name: str | None = None) -> int:
    """Return the line where a key begins, or else what is no TOML: the one after the longest
    beginning that is TOML without it."""
    lines = text.split("\n")
    before = 0
    for number in range(1, len(lines) + 1):
        try:
            found = read_toml("\n".join(lines[:number]))
        except ValueError:
            continue  # in the midst of a value
        if name in found:
            break
        before = number
    return before + 1


# -- commands that follow it ---------------------------------------------------------------


def _follow(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    """Let the file say what is not given on the command line. Eager: before other options are
    read."""
    data = Path(given_before(context, parameter, value))
    if context.resilient_parsing:  # completion
        return data
    settings = read_settings(existing_folder(data))
    ours = KEYS if context.info_name == "up" else NODE_KEYS
    context.default_map = {
        argument_of(name): value for name, value in settings.values.items() if name in ours
    }
    return data


Configured = Annotated[
    Path, typer.Option("--data", help="The data folder.", callback=_follow, is_eager=True)
]
"""The data folder of a command that runs its node as `config.toml` says."""
