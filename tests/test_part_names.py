"""People call dimensions and numbers by names, which are lines of a scroll."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import phextsync
from phextsync import Coordinate, CoordinateError, PhextsyncError
from phextsync.agents.part_names import (
    NAME_CHARACTERS_MAX,
    NAMES,
    PartNames,
    give_name,
    names_of,
    read_names,
)
from phextsync.agents.plans import carry_out
from phextsync.cli.main import app
from phextsync.gateways.agent import Agent
from sims.processes import make_folder

_AT = Coordinate(1, 2, 3, 1, 1, 1, 1, 1, 1)
_TEXT = """\
memory shelf node
memory 1 people
other 1 things
memory 1.2 anna of the LAN
memory 1.2.3/1.1.1/1.1.1 her notes
no such line
memory 1000 too far
memory 2
memory 1.2 anna
my%20notes%2520 4 four
"""


def test_names_are_read_from_lines_of_which_the_last_counts() -> None:
    names = read_names(_TEXT, "memory")
    assert [*names.rows()] == [
        ("shelf", "node"),
        ("1", "people"),
        ("1.2", "anna"),
        ("1.2.3/1.1.1/1.1.1", "her notes"),
    ]
    assert (names.dimension(0), names.dimension(1)) == ("library", "node")
    assert names.path(_AT) == "people / anna / her notes"
    assert names.path(Coordinate(2, *[1] * 8)) == ""
    assert [*read_names(_TEXT, "my notes%20").rows()] == [("4", "four")]


def test_a_name_is_given_changed_and_taken_away(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with phextsync.open(tmp_path) as node:
        assert carry_out(node, names_of("memory")) == PartNames()
        assert NAMES not in node.phexts()  # asking makes no phext, of which all peers hear
        for what, name in (("1", "people"), ("1.2", "anna"), ("1.2", "bert"), ("shelf", "node")):
            carry_out(node, give_name("my notes", what, name))
        carry_out(node, give_name("memory", "1.2", "other"))
        carry_out(node, give_name("my notes", "1", ""))
        rows = [*carry_out(node, names_of("my notes")).rows()]
        assert rows == [("shelf", "node"), ("1.2", "bert")]
        text = node.phext(NAMES)[Coordinate(*[1] * 9)]
        assert text == "my%20notes 1.2 bert\nmy%20notes shelf node\nmemory 1.2 other\n"


def test_what_others_wrote_into_the_scroll_stays(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with phextsync.open(tmp_path) as node:
        node.phext(NAMES)[Coordinate(*[1] * 9)] = "a remark\nmemory 1 x\nmemory 1 y"
        carry_out(node, give_name("memory", "1", "z"))
        assert node.phext(NAMES)[Coordinate(*[1] * 9)] == "a remark\n\nmemory 1 z\n"


@pytest.mark.parametrize("what", ["", "1000", "room", "1..2", "*", "1.2.3/4.5.6/7.8.9.10"])
def test_what_is_no_part_of_a_coordinate_gets_no_name(what: str, tmp_path: Path) -> None:
    make_folder(tmp_path)
    with (
        phextsync.open(tmp_path) as node,
        pytest.raises(CoordinateError, match="expected one of library, "),
    ):
        carry_out(node, give_name("memory", what, "name"))


@pytest.mark.parametrize("name", [" x", "two\nlines", "x" * (NAME_CHARACTERS_MAX + 1), "\x1b[0m"])
def test_a_name_is_one_line(name: str, tmp_path: Path) -> None:
    make_folder(tmp_path)
    with phextsync.open(tmp_path) as node, pytest.raises(PhextsyncError, match="one line"):
        carry_out(node, give_name("memory", "1", name))


# -- where they are shown ------------------------------------------------------------------


def _out(folder: Path, *arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["--data", str(folder), *arguments])
    assert done.exit_code == status, done.output
    return done.stdout or done.stderr


def test_the_command_line_gives_and_shows_names(tmp_path: Path) -> None:
    make_folder(tmp_path)
    _out(tmp_path, "set", str(_AT), "Anna likes tea.")
    assert _out(tmp_path, "ls") == f"{_AT}         15  Anna likes tea.\n"
    for given in (("1", "people"), ("1.2", "anna"), ("library", "domain")):
        assert _out(tmp_path, "names", *given) == ""
    assert _out(tmp_path, "ls") == f"{_AT}         15  people / anna: Anna likes tea.\n"
    assert json.loads(_out(tmp_path, "ls", "--json"))[0]["names"] == "people / anna"
    assert _out(tmp_path, "names") == "library  domain\n1        people\n1.2      anna\n"
    assert json.loads(_out(tmp_path, "names", "1", "--json")) == [{"what": "1", "name": "people"}]
    assert _out(tmp_path, "names", "1", "--remove") == ""
    assert _out(tmp_path, "names", "1", status=1) == "phextsync: 1 has no name in memory\n"
    assert "expected one dimension" in _out(tmp_path, "names", "--remove", status=1)


def test_a_language_model_is_shown_names(tmp_path: Path) -> None:
    async def listed() -> str:
        async with phextsync.aio.open(tmp_path) as node:
            return (await Agent(node).call("list", {}))[0]

    make_folder(tmp_path)
    _out(tmp_path, "set", str(_AT), "Anna likes tea.")
    _out(tmp_path, "names", "1.2", "anna")
    assert asyncio.run(listed()) == f"{_AT}  15  anna: Anna likes tea."
