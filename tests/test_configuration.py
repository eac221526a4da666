"""config.toml has the options of `up`, says where it is wrong, and gives way to what is given."""

import inspect
import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner, Result

from phextsync.cli import node as node_cli
from phextsync.cli.main import app
from phextsync.cli.settings import KEYS, NODE_KEYS, Key, argument_of, read_settings
from phextsync.errors import PhextsyncError, StoreError
from sims.processes import Process, make_folder

_PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


def _write(folder: Path, *lines: str) -> Path:
    path = folder / "config.toml"
    path.write_text("\n".join(lines))
    return path


def _run(folder: Path, *words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["--data", str(folder), *words], env=environment)


def _settings(folder: Path, *options: str, **environment: str) -> dict[str, dict[str, Any]]:
    result = _run(folder, "config", "--json", *options, **environment)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout)["settings"])


def _key(parameter: inspect.Parameter) -> Key:
    """Return what a key takes that an argument of `up` stands for."""
    kind, option = get_args(parameter.annotation)[:2]
    kinds = {*(get_args(kind) or (kind,))} - {type(None)}
    if kind == list[str] | None:
        return Key(list)
    if Path in kinds:
        return Key(str, is_path=True)
    (kind,) = kinds
    return Key(kind, None if option.min is None else (option.min, option.max))


@pytest.mark.parametrize("command", [node_cli.up, node_cli.mcp])
def test_the_keys_are_the_options_that_a_node_runs_with(command: object) -> None:
    given = inspect.signature(command).parameters  # type: ignore[arg-type]
    known = KEYS if command is node_cli.up else NODE_KEYS
    others = {"data", "context"}
    options = {name: _key(parameter) for name, parameter in given.items() if name not in others}
    if command is node_cli.up:
        assert options.keys() - {"http_token"} == {argument_of(name) for name in known}
    for name in known:
        key, option = KEYS[name], options[argument_of(name)]
        assert (key.kind, key.bounds, key.is_path) == (option.kind, option.bounds, option.is_path)


