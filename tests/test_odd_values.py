"""Whatever stands in an option or an argument of a command, it is taken or refused in one line."""

from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from phextsync.boundaries import first
from phextsync.cli.main import app
from phextsync.errors import CoordinateError, PhextsyncError
from sims.processes import make_folder
from tests.test_data_folders import _GIVEN

_ODD = ["nan", "9" * 40, "\udcff"]
_TEXTS = {"text", "result", "why"}
_RANGES = {
    **{"bind": "at", "migrate git": "at", "hold": "ranges"},
    **dict.fromkeys(("export", "history", "ls", "near", "place", "quarantine"), "range_"),
    **dict.fromkeys(("search", "undelete", "undo", "where"), "range_"),
}
_COMMANDS = {
    **{name: given[0] for name, given in _GIVEN.items() if " --" not in name},
    "issue": ["issue", "here/old"],
    "migrate syncthing": ["migrate", "syncthing", "here/old"],
}


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, part in getattr(command, "commands", {}).items():
        yield from _commands(part, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


_PARTS = dict(_commands(typer.main.get_command(app)))


def _lines(name: str, value: str) -> Iterator[tuple[str, list[str]]]:
    """Iterate over the lines of a command in which one option or argument has a value."""
    path, usual = name.split(), _COMMANDS[name]
    behind = 0
    for each in _PARTS[name].params:
        if each.param_type_name == "argument":
            at = len(path) + behind
            arguments = [word for word in usual if not word.startswith("--")][len(path) : at]
            arguments += ["x"] * (behind - len(arguments))
            yield each.name, [*path, "--", *arguments, value]
            behind += 1
        elif not each.is_flag and each.name != "help":
            yield each.name, [*usual, f"{max(each.opts, key=len)}={value}"]


def _run(folder: Path, line: list[str]) -> Result:
    given = [word.replace("here/", f"{folder.parent}/") for word in line]
    return CliRunner().invoke(app, ["--data", str(folder), *given], input="x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return make_folder(tmp_path / "data")


def test_every_command_is_tried() -> None:
    assert _PARTS.keys() <= _COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(_PARTS))
def test_nothing_that_is_empty_is_taken_for_left_out(name: str, folder: Path) -> None:
    before = sorted(folder.parent.rglob("*"))
    for parameter, line in _lines(name, ""):
        if parameter not in _TEXTS:
            result = _run(folder, line)
            assert result.exit_code == 1, line
            assert result.stderr.startswith("phextsync: expected something for "), line
            assert result.stderr.count("\n") == 1
    assert sorted(folder.parent.rglob("*")) == before


def test_an_empty_data_folder_before_the_command_is_none(folder: Path) -> None:
    result = CliRunner().invoke(app, ["--data", "", "ls"])
    assert result.stderr.startswith("phextsync: expected something for --data, found ''")


async def _nothing(*_: object) -> None:
    """Serve nobody, and end."""


@pytest.mark.parametrize("name", sorted(_PARTS))
def test_odd_values_are_taken_or_refused_in_a_line(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phextsync.cli.node._serve", _nothing)  # else `up` and `mcp` do not end
    monkeypatch.setattr("asyncio.run", Coroutine.close)
    monkeypatch.setattr(
        "phextsync.cli.node.log_to", lambda *_: None
    )  # which would keep a file open
    for value in _ODD:
        for _, line in _lines(name, value):
            result = _run(folder, line)
            error = result.exception
            if error is not None and not isinstance(error, SystemExit):
                cause = first(error) if isinstance(error, ExceptionGroup) else error
                assert isinstance(cause, PhextsyncError | OSError), (line, cause)
                assert "\n" not in str(cause), line
            elif result.exit_code == 1:
                assert "phextsync: " in result.stderr, line


@pytest.mark.parametrize("name", sorted(_RANGES))
def test_a_range_of_two_variables_that_are_not_set_is_not_everything(
    name: str, folder: Path
) -> None:
    (line,) = (line for parameter, line in _lines(name, "..") if parameter == _RANGES[name])
    needed = {"history": ["--keep=1d"], "place": ["--everywhere"]}.get(name, [])
    result = _run(folder, [*line[: len(name.split())], *needed, *line[len(name.split()) :]])
    assert isinstance(result.exception, CoordinateError), line
    hint = "" if "prefix" in str(result.exception) else "; '*' is everything"
    assert str(result.exception).endswith(f"found '..'{hint}")


def test_each_argument_that_is_a_range_is_tried_without_ends() -> None:
    named = {
        name
        for name, part in _PARTS.items()
        for each in part.params
        if each.name in ("range_", "ranges")
    }
    assert named - {"watch"} <= _RANGES.keys()  # which has to have a node first


@pytest.mark.parametrize("option", ["--read", "--write"])
def test_no_certificate_is_for_everything_by_variables_that_are_not_set(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder, authority = tmp_path / "boss", f"--authority={tmp_path / 'authority'}"
    assert _run(folder, ["init", "--administered", authority]).exit_code == 0
    request = f"{tmp_path / 'request'}"
    assert _run(tmp_path / "new", ["request", f"--out={request}"]).exit_code == 0
    for line in (["invite"], ["issue", request]):
        result = _run(folder, [*line, authority, f"{option}=.."])
        assert isinstance(result.exception, CoordinateError), line