def test_the_page_has_each_key() -> None:
    table = _PAGE.read_text().partition("| keys | take |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == KEYS.keys()


def test_the_example_of_the_page_is_one(folder: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    _write(folder, example)
    values = read_settings(folder).values
    assert values["log"] == str(folder / "phextsync.log")
    assert values["peer"] == ["desk.example.net", "[fd00::7]:7439"]


def test_without_a_file_all_is_as_it_is_by_default(folder: Path) -> None:
    assert {each["source"] for each in _settings(folder).values()} == {"default"}


def test_what_holds_is_shown_with_what_says_so(folder: Path) -> None:
    secret = "/unseen/path"
    _write(
        folder,
        "peer = [",
        '  "desk",  # the one at home',
        "]",
        "mdns = false",
        'http = "localhost"',
        f'hook = ["https://a.example{secret}"]',
        'http-token-file = "~/token"',
    )
    found = _settings(folder, "--http", "127.0.0.1:1", PHEXTSYNC_HTTP_TOKEN="unseen")
    assert found["peer"] == {"value": ["desk"], "source": "file", "line": 1}
    assert found["mdns"] == {"value": False, "source": "file", "line": 4}
    assert found["http"] == {"value": "127.0.0.1:1", "source": "option", "line": None}
    assert found["http-token-file"]["value"] == os.path.expanduser("~/token")
    assert found["http-token"] == {"value": True, "source": "environment", "line": None}
    assert found["index"] == {"value": True, "source": "default", "line": None}
    assert found["hook"]["value"] == ["https://a.example"]
    shown = _run(folder, "config").stdout
    assert "config.toml, line 4" in shown
    assert "phextsync bindings" in shown
    assert "unseen" not in shown


def test_a_list_that_is_given_takes_the_place_of_the_files(folder: Path) -> None:
    _write(folder, 'peer = ["desk"]')
    found = _settings(folder, "--peer", "lap", "--peer", "shed")
    assert found["peer"]["value"] == ["lap", "shed"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("peers = ['a']", "did you mean peer?"),
        ("wrong = 1", "expected an option of `phextsync up`, found 'wrong'"),
        ("[up]\nport = 1", "found 'up'"),
        ("port = 'x'", "expected a whole number for port, found a text"),
        ("port = true", "expected a whole number for port, found true or false"),
        ("port = 70000", "expected 0 to 65535 for port, found 70000"),
        ("port = 1.5", "expected a whole number for port, found 1.5"),
        ("port = 2026-01-05T10:00:00", "for port, found the date or time 2026-01-05 10:00:00"),
        ("peer = [10:00:00]", "a list of texts for peer, found the date or time 10:00:00 in it"),
        ("peer = [['a']]", "expected a list of texts for peer, found a list in it"),
        ('peer = ["a\\u0000b"]', "peer: expected host, host:port or [v6]:port"),
        ("host = 'a b'", "host: expected the name or the address of a host, found 'a b'"),
        ('host = "\\u0000"', "host: expected the name or the address of a host"),
        ("host = 'a:1'", "host: expected the name or the address of a host, found 'a:1'"),
        ("mdns = 1", "expected true or false for mdns, found a whole number"),
        ("peer = 'a'", "expected a list of texts for peer, found a text"),
        ("peer = [\n'a',\n3]", "expected a list of texts for peer, found a whole number in it"),
        ("peer = ['a:b']", "peer: expected"),
        ("web = 'a b'", "web: expected"),
        ("web.cert = 'x'", "expected a text for web, found a table"),
        ("http-token = 'x'", "expected http-token-file"),
        ("bindings = []", "kept in bindings.json: `phextsync bind`"),
        ("holdings = []", "`phextsync hold`"),
        ("port =", "expected TOML"),
        ("log = 'a\n", "expected TOML"),
        ("port = 1\nport = 1", "expected TOML"),
        ("log = '\udcff'", "expected UTF-8"),
        ("log = '~no_such_user_here/log'", "found no home for it"),
        ("log = ''", "expected the path of a file for log, found ''"),
        ('log = "a\\u0000b"', "expected the path of a file for log"),
        ("peer = ['']", "peer: expected"),
        ("hook = ['http://a/', 'build']", "hook: expected an address of http or https"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_number(wrong: str, told: str, folder: Path) -> None:
    text = f"# first\n\nallow-host = [\n'a',\n]\n{wrong}\n"
    (folder / "config.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError) as raised:
        read_settings(folder)
    line = 7 if wrong.startswith("port = 1\n") else 6
    message = str(raised.value)
    assert message.startswith(f"{folder / 'config.toml'}, line {line}: "), message
    assert told in message
    assert "\n" not in message


def test_ends_of_lines_of_windows_count_once(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b"port = 1\r\n\r\nwrong = 1\r\n")
    with pytest.raises(StoreError, match="line 3"):
        read_settings(folder)


def test_a_mark_of_utf_8_at_the_beginning_is_none_of_the_keys(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b"\xef\xbb\xbfport = 1\r\n")
    assert read_settings(folder).values == {"port": 1}


@pytest.mark.parametrize("words", [["up"], ["mcp"], ["config"]], ids=" ".join)
def test_no_command_runs_on_by_half_of_a_file(words: list[str], folder: Path) -> None:
    _write(folder, "port = 0", "wrong = 1")
    result = _run(folder, *words)
    assert isinstance(result.exception, PhextsyncError)
    assert "line 2" in str(result.exception)
    assert not (folder / "store").exists()


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "config.toml").mkdir()
    with pytest.raises(
        StoreError,
        match=r"cannot read .*config.toml: expected a file, found a pipe, a device or a folder",
    ):
        read_settings(folder)


def test_a_file_without_an_end_is_not_read_to_it(folder: Path) -> None:
    (folder / "config.toml").symlink_to("/dev/zero")
    with pytest.raises(StoreError, match="expected a file, found a pipe, a device"):
        read_settings(folder)


def test_options_that_there_are_not_are_refused_as_by_up(folder: Path) -> None:
    result = _run(folder, "config", "--wrong")
    assert result.exit_code != 0
    assert "--wrong" in str(result.exception or result.output) + result.output


def test_completion_reads_no_file() -> None:
    root = typer.main.get_command(app)
    context = root.make_context("phextsync", ["up", "--data", "/none"], resilient_parsing=True)
    assert context.resilient_parsing


@pytest.mark.real
def test_a_node_without_options_runs_as_the_file_says(folder: Path) -> None:
    _write(folder, 'host = "127.0.0.1"', "port = 0", "mdns = false", 'log = "its.log"')
    process = Process(folder, (), ())
    try:
        process.start()
        status = process.status()
    finally:
        process.stop()
    assert status["host"] == "127.0.0.1"
    assert (folder / "its.log").exists()
